"""NCF: its network, and fold-in as a minimiser; what it shares with LightGCN is in test_graph."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.optimize import minimize

from recmia import Interactions
from recmia.recommenders.neural import NCF, _logits, _start
from recmia.settings import NCFSettings

QUICK = NCFSettings(factors=4, layers=2, epochs=15, learning_rate=0.02, batch_size=256, regularisation=0.01)


@pytest.fixture(scope="module")
def model(small: Interactions) -> NCF:
    return NCF(QUICK, device="cpu").fit(small.restrict(np.arange(60)), rng=np.random.default_rng(0))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_logit_is_the_papers(layers: int, rng: np.random.Generator) -> None:
    """Eq. 12 in numpy, pair by pair."""
    settings = NCFSettings(factors=3, layers=layers, init_std=0.5)
    users, items, *network = _start(settings, 5, 7, rng)
    pairs = rng.integers(0, [[5], [7]], (2, 9))
    p, q = torch.from_numpy(users[pairs[0]]), torch.from_numpy(items[pairs[1]])
    got = _logits(p, q, [torch.from_numpy(part) for part in network], 3)
    weights, constant, *tower = network
    assert len(tower) == 2 * layers
    assert [wide for wide, _ in pairwise(matrix.shape[1] for matrix in tower[::2])] == [
        3 * 2**n for n in range(layers, 1, -1)
    ]
    for z, u, i in zip(got, *pairs, strict=True):
        hidden = np.concatenate([users[u, 3:], items[i, 3:]])
        for matrix, bias in zip(tower[::2], tower[1::2], strict=True):
            hidden = np.maximum(matrix @ hidden + bias, 0)
        assert float(z) == pytest.approx(
            float(weights @ [*(users[u, :3] * items[i, :3]), *hidden] + constant[0]), abs=1e-5
        )


def test_serving_computes_what_was_trained(small: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numpy network that serves gives the logits of the torch network that was trained."""
    kept: list[Any] = []
    monkeypatch.setattr("recmia.recommenders.neural.check_finite", lambda *arguments: kept.extend(arguments[2:]))
    part = small.restrict(np.arange(20))
    model = NCF(QUICK, device="cpu").fit(part, rng=np.random.default_rng(0))
    users, items, *network = (torch.from_numpy(array) for array in kept)
    scores = model._scores(model.user_vectors)[:, model.fitted_items()]
    for row, p in zip(scores, users, strict=True):
        z = _logits(p.expand(len(items), -1), items, network, QUICK.factors)
        np.testing.assert_allclose(row, z, atol=1e-5)


def test_fold_in_minimises_the_stated_objective(small: Interactions, model: NCF, rng: np.random.Generator) -> None:
    """No way leads down from it, as one does from the start, whence a general minimiser ends no lower."""
    network, known, histories = model._network, model.fitted_items(), small.csr()
    gaps = []
    for user in (5, 20, 30, 70, 80, 90, 100, 110):
        seen = np.isin(np.flatnonzero(known), histories[[user]].indices)
        n, n_unseen = seen.sum(), (~seen).sum()

        def objective(p: Any, seen: Any = seen, n: int = n, n_unseen: int = n_unseen) -> Any:
            """The module's equation, for each unit of weight."""
            z = network.logits(p.astype(np.float32)).astype(np.float64)
            positive, negative = np.logaddexp(0, -z[seen]).sum(), np.logaddexp(0, z[~seen]).sum()
            samples = n * (1 + QUICK.n_negatives)
            return (
                float((positive + QUICK.n_negatives * n / n_unseen * negative) / samples) + QUICK.regularisation * p @ p
            )

        p, start = model.fold_in(histories[[user]])[0], model.user_vectors.mean(axis=0)
        found, before = objective(p), objective(start)
        assert found < before - 0.01
        ways = rng.normal(size=(100, len(p)))
        ways *= rng.choice([0.003, 0.01], (100, 1)) / np.linalg.norm(ways, axis=1, keepdims=True)
        assert min(objective(p + way) for way in ways) > found - 4e-5
        assert min(objective(start + way) for way in ways) < before - 4e-4
        best = minimize(objective, start, method="Powell", options={"maxiter": 100}).fun
        gaps.append((found - best) / (before - best))
    # The network is not convex: another method may end in another minimum, a better or a worse one.
    assert max(gaps) < 0.1
    assert np.median(gaps) < 0.02


def test_fold_in_needs_no_other_user(small: Interactions, model: NCF) -> None:
    histories = small.csr()
    together = model.scores(histories)
    for user in (0, 70, 119):
        np.testing.assert_array_equal(model.scores(histories[[user]])[0], together[user])
    backwards = model.scores(histories[np.arange(small.n_users)[::-1]])[::-1]
    np.testing.assert_array_equal(backwards, together)


def test_a_history_without_a_known_item_gives_the_mean_member(small: Interactions, model: NCF) -> None:
    nobody = sparse.csr_array(np.zeros((1, small.n_items), np.float32))
    np.testing.assert_allclose(model.fold_in(nobody)[0], model.user_vectors.mean(axis=0), atol=1e-6)


def test_members_lists_by_fold_in_resemble_their_trained_lists(small: Interactions, model: NCF) -> None:
    """More than they resemble the trained lists of others."""
    histories = small.restrict(np.arange(60)).csr()
    trained, folded = model.recommend_members(histories, 20), model.recommend(histories, 20)

    def overlap(one: Any, two: Any) -> float:
        return float(np.mean([len(np.intersect1d(a, b)) / 20 for a, b in zip(one, two, strict=True)]))

    own, others = overlap(trained, folded), overlap(np.roll(trained, 1, axis=0), folded)
    assert own > 0.6
    assert own > others + 0.1


@pytest.mark.statistical
def test_unseen_items_are_sampled_where_there_are_many(small: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    """With half of the items to stand for the unseen ones, the scores stay near those with all."""
    part = small.restrict(np.arange(60))
    whole = NCF(QUICK, device="cpu").fit(part, rng=np.random.default_rng(0))
    monkeypatch.setattr("recmia.recommenders.neural._UNSEEN", int(whole.fitted_items().sum()) // 2)
    half = NCF(QUICK, device="cpu").fit(part, rng=np.random.default_rng(0))
    one, two = whole.scores(small.csr()), half.scores(small.csr())
    assert not np.array_equal(one, two)
    assert np.corrcoef(one.ravel(), two.ravel())[0, 1] > 0.95

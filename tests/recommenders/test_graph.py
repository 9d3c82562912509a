"""LightGCN, and what it shares with the other recommenders that train with PyTorch."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from recmia import Interactions
from recmia.errors import ConfigError, DivergedError
from recmia.recommenders import RECOMMENDERS, Recommender
from recmia.recommenders.graph import LightGCN, _bpr_gradient, _Graph
from recmia.recommenders.tensors import UnseenItems, one_thread, seen_pairs
from recmia.settings import LightGCNSettings, RecommenderSettings

SMALL = RecommenderSettings.model_validate(
    {"factors": 8, "device": "cpu", "lightgcn": {"epochs": 3, "batch_size": 700}, "ncf": {"factors": 4, "epochs": 2}}
)
NAMES = ["lightgcn", "ncf"]


def dense_graph(seen: sparse.csr_array) -> Any:
    """The matrix of eq. 3, entry by entry."""
    table = seen.toarray()
    n, m = table.shape
    graph = np.zeros((n + m, n + m))
    for u, i in zip(*table.nonzero(), strict=True):
        graph[u, n + i] = graph[n + i, u] = 1 / np.sqrt(table[u].sum() * table[:, i].sum())
    return graph


def fitted(name: str, data: Interactions, settings: RecommenderSettings = SMALL, seed: int = 0) -> Recommender:
    return RECOMMENDERS[name].make(settings, 1).fit(data, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_propagation_is_the_mean_of_powers(small: Interactions, rng: np.random.Generator, layers: int) -> None:
    _, seen = seen_pairs(small.restrict(np.arange(20)))
    dense = dense_graph(seen)
    start = rng.normal(size=(len(dense), 5)).astype(np.float32)
    mean, last = _Graph(seen, layers, torch.device("cpu")).propagate(torch.from_numpy(start))
    powers = [np.linalg.matrix_power(dense, k) @ start for k in range(layers + 1)]
    np.testing.assert_allclose(mean, np.mean(powers, axis=0), atol=1e-6)
    np.testing.assert_allclose(last, powers[-1], atol=1e-6)


def test_the_gradient_is_carried_back_by_propagation(small: Interactions, rng: np.random.Generator) -> None:
    """Against finite differences of the loss in the layer-0 embeddings, in numpy."""
    _, seen = seen_pairs(small.restrict(np.arange(10)))
    graph, dense = _Graph(seen, 2, torch.device("cpu")), dense_graph(seen)
    mean = (np.eye(len(dense)) + dense + dense @ dense) / 3
    start = rng.normal(size=(len(dense), 3))
    batch = np.array([[0, 1, 1, 4], [12, 13, 12, 15], [14, 15, 16, 17]])

    def loss(embeddings: Any) -> float:
        u, i, j = (mean @ embeddings)[batch]
        return float(np.log1p(np.exp((u * (j - i)).sum(axis=1))).mean())

    final = graph.propagate(torch.from_numpy(start.astype(np.float32)))[0]
    gradient = graph.propagate(_bpr_gradient(final, torch.from_numpy(batch)))[0].numpy()
    for place in [(0, 0), (4, 2), (12, 1), (17, 0)]:
        step = np.zeros_like(start)
        step[place] = 1e-5
        assert gradient[place] == pytest.approx((loss(start + step) - loss(start - step)) / 2e-5, abs=1e-5)


def test_a_members_embedding_is_the_fold_in_and_its_own_part(small: Interactions) -> None:
    """e_u - fold-in = e_u^(0) / (L+1), and fold-in is the equation entry by entry, with the unknown items left out."""
    part = small.restrict(np.arange(10))
    model = LightGCN(LightGCNSettings(epochs=4, layers=2), factors=6, device="cpu").fit(
        part, rng=np.random.default_rng(1)
    )
    known, seen = seen_pairs(part)
    dense = dense_graph(seen)
    mean = (np.eye(len(dense)) + dense + dense @ dense) / 3
    final = np.vstack([model.user_vectors, model.item_vectors[known]])
    layer_0 = np.linalg.solve(mean, final.astype(np.float64))
    own = model.user_vectors - model.fold_in(part.csr())
    np.testing.assert_allclose(own, layer_0[:10] / 3, atol=1e-4)

    degree, layers = seen.sum(axis=0), [layer_0, dense @ layer_0]
    histories = small.csr()[np.flatnonzero(small.csr() @ ~known)[[5, 50]]]
    for vector, history in zip(model.fold_in(histories), histories.toarray(), strict=True):
        liked = np.flatnonzero(history[known])
        assert 0 < len(liked) < (history > 0).sum()
        expected = sum(
            (layer[10 + i] / np.sqrt(len(liked) * degree[i]) for layer in layers for i in liked), np.zeros(6)
        )
        np.testing.assert_allclose(vector, expected / 3, atol=1e-4)


def test_unseen_items_are_drawn_uniformly(rng: np.random.Generator) -> None:
    table = np.array([[1, 0, 1, 0, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]])
    unseen = UnseenItems(sparse.csr_array(table.astype(np.float32)))
    np.testing.assert_array_equal(unseen.counts, [3, 1, 5, 0, 1])
    users = np.tile([4, 0, 1, 2], 20_000)
    drawn = np.zeros(table.shape)
    np.add.at(drawn, (users, unseen.draw(users, rng)), 1)
    assert (drawn[table > 0] == 0).all()
    for row, count in zip(drawn[[0, 1, 2, 4]], [3, 1, 5, 1], strict=True):
        share = row[row > 0] / 20_000
        np.testing.assert_allclose(share, 1 / count, atol=0.02)
        assert len(share) == count


@pytest.mark.end_to_end
@pytest.mark.parametrize("name", NAMES)
def test_lists_do_not_depend_on_the_number_of_threads(name: str, small: Interactions) -> None:
    """In one large batch a step, whose sums PyTorch would split."""
    settings = SMALL.model_validate(
        {
            "factors": 32,
            "device": "cpu",
            "lightgcn": {"epochs": 3},
            "ncf": {"n_negatives": 20, "batch_size": 8192, "epochs": 3},
        }
    )
    data, before = small.restrict(np.arange(100)), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            model = fitted(name, data, settings)
            assert torch.get_num_threads() == threads
            found.append((model.scores(small.csr()), model.recommend_members(data.csr(), 20)))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_one_thread_is_restored_after_an_error() -> None:
    before = torch.get_num_threads()
    inside = []

    def fail() -> None:
        with one_thread():
            inside.append(torch.get_num_threads())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert inside == [1]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("name", NAMES)
def test_models_fitted_at_once_do_not_disturb_each_other(name: str, small: Interactions) -> None:
    data = small.restrict(np.arange(60))
    alone = [fitted(name, data, seed=seed).scores(data.csr()) for seed in (1, 2)]
    together = Barrier(2)

    def train(seed: int) -> Any:
        together.wait()
        return fitted(name, data, seed=seed).scores(data.csr())

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(train, (1, 2)))
    np.testing.assert_array_equal(both, alone)
    assert not np.array_equal(alone[0], alone[1])


@pytest.mark.parametrize("name", NAMES)
def test_no_global_random_state_is_touched(name: str, small: Interactions) -> None:
    state = torch.random.get_rng_state()
    fitted(name, small.restrict(np.arange(20)))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", NAMES)
def test_a_user_who_has_seen_everything_can_train(name: str) -> None:
    data = Interactions.from_arrays([0, 0, 0, 1, 1], [5, 6, 7, 5, 6])
    model = fitted(name, data)
    np.testing.assert_array_equal(np.sort(model.recommend(data.csr(), 3, exclude_seen=False)), [[0, 1, 2]] * 2)
    alone = Interactions.from_arrays([0, 0], [5, 6])
    assert np.isfinite(fitted(name, alone).scores(alone.csr())).all()


@pytest.mark.parametrize("name", NAMES)
def test_divergence_is_said(name: str, small: Interactions) -> None:
    settings = SMALL.model_validate({name: {"learning_rate": 1e38, "epochs": 3}})
    with pytest.raises(DivergedError, match=r"not finite at learning rate 1e\+38"):
        fitted(name, small.restrict(np.arange(20)), settings)


@pytest.mark.parametrize("name", [*NAMES, "sasrec", "gru4rec"])
def test_devices(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    settings = RecommenderSettings(device="cuda")
    with pytest.raises(ConfigError, match="PyTorch finds no GPU here; use 'cpu'"):
        RECOMMENDERS[name].make(settings, 1)
    with pytest.raises(ConfigError, match=r"unknown device 'cudo'; did you mean 'cuda'\? allowed: auto, cpu, cuda"):
        LightGCN(device="cudo")


def test_a_missing_torch_is_named_with_the_pip_command() -> None:
    program = """
import sys
sys.modules["torch"] = None
from recmia.errors import MissingExtraError
from recmia.recommenders import RECOMMENDERS
from recmia.settings import RecommenderSettings
RECOMMENDERS["lfm"].make(RecommenderSettings(), 1)
for name in ("ncf", "lightgcn", "sasrec", "gru4rec"):
    try:
        RECOMMENDERS[name].make(RecommenderSettings(), 1)
    except MissingExtraError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["this recommender needs PyTorch: pip install 'torch>=2.4'"] * 4

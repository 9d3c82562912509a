"""ALS and BPR: fold-in minimises what the formulas state, threads change nothing, divergence and absence are said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import minimize

from recmia import Interactions
from recmia.errors import DivergedError, MissingExtraError, NotFittedError
from recmia.recommenders import ALS, BPR, RECOMMENDERS
from recmia.settings import ALSSettings, BPRSettings, RecommenderSettings

pytest.importorskip("implicit")

MODELS = [
    ALS(ALSSettings(iterations=5), factors=6),
    BPR(BPRSettings(epochs=30, learning_rate=0.05), factors=6),
]
each_model = pytest.mark.parametrize("model", MODELS, ids=["als", "bpr"])


def fitted(model: Any, data: Interactions) -> Any:
    return model.fit(data, rng=np.random.default_rng(0))


def strangers(small: Interactions) -> sparse.csr_array:
    return small.csr()[[70, 90, 111]]


@pytest.mark.parametrize("alpha", [1, 40])
def test_als_fold_in_minimises_its_objective(small: Interactions, alpha: float) -> None:
    settings = ALSSettings(alpha=alpha, regularisation=0.3, iterations=5)
    model = fitted(ALS(settings, factors=6), small.restrict(np.arange(60)))
    Q, known = model.item_vectors.astype(float), model.fitted_items()
    histories = strangers(small)
    for p, seen in zip(model.fold_in(histories), histories.toarray() > 0, strict=True):

        def objective(x: Any, seen: Any = seen[known]) -> float:
            errors = seen - Q[known] @ x
            return float(np.where(seen, 1 + alpha, 1) @ errors**2 + settings.regularisation * x @ x)

        best = minimize(objective, np.zeros(6), method="BFGS", options={"gtol": 1e-9}).x
        np.testing.assert_allclose(p, best, atol=1e-4)


def bpr_objective(model: BPR, small: Interactions, seen: Any, x: Any) -> float:
    """Over all pairs, as the module states it."""
    known = model.fitted_items()
    counts = small.restrict(np.arange(60)).item_counts()
    scores = model.item_vectors.astype(float) @ x + model.item_bias
    H, others = np.flatnonzero(seen & known), np.flatnonzero(~seen & known)
    losses = np.log1p(np.exp(scores[others] - scores[H][:, None])) @ counts[others]
    return float(losses.mean() / counts[others].sum() + model.settings.regularisation / 2 * x @ x)


@pytest.mark.parametrize("settings", [BPRSettings(epochs=30), BPRSettings(learning_rate=0.1, regularisation=0.001)])
def test_bpr_fold_in_minimises_its_objective(small: Interactions, settings: BPRSettings) -> None:
    model = fitted(BPR(settings, factors=3), small.restrict(np.arange(60)))
    histories = strangers(small)[:2]
    for p, seen in zip(model.fold_in(histories), histories.toarray() > 0, strict=True):

        def objective(x: Any, seen: Any = seen) -> float:
            return bpr_objective(model, small, seen, x)

        best = minimize(objective, p.astype(float), method="BFGS")
        assert objective(p.astype(float)) - best.fun < 1e-5 * (objective(np.zeros(3)) - best.fun)
        np.testing.assert_allclose(p, best.x, atol=2e-3 * float(np.linalg.norm(best.x)))


def test_members_are_folded_in_near_what_was_trained_for_them(small: Interactions) -> None:
    """Lists from the history and by the trained vector share most items, and those of two other users do not."""
    for model in (ALS(factors=8), BPR(BPRSettings(epochs=300, learning_rate=0.05), factors=8)):
        fitted(model, small)
        histories = small.csr()
        folded, trained = model.recommend(histories, 20), model.recommend_members(histories, 20)
        shared = np.mean([len(np.intersect1d(a, b)) for a, b in zip(folded, trained, strict=True)]) / 20
        others = np.mean([len(np.intersect1d(a, b)) for a, b in zip(folded, trained[::-1], strict=True)]) / 20
        assert shared > 0.75
        assert others < shared - 0.2


@each_model
def test_threads_change_no_bit(model: Any, small: Interactions) -> None:
    part = small.restrict(np.arange(0, 120, 2))
    histories = small.csr()
    results = []
    for threads in (1, 3):
        one = fitted(type(model)(model.settings, factors=6, threads=threads), part)
        results.append((one.user_vectors, one.item_vectors, one.fold_in(histories), one.recommend(histories, 20)))
    for single, several in zip(*results, strict=True):
        np.testing.assert_array_equal(single, several)


@each_model
def test_fold_in_is_alone_with_its_history(model: Any, small: Interactions) -> None:
    fitted(model, small.restrict(np.arange(60)))
    histories = small.csr()
    together = model.fold_in(histories)
    for user in (0, 61, 119):
        np.testing.assert_array_equal(model.fold_in(histories[[user]])[0], together[user])


@each_model
def test_ratings_do_not_count(model: Any, small: Interactions) -> None:
    rated = fitted(model, small).recommend(small.csr(), 10)
    ones = Interactions(
        small.user, small.item, np.ones(len(small), np.float32), None, small.users, small.items, rated=False
    )
    np.testing.assert_array_equal(fitted(model, ones).recommend(ones.csr(), 10), rated)


@each_model
def test_nothing_known_is_the_zero_vector(model: Any, small: Interactions) -> None:
    fitted(model, small.restrict(np.arange(3)))
    dense = np.zeros((2, small.n_items), np.float32)
    dense[1, np.flatnonzero(~model.trained_items)[:2]] = 1
    np.testing.assert_array_equal(model.fold_in(sparse.csr_array(dense)), 0)


def test_a_user_who_has_seen_all_is_the_zero_vector(small: Interactions) -> None:
    model = fitted(BPR(BPRSettings(epochs=1), factors=4), small)
    np.testing.assert_array_equal(model.fold_in(sparse.csr_array(np.ones((1, small.n_items), np.float32))), 0)


def test_divergence_is_said(small: Interactions) -> None:
    with pytest.raises(DivergedError, match=r"BPR has factors that are not finite; lower bpr\.learning_rate"):
        fitted(BPR(BPRSettings(learning_rate=1e30), factors=4), small)


@each_model
def test_before_fit(model: Any) -> None:
    fresh = type(model)(factors=4)
    nobody = sparse.csr_array((1, 3), dtype=np.float32)
    for ask in (fresh.recommend, fresh.recommend_members):
        with pytest.raises(NotFittedError):
            ask(nobody, 1)
    for ask in (fresh.fold_in, fresh.scores):
        with pytest.raises(NotFittedError):
            ask(nobody)
    with pytest.raises(NotFittedError):
        _ = fresh.item_vectors


@pytest.mark.parametrize("name", ["als", "bpr"])
def test_without_the_package_the_pip_command_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [module for module in sys.modules if module.partition(".")[0] == "implicit"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "implicit", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'implicit>=0\.7\.2'"):
        RECOMMENDERS[name].make(RecommenderSettings(), 1)


@pytest.mark.end_to_end
def test_compiled_code_and_cached_code_give_the_same_bits(tmp_path: Path) -> None:
    program = """
import numpy as np
from recmia.data.datasets import load
from recmia.recommenders import BPR
from recmia.settings import BPRSettings
data = load("synthetic:120x200x6000").interactions
model = BPR(BPRSettings(epochs=5), factors=10).fit(data.restrict(np.arange(60)), rng=np.random.default_rng(0))
print(model.fold_in(data.csr()).tobytes().hex())
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program], env=environment, capture_output=True, check=True
        )
        for _ in range(2)
    )
    assert list(tmp_path.rglob("*_rank_pairs*.nbc")), "the first run must have filled the cache"
    assert first.stdout == second.stdout

"""The network of the attack `mlp`: against its equations, and against scikit-learn's."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from recmia.attacks.network import Network
from recmia.errors import DivergedError
from recmia.metrics import auc

SETTINGS: dict[str, Any] = {"hidden": (32, 8), "learning_rate": 0.01, "momentum": 0.9, "epochs": 50}


def sample(seed: int, n: int = 300, width: int = 20, shift: float = 0.8) -> tuple[Any, Any]:
    """Vectors of n users, the members' shifted in five directions."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % 2 == 0)
    X = rng.normal(size=(n, width)) * rng.uniform(0.1, 10, width)
    X[:, :5] += shift * X[:, :5].std(axis=0) * y[:, None]
    return X, y


def trained_by_equations(
    X: Any, y: Any, seed: int, hidden: Any, learning_rate: float, momentum: float, epochs: int, batch_size: int
) -> npt.NDArray[np.float64]:
    """The log odds of the rows, by the module's equations in float64, with the same random numbers."""
    rng = np.random.default_rng(seed)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    W, b = [], []
    for into, out in pairwise((X.shape[1], *hidden, 1)):
        bound = np.sqrt(6 / (into + out))
        drawn = rng.uniform(-bound, bound, (into + 1) * out)
        W.append(drawn[: into * out].reshape(into, out))
        b.append(drawn[into * out :])
    v = [np.zeros_like(part) for part in (*W, *b)]

    def forward(rows: Any) -> list[Any]:
        values = [rows]
        for number, (weights, bias) in enumerate(zip(W, b, strict=True), 1):
            z = values[-1] @ weights + bias
            values.append(z if number == len(W) else np.maximum(z, 0))
        return values

    for _ in range(epochs):
        order = rng.permutation(len(X))
        for start in range(0, len(X), batch_size):
            rows = order[start : start + batch_size]
            values = forward(X[rows])
            error = (1 / (1 + np.exp(-values[-1])) - y[rows, None]) / len(rows)
            dW, db = list[Any](), list[Any]()
            for number in range(len(W) - 1, -1, -1):
                dW.insert(0, values[number].T @ error)
                db.insert(0, error.sum(axis=0))
                error = (error @ W[number].T) * (values[number] > 0)
            for place, (part, slope) in enumerate(zip((*W, *b), (*dW, *db), strict=True)):
                v[place] = momentum * v[place] - learning_rate * slope
                part += v[place]
    found: npt.NDArray[np.float64] = forward(X)[-1][:, 0]
    return found


@pytest.mark.parametrize("hidden", [(4,), (32, 8), (5, 3, 7)])
@pytest.mark.parametrize("batch_size", [1, 7, 60, 100])
def test_it_follows_its_equations(hidden: tuple[int, ...], batch_size: int) -> None:
    X, y = sample(1, n=60, width=6)
    options: dict[str, Any] = {
        "hidden": hidden,
        "learning_rate": 0.05,
        "momentum": 0.8,
        "epochs": 4,
        "batch_size": batch_size,
    }
    found = Network(3, **options).fit(X, y).decision_function(X)
    np.testing.assert_allclose(found, trained_by_equations(X, y, 3, **options), atol=2e-3)


def test_its_auc_is_that_of_scikit_learn() -> None:
    """Over 40 seeds, on users that it was not fitted on; the two differ by their random numbers alone."""
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import StandardScaler

    ours, theirs = list[Any](), list[Any]()
    for seed in range(40):
        (X, y), (others, truth) = sample(2 * seed), sample(2 * seed + 1)
        made = Network(seed, **SETTINGS, batch_size=15).fit(X, y)
        ours.append(auc(truth, made.decision_function(others)).value)
        scaler = StandardScaler().fit(X)
        peer = MLPClassifier(
            (32, 8), solver="sgd", alpha=0, learning_rate_init=0.01, momentum=0.9, nesterovs_momentum=False,
            max_iter=50, batch_size=15, n_iter_no_change=50, random_state=seed,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peer.fit(scaler.transform(X), y)
        theirs.append(auc(truth, peer.predict_proba(scaler.transform(others))[:, 1]).value)
    apart = np.array(ours) - np.array(theirs)
    assert np.mean(theirs) > 0.6, "there is something to learn"
    error = apart.std(ddof=1) / np.sqrt(40)
    assert error < 0.01, "a difference that matters would show"
    assert abs(apart.mean()) < 3 * error


def test_it_learns_nothing_where_there_is_nothing() -> None:
    values = list[Any]()
    for seed in range(20):
        (X, y), (others, truth) = sample(2 * seed, shift=0), sample(2 * seed + 1, shift=0)
        made = Network(seed, **SETTINGS, batch_size=15).fit(X, y)
        values.append(auc(truth, made.decision_function(others)).value)
    assert abs(np.mean(values) - 0.5) < 0.03


def test_the_same_seed_gives_the_same_bits_in_any_thread() -> None:
    X, y = sample(5)

    def fitted(seed: int) -> bytes:
        return Network(seed, **SETTINGS, batch_size=15).fit(X, y).decision_function(X).tobytes()

    one = [fitted(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(fitted, range(4))) == one
    assert len(set(one)) == 4


def test_a_constant_column_and_a_step_of_all_rows() -> None:
    X, y = sample(6, n=30)
    X[:, 3] = 7.0
    assert np.isfinite(Network(0, **SETTINGS, batch_size=1000).fit(X, y).decision_function(X)).all()


def test_a_learning_rate_that_is_too_high_is_told() -> None:
    X, y = sample(7)
    with pytest.raises(DivergedError, match=r"no longer finite after 50 epochs at learning rate 1e\+30"):
        Network(0, **SETTINGS | {"learning_rate": 1e30}, batch_size=15).fit(X, y)

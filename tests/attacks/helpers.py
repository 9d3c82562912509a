"""Observations whose mean item vectors are chosen, for tests of attacks over vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse

from recmia.attacks import ATTACKS, Attack
from recmia.metrics import auc
from recmia.observation import Items, Observation

# Items that all users may have and be shown; they have no vector.
COMMON = 40

# The attacks on users; those on interactions have tests of their own.
OF_USERS = {name: spec for name, spec in ATTACKS.items() if spec.unit == "user"}
# Every attack that works on one observation and looks at lists only, made with the default settings.
MAKERS: Mapping[str, Callable[[], Any]] = {
    name: partial(spec.make, {}) for name, spec in OF_USERS.items() if spec.needs != "pool" and not spec.asks
}
LEARNING = [name for name, spec in OF_USERS.items() if spec.needs == "shadow"]


def users(n: int, rng: np.random.Generator, *, shift: Any = 0.0, k: int = 5) -> Observation:
    """Users with random histories, lists and vectors; `shift` moves the first coordinate of their vectors.

    Each user has one item of its own in the history and one at the end of the list, the only ones with a vector: so
    the vectors of these items are the means over the history and over the list. See `with_means`.
    """
    common = rng.random((n, COMMON)) < 0.3
    history_mean = rng.normal(size=(n, 6))
    history_mean[:, 0] += shift
    shown = np.array([rng.permutation(COMMON)[:k] for _ in range(n)], np.int32)
    list_mean = rng.normal(size=(n, 6)) * 0.1
    popular_mean = rng.normal(size=6)
    popularity = rng.integers(1, 100, COMMON)
    shown[:, -1] = COMMON + n + np.arange(n)
    histories = np.zeros((n, COMMON + 2 * n + k), np.float32)
    histories[:, :COMMON] = common
    histories[np.arange(n), COMMON + np.arange(n)] = 1
    vectors = np.zeros((COMMON + 2 * n + k, 6))
    items = Items(
        vectors,
        np.arange(len(vectors)) >= COMMON,
        # The last k are the most popular ones with a vector; many of the common items are more popular still.
        np.concatenate([1000 + popularity, np.ones(2 * n, np.int64), np.full(k, 10)]),
    )
    seen = Observation(sparse.csr_array(histories), shown, items, rng.random(n))
    return with_means(seen, history_mean, list_mean, popular_mean)


def with_means(seen: Observation, history: Any, shown: Any, popular: Any) -> Observation:
    """Return what `users` gave with other mean item vectors: float64[n, l], float64[n, l] and float64[l]."""
    k = seen.lists.shape[1]
    width = np.shape(popular)[0]
    vectors = np.concatenate([np.zeros((COMMON, width)), history, shown, np.tile(popular, (k, 1))])
    return replace(seen, items=replace(seen.items, vectors=vectors))


def without_vectors(seen: Observation, blind: Any) -> Observation:
    """Return what `users` gave where no item of these users' histories has a vector: `blind` is bool[n]."""
    has_vector = seen.items.has_vector.copy()
    has_vector[COMMON : COMMON + len(seen)] &= ~blind
    return replace(seen, items=replace(seen.items, has_vector=has_vector))


def area(member: Any, score: Any) -> float:
    """Return the AUC."""
    value = auc(member, score).value
    assert value is not None
    return value


def half(n: int, rng: np.random.Generator) -> Any:
    """Draw members: bool[n], half of them true."""
    return rng.permutation(n) < n // 2


def scores_of(make: Callable[[], Attack], observation: Observation, seed: int = 0) -> Any:
    """Fit an attack that learns nothing to the users themselves, and score them."""
    rng = np.random.default_rng(seed)
    return make().fit(observation, np.arange(len(observation)) % 2 == 0, rng=rng).score(observation)

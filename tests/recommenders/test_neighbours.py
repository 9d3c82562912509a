"""Nearest neighbours against a brute force over all pairs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from recmia import Interactions
from recmia.engine.ranking import top_k
from recmia.recommenders import EASE, ItemKNN, UserKNN
from recmia.recommenders.neighbours import _nearest
from recmia.settings import NeighbourSettings


def similarities(rows: Any, others: Any, shrinkage: float) -> Any:
    dots = rows @ others.T
    return dots / np.maximum(np.outer(np.linalg.norm(rows, axis=1), np.linalg.norm(others, axis=1)) + shrinkage, 1e-30)


def keep_nearest(similar: Any, n: int) -> Any:
    """All but the n largest of each row set to zero, ties by lower column."""
    kept = np.zeros_like(similar)
    for u, row in enumerate(similar):
        best = sorted(range(len(row)), key=lambda v: (-np.float32(row[v]), v))[:n]
        kept[u, best] = row[best]
    return kept


def dense(data: Interactions, binary: bool) -> Any:
    matrix = data.csr().toarray().astype(float)
    return (matrix > 0).astype(float) if binary else matrix


SETTINGS = [
    # Without a shrinkage 1 / sqrt(3) and 3 / sqrt(27) tie but for rounding, so a short list would be a matter of luck.
    NeighbourSettings(neighbours=5, shrinkage=0.1),
    NeighbourSettings(neighbours=20, shrinkage=10),
    NeighbourSettings(neighbours=1000, shrinkage=0),
    NeighbourSettings(neighbours=7, shrinkage=3, binary=False),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_item_neighbours(small: Interactions, settings: NeighbourSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    part = small.restrict(np.arange(40))
    items = dense(part, settings.binary).T
    similar = similarities(items, items, settings.shrinkage)
    np.fill_diagonal(similar, 0)
    expected = dense(small, settings.binary) @ keep_nearest(similar, settings.neighbours).T
    # A few items at a time, as on large data.
    monkeypatch.setattr("recmia.recommenders.neighbours._ROWS_AT_ONCE", 30)
    model = ItemKNN(settings).fit(part, rng=np.random.default_rng(0))
    np.testing.assert_allclose(model.scores(small.csr()), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_user_neighbours(small: Interactions, settings: NeighbourSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    part = small.restrict(np.arange(40))
    users, histories = dense(part, settings.binary), dense(small, settings.binary)
    histories = histories * (part.item_counts() > 0)
    monkeypatch.setattr("recmia.recommenders.neighbours._ROWS_AT_ONCE", 7)
    model = UserKNN(settings).fit(part, rng=np.random.default_rng(0))
    expected = keep_nearest(similarities(histories, users, settings.shrinkage), settings.neighbours) @ users
    np.testing.assert_allclose(model.scores(small.csr()), expected, rtol=1e-4, atol=1e-5)
    # A member's own row votes in a fold-in, which cannot know it, and does not when the member is served as such.
    others = similarities(users, users, settings.shrinkage)
    np.fill_diagonal(others, 0)
    votes = keep_nearest(others, settings.neighbours) @ users
    first = model.recommend_members(part.csr(), 1, exclude_seen=False)[:, 0]
    np.testing.assert_allclose(votes[np.arange(40), first], votes.max(axis=1), rtol=1e-5)


def test_by_hand() -> None:
    """Users 1 and 2 share item a; b is beside a twice, c once."""
    data = Interactions.from_arrays([1, 1, 2, 2, 2, 3], ["a", "b", "a", "b", "c", "d"])
    history = sparse.csr_array(np.array([[1, 0, 0, 0]], np.float32))
    items = ItemKNN(NeighbourSettings(shrinkage=1)).fit(data, rng=np.random.default_rng(0)).scores(history)
    np.testing.assert_allclose(items, [[0, 2 / 3, 1 / (np.sqrt(2) + 1), 0]], rtol=1e-6)
    users = UserKNN(NeighbourSettings(shrinkage=1)).fit(data, rng=np.random.default_rng(0)).scores(history)
    one, two = 1 / (np.sqrt(2) + 1), 1 / (np.sqrt(3) + 1)
    np.testing.assert_allclose(users, [[one + two, one + two, two, 0]], rtol=1e-6)


def test_ratings_of_zero_do_not_divide_by_zero() -> None:
    data = Interactions.from_arrays([1, 1, 2], [1, 2, 1], [0, 0, 0])
    settings = NeighbourSettings(shrinkage=0, binary=False)
    for model in (ItemKNN(settings), UserKNN(settings)):
        np.testing.assert_array_equal(model.fit(data, rng=np.random.default_rng(0)).scores(data.csr()), 0)


def nearest(rows: Any, others: Any, n: int, shrinkage: float, skip_self: bool) -> list[list[tuple[int, float]]]:
    """Neighbours and similarities in float32, in the order in which votes are summed: the last met first, ties last."""
    length, other_length = (np.sqrt((part * part).sum(axis=1)) for part in (rows, others))
    found = []
    for r, row in enumerate(rows):
        met = list(dict.fromkeys(v for column in np.flatnonzero(row) for v in np.flatnonzero(others[:, column])))
        scale = np.maximum(length[r] * other_length + np.float32(shrinkage), np.finfo(np.float32).tiny)
        value = (others @ row) / scale
        if skip_self:
            value[r] = 0
        best = sorted((v for v in met if value[v] > 0), key=lambda v: (-value[v], v))[:n]
        least = value[best[-1]] if len(best) == n and len(met) > n else 0
        above = [v for v in met[::-1] if v in best and value[v] > least]
        found.append([(int(v), float(value[v])) for v in [*above, *(v for v in best if value[v] == least)]])
    return found


@pytest.mark.parametrize("skip_self", [False, True])
@pytest.mark.parametrize("n", [1, 3, 12, 60, 500])
def test_neighbours_are_those_of_a_simple_search_to_the_bit(
    n: int, skip_self: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Products and sums of small halves are exact. Many similarities tie, and some are not above 0."""
    monkeypatch.setattr("recmia.recommenders.neighbours._ROWS_AT_ONCE", 50)
    rng = np.random.default_rng(n)
    part = rng.random((300, 25)) < rng.random((300, 1)) ** 3
    for values in (part, part * rng.integers(-1, 4, part.shape) / 2):
        others = values.astype(np.float32)
        rows = others if skip_self else others[::3]
        settings = NeighbourSettings(neighbours=n, shrinkage=0.5)
        for threads in (1, 3):
            found = _nearest(
                sparse.csr_array(rows), sparse.csr_array(others), settings, skip_self=skip_self, threads=threads
            )
            got = [list(zip(found.indices[a:b].tolist(), found.data[a:b].tolist(), strict=True))
                   for a, b in pairwise(found.indptr)]  # fmt: skip
            assert got == nearest(rows, others, n, 0.5, skip_self)


@pytest.mark.parametrize("model", [ItemKNN, UserKNN, EASE])
def test_same_lists_for_any_number_of_threads(model: Any, small: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recmia.recommenders.neighbours.SCORES_IN_CACHE", 7 * small.n_items)
    monkeypatch.setattr("recmia.recommenders.linear._SCORES_AT_ONCE", 7 * small.n_items)
    monkeypatch.setattr("recmia.recommenders.neighbours._ROWS_AT_ONCE", 10)
    part = small.restrict(np.arange(40))
    one, three = (model(threads=n).fit(part, rng=np.random.default_rng(0)) for n in (1, 3))
    lists = one.recommend(small.csr(), 20)
    np.testing.assert_array_equal(lists, three.recommend(small.csr(), 20))
    np.testing.assert_array_equal(lists, top_k(one.scores(small.csr()), small.csr(), one.trained_items, 20))
    members = part.csr()
    np.testing.assert_array_equal(one.recommend_members(members, 20), three.recommend_members(members, 20))

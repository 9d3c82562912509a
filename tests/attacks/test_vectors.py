"""User vectors: the formula, unknown items, and no NaN anywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmia import Interactions
from recmia.attacks.vectors import rank_weights, unknown_shares, user_vectors
from recmia.game.observe import observe
from recmia.observation import Items
from recmia.settings import RankWeights


@pytest.mark.parametrize("kind", ["uniform", "linear"])
def test_rank_weights_sum_to_one(kind: RankWeights) -> None:
    assert rank_weights(kind, 7).sum() == pytest.approx(1)


def test_rank_weights_of_zhangs_code() -> None:
    np.testing.assert_allclose(rank_weights("linear", 3), [3 / 6, 2 / 6, 1 / 6])


@given(st.integers(0, 2**32 - 1), st.sampled_from(["uniform", "linear"]))
def test_formula_by_loops(seed: int, weights: RankWeights) -> None:
    rng = np.random.default_rng(seed)
    n_items, factors, k = 9, 3, 4
    known = rng.random(n_items) < 0.7
    known[0] = True
    vectors = rng.normal(size=(n_items, factors)) * known[:, None]
    users = 5
    rows = [rng.choice(n_items, rng.integers(1, n_items), replace=False) for _ in range(users)]
    data = Interactions.from_arrays(
        np.concatenate([np.full(len(row), u) for u, row in enumerate(rows)] + [np.full(n_items, users)]),
        np.concatenate([*rows, np.arange(n_items)]),
    )
    lists = np.array([rng.permutation(n_items)[:k] for _ in range(users + 1)], np.int32)
    lists[0, 2:] = -1
    seen = user_vectors(observe(data, lists, Items(vectors, known, data.item_counts())), weights)
    histories = [*rows, np.arange(n_items)]
    w = rank_weights(weights, k)
    for u in range(users + 1):
        history = [i for i in histories[u] if known[i]]
        ranks = [j for j in range(k) if lists[u, j] >= 0 and known[lists[u, j]]]
        assert seen.usable[u] == bool(history and ranks)
        if not seen.usable[u]:
            assert (seen.difference[u] == 0).all()
            continue
        total = sum(w[j] for j in ranks)
        expected = sum(vectors[i] for i in history) / len(history)
        expected -= sum(w[j] * vectors[lists[u, j]] for j in ranks) / total
        np.testing.assert_allclose(seen.difference[u], expected, atol=1e-12)


def test_unknown_items_are_reported() -> None:
    data = Interactions.from_arrays([0, 0, 1], [0, 1, 1])
    items = Items(np.array([[1.0], [0.0]]), np.array([True, False]), np.array([1, 2]))
    seen = observe(data, np.array([[1], [0]], np.int32), items)
    assert list(unknown_shares(seen)) == pytest.approx([2 / 3, 1 / 2])
    # User 0 has a list that the attacker cannot read, user 1 such a history.
    found = user_vectors(seen)
    assert found.usable.tolist() == [False, False]
    assert np.isfinite(found.difference).all()


def test_the_popular_mean_is_of_items_with_a_vector() -> None:
    data = Interactions.from_arrays([0, 0, 1], [0, 1, 1])
    items = Items(np.array([[3.0], [0.0]]), np.array([True, False]), np.array([1, 2]))
    assert user_vectors(observe(data, np.array([[0], [0]], np.int32), items)).popular.tolist() == [3.0]


def test_items_without_a_vector_may_hold_anything() -> None:
    """Their rows mean nothing, so they may also be not a number."""
    data = Interactions.from_arrays([0, 0, 1], [0, 1, 1])
    items = Items(np.array([[3.0], [0.0]]), np.array([True, False]), np.array([1, 2]))
    seen = observe(data, np.array([[0], [1]], np.int32), items)
    blank = replace(seen, items=replace(items, vectors=np.array([[3.0], [np.nan]])))
    one, other = user_vectors(seen), user_vectors(blank)
    np.testing.assert_array_equal(one.difference, other.difference)
    np.testing.assert_array_equal(one.popular, other.popular)


def test_vectors_of_some_users_are_those_of_all() -> None:
    """To the last bit, whether they were computed before the users were chosen or after."""
    rng = np.random.default_rng(0)
    item = np.concatenate([rng.permutation(9)[:3] for _ in range(6)])
    data = Interactions.from_arrays(np.repeat(np.arange(6), 3), item)
    lists = rng.permuted(np.tile(np.arange(data.n_items), (6, 1)), axis=1)[:, :4].astype(np.int32)
    items = Items(rng.normal(size=(data.n_items, 2)), np.ones(data.n_items, np.bool_), data.item_counts())
    rows = np.array([4, 1])
    before = user_vectors(observe(data, lists, items).take(rows), "linear")
    seen = observe(data, lists, items)
    whole = user_vectors(seen, "linear")
    after = user_vectors(seen.take(rows), "linear")
    np.testing.assert_array_equal(before.difference, after.difference)
    np.testing.assert_array_equal(whole.difference[rows], after.difference)


def test_other_lists_have_other_vectors() -> None:
    """What was computed for an observation is not taken for that of a copy with other lists."""
    data = Interactions.from_arrays([0, 0, 1], [0, 1, 1])
    items = Items(np.array([[3.0], [1.0]]), np.ones(2, np.bool_), np.array([1, 2]))
    seen = observe(data, np.array([[0], [0]], np.int32), items)
    assert user_vectors(seen).shown.tolist() == [[3.0], [3.0]]
    assert user_vectors(replace(seen, lists=np.array([[1], [0]], np.int32))).shown.tolist() == [[1.0], [3.0]]

"""What an observation refuses to hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from recmia.errors import ProtocolError
from recmia.observation import Observation, ShadowPool


def observation(n: int = 3, n_items: int = 6, l: int = 2) -> Observation:  # noqa: E741
    rng = np.random.default_rng(0)
    return Observation(
        histories=sparse.csr_array((rng.random((n, n_items)) < 0.5).astype(np.float32)),
        lists=np.array([rng.permutation(n_items)[:4] for _ in range(n)], np.int32),
        history_mean=rng.normal(size=(n, l)),
        list_mean=rng.normal(size=(n, l)),
        popular_mean=np.zeros(l),
        has_vector=np.ones(n, np.bool_),
        popularity=np.arange(n_items),
    )


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ([[0, 1], [2, 2], [1, 0]], "user 1 holds an item twice"),
        ([[0, 1], [2, 3], [6, 0]], r"user 2 holds an item out of 0\.\.5"),
        ([[0, 1], [-2, 3], [5, 0]], "user 1 holds an item out of"),
        ([[-1, 1], [2, 3], [5, 0]], "user 0 has an item after its padding"),
        ([[0, 1], [2, 3]], r"shape \(3, k\)"),
    ],
)
def test_bad_lists(lists: list[list[int]], words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        replace(observation(), lists=np.array(lists, np.int32))


def test_padding_may_repeat() -> None:
    replace(observation(), lists=np.array([[0, -1, -1], [-1, -1, -1], [3, 4, 5]], np.int32))


def test_lists_must_be_int32() -> None:
    with pytest.raises(ProtocolError, match="int32"):
        replace(observation(), lists=np.zeros((3, 1), np.int64))


def test_nan_is_refused() -> None:
    with pytest.raises(ProtocolError, match="history_mean holds values that are not finite"):
        replace(observation(), history_mean=np.full((3, 2), np.nan))


def test_shapes_must_agree() -> None:
    with pytest.raises(ProtocolError, match=r"last_time must have shape \(3,\); got \(2,\)"):
        replace(observation(), last_time=np.zeros(2))


def test_take() -> None:
    whole = observation()
    part = whole.take(np.array([2, 0]))
    np.testing.assert_array_equal(part.lists, whole.lists[[2, 0]])
    np.testing.assert_array_equal(part.user_vectors, whole.user_vectors[[2, 0]])
    np.testing.assert_array_equal(part.histories.toarray(), whole.histories.toarray()[[2, 0]])


def shadow_pool(S: int = 4, n: int = 3, n_items: int = 6) -> ShadowPool:
    rng = np.random.default_rng(0)
    lists = np.array([[rng.permutation(n_items)[:4] for _ in range(n)] for _ in range(S)], np.int32)
    return ShadowPool(lists, rng.random((S, n)) < 0.5, n_items)


def test_shadow_pool() -> None:
    pool = shadow_pool()
    assert len(pool) == 4
    assert pool.n_users == 3
    part = pool.take(np.array([2, 0]))
    np.testing.assert_array_equal(part.lists, pool.lists[[2, 0]])
    np.testing.assert_array_equal(part.member, pool.member[[2, 0]])
    assert part.n_items == 6


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (np.zeros((4, 2), np.bool_), r"bool\[S, n\]; got int32\[4, 3, 4\] and bool\[4, 2\]"),
        (np.zeros((3, 4), np.bool_), r"bool\[3, 4\]"),
        (np.zeros((4, 3), np.int8), r"int8\[4, 3\]"),
    ],
)
def test_membership_of_a_shadow_pool(member: Any, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        replace(shadow_pool(), member=member)


@pytest.mark.parametrize(("item", "words"), [(6, "item out of"), (-2, "item out of"), (-1, "after its padding")])
def test_lists_of_a_shadow_pool(item: int, words: str) -> None:
    lists = shadow_pool().lists.copy()
    lists[2, 1, 0] = item
    with pytest.raises(ProtocolError, match=f"shadow 2: the list of user 1 .*{words}"):
        replace(shadow_pool(), lists=lists)


def test_an_item_twice_in_a_shadow_pool() -> None:
    lists = shadow_pool().lists.copy()
    lists[3, 0, 0] = lists[3, 0, 1]
    with pytest.raises(ProtocolError, match="shadow 3: the list of user 0 holds an item twice"):
        replace(shadow_pool(), lists=lists)


def test_lists_of_a_shadow_pool_must_be_int32() -> None:
    with pytest.raises(ProtocolError, match="int64"):
        replace(shadow_pool(), lists=shadow_pool().lists.astype(np.int64))
    with pytest.raises(ProtocolError, match=r"int32\[4, 3\]"):
        replace(shadow_pool(), lists=shadow_pool().lists[:, :, 0])

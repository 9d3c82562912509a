"""Queries: what parts of a history are asked with and hidden, and that they know nothing of membership."""

from __future__ import annotations

from itertools import pairwise
from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmia import Interactions
from recmia.errors import ConfigError, DataError, ProtocolError
from recmia.game.queries import (
    LEAST_KNOWN,
    draw_blocks,
    draw_prefixes,
    draw_queries,
    hidden_places,
    join_queries,
    known_part,
)
from recmia.observation import Queries

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=8)


def histories(lengths: list[int]) -> Interactions:
    user = np.repeat(np.arange(len(lengths)), lengths)
    item = np.concatenate([np.arange(length) * 2 + u for u, length in enumerate(lengths)])
    return Interactions.from_arrays(user, item, 1.0 + user % 3 + item % 2)


@given(LENGTHS, st.integers(0, 8).map(lambda half: 2 * half), st.sampled_from([0.1, 0.3, 0.5, 0.9]), st.integers(0, 99))
def test_every_query_parts_a_history_in_two(lengths: list[int], n: int, share: float, seed: int) -> None:
    data = histories(lengths)
    queries = draw_queries(data, n, share, np.random.default_rng(seed))
    whole = data.csr()[queries.user]
    assert (queries.asked + queries.hidden - whole).nnz == 0
    assert (np.diff(queries.asked.indptr) > 0).all()
    assert (np.diff(queries.hidden.indptr) > 0).all()
    size = np.diff(queries.asked.indptr)
    counts = np.bincount(data.user)
    if share != 0.5:
        assert np.array_equal(size, np.clip(np.rint(share * counts), 1, np.maximum(counts - 1, 1))[queries.user])
    else:
        assert (np.abs(2 * size - counts[queries.user]) <= 1).all()


@given(LENGTHS, st.integers(0, 5).map(lambda half: 2 * half), st.integers(0, 99))
def test_halves_come_in_pairs_and_none_twice(lengths: list[int], n: int, seed: int) -> None:
    data = histories(lengths)
    queries = draw_queries(data, n, 0.5, np.random.default_rng(seed))
    assert (queries.asked[::2] - queries.hidden[1::2]).nnz == 0
    assert (queries.asked[1::2] - queries.hidden[::2]).nnz == 0
    for u, length in enumerate(lengths):
        own = queries.asked[queries.user == u].toarray()
        ways = comb(length, length // 2) if length > 1 else 0
        if length <= 8:
            # Of an odd number of items, each way and its complement are two queries.
            assert len(own) == min(n, ways if length % 2 == 0 else 2 * ways)
            assert len(np.unique(own, axis=0)) == len(own)
        else:
            assert len(own) == n


def test_queries_are_the_same_for_the_same_seed_and_others_for_another(small: Interactions) -> None:
    one, same, other = (draw_queries(small, 6, 0.5, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert one.fingerprint == same.fingerprint
    assert one.fingerprint != other.fingerprint
    assert len(one) == 6 * small.n_users


def test_each_item_is_hidden_half_of_the_time(small: Interactions) -> None:
    queries = draw_queries(small, 40, 0.5, np.random.default_rng(0))
    hidden = (queries.hidden > 0).sum(axis=0)
    asked = (queries.asked > 0).sum(axis=0)
    assert np.array_equal(hidden, asked)


@given(LENGTHS, st.floats(0.01, 1), st.integers(0, 99))
def test_the_known_part(lengths: list[int], share: float, seed: int) -> None:
    data = histories(lengths)
    known = known_part(data, share, np.random.default_rng(seed))
    counts = np.bincount(data.user)
    found = np.bincount(known.user, minlength=data.n_users)
    assert np.array_equal(found, np.minimum(np.maximum(np.rint(share * counts), LEAST_KNOWN), counts))
    assert ((known.csr() - data.csr()) > 0).nnz == 0
    assert known.users is data.users
    assert known.items is data.items


def test_queries_of_some_users_are_theirs_alone(small: Interactions) -> None:
    queries = draw_queries(small, 4, 0.5, np.random.default_rng(0))
    chosen, places = queries.take_users(np.array([7, 3]))
    assert chosen.user.tolist() == [0] * 4 + [1] * 4
    assert queries.user[places].tolist() == [7] * 4 + [3] * 4
    assert (chosen.asked - queries.asked[places]).nnz == 0
    both = join_queries(queries, chosen, small.n_users)
    assert both.user[-8:].tolist() == [small.n_users] * 4 + [small.n_users + 1] * 4


@pytest.mark.parametrize("fault", ["rows", "order", "both"])
def test_queries_that_are_none(small: Interactions, fault: str) -> None:
    queries = draw_queries(small, 2, 0.5, np.random.default_rng(0))
    with pytest.raises(ProtocolError, match=r"queries|query"):
        Queries(
            queries.user[::-1].copy() if fault == "order" else queries.user[: -1 if fault == "rows" else None],
            queries.asked,
            queries.asked if fault == "both" else queries.hidden,
        )


# ---- Blocks: every interaction is hidden once ----


@given(LENGTHS, st.integers(2, 12), st.integers(0, 99))
def test_blocks_hide_every_interaction_once(lengths: list[int], n: int, seed: int) -> None:
    data = histories(lengths)
    queries = draw_blocks(data, n, np.random.default_rng(seed))
    whole = data.csr()
    # What is not hidden in a block is asked with, ratings and all.
    assert (queries.asked + queries.hidden - whole[queries.user]).nnz == 0
    hidden = np.zeros(whole.shape)
    np.add.at(hidden, queries.user, queries.hidden.toarray())
    counts = np.bincount(data.user)
    assert np.array_equal(hidden[counts > 1], whole.toarray()[counts > 1])
    assert queries.hidden.nnz == counts[counts > 1].sum()
    assert (np.diff(queries.hidden.indptr) > 0).all()
    assert (np.diff(queries.asked.indptr) > 0).all()


@given(LENGTHS, st.integers(2, 12), st.integers(0, 99))
def test_blocks_are_as_many_and_as_even_as_can_be(lengths: list[int], n: int, seed: int) -> None:
    """A short history is hidden an item at a time, and of one item nothing is asked."""
    queries = draw_blocks(histories(lengths), n, np.random.default_rng(seed))
    for u, length in enumerate(lengths):
        sizes = np.diff(queries.hidden.indptr)[queries.user == u]
        assert len(sizes) == (min(n, length) if length > 1 else 0)
        assert np.ptp(sizes) <= 1 if length > 1 else True
    assert (np.diff(queries.user) >= 0).all()


@given(LENGTHS, st.integers(2, 12), st.integers(0, 99))
def test_places_of_hidden_interactions(lengths: list[int], n: int, seed: int) -> None:
    """The inverse of hiding: values at the places are the hidden ones, and every place is there once."""
    data = histories(lengths)
    queries = draw_blocks(data, n, np.random.default_rng(seed))
    places = hidden_places(data, queries)
    assert np.array_equal(data.item[places], queries.hidden.indices)
    assert np.array_equal(data.user[places], np.repeat(queries.user, np.diff(queries.hidden.indptr)))
    assert np.array_equal(data.value[places], queries.hidden.data)
    counts = np.bincount(data.user)
    assert np.array_equal(np.sort(places), np.flatnonzero(counts[data.user] > 1))


def test_blocks_are_the_same_for_the_same_seed_and_others_for_another(small: Interactions) -> None:
    one, same, other = (draw_blocks(small, 10, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert one.fingerprint == same.fingerprint
    assert one.fingerprint != other.fingerprint
    lengths = np.bincount(small.user)
    assert len(one) == np.minimum(10, lengths).sum()
    assert one.hidden.nnz == len(small)


def test_blocks_are_drawn_at_random(small: Interactions) -> None:
    """Two interactions of a user are hidden together as often as chance has it."""
    first = np.flatnonzero(small.user == 0)[:2]
    together = 0
    for seed in range(300):
        queries = draw_blocks(small.restrict(np.arange(1)), 4, np.random.default_rng(seed))
        dense = queries.hidden.toarray()[:, small.item[first]] > 0
        together += int((dense[:, 0] & dense[:, 1]).any())
    assert abs(together / 300 - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 300)


def test_nobody_with_two_items_leaves_no_query() -> None:
    queries = draw_blocks(histories([1, 1, 1]), 3, np.random.default_rng(0))
    assert (len(queries), queries.hidden.shape[1]) == (0, 3)
    assert len(hidden_places(histories([1, 1, 1]), queries)) == 0


# ---- In the order of events ----


def in_order(seed: int = 0) -> Interactions:
    """Return users with 1 to 12 events of 9 items, with repeats and ties."""
    rng = np.random.default_rng(seed)
    lengths = np.arange(1, 13)
    user = np.repeat(np.arange(len(lengths)), lengths)
    return Interactions.from_arrays(user, rng.integers(9, size=len(user)), time=rng.integers(6, size=len(user)))


def rows_of(matrix: Any) -> list[list[int]]:
    ends = matrix.indptr
    return [matrix.indices[start:stop].tolist() for start, stop in pairwise(ends)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["parts", "prefixes", "blocks"])
def test_queries_in_order_ask_with_the_same_items(seed: int, kind: str) -> None:
    data, rng = in_order(seed), np.random.default_rng(seed)
    queries = {
        "parts": lambda: draw_queries(data, 6, 0.5, rng),
        "prefixes": lambda: draw_prefixes(data, 6, rng),
        "blocks": lambda: draw_blocks(data, 3, rng),
    }[kind]()
    assert queries.sequences is not None
    whole = rows_of(data.sequences())
    for user, asked, sequence in zip(queries.user, rows_of(queries.asked), rows_of(queries.sequences), strict=True):
        assert sorted(set(sequence)) == asked
        if kind != "prefixes":
            assert sequence == [item for item in whole[user] if item in set(asked)]


@pytest.mark.parametrize("seed", range(5))
def test_a_prefix_hides_the_next_new_item(seed: int) -> None:
    data = in_order(seed)
    queries = draw_prefixes(data, 4, np.random.default_rng(seed))
    assert queries.sequences is not None
    whole = rows_of(data.sequences())
    found: dict[int, list[int]] = {}
    for user, sequence, hidden in zip(
        queries.user.tolist(), rows_of(queries.sequences), rows_of(queries.hidden), strict=True
    ):
        cut = len(sequence)
        assert sequence == whole[user][:cut]
        assert hidden == [whole[user][cut]]
        assert hidden[0] not in sequence
        found.setdefault(user, []).append(cut)
    for user, items in enumerate(whole):
        places = [place for place in range(1, len(items)) if items[place] not in items[:place]]
        cuts = found.get(user, [])
        assert len(set(cuts)) == len(cuts) == min(4, len(places))
        assert set(cuts) <= set(places)


def test_prefixes_need_an_order() -> None:
    with pytest.raises(DataError, match="the order of the interactions is needed and not known"):
        draw_prefixes(Interactions.from_arrays([1, 1], [1, 2]), 2, np.random.default_rng(0))


def test_a_system_that_needs_the_order_is_not_asked_without() -> None:
    queries = draw_queries(Interactions.from_arrays([1, 1], [1, 2]), 2, 0.5, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="the order of what is asked with is not known"):
        queries.histories(in_order=True)


def test_queries_in_order_are_taken_and_joined_with_their_order() -> None:
    data = in_order()
    queries = draw_prefixes(data, 4, np.random.default_rng(0))
    some, places = queries.take_users(np.array([7, 3]))
    assert queries.sequences is not None
    assert some.sequences is not None
    assert rows_of(some.sequences) == [rows_of(queries.sequences)[place] for place in places]
    both = join_queries(queries, queries, data.n_users)
    assert both.sequences is not None
    assert rows_of(both.sequences) == 2 * rows_of(queries.sequences)
    assert queries.fingerprint_in_order != queries.fingerprint

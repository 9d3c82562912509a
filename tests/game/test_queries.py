"""Queries: what parts of a history are asked with and hidden, and that they know nothing of membership."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmia import Interactions
from recmia.errors import ProtocolError
from recmia.game.queries import LEAST_KNOWN, draw_queries, join_queries, known_part
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

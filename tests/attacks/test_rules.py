"""The rules that need no model, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

import recmia
from recmia import Interactions
from recmia.attacks import ATTACKS, RULES
from recmia.attacks.rules import (
    history_length,
    history_popularity,
    popular_overlap,
    recency,
    seen_in_list,
    shared_list,
)
from recmia.errors import ProtocolError
from recmia.observation import Items, Observation
from recmia.testing import planted_leak
from tests.attacks.helpers import MAKERS, OF_USERS


def hand_made() -> Observation:
    return Observation(
        histories=sparse.csr_array(np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 1, 1, 1]], np.float32)),
        lists=np.array([[2, 3], [2, 3], [0, -1]], np.int32),
        items=Items(np.zeros((4, 1)), np.ones(4, np.bool_), np.array([5, 1, 7, 3])),
        last_time=np.array([3.0, 1.0, 2.0]),
    )


def test_rules_by_hand() -> None:
    seen = hand_made()
    np.testing.assert_array_equal(shared_list(seen), [-1, -1, 0])
    np.testing.assert_array_equal(popular_overlap(seen), [-0.5, -0.5, -0.5])  # items 2 and 0 are the most popular
    np.testing.assert_array_equal(seen_in_list(seen), [0, -0.5, 0])
    np.testing.assert_array_equal(history_length(seen), [2, 1, 3])
    np.testing.assert_allclose(history_popularity(seen), [3, 7, 11 / 3])
    np.testing.assert_array_equal(recency(seen), [3, 1, 2])
    np.testing.assert_array_equal(recency(replace(seen, last_time=None)), 0)


def test_history_popularity_of_empty_histories() -> None:
    empty = replace(hand_made(), histories=sparse.csr_array(np.array([[0] * 4, [1, 0, 0, 0], [0] * 4], np.float32)))
    np.testing.assert_array_equal(history_popularity(empty), [0, 5, 0])


def test_rules_by_name_are_these_functions() -> None:
    seen = hand_made()
    functions = (shared_list, popular_overlap, seen_in_list, history_length, history_popularity, recency)
    names = [function.__name__.replace("_", "-") for function in functions]
    assert names == [name for name in RULES if name in OF_USERS and not ATTACKS[name].asks]
    for name, function in zip(names, functions, strict=True):
        np.testing.assert_array_equal(MAKERS[name]().score(seen), function(seen))


def test_twin() -> None:
    seen = planted_leak("none", np.random.default_rng(0))[0]
    same = replace(seen, as_stranger=seen.lists)
    assert ATTACKS["twin"].make({}).score(same).tolist() == [0.0] * len(seen)
    other = seen.lists.copy()
    other[3, :2] = other[3, 1::-1]
    found = ATTACKS["twin"].make({}).score(replace(seen, as_stranger=other))
    assert found[3] == 2 / seen.lists.shape[1]
    assert np.flatnonzero(found).tolist() == [3]
    with pytest.raises(ProtocolError, match="holds none"):
        ATTACKS["twin"].make({}).score(replace(seen, as_stranger=None))


@pytest.mark.parametrize(("recommender", "expected"), [("lfm", 1.0), ("ease", 0.5)])
def test_twin_beside_the_figures_of_trained(small: Interactions, recommender: str, expected: float) -> None:
    """A non-member is given its own list back; nobody is told where nothing is trained for single users."""
    result = recmia.audit(
        small, recommender=recommender, attacks=["distance"], regimes=["trained", "fold-in"], k=10, seeds=1, factors=8
    )
    aucs = {(row.regime, row.attack): row.value for row in result.metrics if row.metric == "auc"}
    assert aucs["trained", "twin"] == expected
    assert ("fold-in", "twin") not in aucs

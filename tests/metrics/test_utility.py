"""Recall and NDCG, by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import average_precision_score, ndcg_score

from recmia.errors import ConfigError, DataError, ProtocolError
from recmia.metrics import utility
from recmia.metrics.utility import coverage, novelty
from recmia.observation import held_out_hits


def held(*rows: list[int], n_items: int = 8) -> sparse.csr_array:
    user = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return sparse.csr_array((np.ones(len(user), np.float32), (user, np.concatenate(rows))), (len(rows), n_items))


def recall(shown: np.ndarray, wanted: sparse.csr_array, k: int) -> np.ndarray:
    return utility.recall(*held_out_hits(shown, wanted, k))


def ndcg(shown: np.ndarray, wanted: sparse.csr_array, k: int) -> np.ndarray:
    return utility.ndcg(*held_out_hits(shown, wanted, k))


def average_precision(shown: np.ndarray, wanted: sparse.csr_array, k: int) -> np.ndarray:
    return utility.average_precision(*held_out_hits(shown, wanted, k))


def lists(*rows: list[int]) -> np.ndarray:
    return np.array(rows, np.int32)


def test_by_hand() -> None:
    wanted = held([0, 1, 2, 3], [5], [7])
    shown = lists([0, 6, 1], [6, 7, 5], [7, -1, -1])
    np.testing.assert_allclose(recall(shown, wanted, 3), [0.5, 1, 1])
    np.testing.assert_allclose(recall(shown, wanted, 2), [0.25, 0, 1])
    ideal = 1 + 1 / np.log2(3) + 1 / 2
    np.testing.assert_allclose(ndcg(shown, wanted, 3), [1.5 / ideal, 1 / 2, 1])
    np.testing.assert_allclose(ndcg(shown, wanted, 1), [1, 0, 1])


def test_ndcg_is_scikit_learns(rng: np.random.Generator) -> None:
    scores = rng.random((30, 40))
    relevant = rng.random((30, 40)) < rng.random((30, 1))
    relevant[:, 0] = True
    shown = np.argsort(-scores, axis=1)[:, :15].astype(np.int32)
    expected = [ndcg_score(one[None], score[None], k=10) for one, score in zip(relevant, scores, strict=True)]
    np.testing.assert_allclose(ndcg(shown, sparse.csr_array(relevant.astype(np.float32)), 10), expected)


def test_average_precision_by_hand_and_as_scikit_learns(rng: np.random.Generator) -> None:
    wanted = held([0, 1, 2, 3], [5], [7])
    shown = lists([0, 6, 1], [6, 7, 5], [7, -1, -1])
    np.testing.assert_allclose(average_precision(shown, wanted, 3), [(1 + 2 / 3) / 3, 1 / 3, 1])
    np.testing.assert_allclose(average_precision(shown, wanted, 1), [1, 0, 1])
    # Over whole rankings, no cut-off is left in which the definitions differ.
    scores, relevant = rng.random((20, 30)), rng.random((20, 30)) < 0.3
    relevant[:, 0] = True
    ranked = np.argsort(-scores, axis=1).astype(np.int32)
    expected = [average_precision_score(one, score) for one, score in zip(relevant, scores, strict=True)]
    found = average_precision(ranked, sparse.csr_array(relevant.astype(np.float32)), 30)
    np.testing.assert_allclose(found, expected)


def test_novelty_counts_the_bits_of_rare_items() -> None:
    popularity = np.array([8, 4, 1, 0])
    found = novelty(lists([0, 1], [2, 3], [1, -1], [-1, -1]), popularity, 8, 2)
    np.testing.assert_allclose(found, [0.5, 3, 1, 0])
    np.testing.assert_allclose(novelty(lists([0, 1]), popularity, 8, 1), [0])


def test_coverage_is_of_all_lists_together() -> None:
    shown = lists([0, 1, 2], [1, 0, 3], [1, -1, -1])
    assert coverage(shown, 8, 2) == 2 / 8
    assert coverage(shown, 8, 3) == 4 / 8


def test_padding_is_no_hit_and_order_matters_for_ndcg_alone() -> None:
    wanted = held([0, 1], [0, 1])
    shown = lists([0, 4, -1], [4, 0, -1])
    first, second = ndcg(shown, wanted, 3)
    assert first > second
    np.testing.assert_array_equal(recall(shown, wanted, 3), 0.5)


def test_a_user_without_held_out_items_is_refused() -> None:
    wanted = sparse.csr_array(np.array([[1, 0], [0, 0], [0, 1]], np.float32))
    for measure in (ndcg, recall):
        with pytest.raises(DataError, match="1 of 3 users have no held-out item, the first is user 1"):
            measure(lists([0], [0], [1]), wanted, 1)


def test_bad_lists() -> None:
    with pytest.raises(ConfigError, match=r"1\.\.2, .* got 3"):
        recall(lists([0, 1]), held([1]), 3)
    with pytest.raises(ProtocolError, match="holds an item twice"):
        ndcg(lists([1, 1]), held([1]), 2)


def test_hits_by_hand() -> None:
    hits, counts = held_out_hits(lists([0, 6, 1], [6, 7, 5], [7, -1, -1]), held([0, 1, 2, 3], [5], [7]), 2)
    assert hits.tolist() == [[True, False], [False, False], [True, False]]
    assert counts.tolist() == [4, 1, 1]
    assert hits.dtype == np.bool_
    assert counts.dtype == np.int64

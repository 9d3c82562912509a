"""Matrix helpers against the plain way of doing the same."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from recmia.engine.matrices import (
    aligned_zeros,
    binary,
    count_in_rows,
    keep_columns,
    padded,
    row_items,
    whole_lanes,
)
from recmia.recommenders.neighbours import dense_product


@pytest.fixture
def histories(rng: np.random.Generator) -> sparse.csr_array:
    """With an empty row, and indices that are not sorted."""
    dense = rng.integers(1, 6, (9, 20)) * (rng.random((9, 20)) < 0.3)
    dense[4] = 0
    matrix = sparse.csr_array(dense.astype(np.float32))
    for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        matrix.indices[start:stop] = matrix.indices[start:stop][::-1].copy()
        matrix.data[start:stop] = matrix.data[start:stop][::-1].copy()
    matrix.has_sorted_indices = False
    return matrix


def test_binary(histories: sparse.csr_array) -> None:
    before = histories.toarray()
    found = binary(histories)
    np.testing.assert_array_equal(found.toarray(), before > 0)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(histories.toarray(), before)


def test_dense_product_is_scipy_s_to_the_bit(histories: sparse.csr_array, rng: np.random.Generator) -> None:
    right = sparse.csr_array((rng.random((20, 70)) * (rng.random((20, 70)) < 0.4)).astype(np.float32))
    found = dense_product(histories, right)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, (histories @ right).toarray())


def test_row_items(histories: sparse.csr_array) -> None:
    found = list(row_items(histories))
    assert [sorted(items.tolist()) for items in found] == [np.flatnonzero(row).tolist() for row in histories.toarray()]


def test_columns_of_some_items(histories: sparse.csr_array, rng: np.random.Generator) -> None:
    for items in (rng.random(20) < 0.5, np.zeros(20, np.bool_), np.ones(20, np.bool_)):
        dense = histories.toarray()
        kept = keep_columns(histories, items)
        assert isinstance(kept, sparse.csr_matrix)
        assert kept.shape == (9, items.sum())
        assert kept.indices.dtype == np.int32
        assert kept.data.dtype == np.float32
        np.testing.assert_array_equal(kept.toarray(), dense[:, items])
        np.testing.assert_array_equal(count_in_rows(histories, items), (dense[:, items] > 0).sum(axis=1))
        kept.data[:] = 7
        np.testing.assert_array_equal(histories.toarray(), dense, err_msg="it is a copy")


def test_padding(rng: np.random.Generator) -> None:
    vectors = rng.random((5, 7)).astype(np.float32)
    wide = padded(vectors, 8, 16)
    assert wide.shape == (5, 16)
    np.testing.assert_array_equal(wide[:, :7], vectors)
    assert not wide[:, 7:].any()
    assert [whole_lanes(width, 16) for width in (1, 16, 17)] == [16, 16, 32]


@pytest.mark.parametrize("n", [1, 3, 1000])
def test_aligned(n: int) -> None:
    zeros = aligned_zeros(n, 48)
    assert zeros.shape == (n, 48)
    assert zeros.ctypes.data % 64 == 0
    assert zeros.flags.c_contiguous
    assert not zeros.any()

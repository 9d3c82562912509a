"""Matrix helpers: histories as sparse rows, and dense matrices that are padded for SIMD.

A history is a row of a csr matrix, shape (n, n_items): one entry for each interaction of the user.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from scipy import sparse

from recmia.data.interactions import Bool, Float32, Int32, Int64

_CACHE_LINE = 16  # float32s in 64 bytes


def binary(matrix: sparse.csr_array | sparse.csr_matrix) -> sparse.csr_array:
    """Return the same entries with 1 for every value, float32.

    Examples
    --------
    >>> from scipy import sparse
    >>> binary(sparse.csr_array([[5.0, 0.0], [0.0, 3.0]])).toarray().tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return sparse.csr_array((np.ones(len(matrix.indices), np.float32), matrix.indices, matrix.indptr), matrix.shape)


def row_items(histories: sparse.csr_array | sparse.csr_matrix) -> Iterator[Int32]:
    """Yield the items of each history, in the order in which the matrix stores them.

    Examples
    --------
    >>> from scipy import sparse
    >>> [items.tolist() for items in row_items(sparse.csr_array([[5.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))]
    [[0, 2], []]
    """
    return (histories.indices[start:stop] for start, stop in pairwise(histories.indptr))


def count_in_rows(histories: sparse.csr_array, items: Bool) -> Int64:
    """Count the items of each history that belong to a set.

    Parameters
    ----------
    histories : csr_array, shape (n, n_items)
    items : bool, shape (n_items,)

    Returns
    -------
    int64, shape (n,)

    Examples
    --------
    >>> from scipy import sparse
    >>> count_in_rows(sparse.csr_array([[1, 1, 0], [0, 0, 1]]), np.array([True, False, True])).tolist()
    [1, 1]
    """
    return np.diff(_counted(histories, items)[histories.indptr])


def once_each(histories: sparse.csr_array) -> sparse.csr_array:
    """Return histories in order without it: indices sorted, and each item once.

    Examples
    --------
    >>> from scipy import sparse
    >>> once_each(sparse.csr_array((np.ones(3), np.array([2, 0, 2]), np.array([0, 3])), (1, 3))).indices.tolist()
    [0, 2]
    """
    once = histories.copy()
    once.sum_duplicates()
    return once


def keep_columns(histories: sparse.csr_array, items: Bool) -> sparse.csr_matrix:
    """Copy the columns of some items, which are numbered from 0.

    Parameters
    ----------
    histories : csr_array, shape (n, n_items)
    items : bool, shape (n_items,)

    Returns
    -------
    csr_matrix, shape (n, number of these items)
        A matrix and not an array, because other libraries ask for one. Indices are int32.

    Examples
    --------
    >>> from scipy import sparse
    >>> keep_columns(sparse.csr_array([[5.0, 0.0, 1.0]]), np.array([False, True, True])).toarray().tolist()
    [[0.0, 1.0]]
    """
    column = np.cumsum(items, dtype=np.int32) - 1
    kept = items[histories.indices]
    indptr = _counted(histories, items)[histories.indptr].astype(np.int32)
    shape = (histories.shape[0], int(items.sum()))
    return sparse.csr_matrix((histories.data[kept], column[histories.indices[kept]], indptr), shape)


def _counted(histories: sparse.csr_array, items: Bool) -> Int64:
    """How many of the first entries of a matrix, in the order of storage, belong to a set: int64, shape (nnz + 1,)."""
    return np.concatenate([[0], np.cumsum(items[histories.indices])])


def whole_lanes(width: int, lanes: int) -> int:
    """Round a width up to a multiple of `lanes`, so that a SIMD loop needs no remainder.

    Examples
    --------
    >>> whole_lanes(100, 32)
    128
    """
    return -(-width // lanes) * lanes


def padded(vectors: Float32, width: int, lanes: int) -> Float32:
    """Copy vectors into the first columns of a wider matrix of zeros.

    Parameters
    ----------
    vectors : float32, shape (n, at most width)
    width : int
        How many columns are needed.
    lanes : int
        The copy has `width` columns, rounded up to a multiple of this.

    Returns
    -------
    float32, shape (n, whole_lanes(width, lanes))

    Examples
    --------
    >>> padded(np.ones((1, 2), np.float32), 3, 4).tolist()
    [[1.0, 1.0, 0.0, 0.0]]
    """
    wide = np.zeros((len(vectors), whole_lanes(width, lanes)), np.float32)
    wide[:, : vectors.shape[1]] = vectors
    return wide


def aligned_zeros(n: int, width: int) -> Float32:
    """Return zeros, float32, shape (n, width), whose memory starts at the boundary of a cache line.

    Examples
    --------
    >>> aligned_zeros(3, 16).ctypes.data % 64
    0
    """
    memory = np.zeros(n * width + _CACHE_LINE, np.float32)
    skip = -(memory.ctypes.data // memory.itemsize) % _CACHE_LINE
    return memory[skip : skip + n * width].reshape(n, width)

r"""Nearest neighbours: items similar to those of the history, or what similar users have seen.

The similarity of two rows x and y is the cosine, with a shrinkage that lowers it where the support is small (Ferrari
Dacrema et al. 2021, "A troubling analysis of reproducibility and progress in recommender systems research", section
3.2):

.. math:: sim(x, y) = \frac{x^\top y}{|x|\,|y| + shrinkage}.

A row is an item's column of the training matrix (`ItemKNN`; Sarwar et al. 2001, section 3.2.1, without the
normalisation, which would hide popularity) or a user's history (`UserKNN`). With N the n most similar rows,

.. math:: s_{ui} = \sum_{j \in N(i)} sim(i, j)\, x_{uj} \quad\text{or}\quad
          s_{ui} = \sum_{v \in N(u)} sim(u, v)\, x_{vi}.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Self

import numpy as np
from scipy import sparse

from recmia.compiled import compiled
from recmia.data.interactions import Float32, Int32, Int64, Interactions
from recmia.engine.matrices import binary
from recmia.engine.ranking import GROUPS, largest
from recmia.recommenders.base import SCORES_IN_CACHE, Recommender
from recmia.settings.recommenders import NeighbourSettings

# Rows whose neighbours are found in one call, so that threads share the work.
_ROWS_AT_ONCE = 256


class ItemKNN(Recommender):
    """Item-based nearest neighbours.

    Parameters
    ----------
    settings : NeighbourSettings, optional
    threads : int
        How many threads search for neighbours and rank; no result depends on it.

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> data = Interactions.from_arrays(user=[1, 1, 2, 2, 3, 3], item=[10, 20, 10, 20, 20, 30])
    >>> model = ItemKNN().fit(data, rng=np.random.default_rng(0))
    >>> model.recommend(data.csr(), 1).tolist()
    [[2], [2], [0]]
    """

    def __init__(self, settings: NeighbourSettings | None = None, *, threads: int = 1) -> None:
        self.settings, self.threads = NeighbourSettings() if settings is None else settings, threads

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Find the neighbours of each item; see `Recommender.fit`."""
        items = _values(interactions.csr(), self.settings).T.tocsr()
        self._votes = _nearest(items, items, self.settings, skip_self=True, threads=self.threads).T.tocsr()
        self.trained_items = interactions.item_counts() > 0
        return self

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Return the sum of the similarities to the items of the history; see `Recommender.scores`."""
        self.fitted_items()
        return dense_product(_values(histories, self.settings), self._votes)

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Return the lists; see `Recommender.recommend`. Each thread holds the scores of a few users: about a MiB."""
        return self._rank(
            lambda rows: self.scores(histories[rows]), histories, k, exclude_seen,
            entries=SCORES_IN_CACHE, threads=self.threads,
        )  # fmt: skip


class UserKNN(Recommender):
    """User-based nearest neighbours; the neighbours are users of the fit.

    Parameters
    ----------
    settings : NeighbourSettings, optional
    threads : int
        How many threads search for neighbours and rank; no result depends on it.

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> data = Interactions.from_arrays(user=[1, 1, 2, 2, 3, 3], item=[10, 20, 10, 20, 20, 30])
    >>> model = UserKNN().fit(data, rng=np.random.default_rng(0))
    >>> model.recommend_members(data.csr(), 1).tolist()
    [[2], [2], [0]]
    """

    def __init__(self, settings: NeighbourSettings | None = None, *, threads: int = 1) -> None:
        self.settings, self.threads = NeighbourSettings() if settings is None else settings, threads

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Keep the histories of the users; see `Recommender.fit`."""
        self._users = _values(interactions.csr(), self.settings)
        self.trained_items = interactions.item_counts() > 0
        return self

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Return the votes of the users with the most similar histories; see `Recommender.scores`.

        A history does not say whose it is, so a user of the fit is one of its own neighbours here.
        """
        return dense_product(self._neighbours(histories, skip_self=False), self._users)

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Return the lists; see `Recommender.recommend`.

        In memory are the neighbours of all users and, for each thread, the scores of a few users: about a MiB.
        """
        return self._by_votes(histories, k, exclude_seen, skip_self=False)

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Return lists by the votes of the other users of the fit; see `Recommender.recommend_members`."""
        return self._by_votes(histories, k, exclude_seen, skip_self=True)

    def _by_votes(self, histories: sparse.csr_array, k: int, exclude_seen: bool, *, skip_self: bool) -> Int32:
        self.fitted_items(k)
        weights = self._neighbours(histories, skip_self=skip_self)
        return self._rank(
            lambda rows: dense_product(weights[rows], self._users), histories, k, exclude_seen,
            entries=SCORES_IN_CACHE, threads=self.threads,
        )  # fmt: skip

    def _neighbours(self, histories: sparse.csr_array, *, skip_self: bool) -> sparse.csr_array:
        values = _values(histories, self.settings)
        # An item that no user of the fit has seen says nothing about similarity, and must not lengthen the vector.
        values = sparse.csr_array((values.data * self.fitted_items()[values.indices], values.indices, values.indptr),
                                  shape=values.shape)  # fmt: skip
        return _nearest(values, self._users, self.settings, skip_self=skip_self, threads=self.threads)


def _values(histories: sparse.csr_array, settings: NeighbourSettings) -> sparse.csr_array:
    return binary(histories) if settings.binary else histories


def _nearest(
    rows: sparse.csr_array, others: sparse.csr_array, settings: NeighbourSettings, *, skip_self: bool, threads: int
) -> sparse.csr_array:
    """Find the most similar of the others for each row, ties by lower row.

    Beside the result, each thread holds a few numbers for each of the others.

    Parameters
    ----------
    rows : csr_array of float32, shape (n, m)
    others : csr_array of float32, shape (n_others, m)
    settings : NeighbourSettings
    skip_self : bool
        Row r and other r are the same user or item, which is not its own neighbour.
    threads : int
        How many threads search; the result does not depend on it.

    Returns
    -------
    csr_array of float32, shape (n, n_others)
        The similarities that are above 0, of the neighbours only.
    """
    length, other_length = (np.sqrt(part.power(2).sum(axis=1)) for part in (rows, others))
    indptr, columns = rows.indptr.astype(np.int64), others.T.tocsr()
    ends, n = columns.indptr.astype(np.int64), min(settings.neighbours, others.shape[0])

    def find(start: int) -> tuple[Float32, Int32, Int64]:
        return _nearest_rows(
            start, min(start + _ROWS_AT_ONCE, rows.shape[0]), indptr, rows.indices, rows.data, length,
            ends, columns.indices, columns.data, other_length, np.float32(settings.shrinkage), n, skip_self,
        )  # fmt: skip

    with ThreadPoolExecutor(threads) as pool:
        values, neighbours, counts = map(
            np.concatenate, zip(*pool.map(find, range(0, rows.shape[0], _ROWS_AT_ONCE)), strict=True)
        )
    starts = np.concatenate([[0], np.cumsum(counts)])
    return sparse.csr_array((values, neighbours, starts), (rows.shape[0], others.shape[0]))


@compiled(nogil=True)
def _nearest_rows(
    first: int, last: int, indptr: Int64, indices: Int32, data: Float32, length: Float32,
    ends: Int64, columns: Int32, column_data: Float32, other_length: Float32, shrinkage: np.float32, n: int,
    skip_self: bool,
) -> tuple[Float32, Int32, Int64]:  # fmt: skip
    """Find the n most similar of the others for the rows from first to last; see `_nearest`.

    Row by row, the products are summed in a dense vector (Gustavson 1978), which costs less than a list of the others
    that have a product: one pass over it compares many at once.

    Parameters
    ----------
    first, last : int
    indptr, indices, data
        The rows, by row.
    length : float32, shape (n_rows,)
    ends, columns, column_data
        The others, by column.
    other_length : float32, shape (n_others,)
    shrinkage : float32
    n : int
    skip_self : bool

    Returns
    -------
    values : float32
        The similarities, row after row. Votes are summed in the order within a row: the others in the reverse of the
        order in which the columns of the row lead to them; but those that tie with the least, of which some may have
        been left out, come last, by their row.
    neighbours : int32
    counts : int64, shape (last - first,)
    """
    n_others, tiny = len(other_length), np.finfo(np.float32).tiny
    # Only what is written takes memory.
    values, neighbours = np.empty((last - first) * n, np.float32), np.empty((last - first) * n, np.int32)
    counts, written = np.zeros(last - first, np.int64), 0
    dots, similar, wanted = np.zeros(n_others, np.float32), np.empty(n_others, np.float32), np.zeros(n_others, np.bool_)
    found, maxima = np.empty(n_others + 1, np.int32), np.empty(n * GROUPS, np.float32)
    for row in range(first, last):
        for a in range(indptr[row], indptr[row + 1]):
            value = data[a]
            for b in range(ends[indices[a]], ends[indices[a] + 1]):
                dots[columns[b]] += value * column_data[b]
        met = 0
        for other in range(n_others):
            met += dots[other] != 0
            similar[other] = dots[other] / max(length[row] * other_length[other] + shrinkage, tiny)
            dots[other] = 0
        if skip_self:
            similar[row] = 0
        kept = found[: largest(similar, n, np.float32(0), maxima, found)]
        # What ties with the least is known to be so only if something was left out.
        least = similar[kept].min() if len(kept) == n and met > n else np.float32(0)
        place = written + (similar[kept] > least).sum()
        counts[row - first], level, a = len(kept), place, indptr[row]
        for other in kept:
            wanted[other] = similar[other] > least
            if not wanted[other]:
                values[level], neighbours[level] = least, other
                level += 1
        while place > written:
            for b in range(ends[indices[a]], ends[indices[a] + 1]):
                other = columns[b]
                if wanted[other]:
                    place -= 1
                    values[place], neighbours[place] = similar[other], other
                    wanted[other] = False
            a += 1
        written += len(kept)
    return values[:written].copy(), neighbours[:written].copy(), counts


def dense_product(left: sparse.csr_array, right: sparse.csr_array) -> Float32:
    """Return the product of two sparse matrices as a dense one.

    Other threads run meanwhile. Nothing but the result takes memory.

    Parameters
    ----------
    left : csr_array of float32, shape (n, m)
    right : csr_array of float32, shape (m, n_items)

    Returns
    -------
    float32, shape (n, n_items)
        The terms of a sum are added in the order in which `left` stores them, as SciPy does.

    Examples
    --------
    >>> from scipy import sparse
    >>> left, right = sparse.csr_array([[1, 2]], dtype=np.float32), sparse.csr_array([[3, 0], [0, 5]], dtype=np.float32)
    >>> dense_product(left, right).tolist()
    [[3.0, 10.0]]
    """
    product = np.zeros((left.shape[0], right.shape[1]), np.float32)
    _add_product(left.indptr, left.indices, left.data, right.indptr, right.indices, right.data, product)
    return product


@compiled(nogil=True)
def _add_product(
    indptr: Int32, indices: Int32, data: Float32, ends: Int32, columns: Int32, values: Float32, product: Float32
) -> None:  # fmt: skip
    """Add the product of two csr matrices, of which the second has `ends`, `columns` and `values`."""
    for row in range(len(product)):
        for a in range(indptr[row], indptr[row + 1]):
            for b in range(ends[indices[a]], ends[indices[a] + 1]):
                product[row, columns[b]] += data[a] * values[b]

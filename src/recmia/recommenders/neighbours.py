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

from itertools import pairwise
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.data.interactions import Float32, Int32, Interactions
from recmia.engine.matrices import binary
from recmia.recommenders.base import Recommender
from recmia.settings.recommenders import NeighbourSettings

# Similarities held at once, at most.
_PAIRS_AT_ONCE = 2**24


class ItemKNN(Recommender):
    """Item-based nearest neighbours.

    Parameters
    ----------
    settings : NeighbourSettings, optional

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> data = Interactions.from_arrays(user=[1, 1, 2, 2, 3, 3], item=[10, 20, 10, 20, 20, 30])
    >>> model = ItemKNN().fit(data, rng=np.random.default_rng(0))
    >>> model.recommend(data.csr(), 1).tolist()
    [[2], [2], [0]]
    """

    def __init__(self, settings: NeighbourSettings | None = None) -> None:
        self.settings = NeighbourSettings() if settings is None else settings

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Find the neighbours of each item; see `Recommender.fit`."""
        items = _values(interactions.csr(), self.settings).T.tocsr()
        self._votes = _nearest(items, items, self.settings, skip_self=True).T.tocsr()
        self.trained_items = interactions.item_counts() > 0
        return self

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Return the sum of the similarities to the items of the history; see `Recommender.scores`."""
        self.fitted_items()
        return (_values(histories, self.settings) @ self._votes).toarray()


class UserKNN(Recommender):
    """User-based nearest neighbours; the neighbours are users of the fit.

    Parameters
    ----------
    settings : NeighbourSettings, optional

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> data = Interactions.from_arrays(user=[1, 1, 2, 2, 3, 3], item=[10, 20, 10, 20, 20, 30])
    >>> model = UserKNN().fit(data, rng=np.random.default_rng(0))
    >>> model.recommend_members(data.csr(), 1).tolist()
    [[2], [2], [0]]
    """

    def __init__(self, settings: NeighbourSettings | None = None) -> None:
        self.settings = NeighbourSettings() if settings is None else settings

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Keep the histories of the users; see `Recommender.fit`."""
        self._users = _values(interactions.csr(), self.settings)
        self.trained_items = interactions.item_counts() > 0
        return self

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Return the votes of the users with the most similar histories; see `Recommender.scores`.

        A history does not say whose it is, so a user of the fit is one of its own neighbours here.
        """
        return (self._neighbours(histories) @ self._users).toarray()

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Return lists by the votes of the other users of the fit; see `Recommender.recommend_members`."""
        self.fitted_items(k)
        weights = self._neighbours(histories, skip_self=True)
        return self._rank(lambda rows: (weights[rows] @ self._users).toarray(), histories, k, exclude_seen)

    def _neighbours(self, histories: sparse.csr_array, *, skip_self: bool = False) -> sparse.csr_array:
        values = _values(histories, self.settings)
        # An item that no user of the fit has seen says nothing about similarity, and must not lengthen the vector.
        values = sparse.csr_array((values.data * self.fitted_items()[values.indices], values.indices, values.indptr),
                                  shape=values.shape)  # fmt: skip
        return _nearest(values, self._users, self.settings, skip_self=skip_self)


def _values(histories: sparse.csr_array, settings: NeighbourSettings) -> sparse.csr_array:
    return binary(histories) if settings.binary else histories


def _nearest(
    rows: sparse.csr_array, others: sparse.csr_array, settings: NeighbourSettings, *, skip_self: bool
) -> sparse.csr_array:
    """Find the most similar of the others for each row, ties by lower row.

    Parameters
    ----------
    rows : csr_array of float32, shape (n, m)
    others : csr_array of float32, shape (n_others, m)
    settings : NeighbourSettings
    skip_self : bool
        Row r and other r are the same user or item, which is not its own neighbour.

    Returns
    -------
    csr_array of float32, shape (n, n_others)
        The similarities that are above 0, of the neighbours only.
    """
    length, other_length = (np.sqrt(part.power(2).sum(axis=1)) for part in (rows, others))
    transposed = others.T.tocsr()
    values, columns, counts = [], [], []
    step = max(1, _PAIRS_AT_ONCE // others.shape[0])
    for start in range(0, rows.shape[0], step):
        dots = rows[start : start + step] @ transposed
        for row, (first, last) in enumerate(pairwise(dots.indptr), start):
            column = dots.indices[first:last]
            scale = length[row] * other_length[column] + np.float32(settings.shrinkage)
            value = dots.data[first:last] / np.maximum(scale, np.finfo(np.float32).tiny)
            if skip_self:
                value[column == row] = 0
            best = _largest(value, column, settings.neighbours)
            values.append(value[best])
            columns.append(column[best])
            counts.append(len(best))
    ends = np.concatenate([[0], np.cumsum(counts)])
    return sparse.csr_array((np.concatenate(values), np.concatenate(columns), ends), (len(counts), others.shape[0]))


def _largest(value: Float32, column: Int32, n: int) -> npt.NDArray[np.int64]:
    """Positions of the n largest values, or of as many as are above 0, ties by lower column."""
    least = np.partition(value, -n)[-n] if len(value) > n else 0
    above = np.flatnonzero(value > max(least, 0))
    if least <= 0:
        return above
    level = np.flatnonzero(value == least)
    return np.concatenate([above, level[np.argsort(column[level])][: n - len(above)]])

r"""EASE, the shallow linear autoencoder in closed form (Steck 2019, "Embarrassingly shallow autoencoders").

With X the users by items matrix of zeros and ones, the item weights B minimise

.. math:: |X - X B|_F^2 + \lambda |B|_F^2 \quad\text{with}\quad B_{jj} = 0,

whose solution is (eq. 8), with :math:`P = (X^\top X + \lambda I)^{-1}`,

.. math:: B_{ij} = -P_{ij} / P_{jj} \quad (i \ne j), \qquad s_u = x_u B.

Where there are fewer users than items, P is never formed. By the Woodbury identity, with
:math:`A = X X^\top + \lambda I`,

.. math:: P = (I - X^\top A^{-1} X) / \lambda, \qquad
          s_{uj} = x_{uj} - \frac{x_{uj} - z_{uj}}{1 - d_j}, \qquad
          z_u = x_u X^\top A^{-1} X, \quad d_j = X_j^\top A^{-1} X_j,

where X_j is column j: two thin products per user, and a matrix of users by users in memory.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from recmia.blas import one_blas_thread
from recmia.compiled import compiled
from recmia.data.interactions import Float32, Int32, Int64, Interactions
from recmia.engine.matrices import binary, keep_columns
from recmia.recommenders.base import Recommender
from recmia.settings.recommenders import EASESettings

Float64 = npt.NDArray[np.float64]

# Items of the users by items product that are in memory at once.
_ITEMS_AT_ONCE = 4096
# Scores of a block of users, and how many sums run side by side.
_SCORES_AT_ONCE = 2**20
_LANES = 32


class EASE(Recommender):
    """Item weights in closed form; ratings are ignored.

    It keeps 8 bytes for each pair of trained items, or of users if these are fewer: 0.8 GB for 10,000. `fit` holds four
    times as much.

    Parameters
    ----------
    settings : EASESettings, optional
    threads : int
        How many threads rank; no result depends on it.

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> data = Interactions.from_arrays(user=[1, 1, 2, 2, 3, 3], item=[10, 20, 10, 20, 20, 30])
    >>> EASE(EASESettings(regularisation=1)).fit(data, rng=np.random.default_rng(0)).recommend(data.csr(), 1).tolist()
    [[2], [2], [0]]
    """

    def __init__(self, settings: EASESettings | None = None, *, threads: int = 1) -> None:
        self.settings, self.threads = EASESettings() if settings is None else settings, threads

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Solve for the weights, in the form that needs the smaller matrix; see `Recommender.fit`."""
        trained_items, users = interactions.item_counts() > 0, binary(interactions.csr())
        self._users = users
        self._weights: Float64 | None = None
        if users.shape[0] < trained_items.sum():
            self._inverse = self._inverted(users @ users.T)
            self._items = items = users.T.tocsr()
            d = [
                items[first : first + _ITEMS_AT_ONCE].multiply(items[first : first + _ITEMS_AT_ONCE] @ self._inverse)
                for first in range(0, len(trained_items), _ITEMS_AT_ONCE)
            ]
            self._rest = 1 - np.concatenate([part.sum(axis=1) for part in d])
        else:
            P = self._inverted(users[:, trained_items].T @ users[:, trained_items])
            P /= -np.diag(P)
            np.fill_diagonal(P, 0)
            self._weights = _in_tiles(P)
        self.trained_items = trained_items
        return self

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Return the product of the history and the weights; see `Recommender.scores`."""
        trained_items, seen = self.fitted_items(), binary(histories)
        if self._weights is not None:
            own, scores = keep_columns(seen, trained_items), np.zeros(histories.shape, np.float32)
            _sum_weights(own.indptr, own.indices, self._weights, np.flatnonzero(trained_items), scores)
            return scores
        shares = ((seen @ self._users.T) @ self._inverse).T
        scores = seen.toarray()
        _subtract_shares(self._items.indptr, self._items.indices, _in_tiles(shares), self._rest, scores)
        return scores

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Return the lists; see `Recommender.recommend`.

        Beside the weights, or the matrix of users by users (float64), each thread holds the scores of some users: a few
        MiB.
        """
        return self._rank(
            lambda rows: self.scores(histories[rows]), histories, k, exclude_seen,
            entries=_SCORES_AT_ONCE, threads=self.threads,
        )  # fmt: skip

    def _inverted(self, gram: sparse.csr_array) -> Float64:
        system = gram.toarray().astype(np.float64)
        system[np.diag_indices_from(system)] += self.settings.regularisation
        # A product that BLAS splits among its own threads differs in its last bits from an unsplit one.
        with one_blas_thread():
            return linalg.cho_solve(linalg.cho_factor(system), np.eye(len(system)))


def _in_tiles(matrix: Float64) -> Float64:
    """Copy a matrix, (n, m), so that some columns at a time lie together: (n_tiles, n, _LANES), padded with zeros."""
    tiles = np.zeros((-(-matrix.shape[1] // _LANES), len(matrix), _LANES))
    for tile, first in enumerate(range(0, matrix.shape[1], _LANES)):
        part = matrix[:, first : first + _LANES]
        tiles[tile, :, : part.shape[1]] = part
    return tiles


@compiled(nogil=True)
def _sum_weights(indptr: Int32, indices: Int32, weights: Float64, columns: Int64, scores: Float32) -> None:
    """Write the sum of the weights of each history to the columns of `scores`.

    A few columns at a time, so that their weights stay in the cache for all users.

    Parameters
    ----------
    indptr, indices
        The histories, trained items only.
    weights : float64, shape (n_tiles, n_trained, _LANES)
        As `_in_tiles` makes them.
    columns : int64, shape (n_trained,)
    scores : float32, shape (n, n_items)
    """
    total = np.empty(_LANES)
    for tile in range(len(weights)):
        first = tile * _LANES
        for u in range(len(scores)):
            total[:] = 0
            for a in range(indptr[u], indptr[u + 1]):
                part = weights[tile, indices[a]]
                for lane in range(len(part)):
                    total[lane] += part[lane]
            for lane in range(min(_LANES, len(columns) - first)):
                scores[u, columns[first + lane]] = total[lane]


@compiled(nogil=True)
def _subtract_shares(indptr: Int32, indices: Int32, shares: Float64, rest: Float64, scores: Float32) -> None:
    r"""Replace x by the module's s, where z is the sum of the shares of an item's users.

    Parameters
    ----------
    indptr, indices
        The users of each item.
    shares : float64, shape (n_tiles, n_users, _LANES)
        :math:`A^{-1} X x_u^\top` of each user u whose scores they are, as `_in_tiles` makes them.
    rest : float64, shape (n_items,)
        :math:`1 - d`.
    scores : float32, shape (n, n_items)
        x on entry, s on return.
    """
    z = np.empty(_LANES)
    for tile in range(len(shares)):
        first = tile * _LANES
        for item in range(len(rest)):
            z[:] = 0
            for a in range(indptr[item], indptr[item + 1]):
                part = shares[tile, indices[a]]
                for lane in range(len(part)):
                    z[lane] += part[lane]
            for lane in range(min(_LANES, len(scores) - first)):
                x = np.float64(scores[first + lane, item])
                scores[first + lane, item] = x - (x - z[lane]) / rest[item]

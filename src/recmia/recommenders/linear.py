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
from recmia.data.interactions import Float32, Interactions
from recmia.engine.matrices import binary
from recmia.recommenders.base import Recommender
from recmia.settings.recommenders import EASESettings

Float64 = npt.NDArray[np.float64]

# Items of the users by items product that are in memory at once.
_ITEMS_AT_ONCE = 4096


class EASE(Recommender):
    """Item weights in closed form; ratings are ignored.

    Parameters
    ----------
    settings : EASESettings, optional

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> data = Interactions.from_arrays(user=[1, 1, 2, 2, 3, 3], item=[10, 20, 10, 20, 20, 30])
    >>> EASE(EASESettings(regularisation=1)).fit(data, rng=np.random.default_rng(0)).recommend(data.csr(), 1).tolist()
    [[2], [2], [0]]
    """

    def __init__(self, settings: EASESettings | None = None) -> None:
        self.settings = EASESettings() if settings is None else settings

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Solve for the weights, in the form that needs the smaller matrix; see `Recommender.fit`."""
        trained_items, users = interactions.item_counts() > 0, binary(interactions.csr())
        self._users = users
        self._weights: Float64 | None = None
        if users.shape[0] < trained_items.sum():
            self._inverse = self._inverted(users @ users.T)
            items = users.T.tocsr()
            d = [
                items[first : first + _ITEMS_AT_ONCE].multiply(items[first : first + _ITEMS_AT_ONCE] @ self._inverse)
                for first in range(0, len(trained_items), _ITEMS_AT_ONCE)
            ]
            self._rest = 1 - np.concatenate([part.sum(axis=1) for part in d])
        else:
            P = self._inverted(users[:, trained_items].T @ users[:, trained_items])
            self._weights = -P / np.diag(P)
            np.fill_diagonal(self._weights, 0)
        self.trained_items = trained_items
        return self

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Return the product of the history and the weights; see `Recommender.scores`."""
        trained_items, seen = self.fitted_items(), binary(histories)
        if self._weights is not None:
            scores = np.zeros(histories.shape, np.float32)
            scores[:, trained_items] = seen[:, trained_items] @ self._weights
            return scores
        z = (self._users.T @ ((seen @ self._users.T) @ self._inverse).T).T
        x = seen.toarray()
        return (x - (x - z) / self._rest).astype(np.float32)

    def _inverted(self, gram: sparse.csr_array) -> Float64:
        system = gram.toarray().astype(np.float64)
        system[np.diag_indices_from(system)] += self.settings.regularisation
        # A product that BLAS splits among its own threads differs in its last bits from an unsplit one.
        with one_blas_thread():
            return linalg.cho_solve(linalg.cho_factor(system), np.eye(len(system)))

r"""The latent factor model, the paper's recommender.

Training is `recmia.factorization`. A user that the model never saw, or whose trained vector is not to be used, is
folded in: with the item vectors Q frozen, p_u is the exact minimiser of the training objective. Explicit:

.. math:: (Q_H^\top Q_H + \lambda |H| I)\, p = Q_H^\top (r - \mu - b_H)

over the history H. Implicit: every unseen item has r = 0 at the expected number of times it is sampled,
:math:`w_0 = n_{neg} |H| / (n_{items} - |H|)`, so that

.. math:: (Q_H^\top Q_H + w_0 (Q^\top Q - Q_H^\top Q_H) + \lambda |H| (1 + n_{neg}) I)\, p = Q_H^\top 1,

where :math:`Q^\top Q` is computed once, and each sample brings its own :math:`\lambda |p|^2`.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy import linalg, sparse

from recmia.errors import NotFittedError
from recmia.factorization import Factors, SGDSettings, factorize
from recmia.interactions import Float32, Interactions
from recmia.recommenders.base import Recommender


class LFM(Recommender):
    """Latent factor model by SGD.

    Parameters
    ----------
    settings : SGDSettings
    l : int
        Latent dimension.

    Attributes
    ----------
    factors : Factors
        Set by `fit`.
    """

    def __init__(self, settings: SGDSettings | None = None, *, l: int = 100) -> None:  # noqa: E741
        self.settings = SGDSettings() if settings is None else settings
        self.l = l
        self._factors: Factors | None = None

    @property
    def factors(self) -> Factors:
        """The trained factors; NotFittedError before `fit`."""
        if self._factors is None:
            raise NotFittedError("this LFM has no factors before fit")
        return self._factors

    @property
    def user_vectors(self) -> Float32:
        """The trained p_u of the users of the fit, float32, shape (n_users, l)."""
        return self.factors.user

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Train on these interactions; row u of `factors.user` is their user u."""
        self._factors = factorize(interactions, self.settings, l=self.l, rng=rng)
        self.known = self._factors.known
        return self

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Score all items by fold-in; see `Recommender.scores`."""
        return self.score_vectors(self.fold_in(histories))

    def score_vectors(self, user_vectors: Float32) -> Float32:
        """Score all items for given user vectors, float32, shape (n, n_items), up to a constant a user."""
        return user_vectors @ self.factors.item.T + self.factors.item_bias

    def fold_in(self, histories: sparse.csr_array) -> Float32:
        """Solve the user vectors for the given histories, float32, shape (n, l).

        Items that the model does not know are left out; a history without a known item gives the zero vector, whose
        list is the item biases' (all ties without biases).
        """
        factors, settings = self.factors, self.settings
        Q = factors.item.astype(np.float64)
        implicit = settings.feedback == "implicit"
        if settings.bias:
            Q = np.column_stack([Q, np.ones(len(Q))])  # the last unknown is then b_u
        gram = Q.T @ Q if implicit else np.zeros((Q.shape[1], Q.shape[1]))
        n_known = int(factors.known.sum())
        vectors = np.zeros((histories.shape[0], Q.shape[1]))
        for row in range(len(vectors)):
            entries = slice(histories.indptr[row], histories.indptr[row + 1])
            items, values = histories.indices[entries], histories.data[entries]
            mask = factors.known[items]
            items, values = items[mask], values[mask]
            if len(items) == 0:
                continue
            seen = Q[items]
            own = seen.T @ seen
            penalty = settings.regularisation * len(items)
            if implicit:
                n_unseen = n_known - len(items)
                weight = settings.n_negatives * len(items) / n_unseen if n_unseen else 0.0
                system, target = own + weight * (gram - own), seen.sum(axis=0)
                penalty *= 1 + (settings.n_negatives if n_unseen else 0)
            else:
                system, target = own, seen.T @ (values - factors.mean - factors.item_bias[items])
            # A little ridge keeps the system solvable at lambda = 0, where the minimiser need not be unique.
            system[np.diag_indices_from(system)] += max(penalty, 1e-8)
            vectors[row] = linalg.solve(system, target, assume_a="pos")
        return vectors[:, : self.l].astype(np.float32)

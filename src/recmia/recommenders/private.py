r"""A latent factor model with differential privacy for whole users.

The model is :math:`\hat r_{ui} = b_i + p_u \cdot q_i`. Only the items' parameters :math:`\theta = [b\ Q]` are trained
and kept; a user's vector is solved from the history whenever it is needed, for members and non-members in the same way,

.. math:: (Q_H^\top Q_H + w_u (Q^\top Q - Q_H^\top Q_H) + \lambda |H| I)\, p_u
          = Q_H^\top (1 - b_H) - w_u (Q^\top b - Q_H^\top b_H), \qquad w_u = |H| / (n_{items} - |H|),

which gives all unseen items of a user together the weight of all seen ones. One step of training is (Abadi et al. 2016,
algorithm 1, with a user in place of an example, as in McMahan et al. 2018)

.. math:: \theta \leftarrow \theta + \frac{\eta}{q\,\tilde n} \Big( \sum_{u \in B}
          G_u \min(1, C / |G_u|_F) + \mathcal N(0, \sigma^2 C^2) \Big), \qquad G_u = e_u [1\ p_u]^\top,

where B contains each of the n users with probability q, and e_u is :math:`1 - \hat r_{ui}` for the items of the history
and :math:`-w_u \hat r_{ui}` for the others. The number of users is private as well, since the scale of the noise in
theta would reveal it, and with it whether one user more took part. So it is released once, with noise of its own,

.. math:: \tilde n = \max(n + \mathcal N(0, \tau^2),\ \tau), \qquad \tau = 4 \sigma.

Google's dp-accounting gives the noise multiplier sigma that keeps all steps and this release within (epsilon, delta).
The guarantee is for adding or removing one user with all interactions. It covers theta, and so any number of lists for
histories that are asked. It does not cover the catalogue of items, which is taken as public, an error of `fit` for a
delta that is too large for n, and the rounding of floating-point numbers (Mironov 2012).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.data.interactions import Float32, Interactions
from recmia.engine.matrices import binary, row_items
from recmia.errors import ConfigError, DivergedError, NotFittedError, import_extra
from recmia.recommenders.base import Recommender
from recmia.settings.defences import PrivacySettings

Float64 = npt.NDArray[np.float64]

# Users whose dense gradients are held at once.
_USERS_AT_ONCE = 256
# Tau over sigma: with 4, the release of the number of users takes at most 3% more noise in the steps.
_COUNT_NOISE = 4


class PrivateLFM(Recommender):
    """Latent factor model by DP-SGD over users; see the module for the equations.

    Parameters
    ----------
    epsilon : float
        Above 0.
    settings : PrivacySettings, optional

    Attributes
    ----------
    trained_items : bool, shape (n_items,)
        The whole catalogue: which items the members have seen is private.

    Raises
    ------
    ConfigError
        If epsilon is not above 0 and finite.
    """

    def __init__(self, epsilon: float, settings: PrivacySettings | None = None) -> None:
        if not 0 < epsilon < np.inf:
            raise ConfigError(f"epsilon must be above 0 and finite; got {epsilon}")
        self.epsilon = epsilon
        self.settings = PrivacySettings() if settings is None else settings

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Train the items' parameters with noise; see `Recommender.fit`.

        Raises
        ------
        ConfigError
            If delta is not below 1 / n_users: a guarantee that may fail for one whole user protects nobody.
        """
        settings, n = self.settings, interactions.n_users
        if settings.delta >= 1 / n:
            raise ConfigError(f"delta must lie below 1 / {n}, one over the number of members; got {settings.delta:g}")
        sigma = noise_multiplier(self.epsilon, settings)
        spread, counted = sigma * settings.clip, _noisy_count(n, sigma, rng)
        histories = binary(interactions.csr())
        n_items = interactions.n_items
        theta = np.hstack([np.zeros((n_items, 1)), 0.1 * rng.standard_normal((n_items, settings.factors))])
        for _ in range(settings.steps):
            sampled = np.flatnonzero(rng.random(n) < settings.sampling_rate)
            total = rng.normal(0, spread, theta.shape) if spread else np.zeros_like(theta)
            for start in range(0, len(sampled), _USERS_AT_ONCE):
                total += _clipped_gradients(theta, histories[sampled[start : start + _USERS_AT_ONCE]], settings)
            theta += settings.learning_rate / (settings.sampling_rate * counted) * total
        if not np.isfinite(theta).all():
            raise DivergedError(f"the private training diverged; lower dp.learning_rate ({settings.learning_rate:g})")
        self._theta, self.trained_items = theta, np.ones(n_items, np.bool_)
        return self

    @property
    def item_vectors(self) -> Float32:
        """The q_i, float32, shape (n_items, factors)."""
        if self.trained_items is None:
            raise NotFittedError("this PrivateLFM has no item vectors before fit")
        return self._theta[:, 1:].astype(np.float32)

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Return the scores of all items by fold-in; see `Recommender.scores`."""
        self.fitted_items()
        vectors = _solve(self._theta, binary(histories), self.settings.regularisation)
        scores = np.empty((len(vectors), len(self._theta)), np.float32)
        for row, vector in enumerate(vectors):
            # One product per user: in a joint one, the last bits of a row depend on the others.
            scores[row] = self._theta @ vector
        return scores


@lru_cache
def noise_multiplier(epsilon: float, settings: PrivacySettings) -> float:
    """Return sigma, the standard deviation of the noise over `clip`, that keeps the training within (epsilon, delta).

    It is computed by dp-accounting, from the privacy loss distribution of the sampled Gaussian mechanism, composed over
    the steps, and of the release of the number of users.

    Raises
    ------
    MissingExtraError
        Without dp-accounting.
    """
    accounting: Any = import_extra("dp_accounting", "dp")
    pld: Any = import_extra("dp_accounting.pld", "dp")

    def training(sigma: float) -> Any:
        step = accounting.GaussianDpEvent(sigma)
        if settings.sampling_rate < 1:
            step = accounting.PoissonSampledDpEvent(settings.sampling_rate, step)
        steps = accounting.SelfComposedDpEvent(step, settings.steps)
        return accounting.ComposedDpEvent([steps, accounting.GaussianDpEvent(_COUNT_NOISE * sigma)])

    def accountant() -> Any:
        # For a large epsilon, the grid that suits epsilon = 1 takes minutes; a coarser one errs towards more noise.
        return pld.PLDAccountant(value_discretization_interval=max(1e-4, epsilon / 1000))

    return float(accounting.calibrate_dp_mechanism(accountant, training, epsilon, settings.delta))


def _noisy_count(n: int, sigma: float, rng: np.random.Generator) -> float:
    """Return the number of users with noise, at least the standard deviation of that."""
    spread = _COUNT_NOISE * sigma
    return max(rng.normal(n, spread), spread)


def _clipped_gradients(theta: Float64, histories: sparse.csr_array, settings: PrivacySettings) -> Float64:
    """Sum of the users' clipped G_u, float64, shape (n_items, 1 + factors)."""
    vectors = _solve(theta, histories, settings.regularisation)
    lengths = np.diff(histories.indptr)
    error = -_unseen_weight(lengths, len(theta))[:, None] * (vectors @ theta.T)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    seen = np.einsum("nl,nl->n", vectors[rows], theta[histories.indices])
    error[rows, histories.indices] = 1 - seen
    # The Frobenius norm of an outer product is the product of the norms.
    length = np.linalg.norm(error, axis=1) * np.linalg.norm(vectors, axis=1)
    scale = np.minimum(1, settings.clip / np.maximum(length, np.finfo(np.float64).tiny))
    gradients: Float64 = error.T @ (scale[:, None] * vectors)
    return gradients


def _solve(theta: Float64, histories: sparse.csr_array, regularisation: float) -> Float64:
    """The users' [1 p_u], float64, shape (n, 1 + factors); p_u is 0 for an empty history."""
    bias, Q = theta[:, 0], theta[:, 1:]
    gram, target = Q.T @ Q, Q.T @ bias
    vectors = np.zeros((histories.shape[0], theta.shape[1]))
    vectors[:, 0] = 1
    weights = _unseen_weight(np.diff(histories.indptr), len(theta))
    for row, (items, weight) in enumerate(zip(row_items(histories), weights, strict=True)):
        if len(items):
            seen, seen_bias = Q[items], bias[items]
            system = weight * gram + (1 - weight) * (seen.T @ seen)
            system[np.diag_indices_from(system)] += regularisation * len(items)
            wanted = seen.T @ (1 - seen_bias) - weight * (target - seen.T @ seen_bias)
            vectors[row, 1:] = np.linalg.solve(system, wanted)
    return vectors


def _unseen_weight(lengths: npt.NDArray[np.integer], n_items: int) -> Float64:
    weight: Float64 = lengths / np.maximum(n_items - lengths, 1)
    return weight

r"""Matrix factorisation by stochastic gradient descent.

Two customers: the latent factor model (`recmia.recommenders.lfm`) and the attacker's item vectors (`recmia.vectors`).

Explicit feedback minimises, over the rated pairs,

.. math:: \sum_{(u,i)} (r_{ui} - \mu - b_u - b_i - p_u^\top q_i)^2 + \lambda (|p_u|^2 + |q_i|^2 + b_u^2 + b_i^2)

(the biases only with ``bias=True``; Koren, Bell and Volinsky 2009, eqs. 2 and 5). Implicit feedback has r = 1 for a
seen pair and, fresh in each epoch, ``n_negatives`` unseen items a seen pair with r = 0; no mean. One sample with error
e = r - r_hat moves, at learning rate :math:`\gamma`,

.. math:: p \leftarrow p + \gamma (e q - \lambda p), \qquad q \leftarrow q + \gamma (e p_{old} - \lambda q).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numba
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from recmia.errors import ConfigError, DataError, DivergedError
from recmia.interactions import Bool, Float32, Int32, Interactions

# Sums may be reordered for SIMD, but NaN and infinity keep their meaning: divergence must show.
_FASTMATH = {"reassoc", "contract", "arcp", "nsz"}
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class SGDSettings(BaseModel):
    """How to train the factors; the defaults are the paper's where it gives them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    feedback: Literal["explicit", "implicit"] = Field(
        "implicit", description="Fit the ratings (explicit), or seen against sampled unseen items (implicit)."
    )
    learning_rate: float = Field(0.01, gt=0, description="Step size of the SGD.")
    regularisation: float = Field(0.01, ge=0, description="Lambda, the weight of the squared norms.")
    epochs: int = Field(20, ge=1, description="Passes over the interactions.")
    n_negatives: int = Field(1, ge=1, description="Unseen items sampled per seen one (implicit only).")
    bias: bool = Field(False, description="Add a bias per user and per item (explicit only).")
    init_std: float = Field(0.1, gt=0, description="Standard deviation of the factors' normal start.")


@dataclass(frozen=True, eq=False)
class Factors:
    """A factorisation of a set of interactions.

    Parameters
    ----------
    user : float32, shape (n_users, l)
    item : float32, shape (n_items, l)
        Zero for an item without an interaction.
    user_bias : float32, shape (n_users,)
    item_bias : float32, shape (n_items,)
        Zero without ``bias=True``.
    mean : float
        The mean rating mu; 0 for implicit feedback.
    known : bool, shape (n_items,)
        Which items had an interaction, hence have a vector.
    """

    user: Float32
    item: Float32
    user_bias: Float32
    item_bias: Float32
    mean: float
    known: Bool

    def predict(self, user: Int32, item: Int32) -> Float32:
        """Return r_hat for pairs of rows, float32, shape (n,)."""
        predicted = np.einsum("nl,nl->n", self.user[user], self.item[item])
        predicted += self.user_bias[user] + self.item_bias[item] + np.float32(self.mean)
        return np.asarray(predicted, np.float32)


def factorize(interactions: Interactions, settings: SGDSettings, *, l: int, rng: np.random.Generator) -> Factors:  # noqa: E741
    """Factorise interactions into vectors of length `l`.

    Parameters
    ----------
    interactions : Interactions
    settings : SGDSettings
    l : int
        The latent dimension, at least 1.
    rng : numpy.random.Generator
        Draws the start, the order of the samples and the negatives.

    Returns
    -------
    Factors

    Raises
    ------
    ConfigError
        If ``l < 1``.
    DataError
        If explicit feedback is asked of data without ratings.
    DivergedError
        If a factor stops being finite.
    """
    if l < 1:
        raise ConfigError(f"l, the length of the vectors, must be at least 1; got {l}")
    explicit = settings.feedback == "explicit"
    if explicit and not interactions.rated:
        raise DataError(
            "explicit feedback needs ratings and these interactions have none; "
            "name the rating column, or train with feedback = 'implicit'"
        )
    known = interactions.item_counts() > 0
    P = rng.normal(0, settings.init_std, (interactions.n_users, l)).astype(np.float32)
    Q = rng.normal(0, settings.init_std, (interactions.n_items, l)).astype(np.float32)
    Q[~known] = 0
    factors = Factors(
        user=P,
        item=Q,
        user_bias=np.zeros(interactions.n_users, np.float32),
        item_bias=np.zeros(interactions.n_items, np.float32),
        mean=float(interactions.value.mean(dtype=np.float64)) if explicit else 0.0,
        known=known,
    )
    rate, reg = np.float32(settings.learning_rate), np.float32(settings.regularisation)
    known_items = np.flatnonzero(known).astype(np.int32)
    indptr = np.searchsorted(interactions.user, np.arange(interactions.n_users + 1)).astype(np.int64)
    for epoch in range(1, settings.epochs + 1):
        order = rng.permutation(len(interactions)).astype(np.int32)
        if explicit:
            _explicit_epoch(
                P, Q, factors.user_bias, factors.item_bias, settings.bias, np.float32(factors.mean),
                interactions.user, interactions.item, interactions.value, order, rate, reg,
            )  # fmt: skip
        else:
            key = rng.integers(2**64, dtype=np.uint64)
            _implicit_epoch(
                P, Q, interactions.user, interactions.item, indptr, known_items, order, rate, reg,
                settings.n_negatives, key,
            )  # fmt: skip
        if not (np.isfinite(P).all() and np.isfinite(Q).all() and np.isfinite(factors.item_bias).all()):
            raise DivergedError(
                f"the factors were no longer finite after epoch {epoch} of {settings.epochs} at learning rate "
                f"{settings.learning_rate:g} and regularisation {settings.regularisation:g}; lower the learning "
                f"rate (try {settings.learning_rate / 10:g}) or raise the regularisation"
            )
    return factors


@numba.njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _dot(p: Float32, q: Float32) -> np.float32:
    total = np.float32(0)
    for f in range(p.shape[0]):
        total += p[f] * q[f]
    return total


@numba.njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _step(p: Float32, q: Float32, error: np.float32, rate: np.float32, reg: np.float32) -> None:
    gain, keep = rate * error, np.float32(1) - rate * reg
    for f in range(p.shape[0]):
        old = p[f]
        p[f] = keep * old + gain * q[f]
        q[f] = keep * q[f] + gain * old


@numba.njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _explicit_epoch(
    P: Float32,
    Q: Float32,
    user_bias: Float32,
    item_bias: Float32,
    bias: bool,
    mean: np.float32,
    user: Int32,
    item: Int32,
    value: Float32,
    order: Int32,
    rate: np.float32,
    reg: np.float32,
) -> None:
    for n in order:
        u, i = user[n], item[n]
        error = value[n] - mean - user_bias[u] - item_bias[i] - _dot(P[u], Q[i])
        if bias:
            user_bias[u] += rate * (error - reg * user_bias[u])
            item_bias[i] += rate * (error - reg * item_bias[i])
        _step(P[u], Q[i], error, rate, reg)


@numba.njit(cache=True, nogil=True)
def _mix(state: np.uint64) -> np.uint64:
    """Splitmix64's finaliser: 64 well-mixed bits from a counter."""
    z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@numba.njit(cache=True, nogil=True)
def _contains(sorted_items: Int32, wanted: np.int32) -> bool:
    low, high = 0, len(sorted_items)
    while low < high:
        middle = (low + high) // 2
        if sorted_items[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low < len(sorted_items) and sorted_items[low] == wanted


@numba.njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _implicit_epoch(
    P: Float32,
    Q: Float32,
    user: Int32,
    item: Int32,
    indptr: npt.NDArray[np.int64],
    known_items: Int32,
    order: Int32,
    rate: np.float32,
    reg: np.float32,
    n_negatives: int,
    key: np.uint64,
) -> None:
    n_known = np.uint64(len(known_items))
    for n in order:
        u, i = user[n], item[n]
        _step(P[u], Q[i], np.float32(1) - _dot(P[u], Q[i]), rate, reg)
        seen = item[indptr[u] : indptr[u + 1]]
        if len(seen) == len(known_items):
            continue
        # A stream of its own for each interaction: the draws do not depend on the order of the visits.
        state = _mix(key ^ (np.uint64(n) * _GOLDEN))
        for _ in range(n_negatives):
            while True:
                state += _GOLDEN
                j = known_items[((_mix(state) >> np.uint64(32)) * n_known) >> np.uint64(32)]
                if not _contains(seen, j):
                    break
            _step(P[u], Q[j], -_dot(P[u], Q[j]), rate, reg)

"""Attacks that need no shadow recommender: they use item vectors of the attacker, and no labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import numpy as np
from threadpoolctl import threadpool_limits

from recmia.attacks.base import Attack, Bool, Float64, for_every_user
from recmia.attacks.vectors import user_vectors
from recmia.errors import NotFittedError
from recmia.observation import Observation, blocks

# Shorter distances are set to this one, which is zero up to rounding for item vectors of lengths near 1.
_NEAREST = 1e-9
# Most users that are clustered; with so many, the centres have an error of a few thousandths of the spread.
_CLUSTERED = 50_000


class Distance(Attack):
    r"""How much nearer the list is to the user's history than to what is popular (Chi et al., IJCAI 2024).

    .. math:: s_u = \frac{1}{\|v_h - v_r\|} - \frac{1}{\|v_r - v_b\|}

    with :math:`v_h`, :math:`v_r` and :math:`v_b` the mean item vectors of the history, of the list and of the list of
    the most popular items; see `recmia.attacks.vectors.UserVectors`. Distances below 1e-9 are set to 1e-9, so that
    every score is finite. A user without a vector gets the median score of the others.

    Parameters
    ----------
    rank_weights : {"uniform", "linear"}
        Of `recmia.attacks.vectors.user_vectors`.

    Examples
    --------
    >>> import numpy as np
    >>> from recmia.metrics import auc
    >>> from recmia.testing import planted_leak
    >>> target, truth = planted_leak("twin", np.random.default_rng(0))
    >>> auc(truth, Distance().score(target)).value > 0.9
    True
    """

    name = "distance"
    needs = "nothing"

    def __init__(self, rank_weights: str = "uniform") -> None:
        self.rank_weights = rank_weights

    def score(self, observation: Observation) -> Float64:
        """Return the difference of the inverse distances, in inverse units of the item vectors."""
        vectors = user_vectors(observation, self.rank_weights)
        history, shown, popular, users = vectors.history, vectors.shown, vectors.popular, vectors.usable
        to_history = _lengths(len(observation), lambda rows: history[rows] - shown[rows])[users]
        to_popular = _lengths(len(observation), lambda rows: shown[rows] - popular)[users]
        return for_every_user(1 / np.maximum(to_history, _NEAREST) - 1 / np.maximum(to_popular, _NEAREST), users)


class KMeans(Attack):
    r"""Two clusters of user vectors; the one with the centre nearer to the origin is members' (Zhang et al. 2021).

    .. math:: s_u = \|v_u - c_{\text{non-member}}\| - \|v_u - c_{\text{member}}\|

    All observed users are clustered together, so a user's score depends on which other users are scored with it. Shadow
    and target users are clustered separately, and a threshold carries over from one side to the other only as far as
    their clusters agree. A user without a vector gets the median score of the others; if there are fewer than two
    distinct vectors, all scores are 0. Of more than 50,000 users, a random sample of that size is clustered.

    Parameters
    ----------
    rank_weights : {"uniform", "linear"}
        Of `recmia.attacks.vectors.user_vectors`.

    Examples
    --------
    >>> import numpy as np
    >>> from recmia.metrics import auc
    >>> from recmia.testing import planted_leak
    >>> target, truth = planted_leak("twin", np.random.default_rng(0))
    >>> attack = KMeans().fit(target, np.zeros(len(target), bool), rng=np.random.default_rng(0))
    >>> auc(truth, attack.score(target)).value > 0.9
    True
    """

    name = "k-means"
    needs = "nothing"

    def __init__(self, rank_weights: str = "uniform") -> None:
        self.rank_weights = rank_weights
        self._seed: int | None = None

    def fit(self, shadow: Observation, member: Bool, *, rng: np.random.Generator) -> Self:
        """Draw the seed of the ten starts; neither the users nor the labels are used."""
        self._seed = int(rng.integers(2**31))
        return self

    def score(self, observation: Observation) -> Float64:
        """Return the difference of the distances to the two centres, in units of the item vectors."""
        from sklearn.cluster import KMeans as Clusters

        if self._seed is None:
            raise NotFittedError(f"the attack {self.name} was asked for scores before fit")
        found = user_vectors(observation, self.rank_weights)
        history, shown, usable = found.history, found.shown, found.usable
        users = np.flatnonzero(usable)
        if len(users) > _CLUSTERED:
            users = np.sort(np.random.default_rng(self._seed).choice(users, _CLUSTERED, replace=False))
        vectors = history[users] - shown[users]
        # Sorted, so that the starts, which are drawn by row, do not depend on the order of the users.
        points, counts = np.unique(vectors, axis=0, return_counts=True)
        if len(points) < 2:
            return np.zeros(len(observation))
        # With several threads, the order of the sums over a cluster would vary from run to run.
        with threadpool_limits(1):
            clusters = Clusters(n_clusters=2, n_init=10, random_state=self._seed).fit(points, sample_weight=counts)
        member, other = sorted(clusters.cluster_centers_, key=np.linalg.norm)
        to_other = _lengths(len(observation), lambda rows: history[rows] - shown[rows] - other)
        to_member = _lengths(len(observation), lambda rows: history[rows] - shown[rows] - member)
        return for_every_user((to_other - to_member)[usable], usable)


def _lengths(n: int, vectors: Callable[[slice], Float64]) -> Float64:
    """Return the lengths of n vectors, which are computed block by block."""
    lengths = np.empty(n)
    for rows in blocks(n):
        lengths[rows] = np.linalg.norm(vectors(rows), axis=1)
    return lengths

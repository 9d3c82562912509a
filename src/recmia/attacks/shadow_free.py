"""Attacks that need no shadow recommender: they learn from no labels, only from the item vectors of the attacker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar, Self

import numpy as np
from threadpoolctl import threadpool_limits

from recmia.attacks.base import Attack, Bool, Float64, for_every_user
from recmia.errors import NotFittedError
from recmia.observation import Observation, blocks

# A shorter distance counts as this one: zero up to rounding, for item vectors of lengths near 1.
_NEAREST = 1e-9
# Users that k-means looks at; their centres have an error of a few thousandths of the spread.
_CLUSTERED = 50_000


class Distance(Attack):
    r"""How much nearer the list is to the user's history than to what is popular (Chi et al., IJCAI 2024).

    .. math:: s_u = \frac{1}{\|v_h - v_r\|} - \frac{1}{\|v_r - v_b\|}

    with :math:`v_h`, :math:`v_r` and :math:`v_b` the mean item vectors of the history, of the list and of the list of
    the most popular items: `history_mean`, `list_mean` and `popular_mean` of the observation. Every distance of every
    user is at least 1e-9, so that no user's score is infinite. A user without a vector gets the median score of the
    others.
    """

    name = "distance"
    learns: ClassVar[bool] = False

    def fit(self, shadow: Observation, member: Bool, *, rng: np.random.Generator) -> Self:
        """Nothing to learn."""
        return self

    def score(self, observation: Observation) -> Float64:
        """The difference of the inverse distances, in inverse units of the item vectors."""
        history, shown, popular = observation.history_mean, observation.list_mean, observation.popular_mean
        users = observation.has_vector
        to_history = _lengths(len(observation), lambda rows: history[rows] - shown[rows])[users]
        to_popular = _lengths(len(observation), lambda rows: shown[rows] - popular)[users]
        return for_every_user(1 / np.maximum(to_history, _NEAREST) - 1 / np.maximum(to_popular, _NEAREST), users)


class KMeans(Attack):
    r"""Two clusters of user vectors; that whose centre is nearer to the origin is called member (Zhang et al. 2021).

    .. math:: s_u = \|v_u - c_{\text{non-member}}\| - \|v_u - c_{\text{member}}\|

    K-means looks at all observed users together: a user's score depends on which other users are scored with it.
    Shadow and target users are therefore clustered apart, each side by itself, and a threshold carries over from one
    to the other only as far as their clusters do. Who has no vector is not clustered and gets the median score of the
    others; if fewer than two distinct vectors are there, all scores are 0. Of more than 50,000 users, so many, drawn by
    lot, make the clusters.
    """

    name = "k-means"
    learns: ClassVar[bool] = False

    def __init__(self) -> None:
        self._seed: int | None = None

    def fit(self, shadow: Observation, member: Bool, *, rng: np.random.Generator) -> Self:
        """Draw the seed of the ten starts; nothing is learned."""
        self._seed = int(rng.integers(2**31))
        return self

    def score(self, observation: Observation) -> Float64:
        """How much nearer to the centre of the members than to that of the others, in units of the item vectors."""
        from sklearn.cluster import KMeans as Clusters

        if self._seed is None:
            raise NotFittedError(f"the attack {self.name} was asked for scores before fit")
        history, shown = observation.history_mean, observation.list_mean
        users = np.flatnonzero(observation.has_vector)
        if len(users) > _CLUSTERED:
            users = np.sort(np.random.default_rng(self._seed).choice(users, _CLUSTERED, replace=False))
        vectors = history[users] - shown[users]
        # In an order of their own, so that the starts, drawn by row, do not depend on the order of the users.
        points, counts = np.unique(vectors, axis=0, return_counts=True)
        if len(points) < 2:
            return np.zeros(len(observation))
        # Several threads would add up the centres in an order of chance.
        with threadpool_limits(1):
            found = Clusters(n_clusters=2, n_init=10, random_state=self._seed).fit(points, sample_weight=counts)
        member, other = sorted(found.cluster_centers_, key=np.linalg.norm)
        to_other = _lengths(len(observation), lambda rows: history[rows] - shown[rows] - other)
        to_member = _lengths(len(observation), lambda rows: history[rows] - shown[rows] - member)
        return for_every_user((to_other - to_member)[observation.has_vector], observation.has_vector)


def _lengths(n: int, vectors: Callable[[slice], Float64]) -> Float64:
    """Lengths of n vectors that are worked out block by block."""
    lengths = np.empty(n)
    for rows in blocks(n):
        lengths[rows] = np.linalg.norm(vectors(rows), axis=1)
    return lengths


SHADOW_FREE: Mapping[str, type[Attack]] = MappingProxyType({"distance": Distance, "k-means": KMeans})

"""Rules that need no model and no shadow users.

They are printed beside every attack: an attack that does not beat them has shown nothing about memorisation. Each
returns a score per user, float64, shape (n,), higher for whoever the rule takes for a member.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar, Self

import numpy as np

from recmia.attacks.base import Attack, Bool, Float64
from recmia.observation import Observation, blocks, in_history


def shared_list(observation: Observation) -> Float64:
    """Minus the number of other users who are shown exactly the same list: a fallback list is shared."""
    lists = np.ascontiguousarray(observation.lists)
    # As rows of bytes, a list is compared at once and not entry by entry; to sort positions copies no list.
    order = np.argsort(lists.view(np.dtype((np.void, lists.itemsize * lists.shape[1]))).ravel())
    differs = np.ones(len(lists), np.bool_)
    for places in blocks(len(lists) - 1):
        differs[1:][places] = (lists[order[1:][places]] != lists[order[:-1][places]]).any(axis=1)
    group = np.cumsum(differs) - 1
    scores = np.empty(len(lists))
    scores[order] = 1.0 - np.bincount(group)[group]
    return scores


def popular_overlap(observation: Observation) -> Float64:
    """Minus the share of the list that is among the k items most popular in the attacker's own data."""
    lists = observation.lists
    popular = np.zeros(len(observation.popularity), np.bool_)
    popular[np.argsort(-observation.popularity, kind="stable")[: lists.shape[1]]] = True
    return -np.asarray(np.mean(popular[lists] & (lists >= 0), axis=1), np.float64)


def seen_in_list(observation: Observation) -> Float64:
    """Minus the share of the list that the user has already seen: personal lists leave it out, a fallback may not."""
    return -np.asarray(np.mean(in_history(observation.lists, observation.histories), axis=1), np.float64)


def history_length(observation: Observation) -> Float64:
    """The number of interactions."""
    return np.diff(observation.histories.indptr).astype(np.float64)


def history_popularity(observation: Observation) -> Float64:
    """The mean popularity of the items of the history, in the attacker's own data."""
    histories = observation.histories
    totals = np.add.reduceat(
        np.append(observation.popularity[histories.indices].astype(np.float64), 0.0), histories.indptr[:-1]
    )
    lengths = np.diff(histories.indptr)
    return np.where(lengths > 0, totals / np.maximum(lengths, 1), 0.0)


def recency(observation: Observation) -> Float64:
    """The time of the latest interaction; 0 for all where the data have no times."""
    if observation.last_time is None:
        return np.zeros(len(observation))
    return observation.last_time


BASELINES: Mapping[str, Callable[[Observation], Float64]] = MappingProxyType(
    {
        "shared-list": shared_list,
        "popular-overlap": popular_overlap,
        "seen-in-list": seen_in_list,
        "history-length": history_length,
        "history-popularity": history_popularity,
        "recency": recency,
    }
)


class Baseline(Attack):
    """A rule of `BASELINES` as an attack."""

    learns: ClassVar[bool] = False

    def __init__(self, name: str) -> None:
        self.name = name

    def fit(self, shadow: Observation, member: Bool, *, rng: np.random.Generator) -> Self:
        """Nothing to learn."""
        return self

    def score(self, observation: Observation) -> Float64:
        """Apply the rule."""
        return BASELINES[self.name](observation)

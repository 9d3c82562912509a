"""Rules that need no model and no shadow users.

They are reported beside every attack: an attack that is no better than these rules shows nothing about memorisation.
Each returns a score for each user, float64, shape (n,), higher for users that the rule takes for members.

>>> import numpy as np
>>> from recmia.testing import planted_leak
>>> target, _ = planted_leak("twin", np.random.default_rng(0))
>>> float(shared_list(target).min()), float(history_length(target).min())
(-149.0, 10.0)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recmia.attacks.base import Attack, Float64
from recmia.errors import ProtocolError
from recmia.observation import Observation, blocks, in_history


def shared_list(observation: Observation) -> Float64:
    """Return minus the number of other users with exactly the same list; a fallback list is shared by many."""
    lists = np.ascontiguousarray(observation.lists)
    # Lists as rows of bytes are compared as a whole, and sorting positions copies no list.
    order = np.argsort(lists.view(np.dtype((np.void, lists.itemsize * lists.shape[1]))).ravel())
    differs = np.ones(len(lists), np.bool_)
    for places in blocks(len(lists) - 1):
        differs[1:][places] = (lists[order[1:][places]] != lists[order[:-1][places]]).any(axis=1)
    group = np.cumsum(differs) - 1
    scores = np.empty(len(lists))
    scores[order] = 1.0 - np.bincount(group)[group]
    return scores


def popular_overlap(observation: Observation) -> Float64:
    """Return minus the share of the list that is among the k most popular items in the attacker's data."""
    lists = observation.lists
    popular = np.zeros(len(observation.items.popularity), np.bool_)
    popular[np.argsort(-observation.items.popularity, kind="stable")[: lists.shape[1]]] = True
    return -np.asarray(np.mean(popular[lists] & (lists >= 0), axis=1), np.float64)


def seen_in_list(observation: Observation) -> Float64:
    """Return minus the share of the list that is in the history; personal lists leave it out, a fallback may not."""
    return -np.asarray(np.mean(in_history(observation.lists, observation.histories), axis=1), np.float64)


def twin(observation: Observation) -> Float64:
    """Return the share of ranks at which the list differs from the answer to the user's whole history.

    A system that serves members by what was trained for them gives a non-member its own list back.
    """
    if observation.as_stranger is None:
        raise ProtocolError("the rule twin compares with answers to whole histories, and the observation holds none")
    return np.asarray(np.mean(observation.lists != observation.as_stranger, axis=1), np.float64)


def history_length(observation: Observation) -> Float64:
    """Return the number of interactions."""
    return np.diff(observation.histories.indptr).astype(np.float64)


def history_popularity(observation: Observation) -> Float64:
    """Return the mean popularity of the items in the history, in the attacker's data; 0 for an empty history."""
    histories = observation.histories
    totals = np.add.reduceat(
        np.append(observation.items.popularity[histories.indices].astype(np.float64), 0.0), histories.indptr[:-1]
    )
    lengths = np.diff(histories.indptr)
    return np.where(lengths > 0, totals / np.maximum(lengths, 1), 0.0)


def recency(observation: Observation) -> Float64:
    """Return the time of the latest interaction, in seconds; 0 for all users where the data have no times."""
    if observation.last_time is None:
        return np.zeros(len(observation))
    return observation.last_time


class Rule(Attack):
    """A rule as an attack.

    Parameters
    ----------
    name : str
    rule : callable
        From an `Observation` to a score for each user, float64, shape (n,).
    asks : bool
        Whether it uses what the system answers.

    Examples
    --------
    >>> import numpy as np
    >>> from recmia.testing import planted_leak
    >>> Rule("history-length", history_length).score(planted_leak("none", np.random.default_rng(0))[0]).shape
    (300,)
    """

    needs = "nothing"

    def __init__(self, name: str, rule: Callable[[Observation], Float64], *, asks: bool = False) -> None:
        self.name, self.asks = name, asks  # type: ignore[misc]
        self._rule = rule

    def score(self, observation: Observation) -> Float64:
        """Return what the rule gives."""
        return self._rule(observation)

"""The one interface of every recommender."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.errors import ConfigError, NotFittedError, ProtocolError
from recmia.interactions import Bool, Float32, Int32, Interactions

# Users scored at once: bounds the memory of dense scores whatever the number of users.
_SCORES_AT_ONCE = 2**24


class Recommender(ABC):
    """Learns from members' interactions and ranks items for any history.

    A subclass sets `known` in `fit` and writes `scores`; the ranking is inherited.

    Attributes
    ----------
    known : bool, shape (n_items,)
        The items with a training interaction, set by `fit`. Only they are recommended.
    """

    known: Bool | None = None

    @abstractmethod
    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Train on these interactions, forgetting any earlier fit, and return `self`."""

    @abstractmethod
    def scores(self, histories: sparse.csr_array) -> Float32:
        """Score every item for users who are known by their history alone.

        Parameters
        ----------
        histories : csr_array of float32, shape (n, n_items)
            Zero or more interactions a user; the values are ratings, or 1.

        Returns
        -------
        float32, shape (n, n_items)
            Higher is better. Scores of items that are not `known` are ignored.
        """

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Rank the known items for users who are known by their history alone (fold-in).

        Parameters
        ----------
        histories : csr_array of float32, shape (n, n_items)
        k : int
            List length, 1 .. number of known items.
        exclude_seen : bool
            Leave out the items of the history.

        Returns
        -------
        int32, shape (n, k)
            Best first, ties by lower item row; -1 pads a list when a user has seen too much.

        Raises
        ------
        NotFittedError, ConfigError, ProtocolError
            Before `fit`; for `k` out of range; for scores of the wrong shape or not finite.
        """
        known = self.fitted_items(k)
        lists = np.empty((histories.shape[0], k), np.int32)
        step = max(1, _SCORES_AT_ONCE // len(known))
        for start in range(0, len(lists), step):
            part = histories[start : start + step]
            lists[start : start + step] = top_k(self.scores(part), part if exclude_seen else None, known, k, start)
        return lists

    def fitted_items(self, k: int) -> Bool:
        """Return `known`, after checking that the model is fitted and can fill a list of `k`."""
        if self.known is None:
            raise NotFittedError(f"{type(self).__name__} was asked for lists before fit")
        n_known = int(self.known.sum())
        if not 1 <= k <= n_known:
            raise ConfigError(f"k, the list length, must lie in 1..{n_known}, the items with training data; got {k}")
        return self.known


@runtime_checkable
class HasUserVectors(Protocol):
    """A recommender that keeps a trained vector for each user of its fit, and can score by it."""

    @property
    def user_vectors(self) -> Float32:
        """Float32, shape (n_users, l)."""

    def score_vectors(self, user_vectors: Float32) -> Float32:
        """Score all items for given user vectors, float32, shape (n, n_items)."""


def top_k(
    scores: Float32, seen: sparse.csr_array | None, known: Bool, k: int, first_user: int = 0
) -> npt.NDArray[np.int32]:
    """Pick the k best known and unseen items of each row.

    Parameters
    ----------
    scores : float32, shape (n, n_items)
    seen : csr_array, shape (n, n_items), optional
        Items to leave out.
    known : bool, shape (n_items,)
    k : int
    first_user : int
        Row number of the first user, for messages only.

    Returns
    -------
    int32, shape (n, k)
        Best first, ties by lower item row, -1 after the last allowed item.

    Raises
    ------
    ProtocolError
        If `scores` has the wrong shape or a value of a known item is not finite.
    """
    n_items = len(known)
    if scores.ndim != 2 or scores.shape[1] != n_items:
        raise ProtocolError(f"scores must have shape (n, {n_items}); got {scores.shape}")
    candidates = np.flatnonzero(known)
    masked = scores[:, candidates]
    bad = ~np.isfinite(masked).all(axis=1)
    if bad.any():
        raise ProtocolError(f"the scores of user {first_user + int(np.argmax(bad))} are not finite")
    if seen is not None:
        position = np.full(n_items, -1)
        position[candidates] = np.arange(len(candidates))
        rows = np.repeat(np.arange(seen.shape[0]), np.diff(seen.indptr))
        columns = position[seen.indices]
        masked[rows[columns >= 0], columns[columns >= 0]] = -np.inf
    # The k-th best score of each row, then everything at or above it, so that ties go to the lower row.
    best = np.partition(masked, -k, axis=1)[:, -k]
    lists = np.full((len(masked), k), -1, np.int32)
    for row, (values, least) in enumerate(zip(masked, best, strict=True)):
        chosen = np.flatnonzero((values >= least) & (values > -np.inf))
        chosen = chosen[np.argsort(-values[chosen], kind="stable")][:k]
        lists[row, : len(chosen)] = candidates[chosen]
    return lists

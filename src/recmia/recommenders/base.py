"""The one interface of every recommender."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import numba
import numpy as np
import numpy.typing as npt
from scipy import sparse
from threadpoolctl import threadpool_limits

from recmia.errors import ConfigError, NotFittedError, ProtocolError
from recmia.interactions import Bool, Float32, Int32, Int64, Interactions
from recmia.observation import check_lists, describe, in_history

# Users scored at once: bounds the memory of dense scores whatever the number of users.
_SCORES_AT_ONCE = 2**24
# A block of scores that stays in a core's second cache between the product and the selection.
_USERS_AT_ONCE, _ITEMS_AT_ONCE = 256, 1024
# Scores compared with the k-th best at once.
_LANES = 64


class Recommender(ABC):
    """Learns from members' interactions and ranks items for any history.

    A subclass sets `known` in `fit` and writes `scores`; the ranking is inherited. One that trains something for each
    user of the fit (a vector, say) also overrides `recommend_members`.

    Attributes
    ----------
    known : bool, shape (n_items,)
        The items with a training interaction, set by `fit`. Only they are recommended.
    folds_in : bool
        Whether `scores` can serve a user that was not in the fit. A recommender that cannot says False, writes
        `recommend_members`, and raises `ProtocolError` from `scores`.
    """

    folds_in: bool = True
    known: Bool | None = None

    @abstractmethod
    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Train on these interactions, forgetting any earlier fit, and return `self`."""

    @abstractmethod
    def scores(self, histories: sparse.csr_array) -> Float32:
        """Score every item for users who are known by their history alone (fold-in).

        Parameters
        ----------
        histories : csr_array of float32, shape (n, n_items)
            Zero or more interactions a user; the values are ratings, or 1.

        Returns
        -------
        float32, shape (n, n_items)
            Higher is better. Scores of items that are not `known` are ignored. A user's scores do not depend on the
            other rows.
        """

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Rank the known items for users who are known by their history alone.

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
        return self._rank(lambda rows: self.scores(histories[rows]), histories, k, exclude_seen)

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Rank the known items for the users of the fit, by whatever was trained for them.

        Unless overridden, there is nothing of the kind, and they are served from their history.

        Parameters
        ----------
        histories : csr_array of float32, shape (n_users, n_items)
            Row u is user u of the fit.
        k : int
        exclude_seen : bool

        Returns
        -------
        int32, shape (n_users, k)
            As `recommend`.
        """
        return self.recommend(histories, k, exclude_seen=exclude_seen)

    @property
    def item_vectors(self) -> Float32:
        """The trained item vectors, float32, shape (n_items, l): what a white-box attacker knows.

        Raises
        ------
        ConfigError
            If the recommender has none.
        """
        raise ConfigError(
            f"{type(self).__name__} has no item vectors for a white-box attacker to know; audit it at the levels "
            "black-box or grey-box"
        )

    def fitted_items(self, k: int = 1) -> Bool:
        """Return `known`, after checking that the model is fitted and can fill a list of `k`."""
        if self.known is None:
            raise NotFittedError(f"{type(self).__name__} was asked for lists before fit")
        n_known = int(self.known.sum())
        if not 1 <= k <= n_known:
            raise ConfigError(f"k, the list length, must lie in 1..{n_known}, the items with training data; got {k}")
        return self.known

    def _rank(
        self, score: Callable[[slice], Float32], histories: sparse.csr_array, k: int, exclude_seen: bool
    ) -> Int32:
        """Rank by ``score(rows)``, a few users at a time, so that dense scores stay small."""
        known = self.fitted_items(k)
        lists = np.empty((histories.shape[0], k), np.int32)
        step = max(1, _SCORES_AT_ONCE // len(known))
        for start in range(0, len(lists), step):
            rows = slice(start, min(start + step, len(lists)))
            scores, shape = score(rows), (rows.stop - rows.start, len(known))
            if not isinstance(scores, np.ndarray) or scores.shape != shape or scores.dtype.kind not in "fiu":
                raise ProtocolError(f"scores must be float32 with shape {shape}; got {describe(scores)}")
            lists[rows] = top_k(scores, histories[rows] if exclude_seen else None, known, k, start)
        return lists


def check_recommendations(
    lists: Int32, histories: sparse.csr_array, known: Bool, k: int, *, exclude_seen: bool, source: str
) -> None:
    """Refuse lists that break the contract of `Recommender.recommend`.

    Parameters
    ----------
    lists : int32, shape (n, k)
    histories : csr_array, shape (n, n_items)
    known : bool, shape (n_items,)
    k : int
    exclude_seen : bool
    source : str
        Whose lists they are, for the message.

    Raises
    ------
    ProtocolError
        Naming the first user (row) and the rule: wrong shape or type, an item out of range or twice, an item after the
        padding, an item without training data, a seen item, or fewer items than there are to recommend.
    """
    n, n_items = histories.shape
    try:
        check_lists(lists, n, n_items)
    except ProtocolError as error:
        raise ProtocolError(f"{source}: {error}") from None
    if lists.shape[1] != k:
        raise ProtocolError(f"{source}: lists must be of length {k}, -1 padding what is missing; got {lists.shape[1]}")
    listed = lists >= 0
    allowed = np.full(n, int(known.sum()))
    broken = {"holds an item without training data, which the model cannot know": (listed & ~known[lists]).any(axis=1)}
    if exclude_seen:
        broken["holds an item that the user has already seen"] = in_history(lists, histories).any(axis=1)
        seen_and_known = np.concatenate([[0], np.cumsum(known[histories.indices])])[histories.indptr]
        allowed -= np.diff(seen_and_known)
    broken["is shorter than it could be"] = listed.sum(axis=1) < np.minimum(k, allowed)
    for rule, rows in broken.items():
        if rows.any():
            raise ProtocolError(f"{source}: the list of user {int(np.argmax(rows))} {rule}")


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
    candidates = np.flatnonzero(known).astype(np.int32)
    best = _Best(len(scores), k, seen, first_user)
    best.offer(np.asarray(scores, np.float32)[:, candidates], candidates)
    return best.lists()


def top_k_by_vectors(
    user_vectors: Float32,
    item_vectors: Float32,
    item_bias: Float32,
    seen: sparse.csr_array | None,
    known: Bool,
    k: int,
    *,
    threads: int = 1,
) -> npt.NDArray[np.int32]:
    """Pick the k best known and unseen items of each user by p_u . q_i + b_i.

    Blocks of users meet blocks of items, one matrix product each that fits the cache, and only the k best so far
    outlive a block: the memory does not grow with the number of users or items, the lists themselves apart.

    Parameters
    ----------
    user_vectors : float32, shape (n, l)
    item_vectors : float32, shape (n_items, l)
    item_bias : float32, shape (n_items,)
    seen : csr_array, shape (n, n_items), optional
        Items to leave out.
    known : bool, shape (n_items,)
    k : int
    threads : int
        How many threads rank; the result does not depend on it.

    Returns
    -------
    int32, shape (n, k)
        As `top_k`.

    Raises
    ------
    ProtocolError
        If a score is not finite.
    """
    # Long vectors have the extreme scores: offered first, they leave little to be done for the rest.
    candidates = np.flatnonzero(known).astype(np.int32)
    lengths = np.linalg.norm(item_vectors[candidates], axis=1)
    candidates = candidates[np.argsort(-lengths, kind="stable")]
    vectors, bias = item_vectors[candidates], item_bias[candidates]
    biased = bool(bias.any())
    lists = np.empty((len(user_vectors), k), np.int32)

    def rank(start: int) -> None:
        users = user_vectors[start : start + _USERS_AT_ONCE]
        best = _Best(len(users), k, None if seen is None else seen[start : start + len(users)], start)
        scores = np.empty((len(users), _ITEMS_AT_ONCE), np.float32)
        for first in range(0, len(candidates), _ITEMS_AT_ONCE):
            part = slice(first, first + _ITEMS_AT_ONCE)
            tile = scores[:, : len(candidates[part])]
            np.matmul(users, vectors[part].T, out=tile)
            if biased:
                tile += bias[part]
            best.offer(tile, candidates[part])
        lists[start : start + len(users)] = best.lists()

    # A product that BLAS splits among threads of its own has other last bits than an unsplit one.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(rank, range(0, len(lists), _USERS_AT_ONCE)):
            pass
    return lists


class _Best:
    """The k best items of each of n users among those offered so far.

    Each user has a heap whose root is the worst item kept: the lowest score and, among equals, the highest row.

    Parameters
    ----------
    n, k : int
    seen : csr_array, shape (n, n_items), optional
        Items to leave out.
    first_user : int
        Row number of the first user, for messages only.
    """

    def __init__(self, n: int, k: int, seen: sparse.csr_array | None, first_user: int) -> None:
        self._first_user = first_user
        self._scores = np.empty((n, k), np.float32)
        self._items = np.full((n, k), -1, np.int32)
        self._kept = np.zeros(n, np.int64)
        if seen is None:
            self._seen, ends = np.empty(0, np.int32), np.zeros(n + 1, np.int64)
        else:
            if not seen.has_sorted_indices:
                seen = seen.sorted_indices()
            self._seen, ends = seen.indices.astype(np.int32, copy=False), seen.indptr.astype(np.int64)
        self._ends = ends

    def offer(self, scores: Float32, items: Int32) -> None:
        """Consider more items, each at most once over all calls.

        Parameters
        ----------
        scores : float32, shape (n, m)
        items : int32, shape (m,)
        """
        bad = _offer(scores, items, self._seen, self._ends, self._scores, self._items, self._kept)
        if bad >= 0:
            raise ProtocolError(f"the scores of user {self._first_user + bad} are not finite")

    def lists(self) -> Int32:
        """Sort the heaps, best first; to be called once, at the end."""
        _sort_heaps(self._scores, self._items, self._kept)
        return self._items


@numba.njit(cache=True, nogil=True)
def _sink(scores: Float32, items: Int32, n: int, score: np.float32, item: np.int32) -> None:
    """Replace the root of a heap of n entries, the worst at the root."""
    hole = 0
    while True:
        child = 2 * hole + 1
        if child >= n:
            break
        right = child + 1
        if right < n and (
            scores[right] < scores[child] or (scores[right] == scores[child] and items[right] > items[child])
        ):
            child = right
        if score < scores[child] or (score == scores[child] and item > items[child]):
            break
        scores[hole], items[hole] = scores[child], items[child]
        hole = child
    scores[hole], items[hole] = score, item


@numba.njit(cache=True, nogil=True)
def _rise(scores: Float32, items: Int32, n: int, score: np.float32, item: np.int32) -> None:
    """Add an entry to a heap of n."""
    hole = n
    while hole > 0:
        parent = (hole - 1) // 2
        if scores[parent] < score or (scores[parent] == score and items[parent] > item):
            break
        scores[hole], items[hole] = scores[parent], items[parent]
        hole = parent
    scores[hole], items[hole] = score, item


@numba.njit(cache=True, nogil=True)
def _offer(
    scores: Float32, items: Int32, seen: Int32, ends: Int64, best: Float32, best_items: Int32, kept: Int64
) -> int:  # fmt: skip
    """Offer the items to every user's heap; return the first user with a score that is not finite, else -1.

    Parameters
    ----------
    scores : float32, shape (n, m)
    items : int32, shape (m,)
    seen : int32
    ends : int64, shape (n + 1,)
        User u has seen ``seen[ends[u]:ends[u + 1]]``, ascending.
    best, best_items : shape (n, k)
        The heaps.
    kept : int64, shape (n,)
        Their sizes.
    """
    n_users, n_items = scores.shape
    k, most = best.shape[1], np.finfo(np.float32).max
    for u in range(n_users):
        n, own = kept[u], seen[ends[u] : ends[u + 1]]
        for start in range(0, n_items, _LANES):
            stop = min(start + _LANES, n_items)
            if n == k:
                # Most items are worse than the k best so far: one look at many at once, in a loop made for SIMD.
                part, least, worth = scores[u, start:stop], best[u, 0], np.int32(0)
                for c in range(len(part)):
                    worth += np.int32(not ((part[c] < least) & (part[c] >= -most)))
                if worth == 0:
                    continue
            for c in range(start, stop):
                score, item = scores[u, c], items[c]
                if not abs(score) <= most:
                    return u
                if n == k and (score < best[u, 0] or (score == best[u, 0] and item > best_items[u, 0])):
                    continue
                place = np.searchsorted(own, item)
                if place < len(own) and own[place] == item:
                    continue
                if n < k:
                    _rise(best[u], best_items[u], n, score, item)
                    n += 1
                else:
                    _sink(best[u], best_items[u], k, score, item)
        kept[u] = n
    return -1


@numba.njit(cache=True, nogil=True)
def _sort_heaps(best: Float32, best_items: Int32, kept: Int64) -> None:
    for u in range(len(kept)):
        for n in range(kept[u] - 1, 0, -1):
            score, item = best[u, n], best_items[u, n]
            root, root_item = best[u, 0], best_items[u, 0]
            _sink(best[u], best_items[u], n, score, item)
            best[u, n], best_items[u, n] = root, root_item

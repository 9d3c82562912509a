"""Ranking: the k best items of each user, from dense scores or from vectors.

No more than 2 k items of each user outlive a block of scores, so that memory does not grow with the number of items.
Ties are broken by the lower item row everywhere.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.blas import one_blas_thread
from recmia.compiled import compiled
from recmia.data.interactions import Bool, Float32, Int32, Int64
from recmia.errors import ProtocolError

# A block of scores that stays in a core's second-level cache between the product and the selection.
_USERS_AT_ONCE, _ITEMS_AT_ONCE = 256, 1024
# Scores compared with the k-th best at once.
_LANES = 32
# Groups of values for each of those that `largest` looks for.
GROUPS = 4


def top_k(
    scores: Float32, seen: sparse.csr_array | None, candidates: Bool, k: int, first_user: int = 0
) -> npt.NDArray[np.int32]:
    """Return the k best candidates of each row that its user has not seen.

    Parameters
    ----------
    scores : float32, shape (n, n_items)
        Higher is better. Scores of items that are not candidates are ignored.
    seen : csr_array, shape (n, n_items), optional
        Items to leave out.
    candidates : bool, shape (n_items,)
        The items that may be listed.
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
        If `scores` has the wrong shape, or the score of a candidate is not finite.

    Examples
    --------
    >>> scores = np.array([[0.5, 0.9, 0.9, 0.1]], np.float32)
    >>> seen = sparse.csr_array(np.array([[0, 1, 0, 0]]))
    >>> top_k(scores, seen, np.ones(4, np.bool_), 4).tolist()
    [[2, 0, 3, -1]]
    """
    n_items = len(candidates)
    if scores.ndim != 2 or scores.shape[1] != n_items:
        raise ProtocolError(f"scores must have shape (n, {n_items}); got {scores.shape}")
    if seen is None:
        history, ends = np.empty(0, np.int32), np.zeros(len(scores) + 1, np.int64)
    else:
        history, ends = seen.indices.astype(np.int32, copy=False), seen.indptr.astype(np.int64)
    lists = np.full((len(scores), k), -1, np.int32)
    bad = _best_of_rows(np.asarray(scores, np.float32), history, ends, candidates, lists)
    if bad >= 0:
        raise ProtocolError(f"the scores of user {first_user + bad} are not finite")
    return lists


def top_k_by_vectors(
    user_vectors: Float32,
    item_vectors: Float32,
    item_bias: Float32,
    seen: sparse.csr_array | None,
    candidates: Bool,
    k: int,
    *,
    threads: int = 1,
) -> npt.NDArray[np.int32]:
    """Return the k best candidates of each user by p_u . q_i + b_i that the user has not seen.

    Blocks of users meet blocks of items, one matrix product each that fits the cache, and only the k best so far
    outlive a block: beside the lists themselves, memory grows neither with the number of users nor with that of items.

    Parameters
    ----------
    user_vectors : float32, shape (n, factors)
    item_vectors : float32, shape (n_items, factors)
    item_bias : float32, shape (n_items,)
    seen : csr_array, shape (n, n_items), optional
        Items to leave out.
    candidates : bool, shape (n_items,)
        The items that may be listed.
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

    Examples
    --------
    >>> users, items = np.array([[1, 0]], np.float32), np.array([[1, 0], [0, 1], [3, 0]], np.float32)
    >>> top_k_by_vectors(users, items, np.zeros(3, np.float32), None, np.ones(3, np.bool_), 2).tolist()
    [[2, 0]]
    """
    # Long vectors have the extreme scores: offered first, they leave little to be done for the rest.
    order = np.flatnonzero(candidates).astype(np.int32)
    lengths = np.linalg.norm(item_vectors[order], axis=1)
    order = order[np.argsort(-lengths, kind="stable")]
    vectors, bias = item_vectors[order], item_bias[order]
    biased = bool(bias.any())
    lists = np.empty((len(user_vectors), k), np.int32)

    def rank(start: int) -> None:
        users = user_vectors[start : start + _USERS_AT_ONCE]
        best = _Best(len(users), k, None if seen is None else seen[start : start + len(users)], start)
        scores = np.empty((len(users), _ITEMS_AT_ONCE), np.float32)
        for first in range(0, len(order), _ITEMS_AT_ONCE):
            part = slice(first, first + _ITEMS_AT_ONCE)
            tile = scores[:, : len(order[part])]
            np.matmul(users, vectors[part].T, out=tile)
            if biased:
                tile += bias[part]
            best.offer(tile, order[part])
        lists[start : start + len(users)] = best.lists()

    # A product that BLAS splits among its own threads differs in its last bits from an unsplit one.
    with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(rank, range(0, len(lists), _USERS_AT_ONCE)):
            pass
    return lists


@compiled(nogil=True)
def largest(values: Float32, n: int, above: np.float32, maxima: Float32, found: Int32) -> int:
    """Find the n largest values, or as many as are above a limit, ties by lower position.

    The n-th largest of the maxima of some groups is a number that n values or more reach. Few others reach it, so that
    few values are looked at singly: this is several times as fast as a heap.

    Parameters
    ----------
    values : float32, shape (m,)
        No value is NaN.
    n : int
    above : float32
    maxima : float32, shape (n * GROUPS,)
        Work space.
    found : int32, shape (m + 1,)
        Gets the positions, ascending.

    Returns
    -------
    int
        How many were found.

    Examples
    --------
    >>> values, found = np.array([0.5, 0.9, 0.9, 0.1], np.float32), np.empty(5, np.int32)
    >>> largest(values, 1, np.float32(0), np.empty(GROUPS, np.float32), found), found[:1].tolist()
    (1, [1])
    """
    floor, width = above, len(maxima)
    if len(values) >= width:
        maxima[:] = above
        for start in range(0, len(values) - width + 1, width):
            part = values[start : start + width]
            for g in range(width):
                maxima[g] = max(maxima[g], part[g])
        floor = np.partition(maxima, width - n)[width - n]
    n_found = 0
    for start in range(0, len(values), _LANES):
        part, worth = values[start : start + _LANES], np.int32(0)
        for c in range(len(part)):
            worth += np.int32((part[c] >= floor) & (part[c] > above))
        if worth > 0:
            for c in range(start, start + len(part)):
                found[n_found] = c
                n_found += (values[c] >= floor) & (values[c] > above)
    if n_found <= n:
        return n_found
    least, level = np.partition(values[found[:n_found]], n_found - n)[n_found - n], n
    for c in found[:n_found]:
        level -= values[c] > least
    kept = 0
    for c in found[:n_found]:
        found[kept] = c
        ties = values[c] == least
        kept += (values[c] > least) | (ties & (level > 0))
        level -= ties
    return n


@compiled(nogil=True)
def _best_of_rows(scores: Float32, seen: Int32, ends: Int64, candidates: Bool, lists: Int32) -> int:
    """Write the lists of `top_k`; return the first user with a candidate's score that is not finite, else -1.

    Parameters
    ----------
    scores : float32, shape (n, n_items)
    seen : int32
    ends : int64, shape (n + 1,)
        User u has seen ``seen[ends[u]:ends[u + 1]]``.
    candidates : bool, shape (n_items,)
    lists : int32, shape (n, k)
        Filled with -1.
    """
    n_items, k, most, none = len(candidates), lists.shape[1], np.finfo(np.float32).max, np.float32(-np.inf)
    own, maxima = np.empty(n_items, np.float32), np.empty(k * GROUPS, np.float32)
    found = np.empty(n_items + 1, np.int32)
    for u in range(len(lists)):
        row, finite = scores[u], True
        for i in range(n_items):
            finite &= (abs(row[i]) <= most) | (not candidates[i])
            own[i] = row[i] if candidates[i] else none
        if not finite:
            return u
        for i in seen[ends[u] : ends[u + 1]]:
            own[i] = none
        best = found[: largest(own, k, none, maxima, found)]
        lists[u, : len(best)] = best[np.argsort(-own[best], kind="mergesort")]
    return -1


class _Best:
    """The k best items of each of n users among those offered so far.

    An item and its score are one number, larger where the item is to come earlier (`_key`). Those that may be among the
    k best are collected; as often as there are 2 k of them, the k best are kept, and the worst of these is the bar for
    what is offered later.

    Parameters
    ----------
    n, k : int
    seen : csr_array, shape (n, n_items), optional
        Items to leave out.
    first_user : int
        Row number of the first user, for messages only.
    """

    def __init__(self, n: int, k: int, seen: sparse.csr_array | None, first_user: int) -> None:
        self._k, self._first_user = k, first_user
        self._keys = np.empty((n, 2 * k), np.uint64)
        self._kept, self._bar = np.zeros(n, np.int64), np.zeros(n, np.uint64)
        if seen is None:
            self._seen, self._ends, n_items = np.empty(0, np.int32), np.zeros(n + 1, np.int64), 0
        else:
            self._seen, self._ends = seen.indices.astype(np.int32, copy=False), seen.indptr.astype(np.int64)
            n_items = seen.shape[1]
        # The last user, counted from 1, who has seen each item.
        self._seen_by = np.zeros(n_items, np.int32)

    def offer(self, scores: Float32, items: Int32) -> None:
        """Consider more items, each at most once over all calls.

        Parameters
        ----------
        scores : float32, shape (n, m)
        items : int32, shape (m,)
        """
        bad = _offer(scores, items, self._seen, self._ends, self._seen_by, self._keys, self._kept, self._bar)
        if bad >= 0:
            raise ProtocolError(f"the scores of user {self._first_user + bad} are not finite")

    def lists(self) -> Int32:
        """Return the lists, best first; call it once, at the end."""
        _finish(self._keys, self._kept)
        keys = self._keys[:, : self._k]
        # Numpy sorts by SIMD, upwards.
        best_first = np.sort(keys, axis=1)[:, ::-1]
        items = (~best_first).astype(np.uint32).view(np.int32)
        return np.where(best_first > 0, items, np.int32(-1))


@compiled(nogil=True, inline="always")
def _key(bits: np.int32, item: np.int32) -> np.uint64:
    """Return the bits of a finite score and an item row as one number: the larger, the earlier in the list; not 0.

    The bits of a float are ordered like whole numbers, but for the sign: those of a negative one are to be inverted,
    and those of others to come after them.
    """
    ordered = ~np.uint32(bits) if bits < 0 else np.uint32(bits) | np.uint32(0x80000000)
    return (np.uint64(ordered) << np.uint64(32)) | np.uint64(~np.uint32(item))


@compiled(nogil=True)
def _keep_best(keys: npt.NDArray[np.uint64], k: int) -> np.uint64:
    """Move the k largest of some keys, all different, to the front, and return the smallest of them (quickselect)."""
    low, high = 0, len(keys) - 1
    while low < high:
        # The median of three goes to the end as the pivot.
        middle = (low + high) // 2
        if keys[low] > keys[middle]:
            keys[low], keys[middle] = keys[middle], keys[low]
        if keys[middle] > keys[high]:
            keys[middle], keys[high] = keys[high], keys[middle]
        if keys[low] > keys[middle]:
            keys[low], keys[middle] = keys[middle], keys[low]
        keys[middle], keys[high] = keys[high], keys[middle]
        pivot, place = keys[high], low
        # Every key is swapped, whether it is larger or not: a branch would be mispredicted half of the time.
        for i in range(low, high):
            key = keys[i]
            keys[i] = keys[place]
            keys[place] = key
            place += int(key > pivot)
        keys[high] = keys[place]
        keys[place] = pivot
        if place == k - 1:
            break
        if place < k - 1:
            low = place + 1
        else:
            high = place - 1
    return keys[k - 1]


@compiled(nogil=True)
def _offer(
    scores: Float32, items: Int32, seen: Int32, ends: Int64, seen_by: Int32, keys: npt.NDArray[np.uint64],
    kept: Int64, bar: npt.NDArray[np.uint64],
) -> int:  # fmt: skip
    """Offer the items to every user; return the first user with a score that is not finite, else -1.

    Parameters
    ----------
    scores : float32, shape (n, m)
    items : int32, shape (m,)
    seen : int32
    ends : int64, shape (n + 1,)
        User u has seen ``seen[ends[u]:ends[u + 1]]``.
    seen_by : int32, shape (n_items,)
        Scratch.
    keys : uint64, shape (n, 2 k)
    kept : int64, shape (n,)
        How many keys there are of each user.
    bar : uint64, shape (n,)
        What a key must exceed; 0 as long as every item is taken.
    """
    n_users, n_items = scores.shape
    k, most = keys.shape[1] // 2, np.finfo(np.float32).max
    for u in range(n_users):
        for place in range(ends[u], ends[u + 1]):
            seen_by[seen[place]] = u + 1
        n, least_key = kept[u], bar[u]
        least = _score(least_key) if least_key else -most
        for start in range(0, n_items, _LANES):
            stop = min(start + _LANES, n_items)
            if least_key:
                # Most items are worse than the k best so far: many are compared at once, in a loop made for SIMD.
                part, worth = scores[u, start:stop], np.int32(0)
                for c in range(len(part)):
                    worth += np.int32(not ((part[c] < least) & (part[c] >= -most)))
                if worth == 0:
                    continue
            for c in range(start, stop):
                score, item = scores[u, c], items[c]
                if not abs(score) <= most:
                    return u
                # Without it, -0 would come after 0.
                key = _key(np.float32(score + np.float32(0)).view(np.int32), item)
                if key <= least_key or (len(seen_by) and seen_by[item] == u + 1):
                    continue
                keys[u, n] = key
                n += 1
                if n == 2 * k:
                    least_key, n = _keep_best(keys[u], k), k
                    least = _score(least_key)
        kept[u], bar[u] = n, least_key
    return -1


@compiled(nogil=True, inline="always")
def _score(key: np.uint64) -> np.float32:
    """Return the score of a key."""
    ordered = np.uint32(key >> np.uint64(32))
    bits = ordered & np.uint32(0x7FFFFFFF) if ordered & np.uint32(0x80000000) else ~ordered
    return np.uint32(bits).view(np.float32)


@compiled(nogil=True)
def _finish(keys: npt.NDArray[np.uint64], kept: Int64) -> None:
    """Move each user's k best keys to the front, and fill up with 0 where there are fewer."""
    k = keys.shape[1] // 2
    for u in range(len(kept)):
        if kept[u] > k:
            _keep_best(keys[u, : kept[u]], k)
        else:
            keys[u, kept[u] : k] = 0

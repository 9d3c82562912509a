"""What an attacker sees: plain arrays. No model and no membership of audited users is reachable from here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.errors import ConfigError, DataError, ProtocolError

# Users that are processed together where each takes much memory.
_BLOCK = 2**15

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Items:
    """What an attacker knows of the items.

    Parameters
    ----------
    vectors : float64, shape (n_items, factors)
        The attacker's item vectors.
    has_vector : bool, shape (n_items,)
        False for items that do not occur in the attacker's data; their rows of `vectors` are not used.
    popularity : int64, shape (n_items,)
        How many users of the attacker's own data interacted with each item, members or not.

    Raises
    ------
    ProtocolError
        On unequal shapes, or a vector that is used and not finite.

    Examples
    --------
    >>> import numpy as np
    >>> Items(np.eye(3), np.array([True, True, False]), np.array([2, 1, 0])).vectors.shape
    (3, 3)
    """

    vectors: Float64
    has_vector: Bool
    popularity: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        n_items = len(self.popularity)
        shapes = {"vectors": (n_items, *self.vectors.shape[1:2]), "has_vector": (n_items,), "popularity": (n_items,)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ProtocolError(f"items.{name} must have shape {shape}; got {getattr(self, name).shape}")
        if not np.isfinite(self.vectors).all():
            if not np.isfinite(self.vectors[self.has_vector]).all():
                raise ProtocolError("items.vectors holds values that are not finite")
            # Such items get the weight 0 in a mean, and 0 times a value that is not finite is not 0.
            object.__setattr__(self, "vectors", np.where(self.has_vector[:, None], self.vectors, 0.0))


@dataclass(frozen=True, eq=False)
class Observation:
    """What an attacker sees of n users; never their membership.

    Parameters
    ----------
    histories : csr_array of float32, shape (n, n_items)
        The interactions of each user, which the attacker is assumed to know.
    lists : int32, shape (n, k)
        What the system recommends to each user, best first; -1 pads a list that ends early.
    items : Items
        What the attacker knows of the items.
    last_time : float64, shape (n,), optional
        Time of each user's latest interaction, in seconds.

    Raises
    ------
    ProtocolError
        On unequal shapes, an item out of range, or an item twice in a list.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> items = Items(np.eye(3), np.ones(3, bool), np.array([2, 1, 0]))
    >>> seen = Observation(sparse.csr_array([[1.0, 0.0, 0.0]]), np.array([[1, 2]], np.int32), items)
    >>> len(seen)
    1
    """

    histories: sparse.csr_array
    lists: npt.NDArray[np.int32]
    items: Items
    last_time: Float64 | None = None
    # Features that were computed before, by name: arrays with one row per user. Not an argument, so that
    # `dataclasses.replace` with other lists or histories starts without them.
    _features: dict[str, npt.NDArray[Any]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        n, n_items = self.histories.shape
        if len(self.items.popularity) != n_items:
            raise ProtocolError(
                f"the histories are over {n_items} items, and the attacker knows {len(self.items.popularity)}"
            )
        if self.last_time is not None and self.last_time.shape != (n,):
            raise ProtocolError(f"last_time must have shape {(n,)}; got {self.last_time.shape}")
        check_lists(self.lists, n, n_items)

    def __len__(self) -> int:
        return len(self.lists)

    def feature(self, name: str, compute: Callable[[Observation], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Return ``compute(self)``, an array with one row per user, which is computed once for each name."""
        if name not in self._features:
            self._features[name] = compute(self)
        return self._features[name]

    def take(self, rows: npt.NDArray[np.integer]) -> Observation:
        """Return the observation of these users only."""
        part = replace(
            self,
            histories=self.histories[rows],
            lists=self.lists[rows],
            last_time=None if self.last_time is None else self.last_time[rows],
        )
        part._features.update({name: array[rows] for name, array in self._features.items()})
        return part


@dataclass(frozen=True, eq=False)
class ShadowPool:
    """Lists that n users get from S shadow models, and which users each model was trained on.

    Parameters
    ----------
    histories : csr_array of float32, shape (n, n_items)
        The interactions of each user.
    lists : int32, shape (S, n, k)
        -1 pads a list that ends early.
    member : bool, shape (S, n)
        Whether user u is in the training data of model s.
    items : Items
        What the attacker knows of the items.

    Raises
    ------
    ProtocolError
        On unequal shapes, or lists that break the rules of `check_lists`.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> items = Items(np.eye(3), np.ones(3, bool), np.array([2, 1, 0]))
    >>> lists = np.array([[[1, 2]], [[2, 1]]], np.int32)
    >>> pool = ShadowPool(sparse.csr_array([[1.0, 0.0, 0.0]]), lists, np.array([[True], [False]]), items)
    >>> len(pool), pool.n_users, pool.n_items
    (2, 1, 3)
    """

    histories: sparse.csr_array
    lists: npt.NDArray[np.int32]
    member: Bool
    items: Items

    def __post_init__(self) -> None:
        if self.lists.ndim != 3 or self.member.dtype != np.bool_ or self.member.shape != self.lists.shape[:2]:
            raise ProtocolError(
                f"a shadow pool needs lists int32[S, n, k] and member bool[S, n]; got {self.lists.dtype}"
                f"{list(self.lists.shape)} and {self.member.dtype}{list(self.member.shape)}"
            )
        if self.histories.shape[0] != self.n_users:
            raise ProtocolError(f"the pool has lists of {self.n_users} users and {self.histories.shape[0]} histories")
        for s, lists in enumerate(self.lists):
            try:
                check_lists(lists, lists.shape[0], self.n_items)
            except ProtocolError as error:
                raise ProtocolError(f"shadow {s}: {error}") from None

    def __len__(self) -> int:
        return len(self.lists)

    @property
    def n_users(self) -> int:
        """The number of users."""
        return int(self.lists.shape[1])

    @property
    def n_items(self) -> int:
        """The number of items."""
        return int(self.histories.shape[1])

    def take(self, shadows: npt.NDArray[np.integer]) -> ShadowPool:
        """Return the pool of these shadow models, with all users."""
        return replace(self, lists=self.lists[shadows], member=self.member[shadows])

    def take_users(self, users: Bool) -> ShadowPool:
        """Return the pool of these users, given as a mask bool[n], with all shadow models."""
        return replace(self, histories=self.histories[users], lists=self.lists[:, users], member=self.member[:, users])

    def observe(self, lists: npt.NDArray[np.int32]) -> Observation:
        """Return the observation of a system that shows these lists, int32[n, k], to the users of the pool."""
        return Observation(self.histories, lists, self.items)


def check_lists(lists: npt.NDArray[np.int32], n: int, n_items: int) -> None:
    """Check that `lists` are n lists of distinct items in 0..n_items - 1, padded at the end with -1.

    Raises
    ------
    ProtocolError
        Naming the first user (row) and the rule that is broken.

    Examples
    --------
    >>> import numpy as np
    >>> check_lists(np.array([[2, 0, -1]], np.int32), 1, 3)
    """
    if not isinstance(lists, np.ndarray) or lists.ndim != 2 or lists.shape[0] != n or lists.dtype != np.int32:
        raise ProtocolError(f"lists must be int32 with shape ({n}, k); got {describe(lists)}")
    for rows in blocks(n):
        part = lists[rows]
        ordered = np.sort(part, axis=1)
        broken = {
            f"holds an item out of 0..{n_items - 1} (-1 pads)": ((part < -1) | (part >= n_items)).any(axis=1),
            "holds an item twice": ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1),
            "has an item after its padding": ((part[:, :-1] == -1) & (part[:, 1:] != -1)).any(axis=1),
        }
        for rule, users in broken.items():
            if users.any():
                raise ProtocolError(f"the list of user {rows.start + int(np.argmax(users))} {rule}")


def blocks(n: int) -> Iterator[slice]:
    """Return slices that cover n users, so that computations on each entry of their lists take little memory."""
    return (slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK))


def describe(value: object) -> str:
    """Return words for a value that should have been an array, for a message."""
    return f"{value.dtype} with shape {value.shape}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def in_history(lists: npt.NDArray[np.int32], histories: sparse.csr_array) -> Bool:
    """Return which entries of the lists are in the user's own history: bool, shape (n, k); padding is not.

    >>> import numpy as np
    >>> from scipy import sparse
    >>> in_history(np.array([[2, 0, -1]], np.int32), sparse.csr_array([[1.0, 0.0, 0.0]]))
    array([[False,  True, False]])
    """
    n, n_items = histories.shape
    if not histories.has_sorted_indices:
        histories = histories.sorted_indices()
    found = np.zeros(lists.shape, np.bool_)
    for rows in blocks(n):
        own = np.arange(rows.stop - rows.start)
        ends = histories.indptr[rows.start : rows.stop + 1]
        seen = np.repeat(own, np.diff(ends)) * n_items + histories.indices[ends[0] : ends[-1]]
        if len(seen):
            listed = own[:, None] * n_items + lists[rows]
            place = np.minimum(np.searchsorted(seen, listed), len(seen) - 1)
            found[rows] = (lists[rows] >= 0) & (seen[place] == listed)
    return found


def held_out_hits(
    lists: npt.NDArray[np.int32], held_out: sparse.csr_array, k: int
) -> tuple[Bool, npt.NDArray[np.int64]]:
    """Return which of the first k items of each list are held-out items, and the number of held-out items per user.

    Parameters
    ----------
    lists : int32, shape (n, at least k)
        Best first, -1 pads.
    held_out : csr_array, shape (n, n_items)
        Each stored entry is a held-out item, whatever its value is.
    k : int

    Returns
    -------
    hits : bool, shape (n, k)
    counts : int64, shape (n,)

    Raises
    ------
    ConfigError
        For `k` out of range.
    DataError
        If a user has no held-out item: no metric is defined for that user, and a mean over the others would hide it.
    ProtocolError
        If `lists` are not lists of distinct items for these users.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> hits, counts = held_out_hits(np.array([[2, 0, 1]], np.int32), sparse.csr_array([[1.0, 1.0, 0.0]]), k=2)
    >>> hits, counts
    (array([[False,  True]]), array([2]))
    """
    check_lists(lists, *held_out.shape)
    if not 1 <= k <= lists.shape[1]:
        raise ConfigError(f"k must lie in 1..{lists.shape[1]}, the length of the lists; got {k}")
    counts = np.diff(held_out.indptr).astype(np.int64)
    if not counts.all():
        raise DataError(
            f"{int((counts == 0).sum())} of {len(counts)} users have no held-out item, the first is user "
            f"{int(np.argmin(counts))}; leave them out of the lists and of held_out"
        )
    return in_history(lists[:, :k], held_out), counts


def rank_by_popularity(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Return item rows from the most to the least popular, ties by lower row: int32, shape (n_items,).

    >>> import numpy as np
    >>> rank_by_popularity(np.array([1, 3, 3])).tolist()
    [1, 2, 0]
    """
    return np.argsort(-counts, kind="stable").astype(np.int32)

"""What an attacker sees: plain arrays, and nothing that knows a model or the true split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.errors import ProtocolError

# Users worked on at once where each takes much memory.
_BLOCK = 2**15

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Observation:
    """The users of one side as an attacker sees them. Who is a member is never part of it.

    Parameters
    ----------
    histories : csr_array of float32, shape (n, n_items)
        What each user interacted with, as known to anyone who knows the user.
    lists : int32, shape (n, k)
        What the system recommends to each user, best first; -1 pads a list that ends early.
    history_mean : float64, shape (n, l)
        Mean of the attacker's item vectors over each history.
    list_mean : float64, shape (n, l)
        Weighted mean of the attacker's item vectors over each list.
    popular_mean : float64, shape (l,)
        The same over the list of the most popular items.
    has_vector : bool, shape (n,)
        False where no item of the history, or none of the list, is known to the attacker; the means are then 0.
    popularity : int64, shape (n_items,)
        How many users of the attacker's own data interacted with each item.
    last_time : float64, shape (n,), optional
        Time of each user's latest interaction, in seconds.

    Raises
    ------
    ProtocolError
        On unequal shapes, an item out of range, an item twice in a list, or a mean that is not finite.
    """

    histories: sparse.csr_array
    lists: npt.NDArray[np.int32]
    history_mean: Float64
    list_mean: Float64
    popular_mean: Float64
    has_vector: Bool
    popularity: npt.NDArray[np.int64]
    last_time: Float64 | None = None

    def __post_init__(self) -> None:
        n, n_items = self.histories.shape
        l = self.popular_mean.shape[0]  # noqa: E741
        shapes = {
            "history_mean": (self.history_mean, (n, l)),
            "list_mean": (self.list_mean, (n, l)),
            "has_vector": (self.has_vector, (n,)),
            "popularity": (self.popularity, (n_items,)),
        }
        if self.last_time is not None:
            shapes["last_time"] = (self.last_time, (n,))
        for name, (array, shape) in shapes.items():
            if array.shape != shape:
                raise ProtocolError(f"{name} must have shape {shape}; got {array.shape}")
        for name in ("history_mean", "list_mean", "popular_mean"):
            if not np.isfinite(getattr(self, name)).all():
                raise ProtocolError(f"{name} holds values that are not finite")
        check_lists(self.lists, n, n_items)

    def __len__(self) -> int:
        return len(self.lists)

    @property
    def user_vectors(self) -> Float64:
        """The paper's user vectors, history mean minus list mean, float64, shape (n, l)."""
        return self.history_mean - self.list_mean

    def take(self, rows: npt.NDArray[np.integer]) -> Observation:
        """The same knowledge of these users only."""
        return replace(
            self,
            histories=self.histories[rows],
            lists=self.lists[rows],
            history_mean=self.history_mean[rows],
            list_mean=self.list_mean[rows],
            has_vector=self.has_vector[rows],
            last_time=None if self.last_time is None else self.last_time[rows],
        )


@dataclass(frozen=True, eq=False)
class ShadowPool:
    """Lists that n users get from S shadow models, and who of them is in the training data of which model.

    Parameters
    ----------
    lists : int32, shape (S, n, k)
        -1 pads a list that ends early.
    member : bool, shape (S, n)
    n_items : int

    Raises
    ------
    ProtocolError
        On unequal shapes, or lists that break the rules of `check_lists`.
    """

    lists: npt.NDArray[np.int32]
    member: Bool
    n_items: int

    def __post_init__(self) -> None:
        if self.lists.ndim != 3 or self.member.dtype != np.bool_ or self.member.shape != self.lists.shape[:2]:
            raise ProtocolError(
                f"a shadow pool needs lists int32[S, n, k] and member bool[S, n]; got {self.lists.dtype}"
                f"{list(self.lists.shape)} and {self.member.dtype}{list(self.member.shape)}"
            )
        for s, lists in enumerate(self.lists):
            try:
                check_lists(lists, lists.shape[0], self.n_items)
            except ProtocolError as error:
                raise ProtocolError(f"shadow {s}: {error}") from None

    def __len__(self) -> int:
        return len(self.lists)

    @property
    def n_users(self) -> int:
        """How many users the lists were given to."""
        return int(self.lists.shape[1])

    def take(self, shadows: npt.NDArray[np.integer]) -> ShadowPool:
        """The same users with these shadow models only."""
        return ShadowPool(self.lists[shadows], self.member[shadows], self.n_items)


def check_lists(lists: npt.NDArray[np.int32], n: int, n_items: int) -> None:
    """Refuse anything that is not n lists of distinct items.

    Raises
    ------
    ProtocolError
        Naming the first user (row) and the rule that is broken.
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
    """Cut n users into blocks, so that what is worked out for each entry of their lists takes little memory."""
    return (slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK))


def describe(value: object) -> str:
    """What a value is that should have been an array, for a message."""
    return f"{value.dtype} with shape {value.shape}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def in_history(lists: npt.NDArray[np.int32], histories: sparse.csr_array) -> Bool:
    """Tell which entries of the lists are in the user's own history: bool, shape (n, k); padding is not."""
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

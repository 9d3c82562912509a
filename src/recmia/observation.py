"""What an attacker sees: plain arrays. No model and no membership of audited users is reachable from here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.errors import ConfigError, DataError, ProtocolError

_Value = TypeVar("_Value")

# Users that are processed together where each takes much memory.
_BLOCK = 2**15
# Marks for users and items at once: they stay in a core's second-level cache.
_MARKS = 2**19

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
class Queries:
    """What an attacker asks: histories of its own making, each a part of what it knows of a user.

    Parameters
    ----------
    user : int32, shape (q,)
        The user (row) whom each query is about, ascending.
    asked : csr_array of float32, shape (q, n_items)
        The histories that the system is asked with.
    hidden : csr_array of float32, shape (q, n_items)
        What the attacker knows of the user and left out of the query.
    sequences : csr_array of float32, shape (q, n_items), optional
        The histories that the system is asked with, in the order of events, for a system that uses it: rows hold the
        items of those of `asked`, in this order, and a repeated item repeatedly.

    Raises
    ------
    ProtocolError
        On unequal shapes, users that do not ascend, or an item that is both asked with and hidden.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> halves = sparse.csr_array(np.eye(2, dtype=np.float32))
    >>> len(Queries(np.array([0, 0], np.int32), halves, halves[[1, 0]]))
    2
    """

    user: npt.NDArray[np.int32]
    asked: sparse.csr_array
    hidden: sparse.csr_array
    sequences: sparse.csr_array | None = None

    def __post_init__(self) -> None:
        n, shape = len(self.user), self.asked.shape
        if self.user.ndim != 1 or self.user.dtype != np.int32 or shape != self.hidden.shape or shape[0] != n:
            raise ProtocolError(
                "queries need user int32[q] and two csr_array of shape (q, n_items), asked and hidden; got "
                f"{self.user.dtype}{list(self.user.shape)}, {shape} and {self.hidden.shape}"
            )
        if (np.diff(self.user) < 0).any() or self.user.min(initial=0) < 0:
            raise ProtocolError("the users of queries must be rows, 0 or more, in ascending order")
        if (self.asked * self.hidden).nnz:
            raise ProtocolError("a query asks with an item that it also hides")
        if self.sequences is not None and self.sequences.shape != shape:
            raise ProtocolError(f"sequences must have the shape of asked, {shape}; got {self.sequences.shape}")

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the histories that are asked with, in hex."""
        return _digest(self.asked)

    @cached_property
    def fingerprint_in_order(self) -> str:
        """SHA-256 of the histories that a system is asked with that uses the order of events, in hex."""
        return _digest(self.histories(in_order=True))

    def histories(self, *, in_order: bool = False) -> sparse.csr_array:
        """Return what the system is asked with; where wanted, in the order of events.

        Raises
        ------
        ConfigError
            If the order is not known.
        """
        if not in_order:
            return self.asked
        if self.sequences is None:
            raise ConfigError("the order of what is asked with is not known, and the recommender uses it")
        return self.sequences

    def take(self, rows: npt.NDArray[np.integer], user: npt.NDArray[np.int32] | None = None) -> Queries:
        """Return these queries only, about the same users, or about users with other numbers."""
        sequences = None if self.sequences is None else self.sequences[rows]
        return Queries(self.user[rows] if user is None else user, self.asked[rows], self.hidden[rows], sequences)

    @property
    def hidden_user(self) -> npt.NDArray[np.int32]:
        """The user of each hidden interaction, in the order of ``hidden.indices``: int32, shape (m,)."""
        return np.repeat(self.user, np.diff(self.hidden.indptr))

    @property
    def hidden_keys(self) -> npt.NDArray[np.int64]:
        """A number for user and item of each hidden interaction, as `Interactions.keys`: int64, shape (m,)."""
        return self.hidden_user.astype(np.int64) * self.hidden.shape[1] + self.hidden.indices

    def take_users(self, rows: npt.NDArray[np.integer]) -> tuple[Queries, npt.NDArray[np.int64]]:
        """Return the queries about these users, numbered anew, and which of the queries they are."""
        starts, ends = np.searchsorted(self.user, rows), np.searchsorted(self.user, rows, side="right")
        places = np.concatenate([np.arange(*ends_of) for ends_of in zip(starts, ends, strict=True)] or [starts])
        user = np.repeat(np.arange(len(rows), dtype=np.int32), ends - starts)
        return self.take(places, user), places.astype(np.int64)


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
    queries : Queries, optional
        What the attacker asked about these users, if it may ask.
    answers : int32, shape (q, k), optional
        What the system answered, best first; -1 pads.
    references : int32, shape (R, q, k), optional
        What R models that the attacker trained on other people's data answer to the same queries.
    as_stranger : int32, shape (n, k), optional
        What the system answers to each user's whole history, put to it as a stranger's.

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
    queries: Queries | None = None
    answers: npt.NDArray[np.int32] | None = None
    references: npt.NDArray[np.int32] | None = None
    as_stranger: npt.NDArray[np.int32] | None = None
    # Features that were computed before, by name: arrays with one row per user. Not an argument, so that
    # `dataclasses.replace` with other lists or histories starts without them.
    _features: dict[Hashable, npt.NDArray[Any]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        n, n_items = self.histories.shape
        if len(self.items.popularity) != n_items:
            raise ProtocolError(
                f"the histories are over {n_items} items, and the attacker knows {len(self.items.popularity)}"
            )
        if self.last_time is not None and self.last_time.shape != (n,):
            raise ProtocolError(f"last_time must have shape {(n,)}; got {self.last_time.shape}")
        check_lists(self.lists, n, n_items)
        check_answers(self.queries, n, n_items, self.answers, self.references)
        if self.as_stranger is not None:
            check_lists(self.as_stranger, n, n_items)

    def __len__(self) -> int:
        return len(self.lists)

    def looking_only(self) -> Observation:
        """Return what an attacker sees who does not ask: no queries, and no answers."""
        # Features may have been computed from answers.
        return _part(self, queries=None, answers=None, references=None, as_stranger=None, _features={})

    def feature(self, name: Hashable, compute: Callable[[Observation], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Return ``compute(self)``, an array with one row per user, which is computed once for each name."""
        if name not in self._features:
            self._features[name] = compute(self)
        return self._features[name]

    def take(self, rows: npt.NDArray[np.integer]) -> Observation:
        """Return the observation of these users only."""
        asked: dict[str, Any] = {}
        if self.queries is not None:
            queries, places = self.queries.take_users(rows)
            answers, references = self.answers, self.references
            asked = {
                "queries": queries,
                "answers": None if answers is None else answers[places],
                "references": None if references is None else references[:, places],
            }
        part = _part(
            self,
            histories=self.histories[rows],
            lists=self.lists[rows],
            last_time=None if self.last_time is None else self.last_time[rows],
            as_stranger=None if self.as_stranger is None else self.as_stranger[rows],
            _features={},
            **asked,
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
    deep : sequence of S arrays int32, shape (n, depth), optional
        Longer lists, of which `lists` are the starts: the attacker's own models serve as many items as it likes. They
        are not copied.
    queries : Queries, optional
        What the attacker asked about the users, the same of every system.
    answers : sequence of S arrays int32, shape (q, k), optional
        What the shadow models answer; not copied.

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
    deep: Sequence[npt.NDArray[np.int32]] | npt.NDArray[np.int32] | None = None
    queries: Queries | None = None
    answers: Sequence[npt.NDArray[np.int32]] | npt.NDArray[np.int32] | None = None
    # The pool that this one was taken from, if it was, and which of its shadow models these are.
    _taken_from: ShadowPool | None = field(default=None, init=False, repr=False)
    _numbers: npt.NDArray[np.int64] | None = field(default=None, init=False, repr=False)
    _features: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.lists.ndim != 3 or self.member.dtype != np.bool_ or self.member.shape != self.lists.shape[:2]:
            raise ProtocolError(
                f"a shadow pool needs lists int32[S, n, k] and member bool[S, n]; got {self.lists.dtype}"
                f"{list(self.lists.shape)} and {self.member.dtype}{list(self.member.shape)}"
            )
        if self.histories.shape[0] != self.n_users:
            raise ProtocolError(f"the pool has lists of {self.n_users} users and {self.histories.shape[0]} histories")
        k = self.lists.shape[2]
        for name, given in (("deep", self.deep), ("answers", self.answers)):
            if given is not None and len(given) != len(self.lists):
                raise ProtocolError(f"a pool of {len(self.lists)} shadow models needs as many {name}; got {len(given)}")
        for s, lists in enumerate(self.lists if self.deep is None else self.deep):
            if not np.array_equal(lists[:, :k], self.lists[s]):
                raise ProtocolError("the lists of a pool must be the starts of its deep lists")
            try:
                check_lists(lists, lists.shape[0], self.n_items)
                if self.answers is not None:
                    check_answers(self.queries, self.n_users, self.n_items, self.answers[s], None)
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

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """Which shadow models these are of the pool that this one was taken from: int64, shape (S,)."""
        return np.arange(len(self)) if self._numbers is None else self._numbers

    def feature(self, name: str, compute: Callable[[ShadowPool], _Value]) -> _Value:
        """Return ``compute(whole)``, which is computed once for each name and all pools that are taken from the whole.

        Attacks are fitted on many parts of a pool, and what these have in common need not be found anew for each.
        `compute` is given the whole pool without its labels: `member` is false everywhere.
        """
        whole = self._taken_from or self
        if name not in whole._features:
            whole._features[name] = compute(_part(whole, member=np.zeros_like(whole.member), _features={}))
        found: _Value = whole._features[name]
        return found

    def take(self, shadows: npt.NDArray[np.integer]) -> ShadowPool:
        """Return the pool of these shadow models, with all users."""
        return _part(
            self,
            lists=self.lists[shadows],
            member=self.member[shadows],
            deep=None if self.deep is None else [self.deep[s] for s in shadows],
            answers=None if self.answers is None else [self.answers[s] for s in shadows],
            _taken_from=self._taken_from or self,
            _numbers=self.numbers[shadows],
        )

    def looking_only(self) -> ShadowPool:
        """Return the pool of an attacker who does not ask: no queries, and no answers."""
        # Features may have been computed from answers.
        return _part(self, queries=None, answers=None, _taken_from=None, _numbers=None, _features={})

    def take_users(self, users: Bool) -> ShadowPool:
        """Return the pool of these users, given as a mask bool[n], with all shadow models."""
        asked: dict[str, Any] = {}
        if self.queries is not None:
            queries, places = self.queries.take_users(np.flatnonzero(users))
            asked = {"queries": queries, "answers": None if self.answers is None else [a[places] for a in self.answers]}
        return _part(
            self,
            histories=self.histories[users],
            lists=self.lists[:, users],
            member=self.member[:, users],
            deep=None if self.deep is None else [lists[users] for lists in self.deep],
            _taken_from=None,
            _numbers=None,
            _features={},
            **asked,
        )

    def observe(self, lists: npt.NDArray[np.int32], answers: npt.NDArray[np.int32] | None = None) -> Observation:
        """Return the observation of a system that shows these lists, int32[n, k], to the users of the pool.

        Parameters
        ----------
        lists : int32, shape (n, k)
        answers : int32, shape (q, k), optional
            What it answers to the queries of the pool.
        """
        queries = None if answers is None else self.queries
        return Observation(self.histories, lists, self.items, queries=queries, answers=answers)

    def observe_shadow(self, number: int) -> Observation:
        """Return the observation of one of the shadow models, which keeps its features from call to call."""
        seen = self.feature("observations of the shadow models", ShadowPool._observations)
        return seen[int(self.numbers[number])]

    def shadow_number(self, observation: Observation) -> int | None:
        """Return which shadow model of the whole pool an observation of `observe_shadow` is of; None for any other."""
        seen = self.feature("observations of the shadow models", ShadowPool._observations)
        return next((number for number, one in enumerate(seen) if one is observation), None)

    def _observations(self) -> list[Observation]:
        empty: npt.NDArray[np.int32] = np.full((self.n_users, 0), -1, np.int32)
        blank, asks = Observation(self.histories, empty, self.items), self.answers is not None
        # Lists and answers were checked with the pool.
        return [
            _part(
                blank,
                lists=lists,
                queries=self.queries if asks else None,
                answers=None if self.answers is None else self.answers[number],
                _features={},
            )
            for number, lists in enumerate(self.lists)
        ]


@dataclass(frozen=True, eq=False)
class InteractionPool:
    """What S shadow models answer to queries about n users, and which hidden interactions each was trained on.

    Parameters
    ----------
    queries : Queries
        m hidden interactions in all.
    answers : int32, shape (S, q, k)
    trained : bool, shape (S, m)
        In the order of ``queries.hidden.indices``.
    items : Items

    Raises
    ------
    ProtocolError
        On unequal shapes, and answers that break the rules of `check_lists`.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> halves = sparse.csr_array(np.eye(2, dtype=np.float32))
    >>> queries = Queries(np.array([0, 0], np.int32), halves, halves[[1, 0]])
    >>> items = Items(np.eye(2), np.ones(2, bool), np.array([1, 1]))
    >>> answers = np.array([[[1], [0]]], np.int32)
    >>> len(InteractionPool(queries, answers, np.array([[True, False]]), items))
    1
    """

    queries: Queries
    answers: npt.NDArray[np.int32]
    trained: Bool
    items: Items

    def __post_init__(self) -> None:
        shape = (len(self.answers), self.queries.hidden.nnz)
        if self.trained.shape != shape or self.trained.dtype != np.bool_:
            raise ProtocolError(f"trained must be bool with shape {shape}; got {describe(self.trained)}")
        n_users = int(self.queries.user.max(initial=-1)) + 1
        for s, answers in enumerate(self.answers):
            try:
                check_answers(self.queries, n_users, len(self.items.popularity), answers, None)
            except ProtocolError as error:
                raise ProtocolError(f"shadow {s}: {error}") from None

    def __len__(self) -> int:
        return len(self.answers)


def _digest(histories: sparse.csr_array) -> str:
    found = hashlib.sha256()
    for part, kind in (("indptr", "<i8"), ("indices", "<i8"), ("data", "<f4")):
        found.update(getattr(histories, part).astype(kind).tobytes())
    return found.hexdigest()


def _part(whole: _Value, **changed: Any) -> _Value:
    """Return a value with other fields, which are parts of those of `whole`: what was checked is not checked again."""
    part = copy(whole)
    for name, value in changed.items():
        object.__setattr__(part, name, value)
    return part


def check_answers(
    queries: Queries | None,
    n_users: int,
    n_items: int,
    answers: npt.NDArray[np.int32] | None,
    references: npt.NDArray[np.int32] | None,
) -> None:
    """Check that answers are lists that belong to queries about n users.

    Raises
    ------
    ProtocolError
        For answers without queries, queries about other users or items, and answers that break the rules of
        `check_lists`.
    """
    if queries is None:
        if answers is not None or references is not None:
            raise ProtocolError("there are answers, and no queries that they answer")
        return
    if queries.user.max(initial=-1) >= n_users or queries.asked.shape[1] != n_items:
        raise ProtocolError(
            f"the queries must be about users 0..{n_users - 1} and {n_items} items; got users up to "
            f"{queries.user.max(initial=-1)} and {queries.asked.shape[1]} items"
        )
    if references is not None and references.ndim != 3:
        raise ProtocolError(f"references must be int32 with shape (R, {len(queries)}, k); got {describe(references)}")
    for lists in ([] if answers is None else [answers], [] if references is None else references):
        for one in lists:
            check_lists(one, len(queries), n_items, lambda row: f"the answer to query {row}")


def list_of_user(row: int) -> str:
    """Return what the list in a row is called in errors."""
    return f"the list of user {row}"


def check_lists(
    lists: npt.NDArray[np.int32], n: int, n_items: int, called: Callable[[int], str] = list_of_user
) -> None:
    """Check that `lists` are n lists of distinct items in 0..n_items - 1, padded at the end with -1.

    Parameters
    ----------
    lists : int32, shape (n, k)
    n, n_items : int
    called : callable
        From a row to what its list is called in errors.

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
                raise ProtocolError(f"{called(rows.start + int(np.argmax(users)))} {rule}")


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
    found = np.zeros(lists.shape, np.bool_)
    at_once = max(1, _MARKS // (n_items + 1))
    # The last column stands for padding, which -1 refers to.
    marks = np.zeros((at_once, n_items + 1), np.bool_)
    for start in range(0, n, at_once):
        stop = min(start + at_once, n)
        ends = histories.indptr[start : stop + 1]
        seen = np.repeat(np.arange(stop - start), np.diff(ends)), histories.indices[ends[0] : ends[-1]]
        marks[seen] = True
        found[start:stop] = np.take_along_axis(marks[: stop - start], lists[start:stop], axis=1)
        marks[seen] = False
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

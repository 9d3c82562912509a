"""Interactions: which user interacted with which item. All recommenders are trained on them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from recmia.errors import DataError
from recmia.forks import check_fork

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

MAX_INTERACTIONS = 2**31 - 1
# The first second of 1990: whatever has only smaller times counts steps, and not seconds since the epoch.
_FIRST_DATE = 631_152_000
# Stands for a time that is not known; NumPy and pandas write NaT so.
UNKNOWN_TIME = int(np.iinfo(np.int64).min)
# Whole numbers of seconds reach it in the year 5138, of milliseconds in 1973.
LEAST_MILLISECONDS = 10**11
_ROWS_AT_ONCE = 2**22


@dataclass(frozen=True, eq=False)
class IdMap:
    """External ids (of a file, of a database) by row 0 .. n-1.

    Parameters
    ----------
    ids : array of int64 or of str, shape (n,)
        Unique. Row r stands for ``ids[r]``.
    text : tuple of str, length n, optional
        What is publicly known of each, as terms separated by ``|``: the genres and tags of a film, for example.

    Raises
    ------
    DataError
        For ids that occur more than once, and texts of another number.

    Examples
    --------
    >>> IdMap(np.array(["a", "b", "c"])).take(np.array([2, 0])).ids
    array(['c', 'a'], dtype='<U1')
    """

    ids: npt.NDArray[np.generic]
    text: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.ids.ndim != 1 or len(np.unique(self.ids)) != len(self.ids):
            raise DataError(f"ids must be a flat array without repeats; got shape {self.ids.shape}")
        if self.text is not None and len(self.text) != len(self.ids):
            raise DataError(f"text must have one entry for each of the {len(self.ids)} ids; got {len(self.text)}")
        self.ids.setflags(write=False)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: npt.NDArray[np.integer]) -> IdMap:
        """Return the map of these rows only, in this order."""
        return IdMap(self.ids[rows], None if self.text is None else tuple(self.text[row] for row in rows))


@dataclass(frozen=True, eq=False)
class Interactions:
    """Pairs of user and item, with ratings and times if there are any, sorted by user and then item, without repeats.

    Parameters
    ----------
    user, item : int32, shape (n,)
        Rows of `users` and `items`.
    value : float32, shape (n,)
        The rating, or 1 where the data have none.
    time : int64, shape (n,), optional
        Seconds since the epoch; `UNKNOWN_TIME`, the least int64, where it is not known.
    users, items : IdMap
        What the rows stand for. An item need not occur: parts of a data set share its items.
    rated : bool
        Whether `value` holds ratings that differ, so that an explicit model makes sense.
    events : int32, shape (m,), optional
        Positions of interactions, for each user in turn, in the order in which they happened. An interaction that was
        repeated has several events; each has one at least. None where the order is not known.
    event_time : int64, shape (m,), optional
        Seconds since the epoch of each event, where there are repeats and times; `time` is then that of the last.

    Raises
    ------
    DataError
        For empty data, unequal lengths, rows out of range, a repeated pair, a value that is not finite, or events that
        are not in order of users or leave an interaction out.

    Examples
    --------
    >>> data = Interactions.from_arrays(["ann", "ann", "bob"], [30, 10, 10], [4.0, 5.0, 2.5])
    >>> data.csr().toarray()
    array([[5. , 4. ],
           [2.5, 0. ]], dtype=float32)
    >>> Interactions.from_arrays([1, 1, 1], ["b", "a", "b"], time=[10, 20, 30]).sequences().indices
    array([1, 0, 1], dtype=int32)
    """

    user: Int32
    item: Int32
    value: Float32
    time: Int64 | None
    users: IdMap
    items: IdMap
    rated: bool = True
    events: Int32 | None = None
    event_time: Int64 | None = None

    def __post_init__(self) -> None:
        n = len(self.user)
        if n == 0:
            raise DataError("no interactions: the table is empty")
        if n > MAX_INTERACTIONS:
            raise DataError(f"{n} interactions are more than the {MAX_INTERACTIONS} that int32 positions can address")
        expected: list[tuple[str, npt.NDArray[np.generic], type]] = [
            ("user", self.user, np.int32),
            ("item", self.item, np.int32),
            ("value", self.value, np.float32),
        ]
        if self.time is not None:
            expected.append(("time", self.time, np.int64))
        for name, array, dtype in expected:
            if array.shape != (n,) or array.dtype != dtype:
                raise DataError(f"{name} must be {dtype.__name__}[{n}]; got {array.dtype}{list(array.shape)}")
            array.setflags(write=False)
        for name, rows, ids in (("user", self.user, self.users), ("item", self.item, self.items)):
            if rows.min() < 0 or rows.max() >= len(ids):
                raise DataError(f"{name} rows must lie in 0..{len(ids) - 1}; found {rows.min()}..{rows.max()}")
        bad = np.flatnonzero(~np.isfinite(self.value))
        if len(bad):
            raise DataError(f"{len(bad)} values are not finite, the first at interaction {bad[0]}")
        step = np.diff(self.user)
        if (step < 0).any() or (np.diff(self.item)[step == 0] <= 0).any():
            raise DataError("interactions must be sorted by user and item and hold each pair once; use from_arrays")
        if self.events is not None:
            self._check_events(self.events)

    def _check_events(self, events: Int32) -> None:
        n, times = len(self), self.event_time
        if events.ndim != 1 or events.dtype != np.int32 or len(events) > MAX_INTERACTIONS:
            raise DataError(f"events must be int32[m]; got {events.dtype}{list(events.shape)}")
        if times is not None and (times.shape != events.shape or times.dtype != np.int64):
            raise DataError(f"event_time must be int64[{len(events)}]; got {times.dtype}{list(times.shape)}")
        if len(events) < n or events.min() < 0 or events.max() >= n or not np.bincount(events, minlength=n).all():
            raise DataError(f"events must name each of the {n} interactions, by its position, at least once")
        if (np.diff(self.user[events]) < 0).any():
            raise DataError("events must come user by user, in the order of the users")
        for column in (events, times):
            if column is not None:
                column.setflags(write=False)

    @classmethod
    def from_arrays(
        cls,
        user: npt.ArrayLike,
        item: npt.ArrayLike,
        value: npt.ArrayLike | None = None,
        time: npt.ArrayLike | Sequence[date | None] | None = None,
        *,
        position: npt.ArrayLike | None = None,
        texts: Mapping[Any, str] | None = None,
    ) -> Interactions:
        """Return interactions from columns of external ids in any order.

        Parameters
        ----------
        user, item : array of int or str, shape (n,)
        value : array of float, shape (n,), optional
            Without it the data are implicit: every value is 1.
        time : array of int, float, datetime64 or datetime, shape (n,), optional
            Seconds since the epoch, or datetimes; NaN or NaT where it is not known. The order of events is that of
            their times, and among equal times that of the rows.
        position : array of int, shape (n,), optional
            Order of the events of a user: where there are no times, or among equal times.
        texts : mapping from item id to str, optional
            What is publicly known of an item, as in `IdMap`; an item that is not in the mapping gets no terms.

        Returns
        -------
        Interactions
            Rows follow the sorted order of the ids. With times or positions, a pair may be repeated: its events are
            kept, and its value and time are those of the last.

        Raises
        ------
        DataError
            As for the class, and for a column of another type, ids beyond 64 bits, and times finer than seconds.

        Examples
        --------
        >>> Interactions.from_arrays([7, 7, 3], ["x", "y", "x"]).users.ids
        array([3, 7])
        """
        user_rows, user_ids = number_ids(pl.Series(_checked_ids("user", user)))
        item_rows, item_ids = number_ids(pl.Series(_checked_ids("item", item)))
        n = len(user_rows)
        given: dict[str, Any] = {"item": item_rows, "value": value, "time": time, "position": position}
        for name, column in given.items():
            if column is not None and np.shape(column) != (n,):
                raise DataError(f"{name} must have one entry for each of the {n} users; got shape {np.shape(column)}")
        times, finer = (None, None) if time is None else _seconds(np.asarray(time))
        places = finer if position is None else _positions(np.asarray(position))
        happened = None if time is None and position is None else order_of_events(user_rows, times, places)
        if happened is None:
            kept = np.lexsort((item_rows, user_rows))
            events, event_time = None, None
        else:
            kept, events, event_time = last_of_each(user_rows, item_rows, happened, times)
        return cls(
            user=user_rows[kept],
            item=item_rows[kept],
            value=np.ones(len(kept), np.float32) if value is None else _ratings(value)[kept],
            time=None if times is None else times[kept],
            users=IdMap(user_ids),
            items=IdMap(item_ids, tuple(texts.get(item, "") for item in item_ids.tolist()) if texts else None),
            rated=value is not None,
            events=events,
            event_time=event_time,
        )

    def __len__(self) -> int:
        return len(self.user)

    @property
    def n_users(self) -> int:
        """Number of users, those without an interaction included."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Number of items, those without an interaction included."""
        return len(self.items)

    def csr(self) -> sparse.csr_array:
        """Return the values as a sparse matrix, float32, shape (n_users, n_items), column indices sorted."""
        counts = np.bincount(self.user, minlength=self.n_users)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        return sparse.csr_array((self.value, self.item, indptr), shape=(self.n_users, self.n_items))

    def sequences(self) -> sparse.csr_array:
        """Return the values as histories in order, float32, shape (n_users, n_items).

        Row u holds the items of user u in the order of events, the oldest first, and a repeated item repeatedly. So
        column indices are not sorted, and the matrix is not in scipy's canonical format.

        Raises
        ------
        DataError
            If the order is not known.
        """
        events = self.known_events()
        ends = np.searchsorted(self.user[events], np.arange(self.n_users + 1)).astype(np.int32)
        return sparse.csr_array((self.value[events], self.item[events], ends), (self.n_users, self.n_items))

    def known_events(self) -> Int32:
        """Return `events`.

        Raises
        ------
        DataError
            If the order is not known.
        """
        if self.events is None:
            raise DataError(
                "the order of the interactions is needed and not known: give times or positions (a column that "
                "columns.time or columns.position names; time= or position= of Interactions.from_arrays)"
            )
        return self.events

    def event_times(self) -> Int64 | None:
        """Return the time of each event in seconds, int64, shape (m,); None without times or without an order."""
        if self.event_time is not None or self.time is None or self.events is None:
            return self.event_time
        return self.time[self.events]

    @cached_property
    def unordered(self) -> Interactions:
        """The same interactions, of which the order is not known: all that most recommenders use."""
        return self if self.events is None else replace(self, events=None, event_time=None)

    def keys(self) -> Int64:
        """Return a number for each pair of user and item, the same in all data over these users and items."""
        return self.user.astype(np.int64) * self.n_items + self.item

    def item_counts(self) -> Int64:
        """Return how many users interacted with each item, int64, shape (n_items,)."""
        return np.bincount(self.item, minlength=self.n_items)

    def period(self) -> tuple[str, str] | None:
        """Return the first and the last day (UTC) that are known, as ``YYYY-MM-DD``.

        None without times, or where they are no dates: numbers so small that all lie before 1990.

        Examples
        --------
        >>> Interactions.from_arrays([1, 1], ["a", "b"], time=[1_700_000_000, 1_700_090_000]).period()
        ('2023-11-14', '2023-11-15')
        """
        known = np.empty(0, np.int64) if self.time is None else self.time[self.time != UNKNOWN_TIME]
        if not len(known) or known.max() < _FIRST_DATE:
            return None
        first, last = known[[known.argmin(), known.argmax()]].astype("datetime64[s]").astype("datetime64[D]")
        return str(first), str(last)

    def last_time(self) -> npt.NDArray[np.float64] | None:
        """Return each user's latest known time in seconds, float64, shape (n_users,), else -inf; None without times."""
        if self.time is None:
            return None
        latest = np.full(self.n_users, -np.inf)
        known = self.time != UNKNOWN_TIME
        np.maximum.at(latest, self.user[known], self.time[known].astype(np.float64))
        return latest

    def frame(self) -> pl.DataFrame:
        """Return a table with external ids: user, item, rating if `rated`, and time and text if there are any.

        Where the order is known, it has a row for each event, in order, with a column position: 1 for a user's first. A
        time that is not known is null.
        """
        rows = np.arange(len(self), dtype=np.int32) if self.events is None else self.events
        user, item = self.user[rows], self.item[rows]
        columns: dict[str, npt.NDArray[np.generic]] = {"user": self.users.ids[user], "item": self.items.ids[item]}
        if self.rated:
            columns["rating"] = self.value[rows]
        if self.time is not None:
            columns["time"] = self.time[rows] if self.event_time is None else self.event_time
        if self.events is not None:
            columns["position"] = places_in_groups(user)
        frame = with_unknown_times(pl.DataFrame(columns))
        if self.items.text is None:
            return frame
        # As categories, a row takes four bytes, however long the text.
        text = pl.Series("text", self.items.text).replace("", None).cast(pl.Categorical)
        return frame.with_columns(text.gather(item))

    def take(self, records: Int64) -> Interactions:
        """Return these interactions only (ascending positions) with their events, of the same users and items."""
        place = None
        if self.events is not None:
            place = np.full(len(self), -1, np.int32)
            place[records] = np.arange(len(records), dtype=np.int32)
        return Interactions(
            self.user[records],
            self.item[records],
            self.value[records],
            None if self.time is None else self.time[records],
            self.users,
            self.items,
            self.rated,
            *self._events_at(place),
        )

    def _events_at(self, place: Int32 | None) -> tuple[Int32 | None, Int64 | None]:
        """Return the events, and their times, of interactions that are now in other places; -1 leaves them out."""
        if self.events is None or place is None:
            return None, None
        moved = place[self.events]
        kept = moved >= 0
        return moved[kept], None if self.event_time is None else self.event_time[kept]

    def restrict(self, users: npt.NDArray[np.integer]) -> Interactions:
        """Return these users only, numbered 0 .. len(users)-1 in the same order, over the same items.

        Parameters
        ----------
        users : int, shape (m,)
            Ascending rows without repeats.

        Raises
        ------
        DataError
            For no users, or rows that are not ascending.
        """
        users = np.asarray(users)
        if len(users) == 0 or (np.diff(users) <= 0).any():
            raise DataError(f"users must be a non-empty ascending array of rows without repeats; got {len(users)} rows")
        renumber = np.full(self.n_users, -1, np.int32)
        renumber[users] = np.arange(len(users), dtype=np.int32)
        rows = renumber[self.user]
        kept = self.take(np.flatnonzero(rows >= 0))
        return replace(kept, user=renumber[kept.user], users=self.users.take(users))

    def fingerprint(self) -> str:
        """Return the SHA-256 digest of all columns, ids and texts: equal for equal data, however they were loaded."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for outer in (self.users, self.items):
            digest.update("\x1f".join(map(str, outer.ids.tolist())).encode())
            digest.update(b"\x1e")
            if outer.text is not None:
                digest.update("\x1f".join(outer.text).encode())
                digest.update(b"\x1e")
        columns: list[npt.NDArray[np.generic] | None] = [self.user, self.item, self.value, self.time]
        # Data without an order have the digests that they had before there was one.
        columns += [] if self.events is None else [self.events, self.event_time]
        for column in columns:
            digest.update(b"none" if column is None else column.astype(column.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()


def number_ids(column: pl.Series) -> tuple[Int32, npt.NDArray[np.generic]]:
    """Return the rows and the ids of a column of ids.

    Returns
    -------
    rows : int32, shape (n,)
    ids : array of int or str, shape (m,)
        Ascending; ``ids[rows]`` is the column.

    Examples
    --------
    >>> number_ids(pl.Series([30, 10, 30]))
    (array([1, 0, 1], dtype=int32), array([10, 30]))
    """
    check_fork()
    ids = column.unique().sort()
    places = pl.DataFrame({"id": ids, "row": np.arange(len(ids), dtype=np.int32)})
    rows = np.empty(len(column), np.int32)
    # A join of all at once would hold several columns of positions.
    for start in range(0, len(column), _ROWS_AT_ONCE):
        part = column.slice(start, _ROWS_AT_ONCE).alias("id").to_frame()
        rows[start : start + _ROWS_AT_ONCE] = part.join(places, on="id", how="left", maintain_order="left")["row"]
    return rows, ids.to_numpy()


def order_of_events(group: npt.NDArray[np.integer], time: npt.NDArray[Any] | None, position: Int64 | None) -> Int64:
    """Return the rows of a table by group (user), then time, then position, then as they come: int64, shape (n,).

    Examples
    --------
    >>> order_of_events(np.array([1, 0, 1], np.int32), np.array([9, 5, 8]), None)
    array([1, 2, 0])
    """
    return np.lexsort([column for column in (position, time) if column is not None] + [group])


def last_of_each(user: Int32, item: Int32, happened: Int64, time: Int64 | None) -> tuple[Int64, Int32, Int64 | None]:
    """Return the last event of each pair of user and item, and all events as `Interactions` holds them.

    Parameters
    ----------
    user, item : int32, shape (n,)
        Rows of ids, an entry for each event.
    happened : int64, shape (m,)
        Those that count, user by user, in the order of events.
    time : int64, shape (n,), optional

    Returns
    -------
    kept : int64, shape (number of pairs,)
        Entries, by user and item.
    events : int32, shape (m,)
        Positions among `kept`.
    event_time : int64, shape (m,), or None
        The times, if a pair is repeated.

    Examples
    --------
    >>> user, item = np.array([0, 0, 0], np.int32), np.array([1, 0, 1], np.int32)
    >>> last_of_each(user, item, np.array([0, 1, 2]), np.array([7, 8, 9]))
    (array([1, 2]), array([1, 0, 1], dtype=int32), array([7, 8, 9]))
    """
    pair = user[happened].astype(np.int64) * (int(item.max(initial=0)) + 1) + item[happened]
    # Stable: among the events of a pair, the last comes last.
    order = np.argsort(pair, kind="stable")
    new = np.append(True, np.diff(pair[order]) > 0) if len(order) else np.empty(0, np.bool_)
    events = np.empty(len(order), np.int32)
    events[order] = np.cumsum(new, dtype=np.int32) - 1
    last = order[np.append(new[1:], True)] if len(order) else order
    repeated = len(last) < len(order)
    return happened[last], events, time[happened] if repeated and time is not None else None


def places_in_groups(group: npt.NDArray[np.integer]) -> Int64:
    """Return the place of each entry among those of its group, from 1, where groups are together: int64, shape (n,).

    >>> places_in_groups(np.array([4, 4, 7, 7, 7]))
    array([1, 2, 1, 2, 3])
    """
    starts = np.flatnonzero(np.append(True, np.diff(group) != 0)) if len(group) else np.empty(0, np.int64)
    return np.arange(len(group)) - np.repeat(starts, np.diff(np.append(starts, len(group)))) + 1


def with_unknown_times(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a table in which a time that is not known is null."""
    return frame.with_columns(pl.col("time").replace(UNKNOWN_TIME, None)) if "time" in frame.columns else frame


def with_items_of(other: Interactions, items: IdMap) -> Interactions:
    """Return another data set over these items, which are matched by id; interactions with other items are left out.

    Raises
    ------
    DataError
        If the data set has none of the items, or its ids are of another kind.

    Examples
    --------
    >>> other = Interactions.from_arrays([1, 1, 2], [30, 20, 40])
    >>> with_items_of(other, IdMap(np.array([20, 30]))).csr().toarray()
    array([[1., 1.]], dtype=float32)
    """
    if items.ids.dtype.kind != other.items.ids.dtype.kind:
        raise DataError(
            f"the item ids of the two data sets are of different kinds: {items.ids.dtype} and {other.items.ids.dtype}"
        )
    order = np.argsort(items.ids)
    place = np.minimum(np.searchsorted(items.ids, other.items.ids, sorter=order), len(items) - 1)
    row = np.where(items.ids[order[place]] == other.items.ids, order[place], -1).astype(np.int32)
    kept = np.flatnonzero(row[other.item] >= 0)
    if not len(kept):
        raise DataError("the two data sets have no item id in common")
    kept = kept[np.lexsort((row[other.item[kept]], other.user[kept]))]
    users, user = np.unique(other.user[kept], return_inverse=True)
    place = np.full(len(other), -1, np.int32)
    place[kept] = np.arange(len(kept), dtype=np.int32)
    return Interactions(
        user.astype(np.int32),
        row[other.item[kept]],
        other.value[kept],
        None if other.time is None else other.time[kept],
        other.users.take(users),
        items,
        other.rated,
        *other._events_at(place),
    )


def over_common_items(
    data: Sequence[Interactions], further: IdMap | None = None, *, names: Sequence[str] = ()
) -> list[Interactions]:
    """Return data sets over one common map of items: those that any of them has, and further ones.

    Parameters
    ----------
    data : sequence of Interactions
    further : IdMap, optional
        Items that may be in none of the data sets.
    names : sequence of str
        Names of the data sets, such as their files, for errors.

    Returns
    -------
    list of Interactions
        Items ascend by id, unless there is one data set and nothing to add.

    Raises
    ------
    DataError
        If the item ids are whole numbers in one data set and text in another.

    Examples
    --------
    >>> one, other = Interactions.from_arrays([1], [20]), Interactions.from_arrays([1], [10])
    >>> [each.item.tolist() for each in over_common_items([one, other], IdMap(np.array([30])))]
    [[1], [0]]
    """
    maps = [one.items for one in data]
    if further is not None and len(further):
        maps.append(further)
    if len({ids.ids.dtype.kind for ids in maps}) > 1:
        where = f"{' and '.join(names)}: " if names else ""
        raise DataError(f"{where}the item ids are whole numbers in one file and text in another")
    ids = np.unique(np.concatenate([one.ids for one in maps]))
    if len(data) == 1 and len(ids) == len(data[0].items):
        return list(data)
    texts = {item: text for one in maps for item, text in zip(one.ids.tolist(), one.text or (), strict=False)}
    items = IdMap(ids, tuple(texts.get(item, "") for item in ids.tolist()) if texts else None)
    return [with_items_of(one, items) for one in data]


def join_users(one: Interactions, other: Interactions) -> Interactions:
    """Return the users of two data sets over the same items as one data set, those of `one` first.

    The ids of the users are their rows. Times, and the order of events, are kept if both data sets have them.

    Examples
    --------
    >>> one = Interactions.from_arrays([7, 8], ["x", "y"])
    >>> join_users(one, one).user
    array([0, 1, 2, 3], dtype=int32)
    """
    times = _joined(one.time, other.time)
    events = _joined(one.events, None if other.events is None else other.events + np.int32(len(one)))
    repeated = events is not None and len(events) > len(one) + len(other)
    return Interactions(
        np.concatenate([one.user, other.user + np.int32(one.n_users)]),
        np.concatenate([one.item, other.item]),
        np.concatenate([one.value, other.value]),
        times,
        IdMap(np.arange(one.n_users + other.n_users)),
        one.items,
        one.rated and other.rated,
        events,
        _joined(one.event_times(), other.event_times()) if repeated and times is not None else None,
    )


def _joined(one: npt.NDArray[Any] | None, other: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
    return None if one is None or other is None else np.concatenate([one, other])


def _ratings(value: npt.ArrayLike) -> Float32:
    try:
        return np.asarray(value, np.float32)
    except (TypeError, ValueError):
        raise DataError(f"values must be numbers; got {np.asarray(value).dtype}") from None


def _seconds(time: npt.NDArray[Any]) -> tuple[Int64, Int64 | None]:
    """Return times in whole seconds and, if there are finer ones, microseconds, which order events within a second."""
    if time.dtype.kind == "O":
        time = _moments(time)
    if time.dtype.kind == "M":
        unknown, micro = np.isnat(time), time.astype("datetime64[us]").astype(np.int64)
    elif time.dtype.kind in "iuf":
        unknown = np.isnan(time) if time.dtype.kind == "f" else time == UNKNOWN_TIME
        finer = np.flatnonzero(~unknown & (np.abs(time) >= LEAST_MILLISECONDS))
        if len(finer):
            raise DataError(
                f"times must be seconds since the epoch; found {time[finer[0]]}: give finer ones as datetime64, "
                'such as time.astype("datetime64[ms]")'
            )
        if time.dtype.kind != "f":
            return time.astype(np.int64), None
        micro = np.floor(np.where(unknown, 0, time) * 10**6).astype(np.int64)
    else:
        raise DataError(f"times must be whole numbers, floats or datetime64; got {time.dtype}")
    micro = np.where(unknown, 0, micro)
    seconds = np.where(unknown, UNKNOWN_TIME, micro // 10**6)
    return seconds, micro if (micro % 10**6).any() else None


def _moments(time: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return objects that are datetimes, as which pandas gives times with a zone, as datetime64; others as they are."""
    if not any(isinstance(moment, date) for moment in time):
        return time
    try:
        # NaT is a datetime that differs from itself.
        return pl.Series([moment if moment == moment else None for moment in time]).to_numpy()
    except TypeError:
        found = sorted({type(moment).__name__ for moment in time})
        raise DataError(f"times must be all numbers or all datetimes; found {', '.join(found)}") from None


def _positions(position: npt.NDArray[Any]) -> Int64:
    whole = position.dtype.kind in "iu" or (position.dtype.kind == "f" and bool((position == np.floor(position)).all()))
    if not whole:
        raise DataError(f"positions must be whole numbers; got {position.dtype}, the first is {position[:1].tolist()}")
    return position.astype(np.int64)


def _checked_ids(name: str, ids: npt.ArrayLike) -> npt.NDArray[np.generic]:
    array = np.asarray(ids)
    if array.dtype.kind in "iuU":
        return array
    # numpy keeps text of a data frame as objects.
    found = {type(one).__name__ for one in array.ravel()} if array.dtype.kind == "O" else {str(array.dtype)}
    if found != {"str"}:
        beyond = ", beyond 64 bits: give them as text" if found == {"int"} else ""
        raise DataError(
            f"the {name} ids must be all whole numbers or all text; found {', '.join(sorted(found))}{beyond}"
        )
    return array

"""Interactions: which user interacted with which item. All recommenders are trained on them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from recmia.errors import DataError

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

MAX_INTERACTIONS = 2**31 - 1
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
        Seconds since the epoch.
    users, items : IdMap
        What the rows stand for. An item need not occur: parts of a data set share its items.
    rated : bool
        Whether `value` holds ratings that differ, so that an explicit model makes sense.

    Raises
    ------
    DataError
        For empty data, unequal lengths, rows out of range, a repeated pair, or a value that is not finite.

    Examples
    --------
    >>> data = Interactions.from_arrays(["ann", "ann", "bob"], [30, 10, 10], [4.0, 5.0, 2.5])
    >>> data.csr().toarray()
    array([[5. , 4. ],
           [2.5, 0. ]], dtype=float32)
    """

    user: Int32
    item: Int32
    value: Float32
    time: Int64 | None
    users: IdMap
    items: IdMap
    rated: bool = True

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

    @classmethod
    def from_arrays(
        cls,
        user: npt.ArrayLike,
        item: npt.ArrayLike,
        value: npt.ArrayLike | None = None,
        time: npt.ArrayLike | None = None,
        *,
        texts: Mapping[Any, str] | None = None,
    ) -> Interactions:
        """Return interactions from columns of external ids in any order.

        Parameters
        ----------
        user, item : array of int or str, shape (n,)
        value : array of float, shape (n,), optional
            Without it the data are implicit: every value is 1.
        time : array of int, shape (n,), optional
        texts : mapping from item id to str, optional
            What is publicly known of an item, as in `IdMap`; an item that is not in the mapping gets no terms.

        Returns
        -------
        Interactions
            Rows follow the sorted order of the ids.

        Raises
        ------
        DataError
            As for the class, and for ids that are neither all whole numbers nor all text.

        Examples
        --------
        >>> Interactions.from_arrays([7, 7, 3], ["x", "y", "x"]).users.ids
        array([3, 7])
        """
        user_rows, user_ids = number_ids(pl.Series(_checked_ids("user", user)))
        item_rows, item_ids = number_ids(pl.Series(_checked_ids("item", item)))
        n = len(user_rows)
        for name, column in (("item", item_rows), ("value", value), ("time", time)):
            if column is not None and np.shape(column) != (n,):
                raise DataError(f"{name} must have one entry for each of the {n} users; got shape {np.shape(column)}")
        order = np.lexsort((item_rows, user_rows))
        return cls(
            user=user_rows[order],
            item=item_rows[order],
            value=np.ones(n, np.float32) if value is None else np.asarray(value, np.float32)[order],
            time=None if time is None else np.asarray(time, np.int64)[order],
            users=IdMap(user_ids),
            items=IdMap(item_ids, tuple(texts.get(item, "") for item in item_ids.tolist()) if texts else None),
            rated=value is not None,
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

    def keys(self) -> Int64:
        """Return a number for each pair of user and item, the same in all data over these users and items."""
        return self.user.astype(np.int64) * self.n_items + self.item

    def item_counts(self) -> Int64:
        """Return how many users interacted with each item, int64, shape (n_items,)."""
        return np.bincount(self.item, minlength=self.n_items)

    def last_time(self) -> npt.NDArray[np.float64] | None:
        """Return each user's latest time in seconds, float64, shape (n_users,), else -inf; None without times."""
        if self.time is None:
            return None
        latest = np.full(self.n_users, -np.inf)
        np.maximum.at(latest, self.user, self.time.astype(np.float64))
        return latest

    def frame(self) -> pl.DataFrame:
        """Return a table with external ids: user, item, rating if `rated`, and time and text if there are any."""
        columns: dict[str, npt.NDArray[np.generic]] = {
            "user": self.users.ids[self.user],
            "item": self.items.ids[self.item],
        }
        if self.rated:
            columns["rating"] = self.value
        if self.time is not None:
            columns["time"] = self.time
        frame = pl.DataFrame(columns)
        if self.items.text is None:
            return frame
        # As categories, a row takes four bytes, however long the text.
        text = pl.Series("text", self.items.text).replace("", None).cast(pl.Categorical)
        return frame.with_columns(text.gather(self.item))

    def take(self, records: Int64) -> Interactions:
        """Return these interactions only (ascending positions), of the same users and items."""
        return Interactions(
            self.user[records],
            self.item[records],
            self.value[records],
            None if self.time is None else self.time[records],
            self.users,
            self.items,
            self.rated,
        )

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
        return Interactions(
            renumber[kept.user],
            kept.item,
            kept.value,
            kept.time,
            self.users.take(users),
            self.items,
            self.rated,
        )

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
        columns: Sequence[npt.NDArray[np.generic] | None] = (self.user, self.item, self.value, self.time)
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
    ids = column.unique().sort()
    places = pl.DataFrame({"id": ids, "row": np.arange(len(ids), dtype=np.int32)})
    rows = np.empty(len(column), np.int32)
    # A join of all at once would hold several columns of positions.
    for start in range(0, len(column), _ROWS_AT_ONCE):
        part = column.slice(start, _ROWS_AT_ONCE).alias("id").to_frame()
        rows[start : start + _ROWS_AT_ONCE] = part.join(places, on="id", how="left", maintain_order="left")["row"]
    return rows, ids.to_numpy()


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
    return Interactions(
        user.astype(np.int32),
        row[other.item[kept]],
        other.value[kept],
        None if other.time is None else other.time[kept],
        other.users.take(users),
        items,
        other.rated,
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

    The ids of the users are their rows. Times are kept if both data sets have them.

    Examples
    --------
    >>> one = Interactions.from_arrays([7, 8], ["x", "y"])
    >>> join_users(one, one).user
    array([0, 1, 2, 3], dtype=int32)
    """
    both_timed = one.time is not None and other.time is not None
    return Interactions(
        np.concatenate([one.user, other.user + np.int32(one.n_users)]),
        np.concatenate([one.item, other.item]),
        np.concatenate([one.value, other.value]),
        np.concatenate([one.time, other.time]) if both_timed else None,
        IdMap(np.arange(one.n_users + other.n_users)),
        one.items,
        one.rated and other.rated,
    )


def _checked_ids(name: str, ids: npt.ArrayLike) -> npt.NDArray[np.generic]:
    array = np.asarray(ids)
    if array.dtype.kind in "iuU":
        return array
    # numpy keeps text of a data frame as objects.
    found = {type(one).__name__ for one in array.ravel()} if array.dtype.kind == "O" else {str(array.dtype)}
    if found != {"str"}:
        raise DataError(f"the {name} ids must be all whole numbers or all text; found {', '.join(sorted(found))}")
    return array

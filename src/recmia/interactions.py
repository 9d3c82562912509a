"""Who interacted with what: the one table that all recommenders are trained on."""

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
    """The outer ids (of a file, of a database) behind the rows 0 .. n-1.

    Parameters
    ----------
    ids : array of int64 or of str, shape (n,)
        Unique. Row r stands for ``ids[r]``.
    text : tuple of str, length n, optional
        What is publicly known of each, as terms parted by ``|``: the genres and tags of a film, for example.
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
        """The map that holds these rows only, in this order."""
        return IdMap(self.ids[rows], None if self.text is None else tuple(self.text[row] for row in rows))


@dataclass(frozen=True, eq=False)
class Interactions:
    """Rated or seen (user, item) pairs, sorted by user and then item, without repeats.

    Parameters
    ----------
    user, item : int32, shape (n,)
        Rows of `users` and `items`.
    value : float32, shape (n,)
        The rating, or 1 where the data have none.
    time : int64, shape (n,), optional
        Seconds since the epoch.
    users, items : IdMap
        What the rows mean. An item need not occur: parts of a data set share its items.
    rated : bool
        Whether `value` holds ratings that differ, so that an explicit model makes sense.

    Raises
    ------
    DataError
        On empty data, unequal lengths, rows out of range, a repeated pair, or a value that is not finite.
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
        """Build from columns of outer ids in any order.

        Parameters
        ----------
        user, item : array of int or str, shape (n,)
        value : array of float, shape (n,), optional
            Without it the data are implicit: every value is 1.
        time : array of int, shape (n,), optional
        texts : mapping from item id to str, optional
            What is publicly known of an item, as `IdMap` has it; an item that it does not hold gets no terms.

        Returns
        -------
        Interactions
            Rows follow the sorted order of the ids.

        Raises
        ------
        DataError
            As the class, on a pair that occurs twice, on ids that are neither all whole numbers nor all text, and on
            columns of unequal length.
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
        """The values as a sparse matrix, float32, shape (n_users, n_items), column indices sorted."""
        counts = np.bincount(self.user, minlength=self.n_users)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        return sparse.csr_array((self.value, self.item, indptr), shape=(self.n_users, self.n_items))

    def item_counts(self) -> Int64:
        """How many users interacted with each item, int64, shape (n_items,)."""
        return np.bincount(self.item, minlength=self.n_items)

    def last_time(self) -> npt.NDArray[np.float64] | None:
        """Each user's latest time stamp in seconds, float64, shape (n_users,); -inf for a user without any."""
        if self.time is None:
            return None
        latest = np.full(self.n_users, -np.inf)
        np.maximum.at(latest, self.user, self.time.astype(np.float64))
        return latest

    def frame(self) -> pl.DataFrame:
        """The table with outer ids: user, item, rating if `rated`, and time and text if there are any."""
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
        # A category a text: a row costs four bytes, however long the text.
        text = pl.Series("text", self.items.text).replace("", None).cast(pl.Categorical)
        return frame.with_columns(text.gather(self.item))

    def take(self, records: Int64) -> Interactions:
        """Keep these interactions (ascending positions), all users and all items."""
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
        """Keep these users only, renumbered 0 .. len(users)-1 in ascending order of row; the items stay as they are.

        Parameters
        ----------
        users : int, shape (m,)
            Ascending rows without repeats.
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
        """SHA-256 over all columns, ids and texts: equal for equal data, however they were loaded."""
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
    """Number the ids of a column by their order.

    Returns
    -------
    rows : int32, shape (n,)
    ids : array of int or str, shape (m,)
        Ascending; ``ids[rows]`` is the column.
    """
    ids = column.unique().sort()
    places = pl.DataFrame({"id": ids, "row": np.arange(len(ids), dtype=np.int32)})
    rows = np.empty(len(column), np.int32)
    # A join of all at once would hold several columns of positions.
    for start in range(0, len(column), _ROWS_AT_ONCE):
        part = column.slice(start, _ROWS_AT_ONCE).alias("id").to_frame()
        rows[start : start + _ROWS_AT_ONCE] = part.join(places, on="id", how="left", maintain_order="left")["row"]
    return rows, ids.to_numpy()


def _checked_ids(name: str, ids: npt.ArrayLike) -> npt.NDArray[np.generic]:
    array = np.asarray(ids)
    if array.dtype.kind in "iuU":
        return array
    # numpy keeps text of a data frame as objects.
    found = {type(one).__name__ for one in array.ravel()} if array.dtype.kind == "O" else {str(array.dtype)}
    if found != {"str"}:
        raise DataError(f"the {name} ids must be all whole numbers or all text; found {', '.join(sorted(found))}")
    return array

"""Lists that another system wrote: one row an item shown, with the ids of the data set.

======  =====================================================================================
column  content
======  =====================================================================================
user    a user id, written as in the interactions (usual names such as ``userId`` will do)
item    an item id, likewise
rank    1 for the best item, 2 for the next, ... without gaps, each once for a user
======  =====================================================================================

Rows and columns come in any order; further columns are ignored. Text is UTF-8 with a header, comma-separated (tab in
``.tsv``); anything long is better kept as ``.parquet``, a file or a folder of files, which is read piece by piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recmia.datasets import USUAL
from recmia.errors import ProtocolError
from recmia.interactions import IdMap, Int32, Int64

_NAMES = {"user": USUAL["user"], "item": USUAL["item"], "rank": ("rank", "position")}
# Rows looked at once: bounds the memory beside the lists themselves, whatever the length of a Parquet file.
_ROWS_AT_ONCE = 4_000_000


def read_lists(
    path: Path, users: IdMap, items: IdMap, k: int, *, lengths: npt.NDArray[np.integer] | None = None
) -> Int32:
    """Read everybody's list.

    Parameters
    ----------
    path : Path
        See the module for the format.
    users, items : IdMap
        All who must have a list, and all that a list may hold.
    k : int
        Length of the lists.
    lengths : int64, shape (n_users,), optional
        How many items each user must have, at most k, where that is not k for all.

    Returns
    -------
    int32, shape (n_users, k)
        Rows of `items`, best first; -1 after the last.

    Raises
    ------
    ProtocolError
        Naming the file and the row (the first after the header is 1) or the user: a file that is missing, empty or cut
        short, an unknown user or item, a rank that is no whole number, out of 1..k, left out or given twice, an item
        given twice, more or fewer items than there must be.
    """
    if lengths is None:
        lengths = np.full(len(users), k, np.int64)
    lists: Int32 = np.full((len(users), k), -1, np.int32)
    flat = lists.reshape(-1)
    for start, frame in _batches(path):
        part = _Part(path, start, frame)
        user, item, rank = part.rows_of("user", users), part.rows_of("item", items), part.ranks(k)
        place = user * k + rank - 1
        number = np.arange(len(place), dtype=np.int32)
        taken = flat[place] >= 0
        # Of two rows for one place, the first is written last, and the other is told.
        flat[place[::-1]] = number[::-1]
        part.refuse(taken | (flat[place] != number), "user", "gives a rank to a second item of the user")
        flat[place] = item
    _check(path, lists, users, items, lengths)
    return lists


class _Part:
    """Consecutive rows of a file: columns user, item, rank, none of them blank throughout.

    Parameters
    ----------
    path : Path
    start : int
        How many rows of the file come before.
    frame : polars.DataFrame
    """

    def __init__(self, path: Path, start: int, frame: pl.DataFrame) -> None:
        self._path, self._start, self._frame = path, start, frame

    def rows_of(self, role: str, known: IdMap) -> Int64:
        """The rows of a map that the ids of a column stand for."""
        column = self._frame[role]
        self.refuse(column.is_null().to_numpy(), role, f"has no {role} id, so that the file may be cut short")
        if column.dtype.is_integer() and known.ids.dtype.kind in "iu":
            ids = pl.Series(role, known.ids).cast(pl.Int64)
            column = column.cast(pl.Int64, strict=False)
        elif column.dtype.is_integer() or column.dtype in (pl.String, pl.Categorical, pl.Enum):
            ids, column = pl.Series(role, known.ids).cast(pl.String), column.cast(pl.String)
        else:
            raise ProtocolError(
                f"{self._path}: the {role} ids must be whole numbers or text, as in the interactions; the column holds "
                f"{column.dtype}, the first is {column[0]!r}"
            )
        rows = pl.DataFrame({role: ids, "row": np.arange(len(known), dtype=np.int32)})
        found = column.to_frame().join(rows, on=role, how="left", maintain_order="left")["row"]
        words = f"has an unknown {role}, none of the {len(known):,} there are"
        self.refuse(found.is_null().to_numpy(), role, words)
        return found.cast(pl.Int64).to_numpy()

    def ranks(self, k: int) -> Int64:
        """The ranks, which must lie in 1..k."""
        column = self._frame["rank"]
        self.refuse(column.is_null().to_numpy(), "rank", "has no rank, so that the file may be cut short")
        whole = column.dtype.is_integer() or column.dtype == pl.String
        ranks = column.cast(pl.Int64, strict=False)
        bad = ranks.is_null().to_numpy() if whole else np.ones(len(ranks), np.bool_)
        self.refuse(bad, "rank", "has a rank that is no whole number")
        out = ranks.to_numpy()
        self.refuse((out < 1) | (out > k), "rank", f"has a rank out of 1..{k} (the best item has rank 1)")
        return out

    def refuse(self, bad: npt.NDArray[np.bool_], role: str, what: str) -> None:
        """Raise if a row is bad, and name the first."""
        if bad.any():
            row = int(np.argmax(bad))
            values = ", ".join(f"{name} {self._frame[name][row]!r}" for name in _NAMES)
            number = self._start + (int(self._frame["row"][row]) if "row" in self._frame.columns else row) + 1
            raise ProtocolError(f"{self._path}: data row {number:,} {what}: {values} ({int(bad.sum()):,} such rows)")


def _batches(path: Path) -> Iterator[tuple[int, pl.DataFrame]]:
    """Consecutive pieces of the file, columns user, item, rank, each with the number of rows before it."""
    if not path.exists():
        raise ProtocolError(f"{path}: there is no such file of lists")
    if path.is_file() and path.stat().st_size == 0:
        raise ProtocolError(f"{path}: the file of lists is empty")
    text: dict[str, Any] = {"infer_schema": False, "separator": "\t" if path.suffix == ".tsv" else ","}
    try:
        if path.suffix == ".parquet":
            table = pl.scan_parquet(path)
            names = _match(path, table.collect_schema().names())
            total = table.select(pl.len()).collect().item()
            for start in range(0, total, _ROWS_AT_ONCE):
                yield start, table.select(names).slice(start, _ROWS_AT_ONCE).collect()
            return
        frame = pl.read_csv(path, **text)
        frame = frame.select(_match(path, frame.columns)).with_row_index("row")
    except (pl.exceptions.PolarsError, OSError) as error:
        words = " ".join(str(error).split())[:200]
        kind = "Parquet" if path.suffix == ".parquet" else "separated text"
        raise ProtocolError(f"{path}: cannot be read as {kind}, so that it may be cut short: {words}") from None
    # A blank line is no row, but counts in the number of one.
    yield 0, frame.filter(~pl.all_horizontal(pl.col(*_NAMES).is_null()))


def _match(path: Path, names: list[str]) -> list[pl.Expr]:
    chosen = []
    for role, usual in _NAMES.items():
        match = [name for name in names if name.strip().lower() in usual]
        if not match:
            raise ProtocolError(
                f"{path}: lists need a header and the columns user, item and rank; there is no {role} among "
                f"{', '.join(map(repr, names[:10]))}"
            )
        chosen.append(pl.col(match[0]).alias(role))
    return chosen


def _check(path: Path, lists: Int32, users: IdMap, items: IdMap, lengths: npt.NDArray[np.integer]) -> None:
    """Refuse lists with gaps, with an item twice, or of another length than they must have."""
    found = np.empty(len(lists), np.int64)
    for start in range(0, len(lists), 2**16):
        part = lists[start : start + 2**16]
        found[start : start + 2**16] = (part >= 0).sum(axis=1)
        gap = (part[:, :-1] < 0) & (part[:, 1:] >= 0)
        if gap.any():
            user, rank = (int(place[0]) for place in np.nonzero(gap))
            raise ProtocolError(
                f"{path}: user {_name(users, start + user)} has rank {rank + 2}, but not rank {rank + 1}"
            )
        ordered = np.sort(part, axis=1)
        twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
        if twice.any():
            user, place = (int(place[0]) for place in np.nonzero(twice))
            item = int(ordered[user, place])
            ranks = " and ".join(str(rank + 1) for rank in np.flatnonzero(part[user] == item))
            raise ProtocolError(
                f"{path}: user {_name(users, start + user)} has the item {_name(items, item)} more than once, at the "
                f"ranks {ranks}"
            )
    missing = (found == 0) & (lengths > 0)
    if missing.any():
        raise ProtocolError(
            f"{path}: user {_name(users, int(np.argmax(missing)))} has no list ({missing.sum():,} of {len(users):,} "
            "users have none)"
        )
    wrong = found != lengths
    if wrong.any():
        user = int(np.argmax(wrong))
        raise ProtocolError(
            f"{path}: user {_name(users, user)} has {found[user]} items and must have {lengths[user]} "
            f"({wrong.sum():,} of {len(users):,} users have too few or too many)"
        )


def _name(ids: IdMap, row: int) -> str:
    return repr(ids.ids[row].item())

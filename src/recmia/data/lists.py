"""Files of an audited system: the lists it served, who is in its training data, and its further items.

Lists have one row for each item shown:

======  =====================================================================================
column  content
======  =====================================================================================
user    a user id, written as in the interactions (usual names such as ``userId`` will do)
item    an item id, likewise
rank    1 for the best item, 2 for the next, ... without gaps, each once for a user
======  =====================================================================================

Rows and columns come in any order; further columns are ignored. Text is UTF-8 with a header, comma-separated (tab in
``.tsv``). Long lists are better kept as ``.parquet``, a file or a folder of files, which is read in pieces.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from recmia.data.interactions import Bool, IdMap, Int32, Int64
from recmia.data.tables import Layout, Rows, Table, open_table, write_table
from recmia.errors import DataError

_ROLES = ("user", "item", "rank")
_LISTS = Layout(
    "lists",
    _ROLES,
    required=_ROLES,
    missing="{path}: lists need a header and the columns user, item and rank; there is no {role} among {names}",
)
_MEMBERS = Layout("members", ("user", "member"), required=("user",), header_optional=True)
_ITEMS = Layout("items", ("item",), required=("item",), header_optional=True)
_BOOLEANS = {"0": False, "1": True, "false": False, "true": True}


def read_lists(
    path: Path,
    users: IdMap,
    items: IdMap,
    k: int,
    *,
    lengths: npt.NDArray[np.integer] | None = None,
    shorter: bool = False,
) -> Int32:
    r"""Return the list of each user, int32, shape (n_users, k).

    Parameters
    ----------
    path : Path
        See the module for the format.
    users, items : IdMap
        All users who must have a list, and all items that a list may hold.
    k : int
        Length of the lists; 0 means that of the longest.
    lengths : int64, shape (n_users,), optional
        How many items each user must have, at most k, where that is not k for all.
    shorter : bool
        Instead of `lengths`: a list may have any number of items from 1 to k.

    Returns
    -------
    int32, shape (n_users, k)
        Rows of `items`, best first; -1 after the last.

    Raises
    ------
    DataError
        Naming the file and the row (the first after the header is 1) or the user: a file that is missing, empty or cut
        short, an unknown user or item, a rank that is no whole number, out of 1..k, left out or given twice, an item
        given twice, more or fewer items than there must be.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "lists.csv"
    ...     _ = path.write_text("user,item,rank\na,30,2\na,10,1\nb,20,1\n")
    ...     read_lists(path, IdMap(np.array(["a", "b"])), IdMap(np.array([10, 20, 30])), 0, shorter=True)
    array([[ 0,  2],
           [ 1, -1]], dtype=int32)
    """
    table = open_table(path, _LISTS)
    if k == 0:
        # A list holds no item twice, so none is longer than the catalogue.
        k = max((int(_ranks(rows, len(items)).max(initial=0)) for rows in table.pieces()), default=0)
    if lengths is None and not shorter:
        lengths = np.full(len(users), k, np.int64)
    lists: Int32 = np.full((len(users), k), -1, np.int32)
    flat = lists.reshape(-1)
    for rows in table.pieces():
        user, item, rank = _rows_of(rows, "user", users), _rows_of(rows, "item", items), _ranks(rows, k)
        place = user * k + rank - 1
        number = np.arange(len(place), dtype=np.int32)
        taken = flat[place] >= 0
        # Written backwards, so that of two rows for one place the first stays, and the other is refused.
        flat[place[::-1]] = number[::-1]
        rows.refuse(taken | (flat[place] != number), "gives a rank to a second item of the user", *_ROLES)
        flat[place] = item
    _check(path, lists, users, items, lengths)
    return lists


def read_members(path: Path, users: IdMap) -> Bool:
    r"""Return who is in the training data, bool, shape (n_users,).

    Parameters
    ----------
    path : Path
        Comma-separated text (tab in ``.tsv``), with a header or without, or Parquet. A single column of user ids names
        the members. With a further column ``member``, each of the users has a row with 0 or 1.
    users : IdMap

    Raises
    ------
    DataError
        Naming the file and the row (the first after the header is 1): a user who is in no history, or twice in the
        file, or whose membership is neither 0 nor 1, or who is left out where there is a column member.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "members.csv"
    ...     _ = path.write_text("c\na\n")
    ...     read_members(path, IdMap(np.array(["a", "b", "c"])))
    array([ True, False,  True])
    """
    rows = _ids(open_table(path, _MEMBERS), "user")
    whole = ", where ids are whole numbers" if users.ids.dtype.kind in "iu" else ""
    row = rows.rows_of("user", users, f"names a user who is in no history{whole}")
    ids = rows.frame["user"]
    rows.refuse(ids.is_duplicated() & ~ids.is_first_distinct(), "names a user a second time", "user")
    member = np.zeros(len(users), np.bool_)
    if "member" not in rows.frame.columns:
        member[row] = True
        return member
    cells = rows.frame["member"].cast(pl.String).str.strip_chars().str.to_lowercase()
    given = cells.replace_strict(_BOOLEANS, default=None, return_dtype=pl.Boolean)
    rows.refuse(given.is_null(), "has a member that is neither 0 nor 1", "member")
    if len(row) < len(users):
        left_out = np.setdiff1d(np.arange(len(users)), row)
        raise DataError(
            f"{path}: user {_name(users, int(left_out[0]))} has a history and no row ({len(left_out):,} of "
            f"{len(users):,} users have none); with a column member each user needs one"
        )
    member[row] = given.to_numpy()
    return member


def read_items(path: Path, like: IdMap) -> IdMap:
    r"""Return the items that a file names, ascending, each once.

    Parameters
    ----------
    path : Path
        A column of item ids, in the formats of `read_members`.
    like : IdMap
        Items of the interactions: where their ids are whole numbers, these must be, too.

    Raises
    ------
    DataError
        Naming the file and the row of an item without an id, or with one that is no whole number.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "items.csv"
    ...     _ = path.write_text("movieId,title\n12,Cutthroat\n3,Grumpier\n")
    ...     read_items(path, IdMap(np.array([1, 3]))).ids
    array([ 3, 12])
    """
    rows = _ids(open_table(path, _ITEMS), "item")
    ids = rows.ids("item").cast(pl.String)
    if like.ids.dtype.kind in "iu":
        numbers = ids.cast(pl.Int64, strict=False)
        rows.refuse(numbers.is_null(), "has an item id that is no whole number", "item")
        ids = numbers
    return IdMap(np.unique(ids.to_numpy()))


def write_lists(path: Path, users: IdMap, items: IdMap, lists: Int32) -> None:
    """Write the lists of users as `read_lists` reads them, by the suffix as Parquet, TSV or CSV.

    Parameters
    ----------
    path : Path
    users, items : IdMap
    lists : int32, shape (n_users, k)
        Rows of `items`, best first; -1 after the last.
    """
    shown = lists >= 0
    user, place = np.nonzero(shown)
    columns = {"user": users.ids[user], "item": items.ids[lists[shown]], "rank": (place + 1).astype(np.int32)}
    write_table(pl.DataFrame(columns), path)


def write_members(path: Path, users: IdMap, member: Bool) -> None:
    """Write who is in the training data (bool, shape (n_users,)) as `read_members` reads it, a row for each user."""
    write_table(pl.DataFrame({"user": users.ids, "member": member.astype(np.int8)}), path)


def _ids(table: Table, role: str) -> Rows:
    rows = table.rows()
    if rows.frame.is_empty():
        raise DataError(f"{table.path} holds no {role} ids")
    return rows


def _rows_of(rows: Rows, role: str, known: IdMap) -> Int64:
    missing = rows.frame[role].is_null()
    rows.refuse(missing, f"has no {role} id, so that the file may be cut short", *_ROLES)
    return rows.rows_of(role, known, f"has an unknown {role}, none of the {len(known):,} there are", *_ROLES)


def _ranks(rows: Rows, k: int) -> Int64:
    """Return the ranks, which must lie in 1..k, int64, shape (n,)."""
    column = rows.frame["rank"]
    rows.refuse(column.is_null(), "has no rank, so that the file may be cut short", *_ROLES)
    ranks = column.cast(pl.Int64, strict=False)
    whole = column.dtype.is_integer() or column.dtype == pl.String
    bad = ranks.is_null() if whole else np.ones(len(ranks), np.bool_)
    rows.refuse(bad, "has a rank that is no whole number", *_ROLES)
    out = ranks.to_numpy()
    rows.refuse((out < 1) | (out > k), f"has a rank out of 1..{k} (the best item has rank 1)", *_ROLES)
    return out


def _check(path: Path, lists: Int32, users: IdMap, items: IdMap, lengths: npt.NDArray[np.integer] | None) -> None:
    """Refuse lists with gaps, with an item twice, or of another length than they must have."""
    found = np.empty(len(lists), np.int64)
    for start in range(0, len(lists), 2**16):
        part = lists[start : start + 2**16]
        found[start : start + 2**16] = (part >= 0).sum(axis=1)
        gap = (part[:, :-1] < 0) & (part[:, 1:] >= 0)
        if gap.any():
            user, rank = (int(place[0]) for place in np.nonzero(gap))
            raise DataError(f"{path}: user {_name(users, start + user)} has rank {rank + 2}, but not rank {rank + 1}")
        ordered = np.sort(part, axis=1)
        twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
        if twice.any():
            user, place = (int(place[0]) for place in np.nonzero(twice))
            item = int(ordered[user, place])
            ranks = " and ".join(str(rank + 1) for rank in np.flatnonzero(part[user] == item))
            raise DataError(
                f"{path}: user {_name(users, start + user)} has the item {_name(items, item)} more than once, at the "
                f"ranks {ranks}"
            )
    missing = found == 0 if lengths is None else (found == 0) & (lengths > 0)
    if missing.any():
        raise DataError(
            f"{path}: user {_name(users, int(np.argmax(missing)))} has no list ({missing.sum():,} of {len(users):,} "
            "users have none)"
        )
    wrong = np.zeros(len(lists), np.bool_) if lengths is None else found != lengths
    if lengths is not None and wrong.any():
        user = int(np.argmax(wrong))
        raise DataError(
            f"{path}: user {_name(users, user)} has {found[user]} items and must have {lengths[user]} "
            f"({wrong.sum():,} of {len(users):,} users have too few or too many)"
        )


def _name(ids: IdMap, row: int) -> str:
    return repr(ids.ids[row : row + 1].tolist()[0])

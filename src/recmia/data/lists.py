"""Files of an audited system: the lists it served, its answers, who is in its training data, and its further items.

Lists have one row for each item shown:

======  =====================================================================================
column  content
======  =====================================================================================
user    a user id, written as in the interactions (usual names such as ``userId`` will do)
item    an item id, likewise
rank    1 for the best item, 2 for the next, ... without gaps, each once for a user
======  =====================================================================================

Answers have the same columns, with the number of the question, ``query``, in place of the user.

Rows and columns come in any order; further columns are ignored. Files are in any format that `recmia.data.tables`
reads; where a row holds a whole list of items, the order in the list is the rank. Long lists are better kept as
``.parquet``, a file or a folder of files, which is read in pieces.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from recmia.data.interactions import Bool, IdMap, Int32, Int64, Interactions
from recmia.data.tables import USUAL, Layout, Rows, Table, open_table, write_table
from recmia.errors import DataError
from recmia.observation import Queries

# Names of columns that the user chose, by role; "separator" is that of text, and "header" = "no" says there is none.
Named = Mapping[str, str]
_USUAL_NAMES: Named = MappingProxyType({})


def _option(kind: str) -> Callable[[Named], str]:
    """Return how the columns of a kind of file are named."""

    def option(names: Named) -> str:
        words = ",".join(f"{role}={name}" for role, name in names.items())
        return f"--{kind}-columns {shlex.quote(words)} (setting {kind}_columns)"

    return option


def _ids_of(kind: str, role: str) -> Layout:
    """Return the layout of a file of ids alone."""
    what = "deleted users" if kind == "deleted" else kind
    return Layout(what, (role,), required=(role,), header_optional=True, option=_option(kind))


_MEMBERS = Layout("members", ("user", "member"), required=("user",), header_optional=True, option=_option("members"))
_TRAINED = Layout("members", ("user", "item", "member"), required=("user", "item"), option=_option("members"))
_ITEMS = _ids_of("items", "item")
_LABELS = {
    **dict.fromkeys(("1", "true", "yes", "member"), True),
    **dict.fromkeys(("0", "false", "no", "non-member", "nonmember"), False),
}


def _ranked(what: str, owner: str) -> Layout:
    """Return the layout of lists, which have an owner each."""
    roles = (owner, "item", "rank")
    needs = f"{{path}}: {what} have the columns {owner}, item and rank; there is no {{role}} among {{names}}"
    return Layout(what, roles, required=roles, option=_option(what), missing=needs)


_LISTS, _ANSWERS = _ranked("lists", "user"), _ranked("answers", "query")


def read_lists(
    path: Path,
    users: IdMap,
    items: IdMap,
    k: int,
    *,
    lengths: npt.NDArray[np.integer] | None = None,
    shorter: bool = False,
    named: Named = _USUAL_NAMES,
    others: IdMap | None = None,
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
    named : mapping from role to str
        Columns with unusual names.
    others : IdMap, optional
        Further users who may have a list, which is left out.

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
    table = _open(path, _LISTS, named)
    k = k or _longest(table, "user", items)
    if lengths is None and not shorter:
        lengths = np.full(len(users), k, np.int64)
    lists = _read_ranked(table, "user", users, items, k, others=others)
    found = _check_each(path, "user", lists, users, items)
    _check_lengths(path, found, users, lengths)
    return lists


def read_answers(
    path: Path,
    queries: Queries,
    numbers: IdMap,
    items: IdMap,
    k: int = 0,
    *,
    exclude_seen: bool = True,
    named: Named = _USUAL_NAMES,
) -> Int32:
    r"""Return the answer to each question, int32, shape (q, k).

    Parameters
    ----------
    path : Path
        See the module for the format.
    queries : Queries
        What was asked.
    numbers : IdMap
        The number of each question in the file.
    items : IdMap
        All items that an answer may hold.
    k : int
        Length of the answers; 0 means that of the longest.
    exclude_seen : bool
        Whether an answer must not hold what the question asked with.
    named : mapping from role to str
        Columns with unusual names.

    Returns
    -------
    int32, shape (q, k)
        Rows of `items`, best first; -1 after the last, and for a question that has no answer.

    Raises
    ------
    DataError
        As `read_lists`, but for questions without an answer; and for one that was not asked, or an item of the
        question in its answer.

    Examples
    --------
    >>> import tempfile
    >>> from scipy import sparse
    >>> halves = sparse.csr_array(np.array([[1, 0, 0], [0, 1, 0]], np.float32))
    >>> queries, items = Queries(np.array([0, 0], np.int32), halves, halves[[1, 0]]), IdMap(np.array([10, 20, 30]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "answers.csv"
    ...     _ = path.write_text("query,item,rank\n0,30,2\n0,20,1\n")
    ...     read_answers(path, queries, IdMap(np.arange(2)), items)
    array([[ 1,  2],
           [-1, -1]], dtype=int32)
    """
    table = _open(path, _ANSWERS, named)
    asked = queries.asked if exclude_seen else None
    answers = _read_ranked(table, "query", numbers, items, k or _longest(table, "query", items), asked)
    _check_each(path, "query", answers, numbers, items)
    return answers


def read_members(path: Path, users: IdMap, *, named: Named = _USUAL_NAMES, others: IdMap | None = None) -> Bool:
    r"""Return who is in the training data, bool, shape (n_users,).

    Parameters
    ----------
    path : Path
        Comma-separated text (tab in ``.tsv``), with a header or without, or Parquet. A single column of user ids names
        the members. With a further column ``member``, each of the users has a row with 0 or 1, false or true, no or
        yes, or non-member or member.
    users : IdMap
        The audited users.
    named : mapping from role to str
        Columns with unusual names.
    others : IdMap, optional
        Further users whom the file may name, and who are not audited.

    Raises
    ------
    DataError
        Naming the file and the row (the first after the header is 1): a user who is in no history, or twice in the
        file, or whose membership is no such label, or who is left out where there is a column member; and a file of
        several columns of which none is called member.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "members.csv"
    ...     _ = path.write_text("c\na\n")
    ...     read_members(path, IdMap(np.array(["a", "b", "c"])))
    array([ True, False,  True])
    """
    table = _open(path, _MEMBERS, named)
    rows = _ids(table, "user")
    labelled = "member" in rows.frame.columns
    further = [name for name in table.columns if name != table.found["user"]]
    if further and not labelled:
        raise DataError(
            f"{path}: no column is called member, and beside {table.found['user']!r} there is "
            f"{', '.join(map(repr, further))}: a column of labels is named as "
            f"{_option('members')({'member': 'NAME'})}; to name the "
            "members alone, keep the column of ids only"
        )
    row = _known_users(rows, _together(users, others), "names a user who is in no history")
    audited = np.flatnonzero(row < len(users))
    member = np.zeros(len(users), np.bool_)
    if not labelled:
        member[row[audited]] = True
        return member
    given = _labels(path, rows)
    if len(audited) < len(users):
        left_out = np.setdiff1d(np.arange(len(users)), row)
        raise DataError(
            f"{path}: user {_name(users, int(left_out[0]))} is audited and has no row ({len(left_out):,} of "
            f"{len(users):,} users have none); with a column member each user needs one"
        )
    member[row[audited]] = given[audited]
    return member


def read_trained(path: Path, histories: Interactions, *, named: Named = _USUAL_NAMES) -> Bool:
    """Return which interactions are in the training data, bool, shape (n,).

    Parameters
    ----------
    path : Path
        Columns user and item, and member with a label for every interaction; without it, only those in the training
        data have a row.
    histories : Interactions
        Of the audited users; rows of others are left out.
    named : mapping from role to str
        Columns with unusual names.

    Raises
    ------
    DataError
        Naming the file and the row: an interaction that is in no history, or twice in the file, a bad label, or one
        that is left out where there is a column member.
    """
    rows = _ids(_open(path, _TRAINED, named), "user")
    whose = pl.DataFrame({"user": pl.Series(histories.users.ids)})
    kind = pl.Int64 if rows.ids("user").dtype.is_integer() and whose["user"].dtype.is_integer() else pl.String
    of_ours = rows.ids("user").cast(kind).is_in(whose["user"].cast(kind).implode())
    rows = rows.only(of_ours)
    user = rows.rows_of("user", histories.users, "", "user", "item")
    item = rows.rows_of("item", histories.items, "names an item that is in no history", "user", "item")
    keys, key = histories.keys(), user * histories.n_items + item
    place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
    rows.refuse(keys[place] != key, "names an item that is not in the history of the user", "user", "item")
    column = pl.Series(key)
    rows.refuse(
        column.is_duplicated() & ~column.is_first_distinct(), "names an interaction a second time", "user", "item"
    )
    trained = np.zeros(len(keys), np.bool_)
    if "member" not in rows.frame.columns:
        trained[place] = True
        return trained
    if len(place) < len(keys):
        left_out = int(np.setdiff1d(np.arange(len(keys)), place)[0])
        raise DataError(
            f"{path}: user {_name(histories.users, int(histories.user[left_out]))} has item "
            f"{_name(histories.items, int(histories.item[left_out]))} and no row for it ({len(keys) - len(place):,} of "
            f"{len(keys):,} interactions have none); with a column member each needs one"
        )
    trained[place] = _labels(path, rows)
    return trained


def write_trained(path: Path, histories: Interactions, trained: Bool) -> None:
    """Write which interactions are in the training data as `read_trained` reads it, a row for each interaction."""
    columns = {"user": histories.users.ids[histories.user], "item": histories.items.ids[histories.item]}
    write_table(pl.DataFrame({**columns, "member": trained.astype(np.int8)}), path)


def _labels(path: Path, rows: Rows) -> Bool:
    """Return the labels of membership, bool, shape (n,)."""
    label = rows.frame["member"]
    if not (label.dtype.is_integer() or label.dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum)):
        raise DataError(f"{path}: a label of membership is {', '.join(_LABELS)}; the column holds {label.dtype}")
    cells = label.cast(pl.String).str.strip_chars().str.to_lowercase()
    given = cells.replace_strict(_LABELS, default=None, return_dtype=pl.Boolean)
    rows.refuse(given.is_null(), f"has no label of membership, which is one of {', '.join(_LABELS)}", "member")
    found: Bool = given.to_numpy()
    return found


def read_users(
    path: Path,
    users: IdMap,
    *,
    named: Named = _USUAL_NAMES,
    kind: str = "users",
    unknown: str = "names a user who is in no history",
    never: tuple[Bool, str] | None = None,
) -> Int64:
    r"""Return the rows of the users whom a file names, in its order: int64, shape (n,).

    Parameters
    ----------
    path : Path
        A column of user ids, with a header or without, and no other column.
    users : IdMap
    named : mapping from role to str
        Columns with unusual names.
    kind : {"users", "deleted"}
        Which file it is, for messages.
    unknown : str
        What an error says of an id that `users` does not hold.
    never : (bool, shape (n_users,), str), optional
        Users who must not be named, and what an error says of them.

    Raises
    ------
    DataError
        Naming the file and the row: an unknown user, or one who is twice in the file; and a file of several columns.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "users.csv"
    ...     _ = path.write_text("user\nc\na\n")
    ...     read_users(path, IdMap(np.array(["a", "b", "c"])))
    array([2, 0])
    """
    table = _open(path, _ids_of(kind, "user"), named)
    further = [name for name in table.columns if name != table.found["user"]]
    if further:
        raise DataError(
            f"{path}: beside the ids in {table.found['user']!r} there is {', '.join(map(repr, further))}; a file of "
            "users names users alone, so that a label is not overlooked: keep the rows that are meant, and the ids only"
        )
    rows = _ids(table, "user")
    found = _known_users(rows, users, unknown)
    if never is not None:
        rows.refuse(never[0][found], never[1], "user")
    return found


def read_columns(
    path: Path, role: str, known: IdMap, columns: Sequence[str], *, named: Named = _USUAL_NAMES, title: bool = False
) -> pl.DataFrame:
    """Return further columns of users or items, by row of `known`; null for one whom the file does not name.

    Parameters
    ----------
    path : Path
        A table with a column of ids, in the formats of `read_members`. It may name others, too.
    role : {"user", "item"}
    known : IdMap
    columns : sequence of str
        Names in the file; those that it does not have are left out.
    named : mapping from role to str
        What the column of ids is called.
    title : bool
        Whether a column that is called title or name is read, too, as ``title``.

    Returns
    -------
    polars.DataFrame
        With the columns that were found.

    Raises
    ------
    DataError
        For a user or an item that is named twice.
    """
    ids_only = Layout(f"{role}s", (role,), required=(role,), option=_option("users") if role == "user" else None)
    there = _open(path, ids_only, named).columns
    label = next((name for name in there if title and name.strip().lower() in USUAL["title"]), "")
    found = [name for name in columns if name in there]
    read = dict.fromkeys([*found, *([label] if label else [])])
    layout = replace(ids_only, roles=(role, *read))
    table = _open(path, layout, {**named, **{name: name for name in read}})
    rows = _ids(table, role)
    ids = rows.ids(role)
    rows.refuse(ids.is_duplicated() & ~ids.is_first_distinct(), f"names a{'n' * (role == 'item')} {role} twice", role)
    own = pl.Series(role, known.ids)
    kind = pl.Int64 if ids.dtype.is_integer() and own.dtype.is_integer() else pl.String
    given = rows.frame.with_columns(ids.cast(kind).alias(role))
    joined = own.cast(kind).to_frame().join(given, on=role, how="left", maintain_order="left")
    titles = {"title": label} if label and "title" not in found else {}
    return joined.select(*found, **titles)


def read_items(path: Path, like: IdMap, *, named: Named = _USUAL_NAMES) -> IdMap:
    r"""Return the items that a file names, ascending, each once.

    Parameters
    ----------
    path : Path
        A column of item ids, in the formats of `read_members`.
    like : IdMap
        Items of the interactions: where their ids are whole numbers, these must be, too.
    named : mapping from role to str
        Columns with unusual names.

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
    rows = _ids(_open(path, _ITEMS, named), "item")
    ids = rows.ids("item").cast(pl.String)
    if like.ids.dtype.kind in "iu":
        # "007" and "7" are two ids.
        numbers = ids.cast(pl.Int64, strict=False)
        numbers = numbers.set(numbers.cast(pl.String) != ids, None)
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
    _write_ranked(path, "user", users, items, lists)


def write_answers(path: Path, numbers: IdMap, items: IdMap, answers: Int32) -> None:
    """Write answers, int32, shape (q, k), as `read_answers` reads them; see `write_lists`."""
    _write_ranked(path, "query", numbers, items, answers)


def _write_ranked(path: Path, owner: str, owners: IdMap, items: IdMap, lists: Int32) -> None:
    shown = lists >= 0
    row, place = np.nonzero(shown)
    columns = {owner: owners.ids[row], "item": items.ids[lists[shown]], "rank": (place + 1).astype(np.int32)}
    write_table(pl.DataFrame(columns), path)


def write_members(path: Path, users: IdMap, member: Bool) -> None:
    """Write who is in the training data (bool, shape (n_users,)) as `read_members` reads it, a row for each user."""
    write_table(pl.DataFrame({"user": users.ids, "member": member.astype(np.int8)}), path)


def _open(path: Path, layout: Layout, named: Named) -> Table:
    columns = {role: name for role, name in named.items() if role not in ("separator", "header")}
    header: Literal[False] | None = False if named.get("header") == "no" else None
    return open_table(path, layout, named=columns, separator=named.get("separator", ""), header=header)


def _ids(table: Table, role: str) -> Rows:
    rows = table.rows()
    if rows.frame.is_empty():
        raise DataError(f"{table.path} holds no {role} ids")
    return rows


def _together(users: IdMap, others: IdMap | None) -> IdMap:
    return users if others is None or not len(others) else IdMap(np.concatenate([users.ids, others.ids]))


def _known_users(rows: Rows, users: IdMap, unknown: str) -> Int64:
    """Return the rows of the users that each row of a file names, each once."""
    whole = ", where ids are whole numbers" if users.ids.dtype.kind in "iu" else ""
    row = rows.rows_of("user", users, f"{unknown}{whole}")
    ids = rows.frame["user"]
    rows.refuse(ids.is_duplicated() & ~ids.is_first_distinct(), "names a user a second time", "user")
    return row


def _longest(table: Table, owner: str, items: IdMap) -> int:
    """Return the highest rank; a list holds no item twice, so none is longer than the catalogue."""
    return max((int(_ranks(rows, owner, len(items)).max(initial=0)) for rows in table.pieces()), default=0)


def _read_ranked(
    table: Table,
    owner: str,
    owners: IdMap,
    items: IdMap,
    k: int,
    never: sparse.csr_array | None = None,
    others: IdMap | None = None,
) -> Int32:
    """Return the list of each owner, padded with -1; `never` has the items that must not be in it."""
    known = _together(owners, others)
    lists: Int32 = np.full((len(owners), k), -1, np.int32)
    flat = lists.reshape(-1)
    refused = None if never is None else np.sort(_keys(never))
    for rows in table.pieces():
        row = _rows_of(rows, owner, owner, known)
        if len(known) > len(owners):
            meant = row < len(owners)
            rows, row = rows.only(meant), row[meant]
        item = _rows_of(rows, owner, "item", items)
        rank = _ranks(rows, owner, k)
        if refused is not None and len(refused):
            key = row * len(items) + item
            place = np.minimum(np.searchsorted(refused, key), len(refused) - 1)
            rows.refuse(
                refused[place] == key,
                "answers with an item that the question asked with (if the system does that, audit with "
                "exclude_seen = false)",
                owner, "item", "rank",
            )  # fmt: skip
        place = row * k + rank - 1
        number = np.arange(len(place), dtype=np.int32)
        taken = flat[place] >= 0
        # Written backwards, so that of two rows for one place the first stays, and the other is refused.
        flat[place[::-1]] = number[::-1]
        rows.refuse(
            taken | (flat[place] != number), f"gives a rank to a second item of the {owner}", owner, "item", "rank"
        )
        flat[place] = item
    return lists


def _keys(matrix: sparse.csr_array) -> Int64:
    """Return a number for each stored pair of row and column."""
    row = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    return row * matrix.shape[1] + matrix.indices


def _rows_of(rows: Rows, owner: str, role: str, known: IdMap) -> Int64:
    shown = (owner, "item", "rank")
    missing = rows.frame[role].is_null()
    rows.refuse(missing, f"has no {role} id, so that the file may be cut short", *shown)
    if role == "query":
        unknown = f"answers a question that was not asked: none of the {len(known):,} of this key"
    else:
        unknown = f"has an unknown {role}, none of the {len(known):,} there are"
    return rows.rows_of(role, known, unknown, *shown)


def _ranks(rows: Rows, owner: str, k: int) -> Int64:
    """Return the ranks, which must lie in 1..k, int64, shape (n,)."""
    shown = (owner, "item", "rank")
    column = rows.frame["rank"]
    rows.refuse(column.is_null(), "has no rank, so that the file may be cut short", *shown)
    whole = column.dtype.is_integer() or column.dtype in (pl.String, pl.Categorical, pl.Enum)
    ranks = rows.as_numbers("rank", pl.Int64, "ranks are whole numbers")
    rows.refuse(ranks.is_null() if whole else np.ones(len(ranks), np.bool_), "has a rank that is no whole number",
                *shown)  # fmt: skip
    out = ranks.to_numpy()
    rows.refuse((out < 1) | (out > k), f"has a rank out of 1..{k} (the best item has rank 1)", *shown)
    return out


def _check_each(path: Path, owner: str, lists: Int32, owners: IdMap, items: IdMap) -> Int64:
    """Refuse lists with gaps or with an item twice; return the length of each, int64, shape (n,)."""
    found = np.empty(len(lists), np.int64)
    for start in range(0, len(lists), 2**16):
        part = lists[start : start + 2**16]
        found[start : start + 2**16] = (part >= 0).sum(axis=1)
        gap = (part[:, :-1] < 0) & (part[:, 1:] >= 0)
        if gap.any():
            row, rank = (int(place[0]) for place in np.nonzero(gap))
            raise DataError(
                f"{path}: {owner} {_name(owners, start + row)} has rank {rank + 2}, but not rank {rank + 1}"
            )
        ordered = np.sort(part, axis=1)
        twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
        if twice.any():
            row, place = (int(place[0]) for place in np.nonzero(twice))
            item = int(ordered[row, place])
            ranks = " and ".join(str(rank + 1) for rank in np.flatnonzero(part[row] == item))
            raise DataError(
                f"{path}: {owner} {_name(owners, start + row)} has the item {_name(items, item)} more than once, at "
                f"the ranks {ranks}"
            )
    return found


def _check_lengths(path: Path, found: Int64, users: IdMap, lengths: npt.NDArray[np.integer] | None) -> None:
    """Refuse missing lists, and lists of another length than they must have."""
    missing = found == 0 if lengths is None else (found == 0) & (lengths > 0)
    if missing.any():
        raise DataError(
            f"{path}: user {_name(users, int(np.argmax(missing)))} has no list ({missing.sum():,} of {len(users):,} "
            "users have none)"
        )
    wrong = np.zeros(len(found), np.bool_) if lengths is None else found != lengths
    if lengths is not None and wrong.any():
        user = int(np.argmax(wrong))
        raise DataError(
            f"{path}: user {_name(users, user)} has {found[user]} items and must have {lengths[user]} "
            f"({wrong.sum():,} of {len(users):,} users have too few or too many)"
        )


def _name(ids: IdMap, row: int) -> str:
    return repr(ids.ids[row : row + 1].tolist()[0])

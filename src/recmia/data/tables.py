"""The one reader of tables: columns by role, whatever the format of the file, and one way to refuse a row.

What a table must hold is a `Layout`. `open_table` finds the columns, and `Table` gives the rows, whole or in pieces.
Every refusal is a `DataError` that names the file, the data row, the value and how many such rows there are. Which
formats there are is told by `recmia.data.formats`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import polars as pl

from recmia.data.formats import SEPARATORS, Raw, read_file, readable, shown_separator, usual_separator
from recmia.data.interactions import Bool, IdMap, Int64
from recmia.errors import DataError, near_file, nearest
from recmia.forks import check_fork

# Rows read at once: bounds the memory that is needed beside the result, whatever the length of the file.
ROWS_AT_ONCE = 4_000_000
_NAMES_SHOWN, _CELL_SHOWN = 50, 80
# What the column of places is called that is made where a row holds lists.
_PLACE = "place in the list"

USUAL: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "user": ("user", "userid", "user_id", "uid", "reviewerid", "customer_id"),
        "item": ("item", "itemid", "item_id", "iid", "movieid", "movie_id", "productid", "product_id", "asin"),
        "rating": ("rating", "ratings", "score", "stars", "value", "overall"),
        "time": ("timestamp", "time", "ts", "datetime", "date", "unixreviewtime"),
        # Not "text": in tables of reviews that is what a user wrote, not public knowledge of the item.
        "text": ("genres", "genre", "tags", "category", "categories"),
        "position": ("position", _PLACE),
        "rank": ("rank", "position", _PLACE),
        "title": ("title", "name"),
        "member": ("member",),
        "query": ("query", "query_id", "queryid", "question"),
    }
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Which columns a kind of table has.

    Parameters
    ----------
    what : str
        What the rows are, for messages, such as ``"lists"``.
    roles : tuple of str
        Keys of `USUAL`, the names under which each column is looked for (in any case).
    required : tuple of str
        The roles without which the table is refused.
    header_optional : bool
        Whether text may come without a header: it does if no cell of the first line is a usual name, and there are no
        more cells than roles.
    headerless : tuple of str
        The order of the columns of text that has no header; that of `roles`, unless it is given.
    option : callable, optional
        From names by role (or ``"separator"``, or ``"header"``) to the options that give them, which messages then
        advise.
    missing : str
        Message for a column that is not there, with the fields path, role and names.

    Examples
    --------
    >>> Layout("lists", ("user", "item", "rank"), required=("user", "item", "rank")).what
    'lists'
    """

    what: str
    roles: tuple[str, ...]
    required: tuple[str, ...]
    header_optional: bool = False
    headerless: tuple[str, ...] = ()
    option: Callable[[Mapping[str, str]], str] | None = None
    missing: str = "{path} has no column for the {role}; found {names}"

    def advice(self, role: str, name: str, words: str = "; name it: {}") -> str:
        """Return words with the option that mends a table, or nothing where there is none."""
        return "" if self.option is None else words.format(self.option({role: name}))


@dataclass(frozen=True, eq=False)
class Rows:
    """Consecutive data rows of a table, one column for each role that was found.

    Parameters
    ----------
    path : Path
        For messages.
    frame : polars.DataFrame
        As they stand in the file: text, or the types of Parquet.
    start : int
        Number of the data rows of the file that come before.
    numbers : polars.Series of int, length n, optional
        Numbers of the rows among the data rows, the first 1, where lines are left out. A blank line is no row, but
        counts.

    Examples
    --------
    >>> rows = Rows(Path("members.csv"), pl.DataFrame({"user": ["7", "x"]}))
    >>> rows.refuse(pl.Series([False, True]), "names no user", "user")
    Traceback (most recent call last):
        ...
    recmia.errors.DataError: members.csv: data row 2 names no user: 'x' (1 such rows)
    """

    path: Path
    frame: pl.DataFrame
    start: int = 0
    numbers: pl.Series | None = None

    def refuse(self, bad: pl.Series | Bool, what: str, *roles: str) -> None:
        """Raise an error that names the first bad row, if there is one.

        Parameters
        ----------
        bad : bool, shape (n,)
        what : str
            What is wrong with it, as a predicate: "has no user id".
        *roles : str
            Columns whose values are shown.

        Raises
        ------
        DataError
        """
        bad = pl.Series(bad)
        if not bad.any():
            return
        row = int(bad.arg_true()[0])
        number = self.start + row + 1 if self.numbers is None else int(self.numbers[row])
        shown = ", ".join(f"{role if len(roles) > 1 else ''} {_cell(self.frame[role], row)}".strip() for role in roles)
        raise DataError(f"{self.path}: data row {number:,} {what}: {shown} ({int(bad.sum()):,} such rows)")

    def ids(self, role: str) -> pl.Series:
        """Return a column of ids, whole numbers or text, without nulls.

        Raises
        ------
        DataError
            For a column of another type, and a row without an id.
        """
        column = self.frame[role]
        if column.null_count():
            self.refuse(column.is_null(), f"has no {role} id", role)
        if column.dtype == pl.String:
            return _bare_numbers(column)
        if column.dtype.is_integer():
            # Hashes: numbers that no signed integer of 64 bits holds are ids all the same.
            return column if column.cast(pl.Int64, strict=False).null_count() == 0 else column.cast(pl.String)
        if column.dtype in (pl.Categorical, pl.Enum):
            return column.cast(pl.String)
        first = f", the first is {_cell(column, 0)}" if len(column) else ""
        nested = "; give a row to each" if column.dtype.is_nested() else ""
        raise DataError(
            f"{self.path}: the {role} ids must be whole numbers or text; the column holds {column.dtype}{first}{nested}"
        )

    def as_numbers(self, role: str, kind: type[pl.DataType], what: str) -> pl.Series:
        """Return a column as numbers, null where there is none; spaces around a number do not matter.

        Parameters
        ----------
        role : str
        kind : type
            `polars.Float32`, `polars.Float64` or `polars.Int64`.
        what : str
            What the column must hold, for an error.

        Raises
        ------
        DataError
            For a column of another type.
        """
        column = self.frame[role]
        if column.dtype in (pl.Categorical, pl.Enum):
            column = column.cast(pl.String)
        if column.dtype == pl.String:
            numbers = column.cast(kind, strict=False)
            # Only where it is needed: stripped text is a copy.
            spaced = numbers.null_count() > column.null_count()
            return column.str.strip_chars().cast(kind, strict=False) if spaced else numbers
        if column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null):
            return column.cast(kind, strict=False)
        first = f", the first is {_cell(column, 0)}" if len(column) else ""
        raise DataError(f"{self.path}: {what}; the column {role!r} holds {column.dtype}{first}")

    def only(self, kept: pl.Series | Bool) -> Rows:
        """Return some of the rows, which keep their numbers."""
        kept = pl.Series(kept)
        numbers = kept.arg_true() + self.start + 1 if self.numbers is None else self.numbers.filter(kept)
        return Rows(self.path, self.frame.filter(kept), self.start, numbers)

    def rows_of(self, role: str, known: IdMap, unknown: str, *roles: str) -> Int64:
        """Return the rows of a map that the ids of a column stand for, int64, shape (n,).

        Parameters
        ----------
        role : str
        known : IdMap
        unknown : str
            What an error says of an id that the map does not hold.
        *roles : str
            Columns whose values are then shown; without any, the ids.

        Raises
        ------
        DataError
        """
        column, ids = self.ids(role), pl.Series(role, known.ids)
        # As text unless both are whole numbers: "007" and "7" are two ids.
        kind = pl.Int64 if column.dtype.is_integer() and ids.dtype.is_integer() else pl.String
        places = pl.DataFrame({role: ids.cast(kind), "place": np.arange(len(known), dtype=np.int32)})
        asked = column.cast(kind, strict=False).to_frame()
        found = asked.join(places, on=role, how="left", maintain_order="left")["place"]
        self.refuse(found.is_null(), unknown, *(roles or (role,)))
        return found.cast(pl.Int64).to_numpy()


@dataclass(frozen=True, eq=False)
class Table:
    """A table whose columns are found, and whose rows can be read, more than once.

    Parameters
    ----------
    path : Path
    notes : tuple of str
        What is worth knowing about how it is read, such as an encoding.
    columns : tuple of str
        The names of all its columns.
    found : mapping from role to str
        The names of those that play a role.
    _lists : tuple of str
        The roles whose cells hold lists, one entry for each item.
    """

    path: Path
    notes: tuple[str, ...]
    columns: tuple[str, ...]
    found: Mapping[str, str]
    _frame: pl.LazyFrame
    _format: str
    _lists: tuple[str, ...] = ()
    _numbers: pl.Series | None = None

    def rows(self) -> Rows:
        """All rows."""
        return self._collect(self._frame, 0, self._numbers)

    def pieces(self, rows_at_once: int | None = None) -> Iterator[Rows]:
        """Consecutive pieces of at most so many rows (`ROWS_AT_ONCE`), never an empty one."""
        size = ROWS_AT_ONCE if rows_at_once is None else rows_at_once
        with readable(self.path, self._format):
            total = int(self._frame.select(pl.len()).collect().item())
            if self._lists:
                # Of a row of the file for each item of its list.
                longest = self._frame.select(pl.col(self._lists[0]).list.len().max()).collect().item()
                size = max(1, size // max(1, longest or 0))
        for start in range(0, total, size):
            numbers = None if self._numbers is None else self._numbers.slice(start, size)
            piece = self._collect(self._frame.slice(start, size), start, numbers)
            if len(piece.frame):
                yield piece

    def _collect(self, frame: pl.LazyFrame, start: int, numbers: pl.Series | None) -> Rows:
        with readable(self.path, self._format):
            rows = Rows(self.path, frame.collect(), start, numbers)
        return _a_row_for_each(rows, self._lists) if self._lists else rows


def open_table(
    path: Path,
    layout: Layout,
    *,
    named: Mapping[str, str] | None = None,
    separator: str = "",
    header: Sequence[str] | Literal[False] | None = None,
) -> Table:
    r"""Return a table whose columns have been found.

    Parameters
    ----------
    path : Path
        In a format of `recmia.data.formats`, or a folder of Parquet files. A row may hold a list of items, and lists of
        what belongs to them, or of structs: it stands for a row for each item, in this order.
    layout : Layout
    named : mapping from role to str, optional
        Names of columns that the user chose; they go before the usual names, and must be there.
    separator : str
        Of text; usually the tab in ``.tsv`` and else the comma, unless another one alone splits the lines.
    header : sequence of str or False, optional
        Names of the columns of text that has no header. False: their numbers, from 1; unless a column is named, they
        are in the usual order.

    Returns
    -------
    Table
        Of text the rows are read, of Parquet only the schema.

    Raises
    ------
    DataError
        For a file that is missing, empty, cut short or of another format, lacks a column, or has two for a role; the
        message names the file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "members.csv"
    ...     _ = path.write_text("userId,since\n7,2019\n\n9,2021\n")
    ...     table = open_table(path, Layout("members", ("user",), required=("user",)))
    ...     table.rows().frame["user"].to_list()
    ['7', '9']
    """
    check_fork()
    if not path.exists():
        raise DataError(f"{path}: there is no such file of {layout.what}{near_file(path)}")
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path}: the file of {layout.what} is empty")
    chosen = {role: name for role, name in (named or {}).items() if name}
    raw = read_file(path, separator, lambda cells: _without_header(path, cells, layout, chosen, header))
    if header is False and not raw.headed and not chosen:
        chosen = dict(zip(layout.headerless or layout.roles, raw.names, strict=False))
    with readable(path, raw.format):
        raw, lists = _spread(raw, layout, chosen)
    if raw.guessed and not raw.headed and header is None:
        first = raw.frame.head(1).collect().row(0)
        line = raw.separator.join(str(cell or "") for cell in first)
        raise DataError(
            f"{path}: the first line {line!r} looks separated by {raw.separator!r}"
            f"{layout.advice('separator', shown_separator(raw.separator))}"
        )
    found = match_columns(path, raw.names, layout, chosen, raw.separator, lists=lists)
    if raw.headed and raw.separator:
        _refuse_data_as_header(path, raw.names, found, layout)
    frame = raw.frame.select([pl.col(name).alias(role) for role, name in found.items()])
    spread = tuple(role for role, name in found.items() if name in lists and role != "text")
    if spread and "item" not in spread:
        raise DataError(
            f"{path}: the column {found[spread[0]]!r} holds lists, and the items in {found.get('item')!r} do not"
        )
    numbers = None
    if raw.separator:
        # The reader makes a blank line between rows a row of nulls.
        rows = frame.collect()
        full = rows.select(~pl.all_horizontal(pl.all().is_null())).to_series()
        if not full.all():
            numbers, rows = full.arg_true() + 1, rows.filter(full)
        frame = rows.lazy()
    return Table(path, raw.notes, raw.names, found, frame, raw.format, spread, numbers)


def match_columns(
    path: Path,
    names: Sequence[str],
    layout: Layout,
    named: Mapping[str, str] | None = None,
    separator: str = "",
    *,
    lists: Collection[str] = (),
) -> dict[str, str]:
    """Return the column that plays each role, by role; roles that are not required may be left out.

    Parameters
    ----------
    path : Path
        For messages.
    names : sequence of str
        The columns that there are.
    layout : Layout
    named : mapping from role to str, optional
        See `open_table`.
    separator : str
        Of text, to tell whether the file has another one.
    lists : collection of str
        The columns whose cells hold lists; their usual names may be plurals.

    Raises
    ------
    DataError
        If a required column is not there, or one that the user named; if two columns could play a role, or one plays
        two.

    Examples
    --------
    >>> layout = Layout("histories", ("user", "item", "time"), required=("user", "item"))
    >>> match_columns(Path("log.csv"), ["when", "movieId", "User"], layout, {"time": "when"})
    {'user': 'User', 'item': 'movieId', 'time': 'when'}
    """
    named = {role: name for role, name in (named or {}).items() if name and role in layout.roles}
    for role, name in named.items():
        if name not in names:
            raise DataError(f"{path} has no column {name!r} for the {role}; {nearest(name, set(names))}")
    found: dict[str, str] = {}
    for role in layout.roles:
        candidates = [name for name in names if name == named[role]] if role in named else [
            name for name in names if _is_usual(role, name, name in lists) and name not in named.values()
        ]  # fmt: skip
        if len(set(candidates)) < len(candidates):
            raise DataError(f"{path}: the column {candidates[0]!r} stands twice in the header; rename one of the two")
        if len(candidates) > 1:
            raise DataError(
                f"{path} has {len(candidates)} columns for the {role}: {_listed(candidates)}"
                f"{layout.advice(role, candidates[0], '; name the one that is meant, as {}') or '; keep one of them'}"
            )
        if candidates:
            found[role] = candidates[0]
    for role, name in found.items():
        other = next((other for other in found if found[other] == name and other != role), "")
        if other:
            raise DataError(f"{path}: the column {name!r} is named for two, the {role} and the {other}")
    lacking = [role for role in layout.required if role not in found]
    if lacking:
        message = layout.missing.format(path=path, role=" or ".join(lacking), names=_listed(names))
        raise DataError(message + _mend(lacking, names, separator, layout))
    return found


def write_table(frame: pl.DataFrame, path: Path) -> None:
    """Write a table in the format that `open_table` expects under this name: Parquet, TSV or CSV with a header."""
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path, separator=usual_separator(path.suffix))


def _cell(column: pl.Series, row: int) -> str:
    """Return a cell as it is shown in a message of one line."""
    value = column[row]
    return repr(value.to_list() if isinstance(value, pl.Series) else value)[:_CELL_SHOWN]


def _bare_numbers(column: pl.Series) -> pl.Series:
    """Return text without the spaces around whole numbers; other text keeps its own."""
    spaced = column.str.starts_with(" ") | column.str.ends_with(" ")
    if not spaced.any():
        return column
    bare = column.str.strip_chars()
    return bare.zip_with(spaced & bare.str.contains(r"^-?\d+$"), column)


def _without_header(
    path: Path,
    cells: Sequence[str],
    layout: Layout,
    named: Mapping[str, str],
    header: Sequence[str] | Literal[False] | None,
) -> Sequence[str] | None:
    """Return the names of the columns of text whose first line has these cells, None if the line is a header."""
    usual = [cell for cell in cells if any(_is_usual(role, cell) for role in layout.roles)]
    order = layout.headerless or layout.roles
    if header is None:
        # Whoever names columns says that there is a header.
        optional = layout.header_optional and not named and not usual and len(cells) <= len(order)
        # A file of blank lines has no column at all.
        return order[: max(len(cells), 1)] if optional else None
    if header is not False:
        return header
    if usual:
        raise DataError(f"{path}: the first line is a header, since it holds {_listed(usual)}, and none was announced")
    if not named and len(cells) > len(order):
        raise DataError(
            f"{path} has no header and {len(cells)} columns, the first row is {_listed(cells)}: number those of "
            f"{', '.join(order)} from 1{layout.advice(order[0], '1', ', as {}')}"
        )
    mark = _other_separator(cells[0]) if len(cells) == 1 < len(layout.required) else ""
    if mark:
        raise DataError(
            f"{path}: the first line {cells[0]!r} looks separated by {mark!r}"
            f"{layout.advice('separator', shown_separator(mark))}"
        )
    return [str(number) for number in range(1, len(cells) + 1)]


def _refuse_data_as_header(path: Path, names: Sequence[str], found: Mapping[str, str], layout: Layout) -> None:
    """Refuse a header in which a number is the name of a column that is used, unless it numbers all of them."""
    if list(names) != [str(number) for number in range(len(names))] and any(map(_is_number, found.values())):
        raise DataError(
            f"{path}: the first line looks like data, {_listed(names)}, and would be lost as a header"
            f"{layout.advice('header', 'no', '; if there is none: {}, with columns by number from 1')}"
        )


def _spread(raw: Raw, layout: Layout, named: Mapping[str, str]) -> tuple[Raw, frozenset[str]]:
    """Give lists of structs a column for each field; return also the names of columns of lists.

    Where the items are in lists, their places become a column, too.
    """
    schema = raw.frame.collect_schema()
    columns: dict[str, pl.Expr] = {}
    lists: list[str] = []
    for name, kind in schema.items():
        inner = kind.inner if isinstance(kind, pl.List | pl.Array) else None
        column = pl.col(name).arr.to_list() if isinstance(kind, pl.Array) else pl.col(name)
        fields = [field.name for field in inner.fields] if isinstance(inner, pl.Struct) else []
        for field in fields:
            label = f"{name}.{field}" if field in schema else field
            columns[label] = column.list.eval(pl.element().struct.field(field))
            lists.append(label)
        if not fields:
            columns[name] = column
            lists += [name] if inner is not None else []
    if not lists:
        return raw, frozenset()
    chosen = named.get("item", "")
    items = [name for name in lists if (name == chosen if chosen else _is_usual("item", name, plural=True))]
    orders = [role for role in ("rank", "position") if role in layout.roles]
    if items and not any(_is_usual(role, name) for role in orders for name in columns):
        lengths = columns[items[0]].list.len().fill_null(0).cast(pl.Int64)
        # A rank is that in the list. Events of a user can lie in several lists, and those of a later row come later.
        before = pl.lit(0) if "rank" in layout.roles else lengths.cum_sum() - lengths
        columns[_PLACE] = pl.int_ranges(before + 1, before + lengths + 1)
        lists.append(_PLACE)
    frame = raw.frame.select([column.alias(name) for name, column in columns.items()])
    return raw._replace(frame=frame, names=tuple(columns)), frozenset(lists)


def _a_row_for_each(rows: Rows, lists: Sequence[str]) -> Rows:
    """Return a row for each item of the lists, with the number of the row in the file; an empty list has none."""
    lengths = rows.frame.select(pl.col(role).list.len().fill_null(0) for role in lists)
    for role in lists[1:]:
        unequal = lengths[role] != lengths[lists[0]]
        if unequal.any():
            row = int(unequal.arg_true()[0])
            found = f"{lengths[lists[0]][row]} in the {lists[0]}, {lengths[role][row]} in the {role}"
            rows.refuse(unequal, f"has lists of different lengths, {found}; give each item its {role}")
    full = lengths[lists[0]] > 0
    numbered = rows.only(full)
    assert numbered.numbers is not None
    frame = numbered.frame.with_columns(numbered.numbers.alias("number")).explode(*lists)
    return Rows(rows.path, frame.drop("number"), rows.start, frame["number"])


def _is_usual(role: str, name: str, plural: bool = False) -> bool:
    plain = name.strip().lower()
    usual = USUAL.get(role, ())
    return plain in usual or (plural and plain.removesuffix("s") in usual)


def _is_number(name: str) -> bool:
    return re.fullmatch(r"\s*[-+]?\d+(\.\d+)?\s*", name) is not None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:_NAMES_SHOWN]))


def _other_separator(line: str) -> str:
    """Return what seems to separate a line that was read as one field; empty if nothing does."""
    usual = [mark for mark in (*reversed(SEPARATORS), " ") if mark in line.strip()]
    return next(iter(usual + re.findall(r"[^\w\"'.:/+-]", line, re.ASCII)), "")


def _mend(roles: Sequence[str], names: Sequence[str], separator: str, layout: Layout) -> str:
    """Words on what helps where columns were not found: another separator, no header, or their names."""
    other = _other_separator(names[0]) if separator and len(names) == 1 else ""
    if other:
        must = f", it must be {separator!r}" if layout.option is None else ""
        return f"; the header looks separated by {other!r}{must}{layout.advice('separator', shown_separator(other))}"
    without = layout.advice("header", "no", ", or if the first line is data, {}") if separator else ""
    if layout.option is None:
        return ""
    return f"; name {'it' if len(roles) == 1 else 'them'}: {layout.option(dict.fromkeys(roles, 'NAME'))}{without}"

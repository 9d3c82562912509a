"""The one reader of tables: separated text and Parquet, columns by role, and one way to refuse a row.

What a table must hold is a `Layout`. `open_table` finds the columns, and `Table` gives the rows, whole or in pieces.
Every refusal is a `DataError` that names the file, the data row, the value and how many such rows there are.

A file format is one function, from path, layout, separator and header to `_Raw`, and one entry in `_FORMATS`.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from recmia.data.interactions import Bool, IdMap, Int64
from recmia.errors import DataError, nearest

# Rows read at once: bounds the memory that is needed beside the result, whatever the length of the file.
ROWS_AT_ONCE = 4_000_000
_BYTES_AT_ONCE = 2**20
_GZIP = b"\x1f\x8b"
_NAMES_SHOWN, _CELL_SHOWN = 50, 80
_SEPARATORS = ";\t|,"

USUAL: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "user": ("user", "userid", "user_id", "uid", "reviewerid", "customer_id"),
        "item": ("item", "itemid", "item_id", "iid", "movieid", "movie_id", "productid", "product_id", "asin"),
        "rating": ("rating", "ratings", "score", "stars", "value", "overall"),
        "time": ("timestamp", "time", "ts", "datetime", "date", "unixreviewtime"),
        # Not "text": in tables of reviews that is what a user wrote, not public knowledge of the item.
        "text": ("genres", "genre", "tags", "category", "categories"),
        "position": ("position",),
        "rank": ("rank", "position"),
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
        Keys of `USUAL`, the names under which each column is looked for (in any case). In a file without a header the
        columns have this order.
    required : tuple of str
        The roles without which the table is refused.
    header_optional : bool
        Whether text may come without a header: it does if no cell of the first line is a usual name, and there are no
        more cells than roles.
    nameable : bool
        Whether the user can name columns and separator in the settings, which messages then advise.
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
    nameable: bool = False
    missing: str = "{path} has no column for the {role}; found {names}"


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
        if column.dtype == pl.UInt64 and len(column) and column.max() > np.iinfo(np.int64).max:  # type: ignore[operator]
            # Hashes: numbers that no signed integer holds are ids all the same.
            return column.cast(pl.String)
        if column.dtype.is_integer() or column.dtype == pl.String:
            return column
        if column.dtype in (pl.Categorical, pl.Enum):
            return column.cast(pl.String)
        first = f", the first is {_cell(column, 0)}" if len(column) else ""
        nested = "; give a row to each" if column.dtype.is_nested() else ""
        raise DataError(
            f"{self.path}: the {role} ids must be whole numbers or text; the column holds {column.dtype}{first}{nested}"
        )

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
    """

    path: Path
    notes: tuple[str, ...]
    columns: tuple[str, ...]
    found: Mapping[str, str]
    _frame: pl.LazyFrame
    _numbers: pl.Series | None

    def rows(self) -> Rows:
        """All rows."""
        return self._collect(self._frame, 0, self._numbers)

    def pieces(self, rows_at_once: int | None = None) -> Iterator[Rows]:
        """Consecutive pieces of at most so many rows (`ROWS_AT_ONCE`), never an empty one."""
        size = ROWS_AT_ONCE if rows_at_once is None else rows_at_once
        with _readable(self.path):
            total = int(self._frame.select(pl.len()).collect().item())
        for start in range(0, total, size):
            numbers = None if self._numbers is None else self._numbers.slice(start, size)
            yield self._collect(self._frame.slice(start, size), start, numbers)

    def _collect(self, frame: pl.LazyFrame, start: int, numbers: pl.Series | None) -> Rows:
        with _readable(self.path):
            return Rows(self.path, frame.collect(), start, numbers)


def open_table(
    path: Path,
    layout: Layout,
    *,
    named: Mapping[str, str] | None = None,
    separator: str = "",
    header: Sequence[str] | None = None,
) -> Table:
    r"""Return a table whose columns have been found.

    Parameters
    ----------
    path : Path
        Separated text or, by the suffix ``.parquet``, a Parquet file or a folder of such files.
    layout : Layout
    named : mapping from role to str, optional
        Names of columns that the user chose; they go before the usual names, and must be there.
    separator : str
        Of text; usually the tab in ``.tsv`` and else the comma.
    header : sequence of str, optional
        Names of the columns of text that has no header.

    Returns
    -------
    Table
        Of text the rows are read, of Parquet only the schema.

    Raises
    ------
    DataError
        For a file that is missing, empty or cut short, or lacks a column; the message names the file.

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
    if not path.exists():
        raise DataError(f"{path}: there is no such file of {layout.what}")
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path}: the file of {layout.what} is empty")
    with _readable(path):
        # Whoever names columns says that there is a header.
        expected = replace(layout, header_optional=layout.header_optional and not any((named or {}).values()))
        raw = _format(path).read(path, expected, separator, header)
        names = raw.frame.collect_schema().names()
    found = match_columns(path, names, layout, named, raw.separator)
    frame = raw.frame.select([pl.col(name).alias(role) for role, name in found.items()])
    numbers = None
    if raw.separator:
        # The reader makes a blank line between rows a row of nulls.
        rows = frame.collect()
        full = rows.select(~pl.all_horizontal(pl.all().is_null())).to_series()
        if not full.all():
            numbers, rows = full.arg_true() + 1, rows.filter(full)
        frame = rows.lazy()
    return Table(path, raw.notes, tuple(names), found, frame, numbers)


def match_columns(
    path: Path,
    names: Sequence[str],
    layout: Layout,
    named: Mapping[str, str] | None = None,
    separator: str = "",
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

    Raises
    ------
    DataError
        If a required column is not there, or one that the user named.

    Examples
    --------
    >>> layout = Layout("histories", ("user", "item", "time"), required=("user", "item"))
    >>> match_columns(Path("log.csv"), ["when", "movieId", "User"], layout, {"time": "when"})
    {'user': 'User', 'item': 'movieId', 'time': 'when'}
    """
    found: dict[str, str] = {}
    for role in layout.roles:
        chosen = (named or {}).get(role, "")
        if chosen:
            if chosen not in names:
                raise DataError(f"{path} has no column {chosen!r} for the {role}; {nearest(chosen, names)}")
            found[role] = chosen
        else:
            match = [name for name in names if _plain(name) in USUAL[role]]
            if match:
                found[role] = match[0]
    for role in layout.required:
        if role not in found:
            message = layout.missing.format(path=path, role=role, names=", ".join(map(repr, names[:_NAMES_SHOWN])))
            raise DataError(message + _other_separator(names, separator, layout.nameable))
    return found


def write_table(frame: pl.DataFrame, path: Path) -> None:
    """Write a table in the format that `open_table` expects under this name: Parquet, TSV or CSV with a header."""
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path, separator=_usual_separator(path))


def _cell(column: pl.Series, row: int) -> str:
    """Return a cell as it is shown in a message of one line."""
    value = column[row]
    return repr(value.to_list() if isinstance(value, pl.Series) else value)[:_CELL_SHOWN]


class _Raw(NamedTuple):
    """What a format makes of a file: all columns, and the separator if it is text."""

    frame: pl.LazyFrame
    notes: tuple[str, ...] = ()
    separator: str = ""


def _read_parquet(path: Path, layout: Layout, separator: str, header: Sequence[str] | None) -> _Raw:
    return _Raw(pl.scan_parquet(path, glob=False))


def _read_text(path: Path, layout: Layout, separator: str, header: Sequence[str] | None) -> _Raw:
    """Read text as strings, so that a bad value can be shown as it stands in the file."""
    separator = separator or _usual_separator(path)
    source: Path | bytes = path
    notes: tuple[str, ...] = ()
    if not _is_utf8(path):
        source = path.read_bytes().decode("latin-1").encode("utf-8")
        notes = ("the file is not UTF-8 and was read as latin-1",)
    if len(separator) > 1:
        # polars takes one character only.
        data = source if isinstance(source, bytes) else source.read_bytes()
        source, separator = data.replace(separator.encode(), b"\t"), "\t"
    options: dict[str, Any] = {"separator": separator, "infer_schema": False, "raise_if_empty": False, "glob": False}
    if header is None and layout.header_optional:
        first = pl.read_csv(source, n_rows=0, **options).columns
        if not any(_plain(name) in USUAL[role] for name in first for role in layout.roles):
            other = next((mark for mark in ";\t" if len(first) == 1 and mark in first[0]), "")
            if other:
                raise DataError(
                    f"{path}: the first line {first[0]!r} looks separated by {other!r}; name it, as separator="
                    f"{'tab' if other == chr(9) else other} in {layout.what}_columns"
                )
            # A file of blank lines has no column at all.
            header = layout.roles[: max(len(first), 1)] if len(first) <= len(layout.roles) else None
    if header is None:
        frame = pl.read_csv(source, **options)
    else:
        frame = pl.read_csv(source, has_header=False, new_columns=list(header), **options)
    return _Raw(frame.lazy(), notes, separator)


class _Format(NamedTuple):
    """A file format: its name in messages, and how it is read."""

    name: str
    read: Callable[[Path, Layout, str, Sequence[str] | None], _Raw]


_TEXT = _Format("separated text", _read_text)
# By suffix; what is not here is read as text.
_FORMATS: Mapping[str, _Format] = MappingProxyType({".parquet": _Format("Parquet", _read_parquet)})


def _format(path: Path) -> _Format:
    return _FORMATS.get(path.suffix, _TEXT)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Tell an error of the reader in one line."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        words = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: cannot be read as {_format(path).name}, so that it may be cut short: {words}"
        ) from None


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        try:
            while block := file.read(_BYTES_AT_ONCE):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            file.seek(0)
            # The reader unpacks what is compressed by itself.
            return file.read(len(_GZIP)) == _GZIP
    return True


def _usual_separator(path: Path) -> str:
    return "\t" if path.suffix == ".tsv" else ","


def _plain(name: str) -> str:
    return name.strip().lower()


def _other_separator(names: Sequence[str], separator: str, nameable: bool) -> str:
    """Words for a header that looks as if it were separated otherwise."""
    other = next((mark for mark in _SEPARATORS if mark != separator and mark in names[0]), "") if names else ""
    if not separator or len(names) != 1 or not other:
        return ""
    advice = "set the separator to it" if nameable else f"it must be {separator!r}"
    return f"; the header looks separated by {other!r}, {advice}"

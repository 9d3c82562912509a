"""Tables of histories: who interacted with what, in columns of fixed types."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from recmia.data.tables import Layout, Rows, match_columns, open_table
from recmia.errors import DataError
from recmia.settings.data import Columns

LAYOUT = Layout(
    "histories",
    ("user", "item", "rating", "time", "position", "text"),
    required=("user", "item"),
    nameable=True,
    missing="{path} has no column for the {role}; found {names}; name it with columns.{role}",
)

# What means "no genre": nothing, or the words of the newer MovieLens editions and of ml-100k.
_NO_TERM = frozenset({"", "(no genres listed)", "unknown"})


def read_histories(
    path: Path, columns: Columns | None = None, *, separator: str = "", header: Sequence[str] | None = None
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    r"""Return the columns user, item and, where the file has them, rating, time, position and text.

    Parameters
    ----------
    path : Path
        Anything that `recmia.data.tables.open_table` reads.
    columns : Columns, optional
        For files whose columns have unusual names.
    separator : str
        Of text; goes before that of `columns`, and may have more than one character.
    header : sequence of str, optional
        Names of the columns of text that has no header.

    Returns
    -------
    frame : polars.DataFrame
        Ids are int64 or text, ratings float32, times int64 seconds, positions (of an event among those of its user)
        int64, texts categorical in lower case or null.
    notes : tuple of str

    Raises
    ------
    DataError
        Naming the file and the column or row that cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "ratings.csv"
    ...     _ = path.write_text("userId,movieId,rating\n1,10,4.5\n")
    ...     read_histories(path)[0].row(0, named=True)
    {'user': 1, 'item': 10, 'rating': 4.5}
    """
    columns = Columns() if columns is None else columns
    named = columns.model_dump(exclude={"separator"})
    table = open_table(path, LAYOUT, named=named, separator=separator or columns.separator, header=header)
    frame, notes = _typed(table.rows())
    return frame, (*table.notes, *notes)


def typed_histories(source: str, frame: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return a table in memory as `read_histories` returns one from a file; errors call it `source`."""
    path = Path(source)
    found = match_columns(path, frame.columns, LAYOUT)
    return _typed(Rows(path, frame.select([pl.col(name).alias(role) for role, name in found.items()])))


def join_terms(parts: Iterable[str]) -> str | None:
    """Return the terms in lower case, separated by '|', each once, without empty ones; None if none is left.

    Examples
    --------
    >>> join_terms(["Drama", " War ", "drama", "(no genres listed)"])
    'drama|war'
    """
    terms = dict.fromkeys(part.strip().lower() for part in parts)
    return "|".join(term for term in terms if term not in _NO_TERM) or None


def _typed(rows: Rows) -> tuple[pl.DataFrame, tuple[str, ...]]:
    frame = rows.frame
    notes: tuple[str, ...] = ()
    for role in ("user", "item"):
        column, note = _typed_ids(rows, role)
        frame = frame.with_columns(column)
        notes += note
    typed = {"rating": _typed_ratings, "time": _typed_times, "position": _typed_positions, "text": _typed_texts}
    for role, convert in typed.items():
        if role in frame.columns:
            frame = frame.with_columns(convert(rows))
    return frame, notes


def _typed_ids(rows: Rows, role: str) -> tuple[pl.Series, tuple[str, ...]]:
    column = rows.ids(role)
    if column.dtype.is_integer():
        return column.cast(pl.Int64), ()
    if rows.frame[role].dtype != pl.String:
        return column, ()
    rows.refuse(column.str.len_bytes() == 0, f"has no {role} id", role)
    # "007" and "7" are two ids, so only text that a number would print again may become a number.
    canonical = column.str.contains(r"^(0|-?[1-9]\d{0,17})$")
    if canonical.all():
        return column.cast(pl.Int64), ()
    note = f"the {role} ids mix whole numbers and other text; all are kept as text"
    return column, ((note,) if canonical.any() else ())


def _typed_ratings(rows: Rows) -> pl.Series:
    column = rows.frame["rating"]
    rows.refuse(column.is_null(), "has no rating", "rating")
    numbers = column.cast(pl.Float32, strict=False)
    rows.refuse(numbers.is_null() | ~numbers.is_finite(), "has a rating that is not a finite number", "rating")
    return numbers


def _typed_times(rows: Rows) -> pl.Series:
    column = rows.frame["time"]
    rows.refuse(column.is_null(), "has no time", "time")
    if column.dtype.is_temporal():
        return column.cast(pl.Datetime("us")).dt.epoch("s")
    numbers = column.cast(pl.Float64, strict=False)
    if column.dtype == pl.String and numbers.is_null().all():
        return _typed_dates(rows)
    unusable = numbers.is_null() | ~numbers.is_finite() | (numbers.abs() >= 2**53)
    rows.refuse(unusable, "has a time that is not a number of seconds", "time")
    return numbers.cast(pl.Int64)


def _typed_positions(rows: Rows) -> pl.Series:
    column = rows.frame["position"]
    rows.refuse(column.is_null(), "has no position", "position")
    whole = column.dtype.is_integer() or column.dtype == pl.String
    numbers = column.cast(pl.Int64, strict=False) if whole else pl.Series("position", [None] * len(column), pl.Int64)
    rows.refuse(numbers.is_null(), "has a position that is no whole number", "position")
    return numbers


def _typed_dates(rows: Rows) -> pl.Series:
    column = rows.frame["time"]
    try:
        return column.str.to_datetime(time_unit="us").dt.epoch("s")
    except pl.exceptions.PolarsError:
        raise DataError(
            f"{rows.path}: the times are neither seconds nor ISO dates; the first is {column[0]!r} (column 'time')"
        ) from None


def _typed_texts(rows: Rows) -> pl.Series:
    column = rows.frame["text"]
    if column.dtype not in (pl.String, pl.Categorical, pl.Enum):
        raise DataError(
            f"{rows.path}: the text of an item must be terms separated by '|'; the column 'text' holds {column.dtype}"
        )
    given = column.cast(pl.String)
    joined = {text: join_terms(text.split("|")) for text in given.unique().drop_nulls()}
    return given.replace_strict(joined, default=None, return_dtype=pl.String).cast(pl.Categorical)

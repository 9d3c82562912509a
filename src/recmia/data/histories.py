"""Tables of histories: who interacted with what, in columns of fixed types."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import polars as pl

from recmia.data.interactions import LEAST_MILLISECONDS, UNKNOWN_TIME
from recmia.data.tables import Layout, Rows, match_columns, open_table
from recmia.errors import DataError
from recmia.settings.data import Columns


def _option(names: Mapping[str, str]) -> str:
    if "header" in names:
        return "--no-header (setting columns.header = false)"
    flags = " ".join(f"--columns-{role} {shlex.quote(name)}" for role, name in names.items())
    if len(names) == 1:
        return f"{flags} (setting columns.{next(iter(names))})"
    return f"{flags} (in Python columns={json.dumps(dict(names))})"


LAYOUT = Layout(
    "histories",
    ("user", "item", "rating", "time", "position", "text"),
    required=("user", "item"),
    headerless=("user", "item", "rating", "time"),
    option=_option,
)

# What means "no genre": nothing, or the words of the newer MovieLens editions and of ml-100k.
_NO_TERM = frozenset({"", "(no genres listed)", "unknown"})


# What means "no time", in lower case.
_NO_TIME = ("", "nan", "nat", "null", "none", "na", "n/a", r"\n")
# Units of time since the epoch: from what size on numbers are taken for them, which is in 1973 (seconds reach it in the
# year 5138), and how many are a second.
_UNITS = (("milliseconds", LEAST_MILLISECONDS, 10**3), ("microseconds", 10**14, 10**6), ("nanoseconds", 10**17, 10**9))
_ISO_TIME = (
    r"^(?<date>\d{4}[-/]\d{2}[-/]\d{2})"
    r"(?:[T ](?<hour>[01]\d|2[0-3]):(?<minute>[0-5]\d)(?::(?<second>[0-5]\d)(?:[.,](?<fraction>\d+))?)?)?"
    r" ?(?:Z|UTC|(?<sign>[+-])(?<hours>\d{2}):?(?<minutes>\d{2}))?$"
)
# Such a number in the third column of a table without a header is a time.
_LEAST_TIME = 10**8
_NINES = (99, 999, 9999, 99999)


@dataclass(frozen=True, eq=False)
class Histories:
    """A table of histories.

    Parameters
    ----------
    frame : polars.DataFrame
        Columns user, item and, where the file has them, rating, time, position (of an event among those of its user)
        and text. Ids are int64 or text, ratings float32, times int64 seconds or null, positions int64, texts
        categorical in lower case or null. Where times are finer than seconds, their order is in the position.
    notes : tuple of str
        What is worth knowing about the file.
    columns : mapping from role to str
        The column of the file that each was taken from.
    """

    frame: pl.DataFrame
    notes: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)

    def noting(self, *notes: str) -> Histories:
        """Return the same table with further notes."""
        return replace(self, notes=(*self.notes, *notes))


def read_histories(
    path: Path, columns: Columns | None = None, *, separator: str = "", header: Sequence[str] | None = None
) -> Histories:
    r"""Return the histories in a file.

    Parameters
    ----------
    path : Path
        Anything that `recmia.data.tables.open_table` reads.
    columns : Columns, optional
        For files whose columns have unusual names.
    separator : str
        Of text; goes before that of `columns`.
    header : sequence of str, optional
        Names of the columns of text that has no header.

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
    ...     read_histories(path).frame.row(0, named=True)
    {'user': 1, 'item': 10, 'rating': 4.5}
    """
    columns = Columns() if columns is None else columns
    named = columns.model_dump(exclude={"separator", "header"})
    names: Sequence[str] | Literal[False] | None = header if columns.header else False
    table = open_table(path, LAYOUT, named=named, separator=separator or columns.separator, header=names)
    rows = table.rows()
    frame, notes = _typed(rows)
    if names is False and not any(named.values()) and "time" not in frame and "rating" in frame:
        rows.refuse(
            frame["rating"] >= _LEAST_TIME,
            "has what looks like a time in its third column: number the columns, as "
            f"{_option({'user': '1', 'item': '2', 'time': '3'})}",
            "rating",
        )
    return Histories(frame, (*table.notes, *notes), table.found)


def typed_histories(source: str, frame: pl.DataFrame) -> Histories:
    """Return a table in memory as `read_histories` returns one from a file; errors call it `source`."""
    path = Path(source)
    found = match_columns(path, frame.columns, LAYOUT)
    typed, notes = _typed(Rows(path, frame.select([pl.col(name).alias(role) for role, name in found.items()])))
    return Histories(typed, notes, found)


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
    if "rating" in frame.columns:
        ratings = _typed_ratings(rows)
        frame, notes = frame.with_columns(ratings), notes + _odd_ratings(ratings)
    if "position" in frame.columns:
        frame = frame.with_columns(_typed_positions(rows))
    if "time" in frame.columns:
        frame, note = _with_times(rows, frame)
        notes += note
    if "text" in frame.columns:
        frame = frame.with_columns(_typed_texts(rows))
    return frame, notes


def _typed_ids(rows: Rows, role: str) -> tuple[pl.Series, tuple[str, ...]]:
    column = rows.ids(role)
    if column.dtype.is_integer():
        return column.cast(pl.Int64).alias(role), ()
    beyond = f"some {role} ids are whole numbers beyond 64 bits with a sign; all are kept as text"
    if rows.frame[role].dtype != pl.String:
        return column, ((beyond,) if rows.frame[role].dtype.is_integer() else ())
    rows.refuse(column.str.len_bytes() == 0, f"has no {role} id", role)
    # "007" and "7" are two ids, so only text that a number would print again may become a number.
    canonical = column.str.contains(r"^(0|-?[1-9]\d*)$")
    if not canonical.all():
        note = f"the {role} ids mix whole numbers and other text; all are kept as text"
        return column, ((note,) if canonical.any() else ())
    numbers = column.cast(pl.Int64, strict=False)
    return (column, (beyond,)) if numbers.null_count() else (numbers, ())


def _typed_ratings(rows: Rows) -> pl.Series:
    rows.refuse(rows.frame["rating"].is_null(), "has no rating", "rating")
    numbers = rows.as_numbers("rating", pl.Float32, "ratings are numbers")
    rows.refuse(numbers.is_null() | ~numbers.is_finite(), "has a rating that is not a finite number", "rating")
    return numbers


def _odd_ratings(ratings: pl.Series) -> tuple[str, ...]:
    """Point out ratings that tell nothing, and one that seems to mean that there is none."""
    values = ratings.unique().sort()
    if len(values) == 1 and len(ratings) > 1:
        return (f"all ratings are {values[0]:g}, so that they say nothing",)
    if len(values) < 3:
        return ()
    odd = []
    low, high = values[0], values[-1]
    if low < 0 <= values[1] or (low == 0 and values[1] >= 1):
        odd.append((low, values[1], high))
    if high in _NINES and high > 2 * values[-2]:
        odd.append((high, low, values[-2]))
    return tuple(
        f"{int((ratings == value).sum()):,} ratings are {value:g} among {least:g} to {most:g}: if that means that "
        "there is none, leave these rows out or take another column"
        for value, least, most in odd
    )


def _typed_positions(rows: Rows) -> pl.Series:
    column = rows.frame["position"]
    mend = "; give every event one, or leave the column out"
    rows.refuse(column.is_null(), f"has no position{mend}", "position")
    what = "positions are whole numbers"
    # pandas writes whole numbers as floats once one was missing.
    floats = rows.as_numbers("position", pl.Float64, what)
    whole = (floats == floats.floor()) & (floats.abs() < 2.0**53)
    numbers = floats.set(~whole.fill_null(False), None).cast(pl.Int64)
    if not column.dtype.is_float():
        numbers = rows.as_numbers("position", pl.Int64, what).fill_null(numbers)
    rows.refuse(numbers.is_null(), f"has a position that is no whole number{mend}", "position")
    return numbers


def _with_times(rows: Rows, frame: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return the table with times in seconds, null where they are not known, and notes."""
    ticks, in_second, notes = _ticks(rows)
    unknown = ticks.is_null()
    if unknown.all():
        return frame.drop("time"), ("no time is known",)
    if unknown.any():
        notes += (
            f"{int(unknown.sum()):,} of {len(unknown):,} interactions have no time, and do not count for recency",
        )
    frame = frame.with_columns((ticks // in_second).alias("time"))
    if "position" not in frame.columns and (ticks % in_second != 0).any():
        frame = frame.with_columns(ticks.fill_null(0).alias("position"))
        notes += ("within a second, the finer times stand for positions",)
    return frame, notes


def _ticks(rows: Rows) -> tuple[pl.Series, int, tuple[str, ...]]:
    """Return times as int64, null where they are not known, and how many of them are a second; and notes."""
    known = rows.frame["time"]
    if known.dtype in (pl.Date, pl.Datetime):
        return known.cast(pl.Datetime("us")).dt.epoch("us"), 10**6, ()
    what = "times are numbers of seconds, or dates"
    if known.dtype.is_float():
        known = known.fill_nan(None)
    else:
        numbers = rows.as_numbers("time", pl.Int64, what)
        if known.dtype == pl.String and numbers.null_count() > known.null_count():
            known = known.str.strip_chars()
            known = known.set(known.str.to_lowercase().is_in(_NO_TIME), None)
        if numbers.null_count() == known.null_count():
            return _in_seconds(rows, numbers.set(numbers == UNKNOWN_TIME, None))
    floats = rows.as_numbers("time", pl.Float64, what)
    if known.dtype == pl.String and floats.filter(known.is_not_null()).is_null().all():
        return _microseconds_of_dates(rows, known), 10**6, ()
    usable = (floats.abs() < 2.0**63).fill_null(False)
    rows.refuse(known.is_not_null() & ~usable, "has a time that is not a number of seconds", "time")
    if (floats.abs() >= _UNITS[0][1]).any():
        # Of finer units, fractions are no matter.
        return _in_seconds(rows, floats.set(known.is_null(), None).floor().cast(pl.Int64))
    return (floats.set(known.is_null(), None) * 10**6).floor().cast(pl.Int64), 10**6, ()


def _in_seconds(rows: Rows, numbers: pl.Series) -> tuple[pl.Series, int, tuple[str, ...]]:
    """Return how many of these numbers are a second, which is told by their size."""
    unit = next((unit for unit in reversed(_UNITS) if (numbers >= unit[1]).any()), None)
    if unit is None:
        return numbers, 1, ()
    name, least, in_second = unit
    other = ((numbers > 0) & (numbers < least)).fill_null(False)
    rows.refuse(other, f"has a time in another unit than the {name} of others", "time")
    return numbers, in_second, (f"times are in {name}, by their size",)


def _microseconds_of_dates(rows: Rows, known: pl.Series) -> pl.Series:
    parts = known.str.extract_groups(_ISO_TIME).struct.unnest()
    part = {name: pl.col(name).cast(pl.Int64, strict=False).fill_null(0) for name in parts.columns if name != "date"}
    day = pl.col("date").str.replace_all("/", "-", literal=True).str.to_date("%Y-%m-%d", strict=False).dt.epoch("s")
    offset = 3600 * part["hours"] + 60 * part["minutes"]
    ahead = pl.when(pl.col("sign") == "-").then(-offset).otherwise(offset)
    seconds = day + 3600 * part["hour"] + 60 * part["minute"] + part["second"] - ahead
    fraction = pl.col("fraction").fill_null("").str.pad_end(6, "0").str.slice(0, 6).cast(pl.Int64)
    found = parts.select(10**6 * seconds + fraction).to_series()
    bad = found.is_null() & known.is_not_null()
    if bad.any() and found.is_null().all():
        raise DataError(
            f"{rows.path}: the times are neither seconds nor ISO dates such as 2021-03-04 05:06:07; the first is "
            f"{known.drop_nulls()[0]!r}"
        )
    rows.refuse(bad, "has a time that is no ISO date", "time")
    return found


def _typed_texts(rows: Rows) -> pl.Series:
    column = rows.frame["text"]
    if column.dtype == pl.List(pl.String):
        column = column.list.join("|")
    if column.dtype not in (pl.String, pl.Categorical, pl.Enum):
        raise DataError(
            f"{rows.path}: the text of an item must be terms separated by '|'; the column 'text' holds {column.dtype}"
        )
    given = column.cast(pl.String)
    joined = {text: join_terms(text.split("|")) for text in given.unique().drop_nulls()}
    return given.replace_strict(joined, default=None, return_dtype=pl.String).cast(pl.Categorical)

"""Terms of items, from the files that lie beside the interactions."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from recmia.data.histories import join_terms


def with_terms(frame: pl.DataFrame, terms: Iterable[tuple[str, str]]) -> pl.DataFrame:
    """Return histories with a column text: the terms of each row's item, separated by '|'.

    Parameters
    ----------
    frame : polars.DataFrame
        As `recmia.data.histories.read_histories` returns it.
    terms : iterable of (item, term)
        Items as text. Without a term for any item there is no column.

    Examples
    --------
    >>> frame = pl.DataFrame({"user": [1, 1], "item": [10, 20]})
    >>> with_terms(frame, [("10", "War"), ("10", "a|b"), ("30", "Drama")]).rows()
    [(1, 10, 'war|a b'), (1, 20, None)]
    """
    parts: dict[str, list[str]] = {}
    for item, term in terms:
        parts.setdefault(item, []).append(term.replace("|", " "))
    # Ids that cannot be ids of this table become null.
    ids = pl.Series(list(parts), dtype=pl.String).cast(frame["item"].dtype, strict=False)
    if ids.null_count() == len(ids):
        return frame
    place = frame["item"].replace_strict(ids, range(len(ids)), default=None, return_dtype=pl.UInt32)
    text = pl.Series("text", [join_terms(one) for one in parts.values()], dtype=pl.Categorical)
    return frame.with_columns(text.gather(place))


def csv_columns(path: Path, items: tuple[str, ...], words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield two columns of a file without the rows that are cut short; nothing if the file or a column is missing."""
    rows = csv.reader(io.StringIO(_text(path), newline=""))
    header = [name.strip().lower() for name in next(rows, [])]
    item, word = (next((place for place, name in enumerate(header) if name in usual), -1) for usual in (items, words))
    if item >= 0 and word >= 0:
        yield from ((row[item], row[word]) for row in rows if len(row) == len(header))


def lines(path: Path) -> list[str]:
    """Return the lines of a file that are not blank, without their ends; none if there is no such file."""
    # Not splitlines, which would split a title in latin-1 at \x85.
    return [line for line in _text(path).replace("\r\n", "\n").split("\n") if line.strip()]


def _text(path: Path) -> str:
    """Return the text of a file, UTF-8 or else latin-1; empty if there is no such file."""
    data = path.read_bytes() if path.is_file() else b""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")

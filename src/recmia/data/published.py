"""Data sets by name besides MovieLens, each from its files as the publisher ships them.

A data set is one entry in `PUBLISHED`, or in the family that `_amazon` makes: the names of its file of interactions,
the first line of that file, and one function that reads it. Only what is a rating becomes one: a count, hours or the
kind of an event is left out, and a note says so.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from types import MappingProxyType

import polars as pl

from recmia.data.histories import Histories, read_histories, typed_histories
from recmia.data.places import ENVIRONMENT, Archive, Found, find
from recmia.data.tables import Layout, Rows, open_table
from recmia.data.terms import csv_columns, lines, with_terms
from recmia.errors import DataError, nearest
from recmia.settings.data import Columns

_KAGGLE = "https://www.kaggle.com/datasets/"
_AMAZON = "amazon-"
_AMAZON_HEADER = "user_id,parent_asin,rating,timestamp"
_AMAZON_URL = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/benchmark/5core/rating_only/"
_AMAZON_PAGE = "https://amazon-reviews-2023.github.io"
_CATEGORIES = (
    "All_Beauty", "Amazon_Fashion", "Appliances", "Arts_Crafts_and_Sewing", "Automotive", "Baby_Products",
    "Beauty_and_Personal_Care", "Books", "CDs_and_Vinyl", "Cell_Phones_and_Accessories", "Clothing_Shoes_and_Jewelry",
    "Digital_Music", "Electronics", "Gift_Cards", "Grocery_and_Gourmet_Food", "Handmade_Products",
    "Health_and_Household", "Health_and_Personal_Care", "Home_and_Kitchen", "Industrial_and_Scientific", "Kindle_Store",
    "Magazine_Subscriptions", "Movies_and_TV", "Musical_Instruments", "Office_Products", "Patio_Lawn_and_Garden",
    "Pet_Supplies", "Software", "Sports_and_Outdoors", "Subscription_Boxes", "Tools_and_Home_Improvement",
    "Toys_and_Games", "Video_Games", "Unknown",
)  # fmt: skip
_SHOPPING = ("view", "addtocart", "transaction")
# The ids of Amazon's products; its users have longer ones.
_ASIN = 10
# Enough lines to tell users from products, and no more of each than a first line of interest has.
_LINES, _LINE_BYTES = 1_000, 1_000


@dataclass(frozen=True)
class _Published:
    """A published data set.

    Parameters
    ----------
    name : str
    files : tuple of str
        Patterns of the name of its file of interactions, in lower case.
    first : str
        Regular expression of that file's first line, by which the layout is known.
    read : function
        From that file to a table.
    get : str
        What to get, and where; for the error if it is not found.
    folder : str
        Name of the publisher's folder, in which its files may lie instead of in one of its own name.
    archive : Archive, optional
        What can be downloaded without a login, from an address that stays.
    """

    name: str
    files: tuple[str, ...]
    first: str
    read: Callable[[Path], Histories]
    get: str
    folder: str
    archive: Archive | None = None


def is_published(name: str) -> bool:
    """Return whether a data set has a name of this module.

    Examples
    --------
    >>> [is_published(name) for name in ("steam", "amazon-video-games", "ml-1m")]
    [True, True, False]
    """
    return name in PUBLISHED or re.fullmatch(rf"{_AMAZON}[\w-]+", name) is not None


def find_published(name: str, base_url: str = "") -> Found:
    """Return a data set from where it lies, or else from its publisher.

    Parameters
    ----------
    name : str
        A key of `PUBLISHED`, or ``amazon-CATEGORY``.
    base_url : str
        Address of the archives; empty means the publisher's own.

    Returns
    -------
    Found
        Rows are those of the file, in their order, with repeats.

    Raises
    ------
    DataError
        If it is nowhere to be found, and then the message says what to get; or if it cannot be used as it stands.
    """
    published = PUBLISHED[name] if name in PUBLISHED else _amazon(name.removeprefix(_AMAZON))
    archive = published.archive
    if archive is not None and base_url:
        archive = replace(archive, url=base_url + archive.url.rpartition("/")[2])
    found, tried = find(name, partial(_file, published), partial(_read, published), archive)
    if found is None:
        raise DataError(
            f"{name} was not found: {'; '.join(tried)}; {published.get}; put it in the folder {published.name} "
            f"of ${ENVIRONMENT}, or give the path of its folder, such as ./{name}"
        )
    return found


def read_published_folder(folder: Path) -> Histories | None:
    r"""Return the data set whose files a folder holds, with a note as what it was taken; None if it holds none.

    Raises
    ------
    DataError
        If it holds several, or one that cannot be used as it stands.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "user_artists.dat"
    ...     _ = path.write_text("userID\tartistID\tweight\n2\t51\t13883\n")
    ...     read_published_folder(Path(folder)).frame.rows()
    [(2, 51)]
    """
    found = [(one, file) for one in (*PUBLISHED.values(), _amazon("*")) for file in _fitting(one, folder)]
    if not found:
        return None
    published, file = _only(folder, found)
    read = _read(published, file)
    taken = f"the folder was taken as {published.name}, for its file {file.name}"
    return replace(read, notes=(taken, *read.notes))


def _file(published: _Published, place: Path) -> Path | None:
    """Return the file of interactions in one of the places, None if it is not there."""
    for folder in (place / published.name, place / published.folder):
        named = _named(published, folder)
        if named:
            fitting = _fitting(published, folder) or named[:1]
            return _only(folder, [(published, file) for file in fitting])[1]
    return None


def _read(published: _Published, file: Path) -> Histories:
    first = "".join(_head(file, 1))
    if not re.fullmatch(published.first, first):
        raise DataError(
            f"{file} is not laid out as {published.name} is published: its first line is {first[:100]!r}; "
            f"{published.get}, or give the path of the file and name its columns"
        )
    return published.read(file)


def _named(published: _Published, folder: Path) -> list[Path]:
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [
        file for file in files if file.is_file() and any(fnmatchcase(file.name.lower(), one) for one in published.files)
    ]


def _fitting(published: _Published, folder: Path) -> list[Path]:
    return [file for file in _named(published, folder) if re.fullmatch(published.first, "".join(_head(file, 1)))]


def _only(folder: Path, found: Sequence[tuple[_Published, Path]]) -> tuple[_Published, Path]:
    if len(found) > 1:
        names = ", ".join(f"{file.name} ({published.name})" for published, file in found)
        raise DataError(f"{folder} holds more than one file of interactions: {names}; leave only one of them there")
    return found[0]


def _head(file: Path, count: int) -> list[str]:
    """Return the first lines of a file, which may be packed; fewer if it ends or breaks off."""
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
        head: list[str] = []
        try:
            while len(head) < count and (line := opened.readline(_LINE_BYTES)):
                head.append(line.decode("utf-8-sig", errors="replace").rstrip("\r\n"))
        except (OSError, EOFError, zlib.error):
            # What is broken is told by whoever reads all of it.
            pass
    return head


def _read_lastfm(file: Path) -> Histories:
    read = read_histories(file, Columns(item="artistID"), separator="\t")
    counts = "each artist that a user listened to is one interaction; how often is a count, no rating, and left out"
    return replace(read, frame=with_terms(read.frame, _lastfm_tags(file.parent))).noting(counts)


def _lastfm_tags(folder: Path) -> Iterator[tuple[str, str]]:
    tags = dict(line.partition("\t")[::2] for line in lines(folder / "tags.dat"))
    for line in lines(folder / "user_taggedartists-timestamps.dat"):
        _, artist, tag, *_ = (*line.split("\t"), "", "")
        if tag in tags:
            yield artist, tags[tag]


def _read_goodbooks(file: Path) -> Histories:
    read = read_histories(file, Columns(item="book_id"))
    if _head(file, 1)[0].startswith("user_id"):
        # Those of the first edition are sorted by book.
        read = replace(read, frame=read.frame.with_row_index("position", 1).cast({"position": pl.Int64})).noting(
            "the file holds no times; its publisher says that the rows are sorted by time, so that they are positions"
        )
    return replace(read, frame=with_terms(read.frame, _shelves(file.parent)))


def _shelves(folder: Path) -> Iterator[tuple[str, str]]:
    shelves = dict(csv_columns(folder / "tags.csv", ("tag_id",), ("tag_name",)))
    books = folder / "books.csv"
    ids = dict(csv_columns(books, ("goodreads_book_id",), ("book_id",)))
    if not ids:
        # The first edition calls the two ids otherwise.
        ids = dict(csv_columns(books, ("book_id",), ("id",)))
    for book, shelf in csv_columns(folder / "book_tags.csv", ("goodreads_book_id",), ("tag_id",)):
        if book in ids and shelf in shelves:
            yield ids[book], shelves[shelf]


def _read_steam(file: Path) -> Histories:
    read, kinds = _events(file, ("purchase", "play"), header=("user", "item", "kind", "hours", "zero"))
    bought = kinds == "purchase"
    played = f"what a user bought is an interaction; {(~bought).sum():,} rows of hours played, no ratings, are left out"
    return replace(read, frame=read.frame.filter(bought)).noting(played)


def _read_retailrocket(file: Path) -> Histories:
    named = {"user": "visitorid", "item": "itemid", "time": "timestamp", "kind": "event"}
    read, kinds = _events(file, _SHOPPING, named=named)
    counts = ", ".join(f"{kind} {(kinds == kind).sum():,}" for kind in _SHOPPING)
    every = f"events of every kind are interactions, without ratings: {counts}"
    return read.noting(every)


def _events(
    file: Path, kinds: Sequence[str], *, named: Mapping[str, str] | None = None, header: Sequence[str] | None = None
) -> tuple[Histories, pl.Series]:
    """Return histories and the kind of each event, which must be one of some."""
    named = {"user": "user", "item": "item", "kind": "kind"} if named is None else named
    table = open_table(file, Layout("events", tuple(named), required=tuple(named)), named=named, header=header)
    rows = table.rows()
    kind = rows.frame["kind"]
    rows.refuse(~kind.is_in(kinds).fill_null(False), f"is of a kind other than {', '.join(kinds)}", "kind")
    read = typed_histories(str(file), rows.frame)
    columns = {role: table.found[role] for role in read.columns}
    return replace(read, notes=(*table.notes, *read.notes), columns=columns), kind


def _read_book_crossing(file: Path) -> Histories:
    """Read line by line: an ISBN may hold separators, and quotes that no reader of CSV takes."""
    first, *rest = lines(file)
    mark = ";" if ";" in first else ","
    pattern = rf'^"?([^{mark}"]*)"?{mark}"?(.*?)"?{mark}"?([^{mark}"]*)"?$'
    line = pl.Series("line", rest, dtype=pl.String)
    frame = line.str.extract_groups(pattern).struct.rename_fields(["user", "item", "rated"]).struct.unnest()
    rated = frame["rated"].cast(pl.Int64, strict=False)
    bad = ~rated.is_between(0, 10).fill_null(False)
    Rows(file, line.to_frame()).refuse(bad, "is not a user, an ISBN and a rating from 0 to 10", "line")
    read = replace(typed_histories(str(file), frame), columns={"user": "User-ID", "item": "ISBN"})
    zeros = (
        f"{(rated == 0).sum():,} of {len(rated):,} rows have the rating 0, which means that there is none; every row "
        "is an interaction, and ratings are left out"
    )
    return read.noting(zeros)


def _read_amazon(file: Path) -> Histories:
    first, *_ = head = _head(file, _LINES)
    if first == _AMAZON_HEADER:
        return read_histories(file, Columns(item="parent_asin")).noting("laid out as in 2023")
    rows = [row for row in (line.split(",") for line in head) if len(row) > 1]
    left, right = (sum(len(row[place]) == _ASIN for row in rows) / len(rows) for place in (0, 1))
    if not min(left, right) < 0.5 < 0.9 < max(left, right):
        raise DataError(
            f"{file}: products have ids of {_ASIN} characters, and users longer ones; of the first {len(rows):,} rows "
            f"{left:.0%} have such an id in the first column and {right:.0%} in the second, so that it cannot be told "
            "which is which; add a first line such as user,item,rating,timestamp and give the path of the file"
        )
    columns = ("user", "item") if right > left else ("item", "user")
    read = read_histories(file, header=(*columns, "rating", "time"))
    edition = "2014" if right > left else "2018"
    layout = f"laid out as in {edition}, told by the ids: {', '.join((*columns, 'rating', 'time'))}"
    return read.noting(layout)


def _amazon(category: str) -> _Published:
    """Return the entry of a category; of any category if it is ``*``."""
    category = category.lower().replace("_", "-")
    known = {name.lower().replace("_", "-"): name for name in _CATEGORIES}
    file = category.replace("-", "_")
    archive, get = None, f"no category of 2023 has this name; {nearest(category, known)}; see {_AMAZON_PAGE}"
    if category in known:
        packed = f"{known[category]}.csv.gz"
        archive = Archive(f"{_AMAZON_URL}{packed}", packed, "the McAuley Lab", f"{_AMAZON}{category}")
        get = f"get {packed}, 5-core and ratings only, from {_AMAZON_PAGE}"
    return _Published(
        f"{_AMAZON}{category}",
        tuple(f"{before}{file}.csv{after}" for before in ("", "ratings_") for after in ("", ".gz")),
        rf"{_AMAZON_HEADER}|(A\w{{8,}},\w{{10}}|\w{{10}},A\w{{8,}}),[1-5](\.0)?,\d+",
        _read_amazon,
        get,
        "amazon",
        archive,
    )


PUBLISHED: Mapping[str, _Published] = MappingProxyType(
    {
        one.name: one
        for one in (
            _Published(
                "lastfm-2k",
                ("user_artists.dat",),
                "userID\tartistID\tweight",
                _read_lastfm,
                "get hetrec2011-lastfm-2k.zip from https://grouplens.org/datasets/hetrec-2011/",
                "hetrec2011-lastfm-2k",
                Archive(
                    "https://files.grouplens.org/datasets/hetrec2011/hetrec2011-lastfm-2k.zip",
                    "user_artists.dat",
                    "GroupLens",
                    "lastfm-2k",
                    (92_834, 1_892),
                ),
            ),
            _Published(
                "steam",
                ("steam-200k.csv",),
                r"\d+,.+,(purchase|play),[\d.]+,0",
                _read_steam,
                f"get steam-200k.csv from {_KAGGLE}tamber/steam-video-games (the collections of Steam at UCSD are no "
                "tables, and are not read)",
                "steam-video-games",
            ),
            _Published(
                "retailrocket",
                ("events.csv",),
                "timestamp,visitorid,event,itemid,transactionid",
                _read_retailrocket,
                f"get events.csv from {_KAGGLE}retailrocket/ecommerce-dataset",
                "ecommerce-dataset",
            ),
            _Published(
                "book-crossing",
                ("bx-book-ratings.csv", "ratings.csv"),
                r'"?User-ID"?([;,])"?ISBN"?\1"?Book-Rating"?',
                _read_book_crossing,
                f"get Ratings.csv from {_KAGGLE}arashnic/book-recommendation-dataset, or BX-Book-Ratings.csv of the "
                "original BX-CSV-Dump.zip, whose page is gone",
                "BX-CSV-Dump",
            ),
            _Published(
                "goodbooks-10k",
                ("ratings.csv",),
                "user_id,book_id,rating|book_id,user_id,rating",
                _read_goodbooks,
                "get goodbooks-10k.zip from https://github.com/zygmuntz/goodbooks-10k/releases",
                "goodbooks-10k-master",
                Archive(
                    "https://github.com/zygmuntz/goodbooks-10k/releases/download/v1.0/goodbooks-10k.zip",
                    "ratings.csv",
                    "GitHub",
                    "goodbooks-10k",
                    (5_976_479, 53_424),
                ),
            ),
        )
    }
)  # fmt: skip

"""Where data sets with a name are looked for, and the download of their archives."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from recmia.atomic import reason
from recmia.data.histories import Histories
from recmia.errors import DataError

CONNECT_SECONDS = 8.0
ENVIRONMENT = "RECMIA_DATA"


class Found(NamedTuple):
    """Histories, and where they were found."""

    histories: Histories
    source: str


@dataclass(frozen=True)
class Archive:
    """What a publisher lets anyone download.

    Parameters
    ----------
    url : str
        Of a zip file, or of the file of interactions itself.
    file : str
        The file of interactions in the zip file; the name of the file itself.
    publisher : str
        For the report.
    folder : str
        The folder of the cache that receives what is downloaded.
    counts : tuple of int, optional
        How many interactions and users the publisher says there are; checked unless a checksum is published.

    Examples
    --------
    >>> Archive("https://example.org/ml-1m.zip", "ml-1m/ratings.dat", "GroupLens", "ml-1m").counts is None
    True
    """

    url: str
    file: str
    publisher: str
    folder: str
    counts: tuple[int, int] | None = None


def places() -> tuple[tuple[str, Path], ...]:
    """Return the folders in which data sets are looked for, in this order, and what a report calls them."""
    named = os.environ.get(ENVIRONMENT)
    own = ((f"${ENVIRONMENT}", Path(named)),) if named else ()
    return (*own, ("the cache", _cache()))


def find(
    name: str, local: Callable[[Path], Path | None], read: Callable[[Path], Histories], archive: Archive | None
) -> tuple[Found | None, tuple[str, ...]]:
    """Return a data set from the first of the `places` that has it, or else from its publisher.

    Parameters
    ----------
    name : str
    local : function
        Returns the file of interactions in one of the places, None if it is not there.
    read : function
        Reads that file.
    archive : Archive, optional
        What to download.

    Returns
    -------
    found : Found or None
    tried : tuple of str
        Where it was looked for in vain.

    Raises
    ------
    DataError
        If it is there and cannot be read.
    """
    tried: tuple[str, ...] = ()
    for label, place in places():
        file = local(place)
        if file is not None:
            return Found(read(file), f"{name} from {label}"), ()
        tried += (f"not in {label} ({place})",)
    if archive is None:
        return None, tried
    try:
        loaded = _download(archive, read)
    except DataError as error:
        return None, (*tried, str(error))
    return Found(replace(loaded, notes=(*tried, *loaded.notes)), f"{name} from {archive.publisher}"), tried


def _cache() -> Path:
    import pooch

    return Path(pooch.os_cache("recmia"))


def _download(archive: Archive, read: Callable[[Path], Histories]) -> Histories:
    """Download, verify, unpack and read an archive; the cache gets all of it or nothing."""
    import pooch
    import requests

    url, cache = archive.url, _cache()
    published = _published_md5(f"{url}.md5")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{archive.folder}-", dir=cache))
    except OSError as error:
        raise DataError(f"{url} is not downloaded: cannot write to the cache {cache}: {reason(error)}") from None
    unpacked = scratch / "unpacked"
    try:
        download = pooch.retrieve(
            url,
            known_hash=f"md5:{published}" if published else None,
            path=scratch,
            fname="download",
            downloader=pooch.HTTPDownloader(timeout=CONNECT_SECONDS),
        )
        file = unpacked / archive.file
        if url.endswith(".zip"):
            with zipfile.ZipFile(download) as packed:
                packed.extractall(unpacked)
        else:
            unpacked.mkdir()
            Path(download).rename(file)
        loaded = read(file)
        found = (loaded.frame.height, loaded.frame["user"].n_unique())
        if published is None and archive.counts is not None and archive.counts != found:
            rows, users = archive.counts
            raise DataError(f"it should hold {rows} interactions by {users} users and holds {found}")
        if not (cache / archive.folder).exists():
            file.parent.rename(cache / archive.folder)
    except (requests.RequestException, OSError, ValueError, zipfile.BadZipFile, DataError) as error:
        raise DataError(f"the download of {url} failed and nothing was cached ({_first_line(error)})") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return loaded


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
        why = type(answer[0]).__name__ if answer else f"no answer within {CONNECT_SECONDS:g} s"
        raise DataError(f"{url.rsplit('/', 1)[0]} cannot be reached ({why})")
    match = re.search(r"\b[0-9a-f]{32}\b", answer[0].text.lower()) if answer[0].ok else None
    return match.group() if match else None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]

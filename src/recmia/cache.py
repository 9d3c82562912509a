"""What was computed before: arrays by key, each entry a file."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pooch

from recmia.atomic import replaced
from recmia.errors import ConfigError


class ArrayStore(MutableMapping[str, dict[str, npt.NDArray[Any]]]):
    """Arrays by key, each entry a file; see `recmia.game.tasks.Task` for the keys.

    An entry is written aside and renamed, so a process that is killed leaves no half of one. An entry that cannot be
    read whole, or that was stored under another key, counts as missing and is removed; `damaged` tells which.

    Parameters
    ----------
    folder : Path
        Made when the first entry is written.

    Examples
    --------
    >>> import tempfile
    >>> store = ArrayStore(Path(tempfile.mkdtemp()))
    >>> store["one"] = {"lists": np.arange(3)}
    >>> store["one"]["lists"]
    array([0, 1, 2])
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged: list[str] = []

    def __getitem__(self, key: str) -> dict[str, npt.NDArray[Any]]:
        path = self._path(key)
        try:
            entry = path.read_bytes()
        except FileNotFoundError:
            raise KeyError(key) from None
        except OSError as error:
            raise ConfigError(f"cannot read the store {self.folder}: {error.strerror}; name another") from None
        try:
            with np.load(io.BytesIO(entry), allow_pickle=False) as file:
                arrays = dict(file)
            if arrays.pop("key").tolist() != [key, *arrays]:
                raise ValueError("stored under another key, or not all of it is there")
        # A wrong byte can make numpy and zipfile raise nearly anything.
        except Exception:
            self.damaged.append(key)
            path.unlink(missing_ok=True)
            raise KeyError(key) from None
        return arrays

    def __setitem__(self, key: str, arrays: dict[str, npt.NDArray[Any]]) -> None:
        try:
            with replaced(self._path(key)) as scratch:
                np.savez(scratch, **{"key": np.array([key, *arrays]), **arrays})  # type: ignore[arg-type]
        except OSError as error:
            raise ConfigError(f"cannot write to the store {self.folder}: {error.strerror}; name another") from None

    def __delitem__(self, key: str) -> None:
        try:
            self._path(key).unlink()
        except FileNotFoundError:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[str]:
        return (path.stem for path in sorted(self.folder.glob("*/*.npz")) if not path.name.startswith("."))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"


def default_store() -> ArrayStore:
    """Return the store in the user's cache."""
    return ArrayStore(Path(pooch.os_cache("recmia")) / "lists")


def remove(folder: Path) -> None:
    """Remove a store, if it was ever made."""
    shutil.rmtree(folder, ignore_errors=True)

"""What was computed before: arrays by key, each entry a file."""

from __future__ import annotations

import math
import os
import struct
import time
import zipfile
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from recmia.atomic import reason, replaced
from recmia.errors import ConfigError

# The limit of stores, as `parse_size` reads it, and what it is unless that is set.
LIMIT_VARIABLE = "RECMIA_STORE_LIMIT"
DEFAULT_LIMIT = 10 * 2**30
# Arrays of fewer bytes are read: a map of them saves next to nothing, and takes a descriptor.
_MAPPED_FROM = 2**20
# Room is made without being asked for only among entries that nobody used for so long, in seconds: a run in another
# process may be about to read the others.
_IDLE = 3600
_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
# Vector instructions, and numba's compiled code, want an array to start at a multiple of its items.
_ALIGNED = 64
# In a zip file: the length of a member's header without names; what zipfile adds to it for the sizes of large members;
# and the kind of field that is mere padding.
_HEADER, _LARGE_SIZES, _PADDING = 30, 20, 0xD935


class ArrayStore(MutableMapping[str, dict[str, npt.NDArray[Any]]]):
    """Arrays by key, each entry a file; see `recmia.game.tasks.Task` for the keys.

    An entry is written aside and renamed, so a process that is killed leaves no half of one. An entry that cannot be
    read whole, or that was stored under another key, counts as missing and is removed; `damaged` tells which.

    Arrays of 1 MiB or more come back as read-only maps of the file (`numpy.memmap`), so processes share one copy, which
    the system can drop and read again. Their checksum is compared when this store opens the file for the first time,
    and again if it changed. A map stays whole if the entry is removed or replaced. Where many files are open already,
    and on Windows, they are read like all others.

    When the entries take more than `limit`, those that were not used for the longest are removed. What this store read
    or wrote stays, and what anybody used within the last hour; so the limit can be exceeded.

    Parameters
    ----------
    folder : Path
        Made when the first entry is written.
    limit : int, optional
        In bytes; else that of the environment variable ``RECMIA_STORE_LIMIT``, such as ``50GiB``, else 10 GiB.
    required : bool
        Whether it is an error if the folder cannot be read or written. Else what cannot be written is kept in memory,
        for this store alone, and `refused` tells why.

    Raises
    ------
    ConfigError
        If the environment variable holds no size.

    Examples
    --------
    >>> import tempfile
    >>> store = ArrayStore(Path(tempfile.mkdtemp()))
    >>> store["one"] = {"lists": np.arange(3)}
    >>> store["one"]["lists"]
    array([0, 1, 2])
    """

    def __init__(self, folder: Path, limit: int | None = None, *, required: bool = True) -> None:
        self.folder = folder
        self.limit = _limit() if limit is None else limit
        self.required = required
        self.damaged: list[str] = []
        self.refused = ""
        self._in_memory: dict[str, dict[str, npt.NDArray[Any]]] = {}
        self._used: set[str] = set()
        self._checked: dict[str, tuple[int, ...]] = {}
        # Bytes that may be written before the sizes of all entries are looked at again.
        self._room = 0

    def __getitem__(self, key: str) -> dict[str, npt.NDArray[Any]]:
        if key in self._in_memory:
            return self._in_memory[key]
        path = self._path(key)
        try:
            file = path.open("rb")
        except FileNotFoundError:
            raise KeyError(key) from None
        except OSError as error:
            self._refuse("read", error)
            raise KeyError(key) from None
        with file:
            try:
                arrays = _read(file, check=self._checked.get(key) != _state(file))
                if arrays.pop("key").tolist() != [key, *arrays]:
                    raise ValueError("stored under another key, or not all of it is there")
            # A wrong byte can make numpy and zipfile raise nearly anything.
            except Exception:
                self.damaged.append(key)
                # In a store that cannot be written to, it stays.
                with suppress(OSError):
                    path.unlink()
                raise KeyError(key) from None
            self._checked[key] = _state(file)
            # Systems need not note by themselves when a file was read. A store can be read that cannot be written to.
            with suppress(OSError):
                os.utime(path, ns=(time.time_ns(), os.fstat(file.fileno()).st_mtime_ns))
        self._used.add(key)
        return arrays

    def __setitem__(self, key: str, arrays: dict[str, npt.NDArray[Any]]) -> None:
        try:
            with replaced(self._path(key)) as scratch:
                _write(scratch, {"key": np.array([key, *arrays]), **arrays})
                written = scratch.tell()
        except OSError as error:
            self._refuse("write to", error)
            self._in_memory[key] = arrays
            return
        self._used.add(key)
        self._room -= written
        if self._room < 0:
            # More than is needed: looking at all entries takes time.
            reserve = self.limit // 10
            kept = sum(entry.size for entry in self.entries())
            if kept > self.limit:
                kept -= self.prune(self.limit - reserve, idle=_IDLE)
            self._room = max(self.limit - kept, reserve)

    def __delitem__(self, key: str) -> None:
        if self._in_memory.pop(key, None) is not None:
            return
        try:
            self._path(key).unlink()
        except FileNotFoundError:
            raise KeyError(key) from None
        except OSError as error:
            self._refuse("write to", error)

    def __iter__(self) -> Iterator[str]:
        yield from self._in_memory
        for path in sorted(self.folder.glob("*/*.npz")):
            if not path.name.startswith(".") and path.stem not in self._in_memory:
                yield path.stem

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def entries(self) -> list[Entry]:
        """Return the files of the store, of any version, the one that was not used for the longest first."""
        found = []
        for path in self.folder.glob("*/*"):
            # Another process may remove it meanwhile, or another user hide it.
            with suppress(OSError):
                about = path.stat()
                found.append(Entry(max(about.st_atime, about.st_mtime), path, about.st_size))
        return sorted(found)

    def prune(self, size: int, *, idle: float = 0) -> int:
        """Remove what was not used for the longest, until the rest takes at most `size` bytes.

        Parameters
        ----------
        size : int
        idle : float
            What was used within so many seconds stays, as does what this store read or wrote.

        Returns
        -------
        int
            Bytes that were removed.
        """
        entries, freed, now = self.entries(), 0, time.time()
        excess = sum(entry.size for entry in entries) - size
        for entry in entries:
            if freed >= excess:
                break
            # What is being written has a name that starts with a dot.
            spared = max(idle, _IDLE) if entry.path.name.startswith(".") else idle
            if entry.path.stem in self._used or now - entry.used < spared:
                continue
            with suppress(OSError):
                entry.path.unlink()
                freed += entry.size
        return freed

    def _refuse(self, use: str, error: OSError) -> None:
        """Raise, or remember, that the system let nobody use the folder."""
        if self.required:
            raise ConfigError(f"cannot {use} the store {self.folder}: {reason(error)}; name another") from None
        self.refused = reason(error)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"


class Entry(NamedTuple):
    """A file of a store: when it was used last (seconds, as `time.time`), where it is, and its bytes."""

    used: float
    path: Path
    size: int


def default_store() -> ArrayStore:
    """Return the store in the user's cache, which may be missing: nobody asked for it."""
    # Here, because it brings tqdm, which warns in a notebook.
    import pooch

    return ArrayStore(Path(pooch.os_cache("recmia")) / "lists", required=False)


def remove(folder: Path) -> None:
    """Remove a store, if it was ever made; what else lies in its folder stays."""
    for path in folder.glob("*/*.npz*"):
        path.unlink(missing_ok=True)
    for place in (*folder.glob("*"), folder):
        with suppress(OSError):
            place.rmdir()


def parse_size(text: str) -> int:
    """Return the bytes that a size such as ``10GiB`` names.

    Raises
    ------
    ConfigError
        If it is not a number with KiB, MiB, GiB or TiB.

    Examples
    --------
    >>> parse_size("1.5 KiB")
    1536
    """
    number, unit = text.strip()[:-3], text.strip()[-3:]
    with suppress(ValueError, OverflowError, KeyError):
        size = int(float(number) * _UNITS[unit])
        if size >= 0:
            return size
    raise ConfigError(f"a size must be a number with {', '.join(_UNITS)}, such as 10GiB; got {text!r}")


def show_size(size: int) -> str:
    """Return bytes in words.

    Examples
    --------
    >>> show_size(10 * 2**30), show_size(2**20)
    ('10.0 GiB', '1.0 MiB')
    """
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"


def array_at(
    file: IO[bytes], dtype: npt.DTypeLike, offset: int, shape: tuple[int, ...], order: Literal["C", "F"]
) -> npt.NDArray[Any]:
    """Return an array that starts at byte `offset` of an open file: a read-only map, or a copy where that cannot be.

    Raises
    ------
    ValueError
        If the file ends before the array.
    """
    if _may_stay_open(file):
        return np.memmap(file, dtype, "r", offset, shape, order)
    file.seek(offset)
    return np.fromfile(file, dtype, math.prod(shape)).reshape(shape, order=order)


def _may_stay_open(file: IO[bytes]) -> bool:
    """Whether a map of the file may keep it open: processes may have so many files, and descriptors count them."""
    try:
        import resource
    except ImportError:
        # Windows lets nobody replace a file that is mapped.
        return False
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most == resource.RLIM_INFINITY or file.fileno() < most // 2


def _limit() -> int:
    text = os.environ.get(LIMIT_VARIABLE)
    try:
        return parse_size(text) if text else DEFAULT_LIMIT
    except ConfigError as error:
        raise ConfigError(f"${LIMIT_VARIABLE}: {error}") from None


def _state(file: IO[bytes]) -> tuple[int, ...]:
    """Return what changes when a file does."""
    about = os.fstat(file.fileno())
    return about.st_ino, about.st_size, about.st_mtime_ns


def _write(file: IO[bytes], arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Write arrays as `numpy.savez` does, but each at a place in the file from which it can be mapped."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            start = file.tell() + _HEADER + len(member.filename.encode()) + _LARGE_SIZES + 4
            padding = -start % _ALIGNED
            member.extra = struct.pack("<HH", _PADDING, padding) + bytes(padding)
            with archive.open(member, "w", force_zip64=True) as to:
                np.lib.format.write_array(to, np.asanyarray(array), allow_pickle=False)


def _read(file: IO[bytes], *, check: bool) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an open file; without `check`, those that are mapped are not read."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        return {one.filename.removesuffix(".npy"): _read_member(file, archive, one, check=check) for one in members}


def _read_member(file: IO[bytes], archive: zipfile.ZipFile, about: zipfile.ZipInfo, *, check: bool) -> npt.NDArray[Any]:
    if about.file_size >= _MAPPED_FROM and about.compress_type == zipfile.ZIP_STORED:
        with archive.open(about) as member:
            version = np.lib.format.read_magic(member)
            if version == (1, 0):
                shape, columns_first, dtype = np.lib.format.read_array_header_1_0(member)
                header = member.tell()
                if header + math.prod(shape) * dtype.itemsize != about.file_size:
                    raise ValueError("the array is shorter or longer than the file says")
                # The checksum is compared when the last byte is read.
                while check and member.read(_MAPPED_FROM):
                    pass
                offset = _start(file, about) + header
                if offset % dtype.alignment == 0 and not dtype.hasobject:
                    return array_at(file, dtype, offset, shape, "F" if columns_first else "C")
    with archive.open(about) as member:
        array: npt.NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):
            raise ValueError("there is more than the array")
        return array


def _start(file: IO[bytes], about: zipfile.ZipInfo) -> int:
    """Return the place of the first byte of a member, behind its name and further fields."""
    file.seek(about.header_offset + 26)
    name, fields = struct.unpack("<HH", file.read(4))
    return about.header_offset + _HEADER + int(name) + int(fields)

"""Files and folders that are written whole or not at all: aside first, then renamed."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from recmia.errors import ConfigError, RecmiaError


def check_new(path: Path, kind: str = "folder") -> None:
    """Refuse a folder or file that exists.

    Raises
    ------
    ConfigError
    """
    if path.exists():
        raise ConfigError(f"the output {kind} {path} exists; name a new one or remove it")


def check_file(path: Path) -> None:
    """Refuse a file that cannot be written, before the work that it is for; it may exist.

    Raises
    ------
    ConfigError
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ConfigError(f"cannot write {path}: it must be a file in a folder that exists")
    if _special(path):
        return
    with refusals(f"write {path}"):
        tempfile.TemporaryFile(dir=path.absolute().parent).close()


def reason(error: Exception) -> str:
    """Return why the system refused something, in its words; nothing if the error means something else.

    Examples
    --------
    >>> reason(FileNotFoundError(2, "No such file or directory", "log.csv")), reason(KeyError("log"))
    ('No such file or directory', '')
    """
    if isinstance(error, OSError):
        return error.strerror or str(error)
    # Libraries that are written in Rust have errors of their own for it.
    number = re.search(r"\(os error (\d+)\)", str(error))
    return os.strerror(int(number.group(1))) if number else ""


@contextmanager
def refusals(doing: str) -> Iterator[None]:
    """Raise what the system refuses in a block as `ConfigError`, which says what was being done: ``"write x.csv"``."""
    try:
        yield
    except RecmiaError:
        raise
    except Exception as error:
        if why := reason(error):
            raise ConfigError(f"cannot {doing}: {why}") from None
        raise


@contextmanager
def reserved(path: Path, kind: str = "folder") -> Iterator[None]:
    """Keep the name of a new folder or file for a block, so that long work ends with a place to write to.

    A hidden file beside it is locked meanwhile. It stays if the process is killed, and the next block takes it over.

    Raises
    ------
    ConfigError
        If `path` exists, cannot be made, or is kept by another process.
    """
    check_new(path, kind)
    lock = path.with_name(f".{path.name}.lock")
    with ExitStack() as left:
        with refusals(f"make the output {kind} {path}"):
            for parent in reversed([parent for parent in path.parents if not parent.exists()]):
                parent.mkdir(exist_ok=True)
                left.callback(_remove_empty, parent)
            file = left.enter_context(lock.open("a"))
        if not _locked(file):
            raise ConfigError(f"another run is about to write the output {kind} {path}; name a new one")
        left.callback(lock.unlink, missing_ok=True)
        # It may have been written since.
        check_new(path, kind)
        yield


def _locked(file: IO[str]) -> bool:
    """Lock a file until it is closed; False if somebody else did.

    Not every system and file system knows locks. A name that two runs want is then found when the second is written.
    """
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        pass
    return True


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a scratch folder beside `folder` that takes its name when the block ends well, and else disappears.

    Raises
    ------
    ConfigError
        If `folder` exists or cannot be made, or not all of it can be written.
    """
    check_new(folder)
    with refusals(f"make the output folder {folder}"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with refusals(f"write the output folder {folder}"):
            scratch.chmod(0o755)
            yield scratch
            scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """Give a file to write to that takes the place of `path` when the block ends well, and else disappears.

    Raises
    ------
    OSError
        If the folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as scratch:
        try:
            yield scratch
            scratch.close()
            Path(scratch.name).replace(path)
        except BaseException:
            Path(scratch.name).unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str, *, new: bool = False) -> None:
    """Write a text file, all of it or nothing; what is no file, such as ``/dev/stdout``, is written to as it is.

    Parameters
    ----------
    path : Path
    text : str
    new : bool
        Refuse a file that exists, instead of replacing it.

    Raises
    ------
    ConfigError
        If it exists and must not, or cannot be written.
    """
    if new:
        check_new(path, "file")
    with refusals(f"write {path}"):
        if _special(path):
            path.write_text(text, encoding="utf-8")
            return
        with replaced(path) as file:
            file.write(text.encode())
            Path(file.name).chmod(0o644)


def _special(path: Path) -> bool:
    """Whether a path is a device, a pipe or the like, which no file may take the place of."""
    return path.exists() and not path.is_file() and not path.is_dir()

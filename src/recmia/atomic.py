"""Files and folders that are written whole or not at all: aside first, then renamed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from recmia.errors import ConfigError


def check_new(path: Path, kind: str = "folder") -> None:
    """Refuse a folder or file that exists.

    Raises
    ------
    ConfigError
    """
    if path.exists():
        raise ConfigError(f"the output {kind} {path} exists; name a new one or remove it")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a scratch folder beside `folder` that takes its name when the block ends well, and else disappears.

    Raises
    ------
    ConfigError
        If `folder` exists or cannot be made.
    """
    check_new(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise ConfigError(f"cannot make the output folder {folder}: {error.strerror}") from None
    try:
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
    """Write a text file, all of it or nothing.

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
    try:
        with replaced(path) as file:
            file.write(text.encode())
            Path(file.name).chmod(0o644)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None

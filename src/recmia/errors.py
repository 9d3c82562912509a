"""Everything that recmia raises on purpose.

Each message says what went wrong, where, what was found, what is allowed and how to mend it. The command line
prints only the message and ends with exit code 2. Errors that mean a bad value are also `ValueError`.
"""

from __future__ import annotations

import difflib
import importlib
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType


class RecmiaError(Exception):
    """Base class of the errors below."""


class ConfigError(RecmiaError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""


class DataError(RecmiaError, ValueError):
    """The data cannot be found, read or used as they are."""


class ProtocolError(RecmiaError, ValueError):
    """An object broke the contract of its interface, or sides that must be disjoint are not."""


class NotFittedError(RecmiaError):
    """A recommender or an attack was used before it was fitted."""


class DivergedError(RecmiaError):
    """Training produced values that are not finite."""


class _TooFewError(RecmiaError):
    """There is not enough of something.

    Parameters
    ----------
    message : str
    estimate : int
        How much would be enough.
    """

    def __init__(self, message: str, estimate: int) -> None:
        super().__init__(message)
        self.estimate = estimate

    def __reduce__(self) -> tuple[type[_TooFewError], tuple[str, int]]:
        """Pickle with both arguments, so that the error survives a worker process."""
        return type(self), (str(self), self.estimate)


class TooFewUsersError(_TooFewError, DataError):
    """There are not enough users to play the membership game; `estimate` eligible users would be enough."""


class TooFewShadowsError(_TooFewError, ConfigError):
    """An attack needs more shadow models; `estimate` would be enough."""


class MissingExtraError(RecmiaError):
    """An optional package is needed; the message names the pip command that brings it."""


def import_extra(module: str, extra: str) -> ModuleType:
    """Import a module of an optional package.

    Parameters
    ----------
    module : str
        Its full name.
    extra : str
        The extra of recmia that brings the package.

    Raises
    ------
    MissingExtraError
        If the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise MissingExtraError(f"{package} is not installed; it comes with: {pip_command(extra)}") from error


def pip_command(extra: str) -> str:
    """Return the command that installs the packages of an extra, wherever recmia itself came from.

    It does not name recmia: a checkout or a wheel need not be on the index that pip asks, and who is may be another.

    Parameters
    ----------
    extra : str

    Examples
    --------
    >>> pip_command("implicit")
    "pip install 'implicit>=0.7.2'"
    """
    from importlib.metadata import requires

    of_extra = re.compile(rf"extra == ['\"]{re.escape(extra)}['\"]")
    packages = [line.partition(";")[0].strip() for line in requires("recmia") or () if of_extra.search(line)]
    return f"pip install {shlex.join(packages)}"


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Words for an unknown `name`: the nearest allowed name, if one is near, and all allowed names."""
    names = sorted(allowed)
    return f"{near(name, names, 0.5)} allowed: {', '.join(names)}".lstrip()


def near_file(path: Path) -> str:
    """Words for a file or folder that is not there: the nearest name in the same folder, nothing if none is near."""
    try:
        hint = near(path.name, [other.name for other in path.parent.iterdir()])
    except OSError:
        return ""
    return hint and f"; {hint}"


def near(name: str, there: Iterable[str], alike: float = 0.75) -> str:
    """Words for an unknown `name`: the nearest of those that are there, nothing if none is near.

    Examples
    --------
    >>> near("purchase.csv", ["README.md", "purchases.csv"])
    "did you mean 'purchases.csv'?"
    """
    close = difflib.get_close_matches(name, sorted(there), n=1, cutoff=alike)
    return f"did you mean {close[0]!r}?" if close else ""

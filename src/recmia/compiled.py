"""Functions that numba compiles, kept from run to run where there is a place that can be written to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numba
from numba.core.caching import FunctionCache


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator as `numba.njit` with a cache; functions are compiled anew where no folder can be written to.

    There, ``numba.njit(cache=True)`` fails, at import or at the first call.

    Parameters
    ----------
    **options
        Of `numba.njit`, without ``cache``.

    Examples
    --------
    >>> @compiled(nogil=True)
    ... def twice(value):
    ...     return 2 * value
    >>> twice(3)
    6
    """

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(**options)(function)
        # What numba raises if it finds no folder.
        with suppress(RuntimeError):
            dispatcher._cache = _Cache(function)
        return dispatcher

    return decorate


class _Cache(FunctionCache):  # type: ignore[misc]
    """The cache of numba, for as long as it can be read and written: a disk may fill up."""

    def load_overload(self, *place: Any) -> Any:
        with suppress(OSError):
            return super().load_overload(*place)
        return None

    def save_overload(self, *place: Any) -> None:
        with suppress(OSError):
            super().save_overload(*place)

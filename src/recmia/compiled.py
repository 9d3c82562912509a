"""Functions that numba compiles, kept from run to run where there is a place that can be written to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(**options: Any) -> Callable[[Function], Function]:
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

    def decorate(function: Function) -> Function:
        dispatcher: Any = numba.njit(**options)(function)
        # What numba raises if it finds no folder.
        with suppress(RuntimeError):
            dispatcher._cache = _Cache(function)  # type: ignore[no-untyped-call]
        return cast("Function", dispatcher)

    return decorate


class _Cache(FunctionCache):
    """The cache of numba, for as long as it can be read and written: a disk may fill up."""

    def load_overload(self, *place: Any) -> Any:
        with suppress(OSError):
            return super().load_overload(*place)  # type: ignore[no-untyped-call]
        return None

    def save_overload(self, *place: Any) -> None:
        with suppress(OSError):
            super().save_overload(*place)  # type: ignore[no-untyped-call]

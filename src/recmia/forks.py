"""Forks of a process in which polars has worked: the child has none of its threads, and would wait for them for ever.

Linux is where Python before 3.14 forks unless it is told otherwise, and where this can be seen.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

from recmia.errors import ConfigError

# In seconds.
_MOMENT = 0.05
_polars_has_worked = _stuck = False


def _look_at_threads() -> None:
    global _polars_has_worked
    _polars_has_worked = _threads_of_polars()
    if not _polars_has_worked and "polars" in sys.modules:
        # A thread that was started a moment ago has not yet named itself.
        time.sleep(_MOMENT)
        _polars_has_worked = _threads_of_polars()


def _threads_of_polars() -> bool:
    names = []
    for name in Path("/proc/self/task").glob("*/comm"):
        try:
            names.append(name.read_text())
        except OSError:  # It ended meanwhile.
            continue
    return any(re.match(r"polars-\d", name) for name in names)


def _remember() -> None:
    global _stuck
    _stuck = _stuck or _polars_has_worked


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_look_at_threads, after_in_child=_remember)


def check_fork() -> None:
    """Refuse to work in a fork of a process in which polars has worked, instead of hanging.

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> check_fork()
    """
    if _stuck:
        raise ConfigError(
            "this process was forked from one in which recmia or polars had worked, and would hang: the threads of "
            "polars stayed behind; start processes with multiprocessing.get_context('spawn') instead"
        )

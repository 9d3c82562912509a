"""Where a result came from: versions and resources."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("recmia", "numpy", "scipy", "numba", "scikit-learn", "polars", "joblib")


def versions() -> dict[str, str]:
    """Versions of Python, of the packages that numbers depend on, and the platform."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    # Looked up on disk.
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "platform": platform.platform(),
    }


def peak_memory() -> int:
    """The largest resident memory of a process so far, in bytes; 0 where the system does not tell.

    Of this process and, on Linux, of those that it started and that are still there: the largest of them, not their
    sum. Files that are mapped count where they are in memory, though the system can drop them.
    """
    # Not what getrusage says, where there is a choice: on Linux that counts the process that started this one, too.
    if found := list(_peaks()):
        return max(found)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _peaks() -> Iterator[int]:
    """Yield the largest resident memory of this process and of its children, in bytes, where Linux tells."""
    here = Path("/proc/self")
    processes = [here]
    # A process or thread may end meanwhile.
    with suppress(OSError):
        started = [number for task in here.glob("task/*/children") for number in task.read_text().split()]
        processes += [here.with_name(number) for number in started]
    for process in processes:
        with suppress(OSError):
            found = re.search(r"VmHWM:\s*(\d+) kB", (process / "status").read_text())
            if found is not None:
                yield int(found.group(1)) * 1024

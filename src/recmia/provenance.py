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
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else max([peak, *_peaks_of_children()]) * 1024


def _peaks_of_children() -> Iterator[int]:
    """Yield the largest resident memory of each running child process, in KiB."""
    for started_by in Path("/proc/self/task").glob("*/children"):
        # A process or thread may end meanwhile.
        with suppress(OSError):
            for child in started_by.read_text().split():
                with suppress(OSError):
                    found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{child}/status").read_text())
                    if found is not None:
                        yield int(found.group(1))

"""Where a result came from: versions and resources."""

from __future__ import annotations

import platform
import sys
from functools import cache
from importlib.metadata import version

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
    """The largest resident memory of this process so far, in bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

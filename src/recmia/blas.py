"""One thread for BLAS: a product that is split among threads has other last bits than one that is not."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from threadpoolctl import OpenBLASController, threadpool_limits

_LOCK = threading.Lock()
_blocks, _limits, _modules = 0, ExitStack(), 0


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread in a block; blocks may be nested, and entered by several threads.

    The limit belongs to the whole process: it holds until the last of the blocks ends. Only the first block has to look
    for the BLAS libraries of the process, which takes milliseconds, and blocks after an import, which may have brought
    another one.

    Examples
    --------
    >>> with one_blas_thread():
    ...     pass
    """
    global _blocks, _modules
    with _LOCK:
        if _blocks == 0 or _modules != len(sys.modules):
            _limits.enter_context(threadpool_limits(1, user_api="blas"))
            _modules = len(sys.modules)
        _blocks += 1
    try:
        yield
    finally:
        with _LOCK:
            _blocks -= 1
            if _blocks == 0:
                # From version 3.8, threadpoolctl lets only the thread that set a limit lift it.
                if hasattr(OpenBLASController, "clear_controlling_thread"):
                    OpenBLASController.clear_controlling_thread(force=True)
                _limits.close()

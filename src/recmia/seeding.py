"""Random streams by name.

No function of recmia uses a global generator. A function that needs random numbers is given a
`numpy.random.Generator`, or a seed from which it derives one by name. So a new stage never changes the random numbers
of another one.

Other people's code does use them. It is called within `seeded_globally`.
"""

from __future__ import annotations

import hashlib
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

# The global states belong to all threads of a process, so one block has them at a time. A block may hold another one.
_GLOBAL_STATES = threading.RLock()


def rng_for(seed: int, *names: str | int) -> np.random.Generator:
    """Return the generator that belongs to `seed` and a path of names.

    Parameters
    ----------
    seed : int
        Non-negative.
    *names : str or int
        For example ``rng_for(seed, "shadow", "lfm", 3)``.

    Returns
    -------
    numpy.random.Generator
        The same stream for the same arguments on every platform; streams of different paths are independent.

    Examples
    --------
    >>> rng_for(0, "split").integers(10**6, size=3).tolist()
    [189376, 947767, 326087]
    """
    path = "\x1f".join(f"{type(name).__name__}:{name}" for name in names)
    digest = hashlib.sha256(path.encode()).digest()
    words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 32, 4)]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))


@contextmanager
def seeded_globally(seed: int, *names: str | int) -> Iterator[None]:
    """Seed the global random states for a block of other people's code, and restore them at its end.

    They are those of Python's `random`, of numpy and, if it has been imported before, of PyTorch. Blocks of several
    threads run one after the other.

    Parameters
    ----------
    seed : int
        Non-negative.
    *names : str or int
        As for `rng_for`: blocks of different names draw different numbers.

    Examples
    --------
    >>> def draw():
    ...     with seeded_globally(0, "fit"):
    ...         return random.random(), float(np.random.rand())
    >>> draw() == draw()
    True
    """
    number = int(rng_for(seed, *names).integers(2**32))
    torch = sys.modules.get("torch")
    with _GLOBAL_STATES, ExitStack() as restored:
        restored.callback(random.setstate, random.getstate())
        restored.callback(np.random.set_state, np.random.get_state())
        random.seed(number)
        np.random.seed(number)
        if torch is not None:
            # To ask a GPU for its state would start it.
            gpus = torch.cuda.device_count() if torch.cuda.is_initialized() else 0
            restored.enter_context(torch.random.fork_rng(range(gpus)))
            torch.manual_seed(number)
        yield

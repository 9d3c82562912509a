"""Random streams by name.

No function of recmia uses a global generator. A function that needs random numbers is given a
`numpy.random.Generator`, or a seed from which it derives one by name. So a new stage never changes the random numbers
of another one.
"""

from __future__ import annotations

import hashlib

import numpy as np


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

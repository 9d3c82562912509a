"""What the recommenders that train with PyTorch share: the package, its device, its threads, and unseen items.

All random numbers come from a numpy generator on the CPU, so that a fit sees the same starts, orders and negatives on
every device; lists are made on the CPU, from the trained numbers alone. What a device does change is the order in which
training adds up: the numbers trained on a GPU differ from the CPU's in their last digits, and lists where items all but
tie.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.errors import ConfigError, DivergedError, MissingExtraError, nearest
from recmia.interactions import Bool, Float32, Int64, Interactions
from recmia.recommenders.simple import binary

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda"]


def pick_device(name: str) -> torch.device:
    """Return the device of a name; "auto" is the GPU if PyTorch finds one, else the CPU.

    Raises
    ------
    MissingExtraError
        Without PyTorch.
    ConfigError
        For an unknown name, or for "cuda" where PyTorch finds no GPU.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("this recommender needs PyTorch: pip install 'recmia[neural]'") from error
    if name not in get_args(Device):
        raise ConfigError(f"unknown device {name!r}; {nearest(name, get_args(Device))}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device = 'cuda', and PyTorch finds no GPU here; use 'cpu', or 'auto' for what there is")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep PyTorch to one CPU thread, because a sum that is split among threads has other last bits.

    PyTorch counts its threads for each thread that calls it: models that are fitted at the same time do not disturb
    each other, and the caller gets its own number back.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def known_pairs(interactions: Interactions) -> tuple[Bool, sparse.csr_array]:
    """Return which items are known, bool[n_items], and who has seen which of them, float32[n_users, n_known]."""
    known = interactions.item_counts() > 0
    seen = binary(interactions.csr()[:, known])
    seen.sort_indices()
    return known, seen


class UnseenItems:
    """Draws unseen items uniformly, without rejection.

    If a user has seen s_0 < s_1 < ... of m items, ``s_j - j`` unseen items lie below s_j. Unseen item number r is
    therefore ``r + #{j : s_j - j <= r}``: one binary search.

    Parameters
    ----------
    seen : csr_array, shape (n_users, m)
        Column indices sorted.

    Attributes
    ----------
    counts : int64, shape (n_users,)
        How many of the m items each user has not seen.
    """

    def __init__(self, seen: sparse.csr_array) -> None:
        n_users, m = seen.shape
        lengths = np.diff(seen.indptr).astype(np.int64)
        self.counts = m - lengths
        self._starts, self._stride = np.cumsum(lengths) - lengths, m + 1
        rank = np.arange(seen.nnz) - np.repeat(self._starts, lengths)
        self._below = np.repeat(np.arange(n_users), lengths) * self._stride + seen.indices - rank

    def draw(self, users: npt.NDArray[np.integer], rng: np.random.Generator) -> Int64:
        """Draw an item for each entry of `users`, all of whom have unseen items; int64, shape of `users`."""
        number = (rng.random(len(users)) * self.counts[users]).astype(np.int64)
        passed = np.searchsorted(self._below, users * self._stride + number, side="right") - self._starts[users]
        return number + passed


def check_finite(name: str, learning_rate: float, *arrays: Float32) -> None:
    """Refuse trained numbers that are not finite.

    Raises
    ------
    DivergedError
    """
    if not all(np.isfinite(array).all() for array in arrays):
        raise DivergedError(
            f"the training of {name} ended with numbers that are not finite at learning rate {learning_rate:g}; "
            f"lower the learning rate (try {learning_rate / 10:g}) or raise the regularisation"
        )

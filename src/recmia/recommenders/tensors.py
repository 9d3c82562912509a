"""What the recommenders that train with PyTorch share: device, threads, and the sampling of unseen items.

All random numbers come from a numpy generator on the CPU, so that a fit has the same initial values, orders and
negatives on every device. Lists are made on the CPU, from the trained numbers. A device changes the order in which sums
are computed: numbers trained on a GPU differ from the CPU's in their last digits, and so do lists where items nearly
tie.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, get_args

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.data.interactions import Bool, Float32, Int64, Interactions
from recmia.engine.matrices import binary, keep_columns
from recmia.errors import ConfigError, DivergedError, MissingExtraError, nearest, pip_command
from recmia.settings.recommenders import Device

if TYPE_CHECKING:
    import torch


def pick_device(name: str) -> torch.device:
    """Return the device with a name; "auto" is the GPU if PyTorch finds one, else the CPU.

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
        raise MissingExtraError(f"this recommender needs PyTorch: {pip_command('neural')}") from error
    if name not in get_args(Device):
        raise ConfigError(f"unknown device {name!r}; {nearest(name, get_args(Device))}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device = 'cuda', and PyTorch finds no GPU here; use 'cpu', or 'auto' for what there is")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit PyTorch to one CPU thread, because a sum that is split among threads differs in its last bits.

    PyTorch keeps the number of threads for each calling thread, so models that are fitted at the same time do not
    affect each other. The caller's number is restored at the end.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seen_pairs(interactions: Interactions) -> tuple[Bool, sparse.csr_array]:
    """Return which items have an interaction, and who has seen which of them.

    Returns
    -------
    trained_items : bool, shape (n_items,)
    seen : csr_array of float32, shape (n_users, number of these items)
        Ones; column indices sorted.
    """
    trained_items = interactions.item_counts() > 0
    return trained_items, binary(keep_columns(interactions.csr(), trained_items))


class UnseenItems:
    """Draws unseen items uniformly, without rejection.

    If a user has seen s_0 < s_1 < ... of m items, ``s_j - j`` unseen items lie below s_j. Unseen item number r is
    therefore ``r + #{j : s_j - j <= r}``, which one binary search finds.

    Parameters
    ----------
    seen : csr_array, shape (n_users, m)
        Column indices sorted.

    Attributes
    ----------
    counts : int64, shape (n_users,)
        How many of the m items each user has not seen.

    Examples
    --------
    >>> unseen = UnseenItems(sparse.csr_array(np.array([[1, 0, 1], [0, 1, 1]])))
    >>> unseen.draw(np.array([0, 1]), np.random.default_rng(0)).tolist()
    [1, 0]
    """

    def __init__(self, seen: sparse.csr_array) -> None:
        n_users, m = seen.shape
        lengths = np.diff(seen.indptr).astype(np.int64)
        self.counts = m - lengths
        self._starts, self._stride = np.cumsum(lengths) - lengths, m + 1
        rank = np.arange(seen.nnz) - np.repeat(self._starts, lengths)
        self._below = np.repeat(np.arange(n_users), lengths) * self._stride + seen.indices - rank

    def draw(self, users: npt.NDArray[np.integer], rng: np.random.Generator) -> Int64:
        """Return an unseen item for each entry of `users`, int64; all of them must have one."""
        number = (rng.random(len(users)) * self.counts[users]).astype(np.int64)
        passed = np.searchsorted(self._below, users * self._stride + number, side="right") - self._starts[users]
        return number + passed


def check_finite(name: str, learning_rate: float, *arrays: Float32) -> None:
    """Raise DivergedError if a trained number is not finite."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise DivergedError(
            f"the training of {name} ended with numbers that are not finite at learning rate {learning_rate:g}; "
            f"lower the learning rate (try {learning_rate / 10:g}) or raise the regularisation"
        )

r"""SASRec and GRU4Rec: the next item from the order of a history.

Both turn the last `window` items s_1, ..., s_n of a history into a vector h_n, and score every item by
:math:`h_n^\top e_i`, where the embeddings e_i are those of the input, too. They differ in what makes h_t of s_1, ..., s_t:

- **SASRec** (Kang and McAuley 2018, "Self-attentive sequential recommendation", ICDM): the sum of the embeddings of the
  item and of its position runs through blocks of causal self-attention and of a fully connected network, each as
  :math:`x + \mathrm{dropout}(g(\mathrm{norm}(x)))` (section III-C), and is normalised at the end.
- **GRU4Rec** (Hidasi et al. 2016, "Session-based recommendations with recurrent neural networks", ICLR): gated recurrent
  units over the embeddings, and a linear map of their state.

**Training.** A history is cut into windows from its end, such that each item but the first is predicted once, from what
stands before it in its window. Adam minimises the mean cross-entropy of the next item y,

.. math:: -\ln \frac{e^{h^\top e_y}}{e^{h^\top e_y} + w \sum_{j \in S \setminus y} e^{h^\top e_j}},

where S holds `n_negatives` items that are drawn anew in each step, and w = (m - 1) / |S| without y makes the sum that of
all m trained items on average (Jean et al. 2015, ACL, section 3). With at least m negatives, S is all items and w is 1.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy import sparse

from recmia.data.interactions import Float32, Int64, Interactions
from recmia.engine.matrices import keep_columns, row_items
from recmia.errors import ConfigError
from recmia.recommenders.base import Recommender
from recmia.recommenders.tensors import check_finite, one_thread, pick_device
from recmia.settings.recommenders import GRU4RecSettings, SASRecSettings

if TYPE_CHECKING:
    import torch

    Drop = Callable[[torch.Tensor], torch.Tensor]


class _Sequential(Recommender):
    """What SASRec and GRU4Rec share: windows, training and serving; a subclass is the network."""

    uses_order = True
    # Standard deviation of the embeddings' start.
    _start_std: float

    def __init__(self, settings: SASRecSettings | GRU4RecSettings, factors: int, device: str) -> None:
        pick_device(device)
        self.settings, self.factors, self.device = settings, factors, device

    @abstractmethod
    def _start(self, rng: np.random.Generator) -> list[Float32]:
        """Draw the network's parameters, all but the item embeddings."""

    @abstractmethod
    def _encode(self, embedded: torch.Tensor, network: list[torch.Tensor], drop: Drop) -> torch.Tensor:
        """Return h_t of embedded items, both float32[b, n, factors]; what stands behind t changes nothing."""

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Train the network; see `Recommender.fit`."""
        import torch
        from torch.nn.functional import embedding

        settings, device = self.settings, pick_device(self.device)
        trained_items = interactions.item_counts() > 0
        sequences = keep_columns(interactions.sequences(), trained_items)
        m = sequences.shape[1]
        start, length = _windows(sequences.indptr, settings.window)

        def drop(values: torch.Tensor) -> torch.Tensor:
            if not settings.dropout:
                return values
            kept = (rng.random(values.shape, np.float32) >= settings.dropout).astype(np.float32)
            return values * torch.from_numpy(kept / np.float32(1 - settings.dropout)).to(device)

        with one_thread():
            drawn = [_normal(rng, self._start_std, m, self.factors), *self._start(rng)]
            parameters = [torch.from_numpy(array).to(device).requires_grad_() for array in drawn]
            items, *network = parameters
            adam = torch.optim.Adam(parameters, lr=settings.learning_rate, fused=True)
            for _ in range(settings.epochs):
                for batch in _batches(length, settings.batch_size, rng):
                    window, real = _padded(sequences.indices, start[batch], length[batch])
                    window, real = torch.from_numpy(window).to(device), torch.from_numpy(real).to(device)
                    embedded = embedding(window, items)
                    hidden = self._encode(drop(embedded[:, :-1]), network, drop)[real]
                    sample = rng.choice(m, min(settings.n_negatives, m), replace=False)
                    sample = torch.from_numpy(sample).to(device)
                    other = embedding(sample, items)
                    same = window[:, 1:][real].unsqueeze(1) == sample
                    loss = _loss(hidden, embedded[:, 1:][real], other, same, m)
                    adam.zero_grad()
                    loss.backward()
                    adam.step()
            trained = [parameter.detach().cpu().numpy() for parameter in parameters]
        check_finite(type(self).__name__, settings.learning_rate, *trained)
        self._trained = trained
        self.trained_items = trained_items
        return self

    @property
    def item_vectors(self) -> Float32:
        """The trained e_i, float32, shape (n_items, factors); zero for items without a training interaction."""
        trained_items = self.fitted_items()
        vectors = np.zeros((len(trained_items), self.factors), np.float32)
        vectors[trained_items] = self._trained[0]
        return vectors

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Return the scores of all items after these histories; see `Recommender.scores`.

        Parameters
        ----------
        histories : csr_array of float32, shape (n, n_items)
            Each row in the order of events; all but the last `window` trained items are left out.

        Returns
        -------
        float32, shape (n, n_items)
            Zeros for a history without a trained item.
        """
        import torch

        trained_items = self.fitted_items()
        scores = np.zeros(histories.shape, np.float32)
        with one_thread(), torch.inference_mode():
            items, *network = (torch.from_numpy(array) for array in self._trained)
            # One by one: a product of matrices has other last bits where it has other rows.
            for row, history in zip(scores, row_items(keep_columns(histories, trained_items)), strict=True):
                if len(history):
                    embedded = items[history[-self.settings.window :]]
                    hidden = self._encode(embedded.unsqueeze(0), network, lambda values: values)
                    row[trained_items] = (items @ hidden[0, -1]).numpy()
        return scores


class SASRec(_Sequential):
    """Self-attention over the history, trained with PyTorch; ratings are ignored.

    Parameters
    ----------
    settings : SASRecSettings, optional
    factors : int
        Length of the embeddings, a multiple of the heads.
    device : {"auto", "cpu", "cuda"}
        Where it trains (on the CPU, in one thread); `recmia.recommenders.tensors` says what that changes.

    Raises
    ------
    MissingExtraError
        Without PyTorch.
    ConfigError
        For an unknown device, for "cuda" where PyTorch finds no GPU, or for heads that do not divide the factors.
    """

    settings: SASRecSettings
    _start_std = 0.02

    def __init__(
        self, settings: SASRecSettings | None = None, *, factors: int = 100, device: str = "auto"
    ) -> None:
        super().__init__(SASRecSettings() if settings is None else settings, factors, device)
        if factors % self.settings.heads:
            raise ConfigError(
                f"sasrec.heads must divide the factors; got {self.settings.heads} heads and {factors} factors"
            )

    def _start(self, rng: np.random.Generator) -> list[Float32]:
        f, ones, zeros = self.factors, np.ones(self.factors, np.float32), np.zeros(self.factors, np.float32)
        start = [_normal(rng, self._start_std, self.settings.window, f)]
        for _ in range(self.settings.layers):
            start += [ones, zeros, _glorot(rng, 3 * f, f), np.zeros(3 * f, np.float32), _glorot(rng, f, f), zeros]
            start += [ones, zeros, _glorot(rng, f, f), zeros, _glorot(rng, f, f), zeros]
        return [array.copy() for array in [*start, ones, zeros]]

    def _encode(self, embedded: torch.Tensor, network: list[torch.Tensor], drop: Drop) -> torch.Tensor:
        import torch
        from torch.nn.functional import layer_norm, linear, scaled_dot_product_attention

        position, *blocks, scale, shift = network
        x = self.factors**0.5 * embedded + position[: embedded.shape[1]]
        for first in range(0, len(blocks), 12):
            block = blocks[first : first + 12]
            q, k, v = (
                part.unflatten(2, (self.settings.heads, -1)).transpose(1, 2)
                for part in linear(layer_norm(x, scale.shape, *block[:2]), *block[2:4]).chunk(3, dim=2)
            )
            attended = scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
            x = x + drop(linear(attended, *block[4:6]))
            inner = torch.relu(linear(layer_norm(x, scale.shape, *block[6:8]), *block[8:10]))
            x = x + drop(linear(drop(inner), *block[10:12]))
        return layer_norm(x, scale.shape, scale, shift)


class GRU4Rec(_Sequential):
    """Gated recurrent units over the history, trained with PyTorch; ratings are ignored.

    Parameters
    ----------
    settings : GRU4RecSettings, optional
    factors : int
        Length of the embeddings and of the state.
    device : {"auto", "cpu", "cuda"}
        Where it trains (on the CPU, in one thread); `recmia.recommenders.tensors` says what that changes.

    Raises
    ------
    MissingExtraError
        Without PyTorch.
    ConfigError
        For an unknown device, or for "cuda" where PyTorch finds no GPU.
    """

    _start_std = 0.2

    def __init__(
        self, settings: GRU4RecSettings | None = None, *, factors: int = 100, device: str = "auto"
    ) -> None:
        super().__init__(GRU4RecSettings() if settings is None else settings, factors, device)

    def _start(self, rng: np.random.Generator) -> list[Float32]:
        f, start = self.factors, list[Float32]()
        for _ in range(self.settings.layers):
            start += [_glorot(rng, 3 * f, f), _glorot(rng, 3 * f, f), *np.zeros((2, 3 * f), np.float32)]
        return [*start, _glorot(rng, f, f), np.zeros(f, np.float32)]

    def _encode(self, embedded: torch.Tensor, network: list[torch.Tensor], drop: Drop) -> torch.Tensor:
        import torch
        from torch.nn.functional import linear

        *layers, matrix, bias = network
        at_first = embedded.new_zeros(len(layers) // 4, len(embedded), self.factors)
        states, _ = torch.gru(embedded, at_first, layers, True, len(at_first), 0.0, False, False, True)
        return linear(states, matrix, bias)


def _windows(indptr: Int64, window: int) -> tuple[Int64, Int64]:
    """Cut sequences from their ends into windows of up to ``window + 1`` items, each beginning with the last one's end.

    Returns
    -------
    start, length : int64
        Of each window; of at least two items.

    Examples
    --------
    >>> start, length = _windows(np.array([0, 6, 7]), 2)
    >>> [list(range(first, first + n)) for first, n in zip(start.tolist(), length.tolist())]
    [[3, 4, 5], [1, 2, 3], [0, 1]]
    """
    first, to_predict = indptr[:-1].astype(np.int64), np.diff(indptr).astype(np.int64) - 1
    counts = np.maximum(-(-to_predict // window), 0)
    user = np.repeat(np.arange(len(counts)), counts)
    back = (np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)) * window
    length = np.minimum(to_predict[user] - back, window) + 1
    return (first + to_predict)[user] - back - length + 1, length


def _batches(length: Int64, size: int, rng: np.random.Generator) -> Iterator[Int64]:
    """Part windows at random into batches of like length, with about `size` items to predict, in random order."""
    order = rng.permutation(len(length))
    order = order[np.argsort(length[order], kind="stable")]
    batch = np.cumsum(length[order] - 1) // size
    parts = np.split(order, np.flatnonzero(np.diff(batch)) + 1) if len(order) else []
    return (parts[place] for place in rng.permutation(len(parts)))


def _padded(items: Int64, start: Int64, length: Int64) -> tuple[Int64, np.ndarray]:
    """Return windows, int64[b, n], filled up with item 0, and where there is an item to predict, bool[b, n - 1]."""
    place = np.arange(length.max(initial=1))
    real = place < length[:, None]
    window = np.zeros(real.shape, np.int64)
    window[real] = items[(start[:, None] + place)[real]]
    return window, real[:, 1:]


def _loss(hidden: torch.Tensor, right: torch.Tensor, other: torch.Tensor, same: torch.Tensor, m: int) -> torch.Tensor:
    """Return the mean of the module's cross-entropy.

    Parameters
    ----------
    hidden, right : float32[n, factors]
        h and e_y.
    other : float32[s, factors]
        The embeddings of the sample S.
    same : bool[n, s]
        Where an item of the sample is y.
    m : int
    """
    import torch
    from torch.nn.functional import softplus

    logits = (hidden @ other.T).masked_fill_(same, -torch.inf)
    weight = torch.log((m - 1) / (same.shape[1] - same.sum(dim=1)).clamp(min=1))
    return softplus(torch.logsumexp(logits, dim=1) + weight - (hidden * right).sum(dim=1)).mean()


def _normal(rng: np.random.Generator, std: float, rows: int, columns: int) -> Float32:
    """Draw the start of embeddings."""
    return np.float32(std) * rng.standard_normal((rows, columns), np.float32)


def _glorot(rng: np.random.Generator, rows: int, columns: int) -> Float32:
    """Draw the start of a matrix (Glorot and Bengio 2010, eq. 16)."""
    limit = np.sqrt(6 / (rows + columns))
    return rng.uniform(-limit, limit, (rows, columns)).astype(np.float32)

r"""SASRec and GRU4Rec: which item comes next, from the order of a history.

Both turn the last `window` events of a history, items s_1, ..., s_n, into a vector h_n, and score item i by
:math:`h_n^\top e_i`, where e_i is the embedding that the network also reads. They differ in how h_t follows from s_1,
..., s_t:

- **SASRec** (Kang and McAuley 2018, "Self-attentive sequential recommendation", ICDM). The embeddings, times the root
  of their length, and those of the positions in the window are added. The sum runs through blocks of causal
  self-attention and a fully connected network, each as :math:`x + \mathrm{dropout}(g(\mathrm{norm}(x)))` (section
  III), and is normalised at the end.
- **GRU4Rec** (Hidasi et al. 2016, "Session-based recommendations with recurrent neural networks", ICLR). Gated
  recurrent units read the embeddings, and h_t is a linear map of their state.

**Training.** A history is cut into windows from its end. So every event but a history's first is predicted once, from
the events before it in its window, and none is left out, however long the history. Adam minimises the mean
cross-entropy of the next item y,

.. math:: -\ln \frac{e^{h^\top e_y}}{e^{h^\top e_y} + w \sum_{j \in S \setminus y} e^{h^\top e_j}}, \qquad
          w = \frac{m - 1}{|S \setminus y|}.

S is `n_negatives` of the m trained items, drawn uniformly for each step. The weight w makes its sum that of all items
on average. With m or more negatives, S is all items, and this is the softmax over the catalogue.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.data.interactions import Bool, Float32, Int32, Int64, Interactions
from recmia.engine.matrices import keep_columns, row_items
from recmia.errors import ConfigError
from recmia.recommenders.base import Recommender
from recmia.recommenders.tensors import check_finite, one_thread, pick_device
from recmia.settings.recommenders import GRU4RecSettings, SASRecSettings

if TYPE_CHECKING:
    import torch

    Drop = Callable[[torch.Tensor], torch.Tensor]


# The parameters of a block of SASRec: a weight and a bias of each of two normalisations and four linear maps.
_BLOCK = 12


class _Sequential(Recommender):
    """What SASRec and GRU4Rec share: windows, training and serving; a subclass is the network."""

    uses_order = True
    # Standard deviation of the embeddings' start.
    _start_std: float

    def __init__(self, settings: SASRecSettings | GRU4RecSettings, factors: int, device: str) -> None:
        pick_device(device)
        self.settings, self.factors, self.device = settings, factors, device
        self.window = settings.window

    @abstractmethod
    def _start(self, rng: np.random.Generator) -> list[Float32]:
        """Draw the network's parameters; the item embeddings are not among them."""

    @abstractmethod
    def _encode(self, embedded: torch.Tensor, network: list[torch.Tensor], drop: Drop) -> torch.Tensor:
        """Return h_t from the e of s_t, both float32[b, n, factors]; it does not depend on what follows t."""

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
            kept = rng.random(values.shape, np.float32) >= settings.dropout
            return values * torch.from_numpy(kept.astype(np.float32) / np.float32(1 - settings.dropout)).to(device)

        with one_thread():
            drawn = [_normal(rng, self._start_std, m, self.factors), *self._start(rng)]
            parameters = [torch.from_numpy(array).to(device).requires_grad_() for array in drawn]
            items, *network = parameters
            adam = torch.optim.Adam(parameters, lr=settings.learning_rate, fused=True)
            for _ in range(settings.epochs):
                for batch in _batches(length, settings.batch_size, rng):
                    padded = _padded(sequences.indices, start[batch], length[batch])
                    sample = rng.choice(m, min(settings.n_negatives, m), replace=False)
                    windows, real, others = (torch.from_numpy(part).to(device) for part in (*padded, sample))
                    embedded = embedding(windows, items)
                    hidden = self._encode(drop(embedded[:, :-1]), network, drop)[real]
                    same = windows[:, 1:][real].unsqueeze(1) == others
                    loss = _loss(hidden, embedded[:, 1:][real], embedding(others, items), same, m)
                    adam.zero_grad()
                    loss.backward()
                    adam.step()
        trained = [parameter.detach().cpu() for parameter in parameters]
        check_finite(type(self).__name__, settings.learning_rate, *(parameter.numpy() for parameter in trained))
        self._trained, self.trained_items = trained, trained_items
        return self

    @property
    def item_vectors(self) -> Float32:
        """The trained e_i, float32, shape (n_items, factors); zero for items without a training interaction."""
        trained_items = self.fitted_items()
        vectors = np.zeros((len(trained_items), self.factors), np.float32)
        vectors[trained_items] = self._trained[0].numpy()
        return vectors

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Return the scores of all items after these histories; see `Recommender.scores`.

        Parameters
        ----------
        histories : csr_array of float32, shape (n, n_items)
            Each row in the order of events. Items that were not trained on are left out; of the others, the last
            `window` count.

        Returns
        -------
        float32, shape (n, n_items)
            Zeros for a history without a trained item.
        """
        import torch

        trained_items = self.fitted_items()
        scores = np.zeros(histories.shape, np.float32)
        with one_thread(), torch.inference_mode():
            items, *network = self._trained
            # One by one: the last bits of a product of matrices depend on how many rows there are.
            for row, history in zip(scores, row_items(keep_columns(histories, trained_items)), strict=True):
                if len(history):
                    embedded = items[history[-self.settings.window :]].unsqueeze(0)
                    hidden = self._encode(embedded, network, lambda values: values)
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

    def __init__(self, settings: SASRecSettings | None = None, *, factors: int = 100, device: str = "auto") -> None:
        super().__init__(SASRecSettings() if settings is None else settings, factors, device)
        if factors % self.settings.heads:
            raise ConfigError(
                f"sasrec.heads must divide the factors; got {self.settings.heads} heads and {factors} factors"
            )

    def _start(self, rng: np.random.Generator) -> list[Float32]:
        f = self.factors

        def norm() -> list[Float32]:
            return [np.ones(f, np.float32), np.zeros(f, np.float32)]

        start = [_normal(rng, self._start_std, self.settings.window, f)]
        for _ in range(self.settings.layers):
            start += [*norm(), *_linear(rng, 3 * f, f), *_linear(rng, f, f)]
            start += [*norm(), *_linear(rng, f, f), *_linear(rng, f, f)]
        return [*start, *norm()]

    def _encode(self, embedded: torch.Tensor, network: list[torch.Tensor], drop: Drop) -> torch.Tensor:
        import torch
        from torch.nn.functional import layer_norm, linear, scaled_dot_product_attention

        def norm(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
            return layer_norm(x, scale.shape, scale, shift)

        position, *blocks, scale, shift = network
        x = self.factors**0.5 * embedded + position[: embedded.shape[1]]
        for first in range(0, len(blocks), _BLOCK):
            block = blocks[first : first + _BLOCK]
            q, k, v = (
                part.unflatten(2, (self.settings.heads, -1)).transpose(1, 2)
                for part in linear(norm(x, *block[0:2]), *block[2:4]).chunk(3, dim=2)
            )
            attended = scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
            x = x + drop(linear(attended, *block[4:6]))
            inner = torch.relu(linear(norm(x, *block[6:8]), *block[8:10]))
            x = x + drop(linear(drop(inner), *block[10:12]))
        return norm(x, scale, shift)


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

    def __init__(self, settings: GRU4RecSettings | None = None, *, factors: int = 100, device: str = "auto") -> None:
        super().__init__(GRU4RecSettings() if settings is None else settings, factors, device)

    def _start(self, rng: np.random.Generator) -> list[Float32]:
        f, start = self.factors, list[Float32]()
        for _ in range(self.settings.layers):
            (of_input, bias), (of_state, other) = _linear(rng, 3 * f, f), _linear(rng, 3 * f, f)
            start += [of_input, of_state, bias, other]
        return [*start, *_linear(rng, f, f)]

    def _encode(self, embedded: torch.Tensor, network: list[torch.Tensor], drop: Drop) -> torch.Tensor:
        import torch
        from torch.nn.functional import linear

        *layers, matrix, bias = network
        empty = embedded.new_zeros(self.settings.layers, len(embedded), self.factors)
        # What torch.nn.GRU calls; the module itself would draw its start from the global generator.
        states, _ = torch.gru(embedded, empty, layers, True, len(empty), 0.0, False, False, True)
        return linear(states, matrix, bias)


def _windows(indptr: npt.NDArray[np.integer], window: int) -> tuple[Int64, Int64]:
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


def _padded(items: Int32, start: Int64, length: Int64) -> tuple[Int64, Bool]:
    """Return windows, int64[b, n], filled up with item 0, and which of all but the first are real, bool[b, n - 1]."""
    place = np.arange(length.max())
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


def _linear(rng: np.random.Generator, rows: int, columns: int) -> tuple[Float32, Float32]:
    """Draw the start of a linear map, its matrix (Glorot and Bengio 2010, eq. 16) and its constant."""
    limit = np.sqrt(6 / (rows + columns))
    return rng.uniform(-limit, limit, (rows, columns)).astype(np.float32), np.zeros(rows, np.float32)

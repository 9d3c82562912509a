r"""LightGCN: embeddings smoothed over the graph of users and items (He et al. 2020, "LightGCN", SIGIR).

Each of L layers replaces an embedding by the mean of its neighbours' (eq. 3), and the final one is the mean of all
layers (eq. 4, with equal weights):

.. math:: e_u^{(k+1)} = \sum_{i \in H_u} \frac{e_i^{(k)}}{\sqrt{|H_u| |N_i|}}, \qquad
          e_i^{(k+1)} = \sum_{u \in N_i} \frac{e_u^{(k)}}{\sqrt{|N_i| |H_u|}}, \qquad
          e = \frac{1}{L+1} \sum_{k=0}^{L} e^{(k)},

with H_u the history of user u and N_i the users of item i. Scores are :math:`e_u^\top e_i`. Only the layer-0
embeddings are trained, by Adam, on the BPR loss (eq. 15): for an item i and, fresh in each epoch, a sampled item j that
the same user has seen and not seen,

.. math:: -\ln \sigma(e_u^\top e_i - e_u^\top e_j)
          + \tfrac{\lambda}{2} (|e_u^{(0)}|^2 + |e_i^{(0)}|^2 + |e_j^{(0)}|^2).

The mean of layers is a linear map of the layer-0 embeddings and its matrix is symmetric: the gradient is carried back
by the same propagation that carries the embeddings forward.

**Fold-in.** A user that was not in the fit has no layer-0 embedding; it is 0, the mean of its start. With the items'
layers and |N_i| frozen, what is left of the user's side is

.. math:: e_u = \frac{1}{L+1} \sum_{i \in H} \frac{1}{\sqrt{|H| |N_i|}} \sum_{k=0}^{L-1} e_i^{(k)},

for members too, whose trained embedding is this plus :math:`e_u^{(0)} / (L+1)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import sparse

from recmia.interactions import Float32, Int32, Interactions
from recmia.recommenders.base import Recommender, top_k_by_vectors
from recmia.recommenders.simple import binary
from recmia.recommenders.tensors import UnseenItems, check_finite, known_pairs, one_thread, pick_device

if TYPE_CHECKING:
    import torch


class LightGCNSettings(BaseModel):
    """How to train the graph's embeddings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: int = Field(2, ge=1, description="Propagation steps over the graph.")
    learning_rate: float = Field(0.02, gt=0, description="Step size of Adam.")
    regularisation: float = Field(0.001, ge=0, description="Lambda, the weight of the squared layer-0 embeddings.")
    epochs: int = Field(40, ge=1, description="Passes over the interactions.")
    batch_size: int = Field(8192, ge=1, description="Interactions a step.")
    init_std: float = Field(0.1, gt=0, description="Standard deviation of the layer-0 embeddings' start.")


class LightGCN(Recommender):
    """Light graph convolution, trained with PyTorch; ratings are not looked at.

    Parameters
    ----------
    settings : LightGCNSettings
    l : int
        Length of the embeddings.
    threads : int
        How many threads rank; no result depends on it. Training runs in one.
    device : {"auto", "cpu", "cuda"}
        Where it trains; see `recmia.recommenders.tensors` for what that changes.

    Attributes
    ----------
    user_vectors : float32, shape (n_users, l)
        The trained final embeddings of the users of the fit.
    item_vectors : float32, shape (n_items, l)
        The final embeddings of the items, 0 for those that are not known.
    """

    def __init__(
        self, settings: LightGCNSettings | None = None, *, l: int = 100, threads: int = 1, device: str = "auto"  # noqa: E741
    ) -> None:  # fmt: skip
        pick_device(device)
        self.settings = LightGCNSettings() if settings is None else settings
        self.l, self.threads, self.device = l, threads, device

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Train the embeddings; see `Recommender.fit`."""
        import torch

        settings, device = self.settings, pick_device(self.device)
        known, seen = known_pairs(interactions)
        n_users, n_known = seen.shape
        unseen = UnseenItems(seen)
        # A user who has seen all known items has no unseen one to compare with.
        user = np.repeat(np.arange(n_users), np.diff(seen.indptr))
        compared = unseen.counts[user] > 0
        user, item = user[compared], seen.indices[compared].astype(np.int64)
        with one_thread():
            graph = _Graph(seen, settings.layers, device)
            start = settings.init_std * rng.standard_normal((n_users + n_known, self.l), np.float32)
            embeddings = torch.from_numpy(start).to(device)
            adam = torch.optim.Adam([embeddings], lr=settings.learning_rate, fused=True)
            for _ in range(settings.epochs):
                order = rng.permutation(len(user))
                triples = np.stack([user, item + n_users, unseen.draw(user, rng) + n_users])[:, order]
                for first in range(0, len(user), settings.batch_size):
                    batch = torch.from_numpy(triples[:, first : first + settings.batch_size]).to(device)
                    gradient = graph.propagate(_bpr_gradient(graph.propagate(embeddings)[0], batch))[0]
                    times = torch.bincount(batch.flatten(), minlength=len(embeddings)).unsqueeze(1)
                    embeddings.grad = gradient.addcmul_(
                        times, embeddings, value=settings.regularisation / batch.shape[1]
                    )
                    adam.step()
            final, last = (part.cpu().numpy() for part in graph.propagate(embeddings))
        check_finite("LightGCN", settings.learning_rate, final)
        self._users = final[:n_users]
        self._items, self._message = np.zeros((2, len(known), self.l), np.float32)
        self._items[known] = final[n_users:]
        # What an item of the history adds to a user's embedding, up to |H|: all layers but the last.
        degree = np.bincount(seen.indices, minlength=n_known)[:, None].astype(np.float32)
        self._message[known] = (final - last / (settings.layers + 1))[n_users:] / np.sqrt(degree)
        self.known = known
        return self

    @property
    def user_vectors(self) -> Float32:
        """The trained final embeddings; NotFittedError before `fit`."""
        self.fitted_items()
        return self._users

    @property
    def item_vectors(self) -> Float32:
        """The items' final embeddings; NotFittedError before `fit`."""
        self.fitted_items()
        return self._items

    def fold_in(self, histories: sparse.csr_array) -> Float32:
        """Propagate to users from their histories alone, float32, shape (n, l).

        Items that the model does not know are left out; a history without a known item gives the zero vector, whose
        scores all tie.
        """
        known, seen = self.fitted_items(), binary(histories)
        length = np.maximum(seen @ known.astype(np.float32), 1)
        return (seen @ self._message) / np.sqrt(length)[:, None]

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Score all items by fold-in; see `Recommender.scores`."""
        return self.fold_in(histories) @ self.item_vectors.T

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Rank the known items by fold-in; see `Recommender.recommend`."""
        return self._by_vectors(self.fold_in(histories), histories if exclude_seen else None, k)

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Rank the known items by the trained user embeddings; see `Recommender.recommend_members`."""
        return self._by_vectors(self.user_vectors, histories if exclude_seen else None, k)

    def _by_vectors(self, user_vectors: Float32, seen: sparse.csr_array | None, k: int) -> Int32:
        known, items = self.fitted_items(k), self.item_vectors
        no_bias = np.zeros(len(known), np.float32)
        return top_k_by_vectors(user_vectors, items, no_bias, seen, known, k, threads=self.threads)


class _Graph:
    """The bipartite graph of users (first) and items, as one symmetric matrix with weights 1 / sqrt(|H_u| |N_i|)."""

    def __init__(self, seen: sparse.csr_array, layers: int, device: torch.device) -> None:
        import torch

        matrix = sparse.block_array([[None, seen], [seen.T, None]], format="csr")
        matrix.sort_indices()
        degree = np.diff(matrix.indptr)
        pairs = np.repeat(degree, degree) * degree[matrix.indices]
        self._layers = layers
        self._weights = torch.from_numpy((1 / np.sqrt(pairs)).astype(np.float32)).to(device)
        self._columns = torch.from_numpy(matrix.indices.astype(np.int64)).to(device)
        self._starts = torch.from_numpy(matrix.indptr.astype(np.int64)).to(device)

    def propagate(self, embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean of all layers, and the last layer; both float32, shape of `embeddings`."""
        from torch.nn.functional import embedding_bag

        total, layer = embeddings.clone(), embeddings
        for _ in range(self._layers):
            # The product of a sparse matrix and a dense one, many times faster on the CPU than torch.sparse.mm.
            layer = embedding_bag(
                self._columns, layer, self._starts, mode="sum",
                per_sample_weights=self._weights, include_last_offset=True,
            )  # fmt: skip
            total += layer
        return total / (self._layers + 1), layer


def _bpr_gradient(final: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    """Differentiate the mean BPR loss of a batch, int64[3, n] (user, seen, unseen), in the final embeddings."""
    from torch.nn.functional import embedding, softplus

    final.requires_grad_()
    user, seen, unseen = (embedding(rows, final) for rows in batch)
    softplus((user * (unseen - seen)).sum(dim=1)).mean().backward()
    assert final.grad is not None
    return final.grad

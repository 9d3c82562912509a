r"""LightGCN: embeddings smoothed over the graph of users and items (He et al. 2020, "LightGCN", SIGIR).

Each of L layers replaces an embedding by the mean of its neighbours' (eq. 3), and the final one is the mean of all
layers (eq. 4, with equal weights):

.. math:: e_u^{(k+1)} = \sum_{i \in H_u} \frac{e_i^{(k)}}{\sqrt{|H_u| |N_i|}}, \qquad
          e_i^{(k+1)} = \sum_{u \in N_i} \frac{e_u^{(k)}}{\sqrt{|N_i| |H_u|}}, \qquad
          e = \frac{1}{L+1} \sum_{k=0}^{L} e^{(k)},

with H_u the history of user u and N_i the users of item i. Scores are :math:`e_u^\top e_i`. Only the layer-0
embeddings are trained, by Adam, on the BPR loss (eq. 15). For a seen item i and an unseen item j of the same user, j
being sampled anew in each epoch, it is

.. math:: -\ln \sigma(e_u^\top e_i - e_u^\top e_j)
          + \tfrac{\lambda}{2} (|e_u^{(0)}|^2 + |e_i^{(0)}|^2 + |e_j^{(0)}|^2).

The mean of layers is a linear map of the layer-0 embeddings with a symmetric matrix, so the same propagation carries
the embeddings forward and the gradient back.

**Fold-in.** A user that was not in the fit has no layer-0 embedding; it is taken as 0, the mean of the initial ones.
With the items' layers and :math:`|N_i|` frozen, what is left of the user's embedding is

.. math:: e_u = \frac{1}{L+1} \sum_{i \in H} \frac{1}{\sqrt{|H| |N_i|}} \sum_{k=0}^{L-1} e_i^{(k)},

for members too, whose trained embedding is this plus :math:`e_u^{(0)} / (L+1)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np
from scipy import sparse

from recmia.data.interactions import Float32, Interactions
from recmia.engine.matrices import binary
from recmia.recommenders.base import VectorRecommender
from recmia.recommenders.tensors import UnseenItems, check_finite, one_thread, pick_device, seen_pairs
from recmia.settings.recommenders import LightGCNSettings

if TYPE_CHECKING:
    import torch


class LightGCN(VectorRecommender):
    """Light graph convolution, trained with PyTorch; ratings are ignored.

    The user and item vectors are the final embeddings.

    Parameters
    ----------
    settings : LightGCNSettings, optional
    factors : int
        Length of the embeddings.
    threads : int
        How many threads rank; no result depends on it. Training runs in one.
    device : {"auto", "cpu", "cuda"}
        Where it trains; `recmia.recommenders.tensors` says what that changes.

    Raises
    ------
    MissingExtraError
        Without PyTorch.
    ConfigError
        For an unknown device, or for "cuda" where PyTorch finds no GPU.
    """

    def __init__(
        self,
        settings: LightGCNSettings | None = None,
        *,
        factors: int = 100,
        threads: int = 1,
        device: str = "auto",
    ) -> None:
        super().__init__(factors=factors, threads=threads)
        pick_device(device)
        self.settings = LightGCNSettings() if settings is None else settings
        self.device = device

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Train the embeddings; see `Recommender.fit`."""
        import torch

        settings, device = self.settings, pick_device(self.device)
        trained_items, seen = seen_pairs(interactions)
        n_users, n_trained = seen.shape
        unseen = UnseenItems(seen)
        # A user who has seen all trained items has no unseen one to compare with.
        user = np.repeat(np.arange(n_users), np.diff(seen.indptr))
        compared = unseen.counts[user] > 0
        user, item = user[compared], seen.indices[compared].astype(np.int64)
        with one_thread():
            graph = _Graph(seen, settings.layers, device)
            start = settings.init_std * rng.standard_normal((n_users + n_trained, self.factors), np.float32)
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
        items, self._message = np.zeros((2, len(trained_items), self.factors), np.float32)
        items[trained_items] = final[n_users:]
        # What an item of the history adds to a user's embedding, up to |H|: all layers but the last.
        degree = np.bincount(seen.indices, minlength=n_trained)[:, None].astype(np.float32)
        self._message[trained_items] = (final - last / (settings.layers + 1))[n_users:] / np.sqrt(degree)
        self._set_vectors(final[:n_users], items, np.zeros(len(items), np.float32), trained_items)
        return self

    def fold_in(self, histories: sparse.csr_array) -> Float32:
        """Return user embeddings that are propagated from the histories; see `VectorRecommender.fold_in`."""
        trained_items, seen = self.fitted_items(), binary(histories)
        length = np.maximum(seen @ trained_items.astype(np.float32), 1)
        return (seen @ self._message) / np.sqrt(length)[:, None]


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
            # A product of a sparse and a dense matrix, which is many times faster on the CPU than torch.sparse.mm.
            layer = embedding_bag(
                self._columns, layer, self._starts, mode="sum",
                per_sample_weights=self._weights, include_last_offset=True,
            )  # fmt: skip
            total += layer
        return total / (self._layers + 1), layer


def _bpr_gradient(final: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    """Gradient of the mean BPR loss of a batch, int64[3, n] (user, seen, unseen), in the final embeddings."""
    from torch.nn.functional import embedding, softplus

    final.requires_grad_()
    user, seen, unseen = (embedding(rows, final) for rows in batch)
    softplus((user * (unseen - seen)).sum(dim=1)).mean().backward()
    assert final.grad is not None
    return final.grad

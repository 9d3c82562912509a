r"""NCF: neural matrix factorisation, a product and a perceptron side by side (He et al. 2017, WWW, section 3.4).

A user and an item each have two embeddings, p^G and p^M, q^G and q^M. With f factors, the logit of a pair is (eq. 12,
before the sigmoid)

.. math:: z_{ui} = h_G^\top (p_u^G \odot q_i^G) + h_M^\top \phi(p_u^M, q_i^M) + c,

where phi is a tower of fully connected ReLU layers, each half as wide as the one before, down to f. All of it is
trained by Adam on the binary cross-entropy of seen pairs and of ``n_negatives`` unseen items per seen pair, which are
sampled anew in each epoch (eq. 7). Each sample adds its own :math:`\lambda (|p_u|^2 + |q_i|^2)`, where p and q hold
both embeddings. h_G starts as ones, so that the product starts as matrix factorisation.

**Fold-in.** With everything else frozen, p_u minimises the same objective over the history H,

.. math:: \sum_{i \in H} \ln(1 + e^{-z_i}) + w_0 \sum_{i \in S \setminus H} \ln(1 + e^{z_i})
          + \lambda (1 + n_{neg}) |H| |p|^2, \qquad w_0 = \frac{n_{neg} |H|}{|S \setminus H|}.

With S all trained items, that is the expectation over the negatives that training samples. S is all of them up to 512;
beyond, it is 512 items at equal steps in the order of popularity, the same for every user. z is piecewise linear in p,
so the objective is piecewise convex, with the Hessian of a logistic regression on each piece. Newton steps from the
mean of the members' embeddings, damped as in Levenberg and Marquardt's method (Nielsen 1999), lead to a local minimum,
which need not be the global one. Each user is solved separately.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import expit

from recmia.blas import one_blas_thread
from recmia.data.interactions import Bool, Float32, Int32, Int64, Interactions
from recmia.engine.matrices import keep_columns, row_items
from recmia.recommenders.base import Recommender
from recmia.recommenders.tensors import UnseenItems, check_finite, one_thread, pick_device, seen_pairs
from recmia.settings.recommenders import NCFSettings

if TYPE_CHECKING:
    import torch

# At most so many items stand for the unseen ones in fold-in.
_UNSEEN = 512
# Fold-in ends when a step is expected to gain less than this per unit of weight, or after so many steps.
_TOLERANCE, _STEPS = 1e-5, 100


class NCF(Recommender):
    """Neural collaborative filtering (NeuMF), trained with PyTorch; ratings are ignored.

    Parameters
    ----------
    settings : NCFSettings, optional
    device : {"auto", "cpu", "cuda"}
        Where it trains (on the CPU, in one thread); `recmia.recommenders.tensors` says what that changes.

    Attributes
    ----------
    user_vectors : float32, shape (n_users, f + f 2 ** (layers - 1))
        The trained p^G and p^M of the users of the fit, side by side.

    Raises
    ------
    MissingExtraError
        Without PyTorch.
    ConfigError
        For an unknown device, or for "cuda" where PyTorch finds no GPU.
    """

    def __init__(self, settings: NCFSettings | None = None, *, device: str = "auto") -> None:
        pick_device(device)
        self.settings = NCFSettings() if settings is None else settings
        self.device = device

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Train the network; see `Recommender.fit`."""
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits, embedding

        settings, device = self.settings, pick_device(self.device)
        trained_items, seen = seen_pairs(interactions)
        unseen = UnseenItems(seen)
        user, item = np.repeat(np.arange(interactions.n_users), np.diff(seen.indptr)), seen.indices.astype(np.int64)
        without = np.repeat(user[unseen.counts[user] > 0], settings.n_negatives)
        users = np.concatenate([user, without])
        wanted = (np.arange(len(users)) < len(user)).astype(np.float32)
        n_steps = -(-len(user) // settings.batch_size)
        with one_thread():
            start = _start(settings, *seen.shape, rng)
            parameters = [torch.from_numpy(array).to(device).requires_grad_() for array in start]
            adam = torch.optim.Adam(parameters, lr=settings.learning_rate, fused=True)
            for _ in range(settings.epochs):
                items, order = np.concatenate([item, unseen.draw(without, rng)]), rng.permutation(len(users))
                samples = (torch.from_numpy(column[order]).to(device) for column in (users, items, wanted))
                for of, at, target in zip(*(column.tensor_split(n_steps) for column in samples), strict=True):
                    p, q = embedding(of, parameters[0]), embedding(at, parameters[1])
                    loss = binary_cross_entropy_with_logits(_logits(p, q, parameters[2:], settings.factors), target)
                    if settings.regularisation:
                        loss = loss + settings.regularisation / len(of) * (p.square().sum() + q.square().sum())
                    adam.zero_grad()
                    loss.backward()
                    adam.step()
            trained = [parameter.detach().cpu().numpy() for parameter in parameters]
        check_finite("NCF", settings.learning_rate, *trained)
        self._users = trained[0]
        by_popularity = np.argsort(-np.bincount(seen.indices), kind="stable")
        n_trained = len(by_popularity)
        sample = by_popularity[np.linspace(0, n_trained - 1, min(n_trained, _UNSEEN)).round().astype(np.int64)]
        self._network = _Network(trained, settings, np.sort(sample))
        self.trained_items = trained_items
        return self

    @property
    def user_vectors(self) -> Float32:
        """The trained embeddings; NotFittedError before `fit`."""
        self.fitted_items()
        return self._users

    def fold_in(self, histories: sparse.csr_array) -> Float32:
        """Return user embeddings for the given histories alone, float32, shape (n, f + f 2 ** (layers - 1)).

        Items that the model was not trained on are left out. A history without a trained item gives the mean of the
        members' embeddings.
        """
        seen = keep_columns(histories, self.fitted_items())
        # A product that BLAS splits among its own threads differs in its last bits from an unsplit one.
        with one_blas_thread():
            solved = [self._network.solve(np.sort(items)) for items in row_items(seen)]
        return np.array(solved, np.float32)

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Return the logits of all items by fold-in; see `Recommender.scores`."""
        return self._scores(self.fold_in(histories))

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Return the k best trained items by the trained embeddings; see `Recommender.recommend_members`."""
        vectors = self.user_vectors
        return self._rank(lambda rows: self._scores(vectors[rows]), histories, k, exclude_seen)

    def _scores(self, vectors: Float32) -> Float32:
        trained_items = self.fitted_items()
        scores = np.zeros((len(vectors), len(trained_items)), np.float32)
        with one_blas_thread():
            for row, vector in zip(scores, vectors, strict=True):
                row[trained_items] = self._network.logits(vector)
        return scores


def _start(settings: NCFSettings, n_users: int, n_trained: int, rng: np.random.Generator) -> list[Float32]:
    """Draw users, items (product's embedding first), weights of the logit, its constant, and the tower's layers."""
    f, std = settings.factors, settings.init_std
    widths = [f * 2**layer for layer in range(settings.layers, -1, -1)]
    embedding = f + widths[0] // 2
    start = [std * rng.standard_normal((rows, embedding), np.float32) for rows in (n_users, n_trained)]
    start += [
        np.concatenate([np.ones(f, np.float32), std * rng.standard_normal(f, np.float32)]),
        np.zeros(1, np.float32),
    ]
    for wide, narrow in pairwise(widths):
        # Glorot and Bengio 2010, eq. 16.
        limit = np.sqrt(6 / (wide + narrow))
        start += [rng.uniform(-limit, limit, (narrow, wide)).astype(np.float32), np.zeros(narrow, np.float32)]
    return start


def _logits(p: torch.Tensor, q: torch.Tensor, network: list[torch.Tensor], f: int) -> torch.Tensor:
    """Return z of pairs of embeddings, float32[n]; `network` is what `_start` draws after the embeddings."""
    import torch
    from torch.nn.functional import linear

    weights, constant, *tower = network
    parts = [f, p.shape[1] - f]
    (p_product, p_tower), (q_product, q_tower) = p.split(parts, dim=1), q.split(parts, dim=1)
    hidden = torch.cat([p_tower, q_tower], dim=1)
    for matrix, bias in zip(tower[::2], tower[1::2], strict=True):
        hidden = torch.relu(linear(hidden, matrix, bias))
    return (p_product * q_product) @ weights[:f] + hidden @ weights[f:] + constant


class _Network:
    """The trained network as a function of one user's embeddings.

    Parameters
    ----------
    trained : list of float32 arrays
        As `_start` draws them.
    settings : NCFSettings
    sample : int64
        S, the items that stand for the unseen ones, ascending.
    """

    def __init__(self, trained: list[Float32], settings: NCFSettings, sample: Int64) -> None:
        users, items, weights, constant, first, bias, *rest = trained
        f, half = settings.factors, first.shape[1] // 2
        self._f, self._sample, self._n_negatives = f, sample, settings.n_negatives
        # A small ridge keeps the system solvable at lambda = 0, where a minimiser need not exist.
        self._penalty = max(settings.regularisation, 1e-8)
        self._mean = users.mean(axis=0)
        # What the items contribute does not change with the user.
        self._product = items[:, :f] * weights[:f]
        self._offset = items[:, f:] @ first[:, half:].T + bias
        self._first, self._rest = first[:, :half], list(zip(rest[::2], rest[1::2], strict=True))
        self._top, self._constant = weights[f:], constant

    def logits(self, p: Float32) -> Float32:
        """Return z of all trained items, float32[n_trained]."""
        return self._forward(p, self._product, self._offset)[0]

    def solve(self, history: npt.NDArray[np.integer]) -> Float32:
        """Return a minimum of the module's fold-in objective for a history, ascending rows of trained items."""
        p, n = self._mean, len(history)
        if n == 0:
            return p
        unseen = np.setdiff1d(self._sample, history, assume_unique=True)
        items = np.concatenate([history, unseen])
        product, offset = self._product[items], self._offset[items]
        sign, weight = np.ones(len(items), np.float32), np.ones(len(items), np.float32)
        sign[:n], weight[n:] = -1, self._n_negatives * n / max(len(unseen), 1)
        total = float(weight.sum(dtype=np.float64))
        ridge = self._penalty * total

        def value(p: Float32, z: Float32) -> float:
            return float(np.sum(weight * np.logaddexp(0, sign * z), dtype=np.float64) + ridge * (p @ p))

        z, active = self._forward(p, product, offset)
        best, damping, factor = value(p, z), 0.0, 2.0
        jacobian = None
        for _ in range(_STEPS):
            if jacobian is None:
                jacobian = np.hstack([product, self._slopes(active)])
                wrong = expit(sign * z)
                gradient = jacobian.T @ (weight * sign * wrong) + 2 * ridge * p
                hessian = (jacobian.T * (weight * wrong * (1 - wrong))) @ jacobian
                hessian[np.diag_indices_from(hessian)] += 2 * ridge
            step = np.linalg.solve(hessian + damping * np.eye(len(p), dtype=np.float32), -gradient)
            expected = -float(gradient @ step) / 2
            if expected <= _TOLERANCE * total:
                break
            z, active = self._forward(p + step, product, offset)
            gained = best - value(p + step, z)
            # Nielsen 1999, eq. 2.5: the damping follows how much of its expected gain this step reached.
            if gained > 0:
                p, best, jacobian = p + step, best - gained, None
                damping, factor = damping * max(1 / 3, 1 - (gained / expected - 1) ** 3), 2.0
            else:
                damping, factor = max(damping, 0.01 * float(hessian.diagonal().max())) * factor, 2 * factor
        return p

    def _forward(self, p: Float32, product: Float32, offset: Float32) -> tuple[Float32, list[Bool]]:
        """Return z, and which units of each layer are active."""
        hidden = np.maximum(offset + self._first @ p[self._f :], 0)
        active = [hidden > 0]
        for matrix, bias in self._rest:
            hidden = np.maximum(hidden @ matrix.T + bias, 0)
            active.append(hidden > 0)
        return np.asarray(product @ p[: self._f] + hidden @ self._top + self._constant, np.float32), active

    def _slopes(self, active: list[Bool]) -> Float32:
        """Return the derivatives of z in p^M where these units are active."""
        back = active[-1] * self._top
        for (matrix, _), below in zip(self._rest[::-1], active[-2::-1], strict=True):
            back = (back @ matrix) * below
        return back @ self._first

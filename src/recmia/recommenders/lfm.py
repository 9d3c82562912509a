r"""The latent factor model, the paper's recommender.

`recmia.engine.sgd` trains it. A user that was not in the fit, or whose trained vector is not to be used, is folded in:
with the item vectors Q frozen, p_u is the exact minimiser of the training objective. With explicit feedback,

.. math:: (Q_H^\top Q_H + \lambda |H| I)\, p = Q_H^\top (r - \mu - b_H)

over the history H. With implicit feedback, every unseen item has r = 0, weighted by how often it is expected to be
sampled, :math:`w_0 = n_{neg} |H| / (n_{items} - |H|)`, so that

.. math:: (Q_H^\top Q_H + w_0 (Q^\top Q - Q_H^\top Q_H) + \lambda |H| (1 + n_{neg}) I)\, p = Q_H^\top 1,

where :math:`Q^\top Q` is computed once, and each sample adds its own :math:`\lambda |p|^2`.

A history H that is shorter than p has the smaller system. With :math:`Q^\top Q = U S U^\top`, all but the history in
the diagonal matrix :math:`D = w_0 S + \lambda |H| (1 + n_{neg}) I`, and :math:`A = Q_H U`, it is

.. math:: p = U D^{-1} A^\top (I + (1 - w_0) A D^{-1} A^\top)^{-1} (r - \mu - b_H),

where :math:`w_0 = 0` with explicit feedback.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.blas import one_blas_thread
from recmia.compiled import compiled
from recmia.data.interactions import Bool, Float32, Int32, Int64, Interactions
from recmia.engine.sgd import FASTMATH, Factorization, factorize
from recmia.errors import NotFittedError
from recmia.recommenders.base import VectorRecommender
from recmia.settings.recommenders import SGDSettings

Float64 = npt.NDArray[np.float64]

# Users solved in one call.
_USERS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class _Frozen:
    r"""What fold-in takes of the trained item vectors, computed once for a fit.

    Parameters
    ----------
    trained : Factorization
    Q : float32, shape (n_items, width)
        The item vectors; with biases the last column is 1.
    gram : float64, shape (width, width)
        :math:`Q^\top Q`; 0 with explicit feedback.
    spectrum, U, rotated : float64
        S, U and Q U of the module.
    """

    trained: Factorization
    Q: Float32
    gram: Float64
    spectrum: Float64
    U: Float64
    rotated: Float64

    @classmethod
    def of(cls, trained: Factorization, width: int, *, implicit: bool) -> Self:
        """Compute it."""
        # With biases the last unknown is b_u, whose item vector is constant 1.
        Q = np.ones((len(trained.item), width), np.float32)
        Q[:, : trained.item.shape[1]] = trained.item
        vectors = Q.astype(np.float64)
        if not implicit:
            return cls(trained, Q, np.zeros((width, width)), np.zeros(width), np.eye(width), vectors)
        # What BLAS splits among threads has other last bits.
        with one_blas_thread():
            gram = vectors.T @ vectors
            spectrum, U = np.linalg.eigh(gram)
            # Only trained items are looked up.
            vectors[trained.trained_items] = vectors[trained.trained_items] @ U
            return cls(trained, Q, gram, np.maximum(spectrum, 0), U, vectors)


class LFM(VectorRecommender):
    """Latent factor model, trained by SGD.

    Parameters
    ----------
    settings : SGDSettings, optional
    factors : int
        Latent dimension.
    threads : int
        How many threads fit, fold in and rank; no result depends on it.

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> data = Interactions.from_arrays(user=[1, 1, 2, 2, 3], item=[10, 20, 10, 30, 30])
    >>> model = LFM(SGDSettings(epochs=5), factors=4).fit(data, rng=np.random.default_rng(0))
    >>> model.recommend(data.csr(), 1).tolist()
    [[2], [1], [0]]
    >>> model.user_vectors.shape
    (3, 4)
    """

    def __init__(self, settings: SGDSettings | None = None, *, factors: int = 100, threads: int = 1) -> None:
        super().__init__(factors=factors, threads=threads)
        self.settings = SGDSettings() if settings is None else settings
        self._factorization: Factorization | None = None
        self._frozen: _Frozen | None = None

    @property
    def factorization(self) -> Factorization:
        """All that was trained, with the mean and the biases; NotFittedError before `fit`."""
        if self._factorization is None:
            raise NotFittedError("this LFM has no vectors before fit")
        return self._factorization

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Train on these interactions; see `recmia.engine.sgd`."""
        trained = factorize(interactions, self.settings, factors=self.factors, rng=rng, threads=self.threads)
        self._factorization = trained
        self._set_vectors(trained.user, trained.item, trained.item_bias, trained.trained_items)
        return self

    def fold_in(self, histories: sparse.csr_array) -> Float32:
        """Return user vectors for the given histories alone, float32, shape (n, factors).

        Items that the model was not trained on are left out. A history without a trained item gives the zero vector,
        whose list is that of the item biases (without biases, all items tie).
        """
        trained, settings = self.factorization, self.settings
        width, implicit = self.factors + settings.bias, settings.feedback == "implicit"
        if self._frozen is None or self._frozen.trained is not trained:
            self._frozen = _Frozen.of(trained, width, implicit=implicit)
        frozen = self._frozen
        vectors = np.zeros((histories.shape[0], width), np.float32)
        indptr = histories.indptr.astype(np.int64)

        def solve(start: int) -> None:
            _solve(
                indptr[start : start + _USERS_AT_ONCE + 1], histories.indices, histories.data, trained.trained_items,
                frozen.Q, trained.item_bias, trained.mean, frozen.gram, frozen.spectrum, frozen.U, frozen.rotated,
                settings.n_negatives if implicit else 0, settings.regularisation,
                vectors[start : start + _USERS_AT_ONCE],
            )  # fmt: skip

        with ThreadPoolExecutor(self.threads) as pool:
            for _ in pool.map(solve, range(0, len(vectors), _USERS_AT_ONCE)):
                pass
        return np.ascontiguousarray(vectors[:, : self.factors])


@compiled(nogil=True, fastmath=FASTMATH)
def _inner_products(rows: Float64, n: int, width: int, system: Float64) -> None:
    """Write the inner products of the first n rows to the lower triangle of a system.

    Four rows meet four others at a time, so that every number is fetched once for four products.

    Parameters
    ----------
    rows : float64, shape (at least n, at least width)
    n, width : int
    system : float64, shape (at least n, at least n)
        Some entries above the diagonal are written, too.
    """
    for a in range(0, n, 4):
        # The last row stands in for those that are missing.
        a1, a2, a3 = min(a + 1, n - 1), min(a + 2, n - 1), min(a + 3, n - 1)
        for b in range(0, a + 4, 4):
            b1, b2, b3 = min(b + 1, n - 1), min(b + 2, n - 1), min(b + 3, n - 1)
            t00 = t01 = t02 = t03 = t10 = t11 = t12 = t13 = np.float64(0)
            t20 = t21 = t22 = t23 = t30 = t31 = t32 = t33 = np.float64(0)
            for f in range(width):
                y0, y1, y2, y3 = rows[b, f], rows[b1, f], rows[b2, f], rows[b3, f]
                x = rows[a, f]
                t00 += x * y0
                t01 += x * y1
                t02 += x * y2
                t03 += x * y3
                x = rows[a1, f]
                t10 += x * y0
                t11 += x * y1
                t12 += x * y2
                t13 += x * y3
                x = rows[a2, f]
                t20 += x * y0
                t21 += x * y1
                t22 += x * y2
                t23 += x * y3
                x = rows[a3, f]
                t30 += x * y0
                t31 += x * y1
                t32 += x * y2
                t33 += x * y3
            system[a, b], system[a, b1], system[a, b2], system[a, b3] = t00, t01, t02, t03
            system[a1, b], system[a1, b1], system[a1, b2], system[a1, b3] = t10, t11, t12, t13
            system[a2, b], system[a2, b1], system[a2, b2], system[a2, b3] = t20, t21, t22, t23
            system[a3, b], system[a3, b1], system[a3, b2], system[a3, b3] = t30, t31, t32, t33


@compiled(nogil=True, fastmath=FASTMATH)
def _cholesky_solve(system: Float64, target: Float64, n: int) -> None:
    """Solve the leading n x n of a positive definite system in place; only its lower triangle is read.

    Two rows of the factor are found at a time, two columns at a time.
    """
    for i in range(0, n, 2):
        # The last row stands in for one that is missing.
        i1 = min(i + 1, n - 1)
        for j in range(0, i, 2):
            t00, t01, t10, t11 = system[i, j], system[i, j + 1], system[i1, j], system[i1, j + 1]
            for f in range(j):
                x0, x1, y0, y1 = system[i, f], system[i1, f], system[j, f], system[j + 1, f]
                t00 -= x0 * y0
                t01 -= x0 * y1
                t10 -= x1 * y0
                t11 -= x1 * y1
            t00 /= system[j, j]
            t10 /= system[j, j]
            system[i, j], system[i, j + 1] = t00, (t01 - t00 * system[j + 1, j]) / system[j + 1, j + 1]
            system[i1, j], system[i1, j + 1] = t10, (t11 - t10 * system[j + 1, j]) / system[j + 1, j + 1]
        t00, t10, t11 = system[i, i], system[i1, i], system[i1, i1]
        for f in range(i):
            x0, x1 = system[i, f], system[i1, f]
            t00 -= x0 * x0
            t10 -= x1 * x0
            t11 -= x1 * x1
        system[i, i] = np.sqrt(t00)
        if i1 > i:
            system[i1, i] = t10 / system[i, i]
            system[i1, i1] = np.sqrt(t11 - system[i1, i] * system[i1, i])
    for i in range(n):
        for f in range(i):
            target[i] -= system[i, f] * target[f]
        target[i] /= system[i, i]
    for i in range(n - 1, -1, -1):
        target[i] /= system[i, i]
        for f in range(i):
            target[f] -= system[i, f] * target[i]


@compiled(nogil=True, fastmath=FASTMATH)
def _solve(
    indptr: Int64, indices: Int32, values: Float32, trained_items: Bool, Q: Float32, item_bias: Float32, mean: float,
    gram: Float64, spectrum: Float64, U: Float64, rotated: Float64, n_negatives: int, reg: float, vectors: Float32,
) -> None:  # fmt: skip
    """Write the user vectors of the module's equations to `vectors`; ``n_negatives == 0`` means explicit feedback."""
    width, n_trained = vectors.shape[1], trained_items.sum()
    system, target = np.empty((width, width)), np.empty(width)
    seen, small, root = np.empty((width, 0)), np.empty((width, width)), np.empty(width)
    for row in range(len(vectors)):
        n = 0
        for k in range(indptr[row], indptr[row + 1]):
            n += trained_items[indices[k]]
        if n == 0:
            continue
        penalty, weight = reg * n, np.float64(0)
        if n_negatives and n_trained > n:
            weight = n_negatives * n / (n_trained - n)
            penalty *= 1 + n_negatives
        # A little ridge keeps the system solvable at lambda = 0, where the minimiser need not be unique.
        penalty = max(penalty, 1e-8)
        if n < width:
            for f in range(width):
                root[f] = 1 / np.sqrt(weight * spectrum[f] + penalty)
            n = 0
            for k in range(indptr[row], indptr[row + 1]):
                i = indices[k]
                if trained_items[i]:
                    target[n] = np.float64(1) if n_negatives else values[k] - mean - item_bias[i]
                    for f in range(width):
                        small[n, f] = rotated[i, f] * root[f]
                    n += 1
            _inner_products(small, n, width, system)
            for a in range(n):
                for b in range(a + 1):
                    system[a, b] = (1 - weight) * system[a, b] + (a == b)
            _cholesky_solve(system, target, n)
            for f in range(width):
                total = np.float64(0)
                for a in range(n):
                    total += small[a, f] * target[a]
                root[f] *= total
            for f in range(width):
                total = np.float64(0)
                for g in range(width):
                    total += U[f, g] * root[g]
                vectors[row, f] = total
            continue
        if n > seen.shape[1]:
            seen = np.empty((width, 2 * n))
        n = 0
        target[:] = 0
        for k in range(indptr[row], indptr[row + 1]):
            i = indices[k]
            if trained_items[i]:
                wanted = np.float64(1) if n_negatives else values[k] - mean - item_bias[i]
                for f in range(width):
                    seen[f, n] = Q[i, f]
                    target[f] += wanted * Q[i, f]
                n += 1
        _inner_products(seen, width, n, system)
        if weight > 0:
            for f in range(width):
                for g in range(f + 1):
                    system[f, g] += weight * (gram[f, g] - system[f, g])
        for f in range(width):
            system[f, f] += penalty
        _cholesky_solve(system, target, width)
        for f in range(width):
            vectors[row, f] = target[f]

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

import numba
import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.blas import one_blas_thread
from recmia.data.interactions import Bool, Float32, Int32, Int64, Interactions
from recmia.engine.matrices import padded
from recmia.engine.sgd import FASTMATH, Factorization, factorize
from recmia.errors import NotFittedError
from recmia.recommenders.base import VectorRecommender
from recmia.settings.recommenders import SGDSettings

Float64 = npt.NDArray[np.float64]

# Users solved in one call, and the float64s of a whole turn of the SIMD loop.
_USERS_AT_ONCE = 256
_LANES = 16


@dataclass(frozen=True, eq=False)
class _Frozen:
    r"""What fold-in takes of the trained item vectors, computed once for a fit.

    Parameters
    ----------
    trained : Factorization
    Q : float32, shape (n_items, lanes)
        The item vectors, padded; with biases the last column is 1.
    gram : float64, shape (lanes, lanes)
        :math:`Q^\top Q`, its lower triangle; 0 with explicit feedback.
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
    def of(cls, trained: Factorization, factors: int, width: int, *, implicit: bool) -> Self:
        """Compute it."""
        # With biases the last unknown is b_u, whose item vector is constant 1.
        Q = padded(trained.item, width, _LANES)
        Q[:, factors:width] = 1
        gram = np.zeros((Q.shape[1], Q.shape[1]))
        if implicit:
            _add_outer_products(gram, Q, len(Q), width)
        # What BLAS splits among threads has other last bits.
        with one_blas_thread():
            spectrum, U = np.linalg.eigh(gram[:width, :width])
            return cls(trained, Q, gram, np.maximum(spectrum, 0), U, Q[:, :width] @ U)


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
            self._frozen = _Frozen.of(trained, self.factors, width, implicit=implicit)
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


@numba.njit(cache=True, nogil=True, fastmath=FASTMATH)
def _add_outer_products(system: Float64, rows: npt.NDArray[np.floating], n: int, width: int) -> None:
    """Add the first n rows' outer products to the lower triangle of a system.

    Parameters
    ----------
    system : float64, shape (w, w)
        Entries above the diagonal get values without a meaning.
    rows : float, shape (at least n, w)
        Zero from column `width` on.
    n, width : int
    """
    for first in range(0, n, 4):
        # Four rows a turn, the last row standing in (times zero) for those that are missing.
        r1, r2, r3 = min(first + 1, n - 1), min(first + 2, n - 1), min(first + 3, n - 1)
        for f in range(width):
            a0 = np.float64(rows[first, f])
            a1 = np.float64(rows[r1, f]) * (first + 1 < n)
            a2 = np.float64(rows[r2, f]) * (first + 2 < n)
            a3 = np.float64(rows[r3, f]) * (first + 3 < n)
            for g in range((f // _LANES + 1) * _LANES):
                system[f, g] += a0 * rows[first, g] + a1 * rows[r1, g] + a2 * rows[r2, g] + a3 * rows[r3, g]


@numba.njit(cache=True, nogil=True, fastmath=FASTMATH)
def _cholesky_solve(system: Float64, target: Float64, n: int) -> None:
    """Solve the leading n x n of a positive definite system in place; only its lower triangle is read."""
    for i in range(n):
        for j in range(i + 1):
            total = system[i, j]
            for f in range(j):
                total -= system[i, f] * system[j, f]
            system[i, j] = np.sqrt(total) if i == j else total / system[j, j]
        for f in range(i):
            target[i] -= system[i, f] * target[f]
        target[i] /= system[i, i]
    for i in range(n - 1, -1, -1):
        target[i] /= system[i, i]
        for f in range(i):
            target[f] -= system[i, f] * target[i]


@numba.njit(cache=True, nogil=True, fastmath=FASTMATH)
def _solve(
    indptr: Int64, indices: Int32, values: Float32, trained_items: Bool, Q: Float32, item_bias: Float32, mean: float,
    gram: Float64, spectrum: Float64, U: Float64, rotated: Float64, n_negatives: int, reg: float, vectors: Float32,
) -> None:  # fmt: skip
    """Write the user vectors of the module's equations to `vectors`; ``n_negatives == 0`` means explicit feedback."""
    width, n_trained = vectors.shape[1], trained_items.sum()
    system, target = np.empty_like(gram), np.empty(len(gram))
    seen, small, root = np.empty((0, Q.shape[1])), np.empty((width, width)), np.empty(width)
    for row in range(len(vectors)):
        if indptr[row + 1] - indptr[row] > len(seen):
            seen = np.empty((2 * (indptr[row + 1] - indptr[row]), Q.shape[1]))
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
            for a in range(n):
                for b in range(a + 1):
                    total = np.float64(0)
                    for f in range(width):
                        total += small[a, f] * small[b, f]
                    system[a, b] = (1 - weight) * total + (a == b)
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
        n = 0
        target[:] = 0
        for k in range(indptr[row], indptr[row + 1]):
            i = indices[k]
            if trained_items[i]:
                wanted = np.float64(1) if n_negatives else values[k] - mean - item_bias[i]
                for f in range(Q.shape[1]):
                    seen[n, f] = Q[i, f]
                    target[f] += wanted * Q[i, f]
                n += 1
        system[:] = 0
        _add_outer_products(system, seen, n, width)
        if weight > 0:
            for f in range(width):
                for g in range(width):
                    system[f, g] += weight * (gram[f, g] - system[f, g])
        for f in range(width):
            system[f, f] += penalty
        _cholesky_solve(system, target, width)
        for f in range(width):
            vectors[row, f] = target[f]

r"""Alternating least squares and Bayesian personalised ranking, trained by the `implicit` library.

Both learn from which items a user has seen; ratings are ignored. Each user gets a vector p_u and each item a vector
q_i. A user that was not in the fit is folded in: with the items frozen, p_u minimises the model's own objective over
the history H, trained items only.

**ALS** (Hu, Koren and Volinsky 2008, eq. 3):

.. math:: \sum_{u,i} c_{ui} (p_{ui} - p_u^\top q_i)^2 + \lambda \Big(\sum_u |p_u|^2 + \sum_i |q_i|^2\Big),

with :math:`p_{ui} = 1, c_{ui} = 1 + \alpha` for a seen item and :math:`p_{ui} = 0, c_{ui} = 1` for any other. Fold-in
is eq. 4, :math:`(Q^\top Q + \alpha Q_H^\top Q_H + \lambda I)\, p = (1 + \alpha) Q_H^\top 1`, solved by `implicit`.

**BPR** (Rendle et al. 2009, section 4.1, BPR-Opt, and 4.3.1) ranks by :math:`s_i = p_u^\top q_i + b_i`. One sample is a
seen item i and an item j, which is drawn in proportion to its training interactions and dropped if u has seen it. The
expected loss of a sample of user u is therefore

.. math:: f(p) = \frac{1}{|H|} \sum_{i \in H} \sum_{j \notin H} w_j \ln(1 + e^{s_j - s_i}) + \frac{\lambda}{2} |p|^2,
          \qquad w_j = \frac{c_j}{\sum_{j' \notin H} c_{j'}},

with c_j the training interactions of j; fold-in is its minimiser, unique since f is strictly convex.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import ModuleType
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.blas import one_blas_thread
from recmia.compiled import compiled
from recmia.data.interactions import Bool, Float32, Int32, Int64, Interactions
from recmia.engine.matrices import keep_columns, padded
from recmia.engine.sgd import FASTMATH
from recmia.errors import DivergedError, import_extra
from recmia.recommenders.base import VectorRecommender
from recmia.settings.recommenders import ALSSettings, BPRSettings

Float64 = npt.NDArray[np.float64]

# BPR's fold-in ends when the gradient is this small relative to that of the zero vector; lists then no longer change.
_TOLERANCE = 1e-4
_MOST_STEPS = 200
# Users folded in by one call, so that threads share the work.
_USERS_AT_ONCE = 32
_LANES = 16


class _ImplicitModel(VectorRecommender):
    """What ALS and BPR share: a model of the library `implicit`, trained on the trained items only."""

    # How to mend a fit that diverged.
    _remedy: ClassVar[str]

    def __init__(self, *, factors: int, threads: int) -> None:
        super().__init__(factors=factors, threads=threads)
        self._library()

    def _library(self) -> ModuleType:
        return import_extra(f"implicit.cpu.{type(self).__name__.lower()}", "implicit")

    def _train(self, model: Any, interactions: Interactions, weight: float, *, biased: bool) -> None:
        """Train a model of `implicit`, and take over its vectors and, where it is biased, its item biases."""
        trained_items = interactions.item_counts() > 0
        seen = _weighted(interactions.csr(), trained_items, weight)
        failure = import_extra("implicit.recommender_base", "implicit").ModelFitError
        with one_blas_thread(), suppress(failure):
            model.fit(seen, show_progress=False)
        if not (np.isfinite(model.user_factors).all() and np.isfinite(model.item_factors).all()):
            raise DivergedError(f"{type(self).__name__} has factors that are not finite; {self._remedy}")
        items, bias = np.zeros((len(trained_items), self.factors), np.float32), np.zeros(len(trained_items), np.float32)
        items[trained_items] = model.item_factors[:, : self.factors]
        if biased:
            bias[trained_items] = model.item_factors[:, self.factors]
        users = np.ascontiguousarray(model.user_factors[:, : self.factors])
        self._set_vectors(users, items, bias, trained_items)


class ALS(_ImplicitModel):
    """Alternating least squares for implicit feedback; the module's first equation.

    Parameters
    ----------
    settings : ALSSettings, optional
    factors, threads : int
        Latent dimension, and how many threads fit, fold in and rank; no result depends on the latter.

    Raises
    ------
    MissingExtraError
        Without the package `implicit`.
    """

    _remedy = "raise als.regularisation"

    def __init__(self, settings: ALSSettings | None = None, *, factors: int = 100, threads: int = 1) -> None:
        super().__init__(factors=factors, threads=threads)
        self.settings = ALSSettings() if settings is None else settings
        self._model: Any = None

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Train; see `Recommender.fit`."""
        settings = self.settings
        with one_blas_thread():
            self._model = self._library().AlternatingLeastSquares(
                factors=self.factors,
                regularization=settings.regularisation,
                iterations=settings.iterations,
                num_threads=self.threads,
                random_state=int(rng.integers(2**31)),
            )
        self._train(self._model, interactions, 1 + settings.alpha, biased=False)
        return self

    def fold_in(self, histories: sparse.csr_array) -> Float32:
        """Return the user vectors that solve the module's equation; see `VectorRecommender.fold_in`."""
        trained_items = self.fitted_items()
        # Q'Q, which `implicit` computes at the first call, must not depend on how many threads BLAS has.
        with one_blas_thread():
            rows = _weighted(histories, trained_items, 1 + self.settings.alpha)
            return self._model.recalculate_user(np.arange(histories.shape[0]), rows)


class BPR(_ImplicitModel):
    """Bayesian personalised ranking with item biases; the module's second equation.

    Parameters
    ----------
    settings : BPRSettings, optional
    factors, threads : int
        Latent dimension, and how many threads fold in and rank; no result depends on the latter. One thread trains,
        because several would race for the vectors.

    Raises
    ------
    MissingExtraError
        Without the package `implicit`.
    """

    _remedy = "lower bpr.learning_rate"

    def __init__(self, settings: BPRSettings | None = None, *, factors: int = 100, threads: int = 1) -> None:
        super().__init__(factors=factors, threads=threads)
        self.settings = BPRSettings() if settings is None else settings
        self._weight = np.zeros(0, np.float32)
        self._metric = np.zeros((factors, factors))

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Train; see `Recommender.fit`."""
        settings = self.settings
        model = self._library().BayesianPersonalizedRanking(
            factors=self.factors,
            learning_rate=settings.learning_rate,
            regularization=settings.regularisation,
            iterations=settings.epochs,
            num_threads=1,
            random_state=int(rng.integers(2**31)),
        )
        self._train(model, interactions, 1, biased=True)
        self._weight = interactions.item_counts().astype(np.float32)
        # The curvature of a user whose seen items vary like all items, at a loss where sigmoid' is 1/10. A fold-in that
        # starts from it takes about two thirds of the steps that one from a multiple of the unit matrix takes.
        trained_items = self.fitted_items()
        with one_blas_thread():
            spread = np.cov(
                self.item_vectors[trained_items].T, aweights=self._weight[trained_items], ddof=0, dtype=np.float64
            )
            curvature = 0.2 * np.atleast_2d(spread) + settings.regularisation * np.eye(self.factors)
            self._metric = np.linalg.inv(curvature).astype(np.float64)
        return self

    def fold_in(self, histories: sparse.csr_array) -> Float32:
        """Return the user vectors that minimise the module's objective; see `VectorRecommender.fold_in`."""
        trained_items = self.fitted_items()
        rows = keep_columns(histories, trained_items)
        Q = padded(self.item_vectors[trained_items], self.factors, _LANES)
        bias, weight = self.item_bias[trained_items], self._weight[trained_items]
        vectors = np.zeros((rows.shape[0], self.factors), np.float32)
        indptr = rows.indptr.astype(np.int64)

        def solve(start: int) -> bool:
            return _rank_pairs(
                indptr[start : start + _USERS_AT_ONCE + 1], rows.indices, Q, bias, weight, self._metric,
                self.settings.regularisation, vectors[start : start + _USERS_AT_ONCE],
            )  # fmt: skip

        with one_blas_thread(), ThreadPoolExecutor(self.threads) as pool:
            converged = all(list(pool.map(solve, range(0, len(vectors), _USERS_AT_ONCE))))
        if not converged:
            raise DivergedError(
                f"the fold-in of BPR found no minimum in {_MOST_STEPS} steps; raise bpr.regularisation "
                f"(now {self.settings.regularisation:g})"
            )
        return vectors


def _weighted(histories: sparse.csr_array, items: Bool, weight: float) -> sparse.csr_matrix:
    """The columns of some items, every interaction with the same weight."""
    seen = keep_columns(histories, items)
    seen.data = np.full(len(seen.indices), weight, np.float32)
    return seen


# Inlined, because a process that compiles would otherwise call another copy of the function, with other last bits, than
# one that loads its caller from numba's cache.
@compiled(nogil=True, fastmath=FASTMATH, error_model="numpy", forceinline=True)
def _gradient(
    p: Float64, seen: Int32, Q: Float32, bias: Float32, weight: Float32, reg: float, inverse: Float32, pull: Float32,
    gradient: Float64,
) -> None:  # fmt: skip
    """Write the gradient of the module's f(p) to `gradient`; `inverse` and `pull` are work space per seen item.

    With x_i = e^{s_i}, the derivative of ln(1 + e^{s_j - s_i}) by s_j is x_j / (x_i + x_j), and by s_i its negative.
    """
    n, width = len(seen), Q.shape[1]
    vector, total = np.zeros(width, np.float32), np.zeros(width, np.float32)
    vector[: len(p)] = p.astype(np.float32)
    centre = np.float32(0)
    for k in range(n):
        s = bias[seen[k]]
        for f in range(width):
            s += Q[seen[k], f] * vector[f]
        inverse[k], pull[k] = s, 0
        centre += s / np.float32(n)
    # Beyond 30 from the centre the sigmoid is 0 or 1 to more digits than a float32 has, and no product overflows.
    most = np.float32(30)
    for k in range(n):
        inverse[k] = np.exp(min(max(inverse[k] - centre, -most), most))
    unseen = np.float32(0)
    for j in range(0, len(Q), 2):
        # Two items per turn share one division; the last item stands in, with weight zero, for a missing second one.
        j2 = min(j + 1, len(Q) - 1)
        s1, s2 = bias[j] - centre, bias[j2] - centre
        for f in range(width):
            s1 += Q[j, f] * vector[f]
            s2 += Q[j2, f] * vector[f]
        x1, x2 = np.exp(min(max(s1, -most), most)), np.exp(min(max(s2, -most), most))
        w1, w2 = weight[j], weight[j2] * np.float32(j2 > j)
        unseen += w1 + w2
        push1, push2 = np.float32(0), np.float32(0)
        for k in range(n):
            d1, d2 = inverse[k] + x1, inverse[k] + x2
            share = np.float32(1) / (d1 * d2)
            t1, t2 = x1 * d2 * share, x2 * d1 * share
            push1 += t1
            push2 += t2
            pull[k] += w1 * t1 + w2 * t2
        push1 *= w1
        push2 *= w2
        for f in range(width):
            total[f] += push1 * Q[j, f] + push2 * Q[j2, f]
    for k in range(n):
        for f in range(width):
            total[f] -= pull[k] * Q[seen[k], f]
    for f in range(len(p)):
        gradient[f] = total[f] / (unseen * n) + reg * p[f]


@compiled(nogil=True)
def _rank_pairs(
    indptr: Int64, items: Int32, Q: Float32, bias: Float32, counts: Float32, metric: Float64, reg: float,
    vectors: Float32,
) -> bool:  # fmt: skip
    """Minimise f for each user by L-BFGS (Nocedal and Wright 2006, algorithm 7.4), from `metric` as inverse curvature.

    f is convex, so a line search needs nothing but its slope along a step: a step that goes nearly twice as far as the
    minimum is shortened to where the secant of the slopes puts the minimum. Returns whether all users converged.
    """
    width = len(metric)
    longest = np.diff(indptr).max()
    inverse, pull = np.empty(longest, np.float32), np.empty(longest, np.float32)
    steps, changes = np.empty((_MOST_STEPS, width)), np.empty((_MOST_STEPS, width))
    curvature, along = np.empty(_MOST_STEPS), np.empty(_MOST_STEPS)
    gradient, after = np.empty(width), np.empty(width)
    for row in range(len(vectors)):
        seen = items[indptr[row] : indptr[row + 1]]
        weight = counts.copy()
        weight[seen] = 0
        if len(seen) == 0 or not weight.any():
            continue
        p = np.zeros(width)
        _gradient(p, seen, Q, bias, weight, reg, inverse, pull, gradient)
        wanted = _TOLERANCE * np.sqrt(gradient @ gradient)
        n = 0
        while np.sqrt(gradient @ gradient) > wanted:
            if n == _MOST_STEPS:
                return False
            direction = -gradient
            for h in range(n - 1, -1, -1):
                along[h] = (steps[h] @ direction) / curvature[h]
                direction -= along[h] * changes[h]
            direction = metric @ direction
            for h in range(n):
                direction += (along[h] - (changes[h] @ direction) / curvature[h]) * steps[h]
            slope, length = float(gradient @ direction), 1.0
            _gradient(p + direction, seen, Q, bias, weight, reg, inverse, pull, after)
            while after @ direction > -0.9 * slope:
                length *= slope / (slope - float(after @ direction))
                _gradient(p + length * direction, seen, Q, bias, weight, reg, inverse, pull, after)
            steps[n], changes[n] = length * direction, after - gradient
            curvature[n] = steps[n] @ changes[n]
            p += steps[n]
            gradient[:] = after
            n += 1
        vectors[row] = p
    return True

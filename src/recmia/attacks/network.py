r"""The paper's multi-layer perceptron (Hu 2023, section 3), trained in compiled code.

It is scikit-learn's `MLPClassifier` with the solver "sgd": layers :math:`a_{l+1} = \max(0, a_l W_l + b_l)`, the last of
them one number, the log odds z of membership; the mean over a batch of :math:`\log(1 + e^z) - y z` is minimised by
gradient descent with momentum,

.. math:: v \leftarrow \mu v - \gamma g, \qquad W \leftarrow W + v,

from uniform weights in :math:`\pm \sqrt{6 / (n_{in} + n_{out})}` (Glorot and Bengio 2010, eq. 16), and users are
shuffled before every epoch. An audit trains many networks on a few hundred users each: a step takes ten microseconds
here, less than a call of a library.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from recmia.blas import one_blas_thread
from recmia.compiled import compiled
from recmia.errors import DivergedError

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


class Network:
    r"""A network for two classes; it standardises its input by the rows that it is fitted on.

    Parameters
    ----------
    seed : int
        Draws the first weights and the order of the rows.
    hidden : sequence of int
        Widths of the hidden layers.
    learning_rate, momentum : float
        The equation's :math:`\gamma` and :math:`\mu`.
    epochs : int
    batch_size : int
        Rows of a step; the last step of an epoch takes what is left.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> made = Network(0, hidden=(8,), learning_rate=0.1, momentum=0.9, epochs=50, batch_size=10).fit(X, X[:, 0] > 0)
    >>> bool((made.decision_function(X) > 0).sum() > 90)
    True
    """

    def __init__(
        self, seed: int, *, hidden: Sequence[int], learning_rate: float, momentum: float, epochs: int, batch_size: int
    ) -> None:
        self._seed, self._hidden, self._epochs, self._batch_size = seed, tuple(hidden), epochs, batch_size
        self._learning_rate, self._momentum = np.float32(learning_rate), np.float32(momentum)
        self._layers: list[tuple[Float32, Float32]] = []
        self._mean, self._scale = np.zeros(0), np.ones(0)

    def fit(self, X: npt.NDArray[Any], y: npt.NDArray[Any]) -> Self:
        """Train on the rows of X, float, shape (n, width), of which y, bool, shape (n,), are of the class 1.

        Raises
        ------
        DivergedError
            If a weight is no longer finite.
        """
        rng = np.random.default_rng(self._seed)
        self._mean, spread = X.mean(axis=0), X.std(axis=0)
        self._scale = np.where(spread > 0, spread, 1)
        sizes = np.array([X.shape[1], *self._hidden, 1])
        drawn = []
        for into, out in pairwise(sizes):
            bound = np.sqrt(6 / (into + out))
            drawn.append(rng.uniform(-bound, bound, (into + 1) * out))
        weights = np.concatenate(drawn).astype(np.float32)
        velocity, rows, labels = np.zeros_like(weights), self._standardised(X), y.astype(np.float32)
        # What BLAS splits among threads has other last bits.
        with one_blas_thread():
            for _ in range(self._epochs):
                order = rng.permutation(len(rows))
                _train_epoch(
                    rows[order], labels[order], sizes, weights, velocity, self._batch_size, self._learning_rate,
                    self._momentum,
                )  # fmt: skip
        if not np.isfinite(weights).all():
            raise DivergedError(
                f"the weights of the network were no longer finite after {self._epochs} epochs at learning rate "
                f"{self._learning_rate:g} and momentum {self._momentum:g}; lower the learning rate (setting "
                f"attacker.mlp.learning_rate; try {self._learning_rate / 10:g})"
            )
        self._layers, start = [], 0
        for into, out in pairwise(sizes):
            middle, end = start + into * out, start + (into + 1) * out
            self._layers.append((weights[start:middle].reshape(into, out), weights[middle:end]))
            start = end
        return self

    def decision_function(self, X: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return the log odds of the class 1 for each row, float64, shape (n,)."""
        rows = self._standardised(X)
        with one_blas_thread():
            for number, (weights, bias) in enumerate(self._layers, 1):
                rows = rows @ weights + bias
                if number < len(self._layers):
                    rows = np.maximum(rows, 0)
        return rows[:, 0].astype(np.float64)

    def _standardised(self, X: npt.NDArray[Any]) -> Float32:
        return ((X - self._mean) / self._scale).astype(np.float32)


@compiled(nogil=True)
def _train_epoch(
    X: Float32,
    y: Float32,
    sizes: Int64,
    weights: Float32,
    velocity: Float32,
    step: int,
    rate: np.float32,
    momentum: np.float32,
) -> None:
    """Train on the rows in their order; `weights` holds the matrix and then the bias of each layer, one after another.

    Parameters
    ----------
    X : float32, shape (n, sizes[0])
    y : float32, shape (n,)
    sizes : int64, shape (layers + 1,)
    weights, velocity : float32, shape (m,)
        Changed in place.
    step : int
        Rows of a step.
    rate, momentum : float32
    """
    layers = len(sizes) - 1
    gradient = np.empty_like(weights)
    # Views of `weights` and `gradient`, and what goes forward and back; numba infers their types from these first ones.
    W, dW = [X for _ in range(layers)], [X for _ in range(layers)]
    b, db = [y for _ in range(layers)], [y for _ in range(layers)]
    values, errors = [X for _ in range(layers + 1)], [X for _ in range(layers)]
    start = 0
    for layer in range(layers):
        n_in, n_out = sizes[layer], sizes[layer + 1]
        middle, end = start + n_in * n_out, start + (n_in + 1) * n_out
        W[layer], b[layer] = weights[start:middle].reshape(n_in, n_out), weights[middle:end]
        dW[layer], db[layer] = gradient[start:middle].reshape(n_in, n_out), gradient[middle:end]
        values[layer + 1] = np.empty((step, n_out), np.float32)
        errors[layer] = np.empty((step, n_out), np.float32)
        start = end
    for first in range(0, len(X), step):
        values[0] = X[first : first + step]
        n = len(values[0])
        for layer in range(layers):
            np.dot(values[layer][:n], W[layer], values[layer + 1][:n])
            for row in range(n):
                for unit in range(sizes[layer + 1]):
                    value = values[layer + 1][row, unit] + b[layer][unit]
                    values[layer + 1][row, unit] = value if layer == layers - 1 else max(value, np.float32(0))
        for row in range(n):
            probability = np.float32(1) / (np.float32(1) + np.exp(-values[layers][row, 0]))
            errors[layers - 1][row, 0] = (probability - y[first + row]) / np.float32(n)
        for layer in range(layers - 1, -1, -1):
            error = errors[layer][:n]
            np.dot(values[layer][:n].T, error, dW[layer])
            db[layer][:] = 0
            for row in range(n):
                db[layer] += error[row]
            if layer > 0:
                np.dot(error, W[layer].T, errors[layer - 1][:n])
                for row in range(n):
                    for unit in range(sizes[layer]):
                        if values[layer][row, unit] <= 0:
                            errors[layer - 1][row, unit] = 0
        for place in range(len(weights)):
            velocity[place] = momentum * velocity[place] - rate * gradient[place]
            weights[place] += velocity[place]

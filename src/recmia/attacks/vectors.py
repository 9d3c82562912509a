r"""User vectors: history minus list (Hu 2023; Zhang et al. 2021, section 4.2).

.. math:: v_u = \frac{1}{|H_u|} \sum_{i \in H_u} q_i - \sum_{j=1}^{k} w_j\, q_{L_u[j]}

with :math:`w_j = 1/k` (the paper's centre vector) or :math:`w_j = (k - j + 1) / (k (k + 1) / 2)` (the weights in the
code that Zhang et al. published). An item that does not occur in the attacker's data has no vector. It is left out of
both means, and the other weights are rescaled to sum to one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.observation import Items, Observation, blocks, rank_by_popularity

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class UserVectors:
    """The mean item vectors of n users.

    Parameters
    ----------
    history : float64, shape (n, factors)
        Mean of the item vectors over each history.
    shown : float64, shape (n, factors)
        Weighted mean of the item vectors over each list.
    popular : float64, shape (factors,)
        The same over the list of the k most popular items that have a vector.
    usable : bool, shape (n,)
        False where no item of the history, or none of the list, has a vector; both means are then 0.
    """

    history: Float64
    shown: Float64
    popular: Float64
    usable: Bool

    @property
    def difference(self) -> Float64:
        """The paper's user vectors, history minus list: float64, shape (n, factors)."""
        return self.history - self.shown


def rank_weights(kind: str, k: int) -> Float64:
    """Return the weights w_1 .. w_k of the module's equation ("uniform" or "linear"): float64[k], sum one.

    >>> rank_weights("linear", 3) * 6
    array([3., 2., 1.])
    """
    if kind == "uniform":
        return np.full(k, 1 / k)
    return np.arange(k, 0, -1) / (k * (k + 1) / 2)


def user_vectors(observation: Observation, weights: str = "uniform") -> UserVectors:
    """Return the mean item vectors of the observed users, which are computed once for each observation.

    Parameters
    ----------
    observation : Observation
    weights : {"uniform", "linear"}
        Weights of the ranks.

    Examples
    --------
    >>> from recmia.testing import planted_leak
    >>> user_vectors(planted_leak("none", np.random.default_rng(0))[0]).difference.shape
    (300, 8)
    """
    items, k = observation.items, observation.lists.shape[1]
    width = items.vectors.shape[1]
    # Both means and `usable` in one array, so that `Observation.take` can select users from it.
    both = observation.feature(f"user vectors, {weights}", lambda seen: _means(seen, weights))
    popular = rank_by_popularity(np.where(items.has_vector, items.popularity, -1))[:k]
    return UserVectors(
        history=both[:, :width],
        shown=both[:, width : 2 * width],
        popular=_list_means(popular[None], items, weights)[0][0],
        usable=both[:, -1] > 0,
    )


def unknown_shares(observation: Observation) -> tuple[float, float]:
    """Return the shares of the entries of all histories, and of all lists, that have no vector.

    >>> from recmia.testing import planted_leak
    >>> unknown_shares(planted_leak("none", np.random.default_rng(0))[0])
    (0.0, 0.0)
    """
    has_vector = observation.items.has_vector
    unknown, listed = 0, 0
    for rows in blocks(len(observation)):
        lists = observation.lists[rows]
        shown = lists >= 0
        unknown += int((shown & ~has_vector[lists]).sum())
        listed += int(shown.sum())
    return float(np.mean(~has_vector[observation.histories.indices])), unknown / max(listed, 1)


def _means(observation: Observation, weights: str) -> Float64:
    """Return float64[n, 2 factors + 1]: mean over the history, mean over the list, and 1 where both exist."""
    items = observation.items
    width = items.vectors.shape[1]
    both = np.empty((len(observation), 2 * width + 1))
    both[:, :width], has_history = _history_means(observation.histories, items)
    both[:, width:-1], has_list = _list_means(observation.lists, items, weights)
    usable = has_history & has_list
    both[~usable] = 0
    both[:, -1] = usable
    return both


def _history_means(histories: sparse.csr_array, items: Items) -> tuple[Float64, Bool]:
    n = histories.shape[0]
    means, known = np.empty((n, items.vectors.shape[1])), np.empty(n, np.bool_)
    for rows in blocks(n):
        ends = histories.indptr[rows.start : rows.stop + 1]
        seen = histories.indices[ends[0] : ends[-1]]
        weights = items.has_vector[seen].astype(np.float64)
        counts = np.diff(np.concatenate([[0], np.cumsum(weights)])[ends - ends[0]])
        means[rows], known[rows] = _weighted(weights, seen, ends - ends[0], counts, items)
    return means, known


def _list_means(lists: Int32, items: Items, kind: str) -> tuple[Float64, Bool]:
    n, k = lists.shape
    means, known = np.empty((n, items.vectors.shape[1])), np.empty(n, np.bool_)
    for rows in blocks(n):
        part = lists[rows]
        weights = ((part >= 0) & items.has_vector[part]) * rank_weights(kind, k)
        listed, ends = np.maximum(part, 0).ravel(), np.arange(0, part.size + 1, k, dtype=np.int32)
        means[rows], known[rows] = _weighted(weights.ravel(), listed, ends, weights.sum(axis=1), items)
    return means, known


def _weighted(weights: Float64, rows: Int32, ends: Int32, totals: Float64, items: Items) -> tuple[Float64, Bool]:
    """Return weighted means of item vectors, and which have any weight; user u has ``rows[ends[u]:ends[u + 1]]``."""
    matrix = sparse.csr_array((weights, rows, ends), shape=(len(totals), len(items.vectors)))
    return (matrix @ items.vectors) / np.where(totals > 0, totals, 1)[:, None], totals > 0

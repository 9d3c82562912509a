r"""From a user to a vector (Hu 2023; Zhang et al. 2021, section 4.2).

.. math:: v_u = \frac{1}{|H_u|} \sum_{i \in H_u} q_i - \sum_{j=1}^{k} w_j\, q_{L_u[j]}

with :math:`w_j = 1/k` (the centre vector of the paper) or :math:`w_j = (k - j + 1) / (k (k + 1) / 2)` (the weights of
Zhang's released code). An item that the attacker has never seen has no vector: it is left out of both means, whose
weights are then rescaled to sum to one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.factorization import Factors
from recmia.game import rank_by_popularity
from recmia.interactions import Bool, Int32, Interactions
from recmia.observation import Observation, blocks

RankWeights = Literal["uniform", "linear"]
ItemVectorSource = Literal["shadow", "public", "all"]
Float64 = npt.NDArray[np.float64]


def rank_weights(kind: RankWeights, k: int) -> Float64:
    """The weights w_1 .. w_k of the module's equation, float64, shape (k,), summing to one."""
    if kind == "uniform":
        return np.full(k, 1 / k)
    return np.arange(k, 0, -1) / (k * (k + 1) / 2)


@dataclass(frozen=True, eq=False)
class AttackerView:
    """What the attacker brings along to turn users into vectors.

    Parameters
    ----------
    item_vectors : float64, shape (n_items, l)
    known : bool, shape (n_items,)
        Which items have a vector.
    popularity : int64, shape (n_items,)
        Counts over all of the attacker's users, members or not: a count over members alone would leak the label.
    weights : {"uniform", "linear"}
    """

    item_vectors: Float64
    known: Bool
    popularity: npt.NDArray[np.int64]
    weights: RankWeights = "uniform"

    @classmethod
    def of(cls, factors: Factors, shadow: Interactions, weights: RankWeights = "uniform") -> AttackerView:
        """Combine item vectors with the popularity counts of the shadow side."""
        return cls(factors.item.astype(np.float64), factors.known, shadow.item_counts(), weights)

    def observe(self, interactions: Interactions, lists: Int32) -> Observation:
        """Look at users: their histories, their lists, and the vectors made of both.

        Parameters
        ----------
        interactions : Interactions
            Of the n observed users.
        lists : int32, shape (n, k)

        Returns
        -------
        Observation
        """
        histories = interactions.csr()
        history_mean, has_history = self._history_means(histories)
        list_mean, has_list = self._list_means(lists)
        popular = rank_by_popularity(np.where(self.known, self.popularity, -1))[: lists.shape[1]]
        has_vector = has_history & has_list
        history_mean[~has_vector] = list_mean[~has_vector] = 0
        return Observation(
            histories=histories,
            lists=lists,
            history_mean=history_mean,
            list_mean=list_mean,
            popular_mean=self._list_means(popular[None])[0][0],
            has_vector=has_vector,
            popularity=self.popularity,
            last_time=interactions.last_time(),
        )

    def unknown_shares(self, observation: Observation) -> tuple[float, float]:
        """Shares of history entries and of list entries that were left out for want of a vector."""
        unknown, listed = 0, 0
        for rows in blocks(len(observation)):
            shown = observation.lists[rows] >= 0
            unknown += int((shown & ~self.known[observation.lists[rows]]).sum())
            listed += int(shown.sum())
        return float(np.mean(~self.known[observation.histories.indices])), unknown / max(listed, 1)

    def _history_means(self, histories: sparse.csr_array) -> tuple[Float64, Bool]:
        n = histories.shape[0]
        means, known = np.empty((n, self.item_vectors.shape[1])), np.empty(n, np.bool_)
        for rows in blocks(n):
            ends = histories.indptr[rows.start : rows.stop + 1]
            items = histories.indices[ends[0] : ends[-1]]
            weights = self.known[items].astype(np.float64)
            counts = np.diff(np.concatenate([[0], np.cumsum(weights)])[ends - ends[0]])
            means[rows], known[rows] = self._means(weights, items, ends - ends[0], counts)
        return means, known

    def _list_means(self, lists: Int32) -> tuple[Float64, Bool]:
        n, k = lists.shape
        means, known = np.empty((n, self.item_vectors.shape[1])), np.empty(n, np.bool_)
        for rows in blocks(n):
            part = lists[rows]
            weights = ((part >= 0) & self.known[part]) * rank_weights(self.weights, k)
            items, ends = np.maximum(part, 0).ravel(), np.arange(0, part.size + 1, k, dtype=np.int32)
            means[rows], known[rows] = self._means(weights.ravel(), items, ends, weights.sum(axis=1))
        return means, known

    def _means(self, weights: Float64, items: Int32, ends: Int32, totals: Float64) -> tuple[Float64, Bool]:
        """Weighted means of item vectors, and where there is any weight; user u has the entries up from ``ends[u]``."""
        matrix = sparse.csr_array((weights, items, ends), shape=(len(totals), len(self.item_vectors)))
        return (matrix @ self.item_vectors) / np.where(totals > 0, totals, 1)[:, None], totals > 0

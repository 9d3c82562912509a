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
from recmia.observation import Observation

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
        return Observation(
            histories=histories,
            lists=lists,
            history_mean=np.where(has_vector[:, None], history_mean, 0),
            list_mean=np.where(has_vector[:, None], list_mean, 0),
            popular_mean=self._list_means(popular[None])[0][0],
            has_vector=has_vector,
            popularity=self.popularity,
            last_time=interactions.last_time(),
        )

    def unknown_shares(self, observation: Observation) -> tuple[float, float]:
        """Shares of history entries and of list entries that were left out for want of a vector."""
        listed = observation.lists[observation.lists >= 0]
        return (
            float(np.mean(~self.known[observation.histories.indices])),
            float(np.mean(~self.known[listed])) if len(listed) else 0.0,
        )

    def _history_means(self, histories: sparse.csr_array) -> tuple[Float64, Bool]:
        pattern = sparse.csr_array(
            (self.known[histories.indices].astype(np.float64), histories.indices, histories.indptr),
            histories.shape,
        )
        counts: Float64 = pattern.sum(axis=1)
        return (pattern @ self.item_vectors) / np.maximum(counts, 1)[:, None], counts > 0

    def _list_means(self, lists: Int32) -> tuple[Float64, Bool]:
        present = (lists >= 0) & self.known[lists]
        weights = present * rank_weights(self.weights, lists.shape[1])
        totals = weights.sum(axis=1)
        n, k = lists.shape
        matrix = sparse.csr_array(
            (weights.ravel(), np.maximum(lists, 0).ravel(), np.arange(0, n * k + 1, k)),
            shape=(n, len(self.item_vectors)),
        )
        return (matrix @ self.item_vectors) / np.where(totals > 0, totals, 1)[:, None], totals > 0

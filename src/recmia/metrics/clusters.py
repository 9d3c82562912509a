r"""Figures of interactions, of which those of one user depend on each other: the users are what is sampled.

Intervals come of a bootstrap over users: each replicate draws as many users as there are, with replacement, and takes
all interactions of each (Field and Welsh 2007, "Bootstrapping clustered data"). Its standard error s gives an effective
number of independent observations,

.. math:: n_{eff} = \frac{A (1 - A)}{s^2} ,

for which the interval is that of Clopper and Pearson (Korn and Graubard 1998, "Confidence intervals for proportions
with small expected number of positive counts estimated from survey data"). Where no replicate differs, it is the number
of users. The replicates are drawn from a stream of their own: the same scores give the same interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import special

from recmia.errors import ProtocolError
from recmia.metrics.intervals import CONFIDENCE, Estimate, proportion_ends
from recmia.metrics.roc import FALSE_POSITIVE_RATES, Bool, Float64, check_scores
from recmia.seeding import rng_for

_REPLICATES = 200


@dataclass(frozen=True, eq=False)
class Clustered:
    """Scores of interactions, with whom each is of.

    Parameters
    ----------
    member : bool, shape (m,)
        Whether each was in the training data.
    score : float64, shape (m,)
    user : int64, shape (m,)
        Rows of users, from 0.

    Raises
    ------
    ProtocolError
        As `recmia.metrics.roc.check_scores`, and for users of another shape.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> user, member = np.repeat(np.arange(50), 20), rng.random(1000) < 0.5
    >>> found = Clustered(member, rng.normal(size=1000) + member, user).auc()
    >>> bool(found.low < found.value < found.high)
    True
    """

    member: Bool
    score: Float64
    user: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        check_scores(self.member, self.score)
        if self.user.shape != self.score.shape:
            raise ProtocolError(f"user must have shape {self.score.shape}; got {self.user.shape}")

    def take(self, chosen: Bool) -> Clustered:
        """Return some of the interactions; their users are numbered anew."""
        return Clustered(self.member[chosen], self.score[chosen], users_of(self.user[chosen]))

    @property
    def n_users(self) -> int:
        """The number of users."""
        return int(self.user.max()) + 1

    def auc(self, confidence: float = CONFIDENCE) -> Estimate:
        """Return the AUC of the interactions, with its interval."""
        return self._estimate(0, confidence)

    def tpr(self, rate: float, confidence: float = CONFIDENCE) -> Estimate:
        """Return the TPR at a false-positive rate, one of `FALSE_POSITIVE_RATES`, with its interval."""
        n = int((~self.member).sum())
        if rate * n < 1:
            note = f"not resolvable with {n} interactions that were not trained on: the finest rate is {1 / n:.2g}"
            return Estimate(None, None, None, note)
        return self._estimate(1 + FALSE_POSITIVE_RATES.index(rate), confidence)

    def _estimate(self, which: int, confidence: float) -> Estimate:
        value = float(self._figures(np.ones(self.n_users))[which])
        spread = float(self._replicates[:, which].std(ddof=1))
        effective = float(self.n_users)
        # Equal replicates differ by rounding.
        if 0 < value < 1 and self.n_users > 1 and spread > 1e-12:
            # Few users tell the spread badly: as Student's t is to the normal distribution.
            wider = special.stdtrit(self.n_users - 1, (1 + confidence) / 2) / special.ndtri((1 + confidence) / 2)
            effective = min(value * (1 - value) / (spread * wider) ** 2, float(len(self.score)))
        low, high = proportion_ends(value, effective, confidence)
        return Estimate(value, float(low), float(high))

    @cached_property
    def _replicates(self) -> Float64:
        """AUC and TPRs of each replicate: float64, shape (_REPLICATES, 1 + len(FALSE_POSITIVE_RATES))."""
        rng, n = rng_for(0, "cluster bootstrap"), self.n_users
        drawn = (rng.multinomial(n, np.full(n, 1 / n)).astype(np.float64) for _ in range(_REPLICATES))
        return np.stack([self._figures(weight) for weight in drawn])

    @cached_property
    def _sorted(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The users of members and of others, from the highest score, and where each block of equal scores ends."""
        order = np.argsort(-self.score, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(self.score[order])), len(order) - 1)
        return order, ends, self.user[order]

    def _figures(self, weight: Float64) -> Float64:
        """Return AUC and TPRs with a weight for each user."""
        order, ends, user = self._sorted
        each, inside = weight[user], self.member[order]
        found, false = (np.append(0.0, np.cumsum(each * kind)[ends]) for kind in (inside, ~inside))
        if not found[-1] or not false[-1]:
            return np.full(1 + len(FALSE_POSITIVE_RATES), 0.5)
        tpr, fpr = found / found[-1], false / false[-1]
        area = float((np.diff(fpr) * (tpr[1:] + tpr[:-1])).sum() / 2)
        # Vertices ascend, so the last with a rate that is allowed finds most.
        places = np.searchsorted(fpr, np.asarray(FALSE_POSITIVE_RATES) * (1 + 1e-12), "right") - 1
        return np.concatenate([[area], tpr[places]])


def users_of(ids: Sequence[object] | npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """Return rows of users for their ids, int64, shape (m,).

    >>> users_of(np.array(["b", "a", "b"])).tolist()
    [1, 0, 1]
    """
    return np.unique(np.asarray(ids), return_inverse=True)[1].astype(np.int64)

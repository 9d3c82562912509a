"""The ROC, and the metrics that follow from it.

``member`` is bool, shape (n,); ``score`` is float64, shape (n,), higher for members.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmia.errors import ProtocolError
from recmia.metrics.intervals import (
    CONFIDENCE,
    Estimate,
    auc_ends,
    auc_parts,
    balanced_ends,
    members_above,
    threshold_region,
    tpr_ends,
)

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]
# At these, the TPR is measured.
FALSE_POSITIVE_RATES = (0.1, 0.01, 0.001)


@dataclass(frozen=True, eq=False)
class Roc:
    """The ROC as steps: one vertex for each distinct score, from (0, 0) to (1, 1).

    Parameters
    ----------
    fpr, tpr : float64, shape (m,)
        Ascending rates of non-members and of members at or above each threshold.
    threshold : float64, shape (m,)
        Descending; the first is +inf.

    Examples
    --------
    >>> curve = roc(np.array([True, True, False]), np.array([3.0, 1.0, 2.0]))
    >>> curve.tpr.tolist(), curve.fpr.tolist()
    ([0.0, 0.5, 0.5, 1.0], [0.0, 0.0, 1.0, 1.0])
    >>> float(curve.tpr_at(0.5))
    0.5
    """

    fpr: Float64
    tpr: Float64
    threshold: Float64

    def tpr_at(self, fpr: float | Float64) -> Float64:
        """Return the largest TPR at a vertex with an FPR of at most `fpr`: a step function, never interpolated."""
        return self.tpr[np.searchsorted(self.fpr, fpr, side="right") - 1]


def check_scores(member: Bool, score: Float64) -> tuple[int, int]:
    """Return the numbers of members and non-members, after checking the arrays.

    Raises
    ------
    ProtocolError
        For unequal shapes, a label that is not bool, a score that is not finite, or one kind of user only.

    Examples
    --------
    >>> check_scores(np.array([True, False, False]), np.zeros(3))
    (1, 2)
    """
    if member.dtype != np.bool_ or member.ndim != 1 or member.shape != score.shape:
        raise ProtocolError(
            f"member must be bool[n] and score float64[n]; got {member.dtype}{list(member.shape)} "
            f"and {score.dtype}{list(score.shape)}"
        )
    if not np.isfinite(score).all():
        raise ProtocolError(f"{int((~np.isfinite(score)).sum())} scores are not finite")
    n_members = int(member.sum())
    if n_members == 0 or n_members == len(member):
        raise ProtocolError(f"a metric needs members and non-members; got {n_members} members of {len(member)} users")
    return n_members, len(member) - n_members


def roc(member: Bool, score: Float64) -> Roc:
    """Return the ROC over all thresholds; users with equal scores make one step.

    Examples
    --------
    >>> roc(np.array([True, False]), np.array([1.0, 0.0])).tpr.tolist()
    [0.0, 1.0, 1.0]
    """
    n_members, n_nonmembers = check_scores(member, score)
    order = np.argsort(-score, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    hits = np.cumsum(member[order])[last_of_tie]
    return Roc(
        fpr=np.concatenate([[0.0], (last_of_tie + 1 - hits) / n_nonmembers]),
        tpr=np.concatenate([[0.0], hits / n_members]),
        threshold=np.concatenate([[np.inf], score[order][last_of_tie]]),
    )


def auc(member: Bool, score: Float64, confidence: float = CONFIDENCE) -> Estimate:
    """Return the area under the ROC: the probability that a member outscores a non-member, ties counting one half.

    See `recmia.metrics.intervals.auc_ends` for the interval.

    Examples
    --------
    >>> auc(np.array([True, True, False, False]), np.array([3.0, 2.0, 2.0, 1.0])).value
    0.875
    """
    n_members, n_nonmembers = check_scores(member, score)
    area, variance, tied = auc_parts(score[member], score[~member])
    sums = np.array(area), np.array(variance), np.array(tied)
    low, high = auc_ends(*sums, n_members, n_nonmembers, confidence)
    return Estimate(area, float(low), float(high))


def tpr_at_fpr(member: Bool, score: Float64, fpr: float, confidence: float = CONFIDENCE) -> Estimate:
    r"""Return the share of members that are found while at most a share `fpr` of the non-members is called members.

    The value is the largest TPR at a vertex of the ROC with an FPR of at most `fpr`: that of the threshold at the
    (k + 1)-th highest non-member, k = floor(fpr n0). It estimates the same of the population: the largest TPR of a rule
    on this score whose FPR is at most `fpr` among all such non-members.

    The threshold is fitted on the same non-members. Clopper and Pearson's interval takes it as given, and covers 0.2 to
    0.7 at an FPR of 1%. Here the threshold may have any rank that `threshold_region` allows, and the share of members
    above it is bounded at each.

    The lower end holds for rules that may choose between two thresholds at random, the upper end for one threshold.
    Where the ROC is concave, as it is if a higher score is never weaker evidence, both rules have the same TPR.

    With fewer than log(e) / log(1 - fpr) non-members, where e is the error of one end, no data could show that a rule
    keeps the FPR: 368 non-members are needed at 1%, 36 at 10%, 3,688 at 0.1% (e = 0.025). With fewer, the lower end is
    that of a chord of the ROC: a rule that finds a share t at a higher rate f, and that is applied with probability
    fpr / f, finds t fpr / f. The note says so.

    With fewer than 1 / fpr non-members the rate is not resolvable; the value is then None.

    Parameters
    ----------
    member : bool, shape (n,)
    score : float64, shape (n,)
    fpr : float
        In (0, 1).
    confidence : float

    Examples
    --------
    >>> member = np.arange(200) < 100
    >>> tpr_at_fpr(member, member.astype(float), 0.1).value
    1.0
    >>> tpr_at_fpr(member, member.astype(float), 0.001).note
    'not resolvable with 100 non-members: the finest rate is 0.01'
    """
    n_members, n_nonmembers = check_scores(member, score)
    if fpr * n_nonmembers < 1 - 1e-9:
        finest = f"not resolvable with {n_nonmembers} non-members: the finest rate is {1 / n_nonmembers:.2g}"
        return Estimate(None, None, None, finest)
    above = members_above(score[member], score[~member])
    region = threshold_region(n_nonmembers, fpr, (1 - confidence) / 2)
    low, high = tpr_ends(above, n_members, region)
    value = float(above[math.floor(fpr * n_nonmembers + 1e-9) + 1] / n_members)
    note = ""
    if region.slope < 1:
        need = math.ceil(math.log((1 - confidence) / 2) / math.log1p(-fpr))
        note = f"lower end by a rule that tosses a coin: {n_nonmembers} non-members, {need} are needed without"
    return Estimate(value, min(float(low), value), max(float(high), value), note)


def choose_threshold(member: Bool, score: Float64) -> float:
    """Return the threshold with the best balanced accuracy, halfway to the next lower score.

    It is +inf if no threshold is better than chance.

    Examples
    --------
    >>> choose_threshold(np.array([True, True, False, False]), np.array([3.0, 2.0, 1.0, 0.0]))
    1.5
    """
    curve = roc(member, score)
    best = int(np.argmax(curve.tpr - curve.fpr))
    if best == 0:
        return np.inf
    if best == len(curve.threshold) - 1:
        return float(curve.threshold[best])
    return float((curve.threshold[best] + curve.threshold[best + 1]) / 2)


def balanced_accuracy(member: Bool, score: Float64, threshold: float, confidence: float = CONFIDENCE) -> Estimate:
    """Return the mean of TPR and TNR if users at or above `threshold` are called members.

    The threshold must be chosen on other users. For the interval see `recmia.metrics.intervals.balanced_ends`.

    Examples
    --------
    >>> member = np.arange(200) < 100
    >>> balanced_accuracy(member, member.astype(float), 0.5).value
    1.0
    """
    n_members, n_nonmembers = check_scores(member, score)
    called = score >= threshold
    right, kept = np.array(int(called[member].sum())), np.array(int((~called[~member]).sum()))
    low, high = balanced_ends(right, n_members, kept, n_nonmembers, confidence)
    return Estimate(float((right / n_members + kept / n_nonmembers) / 2), float(low), float(high))

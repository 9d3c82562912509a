"""The ROC, and the metrics that follow from it.

``member`` is bool, shape (n,); ``score`` is float64, shape (n,), higher for members.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from recmia.errors import ProtocolError
from recmia.metrics.intervals import CONFIDENCE, Estimate, clopper_pearson, midranks, newcombe

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]


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
    """Return the ROC over all thresholds; users with equal scores make one step."""
    n_members, n_nonmembers = check_scores(member, score)
    order = np.argsort(-score, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    hits = np.cumsum(member[order])[last_of_tie]
    return Roc(
        fpr=np.concatenate([[0.0], (last_of_tie + 1 - hits) / n_nonmembers]),
        tpr=np.concatenate([[0.0], hits / n_members]),
        threshold=np.concatenate([[np.inf], score[order][last_of_tie]]),
    )


def auc(member: Bool, score: Float64) -> Estimate:
    r"""Return the area under the ROC: the probability that a member outscores a non-member, ties counting one half.

    The interval is DeLong's (DeLong, DeLong and Clarke-Pearson 1988): with the placements of each user among the other
    class, the variance of the area is :math:`S_{10} / n_1 + S_{01} / n_0`. That variance is 0 when the classes are
    perfectly separated; there the interval is Newcombe's (2006, method 5), which is not degenerate.

    Examples
    --------
    >>> auc(np.array([True, True, False, False]), np.array([3.0, 2.0, 2.0, 1.0])).value
    0.875
    """
    n_members, n_nonmembers = check_scores(member, score)
    overall = midranks(score)
    of_members = (overall[member] - midranks(score[member])) / n_nonmembers
    of_nonmembers = 1 - (overall[~member] - midranks(score[~member])) / n_members
    area = float(of_members.mean())
    if area in (0.0, 1.0):
        low, high = newcombe(np.array(area), n_members, n_nonmembers)
        return Estimate(area, float(low), float(high))
    # A class of one user has no variance to estimate; its placements count as they stand.
    variance = sum(part.var(ddof=min(1, len(part) - 1)) / len(part) for part in (of_members, of_nonmembers))
    half = float(special.ndtri((1 + CONFIDENCE) / 2) * np.sqrt(variance))
    return Estimate(area, max(0.0, area - half), min(1.0, area + half))


def tpr_at_fpr(member: Bool, score: Float64, fpr: float) -> Estimate:
    """Return the largest TPR with an FPR of at most `fpr`, and its Clopper-Pearson interval.

    With fewer than ``1 / fpr`` non-members, the rate cannot be resolved: the value is then None, and the note says why.

    Examples
    --------
    >>> member = np.arange(200) < 100
    >>> tpr_at_fpr(member, member.astype(float), 0.01).value
    1.0
    >>> tpr_at_fpr(member, member.astype(float), 0.001).note
    'not resolvable with 100 non-members: the finest rate is 0.01'
    """
    n_members, n_nonmembers = check_scores(member, score)
    if fpr * n_nonmembers < 1:
        finest = f"not resolvable with {n_nonmembers} non-members: the finest rate is {1 / n_nonmembers:.2g}"
        return Estimate(None, None, None, finest)
    rate = float(roc(member, score).tpr_at(fpr))
    return Estimate(rate, *clopper_pearson(round(rate * n_members), n_members))


def choose_threshold(member: Bool, score: Float64) -> float:
    """Return the threshold with the best balanced accuracy, halfway to the next lower score.

    It is +inf if no threshold is better than chance.

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


def balanced_accuracy(member: Bool, score: Float64, threshold: float) -> Estimate:
    """Return the mean of TPR and TNR where users with scores of at least `threshold` are called members.

    The interval combines the Clopper-Pearson intervals of both rates (MOVER; Zou and Donner 2008).

    Examples
    --------
    >>> balanced_accuracy(np.array([True, True, False, False]), np.array([3.0, 1.0, 1.0, 0.0]), 2.0).value
    0.75
    """
    n_members, n_nonmembers = check_scores(member, score)
    called = score >= threshold
    true_positives, true_negatives = int(called[member].sum()), int((~called[~member]).sum())
    tpr, tnr = true_positives / n_members, true_negatives / n_nonmembers
    tpr_low, tpr_high = clopper_pearson(true_positives, n_members)
    tnr_low, tnr_high = clopper_pearson(true_negatives, n_nonmembers)
    value = (tpr + tnr) / 2
    below, above = np.hypot(tpr - tpr_low, tnr - tnr_low) / 2, np.hypot(tpr_high - tpr, tnr_high - tnr) / 2
    return Estimate(value, max(0.0, value - float(below)), min(1.0, value + float(above)))

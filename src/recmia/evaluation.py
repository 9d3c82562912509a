"""How well scores tell members from non-members, with an interval on every figure.

Nothing in here knows which attack it grades. ``member`` is bool, shape (n,); ``score`` is float64, shape (n,), higher
for members. All intervals are at 95% unless told otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from recmia.errors import ProtocolError

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval; ``value`` is None where the data cannot resolve it, and `note` says why."""

    value: float | None
    low: float | None
    high: float | None
    note: str = ""


@dataclass(frozen=True)
class Metric:
    """One figure with its interval, over all seeds of an audit."""

    regime: str
    target: str
    shadow: str
    attack: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    seeds: int
    n_members: int
    n_nonmembers: int
    note: str


@dataclass(frozen=True, eq=False)
class Roc:
    """The ROC as steps: one vertex for each distinct score, from (0, 0) to (1, 1).

    Parameters
    ----------
    fpr, tpr : float64, shape (m,)
        Ascending rates of non-members and of members at or above each threshold.
    threshold : float64, shape (m,)
        Descending; the first is +inf.
    """

    fpr: Float64
    tpr: Float64
    threshold: Float64

    def tpr_at(self, fpr: float | Float64) -> Float64:
        """The largest TPR at a vertex whose FPR is at most `fpr`: a step function, never interpolated."""
        return self.tpr[np.searchsorted(self.fpr, fpr, side="right") - 1]


def check_scores(member: Bool, score: Float64) -> tuple[int, int]:
    """Count members and non-members after checking the arrays.

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
    """Compute the ROC over all thresholds, users with equal scores grouped into one step."""
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
    r"""Area under the ROC by ranks: the chance that a member outscores a non-member, ties counting one half.

    The interval is DeLong's (DeLong, DeLong and Clarke-Pearson 1988): with the placements of each user among the other
    class, the variance of the area is :math:`S_{10} / n_1 + S_{01} / n_0`. That variance is 0 when the classes are
    perfectly separated; there the interval is Newcombe's (2006, method 5), which is not degenerate.
    """
    n_members, n_nonmembers = check_scores(member, score)
    overall = _midranks(score)
    of_members = (overall[member] - _midranks(score[member])) / n_nonmembers
    of_nonmembers = 1 - (overall[~member] - _midranks(score[~member])) / n_members
    area = float(of_members.mean())
    if area in (0.0, 1.0):
        return Estimate(area, *_newcombe(area, n_members, n_nonmembers))
    # A class of one user has no variance to estimate; its placements count as they stand.
    variance = sum(part.var(ddof=min(1, len(part) - 1)) / len(part) for part in (of_members, of_nonmembers))
    half = float(special.ndtri((1 + CONFIDENCE) / 2) * np.sqrt(variance))
    return Estimate(area, max(0.0, area - half), min(1.0, area + half))


def tpr_at_fpr(member: Bool, score: Float64, fpr: float) -> Estimate:
    """Share of members caught when at most `fpr` of the non-members are; Clopper-Pearson interval.

    Below one non-member in n the rate cannot be resolved: the value is then None, and the note says so.
    """
    n_members, n_nonmembers = check_scores(member, score)
    if fpr * n_nonmembers < 1:
        finest = f"not resolvable with {n_nonmembers} non-members: the finest rate is {1 / n_nonmembers:.2g}"
        return Estimate(None, None, None, finest)
    rate = float(roc(member, score).tpr_at(fpr))
    return Estimate(rate, *clopper_pearson(round(rate * n_members), n_members))


def choose_threshold(member: Bool, score: Float64) -> float:
    """The threshold with the best balanced accuracy, halfway to the next lower score; +inf if none beats a coin."""
    curve = roc(member, score)
    best = int(np.argmax(curve.tpr - curve.fpr))
    if best == 0:
        return np.inf
    if best == len(curve.threshold) - 1:
        return float(curve.threshold[best])
    return float((curve.threshold[best] + curve.threshold[best + 1]) / 2)


def balanced_accuracy(member: Bool, score: Float64, threshold: float) -> Estimate:
    """Mean of TPR and TNR when users at or above `threshold` are called members.

    The interval joins the Clopper-Pearson intervals of both rates (MOVER; Zou and Donner 2008).
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


def clopper_pearson(successes: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact interval of a binomial rate (Clopper and Pearson 1934)."""
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(special.betaincinv(successes, trials - successes + 1, tail))
    high = 1.0 if successes == trials else float(special.betaincinv(successes + 1, trials - successes, 1 - tail))
    return low, high


def over_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """Mean over independent splits with its interval, cut to [0, 1].

    Student's t on the spread over the splits; but never narrower than what the splits' own intervals leave of the
    mean, since a few splits can agree by chance, and a perfect score has no spread at all. One split keeps its own
    interval.
    """
    whole = [(one.value, one.low, one.high) for one in estimates]
    known = [(v, low, high) for v, low, high in whole if v is not None and low is not None and high is not None]
    if len(estimates) == 1 or len(known) < len(estimates):
        return min(estimates, key=lambda estimate: estimate.value is not None)
    value, low, high = np.array(known).T
    n = len(value)
    spread = float(special.stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * float(np.std(value, ddof=1))
    below, above = (max(spread, math.sqrt(np.mean(width**2))) / math.sqrt(n) for width in (value - low, high - value))
    mean = float(np.mean(value))
    return Estimate(mean, max(0.0, mean - below), min(1.0, mean + above))


def _midranks(score: Float64) -> Float64:
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]


def _newcombe(area: float, n_members: int, n_nonmembers: int) -> tuple[float, float]:
    """Newcombe (2006), "Confidence intervals for an effect size measure based on the Mann-Whitney statistic", part 2.

    Method 5: all theta with |theta - area| <= z sqrt(V(theta)), V from Hanley and McNeil (1982) with the mean sample
    size in both places.
    """
    z = float(special.ndtri((1 + CONFIDENCE) / 2))
    extra = (n_members + n_nonmembers) / 2 - 1

    def inside(theta: float) -> bool:
        spread = 1 + extra * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return abs(theta - area) <= z * math.sqrt(theta * (1 - theta) * spread / (n_members * n_nonmembers))

    def edge(outer: float) -> float:
        inner = area + (outer - area) * 1e-9
        for _ in range(60):
            middle = (inner + outer) / 2
            inner, outer = (middle, outer) if inside(middle) else (inner, middle)
        return inner

    return (area if area == 0 else edge(0.0)), (area if area == 1 else edge(1.0))

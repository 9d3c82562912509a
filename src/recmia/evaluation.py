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
    """One figure with its interval, over all targets and seeds of an audit."""

    knowledge: str
    regime: str
    target: str
    shadow: str
    attack: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    seeds: int
    targets: int
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


@dataclass(frozen=True)
class EpsilonBound:
    """A lower bound on the epsilon of differential privacy that a system can have.

    Parameters
    ----------
    value : float
        Every epsilon below it is refuted; 0 where none is.
    confidence : float
        The chance that the bound holds, at least, if what `epsilon_lower_bound` assumes is true.
    ceiling : float
        The bound that a perfect attack would get from as many users: what this sample can show at most.
    delta : float
    """

    value: float
    confidence: float
    ceiling: float
    delta: float


@dataclass(frozen=True)
class PromiseCheck:
    """A promised epsilon beside what an audit refutes.

    Parameters
    ----------
    defence : str
    knowledge, regime : str
        Where it was checked.
    epsilon, delta : float
        What is promised.
    bound : float
        Every epsilon below it is refuted, at this delta.
    attack : str
        The one that refutes most.
    """

    defence: str
    knowledge: str
    regime: str
    epsilon: float
    delta: float
    bound: float
    attack: str

    @property
    def broken(self) -> bool:
        """Whether the promise is refuted."""
        return self.bound > self.epsilon

    def __str__(self) -> str:
        where = f"({self.regime}, {self.attack})"
        if self.broken:
            return (
                f"BROKEN PROMISE: {self.defence} promises epsilon {self.epsilon:g}, and the audit refutes every "
                f"epsilon below {self.bound:.2f} {where}. What is stated is not what is done; do not rely on it."
            )
        return (
            f"{self.defence} promises epsilon {self.epsilon:g}; the audit refutes what is below {self.bound:.2f} "
            f"{where}, which does not contradict it, and does not prove it."
        )


@dataclass(frozen=True, eq=False)
class Exposure:
    """How well each user's own membership shows, over many runs; each array has one entry per user.

    Parameters
    ----------
    auc : float64, shape (n,)
        Chance that a run with the user in places it higher than a run with the user out, ties counting one half. 0.5
        for a user who is not `known`.
    low, high : float64, shape (n,)
        Interval of `auc`; [0, 1] for a user who is not known.
    p_value : float64, shape (n,)
        Of the one-sided exact test that the user is placed no higher in than out; 1 for a user who is not known.
    n_in, n_out : int64, shape (n,)
        Runs with the user in training, and without.
    """

    auc: Float64
    low: Float64
    high: Float64
    p_value: Float64
    n_in: npt.NDArray[np.int64]
    n_out: npt.NDArray[np.int64]

    @property
    def known(self) -> Bool:
        """Whether there is a run with the user and one without: bool, shape (n,)."""
        return (self.n_in > 0) & (self.n_out > 0)


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
        low, high = _newcombe(np.array(area), n_members, n_nonmembers)
        return Estimate(area, float(low), float(high))
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
    return float(_rate_at_least(successes, trials, tail)), 1 - float(_rate_at_least(trials - successes, trials, tail))


def epsilon_lower_bound(
    true_positives: int,
    n_members: int,
    false_positives: int,
    n_nonmembers: int,
    *,
    delta: float = 0.0,
    confidence: float = CONFIDENCE,
) -> EpsilonBound:
    r"""The largest epsilon that the counts of one attack at one threshold refute.

    Under :math:`(\varepsilon, \delta)`-differential privacy of what the attacker sees, with one user's data in or
    out, no rule can have (Kairouz, Oh and Viswanath 2015)

    .. math:: \text{TPR} > e^\varepsilon\, \text{FPR} + \delta \quad\text{or}\quad
              \text{TNR} > e^\varepsilon\, \text{FNR} + \delta .

    With t a lower bound on the TPR and f an upper bound on the FPR, both Clopper and Pearson's, what is refuted is
    every epsilon below (Jagielski, Ullman and Oprea 2020; Nasr et al. 2021)

    .. math:: \max\left(0,\ \log\frac{t - \delta}{f},\ \log\frac{1 - f - \delta}{1 - t}\right) .

    Bonferroni: each of the two one-sided bounds may fail with probability (1 - confidence) / 2, so both hold with
    `confidence`. Both ratios follow from the same two bounds; to take the larger costs nothing more.

    What it assumes: that members were drawn by chance, that the threshold was not chosen on these users (see
    `choose_epsilon_threshold`), and that the users' outcomes are independent. Users of one run share one model, so
    within a run the confidence is nominal, not proven: Steinke, Nasr and Jagielski (2023) treat one run. Independent
    runs with one user taken from each meet the assumption. Where a fixed number of users are members, one user in means
    another out: the epsilon is then that of exchanging one user for another.

    Parameters
    ----------
    true_positives : int
        Members that the attack calls members.
    n_members : int
    false_positives : int
        Non-members that it calls members.
    n_nonmembers : int
    delta : float
        In [0, 1).
    confidence : float
        In (0, 1).

    Returns
    -------
    EpsilonBound

    Raises
    ------
    ProtocolError
        For counts that are impossible, or `delta` or `confidence` out of range.
    """
    for kind, count, total in (("members", true_positives, n_members), ("non-members", false_positives, n_nonmembers)):
        if total < 1 or not 0 <= count <= total:
            raise ProtocolError(f"of {total} {kind}, {count} are called members; one {kind[:-1]} or more is needed")
    _check_epsilon_settings(delta, confidence)
    found, perfect = _refuted_ratio(
        np.array([true_positives, n_members]),
        n_members,
        np.array([false_positives, 0]),
        n_nonmembers,
        delta,
        confidence,
    )
    return EpsilonBound(
        value=math.log(max(1.0, found)), confidence=confidence, ceiling=math.log(max(1.0, perfect)), delta=delta
    )


def choose_epsilon_threshold(
    member: Bool,
    score: Float64,
    *,
    n_members: int,
    n_nonmembers: int,
    delta: float = 0.0,
    confidence: float = CONFIDENCE,
) -> float:
    """The threshold that promises the largest `epsilon_lower_bound`, halfway to the next lower score.

    To be chosen on shadow users and applied to target users, whose bound then needs no correction for the choice. The
    promise is the bound that so many target users give if they have the rates of the shadow users. Where no epsilon is
    refuted, the threshold that comes nearest to it is taken. Scores are higher for members by definition, so no
    direction is chosen. Constant scores give +inf: nobody is called a member.

    Parameters
    ----------
    member : bool, shape (n,)
    score : float64, shape (n,)
        Of shadow users.
    n_members, n_nonmembers : int
        Of the target users that the threshold is for.
    delta, confidence : float
        As in `epsilon_lower_bound`.
    """
    check_scores(member, score)
    _check_epsilon_settings(delta, confidence)
    curve = roc(member, score)
    # To call nobody or everybody a member refutes nothing, however nearly.
    inner = slice(1, -1)
    ratios = _refuted_ratio(
        np.rint(curve.tpr[inner] * n_members), n_members, np.rint(curve.fpr[inner] * n_nonmembers), n_nonmembers,
        delta, confidence,
    )  # fmt: skip
    if not len(ratios):
        return np.inf
    best = 1 + int(np.argmax(ratios))
    return float((curve.threshold[best] + curve.threshold[best + 1]) / 2)


def exposure(member: Bool, score: Float64) -> Exposure:
    r"""How well each user's own membership shows: the AUC of a user over runs, not of a run over users.

    Runs are made comparable by ranks: a user's score in a run becomes its place among the other users of the run, the
    mean of the share of other members and of the share of other non-members that it outscores, to the nearest half of
    a user. That is the same under any increasing transformation of a run's scores, so an attack may be trained anew for
    each run; a median and a spread would only allow for a linear one, and one heavy tail would hide everyone. Both
    classes have the same weight because a user who is in leaves one member fewer among the others: without it, a user
    whose score never changes would move whenever its label does. The price: who outscores everybody both in and out
    has the same place in both, and is not found.

    With `n_in` and `n_out` runs, the AUC is the Mann-Whitney statistic U / (n_in n_out) of the places. Its interval is
    Newcombe's (2006, method 5), made for small samples. The p-value is that of the exact Mann-Whitney test with ties
    counted against the user, so that it is valid for any ties. It holds if the user's membership was drawn for each run
    alike and independently, or is a random half of the runs; and if one attack scored all runs and was fitted on none.
    Runs that are scored in turn by an attack fitted on the others share their labels: where nothing leaked, one user
    in six then had a p-value below 0.05 (list-lr, 16 shadows).

    Parameters
    ----------
    member : bool, shape (R, n)
        Who is in training, for R runs over the same n users. At least two members and two non-members a run.
    score : float64, shape (R, n)
        Of one attack that has seen the labels of none of the runs.

    Returns
    -------
    Exposure

    Raises
    ------
    ProtocolError
        For unequal shapes, a label that is not bool, a score that is not finite, or a run with too few of one kind.
    """
    if member.ndim != 2 or member.shape != score.shape:
        raise ProtocolError(
            f"member must be bool[R, n] and score float64[R, n]; got {member.dtype}{list(member.shape)} "
            f"and {score.dtype}{list(score.shape)}"
        )
    check_scores(member.ravel(), score.ravel())
    from scipy import stats

    place = np.array([_place(*run) for run in zip(member, score, strict=True)])
    n_runs, n_users = member.shape
    n_in = member.sum(axis=0)
    area, low, high, p_value = np.full(n_users, 0.5), np.zeros(n_users), np.ones(n_users), np.ones(n_users)
    for inside in range(1, n_runs):
        users = np.flatnonzero(n_in == inside)
        if not len(users):
            continue
        outside = n_runs - inside
        in_first = np.argsort(~member[:, users], axis=0, kind="stable")
        places = np.take_along_axis(place[:, users], in_first, axis=0)
        rank_sum = stats.rankdata(places, axis=0)[:inside].sum(axis=0)
        area[users] = (rank_sum - inside * (inside + 1) / 2) / (inside * outside)
        low[users], high[users] = _newcombe(area[users], inside, outside)
        # Ordinal ranks go by row where places tie: the runs with the user, which come first, get the lower ones.
        untied = stats.rankdata(places, method="ordinal", axis=0)
        test = stats.mannwhitneyu(untied[:inside], untied[inside:], alternative="greater", method="exact", axis=0)
        p_value[users] = test.pvalue
    return Exposure(area, low, high, p_value, n_in, n_runs - n_in)


def identifiable(exposed: Exposure, fdr: float = 0.05) -> Bool:
    """Tell which users are placed higher when they are in, at a false discovery rate of `fdr`: bool, shape (n,).

    Benjamini and Hochberg (1995) on the exact p-values. The rate is proven for independent users and some kinds of
    positive dependence; users share the runs, so it is nominal here. No p-value is below 1 / C(R, n_in): a few runs
    cannot name one user among many, and that nobody is named then means nothing.

    Raises
    ------
    ProtocolError
        If `fdr` is not in (0, 1).
    """
    if not 0 < fdr < 1:
        raise ProtocolError(f"fdr must be in (0, 1); got {fdr}")
    from scipy import stats

    return stats.false_discovery_control(exposed.p_value, method="bh") <= fdr


def over_seeds(estimates: Sequence[Estimate], *, most: float = 1.0) -> Estimate:
    """Mean over independent splits with its interval, cut to [0, most].

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
    return Estimate(mean, max(0.0, mean - below), min(most, mean + above))


def _rate_at_least(successes: npt.ArrayLike, trials: int, error: float) -> Float64:
    """Clopper and Pearson's lower bound on a rate, wrong with probability at most `error`."""
    successes = np.asarray(successes)
    # Rates at which so many successes or more have the probability `error`.
    bound: Float64 = special.betaincinv(np.maximum(successes, 1), trials - successes + 1, error)
    return bound * (successes > 0)


def _refuted_ratio(
    true_positives: npt.ArrayLike,
    n_members: int,
    false_positives: npt.ArrayLike,
    n_nonmembers: int,
    delta: float,
    confidence: float,
) -> Float64:
    """E to the power of the epsilon that is refuted, for each pair of counts; below 1 where none is."""
    error = (1 - confidence) / 2
    tpr = _rate_at_least(true_positives, n_members, error)
    tnr = _rate_at_least(n_nonmembers - np.asarray(false_positives), n_nonmembers, error)
    return np.maximum((tpr - delta) / (1 - tnr), (tnr - delta) / (1 - tpr))


def _check_epsilon_settings(delta: float, confidence: float) -> None:
    if not 0 <= delta < 1:
        raise ProtocolError(f"delta must be in [0, 1); got {delta}")
    if not 0 < confidence < 1:
        raise ProtocolError(f"confidence must be in (0, 1); got {confidence}")


def _place(member: Bool, score: Float64) -> Float64:
    """How many of the others of one run each user outscores, members weighing as much as non-members, in half users."""
    n_members, n_users = int(member.sum()), len(member)
    n_nonmembers = n_users - n_members
    if min(n_members, n_nonmembers) < 2:
        raise ProtocolError(
            f"each run needs two members and two non-members or more; got {n_members} members of {n_users} users"
        )
    among_own = np.empty(n_users)
    for kind in (member, ~member):
        among_own[kind] = _midranks(score[kind])
    n_own = np.where(member, n_members, n_nonmembers)
    of_own = (among_own - 1) / (n_own - 1)
    of_other = (_midranks(score) - among_own) / (n_users - n_own)
    # Without rounding, 1 / n and 1 / (n - 1) would tell in from out for a user who is nearly always first or last.
    place: Float64 = np.rint((of_own + of_other) * (n_users - 1))
    return place


def _midranks(score: Float64) -> Float64:
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]


def _newcombe(area: Float64, n_members: int, n_nonmembers: int) -> tuple[Float64, Float64]:
    """Newcombe (2006), "Confidence intervals for an effect size measure based on the Mann-Whitney statistic", part 2.

    Method 5: all theta with |theta - area| <= z sqrt(V(theta)), V from Hanley and McNeil (1982) with the mean sample
    size in both places. For each of the areas, of any shape.
    """
    z = float(special.ndtri((1 + CONFIDENCE) / 2))
    extra = (n_members + n_nonmembers) / 2 - 1

    def edge(outer: float) -> Float64:
        # The area itself and the far end count as inside and outside; halve what lies between.
        inner = area + (outer - area) * 1e-9
        far = np.full_like(area, outer)
        for _ in range(60):
            theta = (inner + far) / 2
            spread = 1 + extra * ((1 - theta) / (2 - theta) + theta / (1 + theta))
            inside = abs(theta - area) <= z * np.sqrt(theta * (1 - theta) * spread / (n_members * n_nonmembers))
            inner, far = np.where(inside, theta, inner), np.where(inside, far, theta)
        return inner

    return edge(0.0), edge(1.0)

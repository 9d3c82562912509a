r"""Estimates, their intervals, and the mean over several runs.

Every interval takes `confidence`. For a statement about K figures together, pass ``confidence=simultaneous(K)``
(Bonferroni). Nothing here is random: the same scores give the same interval.

An interval is about the trained system and a population of users: the users are taken as a random sample, and the
system as given. It covers the value that this system would have with endlessly many such users, and makes no statement
about another training. The mean over several runs is likewise about the systems of these runs; see `combine`. The real
coverage is measured by ``benchmarks/interval_coverage.py``: at least 0.93 of a nominal 0.95 in every cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

from recmia.errors import ProtocolError

Bool = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value and its interval; `value` is None where the data cannot resolve it, and `note` says why.

    Examples
    --------
    >>> Estimate(0.6, 0.5, 0.7).value
    0.6
    """

    value: float | None
    low: float | None
    high: float | None
    note: str = ""


def simultaneous(figures: int, confidence: float = CONFIDENCE) -> float:
    """Return the confidence of each interval at which so many hold together with `confidence` (Bonferroni).

    It holds however the figures depend on each other.

    Raises
    ------
    ProtocolError
        If `figures` is below 1.

    Examples
    --------
    >>> round(simultaneous(10), 4)
    0.995
    """
    if figures < 1:
        raise ProtocolError(f"figures must be at least 1; got {figures}")
    return 1 - (1 - confidence) / figures


def at_most(count: npt.ArrayLike, trials: int, rate: float) -> Float64:
    """Return the probability of so many successes or fewer, ``scipy.stats.binom.cdf``, whose package loads slowly.

    >>> at_most([0, 1, 2], 2, 0.5)
    array([0.25, 0.75, 1.  ])
    """
    found = np.asarray(count, np.float64)
    return np.asarray(
        np.where(found < trials, special.betaincc(found + 1, np.maximum(trials - found, 1), rate), 1.0), np.float64
    )


def at_least(count: npt.ArrayLike, trials: int, rate: float) -> Float64:
    """Return the probability of so many successes or more.

    >>> at_least([0, 1, 2], 2, 0.5)
    array([1.  , 0.75, 0.25])
    """
    found = np.asarray(count, np.float64)
    return np.asarray(
        np.where(found > 0, special.betainc(np.maximum(found, 1), trials - found + 1, rate), 1.0), np.float64
    )


def binomial_p_value(successes: int, trials: int, rate: float) -> float:
    """Return the two-sided p-value of a number of successes: the probability of all that are no more probable.

    >>> round(binomial_p_value(9, 10, 0.5), 4)
    0.0215
    """
    count = np.arange(trials + 1)
    ways = special.gammaln(trials + 1) - special.gammaln(count + 1) - special.gammaln(trials - count + 1)
    log_chance = ways + special.xlogy(count, rate) + special.xlog1py(trials - count, -rate)
    # Equal chances differ by rounding.
    return min(1.0, float(np.exp(log_chance[log_chance <= log_chance[successes] + 1e-7]).sum()))


def rate_at_least(successes: npt.ArrayLike, trials: int, error: float | Float64) -> Float64:
    """Return the lower bound on a rate of Clopper and Pearson (1934), wrong with probability at most `error`.

    Parameters
    ----------
    successes : int or array of int
    trials : int
    error : float or float64
        Arrays broadcast.

    Examples
    --------
    >>> round(float(rate_at_least(10, 10, 0.025)), 3)
    0.692
    """
    count = np.asarray(successes, np.float64)
    # Rates at which so many successes or more have the probability `error`.
    bound = special.betaincinv(np.maximum(count, 1), trials - count + 1, np.asarray(error, np.float64))
    return np.asarray(bound * (count > 0), np.float64)


def clopper_pearson(successes: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact interval of a binomial rate (Clopper and Pearson 1934).

    Examples
    --------
    >>> low, high = clopper_pearson(0, 10)
    >>> low, round(high, 3)
    (0.0, 0.308)
    """
    tail = (1 - confidence) / 2
    return float(rate_at_least(successes, trials, tail)), 1 - float(rate_at_least(trials - successes, trials, tail))


def auc_parts(members: Float64, nonmembers: Float64) -> tuple[float, float, float]:
    """Return the AUC, its variance as estimated by DeLong et al. (1988), and the sum of the cubed sizes of ties.

    Parameters
    ----------
    members, nonmembers : float64, shape (n1,) and (n0,)
        Scores.

    Examples
    --------
    >>> area, variance, tied = auc_parts(np.array([3.0, 2.0]), np.array([2.0, 1.0]))
    >>> area, tied
    (0.875, 10.0)
    """
    x, y = np.sort(members), np.sort(nonmembers)
    n1, n0 = len(x), len(y)
    of_members = (np.searchsorted(y, x, "left") + np.searchsorted(y, x, "right")) / (2 * n0)
    of_nonmembers = (np.searchsorted(x, y, "left") + np.searchsorted(x, y, "right")) / (2 * n1)
    # A class of one user has no variance to estimate; it gets that of a coin.
    variance = sum(part.var(ddof=1) / len(part) if len(part) > 1 else 0.25 for part in (of_members, of_nonmembers))
    pooled = np.sort(np.concatenate([x, y]))
    ends = np.append(np.flatnonzero(np.diff(pooled)), len(pooled) - 1)
    ties = np.diff(ends, prepend=-1).astype(np.float64)
    return float(of_members.mean()), float(variance), float((ties**3).sum())


def auc_ends(
    area: Float64,
    variance: Float64,
    tied: Float64,
    n_members: npt.ArrayLike,
    n_nonmembers: npt.ArrayLike,
    confidence: float = CONFIDENCE,
) -> tuple[Float64, Float64]:
    r"""Return the interval of an AUC by Newcombe's method 5 (2006), with a variance that covers more shapes of scores.

    It holds all :math:`\theta` with :math:`|\theta - A| \le z \sqrt{V(\theta)}`. Newcombe's V is that of Hanley and
    McNeil (1982) with the mean class size :math:`\bar n` in place of both sizes,

    .. math:: H(\theta) = \frac{\theta (1 - \theta)}{n_1 n_0} \Bigl( 1 + (\bar n - 1)
              \Bigl( \frac{1 - \theta}{2 - \theta} + \frac{\theta}{1 + \theta} \Bigr) \Bigr) .

    H is the variance for exponential scores, and close to it for normal ones. Where a part of the members has far
    higher scores than the rest, or tails are heavy, it is too small: that interval covers 0.80 to 0.92 at an AUC of
    0.97 or 0.99. The variance V here combines H with

    - DeLong's estimate :math:`D`, as a lower limit;
    - the reduction by ties, :math:`1 - \sum t^3 / (N + 4)^3` over blocks of t equal scores among N (four untied users
      are added, because equal scores in a sample do not prove equal scores of all users);
    - the largest variance of any scores, :math:`C(\theta) = \theta (1 - \theta) / \min(n_1, n_0)` (Birnbaum and Klose
      1957):

    .. math:: R(\theta) = \min\Bigl( C(\theta),\ H(\theta) \max\Bigl( 1 - \frac{\sum t^3}{(N + 4)^3},
              \frac{D}{H(A)} \Bigr) \Bigr), \qquad V = R + \lambda\,(C - R), \quad \lambda = \frac{1}{1 + 2 E} .

    :math:`E = \min(n_1, n_0) \min(A, 1 - A)` is the number of errors that were observed, in users of the smaller class.
    With few errors D is unreliable, so V is near the worst case C. For the same reason the end that is farther from 1/2
    is that of Clopper and Pearson with E failures while E is at most 1, and a mixture of both ends up to 5. With fewer
    than 9 users in a class, both ends are at least as wide as Clopper and Pearson's.

    Parameters
    ----------
    area, variance, tied : float64, of any one shape
        As `auc_parts` returns them, for any number of samples.
    n_members, n_nonmembers : int or int64
        Sizes of the classes, for all samples or for each.
    confidence : float

    Returns
    -------
    low, high : float64
        ``low <= area <= high``.

    Examples
    --------
    >>> low, high = auc_ends(np.array([0.9]), np.array([0.001]), np.array([200.0]), 100, 100)
    >>> low.round(3), high.round(3)
    (array([0.826]), array([0.945]))
    """
    z = float(special.ndtri((1 + confidence) / 2))
    n1, n0 = np.asarray(n_members, np.float64), np.asarray(n_nonmembers, np.float64)
    smaller = np.minimum(n1, n0)
    extra = (n1 + n0) / 2 - 1
    errors = smaller * np.minimum(area, 1 - area)

    def hanley_mcneil(theta: Float64) -> Float64:
        spread = 1 + extra * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        found: Float64 = theta * (1 - theta) * spread / (n1 * n0)
        return found

    inside = np.clip(area, 0.5 / smaller, 1 - 0.5 / smaller)
    scale = np.maximum(1 - tied / (n1 + n0 + 4) ** 3, variance / hanley_mcneil(inside))
    doubt = 1 / (1 + 2 * errors)

    def edge(outer: float) -> Float64:
        # Bisection between the area, which is inside the interval, and the far end, which counts as outside.
        inner = area + (outer - area) * 1e-9
        far = np.full_like(area, outer)
        for _ in range(40):
            theta = (inner + far) / 2
            most = theta * (1 - theta) / smaller
            spread = np.minimum(scale * hanley_mcneil(theta), most)
            spread = spread + doubt * (most - spread)
            covered = abs(theta - area) <= z * np.sqrt(spread)
            inner, far = np.where(covered, theta, inner), np.where(covered, far, theta)
        return inner

    low, high = edge(0.0), edge(1.0)
    # Clopper and Pearson's end with E failures among the users of the smaller class; E need not be an integer.
    end = 1 - special.betaincinv(np.maximum(errors, 1e-9), smaller - errors + 1, (1 - confidence) / 2)
    end = np.where(errors > 0, end, 1.0)
    # The more confidence, the more errors it takes until the normal approximation holds: 5 at 95%, 11.4 at 99.84%.
    taper = 4 * (z / float(special.ndtri(0.975))) ** 2
    share = np.clip((1 + taper - errors) / taper, 0, 1)
    high = np.where(area >= 0.5, np.maximum(high, high + share * (end - high)), high)
    low = np.where(area <= 0.5, np.minimum(low, low + share * (1 - end - low)), low)
    # Too few users for the normal approximation at the other end.
    least, most = proportion_ends(area, smaller, confidence)
    low = np.where(smaller < 9, np.minimum(low, least), low)
    high = np.where(smaller < 9, np.maximum(high, most), high)
    return np.minimum(low, area), np.maximum(high, area)


@dataclass(frozen=True, eq=False)
class Region:
    """The ranks that the threshold of a false-positive rate can have among the non-members; see `threshold_region`.

    Parameters
    ----------
    ranks_low, ranks_high : int64, shape (a,) and (b,)
        Numbers of non-members above the threshold that each end of the interval allows for.
    error_low, error_high : float64, shape (a,) and (b,)
        The error that remains at each rank for the share of members.
    slope : float
        1, or less where the lower end is that of a chord from the origin of the ROC.
    """

    ranks_low: Int64
    error_low: Float64
    ranks_high: Int64
    error_high: Float64
    slope: float


def members_above(members: Float64, nonmembers: Float64) -> Int64:
    """Return how many members score above the i-th highest non-member: int64, shape (n0 + 2,).

    Strictly above, for i = 1 to n0. At i = 0 the threshold is above all users, at n0 + 1 below all.

    Examples
    --------
    >>> members_above(np.array([5.0, 3.0, 2.0]), np.array([4.0, 2.0]))
    array([0, 1, 2, 3])
    """
    descending = -np.sort(-nonmembers)
    found = len(members) - np.searchsorted(np.sort(members), descending, "right")
    return np.concatenate([[0], found, [len(members)]]).astype(np.int64)


@lru_cache(maxsize=256)
def threshold_region(n_nonmembers: int, fpr: float, error: float) -> Region:
    r"""Return the ranks that the threshold of a population FPR can have, and the error that each leaves for members.

    The number I of non-members above the population's threshold is Binomial(n0, `fpr`); the number J of members above
    it is Binomial(n1, TPR), and independent of I. If I = i, the threshold lies between the i-th and the (i + 1)-th
    highest non-member, so J is at least the number of members above the former and at most that above the latter. The
    lower end is the least TPR that is possible at any i,

    .. math:: L = \min_i \ell(J_i, \alpha_i), \qquad
              \alpha_i = \Phi\Bigl( -\sqrt{c^2 - x_i^2} \Bigr), \quad x_i = \max(0, -\Phi^{-1}(P(I \le i))),

    over the i with :math:`x_i < c`, where :math:`\ell` is Clopper and Pearson's lower bound at the error
    :math:`\alpha_i`, e is `error`, and :math:`c = -\Phi^{-1}(e)`. In standard deviations, I and J lie within a circle;
    two separate bounds with Bonferroni would be a rectangle, and wider by a third to a half. The probability of an
    error is e where the ROC is straight over the width of the interval, and at most e for the lower end where it is
    concave; for any shape it is at most :math:`e + e^{-c^2 / 2} / 4`, up to the discreteness of counts. The upper end
    mirrors the lower end.

    Where even I = 0 is more probable than e, the lower end is calculated at the smallest rate f where it is not, and
    multiplied by `fpr` / f.

    Parameters
    ----------
    n_nonmembers : int
    fpr : float
    error : float
        Of one end.

    Examples
    --------
    >>> region = threshold_region(1000, 0.01, 0.025)
    >>> int(region.ranks_low[0]), int(region.ranks_high[-1]), region.slope
    (4, 17, 1.0)
    """
    limit = -float(special.ndtri(error))
    count = np.arange(n_nonmembers + 1)

    def left_over(tail: Float64) -> Float64:
        depth = np.maximum(0.0, -special.ndtri(np.clip(tail, 1e-300, 1.0)))
        rest: Float64 = special.ndtr(-np.sqrt(np.maximum(limit**2 - depth**2, 0.0)))
        return np.where(depth < limit - 1e-9, rest, 1.0)

    rate = max(fpr, -math.expm1(math.log(error) / n_nonmembers))
    low = left_over(at_most(count, n_nonmembers, rate))
    high = left_over(at_least(count, n_nonmembers, fpr))
    # Ranks beyond the first with the least error cannot give a lower end: more users lie above, with the same error.
    first = int(np.argmax(low <= low.min() * (1 + 1e-9)))
    last = n_nonmembers - int(np.argmax(high[::-1] <= high.min() * (1 + 1e-9)))
    ranks_low = np.flatnonzero((low < 1) & (count <= first)).astype(np.int64)
    ranks_high = np.flatnonzero((high < 1) & (count >= last)).astype(np.int64)
    return Region(ranks_low, low[ranks_low], ranks_high, high[ranks_high], fpr / rate)


def tpr_ends(above: Int64, n_members: int, region: Region) -> tuple[Float64, Float64]:
    """Return the interval of the TPR from the counts of `members_above`, whose last axis has n0 + 2 entries.

    Examples
    --------
    >>> above = members_above(np.arange(100.0) + 60, np.arange(100.0))
    >>> low, high = tpr_ends(above, 100, threshold_region(100, 0.1, 0.025))
    >>> round(float(low), 2), round(float(high), 2)
    (0.57, 0.81)
    """
    low = rate_at_least(above[..., region.ranks_low], n_members, region.error_low).min(axis=-1)
    missed = n_members - above[..., region.ranks_high + 1]
    high = 1 - rate_at_least(missed, n_members, region.error_high).min(axis=-1)
    return low * region.slope, high


def balanced_ends(
    true_positives: npt.ArrayLike,
    n_members: int,
    true_negatives: npt.ArrayLike,
    n_nonmembers: int,
    confidence: float = CONFIDENCE,
) -> tuple[Float64, Float64]:
    """Return the interval of a balanced accuracy from counts, which broadcast.

    The ends of Clopper and Pearson's intervals of both rates are joined by the squares of their distances (MOVER; Zou
    and Donner 2008).

    Examples
    --------
    >>> low, high = balanced_ends(70, 100, 90, 100)
    >>> round(float(low), 3), round(float(high), 3)
    (0.737, 0.851)
    """
    tail = (1 - confidence) / 2
    below, above, value = np.zeros(()), np.zeros(()), np.zeros(())
    for right, trials in ((np.asarray(true_positives), n_members), (np.asarray(true_negatives), n_nonmembers)):
        rate = right / trials
        below = below + (rate - rate_at_least(right, trials, tail)) ** 2
        above = above + (1 - rate_at_least(trials - right, trials, tail) - rate) ** 2
        value = value + rate / 2
    low = np.maximum(0.0, value - np.sqrt(below) / 2)
    return low, np.minimum(1.0, value + np.sqrt(above) / 2)


def proportion_ends(share: npt.ArrayLike, n: npt.ArrayLike, confidence: float = CONFIDENCE) -> tuple[Float64, Float64]:
    """Return Clopper and Pearson's interval for a share of n observations, where neither n nor n share is an integer.

    Parameters
    ----------
    share, n : float64, shape (...)
    confidence : float

    Returns
    -------
    low, high : float64, shape (...)

    Examples
    --------
    >>> low, high = proportion_ends(0.3, 12.5)
    >>> round(float(low), 3), round(float(high), 3)
    (0.084, 0.613)
    """
    share, n, tail = np.asarray(share, np.float64), np.asarray(n, np.float64), (1 - confidence) / 2
    found = share * n
    low = special.betaincinv(np.maximum(found, 1e-9), n - found + 1, tail) * (found > 0)
    high = 1 - special.betaincinv(np.maximum(n - found, 1e-9), found + 1, tail) * (found < n)
    return np.minimum(low, share), np.maximum(high, share)


def share_ends(values: Float64, confidence: float = CONFIDENCE) -> tuple[Float64, Float64]:
    r"""Return the ends of the interval of a mean over users of values in [0, 1], such as Recall@k.

    Korn and Graubard's (1998): Clopper and Pearson's interval for :math:`\bar x n^*` successes among :math:`n^*` users,

    .. math:: n^* = n \frac{\bar x (1 - \bar x)}{s^2} \Bigl( \frac{z}{t_{n - 1}} \Bigr)^2 ,

    the number of users with 0 or 1 who would have as large a standard error, where s is the standard deviation and
    where z and t are quantiles of the normal and of Student's distribution. Most values of a recall are 0, so its mean
    is skewed: the mean and 1.96 standard errors cover 0.18 to 0.9 with 10 to 75 users and a recall of 0.02.

    Parameters
    ----------
    values : float64, shape (..., n)
        One value for each of n users.
    confidence : float

    Returns
    -------
    low, high : float64, shape (...)

    Examples
    --------
    >>> low, high = share_ends(np.array([0.0, 0.0, 0.2, 0.0, 0.6, 0.0, 0.0, 0.4]))
    >>> round(float(low), 3), round(float(high), 3)
    (0.018, 0.451)
    """
    n = values.shape[-1]
    mean = values.mean(axis=-1)
    variance = values.var(axis=-1, ddof=1) if n > 1 else np.zeros_like(mean)
    tail = (1 - confidence) / 2
    factor = (special.ndtri(tail) / special.stdtrit(n - 1, tail)) ** 2 if n > 1 else 1.0
    spread = variance > 1e-12
    users = np.where(spread, factor * n * mean * (1 - mean) / np.where(spread, variance, 1.0), n)
    return proportion_ends(mean, users, confidence)


def shrinkage(targets: Sequence[int], in_seed: float = 0.5, over_seeds: float = 0.25) -> float:
    r"""Return the width of the interval of a mean over runs, in widths of the interval of one run; 1 for one run.

    Two runs share users. The errors of a user who is in the same class in both runs are positively correlated; those of
    a user who is a member in one run and not in the other are negatively correlated, or not at all. So the correlation
    of two runs is at most the share of a run's members who are members in the other as well: 1/2 for two targets of a
    seed, if members are drawn by fair coins; 1/4 for two seeds that first draw a random half of the same users. With
    T_s targets of seed s, and n runs altogether,

    .. math:: \frac{1}{n^2} \Bigl( n + \tfrac12 \sum_s T_s (T_s - 1) + \tfrac14 \bigl( n^2 - \sum_s T_s^2 \bigr) \Bigr)

    bounds the variance of the mean in units of that of one run; its root is returned. It is never below 1/2: further
    seeds on the same users are no substitute for more users.

    Parameters
    ----------
    targets : sequence of int
        How many targets each seed has.
    in_seed, over_seeds : float
        The largest correlation of two runs of one seed, and of two seeds.

    Examples
    --------
    >>> round(shrinkage([1, 1]), 3), round(shrinkage([4]), 3)
    (0.791, 0.791)
    """
    n = sum(targets)
    squares = sum(one * one for one in targets)
    return math.sqrt((n + in_seed * (squares - n) + over_seeds * (n * n - squares)) / (n * n))


def rank_bias(n_nonmembers: int, fpr: float) -> float:
    """Return the largest share of a TPR at an FPR that can be bias: 1 - `fpr` / f, f the mean FPR of the threshold.

    A share of (k + 1) / (n0 + 1) of all non-members lies above the (k + 1)-th of n0 on average: with 153 and an FPR of
    1%, that is 1.3%. A concave ROC gains at most this share of the value between the two rates. The bias does not
    average out over runs; pass it to `combine`.

    Examples
    --------
    >>> round(rank_bias(153, 0.01), 2), rank_bias(199, 0.01)
    (0.23, 0.0)
    """
    found = (math.floor(fpr * n_nonmembers + 1e-9) + 1) / (n_nonmembers + 1)
    return max(0.0, 1 - fpr / found)


def combine(
    seeds: Sequence[Sequence[Estimate]],
    *,
    bias: float = 0.0,
    in_seed: float = 0.5,
    over_seeds: float = 0.25,
    most: float = 1.0,
) -> Estimate:
    r"""Return the mean over the targets of all seeds, with an interval that is never wider than the widest of the runs.

    The distance of each end from the value is averaged over the runs and multiplied by `shrinkage`; at the lower end,
    the part that may be bias is not multiplied, because it does not average out. The lower end is at most the highest
    lower end of the runs. (Where a rate is near 0, the lower ends of the runs are 0 at any confidence, and their
    distances are too small; without this limit, 20 attacks without a leak raise an alarm in 7% of audits with five
    seeds.) With ``in_seed=over_seeds=1`` nothing is multiplied.

    The interval covers the mean over these runs of the value that each trained system would have with endlessly many
    such users. Where all trainings leak alike, that is the value of this mechanism on this data set, over all splits
    and trainings. Where they do not, another training may leak more or less: see `runs_differ`, and show the spread of
    the runs beside the interval. No interval that allows for it is both valid with two runs and no wider than one:
    Student's t over two seeds turns 0.829 into [0.464, 1].

    Parameters
    ----------
    seeds : sequence of sequences of Estimate
        The runs of each seed. If some have no interval, the first of those is returned.
    bias : float
        Share of the values that may be bias upwards: `rank_bias` for a TPR at an FPR, else 0.
    in_seed, over_seeds : float
        As in `shrinkage`.
    most : float
        The interval is cut to [0, `most`].

    Examples
    --------
    >>> mean = combine([[Estimate(0.86, 0.80, 0.90)], [Estimate(0.80, 0.73, 0.86)]])
    >>> round(mean.value, 3), round(mean.low, 3), round(mean.high, 3)
    (0.83, 0.779, 0.87)
    """
    runs = [run for seed in seeds for run in seed]
    if len(runs) == 1:
        return runs[0]
    known = [(run.value, run.low, run.high) for run in runs]
    whole = [(v, low, high) for v, low, high in known if v is not None and low is not None and high is not None]
    if len(whole) < len(runs):
        return next(run for run in runs if run.value is None or run.low is None or run.high is None)
    value, low, high = np.array(whole).T
    factor = shrinkage([len(seed) for seed in seeds], in_seed, over_seeds)
    mean = float(value.mean())
    kept = np.minimum(value - low, bias * value)
    below = float((kept + factor * (value - low - kept)).mean())
    above = factor * float((high - value).mean())
    least = min(mean - below, float(low.max()))
    return Estimate(mean, max(0.0, least), min(most, mean + above), runs[0].note)


def runs_differ(runs: Sequence[Estimate], confidence: float = CONFIDENCE) -> float:
    r"""Return the p-value of the hypothesis that all runs leak alike, by Cochran's Q (1954).

    It is small where the runs differ by more than the sampling of users explains:
    :math:`Q = \sum (x_i - \bar x)^2 / s_i^2` is compared with :math:`\chi^2_{n - 1}`, where the standard error
    :math:`s_i` follows from the width of a run's interval. Runs that share users agree more than independent ones, so
    the p-value is conservative. For metrics whose interval is about symmetric: the AUC and the balanced accuracy.

    Parameters
    ----------
    runs : sequence of Estimate
        Of one metric.
    confidence : float
        Of their intervals.

    Returns
    -------
    float
        1 for one run, or where one has no interval.

    Examples
    --------
    >>> runs_differ([Estimate(0.9, 0.85, 0.95), Estimate(0.6, 0.5, 0.7)]) < 0.001
    True
    """
    known = [(run.value, run.low, run.high) for run in runs]
    whole = [(v, low, high) for v, low, high in known if v is not None and low is not None and high is not None]
    if len(whole) < max(2, len(runs)):
        return 1.0
    value, low, high = np.array(whole).T
    error = np.maximum((high - low) / (2 * special.ndtri((1 + confidence) / 2)), 1e-12)
    return float(special.chdtrc(len(whole) - 1, (((value - value.mean()) / error) ** 2).sum()))


def folded(estimate: Estimate, chance: float = 0.5) -> Estimate:
    """Return the value of a score or of its reverse, whichever is farther above chance: an AUC of 0.002 becomes 0.998.

    The interval covers if the given one does. Its upper end is the worse of both directions; its lower end is `chance`
    where the given interval includes `chance`.

    Examples
    --------
    >>> folded(Estimate(0.25, 0.125, 0.375))
    Estimate(value=0.75, low=0.625, high=0.875, note='')
    """
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return estimate
    flipped = 2 * chance - estimate.high, 2 * chance - estimate.low
    low = max(chance, estimate.low, flipped[0])
    return Estimate(
        max(estimate.value, 2 * chance - estimate.value), low, max(estimate.high, flipped[1]), estimate.note
    )


def midranks(score: Float64) -> Float64:
    """Return the rank of each score from 1, tied scores sharing their mean rank.

    Examples
    --------
    >>> midranks(np.array([3.0, 1.0, 3.0]))
    array([2.5, 1. , 2.5])
    """
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]

"""Estimates with intervals, and how estimates of several runs are joined. Intervals are at 95% unless stated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Float64 = npt.NDArray[np.float64]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value and its interval; `value` is None where the data cannot resolve it, and `note` says why."""

    value: float | None
    low: float | None
    high: float | None
    note: str = ""


def clopper_pearson(successes: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact interval of a binomial rate (Clopper and Pearson 1934).

    >>> low, high = clopper_pearson(0, 10)
    >>> low, round(high, 4)
    (0.0, 0.3085)
    """
    tail = (1 - confidence) / 2
    return float(rate_at_least(successes, trials, tail)), 1 - float(rate_at_least(trials - successes, trials, tail))


def newcombe(area: Float64, n_members: int, n_nonmembers: int) -> tuple[Float64, Float64]:
    """Return the ends of the interval of each AUC in an array of any shape.

    The method is the fifth of Newcombe (2006), "Confidence intervals for an effect size measure based on the
    Mann-Whitney statistic", part 2. The interval holds all theta with ``|theta - area| <= z sqrt(V(theta))``, where V
    is that of Hanley and McNeil (1982) with the mean sample size in place of both sample sizes.

    Examples
    --------
    >>> low, high = newcombe(np.array([1.0]), 50, 50)
    >>> low.round(3), high
    (array([0.96]), array([1.]))
    """
    z = float(special.ndtri((1 + CONFIDENCE) / 2))
    extra = (n_members + n_nonmembers) / 2 - 1

    def edge(outer: float) -> Float64:
        # Bisection between the area, which is inside the interval, and the far end, which counts as outside.
        inner = area + (outer - area) * 1e-9
        far = np.full_like(area, outer)
        for _ in range(60):
            theta = (inner + far) / 2
            spread = 1 + extra * ((1 - theta) / (2 - theta) + theta / (1 + theta))
            inside = abs(theta - area) <= z * np.sqrt(theta * (1 - theta) * spread / (n_members * n_nonmembers))
            inner, far = np.where(inside, theta, inner), np.where(inside, far, theta)
        return inner

    return edge(0.0), edge(1.0)


def over_seeds(estimates: Sequence[Estimate], *, most: float = 1.0) -> Estimate:
    """Return the mean over independent runs with its interval, cut to [0, most].

    The interval is Student's t on the spread over the runs. It is never narrower than the interval of a mean of runs
    with the given intervals, because a few runs can agree by chance, and a perfect score has no spread. A single run
    keeps its interval. If a value is missing, so is the mean.

    Examples
    --------
    >>> round(over_seeds([Estimate(0.5, 0.4, 0.6), Estimate(0.7, 0.6, 0.8)]).value, 6)
    0.6
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


def rate_at_least(successes: npt.ArrayLike, trials: int, error: float) -> Float64:
    """Return Clopper and Pearson's lower bound on a rate, which is wrong with probability at most `error`."""
    successes = np.asarray(successes)
    # The rate at which so many or more successes have the probability `error`.
    bound: Float64 = special.betaincinv(np.maximum(successes, 1), trials - successes + 1, error)
    return bound * (successes > 0)


def midranks(score: Float64) -> Float64:
    """Return the rank of each score from 1, tied scores sharing their mean rank.

    >>> midranks(np.array([3.0, 1.0, 3.0]))
    array([2.5, 1. , 2.5])
    """
    """Return the rank of each score from 1, ties sharing the mean of theirs: float64[n]."""
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]

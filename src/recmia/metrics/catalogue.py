"""The metrics of an audit: their names, how they are shown, and how they are estimated over runs.

A new metric is a `MetricSpec`; `recmia.AuditResult.measure` takes one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from recmia.metrics.epsilon import EpsilonBound, choose_epsilon_threshold, epsilon_lower_bound
from recmia.metrics.intervals import CONFIDENCE, Estimate, over_seeds
from recmia.metrics.roc import auc, balanced_accuracy, choose_threshold, tpr_at_fpr

FALSE_POSITIVE_RATES = (0.1, 0.01, 0.001)

# Membership and scores of the users of one system, bool[n] and float64[n].
Labelled = tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class SeedRuns:
    """The scores of one attack in one seed.

    Parameters
    ----------
    shadow : tuple of (bool[m], float64[m])
        Membership and out-of-fold scores of all shadow users; empty where no thresholds are chosen.
    targets : sequence of (bool[n], float64[n])
        Membership and scores of the users of each audited system.

    Examples
    --------
    >>> member, score = np.array([True, False]), np.array([1.0, 0.0])
    >>> len(SeedRuns(shadow=(member, score), targets=[(member, score)] * 3).targets)
    3
    """

    shadow: Labelled
    targets: Sequence[Labelled]


@dataclass(frozen=True)
class Metric:
    """The value of one metric with its interval, over all targets and seeds of an audit; None where not resolvable."""

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


@dataclass(frozen=True)
class MetricSpec:
    """A metric as a value: how to estimate it, and how to show it.

    Parameters
    ----------
    name : str
        Its name in results and in gates.
    heading : str
        Its heading in reports.
    digits : int
        Number of decimals that are shown.
    estimate : callable
        ``estimate(runs)`` returns an `Estimate` from one `SeedRuns` for each seed; see `mean_over_runs`.
    lowest, highest : float
        Range of its values.
    is_bound : bool
        Whether the value is a lower bound, without an upper end of the interval.
    needs_thresholds : bool
        Whether it needs scores of shadow users, on which a threshold is chosen.

    Examples
    --------
    >>> import numpy as np
    >>> from recmia.metrics.catalogue import SeedRuns
    >>> member, score = np.array([True, False] * 20), np.arange(40.0)
    >>> runs = [SeedRuns(shadow=(member, score), targets=[(member, score)])]
    >>> round(METRICS["auc"].estimate(runs).value, 3)
    0.475
    """

    name: str
    heading: str
    digits: int
    estimate: Callable[[Sequence[SeedRuns]], Estimate]
    lowest: float = 0.0
    highest: float = 1.0
    is_bound: bool = False
    needs_thresholds: bool = False


def mean_over_runs(
    runs: Sequence[SeedRuns],
    estimate: Callable[..., Estimate],
    choose: Callable[[npt.NDArray[np.bool_], npt.NDArray[np.float64]], float] | None = None,
) -> Estimate:
    """Return the mean of an estimate over the targets of each seed, and then over seeds.

    Parameters
    ----------
    runs : sequence of SeedRuns
    estimate : callable
        ``estimate(member, score)``, or ``estimate(member, score, threshold)`` with `choose`.
    choose : callable, optional
        ``choose(member, score)`` returns a threshold, which is chosen on the shadow users of each seed.

    Returns
    -------
    Estimate

    Examples
    --------
    >>> member, score = np.array([True, False] * 20), np.arange(40.0)
    >>> runs = [SeedRuns(shadow=(member, score), targets=[(member, score)])]
    >>> round(mean_over_runs(runs, auc).value, 3)
    0.475
    """
    by_seed = []
    for seed in runs:
        chosen = () if choose is None else (choose(*seed.shadow),)
        by_seed.append(over_seeds([estimate(*target, *chosen) for target in seed.targets]))
    return over_seeds(by_seed)


def epsilon_bound(runs: Sequence[SeedRuns], delta: float = 0.0, confidence: float = CONFIDENCE) -> EpsilonBound:
    """Return the bound from the counts over all targets, at one threshold that is chosen on all shadow users.

    Parameters are those of `epsilon_lower_bound` and `mean_over_runs`.

    >>> member = np.arange(200) < 100
    >>> runs = [SeedRuns(shadow=(member, member * 1.0), targets=[(member, member * 1.0)])]
    >>> round(epsilon_bound(runs).value, 3)
    3.281
    """
    shadow_member, shadow_score = (np.concatenate(part) for part in zip(*(seed.shadow for seed in runs), strict=True))
    member, score = (np.concatenate(part) for part in zip(*(one for seed in runs for one in seed.targets), strict=True))
    n_members, n_nonmembers = int(member.sum()), int((~member).sum())
    sizes = {"n_members": n_members, "n_nonmembers": n_nonmembers}
    threshold = choose_epsilon_threshold(shadow_member, shadow_score, **sizes, delta=delta, confidence=confidence)
    called = score >= threshold
    found = int((called & member).sum()), n_members, int((called & ~member).sum()), n_nonmembers
    return epsilon_lower_bound(*found, delta=delta, confidence=confidence)


def _epsilon(runs: Sequence[SeedRuns]) -> Estimate:
    bound = epsilon_bound(runs)
    note = f"{bound.confidence:.0%} lower bound; no more than {bound.ceiling:.2f} can be shown with so many users"
    return Estimate(bound.value, bound.value, None, note)


def _tpr(rate: float) -> MetricSpec:
    return MetricSpec(
        f"tpr@fpr={rate:g}",
        f"TPR at FPR {rate:.3g}",
        2,
        partial(mean_over_runs, estimate=partial(tpr_at_fpr, fpr=rate)),
    )


METRICS: Mapping[str, MetricSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            MetricSpec("auc", "AUC", 3, partial(mean_over_runs, estimate=auc)),
            *map(_tpr, FALSE_POSITIVE_RATES),
            MetricSpec(
                "balanced_accuracy",
                "balanced accuracy",
                2,
                partial(mean_over_runs, estimate=balanced_accuracy, choose=choose_threshold),
                needs_thresholds=True,
            ),
            MetricSpec("epsilon", "epsilon", 2, _epsilon, highest=math.inf, is_bound=True, needs_thresholds=True),
        )
    }
)

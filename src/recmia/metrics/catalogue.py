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

from recmia.metrics.clusters import Clustered
from recmia.metrics.epsilon import EpsilonBound, Guessed, Guesses, choose_guesses, epsilon_bound, fair_coins, guess
from recmia.metrics.intervals import (
    CONFIDENCE,
    Estimate,
    binomial_p_value,
    combine,
    folded,
    rank_bias,
    simultaneous,
)
from recmia.metrics.roc import FALSE_POSITIVE_RATES, auc, balanced_accuracy, choose_threshold, tpr_at_fpr
from recmia.seeding import rng_for

# Without shadow users, the shares of users who are guessed to be members, and non-members.
TRIED = ((0.5, 0.5), (0.25, 0.25), (0.1, 0.1), (0.1, 0.0), (0.03, 0.0))
# A number of members that coins give as rarely as this was not given by them.
_NO_COINS = 1e-4

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
        Membership and scores of the users of each audited system, or of its interactions.
    clustered : sequence of Clustered
        Of interactions: the same, with the users whom they are of.

    Examples
    --------
    >>> member, score = np.array([True, False]), np.array([1.0, 0.0])
    >>> len(SeedRuns(shadow=(member, score), targets=[(member, score)] * 3).targets)
    3
    """

    shadow: Labelled
    targets: Sequence[Labelled]
    clustered: Sequence[Clustered] = ()


@dataclass(frozen=True, eq=False)
class Runs:
    """The scores of one attack in all seeds, and how the runs overlap.

    Parameters
    ----------
    seeds : sequence of SeedRuns
    in_seed, over_seeds : float
        The largest share of a run's members who are members in another run of the same seed, and of another seed; see
        `recmia.metrics.intervals.shrinkage`.
    member_share : float
        The probability with which each user was drawn as a member, independently of the others.

    Examples
    --------
    >>> member, score = np.array([True, False] * 20), np.arange(40.0)
    >>> Runs([SeedRuns(shadow=(member, score), targets=[(member, score)])]).n_runs
    1
    """

    seeds: Sequence[SeedRuns]
    in_seed: float = 0.5
    over_seeds: float = 0.25
    member_share: float = 0.5

    @property
    def n_runs(self) -> int:
        """How many systems were attacked."""
        return sum(len(seed.targets) for seed in self.seeds)


@dataclass(frozen=True)
class Metric:
    """The value of one metric with its interval, over all targets and seeds of an audit; None where not resolvable.

    The numbers of members and of non-members are the smallest of any run.
    """

    knowledge: str
    regime: str
    recommender: str
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

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What the figure is about within one audit: knowledge, regime, attack and metric."""
        return self.knowledge, self.regime, self.attack, self.metric

    @property
    def turned(self) -> Estimate:
        """Value and interval; where both directions are an attack, those of the direction in which it is stronger."""
        estimate = Estimate(self.value, self.low, self.high, self.note)
        chance = METRICS[self.metric].chance
        return estimate if chance is None else folded(estimate, chance)


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
        ``estimate(runs, confidence)`` returns an `Estimate` from `Runs`; see `mean_over_runs`.
    lowest, highest : float
        Range of its values.
    chance : float, optional
        Its value for random scores, where a value as far below is as good an attack, read backwards.
    is_bound : bool
        Whether the value is a lower bound, without an upper end of the interval. Bounds hold together for all attacks.
    needs_thresholds : bool
        Whether it needs scores of shadow users, on which a threshold is chosen.

    Examples
    --------
    >>> import numpy as np
    >>> from recmia.metrics.catalogue import Runs, SeedRuns
    >>> member, score = np.array([True, False] * 20), np.arange(40.0)
    >>> runs = Runs([SeedRuns(shadow=(member, score), targets=[(member, score)])])
    >>> round(METRICS["auc"].estimate(runs, 0.95).value, 3)
    0.475
    """

    name: str
    heading: str
    digits: int
    estimate: Callable[[Runs, float], Estimate]
    lowest: float = 0.0
    highest: float = 1.0
    chance: float | None = None
    is_bound: bool = False
    needs_thresholds: bool = False


def mean_over_runs(
    runs: Runs,
    confidence: float,
    *,
    estimate: Callable[..., Estimate],
    clustered: Callable[..., Estimate] | None = None,
    choose: Callable[[npt.NDArray[np.bool_], npt.NDArray[np.float64]], float] | None = None,
    bias: Callable[[int], float] = lambda n_nonmembers: 0.0,
) -> Estimate:
    """Return the mean of an estimate over all targets of all seeds; see `recmia.metrics.intervals.combine`.

    Parameters
    ----------
    runs : Runs
    confidence : float
    estimate : callable
        ``estimate(member, score, confidence=...)``, or ``estimate(member, score, threshold, confidence=...)`` with
        `choose`.
    clustered : callable, optional
        ``clustered(scores, confidence=...)`` of interactions.
    choose : callable, optional
        ``choose(member, score)`` returns a threshold, which is chosen on the shadow users of each seed.
    bias : callable
        From the number of non-members of a run, the share of the value that may be bias upwards.

    Returns
    -------
    Estimate

    Examples
    --------
    >>> member, score = np.array([True, False] * 20), np.arange(40.0)
    >>> runs = Runs([SeedRuns(shadow=(member, score), targets=[(member, score)])])
    >>> round(mean_over_runs(runs, 0.95, estimate=auc).value, 3)
    0.475
    """
    found = []
    for seed in runs.seeds:
        if seed.clustered and clustered is not None:
            found.append([clustered(one, confidence=confidence) for one in seed.clustered])
            continue
        chosen = () if choose is None else (choose(*seed.shadow),)
        found.append([estimate(*target, *chosen, confidence=confidence) for target in seed.targets])
    n_nonmembers = min(int((~member).sum()) for seed in runs.seeds for member, _ in seed.targets)
    return combine(found, bias=bias(n_nonmembers), in_seed=runs.in_seed, over_seeds=runs.over_seeds)


def guesses_of(runs: Runs, confidence: float = CONFIDENCE) -> tuple[Guessed, float]:
    """Return all guesses of an attack, those of all targets added up, and the confidence of a bound on them.

    Their numbers are chosen on shadow users. Without these, a few numbers that are fixed in advance are tried, and paid
    for: the best is returned, and a bound on it must hold for all together (Bonferroni).

    Where the probability of membership is not 1/2, some users are left out by a draw of their own, so that the coins of
    the rest are fair; see `recmia.metrics.epsilon.fair_coins`.

    >>> member = np.arange(200) % 2 == 0
    >>> score = member * 1.0
    >>> played, confidence = guesses_of(Runs([SeedRuns(shadow=(member, score), targets=[(member, score)])]))
    >>> played.right >= 190, confidence
    (True, 0.95)
    >>> nobody = np.empty(0, np.bool_), np.empty(0)
    >>> played, confidence = guesses_of(Runs([SeedRuns(shadow=nobody, targets=[(member, score)])]))
    >>> played.right, round(confidence, 4)
    (200, 0.99)
    """
    if all(len(seed.shadow[0]) for seed in runs.seeds):
        return _played(runs, partial(_chosen, targets=runs.n_runs, confidence=confidence)), confidence
    paid = simultaneous(len(TRIED), confidence)
    games = [_played(runs, partial(_fixed, shares=shares)) for shares in TRIED]
    return max(games, key=lambda game: epsilon_bound(game, confidence=paid).value), paid


def _chosen(seed: SeedRuns, coins: int, targets: int, confidence: float) -> Guesses:
    return choose_guesses(*seed.shadow, coins, targets, confidence)


def _fixed(seed: SeedRuns, coins: int, shares: tuple[float, float]) -> Guesses:
    return Guesses(*(int(coins * share) for share in shares))


def _played(runs: Runs, choose: Callable[[SeedRuns, int], Guesses]) -> Guessed:
    """Return the guesses of an attack, with numbers that are chosen for the number of coins of each target."""
    played = []
    for number, seed in enumerate(runs.seeds):
        for target, (member, score) in enumerate(seed.targets):
            fair = runs.member_share == 0.5
            rng = rng_for(0, "fair coins", number, target)
            in_play = None if fair else fair_coins(member, runs.member_share, rng)
            coins = len(member) if in_play is None else int(in_play.sum())
            played.append(guess(member, score, choose(seed, coins), in_play))
    total = played[0]
    for one in played[1:]:
        total = total + one
    return total


def bound_of(runs: Runs, delta: float = 0.0, confidence: float = CONFIDENCE) -> EpsilonBound:
    """Return the lower bound on epsilon that the guesses of an attack show.

    >>> member = np.arange(200) % 2 == 0
    >>> runs = Runs([SeedRuns(shadow=(member, member * 1.0), targets=[(member, member * 1.0)])])
    >>> round(bound_of(runs).value, 1)
    4.2
    """
    played, paid = guesses_of(runs, confidence)
    return epsilon_bound(played, delta=delta, confidence=paid)


def _epsilon(runs: Runs, confidence: float) -> Estimate:
    unfair = _unfair(runs)
    if unfair:
        return Estimate(None, None, None, unfair)
    bound = bound_of(runs, confidence=confidence)
    coins = "interactions" if any(seed.clustered for seed in runs.seeds) else "users"
    note = (
        "95% lower bound for all attacks together, valid for one training if members were drawn by independent coins; "
        f"delta 0; no more than {bound.ceiling:.2f} can be shown with so many {coins}"
    )
    return Estimate(bound.value, bound.value, None, note)


def _unfair(runs: Runs) -> str:
    """Say why members were not drawn by coins; empty if their number does not contradict it.

    With 9 of 10 users members, guesses at random would be right nine times in ten.
    """
    for seed in runs.seeds:
        for member, _ in seed.targets:
            n, found = len(member), int(member.sum())
            if binomial_p_value(found, n, runs.member_share) < _NO_COINS:
                what = "interactions were trained on" if seed.clustered else "users are members"
                return (
                    f"not resolvable: {found:,} of {n:,} {what}, and coins that make it so with probability "
                    f"{runs.member_share:g} give about {runs.member_share * n:,.0f}; if it was another, set "
                    "member_share"
                )
    return ""


def _tpr(rate: float) -> MetricSpec:
    estimate = partial(tpr_at_fpr, fpr=rate)
    mean = partial(
        mean_over_runs,
        estimate=estimate,
        clustered=partial(Clustered.tpr, rate=rate),
        bias=partial(rank_bias, fpr=rate),
    )
    return MetricSpec(f"tpr@fpr={rate:g}", f"TPR at FPR {rate:.3g}", 2, mean)


METRICS: Mapping[str, MetricSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            MetricSpec("auc", "AUC", 3, partial(mean_over_runs, estimate=auc, clustered=Clustered.auc), chance=0.5),
            *map(_tpr, FALSE_POSITIVE_RATES),
            MetricSpec(
                "balanced_accuracy",
                "balanced accuracy",
                2,
                partial(mean_over_runs, estimate=balanced_accuracy, choose=choose_threshold),
                chance=0.5,
                needs_thresholds=True,
            ),
            MetricSpec("epsilon", "epsilon", 2, _epsilon, highest=math.inf, is_bound=True),
        )
    }
)

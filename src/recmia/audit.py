"""One audit, from the data to the scores of every attack."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recmia import summary
from recmia.attacks import BASELINES
from recmia.config import AuditConfig
from recmia.datasets import CleaningReport, clean, load
from recmia.errors import ConfigError, RecmiaError
from recmia.evaluation import (
    CONFIDENCE,
    EpsilonBound,
    Estimate,
    Metric,
    PromiseCheck,
    Roc,
    auc,
    balanced_accuracy,
    choose_epsilon_threshold,
    choose_threshold,
    epsilon_lower_bound,
    exposure,
    identifiable,
    over_seeds,
    roc,
    tpr_at_fpr,
)
from recmia.game import check_servable, with_items_of
from recmia.interactions import Interactions
from recmia.play import Game, Play, play_games, work_units
from recmia.provenance import peak_memory, versions
from recmia.recommenders import Own, load_own
from recmia.training import Store

FALSE_POSITIVE_RATES = (0.1, 0.01, 0.001)
IN_MEMORY = "(in memory)"

# Membership and scores of the users of one model, bool[n] and float64[n].
_Labelled = tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]

# Called with what is being done, and how many of how many units of work are done.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class AuditResult:
    """What an audit found, raw: every figure is recomputed from the scores.

    Parameters
    ----------
    config : AuditConfig
    scores : polars.DataFrame
        Columns seed, knowledge, side ("shadow" or "target"), run (number of the shadow or of the target), regime,
        attack, user_id, member, score. Scores of shadow users are out of fold.
    users : polars.DataFrame
        Columns seed, user_id, history_length, rarity: the audited users of each seed.
    provenance : dict
        Versions, data fingerprint, cleaning report, seconds by stage, peak memory.
    utility : polars.DataFrame
        With `AuditConfig.held_out`, what the lists of each target are worth: columns seed, run, regime, users ("all",
        "members", "non-members"), metric, value, low, high; else empty.
    """

    config: AuditConfig
    scores: pl.DataFrame
    users: pl.DataFrame
    provenance: dict[str, Any]
    utility: pl.DataFrame = field(default_factory=pl.DataFrame)

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """AUC, TPR at fixed FPR, balanced accuracy and epsilon of each attack at each level in each regime.

        The last two need `AuditConfig.thresholds`.
        """
        rows: list[Metric] = []
        for (level, regime, attack), seeds in self._runs():
            member = seeds[0][1][0][0]
            for name, estimate in _estimates(seeds, self.config.thresholds):
                rows.append(
                    Metric(
                        knowledge=level,
                        regime=regime,
                        target=self.config.target,
                        shadow=self.config.shadow,
                        attack=attack,
                        metric=name,
                        value=estimate.value,
                        low=estimate.low,
                        high=estimate.high,
                        seeds=len(seeds),
                        targets=self.config.targets,
                        n_members=int(member.sum()),
                        n_nonmembers=int((~member).sum()),
                        note=estimate.note,
                    )
                )
        return tuple(rows)

    @cached_property
    def rocs(self) -> dict[tuple[str, str, str], list[Roc]]:
        """The ROC of each target of each seed, by knowledge, regime and attack."""
        return {key: [roc(*target) for _, targets in seeds for target in targets] for key, seeds in self._runs()}

    @cached_property
    def exposures(self) -> pl.DataFrame:
        """How well each audited user's own membership shows to the attacks with many shadow models.

        Over the targets of a seed, all scored by one attack that was fitted without them. Shadows do not count as
        runs: each would be scored by an attack fitted on the user's other shadows, and scores that share labels in
        that way name users where nothing leaks. Columns seed, knowledge, regime, attack, user_id, auc, low, high,
        p_value, identifiable, n_in, n_out, history_length, rarity; see `recmia.evaluation.exposure`. Empty where no
        such attack was run, or against one target only.
        """
        if self.config.targets == 1:
            return pl.DataFrame()
        frames = []
        chosen = self.scores.filter(pl.col("attack").is_in(self.config.pool_attacks), side="target")
        keys = ("seed", "knowledge", "regime", "attack")
        for part in chosen.partition_by(*keys, maintain_order=True):
            runs = part.partition_by("run", maintain_order=True)
            member, score = (np.stack([run[name].to_numpy() for run in runs]) for name in ("member", "score"))
            found = exposure(member, score)
            figures = {
                "auc": found.auc,
                "low": found.low,
                "high": found.high,
                "p_value": found.p_value,
                "identifiable": identifiable(found),
                "n_in": found.n_in,
                "n_out": found.n_out,
            }
            frames.append(runs[0].select(*keys, "user_id").hstack(pl.DataFrame(figures)))
        if not frames:
            return pl.DataFrame()
        # A join promises no order of its rows.
        joined = pl.concat(frames).with_row_index("row").join(self.users, on=["seed", "user_id"])
        return joined.sort("row").drop("row")

    @cached_property
    def utilities(self) -> pl.DataFrame:
        """Means of `utility` over targets and seeds: columns regime, users, metric, value, low, high."""
        rows = []
        if not self.utility.is_empty():
            keys = ("regime", "users", "metric")
            for key, part in self.utility.partition_by(*keys, as_dict=True, maintain_order=True).items():
                by_seed = [
                    over_seeds([Estimate(*one) for one in runs.select("value", "low", "high").rows()], most=math.inf)
                    for runs in part.partition_by("seed", maintain_order=True)
                ]
                mean = over_seeds(by_seed, most=math.inf)
                rows.append((*key, mean.value, mean.low, mean.high))
        return pl.DataFrame(rows, ["regime", "users", "metric", "value", "low", "high"], orient="row")

    @cached_property
    def promises(self) -> tuple[PromiseCheck, ...]:
        """What the defences promise, beside what the audit refutes; needs `AuditConfig.thresholds`.

        One check for each promise, level and regime where it holds. The bound is the largest over all attacks, each at
        a confidence that all may have together (Bonferroni).
        """
        checks = []
        parts = list(self._runs()) if self.config.thresholds else []
        for defence in self.config.defences:
            promise = defence.promise()
            for regime in self.config.regimes:
                if promise is None or regime not in promise.regimes:
                    continue
                for level in self.config.knowledge:
                    runs = [(attack, seeds) for (at, where, attack), seeds in parts if (at, where) == (level, regime)]
                    confidence = 1 - (1 - CONFIDENCE) / max(1, len(runs))
                    bounds = [(_epsilon(seeds, promise.delta, confidence).value, attack) for attack, seeds in runs]
                    if bounds:
                        bound, attack = max(bounds, key=lambda one: one[0])
                        checks.append(
                            PromiseCheck(str(defence), level, regime, promise.epsilon, promise.delta, bound, attack)
                        )
        return tuple(checks)

    @property
    def verdict(self) -> str:
        """What was found, in plain words."""
        return summary.verdict(self.metrics, self.exposures, self.promises)

    def __str__(self) -> str:
        return f"{summary.table_text(self.metrics)}\n{self.verdict}"

    def _runs(self) -> Iterator[tuple[tuple[str, str, str], list[tuple[_Labelled, list[_Labelled]]]]]:
        """For each seed, all shadow users, and the users of each target; by knowledge, regime and attack."""
        keys = ("knowledge", "regime", "attack", "seed", "side", "run")
        parts = self.scores.partition_by(*keys, as_dict=True, maintain_order=True)
        config = self.config
        for level in config.knowledge:
            for regime in config.regimes:
                for attack in (*config.attacks, *BASELINES):
                    shadows = range(config.shadows if attack in config.pool_attacks else int(config.thresholds))
                    seeds = []
                    for seed in range(config.seed, config.seed + config.seeds):
                        shadow, target = (
                            [
                                (part["member"].to_numpy(), part["score"].to_numpy())
                                for part in (parts[level, regime, attack, seed, side, run] for run in runs)
                            ]
                            for side, runs in (("shadow", shadows), ("target", range(config.targets)))
                        )
                        members, scores = zip(*shadow, strict=True) if shadow else ([_NOBODY], [_NOBODY])
                        seeds.append(((np.concatenate(members), np.concatenate(scores)), target))
                    yield (level, regime, attack), seeds


_NOBODY = np.empty(0)


def audit(
    dataset: str | Path | Interactions | None = None,
    *,
    config: AuditConfig | None = None,
    recommender: Any = None,
    jobs: int = 1,
    store: Store | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> AuditResult:
    """Audit a recommender on a data set.

    Parameters
    ----------
    dataset : str, Path or Interactions
        See `recmia.datasets.load`. If not given, ml-latest-small.
    config : AuditConfig, optional
        Instead of `settings` and of the name of a data set.
    recommender : object or str, optional
        What to audit instead of ``target``: a name, or your own, not fitted, as `recmia.recommenders.own` says: an
        object, a function that makes it, or ``"package.module:factory"``. Unless ``shadow`` names another, the
        attacker trains the same.
    jobs : int
        Processes that share the models and the seeds and, where there are fewer, threads that share the work on each;
        results do not depend on it.
    store : mutable mapping, optional
        What was trained and served before; gets what this audit trains. See `recmia.store.ArrayStore`.
    progress : callable, optional
        Called with a text, the units of work done, and all units.
    **settings
        Fields of `AuditConfig`, for example ``k=50`` or ``lfm={"feedback": "explicit"}``.

    Returns
    -------
    AuditResult

    Raises
    ------
    ConfigError
        For a setting that is unknown or out of range.
    DataError
        If the data cannot be found or used; TooFewUsersError if they hold too few users.
    """
    given = dataset if isinstance(dataset, Interactions) else None
    if given is None and dataset is not None:
        settings["dataset"] = str(dataset)
    if isinstance(recommender, str):
        settings["recommender"] = recommender
    if config is None:
        config = AuditConfig.parse(settings)
    elif settings:
        raise ConfigError(f"give either config or single settings, not both; got {', '.join(sorted(settings))}")
    if given is not None:
        config = config.model_copy(update={"dataset": IN_MEMORY})
    own: dict[str, Own] = {}
    if recommender is not None and not isinstance(recommender, str):
        packed = Own.of(recommender)
        own[packed.name] = packed
        same = {} if "shadow" in config.model_fields_set else {"shadow": packed.name}
        config = config.model_copy(update={"target": packed.name, **same})
    if jobs < 1:
        raise ConfigError(f"jobs must be at least 1; got {jobs}")
    own |= import_own(config, own)
    report = Reporter(progress)
    report("loading the data", 0)
    started = time.perf_counter()
    interactions, cleaning = load_candidates(config, given)
    seconds = {"load": time.perf_counter() - started}
    black_box = load_black_box(config, interactions)
    seeds = range(config.seed, config.seed + config.seeds)
    games = [Game(config, interactions, seed, black_box, own=own) for seed in seeds]
    report.total = work_units(games)
    started = time.perf_counter()
    plays = play_games(games, store={} if store is None else store, jobs=jobs, report=report)
    seconds["train, serve and attack"] = time.perf_counter() - started
    return join_plays(config, plays, interactions, cleaning, jobs, seconds)


def import_own(config: AuditConfig, own: Mapping[str, Own] = MappingProxyType({})) -> dict[str, Own]:
    """Import the user's recommenders that an audit names, unless they are there, and see that they serve its regimes.

    Raises
    ------
    ConfigError
        If one does not import, is no recommender, or cannot serve a regime.
    """
    names = (config.target, config.shadow)
    found = {**own, **load_own(name for name in names if name not in own)}
    for one in found.values():
        model = one.make()
        for regime in config.regimes:
            check_servable(model, regime)
    return found


def load_candidates(config: AuditConfig, given: Interactions | None = None) -> tuple[Interactions, CleaningReport]:
    """Load and clean the data of an audit."""
    if given is not None:
        return clean(given.frame(), IN_MEMORY, config.min_interactions)
    data = load(config.dataset, columns=config.columns, min_interactions=config.min_interactions, seed=config.seed)
    return data.interactions, data.report


def load_black_box(config: AuditConfig, audited: Interactions) -> Interactions | None:
    """Load the data of a black-box attacker, if there is one with data, over the items of the audited data."""
    if "black-box" not in config.knowledge or not config.black_box_data:
        return None
    return with_items_of(
        load(config.black_box_data, min_interactions=config.min_interactions).interactions, audited.items
    )


def join_plays(
    config: AuditConfig,
    results: Sequence[Play | RecmiaError],
    interactions: Interactions,
    cleaning: CleaningReport,
    jobs: int,
    seconds: dict[str, float],
) -> AuditResult:
    """Put the seeds of an audit together, or raise what went wrong in the first that did."""
    plays = []
    for play in results:
        if isinstance(play, RecmiaError):
            raise play
        plays.append(play)
    return AuditResult(
        config=config,
        scores=pl.concat([play.scores for play in plays]),
        users=pl.concat([play.users for play in plays]),
        utility=pl.concat([play.utility for play in plays]),
        provenance={
            "versions": versions(),
            "data": {
                "source": cleaning.source,
                "rows_read": cleaning.rows_read,
                "rows_kept": cleaning.rows_kept,
                "dropped": cleaning.dropped,
                "notes": list(cleaning.notes),
                "users": interactions.n_users,
                "items": interactions.n_items,
                "fingerprint": interactions.fingerprint(),
            },
            "jobs": jobs,
            "seconds": {stage: round(spent, 3) for stage, spent in seconds.items()},
            "seconds_total": round(sum(seconds.values()), 3),
            "peak_memory_bytes": max([peak_memory(), *(play.peak_memory for play in plays)]),
            "attacker": [{"seed": play.seed, **play.notes} for play in plays],
        },
    )


class Reporter:
    """Adds up units of work for a progress callback."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._done = progress, 0
        self.total = 1

    def __call__(self, text: str, units: int) -> None:
        """Tell what is being done, and that more units are."""
        self._done += units
        if self._progress is not None:
            self._progress(text, self._done, self.total)


def metric_names(config: AuditConfig) -> list[str]:
    """The metrics of an audit, as `AuditResult.metrics` has them."""
    names = ["auc", *(f"tpr@fpr={rate:g}" for rate in FALSE_POSITIVE_RATES)]
    return [*names, "balanced_accuracy", "epsilon"] if config.thresholds else names


def _estimates(seeds: list[tuple[_Labelled, list[_Labelled]]], thresholds: bool) -> Iterator[tuple[str, Estimate]]:
    """Means over the targets of a seed, and then over seeds, which alone are independent of each other."""

    def mean(estimate: Callable[[_Labelled, float], Estimate], settings: list[float]) -> Estimate:
        by_seed = [
            over_seeds([estimate(target, setting) for target in targets])
            for (_, targets), setting in zip(seeds, settings, strict=True)
        ]
        return over_seeds(by_seed)

    yield "auc", mean(lambda target, _: auc(*target), [0.0] * len(seeds))
    for rate in FALSE_POSITIVE_RATES:
        yield f"tpr@fpr={rate:g}", mean(lambda target, rate: tpr_at_fpr(*target, rate), [rate] * len(seeds))
    if not thresholds:
        return
    yield (
        "balanced_accuracy",
        mean(
            lambda target, threshold: balanced_accuracy(*target, threshold),
            [choose_threshold(*shadow) for shadow, _ in seeds],
        ),
    )
    bound = _epsilon(seeds)
    note = f"{bound.confidence:.0%} lower bound; no more than {bound.ceiling:.2f} can be shown with so many users"
    yield "epsilon", Estimate(bound.value, bound.value, None, note)


def _epsilon(
    seeds: list[tuple[_Labelled, list[_Labelled]]], delta: float = 0.0, confidence: float = CONFIDENCE
) -> EpsilonBound:
    """The lower bound from the counts of all targets, at one threshold that is chosen on all shadow users."""
    shadow_member, shadow_score = (np.concatenate(part) for part in zip(*(shadow for shadow, _ in seeds), strict=True))
    member, score = (
        np.concatenate(part) for part in zip(*(one for _, targets in seeds for one in targets), strict=True)
    )
    n_members, n_nonmembers = int(member.sum()), int((~member).sum())
    threshold = choose_epsilon_threshold(
        shadow_member,
        shadow_score,
        n_members=n_members,
        n_nonmembers=n_nonmembers,
        delta=delta,
        confidence=confidence,
    )
    called = score >= threshold
    found = int((called & member).sum()), n_members, int((called & ~member).sum()), n_nonmembers
    return epsilon_lower_bound(*found, delta=delta, confidence=confidence)

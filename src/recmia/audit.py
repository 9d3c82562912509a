"""One audit, from the data to the scores of every attack."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, get_args

import joblib
import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, Field, ValidationError, field_validator
from threadpoolctl import threadpool_limits

from recmia import summary
from recmia.attacks import BASELINES, CLASSIFIERS, Attack, Baseline, MLPSettings, VectorClassifier, run_attack
from recmia.datasets import Columns, clean, load
from recmia.errors import ConfigError, nearest
from recmia.evaluation import (
    Estimate,
    Metric,
    Roc,
    auc,
    balanced_accuracy,
    choose_threshold,
    over_seeds,
    roc,
    tpr_at_fpr,
)
from recmia.factorization import factorize
from recmia.game import Regime, Side, Split, SplitUnit, serve, split_game
from recmia.interactions import Interactions
from recmia.provenance import peak_memory, versions
from recmia.recommenders import RECOMMENDERS, RecommenderSettings, make_recommender
from recmia.seeding import rng_for
from recmia.vectors import AttackerView, ItemVectorSource, RankWeights

FALSE_POSITIVE_RATES = (0.1, 0.01, 0.001)
IN_MEMORY = "(in memory)"

# Membership and scores of the users of one side, bool[n] and float64[n].
_Labelled = tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]

# Called with what is being done, and how many of how many units of work are done.
Progress = Callable[[str, int, int], None]


class AuditConfig(RecommenderSettings):
    """Every setting of an audit; the defaults are the paper's case and the strict one, side by side."""

    dataset: str = Field("ml-latest-small", description="Name, file, folder, or synthetic[:SHAPE].")
    min_interactions: int = Field(20, ge=1, description="Users with fewer interactions are dropped.")
    split: SplitUnit = Field("users", description="What the shadow and the target side do not share.")
    member_share: float = Field(0.5, gt=0, lt=1, description="Share of a side's users that are members.")
    regimes: tuple[Regime, ...] = Field(
        ("popular", "fold-in"), min_length=1, description="What non-members are served; one result each."
    )
    alpha: float = Field(0.1, gt=0, le=1, description="popular-random draws k of the k / alpha most popular.")
    target: str = Field("lfm", description="The audited recommender.")
    shadow: str = Field("lfm", description="The attacker's recommender.")
    attacks: tuple[str, ...] = Field(("mlp",), description="Attacks; the baselines are always run.")
    k: int = Field(100, ge=1, description="Length of the recommended lists.")
    exclude_seen: bool = Field(True, description="Leave the history out of personal lists.")
    item_vectors: ItemVectorSource = Field("shadow", description="Data that the attacker's item vectors come from.")
    rank_weights: RankWeights = Field("uniform", description="Weights of the ranks in a user's vector.")
    seeds: int = Field(5, ge=1, description="Independent repetitions: split, training, attack.")
    seed: int = Field(0, ge=0, description="The first seed; the others follow it.")
    columns: Columns = Columns()
    mlp: MLPSettings = MLPSettings()

    @field_validator("target", "shadow")
    @classmethod
    def _known_recommender(cls, name: str) -> str:
        if name not in RECOMMENDERS:
            raise ValueError(f"unknown recommender {name!r}; {nearest(name, RECOMMENDERS)}")
        return name

    @field_validator("attacks")
    @classmethod
    def _known_attacks(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in CLASSIFIERS:
                raise ValueError(f"unknown attack {name!r}; {nearest(name, CLASSIFIERS)}")
        return names

    @field_validator("regimes", mode="before")
    @classmethod
    def _known_regimes(cls, names: object) -> object:
        for name in names if isinstance(names, (list, tuple)) else ():
            if name not in get_args(Regime):
                raise ValueError(f"unknown regime {name!r}; {nearest(str(name), get_args(Regime))}")
        return names

    @field_validator("regimes", "attacks")
    @classmethod
    def _no_repeats(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated:
            raise ValueError(f"named more than once: {', '.join(repeated)}")
        return names

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> AuditConfig:
        """Check settings from a file or a caller.

        Raises
        ------
        ConfigError
            Naming every bad key, what was found and what is allowed.
        """
        try:
            return cls.model_validate(settings)
        except ValidationError as error:
            raise ConfigError("; ".join(_complaint(problem, cls) for problem in error.errors())) from None


@dataclass(frozen=True, eq=False)
class AuditResult:
    """What an audit found, raw: every figure is recomputed from the scores.

    Parameters
    ----------
    config : AuditConfig
    scores : polars.DataFrame
        Columns seed, side ("shadow" or "target"), regime, attack, user_id, member, score. Scores of shadow users are
        out of fold.
    provenance : dict
        Versions, data fingerprint, cleaning report, seconds by stage, peak memory.
    """

    config: AuditConfig
    scores: pl.DataFrame
    provenance: dict[str, Any]

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """AUC, TPR at fixed FPR and balanced accuracy of each attack in each regime."""
        rows: list[Metric] = []
        for regime, attack, runs in self._runs():
            by_name: dict[str, list[Estimate]] = {}
            for shadow, target in runs:
                for name, estimate in _estimates(shadow, target):
                    by_name.setdefault(name, []).append(estimate)
            member = runs[0][1][0]
            for name, estimates in by_name.items():
                joint = over_seeds(estimates)
                rows.append(
                    Metric(
                        regime=regime,
                        target=self.config.target,
                        shadow=self.config.shadow,
                        attack=attack,
                        metric=name,
                        value=joint.value,
                        low=joint.low,
                        high=joint.high,
                        seeds=len(runs),
                        n_members=int(member.sum()),
                        n_nonmembers=int((~member).sum()),
                        note=joint.note,
                    )
                )
        return tuple(rows)

    @cached_property
    def rocs(self) -> dict[tuple[str, str], list[Roc]]:
        """The ROC of each seed, by regime and attack."""
        return {(regime, attack): [roc(*target) for _, target in runs] for regime, attack, runs in self._runs()}

    @property
    def verdict(self) -> str:
        """What was found, in plain words."""
        return summary.verdict(self.metrics)

    def __str__(self) -> str:
        return f"{summary.table_text(self.metrics)}\n{self.verdict}"

    def _runs(self) -> Iterator[tuple[str, str, list[tuple[_Labelled, _Labelled]]]]:
        """Labels and scores of the shadow and target users of each seed, by regime and attack, in order of the run."""
        parts = self.scores.partition_by("regime", "attack", "seed", "side", as_dict=True, maintain_order=True)
        for regime in self.config.regimes:
            for attack in (*self.config.attacks, *BASELINES):
                runs = []
                for seed in range(self.config.seed, self.config.seed + self.config.seeds):
                    shadow, target = (
                        (part["member"].to_numpy(), part["score"].to_numpy())
                        for part in (parts[regime, attack, seed, side] for side in ("shadow", "target"))
                    )
                    runs.append((shadow, target))
                yield regime, attack, runs


def audit(
    dataset: str | Path | Interactions | None = None,
    *,
    config: AuditConfig | None = None,
    jobs: int = 1,
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
    jobs : int
        Processes that share the seeds and, where there are fewer seeds, threads that share the work on each; results
        do not depend on it.
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
    if config is None:
        config = AuditConfig.parse(settings)
    elif settings:
        raise ConfigError(f"give either config or single settings, not both; got {', '.join(sorted(settings))}")
    if given is not None:
        config = config.model_copy(update={"dataset": IN_MEMORY})
    if jobs < 1:
        raise ConfigError(f"jobs must be at least 1; got {jobs}")
    report = _Reporter(progress, config.seeds * (3 + len(config.regimes)))
    report("loading the data", 0)
    started = time.perf_counter()
    if given is not None:
        interactions, cleaning = clean(given.frame(), IN_MEMORY, config.min_interactions)
    else:
        data = load(config.dataset, columns=config.columns, min_interactions=config.min_interactions, seed=config.seed)
        interactions, cleaning = data.interactions, data.report
    loading = time.perf_counter() - started
    seeds = range(config.seed, config.seed + config.seeds)
    processes = min(jobs, len(seeds))
    threads = jobs // processes
    plays: list[_Play] = []
    if processes == 1:
        plays = [_play(config, interactions, seed, threads, report) for seed in seeds]
    else:
        work = (joblib.delayed(_play)(config, interactions, seed, threads, None) for seed in seeds)
        for play in joblib.Parallel(n_jobs=processes, return_as="generator")(work):
            plays.append(play)
            report(f"seed {play.seed} done", 3 + len(config.regimes))
    seconds = {"load": loading}
    for play in plays:
        for name, spent in play.seconds.items():
            seconds[name] = seconds.get(name, 0.0) + spent
    return AuditResult(
        config=config,
        scores=pl.concat([play.scores for play in plays]),
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
            "seconds_total": round(time.perf_counter() - started, 3),
            "peak_memory_bytes": max([peak_memory(), *(play.peak_memory for play in plays)]),
            "attacker": [play.coverage for play in plays],
        },
    )


class _Reporter:
    """Adds up units of work for a progress callback."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, text: str, units: int) -> None:
        self._done += units
        if self._progress is not None:
            self._progress(text, self._done, self._total)


@dataclass(frozen=True, eq=False)
class _Play:
    """The outcome of one seed."""

    seed: int
    scores: pl.DataFrame
    seconds: dict[str, float]
    peak_memory: int
    coverage: dict[str, Any]


def _play(config: AuditConfig, interactions: Interactions, seed: int, threads: int, report: _Reporter | None) -> _Play:
    """Play the membership game once: split, train, serve, attack."""
    # One BLAS thread: sums then come out alike however many workers there are.
    with threadpool_limits(1):
        seconds: defaultdict[str, float] = defaultdict(float)

        @contextmanager
        def stage(name: str, text: str, units: int) -> Iterator[None]:
            if report is not None:
                report(f"seed {seed}: {text}", 0)
            started = time.perf_counter()
            yield
            seconds[name] += time.perf_counter() - started
            if report is not None:
                report(f"seed {seed}: {text}", units)

        with stage("vectors", "factorising the attacker's data", 1):
            split = split_game(
                interactions,
                unit=config.split,
                member_share=config.member_share,
                public=config.item_vectors == "public",
                rng=rng_for(seed, "split"),
            )
            view = _attacker_view(config, interactions, split, seed, threads)
        models = {}
        for name, side in (("shadow", split.shadow), ("target", split.target)):
            with stage("train", f"training the {name} recommender", 1):
                model = make_recommender(getattr(config, name), config, threads=threads)
                models[name] = model.fit(side.training_data(), rng=rng_for(seed, name, "fit"))
        frames: list[pl.DataFrame] = []
        coverage: dict[str, Any] = {}
        for regime in config.regimes:
            with stage("lists", f"serving lists ({regime})", 0):
                lists = {
                    name: serve(
                        regime,
                        models[name],
                        side,
                        config.k,
                        exclude_seen=config.exclude_seen,
                        alpha=config.alpha,
                        rng=rng_for(seed, name, "serve", regime),
                    )
                    for name, side in (("shadow", split.shadow), ("target", split.target))
                }
                shadow = view.observe(split.shadow.interactions, lists["shadow"])
                target = view.observe(split.target.interactions, lists["target"])
                history_share, list_share = view.unknown_shares(target)
                coverage[regime] = {
                    "unknown_history_share": history_share,
                    "unknown_list_share": list_share,
                    "users_without_vector": int((~target.has_vector).sum()),
                }
            with stage("attack", f"attacking ({regime})", 1):
                for attack, make_attack in _attacks(config).items():
                    rng = rng_for(seed, "attack", regime, attack)
                    scores = run_attack(make_attack, shadow, split.shadow.member, target, rng=rng)
                    frames += [
                        _score_frame(seed, name, regime, attack, side, score)
                        for name, side, score in zip(
                            ("shadow", "target"), (split.shadow, split.target), scores, strict=True
                        )
                    ]
        return _Play(seed, pl.concat(frames), dict(seconds), peak_memory(), {"seed": seed, **coverage})


def _attacker_view(
    config: AuditConfig, interactions: Interactions, split: Split, seed: int, threads: int
) -> AttackerView:
    sources = {"shadow": split.shadow.interactions, "public": split.public, "all": interactions}
    source = sources[config.item_vectors]
    assert source is not None, "split_game sets the public part aside when it is asked for"
    factors = factorize(source, config.lfm, l=config.l, rng=rng_for(seed, "item vectors"), threads=threads)
    return AttackerView.of(factors, split.shadow.interactions, config.rank_weights)


def _attacks(config: AuditConfig) -> dict[str, Callable[[], Attack]]:
    attacks: dict[str, Callable[[], Attack]] = {
        name: partial(VectorClassifier, name, config.mlp) for name in config.attacks
    }
    return attacks | {name: partial(Baseline, name) for name in BASELINES}


def _score_frame(
    seed: int,
    name: str,
    regime: str,
    attack: str,
    side: Side,
    score: npt.NDArray[np.float64],
) -> pl.DataFrame:
    return pl.DataFrame({"user_id": side.interactions.users.ids, "member": side.member, "score": score}).select(
        pl.lit(seed, pl.Int64).alias("seed"),
        pl.lit(name).alias("side"),
        pl.lit(regime).alias("regime"),
        pl.lit(attack).alias("attack"),
        "user_id",
        "member",
        "score",
    )


def _estimates(shadow: _Labelled, target: _Labelled) -> Iterator[tuple[str, Estimate]]:
    yield "auc", auc(*target)
    for rate in FALSE_POSITIVE_RATES:
        yield f"tpr@fpr={rate:g}", tpr_at_fpr(*target, rate)
    yield "balanced_accuracy", balanced_accuracy(*target, choose_threshold(*shadow))


def _complaint(problem: Any, model: type[BaseModel]) -> str:
    """One sentence about one problem that pydantic found."""
    path = [str(part) for part in problem["loc"]]
    name = ".".join(path)
    if problem["type"] == "extra_forbidden":
        for part in path[:-1]:
            inner = model.model_fields[part].annotation
            assert isinstance(inner, type), "only tables have keys of their own"
            model = inner
        return f"unknown setting {name!r}; {nearest(path[-1], model.model_fields)}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}; got {problem['input']!r}"

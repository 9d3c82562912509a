"""What an audit found, and the run of an audit of data."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recmia.attacks import ATTACKS, RULES, attack_spec
from recmia.data.datasets import CleaningReport, clean, load
from recmia.data.interactions import IdMap, Interactions, with_items_of
from recmia.data.lists import read_columns
from recmia.defences import Defence
from recmia.errors import ConfigError, DataError, RecmiaError
from recmia.game.plan import Plan, Setup, is_run, plan_from_data, work_units
from recmia.game.run import Play, run_plans
from recmia.game.tasks import Store
from recmia.metrics import (
    CONFIDENCE,
    METRICS,
    Estimate,
    Metric,
    MetricSpec,
    Roc,
    Runs,
    SeedRuns,
    combine,
    roc,
    simultaneous,
)
from recmia.metrics.catalogue import bound_of, guesses_of
from recmia.metrics.clusters import Clustered, users_of
from recmia.metrics.epsilon import GaussianBound, PromiseCheck, gaussian_bound
from recmia.metrics.individual import discoveries, identifiable, p_values_against, per_user_auc
from recmia.provenance import peak_memory, versions
from recmia.results.findings import JUDGED, Findings, find, noted
from recmia.settings import (
    AS_SERVED,
    FOLDING,
    IN_MEMORY,
    SERVED_ALIKE,
    AnyAuditSettings,
    AuditSettings,
    FilesSettings,
    named_columns,
)

# Called with what is being done, and how many of how many units of work are done.
Progress = Callable[[str, int, int], None]
Key = tuple[str, str, str]
_NOBODY = np.empty(0, np.bool_), np.empty(0)
_NO_THRESHOLD = Estimate(
    None,
    None,
    None,
    "not resolvable without scores of shadow users: with a pool, two more models would choose a threshold",
)


@dataclass(frozen=True, eq=False)
class AuditResult:
    """What an audit found, raw: every figure is computed from the scores.

    Parameters
    ----------
    settings : AuditSettings or FilesSettings
    scores : polars.DataFrame
        Columns seed, knowledge, side ("shadow" or "target"), run (number of the shadow or of the target), regime,
        attack, user_id, member, score; of an audit of interactions also item_id. Scores of shadow users are out of
        fold.
    users : polars.DataFrame
        Columns seed, user_id, history_length, rarity: the audited users of each seed.
    provenance : dict
        Versions, data fingerprint, cleaning report, seconds by stage, peak memory; what the defences promise.
        ``peak_memory_bytes_by_stage`` is the largest that a process had used at the end of each stage, see
        `recmia.provenance.peak_memory`: it never falls, and a stage that used less shows what came before.
    utility : polars.DataFrame
        With `held_out`, what the lists of each target are worth: columns seed, run, regime, users ("all", "members",
        "non-members"), metric, value, low, high; else empty.
    items : polars.DataFrame
        Of an audit of interactions: columns item_id, popularity (users who have it), terms, and those of a table of
        items, title among them; else empty.
    disclosure : polars.DataFrame
        Where the attacker asks, what the answers of each target give away: columns seed, run, and those of
        `recmia.game.disclosure.disclosed`; else empty.
    """

    settings: AnyAuditSettings
    scores: pl.DataFrame
    users: pl.DataFrame
    provenance: dict[str, Any]
    utility: pl.DataFrame = field(default_factory=pl.DataFrame)
    disclosure: pl.DataFrame = field(default_factory=pl.DataFrame)
    items: pl.DataFrame = field(default_factory=pl.DataFrame)

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """All metrics of each attack at each level in each regime, in the order of `recmia.metrics.METRICS`.

        Those that need thresholds are left out without them. A bound is only measured where members and non-members
        are served alike: elsewhere it would be about how they are served, not about what the model memorised. Without
        thresholds, a bound pays for its numbers of guesses; see `recmia.metrics.catalogue.guesses_of`.
        """
        return self._measured(METRICS.values(), CONFIDENCE)

    def joint(self, names: Sequence[str] = JUDGED, *, cells: int = 1) -> tuple[Metric, ...]:
        """Return these metrics with intervals that hold for all of them together (Bonferroni), at 95%.

        Parameters
        ----------
        names : sequence of str
            Of `recmia.metrics.METRICS`; those that need thresholds are left out without them.
        cells : int
            How many audits a statement is made of.
        """
        specs = [METRICS[name] for name in names]
        figures = max(1, cells * len(self._keys) * len(specs))
        return self._measured(specs, simultaneous(figures))

    def measure(self, spec: MetricSpec) -> tuple[Metric, ...]:
        """Return a further metric of each attack at each level in each regime.

        Raises
        ------
        ConfigError
            If the metric needs thresholds, and the audit chose none.
        """
        if spec.needs_thresholds and not self.settings.attacker.thresholds:
            raise ConfigError(f"the metric {spec.name} needs thresholds; audit with thresholds = true")
        return self._measured([spec], CONFIDENCE)

    def gaussian(self, row: Metric) -> GaussianBound:
        """Return the bound on Gaussian differential privacy from the guesses behind a bound on epsilon.

        Parameters
        ----------
        row : Metric
            Of `metrics`, one of epsilon.
        """
        runs = self.runs[row.knowledge, row.regime, row.attack]
        played, paid = guesses_of(runs, self._together)
        return gaussian_bound(played, confidence=paid)

    @cached_property
    def rocs(self) -> dict[Key, list[Roc]]:
        """The ROC of each target of each seed, by knowledge, regime and attack."""
        return {
            key: [roc(*target) for seed in runs.seeds for target in seed.targets] for key, runs in self.runs.items()
        }

    @cached_property
    def per_user_auc(self) -> pl.DataFrame:
        """How well each audited user's own membership shows to the attacks with many shadow models.

        Over the targets of a seed, all scored by one attack that was fitted without them. Shadows do not count as
        runs: each would be scored by an attack fitted on the user's other shadows, and scores that share labels in
        that way identify users where nothing leaks. Columns seed, knowledge, regime, attack, user_id, auc, low, high,
        p_value, identifiable, n_in, n_out, history_length, rarity; see `recmia.metrics.individual.per_user_auc`. Empty
        where no such attack was run, or against one target only.
        """
        if self.settings.n_targets == 1 or self.settings.unit == "interactions":
            return pl.DataFrame()
        frames = []
        pooled = [name for name in self.settings.attacker.attacks if attack_spec(name).needs == "pool"]
        chosen = self.scores.filter(pl.col("attack").is_in(pooled), side="target")
        keys = ("seed", "knowledge", "regime", "attack")
        for part in chosen.partition_by(*keys, maintain_order=True):
            runs = part.partition_by("run", maintain_order=True)
            member, score = (np.stack([run[name].to_numpy() for run in runs]) for name in ("member", "score"))
            found = per_user_auc(member, score)
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
    def identified(self) -> pl.DataFrame:
        """Which members are individually identified by their scores from one system, against its known non-members.

        Of the first target of the first seed. Columns knowledge, regime, attack, user_id, score, p_value, identified,
        history_length, rarity: a row for each member and attack. The false-discovery rate is 5% for all attacks of a
        section together (Bonferroni); see `recmia.metrics.individual.p_values_against`. The attacker may know
        non-members of its own, or who they are may be known to the owner alone.
        """
        frames = []
        chosen = self.scores.filter(
            ~pl.col("attack").is_in(RULES), pl.col("seed") == pl.col("seed").first(), side="target", run=0
        )
        for section in chosen.partition_by("knowledge", "regime", maintain_order=True):
            rate = 1 - simultaneous(section["attack"].n_unique())
            for part in section.partition_by("attack", maintain_order=True):
                members, others = part.filter("member"), part.filter(~pl.col("member"))
                p_value = p_values_against(members["score"].to_numpy(), others["score"].to_numpy())
                found = {"p_value": p_value, "identified": discoveries(p_value, rate)}
                keys = ("seed", "knowledge", "regime", "attack", "user_id", "score")
                frames.append(members.select(keys).hstack(pl.DataFrame(found)))
        if not frames:
            return pl.DataFrame()
        joined = pl.concat(frames).with_row_index("row").join(self.users, on=["seed", "user_id"])
        return joined.sort("row").drop("row", "seed")

    @cached_property
    def utilities(self) -> pl.DataFrame:
        """Means of `utility` over targets and seeds: columns regime, users, metric, value, low, high."""
        return _means(self.utility, ("regime", "users", "metric"), math.inf)

    @cached_property
    def disclosures(self) -> pl.DataFrame:
        """Means of `disclosure` over targets and seeds: columns part, metric, users, value, low, high."""
        return _means(self.disclosure, ("part", "metric", "users"), 1)

    @property
    def query_examples(self) -> list[dict[str, Any]]:
        """An ordinary query about a member and one about a non-member; see `recmia.game.disclosure.examples`."""
        found: list[dict[str, Any]] = noted(self.provenance, "examples") or []
        return found

    @cached_property
    def promises(self) -> tuple[PromiseCheck, ...]:
        """What the defences promise, beside what the audit refutes; needs thresholds.

        One check for each promise, level and regime where it holds. The bound is the largest over all attacks that see
        only what the promise covers, each at a confidence that all have together (Bonferroni).
        """
        settings = self.settings
        of_users = settings.unit == "users"
        if of_users and not settings.attacker.thresholds:
            return ()
        checks = []
        for promise in self.provenance.get("promises", ()):
            for regime in settings.regimes:
                if regime not in promise["regimes"]:
                    continue
                for level in settings.levels:
                    if level not in promise["levels"]:
                        continue
                    # Of runs of before, a promise says less about itself.
                    answers = promise.get("covers_answers", False)
                    found = [
                        (one[2], runs)
                        for one, runs in self.runs.items()
                        if one[:2] == (level, regime)
                        and (answers or not attack_spec(one[2]).asks)
                        # A user's own list leaves out what was in training, and no defence of the system hides that.
                        and (of_users or attack_spec(one[2]).asks)
                        and (not of_users or _has_shadow_scores(runs))
                    ]
                    confidence = simultaneous(max(1, len(found)))
                    stated, delta = promise["epsilon"], promise["delta"]
                    bounds = [(bound_of(runs, delta, confidence).value, attack) for attack, runs in found]
                    if bounds:
                        bound, attack = max(bounds, key=lambda one: one[0])
                        checks.append(
                            PromiseCheck(
                                promise["defence"], level, regime, stated, delta, bound, attack, promise["unit"]
                            )
                        )
        return tuple(checks)

    @cached_property
    def findings(self) -> Findings:
        """What the figures mean; every page, table and gate says it in these words."""
        # Where there are no further targets, of one system the users' scores tell.
        of_files = isinstance(self.settings, FilesSettings) and self.settings.unit == "users"
        identified = self.identified if of_files else None
        return find(
            self.joint(),
            self.per_user_auc,
            self.promises,
            self.provenance,
            self.disclosures,
            identified=identified,
            unit=self.settings.unit,
        )

    def _measured(self, specs: Iterable[MetricSpec], confidence: float) -> tuple[Metric, ...]:
        rows: list[Metric] = []
        # Of bounds, the largest is told: each holds together with the others.
        together = max(confidence, self._together)
        chosen = [spec for spec in specs if self.settings.attacker.thresholds or not spec.needs_thresholds]
        for (level, regime, attack), runs in self.runs.items():
            members = [(int(member.sum()), len(member)) for seed in runs.seeds for member, _ in seed.targets]
            for spec in chosen:
                if spec.is_bound and regime not in (*SERVED_ALIKE, AS_SERVED):
                    continue
                unresolved = spec.needs_thresholds and not _has_shadow_scores(runs)
                estimate = (
                    _NO_THRESHOLD if unresolved else spec.estimate(runs, together if spec.is_bound else confidence)
                )
                rows.append(
                    Metric(
                        knowledge=level,
                        regime=regime,
                        target=self.settings.target,
                        shadow=self.settings.shadow,
                        attack=attack,
                        metric=spec.name,
                        value=estimate.value,
                        low=estimate.low,
                        high=estimate.high,
                        seeds=len(runs.seeds),
                        targets=self.settings.n_targets,
                        # The fewest of any run: what rates can be resolved depends on them.
                        n_members=min(count for count, _ in members),
                        n_nonmembers=min(users - count for count, users in members),
                        note=estimate.note,
                    )
                )
        return tuple(rows)

    @property
    def _together(self) -> float:
        """The confidence at which all figures that findings rest on hold together."""
        return simultaneous(max(1, len(self._keys) * len(JUDGED)))

    @cached_property
    def _keys(self) -> list[Key]:
        """Knowledge, regime and attack of all that was scored."""
        settings, scored = self.settings, set(self.scores.select("regime", "attack").unique().rows())
        unseen = isinstance(settings, FilesSettings) and not settings.files.lists

        def was_run(attack: str, regime: str) -> bool:
            if attack in ATTACKS and (
                f"{ATTACKS[attack].unit}s" != settings.unit or (unseen and ATTACKS[attack].looks)
            ):
                return False
            if attack == "absent":
                return settings.serving.exclude_seen
            # Where the system cannot be asked, attacks that ask were not run. Of user code, and of rules that are for
            # some regimes, only the scores tell.
            if attack not in ATTACKS or ATTACKS[attack].regimes:
                return (regime, attack) in scored or (attack not in ATTACKS and regime in (*FOLDING, AS_SERVED))
            return is_run(ATTACKS[attack], regime)

        attacks = (*settings.attacker.attacks, *RULES)
        return [
            (level, regime, one)
            for level in settings.levels
            for regime in settings.regimes
            for one in attacks
            if was_run(one, regime)
        ]

    @cached_property
    def runs(self) -> dict[Key, Runs]:
        """The scores of each seed, by knowledge, regime and attack; KeyError where some are missing."""
        keys = ("knowledge", "regime", "attack", "seed", "side", "run")
        frames = self.scores.partition_by(*keys, as_dict=True, maintain_order=True)
        parts: dict[tuple[Any, ...], tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]] = {
            key: (part["member"].to_numpy(), part["score"].to_numpy()) for key, part in frames.items()
        }
        shadows: dict[tuple[Any, ...], list[int]] = {}
        for *of, side, run in parts:
            if side == "shadow":
                shadows.setdefault(tuple(of), []).append(run)
        settings, share = self.settings, self.settings.serving.member_share
        in_seed, over_seeds = _overlap(settings)
        found = {}
        for key in self._keys:
            seeds = []
            for seed in settings.seeds:
                which = (*key, seed)
                own = [parts[*which, "shadow", run] for run in shadows.get(which, [])]
                members, scores = zip(*own, strict=True) if own else ([_NOBODY[0]], [_NOBODY[1]])
                targets = [parts[*which, "target", run] for run in range(settings.n_targets)]
                clustered = []
                if settings.unit == "interactions":
                    whose = [frames[*which, "target", run]["user_id"] for run in range(settings.n_targets)]
                    clustered = [
                        Clustered(*target, users_of(ids.to_numpy())) for target, ids in zip(targets, whose, strict=True)
                    ]
                seeds.append(SeedRuns((np.concatenate(members), np.concatenate(scores)), targets, clustered))
            found[key] = Runs(seeds, in_seed, over_seeds, share)
        return found


def _has_shadow_scores(runs: Runs) -> bool:
    """Whether there are scores of shadow users to choose a threshold on, which takes two shadow models to spare."""
    return all(len(member) > 0 for member, _ in (seed.shadow for seed in runs.seeds))


def _means(table: pl.DataFrame, keys: tuple[str, ...], most: float) -> pl.DataFrame:
    """Return means over targets and seeds, each with its interval."""
    rows = []
    if not table.is_empty():
        for key, part in table.partition_by(*keys, as_dict=True, maintain_order=True).items():
            runs = [
                [Estimate(*one) for one in run.select("value", "low", "high").rows()]
                for run in part.partition_by("seed", maintain_order=True)
            ]
            # The same users are measured in all runs: their chance does not average out.
            mean = combine(runs, in_seed=1, over_seeds=1, most=most)
            rows.append((*key, mean.value, mean.low, mean.high))
    return pl.DataFrame(rows, [*keys, "value", "low", "high"], orient="row")


def _overlap(settings: AnyAuditSettings) -> tuple[float, float]:
    """Return the largest share of a run's members who are members in another run, of the same seed and of another."""
    share = settings.serving.member_share
    if settings.unit == "interactions":
        # The users are the sample, and are the same in all targets of a seed.
        return 1.0, 0.5 if isinstance(settings, AuditSettings) and settings.game.split == "users" else 1.0
    in_seed = max(share, 1 - share)
    # Where the users are split, half of them at most are on the target side in both seeds.
    parted = isinstance(settings, AuditSettings) and settings.game.split == "users"
    return in_seed, in_seed / 2 if parted else in_seed


def run_audit(
    setup: Setup,
    given: Interactions | None = None,
    *,
    jobs: int = 1,
    store: Store | None = None,
    progress: Progress | None = None,
) -> AuditResult:
    """Run an audit of data.

    Parameters
    ----------
    setup : Setup
        See `recmia.results.setup.resolve`.
    given : Interactions, optional
        Data in memory, instead of those that the settings name.
    jobs : int
        Processes that share the models and the seeds and, where there are fewer, threads that share the work on each;
        results do not depend on it.
    store : mutable mapping, optional
        What was trained and served before; gets what this audit trains. See `recmia.cache.ArrayStore`.
    progress : callable, optional
        Called with a text, the units of work done, and all units.

    Raises
    ------
    DataError
        If the data cannot be found or used; TooFewUsersError if they hold too few users.
    """
    settings, report = setup.settings, Reporter(progress)
    assert isinstance(settings, AuditSettings), "of data"
    planned = plan_audit(setup, given, report)
    report.total = work_units(planned.plans)
    plays = run_plans(planned.plans, store={} if store is None else store, jobs=jobs, report=report)
    return join_plays(settings, plays, planned.interactions, planned.cleaning, jobs, report, promised(setup))


@dataclass(frozen=True, eq=False)
class Planned:
    """An audit of data before anything is trained.

    Parameters
    ----------
    plans : list of Plan
        One for each seed.
    interactions : Interactions
        Of all users.
    cleaning : CleaningReport
    """

    plans: list[Plan]
    interactions: Interactions
    cleaning: CleaningReport


def plan_audit(setup: Setup, given: Interactions | None, report: Reporter) -> Planned:
    """Load the data of an audit, and plan each of its seeds.

    Raises
    ------
    DataError
        As `run_audit`.
    """
    settings = setup.settings
    assert isinstance(settings, AuditSettings), "of data"
    report("loading the data", 0)
    interactions, cleaning = load_candidates(settings, given, order=setup.uses_order)
    black_box = load_black_box(settings, interactions, order=setup.uses_order)
    plans = [plan_from_data(setup, interactions, seed, black_box) for seed in settings.seeds]
    notes = [*cleaning.notes, *setup.cut_histories(interactions)]
    if (side := plans[0].sections[0].targets[0].side).others is not None:
        audited = side.interactions.n_users
        notes.append(f"{audited:,} users of each side, drawn at random, are audited; systems are trained on all")
    cleaning = replace(cleaning, notes=tuple(notes))
    return Planned(plans, interactions, cleaning)


def load_candidates(
    settings: AuditSettings, given: Interactions | None = None, *, order: bool
) -> tuple[Interactions, CleaningReport]:
    """Load and clean the data of an audit; the order of events takes time and memory, and is kept if it is used."""
    data = settings.data
    if given is not None:
        interactions, cleaning = clean(given.frame(), IN_MEMORY, data.min_interactions, order=order)
    else:
        loaded = load(
            data.dataset, columns=data.columns, min_interactions=data.min_interactions, seed=settings.run.seed,
            order=order,
        )  # fmt: skip
        interactions, cleaning = loaded.interactions, loaded.report
    # What cannot be grouped by is refused before anything is trained.
    read_group_tables(settings, interactions.users.ids, interactions.items.ids)
    return interactions, cleaning


def load_black_box(settings: AuditSettings, audited: Interactions, *, order: bool) -> Interactions | None:
    """Load the data of a black-box attacker, if there is one with data, over the items of the audited data."""
    name = settings.knowledge.black_box_data
    if "black-box" not in settings.levels or not name:
        return None
    found = load(name, min_interactions=settings.data.min_interactions, order=order).interactions
    if order and found.events is None:
        raise DataError(
            f"black_box_data = {name}: a recommender needs the order of events, and these data have neither times nor "
            "positions under their usual names, such as timestamp and position"
        )
    return with_items_of(found, audited.items)


def join_plays(
    settings: AnyAuditSettings,
    results: Sequence[Play | RecmiaError],
    interactions: Interactions,
    cleaning: CleaningReport,
    jobs: int,
    report: Reporter,
    promises: Sequence[dict[str, Any]] = (),
) -> AuditResult:
    """Put the seeds of an audit together, or raise what went wrong in the first that did."""
    plays = []
    for play in results:
        if isinstance(play, RecmiaError):
            raise play
        plays.append(play)
    users = pl.concat([play.users for play in plays])
    items = _items_of(interactions) if settings.unit == "interactions" else pl.DataFrame()
    grouped = read_group_tables(
        settings, users["user_id"].unique(maintain_order=True).to_numpy(), interactions.items.ids
    )
    if not grouped[0].is_empty():
        users = users.join(grouped[0], on="user_id", how="left", maintain_order="left")
    if not grouped[1].is_empty():
        items = items.join(grouped[1], on="item_id", how="left", maintain_order="left")
    return AuditResult(
        settings=settings,
        scores=pl.concat([play.scores for play in plays]),
        users=users,
        utility=pl.concat([play.utility for play in plays]),
        disclosure=pl.concat([play.disclosure for play in plays]),
        items=items,
        provenance={
            "versions": versions(),
            "data": {
                "source": cleaning.source,
                "rows_read": cleaning.rows_read,
                "rows_kept": cleaning.rows_kept,
                "users_read": cleaning.users_read,
                "dropped": cleaning.dropped,
                "notes": list(cleaning.notes),
                **({"order": cleaning.order} if cleaning.order else {}),
                "columns": dict(cleaning.columns),
                "users": interactions.n_users,
                "items": interactions.n_items,
                "fingerprint": interactions.fingerprint(),
            },
            "jobs": jobs,
            "seconds": {stage: round(spent, 3) for stage, spent in report.seconds.items()},
            "seconds_total": round(sum(report.seconds.values()), 3),
            "peak_memory_bytes": max([peak_memory(), *(play.peak_memory for play in plays)]),
            "peak_memory_bytes_by_stage": report.peaks,
            "attacker": [{"seed": play.seed, **play.notes} for play in plays],
            **({"promises": list(promises)} if promises else {}),
        },
    )


def read_group_tables(
    settings: AnyAuditSettings, users: npt.NDArray[np.generic], items: npt.NDArray[np.generic]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the columns that figures are grouped by, of users and of items with these ids, and titles of items.

    Raises
    ------
    DataError
        Naming the file and the column or row that cannot be used.
    """
    columns, groups, frames = settings.users_columns, settings.groups, []
    of_users = named_columns(groups.users_columns, "users")
    for role, path, ids, named in (
        ("user", groups.users_table, users, of_users),
        ("item", groups.items_table, items, {}),
    ):
        frame = pl.DataFrame()
        if path and (role == "user" or settings.unit == "interactions"):
            frame = read_columns(Path(path), role, IdMap(ids), columns, named=named, title=role == "item")
        frames.append(frame.with_columns(pl.Series(f"{role}_id", ids)) if frame.width else pl.DataFrame())
    missing = [name for name in columns if not any(name in frame.columns for frame in frames)]
    if missing:
        tables = " and ".join(path for path in (groups.users_table, groups.items_table) if path)
        raise DataError(f"{tables} has no column {missing[0]!r} to group by")
    return frames[0], frames[1]


def _items_of(interactions: Interactions) -> pl.DataFrame:
    """Return what is known of each item; see `AuditResult.items`."""
    ids = interactions.items
    terms = [""] * len(ids) if ids.text is None else list(ids.text)
    return pl.DataFrame({"item_id": ids.ids, "popularity": interactions.item_counts(), "terms": terms})


def promised(setup: Setup) -> list[dict[str, Any]]:
    """Return what the defences promise, as plain values: kept with the result, since objects of the user's are not."""
    stated = [(str(one), one.promise()) for one in setup.defences if isinstance(one, Defence)]
    unit = setup.settings.unit
    # A promise for users covers each interaction, and one for an interaction no user.
    return [
        {"defence": name, **asdict(promise)}
        for name, promise in stated
        if promise is not None and promise.of in ("users", unit)
    ]


class Reporter:
    """Adds up units of work for a progress callback, and notes what time and memory each stage took.

    Attributes
    ----------
    total : int
        All units of work.
    heading : str
        What stands before each text, where several things are done one after the other.
    seconds : dict of str to float
        By stage: what was told last.
    peaks : dict of str to int
        The largest number of bytes that a process had used by the end of each stage.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._done = progress, 0
        self.total, self.heading = 1, ""
        self.seconds: dict[str, float] = {}
        self.peaks: dict[str, int] = {}
        self._stage, self._since = "", time.perf_counter()

    def __call__(self, text: str, units: int) -> None:
        """Tell what is being done, and that more units are done."""
        # What is told second ends what was told first.
        peak = max([peak_memory(), *self.peaks.values()])
        self.peaks.update(dict.fromkeys([*list(self.peaks)[-1:], text], peak))
        now = time.perf_counter()
        if self._stage:
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = text, now
        self._done += units
        if self._progress is not None:
            self._progress(f"{self.heading}: {text}" if self.heading else text, self._done, self.total)


def metric_names(settings: AnyAuditSettings) -> list[str]:
    """Return the names of the metrics of an audit with these settings; see `AuditResult.metrics`."""
    bounds = any(regime in (*SERVED_ALIKE, AS_SERVED) for regime in settings.regimes)
    return [
        name
        for name, spec in METRICS.items()
        if (settings.attacker.thresholds or not spec.needs_thresholds) and (bounds or not spec.is_bound)
    ]

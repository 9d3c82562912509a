"""What defences cost and what they bring: privacy against utility, measured on the same models.

Every setting is a cell of a sweep over the setting ``defence``: the system is trained and served with the defence, and
so are the attackers' shadows, since an attacker is taken to know it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

import polars as pl

from recmia.attacks import RULES, attack_spec
from recmia.data.interactions import Interactions
from recmia.defences import AnyDefences, DPTraining, name_defences, parse_defences
from recmia.errors import ConfigError, MissingExtraError, import_extra
from recmia.game.plan import work_units
from recmia.game.tasks import Store
from recmia.metrics.epsilon import PromiseCheck
from recmia.recommenders.private import noise_multiplier
from recmia.results.audit import Progress, Reporter
from recmia.results.findings import LEAK, Finding, worst_of
from recmia.results.setup import Attacks, Defences, Recommenders, resolve
from recmia.results.sweep import PlannedSweep, SweepResult, metric_rows, plan_sweep, run_planned
from recmia.settings import FALLBACK, AuditSettings

# Where a run says nothing else.
DEFAULTS: Mapping[str, Any] = MappingProxyType({"held_out": 0.2, "n_shadows": 8})
NONE, POPULARITY = "none", "popularity-only"
_NONE: Mapping[str, Any] = MappingProxyType({})
# The share of the undefended quality below which lists count as destroyed.
_DESTROYED = 0.5
UTILITY = "ndcg@10"
PRIVACY = ("auc", "tpr@fpr=0.01")
# The best of several may owe it to chance: each interval holds by itself.
_CONFIRM = "Since it is the best of several, confirm it in an audit of its own, with another seed."


@dataclass(frozen=True)
class Choice:
    """The defences of one regime, by what they achieve and cost; rows are of the table of `DefendResult`.

    Parameters
    ----------
    undefended, popular : mapping, optional
        The system without a defence, and popular lists in its place; None if they could not be measured.
    tried, kept : mapping of defence to row
        All defences, and those that keep the upper end of every attack's interval under the level.
    lost : tuple of str
        Those that leave lists of no use; see `destroyed`.
    """

    undefended: Mapping[str, Any] | None
    popular: Mapping[str, Any] | None
    tried: Mapping[str, Mapping[str, Any]]
    kept: Mapping[str, Mapping[str, Any]]
    lost: tuple[str, ...]

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The best lists among the defences that keep the level and leave lists of use; None if there are none."""
        found = [row for name, row in self.kept.items() if name not in self.lost]
        return max(found, key=lambda row: row[UTILITY], default=None)

    @property
    def no_better(self) -> str:
        """Whether the undefended system is "no better" or "not shown to be better" than popular lists; else empty."""
        own, popular = self.undefended, self.popular
        if own is None or popular is None or own[f"{UTILITY}_low"] > popular[UTILITY]:
            return ""
        return "no better" if own[UTILITY] <= popular[UTILITY] else "not shown to be better"


@dataclass(frozen=True, eq=False)
class DefendResult:
    """What defences bring and cost.

    Parameters
    ----------
    level : float
        The AUC that every attack is to stay under.
    table : polars.DataFrame
        One row for each defence and regime. ``defence`` ("none" for the undefended system), ``regime``; ``auc`` and
        ``tpr`` (at an FPR of 1%) of the attack that is strongest by each, with ``_low``, ``_high`` and ``_attack``, an
        AUC below 0.5 as 1 minus it, since the attack can be read backwards; the
        measures of utility over all users with their intervals, and over members and non-members
        (``ndcg@10_members``); the epsilon that is ``promised`` there, if one is, the ``bound`` on it from the audit,
        and whether it is ``broken``.
    sweep : SweepResult
        All that was measured.
    """

    level: float
    table: pl.DataFrame
    sweep: SweepResult

    @property
    def advice(self) -> str:
        """Which defence to take, a paragraph for each regime."""
        found = {one.regime: one for one in self.findings}
        words = [
            _advice(str(regime), self.table.filter(regime=regime), self.level, found.get(str(regime)))
            for regime in self.table["regime"].unique(maintain_order=True)
        ]
        return "\n".join([*words, *([self.not_measured] if self.not_measured else [])])

    @property
    def not_measured(self) -> str:
        """Which defence was left out of a standard comparison, and why; empty if none was."""
        return str(self.sweep.provenance.get("not_measured", ""))

    def choice(self, regime: str) -> Choice:
        """Return the defences of a regime by what they achieve and cost."""
        return choose(self.table.filter(regime=regime), self.level)

    @property
    def served(self) -> list[str]:
        """The regimes in which the system itself serves everyone; all, if there are none."""
        regimes = self.table["regime"].unique(maintain_order=True).to_list()
        return [name for name in regimes if name not in FALLBACK] or regimes

    @property
    def holding(self) -> list[str]:
        """The defences that keep the level in every regime of `served`."""
        first, *others = (self.choice(regime).kept for regime in self.served)
        return [name for name in first if all(name in kept for kept in others)]

    @property
    def useful(self) -> list[str]:
        """Those of `holding` that leave lists of use in each of these regimes."""
        lost = {name for regime in self.served for name in self.choice(regime).lost}
        return [name for name in self.holding if name not in lost]

    @property
    def findings(self) -> list[Finding]:
        """For each regime, what was found of the undefended system."""
        sections = [one for cell, found in self.sweep.findings if not cell["defence"] for one in found.sections]
        regimes = dict.fromkeys(one.regime for one in sections)
        return [worst_of([one for one in sections if one.regime == regime], name=regime) for regime in regimes]

    @property
    def promises(self) -> list[PromiseCheck]:
        """What the defences promise, beside what the audits refute."""
        names = [one.name for one in fields(PromiseCheck)]
        return [
            PromiseCheck(**{name: row[name] for name in names}) for row in self.sweep.promises.iter_rows(named=True)
        ]

    @property
    def broken(self) -> pl.DataFrame:
        """The rows of the table with a promise that the audit refutes."""
        return self.table.filter(pl.col("broken"))


def run_defend(
    settings: AuditSettings,
    defences: Sequence[AnyDefences] = (),
    *,
    level: float = 0.6,
    dataset: Interactions | None = None,
    recommenders: Recommenders = _NONE,
    attacks: Attacks = _NONE,
    jobs: int = 1,
    store: Store | None = None,
    progress: Progress | None = None,
) -> DefendResult:
    """Measure what defences bring and cost, beside no defence and beside popular lists for all.

    Parameters
    ----------
    settings : AuditSettings
        With `held_out` above 0 and no `defence`.
    defences : sequence of str, Defence, or sequence of these
        Such as ``"dp-training=4"`` and ``"gumbel=300+shorter-lists=10"``; none stands for `standard_defences`. Objects
        of the user's that are to act together are a sequence.
    level : float
        The AUC that the strongest attack is to stay under, the upper end of its interval included; in (0.5, 1].
    dataset, recommenders, attacks, jobs, store, progress
        As of `recmia.results.sweep.run_sweep`.

    Returns
    -------
    DefendResult
        A setting that fails is among the errors of its sweep.

    Raises
    ------
    ConfigError
        For a defence that is unknown, out of range, or does not apply, and for settings that leave nothing to measure.
    MissingExtraError
        For ``dp-training`` without dp-accounting.
    """
    report = Reporter(progress)
    report("loading the data", 0)
    planned = plan_defend(settings, defences, level=level, dataset=dataset, recommenders=recommenders, attacks=attacks)
    report.total = max(1, work_units(planned.ready))
    found = run_planned(planned, jobs=jobs, store={} if store is None else store, report=report)
    if not defences and (missing := _missing(standard_defences(settings, recommenders, attacks))):
        found = replace(found, provenance={**found.provenance, "not_measured": missing})
    return DefendResult(level, _table(found), found)


def plan_defend(
    settings: AuditSettings,
    defences: Sequence[AnyDefences] = (),
    *,
    level: float = 0.6,
    dataset: Interactions | None = None,
    recommenders: Recommenders = _NONE,
    attacks: Attacks = _NONE,
) -> PlannedSweep:
    """Return the plan of a comparison of defences, which is that of a sweep over ``defence``.

    Parameters
    ----------
    settings, defences, level, dataset, recommenders, attacks
        As of `run_defend`.

    Raises
    ------
    ConfigError, MissingExtraError
        As `run_defend`.
    """
    if not 0.5 < level <= 1:
        raise ConfigError(f"level, the AUC to stay under, must lie in (0.5, 1]; got {level:g}")
    if settings.system.defence or not settings.game.held_out:
        raise ConfigError(
            "defend sets the defences itself and needs interactions to measure utility with: leave defence out, and "
            f"set held_out above 0; got defence = {settings.system.defence!r}, held_out = {settings.game.held_out:g}"
        )
    named = [name_defences(one, settings.system.dp) for one in defences]
    # Names all at once, so that no two objects share one.
    objects = name_defences([one for _, found in named for one in found.values()])[1]
    # A refusal names the setting before anything is trained.
    chosen = [_canonical(settings, text, recommenders, attacks, objects) for text, _ in named]
    if not chosen:
        # Whoever names private training is told what is missing; a standard comparison goes without.
        standard = standard_defences(settings, recommenders, attacks)
        missing = _missing(standard)
        chosen = [text for text in standard if not (missing and text.startswith(DPTraining.name))]
    texts = list(dict.fromkeys(["", POPULARITY, *chosen]))
    for defence in (one for text in texts for one in parse_defences(text, settings.system.dp, objects)):
        if isinstance(defence, DPTraining):
            # A missing package is told now, and not after everything else was trained.
            noise_multiplier(defence.epsilon, defence.settings)
    return plan_sweep(
        settings, {"defence": texts}, dataset=dataset, recommenders=recommenders, attacks=attacks, defences=objects
    )


def standard_defences(
    settings: AuditSettings, recommenders: Recommenders = _NONE, attacks: Attacks = _NONE
) -> list[str]:
    """Return every kind of defence at a few strengths; those that do not apply to the system are left out."""
    target = resolve(settings, recommenders, attacks).target
    assert target is not None, "of data"
    family = getattr(settings.recommenders, target.tables[0], None) if target.tables else None
    weight = getattr(family, "regularisation", 0.0)
    epochs = getattr(family, "epochs", getattr(family, "iterations", 0))
    texts = [
        *(f"popular-random={alpha}" for alpha in (0.5, 0.1)),
        *(f"shorter-lists={k}" for k in (50, 20, 10)),
        *(f"regularisation={times * weight:g}" for times in (3, 10)),
        *(f"early-stopping={epochs // share}" for share in (2, 4)),
        "fold-in-members",
        *(f"randomised-response={epsilon}" for epsilon in (8, 6, 4)),
        *(f"gumbel={epsilon}" for epsilon in (10_000, 3_000)),
        *(f"gumbel={epsilon}+shorter-lists=10" for epsilon in (1_000, 300)),
        *(f"dp-training={epsilon}" for epsilon in (16, 4, 1)),
    ]
    applicable = []
    for text in texts:
        try:
            applicable.append(_canonical(settings, text, recommenders, attacks))
        except ConfigError:
            continue
    return applicable


def _missing(standard: Sequence[str]) -> str:
    """Say why private training, which applies, cannot be measured; empty where it can, or does not apply."""
    if not any(text.startswith(DPTraining.name) for text in standard):
        return ""
    try:
        import_extra("dp_accounting", "dp")
    except MissingExtraError as error:
        return f"{DPTraining.name} was not measured: {error}"
    return ""


def _canonical(
    settings: AuditSettings, text: str, recommenders: Recommenders, attacks: Attacks, objects: Defences = _NONE
) -> str:
    """The defences of a text in the order in which they act, after they were checked against the settings."""
    defences = parse_defences(text, settings.system.dp, objects)
    if not defences:
        raise ConfigError("a defence to measure is missing: got an empty one; no defence at all is measured anyway")
    name = "+".join(map(str, defences))
    resolve(settings.changed(defence=name), recommenders, attacks, objects)
    return name


def _table(found: SweepResult) -> pl.DataFrame:
    keys = ["defence", "regime"]
    rows = []
    # Rules over histories alone check the audit: no system and no defence has a part in them.
    checks = [name for name in RULES if attack_spec(name).rule == "history"]
    told = found.table.filter(~pl.col("attack").is_in(checks))
    for key, metrics in told.partition_by(*keys, as_dict=True, maintain_order=True).items():
        row: dict[str, Any] = {"defence": key[0] or NONE, "regime": key[1]}
        for name, metric in zip(("auc", "tpr"), PRIVACY, strict=True):
            turned = [(one.turned, one.attack) for one in metric_rows(metrics.filter(metric=metric))]
            # Against several levels of knowledge, whatever does most harm; one that is not resolvable comes last.
            worst, attack = max(turned, key=lambda one: -1.0 if one[0].value is None else one[0].value)
            row |= {name: worst.value, f"{name}_low": worst.low, f"{name}_high": worst.high, f"{name}_attack": attack}
        for one in found.utility.filter(defence=key[0], regime=key[1]).iter_rows(named=True):
            if one["users"] == "all":
                row |= {one["metric"]: one["value"]}
                row |= {f"{one['metric']}_{end}": one[end] for end in ("low", "high")}
            else:
                row[f"{one['metric']}_{one['users']}"] = one["value"]
        promises = found.promises.filter(defence=key[0], regime=key[1]) if len(found.promises) else found.promises
        row |= {"promised": None, "bound": None, "broken": False}
        if len(promises):
            # Of several promises the smallest holds; it is broken if any is.
            row |= {"promised": promises["epsilon"].min(), "bound": promises["bound"].max()}
            row["broken"] = promises["broken"].any()
        rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def frontier(rows: pl.DataFrame) -> list[str]:
    """Return the defences of one regime, none among them, to which no other is preferable in both respects.

    Each has a lower AUC of the strongest attack, or a higher recommendation quality, than every other.

    Parameters
    ----------
    rows : polars.DataFrame
        Columns defence, auc, ndcg@10 and broken, as in the table of `DefendResult`; a broken promise counts for
        nothing.

    Returns
    -------
    list of str
        From the best lists to the least leakage.

    Examples
    --------
    >>> frontier(pl.DataFrame({
    ...     "defence": ["none", "weak", "strong", "bad"], "auc": [0.9, 0.7, 0.6, 0.8], "ndcg@10": [0.3, 0.2, 0.1, 0.1],
    ...     "broken": False,
    ... }))
    ['none', 'weak', 'strong']
    """
    found: list[str] = []
    lowest = float("inf")
    for row in rows.filter(~pl.col("broken")).sort(-pl.col(UTILITY), "auc", maintain_order=True).iter_rows(named=True):
        if row["auc"] < lowest:
            found.append(row["defence"])
            lowest = row["auc"]
    return found


def destroyed(row: Mapping[str, Any], undefended: Mapping[str, Any], popular: Mapping[str, Any] | None) -> bool:
    """Tell whether a defence leaves lists of no use: half the quality is gone, or popular lists are as good.

    Popular lists are no measure where the undefended system is not shown to be better than they are.
    """
    if row[UTILITY] < _DESTROYED * undefended[UTILITY]:
        return True
    return popular is not None and row[UTILITY] <= popular[UTILITY] < undefended[f"{UTILITY}_low"]


def choose(rows: pl.DataFrame, level: float) -> Choice:
    """Sort the defences of one regime, rows of the table of `DefendResult`, by what they achieve and cost."""
    tried = {row["defence"]: row for row in rows.iter_rows(named=True)}
    undefended, popular = tried.pop(NONE, None), tried.pop(POPULARITY, None)
    kept = {name: row for name, row in tried.items() if row["auc_high"] < level and not row["broken"]}
    lost = [name for name, row in tried.items() if undefended and destroyed(row, undefended, popular)]
    return Choice(undefended, popular, tried, kept, tuple(lost))


def _advice(regime: str, rows: pl.DataFrame, level: float, found: Finding | None = None) -> str:
    choice = choose(rows, level)
    undefended, popular = choice.undefended, choice.popular
    if undefended is None:
        return f"{regime}: the undefended system could not be measured, so nothing can be said of what defences bring."
    words = [
        f"{regime}: undefended, {undefended['auc_attack']} reaches {_auc(undefended)} at NDCG@10 "
        f"{undefended[UTILITY]:.3f}.",
    ]
    if popular is not None and choice.no_better:
        words.append(
            f"That is {choice.no_better} than popular lists for all ({popular[UTILITY]:.3f}), so there is nothing for "
            f"a defence to keep: mend the recommender first{', or serve those' if popular['auc_high'] < level else ''}."
        )
    if undefended["auc_high"] < level:
        # An AUC does not show that few members are found surely, nor what is read backwards.
        claim = "these attacks give no reason for a defence."
        if found is not None and found.grade in LEAK:
            claim = f"but it leaks all the same: {found.claim.replace('`', '')}"
        return " ".join((*words, f"The upper end of that interval is under {level:g}; {claim}"))
    words.append(_cheapest(choice, undefended, level))
    least = 0.0 if choice.best is None else choice.best[UTILITY]
    if popular is not None and popular["auc_high"] < level and popular[UTILITY] >= least:
        words.append(
            f"Popular lists for all keep it there, too, at NDCG@10 {popular[UTILITY]:.3f}, and depend on no single "
            "person."
        )
    if choice.lost:
        words.append(
            f"Lists are destroyed, with less than {_DESTROYED:.0%} of the quality left or no more than popular lists "
            f"have, by {', '.join(choice.lost)}."
        )
    on_frontier = ", ".join(frontier(rows))
    words.append(f"On the frontier, where no other setting both leaks less and recommends better: {on_frontier}.")
    if choice.best is not None:
        words.append(_CONFIRM)
    return " ".join(words)


def _cheapest(choice: Choice, undefended: Mapping[str, Any], level: float) -> str:
    """Name the best lists among the defences that keep the level, of those that leave lists of use if there are any."""
    kept = f"the upper end of every attack's interval under {level:g}"
    best, words = choice.best, f"The cheapest defence that keeps {kept} is"
    if best is None and choice.kept:
        best = max(choice.kept.values(), key=lambda row: row[UTILITY])
        words = f"Only defences that destroy the lists keep {kept}; the best of them is"
    if best is not None:
        change = best[UTILITY] / undefended[UTILITY] - 1 if undefended[UTILITY] else 0.0
        return (
            f"{words} {best['defence']}: {best['auc_attack']} reaches {_auc(best)}, at NDCG@10 {best[UTILITY]:.3f} "
            f"({change:+.0%})."
        )
    nearest = min(choice.tried.values(), key=lambda row: row["auc_high"], default=None)
    words = f"No defence is shown to keep {kept}"
    return (
        f"{words}; the nearest is {nearest['defence']}, with {_auc(nearest)}." if nearest is not None else f"{words}."
    )


def _auc(row: Mapping[str, Any]) -> str:
    return f"an AUC of {row['auc']:.3f} [{row['auc_low']:.3f}–{row['auc_high']:.3f}]"

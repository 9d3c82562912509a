"""False alarms of gates and verdicts where nothing is to be found, through the whole pipeline.

    OMP_NUM_THREADS=1 python benchmarks/false_alarms.py [--jobs 2]

Two recommenders are audited with every attack, on synthetic data. `random` learns nothing, so each alarm is a false
one. `popularity` learns counts, to which a member adds one for each item of the history: what its lists reveal is next
to nothing. To train and attack takes longer than to serve and score, so the audits of a batch have the same users and
the same fitted attackers, but each has its own members by fair coins and its own trained systems. Each batch has other
data and other seeds. An audit with one seed is the first seed of an audit with five. Seeds are fixed.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import sklearn
from _results import write_section
from joblib import Parallel, delayed

import recmia
from recmia.attacks import ATTACKS, RULES
from recmia.metrics.intervals import clopper_pearson
from recmia.results.findings import LEAK
from recmia.settings import AuditSettings

DATA = "synthetic:480x200x14400"
RECOMMENDERS = ("random", "popularity")
ATTACK_NAMES = [name for name in ATTACKS if name not in RULES]
LIMITS = ("auc=0.5", "tpr@fpr=0.01=0.01", "tpr@fpr=0.1=0.1", "epsilon=0")
CHANCE = {"tpr@fpr=0.01": 0.01, "tpr@fpr=0.1": 0.1}
BATCHES, IN_BATCH, SEEDS = 8, 25, 5


@dataclass(frozen=True)
class Audit:
    """What was said of one audit.

    Parameters
    ----------
    recommender : str
    seeds : int
    gate, verdict : bool
        Whether the gate was breached, and whether the grade is that of a leak.
    apart : bool
        Whether some figure's own 95% interval is off chance.
    breaches : tuple of str
        Attack and metric of each breach.
    areas : dict of str to float
        The AUC of each attack.
    """

    recommender: str
    seeds: int
    gate: bool
    verdict: bool
    apart: bool
    breaches: tuple[str, ...]
    areas: dict[str, float]


def run_batch(recommender: str, batch: int) -> list[Audit]:
    """Audit all targets of five seeds, and judge each target by itself."""
    first = 1000 * RECOMMENDERS.index(recommender) + SEEDS * batch
    # The checks of arguments are a large part of the time of small fits.
    with sklearn.config_context(skip_parameter_validation=True, assume_finite=True):
        result = recmia.audit(
            DATA, recommender=recommender, attacks=ATTACK_NAMES, regimes=["fold-in"], k=10, factors=8, n_shadows=8,
            n_targets=IN_BATCH, seed=first, seeds=SEEDS, lfm={"epochs": 2}, mlp={"epochs": 10, "batches": 5},
            progress=False,
        )  # fmt: skip
    return [judge(recommender, audit) for audit in single_audits(result)]


def single_audits(result: recmia.AuditResult) -> Iterator[recmia.AuditResult]:
    """Split an audit of many targets into audits of one target, with all seeds and with the first seed."""
    settings = result.settings
    assert isinstance(settings, AuditSettings)
    shadows, targets = result.scores.filter(side="shadow"), result.scores.filter(side="target")
    for target in range(settings.n_targets):
        scores = pl.concat([shadows, targets.filter(run=target).with_columns(pl.lit(0, pl.Int64).alias("run"))])
        for seeds in (settings.run.seeds, 1):
            one = settings.model_copy(
                update={
                    "game": settings.game.model_copy(update={"n_targets": 1}),
                    "run": settings.run.model_copy(update={"seeds": seeds}),
                }
            )
            kept = pl.col("seed").is_in(list(one.seeds))
            yield replace(result, settings=one, scores=scores.filter(kept), users=result.users.filter(kept))


def judge(recommender: str, result: recmia.AuditResult) -> Audit:
    """Ask gate, verdict and each figure's own interval."""
    gate = result.gate(*LIMITS)
    areas, apart = {}, False
    for row in result.metrics:
        if row.value is None or row.low is None or row.high is None:
            continue
        if row.metric == "auc":
            areas[row.attack] = row.value
            apart |= row.low > 0.5 or row.high < 0.5
        elif row.metric in CHANCE:
            apart |= row.low > CHANCE[row.metric]
    breaches = tuple(f"{one.found.attack} {one.found.metric}" for one in gate.checks if one.outcome == "breached")
    verdict = result.findings.grade in LEAK
    return Audit(recommender, len(result.settings.seeds), gate.exit_code == 1, verdict, apart, breaches, areas)


def table(audits: list[Audit]) -> list[str]:
    """Return the table, and what was behind it."""
    lines = [
        "| recommender | seeds | audits | gate alarms | verdict alarms | some figure off chance by its own interval |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    groups: dict[tuple[str, int], list[Audit]] = defaultdict(list)
    for audit in audits:
        groups[audit.recommender, audit.seeds].append(audit)
    notes = []
    for (recommender, seeds), group in sorted(groups.items(), reverse=True):
        counts = [sum(getattr(one, name) for one in group) for name in ("gate", "verdict", "apart")]
        cells = [
            f"{found} ({found / len(group):.3f}, at most {clopper_pearson(found, len(group))[1]:.3f})"
            for found in counts
        ]
        lines.append(f"| {recommender} | {seeds} | {len(group)} | {' | '.join(cells)} |")
        breaches = Counter(breach for one in group for breach in one.breaches)
        means = {name: float(np.mean([one.areas[name] for one in group])) for name in group[0].areas}
        farthest = max(means, key=lambda name: abs(means[name] - 0.5))
        notes.append(
            f"- {recommender}, {seeds} seed{'s' * (seeds > 1)}: the mean AUC that is farthest from 0.5 is that of "
            f"`{farthest}`, {means[farthest]:.4f}; breaches: "
            + (", ".join(f"{name} {count}" for name, count in breaches.most_common()) or "none")
        )
    return [*lines, "", *notes]


def main() -> None:
    """Audit, print the table after each batch, and write the section of `RESULTS.md`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    jobs = parser.parse_args().jobs
    calls = [delayed(run_batch)(name, batch) for batch in range(BATCHES) for name in RECOMMENDERS]
    audits: list[Audit] = []
    for done in Parallel(n_jobs=jobs, return_as="generator_unordered")(calls):
        audits += done
        print("\n".join(table(audits)), end="\n\n", flush=True)
    lines = [
        f"{DATA}, lists of 10, the regime `fold-in`, all {len(ATTACK_NAMES)} attacks and {len(RULES)} rules "
        f"(grey-box), 8 factors, 8 shadow models; limits {', '.join(LIMITS)}. {BATCHES} batches of {IN_BATCH} audits: "
        "those of a batch share users and fitted attackers, and each has its own members and its own trained systems. "
        "Audits with one seed are the first seeds of those with five. An alarm of a gate is a breach, that of a "
        "verdict the grade 'Leaks' or 'Leaks in part'; 'at most' is the upper end of a 95% interval (Clopper and "
        "Pearson).",
        "",
        *table(audits),
    ]
    write_section("False alarms through the whole pipeline", "python benchmarks/false_alarms.py", lines)


if __name__ == "__main__":
    main()

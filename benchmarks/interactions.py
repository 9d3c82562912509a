"""Single interactions: which attacks find that an item of a user's history was trained on. See docs/interactions.md.

    python benchmarks/interactions.py [--only SECTION,...] [--store DIR] [--targets 2] [--jobs 1]

Needs ml-latest-small. The sections are those of `SECTIONS`. With --store, what was trained before is not trained again.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _results import write_section
from attacks import cells, table
from one_training import PROGRAM, WATCH

import recmia
from recmia.cache import ArrayStore
from recmia.errors import ConfigError
from recmia.metrics import Metric
from recmia.results.groups import by_group

COMMAND = "python benchmarks/interactions.py"
RECOMMENDERS = ("ease", "itemknn", "als", "userknn", "lfm", "ncf")
ATTACKS = ("item-completion", "item-lr")
RULES = ("absent", "item-popularity", "item-history-length")
REFERENCES = ("itemknn", "ease", "lfm")
K, BLOCKS, SHADOWS = 100, 10, 4


@dataclass(frozen=True)
class Work:
    """How the audits of a section are run."""

    store: ArrayStore
    targets: int
    jobs: int

    def audit(self, recommender: str, **settings: Any) -> tuple[recmia.AuditResult, float]:
        """One audit, and its seconds: of all users, ten blocks, four shadows, unless told otherwise."""
        fixed: dict[str, Any] = {
            "unit": "interactions", "split": "shared", "attacks": ATTACKS, "n_shadows": SHADOWS, "blocks": BLOCKS,
            "k": K, "seeds": 1, "n_targets": self.targets,
        }  # fmt: skip
        started = time.perf_counter()
        chosen = fixed | settings
        result = recmia.audit(
            "ml-latest-small", recommender=recommender, jobs=self.jobs, store=self.store, progress=False, **chosen
        )
        # What is measured is measured here, not when it is shown.
        areas = [f"{row.attack} {row.value:.3f}" for row in result.metrics if row.metric == "auc"]
        seconds = time.perf_counter() - started
        words = ", ".join(f"{name}={value}" for name, value in settings.items() if name != "attacks")
        sys.stderr.write(f"{recommender}, {words or 'as always'}: {seconds:.0f} s; {', '.join(areas)}\n")
        return result, seconds

    @property
    def words(self) -> str:
        """Of how many systems each figure is."""
        return f"{self.targets} targets, one seed" if self.targets > 1 else "one target"


def figure(rows: Iterable[Metric], attack: str, metric: str) -> Metric:
    """One figure."""
    return next(row for row in rows if (row.attack, row.metric) == (attack, metric))


def shown(row: Metric) -> str:
    """A value with its interval."""
    return "–" if row.value is None else f"{row.value:.3f} [{row.low:.3f}–{row.high:.3f}]"


def sized(result: recmia.AuditResult) -> str:
    """How many interactions of how many users are attacked in each system."""
    one = result.scores.filter(attack="absent", run=0, side="target")
    return f"{len(one):,} interactions of {one['user_id'].n_unique()} users"


def write(title: str, section: str, lines: Sequence[str]) -> None:
    """Write a section, and show it."""
    write_section(f"Interactions: {title}", f"{COMMAND} --only {section}", lines)
    print("\n".join(lines))


def recommenders(work: Work) -> None:
    """Every recommender without shadows and with four."""
    rows, size = [], ""
    for name, blocks in [*((one, BLOCKS) for one in RECOMMENDERS), ("itemknn", 2)]:
        result, seconds = work.audit(name, blocks=blocks)
        size = sized(result)
        rows.append([name, str(blocks), *(cells(result, one) for one in (*ATTACKS, *RULES)), f"{seconds:.0f}"])
    heading = ["recommender", "blocks", "item-completion, no shadow", f"item-lr, {SHADOWS} shadows", *RULES, "seconds"]
    body = [
        f"ml-latest-small, {size}, answers of {K}, {work.words}. A cell has the AUC of the",
        "interactions with its 95% interval (bootstrap over users), and the TPR at FPR 1%. The last three are rules",
        "without a model; `absent` looks at the user's own list, which leaves out what was seen.",
        "",
        *table(heading, rows),
    ]
    write("every recommender", "recommenders", body)


def references(work: Work) -> None:
    """Half of the users are audited, and the attacker trains models of its own on the other half's data."""
    rows, size = [], ""
    for name in RECOMMENDERS:
        result, _ = work.audit(name, split="users", attacks=[*ATTACKS, "item-reference"], references=REFERENCES)
        bare, _ = work.audit(name, split="users", attacks=["item-reference"], references=[])
        size = sized(result)
        others = [cells(result, one) for one in ("item-lr", "absent")]
        rows.append([name, *(cells(one, "item-reference") for one in (result, bare)),
                     cells(result, "item-completion"), *others])  # fmt: skip
    heading = ["recommender", f"item-reference ({', '.join(REFERENCES)})", "item-reference, none",
               "item-completion", f"item-lr, {SHADOWS} shadows", "absent"]  # fmt: skip
    body = [
        f"The default split: {size}, references trained on the other users. {BLOCKS} blocks, answers of",
        f"{K}, {work.words}. AUC with its 95% interval, and TPR at FPR 1%.",
        "",
        *table(heading, rows),
    ]
    write("reference models in place of shadows", "references", body)


def groups(work: Work) -> None:
    """Which interactions are found."""
    out: list[str] = []
    for grouping, title in (("popularity", "popularity of the item"), ("history_length", "length of the history")):
        rows, names = [], []
        for name in ("ease", "itemknn", "lfm"):
            result, _ = work.audit(name)
            for attack in ATTACKS:
                found = by_group(result, [grouping], ["auc", "tpr@fpr=0.01"], [attack])
                areas = [(group, row) for _, group, row in found if row.metric == "auc"]
                rates = [row for _, _, row in found if row.metric != "auc"]
                names = [group for group, _ in areas]
                told = [
                    f"{shown(row)}, {'–' if rate.value is None else f'{rate.value:.2f}'}"
                    for (_, row), rate in zip(areas, rates, strict=True)
                ]
                rows.append([name, attack, shown(figure(result.metrics, attack, "auc")), *told])
        out += [f"### By {title}", "", *table(["recommender", "attack", "all", *names], rows)]
    body = [
        f"ml-latest-small, all users, {BLOCKS} blocks, answers of {K}, {SHADOWS} shadows, {work.words}.",
        "Interactions in thirds of their number: by how many users have the item, and by how many items the user has.",
        "AUC within the group, with intervals that hold for three groups together, and the TPR at FPR 1%.",
        "",
        *out,
    ]
    write("which are found", "groups", body)


def controls(work: Work) -> None:
    """Systems that memorise no interaction."""
    rows, outside = [], []
    for name in ("content", "random", "popularity"):
        result, _ = work.audit(name)
        rows.append([name, *(cells(result, one) for one in (*ATTACKS, *RULES))])
        for row in result.metrics:
            if row.metric == "auc" and row.attack != "absent" and not (row.low or 0) <= 0.5 <= (row.high or 1):
                outside.append(f"{row.attack} on {name}")
    body = [
        f"ml-latest-small, all users, {BLOCKS} blocks, answers of {K}, {SHADOWS} shadows, {work.words}.",
        "Neither content nor random learns from interactions: all but `absent` must have an AUC of 0.5, but for the",
        "items that nobody else has, which are in the catalogue only if they are trained on. `absent` need not, since",
        "a list leaves out what the user has seen. popularity counts the interactions of all users.",
        f"Intervals without 0.5, `absent` aside: {', '.join(outside) or 'none'}.",
        "",
        *table(["recommender", *ATTACKS, *RULES], rows),
    ]
    write("controls", "controls", body)


# Systems, what they do against leaks, and what that promises for a single interaction.
DEFENDED = (
    ("lfm", "", ""),
    ("lfm", "regularisation=0.1", ""),
    ("lfm", "dp-training=16", "16, delta 1e-05"),
    ("lfm", "dp-training=4", "4, delta 1e-05"),
    ("itemknn", "", ""),
    ("itemknn", "randomised-response=4", "4"),
    ("itemknn", "randomised-response=1", "1"),
    ("ease", "", ""),
    ("ease", "regularisation=1000", ""),
    ("ease", "randomised-response=4", "4"),
    ("ease", "randomised-response=1", "1"),
    ("itemknn", "shorter-lists=10", ""),
    ("itemknn", "gumbel=300", ""),
    ("itemknn", "dp-training=4", ""),
)


def defences(work: Work) -> None:
    """What is found of a system that defends itself."""
    rows, refused = [], []
    for name, defence, promised in DEFENDED:
        try:
            result, seconds = work.audit(name, **({"defence": defence} if defence else {}))
        except ConfigError as error:
            refused.append(f"{name} with {defence}: {error}")
            continue
        bounds = [figure(result.metrics, one, "epsilon").value for one in (*ATTACKS, "absent")]
        told = ["–" if one is None else f"{one:.2f}" for one in bounds]
        found = [cells(result, one) for one in (*ATTACKS, "absent")]
        rows.append([name, defence or "–", *found, *told, promised or "–", f"{seconds:.0f}"])
    bound = [f"epsilon, {one}" for one in (*ATTACKS, "absent")]
    heading = ["recommender", "defence", *ATTACKS, "absent", *bound, "promised", "seconds"]
    body = [
        f"ml-latest-small, all users, {BLOCKS} blocks, answers of {K}, {SHADOWS} shadows with the same defence,",
        f"{work.words}. AUC with its 95% interval, and TPR at FPR 1%; then the lower bounds on epsilon (at delta 0,",
        "95% for all attacks together) and what the defence promises for a single interaction. No promise covers",
        "`absent`: what the user has seen is left out of the list with certainty.",
        "",
        *table(heading, rows),
        *(f"Refused: {one}." for one in refused),
    ]
    write("defences", "defences", body)


def cpu_of_children() -> float:
    """Seconds of CPU of all processes that were started and are done."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def large(work: Work, n_users: int = 10_000) -> None:
    """Data of the size of MovieLens 25M."""
    rows = []
    for jobs in sorted({1, work.jobs}):
        with tempfile.TemporaryDirectory() as scratch:
            arguments = [
                "audit", "--dataset", "synthetic:ml-25m", "--max-users", str(n_users), "--unit", "interactions",
                "--split", "shared", "--recommender", "itemknn", "--attacks", ",".join(ATTACKS), "--n-shadows",
                str(SHADOWS), "--blocks", str(BLOCKS), "--k", str(K), "--seeds", "1", "--jobs", str(jobs), "--store",
                str(Path(scratch) / "store"), "--out", str(Path(scratch) / "run"),
            ]  # fmt: skip
            command = [sys.executable, "-c", WATCH, *PROGRAM, *arguments]
            before = cpu_of_children()
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr)
            seconds, peak = map(float, done.stderr.split()[-2:])
            result = recmia.read_run(Path(scratch) / "run")
            assert isinstance(result, recmia.AuditResult), "of an audit"
            found = [cells(result, one) for one in ATTACKS]
            rows.append(
                [
                    str(jobs),
                    sized(result),
                    f"{seconds:.0f}",
                    f"{cpu_of_children() - before:.0f}",
                    f"{peak / 2**20:.2f}",
                    *found,
                ]
            )
            sys.stderr.write(f"{rows[-1]}\n")
    body = [
        "synthetic:ml-25m (162,541 users, 59,047 items, 25,000,095 interactions), which is generated and loaded first;",
        f"{n_users:,} of its users are audited. ItemKNN, {BLOCKS} blocks, answers of {K}, {SHADOWS} shadows, one",
        "target. `recmia audit --store --out` as a process of its own: all its seconds, and the peak of its largest",
        "process.",
        "",
        *table(["jobs", "attacked", "seconds", "of CPU", "peak memory, GiB", *ATTACKS], rows),
    ]
    write("data of the size of MovieLens 25M", "large", body)


SECTIONS: dict[str, Callable[[Work], None]] = {
    one.__name__: one for one in (recommenders, references, groups, controls, defences, large)
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--store", type=Path)
    parser.add_argument("--targets", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = Work(ArrayStore(arguments.store or Path(scratch)), arguments.targets, arguments.jobs)
        for name in arguments.only.split(","):
            started = time.perf_counter()
            SECTIONS[name](work)
            sys.stderr.write(f"{name}: {time.perf_counter() - started:.0f} s\n")


if __name__ == "__main__":
    main()

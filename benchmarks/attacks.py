"""Attacks over the number of shadow models, for several recommenders: the table and the figure of docs/attacks.md.

The strict regime on ml-latest-small: every user is served by fold-in, every user's history is known, 8 targets that are
never among the shadows, lists of 100. The run of the project's promise, 128 shadows and 8 targets of an LFM, is timed
as a process of its own with nothing stored.

    python benchmarks/attacks.py [--recommenders lfm,als] [--store DIR]

With --store, what was trained before is not trained again; times are then left out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
from _results import write_section

from recmia.attacks import RULES
from recmia.cache import ArrayStore
from recmia.render.charts import sweep_lines
from recmia.render.layout import Entry, Legend, Static, picture
from recmia.render.style import styles
from recmia.results.sweep import run_sweep
from recmia.settings import AuditSettings

SHADOWS = (8, 16, 32, 64, 128)
RECOMMENDERS = ("lfm", "als", "ncf", "itemknn", "ease")
ATTACKS = (
    "list-lr", "list-lr-surprise", "list-lr-counts", "list-lr-ranks", "list-lr-ridge", "list-lr-offline", "rmia", "mlp",
    "distance", "k-means",
)  # fmt: skip
FIGURE = Path(__file__).parents[1] / "docs" / "shadows.png"


def curve(recommender: str, store: ArrayStore) -> pl.DataFrame:
    """Metrics of every attack at every number of shadows."""
    settings = AuditSettings.parse(
        {"split": "shared", "regimes": ["fold-in"], "attacks": ATTACKS, "n_targets": 8, "seeds": 1,
         "recommender": recommender}
    )  # fmt: skip
    started = time.perf_counter()

    def progress(text: str, done: int, total: int) -> None:
        seconds = time.perf_counter() - started
        print(f"\r{recommender}: {done}/{total} {text}, {seconds:.0f} s   ", end="", file=sys.stderr, flush=True)

    result = run_sweep(settings, {"n_shadows": SHADOWS}, jobs=os.cpu_count() or 1, store=store, progress=progress)
    print(file=sys.stderr)
    for failure in result.errors:
        raise SystemExit(f"{failure}")
    return result.table


def drawn(tables: dict[str, pl.DataFrame]) -> Static:
    """The strongest attacks over the number of shadows, a chart for each recommender."""
    shown = ("list-lr", "list-lr-counts", "list-lr-offline", "mlp", "distance", "k-means", "popular-overlap")
    panels = []
    for recommender, table in tables.items():
        rows = table.filter(pl.col("attack").is_in(shown), metric="auc")
        chart = sweep_lines(rows, "n_shadows", SHADOWS, series=shown, rules=RULES, lowest=0.4)
        panels.append((recommender, chart))
    chosen = styles(shown, RULES)
    entries = [Entry(name, chosen[name], sample="line" if chosen[name].thin else "band") for name in shown]
    title = "Can members be told from non-members when all are served by the same path?\n"
    title += "ml-latest-small, fold-in, mean over 8 targets, 95% intervals"
    return picture([panels[:3], panels[3:]], title, legends=[Legend("thin: needs no model", entries)])


def lines(recommender: str, table: pl.DataFrame) -> list[str]:
    """A table of AUC and TPR at FPR 1%."""
    out = [f"### {recommender}", "", "| attack | " + " | ".join(f"S = {count}" for count in SHADOWS) + " |"]
    out.append("|---" * (1 + len(SHADOWS)) + "|")
    for attack in (*ATTACKS, "popular-overlap", "history-length", "history-popularity"):
        cells = []
        for count in SHADOWS:
            auc, tpr = (
                table.filter(attack=attack, n_shadows=count, metric=name).row(0, named=True)
                for name in ("auc", "tpr@fpr=0.01")
            )
            cells.append(f"{auc['value']:.3f} [{auc['low']:.3f}–{auc['high']:.3f}], {tpr['value']:.2f}")
        out.append(f"| {attack} | " + " | ".join(cells) + " |")
    return [*out, ""]


def timed_run() -> str:
    """The whole run with 128 shadows and 8 targets as a user starts it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).with_name("recmia")), "audit", "--split", "shared", "--regime", "fold-in"]
        command += ["--attack", "mlp,list-lr", "--n-shadows", "128", "--n-targets", "8", "--seeds", "1"]
        command += ["--store", f"{folder}/store", "--out", f"{folder}/run"]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
    return f"`recmia {' '.join(command[1:-4])}`: {seconds:.1f} s in all, nothing stored before."


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--recommenders", default=",".join(RECOMMENDERS))
    parser.add_argument("--store", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        store = ArrayStore(arguments.store or Path(scratch))
        tables = {name: curve(name, store) for name in arguments.recommenders.split(",")}
    FIGURE.write_bytes(drawn(tables).png())
    body = [
        "Strict `fold-in` on ml-latest-small: all 610 users audited, 100 factors, lists of 100, one pool, 8 targets. A",
        "cell has the AUC with its 95% interval over the targets, and the TPR at FPR 1%.",
        "",
        timed_run(),
        "",
    ]
    for name, table in tables.items():
        body += lines(name, table)
    write_section("Attacks over the number of shadows", "python benchmarks/attacks.py", body)


if __name__ == "__main__":
    main()

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
from matplotlib.figure import Figure

from recmia.attacks import BASELINES
from recmia.config import AuditConfig
from recmia.store import ArrayStore
from recmia.sweep import sweep

SHADOWS = (8, 16, 32, 64, 128)
RECOMMENDERS = ("lfm", "als", "ncf", "itemknn", "ease")
ATTACKS = (
    "list-lr", "list-lr-surprise", "list-lr-counts", "list-lr-ranks", "list-lr-ridge", "list-lr-offline", "rmia", "mlp",
    "distance", "k-means",
)  # fmt: skip
FIGURE = Path(__file__).parents[1] / "docs" / "shadows.png"


def curve(recommender: str, store: ArrayStore) -> pl.DataFrame:
    """Metrics of every attack at every number of shadows."""
    config = AuditConfig(
        split="shared",
        regimes=("fold-in",),
        attacks=ATTACKS,
        targets=8,
        seeds=1,
        target=recommender,
        shadow=recommender,
    )
    started = time.perf_counter()

    def progress(text: str, done: int, total: int) -> None:
        seconds = time.perf_counter() - started
        print(f"\r{recommender}: {done}/{total} {text}, {seconds:.0f} s   ", end="", file=sys.stderr, flush=True)

    result = sweep(config, {"shadows": SHADOWS}, jobs=os.cpu_count() or 1, store=store, progress=progress)
    print(file=sys.stderr)
    for failure in result.errors:
        raise SystemExit(f"{failure}")
    return result.table


def figure(tables: dict[str, pl.DataFrame]) -> Figure:
    """The strongest attacks over the number of shadows, an axes for each recommender."""
    shown = {
        "list-lr": "#D55E00", "list-lr-counts": "#CC79A7", "list-lr-offline": "#E69F00", "mlp": "#0072B2",
        "distance": "#009E73", "k-means": "#56B4E9",
    }  # fmt: skip
    drawing = Figure(figsize=(3.1 * len(tables) + 1.8, 4.2), layout="constrained")
    drawing.suptitle(
        "Can members be told from non-members when all are served alike? ml-latest-small, fold-in, mean over 8 targets",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    grid = drawing.subplots(1, len(tables), sharey=True, squeeze=False)[0]
    for axes, (recommender, table) in zip(grid, tables.items(), strict=True):
        rows = table.filter(metric="auc")
        best_rule = rows.filter(pl.col("attack").is_in(list(BASELINES))).sort("value")["attack"][-1]
        for attack in (*shown, best_rule):
            line = rows.filter(attack=attack).sort("shadows")
            colour = shown.get(attack, "0.45")
            label = attack if attack in shown else "best rule without a model"
            thin = attack not in shown
            axes.plot(line["shadows"], line["value"], color=colour, label=label, linewidth=1 if thin else 2,
                      linestyle="--" if thin else "-", marker=None if thin else "o", markersize=4)  # fmt: skip
            if not thin:
                axes.fill_between(line["shadows"], line["low"], line["high"], color=colour, alpha=0.2, linewidth=0)
        axes.axhline(0.5, color="0.6", linestyle=":", linewidth=1)
        axes.set(xscale="log", xlabel="shadow models", ylim=(0.4, 1.01))
        axes.set_xticks(SHADOWS, [str(count) for count in SHADOWS])
        axes.minorticks_off()
        axes.set_title(recommender, loc="left", fontsize=10)
        axes.grid(alpha=0.25, linewidth=0.6)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    grid[0].set_ylabel("AUC, 95% interval")
    grid[-1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    return drawing


def lines(recommender: str, table: pl.DataFrame) -> list[str]:
    """A table of AUC and TPR at FPR 1%."""
    out = [f"### {recommender}", "", "| attack | " + " | ".join(f"S = {count}" for count in SHADOWS) + " |"]
    out.append("|---" * (1 + len(SHADOWS)) + "|")
    for attack in (*ATTACKS, "popular-overlap", "history-length", "history-popularity"):
        cells = []
        for count in SHADOWS:
            auc, tpr = (
                table.filter(attack=attack, shadows=count, metric=name).row(0, named=True)
                for name in ("auc", "tpr@fpr=0.01")
            )
            cells.append(f"{auc['value']:.3f} [{auc['low']:.3f}–{auc['high']:.3f}], {tpr['value']:.2f}")
        out.append(f"| {attack} | " + " | ".join(cells) + " |")
    return [*out, ""]


def timed_run() -> str:
    """The whole run with 128 shadows and 8 targets as a user starts it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).with_name("recmia")), "audit", "--split", "shared", "--regime", "fold-in"]
        command += ["--attack", "mlp,list-lr", "--shadows", "128", "--targets", "8", "--seeds", "1"]
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
    figure(tables).savefig(FIGURE, dpi=130)
    body = [
        "Strict `fold-in` on ml-latest-small: all 610 users audited, l = 100, lists of 100, one pool, 8 targets. A",
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

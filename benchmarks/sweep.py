"""A sweep of 64 cells: two processes against one, and what it costs beside training, serving and attacking."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _results import write_section

import recmia.play
import recmia.training
from recmia.config import AuditConfig
from recmia.store import ArrayStore
from recmia.sweep import sweep

AXES: dict[str, list[Any]] = {
    "lfm.epochs": [5, 10, 15, 20],
    "lfm.learning_rate": [0.004, 0.006, 0.008, 0.01],
    "k": [10, 20, 50, 100],
}
CONFIG = AuditConfig.parse({"attacks": ["mlp"], "seeds": 1, "thresholds": False, "l": 50})
TURNS = 3


class Clock:
    """Adds up the time inside a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *arguments: Any) -> Any:
        """Call it."""
        started = time.process_time()
        try:
            return self.function(*arguments)
        finally:
            self.seconds += time.process_time() - started


def run(jobs: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        sweep(CONFIG, AXES, jobs=jobs, store=ArrayStore(Path(folder)))
        return time.perf_counter() - started


def outside() -> tuple[float, float]:
    """CPU seconds of one process in all, and outside of what models and attacks do."""
    clocks = [Clock(recmia.training._train_and_serve), Clock(recmia.play._play)]
    recmia.training._train_and_serve, recmia.play._play = clocks  # type: ignore[assignment]
    started = time.process_time()
    run(1)
    total = time.process_time() - started
    recmia.training._train_and_serve, recmia.play._play = (clock.function for clock in clocks)
    return total, total - sum(clock.seconds for clock in clocks)


def main() -> None:
    for jobs in (1, 2):
        run(jobs)  # compile, and start the workers
    shares, rows, ratios = [], [], []
    for _ in range(TURNS):
        load = os.getloadavg()[0]
        one, two = run(1), run(2)
        total, beside = outside()
        shares.append(beside / total)
        ratios.append(one / two)
        rows.append(f"| {one:.1f} | {two:.1f} | {one / two:.2f} | {total:.1f} | {beside / total:.1%} | {load:.1f} |")
        print(rows[-1], flush=True)
    lines = [
        "ml-latest-small, 64 cells (4 numbers of epochs, 4 learning rates, 4 list lengths), l = 50, one seed, two",
        "regimes, the MLP alone, an empty store on disk. Turns run one after the other, each with one process and then",
        "with two; the load is that of the machine's two cores before a turn, other people's work included. What is",
        "beside the models is the CPU time of one process outside training, serving and attacking.",
        "",
        "| 1 process, s | 2 processes, s | speed-up | CPU seconds | beside the models | load |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        f"Medians: speed-up {statistics.median(ratios):.2f}, beside the models {statistics.median(shares):.1%}.",
    ]
    write_section("A sweep of 64 cells", "python benchmarks/sweep.py", lines)
    print(lines[-1])


if __name__ == "__main__":
    main()

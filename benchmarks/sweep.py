"""A sweep of 64 cells: two processes against one, and what it costs beside training, serving and attacking."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from _results import write_section

import recmia.game.run
import recmia.game.tasks
from recmia.cache import ArrayStore
from recmia.results.sweep import run_sweep
from recmia.settings import AuditSettings

AXES: dict[str, list[Any]] = {
    "lfm.epochs": [5, 10, 15, 20],
    "lfm.learning_rate": [0.004, 0.006, 0.008, 0.01],
    "k": [10, 20, 50, 100],
}
CONFIG = AuditSettings.parse({"attacks": ["mlp"], "seeds": 1, "thresholds": False, "factors": 50})
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


def run(jobs: int) -> tuple[float, list[float]]:
    """Seconds of a sweep, and CPU seconds of this process and of each of its workers."""
    with tempfile.TemporaryDirectory() as folder:
        before, started = cpu_seconds(), time.perf_counter()
        run_sweep(CONFIG, AXES, jobs=jobs, store=ArrayStore(Path(folder)))
        seconds = time.perf_counter() - started
        return seconds, [now - then for now, then in zip(cpu_seconds(), before, strict=True)]


def cpu_seconds() -> list[float]:
    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children(recursive=True))]
    return [one.user + one.system for one in times]


def outside() -> tuple[float, float, float]:
    """Seconds of a sweep in one process, its CPU seconds, and those outside of what models and attacks do."""
    clocks = [Clock(recmia.game.tasks._train_and_serve), Clock(recmia.game.run._play)]
    recmia.game.tasks._train_and_serve, recmia.game.run._play = clocks  # type: ignore[assignment]
    seconds, (total, *_) = run(1)
    recmia.game.tasks._train_and_serve, recmia.game.run._play = (clock.function for clock in clocks)
    return seconds, total, total - sum(clock.seconds for clock in clocks)


def main() -> None:
    # Compile, and start the workers.
    run_sweep(CONFIG, {"k": [10, 20]}, jobs=2)
    rows, figures = [], []
    for _ in range(TURNS):
        load = os.getloadavg()[0]
        one, total, beside = outside()
        two, (here, *workers) = run(2)
        busiest = max(workers)
        figures.append((one / two, total / (here + busiest), total / busiest, beside / total))
        cells = [f"{one:.1f}", f"{two:.1f}", f"{one / two:.2f}", f"{total:.1f}", f"{here:.1f} + {busiest:.1f}"]
        rows.append(f"| {' | '.join(cells)} | {beside / total:.1%} | {load:.1f} |")
        print(rows[-1], flush=True)
    wall, low, high, share = (statistics.median(column) for column in zip(*figures, strict=True))
    lines = [
        "ml-latest-small, 64 cells (4 numbers of epochs, 4 learning rates, 4 list lengths), 50 factors, one seed, two",
        "regimes, the MLP alone, an empty store on disk; one process and two in turns. The load is that of the two",
        "cores before a turn, other people's work included: with more to do than cores, seconds say little, and CPU",
        "seconds say what two free cores would give. What is beside the models is the CPU time of one process outside",
        "training, serving and attacking.",
        "",
        "| 1 process, s | 2 processes, s | ratio | CPU s of 1 process | CPU s of 2: main + busiest worker | "
        "beside the models | load |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        f"Medians: {wall:.2f} times as fast in seconds under that load; by CPU seconds between {low:.2f} (if the main",
        f"process never worked beside its workers) and {high:.2f} (if it always did); beside the models {share:.1%}.",
    ]
    write_section("A sweep of 64 cells", "python benchmarks/sweep.py", lines)
    print("\n".join(lines[-2:]))


if __name__ == "__main__":
    main()

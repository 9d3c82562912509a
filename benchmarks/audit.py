"""Time and memory of `recmia audit` as a whole process, imports included.

Run by `make bench`. Needs `RECMIA_DATA`, a folder that holds ml-latest-small.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from _results import write_section

WARM_RUNS = 3
PROGRAM = [sys.executable, "-c", "from recmia.cli.main import main; main()", "audit"]
CASES = {
    "one seed, one regime (warm)": ["--seeds", "1", "--regimes", "fold-in"],
    "no options: 5 seeds, two regimes (warm)": [],
    "the same, one process (warm)": ["--jobs", "1"],
}
SCALES = {"100 thousand": "ml-100k", "1 million": "ml-1m", "10 million": "ml-10m", "25 million": "ml-25m"}


def measure(arguments: list[str], cache: str) -> tuple[float, float]:
    """Run once; return wall seconds and the peak memory of the largest process in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        # A store of its own, or the second run would find all that the first one trained.
        own = ["--out", str(Path(folder) / "run"), "--store", str(Path(folder) / "store")]
        command = ["/usr/bin/env", "python3", "-c", _WATCH, *PROGRAM, *arguments, *own]
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds, peak = done.stderr.split()[-2:]
    return float(seconds), float(peak) / 1024


# A process of its own, so that the peak is that of one run and not of the largest so far.
_WATCH = """
import resource, subprocess, sys, time
started = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(time.perf_counter() - started, peak, file=sys.stderr)
"""


def main() -> None:
    """Measure and write the section of `RESULTS.md`."""
    if not os.environ.get("RECMIA_DATA"):
        sys.exit("set RECMIA_DATA to the folder that holds ml-latest-small")
    lines = [
        "| `recmia audit` on ml-latest-small | seconds | peak memory of the largest process, MiB |",
        "|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as cache:
        seconds, peak = measure(CASES["one seed, one regime (warm)"], cache)
        lines.append(f"| one seed, one regime, first run: nothing compiled yet | {seconds:.1f} | {peak:.0f} |")
        for name, arguments in CASES.items():
            runs = [measure(arguments, cache) for _ in range(WARM_RUNS)]
            middle = sorted(seconds for seconds, _ in runs)[len(runs) // 2]
            lines.append(f"| {name}, median of {WARM_RUNS} | {middle:.1f} | {max(peak for _, peak in runs):.0f} |")
        write_section("The audit as a process", "python benchmarks/audit.py", lines)
        print("\n".join(lines))
        lines = ["| interactions | `--dataset` | seconds | peak memory, GiB |", "|---|---|---|---|"]
        for words, shape in SCALES.items():
            seconds, peak = measure(["--dataset", f"synthetic:{shape}", "--seeds", "1", "--attacks", "mlp"], cache)
            lines.append(f"| {words} | `synthetic:{shape}` | {seconds:.0f} | {peak / 1024:.1f} |")
    write_section(
        "The audit at scale: the MLP and the baselines, two regimes, one seed, both cores",
        "python benchmarks/audit.py",
        lines,
    )
    print("\n".join(lines))


if __name__ == "__main__":
    main()

"""Time and memory of `recmia audit-files` on the lists of many users, as a whole process, reading included.

python benchmarks/files.py [USERS]; a million by default, which takes 2 GB of disk in the folder for temporary files.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from _results import write_section

# A process of its own, so that the peak is that of one run.
WATCH = """
import resource, subprocess, sys, time
started = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr)
"""
K, TASTES, NICHE = 100, 100, 401
N_ITEMS = TASTES * (NICHE - 1) + 1
PROGRAM = [sys.executable, "-c", "from recmia.cli.main import main; main()", "audit-files"]
CASES = {
    "baselines, distance, k-means": ["--attacks", "distance,k-means"],
    "the same, item vectors of 32 factors": ["--attacks", "distance,k-means", "-l", "32"],
}


def generate(folder: Path, n_users: int) -> int:
    """Write histories of 20 to 50 items, two thirds of them from the user's niche, lists of 100 items, and members.

    Returns the number of interactions.
    """
    rng = np.random.default_rng(0)
    ids = rng.permutation(10 * n_users)[:n_users]
    taste = rng.integers(TASTES, size=n_users)
    user = np.repeat(np.arange(n_users), rng.integers(20, 51, size=n_users))
    near = taste[user] * (NICHE - 1) + (NICHE * rng.random(len(user)) ** 2).astype(np.int64)
    far = (N_ITEMS * rng.random(len(user)) ** 2).astype(np.int64)
    item = np.where(rng.random(len(user)) < 2 / 3, near, far)
    pair = np.unique(user * N_ITEMS + item)
    histories = {"user": ids[pair // N_ITEMS], "item": 7 * (pair % N_ITEMS)}
    pl.DataFrame(histories).write_parquet(folder / "interactions.parquet")
    del near, far, item, user, histories
    n = len(pair)
    del pair
    # The size of a niche is a prime, so that steps of any size come to 100 different items.
    start, step = rng.integers(NICHE, size=(n_users, 1)), rng.integers(1, NICHE, size=(n_users, 1))
    shown = taste[:, None] * (NICHE - 1) + (start + step * np.arange(K)) % NICHE
    lists = {
        "user": np.repeat(ids, K),
        "item": 7 * shown.ravel(),
        "rank": np.tile(np.arange(1, K + 1), n_users),
    }
    pl.DataFrame(lists).write_parquet(folder / "lists.parquet")
    pl.DataFrame({"user": ids[rng.permutation(n_users)[: n_users // 2]]}).write_csv(folder / "members.csv")
    return n


def main() -> None:
    """Measure and write the section of `RESULTS.md`."""
    n_users = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        n = generate(folder, n_users)
        files = [f"--{name}={folder / file}" for name, file in (
            ("interactions", "interactions.parquet"), ("lists", "lists.parquet"), ("members", "members.csv")
        )]  # fmt: skip
        lines = [
            f"{n_users:,} users, {n:,} interactions, {N_ITEMS:,} items, lists of {K} as {n_users * K:,} rows of",
            "Parquet; defaults but for what is named.",
            "",
            "| attacks | seconds | seconds of CPU | load average before | peak memory, GiB |",
            "|---|---|---|---|---|",
        ]
        for name, arguments in CASES.items():
            load = os.getloadavg()[0]
            command = [sys.executable, "-c", WATCH, *PROGRAM, *files, *arguments, "--out", str(folder / name)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds, cpu, peak = map(float, done.stderr.split()[-3:])
            lines.append(f"| {name} | {seconds:.0f} | {cpu:.0f} | {load:.1f} | {peak / 2**20:.2f} |")
    write_section("Lists from files", f"python benchmarks/files.py {n_users}", lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()

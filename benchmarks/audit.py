"""What `recmia audit` costs beside its models, against the code before it was made faster, and at scale.

    python benchmarks/audit.py [--only process,models,start-up,mlp,scale,workers,users] [--quick]

Needs `RECMIA_DATA`, a folder that holds ml-latest-small, and the history of the repository: the code before is taken
from it. Times are CPU seconds of a process and its children, but where they are said to be wall time: the machines are
shared. What is compared alternates, in one run.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from _results import write_section

# The commit before the audit was made faster.
BEFORE = "af71e87"
ROOT = Path(__file__).parents[1]
PROGRAM = [sys.executable, "-c", "from recmia.cli.main import main; main()", "audit"]
SCALES = {"100 thousand": "ml-100k", "1 million": "ml-1m", "10 million": "ml-10m", "25 million": "ml-25m"}
COMMAND = "python benchmarks/audit.py"

# A process of its own, so that its children are those of one run.
_WATCH = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
wall = time.perf_counter() - started
print(json.dumps({"wall": wall, "cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss / 1024}), file=sys.stderr)
"""

# Trains and serves all models of the default audit, by the engine alone: no files, no attacks, no start of a process.
_MODELS = """
import json, time
from recmia.data.datasets import load
from recmia.game.plan import plan_from_data
from recmia.game.tasks import run_tasks
from recmia.results.setup import resolve
from recmia.settings import AuditSettings
setup = resolve(AuditSettings())
data = load("ml-latest-small", min_interactions=20).interactions
tasks = [task for seed in setup.settings.seeds for task in plan_from_data(setup, data, seed).tasks]
run_tasks(tasks[:16], store={})
found = {"models": len(tasks)}
for jobs in (1, 2):
    wall, cpu = time.perf_counter(), time.process_time()
    run_tasks(tasks, store={}, jobs=jobs)
    found[f"wall {jobs}"], found[f"cpu {jobs}"] = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps(found))
"""

# The share of the MLP in the CPU time of the whole process.
_SHARE = """
import json, sys, time
from recmia.attacks.classifiers import VectorClassifier
spent = 0.0
def timed(method):
    def call(self, *args, **kwargs):
        global spent
        started = time.process_time()
        try:
            return method(self, *args, **kwargs)
        finally:
            spent += time.process_time() - started
    return call
VectorClassifier.fit, VectorClassifier.score = timed(VectorClassifier.fit), timed(VectorClassifier.score)
from recmia.cli.main import main
sys.argv = ["recmia", "audit", "--jobs", "1", *sys.argv[1:]]
try:
    main()
except SystemExit:
    pass
print(json.dumps({"mlp": spent, "whole": time.process_time()}), file=sys.stderr)
"""


def environment(source: Path, cache: str) -> dict[str, str]:
    """The environment of a run of the code in a folder; the first run of each compiles into the cache."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **kept,
        "PYTHONPATH": str(source),
        "NUMBA_CACHE_DIR": f"{cache}/numba",
        "PYTHONPYCACHEPREFIX": f"{cache}/pyc",
    }


class Code:
    """The code of a commit, or that of the working tree, in a folder, with a store and a cache of its own."""

    def __init__(self, folder: Path, commit: str = "") -> None:
        self.source = ROOT / "src"
        self.folder = folder
        folder.mkdir()
        if commit:
            archive = subprocess.run(["git", "archive", commit, "src"], cwd=ROOT, capture_output=True, check=True)
            subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
            self.source = folder / "src"
        self._turn = self._stored = 0

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a command with this code."""
        found = subprocess.run(
            command, env=environment(self.source, str(self.folder)), capture_output=True, text=True, check=False
        )
        if found.returncode:
            sys.exit(f"{' '.join(command[-6:])} failed:\n{found.stderr[-3000:]}")
        return found

    def audit(self, arguments: Sequence[str], *, warm: bool = False) -> dict[str, float]:
        """Run an audit once; return wall and CPU seconds, and the peak memory of the largest process in MiB."""
        self._turn += 1
        # A store of its own, or it would find all that the last one trained.
        self._stored += not warm
        own = ["--out", str(self.last), "--store", str(self.folder / f"store{self._stored}")]
        done = self.run([sys.executable, "-c", _WATCH, *PROGRAM, *arguments, *own])
        found: dict[str, float] = json.loads(done.stderr.splitlines()[-1])
        return found

    def python(self, program: str, *arguments: str, errors: bool = False) -> dict[str, float]:
        """Run a program that prints JSON on its last line."""
        done = self.run([sys.executable, "-c", program, *arguments])
        found: dict[str, float] = json.loads((done.stderr if errors else done.stdout).splitlines()[-1])
        return found

    @property
    def last(self) -> Path:
        """The folder of the last audit."""
        return self.folder / f"run{self._turn}"

    @property
    def scores(self) -> pl.DataFrame:
        """The scores of the last audit."""
        return pl.read_parquet(self.last / "scores.parquet")


def middle(runs: Sequence[dict[str, float]], name: str) -> float:
    """The median of a measure over runs."""
    return statistics.median(run[name] for run in runs)


def models(before: Code, now: Code, turns: int) -> None:
    """The default audit against its models, and against the code before."""
    for code in (before, now):
        code.audit([])
    old, new, engine = [], [], []
    for _ in range(turns):
        old.append(before.audit([]))
        new.append(now.audit([]))
        engine.append(now.python(_MODELS))
    with tempfile.TemporaryDirectory() as folder:
        share = now.python(_SHARE, "--out", f"{folder}/run", "--store", f"{folder}/store", errors=True)
    cpu, alone = middle(new, "cpu"), middle(engine, "cpu 1")
    lines = [
        f"Medians of {turns} turns; {engine[0]['models']:.0f} models, default attacks, caches of compiled code warm.",
        "",
        "| ml-latest-small, no options | CPU, s | wall, s | ratio |",
        "|---|---|---|---|",
        f"| `recmia audit`, before ({BEFORE}) | {middle(old, 'cpu'):.1f} | {middle(old, 'wall'):.1f} | |",
        f"| `recmia audit` | {cpu:.1f} | {middle(new, 'wall'):.1f} | {cpu / middle(old, 'cpu'):.2f} of before |",
        f"| its models trained and served by the engine alone | {alone:.1f} | {middle(engine, 'wall 1'):.1f} | "
        f"the audit takes {cpu / alone:.2f} times as much CPU |",
        f"| the MLP, in one process | {share['mlp']:.2f} | | {share['mlp'] / share['whole']:.1%} of the audit's CPU |",
        f"| the models, two threads | {middle(engine, 'cpu 2'):.1f} | {middle(engine, 'wall 2'):.1f} | "
        f"{middle(engine, 'wall 1') / middle(engine, 'wall 2'):.2f} times as fast as one |",
        "",
        "Scores before and now, same seeds:",
        "",
        "| attack or rule | scores | largest difference, of the scores' standard deviation |",
        "|---|---|---|",
    ]
    one, other = before.scores, now.scores
    assert one.drop("score").equals(other.drop("score")), "scores of the same users"
    both = one.with_columns(other["score"].alias("now"))
    for (name,), part in both.group_by(["attack"], maintain_order=True):
        score = part["score"].to_numpy()
        apart = np.abs(score - part["now"].to_numpy()).max() / max(float(score.std()), 1e-12)
        lines.append(f"| {name} | {len(part):,} | {apart:.1g} |")
    write_section("The audit and its models", f"{COMMAND} --only models", lines)
    print("\n".join(lines))


def start_up(before: Code, now: Code, turns: int) -> None:
    """What is left when everything is found in the store."""
    importing = [sys.executable, "-c", _WATCH, sys.executable, "-c", "import recmia"]
    commands: dict[str, list[str] | None] = {
        "`import recmia`": None,
        "`recmia audit --seeds 1`, all in the store": ["--seeds", "1"],
        "`recmia audit`, all in the store": [],
    }
    lines = [
        f"Medians of {turns} turns.", "", "| | CPU before, s | CPU now, s | ratio | wall before, s | wall now, s |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, what in commands.items():
        runs: dict[str, list[dict[str, float]]] = {"before": [], "now": []}
        for turn in range(turns + 1):
            for label, code in (("before", before), ("now", now)):
                if what is None:
                    found = json.loads(code.run(importing).stderr.splitlines()[-1])
                else:
                    found = code.audit(what, warm=turn > 0)
                if turn:
                    runs[label].append(found)
        old, new = (middle(runs[label], "cpu") for label in ("before", "now"))
        walls = [middle(runs[label], "wall") for label in ("before", "now")]
        lines.append(f"| {name} | {old:.2f} | {new:.2f} | {new / old:.2f} | {walls[0]:.2f} | {walls[1]:.2f} |")
    write_section("Start-up, and an audit that finds everything stored", f"{COMMAND} --only start-up", lines)
    print("\n".join(lines))


def mlp(before: Code, now: Code, seeds: int) -> None:
    """The AUC of the paper's MLP as trained here, and by scikit-learn, over seeds."""
    lines = [
        f"ml-latest-small, {seeds} seeds; the same models and vectors, other random numbers.",
        "",
        "| recommender | regime | AUC, scikit-learn's | AUC, ours | mean difference ± standard error |",
        "|---|---|---|---|---|",
    ]
    for recommender in ("lfm", "lfm-biased", "itemknn"):
        found = []
        for code in (before, now):
            code.audit(["--attacks", "mlp", "--no-thresholds", "--seeds", str(seeds), "--recommender", recommender])
            found.append(_auc_by_seed(code.scores.filter(pl.col("attack") == "mlp")))
        for regime in found[0]:
            theirs, ours = (np.array(one[regime]) for one in found)
            apart = ours - theirs
            error = apart.std(ddof=1) / np.sqrt(len(apart))
            lines.append(
                f"| {recommender} | {regime} | {theirs.mean():.4f} | {ours.mean():.4f} | "
                f"{apart.mean():+.4f} ± {error:.4f} |"
            )
    write_section("The paper's MLP, ours and scikit-learn's", f"{COMMAND} --only mlp", lines)
    print("\n".join(lines))


def _auc_by_seed(scores: pl.DataFrame) -> dict[str, list[float]]:
    from recmia.metrics import auc

    found: dict[str, list[float]] = {}
    for (regime, _), part in scores.group_by(["regime", "seed"], maintain_order=True):
        value = auc(part["member"].to_numpy(), part["score"].to_numpy()).value
        assert value is not None, "there are members and others"
        found.setdefault(str(regime), []).append(value)
    return found


def scale(now: Code, quick: bool) -> None:
    """Time and memory of larger audits, with the share of each stage."""
    lines = [
        "One seed, two regimes, default attacks and shadow models, both cores; wall time.",
        "",
        "| interactions | options | seconds | peak, GiB | reading | training and serving | attacking | the rest |",
        "|---|---|---|---|---|---|---|---|",
    ]
    cases = [(words, shape, ["--n-audited", "10000"]) for words, shape in SCALES.items()]
    cases.append(("25 million", "ml-25m", ["--queries", "0"]))
    # Compiled code is loaded from the cache, as in any run but the first.
    now.audit(["--dataset", "synthetic:ml-100k", "--seeds", "1"])
    for words, shape, options in cases[:2] if quick else cases:
        run = now.audit(["--dataset", f"synthetic:{shape}", "--seeds", "1", *options])
        spent = json.loads((now.last / "run.json").read_text())["seconds"]
        known = [
            spent["loading the data"],
            spent["training recommenders and serving lists"],
            spent["attacking"],
        ]
        shares = " | ".join(f"{part / run['wall']:.0%}" for part in (*known, run["wall"] - sum(known)))
        lines.append(
            f"| {words} | `--dataset synthetic:{shape} {' '.join(options)}` | {run['wall']:.0f} | "
            f"{run['peak'] / 1024:.1f} | {shares} |"
        )
        print(lines[-1], flush=True)
    write_section("The audit at scale", f"{COMMAND} --only scale", lines)


def workers(now: Code, quick: bool) -> None:
    """The same audit on Dask workers, each a process of this machine."""
    arguments = ["--dataset", "synthetic:ml-1m", "--seeds", "2" if quick else "4", "--n-audited", "1000"]
    lines = [
        f"`recmia audit {' '.join(arguments)}`, each worker a process with one thread, on {os.cpu_count()} cores.",
        "",
        "| workers | seconds | times as fast as one | training and serving, s | attacking, s |",
        "|---|---|---|---|---|",
    ]
    first, reference = 0.0, None
    for n in (1, 2, 4):
        with _scheduler(now, n) as address:
            run = now.audit([*arguments, "--cluster", address])
        if reference is None:
            first, reference = run["wall"], now.scores
        assert now.scores.equals(reference), "the same scores, however many workers"
        spent = json.loads((now.last / "run.json").read_text())["seconds"]
        lines.append(
            f"| {n} | {run['wall']:.0f} | {first / run['wall']:.2f} | "
            f"{spent['training recommenders and serving lists']:.0f} | {spent['attacking']:.0f} |"
        )
        print(lines[-1], flush=True)
    write_section("The audit on Dask workers", f"{COMMAND} --only workers", lines)


@contextmanager
def _scheduler(code: Code, n: int) -> Iterator[str]:
    """A scheduler with n workers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    local = ["--host", "127.0.0.1", "--no-dashboard"]
    commands = [["scheduler", "--port", address.rpartition(":")[2], *local]]
    commands += [["worker", address, "--nthreads", "1", "--no-nanny", *local]] * n
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "dask", *command], env=environment(code.source, str(code.folder)),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]  # fmt: skip
    try:
        import distributed

        client: Any = distributed.Client(address, timeout=60)  # type: ignore[no-untyped-call]
        with client:
            client.wait_for_workers(n, timeout=60)
        yield address
    finally:
        for one in started:
            one.kill()
            one.wait()


def users() -> None:
    """How narrow intervals are for so many audited users, of normal scores."""
    from recmia.metrics import auc, tpr_at_fpr

    lines = [
        "Half members; scores are normal, members' shifted; means over 20 draws of the width of the 95% interval.",
        "",
        "| audited users | AUC 0.60 | AUC 0.90 | TPR at FPR 1%, where the AUC is 0.90 |",
        "|---|---|---|---|",
    ]
    for n in (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000):
        member = np.arange(n) < n // 2
        cells = []
        for shift in (0.358, 1.812):
            rngs = np.random.default_rng(n).spawn(20)
            scores = [rng.normal(size=n) + shift * member for rng in rngs]
            cells.append(_mean_width([auc(member, score) for score in scores]))
        cells.append(_mean_width([tpr_at_fpr(member, score, 0.01) for score in scores]))
        lines.append(f"| {n:,} | {' | '.join(cells)} |")
    write_section("Intervals by the number of audited users", f"{COMMAND} --only users", lines)
    print("\n".join(lines))


def _mean_width(estimates: Sequence[Any]) -> str:
    widths = [one.high - one.low for one in estimates if one.value is not None]
    return f"{np.mean(widths):.3f}" if widths else "not defined: too few non-members"


def process(now: Code, turns: int) -> None:
    """Wall time and memory of the default audit, as users see them."""
    cases = {
        "one seed, one regime": ["--seeds", "1", "--regimes", "fold-in"],
        "no options: 5 seeds, two regimes": [],
        "the same, one process": ["--jobs", "1"],
    }
    lines = [
        "| `recmia audit` on ml-latest-small | seconds | peak memory of the largest process, MiB |", "|---|---|---|",
    ]  # fmt: skip
    first = now.audit(cases["one seed, one regime"])
    words = "one seed, one regime, first run: nothing compiled yet"
    lines.append(f"| {words} | {first['wall']:.1f} | {first['peak']:.0f} |")
    for name, arguments in cases.items():
        runs = [now.audit(arguments) for _ in range(turns)]
        lines.append(
            f"| {name}, median of {turns} | {middle(runs, 'wall'):.1f} | {max(run['peak'] for run in runs):.0f} |"
        )
    write_section("The audit as a process", f"{COMMAND} --only process", lines)
    print("\n".join(lines))


def main() -> None:
    """Measure and write the sections of `RESULTS.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = ("process", "models", "start-up", "mlp", "scale", "workers", "users")
    parser.add_argument("--only", default=",".join(names), help="sections, joined by commas")
    parser.add_argument("--quick", action="store_true", help="fewer turns and sizes; RESULTS.md stays as it is")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    if not set(wanted) <= set(names):
        parser.error(f"--only takes {', '.join(names)}")
    if {"process", "models", "start-up", "mlp"} & set(wanted) and not os.environ.get("RECMIA_DATA"):
        sys.exit("set RECMIA_DATA to the folder that holds ml-latest-small")
    turns = 1 if arguments.quick else 3
    with tempfile.TemporaryDirectory() as folder:
        now = Code(Path(folder) / "now")
        # First, because it measures what the first run compiles.
        if "process" in wanted:
            process(now, turns)
        if {"models", "start-up", "mlp"} & set(wanted):
            before = Code(Path(folder) / "before", BEFORE)
            if "models" in wanted:
                models(before, now, turns)
            if "start-up" in wanted:
                start_up(before, now, turns)
            if "mlp" in wanted:
                mlp(before, now, 4 if arguments.quick else 40)
        if "scale" in wanted:
            scale(now, arguments.quick)
        if "workers" in wanted:
            workers(now, arguments.quick)
    if "users" in wanted:
        users()


if __name__ == "__main__":
    main()

"""Race the SGD engine, the top-k and a pool of models against their peers, and write the table to RESULTS.md.

Run from the repository's root, on an otherwise idle machine:

    python benchmarks/engine.py [--quick] [--data FOLDER]

FOLDER holds ``ml-latest-small/ratings.csv`` (or set $RECMIA_DATA); without it, synthetic data of that shape stand in.
All of a row's competitors run in this one process, in turns, each pinned to the same number of threads, and the
median of their times counts; every comparison is a ratio within a row. A fit's time is all of it, from the arrays of
ratings to the factors. An update is one sample that moves one user's and one item's vector; an ALS half-step, which
has no such thing, is counted as its number of ratings.

LIBMF has to be built with AVX, which its wheel-less package does not do by itself:

    export CFLAGS="-O3 -march=native -mavx -DUSEAVX -pthread"
    CXXFLAGS="$CFLAGS" pip install --force-reinstall --no-deps --no-binary libmf --no-cache-dir libmf
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.metadata
import importlib.util
import io
import os
import shutil
import statistics
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
import polars as pl
from _results import write_section
from scipy import sparse
from threadpoolctl import threadpool_limits

from recmia.data.interactions import Interactions
from recmia.data.synthetic import SHAPES, synthesize
from recmia.engine.ranking import top_k_by_vectors
from recmia.engine.sgd import Factorization, factorize
from recmia.game.split import Side
from recmia.game.tasks import Task, run_tasks
from recmia.recommenders.spec import RECOMMENDERS
from recmia.settings import RecommenderSettings, SGDSettings

L = 100


# --- The competitors -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Competitor:
    """A way to fit: ``prepare(data, epochs, threads)`` returns the call that is timed."""

    name: str
    package: str | None
    flags: str
    feedback: str
    prepare: Callable[[Interactions, int, int], Callable[[], object]]
    several_threads: bool = True
    updates: int = 1  # per rating and epoch
    most: int = 2**31  # ratings: it would take too long on more


def ours(feedback: str) -> Callable[[Interactions, int, int], Callable[[], object]]:
    def prepare(data: Interactions, epochs: int, threads: int) -> Callable[[], object]:
        how = SGDSettings(feedback=feedback, epochs=epochs)
        return lambda: factorize(data, how, factors=L, rng=np.random.default_rng(0), threads=threads)

    return prepare


def plain(feedback: str) -> Callable[[Interactions, int, int], Callable[[], object]]:
    def prepare(data: Interactions, epochs: int, threads: int) -> Callable[[], object]:
        return lambda: sequential(data, SGDSettings(feedback=feedback, epochs=epochs), 0)

    return prepare


def libmf(data: Interactions, epochs: int, threads: int) -> Callable[[], object]:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from libmf import mf
    table = np.column_stack([data.user, data.item, data.value]).astype(np.float32)
    how = {"k": L, "lambda_p2": 0.01, "lambda_q2": 0.01, "eta": 0.01, "nr_iters": epochs, "nr_threads": threads}
    return lambda: mf.MF(**how, quiet=True).fit(table)


def cornac(data: Interactions, epochs: int, threads: int) -> Callable[[], object]:
    from cornac.data import Dataset
    from cornac.models import MF

    # Its kernel wants int64, and arrays that it may write to.
    uir = (data.user.astype(np.int64), data.item.astype(np.int64), data.value.astype(np.float32))
    table = Dataset(
        data.n_users, data.n_items, {u: u for u in range(data.n_users)}, {i: i for i in range(data.n_items)}, uir
    )
    how = {"k": L, "max_iter": epochs, "learning_rate": 0.01, "lambda_reg": 0.01, "use_bias": False}
    return lambda: MF(**how, num_threads=threads, seed=0).fit(table)


def surprise(data: Interactions, epochs: int, threads: int) -> Callable[[], object]:
    import pandas as pd
    from surprise import SVD, Dataset, Reader

    rows = pd.DataFrame({"user": data.user, "item": data.item, "value": data.value})
    table = Dataset.load_from_df(rows, Reader(rating_scale=(0.5, 5))).build_full_trainset()
    return lambda: SVD(n_factors=L, n_epochs=epochs, lr_all=0.01, reg_all=0.01, biased=False).fit(table)


def implicit_model(kind: str) -> Callable[[Interactions, int, int], Callable[[], object]]:
    def prepare(data: Interactions, epochs: int, threads: int) -> Callable[[], object]:
        from implicit.als import AlternatingLeastSquares
        from implicit.bpr import BayesianPersonalizedRanking

        model = {"bpr": BayesianPersonalizedRanking, "als": AlternatingLeastSquares}[kind]
        table = old_csr(data.csr())
        return lambda: model(factors=L, iterations=epochs, num_threads=threads, random_state=0).fit(
            table, show_progress=False
        )

    return prepare


def libmf_flags() -> str:
    """Tell from the machine code whether LIBMF uses AVX registers."""
    spec = importlib.util.find_spec("libmf")
    if spec is None or spec.origin is None or not shutil.which("objdump"):
        return "unknown"
    library = next(Path(spec.origin).parent.parent.glob("libmf*.so"))
    code = subprocess.run(["objdump", "-d", library], capture_output=True, text=True, check=True).stdout
    return "AVX (ymm registers found)" if "ymm" in code else "NO AVX"


COMPETITORS = (
    Competitor("recmia, explicit", None, "numba", "explicit", ours("explicit")),
    Competitor("LIBMF", "libmf", libmf_flags(), "explicit", libmf),
    Competitor("cornac MF", "cornac", "wheel", "explicit", cornac),
    Competitor("Surprise SVD", "scikit-surprise", "sdist", "explicit", surprise, several_threads=False, most=10**6),
    Competitor(
        "plain SGD, random order", None, "numba", "explicit", plain("explicit"), several_threads=False, most=3 * 10**6
    ),
    Competitor("recmia, implicit", None, "numba", "implicit", ours("implicit"), updates=2),
    Competitor("implicit BPR", "implicit", "wheel", "implicit", implicit_model("bpr"), most=3 * 10**6),
    Competitor("implicit ALS", "implicit", "wheel", "implicit", implicit_model("als"), most=3 * 10**6),
)


# --- Plain sequential SGD, the measure of quality --------------------------------------------------------------------


def sequential(data: Interactions, how: SGDSettings, seed: int) -> Factorization:
    """Plain SGD: samples in uniformly random order, negatives drawn one by one from all unseen known items."""
    rng = np.random.default_rng(seed)
    explicit = how.feedback == "explicit"
    known = data.item_counts() > 0
    P = (how.init_std * rng.standard_normal((data.n_users, L), np.float32)).astype(np.float32)
    Q = (how.init_std * rng.standard_normal((data.n_items, L), np.float32) * known[:, None]).astype(np.float32)
    mean = float(data.value.mean()) if explicit else 0.0
    indptr = np.searchsorted(data.user, np.arange(data.n_users + 1))
    for _ in range(how.epochs):
        sequential_epoch(
            P, Q, np.float32(mean), data.user, data.item, data.value, indptr, np.flatnonzero(known),
            rng.permutation(len(data)), 0 if explicit else how.n_negatives,
            np.float32(how.learning_rate), np.float32(how.regularisation), rng,
        )  # fmt: skip
    none = np.zeros(max(data.n_users, data.n_items), np.float32)
    return Factorization(P, Q, none[: data.n_users], none[: data.n_items], mean, known)


@numba.njit(fastmath={"reassoc", "contract", "nsz"})
def sequential_update(p: Any, q: Any, rating: Any, rate: Any, reg: Any) -> None:
    product = np.float32(0)
    for f in range(len(p)):
        product += p[f] * q[f]
    error = rating - product
    for f in range(len(p)):
        old = p[f]
        p[f] += rate * (error * q[f] - reg * old)
        q[f] += rate * (error * old - reg * q[f])


@numba.njit
def sequential_epoch(
    P: Any, Q: Any, mean: Any, user: Any, item: Any, value: Any, indptr: Any, known: Any, order: Any, n_negatives: int,
    rate: Any, reg: Any, rng: Any,
) -> None:  # fmt: skip
    for n in order:
        u, i = user[n], item[n]
        sequential_update(P[u], Q[i], value[n] - mean if n_negatives == 0 else np.float32(1), rate, reg)
        seen = item[indptr[u] : indptr[u + 1]]
        for _ in range(n_negatives if len(seen) < len(known) else 0):
            while True:
                j = known[int(rng.random() * len(known))]
                place = np.searchsorted(seen, j)
                if place == len(seen) or seen[place] != j:
                    break
            sequential_update(P[u], Q[j], np.float32(0), rate, reg)


def rmse(factors: Factorization, train: Interactions, held_out: Interactions) -> float:
    known = factors.trained_items[held_out.item]
    error = factors.predict(held_out.user[known], held_out.item[known]) - held_out.value[known]
    return float(np.sqrt(np.mean(error**2, dtype=np.float64)))


def recall(factors: Factorization, train: Interactions, held_out: Interactions) -> float:
    """Recall@20: the mean over users of hits / min(20, held-out items)."""
    lists = top_k_by_vectors(
        factors.user, factors.item, factors.item_bias, train.csr(), factors.trained_items, 20, threads=2
    )
    wanted = held_out.csr()
    shares = []
    for u in range(train.n_users):
        own = wanted.indices[wanted.indptr[u] : wanted.indptr[u + 1]]
        if len(own):
            shares.append(np.isin(lists[u], own).sum() / min(20, len(own)))
    return float(np.mean(shares))


# --- Measuring -------------------------------------------------------------------------------------------------------


def memory(line: str) -> float:
    """VmRSS or VmHWM of this process in MiB; NaN where /proc does not tell."""
    with contextlib.suppress(OSError):
        for entry in Path("/proc/self/status").read_text().splitlines():
            if entry.startswith(line):
                return int(entry.split()[1]) / 1024
    return float("nan")


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Run a call; return its seconds, and the MiB by which memory rose above what was there before."""
    gc.collect()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the peak
    before = memory("VmRSS")
    start = time.perf_counter()
    call()
    return time.perf_counter() - start, memory("VmHWM") - before


def in_turns(calls: dict[str, Callable[[], object]], turns: int) -> dict[str, tuple[float, float]]:
    """Run the calls in turns; return each one's median seconds and highest memory."""
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            runs[name].append(timed(call))
    return {
        name: (statistics.median(seconds for seconds, _ in found), max(extra for _, extra in found))
        for name, found in runs.items()
    }


def synthetic(n_users: int, n_items: int, n: int) -> Interactions:
    table = synthesize(n_users, n_items, n, seed=0)
    return Interactions.from_arrays(table["user"].to_numpy(), table["item"].to_numpy(), table["rating"].to_numpy())


def movielens(folder: Path | None) -> tuple[str, Interactions]:
    if folder is None:
        return "synthetic ml-latest-small", synthetic(*SHAPES["ml-latest-small"])
    table = pl.read_csv(folder / "ml-latest-small" / "ratings.csv")
    columns = (table[name].to_numpy() for name in ("userId", "movieId", "rating"))
    return "ml-latest-small", Interactions.from_arrays(*columns)


def old_csr(table: sparse.csr_array) -> sparse.csr_matrix:
    """The kind of matrix that implicit takes."""
    return sparse.csr_matrix((table.data, table.indices.astype(np.int32), table.indptr.astype(np.int32)), table.shape)


def installed(package: str | None) -> str | None:
    """The version of a package, of recmia for None, or None if it is missing."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package or "recmia")
    return None


# --- The tables ------------------------------------------------------------------------------------------------------


def race(name: str, data: Interactions, epochs: int, turns: int, scaling: list[str]) -> Iterator[str]:
    rates: dict[tuple[str, int], float] = {}
    for threads in (1, 2):
        calls, updates = {}, {}
        for one in COMPETITORS:
            if installed(one.package) and (threads == 1 or one.several_threads) and len(data) <= one.most:
                calls[one.name] = one.prepare(data, epochs, threads)
                updates[one.name] = one.updates * epochs * len(data)
                one.prepare(data, 1, threads)()  # compile and warm up
        # The peers that call BLAS ask for it to be kept to one thread.
        with threadpool_limits(1, user_api="blas"):
            found = in_turns(calls, turns)
        for one in COMPETITORS:
            if one.name not in found:
                continue
            seconds, extra = found[one.name]
            rate = rates[one.name, threads] = updates[one.name] / seconds / 1e6
            ratio = rates[f"recmia, {one.feedback}", threads] / rate
            yield (
                f"| {one.name} | {installed(one.package)} | {one.flags} | {name} | {len(data):,} | {L} | {threads} | "
                f"{rate:.1f} | {ratio:.2f} | {extra:.0f} |"
            )
    for feedback in ("explicit", "implicit"):
        key = f"recmia, {feedback}"
        scaling.append(f"| {name} | {feedback} | {rates[key, 2] / rates[key, 1]:.2f} |")


def growth(sizes: list[tuple[str, Interactions]], epochs: int, turns: int) -> Iterator[str]:
    calls = {name: ours("explicit")(data, epochs, 1) for name, data in sizes}
    found = in_turns(calls, turns)
    rates = {name: epochs * len(data) / found[name][0] / 1e6 for name, data in sizes}
    for name, data in sizes:
        yield f"| {name} | {len(data):,} | {rates[name]:.1f} | {rates[name] / rates[sizes[0][0]]:.2f} |"


def lists(data: Interactions, turns: int) -> Iterator[str]:
    """Top-k for all users of a model of this shape."""
    from implicit.als import AlternatingLeastSquares

    factors = factorize(data, SGDSettings(epochs=1), factors=L, rng=np.random.default_rng(0), threads=2)
    histories = data.csr()
    known, table = factors.trained_items, old_csr(histories)
    for threads in (1, 2):
        with threadpool_limits(1, user_api="blas"):
            model = AlternatingLeastSquares(factors=L, num_threads=threads)
            model.user_factors, model.item_factors = factors.user, factors.item
            calls: dict[str, Callable[[], object]] = {
                "recmia top-k": partial(
                    top_k_by_vectors,
                    factors.user,
                    factors.item,
                    factors.item_bias,
                    histories,
                    known,
                    100,
                    threads=threads,
                ),
                "implicit recommend": partial(
                    model.recommend, np.arange(data.n_users), table, N=100, filter_already_liked_items=True
                ),
            }
            found = in_turns(calls, turns)
        for name, (seconds, extra) in found.items():
            ratio = seconds / found["recmia top-k"][0]
            yield (
                f"| {name} | {data.n_users:,} x {data.n_items:,} | {threads} | {data.n_users / seconds:,.0f} | "
                f"{ratio:.2f} | {extra:.0f} |"
            )


def run_pool(tasks: list[Task], workers: int) -> None:
    run_tasks(tasks, store={}, jobs=workers)


def pool(name: str, data: Interactions, n_models: int) -> Iterator[str]:
    rng = np.random.default_rng(0)
    settings = RecommenderSettings(lfm=SGDSettings(epochs=30), factors=L)
    halves = [Side(data, rng.random(data.n_users) < 0.5) for _ in range(n_models)]
    lfm = RECOMMENDERS["lfm"]
    tasks = [Task(lfm, settings, side, "fold-in", 100, True, 0.1, (0, "pool", s)) for s, side in enumerate(halves)]
    for workers in (1, 2):
        seconds, extra = timed(partial(run_pool, tasks, workers))
        yield f"| {name} | {n_models} | {workers} | {seconds:.1f} | {extra:.0f} |"


def quality(name: str, data: Interactions, rmse_seeds: int, recall_seeds: int) -> Iterator[str]:
    for feedback, label, measure, seeds in (
        ("explicit", "RMSE", rmse, rmse_seeds),
        ("implicit", "Recall@20", recall, recall_seeds),
    ):
        how = SGDSettings(feedback=feedback)
        pairs = []
        for seed in range(seeds):
            kept = np.random.default_rng(seed).random(len(data)) < 0.8
            train, held_out = data.take(np.flatnonzero(kept)), data.take(np.flatnonzero(~kept))
            engine = factorize(train, how, factors=L, rng=np.random.default_rng(seed), threads=2)
            pairs.append([measure(f, train, held_out) for f in (engine, sequential(train, how, seed))])
        mine, theirs = np.mean(pairs, axis=0)
        change = 100 * (np.array(pairs)[:, 0] / theirs - np.array(pairs)[:, 1] / theirs)
        spread = 1.96 * change.std(ddof=1) / np.sqrt(seeds)
        yield (
            f"| {name} | {feedback} | {label} | {theirs:.4f} | {mine:.4f} | {change.mean():+.2f} % | "
            f"± {spread:.2f} % | {seeds} |"
        )


def table(title: str, header: str, rows: Iterator[str]) -> str:
    lines = [f"### {title}", "", header, "|" + " --- |" * (header.count("|") - 1)]
    print("\n".join(lines), flush=True)
    for row in rows:
        print(row, flush=True)
        lines.append(row)
    print(flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Race the engine against its peers; writes benchmarks/RESULTS.md.")
    parser.add_argument("--quick", action="store_true", help="small sizes only, a minute or two; writes no file")
    parser.add_argument("--data", type=Path, default=os.environ.get("RECMIA_DATA"), help="folder of MovieLens data")
    arguments = parser.parse_args()
    quick, turns = arguments.quick, 3
    scaling: list[str] = []
    warnings.simplefilter("ignore")

    name, small = movielens(arguments.data and Path(arguments.data))
    shapes = {"synthetic 2M": (20_000, 10_000, 2_000_000), "synthetic 10M": SHAPES["ml-10m"]}
    parts = [
        f"numpy {np.__version__}, numba {numba.__version__}. Medians of {turns} turns, whole fits; 'ratio' is recmia's "
        "speed over the row's.",
    ]
    header = "| who | version | build | data | ratings | l | threads | million updates/s | ratio | peak MiB |"
    parts.append(table(f"SGD on {name}, 20 epochs", header, race(name, small, 20, turns + 2, scaling)))
    if not quick:
        for label, shape in shapes.items():
            parts.append(table(f"SGD on {label}, 5 epochs", header, race(label, synthetic(*shape), 5, turns, scaling)))
    parts.append(table("Two threads over one", "| data | feedback | speed-up |", iter(scaling)))
    sizes = [("synthetic ml-1m", synthetic(*SHAPES["ml-1m"]))]
    largest = synthetic(*SHAPES["ml-100k" if quick else "ml-25m"])
    if not quick:
        sizes.append(("synthetic ml-25m", largest))
    header = "| data | ratings | million updates/s | of the smallest |"
    parts.append(table("From 1 to 25 million ratings, one thread", header, growth(sizes, 5, turns)))
    if installed("implicit"):
        header = "| who | users x items | threads | lists/s | ratio | peak MiB above the factors |"
        parts.append(
            table("Lists for all users, k = 100, seen items left out", header, lists(largest, turns if quick else 1))
        )
    header = "| data | models | threads | seconds | peak MiB |"
    title = "Implicit LFMs of half the users, 30 epochs, each with every user's list by fold-in"
    parts.append(table(title, header, pool(name, small, 8 if quick else 136)))
    header = "| data | feedback | measure | plain SGD | engine | change | 95 % | seeds |"
    # Recall on few users is noisy: it takes many pairs of fits to see half a per cent.
    rows = list(quality(name, small, *((4, 4) if quick else (40, 400))))
    if not quick:
        rows += quality(*sizes[0], 10, 10)
    parts.append(table("Quality against plain sequential SGD, 20 epochs", header, iter(rows)))
    write_section("The engine", "python benchmarks/engine.py", "\n\n".join(parts).splitlines())


if __name__ == "__main__":
    main()

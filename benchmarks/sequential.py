"""SASRec and GRU4Rec on ml-latest-small in time order, beside RecTools' and RecBole's with the same settings.

Needs `RECMIA_DATA`, a folder that holds ml-latest-small, the extra neural, and an environment of their own for the
peers, which need an older NumPy and more than they use::

    python3.11 -m venv peers
    peers/bin/pip install "rectools[torch]==0.19.0" "numpy<2"
    peers/bin/pip install --no-deps recbole==1.2.1
    peers/bin/pip install colorama colorlog pyyaml scikit-learn tabulate tensorboard texttable thop
    OMP_NUM_THREADS=1 python benchmarks/sequential.py peers/bin/python

The last five events of each user are held out, and each is predicted from all events before it, by the model that was
trained without the five.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import write_section
from scipy import sparse

from recmia import Interactions
from recmia.data.datasets import load
from recmia.data.interactions import Int32
from recmia.recommenders import GRU4Rec, Popularity, Recommender, SASRec
from recmia.settings import GRU4RecSettings, SASRecSettings

SEEDS = (0, 1, 2)
HELD_OUT, K = 5, 10
# The peers compare with all items, and so do ours beside them. RecTools takes whole windows a step, RecBole events.
SASREC = SASRecSettings(
    layers=1, heads=1, window=50, dropout=0.2, learning_rate=0.002, epochs=4, batch_size=400, n_negatives=10**6
)
GRU4REC = GRU4RecSettings(
    layers=1, window=20, dropout=0.2, learning_rate=0.003, epochs=4, batch_size=512, n_negatives=10**6
)
PEER_FACTORS = 64

# From a seed to the CPU seconds of the training and the lists.
Run = Callable[[int], tuple[float, Int32]]


def split(data: Interactions) -> tuple[Interactions, sparse.csr_array, Int32]:
    """Return what is trained on, histories to predict from, and the item that follows each."""
    sequences = data.sequences()
    user = np.repeat(np.arange(data.n_users), np.diff(sequences.indptr))
    place = np.arange(len(user)) - sequences.indptr[:-1][user]
    left = np.diff(sequences.indptr)[user] - place
    queries = [
        sequences.indices[start : end - back]
        for start, end in zip(sequences.indptr, sequences.indptr[1:], strict=False)
        for back in range(HELD_OUT, 0, -1)
    ]
    ends = np.append(0, np.cumsum([len(query) for query in queries]))
    items = np.concatenate(queries)
    histories = sparse.csr_array((np.ones(len(items), np.float32), items, ends), (len(queries), data.n_items))
    kept = data.take(np.sort(data.known_events()[left > HELD_OUT]))
    return kept, histories, sequences.indices[left <= HELD_OUT]


def quality(lists: Int32, wanted: Int32) -> tuple[float, float]:
    """Return NDCG@10 and Recall@10 of one wanted item a list."""
    hits = lists == wanted[:, None]
    return float((hits / np.log2(np.arange(K) + 2)).sum(axis=1).mean()), float(hits.any(axis=1).mean())


def ours(make: Callable[[], Recommender], train: Interactions, queries: sparse.csr_array) -> Run:
    """A recommender of recmia."""

    def run(seed: int) -> tuple[float, Int32]:
        model = make()
        started = time.process_time()
        model.fit(train, rng=np.random.default_rng(seed))
        return time.process_time() - started, model.recommend(queries, K)

    return run


def peer(python: str, name: str, settings: Any, train: Interactions, queries: sparse.csr_array) -> Run:
    """A recommender of `sequential_peers`, in its own process and environment."""
    sequences = train.sequences()

    def run(seed: int) -> tuple[float, Int32]:
        with tempfile.TemporaryDirectory() as name_of_folder:
            folder = Path(name_of_folder)
            np.savez(
                folder / "task.npz", train_items=sequences.indices, train_ends=sequences.indptr[1:],
                queries_items=queries.indices, queries_ends=queries.indptr[1:],
            )  # fmt: skip
            given = settings.model_dump() | {"factors": PEER_FACTORS, "seed": seed}
            (folder / "settings.json").write_text(json.dumps(given))
            program = Path(__file__).with_name("sequential_peers.py").resolve()
            subprocess.run([python, str(program), name, str(folder)], check=True, cwd=folder, capture_output=True)
            answer = np.load(folder / "answer.npz")
            return float(answer["seconds"]), answer["lists"]

    return run


def main() -> None:
    """Measure and write the section of `RESULTS.md`."""
    if not os.environ.get("RECMIA_DATA") or os.environ.get("OMP_NUM_THREADS") != "1" or len(sys.argv) != 2:
        sys.exit("set RECMIA_DATA, OMP_NUM_THREADS=1, and name the python of the environment of the peers")
    torch.set_num_threads(1)
    python = str(Path(sys.argv[1]).absolute())
    train, queries, wanted = split(load("ml-latest-small").interactions)
    f = PEER_FACTORS
    groups: dict[str, dict[str, Run]] = {
        "most popular": {"recmia": ours(Popularity, train, queries)},
        f"SASRec, {SASREC.layers} layer, {f} factors, all negatives, {SASREC.epochs} epochs": {
            "recmia": ours(lambda: SASRec(SASREC, factors=f, device="cpu"), train, queries),
            "RecTools": peer(python, "rectools", SASREC, train, queries),
        },
        "SASRec by its defaults": {"recmia": ours(lambda: SASRec(device="cpu"), train, queries)},
        f"GRU4Rec, {GRU4REC.layers} layer, {f} factors, all negatives, {GRU4REC.epochs} epochs": {
            "recmia": ours(lambda: GRU4Rec(GRU4REC, factors=f, device="cpu"), train, queries),
            "RecBole": peer(python, "recbole", GRU4REC, train, queries),
        },
        "GRU4Rec by its defaults": {"recmia": ours(lambda: GRU4Rec(device="cpu"), train, queries)},
    }
    lines = [
        f"ml-latest-small in time order: the last {HELD_OUT} events of each of {train.n_users} users are held out, and "
        f"each is predicted from all before it. Means of {len(SEEDS)} fits with different seeds; seconds are medians "
        "of processor time, in one thread, measured in turn in the same run. 'Ours / peer': of NDCG@10, 1 or more is "
        "as good; of seconds, 1 or less is as fast. RecTools keeps only the last window of a user, so it is given our "
        "windows as users.",
        "",
        "| algorithm | whose | NDCG@10 | Recall@10 | fit, s | ours / peer, NDCG | ours / peer, fit |",
        "|---|---|---|---|---|---|---|",
    ]
    for algorithm, runs in groups.items():
        found: dict[str, list[tuple[float, float, float]]] = {whose: [] for whose in runs}
        for seed in SEEDS:
            for whose, run in runs.items():
                seconds, lists = run(seed)
                found[whose].append((*quality(lists, wanted), seconds))
                print(algorithm, whose, seed, found[whose][-1], flush=True)
        rows = {
            whose: (statistics.fmean(one[0] for one in all_of), statistics.fmean(one[1] for one in all_of),
                    statistics.median(one[2] for one in all_of))
            for whose, all_of in found.items()
        }  # fmt: skip
        our = rows["recmia"]
        for whose, row in rows.items():
            ratios = ("", "") if whose == "recmia" else (f"{our[0] / row[0]:.3f}", f"{our[2] / row[2]:.2f}")
            lines.append(
                f"| {algorithm} | {whose} | {row[0]:.4f} | {row[1]:.4f} | {row[2]:.1f} | {' | '.join(ratios)} |"
            )
    write_section("SASRec and GRU4Rec", "OMP_NUM_THREADS=1 python benchmarks/sequential.py peers/bin/python", lines)


if __name__ == "__main__":
    main()

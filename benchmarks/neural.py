"""Quality and training time of NCF and LightGCN, beside cornac's with the same hyperparameters.

Needs `RECMIA_DATA`, a folder that holds ml-latest-small, and the extras neural and bench. cornac's LightGCN needs dgl,
which is in no extra (`pip install --no-deps dgl==1.1.3`); without it, that row is left out.
"""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch
from _results import write_section
from cornac.data import Dataset
from cornac.models import LightGCN as CornacLightGCN
from cornac.models import NeuMF

from recmia import Interactions
from recmia.data.datasets import load
from recmia.data.interactions import Int32
from recmia.engine.ranking import top_k
from recmia.recommenders import Recommender
from recmia.recommenders.graph import LightGCN
from recmia.recommenders.neural import NCF
from recmia.settings import LightGCNSettings, NCFSettings

# The defaults were chosen on the splits of seeds 1 and 2; LightGCN's init_std also with a look at that of 3.
SEEDS = (3, 4, 5)
HELD_OUT = 0.2
PEER_NCF = NCFSettings(factors=16, learning_rate=0.001, regularisation=0, epochs=20, batch_size=256)
PEER_GCN = LightGCNSettings(layers=3, learning_rate=0.01, regularisation=1e-4, epochs=20)
L = 100

Lists = dict[str, Int32]


def part(data: Interactions, seed: int) -> tuple[Interactions, Interactions]:
    """Hold out a share of each user's interactions at random."""
    order = np.lexsort((np.random.default_rng(seed).random(len(data)), data.user))
    counts = np.bincount(data.user)
    rank = np.empty(len(data), np.int64)
    rank[order] = np.arange(len(data)) - np.repeat(np.cumsum(counts) - counts, counts)
    test = rank < np.round(HELD_OUT * counts)[data.user]
    return data.take(np.flatnonzero(~test)), data.take(np.flatnonzero(test))


def quality(lists: Int32, test: Interactions) -> tuple[float, float]:
    """Return NDCG@10 and Recall@20."""
    liked = test.csr().toarray() > 0
    hits = np.take_along_axis(liked, lists, axis=1)
    discounts = 1 / np.log2(np.arange(10) + 2)
    ideal = np.cumsum(discounts)[np.minimum(liked.sum(axis=1), 10) - 1]
    return float((hits[:, :10] @ discounts / ideal).mean()), float((hits.sum(axis=1) / liked.sum(axis=1)).mean())


def ours(model: Recommender) -> Callable[[Interactions, int], tuple[float, Lists]]:
    """Train a recommender of recmia: seconds, and its lists by trained users and by fold-in."""

    def run(train: Interactions, seed: int) -> tuple[float, Lists]:
        started = time.perf_counter()
        model.fit(train, rng=np.random.default_rng(seed))
        seconds = time.perf_counter() - started
        rows = train.csr()
        return seconds, {"trained": model.recommend_members(rows, 20), "fold-in": model.recommend(rows, 20)}

    return run


def cornacs(make: Callable[[int], NeuMF | CornacLightGCN]) -> Callable[[Interactions, int], tuple[float, Lists]]:
    """Train a recommender of cornac, which serves trained users alone."""

    def run(train: Interactions, seed: int) -> tuple[float, Lists]:
        data = Dataset.build(list(zip(train.user.tolist(), train.item.tolist(), train.value.tolist(), strict=True)))
        model = make(seed)
        started = time.perf_counter()
        model.fit(data)
        seconds = time.perf_counter() - started
        scores, items = np.zeros((train.n_users, train.n_items), np.float32), list(data.iid_map)
        for user in range(train.n_users):
            scores[user, items] = model.score(data.uid_map[user])
        return seconds, {"trained": top_k(scores, train.csr(), train.item_counts() > 0, 20)}

    return run


def main() -> None:
    """Measure and write the section of `RESULTS.md`."""
    if not os.environ.get("RECMIA_DATA"):
        sys.exit("set RECMIA_DATA to the folder that holds ml-latest-small")
    torch.set_num_threads(1)
    data = load("ml-latest-small").interactions
    f, gcn = PEER_NCF.factors, PEER_GCN
    cases = {
        "NCF, defaults": ours(NCF(device="cpu")),
        "NCF, settings of the next row": ours(NCF(PEER_NCF, device="cpu")),
        "cornac NeuMF (PyTorch)": cornacs(
            lambda seed: NeuMF(
                num_factors=f, layers=(4 * f, 2 * f, f), num_epochs=PEER_NCF.epochs, batch_size=PEER_NCF.batch_size,
                num_neg=PEER_NCF.n_negatives, lr=PEER_NCF.learning_rate, backend="pytorch", seed=seed, verbose=False,
            )
        ),
        "LightGCN, defaults": ours(LightGCN(factors=L, device="cpu")),
        "LightGCN, settings of the next row": ours(LightGCN(PEER_GCN, factors=L, device="cpu")),
    }  # fmt: skip
    if find_spec("dgl") is not None:
        cases["cornac LightGCN (dgl)"] = cornacs(
            lambda seed: CornacLightGCN(
                emb_size=L, num_epochs=gcn.epochs, learning_rate=gcn.learning_rate, batch_size=gcn.batch_size,
                num_layers=gcn.layers, lambda_reg=gcn.regularisation, seed=seed,
            )
        )  # fmt: skip
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    found: defaultdict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for seed in SEEDS:
        train, test = part(data, seed)
        for name, run in cases.items():
            spent, lists = run(train, seed)
            seconds[name].append(spent)
            for served, made in lists.items():
                found[name, served].append(quality(made, test))
                print(seed, name, served, found[name, served][-1], f"{spent:.1f} s", flush=True)
    lines = [
        f"ml-latest-small, {HELD_OUT:.0%} of each user's interactions held out at random, one thread, mean of "
        f"{len(SEEDS)} seeds.",
        "",
        "| | users are served by | NDCG@10 | Recall@20 | seconds to train |",
        "|---|---|---|---|---|",
    ]
    for (name, served), measured in found.items():
        ndcg, recall = np.mean(measured, axis=0)
        lines.append(f"| {name} | {served} | {ndcg:.3f} | {recall:.3f} | {np.mean(seconds[name]):.1f} |")
    write_section("NCF and LightGCN", "python benchmarks/neural.py", lines)


if __name__ == "__main__":
    main()

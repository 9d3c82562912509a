"""Our recommenders beside other people's of the same algorithm: how good, and how fast to fit.

Run by `make bench`. Needs `RECMIA_DATA`, a folder that holds ml-latest-small. One split: of each user's interactions a
random fifth is held out (seed 0), ratings are left aside, and lists leave out what the user has seen in training.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import cornac.models as cornac
import numpy as np
from _results import write_section
from implicit.als import AlternatingLeastSquares
from implicit.bpr import BayesianPersonalizedRanking
from implicit.nearest_neighbours import CosineRecommender
from lenskit.als import ImplicitMFScorer
from lenskit.knn import EASEScorer, ItemKNNScorer, UserKNNScorer
from scipy import sparse

from recmia import Interactions
from recmia.data.datasets import load
from recmia.metrics.utility import ndcg, recall
from recmia.observation import held_out_hits
from recmia.recommenders import RECOMMENDERS, Recommender
from recmia.recommenders.adapters import FromCornac, FromImplicit, FromLensKit
from recmia.settings import RecommenderSettings

# The seeds of the fits, one a turn: quality is their mean, seconds are their median.
TURNS = 3
FACTORS = 100
COMMAND = "OMP_NUM_THREADS=1 LK_NUM_THREADS=1 python benchmarks/quality.py"

Make = Callable[[], Recommender]


def ours(name: str, **settings: Any) -> Make:
    """Our recommender with these settings in its own table."""
    return lambda: RECOMMENDERS[name].make(RecommenderSettings.model_validate({"factors": FACTORS, name: settings}), 1)


# The first of each group is ours, the others are its peers with the same settings where they have them.
GROUPS: Mapping[str, Mapping[str, Make]] = {
    "most popular": {
        "recmia": lambda: RECOMMENDERS["popularity"].make(RecommenderSettings(), 1),
        "cornac MostPop": lambda: FromCornac(cornac.MostPop()),
    },
    "ItemKNN, 50 neighbours": {
        "recmia": ours("itemknn", neighbours=50, shrinkage=0),
        "implicit": lambda: FromImplicit(CosineRecommender(K=51)),
        "lenskit": lambda: FromLensKit(ItemKNNScorer(feedback="implicit", save_nbrs=50, max_nbrs=10_000)),
        "cornac (predicts ratings)": lambda: FromCornac(cornac.ItemKNN(k=50)),
    },
    "UserKNN, 50 neighbours": {
        "recmia": ours("userknn", neighbours=50, shrinkage=0),
        "lenskit": lambda: FromLensKit(UserKNNScorer(feedback="implicit", max_nbrs=50)),
        "cornac (predicts ratings)": lambda: FromCornac(cornac.UserKNN(k=50)),
    },
    "EASE, lambda 100": {
        "recmia": ours("ease", regularisation=100),
        "cornac": lambda: FromCornac(cornac.EASE(lamb=100, posB=False)),
        "lenskit": lambda: FromLensKit(EASEScorer(regularization=100)),
    },
    f"ALS, {FACTORS} factors, alpha 1, lambda 10, 15 iterations": {
        "recmia": ours("als", alpha=1, regularisation=10, iterations=15),
        # Its alpha is the whole weight of a seen item, ours is what is added to 1.
        "implicit": lambda: FromImplicit(AlternatingLeastSquares(FACTORS, regularization=10, alpha=2, iterations=15)),
        "lenskit": lambda: FromLensKit(
            ImplicitMFScorer(features=FACTORS, regularization=10, weight=1, epochs=15, user_embeddings="prefer")
        ),
    },
    f"BPR, {FACTORS} factors, learning rate and lambda 0.01, 100 epochs": {
        "recmia": ours("bpr", learning_rate=0.01, regularisation=0.01, epochs=100),
        "implicit": lambda: FromImplicit(BayesianPersonalizedRanking(FACTORS)),
        "cornac": lambda: FromCornac(cornac.BPR(k=FACTORS, max_iter=100, learning_rate=0.01, lambda_reg=0.01)),
    },
    # cornac's regularisation is of other parameters than ours, so neither has any.
    "NeuMF, 16 factors, no regularisation, 12 epochs": {
        "recmia": ours("ncf", regularisation=0),
        "cornac": lambda: FromCornac(
            cornac.NeuMF(
                num_factors=16, layers=(64, 32, 16), num_epochs=12, batch_size=1024, lr=0.003, backend="pytorch"
            )
        ),
    },
    "the same by its defaults": {"recmia": ours("ncf")},
    # cornac's needs dgl, which is not among the peers.
    f"LightGCN by its defaults, {FACTORS} factors": {"recmia": ours("lightgcn")},
}


@dataclass
class Row:
    """What was measured of one recommender, a value a turn."""

    fit: list[float] = field(default_factory=list)
    lists: list[float] = field(default_factory=list)
    quality: dict[str, list[float]] = field(default_factory=dict)

    def mean(self, name: str) -> float | None:
        """The mean over the turns, None if it could not be measured."""
        return statistics.fmean(self.quality[name]) if name in self.quality else None


@contextmanager
def timed(model: Any) -> Iterator[list[float]]:
    """Time the peer's own `fit` or `train` alone: making the data ready for it is our adapter's work."""
    kind, name = type(model), "train" if hasattr(model, "train") else "fit"
    original, spent = getattr(kind, name), []

    def watched(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        result = original(*arguments, **options)
        spent.append(time.perf_counter() - started)
        return result

    setattr(kind, name, watched)
    try:
        yield spent
    finally:
        setattr(kind, name, original)


def measure(make: Make, train: Interactions, held_out: sparse.csr_array, seed: int, row: Row) -> None:
    """Fit once and add what is found to the row."""
    model, rng = make(), np.random.default_rng(seed)
    peer = getattr(model, "model", None)
    if peer is None:
        started = time.perf_counter()
        model.fit(train, rng=rng)
        row.fit.append(time.perf_counter() - started)
    else:
        with timed(peer) as spent:
            model.fit(train, rng=rng)
        row.fit += spent
    histories = train.csr()
    started = time.perf_counter()
    served = {"members": model.recommend_members(histories, 20)}
    row.lists.append(time.perf_counter() - started)
    if model.folds_in:
        served["fold-in"] = model.recommend(histories, 20)
    for how, lists in served.items():
        row.quality.setdefault(f"NDCG@10, {how}", []).append(float(ndcg(*held_out_hits(lists, held_out, 10)).mean()))
        row.quality.setdefault(f"Recall@20, {how}", []).append(
            float(recall(*held_out_hits(lists, held_out, 20)).mean())
        )


def split(interactions: Interactions) -> tuple[Interactions, sparse.csr_array]:
    """Part each user's interactions, all of value 1, into four fifths to train on and one that is held out."""
    n = len(interactions)
    counts = np.bincount(interactions.user)
    order = np.lexsort((np.random.default_rng(0).random(n), interactions.user))
    place = np.empty(n, np.int64)
    place[order] = np.arange(n) - (np.cumsum(counts) - counts)[interactions.user]
    held = place < np.round(counts / 5)[interactions.user]
    users, items = interactions.users, interactions.items
    ones = Interactions(interactions.user, interactions.item, np.ones(n, np.float32), None, users, items, rated=False)
    return ones.take(np.flatnonzero(~held)), ones.take(np.flatnonzero(held)).csr()


def main() -> None:
    """Measure and write the section of `RESULTS.md`."""
    if not os.environ.get("RECMIA_DATA") or os.environ.get("OMP_NUM_THREADS") != "1":
        sys.exit("set RECMIA_DATA to the folder that holds ml-latest-small, and OMP_NUM_THREADS=1 LK_NUM_THREADS=1")
    train, held_out = split(load("ml-latest-small").interactions)
    figures = [f"{name}, {how}" for how in ("members", "fold-in") for name in ("NDCG@10", "Recall@20")]
    lines = [
        f"ml-latest-small, {train.n_users} users, {len(train)} interactions to train on, {held_out.nnz} held out. "
        f"Means of {TURNS} fits with different seeds; seconds are medians, on one core, measured alternately in "
        "the same run, after a first fit of ours that compiles. 'Ours / peer' is of NDCG@10 for members (1 or more: as "
        "good) and of the seconds of the fit (1 or less: as fast). Members are served by what was trained for them.",
        "",
        f"| algorithm | whose | {' | '.join(figures)} | fit, s | lists, s | ours / peer, NDCG | ours / peer, fit |",
        "|---" * (len(figures) + 6) + "|",
    ]
    for algorithm, makes in GROUPS.items():
        rows = {whose: Row() for whose in makes}
        measure(makes["recmia"], train, held_out, 0, Row())
        for turn in range(TURNS):
            for whose, make in makes.items():
                measure(make, train, held_out, turn, rows[whose])
        our = rows["recmia"]
        for whose, row in rows.items():
            cells = [
                algorithm,
                whose,
                *("–" if row.mean(name) is None else f"{row.mean(name):.4f}" for name in figures),
            ]
            seconds, our_seconds = statistics.median(row.fit), statistics.median(our.fit)
            cells += [f"{seconds:.3f}", f"{statistics.median(row.lists):.2f}"]
            quality, our_quality = row.mean(figures[0]), our.mean(figures[0])
            assert quality
            assert our_quality
            cells += ["", ""] if row is our else [f"{our_quality / quality:.3f}", f"{our_seconds / seconds:.2f}"]
            lines.append(f"| {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    write_section("Recommenders beside other people's", COMMAND, lines)


if __name__ == "__main__":
    main()

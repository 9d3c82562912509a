"""How large an epsilon the bound of Steinke et al. shows on the LFM, beside the bound of recmia 0.1.

The earlier bound takes one threshold, chosen on shadow users, and Clopper and Pearson's bounds on both rates. It takes
users' outcomes as independent, which those of one training are not. Both are at 95% for one attack, `list-lr` in
fold-in, and one target.

    python benchmarks/epsilon_power.py

Needs RECMIA_DATA, a folder that holds ml-latest-small.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

import recmia
from recmia.metrics import Runs, SeedRuns
from recmia.metrics.catalogue import bound_of
from recmia.metrics.intervals import clopper_pearson
from recmia.metrics.roc import roc

SEEDS = 5
Bool = npt.NDArray[np.bool_]
# Membership and scores.
Labelled = tuple[Bool, npt.NDArray[np.float64]]


def earlier(member: Bool, called: Bool) -> float:
    """Return the bound of recmia 0.1 from those who are called members."""
    low = clopper_pearson(int((called & member).sum()), int(member.sum()))[0]
    high = clopper_pearson(int((called & ~member).sum()), int((~member).sum()))[1]
    return max(0.0, float(np.log(max(low, 1e-300) / high)), float(np.log((1 - high) / (1 - low))))


def earlier_bound(shadow: Labelled, target: Labelled) -> float:
    """Return the bound of recmia 0.1 at the threshold that promises the largest on shadow users."""
    member, score = shadow
    curve = roc(member, score)
    steps = range(1, len(curve.threshold) - 1)
    best = max(steps, key=lambda step: earlier(member, score >= curve.threshold[step]))
    threshold = (curve.threshold[best] + curve.threshold[best + 1]) / 2
    return earlier(target[0], target[1] >= threshold)


def main() -> None:
    """Print a table with a row for each seed."""
    result = recmia.audit("ml-latest-small", attacks=["list-lr"], regimes=["fold-in"], seeds=SEEDS, progress=None)
    rows = result.scores.filter(attack="list-lr")
    print("| seed | Steinke, Nasr and Jagielski (2023) | recmia 0.1 |\n| --- | --- | --- |")
    for seed in range(SEEDS):
        sides = []
        for side in ("shadow", "target"):
            part = rows.filter(seed=seed, side=side)
            sides.append((part["member"].to_numpy(), part["score"].to_numpy()))
        shadow, target = sides
        bound = bound_of(Runs([SeedRuns(shadow, [target])]))
        print(f"| {seed} | {bound.value:.2f} | {earlier_bound(shadow, target):.2f} |")


if __name__ == "__main__":
    main()

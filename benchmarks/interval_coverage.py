"""Real coverage and mean width of every interval that recmia prints, and how often its bounds and gates are wrong.

    python benchmarks/interval_coverage.py [--quick]

takes ten minutes on one core, and writes its section of RESULTS.md and the tables of docs/statistics.md. With
``--quick`` it takes half a minute: fewer cells and repetitions, as in the test suite; tables are printed, no file is
written. The exit code is 1 if an interval covers less than it must. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _results import write_section
from scipy import special, stats

from recmia.metrics import epsilon as eps
from recmia.metrics import intervals as iv
from recmia.metrics.clusters import Clustered
from recmia.metrics.roc import auc as roc_auc
from recmia.metrics.roc import balanced_accuracy, tpr_at_fpr

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]

# At least so much of a nominal 0.95 must be covered in every cell, and at most so many bounds may lie above the truth.
LEAST = 0.93
MOST_WRONG = 0.05
AREAS = (0.5, 0.6, 0.9, 0.97, 0.99, 1.0)
# How many figures are tested together in tables of families and of decisions.
FIGURES_TOGETHER = 32
TINY = 1e-9


@dataclass(frozen=True)
class Cell:
    """A share that was measured, and what it must be at least."""

    name: str
    share: float
    repetitions: int
    least: float = LEAST

    @property
    def fails(self) -> bool:
        """Whether the share is too low; with fewer than 3,000 repetitions, by more than chance (1 in 1,000) allows."""
        slack = 3.1 * math.sqrt(self.least * (1 - self.least) / self.repetitions) if self.repetitions < 3000 else 0.0
        return self.share < self.least - slack


@dataclass
class Part:
    """Cells that were measured, and their tables in Markdown."""

    cells: list[Cell] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table."""
        body = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
        self.lines += [f"### {title}", "", *body, ""]

    @property
    def failures(self) -> list[Cell]:
        """The cells that are too low."""
        return [cell for cell in self.cells if cell.fails]


@dataclass(frozen=True)
class Scale:
    """How much is simulated: repetitions, and class sizes."""

    repetitions: int
    sizes: tuple[int, ...]
    families: tuple[str, ...]

    def repeated(self, n: int) -> int:
        """Return the repetitions at n users a class."""
        return self.repetitions if n <= 305 else max(300, self.repetitions // 4)


FULL = Scale(4000, (10, 20, 75, 150, 305, 3000), ("normal", "mixture", "heavy", "all-or-nothing", "ordinal", "yes-no"))
QUICK = Scale(500, (10, 75, 150), ("normal", "mixture", "ordinal"))


# --- Scores whose truth is known ---


@lru_cache
def shift_for(family: str, area: float) -> float:
    """Return what members' scores are moved by for an AUC; so far that classes part for an AUC of 1."""
    if area == 1.0:
        return 1e6
    if family == "heavy":
        # Student's t with two degrees of freedom, by the quantiles of one class.
        grid = (np.arange(20000) + 0.5) / 20000
        quantiles = (2 * grid - 1) / np.sqrt(2 * grid * (1 - grid))
        low, high = 0.0, 1e4
        for _ in range(60):
            middle = (low + high) / 2
            found = np.mean(0.5 + (quantiles + middle) / (2 * np.sqrt(2 + (quantiles + middle) ** 2)))
            low, high = (middle, high) if found < area else (low, middle)
        return low
    return float(special.ndtri(area) * math.sqrt(2))


EDGES = np.arange(-1.5, 3.0)


def draw(family: str, area: float, shape: tuple[int, int], rng: np.random.Generator) -> tuple[Float64, Float64]:
    """Return scores of members and non-members, each of the given shape.

    mixture: a part of the members far above everybody, the rest like non-members; all-or-nothing: the rest far below.
    """
    if family == "mixture":
        return rng.normal(size=shape) + 1e3 * (rng.random(shape) < 2 * area - 1), rng.normal(size=shape)
    if family == "all-or-nothing":
        return rng.normal(size=shape) + np.where(rng.random(shape) < area, 1e3, -1e3), rng.normal(size=shape)
    if family == "yes-no":
        return (rng.random(shape) < area).astype(np.float64), (rng.random(shape) < 1 - area).astype(np.float64)
    shift = shift_for(family, area)
    if family == "heavy":
        return rng.standard_t(2, size=shape) + shift, rng.standard_t(2, size=shape)
    x, y = rng.normal(size=shape) + shift, rng.normal(size=shape)
    if family == "ordinal":
        # Members of an AUC of 1 keep a level of their own.
        level = np.append(EDGES, 1e5)
        return np.searchsorted(level, x).astype(np.float64), np.searchsorted(level, y).astype(np.float64)
    return x, y


def _levels(area: float) -> tuple[Float64, Float64]:
    """Return the chances of each ordinal score, of members and of non-members."""
    level = np.concatenate([[-np.inf], EDGES, [1e5, np.inf]])
    shift = shift_for("ordinal", area)
    return np.diff(special.ndtr(level - shift)), np.diff(special.ndtr(level))


def true_area(family: str, area: float) -> float:
    """Return the AUC of a family: as asked, but where scores are cut into levels."""
    if family != "ordinal":
        return area
    x, y = _levels(area)
    return float(x @ (np.cumsum(y) - y / 2))


def true_tpr(family: str, area: float, fpr: float) -> tuple[float, float]:
    """Return the largest TPR of a threshold at an FPR, and of a rule that may toss a coin between two."""
    if family == "mixture":
        one = 2 * area - 1 + (2 - 2 * area) * fpr
        return one, one
    if family == "all-or-nothing":
        return area, area
    if family in ("ordinal", "yes-no"):
        x, y = _levels(area) if family == "ordinal" else (np.array([1 - area, area]), np.array([area, 1 - area]))
        rates = np.concatenate([[0.0], np.cumsum(y[::-1])])
        found = np.concatenate([[0.0], np.cumsum(x[::-1])])
        steps = float(found[np.flatnonzero(rates <= fpr + 1e-12)[-1]])
    else:
        shift = shift_for(family, area)
        rates = np.concatenate([[0.0], np.geomspace(1e-9, 1, 20000)])
        if family == "heavy":
            found = stats.t.sf(stats.t.isf(rates, 2) - shift, 2)
            steps = float(stats.t.sf(stats.t.isf(fpr, 2) - shift, 2))
        else:
            found = special.ndtr(special.ndtri(rates) + shift)
            steps = float(special.ndtr(special.ndtri(fpr) + shift))
    # The hull at `fpr`: the best chord between a rate below it and one above it.
    below, above = rates <= fpr, rates > fpr
    slopes = (found[above][None, :] - found[below][-1:, None]) / (rates[above][None, :] - rates[below][-1:, None])
    from_zero = (fpr * found[above] / rates[above]).max(initial=0.0)
    chord = found[below][-1] + slopes.max(initial=0.0) * (fpr - rates[below][-1])
    return steps, float(max(steps, from_zero, chord if family != "heavy" else 0.0))


# --- Other intervals, to compare with ---


def delong(area: Float64, variance: Float64, confidence: float = 0.95) -> tuple[Float64, Float64]:
    """Return the interval of DeLong et al. (1988)."""
    half = special.ndtri((1 + confidence) / 2) * np.sqrt(variance)
    return np.maximum(0, area - half), np.minimum(1, area + half)


def plain_newcombe(area: Float64, n1: int, n0: int, confidence: float = 0.95) -> tuple[Float64, Float64]:
    """Return Newcombe's interval by his method 5 as published."""
    z = special.ndtri((1 + confidence) / 2)
    ends = []
    for outer in (0.0, 1.0):
        inner, far = area + (outer - area) * 1e-9, np.full_like(area, outer)
        for _ in range(50):
            theta = (inner + far) / 2
            spread = 1 + ((n1 + n0) / 2 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
            covered = abs(theta - area) <= z * np.sqrt(theta * (1 - theta) * spread / (n1 * n0))
            inner, far = np.where(covered, theta, inner), np.where(covered, far, theta)
        ends.append(inner)
    return ends[0], ends[1]


def plain_clopper_pearson(found: npt.ArrayLike, n: int, confidence: float = 0.95) -> tuple[Float64, Float64]:
    """Return the interval of a TPR that takes the threshold as given."""
    tail = (1 - confidence) / 2
    return iv.rate_at_least(found, n, tail), 1 - iv.rate_at_least(n - np.asarray(found), n, tail)


def bootstrap(
    x: Float64, y: Float64, rank: int, rng: np.random.Generator, repetitions: int = 200
) -> tuple[float, float]:
    """Return percentiles of the TPR over samples of both classes with replacement."""
    n1, n0 = len(x), len(y)
    drawn = y[rng.integers(0, n0, (repetitions, n0))]
    threshold = -np.partition(-drawn, rank, axis=1)[:, rank]
    found = (x[rng.integers(0, n1, (repetitions, n1))] > threshold[:, None]).mean(axis=1)
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


# --- Tables ---


def share(hits: Bool) -> float:
    return float(np.mean(hits))


def area_cell(
    family: str, area: float, sizes: tuple[int, int], repetitions: int, rng: np.random.Generator
) -> dict[str, tuple[float, float, float]]:
    """Return the coverage, the misses by overstating, and the mean width, by method; n_members, n_nonmembers users."""
    x, y = (one[:, :n] for one, n in zip(draw(family, area, (repetitions, max(sizes)), rng), sizes, strict=True))
    parts = np.array([iv.auc_parts(*one) for one in zip(x, y, strict=True)]).T
    truth = true_area(family, area)
    together = iv.simultaneous(FIGURES_TOGETHER)
    ends = {
        "new": iv.auc_ends(parts[0], parts[1], parts[2], *sizes, iv.CONFIDENCE),
        "together": iv.auc_ends(parts[0], parts[1], parts[2], *sizes, together),
        "newcombe": plain_newcombe(parts[0], *sizes),
        "delong": delong(parts[0], parts[1]),
    }
    return {
        name: (
            share((low <= truth + TINY) & (truth - TINY <= high)),
            share(low > truth + TINY),
            float(np.mean(high - low)),
        )
        for name, (low, high) in ends.items()
    }


def per_10_000(missed: Sequence[float]) -> str:
    return f"{1e4 * float(np.mean(missed)):.0f}, {1e4 * max(missed):.0f}"


def areas(scale: Scale) -> Part:
    """Return the coverage of the AUC's interval by class size, AUC and family of scores."""
    rng = np.random.default_rng(1)
    part = Part()
    rows, published = [], []
    for n in scale.sizes:
        row, old, over, missed = [f"{n:,}"], [f"{n:,}"], 0.0, []
        for area in AREAS:
            cells = {family: area_cell(family, area, (n, n), scale.repeated(n), rng) for family in scale.families}
            least = {
                method: min(cell[method][0] for cell in cells.values()) for method in ("new", "newcombe", "delong")
            }
            width = {method: cells[scale.families[0]][method][2] for method in least}
            row.append(f"{least['new']:.3f} ({least['delong']:.3f}); {width['new']:.3f} ({width['delong']:.3f})")
            old.append(f"{least['newcombe']:.3f}; {width['newcombe']:.3f}")
            over = max(over, *(cell["new"][1] for cell in cells.values()))
            missed += [1 - cell["together"][0] for cell in cells.values()]
            for family, cell in cells.items():
                part.cells.append(Cell(f"AUC {area:g}, {family}, {n} a class", cell["new"][0], scale.repeated(n)))
        rows.append([*row, f"{over:.3f}", per_10_000(missed)])
        published.append(old)
    head = ["users a class", *(f"AUC {area:g}" for area in AREAS)]
    part.table(
        "AUC: least coverage over families of scores (DeLong's); mean width with normal scores (DeLong's)",
        [*head, "most that overstate", f"missed in 10,000 at the confidence of {FIGURES_TOGETHER} figures: mean, most"],
        rows,
    )
    part.table(
        "AUC by Newcombe's interval as published: least coverage; mean width with normal scores", head, published
    )
    return part


def unequal(scale: Scale, quick: bool) -> Part:
    """Return the coverage of the AUC's interval in small and unequal classes, as for one user over few runs."""
    rng = np.random.default_rng(7)
    part = Part()
    rows = []
    levels = (0.5, 0.8, 0.95, 1.0)
    sizes = (
        ((5, 15), (10, 10))
        if quick
        else ((2, 6), (4, 4), (3, 13), (8, 8), (5, 15), (10, 10), (20, 20), (12, 300), (305, 60))
    )
    for n1, n0 in sizes:
        row = [f"{n1}, {n0}"]
        for area in levels:
            cells = {family: area_cell(family, area, (n1, n0), scale.repetitions, rng) for family in scale.families}
            least = {method: min(cell[method][0] for cell in cells.values()) for method in ("new", "newcombe")}
            width = {method: cells["normal"][method][2] for method in least}
            row.append(f"{least['new']:.3f} ({least['newcombe']:.3f}); {width['new']:.3f} ({width['newcombe']:.3f})")
            for family, cell in cells.items():
                part.cells.append(Cell(f"AUC {area:g}, {family}, {n1} and {n0}", cell["new"][0], scale.repetitions))
        rows.append(row)
    part.table(
        "AUC of one user over runs, or of unequal classes: least coverage (Newcombe's); mean width (Newcombe's)",
        ["runs with, without", *(f"AUC {area:g}" for area in levels)],
        rows,
    )
    return part


def tpr_cell(
    family: str, area: float, fpr: float, x: Float64, y: Float64, above: npt.NDArray[np.int64]
) -> dict[str, tuple[float, ...]]:
    """Return coverage, misses by overstating, width, and coverage of one threshold's TPR alone, by method.

    The lower end is held against the best rule that may toss a coin between two thresholds, the upper end against the
    best single threshold. The bootstrap is drawn up to 600 users at AUC 0.9.
    """
    repetitions, n = x.shape
    rank = math.floor(fpr * n + TINY)
    found = above[:, rank + 1]
    threshold, coin = true_tpr(family, area, fpr)

    def interval(confidence: float) -> tuple[Float64, Float64]:
        low, high = iv.tpr_ends(above, n, iv.threshold_region(n, fpr, (1 - confidence) / 2))
        return np.minimum(low, found / n), np.maximum(high, found / n)

    ends = {
        "new": interval(iv.CONFIDENCE),
        "together": interval(iv.simultaneous(FIGURES_TOGETHER)),
        "old": plain_clopper_pearson(found, n),
    }
    if area == 0.9 and n <= 600 and repetitions > 500:
        rng = np.random.default_rng(n)
        drawn = np.array([bootstrap(x[i], y[i], rank, rng) for i in range(400)])
        ends["bootstrap"] = drawn[:, 0], drawn[:, 1]
    return {
        name: (
            share((low <= coin + TINY) & (threshold - TINY <= high)),
            share(low > coin + TINY),
            float(np.mean(high - low)),
            share((low <= threshold + TINY) & (threshold - TINY <= high)),
        )
        for name, (low, high) in ends.items()
    }


def tprs(scale: Scale, quick: bool) -> Part:
    """Return the coverage of the interval of the TPR at an FPR by class size, over AUC 0.5 to 0.99 and families."""
    rng = np.random.default_rng(2)
    part = Part()
    rates = (0.1, 0.01) if quick else (0.1, 0.01, 0.001)
    short: list[list[str]] = []
    rows: dict[float, list[list[str]]] = {fpr: [] for fpr in rates}
    for n in (20, 153) if quick else (10, 20, 75, 150, 305, 600, 1500, 3000):
        repetitions = min(scale.repetitions, 1500 if n <= 305 else 1000)
        cells: dict[float, dict[tuple[str, float], dict[str, tuple[float, ...]]]] = {fpr: {} for fpr in rates}
        for family in scale.families:
            for area in (0.5, 0.9) if quick else AREAS[:-1]:
                x, y = draw(family, area, (repetitions, n), rng)
                above = np.array([iv.members_above(*one) for one in zip(x, y, strict=True)])
                for fpr in rates:
                    if fpr * n >= 1:
                        cell = tpr_cell(family, area, fpr, x, y, above)
                        cells[fpr][family, area] = cell
                        name = f"TPR at {fpr:g}, AUC {area:g}, {family}, {n} a class"
                        part.cells.append(Cell(name, cell["new"][0], repetitions))
        short.append([f"{n:,}", *(_tpr_shown(cells[fpr]) for fpr in rates)])
        for fpr in rates:
            if fpr * n >= 1:
                rows[fpr].append(_tpr_row(fpr, n, cells[fpr]))
    part.table(TPR_TITLE, ["users a class", *(f"FPR {fpr:g}" for fpr in rates)], short)
    part.table("TPR at an FPR: details", TPR_DETAILS, [row for fpr in rates for row in rows[fpr]])
    return part


TPR_TITLE = (
    "TPR at an FPR: least coverage over families of scores and AUC 0.5 to 0.99 (Clopper and Pearson's at the fitted "
    "threshold); mean width at AUC 0.9 with normal scores (Clopper and Pearson's)"
)
TPR_DETAILS = [
    "FPR",
    "users a class",
    "chord",
    "bootstrap: least coverage",
    "most that overstate",
    "least coverage of one threshold alone",
    f"missed in 10,000 at the confidence of {FIGURES_TOGETHER} figures: mean, most",
    "width at AUC 0.9, normal scores: new / Clopper-Pearson / bootstrap",
    "a part of the members stands out",
]


def _tpr_shown(cells: dict[tuple[str, float], dict[str, tuple[float, ...]]]) -> str:
    if not cells:
        return "not resolvable"
    new, old = (min(cell[method][0] for cell in cells.values()) for method in ("new", "old"))
    width = cells["normal", 0.9]
    return f"{new:.3f} ({old:.3f}); {width['new'][2]:.3f} ({width['old'][2]:.3f})"


def _tpr_row(fpr: float, n: int, cells: dict[tuple[str, float], dict[str, tuple[float, ...]]]) -> list[str]:
    row = [f"{fpr:g}", f"{n:,}", f"{iv.threshold_region(n, fpr, 0.025).slope:.2f}"]
    known = [cell["bootstrap"][0] for cell in cells.values() if "bootstrap" in cell]
    row.append(f"{min(known):.3f}" if known else "-")
    row.append(f"{max(cell['new'][1] for cell in cells.values()):.3f}")
    row.append(f"{min(cell['new'][3] for cell in cells.values()):.3f}")
    row.append(per_10_000([1 - cell["together"][0] for cell in cells.values()]))
    for family in ("normal", "mixture"):
        cell = cells[family, 0.9]
        row.append(" / ".join(f"{cell[m][2]:.3f}" if m in cell else "-" for m in ("new", "old", "bootstrap")))
    return row


def accuracies(scale: Scale) -> Part:
    """Return the coverage of the interval of the balanced accuracy, by exact sums over both counts."""
    part = Part()
    rows = []
    rates = (0.005, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 0.995)
    for n in scale.sizes:
        if n > 305:
            continue
        right = np.arange(n + 1)
        low, high = iv.balanced_ends(right[:, None], n, right[None, :], n)
        chance = {rate: stats.binom.pmf(right, n, rate) for rate in rates}
        found = {
            (tpr, tnr): float(chance[tpr] @ ((low <= (tpr + tnr) / 2) & ((tpr + tnr) / 2 <= high)) @ chance[tnr])
            for tpr in rates
            for tnr in rates
            if tpr + tnr >= 1
        }
        over = max(float(chance[a] @ (low > (a + b) / 2) @ chance[b]) for a, b in found)
        worst = min(found, key=lambda key: found[key])
        width = float(chance[0.7] @ (high - low) @ chance[0.9])
        rows.append([str(n), f"{found[worst]:.3f} (TPR {worst[0]:g}, TNR {worst[1]:g})", f"{over:.3f}", f"{width:.3f}"])
        part.cells.append(Cell(f"balanced accuracy, {n} a class", found[worst], 10**6))
    head = ["users a class", "least coverage", "most that overstate", "mean width at TPR 0.7, TNR 0.9"]
    part.table("Balanced accuracy, exact, over TPR and TNR from 0.005 to 0.995", head, rows)
    return part


def utilities(scale: Scale) -> Part:
    """Return the coverage of the interval of a mean over users of Recall@k or NDCG@k, most of which are 0."""
    rng = np.random.default_rng(8)
    part = Part()
    rows = []
    rates = (0.02, 0.1, 0.3, 0.6)
    gains = 1 / np.log2(np.arange(2, 12))
    for n in scale.sizes:
        row = [f"{n:,}"]
        repetitions = scale.repeated(n)
        for rate in rates:
            # One held-out item at a random rank; five held-out items, found at a rate of the user's own.
            hit = (rng.random((repetitions, n)) < rate) * gains[rng.integers(0, 10, (repetitions, n))]
            own = rng.beta(0.5, 0.5 * (1 - rate) / rate, (repetitions, n))
            found = rng.binomial(5, own) / 5
            new, old, width = [], [], []
            for values, truth, name in ((hit, rate * gains.mean(), "NDCG"), (found, rate, "Recall")):
                low, high = iv.share_ends(values)
                half = 1.96 * values.std(axis=1) / math.sqrt(n)
                mean = values.mean(axis=1)
                new.append(share((low <= truth) & (truth <= high)))
                old.append(share((mean - half <= truth) & (truth <= mean + half)))
                width.append((float(np.mean(high - low)), float(np.mean(2 * half))))
                part.cells.append(Cell(f"{name} with a rate of {rate:g}, {n} users", new[-1], repetitions))
            row.append(f"{min(new):.3f} ({min(old):.3f}); {width[1][0]:.3f} ({width[1][1]:.3f})")
        rows.append(row)
    part.table(
        "Mean of Recall@k or NDCG@k over users: least coverage (of mean ± 1.96 standard errors); mean width for Recall",
        ["users", *(f"rate of hits {rate:g}" for rate in rates)],
        rows,
    )
    return part


# --- Runs that share users ---


def student(values: Float64, low: Float64, high: Float64) -> tuple[float, float]:
    """Return Student's t interval over the values, or the runs' own intervals over sqrt(n) where that is wider."""
    n = len(values)
    if n == 1:
        return float(low[0]), float(high[0])
    spread = float(special.stdtrit(n - 1, 0.975)) * float(np.std(values, ddof=1))
    ends = [max(spread, math.sqrt(np.mean(width**2))) / math.sqrt(n) for width in (values - low, high - values)]
    mean = float(values.mean())
    return max(0.0, mean - ends[0]), min(1.0, mean + ends[1])


def student_mean(seeds: Sequence[Sequence[iv.Estimate]], **_: float) -> iv.Estimate:
    """Return what Student's t makes of the targets of each seed and then of the seeds, in place of `combine`."""
    means = []
    for seed in seeds:
        values = np.array([(one.value, one.low, one.high) for one in seed], np.float64).T
        means.append((float(values[0].mean()), *student(*values)))
    joint = np.array(means).T
    return iv.Estimate(float(joint[0].mean()), *student(*joint))


# Share of members that the system gives away, by how much, what part of the scores is the user's own in every run, and
# how much the leak differs from run to run.
LEAKS = {
    "none": (0.0, 0.0, 0.95, 0.0),
    "shift": (1.0, 1.8, 0.95, 0.1),
    "unsteady": (1.0, 1.8, 0.95, 0.3),
    "half": (0.5, 3.0, 0.95, 0.0),
    "most": (0.8, 6.0, 1.0, 0.3),
}
FIGURES = ("AUC", "TPR at 10%", "TPR at 1%", "balanced accuracy")


def play(
    leak: str, seeds: int, targets: int, rng: np.random.Generator, users: int = 610, *, with_data: bool = True
) -> tuple[list[list[list[iv.Estimate]]], list[list[list[iv.Estimate]]], Float64, Float64]:
    """Return what runs over one population of users show.

    Returns
    -------
    new, old
        Estimates by figure, seed and target.
    systems : float64, shape (4,)
        Mean over the runs of what each would show with endlessly many users.
    data : float64, shape (4,)
        Mean over endlessly many runs on these users; NaN without `with_data`.
    """
    part, far, own, drift = LEAKS[leak]
    base = rng.normal(size=users)
    exposed = rng.random(users) < part
    n = users // 2
    new: list[list[list[iv.Estimate]]] = [[[] for _ in range(seeds)] for _ in FIGURES]
    old: list[list[list[iv.Estimate]]] = [[[] for _ in range(seeds)] for _ in FIGURES]
    truths, parts, sizes = [], [], []
    rates: list[list[iv.Estimate]] = []
    for _ in range(seeds):
        side = rng.permutation(users)[:n]
        for _ in range(targets):
            member = rng.random(n) < 0.5
            extra = drift * rng.normal()
            noise = math.sqrt(1 - own**2) * rng.normal(size=n)
            score = own * base[side] + noise + member * (far * exposed[side] + extra)
            moves, weights = np.array([far + extra, extra]), np.array([part, 1 - part])
            truths.append(
                [
                    float(weights @ special.ndtr(moves / math.sqrt(2))),
                    float(weights @ special.ndtr(special.ndtri(0.1) + moves)),
                    float(weights @ special.ndtr(special.ndtri(0.01) + moves)),
                    float(weights @ special.ndtr(moves - 1) + special.ndtr(1.0)) / 2,
                ]
            )
            parts.append(iv.auc_parts(score[member], score[~member]))
            sizes.append((int(member.sum()), int((~member).sum())))
            figures = [tpr_at_fpr(member, score, fpr) for fpr in (0.1, 0.01)]
            rates.append([*figures, balanced_accuracy(member, score, 1.0)])
    area, variance, tied = np.array(parts).T
    n1, n0 = np.array(sizes).T
    ends = np.array([area, *iv.auc_ends(area, variance, tied, n1, n0), *delong(area, variance)]).T
    for run, (one, rest) in enumerate(zip(ends, rates, strict=True)):
        seed = run // targets
        new[0][seed].append(iv.Estimate(float(one[0]), float(one[1]), float(one[2])))
        old[0][seed].append(iv.Estimate(float(one[0]), float(one[3]), float(one[4])))
        for figure, estimate in enumerate(rest, 1):
            new[figure][seed].append(estimate)
            if figure < 3:
                found = np.array(round((estimate.value or 0.0) * int(n1[run])))
                low, high = plain_clopper_pearson(found, int(n1[run]))
                estimate = iv.Estimate(estimate.value, float(low), float(high))
            old[figure][seed].append(estimate)
    data = np.full(4, np.nan)
    if with_data:
        data = data_truth(own * base, far * exposed, math.sqrt(1 - own**2), drift)
    return new, old, np.mean(truths, axis=0), data


def data_truth(base: npt.NDArray[Any], leak: npt.NDArray[Any], noise: float, drift: float) -> Float64:
    """Return the four figures of a data set, over all splits, coins and trainings."""
    out = max(noise, 1e-9)
    inside = math.sqrt(out**2 + drift**2)
    area = special.ndtr((base[:, None] + leak[:, None] - base[None, :]) / math.hypot(out, inside))
    np.fill_diagonal(area, 0.0)
    figures = [float(area.sum()) / (len(base) * (len(base) - 1))]
    for fpr in (0.1, 0.01):
        low, high = float(base.min() - 9), float(base.max() + 9)
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if special.ndtr((base - middle) / out).mean() > fpr else (low, middle)
        figures.append(float(special.ndtr((base + leak - low) / inside).mean()))
    right = special.ndtr((base + leak - 1) / inside).mean() + special.ndtr((1 - base) / out).mean()
    return np.array([*figures, float(right) / 2])


def means(repetitions: int, quick: bool) -> Part:
    """Return the coverage of the interval of a mean over runs, and how often it is wider than the widest run's.

    So many repetitions of ten runs and more; up to five times as many of fewer.
    """
    rng = np.random.default_rng(3)
    part = Part()
    rows, by_leak = [], []
    plans = ((2, 1), (1, 8)) if quick else ((1, 1), (2, 1), (5, 1), (10, 1), (1, 4), (1, 8), (2, 4), (5, 8))
    for seeds, targets in plans:
        runs = seeds * targets
        n = (
            repetitions
            if quick
            else repetitions * (5 if runs <= 2 else 2 if runs <= 5 else 1) // (2 if runs > 10 else 1)
        )
        found: dict[str, dict[str, list[float]]] = {name: {} for name in FIGURES}
        for leak in ("none", "half") if quick else LEAKS:
            cells: dict[str, list[tuple[float, ...]]] = {name: [] for name in FIGURES}
            for repetition in range(n):
                # What the data set would show takes longest; 150 repetitions will do.
                new, old, systems, data = play(leak, seeds, targets, rng, with_data=repetition < 150)
                for figure, name in enumerate(FIGURES):
                    known = [one for seed in new[figure] for one in seed if one.value is not None]
                    if len(known) < runs:
                        continue
                    bias = {1: iv.rank_bias(152, 0.1), 2: iv.rank_bias(152, 0.01)}.get(figure, 0.0)
                    mean = iv.combine(new[figure], bias=bias)
                    low, high = float(mean.low or 0.0), float(mean.high or 0.0)
                    before = student_mean(old[figure])
                    old_low, old_high = float(before.low or 0.0), float(before.high or 0.0)
                    widest = max(float(one.high or 0.0) - float(one.low or 0.0) for one in known)
                    t, d = float(systems[figure]), float(data[figure])
                    cells[name].append(
                        (
                            low <= t <= high,
                            low > t,
                            math.nan if math.isnan(d) else low <= d <= high,
                            high - low,
                            old_low <= t <= old_high,
                            old_high - old_low,
                            high - low <= widest + TINY,
                        )
                    )
            for name in FIGURES:
                shown = list(map(float, np.nanmean(cells[name], axis=0)))
                found[name][leak] = shown
                where = f"{name}, {seeds} seeds, {targets} targets, leak: {leak}"
                part.cells.append(Cell(where, shown[0], len(cells[name])))
                part.cells.append(Cell(f"{where}: no wider than the widest run", shown[6], 10**6, 1.0))
        row = [str(seeds), str(targets), f"{n:,}"]
        for name in FIGURES:
            new_least, old_least = (min(shown[k] for shown in found[name].values()) for k in (0, 4))
            half = found[name]["half"]
            row.append(f"{new_least:.3f} ({old_least:.3f}); {half[3]:.3f} ({half[5]:.3f})")
        rows.append(row)
        for leak in found["AUC"]:
            of_data = [f"{found[name][leak][2]:.3f}" for name in FIGURES]
            by_leak.append([str(seeds), str(targets), leak, *of_data])
    part.table(
        "Means over runs of 305 of 610 users: least coverage over leaks (Student's t); mean width where half of the "
        "members leak (Student's t)",
        ["seeds", "targets", "repetitions", *FIGURES],
        rows,
    )
    part.table(
        "The same intervals, held against what the data set would show over all its splits and trainings",
        ["seeds", "targets", "leak", *FIGURES],
        by_leak,
    )
    return part


# --- Epsilon ---


def responses(kind: str, epsilon: float, coins: Bool, rng: np.random.Generator) -> Float64:
    """Return what a system of exactly this epsilon shows, one score for each user; users' outcomes depend by `kind`.

    independent: randomised response. shared: a noise that all users have in common decides whether the truth is told
    with all of epsilon, or not at all. blocks: ten users' answers are right together or drawn together, which is as
    private for each user.
    """
    n = len(coins)
    rate = float(special.expit(epsilon))
    if kind == "blocks":
        size = 10
        number = -(-n // size)
        # All right with chance a, else coins: (a + (1 - a) / 2^size) / ((1 - a) / 2^size) = e^epsilon.
        told = math.expm1(epsilon) / (math.expm1(epsilon) + 2.0**size)
        open_ = np.repeat(rng.random(number) < told, size)[:n]
        return np.where(open_, coins, rng.random(n) < 0.5).astype(np.float64)
    if kind == "shared" and rng.random() < 0.5:
        rate = 0.5
    return np.where(rng.random(n) < rate, coins, ~coins).astype(np.float64)


def gaussians(kind: str, mu: float, coins: Bool, rng: np.random.Generator) -> Float64:
    """Return what a system of exactly this mu shows: "shared" adds noise that all users of a block have in common."""
    score = mu * coins + rng.normal(size=len(coins))
    if kind == "shared":
        score = score + 3 * np.repeat(rng.normal(size=-(-len(coins) // 50)), 50)[: len(coins)]
    return score


def meaningless(kind: str, coins: Bool, rng: np.random.Generator) -> Float64:
    """Return scores that do not depend on membership: constant, or random."""
    return np.zeros(len(coins)) if kind == "constant" else rng.normal(size=len(coins))


def play_epsilon(
    answer: Callable[[Bool, np.random.Generator], Float64], targets: int, rng: np.random.Generator, n: int = 305
) -> eps.Guessed:
    """Return the guesses over the targets; how many is chosen on shadow users of the same system."""
    coins = rng.random(4 * n) < 0.5
    score = answer(coins, rng) + 1e-6 * rng.random(4 * n)
    chosen = eps.choose_guesses(coins, score, n, targets)
    total: eps.Guessed | None = None
    for _ in range(targets):
        coins = rng.random(n) < 0.5
        one = eps.guess(coins, answer(coins, rng), chosen)
        total = one if total is None else total + one
    assert total is not None
    return total


def chance_allows(wrong: float, repetitions: int) -> float:
    """Return the least share that must be right where `wrong` of the repetitions may fail: one in 200 is by chance."""
    return 1 - wrong - 2.6 * math.sqrt(wrong * (1 - wrong) / repetitions)


def epsilons(repetitions: int, quick: bool) -> Part:
    """Return the shares of bounds above the truth. The bound by the curve takes longer, and a fifth as many."""
    rng = np.random.default_rng(4)
    part = Part()
    truths = (0.0, 1.0) if quick else (0.0, 0.5, 1.0, 2.0, 4.0)
    fewer = repetitions // 5
    allowed, allowed_fewer = chance_allows(MOST_WRONG, repetitions), chance_allows(MOST_WRONG, fewer)
    rows: dict[tuple[str, int], list[str]] = {}
    by_curve: dict[tuple[str, int], list[str]] = {}
    for kind in ("independent", "shared", "blocks"):
        for epsilon in truths:
            for targets in (1, 4):
                wrong, curve, values = [], [], []
                for repetition in range(repetitions):
                    played = play_epsilon(partial(responses, kind, epsilon), targets, rng)
                    value = eps.epsilon_bound(played).value
                    values.append(value)
                    wrong.append(value > epsilon)
                    if repetition < fewer:
                        curve.append(eps.approximate_curve_bound(played) > epsilon)
                shown = f"{np.mean(wrong):.3f}; {np.mean(values):.2f}"
                rows.setdefault((kind, targets), [kind, str(targets)]).append(shown)
                by_curve.setdefault((kind, targets), [kind, str(targets)]).append(f"{np.mean(curve):.3f}")
                where = f"epsilon {epsilon:g}, {kind}, {targets} targets"
                part.cells.append(Cell(where, 1 - float(np.mean(wrong)), 10**6, allowed))
                part.cells.append(Cell(f"{where}, by its curve", 1 - float(np.mean(curve)), 10**6, allowed_fewer))
    # Without a leak, nothing may be refuted: never by constant scores, in at most 5% by random ones.
    for kind in ("constant", "random"):
        for targets in (1, 4):
            games = [play_epsilon(partial(meaningless, kind), targets, rng) for _ in range(repetitions)]
            values = [eps.epsilon_bound(played).value for played in games]
            refuted = float(np.mean(np.array(values) > 0))
            rows[kind, targets] = [f"{kind} scores", str(targets), f"{refuted:.3f}; {np.mean(values):.2f}"]
            rows[kind, targets] += ["-"] * (len(truths) - 1)
            least = 1.0 if kind == "constant" else allowed
            part.cells.append(Cell(f"{kind} scores, {targets} targets", 1 - refuted, 10**6, least))
    head = ["users' outcomes", "targets", *(f"epsilon {epsilon:g}" for epsilon in truths)]
    part.table(
        f"Randomised response on membership, 305 users, delta 0, {repetitions:,} repetitions: share of bounds above "
        "the true epsilon; mean bound",
        head,
        list(rows.values()),
    )
    part.table(f"The same by f-DP with the curve of epsilon, {fewer:,} repetitions", head, list(by_curve.values()))
    gauss = []
    for kind in ("independent", "shared"):
        for mu in (0.0, 1.0) if quick else (0.0, 0.3, 1.0, 2.0):
            bounds = [eps.gaussian_bound(play_epsilon(partial(gaussians, kind, mu), 1, rng)).mu for _ in range(fewer)]
            above = float(np.mean(np.array(bounds) > mu))
            gauss.append([kind, f"{mu:g}", f"{above:.3f}", f"{np.mean(bounds):.2f}"])
            part.cells.append(Cell(f"mu {mu:g}, {kind}", 1 - above, 10**6, allowed_fewer))
    part.table(
        f"Gaussian noise, 305 users, {fewer:,} repetitions: share of bounds on mu above the true mu",
        ["noise", "mu", "above", "mean bound"],
        gauss,
    )
    return part


def old_epsilon(
    shadow: tuple[Bool, Float64], targets: Sequence[tuple[Bool, Float64]], confidence: float = 0.95
) -> float:
    """Return the bound by counts at one threshold, which takes users' outcomes as independent."""
    error = (1 - confidence) / 2

    def ratio(tp: npt.ArrayLike, n1: int, fp: npt.ArrayLike, n0: int) -> Float64:
        tpr, tnr = iv.rate_at_least(tp, n1, error), iv.rate_at_least(n0 - np.asarray(fp), n0, error)
        found: Float64 = np.maximum(tpr / (1 - tnr), tnr / (1 - tpr))
        return found

    member, score = (np.concatenate(part) for part in zip(*targets, strict=True))
    n1, n0 = int(member.sum()), int((~member).sum())
    levels = np.sort(shadow[1])[1:-1]
    inside, outside = np.sort(shadow[1][shadow[0]]), np.sort(shadow[1][~shadow[0]])
    rates = [1 - np.searchsorted(part, levels) / len(part) for part in (inside, outside)]
    best = levels[int(np.argmax(ratio(np.rint(rates[0] * n1), n1, np.rint(rates[1] * n0), n0)))]
    called = score >= best
    return math.log(max(1.0, float(ratio(int(called[member].sum()), n1, int(called[~member].sum()), n0))))


def power(repetitions: int) -> Part:
    """Return the bounds on scores like list-lr's on the LFM."""
    rng = np.random.default_rng(5)
    part = Part()
    rows = []
    for targets in (1, 4):
        found = []
        for _ in range(repetitions):
            coins = [rng.random(n) < 0.5 for n in (1220, *[305] * targets)]
            shadow, *played = [(one, _like_list_lr(one, rng)) for one in coins]
            chosen = eps.choose_guesses(*shadow, 305, targets)
            games = [eps.guess(*one, chosen) for one in played]
            total = sum(games[1:], games[0])
            gauss = eps.gaussian_bound(total)
            new = [eps.epsilon_bound(total, delta=delta).value for delta in (0.0, 1e-5)]
            found.append([old_epsilon(shadow, played), *new, gauss.mu, gauss.epsilon])
        ceiling = eps.epsilon_bound(eps.Guessed(305 * targets, 1, 1, 1)).ceiling
        rows.append([str(targets), *(f"{one:.2f}" for one in np.mean(found, axis=0)), f"{ceiling:.2f}"])
    part.table(
        "Scores like list-lr's (AUC 0.89, TPR 0.35 at FPR 1%), 305 users: mean bounds",
        [
            "targets",
            "by counts at one threshold",
            "Steinke et al., delta 0",
            "delta 1e-5",
            "mu",
            "epsilon of mu at 1e-5",
            "ceiling",
        ],
        rows,
    )
    return part


def _like_list_lr(coins: Bool, rng: np.random.Generator) -> Float64:
    # Half of the members stand out.
    n = len(coins)
    return rng.normal(size=n) + coins * np.where(rng.random(n) < 0.5, 2.4, 1.35)


# --- Gate ---


def false_alarms(repetitions: int, quick: bool) -> Part:
    """Return how often a gate or verdict over everything says that something leaks where nothing does."""
    rng = np.random.default_rng(6)
    part = Part()
    rows = []
    for attacks, dependence in ((8, 0.5),) if quick else ((8, 0.0), (8, 0.9), (20, 0.5)):
        for seeds in (1,) if quick else (1, 5):
            # The AUC either way, and the TPR at two rates.
            levels = {"each at 95%": 0.95, "all at 95%": iv.simultaneous(3 * attacks)}
            alarms = dict.fromkeys(levels, 0)
            for _ in range(repetitions):
                played = []
                for _ in range(seeds):
                    noise = rng.normal(size=(attacks, 305))
                    score = math.sqrt(dependence) * rng.normal(size=305) + math.sqrt(1 - dependence) * noise
                    played.append((rng.random(305) < 0.5, score))
                for name, level in levels.items():
                    alarms[name] += alarm(played, level)
            row = [str(attacks), f"{dependence:g}", str(seeds)]
            rows.append([*row, *(f"{alarms[name] / repetitions:.3f}" for name in alarms)])
            wrong = alarms["all at 95%"] / repetitions
            least = chance_allows(MOST_WRONG, repetitions)
            part.cells.append(Cell(f"alarms, {attacks} attacks, {seeds} seeds", 1 - wrong, 10**6, least))
    head = [
        "attacks",
        "correlation of their scores",
        "seeds",
        "some alarm, each figure at 95%",
        "all figures together at 95%",
    ]
    part.table(
        f"No leak, 305 users, {repetitions} repetitions: AUC surely off 0.5 either way, or TPR surely above an FPR of "
        "10% or 1%",
        head,
        rows,
    )
    return part


def alarm(played: Sequence[tuple[Bool, Float64]], level: float) -> bool:
    """Return whether some attack is said to find something; scores of shape (attacks, users), for each seed."""
    areas_of: list[list[iv.Estimate]] = []
    rates_of: dict[float, list[list[iv.Estimate]]] = {0.1: [], 0.01: []}
    for member, score in played:
        n1, n0 = int(member.sum()), int((~member).sum())
        parts = np.array([iv.auc_parts(one[member], one[~member]) for one in score]).T
        ends = iv.auc_ends(parts[0], parts[1], parts[2], n1, n0, level)
        areas_of.append([iv.Estimate(float(v), float(a), float(b)) for v, a, b in zip(parts[0], *ends, strict=True)])
        above = np.array([iv.members_above(one[member], one[~member]) for one in score])
        for fpr, rates in rates_of.items():
            value = above[:, math.floor(fpr * n0 + TINY) + 1] / n1
            low, high = iv.tpr_ends(above, n1, iv.threshold_region(n0, fpr, (1 - level) / 2))
            ends = np.minimum(low, value), np.maximum(high, value)
            rates.append([iv.Estimate(float(v), float(a), float(b)) for v, a, b in zip(value, *ends, strict=True)])
    for attack in range(len(played[0][1])):
        area = iv.folded(iv.combine([[seed[attack]] for seed in areas_of]))
        if (area.low or 0.0) > 0.5:
            return True
        for fpr, rates in rates_of.items():
            rate = iv.combine([[seed[attack]] for seed in rates], bias=iv.rank_bias(152, fpr))
            if (rate.low or 0.0) > fpr:
                return True
    return False


def decided(area: float, limit: float, seeds: int, rng: np.random.Generator, n: int) -> float:
    """Return how often the mean AUC of seeds with n users a class is surely on its side of a limit.

    All of `FIGURES_TOGETHER` hold together at 95%. The AUC of each seed is drawn as normal, with the variance of Hanley
    and McNeil (1982) and the correlation of two seeds that `combine` allows for.
    """
    repetitions = 400
    spread = 1 + (n - 1) * ((1 - area) / (2 - area) + area / (1 + area))
    common, own = rng.normal(size=(repetitions, 1)), rng.normal(size=(repetitions, seeds))
    noise = math.sqrt(area * (1 - area) * spread) / n * (0.5 * common + math.sqrt(0.75) * own)
    seen = np.clip(area + noise, 0.0, 1.0)
    flat = seen.ravel()
    confidence = iv.simultaneous(FIGURES_TOGETHER)
    ends = iv.auc_ends(flat, np.zeros_like(flat), np.full_like(flat, 2.0 * n), n, n, confidence)
    low, high = (end.reshape(seen.shape) for end in ends)
    on_side = 0
    for runs in zip(seen, low, high, strict=True):
        mean = iv.combine([[iv.Estimate(float(v), float(a), float(b))] for v, a, b in zip(*runs, strict=True)])
        on_side += float(mean.low or 0.0) > limit if area > limit else float(mean.high or 0.0) < limit
    return on_side / repetitions


def tpr_decided(tpr: float, limit: float, seeds: int, rng: np.random.Generator, n: int) -> float:
    """Return the same for a TPR at FPR 1%: normal scores of 4 n users, half of whom each seed takes as its own."""
    repetitions, fpr = 60, 0.01
    shift = float(special.ndtri(tpr) - special.ndtri(fpr))
    confidence = iv.simultaneous(FIGURES_TOGETHER)
    on_side = 0
    for _ in range(repetitions):
        base = rng.normal(size=4 * n)
        runs = []
        for _ in range(seeds):
            side = rng.permutation(4 * n)[: 2 * n]
            member = rng.permutation(2 * n) < n
            score = 0.95 * base[side] + math.sqrt(1 - 0.95**2) * rng.normal(size=2 * n) + shift * member
            runs.append([tpr_at_fpr(member, score, fpr, confidence)])
        mean = iv.combine(runs, bias=iv.rank_bias(n, fpr))
        on_side += float(mean.low or 0.0) > limit if tpr > limit else float(mean.high or 1.0) < limit
    return on_side / repetitions


def users_to_decide(share_decided: Callable[[int], float], least: int, chance: float = 0.9) -> str:
    """Return the smallest class size on a grid, to two digits, at which so large a share is decided."""
    grid = sorted({int(float(f"{n:.1e}")) for n in np.geomspace(least, 20000, 60)})
    low, high = -1, len(grid)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if share_decided(grid[middle]) >= chance else (middle, high)
    return f"{grid[high]:,}" if high < len(grid) else "more than 20,000"


def decisions() -> Part:
    """Return how many users it takes to decide, and the most that an epsilon bound can show."""
    rng = np.random.default_rng(9)
    part = Part()
    plans = (1, 5, 10)
    for name, limit, truths, measure, least in (
        ("AUC", 0.6, (0.5, 0.55, 0.58, 0.62, 0.65, 0.7, 0.8, 0.9), decided, 10),
        ("TPR at FPR 1%", 0.1, (0.01, 0.03, 0.2, 0.4, 0.8), tpr_decided, 100),
    ):
        rows = []
        for truth in truths:
            needed = [users_to_decide(partial(measure, truth, limit, seeds, rng), least) for seeds in plans]
            rows.append([f"{truth:g}", "below" if truth < limit else "breached", *needed])
        part.table(
            f"Users a class to decide with a chance of 90% whether the {name} is above {limit:g}, {FIGURES_TOGETHER} "
            "figures tested together",
            [f"true {name}", "outcome", "1 seed", "5 seeds", "10 seeds"],
            rows,
        )
    rows = []
    for coins in (50, 100, 305, 610, 3000, 30000):
        perfect = eps.Guessed(coins, coins, coins, coins)
        shown = [
            eps.epsilon_bound(perfect, delta=d, confidence=c).value
            for d in (0.0, 1e-5)
            for c in (0.95, iv.simultaneous(8))
        ]
        rows.append([f"{coins:,}", *(f"{one:.2f}" for one in shown)])
    part.table(
        "The most that an epsilon bound can show",
        ["users, over all targets", "delta 0", "of 8 attacks", "delta 1e-5", "of 8 attacks"],
        rows,
    )
    return part


# --- Interactions, of which those of one user depend on each other ---


def purchases(
    n_users: int, differ: float, area: float, apart: float, rng: np.random.Generator
) -> tuple[Bool, Float64, npt.NDArray[np.int64]]:
    """Return coins, scores and users of 4 to 20 interactions each, with that AUC.

    By how much those that were trained on stand higher has the standard deviation `differ` over users; how high all
    interactions of a user stand has `apart`. Within a user, scores have the standard deviation 1.
    """
    user = np.repeat(np.arange(n_users), rng.integers(4, 21, n_users))
    gap = special.ndtri(area) * math.sqrt(2 + differ**2 + 2 * apart**2) + differ * rng.normal(size=n_users)
    level = apart * rng.normal(size=n_users)
    coins = rng.random(len(user)) < 0.5
    return coins, rng.normal(size=len(user)) + gap[user] * coins + level[user], user


def clusters(repetitions: int, quick: bool) -> Part:
    """Return how often intervals over users hold the AUC, beside those that take interactions as independent."""
    part, rows = Part(), []
    for n_users in (20, 300) if quick else (20, 50, 100, 300):
        row = [str(n_users)]
        for differ, area, apart in SPREADS:
            rng = np.random.default_rng([n_users, int(10 * differ), int(100 * area), int(10 * apart)])
            hits, widths = np.zeros((2, repetitions), np.bool_), np.zeros((2, repetitions))
            for one in range(repetitions):
                coins, score, user = purchases(n_users, differ, area, apart, rng)
                for which, found in enumerate((Clustered(coins, score, user).auc(), roc_auc(coins, score))):
                    assert found.low is not None
                    assert found.high is not None
                    hits[which, one] = found.low <= area <= found.high
                    widths[which, one] = found.high - found.low
            name = f"interactions of {n_users} users, AUC {area}, differ {differ}, apart {apart}"
            part.cells.append(Cell(name, share(hits[0]), repetitions))
            row.append(f"{hits[0].mean():.3f} ({hits[1].mean():.3f}); {widths[0].mean():.3f} ({widths[1].mean():.3f})")
        rows.append(row)
    part.table(
        "Interactions: coverage of intervals over users (over independent interactions); mean width",
        ["users", *(f"AUC {area}, differ {differ:g}, apart {apart:g}" for differ, area, apart in SPREADS)],
        rows,
    )
    return part


# By how much users differ in how far they leak, the AUC, and by how much the levels of users stand apart.
SPREADS = ((0.0, 0.5, 0.0), (1.0, 0.5, 0.0), (1.0, 0.75, 0.0), (1.0, 0.75, 1.0), (1.0, 0.95, 0.0))


# --- Pages ---

PAGE = Path(__file__).parents[1] / "docs" / "statistics.md"


def into_page(lines: Sequence[str]) -> None:
    """Put each table in place of the one on the page with the same heading; other tables are not on the page."""
    page = PAGE.read_text()
    for table in re.split(r"\n(?=### )", "\n".join(lines)):
        heading = table.split("\n", 1)[0]
        found = re.search(re.escape(heading) + r"\n\n(?:\|.*\n)+", page)
        if found:
            page = page[: found.start()] + table.rstrip() + "\n" + page[found.end() :]
    PAGE.write_text(page)


def summary(parts: Mapping[str, Part]) -> Part:
    """Return a table of the least share of each kind of interval or bound that was right."""
    rows = []
    for name, part in parts.items():
        cells = [cell for cell in part.cells if cell.least < 1]
        if cells:
            worst = min(cells, key=lambda cell: cell.share)
            rows.append([name, f"{worst.share:.3f}", worst.name, str(len(cells)), str(len(part.failures))])
    found = Part()
    found.table(
        "Least share that was right", ["interval or bound", "least", "where", "cells", "cells that are too low"], rows
    )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything; 1 if something covers less than it must."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer cells and repetitions; writes no file")
    quick = parser.parse_args(arguments).quick
    scale = QUICK if quick else FULL
    steps: dict[str, Callable[[], Part]] = {
        "AUC, by Newcombe's method 5 with a wider variance": lambda: areas(scale),
        "AUC of one user over runs, by the same": lambda: unequal(scale, quick),
        "TPR at an FPR, by order statistics of both classes": lambda: tprs(scale, quick),
        "balanced accuracy, by Clopper and Pearson for both rates": lambda: accuracies(scale),
        "Recall and NDCG, by Korn and Graubard": lambda: utilities(scale),
        "mean over targets and seeds": lambda: means(60 if quick else 300, quick),
        "bounds on epsilon (Steinke et al.) and mu": lambda: epsilons(200 if quick else 2000, quick),
        "AUC of interactions, over users": lambda: clusters(60 if quick else 1000, quick),
        "no alarm without a leak, 24 or 60 figures together": lambda: false_alarms(60 if quick else 300, quick),
    }
    if not quick:
        steps |= {"power": lambda: power(200), "decisions": decisions}
    parts: dict[str, Part] = {}
    for name, step in steps.items():
        started = time.perf_counter()
        parts[name] = step()
        print("\n".join(parts[name].lines))
        print(f"{name}: {time.perf_counter() - started:.0f} s\n", flush=True)
    failed = [cell for part in parts.values() for cell in part.failures]
    for cell in failed:
        print(f"too low: {cell.name}: {cell.share:.3f}, must be {cell.least:.3f}")
    if not quick:
        lines = [*summary(parts).lines, *(line for part in parts.values() for line in part.lines)]
        write_section("Coverage of intervals and bounds", "python benchmarks/interval_coverage.py", lines)
        into_page(lines)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

"""Figures, drawn without a display and without global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import special

from recmia.attacks import BASELINES
from recmia.evaluation import CONFIDENCE, Roc
from recmia.summary import REGIME_WORDS

# Okabe and Ito's palette, which colour-blind readers can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def roc_figure(
    rocs: Mapping[tuple[str, str], Sequence[Roc]],
    aucs: Mapping[tuple[str, str], float],
    n_nonmembers: int,
    title: str,
) -> Figure:
    """Draw the ROC of each attack, a row of axes for each regime, on linear and on logarithmic scales.

    Parameters
    ----------
    rocs : mapping of (section, attack) to the ROC of each target of each seed
        A section is a regime, with the level of knowledge where there are several.
        The curve is their mean TPR at each FPR; the band is the 95% t interval over three or
        more seeds.
    aucs : mapping of (section, attack) to float
    n_nonmembers : int
        Sets the finest FPR of the logarithmic axes.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    regimes = list(dict.fromkeys(regime for regime, _ in rocs))
    figure = Figure(figsize=(10.5, 0.8 + 4.5 * len(regimes)), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    grid = figure.subplots(len(regimes), 2, squeeze=False)
    for (linear, logarithmic), regime in zip(grid, regimes, strict=True):
        _draw(linear, regime, rocs, aucs, np.linspace(0, 1, 501))
        finest = 1 / n_nonmembers
        _draw(logarithmic, regime, rocs, aucs, np.geomspace(finest, 1, 501))
        logarithmic.set(xscale="log", yscale="log", xlim=(finest, 1), ylim=(finest / 2, 1.1))
        linear.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.03), aspect="equal")
        linear.set_title(f"{regime}: {REGIME_WORDS[regime.partition(', ')[0]]}", loc="left", fontsize=10)
        logarithmic.set_title("the same, logarithmic", loc="left", fontsize=10)
        # Labels start with the AUC, so this puts the strongest first.
        entries = sorted(
            zip(*linear.get_legend_handles_labels(), strict=True), key=lambda entry: entry[1], reverse=True
        )
        logarithmic.legend(
            *zip(*entries, strict=True), loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8,
            title="AUC (thin: needs no model)", title_fontsize=8, frameon=False, alignment="left",
        )  # fmt: skip
    return figure


def _draw(
    axes: Axes,
    regime: str,
    rocs: Mapping[tuple[str, str], Sequence[Roc]],
    aucs: Mapping[tuple[str, str], float],
    fpr: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> None:
    axes.plot(fpr, fpr, color="0.6", linestyle=":", linewidth=1, label="0.500  a coin")
    colours = cycle(_COLOURS)
    styles = iter(("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1))))
    for (of, attack), curves in rocs.items():
        if of != regime:
            continue
        tpr = np.array([curve.tpr_at(fpr) for curve in curves])
        mean, label = tpr.mean(axis=0), f"{aucs[regime, attack]:.3f}  {attack}"
        if attack in BASELINES:
            axes.plot(
                fpr,
                mean,
                color="0.45",
                linewidth=0.9,
                linestyle=next(styles),
                label=label,
                drawstyle="steps-post",
            )
            continue
        colour = next(colours)
        axes.plot(fpr, mean, color=colour, linewidth=2.2, label=label, drawstyle="steps-post", zorder=3)
        if len(curves) > 2:  # two cannot tell how much a third would differ
            quantile = float(special.stdtrit(len(curves) - 1, (1 + CONFIDENCE) / 2))
            half = quantile * tpr.std(axis=0, ddof=1) / np.sqrt(len(curves))
            low, high = np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1)
            axes.fill_between(fpr, low, high, color=colour, alpha=0.2, linewidth=0, step="post", zorder=2)
    axes.set_xlabel("false-positive rate: non-members called members")
    axes.set_ylabel("true-positive rate: members found")
    axes.grid(alpha=0.25, linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)

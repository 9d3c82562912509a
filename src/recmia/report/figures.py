"""Figures, drawn without a display and without global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import special

from recmia.attacks import BASELINES
from recmia.evaluation import CONFIDENCE, Roc
from recmia.summary import REGIME_WORDS, section

Float64 = npt.NDArray[np.float64]

# The rule that comes nearest to an attack where all are served by the same path.
_RULE = "popular-overlap"
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
    fpr: Float64,
) -> None:
    axes.plot(fpr, fpr, color="0.6", linestyle=":", linewidth=1, label="0.500  a coin")
    colours = cycle(_COLOURS)
    styles = iter(("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1))))
    for (of, attack), curves in rocs.items():
        if of != regime:
            continue
        mean, low, high = roc_band(curves, fpr)
        label = f"{aucs[regime, attack]:.3f}  {attack}"
        if attack.rpartition(": ")[2] in BASELINES:
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
            axes.fill_between(fpr, low, high, color=colour, alpha=0.2, linewidth=0, step="post", zorder=2)
    axes.set_xlabel("false-positive rate: non-members called members")
    axes.set_ylabel("true-positive rate: members found")
    axes.grid(alpha=0.25, linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def roc_band(curves: Sequence[Roc], fpr: Float64) -> tuple[Float64, Float64, Float64]:
    """Mean TPR at each FPR over two or more seeds, and its 95% t interval; float64, shape (len(fpr),) each.

    One curve has no spread: its interval is then the curve itself.
    """
    tpr = np.array([curve.tpr_at(fpr) for curve in curves])
    mean = tpr.mean(axis=0)
    if len(curves) == 1:
        return mean, mean, mean
    quantile = float(special.stdtrit(len(curves) - 1, (1 + CONFIDENCE) / 2))
    half = quantile * tpr.std(axis=0, ddof=1) / np.sqrt(len(curves))
    return mean, np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1)


def panel_figure(
    table: pl.DataFrame,
    key: str,
    values: Sequence[Any],
    line: str,
    title: str,
    reference: tuple[str, float, str] | None = None,
) -> Figure:
    """Draw the AUC of one attack over a key, a line for each value of another key.

    Parameters
    ----------
    table : polars.DataFrame
        As of `recmia.sweep.SweepResult`, baselines included; of these, popular-overlap is drawn thin. Where `key` is
        ``"attack"``, all attacks are drawn.
    key : str
    values : sequence
    line : str
    title : str
    reference : (regime, AUC, words), optional
        A level to compare with.

    Returns
    -------
    matplotlib.figure.Figure
    """
    by_attack = key == "attack"
    is_attack = ~pl.col("attack").is_in(list(BASELINES))
    rows = table.filter(pl.col("metric") == "auc", is_attack if by_attack else is_attack | (pl.col("attack") == _RULE))
    rows = rows.with_columns(
        pl.col("regime").alias("section"),
        (~is_attack).alias("thin"),
        pl.when(is_attack).then(pl.col(line)).otherwise(pl.format("{}: {}", line, "attack")).alias("line"),
    )
    return _lines(rows, (key, values), title, reference)


def frontier_figure(table: pl.DataFrame, level: float, title: str) -> Figure:
    """Draw privacy against utility, a column of axes for each regime: AUC above, TPR at an FPR of 1% below.

    Parameters
    ----------
    table : polars.DataFrame
        As of `recmia.defend.DefendResult`.
    level : float
        The AUC to stay under.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    regimes = table["regime"].unique(maintain_order=True).to_list()
    families = list(dict.fromkeys(defence_family(name) for name in table["defence"]))
    colours = dict(zip([one for one in families if one not in _MARKED], cycle(_MANY_COLOURS), strict=False))
    markers = dict(zip(families, cycle("osD^vPX<>"), strict=False))
    figure = Figure(figsize=(5.2 * len(regimes) + 2.4, 9), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    grid = figure.subplots(2, len(regimes), squeeze=False, sharex="col")
    for row, (name, words) in enumerate((("auc", "AUC"), ("tpr", "TPR at an FPR of 1%"))):
        for axes, regime in zip(grid[row], regimes, strict=True):
            points = table.filter(pl.col("regime") == regime, pl.col(name).is_not_null())
            for family in families:
                part = points.filter(pl.col("defence").map_elements(defence_family, pl.String) == family)
                if len(part):
                    _frontier_points(axes, part, name, family, colours.get(family, "black"), markers[family])
            ends = (0.45, 1.03) if name == "auc" else (-0.03, 1.03)
            axes.set(ylabel=f"{words} of the strongest attack" if regime == regimes[0] else "", ylim=ends)
            axes.grid(color="0.92")
            axes.spines[["top", "right"]].set_visible(False)
            if row == 0:
                axes.set_title(f"{regime}: {REGIME_WORDS[regime]}", loc="left", fontsize=10)
                axes.axhline(0.5, color="0.6", linewidth=1, zorder=0)
                axes.axhline(level, color="0.2", linewidth=1, linestyle="--", zorder=0, label=f"the level: {level:g}")
            else:
                axes.axhline(0.01, color="0.6", linewidth=1, zorder=0, label="a coin")
                axes.set_xlabel("NDCG@10 over all users")
    handles = {
        label: handle for axes in grid.ravel() for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside right center", frameon=False, fontsize=9)
    return figure


# Tol's muted palette, for more lines than Okabe and Ito have colours.
_MANY_COLOURS = (
    "#332288", "#88CCEE", "#117733", "#CC6677", "#AA4499", "#44AA99", "#999933", "#882255", "#DDAA33",
)  # fmt: skip
# The points that others are compared with.
_MARKED = ("none", "popularity-only")


def defence_family(defence: str) -> str:
    """The defences of a setting without their strengths."""
    return "+".join(part.partition("=")[0] for part in defence.split("+"))


def _frontier_points(axes: Axes, rows: pl.DataFrame, name: str, family: str, colour: str, marker: str) -> None:
    x, y = rows["ndcg@10"].to_numpy(), rows[name].to_numpy()
    spans = [
        np.abs(np.stack([value - rows[f"{key}_low"].to_numpy(), rows[f"{key}_high"].to_numpy() - value]))
        for key, value in (("ndcg@10", x), (name, y))
    ]
    marked = family in _MARKED
    axes.errorbar(
        x, y, yerr=spans[1], xerr=spans[0], color=colour, marker="*" if family == "none" else marker,
        markersize=13 if marked else 6, markerfacecolor="white" if family == "popularity-only" else colour,
        linewidth=1, elinewidth=0.7, linestyle="" if marked else "-", label=family, zorder=3 if marked else 2,
    )  # fmt: skip
    for row, at, value in zip(rows.iter_rows(named=True), x, y, strict=True):
        strengths = ", ".join(part.partition("=")[2] for part in row["defence"].split("+") if "=" in part)
        if strengths:
            axes.annotate(strengths, (at, value), (4, 5), textcoords="offset points", fontsize=7, color=colour)


def sweep_figure(table: pl.DataFrame, axes: Mapping[str, Sequence[Any]], title: str) -> Figure | None:
    """Draw the AUC over one swept key as lines, over two as heat maps.

    Parameters
    ----------
    table : polars.DataFrame
        As of `recmia.sweep.SweepResult`.
    axes : mapping of str to sequence
        The swept keys and their values.
    title : str

    Returns
    -------
    matplotlib.figure.Figure or None
        None for three keys or more: a table then says more than a figure.
    """
    if len(axes) > 2:
        return None
    rows = table.filter(metric="auc")
    levels = rows["knowledge"].n_unique()
    rows = rows.with_columns(
        pl.struct("knowledge", "regime")
        .map_elements(lambda row: section(row["knowledge"], row["regime"], levels), return_dtype=pl.String)
        .alias("section")
    )
    (down, *across) = axes.items()
    if across:
        return _heat_maps(rows, down, across[0], title)
    return _lines(rows.with_columns(line="attack", thin=pl.col("attack").is_in(list(BASELINES))), down, title)


def _lines(
    rows: pl.DataFrame,
    axis: tuple[str, Sequence[Any]],
    title: str,
    reference: tuple[str, float, str] | None = None,
) -> Figure:
    """Axes for each section, a line for each `line` of the rows; those that need no model are thin."""
    key, values = axis
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    positive = [value for value in values if value > 0] if numeric else []
    wide = bool(positive) and max(positive) >= 20 * min(positive)
    # A logarithmic axis has no place for 0.
    evenly = not numeric or (wide and len(positive) < len(values))
    place = {value: float(number) if evenly else value for number, value in enumerate(values)}
    sections = rows["section"].unique(maintain_order=True).to_list()
    figure = Figure(figsize=(1.5 + 4.5 * len(sections), 4.6), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    for axes, name in zip(figure.subplots(1, len(sections), squeeze=False)[0], sections, strict=True):
        colours, styles = cycle(_COLOURS), cycle(("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1))))
        marks = cycle("x+1234")
        part = rows.filter(section=name)
        labels = part["line"].unique(maintain_order=True).to_list()
        for number, label in enumerate(labels):
            line = part.filter(line=label)
            # Names have no order and nothing lies between them, so points stand side by side.
            aside = 0 if numeric else 0.08 * (number - (len(labels) - 1) / 2)
            x = [place[value] + aside for value in line[key]]
            if line["thin"][0]:
                style = {"linestyle": next(styles)} if numeric else {"linestyle": "", "marker": next(marks)}
                axes.plot(x, line["value"], color="0.45", linewidth=0.9, label=label, **style)
                continue
            colour = next(colours)
            if numeric:
                axes.plot(x, line["value"], color=colour, marker="o", markersize=4, linewidth=2, label=label, zorder=3)
                axes.fill_between(x, line["low"], line["high"], color=colour, alpha=0.2, linewidth=0, zorder=2)
            else:
                errors = np.array([line["value"] - line["low"], line["high"] - line["value"]])
                axes.errorbar(x, line["value"], errors, color=colour, fmt="o", capsize=3, label=label, zorder=3)
        if reference is not None and reference[0] == name:
            axes.axhline(reference[1], color="0.2", linestyle="--", linewidth=1, label=reference[2])
        axes.axhline(0.5, color="0.6", linestyle=":", linewidth=1)
        if not numeric:
            axes.set_xlim(-0.5, len(values) - 0.5)
        elif wide and not evenly:
            axes.set_xscale("log")
        if len(values) <= 12:
            axes.set_xticks([place[value] for value in values], [str(value) for value in values])
            axes.minorticks_off()
        axes.set(ylim=(0.3, 1.02), xlabel=key, ylabel="AUC, 95% interval")
        axes.set_title(f"{name}: {REGIME_WORDS[name.partition(', ')[0]]}", loc="left", fontsize=10)
        axes.grid(alpha=0.25, linewidth=0.6)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    drawn = {
        label: handle for one in figure.axes for handle, label in zip(*one.get_legend_handles_labels(), strict=True)
    }
    axes.legend(drawn.values(), drawn.keys(), loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False,
                title="thin: needs no model", title_fontsize=8)  # fmt: skip
    return figure


def _heat_maps(
    rows: pl.DataFrame, down: tuple[str, Sequence[Any]], across: tuple[str, Sequence[Any]], title: str
) -> Figure:
    """One map for each section and attack, with the AUC in every cell."""
    sections = rows["section"].unique(maintain_order=True).to_list()
    attacks = [name for name in rows["attack"].unique(maintain_order=True) if name not in BASELINES] or ["shared-list"]
    size = (1.6 + max(3.0, 0.85 * len(across[1])) * len(attacks), 1.2 + max(2.2, 0.6 * len(down[1])) * len(sections))
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    grid = figure.subplots(len(sections), len(attacks), squeeze=False)
    for line, name in zip(grid, sections, strict=True):
        for axes, attack in zip(line, attacks, strict=True):
            found = {
                (row[down[0]], row[across[0]]): row["value"]
                for row in rows.filter(section=name, attack=attack).iter_rows(named=True)
            }
            values = np.array([[found.get((y, x), np.nan) for x in across[1]] for y in down[1]], float)
            drawn = axes.imshow(values, cmap="RdBu_r", vmin=0, vmax=1, aspect="auto")
            for (y, x), value in np.ndenumerate(values):
                dark = abs(value - 0.5) > 0.3
                text = "failed" if np.isnan(value) else f"{value:.2f}"
                axes.text(x, y, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
            axes.set_xticks(range(len(across[1])), [str(value) for value in across[1]], rotation=30, ha="right")
            axes.set_yticks(range(len(down[1])), [str(value) for value in down[1]])
            axes.set(xlabel=across[0], ylabel=down[0])
            axes.set_title(f"{attack}, {name}", loc="left", fontsize=10)
    figure.colorbar(drawn, ax=grid, label="AUC (0.5: a coin)", shrink=0.8)
    return figure

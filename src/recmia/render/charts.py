"""Charts as data: each builder takes values and returns a specification and the data that it draws.

A `Chart` is a Vega-Lite specification, made with Altair, and its data sets. The page draws it as it is;
`recmia.render.layout.picture` puts several into one static picture.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import altair as alt
import numpy as np
import numpy.typing as npt
import polars as pl

from recmia.metrics.intervals import share_ends
from recmia.metrics.roc import Roc
from recmia.render.style import POPULAR, UNDEFENDED, defence_family, fits, is_rule, styles, text_width

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]
Spec: TypeAlias = Mapping[str, Any]
Rows: TypeAlias = Sequence[Mapping[str, Any]]
# Height of a chart of the page; most points of a curve; bars of a histogram; most users drawn; groups of users.
_HEIGHT, _MOST_POINTS, _BINS, _MOST_USERS, _GROUPS = 300, 400, 48, 1500, 10
# Width and height of a tile of a heat map, in pixels.
TILE = (52, 32)
# Width and height, in pixels, of the plot in which the labels of a frontier find their places; size of their text.
FRONTIER, _LABEL = (400, 300), 10
# Where the vertical axis of a frontier ends: above 1, so that a point there is drawn whole.
_TOP = 1.04
# Squares side by side in the picture of a query, what they stand for, and their colours.
_SQUARES = 25
QUERY_STATES = ("asked with", "answered", "hidden, and answered", "hidden, not answered")
QUERY_COLOURS = ("var(--rule)", "var(--line)", "var(--hue-2)", "var(--hue-1)")
_LEGEND = alt.Legend(orient="top", symbolOpacity=1, symbolSize=80, symbolStrokeWidth=0)
_CHANCE: Mapping[str, Any] = MappingProxyType({"strokeDash": [1, 3], "color": "var(--soft)", "strokeWidth": 1})
_LEVEL: Mapping[str, Any] = MappingProxyType({"strokeDash": [6, 4], "color": "var(--ink)", "strokeWidth": 1})


@dataclass(frozen=True)
class Chart:
    """One chart, as data: a Vega-Lite specification and the named data sets that it draws.

    Parameters
    ----------
    spec : mapping
        Without data; colours are CSS variables of the page. A parameter ``shown`` holds the series that are visible.
    data : mapping of str to rows
        By the names that `spec` uses.
    """

    spec: Spec
    data: Mapping[str, Rows]


def digits(value: float | None) -> Any:
    """Return a number with the digits that a figure can show: five.

    >>> digits(0.123456789)
    0.12346
    """
    return None if value is None else float(f"{value:.5g}")


def roc_band(curves: Sequence[Roc], fpr: Float64) -> tuple[Float64, Float64, Float64]:
    """Return the mean, the smallest and the largest TPR of curves at each FPR; float64, shape (len(fpr),) each."""
    tpr = np.array([curve.tpr_at(fpr) for curve in curves])
    return tpr.mean(axis=0), tpr.min(axis=0), tpr.max(axis=0)


def rocs(
    sections: Mapping[str, Mapping[str, Sequence[Roc]]],
    n_nonmembers: int,
    *,
    rules: Collection[str] = (),
    points: int = _MOST_POINTS,
) -> dict[str, dict[str, Chart]]:
    """Return two ROC charts of each section: ``"linear"``, and ``"log"`` with logarithmic axes.

    A curve is the mean TPR at each FPR; with three curves or more it has a band, from the smallest to the largest. Both
    views of a section have the same data, and an attack has the same colour in every section.

    Parameters
    ----------
    sections : mapping of section to a mapping of attack to the ROC of each target of each seed
    n_nonmembers : int
        Decides which FPRs there are; logarithmic axes start at the smallest above 0.
    rules : collection of str
        Attacks that need no model.
    points : int
        Most points of a curve.
    """
    series = list(dict.fromkeys(attack for curves in sections.values() for attack in curves))
    finest: Mapping[str, float | None] = {"linear": None, "log": 1 / n_nonmembers}
    drawn = {}
    for section, curves in sections.items():
        data = _roc_data(curves, n_nonmembers, rules, points)
        drawn[section] = {
            view: Chart(_roc_spec(series, list(curves), rules, rate), data) for view, rate in finest.items()
        }
    return drawn


def _roc_data(
    curves: Mapping[str, Sequence[Roc]], n_nonmembers: int, rules: Collection[str], points: int
) -> Mapping[str, Rows]:
    grid = _rates(n_nonmembers, points)
    bands = {attack: roc_band(of, grid) for attack, of in curves.items()}
    # Where no curve moves, nothing is lost.
    moves = np.any([np.diff(band, prepend=-1.0) != 0 for three in bands.values() for band in three], axis=0)
    # The first is where the logarithmic axis starts.
    moves[[1, -1]] = True
    fpr = [digits(rate) for rate in grid[moves].tolist()]
    # Rules first, so that attacks are drawn over them.
    shown = {
        attack: [[digits(tpr) for tpr in band[moves].tolist()] for band in bands[attack]]
        for attack in sorted(bands, key=lambda attack: not is_rule(attack, rules))
    }
    return {
        "curves": [{"series": attack, "fpr": fpr, "tpr": of[0]} for attack, of in shown.items()],
        "bands": [
            {"series": attack, "fpr": fpr, "low": of[1], "high": of[2]}
            for attack, of in shown.items()
            # Two curves cannot tell how much a third would differ.
            if not is_rule(attack, rules) and len(curves[attack]) > 2
        ],
    }


def _rates(n_nonmembers: int, points: int) -> Float64:
    """False-positive rates to draw: all there are, or evenly spread on both scales."""
    if n_nonmembers < points:
        return np.arange(n_nonmembers + 1) / n_nonmembers
    counts = np.concatenate([np.linspace(0, n_nonmembers, points // 2), np.geomspace(1, n_nonmembers, points // 2)])
    return np.unique(np.rint(counts)) / n_nonmembers


def _roc_spec(series: Sequence[str], present: Sequence[str], rules: Collection[str], finest: float | None) -> Spec:
    """One chart of the `present` ones among all series of the figure."""
    logarithmic = finest is not None
    floor = finest / 2 if finest is not None else 0.0
    scale: dict[str, Any] = {"type": "log", "nice": False} if logarithmic else {}
    # Every line of a logarithmic grid would be too many.
    ticks: dict[str, Any] = {"tickCount": 5} if finest is None else {"values": _decades(finest)}
    axis = alt.Axis(format="~%", **ticks)
    ends = alt.Scale(domain=[finest or 0, 1], **scale)
    x = alt.X("fpr:Q", title="FPR: non-members wrongly called members", scale=ends, axis=axis)
    y: dict[str, Any] = {"title": "TPR: members found", "scale": alt.Scale(domain=[floor, 1], **scale), "axis": axis}
    colour, dash = _encodings(series, rules)
    # A logarithmic axis has no place for 0.
    left = "datum.fpr > 0" if logarithmic else "true"

    def drawn(column: str) -> str:
        return f"max(datum.{column}, {floor})"

    bands = (
        alt.Chart(alt.NamedData("bands"))
        .transform_flatten(["fpr", "low", "high"])
        .transform_filter(left)
        .transform_calculate(bottom=drawn("low"), top=drawn("high"))
        .mark_area(interpolate="step-after", clip=True)
        .encode(x=x, y=alt.Y("bottom:Q", **y), y2="top:Q", color=colour, opacity=_visible(0.16))
    )
    curves = alt.Chart(alt.NamedData("curves")).transform_flatten(["fpr", "tpr"])
    if logarithmic:
        curves = curves.transform_filter(left)
    lines = (
        curves.transform_calculate(drawn=drawn("tpr"), rule=_among(_thin(series, rules)))
        # Not clipped: a curve along the edge would lose half of its width, and none leaves the axes.
        .mark_line(interpolate="step-after")
        .encode(
            x=x,
            y=alt.Y("drawn:Q", **y),
            color=colour,
            strokeDash=dash,
            size=alt.condition("datum.rule", alt.value(1.1), alt.value(2.2)),
            opacity=_visible(1),
        )
    )
    chance = (
        alt.Chart(alt.InlineData([{"fpr": end, "drawn": end} for end in (finest or 0.0, 1.0)]))
        .mark_line(**_CHANCE)
        .encode(x=x, y=alt.Y("drawn:Q", **y))
    )
    near = alt.selection_point(
        name="near", nearest=True, on="pointermove", clear="pointerout", fields=["fpr"], empty=False
    )
    hover = (
        curves.transform_pivot("series", value="tpr", groupby=["fpr"])
        .mark_rule(color="var(--soft)")
        .encode(
            x=x,
            opacity=alt.condition(near, alt.value(0.9), alt.value(0)),
            tooltip=[
                alt.Tooltip("fpr:Q", title="FPR", format=".2~%"),
                *(alt.Tooltip(field=_field(name), type="quantitative", title=name, format=".1%") for name in present),
            ],
        )
        .add_params(near)
        # Altair would number it on from one chart to the next.
        .properties(name="hover")
    )
    return _spec(alt.layer(chance, bands, lines, hover).add_params(_shown(series)), _HEIGHT)


def _decades(finest: float) -> list[float]:
    """Powers of ten from `finest` to 1, with twice and five times as much where these are few."""
    powers = range(math.floor(math.log10(finest)), 1)
    digits_ = (1, 2, 5) if finest > 0.003 else (1,)
    return [one for one in (digit * 10.0**power for power in powers for digit in digits_) if finest / 2 <= one <= 1]


def intervals(rows: Rows, *, rules: Collection[str] = (), lowest: float | None = None) -> Chart:
    """Return a chart of the AUC of every attack and rule, with its interval.

    Parameters
    ----------
    rows : sequence of mappings with series, value, low, high
        In the order in which they are drawn.
    rules : collection of str
    lowest : float, optional
        Smallest AUC that the axis has to show, for charts side by side to have the same axis.
    """
    values = [{"series": row["series"], **_figures(row)} for row in rows]
    series = [row["series"] for row in values]
    colour, _ = _encodings(series, rules)
    base = alt.Chart(alt.NamedData("values")).encode(
        y=alt.Y("series:N", sort=series, title=None, axis=alt.Axis(labelLimit=160, domain=False, ticks=False)),
        color=colour,
        tooltip=_tooltip(alt.Tooltip("series:N", title="attack")),
    )
    floor = round(10 * _floor([*lows_of(values), *([] if lowest is None else [lowest])]))

    def x(column: str) -> alt.X:
        return alt.X(f"{column}:Q", title="AUC, 95% interval (0.5: chance)", scale=alt.Scale(domain=[floor / 10, 1]),
                     axis=alt.Axis(values=[tenth / 10 for tenth in range(floor, 11)], format=".1f",
                                   labelOverlap="greedy", labelSeparation=8))  # fmt: skip

    chance = alt.Chart(alt.InlineData([{"low": 0.5}])).mark_rule(**_CHANCE)
    bars = base.mark_rule(strokeWidth=2).encode(x=x("low"), x2="high:Q")
    points = base.mark_point(filled=True, size=45, opacity=1).encode(x=x("value"))
    return Chart(_spec(alt.layer(chance.encode(x=x("low")), bars, points), 24 * len(series) + 8), {"values": values})


def distribution(member: Bool, score: Float64) -> Chart:
    """Return histograms of the scores of members and of non-members, as shares.

    Parameters
    ----------
    member : bool, shape (n,)
    score : float64, shape (n,)
        The outermost bars contain the lowest and the highest half percent.
    """
    kinds = ["members", "non-members"]
    colour = alt.Color("kind:N", title=None, scale=alt.Scale(domain=kinds, range=["var(--hue-2)", "var(--hue-1)"]),
                       legend=_LEGEND)  # fmt: skip
    dash = alt.StrokeDash("kind:N", title=None, legend=_LEGEND, scale=alt.Scale(domain=kinds, range=[[1, 0], [5, 2]]))
    bins = alt.Chart(alt.NamedData("bins"))
    long = bins.transform_fold([*kinds], as_=["kind", "share"])
    x = alt.X(
        "start:Q",
        bin="binned",
        title="Score (higher: more like a member)",
        scale=alt.Scale(zero=False, nice=False),
        axis=alt.Axis(tickCount=6, format=".6~g"),
    )
    y = alt.Y("share:Q", title="Share of users", stack=None, axis=alt.Axis(format="~%", tickCount=4))
    bars = long.mark_bar(opacity=0.22, binSpacing=0).encode(x=x, x2="end:Q", y=y, color=colour)
    lines = long.mark_line(interpolate="step-after", strokeWidth=1.6).encode(
        x="start:Q", y=y, color=colour, strokeDash=dash
    )
    hover = (
        bins.transform_calculate(top=f"max(datum['{kinds[0]}'], datum['{kinds[1]}'])")
        .mark_bar(opacity=0, binSpacing=0)
        .encode(
            x=x,
            x2="end:Q",
            y=alt.Y("top:Q", stack=None),
            tooltip=[
                alt.Tooltip("start:Q", title="score from", format=".3~g"),
                alt.Tooltip("end:Q", title="to", format=".3~g"),
                *(alt.Tooltip(field=kind, type="quantitative", title=kind, format=".1%") for kind in kinds),
            ],
        )
    )
    return Chart(_spec(alt.layer(bars, lines, hover), 240), {"bins": _bins(member, score)})


# The most dots of a group.
_DOTS = 400


def groups(scores: Mapping[str, Float64]) -> Chart:
    """Return a chart of the scores of groups of users, a row for each group and a dot for each user.

    Parameters
    ----------
    scores : mapping of str to float64
        By the name of the group, in order. Of a large group some users are drawn, evenly by their scores; scores beyond
        the lowest and the highest half percent of all are drawn at these.
    """
    low, high = np.quantile(np.concatenate(list(scores.values())), (0.005, 0.995))
    dots: list[Mapping[str, Any]] = []
    for number, (name, values) in enumerate(scores.items()):
        ordered = np.sort(values)
        picked = ordered[np.linspace(0, len(ordered) - 1, min(len(ordered), _DOTS)).round().astype(int)]
        # Neighbours are spread over the height of the row, evenly and the same in each drawing.
        offset = (np.arange(len(picked)) * 0.618 % 1 - 0.5) * 0.7
        dots += [
            {"group": name, "score": digits(float(value)), "y": digits(float(number + shift))}
            for value, shift in zip(np.clip(picked, low, high), offset, strict=True)
        ]
    names = list(scores)
    marks = (
        alt.Chart(alt.NamedData("dots"))
        .mark_circle(size=28, opacity=0.65)
        .encode(
            x=alt.X("score:Q", title="Score (higher: more like a member)", scale=alt.Scale(zero=False),
                    axis=alt.Axis(tickCount=6, format=".6~g")),
            y=alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[len(names) - 0.4, -0.75], nice=False, zero=False)),
            color=alt.Color("group:N", legend=None, scale=alt.Scale(domain=names, range=list(_GROUP_COLOURS))),
            tooltip=["group:N", alt.Tooltip("score:Q", format=".3~g")],
        )
    )  # fmt: skip
    labels: Rows = [
        {"words": f"{name} ({len(scores[name]):,})", "y": number - 0.52} for number, name in enumerate(names)
    ]
    texts = (
        alt.Chart(alt.NamedData("names"))
        .mark_text(align="left", baseline="middle", color="var(--ink)", fontSize=12)
        .encode(x=alt.value(4), y="y:Q", text="words:N")
    )
    return Chart(_spec(alt.layer(marks, texts), 90 * len(names)), {"dots": dots, "names": labels})


_GROUP_COLOURS = ("var(--hue-2)", "var(--hue-3)", "var(--hue-1)")


def _bins(member: Bool, score: Float64) -> Rows:
    """Histograms of members and non-members over the same bins, as shares; the outermost contain what lies beyond."""
    low, high = np.quantile(score, (0.005, 0.995))
    if low == high:
        low, high = float(score.min()), float(score.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    inside = np.clip(score, low, high)
    shares = [np.histogram(inside[kind], edges)[0] / kind.sum() for kind in (member, ~member)]
    # The last closes the outline.
    rows = zip(edges, [*edges[1:], edges[-1]], [*shares[0], 0.0], [*shares[1], 0.0], strict=True)
    return [
        {"start": digits(start), "end": digits(end), "members": digits(of), "non-members": digits(other)}
        for start, end, of, other in rows
    ]


def per_user_auc(users: pl.DataFrame, column: str, title: str, *, logarithmic: bool = False) -> Chart:
    """Return a chart of the AUC of each user over `column`, with means of groups of equal size and 95% intervals.

    Parameters
    ----------
    users : polars.DataFrame
        With user_id, auc, low, high, history_length, rarity, identifiable and `column`. Of more than 1500 users every
        n-th is drawn; the groups are of all.
    column, title : str
        What the horizontal axis shows.
    logarithmic : bool
        The horizontal axis.
    """
    scale = alt.Scale(type="log", nice=False) if logarithmic else alt.Scale(zero=False, nice=True)
    axis = alt.Axis(tickCount=5, format="~s" if logarithmic else ".6~g")
    names = ["individually identified", "not identified"]
    points = (
        alt.Chart(alt.NamedData("users"))
        .transform_calculate(kind=f"datum.identified ? '{names[0]}' : '{names[1]}'")
        .mark_point(filled=True, fillOpacity=0.65)
        .encode(
            x=alt.X(f"{column}:Q", title=title, scale=scale, axis=axis),
            y=alt.Y("auc:Q", title="AUC of the user", scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("kind:N", title=None, scale=alt.Scale(domain=names, range=["var(--hue-2)", "var(--rule)"]),
                            legend=_LEGEND),
            shape=alt.Shape("kind:N", title=None, scale=alt.Scale(domain=names, range=["diamond", "circle"]),
                            legend=_LEGEND),
            size=alt.condition("datum.identified", alt.value(60), alt.value(26)),
            tooltip=[
                alt.Tooltip("user:N", title="user"),
                alt.Tooltip("auc:Q", title="AUC", format=".2f"),
                alt.Tooltip("low:Q", title="from", format=".2f"),
                alt.Tooltip("high:Q", title="to", format=".2f"),
                alt.Tooltip("history_length:Q", title="history", format=","),
                alt.Tooltip("rarity:Q", title="rarity of taste", format=".2f"),
            ],
        )
    )  # fmt: skip
    groups = alt.Chart(alt.NamedData("groups"))
    band = groups.mark_area(opacity=0.2, color="var(--ink)").encode(x="x:Q", y="low:Q", y2="high:Q")
    line = groups.mark_line(color="var(--ink)", strokeWidth=2).encode(x="x:Q", y="mean:Q")
    chance = alt.Chart(alt.InlineData([{"auc": 0.5}])).mark_rule(**_CHANCE).encode(y="auc:Q")
    drawn = users.gather_every(math.ceil(len(users) / _MOST_USERS)).select(
        pl.col("user_id").cast(pl.String).alias("user"),
        pl.col("auc", "low", "high", "rarity").round(3),
        "history_length",
        pl.col("identifiable").alias("identified"),
    )
    return Chart(
        _spec(alt.layer(chance, points, band, line), 280),
        {"users": drawn.to_dicts(), "groups": _equal_groups(users, column)},
    )


def query_example(example: Mapping[str, Any]) -> Chart:
    """Return a chart of one query: what was asked with, the answer, and the hidden part, a square for each item.

    Parameters
    ----------
    example : mapping
        As of `recmia.game.disclosure.examples`.
    """
    hits, hidden, k = example["hits"], example["hidden"], example["k"]
    states = QUERY_STATES
    back = f"the hidden part of the history: {len(hits)} of its {hidden} items came back"
    if hidden == 1:
        back = f"the hidden item: it {'came back' if hits else 'did not come back'}"
    blocks = [
        (f"asked with {example['asked']} items of the history", [states[0]] * example["asked"]),
        (f"the answer, best first: {k} items", [states[2 if rank in set(hits) else 1] for rank in range(1, k + 1)]),
        (back, [states[2]] * len(hits) + [states[3]] * (hidden - len(hits))),
    ]
    squares, labels, line = [], [], 0
    for words, items in blocks:
        labels.append({"x": 0, "y": line, "words": words})
        line += 1
        squares += [
            {"x": place % _SQUARES, "y": line + place // _SQUARES, "state": state} for place, state in enumerate(items)
        ]
        line += -(-len(items) // _SQUARES) + 1
    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[-0.5, _SQUARES - 0.5], nice=False))
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[line - 1, -0.7], nice=False, zero=False))
    colour = alt.Color(
        "state:N",
        title=None,
        scale=alt.Scale(domain=list(states), range=list(QUERY_COLOURS)),
        # Two lines: in one, the last word is cut off on a page.
        legend=alt.Legend(orient="top", columns=2, symbolOpacity=1, symbolSize=80, symbolStrokeWidth=0),
    )
    marks = (
        alt.Chart(alt.NamedData("squares"))
        .mark_point(shape="square", filled=True, size=110, opacity=1)
        .encode(x=x, y=y, color=colour)
    )
    texts = (
        alt.Chart(alt.NamedData("labels"))
        .mark_text(align="left", baseline="middle", dx=-6, color="var(--ink)", fontSize=12)
        .encode(x=x, y=y, text="words:N")
    )
    return Chart(_spec(alt.layer(marks, texts), 15 * line), {"squares": squares, "labels": labels})


def _equal_groups(users: pl.DataFrame, column: str) -> Rows:
    """Mean AUC of users in groups of equal size by `column`, with its 95% interval; see `share_ends`."""
    ordered = users.sort(column, maintain_order=True)
    groups = []
    for part in np.array_split(np.arange(len(ordered)), min(_GROUPS, len(ordered))):
        values, auc = ordered[column].to_numpy()[part], ordered["auc"].to_numpy()[part]
        low, high = share_ends(auc)
        groups.append({"x": digits(float(np.median(values))), "mean": digits(float(auc.mean())),
                       "low": digits(float(low)), "high": digits(float(high)),
                       "from": digits(float(values[0])), "to": digits(float(values[-1])),
                       "users": len(auc)})  # fmt: skip
    return groups


def sweep_lines(
    table: pl.DataFrame,
    key: str,
    values: Sequence[Any],
    *,
    line: str = "attack",
    series: Sequence[str] = (),
    rules: Collection[str] = (),
    lowest: float | None = None,
    reference: float | None = None,
) -> Chart:
    """Return a chart of the AUC over one key: lines with bands over numbers, points with bars over names.

    Numbers that span a factor of 20 or more are on a logarithmic scale, or side by side if 0 is among them.

    Parameters
    ----------
    table : polars.DataFrame
        One section's AUCs: columns `key`, `line`, value, low, high.
    key : str
    values : sequence
        All values of the key; those without a row are marked as failed.
    line : str
        The column that tells one line from another.
    series : sequence of str
        All lines of the figure, where this chart shows some; decides the colours.
    rules : collection of str
        Lines that need no model.
    lowest : float, optional
        Smallest AUC that the axis has to show, for charts side by side to have the same axis.
    reference : float, optional
        A level to compare with.
    """
    series = list(series) or table[line].unique(maintain_order=True).to_list()
    scale = sweep_scale(values)
    # 0 and 0.0 are one value, though not one text.
    place = {value: str(value) if scale in ("names", "even") else value for value in values}
    rows = [{"series": row[line], "x": place[row[key]], **_figures(row)} for row in table.iter_rows(named=True)]
    # Rules first, so that attacks are drawn over them.
    rows.sort(key=lambda row: not is_rule(row["series"], rules))
    floor = _floor([*lows_of(rows, rules=rules), *([] if lowest is None else [lowest])])
    done = {row["x"] for row in rows}
    failed = [{"x": one, "value": floor} for one in place.values() if one not in done]

    positions = [str(value) for value in values]
    if scale == "names":
        axis = alt.Axis(labelAngle=0 if fits(positions, 360 / len(positions)) else -30, labelLimit=140)
        x = alt.X("x:N", title=key, sort=positions, scale=alt.Scale(domain=positions), axis=axis)
    elif scale == "even":
        x = alt.X("x:O", title=key, scale=alt.Scale(type="point", domain=positions), axis=alt.Axis(labelAngle=0))
    else:
        # Given, since a layer without rows would have none.
        ends = [min(values), max(values)]
        numbers = (
            alt.Scale(type="log", nice=False, domain=ends)
            if scale == "log"
            else alt.Scale(zero=False, nice=False, padding=12, domain=ends)
        )
        x = alt.X("x:Q", title=key, scale=numbers,
                  axis=alt.Axis(values=list(values), format=".6~g", labelOverlap="greedy"))  # fmt: skip
    # Names have no order and nothing lies between them, so points stand side by side.
    offset: dict[str, Any] = {"xOffset": alt.XOffset("series:N", sort=series)} if scale == "names" else {}
    colour, dash = _encodings(series, rules)
    base = alt.Chart(alt.NamedData("values")).encode(x=x, color=colour, **offset)
    y: dict[str, Any] = {"title": "AUC, 95% interval", "scale": alt.Scale(domain=[floor, 1])}
    thin = _among(_thin(series, rules))
    points = base.mark_point(filled=True, opacity=1).encode(
        y=alt.Y("value:Q", **y),
        opacity=_visible(1),
        size=alt.condition(thin, alt.value(28 if scale == "names" else 18), alt.value(50)),
        tooltip=_tooltip(alt.Tooltip("series:N", title="attack" if line == "attack" else line),
                         alt.Tooltip("x:N", title=key)),
    )  # fmt: skip
    if scale == "names":
        bars = (
            base.transform_filter(f"!({thin})")
            .mark_rule(strokeWidth=1.8)
            .encode(y=alt.Y("low:Q", **y), y2="high:Q", opacity=_visible(1))
        )
        chosen = styles(series, rules)
        shapes = alt.Scale(domain=series, range=[chosen[name].shape for name in series])
        layers = [bars, points.encode(shape=alt.Shape("series:N", legend=None, scale=shapes))]
    else:
        band = (
            base.transform_filter(f"!({thin})")
            .mark_area()
            .encode(y=alt.Y("low:Q", **y), y2="high:Q", opacity=_visible(0.16))
        )
        stroke = base.mark_line().encode(
            y=alt.Y("value:Q", **y),
            strokeDash=dash,
            opacity=_visible(1),
            size=alt.condition(thin, alt.value(1.1), alt.value(2.2)),
        )
        layers = [band, stroke, points]
    words = (
        alt.Chart(alt.NamedData("failed"))
        .mark_text(text="failed", color="var(--soft)", dy=-8, fontSize=11)
        .encode(x=x, y=alt.Y("value:Q", **y))
    )
    levels = [alt.Chart(alt.InlineData([{"low": 0.5}])).mark_rule(**_CHANCE).encode(y=alt.Y("low:Q", **y))]
    if reference is not None:
        level = alt.Chart(alt.InlineData([{"low": reference}])).mark_rule(**_LEVEL)
        levels.append(level.encode(y=alt.Y("low:Q", **y)))
    chart = alt.layer(*levels, *layers, words).add_params(_shown(series))
    return Chart(_spec(chart, _HEIGHT), {"values": rows, "failed": failed})


def sweep_scale(values: Sequence[Any]) -> Literal["names", "even", "log", "linear"]:
    """Return how the values of a swept key are placed on an axis: as names, side by side, or by their size.

    >>> sweep_scale([5, 10, 20]), sweep_scale([1, 100]), sweep_scale([0, 1, 100]), sweep_scale(["lfm", "ease"])
    ('linear', 'log', 'even', 'names')
    """
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return "names"
    positive = [value for value in values if value > 0]
    if not positive or max(positive) < 20 * min(positive):
        return "linear"
    # A logarithmic axis has no place for 0.
    return "log" if len(positive) == len(values) else "even"


def heat_map(table: pl.DataFrame, down: str, across: str, values: Mapping[str, Sequence[Any]]) -> Chart:
    """Return a heat map of the AUC over two keys: the farther from 0.5, the stronger the colour; blue below 0.5.

    Parameters
    ----------
    table : polars.DataFrame
        The AUCs of one attack in one section: columns `down`, `across`, value, low, high.
    down, across : str
    values : mapping of str to sequence
        All values of both keys; pairs without a row are marked as failed.
    """
    found = {(row[down], row[across]): row for row in table.iter_rows(named=True)}
    order = {key: [str(value) for value in values[key]] for key in (down, across)}
    rows = [
        {"down": str(y), "across": str(x), **_figures(found.get((y, x), {}))}
        for y, x in product(values[down], values[across])
    ]
    base = alt.Chart(alt.NamedData("values")).encode(
        x=alt.X("across:N", title=across, sort=order[across],
                axis=alt.Axis(labelAngle=0 if fits(order[across], TILE[0]) else -30, labelLimit=140, domain=False,
                              ticks=False)),
        y=alt.Y("down:N", title=down, sort=order[down], axis=alt.Axis(domain=False, ticks=False, labelLimit=140)),
        tooltip=_tooltip(alt.Tooltip("down:N", title=down), alt.Tooltip("across:N", title=across)),
    )  # fmt: skip
    tiles = (
        base.transform_filter("isValid(datum.value)")
        .transform_calculate(strength="abs(datum.value - 0.5)")
        .mark_rect(stroke="var(--card)", strokeWidth=2)
        .encode(
            color=alt.condition("datum.value < 0.5", alt.value("var(--hue-1)"), alt.value("var(--hue-2)")),
            # Never so strong that the number in it could not be read.
            opacity=alt.Opacity("strength:Q", legend=None, scale=alt.Scale(domain=[0, 0.5], range=[0.03, 0.5])),
        )
    )
    figures = (
        base.transform_calculate(text="isValid(datum.value) ? format(datum.value, '.2f') : 'failed'")
        .mark_text(fontSize=13)
        .encode(
            text="text:N",
            color=alt.condition("isValid(datum.value)", alt.value("var(--ink)"), alt.value("var(--soft)")),
        )
    )
    return Chart(_spec(alt.layer(tiles, figures), 42 * len(values[down])), {"values": rows})


def frontier(
    table: pl.DataFrame,
    measure: Literal["auc", "tpr"],
    level: float,
    *,
    families: Sequence[str] = (),
    lowest: float | None = None,
) -> Chart:
    """Return a chart of leakage over utility, one point for each defence: best is low and to the right.

    Parameters
    ----------
    table : polars.DataFrame
        One regime's rows of `recmia.results.defend.DefendResult.table`: defence, auc, tpr and ndcg@10, each also with
        ``_low`` and ``_high``. Settings of one family are joined in the order of the rows.
    measure : str
        "auc", or "tpr": the TPR at an FPR of 1%.
    level : float
        The AUC to stay under; drawn for "auc".
    families : sequence of str
        All families of the figure (see `defence_family`); decides the colours.
    lowest : float, optional
        Smallest AUC that the axis has to show, for charts side by side to have the same axis.
    """
    families = list(families) or list(dict.fromkeys(map(defence_family, table["defence"])))
    ends = [f"{key}{end}" for key in ("auc", "tpr", "ndcg@10") for end in ("", "_low", "_high")]
    rows = [
        {"defence": row["defence"], "series": defence_family(row["defence"]), "place": number}
        | {end.replace("ndcg@10", "worth"): digits(row[end]) for end in ends}
        for number, row in enumerate(table.iter_rows(named=True))
    ]
    drawn = [row for row in rows if row[measure] is not None]
    if measure == "auc":
        bottom = _floor([*(row["auc_low"] for row in drawn), *([] if lowest is None else [lowest])])
    else:
        bottom = 0.0
    worths = [row[f"worth{end}"] for row in drawn for end in ("_low", "_high")]
    span = (min(worths, default=0.0), max(worths, default=1.0))
    labels = _place_labels(drawn, measure, span, bottom)

    chosen = styles(families)
    colours, dashes, marks = (
        alt.Scale(domain=families, range=[list(part) if isinstance(part, tuple) else part for part in parts])
        for parts in zip(
            *((chosen[one].colour, chosen[one].dashes, chosen[one].shape) for one in families), strict=True
        )
    )
    words = {"auc": "AUC of the strongest attack", "tpr": "Members found at an FPR of 1%"}[measure]

    def y(column: str) -> alt.Y:
        return alt.Y(f"{column}:Q", title=words, scale=alt.Scale(domain=[bottom, _TOP]))

    def x(column: str) -> alt.X:
        return alt.X(f"{column}:Q", title="NDCG@10 over all users", axis=alt.Axis(tickCount=6),
                     scale=alt.Scale(zero=False, domain=list(span), nice=True))  # fmt: skip

    base = (
        alt.Chart(alt.NamedData("values"))
        .transform_filter(f"isValid(datum.{measure})")
        .encode(color=alt.Color("series:N", legend=None, scale=colours))
    )
    levels: dict[float, Mapping[str, Any]] = {0.5: _CHANCE, level: _LEVEL} if measure == "auc" else {0.01: _CHANCE}
    points = base.encode(
        x=x("worth"),
        y=y(measure),
        shape=alt.Shape("series:N", legend=None, scale=marks),
        opacity=_visible(1),
        size=alt.condition(f"datum.series === '{UNDEFENDED}'", alt.value(200), alt.value(75)),
        tooltip=[
            alt.Tooltip("defence:N", title="defence"),
            alt.Tooltip("auc:Q", title="AUC", format=".3f"),
            alt.Tooltip("tpr:Q", title="TPR at FPR 1%", format=".2f"),
            alt.Tooltip("worth:Q", title="NDCG@10", format=".3f"),
        ],
    )
    popular = f"datum.series === '{POPULAR}'"
    layers = [
        *(
            alt.Chart(alt.InlineData([{str(measure): at}])).mark_rule(**look).encode(y=y(measure))
            for at, look in levels.items()
        ),
        base.mark_rule().encode(x=x("worth"), y=y(f"{measure}_low"), y2=f"{measure}_high:Q", opacity=_visible(0.35)),
        base.mark_rule().encode(x=x("worth_low"), x2="worth_high:Q", y=y(measure), opacity=_visible(0.35)),
        base.mark_line(strokeWidth=1.2).encode(
            x=x("worth"),
            y=y(measure),
            strokeDash=alt.StrokeDash("series:N", legend=None, scale=dashes),
            opacity=_visible(0.8),
            order="place:Q",
        ),
        points.transform_filter(f"!({popular})").mark_point(filled=True),
        points.transform_filter(popular).mark_point(fill="var(--card)", strokeWidth=2),
        alt.Chart(alt.NamedData(f"labels-{measure}"))
        .mark_text(
            fontSize=10,
            align=alt.ExprRef("datum.align"),
            dx=alt.ExprRef("datum.dx"),
            dy=alt.ExprRef("datum.dy"),
            baseline="middle",
        )
        .encode(
            x=x("worth"),
            y=y("at"),
            text="text:N",
            color=alt.Color("series:N", legend=None, scale=colours),
            opacity=_visible(1),
        ),
    ]
    chart = alt.layer(*layers).add_params(_shown(families))
    return Chart(_spec(chart, _HEIGHT), {"values": rows, f"labels-{measure}": labels})


def _place_labels(rows: Rows, measure: str, span: tuple[float, float], bottom: float) -> Rows:
    """Place the strength of each defence beside its point, where it covers no other point and no other label.

    Labels without such a place are left out: the table has them, and the tooltips of the page.
    """
    width, height = FRONTIER
    spread = span[1] - span[0] or 1.0
    at = [(width * (row["worth"] - span[0]) / spread, height * (_TOP - row[measure]) / (_TOP - bottom)) for row in rows]
    boxes = [(x - 4, y - 4, x + 4, y + 4) for x, y in at]
    labels = []
    for row, (x, y) in zip(rows, at, strict=True):
        text = ", ".join(part.partition("=")[2] for part in row["defence"].split("+") if "=" in part)
        if not text:
            continue
        wide = text_width(text, _LABEL) * 0.85
        for dy, (align, dx) in product((-7, 8, 0, -18, 19, 30, 41), (("left", 6), ("right", -6), ("center", 0))):
            if dy == 0 and align == "center":
                continue
            left = x + dx - {"left": 0.0, "right": wide, "center": wide / 2}[align]
            box = (left, y + dy - _LABEL / 2, left + wide, y + dy + _LABEL / 2)
            apart = all(box[2] < one[0] or one[2] < box[0] or box[3] < one[1] or one[3] < box[1] for one in boxes)
            if apart and box[1] >= 0 and box[3] <= height and box[0] >= 0 and box[2] <= width + 10:
                boxes.append(box)
                labels.append({"series": row["series"], "worth": row["worth"], "at": row[measure], "text": text,
                               "align": align, "dx": dx, "dy": dy})  # fmt: skip
                break
    return labels


# Parts that charts share.


def _encodings(series: Sequence[str], rules: Collection[str]) -> tuple[alt.Color, alt.StrokeDash]:
    chosen = styles(series, rules)
    colours = alt.Scale(domain=list(series), range=[chosen[name].colour for name in series])
    dashes = alt.Scale(domain=list(series), range=[list(chosen[name].dashes) for name in series])
    return alt.Color("series:N", legend=None, scale=colours), alt.StrokeDash("series:N", legend=None, scale=dashes)


def _shown(series: Sequence[str]) -> alt.Parameter:
    """The series that are visible; the page sets it."""
    return alt.param(name="shown", value=list(series))


def _visible(opacity: float) -> Any:
    return alt.condition("indexof(shown, datum.series) >= 0", alt.value(opacity), alt.value(0))


def _thin(series: Sequence[str], rules: Collection[str]) -> list[str]:
    return [name for name in series if is_rule(name, rules)]


def _among(names: Sequence[str]) -> str:
    """An expression: whether the series of a row is one of these."""
    return f"indexof({json.dumps(names)}, datum.series) >= 0"


def _figures(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: digits(row.get(key)) for key in ("value", "low", "high")}


def lows_of(rows: Iterable[Mapping[str, Any]], name: str = "series", rules: Collection[str] = ()) -> list[float]:
    """Return the lowest value that is drawn for each row; rules are drawn without intervals."""
    return [row["value" if is_rule(row[name], rules) else "low"] for row in rows if row["value"] is not None]


def _floor(lows: Sequence[float]) -> float:
    """Where an axis of AUCs starts: 0.4, or lower where there is something to see."""
    return min([0.4, *(math.floor(10 * low) / 10 for low in lows)])


def _tooltip(*first: alt.Tooltip) -> list[alt.Tooltip]:
    return [
        *first,
        alt.Tooltip("value:Q", title="AUC", format=".3f"),
        alt.Tooltip("low:Q", title="from", format=".3f"),
        alt.Tooltip("high:Q", title="to", format=".3f"),
    ]


def _field(name: str) -> str:
    """A column's name where Vega-Lite would take dots and brackets for a path."""
    return "".join(f"\\{mark}" if mark in ".[]" else mark for mark in name)


def _spec(chart: alt.LayerChart | alt.FacetChart, height: int) -> Spec:
    sized = chart.properties(
        width="container", height=height, autosize=alt.AutoSizeParams(type="fit-x", contains="padding")
    )
    # Altair's check against the schema takes half of the time; the tests make it.
    spec: dict[str, Any] = sized.to_dict(validate=False)
    # The page draws with the Vega-Lite that it holds; no address in it needs to lead anywhere.
    spec.pop("$schema", None)
    spec.pop("config", None)
    return spec

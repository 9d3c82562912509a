"""Charts of the page, as Vega-Lite specifications made with Altair.

Colours are variables of the page's style sheet, so that light, dark and print need no second drawing. No specification
holds data: each names the data sets that it draws, and `recmia.report.html` hands them over, binned or thinned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from recmia.attacks import BASELINES
from recmia.defend import NONE, POPULARITY

Spec = dict[str, Any]

_HUES = 6
_DASHES = ([1, 0], [7, 3], [2, 2])
_RULE_DASHES = ([4, 2], [1, 2], [8, 2], [6, 2, 1, 2], [2, 4], [10, 3, 2, 3])
_HEIGHT = 300
_LEGEND = alt.Legend(orient="top", symbolOpacity=1, symbolSize=80, symbolStrokeWidth=0)


def styles(series: Sequence[str]) -> dict[str, tuple[str, list[int]]]:
    """A colour and dashes for each attack: hues for attacks, greys for rules that need no model."""
    attacks = [name for name in series if name not in BASELINES]
    rules = [name for name in series if name in BASELINES]
    hues = {
        name: (f"var(--hue-{number % _HUES + 1})", _DASHES[number // _HUES % len(_DASHES)])
        for number, name in enumerate(attacks)
    }
    greys = {name: ("var(--rule)", _RULE_DASHES[number % len(_RULE_DASHES)]) for number, name in enumerate(rules)}
    return {name: (hues | greys)[name] for name in series}


def roc(series: Sequence[str], finest: float) -> dict[str, Spec]:
    """ROC curves on linear and on logarithmic axes.

    Draws ``curves`` (series, and lists fpr, tpr) and ``bands`` (series, and lists fpr, low, high).
    """
    return {"linear": _roc(series, None), "log": _roc(series, finest)}


def _roc(series: Sequence[str], finest: float | None) -> Spec:
    logarithmic = finest is not None
    floor = finest / 2 if finest is not None else 0.0
    scale: dict[str, Any] = {"type": "log", "nice": False} if logarithmic else {}
    x = alt.X("fpr:Q", title="Non-members called members", scale=alt.Scale(domain=[finest or 0, 1], **scale),
              axis=alt.Axis(format="~%", tickCount=5))  # fmt: skip
    y_scale = alt.Scale(domain=[floor, 1], **scale)
    y_axis = alt.Axis(format="~%", tickCount=5)
    shown = alt.param(name="shown", value=list(series))
    seen = "indexof(shown, datum.series) >= 0"
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
        .encode(x=x, y=alt.Y("bottom:Q", scale=y_scale), y2="top:Q", color=_colour(series),
                opacity=alt.condition(seen, alt.value(0.16), alt.value(0)))
    )  # fmt: skip
    curves = alt.Chart(alt.NamedData("curves")).transform_flatten(["fpr", "tpr"])
    if logarithmic:
        curves = curves.transform_filter(left)
    lines = (
        curves.transform_calculate(drawn=drawn("tpr"), rule=f"indexof({list(BASELINES)!r}, datum.series) >= 0")
        .mark_line(interpolate="step-after", clip=True)
        .encode(
            x=x,
            y=alt.Y("drawn:Q", title="Members found", scale=y_scale, axis=y_axis),
            color=_colour(series),
            strokeDash=_dash(series),
            size=alt.condition("datum.rule", alt.value(1.1), alt.value(2.2)),
            opacity=alt.condition(seen, alt.value(1), alt.value(0)),
        )
    )
    coin = (
        alt.Chart(alt.InlineData([{"fpr": end, "drawn": end} for end in (finest or 0.0, 1.0)]))
        .mark_line(strokeDash=[2, 3], color="var(--soft)", strokeWidth=1)
        .encode(x=x, y=alt.Y("drawn:Q", scale=y_scale))
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
                alt.Tooltip("fpr:Q", title="non-members called members", format=".2~%"),
                *(alt.Tooltip(field=_field(name), type="quantitative", title=name, format=".1%") for name in series),
            ],
        )
        .add_params(near)
    )
    return _spec(alt.layer(coin, bands, lines, hover).add_params(shown), _HEIGHT)


def intervals(series: Sequence[str], lowest: float) -> Spec:
    """The AUC of every attack and rule with its interval; draws ``values`` (series, value, low, high)."""
    base = alt.Chart(alt.NamedData("values")).encode(
        y=alt.Y("series:N", sort=list(series), title=None, axis=alt.Axis(labelLimit=160, domain=False, ticks=False)),
        color=_colour(series),
        tooltip=[
            alt.Tooltip("series:N", title="attack"),
            alt.Tooltip("value:Q", title="AUC", format=".3f"),
            alt.Tooltip("low:Q", title="from", format=".3f"),
            alt.Tooltip("high:Q", title="to", format=".3f"),
        ],
    )
    floor = min(4, int(10 * lowest))

    def x(column: str) -> alt.X:
        return alt.X(f"{column}:Q", title="AUC, 95% interval (0.5: a coin)", scale=alt.Scale(domain=[floor / 10, 1]),
                     axis=alt.Axis(values=[tenth / 10 for tenth in range(floor, 11)], format=".1f",
                                   labelOverlap="greedy", labelSeparation=8))  # fmt: skip

    coin = alt.Chart(alt.InlineData([{"low": 0.5}])).mark_rule(strokeDash=[2, 3], color="var(--soft)")
    bars = base.mark_rule(strokeWidth=2).encode(x=x("low"), x2="high:Q")
    points = base.mark_point(filled=True, size=45, opacity=1).encode(x=x("value"))
    return _spec(alt.layer(coin.encode(x=x("low")), bars, points), 24 * len(series) + 8)


def distribution() -> Spec:
    """Scores of members and of non-members; draws ``bins`` (start, end, members, nonmembers: shares)."""
    kinds = ["members", "non-members"]
    colour = alt.Color("kind:N", title=None, scale=alt.Scale(domain=kinds, range=["var(--hue-2)", "var(--hue-1)"]),
                       legend=_LEGEND)  # fmt: skip
    dash = alt.StrokeDash("kind:N", title=None, legend=_LEGEND, scale=alt.Scale(domain=kinds, range=[[1, 0], [5, 2]]))
    bins = alt.Chart(alt.NamedData("bins"))
    long = bins.transform_fold([*kinds], as_=["kind", "share"])
    x = alt.X(
        "start:Q",
        bin="binned",
        title="Score (higher: taken for a member)",
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
    return _spec(alt.layer(bars, lines, hover), 240)


def exposure(column: str, title: str, logarithmic: bool) -> Spec:
    """The AUC of each user over `column`, with means of equal groups.

    Draws ``users`` (user, auc, low, high, history_length, rarity, named) and ``groups`` (x, mean, low, high).
    """
    scale = alt.Scale(type="log", nice=False) if logarithmic else alt.Scale(zero=False, nice=True)
    axis = alt.Axis(tickCount=5, format="~s" if logarithmic else ".6~g")
    names = ["told in from out", "not told"]
    users = (
        alt.Chart(alt.NamedData("users"))
        .transform_calculate(kind=f"datum.named ? '{names[0]}' : '{names[1]}'")
        .mark_point(filled=True, fillOpacity=0.65)
        .encode(
            x=alt.X(f"{column}:Q", title=title, scale=scale, axis=axis),
            y=alt.Y("auc:Q", title="AUC of the user", scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("kind:N", title=None, scale=alt.Scale(domain=names, range=["var(--hue-2)", "var(--rule)"]),
                            legend=_LEGEND),
            shape=alt.Shape("kind:N", title=None, scale=alt.Scale(domain=names, range=["diamond", "circle"]),
                            legend=_LEGEND),
            size=alt.condition("datum.named", alt.value(60), alt.value(26)),
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
    coin = alt.Chart(alt.InlineData([{"auc": 0.5}])).mark_rule(strokeDash=[2, 3], color="var(--soft)").encode(y="auc:Q")
    return _spec(alt.layer(coin, users, band, line), 280)


def defence_styles(families: Sequence[str]) -> dict[str, tuple[str, list[int]]]:
    """A colour and dashes for each kind of defence; black and grey for what defences are compared with."""
    compared = {NONE: ("var(--ink)", [1, 0]), POPULARITY: ("var(--rule)", [4, 2])}
    return styles([name for name in families if name not in compared]) | compared


def frontier(families: Sequence[str], measure: str, title: str, level: float) -> Spec:
    """Privacy over utility; draws ``values`` (defence, series, and auc, tpr and worth with their intervals)."""
    chosen = defence_styles(families)
    shapes = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]
    drawn = {name: (*chosen[name], shapes[number % len(shapes)]) for number, name in enumerate(families)}
    colours, dashes, marks = (
        alt.Scale(domain=list(families), range=[drawn[name][part] for name in families]) for part in range(3)
    )
    shown = alt.param(name="shown", value=list(families))
    seen = "indexof(shown, datum.series) >= 0"
    lowest = 0.4 if measure == "auc" else 0.0

    def y(column: str) -> alt.Y:
        return alt.Y(f"{column}:Q", title=title, scale=alt.Scale(domain=[lowest, 1], clamp=True))

    def x(column: str) -> alt.X:
        return alt.X(f"{column}:Q", title="Worth of the lists (NDCG@10)", scale=alt.Scale(zero=False))

    def visible(opacity: float) -> Any:
        return alt.condition(seen, alt.value(opacity), alt.value(0))

    base = (
        alt.Chart(alt.NamedData("values"))
        .transform_filter(f"isValid(datum.{measure})")
        .encode(color=alt.Color("series:N", legend=None, scale=colours))
    )
    threshold = alt.Chart(alt.InlineData([{measure: level}])).mark_rule(strokeDash=[2, 3], color="var(--soft)")
    layers = [
        threshold.encode(y=y(measure)),
        base.mark_rule().encode(x=x("worth"), y=y(f"{measure}_low"), y2=f"{measure}_high:Q", opacity=visible(0.35)),
        base.mark_rule().encode(x=x("worth_low"), x2="worth_high:Q", y=y(measure), opacity=visible(0.35)),
        base.mark_line(strokeWidth=1.2).encode(
            x=x("worth"),
            y=y(measure),
            strokeDash=alt.StrokeDash("series:N", legend=None, scale=dashes),
            opacity=visible(0.8),
            order="worth:Q",
        ),
        base.mark_point(filled=True, size=80).encode(
            x=x("worth"),
            y=y(measure),
            shape=alt.Shape("series:N", legend=None, scale=marks),
            opacity=visible(1),
            tooltip=[
                alt.Tooltip("defence:N", title="defence"),
                alt.Tooltip("auc:Q", title="AUC", format=".3f"),
                alt.Tooltip("tpr:Q", title="TPR at FPR 1%", format=".2f"),
                alt.Tooltip("worth:Q", title="NDCG@10", format=".3f"),
            ],
        ),
    ]
    return _spec(alt.layer(*layers).add_params(shown), _HEIGHT)


def sweep_lines(key: str, values: Sequence[Any], series: Sequence[str]) -> Spec:
    """The AUC over one swept key; draws ``values`` (x, series, value, low, high)."""
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    logarithmic = numeric and min(values) > 0 and max(values) >= 20 * min(values)
    if numeric:
        scale = alt.Scale(type="log", nice=False) if logarithmic else alt.Scale(zero=False, nice=False, padding=12)
        x = alt.X("x:Q", title=key, scale=scale, axis=alt.Axis(values=list(values), format=".6~g"))
    else:
        x = alt.X("x:N", title=key, sort=[str(value) for value in values], axis=alt.Axis(labelAngle=-30))
    offset: dict[str, Any] = {} if numeric else {"xOffset": alt.XOffset("series:N", sort=list(series))}
    base = alt.Chart(alt.NamedData("values")).encode(x=x, color=_colour(series), **offset)
    y: dict[str, Any] = {"title": "AUC, 95% interval", "scale": alt.Scale(zero=False, domainMax=1)}
    tooltip = [
        alt.Tooltip("series:N", title="attack"),
        alt.Tooltip("x:N", title=key),
        alt.Tooltip("value:Q", title="AUC", format=".3f"),
        alt.Tooltip("low:Q", title="from", format=".3f"),
        alt.Tooltip("high:Q", title="to", format=".3f"),
    ]
    shown = alt.param(name="shown", value=list(series))
    seen = "indexof(shown, datum.series) >= 0"

    def visible(opacity: float) -> Any:
        return alt.condition(seen, alt.value(opacity), alt.value(0))

    coin = alt.Chart(alt.InlineData([{"low": 0.5}])).mark_rule(strokeDash=[2, 3], color="var(--soft)").encode(y="low:Q")
    points = base.mark_point(filled=True, size=50).encode(y=alt.Y("value:Q", **y), opacity=visible(1), tooltip=tooltip)
    if numeric:
        band = base.transform_filter(f"indexof({list(BASELINES)!r}, datum.series) < 0").mark_area().encode(
            y=alt.Y("low:Q", **y), y2="high:Q", opacity=visible(0.16)
        )  # fmt: skip
        line = base.mark_line(strokeWidth=2).encode(
            y=alt.Y("value:Q", **y), strokeDash=_dash(series), opacity=visible(1)
        )
        layers = [coin, band, line, points]
    else:
        layers = [coin, base.mark_rule().encode(y=alt.Y("low:Q", **y), y2="high:Q", opacity=visible(1)), points]
    return _spec(alt.layer(*layers).add_params(shown), _HEIGHT)


def heat_map(down: str, across: str, values: Mapping[str, Sequence[Any]]) -> Spec:
    """The AUC over two swept keys; draws ``values`` (down, across, value, low, high), null where a cell failed."""
    order = {key: [str(value) for value in values[key]] for key in (down, across)}
    base = alt.Chart(alt.NamedData("values")).encode(
        x=alt.X("across:N", title=across, sort=order[across], axis=alt.Axis(labelAngle=-30, domain=False, ticks=False)),
        y=alt.Y("down:N", title=down, sort=order[down], axis=alt.Axis(domain=False, ticks=False)),
        tooltip=[
            alt.Tooltip("down:N", title=down),
            alt.Tooltip("across:N", title=across),
            alt.Tooltip("value:Q", title="AUC", format=".3f"),
            alt.Tooltip("low:Q", title="from", format=".3f"),
            alt.Tooltip("high:Q", title="to", format=".3f"),
        ],
    )
    tiles = base.mark_rect(color="var(--hue-2)", stroke="var(--card)", strokeWidth=2).encode(
        # Never so strong that the figure in it could not be read.
        opacity=alt.Opacity("value:Q", legend=None, scale=alt.Scale(domain=[0.5, 1], range=[0.03, 0.5], clamp=True))
    )
    figures = (
        base.transform_calculate(text="isValid(datum.value) ? format(datum.value, '.2f') : 'failed'")
        .mark_text(color="var(--ink)", fontSize=13)
        .encode(text="text:N")
    )
    return _spec(alt.layer(tiles, figures), 42 * len(values[down]))


def _colour(series: Sequence[str]) -> alt.Color:
    chosen = styles(series)
    return alt.Color("series:N", legend=None,
                     scale=alt.Scale(domain=list(series), range=[chosen[name][0] for name in series]))  # fmt: skip


def _dash(series: Sequence[str]) -> alt.StrokeDash:
    chosen = styles(series)
    return alt.StrokeDash("series:N", legend=None,
                          scale=alt.Scale(domain=list(series), range=[chosen[name][1] for name in series]))  # fmt: skip


def _field(name: str) -> str:
    """A column's name where Vega-Lite would take dots and brackets for a path."""
    return "".join(f"\\{mark}" if mark in ".[]" else mark for mark in name)


def _spec(chart: alt.LayerChart | alt.FacetChart, height: int) -> Spec:
    sized = chart.properties(
        width="container", height=height, autosize=alt.AutoSizeParams(type="fit-x", contains="padding")
    )
    spec: Spec = sized.to_dict()
    # The page draws with the Vega-Lite that it holds; no address in it needs to lead anywhere.
    spec.pop("$schema", None)
    spec.pop("config", None)
    return spec

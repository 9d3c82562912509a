"""Charts: what they draw, on which scales, and that they are data alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import polars as pl
import pytest

from recmia.render import charts, layout
from recmia.render.charts import Chart
from tests.render.helpers import QUERIES, RULES, chart_of_each, curves, defended, table


def test_the_charts_of_the_page_leave_colours_to_its_style_sheet(built: dict[str, Chart]) -> None:
    css = Path(charts.__file__).with_name("page.css").read_text(encoding="utf-8")
    blocks = re.findall(r"\{([^{}]*--page:[^{}]*)\}", css)
    assert len(blocks) == 3
    for chart in built.values():
        text = json.dumps(chart.spec)
        assert not re.search(r'"#[0-9a-f]{3,8}"', text)
        for name in set(re.findall(r"var\((--[\w-]+)\)", text)):
            assert all(f"{name}:" in block for block in blocks), name


def test_a_chart_names_its_data_and_holds_none(built: dict[str, Chart]) -> None:
    for name, chart in built.items():
        named = set(re.findall(r'"data": \{"name": "([^"]*)"\}', json.dumps(chart.spec)))
        assert named == set(chart.data) | set(chart.spec.get("datasets", {})), name
        assert chart.spec["width"] == "container"
        assert "$schema" not in chart.spec
        json.dumps(chart.data, allow_nan=False)


def test_the_same_chart_has_the_same_specification(built: dict[str, Chart]) -> None:
    assert chart_of_each() == built


def test_every_specification_is_valid(built: dict[str, Chart]) -> None:
    """Charts are made without this check, which takes half of the time."""
    for chart in built.values():
        alt.LayerChart.validate(dict(chart.spec))


@pytest.mark.end_to_end
def test_every_chart_can_be_drawn_alone(built: dict[str, Chart]) -> None:
    for name, chart in built.items():
        assert layout.picture([[("", chart)]], name).svg().count("<path") > 3, name


def test_both_views_of_a_roc_share_their_data() -> None:
    views = charts.rocs({"fold-in": {"mlp": curves(20, 1, 3)}}, 20)["fold-in"]
    assert list(views) == ["linear", "log"]
    assert views["linear"].data == views["log"].data
    assert views["linear"].spec != views["log"].spec


def test_an_attack_looks_the_same_in_every_section() -> None:
    sections = {"popular": {"mlp": curves(20, 1, 3)}, "fold-in": {"list-lr": curves(20, 1, 3)}}
    found = charts.rocs(sections, 20)
    assert list(found) == ["popular", "fold-in"]
    scales = [
        [layer["encoding"]["color"]["scale"] for layer in views["linear"].spec["layer"] if "color" in layer["encoding"]]
        for views in found.values()
    ]
    assert scales[0] == scales[1]
    assert scales[0][0]["domain"] == ["mlp", "list-lr"]
    assert [one["series"] for one in found["fold-in"]["linear"].data["curves"]] == ["list-lr"]


def test_a_long_curve_is_thinned() -> None:
    sections = {"fold-in": {"mlp": curves(5000, 1, 3)}}
    (curve,) = charts.rocs(sections, 5000, points=100)["fold-in"]["log"].data["curves"]
    assert 50 < len(curve["fpr"]) <= 100
    assert curve["fpr"][1] == 1 / 5000, "where the logarithmic axis starts"
    assert (curve["fpr"][0], curve["fpr"][-1], curve["tpr"][-1]) == (0, 1, 1)


def test_band_of_one_curve_is_the_curve() -> None:
    fpr = np.linspace(0, 1, 11)
    (curve,) = curves(20, 1, 1)
    for part in charts.roc_band([curve], fpr):
        np.testing.assert_array_equal(part, curve.tpr_at(fpr))
    mean, low, high = charts.roc_band(curves(20, 1, 4), fpr)
    assert ((low <= mean) & (mean <= high) & (low >= 0) & (high <= 1)).all()


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([5, 10, 20], "linear"),
        ([5, 50, 100], "log"),
        ([0.0, 0.003, 0.1], "even"),
        ([0, 1], "linear"),
        (["a", "b"], "names"),
        ([True, False], "names"),
    ],
)
def test_scales_of_a_swept_key(values: list[Any], scale: str) -> None:
    rows = table({"key": values}, regimes=["fold-in"])
    chart = charts.sweep_lines(rows, "key", values, rules=RULES)
    x = chart.spec["layer"][-1]["encoding"]["x"]
    assert x["type"] == {"names": "nominal", "even": "ordinal"}.get(scale, "quantitative")
    assert (x["scale"].get("type") == "log") == (scale == "log")
    places = list(dict.fromkeys(row["x"] for row in chart.data["values"]))
    assert places == (values if scale in ("linear", "log") else [str(value) for value in values])
    assert chart.data["failed"] == []
    kinds = {layer["mark"]["type"] for layer in chart.spec["layer"]}
    assert ("line" in kinds) == (scale != "names")


def test_labels_of_a_frontier_cover_nothing() -> None:
    for regime in ("popular", "fold-in"):
        chart = charts.frontier(defended([regime]), "auc", 0.6)
        labels = chart.data["labels-auc"]
        texts = [one["text"] for one in labels]
        assert len(texts) > 8
        assert set(texts) <= {"0.5", "0.1", "50", "20", "0.03", "10", "5", "8", "4", "10000", "3000", "1000, 10",
                              "300, 10", "16", "1"}  # fmt: skip
        places = [(one["worth"], one["at"], one["dx"], one["dy"]) for one in labels]
        assert len(set(places)) == len(places)


def test_a_rate_that_is_not_resolvable_is_left_out() -> None:
    rows = defended(["fold-in"]).with_columns(
        pl.when(pl.col("defence") == "gumbel=3000").then(None).otherwise(pl.col("tpr")).alias("tpr")
    )
    chart = charts.frontier(rows, "tpr", 0.6)
    assert "3000" not in {one["text"] for one in chart.data["labels-tpr"]}
    assert layout.picture([[("", chart)]], "A title").svg()


@pytest.mark.parametrize("example", QUERIES, ids=lambda one: str(one["users"]))
def test_a_query_is_a_square_for_each_item(example: dict[str, Any]) -> None:
    data = charts.query_example(example).data
    states = [one["state"] for one in data["squares"]]
    asked, answer = states[: example["asked"]], states[example["asked"] :][: example["k"]]
    hidden = states[example["asked"] + example["k"] :]
    assert set(asked) == {"asked with"}
    assert [rank for rank, state in enumerate(answer, 1) if state == "hidden, and answered"] == example["hits"]
    assert set(answer) <= {"answered", "hidden, and answered"}
    assert len(hidden) == example["hidden"]
    assert hidden.count("hidden, and answered") == len(example["hits"])
    assert set(hidden) <= {"hidden, and answered", "hidden, not answered"}
    assert set(states) <= set(charts.QUERY_STATES)
    places = [(one["x"], one["y"]) for one in data["squares"]]
    assert len(set(places)) == len(places), "no square covers another"
    lines = {one["y"] for one in data["labels"]}
    assert len(lines) == 3
    assert not lines & {y for _, y in places}, "nor a text"
    assert [one["words"] for one in data["labels"]] == [
        f"asked with {example['asked']} items of the history",
        f"the answer, best first: {example['k']} items",
        f"the hidden part of the history: {len(example['hits'])} of its {example['hidden']} items came back",
    ]


def test_equal_groups_hold_everyone(built: dict[str, Chart]) -> None:
    groups = built["users"].data["groups"]
    assert sum(group["users"] for group in groups) == 40
    assert all(group["low"] <= group["mean"] <= group["high"] for group in groups)


def test_a_histogram_holds_everyone(built: dict[str, Chart]) -> None:
    bins = built["distribution"].data["bins"]
    assert sum(one["members"] for one in bins) == pytest.approx(1, abs=1e-3)
    assert sum(one["non-members"] for one in bins) == pytest.approx(1, abs=1e-3)
    same = charts.distribution(np.arange(4) < 2, np.ones(4)).data["bins"]
    assert (same[0]["start"], same[-1]["end"]) == (0.5, 1.5)


def test_histograms_hold_every_user_once() -> None:
    rng = np.random.default_rng(0)
    member, score = rng.random(10_000) < 0.3, rng.standard_cauchy(10_000)
    bins = charts.distribution(member, score).data["bins"]
    for kind in ("members", "non-members"):
        assert sum(one[kind] for one in bins) == pytest.approx(1, abs=1e-3)
    for same in (np.zeros(9), np.repeat(4.0, 9)):
        bins = charts.distribution(np.arange(9) < 3, same).data["bins"]
        assert [one for one in bins if one["members"]] == [one for one in bins if one["non-members"]]
    # Nearly all alike: the few others are not lost.
    rare = np.zeros(10_000)
    rare[:3] = -1
    assert sum(one["members"] > 0 for one in charts.distribution(np.arange(10_000) < 3, rare).data["bins"]) == 1


def test_thinned_curves_keep_the_low_end() -> None:
    assert charts._rates(30, 400).tolist() == [n / 30 for n in range(31)]
    grid = charts._rates(1_000_000, 400)
    assert len(grid) <= 400
    assert grid[:4].tolist() == [0, 1e-6, 2e-6, 3e-6]
    assert grid[-1] == 1

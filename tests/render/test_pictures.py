"""Pictures of results: which panels they have, what their legends say, and which scales they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

import recmia
from recmia import Interactions
from recmia.render import pictures
from recmia.render.layout import Static
from recmia.render.style import defence_family
from tests.render.helpers import (
    DEFENCES,
    MANY,
    RULES,
    WORDS,
    defended,
    domains,
    headings,
    legends,
    panels,
    roc_picture,
    sweep_picture,
    table,
)

pytestmark = pytest.mark.end_to_end


@pytest.mark.parametrize(
    "sections", [["popular"], ["popular", "fold-in"], ["popular", "fold-in", "fold-in, white-box"]]
)
def test_a_roc_has_a_row_for_each_section(sections: list[str]) -> None:
    picture = roc_picture(sections)
    assert len(panels(picture)) == 2 * len(sections)
    assert headings(picture)[:2] == ["popular: non-members get one popular list", "popular, logarithmic"]
    if len(sections) == 3:
        assert headings(picture)[4] == "fold-in, white-box: all served by the same path"
    assert len(legends(picture)) == len(sections)
    for linear, logarithmic in zip(panels(picture)[::2], panels(picture)[1::2], strict=True):
        assert {tuple(one) for one in domains(linear, "x")} == {(0, 1)}
        assert {tuple(one) for one in domains(logarithmic, "x")} == {(0.05, 1)}
        assert {tuple(one) for one in domains(logarithmic, "y")} == {(0.025, 1)}


def test_the_legend_of_a_roc_puts_the_largest_area_first() -> None:
    (texts,) = legends(roc_picture(["popular"]))
    assert texts[::2] == sorted(texts[::2], reverse=True)
    assert sorted(texts[1::2]) == sorted([*RULES, "mlp", "list-lr", "chance"])
    assert dict(zip(texts[1::2], texts[::2], strict=True))["chance"] == "0.500"


@pytest.mark.parametrize(("seeds", "bands"), [(1, 0), (2, 0), (3, 2)])
def test_two_curves_have_no_band(seeds: int, bands: int) -> None:
    data = roc_picture(["popular"], seeds=seeds).spec["datasets"]
    assert len(data["panel-0-bands"]) == bands, "and rules never have one"
    assert len(data["panel-0-curves"]) == 5


@pytest.mark.parametrize(
    ("regimes", "attacks"),
    [
        (["popular"], MANY[:1]),
        (["popular"], MANY),
        (["popular", "fold-in"], MANY[:2]),
        (["popular", "fold-in", "trained"], MANY),
    ],
)
def test_lines_over_one_key(regimes: list[str], attacks: list[str]) -> None:
    picture = sweep_picture({"k": [5, 10, 20]}, regimes=regimes, attacks=attacks)
    assert len(panels(picture)) == len(regimes)
    assert legends(picture) == [[*attacks, *RULES, "chance"]], "in the order in which they come, rules last"
    assert len({panel["width"] for panel in panels(picture)}) == 1
    assert len({tuple(one) for panel in panels(picture) for one in domains(panel, "y")}) == 1, "to be compared"


def test_a_value_that_failed_is_said() -> None:
    axes = {"k": [5, 10, 20]}
    picture = sweep_picture(axes, failed=[(10,)])
    assert picture.svg().count(">failed<") == 2, "in both regimes"
    assert [row["x"] for row in picture.spec["datasets"]["panel-0-failed"]] == [10]


@pytest.mark.parametrize(("value", "low"), [(0.7, 0.4), (0.45, 0.4), (0.36, 0.3), (0.05, 0.0)])
def test_an_auc_below_chance_is_in_sight(value: float, low: float) -> None:
    picture = sweep_picture({"k": [5, 10]}, value=value)
    assert {tuple(one) for panel in panels(picture) for one in domains(panel, "y")} == {(low, 1)}


def test_a_panel_of_the_paper() -> None:
    axes: dict[str, Sequence[Any]] = {"factors": [10, 20, 30], "lfm.feedback": ["explicit", "implicit"]}
    rows = table(axes, attacks=["mlp"])
    reference = ("popular", 0.857, "the paper: 0.857")
    picture = pictures.panel_picture(
        rows, "factors", axes["factors"], "lfm.feedback", "A title", reference, rules=RULES, words=WORDS
    )
    overlaps = [f"{feedback}: popular-overlap" for feedback in axes["lfm.feedback"]]
    assert legends(picture) == [["explicit", "implicit", *overlaps, "the paper: 0.857", "chance"]]
    ink = "#1b2430"
    found = [[layer["mark"].get("color") for layer in one["layer"]].count(ink) for one in panels(picture)]
    assert found == [1, 0], "the level stands where it was measured"


def test_a_panel_over_attacks_draws_no_rule() -> None:
    rows = table({"lfm.feedback": ["explicit", "implicit"]}, attacks=["mlp", "naive-bayes"])
    picture = pictures.panel_picture(
        rows, "attack", ["mlp", "naive-bayes"], "lfm.feedback", "A title", rules=RULES, words=WORDS
    )
    assert legends(picture) == [["explicit", "implicit", "chance"]]


@pytest.mark.parametrize(("down", "across"), [(6, 6), (1, 2), (2, 2)])
def test_a_map_for_each_attack_and_section(down: int, across: int) -> None:
    axes: dict[str, Sequence[Any]] = {
        "recommender": [f"recommender-{number}" for number in range(down)],
        "k": list(range(1, across + 1)),
    }
    picture = sweep_picture(axes, failed=[("recommender-0", 1)])
    assert headings(picture) == ["mlp, popular", "list-lr, popular", "mlp, fold-in", "list-lr, fold-in"]
    assert picture.svg().count(">failed<") == 4
    assert all(len(rows) == down * across for name, rows in picture.spec["datasets"].items() if "values" in name)
    assert len({(one["width"], one["height"]) for one in panels(picture)}) == 1


def test_many_maps_start_a_section_in_a_new_row() -> None:
    picture = sweep_picture({"k": [5, 10], "lfm.epochs": [1, 2]}, attacks=MANY[-6:])
    assert len(panels(picture)) == 2 * 6
    assert picture.width < 1600


def test_maps_without_an_attack_show_a_rule() -> None:
    assert headings(sweep_picture({"k": [5], "lfm.epochs": [1]}, attacks=[])) == [
        "shared-list, popular", "shared-list, fold-in",
    ]  # fmt: skip


def test_three_keys_have_no_picture() -> None:
    axes: dict[str, Sequence[Any]] = {"k": [5], "lfm.epochs": [1], "factors": [2]}
    assert pictures.sweep_picture(table(axes), axes, "A title", rules=RULES) is None


def test_a_frontier_marks_what_others_are_compared_with(drawn: dict[str, Static]) -> None:
    (texts,) = legends(drawn["frontier"])
    assert {"none", "popularity-only", "AUC to stay under: 0.6", "gumbel"} <= set(texts)
    shown = drawn["frontier"].spec["datasets"]
    for column, regime in enumerate(("fold-in", "popular")):
        (expected,) = defended().filter(defence="none", regime=regime).iter_rows(named=True)
        (star,) = [row for row in shown[f"panel-{column}-values"] if row["series"] == "none"]
        assert star["worth"] == pytest.approx(expected["ndcg@10"], rel=1e-4)
        assert star["auc"] == pytest.approx(expected["auc"], rel=1e-4)


def test_a_query_about_a_member_stands_beside_one_about_a_non_member(drawn: dict[str, Static]) -> None:
    picture = drawn["queries"]
    assert headings(picture) == ["Asked about a member", "Asked about a non-member"]
    assert len(panels(picture)) == 2
    shown = picture.svg()
    for words in ("asked with", "answered", "hidden, and answered", "hidden, not answered"):
        assert f">{words}<" in shown, "the legend"
    for words in ("5 of its 28 items came back", "0 of its 2 items came back", "asked with 30 items of the history"):
        assert words in shown


@pytest.mark.parametrize(("share", "words"), [(0.5, "half of a history"), (0.3, "30% of a history")])
def test_the_queries_of_an_audit(small: Interactions, share: float, words: str) -> None:
    result = recmia.audit(
        small, factors=4, k=10, seeds=1, n_shadows=0, queries=2, query_share=share, regimes=["fold-in"],
        attacks=["completion"], lfm={"epochs": 1},
    )  # fmt: skip
    found = pictures.pictures(result)
    assert set(found) == {"roc.png", "roc.svg", "queries.png", "queries.svg"}
    assert f"What a system answers to {words}" in found["queries.svg"].decode()
    assert found == pictures.pictures(result), "the same bytes"
    nothing = replace(result, provenance=result.provenance | {"attacker": []})
    assert pictures.queries_of(nothing) is None
    assert set(pictures.pictures(nothing)) == {"roc.png", "roc.svg"}


@pytest.mark.parametrize("regimes", [["popular"], ["popular", "fold-in"]])
def test_a_frontier_has_a_column_for_each_regime(regimes: list[str]) -> None:
    picture = pictures.frontier_picture(defended(regimes), 0.6, "A title", words=WORDS)
    assert len(panels(picture)) == 2 * len(regimes)
    above_alone = [f"{regime}: {WORDS[regime]}" for regime in reversed(regimes)]
    beside = [*above_alone, "popular, members found"]
    assert headings(picture) == (above_alone if len(regimes) > 1 else beside), "plots side by side start at one height"
    (texts,) = legends(picture)
    families = list(dict.fromkeys(map(defence_family, DEFENCES)))
    assert texts == [*families, "AUC to stay under: 0.6", "chance"]
    for column in range(len(regimes)):
        above, below = panels(picture)[column], panels(picture)[len(regimes) + column]
        assert domains(above, "x") == domains(below, "x"), "one under the other"
        assert [layer["mark"].get("strokeDash") for layer in above["layer"]].count([6, 4]) == 1, "the level"


def test_no_map_is_drawn_of_what_was_not_run() -> None:
    """An attack that asks has no figures in popular; that is no failure."""
    axes: dict[str, Sequence[Any]] = {"k": [5, 10], "lfm.epochs": [1, 2]}
    asked_strangers = (pl.col("attack") == "query-lr") & (pl.col("regime") == "popular")
    rows = table(axes, attacks=["mlp", "query-lr"]).filter(~asked_strangers)
    drawn = pictures.sweep_picture(rows, axes, "A title", rules=RULES, words=WORDS)
    assert drawn is not None
    assert "query-lr, fold-in" in drawn.svg()
    assert "query-lr, popular" not in drawn.svg()
    assert "failed" not in drawn.svg()

"""The answers that a page gives first: every sentence is what the figures support, for every kind of run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import recmia
from recmia import Interactions, audit, defend, sweep
from recmia.metrics import Metric
from recmia.metrics.epsilon import PromiseCheck
from recmia.metrics.intervals import Estimate
from recmia.render import answers, words
from recmia.render.page import page, summary
from recmia.results.audit import AuditResult
from recmia.results.defend import NONE, POPULARITY, DefendResult
from recmia.results.findings import find
from recmia.settings import AuditSettings

DATA = "synthetic:120x200x6000"
QUICK: dict[str, Any] = {"factors": 4, "k": 5, "seeds": 1, "n_shadows": 4, "lfm": {"epochs": 1}}


def rows(regime: str, n: int = 150, **aucs: float) -> list[Metric]:
    """AUCs with narrow intervals, and of attacks the share found at one false accusation in a hundred."""
    made = []
    for attack, value in ({"shared_list": 0.5} | aucs).items():
        auc = Metric("grey-box", regime, "lfm", "lfm", attack.replace("_", "-"), "auc", value, value - 0.04,
                     min(1.0, value + 0.04), 5, 1, n, n, "")  # fmt: skip
        made += [auc, replace(auc, metric="tpr@fpr=0.01", value=(value - 0.5) / 2 if value > 0.5 else 0.0, low=0.0)]
    return made


def told(regime: str, n: int = 150, **aucs: float) -> str:
    shown = answers.extent(find(rows(regime, n, **aucs)).sections)
    return f"{shown.before} {shown.figure} {shown.after} {shown.note}"


def test_people_found_come_first_where_they_say_how_bad_it_is() -> None:
    assert told("fold-in", query_lr=0.9).startswith(
        "An attacker who accepts one false accusation in a hundred finds 20 of 100 of your users."
    )
    assert "takes 100 people who were not in the training data to say; this audit has 60" in told(
        "fold-in", 60, query_lr=0.1
    )


def test_an_attack_that_is_read_backwards_is_not_played_down() -> None:
    """At a threshold that is read as it was meant, it finds nobody."""
    assert told("fold-in", query_lr=0.1) == "An attacker tells 90 of 100 pairs apart, and a coin 50. "


def test_a_rule_that_finds_more_than_every_attack_says_how_bad_it_is() -> None:
    """The grade is its, too."""
    found = find(rows("trained", list_lr=0.66, twin=0.99)).sections
    shown = answers.extent(found)
    assert found[0].grade == "strong"
    assert (shown.before, shown.figure) == ("An attacker with a rule that needs no model tells", "99")
    assert (shown.gauges[0].name, shown.gauges[0].grade) == ("twin", "strong")
    (card,), _ = answers.cards(found)
    assert [one.name for one in card.gauges] == ["twin", "list-lr"]
    (card,), _ = answers.cards(find(rows("trained", list_lr=0.99, twin=0.66)).sections)
    assert [one.name for one in card.gauges] == ["list-lr", "twin"]


def test_a_grade_that_the_pairs_do_not_show_is_explained() -> None:
    weak = rows("fold-in", query_lr=0.58)
    bound = replace(weak[-1], metric="epsilon", value=2.4, low=2.4, high=None)
    surely = replace(weak[-1], value=0.2, low=0.15)
    for metrics, said in (
        ([*weak, bound], "Scores that refute an epsilon of 2.4 count as a leak in part, whatever the pairs."),
        ([*weak[:-1], surely], "So many who are surely found count as a leak in part, whatever the pairs."),
    ):
        found = find(metrics)
        assert found.grade == "marked"
        assert answers.extent(found.sections).note.endswith(said)
    assert "whatever the pairs" not in told("fold-in", query_lr=0.9)


def test_a_broken_promise_is_a_reason_to_hold_a_model_back(
    small: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = audit(small, **QUICK, attacks=["list-lr"], regimes=["fold-in"])
    promise = PromiseCheck("dp-training=4", "grey-box", "fold-in", 4.0, 1e-5, 5.0, "list-lr")
    monkeypatch.setattr(AuditResult, "promises", (promise,))
    first, second, *_ = answers.advice(found, "x")
    assert first.startswith("Do not use a defence with a broken promise")
    assert second.startswith("Choose: hold this model back"), "whatever little is found"


def test_rules_alone_are_no_attack() -> None:
    shown = answers.extent(find(rows("fold-in", popular_overlap=0.55)).sections)
    assert shown.before.endswith("a rule without a model tells")
    assert [one.label for one in shown.gauges] == ["The simplest rule, without a model"]


def test_popular_lists_are_said_to_tell_and_not_the_model() -> None:
    assert "it is the list that tells, and not the model" in told("popular", list_lr=0.99, shared_list=0.99)
    assert "it is the list" not in told("popular", list_lr=0.99)


def test_what_is_not_known_of_the_deleted_lies_anywhere() -> None:
    gauge = answers._gauge("Deleted", "completion", Estimate(0.7, None, None))
    assert (gauge.value, gauge.low, gauge.high) == (70, 0, 100)


def test_a_defence_that_is_there_is_not_advised_to_be_compared_with_others() -> None:
    own = AuditSettings.parse({**QUICK, "dataset": DATA})
    assert answers.defend_command(own, "a run/x.toml") == "recmia defend --config 'a run/x.toml' --held-out 0.2"
    assert answers.defend_command(own.changed(held_out=0.1), "x") == "recmia defend --config x --held-out 0.1"
    # The command refuses settings that have a defence.
    defended = own.changed(defence="shorter-lists=4")
    assert answers.defend_command(defended, "x") == ""
    assert "this one is not enough" in " ".join(answers._measure(defended, "x"))


def test_what_was_in_memory_is_found_again_by_no_command(small: Interactions) -> None:
    for data, said in ((small, "run again with `--attack"), (DATA, "`recmia audit --config 'a run/x.toml' --attack")):
        advised = answers.advice(audit(data, **QUICK, attacks=["list-lr"]), "a run/x.toml")
        assert any(said in one for one in advised), advised


@pytest.fixture(scope="module")
def compared() -> DefendResult:
    return defend(
        ["shorter-lists=2", "gumbel=300"], DATA, **QUICK, regimes=["fold-in", "trained"], attacks=["list-lr"],
        held_out=0.2,
    )  # fmt: skip


def leaking(result: DefendResult, high: dict[tuple[str, str], float]) -> DefendResult:
    """A comparison in which list-lr finds members of the undefended system, and these upper ends were measured."""
    attack = pl.when(pl.col("metric") == "auc", pl.col("attack") == "list-lr")
    value, low = (
        attack.then(figure).otherwise(pl.col(name)).alias(name) for name, figure in (("value", 0.9), ("low", 0.85))
    )
    upper = pl.struct("defence", "regime").map_elements(
        lambda one: high.get((one["defence"], one["regime"]), 0.9), return_dtype=pl.Float64
    )
    worth = pl.col("defence").replace_strict({"popularity-only": 0.1}, default=0.3)
    table = result.table.with_columns(
        upper.alias("auc_high"), worth.alias("ndcg@10"), worth.alias("ndcg@10_low"), auc_low=0.5
    )
    return replace(result, table=table, sweep=replace(result.sweep, table=result.sweep.table.with_columns(value, low)))


def advised(result: DefendResult) -> str:
    return " ".join(answers.defend_advice(result, words.defend_findings(result), "run/config.toml"))


@pytest.mark.end_to_end
def test_the_defence_that_is_advised_holds_wherever_the_system_serves(compared: DefendResult) -> None:
    both = {("shorter-lists=2", regime): 0.55 for regime in ("fold-in", "trained")}
    result = leaking(compared, both)
    assert words.defend_headline(result)[1] == "A defence holds"
    assert "Choose: `shorter-lists=2`" in advised(result)
    command = "recmia audit --config run/config.toml --defence shorter-lists=2 --seed 1 --n-targets 20"
    assert f"`{command}`. That takes about" in advised(result)
    for regime in ("fold-in", "trained"):
        result = leaking(compared, {("shorter-lists=2", regime): 0.55})
        assert words.defend_headline(result)[1] == "No defence holds"
        assert "Hold the system back" in advised(result)
        assert "Confirm" not in advised(result), "nothing was chosen"
        assert "serve popular lists" not in advised(result), "they do not keep the level, either"
    served = {(POPULARITY, regime): 0.55 for regime in ("fold-in", "trained")}
    assert "Hold the system back, or serve popular lists" in advised(leaking(compared, served))


@pytest.mark.end_to_end
def test_a_comparison_that_shows_no_leak_decides_nothing(compared: DefendResult) -> None:
    swept = replace(compared.sweep, table=compared.sweep.table.filter(regime="fold-in"))
    alike = replace(compared, table=compared.table.filter(regime="fold-in"), sweep=swept)
    assert "Do not decide on this comparison" in advised(alike)
    assert "Hold the system back" not in advised(alike)
    low = replace(leaking(alike, {(NONE, "fold-in"): 0.55}), sweep=swept)
    assert "no reason for a defence" in advised(low)
    assert "Confirm" not in advised(low), "no defence was chosen"


@pytest.mark.end_to_end
def test_without_the_undefended_system_the_page_says_so(compared: DefendResult) -> None:
    """One setting may fail, and it may be this one."""
    found = compared.sweep
    table, errors = found.table.filter(pl.col("defence") != ""), [{"defence": "", "error": "failed"}]
    lost = replace(found, table=table, errors=errors)
    result = replace(compared, table=compared.table.filter(pl.col("defence") != NONE), sweep=lost)
    said = summary({Path("run"): result})
    assert "Not known. The system without a defence could not be measured" in said
    assert "Choose" not in said
    assert "could not be measured" in page({Path("run"): result})


@pytest.mark.end_to_end
def test_interactions_are_no_people(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"recommender": "itemknn", "unit": "interactions", "factors": 4, "k": 20, "seeds": 1}
    data = "synthetic:200x150x6000"
    runs: dict[Path, Any] = {
        Path("audit"): audit(data, **settings),
        Path("sweep"): sweep({"k": [10, 20]}, data, **{name: settings[name] for name in settings if name != "k"}),
        Path("defend"): defend(["shorter-lists=10"], data, **settings, held_out=0.2),
    }
    for folder, result in runs.items():
        said = summary({folder: result})
        assert "of your users" not in said
        assert "who was in the training data" not in said
        assert "interactions" in said
        assert "recmia defend --unit" not in said, "other data than these"
        text = page({folder: result})
        assert "pairs of a person" not in text
        assert "pairs of an interaction" in text


@pytest.mark.end_to_end
def test_a_sweep_is_judged_where_the_system_serves() -> None:
    """Every model leaks where others are shown popular lists."""
    result = sweep({"regimes": [["popular"], ["fold-in"]]}, DATA, **QUICK, attacks=["list-lr"])
    by_cell = {cell["regimes"]: found.grade for cell, found in result.findings}
    assert by_cell["popular"] == "strong"
    assert words.sweep_headline(result)[0] == by_cell["fold-in"] == "untested"


@pytest.mark.end_to_end
def test_a_sample_of_users_is_said_to_be_one(small: Interactions) -> None:
    found = audit(small, **QUICK, max_users=80, attacks=["list-lr"])
    said = " ".join(words.tested(found))
    assert "Of the 120 users, 80 were drawn at random." in said
    assert "No user of the data was left out" not in said


@pytest.mark.end_to_end
def test_a_summary_of_deletion_shows_the_deleted(tmp_path: Path) -> None:
    from tests.results.test_forget import build, settings

    result = recmia.forget(settings=settings(build(tmp_path / "system", "itemknn", delete="nothing")))
    said = summary({Path("run"): result})
    assert "| Deleted, against people who were never there |" in said
    assert "As your system answers" not in said, "figures of members alone"
    assert "left out" not in page({Path("run"): result}), "150 of the 300 users of the log were not audited"

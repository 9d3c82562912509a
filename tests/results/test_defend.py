"""What defences bring and cost: the comparison, its words, its promises, and its command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recmia import AuditResult as PublicResult
from recmia import Interactions, audit, read_run
from recmia.cli import main
from recmia.defences import Defence, parse_defences
from recmia.errors import ConfigError, MissingExtraError
from recmia.game import tasks
from recmia.metrics import Metric
from recmia.metrics.epsilon import PromiseCheck
from recmia.recommenders import private
from recmia.render.page import page
from recmia.results.audit import AuditResult
from recmia.results.defend import (
    NONE,
    POPULARITY,
    DefendResult,
    _advice,
    frontier,
    plan_defend,
    run_defend,
    standard_defences,
)
from recmia.results.findings import find
from recmia.settings import AuditSettings
from tests.cli.helpers import Here, recmia

SETTINGS: dict[str, Any] = {
    "attacks": ["mlp"], "factors": 8, "k": 20, "seeds": 2, "lfm": {"epochs": 8}, "mlp": {"epochs": 2}, "held_out": 0.2,
}  # fmt: skip
QUICK = [
    "-d", "synthetic:120x200x6000", "--attacks", "mlp", "-l", "8", "-k", "20", "--seeds", "2", "--lfm-epochs", "8",
    "--mlp-epochs", "2",
]  # fmt: skip


def quick(**changed: Any) -> AuditSettings:
    return AuditSettings.parse({**SETTINGS, **changed})


@pytest.fixture(scope="module")
def compared(small: Interactions) -> DefendResult:
    return run_defend(quick(), ["shorter-lists=5", "popular-random=0.3", "gumbel=40"], dataset=small)


@pytest.mark.end_to_end
def test_each_setting_is_measured_beside_none_and_popular_lists(compared: DefendResult) -> None:
    table = compared.table
    names = [NONE, POPULARITY, "shorter-lists=5", "popular-random=0.3", "gumbel=40"]
    assert table.select("defence", "regime").rows() == [(name, at) for name in names for at in ("fold-in", "popular")]
    measured = pl.col("auc", "auc_low", "auc_high", "ndcg@10", "ndcg@10_low", "recall@10", "map@10", "coverage@10")
    assert table.select(measured.is_not_null()).to_numpy().all()
    assert (table["ndcg@10_low"] <= table["ndcg@10"]).all()
    one = table.row(by_predicate=(pl.col("defence") == NONE) & (pl.col("regime") == "popular"), named=True)
    assert one["auc"] == pytest.approx(1, abs=0.01), "a rule without a model tells who is served the popular list"
    parts = [one["ndcg@10_members"], one["ndcg@10_non-members"]]
    assert min(parts) < one["ndcg@10"] < max(parts)


@pytest.mark.end_to_end
def test_the_strongest_attack_counts_rules_in(compared: DefendResult) -> None:
    for row in compared.table.iter_rows(named=True):
        defence = "" if row["defence"] == NONE else row["defence"]
        all_of_them = compared.sweep.table.filter(
            # Those over histories alone check the audit, and are nobody's attack on the system.
            ~pl.col("attack").is_in(["history-length", "history-popularity", "recency"]),
            defence=defence, regime=row["regime"], metric="auc",
        )  # fmt: skip
        strength = 0.5 + (all_of_them["value"] - 0.5).abs()
        assert row["auc"] == pytest.approx(strength.max()), "in either direction"
        assert row["auc_attack"] in all_of_them.filter(strength >= row["auc"] - 1e-12)["attack"]


@pytest.mark.end_to_end
def test_only_a_shared_path_has_a_promise(compared: DefendResult) -> None:
    promised = compared.table.filter(pl.col("promised").is_not_null())
    assert promised.select("defence", "regime", "promised").rows() == [("gumbel=40", "fold-in", 40.0)]
    assert not compared.table["broken"].any()


@pytest.mark.end_to_end
def test_shorter_lists_keep_the_first_items_and_popular_random_only_touches_popular(compared: DefendResult) -> None:
    def row(defence: str, regime: str) -> dict[str, Any]:
        return compared.table.row(
            by_predicate=(pl.col("defence") == defence) & (pl.col("regime") == regime), named=True
        )

    assert row("popular-random=0.3", "fold-in")["ndcg@10"] == row(NONE, "fold-in")["ndcg@10"]
    assert row("popular-random=0.3", "fold-in")["auc"] == row(NONE, "fold-in")["auc"]
    changed = row("popular-random=0.3", "popular")
    assert changed["ndcg@10_members"] == row(NONE, "popular")["ndcg@10_members"]
    assert changed["ndcg@10_non-members"] < row(NONE, "popular")["ndcg@10_non-members"]


@pytest.mark.end_to_end
def test_a_second_run_trains_nothing(small: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    store: dict[str, Any] = {}
    first = run_defend(quick(seeds=1), ["shorter-lists=5"], dataset=small, store=store)

    def refuse(*arguments: Any) -> Any:
        raise AssertionError("trained again")

    monkeypatch.setattr(tasks, "_train_and_serve", refuse)
    again = run_defend(quick(seeds=1), ["shorter-lists=5"], dataset=small, store=store)
    assert again.table.equals(first.table)


def test_the_standard_defences_are_those_that_apply() -> None:
    every = standard_defences(AuditSettings())
    assert {one.partition("=")[0] for one in every if "+" not in one} == {
        "popular-random", "shorter-lists", "regularisation", "early-stopping", "fold-in-members", "randomised-response",
        "gumbel", "dp-training",
    }  # fmt: skip
    assert {"dp-training=1", "dp-training=4", "dp-training=16"} <= set(every)
    neighbours = standard_defences(AuditSettings.parse({"recommender": "itemknn", "shadow": "itemknn"}))
    assert {one.partition("=")[0] for one in neighbours} == {
        "popular-random", "shorter-lists", "randomised-response", "gumbel"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "defences", "level", "words"),
    [
        ({}, ["gumbel=0"], 0.6, "greater than 0"),
        ({}, ["early-stopping=8"], 0.6, "stops after 8"),
        ({}, ["+"], 0.6, "got an empty one"),
        ({}, [], 0.5, r"must lie in \(0.5, 1\]; got 0.5"),
        ({"held_out": 0.0}, [], 0.6, "set held_out above 0"),
        ({"defence": "gumbel=4"}, [], 0.6, "leave defence out"),
    ],
)
def test_bad_comparisons_are_refused(
    small: Interactions, changed: dict[str, Any], defences: list[str], level: float, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        run_defend(quick(**changed), defences, level=level, dataset=small)


def test_a_missing_package_is_told_before_anything_is_trained(
    small: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    private.noise_multiplier.cache_clear()
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    store: dict[str, Any] = {}
    with pytest.raises(MissingExtraError, match=r"pip install 'dp-accounting>=0\.6'"):
        run_defend(quick(), ["shorter-lists=5", "dp-training=4"], dataset=small, store=store)
    assert store == {}


# The advice.
def rows(**settings: tuple[float, float]) -> pl.DataFrame:
    """A table of AUC and NDCG@10 by defence; intervals reach 0.02 to each side."""
    return pl.DataFrame(
        [
            {
                "defence": name, "regime": "fold-in", "auc": auc, "auc_low": auc - 0.02, "auc_high": auc + 0.02,
                "auc_attack": "list-lr", "ndcg@10": worth, "ndcg@10_low": worth - 0.01, "broken": False,
            }
            for name, (auc, worth) in settings.items()
        ]
    )  # fmt: skip


def test_the_cheapest_defence_under_the_level_is_advised() -> None:
    table = rows(none=(0.85, 0.2), weak=(0.7, 0.19), dear=(0.55, 0.1), cheap=(0.56, 0.15), near=(0.59, 0.18))
    words = _advice("fold-in", table, 0.6)
    assert (
        "The cheapest defence that keeps the upper end of every attack's interval under 0.6 is cheap: list-lr reaches "
        "an AUC of 0.560 [0.540–0.580]"
    ) in words
    assert words.endswith("confirm it in an audit of its own, with another seed.")
    assert "(-25%)" in words
    assert "is near" not in words, "its interval reaches the level"


def test_what_brings_nothing_is_said_plainly() -> None:
    table = rows(none=(0.85, 0.2), weak=(0.7, 0.19), **{POPULARITY: (0.5, 0.12)})
    words = _advice("fold-in", table, 0.6)
    assert (
        "No defence is shown to keep the upper end of every attack's interval under 0.6; the nearest is weak" in words
    )
    assert "Popular lists for all keep it there, too, at NDCG@10 0.120" in words
    assert "confirm it" not in words, "nothing was chosen"


NOTHING_TO_KEEP = "so there is nothing for a defence to keep: mend the recommender first, or serve those."


@pytest.mark.parametrize(
    ("worth", "words"),
    [
        (0.11, f"That is no better than popular lists for all (0.120), {NOTHING_TO_KEEP}"),
        (0.12, f"That is no better than popular lists for all (0.120), {NOTHING_TO_KEEP}"),
        (0.125, f"That is not shown to be better than popular lists for all (0.120), {NOTHING_TO_KEEP}"),
        (0.14, ""),
    ],
)
@pytest.mark.parametrize("auc", [0.52, 0.85])
def test_a_system_that_is_worth_no_more_than_popular_lists_is_told_so(worth: float, words: str, auc: float) -> None:
    table = rows(none=(auc, worth), some=(0.55, 0.1), **{POPULARITY: (0.5, 0.12)})
    said = _advice("fold-in", table, 0.6)
    assert words in said
    assert ("popular lists for all (" in said) == bool(words)
    assert "could" not in _advice("fold-in", table.filter(pl.col("defence") != POPULARITY), 0.6)


@pytest.mark.parametrize(
    ("worth", "popular", "lost"),
    [(0.09, 0.05, True), (0.101, 0.05, False), (0.12, 0.12, True), (0.121, 0.12, False), (0.12, 0.2, False)],
    ids=["less than half", "half", "as popular", "more than popular", "popular is no measure"],
)
def test_what_destroys_the_lists_is_named_and_not_advised(worth: float, popular: float, lost: bool) -> None:
    table = rows(none=(0.85, 0.2), some=(0.55, worth), mild=(0.7, 0.19), **{POPULARITY: (0.5, popular)})
    said = _advice("fold-in", table, 0.6)
    assert ("no more than popular lists have, by some." in said) == lost
    assert ("Only defences that destroy the lists keep the upper end" in said) == lost
    assert ("The cheapest defence that keeps the upper end" in said) != lost
    assert ("confirm it" in said) != lost
    # One that is of use is taken, even where lists are better by one that is not.
    more = pl.concat([table, rows(useful=(0.56, 0.15))])
    assert ("interval under 0.6 is useful" in _advice("fold-in", more, 0.6)) == (worth < 0.15)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"none": (0.85, 0.2), "weak": (0.7, 0.19), "dear": (0.6, 0.1), "dull": (0.7, 0.1)}, ["none", "weak", "dear"]),
        ({"none": (0.85, 0.2), "better": (0.8, 0.25)}, ["better"]),
        ({"none": (0.85, 0.2), "same": (0.85, 0.2), "worse": (0.9, 0.2), "flat": (0.85, 0.1)}, ["none"]),
    ],
)
def test_the_frontier_is_what_nothing_beats_in_both(settings: dict[str, tuple[float, float]], names: list[str]) -> None:
    table = rows(**settings)
    assert frontier(table) == names
    assert len(frontier(table.reverse())) == len(names), "the order decides between equals alone"
    said = _advice("fold-in", table, 0.6)
    assert said.endswith(f"leaks less and recommends better: {', '.join(names)}.")
    liar = table.with_columns(broken=pl.col("defence") == names[-1])
    assert names[-1] not in frontier(liar)


def test_a_system_that_does_not_leak_needs_no_defence_and_a_missing_one_is_told() -> None:
    assert "these attacks give no reason for a defence" in _advice(
        "fold-in", rows(none=(0.52, 0.2), some=(0.5, 0.1)), 0.6
    )
    assert "could not be measured" in _advice("fold-in", rows(some=(0.5, 0.1)), 0.6)


@pytest.mark.parametrize(("metric", "value"), [("epsilon", 3.2), ("tpr@fpr=0.01", 0.2)])
def test_a_low_auc_is_no_reason_to_need_no_defence_where_members_are_found(metric: str, value: float) -> None:
    def row(name: str, value: float, high: float | None) -> Metric:
        return Metric("grey-box", "fold-in", "lfm", "lfm", "list-lr", name, value, value - 0.03, high, 5, 1, 99, 99, "")

    found = find([row("auc", 0.55, 0.58), row(metric, value, None)]).sections[0]
    assert found.grade == "marked"
    words = _advice("fold-in", rows(none=(0.55, 0.2), some=(0.5, 0.1)), 0.6, found)
    assert "The upper end of that interval is under 0.6; but it leaks all the same: list-lr distinguishes" in words
    assert "no reason for a defence" not in words


def test_a_broken_promise_is_never_advised() -> None:
    table = rows(none=(0.85, 0.2), liar=(0.55, 0.19), honest=(0.55, 0.1))
    table = table.with_columns(broken=pl.col("defence") == "liar")
    assert "is honest" in _advice("fold-in", table, 0.6)


# The promises. The settings make the private LFM remember its few users.
MEMORISING: dict[str, Any] = {
    "split": "shared", "regimes": ["fold-in"], "attacks": ["list-lr"], "n_shadows": 12, "seeds": 2, "k": 20,
    "factors": 8,
    "dp": {"factors": 16, "steps": 60, "regularisation": 0.001, "learning_rate": 2.0, "sampling_rate": 1.0},
}  # fmt: skip


@pytest.mark.end_to_end
def test_a_private_trainer_without_its_noise_is_caught(small: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = audit(small, **MEMORISING, defence="dp-training=0.25")
    assert [check.broken for check in honest.promises] == [False]
    assert "does not contradict it, and does not prove it" in honest.verdict
    monkeypatch.setattr(private, "noise_multiplier", lambda epsilon, settings: 0.0)
    silent = audit(small, **MEMORISING, defence="dp-training=0.25")
    (check,) = silent.promises
    assert check.broken
    assert check.bound > 0.25
    assert "BROKEN PROMISE: dp-training=0.25 promises epsilon 0.25" in silent.verdict


@pytest.mark.end_to_end
def test_a_broken_promise_ends_the_command_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        AuditResult,
        "promises",
        property(
            lambda result: tuple(
                PromiseCheck(str(one), "grey-box", "fold-in", 3.0, 0.0, 3.5, "list-lr")
                for one in parse_defences(result.settings.system.defence, result.settings.system.dp)
                if isinstance(one, Defence) and one.promise()
            )
        ),
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["defend", *QUICK, "--defences", "gumbel=3", "--seeds", "1", "-j", "1", "-o", "out", "--store", "s"])
    assert stop.value.code == 1
    assert "BROKEN PROMISE: gumbel=3 promises epsilon 3" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "defend.json").read_text())["promises"][0]["broken"] is True
    with pytest.raises(SystemExit) as stop:
        main(["audit", *QUICK, "--defence", "gumbel=3", "--held-out", "0.2", "--seeds", "1", "-j", "1", "-o", "one"])
    assert stop.value.code == 1
    printed = capsys.readouterr().out
    assert "BROKEN PROMISE: gumbel=3 promises epsilon 3" in " ".join(printed.split())
    assert "Recommendation quality on held-out interactions" in printed
    kept = read_run(tmp_path / "one")
    assert isinstance(kept, PublicResult)
    assert kept.utilities.filter(metric="ndcg@10")["users"].unique(maintain_order=True).to_list() == [
        "all", "members", "non-members"
    ]  # fmt: skip


@pytest.mark.end_to_end
# The command.
def test_the_command_writes_what_it_prints(tmp_path: Path) -> None:
    texts = "shorter-lists=5,gumbel=400+shorter-lists=10"
    done = recmia("defend", "--defences", texts, *QUICK, "-o", "out", "--store", "store", cwd=tmp_path, columns=160)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "out"
    assert {path.name for path in folder.iterdir()} == {
        "advice.txt", "config.toml", "defend.json", "frontier.png", "frontier.svg", "metrics.parquet", "table.csv",
        "table.parquet", "utility.parquet",
    }  # fmt: skip
    table = pl.read_csv(folder / "table.csv")
    assert table["defence"].unique(maintain_order=True).to_list() == [NONE, POPULARITY, "shorter-lists=5",
                                                                     "shorter-lists=10+gumbel=400"]  # fmt: skip
    for row in table.iter_rows(named=True):
        assert f"{row['auc']:.3f} [{row['auc_low']:.2f}–{row['auc_high']:.2f}]" in done.stdout
    for line in (folder / "advice.txt").read_text().split("\n"):
        assert " ".join(line.split()) in " ".join(done.stdout.split())
    again = recmia("defend", "--defences", texts, *QUICK, "-o", "again", "--store", "store", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again" / "table.csv").read_text() == (folder / "table.csv").read_text()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--defences", "dp-training=0"], "the defence dp-training: epsilon: Input should be greater than 0; got '0'"),
        (["--defences", "popular-random=2"], "alpha: Input should be less than or equal to 1"),
        (["--defences", "gumbel=1", "--held-out", "0"], "set held_out above 0"),
        (["--defences", "dp-training=1", "--dp-clip", "0"], "dp.clip: Input should be greater than 0"),
        (["--defences", "fold-in-members", "--regimes", "fold-in"], "it applies to popular, popular-random, trained"),
    ],
)
def test_bad_commands_are_told(here: Here, tmp_path: Path, arguments: list[str], words: str) -> None:
    done = here("defend", *arguments, *QUICK, "-o", "out")
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_standard_comparison_goes_without_what_is_not_installed(
    small: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that an audit ends with must run without the extra; whoever names the defence is told of it."""
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    settings = AuditSettings.parse({"factors": 4, "k": 5, "seeds": 1, "n_shadows": 4, "held_out": 0.2,
                                    "attacks": ["list-lr"], "regimes": ["fold-in"], "lfm": {"epochs": 8}})  # fmt: skip
    planned = [values["defence"] for values, _ in plan_defend(settings, dataset=small).grid]
    assert not [text for text in planned if text.startswith("dp-training")]
    assert [text for text in planned if text.startswith("gumbel")]
    with pytest.raises(MissingExtraError, match="dp_accounting is not installed"):
        plan_defend(settings, ["dp-training=4"], dataset=small)
    monkeypatch.setattr("recmia.results.defend.standard_defences", lambda *_: ["shorter-lists=2", "dp-training=4"])
    result = run_defend(settings, dataset=small)
    assert set(result.table["defence"]) == {NONE, POPULARITY, "shorter-lists=2"}
    assert result.advice.splitlines()[-1].startswith("dp-training was not measured: dp_accounting is not installed; ")
    assert "dp-training was not measured" in page({Path("run"): result})

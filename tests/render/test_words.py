"""The sentences of a page, and the findings that they stand around: what is said follows the figures."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import polars as pl
import pytest

from recmia import Interactions, audit, defend
from recmia.attacks import ATTACKS, RULES
from recmia.metrics import Metric
from recmia.metrics.epsilon import PromiseCheck
from recmia.render import answers, words
from recmia.results.defend import DefendResult
from recmia.results.findings import Grade, find, grade_auc, of_100
from recmia.results.sweep import SweepResult
from recmia.settings import AuditSettings


@pytest.fixture(scope="module")
def defended(small: Interactions) -> DefendResult:
    settings: dict[str, Any] = {"factors": 4, "k": 10, "seeds": 1, "n_shadows": 8, "lfm": {"epochs": 2}}
    return defend(
        ["shorter-lists=2", "gumbel=300"], small, **settings, regimes=["fold-in"], attacks=["list-lr"], held_out=0.2
    )


@pytest.mark.parametrize(
    ("high", "broken", "chip", "said"),
    [
        ({}, [], "No defence holds", "Popular lists for everyone do: they depend on no single person."),
        ({"none": 0.55}, [], "Under the level", ""),
        ({"shorter-lists=2": 0.55}, [], "A defence holds", "With `shorter-lists=2`."),
        ({"gumbel=300": 0.55}, [], "No defence of use", "With `gumbel=300`, little is left"),
        ({"shorter-lists=2": 0.55}, ["shorter-lists=2"], "Broken promise", "Do not rely on it"),
    ],
)
def test_the_headline_of_defences(
    defended: DefendResult, high: dict[str, float], broken: list[str], chip: str, said: str
) -> None:
    high = {"popularity-only": 0.5} | high
    table = defended.table.with_columns(
        pl.col("defence").replace_strict(high, default=0.9).alias("auc_high"),
        pl.col("defence").is_in(broken).alias("broken"),
        pl.col("defence").replace_strict({"popularity-only": 0.1, "gumbel=300": 0.01}, default=0.2).alias("ndcg@10"),
    )
    _, label, _, more = words.defend_headline(replace(defended, table=table))
    assert label == chip
    assert said in more
    changed = replace(defended, table=table)
    advised = answers.defend_advice(changed, words.defend_findings(changed), "x")
    assert ("broken promise" in advised[0]) == bool(broken)


def test_a_broken_promise_comes_first() -> None:
    metrics = rows("fold-in", query_lr=(0.51, 0.47))
    kept = PromiseCheck("dp-training=4", "grey-box", "fold-in", 4.0, 1e-5, 0.5, "list-lr")
    assert find(metrics, promises=[kept]).grade == "none"
    broken = find(metrics, promises=[replace(kept, bound=5.0)])
    assert broken.grade == "marked"
    assert broken.caveats[0].startswith("A promise of differential privacy is broken")


def rows(regime: str, **aucs: tuple[float, float]) -> list[Metric]:
    known = {"shared-list": (0.5, 0.5), "popular-overlap": (0.5, 0.45), "seen-in-list": (0.5, 0.5)}
    return [
        Metric("grey-box", regime, "lfm", "lfm", attack.replace("_", "-"), "auc", value, low, 2 * value - low, 5, 1,
               150, 150, "")
        for attack, (value, low) in (known | aucs).items()
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "low", "grade", "said"),
    [
        (0.9, 0.85, "strong", "reveal who was"),
        (0.7, 0.65, "marked", "reveal, in part,"),
        (0.6, 0.56, "slight", "find little"),
        (0.51, 0.47, "none", "cannot tell who"),
        (0.6, 0.45, "unclear", "too small to say"),
    ],
)
def test_the_headline_follows_the_figure(value: float, low: float, grade: str, said: str) -> None:
    found = find(rows("fold-in", query_lr=(value, low)))
    assert found.grade == grade
    assert said in found.claim
    assert not found.caveats
    looking = find(rows("fold-in", list_lr=(value, low)))
    untested = grade not in ("strong", "marked")
    assert looking.grade == ("untested" if untested else grade)
    assert ("No strong attack was run" in looking.claim) == untested


def test_what_the_fallback_gives_away_is_told_from_memory() -> None:
    popular = rows("popular", list_lr=(1.0, 0.99)) + rows("fold-in", query_lr=(0.51, 0.47))
    popular = [replace(row, value=1.0, low=0.99) if (row.regime, row.attack) == ("popular", "shared-list") else row
               for row in popular]  # fmt: skip
    found = find(popular)
    assert [finding.of_the_fallback for finding in found.sections] == [True, False]
    assert "not what the model memorised" in found.sections[0].text
    assert "these lists tell them from members" in found.caveats[0]
    assert found.grade == "none"
    alone = [row for row in popular if row.regime == "popular"]
    unclear = find(alone + rows("fold-in", query_lr=(0.6, 0.4)))
    assert (unclear.grade, unclear.caveats) == ("unclear", found.caveats)
    untested = find(alone + rows("fold-in", list_lr=(0.51, 0.47)))
    assert (untested.grade, untested.caveats) == ("untested", found.caveats)


def test_few_who_are_found_without_error_are_a_leak() -> None:
    few = rows("fold-in", query_lr=(0.58, 0.55))
    few.append(replace(few[-1], metric="tpr@fpr=0.01", value=0.2, low=0.15))
    assert find(few).grade == "marked"
    few[-1] = replace(few[-1], low=0.05)
    assert find(few).grade == "slight"


def test_the_auc_of_the_strongest_attack_decides() -> None:
    for value, low in ((0.9, 0.85), (0.6, 0.45), (0.51, 0.47)):
        metrics = rows("fold-in", query_lr=(value, low))
        assert find(metrics).grade == grade_auc(metrics[-1])


def test_hundred_of_hundred_is_all_of_them() -> None:
    assert [of_100(share) for share in (1, 0.999, 0.994, 0.5, 0.004, 0, None)] == [
        "100", "99.9", "99.4", "50", "0.4", "0", "–",
    ]  # fmt: skip


def test_every_regime_and_attack_is_explained() -> None:
    assert words.regimes(["popular", "fold-in", "popular"]) == (
        "In `fold-in`, everyone is served by the same path, in the training data or not; in `popular`, people who were "
        "not in the training data are all shown one list of popular items."
    )
    told = words.attacks_run(["mlp", *RULES, "my-attack"])
    assert told == f"`mlp`: {ATTACKS['mlp'].about}; `my-attack`: user code."
    assert "only rules" in words.attacks_run(RULES)
    asking = words.attacks_run(["completion", "query-lr", "shared-list"])
    assert asking == f"`completion`: {ATTACKS['completion'].about}; `query-lr`: {ATTACKS['query-lr'].about}."


def test_what_the_attacker_knows_of_a_history() -> None:
    assert "can see: that person's history and the list" in words.attackers(["grey-box"])
    part = words.attackers(["grey-box", "white-box"], 0.2)
    assert "can see: 20% of that person's history, drawn at random, and the list" in part
    assert "(`grey-box`)" in part
    assert "(`white-box`)" in part


def test_what_was_asked_is_said(small: Interactions) -> None:
    result = audit(
        small, factors=4, k=10, seeds=1, regimes=["fold-in"], attacks=["completion"], n_shadows=0, queries=2,
        lfm={"epochs": 1},
    )  # fmt: skip
    said = words.queries(result)
    assert "as if it were a stranger's" in said
    assert said.endswith("and see what it answers: 120 queries to each system, 2 a person.")
    asked = result.provenance["attacker"][0]["asked"]
    assert asked == {
        "queries": 120, "share": 0.5, "kind": "parts", "users_asked_about_less_often": 0, "users_not_asked_about": 0
    }  # fmt: skip
    few = asked | {"queries": 90, "users_asked_about_less_often": 7, "users_not_asked_about": 3}
    told = words.queries(replace(result, provenance=result.provenance | {"attacker": [{"seed": 0, "asked": few}]}))
    assert told.endswith(
        "90 queries to each system, 2 a person. The histories of 7 people are too short for so many, and of 3 nothing "
        "can be asked."
    )
    first = asked | {"kind": "prefixes"}
    told = words.queries(replace(result, provenance=result.provenance | {"attacker": [{"seed": 0, "asked": first}]}))
    assert "put the first events of what they know" in told
    assert told.endswith("and see whether it answers with the next item: 120 queries to each system, up to 2 a person.")
    silent = replace(result, provenance=result.provenance | {"attacker": []})
    assert words.queries(silent) == "The attacker only looked at lists, and did not ask the system."


def grid(*cells: dict[str, tuple[float, float]]) -> SweepResult:
    """A sweep over k with the AUCs of these cells in fold-in."""
    table = pl.DataFrame(
        [
            {"k": number, **asdict(row), "joint_low": row.low, "joint_high": row.high}
            for number, cell in enumerate(cells, 1)
            for row in rows("fold-in", **cell)
        ]
    )
    return SweepResult(AuditSettings(), {"k": list(range(1, len(cells) + 1))}, table, [], {"data": {"source": "x"}})


@pytest.mark.parametrize(
    ("values", "grade", "said"),
    [
        ([(0.9, 0.85), (0.9, 0.86)], "strong", "In all settings tried, the recommendations reveal who"),
        ([(0.9, 0.85), (0.7, 0.66)], "strong", "In some of the settings tried, the recommendations reveal who"),
        ([(0.7, 0.66), (0.51, 0.47)], "marked", "In some of the settings tried, the recommendations reveal, in part"),
        ([(0.51, 0.47), (0.51, 0.47)], "none", "In all settings tried, the attacks cannot tell"),
        ([(0.6, 0.56), (0.51, 0.47)], "slight", "In all settings tried, the attacks find little"),
        ([(0.6, 0.45), (0.51, 0.47)], "unclear", "too small to say"),
    ],
)
def test_the_headline_of_a_sweep(values: list[tuple[float, float]], grade: Grade, said: str) -> None:
    result = grid(*({"query_lr": value} for value in values))
    judged, sentence = words.sweep_headline(result)
    assert judged == grade
    assert said in sentence
    looking, told = words.sweep_headline(grid(*({"list_lr": value} for value in values)))
    assert looking == (grade if grade in ("strong", "marked") else "untested")
    assert ("No strong attack was run, so this sweep cannot say" in told) == (looking == "untested")


def test_a_sweep_names_the_cells_where_most_and_least_is_found() -> None:
    (found,) = words.sweep_findings(grid({"list_lr": (0.9, 0.85)}, {"list_lr": (0.7, 0.65)}))
    assert found.claim == "Most is found at `k=1`: AUC 0.900 [0.850–0.950] with `list-lr`."
    assert found.details == ("Least is found at `k=2`: AUC 0.700 [0.650–0.750] with `list-lr`.",)
    (alike,) = words.sweep_findings(grid({"list_lr": (0.9, 0.85)}, {"list_lr": (0.899, 0.85)}))
    assert alike.details == ("Nearly as much is found in every other setting.",)


def test_the_advice_of_a_comparison_stands_beside_its_regime(defended: DefendResult) -> None:
    (found,) = words.defend_findings(defended)
    assert found.regime == "fold-in"
    assert found.claim.lower() in defended.advice.lower()


@pytest.mark.parametrize(("seeds", "said"), [(1, "over the users of a single repetition"), (3, "3 independent rep")])
def test_one_repetition_is_not_several(seeds: int, said: str) -> None:
    assert said in words.intervals({"seeds": seeds, "n_members": 9, "n_nonmembers": 9})


def test_a_costly_advice_says_how_costly() -> None:
    own = AuditSettings.parse({"n_targets": 20, "attacks": ["mlp"]})
    assert answers.takes(own, n_targets=22) == "", "hardly more"
    assert answers.takes(own.changed(n_targets=1), n_targets=20) == " That takes about 10 times the time of this run."

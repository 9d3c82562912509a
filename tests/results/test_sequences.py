"""Audits of recommenders that use the order of events: what is found is there, and nothing where nothing is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import pytest
from scipy import sparse

import recmia
from recmia import Interactions
from recmia.errors import ConfigError, DataError
from recmia.metrics import auc
from recmia.recommenders import Recommender

SETTINGS: dict[str, Any] = {
    "regimes": ["fold-in"], "attacks": ["completion", "query-lr"], "n_shadows": 4, "k": 10, "seeds": 1,
    "min_interactions": 5, "factors": 16, "thresholds": False, "split": "shared", "query_kind": "prefixes",
}  # fmt: skip


class Transitions(Recommender):
    """Lists what followed on the last item in the fit: it memorises, and uses the order."""

    uses_order = True

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        histories = interactions.sequences()
        self.followed = np.zeros((interactions.n_items, interactions.n_items), np.float32)
        for items in np.split(histories.indices, histories.indptr[1:-1]):
            np.add.at(self.followed, (items[:-1], items[1:]), 1)
        self.trained_items = interactions.item_counts() > 0
        return self

    def scores(self, histories: sparse.csr_array) -> Any:
        self.fitted_items()
        scores = np.zeros(histories.shape, np.float32)
        for row, items in zip(scores, np.split(histories.indices, histories.indptr[1:-1]), strict=True):
            if len(items):
                row[:] = self.followed[items[-1]]
        return scores


@pytest.fixture(scope="module")
def walks() -> Interactions:
    """Users who take 20 of 150 items at random: all that can be known of the next one is memory."""
    rng = np.random.default_rng(7)
    item = np.concatenate([rng.choice(150, 20, replace=False) for _ in range(80)])
    return Interactions.from_arrays(np.repeat(np.arange(80), 20), item, time=np.tile(np.arange(20), 80))


def area(result: recmia.AuditResult, attack: str) -> float:
    (row,) = (one for one in result.metrics if (one.attack, one.metric) == (attack, "auc"))
    assert row.value is not None
    return row.value


@pytest.fixture(scope="module")
def found(walks: Interactions) -> recmia.AuditResult:
    return recmia.audit(walks, recommender=Transitions, n_targets=4, **SETTINGS)


@pytest.mark.statistical
def test_a_prefix_finds_who_was_memorised(found: recmia.AuditResult) -> None:
    assert area(found, "completion") > 0.97
    assert area(found, "query-lr") > 0.97


@pytest.mark.statistical
def test_another_order_of_the_same_items_finds_less(walks: Interactions) -> None:
    """The order reaches the system: asked with random halves, the last item is seldom followed by what it was."""
    only = {"attacks": ["completion"]}
    halves = recmia.audit(walks, recommender=Transitions, **SETTINGS | only | {"query_kind": "parts"})
    backwards = Interactions.from_arrays(
        walks.users.ids[walks.user[walks.events]], walks.items.ids[walks.item[walks.events]],
        time=-np.arange(len(walks)),
    )  # fmt: skip
    again = recmia.audit(backwards, recommender=Transitions, **SETTINGS | only)
    assert area(halves, "completion") < 0.9
    assert area(again, "completion") > 0.97, "a history read from its end is as good, since training reads it so, too"


@pytest.mark.statistical
def test_the_membership_of_another_system_is_not_found(found: recmia.AuditResult) -> None:
    """The negative control: scores of one target, and the members of the next, who are drawn by other coins."""
    for attack in ("completion", "query-lr"):
        rows = found.scores.filter(pl.col("attack") == attack)
        targets = [part.sort("user_id") for part in rows.partition_by("run", maintain_order=True)]
        assert len(targets) == 4
        crossed = [
            auc(other["member"].to_numpy(), one["score"].to_numpy()).value
            for number, one in enumerate(targets)
            for place, other in enumerate(targets)
            if number != place
        ]
        # Twelve AUCs of 80 users, whose standard deviation is 0.065 each.
        assert abs(np.mean(np.array(crossed, float)) - 0.5) < 0.07


@pytest.mark.statistical
def test_what_memorises_nothing_is_not_found(walks: Interactions) -> None:
    result = recmia.audit(walks, recommender="random", n_targets=8, **SETTINGS | {"attacks": ["completion"]})
    # One in a thousand: eight targets of 80 users.
    assert abs(area(result, "completion") - 0.5) < 0.08


@pytest.mark.statistical
@pytest.mark.parametrize("name", ["sasrec", "gru4rec"])
def test_networks_are_found_when_they_have_memorised_and_not_before(walks: Interactions, name: str) -> None:
    fixed = SETTINGS | {"attacks": ["completion"], "n_targets": 2}
    trained = fixed | {name: {"epochs": 80, "dropout": 0.0, "learning_rate": 0.01}}
    long = recmia.audit(walks, recommender=name, **trained)
    assert area(long, "completion") > 0.9
    never = recmia.audit(walks, recommender=name, **fixed | {name: {"epochs": 1, "learning_rate": 1e-9}})
    assert abs(area(never, "completion") - 0.5) < 0.15
    assert "uses the last" not in " ".join(long.provenance["data"]["notes"])


def test_what_a_window_cuts_off_is_said(walks: Interactions) -> None:
    settings = SETTINGS | {"attacks": ["completion"], "gru4rec": {"window": 5, "epochs": 1}}
    result = recmia.audit(walks, recommender="gru4rec", **settings)
    assert (
        "gru4rec uses the last 5 events of a history, and 80 of 80 users have more"
        in result.provenance["data"]["notes"]
    )
    assert result.provenance["data"]["order"].startswith("by time")


def test_a_black_box_attacker_without_an_order_is_refused_by_name(walks: Interactions, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    walks.frame().select("user", "item").write_csv(other)
    with pytest.raises(DataError, match=f"black_box_data = {other}: a recommender needs the order of events"):
        recmia.audit(
            walks, recommender="gru4rec", knowledge=["black-box"], black_box_data=str(other),
            **SETTINGS | {"attacks": ["query-lr"]},
        )  # fmt: skip


def test_a_sweep_says_what_its_windows_cut_off(walks: Interactions) -> None:
    settings = SETTINGS | {"attacks": ["completion"], "gru4rec": {"epochs": 1}}
    result = recmia.sweep({"gru4rec.window": [5, 50]}, walks, recommender="gru4rec", **settings)
    data = result.provenance["data"]
    assert data["notes"] == ["gru4rec uses the last 5 events of a history, and 80 of 80 users have more"]
    assert data["order"].startswith("by time")


def test_files_keep_the_order_from_the_questions_to_the_references(walks: Interactions, tmp_path: Path) -> None:
    """A system elsewhere answers in the order of the questions, and so does a reference that needs it."""
    rng = np.random.default_rng(3)
    others = np.concatenate([rng.choice(150, 20, replace=False) for _ in range(60)])
    rest = Interactions.from_arrays(
        1000 + np.repeat(np.arange(60), 20), others, time=np.tile(np.arange(20), 60)
    ).frame()
    walks.frame().write_parquet(tmp_path / "log.parquet")
    rest.write_parquet(tmp_path / "rest.parquet")
    recmia.ask(tmp_path / "log.parquet", tmp_path / "q", query_kind="prefixes", draw_members=True, seed=2)
    asked = pl.read_parquet(tmp_path / "q" / "questions.parquet")
    assert asked.columns == ["query", "item", "time", "position"]
    member = pl.read_csv(tmp_path / "q" / "members.csv").sort("user")["member"].to_numpy() == 1
    system = Transitions().fit(walks.restrict(np.flatnonzero(member)), rng=rng)
    row_of = {item: row for row, item in enumerate(walks.items.ids.tolist())}
    answers = []
    # A question is answered from its rows in the order of their positions, whatever their order in the file is.
    for (query,), part in asked.sample(fraction=1, shuffle=True, seed=0).group_by("query"):
        items = np.array([row_of[item] for item in part.sort("position")["item"].to_list()], np.int32)
        history = sparse.csr_array((np.ones(len(items), np.float32), items, [0, len(items)]), (1, walks.n_items))
        best = system.recommend(history, 10)[0]
        answers += [(query, walks.items.ids[item], rank) for rank, item in enumerate(best[best >= 0], 1)]
    pl.DataFrame(answers, schema=["query", "item", "rank"], orient="row").write_parquet(tmp_path / "answers.parquet")
    result = recmia.audit_files(
        tmp_path / "log.parquet", members=tmp_path / "q" / "members.csv", questions=str(tmp_path / "q"),
        answers=str(tmp_path / "answers.parquet"), reference_interactions=str(tmp_path / "rest.parquet"),
        attacks=["completion", "completion-reference"], references=["gru4rec"], gru4rec={"epochs": 1}, factors=8,
    )  # fmt: skip
    assert area(result, "completion") > 0.97
    assert area(result, "completion-reference") > 0.9
    assert "names the next item in" in result.verdict
    asked.drop("position").write_parquet(tmp_path / "q" / "questions.parquet")
    with pytest.raises(ConfigError, match=r"gru4rec: needs the order of events, and .*q has no column position; write"):
        recmia.audit_files(
            tmp_path / "log.parquet", members=tmp_path / "q" / "members.csv", questions=str(tmp_path / "q"),
            answers=str(tmp_path / "answers.parquet"), reference_interactions=str(tmp_path / "rest.parquet"),
            attacks=["completion-reference"], references=["gru4rec"],
        )  # fmt: skip


def test_words_on_prefixes_are_of_the_next_item(found: recmia.AuditResult) -> None:
    assert set(found.disclosures["part"]) == {"next"}
    assert set(found.disclosures["metric"]) == {"recall@10"}
    assert "share" not in found.provenance["attacker"][0]["asked"]
    shown = str(found)
    assert "the next item" in shown
    assert "not asked with" not in shown


def test_a_share_makes_no_sense_of_prefixes(walks: Interactions, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"query_share = 0\.9 is the share of a random part, and gru4rec is asked with"
    ):
        recmia.audit(walks, recommender="gru4rec", query_share=0.9)
    walks.frame().write_parquet(tmp_path / "log.parquet")
    with pytest.raises(ConfigError, match=r"query_share = 0\.9 is the share of a random part"):
        recmia.ask(tmp_path / "log.parquet", tmp_path / "q", query_kind="prefixes", query_share=0.9)
    asked = recmia.ask(tmp_path / "log.parquet", tmp_path / "q", query_kind="prefixes")
    assert "  order: by time and position" in str(asked)

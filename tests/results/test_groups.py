"""Figures by group: of users and of interactions, in tables, on the page and in the gate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import recmia
from recmia.errors import ConfigError, DataError
from recmia.metrics import auc
from recmia.render import text
from recmia.results.gate import Gate, parse_limit
from recmia.results.groups import MISSING, by_group, exposed_interactions, groupings
from recmia.settings import AuditSettings

DATA = "synthetic:240x120x9000"
USERS: dict[str, Any] = {"regimes": ["fold-in"], "attacks": ["completion"], "factors": 8, "k": 10, "seeds": 2}
PAIRS: dict[str, Any] = {
    "unit": "interactions", "blocks": 4, "k": 20, "attacks": ["item-completion"], "seeds": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> recmia.AuditResult:
    """An audit of users, who have a country: one is missing, and one is of a few."""
    folder = tmp_path_factory.mktemp("countries")
    ids = np.arange(1, 241)
    country = np.where(ids % 3 == 0, "CH", "DE").astype(object)
    country[ids % 40 == 0] = "LI"
    table = pl.DataFrame({"uid": ids, "country": country, "other": ids}).filter(pl.col("uid") % 7 != 0)
    table.write_csv(folder / "users.csv")
    options: dict[str, Any] = {
        "users_table": str(folder / "users.csv"),
        "users_columns": "user=uid",
        "group_by": ["country", "rarity"],
    }
    return recmia.audit(DATA, recommender="ease", **USERS, **options)


@pytest.fixture(scope="module")
def pairs() -> recmia.AuditResult:
    return recmia.audit(DATA, recommender="ease", **PAIRS)


def test_groups_part_the_users(users: recmia.AuditResult) -> None:
    assert groupings(users) == ("history_length", "rarity", "country")
    rows = users.by_group("country").filter(metric="auc")
    assert rows["group"].to_list() == [MISSING, "CH", "DE", "LI"]
    assert rows["attack"].unique().to_list() == ["completion"], "the strongest attack of the section"
    small = rows.filter(group="LI").row(0, named=True)
    assert small["value"] is None
    assert "not resolvable: the group has" in small["note"]
    for name in ("rarity", "history_length"):
        thirds = users.by_group(name).filter(metric="auc")
        assert len(thirds) == 3
        assert thirds["value"].is_between(0.4, 1).all()
    whole = users.by_group()
    assert set(whole["grouping"]) == {"history_length", "rarity", "country"}


def test_a_group_has_the_figure_of_its_users(users: recmia.AuditResult) -> None:
    members = users.scores.filter(attack="completion", side="target").join(users.users, on=["seed", "user_id"])
    values = []
    for seed in (0, 1):
        part = members.filter(country="CH", seed=seed)
        value = auc(part["member"].to_numpy(), part["score"].to_numpy()).value
        assert value is not None
        values.append(value)
    found = users.by_group("country").filter(metric="auc", group="CH")["value"][0]
    assert found == pytest.approx(np.mean(values))
    assert users.by_group("country").filter(metric="auc", group="CH")["low"][0] < found


def test_intervals_of_groups_hold_together(users: recmia.AuditResult) -> None:
    """Four groups: their intervals are wider than one of the same users alone."""
    wide = next(row for _, group, row in by_group(users, ["country"]) if group == "DE" and row.metric == "auc")
    wider = next(
        row for _, group, row in by_group(users, ["country"], figures=50) if group == "DE" and row.metric == "auc"
    )
    assert wide.low is not None
    assert wider.low is not None
    assert wider.low < wide.low


def test_tables_and_page(users: recmia.AuditResult, tmp_path: Path) -> None:
    assert "completion, by country" in str(users)
    assert "completion, by rarity of taste" in str(users)
    assert "by length of the history" not in str(users), "what the audit was grouped by"
    plain = replace(users, settings=users.settings.changed(group_by=[], users_table="", users_columns=""))
    assert not [one for one in text.result_tables(plain) if "By group" in str(one.title)]
    page = users.report(tmp_path / "page.html").read_text()
    assert "Who is hit harder: figures by group" in page
    assert "completion, by country" in page


def test_the_gate_tests_every_group(users: recmia.AuditResult) -> None:
    plain, grouped = (users.gate("auc=0.55", by_group=wanted) for wanted in (False, True))
    assert len(grouped.checks) > len(plain.checks)
    of_groups = [one for one in grouped.checks if one.group]
    assert {one.group for one in of_groups} >= {"country = CH", "country = LI", "rarity = rare taste"}
    assert not any(one.untested for one in of_groups), "a group that is too small is said, and does not end a build"
    assert "country = LI" in next(one.words for one in of_groups if one.group == "country = LI")
    proof = users.gate(require_below=["auc=0.99"], by_group=True)
    assert proof.exit_code == 1, "nothing is proven of a group that is too small"
    assert '"group": "country = CH"' in grouped.as_json()
    assert "country = CH" in grouped.as_junit()


def test_a_breach_of_one_group_is_enough(pairs: recmia.AuditResult) -> None:
    """Where a group is hit far harder than all, the limit of all does not hide it."""
    length = np.array(pairs.users["history_length"].to_list())
    long = set(pairs.users.filter(pl.col("history_length") > np.quantile(length, 2 / 3))["user_id"].to_list())
    hit = pairs.scores["user_id"].is_in(list(long)) & pairs.scores["member"]
    rng = np.random.default_rng(0)
    flat = pl.Series("score", rng.normal(size=len(pairs.scores)))
    planted = replace(pairs, scores=pairs.scores.with_columns(score=flat + 6 * hit.cast(pl.Float64)))
    limit = [parse_limit("auc=0.8", ["auc"])]
    assert Gate.test(planted, limit).exit_code == 0
    found = Gate.test(planted, limit, groups=True)
    assert found.exit_code == 1
    assert "history_length = long history" in str(found)


def test_groups_of_interactions(pairs: recmia.AuditResult) -> None:
    assert groupings(pairs)[:2] == ("popularity", "history_length")
    rows = pairs.by_group("popularity").filter(metric="auc")
    assert rows["group"].to_list() == ["rare item", "middle", "popular item"]
    assert rows["n_members"].sum() + rows["n_nonmembers"].sum() == len(pairs.scores.filter(attack="item-completion"))


def test_terms_of_items_are_groups() -> None:
    rng = np.random.default_rng(0)
    user, item = np.divmod(rng.choice(120 * 60, 3600, replace=False), 60)
    texts = {item: "|".join(["odd" if item % 2 else "even"] + [f"tag{item}"] * (item < 30)) for item in range(60)}
    data = recmia.Interactions.from_arrays(user, item, texts=texts)
    result = recmia.audit(data, recommender="itemknn", **PAIRS | {"min_interactions": 1})
    rows = result.by_group("terms").filter(metric="auc")
    assert {"odd", "even"} <= set(rows["group"])
    assert len(rows) <= 20


def test_a_table_of_items(tmp_path: Path) -> None:
    """Its columns are groups, and its titles are shown."""
    ids = np.arange(1, 121)
    table = pl.DataFrame({"itemId": ids, "title": [f"Film {one}" for one in ids], "kind": ["a", "b", "c"] * 40})
    table.write_csv(tmp_path / "films.csv")
    options: dict[str, Any] = {"items_table": str(tmp_path / "films.csv"), "group_by": ["kind"]}
    result = recmia.audit(DATA, recommender="ease", **PAIRS, **options)
    assert result.by_group("kind").filter(metric="auc")["group"].to_list() == ["a", "b", "c"]
    assert all(row["title"] == f"Film {row['item_id']}" for row in exposed_interactions(result))
    assert "Film " in str(result)
    assert "Film " in result.report(tmp_path / "page.html").read_text()


def test_the_most_exposed_interactions(pairs: recmia.AuditResult) -> None:
    found = exposed_interactions(pairs, 5)
    assert len({row["user_id"] for row in found}) == len(found) == 5, "one for each person"
    trained = pairs.scores.filter("member", attack="item-completion")
    keys = set(zip(trained["user_id"].to_list(), trained["item_id"].to_list(), strict=True))
    assert {(row["user_id"], row["item_id"]) for row in found} <= keys
    assert all("have it" in row["reason"] or "has it" in row["reason"] for row in found)


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"group_by": ["country"]}, ConfigError, "group_by = country: none of history_length, .* users_table"),
        (
            {"group_by": ["popularity"]},
            ConfigError,
            "with unit = users, figures are grouped by history_length, rarity; got",
        ),
        ({"group_by": ["land"], "users_table": "u.csv"}, DataError, r"u\.csv has no column 'land' to group by"),
        ({"group_by": ["country"], "users_table": "none.csv"}, DataError, r"none\.csv: there is no such file of users"),
        (
            {"group_by": ["country"], "users_table": "twice.csv"},
            DataError,
            r"twice\.csv: data row 2 names a user twice",
        ),
    ],
)
def test_what_cannot_be_grouped_by(
    given: dict[str, Any], kind: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("u.csv").write_text("user,country\n1,CH\n")
    Path("twice.csv").write_text("user,country\n1,CH\n1,DE\n")
    with pytest.raises(kind, match=words) as told:
        str(recmia.audit(settings=AuditSettings.parse({"dataset": DATA, **USERS, "seeds": 1, **given})))
    assert "\n" not in str(told.value)

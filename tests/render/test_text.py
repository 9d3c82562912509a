"""Results as plain text: sentences follow the figures, and tables lose no digit on a narrow terminal."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape

import polars as pl
import pytest

from recmia.metrics import Metric
from recmia.render import text
from recmia.render.tables import FigureTable, Row
from recmia.results.findings import find, section_name
from tests.render.helpers import defended, table

NOBODY = pl.DataFrame()


def row(regime: str, attack: str, value: float, low: float, high: float, level: str = "grey-box") -> Metric:
    return Metric(level, regime, "lfm", "lfm", attack, "auc", value, low, high, 5, 1, 10, 10, "")


def verdict(rows: list[Metric], users: pl.DataFrame = NOBODY) -> str:
    return text.verdict(find(rows, users))


def table_text(rows: list[Metric], width: int = 100) -> str:
    return text.as_text(text.metrics_table(rows), width=width)


@pytest.mark.parametrize(
    ("value", "low", "words"),
    [
        (0.52, 0.49, "cannot be distinguished from chance"),
        (0.58, 0.54, "distinguishes members from non-members only slightly"),
        (0.72, 0.70, "with many errors"),
        (0.88, 0.85, "in most cases"),
        (0.97, 0.95, "almost always"),
    ],
)
def test_verdict_follows_the_figures(value: float, low: float, words: str) -> None:
    rows = [row("fold-in", "query-lr", value, low, value + 0.02), row("fold-in", "shared-list", 0.5, 0.5, 0.5)]
    said = verdict(rows)
    assert words in said
    assert "too wide" not in said
    assert ("no proof of safety" in said) == (value < 0.65)
    assert ("finds more than any such rule" in said) == (low > 0.5)
    assert ("the answers reveal members" in said) == (value >= 0.65)


@pytest.mark.parametrize("attack", ["mlp", "list-lr", "completion"])
@pytest.mark.parametrize(("value", "low"), [(0.52, 0.49), (0.58, 0.54)])
def test_little_that_a_weak_attack_finds_is_no_finding(value: float, low: float, attack: str) -> None:
    rows = [row("fold-in", attack, value, low, value + 0.02), row("fold-in", "shared-list", 0.5, 0.5, 0.5)]
    said = verdict(rows)
    assert said.startswith("Not tested against a strong attack. No strong attack was run")
    assert "None of the strong attacks was run here, which ask the system with parts of histories" in said
    assert "that others find little proves nothing" in said
    assert "no proof of safety" not in said


def test_a_wide_interval_is_no_finding() -> None:
    said = verdict([row("fold-in", "query-lr", 0.605, 0.364, 0.847), row("fold-in", "shared-list", 0.5, 0.5, 0.5)])
    assert "cannot be judged: the interval is too wide" in said
    assert said.startswith("Too few users to say.")
    assert "only slightly" not in said
    assert "chance" not in said


@pytest.mark.parametrize(
    ("value", "low", "words"),
    [
        (0.52, 0.49, "Query-lr cannot be distinguished from chance (AUC 0.520"),
        (0.58, 0.54, "Query-lr distinguishes members from non-members only slightly (AUC 0.580"),
        (0.72, 0.70, "Query-lr distinguishes members from non-members, with many errors (AUC 0.720"),
        (0.97, 0.95, "Query-lr distinguishes members from non-members almost always (AUC 0.970"),
    ],
)
def test_attacks_with_many_shadows_have_their_own_sentence(value: float, low: float, words: str) -> None:
    published, rule = row("fold-in", "mlp", 0.51, 0.49, 0.53), row("fold-in", "shared-list", 0.5, 0.5, 0.5)
    pooled = row("fold-in", "query-lr", value, low, value + 0.02)
    said = verdict([published, pooled, rule])
    assert words.lower() in said.lower()
    assert "The published attack (mlp) cannot be distinguished from chance" in said
    assert ("query-lr finds more than any such rule" in said) == (low > 0.5)
    assert ("query-lr finds more than any such rule: the answers reveal members" in said) == (value >= 0.65)
    assert ("no proof of safety" in said) == (value < 0.65)
    assert "Without asking" not in said
    alone = verdict([pooled, rule])
    assert words.lower() in alone.lower()
    assert "published" not in alone


def test_the_stronger_attack_decides() -> None:
    rows = [row("fold-in", "mlp", 0.9, 0.88, 0.92), row("fold-in", "list-lr", 0.8, 0.78, 0.82)]
    said = verdict([*rows, row("fold-in", "shared-list", 0.5, 0.5, 0.5)])
    assert "mlp finds more than any such rule" in said


def test_no_mark_of_code_is_left_in_plain_text() -> None:
    assert "`" not in verdict([row("fold-in", "mlp", 0.9, 0.88, 0.92), row("fold-in", "shared-list", 0.5, 0.5, 0.5)])


def test_sections_are_named_by_level_where_there_are_several() -> None:
    assert section_name("grey-box", "fold-in", 1) == "fold-in"
    assert section_name("grey-box", "fold-in", 2) == "fold-in, grey-box"
    rows = [row(regime, "shared-list", 0.5, 0.5, 0.5, level)
            for level in ("black-box", "white-box") for regime in ("popular", "fold-in")]  # fmt: skip
    lines = verdict(rows).splitlines()[1:-1]
    names = [line.partition(" (")[0] for line in lines]
    assert names == ["popular, black-box", "popular, white-box", "fold-in, black-box", "fold-in, white-box"]
    assert all(name in table_text(rows) for name in names)
    assert "popular (" in verdict(rows[:1])


def test_epsilon_is_shown_as_a_bound() -> None:
    note = "95% lower bound; no more than 2.76 can be shown with so many users"
    area = replace(row("fold-in", "list-lr", 0.7, 0.6, 0.8), targets=3)
    rows = [area, replace(area, metric="epsilon", value=1.234, low=1.234, high=None, note=note)]
    shown = " ".join(table_text(rows).split())
    assert "list-lr looks 0.700 [0.600–0.800] ≥ 1.23" in shown
    assert f"epsilon: {note}" in shown
    assert "At least 10 against 10 users, mean over 5 seeds with 3 targets each" in shown


def test_a_table_marks_who_asks() -> None:
    attacks = {
        "mlp": "looks", "list-lr": "looks", "completion": "asks", "completion-reference": "asks", "query-lr": "asks",
        "their-own": "looks", "shared-list": "rule", "recency": "rule",
    }  # fmt: skip
    shown = table_text([row("fold-in", attack, 0.7, 0.6, 0.8) for attack in attacks])
    assert "attacker" in shown
    for attack, means in attacks.items():
        assert text.means(attack) == means
        assert re.search(rf"{attack} +│? *{means} +│? *0\.700", shown), attack


def test_what_looking_finds_has_its_own_sentence() -> None:
    rows = [row("fold-in", "mlp", 0.51, 0.49, 0.53), row("fold-in", "list-lr", 0.53, 0.49, 0.57)]
    said = verdict([*rows, row("fold-in", "query-lr", 0.99, 0.98, 1.0)])
    assert "The published attack (mlp) cannot be distinguished from chance (AUC 0.510" in said
    assert "Without asking, the strongest attack (list-lr) cannot be distinguished from chance (AUC 0.530" in said
    assert "Without asking" not in verdict(rows)


PARTS = pl.DataFrame(
    [
        {"part": part, "metric": metric, "users": users, "value": 0.123, "low": 0.045, "high": 0.678}
        for part in ("hidden", "unknown")
        for metric in ("recall@100", "precision@10")
        for users in ("members", "non-members")
    ]
)


@pytest.mark.parametrize("width", [40, 47, 60, 80, 100])
def test_what_is_given_away_loses_no_digit(width: int) -> None:
    shown = text.as_text(text.disclosure_table(PARTS), width=width)
    assert "…" not in shown
    assert all(len(line) <= width for line in shown.splitlines())
    assert shown.count("0.123") == shown.count("[0.045–0.678]") == 8
    said = " ".join(shown.split())
    for words in ("the part that was not asked with", "the part that the attacker does not know", "members"):
        assert words in said
    # Of a group about which nothing was asked there is nothing to tell.
    some = text.as_text(
        text.disclosure_table(PARTS.filter((pl.col("part") == "hidden") | (pl.col("users") == "members")))
    )
    assert some.count("0.123") == 6
    assert sum(line.endswith(" –") for line in some.splitlines()) == 2


def per_user(named: list[int], *, regime: str = "fold-in", seed: int = 0) -> pl.DataFrame:
    """Twenty users; user u has a history of u and the rarity of -u."""
    users = list(range(20))
    return pl.DataFrame(
        {
            "seed": seed, "knowledge": "grey-box", "regime": regime, "attack": "list-lr",
            "user_id": [f"[red]{user}" for user in users],
            "auc": [0.9 if user in named else 0.5 for user in users],
            "low": [0.5 + user / 100 for user in users],
            "identifiable": [user in named for user in users],
            "n_in": 11, "n_out": 9, "history_length": users, "rarity": [-float(user) for user in users],
        }
    )  # fmt: skip


RULE = [row("fold-in", "shared-list", 0.5, 0.5, 0.5)]


def test_identified_users_come_with_what_is_unusual_about_them() -> None:
    said = verdict(RULE, per_user([0, 10, 19])).splitlines()[-2]
    assert said == (
        "3 of 20 users are individually identified as members (fold-in, list-lr, one seed, 20 targets; "
        "false-discovery rate 5%). The most exposed: [red]19 (long history, popular taste); [red]10 (ordinary in "
        "length and taste); [red]0 (short history, rare taste)."
    )
    assert verdict(RULE, per_user(list(range(20)))).count("[red]") == 5


def test_nobody_identified_is_no_all_clear() -> None:
    said = verdict(RULE, per_user([])).splitlines()[-2]
    assert said.startswith("No single user is identified as a member")
    assert said.endswith("false-discovery rate 5%); more targets would identify more.")
    assert "identified" not in verdict(RULE)


def test_users_are_identified_from_one_seed_and_where_all_are_served_alike() -> None:
    both = pl.concat([per_user([1, 2, 3], regime="popular"), per_user([4]), per_user([5, 6], seed=1)])
    said = verdict(RULE, both).splitlines()[-2]
    assert "(fold-in, list-lr, one seed" in said
    assert "1 of 20" in said
    assert "[red]4" in said
    only_popular = verdict(RULE, per_user([1, 2, 3], regime="popular"))
    assert "individually identified as members (popular" in only_popular


WIDTHS = (40, 47, 60, 80, 100)


def words_of(shown: str) -> set[str]:
    return {word.rstrip(",") for word in shown.replace("│", " ").split()}


def numbers_of(shown: str) -> set[str]:
    return set(re.findall(r"\d[\d.,]*\d|\d", shown))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "shown",
    [
        FigureTable(
            "By group", ["group", "in / out"], ["AUC", "TPR at FPR 0.01"],
            [
                Row(["item-lr, by popularity of the item", ""], style="bold"),
                Row(["  long history", "12,345 / 23,456"], ["0.789 [0.679–0.987]", "not resolvable"]),
                Row(["  20 to 1,030", "67 / 89"], ["0.456 [0.312–0.567]", "0.91 [0.82–0.97]"]),
            ],
        ),
        FigureTable(
            "The interactions that item-lr is surest of", ["user", "item"], ["terms", "share of others as high", "why"],
            [Row(["100482", "One Flew Over the Cuckoo's Nest (1975)"], ["Drama", "0.00012", "1,234 people have it"])],
        ),
        FigureTable(
            "Do deleted users look like others?", ["users"], list(text.FORGET_COLUMNS),
            [
                Row(["members (positive control)"], ["10,245", "-0.00123", "0.914 [0.873–0.951]", "1,204"]),
                Row(["never members"], ["9,876", "-1.23e+04", "0.500", "–"]),
            ],
        ),
        FigureTable(
            "AUC of the MLP", ["LFM", "non-members get"], ["paper", "ours"],
            [Row(["explicit", "popular-random"], ["0.857", "0.861 [0.842–0.879]"])], "0.857 is printed.",
        ),
        FigureTable(
            "of swept keys", ["lfm.regularisation", "item_vectors", "max_users"], ["mlp"],
            [Row([f"0.0000{number}", "shadow", f"10{number}000"], [f"0.87{number} [0.823–0.912]"]) for number in "12"],
        ),
    ],
    ids=lambda one: one.title,
)  # fmt: skip
def test_no_table_breaks_a_number_or_is_wider_than_there_is_room(shown: FigureTable, width: int) -> None:
    wide, narrow = text.as_text(shown, width=300), text.as_text(shown, width=width)
    assert numbers_of(wide) == numbers_of(narrow)
    assert max(map(len, narrow.splitlines())) <= width
    assert "…" not in narrow


def test_what_does_not_fit_side_by_side_is_stacked() -> None:
    shown = FigureTable(
        "AUC, popular", ["k", "lfm.epochs", "factors"], ["mlp", "popular-overlap"],
        [Row(["5", "20", "100"], ["0.435 [0.283–0.602]", "1.000 [0.857–1.000]"], "dim")], "A caption.",
    )  # fmt: skip
    assert text.as_text(shown, width=40).splitlines() == [
        "AUC, popular",
        "k 5, lfm.epochs 20, factors 100",
        "  mlp               0.435 [0.283–0.602]",
        "  popular-overlap   1.000 [0.857–1.000]",
        "",
        "A caption.",
    ]
    assert "k 5" not in text.as_text(shown, width=60)


@pytest.mark.parametrize("width", WIDTHS)
def test_an_audit_loses_no_digit(width: int) -> None:
    rows = []
    for number, attack in enumerate(("list-lr-surprise", "mlp", "history-popularity")):
        area = replace(row("popular-random", attack, 0.123 + number / 10, 0.023, 0.987), n_members=12345)
        rows += [
            area,
            replace(area, metric="tpr@fpr=0.01", value=0.12 + number / 10, low=0.02, high=0.98),
            replace(area, metric="balanced_accuracy", value=0.56 + number / 10, low=0.03, high=0.97),
            replace(area, metric="epsilon", value=12.34 + number, low=12.34, high=None, note="95% lower bound"),
        ]
    shown = table_text(rows, width)
    assert all(len(line) <= width for line in shown.splitlines())
    assert "…" not in shown
    for one in rows:
        for part in text.cell(one).split():
            assert part in words_of(shown), (width, part)
        assert one.attack in words_of(shown)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "axes",
    [
        {"k": [5, 10]},
        {"recommender": ["lfm", "itemknn", "popularity"], "shadow": ["lfm", "itemknn", "userknn", "ease"]},
        {"k": [5], "lfm.epochs": [1, 2], "factors": [100]},
    ],
)
def test_a_sweep_loses_no_digit(axes: dict[str, list[int | str]], width: int) -> None:
    rows = table(axes)
    shown = text.as_text(*text.grid_tables(rows, axes), width=width)
    assert "…" not in shown
    for one in rows.filter(pl.col("attack").is_in(["mlp", "list-lr"])).iter_rows(named=True):
        for part in text.with_interval(one).split():
            assert part in words_of(shown), (width, part)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_comparison_of_defences_loses_no_digit(width: int) -> None:
    rows = defended().with_columns(
        (pl.col("ndcg@10") + 0.01).alias("ndcg@10_members"),
        (pl.col("ndcg@10") - 0.01).alias("ndcg@10_non-members"),
        pl.lit(300.0).alias("promised"),
        pl.lit(1.25).alias("bound"),
        (pl.col("defence") == "gumbel=3000").alias("broken"),
    )
    shown = text.as_text(*text.defences_table(rows), width=width)
    assert "…" not in shown
    for one in rows.iter_rows(named=True):
        assert one["defence"] in words_of(shown)
        for value in (one["auc"], one["ndcg@10"], one["ndcg@10_members"], one["ndcg@10_non-members"]):
            assert f"{value:.3f}" in words_of(shown), (width, value)
        assert f"[{one['auc_low']:.2f}–{one['auc_high']:.2f}]" in words_of(shown)


@pytest.mark.parametrize("width", WIDTHS)
def test_recommendation_quality_loses_no_digit(width: int) -> None:
    rows = pl.DataFrame(
        [
            {"regime": "popular-random", "users": users, "metric": metric, "value": 0.123, "low": 0.045, "high": 0.678}
            for metric in ("ndcg@10", "coverage@10") for users in ("all", "members", "non-members")
        ]
    )  # fmt: skip
    shown = text.as_text(text.utility_table(rows), width=width)
    assert "…" not in shown
    assert shown.count("0.123") == shown.count("[0.045–0.678]") == 6


def test_a_notebook_gets_the_same_tables_as_html() -> None:
    rows = [row("fold-in", "mlp", 0.9, 0.88, 0.92), row("fold-in", "shared-list", 0.5, 0.5, 0.5)]
    shown = unescape(re.sub("<[^>]*>", "", text.as_html(text.metrics_table(rows))))
    assert "0.900 [0.880–0.920]" in shown
    assert text.as_html(text.metrics_table(rows)).startswith("<pre ")


def test_a_table_that_does_not_fit_is_continued() -> None:
    rows = [Row(["a section"]), Row(["a name"], ["0.123 [0.1–0.2]", "300 / ≥ 0.00", "0.5"], "dim")]
    figures = FigureTable("A title", ["name"], ["one", "two", "three"], rows, "a caption")
    for width, count in ((60, 1), (30, 2), (21, 3)):
        shown = text.as_text(figures, width=width)
        assert shown.count("one") == shown.count("title") == shown.count("caption") == 1
        assert all(len(line) <= width for line in shown.splitlines())
        joined = "".join(shown.split())
        for part in ("0.123", "[0.1–0.2]", "300/", "≥0.00", "0.5"):
            assert part in joined, (width, part)
        assert sum(line.count("─") > 0 for line in shown.splitlines()) == count, shown

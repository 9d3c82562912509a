"""Metrics in words: what is said follows the figures."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from recmia.evaluation import Metric
from recmia.summary import section, table_text, verdict

NOBODY = pl.DataFrame()


def row(regime: str, attack: str, value: float, low: float, high: float, level: str = "grey-box") -> Metric:
    return Metric(level, regime, "lfm", "lfm", attack, "auc", value, low, high, 5, 1, 10, 10, "")


@pytest.mark.parametrize(
    ("value", "low", "words"),
    [
        (0.52, 0.49, "cannot be told from a coin"),
        (0.58, 0.54, "sees next to nothing"),
        (0.72, 0.70, "with many errors"),
        (0.88, 0.85, "mostly"),
        (0.97, 0.95, "almost always"),
    ],
)
def test_verdict_follows_the_figures(value: float, low: float, words: str) -> None:
    rows = [row("fold-in", "mlp", value, low, value + 0.02), row("fold-in", "shared-list", 0.5, 0.5, 0.5)]
    said = verdict(rows, NOBODY)
    assert words in said
    assert "too wide" not in said
    assert ("no proof of safety" in said) == (value < 0.65)
    assert ("give members away" in said) == (low > 0.5)


def test_a_wide_interval_is_no_finding() -> None:
    said = verdict([row("fold-in", "mlp", 0.605, 0.364, 0.847), row("fold-in", "shared-list", 0.5, 0.5, 0.5)], NOBODY)
    assert "too wide to say that it sees nothing" in said
    assert "next to nothing" not in said


@pytest.mark.parametrize(
    ("value", "low", "words"),
    [
        (0.52, 0.49, "list-lr sees next to nothing, and cannot be told from a coin (AUC 0.520"),
        (0.58, 0.54, "list-lr sees next to nothing (AUC 0.580"),
        (0.72, 0.70, "list-lr tells members from non-members, with many errors (AUC 0.720"),
        (0.97, 0.95, "list-lr tells members from non-members almost always (AUC 0.970"),
    ],
)
def test_attacks_with_many_shadows_have_their_own_sentence(value: float, low: float, words: str) -> None:
    published, rule = row("fold-in", "mlp", 0.51, 0.49, 0.53), row("fold-in", "shared-list", 0.5, 0.5, 0.5)
    pooled = row("fold-in", "list-lr", value, low, value + 0.02)
    said = verdict([published, pooled, rule], NOBODY)
    assert words in said
    assert "the published attack (mlp) sees next to nothing" in said
    assert ("list-lr sees more than any such rule: the lists give members away" in said) == (low > 0.5)
    assert ("no proof of safety" in said) == (value < 0.65)
    alone = verdict([pooled, rule], NOBODY)
    assert words in alone
    assert "published" not in alone


def test_the_stronger_attack_decides() -> None:
    rows = [row("fold-in", "mlp", 0.9, 0.88, 0.92), row("fold-in", "list-lr", 0.8, 0.78, 0.82)]
    said = verdict([*rows, row("fold-in", "shared-list", 0.5, 0.5, 0.5)], NOBODY)
    assert "mlp sees more than any such rule" in said


def test_sections_are_named_by_level_where_there_are_several() -> None:
    assert section("grey-box", "fold-in", 1) == "fold-in"
    assert section("grey-box", "fold-in", 2) == "fold-in, grey-box"
    rows = [row(regime, "shared-list", 0.5, 0.5, 0.5, level)
            for level in ("black-box", "white-box") for regime in ("popular", "fold-in")]  # fmt: skip
    lines = verdict(rows, NOBODY).splitlines()
    names = [line.partition(" (")[0] for line in lines]
    assert names == ["popular, black-box", "popular, white-box", "fold-in, black-box", "fold-in, white-box"]
    text = table_text(rows)
    assert all(name in text for name in names)
    assert "popular (" in verdict(rows[:1], NOBODY)


def test_epsilon_is_shown_as_a_bound() -> None:
    note = "95% lower bound; no more than 2.76 can be shown with so many users"
    area = replace(row("fold-in", "list-lr", 0.7, 0.6, 0.8), targets=3)
    rows = [area, replace(area, metric="epsilon", value=1.234, low=1.234, high=None, note=note)]
    text = " ".join(table_text(rows).split())
    assert "list-lr 0.700 [0.600–0.800] ≥ 1.23" in text
    assert f"epsilon: {note}" in text
    assert "10 against 10 users, mean over 5 seeds with 3 targets each" in text


def exposures(named: list[int], *, regime: str = "fold-in", seed: int = 0) -> pl.DataFrame:
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


def test_named_users_come_with_what_is_unusual_about_them() -> None:
    said = verdict(RULE, exposures([0, 10, 19])).splitlines()[-1]
    assert said == (
        "single users (fold-in, list-lr, one seed, 20 targets): 3 of 20 can be told in from out, each alone, with a "
        "5% share of errors. The most exposed: [red]19 (long history, popular taste); [red]10 (ordinary in length and "
        "taste); [red]0 (short history, rare taste)."
    )
    assert verdict(RULE, exposures(list(range(20)))).count("[red]") == 5


def test_nobody_named_is_no_all_clear() -> None:
    said = verdict(RULE, exposures([])).splitlines()[-1]
    assert said.endswith("none can be named with a 5% share of errors; more targets would show more.")
    assert "single users" not in verdict(RULE, NOBODY)


def test_single_users_are_told_from_one_seed_and_where_all_are_served_alike() -> None:
    both = pl.concat([exposures([1, 2, 3], regime="popular"), exposures([4]), exposures([5, 6], seed=1)])
    said = verdict(RULE, both).splitlines()[-1]
    assert "(fold-in, list-lr, one seed" in said
    assert "1 of 20" in said
    assert "[red]4" in said
    only_popular = verdict(RULE, exposures([1, 2, 3], regime="popular"))
    assert "single users (popular" in only_popular

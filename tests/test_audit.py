"""The audit as a whole: same seed same scores, the paper's case on its data, and settings that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import recmia
from recmia import AuditResult, Interactions
from recmia.attacks import BASELINES
from recmia.audit import AuditConfig
from recmia.errors import ConfigError, DataError, TooFewUsersError
from recmia.evaluation import Metric, auc

QUICK: dict[str, Any] = {"l": 8, "k": 10, "seeds": 2, "lfm": {"epochs": 3}, "mlp": {"epochs": 5}}


@pytest.fixture(scope="module")
def quick(small: Interactions) -> AuditResult:
    return recmia.audit(small, **QUICK)


def test_every_attack_in_every_regime_has_every_metric(quick: AuditResult) -> None:
    names = {(row.regime, row.attack, row.metric) for row in quick.metrics}
    metrics = ("auc", "tpr@fpr=0.1", "tpr@fpr=0.01", "tpr@fpr=0.001", "balanced_accuracy")
    assert names == {(r, a, m) for r in ("popular", "fold-in") for a in ("mlp", *BASELINES) for m in metrics}
    assert all(row.seeds == 2 and row.n_members == row.n_nonmembers == 30 for row in quick.metrics)


def test_data_in_memory_keep_their_texts(small: Interactions) -> None:
    result = recmia.audit(small, **QUICK | {"seeds": 1, "regimes": ("fold-in",), "target": "content"})
    assert {row.regime for row in result.metrics} == {"fold-in"}


def test_every_figure_has_its_interval(quick: AuditResult) -> None:
    for row in quick.metrics:
        if row.value is None:
            assert "not resolvable" in row.note
            assert row.metric in ("tpr@fpr=0.01", "tpr@fpr=0.001")
        else:
            assert row.low is not None
            assert row.high is not None
            assert 0 <= row.low <= row.value <= row.high <= 1


def test_metrics_can_be_recomputed_from_the_scores(quick: AuditResult) -> None:
    chosen = quick.scores.filter(side="target", regime="fold-in", attack="mlp")
    areas = [auc(part["member"].to_numpy(), part["score"].to_numpy()).value for part in chosen.partition_by("seed")]
    row = next(row for row in quick.metrics if (row.regime, row.attack, row.metric) == ("fold-in", "mlp", "auc"))
    assert row.value == pytest.approx(np.mean([area or 0.0 for area in areas]))


def test_scores_name_the_users(quick: AuditResult, small: Interactions) -> None:
    one = quick.scores.filter(pl.col("seed") == 0, regime="popular", attack="mlp")
    assert set(one["user_id"].to_list()) == set(small.users.ids.tolist())
    assert one["side"].value_counts()["count"].to_list() == [60, 60]
    assert one["score"].is_finite().all()


def test_same_seed_same_scores_with_any_number_of_jobs(quick: AuditResult, small: Interactions) -> None:
    assert_frame_equal(recmia.audit(small, jobs=2, **QUICK).scores, quick.scores, check_exact=True)
    other = recmia.audit(small, **{**QUICK, "seed": 7}).scores
    assert not np.array_equal(other["score"].to_numpy(), quick.scores["score"].to_numpy())


def test_a_later_seed_is_the_same_alone(quick: AuditResult, small: Interactions) -> None:
    alone = recmia.audit(small, **{**QUICK, "seed": 1, "seeds": 1}).scores
    assert_frame_equal(alone, quick.scores.filter(pl.col("seed") == 1), check_exact=True)


def test_adding_a_regime_or_an_attack_changes_no_score(quick: AuditResult, small: Interactions) -> None:
    wider = {**QUICK, "regimes": ["trained", "fold-in", "popular-random", "popular"], "attacks": ["naive-bayes", "mlp"]}
    more = recmia.audit(small, **wider).scores
    keys = ["seed", "side", "regime", "attack", "user_id"]
    both = quick.scores.join(more, on=keys, suffix="_more")
    assert both.height == quick.scores.height
    np.testing.assert_array_equal(both["score"].to_numpy(), both["score_more"].to_numpy())


@pytest.mark.parametrize(
    "changed",
    [
        {"split": "interactions"},
        {"item_vectors": "public"},
        {"item_vectors": "all", "rank_weights": "linear"},
        {"exclude_seen": False},
        {"lfm": {"feedback": "explicit", "bias": True}},
        {"attacks": []},
        {"member_share": 0.3},
    ],
    ids=str,
)
def test_every_setting_runs(small: Interactions, changed: dict[str, Any]) -> None:
    result = recmia.audit(small, **{**QUICK, "seeds": 1, **changed})
    popular = {row.attack: row.value for row in result.metrics if (row.regime, row.metric) == ("popular", "auc")}
    assert popular["shared-list"] == 1.0
    assert result.verdict


def test_unknown_items_are_reported(quick: AuditResult) -> None:
    first = quick.provenance["attacker"][0]
    assert 0 <= first["popular"]["unknown_history_share"] < 0.2
    assert first["fold-in"]["users_without_vector"] == 0


def test_progress_ends_at_the_total(small: Interactions) -> None:
    for jobs in (1, 2):
        seen: list[tuple[int, int]] = []

        def note(text: str, done: int, total: int, seen: list[tuple[int, int]] = seen) -> None:
            seen.append((done, total))

        recmia.audit(small, jobs=jobs, progress=note, **QUICK)
        assert seen[-1] == (10, 10)
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 3}, "unknown setting 'epochs'"),
        ({"regime": ["popular"]}, "unknown setting 'regime'; did you mean 'regimes'"),
        ({"lfm": {"learningrate": 1}}, r"unknown setting 'lfm\.learningrate'; did you mean 'learning_rate'"),
        ({"l": 0}, "l: Input should be greater than or equal to 1; got 0"),
        ({"k": 0}, "k: Input should be greater than or equal to 1"),
        ({"k": "many"}, "k: Input should be a valid integer.*'many'"),
        ({"seeds": 0}, "seeds: .*greater than or equal to 1"),
        ({"alpha": 0}, "alpha: .*greater than 0"),
        ({"alpha": 1.5}, "alpha: .*less than or equal to 1"),
        ({"member_share": 1.0}, "member_share: .*less than 1"),
        ({"regimes": []}, "regimes: .*at least 1"),
        ({"regimes": ["poplar"]}, "unknown regime 'poplar'; did you mean 'popular'"),
        ({"regimes": ["popular", "popular"]}, "named more than once: popular"),
        ({"attacks": ["mpl"]}, "unknown attack 'mpl'; did you mean 'mlp'"),
        ({"target": "lmf"}, "unknown recommender 'lmf'; did you mean 'lfm'"),
        ({"lfm": {"learning_rate": float("nan")}}, "learning_rate: .*finite|learning_rate: .*greater than 0"),
        ({"lfm": {"learning_rate": -1}, "k": 0}, "k: .*; lfm.learning_rate: |lfm.learning_rate: .*; k: "),
        ({"lfm": {"feedback": "both"}}, "feedback: .*'explicit' or 'implicit'"),
        ({"mlp": {"hidden": []}}, "mlp.hidden: .*at least 1"),
    ],
    ids=str,
)
def test_bad_settings_are_refused(small: Interactions, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        recmia.audit(small, **settings)


def test_settings_and_config_do_not_mix(small: Interactions) -> None:
    with pytest.raises(ConfigError, match="either config or single settings"):
        recmia.audit(config=AuditConfig(), k=3)
    with pytest.raises(ConfigError, match="jobs must be at least 1"):
        recmia.audit(small, jobs=0)


def test_config_and_the_name_of_a_data_set_do_not_mix() -> None:
    with pytest.raises(ConfigError, match="either config or single settings, not both; got dataset"):
        recmia.audit("ml-1m", config=AuditConfig())


def test_config_with_data_in_memory(quick: AuditResult, small: Interactions) -> None:
    again = recmia.audit(small, config=AuditConfig.parse(QUICK))
    assert again.config == quick.config
    assert_frame_equal(again.scores, quick.scores, check_exact=True)


def test_data_in_memory_are_cleaned_as_files_are(small: Interactions) -> None:
    lengths = np.bincount(small.user)
    result = recmia.audit(small, **{**QUICK, "min_interactions": 30})
    assert result.provenance["data"]["users"] == (lengths >= 30).sum() < small.n_users
    assert result.provenance["data"]["rows_kept"] == lengths[lengths >= 30].sum()


def test_k_above_the_item_count(small: Interactions) -> None:
    with pytest.raises(ConfigError, match=r"k, the list length, must lie in 1\.\.\d+, .* got 500"):
        recmia.audit(small, **{**QUICK, "k": 500})


def test_too_few_users(small: Interactions) -> None:
    with pytest.raises(TooFewUsersError, match="40 are needed"):
        recmia.audit(small.restrict(np.arange(20)), **QUICK)


def test_an_error_crosses_worker_processes(small: Interactions) -> None:
    with pytest.raises(TooFewUsersError) as caught:
        recmia.audit(small.restrict(np.arange(20)), jobs=2, **QUICK)
    assert caught.value.estimate == 40


def test_explicit_without_ratings(small: Interactions) -> None:
    data = Interactions.from_arrays(small.user, small.item)
    with pytest.raises(DataError, match="explicit feedback needs ratings"):
        recmia.audit(data, **{**QUICK, "lfm": {"feedback": "explicit"}})


def test_data_in_memory_of_any_id_type(small: Interactions) -> None:
    named = Interactions.from_arrays([f"user {u}" for u in small.user], [f"item {i}" for i in small.item])
    result = recmia.audit(named, **QUICK)
    assert str(result.scores["user_id"][0]).startswith("user ")


@pytest.mark.parametrize("feedback", ["explicit", "implicit"])
def test_the_papers_case_on_its_data(movielens_folder: Path, feedback: str) -> None:
    """Hu 2023 reports 0.857; the issue asks for 0.95 over 10 seeds. In fold-in the same attack must fall far below."""
    result = recmia.audit(movielens_folder, seeds=10, jobs=2, lfm={"feedback": feedback})
    areas = {(row.regime, row.attack): row for row in result.metrics if row.metric == "auc"}

    def value(regime: str, attack: str) -> float:
        return areas[regime, attack].value or 0.0

    assert value("popular", "mlp") >= 0.95
    assert value("popular", "shared-list") == 1.0
    assert 0.45 < value("fold-in", "mlp") < 0.65
    assert value("fold-in", "shared-list") == 0.5
    for control in ("history-length", "history-popularity", "recency"):
        assert abs(value("fold-in", control) - 0.5) < 0.05
    popular, fold_in = result.verdict.splitlines()
    assert "needs no model at all (shared-list) reaches 1.000" in popular
    assert "not what the model remembers" in popular
    assert "sees next to nothing" in fold_in
    assert "no proof of safety" in fold_in


def row(regime: str, attack: str, value: float, low: float, high: float) -> Metric:
    return Metric(regime, "lfm", "lfm", attack, "auc", value, low, high, 5, 10, 10, "")


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
    from recmia.summary import verdict

    rows = [row("fold-in", "mlp", value, low, value + 0.02), row("fold-in", "shared-list", 0.5, 0.5, 0.5)]
    said = verdict(rows)
    assert words in said
    assert "too wide" not in said
    assert ("no proof of safety" in said) == (value < 0.65)
    assert ("give members away" in said) == (low > 0.5)


def test_a_wide_interval_is_no_finding() -> None:
    from recmia.summary import verdict

    said = verdict([row("fold-in", "mlp", 0.605, 0.364, 0.847), row("fold-in", "shared-list", 0.5, 0.5, 0.5)])
    assert "too wide to say that it sees nothing" in said
    assert "next to nothing" not in said

"""The audit as a whole: same seed same scores, the paper's case on its data, and settings that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy import sparse

import recmia
from recmia import AuditResult, Interactions
from recmia.attacks import ATTACKS, RULES
from recmia.data.interactions import Bool, Float32
from recmia.errors import ConfigError, DataError, TooFewUsersError
from recmia.game import run
from recmia.game.plan import Plan, plan_from_data
from recmia.metrics import auc
from recmia.recommenders.simple import Random
from recmia.results import audit
from recmia.results.setup import resolve
from recmia.settings import AuditSettings

QUICK: dict[str, Any] = {"factors": 8, "k": 10, "seeds": 2, "n_shadows": 8, "lfm": {"epochs": 3}, "mlp": {"epochs": 5}}
LEVELS = ("black-box", "grey-box", "white-box")
# Rules that are for no regime alone.
EVERYWHERE = tuple(name for name in RULES if not ATTACKS[name].regimes and ATTACKS[name].unit == "user")


@pytest.fixture(scope="module")
def quick(small: Interactions) -> AuditResult:
    return recmia.audit(small, **QUICK)


def test_every_attack_in_every_regime_has_every_metric(quick: AuditResult) -> None:
    names = {(row.regime, row.attack, row.metric) for row in quick.metrics}
    metrics = ("auc", "tpr@fpr=0.1", "tpr@fpr=0.01", "tpr@fpr=0.001", "balanced_accuracy", "epsilon")
    looking, asking = ("mlp", "list-lr", *EVERYWHERE), ("completion", "query-lr")
    # Only a system that folds in can be asked.
    everywhere = {("popular", a, m) for a in looking for m in metrics}
    everywhere |= {("fold-in", a, m) for a in (*looking, *asking) for m in metrics}
    # A bound on epsilon is about the model only where members and non-members are served alike.
    assert names == everywhere - {("popular", attack, "epsilon") for attack in looking}
    assert len(names) == len(quick.metrics)
    assert all((row.seeds, row.targets, row.knowledge) == (2, 1, "grey-box") for row in quick.metrics)
    targets = quick.scores.filter(side="target", regime="fold-in", attack="mlp").partition_by("seed")
    assert {row.n_members for row in quick.metrics} == {min(int(one["member"].sum()) for one in targets)}
    assert {row.n_nonmembers for row in quick.metrics} == {min(int((~one["member"]).sum()) for one in targets)}


def test_data_in_memory_keep_their_texts(small: Interactions) -> None:
    result = recmia.audit(small, **QUICK | {"seeds": 1, "regimes": ("fold-in",), "recommender": "content"})
    assert {row.regime for row in result.metrics} == {"fold-in"}


def test_answers_and_what_they_give_away(quick: AuditResult) -> None:
    assert quick.disclosure.columns == ["seed", "run", "users", "part", "metric", "value", "low", "high"]
    rows = quick.disclosure.select("seed", "run", "users", "part", "metric").rows()
    assert rows == [
        (seed, 0, users, "hidden", metric)
        for seed in (0, 1)
        for users in ("members", "non-members")
        for metric in ("recall@10", "precision@10")
    ]
    assert quick.disclosures.columns == ["part", "metric", "users", "value", "low", "high"]
    assert len(quick.disclosures) == 4
    for part, metric, users, value, low, high in quick.disclosures.rows():
        runs = quick.disclosure.filter(part=part, metric=metric, users=users)["value"]
        assert value == pytest.approx(runs.mean())
        assert 0 <= low < value < high <= 1
    for one in quick.query_examples:
        assert one["k"] == 10
        assert one["asked"] >= 1
        assert len(one["hits"]) <= min(one["hidden"], 10)
        assert all(1 <= rank <= 10 for rank in one["hits"])
    assert [one["users"] for one in quick.query_examples] == ["a member", "a non-member"]
    assert quick.provenance["attacker"][0]["asked"] == {
        "queries": 60 * 6, "kind": "parts", "share": 0.5, "users_asked_about_less_often": 0, "users_not_asked_about": 0,
    }  # fmt: skip
    assert quick.findings.disclosure.startswith("Asked with half of a history, the system names ")
    assert quick.findings.disclosure in quick.verdict
    assert "What answers to queries give away" in str(quick)


def test_the_attacker_knows_a_part(small: Interactions) -> None:
    """Of the rest, too, the answers give some away."""
    own = QUICK | {"seeds": 1, "regimes": ("fold-in",), "attacks": ("completion",), "n_shadows": 0, "queries": 2}
    part = recmia.audit(small, **own | {"known": 0.2, "query_share": 0.4})
    assert part.disclosures["part"].unique(maintain_order=True).to_list() == ["hidden", "unknown"]
    assert part.findings.disclosure.startswith(
        "Asked with 40% of what the attacker knows of a history, the system names "
    )
    assert "Of what the attacker did not know, it names " in part.findings.disclosure
    whole = recmia.audit(small, **own)
    # The system is the same: who is audited, who is a member, and how long the histories are.
    keys = ["seed", "side", "run", "user_id", "member"]
    assert_frame_equal(part.scores.select(keys), whole.scores.select(keys))
    assert_frame_equal(part.users, whole.users)


def test_few_shadows_leave_none_to_choose_a_threshold_by(small: Interactions) -> None:
    """They are all needed to fit the attack; what needs no threshold is measured all the same."""
    own = {"seeds": 1, "regimes": ("fold-in",), "attacks": ("query-lr", "list-lr-surprise"), "queries": 2}
    few = recmia.audit(small, **QUICK | own | {"n_shadows": 2})
    shadows = few.scores.filter(side="shadow")
    assert set(shadows["attack"]) == set(EVERYWHERE), "no score of a shadow that its own attack was fitted on"
    for attack in ("query-lr", "list-lr-surprise"):
        found = {row.metric: row for row in few.metrics if row.attack == attack}
        assert found["auc"].value is not None
        assert found["tpr@fpr=0.1"].value is not None
        assert found["balanced_accuracy"].value is None
        assert "without scores of shadow users" in found["balanced_accuracy"].note
        # Its numbers of guesses are paid for.
        assert found["epsilon"].value is not None
    assert few.findings.sections[0].best.attack in ("query-lr", "list-lr-surprise")
    assert few.gate("auc=1").passed
    # What was not measured breaks no limit, and is surely below none.
    untested = str(few.gate("balanced_accuracy=0.99").lines)
    assert "balanced_accuracy is not resolvable without scores of shadow users" in untested
    assert not few.gate(require_below=["balanced_accuracy=0.99"]).passed
    enough = recmia.audit(small, **QUICK | own | {"n_shadows": 4})
    assert set(enough.scores.filter(side="shadow")["attack"]) == {"query-lr", "list-lr-surprise", *EVERYWHERE}


class NeedsStrangers(Random):
    """Serves only those whom it was trained on."""

    folds_in = False


@pytest.mark.parametrize("attack", ["completion", "completion-reference", "query-lr", "query-lr-completion"])
def test_a_system_that_serves_no_stranger_cannot_be_asked(small: Interactions, attack: str) -> None:
    with pytest.raises(ConfigError, match="NeedsStrangers"):
        recmia.audit(
            small, **QUICK | {"attacks": (attack,), "recommender": NeedsStrangers(), "regimes": ("popular", "trained")}
        )


def test_every_figure_has_its_interval(quick: AuditResult) -> None:
    for row in quick.metrics:
        if row.value is None:
            assert "not resolvable" in row.note
            assert row.metric in ("tpr@fpr=0.01", "tpr@fpr=0.001")
        elif row.metric == "epsilon":
            assert (row.low, row.high) == (row.value, None), "a lower bound has no upper end"
            assert 0 <= row.value < 5
            assert row.note.startswith("95% lower bound for all attacks together")
            assert "delta 0" in row.note
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
    audited = one.filter(side="target")["user_id"]
    pool = quick.scores.filter(pl.col("seed") == 0, regime="popular", attack="list-lr").partition_by("side", "run")
    assert len(pool) == 1 + 8
    assert all(part["user_id"].equals(audited) for part in pool), "the pool is trained on the audited users"
    assert quick.users.filter(pl.col("seed") == 0)["user_id"].equals(audited)


@pytest.mark.end_to_end
def test_same_seed_same_scores_with_any_number_of_jobs(quick: AuditResult, small: Interactions) -> None:
    assert_frame_equal(recmia.audit(small, jobs=2, **QUICK).scores, quick.scores, check_exact=True)
    other = recmia.audit(small, **{**QUICK, "seed": 7}).scores
    assert not np.array_equal(other["score"].to_numpy(), quick.scores["score"].to_numpy())


@pytest.mark.end_to_end
def test_a_later_seed_is_the_same_alone(quick: AuditResult, small: Interactions) -> None:
    alone = recmia.audit(small, **{**QUICK, "seed": 1, "seeds": 1}).scores
    assert_frame_equal(alone, quick.scores.filter(pl.col("seed") == 1), check_exact=True)


@pytest.mark.end_to_end
def test_adding_a_regime_or_an_attack_changes_no_score(quick: AuditResult, small: Interactions) -> None:
    wider = {
        **QUICK,
        "regimes": ["trained", "fold-in", "popular-random", "popular"],
        "attacks": ["naive-bayes", "completion-reference", "query-lr", "rmia", "completion", "mlp", "list-lr"],
        "references": ["itemknn"],
    }
    more = recmia.audit(small, **wider).scores
    keys = ["seed", "knowledge", "side", "run", "regime", "attack", "user_id"]
    both = quick.scores.join(more, on=keys, suffix="_more")
    assert both.height == quick.scores.height
    np.testing.assert_array_equal(both["score"].to_numpy(), both["score_more"].to_numpy())


@pytest.mark.end_to_end
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
        {"split": "shared"},
        {"attacks": ["list-lr-offline", "rmia"], "n_shadows": 6},
        {"recommender": "als", "shadow": "lfm", "knowledge": ["white-box", "grey-box"]},
        {"n_targets": 3, "attacks": ["distance"], "n_shadows": 0},
        {"queries": 0},
        {"queries": 2, "query_share": 0.25, "depth": 20},
        {"known": 0.3},
        {"known": 0.3, "knowledge": ["black-box", "grey-box"], "attacks": ["completion-reference", "query-lr"]},
        {"attacks": ["completion"], "n_shadows": 0, "thresholds": False},
        {"attacks": ["completion-reference"], "references": [], "n_shadows": 0},
        {"attacks": ["query-lr", "list-lr-surprise"], "n_shadows": 2},
        {"regimes": ["popular"]},
        {"split": "shared", "knowledge": ["black-box"], "attacks": ["completion-reference"], "references": ["itemknn"]},
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


@pytest.mark.end_to_end
def test_progress_ends_at_the_total(small: Interactions) -> None:
    for jobs in (1, 2):
        seen: list[tuple[int, int]] = []

        def note(text: str, done: int, total: int, seen: list[tuple[int, int]] = seen) -> None:
            seen.append((done, total))

        recmia.audit(small, jobs=jobs, progress=note, **QUICK)
        # Two seeds, two regimes, a target and a shadow and eight more; and the attacks of each seed.
        assert seen[-1] == (42, 42)
        assert {total for _, total in seen[1:]} == {42}
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 3}, "unknown setting 'epochs'"),
        ({"l": 3}, "unknown setting 'l'"),
        ({"regime": ["popular"]}, "unknown setting 'regime'; did you mean 'regimes'"),
        ({"lfm": {"learningrate": 1}}, r"unknown setting 'lfm\.learningrate'; did you mean 'learning_rate'"),
        ({"factors": 0}, "factors: Input should be greater than or equal to 1; got 0"),
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
        ({"recommender": "lmf"}, "unknown recommender 'lmf'; did you mean 'lfm'"),
        ({"lfm": {"learning_rate": float("nan")}}, "learning_rate: .*finite|learning_rate: .*greater than 0"),
        ({"lfm": {"learning_rate": -1}, "k": 0}, "k: .*; lfm.learning_rate: |lfm.learning_rate: .*; k: "),
        ({"lfm": {"feedback": "both"}}, "feedback: .*'explicit' or 'implicit'"),
        ({"mlp": {"hidden": []}}, "mlp.hidden: .*at least 1"),
        ({"knowledge": ["greybox"]}, "unknown level of knowledge 'greybox'; did you mean 'grey-box'"),
        ({"knowledge": []}, "knowledge: .*at least 1"),
        ({"n_targets": 0}, "n_targets: .*greater than or equal to 1"),
        (
            {"n_shadows": 0},
            f"^too few shadow models: list-lr needs {ATTACKS['list-lr'].min_shadows}, query-lr needs 2; got 0; raise "
            "n_shadows, or name other attacks$",
        ),
        (
            {"n_shadows": 2, "attacks": ["query-lr", "rmia", "list-lr-ridge"]},
            f"models: rmia needs {ATTACKS['rmia'].min_shadows}, list-lr-ridge needs "
            f"{ATTACKS['list-lr-ridge'].min_shadows}; got 2",
        ),
        (
            {"queries": 0, "attacks": ["mlp", "completion", "query-lr"]},
            "^completion, query-lr: asks the system, and queries = 0 means that nothing is asked; raise queries$",
        ),
        (
            {"regimes": ["popular", "popular-random"], "attacks": ["completion"]},
            "^completion: asks with histories of strangers, which are served only in fold-in and trained; got popular, "
            "popular-random; add one of these regimes, or name attacks that only look at lists$",
        ),
        ({"known": 0.5, "split": "shared"}, "known = 0.5 means .*with split = 'shared' .*take split = 'users'"),
        (
            {"split": "shared", "attacks": ["mlp", "completion-reference"]},
            "^completion-reference: compares with reference models, .*split = 'shared' there are none; take split = 'u",
        ),
        ({"split": "interactions", "attacks": ["completion-reference"]}, "^completion-reference: .*'interactions'"),
        ({"attacks": ["completion-reference"], "references": ["lmf"]}, "unknown recommender 'lmf'; did you mean 'lfm'"),
        ({"split": "shared", "item_vectors": "public", **QUICK}, "sets no public part aside"),
    ],
    ids=str,
)
def test_bad_settings_are_refused(small: Interactions, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        recmia.audit(small, **settings)


def test_settings_and_single_options_do_not_mix(small: Interactions) -> None:
    with pytest.raises(ConfigError, match="either settings or single options, not both; got k"):
        recmia.audit(settings=AuditSettings(), k=3)
    with pytest.raises(ConfigError, match="jobs must be at least 1"):
        recmia.audit(small, jobs=0)


@pytest.mark.end_to_end
def test_settings_with_data_in_memory(quick: AuditResult, small: Interactions) -> None:
    again = recmia.audit(small, settings=AuditSettings.parse(QUICK))
    assert again.settings == quick.settings
    assert_frame_equal(again.scores, quick.scores, check_exact=True)


@pytest.mark.end_to_end
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


@pytest.mark.end_to_end
def test_an_error_crosses_worker_processes(small: Interactions) -> None:
    with pytest.raises(TooFewUsersError) as caught:
        recmia.audit(small.restrict(np.arange(20)), jobs=2, **QUICK)
    assert caught.value.estimate == 40


def test_explicit_without_ratings(small: Interactions) -> None:
    data = Interactions.from_arrays(small.user, small.item)
    with pytest.raises(DataError, match="explicit feedback needs ratings"):
        recmia.audit(data, **{**QUICK, "lfm": {"feedback": "explicit"}})


@pytest.mark.end_to_end
def test_data_in_memory_of_any_id_type(small: Interactions) -> None:
    named = Interactions.from_arrays([f"user {u}" for u in small.user], [f"item {i}" for i in small.item])
    result = recmia.audit(named, **QUICK)
    assert str(result.scores["user_id"][0]).startswith("user ")


@pytest.fixture(scope="module")
def levels(small: Interactions) -> AuditResult:
    return recmia.audit(small, **QUICK | {"seeds": 1, "knowledge": LEVELS, "n_targets": 2})


@pytest.mark.end_to_end
def test_levels_of_knowledge_stand_side_by_side(levels: AuditResult) -> None:
    rows = {(row.knowledge, row.regime, row.attack) for row in levels.metrics}
    looking = ("mlp", "list-lr", *EVERYWHERE)
    attacks = {"popular": looking, "fold-in": (*looking, "completion", "query-lr")}
    assert rows == {(level, regime, a) for level in LEVELS for regime, run in attacks.items() for a in run}
    for level in LEVELS:
        assert f"fold-in, {level} (all served by the same path)" in levels.verdict
        assert f"popular, {level}" in str(levels)
    # Drawn users are nobody; all others have their ids.
    nameless = levels.scores.filter(pl.col("user_id").is_null())
    assert set(nameless["side"]) == {"shadow"}
    assert set(nameless["knowledge"]) == {"black-box"}
    assert levels.scores.filter(side="shadow", knowledge="black-box")["user_id"].is_null().all()
    # What the level changes is the attacker: the targets and who they are stay.
    truth = levels.scores.filter(side="target", attack="history-length", regime="fold-in")
    black, grey, white = (truth.filter(knowledge=level).select("run", "user_id", "member") for level in LEVELS)
    assert_frame_equal(black, grey)
    assert_frame_equal(black, white)


@pytest.mark.end_to_end
def test_a_level_is_the_same_alone(levels: AuditResult, small: Interactions) -> None:
    for level in LEVELS:
        alone = recmia.audit(small, **QUICK | {"seeds": 1, "knowledge": (level,), "n_targets": 2}).scores
        assert_frame_equal(alone, levels.scores.filter(knowledge=level), check_exact=True)


@pytest.mark.end_to_end
def test_levels_and_pools_are_the_same_with_any_number_of_jobs(levels: AuditResult, small: Interactions) -> None:
    again = recmia.audit(small, jobs=2, **QUICK | {"seeds": 1, "knowledge": LEVELS, "n_targets": 2})
    assert_frame_equal(again.scores, levels.scores, check_exact=True)
    assert_frame_equal(again.per_user_auc, levels.per_user_auc, check_exact=True)
    assert again.metrics == levels.metrics


def plan(small: Interactions, **settings: Any) -> Plan:
    return plan_from_data(resolve(AuditSettings.parse(QUICK | settings)), small, 0)


def test_black_box_shadows_never_hold_an_audited_user(small: Interactions) -> None:
    drawn_plan = plan(small, knowledge=LEVELS, regimes=["fold-in"])
    black, *others = drawn_plan.sections
    assert black.shadow is not None
    assert others[0].shadow is not None
    audited = drawn_plan.audited
    theirs = audited.csr().toarray()
    for side in (one.side for one in black.pool):
        own = side.interactions.n_users - audited.n_users
        assert own == others[0].shadow.side.interactions.n_users
        assert abs(side.member[:own].mean() - 0.5) < 5 * 0.5 / np.sqrt(own)
        assert not side.member[own:].any(), "the audited users come last, and are out of training"
        np.testing.assert_array_equal(side.interactions.csr().toarray()[own:], theirs)
    # Nor are the drawn users anybody's copies.
    everyone = {tuple(np.flatnonzero(row)) for row in small.csr().toarray()}
    drawn = black.shadow.side.interactions.csr().toarray()
    assert not everyone & {tuple(np.flatnonzero(row)) for row in drawn}
    for section in others:
        assert all(one.side.interactions is audited for one in section.pool)


@pytest.mark.parametrize("split", ["users", "interactions", "shared"])
def test_targets_and_shadows_draw_their_members_apart(small: Interactions, split: str) -> None:
    (section,) = plan(small, split=split, n_targets=6, n_shadows=40, regimes=["fold-in"]).sections
    draws = np.stack([one.side.member for one in (*section.targets, *section.pool)])
    assert len(np.unique(draws, axis=0)) == 46, "no target is among the shadows"
    # Labels of different draws agree on half of the users, but for the pairs of complementary shadows.
    n = draws.shape[1]
    agreement = (draws[:6, None] == draws[None, 6:]).mean(axis=2)
    assert abs(agreement - 0.5).max() < 5 * 0.5 / np.sqrt(n)
    assert abs(agreement.mean() - 0.5) < 5 * 0.5 / np.sqrt(n * agreement.size / 2)


@pytest.mark.end_to_end
def test_several_targets(small: Interactions) -> None:
    several = recmia.audit(small, **QUICK | {"n_targets": 3})
    one = recmia.audit(small, **QUICK)
    assert all(row.targets == 3 for row in several.metrics)
    shared = several.scores.filter((pl.col("side") == "shadow") | (pl.col("run") == 0))
    assert_frame_equal(shared, one.scores, check_exact=True)
    area = next(row for row in several.metrics if (row.regime, row.attack, row.metric) == ("fold-in", "mlp", "auc"))
    runs = several.scores.filter(side="target", regime="fold-in", attack="mlp").partition_by("seed", "run")
    assert len(runs) == 6
    assert area.value == pytest.approx(
        np.mean([auc(run["member"].to_numpy(), run["score"].to_numpy()).value or 0.0 for run in runs])
    )
    assert len(several.rocs["grey-box", "fold-in", "mlp"]) == 6


@pytest.mark.end_to_end
@pytest.mark.parametrize("queries", [0, 2])
def test_more_shadows_extend_the_pool(small: Interactions, queries: int) -> None:
    few, many = (plan(small, n_shadows=shadows, knowledge=LEVELS, queries=queries).tasks for shadows in (8, 16))
    assert {task.key for task in few} < {task.key for task in many}
    store: dict[str, Any] = {}
    grown = [0]
    own = QUICK | {"seeds": 1, "regimes": ("fold-in",), "queries": queries}
    for shadows in (8, 16, 12):
        recmia.audit(small, store=store, **own | {"n_shadows": shadows})
        grown.append(len(store))
    # Lists of a target and a shadow and the pool, answers likewise, and the scores of the game.
    served = 2 if queries else 1
    assert np.diff(grown).tolist() == [served * (1 + 1 + 8) + 1, served * 8 + 1, 1]


@pytest.mark.end_to_end
def test_what_is_asked_in_vain_is_no_concern_of_others(small: Interactions) -> None:
    """ItemKNN has no item vectors: white-box fails, and what was served on the way is there for the grey box."""
    store: dict[str, Any] = {}
    settings = QUICK | {"seeds": 1, "recommender": "itemknn"}
    with pytest.raises(ConfigError, match="no item vectors"):
        recmia.audit(small, store=store, **settings | {"knowledge": ("grey-box", "white-box")})
    before = dict(store)
    recmia.audit(small, store=store, **settings)
    assert len(store) == len(before) + 1, "the scores alone were missing"


@pytest.mark.end_to_end
def test_a_game_is_not_played_twice(small: Interactions, quick: AuditResult, monkeypatch: pytest.MonkeyPatch) -> None:
    store: dict[str, Any] = {}
    first = recmia.audit(small, store=store, **QUICK)
    monkeypatch.setattr(run, "play", None)
    again = recmia.audit(small, store=store, **QUICK)
    for result in (first, again):
        assert_frame_equal(result.scores, quick.scores, check_exact=True)
        assert_frame_equal(result.users, quick.users, check_exact=True)
    changes: list[dict[str, Any]] = [
        {"attacks": ("mlp",)}, {"mlp": {"epochs": 6}}, {"rank_weights": "linear"}, {"item_vectors": "all"},
        {"knowledge": ("black-box",)}, {"regimes": ("fold-in",)}, {"seed": 5}, {"split": "shared"}, {"k": 9},
        {"factors": 9},
        {"lfm": {"epochs": 4}}, {"n_targets": 2}, {"n_shadows": 10}, {"min_interactions": 30}, {"member_share": 0.4},
        {"shadow": "als"}, {"recommender": "als"}, {"exclude_seen": False}, {"alpha": 0.2},
        {"queries": 2}, {"queries": 0}, {"query_share": 0.3}, {"known": 0.5}, {"depth": 20},
        {"attacks": ("completion-reference",)}, {"attacks": ("completion-reference",), "references": ("ease",)},
    ]  # fmt: skip
    played = {plan(small).key}
    for changed in changes:
        data = small if "min_interactions" not in changed else small.restrict(np.arange(60))
        settings = AuditSettings.parse(QUICK | changed)
        key = plan_from_data(resolve(settings), data, settings.run.seed).key
        assert key not in played, changed
        played.add(key)
    # What the scores of a seed do not depend on.
    assert plan(small, seeds=7, bpr={"epochs": 3}, dataset="elsewhere").key == plan(small).key


@pytest.mark.end_to_end
@pytest.mark.parametrize("name", ["itemknn", "popularity"])
def test_no_white_box_without_item_vectors(small: Interactions, name: str) -> None:
    with pytest.raises(ConfigError, match=r"has no item vectors for a white-box attacker .* black-box or grey-box"):
        recmia.audit(small, **QUICK | {"knowledge": ("white-box",), "recommender": name})


@pytest.mark.statistical
def test_a_recommender_that_forgets_its_users_shows_nothing() -> None:
    """The negative control: the most popular items that a user has not seen do not depend on the user's membership.

    No attack may do better than a coin, and single users may be named in error only: one user in a hundred here.
    """
    control = {
        "recommender": "popularity",
        "shadow": "popularity",
        "regimes": ("fold-in",),
        "n_targets": 24,
        "seeds": 4,
    }
    attacks = ("naive-bayes", "distance", "list-lr", "list-lr-ranks", "rmia")
    result = recmia.audit("synthetic:200x300x9000", **QUICK | control | {"attacks": attacks})
    for row in result.metrics:
        if row.metric == "auc":
            assert row.low is not None
            assert row.high is not None
            assert row.low <= 0.5 <= row.high, row
            assert row.high - row.low < 0.2
        if row.metric == "epsilon":
            assert (row.value or 0.0) < 0.3, row
    for part in result.per_user_auc.partition_by("attack"):
        assert part["identifiable"].mean() <= 0.01, part["attack"][0]  # type: ignore[operator]
        for level in (0.05, 0.01):
            share = (part["p_value"] <= level).mean()
            # Users of a target share its draw: three times the spread of independent ones.
            assert share < level + 3 * 3 * np.sqrt(level * (1 - level) / len(part)), part["attack"][0]


@pytest.mark.end_to_end
def test_shadows_are_no_runs_of_a_single_user(levels: AuditResult) -> None:
    per_user_auc = levels.per_user_auc
    assert ((per_user_auc["n_in"] + per_user_auc["n_out"]) == 2).all()
    keys = ["seed", "knowledge", "regime", "attack"]
    # Three levels: one attack with many shadow models in popular, two in fold-in.
    assert per_user_auc.group_by(keys).len()["len"].to_list() == [60] * (3 + 6)
    assert per_user_auc.columns[:5] == [*keys, "user_id"]
    for part in per_user_auc.partition_by(keys):
        assert part["user_id"].equals(levels.users["user_id"])
    joined = per_user_auc.join(levels.users, on=["seed", "user_id"], suffix="_of_user")
    assert joined["history_length"].equals(joined["history_length_of_user"])


def test_per_user_auc_need_several_targets(quick: AuditResult) -> None:
    assert quick.per_user_auc.is_empty()
    assert "single users" not in quick.verdict


def test_rarity_and_length_of_the_audited(quick: AuditResult, small: Interactions) -> None:
    shares = small.item_counts() / small.n_users
    lengths = np.bincount(small.user)
    for seed, user, length, rarity in quick.users.head(5).iter_rows():
        row = int(np.flatnonzero(small.users.ids == user)[0])
        assert (seed, length) == (0, lengths[row])
        assert rarity == pytest.approx(-np.log(shares[small.item[small.user == row]]).mean())


class Indiscreet(Random):
    """Random items; but who was in training is always shown the same item first, unless it was already seen."""

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        self._trained = {row.tobytes() for row in self._rows(interactions.csr())}
        return super().fit(interactions, rng=rng)

    def scores(self, histories: sparse.csr_array) -> Float32:
        scores = super().scores(histories)
        trained: Bool = np.array([row.tobytes() in self._trained for row in self._rows(histories)])
        scores[trained] += 2 * np.linspace(0, 1, scores.shape[1], dtype=np.float32)
        return scores

    @staticmethod
    def _rows(histories: sparse.csr_array) -> list[Any]:
        return np.split(histories.indices, histories.indptr[1:-1])


@pytest.mark.end_to_end
def test_a_planted_leak_is_found_and_its_users_are_named(small: Interactions) -> None:
    leak = {"recommender": Indiscreet(), "regimes": ("fold-in",), "n_targets": 24, "seeds": 1}
    result = recmia.audit(small, **QUICK | leak)
    area, epsilon = (
        next(row for row in result.metrics if (row.attack, row.metric) == ("list-lr", metric))
        for metric in ("auc", "epsilon")
    )
    assert area.low is not None
    assert area.low > 0.85
    assert epsilon.value is not None
    assert epsilon.value > 3
    assert result.per_user_auc["identifiable"].mean() > 0.9  # type: ignore[operator]
    assert result.findings.grade == "strong"
    assert "list-lr finds more than any such rule: the lists reveal members" in result.verdict
    assert "are individually identified as members (fold-in, list-lr, one seed, 24 targets" in result.verdict


class Memoriser(Random):
    """Random items; but whoever asks with a part of a history that was in training is told the rest of it first.

    Whole histories are served alike, so that a list that is shown gives nothing away.
    """

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        self._trained = interactions.csr().toarray() > 0
        return super().fit(interactions, rng=rng)

    def scores(self, histories: sparse.csr_array) -> Float32:
        scores = super().scores(histories)
        asked = histories.toarray() > 0
        for row, part in enumerate(asked):
            (whole,) = np.nonzero((self._trained[:, part]).all(axis=1))
            if len(whole) == 1:
                scores[row, self._trained[whole[0]] & ~part] += 10
        return scores


@pytest.mark.end_to_end
def test_a_planted_memoriser_is_found_by_asking_alone(small: Interactions) -> None:
    """With no shadow model; and what it finds is told beside what looking does not find."""
    own = {"recommender": Memoriser(), "regimes": ("fold-in",), "seeds": 1, "queries": 2}
    alone = recmia.audit(small, **QUICK | own | {"attacks": ("completion",), "n_shadows": 0})
    (area,) = (row for row in alone.metrics if (row.attack, row.metric) == ("completion", "auc"))
    assert area.low is not None
    assert area.low > 0.8
    assert alone.findings.grade == "strong"
    members, others = (
        alone.disclosures.filter(users=users, metric="recall@10")["value"].item()
        for users in ("members", "non-members")
    )
    assert members > 2 * others
    more = recmia.audit(small, **QUICK | own | {"n_targets": 2})
    areas = {row.attack: row.value or 0.0 for row in more.metrics if row.metric == "auc"}
    assert min(areas["completion"], areas["query-lr"]) > 0.95
    assert abs(areas["list-lr"] - 0.5) < 0.15
    assert "Without asking, the strongest attack (list-lr) cannot be " in more.verdict
    # Where the system cannot be asked, a list gives nothing away, and nothing strong was run.
    looking = recmia.audit(small, **QUICK | own | {"attacks": ("list-lr",)})
    assert looking.findings.grade in ("untested", "unclear")


@pytest.mark.end_to_end
def test_answers_that_know_nothing_of_membership_show_nothing(small: Interactions) -> None:
    attacks = ("completion", "completion-reference", "query-lr", "query-lr-completion")
    own = {"recommender": "random", "regimes": ("fold-in",), "seeds": 2, "n_targets": 8, "queries": 2}
    result = recmia.audit(small, **QUICK | own | {"attacks": attacks})
    aucs = {row.attack: row for row in result.joint(["auc"]) if row.attack in attacks}
    assert set(aucs) == set(attacks)
    for row in aucs.values():
        assert row.low is not None
        assert row.high is not None
        assert row.low <= 0.5 <= row.high, row
        assert row.high - row.low < 0.3
    by_group = {(part, metric, users): (low, high) for part, metric, users, _, low, high in result.disclosures.rows()}
    for metric in ("recall@10", "precision@10"):
        (low, high), (other_low, other_high) = (by_group["hidden", metric, who] for who in ("members", "non-members"))
        assert max(low, other_low) <= min(high, other_high), metric


@pytest.mark.end_to_end
@pytest.mark.parametrize("feedback", ["explicit", "implicit"])
def test_the_papers_case_on_its_data(movielens_folder: Path, feedback: str) -> None:
    """Hu 2023 reports 0.857; the issue asks for 0.95 over 10 seeds. In fold-in the same attack must fall far below."""
    result = recmia.audit(movielens_folder, seeds=10, jobs=2, attacks=("mlp",), lfm={"feedback": feedback})
    areas = {(row.regime, row.attack): row for row in result.metrics if row.metric == "auc"}

    def value(regime: str, attack: str) -> float:
        return areas[regime, attack].value or 0.0

    assert value("popular", "mlp") >= 0.95
    assert value("popular", "shared-list") == 1.0
    assert 0.45 < value("fold-in", "mlp") < 0.65
    assert value("fold-in", "shared-list") == 0.5
    for control in ("history-length", "history-popularity", "recency"):
        assert abs(value("fold-in", control) - 0.5) < 0.05
    fold_in, popular = (line for line in result.verdict.splitlines() if line.startswith(("popular (", "fold-in (")))
    assert "needs no model at all (shared-list) reaches 1.000" in popular
    assert "not what the model memorised" in popular
    bound = max(row.value or 0.0 for row in result.metrics if (row.regime, row.metric) == ("fold-in", "epsilon"))
    # The rule over popular items finds something of its own where feedback is implicit.
    grade = "marked" if bound >= 1 or value("fold-in", "popular-overlap") >= 0.65 else "untested"
    assert [one.grade for one in result.findings.sections] == [grade, "strong"]
    assert "only slightly" in fold_in or "cannot be distinguished from chance" in fold_in
    assert ("that others find little proves nothing" in fold_in) == (grade == "untested")
    assert ("refute every epsilon below" in fold_in) == (bound >= 1)


def test_each_stage_has_the_memory_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what was taken after it last told of itself, and never less than the stage before."""
    told: list[tuple[str, int, int]] = []
    report = audit.Reporter(lambda *now: told.append(now))
    report.total = 3
    for text, units, peak in (("load", 0, 5), ("train", 0, 7), ("train", 2, 8), ("attack", 0, 9), ("attack", 1, 6)):
        monkeypatch.setattr(audit, "peak_memory", lambda peak=peak: peak)
        report(text, units)
    assert report.peaks == {"load": 7, "train": 9, "attack": 9}
    assert told[-1] == ("attack", 3, 3)

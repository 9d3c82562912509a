"""Attacks that ask: by hand, against a planted memoriser, and with nothing to find."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import recmia
from recmia import Interactions
from recmia.attacks import ATTACKS, Attack, run_attack, run_pool_attack
from recmia.attacks.base import PoolAttack
from recmia.attacks.queries import (
    Completion,
    CompletionReference,
    QueryCompletion,
    QueryLR,
    completions,
    hidden_ranks,
    mean_by_user,
)
from recmia.errors import NotFittedError, ProtocolError
from recmia.game.queries import draw_queries
from recmia.metrics import auc
from recmia.observation import Observation, Queries, ShadowPool
from recmia.testing import planted_leak, planted_pool
from tests.attacks.helpers import OF_USERS

ASKING: dict[str, Any] = {
    name: partial(spec.make, {}) for name, spec in OF_USERS.items() if spec.asks and not spec.rule
}
ALONE = [name for name, spec in OF_USERS.items() if spec.asks and not spec.rule and spec.needs != "pool"]
POOLED = [name for name, spec in OF_USERS.items() if spec.asks and spec.needs == "pool"]


def area(member: Any, score: Any) -> float:
    found = auc(np.ravel(member), np.ravel(score)).value
    assert found is not None
    return found


def some_queries(seed: int, k: int) -> tuple[Queries, Any]:
    """Random queries about six users, and random answers, some of which end early."""
    rng = np.random.default_rng(seed)
    user, item = np.nonzero(rng.random((6, 30)) < 0.4)
    data = Interactions.from_arrays(np.append(user, range(6)), np.append(item, [30] * 6))
    queries = draw_queries(data, 4, 0.5, rng)
    answers = np.stack([rng.permutation(data.n_items)[:k] for _ in range(len(queries))]).astype(np.int32)
    for row in rng.integers(len(queries), size=3):
        answers[row, rng.integers(k) :] = -1
    return queries, answers


@given(st.integers(0, 999), st.integers(1, 20))
def test_completions_are_the_ndcg_of_the_hidden_items(seed: int, k: int) -> None:
    queries, answers = some_queries(seed, k)
    expected = []
    for row, answer in enumerate(answers.tolist()):
        hidden = set(queries.hidden[[row]].indices.tolist())
        found = sum(1 / np.log2(2 + place) for place, item in enumerate(answer) if item in hidden)
        expected.append(found / sum(1 / np.log2(2 + place) for place in range(min(len(hidden), k))))
    assert completions(answers, queries) == pytest.approx(expected)


@given(st.integers(0, 999), st.integers(1, 20))
def test_ranks_of_hidden_items(seed: int, k: int) -> None:
    queries, answers = some_queries(seed, k)
    expected = [
        answer.index(item) + 1 if item in answer else k + 1
        for row, answer in enumerate(answers.tolist())
        for item in queries.hidden[[row]].indices.tolist()
    ]
    assert hidden_ranks(answers, queries).tolist() == expected


def test_a_planted_memoriser_is_found_with_no_shadow() -> None:
    seen, member = planted_leak("memoriser", np.random.default_rng(0))
    shadow, labels = planted_leak("memoriser", np.random.default_rng(1))
    for name in ALONE:
        none = np.zeros(len(labels), np.bool_)
        _, (scores,) = run_attack(ASKING[name], shadow, none, [seen], rng=np.random.default_rng(0), score_shadow=False)
        assert area(member, scores) > 0.85, name


@pytest.mark.parametrize("n_shadows", [2, 4, 8])
def test_a_planted_memoriser_is_found_with_few_shadows(n_shadows: int) -> None:
    pool, targets, member = planted_pool("memoriser", np.random.default_rng(0), n_shadows=n_shadows)
    for name in POOLED:
        shadow_scores, scores = run_pool_attack(ASKING[name], pool, targets, rng=np.random.default_rng(0))
        assert area(member, scores) > 0.9, name
        # Two shadows leave none to hold out.
        assert shadow_scores.shape == (n_shadows if n_shadows > 2 else 0, pool.n_users)
        if n_shadows > 2:
            assert area(pool.member, shadow_scores) > 0.85, name


def null_areas(name: str, n_shadows: int, seed: int) -> tuple[float, float | None]:
    """AUC on targets and on held-out shadows where answers do not depend on membership."""
    rng = np.random.default_rng([7, seed])
    if name in POOLED:
        pool, targets, member = planted_pool("none", rng, n_shadows=n_shadows, n_users=100)
        shadow_scores, scores = run_pool_attack(ASKING[name], pool, targets, rng=rng)
        return area(member, scores), area(pool.member, shadow_scores) if len(shadow_scores) else None
    (shadow, labels), (seen, member) = planted_leak("none", rng), planted_leak("none", rng)
    shadow_scores, (scores,) = run_attack(ASKING[name], shadow, labels, [seen], rng=rng)
    return area(member, scores), area(labels, shadow_scores)


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("name", "n_shadows"), [*((name, 0) for name in ALONE), *((name, n) for name in POOLED for n in (2, 4, 8))]
)
def test_answers_regardless_of_membership_tell_nothing(name: str, n_shadows: int) -> None:
    found = [null_areas(name, n_shadows, seed) for seed in range(20)]
    for areas in zip(*found, strict=True):
        if areas[0] is not None:
            values = np.array(areas, float)
            assert abs(values.mean() - 0.5) < 4 * values.std(ddof=1) / np.sqrt(len(values)) + 0.005


@pytest.mark.statistical
@pytest.mark.parametrize("name", POOLED)
def test_labels_that_are_shuffled_after_serving_tell_nothing(name: str) -> None:
    """The system memorises, and the attacker has other labels than those that it was trained with."""
    areas = []
    for seed in range(10):
        rng = np.random.default_rng([8, seed])
        pool, targets, member = planted_pool("memoriser", rng, n_shadows=8, n_users=100)
        mixed = rng.random((4, pool.n_users)) < 0.5
        labels = np.stack([mixed, ~mixed], axis=1).reshape(8, -1)
        _, scores = run_pool_attack(ASKING[name], replace(pool, member=labels), targets, rng=rng)
        areas.append(area(rng.permuted(member, axis=1), scores))
    assert abs(np.mean(areas) - 0.5) < 4 * np.std(areas, ddof=1) / np.sqrt(len(areas)) + 0.005


@pytest.mark.parametrize("name", ASKING)
def test_users_who_cannot_be_asked_about_get_a_score_in_the_middle(name: str) -> None:
    def without(queries: Queries, answers: Any) -> tuple[Queries, Any]:
        kept = queries.user >= 10
        return Queries(queries.user[kept], queries.asked[kept], queries.hidden[kept]), answers[..., kept, :]

    rng = np.random.default_rng(0)
    if name in POOLED:
        pool, targets, member = planted_pool("memoriser", rng, n_shadows=4)
        assert pool.queries is not None
        queries, answers = without(pool.queries, pool.answers)
        fitted = ASKING[name]().fit(replace(pool, queries=queries, answers=answers), rng=rng)
        kept = without(pool.queries, targets[0].answers)[1]
        scores = fitted.score(replace(targets[0], queries=queries, answers=kept))
        member = member[0]
    else:
        seen, member = planted_leak("memoriser", rng)
        assert seen.queries is not None
        queries, answers = without(seen.queries, seen.answers)
        references = without(seen.queries, seen.references)[1]
        fitted = ASKING[name]().fit(seen, member, rng=rng)
        scores = fitted.score(replace(seen, queries=queries, answers=answers, references=references))
    assert np.isfinite(scores).all()
    low, high = np.quantile(scores[10:], [0.05, 0.95])
    assert ((low <= scores[:10]) & (scores[:10] <= high)).mean() >= 0.8


def test_nobody_can_be_asked_about() -> None:
    seen, _ = planted_leak("none", np.random.default_rng(0))
    assert seen.queries is not None
    assert seen.answers is not None
    nothing = replace(
        seen, queries=Queries(seen.queries.user[:0], seen.queries.asked[:0], seen.queries.hidden[:0]),
        answers=seen.answers[:0], references=None,
    )  # fmt: skip
    for attack in (Completion(), CompletionReference()):
        assert np.ptp(attack.score(nothing)) == 0


def test_references_explain_what_is_no_membership() -> None:
    """Half of the users have histories that anybody completes; what references complete as well is no leak."""
    seen, member = planted_leak("memoriser", np.random.default_rng(3))
    queries, answers, references = seen.queries, seen.answers, seen.references
    assert queries is not None
    assert answers is not None
    assert references is not None
    easy = queries.user % 2 == 0
    completed = answers.copy()
    for row in np.flatnonzero(easy):
        hidden = queries.hidden[[row]].indices[: answers.shape[1]]
        completed[row] = np.append(hidden, answers[row][~np.isin(answers[row], hidden)])[: answers.shape[1]]
    everybody = np.where(easy[None, :, None], completed[None], references)
    told = replace(seen, answers=completed, references=everybody)
    with_them = CompletionReference().score(told)
    assert area(member, with_them) > area(member, Completion().score(told)) + 0.05
    assert area(member, with_them) > area(member, CompletionReference().score(replace(told, references=None))) + 0.02
    assert abs(with_them.mean()) < 1e-9, "a residual"


def test_asking_takes_answers() -> None:
    seen, _ = planted_leak("none", np.random.default_rng(0))
    pool, targets, _ = planted_pool("none", np.random.default_rng(0), n_shadows=4)
    blind = seen.looking_only()
    for attack in (Completion(), CompletionReference()):
        with pytest.raises(ProtocolError, match="asks"):
            attack.score(blind)
    for kind in (QueryLR, QueryCompletion):
        with pytest.raises(ProtocolError, match="shadow models answer"):
            kind().fit(pool.looking_only(), rng=np.random.default_rng(0))
        with pytest.raises(NotFittedError):
            kind().score(targets[0])


def test_an_attacker_without_lists_of_members_of_the_audited_users() -> None:
    """Black-box: the pool has users of the attacker's own, in and out, and audited ones, never in."""
    pool, targets, member = planted_pool("memoriser", np.random.default_rng(5), n_shadows=8, n_users=120)
    own = 80
    never = pool.member.copy()
    never[:, own:] = False
    assert pool.queries is not None
    assert pool.answers is not None
    # What models answer that were trained without the audited users.
    clean, _, _ = planted_pool("none", np.random.default_rng(5), n_shadows=8, n_users=120)
    assert clean.answers is not None
    audited = pool.queries.user >= own
    answers = np.where(audited[None, :, None], clean.answers, pool.answers)
    fitted = QueryLR().fit(replace(pool, member=never, answers=answers), rng=np.random.default_rng(0))
    assert area(member[0][own:], fitted.score(targets[0])[own:]) > 0.85


@pytest.mark.parametrize("name", POOLED)
def test_a_users_score_depends_on_its_own_answers(name: str) -> None:
    pool, targets, _ = planted_pool("memoriser", np.random.default_rng(0), n_shadows=4)
    attack: PoolAttack = ASKING[name]().fit(pool, rng=np.random.default_rng(0))
    before = attack.score(targets[0])
    assert targets[0].answers is not None
    answers = targets[0].answers.copy()
    answers[:2] = np.roll(answers, 4, axis=0)[:2]
    after = attack.score(replace(targets[0], answers=answers))
    assert (before != after).tolist() == [True] + [False] * (len(before) - 1)


def test_mean_by_user() -> None:
    assert mean_by_user(np.array([1.0, 3.0]), np.array([1, 1], np.int32), 2)[1] == 2


@pytest.mark.end_to_end
@pytest.mark.parametrize("recommender", ["random", "content"])
def test_systems_that_learn_from_nobody_tell_nothing(small: Interactions, recommender: str) -> None:
    """Through the whole pipeline, with shadows and with references."""
    result = recmia.audit(
        small, recommender=recommender, attacks=["completion", "completion-reference", "query-lr", "list-lr"],
        regimes=["fold-in"], k=10, seeds=5, n_shadows=4, n_targets=4, factors=8, references=["itemknn", "popularity"],
    )  # fmt: skip
    asking = [row for row in result.joint(["auc"]) if ATTACKS[row.attack].asks]
    assert {row.attack for row in asking} == {"completion", "completion-reference", "query-lr"}
    for row in asking:
        assert row.low is not None
        assert row.high is not None
        assert row.low <= 0.5 <= row.high, row


@pytest.mark.end_to_end
def test_what_memorises_is_found_through_the_whole_pipeline(small: Interactions) -> None:
    result = recmia.audit(
        small, recommender="ease", attacks=["mlp", "list-lr", "completion", "completion-reference", "query-lr"],
        regimes=["popular", "fold-in"], k=20, seeds=2, n_shadows=4, factors=8, references=["itemknn"],
    )  # fmt: skip
    aucs = {(row.regime, row.attack): row.value or 0 for row in result.metrics if row.metric == "auc"}
    assert aucs["fold-in", "query-lr"] > 0.95
    assert aucs["fold-in", "completion-reference"] > 0.9
    assert ("popular", "query-lr") not in aucs
    assert ("popular", "mlp") in aucs
    part = {row["users"]: row["value"] for row in result.disclosures.filter(metric="recall@20").iter_rows(named=True)}
    assert part["members"] > part["non-members"]


def test_every_attack_that_asks_says_so() -> None:
    for name, make in ASKING.items():
        made: Attack | PoolAttack = make()
        assert (made.name, made.asks, made.needs) == (name, True, ATTACKS[name].needs)
    observed: type[Observation] = Observation
    assert observed.__dataclass_fields__.keys() >= {"queries", "answers", "references"}
    assert ShadowPool.__dataclass_fields__.keys() >= {"queries", "answers", "deep"}
    assert sparse.issparse(planted_leak("none", np.random.default_rng(0))[0].queries.asked)  # type: ignore[union-attr]

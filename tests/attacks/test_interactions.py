"""Attacks on single interactions: the contract, planted leaks, and that nothing is found where there is nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from threadpoolctl import threadpool_limits

from recmia import Interactions
from recmia.attacks import ATTACKS, RULES, InteractionAttack, InteractionPool
from recmia.attacks.interactions import (
    Absent,
    ItemCompletion,
    ItemHistoryLength,
    ItemLR,
    ItemPopularity,
    ItemReference,
    checked_interactions,
)
from recmia.errors import NotFittedError, ProtocolError, TooFewShadowsError
from recmia.game.queries import draw_blocks
from recmia.observation import Items, Observation, Queries
from recmia.testing import planted_interactions
from tests.attacks.helpers import area

MAKERS: dict[str, Any] = {name: partial(spec.make, {}) for name, spec in ATTACKS.items() if spec.unit == "interaction"}
EVERY = pytest.mark.parametrize("name", MAKERS)
ASKING = [name for name in MAKERS if ATTACKS[name].asks]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Trees on a busy machine wait for each other's threads; how many there are changes nothing, as is tested below."""
    with threadpool_limits(1):
        yield


def fitted(name: str, pool: InteractionPool, seed: int = 0) -> InteractionAttack:
    attack: InteractionAttack = MAKERS[name]()
    return attack.fit(pool, rng=np.random.default_rng(seed)) if attack.needs == "pool" else attack


def hidden_of(queries: Queries) -> list[tuple[int, int, int]]:
    """The query, the user and the item of each hidden interaction, in order."""
    hidden = queries.hidden
    return [
        (row, int(queries.user[row]), int(item))
        for row in range(len(queries))
        for item in hidden.indices[hidden.indptr[row] : hidden.indptr[row + 1]]
    ]


def test_the_attacks_of_this_file_are_all_that_there_are() -> None:
    assert set(MAKERS) == {kind.name for kind in KINDS}
    assert [name for name in RULES if name in MAKERS] == ["absent", "item-popularity", "item-history-length"]
    for kind in KINDS:
        spec, made = ATTACKS[kind.name], MAKERS[kind.name]()
        assert (made.asks, made.looks, made.needs) == (spec.asks, spec.looks, spec.needs)
        assert spec.unit == made.unit == "interaction"


KINDS: tuple[type[InteractionAttack], ...] = (
    ItemCompletion, ItemReference, ItemLR, Absent, ItemPopularity, ItemHistoryLength,
)  # fmt: skip


def game(
    seed: int, boost: float, n_users: int = 60, n_items: int = 120, k: int = 30, longest: int = 25
) -> tuple[Observation, Any]:
    """Random histories and answers, in which hidden items that were trained on stand `boost` higher."""
    rng = np.random.default_rng([11, seed])
    lengths = rng.integers(1, longest, n_users)
    item = np.concatenate([rng.permutation(n_items)[:length] for length in lengths])
    # Every item is somebody's, so that rows are ids.
    data = Interactions.from_arrays(
        np.append(np.repeat(np.arange(n_users), lengths), np.full(n_items, n_users)),
        np.append(item, np.arange(n_items)),
    ).restrict(np.arange(n_users))
    queries = draw_blocks(data, 5, rng)
    trained = rng.random(queries.hidden.nnz) < 0.5
    liked = rng.normal(size=queries.hidden.shape)
    rows = np.repeat(np.arange(len(queries)), np.diff(queries.hidden.indptr))
    liked[rows, queries.hidden.indices] += boost * trained
    liked[queries.asked.toarray() > 0] = -np.inf
    answers = np.argsort(-liked, axis=1)[:, :k].astype(np.int32)
    items = Items(np.empty((n_items, 0)), np.ones(n_items, np.bool_), data.item_counts())
    lists = np.full((n_users, 0), -1, np.int32)
    return Observation(data.csr(), lists, items, queries=queries, answers=answers), trained


# ---- The contract ----


@EVERY
@pytest.mark.parametrize("seed", [0, 1])
def test_contract(name: str, seed: int) -> None:
    pool, seen, _ = planted_interactions("memoriser", np.random.default_rng(seed), n_users=40)
    attack = fitted(name, pool)
    scores = checked_interactions(attack, seen)
    assert seen.queries is not None
    assert scores.shape == (seen.queries.hidden.nnz,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores, checked_interactions(attack, seen), err_msg="scoring must change nothing")
    np.testing.assert_array_equal(scores, checked_interactions(fitted(name, pool), seen), err_msg="same seed")


def test_every_hidden_interaction_is_scored_in_its_place() -> None:
    """By hand, for what a score of one interaction alone can be computed from."""
    pool, seen, _ = planted_interactions("left-out", np.random.default_rng(0), n_users=30)
    queries, answers = seen.queries, seen.answers
    assert queries is not None
    assert answers is not None
    hidden = hidden_of(queries)
    assert [item for _, _, item in hidden] == queries.hidden.indices.tolist()
    for name, expected in {
        "item-completion": [
            -np.log((answers[row].tolist().index(item) + 1 if item in answers[row] else answers.shape[1] + 1) + 5)
            for row, _, item in hidden
        ],
        "item-popularity": [seen.items.popularity[item] for _, _, item in hidden],
        "item-history-length": [seen.histories[[user]].nnz for _, user, _ in hidden],
        "absent": [float(item not in seen.lists[user]) for _, user, item in hidden],
    }.items():
        assert checked_interactions(fitted(name, pool), seen) == pytest.approx(expected), name


@EVERY
def test_nothing_is_hidden_of_users_with_a_single_item(name: str) -> None:
    """They are not asked about, and have no score."""
    seen, _ = game(0, 1.0)
    assert seen.queries is not None
    lengths = np.diff(seen.histories.indptr)
    assert (lengths == 1).any()
    assert seen.queries.hidden.nnz == lengths[lengths > 1].sum()
    assert seen.answers is not None
    answers = np.stack([seen.answers] * 4)
    half = np.random.default_rng(0).random((2, seen.queries.hidden.nnz)) < 0.5
    trained = np.stack([half[0], ~half[0], half[1], ~half[1]])
    attack = fitted(name, InteractionPool(seen.queries, answers, trained, seen.items))
    assert checked_interactions(attack, seen).shape == (seen.queries.hidden.nnz,)


@pytest.mark.parametrize("name", ASKING)
def test_answers_that_end_early(name: str) -> None:
    pool, seen, _ = planted_interactions("memoriser", np.random.default_rng(0), n_users=40)
    assert seen.answers is not None
    answers = seen.answers.copy()
    answers[:5], answers[5:9, 1:] = -1, -1
    assert np.isfinite(checked_interactions(fitted(name, pool), replace(seen, answers=answers))).all()
    nothing = pool.answers.copy()
    nothing[:] = -1
    attack = fitted(name, replace(pool, answers=nothing))
    silent = checked_interactions(attack, replace(seen, answers=nothing[0], references=None))
    assert np.isfinite(silent).all()


def test_what_an_attack_is_not_said_to_use_it_does_not_see() -> None:
    saw: dict[str, Any] = {}

    class Spy(InteractionAttack):
        name = "spy"

        def score(self, observation: Observation) -> Any:
            saw["seen"] = observation
            assert observation.queries is not None
            return np.zeros(observation.queries.hidden.nnz)

    class Blind(Spy):
        asks = False

    class Looking(Blind):
        looks = True

    _, seen, _ = planted_interactions("memoriser", np.random.default_rng(0), n_users=20)
    for kind, asks, looks in ((Spy, True, False), (Blind, False, False), (Looking, False, True)):
        checked_interactions(kind(), seen)
        found = saw["seen"]
        assert (found.answers is not None, found.references is not None) == (asks, asks)
        assert found.lists.shape == (20, 10 if looks else 0)
        assert found.queries is seen.queries
    assert seen.answers is not None, "the observation is left as it was"
    names = {one.name for one in fields(Observation)}
    assert not names & {"member", "trained", "label"}, "no score can be computed from the labels of the target"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda m: np.zeros(m + 1), r"must score [0-9]+ interactions; got shape"),
        (lambda m: np.zeros(20), r"must score [0-9]+ interactions; got shape \(20,\)"),
        (lambda m: np.append(np.zeros(m - 1), np.nan), "gave 1 scores that are not finite, the first to number"),
        (lambda m: np.full(m, np.inf), r"gave [0-9]+ scores that are not finite, the first to number 0"),
    ],
)
def test_bad_scores_are_caught(bad: Any, words: str) -> None:
    class Broken(InteractionAttack):
        name = "broken"

        def score(self, observation: Observation) -> Any:
            assert observation.queries is not None
            return bad(observation.queries.hidden.nnz)

    _, seen, _ = planted_interactions("none", np.random.default_rng(0), n_users=20)
    with pytest.raises(ProtocolError, match=f"broken {words}"):
        checked_interactions(Broken(), seen)


def test_what_is_missing_is_named() -> None:
    pool, seen, _ = planted_interactions("none", np.random.default_rng(0), n_users=20)
    for name in ASKING:
        with pytest.raises(ProtocolError, match="asks, and the observation holds no queries with answers"):
            fitted(name, pool).score(replace(seen, answers=None, references=None))
    nothing = replace(seen, queries=None, answers=None, references=None)
    for name in MAKERS:
        with pytest.raises(ProtocolError, match="nothing is hidden"):
            checked_interactions(MAKERS[name](), nothing)


# ---- Leaks that are planted, and none ----


def test_what_stands_at_the_top_if_it_was_trained_on_is_found() -> None:
    seen, trained = game(0, 50.0)
    assert area(trained, ItemCompletion().score(seen)) > 0.99
    seen, trained = game(0, -50.0)
    assert area(trained, ItemCompletion().score(seen)) < 0.5, "higher means trained on: the sign is not learned"


@pytest.mark.parametrize("name", ASKING)
def test_a_planted_memoriser_is_found(name: str) -> None:
    pool, seen, trained = planted_interactions("memoriser", np.random.default_rng(1))
    assert area(trained, checked_interactions(fitted(name, pool), seen)) > 0.95


def test_a_list_without_what_was_trained_on_is_found() -> None:
    _, seen, trained = planted_interactions("left-out", np.random.default_rng(1))
    assert area(trained, checked_interactions(Absent(), seen)) > 0.95
    _, seen, trained = planted_interactions("none", np.random.default_rng(1))
    assert set(checked_interactions(Absent(), seen)) == {1.0}, "a list that leaves out all of a history tells nothing"


def weak(seed: int, n_shadows: int = 8, n_users: int = 120) -> tuple[InteractionPool, Observation, Any]:
    """A leak of one standard deviation, where items stand much higher or lower than each other in all answers."""
    rng = np.random.default_rng([13, seed])
    seen, _ = game(seed, 0.0, n_users)
    queries = seen.queries
    assert queries is not None
    m = queries.hidden.nnz
    own = 1.5 * rng.normal(size=m)
    rows = np.repeat(np.arange(len(queries)), np.diff(queries.hidden.indptr))
    halves = rng.random((n_shadows // 2, m)) < 0.5
    into = np.concatenate([np.stack([halves, ~halves], axis=1).reshape(n_shadows, m), rng.random((1, m)) < 0.5])
    told = []
    for trained in into:
        liked = rng.normal(size=queries.hidden.shape)
        liked[rows, queries.hidden.indices] += own + trained
        liked[queries.asked.toarray() > 0] = -np.inf
        told.append(np.argsort(-liked, axis=1)[:, :50].astype(np.int32))
    pool = InteractionPool(queries, np.stack(told[:-1]), into[:-1], seen.items)
    return pool, replace(seen, answers=told[-1]), into[-1]


@pytest.mark.statistical
def test_shadow_models_tell_more_where_places_differ_anyway() -> None:
    gains = []
    for seed in range(6):
        pool, seen, trained = weak(seed)
        gains.append(area(trained, fitted("item-lr", pool).score(seen)) - area(trained, ItemCompletion().score(seen)))
    assert np.mean(gains) > 0.03
    assert min(gains) > 0


def null_area(name: str, seed: int, kind: Any = "none") -> float:
    pool, seen, trained = planted_interactions(kind, np.random.default_rng([17, seed]), n_users=80, n_shadows=4)
    return area(trained, checked_interactions(fitted(name, pool, seed), seen))


def is_a_coin(areas: list[float]) -> bool:
    return bool(abs(np.mean(areas) - 0.5) < 4 * np.std(areas, ddof=1) / np.sqrt(len(areas)) + 0.002)


@pytest.mark.statistical
@EVERY
def test_answers_regardless_of_what_was_trained_on_tell_nothing(name: str) -> None:
    assert is_a_coin([null_area(name, seed) for seed in range(20)])


@pytest.mark.statistical
def test_the_control_can_fail() -> None:
    """A system that gives away one in ten of what it was trained on is told from one that gives away none."""
    areas = []
    for seed in range(20):
        pool, seen, trained = planted_interactions("none", np.random.default_rng([17, seed]), n_users=80, n_shadows=4)
        scores = checked_interactions(fitted("item-completion", pool), seen)
        given_away = trained & (np.random.default_rng(seed).random(len(trained)) < 0.1)
        scores[given_away] = scores.max()
        areas.append(area(trained, scores))
    assert not is_a_coin(areas)


@pytest.mark.statistical
def test_labels_of_another_training_tell_nothing() -> None:
    """The shadow models and the system memorise, and the attacker has other labels than those of its models."""
    areas = []
    for seed in range(12):
        rng = np.random.default_rng([19, seed])
        pool, seen, trained = planted_interactions("memoriser", rng, n_users=80, n_shadows=4)
        mixed = rng.random((2, pool.trained.shape[1])) < 0.5
        labels = np.stack([mixed[0], ~mixed[0], mixed[1], ~mixed[1]])
        areas.append(area(trained, fitted("item-lr", replace(pool, trained=labels)).score(seen)))
    # What is learned points at random along the leak, so that areas spread widely.
    assert is_a_coin(areas)


# ---- Single attacks ----


def test_references_explain_what_is_no_membership() -> None:
    """Some items stand high in the answers of every model; what others put as high is no leak."""
    pool, seen, trained = weak(0)
    assert seen.answers is not None
    # Two more models of the same kind, which were trained on nothing of these users'.
    blind = replace(seen, references=pool.answers[:2])
    with_them = area(trained, ItemReference().score(blind))
    assert with_them > area(trained, ItemReference().score(seen)) + 0.02
    assert with_them > area(trained, ItemCompletion().score(seen)) + 0.02


def test_references_are_blind() -> None:
    """No labels are taken: `fit` leaves the attack as it is, whatever the labels are."""
    pool, seen, _ = planted_interactions("memoriser", np.random.default_rng(0), n_users=60)
    attack = ItemReference()
    scores = attack.score(seen)
    assert attack.fit(replace(pool, trained=~pool.trained), rng=np.random.default_rng(0)) is attack
    np.testing.assert_array_equal(attack.score(seen), scores)
    assert vars(attack) == {}


@pytest.mark.parametrize("name", ["item-completion", "item-reference"])
@pytest.mark.parametrize("seed", range(5))
def test_a_higher_place_is_a_higher_score(name: str, seed: int) -> None:
    """One hidden item changes places with the first of its answer; all others stay where they are."""
    pool, seen, _ = planted_interactions("none", np.random.default_rng(seed), n_users=60)
    queries, answers = seen.queries, seen.answers
    assert queries is not None
    assert answers is not None
    attack = fitted(name, pool)
    before = attack.score(seen)
    moved = 0
    for number, (row, _, item) in enumerate(hidden_of(queries)):
        own = queries.hidden[[row]].indices
        place = np.flatnonzero(answers[row] == item)
        if moved == 5 or not len(place) or place[0] == 0 or answers[row, 0] in own:
            continue
        raised = answers.copy()
        raised[row, [0, place[0]]] = raised[row, [place[0], 0]]
        after = attack.score(replace(seen, answers=raised))
        others = np.arange(len(before)) != number
        assert after[number] > before[number]
        assert after[number] - before[number] > np.abs(after - before)[others].max()
        assert (before[others] < before[number]).sum() <= (after[others] < after[number]).sum()
        moved += 1
    assert moved == 5


def test_scores_of_references_are_residuals() -> None:
    _, seen, _ = planted_interactions("memoriser", np.random.default_rng(0))
    assert abs(ItemReference().score(seen).mean()) < 1e-6


@pytest.mark.parametrize("n_shadows", [0, 2, 3])
def test_too_few_shadows(n_shadows: int) -> None:
    pool, _, _ = planted_interactions("none", np.random.default_rng(0), n_users=20)
    few = replace(pool, answers=pool.answers[:n_shadows], trained=pool.trained[:n_shadows])
    with pytest.raises(TooFewShadowsError, match=f"item-lr needs at least 4 shadow models; got {n_shadows}") as caught:
        ItemLR().fit(few, rng=np.random.default_rng(0))
    assert caught.value.estimate == 4


def test_pairs_that_are_no_complements() -> None:
    pool, _, _ = planted_interactions("none", np.random.default_rng(0), n_users=20)
    trained = pool.trained.copy()
    trained[3, 5] ^= True
    odd = replace(pool, answers=pool.answers[:5], trained=pool.trained[:5])
    shifted = replace(pool, answers=np.roll(pool.answers, 1, axis=0), trained=np.roll(pool.trained, 1, axis=0))
    for wrong in (replace(pool, trained=trained), odd, shifted):
        with pytest.raises(ProtocolError, match=r"shadows 2i and 2i \+ 1 must be trained on complementary halves"):
            ItemLR().fit(wrong, rng=np.random.default_rng(0))


def test_scores_before_fit_and_of_other_queries() -> None:
    pool, seen, _ = planted_interactions("none", np.random.default_rng(0), n_users=20)
    with pytest.raises(NotFittedError, match="item-lr was asked for scores before fit"):
        ItemLR().score(seen)
    assert seen.queries is not None
    attack = fitted("item-lr", pool)
    queries, places = seen.queries.take_users(np.arange(19))
    assert seen.answers is not None
    fewer = replace(seen, queries=queries, answers=seen.answers[places], references=None)
    with pytest.raises(ProtocolError, match="item-lr scores answers to the queries of its pool"):
        attack.score(fewer)


def test_the_order_of_pairs_changes_nothing_but_rounding() -> None:
    """A model of a pair is as good as the other, and no pair is the first."""
    pool, seen, trained = planted_interactions("memoriser", np.random.default_rng(0), n_users=60)
    order = np.array([3, 2, 5, 4, 0, 1])
    turned = replace(pool, answers=pool.answers[order], trained=pool.trained[order])
    one, other = (fitted("item-lr", each).score(seen) for each in (pool, turned))
    assert abs(area(trained, one) - area(trained, other)) < 0.02


def test_labels_of_the_target_change_nothing() -> None:
    """They are no argument, so a score can depend on them through nothing but the answers."""
    pool, seen, trained = planted_interactions("memoriser", np.random.default_rng(0), n_users=40)
    attack = fitted("item-lr", pool)
    scores = attack.score(seen)
    np.random.default_rng(1).shuffle(trained)
    np.testing.assert_array_equal(attack.score(seen), scores)
    # Nor are those of the pool used after fit.
    lent = replace(pool, trained=pool.trained.copy())
    attack = fitted("item-lr", lent)
    lent.trained[:] = ~lent.trained
    np.testing.assert_array_equal(attack.score(seen), scores)


@pytest.mark.parametrize("name", ["item-reference", "item-lr"])
def test_the_number_of_threads_changes_no_bit(name: str) -> None:
    # As many rows as make trees stop early, which draws what to validate on.
    pool, seen, _ = planted_interactions("memoriser", np.random.default_rng(0), n_users=900, n_shadows=4)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(fitted(name, pool, 3).score(seen))
    np.testing.assert_array_equal(found[0], found[1])


def test_rows_are_sampled_where_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, seen, trained = planted_interactions("memoriser", np.random.default_rng(0))
    monkeypatch.setattr("recmia.attacks.interactions._MOST_ROWS", 1000)
    for name in ("item-reference", "item-lr"):
        attack = fitted(name, pool)
        scores = attack.score(seen)
        assert scores.shape == trained.shape
        assert area(trained, scores) > 0.9
        np.testing.assert_array_equal(fitted(name, pool).score(seen), scores)
    assert (fitted("item-lr", pool, 1).score(seen) != fitted("item-lr", pool, 2).score(seen)).any(), "others are drawn"


@given(st.integers(0, 999), st.integers(0, 12))
def test_absent_marks_hidden_items_that_are_not_listed(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    dense = (rng.random((6, 15)) < 0.4).astype(np.float32)
    user, item = np.nonzero(dense)
    data = Interactions.from_arrays(np.append(user, range(6)), np.append(item, [15] * 6))
    queries = draw_blocks(data, 3, rng)
    lists = np.array([rng.permutation(data.n_items)[:k] for _ in range(6)], np.int32).reshape(6, -1)
    if k:
        lists[rng.integers(6), rng.integers(k) :] = -1
    items = Items(np.empty((data.n_items, 0)), np.ones(data.n_items, np.bool_), data.item_counts())
    seen = Observation(data.csr(), lists, items, queries=queries)
    expected = [float(one not in lists[user]) for _, user, one in hidden_of(queries)]
    assert checked_interactions(Absent(), seen).tolist() == expected


def test_absent_takes_items_of_the_user_alone() -> None:
    """An item that another user is shown, or that is not in the history, marks nothing."""
    history = sparse.csr_array(np.array([[1, 1, 0, 0], [1, 1, 0, 0]], np.float32))
    parts = [sparse.csr_array(np.array(part, np.float32)) for part in ([[1, 0, 0, 0]] * 2, [[0, 1, 0, 0]] * 2)]
    queries = Queries(np.array([0, 1], np.int32), *parts)
    items = Items(np.empty((4, 0)), np.ones(4, np.bool_), np.ones(4, np.int64))
    seen = Observation(history, np.array([[1, 2], [3, -1]], np.int32), items, queries=queries)
    assert checked_interactions(Absent(), seen).tolist() == [0.0, 1.0]

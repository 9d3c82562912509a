"""What an observation refuses to hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from recmia.attacks.vectors import user_vectors
from recmia.errors import ProtocolError
from recmia.observation import (
    InteractionPool,
    Items,
    Observation,
    Queries,
    ShadowPool,
    check_lists,
    in_history,
    rank_by_popularity,
)


def item_knowledge(n_items: int = 6, factors: int = 2) -> Items:
    vectors = np.random.default_rng(1).normal(size=(n_items, factors))
    return Items(vectors, np.ones(n_items, np.bool_), np.arange(n_items))


def observation(n: int = 3, n_items: int = 6) -> Observation:
    rng = np.random.default_rng(0)
    return Observation(
        histories=sparse.csr_array((rng.random((n, n_items)) < 0.5).astype(np.float32)),
        lists=np.array([rng.permutation(n_items)[:4] for _ in range(n)], np.int32),
        items=item_knowledge(n_items),
    )


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ([[0, 1], [2, 2], [1, 0]], "user 1 holds an item twice"),
        ([[0, 1], [2, 3], [6, 0]], r"user 2 holds an item out of 0\.\.5"),
        ([[0, 1], [-2, 3], [5, 0]], "user 1 holds an item out of"),
        ([[-1, 1], [2, 3], [5, 0]], "user 0 has an item after its padding"),
        ([[0, 1], [2, 3]], r"shape \(3, k\)"),
    ],
)
def test_bad_lists(lists: list[list[int]], words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        replace(observation(), lists=np.array(lists, np.int32))


def test_padding_may_repeat() -> None:
    replace(observation(), lists=np.array([[0, -1, -1], [-1, -1, -1], [3, 4, 5]], np.int32))


def test_lists_must_be_int32() -> None:
    with pytest.raises(ProtocolError, match="int32"):
        replace(observation(), lists=np.zeros((3, 1), np.int64))


def test_nan_is_refused() -> None:
    with pytest.raises(ProtocolError, match=r"items\.vectors holds values that are not finite"):
        replace(item_knowledge(), vectors=np.full((6, 2), np.nan))
    # An item without a vector has a row that means nothing.
    replace(item_knowledge(), vectors=np.full((6, 2), np.nan), has_vector=np.zeros(6, np.bool_))


def test_shapes_must_agree() -> None:
    with pytest.raises(ProtocolError, match=r"last_time must have shape \(3,\); got \(2,\)"):
        replace(observation(), last_time=np.zeros(2))
    with pytest.raises(ProtocolError, match=r"items.has_vector must have shape \(6,\); got \(5,\)"):
        replace(item_knowledge(), has_vector=np.ones(5, np.bool_))
    with pytest.raises(ProtocolError, match=r"items.vectors must have shape \(6, 2\); got \(5, 2\)"):
        replace(item_knowledge(), vectors=np.zeros((5, 2)))
    with pytest.raises(ProtocolError, match=r"items.vectors must have shape \(6, 2\); got \(6, 2, 1\)"):
        replace(item_knowledge(), vectors=np.zeros((6, 2, 1)))
    with pytest.raises(ProtocolError, match="over 6 items, and the attacker knows 5"):
        replace(observation(), items=item_knowledge(5))


def test_take() -> None:
    whole = observation()
    part = whole.take(np.array([2, 0]))
    np.testing.assert_array_equal(part.lists, whole.lists[[2, 0]])
    np.testing.assert_array_equal(user_vectors(part).difference, user_vectors(whole).difference[[2, 0]])
    np.testing.assert_array_equal(part.histories.toarray(), whole.histories.toarray()[[2, 0]])
    assert part.last_time is None
    timed = replace(whole, last_time=np.array([3.0, 4.0, 5.0])).take(np.array([2, 0]))
    assert timed.last_time is not None
    assert timed.last_time.tolist() == [5, 3]


def test_a_feature_is_computed_once_for_each_observation() -> None:
    calls = []

    def first(seen: Observation) -> Any:
        calls.append(len(seen))
        return seen.lists[:, 0]

    whole = observation()
    assert whole.feature("first", first) is whole.feature("first", first)
    np.testing.assert_array_equal(whole.take(np.array([2, 0])).feature("first", first), whole.lists[[2, 0], 0])
    assert calls == [3], "the users that are taken keep what was computed for all"
    other = replace(whole, lists=whole.lists[:, ::-1].copy())
    np.testing.assert_array_equal(other.feature("first", first), whole.lists[:, -1])
    assert calls == [3, 3]


def asked_of(n: int = 3, n_items: int = 6) -> tuple[Queries, Any]:
    """Two queries about users 0 and 2, none about user 1, and an answer to each."""
    halves = np.zeros((4, n_items), np.float32)
    halves[[0, 1, 2, 3], [0, 1, 2, 3]] = 1
    asked, hidden = (sparse.csr_array(halves[rows]) for rows in ([0, 1, 2, 3], [1, 0, 3, 2]))
    answers = np.array([[1, 4], [0, 5], [3, -1], [-1, -1]], np.int32)
    return Queries(np.array([0, 0, 2, 2], np.int32), asked, hidden), answers


def asking() -> Observation:
    queries, answers = asked_of()
    return replace(observation(), queries=queries, answers=answers, references=np.stack([answers, answers]))


def test_answers_belong_to_queries_about_these_users() -> None:
    seen = asking()
    queries, answers = asked_of()
    assert len(queries) == 4
    for changed, words in (
        ({"queries": None}, "there are answers, and no queries that they answer"),
        ({"queries": None, "answers": None}, "there are answers, and no queries that they answer"),
        ({"answers": answers[:3]}, r"lists must be int32 with shape \(4, k\)"),
        ({"answers": answers.astype(np.int64)}, "lists must be int32"),
        ({"answers": np.where(answers == 4, 6, answers)}, r"the answer to query 0 holds an item out of 0\.\.5"),
        ({"answers": np.where(answers == 4, 1, answers)}, "the answer to query 0 holds an item twice"),
        ({"answers": np.array([[1, 4], [0, 5], [-1, 3], [-1, -1]], np.int32)}, "query 2 has an item after its padding"),
        ({"references": answers}, r"references must be int32 with shape \(R, 4, k\)"),
        ({"references": np.stack([answers, answers + 2])}, "the answer to query 0 holds an item out of"),
        ({"queries": Queries(queries.user + np.int32(1), queries.asked, queries.hidden)}, r"about users 0\.\.2 and 6"),
        ({"queries": Queries(queries.user, queries.asked[:, :5], queries.hidden[:, :5])}, "and 5 items"),
    ):  # fmt: skip
        with pytest.raises(ProtocolError, match=words):
            replace(seen, **changed)


def test_queries_that_cannot_be() -> None:
    queries, _ = asked_of()
    user: Any
    for user, asked, hidden, words in (
        (queries.user[::-1].copy(), queries.asked, queries.hidden, "in ascending order"),
        (queries.user - np.int32(1), queries.asked, queries.hidden, "0 or more"),
        (queries.user.astype(np.int64), queries.asked, queries.hidden, r"user int32\[q\]"),
        (queries.user[:3], queries.asked, queries.hidden, r"int32\[3\], \(4, 6\) and \(4, 6\)"),
        (queries.user, queries.asked, queries.hidden[:, :5], r"\(4, 6\) and \(4, 5\)"),
        (queries.user, queries.asked, queries.asked, "asks with an item that it also hides"),
    ):
        with pytest.raises(ProtocolError, match=words):
            Queries(user, asked, hidden)


def test_who_only_looks_sees_neither_queries_nor_answers() -> None:
    seen = asking()
    looked = seen.looking_only()
    assert (looked.queries, looked.answers, looked.references) == (None, None, None)
    for name in ("histories", "lists", "items", "last_time"):
        assert getattr(looked, name) is getattr(seen, name)
    seen.feature("answers", lambda one: np.asarray(one.answers)[:3, 0])
    assert seen.looking_only().feature("answers", lambda one: one.lists[:, 0]).tolist() == seen.lists[:, 0].tolist()


def test_queries_go_with_their_users() -> None:
    seen = asking()
    assert seen.queries is not None
    assert seen.answers is not None
    assert seen.references is not None
    part = seen.take(np.array([2, 1]))
    assert part.queries is not None
    assert part.answers is not None
    assert part.references is not None
    assert part.queries.user.tolist() == [0, 0]
    np.testing.assert_array_equal(part.queries.asked.toarray(), seen.queries.asked.toarray()[2:])
    np.testing.assert_array_equal(part.queries.hidden.toarray(), seen.queries.hidden.toarray()[2:])
    np.testing.assert_array_equal(part.answers, seen.answers[2:])
    np.testing.assert_array_equal(part.references, seen.references[:, 2:])
    nobody = seen.take(np.array([1]))
    assert nobody.queries is not None
    assert (len(nobody.queries), nobody.answers is not None and nobody.answers.shape) == (0, (0, 2))


def test_the_fingerprint_is_of_what_is_asked_with() -> None:
    queries, _ = asked_of()
    same = Queries(np.array([0, 1, 2, 2], np.int32), queries.asked.copy(), queries.hidden)
    assert same.fingerprint == queries.fingerprint, "a system does not see whom it is asked about"
    other = Queries(queries.user, queries.hidden, queries.asked)
    assert other.fingerprint != queries.fingerprint


def shadow_pool(S: int = 4, n: int = 3, n_items: int = 6) -> ShadowPool:
    rng = np.random.default_rng(0)
    lists = np.array([[rng.permutation(n_items)[:4] for _ in range(n)] for _ in range(S)], np.int32)
    histories = sparse.csr_array(np.eye(n, n_items, dtype=np.float32))
    return ShadowPool(histories, lists, rng.random((S, n)) < 0.5, item_knowledge(n_items))


def test_shadow_pool() -> None:
    pool = shadow_pool()
    assert len(pool) == 4
    assert pool.n_users == 3
    part = pool.take(np.array([2, 0]))
    np.testing.assert_array_equal(part.lists, pool.lists[[2, 0]])
    np.testing.assert_array_equal(part.member, pool.member[[2, 0]])
    assert part.n_items == 6
    fewer = pool.take_users(np.array([True, False, True]))
    assert (len(fewer), fewer.n_users, fewer.n_items) == (4, 2, 6)
    np.testing.assert_array_equal(fewer.lists, pool.lists[:, [0, 2]])
    np.testing.assert_array_equal(fewer.member, pool.member[:, [0, 2]])
    np.testing.assert_array_equal(fewer.histories.toarray(), pool.histories.toarray()[[0, 2]])
    seen = pool.observe(pool.lists[1])
    np.testing.assert_array_equal(seen.lists, pool.lists[1])
    assert seen.histories is pool.histories
    assert seen.items is pool.items


def asking_pool() -> ShadowPool:
    """With lists of two items that go on for two more, and answers."""
    pool = shadow_pool()
    queries, answers = asked_of()
    return replace(pool, lists=pool.lists[:, :, :2], deep=pool.lists, queries=queries, answers=np.stack([answers] * 4))


def test_deep_lists_and_answers_go_with_their_shadows_and_users() -> None:
    pool = asking_pool()
    deep, answers = np.asarray(pool.deep), np.asarray(pool.answers)
    part = pool.take(np.array([2, 0]))
    np.testing.assert_array_equal(np.asarray(part.deep), deep[[2, 0]])
    np.testing.assert_array_equal(np.asarray(part.answers), answers[[2, 0]])
    assert part.queries is pool.queries
    fewer = pool.take_users(np.array([False, True, True]))
    np.testing.assert_array_equal(np.asarray(fewer.deep), deep[:, 1:])
    np.testing.assert_array_equal(np.asarray(fewer.answers), answers[:, 2:])
    assert fewer.queries is not None
    assert fewer.queries.user.tolist() == [1, 1]
    looked = pool.looking_only()
    assert (looked.queries, looked.answers) == (None, None)
    assert looked.deep is pool.deep, "longer lists of its own models take no question"
    for number in range(4):
        one = pool.observe_shadow(number)
        np.testing.assert_array_equal(one.lists, pool.lists[number])
        np.testing.assert_array_equal(np.asarray(one.answers), answers[number])
        assert one.queries is pool.queries
        assert pool.looking_only().observe_shadow(number).queries is None
    seen = pool.observe(pool.lists[0], answers[0])
    assert seen.queries is pool.queries
    assert pool.observe(pool.lists[0]).queries is None, "of a system that was not asked"


def test_what_a_shadow_pool_refuses_of_deep_lists_and_answers() -> None:
    pool = asking_pool()
    deep, answers = np.array(pool.deep), np.array(pool.answers)
    fewer = answers[:, :3]
    answers[3, 1, 1] = answers[3, 1, 0]
    twice = deep.copy()
    twice[1, 2, 3] = twice[1, 2, 0]
    for changed, words in (
        ({"deep": deep[:, :, ::-1]}, "must be the starts of its deep lists"),
        ({"deep": deep[:, :2]}, "must be the starts of its deep lists"),
        ({"deep": twice}, "shadow 1: the list of user 2 holds an item twice"),
        ({"answers": answers}, "shadow 3: the answer to query 1 holds an item twice"),
        ({"answers": fewer}, r"shadow 0: lists must be int32 with shape \(4, k\)"),
        ({"deep": list(deep)[:3]}, "a pool of 4 shadow models needs as many deep; got 3"),
        ({"answers": list(fewer)[:2]}, "a pool of 4 shadow models needs as many answers; got 2"),
        ({"queries": None}, "there are answers, and no queries that they answer"),
    ):
        with pytest.raises(ProtocolError, match=words):
            replace(pool, **changed)


def test_a_shadow_pool_needs_the_history_of_each_user() -> None:
    with pytest.raises(ProtocolError, match="lists of 3 users and 2 histories"):
        replace(shadow_pool(), histories=shadow_pool().histories[:2])


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (np.zeros((4, 2), np.bool_), r"bool\[S, n\]; got int32\[4, 3, 4\] and bool\[4, 2\]"),
        (np.zeros((3, 4), np.bool_), r"bool\[3, 4\]"),
        (np.zeros((4, 3), np.int8), r"int8\[4, 3\]"),
    ],
)
def test_membership_of_a_shadow_pool(member: Any, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        replace(shadow_pool(), member=member)


@pytest.mark.parametrize(("item", "words"), [(6, "item out of"), (-2, "item out of"), (-1, "after its padding")])
def test_lists_of_a_shadow_pool(item: int, words: str) -> None:
    lists = shadow_pool().lists.copy()
    lists[2, 1, 0] = item
    with pytest.raises(ProtocolError, match=f"shadow 2: the list of user 1 .*{words}"):
        replace(shadow_pool(), lists=lists)


def test_an_item_twice_in_a_shadow_pool() -> None:
    lists = shadow_pool().lists.copy()
    lists[3, 0, 0] = lists[3, 0, 1]
    with pytest.raises(ProtocolError, match="shadow 3: the list of user 0 holds an item twice"):
        replace(shadow_pool(), lists=lists)


def test_lists_of_a_shadow_pool_must_be_int32() -> None:
    with pytest.raises(ProtocolError, match="int64"):
        replace(shadow_pool(), lists=shadow_pool().lists.astype(np.int64))
    with pytest.raises(ProtocolError, match=r"int32\[4, 3\]"):
        replace(shadow_pool(), lists=shadow_pool().lists[:, :, 0])


def test_what_is_in_the_history() -> None:
    histories = sparse.csr_array(np.array([[1, 0, 1], [0, 0, 0]], np.float32))
    lists = np.array([[2, 1, -1], [0, 1, 2]], np.int32)
    assert in_history(lists, histories).tolist() == [[True, False, False], [False] * 3]
    assert not in_history(lists, histories[[1, 1]]).any()


def test_more_users_than_a_block_holds() -> None:
    """The first bad list is named by its row among all."""
    lists = np.tile(np.arange(2, dtype=np.int32), (70_000, 1))
    check_lists(lists, 70_000, 2)
    lists[69_000, 1] = 0
    with pytest.raises(ProtocolError, match="the list of user 69000 holds an item twice"):
        check_lists(lists, 70_000, 2)


def test_ties_in_popularity_go_by_row() -> None:
    ranking = rank_by_popularity(np.array([1, 3, 3, 0]))
    assert ranking.tolist() == [1, 2, 0, 3]
    assert ranking.dtype == np.int32


def interaction_pool() -> InteractionPool:
    """Two queries about one user of six, with three hidden items, and what two models answer."""
    halves = sparse.csr_array(np.array([[1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]], np.float32))
    queries = Queries(np.array([0, 0], np.int32), halves[[1, 0]], halves)
    answers = np.array([[[0, 3], [2, -1]], [[4, 5], [3, 4]]], np.int32)
    trained = np.array([[True, False, True], [False, True, False]])
    return InteractionPool(queries, answers, trained, item_knowledge())


def test_a_pool_of_interactions() -> None:
    pool = interaction_pool()
    assert len(pool) == 2
    assert pool.trained.shape == (2, pool.queries.hidden.nnz)
    none = replace(pool, answers=pool.answers[:0], trained=pool.trained[:0])
    assert len(none) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trained": np.ones((2, 2), np.bool_)}, r"trained must be bool with shape \(2, 3\); got bool"),
        ({"trained": np.ones((1, 3), np.bool_)}, r"trained must be bool with shape \(2, 3\)"),
        ({"trained": np.ones((2, 3), np.int8)}, r"trained must be bool with shape \(2, 3\); got int8"),
        (
            {"answers": np.array([[[0, 3], [2, 1]], [[4, 4], [3, 5]]], np.int32)},
            "shadow 1: the answer to query 0 holds",
        ),
        ({"answers": np.array([[[0, 3], [2, 6]], [[4, 5], [3, 4]]], np.int32)}, r"shadow 0: .* out of 0\.\.5"),
        ({"answers": np.zeros((2, 1, 2), np.int32)}, r"shadow 0: .* shape \(2, k\)"),
        ({"answers": np.array([[[0, 3], [2, 1]], [[4, 5], [3, 4]]])}, "shadow 0: lists must be int32"),
        ({"items": item_knowledge(7)}, "shadow 0: the queries must be about users"),
    ],
)
def test_what_a_pool_of_interactions_refuses(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        replace(interaction_pool(), **change)

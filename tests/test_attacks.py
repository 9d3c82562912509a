"""Attacks: the contract that every one passes, controls that must print 0.5, and a leak that must be found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from recmia.attacks import BASELINES, CLASSIFIERS, SHADOW_FREE, Attack, Baseline, VectorClassifier, run_attack
from recmia.attacks.baselines import (
    history_length,
    history_popularity,
    popular_overlap,
    recency,
    seen_in_list,
    shared_list,
)
from recmia.errors import NotFittedError, ProtocolError
from recmia.evaluation import auc
from recmia.observation import Observation

MAKERS: dict[str, Callable[[], Attack]] = {
    **{name: partial(VectorClassifier, name) for name in CLASSIFIERS},
    **SHADOW_FREE,
    **{name: partial(Baseline, name) for name in BASELINES},
}
EVERY = pytest.mark.parametrize("name", MAKERS)
LEARNED = pytest.mark.parametrize("name", CLASSIFIERS)


def users(n: int, rng: np.random.Generator, *, shift: Any = 0.0, k: int = 5, n_items: int = 40) -> Observation:
    """Users with random histories, lists and vectors; `shift` moves the first coordinate of their vectors."""
    histories = sparse.csr_array((rng.random((n, n_items)) < 0.3).astype(np.float32))
    history_mean = rng.normal(size=(n, 6))
    history_mean[:, 0] += shift
    return Observation(
        histories=histories,
        lists=np.array([rng.permutation(n_items)[:k] for _ in range(n)], np.int32),
        history_mean=history_mean,
        list_mean=rng.normal(size=(n, 6)) * 0.1,
        popular_mean=rng.normal(size=6),
        has_vector=np.ones(n, np.bool_),
        popularity=rng.integers(1, 100, n_items),
        last_time=rng.random(n),
    )


def area(member: Any, score: Any) -> float:
    value = auc(member, score).value
    assert value is not None
    return value


def half(n: int, rng: np.random.Generator) -> Any:
    return rng.permutation(n) < n // 2


@EVERY
def test_contract(name: str) -> None:
    rng = np.random.default_rng(0)
    shadow, target, member = users(60, rng), users(30, rng), half(60, rng)
    attack = MAKERS[name]()
    assert attack.fit(shadow, member, rng=np.random.default_rng(1)) is attack
    scores = attack.score(target)
    assert scores.shape == (30,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores, attack.score(target), err_msg="scoring must change nothing")
    again = MAKERS[name]().fit(shadow, member, rng=np.random.default_rng(1)).score(target)
    np.testing.assert_array_equal(scores, again, err_msg="same seed, same scores")


@EVERY
def test_scores_follow_the_users(name: str) -> None:
    """Reordering the target users reorders their scores: none depends on its place."""
    rng = np.random.default_rng(0)
    shadow, target, member = users(60, rng), users(30, rng), half(60, rng)
    attack = MAKERS[name]().fit(shadow, member, rng=rng)
    order = rng.permutation(30)
    np.testing.assert_allclose(attack.score(target)[order], attack.score(target.take(order)), atol=1e-9)


@EVERY
def test_no_leak_gives_a_coin(name: str) -> None:
    """Users drawn regardless of membership: 0.5 within the spread over 30 games."""
    areas = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        shadow, target = users(80, rng), users(80, rng)
        scores = MAKERS[name]().fit(shadow, half(80, rng), rng=rng).score(target)
        areas.append(area(half(80, rng), scores))
    # One area has a standard deviation of sqrt(81 / (12 * 40 * 40)) = 0.065.
    assert abs(np.mean(areas) - 0.5) < 3 * 0.065 / np.sqrt(30)


@LEARNED
def test_shuffled_labels_give_a_coin(name: str) -> None:
    """A leak in the shadow vectors is of no use to an attacker who learns from shuffled labels."""
    areas = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        truth, labels = half(80, rng), half(80, rng)
        shadow, target = users(80, rng, shift=2.0 * truth), users(80, rng, shift=2.0 * truth)
        scores = MAKERS[name]().fit(shadow, labels, rng=rng).score(target)
        areas.append(area(truth, scores))
    # What is learned points at random along the leak, so the areas spread widely around one half.
    assert abs(np.mean(areas) - 0.5) < 3 * np.std(areas) / np.sqrt(30)


@LEARNED
def test_a_planted_leak_is_found(name: str) -> None:
    rng = np.random.default_rng(0)
    member_shadow, member_target = half(200, rng), half(200, rng)
    shadow, target = users(200, rng, shift=3.0 * member_shadow), users(200, rng, shift=3.0 * member_target)
    out_of_fold, (scores,) = run_attack(MAKERS[name], shadow, member_shadow, [target], rng=rng)
    for member, score in ((member_target, scores), (member_shadow, out_of_fold)):
        assert area(member, score) > 0.85


@LEARNED
def test_shadow_scores_are_out_of_fold(name: str) -> None:
    """Without a leak, scores of the users learned from would look good, out-of-fold scores do not."""
    inside, outside = [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        shadow, member = users(60, rng), half(60, rng)
        inside.append(area(member, MAKERS[name]().fit(shadow, member, rng=rng).score(shadow)))
        outside.append(area(member, run_attack(MAKERS[name], shadow, member, [users(5, rng)], rng=rng)[0]))
    assert np.mean(inside) > 0.65
    # Folds are stratified, which biases out-of-fold scores slightly downwards when there is nothing to learn.
    assert 0.38 < np.mean(outside) < 0.56


@LEARNED
def test_users_without_a_vector_get_a_neutral_score(name: str) -> None:
    rng = np.random.default_rng(0)
    shadow, target, member = users(60, rng), users(31, rng), half(60, rng)
    blind = replace(target, has_vector=np.arange(31) > 3)
    scores = MAKERS[name]().fit(shadow, member, rng=rng).score(blind)
    assert (scores[:4] == np.median(scores[4:])).all()
    nobody = replace(target, has_vector=np.zeros(31, np.bool_))
    assert (MAKERS[name]().fit(shadow, member, rng=rng).score(nobody) == 0).all()


@LEARNED
def test_score_before_fit(name: str) -> None:
    with pytest.raises(NotFittedError, match=name):
        MAKERS[name]().score(users(3, np.random.default_rng(0)))


@LEARNED
def test_one_kind_of_shadow_user(name: str) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ProtocolError, match="got one kind only"):
        MAKERS[name]().fit(users(9, rng), np.ones(9, np.bool_), rng=rng)


@pytest.mark.parametrize(("bad", "words"), [(np.zeros(3), "must score 5 users"), (np.full(5, np.nan), "not finite")])
def test_bad_scores_of_an_attack_are_caught(bad: Any, words: str) -> None:
    class Broken(Baseline):
        def score(self, observation: Observation) -> Any:
            return bad

    rng = np.random.default_rng(0)
    with pytest.raises(ProtocolError, match=words):
        run_attack(lambda: Broken("recency"), users(9, rng), half(9, rng), [users(5, rng)], rng=rng)


def hand_made() -> Observation:
    return Observation(
        histories=sparse.csr_array(np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 1, 1, 1]], np.float32)),
        lists=np.array([[2, 3], [2, 3], [0, -1]], np.int32),
        history_mean=np.zeros((3, 1)),
        list_mean=np.zeros((3, 1)),
        popular_mean=np.zeros(1),
        has_vector=np.ones(3, np.bool_),
        popularity=np.array([5, 1, 7, 3]),
        last_time=np.array([3.0, 1.0, 2.0]),
    )


def test_baselines_by_hand() -> None:
    seen = hand_made()
    np.testing.assert_array_equal(shared_list(seen), [-1, -1, 0])
    np.testing.assert_array_equal(popular_overlap(seen), [-0.5, -0.5, -0.5])  # items 2 and 0 are the most popular
    np.testing.assert_array_equal(seen_in_list(seen), [0, -0.5, 0])
    np.testing.assert_array_equal(history_length(seen), [2, 1, 3])
    np.testing.assert_allclose(history_popularity(seen), [3, 7, 11 / 3])
    np.testing.assert_array_equal(recency(seen), [3, 1, 2])
    np.testing.assert_array_equal(recency(replace(seen, last_time=None)), 0)


def test_history_popularity_of_empty_histories() -> None:
    empty = replace(hand_made(), histories=sparse.csr_array(np.array([[0] * 4, [1, 0, 0, 0], [0] * 4], np.float32)))
    np.testing.assert_array_equal(history_popularity(empty), [0, 5, 0])

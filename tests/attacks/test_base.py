"""Attacks on one observation: the contract that every one passes, controls that must print 0.5, a leak to be found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recmia.attacks import ATTACKS, RULES, run_attack
from recmia.attacks.base import for_every_user
from recmia.attacks.classifiers import CLASSIFIERS
from recmia.attacks.rules import Rule, recency
from recmia.attacks.vectors import user_vectors
from recmia.errors import NotFittedError, ProtocolError
from recmia.observation import Observation
from tests.attacks.helpers import LEARNING, MAKERS, area, half, users, with_means, without_vectors

EVERY = pytest.mark.parametrize("name", MAKERS)
LEARNED = pytest.mark.parametrize("name", LEARNING)


def test_the_attacks_of_this_file_are_all_that_there_are() -> None:
    assert list(CLASSIFIERS) == LEARNING
    of_users = {name for name in RULES if ATTACKS[name].unit == "user"}
    assert set(MAKERS) == {*CLASSIFIERS, "distance", "k-means", *of_users} - {"twin"}, "it asks"


@pytest.mark.parametrize("weights", ["uniform", "linear"])
def test_the_chosen_means_are_what_an_attacker_computes(weights: str) -> None:
    """The observations of these tests must be what they are taken for."""
    rng = np.random.default_rng(0)
    history, shown, popular = rng.normal(size=(7, 3)), rng.normal(size=(7, 3)), rng.normal(size=3)
    found = user_vectors(without_vectors(with_means(users(7, rng), history, shown, popular), np.arange(7) < 2), weights)
    assert found.usable.tolist() == [False] * 2 + [True] * 5
    for array, expected in ((found.history, history), (found.shown, shown)):
        np.testing.assert_allclose(array[2:], expected[2:])
        assert (array[:2] == 0).all()
    np.testing.assert_allclose(found.popular, popular)
    np.testing.assert_allclose(found.difference, found.history - found.shown)


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


@pytest.mark.statistical
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


@pytest.mark.statistical
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


@pytest.mark.statistical
@LEARNED
def test_a_planted_leak_is_found(name: str) -> None:
    rng = np.random.default_rng(0)
    member_shadow, member_target = half(200, rng), half(200, rng)
    shadow, target = users(200, rng, shift=3.0 * member_shadow), users(200, rng, shift=3.0 * member_target)
    out_of_fold, (scores,) = run_attack(MAKERS[name], shadow, member_shadow, [target], rng=rng)
    for member, score in ((member_target, scores), (member_shadow, out_of_fold)):
        assert area(member, score) > 0.85


@pytest.mark.statistical
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
    blind = without_vectors(target, np.arange(31) <= 3)
    scores = MAKERS[name]().fit(shadow, member, rng=rng).score(blind)
    assert (scores[:4] == np.median(scores[4:])).all()
    nobody = without_vectors(target, np.ones(31, np.bool_))
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
    class Broken(Rule):
        def score(self, observation: Observation) -> Any:
            return bad

    rng = np.random.default_rng(0)
    with pytest.raises(ProtocolError, match=words):
        run_attack(lambda: Broken("recency", recency), users(9, rng), half(9, rng), [users(5, rng)], rng=rng)


def test_an_attack_that_learns_nothing_need_not_write_fit() -> None:
    rule = Rule("recency", recency)
    assert rule.needs == "nothing"
    seen = users(9, np.random.default_rng(0))
    assert rule.fit(seen, half(9, np.random.default_rng(0)), rng=np.random.default_rng(0)) is rule
    assert ATTACKS["recency"].needs == "nothing"


@pytest.mark.statistical
@EVERY
def test_target_scores_are_the_same_without_shadow_scores(name: str) -> None:
    rng = np.random.default_rng(0)
    shadow, targets, member = users(60, rng), [users(30, rng), users(20, rng)], half(60, rng)
    with_them, without = (
        run_attack(MAKERS[name], shadow, member, targets, rng=np.random.default_rng(1), score_shadow=scored)
        for scored in (True, False)
    )
    assert (with_them[0].shape, without[0].shape) == ((60,), (0,))
    for one, other in zip(with_them[1], without[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_scores_are_spread_over_all_users() -> None:
    usable = np.array([True, False, True, True])
    assert for_every_user(np.array([3.0, 1.0, 2.0]), usable).tolist() == [3, 2, 1, 2]
    assert for_every_user(np.empty(0), np.zeros(2, np.bool_)).tolist() == [0, 0]

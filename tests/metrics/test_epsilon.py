"""Epsilon from one run: against enumeration, negative controls, and what a promise means."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binom, norm

from recmia.errors import ProtocolError
from recmia.metrics import epsilon as eps
from recmia.metrics.epsilon import PromiseCheck


def played(right: int, made: int, coins: int | None = None) -> eps.Guessed:
    return eps.Guessed(made if coins is None else coins, made, made, right)


@pytest.mark.parametrize(("right", "made", "epsilon"), [(9, 10, 0.0), (9, 10, 1.0), (58, 60, 2.0), (30, 30, 3.0)])
def test_without_delta_it_is_the_binomial_tail(right: int, made: int, epsilon: float) -> None:
    expected = binom.sf(right - 1, made, expit(epsilon))
    assert eps.p_value(played(right, made), epsilon) == pytest.approx(expected)


@pytest.mark.parametrize("delta", [1e-5, 1e-3])
@pytest.mark.parametrize(("right", "made", "coins"), [(9, 10, 30), (55, 60, 305), (200, 200, 200)])
def test_with_delta_by_the_formula(right: int, made: int, coins: int, delta: float) -> None:
    for epsilon in (0.0, 0.7, 2.5):
        q = expit(epsilon)
        terms = [binom.cdf(right - 1, made, q) - binom.cdf(right - i - 1, made, q) for i in range(1, right + 1)]
        worst = max(term / i for i, term in enumerate(terms, 1))
        expected = min(1.0, binom.sf(right - 1, made, q) + 2 * coins * delta * worst)
        assert eps.p_value(played(right, made, coins), epsilon, delta) == pytest.approx(expected, rel=1e-6)


def test_the_p_value_is_exact_for_randomised_response() -> None:
    """Every set of coins and answers of four users, by enumeration."""
    q = float(expit(1.0))
    for least in range(1, 5):
        total = 0.0
        for wrong in itertools.product([0, 1], repeat=4):
            chance = math.prod(1 - q if one else q for one in wrong)
            total += chance * (4 - sum(wrong) >= least)
        assert eps.p_value(played(least, 4), 1.0) == pytest.approx(total)


def test_no_mechanism_is_right_more_often_though_outcomes_depend() -> None:
    """By enumeration: all answers of three users right together, or drawn; every user has just this epsilon."""
    epsilon = 1.2
    told = math.expm1(epsilon) / (math.expm1(epsilon) + 8)
    answers = [np.array(bits) for bits in itertools.product([0, 1], repeat=3)]
    for truth, other in ((answers[0], answers[1]), (answers[5], answers[7])):
        ratio = max(
            (told * (a == truth).all() + (1 - told) / 8) / (told * (a == other).all() + (1 - told) / 8) for a in answers
        )
        assert ratio == pytest.approx(math.exp(epsilon))
    for least in range(1, 4):
        right = told + (1 - told) * float(binom.sf(least - 1, 3, 0.5))
        assert right <= eps.p_value(played(least, 3), epsilon) + 1e-12


@pytest.mark.parametrize("made", [7, 60, 305])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_at_most_one_bound_in_twenty_is_above_the_truth(made: int, epsilon: float) -> None:
    """Exactly, over all numbers of right guesses that randomised response can lead to."""
    above = [eps.epsilon_bound(played(right, made)).value > epsilon for right in range(made + 1)]
    wrong = float(binom.pmf(np.arange(made + 1), made, expit(epsilon)) @ np.array(above))
    assert wrong <= 0.05
    if made == 305 and epsilon < 4:
        assert wrong > 0.03, "nor is the bound wasteful"


@given(st.integers(1, 80), st.data())
def test_bounds_are_between_nothing_and_the_ceiling(made: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, made))
    bound = eps.epsilon_bound(played(right, made, made + data.draw(st.integers(0, 50))), delta=1e-5)
    assert 0 <= bound.value <= bound.ceiling <= eps.HIGHEST


@given(st.integers(2, 60))
def test_one_more_right_guess_refutes_no_less(made: int) -> None:
    games = [played(right, made) for right in (made // 2, made - 1, made)]
    for found in (
        [eps.epsilon_bound(game).value for game in games],
        [eps.gaussian_bound(game).mu for game in games],
        [eps.approximate_curve_bound(game, delta=1e-4) for game in games],
    ):
        assert found == sorted(found)


def test_the_bound_is_where_the_p_value_reaches_the_error() -> None:
    for delta in (0.0, 1e-5):
        bound = eps.epsilon_bound(played(58, 60, 305), delta=delta, confidence=0.99).value
        low, high = eps.p_value(played(58, 60, 305), [bound, bound + 0.0011], delta)
        assert low <= 0.01 < high
    assert eps.epsilon_bound(played(24, 24)).value >= 2 > eps.epsilon_bound(played(23, 23)).value


def test_delta_and_confidence_cost() -> None:
    game = played(58, 60, 305)
    found = [eps.epsilon_bound(game, delta=d).value for d in (0, 1e-5, 1e-4, 1e-3, 1e-2)]
    assert found == sorted(found, reverse=True)
    assert found[-1] == 0
    assert eps.epsilon_bound(game, confidence=1 - 0.05 / 20).value < found[0]
    # The curve of the same promise spends less on delta.
    assert eps.approximate_curve_bound(game, delta=1e-3) > found[3]
    assert eps.approximate_curve_bound(game) == pytest.approx(found[0], abs=0.05)


@pytest.mark.parametrize("bad", [{"delta": -0.1}, {"delta": 1.0}, {"confidence": 1.0}, {"confidence": 0.0}])
def test_bad_settings(bad: dict[str, float]) -> None:
    with pytest.raises(ProtocolError, match="must be in"):
        eps.epsilon_bound(played(5, 10), **bad)


def test_impossible_games() -> None:
    for numbers in ((0, 0, 0, 0), (10, 11, 5, 5), (10, 5, 6, 5), (10, 5, 5, 6)):
        with pytest.raises(ProtocolError, match="needs 0 <= right"):
            eps.Guessed(*numbers)
    with pytest.raises(ProtocolError, match="at least 0"):
        eps.Guesses(-1, 0)


def test_games_add_up() -> None:
    assert played(3, 5, 10) + eps.Guessed(20, 8, 7, 6) == eps.Guessed(30, 13, 12, 9)


def test_guesses_by_hand() -> None:
    member = np.array([True, True, False, True, False, False])
    score = np.array([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    assert eps.guess(member, score, eps.Guesses(3, 1)) == eps.Guessed(6, 4, 4, 3)
    assert eps.guess(member, -score, eps.Guesses(3, 1)) == eps.Guessed(6, 4, 4, 1)
    assert eps.guess(member, score, eps.Guesses(0, 6)) == eps.Guessed(6, 6, 6, 3)
    assert eps.guess(member, score, eps.Guesses(5, 5)) == eps.Guessed(6, 6, 6, 4)
    assert eps.guess(member, score, eps.Guesses(2, 2), in_play=score > 2) == eps.Guessed(4, 4, 4, 3)


def test_equal_scores_at_both_ends_say_nothing() -> None:
    member = np.arange(100) < 50
    nothing = eps.guess(member, np.zeros(100), eps.Guesses(10, 20))
    assert (nothing.allowed, nothing.made, nothing.right) == (30, 0, 0)
    assert eps.guess(member, np.zeros(100), eps.Guesses(10, 0)).made == 0
    assert eps.epsilon_bound(nothing).value == eps.gaussian_bound(nothing).mu == 0
    # One block reaches from the top into the bottom; the user above it is still guessed.
    score = np.zeros(100)
    score[0] = 1
    assert eps.guess(member, score, eps.Guesses(10, 20)) == eps.Guessed(100, 30, 1, 1)
    # Yes or no: as many as were allowed, in the order of the users.
    assert eps.guess(member, member.astype(float), eps.Guesses(10, 20)).right == 30


def test_numbers_of_guesses_follow_the_shadow_users() -> None:
    rng = np.random.default_rng(0)
    member = rng.random(2000) < 0.5
    # A third of the members stand out; nothing tells a non-member.
    score = rng.random(2000) + 2 * (member & (rng.random(2000) < 1 / 3))
    chosen = eps.choose_guesses(member, score, 305)
    assert 30 <= chosen.members <= 60
    assert chosen.nonmembers <= 3
    mirrored = eps.choose_guesses(~member, -score, 305)
    assert 30 <= mirrored.nonmembers <= 60
    assert eps.choose_guesses(member, np.zeros(2000), 305).members >= 0


@pytest.mark.statistical
def test_constant_and_random_scores_refute_nothing() -> None:
    rng = np.random.default_rng(1)
    above = {"steinke": 0, "gauss": 0}
    for _ in range(400):
        coins = rng.random(305) < 0.5
        chosen = eps.choose_guesses(rng.random(305) < 0.5, rng.random(305), 305)
        game = eps.guess(coins, rng.random(305), chosen)
        above["steinke"] += eps.epsilon_bound(game).value > 0
        above["gauss"] += eps.gaussian_bound(game).mu > 0
    assert max(above.values()) <= 0.05 * 400 + 3 * math.sqrt(0.05 * 0.95 * 400)


def test_the_best_of_many_numbers_of_guesses_fails_unless_paid_for() -> None:
    """Negative control: the best of many finds something where there is nothing, if confidence is not corrected."""
    rng = np.random.default_rng(2)
    wrong, paid = 0, 0
    numbers = [(k, 0) for k in (5, 10, 20, 40, 80)] + [(0, k) for k in (5, 10, 20, 40, 80)]
    for _ in range(200):
        coins, score = rng.random(305) < 0.5, rng.random(305)
        games = [eps.guess(coins, score, eps.Guesses(*one)) for one in numbers]
        wrong += any(eps.epsilon_bound(game).value > 0 for game in games)
        paid += any(eps.epsilon_bound(game, confidence=1 - 0.05 / len(numbers)).value > 0 for game in games)
    assert wrong > 25
    assert paid <= 20


def answers(coins: Any, epsilon: float, rng: np.random.Generator) -> Any:
    return np.where(rng.random(len(coins)) < expit(epsilon), coins, ~coins).astype(float)


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_other_shares_are_made_fair(share: float) -> None:
    """Without it, guesses of the commoner kind are right too often; with it, the bound holds."""
    rng = np.random.default_rng(3)
    all_in, fair = 0, 0
    guesses = eps.Guesses(60, 0) if share > 0.5 else eps.Guesses(0, 60)
    for _ in range(200):
        coins = rng.random(400) < share
        score = answers(coins, 0.5, rng)
        all_in += eps.epsilon_bound(eps.guess(coins, score, guesses)).value > 0.5
        stays = eps.fair_coins(coins, share, rng)
        fair += eps.epsilon_bound(eps.guess(coins, score, guesses, stays)).value > 0.5
    assert all_in > 150
    assert fair <= 20


def test_fair_coins_are_fair() -> None:
    rng = np.random.default_rng(4)
    for share in (0.2, 0.5, 0.7):
        coins = rng.random(100_000) < share
        stays = eps.fair_coins(coins, share, rng)
        assert coins[stays].mean() == pytest.approx(0.5, abs=0.02)
        assert stays.mean() == pytest.approx(2 * min(share, 1 - share), abs=0.01)
    with pytest.raises(ProtocolError, match="share must be"):
        eps.fair_coins(coins, 1.0, rng)


def test_several_targets_are_one_game() -> None:
    rng = np.random.default_rng(5)
    wrong, bounds = 0, []
    for _ in range(200):
        games = []
        for _ in range(4):
            coins = rng.random(100) < 0.5
            games.append(eps.guess(coins, answers(coins, 1.0, rng), eps.Guesses(30, 30)))
        total = sum(games[1:], games[0])
        value = eps.epsilon_bound(total).value
        wrong += value > 1
        bounds.append((value, eps.epsilon_bound(games[0]).value))
    assert wrong <= 20
    assert np.mean([one[0] for one in bounds]) > np.mean([one[1] for one in bounds]) + 0.15


def test_delta_is_needed_where_everything_may_be_revealed() -> None:
    """With a chance of 8% the system shows all coins: (0, 0.08), for each user; the bound at that delta knows."""
    rng = np.random.default_rng(6)
    wrong, told = 0, 0
    for _ in range(300):
        coins = rng.random(100) < 0.5
        score = coins.astype(float) if rng.random() < 0.08 else rng.random(100)
        game = eps.guess(coins, score, eps.Guesses(10, 10))
        wrong += eps.epsilon_bound(game).value > 0
        told += eps.epsilon_bound(game, delta=0.08).value > 0 or eps.approximate_curve_bound(game, delta=0.08) > 0
    assert wrong > 20
    assert told <= 0.05 * 300


@pytest.mark.statistical
def test_the_gaussian_bound_holds_for_gaussian_noise_and_nears_it() -> None:
    rng = np.random.default_rng(7)
    alone, shared = [], []
    for _ in range(100):
        coins = rng.random(3000) < 0.5
        score = coins + rng.normal(size=3000)
        alone.append(eps.gaussian_bound(eps.guess(coins, score, eps.Guesses(100, 100))).mu)
        score = score + 2 * np.repeat(rng.normal(size=30), 100)
        shared.append(eps.gaussian_bound(eps.guess(coins, score, eps.Guesses(200, 200))).mu)
    assert max(np.mean(np.array(found) > 1) for found in (alone, shared)) <= 0.05
    assert min(alone) > 0.4
    assert max(shared) > 0


def inverse_of_gaussian(x: Any, mu: float) -> Any:
    return norm.cdf(norm.ppf(x) - mu)


def test_curves_that_are_refuted() -> None:
    game = played(58, 60, 305)
    mu = eps.gaussian_bound(game).mu
    for factor, refuted in ((0.95, True), (1.05, False)):
        curve: Any = partial(inverse_of_gaussian, mu=mu * factor)
        assert eps.curve_refuted(game, curve, 0.05) is refuted
    assert not eps.curve_refuted(played(0, 60, 305), lambda x: x, 0.05)
    assert eps.gaussian_bound(played(305, 305)).mu == eps.gaussian_bound(game).ceiling


def test_epsilon_of_a_gaussian_curve() -> None:
    assert eps.gaussian_epsilon(0.0, 1e-5) == 0
    assert eps.gaussian_epsilon(0.01, 0.1) == 0
    for mu in (0.3, 1.0, 4.0):
        found = eps.gaussian_epsilon(mu, 1e-5)
        delta = norm.cdf(-found / mu + mu / 2) - math.exp(found) * norm.cdf(-found / mu - mu / 2)
        assert delta == pytest.approx(1e-5, rel=1e-4)
    assert eps.gaussian_epsilon(1.0, 1e-5) == pytest.approx(4.377, abs=0.01)


@given(st.floats(0, 6), st.floats(0, 0.1), st.floats(0.001, 0.9))
def test_a_promise_in_plain_words(epsilon: float, delta: float, fpr: float) -> None:
    found = eps.most_found(epsilon, delta, fpr)
    assert min(1.0, fpr + delta) - 1e-12 <= found <= 1
    # No rule does better: neither catching members nor sparing non-members.
    assert found <= math.exp(epsilon) * fpr + delta + 1e-12
    assert 1 - fpr <= math.exp(epsilon) * (1 - found) + delta + 1e-9


def test_a_promise_by_hand() -> None:
    assert eps.most_found(1.0, 0.0, 0.01) == pytest.approx(0.02718, abs=1e-5)
    assert eps.most_found(0.0, 0.0, 0.01) == pytest.approx(0.01)
    assert eps.most_found(20.0, 0.0, 0.5) == pytest.approx(1.0)
    assert eps.most_found_gaussian(0.0, 0.01) == pytest.approx(0.01)
    assert eps.most_found_gaussian(1.0, 0.01) == pytest.approx(0.0924, abs=1e-3)


def test_a_promise_is_broken_where_more_is_refuted() -> None:
    kept = PromiseCheck("gumbel=3", "grey-box", "fold-in", 3.0, 0.0, 3.0, "list-lr")
    assert not kept.broken
    assert "the audit refutes what is below 3.00 (fold-in, list-lr), which does not contradict it" in str(kept)
    broken = PromiseCheck("gumbel=3", "grey-box", "fold-in", 3.0, 0.0, 3.01, "list-lr")
    assert broken.broken
    assert "BROKEN PROMISE: gumbel=3 promises epsilon 3, and the audit refutes every epsilon below 3.01" in str(broken)

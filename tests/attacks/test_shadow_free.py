"""Attacks without a shadow recommender: by hand, against a planted leak, and with nothing to find."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from recmia.attacks import run_attack
from recmia.attacks.shadow_free import Distance, KMeans
from recmia.attacks.vectors import user_vectors
from recmia.errors import NotFittedError
from recmia.metrics import auc
from recmia.observation import Observation
from tests.attacks.helpers import MAKERS, area, half, users, with_means, without_vectors
from tests.attacks.helpers import scores_of as scores_of_attack

EVERY = pytest.mark.parametrize("name", ["distance", "k-means"])


def scores_of(name: str, observation: Observation, seed: int = 0) -> Any:
    return scores_of_attack(MAKERS[name], observation, seed)


def served(n: int, personal: Any, rng: np.random.Generator) -> Observation:
    """Users whose list lies near their history where `personal`, and near the popular list elsewhere."""
    seen = users(n, rng)
    means = user_vectors(seen)
    near_history = means.history + 0.3 * rng.normal(size=(n, 6))
    near_popular = means.popular + 0.3 * rng.normal(size=(n, 6))
    return with_means(seen, means.history, np.where(personal[:, None], near_history, near_popular), means.popular)


@EVERY
def test_members_lists_near_their_history_are_found(name: str) -> None:
    rng = np.random.default_rng(0)
    shadow_member, target_member = half(200, rng), half(200, rng)
    shadow, target = served(200, shadow_member, rng), served(200, target_member, rng)
    shadow_scores, (target_scores,) = run_attack(MAKERS[name], shadow, shadow_member, [target], rng=rng)
    assert area(target_member, target_scores) > 0.9
    assert area(shadow_member, shadow_scores) > 0.9


@pytest.mark.statistical
@EVERY
def test_lists_regardless_of_membership_give_a_coin(name: str) -> None:
    """The same lists, near the history or the popular list by a coin that is not membership."""
    inside = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        found = auc(half(200, rng), scores_of(name, served(200, half(200, rng), rng), seed))
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= 0.5 <= found.high
    # 95% of 60 is 57, with a standard deviation of 1.7.
    assert inside >= 57 - 3 * 1.7


@EVERY
def test_users_alike_get_one_score(name: str) -> None:
    seen = users(20, np.random.default_rng(0))
    alike = with_means(seen, np.ones((20, 6)), np.zeros((20, 6)), user_vectors(seen).popular)
    assert auc(half(20, np.random.default_rng(0)), scores_of(name, alike)).value == 0.5


@EVERY
def test_labels_do_not_reach_the_scores(name: str) -> None:
    rng = np.random.default_rng(0)
    shadow, target, member = users(60, rng), users(30, rng), half(60, rng)
    one, other = (
        run_attack(MAKERS[name], shadow, labels, [target], rng=np.random.default_rng(1))
        for labels in (member, rng.permutation(member))
    )
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])


@EVERY
def test_users_without_a_vector_get_the_median(name: str) -> None:
    seen = users(31, np.random.default_rng(0))
    blind = without_vectors(seen, np.arange(31) <= 3)
    scores = scores_of(name, blind)
    assert (scores[:4] == np.median(scores[4:])).all()
    np.testing.assert_array_equal(scores[4:], scores_of(name, seen.take(np.arange(4, 31))), err_msg="no part in it")
    assert (scores_of(name, without_vectors(seen, np.ones(31, np.bool_))) == 0).all()


def plane(history: Any, lists: Any, popular: Any) -> Observation:
    """Users with means in two dimensions."""
    return with_means(users(len(history), np.random.default_rng(0)), history, lists, popular)


def test_distance_by_hand() -> None:
    seen = plane([[0.0, 0.0], [3.0, 4.0]], [[0.0, 2.0], [3.0, 0.0]], [0.0, 4.0])
    np.testing.assert_allclose(scores_of("distance", seen), [1 / 2 - 1 / 2, 1 / 4 - 1 / 5])


def test_distance_of_zero_is_finite_and_extreme() -> None:
    """The list is the history, is the popular list, is both: first, last, and in between."""
    there, popular = [1.0, 0.0], [0.0, 0.0]
    scores = scores_of(
        "distance", plane([there, there, popular, there], [there, popular, popular, [0.4, 0.0]], popular)
    )
    assert np.isfinite(scores).all()
    assert scores[0] > scores[2] == 0 > scores[3] > scores[1]


def test_k_means_by_hand() -> None:
    """Clusters around (0.5, 0) and (10, 0): the former is nearer to the origin."""
    seen = plane([[0.0, 0.0], [1.0, 0.0], [9.0, 0.0], [11.0, 0.0]], np.zeros((4, 2)), [0.0, 0.0])
    np.testing.assert_allclose(scores_of("k-means", seen), [10 - 0.5, 9 - 0.5, 1 - 8.5, 1 - 10.5])


def test_k_means_looks_at_all_users_together() -> None:
    seen = users(30, np.random.default_rng(0))
    assert not np.allclose(scores_of("k-means", seen)[:10], scores_of("k-means", seen.take(np.arange(10))))


def test_k_means_weighs_every_user() -> None:
    """Two users with the same vector count twice: the centre of 0, 0, 3 is 1."""
    seen = plane([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0], [20.0, 0.0]], np.zeros((4, 2)), [0.0, 0.0])
    np.testing.assert_allclose(scores_of("k-means", seen), [19, 19, 15, -19])


def test_k_means_does_not_depend_on_threads() -> None:
    seen = users(2000, np.random.default_rng(0))
    scores = []
    for threads in (1, 2, 2, 2):
        with threadpool_limits(threads):
            scores.append(scores_of("k-means", seen))
    for other in scores[1:]:
        np.testing.assert_array_equal(scores[0], other)


def test_before_fit() -> None:
    seen = users(3, np.random.default_rng(0))
    with pytest.raises(NotFittedError, match="k-means"):
        KMeans().score(seen)
    assert len(Distance().score(seen)) == 3, "there is nothing to fit"

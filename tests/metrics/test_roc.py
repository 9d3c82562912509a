"""The ROC and its figures: against definitions, against scikit-learn, and properties of their intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmia.errors import ProtocolError
from recmia.metrics import auc, balanced_accuracy, folded, roc, tpr_at_fpr
from recmia.metrics.intervals import threshold_region
from recmia.metrics.roc import choose_threshold
from tests.metrics.helpers import by_pairs, figures, labelled

confidences = st.sampled_from([0.5, 0.9, 0.95, 0.999, 0.99999])


@given(labelled(), confidences)
def test_auc_is_the_share_of_pairs(users: tuple[Any, Any], confidence: float) -> None:
    member, score = users
    value, low, high = figures(auc(member, score, confidence))
    assert value == pytest.approx(by_pairs(member, score))
    assert 0 <= low <= value <= high <= 1


@given(labelled())
def test_a_score_read_backwards_mirrors_its_interval(users: tuple[Any, Any]) -> None:
    member, score = users
    value, low, high = figures(auc(member, score))
    back = figures(auc(member, -score))
    assert back == pytest.approx((1 - value, 1 - high, 1 - low), abs=1e-6)
    assert figures(folded(auc(member, score))) == pytest.approx(figures(folded(auc(member, -score))), abs=1e-6)


@given(labelled())
def test_auc_agrees_with_scikit_learn(users: tuple[Any, Any]) -> None:
    from sklearn.metrics import roc_auc_score

    member, score = users
    assert auc(member, score).value == pytest.approx(roc_auc_score(member, score))


@given(labelled())
def test_roc_agrees_with_scikit_learn(users: tuple[Any, Any]) -> None:
    from sklearn.metrics import roc_curve

    fpr, tpr, _ = roc_curve(*users, drop_intermediate=False)
    ours = roc(*users)
    np.testing.assert_allclose(ours.fpr, fpr)
    np.testing.assert_allclose(ours.tpr, tpr)


@given(labelled(), st.randoms(use_true_random=False))
def test_order_of_the_users_does_not_matter(users: tuple[Any, Any], random: Any) -> None:
    member, score = users
    order = np.array(random.sample(range(len(member)), len(member)))
    one, other = roc(member, score), roc(member[order], score[order])
    np.testing.assert_array_equal(one.fpr, other.fpr)
    np.testing.assert_array_equal(one.tpr, other.tpr)
    assert auc(member, score).value == pytest.approx(auc(member[order], score[order]).value)


# Rates of a few digits: a threshold allows for the rounding of a rate times a number of users.
@given(labelled(), st.integers(0, 1000).map(lambda thousandths: thousandths / 1000))
def test_tpr_is_the_best_vertex_and_never_interpolated(users: tuple[Any, Any], rate: float) -> None:
    member, score = users
    best = 0.0
    for threshold in [np.inf, *score]:
        called = score >= threshold
        if called[~member].mean() <= rate:
            best = max(best, called[member].mean())
    assert roc(member, score).tpr_at(rate) == pytest.approx(best)
    if rate * (~member).sum() >= 1 and rate < 1:
        value, low, high = figures(tpr_at_fpr(member, score, rate))
        assert value == pytest.approx(best)
        assert 0 <= low <= value <= high <= 1


def test_tied_block_is_one_step() -> None:
    # All users alike: the ROC is the diagonal, and no threshold catches anyone at a low rate.
    curve = roc(np.array([True, True, False, False]), np.zeros(4))
    assert curve.fpr.tolist() == curve.tpr.tolist() == [0, 1]
    assert curve.tpr_at(0.5) == 0


def test_constant_scores_are_exactly_one_half() -> None:
    member = np.arange(101) % 3 == 0
    value, low, high = figures(auc(member, np.zeros(101)))
    assert value == 0.5
    # Equal scores of these users do not prove that all users are equal: a rule that marks few of them could be missed.
    assert low < 0.495 < 0.505 < high
    assert high - low < 0.1
    assert balanced_accuracy(member, np.zeros(101), choose_threshold(member, np.zeros(101))).value == 0.5


def test_unresolvable_rates_are_not_answered() -> None:
    member = np.arange(306) % 2 == 0
    estimate = tpr_at_fpr(member, np.where(member, 1.0, 0.0), 0.001)
    assert (estimate.value, estimate.low, estimate.high) == (None, None, None)
    assert estimate.note == "not resolvable with 153 non-members: the finest rate is 0.0065"
    assert tpr_at_fpr(member, np.where(member, 1.0, 0.0), 0.01).value == 1.0
    edge = np.arange(200) % 2 == 0
    assert tpr_at_fpr(edge, np.where(edge, 1.0, 0.0), 0.01).value == 1.0, "1 of 100 is resolvable"


def test_interval_of_the_papers_size() -> None:
    """102 + 102 users at AUC 0.857 leave about [0.795, 0.901] (two normal classes): less room above than below."""
    from scipy.stats import norm

    shift = norm.ppf(0.857) * np.sqrt(2)
    grid = norm.ppf((np.arange(102) + 0.5) / 102)
    member = np.arange(204) < 102
    value, low, high = figures(auc(member, np.concatenate([grid + shift, grid])))
    assert value == pytest.approx(0.857, abs=0.004)
    assert (low, high) == pytest.approx((0.795, 0.901), abs=0.004)
    assert value - low > high - value


def test_a_perfect_score_still_has_an_interval() -> None:
    member = np.arange(100) < 50
    perfect, reversed_ = auc(member, member.astype(float)), auc(member, -member.astype(float))
    value, low, high = figures(perfect)
    assert value == high == 1
    assert 0.9 < low < 0.99
    assert list(figures(reversed_)) == pytest.approx([0, 0, 1 - low], abs=1e-6)
    few = np.arange(10) < 5
    assert figures(auc(few, few.astype(float)))[1] < low


def test_one_user_of_each_kind() -> None:
    value, low, high = figures(auc(np.array([True, False]), np.array([1.0, 0.0])))
    assert value == high == 1
    assert low < 0.05


def test_more_confidence_is_never_narrower() -> None:
    rng = np.random.default_rng(0)
    member = np.arange(200) < 100
    levels = (0.5, 0.8, 0.95, 0.99, 0.9999)
    for shift in (0.0, 1.0, 9.0):
        score = rng.normal(size=200) + shift * member
        for estimates in (
            [auc(member, score, c) for c in levels],
            [tpr_at_fpr(member, score, 0.1, c) for c in levels],
            [balanced_accuracy(member, score, 0.5, c) for c in levels],
        ):
            ends = np.array([figures(one)[1:] for one in estimates])
            assert (np.diff(ends[:, 0]) <= 1e-9).all()
            assert (np.diff(ends[:, 1]) >= -1e-9).all()


def test_few_nonmembers_can_show_only_a_chord() -> None:
    assert threshold_region(367, 0.01, 0.025).slope < 1
    assert threshold_region(368, 0.01, 0.025).slope == 1
    member = np.arange(306) % 2 == 0
    estimate = tpr_at_fpr(member, member.astype(float), 0.01)
    assert estimate.value == 1
    assert estimate.low == pytest.approx(0.42 * 0.976, abs=0.01)
    assert "368 are needed" in estimate.note
    assert tpr_at_fpr(member, member.astype(float), 0.1).note == ""


def test_threshold_is_chosen_on_one_side_and_applied_to_the_other() -> None:
    shadow_member, shadow = np.array([False, False, True, True]), np.array([0.0, 1.0, 2.0, 3.0])
    threshold = choose_threshold(shadow_member, shadow)
    assert threshold == 1.5
    # On the target all scores are higher: the threshold of the shadow side calls everyone a member.
    assert balanced_accuracy(shadow_member, shadow + 10, threshold).value == 0.5
    assert balanced_accuracy(shadow_member, shadow, threshold).value == 1.0


def test_no_threshold_beats_a_reversed_score() -> None:
    member = np.array([True, True, False, False])
    assert choose_threshold(member, np.array([0.0, 1.0, 2.0, 3.0])) == np.inf


def test_balanced_accuracy_is_not_moved_by_the_share_of_members() -> None:
    rng = np.random.default_rng(0)
    member = np.repeat([True, False], [100, 900])
    score = np.where(rng.random(1000) < 0.8, member, ~member).astype(float)
    value, low, high = figures(balanced_accuracy(member, score, 0.5))
    assert value == pytest.approx(0.8, abs=0.05)
    assert low < 0.8 < high
    assert high - low < 0.12


@pytest.mark.parametrize(
    ("member", "score", "words"),
    [
        ([True, False], [0.0, np.nan], "1 scores are not finite"),
        ([True, True], [0.0, 1.0], "needs members and non-members; got 2 members of 2"),
        ([True, False, True], [0.0, 1.0], "member must be bool"),
        ([1, 0], [0.0, 1.0], "member must be bool"),
    ],
)
def test_bad_input(member: Any, score: Any, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        auc(np.array(member), np.array(score))

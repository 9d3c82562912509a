"""How well single users show: planted ones are found, and no other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recmia.errors import ProtocolError
from recmia.metrics.individual import PerUserAUC, identifiable, per_user_auc
from tests.metrics.helpers import by_pairs


def runs(n_runs: int, n_users: int, rng: np.random.Generator, share: float = 0.5) -> Any:
    """Membership of each run, a fixed number of users drawn at random."""
    return rng.permuted(np.tile(np.arange(n_users) < share * n_users, (n_runs, 1)), axis=1)


def test_the_exposed_user_is_found_and_no_other() -> None:
    rng = np.random.default_rng(0)
    member = runs(32, 200, rng)
    score = rng.normal(size=member.shape) + 3 * rng.normal(size=200)
    score[:, :5] = rng.normal(size=(32, 5)) + np.where(member[:, :5], 4.0, -4.0)
    found = per_user_auc(member, score)
    assert (found.auc[:5] > 0.95).all()
    assert (found.low[:5] > 0.7).all()
    assert identifiable(found)[:5].all()
    assert identifiable(found)[5:].sum() <= 2
    assert abs(found.auc[5:].mean() - 0.5) < 0.05
    assert found.known.all()
    np.testing.assert_array_equal(found.n_in, member.sum(axis=0))
    np.testing.assert_array_equal(found.n_in + found.n_out, 32)


@pytest.mark.statistical
@pytest.mark.parametrize("share", [0.5, 0.3])
@pytest.mark.parametrize("noise", [0.0, 0.1, 10.0])
def test_scores_regardless_of_membership_expose_nobody(share: float, noise: float) -> None:
    """Constant for each user, nearly so, or mostly noise; and for the outermost users as for the others."""
    rng = np.random.default_rng(1)
    outer_low, all_low, named, areas, games = 0, 0, 0, [], 40
    for _ in range(games):
        member = runs(24, 60, rng, share)
        found = per_user_auc(member, np.arange(60.0) + noise * rng.normal(size=member.shape))
        # The first and the last two: the places of a few outer users are the most sensitive to who else is a member.
        outer_low += int((found.p_value[[0, 1, 58, 59]] <= 0.05).sum())
        all_low += int((found.p_value <= 0.05).sum())
        named += bool(identifiable(found).any())
        areas.append(found.auc.mean())
    # Users of a game are not independent; a deviation of twice the binomial's is allowed for that.
    for count, tests in ((outer_low, 4 * games), (all_low, 60 * games), (named, games)):
        assert count <= 0.05 * tests + 3 * 2 * np.sqrt(0.05 * 0.95 * tests)
    assert abs(np.mean(areas) - 0.5) < 0.02


@pytest.mark.statistical
def test_the_last_but_one_is_not_exposed_by_fractions_of_a_user() -> None:
    """Shares of n and of n - 1 others differ by what must count as a tie, most of all where members are few."""
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(20):
        member = runs(64, 60, rng, share=0.3)
        areas.append(per_user_auc(member, np.tile(np.arange(60.0), (64, 1))).auc[[1, 58]])
    np.testing.assert_allclose(np.mean(areas, axis=0), 0.5, atol=0.05)


def test_a_user_who_never_moves_is_not_exposed_by_those_who_do() -> None:
    """Plain ranks would place the user one higher when it is in: one member fewer is above it."""
    rng = np.random.default_rng(0)
    member = runs(40, 50, rng)
    score = np.where(member, 1.0, -1.0) + 0.1 * rng.normal(size=member.shape)
    score[:, 0] = 0.0
    found = per_user_auc(member, score)
    assert found.auc[0] == 0.5
    assert (found.auc[1:] > 0.99).all()
    plain = np.argsort(np.argsort(score, axis=1), axis=1)[:, 0]
    assert by_pairs(member[:, 0], plain) == 1.0


def test_runs_need_no_common_scale() -> None:
    rng = np.random.default_rng(0)
    member = runs(16, 40, rng)
    score = rng.normal(size=member.shape) + member
    bent = np.exp(score * rng.uniform(0.1, 3, (16, 1))) + rng.normal(size=(16, 1)) * 100
    for name in ("auc", "low", "high", "p_value"):
        np.testing.assert_array_equal(
            getattr(per_user_auc(member, score), name), getattr(per_user_auc(member, bent), name)
        )


def test_per_user_auc_by_pairs_and_exact_test() -> None:
    """Against one AUC and one exact test for each user, on places worked out one by one."""
    from scipy.stats import mannwhitneyu

    rng = np.random.default_rng(5)
    member, score = runs(9, 12, rng), rng.integers(0, 6, (9, 12)).astype(float)
    place = np.empty((9, 12))
    for r in range(9):
        for u in range(12):
            other = np.arange(12) != u
            beaten = (score[r] < score[r, u]) + 0.5 * (score[r] == score[r, u])
            shares = [beaten[other & (member[r] == kind)].mean() for kind in (True, False)]
            place[r, u] = np.rint(np.sum(shares) * 11)
    found = per_user_auc(member, score)
    for u in range(12):
        inside, outside = place[member[:, u], u], place[~member[:, u], u]
        if not found.known[u]:
            continue
        assert found.auc[u] == pytest.approx(by_pairs(member[:, u], place[:, u]))
        assert 0 <= found.low[u] <= found.auc[u] <= found.high[u] <= 1
        # With all ties lost, nothing is tied.
        lost = mannwhitneyu(inside - 1e-6, outside, alternative="greater", method="exact")
        assert found.p_value[u] == pytest.approx(lost.pvalue)


def test_users_always_in_or_out_are_not_known() -> None:
    rng = np.random.default_rng(0)
    member = runs(10, 20, rng)
    member[:, 0], member[:, 1] = True, False
    found = per_user_auc(member, rng.normal(size=(10, 20)) + 5.0 * member)
    assert found.known.tolist() == [False, False] + [True] * 18
    assert found.n_in[:2].tolist() == [10, 0]
    for array, unknown in ((found.auc, 0.5), (found.low, 0), (found.high, 1), (found.p_value, 1)):
        assert (array[:2] == unknown).all()
        assert np.isfinite(array).all()
    assert not identifiable(found)[:2].any()


def test_constant_scores_expose_nobody() -> None:
    found = per_user_auc(runs(8, 30, np.random.default_rng(0)), np.zeros((8, 30)))
    assert (found.auc[found.known] == 0.5).all()
    assert not identifiable(found).any()
    assert not (found.low > 0.5).any()


def test_benjamini_and_hochberg_by_hand() -> None:
    p_value = np.array([0.001, 0.02, 0.04, 0.9, 1.0])
    one = np.ones(5, np.int64)
    found = PerUserAUC(p_value, p_value, p_value, p_value, one, one)
    # The third lies above 3/5 of 0.05, the second at 2/5.
    assert identifiable(found).tolist() == [True, True, False, False, False]
    assert identifiable(found, fdr=0.01).tolist() == [True, False, False, False, False]
    with pytest.raises(ProtocolError, match="fdr"):
        identifiable(found, fdr=0.0)


@pytest.mark.parametrize(
    ("member", "score", "words"),
    [
        (np.ones(4, np.bool_), np.zeros(4), r"member must be bool\[R, n\]"),
        (np.ones((2, 4), np.bool_), np.zeros((4, 2)), r"got bool\[2, 4\] and float64\[4, 2\]"),
        (
            np.eye(4, dtype=np.bool_),
            np.zeros((4, 4)),
            "needs two members and two non-members or more; got 1",
        ),
        (np.tile([True, True, False, False], (2, 1)), np.full((2, 4), np.nan), "8 scores are not finite"),
    ],
)
def test_bad_runs(member: Any, score: Any, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        per_user_auc(member, score)

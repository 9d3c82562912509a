"""Metrics: against definitions, against scikit-learn, and intervals against simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmia.errors import ProtocolError
from recmia.evaluation import (
    Estimate,
    Exposure,
    _newcombe,
    auc,
    balanced_accuracy,
    choose_epsilon_threshold,
    choose_threshold,
    clopper_pearson,
    epsilon_lower_bound,
    exposure,
    identifiable,
    over_seeds,
    roc,
    tpr_at_fpr,
)


@st.composite
def labelled(draw: st.DrawFn) -> tuple[Any, Any]:
    """Scores with many ties, and both kinds of users."""
    member = draw(st.lists(st.booleans(), min_size=2, max_size=40).filter(lambda m: 0 < sum(m) < len(m)))
    score = draw(st.lists(st.integers(-3, 3), min_size=len(member), max_size=len(member)))
    return np.array(member), np.array(score, np.float64)


def figures(estimate: Estimate) -> tuple[float, float, float]:
    assert estimate.value is not None
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.value, estimate.low, estimate.high


def by_pairs(member: Any, score: Any) -> float:
    gap = score[member][:, None] - score[~member][None]
    return float(((gap > 0) + 0.5 * (gap == 0)).mean())


@given(labelled())
def test_auc_is_the_share_of_pairs(users: tuple[Any, Any]) -> None:
    member, score = users
    value, low, high = figures(auc(member, score))
    assert value == pytest.approx(by_pairs(member, score))
    assert 0 <= low <= value <= high <= 1


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


@given(labelled(), st.floats(0, 1))
def test_tpr_is_the_best_vertex_and_never_interpolated(users: tuple[Any, Any], rate: float) -> None:
    member, score = users
    best = 0.0
    for threshold in [np.inf, *score]:
        called = score >= threshold
        if called[~member].mean() <= rate:
            best = max(best, called[member].mean())
    assert roc(member, score).tpr_at(rate) == pytest.approx(best)


def test_tied_block_is_one_step() -> None:
    # All users alike: the ROC is the diagonal, and no threshold catches anyone at a low rate.
    curve = roc(np.array([True, True, False, False]), np.zeros(4))
    assert curve.fpr.tolist() == curve.tpr.tolist() == [0, 1]
    assert curve.tpr_at(0.5) == 0


def test_constant_scores_are_exactly_one_half() -> None:
    member = np.arange(101) % 3 == 0
    assert auc(member, np.zeros(101)) == Estimate(0.5, 0.5, 0.5)
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
    """102 + 102 users at AUC 0.857 leave about [0.805, 0.909] (two normal classes)."""
    from scipy.stats import norm

    shift = norm.ppf(0.857) * np.sqrt(2)
    grid = norm.ppf((np.arange(102) + 0.5) / 102)
    member = np.arange(204) < 102
    found = figures(auc(member, np.concatenate([grid + shift, grid])))
    assert list(found) == pytest.approx([0.857, 0.805, 0.909], abs=0.004)


@pytest.mark.parametrize(("shift", "n"), [(0.0, 40), (0.5, 60), (1.5, 60)])
def test_delong_intervals_cover(shift: float, n: int) -> None:
    from scipy.stats import norm

    rng = np.random.default_rng(1)
    truth = norm.cdf(shift / np.sqrt(2))
    member = np.arange(2 * n) < n
    hits = 0
    for _ in range(600):
        _, low, high = figures(auc(member, rng.normal(size=2 * n) + shift * member))
        hits += low <= truth <= high
    assert 0.92 < hits / 600 < 0.98


def test_a_perfect_score_still_has_an_interval() -> None:
    member = np.arange(100) < 50
    perfect, reversed_ = auc(member, member.astype(float)), auc(member, -member.astype(float))
    value, low, high = figures(perfect)
    assert value == high == 1
    assert 0.9 < low < 0.99
    assert list(figures(reversed_)) == pytest.approx([0, 0, 1 - low], abs=1e-6)
    few = np.arange(10) < 5
    assert figures(auc(few, few.astype(float)))[1] < low


def test_clopper_pearson_against_scipy() -> None:
    from scipy.stats import binomtest

    for successes, trials in [(0, 10), (3, 10), (10, 10), (152, 153), (1, 1000)]:
        expected = binomtest(successes, trials).proportion_ci(0.95, method="exact")
        assert clopper_pearson(successes, trials) == pytest.approx((expected.low, expected.high))


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


def test_over_seeds_by_hand() -> None:
    joint = over_seeds([Estimate(v, v - 0.01, v + 0.01) for v in (0.5, 0.6, 0.7)])
    # t(2) = 4.303, s = 0.1
    assert joint.value == pytest.approx(0.6)
    assert joint.low == pytest.approx(0.6 - 4.3027 * 0.1 / np.sqrt(3), abs=1e-4)


def test_over_seeds_is_not_fooled_by_agreement() -> None:
    joint = over_seeds([Estimate(0.8, 0.7, 0.9)] * 4)
    assert list(figures(joint)) == pytest.approx([0.8, 0.75, 0.85])
    assert list(figures(over_seeds([Estimate(1.0, 0.96, 1.0)] * 4))) == pytest.approx([1, 0.98, 1])


def test_over_seeds_of_one_and_of_the_unresolvable() -> None:
    alone = Estimate(0.6, 0.5, 0.7)
    assert over_seeds([alone]) is alone
    missing = Estimate(None, None, None, "not resolvable")
    assert over_seeds([missing, missing]) == missing


def test_over_seeds_covers() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(500):
        values = rng.normal(0.7, 0.03, 5)
        _, low, high = figures(over_seeds([Estimate(v, v - 0.02, v + 0.02) for v in values]))
        hits += low <= 0.7 <= high
    assert hits / 500 > 0.92


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


def epsilon(tp: int, n_members: int, fp: int, n_nonmembers: int, **settings: float) -> float:
    return epsilon_lower_bound(tp, n_members, fp, n_nonmembers, **settings).value


@pytest.mark.parametrize("counts", [(5, 5, 0, 7), (9, 10, 1, 10), (10, 10, 6, 12), (6, 12, 0, 10), (4, 9, 4, 9)])
@pytest.mark.parametrize("delta", [0.0, 0.1])
def test_epsilon_by_brute_force(counts: tuple[int, int, int, int], delta: float) -> None:
    """What is refuted is every epsilon that forbids all pairs of rates that the counts leave possible."""
    from scipy.stats import binom

    tp, n_members, fp, n_nonmembers = counts
    grid = np.linspace(0, 1, 2001)[1:-1]
    tpr = grid[binom.sf(tp - 1, n_members, grid) > 0.025]
    fpr = grid[binom.cdf(fp, n_nonmembers, grid) > 0.025]
    t, f = np.meshgrid(tpr, fpr)
    smallest_left = np.log(np.maximum((t - delta) / f, (1 - f - delta) / (1 - t)).clip(1)).min()
    assert epsilon(*counts, delta=delta) == pytest.approx(smallest_left, abs=0.01)


def test_epsilon_by_hand() -> None:
    # 0 of 10 leave the rate below 1 - 0.025^(1/10) = 0.3085.
    edge = 1 - 0.025**0.1
    perfect = epsilon_lower_bound(10, 10, 0, 10)
    assert perfect.value == perfect.ceiling == pytest.approx(np.log((1 - edge) / edge))
    assert (perfect.confidence, perfect.delta) == (0.95, 0.0)
    assert epsilon(10, 10, 0, 10, delta=0.2) == pytest.approx(np.log((1 - edge - 0.2) / edge))
    assert epsilon(10, 10, 0, 10, delta=0.9) == 0
    assert epsilon(10, 10, 0, 10, confidence=0.99) < perfect.value


@pytest.mark.parametrize("counts", [(0, 5, 0, 5), (5, 5, 5, 5), (0, 5, 5, 5), (1, 1, 0, 1), (0, 1, 0, 1000)])
def test_epsilon_of_counts_that_show_nothing(counts: tuple[int, int, int, int]) -> None:
    assert epsilon(*counts) == 0


def test_both_directions_count() -> None:
    """Nobody falsely called a member, or nobody missed: the same evidence, read in two ways."""
    few_called, few_missed = epsilon(60, 200, 0, 200), epsilon(200, 200, 140, 200)
    assert few_called == pytest.approx(few_missed)
    assert few_called > 2


def test_the_ceiling_grows_with_the_sample() -> None:
    ceilings = [epsilon_lower_bound(0, n, 0, n).ceiling for n in (1, 10, 100, 1000)]
    assert ceilings == sorted(ceilings)
    assert ceilings[0] == 0
    assert ceilings[-1] == pytest.approx(np.log(1000 / -np.log(0.025)), abs=0.01)


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_epsilon_is_monotone_in_the_counts(n_members: int, n_nonmembers: int, data: st.DataObject) -> None:
    tp, fp = data.draw(st.integers(0, n_members)), data.draw(st.integers(0, n_nonmembers))
    delta = data.draw(st.floats(0, 0.99))
    found = epsilon_lower_bound(tp, n_members, fp, n_nonmembers, delta=delta)
    assert 0 <= found.value <= found.ceiling
    if tp < n_members:
        assert epsilon(tp + 1, n_members, fp, n_nonmembers, delta=delta) >= found.value
    if fp < n_nonmembers:
        assert epsilon(tp, n_members, fp + 1, n_nonmembers, delta=delta) <= found.value
    assert epsilon(tp, n_members, fp, n_nonmembers, delta=delta / 2) >= found.value


@pytest.mark.parametrize(("truth", "delta"), [(0.0, 0.0), (1.0, 0.0), (1.0, 0.05), (2.0, 0.0)])
def test_randomised_response_is_not_accused(truth: float, delta: float) -> None:
    """Each user's membership is shown with probability delta, else answered by e^eps to 1: exactly (eps, delta)."""
    rng = np.random.default_rng(3)
    n, repetitions = 150, 400
    honest = np.exp(truth) / (1 + np.exp(truth))
    bounds, points = [], []
    for _ in range(repetitions):
        tp = int(rng.binomial(n, delta + (1 - delta) * honest))
        fp = int(rng.binomial(n, (1 - delta) * (1 - honest)))
        bounds.append(epsilon(tp, n, fp, n, delta=delta))
        ratios = ((tp / n - delta) / max(fp / n, 1 / n), (1 - fp / n - delta) / max(1 - tp / n, 1 / n))
        points.append(np.log(max(1.0, *ratios)))
    # 5% of 400, and three standard deviations of a binomial count.
    allowed = 0.05 * repetitions + 3 * np.sqrt(repetitions * 0.05 * 0.95)
    assert np.sum(np.array(bounds) > truth) <= allowed
    assert np.sum(np.array(points) > truth) > allowed, "a point estimate is no bound, and this test can tell"
    if truth > 0:
        assert np.mean(bounds) > truth / 2, "nor is the bound empty"


@given(labelled())
def test_epsilon_threshold_is_the_best_of_all(users: tuple[Any, Any]) -> None:
    member, score = users
    n_members, n_nonmembers = int(member.sum()), int((~member).sum())

    def bound(threshold: float) -> float:
        called = score >= threshold
        return epsilon(int(called[member].sum()), n_members, int(called[~member].sum()), n_nonmembers)

    chosen = choose_epsilon_threshold(member, score, n_members=n_members, n_nonmembers=n_nonmembers)
    assert bound(chosen) == max(bound(threshold) for threshold in [np.inf, *score])


def test_epsilon_threshold_finds_the_few_who_leak() -> None:
    """One member in five is given away; balanced accuracy would be served better by the small shift of all."""
    rng = np.random.default_rng(0)
    member = np.arange(1000) < 500
    score = rng.normal(size=1000) + 0.8 * member + 20 * (member & (np.arange(1000) % 5 == 0))
    threshold = choose_epsilon_threshold(member, score, n_members=500, n_nonmembers=500)
    assert score[~member].max() < threshold < 20
    assert np.mean(score[~member] > choose_threshold(member, score)) > 0.1


def test_epsilon_threshold_of_constant_scores() -> None:
    member = np.array([True, False, True])
    assert choose_epsilon_threshold(member, np.zeros(3), n_members=2, n_nonmembers=1) == np.inf


def test_epsilon_threshold_depends_on_how_many_it_is_for() -> None:
    """A rare and certain sign shows nothing among few users, and most among many: the threshold must know."""
    member = np.arange(2000) < 1000
    # One member in twenty is certain; beyond them, three members in four lie above one non-member in four.
    score = np.where(np.arange(2000) % 1000 < np.where(member, 750, 250), 1.0, 0.0)
    score[:50] = 2.0
    few, many = (choose_epsilon_threshold(member, score, n_members=n, n_nonmembers=n) for n in (20, 1000))
    assert (few, many) == (0.5, 1.5)


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        ((3, 2, 0, 2), (0.0, 0.95), "of 2 members, 3 are called members"),
        ((0, 2, -1, 2), (0.0, 0.95), "of 2 non-members, -1 are called members"),
        ((0, 2, 0, 0), (0.0, 0.95), "one non-member or more is needed"),
        ((1, 2, 0, 2), (1.0, 0.95), r"delta must be in \[0, 1\); got 1.0"),
        ((1, 2, 0, 2), (0.0, 1.0), r"confidence must be in \(0, 1\); got 1.0"),
        ((1, 2, 0, 2), (np.nan, 0.95), "delta must be in"),
    ],
)
def test_bad_counts(arguments: tuple[int, int, int, int], settings: tuple[float, float], words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        epsilon(*arguments, delta=settings[0], confidence=settings[1])


def runs(n_runs: int, n_users: int, rng: np.random.Generator, share: float = 0.5) -> Any:
    """Membership of each run, a fixed number of users drawn at random."""
    return rng.permuted(np.tile(np.arange(n_users) < share * n_users, (n_runs, 1)), axis=1)


def test_the_exposed_user_is_found_and_no_other() -> None:
    rng = np.random.default_rng(0)
    member = runs(32, 200, rng)
    score = rng.normal(size=member.shape) + 3 * rng.normal(size=200)
    score[:, :5] = rng.normal(size=(32, 5)) + np.where(member[:, :5], 4.0, -4.0)
    found = exposure(member, score)
    assert (found.auc[:5] > 0.95).all()
    assert (found.low[:5] > 0.7).all()
    assert identifiable(found)[:5].all()
    assert identifiable(found)[5:].sum() <= 2
    assert abs(found.auc[5:].mean() - 0.5) < 0.05
    assert found.known.all()
    np.testing.assert_array_equal(found.n_in, member.sum(axis=0))
    np.testing.assert_array_equal(found.n_in + found.n_out, 32)


@pytest.mark.parametrize("share", [0.5, 0.3])
@pytest.mark.parametrize("noise", [0.0, 0.1, 10.0])
def test_scores_regardless_of_membership_expose_nobody(share: float, noise: float) -> None:
    """Constant for each user, nearly so, or mostly noise; and for the outermost users as for the others."""
    rng = np.random.default_rng(1)
    outer_low, all_low, named, areas, games = 0, 0, 0, [], 40
    for _ in range(games):
        member = runs(24, 60, rng, share)
        found = exposure(member, np.arange(60.0) + noise * rng.normal(size=member.shape))
        # The first and the last two: the places of a few outer users are the most sensitive to who else is a member.
        outer_low += int((found.p_value[[0, 1, 58, 59]] <= 0.05).sum())
        all_low += int((found.p_value <= 0.05).sum())
        named += bool(identifiable(found).any())
        areas.append(found.auc.mean())
    # Users of a game are not independent; a deviation of twice the binomial's is allowed for that.
    for count, tests in ((outer_low, 4 * games), (all_low, 60 * games), (named, games)):
        assert count <= 0.05 * tests + 3 * 2 * np.sqrt(0.05 * 0.95 * tests)
    assert abs(np.mean(areas) - 0.5) < 0.02


def test_the_last_but_one_is_not_exposed_by_fractions_of_a_user() -> None:
    """Shares of n and of n - 1 others differ by what must count as a tie, most of all where members are few."""
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(20):
        member = runs(64, 60, rng, share=0.3)
        areas.append(exposure(member, np.tile(np.arange(60.0), (64, 1))).auc[[1, 58]])
    np.testing.assert_allclose(np.mean(areas, axis=0), 0.5, atol=0.05)


def test_a_user_who_never_moves_is_not_exposed_by_those_who_do() -> None:
    """Plain ranks would place the user one higher when it is in: one member fewer is above it."""
    rng = np.random.default_rng(0)
    member = runs(40, 50, rng)
    score = np.where(member, 1.0, -1.0) + 0.1 * rng.normal(size=member.shape)
    score[:, 0] = 0.0
    found = exposure(member, score)
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
        np.testing.assert_array_equal(getattr(exposure(member, score), name), getattr(exposure(member, bent), name))


def test_exposure_by_pairs_and_exact_test() -> None:
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
    found = exposure(member, score)
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
    found = exposure(member, rng.normal(size=(10, 20)) + 5.0 * member)
    assert found.known.tolist() == [False, False] + [True] * 18
    assert found.n_in[:2].tolist() == [10, 0]
    for array, unknown in ((found.auc, 0.5), (found.low, 0), (found.high, 1), (found.p_value, 1)):
        assert (array[:2] == unknown).all()
        assert np.isfinite(array).all()
    assert not identifiable(found)[:2].any()


def test_constant_scores_expose_nobody() -> None:
    found = exposure(runs(8, 30, np.random.default_rng(0)), np.zeros((8, 30)))
    assert (found.auc[found.known] == 0.5).all()
    assert not identifiable(found).any()
    assert not (found.low > 0.5).any()


def test_benjamini_and_hochberg_by_hand() -> None:
    p_value = np.array([0.001, 0.02, 0.04, 0.9, 1.0])
    one = np.ones(5, np.int64)
    found = Exposure(p_value, p_value, p_value, p_value, one, one)
    # The third lies above 3/5 of 0.05, the second at 2/5.
    assert identifiable(found).tolist() == [True, True, False, False, False]
    assert identifiable(found, fdr=0.01).tolist() == [True, False, False, False, False]
    with pytest.raises(ProtocolError, match="fdr"):
        identifiable(found, fdr=0.0)


@pytest.mark.parametrize("truth", [0.5, 0.7, 0.9, 0.98])
@pytest.mark.parametrize(("n_in", "n_out"), [(4, 4), (8, 8), (3, 13), (68, 68)])
def test_intervals_of_few_runs_cover(n_in: int, n_out: int, truth: float) -> None:
    from scipy.stats import norm

    rng = np.random.default_rng(1)
    inside = rng.normal(size=(2000, n_in, 1)) + norm.ppf(truth) * np.sqrt(2)
    area = (inside > rng.normal(size=(2000, 1, n_out))).mean(axis=(1, 2))
    low, high = _newcombe(area, n_in, n_out)
    assert np.mean((low <= truth) & (truth <= high)) > 0.92


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
        exposure(member, score)

"""Intervals: against definitions, by properties, and how runs are joined. How much they cover: test_coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import beta, binom, binomtest

from recmia.errors import ProtocolError
from recmia.metrics import Estimate
from recmia.metrics import intervals as iv
from recmia.metrics.intervals import (
    at_least,
    at_most,
    binomial_p_value,
    clopper_pearson,
    combine,
    folded,
    midranks,
    rank_bias,
    runs_differ,
    shrinkage,
    simultaneous,
)
from tests.metrics.helpers import figures


def test_simultaneous() -> None:
    assert simultaneous(1) == pytest.approx(0.95)
    assert simultaneous(20) == pytest.approx(0.9975)
    with pytest.raises(ProtocolError, match="at least 1"):
        simultaneous(0)


@given(st.integers(1, 3000), st.floats(0.001, 0.999), st.floats(0, 1))
def test_binomial_tails_against_scipy(trials: int, rate: float, share: float) -> None:
    count = np.arange(trials + 1)
    assert at_most(count, trials, rate) == pytest.approx(binom.cdf(count, trials, rate), rel=1e-9)
    assert at_least(count, trials, rate) == pytest.approx(binom.sf(count - 1, trials, rate), rel=1e-9)
    found = round(share * trials)
    expected = binomtest(found, trials, rate).pvalue
    assert binomial_p_value(found, trials, rate) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_coin_that_always_falls_alike(rate: float) -> None:
    assert binomial_p_value(10 * round(rate), 10, rate) == pytest.approx(1)
    assert binomial_p_value(3, 10, rate) == 0


def test_clopper_pearson_against_scipy() -> None:
    for successes, trials in [(0, 10), (3, 10), (10, 10), (152, 153), (1, 1000)]:
        expected = binomtest(successes, trials).proportion_ci(0.95, method="exact")
        assert clopper_pearson(successes, trials) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("n", "fpr"), [(153, 0.1), (400, 0.01), (3000, 0.01), (153, 0.01)])
@pytest.mark.parametrize("error", [0.025, 0.001])
def test_the_threshold_lies_within_its_region(n: int, fpr: float, error: float) -> None:
    """Ranks that are left out by themselves are as unlikely as they must be, and no rank has more than its error."""
    region = iv.threshold_region(n, fpr, error)
    rate = fpr / region.slope
    assert region.slope <= 1
    assert binom.cdf(region.ranks_low[0] - 1, n, rate) <= error * (1 + 1e-9)
    assert binom.sf(region.ranks_high[-1], n, fpr) <= error * (1 + 1e-9)
    for part in (region.error_low, region.error_high):
        assert part.min() == pytest.approx(error)
        assert (part < 1).all()
    # Whatever the shape of the ROC: the corner of a staircase is the worst.
    chance = binom.pmf(np.arange(n + 1), n, rate)
    error_of = np.where(np.arange(n + 1) < region.ranks_low[0], 1.0, error)
    error_of[region.ranks_low] = region.error_low
    assert chance @ error_of <= error + math.exp(-(ndtri(error) ** 2) / 2) / 4 + 1e-3


def test_shrinkage_by_hand() -> None:
    assert shrinkage([1]) == 1
    assert shrinkage([1, 1]) == pytest.approx(math.sqrt(1 / 4 + 3 / 8))
    assert shrinkage([4]) == pytest.approx(math.sqrt(1 / 2 + 1 / 8))
    assert shrinkage([1] * 10000) == pytest.approx(0.5, abs=1e-4)
    assert shrinkage([3, 2], 1, 1) == pytest.approx(1)


runs_of = st.lists(
    st.lists(
        st.tuples(st.floats(0.2, 0.8), st.floats(0, 0.2), st.floats(0, 0.2)).map(
            lambda t: Estimate(t[0], t[0] - t[1], t[0] + t[2])
        ),
        min_size=1,
        max_size=4,
    ),
    min_size=1,
    max_size=5,
)


@given(runs_of, st.floats(0, 1))
def test_a_mean_is_never_wider_than_its_runs(seeds: list[list[Estimate]], bias: float) -> None:
    runs = [figures(one) for seed in seeds for one in seed]
    value, low, high = figures(combine(seeds, bias=bias))
    assert value == pytest.approx(float(np.mean([one[0] for one in runs])))
    assert low <= value + 1e-12
    assert value <= high + 1e-12
    assert high - low <= max(one[2] - one[1] for one in runs) + 1e-12
    assert value - low <= float(np.mean([one[0] - one[1] for one in runs])) + 1e-12


def test_two_seeds_do_not_open_what_one_had_closed() -> None:
    mean = combine([[Estimate(0.86, 0.80, 0.90)], [Estimate(0.80, 0.73, 0.86)]])
    value, low, high = figures(mean)
    assert value == pytest.approx(0.83)
    assert 0.77 < low < 0.79
    assert 0.86 < high < 0.88


def test_one_run_and_the_unresolvable() -> None:
    alone = Estimate(0.6, 0.5, 0.7)
    assert combine([[alone]]) is alone
    missing = Estimate(None, None, None, "not resolvable")
    assert combine([[missing], [missing]]) is missing
    assert combine([[alone, missing]]) is missing
    assert folded(missing) is missing


def test_bias_of_a_rank() -> None:
    assert rank_bias(153, 0.01) == pytest.approx(1 - 0.01 * 154 / 2)
    assert rank_bias(199, 0.01) == 0
    assert rank_bias(3000, 0.1) < 0.01


def test_folded() -> None:
    assert figures(folded(Estimate(0.002, 0.0, 0.02))) == pytest.approx((0.998, 0.98, 1))
    assert figures(folded(Estimate(0.48, 0.4, 0.55))) == pytest.approx((0.52, 0.5, 0.6))


def test_runs_that_differ() -> None:
    alike = [Estimate(v, v - 0.05, v + 0.05) for v in (0.88, 0.91, 0.9, 0.89)]
    assert runs_differ(alike) > 0.5
    apart = [*alike, Estimate(0.7, 0.65, 0.75)]
    assert runs_differ(apart) < 1e-6
    assert runs_differ(alike[:1]) == runs_differ([*alike, Estimate(None, None, None)]) == 1


def test_a_mean_is_not_fooled_by_agreement() -> None:
    """Four runs that agree are of the same users: nothing is surely above what no run alone is surely above."""
    shrunk = 0.1 * shrinkage([1] * 4)
    assert shrunk > 0.05
    joint = combine([[Estimate(0.8, 0.7, 0.9)]] * 4)
    assert list(figures(joint)) == pytest.approx([0.8, 0.7, 0.8 + shrunk])
    # Where runs scatter, their mean gains at the lower end as well.
    scattered = combine([[Estimate(0.8 + gap, 0.7 + gap, 0.9 + gap)] for gap in (-0.05, -0.02, 0.02, 0.05)])
    assert list(figures(scattered)) == pytest.approx([0.8, 0.8 - shrunk, 0.8 + shrunk])
    perfect = combine([[Estimate(1.0, 0.96, 1.0)]] * 4)
    assert list(figures(perfect)) == pytest.approx([1, 0.96, 1])


def test_the_mean_of_values_that_are_0_or_1_is_a_rate() -> None:
    """With 0 and 1 the interval is Clopper and Pearson's, of a few users less: as t is wider than normal."""
    values = np.arange(60) < 15
    low, high = iv.share_ends(values.astype(float))
    plain = clopper_pearson(15, 60)
    assert 0.95 * plain[0] < low < plain[0]
    assert plain[1] < high < 1.05 * plain[1]
    for constant in (0.0, 1.0):
        low, high = iv.share_ends(np.full(60, constant))
        assert (float(low), float(high)) == pytest.approx(clopper_pearson(int(60 * constant), 60))
    assert np.all(np.isfinite(iv.share_ends(np.full((3, 1), 0.4))))


def test_small_classes_are_at_least_as_uncertain_as_a_rate() -> None:
    """Where members are far above or far below everybody else, the AUC is their rate."""
    for n in (2, 4, 8):
        for above in range(n + 1):
            members = np.where(np.arange(n) < above, 9.0, -9.0)
            parts = [np.array(one) for one in iv.auc_parts(members, np.arange(12.0) / 12)]
            low, high = iv.auc_ends(parts[0], parts[1], parts[2], n, 12)
            expected = clopper_pearson(above, n)
            assert low <= expected[0] + 1e-9
            assert high >= expected[1] - 1e-9
    assert clopper_pearson(3, 4)[0] == pytest.approx(beta.ppf(0.025, 3, 2))


def test_midranks() -> None:
    assert midranks(np.array([2.0, 2.0, 1.0, 5.0])).tolist() == [2.5, 2.5, 1, 4]

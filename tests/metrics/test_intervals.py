"""Intervals against simulation, and how runs are joined."""

from __future__ import annotations

import numpy as np
import pytest

from recmia.metrics import Estimate, over_seeds
from recmia.metrics.intervals import clopper_pearson, newcombe
from tests.metrics.helpers import figures


def test_clopper_pearson_against_scipy() -> None:
    from scipy.stats import binomtest

    for successes, trials in [(0, 10), (3, 10), (10, 10), (152, 153), (1, 1000)]:
        expected = binomtest(successes, trials).proportion_ci(0.95, method="exact")
        assert clopper_pearson(successes, trials) == pytest.approx((expected.low, expected.high))


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


@pytest.mark.parametrize("truth", [0.5, 0.7, 0.9, 0.98])
@pytest.mark.parametrize(("n_in", "n_out"), [(4, 4), (8, 8), (3, 13), (68, 68)])
def test_intervals_of_few_runs_cover(n_in: int, n_out: int, truth: float) -> None:
    from scipy.stats import norm

    rng = np.random.default_rng(1)
    inside = rng.normal(size=(2000, n_in, 1)) + norm.ppf(truth) * np.sqrt(2)
    area = (inside > rng.normal(size=(2000, 1, n_out))).mean(axis=(1, 2))
    low, high = newcombe(area, n_in, n_out)
    assert np.mean((low <= truth) & (truth <= high)) > 0.92

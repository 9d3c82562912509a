"""Lower bounds on epsilon: by brute force, by hand, and against mechanisms that keep their promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmia.errors import ProtocolError
from recmia.metrics.epsilon import PromiseCheck, choose_epsilon_threshold, epsilon_lower_bound
from recmia.metrics.roc import choose_threshold
from tests.metrics.helpers import labelled


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


def test_a_promise_is_broken_where_more_is_refuted() -> None:
    kept = PromiseCheck("gumbel=3", "grey-box", "fold-in", 3.0, 0.0, 3.0, "list-lr")
    assert not kept.broken
    assert "the audit refutes what is below 3.00 (fold-in, list-lr), which does not contradict it" in str(kept)
    broken = PromiseCheck("gumbel=3", "grey-box", "fold-in", 3.0, 0.0, 3.01, "list-lr")
    assert broken.broken
    assert "BROKEN PROMISE: gumbel=3 promises epsilon 3, and the audit refutes every epsilon below 3.01" in str(broken)

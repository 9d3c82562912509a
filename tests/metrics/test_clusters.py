"""Figures of interactions of users: values by other means, and intervals that hold where users differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from recmia.errors import ProtocolError
from recmia.metrics import FALSE_POSITIVE_RATES, METRICS, Runs, SeedRuns, auc, tpr_at_fpr
from recmia.metrics.clusters import Clustered, users_of
from recmia.metrics.intervals import Estimate
from tests.metrics.helpers import by_pairs, figures, labelled


def width(found: Estimate) -> float:
    _, low, high = figures(found)
    return high - low


def drawn(
    n_users: int, effect: float, area: float, rng: np.random.Generator, *, apart: float = 0.0
) -> tuple[Any, Any, Any]:
    """Interactions of users, 4 to 20 of each, with a coin for each.

    Those that were trained on stand higher, on average so that the AUC is `area`; by how much differs between users by
    the standard deviation `effect`, and how high a user's interactions stand anyway by `apart`.
    """
    user = np.repeat(np.arange(n_users), rng.integers(4, 21, n_users))
    shift = special.ndtri(area) * np.sqrt(2 + effect**2 + 2 * apart**2)
    gap, middle = shift + effect * rng.normal(size=n_users), apart * rng.normal(size=n_users)
    member = rng.random(len(user)) < 0.5
    return member, rng.normal(size=len(user)) + gap[user] * member + middle[user], user


# ---- Values ----


@given(labelled(), st.integers(1, 5), st.integers(0, 99))
def test_values_are_those_of_the_plain_metrics(scored: tuple[Any, Any], n_users: int, seed: int) -> None:
    """Whoever the interactions are of; scores have many ties."""
    member, score = scored
    user = users_of(np.random.default_rng(seed).integers(n_users, size=len(member)))
    found = Clustered(member, score, user)
    assert figures(found.auc())[0] == pytest.approx(by_pairs(member, score))
    assert figures(found.auc())[0] == pytest.approx(figures(auc(member, score))[0])
    for rate in FALSE_POSITIVE_RATES:
        one, plain = found.tpr(rate), tpr_at_fpr(member, score, rate)
        assert (one.value is None) == (plain.value is None)
        if one.value is not None:
            assert one.value == pytest.approx(plain.value)


@pytest.mark.parametrize("n_nonmembers", [10, 20, 100, 730, 1000, 3000])
@pytest.mark.parametrize("ties", [1, 100])
def test_rates_that_are_met_exactly(n_nonmembers: int, ties: int, rng: np.random.Generator) -> None:
    """Floating point must not cost the threshold at which just the share that is allowed is called trained on."""
    member = np.arange(n_nonmembers + 200) < 200
    score = np.round(rng.normal(size=len(member)) * ties) + member
    found = Clustered(member, score, np.arange(len(member)) // 5)
    for rate in FALSE_POSITIVE_RATES:
        assert found.tpr(rate).value == pytest.approx(tpr_at_fpr(member, score, rate).value)


def test_a_rate_that_is_too_fine_is_not_answered(rng: np.random.Generator) -> None:
    member, score, user = drawn(10, 0.0, 0.75, rng)
    found = Clustered(member, score, user).tpr(0.001)
    assert (found.value, found.low, found.high) == (None, None, None)
    assert found.note.startswith(f"not resolvable with {(~member).sum()} interactions that were not trained on")


@given(labelled(), st.integers(1, 6), st.integers(0, 99))
def test_intervals_hold_the_value_and_are_finite(scored: tuple[Any, Any], n_users: int, seed: int) -> None:
    member, score = scored
    user = users_of(np.random.default_rng(seed).integers(n_users, size=len(member)))
    one = Clustered(member, score, user)
    for estimate in (one.auc(), one.auc(0.8), one.tpr(0.1)):
        if estimate.value is not None:
            value, low, high = figures(estimate)
            assert np.isfinite([value, low, high]).all()
            assert 0 <= low <= value <= high <= 1


def test_the_order_of_rows_changes_nothing(rng: np.random.Generator) -> None:
    member, score, user = drawn(30, 1.0, 0.75, rng)
    score = np.round(score, 1)
    order = rng.permutation(len(member))
    one, other = Clustered(member, score, user), Clustered(member[order], score[order], user[order])
    assert figures(one.auc()) == pytest.approx(figures(other.auc()))
    assert figures(one.tpr(0.1)) == pytest.approx(figures(other.tpr(0.1)))
    again = Clustered(member, score, user)
    assert figures(one.auc()) == figures(again.auc()), "the replicates are the same for the same scores"


def test_only_the_order_of_scores_counts(rng: np.random.Generator) -> None:
    member, score, user = drawn(30, 1.0, 0.75, rng)
    one, other = Clustered(member, score, user), Clustered(member, np.exp(score), user)
    assert (one.auc(), one.tpr(0.1)) == (other.auc(), other.tpr(0.1))


# ---- Cases at the edge ----


@pytest.mark.parametrize("n_users", [1, 2])
@pytest.mark.parametrize("leak", [0.0, 1.0, 100.0])
def test_one_user_or_two(n_users: int, leak: float, rng: np.random.Generator) -> None:
    member = np.arange(60) % 2 == 0
    found = Clustered(member, rng.normal(size=60) + leak * member, np.arange(60) % n_users)
    for estimate in (found.auc(), found.tpr(0.1)):
        value, low, high = figures(estimate)
        assert 0 <= low <= value <= high <= 1
        if n_users == 1:
            assert high - low > 0.5, "one user tells hardly anything about others"


def test_all_users_alike(rng: np.random.Generator) -> None:
    """No replicate differs, so that the users are counted, and not their interactions."""
    member, user = np.tile([True, False], 100), np.repeat(np.arange(10), 20)
    for score in (np.ones(200), member * 1.0, 1.0 - member):
        value, low, high = figures(Clustered(member, score, user).auc())
        assert value == auc(member, score).value
        assert np.isfinite([low, high]).all()
        assert high - low > 0.2


@pytest.mark.parametrize("n_users", [5, 20, 100])
def test_copies_of_one_user_are_as_many_observations_as_users(n_users: int) -> None:
    """Rounding in the standard deviation of equal replicates must not pass for a small one."""
    member, score = np.array([1, 0, 1, 0, 1, 0, 1], np.bool_), np.array([1, 2, 3, 0, 5, 4, 2.5])
    found = Clustered(np.tile(member, n_users), np.tile(score, n_users), np.repeat(np.arange(n_users), 7)).auc()
    value, low, high = figures(found)
    right = n_users * value
    assert low == pytest.approx(special.betaincinv(right, n_users - right + 1, 0.025))
    assert high == pytest.approx(1 - special.betaincinv(n_users - right, right + 1, 0.025))


def test_users_with_one_kind_of_interactions(rng: np.random.Generator) -> None:
    """Some replicates hold one kind alone."""
    member = np.array([True] * 10 + [False] * 10)
    value, low, high = figures(Clustered(member, rng.normal(size=20), np.arange(20) // 10).auc())
    assert 0 <= low <= value <= high <= 1


def test_what_is_refused(rng: np.random.Generator) -> None:
    member, score, user = drawn(5, 0.0, 0.5, rng)
    with pytest.raises(ProtocolError, match="user must have shape"):
        Clustered(member, score, user[:-1])
    with pytest.raises(ProtocolError, match="needs members and non-members"):
        Clustered(np.ones(5, np.bool_), np.zeros(5), np.arange(5))
    with pytest.raises(ProtocolError, match="not finite"):
        Clustered(np.arange(5) < 2, np.full(5, np.nan), np.arange(5))


def test_some_of_the_interactions(rng: np.random.Generator) -> None:
    member, score, user = drawn(20, 1.0, 0.75, rng)
    whole, chosen = Clustered(member, score, user), user % 2 == 0
    part = whole.take(chosen)
    assert part.n_users == 10
    assert part.auc() == Clustered(member[chosen], score[chosen], user[chosen] // 2).auc()


def test_users_of() -> None:
    assert users_of(["c", "a", "c", "b"]).tolist() == [2, 0, 2, 1]
    assert users_of(np.array([7, 7, 3])).tolist() == [1, 1, 0]


# ---- Intervals ----


def test_intervals_are_wider_where_users_differ(rng: np.random.Generator) -> None:
    """By as much as the leak differs; the interactions, and their number, are as many."""
    widths = [width(Clustered(*drawn(100, effect, 0.75, rng)).auc()) for effect in (0.0, 1.0, 2.0)]
    assert widths[0] < 0.7 * widths[1]
    assert widths[1] < 0.95 * widths[2]
    member, score, user = drawn(100, 0.0, 0.75, rng)
    assert width(Clustered(member, score, user).auc()) == pytest.approx(width(auc(member, score)), rel=0.3)
    # Each interaction many times over tells no more.
    copies = Clustered(np.tile(member, 10), np.tile(score, 10), np.tile(user, 10))
    assert width(copies.auc()) == pytest.approx(width(Clustered(member, score, user).auc()), rel=0.01)


def test_more_users_and_less_confidence_are_narrower(rng: np.random.Generator) -> None:
    few, many = (Clustered(*drawn(n, 1.0, 0.75, rng)) for n in (20, 320))
    assert width(many.auc()) < 0.4 * width(few.auc())
    assert width(many.auc(0.8)) < width(many.auc()) < width(many.auc(0.999))
    assert width(many.tpr(0.1, 0.8)) < width(many.tpr(0.1))


CELLS = [
    (20, 0.0, 0.5), (20, 1.0, 0.75), (20, 1.0, 0.95), (50, 0.0, 0.95), (50, 1.0, 0.5), (50, 1.0, 0.95),
    (300, 0.0, 0.75), (300, 1.0, 0.75), (300, 1.0, 0.95),
]  # fmt: skip


def covered(n_users: int, effect: float, area: float, apart: float, clustered: bool, repetitions: int) -> float:
    """Share of intervals that hold the truth: those over users, or those that take interactions for independent."""
    rng, hits = np.random.default_rng([n_users, int(10 * effect), int(100 * area)]), 0
    for _ in range(repetitions):
        member, score, user = drawn(n_users, effect, area, rng, apart=apart)
        _, low, high = figures(Clustered(member, score, user).auc() if clustered else auc(member, score))
        hits += low <= area <= high
    return hits / repetitions


@pytest.mark.statistical
@pytest.mark.parametrize(("n_users", "effect", "area"), CELLS)
def test_intervals_cover(n_users: int, effect: float, area: float) -> None:
    assert covered(n_users, effect, area, 0.0, True, 250) >= 0.9


@pytest.mark.statistical
def test_intervals_cover_where_users_stand_apart() -> None:
    """Of some users, all interactions stand high, whether they were trained on or not."""
    assert covered(100, 1.0, 0.75, 1.0, True, 250) >= 0.9


@pytest.mark.statistical
@pytest.mark.parametrize(("n_users", "area"), [(20, 0.5), (50, 0.75), (300, 0.95)])
def test_intervals_of_independent_interactions_do_not_cover(n_users: int, area: float) -> None:
    """The control: it takes users that differ, and then fails."""
    assert covered(n_users, 1.0, area, 0.0, False, 250) < 0.88
    assert covered(n_users, 0.0, area, 0.0, False, 250) > 0.9


@pytest.mark.statistical
@pytest.mark.parametrize("effect", [0.0, 1.0])
def test_intervals_of_rates_cover(effect: float) -> None:
    rng, hits = np.random.default_rng(5), 0
    shift = special.ndtri(0.75) * np.sqrt(2 + effect**2)
    truth = special.ndtr((shift - special.ndtri(0.9)) / np.sqrt(1 + effect**2))
    for _ in range(250):
        _, low, high = figures(Clustered(*drawn(100, effect, 0.75, rng)).tpr(0.1))
        hits += low <= truth <= high
    assert hits / 250 >= 0.9


def test_metrics_of_runs_take_the_users(rng: np.random.Generator) -> None:
    """An audit of interactions prints these intervals, and an audit of users the plain ones."""
    member, score, user = drawn(60, 1.0, 0.75, rng)
    nobody = np.empty(0, np.bool_), np.empty(0)
    one = Clustered(member, score, user)
    runs = Runs([SeedRuns(nobody, [(member, score)], [one])])
    plain = Runs([SeedRuns(nobody, [(member, score)])])
    for name, expected in (("auc", one.auc()), ("tpr@fpr=0.1", one.tpr(0.1))):
        found, other = (METRICS[name].estimate(each, 0.95) for each in (runs, plain))
        assert found.value == pytest.approx(expected.value)
        assert found.value == pytest.approx(other.value)
        assert width(found) == pytest.approx(width(expected), abs=0.01)
    assert width(METRICS["auc"].estimate(runs, 0.95)) > 1.2 * width(METRICS["auc"].estimate(plain, 0.95))

"""The metrics of an audit: their names, and how they are estimated over targets and seeds."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from recmia.metrics import METRICS, Estimate, MetricSpec, Runs, SeedRuns, auc, combine, mean_over_runs
from recmia.metrics.catalogue import TRIED, bound_of, guesses_of
from recmia.metrics.epsilon import choose_guesses, guess
from recmia.metrics.intervals import rank_bias
from recmia.metrics.roc import balanced_accuracy, choose_threshold, tpr_at_fpr


def scored(n: int, leak: float, rng: np.random.Generator) -> tuple[Any, Any]:
    member = rng.permutation(n) < n // 2
    return member, rng.normal(size=n) + leak * member


@pytest.fixture
def runs(rng: np.random.Generator) -> Runs:
    """Three seeds of two targets, whose members can be told."""
    seeds = [SeedRuns(scored(300, 2.0, rng), [scored(240, 2.0, rng) for _ in range(2)]) for _ in range(3)]
    return Runs(seeds, in_seed=0.5, over_seeds=0.25)


def test_names() -> None:
    """Gates and stored results name metrics so."""
    assert list(METRICS) == ["auc", "tpr@fpr=0.1", "tpr@fpr=0.01", "tpr@fpr=0.001", "balanced_accuracy", "epsilon"]
    assert [name for name, spec in METRICS.items() if spec.needs_thresholds] == ["balanced_accuracy"]
    assert [name for name, spec in METRICS.items() if spec.is_bound] == ["epsilon"]
    assert [name for name, spec in METRICS.items() if spec.chance is not None] == ["auc", "balanced_accuracy"]
    assert METRICS["epsilon"].highest == np.inf
    for name, spec in METRICS.items():
        assert (spec.name, spec.lowest) == (name, 0)


def test_means_over_targets_and_seeds(runs: Runs) -> None:
    for name, figure, bias in (
        ("auc", auc, 0.0),
        ("tpr@fpr=0.1", partial(tpr_at_fpr, fpr=0.1), rank_bias(120, 0.1)),
    ):
        found = [[figure(*target) for target in seed.targets] for seed in runs.seeds]
        assert METRICS[name].estimate(runs, 0.95) == combine(found, bias=bias, in_seed=0.5, over_seeds=0.25)


def test_more_runs_never_widen_and_a_higher_confidence_does(runs: Runs) -> None:
    def width(part: Runs, confidence: float = 0.95) -> float:
        found = METRICS["auc"].estimate(part, confidence)
        assert found.low is not None
        assert found.high is not None
        return found.high - found.low

    one = Runs([SeedRuns(runs.seeds[0].shadow, runs.seeds[0].targets[:1])])
    assert width(Runs(runs.seeds[:2])) <= width(one)
    assert width(runs) <= width(Runs(runs.seeds[:2])) + 0.02
    assert width(runs, 0.999) > width(runs)


def test_thresholds_are_chosen_on_the_shadow_users_of_the_same_seed(runs: Runs) -> None:
    found = [
        [balanced_accuracy(*target, choose_threshold(*seed.shadow)) for target in seed.targets] for seed in runs.seeds
    ]
    expected = combine(found, in_seed=0.5, over_seeds=0.25)
    assert METRICS["balanced_accuracy"].estimate(runs, 0.95) == expected
    assert expected.value is not None
    assert expected.value > 0.75


def test_a_rate_that_no_target_can_resolve_is_not_answered(runs: Runs) -> None:
    found = METRICS["tpr@fpr=0.001"].estimate(runs, 0.95)
    assert (found.value, found.low, found.high) == (None, None, None)
    assert "not resolvable with 120 non-members" in found.note


def test_epsilon_is_of_the_guesses_in_all_targets(runs: Runs) -> None:
    played = [
        guess(*target, choose_guesses(*seed.shadow, len(target[0]), runs.n_runs, 0.95))
        for seed in runs.seeds
        for target in seed.targets
    ]
    total, confidence = guesses_of(runs, 0.95)
    assert confidence == 0.95
    assert total.right == sum(one.right for one in played)
    expected = bound_of(runs, confidence=0.95)
    assert expected.value > 1
    found = METRICS["epsilon"].estimate(runs, 0.95)
    assert (found.value, found.low, found.high) == (expected.value, expected.value, None)
    assert "delta 0" in found.note
    assert f"no more than {expected.ceiling:.2f} can be shown" in found.note
    assert bound_of(runs, confidence=0.999).value < expected.value, "corrected for more attacks"
    assert bound_of(runs, delta=1e-2).value < expected.value


def test_users_are_left_out_until_coins_are_fair(rng: np.random.Generator) -> None:
    """With nine members in ten, calling all of them members is right in 90% of the cases and shows nothing."""
    member = rng.random(400) < 0.9
    runs = Runs([SeedRuns((member, np.ones(400)), [(member, rng.normal(size=400))])], member_share=0.9)
    assert guesses_of(runs)[0].coins < 200
    assert bound_of(runs).value < 0.5


NOBODY = np.empty(0, np.bool_), np.empty(0)


def test_without_shadow_users_numbers_of_guesses_are_paid_for(rng: np.random.Generator) -> None:
    member = rng.random(400) < 0.5
    leak = member + rng.normal(size=400) * 0.2
    with_shadow, without = (Runs([SeedRuns(shadow, [(member, leak)])]) for shadow in ((member, leak), NOBODY))
    played, confidence = guesses_of(without)
    assert confidence == pytest.approx(1 - 0.05 / len(TRIED))
    assert 2 < bound_of(without).value < bound_of(with_shadow).value
    assert bound_of(without).ceiling < bound_of(with_shadow).ceiling
    assert played.made in {2 * int(400 * 0.5), 2 * int(400 * 0.25), 2 * int(400 * 0.1), int(400 * 0.1), int(400 * 0.03)}
    for scores in (np.zeros(400), rng.normal(size=400)):
        assert bound_of(Runs([SeedRuns(NOBODY, [(member, scores)])])).value < 0.3


@pytest.mark.statistical
def test_a_bound_that_pays_for_its_guesses_is_seldom_above_the_truth() -> None:
    """Answers that tell each coin with the odds of a known epsilon; without a leak, the truth is 0."""
    for truth in (0.0, 1.0):
        above = 0
        for seed in range(400):
            rng = np.random.default_rng([seed, int(truth)])
            member = rng.random(200) < 0.5
            told = np.where(rng.random(200) < 1 / (1 + np.exp(-truth)), member, ~member)
            above += bound_of(Runs([SeedRuns(NOBODY, [(member, told + 0.01 * rng.normal(size=200))])])).value > truth
        assert above <= 32, f"{above} of 400 bounds are above {truth}, and 20 are expected at most"


def test_no_epsilon_where_members_were_not_drawn_by_coins(rng: np.random.Generator) -> None:
    """With nine members in ten, guesses at random would refute an epsilon of 2."""
    member = rng.random(400) < 0.9
    for shadow in (NOBODY, (member, rng.normal(size=400))):
        runs = Runs([SeedRuns(shadow, [(member, rng.normal(size=400))])])
        found = METRICS["epsilon"].estimate(runs, 0.95)
        assert found.value is None
        assert "of 400 users are members, and coins" in found.note
        assert "about 200; if it was another, set member_share" in found.note
        fair = Runs(runs.seeds, member_share=0.9)
        assert METRICS["epsilon"].estimate(fair, 0.95).value is not None


def test_a_metric_of_ones_own(runs: Runs) -> None:
    def gap(member: Any, score: Any, confidence: float) -> Estimate:
        value = float(score[member].mean() - score[~member].mean())
        return Estimate(value, value - 0.1, value + 0.1)

    spec = MetricSpec("gap", "gap", 1, partial(mean_over_runs, estimate=gap))
    first = Runs(runs.seeds[:1])
    found = spec.estimate(first, 0.95)
    assert found.value is not None
    expected = np.mean([gap(*target, 0.95).value for target in first.seeds[0].targets])
    assert found.value == pytest.approx(expected, abs=1e-12)

"""The metrics of an audit: their names, and how they are estimated over targets and seeds."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from recmia.metrics import METRICS, Estimate, MetricSpec, SeedRuns, auc, mean_over_runs, over_seeds
from recmia.metrics.catalogue import epsilon_bound
from recmia.metrics.epsilon import choose_epsilon_threshold, epsilon_lower_bound
from recmia.metrics.roc import balanced_accuracy, choose_threshold, tpr_at_fpr


def scored(n: int, leak: float, rng: np.random.Generator) -> tuple[Any, Any]:
    member = rng.permutation(n) < n // 2
    return member, rng.normal(size=n) + leak * member


@pytest.fixture
def runs(rng: np.random.Generator) -> list[SeedRuns]:
    """Three seeds of two targets, whose members can be told."""
    return [SeedRuns(scored(300, 2.0, rng), [scored(240, 2.0, rng) for _ in range(2)]) for _ in range(3)]


def test_names() -> None:
    """Gates and stored results name metrics so."""
    assert list(METRICS) == ["auc", "tpr@fpr=0.1", "tpr@fpr=0.01", "tpr@fpr=0.001", "balanced_accuracy", "epsilon"]
    assert [name for name, spec in METRICS.items() if spec.needs_thresholds] == ["balanced_accuracy", "epsilon"]
    assert [name for name, spec in METRICS.items() if spec.is_bound] == ["epsilon"]
    assert METRICS["epsilon"].highest == np.inf
    for name, spec in METRICS.items():
        assert (spec.name, spec.lowest) == (name, 0)


def test_means_over_targets_and_then_over_seeds(runs: list[SeedRuns]) -> None:
    for name, figure in (("auc", auc), ("tpr@fpr=0.1", partial(tpr_at_fpr, fpr=0.1))):
        expected = over_seeds([over_seeds([figure(*target) for target in seed.targets]) for seed in runs])
        assert METRICS[name].estimate(runs) == expected


def test_thresholds_are_chosen_on_the_shadow_users_of_the_same_seed(runs: list[SeedRuns]) -> None:
    expected = over_seeds(
        [
            over_seeds([balanced_accuracy(*target, choose_threshold(*seed.shadow)) for target in seed.targets])
            for seed in runs
        ]
    )
    assert METRICS["balanced_accuracy"].estimate(runs) == expected
    assert expected.value is not None
    assert expected.value > 0.75


def test_a_rate_that_no_target_can_resolve_is_not_answered(runs: list[SeedRuns]) -> None:
    found = METRICS["tpr@fpr=0.001"].estimate(runs)
    assert (found.value, found.low, found.high) == (None, None, None)
    assert "not resolvable with 120 non-members" in found.note


def test_epsilon_is_of_all_targets_at_one_threshold(runs: list[SeedRuns]) -> None:
    shadow = [np.concatenate([seed.shadow[part] for seed in runs]) for part in (0, 1)]
    member, score = (np.concatenate([target[part] for seed in runs for target in seed.targets]) for part in (0, 1))
    threshold = choose_epsilon_threshold(shadow[0], shadow[1], n_members=720, n_nonmembers=720)
    called = score >= threshold
    expected = epsilon_lower_bound(int((called & member).sum()), 720, int((called & ~member).sum()), 720)
    assert epsilon_bound(runs) == expected
    assert expected.value > 1
    found = METRICS["epsilon"].estimate(runs)
    assert (found.value, found.low, found.high) == (expected.value, expected.value, None)
    assert f"95% lower bound; no more than {expected.ceiling:.2f} can be shown" in found.note


def test_a_metric_of_ones_own(runs: list[SeedRuns]) -> None:
    def gap(member: Any, score: Any) -> Estimate:
        value = float(score[member].mean() - score[~member].mean())
        return Estimate(value, value - 0.1, value + 0.1)

    spec = MetricSpec("gap", "gap", 1, partial(mean_over_runs, estimate=gap))
    found = spec.estimate(runs[:1])
    assert found.value == pytest.approx(np.mean([gap(*target).value for target in runs[0].targets]), abs=1e-12)

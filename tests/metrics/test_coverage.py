"""The quick version of benchmarks/interval_coverage.py, and that it fails with intervals that do not cover."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recmia.metrics import auc, tpr_at_fpr
from recmia.metrics.intervals import runs_differ

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load_benchmark() -> ModuleType:
    """The benchmark, which is a script beside the module that it writes its results with."""
    spec = importlib.util.spec_from_file_location("interval_coverage", BENCHMARKS / "interval_coverage.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its data classes look themselves up.
    sys.modules[spec.name] = module
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        spec.loader.exec_module(module)
    return module


bench = load_benchmark()


def test_what_is_measured_is_what_is_printed() -> None:
    """The benchmark calculates many samples at a time; one at a time, the metrics say the same."""
    rng = np.random.default_rng(0)
    x, y = bench.draw("ordinal", 0.9, (5, 150), rng)
    parts = np.array([bench.iv.auc_parts(*one) for one in zip(x, y, strict=True)]).T
    areas = bench.iv.auc_ends(*parts, 150, 150)
    above = np.array([bench.iv.members_above(*one) for one in zip(x, y, strict=True)])
    rates = bench.iv.tpr_ends(above, 150, bench.iv.threshold_region(150, 0.1, 0.025))
    member = np.arange(300) < 150
    for sample in range(5):
        score = np.concatenate([x[sample], y[sample]])
        for found, ends in ((auc(member, score), areas), (tpr_at_fpr(member, score, 0.1), rates)):
            assert (found.low, found.high) == pytest.approx((ends[0][sample], ends[1][sample]))


@pytest.mark.statistical
@pytest.mark.parametrize("part", ["areas", "unequal", "tprs", "accuracies", "utilities"])
def test_intervals_cover(part: str) -> None:
    more = (True,) if part in ("unequal", "tprs") else ()
    found = getattr(bench, part)(bench.QUICK, *more)
    assert found.failures == []
    assert len(found.cells) >= 3


@pytest.mark.statistical
def test_means_over_runs_cover_and_are_never_wider_than_a_run() -> None:
    assert bench.means(60, True).failures == []


@pytest.mark.statistical
def test_bounds_on_epsilon_hold_and_nothing_is_found_where_nothing_is() -> None:
    """Randomised response with independent and dependent outcomes, one and four targets; constant and random scores."""
    found = bench.epsilons(120, True)
    assert found.failures == []
    assert {cell.name for cell in found.cells if cell.least == 1} == {
        "constant scores, 1 targets",
        "constant scores, 4 targets",
    }


def test_no_leak_raises_no_alarm() -> None:
    assert bench.false_alarms(60, True).failures == []


@pytest.mark.statistical
def test_delong_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.iv, "auc_ends", lambda area, variance, tied, n1, n0, level: bench.delong(area, variance))
    assert len(bench.areas(bench.QUICK).failures) > 10


@pytest.mark.statistical
def test_newcombe_as_published_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def published(area: Any, variance: Any, tied: Any, n1: int, n0: int, level: float) -> Any:
        return bench.plain_newcombe(area, n1, n0)

    monkeypatch.setattr(bench.iv, "auc_ends", published)
    hard = bench.Scale(1000, (75, 150), ("all-or-nothing",))
    assert len(bench.areas(hard).failures) > 5


def without_the_thresholds_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fixed(n_nonmembers: int, fpr: float, error: float) -> Any:
        return SimpleNamespace(slope=1.0, rank=math.floor(fpr * n_nonmembers + 1e-9))

    def alone(above: Any, n_members: int, region: Any) -> Any:
        return bench.plain_clopper_pearson(above[..., region.rank + 1], n_members)

    monkeypatch.setattr(bench.iv, "threshold_region", fixed)
    monkeypatch.setattr(bench.iv, "tpr_ends", alone)


def test_clopper_and_pearson_alone_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    without_the_thresholds_error(monkeypatch)
    assert len(bench.tprs(bench.QUICK, True).failures) > 3


def test_the_normal_approximation_of_a_recall_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def normal(values: Any) -> Any:
        half = 1.96 * values.std(axis=-1) / math.sqrt(values.shape[-1])
        return values.mean(axis=-1) - half, values.mean(axis=-1) + half

    monkeypatch.setattr(bench.iv, "share_ends", normal)
    assert len(bench.utilities(bench.QUICK).failures) > 5


@pytest.mark.statistical
def test_student_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over two seeds it is wider than one run; over the targets of a seed, which share users, it does not cover."""
    monkeypatch.setattr(bench.iv, "combine", bench.student_mean)
    failed = {cell.name for cell in bench.means(60, True).failures}
    assert any("2 seeds" in name and "no wider than the widest run" in name for name in failed)
    assert any("8 targets" in name and name.endswith("leak: half") for name in failed)
    low, high = bench.student(np.array([0.86, 0.80]), np.array([0.80, 0.73]), np.array([0.90, 0.86]))
    assert low < 0.5
    assert high == 1


@pytest.mark.statistical
def test_runs_that_leak_alike_are_not_said_to_differ() -> None:
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(300):
        new, _, _, _ = bench.play("half", 4, 1, rng, with_data=False)
        wrong += runs_differ([seed[0] for seed in new[0]]) < 0.05
    assert wrong <= 0.05 * 300 + 12


@pytest.mark.statistical
def test_unequal_classes_cover() -> None:
    rng = np.random.default_rng(1)
    for sizes in ((12, 300), (300, 12), (305, 60)):
        assert bench.area_cell("mixture", 0.9, sizes, 1500, rng)["new"][0] > 0.93


def test_tables_are_put_in_place_of_those_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n### One\n\n| a |\n|---|\n| 1 |\n\nText.\n\n### Two\n\n| b |\n|---|\n| 2 |\n")
    monkeypatch.setattr(bench, "PAGE", page)
    part = bench.Part()
    part.table("Three", ["c"], [["3"]])
    part.table("One", ["a"], [["8"], ["9"]])
    bench.into_page(part.lines)
    assert page.read_text() == (
        "# Page\n\n### One\n\n| a |\n| --- |\n| 8 |\n| 9 |\n\nText.\n\n### Two\n\n| b |\n|---|\n| 2 |\n"
    )

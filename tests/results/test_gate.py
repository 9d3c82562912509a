"""Limits against metrics: who breaches one, by how much, and what a build server is told."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast
from xml.etree import ElementTree

import pytest

from recmia import AuditResult, AuditSettings, Interactions, audit
from recmia.cache import default_store
from recmia.errors import ConfigError
from recmia.metrics import Metric
from recmia.results.audit import metric_names
from recmia.results.findings import find
from recmia.results.gate import Gate, parse_limit
from tests.cli.helpers import Here, recmia

NAMES = metric_names(AuditSettings())


def metric(
    low: float | None, *, attack: str = "mlp", regime: str = "fold-in", name: str = "auc", note: str = ""
) -> Metric:
    value = None if low is None else low + 0.05
    high = None if low is None or name == "epsilon" else low + 0.1
    return Metric("grey-box", regime, "lfm", "lfm", attack, name, value, low, high, 5, 1, 50, 50, note)


# What an audit found, where a test is not about that.
FINDINGS = find([Metric("grey-box", "fold-in", "lfm", "lfm", "mlp", "auc", 0.5, 0.45, 0.55, 5, 1, 50, 50, "")])


class Figures:
    """An audit with these figures; `wider` adds to both sides of the intervals that hold together."""

    def __init__(self, metrics: list[Metric], wider: float = 0.0) -> None:
        self.metrics, self.wider, self.findings = tuple(metrics), wider, FINDINGS

    def joint(self, names: Sequence[str]) -> tuple[Metric, ...]:
        return tuple(
            replace(
                row,
                low=None if row.low is None else row.low - self.wider,
                high=None if row.high is None else row.high + self.wider,
            )
            for row in self.metrics
            if row.metric in names
        )


def gate(metrics: list[Metric], *limits: str, require_below: Sequence[str] = (), wider: float = 0.0) -> Gate:
    parsed = [parse_limit(text, NAMES) for text in limits]
    parsed += [parse_limit(text, NAMES, "require-below") for text in require_below]
    return Gate.test(cast(AuditResult, Figures(metrics, wider)), parsed)


def outcomes(metrics: list[Metric], *limits: str) -> list[str]:
    return [one.outcome for one in gate(metrics, *limits).checks]


def test_the_names_are_those_of_the_metrics(small: Interactions) -> None:
    for thresholds in (True, False):
        result = audit(small, attacks=["distance"], k=5, factors=4, seeds=1, lfm={"epochs": 1}, thresholds=thresholds)
        assert metric_names(result.settings) == list(dict.fromkeys(row.metric for row in result.metrics))


def several(*lows: float) -> list[Metric]:
    """Figures of as many attacks."""
    return [metric(low, attack=f"attack-{number}") for number, low in enumerate(lows)]


def test_the_whole_interval_decides() -> None:
    found = several(0.45, 0.5, 0.54, 0.6, 0.6000001, 0.9)
    assert outcomes(found, "auc=0.6") == ["below", "undecided", "undecided", "undecided", "breached", "breached"]
    assert found[3].value is not None
    assert found[3].value > 0.6
    assert outcomes([metric(1.5, name="epsilon")], "epsilon=1", "epsilon=2") == ["breached", "undecided"]


def test_an_auc_counts_in_either_direction() -> None:
    found = several(0.15, 0.35, 0.42)
    assert outcomes(found, "auc=0.6") == ["breached", "undecided", "below"]
    (line,) = gate(found, "auc=0.6").lines
    assert "auc, read backwards, is 0.800 [0.750–0.850], at least 0.150 above 0.6" in line


def test_an_alarm_is_silent_where_a_proof_is_missing() -> None:
    undecided, below, breached = several(0.55), several(0.45), several(0.65)
    for found, alarm, proof in ((undecided, 0, 1), (below, 0, 0), (breached, 1, 1)):
        assert gate(found, "auc=0.6").exit_code == alarm
        assert gate(found, require_below=["auc=0.6"]).exit_code == proof
    assert gate(undecided, "auc=0.6").lines == (
        "nothing is surely above auc=0.6: 1 of 1 figures are undecided, 0 are below",
    )
    assert gate(undecided, require_below=["auc=0.6"]).lines == (
        "not shown to be below auc=0.6: attack-0 in fold-in (grey-box): auc is 0.600 [0.550–0.650], which may be above "
        "or below 0.6",
    )
    assert gate(below, require_below=["auc=0.6"]).lines == ("all 1 figures are below auc=0.6",)
    for found in (undecided, below, breached):
        for proofs in (["auc=0.6"], []):
            assert "under" not in str(gate(found, "auc=0.6", require_below=proofs))


def test_a_breach_holds_for_all_figures_together_and_a_proof_for_each() -> None:
    """That one figure is not below is enough to keep a gate from passing, so a proof needs no correction."""
    assert gate(several(0.65), "auc=0.6", wider=0.06).exit_code == 0
    assert gate(several(0.65), "auc=0.6", wider=0.04).exit_code == 1
    assert gate(several(0.45, 0.47), require_below=["auc=0.6"], wider=0.06).exit_code == 0
    assert gate(several(0.65), require_below=["auc=0.6"], wider=0.06).checks[0].outcome == "undecided"


def test_a_rate_without_a_figure_proves_nothing() -> None:
    unresolved = metric(None, name="tpr@fpr=0.01", note="not resolvable")
    found = gate([unresolved], require_below=["tpr@fpr=0.01=0.1"])
    assert (found.exit_code, found.passed) == (1, False)
    assert found.lines[0].startswith("not shown to be below tpr@fpr=0.01=0.1: ")


def test_a_bound_can_never_be_shown_to_be_below() -> None:
    with pytest.raises(ConfigError, match="an audit gives a lower bound on it, never an upper one"):
        parse_limit("epsilon=1", NAMES, "require-below")


def test_every_attack_and_regime_counts_but_baselines_only_on_a_shared_path() -> None:
    found = [
        metric(0.9, attack=attack, regime=regime)
        for attack in ("list-lr", "shared-list")
        for regime in ("popular", "popular-random", "fold-in", "trained")
    ]
    tested = [(one.found.attack, one.found.regime) for one in gate(found, "auc=0.6").checks]
    assert tested == [
        *[("list-lr", regime) for regime in ("popular", "popular-random", "fold-in", "trained")],
        ("shared-list", "fold-in"),
    ]


def test_one_line_says_what_and_by_how_much() -> None:
    note = "not resolvable with 30 non-members: the finest rate is 0.033"
    found = [
        metric(0.61),
        metric(0.83, attack="list-lr"),
        metric(0.45, attack="rmia"),
        metric(None, name="tpr@fpr=0.01", note=note),
        metric(2.5, attack="list-lr", name="epsilon"),
    ]
    assert gate(found, "auc=0.6", "tpr@fpr=0.01=0.1", "epsilon=1").lines == (
        "above auc=0.6: list-lr in fold-in (grey-box): auc is 0.880 [0.830–0.930], at least 0.230 above 0.6 "
        "(and 1 more)",
        f"cannot test tpr@fpr=0.01=0.1: mlp in fold-in (grey-box): tpr@fpr=0.01 is {note}",
        "above epsilon=1: list-lr in fold-in (grey-box): epsilon is 2.550 [2.500], at least 1.500 above 1",
    )
    assert str(gate(found, "auc=0.95")) == "gate: all 3 figures are below auc=0.95"
    assert (
        str(gate(found, "auc=0.9"))
        == "gate: nothing is surely above auc=0.9: 1 of 3 figures are undecided, 2 are below"
    )


def test_what_cannot_be_tested_does_not_pass() -> None:
    unresolved, fine, high = metric(None, name="tpr@fpr=0.01"), metric(0.5), metric(0.7)
    limits = ("auc=0.6", "tpr@fpr=0.01=0.1")
    assert gate([fine], *limits).exit_code == 0
    assert gate([fine, unresolved], *limits).exit_code == 2
    assert gate([high, unresolved], *limits).exit_code == 1
    assert gate([]).exit_code == 0
    assert [gate(found, *limits).passed for found in ([fine], [fine, unresolved], [high])] == [True, False, False]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("auc", "must be written METRIC=VALUE, such as auc=0.6; got 'auc'"),
        ("=0.6", "must be written METRIC=VALUE"),
        ("auk=0.6", "unknown metric 'auk' in the limit 'auk=0.6'; did you mean 'auc'"),
        ("tpr@fpr=0.01", "unknown metric 'tpr@fpr'.*did you mean 'tpr@fpr=0"),
        ("tpr@fpr=0.02=0.1", "unknown metric 'tpr@fpr=0.02'"),
        ("auc=1.1", r"must have a number in 0\.5\.\.1; got '1.1'"),
        ("auc=0.4", r"must have a number in 0\.5\.\.1"),
        ("auc=nan", r"must have a number in 0\.5\.\.1"),
        ("auc=high", r"must have a number in 0\.5\.\.1; got 'high'"),
        ("auc=", r"must have a number in 0\.5\.\.1; got ''"),
        ("tpr@fpr=0.01=-0.1", r"must have a number in 0\.\.1"),
        ("epsilon=-1", "must have a number from 0; got '-1'"),
        ("epsilon=inf", "must have a number from 0"),
    ],
)
def test_bad_limits(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_limit(text, NAMES)


def test_reports_for_build_servers() -> None:
    strange = 'a <b> & "c"'
    found = [metric(0.5), metric(0.8, attack="list-lr"), metric(None, name="tpr@fpr=0.01", note=strange)]
    tested = gate(found, "auc=0.6", "tpr@fpr=0.01=0.1")
    root = ElementTree.fromstring(tested.as_junit())
    suites = [(suite.get("name"), suite.get("tests"), suite.get("failures"), suite.get("errors")) for suite in root]
    assert suites == [
        ("recmia: fail-above auc=0.6", "2", "1", "0"),
        ("recmia: fail-above tpr@fpr=0.01=0.1", "1", "0", "1"),
    ]
    cases = [(case.get("name"), [part.tag for part in case]) for case in root.iter("testcase")]
    assert cases == [
        ("mlp: fail-above auc=0.6", []),
        ("list-lr: fail-above auc=0.6", ["failure"]),
        ("mlp: fail-above tpr@fpr=0.01=0.1", ["error"]),
    ]
    (error,) = root.iter("error")
    assert strange in str(error.get("message"))
    report = json.loads(tested.as_json())
    assert (report["passed"], report["exit_code"], len(report["lines"])) == (False, 1, 2)
    assert (report["grade"], report["claim"]) == (FINDINGS.grade, FINDINGS.claim)
    rows = [(row["attack"], row["limit"], row["outcome"], row["low"]) for row in report["checks"]]
    assert rows == [("mlp", 0.6, "undecided", 0.5), ("list-lr", 0.6, "breached", 0.8), ("mlp", 0.1, "undecided", None)]


FOREIGN = """
import numpy as np


class Popular:
    '''Everybody gets the items with the most interactions.'''

    folds_in = True

    def fit(self, user_items):
        self.popular = np.argsort(-np.bincount(user_items.indices, minlength=user_items.shape[1]), kind='stable')

    def order(self, history):
        return self.popular

    def recommend(self, userid, user_items, N, filter_already_liked_items):
        lists = np.full((len(userid), N), -1)
        for user in range(len(userid)):
            history = user_items[[user]].indices
            found = [item for item in self.order(history) if item not in history][:N]
            lists[user, : len(found)] = found
        return lists


class Leaky(Popular):
    '''Whoever it was trained on gets other items.'''

    def fit(self, user_items):
        super().fit(user_items)
        self.members = {tuple(sorted(user_items[[user]].indices)) for user in range(user_items.shape[0])}

    def order(self, history):
        return self.popular[::-1] if tuple(sorted(history)) in self.members else self.popular
"""


# Enough users for the rate 0.01.
QUICK = ["-d", "synthetic:420x150x15000", "-l", "4", "-k", "10", "--seeds", "1", "--regimes", "fold-in"]
LIMITS = ["--fail-above", "auc=0.6", "--fail-above", "tpr@fpr=0.01=0.1"]


@pytest.mark.end_to_end
def test_a_leaky_foreign_recommender_fails_and_one_by_popularity_passes(tmp_path: Path) -> None:
    (tmp_path / "foreign.py").write_text(FOREIGN)
    before = set(default_store())
    audits = ["audit", *QUICK, *LIMITS, "--n-shadows", "8", "--attacks", "list-lr"]
    leaky = recmia(*audits, "--recommender", "foreign:Leaky", "-o", "leaky", "--junit", "leaky.xml", cwd=tmp_path)
    assert leaky.returncode == 1, leaky.stderr
    lines = [line for line in leaky.stdout.splitlines() if line.startswith("gate: ")]
    assert len(lines) == 2
    assert "gate: above auc=0.6: " in lines[0]
    assert "gate: above tpr@fpr=0.01=0.1: " in lines[1]
    assert (tmp_path / "leaky" / "metrics.json").is_file(), "the run is written whatever the gate says"
    assert ElementTree.parse(tmp_path / "leaky.xml").getroot().find(".//failure") is not None
    fine = recmia(*audits, "--recommender", "foreign:Popular", "-o", "fine", "--json", "fine.json", cwd=tmp_path)
    assert fine.returncode == 0, fine.stdout + fine.stderr
    assert "gate: nothing is surely above auc=0.6: " in fine.stdout
    assert json.loads((tmp_path / "fine.json").read_text())["passed"]
    # Nothing that foreign code served is in the cache, or left beside the run.
    assert set(default_store()) == before
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {
        "fine", "fine.json", "foreign.py", "leaky", "leaky.xml"
    }  # fmt: skip


@pytest.mark.end_to_end
def test_a_rate_that_cannot_be_resolved_ends_with_2(tmp_path: Path) -> None:
    small = ["-d", "synthetic:120x200x6000", "-l", "4", "-k", "10", "--seeds", "1", "--lfm-epochs", "1"]
    limits = ["--regimes", "fold-in", "--attack", "distance", "--fail-above", "tpr@fpr=0.01=0.9", "--json", "gate.json"]
    done = recmia("audit", *small, *limits, "-o", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert "gate: cannot test tpr@fpr=0.01=0.9: " in done.stdout
    assert re.search(r"not resolvable with \d+ non-members", done.stdout)
    assert (tmp_path / "run" / "metrics.json").is_file()
    assert json.loads((tmp_path / "gate.json").read_text())["exit_code"] == 2


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fail-above", "auk=0.6"], "unknown metric 'auk'"),
        (["--fail-above", "balanced_accuracy=0.6", "--no-thresholds"], "unknown metric 'balanced_accuracy'"),
        (["--json", "gate.json"], "--json tells what the gate found; name a limit"),
        (["--require-below", "epsilon=1"], "an audit gives a lower bound on it, never an upper one"),
        (["--fail-above", "epsilon=1", "--regimes", "popular"], "unknown metric 'epsilon'"),
        (["--fail-above", "auc=0.6", "--junit", "no/gate.xml"], "cannot write no/gate.xml"),
        (["--fail-above", "auc=0.6", "--json", "."], "cannot write ."),
    ],
)
def test_a_gate_that_cannot_work_is_refused_before_the_run(
    here: Here, tmp_path: Path, arguments: list[str], words: str
) -> None:
    done = here("audit", "-d", "missing.csv", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == []

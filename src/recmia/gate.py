"""A gate: thresholds that a system must stay under, tested against what an audit found.

A threshold is breached where the lower end of an interval lies above it: the leak is then there whatever the luck of
the draw. A figure that the users cannot resolve breaches nothing and passes nothing. Every attack in every regime is
tested; the baselines only where all users are served by the same path, since elsewhere they measure what non-members
are given instead of a list of their own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Literal
from xml.etree import ElementTree

from recmia.attacks import BASELINES
from recmia.errors import ConfigError, nearest
from recmia.evaluation import Metric
from recmia.game import SHARED_PATH

Outcome = Literal["passed", "breached", "unresolved"]


@dataclass(frozen=True)
class Threshold:
    """What a metric may be at most."""

    metric: str
    limit: float

    def __str__(self) -> str:
        return f"{self.metric}={self.limit:g}"


@dataclass(frozen=True)
class Check:
    """A threshold against one figure."""

    threshold: Threshold
    found: Metric
    outcome: Outcome

    @property
    def words(self) -> str:
        """Who reaches what, and by how much it is too much."""
        found, limit = self.found, self.threshold.limit
        who = f"{found.attack} in {found.regime} ({found.knowledge})"
        if found.value is None or found.low is None:
            return f"{who}: {found.metric} is {found.note}"
        high = "" if found.high is None else f"–{found.high:.3f}"
        reached = f"{who}: {found.metric} is {found.value:.3f} [{found.low:.3f}{high}]"
        if self.outcome == "passed":
            return f"{reached}, not surely above {limit:g}"
        return f"{reached}, at least {found.low - limit:.3f} above {limit:g}"


def parse_threshold(text: str, metrics: Collection[str]) -> Threshold:
    """Read a threshold such as ``auc=0.6`` or ``tpr@fpr=0.01=0.1``.

    Parameters
    ----------
    text : str
    metrics : collection of str
        What the audit measures.

    Raises
    ------
    ConfigError
        For an unknown metric, or a value out of [0, 1] (for epsilon: below 0).
    """
    metric, equals, value = text.rpartition("=")
    metric = metric.strip()
    if not equals or not metric:
        raise ConfigError(f"a threshold must be written METRIC=VALUE, such as auc=0.6; got {text!r}")
    if metric not in metrics:
        raise ConfigError(f"unknown metric {metric!r} in the threshold {text!r}; {nearest(metric, metrics)}")
    try:
        limit = float(value)
    except ValueError:
        limit = math.nan
    highest = math.inf if metric == "epsilon" else 1.0
    if not 0 <= limit <= highest or math.isinf(limit):
        raise ConfigError(
            f"the threshold {text!r} must have a number {'from 0' if metric == 'epsilon' else 'in 0..1'}; got {value!r}"
        )
    return Threshold(metric, limit)


def check(metrics: Sequence[Metric], thresholds: Sequence[Threshold]) -> list[Check]:
    """Test every threshold against every figure that it is about, in their order."""
    return [
        Check(threshold, found, _outcome(threshold, found))
        for threshold in thresholds
        for found in metrics
        if found.metric == threshold.metric and (found.attack not in BASELINES or found.regime in SHARED_PATH)
    ]


def _outcome(threshold: Threshold, found: Metric) -> Outcome:
    if found.value is None or found.low is None:
        return "unresolved"
    return "breached" if found.low > threshold.limit else "passed"


def verdict(checks: Sequence[Check]) -> list[str]:
    """One line for each threshold that is not passed: its worst figure, and how many more there are."""
    lines = []
    for threshold in dict.fromkeys(one.threshold for one in checks):
        mine = [one for one in checks if one.threshold == threshold]
        breached = [one for one in mine if one.outcome == "breached"]
        unresolved = [one for one in mine if one.outcome == "unresolved"]
        worst = breached[:1]
        for one in breached:
            if (one.found.low or 0.0) > (worst[0].found.low or 0.0):
                worst = [one]
        more = f" (and {len(breached) - 1} more)" if len(breached) > 1 else ""
        lines += [f"above {threshold}: {one.words}{more}" for one in worst]
        if unresolved and not breached:
            more = f" (and {len(unresolved) - 1} more)" if len(unresolved) > 1 else ""
            lines.append(f"cannot test {threshold}: {unresolved[0].words}{more}")
    return lines


def exit_code(checks: Sequence[Check]) -> int:
    """Say 1 if a threshold is breached, else 2 if one could not be tested, else 0."""
    outcomes = {one.outcome for one in checks}
    return 1 if "breached" in outcomes else 2 if "unresolved" in outcomes else 0


def as_json(checks: Sequence[Check]) -> str:
    """Everything that was tested, as JSON text."""
    rows = [{"threshold": one.threshold.limit, "outcome": one.outcome, **asdict(one.found)} for one in checks]
    code = exit_code(checks)
    report = {"passed": code == 0, "exit_code": code, "lines": verdict(checks), "checks": rows}
    return json.dumps(report, indent=2, allow_nan=False) + "\n"


def as_junit(checks: Sequence[Check]) -> str:
    """Everything that was tested, as JUnit XML: a suite for each threshold, a case for each attack and regime."""
    root = ElementTree.Element("testsuites", name="recmia")
    for threshold in dict.fromkeys(one.threshold for one in checks):
        mine = [one for one in checks if one.threshold == threshold]
        counts = {name: str(sum(one.outcome == name for one in mine)) for name in ("breached", "unresolved")}
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=f"recmia: {threshold}",
            tests=str(len(mine)),
            failures=counts["breached"],
            errors=counts["unresolved"],
        )
        for one in mine:
            found = one.found
            case = ElementTree.SubElement(
                suite,
                "testcase",
                classname=f"recmia.{found.knowledge}.{found.regime}",
                name=f"{found.attack}: {threshold}",
            )
            if one.outcome != "passed":
                kind = "failure" if one.outcome == "breached" else "error"
                ElementTree.SubElement(case, kind, type=one.outcome, message=one.words)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"

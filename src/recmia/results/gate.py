"""A gate: limits that a system must stay under, tested against what an audit found.

A limit is breached where the lower end of an interval lies above it: the leak is then there whatever the luck of
the draw. A figure that the users cannot resolve breaches nothing and passes nothing. Every attack in every regime is
tested; the rules that need no model only where all users are served by the same path, since elsewhere they measure what
non-members are given instead of a list of their own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Literal
from xml.etree import ElementTree

from recmia.attacks import RULES
from recmia.errors import ConfigError, nearest
from recmia.metrics import METRICS, Metric
from recmia.results.findings import Findings
from recmia.settings import SHARED_PATH

Outcome = Literal["passed", "breached", "unresolved"]


@dataclass(frozen=True)
class Limit:
    """What a metric may be at most."""

    metric: str
    value: float

    def __str__(self) -> str:
        return f"{self.metric}={self.value:g}"


@dataclass(frozen=True)
class Check:
    """A limit against one figure."""

    limit: Limit
    found: Metric
    outcome: Outcome

    @property
    def words(self) -> str:
        """Who reaches what, and by how much it is too much."""
        found, limit = self.found, self.limit.value
        who = f"{found.attack} in {found.regime} ({found.knowledge})"
        if found.value is None or found.low is None:
            return f"{who}: {found.metric} is {found.note}"
        high = "" if found.high is None else f"–{found.high:.3f}"
        reached = f"{who}: {found.metric} is {found.value:.3f} [{found.low:.3f}{high}]"
        if self.outcome == "passed":
            return f"{reached}, not surely above {limit:g}"
        return f"{reached}, at least {found.low - limit:.3f} above {limit:g}"


def parse_limit(text: str, metrics: Collection[str]) -> Limit:
    """Read a limit such as ``auc=0.6`` or ``tpr@fpr=0.01=0.1``.

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
        raise ConfigError(f"a limit must be written METRIC=VALUE, such as auc=0.6; got {text!r}")
    if metric not in metrics:
        raise ConfigError(f"unknown metric {metric!r} in the limit {text!r}; {nearest(metric, metrics)}")
    try:
        limit = float(value)
    except ValueError:
        limit = math.nan
    spec = METRICS[metric]
    allowed = f"from {spec.lowest:g}" if math.isinf(spec.highest) else f"in {spec.lowest:g}..{spec.highest:g}"
    if not spec.lowest <= limit <= spec.highest or math.isinf(limit):
        raise ConfigError(f"the limit {text!r} must have a number {allowed}; got {value!r}")
    return Limit(metric, limit)


@dataclass(frozen=True)
class Gate:
    """Limits against what an audit found.

    Parameters
    ----------
    checks : tuple of Check
        Every limit against every figure that it is about, in their order.
    findings : Findings
        What the audit found, to be reported beside the checks.
    """

    checks: tuple[Check, ...]
    findings: Findings

    @classmethod
    def test(cls, metrics: Sequence[Metric], limits: Sequence[Limit], findings: Findings) -> Gate:
        """Test every limit against every figure that it is about."""
        checks = (
            Check(limit, found, _outcome(limit, found))
            for limit in limits
            for found in metrics
            if found.metric == limit.metric and (found.attack not in RULES or found.regime in SHARED_PATH)
        )
        return cls(tuple(checks), findings)

    @property
    def exit_code(self) -> int:
        """1 if a limit is breached, else 2 if one could not be tested, else 0."""
        outcomes = {one.outcome for one in self.checks}
        return 1 if "breached" in outcomes else 2 if "unresolved" in outcomes else 0

    @property
    def passed(self) -> bool:
        """Whether every limit was tested and none is breached."""
        return self.exit_code == 0

    @property
    def lines(self) -> tuple[str, ...]:
        """A line for each limit that is not passed: its worst figure, and how many more there are."""
        lines = []
        for limit in dict.fromkeys(one.limit for one in self.checks):
            mine = [one for one in self.checks if one.limit == limit]
            breached = [one for one in mine if one.outcome == "breached"]
            unresolved = [one for one in mine if one.outcome == "unresolved"]
            if breached:
                worst = max(breached, key=lambda one: one.found.low or 0.0)
                lines.append(f"above {limit}: {worst.words}{_more(breached)}")
            elif unresolved:
                lines.append(f"cannot test {limit}: {unresolved[0].words}{_more(unresolved)}")
        return tuple(lines)

    def __str__(self) -> str:
        if self.lines:
            return "\n".join(f"gate: {line}" for line in self.lines)
        limits = ", ".join(dict.fromkeys(str(one.limit) for one in self.checks))
        return f"gate: passed, {len(self.checks)} figures under {limits}"

    def as_json(self) -> str:
        """Return everything that was tested, as JSON text."""
        rows = [{"limit": one.limit.value, "outcome": one.outcome, **asdict(one.found)} for one in self.checks]
        report = {
            "passed": self.passed,
            "exit_code": self.exit_code,
            "lines": list(self.lines),
            "grade": self.findings.grade,
            "claim": self.findings.claim,
            "caveats": list(self.findings.caveats),
            "checks": rows,
        }
        return json.dumps(report, indent=2, allow_nan=False) + "\n"

    def as_junit(self) -> str:
        """Return everything that was tested, as JUnit XML: a suite a limit, a case an attack and regime."""
        root = ElementTree.Element("testsuites", name="recmia")
        for limit in dict.fromkeys(one.limit for one in self.checks):
            mine = [one for one in self.checks if one.limit == limit]
            counts = {name: str(sum(one.outcome == name for one in mine)) for name in ("breached", "unresolved")}
            suite = ElementTree.SubElement(
                root,
                "testsuite",
                name=f"recmia: {limit}",
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
                    name=f"{found.attack}: {limit}",
                )
                if one.outcome != "passed":
                    kind = "failure" if one.outcome == "breached" else "error"
                    ElementTree.SubElement(case, kind, type=one.outcome, message=one.words)
        ElementTree.indent(root)
        return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _outcome(limit: Limit, found: Metric) -> Outcome:
    if found.value is None or found.low is None:
        return "unresolved"
    return "breached" if found.low > limit.value else "passed"


def _more(checks: Sequence[Check]) -> str:
    return f" (and {len(checks) - 1} more)" if len(checks) > 1 else ""

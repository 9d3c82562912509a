"""A gate: limits on what attacks may find, tested against what an audit found.

A figure has an interval, so a limit has three outcomes. It is *breached* where the whole interval lies above it, and
the figure is *below* it where the whole interval does. All else is *undecided*: there are too few users to say. A limit
of ``fail_above`` is an alarm, and fails if it is breached. One of ``require_below`` asks for proof, and fails unless
every figure is below.

Every attack in every regime is tested; the rules that need no model only where all users are served by the same path,
since elsewhere they measure what non-members are given instead of a list of their own. An AUC counts in either
direction: one of 0.1 is an attack of 0.9 that is read backwards.

**Errors.** A gate fails wrongly in at most 5% of all runs, and passes a proof wrongly in at most 5%. For the first, the
intervals that decide on a breach hold for all figures together (Bonferroni). For the second, each holds by itself: if
some figure is not below its limit, that figure alone keeps the gate from passing (an intersection-union test; Berger
1982, "Multiparameter hypothesis testing and acceptance sampling").
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal
from xml.etree import ElementTree

from recmia.attacks import RULES
from recmia.errors import ConfigError, nearest
from recmia.metrics import METRICS, Metric
from recmia.results.audit import AuditResult
from recmia.results.findings import Findings
from recmia.results.groups import attacks_tested, by_group
from recmia.settings import SERVED_ALIKE

Kind = Literal["fail-above", "require-below"]
Outcome = Literal["breached", "undecided", "below"]


@dataclass(frozen=True)
class Limit:
    """What a metric may be at most, and whether that must be shown."""

    metric: str
    value: float
    kind: Kind = "fail-above"

    def __str__(self) -> str:
        return f"{self.metric}={self.value:g}"


@dataclass(frozen=True)
class Check:
    """A limit against one figure, with the interval that decided."""

    limit: Limit
    found: Metric
    outcome: Outcome
    # Of a group: by what, and which.
    group: str = ""

    @property
    def failed(self) -> bool:
        """Whether this ends a build: a breach, or a proof that is missing."""
        return self.outcome == "breached" or (self.limit.kind == "require-below" and self.outcome == "undecided")

    @property
    def untested(self) -> bool:
        """Whether there is no figure to test; of a group that is too small, the line says so."""
        return self.found.value is None and not self.group

    @property
    def words(self) -> str:
        """Who reaches what, and what that means for the limit."""
        found, limit = self.found, self.limit.value
        who = f"{found.attack} in {found.regime} ({found.knowledge}){f', {self.group}' if self.group else ''}"
        if found.value is None or found.low is None:
            return f"{who}: {found.metric} is {found.note}"
        turned = found.turned
        assert turned.value is not None
        assert turned.low is not None
        high = "" if turned.high is None else f"–{turned.high:.3f}"
        backwards = "" if turned.value == found.value else ", read backwards,"
        reached = f"{who}: {found.metric}{backwards} is {turned.value:.3f} [{turned.low:.3f}{high}]"
        if self.outcome == "breached":
            return f"{reached}, at least {turned.low - limit:.3f} above {limit:g}"
        return f"{reached}, " + ("below" if self.outcome == "below" else "which may be above or below") + f" {limit:g}"


def parse_limit(text: str, metrics: Collection[str], kind: Kind = "fail-above") -> Limit:
    """Read a limit such as ``auc=0.6`` or ``tpr@fpr=0.01=0.1``.

    Parameters
    ----------
    text : str
    metrics : collection of str
        What the audit measures.
    kind : {"fail-above", "require-below"}

    Raises
    ------
    ConfigError
        For an unknown metric, a value that it cannot have (of those with a direction, below chance), or a proof of a
        figure that is a lower bound.
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
    lowest = spec.lowest if spec.chance is None else spec.chance
    allowed = f"from {lowest:g}" if math.isinf(spec.highest) else f"in {lowest:g}..{spec.highest:g}"
    if not lowest <= limit <= spec.highest or math.isinf(limit):
        raise ConfigError(f"the limit {text!r} must have a number {allowed}; got {value!r}")
    if spec.is_bound and kind == "require-below":
        raise ConfigError(
            f"{metric} cannot be shown to be below {limit:g}: an audit gives a lower bound on it, never an upper one; "
            f"take --fail-above {metric}={limit:g}, or limit another metric"
        )
    return Limit(metric, limit, kind)


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
    def test(cls, result: AuditResult, limits: Sequence[Limit], *, groups: bool = False) -> Gate:
        """Test every limit against every figure that it is about, with `groups` those of each group, too."""
        names = list(dict.fromkeys(one.metric for one in limits))
        together = result.joint(names)
        alone = {row.key: row for row in result.metrics}
        checks = [
            _check(limit, found, alone[found.key])
            for limit in limits
            for found in together
            if found.metric == limit.metric and (found.attack not in RULES or found.regime in SERVED_ALIKE)
        ]
        if groups:
            by = result.settings.groups.group_by
            attacks = attacks_tested(result)
            # Those that decide on a breach hold together with all others; those of a proof each by itself.
            figures = len(together) + len(attacks)
            wide = by_group(result, by, names, attacks, figures=figures)
            plain = by_group(result, by, names, attacks)
            for limit in limits:
                for (grouping, group, one), (_, _, other) in zip(wide, plain, strict=True):
                    if one.metric == limit.metric:
                        checks.append(replace(_check(limit, one, other), group=f"{grouping} = {group}"))
        return cls(tuple(checks), result.findings)

    @property
    def exit_code(self) -> int:
        """1 if a limit is breached or lacks its proof, else 2 if a figure could not be tested, else 0."""
        return 1 if any(one.failed for one in self.checks) else 2 if any(one.untested for one in self.checks) else 0

    @property
    def passed(self) -> bool:
        """Whether every limit was tested and none failed."""
        return self.exit_code == 0

    @property
    def lines(self) -> tuple[str, ...]:
        """A line for each limit: the figure that matters most, and how many more there are like it."""
        return tuple(
            _line(limit, [one for one in self.checks if one.limit == limit])
            for limit in dict.fromkeys(one.limit for one in self.checks)
        )

    def __str__(self) -> str:
        return "\n".join(f"gate: {line}" for line in self.lines)

    def as_json(self) -> str:
        """Return everything that was tested, as JSON text."""
        rows = [
            {
                "limit": one.limit.value,
                "kind": one.limit.kind,
                "outcome": one.outcome,
                **({"group": one.group} if one.group else {}),
                **asdict(one.found),
            }
            for one in self.checks
        ]
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
        """Return everything that was tested, as JUnit XML: a suite a limit, a case an attack and regime.

        What fails the gate is a failure, what could not be tested an error.
        """
        root = ElementTree.Element("testsuites", name="recmia")
        for limit in dict.fromkeys(one.limit for one in self.checks):
            mine = [one for one in self.checks if one.limit == limit]
            suite = ElementTree.SubElement(
                root,
                "testsuite",
                name=f"recmia: {limit.kind} {limit}",
                tests=str(len(mine)),
                failures=str(sum(one.failed for one in mine)),
                errors=str(sum(one.untested and not one.failed for one in mine)),
            )
            for one in mine:
                found = one.found
                case = ElementTree.SubElement(
                    suite,
                    "testcase",
                    classname=f"recmia.{found.knowledge}.{found.regime}",
                    name=f"{found.attack}: {limit.kind} {limit}{f', {one.group}' if one.group else ''}",
                )
                if one.failed or one.untested:
                    kind = "failure" if one.failed else "error"
                    ElementTree.SubElement(case, kind, type=one.outcome, message=one.words)
        ElementTree.indent(root)
        return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _check(limit: Limit, together: Metric, alone: Metric) -> Check:
    """Test one figure: whether it breaches by the first interval, and whether it is below by that of its kind."""
    if (together.turned.low or 0.0) > limit.value:
        return Check(limit, together, "breached")
    found = alone if limit.kind == "require-below" else together
    high = found.turned.high
    return Check(limit, found, "below" if high is not None and high < limit.value else "undecided")


def _line(limit: Limit, checks: Sequence[Check]) -> str:
    breached = [one for one in checks if one.outcome == "breached"]
    undecided = [one for one in checks if one.outcome == "undecided"]
    untested = [one for one in undecided if one.untested]
    if breached:
        worst = max(breached, key=lambda one: one.found.turned.low or 0.0)
        return f"above {limit}: {worst.words}{_more(breached)}"
    if limit.kind == "require-below" and undecided:
        widest = max(undecided, key=lambda one: math.inf if one.untested else one.found.turned.high or math.inf)
        return f"not shown to be below {limit}: {widest.words}{_more(undecided)}"
    if untested:
        return f"cannot test {limit}: {untested[0].words}{_more(untested)}"
    if undecided:
        return (
            f"nothing is surely above {limit}: {len(undecided)} of {len(checks)} figures are undecided, "
            f"{len(checks) - len(undecided)} are below"
        )
    return f"all {len(checks)} figures are below {limit}"


def _more(checks: Sequence[Check]) -> str:
    return f" (and {len(checks) - 1} more)" if len(checks) > 1 else ""

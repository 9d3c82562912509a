"""Metrics as a table and in plain words."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recmia.attacks import BASELINES
from recmia.evaluation import Metric

REGIME_WORDS = {
    "popular": "non-members get one popular list",
    "popular-random": "non-members get popular items at random",
    "fold-in": "all served by the same path",
    "trained": "members served by their trained vectors",
}
_SHARED_PATH = ("fold-in", "trained")


def table(metrics: Sequence[Metric]) -> Table:
    """Lay out the attacks and, dimmed, the baselines of each regime, every figure with its interval."""
    first = metrics[0]
    repeated = f"mean over {first.seeds} seeds" if first.seeds > 1 else "one seed"
    names = list(dict.fromkeys(row.metric for row in metrics))
    unresolved = [name for name in names if all(row.value is None for row in metrics if row.metric == name)]
    notes = {f"{_heading(row.metric)}: {row.note}" for row in metrics if row.metric in unresolved}
    out = Table(
        title=f"Can members be told from non-members? {first.n_members} against {first.n_nonmembers} users, "
        f"{repeated}, 95% intervals",
        title_justify="left",
        title_style="bold",
        caption="; ".join(sorted(notes)),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
    )
    names = [name for name in names if name not in unresolved]
    out.add_column("served and attacked", no_wrap=True)
    for name in names:
        # On a narrow terminal a figure breaks before its interval, never within.
        out.add_column(_heading(name), justify="right", min_width=len("[0.123–0.456]") - 2 * (name != "auc"))
    by_key = {(row.regime, row.attack, row.metric): row for row in metrics}
    for regime in dict.fromkeys(row.regime for row in metrics):
        out.add_section()
        out.add_row(Text(regime, style="bold"), *[""] * len(names))
        attacks = list(dict.fromkeys(row.attack for row in metrics if row.regime == regime))
        for attack in attacks:
            cells = [_figure(by_key[regime, attack, name], digits=3 if name == "auc" else 2) for name in names]
            out.add_row(Text(f"  {attack}"), *cells, style="dim" if attack in BASELINES else "")
    return out


def table_text(metrics: Sequence[Metric], width: int = 100) -> str:
    """Return `table` as plain text."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table(metrics))
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def verdict(metrics: Sequence[Metric]) -> str:
    """Say what the figures mean, a paragraph for each regime."""
    aucs = [row for row in metrics if row.metric == "auc"]
    return "\n".join(
        _regime_verdict(regime, [row for row in aucs if row.regime == regime])
        for regime in dict.fromkeys(row.regime for row in aucs)
    )


def _regime_verdict(regime: str, aucs: Sequence[Metric]) -> str:
    attack = max((row for row in aucs if row.attack not in BASELINES), key=_value, default=None)
    rule = max((row for row in aucs if row.attack in BASELINES), key=_value)
    sentences = []
    if attack is not None:
        sentences.append(f"the published attack ({attack.attack}) {_strength(attack)} (AUC {_figure(attack)}).")
    if _low(rule) > 0.5 and (attack is None or _value(rule) >= _value(attack) - 0.02):
        sentences.append(f"A rule that needs no model at all ({rule.attack}) reaches {_figure(rule)}:")
        sentences.append(
            "what shows here shows without an attack."
            if regime in _SHARED_PATH
            else "what is measured is the list that non-members are given, not what the model remembers."
        )
    elif attack is not None:
        sentences.append(f"The best rule without a model ({rule.attack}) reaches {_figure(rule)}.")
        if _low(attack) > max(0.5, _value(rule)):
            sentences.append("The attack sees more than any such rule: the lists give members away.")
    if regime in _SHARED_PATH and attack is not None and _value(attack) < _WEAK:
        sentences.append("That an attack fails is no proof of safety: a stronger one may not.")
    return f"{regime} ({REGIME_WORDS[regime]}): {' '.join(sentences)}"


_WEAK = 0.65


def _strength(row: Metric) -> str:
    value = _value(row)
    if _low(row) <= 0.5:
        # A wide interval is no finding: it must not read as if the attack had been shown to fail.
        if row.high is None or row.high >= _WEAK:
            return "cannot be told from a coin, but the interval is too wide to say that it sees nothing"
        return "sees next to nothing, and cannot be told from a coin"
    if value < _WEAK:
        return "sees next to nothing"
    if value < 0.8:
        return "tells members from non-members, with many errors"
    return "tells members from non-members" + (" almost always" if value >= 0.95 else " mostly")


def _value(row: Metric) -> float:
    return 0.0 if row.value is None else row.value


def _low(row: Metric) -> float:
    return 0.0 if row.low is None else row.low


def _figure(row: Metric, digits: int = 3) -> str:
    if row.value is None:
        return "not resolvable"
    return f"{row.value:.{digits}f} [{row.low:.{digits}f}–{row.high:.{digits}f}]"


def _heading(metric: str) -> str:
    name, at, rate = metric.partition("@fpr=")
    return f"TPR at FPR {float(rate):.3g}" if at else {"auc": "AUC"}.get(name, name.replace("_", " "))

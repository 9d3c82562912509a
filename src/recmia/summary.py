"""Metrics as a table and in plain words."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recmia.attacks import BASELINES, POOL_ATTACKS
from recmia.evaluation import Metric, PromiseCheck
from recmia.game import AS_SERVED, SHARED_PATH

REGIME_WORDS = {
    "popular": "non-members get one popular list",
    "popular-random": "non-members get popular items at random",
    "fold-in": "all served by the same path",
    "trained": "members served by their trained vectors",
    AS_SERVED: "lists from files, however they came about",
}
Grade = Literal["none", "unclear", "slight", "marked", "strong"]
# What it means that a rule which needs no model does as well as an attack.
WITHOUT_A_MODEL = {
    "fold-in": "what shows here shows without an attack.",
    "trained": "what shows here shows without an attack.",
    "popular": "what is measured is the list that non-members are given, not what the model remembers.",
    "popular-random": "what is measured is the list that non-members are given, not what the model remembers.",
    AS_SERVED: "members and others may be given different kinds of lists, or differ in more than their membership.",
}
# Rules that look at the history alone, which no system has a part in.
_OF_THE_HISTORY = ("history-length", "history-popularity", "recency")
# What the table shows; `AuditResult.metrics` has more.
_COLUMNS = ("auc", "tpr@fpr=0.01", "balanced_accuracy", "epsilon")


def section(knowledge: str, regime: str, levels: int) -> str:
    """Name a part of the results; the level of knowledge only where there are several."""
    return regime if levels == 1 else f"{regime}, {knowledge}"


def table(metrics: Sequence[Metric]) -> Table:
    """Lay out the attacks and, dimmed, the baselines of each section, every figure with its interval."""
    first = metrics[0]
    repeated = f"mean over {first.seeds} seeds" if first.seeds > 1 else "one seed"
    repeated += f" with {first.targets} targets each" if first.targets > 1 else ""
    present = {row.metric for row in metrics}
    unresolved = [name for name in _COLUMNS if all(row.value is None for row in metrics if row.metric == name)]
    notes = {f"{_heading(row.metric)}: {row.note}" for row in metrics if row.metric in unresolved}
    notes |= {f"epsilon: {row.note}" for row in metrics if row.metric == "epsilon"}
    out = Table(
        title=f"Can members be told from non-members? {first.n_members} against {first.n_nonmembers} users, "
        f"{repeated}, 95% intervals",
        title_justify="left",
        title_style="bold",
        caption="\n".join(sorted(notes)),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
    )
    names = [name for name in _COLUMNS if name in present and name not in unresolved]
    out.add_column("served and attacked", no_wrap=True)
    for name in names:
        # On a narrow terminal a figure breaks before its interval, never within.
        width = len("[0.123–0.456]") - 2 * (name != "auc")
        out.add_column(_heading(name), justify="right", min_width=None if name == "epsilon" else width)
    by_key = {(row.knowledge, row.regime, row.attack, row.metric): row for row in metrics}
    levels = list(dict.fromkeys(row.knowledge for row in metrics))
    for regime in dict.fromkeys(row.regime for row in metrics):
        for level in levels:
            out.add_section()
            out.add_row(Text(section(level, regime, len(levels)), style="bold"), *[""] * len(names))
            rows = [row for row in metrics if (row.knowledge, row.regime) == (level, regime)]
            for attack in dict.fromkeys(row.attack for row in rows):
                cells = [_cell(by_key[level, regime, attack, name]) for name in names]
                out.add_row(Text(f"  {attack}"), *cells, style="dim" if attack in BASELINES else "")
    return out


def table_text(metrics: Sequence[Metric], width: int = 100) -> str:
    """Return `table` as plain text."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table(metrics))
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def grid_tables(rows: pl.DataFrame, axes: Mapping[str, Sequence[Any]]) -> list[Table]:
    """Lay out the AUC over the swept keys: attacks across for one key, the second key across for two, else a list.

    Parameters
    ----------
    rows : polars.DataFrame
        As of `recmia.sweep.SweepResult`.
    axes : mapping of str to sequence
        The swept keys and their values.
    """
    rows = rows.filter(pl.col("metric") == "auc")
    levels = rows["knowledge"].n_unique()
    keys, tables = list(axes), []
    for (regime, level), part in rows.partition_by("regime", "knowledge", as_dict=True, maintain_order=True).items():
        name = section(str(level), str(regime), levels)
        attacks = [one for one in part["attack"].unique(maintain_order=True) if one not in BASELINES]
        if len(keys) == 2:
            for attack in attacks:
                tables.append(_grid_table(f"{name}: {attack}", part.filter(attack=attack), keys[:1], keys[1]))
        else:
            chosen = part.filter(pl.col("attack").is_in([*attacks, "popular-overlap"]))
            tables.append(_grid_table(name, chosen, keys, "attack"))
    return tables


def _grid_table(title: str, rows: pl.DataFrame, down: list[str], across: str) -> Table:
    out = Table(
        title=f"AUC, {title}", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1)
    )
    columns = rows[across].unique(maintain_order=True).to_list()
    for key in down:
        out.add_column(key)
    for column in columns:
        out.add_column(Text(f"{'' if across == 'attack' else across + ' '}{column}"), justify="right")
    for values, part in rows.partition_by(*down, as_dict=True, maintain_order=True).items():
        found = {row[across]: row for row in part.iter_rows(named=True)}
        cells = [_figure_of(found[one]) if one in found else "failed" for one in columns]
        out.add_row(*(Text(str(value)) for value in values), *cells)
    return out


def _figure_of(row: Mapping[str, Any]) -> str:
    return f"{row['value']:.3f} [{row['low']:.3f}–{row['high']:.3f}]"


def utility_table(rows: pl.DataFrame) -> Table:
    """Lay out what the lists are worth, users across; see `recmia.audit.AuditResult.utilities`."""
    out = Table(
        title="What the lists are worth on held-out interactions, 95% intervals",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
    )
    out.add_column("")
    groups = rows["users"].unique(maintain_order=True).to_list()
    for group in groups:
        out.add_column(group, justify="right")
    for (regime,), part in rows.partition_by("regime", as_dict=True, maintain_order=True).items():
        out.add_section()
        out.add_row(Text(str(regime), style="bold"))
        for (metric,), found in part.partition_by("metric", as_dict=True, maintain_order=True).items():
            by_group = {row["users"]: row for row in found.iter_rows(named=True)}
            out.add_row(Text(f"  {metric}"), *(_figure_of(by_group[group]) for group in groups))
    return out


def defences_table(rows: pl.DataFrame) -> list[Table]:
    """Lay out what defences bring and cost, a table for each regime; see `recmia.defend.DefendResult`."""
    tables = []
    for (regime,), part in rows.partition_by("regime", as_dict=True, maintain_order=True).items():
        out = Table(
            title=f"{regime} ({REGIME_WORDS[str(regime)]}): the strongest attack, and what the lists are worth",
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            padding=(0, 0, 0, 1),
        )
        out.add_column("defence", no_wrap=True)
        for heading in ("AUC", "TPR at FPR 0.01", "NDCG@10", "members / others", "ε promised / shown"):
            out.add_column(heading, justify="right")
        for row in part.iter_rows(named=True):
            out.add_row(
                Text(row["defence"]),
                f"{row['auc']:.3f} [{row['auc_low']:.2f}–{row['auc_high']:.2f}]",
                "–" if row["tpr"] is None else f"{row['tpr']:.2f} [{row['tpr_low']:.2f}–{row['tpr_high']:.2f}]",
                f"{row['ndcg@10']:.3f} [{row['ndcg@10_low']:.2f}–{row['ndcg@10_high']:.2f}]",
                f"{row['ndcg@10_members']:.3f} / {row['ndcg@10_non-members']:.3f}",
                "" if row["promised"] is None else f"{row['promised']:g} / ≥ {row['bound']:.2f}",
                style="bold red" if row["broken"] else "",
            )
        tables.append(out)
    return tables


def comparison_table(rows: pl.DataFrame) -> Table:
    """Lay out a paper's figures beside ours; see `recmia.reproduce.Reproduction.comparison`."""
    out = Table(
        title="AUC of the MLP: the paper and ours, mean and 95% interval over seeds",
        title_justify="left",
        title_style="bold",
        caption="0.857 is the only figure that the paper prints.",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
    )
    for heading in ("LFM", "non-members get", "paper", "ours"):
        out.add_column(heading, justify="left" if heading in ("LFM", "non-members get") else "right")
    for row in rows.iter_rows(named=True):
        paper = "–" if row["paper"] is None else f"{row['paper']:.3f}"
        ours = f"{row['ours']:.3f} [{row['low']:.3f}–{row['high']:.3f}]"
        out.add_row(row["feedback"], Text(row["regime"]), paper, Text(ours))
    return out


def transfer(rows: pl.DataFrame) -> str:
    """Say how attacks fare with shadows of the target's own algorithm, and with others."""
    sentences = []
    aucs = rows.filter(pl.col("metric") == "auc", ~pl.col("attack").is_in(list(BASELINES)))
    for (regime, attack), part in aucs.partition_by("regime", "attack", as_dict=True, maintain_order=True).items():
        by_pair = [(row["target"] == row["shadow"], row["value"]) for row in part.iter_rows(named=True)]
        same, other = ([value for alike, value in by_pair if alike is wanted] for wanted in (True, False))
        if same and other:
            sentences.append(
                f"{regime}, {attack}: mean AUC {sum(same) / len(same):.3f} where the shadows use the target's "
                f"algorithm, {sum(other) / len(other):.3f} where they use another."
            )
    return "\n".join(sentences)


def verdict(metrics: Sequence[Metric], exposures: pl.DataFrame, promises: Sequence[PromiseCheck] = ()) -> str:
    """Say what the figures mean, a paragraph for each section, and one on the users who show most."""
    aucs = [row for row in metrics if row.metric == "auc"]
    levels = list(dict.fromkeys(row.knowledge for row in aucs))
    paragraphs = []
    for regime in dict.fromkeys(row.regime for row in aucs):
        for level in levels:
            rows = [row for row in aucs if (row.knowledge, row.regime) == (level, regime)]
            name = section(level, regime, len(levels))
            paragraphs.append(f"{name} ({REGIME_WORDS[regime]}): {_section_verdict(regime, rows)}")
    return "\n".join([*paragraphs, *_exposed(exposures), *map(str, promises)])


def _section_verdict(regime: str, aucs: Sequence[Metric]) -> str:
    published = max((row for row in aucs if row.attack not in BASELINES and row.attack not in POOL_ATTACKS),
                    key=_value, default=None)  # fmt: skip
    pooled = max((row for row in aucs if row.attack in POOL_ATTACKS), key=_value, default=None)
    rule = max((row for row in aucs if row.attack in BASELINES), key=_value)
    attack = max((row for row in (published, pooled) if row is not None), key=_value, default=None)
    sentences = []
    if published is not None:
        sentences.append(
            f"the published attack ({published.attack}) {_strength(published)} (AUC {_figure(published)})."
        )
    if pooled is not None:
        sentences.append(f"{pooled.attack} {_strength(pooled)} (AUC {_figure(pooled)}).")
    if _low(rule) > 0.5 and (attack is None or _value(rule) >= _value(attack) - 0.02):
        sentences.append(f"A rule that needs no model at all ({rule.attack}) reaches {_figure(rule)}:")
        sentences.append(WITHOUT_A_MODEL[regime])
    elif attack is not None:
        sentences.append(f"The best rule without a model ({rule.attack}) reaches {_figure(rule)}.")
        if _low(attack) > max(0.5, _value(rule)):
            sentences.append(f"{attack.attack} sees more than any such rule: the lists give members away.")
    uneven = uneven_histories(aucs)
    if regime == AS_SERVED and uneven:
        found = ", ".join(f"{row.attack} {_figure(row)}" for row in uneven)
        sentences.append(
            f"Members and others differ in their histories alone ({found}): that is chance if members were drawn by "
            "lot, and else no figure here is the system's alone."
        )
    if regime in (*SHARED_PATH, AS_SERVED) and attack is not None and _value(attack) < _WEAK:
        sentences.append("That an attack fails is no proof of safety: a stronger one may not.")
    return " ".join(sentences)


def uneven_histories(aucs: Sequence[Metric]) -> list[Metric]:
    """The rules by which histories alone tell members from others, which no lot explains."""
    return [row for row in aucs if row.attack in _OF_THE_HISTORY and not _low(row) - 0.01 <= 0.5 <= _high(row) + 0.01]


def _exposed(exposures: pl.DataFrame) -> list[str]:
    """A paragraph on single users, for the attack and the section that name most of them."""
    if exposures.is_empty():
        return []
    users = most_exposing(exposures)
    regime, attack, runs = users.select("regime", "attack", pl.col("n_in") + pl.col("n_out")).row(0)
    named = users.filter(pl.col("identifiable"))
    words = f"single users ({regime}, {attack}, one seed, {runs} targets): "
    if named.is_empty():
        return [words + "none can be named with a 5% share of errors; more targets would show more."]
    most = "; ".join(f"{row['user_id']} ({unusual(row, users)})" for row in named.head(_NAMED).iter_rows(named=True))
    return [
        f"{words}{len(named)} of {len(users)} can be told in from out, each alone, with a 5% share of errors. "
        f"The most exposed: {most}."
    ]


def most_exposing(exposures: pl.DataFrame) -> pl.DataFrame:
    """The users of one seed as the attack and the section see them that name most, the most exposed first.

    Parameters
    ----------
    exposures : polars.DataFrame
        As of `recmia.audit.AuditResult.exposures`, not empty.
    """
    keys = ["regime", "knowledge", "attack"]
    # One seed: a user who is named in any of several is wrongly named in more than the stated share.
    first_seed = exposures.filter(pl.col("seed") == pl.col("seed").first())
    shared = first_seed.filter(pl.col("regime").is_in(SHARED_PATH))
    chosen = shared if len(shared) else first_seed
    best = chosen.group_by(keys, maintain_order=True).agg(pl.col("identifiable").mean(), pl.col("auc").mean())
    regime, level, attack = best.sort("identifiable", "auc", descending=True, maintain_order=True).row(0)[:3]
    users = chosen.filter(regime=regime, knowledge=level, attack=attack)
    return users.sort("identifiable", "low", "auc", "rarity", descending=True, maintain_order=True)


def unusual(user: Mapping[str, Any], users: pl.DataFrame) -> str:
    """What is unusual about a user among the audited ones."""
    words = []
    for column, high, low in (("history_length", "long history", "short history"),
                              ("rarity", "rare taste", "popular taste")):  # fmt: skip
        share = float((users[column] < user[column]).mean())
        if not _USUAL <= share <= 1 - _USUAL:
            words.append(high if share > 0.5 else low)
    return ", ".join(words) or "ordinary in length and taste"


# Users named in the verdict, and the share at either end that counts as unusual.
_NAMED, _USUAL = 5, 0.15
_WEAK = 0.65


def grade(row: Metric) -> Grade:
    """How much an AUC says."""
    value = _value(row)
    if _low(row) <= 0.5:
        # A wide interval is no finding: it must not read as if the attack had been shown to fail.
        return "unclear" if row.high is None or row.high >= _WEAK else "none"
    if value < _WEAK:
        return "slight"
    return "marked" if value < 0.8 else "strong"


def _strength(row: Metric) -> str:
    words: dict[Grade, str] = {
        "none": "sees next to nothing, and cannot be told from a coin",
        "unclear": "cannot be told from a coin, but the interval is too wide to say that it sees nothing",
        "slight": "sees next to nothing",
        "marked": "tells members from non-members, with many errors",
        "strong": "tells members from non-members" + (" almost always" if _value(row) >= 0.95 else " mostly"),
    }
    return words[grade(row)]


def _value(row: Metric) -> float:
    return 0.0 if row.value is None else row.value


def _low(row: Metric) -> float:
    return 0.0 if row.low is None else row.low


def _high(row: Metric) -> float:
    return 1.0 if row.high is None else row.high


def _figure(row: Metric, digits: int = 3) -> str:
    if row.value is None:
        return "not resolvable"
    return f"{row.value:.{digits}f} [{row.low:.{digits}f}–{row.high:.{digits}f}]"


def _cell(row: Metric) -> str:
    if row.metric == "epsilon" and row.value is not None:
        return f"≥ {row.value:.2f}"
    return _figure(row, digits=3 if row.metric == "auc" else 2)


def _heading(metric: str) -> str:
    name, at, rate = metric.partition("@fpr=")
    return f"TPR at FPR {float(rate):.3g}" if at else {"auc": "AUC"}.get(name, name.replace("_", " "))

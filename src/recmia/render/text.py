"""Results as plain text: tables for a terminal, and findings in sentences."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console

from recmia.attacks import RULES, attack_spec
from recmia.metrics import METRICS, Metric
from recmia.render.tables import FigureTable, Row
from recmia.results.audit import AuditResult
from recmia.results.findings import REGIME_WORDS, TOGETHER, Findings, fewest, figure, section_name
from recmia.results.folder import Result
from recmia.results.forget import ForgetResult
from recmia.results.groups import FIGURES, by_group, exposed_interactions
from recmia.results.sweep import SweepResult
from recmia.settings import FilesSettings

# What the table shows; a result has more.
_COLUMNS = ("auc", "tpr@fpr=0.01", "balanced_accuracy", "epsilon")


def plain(words: str) -> str:
    """Return a text without the marks around code."""
    return words.replace("`", "")


def verdict(findings: Findings) -> str:
    """Return what was found: a line in all, a paragraph for each section, lines on users, promises and intervals."""
    lines = [" ".join((f"{findings.label}.", findings.claim, *findings.caveats))]
    lines += [f"{one.name} ({one.about}): {one.text}" for one in findings.sections]
    lines += [one for one in (findings.disclosure, findings.users) if one]
    return plain("\n".join([*lines, *map(str, findings.promises), TOGETHER]))


def metrics_table(metrics: Sequence[Metric], unit: str = "users") -> FigureTable:
    """Return the attacks and, dimmed, the rules that need no model, by section, every figure with its interval."""
    first = metrics[0]
    repeated = f"mean over {first.seeds} seeds" if first.seeds > 1 else "one seed"
    repeated += f" with {first.targets} targets each" if first.targets > 1 else ""
    size = f"{fewest(first)}{first.n_members} against {first.n_nonmembers}"
    present = {row.metric for row in metrics}
    unresolved = [name for name in _COLUMNS if all(row.value is None for row in metrics if row.metric == name)]
    notes = {f"{_heading(row.metric)}: {row.note}" for row in metrics if row.metric in unresolved}
    notes |= notes_of([row for row in metrics if row.metric == "epsilon" and row.note])
    names = [name for name in _COLUMNS if name in present and name not in unresolved]
    by_key = {row.key: row for row in metrics}
    levels = list(dict.fromkeys(row.knowledge for row in metrics))
    shown = []
    for regime in dict.fromkeys(row.regime for row in metrics):
        for level in levels:
            shown.append(Row([section_name(level, regime, len(levels)), ""], style="bold"))
            rows = [row for row in metrics if (row.knowledge, row.regime) == (level, regime)]
            for attack in dict.fromkeys(row.attack for row in rows):
                cells = [cell(by_key.get((level, regime, attack, name))) for name in names]
                shown.append(Row([f"  {attack}", means(attack)], cells, "dim" if attack in RULES else ""))
    return FigureTable(
        title=f"{QUESTIONS[unit]} {size[:1].upper()}{size[1:]} {unit}, {repeated}, 95% intervals",
        labels=["served and attacked", "attacker"],
        columns=[_heading(name) for name in names],
        rows=shown,
        caption="\n".join(sorted(notes)),
    )


def notes_of(rows: Sequence[Metric]) -> set[str]:
    """Return the notes on one metric; where these differ, with the attacks that they are about."""
    attacks: dict[str, list[str]] = {}
    for row in rows:
        attacks.setdefault(row.note, []).append(row.attack)
    if len(attacks) == 1:
        return {f"{_heading(rows[0].metric)}: {note}" for note in attacks}
    return {f"{_heading(rows[0].metric)} of {', '.join(dict.fromkeys(of))}: {note}" for note, of in attacks.items()}


# What is asked in an audit of users, and of interactions.
QUESTIONS: Mapping[str, str] = {
    "users": "Can members be distinguished from non-members?",
    "interactions": "Can interactions that were trained on be distinguished from others of the same people?",
}
# What a grouping is called.
GROUPING_WORDS: Mapping[str, str] = {
    "history_length": "length of the history",
    "rarity": "rarity of taste",
    "popularity": "popularity of the item",
    "terms": "terms of the item",
}


def groups_table(result: AuditResult, by: Sequence[str] = ()) -> FigureTable:
    """Return the figures of the strongest attack of each section by group; see `recmia.results.groups`."""
    shown, before = [], ("", "", "")
    rows = by_group(result, by)
    for at in range(0, len(rows), len(FIGURES)):
        grouping, group, first = rows[at]
        section = (first.regime, first.attack, grouping)
        if section != before:
            shown.append(Row([f"{first.attack}, by {GROUPING_WORDS.get(grouping, grouping)}", ""], style="bold"))
            before = section
        cells = [cell(row) for _, _, row in rows[at : at + len(FIGURES)]]
        shown.append(Row([f"  {group}", f"{first.n_members:,} / {first.n_nonmembers:,}"], cells))
    return FigureTable(
        "By group, 95% intervals that hold together for the groups of a kind",
        ["group", "in / out"],
        [_heading(name) for name in FIGURES],
        shown,
    )


def exposed_table(result: AuditResult) -> FigureTable | None:
    """Return the most exposed interactions, one a user; None for an audit of users."""
    rows = exposed_interactions(result)
    if not rows:
        return None
    shown = [
        Row([str(row["user_id"]), row["title"]], [row["terms"] or "–", f"{row['share']:.2g}", row["reason"]])
        for row in rows
    ]
    return FigureTable(
        f"The interactions that {rows[0]['attack']} is surest of, one for each person",
        ["user", "item"],
        ["terms", "share of others as high", "why"],
        shown,
    )


def means(attack: str) -> str:
    """Return what an attacker does: asks the system, only looks at lists, or applies a rule that needs no model."""
    return "rule" if attack in RULES else "asks" if attack_spec(attack).asks else "looks"


def as_text(*tables: FigureTable, width: int = 100) -> str:
    """Return tables as plain text."""
    console = Console(emoji=False, file=io.StringIO(), width=width, color_system=None)
    for table in tables:
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def as_html(*tables: FigureTable, width: int = 110) -> str:
    """Return tables as HTML, for a notebook."""
    console = Console(emoji=False, file=io.StringIO(), width=width, record=True, force_jupyter=False)
    for table in tables:
        console.print(table)
    return console.export_html(inline_styles=True, code_format=_HTML)


# Rich's own template is a whole page; a notebook wants a piece of one.
_HTML = '<pre style="white-space:pre;overflow-x:auto;line-height:normal;font-family:monospace">{code}</pre>'


def grid_tables(rows: pl.DataFrame, axes: Mapping[str, Sequence[Any]]) -> list[FigureTable]:
    """Return the AUC over the swept keys: attacks across for one key, the second key across for two, else a list.

    Parameters
    ----------
    rows : polars.DataFrame
        As of `recmia.SweepResult`.
    axes : mapping of str to sequence
        The swept keys and their values.
    """
    rows = rows.filter(pl.col("metric") == "auc")
    levels = rows["knowledge"].n_unique()
    keys, tables = list(axes), []
    for (regime, level), part in rows.partition_by("regime", "knowledge", as_dict=True, maintain_order=True).items():
        name = section_name(str(level), str(regime), levels)
        attacks = [one for one in part["attack"].unique(maintain_order=True) if one not in RULES]
        if len(keys) == 2:
            for attack in attacks:
                tables.append(_grid_table(f"{name}: {attack}", part.filter(attack=attack), keys[:1], keys[1]))
        else:
            chosen = part.filter(pl.col("attack").is_in([*attacks, "popular-overlap"]))
            tables.append(_grid_table(name, chosen, keys, "attack"))
    return tables


def _grid_table(title: str, rows: pl.DataFrame, down: list[str], across: str) -> FigureTable:
    columns = rows[across].unique(maintain_order=True).to_list()
    shown = []
    for values, part in rows.partition_by(*down, as_dict=True, maintain_order=True).items():
        found = {row[across]: row for row in part.iter_rows(named=True)}
        cells = [with_interval(found[one]) if one in found else "failed" for one in columns]
        shown.append(Row([str(value) for value in values], cells))
    prefix = "" if across == "attack" else f"{across} "
    return FigureTable(f"AUC, {title}", down, [f"{prefix}{column}" for column in columns], shown)


def with_interval(row: Mapping[str, Any]) -> str:
    """Return the value of a row with its interval, or a dash where it has none."""
    return "–" if row["value"] is None else f"{row['value']:.3f} [{row['low']:.3f}–{row['high']:.3f}]"


def utility_table(rows: pl.DataFrame) -> FigureTable:
    """Return the recommendation quality by regime and metric, groups of users across; see `recmia.AuditResult`."""
    groups, parts = by_users(rows, "regime")
    shown = _sections({str(regime): found for regime, found in parts.items()})
    return FigureTable("Recommendation quality on held-out interactions, 95% intervals", ["users"], groups, shown)


def disclosure_table(rows: pl.DataFrame) -> FigureTable:
    """Return what answers give away of the rest of a history; see `recmia.AuditResult.disclosures`."""
    groups, parts = by_users(rows, "part")
    shown = _sections({PARTS[str(part)]: found for part, found in parts.items()})
    return FigureTable("What answers to queries give away, 95% intervals", ["of the history"], groups, shown)


def forget_table(result: ForgetResult) -> FigureTable:
    """Return the groups of a test of forgetting: how many, and their AUC against users who were never members."""
    return FigureTable(
        f"Do deleted users look like users who were never in the training data? {result.attack}, 95% intervals",
        ["users"],
        FORGET_COLUMNS,
        [Row([name], cells) for name, cells in forget_rows(result)],
    )


FORGET_COLUMNS = ("number", "median score", "AUC against never-members", "individually recognised")


def forget_rows(result: ForgetResult) -> list[tuple[str, list[str]]]:
    """Return the name of each group of a test of forgetting, and its figures for `FORGET_COLUMNS`."""
    found = result.found
    scores = result.audit.scores.filter(attack=result.attack, side="target")
    members, never = scores.filter(member=True), scores.filter(member=False)
    identified = result.audit.identified.filter("identified", attack=result.attack)
    rows = []
    for name, part, area, recognised in (
        ("members (positive control)", members, found.control, f"{len(identified):,}"),
        ("deleted", result.users, found.against_never, f"{int(found.recognised.sum()):,}"),
        ("never members", never, None, "–"),
    ):
        figures = {} if area is None else {"value": area.value, "low": area.low, "high": area.high}
        cell_of = with_interval(figures) if figures else "0.500"
        rows.append((name, [f"{len(part):,}", f"{float(np.median(part['score'])):.3g}", cell_of, recognised]))
    return rows


def by_users(rows: pl.DataFrame, section: str) -> tuple[list[str], dict[object, list[list[str]]]]:
    """Return the groups of users, and for each section its metrics, each with the figures of the groups.

    Parameters
    ----------
    rows : polars.DataFrame
        Columns `section`, metric, users, value, low, high.
    section : str
    """
    groups = rows["users"].unique(maintain_order=True).to_list()
    parts: dict[object, list[list[str]]] = {}
    for (name,), part in rows.partition_by(section, as_dict=True, maintain_order=True).items():
        parts[name] = []
        for (metric,), found in part.partition_by("metric", as_dict=True, maintain_order=True).items():
            by_group = {row["users"]: row for row in found.iter_rows(named=True)}
            cells = [with_interval(by_group[group]) if group in by_group else "–" for group in groups]
            parts[name].append([str(metric), *cells])
    return groups, parts


def _sections(parts: Mapping[str, list[list[str]]]) -> list[Row]:
    shown = []
    for name, found in parts.items():
        shown.append(Row([name], style="bold"))
        shown += [Row([f"  {metric}"], cells) for metric, *cells in found]
    return shown


# The parts of a history that a query does not ask with.
PARTS = {
    "hidden": "the part that was not asked with",
    "next": "the next item",
    "unknown": "the part that the attacker does not know",
}


def defences_table(rows: pl.DataFrame) -> list[FigureTable]:
    """Return leakage and recommendation quality by defence, a table for each regime; see `recmia.DefendResult`."""
    tables = []
    for (regime,), part in rows.partition_by("regime", as_dict=True, maintain_order=True).items():
        shown = [
            Row(
                [row["defence"]],
                [
                    f"{row['auc']:.3f} [{row['auc_low']:.2f}–{row['auc_high']:.2f}]",
                    "–" if row["tpr"] is None else f"{row['tpr']:.2f} [{row['tpr_low']:.2f}–{row['tpr_high']:.2f}]",
                    f"{row['ndcg@10']:.3f} [{row['ndcg@10_low']:.2f}–{row['ndcg@10_high']:.2f}]",
                    of_both(row),
                    "" if row["promised"] is None else f"{row['promised']:g} / ≥ {row['bound']:.2f}",
                ],
                "bold red" if row["broken"] else "",
            )
            for row in part.iter_rows(named=True)
        ]
        title = f"{regime} ({REGIME_WORDS[str(regime)]}): the strongest attack, and the recommendation quality"
        columns = ["AUC", "TPR at FPR 0.01", "NDCG@10", "members / others", "promised ε / bound"]
        tables.append(FigureTable(title, ["defence"], columns, shown))
    return tables


def of_both(row: Mapping[str, Any]) -> str:
    """Return the quality for members and for others; of interactions there are no such groups."""
    found = [row.get(f"ndcg@10_{users}") for users in ("members", "non-members")]
    return " / ".join("–" if value is None else f"{value:.3f}" for value in found)


def comparison_table(rows: pl.DataFrame, source: str) -> FigureTable:
    """Return a paper's figures beside ours, of this data; see `recmia.reproduce.Reproduction.comparison`."""
    shown = [
        Row(
            [row["feedback"], row["regime"]],
            [
                "–" if row["paper"] is None else f"{row['paper']:.3f}",
                f"{row['ours']:.3f} [{row['low']:.3f}–{row['high']:.3f}]",
            ],
        )
        for row in rows.iter_rows(named=True)
    ]
    return FigureTable(
        f"LFM on {source}\nAUC of the MLP: the paper and ours, mean and 95% interval over seeds",
        ["LFM", "non-members get"],
        ["paper", "ours"],
        shown,
        "0.857 is the only figure that the paper prints.",
    )


def transfer(rows: pl.DataFrame) -> str:
    """Compare attacks with shadows of the target's own algorithm and with others; empty unless there are both."""
    sentences = []
    aucs = rows.filter(pl.col("metric") == "auc", ~pl.col("attack").is_in(list(RULES)))
    for (regime, attack), part in aucs.partition_by("regime", "attack", as_dict=True, maintain_order=True).items():
        by_pair = [(row["recommender"] == row["shadow"], row["value"]) for row in part.iter_rows(named=True)]
        same, other = ([value for alike, value in by_pair if alike is wanted] for wanted in (True, False))
        if same and other:
            sentences.append(
                f"{regime}, {attack}: mean AUC {sum(same) / len(same):.3f} where the shadows use the target's "
                f"algorithm, {sum(other) / len(other):.3f} where they use another."
            )
    return "\n".join(sentences)


def cell(row: Metric | None) -> str:
    """Return a figure as the cell of a table: a bound as such, a dash where nothing is measured."""
    if row is None:
        return "–"
    spec = METRICS[row.metric]
    if spec.is_bound and row.value is not None:
        return f"≥ {row.value:.{spec.digits}f}"
    return figure(row, spec.digits)


def _heading(metric: str) -> str:
    return METRICS[metric].heading


def result_tables(result: Result) -> list[FigureTable]:
    """Return the tables of a result of any kind; each names the recommender and the data, and can stand alone."""
    about = subject(result)
    return [replace(table, title=f"{about}\n{table.title}") for table in _tables(result)]


def subject(result: Result) -> str:
    """Return what a result is about: the audited system, or all that were swept, and the data.

    >>> from recmia.settings import AuditSettings
    >>> settings = AuditSettings.parse({"recommender": "als", "defence": "shorter-lists=10", "dataset": "log.csv"})
    >>> subject(AuditResult(settings, pl.DataFrame(), pl.DataFrame(), {}))
    'als with shorter-lists=10 on log.csv'
    """
    whole: Any = getattr(result, "sweep", getattr(result, "audit", result))
    settings, axes = whole.settings, getattr(whole, "axes", {})
    defence = "" if isinstance(settings, FilesSettings) else settings.system.defence
    swept = [
        ", ".join(axes.get(key, (value,)))
        for key, value in (("recommender", settings.target), ("dataset", settings.source))
    ]
    return f"{swept[0]}{f' with {defence}' if defence else ''} on {swept[1]}"


def _tables(result: Result) -> list[FigureTable]:
    if isinstance(result, ForgetResult):
        return [forget_table(result)]
    if isinstance(result, AuditResult):
        tables = [metrics_table(result.metrics, result.settings.unit)]
        chosen = result.settings.groups.group_by
        if chosen or result.settings.unit == "interactions":
            tables.append(groups_table(result, chosen))
            exposed = exposed_table(result)
            tables += [] if exposed is None else [exposed]
        tables += [] if result.disclosure.is_empty() else [disclosure_table(result.disclosures)]
        return tables + ([] if result.utility.is_empty() else [utility_table(result.utilities)])
    if isinstance(result, SweepResult):
        return grid_tables(result.table, result.axes)
    return defences_table(result.table)


def result_words(result: Result) -> str:
    """Return the findings of a result of any kind, in plain text; empty where the tables say everything."""
    if isinstance(result, ForgetResult):
        return plain("\n".join((f"{result.label}. {result.claim}", *result.details())))
    if isinstance(result, AuditResult):
        return verdict(result.findings)
    if isinstance(result, SweepResult):
        return transfer(result.table) if set(result.axes) == {"recommender", "shadow"} else ""
    return result.advice


def result_text(result: Result) -> str:
    """Return tables and words of a result, as plain text."""
    return "\n".join(part for part in (as_text(*result_tables(result)), result_words(result)) if part)


def result_html(result: Result) -> str:
    """Return tables and words of a result, as a piece of HTML."""
    words = "".join(f"<p>{escape(line)}</p>" for line in result_words(result).splitlines())
    return f"{as_html(*result_tables(result))}{words}"

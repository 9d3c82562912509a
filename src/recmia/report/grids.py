"""Chapters about many settings: sweeps, and what defences bring and cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recmia import summary
from recmia.attacks import BASELINES
from recmia.defend import NONE, POPULARITY, DefendResult
from recmia.evaluation import PromiseCheck
from recmia.report import charts, words
from recmia.report.blocks import (
    Chapter,
    Control,
    Figure,
    Part,
    Row,
    Table,
    data_name,
    digits,
    provenance_part,
    row_kind,
)
from recmia.report.figures import defence_family
from recmia.sweep import SweepResult


def sweep_chapter(folder: Path, result: SweepResult) -> Chapter:
    """What shows in each setting of a grid."""
    found = words.sweep_findings(result)
    grade, headline = words.sweep_headline(found)
    config, data = result.config, result.provenance["data"]
    cells = math.prod(len(values) for values in result.axes.values())
    grid = "; ".join(f"`{key}` = {', '.join(map(str, values))}" for key, values in result.axes.items())
    first = result.table.row(0, named=True)
    failed = f" {len(result.errors)} of them failed." if result.errors else ""
    levels = result.table["knowledge"].unique(maintain_order=True).to_list()
    target = "" if "target" in result.axes else f" `{config.target}`"
    return Chapter(
        title=f"{' × '.join(result.axes)} on {data_name(config)}",
        folder=str(folder),
        grade=grade,
        headline=headline,
        findings=found,
        answers=[
            (
                "What was tested",
                [f"The recommender{target} on {data['source']}, in {cells} settings: {grid}.{failed}"],
            ),
            ("What the attacker knows", [words.attackers(levels)]),
            (
                "How sure this is",
                [
                    f"Every figure has a 95% interval, over {first['seeds']} independent repetitions, with "
                    f"{first['n_members']:,} members and {first['n_nonmembers']:,} non-members each. The strongest of "
                    "many settings is a little stronger by chance alone; repeat it with another `--seed` before "
                    "relying on it.",
                    "An audit shows what these attacks see. That they see little is no proof that a better one would.",
                ],
            ),
            ("Who is exposed most", ["Not known: a sweep keeps no scores of single people; an audit does."]),
        ],
        advice=words.sweep_advice(result),
        parts=[_grid_part(result), provenance_part(result.config, result.provenance)],
    )  # fmt: skip


def _grid_part(result: SweepResult) -> Part:
    table = result.table.filter(metric="auc")
    levels = table["knowledge"].n_unique()
    series = table["attack"].unique(maintain_order=True).to_list()
    keys = list(result.axes)
    attacks = [name for name in series if name not in BASELINES] or ["shared-list"]
    figures, rows = [], []
    for (regime, level), part in table.partition_by("regime", "knowledge", as_dict=True, maintain_order=True).items():
        name = summary.section(str(level), str(regime), levels)
        title = f"{name}: {summary.REGIME_WORDS.get(str(regime), '')}"
        words_ = f"The AUC in {name} over {' and '.join(keys)}. The table below holds the figures."
        lines = part.select(*dict.fromkeys([*keys, "attack", "value", "low", "high"])).to_dicts()
        if len(keys) == 1:
            spec = charts.sweep_lines(keys[0], result.axes[keys[0]], series)
            values = [_point(row, series=row["attack"], x=row[keys[0]]) for row in lines]
            figures.append(Figure(title, words_, {"": spec}, {"": {"values": values}}))
        elif len(keys) == 2:
            data = {}
            for attack in attacks:
                cells = {(row[keys[0]], row[keys[1]]): row for row in lines if row["attack"] == attack}
                data[attack] = {
                    "values": [
                        _point(cells.get((down, across), _FAILED), down=str(down), across=str(across))
                        for down in result.axes[keys[0]]
                        for across in result.axes[keys[1]]
                    ]
                }
            figures.append(Figure(title, words_, {"": charts.heat_map(keys[0], keys[1], result.axes)}, data))
        rows.append(Row([name], "group"))
        rows += [
            Row(
                [*(str(row[key]) for key in keys if key != "attack"), row["attack"], _figure_of(row)],
                row_kind(row["attack"]),
            )
            for row in lines
        ]
    columns = [*(key for key in keys if key != "attack"), "Attack", "AUC"]
    tables = [Table("AUC in every setting", columns, rows, open=len(keys) > 2)]
    if result.errors:
        failed = [Row([*(str(one[key]) for key in keys), one["error"]]) for one in result.errors]
        tables.insert(0, Table("Settings that failed", [*keys, "Why"], failed, open=True))
    chosen = charts.styles(series)
    controls = []
    if len(keys) == 1:
        options = [(name, name, chosen[name][0], " ".join(map(str, chosen[name][1]))) for name in series]
        controls = [Control("shown", "Attacks; grey lines need no model", options)]
    elif len(keys) == 2 and len(attacks) > 1:
        controls = [Control("pick", "Attack", [(name, name, "", "") for name in attacks], attacks[-1])]
    text = {
        1: "Each line is one attack over the swept setting; bands are 95% intervals. The dotted line is a coin.",
        2: "Each tile is one pair of settings, and the AUC in it; the stronger the colour, the more shows.",
    }
    return Part(
        "What leaks, by setting",
        words=[text.get(len(keys), "With three settings or more, the table says more than a figure.")],
        controls=controls,
        figures=figures,
        tables=tables,
    )


def defend_chapter(folder: Path, result: DefendResult) -> Chapter:
    """What defences bring, and what they cost."""
    found, table = result.sweep, result.table
    config, data = found.config, found.provenance["data"]
    grade, chip, headline, more = words.defend_headline(result)
    levels = found.table["knowledge"].unique(maintain_order=True).to_list()
    first = found.table.row(0, named=True)
    tried = [name for name in table["defence"].unique(maintain_order=True) if name not in (NONE, POPULARITY)]
    failed = f" {len(found.errors)} failed." if found.errors else ""
    promised = [
        str(PromiseCheck(**{key: value for key, value in row.items() if key in PromiseCheck.__dataclass_fields__}))
        for row in found.promises.iter_rows(named=True)
    ]
    return Chapter(
        title=f"Defences of {config.target} on {data_name(config)}",
        folder=str(folder),
        grade=grade,
        headline=headline,
        more=more,
        chip=chip,
        findings=words.defend_findings(result),
        answers=[
            (
                "What was tested",
                [
                    f"The recommender `{config.target}` on {data['source']}, serving lists of {config.k}: as it is, "
                    f"with {len(tried)} settings of defences, and beside popular lists for all.{failed}",
                    f"What lists are worth is measured on {config.held_out:.0%} of each user's interactions, which "
                    "nobody saw: NDCG@10, higher is better.",
                ],
            ),
            ("What the attacker knows", [words.attackers(levels), "It knows the defence, and trains with it."]),
            (
                "How sure this is",
                [
                    f"Every figure has a 95% interval, over {first['seeds']} independent repetitions, with "
                    f"{first['n_members']:,} members and {first['n_nonmembers']:,} non-members each. A defence holds, "
                    f"here, where the upper end of the interval of every attack stays under {result.level:g}.",
                    "A better attack may see more; a promise of differential privacy holds against all of them, if it "
                    "is kept.",
                ],
            ),
            *([("What is promised", promised)] if promised else []),
            ("Who is exposed most", ["Not known: a comparison keeps no scores of single people; an audit does."]),
        ],
        advice=words.defend_advice(result, f"{folder}/config.toml"),
        parts=[_frontier(result), provenance_part(config, found.provenance)],
    )


def _frontier(result: DefendResult) -> Part:
    table = result.table
    families = list(dict.fromkeys(defence_family(name) for name in table["defence"]))
    chosen = charts.defence_styles(families)
    views = {
        "auc": ("AUC", "AUC of the strongest attack", result.level),
        "tpr": ("Members found", "Members found at an FPR of 1%", 0.01),
    }
    views = {measure: view for measure, view in views.items() if table[measure].is_not_null().any()}
    figures, rows = [], []
    for regime in table["regime"].unique(maintain_order=True):
        part = table.filter(regime=regime)
        ends = [f"{key}{end}" for key in ("auc", "tpr", "ndcg@10") for end in ("", "_low", "_high")]
        points = [
            {"defence": row["defence"], "series": defence_family(row["defence"])}
            | {end.replace("ndcg@10", "worth"): digits(row[end]) for end in ends}
            for row in part.iter_rows(named=True)
        ]
        figures.append(
            Figure(
                title=f"{regime}: {summary.REGIME_WORDS.get(regime, '')}",
                alt=f"The strongest attack over the worth of the lists in {regime}, one point for each defence; best "
                "is low and to the right. The table below holds the figures.",
                specs={measure: charts.frontier(families, measure, *views[measure][1:]) for measure in views},
                data={"": {"values": points}},
            )
        )
        rows.append(Row([regime], "group"))
        rows += [_defence_row(row, result.level) for row in part.iter_rows(named=True)]
    tables = [
        Table("The strongest attack, and what the lists are worth",
              ["Defence", "AUC", "TPR at FPR 0.01", "NDCG@10", "Members / others", "ε promised / shown",
               f"AUC under {result.level:g}"], rows, open=True)
    ]  # fmt: skip
    if result.sweep.errors:
        failed = [Row([one["defence"], one["error"]]) for one in result.sweep.errors]
        tables.append(Table("Defences that failed", ["Defence", "Why"], failed, open=True, prose=True))
    legend = [(name, name, chosen[name][0], " ".join(map(str, chosen[name][1]))) for name in families]
    return Part(
        "What defences bring, and what they cost",
        words=[
            "Each point is one setting: the lower, the less an attack sees; the farther to the right, the more the "
            "lists are worth. Settings of one defence are joined. Bars are 95% intervals."
        ],
        controls=[
            Control("view", "Measured by", [(measure, view[0], "", "") for measure, view in views.items()], "auc"),
            Control("shown", "Defences", legend),
        ],
        figures=figures,
        tables=tables,
        texts=[("The advice in the words of the command line", result.advice)],
    )


def _defence_row(row: Mapping[str, Any], level: float) -> Row:
    def figure(name: str, form: str) -> str:
        value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
        return "not resolvable" if value is None else f"{value:{form}} [{low:{form}}–{high:{form}}]"

    promise = "" if row["promised"] is None else f"{row['promised']:g} / ≥ {row['bound']:.2f}"
    worth = f"{row['ndcg@10_members']:.3f} / {row['ndcg@10_non-members']:.3f}"
    holds = "promise broken" if row["broken"] else "yes" if row["auc_high"] < level else "no"
    cells = [figure("auc", ".3f"), figure("tpr", ".2f"), figure("ndcg@10", ".3f"), worth, promise, holds]
    return Row([row["defence"], *cells], "dim" if row["defence"] in (NONE, POPULARITY) else "")


_FAILED = {"value": None, "low": None, "high": None}


def _figure_of(row: Mapping[str, Any]) -> str:
    return "–" if row["value"] is None else f"{row['value']:.3f} [{row['low']:.3f}–{row['high']:.3f}]"


def _point(row: Mapping[str, Any], **where: Any) -> dict[str, Any]:
    return {**where, **{key: digits(row[key]) for key in ("value", "low", "high")}}

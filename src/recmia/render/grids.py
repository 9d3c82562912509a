"""Chapters about many settings: sweeps, and comparisons of defences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recmia.attacks import RULES
from recmia.render import answers, charts, words
from recmia.render.blocks import (
    Chapter,
    Control,
    Figure,
    Part,
    Row,
    Table,
    data_name,
    legend_options,
    provenance_part,
    row_kind,
)
from recmia.render.style import defence_family
from recmia.render.text import of_both, transfer, with_interval
from recmia.results.defend import NONE, POPULARITY, DefendResult
from recmia.results.findings import REGIME_WORDS, as_served_first, section_name
from recmia.results.sweep import SweepResult


def sweep_chapter(folder: Path, result: SweepResult) -> Chapter:
    """Return the chapter of a sweep."""
    found = words.sweep_findings(result)
    cards, asides = answers.cards(found, told=True)
    grade, headline = words.sweep_headline(result)
    settings, data = result.settings, result.provenance["data"]
    cells = math.prod(len(values) for values in result.axes.values())
    grid = "; ".join(f"`{key}` = {', '.join(map(str, values))}" for key, values in result.axes.items())
    first = result.table.row(0, named=True)
    failed = f" {len(result.errors)} of them failed." if result.errors else ""
    levels = result.table["knowledge"].unique(maintain_order=True).to_list()
    regimes = result.table["regime"].unique(maintain_order=True).to_list()
    about, target = ("", "") if "recommender" in result.axes else (f"{settings.target} on ", f" `{settings.target}`")
    transferred = transfer(result.table).splitlines() if set(result.axes) == {"recommender", "shadow"} else []
    attacks = result.table["attack"].unique(maintain_order=True).to_list()
    return Chapter(
        title=f"Sweep over {' × '.join(result.axes)}: {about}{data_name(settings)}",
        folder=str(folder),
        grade=grade,
        headline=headline,
        extent=answers.sweep_extent(found, settings.unit),
        how="How bad is it, where most is found?",
        cards=cards,
        asides=asides,
        answers=[
            (
                "What was tested",
                [
                    f"The recommender{target} on {data['source']}, in {cells} settings: {grid}.{failed}",
                    words.regimes(regimes),
                ],
            ),
            ("What the attacker knows", [words.attackers(levels)]),
            ("Which attacks were run", [words.attacks_run(attacks)]),
            (
                "How certain the results are",
                [
                    f"{words.intervals(first)} The highest of many figures is too high by chance alone; repeat that "
                    "setting with another `--seed` before relying on it.",
                    words.NO_PROOF,
                ],
            ),
            *([("Do the attacks transfer between algorithms?", transferred)] if transferred else []),
            ("Who is exposed most", ["Not known: a sweep keeps no scores of single people; an audit does."]),
        ],
        advice=answers.sweep_advice(result, f"{folder}/config.toml"),
        parts=[_grid_part(result), provenance_part(result.settings, result.provenance)],
    )  # fmt: skip


def _grid_part(result: SweepResult) -> Part:
    table = result.table.filter(metric="auc")
    levels = table["knowledge"].n_unique()
    series = table["attack"].unique(maintain_order=True).to_list()
    keys = list(result.axes)
    attacks = [name for name in series if name not in RULES] or series[:1]
    lowest = min(charts.lows_of(table.iter_rows(named=True), "attack", RULES), default=1.0)
    drawn, rows = [], []
    for (regime, level), part in table.partition_by("regime", "knowledge", as_dict=True, maintain_order=True).items():
        name = section_name(str(level), str(regime), levels)
        title = f"{name}: {REGIME_WORDS.get(str(regime), '')}"
        alt = f"The AUC in {name} over {' and '.join(keys)}. The table below holds the figures."
        if len(keys) == 1:
            chart = charts.sweep_lines(part, keys[0], result.axes[keys[0]], series=series, rules=RULES, lowest=lowest)
            drawn.append(Figure.of(title, alt, views={"": chart}))
        elif len(keys) == 2:
            own = [one for one in attacks if one in part["attack"]]
            maps = {one: charts.heat_map(part.filter(attack=one), keys[0], keys[1], result.axes) for one in own}
            drawn.append(Figure.of(title, alt, picks=maps))
        rows.append(Row([name], "group"))
        rows += [
            Row([*(str(row[key]) for key in keys if key != "attack"), row["attack"], with_interval(row)],
                row_kind(row["attack"]))
            for row in part.iter_rows(named=True)
        ]  # fmt: skip
    columns = [*(key for key in keys if key != "attack"), "Attack", "AUC"]
    tables = [Table("AUC in every setting", columns, rows, open=len(keys) > 2)]
    if result.errors:
        failed = [Row([*(str(one[key]) for key in keys), one["error"]]) for one in result.errors]
        tables.insert(0, Table("Settings that failed", [*keys, "Why"], failed, open=True))
    controls = []
    if len(keys) == 1:
        controls = [Control("shown", "Attacks; thin grey lines need no model", legend_options(series, RULES))]
    elif len(keys) == 2 and len(attacks) > 1:
        controls = [Control("pick", "Attack", [(name, name, "", "") for name in attacks], attacks[-1])]
    text = {
        1: "Each line is one attack over the swept setting; bands are 95% intervals. The dotted line is chance.",
        2: "Each tile shows the AUC for one pair of settings; the stronger the colour, the farther it is from chance.",
    }
    return Part(
        "What leaks, by setting",
        words=[text.get(len(keys), "With three settings or more there is no figure; see the table.")],
        controls=controls,
        figures=drawn,
        tables=tables,
    )


def defend_chapter(folder: Path, result: DefendResult) -> Chapter:
    """Return the chapter of a comparison of defences."""
    found, table = result.sweep, result.table
    settings, data = found.settings, found.provenance["data"]
    grade, chip, headline, more = words.defend_headline(result)
    undefended = words.defend_findings(result)
    cards, asides = answers.cards(undefended, told=True)
    levels = found.table["knowledge"].unique(maintain_order=True).to_list()
    first = found.table.row(0, named=True)
    regimes = table["regime"].unique(maintain_order=True).to_list()
    attacks = found.table["attack"].unique(maintain_order=True).to_list()
    tried = [name for name in table["defence"].unique(maintain_order=True) if name not in (NONE, POPULARITY)]
    failed = f" {len(found.errors)} failed." if found.errors else ""
    promised = [str(promise) for promise in result.promises]
    return Chapter(
        title=f"Defences of {settings.target} on {data_name(settings)}",
        folder=str(folder),
        grade=grade,
        headline=headline,
        more=more,
        chip=chip,
        question="Can it be defended?",
        how="How bad is it without a defence?",
        graded=False,
        extent=answers.defend_extent(result, undefended),
        cards=cards,
        asides=asides,
        answers=[
            (
                "What was tested",
                [
                    f"The recommender `{settings.target}` on {data['source']}, serving lists of {settings.k}: without "
                    f"a defence (`{NONE}`), with {len(tried)} settings of defences, and replaced by popular lists for "
                    f"everyone (`{POPULARITY}`).{failed}",
                    words.regimes(regimes),
                    "Recommendation quality is the NDCG@10 (higher is better) on the "
                    f"{settings.game.held_out:.0%} of each user's interactions that were held out from training and "
                    "from the attacker.",
                ],
            ),
            (
                "What the attacker knows",
                [words.attackers(levels), "The attacker also knows the defence, and trains its own systems with it."],
            ),
            ("Which attacks were run", [words.attacks_run(attacks)]),
            (
                "How certain the results are",
                [
                    f"{words.intervals(first)} A defence is said to hold where the interval of every attack lies "
                    f"entirely under an AUC of {result.level:g}.",
                    "A better attack may find more. Only a guarantee of differential privacy holds against every "
                    "attack, provided that the system fulfils it.",
                ],
            ),
            *([("What the defences promise", promised)] if promised else []),
            ("Who is exposed most", ["Not known: a comparison keeps no scores of single people; an audit does."]),
        ],
        advice=[
            *answers.defend_advice(result, undefended, f"{folder}/config.toml"),
            *([result.not_measured] if result.not_measured else []),
        ],
        parts=[_frontier(result), provenance_part(settings, found.provenance)],
    )


def _frontier(result: DefendResult) -> Part:
    table = result.table
    families = list(dict.fromkeys(defence_family(name) for name in table["defence"]))
    views = {"auc": "AUC", "tpr": "Members found"}
    views = {measure: label for measure, label in views.items() if table[measure].is_not_null().any()}
    drawn, rows = [], []
    for regime in as_served_first(table["regime"]):
        part = table.filter(regime=regime)
        by_measure = {
            measure: charts.frontier(part, measure, result.level, families=families)  # type: ignore[arg-type]
            for measure in views
        }
        drawn.append(
            Figure.of(
                f"{regime}: {REGIME_WORDS.get(regime, '')}",
                f"The strongest attack over the recommendation quality in {regime}, one point for each defence; best "
                "is low and to the right. The table below holds the figures.",
                views=by_measure,
            )
        )
        rows.append(Row([f"{regime}: {REGIME_WORDS.get(regime, '')}"], "group"))
        rows += [_defence_row(row, result.level) for row in part.iter_rows(named=True)]
    tables = [
        Table("The strongest attack, and the recommendation quality",
              ["Defence", "AUC", "TPR at FPR 0.01", "NDCG@10", "Members / others",
               "Promised ε / bound", f"AUC under {result.level:g}"], rows, open=True)
    ]  # fmt: skip
    if result.sweep.errors:
        failed = [Row([one["defence"], one["error"]]) for one in result.sweep.errors]
        tables.append(Table("Defences that failed", ["Defence", "Why"], failed, open=True, prose=True))
    return Part(
        "Leakage and recommendation quality",
        words=[
            "Each point is one setting of a defence. Lower is better: the attack finds less. Farther right is better: "
            "the recommendations are of higher quality. Settings of the same defence are joined by a line; numbers are "
            "their strengths. Bars are 95% intervals. The dashed line is the AUC to stay under."
        ],
        controls=[
            Control("view", "Measured by", [(measure, label, "", "") for measure, label in views.items()], "auc"),
            Control("shown", "Defences", legend_options(families)),
        ],
        figures=drawn,
        tables=tables,
        texts=[("The advice as plain text, as the command line prints it", result.advice)],
    )


def _defence_row(row: Mapping[str, Any], level: float) -> Row:
    def figure(name: str, form: str) -> str:
        value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
        return "not resolvable" if value is None else f"{value:{form}} [{low:{form}}–{high:{form}}]"

    promise = "" if row["promised"] is None else f"{row['promised']:g} / ≥ {row['bound']:.2f}"
    holds = "promise broken" if row["broken"] else "yes" if row["auc_high"] < level else "no"
    cells = [figure("auc", ".3f"), figure("tpr", ".2f"), figure("ndcg@10", ".3f"), of_both(row), promise, holds]
    return Row([row["defence"], *cells], "dim" if row["defence"] in (NONE, POPULARITY) else "")

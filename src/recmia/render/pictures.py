"""The pictures in the folder of a result, and their composition: ROC curves, sweeps, panels, frontiers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import polars as pl

from recmia.attacks import RULES
from recmia.metrics.roc import Roc
from recmia.render import charts
from recmia.render.layout import Entry, Legend, Static, picture
from recmia.render.style import POPULAR, Style, defence_family, styles
from recmia.results.audit import AuditResult
from recmia.results.findings import REGIME_WORDS, as_served_first, asked_words, noted, section_name
from recmia.results.folder import Result
from recmia.results.forget import ForgetResult
from recmia.results.sweep import SweepResult

# The rule that comes nearest to an attack where everyone is served by the same path.
_NEAREST_RULE = "popular-overlap"
# Widest row of heat maps, in pixels.
_WIDEST = 1500


def pictures(result: Result) -> dict[str, bytes]:
    """Return the pictures of a result by file name: PNG and SVG of the ROC, of the grid, or of the frontier."""
    if isinstance(result, ForgetResult):
        return pictures(result.audit)
    if isinstance(result, AuditResult):
        asked = queries_of(result)
        return files_of("roc", roc_of(result)) | ({} if asked is None else files_of("queries", asked))
    if isinstance(result, SweepResult):
        settings = result.settings
        drawn = sweep_picture(
            result.table,
            result.axes,
            f"Can members be distinguished from non-members? By {' and '.join(result.axes)}\n"
            f"{result.provenance['data']['source']}; seeds: {settings.run.seeds}",
            rules=RULES,
            words=REGIME_WORDS,
        )
        return {} if drawn is None else files_of("sweep", drawn)
    settings = result.sweep.settings
    return files_of(
        "frontier",
        frontier_picture(
            result.table,
            result.level,
            f"Leakage and recommendation quality by defence: {settings.target}, k = {settings.k}, "
            f"factors = {settings.recommenders.factors}\n"
            f"{result.sweep.provenance['data']['source']}; attackers know the defence; seeds: {settings.run.seeds}, "
            f"shadow models: {settings.attacker.n_shadows}; 95% intervals",
            words=REGIME_WORDS,
        ),
    )


def roc_of(result: AuditResult) -> Static:
    """Return the ROC of every attack of an audit, on linear and on logarithmic scales."""
    settings, levels = result.settings, len(result.settings.levels)
    aucs = {
        (section_name(row.knowledge, row.regime, levels), row.attack): row.value or 0.0
        for row in result.metrics
        if row.metric == "auc"
    }
    rocs = {
        (section_name(level, regime, levels), attack): curves
        for first in as_served_first(regime for _, regime, _ in result.rocs)
        for (level, regime, attack), curves in result.rocs.items()
        if regime == first
    }
    return roc_picture(
        rocs,
        aucs,
        result.metrics[0].n_nonmembers,
        "Can members be distinguished from non-members by their recommendations?\n"
        f"{settings.target}, attacked with {settings.shadow} shadows, factors = {settings.recommenders.factors}, "
        f"k = {settings.k}; {result.provenance['data']['source']}; seeds: {len(settings.seeds)}",
        rules=RULES,
        words=REGIME_WORDS,
    )


def queries_of(result: AuditResult) -> Static | None:
    """Return a picture of a query about a member and of one about a non-member; None if nothing was asked."""
    shown = result.query_examples
    if not shown:
        return None
    panels = [(f"Asked about {one['users']}", charts.query_example(one)) for one in shown]
    settings, asked = result.settings, noted(result.provenance, "asked")
    title = (
        f"What a system answers to {asked_words(asked.get('kind', 'parts'), asked.get('share', 0.5))} of a history\n"
        f"{settings.target}, {result.provenance['data']['source']}: ordinary queries, each with the recall nearest to "
        "the mean of its group; each square is an item"
    )
    return picture([panels], title, size=(380, 260))


def files_of(stem: str, drawn: Static) -> dict[str, bytes]:
    """Return a picture as PNG and SVG, by file name."""
    return {f"{stem}.png": drawn.png(), f"{stem}.svg": drawn.svg().encode()}


def roc_picture(
    rocs: Mapping[tuple[str, str], Sequence[Roc]],
    aucs: Mapping[tuple[str, str], float],
    n_nonmembers: int,
    title: str,
    *,
    rules: Collection[str] = (),
    words: Mapping[str, str] = MappingProxyType({}),
) -> Static:
    """Return a picture of the ROC of each attack, a row for each section, on linear and on logarithmic scales.

    Parameters
    ----------
    rocs : mapping of (section, attack) to the ROC of each target of each seed
        A section is a regime, followed by ``", "`` and the level of knowledge where there are several.
    aucs : mapping of (section, attack) to float
    n_nonmembers : int
        Sets the finest FPR of the logarithmic axes.
    title : str
        What bands show is added to it.
    rules : collection of str
        Attacks that need no model.
    words : mapping of regime to str
        A description of each.
    """
    if any(len(curves) > 2 for curves in rocs.values()):
        title += "; band: lowest to highest run"
    chosen = styles([attack for _, attack in rocs], rules)
    sections: dict[str, dict[str, Sequence[Roc]]] = {}
    for (section, attack), curves in rocs.items():
        sections.setdefault(section, {})[attack] = curves
    rows, legends = [], []
    for section, views in charts.rocs(sections, n_nonmembers, rules=rules).items():
        rows.append([(_heading(section, words), views["linear"]), (f"{section}, logarithmic", views["log"])])
        entries = [
            Entry(attack, chosen[attack], f"{aucs[section, attack]:.3f}",
                  "band" if len(of) > 2 and not chosen[attack].thin else "line")
            for attack, of in sections[section].items()
        ]  # fmt: skip
        entries.append(Entry("chance", Style("var(--soft)", (1, 3), thin=True), "0.500"))
        # Of equal areas, attacks first.
        entries.sort(key=lambda one: (-float(one.value), one.style.thin))
        legends.append(Legend("AUC (thin: needs no model)", entries))
    return picture(rows, title, legends=legends, size=(340, 340))


def sweep_picture(
    table: pl.DataFrame,
    axes: Mapping[str, Sequence[Any]],
    title: str,
    *,
    rules: Collection[str] = (),
    words: Mapping[str, str] = MappingProxyType({}),
) -> Static | None:
    """Return a picture of the AUC over one swept key as lines, over two as heat maps; None for three or more.

    Parameters
    ----------
    table : polars.DataFrame
        As of `recmia.results.sweep.SweepResult`.
    axes : mapping of str to sequence
        The swept keys and their values.
    title : str
    rules : collection of str
        Attacks that need no model.
    words : mapping of regime to str
        A description of each.
    """
    if len(axes) > 2:
        return None
    rows = table.filter(metric="auc")
    levels = rows["knowledge"].n_unique()
    parts = {
        str(regime) if levels == 1 else f"{regime}, {level}": part
        for (regime, level), part in rows.partition_by("regime", "knowledge", as_dict=True, maintain_order=True).items()
    }
    if len(axes) == 2:
        return _heat_maps(parts, axes, title, rules)
    ((key, values),) = axes.items()
    return _lines(parts, key, values, "attack", title, rules, words)


def panel_picture(
    table: pl.DataFrame,
    key: str,
    values: Sequence[Any],
    line: str,
    title: str,
    reference: tuple[str, float, str] | None = None,
    *,
    rules: Collection[str] = (),
    words: Mapping[str, str] = MappingProxyType({}),
) -> Static:
    """Return a picture of the AUC of one attack over a key, a line for each value of another key.

    Parameters
    ----------
    table : polars.DataFrame
        As of `recmia.results.sweep.SweepResult`, rules included; of these, popular-overlap is drawn thin. Where `key`
        is ``"attack"``, all attacks are drawn, and no rule.
    key : str
    values : sequence
    line : str
    title : str
    reference : (regime, AUC, words), optional
        A level to compare with.
    rules : collection of str
        Attacks that need no model.
    words : mapping of regime to str
        A description of each.
    """
    is_attack = ~pl.col("attack").is_in(list(rules))
    drawn = is_attack if key == "attack" else is_attack | (pl.col("attack") == _NEAREST_RULE)
    rows = table.filter(pl.col("metric") == "auc", drawn).with_columns(
        pl.when(is_attack).then(pl.col(line).cast(pl.String)).otherwise(pl.format("{}: {}", line, "attack")).alias("of")
    )
    parts = {str(regime): part for (regime,), part in rows.partition_by("regime", as_dict=True).items()}
    return _lines(parts, key, values, "of", title, rules, words, reference)


def _lines(
    parts: Mapping[str, pl.DataFrame],
    key: str,
    values: Sequence[Any],
    line: str,
    title: str,
    rules: Collection[str],
    words: Mapping[str, str],
    reference: tuple[str, float, str] | None = None,
) -> Static:
    series = list(dict.fromkeys(name for part in parts.values() for name in part[line]))
    lows = [low for part in parts.values() for low in charts.lows_of(part.iter_rows(named=True), line, rules)]
    panels = []
    for section, part in parts.items():
        level = reference[1] if reference is not None and reference[0] == section else None
        chart = charts.sweep_lines(
            part, key, values, line=line, series=series, rules=rules, lowest=min(lows), reference=level
        )
        panels.append((_heading(section, words), chart))
    chosen = styles(series, rules)
    by_name = charts.sweep_scale(values) == "names"
    thin = [name for name in series if chosen[name].thin]
    attacks = [name for name in series if name not in thin]
    entries = [Entry(name, chosen[name], sample="point" if by_name else "band") for name in attacks]
    entries += [Entry(name, chosen[name], sample="point" if by_name else "line") for name in thin]
    if reference is not None:
        entries.append(Entry(reference[2], Style("var(--ink)", (6, 4)), width=1))
    entries.append(Entry("chance", Style("var(--soft)", (1, 3), thin=True)))
    legend = Legend("thin grey: needs no model" if thin else "", entries)
    return picture(_in_rows(panels, 3), title, legends=[legend])


def _in_rows(panels: Sequence[tuple[str, charts.Chart]], columns: int) -> list[Sequence[tuple[str, charts.Chart]]]:
    return [panels[start : start + columns] for start in range(0, len(panels), columns)]


def _heat_maps(
    parts: Mapping[str, pl.DataFrame], axes: Mapping[str, Sequence[Any]], title: str, rules: Collection[str]
) -> Static:
    """One map for each attack and section."""
    down, across = axes
    names = list(dict.fromkeys(name for part in parts.values() for name in part["attack"]))
    # Without an attack, the first rule is drawn.
    attacks = [name for name in names if name not in rules] or names[:1]
    size = (max(150, charts.TILE[0] * len(axes[across])), max(60, charts.TILE[1] * len(axes[down])))
    columns = max(1, _WIDEST // (size[0] + 120))
    rows = [
        row
        for section, part in parts.items()
        for row in _in_rows(
            [
                (f"{attack}, {section}", charts.heat_map(part.filter(attack=attack), down, across, axes))
                for attack in attacks
                # What asks is not run where the system answers no stranger.
                if attack in part["attack"]
            ],
            columns,
        )
    ]
    entries = [
        Entry(f"{value:.2f}" + (" (chance)" if value == 0.5 else ""),
              Style("var(--hue-1)" if value < 0.5 else "var(--hue-2)"), sample="tile",
              width=0.03 + 0.94 * abs(value - 0.5))
        for value in (1, 0.75, 0.5, 0.25, 0)
    ]  # fmt: skip
    return picture(rows, title, legends=[Legend("AUC", entries)], size=size)


def frontier_picture(
    table: pl.DataFrame, level: float, title: str, *, words: Mapping[str, str] = MappingProxyType({})
) -> Static:
    """Return a picture of leakage over utility: AUC above, TPR at an FPR of 1% below, a column for each regime.

    Of one regime, they stand side by side.

    Parameters
    ----------
    table : polars.DataFrame
        As of `recmia.results.defend.DefendResult`.
    level : float
        The AUC to stay under.
    title : str
    words : mapping of regime to str
        A description of each.
    """
    families = list(dict.fromkeys(map(defence_family, table["defence"])))
    chosen = styles(families)
    parts = {regime: table.filter(regime=regime) for regime in as_served_first(table["regime"])}
    lowest = min((low for low in table["auc_low"] if low is not None), default=None)
    drawn = {
        measure: [charts.frontier(part, measure, level, families=families, lowest=lowest) for part in parts.values()]
        for measure in ("auc", "tpr")
    }
    above = [(_heading(regime, words), chart) for regime, chart in zip(parts, drawn["auc"], strict=True)]
    if len(parts) > 1:
        rows = [above, [("", chart) for chart in drawn["tpr"]]]
    else:
        # Side by side, where both need a title for the plots to start at one height.
        rows = [
            [*above, *((f"{regime}, members found", chart) for regime, chart in zip(parts, drawn["tpr"], strict=True))]
        ]
    joined = {
        name: sum(defence_family(one) == name for one in parts[next(iter(parts))]["defence"]) > 1 for name in families
    }
    entries = [
        Entry(name, chosen[name], width=1.2,
              sample="open" if name == POPULAR else "marked" if joined[name] else "point")
        for name in families
    ]  # fmt: skip
    entries.append(Entry(f"AUC to stay under: {level:g}", Style("var(--ink)", (6, 4)), width=1))
    entries.append(Entry("chance", Style("var(--soft)", (1, 3), thin=True)))
    return picture(rows, title, legends=[Legend("Defence (numbers: strength)", entries)],
                   size=charts.FRONTIER)  # fmt: skip


def _heading(section: str, words: Mapping[str, str]) -> str:
    """The name of a section, followed by the description of its regime."""
    return f"{section}: {words.get(section.partition(', ')[0], '')}".rstrip(": ")

"""The chapter of each kind of run, and that of an audit."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recmia import summary
from recmia.attacks import BASELINES
from recmia.audit import AuditResult
from recmia.defend import DefendResult
from recmia.evaluation import Metric
from recmia.game import SHARED_PATH
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
from recmia.report.figures import roc_band
from recmia.report.grids import defend_chapter, sweep_chapter
from recmia.sweep import SweepResult

Float64 = npt.NDArray[np.float64]
# How users are called in a report: names in place of ids.
Names = Callable[[pl.Series], pl.Series]

# Bars of a histogram; users drawn; users named in a table; groups of users.
_BINS, _MOST_USERS, _NAMED, _GROUPS = 48, 1500, 10, 10
_COLUMNS = ("auc", "tpr@fpr=0.1", "tpr@fpr=0.01", "tpr@fpr=0.001", "balanced_accuracy", "epsilon")


def chapter(folder: Path, result: AuditResult | SweepResult | DefendResult, names: Names, points: int) -> Chapter:
    """The chapter of a run: this is the place for another kind."""
    if isinstance(result, DefendResult):
        return defend_chapter(folder, result)
    if isinstance(result, SweepResult):
        return sweep_chapter(folder, result)
    return _audit(folder, result, names, points)


def _audit(folder: Path, result: AuditResult, names: Names, points: int) -> Chapter:
    found = words.findings(result.metrics)
    grade, headline, more = words.headline(found, result.promises)
    exposures = result.exposures
    if not exposures.is_empty():
        exposures = exposures.with_columns(names(exposures["user_id"]).alias("user_id"))
    config = result.config
    return Chapter(
        title=f"{config.target} on {data_name(config)}",
        folder=str(folder),
        grade=grade,
        headline=headline,
        more=more,
        findings=found,
        answers=[
            ("What was tested", words.tested(result)),
            ("What the attacker knows", [words.attackers(config.knowledge)]),
            ("How sure this is", words.certainty(result, found)),
            *([("What is promised", [str(promise) for promise in result.promises])] if result.promises else []),
            ("Who is exposed most", words.exposed(result, exposures)),
        ],
        advice=words.advice(result, found, f"{folder}/config.toml"),
        parts=[
            _regimes(result, exposures),
            _rocs(result, points),
            _distributions(result),
            _exposures(result, exposures),
            _baselines(result),
            provenance_part(result.config, result.provenance),
        ],
    )


def _regimes(result: AuditResult, exposures: pl.DataFrame) -> Part:
    metrics = result.metrics
    present = [name for name in _COLUMNS if any(row.metric == name and row.value is not None for row in metrics)]
    notes = {f"{_heading(row.metric)}: {row.note}." for row in metrics if row.note and row.metric in _COLUMNS}
    by_key = {(row.knowledge, row.regime, row.attack, row.metric): row for row in metrics}
    rows = []
    for name, level, regime in _sections(result):
        rows.append(Row([f"{name}: {summary.REGIME_WORDS.get(regime, '')}".rstrip(": ")], "group"))
        for attack in _series(result):
            cells = [_cell(by_key[level, regime, attack, metric]) for metric in present]
            rows.append(Row([attack, *cells], "dim" if attack in BASELINES else ""))
    first = metrics[0]
    caption = f"{first.n_members:,} members against {first.n_nonmembers:,} non-members; 95% intervals"
    return Part(
        "Every attack in every regime",
        words=[
            "A regime says how those are served who were not in the training data, and so decides what an attack "
            "measures. AUC: how often, of one member and one non-member, the member is picked (0.5: a coin). TPR at "
            "FPR 0.01: the share of members found when one non-member in 100 is wrongly called a member. Dimmed rows "
            "are rules that need no model.",
        ],
        tables=[
            Table(caption, ["Served and attacked", *map(_heading, present)], rows, sorted(notes), open=True),
            *_worth(result.utilities),
        ],
        texts=[("The same in the words of the command line", summary.verdict(metrics, exposures, result.promises))],
    )


def _worth(utilities: pl.DataFrame) -> list[Table]:
    """What the lists are worth, users across, where that was measured."""
    if utilities.is_empty():
        return []
    groups = utilities["users"].unique(maintain_order=True).to_list()
    rows = []
    for (regime,), part in utilities.partition_by("regime", as_dict=True, maintain_order=True).items():
        rows.append(Row([str(regime)], "group"))
        for (metric,), found in part.partition_by("metric", as_dict=True, maintain_order=True).items():
            by_group = {row["users"]: row for row in found.iter_rows(named=True)}
            cells = [
                f"{one['value']:.3f} [{one['low']:.3f}–{one['high']:.3f}]"
                for one in (by_group[group] for group in groups)
            ]
            rows.append(Row([str(metric), *cells]))
    return [Table("What the lists are worth on held-out interactions", ["Measure", *groups], rows, open=True)]


def _rocs(result: AuditResult, points: int) -> Part:
    series = _series(result)
    chosen = charts.styles(series)
    values = _values(result)
    figures, rows = [], []
    rates = (0.001, 0.01, 0.1)
    n_nonmembers = result.metrics[0].n_nonmembers
    resolvable = [rate for rate in rates if rate * n_nonmembers >= 1]
    specs = charts.roc(series, 1 / n_nonmembers)
    for name, level, regime in _sections(result):
        curves = {attack: result.rocs[level, regime, attack] for attack in series}
        grid = _grid(n_nonmembers, points)
        bands = {attack: roc_band(of, grid) for attack, of in curves.items()}
        # Where no curve moves, nothing is lost.
        moves = np.any([np.diff(band, prepend=-1.0) != 0 for three in bands.values() for band in three], axis=0)
        # The first is where the logarithmic axis starts.
        moves[[1, -1]] = True
        fpr = _round(grid[moves])
        shown = {attack: [_round(band[moves]) for band in of] for attack, of in bands.items()}
        data = {
            "curves": [{"series": attack, "fpr": fpr, "tpr": shown[attack][0]} for attack in series],
            "bands": [
                {"series": attack, "fpr": fpr, "low": shown[attack][1], "high": shown[attack][2]}
                for attack in series
                # Two cannot tell how much a third would differ.
                if attack not in BASELINES and len(curves[attack]) > 2
            ],
        }
        best = sorted(series, key=lambda attack: -values[level, regime, attack])[:3]
        figures.append(
            Figure(
                title=f"{name}: {summary.REGIME_WORDS.get(regime, '')}",
                alt=f"ROC curves in {name}. Largest areas: "
                + ", ".join(f"{attack} {values[level, regime, attack]:.3f}" for attack in best)
                + ". The table below holds the figures.",
                specs=specs,
                data={"": data},
            )
        )
        rows.append(Row([name], "group"))
        for attack in series:
            found = [np.mean([float(one.tpr_at(rate)) for one in curves[attack]]) for rate in resolvable]
            rows.append(
                Row(
                    [attack, f"{values[level, regime, attack]:.3f}", *(f"{tpr:.1%}" for tpr in found)], row_kind(attack)
                )
            )
    legend = [(attack, attack, chosen[attack][0], " ".join(map(str, chosen[attack][1]))) for attack in series]
    several = max(len(curves) for curves in result.rocs.values())
    return Part(
        "How many members are found, at what price",
        words=[
            "Each curve shows, for one attack, the share of members found against the share of non-members that are "
            "wrongly called members. Along the dotted line an attack is no better than a coin. The logarithmic scale "
            "shows the left edge, where an attacker hardly ever errs."
            + (f" Curves are means over {several}; bands are 95% intervals." if several > 2 else ""),
        ],
        controls=[
            Control("view", "Scale", [("linear", "Linear", "", ""), ("log", "Logarithmic", "", "")], "linear"),
            Control("shown", "Attacks; thin grey lines need no model", legend),
        ],
        figures=figures,
        tables=[
            Table("Members found (TPR) by the share of non-members wrongly called members (FPR)",
                  ["Attack", "AUC", *(f"FPR {rate:g}" for rate in resolvable)], rows)
        ],
    )  # fmt: skip


def _distributions(result: AuditResult) -> Part:
    series = _series(result)
    values = _values(result)
    targets = result.scores.filter(side="target")
    parts = targets.partition_by("knowledge", "regime", "attack", as_dict=True, maintain_order=True)
    spec = charts.distribution()
    figures, rows = [], []
    for name, level, regime in _sections(result):
        data = {}
        rows.append(Row([name], "group"))
        for attack in series:
            part = parts[level, regime, attack]
            member, score = part["member"].to_numpy(), part["score"].to_numpy()
            data[attack] = {"bins": _bins(member, score)}
            quartiles = [
                " / ".join(f"{value:.3g}" for value in np.quantile(score[kind], (0.25, 0.5, 0.75)))
                for kind in (member, ~member)
            ]
            rows.append(Row([attack, *quartiles], row_kind(attack)))
        figures.append(
            Figure(
                title=f"{name}: {summary.REGIME_WORDS.get(regime, '')}",
                alt=f"Histograms of the scores of members and of non-members in {name}, for the chosen attack. The "
                "more they overlap, the less the attack sees. The table below holds the quartiles.",
                specs={"": spec},
                data=data,
            )
        )
    shared = [key for key in values if key[1] in SHARED_PATH] or list(values)
    best = max((key for key in shared if key[2] not in BASELINES), key=values.__getitem__, default=shared[0])[2]
    return Part(
        "What the attacks score",
        words=[
            "An attack gives everyone a score; the higher, the more it takes them for a member. Where the two shapes "
            "part, members show. Scores of all targets and seeds together; the half percent at either end is drawn in "
            "the outermost bars.",
        ],
        controls=[Control("pick", "Attack", [(attack, attack, "", "") for attack in series], best)],
        figures=figures,
        tables=[Table("Quartiles of the scores", ["Attack", "Members", "Non-members"], rows)],
    )


def _exposures(result: AuditResult, exposures: pl.DataFrame) -> Part:
    title = "Who is exposed"
    if exposures.is_empty():
        return Part(title, words=[words.why_no_exposures(result)])
    levels = len(result.config.knowledge)
    first = exposures.filter(pl.col("seed") == pl.col("seed").first())
    chosen = summary.most_exposing(exposures)
    data: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    rows = []
    parts = first.partition_by("knowledge", "regime", "attack", as_dict=True, maintain_order=True)
    default = ""
    for (level, regime, attack), part in parts.items():
        name = f"{attack}, {summary.section(str(level), str(regime), levels)}"
        if (level, regime, attack) == chosen.select("knowledge", "regime", "attack").row(0):
            default = name
        step = math.ceil(len(part) / _MOST_USERS)
        users = part.gather_every(step).select(
            pl.col("user_id").cast(pl.String).alias("user"),
            pl.col("auc", "low", "high", "rarity").round(3),
            "history_length",
            pl.col("identifiable").alias("named"),
        )
        groups = {column: _equal_groups(part, column) for column in ("history_length", "rarity")}
        data[name] = tuple({"users": users.to_dicts(), "groups": groups[column]} for column in groups)  # type: ignore[assignment]
        rows.append(Row([name], "group"))
        for column, label in (("history_length", "history"), ("rarity", "rarity")):
            for group in groups[column]:
                rows.append(Row([f"{label} {group['from']:g} to {group['to']:g}", f"{group['users']}",
                                 f"{group['mean']:.3f} [{group['low']:.3f}–{group['high']:.3f}]"]))  # fmt: skip
    positive = bool((first["history_length"] > 0).all())
    axes = (("history_length", "Length of the history", positive), ("rarity", "Rarity of taste", False))
    figures = [
        Figure(
            title=f"Exposure by {label[0].lower()}{label[1:]}",
            alt=f"Each user's AUC over the targets, by {label.lower()}, with the mean of {_GROUPS} equal groups. The "
            "tables below hold the groups and the most exposed users.",
            specs={"": charts.exposure(column, label, logarithmic)},
            data={name: both[number] for name, both in data.items()},
        )
        for number, (column, label, logarithmic) in enumerate(axes)
    ]
    most = [
        Row([str(row["user_id"]), f"{row['auc']:.2f} [{row['low']:.2f}–{row['high']:.2f}]",
             f"{row['history_length']:,}", f"{row['rarity']:.2f}", summary.unusual(row, chosen),
             "yes" if row["identifiable"] else "no"])
        for row in chosen.head(_NAMED).iter_rows(named=True)
    ]  # fmt: skip
    thinned = max(math.ceil(len(part) / _MOST_USERS) for part in parts.values())
    runs = int(first["n_in"][0] + first["n_out"][0])
    return Part(
        title,
        words=[
            f"Each point is one person, over {runs} trained systems, some with that person in the training data and "
            "some without. An AUC of 1: the person always scores higher when in; 0.5: there is nothing to see. The "
            f"line is the mean of {_GROUPS} groups of equal size, with a 95% interval. Rarity of taste: how few others "
            "know the items of the history (mean of minus the logarithm of their share). Of the first seed."
            + (f" One point in {thinned} is drawn; the line is of all." if thinned > 1 else ""),
            "People told in from out are named one by one with an exact test, at a false discovery rate of 5%.",
        ],
        controls=[Control("pick", "Attack", [(name, name, "", "") for name in data], default)] if len(data) > 1 else [],
        figures=figures,
        tables=[
            Table("The most exposed people", ["User", "AUC", "History", "Rarity", "What is unusual",
                                              "Told in from out"], most, open=True),
            Table("Mean exposure by group", ["Group", "Users", "Mean AUC"], rows),
        ],
    )  # fmt: skip


def _baselines(result: AuditResult) -> Part:
    series = _series(result)
    aucs = {(row.knowledge, row.regime, row.attack): row for row in result.metrics if row.metric == "auc"}
    spec = charts.intervals(series, min(row.low for row in aucs.values() if row.low is not None))
    figures = []
    for name, level, regime in _sections(result):
        rows = [aucs[level, regime, attack] for attack in series]
        best = max((row for row in rows if row.attack in BASELINES), key=lambda row: row.value or 0.0)
        figures.append(
            Figure(
                title=f"{name}: {summary.REGIME_WORDS.get(regime, '')}",
                alt=f"AUC with intervals of all attacks and rules in {name}; the best rule without a model is "
                f"{best.attack} with {_figure(best)}. The table of regimes above holds the figures.",
                specs={"": spec},
                data={"": {"values": [_interval(row.attack, row) for row in rows]}},
            )
        )
    known = {**words.ATTACKS} | {name: f"takes for a member whoever {rule}" for name, rule in words.RULES.items()}
    does = [Row([name, known.get(name, "")], row_kind(name)) for name in series]
    return Part(
        "Beside rules that need no model",
        words=[
            "An attack that does not beat these rules has shown nothing about what the model remembers. The last three "
            "look at the history alone: where membership is drawn by lot, they have to stay at 0.5 within their "
            "intervals, and show that the audit itself is sound.",
        ],
        figures=figures,
        tables=[Table("What each attack and rule does", ["Name", "What it does"], does, open=True, prose=True)],
    )


def _grid(n_nonmembers: int, points: int) -> Float64:
    """False-positive rates to draw: all there are, or evenly spread on both scales."""
    if n_nonmembers < points:
        return np.arange(n_nonmembers + 1) / n_nonmembers
    counts = np.concatenate([np.linspace(0, n_nonmembers, points // 2), np.geomspace(1, n_nonmembers, points // 2)])
    return np.unique(np.rint(counts)) / n_nonmembers


def _bins(member: npt.NDArray[np.bool_], score: Float64) -> list[dict[str, float]]:
    """Histograms of members and non-members over the same bins, as shares; the ends take what lies beyond."""
    low, high = np.quantile(score, (0.005, 0.995))
    if low == high:
        low, high = float(score.min()), float(score.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    inside = np.clip(score, low, high)
    shares = [np.histogram(inside[kind], edges)[0] / kind.sum() for kind in (member, ~member)]
    # The last closes the outline.
    rows = zip(edges, [*edges[1:], edges[-1]], [*shares[0], 0.0], [*shares[1], 0.0], strict=True)
    return [
        {"start": digits(start), "end": digits(end), "members": digits(of), "non-members": digits(other)}
        for start, end, of, other in rows
    ]


def _equal_groups(users: pl.DataFrame, column: str) -> list[dict[str, float]]:
    """Mean AUC of users in groups of equal size by `column`, with its 95% interval (normal)."""
    ordered = users.sort(column, maintain_order=True)
    groups = []
    for part in np.array_split(np.arange(len(ordered)), min(_GROUPS, len(ordered))):
        values, auc = ordered[column].to_numpy()[part], ordered["auc"].to_numpy()[part]
        half = 1.96 * float(auc.std(ddof=1)) / math.sqrt(len(auc)) if len(auc) > 1 else 0.0
        mean = float(auc.mean())
        groups.append({"x": digits(float(np.median(values))), "mean": digits(mean),
                       "low": digits(max(0.0, mean - half)), "high": digits(min(1.0, mean + half)),
                       "from": digits(float(values[0])), "to": digits(float(values[-1])),
                       "users": len(auc)})  # fmt: skip
    return groups


def _sections(result: AuditResult) -> list[tuple[str, str, str]]:
    """Name, level of knowledge and regime of each section."""
    levels = list(dict.fromkeys(row.knowledge for row in result.metrics))
    regimes = dict.fromkeys(row.regime for row in result.metrics)
    return [(summary.section(level, regime, len(levels)), level, regime) for regime in regimes for level in levels]


def _series(result: AuditResult) -> list[str]:
    return list(dict.fromkeys(row.attack for row in result.metrics))


def _values(result: AuditResult) -> dict[tuple[str, str, str], float]:
    return {(row.knowledge, row.regime, row.attack): row.value or 0.0 for row in result.metrics if row.metric == "auc"}


def _heading(metric: str) -> str:
    name, at, rate = metric.partition("@fpr=")
    return f"TPR at FPR {float(rate):g}" if at else {"auc": "AUC"}.get(name, name.replace("_", " ").capitalize())


def _cell(row: Metric) -> str:
    if row.value is None:
        return "not resolvable"
    if row.metric == "epsilon":
        return f"≥ {row.value:.2f}"
    return _figure(row, 3 if row.metric == "auc" else 2)


def _figure(row: Metric, digits: int = 3) -> str:
    return f"{row.value:.{digits}f} [{row.low:.{digits}f}–{row.high:.{digits}f}]"


def _interval(series: str, row: Metric) -> dict[str, Any]:
    return {"series": series, "value": digits(row.value), "low": digits(row.low), "high": digits(row.high)}


def _round(values: Float64) -> list[float]:
    return [digits(value) for value in values.tolist()]

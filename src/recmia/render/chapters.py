"""The chapters of a page: the choice by kind of run, and the chapter of an audit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from recmia.attacks import RULES
from recmia.metrics import METRICS
from recmia.render import answers, charts, words
from recmia.render.assessment import Labels, assessment
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
from recmia.render.grids import defend_chapter, sweep_chapter
from recmia.render.text import (
    FORGET_COLUMNS,
    GROUPING_WORDS,
    PARTS,
    by_users,
    cell,
    forget_rows,
    means,
    notes_of,
    verdict,
)
from recmia.results.audit import AuditResult
from recmia.results.defend import DefendResult
from recmia.results.findings import (
    REGIME_WORDS,
    UNITS,
    Grade,
    as_served_first,
    exposed_at_once,
    fewest,
    figure,
    find,
    most_identified,
    section_name,
    unusual,
)
from recmia.results.folder import Result
from recmia.results.forget import ForgetResult
from recmia.results.groups import FIGURES, by_group, exposed_interactions
from recmia.results.sweep import SweepResult
from recmia.settings import SERVED_ALIKE, AuditSettings, FilesSettings

# How users are called in a report: names in place of ids.
Names = Callable[[pl.Series], pl.Series]

# Users named in a table.
_NAMED = 10
_COLUMNS = ("auc", "tpr@fpr=0.1", "tpr@fpr=0.01", "tpr@fpr=0.001", "balanced_accuracy", "epsilon")


def chapter(folder: Path, result: Result, names: Names, points: int, labels: Labels) -> Chapter:
    """Return the chapter of a run of any kind."""
    if isinstance(result, DefendResult):
        made = defend_chapter(folder, result)
    elif isinstance(result, SweepResult):
        made = sweep_chapter(folder, result)
    elif isinstance(result, ForgetResult):
        made = _forget(folder, result, names, points)
    else:
        made = _with_assessment(result, _audit(folder, result, names, points), labels)
    return replace(made, parts=[part for part in made.parts if part.figures or part.tables or part.texts])


def _audit(folder: Path, result: AuditResult, names: Names, points: int) -> Chapter:
    found, users = result.findings, result.per_user_auc
    if not users.is_empty():
        users = users.with_columns(names(users["user_id"]).alias("user_id"))
    settings = result.settings
    promised = [str(promise) for promise in result.promises]
    cards, asides = answers.cards(found.sections)
    return Chapter(
        title=f"{settings.target} on {data_name(settings)}",
        folder=str(folder),
        grade=found.grade,
        headline=found.claim,
        more=" ".join(found.caveats),
        extent=answers.extent(found.sections, settings.unit),
        impact=answers.IMPACT[settings.unit],
        cards=cards,
        asides=asides,
        answers=[
            ("What was tested", words.tested(result)),
            ("What the attacker knows and asks", _attackers(result)),
            ("Which attacks were run", [words.attacks_run(_series(result))]),
            ("How certain the results are", words.certainty(result, found)),
            *([("What answers give away", [found.disclosure])] if found.disclosure else []),
            *([("What the defence promises", promised)] if promised else []),
            ("Who is exposed most", words.exposed(result, users)),
        ],
        advice=answers.advice(result, f"{folder}/config.toml"),
        parts=[
            _regimes(result, users, names),
            *_asking(result),
            _rocs(result, points),
            _distributions(result),
            _users(result, users, names),
            _groups(result),
            _baselines(result),
            _glossary(result),
            provenance_part(settings, result.provenance),
        ],
    )


def _attackers(result: AuditResult) -> list[str]:
    settings = result.settings
    if isinstance(settings, FilesSettings):
        return [words.attackers_on_files(settings, result.metrics), words.queries(result)]
    assert isinstance(settings, AuditSettings), "of data or of files"
    known = settings.knowledge.known
    return [words.attackers(settings.levels, known), words.queries(result)]


def _with_assessment(result: AuditResult, made: Chapter, labels: Labels) -> Chapter:
    """The chapter of an audit with a text for a data-protection impact assessment, before names and provenance."""
    period = labels.period or words.period(result.provenance)
    text = assessment(made, labels, _attackers(result), period, result.settings.unit)
    part = Part(
        "For a data-protection impact assessment",
        words=[
            "What this audit can say in an assessment (Art. 35 GDPR; EDPB Opinion 28/2024 on AI models), as text to "
            "copy. It covers membership, and leaves severity and conclusion to whoever answers for the system.",
        ],
        texts=[("Text to copy", text)],
    )
    return replace(made, parts=[*made.parts[:-2], part, *made.parts[-2:]])


# The colour of each outcome of a test of forgetting.
_OUTCOMES: Mapping[str, Grade] = {
    "forgotten": "none", "not forgotten": "strong", "undecided": "unclear", "no power": "untested",
}  # fmt: skip


def _forget(folder: Path, result: ForgetResult, names: Names, points: int) -> Chapter:
    """The chapter of a test of forgetting: the audit of members, which is its positive control, comes second."""
    control, found = _audit(folder, result.audit, names, points), result.found
    users = result.users.with_columns(names(result.users["user_id"]).alias("user_id"))
    attack = result.attack
    rows = [
        Row([str(row["user_id"]), f"{row['score']:.3g}", f"{row['p_value']:.3g}", f"{row['history_length']:,}",
             f"{row['rarity']:.2f}", "yes" if row["recognised"] else "no"])
        for row in users.head(_NAMED).iter_rows(named=True)
    ]  # fmt: skip
    scores = result.audit.scores.filter(attack=attack, side="target")
    groups = {
        "members": scores.filter(member=True)["score"].to_numpy(),
        "deleted": users["score"].to_numpy(),
        "never members": scores.filter(member=False)["score"].to_numpy(),
    }
    part = Part(
        "Are the deleted users forgotten?",
        words=[
            "Members, users who were never in the training data, and users whose data were deleted were asked about "
            "alike: a part of each history was put to the system as a stranger's. The attack scores how well the "
            "answers complete the rest, without knowing who is in which group. Forgotten users score as users do who "
            "were never there.",
            *result.details(users["user_id"]),
        ],
        figures=[
            Figure.of(
                "Scores of the three groups",
                "Each dot is one person, by group, with the score of the attack across. The tables below hold the "
                "figures.",
                views={"": charts.groups(groups)},
            )
        ],
        tables=[
            Table("The three groups", ["Users", *FORGET_COLUMNS],
                  [Row([name, *cells]) for name, cells in forget_rows(result)], open=True),
            Table("The deleted users with the highest scores",
                  ["User", "Score", "p-value", "Length of history", "Rarity of taste", "Recognised"], rows, open=True),
        ],
    )  # fmt: skip
    return replace(
        control,
        title=f"Deleted users of {control.title}",
        grade=_OUTCOMES[found.outcome],
        chip=result.label,
        graded=False,
        question="Are they forgotten?",
        headline=result.claim,
        more="",
        extent=answers.forget_extent(result),
        advice=answers.forget_advice(result),
        parts=[part, *control.parts],
    )


def _regimes(result: AuditResult, users: pl.DataFrame, names: Names) -> Part:
    metrics = result.metrics
    present = [name for name in _COLUMNS if any(row.metric == name and row.value is not None for row in metrics)]
    notes = {
        f"{note}."
        for name in _COLUMNS
        for note in notes_of([row for row in metrics if row.note and row.metric == name])
    }
    by_key = {row.key: row for row in metrics}
    rows = []
    for name, level, regime in _sections(result):
        rows.append(Row([f"{name}: {REGIME_WORDS.get(regime, '')}".rstrip(": ")], "group"))
        for attack in _series(result, level, regime):
            cells = [cell(by_key.get((level, regime, attack, metric))) for metric in present]
            rows.append(Row([attack, means(attack), *cells], row_kind(attack)))
    # With the names that this page has for users.
    identified = None
    if isinstance(result.settings, FilesSettings) and result.settings.unit == "users":
        identified = result.identified.with_columns(names(result.identified["user_id"]).alias("user_id"))
    told = find(
        result.joint(), users, result.promises, result.provenance, result.disclosures, identified=identified,
        unit=result.settings.unit,
    )  # fmt: skip
    first = metrics[0]
    unit = UNITS[result.settings.unit]
    size = f"{fewest(first)}{first.n_members:,} {unit.inside} against {first.n_nonmembers:,} {unit.outside}"
    caption = f"{size[:1].upper()}{size[1:]}; 95% intervals"
    return Part(
        "Every attack in every regime",
        words=[
            (
                "A member is a person in the training data. "
                if result.settings.unit == "users"
                else "A member is here an interaction that was trained on, a non-member another of the same people. "
            )
            + "A regime defines how non-members are served, and so what an "
            "attack measures. AUC: the probability that, of one member and one non-member, the attack picks the member "
            "(0.5: chance). TPR at FPR 0.01: the share of members found when one non-member in 100 is wrongly called a "
            "member. An attacker who looks sees the list that a person is shown; one who asks also puts parts of the "
            "history to the system, and sees the answers. Dimmed rows are rules that need no model.",
        ],
        tables=[
            Table(
                caption,
                ["Served and attacked", "Attacker", *(METRICS[name].heading for name in present)],
                rows,
                sorted(notes),
                open=True,
            ),
            *_quality(result.utilities),
        ],
        texts=[("The findings as plain text, as the command line prints them", verdict(told))],
    )


def _quality(utilities: pl.DataFrame) -> list[Table]:
    """A table of the recommendation quality, users across; none if it was not measured."""
    if utilities.is_empty():
        return []
    groups, parts = by_users(utilities, "regime")
    rows = _grouped({str(regime): found for regime, found in parts.items()})
    return [Table("Recommendation quality on held-out interactions", ["Measure", *groups], rows, open=True)]


def _grouped(parts: Mapping[str, Sequence[Sequence[str]]]) -> list[Row]:
    return [row for name, found in parts.items() for row in (Row([name], "group"), *map(Row, found))]


def _asking(result: AuditResult) -> list[Part]:
    """How the attacker asks, and what comes back; nothing where it did not ask."""
    tables = _given_away(result.disclosures)
    if not tables:
        return []
    drawn = [
        Figure.of(
            f"Asked about {one['users']}",
            f"One query about {one['users']}: asked with {one['asked']} items of a history, the system names "
            f"{len(one['hits'])} of the {one['hidden']} hidden ones in an answer of {one['k']} items. The table below "
            "holds the means over all people.",
            views={"": charts.query_example(one)},
        )
        for one in result.query_examples
    ]
    return [
        Part(
            "What an attacker asks, and what comes back",
            words=[
                "The attacker puts a part of a person's history to the system, as if it were a stranger's, and counts "
                "how much of the hidden part the answer names. A system completes a history best that it was trained "
                "on. Each square is an item. The two queries are ordinary ones: of those of the usual size, each has "
                "the share of hidden items named that is nearest to the mean of its group.",
                words.queries(result),
            ],
            figures=drawn,
            tables=tables,
        )
    ]


def _given_away(disclosures: pl.DataFrame) -> list[Table]:
    """A table of what answers give away, users across; none if nothing was asked."""
    if disclosures.is_empty():
        return []
    groups, parts = by_users(disclosures, "part")
    rows = _grouped({PARTS[str(part)]: found for part, found in parts.items()})
    return [Table("What answers to queries give away of a history", ["Measure", *groups], rows, open=True)]


def _groups(result: AuditResult) -> Part:
    """The figures of the strongest attack of each section by group."""
    rows, before = [], ("", "")
    found = by_group(result)
    for at in range(0, len(found), len(FIGURES)):
        grouping, group, first = found[at]
        section = (first.regime, grouping)
        if section != before:
            kind = GROUPING_WORDS.get(grouping, grouping)
            rows.append(Row([f"{first.regime}: {first.attack}, by {kind}"], "group"))
            before = section
        cells = [cell(row) for _, _, row in found[at : at + len(FIGURES)]]
        rows.append(Row([group, f"{first.n_members:,}", f"{first.n_nonmembers:,}", *cells]))
    unit = UNITS[result.settings.unit]
    inside, outside = (f"{name[:1].upper()}{name[1:]}" for name in (unit.inside, unit.outside))
    return Part(
        "Who is hit harder: figures by group",
        words=[
            "An average hides those who are hit. Figures of the strongest attack, for thirds of people with short and "
            "long histories, with popular and rare taste, and for whatever the audit was grouped by. The intervals of "
            "one grouping hold together, at 95%. A group that is too small for a figure says so.",
        ],
        tables=[
            Table("By group", ["Group", inside, outside, *(METRICS[name].heading for name in FIGURES)], rows, open=True)
        ],
    )


def _surest(result: AuditResult, names: Names) -> list[Table]:
    """A table of the interactions that the strongest attack is surest of; none of an audit of users."""
    found = exposed_interactions(result)
    if not found:
        return []
    users = names(pl.Series("user_id", [row["user_id"] for row in found]))
    rows = [
        Row([str(name), row["title"], row["terms"] or "–", f"{row['share']:.2g}", row["reason"]])
        for name, row in zip(users, found, strict=True)
    ]
    caption = f"The interactions that {found[0]['attack']} is surest of, one for each person"
    return [Table(caption, ["User", "Item", "Terms", "Share of others as high", "Why"], rows, open=True, prose=True)]


def _rocs(result: AuditResult, points: int) -> Part:
    series = _series(result)
    values = _values(result)
    drawn, rows = [], []
    rates = (0.001, 0.01, 0.1)
    n_nonmembers = result.metrics[0].n_nonmembers
    resolvable = [rate for rate in rates if rate * n_nonmembers >= 1]
    sections = {
        name: {attack: result.rocs[level, regime, attack] for attack in _series(result, level, regime)}
        for name, level, regime in _sections(result)
    }
    views = charts.rocs(sections, n_nonmembers, rules=RULES, points=points)
    for name, level, regime in _sections(result):
        curves = sections[name]
        best = sorted(curves, key=lambda attack: -values[level, regime, attack])[:3]
        drawn.append(
            Figure.of(
                f"{name}: {REGIME_WORDS.get(regime, '')}",
                f"ROC curves in {name}. Largest areas: "
                + ", ".join(f"{attack} {values[level, regime, attack]:.3f}" for attack in best)
                + ". The table below holds the figures.",
                views=views[name],
            )
        )
        rows.append(Row([name], "group"))
        for attack in curves:
            found = [np.mean([float(one.tpr_at(rate)) for one in curves[attack]]) for rate in resolvable]
            rows.append(
                Row(
                    [attack, f"{values[level, regime, attack]:.3f}", *(f"{tpr:.1%}" for tpr in found)], row_kind(attack)
                )
            )
    several = max(len(curves) for curves in result.rocs.values())
    return Part(
        "How many members are found, and with how many errors",
        words=[
            "Each curve shows, for one attack, the share of members found against the share of non-members that are "
            "wrongly called members. On the dotted line an attack is no better than chance. The logarithmic scale "
            "enlarges the left edge, where few non-members are wrongly called members."
            + (f" Curves are means over {several}; bands reach from the lowest to the highest." if several > 2 else ""),
        ],
        controls=[
            Control("view", "Scale", [("linear", "Linear", "", ""), ("log", "Logarithmic", "", "")], "linear"),
            Control("shown", "Attacks; thin grey lines need no model", legend_options(series, RULES)),
        ],
        figures=drawn,
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
    drawn, rows = [], []
    for name, level, regime in _sections(result):
        picks = {}
        rows.append(Row([name], "group"))
        for attack in _series(result, level, regime):
            part = parts[level, regime, attack]
            member, score = part["member"].to_numpy(), part["score"].to_numpy()
            picks[attack] = charts.distribution(member, score)
            quartiles = [
                " / ".join(f"{value:.3g}" for value in np.quantile(score[kind], (0.25, 0.5, 0.75)))
                for kind in (member, ~member)
            ]
            rows.append(Row([attack, *quartiles], row_kind(attack)))
        drawn.append(
            Figure.of(
                f"{name}: {REGIME_WORDS.get(regime, '')}",
                f"Histograms of the scores of members and of non-members in {name}, for the chosen attack. The more "
                "they overlap, the less the attack finds. The table below holds the quartiles.",
                picks=picks,
            )
        )
    shared = [key for key in values if key[1] in SERVED_ALIKE] or list(values)
    best = max((key for key in shared if key[2] not in RULES), key=values.__getitem__, default=shared[0])[2]
    return Part(
        "Scores of members and non-members",
        words=[
            "An attack gives every person a score; the higher it is, the more likely the person is a member. The less "
            "the two histograms overlap, the better the attack distinguishes members from non-members. Scores of all "
            "targets and seeds are pooled; the outermost bars contain the lowest and the highest half percent.",
        ],
        controls=[Control("pick", "Attack", [(attack, attack, "", "") for attack in series], best)],
        figures=drawn,
        tables=[Table("Quartiles of the scores", ["Attack", "Members", "Non-members"], rows)],
    )


def _users(result: AuditResult, users: pl.DataFrame, names: Names) -> Part:
    title = "Who is exposed"
    if users.is_empty():
        found = _surest(result, names) or _exposed_at_once(result, names)
        return Part(title, words=[words.why_no_users(result)], tables=found)
    levels = len(result.settings.levels)
    first = users.filter(pl.col("seed") == pl.col("seed").first())
    chosen = most_identified(users)
    parts = {
        f"{attack}, {section_name(str(level), str(regime), levels)}": part
        for (level, regime, attack), part in first.partition_by(
            "knowledge", "regime", "attack", as_dict=True, maintain_order=True
        ).items()
    }
    positive = bool((first["history_length"] > 0).all())
    axes = (("history_length", "Length of the history", positive), ("rarity", "Rarity of taste", False))
    drawn, rows = [], []
    for column, label, logarithmic in axes:
        picks = {
            name: charts.per_user_auc(part, column, label, logarithmic=logarithmic) for name, part in parts.items()
        }
        drawn.append(
            Figure.of(
                f"Per-user AUC by {label[0].lower()}{label[1:]}",
                f"Each user's AUC over the targets, by {label.lower()}, with the mean of groups of equal size. The "
                "tables below hold the groups and the most exposed users.",
                picks=picks,
            )
        )
        for name, chart in picks.items():
            rows.append(Row([f"{name}: {label.lower()}"], "group"))
            rows += [
                Row([f"{group['from']:g} to {group['to']:g}", f"{group['users']}",
                     f"{group['mean']:.3f} [{group['low']:.3f}–{group['high']:.3f}]"])
                for group in chart.data["groups"]
            ]  # fmt: skip
    most = [
        Row([str(row["user_id"]), f"{row['auc']:.2f} [{row['low']:.2f}–{row['high']:.2f}]",
             f"{row['history_length']:,}", f"{row['rarity']:.2f}", unusual(row, chosen),
             "yes" if row["identifiable"] else "no"])
        for row in chosen.head(_NAMED).iter_rows(named=True)
    ]  # fmt: skip
    default = next(
        name for name, part in parts.items()
        if part.select("knowledge", "regime", "attack").row(0) == chosen.select("knowledge", "regime", "attack").row(0)
    )  # fmt: skip
    runs = int(first["n_in"][0] + first["n_out"][0])
    thinned = any(len(part) > len(drawn[0].data[name]["users"]) for name, part in parts.items())
    return Part(
        title,
        words=[
            f"Each point is one person, measured over {runs} trained systems, some with that person in the training "
            "data and some without. An AUC of 1 means that the person's score is always higher when the person is in "
            "the training data; 0.5 is chance. The line is the mean of groups of equal size, with a 95% interval. "
            "Rarity of taste: the mean of minus the logarithm of the share of people who have an item, over the items "
            "of the history. All figures are of the first seed."
            + (" Only some of the people are drawn; the line is the mean of all." if thinned else ""),
            "Identified: individually identified as a member by an exact test, at a false-discovery rate of 5%.",
        ],
        controls=[Control("pick", "Attack", [(name, name, "", "") for name in parts], default)]
        if len(parts) > 1
        else [],
        figures=drawn,
        tables=[
            Table("The most exposed people",
                  ["User", "AUC", "Length of history", "Rarity of taste", "What is unusual", "Identified"],
                  most, open=True),
            Table("Mean AUC by group", ["Group", "Users", "Mean AUC"], rows),
        ],
    )  # fmt: skip


def _exposed_at_once(result: AuditResult, names: Names) -> list[Table]:
    """A table of the most exposed members of one system of files; none for other audits."""
    if not isinstance(result.settings, FilesSettings) or result.identified.is_empty():
        return []
    users = exposed_at_once(result.identified)
    rows = [
        Row([str(name), f"{row['score']:.3g}", f"{row['p_value']:.3g}", f"{row['history_length']:,}",
             f"{row['rarity']:.2f}", "yes" if row["identified"] else "no"])
        for name, row in zip(names(users["user_id"].head(_NAMED)), users.iter_rows(named=True), strict=False)
    ]  # fmt: skip
    caption = f"The members with the highest scores ({users['attack'][0]}), against the known non-members"
    columns = ["User", "Score", "p-value", "Length of history", "Rarity of taste", "Identified"]
    note = "Identified: individually identified as a member at a false-discovery rate of 5%."
    return [Table(caption, columns, rows, [note], open=True)]


def _baselines(result: AuditResult) -> Part:
    aucs = {(row.knowledge, row.regime, row.attack): row for row in result.metrics if row.metric == "auc"}
    lowest = min(row.low for row in aucs.values() if row.low is not None)
    drawn = []
    for name, level, regime in _sections(result):
        rows = [aucs[level, regime, attack] for attack in _series(result, level, regime)]
        best = max((row for row in rows if row.attack in RULES), key=lambda row: row.value or 0.0)
        values = [{"series": row.attack, "value": row.value, "low": row.low, "high": row.high} for row in rows]
        drawn.append(
            Figure.of(
                f"{name}: {REGIME_WORDS.get(regime, '')}",
                f"AUC with intervals of all attacks and rules in {name}; the best rule without a model is "
                f"{best.attack} with {figure(best)}. The table of regimes above holds the figures.",
                views={"": charts.intervals(values, rules=RULES, lowest=lowest)},
            )
        )
    return Part(
        "Comparison with rules that need no model",
        words=[
            "An attack that is no better than these rules shows nothing about what the model memorised. "
            "`history-length`, `history-popularity` and `recency` use the history alone: where membership is drawn at "
            "random, their intervals should contain 0.5, which is a check of the audit itself.",
        ],
        figures=drawn,
    )


def _glossary(result: AuditResult) -> Part:
    """What every name on the page means."""
    rows = [Row(["Ways of serving people"], "group")]
    rows += [Row([name, about]) for name, about in words.regimes_of([row.regime for row in result.metrics])]
    rows += [Row(["Attacks and rules"], "group")]
    rows += [Row([name, about], row_kind(name)) for name, about in words.what_attacks_do(_series(result))]
    rows += [Row(["Figures"], "group"), *(Row(list(one)) for one in words.FIGURES)]
    return Part(
        "What the names mean", tables=[Table("Names and figures", ["Name", "What it is"], rows, open=True, prose=True)]
    )


def _sections(result: AuditResult) -> list[tuple[str, str, str]]:
    """Name, level of knowledge and regime of each section."""
    levels = list(dict.fromkeys(row.knowledge for row in result.metrics))
    regimes = [row.regime for row in result.metrics]
    return [
        (section_name(level, regime, len(levels)), level, regime)
        for regime in as_served_first(regimes)
        for level in levels
    ]


def _series(result: AuditResult, level: str = "", regime: str = "") -> list[str]:
    """Names of all attacks and rules, or of those of one section: not every system can be asked."""
    section = (level, regime)
    rows = (row for row in result.metrics if not regime or (row.knowledge, row.regime) == section)
    # Attacks first, whichever regime they are run in.
    return sorted(dict.fromkeys(row.attack for row in rows), key=lambda name: name in RULES)


def _values(result: AuditResult) -> dict[tuple[str, str, str], float]:
    return {(row.knowledge, row.regime, row.attack): row.value or 0.0 for row in result.metrics if row.metric == "auc"}

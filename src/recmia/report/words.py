"""What a run means, for readers who know neither attacks nor metrics.

Text between backquotes is shown as code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from recmia.attacks import BASELINES, POOL_ATTACKS
from recmia.audit import AuditResult
from recmia.evaluation import Metric
from recmia.summary import SHARED_PATH, Grade, grade, most_exposing, section, transfer
from recmia.sweep import SweepResult

# Rules that look at the list; the others look at the history, which membership, drawn by lot, cannot have changed.
LIST_RULES = ("shared-list", "popular-overlap", "seen-in-list")
RULES: Mapping[str, str] = {
    "shared-list": "is shown a list that nobody else gets",
    "popular-overlap": "is shown few of the most popular items",
    "seen-in-list": "is shown little that it has already seen",
    "history-length": "has a long history",
    "history-popularity": "has a history of popular items",
    "recency": "was active lately",
}
GRADES: Mapping[Grade, str] = {
    "strong": "Leaks",
    "marked": "Leaks in part",
    "slight": "Next to nothing seen",
    "none": "Nothing seen",
    "unclear": "Too few users to say",
}
_HEADLINES: Mapping[Grade, str] = {
    "strong": "The recommendations give away who was in the training data.",
    "marked": "The recommendations give away, in part, who was in the training data.",
    "slight": "The attacks that were run see next to nothing of who was in the training data.",
    "none": "The attacks that were run cannot tell who was in the training data.",
    "unclear": "This audit is too small to say whether the recommendations give away who was in the training data.",
}
_ORDER: Sequence[Grade] = ("none", "unclear", "slight", "marked", "strong")
_REGIMES = {
    "popular": "people who were not in the training data are all shown one list of popular items",
    "popular-random": "people who were not in the training data are shown popular items, drawn at random",
    "fold-in": "everyone is served by the same path, in the training data or not",
    "trained": "people in the training data are served by what was trained for them, all others from their history",
}
_KNOWLEDGE = {
    "black-box": "and no data like those that the system was trained on",
    "grey-box": "and has data of other people of the same kind, on which to train and try its attacks",
    "white-box": "and has, besides data of other people of the same kind, the item vectors of the model itself",
}
# How often a share of members found must exceed the share of non-members called members to count as a leak.
_TIMES = 10
_MANY_SHADOWS = 64


@dataclass(frozen=True)
class Finding:
    """What shows in one section: at one level of knowledge, in one regime."""

    name: str
    regime: str
    knowledge: str
    grade: Grade
    best: Metric
    rule: Metric
    text: str

    @property
    def of_the_fallback(self) -> bool:
        """Whether a rule without a model sees as much, because of what non-members are served."""
        return self.regime not in SHARED_PATH and grade(self.rule) != "none" and _value(self.rule) >= _value(self.best)


def findings(metrics: Sequence[Metric]) -> list[Finding]:
    """What shows in each section, in the order of the run."""
    levels = list(dict.fromkeys(row.knowledge for row in metrics))
    found = []
    for regime in dict.fromkeys(row.regime for row in metrics):
        for level in levels:
            rows = [row for row in metrics if (row.knowledge, row.regime) == (level, regime)]
            found.append(_finding(section(level, regime, len(levels)), rows))
    return found


def _finding(name: str, rows: Sequence[Metric]) -> Finding:
    aucs = [row for row in rows if row.metric == "auc"]
    attacks = [row for row in aucs if row.attack not in BASELINES]
    rule = max((row for row in aucs if row.attack in LIST_RULES), key=_value)
    best = max(attacks or [rule], key=_value)
    strongest = max(attacks + [rule], key=lambda row: (_ORDER.index(grade(row)), _value(row)))
    judged = grade(strongest)
    caught = [row for row in rows if row.metric == "tpr@fpr=0.01" and (row.attack not in BASELINES or row == rule)]
    # Few are found, but with hardly an error: that leaks, too, and the AUC does not show it.
    if judged in ("none", "unclear", "slight") and any((row.low or 0) >= _TIMES * 0.01 for row in caught):
        judged = "marked"
    sentences = [
        f"Shown one person who was in the training data and one who was not, {_called(best)} picks the right one in "
        f"{_in_100(best)} of 100 cases; a coin would in 50."
    ]
    tpr = next((row for row in caught if row.attack == best.attack), None)
    if tpr is not None and tpr.value is not None:
        sentences.append(
            f"If it may be wrong about one in 100 of those who were not, it finds {_in_100(tpr)} of 100 who were."
        )
    finding = Finding(name, aucs[0].regime, aucs[0].knowledge, judged, best, rule, "")
    if best is not rule:
        if finding.of_the_fallback:
            sentences.append(
                f"A rule that needs no model ({rule.attack}) does as well ({_in_100(rule)} of 100): what shows is the "
                "list that non-members are given, not what the model remembers."
            )
        else:
            sentences.append(f"The best rule that needs no model ({rule.attack}): {_in_100(rule)} of 100.")
    return Finding(
        name, finding.regime, finding.knowledge, judged, best, rule, " ".join(sentences)
    )


def headline(found: Sequence[Finding]) -> tuple[Grade, str]:
    """One sentence for the whole run, after the section in which most shows."""
    worst = max(found, key=lambda finding: _ORDER.index(finding.grade)).grade
    words = _HEADLINES[worst]
    if worst in ("strong", "marked"):
        shared = [finding for finding in found if finding.regime in SHARED_PATH]
        alike = max((_ORDER.index(finding.grade) for finding in shared), default=0)
        if shared and alike < _ORDER.index("marked"):
            words += " It shows in whom the system treats differently, not in what the model remembers."
    return worst, words


def tested(result: AuditResult) -> list[str]:
    """What was tested."""
    config, data = result.config, result.provenance["data"]
    size = ", ".join(f"{data[key]:,} {words}" for key, words in (("rows_kept", "interactions"), ("users", "users"),
                                                                 ("items", "items")) if key in data)  # fmt: skip
    first = result.metrics[0]
    words = [
        f"The recommender `{config.target}` on {data['source']}{f' ({size})' if size else ''}, serving lists of "
        f"{config.k}. Which users were in its training data was drawn by lot; {first.n_members:,} who were and "
        f"{first.n_nonmembers:,} who were not were then attacked."
    ]
    regimes = list(dict.fromkeys(row.regime for row in result.metrics))
    served = "; ".join(f"`{regime}`, {_REGIMES[regime]}" for regime in regimes if regime in _REGIMES)
    return [*words, f"How people were served: {served}."]


def attackers(levels: Sequence[str]) -> str:
    """What the attackers know."""
    known = "; ".join(f"`{level}` {_KNOWLEDGE[level]}" for level in levels if level in _KNOWLEDGE)
    return (
        "The attacker sees what any outsider can who knows a person: that person's history and the list that the "
        f"system shows them. It sees no scores and nothing inside the system. What else it has: {known}."
    )


def certainty(result: AuditResult, found: Sequence[Finding]) -> list[str]:
    """How sure the findings are."""
    first = result.metrics[0]
    repeats = f"{first.seeds} independent repetitions" if first.seeds > 1 else "one draw of members"
    if first.targets > 1:
        repeats += f" with {first.targets} trained systems" + (" each" if first.seeds > 1 else "")
    worst = max(found, key=lambda finding: (_ORDER.index(finding.grade), _value(finding.best)))
    best = worst.best
    words = [
        f"Every figure has a 95% interval, over {repeats}. For {_called(best)} in `{worst.name}` it reaches from "
        f"{_percent(best.low)} to {_percent(best.high)} of 100 cases. With {first.n_nonmembers:,} people who were not in "
        f"training, error rates below {1 / first.n_nonmembers:.2g} cannot be measured, and none are reported."
    ]
    bounds = [row for row in result.metrics if row.metric == "epsilon" and row.value is not None]
    if bounds:
        bound = max(bounds, key=_value)
        words.append(
            f"In the terms of differential privacy: the most that any attack refutes is every epsilon below "
            f"{bound.value:.2f} (`{bound.attack}` in `{bound.regime}`; {bound.note})."
        )
    words.append("An audit shows what these attacks see. That they see little is no proof that a better one would.")
    return words


def exposed(result: AuditResult, exposures: pl.DataFrame) -> list[str]:
    """Who is exposed most, or why that is not known."""
    if exposures.is_empty():
        return [f"Not known. {why_no_exposures(result)}"]
    users = most_exposing(exposures)
    regime, attack, runs = users.select("regime", "attack", pl.col("n_in") + pl.col("n_out")).row(0)
    named = users.filter(pl.col("identifiable"))
    if named.is_empty():
        return [
            f"Nobody can be singled out with {runs} trained systems (`{regime}`, `{attack}`). That few systems can "
            "name few people: more targets would show more."
        ]
    words = [
        f"{len(named):,} of {len(users):,} people can be told in from out, each alone (`{regime}`, `{attack}`, {runs} "
        "trained systems; about 5% of those named are named wrongly)."
    ]
    for column, text in (("history_length", "a history of {:,.0f} items"), ("rarity", "a rarity of taste of {:.2f}")):
        medians = [float(part[column].median()) for part in (named, users.filter(~pl.col("identifiable")))
                   if len(part)]  # fmt: skip
        words.append("Half of them have " + text.format(medians[0]) + " or more" + (
            f", of the others {text.split(' of ', 1)[1].format(medians[1])}." if len(medians) > 1 else "."))  # fmt: skip
    return [" ".join(words)]


def why_no_exposures(result: AuditResult) -> str:
    """Why single users cannot be told about."""
    if not result.config.pool_attacks:
        return "No attack was run that can single people out; `--attack list-lr --targets 20` does."
    return (
        "How exposed one person is shows only over several trained systems, some with that person and some without; "
        "this run has one. Run again with `--targets 20`."
    )


def advice(result: AuditResult, found: Sequence[Finding], config: str) -> list[str]:
    """What to do; `config` is the path of the settings of the run."""
    leaks = [finding for finding in found if finding.grade in ("marked", "strong")]
    shared = [finding for finding in found if finding.regime in SHARED_PATH]
    own = result.config
    words = []
    fallback = [finding.regime for finding in leaks if finding.of_the_fallback]
    if fallback:
        words.append(
            f"Serve people who are not in the training data by the same path as everyone else, instead of by "
            f"{' or '.join(f'`{name}`' for name in dict.fromkeys(fallback))}: whoever gets the common list was not in "
            "training, and everyone else was."
        )
    remembered = [finding for finding in shared if finding in leaks]
    if remembered:
        shorter = ",".join(str(k) for k in dict.fromkeys((max(1, own.k // 5), max(1, own.k // 2), own.k)))
        epochs = f" {own.target}.epochs={_epochs(own, own.target)}" if _epochs(own, own.target) else ""
        words.append(
            "The model itself remembers whom it was trained on. See what shorter lists"
            f"{' and less training' if epochs else ''} would save: `recmia sweep --config {config} k={shorter}{epochs}`."
        )
    if not shared:
        words.append("Find out whether the model itself remembers: run again with `--regimes fold-in`.")
    elif not remembered:
        strong = "list-lr" not in own.attacks or own.shadows < _MANY_SHADOWS
        words.append(
            "Do not take this for proof that nothing leaks."
            + (f" Try the strongest attack first: `--attack list-lr --shadows {_MANY_SHADOWS}`." if strong else "")
        )
    if leaks and own.targets == 1:
        words.append("Find out who is exposed most before deciding: run again with `--targets 20`.")
    words.append("Audit again after every change of the model, of its settings or of the data.")
    return words


def _epochs(config: Any, target: str) -> str:
    table = getattr(config, target, None)
    epochs = getattr(table, "epochs", 0)
    return ",".join(str(one) for one in dict.fromkeys((max(1, epochs // 4), max(1, epochs // 2), epochs))) * bool(epochs)


def sweep_findings(result: SweepResult) -> list[tuple[Grade, str, str]]:
    """For each section of a sweep: a grade, its name, and from where to where the strongest attack goes."""
    found: list[tuple[Grade, str, str]] = []
    aucs = [Metric(**{key: row[key] for key in Metric.__dataclass_fields__}) for row in _aucs(result).iter_rows(named=True)]
    cells = [tuple(row) for row in _aucs(result).select(list(result.axes)).iter_rows()]
    levels = len({row.knowledge for row in aucs})
    for key in dict.fromkeys((row.regime, row.knowledge) for row in aucs):
        best: dict[tuple[Any, ...], Metric] = {}
        for cell, row in zip(cells, aucs, strict=True):
            if (row.regime, row.knowledge) == key and (cell not in best or _value(row) > _value(best[cell])):
                best[cell] = row
        low, high = min(best, key=lambda cell: _value(best[cell])), max(best, key=lambda cell: _value(best[cell]))
        words = (
            f"Most shows at {_cell(result, high)}: {best[high].attack} is right in {_in_100(best[high])} of 100 cases "
            f"(AUC {_value(best[high]):.3f}). Least shows at {_cell(result, low)}: {best[low].attack}, "
            f"{_in_100(best[low])} of 100 (AUC {_value(best[low]):.3f}). A coin is right in 50."
        )
        found.append((grade(best[high]), section(key[1], key[0], levels), words))
    return found


def sweep_headline(found: Sequence[tuple[Grade, str, str]]) -> tuple[Grade, str]:
    """One sentence for the whole grid."""
    worst = max((entry[0] for entry in found), key=_ORDER.index)
    if worst in ("strong", "marked"):
        return worst, "For some of the settings tried, " + _HEADLINES[worst][0].lower() + _HEADLINES[worst][1:]
    return worst, _HEADLINES[worst]


def sweep_advice(result: SweepResult) -> list[str]:
    """What to do with a sweep."""
    words = [
        "Choose a setting for what it leaks only together with what its recommendations are worth: a sweep measures "
        "the leak alone.",
        "Audit the chosen setting with `recmia audit --targets 20`, to see who is exposed.",
    ]
    if set(result.axes) == {"target", "shadow"}:
        words.insert(0, transfer(result.table).replace("\n", " "))
    return [one for one in words if one]


def _aucs(result: SweepResult) -> pl.DataFrame:
    rows = result.table.filter(pl.col("metric") == "auc", pl.col("value").is_not_null())
    attacks = rows.filter(~pl.col("attack").is_in(list(BASELINES)))
    return attacks if len(attacks) else rows.filter(pl.col("attack").is_in(LIST_RULES))


def _cell(result: SweepResult, values: Sequence[Any]) -> str:
    return ", ".join(f"`{key}={value}`" for key, value in zip(result.axes, values, strict=True))


def _called(row: Metric) -> str:
    if row.attack in BASELINES:
        return f"the rule `{row.attack}`"
    return f"`{row.attack}`" + (", which trains models of its own," if row.attack in POOL_ATTACKS else "")


def _value(row: Metric) -> float:
    return 0.0 if row.value is None else row.value


def _in_100(row: Metric) -> str:
    return _percent(row.value)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f}"

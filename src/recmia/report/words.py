"""What a run means, for readers who know neither attacks nor metrics.

Text between backquotes is shown as code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from recmia.attacks import BASELINES
from recmia.audit import IN_MEMORY, AuditResult
from recmia.config import AuditConfig, FilesConfig
from recmia.defend import NONE, POPULARITY, DefendResult
from recmia.evaluation import Metric, PromiseCheck
from recmia.game import AS_SERVED, SHARED_PATH
from recmia.summary import (
    REGIME_WORDS,
    WITHOUT_A_MODEL,
    Grade,
    grade,
    most_exposing,
    section,
    transfer,
    uneven_histories,
)
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
ATTACKS: Mapping[str, str] = {
    "list-lr": "asks how probable the list is with the user in training and without, from many shadow models",
    "list-lr-surprise": "the part of list-lr that asks how unusual the list is",
    "list-lr-counts": "the part of list-lr that counts items",
    "list-lr-ranks": "the part of list-lr that looks at ranks",
    "list-lr-ridge": "a discriminant on the lists of the user from many shadow models",
    "list-lr-offline": "list-lr from shadow models that never saw the user",
    "rmia": "compares the user's list with those of known non-members (after Zarifzadeh et al. 2024)",
    "mlp": "a neural network over history minus list, the published attack (Hu 2023)",
    "naive-bayes": "a naive Bayes classifier over history minus list (Hu 2023)",
    "decision-tree": "a decision tree over history minus list (Hu 2023)",
    "logistic-regression": "a logistic regression over history minus list",
    "random-forest": "a random forest over history minus list",
    "gradient-boosting": "boosted trees over history minus list",
    "k-nn": "the nearest neighbours over history minus list",
    "distance": "how near the list is to the history, and how far from the popular list (Chi et al. 2024)",
    "k-means": "two clusters of history minus list (Zhang et al. 2021)",
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
_LEAK = ("marked", "strong")
_ORDER: Sequence[Grade] = ("none", "unclear", "slight", "marked", "strong")
_REGIMES = {
    "popular": "people who were not in the training data are all shown one list of popular items",
    "popular-random": "people who were not in the training data are shown popular items, drawn at random",
    "fold-in": "everyone is served by the same path, in the training data or not",
    "trained": "people in the training data are served by what was trained for them, all others from their history",
    AS_SERVED: "the lists are those of the files, however they came about",
}
_KNOWLEDGE = {
    "black-box": "no data like those that the system was trained on, only public statistics or another data set",
    "grey-box": "data of other people of the same kind, on which to train and try its attacks",
    "white-box": "such data and the item vectors of the model itself",
}
_UNEVEN = (
    "Members and others differ in their histories alone: unless members were drawn by lot and this is chance, no "
    "figure here is the system's alone."
)
# How often a share of members found must exceed the share of non-members called members to count as a leak.
_TIMES = 10
_MANY_SHADOWS = 64
# AUCs that differ by less are not told apart in words.
_ALIKE = 0.01


@dataclass(frozen=True)
class Finding:
    """What shows in one section.

    Parameters
    ----------
    name, regime : str
    grade : str
        Of `recmia.summary.grade`, raised where few are found but with hardly an error.
    best : Metric
        The AUC of the strongest attack.
    about : str
        How people are served.
    label, text : str
        What the AUC of `best` says, and what else there is to say.
    of_the_fallback : bool
        Whether a rule without a model sees as much, because of what non-members are served.
    """

    name: str
    regime: str
    grade: Grade
    best: Metric
    about: str
    label: str
    text: str
    of_the_fallback: bool = False

    @property
    def value(self) -> float:
        """The AUC."""
        return _value(self.best)

    @property
    def figure(self) -> str:
        """The AUC as cases of 100."""
        return of_100(self.best.value)


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
    regime = aucs[0].regime
    # Where nobody drew members by lot, histories may tell them from others, too.
    rules = BASELINES if regime == AS_SERVED else LIST_RULES
    rule = max((row for row in aucs if row.attack in rules), key=_value)
    best = max([row for row in aucs if row.attack not in BASELINES] or [rule], key=_value)
    judged = max((grade(best), grade(rule)), key=_ORDER.index)
    tpr = next((row for row in rows if (row.metric, row.attack) == ("tpr@fpr=0.01", best.attack)), None)
    # Few are found, but with hardly an error: that leaks, too, and the AUC does not show it.
    if tpr is not None and (tpr.low or 0) >= _TIMES * 0.01:
        judged = max((judged, "marked"), key=_ORDER.index)
    sentences = []
    if tpr is not None and tpr.value is not None:
        sentences.append(
            f"If it may wrongly name one in 100 of those who were not, it finds {of_100(tpr.value)} of 100 who were."
        )
    alike = grade(rule) in _LEAK and _value(rule) >= _value(best) - _ALIKE
    if alike and best is not rule:
        sentences.append(f"A rule that needs no model, `{rule.attack}`, does as well: {WITHOUT_A_MODEL[regime]}")
    elif best is not rule:
        sentences.append(f"The best rule that needs no model, `{rule.attack}`: {of_100(rule.value)} of 100 pairs.")
    if regime == AS_SERVED and uneven_histories(aucs):
        sentences.append(_UNEVEN)
    fallback = alike and regime in ("popular", "popular-random")
    label = (
        f"pairs told apart by {_called(best)}: of one person who was in the training data and one who was not, it "
        "picks the right one. A coin: 50."
    )
    return Finding(name, regime, judged, best, REGIME_WORDS.get(regime, ""), label, " ".join(sentences), fallback)


def headline(found: Sequence[Finding], promises: Sequence[PromiseCheck] = ()) -> tuple[Grade, str, str]:
    """A grade and a sentence for the whole run, after the section in which most shows, and what qualifies it."""
    worst = max((finding.grade for finding in found), key=_ORDER.index)
    alike = max((finding.grade for finding in found if finding.regime in SHARED_PATH), key=_ORDER.index, default=worst)
    more = ""
    if worst in _LEAK and alike not in _LEAK:
        more = "This shows in whom the system serves differently. Where everyone is served by the same path, " + (
            "this audit is too small to say." if alike == "unclear" else "these attacks see next to nothing."
        )
    if any(_UNEVEN in finding.text for finding in found):
        more = _UNEVEN
    if any(promise.broken for promise in promises):
        # Whatever the attacks see, it is more than was promised.
        worst = max((worst, "marked"), key=_ORDER.index)
        more = f"A promise of differential privacy is broken: what is stated is not what is done. {more}".strip()
    return worst, _HEADLINES[worst], more


def tested(result: AuditResult) -> list[str]:
    """What was tested."""
    config, data = result.config, result.provenance["data"]
    known = "is told by a file" if isinstance(config, FilesConfig) else "was drawn by lot"
    defended = f", defended by `{config.defence}`," if config.defence else ""
    size = ", ".join(f"{data[key]:,} {words}" for key, words in (("rows_kept", "interactions"), ("users", "users"),
                                                                 ("items", "items")) if key in data)  # fmt: skip
    first = result.metrics[0]
    regimes = list(dict.fromkeys(row.regime for row in result.metrics))
    return [
        f"The recommender `{config.target}`{defended} on {data['source']}{f' ({size})' if size else ''}, serving "
        f"lists of {config.k}. Which users were in its training data {known}; {first.n_members:,} who were and "
        f"{first.n_nonmembers:,} who were not were then attacked.",
        "; ".join(f"In `{regime}`, {_REGIMES[regime]}" for regime in regimes if regime in _REGIMES).replace(
            "; In", "; in"
        )
        + ".",
    ]


def attackers(levels: Sequence[str]) -> str:
    """What the attackers know."""
    known = "; ".join(f"{_KNOWLEDGE[level]} (`{level}`)" for level in levels if level in _KNOWLEDGE)
    return (
        "The attacker sees what any outsider can who knows a person: that person's history and the list that the "
        f"system shows them. Besides, it has {known}."
    )


def certainty(result: AuditResult, found: Sequence[Finding]) -> list[str]:
    """How sure the findings are."""
    first = result.metrics[0]
    systems = f"{first.targets} trained systems" if first.targets > 1 else "one trained system"
    repeats = f"{first.seeds} independent repetitions, each of {systems}" if first.seeds > 1 else systems
    each = "; ".join(
        f"in `{one.name}`, {_called(one.best)} is right in {_exact(one.best.low)} to {_exact(one.best.high)} of 100"
        for one in found
    )
    words = [
        f"Every figure has a 95% interval, over {repeats}: {each}. With {first.n_nonmembers:,} people who were not in "
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
    words = (
        f"{len(named):,} of {len(users):,} people can be told in from out, each alone (`{regime}`, `{attack}`, {runs} "
        "trained systems; of those named, about 5% or fewer are named wrongly)."
    )
    others = users.filter(~pl.col("identifiable"))
    if len(others):
        history, taste = (
            [f"{float(part[column].median()):{form}}" for part in (named, others)]  # type: ignore[arg-type]
            for column, form in (("history_length", ",.0f"), ("rarity", ".2f"))
        )
        words += (
            f" Their histories hold {history[0]} items in the median, those of the others {history[1]}; the rarity of "
            f"their taste is {taste[0]} against {taste[1]}."
        )
    return [words]


def why_no_exposures(result: AuditResult) -> str:
    """Why single users cannot be told about."""
    if isinstance(result.config, FilesConfig):
        return (
            "How exposed one person is shows only over several trained systems, some with that person and some "
            "without; files hold one."
        )
    if not result.config.pool_attacks:
        return "No attack was run that can single people out; `--attack list-lr --targets 20` does."
    return (
        "How exposed one person is shows only over several trained systems, some with that person and some without; "
        "this run has one. Run again with `--targets 20`."
    )


def advice(result: AuditResult, found: Sequence[Finding], config: str) -> list[str]:
    """What to do; `config` is the path of the settings of the run."""
    if isinstance(result.config, FilesConfig):
        words = _advice_on_files(result.config, found)
    else:
        words = _advice(result.config, found, config)
    return [*words, "Audit again after every change of the model, of its settings or of the data."]


def _advice(own: AuditConfig, found: Sequence[Finding], config: str) -> list[str]:
    leaks = [finding for finding in found if finding.grade in _LEAK]
    shared = [finding for finding in found if finding.regime in SHARED_PATH]
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
        words.append(
            "The model itself remembers whom it was trained on. Measure what defences bring and what they cost"
            # What was in memory, no command can find again.
            + ("." if IN_MEMORY in own.dataset + own.target else f": `recmia defend --config {config} --held-out 0.2`.")
        )
    if not shared:
        words.append("Find out whether the model itself remembers: run again with `--regimes fold-in`.")
    elif not remembered:
        if any(finding.grade == "unclear" for finding in shared):
            words.append("Narrow the intervals before deciding anything: more users, `--targets` or `--seeds`.")
        strong = "list-lr" not in own.attacks or own.shadows < _MANY_SHADOWS
        words.append(
            "Do not take this for proof that nothing leaks."
            + (f" Try the strongest attack first: `--attack list-lr --shadows {_MANY_SHADOWS}`." if strong else "")
        )
    if leaks and own.targets == 1:
        words.append("Find out who is exposed most before deciding: run again with `--targets 20`.")
    return words


def _advice_on_files(own: FilesConfig, found: Sequence[Finding]) -> list[str]:
    words = []
    if any(finding.grade in _LEAK for finding in found):
        words.append(
            "Find out whether members and others are served differently, or the model remembers: let the system serve "
            "both from their histories alone, by the same path, and audit those lists."
        )
    if any(_UNEVEN in finding.text for finding in found):
        words.append("Draw members by lot: leave a random half of some users out of one training.")
    if not (own.pool_lists and own.pool_attacks):
        words.append(
            "Try the strongest attack: train your own system on random halves of these people, and audit with "
            "`--attacks list-lr --pool-lists --pool-members`."
        )
    return words


def sweep_findings(result: SweepResult) -> list[Finding]:
    """For each section of a sweep, where the strongest attack sees most, and where least."""
    table = _aucs(result)
    names = list(Metric.__dataclass_fields__)
    levels = table["knowledge"].n_unique()
    found = []
    for (regime, level), part in table.partition_by("regime", "knowledge", as_dict=True, maintain_order=True).items():
        best: dict[tuple[Any, ...], Metric] = {}
        for row in part.sort("value", maintain_order=True).iter_rows(named=True):
            best[tuple(row[key] for key in result.axes)] = Metric(**{name: row[name] for name in names})
        low, high = (pick(best, key=lambda cell: _value(best[cell])) for pick in (min, max))
        alike = _value(best[high]) - _value(best[low]) < _ALIKE
        words = (
            "Nearly as much shows in every other setting."
            if alike
            else (
                f"Least shows at {_cell(result, low)}: {_called(best[low])} is right in {of_100(best[low].value)} of "
                f"100 cases (AUC {_interval(best[low])})."
            )
        )
        label = (
            f"pairs told apart by {_called(best[high])} at {_cell(result, high)}, where most shows (AUC "
            f"{_interval(best[high])}). A coin: 50."
        )
        name = section(str(level), str(regime), levels)
        about = REGIME_WORDS.get(str(regime), "")
        found.append(Finding(name, str(regime), grade(best[high]), best[high], about, label, words))
    return found


def sweep_headline(found: Sequence[Finding]) -> tuple[Grade, str]:
    """One sentence for the whole grid."""
    worst = max((finding.grade for finding in found), key=_ORDER.index)
    words = _HEADLINES[worst]
    return worst, f"For some of the settings tried, {words[0].lower()}{words[1:]}" if worst in _LEAK else words


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


def defend_findings(result: DefendResult) -> list[Finding]:
    """For each regime, what shows of the undefended system, and what the advice is."""
    found = []
    advice = dict(line.partition(": ")[::2] for line in result.advice.splitlines())
    for row in result.table.filter(defence=NONE).iter_rows(named=True):
        aucs = result.sweep.table.filter(defence="", regime=row["regime"], metric="auc", attack=row["auc_attack"])
        best = aucs.sort("value", descending=True).select(list(Metric.__dataclass_fields__)).row(0, named=True)
        metric = Metric(**best)
        label = f"pairs told apart by {_called(metric)} in the undefended system (AUC {_interval(metric)}). A coin: 50."
        regime, words = row["regime"], advice[row["regime"]]
        text = words[:1].upper() + words[1:]
        found.append(Finding(regime, regime, grade(metric), metric, REGIME_WORDS.get(regime, ""), label, text))
    return found


def defend_headline(result: DefendResult) -> tuple[Grade, str, str, str]:
    """A grade, a word for it, a sentence, and what qualifies it."""
    kept = result.table.filter(~pl.col("broken"))
    regimes = result.table["regime"].n_unique()
    under = kept.filter(pl.col("auc_high") < result.level).group_by("defence", maintain_order=True).len()
    holding = under.filter(pl.col("len") == regimes)["defence"].to_list()
    defences = [name for name in holding if name not in (NONE, POPULARITY)]
    where = "" if regimes == 1 else " in every regime"
    goal = f"every attack under an AUC of {result.level:g}{where}"
    if len(result.broken):
        names = ", ".join(f"`{name}`" for name in result.broken["defence"].unique(maintain_order=True))
        more = f"The audit refutes what {names} states. What is stated is not what is done; do not rely on it."
        return "strong", "Broken promise", "A defence does not keep what it promises.", more
    if NONE in holding:
        return "none", "No defence needed", f"The system keeps {goal} as it is, undefended.", ""
    if defences:
        words = f"{len(defences)} of the defences tried {'keep' if len(defences) > 1 else 'keeps'} {goal}."
        return "none", "A defence holds", words, "They are: " + ", ".join(f"`{name}`" for name in defences) + "."
    more = "Popular lists for all would: they remember nobody." if POPULARITY in holding else ""
    partly = under.filter(~pl.col("defence").is_in([NONE, POPULARITY]))["defence"].to_list() if regimes > 1 else []
    if partly:
        more = f"In some regime, these do: {', '.join(f'`{name}`' for name in partly)}. {more}".strip()
    return "marked", "No defence holds", f"None of the defences tried keeps {goal}.", more


def defend_advice(result: DefendResult, config: str) -> list[str]:
    """What to do with a comparison of defences."""
    words = []
    if len(result.broken):
        words.append("Do not use a defence with a broken promise before it is mended.")
    return [
        *words,
        "Take, for each regime that you serve, the defence that the advice above names; where it names none, try "
        "stronger settings, or several defences together, joined by `+`.",
        "Narrow intervals before deciding between defences that lie close together: more `--seeds`.",
        f"Audit what you chose, to see who is still exposed: `recmia audit --config {config} --defence NAME=STRENGTH "
        "--targets 20`.",
    ]


def _aucs(result: SweepResult) -> pl.DataFrame:
    rows = result.table.filter(pl.col("metric") == "auc", pl.col("value").is_not_null())
    attacks = rows.filter(~pl.col("attack").is_in(list(BASELINES)))
    return attacks if len(attacks) else rows.filter(pl.col("attack").is_in(LIST_RULES))


def _cell(result: SweepResult, values: Sequence[Any]) -> str:
    return ", ".join(f"`{key}={value}`" for key, value in zip(result.axes, values, strict=True))


def _called(row: Metric) -> str:
    return f"the rule `{row.attack}`" if row.attack in BASELINES else f"`{row.attack}`"


def _value(row: Metric) -> float:
    return 0.0 if row.value is None else row.value


def _interval(row: Metric) -> str:
    return f"{row.value:.3f} [{row.low:.3f}–{row.high:.3f}]"


def of_100(value: float | None) -> str:
    """A share as cases of 100; 100 only where it is all of them, but for what rounding hides."""
    if value is None:
        return "–"
    return f"{100 * value:.0f}" if 0.01 <= value <= 0.99 else _exact(value)


def _exact(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.3g}"

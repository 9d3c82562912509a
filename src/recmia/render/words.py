"""The sentences of a page that are not findings, for readers who know neither attacks nor metrics.

`recmia.results.findings` says what was found. This module says what was tested, what the attacker knows, how certain
the results are, and what to do. Text between backquotes is shown as code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from recmia.attacks import ATTACKS, RULES
from recmia.game.cost import models_a_seed
from recmia.metrics import Metric
from recmia.metrics.epsilon import most_found
from recmia.results.audit import AuditResult
from recmia.results.defend import NONE, POPULARITY, DefendResult
from recmia.results.findings import (
    LEAK,
    ORDER,
    UNITS,
    Finding,
    Findings,
    Grade,
    called,
    fewest,
    figure,
    most_identified,
    noted,
    of_100,
    towards_members,
    worst_of,
)
from recmia.results.sweep import SweepResult
from recmia.settings import AS_SERVED, IN_MEMORY, SERVED_ALIKE, AuditSettings, FilesSettings

_REGIMES: Mapping[str, str] = {
    "popular": "people who were not in the training data are all shown one list of popular items",
    "popular-random": "people who were not in the training data are shown popular items, drawn at random",
    "fold-in": "everyone is served by the same path, in the training data or not",
    "trained": "people in the training data are served by what was trained for them, all others from their history",
    AS_SERVED: "lists and answers are those of the files, however they came about",
}
_KNOWLEDGE: Mapping[str, str] = {
    "black-box": "no data of the kind that the system was trained on, only public statistics or another data set",
    "grey-box": "data of the same kind from other people, on which to train systems and attacks",
    "white-box": "such data and the item vectors of the model itself",
}
NO_PROOF = "An audit shows what these attacks find. It does not prove that no other attack finds more."
_MANY_SHADOWS = 16
# An advice to run again says how many times longer that takes, from so many times on.
_MUCH = 1.5
# AUCs that differ by less are described as equal.
_ALIKE = 0.01


def figure_of_100(finding: Finding) -> str:
    """Return the AUC of the strongest attack as pairs of 100 that it tells apart, in whichever direction."""
    return of_100(towards_members(finding.best)[0])


def bar_label(finding: Finding, unit: str = "users") -> str:
    """Say what the large figure of a finding is."""
    if unit == "interactions":
        return (
            "pairs of an interaction that was trained on and one that was not, in which "
            f"{called(finding.best)} tells which is which. Chance: 50."
        )
    return f"pairs of a member and a non-member in which {called(finding.best)} tells which is the member. Chance: 50."


def tested(result: AuditResult) -> list[str]:
    """Say what was tested."""
    settings, data = result.settings, result.provenance["data"]
    known = "is stated in a file" if isinstance(settings, FilesSettings) else "was drawn at random"
    defence = settings.system.defence if isinstance(settings, AuditSettings) else ""
    defended = f", defended by `{defence}`," if defence else ""
    size = ", ".join(f"{data[key]:,} {words}" for key, words in (("rows_kept", "interactions"), ("users", "users"),
                                                                 ("items", "items")) if key in data)  # fmt: skip
    first = result.metrics[0]
    # Of answers alone, no list is shown to anybody.
    serving = (
        "answering with" if isinstance(settings, FilesSettings) and not settings.files.lists else "serving lists of"
    )
    return [
        f"The recommender `{settings.target}`{defended} on {data['source']}{f' ({size})' if size else ''}, {serving} "
        f"{settings.k} items. {_who_was(settings.unit)} in its training data {known}. The attacks were run on "
        f"{fewest(first)}{_in_and_out(settings.unit, first)}.",
        regimes([row.regime for row in result.metrics]),
        *result.findings.caveats,
    ]


def _who_was(unit: str) -> str:
    return "Who was" if unit == "users" else "Which interactions were"


def _in_and_out(unit: str, row: Metric) -> str:
    if unit == "users":
        return f"{row.n_members:,} people who were in it (members) and {row.n_nonmembers:,} who were not (non-members)"
    return f"{row.n_members:,} interactions that were in it and {row.n_nonmembers:,} of the same people that were not"


def regimes(names: Sequence[str]) -> str:
    """Say what each regime means."""
    told = "; ".join(f"in `{name}`, {_REGIMES[name]}" for name in dict.fromkeys(names) if name in _REGIMES)
    return f"{told[:1].upper()}{told[1:]}."


def attacks_run(names: Sequence[str]) -> str:
    """Say what each attack does; rules that need no model are left to the table."""
    attacks = [name for name in names if name not in RULES]
    if not attacks:
        return "None: only rules that need no model were applied."
    return "; ".join(f"`{name}`: {ATTACKS[name].about if name in ATTACKS else 'user code'}" for name in attacks) + "."


def intervals(row: Mapping[str, Any]) -> str:
    """Say over what the intervals of a grid are; `row` is any row of its table."""
    seeds = row["seeds"]
    repeats = f"over {seeds} independent repetitions" if seeds > 1 else "over the users of a single repetition"
    return (
        f"Every figure has a 95% interval, {repeats}, with {row['n_members']:,} members and {row['n_nonmembers']:,} "
        "non-members each."
    )


def attackers(levels: Sequence[str], known: float = 1.0) -> str:
    """Say what the attackers know; `known` is the share of a history that they know."""
    told = "; ".join(f"{_KNOWLEDGE[level]} (`{level}`)" for level in levels if level in _KNOWLEDGE)
    history = "that person's history" if known == 1 else f"{known:.0%} of that person's history, drawn at random,"
    return (
        f"The attacker sees what an outsider who knows a person can see: {history} and the list that the system shows "
        f"them. In addition, the attacker has {told}."
    )


def queries(result: AuditResult) -> str:
    """Say what the attacker asked."""
    asked = noted(result.provenance, "asked")
    if asked is None:
        return "The attacker only looked at lists, and did not ask the system."
    if result.settings.unit == "interactions":
        words = (
            "Attacks that ask hide a part of a person's history, put the rest to the system as if it were a "
            f"stranger's, and look for each hidden item in the answer: {asked['queries']:,} queries to each system, so "
            "that every interaction is hidden once."
        )
        fewer, never = asked["users_with_fewer_blocks"], asked["users_not_asked_about"]
        if fewer or never:
            words += (
                f" The histories of {fewer:,} people have fewer items than {asked['blocks']} parts; {never:,} people "
                "have a single item, of which nothing can be asked."
            )
        return words
    if asked.get("kind") == "prefixes":
        part, seen, most = "the first events", "whether it answers with the next item", "up to "
    else:
        part, seen, most = "parts", "what it answers", ""
    words = (
        f"Attacks that ask put {part} of what they know of a person's history to the system, as if it were a "
        f"stranger's, and see {seen}: {asked['queries']:,} queries to each system, "
        f"{most}{result.settings.attacker.queries} a person."
    )
    less, never = asked["users_asked_about_less_often"], asked["users_not_asked_about"]
    if less or never:
        words += f" The histories of {less:,} people are too short for so many, and of {never:,} nothing can be asked."
    return words


def certainty(result: AuditResult, found: Findings) -> list[str]:
    """Say how certain the findings are."""
    first = result.metrics[0]
    systems = f"{first.targets} trained systems" if first.targets > 1 else "one trained system"
    repeats = f"{first.seeds} independent repetitions, each of {systems}" if first.seeds > 1 else systems
    unit = result.settings.unit
    which = "which is the member" if unit == "users" else "which was trained on"
    each = "; ".join(
        f"in `{one.name}`, {called(one.best)} tells {which} in {_exact(one.best.low)} to "
        f"{_exact(one.best.high)} of 100 pairs"
        for one in found.sections
    )
    held_back = "people who were not in training" if unit == "users" else "interactions that were not in training"
    words = [
        f"Every figure has a 95% interval, over {repeats}. Those of the findings are wider, so that all hold together: "
        f"{each}. With {first.n_nonmembers:,} {held_back}, error rates below {1 / first.n_nonmembers:.2g} cannot be "
        "measured, and none are reported."
    ]
    bounds = [row for row in result.metrics if row.metric == "epsilon" and row.value is not None]
    if bounds:
        bound = max(bounds, key=lambda row: row.value or 0.0)
        most = most_found(bound.value or 0.0, 0.0, 0.01)
        words.append(
            f"In the terms of differential privacy, the attacks refute every epsilon below {bound.value:.2f} "
            f"(`{bound.attack}` in `{bound.regime}`; {bound.note}). With any smaller epsilon, at an FPR of 1% at most "
            f"{of_100(most)} of 100 {UNITS[unit].inside} could be found."
        )
        gaussian = result.gaussian(bound)
        if gaussian.mu > 0:
            words.append(
                f"Read as Gaussian differential privacy, the same guesses refute every mu below {gaussian.mu:.2f}. For "
                "a system whose trade-off curve is Gaussian, as that of training with noise nearly is, that is an "
                f"epsilon of {gaussian.epsilon:.2f} at a delta of {gaussian.delta:g}."
            )
    return [*words, NO_PROOF]


def exposed(result: AuditResult, per_user_auc: pl.DataFrame) -> list[str]:
    """Say who is identified, or why that is not known; ids as in `per_user_auc`."""
    if per_user_auc.is_empty():
        found = result.findings.users.partition(" The most exposed: ")[0]
        known = found or ("" if result.settings.unit == "interactions" else "Not known.")
        return [f"{known} {why_no_users(result)}".strip()]
    users = most_identified(per_user_auc)
    named = users.filter(pl.col("identifiable"))
    words = result.findings.users.partition(" The most exposed: ")[0]
    others = users.filter(~pl.col("identifiable"))
    if len(named) and len(others):
        history, taste = (
            [f"{float(part[column].median()):{form}}" for part in (named, others)]  # type: ignore[arg-type]
            for column, form in (("history_length", ",.0f"), ("rarity", ".2f"))
        )
        words += (
            f" Their histories have a median length of {history[0]} items, those of other people {history[1]}; the "
            f"median rarity of their taste is {taste[0]}, that of other people {taste[1]}."
        )
    return [words]


def why_no_users(result: AuditResult) -> str:
    """Say why nothing can be said of single users."""
    if result.settings.unit == "interactions":
        return "This audit is of single interactions: the table has those that the strongest attack is surest of."
    if isinstance(result.settings, FilesSettings):
        return (
            "These files are of one system: whoever would have a high score in any system has one here, too. To tell "
            "the two apart takes several trained systems, some with a person in the training data and some without."
        )
    if not any(name in ATTACKS and ATTACKS[name].needs == "pool" for name in result.settings.attacker.attacks):
        return "No attack was run that can identify single people; `--attack query-lr --n-targets 20` does."
    assert isinstance(result.settings, AuditSettings), "of data or of files"
    return (
        "How exposed one person is can be measured only over several trained systems, some with that person in the "
        "training data and some without; this run has one. Run again with `--n-targets 20`."
        + _takes(result.settings, n_targets=20)
    )


def _takes(own: AuditSettings, of: str = "this run", **changed: Any) -> str:
    """Say how many times the time of a run the same run takes with other settings, where that is much more.

    Training takes most of the time, and so the models are counted: what is in the store took none.
    """
    times = models_a_seed(own.changed(**changed)) / models_a_seed(own)
    return f" That takes about {times:.2g} times the time of {of}." if times >= _MUCH else ""


def advice(result: AuditResult, config: str) -> list[str]:
    """Say what to do; `config` is the path of the settings of the run."""
    found, settings = result.findings.sections, result.settings
    if settings.unit == "interactions":
        words = _advice_on_interactions(found)
    elif isinstance(settings, FilesSettings):
        words = _advice_on_files(settings, found)
    else:
        assert isinstance(settings, AuditSettings), "of data or of files"
        words = _advice(settings, found, config)
    return [*words, "Audit again after every change of the model, of its settings or of the data."]


def _advice_on_interactions(found: Sequence[Finding]) -> list[str]:
    if any(finding.grade in LEAK for finding in found):
        return [
            "Rare items give most away: look at the groups below, and consider leaving items of very few people out of "
            "training and of answers.",
            "Measure what defences achieve and cost: `recmia defend --unit interactions`.",
        ]
    return ["Do not take this as proof that nothing leaks."]


def _advice(own: AuditSettings, found: Sequence[Finding], config: str) -> list[str]:
    leaks = [finding for finding in found if finding.grade in LEAK]
    shared = [finding for finding in found if finding.regime in SERVED_ALIKE]
    words = []
    fallback = [finding.regime for finding in leaks if finding.of_the_fallback]
    if fallback:
        words.append(
            f"Serve people who are not in the training data by the same path as everyone else, instead of by "
            f"{' or '.join(f'`{name}`' for name in dict.fromkeys(fallback))}: the common list reveals that a person "
            "was not in the training data, and any other list that a person was."
        )
    remembered = [finding for finding in shared if finding in leaks]
    if remembered:
        words.append(
            "The model itself memorised people of its training data. Measure what defences achieve and cost"
            # What was in memory, no command can find again.
            + ("." if IN_MEMORY in own.source + own.target else f": `recmia defend --config {config} --held-out 0.2`.")
        )
    if not shared:
        words.append("Test whether the model itself memorised people: run again with `--regimes fold-in`.")
    elif not remembered:
        if any(finding.grade == "unclear" for finding in shared):
            words.append(
                "Obtain narrower intervals before any decision: use more users, `--n-targets` or `--seeds`. Twice the "
                "seeds take twice the time."
            )
        strong = "query-lr" not in own.attacker.attacks or own.attacker.n_shadows < _MANY_SHADOWS
        words.append(
            "Do not take this as proof that nothing leaks."
            + (f" Run the strongest attack first: `--attack query-lr --n-shadows {_MANY_SHADOWS}`." if strong else "")
            + (_takes(own, attacks=["query-lr"], n_shadows=_MANY_SHADOWS) if strong else "")
        )
    if leaks and own.n_targets == 1:
        words.append(
            "Find out who is exposed most before any decision: run again with `--n-targets 20`."
            + _takes(own, n_targets=20)
        )
    return words


def _advice_on_files(own: FilesSettings, found: Sequence[Finding]) -> list[str]:
    words = []
    leaks, asked = any(finding.grade in LEAK for finding in found), bool(own.files.answers)
    if leaks and asked:
        words.append(
            "The system answers a stranger's question differently when it was trained on that history. Measure what "
            "defences achieve and cost on a recommender of the same kind: `recmia defend --recommender NAME`."
        )
    elif leaks:
        words.append(
            "Find out whether members and non-members are served differently or the model memorised members: let the "
            "system serve both from their histories alone, by the same path, and audit those lists."
        )
    if any("differ in their histories alone" in caveat for finding in found for caveat in finding.caveats):
        words.append(
            "Draw members at random: toss a coin for some users, and leave those with tails out of one training."
        )
    if not asked:
        words.append(
            "Run the strongest attack that one training is enough for: `recmia ask` writes questions, and "
            "`recmia audit-files --questions --answers` audits the answers."
        )
    elif "completion" in own.attacker.attacks and "completion-reference" not in own.attacker.attacks:
        words.append(
            "Run the stronger attack: name people who are not audited with `--reference-interactions`, or answers of "
            "the system trained without the audited users with `--reference-answers`."
        )
    elif not own.files.reference_answers:
        words.append(
            "Answers of your own system, trained once more without the audited users (`--reference-answers`), compare "
            "better than models of another kind."
        )
    return words


def sweep_findings(result: SweepResult) -> list[Finding]:
    """Return, for each section of a sweep, the cell where most is found; its details name the cell where least is."""
    by_section: dict[str, list[tuple[str, Finding]]] = {}
    for values, found in result.findings:
        cell = ", ".join(f"`{key}={value}`" for key, value in values.items())
        for section in found.sections:
            by_section.setdefault(section.name, []).append((cell, section))
    picked = []
    for cells in by_section.values():
        ranked = sorted(cells, key=lambda one: towards_members(one[1].best)[0])
        (least_at, least), (most_at, most) = ranked[0], ranked[-1]
        if towards_members(most.best)[0] - towards_members(least.best)[0] < _ALIKE:
            words = "Nearly as much is found in every other setting."
        else:
            words = f"Least is found at {least_at}: AUC {figure(least.best)} with {called(least.best)}."
        claim = f"Most is found at {most_at}: AUC {figure(most.best)} with {called(most.best)}."
        worst = worst_of([section for _, section in cells])
        picked.append(worst_of([worst], figures=(most.best,), claim=claim, details=(words,)))
    return picked


def sweep_headline(result: SweepResult) -> tuple[Grade, str]:
    """Return a grade and a sentence for the whole grid."""
    grades = [found.grade for _, found in result.findings]
    worst = max(grades, key=ORDER.index)
    where = "In all settings tried" if set(grades) == {worst} else "In some of the settings tried"
    words: Mapping[Grade, str] = {
        "strong": f"{where}, the recommendations reveal who was in the training data.",
        "marked": f"{where}, the recommendations reveal, in part, who was in the training data.",
        "slight": "In all settings tried, the attacks find little about who was in the training data.",
        "none": "In all settings tried, the attacks cannot tell who was in the training data.",
        "untested": "No strong attack was run, so this sweep cannot say whether the recommendations reveal who was in "
        "the training data.",
        "unclear": "This sweep is too small to say whether the recommendations reveal who was in the training data.",
    }
    return worst, words[worst]


def sweep_advice(result: SweepResult) -> list[str]:
    """Say what to do after a sweep."""
    return [
        "Consider what a setting leaks together with its recommendation quality, which a sweep does not measure.",
        "Audit the chosen setting with `recmia audit --n-targets 20`, to see who is exposed."
        + _takes(result.settings, "one setting of this sweep", n_targets=20),
    ]


def defend_findings(result: DefendResult) -> list[Finding]:
    """Return, for each regime, the finding about the undefended system, with the advice as its claim."""
    advice = dict(line.partition(": ")[::2] for line in result.advice.splitlines())
    found = []
    for finding in result.findings:
        words = advice[finding.regime]
        found.append(worst_of([finding], claim=words[:1].upper() + words[1:], details=()))
    return found


def defend_headline(result: DefendResult) -> tuple[Grade, str, str, str]:
    """Return a grade, a label for it, a sentence, and what qualifies it."""
    kept = result.table.filter(~pl.col("broken"))
    regimes = result.table["regime"].n_unique()
    under = kept.filter(pl.col("auc_high") < result.level).group_by("defence", maintain_order=True).len()
    holding = under.filter(pl.col("len") == regimes)["defence"].to_list()
    defences = [name for name in holding if name not in (NONE, POPULARITY)]
    where = "" if regimes == 1 else " in every regime"
    goal = f"every attack under an AUC of {result.level:g}{where}"
    if len(result.broken):
        names = ", ".join(f"`{name}`" for name in result.broken["defence"].unique(maintain_order=True))
        more = f"The audit refutes the epsilon that {names} promises. Do not rely on it."
        return "strong", "Broken promise", "A defence does not provide the privacy that it promises.", more
    if NONE in holding:
        leaking = [one for one in result.findings if one.grade in LEAK]
        if leaking:
            # An AUC shows neither that few members are found surely, nor a bound on epsilon.
            words = f"The system keeps {goal} without a defence, but it leaks all the same."
            return worst_of(leaking).grade, "Leaks", words, leaking[0].claim
        return "none", "Under the level", f"The system keeps {goal} without a defence.", ""
    if defences:
        words = f"{len(defences)} of the defences tried {'keep' if len(defences) > 1 else 'keeps'} {goal}."
        return "none", "A defence holds", words, "They are: " + ", ".join(f"`{name}`" for name in defences) + "."
    more = "Popular lists for everyone do: they depend on no single person." if POPULARITY in holding else ""
    partly = under.filter(~pl.col("defence").is_in([NONE, POPULARITY]))["defence"].to_list() if regimes > 1 else []
    if partly:
        more = f"In some regimes, these do: {', '.join(f'`{name}`' for name in partly)}. {more}".strip()
    return "marked", "No defence holds", f"None of the defences tried is shown to keep {goal}.", more


def defend_advice(result: DefendResult, config: str) -> list[str]:
    """Say what to do after a comparison of defences."""
    words = []
    if len(result.broken):
        words.append("Do not use a defence with a broken promise before it is corrected.")
    return [
        *words,
        "Use, for each regime that you serve, the defence that is named above; where none is named, try stronger "
        "settings or several defences together, joined by `+`.",
        "Obtain narrower intervals before choosing between defences with similar results: use more `--seeds`. Twice "
        "the seeds take twice the time.",
        "Audit the chosen defence, to see who is still exposed: "
        f"`recmia audit --config {config} --defence NAME=STRENGTH --n-targets 20`."
        + _takes(result.sweep.settings, "one defence of this run", n_targets=20),
    ]


def what_attacks_do(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the name of each attack or rule, and what it does."""
    told = []
    for name in names:
        about = ATTACKS[name].about if name in ATTACKS else ""
        told.append((name, f"considers a member anyone who {about}" if name in RULES else about))
    return told


def _exact(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.3g}"

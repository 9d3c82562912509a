"""The sentences of a page that are not findings, for readers who know neither attacks nor metrics.

`recmia.results.findings` says what was found. This module says what was tested, what the attacker knows, how certain
the results are, and what to do. Text between backquotes is shown as code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from recmia.attacks import ATTACKS, RULES
from recmia.metrics import Metric
from recmia.metrics.epsilon import most_found
from recmia.render.answers import takes
from recmia.results.audit import AuditResult
from recmia.results.defend import DefendResult
from recmia.results.findings import (
    LEAK,
    ORDER,
    UNITS,
    Finding,
    Findings,
    Grade,
    as_served_first,
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
from recmia.settings import AS_SERVED, AnyAuditSettings, AuditSettings, FilesSettings

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
# AUCs that differ by less are described as equal.
_ALIKE = 0.01


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
        *left_out(settings, data),
        regimes([row.regime for row in result.metrics]),
        *result.findings.caveats,
    ]


def left_out(settings: AnyAuditSettings, data: Mapping[str, Any]) -> list[str]:
    """Say how many users were left out for too short a history; nothing where that is not known."""
    read, kept = data.get("users_read"), data.get("users")
    # Files say who is audited, of however many people.
    if read is None or kept is None or not isinstance(settings, AuditSettings):
        return []
    most, words = settings.data.max_users, []
    if read != kept:
        words.append(
            f"{read - kept:,} of the {read:,} users were left out, for fewer than {settings.data.min_interactions} "
            "interactions each: the audit says nothing about them."
        )
    if 0 < most < kept:
        words.append(f"Of the {'others' if words else f'{kept:,} users'}, {most:,} were drawn at random.")
    return words or ["No user of the data was left out."]


def period(about: Mapping[str, Any]) -> str:
    """Return the period of the data, from the provenance; empty where it is not known."""
    return " to ".join(about["data"].get("period", ()))


def _who_was(unit: str) -> str:
    return "Who was" if unit == "users" else "Which interactions were"


def _in_and_out(unit: str, row: Metric) -> str:
    if unit == "users":
        return f"{row.n_members:,} people who were in it (members) and {row.n_nonmembers:,} who were not (non-members)"
    return f"{row.n_members:,} interactions that were in it and {row.n_nonmembers:,} of the same people that were not"


def regimes_of(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return each regime with what it means."""
    return [(name, _REGIMES[name]) for name in as_served_first(names) if name in _REGIMES]


# The words of a table's head, for whoever does not know them.
FIGURES: Sequence[tuple[str, str]] = (
    ("member", "a person, or an interaction, in the training data of the system that is attacked"),
    ("AUC", "the probability that, of one member and one non-member, the attack names the member; 0.5 is a coin's"),
    ("TPR at FPR 0.01", "the share of members found when one non-member in 100 is wrongly called a member"),
    ("epsilon", "of differential privacy: a system that keeps it lets no attack change the odds by more than a factor "
     "of e to the power of epsilon; the figure is the largest that the attack refutes"),
    ("95% interval", "made so that it contains the true value in 95 of 100 such audits"),
)  # fmt: skip


def regimes(names: Sequence[str]) -> str:
    """Say what each regime means."""
    told = "; ".join(f"in `{name}`, {about}" for name, about in regimes_of(names))
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


def attackers_on_files(settings: FilesSettings, metrics: Sequence[Metric]) -> str:
    """Say what the attackers of an audit of files have."""
    files, needs = settings.files, {ATTACKS[row.attack].needs for row in metrics if row.attack in ATTACKS}
    seen = [
        *(["the list that the system shows them"] if files.lists else []),
        *(["its answers to questions"] if files.answers else []),
    ]
    besides = [
        *(["systems of the same kind, trained on other people's data"] if needs & {"shadow", "pool"} else []),
        *(["models that were trained without the audited people, to compare with"] if "references" in needs else []),
    ]
    return (
        "The attacker sees what an outsider who knows a person can see: that person's history, and "
        f"{' and '.join(seen)}. In addition, the attacker has {' and '.join(besides) or 'nothing'}."
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
        f"in `{one.name}`, {called(one.best)} tells {which} in {100 * low:.3g} to {100 * high:.3g} of 100 pairs"
        for one in found.sections
        for _, low, high in [towards_members(one.best)]
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
        + takes(result.settings, n_targets=20)
    )


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
        # All figures are of the cell that is named.
        picked.append(replace(most, grade=worst.grade, claim=claim, details=(words,)))
    return picked


def sweep_headline(result: SweepResult) -> tuple[Grade, str]:
    """Return a grade and a sentence for the whole grid.

    Of the settings in which the system itself serves everyone, if there are any.
    """
    cells = [found for _, found in result.findings]
    served = [one for one in cells if any(section.as_it_serves for section in one.sections)]
    grades = [found.grade for found in served or cells]
    worst, what = max(grades, key=ORDER.index), UNITS[result.settings.unit].what
    where = "In all settings tried" if set(grades) == {worst} else "In some of the settings tried"
    words: Mapping[Grade, str] = {
        "strong": f"{where}, the recommendations reveal {what}.",
        "marked": f"{where}, the recommendations reveal, in part, {what}.",
        "slight": f"In all settings tried, the attacks find little about {what}.",
        "none": f"In all settings tried, the attacks cannot tell {what}.",
        "untested": f"No strong attack was run, so this sweep cannot say whether the recommendations reveal {what}.",
        "unclear": f"This sweep is too small to say whether the recommendations reveal {what}.",
    }
    return worst, words[worst]


def defend_findings(result: DefendResult) -> list[Finding]:
    """Return, for each regime, the finding about the undefended system, with the advice as its claim."""
    advice = dict(line.partition(": ")[::2] for line in result.advice.splitlines())
    found = []
    for finding in result.findings:
        words = advice[finding.regime]
        found.append(worst_of([finding], claim=words[:1].upper() + words[1:], details=()))
    return found


def defend_headline(result: DefendResult) -> tuple[Grade, str, str, str]:
    """Return a grade, a label for it, a sentence, and what qualifies it.

    Of the regimes in which the system itself serves everyone, if there are any.
    """
    regimes, useful = result.served, result.useful
    choices = [result.choice(regime) for regime in regimes]
    goal = (
        f"the upper end of every attack's AUC under {result.level:g}{'' if len(regimes) == 1 else ' in every regime'}"
    )
    if len(result.broken):
        names = ", ".join(f"`{name}`" for name in result.broken["defence"].unique(maintain_order=True))
        more = f"The audit refutes the epsilon that {names} promises. Do not rely on it."
        return "strong", "Broken promise", "A defence does not provide the privacy that it promises.", more
    if all(one.undefended is not None and one.undefended["auc_high"] < result.level for one in choices):
        leaking = [one for one in result.findings if one.grade in LEAK and one.regime in regimes]
        if leaking:
            # An AUC shows neither that few members are found surely, nor a bound on epsilon.
            words = f"The system keeps {goal} without a defence, but it leaks all the same."
            worst = worst_of(leaking)
            return worst.grade, "Leaks", words, worst.claim
        return "none", "Under the level", f"The system keeps {goal} without a defence.", ""
    if useful:
        many = "Defences that were tried keep" if len(useful) > 1 else "A defence that was tried keeps"
        return "none", "A defence holds", f"{many} {goal}.", f"With {_or(useful)}."
    if result.holding:
        words = f"Only defences that destroy the lists keep {goal}."
        more = f"With {_or(result.holding)}, little is left of the recommendations."
        return "marked", "No defence of use", words, more
    more = "Popular lists for everyone do: they depend on no single person."
    if any(one.popular is None or one.popular["auc_high"] >= result.level for one in choices):
        more = ""
    return "marked", "No defence holds", f"No defence that was tried is shown to keep {goal}.", more


def _or(names: Sequence[str]) -> str:
    return " or ".join(f"`{name}`" for name in names)


def what_attacks_do(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the name of each attack or rule, and what it does."""
    told = []
    for name in names:
        about = ATTACKS[name].about if name in ATTACKS else ""
        told.append((name, f"considers a member anyone who {about}" if name in RULES else about))
    return told

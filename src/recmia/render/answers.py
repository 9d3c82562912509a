"""The answers that a page gives first: how bad it is, when that matters, and what to do now.

`recmia.results.findings` says whether anything leaks. Here stand its figures for readers who know neither attacks nor
metrics, without names of attacks, and the choice that is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recmia.game.cost import models_a_seed
from recmia.metrics.intervals import Estimate
from recmia.render.blocks import Card, Extent, Gauge
from recmia.results.audit import AuditResult
from recmia.results.defend import UTILITY, DefendResult
from recmia.results.findings import LEAK, Finding, of_100, towards_members, worst_of
from recmia.results.forget import ForgetResult
from recmia.results.sweep import SweepResult
from recmia.settings import AS_SERVED, IN_MEMORY, AuditSettings, FilesSettings

# What regimes and levels of knowledge are called where no names of settings stand.
REGIME_TITLES: Mapping[str, str] = {
    "fold-in": "Everyone served alike",
    "trained": "Members served by what was trained for them",
    "popular": "Others shown one popular list",
    "popular-random": "Others shown popular items at random",
    AS_SERVED: "As your system answers",
}
_LEVEL_TITLES: Mapping[str, str] = {
    "black-box": "the attacker has public statistics only",
    "grey-box": "the attacker has data of other people",
    "white-box": "the attacker has the item vectors, too",
}
_PAIRS: Mapping[str, str] = {
    "users": "Of 100 pairs of a person in the training data and one who is not: how many are told apart",
    "interactions": "Of 100 pairs of an interaction that was trained on and one that was not: how many are told apart",
}
_FOUND_OF: Mapping[str, str] = {
    "users": "of your users.",
    "interactions": "of the interactions that were trained on.",
}
_OUTSIDE: Mapping[str, str] = {
    "users": "people who were not in the training data",
    "interactions": "interactions that were not in the training data",
}
IMPACT: Mapping[str, str] = {
    "users": "Being in the data is sensitive in itself where using the service says something about a person: health, "
    "religion, sexuality, politics, debts.",
    "interactions": "A single interaction can be sensitive in itself: a medicine, a religious book, a donation.",
}
_THE_LIST = "A rule without a model finds as much: it is the list that tells, and not the model."
_AGAIN = "Audit again after every change of the model, of its settings or of the data."
_MANY_SHADOWS = 16
# An advice to run again says how many times longer that takes, from so many times on.
_MUCH = 1.5
# Below so many non-members, one of a hundred cannot be told from none.
_A_HUNDRED = 100


def title_of(finding: Finding) -> str:
    """Return what a section is called where no names of settings stand."""
    title = REGIME_TITLES.get(finding.regime, finding.name)
    # A section of a sweep, or of one of several levels, has more in its name than the regime.
    return title if finding.name == finding.regime else f"{title}; {_LEVEL_TITLES.get(finding.level, finding.level)}"


def extent(sections: Sequence[Finding], unit: str = "users", gauges: Sequence[Gauge] = ()) -> Extent:
    """Say how bad it is: for the worst of the sections in which the system itself serves everyone.

    Parameters
    ----------
    sections : sequence of Finding
    unit : {"users", "interactions"}
    gauges : sequence of Gauge
        In place of that of the strongest attack.
    """
    worst = _main(sections)
    shown = list(gauges) or [Gauge.of("The strongest attack", worst.best)]
    found, scale = worst.found, _PAIRS[unit]
    if worst.grade == "untested":
        return Extent(
            "Not known. No strong attack was run, which asks the system with parts of histories; those that were run "
            "tell",
            of_100(towards_members(worst.best)[0]),
            "of 100 pairs apart, and a coin 50.",
            None,
            "",
            shown,
            scale,
            worst.grade,
        )
    if found is None or found.value is None:
        fewer = worst.best.n_nonmembers < _A_HUNDRED
        return Extent(
            "An attacker tells",
            of_100(towards_members(worst.best)[0]),
            "of 100 pairs apart, and a coin 50.",
            None,
            f"How many are found at one false accusation in a hundred takes {_A_HUNDRED} {_OUTSIDE[unit]} to say; this "
            f"audit has {worst.best.n_nonmembers:,}."
            if fewer
            else "",
            shown,
            scale,
            worst.grade,
        )
    low, high = (0.0 if found.low is None else found.low, 1.0 if found.high is None else found.high)
    return Extent(
        "An attacker who accepts one false accusation in a hundred finds",
        f"{of_100(found.value)} of 100",
        _FOUND_OF[unit],
        round(100 * found.value),
        f"95% interval: {100 * low:.0f} to {of_100(high)}. Guessing finds 1.",
        shown,
        scale,
        worst.grade,
        things=unit == "interactions",
    )


def cards(sections: Sequence[Finding], *, told: bool = False) -> tuple[list[Card], list[Card]]:
    """Return what attackers of several kinds learn: where the system serves everyone, and elsewhere.

    Parameters
    ----------
    sections : sequence of Finding
    told : bool
        Whether to add claims and details, where these are not about attacks but about settings.
    """
    made = [(one, _card(one, told=told and one.as_it_serves)) for one in sections]
    served = [card for one, card in made if one.as_it_serves]
    return served, [card for one, card in made if not one.as_it_serves]


def _card(finding: Finding, *, told: bool) -> Card:
    rows = [("The strongest attack", finding.best)]
    if finding.looking is not None:
        rows.append(("The strongest that only looks at lists", finding.looking))
    if finding.published is not None and finding.published is not finding.looking:
        rows.append(("The published attack", finding.published))
    if finding.rule is not None:
        rows.append(("The simplest rule, without a model", finding.rule))
    return Card(
        title=title_of(finding),
        name=finding.name,
        about=finding.about,
        grade=finding.grade,
        gauges=[Gauge.of(label, row) for label, row in rows],
        text=" ".join(
            [
                *([finding.claim, *finding.details] if told else []),
                *([_THE_LIST] if finding.of_the_fallback else []),
                *finding.caveats,
            ]
        ),
    )


def forget_extent(result: ForgetResult) -> Extent:
    """Say how many of the deleted are still recognised."""
    found, n = result.found, len(result.users)
    recognised = int(np.sum(found.recognised))
    return Extent(
        "Of the users whose data were deleted, an attacker still recognises",
        f"{recognised:,} of {n:,}",
        "one by one.",
        None,
        "",
        [
            _gauge("Deleted, against people who were never there", result.attack, found.against_never),
            _gauge("Members, against the same: what the test can find", result.attack, found.control),
        ],
        "Of 100 pairs of one of these and a person who was never there: how many are told apart",
        "strong" if found.outcome == "not forgotten" else "unclear",
    )


def _gauge(label: str, attack: str, area: Estimate) -> Gauge:
    return Gauge(label, attack, *(100 * (0.5 if end is None else end) for end in (area.value, area.low, area.high)))


def sweep_extent(found: Sequence[Finding]) -> Extent:
    """Say how bad it is in the setting where most is found."""
    return extent(found, gauges=[Gauge.of("The setting where most is found", _main(found).best)])


def defend_extent(result: DefendResult, sections: Sequence[Finding]) -> Extent:
    """Say how bad it is without a defence, and what the chosen defence and popular lists leave of it."""
    choice = result.choice(_main(sections).regime)
    shown = [("No defence", choice.undefended), ("Popular lists", choice.popular)]
    if choice.best is not None:
        shown.insert(1, (choice.best["defence"], choice.best))
    gauges = [
        Gauge(f"{label} · quality {row[UTILITY]:.3f}", row["auc_attack"],
              *(100 * row[f"auc{end}"] for end in ("", "_low", "_high")))
        for label, row in shown
        if row is not None
    ]  # fmt: skip
    return extent(sections, gauges=gauges)


def _main(sections: Sequence[Finding]) -> Finding:
    """The worst of the sections in which the system itself serves everyone, if there are any."""
    return worst_of([one for one in sections if one.as_it_serves] or sections)


def takes(own: AuditSettings, of: str = "this run", **changed: Any) -> str:
    """Say how many times the time of a run the same run takes with other settings, where that is much more.

    Training takes most of the time, and so the models are counted: what is in the store took none.
    """
    times = models_a_seed(own.changed(**changed)) / models_a_seed(own)
    return f" That takes about {times:.2g} times the time of {of}." if times >= _MUCH else ""


def advice(result: AuditResult, config: str) -> list[str]:
    """Say what to do now, the choice first; `config` is the path of the settings of the run."""
    settings, sections = result.settings, result.findings.sections
    served = [one for one in sections if one.as_it_serves]
    if isinstance(settings, FilesSettings):
        return [*_choice(served, settings.unit), *_on_files(settings, served), _AGAIN]
    assert isinstance(settings, AuditSettings), "of data or of files"
    if settings.unit == "interactions":
        return [*_choice(served, settings.unit), *_on_interactions(served), _AGAIN]
    return [*_choice(served, settings.unit), *_next(settings, sections, config), _AGAIN]


def _choice(served: Sequence[Finding], unit: str) -> list[str]:
    """The decision that the figures ask for."""
    if not served:
        return []
    grade = worst_of(served).grade
    if grade in LEAK:
        return [
            "Choose: hold this model back until a defence, a change that hides who is in the data, brings that number "
            "down; or release it, and put in writing "
            f"who decided that these {'people' if unit == 'users' else 'interactions'} may be known to be in the data."
        ]
    if grade == "untested":
        return ["Do not decide on this audit. Have the system asked first, which is what the strongest attacks do."]
    if grade == "unclear":
        return ["Do not decide on this audit: it is too small to tell a leak from chance."]
    return [
        "These attacks give no reason to hold this model back. They are no proof that nothing leaks: whoever decides "
        "should see which were run, below."
    ]


def _next(own: AuditSettings, sections: Sequence[Finding], config: str) -> list[str]:
    served = [one for one in sections if one.as_it_serves]
    leaks = [one for one in sections if one.grade in LEAK]
    words = []
    remembered = [one for one in served if one.grade in LEAK]
    if remembered:
        # What was in memory, no command can find again.
        command = "" if IN_MEMORY in own.source + own.target else f": `recmia defend --config {config} --held-out 0.2`"
        words.append(f"Measure what each defence achieves and costs{command}.")
    if not served:
        words.append(f"Test the system itself: `recmia audit --config {config} --regimes fold-in`.")
    elif not remembered:
        if any(one.grade == "unclear" for one in served):
            words.append(
                "Obtain narrower intervals: use more users, `--n-targets` or `--seeds`. Twice the seeds take twice the "
                "time."
            )
        if "query-lr" not in own.attacker.attacks or own.attacker.n_shadows < _MANY_SHADOWS:
            words.append(
                "Run the strongest attack: "
                f"`recmia audit --config {config} --attack query-lr --n-shadows {_MANY_SHADOWS}`."
                + takes(own, attacks=["query-lr"], n_shadows=_MANY_SHADOWS)
            )
    if any(not one.as_it_serves for one in leaks):
        words.append(
            "Serve people outside of the training data by the system, too: a popular list in its place tells them from "
            "all others."
        )
    if leaks and own.n_targets == 1:
        words.append(
            f"See who is exposed most: `recmia audit --config {config} --n-targets 20`." + takes(own, n_targets=20)
        )
    return words


def _on_interactions(served: Sequence[Finding]) -> list[str]:
    if not any(one.grade in LEAK for one in served):
        return []
    return [
        "Rare items give most away: look at the groups below, and consider leaving items of very few people out of "
        "training and of answers.",
        "Measure what each defence achieves and costs: `recmia defend --unit interactions`.",
    ]


def _on_files(own: FilesSettings, served: Sequence[Finding]) -> list[str]:
    words = []
    leaks, asked = any(one.grade in LEAK for one in served), bool(own.files.answers)
    if leaks and asked:
        words.append(
            "Measure what each defence achieves and costs on a recommender of the same kind: `recmia defend "
            f"{own.source} --recommender NAME`."
        )
    elif leaks:
        words.append(
            "Find out whether members and non-members are served differently or the model memorised members: let the "
            "system serve both from their histories alone, by the same path, and audit those lists."
        )
    if any("differ in their histories alone" in caveat for one in served for caveat in one.caveats):
        words.append(
            "Draw members at random: toss a coin for some users, and leave those with tails out of one training."
        )
    if not asked:
        words.append(
            "Ask the system, for which one training is enough: `recmia ask` writes questions, and `recmia audit-files "
            "--questions --answers` audits the answers."
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


def forget_advice(result: ForgetResult) -> list[str]:
    """Say what to do after a test of forgetting."""
    asked = "The same deleted users, asked about anew after every deletion and every training, show whether it holds."
    if result.found.outcome == "not forgotten":
        return [
            "Train again without the deleted users: what was learned from them stays in the items' side of a model "
            "when only their own rows or vectors are removed.",
            asked,
        ]
    if result.found.outcome == "no power":
        return [
            "Do not state that the data are deleted: this test could not have found them. Use a stronger attack.",
            asked,
        ]
    if result.found.outcome == "undecided":
        return ["Do not state that the data are deleted: wait for more deletions, or name a larger margin.", asked]
    return ["The deletion can be stated as tested, with the attack and the margin that are named below.", asked]


def sweep_advice(result: SweepResult) -> list[str]:
    """Say what to do after a sweep."""
    return [
        "Choose a setting by what it leaks and by its recommendation quality, which a sweep does not measure.",
        "Audit the chosen setting with `recmia audit --n-targets 20`, to see who is exposed."
        + takes(result.settings, "one setting of this sweep", n_targets=20),
    ]


def defend_advice(result: DefendResult, sections: Sequence[Finding], config: str) -> list[str]:
    """Say what to do after a comparison of defences: in the regime in which the system itself serves everyone."""
    choice = result.choice(_main(sections).regime)
    own, popular, best = choice.undefended, choice.popular, choice.best
    words = []
    if len(result.broken):
        words.append("Do not use a defence with a broken promise before it is corrected.")
    if popular is not None and choice.no_better:
        words.append(
            f"Mend the recommender first: its lists are {choice.no_better} than popular ones, which depend on no "
            "single person. Or serve those."
        )
    if own is not None and own["auc_high"] < result.level:
        words.append(
            "The AUC is low, but the system leaks all the same: see what is found below, and choose a defence by that."
            if _main(sections).grade in LEAK
            else "These attacks give no reason for a defence. They are no proof that nothing leaks."
        )
    elif best is not None and own is not None:
        words.append(
            f"Choose: `{best['defence']}`, which brings the strongest attack from {of_100(own['auc'])} to "
            f"{of_100(best['auc'])} of 100 pairs and the quality from {own[UTILITY]:.3f} to {best[UTILITY]:.3f}; or "
            "the system as it is, and put in writing who decided that."
        )
    else:
        words.append(
            "Hold the system back, or serve popular lists: none of the defences that were tried is enough. Stronger "
            "settings may be, or several together, joined by `+`."
        )
    settings, name = result.sweep.settings, "NAME=STRENGTH" if best is None else best["defence"]
    return [
        *words,
        "Confirm the chosen defence in an audit of its own, which also shows who is still exposed: "
        f"`recmia audit --config {config} --defence {name} --seed {max(settings.seeds) + 1} --n-targets 20`."
        + takes(settings, "one defence of this run", n_targets=20),
    ]

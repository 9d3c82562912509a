"""The answers that a page gives first: how bad it is, when that matters, and what to do now.

`recmia.results.findings` says whether anything leaks. Here stand its figures for readers who know neither attacks nor
metrics, without names of attacks, and the choice that is theirs.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recmia.attacks import RULES
from recmia.errors import ConfigError
from recmia.game.cost import models_a_seed
from recmia.metrics import Metric
from recmia.metrics.intervals import Estimate
from recmia.render.blocks import Card, Extent, Gauge
from recmia.results.audit import AuditResult
from recmia.results.defend import DEFAULTS, POPULARITY, UTILITY, DefendResult
from recmia.results.findings import (
    LEAK,
    ORDER,
    Finding,
    Grade,
    as_served_first,
    grade_auc,
    of_100,
    towards_members,
    worst_of,
)
from recmia.results.forget import ForgetResult
from recmia.results.setup import resolve
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
_STRONGEST, _SIMPLEST = "The strongest attack", "The simplest rule, without a model"
_THE_LIST = "A rule without a model finds as much: it is the list that tells, and not the model."
_BROKEN = "Do not use a defence with a broken promise before it is corrected."
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
    label, row = _rows(worst)[0]
    shown = list(gauges) or [Gauge.of(label, row)]
    found, scale = worst.found, _PAIRS[unit]
    besides = [*([_THE_LIST] if worst.of_the_fallback else []), *_raised(worst, row)]
    ruled, backwards = row.attack in RULES, row.value is not None and row.value < 0.5
    if worst.grade == "untested":
        who = "a rule without a model tells" if ruled else "those that were run tell"
        before = f"Not known. No strong attack was run, which asks the system with parts of histories; {who}"
        return _pairs(before, row, "", shown, scale, worst.grade)
    # Members found are of attacks, read as they are meant: where a rule, or an attack read backwards, finds more, they
    # would play it down.
    if found is None or found.value is None or ruled or backwards:
        fewer = [
            f"How many are found at one false accusation in a hundred takes {_A_HUNDRED} {_OUTSIDE[unit]} to say; this "
            f"audit has {row.n_nonmembers:,}."
        ]
        note = " ".join([*besides, *(fewer if row.n_nonmembers < _A_HUNDRED else [])])
        who = "An attacker with a rule that needs no model tells" if ruled else "An attacker tells"
        return _pairs(who, row, note, shown, scale, worst.grade)
    low, high = (0.0 if found.low is None else found.low, 1.0 if found.high is None else found.high)
    return Extent(
        "An attacker who accepts one false accusation in a hundred finds",
        f"{of_100(found.value)} of 100",
        _FOUND_OF[unit],
        round(100 * found.value),
        " ".join([f"95% interval: {100 * low:.0f} to {of_100(high)}. Guessing finds 1.", *besides]),
        shown,
        scale,
        worst.grade,
        things=unit == "interactions",
    )


def _raised(finding: Finding, row: Metric) -> list[str]:
    """Why the grade is that of a leak, where the pairs do not show it."""
    if finding.grade not in LEAK or grade_auc(row) in LEAK:
        return []
    bounds = [one.value or 0.0 for one in finding.figures if one.metric == "epsilon"]
    why = f"Scores that refute an epsilon of {bounds[0]:.2g} count" if bounds else "So many who are surely found count"
    return [f"{why} as a leak in part, whatever the pairs."]


def _pairs(before: str, row: Metric, note: str, gauges: Sequence[Gauge], scale: str, grade: Grade) -> Extent:
    share, after = of_100(towards_members(row)[0]), "of 100 pairs apart, and a coin 50."
    return Extent(before, share, after, None, note, gauges, scale, grade)


def cards(sections: Sequence[Finding], *, told: bool = False) -> tuple[list[Card], list[Card]]:
    """Return what attackers of several kinds learn: where the system serves everyone, and, as asides, elsewhere.

    Without sections of the first kind, those of the second are no asides.

    Parameters
    ----------
    sections : sequence of Finding
    told : bool
        Whether to add claims and details, where these are not about attacks but about settings.
    """
    made = [(one, _card(one, told=told and one.as_it_serves)) for one in sections]
    served = [card for one, card in made if one.as_it_serves]
    others = [card for one, card in made if not one.as_it_serves]
    return (served, others) if served else (others, [])


def _card(finding: Finding, *, told: bool) -> Card:
    return Card(
        title=title_of(finding),
        name=finding.name,
        about=finding.about,
        grade=finding.grade,
        gauges=[Gauge.of(label, row) for label, row in _rows(finding)],
        text=" ".join(
            [
                *([finding.claim, *finding.details] if told else []),
                *([_THE_LIST] if finding.of_the_fallback else []),
                *finding.caveats,
            ]
        ),
    )


def _rows(finding: Finding) -> list[tuple[str, Metric]]:
    """The AUCs of attackers of several kinds: the strongest attack first, or a rule that is graded worse."""
    rows = [(_SIMPLEST if finding.best.attack in RULES else _STRONGEST, finding.best)]
    if finding.looking is not None:
        rows.append(("The strongest that only looks at lists", finding.looking))
    if finding.published is not None and finding.published is not finding.looking:
        rows.append(("The published attack", finding.published))
    if finding.rule is not None:
        grade, of_rule = (ORDER.index(grade_auc(row)) for row in (finding.best, finding.rule))
        first = grade_auc(finding.rule) in LEAK and of_rule > grade
        rows.insert(0 if first else len(rows), (_SIMPLEST, finding.rule))
    return rows


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
    # What is not known lies anywhere.
    value, low, high = (
        100 * (unknown if end is None else end)
        for end, unknown in zip((area.value, area.low, area.high), (0.5, 0.0, 1.0), strict=True)
    )
    return Gauge(label, attack, value, low, high)


def sweep_extent(found: Sequence[Finding], unit: str) -> Extent:
    """Say how bad it is in the setting where most is found."""
    return extent(found, unit, [Gauge.of("The setting where most is found", _rows(_main(found))[0][1])])


def defend_extent(result: DefendResult, sections: Sequence[Finding]) -> Extent:
    """Say how bad it is without a defence, and what the chosen defence and popular lists leave of it."""
    regime, unit = _main_regime(result, sections), result.sweep.settings.unit
    choice, best = result.choice(regime), _best(result, regime)
    shown = [("No defence", choice.undefended), ("Popular lists", choice.popular)]
    if best is not None:
        shown.insert(1, (best["defence"], best))
    gauges = [
        Gauge(f"{label} · quality {row[UTILITY]:.3f}", row["auc_attack"],
              *(100 * row[f"auc{end}"] for end in ("", "_low", "_high")))
        for label, row in shown
        if row is not None
    ]  # fmt: skip
    if not sections:
        after = "The system without a defence could not be measured, so nothing can be said of what defences bring."
        return Extent("Not known.", "", after, None, "", gauges, _PAIRS[unit], "untested")
    return extent(sections, unit, gauges)


def _main_regime(result: DefendResult, sections: Sequence[Finding]) -> str:
    """That of the worst section; without the undefended system there is none."""
    return _main(sections).regime if sections else as_served_first(result.table["regime"])[0]


def _best(result: DefendResult, regime: str) -> Mapping[str, Any] | None:
    """The best lists in a regime among the defences that keep the level wherever the system itself serves everyone."""
    kept, useful = result.choice(regime).kept, result.useful
    return max((row for name, row in kept.items() if name in useful), key=lambda row: row[UTILITY], default=None)


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
    broken = [_BROKEN] if any(promise.broken for promise in result.promises) else []
    served = [one for one in sections if one.as_it_serves]
    choice = [*broken, *(_choice(result.findings.grade, settings.unit) if served else [])]
    if isinstance(settings, FilesSettings):
        return [*choice, *_on_files(settings, served), _AGAIN]
    assert isinstance(settings, AuditSettings), "of data or of files"
    if settings.unit == "interactions":
        return [*choice, *_on_interactions(settings, served, config), _AGAIN]
    return [*choice, *_next(settings, sections, config), _AGAIN]


def _choice(grade: Grade, unit: str) -> list[str]:
    """The decision that the figures ask for."""
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


def defend_command(own: AuditSettings, config: str) -> str:
    """Return the command that tries defences on the audited system; empty where none does.

    Parameters
    ----------
    own : AuditSettings
    config : str
        The path of the settings of the run.
    """
    # What was in memory, no command can find again; and a system with a defence has the one that it has.
    if IN_MEMORY in own.source + own.target or own.system.defence:
        return ""
    # Quality is compared, too, for which an audit need not have kept anything.
    held_out = own.game.held_out or DEFAULTS["held_out"]
    try:
        resolve(own.changed(held_out=held_out, defence=POPULARITY))
    except ConfigError:
        return ""
    return shlex.join(["recmia", "defend", "--config", config, "--held-out", f"{held_out:g}"])


def _again(own: AuditSettings, config: str, options: str) -> str:
    if IN_MEMORY in own.source + own.target:
        return f"run again with `{options}`"
    return f"`recmia audit --config {shlex.quote(config)} {options}`"


def _measure(own: AuditSettings, config: str) -> list[str]:
    if own.system.defence:
        return ["Try a stronger setting of the defence, or several together, joined by `+`: this one is not enough."]
    command = defend_command(own, config)
    return [f"Measure what each defence achieves and costs{f': `{command}`' if command else ''}."]


def _next(own: AuditSettings, sections: Sequence[Finding], config: str) -> list[str]:
    served = [one for one in sections if one.as_it_serves]
    leaks = [one for one in sections if one.grade in LEAK]
    words = []
    remembered = [one for one in served if one.grade in LEAK]
    if remembered:
        words += _measure(own, config)
    if not served:
        words.append(f"Test the system itself: {_again(own, config, '--regimes fold-in')}.")
    elif not remembered:
        if any(one.grade == "unclear" for one in served):
            words.append(
                "Obtain narrower intervals: use more users, `--n-targets` or `--seeds`. Twice the seeds take twice the "
                "time."
            )
        if "query-lr" not in own.attacker.attacks or own.attacker.n_shadows < _MANY_SHADOWS:
            words.append(
                "Run the strongest attack: "
                f"{_again(own, config, f'--attack query-lr --n-shadows {_MANY_SHADOWS}')}."
                + takes(own, attacks=["query-lr"], n_shadows=_MANY_SHADOWS)
            )
    if any(not one.as_it_serves for one in leaks):
        words.append(
            "Serve people outside of the training data by the system, too: a popular list in its place tells them from "
            "all others."
        )
    if leaks and own.n_targets == 1:
        words.append(f"See who is exposed most: {_again(own, config, '--n-targets 20')}." + takes(own, n_targets=20))
    return words


def _on_interactions(own: AuditSettings, served: Sequence[Finding], config: str) -> list[str]:
    if not any(one.grade in LEAK for one in served):
        return []
    return [
        "Rare items give most away: look at the groups below, and consider leaving items of very few people out of "
        "training and of answers.",
        *_measure(own, config),
    ]


def _on_files(own: FilesSettings, served: Sequence[Finding]) -> list[str]:
    words = []
    leaks, asked = any(one.grade in LEAK for one in served), bool(own.files.answers)
    if leaks and asked:
        words.append(
            "Measure what each defence achieves and costs on a recommender of the same kind: "
            f"`{shlex.join(['recmia', 'defend', own.files.interactions])} --recommender NAME`."
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


def sweep_advice(result: SweepResult, config: str) -> list[str]:
    """Say what to do after a sweep; `config` is the path of the settings that its cells share."""
    settings, several = result.settings, {"n_targets": 20} if result.settings.unit == "users" else {}
    command = ["recmia", "audit", "--config", config, *(["--n-targets", "20"] if several else [])]
    shown = "" if IN_MEMORY in settings.source + settings.target else f": `{shlex.join(command)}` and that setting"
    return [
        "Choose a setting by what it leaks and by its recommendation quality, which a sweep does not measure.",
        f"Audit the chosen setting, to see {'who' if several else 'what'} is exposed{shown}."
        + takes(settings, "one setting of this sweep", **several),
    ]


def defend_advice(result: DefendResult, sections: Sequence[Finding], config: str) -> list[str]:
    """Say what to do after a comparison of defences: in the regime in which the system itself serves everyone."""
    regime = _main_regime(result, sections)
    choice, best = result.choice(regime), _best(result, regime)
    own, popular, settings = choice.undefended, choice.popular, result.sweep.settings
    # Of interactions, and in a small audit, popular lists tell something, too.
    serve = popular is not None and popular["auc_high"] < result.level
    words = []
    if len(result.broken):
        words.append(_BROKEN)
    if popular is not None and choice.no_better:
        words.append(
            f"Mend the recommender first: its lists are {choice.no_better} than popular ones"
            f"{', which depend on no single person. Or serve those.' if serve else '.'}"
        )
    if own is None:
        return [
            *words,
            "Mend what kept the system without a defence from being measured, which is said below, and run again: "
            "without it, nothing can be said of what defences bring.",
        ]
    if own["auc_high"] < result.level:
        words.append(
            "The AUC is low, but the system leaks all the same: see what is found below, and choose a defence by that."
            if _main(sections).grade in LEAK
            else "These attacks give no reason for a defence. They are no proof that nothing leaks."
        )
    elif _main(sections).grade not in LEAK:
        stronger = "" if _main(sections).grade != "untested" else "the strongest attack, `query-lr`, or "
        words.append(
            "Do not decide on this comparison: it does not show that the system leaks, nor that it does not. Compare "
            f"again with {stronger}more users, `--n-targets` or `--seeds`."
        )
    elif best is not None:
        words.append(
            f"Choose: `{best['defence']}`, which brings the strongest attack from {of_100(own['auc'])} to "
            f"{of_100(best['auc'])} of 100 pairs and the quality from {own[UTILITY]:.3f} to {best[UTILITY]:.3f}; or "
            "the system as it is, and put in writing who decided that."
        )
    else:
        words.append(
            f"Hold the system back{', or serve popular lists' if serve else ''}: none of the defences that were tried "
            "is enough. Stronger settings may be, or several together, joined by `+`."
        )
    if best is not None and own["auc_high"] >= result.level:
        command = ["recmia", "audit", "--config", config, "--defence", best["defence"], "--seed",
                   f"{max(settings.seeds) + 1}", "--n-targets", "20"]  # fmt: skip
        shown = "" if IN_MEMORY in settings.source + settings.target + best["defence"] else f": `{shlex.join(command)}`"
        words.append(
            f"Confirm that defence in an audit of its own, which also shows who is still exposed{shown}."
            + takes(settings, "one defence of this run", n_targets=20)
        )
    return words

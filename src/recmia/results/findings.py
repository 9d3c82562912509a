"""What the figures of an audit mean: the one place where they are graded and put into words.

A terminal, a page, a gate and a notebook all render `Findings`; none of them judges. Names of attacks and settings
stand between backquotes, which a page shows as code and a terminal leaves out.

**Grades.** The AUC of the strongest attack decides, by its distance from 0.5 in either direction: an AUC of 0.1 is an
attack of 0.9 that is read backwards. Two figures can raise the grade, since an AUC does not show them: a share of
members that is found at a false-positive rate of 1%, and a lower bound on epsilon. Where no strong attack was run, a
small figure is no finding at all, and is graded "untested".

**Chance.** Out of many figures, some would look like a leak by chance. Findings are therefore made of intervals that
hold for all figures together, which are wider than those of tables; see `recmia.AuditResult.joint`. Where even these
reach what would be a leak, a small figure is graded "unclear".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import polars as pl

from recmia.attacks import ATTACKS, attack_spec
from recmia.metrics import Metric
from recmia.metrics.epsilon import PromiseCheck
from recmia.settings import AS_SERVED, FALLBACK, FOLDING, SERVED_ALIKE

Grade = Literal["none", "slight", "untested", "unclear", "marked", "strong"]
# From the least to the worst; what could not be told comes after what was found to be little.
ORDER: Sequence[Grade] = ("none", "slight", "untested", "unclear", "marked", "strong")
LEAK: Sequence[Grade] = ("marked", "strong")
GRADES: Mapping[Grade, str] = {
    "strong": "Leaks",
    "marked": "Leaks in part",
    "slight": "Little found",
    "none": "Nothing found",
    "untested": "Not tested against a strong attack",
    "unclear": "Too few users to say",
}
# With what is revealed, see `Unit.what`.
_CLAIMS: Mapping[Grade, str] = {
    "strong": "The recommendations reveal {}.",
    "marked": "The recommendations reveal, in part, {}.",
    "slight": "The attacks that were run find little about {}.",
    "none": "The attacks that were run cannot tell {}.",
    "untested": "No strong attack was run, so this audit cannot say whether the recommendations reveal {}.",
    "unclear": "This audit is too small to say whether the recommendations reveal {}.",
}
REGIME_WORDS: Mapping[str, str] = {
    "popular": "non-members get one popular list",
    "popular-random": "non-members get popular items at random",
    "fold-in": "all served by the same path",
    "trained": "members served by their trained vectors",
    AS_SERVED: "from files, however they came about",
}
# What it means that a rule which needs no model does as well as an attack.
WITHOUT_A_MODEL: Mapping[str, str] = {
    "fold-in": "what is found here is found without an attack.",
    "trained": "what is found here is found without an attack.",
    "popular": "what is measured is the list that non-members are given, not what the model memorised.",
    "popular-random": "what is measured is the list that non-members are given, not what the model memorised.",
    AS_SERVED: "members and non-members may be given different kinds of lists, or differ in more than membership.",
}


@dataclass(frozen=True)
class Unit:
    """How what is told apart is called.

    Parameters
    ----------
    inside, outside : str
        Those in the training data, and the others.
    what : str
        What an attack reveals.
    audited : str
        What there must be more of, for narrower intervals.
    """

    inside: str
    outside: str
    what: str
    audited: str


UNITS: Mapping[str, Unit] = {
    "users": Unit("members", "non-members", "who was in the training data", "users"),
    "interactions": Unit(
        "trained interactions", "others", "which interactions of a person were in the training data", "interactions"
    ),
}
# What findings rest on.
JUDGED: Sequence[str] = ("auc", "tpr@fpr=0.01", "epsilon")
TOGETHER = (
    "The intervals in these sentences hold for all attacks and regimes together, at 95%; those of tables hold each by "
    "itself."
)
# A weak figure, and a strong one, as the AUC of an attack that is read the right way round.
_WEAK, _STRONG, _ALMOST_ALWAYS = 0.65, 0.8, 0.95
# The upper end of an interval below which a weak figure is known to be weak.
_SURELY_WEAK = 0.7
# The false-positive rate of the first question that people ask, the metric there, and how many times it the share of
# members found must surely be to count as a leak.
_FPR, _FOUND, _TIMES = 0.01, "tpr@fpr=0.01", 10
# An epsilon above which a promise of privacy would mean little: odds change by a factor of e.
_EPSILON = 1.0
# What each grade stands for, in pairs of one inside and one outside of the training data of which an attack says which
# is which.
GRADE_LIMITS: Mapping[Grade, str] = {
    "none": "no better than a coin",
    "slight": f"under {100 * _WEAK:.0f} of 100 pairs",
    "marked": f"{100 * _WEAK:.0f} to {100 * _STRONG:.0f} of 100 pairs",
    "strong": f"{100 * _STRONG:.0f} of 100 pairs or more",
}
GRADES_RAISED = (
    f"At one false accusation in {1 / _FPR:.0f}, a share found that is surely {_TIMES} times that of guessing, or "
    f"scores that refute an epsilon of {_EPSILON:g}, count as a leak in part, whatever the pairs. Where no strong "
    "attack was run, or where the interval is too wide, little found is no grade: the audit then cannot say."
)
# AUCs that differ by less are not told apart in words.
_ALIKE = 0.01
# Shares above which what is missing is part of the finding.
_MUCH_UNKNOWN, _MANY_DROPPED = 0.25, 0.25
# By how much a rule that looks at the history alone must surely differ from 0.5 for that to be said.
_UNEVEN, _UNEVEN_BY_CHANCE = 0.01, 0.05
# Users named in words, and the share at either end that counts as unusual.
_NAMED, _USUAL = 5, 0.15


@dataclass(frozen=True)
class Finding:
    """What was found at one level of knowledge in one regime.

    Parameters
    ----------
    name : str
        Of the section: the regime, with the level where there are several.
    level, regime : str
    about : str
        How users are served there.
    grade : Grade
    claim : str
        What was found, in a sentence.
    figures : tuple of Metric
        What the claim rests on: the AUC of the strongest attack, then whatever raised the grade.
    details : tuple of str
        What other attacks and rules found.
    caveats : tuple of str
        What limits the claim.
    of_the_fallback : bool
        Whether a rule without a model finds as much, because of what non-members are served.
    published, looking, rule : Metric, optional
        The AUCs of the strongest published attack, of the strongest that only looks at lists, and of the strongest rule
        without a model; None where there is none, or where it is the strongest attack itself.
    """

    name: str
    level: str
    regime: str
    about: str
    grade: Grade
    claim: str
    figures: tuple[Metric, ...]
    details: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    of_the_fallback: bool = False
    published: Metric | None = None
    looking: Metric | None = None
    rule: Metric | None = None

    @property
    def best(self) -> Metric:
        """The AUC of the strongest attack."""
        return self.figures[0]

    @property
    def found(self) -> Metric | None:
        """The share of members that an attack finds at a false-positive rate of 1%; None if that is not resolvable."""
        return next((row for row in self.figures if row.metric == _FOUND), None)

    @property
    def as_it_serves(self) -> bool:
        """Whether the system itself serves non-members; elsewhere they get popular lists."""
        return self.regime not in FALLBACK

    @property
    def text(self) -> str:
        """Claim, details and caveats."""
        return " ".join((self.claim, *self.details, *self.caveats))


@dataclass(frozen=True)
class Findings:
    """What an audit found.

    Parameters
    ----------
    grade : Grade
        The worst of the sections in which the system serves everyone, after broken promises: any model leaks where
        others are shown popular lists. Without such sections, the worst of all.
    claim : str
        What was found, in a sentence.
    caveats : tuple of str
        What qualifies it.
    sections : tuple of Finding
    users : str
        Which single users are identified, if that can be told; else empty.
    disclosure : str
        What answers to queries give away of histories, if the attacker asks; else empty.
    promises : tuple of PromiseCheck
    """

    grade: Grade
    claim: str
    caveats: tuple[str, ...]
    sections: tuple[Finding, ...]
    users: str = ""
    disclosure: str = ""
    promises: tuple[PromiseCheck, ...] = ()

    @property
    def label(self) -> str:
        """The grade in words."""
        return GRADES[self.grade]


def as_served_first(regimes: Iterable[str]) -> list[str]:
    """Return regimes with those first in which the system itself serves everyone, else in their order.

    >>> as_served_first(["popular", "fold-in"])
    ['fold-in', 'popular']
    """
    return sorted(dict.fromkeys(regimes), key=FALLBACK.__contains__)


def section_name(level: str, regime: str, n_levels: int) -> str:
    """Name a part of the results; the level of knowledge only where there are several."""
    return regime if n_levels == 1 else f"{regime}, {level}"


def find(
    metrics: Sequence[Metric],
    per_user_auc: pl.DataFrame | None = None,
    promises: Sequence[PromiseCheck] = (),
    provenance: Mapping[str, Any] | None = None,
    disclosures: pl.DataFrame | None = None,
    identified: pl.DataFrame | None = None,
    unit: str = "users",
) -> Findings:
    """Grade the metrics of an audit and put them into words.

    Parameters
    ----------
    metrics : sequence of Metric
        Those named by `JUDGED`, of every attack and rule, with intervals that hold together.
    per_user_auc : polars.DataFrame, optional
        As of `recmia.AuditResult`.
    promises : sequence of PromiseCheck
    provenance : mapping, optional
        As of `recmia.AuditResult`: from it comes what the attacker could not know, and who was left out.
    disclosures, identified : polars.DataFrame, optional
        As of `recmia.AuditResult`; `identified` if it is to be told.
    unit : {"users", "interactions"}

    Returns
    -------
    Findings

    Examples
    --------
    >>> row = Metric("grey-box", "fold-in", "lfm", "lfm", "list-lr", "auc", 0.9, 0.85, 0.95, 1, 1, 99, 99, "")
    >>> find([row]).label
    'Leaks'
    """
    about = {} if provenance is None else provenance
    levels = list(dict.fromkeys(row.knowledge for row in metrics))
    sections = []
    for regime in dict.fromkeys(row.regime for row in metrics):
        for level in levels:
            rows = [row for row in metrics if (row.knowledge, row.regime) == (level, regime)]
            if rows:
                sections.append(_finding(section_name(level, regime, len(levels)), rows, about, UNITS[unit]))
    served = [one for one in sections if one.as_it_serves]
    worst = max((one.grade for one in served or sections), key=ORDER.index)
    caveats = [*_served_differently(sections, served, worst), *_left_out(about)]
    broken = [promise for promise in promises if promise.broken]
    if broken:
        # Whatever the attacks find, it is more than was promised.
        worst = max((worst, "marked"), key=ORDER.index)
        caveats.insert(0, "A promise of differential privacy is broken: what is stated is not what is done.")
    users = "" if per_user_auc is None else _identified(per_user_auc)
    if identified is not None and not users:
        users = _identified_at_once(identified)
    given_away = "" if disclosures is None or disclosures.is_empty() else _disclosed(disclosures, about)
    return Findings(
        worst,
        _CLAIMS[worst].format(UNITS[unit].what),
        tuple(caveats),
        tuple(sections),
        users,
        given_away,
        tuple(promises),
    )


def grade_auc(row: Metric) -> Grade:
    """Grade an AUC by its distance from 0.5, in either direction."""
    return "unclear" if row.value is None else grade_of(*towards_members(row))


def grade_of(value: float, low: float, high: float) -> Grade:
    """Grade an AUC of 0.5 or more, and its interval."""
    if low <= 0.5:
        # A wide interval, to either side, is no finding: it must not read as if the attack had been shown to fail.
        return "unclear" if max(high, 1 - low) >= _WEAK else "none"
    if value < _WEAK:
        return "slight" if high < _SURELY_WEAK else "unclear"
    return "marked" if value < _STRONG else "strong"


def towards_members(row: Metric) -> tuple[float, float, float]:
    """Return value, low and high of an AUC, turned round if it is below 0.5: an attack can be read backwards."""
    value = 0.5 if row.value is None else row.value
    low, high = 0.0 if row.low is None else row.low, 1.0 if row.high is None else row.high
    return (value, low, high) if value >= 0.5 else (1 - value, 1 - high, 1 - low)


def strongest(rows: Sequence[Metric]) -> Metric | None:
    """Return the AUC that is farthest from 0.5 among those of some attacks; None if there are none."""
    return max(rows, key=lambda row: towards_members(row)[0], default=None)


def figure(row: Metric, digits: int = 3) -> str:
    """Return a figure with its interval, as text."""
    if row.value is None:
        return "not resolvable"
    high = "" if row.high is None else f"–{row.high:.{digits}f}"
    return f"{row.value:.{digits}f} [{row.low:.{digits}f}{high}]"


def fewest(row: Metric) -> str:
    """Return "at least ", to be said before numbers of users that are the smallest of several runs; else ""."""
    return "at least " if row.seeds * row.targets > 1 else ""


def called(row: Metric) -> str:
    """Return the name of an attack, as it stands in a sentence."""
    return f"the rule `{row.attack}`" if attack_spec(row.attack).rule else f"`{row.attack}`"


def of_100(value: float | None) -> str:
    """Return a share as cases of 100; 100 only where it is all of them, but for what rounding hides."""
    if value is None:
        return "–"
    return f"{100 * value:.0f}" if 0.01 <= value <= 0.99 else f"{100 * value:.3g}"


def uneven_histories(rows: Sequence[Metric]) -> list[Metric]:
    """Return the rules by which histories alone tell members from non-members."""
    by_chance = rows[0].regime != AS_SERVED
    margin = _UNEVEN_BY_CHANCE if by_chance else _UNEVEN
    return [
        row
        for row in rows
        if row.metric == "auc"
        and attack_spec(row.attack).rule == "history"
        and (towards_members(row)[1] > 0.5 + margin)
    ]


def _finding(name: str, rows: Sequence[Metric], about: Mapping[str, Any], unit: Unit) -> Finding:
    aucs = [row for row in rows if row.metric == "auc"]
    level, regime = aucs[0].knowledge, aucs[0].regime
    attacks = [row for row in aucs if not attack_spec(row.attack).rule]
    # Where nobody drew members at random, histories may tell them from others, too.
    kinds = ("list", "history") if regime == AS_SERVED else ("list",)
    rule = strongest([row for row in aucs if attack_spec(row.attack).rule in kinds])
    best = strongest(attacks) or rule or aucs[0]
    figures, graded = [best], [grade_auc(row) for row in (best, rule) if row is not None]
    tpr, epsilon = _raising(rows, attacks)
    if tpr is not None:
        figures.append(tpr)
        if (tpr.low or 0.0) >= _TIMES * _FPR:
            graded.append("marked")
    if epsilon is not None and (epsilon.value or 0.0) >= _EPSILON:
        figures.append(epsilon)
        graded.append("marked")
    grade = max(graded, key=ORDER.index)
    strong_attack = any(_is_strong(row.attack) for row in attacks)
    if grade not in LEAK and not strong_attack and regime in (*FOLDING, AS_SERVED):
        # More users would make it no better tested.
        grade = "untested"
    published = _strongest_other([row for row in attacks if attack_spec(row.attack).published], best)
    looking = _strongest_other([row for row in attacks if not attack_spec(row.attack).asks], best)
    alike = (
        rule is not None and grade_auc(rule) in LEAK and towards_members(rule)[0] >= towards_members(best)[0] - _ALIKE
    )
    return Finding(
        name=name,
        level=level,
        regime=regime,
        about=REGIME_WORDS.get(regime, ""),
        grade=grade,
        claim=_claim(best, tpr, epsilon, unit),
        figures=tuple(figures),
        details=tuple(_details(regime, grade, best, published, looking, rule, unit, alike=alike)),
        caveats=tuple(_caveats(regime, grade, aucs, about)),
        of_the_fallback=alike and regime in FALLBACK,
        published=published,
        looking=looking,
        rule=None if rule is best else rule,
    )


def _strongest_other(attacks: Sequence[Metric], best: Metric) -> Metric | None:
    """The AUC of the strongest of some attacks; None if that is the strongest of all."""
    found = strongest(attacks)
    return None if found is best else found


def _is_strong(attack: str) -> bool:
    """Whether it says something that an attack finds little: only for those that ask and compare the answers.

    Attacks that look at lists find next to nothing on systems of which every member is found by asking.
    """
    spec = attack_spec(attack)
    return attack not in ATTACKS or (spec.asks and spec.needs in ("pool", "references"))


def _raising(rows: Sequence[Metric], attacks: Sequence[Metric]) -> tuple[Metric | None, Metric | None]:
    """The largest TPR at an FPR of 1%, and the largest bound on epsilon, of any attack."""
    names = {row.attack for row in attacks}
    tpr, epsilon = (
        max(
            (row for row in rows if row.metric == metric and row.attack in names and row.value is not None),
            key=lambda row: row.low or 0.0,
            default=None,
        )
        for metric in (_FOUND, "epsilon")
    )
    return tpr, epsilon


def _claim(best: Metric, tpr: Metric | None, epsilon: Metric | None, unit: Unit) -> str:
    who = called(best)
    words = f"{who[:1].upper()}{who[1:]} {strength(best, unit)} (AUC {figure(best)})"
    if tpr is not None and (tpr.low or 0.0) > _FPR:
        whose = "it" if tpr.attack == best.attack else called(tpr)
        words += (
            f"; at one false accusation in {1 / _FPR:.0f} {unit.outside}, {whose} finds {of_100(tpr.value)} of 100 "
            f"{unit.inside}"
        )
    if epsilon is not None and (epsilon.value or 0.0) >= _EPSILON:
        words += f"; its scores refute every epsilon below {epsilon.value:.2f}"
    return f"{words}."


def strength(row: Metric, unit: Unit = UNITS["users"]) -> str:
    """Say in a phrase how well an attack tells members from non-members."""
    apart = f"distinguishes {unit.inside} from {unit.outside}"
    backwards = row.value is not None and row.value < 0.5
    value, low, _ = towards_members(row)
    words: Mapping[Grade, str] = {
        "none": "cannot be distinguished from chance",
        "unclear": "cannot be judged: the interval is too wide"
        if low <= 0.5
        else f"{apart}; how well, the interval is too wide to say",
        "slight": f"{apart} only slightly",
        "marked": f"{apart}, with many errors",
        "strong": f"{apart} " + ("almost always" if value >= _ALMOST_ALWAYS else "in most cases"),
    }
    grade = grade_auc(row)
    return words[grade] + (", read backwards" if backwards and low > 0.5 else "")


def _details(
    regime: str,
    grade: Grade,
    best: Metric,
    published: Metric | None,
    looking: Metric | None,
    rule: Metric | None,
    unit: Unit,
    *,
    alike: bool,
) -> list[str]:
    sentences = []
    if published is not None:
        sentences.append(
            f"The published attack (`{published.attack}`) {strength(published)} (AUC {figure(published)})."
        )
    if attack_spec(best.attack).asks and looking is not None and looking is not published:
        sentences.append(
            f"Without asking, the strongest attack (`{looking.attack}`) {strength(looking, unit)} (AUC "
            f"{figure(looking)})."
        )
    if rule is None or rule is best:
        return sentences
    above = towards_members(rule)[0] > towards_members(best)[0] + _ALIKE
    backwards = ", read backwards," if rule.value is not None and rule.value < 0.5 and grade_auc(rule) != "none" else ""
    if alike or (above and towards_members(rule)[1] > 0.5):
        sentences.append(
            f"A rule that needs no model at all (`{rule.attack}`){backwards} reaches {figure(rule)}: "
            f"{WITHOUT_A_MODEL[regime]}"
        )
        return sentences
    sentences.append(f"The best rule without a model (`{rule.attack}`){backwards} reaches {figure(rule)}.")
    if towards_members(best)[1] > max(0.5, towards_members(rule)[0]):
        what = "answers" if attack_spec(best.attack).asks else "lists"
        so = f": the {what} reveal {unit.inside}" if grade in LEAK else ""
        sentences.append(f"`{best.attack}` finds more than any such rule{so}.")
    return sentences


def _caveats(regime: str, grade: Grade, aucs: Sequence[Metric], about: Mapping[str, Any]) -> list[str]:
    sentences = []
    asking = {row.attack for row in aucs if attack_spec(row.attack).asks}
    uneven = uneven_histories(aucs)
    if uneven:
        found = ", ".join(f"`{row.attack}` {figure(row)}" for row in uneven)
        sentences.append(
            f"Members and non-members differ in their histories alone ({found}): "
            + (
                "unless members were drawn at random and this is chance, no figure here is the system's alone."
                if regime == AS_SERVED
                else "members were drawn at random, so this is chance; repeat with another seed."
            )
        )
    history, shown = _unknown_shares(about, regime)
    if max(history, shown) >= _MUCH_UNKNOWN:
        sentences.append(
            f"The attacker has no item vector for {history:.0%} of the entries of histories and {shown:.0%} of the "
            "entries of lists: attacks over vectors are weak for want of data, which says nothing about the system."
        )
    if regime == "trained":
        sentences.append(
            "Members are served by vectors that another solver found than the vectors of non-members: an attack may "
            "tell the solvers apart, whatever the model memorised."
        )
    if regime == AS_SERVED and "completion" in asking and "completion-reference" not in asking:
        sentences.append(
            "No reference models were there to say how well each history can be completed by anybody; with them, the "
            "same answers show more. Name people who are not audited (`--reference-interactions`), or answers of the "
            "system trained without the audited users (`--reference-answers`)."
        )
    if grade == "untested":
        sentences.append(
            "None of the strong attacks was run here, which ask the system with parts of histories and compare the "
            "answers: that others find little proves nothing."
        )
    elif regime in (*FOLDING, AS_SERVED) and grade not in LEAK:
        sentences.append("That an attack fails is no proof of safety: a stronger one may not.")
    return sentences


def _unknown_shares(about: Mapping[str, Any], regime: str) -> tuple[float, float]:
    """Mean shares of history and list entries that the attacker has no vector for, over seeds."""
    notes = [one[regime] for one in about.get("attacker", ()) if regime in one]
    if not notes:
        return 0.0, 0.0
    history, shown = (
        sum(float(note[name]) for note in notes) / len(notes)
        for name in ("unknown_history_share", "unknown_list_share")
    )
    return history, shown


def _served_differently(sections: Sequence[Finding], served: Sequence[Finding], worst: Grade) -> list[str]:
    """What is found only where people inside and outside of the training data are served differently."""
    if not served:
        return [
            "Only popular lists for non-members were tested, and not how the system itself serves people outside of "
            "its training data."
        ]
    if worst not in LEAK:
        if all(one.grade not in LEAK for one in sections):
            return []
        return [
            "But where people outside of the training data are shown popular lists in place of the system's, these "
            "lists tell them from members."
        ]
    alike = max((one.grade for one in served if one.regime in SERVED_ALIKE), key=ORDER.index, default=worst)
    if alike in LEAK:
        return []
    found = {
        "unclear": "this audit is too small to say",
        "untested": "no strong attack was run",
        "slight": "these attacks find little",
        "none": "these attacks find nothing",
    }[alike]
    return [f"This is due to whom the system serves differently. Where everyone is served by the same path, {found}."]


def _left_out(about: Mapping[str, Any]) -> list[str]:
    data = about.get("data", {})
    read, kept = data.get("users_read"), data.get("users")
    if not read or kept is None or 1 - kept / read < _MANY_DROPPED:
        return []
    return [
        f"{1 - kept / read:.0%} of the {read:,} users were left out, for too short a history: the audit says nothing "
        "about them."
    ]


def noted(about: Mapping[str, Any], what: str) -> Any:
    """Return what was noted of the attacker in the first seed that has it, from the provenance; None if nothing was."""
    return next((one[what] for one in about.get("attacker", ()) if what in one), None)


def asked_words(kind: str, share: float) -> str:
    """Return what a query asks with, in words.

    >>> asked_words("parts", 0.5), asked_words("parts", 0.3), asked_words("prefixes", 0.5)
    ('half', '30%', 'the first events')
    """
    if kind == "prefixes":
        return "the first events"
    return "half" if share == 0.5 else f"{share:.0%}"


def _disclosed(disclosures: pl.DataFrame, about: Mapping[str, Any]) -> str:
    """A sentence or two on what answers give away."""
    asked = noted(about, "asked") or {}
    kind, share = asked.get("kind", "parts"), asked.get("share", 0.5)
    part, rest = asked_words(kind, share), "the other half" if share == 0.5 else "the rest"
    known = " what the attacker knows of" if "unknown" in disclosures["part"] else ""
    named = f"{{}} of {rest} for a member, and {{}} for a non-member"
    if kind == "prefixes":
        named = "the next item in {} of the queries about a member, and in {} about a non-member"
    sentences, hidden = [], "next" if kind == "prefixes" else "hidden"
    for which, said in (
        (hidden, f"Asked with {part} of{known} a history, the system names {named}, in answers of {{}} items."),
        ("unknown", "Of what the attacker did not know, it names {} for a member, and {} for a non-member."),
    ):  # fmt: skip
        rows = disclosures.filter(pl.col("metric").str.starts_with("recall@"), part=which)
        found = {row["users"]: row for row in rows.iter_rows(named=True)}
        if set(found) == {"members", "non-members"}:
            shares = [
                f"{100 * row['value']:.0f}% [{100 * row['low']:.0f}–{100 * row['high']:.0f}]"
                for row in (found["members"], found["non-members"])
            ]
            sentences.append(said.format(*shares, rows["metric"][0].partition("@")[2]))
    return " ".join(sentences)


def _identified(per_user_auc: pl.DataFrame) -> str:
    """A sentence or two on single users, for the attack and the section that identify most of them."""
    if per_user_auc.is_empty():
        return ""
    users = most_identified(per_user_auc)
    regime, attack, runs = users.select("regime", "attack", pl.col("n_in") + pl.col("n_out")).row(0)
    named = users.filter(pl.col("identifiable"))
    where = f"`{regime}`, `{attack}`, one seed, {runs} targets"
    if named.is_empty():
        return (
            f"No single user is identified as a member ({where}; false-discovery rate 5%); more targets would identify "
            "more."
        )
    most = "; ".join(f"{row['user_id']} ({unusual(row, users)})" for row in named.head(_NAMED).iter_rows(named=True))
    return (
        f"{len(named):,} of {len(users):,} users are individually identified as members ({where}; false-discovery rate "
        f"5%). The most exposed: {most}."
    )


def _identified_at_once(identified: pl.DataFrame) -> str:
    """A sentence or two on single members of one system, for the attack that identifies most of them."""
    if identified.is_empty():
        return ""
    users = exposed_at_once(identified)
    attack, named = users["attack"][0], users.filter(pl.col("identified"))
    where = f"`{attack}`, against the known non-members; false-discovery rate 5%"
    if named.is_empty():
        return f"No single member is identified ({where}); more non-members would identify more."
    most = "; ".join(f"{row['user_id']} ({unusual(row, users)})" for row in named.head(_NAMED).iter_rows(named=True))
    return f"{len(named):,} of {len(users):,} members are individually identified ({where}). The most exposed: {most}."


def exposed_at_once(identified: pl.DataFrame) -> pl.DataFrame:
    """Return the members as the attack sees them that identifies most of one system, the most exposed first.

    Parameters
    ----------
    identified : polars.DataFrame
        As of `recmia.AuditResult`, not empty.
    """
    keys = ["knowledge", "regime", "attack"]
    best = identified.group_by(keys, maintain_order=True).agg(
        pl.col("identified").mean(), pl.col("p_value").mean().neg()
    )
    level, regime, attack = best.sort("identified", "p_value", descending=True, maintain_order=True).row(0)[:3]
    users = identified.filter(knowledge=level, regime=regime, attack=attack)
    return users.sort("score", "rarity", descending=True, maintain_order=True)


def most_identified(per_user_auc: pl.DataFrame) -> pl.DataFrame:
    """Return the users of one seed as the attack and the section see them that identify most, the most exposed first.

    Parameters
    ----------
    per_user_auc : polars.DataFrame
        As of `recmia.AuditResult`, not empty.
    """
    keys = ["regime", "knowledge", "attack"]
    # One seed: a user who is named in any of several is wrongly named in more than the stated share.
    first_seed = per_user_auc.filter(pl.col("seed") == pl.col("seed").first())
    shared = first_seed.filter(pl.col("regime").is_in(SERVED_ALIKE))
    chosen = shared if len(shared) else first_seed
    best = chosen.group_by(keys, maintain_order=True).agg(pl.col("identifiable").mean(), pl.col("auc").mean())
    regime, level, attack = best.sort("identifiable", "auc", descending=True, maintain_order=True).row(0)[:3]
    users = chosen.filter(regime=regime, knowledge=level, attack=attack)
    return users.sort("identifiable", "low", "auc", "rarity", descending=True, maintain_order=True)


def unusual(user: Mapping[str, Any], users: pl.DataFrame) -> str:
    """Say what is unusual about a user among the audited ones."""
    words = []
    for column, high, low in (("history_length", "long history", "short history"),
                              ("rarity", "rare taste", "popular taste")):  # fmt: skip
        share = float((users[column] < user[column]).mean())
        if not _USUAL <= share <= 1 - _USUAL:
            words.append(high if share > 0.5 else low)
    return ", ".join(words) or "ordinary in length and taste"


def worst_of(findings: Sequence[Finding], **changed: Any) -> Finding:
    """Return the finding with the worst grade and, among those, the strongest attack."""
    worst = max(findings, key=lambda one: (ORDER.index(one.grade), towards_members(one.best)[0]))
    return replace(worst, **changed)

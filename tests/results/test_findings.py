"""Findings: how figures are graded, and that every voice (terminal, page, gate, defend, notebook) says the same."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import recmia
from recmia import AuditResult, FilesSettings, Interactions
from recmia.attacks import ATTACKS, RULES
from recmia.metrics import Metric
from recmia.metrics.epsilon import PromiseCheck
from recmia.render import text
from recmia.render.page import page
from recmia.results.defend import DefendResult
from recmia.results.findings import (
    GRADE_LIMITS,
    GRADES,
    LEAK,
    ORDER,
    Findings,
    Grade,
    find,
    grade_auc,
    most_identified,
    of_100,
    towards_members,
)
from recmia.results.sweep import SweepResult
from recmia.settings import AS_SERVED

TPR = "tpr@fpr=0.01"
OWN = "my-attack"
# Attacks of a case: one that is strong, and none that is.
STRONG, WEAK = ("mlp", "query-lr"), ("mlp", "list-lr")
# Rules that are for no regime alone.
EVERYWHERE = tuple(name for name in RULES if not ATTACKS[name].regimes and ATTACKS[name].unit == "user")
# What a figure is that a case does not name.
NEUTRAL: Mapping[str, tuple[float, float, float | None]] = {
    "auc": (0.5, 0.47, 0.53), TPR: (0.01, 0.0, 0.03), "epsilon": (0.0, 0.0, None),
}  # fmt: skip
DATA = {"source": "a data set", "users_read": 400, "users": 390, "rows_kept": 9000, "items": 200}


@dataclass(frozen=True)
class Case:
    """Figures of an audit, and what is to be found in them.

    Parameters
    ----------
    figures : mapping of (attack, metric) to (value, low, high)
        All others are `NEUTRAL`.
    grade : Grade
    claim : sequence of str
        What the section says, among other things.
    caveats : sequence of str
        What qualifies it, in the section or in the whole.
    absent : sequence of str
        What no voice may say.
    attacks : sequence of str
    regime : str
    attacker, data : mapping
        Parts of the provenance.
    """

    figures: Mapping[tuple[str, str], tuple[float, float, float | None]]
    grade: Grade
    claim: Sequence[str]
    caveats: Sequence[str] = ()
    absent: Sequence[str] = ()
    attacks: Sequence[str] = STRONG
    regime: str = "fold-in"
    attacker: Mapping[str, float] | None = None
    data: Mapping[str, Any] | None = None

    @property
    def metrics(self) -> list[Metric]:
        """The rows of an audit with these figures."""
        return [
            row(attack, name, *self.figures.get((attack, name), NEUTRAL[name]), regime=self.regime)
            for attack in (*self.attacks, *EVERYWHERE)
            for name in NEUTRAL
        ]

    @property
    def provenance(self) -> dict[str, Any]:
        """What the attacker could not know, and who was left out."""
        shares = {"unknown_history_share": 0.0, "unknown_list_share": 0.0} | dict(self.attacker or {})
        return {"data": DATA | dict(self.data or {}), "attacker": [{"seed": 0, self.regime: shares}]}

    @property
    def found(self) -> Findings:
        """The findings."""
        return find(self.metrics, provenance=self.provenance)


def row(
    attack: str, metric: str, value: float | None, low: float | None, high: float | None, *, regime: str = "fold-in"
) -> Metric:
    return Metric("grey-box", regime, "lfm", "lfm", attack, metric, value, low, high, 5, 1, 150, 150, "")


NO_STRONG_ATTACK = (
    "None of the strong attacks was run here, which ask the system with parts of histories and compare the answers: "
    "that others find little proves nothing."
)

CASES: dict[str, Case] = {
    "few members, but surely": Case(
        {("mlp", "auc"): (0.58, 0.55, 0.61), ("mlp", TPR): (0.2, 0.15, 0.25)},
        "marked",
        ["AUC 0.580 [0.550–0.610]", "at one false accusation in 100 non-members, it finds 20 of 100 members"],
    ),
    "few members, of another attack": Case(
        {("mlp", "auc"): (0.58, 0.55, 0.61), ("list-lr", TPR): (0.2, 0.15, 0.25)},
        "marked",
        ["AUC 0.580 [0.550–0.610]", "list-lr finds 20 of 100 members"],
        attacks=WEAK,
    ),
    "an interval too wide, beside a rule": Case(
        {("query-lr", "auc"): (0.829, 0.46, 1.0), ("popular-overlap", "auc"): (0.576, 0.54, 0.61)},
        "unclear",
        ["query-lr cannot be judged: the interval is too wide (AUC 0.829 [0.460–1.000])", "reaches 0.576"],
        ["That an attack fails is no proof of safety"],
    ),
    "an interval too wide, of a weak attack": Case(
        {("list-lr", "auc"): (0.829, 0.46, 1.0)},
        "untested",
        ["list-lr cannot be judged: the interval is too wide (AUC 0.829 [0.460–1.000])"],
        [NO_STRONG_ATTACK],
        absent=["no proof of safety"],
        attacks=WEAK,
    ),
    "read backwards": Case(
        {("mlp", "auc"): (0.002, 0.001, 0.003)},
        "strong",
        ["mlp distinguishes members from non-members almost always, read backwards (AUC 0.002 [0.001–0.003])"],
        absent=["no proof of safety", "cannot be distinguished"],
    ),
    "epsilon alone": Case(
        {("list-lr", "auc"): (0.55, 0.52, 0.58), ("list-lr", "epsilon"): (3.2, 3.2, None)},
        "marked",
        ["AUC 0.550 [0.520–0.580]", "its scores refute every epsilon below 3.20"],
        attacks=WEAK,
    ),
    "a rule above the attack": Case(
        {("mlp", "auc"): (0.52, 0.48, 0.56), ("shared-list", "auc"): (0.9, 0.88, 0.92)},
        "strong",
        [
            "AUC 0.520 [0.480–0.560]",
            "A rule that needs no model at all (shared-list) reaches 0.900 [0.880–0.920]: what is found here is found "
            "without an attack",
        ],
        absent=["reveal members"],
    ),
    "a rule above the attack, of the fallback": Case(
        {("mlp", "auc"): (0.8, 0.78, 0.82), ("shared-list", "auc"): (1.0, 0.99, 1.0)},
        "strong",
        ["what is measured is the list that non-members are given, not what the model memorised"],
        ["Only popular lists for non-members were tested, and not how the system itself serves people outside"],
        attacks=WEAK,
        regime="popular",
    ),
    "histories that differ, as served": Case(
        {("mlp", "auc"): (0.52, 0.48, 0.56), ("history-length", "auc"): (0.7, 0.66, 0.74)},
        "marked",
        ["A rule that needs no model at all (history-length) reaches 0.700"],
        [
            "Members and non-members differ in their histories alone (history-length 0.700 [0.660–0.740]): unless "
            "members were drawn at random and this is chance, no figure here is the system's alone."
        ],
        attacks=WEAK,
        regime=AS_SERVED,
    ),
    "histories that differ by chance": Case(
        {("history-length", "auc"): (0.62, 0.58, 0.66)},
        "none",
        ["cannot be distinguished from chance"],
        ["members were drawn at random, so this is chance; repeat with another seed", "no proof of safety"],
    ),
    "an attacker without item vectors": Case(
        {("mlp", "auc"): (0.52, 0.48, 0.56)},
        "none",
        ["cannot be distinguished from chance (AUC 0.520"],
        [
            "The attacker has no item vector for 85% of the entries of histories and 80% of the entries of lists: "
            "attacks over vectors are weak for want of data, which says nothing about the system."
        ],
        attacker={"unknown_history_share": 0.85, "unknown_list_share": 0.8},
    ),
    "most users left out": Case(
        {("list-lr", "auc"): (0.7, 0.66, 0.74)},
        "marked",
        ["with many errors (AUC 0.700"],
        ["90% of the 1,000 users were left out, for too short a history: the audit says nothing about them."],
        attacks=WEAK,
        data={"users_read": 1000, "users": 100},
    ),
    "no strong attack": Case(
        {("mlp", "auc"): (0.55, 0.52, 0.58)},
        "untested",
        ["only slightly (AUC 0.550"],
        [NO_STRONG_ATTACK],
        absent=["no proof of safety"],
        attacks=("mlp",),
    ),
    "a strong attack on lists is none": Case(
        {("list-lr", "auc"): (0.52, 0.49, 0.55)},
        "untested",
        ["list-lr cannot be distinguished from chance (AUC 0.520"],
        [NO_STRONG_ATTACK],
        absent=["no proof of safety"],
        attacks=WEAK,
    ),
    "a strong attack on lists, as served": Case(
        {("list-lr", "auc"): (0.55, 0.52, 0.58)},
        "untested",
        ["list-lr distinguishes members from non-members only slightly (AUC 0.550"],
        [NO_STRONG_ATTACK],
        absent=["no proof of safety"],
        attacks=WEAK,
        regime=AS_SERVED,
    ),
    "asking without anything to compare with": Case(
        {("completion", "auc"): (0.55, 0.52, 0.58)},
        "untested",
        ["completion distinguishes members from non-members only slightly (AUC 0.550"],
        [NO_STRONG_ATTACK],
        attacks=("mlp", "list-lr", "completion"),
    ),
    "asking finds what looking does not": Case(
        {("list-lr", "auc"): (0.52, 0.49, 0.55), ("query-lr", "auc"): (0.99, 0.98, 1.0)},
        "strong",
        [
            "query-lr distinguishes members from non-members almost always (AUC 0.990",
            "The published attack (mlp) cannot be distinguished from chance (AUC 0.500",
            "Without asking, the strongest attack (list-lr) cannot be distinguished from chance (AUC 0.520 "
            "[0.490–0.550]).",
        ],
        attacks=("mlp", "list-lr", "query-lr"),
    ),
    "asking finds little, beside references": Case(
        {("completion-reference", "auc"): (0.56, 0.53, 0.59)},
        "slight",
        ["completion-reference distinguishes members from non-members only slightly (AUC 0.560"],
        ["That an attack fails is no proof of safety"],
        absent=["Without asking", "None of the strong attacks"],
        attacks=("mlp", "completion-reference"),
    ),
    "no attack at all": Case(
        {("popular-overlap", "auc"): (0.53, 0.49, 0.57)},
        "untested",
        ["The rule popular-overlap cannot be distinguished from chance"],
        [NO_STRONG_ATTACK],
        attacks=(),
    ),
    "an attack of the user's finds a leak": Case(
        {(OWN, "auc"): (0.9, 0.88, 0.92)},
        "strong",
        ["my-attack distinguishes members from non-members in most cases (AUC 0.900"],
        attacks=("mlp", OWN),
    ),
    "an attack of the user's finds little": Case(
        {(OWN, "auc"): (0.56, 0.53, 0.59)},
        "slight",
        ["my-attack distinguishes members from non-members only slightly (AUC 0.560", "finds more than any such rule."],
        ["That an attack fails is no proof of safety"],
        absent=["None of the strong attacks was run", "reveal members"],
        attacks=("mlp", OWN),
    ),
    "nothing": Case(
        {},
        "none",
        ["cannot be distinguished from chance"],
        ["That an attack fails is no proof of safety"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_grade_claim_and_caveats(name: str) -> None:
    case = CASES[name]
    found = case.found
    (section,) = found.sections
    assert (found.grade, section.grade) == (case.grade, case.grade)
    assert (section.regime, section.level, section.name) == (case.regime, "grey-box", case.regime)
    said = text.plain(section.text)
    for words in case.claim:
        assert words in said
    caveats = text.plain(" ".join((*found.caveats, *section.caveats)))
    for words in case.caveats:
        assert words in caveats
    assert bool(caveats) == bool(case.caveats)
    for words in case.absent:
        assert words not in said
    assert section.best.metric == "auc"


@pytest.fixture(scope="module")
def real(small: Interactions) -> AuditResult:
    """A small audit, whose figures are replaced by those of a case."""
    return recmia.audit(
        small, attacks=["mlp", "list-lr", "rmia"], regimes=["fold-in"], factors=4, k=5, seeds=1, n_shadows=8,
        lfm={"epochs": 1}, mlp={"epochs": 1},
    )  # fmt: skip


def with_figures(real: AuditResult, case: Case) -> AuditResult:
    """The real audit with the figures, the attacks and the regime of a case."""
    sources = {name: name for name in EVERYWHERE} | dict(
        zip(case.attacks, real.settings.attacker.attacks, strict=False)
    )
    kept = {old: new for new, old in sources.items()}
    scores = real.scores.filter(pl.col("attack").is_in(list(kept))).with_columns(
        pl.col("attack").replace(kept), pl.lit(case.regime).alias("regime")
    )
    settings: Any = real.settings.changed(attacks=list(case.attacks))
    if case.regime == AS_SERVED:
        settings = FilesSettings.parse(
            {"interactions": "i.csv", "lists": "l.csv", "members": "m.csv", "k": 5, "attacks": list(case.attacks)}
        )
    elif case.regime != "fold-in":
        settings = settings.changed(regimes=[case.regime])
    result = AuditResult(settings, scores, real.users, real.provenance | case.provenance)
    rocs = {("grey-box", case.regime, new): real.rocs["grey-box", "fold-in", old] for new, old in sources.items()}
    # Both are computed from the scores, unless they are there.
    figures = tuple(case.metrics)
    vars(result).update(metrics=figures, rocs=rocs, joint=lambda *_, **__: figures)
    return result


def as_sweep(case: Case, key: str, value: str) -> SweepResult:
    """A grid of one cell with the figures of a case."""
    rows = [{key: value, **asdict(one), "joint_low": one.low, "joint_high": one.high} for one in case.metrics]
    table = pl.DataFrame(rows, infer_schema_length=None)
    settings = recmia.AuditSettings()
    return SweepResult(settings, {key: [value]}, table, [], case.provenance)


def visible(markup: str) -> str:
    """The text of a page or a piece of one, without scripts and styles."""
    bare = re.sub(r"<(script|style)\b.*?</\1>", " ", markup, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", bare)).split())


def section_of_page(markup: str, heading: str) -> str:
    """What stands under a heading of a page, up to the next of its kind."""
    (start,) = re.finditer(rf"<(h\d|dt)[^>]*>{re.escape(heading)}</\1>", markup)
    tag = start.group(1)
    return visible(re.split(rf"<{tag}\b", markup[start.end() :])[0])


# What reads as if there was nothing, as it must not where there is a leak, or nothing can be said.
REASSURING = re.compile(
    r"next to nothing|finds? nothing|finds? little about|cannot tell who|Nothing found|Little found"
)


def contradictions(said: str, found: Findings) -> list[str]:
    """What a voice says that belongs to another grade."""
    claims = {find_claim(grade) for grade in ORDER} - {found.claim}
    other = [claim for claim in claims if claim in said]
    if found.grade in (*LEAK, "unclear", "untested"):
        other += REASSURING.findall(said)
    return other


def find_claim(grade: Grade) -> str:
    """The claim of a grade, as of some case that has it."""
    return next(case.found.claim for case in CASES.values() if case.grade == grade)


@pytest.mark.end_to_end
@pytest.mark.parametrize("name", CASES)
def test_every_voice_agrees(name: str, real: AuditResult) -> None:
    case = CASES[name]
    result = with_figures(real, case)
    # Of files, single users are identified by their scores, which the case does not have.
    found = replace(case.found, users=result.findings.users)
    assert result.findings == found
    assert bool(found.users) == isinstance(result.settings, FilesSettings)
    label = GRADES[case.grade]
    markup = page({Path("run"): result})
    voices = {
        "terminal": text.result_words(result),
        "verdict": result.verdict,
        "text": str(result),
        "notebook": visible(result._repr_html_()),
        # The scale of grades names them all.
        "page": visible(re.sub(r'<(ol class="scale"|div class="grades").*?</(ol|div)>', "", markup, flags=re.DOTALL)),
    }
    for voice, said in voices.items():
        said = " ".join(said.split())
        assert label in said, voice
        assert found.claim in said, voice
        for words in (*case.claim, *case.caveats):
            assert words in said, voice
        for words in case.absent:
            assert words not in said, voice
        assert contradictions(said, found) == [], voice
    # All chips of the page are of this grade.
    chips = re.findall(r'<span class="chip ([\w-]*)">([^<]*)</span>', markup)
    assert set(chips) == {(case.grade, label)}
    assert f"{of_100(towards_members(found.sections[0].best)[0])} (" in voices["page"]
    current = re.findall(r'<li class="(\w+)" aria-current="true">', markup)
    assert current == ([case.grade] if case.grade in GRADE_LIMITS else []), "what could not be said has no place there"
    gate = json.loads(result.gate("auc=1").as_json())
    assert (gate["grade"], gate["claim"], gate["caveats"]) == (case.grade, found.claim, list(found.caveats))


@pytest.mark.parametrize("name", CASES)
def test_sweeps_and_comparisons_of_defences_agree(name: str) -> None:
    """The same figures in a cell of a grid, and of the undefended system."""
    case = CASES[name]
    section = case.found.sections[0]
    ((_, cell),) = as_sweep(case, "k", "5").findings
    assert cell == case.found
    if case.regime != AS_SERVED:
        assert DefendResult(0.6, pl.DataFrame(), as_sweep(case, "defence", "")).findings == [section]


@pytest.mark.end_to_end
def test_what_was_left_out_stands_under_what_was_tested(real: AuditResult) -> None:
    case = CASES["most users left out"]
    (words,) = case.caveats
    markup = page({Path("run"): with_figures(real, case)})
    assert words in section_of_page(markup, "What was tested")
    assert words not in section_of_page(page({Path("run"): with_figures(real, CASES["nothing"])}), "What was tested")


def test_shares_that_are_small_are_no_caveat() -> None:
    case = CASES["nothing"]
    few = replace(case, attacker={"unknown_history_share": 0.2, "unknown_list_share": 0.1}, data={"users": 320})
    assert few.found == case.found
    without = find(case.metrics)
    assert (without.grade, without.caveats) == (case.grade, ())


# The grade as a function of the figures. Fractions of two are exact, so no threshold falls between two roundings.
ends = st.integers(0, 1024).map(lambda number: number / 1024)


@st.composite
def areas(draw: st.DrawFn) -> Metric:
    low, value, high = sorted(draw(st.tuples(ends, ends, ends)))
    return row("mlp", "auc", value, low, high)


def turned(one: Metric) -> Metric:
    assert one.value is not None
    assert one.low is not None
    assert one.high is not None
    return replace(one, value=1 - one.value, low=1 - one.high, high=1 - one.low)


@given(areas())
@example(row("mlp", "auc", 0.5, 0.25, 0.625))
@example(row("mlp", "auc", 0.53125, 0.25, 0.625))
def test_the_grade_is_the_same_read_backwards(one: Metric) -> None:
    assert grade_auc(one) == grade_auc(turned(one))
    finding, backwards = (find([row]).sections[0] for row in (one, turned(one)))
    assert finding.grade == backwards.grade


@given(st.integers(0, 512), st.integers(0, 512), st.integers(0, 256), st.booleans())
def test_what_lies_farther_from_chance_never_has_a_lesser_grade(near: int, far: int, width: int, below: bool) -> None:
    """With an interval that is wide in proportion to the distance."""
    near, far = sorted((near, far))

    def area(distance: int) -> Metric:
        # The width is in 128ths of the distance.
        value, half = 0.5 + distance / 1024, distance * width / (128 * 1024)
        one = row("mlp", "auc", value, max(0.0, value - half), min(1.0, value + half))
        return turned(one) if below else one

    assert ORDER.index(grade_auc(area(near))) <= ORDER.index(grade_auc(area(far)))


@given(areas(), st.sampled_from([TPR, "epsilon"]), ends, ends)
def test_more_members_and_a_larger_bound_never_lower_the_grade(
    one: Metric, metric: str, less: float, more: float
) -> None:
    less, more = sorted((4 * less, 4 * more)) if metric == "epsilon" else sorted((less, more))
    grades = [
        find([one, row("mlp", metric, value, value, None if metric == "epsilon" else 1.0)]).grade
        for value in (less, more)
    ]
    assert ORDER.index(grades[0]) <= ORDER.index(grades[1])
    assert ORDER.index(find([one]).grade) <= ORDER.index(grades[0])


@given(areas())
def test_a_leak_is_never_told_as_little(one: Metric) -> None:
    found = find([one])
    said = text.verdict(found)
    if found.grade in (*LEAK, "unclear"):
        assert not REASSURING.search(said)
        assert not re.search("cannot be distinguished|only slightly", said)


def test_an_interval_that_is_wide_to_either_side_is_no_finding() -> None:
    """Below, too: an AUC of 0.25 would be one of 0.75 that is read backwards."""
    assert grade_auc(row("mlp", "auc", 0.53, 0.25, 0.6)) == "unclear"
    assert grade_auc(row("mlp", "auc", 0.53, 0.45, 0.9)) == "unclear"
    assert grade_auc(row("mlp", "auc", 0.53, 0.45, 0.6)) == "none"


def test_a_weak_figure_whose_interval_reaches_a_leak_is_unclear() -> None:
    one = row("query-lr", "auc", 0.62, 0.51, 0.78)
    found = find([one])
    assert found.grade == "unclear"
    assert "how well, the interval is too wide to say" in found.sections[0].claim
    assert grade_auc(replace(one, low=0.59, high=0.65)) == "slight"
    assert grade_auc(replace(one, value=0.38, low=0.22, high=0.49)) == "unclear"


def test_that_another_solver_serves_members_is_said() -> None:
    (section,) = find([row("list-lr", "auc", 0.8, 0.78, 0.82, regime="trained")]).sections
    assert any("another solver" in one for one in section.caveats)
    both = [row("query-lr", "auc", *one, regime=regime) for regime, one in (
        ("trained", (0.8, 0.78, 0.82)), ("fold-in", (0.52, 0.48, 0.56)),
    )]  # fmt: skip
    differently = "This is due to whom the system serves differently. Where everyone is served by the same path, "
    assert find(both).caveats == (f"{differently}these attacks find nothing.",)
    looking = [replace(one, attack="list-lr") for one in both]
    assert find(looking).caveats == (f"{differently}no strong attack was run.",)


def test_a_figure_that_is_missing_is_no_finding() -> None:
    found = find([row("query-lr", "auc", None, None, None)])
    assert found.grade == "unclear"
    assert "not resolvable" in found.sections[0].claim


def test_the_worst_section_decides_in_which_the_system_itself_serves() -> None:
    rows = [row(attack, "auc", *one, regime=regime) for regime, attack, one in (
        ("popular", "list-lr", (0.99, 0.98, 1.0)), ("fold-in", "query-lr", (0.52, 0.48, 0.56)),
    )]  # fmt: skip
    found = find(rows)
    assert [one.grade for one in found.sections] == ["strong", "none"]
    assert found.grade == "none", "popular lists are not the system's"
    assert found.caveats == (
        "But where people outside of the training data are shown popular lists in place of the system's, these lists "
        "tell them from members.",
    )
    alone = find([one for one in rows if one.regime == "popular"])
    assert (alone.grade, len(alone.caveats)) == ("strong", 1)
    assert alone.caveats[0].startswith("Only popular lists for non-members were tested")
    leaking = find([replace(one, value=0.9, low=0.88, high=0.92) for one in rows])
    assert (leaking.grade, leaking.caveats) == ("strong", ())
    rows += [replace(one, knowledge="black-box") for one in rows]
    assert [one.name for one in find(rows).sections] == [
        "popular, grey-box", "popular, black-box", "fold-in, grey-box", "fold-in, black-box",
    ]  # fmt: skip


def test_a_broken_promise_is_a_leak() -> None:
    kept, broken = (PromiseCheck("gumbel=3", "grey-box", "fold-in", 3.0, 0.0, bound, "list-lr") for bound in (1.0, 3.5))
    case = CASES["nothing"]
    assert find(case.metrics, promises=[kept]).grade == "none"
    found = find(case.metrics, promises=[kept, broken])
    assert found.grade == "marked"
    assert found.caveats[0].startswith("A promise of differential privacy is broken")
    assert "BROKEN PROMISE" in text.verdict(found)


def test_the_published_attack_is_told_beside_the_strongest() -> None:
    rows = [row("list-lr", "auc", 0.8, 0.78, 0.82), row("mlp", "auc", 0.55, 0.52, 0.58)]
    (section,) = find(rows).sections
    assert section.best.attack == "list-lr"
    assert section.details[0] == (
        "The published attack (`mlp`) distinguishes members from non-members only slightly (AUC 0.550 [0.520–0.580])."
    )


@pytest.mark.parametrize("regime", ["fold-in", "trained", AS_SERVED])
@pytest.mark.parametrize(
    ("attack", "grade"),
    [
        ("mlp", "untested"),
        ("distance", "untested"),
        ("completion", "untested"),
        *((name, "untested") for name in ATTACKS if name.startswith("list-lr")),
        ("rmia", "untested"),
        ("query-lr", "none"),
        ("query-lr-completion", "none"),
        ("completion-reference", "none"),
        (OWN, "none"),
    ],
)
def test_only_who_asks_and_compares_can_find_nothing(attack: str, grade: Grade, regime: str) -> None:
    """Every member of a system may be found by asking where the best of those who look at lists finds nothing."""
    small: dict[Grade, Grade] = {"none": grade, "slight": "slight" if grade == "none" else grade}
    for found, judged in small.items():
        value = 0.5 if found == "none" else 0.56
        (section,) = find([row(attack, "auc", value, value - 0.03, value + 0.03, regime=regime)]).sections
        assert section.grade == judged
        assert (NO_STRONG_ATTACK in section.caveats) == (grade == "untested")
        assert any("no proof of safety" in one for one in section.caveats) == (grade == "none")
    for value, leak in ((0.7, "marked"), (0.9, "strong")):
        assert find([row(attack, "auc", value, value - 0.03, value + 0.03, regime=regime)]).grade == leak
    # One strong attack is enough.
    beside = [
        row(attack, "auc", 0.5, 0.47, 0.53, regime=regime),
        row("query-lr", "auc", 0.5, 0.47, 0.53, regime=regime),
    ]
    assert find(beside).grade == "none"


@pytest.mark.parametrize("regime", ["popular", "popular-random"])
def test_where_strangers_get_popular_lists_nobody_can_ask(regime: str) -> None:
    (section,) = find([row("list-lr", "auc", 0.5, 0.47, 0.53, regime=regime)]).sections
    assert (section.grade, section.caveats) == ("none", ())


def test_what_looking_finds_is_told_where_asking_finds_more() -> None:
    rows = [
        row("completion", "auc", 0.9, 0.88, 0.92),
        row("list-lr", "auc", 0.7, 0.66, 0.74),
        row("rmia", "auc", 0.6, 0.56, 0.64),
        row("mlp", "auc", 0.55, 0.52, 0.58),
    ]
    (section,) = find(rows).sections
    assert section.best.attack == "completion"
    assert section.details[1] == (
        "Without asking, the strongest attack (`list-lr`) distinguishes members from non-members, with many errors "
        "(AUC 0.700 [0.660–0.740])."
    )
    # Nothing is told twice, and nothing where looking finds the most, or nobody looked.
    published = find([rows[0], rows[3]]).sections[0]
    assert "Without asking" not in published.text
    assert "The published attack (`mlp`)" in published.text
    for fewer in (rows[1:], rows[:1], [replace(rows[0], value=0.68, low=0.66, high=0.7), *rows[1:]]):
        assert "Without asking" not in find(fewer).sections[0].text


def given_away(**parts: dict[str, tuple[float, float, float]]) -> pl.DataFrame:
    """What answers of 100 items give away, as of an audit."""
    rows = [
        {"part": part, "metric": metric, "users": users.replace("_", "-"), "value": value, "low": low, "high": high}
        for part, groups in parts.items()
        for metric, share in (("recall@100", 1.0), ("precision@10", 0.1))
        for users, (value, low, high) in groups.items()
        for value, low, high in [(share * value, share * low, share * high)]
    ]
    return pl.DataFrame(rows)


def test_what_answers_give_away_is_said() -> None:
    metrics, hidden = CASES["nothing"].metrics, {"members": (0.976, 0.97, 0.98), "non_members": (0.48, 0.46, 0.5)}
    found = find(metrics, disclosures=given_away(hidden=hidden))
    assert found.disclosure == (
        "Asked with half of a history, the system names 98% [97–98] of the other half for a member, and 48% [46–50] "
        "for a non-member, in answers of 100 items."
    )
    assert found.disclosure in text.verdict(found).splitlines()
    asked = {"attacker": [{"seed": 0, "asked": {"queries": 10, "share": 0.3}}]}
    unknown = {"members": (0.2, 0.1, 0.3), "non_members": (0.1, 0.05, 0.15)}
    both = find(metrics, provenance=asked, disclosures=given_away(hidden=hidden, unknown=unknown))
    assert both.disclosure == (
        "Asked with 30% of what the attacker knows of a history, the system names 98% [97–98] of the rest "
        "for a member, and 48% [46–50] for a non-member, in answers of 100 items. Of what the attacker did not know, "
        "it names 20% [10–30] for a member, and 10% [5–15] for a non-member."
    )
    assert both.grade == find(metrics).grade, "it is no attack"
    # Without a group to compare with, and where nothing was asked, there is nothing to say.
    assert find(metrics, disclosures=given_away(hidden={"members": (0.9, 0.8, 1.0)})).disclosure == ""
    assert find(metrics, disclosures=pl.DataFrame()).disclosure == find(metrics).disclosure == ""


def test_grades_have_words() -> None:
    assert set(GRADES) == set(ORDER)
    assert len(set(GRADES.values())) == len(ORDER)
    assert {case.grade for case in CASES.values()} == set(ORDER), "a case for every grade"
    assert all(name in ATTACKS or name == OWN for case in CASES.values() for name in case.attacks)


@pytest.mark.parametrize(
    ("value", "words"), [(0.5, "50"), (0.994, "99.4"), (0.9996, "100"), (1.0, "100"), (0.004, "0.4"), (None, "–")]
)
def test_shares_as_cases_of_100(value: float | None, words: str) -> None:
    assert of_100(value) == words


# Single users.
def users(**changed: Any) -> pl.DataFrame:
    named = [user in (5, 9) for user in range(10)]
    columns = {
        "seed": 0, "knowledge": "grey-box", "regime": "fold-in", "attack": "list-lr", "user_id": range(10),
        "auc": [0.9 if one else 0.5 for one in named], "low": [0.7] * 9 + [0.6], "identifiable": named,
        "n_in": 10, "n_out": 10, "history_length": [*range(20, 29), 10], "rarity": [1, 1, 1, 1, 1, 4, 1, 1, 1, 2],
    }  # fmt: skip
    return pl.DataFrame({**columns, **changed})


def test_users_who_are_identified_are_named() -> None:
    found = find(CASES["nothing"].metrics, users())
    assert found.users == (
        "2 of 10 users are individually identified as members (`fold-in`, `list-lr`, one seed, 20 targets; "
        "false-discovery rate 5%). The most exposed: 5 (rare taste); 9 (short history)."
    )
    assert "2 of 10 users are individually identified as members (fold-in, list-lr" in text.verdict(found)
    nobody = find(CASES["nothing"].metrics, users(identifiable=False))
    assert nobody.users.startswith("No single user is identified as a member (`fold-in`")
    assert find(CASES["nothing"].metrics, pl.DataFrame()).users == ""


def test_the_regime_where_all_are_served_alike_decides_who_is_named() -> None:
    both = pl.concat([users(regime="popular", identifiable=True), users(), users(seed=1, identifiable=True)])
    chosen = most_identified(both)
    assert set(chosen["regime"]) == {"fold-in"}
    assert set(chosen["seed"]) == {0}, "users of several seeds are named in error more often than is stated"
    assert chosen["user_id"].to_list()[:2] == [5, 9]


def test_scores_of_an_attack_of_the_users_are_missed(real: AuditResult) -> None:
    """Whether it asks is not known, but it was run where strangers are served, and on files."""
    files: Any = FilesSettings.parse(
        {"interactions": "i.csv", "lists": "l.csv", "members": "m.csv", "k": 5, "attacks": ["mlp", OWN]}
    )
    rows = real.scores.filter(pl.col("attack").is_in(["mlp", *EVERYWHERE]))
    for settings, regime in ((files, AS_SERVED), (real.settings.changed(attacks=["mlp", OWN]), "fold-in")):
        scores = rows.with_columns(pl.lit(regime).alias("regime"))
        with pytest.raises(KeyError, match=OWN):
            AuditResult(settings, scores, real.users, real.provenance).metrics  # noqa: B018

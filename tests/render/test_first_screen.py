"""The first screen of a page in a real browser: three questions answered, at a desk and on a phone, for anybody."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

import recmia
from recmia import Interactions, audit_files, defend, sweep
from recmia.atomic import write_text
from recmia.attacks import ATTACKS
from recmia.render.assessment import Labels
from recmia.render.page import page
from recmia.results.audit import AuditResult
from recmia.results.files import export_files
from recmia.results.findings import of_100, towards_members
from recmia.results.setup import resolve
from recmia.settings import AuditSettings, FilesSettings
from tests.render.helpers import Opened

pytestmark = pytest.mark.end_to_end

QUICK: dict[str, Any] = {"factors": 4, "k": 20, "seeds": 1, "n_shadows": 4, "queries": 2, "lfm": {"epochs": 1}}
SIZES = ((1280, 800), (390, 844))
LABELS = Labels("Recommendations of the shop, release 7", "Data team, Ms Example", "January to June 2026")


@dataclass(frozen=True)
class Shown:
    """A page in a file, and its result."""

    result: Any
    file: Path


@pytest.fixture(scope="module")
def leaking() -> AuditResult:
    return recmia.audit(
        "synthetic:500x300x15000", recommender="ease", shadow="lfm", attacks=["mlp", "list-lr", "query-lr"], **QUICK
    )


@pytest.fixture(scope="module")
def shown(leaking: AuditResult, small: Interactions, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shown]:
    """A leaking system, one from files that was tested in part, a comparison of defences, and a sweep."""
    folder = tmp_path_factory.mktemp("first")
    export_files(
        resolve(AuditSettings.parse({**QUICK, "dataset": "synthetic:300x200x9000", "attacks": ["mlp"]})), folder
    )
    names = {key: str(folder / f"{key}.parquet") for key in ("interactions", "lists")}
    files = {**names, "members": str(folder / "members.csv")}
    looked = audit_files(settings=FilesSettings.parse({**files, "attacks": ["distance"], "factors": 4, "name": "Shop"}))
    settings = {**QUICK, "k": 10, "regimes": ["popular", "fold-in"], "attacks": ["list-lr"]}
    results: dict[str, Any] = {
        "leaking": leaking,
        "files": looked,
        "defences": defend(["shorter-lists=2", "gumbel=300"], small, **settings, held_out=0.2),
        "sweep": sweep({"k": [5, 10]}, small, **settings),
    }
    made = {}
    for name, result in results.items():
        write_text(folder / f"{name}.html", page({Path(name): result}, labels=LABELS), new=True)
        made[name] = Shown(result, folder / f"{name}.html")
    return made


KINDS = ("leaking", "files", "defences", "sweep")


@pytest.fixture(params=[(kind, size, scheme) for kind in KINDS for size in SIZES for scheme in ("light", "dark")],
                ids=lambda one: f"{one[0]}-{one[1][0]}-{one[2]}")  # fmt: skip
def opened(request: pytest.FixtureRequest, browser: Any, shown: Mapping[str, Shown]) -> Iterator[Opened]:
    kind, (width, height), scheme = request.param
    one = Opened(
        browser, shown[kind].file, viewport={"width": width, "height": height}, color_scheme=scheme, bypass_csp=True
    )
    yield one
    one.page.context.close()


def test_three_questions_are_answered_without_scrolling(opened: Opened) -> None:
    """Whether, how much, and the first thing to do; and no accessibility fault anywhere on the page."""
    height = opened.page.viewport_size["height"]
    for answer in (".question .chip", ".verdict h2", ".extent strong", ".now li:first-child"):
        box = opened.page.locator(answer).first.bounding_box()
        assert box is not None, answer
        assert box["y"] >= 0, answer
        # Of a long first item, its beginning.
        assert box["y"] + min(box["height"], 44) <= height, answer
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= opened.page.viewport_size["width"]
    faults = Axe().run(opened.page).response["violations"]
    assert [(one["id"], one["nodes"][0]["target"]) for one in faults if one["impact"] in ("serious", "critical")] == []
    assert opened.said == []


@pytest.fixture(scope="module")
def desk(browser: Any, shown: Mapping[str, Shown]) -> Opened:
    return Opened(browser, shown["leaking"].file)


def test_people_are_coloured_by_how_many_are_found(desk: Opened, leaking: AuditResult) -> None:
    found = leaking.findings.sections[0].found
    assert found is not None
    assert found.value is not None
    assert desk.page.locator(".people i").count() == 100
    assert desk.page.locator(".people i.found").count() == round(100 * found.value)
    said = " ".join((desk.page.locator(".extent").text_content() or "").split())
    assert said == (
        f"An attacker who accepts one false accusation in a hundred finds {of_100(found.value)} of 100 of your users."
    )
    colours = {desk.colour(one, "background-color") for one in (".people i.found", ".people i:not(.found)", ".verdict")}
    assert len(colours) == 3


def test_a_bar_has_a_full_scale_a_coin_and_an_interval(desk: Opened, leaking: AuditResult) -> None:
    value, low, high = (100 * end for end in towards_members(leaking.findings.sections[0].best))
    boxes = {
        part: desk.page.locator(f".bad .track{part}").first.bounding_box() for part in ("", " .fill", " .coin",
                                                                                        " .interval")
    }  # fmt: skip
    track = boxes[""]

    # Within the border of a pixel.
    def at(x: float) -> float:
        return 100 * float(x - track["x"] - 1) / float(track["width"] - 2)

    assert at(boxes[" .fill"]["x"] + boxes[" .fill"]["width"]) == pytest.approx(value, abs=0.3)
    assert at(boxes[" .coin"]["x"]) == pytest.approx(50, abs=0.3)
    assert at(boxes[" .interval"]["x"]) == pytest.approx(low, abs=0.3)
    assert at(boxes[" .interval"]["x"] + boxes[" .interval"]["width"]) == pytest.approx(high, abs=0.6)
    ends = desk.page.locator(".bad .ends span").all_text_contents()
    assert ends == ["0", "50, a coin", "100"]


def test_no_code_names_in_the_verdict_but_in_tooltips(desk: Opened, leaking: AuditResult) -> None:
    words = desk.page.evaluate(
        "(() => { const one = document.querySelector('.verdict').cloneNode(true);"
        " one.querySelectorAll('code').forEach(code => code.remove()); return one.textContent })()"
    )
    for name in (*ATTACKS, "fold-in", "popular-random", "as-served", "grey-box", "AUC", "FPR"):
        assert not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", words), name
    best = leaking.findings.sections[0].best
    assert desk.page.locator(f".bad [title={best.attack}]").text_content() == "The strongest attack"


def test_the_system_as_it_serves_comes_first(desk: Opened, leaking: AuditResult) -> None:
    assert [one.regime for one in leaking.findings.sections] == ["fold-in", "popular"]
    backwards = leaking.settings.changed(regimes=["popular", "fold-in"])
    text = page({Path("run"): replace(leaking, settings=backwards)})
    headings = re.findall(r'<tr class="group"><th[^>]*><span>(fold-in|popular):', text)
    assert headings[0] == "fold-in", "whatever the order of the settings"
    assert desk.page.locator(".findings h4 [title]").first.text_content() == "Everyone served alike"
    aside = desk.page.locator(".aside").text_content() or ""
    assert "Others shown one popular list" in aside
    assert desk.page.locator(".findings li").count() == 1, "popular lists are a note"


def test_what_only_the_owner_knows(desk: Opened) -> None:
    assert desk.page.locator("h1").text_content() == LABELS.title
    lead = desk.page.locator(".lead").text_content() or ""
    assert lead.startswith(f"{LABELS.owner}. Data of {LABELS.period}. Report of ")


def test_what_was_not_tested_is_said(shown: Mapping[str, Shown]) -> None:
    text = shown["files"].file.read_text()
    verdict = text[text.index('<section class="verdict') : text.index("What an attacker learns")]
    assert "Not tested against a strong attack" in verdict
    assert "Not known. No strong attack was run" in verdict
    assert 'class="people"' not in verdict, "nobody is drawn as found or as safe"
    assert "aria-current" not in verdict
    assert "Do not decide on this audit" in verdict


def test_chapters_that_have_nothing_are_not_there(desk: Opened) -> None:
    titles = desk.page.locator(".part > h3").all_text_contents()
    assert "Who is exposed" not in titles, "one system says nothing of single users"
    assert "Provenance" in titles
    assert all(section.locator("table, .chart, pre, .findings").count() for section in desk.page.locator(".part").all())


def test_provenance_is_folded_and_in_words(desk: Opened) -> None:
    part = desk.page.locator("#run-1-provenance")
    assert part.locator("details").count() == 2
    assert part.locator("details[open]").count() == 0
    said = part.locator("table").text_content() or ""
    assert "peak memory" in said
    assert not re.search(r'[{}]|":', said), "no JSON"


def test_the_text_for_an_assessment_is_copied(browser: Any, shown: Mapping[str, Shown]) -> None:
    opened = Opened(browser, shown["leaking"].file)
    part = opened.page.locator("#run-1-for-a-data-protection-impact-assessment")
    part.locator("summary").click()
    text = part.locator("pre").text_content() or ""
    part.get_by_role("button", name="Copy").click()
    # A page from a file may have no clipboard; the text is selected then.
    part.get_by_role("button", name=re.compile("^(Copied|Selected; copy it)$")).wait_for()
    for words in ("What was tested", "Against whom", "Likelihood", "What remains", "Art. 35", "28/2024",
                  LABELS.title, LABELS.owner, LABELS.period, "no legal advice"):  # fmt: skip
        assert words in text
    assert "`" not in text
    assert opened.said == []

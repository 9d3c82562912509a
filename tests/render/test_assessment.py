"""Texts to copy: a summary in Markdown that any renderer shows as it was meant, and the text for an assessment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import recmia
from recmia import Interactions
from recmia.render.assessment import Labels, _prose
from recmia.render.page import summary
from recmia.results.audit import AuditResult

NASTY = "a|b <script>alert(1)</script> *bold* [x](y) `"


def rendered(text: str) -> str:
    """What a reader of the Markdown sees, as text."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    words = []
    for token in tokens:
        for child in token.children or ():
            assert child.type in ("text", "code_inline", "softbreak", "strong_open", "strong_close"), child
            words.append(child.content)
    return " ".join("".join(words).split())


@given(st.text(alphabet="ltab|*_`<>[]()#\\~-+! &;\n.1", max_size=40))
def test_any_text_is_shown_as_it_is(text: str) -> None:
    flat = " ".join(text.split())
    # After a word, since marks at the start of a line are no part of running text.
    shown = rendered(f"x {_prose(text)}")
    assert shown == " ".join(f"x {flat if flat.count('`') % 2 else flat.replace('`', '')}".split())


@pytest.fixture(scope="module")
def result(small: Interactions) -> AuditResult:
    return recmia.audit(
        small, factors=4, k=5, seeds=1, n_shadows=4, lfm={"epochs": 1}, attacks=["mlp", "list-lr"]
    )  # fmt: skip


def test_a_summary_for_a_pull_request(result: AuditResult) -> None:
    settings = result.settings.changed(recommender="lfm")
    text = summary({Path("run"): replace(result, settings=settings)}, today="2024-02-29")
    said = rendered(text)
    assert result.findings.label in said
    assert result.findings.claim in said
    assert "Everyone served alike: The strongest attack" in said
    assert "Others shown one popular list: The strongest attack" in said
    assert "What to do now:" in said
    assert "2024-02-29" in said
    assert "no proof that nothing leaks" in said
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {4}, "every row has three cells"


def test_labels_are_shown_as_they_are(result: AuditResult) -> None:
    said = rendered(summary({Path("run"): result}, labels=Labels(NASTY, NASTY, NASTY)))
    assert said.count(NASTY) == 3

"""Pictures from the store: the same bytes where all is the same, drawn anew where anything differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

import recmia
from recmia import Interactions
from recmia.render import kept, pictures
from recmia.render.kept import kept_pictures
from recmia.results.audit import AuditResult


@pytest.fixture(scope="module")
def result(small: Interactions) -> AuditResult:
    options: dict[str, Any] = {"factors": 4, "k": 10, "seeds": 1, "lfm": {"epochs": 1}}
    return recmia.audit(small, regimes=["fold-in"], attacks=["distance"], **options)


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> list[AuditResult]:
    """The results that were drawn."""
    done: list[AuditResult] = []

    def draw(result: AuditResult) -> dict[str, bytes]:
        done.append(result)
        return {"roc.svg": b"<svg>%d</svg>" % len(done)}

    monkeypatch.setattr(pictures, "pictures", draw)
    return done


def test_what_was_drawn_is_not_drawn_again(result: AuditResult, drawings: list[AuditResult]) -> None:
    store: dict[str, Any] = {}
    first = kept_pictures(result, store)
    again = replace(result, provenance={**result.provenance, "seconds_total": 0.5})
    assert kept_pictures(again, store) == first == {"roc.svg": b"<svg>1</svg>"}
    assert drawings == [result]
    # A store that lost the entry.
    store.clear()
    assert kept_pictures(result, store) == {"roc.svg": b"<svg>2</svg>"}


def other_scores(result: AuditResult) -> AuditResult:
    return replace(result, scores=result.scores.with_columns(pl.col("score").reverse().over("attack", "side")))


def other_source(result: AuditResult) -> AuditResult:
    return replace(result, provenance={**result.provenance, "data": {**result.provenance["data"], "source": "x"}})


def other_examples(result: AuditResult) -> AuditResult:
    return replace(result, provenance={**result.provenance, "attacker": [{"seed": 0, "asked": {"queries": 2}}]})


def other_settings(result: AuditResult) -> AuditResult:
    return replace(result, settings=result.settings.changed(factors=5))


@pytest.mark.parametrize("change", [other_scores, other_source, other_examples, other_settings])
def test_what_differs_is_drawn_anew(
    result: AuditResult, drawings: list[AuditResult], change: Callable[[AuditResult], AuditResult]
) -> None:
    store: dict[str, Any] = {}
    assert kept_pictures(result, store) != kept_pictures(change(result), store)
    assert len(drawings) == 2


def test_other_code_draws_anew(
    result: AuditResult, drawings: list[AuditResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    store: dict[str, Any] = {}
    first = kept_pictures(result, store)
    monkeypatch.setattr(kept, "_code", lambda: "of another day")
    assert kept_pictures(result, store) != first

"""What a page is made of: chapters of parts, which hold words, figures and tables."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from recmia.attacks import BASELINES
from recmia.config import AuditConfig
from recmia.report.charts import Spec
from recmia.report.words import Finding
from recmia.summary import Grade


@dataclass(frozen=True)
class Row:
    """A row of a table; `kind` is "group" for a heading within it, and "dim" for a rule that needs no model."""

    cells: Sequence[str]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table, folded away unless it is `open`; with `prose` it holds texts, not figures."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    open: bool = False
    prose: bool = False


@dataclass(frozen=True)
class Control:
    """Buttons that choose what the figures of a part show.

    Parameters
    ----------
    kind : str
        "view" chooses the specification, "pick" the data, "shown" the series.
    legend : str
    options : sequence of (value, label, colour, dashes)
        Colour and dashes are of the swatch, if any.
    """

    kind: str
    legend: str
    options: Sequence[tuple[str, str, str, str]]
    chosen: str = ""


@dataclass(frozen=True)
class Figure:
    """A chart: its specifications by view, and their data by pick.

    Parameters
    ----------
    title : str
    alt : str
        What it shows, in words.
    specs : mapping of str to specification
        By the value of the control "view"; one with the key "" for all.
    data : mapping of str to data sets by name
        By the value of the control "pick"; one with the key "" for all.
    """

    title: str
    alt: str
    specs: Mapping[str, Spec]
    data: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]


@dataclass(frozen=True)
class Part:
    """A section of a chapter: words, figures, and tables that hold the same."""

    title: str
    words: Sequence[str] = ()
    controls: Sequence[Control] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    texts: Sequence[tuple[str, str]] = ()

    @property
    def key(self) -> str:
        """The title as part of an address."""
        return re.sub(r"[^a-z]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Chapter:
    """All about one run.

    Parameters
    ----------
    title, folder : str
    grade : str
        Of `recmia.summary.grade`.
    headline, more, chip : str
        The verdict in a sentence, what qualifies it, and in a word or two, where that of the grade does not fit.
    findings : sequence of `recmia.report.words.Finding`
    answers : sequence of (question, paragraphs)
    advice : sequence of str
        What to do.
    parts : sequence of Part
    """

    title: str
    folder: str
    grade: Grade
    headline: str
    findings: Sequence[Finding]
    answers: Sequence[tuple[str, Sequence[str]]]
    advice: Sequence[str]
    parts: Sequence[Part]
    more: str = ""
    chip: str = ""


def data_name(config: AuditConfig) -> str:
    """What to call the data in a title: a file by its name, without its folders."""
    return Path(config.dataset).name or config.dataset


def provenance_part(config: AuditConfig, about: Mapping[str, Any]) -> Part:
    """All that is needed to repeat a run."""
    rows = []
    for key in sorted(about, key=lambda key: isinstance(about[key], (Mapping, list))):
        if isinstance(about[key], Mapping):
            rows.append(Row([key.replace("_", " ").capitalize()], "group"))
            rows += [row for name, value in about[key].items() for row in _facts(name, value)]
        else:
            rows += _facts(key, about[key])
    return Part(
        "Where this comes from",
        words=["All that is needed to repeat the run to the last bit: the settings, the versions, and the fingerprint "
               "of the data."],
        tables=[Table("Data, versions, time and memory", ["What", "Value"], rows, open=True, prose=True)],
        texts=[("Settings (config.toml)", tomli_w.dumps(config.model_dump(mode="json")))],
    )  # fmt: skip


def _facts(key: str, value: Any) -> list[Row]:
    """Provenance as rows, nested keys joined."""
    if isinstance(value, Mapping) and value:
        return [row for name, inner in value.items() for row in _facts(f"{key}: {name}", inner)]
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
        return [Row([f"{key} {number}", _short_json(one)]) for number, one in enumerate(value, 1)]
    if key.endswith("_bytes"):
        return [Row([key.removesuffix("_bytes").replace("_", " "), f"{value / 2**20:,.0f} MiB"])]
    shown: Any = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
    if isinstance(value, float):
        shown = f"{value:.4g}"
    elif isinstance(value, int) and not isinstance(value, bool):
        shown = f"{value:,}" if value >= 1000 else str(value)
    return [Row([key.replace("_", " "), str(shown) if shown not in ("", {}) else "none"])]


def _short_json(value: Any) -> str:
    return json.dumps(json.loads(json.dumps(value), parse_float=lambda digits: float(f"{float(digits):.4g}")))


def row_kind(attack: str) -> str:
    """Dim for a rule that needs no model."""
    return "dim" if attack in BASELINES else ""


def digits(value: float | None) -> Any:
    """As many digits as a figure can show."""
    return None if value is None else float(f"{value:.5g}")

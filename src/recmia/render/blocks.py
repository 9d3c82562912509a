"""The parts of a page as data: chapters of parts, with text, figures and tables."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from recmia.attacks import RULES
from recmia.metrics import Metric
from recmia.render.style import styles
from recmia.results.findings import GRADES, Grade, grade_of, of_100, towards_members
from recmia.settings import AnyAuditSettings

if TYPE_CHECKING:
    # A command says what to do next without a library that draws.
    from recmia.render.charts import Chart, Rows, Spec


@dataclass(frozen=True)
class Row:
    """A row of a table; `kind` is "group" for a heading within it, and "dim" for a rule that needs no model."""

    cells: Sequence[str]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table, folded away unless it is `open`; with `prose` it holds texts, not charts."""

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
    data: Mapping[str, Mapping[str, Rows]]

    @classmethod
    def of(cls, title: str, alt: str, *, views: Mapping[str, Chart] = {}, picks: Mapping[str, Chart] = {}) -> Figure:
        """Return a figure of charts by view, which share their data, or by pick, which share their specification."""
        charts = list((views or picks).values())
        specs = {name: chart.spec for name, chart in views.items()} or {"": charts[0].spec}
        if picks:
            return cls(title, alt, specs, {name: chart.data for name, chart in picks.items()})
        # A view may have data sets that no other has, such as the labels of a frontier.
        data: dict[str, Rows] = {}
        for chart in charts:
            for name, rows in chart.data.items():
                assert data.setdefault(name, rows) == rows, f"views of {title!r} differ in the data set {name!r}"
        return cls(title, alt, specs, {"": data})


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
class Gauge:
    """Pairs of 100 that somebody tells apart, with the interval, on the full scale from 0 to 100.

    Parameters
    ----------
    label : str
        Who, in plain words.
    name : str
        Of the attack or rule, as a tooltip.
    value, low, high : float
        Pairs of 100, in whichever direction an attack is read.
    """

    label: str
    name: str
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, label: str, row: Metric) -> Gauge:
        """Return the gauge of an AUC."""
        return cls(label, row.attack, *(100 * end for end in towards_members(row)))

    @property
    def grade(self) -> Grade:
        """Of this figure alone."""
        return grade_of(self.value / 100, self.low / 100, self.high / 100)

    @property
    def text(self) -> str:
        """The figure with its interval."""
        return f"{of_100(self.value / 100)} ({of_100(self.low / 100)} to {of_100(self.high / 100)})"


@dataclass(frozen=True)
class Extent:
    """How bad it is: a sentence, and 100 people of whom some are found.

    Parameters
    ----------
    before, figure, after : str
        The sentence, whose `figure` stands out.
    people : int, optional
        How many of 100 are found; None where that was not measured.
    note : str
        The interval, and what guessing finds.
    gauges : sequence of Gauge
    scale : str
        What the gauges measure.
    grade : Grade
        Of what the sentence says.
    things : bool
        Whether what is found are interactions, and not people.
    """

    before: str
    figure: str
    after: str
    people: int | None
    note: str
    gauges: Sequence[Gauge]
    scale: str
    grade: Grade
    things: bool = False


@dataclass(frozen=True)
class Card:
    """What attackers of several kinds learn from one way of serving people.

    Parameters
    ----------
    title, name : str
        In plain words, and as settings call it.
    about : str
    grade : Grade
    gauges : sequence of Gauge
    text : str
        What else was found, and what limits it.
    """

    title: str
    name: str
    about: str
    grade: Grade
    gauges: Sequence[Gauge]
    text: str

    @property
    def chip(self) -> str:
        """The grade in words."""
        return GRADES[self.grade]


@dataclass(frozen=True)
class Chapter:
    """All about one run: three questions answered, then the details.

    Parameters
    ----------
    title, folder : str
    grade : str
        Of `recmia.results.findings`.
    question, headline, more, chip : str
        The first question, its answer in a sentence, what qualifies it, and the answer in a word or two, where that of
        the grade does not fit.
    how, extent : str, Extent
        The second question, and how bad it is.
    impact : str
        When that matters.
    advice : sequence of str
        What to do now; the choice comes first.
    cards : sequence of Card
    asides : sequence of Card
        Of other ways of serving people than the system's own.
    answers : sequence of (question, paragraphs)
    parts : sequence of Part
        Those without figures, tables and texts are left out.
    graded : bool
        Whether the grade is of the scale of an audit.
    """

    title: str
    folder: str
    grade: Grade
    headline: str
    extent: Extent
    advice: Sequence[str]
    cards: Sequence[Card]
    answers: Sequence[tuple[str, Sequence[str]]]
    parts: Sequence[Part]
    question: str = "Do we leak?"
    how: str = "How bad is it?"
    more: str = ""
    chip: str = ""
    impact: str = ""
    asides: Sequence[Card] = ()
    graded: bool = True

    @property
    def label(self) -> str:
        """The verdict in a word or two."""
        return self.chip or GRADES[self.grade]


def data_name(settings: AnyAuditSettings) -> str:
    """What to call the data in a title: a file by its name, without its folders."""
    return Path(settings.source).name or settings.source


def provenance_part(settings: AnyAuditSettings, about: Mapping[str, Any]) -> Part:
    """All that is needed to repeat a run."""
    rows = []
    for key in sorted(about, key=lambda key: isinstance(about[key], (Mapping, list))):
        if isinstance(about[key], Mapping):
            rows.append(Row([key.replace("_bytes", "").replace("_", " ").capitalize()], "group"))
            unit = "_bytes" if "_bytes" in key else ""
            rows += [row for name, value in about[key].items() for row in _facts(f"{name}{unit}", value)]
        else:
            rows += _facts(key, about[key])
    return Part(
        "Provenance",
        words=["Everything that is needed to repeat the run exactly: settings, versions, and the fingerprint of the "
               "data."],
        tables=[Table("Data, versions, time and memory", ["What", "Value"], rows, prose=True)],
        texts=[("Settings (config.toml)", tomli_w.dumps(settings.flat()))],
    )  # fmt: skip


def _facts(key: str, value: Any) -> list[Row]:
    """Provenance as rows, nested keys joined."""
    if isinstance(value, Mapping) and value:
        return [row for name, inner in value.items() for row in _facts(f"{key}: {name}", inner)]
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
        return [
            Row([f"{key}, {'seed' if 'seed' in one else 'number'} {one.get('seed', number)}", _spelled(one)])
            for number, one in enumerate(value, 1)
        ]
    if key.endswith("_bytes"):
        return [Row([key.removesuffix("_bytes").replace("_", " "), f"{value / 2**20:,.0f} MiB"])]
    shown: Any = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
    if isinstance(value, float):
        shown = f"{value:.4g}"
    elif isinstance(value, int) and not isinstance(value, bool):
        shown = f"{value:,}" if value >= 1000 else str(value)
    return [Row([key.replace("_", " "), str(shown) if shown not in ("", {}) else "none"])]


def _spelled(value: Mapping[str, Any]) -> str:
    """Nested facts in one line; the seed is said elsewhere."""
    parts = []
    for key, one in value.items():
        name = key.replace("_", " ")
        if isinstance(one, Mapping):
            parts.append(f"{name} ({_spelled(one)})")
        elif key == "examples":
            # They are drawn.
            continue
        elif key != "seed":
            parts.append(f"{name} {one:.4g}" if isinstance(one, float) else f"{name} {one}")
    return "; ".join(parts)


def row_kind(attack: str) -> str:
    """Dim for a rule that needs no model."""
    return "dim" if attack in RULES else ""


def legend_options(names: Sequence[str], rules: Collection[str] = ()) -> list[tuple[str, str, str, str]]:
    """Return the options of a control that shows and hides series, each with its colour and dashes."""
    return [
        (name, name, style.colour, " ".join(map(str, style.dashes))) for name, style in styles(names, rules).items()
    ]

"""Static pictures: charts in a grid, with a title and legends, as SVG and PNG in the light colours of the page."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import product
from types import MappingProxyType
from typing import Any, Literal

from recmia.render.charts import Chart, Rows, Spec
from recmia.render.style import STAR, TEXT, Style, text_width, wrap

# Liberation Sans, which vl-convert includes, has the metrics of Arial.
_FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
_TITLE, _SUBTITLE, _PANEL_TITLE = 15, 12, 12
_PADDING, _ROW_HEIGHT, _COLUMN_GAP = 12, 18, 26
# Least width that a title may take, in pixels.
_NARROWEST = 560
_CONFIG: Mapping[str, Any] = MappingProxyType(
    {
        "font": _FONT,
        "view": {"stroke": None},
        "axis": {
            "labelColor": "var(--soft)", "titleColor": "var(--soft)", "labelFontSize": TEXT, "titleFontSize": TEXT,
            "titleFontWeight": 400, "titlePadding": 8, "labelPadding": 5, "domainColor": "var(--line)",
            "tickColor": "var(--line)", "gridColor": "var(--grid)", "tickSize": 4,
        },
        "axisQuantitative": {"labelFlush": False},
        "legend": {"labelColor": "var(--ink)", "labelFontSize": TEXT},
        "title": {"color": "var(--ink)", "subtitleColor": "var(--soft)"},
    }
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A line of a static legend: a sample and a label.

    Parameters
    ----------
    label : str
    style : Style
    value : str
        Printed before the label, in a column of its own.
    sample : str
        "line", "band" (a line on a band), "marked" (a line with a point), "point", or "open" (a point without filling).
    width : float
        Of the line, in pixels; 0 takes that of the style.
    """

    label: str
    style: Style
    value: str = ""
    sample: Literal["line", "band", "marked", "point", "open", "tile"] = "line"
    width: float = 0.0


@dataclass(frozen=True)
class Legend:
    """A static legend."""

    title: str
    entries: Sequence[Entry]


@dataclass(frozen=True)
class Static:
    """A static picture; the same values give the same bytes.

    Parameters
    ----------
    spec : mapping
        The Vega-Lite specification, data included.
    text : str
        The SVG.
    width, height : int
        In pixels at scale 1.
    """

    spec: Spec
    text: str
    width: int
    height: int

    def svg(self) -> str:
        """The picture as SVG."""
        return self.text

    def png(self, scale: float = 1.5) -> bytes:
        """The picture as PNG, `width` x `scale` pixels wide and `height` x `scale` high, rounded down."""
        import vl_convert

        return vl_convert.svg_to_png(self.text, scale=scale)


def picture(
    rows: Sequence[Sequence[tuple[str, Chart]]],
    title: str,
    *,
    legends: Sequence[Legend] = (),
    size: tuple[int, int] = (380, 300),
) -> Static:
    """Lay out charts in a grid, with a title that is never cut off.

    Parameters
    ----------
    rows : sequence of rows, each a sequence of (title, chart)
        Plots of a column start at the same place, those of a row at the same height.
    title : str
        The first line is printed large, others below it; lines are wrapped to the width of the plots and legends.
    legends : sequence of Legend
        One beside each row, or one beside all.
    size : (int, int)
        Width and height of each plot without its axes, in pixels.
    """
    columns = max(map(len, rows))
    datasets: dict[str, Rows] = {}
    shown: list[str] = []
    panels: list[Spec] = []
    for row, place in product(range(len(rows)), range(columns)):
        if place >= len(rows[row]):
            panels.append({"data": {"values": []}, "mark": "text", "width": size[0], "height": size[1], "encoding": {}})
        else:
            heading, chart = rows[row][place]
            panels.append(_panel(heading, chart, size, f"panel-{len(panels)}-", datasets, shown))
        if len(legends) > 1 and place == columns - 1:
            panels.append(_legend_panel(legends[row]))
    body: dict[str, Any] = {
        "concat": panels,
        "columns": columns + (len(legends) > 1),
        "align": "each",
        "spacing": {"row": 22, "column": _COLUMN_GAP},
    }
    if len(legends) == 1:
        body = {"hconcat": [body, _legend_panel(legends[0])], "spacing": _COLUMN_GAP}
    spec: dict[str, Any] = _with_light_colours({**body, "background": "var(--card)", "config": _CONFIG})
    spec |= {
        "padding": _PADDING,
        "params": [{"name": "shown", "value": list(dict.fromkeys(shown))}],
        "datasets": datasets,
    }
    # How wide the axes are is known only after drawing, which takes long.
    width = columns * size[0] + (columns - 1) * _COLUMN_GAP
    if legends:
        width += _COLUMN_GAP + max(_legend_panel(legend)["width"] for legend in legends)
    spec["title"] = _title(title, max(_NARROWEST - 2 * _PADDING, width))
    return Static(spec, *_drawn(spec))


def _title(title: str, width: float) -> Spec:
    """The title of a picture, each line of it wrapped to a width."""
    first, *others = title.split("\n")
    spec: dict[str, Any] = {
        "text": wrap(first, width, _TITLE), "fontSize": _TITLE, "lineHeight": _TITLE + 4, "fontWeight": 600,
        "anchor": "start", "frame": "bounds", "offset": 14,
    }  # fmt: skip
    if others:
        spec |= {
            "subtitle": [part for other in others for part in wrap(other, width, _SUBTITLE)],
            "subtitleFontSize": _SUBTITLE, "subtitleLineHeight": _SUBTITLE + 4, "subtitlePadding": 5,
        }  # fmt: skip
    return spec


def _panel(
    heading: str,
    chart: Chart,
    size: tuple[int, int],
    prefix: str,
    datasets: dict[str, Rows],
    shown: list[str],
) -> Spec:
    """A chart for a grid: its data sets under names of its own, and without what only a pointer reveals."""
    datasets |= {prefix + name: rows for name, rows in chart.data.items()}
    datasets |= chart.spec.get("datasets", {})
    pointed: set[str] = set()
    for parameter in chart.spec.get("params", ()):
        pointed.update(parameter.get("views", ()))
        if parameter["name"] == "shown":
            shown += parameter["value"]
    layers = [layer for layer in chart.spec["layer"] if layer.get("name") not in pointed]
    spec = _renamed({key: chart.spec[key] for key in ("data", "transform") if key in chart.spec} | {"layer": layers},
                    {name: prefix + name for name in chart.data})  # fmt: skip
    width, height = size
    if heading:
        spec["title"] = {"text": wrap(heading, width, _PANEL_TITLE), "fontSize": _PANEL_TITLE, "fontWeight": 600,
                         "anchor": "start", "frame": "group", "offset": 8}  # fmt: skip
    return {**spec, "width": width, "height": height}


def _renamed(spec: Any, names: Mapping[str, str]) -> Any:
    """A specification with other names of data sets."""
    if isinstance(spec, list):
        return [_renamed(one, names) for one in spec]
    if not isinstance(spec, dict):
        return spec
    return {
        key: {"name": names[value["name"]]}
        if key == "data" and isinstance(value, dict) and value.get("name") in names
        else _renamed(value, names)
        for key, value in spec.items()
    }


def _legend_panel(legend: Legend) -> Spec:
    """A legend as a chart; every entry consists of marks, so that it shows exactly what the charts draw."""
    entries = legend.entries
    values = max((text_width(one.value, TEXT) for one in entries), default=0.0)
    start = 36 + (values * 0.9 + 6 if values else 0)
    width = max(text_width(legend.title, TEXT), *(start + text_width(one.label, TEXT) for one in entries))
    layers: list[Spec] = []
    for number, one in enumerate(entries):
        y = (number + 0.5) * _ROW_HEIGHT
        layers += _sample(one, y)
        for text, x in ((one.value, 36), (one.label, start)):
            if text:
                mark = {"type": "text", "align": "left", "baseline": "middle", "fontSize": TEXT, "color": "var(--ink)"}
                layers.append({"mark": {**mark, "text": text, "x": x, "y": y}, "encoding": {}})
    return {
        "title": {"text": legend.title, "fontSize": TEXT, "fontWeight": 400, "color": "var(--soft)", "anchor": "start",
                  "frame": "group", "offset": 8},
        "data": {"values": [{}]},
        "width": math.ceil(width * 0.92),
        "height": _ROW_HEIGHT * len(entries),
        "layer": layers,
    }  # fmt: skip


def _sample(entry: Entry, y: float) -> list[Spec]:
    style = entry.style
    stroke = entry.width or (1.1 if style.thin else 2.2)
    band = {"type": "rect", "x": 0, "x2": 28, "y": y - 6, "y2": y + 6, "color": style.colour, "opacity": 0.16}
    line = {"type": "rule", "color": style.colour, "strokeWidth": stroke, "strokeDash": list(style.dashes)}
    point = {"type": "point", "x": 14, "y": y, "shape": style.shape, "size": 170 if style.shape == STAR else 60,
             "opacity": 1, "color": style.colour, "filled": True}  # fmt: skip
    hollow = {**point, "filled": False, "fill": "var(--card)", "strokeWidth": 2}
    marks = {"line": [line], "band": [band, line], "marked": [line, point], "point": [point], "open": [hollow],
             "tile": [{**band, "opacity": entry.width}]}[entry.sample]  # fmt: skip
    # A rule mark is horizontal only with these encodings.
    ends = {"x": {"value": 0}, "x2": {"value": 28}, "y": {"value": y}}
    return [{"mark": mark, "encoding": ends if mark is line else {}} for mark in marks]


def _with_light_colours(spec: Any) -> Any:
    """A specification with the light colours of the page in place of their names."""
    css = files("recmia.render").joinpath("page.css").read_text(encoding="utf-8")
    colours: dict[str, str] = dict(re.findall(r"--([\w-]+):\s*(#\w+)", css[: css.index("}")]))

    def change(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: change(one) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [change(one) for one in value]
        named = re.fullmatch(r"var\(--([\w-]+)\)", value) if isinstance(value, str) else None
        return value if named is None else colours[named[1]]

    return change(spec)


def _drawn(spec: dict[str, Any]) -> tuple[str, int, int]:
    """A specification as SVG, its width and its height."""
    import vl_convert

    text: str = vl_convert.vegalite_to_svg(spec)
    # Vega continues its numbering from one picture to the next.
    numbers: dict[str, str] = {}
    text = re.sub(r"\b(clip|gradient_)(\d+)\b", lambda m: m[1] + numbers.setdefault(m[0], str(len(numbers))), text)
    found = re.match(r'<svg[^>]* width="(\d+)" height="(\d+)"', text)
    assert found is not None, "an SVG has a size"
    return text, int(found[1]), int(found[2])

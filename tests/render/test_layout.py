"""Static pictures: whole, stable, in the colours of the page, and with titles that are never cut off."""

from __future__ import annotations

import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from recmia.render import layout, pictures
from recmia.render.charts import Chart
from recmia.render.layout import Entry, Legend, Static
from recmia.render.style import Style, text_width
from tests.render.helpers import LONG, MANY, defended, headings, legends, one_of_each, roc_picture, sweep_picture


def pixels(png: bytes) -> tuple[int, int, int]:
    """Width, height, and bytes of the image once it is unpacked."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    at, data = 8, b""
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        body = png[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0]
        data += body if kind == b"IDAT" else b""
        at += 12 + length
    return width, height, len(zlib.decompress(data))


@pytest.mark.end_to_end
@pytest.mark.parametrize("scale", [1.0, 1.5, 2.0])
def test_a_picture_has_the_size_that_it_states(drawn: dict[str, Static], scale: float) -> None:
    picture = drawn["roc"]
    assert re.match(rf'<svg[^>]* width="{picture.width}" height="{picture.height}"', picture.svg())
    width, height, size = pixels(picture.png(scale))
    assert (width, height) == (int(picture.width * scale), int(picture.height * scale))
    assert size == height * (1 + 4 * width), "red, green, blue and opacity"


@pytest.mark.end_to_end
def test_the_same_values_give_the_same_bytes(drawn: dict[str, Static]) -> None:
    second = one_of_each()
    for name, picture in drawn.items():
        assert picture.svg() == second[name].svg(), name
        assert picture.spec == second[name].spec, name
    # A PNG is made of the SVG alone.
    assert drawn["roc"].png() == second["roc"].png()


@pytest.mark.end_to_end
def test_no_colour_is_left_to_a_style_sheet(drawn: dict[str, Static]) -> None:
    for name, picture in drawn.items():
        assert "var(" not in json.dumps(picture.spec), name
        assert "var(" not in picture.svg(), name
    css = Path(layout.__file__).with_name("page.css").read_text(encoding="utf-8")
    light = css[: css.index("}")]
    assert re.findall(r"--hue-2: (#\w+)", light)[0] in drawn["roc"].svg()


TITLES = [
    lambda title: roc_picture(["popular"], title=title),
    lambda title: sweep_picture({"k": [5, 10]}, title=title),
    lambda title: sweep_picture({"k": [5], "lfm.epochs": [1, 2]}, title=title, regimes=["popular"], attacks=["mlp"]),
    lambda title: pictures.frontier_picture(defended(["fold-in"]), 0.6, title),
]


@pytest.mark.end_to_end
@pytest.mark.parametrize("draw", TITLES)
def test_no_title_is_cut_off(draw: Any) -> None:
    short, long = draw("A title"), draw(LONG)
    title = long.spec["title"]
    assert " ".join(title["text"]) == LONG.split("\n")[0].strip()
    # A picture of ROC curves says what its bands are.
    assert "".join(title["subtitle"]).replace(" ", "").startswith(LONG.split("\n")[1].replace(" ", ""))
    # Vega measures titles, too: one that were too wide would make the picture wider.
    assert short.width <= long.width <= max(short.width, 560)
    for lines, size in ((title["text"], 15), (title["subtitle"], 12)):
        assert all(text_width(line, size) <= max(short.width, 560) - 24 for line in lines)
    for line in title["text"]:
        assert line in long.svg()


def test_names_are_only_ever_text() -> None:
    picture = roc_picture(["popular"], attacks=[MANY[-1], "mlp"])
    assert "<own>" not in picture.svg()
    assert "&lt;own>" in picture.svg() or "&lt;own&gt;" in picture.svg()


def test_a_grid_is_filled_up(built: dict[str, Chart]) -> None:
    (chart, *_) = built.values()
    legend = Legend("A legend", [Entry("one", Style("var(--hue-1)"), sample="tile", width=0.4)])
    picture = layout.picture([[("a", chart), ("b", chart)], [("c", chart)]], "A title", legends=[legend])
    assert headings(picture) == ["a", "b", "c"]
    assert legends(picture) == [["one"]]

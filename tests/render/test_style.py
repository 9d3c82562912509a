"""How series look: hues that stay, that can be told apart, and that no two series of a figure share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recmia.attacks import ATTACKS
from recmia.attacks import RULES as ATTACK_RULES
from recmia.render import style
from recmia.render.style import defence_family, styles, wrap
from tests.render.helpers import DEFENCES, RULES


def hue(names: Sequence[str], name: str) -> str:
    return styles(names, RULES)[name].colour


KNOWN = [name for name in ATTACKS if name not in ATTACK_RULES]


def test_an_attack_looks_alike_in_every_figure() -> None:
    for name in KNOWN:
        assert len({styles(names, RULES)[name] for names in ([name], KNOWN, KNOWN[::-1], [name, "own", *RULES])}) == 1
    own = "my-attack"
    assert hue(["mlp", own], own) == hue([own, "list-lr", "mlp"], own)


def test_attacks_can_be_told_apart() -> None:
    chosen = styles([*KNOWN, "my-attack", "someone's"], RULES)
    assert len({(style.colour, style.dashes) for style in chosen.values()}) == len(chosen)
    assert len({(style.colour, style.shape) for style in chosen.values()}) == len(chosen)
    # Those of a default audit, of one that only looks, and of interactions: no hue twice.
    for names in (["mlp", "list-lr", "completion", "query-lr", "completion-reference"], ["mlp", "list-lr", "rmia"],
                  ["item-completion", "item-reference", "item-lr"]):  # fmt: skip
        assert len({hue(names, name) for name in names}) == len(names)


def test_own_attacks_take_free_hues() -> None:
    for count in range(1, 6):
        names = ["mlp", "list-lr", *(f"own-{number}" for number in range(count))]
        assert len({hue(names, name) for name in names}) == len(names)


def test_rules_are_grey_and_thin() -> None:
    chosen = styles(["mlp", "explicit: mlp", *RULES, "explicit: recency"], RULES)
    assert {name for name, style in chosen.items() if style.thin} == {*RULES, "explicit: recency"}
    assert {style.colour for style in chosen.values() if style.thin} == {"var(--rule)"}


def test_what_defences_are_compared_with_is_marked() -> None:
    families = list(dict.fromkeys(map(defence_family, DEFENCES)))
    chosen = styles(families)
    assert chosen["none"].colour == "var(--ink)"
    assert chosen["popularity-only"].colour == "var(--rule)"
    assert len({(style.colour, style.shape) for style in chosen.values()}) == len(families)


def luminance(colour: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    channels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


# Machado, Oliveira and Fernandes (2009), severity 1: deuteranopia and protanopia.
BLIND = (
    ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
)


@pytest.mark.parametrize("block", [0, 1, 2])
def test_hues_can_be_told_apart_by_the_colour_blind(block: int) -> None:
    css = Path(style.__file__).with_name("page.css").read_text(encoding="utf-8")
    hues = re.findall(r"--hue-\d: (#\w+)", re.findall(r"\{([^{}]*--page:[^{}]*)\}", css)[block])
    assert len(hues) == 8
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    for matrix in (np.eye(3), *map(np.array, BLIND)):
        seen = np.clip(np.array([luminance(one) for one in hues]) @ matrix.T, 0, 1) @ to_xyz.T
        root = np.cbrt(seen / [0.9505, 1, 1.089])
        lab = np.stack([116 * root[:, 1], 500 * (root[:, 0] - root[:, 1]), 200 * (root[:, 1] - root[:, 2])], axis=1)
        apart = np.linalg.norm(lab[:, None] - lab, axis=2) + 1000 * np.eye(len(hues))
        assert apart.min() > 15, "as far as the colours of Okabe and Ito are apart"


def test_text_is_wrapped_at_words_and_within_long_ones() -> None:
    assert wrap("one two three", 50, 12) == ["one", "two", "three"]
    assert wrap("one two", 500, 12) == ["one two"]
    assert wrap("", 500, 12) == [""]
    parts = wrap("a " + "x" * 100, 100, 12)
    assert parts[0] == "a"
    assert "".join(parts[1:]) == "x" * 100
    assert max(map(len, parts)) < 15

"""The look of all figures: colour, dashes and shape of a series, and the width of text.

Colours are variables of ``page.css``, so that a page needs one drawing for light, dark and print.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

# Hues of page.css, and dashes for more series than there are hues.
_HUES = 8
_DASHES = ((1, 0), (7, 3), (2, 2), (8, 2, 2, 2))
_RULE_DASHES = ((4, 2), (2, 1), (8, 2), (6, 2, 1, 2), (12, 4), (10, 3, 2, 3))
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
STAR = "M0,-1L0.2245,-0.309L0.9511,-0.309L0.3633,0.118L0.5878,0.809L0,0.382L-0.5878,0.809L-0.3633,0.118" \
        "L-0.9511,-0.309L-0.2245,-0.309Z"  # fmt: skip
# Names with a place of their own in the palette, and so the same look in every figure; the first are the most common.
_ATTACKS = (
    "mlp", "list-lr", "query-lr", "completion", "completion-reference", "rmia", "distance", "naive-bayes",
    "decision-tree", "k-means", "logistic-regression", "random-forest", "gradient-boosting", "k-nn",
    "list-lr-surprise", "list-lr-counts", "item-completion", "item-reference", "item-lr", "query-lr-completion",
    "list-lr-ranks", "list-lr-ridge", "list-lr-offline",
)  # fmt: skip
_LINES = ("explicit", "implicit")
_DEFENCES = (
    "dp-training", "gumbel", "shorter-lists", "regularisation", "early-stopping", "randomised-response",
    "shorter-lists+gumbel", "popular-random", "fold-in-members",
)  # fmt: skip
_PLACES: Mapping[str, int] = MappingProxyType(
    {name: place for names in (_ATTACKS, _LINES, _DEFENCES) for place, name in enumerate(names)}
)
# Defences that the others are compared with.
UNDEFENDED, POPULAR = "none", "popularity-only"
# Size of most text in a picture, in pixels.
TEXT = 11


@dataclass(frozen=True)
class Style:
    """How a series looks.

    Parameters
    ----------
    colour : str
        A CSS variable of the page.
    dashes : tuple of int
        Lengths in pixels of dashes and gaps; (1, 0) is a solid line.
    shape : str
        Of points, as in Vega-Lite.
    thin : bool
        Whether it is a rule that needs no model: grey and thin.
    """

    colour: str
    dashes: tuple[int, ...] = (1, 0)
    shape: str = "circle"
    thin: bool = False


def styles(names: Iterable[str], rules: Collection[str] = ()) -> dict[str, Style]:
    """Return the style of each name: that of a name which recmia knows is the same in every figure.

    Parameters
    ----------
    names : iterable of str
        All series of the figure. Names of the user's own take hues that no other series has, while there are any.
    rules : collection of str
        Those that need no model, which are grey. A name such as ``"explicit: shared-list"`` counts as its last part.

    Examples
    --------
    >>> styles(["mlp", "k-means"])["mlp"] == styles(["mlp"])["mlp"]
    True
    >>> styles(["shared-list"], rules=["shared-list"])["shared-list"].thin
    True
    """
    names = list(dict.fromkeys(names))
    chosen = {UNDEFENDED: Style("var(--ink)", shape=STAR), POPULAR: Style("var(--rule)", (4, 2), "square")}
    hued = [name for name in names if name not in chosen and not is_rule(name, rules)]
    taken = [divmod(place, _HUES) for place in map(_place, hued) if place is not None]
    chosen |= {name: _look(place) for name in hued if (place := _place(name)) is not None}
    # In an order of their own, so that a hue depends on as few other names as possible.
    for name in sorted(name for name in hued if name not in chosen):
        uses = [sum(hue == one for _, hue in taken) for one in range(_HUES)]
        first = zlib.crc32(name.encode()) % _HUES
        hue = min(((one + first) % _HUES for one in range(_HUES)), key=uses.__getitem__)
        turn = next(turn for turn in range(len(names)) if (turn, hue) not in taken)
        taken.append((turn, hue))
        chosen[name] = _look(turn * _HUES + hue)
    greys = [name for name in names if is_rule(name, rules)]
    for number, name in enumerate(greys):
        dashes, shape = _RULE_DASHES[number % len(_RULE_DASHES)], _SHAPES[number % len(_SHAPES)]
        chosen[name] = Style("var(--rule)", dashes, shape, thin=True)
    return {name: chosen[name] for name in names}


def _place(name: str) -> int | None:
    """The place of a name in the palette; None for a name of the user's own."""
    # In a line such as "explicit: mlp" the first part varies within the figure.
    return _PLACES.get(name, _PLACES.get(name.partition(": ")[0]))


def _look(place: int) -> Style:
    turn, hue = divmod(place, _HUES)
    return Style(f"var(--hue-{hue + 1})", _DASHES[turn % len(_DASHES)], _SHAPES[(hue + 3 * turn) % len(_SHAPES)])


def is_rule(name: str, rules: Collection[str]) -> bool:
    """Tell whether a series is a rule, or a rule of a line such as ``"explicit: shared-list"``."""
    return name in rules or name.rpartition(": ")[2] in rules


def defence_family(defence: str) -> str:
    """Return the defences of a setting without their strengths.

    >>> defence_family("gumbel=300+shorter-lists=10")
    'gumbel+shorter-lists'
    """
    return "+".join(part.partition("=")[0] for part in defence.split("+"))


def wrap(text: str, width: float, size: float) -> list[str]:
    """Return the text in lines of at most `width` pixels; words that are too long are broken.

    >>> wrap("members and non-members", 100, 12)
    ['members and', 'non-members']
    """
    lines = [""]
    for word in text.split():
        whole = f"{lines[-1]} {word}".strip()
        if text_width(whole, size) <= width:
            lines[-1] = whole
            continue
        if lines[-1]:
            lines.append("")
        for mark in word:
            if lines[-1] and text_width(lines[-1] + mark, size) > width:
                lines.append("")
            lines[-1] += mark
    return lines


def text_width(text: str, size: float) -> float:
    """Return an upper bound of the width of a text in pixels, in Arial, DejaVu Sans and similar fonts."""
    return size * sum(map(_mark_width, text))


def _mark_width(mark: str) -> float:
    if mark in " .,:;'|!ijlI[]()/-ftr":
        return 0.42
    if mark in "mwMW@%—":
        return 1.0
    if ord(mark) > 0x2000:  # of scripts whose characters are as wide as high
        return 1.0
    return 0.79 if mark.isupper() else 0.64


def fits(names: Sequence[str], width: float) -> bool:
    """Tell whether each name, as text of the usual size, is at most `width` pixels wide."""
    return all(text_width(name, TEXT) <= width for name in names)

"""Texts to copy: a chapter for a data-protection impact assessment, and a summary in Markdown.

The assessment follows what Art. 35(7) of the GDPR asks for, as far as an audit can tell it, and the question of EDPB
Opinion 28/2024 on AI models (section 3.2): how likely it is that personal data are obtained from a model by means
reasonably likely to be used. It says what the audit measured, and leaves the conclusion to the people who answer for
it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from recmia.render.blocks import Chapter, Extent
from recmia.results.findings import UNITS

_SPACES = re.compile(r"\s+")
_MARKS = re.compile(r"([&\\`*_{}\[\]<>#|~])")


@dataclass(frozen=True)
class Labels:
    """What only the owner of a system knows of an audit.

    Parameters
    ----------
    title : str
        Of the page; by default the system and its data.
    owner : str
        Who answers for the system.
    period : str
        Of the data; by default, from the first to the last day in it.
    """

    title: str = ""
    owner: str = ""
    period: str = ""


def sentence(extent: Extent) -> str:
    """Return how bad it is, in a sentence or two."""
    return " ".join(part for part in (extent.before, extent.figure, extent.after, extent.note) if part)


def verdict(chapter: Chapter) -> str:
    """Return whether anything leaks, in a sentence or two."""
    return f"{chapter.headline} {chapter.more}".strip()


def assessment(chapter: Chapter, labels: Labels, attackers: Sequence[str], period: str, unit: str) -> str:
    """Return a chapter for a data-protection impact assessment, as plain text.

    Parameters
    ----------
    chapter : Chapter
        Of an audit.
    labels : Labels
    attackers : sequence of str
        What the attackers know and ask.
    period : str
        Of the data, if it is known.
    unit : {"users", "interactions"}
    """
    answers = dict(chapter.answers)
    served = "\n".join(
        f"- {card.title}: {card.chip}. {card.gauges[0].label}: {card.gauges[0].text}."
        for card in (*chapter.cards, *chapter.asides)
    )
    heads = [
        f"System: {labels.title or chapter.title}",
        *([f"Controller or owner: {labels.owner}"] if labels.owner else []),
        *([f"Data of: {period}"] if period else []),
    ]
    parts = [
        ("", "\n".join(heads)),
        (
            "The risk",
            "A recommender may serve the people whose data trained it otherwise than other people. Whoever knows a "
            f"person's history may then learn {UNITS[unit].what}. {chapter.impact}",
        ),
        ("What was tested", "\n".join(answers["What was tested"])),
        ("Against whom", "\n".join(attackers)),
        (
            "Likelihood",
            f"{verdict(chapter)} {sentence(chapter.extent)}\n{chapter.extent.scale}, where a coin tells 50:\n{served}",
        ),
        ("Who is affected", "\n".join(answers["Who is exposed most"])),
        (
            "What remains",
            "Attacks that were not run may find more: an audit shows what these attacks find, and is no proof that "
            "nothing leaks. Tested was membership only: not whether attributes can be inferred, records be "
            "reconstructed, or a person be singled out by other means. The figures hold for this model, these settings "
            "and these data.",
        ),
        ("Measures", "\n".join(f"- {one}" for one in chapter.advice)),
        (
            "How this text can be used",
            "It states the measured part of the risk for an assessment under Art. 35(7)(c) and (d) GDPR, and one of "
            "the tests that EDPB Opinion 28/2024 names for the question whether a model is anonymous: how likely "
            "personal data are obtained from it by means reasonably likely to be used. Severity, necessity, "
            "proportionality and the conclusion are for the controller to add. This is no legal advice.",
        ),
    ]  # fmt: skip
    return "\n\n".join(f"{head}\n{text}" if head else text for head, text in parts).replace("`", "") + "\n"


def markdown(chapters: Sequence[Chapter], labels: Labels, made: str) -> str:
    """Return a summary in Markdown, for a pull request or the log of a build.

    Parameters
    ----------
    chapters : sequence of Chapter
    labels : Labels
    made : str
        When, and by which version.
    """
    lines = []
    for chapter in chapters:
        title = labels.title if labels.title and len(chapters) == 1 else chapter.title
        about = "; ".join(one for one in (labels.owner, labels.period) if one)
        cards = [(card.title, one) for card in (*chapter.cards, *chapter.asides) for one in card.gauges]
        if not chapter.graded:
            # What was asked is not what attackers learn, but who is forgotten, or what a defence achieves.
            cards = [("", one) for one in chapter.extent.gauges]
        lines += [
            f"## Membership audit: {_escaped(title)}",
            f"**{chapter.label}.** {_prose(verdict(chapter))}",
            f"{chapter.how} {_prose(sentence(chapter.extent))}",
            *([_escaped(about)] if about else []),
            "\n".join(
                [
                    f"| {chapter.extent.scale} (by a coin: 50) | 95% interval | Attack |",
                    "|---|---|---|",
                    *(
                        f"| {_escaped(': '.join(part for part in (name, one.label) if part))} | {one.text} "
                        f"| {_escaped(one.name)} |"
                        for name, one in cards
                    ),
                ]
            ),
            "What to do now:",
            "\n".join(f"{number}. {_prose(one)}" for number, one in enumerate(chapter.advice, 1)),
        ]
    lines.append(f"{made}. An audit shows what these attacks find; it is no proof that nothing leaks.")
    return "\n\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """A text that Markdown shows as it is."""
    return _MARKS.sub(r"\\\1", _SPACES.sub(" ", text))


def _prose(text: str) -> str:
    """A text that Markdown shows as it is, but for code between backquotes."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        # A backquote without a partner.
        return _escaped(text)
    return "".join(_escaped(part) if place % 2 == 0 else part and f"`{part}`" for place, part in enumerate(parts))

"""One self-contained page about one or more runs: it opens offline and loads nothing."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
from markupsafe import Markup, escape

from recmia.errors import ConfigError, nearest
from recmia.render.assessment import Labels, markdown
from recmia.render.blocks import Chapter
from recmia.render.chapters import Names, chapter
from recmia.render.words import period
from recmia.results.audit import AuditResult
from recmia.results.defend import DefendResult
from recmia.results.findings import GRADE_LIMITS, GRADES, GRADES_RAISED
from recmia.results.folder import Result

_UNLABELLED = Labels()
REDACTIONS = ("none", "hash", "omit")
# Points of all ROC curves of a page, and of one.
_CURVE_POINTS, _MOST_POINTS = 40_000, 400
# Code that is not broken over lines.
_SHORT_CODE = 24


def page(runs: Mapping[Path, Result], *, redact: str = "none", today: str = "", labels: Labels = _UNLABELLED) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    runs : mapping of Path to AuditResult, SweepResult, DefendResult or ForgetResult
        By their folders.
    redact : str
        How user ids are shown: ``"none"`` shows them; ``"hash"`` replaces them by a hash with a secret that is drawn
        for this page and not kept, so that nobody can find an id by hashing all possible ids, or follow a user from
        one page to the next; ``"omit"`` leaves them out.
    today : str
        Date on the page; if not given, today's.
    labels : Labels
        What only the owner of the system knows.

    Raises
    ------
    ConfigError
        For another `redact`, or no run.
    """
    chapters = _chapters(runs, redact, labels)
    figures = {
        f"run-{number}-{part.key}-{place}": {"specs": figure.specs, "data": figure.data}
        for number, one in enumerate(chapters, 1)
        for part in one.parts
        for place, figure in enumerate(part.figures)
    }
    here = files("recmia.render")
    style, own = (here.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    bundle = _bundle()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["prose"] = _prose
    template = environment.from_string(here.joinpath("page.html.j2").read_text(encoding="utf-8"))
    text: str = template.render(
        chapters=chapters,
        grades=GRADES,
        limits=GRADE_LIMITS,
        raised=GRADES_RAISED,
        labels=labels,
        period=labels.period or _period(runs.values()),
        redaction=_REDACTION_WORDS[redact],
        today=today or datetime.date.today().isoformat(),
        version=_version(runs),
        style=Markup(style),
        bundle=Markup(bundle),
        script=Markup(own),
        policy=_policy(bundle, own),
        figures=Markup(_json(figures)),
    )
    return text


def summary(runs: Mapping[Path, Result], *, redact: str = "none", today: str = "", labels: Labels = _UNLABELLED) -> str:
    """Return a summary in Markdown, for a pull request or the log of a build.

    Parameters
    ----------
    runs, redact, today, labels
        As of `page`.

    Raises
    ------
    ConfigError
        As `page`.
    """
    version = _version(runs)
    made = f"recmia{f' {version}' if version else ''}, {today or datetime.date.today().isoformat()}"
    return markdown(_chapters(runs, redact, labels), labels, made)


def _chapters(runs: Mapping[Path, Result], redact: str, labels: Labels) -> list[Chapter]:
    if redact not in REDACTIONS:
        raise ConfigError(f"unknown redaction {redact!r}; {nearest(redact, REDACTIONS)}")
    if not runs:
        raise ConfigError("a report needs a run; got none")
    names, points = _names(redact), _curve_points(runs.values())
    return [chapter(folder, result, names, points, labels) for folder, result in runs.items()]


def _version(runs: Mapping[Path, Result]) -> str:
    """The version of recmia that made the results."""
    found: str = _provenance(next(iter(runs.values()))).get("versions", {}).get("recmia", "")
    return found


def _period(runs: Iterable[Result]) -> str:
    """The period of the data; empty where it is not known, or differs from run to run."""
    found = {period(_provenance(result)) for result in runs}
    return found.pop() if len(found) == 1 else ""


_REDACTION_WORDS = {
    "none": "User ids are shown as in the data.",
    "hash": "User ids are replaced by pseudonyms of this report alone: hashes with a secret that was not kept.",
    "omit": "User ids are left out.",
}


@cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script; making it takes a second."""
    import vl_convert

    # The end tag of a script within it would end the element that holds it.
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")


def _names(redact: str) -> Names:
    secret = secrets.token_bytes(32)

    def hashed(user: object) -> str:
        return hashlib.blake2b(str(user).encode(), key=secret, digest_size=6).hexdigest()

    def names(users: pl.Series) -> pl.Series:
        if redact == "none":
            return users.cast(pl.String)
        values = ["a user"] * len(users) if redact == "omit" else [hashed(user) for user in users]
        return pl.Series(users.name, values, pl.String)

    return names


def _provenance(result: Result) -> dict[str, Any]:
    return (result.sweep if isinstance(result, DefendResult) else result).provenance


def _curve_points(runs: Iterable[Result]) -> int:
    """The number of points of a curve with which the page stays small."""
    curves = sum(len(result.rocs) for result in runs if isinstance(result, AuditResult))
    return min(_MOST_POINTS, max(40, _CURVE_POINTS // max(1, curves)))


def _prose(text: str) -> Markup:
    """Escape a text, and show what stands between backquotes as code."""
    # Backquotes come in pairs; a last one without a partner is text.
    plain, *quoted = text.split("`")
    out = escape(plain)
    while quoted:
        code, *rest = quoted
        if not rest:
            return out + "`" + code
        # Lines of commands end between words, and not at the hyphens of options.
        words = Markup(" ").join(Markup("<span>{}</span>").format(word) for word in code.split(" "))
        out += (
            Markup('<code class="long">{}</code>').format(words)
            if len(code) > _SHORT_CODE
            else Markup('<code class="short">{}</code>').format(code)
        ) + rest[0]
        quoted = rest[1:]
    return out


def _json(value: Any) -> str:
    """JSON that is safe within a page: no text in it can end the script or start a comment."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def _policy(*scripts: str) -> str:
    """A content security policy: nothing may be loaded, and only these scripts may run."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )

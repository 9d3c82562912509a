"""Progress of long work: what is being done, how much of it, and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

Update = Callable[[str, int, int], None]
# How often a notebook is sent a new line at most, and a log gets one, in seconds.
_PAUSE, _LOG_PAUSE = 0.5, 30.0


@contextmanager
def shown_progress(*, shown: bool | None = None) -> Iterator[Update]:
    """Give a function that shows progress; see `recmia.results.audit.Progress`.

    Parameters
    ----------
    shown : bool, optional
        Whether anything is shown; if not given, a bar is shown on a terminal and a line in a notebook, and elsewhere a
        line is printed to the standard error every 30 seconds.
    """
    notebook = _notebook()
    if notebook is not None and shown is not False:
        yield from _in_notebook(notebook)
    elif shown is None and not (sys.stderr and sys.stderr.isatty()):
        yield from _in_log()
    else:
        yield from _on_terminal(shown is not False)


def _on_terminal(visible: bool) -> Iterator[Update]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(emoji=False, stderr=True, force_jupyter=False)
    with Progress(*columns, console=console, transient=True, disable=not visible) as bar:
        task = bar.add_task("starting", total=None)

        def update(text: str, done: int, total: int) -> None:
            bar.update(task, description=text, completed=done, total=total)

        yield update


def _in_notebook(display: Any) -> Iterator[Update]:
    """Keep one line of output up to date, without the widgets that a notebook may lack; it is empty in the end."""
    handle = display.display({"text/plain": "starting"}, raw=True, display_id=True)
    try:
        yield _every(_PAUSE, lambda words: handle.update({"text/plain": words}, raw=True))
    finally:
        handle.update({"text/plain": ""}, raw=True)


def _in_log() -> Iterator[Update]:
    yield _every(_LOG_PAUSE, _log)


def _log(words: str) -> None:
    """Print a line to the standard error; a run goes on if nobody can read it."""
    if sys.stderr:
        with suppress(OSError):
            print(words, file=sys.stderr, flush=True)  # noqa: T201


def _every(pause: float, show: Callable[[str], None]) -> Update:
    """Return a function that shows what is being done and the time left, at most once in so many seconds."""
    started = last = time.monotonic()
    before, doing, working = 0, "", False

    def update(text: str, done: int, total: int) -> None:
        nonlocal started, last, before, doing, working
        now = time.monotonic()
        # Until the same is told twice nothing but preparation was done, and what was in the store took no time.
        working = working or text == doing
        if not working:
            started, before, doing = now, done, text
        if now - last < pause:
            return
        last = now
        since = done - before
        left = f", about {duration((now - started) / since * (total - done))} left" if since else ""
        show(f"{text}: {done} of {total}{left}")

    return update


def duration(seconds: float) -> str:
    """Return a time in words, as exactly as such an expectation deserves.

    >>> [duration(seconds) for seconds in (0.4, 44, 130, 5000, 40_000)]
    ['1 s', '44 s', '2 min', '83 min', '11 h']
    """
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 6000 else f"{round(seconds / 3600)} h"


def _notebook() -> Any:
    """Return IPython's display module where this is a notebook, else None."""
    if "IPython" not in sys.modules:
        return None
    from IPython import display, get_ipython

    shell = get_ipython()
    return display if shell is not None and hasattr(shell, "kernel") else None

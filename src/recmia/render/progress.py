"""Progress of long work: what is being done, how much of it, and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

Update = Callable[[str, int, int], None]
# A notebook is sent a new line at most so often, in seconds.
_PAUSE = 0.5


@contextmanager
def shown_progress(*, shown: bool | None = None) -> Iterator[Update]:
    """Give a function that shows progress; see `recmia.results.audit.Progress`.

    Parameters
    ----------
    shown : bool, optional
        Whether anything is shown; if not given, it is on a terminal and in a notebook.
    """
    notebook = _notebook()
    if notebook is not None and shown is not False:
        yield from _in_notebook(notebook)
    else:
        yield from _on_terminal(sys.stderr.isatty() if shown is None else shown)


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
    started = last = time.monotonic()
    handle = display.display({"text/plain": "starting"}, raw=True, display_id=True)

    def update(text: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _PAUSE:
            return
        last = now
        left = (now - started) / done * (total - done) if done else 0.0
        words = f"{text}: {done} of {total}" + (f", about {left:.0f} s left" if done else "")
        handle.update({"text/plain": words}, raw=True)

    try:
        yield update
    finally:
        handle.update({"text/plain": ""}, raw=True)


def _notebook() -> Any:
    """Return IPython's display module where this is a notebook, else None."""
    if "IPython" not in sys.modules:
        return None
    from IPython import display, get_ipython

    shell = get_ipython()
    return display if shell is not None and hasattr(shell, "kernel") else None

"""Progress of long work: what is being done, how much of it, and the time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn


def is_watched() -> bool:
    """Tell whether somebody sees progress: on a terminal, or in a notebook."""
    return sys.stderr.isatty() or Console().is_jupyter


@contextmanager
def shown_progress(*, shown: bool | None = None) -> Iterator[Callable[[str, int, int], None]]:
    """Give a function that shows progress on the error stream; see `recmia.results.audit.Progress`.

    Parameters
    ----------
    shown : bool, optional
        Whether anything is shown; if not given, on a terminal and in a notebook.
    """
    visible = is_watched() if shown is None else shown
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not visible) as bar:
        task = bar.add_task("starting", total=None)

        def update(text: str, done: int, total: int) -> None:
            bar.update(task, description=text, completed=done, total=total)

        yield update

"""The entry: which commands there are, and how errors end a run."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from recmia.cli import commands
from recmia.errors import RecmiaError

_INTERRUPTED = 130

app = typer.Typer(
    name="recmia",
    help="Tells whether a recommender leaks who was in its training data, from its lists and answers alone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
commands.add_to(app)


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        Console(emoji=False, highlight=False).print(f"recmia {installed('recmia')}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; known errors are told in a line, without a traceback."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    errors = Console(emoji=False, stderr=True, soft_wrap=True, highlight=False)
    _unwind_when_told()
    # Typer makes the options of every command, several hundred, whichever is called.
    called = [command for command in app.registered_commands if command.name in arguments[:1]]
    app.registered_commands = called or app.registered_commands
    try:
        app(args=arguments)
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            hints = _hints(stop) or ["the same command continues"]
            errors.print(f"interrupted; no results were written, and what was trained is kept: {escape(hints[0])}")
        raise
    except RecmiaError as error:
        if "--debug" in arguments:
            raise
        errors.print(f"[bold red]error:[/] {escape(str(error))}")
        for hint in _hints(error):
            errors.print(f"what was finished is kept: {escape(hint)}")
        sys.exit(2)
    except Exception as error:
        if "--debug" in arguments:
            raise
        reason = escape(f"{type(error).__name__}: {error}")
        errors.print(f"[bold red]a bug in recmia:[/] {reason} (run again with --debug for the traceback)")
        sys.exit(3)


def _unwind_when_told() -> None:
    """Let whoever ends this program, such as a batch queue or a terminal that closes, do what Ctrl-C does."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # Windows has no SIGHUP; nohup has it ignored.
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def _hints(error: BaseException | None) -> list[str]:
    """The notes on an error, or on one that it came of."""
    while error is not None:
        if getattr(error, "__notes__", None):
            return list(error.__notes__)
        error = error.__context__
    return []

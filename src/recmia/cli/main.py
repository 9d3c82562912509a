"""The entry: which commands there are, and how errors end a run."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from recmia.cli import commands
from recmia.cli.options import present_name
from recmia.cli.streams import lasting_streams
from recmia.errors import ConfigError, RecmiaError

_INTERRUPTED = 130

app = typer.Typer(
    name="recmia",
    help="Tells whether a recommender leaks who was in its training data, from its lists and answers alone.",
    no_args_is_help=True,
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
    # Typer makes the options of every command, several hundred, whichever is called.
    every = app.registered_commands
    app.registered_commands = [command for command in every if command.name in arguments[:1]] or every
    _unwind_when_told()
    with lasting_streams():
        try:
            _refuse_former_names(arguments)
            # Completion is installed for this name, also by `python -m recmia`.
            app(args=arguments, prog_name="recmia")
        except SystemExit as stop:
            cause = stop.__context__
            if stop.code == _INTERRUPTED:
                hint = escape((_hints(stop) or ["the same command continues"])[0])
                _errors().print(f"interrupted; no results were written, and what was trained is kept: {hint}")
            # Typer takes a pipe that breaks, or a file that ends, within the work for a wish to stop, with the code 1.
            elif isinstance(cause, OSError | typer.Abort):
                sys.exit(_tell(cause.__cause__ or cause, debug="--debug" in arguments))
            raise
        except Exception as error:
            sys.exit(_tell(error, debug="--debug" in arguments))
        finally:
            app.registered_commands = every


def _refuse_former_names(arguments: Sequence[str]) -> None:
    for word in arguments[1:]:
        flag = word.partition("=")[0]
        if name := present_name(arguments[0], flag):
            raise ConfigError(f"no such option: {flag}; in recmia {arguments[0]} it is {name}")


def _tell(error: BaseException, *, debug: bool) -> int:
    """Tell an error in a line, or by its traceback, and return the exit code."""
    errors, known = _errors(), isinstance(error, RecmiaError | OSError)
    if debug:
        traceback.print_exception(error)
    elif known:
        refused = f"the system refused: {error} (run again with --debug for the traceback)"
        errors.print(f"[bold red]error:[/] {escape(refused if isinstance(error, OSError) else str(error))}")
        for hint in _hints(error):
            errors.print(f"what was finished is kept: {escape(hint)}")
    else:
        words = escape(f"{type(error).__name__}: {error}")
        errors.print(f"[bold red]a bug in recmia:[/] {words} (run again with --debug for the traceback)")
    return 2 if known else 3


def _errors() -> Console:
    return Console(emoji=False, stderr=True, soft_wrap=True, highlight=False)


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

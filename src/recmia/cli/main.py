"""The entry: which commands there are, and how errors end a run."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup
from typer.exceptions import TyperException

from recmia.cli import commands
from recmia.cli.options import present_name
from recmia.cli.streams import lasting_streams
from recmia.errors import ConfigError, RecmiaError, nearest

_INTERRUPTED = 130


class _Commands(TyperGroup):
    """The commands, whose errors in the usage are told in a line, as all others."""

    def make_context(self, *given: Any, **more: Any) -> Any:
        """Parse what stands before the command."""
        with _usage_in_a_line():
            return super().make_context(*given, **more)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is named."""
        if args[0] not in self.commands:
            raise ConfigError(f"no such command: {args[0]}; {nearest(args[0], self.commands)}; see: recmia --help")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Parse what belongs to the command, and run it."""
        with _usage_in_a_line(ctx):
            return super().invoke(ctx)


app = typer.Typer(
    name="recmia",
    cls=_Commands,
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


@contextmanager
def _usage_in_a_line(group: Any = None) -> Iterator[None]:
    """Raise an error in the usage as `ConfigError`, which says where to look."""
    try:
        yield
    except TyperException as error:
        # Without arguments, the help is what was asked for.
        if type(error).__name__ == "NoArgsIsHelpError":
            raise
        context, command = getattr(error, "ctx", None), getattr(group, "invoked_subcommand", None)
        path = context.command_path if context else f"recmia {command}" if command else "recmia"
        raise ConfigError(f"{_usage(error)}; see: {path} --help") from None


def _usage(error: TyperException) -> str:
    """Say what is wrong with the usage, and what was meant or is allowed."""
    told: Any = error
    parameter = getattr(error, "param", None)
    # Typer keeps the classes in a private module.
    match type(error).__name__:
        case "NoSuchOption":
            near = f"; did you mean {told.possibilities[0]}" if told.possibilities else ""
            # Of a long option after a single dash, Typer names the first letter.
            hint = near or ("" if told.option_name.startswith("--") else "; long options begin with --")
            return f"no such option: {told.option_name}{hint}"
        case "MissingParameter" if parameter is not None:
            return f"{parameter.param_type_name} {parameter.opts[0]} is needed: {parameter.help.rstrip('.')}"
        case "BadParameter" if parameter is not None:
            problems: list[Any] = getattr(error.__cause__, "errors", list)()
            return f"{parameter.opts[0]}: {told.message}" + (f"; got {problems[0]['input']!r}" if problems else "")
        case "UsageError" if "extra argument" in told.message:
            found = told.message.partition(" (")[2].removesuffix(")")
            return f"no such argument: {found}; all else is given by options, as --NAME VALUE"
    words = error.format_message().rstrip(".")
    return f"{words[:1].lower()}{words[1:]}".replace("requires an argument", "needs a value")


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

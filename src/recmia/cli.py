"""The command line.

Exit codes: 0 done, 1 finding above a threshold, 2 usage or data error, 3 a bug, 130 interrupted.
"""

from __future__ import annotations

import datetime
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, get_origin

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from recmia.errors import ConfigError, RecmiaError

app = typer.Typer(
    name="recmia",
    help="Tells whether a recommender leaks who was in its training data, from the recommendation lists alone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_DEBUG = typer.Option("--debug", help="Show the traceback of an error.")
# Further spellings of options.
_ALIASES = {
    "l": ("-l",),
    "k": ("-k",),
    "attacks": ("--attack",),
    "regimes": ("--regime",),
    "dataset": ("-d",),
}
_INTERRUPTED = 130
# Where the output is a file, there is room for the table.
_FILE_WIDTH = 100
_PARAMETER = inspect.Parameter.KEYWORD_ONLY


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; known errors are told in a line, without a traceback."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        app(args=arguments)
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            errors.print("interrupted; no results were written, and what was trained is kept: the same command goes on")
        raise
    except RecmiaError as error:
        if "--debug" in arguments:
            raise
        errors.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(2)
    except Exception as error:
        if "--debug" in arguments:
            raise
        reason = escape(f"{type(error).__name__}: {error}")
        errors.print(f"[bold red]a bug in recmia:[/] {reason} (run again with --debug for the traceback)")
        sys.exit(3)


def _audit(**options: Any) -> None:
    """Audit a recommender: train it, serve lists to members and non-members, attack it, and say what leaks.

    Without options: the paper's case and the strict one, side by side, on MovieLens ml-latest-small.
    """
    # Imported here, so that help and errors in the usage come at once.
    import joblib

    from recmia import store, summary
    from recmia.audit import audit
    from recmia.config import AuditConfig

    file, out, jobs, kept = (options.pop(name) for name in ("config", "out", "jobs", "store"))
    del options["debug"]  # seen by main
    settings = store.read_config(file) if file is not None else {}
    given = {key: value for key, value in options.items() if value is not None}
    config = AuditConfig.parse(_overlay(settings, given, AuditConfig))
    if out is None:
        stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        out = Path("runs") / f"{_slug(config.dataset)}-{stamp}"
    store.check_new(out)
    lists = store.default_store() if kept is None else store.ArrayStore(kept)
    with _progress() as progress:
        result = audit(config=config, jobs=jobs or joblib.cpu_count(), store=lists, progress=progress)
        store.write_run(result, out)
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _FILE_WIDTH
    data = result.provenance["data"]
    console.print(f"data: {escape(data['source'])}: {data['rows_kept']:,} interactions of {data['users']:,} users")
    for reason, count in data["dropped"].items():
        console.print(f"  dropped {count:,}: {escape(reason)}")
    for note in data["notes"]:
        console.print(f"  note: {escape(note)}", style="dim", soft_wrap=True)
    if lists.damaged:
        damaged, folder = len(set(lists.damaged)), escape(str(lists.folder))
        console.print(f"  note: damaged entries of {folder}, computed anew: {damaged}", style="dim", soft_wrap=True)
    console.print(summary.table(result.metrics))
    console.print(escape(result.verdict))
    console.print(f"\nwritten to {escape(str(out))} (config, metrics, scores, ROC, provenance)", soft_wrap=True)


@app.command()
def data(
    dataset: Annotated[str, typer.Argument(help="Name, file, folder, or synthetic[:SHAPE].")] = "ml-latest-small",
    min_interactions: Annotated[int, typer.Option(min=1, help="Users with fewer interactions are dropped.")] = 20,
    user: Annotated[str, typer.Option(help="Column of the user ids.")] = "",
    item: Annotated[str, typer.Option(help="Column of the item ids.")] = "",
    rating: Annotated[str, typer.Option(help="Column of the ratings.")] = "",
    time: Annotated[str, typer.Option(help="Column of the time stamps.")] = "",
    separator: Annotated[str, typer.Option(help="Field separator.")] = "",
    debug: Annotated[bool, _DEBUG] = False,
) -> None:
    """Find, fetch and clean a data set, and say what was dropped and why."""
    from recmia.datasets import Columns, load

    if len(separator) > 1:
        raise ConfigError(f"the separator must be one character; got {separator!r}")
    columns = Columns(user=user, item=item, rating=rating, time=time, separator=separator)
    loaded = load(dataset, columns=columns, min_interactions=min_interactions)
    interactions = loaded.interactions
    console = Console(highlight=False)
    console.print(escape(str(loaded.report)), soft_wrap=True)
    console.print(
        f"{interactions.n_users:,} users, {interactions.n_items:,} items, {len(interactions):,} interactions, "
        f"{'rated' if interactions.rated else 'without ratings'}, "
        f"{'with' if interactions.time is not None else 'without'} times; fingerprint {interactions.fingerprint()[:16]}"
    )


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        Console(highlight=False).print(f"recmia {installed('recmia')}")
        raise typer.Exit


def _config_options(model: type[BaseModel], prefix: str = "", panel: str = "The audit") -> Iterator[inspect.Parameter]:
    """One option for each setting, so that the command line can set all that the file can."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _config_options(kind, f"{name}.", f"Settings of [{name}]")
            continue
        path = f"{prefix}{name}"
        flag = f"--{path.replace('.', '-').replace('_', '-')}"
        default = field.default
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        words = f"{field.description}" + (f" [default: {shown}]" if shown != "" else "")
        spellings = (f"{flag}/--no-{flag[2:]}",) if kind is bool else (flag, *_ALIASES.get(path, ()))
        option = typer.Option(*spellings, help=escape(words), rich_help_panel=panel, show_default=False)
        plain = kind if kind in (int, float, bool) else str
        yield inspect.Parameter(
            path.replace(".", "__"), _PARAMETER, default=None, annotation=Annotated[plain | None, option]
        )


def _overlay(settings: dict[str, Any], options: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Put options (``lfm__epochs``) over the settings of a file (``{"lfm": {"epochs": ...}}``)."""
    merged: dict[str, Any] = {key: dict(value) if isinstance(value, dict) else value for key, value in settings.items()}
    for key, value in options.items():
        table, _, name = key.rpartition("__")
        kind = model.model_fields[table].annotation if table else model
        assert isinstance(kind, type)
        assert issubclass(kind, BaseModel)
        if get_origin(kind.model_fields[name].annotation) is tuple:
            value = [part.strip() for part in value.split(",") if part.strip()]
        holder = merged.setdefault(table, {}) if table else merged
        if not isinstance(holder, dict):
            raise ConfigError(f"{table} must be a table of settings; got {holder!r}")
        holder[name] = value
    return merged


def _audit_command() -> Callable[..., None]:
    """Give `_audit` a parameter for every setting of an audit."""
    from recmia.config import AuditConfig

    run = "The run"
    own = [
        ("config", Path | None, None, typer.Option("--config", "-c", help="TOML file of settings.",
                                                   rich_help_panel=run)),
        ("out", Path | None, None, typer.Option("--out", "-o", help="New folder to write (else runs/NAME-TIME).",
                                                rich_help_panel=run)),
        ("jobs", int | None, None, typer.Option("--jobs", "-j", min=1, help="Processes and threads (else one a core).",
                                                rich_help_panel=run)),
        ("store", Path | None, None, typer.Option("--store", help="Folder of the lists served so far (else a cache).",
                                                  rich_help_panel=run)),
        ("debug", bool, False, _DEBUG),
    ]  # fmt: skip
    parameters = [
        inspect.Parameter(name, _PARAMETER, default=default, annotation=Annotated[kind, option])
        for name, kind, default, option in own
    ]
    parameters += _config_options(AuditConfig)
    signature = inspect.Signature(parameters)
    _audit.__signature__ = signature  # type: ignore[attr-defined]
    _audit.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return _audit


app.command(name="audit")(_audit_command())


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show work done and time left on the error stream, where that is a terminal."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)

        def update(text: str, done: int, total: int) -> None:
            bar.update(task, description=text, completed=done, total=total)

        yield update


def _slug(dataset: str) -> str:
    name = Path(dataset).stem if "/" in dataset else dataset
    return "".join(mark if mark.isalnum() or mark in "-_." else "-" for mark in name) or "data"

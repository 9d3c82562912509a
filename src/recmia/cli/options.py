"""Options of the commands: one for each setting, so that the command line can set all that a file can.

The settings of single recommenders and attacks (``--lfm-epochs``, ...) are many, and hidden from ``--help``; they are
listed by ``--help-settings``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_origin

import typer
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recmia.errors import ConfigError, nearest
from recmia.settings import AuditSettings, Columns, ComposedSettings, Settings
from recmia.settings.base import is_table, option_of

DEBUG = typer.Option("--debug", help="Show the traceback of an error.")
_RUN, _GATE, _COLUMNS = "The run", "The gate", "The columns of the histories"
OUT = typer.Option("--out", "-o", help="New folder to write (else runs/NAME-TIME).", rich_help_panel=_RUN)
JOBS = typer.Option("--jobs", "-j", min=1, help="Processes and threads (else one a core).", rich_help_panel=_RUN)
CLUSTER = typer.Option(
    "--cluster", help="Dask scheduler, as tcp://host:8786, in place of --jobs.", rich_help_panel=_RUN
)
STORE = typer.Option("--store", help="Folder of what was computed so far (else a cache).", rich_help_panel=_RUN)
DRY_RUN = typer.Option("--dry-run", help="Only say what the run would cost: models, time, bytes.", rich_help_panel=_RUN)
FORMAT = typer.Option(
    "--format", help=r"text, or json, alone on stdout. \[default: text]", show_default=False, rich_help_panel=_RUN
)
_CONFIG = typer.Option("--config", "-c", help="TOML file of settings.", rich_help_panel=_RUN)
# Headings of the groups of settings.
_PANELS = {
    "forgetting": "The deletion",
    "files": "The files",
    "data": "The data",
    "game": "The game",
    "serving": "The game",
    "system": "The audited system",
    "attacker": "The attacker",
    "knowledge": "The attacker",
    "recommenders": "Recommenders",
    "groups": "The groups",
    "run": _RUN,
}
# Further spellings of options.
_ALIASES = {
    "factors": ("-l",),
    "k": ("-k",),
    "attacks": ("--attack",),
    "regimes": ("--regime",),
    "dataset": ("-d",),
}
# Options that are not spelled as their setting.
_SPELLED = {"columns.header": "--header/--no-header"}
# Options by names that they once had, or have elsewhere, in each command that has them.
_ON_DATA = ("audit", "defend", "sweep", "export-files")
_ON_FILES = ("ask", "audit-files", "forget")
_FORMER: Mapping[str, Mapping[str, str]] = {
    "--target": dict.fromkeys(_ON_DATA, "--recommender")
    | {"matrix": "--recommenders", "audit-files": "--name", "forget": "--name"},
    "--targets": dict.fromkeys(_ON_DATA, "--n-targets") | {"matrix": "--recommenders"},
    "--shadows": dict.fromkeys((*_ON_DATA, "audit-files"), "--n-shadows"),
    "--data": dict.fromkeys((*_ON_DATA, "matrix", "reproduce"), "--dataset")
    | dict.fromkeys(_ON_FILES, "--interactions"),
}
_PARAMETER = inspect.Parameter.KEYWORD_ONLY


def extra(name: str, kind: Any, words: str, panel: str | None = None, *spellings: str) -> inspect.Parameter:
    """Return an option of a command's own, None unless it is given."""
    flags = spellings or (f"--{name.replace('_', '-')}",)
    option = typer.Option(*flags, help=escape(words), rich_help_panel=panel, show_default=False)
    return inspect.Parameter(name, _PARAMETER, default=None, annotation=Annotated[kind | None, option])


def argument(name: str, kind: Any, words: str) -> inspect.Parameter:
    """Return an argument of a command, None unless it is given."""
    option = typer.Argument(help=escape(words), show_default=False)
    return inspect.Parameter(name, _PARAMETER, default=None, annotation=Annotated[kind | None, option])


# The data of an audit, also without the name of their option.
DATA = argument("data", str, "The data to audit, as --dataset: a name, file, folder, or synthetic[:SHAPE].")
# The options of the gate, for any command that ends with metrics.
GATE = (
    extra("fail_above", list[str], "METRIC=VALUE, as auc=0.6 or tpr@fpr=0.01=0.1: exit 1 if surely above.", _GATE),
    extra("require_below", list[str], "METRIC=VALUE: exit 1 unless every figure is surely below; for releases.", _GATE),
    extra("by_group", bool, "Test every group, too (--group-by).", _GATE),
    extra("junit", Path, "File for what the gate found, as JUnit XML.", _GATE),
    extra("json", Path, "File for what the gate found, as JSON.", _GATE),
)


def give(
    command: Callable[..., None],
    *own: inspect.Parameter,
    model: type[ComposedSettings] = AuditSettings,
    without: Collection[str] = (),
) -> Callable[..., None]:
    """Give a command its own parameters, those of every run, and one for every setting.

    Parameters
    ----------
    command : callable
        Takes keyword arguments.
    *own : inspect.Parameter
    model : type
        `AuditSettings` or `FilesSettings`.
    without : collection of str
        Settings, and options of every run, that it has not.
    """
    run = [
        ("config", Path | None, None, _CONFIG),
        ("out", Path | None, None, OUT),
        ("jobs", int | None, None, JOBS),
        ("store", Path | None, None, STORE),
        ("cluster", str | None, None, CLUSTER),
        ("dry_run", bool, False, DRY_RUN),
        ("format", str, "text", FORMAT),
        ("debug", bool, False, DEBUG),
        ("help_settings", str | None, None, _help_settings(model, without)),
    ]
    parameters = [
        *own,
        *_setting_options(model, without),
        *(
            inspect.Parameter(name, _PARAMETER, default=default, annotation=Annotated[kind, option])
            for name, kind, default, option in run
            if name not in without
        ),
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def with_columns(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that takes ``**columns`` an option for each column of histories, spelled as everywhere."""
    own = [
        parameter
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    further = [
        _option(f"columns.{name}", field, field.default, _COLUMNS) for name, field in Columns.model_fields.items()
    ]
    parameters = [*(parameter.replace(kind=_PARAMETER) for parameter in own), *further]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def columns_of(given: Mapping[str, Any]) -> Columns:
    """Return the columns that the options of `with_columns` name."""
    return Columns.of({key.removeprefix("columns__"): value for key, value in given.items() if value is not None})


def overlay(settings: dict[str, Any], options: dict[str, Any], model: type[ComposedSettings]) -> dict[str, Any]:
    """Put options (``lfm__epochs``) over the settings of a file (``{"lfm": {"epochs": ...}}``)."""
    merged: dict[str, Any] = {key: dict(value) if isinstance(value, dict) else value for key, value in settings.items()}
    fields = model.flat_fields()
    for key, value in options.items():
        table, _, name = key.rpartition("__")
        field = _table_fields(fields[table][1])[name] if table else fields[name][1]
        if get_origin(field.annotation) is tuple:
            value = [part.strip() for part in value.split(",") if part.strip()]
        holder = merged.setdefault(table, {}) if table else merged
        if not isinstance(holder, dict):
            raise ConfigError(f"{table} must be a table of settings; got {holder!r}")
        holder[name] = value
    return merged


def present_name(command: str, flag: str) -> str:
    """Return what an option is called that a command does not know; empty where that is not known either."""
    return _FORMER.get(flag, {}).get(command, "")


def _setting_options(model: type[ComposedSettings], without: Collection[str]) -> Iterator[inspect.Parameter]:
    # In the order of the headings, so that each stands once.
    groups = [name for name in _PANELS if name in model.model_fields]
    fields = model.flat_fields()
    for group in groups:
        defaults = model.model_fields[group].default
        for name, (place, field) in fields.items():
            if place != group or name in without:
                continue
            if is_table(field):
                for inner, of in _table_fields(field).items():
                    yield _option(f"{name}.{inner}", of, getattr(getattr(defaults, name), inner), "")
            else:
                yield _option(name, field, getattr(defaults, name), _PANELS[group])


def _option(path: str, field: FieldInfo, default: Any, panel: str) -> inspect.Parameter:
    kind = field.annotation
    spellings = _spellings(path, kind)
    option = typer.Option(
        *spellings, help=escape(_words(field, default)), rich_help_panel=panel or None, show_default=False,
        hidden=not panel,
    )  # fmt: skip
    plain = kind if kind in (int, float, bool) else str
    return inspect.Parameter(
        path.replace(".", "__"), _PARAMETER, default=None, annotation=Annotated[plain | None, option]
    )


def _spellings(path: str, kind: Any) -> tuple[str, ...]:
    if path in _SPELLED:
        return (_SPELLED[path],)
    flag = option_of(path)
    if kind is bool:
        return (f"{flag}/--no-{flag[2:]}",)
    return (flag, *_ALIASES.get(path, ()))


def _words(field: FieldInfo, default: Any) -> str:
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    return f"{field.description}" + (f" [default: {shown}]" if shown != "" else "")


def _table_fields(field: FieldInfo) -> dict[str, FieldInfo]:
    kind = field.annotation
    assert isinstance(kind, type)
    assert issubclass(kind, Settings)
    return dict(kind.model_fields)


def _help_settings(model: type[ComposedSettings], without: Collection[str]) -> Any:
    tables = {
        name: field for name, (_, field) in model.flat_fields().items() if is_table(field) and name not in without
    }

    def show(name: str | None) -> None:
        if name is None:
            return
        if name not in tables:
            raise ConfigError(f"unknown table of settings {name!r}; {nearest(name, tables)}")
        out = Table.grid(padding=(0, 2))
        for inner, field in _table_fields(tables[name]).items():
            spellings = _spellings(f"{name}.{inner}", field.annotation)
            out.add_row(escape(spellings[0]), escape(_words(field, field.default)))
        console = Console(emoji=False, highlight=False)
        console.print(f"Settings of {name}, as options and (in a file) in the table {escape(f'[{name}]')}:\n")
        console.print(out)
        raise typer.Exit

    names = ", ".join(tables)
    return typer.Option(
        "--help-settings", help=f"List the options of one of: {names}.", is_eager=True, callback=show,
        rich_help_panel="Recommenders", show_default=False, metavar="NAME",
    )  # fmt: skip

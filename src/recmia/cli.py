"""The command line.

Exit codes: 0 done, 1 finding above a threshold, 2 usage or data error, 3 a bug, 130 interrupted.
"""

from __future__ import annotations

import datetime
import inspect
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_origin

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

if TYPE_CHECKING:
    from recmia.audit import AuditResult
    from recmia.config import AuditConfig
    from recmia.evaluation import Metric
    from recmia.gate import Threshold
    from recmia.store import ArrayStore
    from recmia.sweep import SweepResult

app = typer.Typer(
    name="recmia",
    help="Tells whether a recommender leaks who was in its training data, from the recommendation lists alone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_DEBUG = typer.Option("--debug", help="Show the traceback of an error.")
# The options of every run.
_PANEL = "The run"
_OUT = typer.Option("--out", "-o", help="New folder to write (else runs/NAME-TIME).", rich_help_panel=_PANEL)
_JOBS = typer.Option("--jobs", "-j", min=1, help="Processes and threads (else one a core).", rich_help_panel=_PANEL)
_CLUSTER = typer.Option(
    "--cluster", help="Dask scheduler to run on, such as tcp://host:8786, in place of --jobs.", rich_help_panel=_PANEL
)
_STORE = typer.Option("--store", help="Folder of what was computed so far (else a cache).", rich_help_panel=_PANEL)
_GATE = "The gate"
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
_FILE_WIDTH, _WIDE = 100, 130
_PARAMETER = inspect.Parameter.KEYWORD_ONLY


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; known errors are told in a line, without a traceback."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        app(args=arguments)
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            hints = _hints(stop) or ["the same command goes on"]
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


def _hints(error: BaseException | None) -> list[str]:
    """The notes on an error, or on one that it came of."""
    while error is not None:
        if getattr(error, "__notes__", None):
            return list(error.__notes__)
        error = error.__context__
    return []


def _audit(**options: Any) -> None:
    """Audit a recommender: train it, serve lists to members and non-members, attack it, and say what leaks.

    Without options: the paper's case and the strict one, side by side, on MovieLens ml-latest-small.
    """
    # Imported here, so that help and errors in the usage come at once.
    from recmia import store
    from recmia.audit import audit, metric_names

    asked = {name: options.pop(name) for name in ("fail_above", "junit", "json")}
    config, out, lists, workers = _prepared(options)
    thresholds = _thresholds(asked, metric_names(config))
    with lists as kept, workers as at_once, _progress() as progress:
        result = audit(config=config, jobs=at_once, store=kept, progress=progress)
        store.write_run(result, out)
    _tell_result(result, out, kept, thresholds, asked)


def _audit_files(**options: Any) -> None:
    """Audit lists that your own system served: recmia audit-files --interactions I --lists L --members M.

    Files are CSV, TSV or Parquet. What there is no file of on the attacker's side is trained and served here; for a
    first look at many users: --attacks distance,k-means, which need no shadow system.
    """
    from recmia import store
    from recmia.audit import metric_names
    from recmia.config import FilesConfig
    from recmia.files import audit_files

    asked = {name: options.pop(name) for name in ("fail_above", "junit", "json")}
    config, out, lists, workers = _prepared(options, files=True)
    assert isinstance(config, FilesConfig), "of files"
    measured = config.model_copy(update={"thresholds": config.thresholds and config.has_shadow})
    thresholds = _thresholds(asked, metric_names(measured))
    with lists as kept, workers as at_once, _progress() as progress:
        result = audit_files(config, jobs=at_once, store=kept, progress=progress)
        store.write_run(result, out)
    _tell_result(result, out, kept, thresholds, asked)


def _export_files(**options: Any) -> None:
    """Write the files of an audit of ours, its first seed and regime, as recmia audit-files takes them."""
    from recmia.files import export_files
    from recmia.store import new_folder

    config, out, lists, workers = _prepared(options)
    with lists as kept, workers as at_once, new_folder(out) as scratch:
        export_files(config, scratch, jobs=at_once, store=kept)
    _console().print(f"written to {escape(str(out))}", soft_wrap=True)


def _tell_result(
    result: AuditResult, out: Path, lists: ArrayStore, thresholds: Sequence[Threshold], asked: Mapping[str, Any]
) -> None:
    """Print what was found, and put it to the gate."""
    from recmia import summary

    console = _console()
    data = result.provenance["data"]
    console.print(f"data: {escape(data['source'])}: {data['rows_kept']:,} interactions of {data['users']:,} users")
    for reason, count in data["dropped"].items():
        console.print(f"  dropped {count:,}: {escape(reason)}")
    for note in data["notes"]:
        console.print(f"  note: {escape(note)}", style="dim", soft_wrap=True)
    _tell_damage(console, lists)
    console.print(summary.table(result.metrics))
    if not result.utility.is_empty():
        console.print(summary.utility_table(result.utilities))
    console.print(escape(result.verdict))
    console.print(f"\nwritten to {escape(str(out))} (config, metrics, scores, ROC, provenance)", soft_wrap=True)
    _pass_gate(console, result.metrics, thresholds, asked)
    if any(promise.broken for promise in result.promises):
        raise typer.Exit(1)


def _thresholds(asked: Mapping[str, Any], metrics: Sequence[str]) -> list[Threshold]:
    """Check the options of the gate before a run: what it may not be above, and where to report."""
    from recmia.gate import parse_threshold

    thresholds = [parse_threshold(text, metrics) for text in asked["fail_above"] or ()]
    for name in ("junit", "json"):
        file = asked[name]
        if file is not None and not thresholds:
            raise ConfigError(f"--{name} tells what --fail-above found; name a threshold, such as --fail-above auc=0.6")
        if file is not None and (file.is_dir() or not file.absolute().parent.is_dir()):
            raise ConfigError(f"cannot write {file}: it must be a file in a folder that exists")
    return thresholds


def _pass_gate(
    console: Console, metrics: Sequence[Metric], thresholds: Sequence[Threshold], asked: Mapping[str, Any]
) -> None:
    """Test what was found, report it, and end with an exit code of its own unless all is well."""
    from recmia import gate
    from recmia.store import write_text

    checks = gate.check(metrics, thresholds)
    for name, text in (("junit", gate.as_junit), ("json", gate.as_json)):
        if asked[name] is not None:
            write_text(asked[name], text(checks))
    for line in gate.verdict(checks):
        console.print(f"[bold red]gate:[/] {escape(line)}", soft_wrap=True)
    if code := gate.exit_code(checks):
        raise typer.Exit(code)
    if checks:
        console.print(f"gate: passed, {len(checks)} figures under {', '.join(map(str, thresholds))}", soft_wrap=True)


def _sweep(**options: Any) -> None:
    """Audit a grid of settings: recmia sweep k=10,50 lfm.epochs=5,20.

    Any setting may be swept; names of a list are joined by + (attacks=mlp+list-lr,distance). Data are loaded, models
    trained and lists served once for all cells. Killed, the same command goes on where it was.
    """
    import tomllib

    axes: dict[str, list[Any]] = {}
    grid = options.pop("grid")
    if grid is not None:
        try:
            axes |= tomllib.loads(grid.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the grid {grid}: {error}") from None
        if not all(isinstance(values, list) for values in axes.values()):
            raise ConfigError(
                f'each line of the grid {grid} must be a key with a list of values, such as "k" = [10, 50]'
            )
    for word in options.pop("keys") or ():
        key, equals, values = word.partition("=")
        if not equals:
            raise ConfigError(f"a key to sweep must be written KEY=V1,V2,...; got {word!r}")
        axes[key] = [value for value in values.split(",") if value]
    _run_sweep(axes, options)


def _defend(**options: Any) -> None:
    """Measure what defences bring and cost: the strongest attack, by an attacker who knows them, against utility.

    Each defence is written NAME=STRENGTH, and those that work together are joined by +:
    recmia defend --defences dp-training=4,gumbel=300+shorter-lists=10. Killed, the same command goes on where it was.
    """
    from recmia import store, summary
    from recmia.defend import DEFAULTS, defend

    texts = [text.strip() for text in (options.pop("defences") or "").split(",") if text.strip()]
    level = options.pop("level")
    config, out, lists, workers = _prepared(options, defaults=DEFAULTS)
    with lists as kept, workers as at_once, _progress() as progress:
        result = defend(config, texts, level=level, jobs=at_once, store=kept, progress=progress)
        store.write_defend(result, out)
    console = _console(_WIDE)
    _tell_damage(console, kept)
    for table in summary.defences_table(result.table):
        console.print(table)
    console.print(escape(result.advice))
    _tell_errors(console, result.sweep)
    for row in result.broken.iter_rows(named=True):
        console.print(
            f"[bold red]BROKEN PROMISE:[/] {escape(row['defence'])} ({row['regime']}) promises epsilon "
            f"{row['promised']:g}, and the audit refutes every epsilon below {row['bound']:.2f}",
            soft_wrap=True,
        )
    console.print(f"\nwritten to {escape(str(out))} (table, frontier, advice, provenance)", soft_wrap=True)
    if len(result.broken):
        raise typer.Exit(1)
    if result.sweep.errors:
        raise typer.Exit(2)


def _matrix(**options: Any) -> None:
    """Attack every target with shadows of every algorithm, to see whether an attack transfers.

    Each recommender is trained once per seed and shared by all pairs. Killed, the same command goes on where it was.
    """
    axes = {
        key: [name.strip() for name in options.pop(f"{key}_names").split(",") if name.strip()]
        for key in ("target", "shadow")
    }
    _run_sweep(axes, options)


@app.command(name="reproduce")
def _reproduce(
    paper: Annotated[str, typer.Argument(help="The paper: hu2023.")],
    panels: Annotated[
        str, typer.Option(help="paper (Fig. 1 to 3), all, or names of panels joined by commas.")
    ] = "paper",
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="As of recmia audit.")] = "ml-latest-small",
    seeds: Annotated[int, typer.Option(min=1, help="Independent repetitions.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    out: Annotated[Path | None, _OUT] = None,
    jobs: Annotated[int | None, _JOBS] = None,
    store: Annotated[Path | None, _STORE] = None,
    cluster: Annotated[str | None, _CLUSTER] = None,
    debug: Annotated[bool, _DEBUG] = False,
) -> None:
    """Draw the figures of Hu (2023), and panels for what the paper leaves open.

    Killed, the same command goes on where it was.
    """
    from recmia import reproduce as papers
    from recmia import summary
    from recmia.store import check_new, write_reproduction

    if paper != "hu2023":
        raise ConfigError(f"unknown paper {paper!r}; allowed: hu2023")
    out = _new_folder_name(out, paper)
    check_new(out)
    lists = _store(store)
    settings = {"dataset": dataset, "seeds": seeds, "seed": seed}
    with _workers(cluster, jobs) as at_once, _progress() as progress:
        result = papers.reproduce(
            [name.strip() for name in panels.split(",") if name.strip()],
            settings,
            jobs=at_once,
            store=lists,
            progress=progress,
        )
        write_reproduction(result, out)
    console = _console()
    _tell_damage(console, lists)
    if not result.comparison.is_empty():
        console.print(summary.comparison_table(result.comparison))
    for panel in result.panels:
        _tell_errors(console, result.sweeps[panel.name], f"{panel.name}: ")
    console.print(f"\nwritten to {escape(str(out))} (figures, their data, settings, provenance)", soft_wrap=True)
    if any(sweep.errors for sweep in result.sweeps.values()):
        raise typer.Exit(2)


def _tell_errors(console: Console, result: SweepResult, where: str = "") -> None:
    for failure in result.errors:
        cell = ", ".join(f"{key}={failure[key]}" for key in result.axes)
        console.print(f"[bold red]failed:[/] {escape(where + cell)}: {escape(failure['error'])}", soft_wrap=True)


def _run_sweep(axes: dict[str, list[Any]], options: dict[str, Any]) -> None:
    from recmia import store, summary
    from recmia.sweep import sweep

    config, out, lists, workers = _prepared(options, axes)
    with lists as kept, workers as at_once, _progress() as progress:
        result = sweep(config, axes, jobs=at_once, store=kept, progress=progress)
        store.write_sweep(result, out)
    console = _console()
    _tell_damage(console, kept)
    for table in summary.grid_tables(result.table, result.axes):
        console.print(table)
    if set(result.axes) == {"target", "shadow"}:
        console.print(escape(summary.transfer(result.table)))
    _tell_errors(console, result)
    console.print(f"\nwritten to {escape(str(out))} (table, figure, settings, provenance)", soft_wrap=True)
    if result.errors:
        raise typer.Exit(2)


@contextmanager
def _workers(address: str | None, jobs: int | None) -> Iterator[int]:
    """Give how much runs at once, on a cluster or here."""
    import joblib

    from recmia.parallel import cluster

    if address is None:
        yield jobs or joblib.cpu_count()
        return
    with cluster(address) as at_once:
        yield at_once


def _prepared(
    options: dict[str, Any],
    axes: Mapping[str, list[Any]] = {},
    defaults: Mapping[str, Any] = {},
    *,
    files: bool = False,
) -> tuple[AuditConfig, Path, AbstractContextManager[ArrayStore], AbstractContextManager[int]]:
    """Check the options of a run: its settings, its new folder, its store and its workers."""
    from recmia.config import AuditConfig, FilesConfig
    from recmia.recommenders import is_own
    from recmia.store import check_new, read_config

    file, out, jobs, kept, cluster = (options.pop(name) for name in ("config", "out", "jobs", "store", "cluster"))
    del options["debug"]  # seen by main
    recommender = options.pop("recommender", None)
    settings = dict(defaults) | (read_config(file) if file is not None else {})
    given = {key: value for key, value in options.items() if value is not None}
    model = FilesConfig if files else AuditConfig
    settings = _overlay(settings, given, model)
    if recommender is not None:
        settings["recommender"] = recommender
    config = model.parse(settings)
    out = _new_folder_name(out, config.dataset)
    check_new(out)
    named = {config.shadow, *axes.get("target", ()), *axes.get("shadow", ())}
    # The audited system of files is not run, whatever it is called.
    named |= set() if files else {config.target}
    own = kept is None and any(map(is_own, named))
    return config, out, _store_beside(out) if own else nullcontext(_store(kept)), _workers(cluster, jobs)


@contextmanager
def _store_beside(out: Path) -> Iterator[ArrayStore]:
    """Give a store for this run alone: what code served that we cannot see change must not be taken for another's."""
    from recmia.store import ArrayStore, remove

    folder = out.with_name(f"{out.name}.unfinished")
    if folder.exists():
        raise ConfigError(
            f"{folder} holds what an earlier run finished: go on with --store {folder}, or remove it if the "
            "recommender has changed since"
        )
    try:
        yield ArrayStore(folder)
    except BaseException as error:
        if folder.exists():
            error.add_note(f"to go on, add --store {folder}")
        raise
    remove(folder)


def _store(folder: Path | None) -> ArrayStore:
    from recmia.store import ArrayStore, default_store

    return default_store() if folder is None else ArrayStore(folder)


def _tell_damage(console: Console, lists: ArrayStore) -> None:
    if lists.damaged:
        damaged, folder = len(set(lists.damaged)), escape(str(lists.folder))
        console.print(f"  note: damaged entries of {folder}, computed anew: {damaged}", style="dim", soft_wrap=True)


def _console(width: int = _FILE_WIDTH) -> Console:
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = width
    return console


def _new_folder_name(out: Path | None, dataset: str) -> Path:
    if out is not None:
        return out
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{_slug(dataset)}-{stamp}"


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


@app.command(name="report")
def _report(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders that audit, sweep, matrix or defend wrote.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="New HTML file to write.")] = Path("report.html"),
    redact: Annotated[
        str, typer.Option(help="User ids: none (shown), hash (a pseudonym of this report alone), omit.")
    ] = "none",
    debug: Annotated[bool, _DEBUG] = False,
) -> None:
    """Make one page of one or more runs that anybody can open, offline, and read."""
    from recmia.report import html
    from recmia.store import check_new, read_result, write_page

    check_new(out, "file")
    page = html.page({folder: read_result(folder) for folder in runs}, redact=redact)
    write_page(page, out)
    size = len(page.encode()) / 1e6
    _console().print(f"written to {escape(str(out))} ({size:.1f} MB, opens offline)", soft_wrap=True)


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        Console(highlight=False).print(f"recmia {installed('recmia')}")
        raise typer.Exit


def _config_options(
    model: type[BaseModel], renamed: Mapping[str, tuple[str, ...]], prefix: str = "", panel: str = "The audit"
) -> Iterator[inspect.Parameter]:
    """One option for each setting, so that the command line can set all that the file can."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _config_options(kind, renamed, f"{name}.", f"Settings of [{name}]")
            continue
        path = f"{prefix}{name}"
        flag = f"--{path.replace('.', '-').replace('_', '-')}"
        default = field.default
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        words = f"{field.description}" + (f" [default: {shown}]" if shown != "" else "")
        spellings = (
            (f"{flag}/--no-{flag[2:]}",) if kind is bool else renamed.get(path) or (flag, *_ALIASES.get(path, ()))
        )
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


def _with_settings(
    command: Callable[..., None],
    *own: inspect.Parameter,
    without: Collection[str] = (),
    renamed: Mapping[str, tuple[str, ...]] = {},
    files: bool = False,
) -> None:
    """Give a command its own parameters, those of every run, and one for every setting of an audit (of files)."""
    from recmia.config import AuditConfig, FilesConfig

    model = FilesConfig if files else AuditConfig
    without = {*without, *FilesConfig.unused()} if files else without
    config = typer.Option("--config", "-c", help="TOML file of settings.", rich_help_panel=_PANEL)
    run = [
        ("config", Path | None, None, config),
        ("out", Path | None, None, _OUT),
        ("jobs", int | None, None, _JOBS),
        ("store", Path | None, None, _STORE),
        ("cluster", str | None, None, _CLUSTER),
        ("debug", bool, False, _DEBUG),
    ]
    parameters = [*own]
    parameters += [
        inspect.Parameter(name, _PARAMETER, default=default, annotation=Annotated[kind, option])
        for name, kind, default, option in run
    ]
    settings = [one for one in _config_options(model, renamed) if one.name not in without]
    # Where the files are comes first.
    parameters += sorted(settings, key=lambda one: files and one.name not in model.__annotations__)
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}


def _names(of: str, words: str) -> inspect.Parameter:
    default = "lfm,itemknn,userknn,ease"
    option = typer.Option(f"--{of}s", help=f"{words} [default: {default}]", show_default=False)
    return inspect.Parameter(f"{of}_names", _PARAMETER, default=default, annotation=Annotated[str, option])


def _extra(name: str, kind: Any, words: str, panel: str) -> inspect.Parameter:
    option = typer.Option(f"--{name.replace('_', '-')}", help=words, rich_help_panel=panel, show_default=False)
    return inspect.Parameter(name, _PARAMETER, default=None, annotation=Annotated[kind | None, option])


_RECOMMENDER = _extra(
    "recommender",
    str,
    "What to audit: a name, or your own as package.module:factory. Shadows are of it, too, unless named.",
    "The audit",
)
# The options of the gate, for any command that ends with metrics.
_LIMITS = (
    _extra("fail_above", list[str], "METRIC=VALUE, as auc=0.6 or tpr@fpr=0.01=0.1: exit 1 if surely above.", _GATE),
    _extra("junit", Path, "File for what the gate found, as JUnit XML.", _GATE),
    _extra("json", Path, "File for what the gate found, as JSON.", _GATE),
)
_with_settings(_audit, _RECOMMENDER, *_LIMITS)
_with_settings(
    _sweep,
    _RECOMMENDER,
    inspect.Parameter("keys", _PARAMETER, default=None, annotation=Annotated[
        list[str] | None, typer.Argument(help="KEY=V1,V2,... for each setting to sweep.", show_default=False)]),
    inspect.Parameter("grid", _PARAMETER, default=None, annotation=Annotated[
        Path | None, typer.Option("--grid", help='TOML file with lines such as "lfm.epochs" = [5, 20].')]),
)  # fmt: skip
_with_settings(
    _matrix,
    _names("target", "Recommenders to audit."),
    _names("shadow", "Recommenders of the attacker."),
    without=("target", "shadow"),
    # Here --targets and --shadows are names.
    renamed={"targets": ("--n-targets",), "shadows": ("--n-shadows",)},
)
_with_settings(
    _defend,
    inspect.Parameter("defences", _PARAMETER, default=None, annotation=Annotated[str | None, typer.Option(
        "--defences", help="Settings to measure, joined by commas (else every kind at a few strengths).",
        show_default=False)]),
    inspect.Parameter("level", _PARAMETER, default=0.6, annotation=Annotated[float, typer.Option(
        "--level", help="The AUC that every attack is to stay under.")]),
    without=("defence",),
)  # fmt: skip
_with_settings(_audit_files, *_LIMITS, files=True)
_with_settings(_export_files, _RECOMMENDER)
app.command(name="audit")(_audit)
app.command(name="audit-files")(_audit_files)
app.command(name="export-files")(_export_files)
app.command(name="sweep")(_sweep)
app.command(name="matrix")(_matrix)
app.command(name="defend")(_defend)


@app.command(name="doctor")
def _doctor(debug: Annotated[bool, _DEBUG] = False) -> None:
    """Say what is installed and found, what is missing, and the command that brings it."""
    from recmia.doctor import examine

    console = _console()
    for part, rows in examine().items():
        console.print(f"[bold]{part}[/]")
        for name, found in rows:
            console.print(f"  {escape(name):<20} {escape(found)}", soft_wrap=True)


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

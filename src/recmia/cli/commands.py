"""The commands. What they need is imported when they run, so that help and errors in the usage come at once."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.markup import escape

from recmia.atomic import check_file, check_new, new_folder, reserved, write_text
from recmia.cli import options
from recmia.cli.console import (
    NARROW,
    WIDE,
    console,
    tell_block,
    tell_cost,
    tell_data,
    tell_errors,
    tell_gate,
    tell_reading,
    tell_result,
    tell_store,
    tell_written,
)
from recmia.errors import ConfigError, nearest
from recmia.settings import AuditSettings, FilesSettings, ForgetSettings

if TYPE_CHECKING:
    from rich.console import Console

    from recmia.cache import ArrayStore
    from recmia.game.plan import Plan, Setup
    from recmia.results.audit import AuditResult
    from recmia.results.folder import Result
    from recmia.results.gate import Gate, Limit
    from recmia.settings import AnyAuditSettings, AskedWith, Unit


def add_to(app: typer.Typer) -> None:
    """Add all commands, in the order in which people need them."""
    give, own = options.give, options.extra
    app.command(name="audit")(give(_audit, options.DATA, *options.GATE))
    app.command(name="report")(_report)
    app.command(name="defend")(
        give(
            _defend,
            options.DATA,
            own("defences", str, "Settings to measure, joined by commas (else every kind at a few strengths)."),
            own(
                "level", float, "The AUC that the upper end of every attack's interval is to stay under. [default: 0.6]"
            ),
            without=("defence",),
        )
    )
    app.command(name="ask")(options.with_columns(_ask))
    app.command(name="audit-files")(
        # The files say how many questions there are.
        give(_audit_files, *options.GATE, model=FilesSettings, without=_ASKED)
    )
    app.command(name="forget")(give(_forget, model=ForgetSettings, without=(*_ASKED, *_OF_LISTS)))
    app.command(name="sweep")(
        give(
            _sweep,
            options.argument("keys", list[str], "KEY=V1,V2,... for each setting to sweep."),
            own("grid", Path, 'TOML file with lines such as "lfm.epochs" = [5, 20].'),
        )
    )
    app.command(name="matrix")(
        give(
            _matrix,
            options.DATA,
            own("recommenders", str, f"Recommenders to audit. [default: {_MATRIX}]"),
            own("shadows", str, f"Recommenders of the attacker. [default: {_MATRIX}]"),
            without=("recommender", "shadow"),
        )
    )
    app.command(name="data")(options.with_columns(_data))
    app.command(name="export-files")(give(_export_files, options.DATA, without=("dry_run", "format")))
    app.command(name="reproduce")(_reproduce)
    app.command(name="doctor")(_doctor)


_MATRIX = "lfm,itemknn,userknn,ease"
_ASKED = ("queries", "query_share", "query_kind")
# What only attacks on lists, or with shadow systems, use.
_OF_LISTS = (
    "lists", "lists_columns", "shadow_interactions", "shadow_members", "shadow_lists", "pool_lists", "pool_members",
    "regime", "k", "alpha", "attacks", "shadow", "n_shadows", "depth", "rank_weights", "thresholds", "mlp",
)  # fmt: skip


def _audit(**given: Any) -> None:
    """Audit a recommender: train it, serve members and non-members, attack it, and say what leaks.

    Without options: the paper's case and the strict one, side by side, on MovieLens ml-latest-small.
    """
    from recmia.results.audit import Reporter, plan_audit, run_audit

    _run_audit(given, AuditSettings, run_audit, lambda setup: plan_audit(setup, None, Reporter(None)).plans)


def _audit_files(**given: Any) -> None:
    """Audit your own system from one training: its --answers to --questions that recmia ask wrote.

    Or from the --lists that users are shown, which tell less. What there is no file of is trained here.
    """
    from recmia.results.files import run_files_audit

    _run_audit(given, FilesSettings, run_files_audit, _plans_of_files)


def _plans_of_files(setup: Setup) -> list[Plan]:
    from recmia.results.audit import Reporter
    from recmia.results.files import read_files

    return [read_files(setup, Reporter(None)).plan]


def _ask(
    interactions: Annotated[str, typer.Option(help="Histories: file, folder or name of a data set.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for the questions and their key.")],
    users: Annotated[str, typer.Option(help="File of the users to ask about (else all).")] = "",
    users_columns: Annotated[str, typer.Option(help="Its column, as user=NAME.")] = "",
    queries: Annotated[int, typer.Option(help="Questions about each user, an even number.")] = 6,
    query_share: Annotated[float, typer.Option(help="Share of a history that a question asks with.")] = 0.5,
    query_kind: Annotated[str, typer.Option(help="parts, or prefixes: the first events, hiding the next.")] = "parts",
    unit: Annotated[str, typer.Option(help="users, or interactions: then every history is hidden in parts.")] = "users",
    blocks: Annotated[int, typer.Option(help="Parts of a history, of interactions.")] = 10,
    draw_members: Annotated[bool, typer.Option(help="Draw by coins who is to be in the training data.")] = False,
    member_share: Annotated[float | None, typer.Option(help=r"Probability of each coin. \[default: 0.5]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    debug: Annotated[bool, options.DEBUG] = False,
    **columns: Any,
) -> None:
    """Write questions for your own system to answer, and the key that stays with you.

    With --draw-members, also who is to be left out of one training, so that there are non-members to compare with.
    """
    from recmia.results.ask import ask

    with reserved(out):
        written = ask(
            interactions, out, users=users, users_columns=users_columns, columns=options.columns_of(columns),
            queries=queries, query_share=query_share, query_kind=cast("AskedWith", query_kind), unit=cast("Unit", unit),
            blocks=blocks, draw=draw_members, member_share=member_share, seed=seed,
        )  # fmt: skip
    console().print(escape(str(written)), soft_wrap=True)


def _forget(**given: Any) -> None:
    """Test whether your system has forgotten deleted users: recmia forget --deleted D, and files as of audit-files.

    Members, users who were never members, and the deleted are asked about alike (recmia ask). Exit code 0 if the
    deleted are shown to be forgotten, 1 if not, 2 if the test has no power.
    """
    from recmia.render.pictures import pictures
    from recmia.render.progress import shown_progress
    from recmia.results.folder import write_result
    from recmia.results.forget import run_forget

    run = _prepared(given, ForgetSettings)
    if run.dry:
        _say_cost(run.store, run.workers, lambda: _plans_of_files(run.setup))
        return
    with reserved(run.out), run.store as kept, run.workers as at_once, shown_progress() as progress:
        result = run_forget(run.setup, jobs=at_once, store=kept, progress=progress)
        write_result(result, run.out, pictures(result))
    out = _console(run, result)
    tell_data(out, result.audit)
    tell_store(out, kept)
    tell_result(out, result)
    tell_written(out, run.out, "config, outcome, scores, provenance", _report_of(run.out))
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _export_files(**given: Any) -> None:
    """Write the files of an audit of ours, its first seed and regime, as recmia audit-files takes them."""
    from recmia.results.files import export_files

    run = _prepared(given, AuditSettings)
    with reserved(run.out), run.store as kept, run.workers as at_once, new_folder(run.out) as scratch:
        cleaning = export_files(run.setup, scratch, jobs=at_once, store=kept)
    out = console()
    out.print(escape(str(cleaning)), soft_wrap=True)
    out.print(f"written to {escape(str(run.out))}", soft_wrap=True)


def _sweep(**given: Any) -> None:
    """Audit a grid of settings: recmia sweep k=10,50 lfm.epochs=5,20.

    Any setting may be swept; names of a list are joined by + (attacks=mlp+list-lr,distance). Data are loaded, models
    trained and lists served once for all cells. If it is killed, the same command continues where it was.
    """
    import tomllib

    axes: dict[str, list[Any]] = {}
    grid = given.pop("grid")
    if grid is not None:
        try:
            axes |= tomllib.loads(grid.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the grid {grid}: {error}") from None
        if not all(isinstance(values, list) for values in axes.values()):
            raise ConfigError(
                f'each line of the grid {grid} must be a key with a list of values, such as "k" = [10, 50]'
            )
    for word in given.pop("keys") or ():
        key, equals, values = word.partition("=")
        if not equals:
            raise ConfigError(
                f"a key to sweep must be written KEY=V1,V2,...; got {word!r}; data are named by --dataset"
            )
        axes[key] = [value for value in values.split(",") if value]
    _run_sweep(axes, given)


def _matrix(**given: Any) -> None:
    """Attack every recommender with shadows of every algorithm, to see whether an attack transfers.

    Each recommender is trained once per seed and shared by all pairs. If it is killed, the same command continues
    where it was.
    """
    axes = {
        key: [name.strip() for name in (given.pop(f"{key}s") or _MATRIX).split(",") if name.strip()]
        for key in ("recommender", "shadow")
    }
    _run_sweep(axes, given)


def _defend(**given: Any) -> None:
    """Measure what defences bring and cost: the strongest attack, by an attacker who knows them, against utility.

    Each defence is written NAME=STRENGTH, and those that work together are joined by +:
    recmia defend --defences dp-training=4,gumbel=300+shorter-lists=10. If it is killed, the same command continues.
    """
    from recmia.render.pictures import pictures
    from recmia.render.progress import shown_progress
    from recmia.results.defend import DEFAULTS, plan_defend, run_defend
    from recmia.results.folder import write_result

    names = [name.strip() for name in (given.pop("defences") or "").split(",") if name.strip()]
    level = given.pop("level")
    level = 0.6 if level is None else level
    run = _prepared(given, AuditSettings, defaults=DEFAULTS)
    if run.dry:
        _say_cost(run.store, run.workers, lambda: plan_defend(run.data_settings, names, level=level).ready)
        return
    with reserved(run.out), run.store as kept, run.workers as at_once, shown_progress() as progress:
        result = run_defend(run.data_settings, names, level=level, jobs=at_once, store=kept, progress=progress)
        write_result(result, run.out, pictures(result))
    out = _console(run, result, WIDE)
    tell_reading(out, result.sweep.provenance["data"])
    tell_store(out, kept)
    tell_result(out, result)
    tell_errors(out, result.sweep)
    for promise in result.promises:
        if promise.broken:
            out.print(f"[bold red]{escape(str(promise))}[/]", soft_wrap=True)
    tell_written(out, run.out, "table, frontier, advice, provenance", _report_of(run.out))
    if len(result.broken):
        raise typer.Exit(1)
    if result.sweep.errors:
        raise typer.Exit(2)


def _reproduce(
    paper: Annotated[str, typer.Argument(help="The paper: hu2023.")],
    panels: Annotated[
        str, typer.Option(help="paper (Fig. 1 to 3), all, or names of panels joined by commas.")
    ] = "paper",
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="As of recmia audit.")] = "ml-latest-small",
    seeds: Annotated[int, typer.Option(min=1, help="Independent repetitions.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    out: Annotated[Path | None, options.OUT] = None,
    jobs: Annotated[int | None, options.JOBS] = None,
    store: Annotated[Path | None, options.STORE] = None,
    cluster: Annotated[str | None, options.CLUSTER] = None,
    dry_run: Annotated[bool, options.DRY_RUN] = False,
    debug: Annotated[bool, options.DEBUG] = False,
) -> None:
    """Draw the figures of Hu (2023), and panels for what the paper leaves open.

    If it is killed, the same command continues where it was.
    """
    from recmia import reproduce as papers
    from recmia.render import text
    from recmia.render.progress import shown_progress

    if paper != "hu2023":
        raise ConfigError(f"unknown paper {paper!r}; allowed: hu2023")
    folder = _new_folder_name(out, paper)
    check_new(folder)
    lists = _store(store)
    settings = {"dataset": dataset, "seeds": seeds, "seed": seed}
    names = [name.strip() for name in panels.split(",") if name.strip()]
    if dry_run:
        planned = papers.plan_panels
        _say_cost(
            nullcontext(lists),
            _workers(cluster, jobs),
            lambda: [plan for one in planned(names, settings).values() for plan in one.ready],
        )
        return
    with reserved(folder), _workers(cluster, jobs) as at_once, shown_progress() as progress:
        result = papers.reproduce(names, settings, jobs=at_once, store=lists, progress=progress)
        papers.write_reproduction(result, folder)
    told = console()
    tell_reading(told, next(iter(result.sweeps.values())).provenance["data"])
    tell_store(told, lists)
    if not result.comparison.is_empty():
        tell_block(told, text.comparison_table(result.comparison, dataset))
    for panel in result.panels:
        tell_errors(told, result.sweeps[panel.name], f"{panel.name}: ")
    tell_written(told, folder, "figures, their data, settings, provenance")
    if any(sweep.errors for sweep in result.sweeps.values()):
        raise typer.Exit(2)


def _data(
    dataset: Annotated[str, typer.Argument(help="Name, file, folder, or synthetic[:SHAPE].")] = "ml-latest-small",
    min_interactions: Annotated[int, typer.Option(min=1, help="Users with fewer interactions are dropped.")] = 20,
    debug: Annotated[bool, options.DEBUG] = False,
    **columns: Any,
) -> None:
    """Find, fetch and clean a data set, and say what was dropped and why."""
    from recmia.data.datasets import load

    loaded = load(dataset, columns=options.columns_of(columns), min_interactions=min_interactions)
    interactions = loaded.interactions
    out = console()
    out.print(escape(str(loaded.report)), soft_wrap=True)
    out.print(
        f"{interactions.n_users:,} users, {interactions.n_items:,} items, {len(interactions):,} interactions, "
        f"{'rated' if interactions.rated else 'without ratings'}, "
        f"{'with' if interactions.time is not None else 'without'} times; "
        f"fingerprint {interactions.fingerprint()[:16]}",
        soft_wrap=True,
    )


def _report(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of runs, of any command that writes one.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="New file to write (else RUN.html, of several runs report.html).", show_default=False
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="html, or md: a summary for a pull request, printed unless --out is given.",
            show_default=False,
        ),
    ] = None,
    title: Annotated[str, typer.Option(help="Title of the page (else system and data).", show_default=False)] = "",
    owner: Annotated[str, typer.Option(help="Who answers for the system.", show_default=False)] = "",
    period: Annotated[
        str, typer.Option(help="Period of the data (else its first and last day).", show_default=False)
    ] = "",
    redact: Annotated[
        str, typer.Option(help="User ids: none (shown), hash (a pseudonym of this report alone), omit.")
    ] = "none",
    debug: Annotated[bool, options.DEBUG] = False,
) -> None:
    """Make one page of one or more runs that anybody can open, offline, and read."""
    from recmia.api import report, report_text

    labels = {"redact": redact, "title": title, "owner": owner, "period": period}
    if form == "md" and out is None:
        # As it is: no line is broken, and no text is taken for marks of the terminal.
        console().out(report_text(runs, form, **labels), end="", highlight=False)
        return
    path = report(runs, _page_of(runs) if out is None else out, form=form, **labels)
    about = "" if form == "md" or path.suffix == ".md" else ", opens offline"
    console().print(f"written to {escape(str(path))} ({_size(path.stat().st_size)}{about})", soft_wrap=True)


def _size(n: int) -> str:
    return f"{n / 1e6:.1f} MB" if n >= 1e5 else f"{n / 1e3:.0f} kB"


def _doctor(
    size: Annotated[
        str, typer.Argument(help="With --prune: what may be left, such as 5GiB (else the limit).", show_default=False)
    ] = "",
    prune: Annotated[bool, typer.Option("--prune", help="Remove what the store did not use for longest.")] = False,
    store: Annotated[Path | None, options.STORE] = None,
    debug: Annotated[bool, options.DEBUG] = False,
) -> None:
    """Say what is installed and found, what is missing, and the command that brings it.

    With --prune, make room in the store instead.
    """
    from recmia import doctor
    from recmia.cache import parse_size

    out, kept = console(), _store(store)
    if size and not prune:
        raise ConfigError(f"a size is for --prune; write: recmia doctor --prune {size}")
    if prune:
        out.print(escape(doctor.prune(kept, parse_size(size) if size else None)), soft_wrap=True)
        return
    for part, rows in doctor.examine(kept).items():
        out.print(f"[bold]{part}[/]")
        for name, found in rows:
            out.print(f"  {escape(name):<20} {escape(found)}", soft_wrap=True)


@dataclass(frozen=True)
class _Run:
    """What a run needs, checked: its settings, its new folder, its store and its workers; and what is to be told."""

    setup: Setup
    out: Path
    store: AbstractContextManager[ArrayStore]
    workers: AbstractContextManager[int]
    dry: bool = False
    json: bool = False

    @property
    def data_settings(self) -> AuditSettings:
        """The settings of an audit of data."""
        assert isinstance(self.setup.settings, AuditSettings), "of data"
        return self.setup.settings


def _run_audit(
    given: dict[str, Any],
    model: type[AuditSettings] | type[FilesSettings],
    run_it: Callable[..., AuditResult],
    plans: Callable[[Setup], Sequence[Plan]],
) -> None:
    from recmia.render.kept import kept_pictures
    from recmia.render.progress import shown_progress
    from recmia.results.folder import write_result

    asked = {name: given.pop(name) for name in ("fail_above", "require_below", "by_group", "junit", "json")}
    run = _prepared(given, model)
    limits = _limits(asked, run.setup)
    if run.dry:
        _say_cost(run.store, run.workers, lambda: plans(run.setup))
        return
    with reserved(run.out), run.store as kept, run.workers as at_once, shown_progress() as progress:
        result = run_it(run.setup, jobs=at_once, store=kept, progress=progress)
        write_result(result, run.out, kept_pictures(result, kept))
    # Files first: whoever reads them does not care whether anybody reads the rest.
    gate = _test_gate(result, limits, asked, run.out)
    out = _console(run, result, gate=gate)
    tell_data(out, result)
    tell_store(out, kept)
    tell_result(out, result)
    tell_written(out, run.out, "config, metrics, scores, ROC, provenance", _after_audit(run.out, result))
    if gate is not None:
        tell_gate(out, gate)
        if gate.exit_code:
            raise typer.Exit(gate.exit_code)
    if any(promise.broken for promise in result.promises):
        raise typer.Exit(1)


def _run_sweep(axes: dict[str, list[Any]], given: dict[str, Any]) -> None:
    from recmia.render.pictures import pictures
    from recmia.render.progress import shown_progress
    from recmia.results.folder import write_result
    from recmia.results.sweep import plan_sweep, run_sweep

    run = _prepared(given, AuditSettings, axes)
    if run.dry:
        _say_cost(run.store, run.workers, lambda: plan_sweep(run.data_settings, axes).ready)
        return
    with reserved(run.out), run.store as kept, run.workers as at_once, shown_progress() as progress:
        result = run_sweep(run.data_settings, axes, jobs=at_once, store=kept, progress=progress)
        write_result(result, run.out, pictures(result))
    out = _console(run, result)
    tell_reading(out, result.provenance["data"])
    tell_store(out, kept)
    tell_result(out, result)
    tell_errors(out, result)
    tell_written(out, run.out, "table, figure, settings, provenance", _report_of(run.out))
    if result.errors:
        raise typer.Exit(2)


def _console(run: _Run, result: Result, width: int = NARROW, gate: Gate | None = None) -> Console:
    """Return where a command tells its result; as JSON, it is printed here, and alone on the standard output."""
    if run.json:
        import json

        from recmia.render import text
        from recmia.results.folder import run_document

        document = run_document(run.out) | {"findings": text.result_words(result).splitlines()}
        if gate is not None:
            document["gate"] = json.loads(gate.as_json())
        print(json.dumps(document, indent=2, allow_nan=False))  # noqa: T201
    return console(width, stderr=run.json)


def _report_of(folder: Path) -> str:
    return shlex.join(["recmia", "report", str(folder), "--out", str(_page_of([folder]))])


def _page_of(runs: Sequence[Path]) -> Path:
    """The file of a page about these runs, where no other is named: beside a run, so that its name tells which."""
    alone = len(runs) == 1 and runs[0].name not in ("", "..")
    return Path(f"{runs[0]}.html" if alone else "report.html")


def _after_audit(folder: Path, result: AuditResult) -> str:
    """The command after an audit: if the model leaks, and defences can be tried on it, what they bring; else a page."""
    from recmia.render.answers import defend_command
    from recmia.results.findings import LEAK
    from recmia.settings import SERVED_ALIKE

    leaks = any(one.grade in LEAK and one.regime in SERVED_ALIKE for one in result.findings.sections)
    settings = result.settings
    if not leaks or not isinstance(settings, AuditSettings):
        return _report_of(folder)
    return defend_command(settings, str(folder / "config.toml")) or _report_of(folder)


def _say_cost(
    store: AbstractContextManager[ArrayStore],
    workers: AbstractContextManager[int],
    plans: Callable[[], Sequence[Plan]],
) -> None:
    """Say what a run would cost, and leave everything as it was."""
    import time

    from recmia.game.cost import expected_cost

    # Imports are behind us, which a run pays for, too.
    imports, started = time.process_time(), time.perf_counter()
    planned = plans()
    elapsed = imports + time.perf_counter() - started
    with store as kept, workers as at_once:
        cost = expected_cost(planned, store=kept, jobs=at_once)
    tell_cost(console(), cost, elapsed)


def _limits(asked: Mapping[str, Any], setup: Setup) -> list[Limit]:
    """Check the options of the gate before a run: what it may not be above, and where to report."""
    from recmia.results.audit import metric_names
    from recmia.results.files import has_shadow
    from recmia.results.gate import parse_limit

    settings: AnyAuditSettings = setup.settings
    if isinstance(settings, FilesSettings):
        settings = settings.changed(thresholds=settings.attacker.thresholds and has_shadow(setup))
    names = metric_names(settings)
    limits = [parse_limit(text, names) for text in asked["fail_above"] or ()]
    limits += [parse_limit(text, names, "require-below") for text in asked["require_below"] or ()]
    if asked["by_group"] and not limits:
        raise ConfigError("--by-group tests every group; name a limit, such as --fail-above auc=0.6")
    for name in ("junit", "json"):
        file = asked[name]
        if file is not None and not limits:
            raise ConfigError(f"--{name} tells what the gate found; name a limit, such as --fail-above auc=0.6")
        if file is not None:
            check_file(file)
    return limits


def _test_gate(result: AuditResult, limits: Sequence[Limit], asked: Mapping[str, Any], written: Path) -> Gate | None:
    """Test what was found, if there are limits, and write the files that were asked for."""
    from recmia.results.gate import Gate

    if not limits:
        return None
    gate = Gate.test(result, limits, groups=bool(asked["by_group"]))
    try:
        for name, content in (("junit", gate.as_junit()), ("json", gate.as_json())):
            if asked[name] is not None:
                write_text(asked[name], content)
    except ConfigError as error:
        error.add_note(f"the run is in {written}")
        raise
    return gate


def _prepared(
    given: dict[str, Any],
    model: type[AuditSettings] | type[FilesSettings] | type[ForgetSettings],
    axes: Mapping[str, list[Any]] = {},
    defaults: Mapping[str, Any] = {},
) -> _Run:
    """Check the options of a run: its settings, its new folder, its store and its workers."""
    from recmia.recommenders.spec import resolve_recommender
    from recmia.results.folder import read_settings_file
    from recmia.results.setup import resolve

    file, out, jobs, kept, cluster = (given.pop(name) for name in ("config", "out", "jobs", "store", "cluster"))
    # Seen by main, and acted upon when it was parsed.
    del given["debug"], given["help_settings"]
    dry, shown = given.pop("dry_run", False), given.pop("format", "text")
    if shown not in ("text", "json"):
        raise ConfigError(f"unknown format {shown!r}; {nearest(shown, ('text', 'json'))}")
    if dry and shown == "json":
        raise ConfigError("a dry run has no result to be printed as JSON; leave out --format or --dry-run")
    data = given.pop("data", None)
    if data is not None:
        if given["dataset"] not in (None, data):
            raise ConfigError(f"name the data once: got {data!r}, and --dataset {given['dataset']!r}")
        given["dataset"] = data
    read = read_settings_file(file) if file is not None else {}
    _of_command(file, read, model)
    flat = dict(defaults) | read
    if given.get("recommender") is not None:
        # Shadows follow the recommender that is named here, and not that of the file.
        flat.pop("shadow", None)
    flat = options.overlay(flat, {key: value for key, value in given.items() if value is not None}, model)
    settings = model.parse(flat)
    setup = resolve(settings)
    folder = _new_folder_name(out, settings.source)
    check_new(folder)
    swept = {name for key in ("recommender", "shadow") for name in axes.get(key, ())}
    specs = [setup.target, setup.shadow, *(resolve_recommender(name) for name in swept)]
    if kept is None and any(spec is not None and spec.user_code for spec in specs):
        kept = _beside(folder)
    of_one_run = kept is not None and kept.name.endswith(_UNFINISHED) and not dry
    store = _store_of_one_run(kept) if kept is not None and of_one_run else nullcontext(_store(kept))
    return _Run(setup, folder, store, _workers(cluster, jobs), dry, shown == "json")


def _of_command(file: Path | None, read: Mapping[str, Any], model: type[AnyAuditSettings]) -> None:
    """Refuse the settings of another kind of run, in which nearly every key would be unknown."""
    kinds = {ForgetSettings: "recmia forget", FilesSettings: "recmia audit-files", AuditSettings: "recmia audit"}
    found = ForgetSettings if "deleted" in read else FilesSettings if "interactions" in read else AuditSettings
    if "dataset" not in read and "interactions" not in read:
        return
    if kinds[found] != kinds[model]:
        raise ConfigError(f"{file} holds the settings of {kinds[found]}, and this is {kinds[model]}")


@contextmanager
def _workers(address: str | None, jobs: int | None) -> Iterator[int]:
    """Give how much runs at once, on a cluster or here."""
    import joblib

    from recmia.engine.parallel import cluster

    if address is None:
        yield jobs or joblib.cpu_count()
        return
    with cluster(address) as at_once:
        yield at_once


# What the name of a store ends with that is of a single run.
_UNFINISHED = ".unfinished"


def _beside(out: Path) -> Path:
    """Name a store for this run alone: user code can change without a trace, and must not be taken for what it was."""
    folder = out.with_name(f"{out.name}{_UNFINISHED}")
    if folder.exists():
        raise ConfigError(
            f"{folder} holds what an earlier run finished: continue with --store {folder}, or remove it if the "
            "recommender has changed since"
        )
    return folder


@contextmanager
def _store_of_one_run(folder: Path) -> Iterator[ArrayStore]:
    """Give a store that is removed when the run ends well, whether it began with this run or an earlier one."""
    from recmia.cache import ArrayStore, remove

    try:
        yield ArrayStore(folder)
    except BaseException as error:
        if folder.exists():
            error.add_note(f"to continue, add --store {folder}")
        raise
    remove(folder)


def _store(folder: Path | None) -> ArrayStore:
    from recmia.cache import ArrayStore, default_store

    return default_store() if folder is None else ArrayStore(folder)


def _new_folder_name(out: Path | None, dataset: str) -> Path:
    if out is not None:
        return out
    # Two runs may start within a second.
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    return Path("runs") / f"{_slug(dataset)}-{stamp}"


def _slug(dataset: str) -> str:
    name = Path(dataset).stem if "/" in dataset else dataset
    return "".join(mark if mark.isalnum() or mark in "-_." else "-" for mark in name) or "data"

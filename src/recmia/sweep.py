"""Many audits that share their work: grids over any settings, and the matrix of targets and shadows."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl

from recmia.audit import IN_MEMORY, Progress, Reporter, import_own, join_plays, load_black_box, load_candidates
from recmia.config import AuditConfig
from recmia.datasets import CleaningReport
from recmia.errors import ConfigError, RecmiaError
from recmia.game import Split
from recmia.interactions import Interactions
from recmia.play import Game, play_games, work_units
from recmia.provenance import peak_memory, versions
from recmia.training import Store

Axes = Mapping[str, Sequence[Any]]


@dataclass(frozen=True, eq=False)
class SweepResult:
    """What a grid of audits found.

    Parameters
    ----------
    config : AuditConfig
        The settings that the cells share.
    axes : dict of str to list
        Swept keys (``"k"``, ``"lfm.epochs"``) and their values.
    table : polars.DataFrame
        A column for each swept key, and those of `recmia.evaluation.Metric`; one row a figure.
    errors : list of dict
        The swept values of each cell that failed, and ``error``, why.
    provenance : dict
    utility : polars.DataFrame
        With `AuditConfig.held_out`, a column for each swept key, and those of `recmia.audit.AuditResult.utilities`.
    promises : polars.DataFrame
        A column for each swept key, and those of `recmia.evaluation.PromiseCheck`, ``broken`` besides.
    """

    config: AuditConfig
    axes: dict[str, list[Any]]
    table: pl.DataFrame
    errors: list[dict[str, Any]]
    provenance: dict[str, Any]
    utility: pl.DataFrame = field(default_factory=pl.DataFrame)
    promises: pl.DataFrame = field(default_factory=pl.DataFrame)


def cells(config: AuditConfig, axes: Axes) -> list[tuple[dict[str, Any], AuditConfig]]:
    """The grid: for each combination of values, the values by key and the settings.

    A key that takes several names (``attacks``, ``regimes``) takes them joined by ``+``.

    Raises
    ------
    ConfigError
        For a key that does not exist, a value that is not allowed, or no value for a key.
    """
    empty = [key for key, values in axes.items() if not values]
    if empty or not axes:
        raise ConfigError(f"a sweep needs keys with values; got none for {', '.join(empty) or 'any key'}")
    grid: dict[tuple[Any, ...], tuple[dict[str, Any], AuditConfig]] = {}
    for values in itertools.product(*axes.values()):
        settings = config.model_dump(mode="json")
        for key, value in zip(axes, values, strict=True):
            *tables, name = key.split(".")
            table = settings
            for part in tables:
                if not isinstance(table.get(part), dict):
                    raise ConfigError(f"unknown setting {key!r}: there is no table {part!r}")
                table = table[part]
            several = isinstance(table.get(name), list) and isinstance(value, str)
            table[name] = value.split("+") if several else value
        cell = AuditConfig.parse(settings)
        chosen = {key: _shown(cell, key) for key in axes}
        # A value that is given twice, as 5 and 05, is one.
        grid.setdefault(tuple(chosen.values()), (chosen, cell))
    return list(grid.values())


def _shown(config: AuditConfig, key: str) -> Any:
    """The value of a key such as ``"lfm.epochs"``, after it was checked; several names as one text."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return "+".join(map(str, value)) if isinstance(value, tuple) else value


def sweep(
    config: AuditConfig,
    axes: Axes,
    *,
    dataset: Interactions | None = None,
    jobs: int = 1,
    store: Store | None = None,
    progress: Progress | None = None,
) -> SweepResult:
    """Audit every cell of a grid; data are loaded, models trained and lists served once for all cells.

    Parameters
    ----------
    config : AuditConfig
    axes : mapping of str to sequence
        Keys of the settings (``"k"``, ``"lfm.epochs"``, ``"target"``) and the values that they take.
    dataset : Interactions, optional
        Data in memory, instead of `AuditConfig.dataset`.
    jobs : int
        Processes; no result depends on it.
    store : mutable mapping, optional
        What was computed before, finished cells included; gets what is computed now. See `recmia.store.ArrayStore`.
    progress : callable, optional
        As in `recmia.audit.audit`.

    Returns
    -------
    SweepResult
        A cell that fails is among its `errors`; the others are not lost.

    Raises
    ------
    ConfigError
        As `cells`, or if every cell fails.
    """
    if dataset is not None:
        config = config.model_copy(update={"dataset": IN_MEMORY})
    grid = cells(config, axes)
    report = Reporter(progress)
    report("loading the data", 0)
    started = time.perf_counter()
    loaded: dict[str, tuple[Interactions, CleaningReport]] = {}
    splits: dict[Any, Split] = {}
    games: list[list[Game] | RecmiaError] = []
    for _, cell in grid:
        source = cell.model_dump_json(include={"dataset", "columns", "min_interactions", "seed"})
        try:
            if source not in loaded:
                loaded[source] = load_candidates(cell, dataset)
            seeds = range(cell.seed, cell.seed + cell.seeds)
            interactions = loaded[source][0]
            black_box = load_black_box(cell, interactions)
            own = import_own(cell)
            games.append([Game(cell, interactions, seed, black_box, splits, own) for seed in seeds])
        except RecmiaError as error:
            games.append(error)
    playable = [game for group in games if not isinstance(group, RecmiaError) for game in group]
    report.total = max(1, work_units(playable))
    plays = iter(play_games(playable, store={} if store is None else store, jobs=jobs, report=report))
    frames: list[tuple[pl.DataFrame, ...]] = []
    errors: list[dict[str, Any]] = []
    for (chosen, cell), group in zip(grid, games, strict=True):
        try:
            if isinstance(group, RecmiaError):
                raise group
            results = [next(plays) for _ in group]
            source = cell.model_dump_json(include={"dataset", "columns", "min_interactions", "seed"})
            interactions, cleaning = loaded[source]
            result = join_plays(cell, results, interactions, cleaning, jobs, {})
            promises = [{**asdict(promise), "broken": promise.broken} for promise in result.promises]
            tables = ([asdict(metric) for metric in result.metrics], result.utilities, promises)
            frames.append(tuple(_rows(chosen, pl.DataFrame(rows, infer_schema_length=None)) for rows in tables))
        except RecmiaError as error:
            errors.append({**chosen, "error": str(error)})
    if not frames:
        raise ConfigError(f"every cell of the sweep failed, the first with: {errors[0]['error']}")
    data = next(iter(loaded.values()))
    metrics, utility, kept = (
        pl.concat([part for part in parts if len(part)] or parts[:1], how="vertical_relaxed")
        for parts in zip(*frames, strict=True)
    )
    return SweepResult(
        config=config,
        axes={key: list(dict.fromkeys(chosen[key] for chosen, _ in grid)) for key in axes},
        table=metrics,
        utility=utility,
        promises=kept,
        errors=errors,
        provenance={
            "versions": versions(),
            "data": {"source": data[1].source, "users": data[0].n_users, "fingerprint": data[0].fingerprint()},
            "jobs": jobs,
            "seconds_total": round(time.perf_counter() - started, 3),
            "peak_memory_bytes": peak_memory(),
        },
    )


def _rows(chosen: dict[str, Any], rows: pl.DataFrame) -> pl.DataFrame:
    if rows.is_empty():
        return rows
    # A swept key such as target is a column of the metrics already; that of a promise, one part of many, is not.
    new = [pl.lit(value).alias(key) for key, value in chosen.items() if key not in rows.columns or key == "defence"]
    return rows.select(*new, pl.exclude("defence") if "defence" in chosen else pl.all())

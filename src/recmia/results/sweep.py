"""Many audits that share their work: grids over any settings, and the matrix of targets and shadows."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import polars as pl

from recmia.data.datasets import CleaningReport
from recmia.data.interactions import Interactions
from recmia.errors import ConfigError, RecmiaError
from recmia.game.plan import Plan, Setup, plan_from_data, work_units
from recmia.game.run import run_plans
from recmia.game.tasks import Store
from recmia.metrics import Metric
from recmia.provenance import peak_memory, versions
from recmia.results.audit import (
    AuditResult,
    Progress,
    Reporter,
    join_plays,
    load_black_box,
    load_candidates,
    promised,
)
from recmia.results.findings import JUDGED, Findings, find
from recmia.results.setup import Attacks, Defences, Recommenders, resolve
from recmia.settings import IN_MEMORY, AuditSettings

Axes = Mapping[str, Sequence[Any]]
_NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class SweepResult:
    """What a grid of audits found.

    Parameters
    ----------
    settings : AuditSettings
        The settings that the cells share.
    axes : dict of str to list
        Swept keys (``"k"``, ``"lfm.epochs"``) and their values.
    table : polars.DataFrame
        A column for each swept key, and those of `recmia.metrics.Metric`; one row a figure. Of those that findings
        rest on, ``joint_low`` and ``joint_high`` are the ends of intervals that hold for all cells together.
    errors : list of dict
        The swept values of each cell that failed, and ``error``, why.
    provenance : dict
    utility : polars.DataFrame
        With `held_out`, a column for each swept key, and those of `recmia.AuditResult.utilities`.
    promises : polars.DataFrame
        A column for each swept key, and those of `recmia.metrics.epsilon.PromiseCheck`, ``broken`` besides.
    """

    settings: AuditSettings
    axes: dict[str, list[Any]]
    table: pl.DataFrame
    errors: list[dict[str, Any]]
    provenance: dict[str, Any]
    utility: pl.DataFrame = field(default_factory=pl.DataFrame)
    promises: pl.DataFrame = field(default_factory=pl.DataFrame)

    @cached_property
    def findings(self) -> list[tuple[dict[str, Any], Findings]]:
        """The swept values of each cell that did not fail, and what was found in it."""
        found = []
        keys = list(self.axes)
        for values, rows in self.table.partition_by(*keys, as_dict=True, maintain_order=True).items():
            cell = dict(zip(keys, values, strict=True))
            own = [one for one in self.provenance.get("cells", ()) if one["values"] == cell]
            found.append(
                (cell, find(judged_rows(rows), provenance=own[0] if own else self.provenance, unit=self.settings.unit))
            )
        return found


def cells(settings: AuditSettings, axes: Axes) -> list[tuple[dict[str, Any], AuditSettings]]:
    """Return the grid: for each combination of values, the values by key and the settings.

    A key that takes several names (``attacks``, ``regimes``) takes them joined by ``+``.

    Raises
    ------
    ConfigError
        For a key that does not exist, a value that is not allowed, or no value for a key.
    """
    empty = [key for key, values in axes.items() if not values]
    if empty or not axes:
        raise ConfigError(f"a sweep needs keys with values; got none for {', '.join(empty) or 'any key'}")
    grid: dict[tuple[Any, ...], tuple[dict[str, Any], AuditSettings]] = {}
    for values in itertools.product(*axes.values()):
        flat = settings.flat()
        for key, value in zip(axes, values, strict=True):
            table_name, _, name = key.rpartition(".")
            table = flat
            if table_name:
                table = flat.get(table_name)  # type: ignore[assignment]
                if not isinstance(table, dict):
                    raise ConfigError(f"unknown setting {key!r}: there is no table {table_name!r}")
            several = isinstance(table.get(name), list) and isinstance(value, str)
            table[name] = value.split("+") if several else value
        cell = AuditSettings.parse(flat)
        chosen = {key: _shown(cell, key) for key in axes}
        # A value that is given twice, as 5 and 05, is one.
        grid.setdefault(tuple(chosen.values()), (chosen, cell))
    return list(grid.values())


def _shown(settings: AuditSettings, key: str) -> Any:
    """The value of a key such as ``"lfm.epochs"``, after it was checked; several names as one text."""
    value = settings.value(key)
    return "+".join(map(str, value)) if isinstance(value, tuple) else value


def run_sweep(
    settings: AuditSettings,
    axes: Axes,
    *,
    dataset: Interactions | None = None,
    recommenders: Recommenders = _NONE,
    attacks: Attacks = _NONE,
    defences: Defences = _NONE,
    jobs: int = 1,
    store: Store | None = None,
    progress: Progress | None = None,
) -> SweepResult:
    """Audit every cell of a grid; data are loaded, models trained and lists served once for all cells.

    Parameters
    ----------
    settings : AuditSettings
    axes : mapping of str to sequence
        Keys of the settings (``"k"``, ``"lfm.epochs"``, ``"target"``) and the values that they take.
    dataset : Interactions, optional
        Data in memory, instead of `DataSettings.dataset`.
    recommenders, attacks, defences : mapping
        Objects of the user's, by the names that the settings have for them.
    jobs : int
        Processes; no result depends on it.
    store : mutable mapping, optional
        What was computed before, finished cells included; gets what is computed now. See `recmia.cache.ArrayStore`.
    progress : callable, optional
        As in `recmia.audit`.

    Returns
    -------
    SweepResult
        A cell that fails is among its `errors`; the others are not lost.

    Raises
    ------
    ConfigError
        As `cells`, or if every cell fails.
    """
    report = Reporter(progress)
    report("loading the data", 0)
    planned = plan_sweep(settings, axes, dataset=dataset, recommenders=recommenders, attacks=attacks, defences=defences)
    report.total = max(1, work_units(planned.ready))
    return run_planned(planned, jobs=jobs, store={} if store is None else store, report=report)


@dataclass(frozen=True, eq=False)
class PlannedSweep:
    """A grid of audits before anything is trained.

    Parameters
    ----------
    settings : AuditSettings
        What the cells share.
    axes : list of str
        The swept keys.
    grid : list of (dict, Setup)
        For each cell the swept values by key, and its settings with what they name.
    plans : list
        For each cell its plans, one a seed, or why there are none.
    loaded : list of (Interactions, CleaningReport)
        For each cell that has plans, its data, in the same place; else None.
    seconds : float
        That loading and planning took.
    """

    settings: AuditSettings
    axes: list[str]
    grid: list[tuple[dict[str, Any], Setup]]
    plans: list[list[Plan] | RecmiaError]
    loaded: list[tuple[Interactions, CleaningReport] | None]
    seconds: float

    @property
    def ready(self) -> list[Plan]:
        """The plans of all cells that have some."""
        return [plan for group in self.plans if not isinstance(group, RecmiaError) for plan in group]


def plan_sweep(
    settings: AuditSettings,
    axes: Axes,
    *,
    dataset: Interactions | None = None,
    recommenders: Recommenders = _NONE,
    attacks: Attacks = _NONE,
    defences: Defences = _NONE,
    draws: MutableMapping[Any, Any] | None = None,
) -> PlannedSweep:
    """Load the data of a grid of audits, and plan each seed of each cell.

    Parameters
    ----------
    settings, axes, dataset, recommenders, attacks, defences
        As of `run_sweep`.
    draws : mutable mapping, optional
        What was loaded and drawn before; sweeps with the same mapping share it.

    Raises
    ------
    ConfigError
        As `cells`.
    """
    started = time.perf_counter()
    if dataset is not None:
        settings = settings.changed(dataset=IN_MEMORY)
    grid = [(chosen, resolve(cell, recommenders, attacks, defences)) for chosen, cell in cells(settings, axes)]
    order = any(setup.uses_order for _, setup in grid)
    draws = {} if draws is None else draws
    plans: list[list[Plan] | RecmiaError] = []
    loaded: list[tuple[Interactions, CleaningReport] | None] = []
    for _, setup in grid:
        cell = setup.settings
        assert isinstance(cell, AuditSettings), "of data"
        source = f"{cell.data.model_dump_json(exclude={'max_users'})} {cell.run.seed} {order}"
        try:
            if source not in draws:
                draws[source] = load_candidates(cell, dataset, order=order)
            interactions = draws[source][0]
            black_box = load_black_box(cell, interactions, order=setup.uses_order)
            plans.append([plan_from_data(setup, interactions, seed, black_box, draws) for seed in cell.seeds])
            loaded.append(draws[source])
        except RecmiaError as error:
            plans.append(error)
            loaded.append(None)
    return PlannedSweep(settings, list(axes), grid, plans, loaded, time.perf_counter() - started)


def run_planned(planned: PlannedSweep, *, jobs: int, store: Store, report: Reporter) -> SweepResult:
    """Run what `plan_sweep` planned; see `run_sweep`."""
    started = time.perf_counter()
    plays = iter(run_plans(planned.ready, store=store, jobs=jobs, report=report))
    grid = planned.grid
    frames: list[tuple[pl.DataFrame, ...]] = []
    errors: list[dict[str, Any]] = []
    about: list[dict[str, Any]] = []
    notes: dict[str, None] = {}
    for (chosen, setup), group, data in zip(grid, planned.plans, planned.loaded, strict=True):
        try:
            if isinstance(group, RecmiaError):
                raise group
            assert data is not None, "there are plans"
            results, (interactions, cleaning) = [next(plays) for _ in group], data
            cleaning = replace(cleaning, notes=(*cleaning.notes, *setup.cut_histories(interactions)))
            notes |= dict.fromkeys(cleaning.notes)
            result = join_plays(setup.settings, results, interactions, cleaning, jobs, report, promised(setup))
            promises = [{**asdict(promise), "broken": promise.broken} for promise in result.promises]
            tables = (_with_joint_ends(result, len(grid)), result.utilities, promises)
            left_out = {name: result.provenance["data"][name] for name in ("users_read", "users")}
            about.append({"values": chosen, "data": left_out, "attacker": result.provenance["attacker"]})
            frames.append(tuple(_rows(chosen, pl.DataFrame(rows, infer_schema_length=None)) for rows in tables))
        except RecmiaError as error:
            errors.append({**chosen, "error": str(error)})
    if not frames:
        raise ConfigError(f"every cell of the sweep failed, the first with: {errors[0]['error']}")
    first = next(one for one in planned.loaded if one is not None)
    metrics, utility, kept = (
        pl.concat([part for part in parts if len(part)] or parts[:1], how="vertical_relaxed")
        for parts in zip(*frames, strict=True)
    )
    return SweepResult(
        settings=planned.settings,
        axes={key: list(dict.fromkeys(chosen[key] for chosen, _ in grid)) for key in planned.axes},
        table=metrics,
        utility=utility,
        promises=kept,
        errors=errors,
        provenance={
            "versions": versions(),
            "data": {
                "source": first[1].source,
                "users": first[0].n_users,
                "fingerprint": first[0].fingerprint(),
                "columns": dict(first[1].columns),
                **({"order": first[1].order} if first[1].order else {}),
                "notes": list(notes),
            },
            # What qualifies the findings of each cell: who was left out, and what the attacker could not know.
            "cells": about,
            "jobs": jobs,
            "seconds_total": round(planned.seconds + time.perf_counter() - started, 3),
            "peak_memory_bytes": peak_memory(),
            "peak_memory_bytes_by_stage": report.peaks,
        },
    )


def _rows(chosen: dict[str, Any], rows: pl.DataFrame) -> pl.DataFrame:
    if rows.is_empty():
        return rows
    # A swept key such as target is a column of the metrics already; that of a promise, one part of many, is not.
    new = [pl.lit(value).alias(key) for key, value in chosen.items() if key not in rows.columns or key == "defence"]
    return rows.select(*new, pl.exclude("defence") if "defence" in chosen else pl.all())


def _with_joint_ends(result: AuditResult, cells: int) -> list[dict[str, Any]]:
    """The metrics of a cell, with the ends of intervals that hold for the figures of all cells."""
    ends = {row.key: (row.low, row.high) for row in result.joint(JUDGED, cells=cells)}
    rows = []
    for metric in result.metrics:
        low, high = ends.get(metric.key, (None, None))
        rows.append({**asdict(metric), "joint_low": low, "joint_high": high})
    return rows


def judged_rows(table: pl.DataFrame) -> list[Metric]:
    """Return the rows of a table that findings rest on, with intervals that hold for all cells together."""
    judged = table.filter(pl.col("metric").is_in(JUDGED))
    return metric_rows(judged.with_columns(low=pl.col("joint_low"), high=pl.col("joint_high")))


def metric_rows(table: pl.DataFrame) -> list[Metric]:
    """Return the rows of a table of metrics as values."""
    names = [one.name for one in fields(Metric)]
    return [Metric(**row) for row in table.select(names).iter_rows(named=True)]

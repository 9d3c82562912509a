"""Run folders: what is written of each kind of result, and how it is read back."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl
import polars.selectors as cs
import tomli_w

from recmia.atomic import new_folder
from recmia.errors import ConfigError, RecmiaError, near_file
from recmia.forks import check_fork
from recmia.metrics import Metric
from recmia.provenance import peak_memory
from recmia.results.audit import AuditResult
from recmia.results.defend import DefendResult
from recmia.results.forget import ForgetResult
from recmia.results.setup import in_memory
from recmia.results.sweep import SweepResult
from recmia.settings import IN_MEMORY, AnyAuditSettings, AuditSettings, FilesSettings, ForgetSettings

Result = AuditResult | SweepResult | DefendResult | ForgetResult
# Pictures by file name, drawn by whoever wants them in the folder.
Pictures = Mapping[str, bytes]
_NO_PICTURES: Pictures = MappingProxyType({})


def read_settings_file(path: Path) -> dict[str, Any]:
    """Read the settings in a TOML file; what is not set there keeps its default.

    Raises
    ------
    ConfigError
        If the file is missing or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        of_run = path / "config.toml"
        hint = f"; name the file in it: {of_run}" if of_run.is_file() else near_file(path)
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}{hint}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def settings_toml(settings: AnyAuditSettings) -> str:
    """Write out all settings, so that the text alone repeats the run."""
    return tomli_w.dumps(settings.flat())


def write_result(result: Result, folder: Path, pictures: Pictures = _NO_PICTURES) -> None:
    """Write the folder of a result: all of it, or nothing.

    Parameters
    ----------
    result : AuditResult, SweepResult, DefendResult or ForgetResult
    folder : Path
        Must not exist.

        ============  ==========================================================================================
        of            files
        ============  ==========================================================================================
        an audit      ``config.toml``, ``metrics.json``, ``scores.parquet``, ``users.parquet``, ``run.json``; with
                      several targets ``per_user_auc.parquet``; with held-out interactions ``utility.parquet``;
                      where the attacker asks ``disclosure.parquet``; of interactions ``items.parquet``
        a sweep       ``config.toml`` (what the cells share), ``table.csv``, ``table.parquet``, ``sweep.json``
                      (axes, errors, provenance)
        defences      ``config.toml``, ``table.csv``, ``table.parquet`` (a row a defence and regime),
                      ``metrics.parquet``, ``utility.parquet``, ``advice.txt``, ``defend.json``
        forgetting    those of an audit, of members against never-members; ``deleted.parquet``, ``forget.json``
        ============  ==========================================================================================
    pictures : mapping of str to bytes
        Further files by name.

    Raises
    ------
    ConfigError
        If the folder exists or cannot be made.
    """
    with new_folder(folder) as scratch:
        if isinstance(result, AuditResult):
            _write_audit(result, scratch)
        elif isinstance(result, SweepResult):
            _write_sweep(result, scratch)
        elif isinstance(result, ForgetResult):
            _write_audit(result.audit, scratch)
            result.deleted.write_parquet(scratch / "deleted.parquet")
            write_json(scratch / "forget.json", result.summary())
        else:
            _write_defend(result, scratch)
        for name, content in pictures.items():
            (scratch / name).write_bytes(content)


def read_result(folder: Path) -> Result:
    """Read a run folder of any kind, told by the file that only its kind has.

    Raises
    ------
    ConfigError
        If `folder` is none, or is damaged.
    """
    check_fork()
    for marker, read in _READERS.items():
        if (folder / marker).is_file():
            try:
                return read(folder)
            except RecmiaError:
                raise
            except (OSError, ValueError, KeyError, pl.exceptions.PolarsError) as error:
                reason = str(error).partition("\n")[0]
                raise ConfigError(f"cannot read the run {folder}: {type(error).__name__}: {reason}") from None
    if not folder.is_dir():
        raise ConfigError(f"no such run folder: {folder}{near_file(folder)}")
    there = sorted(path.name for path in folder.iterdir())
    found = ", ".join(there[:_NAMED]) + (f" and {len(there) - _NAMED} more" if len(there) > _NAMED else "")
    raise ConfigError(
        f"{folder} is no run folder: looked for {' or '.join(_READERS)}, which recmia audit, audit-files, "
        f"forget, sweep, matrix and defend write; there is {found or 'nothing'}"
    )


def run_document(folder: Path) -> dict[str, Any]:
    """Return a run folder as one JSON value: its settings, its JSON files by name, and its table of figures, if any.

    Parameters
    ----------
    folder : Path
        As `write_result` wrote it.
    """
    document = {"folder": str(folder), "settings": read_settings_file(folder / "config.toml")}
    document |= {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    table = folder / "table.parquet"
    # JSON has no numbers that are none.
    rows = pl.read_parquet(table).with_columns(cs.float().fill_nan(None)) if table.is_file() else None
    return document if rows is None else document | {"table": rows.to_dicts()}


def write_json(path: Path, value: Any) -> None:
    """Write JSON; ValueError for what is not a number."""
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _write_audit(result: AuditResult, scratch: Path) -> None:
    settings = result.settings
    missing = {
        "data were": ("dataset", settings.source == IN_MEMORY),
        "recommender was": ("recommender", in_memory(settings.target)),
        "attacker's recommender was": ("shadow", in_memory(settings.shadow)),
    }
    comments = [
        f"# The {what} {IN_MEMORY}: set {key} before running this again.\n"
        for what, (key, gone) in missing.items()
        if gone
    ]
    (scratch / "config.toml").write_text("".join(comments) + settings_toml(settings), encoding="utf-8")
    write_json(scratch / "metrics.json", [asdict(metric) for metric in result.metrics])
    result.scores.write_parquet(scratch / "scores.parquet")
    result.users.write_parquet(scratch / "users.parquet")
    if not result.utility.is_empty():
        result.utility.write_parquet(scratch / "utility.parquet")
    if not result.items.is_empty():
        result.items.write_parquet(scratch / "items.parquet")
    if not result.disclosure.is_empty():
        result.disclosure.write_parquet(scratch / "disclosure.parquet")
    if not result.per_user_auc.is_empty():
        result.per_user_auc.write_parquet(scratch / "per_user_auc.parquet")
    write_json(scratch / "run.json", _with_peak_of_reporting(result.provenance))


def _with_peak_of_reporting(provenance: dict[str, Any]) -> dict[str, Any]:
    """Add what memory figures and files took, which is known when they are there; once, by the run itself."""
    stages = provenance.get("peak_memory_bytes_by_stage", {})
    if not stages or "reporting" in stages:
        return provenance
    peak = max([peak_memory(), *stages.values()])
    return provenance | {
        "peak_memory_bytes": max(peak, provenance["peak_memory_bytes"]),
        "peak_memory_bytes_by_stage": stages | {"reporting": peak},
    }


def _write_sweep(result: SweepResult, scratch: Path) -> None:
    (scratch / "config.toml").write_text(settings_toml(result.settings), encoding="utf-8")
    result.table.write_csv(scratch / "table.csv")
    result.table.write_parquet(scratch / "table.parquet")
    about = {"axes": result.axes, "errors": result.errors, "provenance": result.provenance}
    write_json(scratch / "sweep.json", about)


def _write_defend(result: DefendResult, scratch: Path) -> None:
    found = result.sweep
    (scratch / "config.toml").write_text(settings_toml(found.settings), encoding="utf-8")
    (scratch / "advice.txt").write_text(result.advice + "\n", encoding="utf-8")
    result.table.write_csv(scratch / "table.csv")
    result.table.write_parquet(scratch / "table.parquet")
    found.table.write_parquet(scratch / "metrics.parquet")
    found.utility.write_parquet(scratch / "utility.parquet")
    about = {
        "level": result.level,
        "advice": result.advice.splitlines(),
        "promises": found.promises.to_dicts(),
        "errors": found.errors,
        "provenance": found.provenance,
    }
    write_json(scratch / "defend.json", about)


def _read_audit(folder: Path) -> AuditResult:
    """Read the folder of an audit; metrics are computed anew from the scores."""
    utility, disclosure = folder / "utility.parquet", folder / "disclosure.parquet"
    items = folder / "items.parquet"
    result = AuditResult(
        settings=_read_settings(folder),
        scores=_table(folder / "scores.parquet", _SCORES),
        users=_table(folder / "users.parquet", _USERS),
        provenance=_read_object(folder / "run.json", "data"),
        utility=_table(utility, _UTILITY) if utility.exists() else pl.DataFrame(),
        disclosure=_table(disclosure, _DISCLOSURE) if disclosure.exists() else pl.DataFrame(),
        items=_table(items, ("item_id", "popularity", "terms")) if items.exists() else pl.DataFrame(),
    )
    try:
        # Nobody is to find out later that scores are missing.
        if not result.metrics:
            raise ConfigError(f"{folder / 'scores.parquet'} holds no scores")
    except KeyError as error:
        key = ", ".join(map(str, error.args[0]))
        raise ConfigError(f"{folder / 'scores.parquet'} lacks the scores of {key}, which config.toml names") from None
    return result


def _read_forget(folder: Path) -> ForgetResult:
    """Read the folder of a test of forgetting; the outcome is computed anew from the scores."""
    columns = ("attack", "user_id", "score", "history_length", "rarity")
    result = ForgetResult(_read_audit(folder), _table(folder / "deleted.parquet", columns))
    _ = result.found
    return result


def _read_sweep(folder: Path) -> SweepResult:
    about = _read_object(folder / "sweep.json", "axes", "errors", "provenance")
    settings = _read_settings(folder)
    assert isinstance(settings, AuditSettings), "of data"
    return SweepResult(
        settings=settings,
        axes=about["axes"],
        table=_table(folder / "table.parquet", (*about["axes"], *_METRICS)),
        errors=about["errors"],
        provenance=about["provenance"],
    )


def _read_defend(folder: Path) -> DefendResult:
    about = _read_object(folder / "defend.json", "level", "promises", "errors", "provenance")
    table = _table(folder / "table.parquet", ("defence", "regime", "auc", "auc_high", "ndcg@10", "broken"))
    metrics = _table(folder / "metrics.parquet", ("defence", *_METRICS))
    settings = _read_settings(folder)
    assert isinstance(settings, AuditSettings), "of data"
    return DefendResult(
        level=about["level"],
        table=table,
        sweep=SweepResult(
            settings=settings,
            axes={"defence": metrics["defence"].unique(maintain_order=True).to_list()},
            table=metrics,
            errors=about["errors"],
            provenance=about["provenance"],
            utility=_table(folder / "utility.parquet", ("defence", "regime", "users", "metric", "value")),
            promises=pl.DataFrame(about["promises"]),
        ),
    )


# What each kind of run folder is known by.
_READERS: Mapping[str, Callable[[Path], Result]] = MappingProxyType(
    {"forget.json": _read_forget, "run.json": _read_audit, "sweep.json": _read_sweep, "defend.json": _read_defend}
)
_SCORES = ("seed", "knowledge", "side", "run", "regime", "attack", "user_id", "member", "score")
# Of a table of many audits.
_METRICS = (*(field.name for field in fields(Metric)), "joint_low", "joint_high")
_UTILITY = ("seed", "run", "regime", "users", "metric", "value", "low", "high")
_DISCLOSURE = ("seed", "run", "users", "part", "metric", "value", "low", "high")
_USERS = ("seed", "user_id", "history_length", "rarity")
# Files that an error message names.
_NAMED = 5


def _read_settings(folder: Path) -> AnyAuditSettings:
    flat = read_settings_file(folder / "config.toml")
    of_files = ForgetSettings if "deleted" in flat else FilesSettings
    return (of_files if "interactions" in flat else AuditSettings).parse(flat)


def _table(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    table = pl.read_parquet(path)
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ConfigError(f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(table.columns)}")
    return table


def _read_object(path: Path, *keys: str) -> dict[str, Any]:
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict) or not value.keys() >= set(keys):
        raise ConfigError(f"{path} must hold an object with {', '.join(keys)}")
    return value

"""What recmia leaves on disk: run folders, and the lists that were served."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import polars as pl
import pooch
import tomli_w
from matplotlib.figure import Figure

from recmia.audit import IN_MEMORY, AuditResult
from recmia.config import AuditConfig, FilesConfig
from recmia.defend import DefendResult
from recmia.errors import ConfigError
from recmia.evaluation import Metric, Roc
from recmia.report.figures import frontier_figure, panel_figure, roc_band, roc_figure, sweep_figure
from recmia.reproduce import FEEDBACK, PAPER_AUC, PAPER_REGIME, Reproduction
from recmia.summary import section
from recmia.sweep import SweepResult


class ArrayStore(MutableMapping[str, dict[str, npt.NDArray[Any]]]):
    """Arrays by key, each entry a file; see `recmia.training.Task` for the keys.

    An entry is written aside and renamed, so a process that is killed leaves no half of one. An entry that cannot be
    read whole, or that was stored under another key, counts as missing and is removed; `damaged` tells which.

    Parameters
    ----------
    folder : Path
        Made when the first entry is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged: list[str] = []

    def __getitem__(self, key: str) -> dict[str, npt.NDArray[Any]]:
        path = self._path(key)
        try:
            entry = path.read_bytes()
        except FileNotFoundError:
            raise KeyError(key) from None
        except OSError as error:
            raise ConfigError(f"cannot read the store {self.folder}: {error.strerror}; name another") from None
        try:
            with np.load(io.BytesIO(entry), allow_pickle=False) as file:
                arrays = dict(file)
            if arrays.pop("key").tolist() != [key, *arrays]:
                raise ValueError("stored under another key, or not all of it is there")
        # A wrong byte can make numpy and zipfile raise nearly anything.
        except Exception:
            self.damaged.append(key)
            path.unlink(missing_ok=True)
            raise KeyError(key) from None
        return arrays

    def __setitem__(self, key: str, arrays: dict[str, npt.NDArray[Any]]) -> None:
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as scratch:
                try:
                    np.savez(scratch, **{"key": np.array([key, *arrays]), **arrays})  # type: ignore[arg-type]
                    scratch.close()
                    Path(scratch.name).replace(path)
                except BaseException:
                    Path(scratch.name).unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise ConfigError(f"cannot write to the store {self.folder}: {error.strerror}; name another") from None

    def __delitem__(self, key: str) -> None:
        try:
            self._path(key).unlink()
        except FileNotFoundError:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[str]:
        return (path.stem for path in sorted(self.folder.glob("*/*.npz")))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"


def default_store() -> ArrayStore:
    """The store in the user's cache."""
    return ArrayStore(Path(pooch.os_cache("recmia")) / "lists")


def read_config(path: Path) -> dict[str, Any]:
    """Read the settings in a TOML file; what is not set there keeps its default.

    Raises
    ------
    ConfigError
        If the file is missing or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def config_toml(config: AuditConfig) -> str:
    """Write out all settings, so that the text alone repeats the run."""
    return tomli_w.dumps(config.model_dump(mode="json"))


def check_new(path: Path, kind: str = "folder") -> None:
    """Refuse a folder or file that exists.

    Raises
    ------
    ConfigError
    """
    if path.exists():
        raise ConfigError(f"the output {kind} {path} exists; name a new one or remove it")


def write_run(result: AuditResult, folder: Path) -> None:
    """Write a run folder: all of it, or nothing.

    Parameters
    ----------
    result : AuditResult
    folder : Path
        Must not exist. Gets ``config.toml``, ``metrics.json``, ``scores.parquet``, ``users.parquet``,
        ``exposures.parquet`` (for several targets, and attacks with shadow models), ``roc.png``, ``roc.svg`` and
        ``run.json``.

    Raises
    ------
    ConfigError
        If the folder exists or cannot be made.
    """
    with new_folder(folder) as scratch:
        in_memory = {
            "data were": ("dataset", result.config.dataset == IN_MEMORY),
            "recommender was": ("target", result.config.target.endswith(IN_MEMORY)),
            "attacker's recommender was": ("shadow", result.config.shadow.endswith(IN_MEMORY)),
        }
        comments = [
            f"# The {what} {IN_MEMORY}: set {key} before running this again.\n"
            for what, (key, missing) in in_memory.items()
            if missing
        ]
        text = "".join(comments) + config_toml(result.config)
        (scratch / "config.toml").write_text(text, encoding="utf-8")
        _write_json(scratch / "metrics.json", [asdict(metric) for metric in result.metrics])
        result.scores.write_parquet(scratch / "scores.parquet")
        _write_json(scratch / "run.json", result.provenance)
        result.users.write_parquet(scratch / "users.parquet")
        if not result.utility.is_empty():
            result.utility.write_parquet(scratch / "utility.parquet")
        if not result.exposures.is_empty():
            result.exposures.write_parquet(scratch / "exposures.parquet")
        config, source = result.config, result.provenance["data"]["source"]
        levels = len(config.knowledge)
        aucs = {
            (section(row.knowledge, row.regime, levels), row.attack): row.value or 0.0
            for row in result.metrics
            if row.metric == "auc"
        }
        rocs = {
            (section(level, regime, levels), attack): curves for (level, regime, attack), curves in result.rocs.items()
        }
        figure = roc_figure(
            rocs,
            aucs,
            result.metrics[0].n_nonmembers,
            "Can members be told from non-members by the lists they get?\n"
            f"{config.target}, attacked with {config.shadow} shadows, l = {config.l}, k = {config.k}; {source}; "
            f"seeds: {config.seeds}; band: 95% interval",
        )
        _save(figure, scratch / "roc")


def write_sweep(result: SweepResult, folder: Path) -> None:
    """Write the folder of a sweep: all of it, or nothing.

    Parameters
    ----------
    result : SweepResult
    folder : Path
        Must not exist. Gets ``config.toml`` (what the cells share), ``table.csv`` and ``table.parquet``, ``sweep.json``
        (axes, errors, provenance) and, for one or two keys, ``sweep.png`` and ``sweep.svg``.

    Raises
    ------
    ConfigError
        If the folder exists or cannot be made.
    """
    with new_folder(folder) as scratch:
        (scratch / "config.toml").write_text(config_toml(result.config), encoding="utf-8")
        result.table.write_csv(scratch / "table.csv")
        result.table.write_parquet(scratch / "table.parquet")
        _write_json(
            scratch / "sweep.json", {"axes": result.axes, "errors": result.errors, "provenance": result.provenance}
        )
        config = result.config
        figure = sweep_figure(
            result.table,
            result.axes,
            f"Can members be told from non-members? By {' and '.join(result.axes)}\n"
            f"{result.provenance['data']['source']}; seeds: {config.seeds}",
        )
        if figure is not None:
            _save(figure, scratch / "sweep")


def write_defend(result: DefendResult, folder: Path) -> None:
    """Write the folder of a comparison of defences: all of it, or nothing.

    Parameters
    ----------
    result : DefendResult
    folder : Path
        Must not exist. Gets ``config.toml``, ``table.csv`` and ``table.parquet`` (a row for each defence and regime),
        ``metrics.parquet`` and ``utility.parquet`` (all that was measured), ``advice.txt``, ``defend.json`` (level,
        advice, promises, errors, provenance), ``frontier.png`` and ``frontier.svg``.

    Raises
    ------
    ConfigError
        If the folder exists or cannot be made.
    """
    found = result.sweep
    with new_folder(folder) as scratch:
        (scratch / "config.toml").write_text(config_toml(found.config), encoding="utf-8")
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
        _write_json(scratch / "defend.json", about)
        config = found.config
        figure = frontier_figure(
            result.table,
            result.level,
            f"What defences bring and cost: {config.target}, k = {config.k}, l = {config.l}\n"
            f"{found.provenance['data']['source']}; attackers know the defence; seeds: {config.seeds}, "
            f"shadows: {config.shadows}; 95% intervals",
        )
        _save(figure, scratch / "frontier")


def read_result(folder: Path) -> AuditResult | SweepResult | DefendResult:
    """Read a run folder of any kind, told by the file that only its kind has.

    Raises
    ------
    ConfigError
        If `folder` is none, or is damaged.
    """
    for marker, read in _READERS.items():
        if (folder / marker).is_file():
            try:
                return read(folder)
            except (OSError, ValueError, KeyError, pl.exceptions.PolarsError) as error:
                reason = str(error).partition("\n")[0]
                raise ConfigError(f"cannot read the run {folder}: {type(error).__name__}: {reason}") from None
    if not folder.is_dir():
        raise ConfigError(f"no such run folder: {folder}")
    there = sorted(path.name for path in folder.iterdir())
    found = ", ".join(there[:_NAMED]) + (f" and {len(there) - _NAMED} more" if len(there) > _NAMED else "")
    raise ConfigError(
        f"{folder} is no run folder: looked for {' or '.join(_READERS)}, which recmia audit, sweep, matrix and defend "
        f"write; there is {found or 'nothing'}"
    )


def read_run(folder: Path) -> AuditResult:
    """Read what `write_run` wrote; metrics are computed anew from the scores.

    Raises
    ------
    ConfigError, ProtocolError
        If a file is missing or unfit; also OSError, ValueError, KeyError and PolarsError: see `read_result`.
    """
    utility = folder / "utility.parquet"
    result = AuditResult(
        config=_read_settings(folder),
        scores=_table(folder / "scores.parquet", _SCORES),
        users=_table(folder / "users.parquet", _USERS),
        provenance=_read_object(folder / "run.json", "data"),
        utility=_table(utility, _UTILITY) if utility.exists() else pl.DataFrame(),
    )
    try:
        # Nobody is to find out later that scores are missing.
        if not result.metrics:
            raise ConfigError(f"{folder / 'scores.parquet'} holds no scores")
    except KeyError as error:
        key = ", ".join(map(str, error.args[0]))
        raise ConfigError(f"{folder / 'scores.parquet'} lacks the scores of {key}, which config.toml names") from None
    return result


def read_sweep(folder: Path) -> SweepResult:
    """Read what `write_sweep` wrote.

    Raises
    ------
    ConfigError
        As `read_run`.
    """
    about = _read_object(folder / "sweep.json", "axes", "errors", "provenance")
    return SweepResult(
        config=_read_settings(folder),
        axes=about["axes"],
        table=_table(folder / "table.parquet", (*about["axes"], *(field.name for field in fields(Metric)))),
        errors=about["errors"],
        provenance=about["provenance"],
    )


def read_defend(folder: Path) -> DefendResult:
    """Read what `write_defend` wrote.

    Raises
    ------
    ConfigError
        As `read_run`.
    """
    about = _read_object(folder / "defend.json", "level", "promises", "errors", "provenance")
    table = _table(folder / "table.parquet", ("defence", "regime", "auc", "auc_high", "ndcg@10", "broken"))
    metrics = _table(folder / "metrics.parquet", ("defence", *(field.name for field in fields(Metric))))
    return DefendResult(
        level=about["level"],
        table=table,
        sweep=SweepResult(
            config=_read_settings(folder),
            axes={"defence": metrics["defence"].unique(maintain_order=True).to_list()},
            table=metrics,
            errors=about["errors"],
            provenance=about["provenance"],
            utility=_table(folder / "utility.parquet", ("defence", "regime", "users", "metric", "value")),
            promises=pl.DataFrame(about["promises"]),
        ),
    )


# What each kind of run folder is known by.
_READERS: dict[str, Callable[[Path], AuditResult | SweepResult | DefendResult]] = {
    "run.json": read_run,
    "sweep.json": read_sweep,
    "defend.json": read_defend,
}
_SCORES = ("seed", "knowledge", "side", "run", "regime", "attack", "user_id", "member", "score")
_UTILITY = ("seed", "run", "regime", "users", "metric", "value", "low", "high")
_USERS = ("seed", "user_id", "history_length", "rarity")
# Files that an error message names.
_NAMED = 5


def _read_settings(folder: Path) -> AuditConfig:
    settings = read_config(folder / "config.toml")
    kind = FilesConfig if "interactions" in settings else AuditConfig
    # A recommender that was in memory is found under no name, and any stands for it.
    gone = {key: settings[key] for key in ("target", "shadow") if str(settings.get(key, "")).endswith(IN_MEMORY)}
    return kind.parse({**settings, **dict.fromkeys(gone, AuditConfig().target)}).model_copy(update=gone)


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


def write_page(page: str, path: Path) -> None:
    """Write a report: all of it, or nothing.

    Raises
    ------
    ConfigError
        If the file exists or cannot be made.
    """
    check_new(path, "file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}-", delete=False
        ) as scratch:
            try:
                scratch.write(page)
                scratch.close()
                Path(scratch.name).chmod(0o644)
                Path(scratch.name).replace(path)
            except BaseException:
                Path(scratch.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


def write_reproduction(result: Reproduction, folder: Path) -> None:
    """Write the folder of a reproduction: all of it, or nothing.

    Parameters
    ----------
    result : Reproduction
    folder : Path
        Must not exist. Gets for each panel ``NAME.png``, ``NAME.svg`` and ``NAME.csv``, every figure that it shows; the
        curves of the ROC as ``fig1-roc.csv`` and the paper's figure beside ours as ``paper.csv``; ``config.toml`` (what
        the panels share) and ``reproduce.json`` (grids, errors, provenance).

    Raises
    ------
    ConfigError
        If the folder exists or cannot be made.
    """
    config = result.config
    with new_folder(folder) as scratch:
        (scratch / "config.toml").write_text(config_toml(config), encoding="utf-8")
        about = {
            panel.name: {"axes": sweep.axes, "errors": sweep.errors, "provenance": sweep.provenance}
            for panel, sweep in ((panel, result.sweeps[panel.name]) for panel in result.panels)
        }
        _write_json(scratch / "reproduce.json", about)
        if result.rocs:
            result.comparison.write_csv(scratch / "paper.csv")
            _roc_table(result.rocs).write_csv(scratch / "fig1-roc.csv")
        for panel in result.panels:
            sweep = result.sweeps[panel.name]
            sweep.table.write_csv(scratch / f"{panel.name}.csv")
            title = f"{panel.title}\n{sweep.provenance['data']['source']}; seeds: {config.seeds}; band: 95% interval"
            if not panel.x:
                aucs = {
                    (row["regime"], f"{row[FEEDBACK]}: {row['attack']}"): row
                    for row in sweep.table.filter(metric="auc").iter_rows(named=True)
                }
                shown = {key: curves for key, curves in result.rocs.items() if key[1].endswith(_DRAWN)}
                figure = roc_figure(
                    shown, {key: aucs[key]["value"] for key in shown}, sweep.table["n_nonmembers"][0], title
                )
            else:
                words = f"the paper: {PAPER_AUC} (l = 100)"
                figure = panel_figure(
                    sweep.table, panel.x, panel.shown, FEEDBACK, title, (PAPER_REGIME, PAPER_AUC, words)
                )
            _save(figure, scratch / panel.name)


# The ROC shows the paper's attack, and two rules that need no model.
_DRAWN = (": mlp", ": shared-list", ": popular-overlap")


def _roc_table(rocs: Mapping[tuple[str, str], Sequence[Roc]]) -> pl.DataFrame:
    fpr = np.linspace(0, 1, 201)
    frames = []
    for (regime, line), curves in rocs.items():
        feedback, _, attack = line.partition(": ")
        tpr, low, high = roc_band(curves, fpr)
        frame = pl.DataFrame({"fpr": fpr, "tpr": tpr, "low": low, "high": high})
        names = {"feedback": feedback, "regime": regime, "attack": attack}
        frames.append(frame.select(*(pl.lit(value).alias(key) for key, value in names.items()), pl.all()))
    return pl.concat(frames)


def _save(figure: Figure, stem: Path) -> None:
    figure.savefig(stem.with_suffix(".png"), dpi=150)
    # No date and no random ids: the same result gives the same file.
    with mpl.rc_context({"svg.hashsalt": "recmia", "svg.fonttype": "none"}):
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a scratch folder beside `folder` that takes its name when the block ends well, and else disappears."""
    check_new(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise ConfigError(f"cannot make the output folder {folder}: {error.strerror}") from None
    try:
        scratch.chmod(0o755)
        yield scratch
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a file in a folder that exists, over one that is there.

    Raises
    ------
    ConfigError
        If it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


def remove(folder: Path) -> None:
    """Remove a store, if it was ever made."""
    shutil.rmtree(folder, ignore_errors=True)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")

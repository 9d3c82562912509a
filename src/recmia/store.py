"""Run folders: what an audit leaves on disk."""

from __future__ import annotations

import json
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import tomli_w

from recmia.audit import IN_MEMORY, AuditConfig, AuditResult
from recmia.errors import ConfigError
from recmia.report.figures import roc_figure


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


def check_new(folder: Path) -> None:
    """Refuse a folder that exists.

    Raises
    ------
    ConfigError
    """
    if folder.exists():
        raise ConfigError(f"the output folder {folder} exists; name a new one or remove it")


def write_run(result: AuditResult, folder: Path) -> None:
    """Write a run folder: all of it, or nothing.

    Parameters
    ----------
    result : AuditResult
    folder : Path
        Must not exist. Gets ``config.toml``, ``metrics.json``, ``scores.parquet``, ``roc.png``, ``roc.svg`` and
        ``run.json``.

    Raises
    ------
    ConfigError
        If the folder exists or cannot be made.
    """
    with new_folder(folder) as scratch:
        comment = f"# The data were {IN_MEMORY}: set dataset before running this again.\n"
        in_memory = result.config.dataset == IN_MEMORY
        text = (comment if in_memory else "") + config_toml(result.config)
        (scratch / "config.toml").write_text(text, encoding="utf-8")
        _write_json(scratch / "metrics.json", [asdict(metric) for metric in result.metrics])
        result.scores.write_parquet(scratch / "scores.parquet")
        _write_json(scratch / "run.json", result.provenance)
        aucs = {(row.regime, row.attack): row.value or 0.0 for row in result.metrics if row.metric == "auc"}
        config, source = result.config, result.provenance["data"]["source"]
        figure = roc_figure(
            result.rocs,
            aucs,
            result.metrics[0].n_nonmembers,
            "Can members be told from non-members by the lists they get?\n"
            f"{config.target}, attacked with {config.shadow} shadows, l = {config.l}, k = {config.k}; {source}; "
            f"seeds: {config.seeds}; band: 95% interval",
        )
        figure.savefig(scratch / "roc.png", dpi=150)
        # No date and no random ids: the same result gives the same file.
        with mpl.rc_context({"svg.hashsalt": "recmia", "svg.fonttype": "none"}):
            figure.savefig(scratch / "roc.svg", metadata={"Date": None})


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


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")

"""Run folders: complete, repeatable, whole or absent."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pydantic import BaseModel

import recmia
from recmia import AuditResult, Interactions
from recmia.config import AuditConfig
from recmia.errors import ConfigError
from recmia.store import config_toml, new_folder, read_config, write_run

FILES = [
    "config.toml", "exposures.parquet", "metrics.json", "roc.png", "roc.svg", "run.json", "scores.parquet",
    "users.parquet",
]  # fmt: skip
DATASET = "synthetic:120x200x6000"


@pytest.fixture(scope="module")
def result() -> AuditResult:
    return recmia.audit(DATASET, l=8, k=10, seeds=2, shadows=8, targets=2, lfm={"epochs": 3}, mlp={"epochs": 5})


def test_a_run_folder_is_complete(result: AuditResult, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    write_run(result, folder)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["run"]

    rows = json.loads((folder / "metrics.json").read_text())
    keys = {"knowledge", "regime", "target", "shadow", "attack", "metric", "value", "low", "high", "seeds", "targets"}
    assert keys | {"n_members", "n_nonmembers", "note"} == set(rows[0])
    assert len(rows) == len(result.metrics)
    scores = pl.read_parquet(folder / "scores.parquet")
    columns = ["seed", "knowledge", "side", "run", "regime", "attack", "user_id", "member", "score"]
    assert scores.columns == columns
    for name in ("scores", "users", "exposures"):
        assert_frame_equal(pl.read_parquet(folder / f"{name}.parquet"), getattr(result, name), check_exact=True)
    assert result.users.columns == ["seed", "user_id", "history_length", "rarity"]

    run = json.loads((folder / "run.json").read_text())
    assert run["versions"]["recmia"] == recmia.__version__
    assert len(run["data"]["fingerprint"]) == 64
    assert set(run["seconds"]) == {"load", "train, serve and attack"}
    assert run["peak_memory_bytes"] > 10**7

    assert (folder / "roc.png").read_bytes().startswith(b"\x89PNG")
    drawn = (folder / "roc.svg").read_text()
    for words in ("mlp", "shared-list", "fold-in: all served by the same path", "false-positive rate"):
        assert words in drawn


def test_the_folder_repeats_itself(result: AuditResult, tmp_path: Path) -> None:
    write_run(result, tmp_path / "one")
    config = AuditConfig.parse(read_config(tmp_path / "one" / "config.toml"))
    assert config == result.config
    write_run(recmia.audit(config=config), tmp_path / "two")
    for name in set(FILES) - {"run.json", "roc.png"}:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_the_config_is_complete() -> None:
    written = tomllib.loads(config_toml(AuditConfig()))

    def keys(model: Any) -> dict[str, Any]:
        return {name: keys(value) if isinstance(value, BaseModel) else None for name, value in model}

    def shape(table: dict[str, Any]) -> dict[str, Any]:
        return {name: shape(value) if isinstance(value, dict) else None for name, value in table.items()}

    assert shape(written) == keys(AuditConfig())


def test_data_in_memory_are_named_as_such(small: Interactions, tmp_path: Path) -> None:
    write_run(recmia.audit(small, l=4, k=5, seeds=1, lfm={"epochs": 1}, attacks=[]), tmp_path / "run")
    assert not (tmp_path / "run" / "exposures.parquet").exists(), "no attack has shadow models"
    assert (tmp_path / "run" / "config.toml").read_text().startswith("# The data were (in memory)")


def test_a_folder_that_exists_is_left_alone(result: AuditResult, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep")
    with pytest.raises(ConfigError, match="exists; name a new one or remove it"):
        write_run(result, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_half_written(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), new_folder(tmp_path / "run") as scratch:  # noqa: PT012
        (scratch / "half").write_text("x")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way(result: AuditResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot make the output folder"):
        write_run(result, tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("content", "words"), [("k = ", "not valid TOML"), ("\xff", "not valid TOML"), (None, "cannot read")]
)
def test_bad_config_files(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "config.toml"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=words):
        read_config(path)

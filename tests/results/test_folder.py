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
from recmia.errors import ConfigError
from recmia.results.folder import read_settings_file, settings_toml
from recmia.settings import AuditSettings, FilesSettings

pytestmark = pytest.mark.end_to_end

FILES = [
    "config.toml", "metrics.json", "per_user_auc.parquet", "roc.png", "roc.svg", "run.json", "scores.parquet",
    "users.parquet",
]  # fmt: skip
DATASET = "synthetic:120x200x6000"


@pytest.fixture(scope="module")
def result() -> AuditResult:
    return recmia.audit(
        DATASET, factors=8, k=10, seeds=2, n_shadows=8, n_targets=2, lfm={"epochs": 3}, mlp={"epochs": 5}
    )


def test_a_run_folder_is_complete(result: AuditResult, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    assert result.save(folder) == folder
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["run"]

    rows = json.loads((folder / "metrics.json").read_text())
    keys = {"knowledge", "regime", "target", "shadow", "attack", "metric", "value", "low", "high", "seeds", "targets"}
    assert keys | {"n_members", "n_nonmembers", "note"} == set(rows[0])
    assert len(rows) == len(result.metrics)
    scores = pl.read_parquet(folder / "scores.parquet")
    columns = ["seed", "knowledge", "side", "run", "regime", "attack", "user_id", "member", "score"]
    assert scores.columns == columns
    for name in ("scores", "users", "per_user_auc"):
        assert_frame_equal(pl.read_parquet(folder / f"{name}.parquet"), getattr(result, name), check_exact=True)
    assert result.users.columns == ["seed", "user_id", "history_length", "rarity"]

    run = json.loads((folder / "run.json").read_text())
    assert run["versions"]["recmia"] == recmia.__version__
    assert len(run["data"]["fingerprint"]) == 64
    assert set(run["seconds"]) == {"load", "train, serve and attack"}
    assert run["peak_memory_bytes"] > 10**7

    assert (folder / "roc.png").read_bytes().startswith(b"\x89PNG")
    drawn = (folder / "roc.svg").read_text()
    for words in ("mlp", "shared-list", "fold-in: all served by the same path", "FPR"):
        assert words in drawn


@pytest.mark.end_to_end
def test_the_folder_repeats_itself(result: AuditResult, tmp_path: Path) -> None:
    result.save(tmp_path / "one")
    settings = AuditSettings.parse(read_settings_file(tmp_path / "one" / "config.toml"))
    assert settings == result.settings
    recmia.audit(settings=settings).save(tmp_path / "two")
    for name in set(FILES) - {"run.json", "roc.png"}:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


@pytest.mark.parametrize("model", [AuditSettings, FilesSettings])
def test_the_settings_are_complete(model: type[AuditSettings] | type[FilesSettings]) -> None:
    """Every field of every group is there by its flat name, tables as tables."""
    written = tomllib.loads(settings_toml(model()))

    def keys(table: BaseModel) -> dict[str, Any]:
        return {name: keys(value) if isinstance(value, BaseModel) else None for name, value in table}

    def shape(table: dict[str, Any]) -> dict[str, Any]:
        return {name: shape(value) if isinstance(value, dict) else None for name, value in table.items()}

    groups = keys(model()).values()
    assert shape(written) == {name: value for group in groups for name, value in group.items()}
    assert sum(map(len, groups)) == len(written), "no two groups have a field of one name"


def test_data_in_memory_are_named_as_such(small: Interactions, tmp_path: Path) -> None:
    recmia.audit(small, factors=4, k=5, seeds=1, lfm={"epochs": 1}, attacks=[]).save(tmp_path / "run")
    assert not (tmp_path / "run" / "per_user_auc.parquet").exists(), "no attack has shadow models"
    assert (tmp_path / "run" / "config.toml").read_text().startswith("# The data were (in memory)")


def test_a_folder_that_exists_is_left_alone(result: AuditResult, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep")
    with pytest.raises(ConfigError, match="exists; name a new one or remove it"):
        result.save(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_nothing_half_written(result: AuditResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("recmia.results.folder.write_json", fail)
    with pytest.raises(KeyboardInterrupt):
        result.save(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way(result: AuditResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot make the output folder"):
        result.save(tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("content", "words"), [("k = ", "not valid TOML"), ("\xff", "not valid TOML"), (None, "cannot read")]
)
def test_bad_config_files(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "config.toml"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=words):
        read_settings_file(path)

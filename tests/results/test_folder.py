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
from recmia.results import audit
from recmia.results.folder import read_result, read_settings_file, settings_toml, write_result
from recmia.settings import AuditSettings, FilesSettings

pytestmark = pytest.mark.end_to_end

FILES = [
    "config.toml", "disclosure.parquet", "metrics.json", "per_user_auc.parquet", "queries.png", "queries.svg",
    "roc.png", "roc.svg", "run.json", "scores.parquet", "users.parquet",
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
    keys = {
        "knowledge",
        "regime",
        "recommender",
        "shadow",
        "attack",
        "metric",
        "value",
        "low",
        "high",
        "seeds",
        "targets",
    }
    assert keys | {"n_members", "n_nonmembers", "note"} == set(rows[0])
    assert len(rows) == len(result.metrics)
    scores = pl.read_parquet(folder / "scores.parquet")
    columns = ["seed", "knowledge", "side", "run", "regime", "attack", "user_id", "member", "score"]
    assert scores.columns == columns
    for name in ("scores", "users", "per_user_auc", "disclosure"):
        assert_frame_equal(pl.read_parquet(folder / f"{name}.parquet"), getattr(result, name), check_exact=True)
    assert result.users.columns == ["seed", "user_id", "history_length", "rarity"]

    run = json.loads((folder / "run.json").read_text())
    assert run["versions"]["recmia"] == recmia.__version__
    assert len(run["data"]["fingerprint"]) == 64
    assert set(run["seconds"]) == set(run["peak_memory_bytes_by_stage"]) - {"reporting"}
    peaks = run["peak_memory_bytes_by_stage"]
    assert list(peaks) == [
        "loading the data", "taking stock", "training recommenders and serving lists", "attacking", "reporting",
    ]  # fmt: skip
    # The largest so far.
    assert 10**7 < peaks["loading the data"] <= max(peaks.values()) == peaks["reporting"] <= run["peak_memory_bytes"]
    assert list(peaks.values()) == sorted(peaks.values())
    assert "reporting" not in result.provenance["peak_memory_bytes_by_stage"]
    read = read_result(folder)
    assert isinstance(read, audit.AuditResult)
    write_result(read, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "run.json").read_text()) == run, "the memory of the run, not of the copy"

    assert (folder / "roc.png").read_bytes().startswith(b"\x89PNG")
    drawn = (folder / "roc.svg").read_text()
    for words in ("mlp", "shared-list", "query-lr", "fold-in: all served by the same path", "FPR"):
        assert words in drawn
    assert (folder / "queries.png").read_bytes().startswith(b"\x89PNG")
    asked = (folder / "queries.svg").read_text()
    for words in ("Asked about a member", "Asked about a non-member", "hidden, and answered"):
        assert words in asked


def test_what_answers_give_away_is_read_as_it_was_written(result: AuditResult, tmp_path: Path) -> None:
    result.save(tmp_path / "run")
    read = read_result(tmp_path / "run")
    assert isinstance(read, audit.AuditResult)
    assert_frame_equal(read.disclosure, result.disclosure, check_exact=True)
    assert_frame_equal(read.disclosures, result.disclosures, check_exact=True)
    assert read.query_examples == result.query_examples
    assert read.findings == result.findings
    assert read.findings.disclosure.startswith("Asked with half of a history, the system names ")
    # Without the columns that it is read by, the folder is refused by name.
    table = pl.read_parquet(tmp_path / "run" / "disclosure.parquet")
    table.drop("part").write_parquet(tmp_path / "run" / "disclosure.parquet")
    with pytest.raises(ConfigError, match=r"disclosure\.parquet lacks the columns part; it has seed"):
        read_result(tmp_path / "run")


@pytest.mark.parametrize("changed", [{"queries": 0}, {"regimes": ["popular"]}, {"attacks": ["list-lr"]}], ids=str)
def test_where_nothing_is_asked_no_file_tells_of_it(
    small: Interactions, tmp_path: Path, changed: dict[str, Any]
) -> None:
    found = recmia.audit(small, factors=4, k=5, seeds=1, lfm={"epochs": 1}, mlp={"epochs": 1}, **changed)
    assert found.disclosure.is_empty()
    assert found.disclosures.is_empty()
    assert found.query_examples == []
    assert found.findings.disclosure == ""
    assert "give away" not in str(found)
    found.save(tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == set(FILES) - {"disclosure.parquet", "queries.png", "queries.svg", "per_user_auc.parquet"}
    read = read_result(tmp_path / "run")
    assert isinstance(read, audit.AuditResult)
    assert read.findings == found.findings


@pytest.mark.end_to_end
def test_the_folder_repeats_itself(result: AuditResult, tmp_path: Path) -> None:
    result.save(tmp_path / "one")
    settings = AuditSettings.parse(read_settings_file(tmp_path / "one" / "config.toml"))
    assert settings == result.settings
    recmia.audit(settings=settings).save(tmp_path / "two")
    for name in set(FILES) - {"run.json", "roc.png", "queries.png"}:
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

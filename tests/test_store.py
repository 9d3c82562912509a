"""Run folders: complete, repeatable, whole or absent."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pydantic import BaseModel

import recmia
from recmia import AuditResult, Interactions
from recmia.config import AuditConfig
from recmia.errors import ConfigError
from recmia.store import ArrayStore, config_toml, new_folder, read_config, write_run

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


KEY = "ab" + 62 * "0"
ARRAYS = {"lists": np.arange(60, dtype=np.int32).reshape(20, 3), "item_vectors": np.ones((2, 0), np.float32)}


@pytest.fixture
def kept(tmp_path: Path) -> ArrayStore:
    store = ArrayStore(tmp_path / "deep" / "store")
    store[KEY] = ARRAYS
    return store


def file_of(store: ArrayStore, key: str = KEY) -> Path:
    (path,) = store.folder.glob(f"*/{key}.npz")
    return path


def test_arrays_come_back_as_they_were(kept: ArrayStore) -> None:
    found = ArrayStore(kept.folder)[KEY]
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert (list(kept), len(kept), KEY in kept, "cd" in kept) == ([KEY], 1, True, False)
    kept[KEY] = {"lists": np.zeros(1)}
    assert set(kept[KEY]) == {"lists"}
    del kept[KEY]
    assert (list(kept), kept.damaged) == ([], [])
    for missing in (kept.__getitem__, kept.__delitem__):
        with pytest.raises(KeyError):
            missing(KEY)
    assert list(ArrayStore(kept.folder / "never made")) == []


def test_a_writer_that_is_killed_leaves_no_entry(kept: ArrayStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is being written has another name, which is no entry; and an entry that was there stays whole."""
    before = file_of(kept).read_bytes()
    seen: list[list[str]] = []

    def half(file: Any, **arrays: Any) -> None:
        file.write(b"half of it")
        file.flush()
        seen.append(list(kept))
        assert file_of(kept).read_bytes() == before
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", half)
        for key in (KEY, "cd" + KEY[2:]):
            with pytest.raises(KeyboardInterrupt):
                kept[key] = ARRAYS
    assert seen == [[KEY], [KEY]]
    assert [path for path in kept.folder.rglob("*") if path.is_file()] == [file_of(kept)]
    # Killed outright, a writer cannot clean up.
    (file_of(kept).parent / ".tmp0a1b2c").write_bytes(before[:50])
    assert (list(kept), len(kept)) == ([KEY], 1)
    np.testing.assert_array_equal(kept[KEY]["lists"], ARRAYS["lists"])
    assert kept.damaged == []


def test_every_wrong_byte_is_found_or_harmless(kept: ArrayStore) -> None:
    path = file_of(kept)
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 255
        path.write_bytes(damaged)
        if KEY in kept:
            found = kept[KEY]
            assert set(found) == set(ARRAYS)
            assert all(found[name].tobytes() == array.tobytes() for name, array in ARRAYS.items())
        else:
            assert not path.exists()
    assert len(kept.damaged) > len(whole) / 2


@pytest.mark.parametrize("kind", ["truncated", "empty", "garbage", "text", "another key", "foreign", "array", "pickle"])
def test_damaged_entries_count_as_missing(kept: ArrayStore, kind: str) -> None:
    path = file_of(kept)
    if kind == "another key":
        other = "ab" + 62 * "1"
        kept[other] = ARRAYS
        file_of(kept, other).replace(path)
    elif kind in ("foreign", "array", "pickle"):
        with path.open("wb") as file:
            if kind == "foreign":
                np.savez(file, key=np.array(KEY), lists=ARRAYS["lists"])
            else:
                np.save(file, ARRAYS["lists"] if kind == "array" else np.array([{}], object), allow_pickle=True)
    else:
        whole = path.read_bytes()
        contents = {"truncated": whole[:-30], "empty": b"", "garbage": bytes(range(256)), "text": b"lists\n1,2,3\n"}
        path.write_bytes(contents[kind])
    assert KEY not in kept
    assert kept.damaged == [KEY]
    assert not path.exists()
    assert KEY not in kept
    assert kept.damaged == [KEY], "a missing entry is not a damaged one"
    kept[KEY] = ARRAYS
    np.testing.assert_array_equal(kept[KEY]["lists"], ARRAYS["lists"])


def test_a_file_in_the_way_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"cannot read the store .*file: Not a directory; name another"):
        KEY in ArrayStore(tmp_path / "file")  # noqa: B015
    store = ArrayStore(tmp_path)
    (tmp_path / KEY[:2]).write_text("x")
    with pytest.raises(ConfigError, match=r"cannot write to the store .*; name another"):
        store[KEY] = ARRAYS
    assert (tmp_path / "file").read_text() == (tmp_path / KEY[:2]).read_text() == "x"


def test_an_audit_from_a_store_is_the_same(small: Interactions, kept: ArrayStore) -> None:
    settings: dict[str, Any] = {
        "l": 8, "k": 10, "seeds": 2, "shadows": 8, "lfm": {"epochs": 3}, "knowledge": ("black-box", "white-box"),
        "attacks": ("naive-bayes", "list-lr"), "targets": 2,
    }  # fmt: skip
    results = [recmia.audit(small, store=store, **settings) for store in (None, kept, ArrayStore(kept.folder))]
    for result in results[1:]:
        assert_frame_equal(result.scores, results[0].scores, check_exact=True)
        assert_frame_equal(result.users, results[0].users, check_exact=True)
        assert_frame_equal(result.exposures, results[0].exposures, check_exact=True)
        assert result.metrics == results[0].metrics
        assert result.provenance["attacker"] == results[0].provenance["attacker"]
    # Scores that are lost are made again from the lists, and lists from the data.
    lost: set[str] = set()
    for share in (40, 3):
        lost |= {key for number, key in enumerate(kept) if number % share == 0}
        for key in lost:
            file_of(kept, key).write_bytes(b"lost")
        store = ArrayStore(kept.folder)
        assert_frame_equal(recmia.audit(small, store=store, **settings).scores, results[0].scores, check_exact=True)
        assert set(store.damaged) <= lost
    assert set(store.damaged)

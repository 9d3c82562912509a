"""Arrays by key, in files: whole or absent, whatever happens to the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from polars.testing import assert_frame_equal

from recmia import Interactions
from recmia.cache import ArrayStore, default_store, remove
from recmia.errors import ConfigError
from recmia.results.audit import run_audit
from recmia.results.setup import resolve
from recmia.settings import AuditSettings

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


def test_the_default_store_is_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = default_store()
    assert store.folder == tmp_path / "recmia" / "lists"
    assert not store.folder.exists(), "nothing is written before there is something to keep"
    store[KEY] = ARRAYS
    remove(store.folder)
    assert not store.folder.exists()
    remove(store.folder)


@pytest.mark.end_to_end
def test_an_audit_from_a_store_is_the_same(small: Interactions, kept: ArrayStore) -> None:
    settings: dict[str, Any] = {
        "factors": 8, "k": 10, "seeds": 2, "n_shadows": 8, "lfm": {"epochs": 3},
        "knowledge": ("black-box", "white-box"), "attacks": ("naive-bayes", "list-lr"), "n_targets": 2,
    }  # fmt: skip
    setup = resolve(AuditSettings.parse(settings))
    results = [run_audit(setup, small, store=store) for store in (None, kept, ArrayStore(kept.folder))]
    for result in results[1:]:
        assert_frame_equal(result.scores, results[0].scores, check_exact=True)
        assert_frame_equal(result.users, results[0].users, check_exact=True)
        assert_frame_equal(result.per_user_auc, results[0].per_user_auc, check_exact=True)
        assert result.metrics == results[0].metrics
        assert result.provenance["attacker"] == results[0].provenance["attacker"]
    # Scores that are lost are made again from the lists, and lists and vectors from the data.
    # But for the entry that the audit did not make, and does not read.
    keys = sorted(set(kept) - {KEY})
    scores = {key for key in keys if not {"lists", "item_vectors"} & set(kept[key])}
    assert len(scores) == 2, "of each seed"
    for lost in (scores, scores | set(keys[::3])):
        for key in lost:
            file_of(kept, key).write_bytes(b"lost")
        store = ArrayStore(kept.folder)
        assert_frame_equal(run_audit(setup, small, store=store).scores, results[0].scores, check_exact=True)
        # What is made again with a list that is lost is written over without being read.
        assert set(store.damaged) <= lost
        assert {key for key in lost if not key.endswith("-items")} <= set(store.damaged)
        whole = ArrayStore(kept.folder)
        assert all(whole[key] for key in lost)
        assert not whole.damaged

"""Arrays by key, in files: whole or absent, whatever happens to the files."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from polars.testing import assert_frame_equal

from recmia import Interactions, cache
from recmia.cache import ArrayStore, default_store, parse_size, remove
from recmia.errors import ConfigError
from recmia.game import run
from recmia.game.tasks import Task, run_tasks
from recmia.results.audit import run_audit
from recmia.results.setup import resolve
from recmia.settings import AuditSettings

KEY = "ab" + 62 * "0"
ARRAYS = {"lists": np.arange(60, dtype=np.int32).reshape(20, 3), "item_vectors": np.ones((2, 0), np.float32)}


BIG = np.arange(2**19, dtype=np.int32).reshape(-1, 4)
DAY = 86_400


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

    def half(file: Any, arrays: Any) -> None:
        file.write(b"half of it")
        file.flush()
        seen.append(list(kept))
        assert file_of(kept).read_bytes() == before
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache, "_write", half)
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


@pytest.mark.parametrize("mapped_from", [cache._MAPPED_FROM, 300], ids=["read", "mapped"])
def test_every_wrong_byte_is_found_or_harmless(
    kept: ArrayStore, mapped_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_MAPPED_FROM", mapped_from)
    assert isinstance(kept[KEY]["lists"], np.memmap) == (mapped_from == 300)
    path = file_of(kept)
    whole = path.read_bytes()
    n_damaged = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 255
        path.write_bytes(damaged)
        store = ArrayStore(kept.folder)
        if KEY in store:
            found = store[KEY]
            assert set(found) == set(ARRAYS)
            assert all(found[name].tobytes() == array.tobytes() for name, array in ARRAYS.items())
        else:
            n_damaged += 1
            assert store.damaged == [KEY]
            assert not path.exists()
    # But for what aligns the arrays, and what is said twice.
    assert n_damaged > 0.4 * len(whole)


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


def test_large_arrays_are_maps_that_stay_whole(kept: ArrayStore) -> None:
    """Whatever becomes of the file: an entry is never changed in place."""
    kept[KEY] = {"lists": BIG, "columns": np.asfortranarray(BIG), "one": BIG[:1]}
    found = kept[KEY]
    assert [isinstance(array, np.memmap) for array in found.values()] == [True, True, False]
    for name in ("lists", "columns"):
        array = found[name]
        assert array.flags.aligned
        assert not array.flags.writeable
        assert array.flags.c_contiguous == (name == "lists")
    kept[KEY] = {"lists": BIG + 1}
    replaced = kept[KEY]["lists"]
    del kept[KEY]
    assert list(kept) == []
    for name in ("lists", "columns"):
        np.testing.assert_array_equal(found[name], BIG)
    np.testing.assert_array_equal(replaced, BIG + 1)


def test_numpy_reads_an_entry_and_an_entry_of_numpy_is_read(kept: ArrayStore) -> None:
    kept[KEY] = {"lists": BIG}
    with np.load(file_of(kept)) as file:
        np.testing.assert_array_equal(file["lists"], BIG)
    with file_of(kept).open("wb") as to:
        np.savez(to, key=np.array([KEY, "lists"]), lists=BIG)
    np.testing.assert_array_equal(kept[KEY]["lists"], BIG)
    assert kept.damaged == []


def test_the_checksum_of_a_map_is_compared_again_if_the_file_changed(kept: ArrayStore) -> None:
    kept[KEY] = {"lists": BIG}
    path = file_of(kept)
    for store in (kept, ArrayStore(kept.folder)):
        # The clock of files is coarse.
        os.utime(path, (DAY, DAY))
        assert KEY in store
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :])
        assert KEY not in store
        assert store.damaged == [KEY]
        kept[KEY] = {"lists": BIG}


def test_where_many_files_are_open_arrays_are_read(kept: ArrayStore, monkeypatch: pytest.MonkeyPatch) -> None:
    kept[KEY] = {"lists": BIG, "columns": np.asfortranarray(BIG)}
    monkeypatch.setattr("resource.getrlimit", lambda kind: (6, 6))
    found = kept[KEY]
    for array in found.values():
        assert not isinstance(array, np.memmap)
        np.testing.assert_array_equal(array, BIG)
    assert found["columns"].flags.f_contiguous


def aged(folder: Path, ages: dict[str, int], n_bytes: int = 4000) -> ArrayStore:
    """A store with an entry for each key, used so many seconds ago."""
    writer = ArrayStore(folder)
    for key, age in ages.items():
        writer[key] = {"lists": np.zeros(n_bytes, np.uint8)}
        then = time.time() - age
        os.utime(file_of(writer, key), (then, then))
    return ArrayStore(folder)


@pytest.mark.parametrize("seed", range(5))
def test_what_was_not_used_for_longest_goes_first(tmp_path: Path, seed: int) -> None:
    """For any ages, sizes and limits: what goes is older than what stays, and not more than it takes."""
    rng = np.random.default_rng(seed)
    ages = {f"{n:02d}ab": int(age) for n, age in enumerate(rng.permutation(40) * 100)}
    store = aged(tmp_path, ages)
    for key in rng.choice(list(ages), 5, replace=False):
        other = ArrayStore(tmp_path)
        other[key]
        ages[key] = -int(rng.integers(100))
        os.utime(file_of(store, key), 2 * (time.time() - ages[key],))
    sizes = {entry.path.stem: entry.size for entry in store.entries()}
    before = sum(sizes.values())
    limit = int(rng.integers(before))
    freed = store.prune(limit)
    gone = set(ages) - set(store)
    assert freed == sum(sizes[key] for key in gone)
    assert before - freed <= limit
    assert min(ages[key] for key in gone) > max(ages[key] for key in store) if len(store) else True
    last = min(gone, key=ages.__getitem__)
    assert before - freed + sizes[last] > limit, "one less would not have done"
    assert store.prune(limit) == 0


def test_reading_makes_an_entry_young(tmp_path: Path) -> None:
    store = aged(tmp_path, {"ab1": 3 * DAY, "ab2": 2 * DAY, "ab3": DAY})
    written = file_of(store, "ab1").stat().st_mtime_ns
    ArrayStore(tmp_path)["ab1"]
    assert file_of(store, "ab1").stat().st_mtime_ns == written, "but not newly written"
    assert [entry.path.stem for entry in store.entries()] == ["ab2", "ab3", "ab1"]
    # Looking for what is missing, or listing, is no use.
    assert ("ab4" in store, len(store)) == (False, 3)
    assert [entry.path.stem for entry in store.entries()] == ["ab2", "ab3", "ab1"]


def test_a_run_removes_neither_its_own_nor_what_others_may_be_using(tmp_path: Path) -> None:
    ages = {"ab1": 5 * DAY, "ab2": 4 * DAY, "ab3": 3 * DAY, "ab4": 60}
    aged(tmp_path, ages)
    folder = file_of(ArrayStore(tmp_path), "ab1").parent
    for name, age in ((".ab5.npz-old", DAY), (".ab6.npz-new", 60), ("ab7.other", 6 * DAY)):
        (folder / name).write_bytes(bytes(4000))
        os.utime(folder / name, 2 * (time.time() - age,))
    store = ArrayStore(tmp_path, limit=10_000)
    store["ab1"]
    own = [f"cd{n}" for n in range(5)]
    for key in own:
        store[key] = {"lists": np.zeros(4000, np.uint8)}
    # Read by this run, used a minute ago, and written by this run: more than the limit.
    assert set(store) == {"ab1", "ab4", *own}
    assert sorted(path.name for path in folder.iterdir()) == [".ab6.npz-new", "ab1.npz", "ab4.npz"]
    # Asked for, all goes but what is being written.
    left = ArrayStore(tmp_path)
    left.prune(0)
    assert [entry.path.name for entry in left.entries()] == [".ab6.npz-new"]


def test_room_is_made_as_entries_are_written(tmp_path: Path) -> None:
    """At any time, the store takes at most its limit, and it is not emptied for a little."""
    aged(tmp_path, {f"{n:02d}ab": DAY + n for n in range(20)})
    taken = []
    for n in range(100):
        # Each a run of its own, so that what the earlier ones wrote may go.
        store = ArrayStore(tmp_path, limit=50_000)
        store[f"{n:02d}cd"] = {"lists": np.zeros(4000, np.uint8)}
        os.utime(file_of(store, f"{n:02d}cd"), 2 * (time.time() - 2 * 3600 + n,))
        taken.append(sum(entry.size for entry in store.entries()))
    assert max(taken[1:]) <= 50_000
    assert min(taken[1:]) > 35_000


def test_an_entry_that_vanishes_counts_as_missing(kept: ArrayStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may make room at any moment."""
    remove(kept.folder)
    assert KEY not in kept
    assert kept.damaged == []
    kept[KEY] = ARRAYS
    gone = Path.stat

    def vanish(path: Path, **named: Any) -> os.stat_result:
        if path.suffix == ".npz":
            path.unlink()
        return gone(path, **named)

    monkeypatch.setattr(Path, "stat", vanish)
    assert (kept.entries(), kept.prune(0)) == ([], 0)


def test_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECMIA_STORE_LIMIT", raising=False)
    assert ArrayStore(tmp_path).limit == 10 * 2**30
    monkeypatch.setenv("RECMIA_STORE_LIMIT", "1.5 TiB")
    assert ArrayStore(tmp_path).limit == 1.5 * 2**40
    assert ArrayStore(tmp_path, limit=7).limit == 7
    assert parse_size("0MiB") == 0
    for text in ("5", "GiB", "-1GiB", "nanGiB", "infMiB", "10GB", "ten MiB"):
        monkeypatch.setenv("RECMIA_STORE_LIMIT", text)
        with pytest.raises(ConfigError, match=rf"\$RECMIA_STORE_LIMIT: a size must be .*10GiB; got '{text}'"):
            ArrayStore(tmp_path)


def test_a_file_in_the_way_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"cannot read the store .*file: Not a directory; name another"):
        KEY in ArrayStore(tmp_path / "file")  # noqa: B015
    store = ArrayStore(tmp_path)
    (tmp_path / KEY[:2]).write_text("x")
    with pytest.raises(ConfigError, match=r"cannot write to the store .*; name another"):
        store[KEY] = ARRAYS
    assert (tmp_path / "file").read_text() == (tmp_path / KEY[:2]).read_text() == "x"


def test_a_store_that_nobody_asked_for_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / KEY[:2]).write_text("x")
    for folder in (tmp_path / "file", tmp_path):
        store = ArrayStore(folder, required=False)
        assert store.refused == ""
        assert KEY not in store
        assert store.refused == "Not a directory"
        store[KEY] = ARRAYS
        assert store.refused in ("Not a directory", "File exists")
        assert store[KEY].keys() == ARRAYS.keys()
        assert list(store) == [KEY]
        del store[KEY]
        assert list(store) == []
    assert (tmp_path / "file").read_text() == (tmp_path / KEY[:2]).read_text() == "x"


def test_what_is_not_of_a_store_is_not_removed_with_it(kept: ArrayStore) -> None:
    (kept.folder / "mine").mkdir()
    (kept.folder / "mine" / "notes.txt").write_text("x")
    (kept.folder / KEY[:2] / f".{KEY}.npz-half").write_text("x")
    remove(kept.folder)
    assert [path.name for path in kept.folder.rglob("*")] == ["mine", "notes.txt"]


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


@pytest.mark.end_to_end
def test_what_another_process_removed_during_a_run_is_made_again(
    small: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = resolve(AuditSettings.parse({"factors": 8, "k": 10, "seeds": 1, "lfm": {"epochs": 2}}))
    expected = run_audit(setup, small)
    store = ArrayStore(tmp_path)
    trained: list[int] = []

    def train_and_lose(tasks: Sequence[Task], **named: Any) -> Any:
        failed = run_tasks(tasks, **named)
        if not trained:
            for entry in store.entries()[::2]:
                entry.path.unlink()
        trained.append(len(tasks))
        return failed

    monkeypatch.setattr(run, "run_tasks", train_and_lose)
    assert_frame_equal(run_audit(setup, small, store=store).scores, expected.scores, check_exact=True)
    assert len(trained) == 2

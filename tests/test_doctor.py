"""What is found on this machine, and the command that brings what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from recmia import doctor
from recmia.cache import ArrayStore
from tests.cli.helpers import Here


def test_missing_extras_come_with_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = ["numpy>=1", "cornac>=3.0; extra == 'peers'", "nonsense-pkg>=1; extra == 'peers'", "ruff; extra == 'dev'"]
    for place in (doctor, importlib.metadata):
        monkeypatch.setattr(place, "requires", lambda name: [*needed, "other-pkg[all]>=1 ; extra == 'more'"])
    found = dict(doctor.examine()["extras"])
    assert set(found) == {"peers", "more"}
    assert found["peers"].startswith("cornac 3")
    assert found["peers"].endswith(
        "; missing: nonsense-pkg; it comes with: pip install 'cornac>=3.0' 'nonsense-pkg>=1'"
    )
    assert found["more"] == "missing: other-pkg; it comes with: pip install 'other-pkg[all]>=1'"
    assert [name for name, _ in doctor.examine()["versions"]] == ["recmia", "python", "numpy"]


def test_without_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert doctor.examine()["GPU"] == [("none in use", "PyTorch is not installed: pip install 'torch>=2.4'")]


def test_cache_and_data_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("RECMIA_DATA", raising=False)
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    found = doctor.examine()
    lists = tmp_path / "cache" / "recmia" / "lists"
    assert dict(found["cache"])["lists and scores"].startswith(f"in {lists}: empty; at most 10.0 GiB")
    assert dict(found["data sets"])["$RECMIA_DATA"].startswith("not set")
    assert dict(found["data sets"])["ml-latest-small"].startswith("missing")
    assert not (tmp_path / "cache").exists(), "looking changes nothing"
    folder = Path(dict(found["cache"])["folder"])
    ArrayStore(folder / "lists")["ab"] = {"lists": np.zeros(2**18, np.int32)}
    for name in ("ml-100k/u.data", "data/ml-latest-small/ratings.csv"):
        path = (folder if name.startswith("ml-100k") else tmp_path) / name
        path.parent.mkdir(parents=True)
        path.write_text("")
    monkeypatch.setenv("RECMIA_DATA", str(tmp_path / "data"))
    found = doctor.examine()
    assert dict(found["cache"])["lists and scores"].startswith(f"in {lists}: 1 entries, 1.0 MiB; at most 10.0 GiB")
    named = doctor.examine(ArrayStore(tmp_path / "named", limit=3 * 2**29))["cache"]
    assert named[0] == ("folder", str(folder))
    assert named[1][1].startswith(f"in {tmp_path / 'named'}: empty; at most 1.5 GiB ($RECMIA_STORE_LIMIT)")
    data = dict(found["data sets"])
    assert (data["ml-100k"], data["ml-latest-small"]) == ("in the cache", "in $RECMIA_DATA")


def entries_in(folder: Path) -> set[str]:
    return set(ArrayStore(folder))


def test_the_command_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recmia = Here(tmp_path, monkeypatch, capsys)
    store = ArrayStore(tmp_path / "lists")
    for n, key in enumerate(("ab1", "ab2", "ab3", "cd1")):
        store[key] = {"lists": np.zeros(2**19, np.uint8)}
        (path,) = store.folder.glob(f"*/{key}.npz")
        os.utime(path, 2 * (time.time() - 4000 + n,))

    def doctor_says(*words: str) -> str:
        done = recmia("doctor", "--store", str(store.folder), *words)
        assert (done.returncode, done.stderr) == (0, "")
        return " ".join(done.stdout.split())

    assert "4 entries, 2.0 MiB; at most 10.0 GiB" in doctor_says()
    assert doctor_says("--prune") == "nothing to remove: 4 entries take 2.0 MiB, and may take 10.0 GiB"
    assert doctor_says("--prune", "1.1MiB") == "freed 1.0 MiB: removed 2 entries; 2 entries take 1.0 MiB"
    assert entries_in(store.folder) == {"ab3", "cd1"}
    monkeypatch.setenv("RECMIA_STORE_LIMIT", "600KiB")
    assert doctor_says("--prune") == "freed 0.5 MiB: removed 1 entries; 1 entries take 0.5 MiB"
    assert entries_in(store.folder) == {"cd1"}
    assert doctor_says("--prune", "0GiB") == "freed 0.5 MiB: removed 1 entries; 0 entries take 0.0 MiB"
    for words, said in (
        (("5GiB",), "a size is for --prune; write: recmia doctor --prune 5GiB"),
        (("--prune", "5"), "a size must be a number with KiB, MiB, GiB, TiB, such as 10GiB; got '5'"),
    ):
        refused = recmia("doctor", *words)
        assert (refused.returncode, refused.stdout, refused.stderr) == (2, "", f"error: {said}\n")


@pytest.mark.end_to_end
def test_the_command_ends_well(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "from recmia.cli import main; main(['doctor'])"]
    environment = {**os.environ, "RECMIA_DATA": str(tmp_path), "NO_COLOR": "1"}
    done = subprocess.run(
        program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for words in ("versions", "processor", "openblas", "GPU", "cache", "data sets", "extras", "$RECMIA_DATA"):
        assert words in done.stdout
    assert list(tmp_path.iterdir()) == []

"""What is found on this machine, and the command that brings what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recmia import doctor
from recmia.cache import ArrayStore


def test_missing_extras_come_with_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = ["numpy>=1", "cornac>=3.0; extra == 'peers'", "nonsense-pkg>=1; extra == 'peers'", "ruff; extra == 'dev'"]
    monkeypatch.setattr(doctor, "requires", lambda name: [*needed, "other-pkg[all]>=1 ; extra == 'more'"])
    found = dict(doctor.examine()["extras"])
    assert set(found) == {"peers", "more"}
    assert found["peers"].startswith("cornac 3")
    assert found["peers"].endswith("; missing: nonsense-pkg; it comes with: pip install 'recmia[peers]'")
    assert found["more"] == "missing: other-pkg; it comes with: pip install 'recmia[more]'"
    assert [name for name, _ in doctor.examine()["versions"]] == ["recmia", "python", "numpy"]


def test_without_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert doctor.examine()["GPU"] == [("none in use", "PyTorch is not installed: pip install 'recmia[neural]'")]


def test_cache_and_data_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("RECMIA_DATA", raising=False)
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    found = doctor.examine()
    assert dict(found["cache"])["lists and scores"] == "empty"
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
    assert dict(found["cache"])["lists and scores"].startswith("1 entries, 1.0 MiB")
    data = dict(found["data sets"])
    assert (data["ml-100k"], data["ml-latest-small"]) == ("in the cache", "in $RECMIA_DATA")


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

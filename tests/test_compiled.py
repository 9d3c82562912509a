"""Compiled functions, where they can be kept and where not."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import pytest

SOURCE = "from recmia.compiled import compiled\n\n\n@compiled(nogil=True)\ndef twice(value):\n    return 2 * value\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where numba is told to keep what it compiles."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "kept"))
    return tmp_path / "kept"


def imported(folder: Path) -> Callable[[int], Any]:
    """Import the function anew, as another process does."""
    (folder / "module.py").write_text(SOURCE)
    about = importlib.util.spec_from_file_location("module", folder / "module.py")
    assert about is not None
    assert about.loader is not None
    module = importlib.util.module_from_spec(about)
    about.loader.exec_module(module)
    function: Callable[[int], Any] = module.twice
    return function


def test_a_function_is_compiled_once(tmp_path: Path, place: Path) -> None:
    first = imported(tmp_path)
    assert first(3) == 6
    assert sorted(path.suffix for path in place.rglob("*.nb?")) == [".nbc", ".nbi"]
    second: Any = imported(tmp_path)
    assert second(3) == 6
    assert sum(second.stats.cache_hits.values()) == 1


def test_no_place_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", "/dev/null/numba")
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    # A file where Python has a folder.
    (tmp_path / "__pycache__").write_text("")
    function: Any = imported(tmp_path)
    assert function(3) == 6
    assert function.stats.cache_path is None


def test_a_place_that_is_gone_when_it_is_needed(tmp_path: Path, place: Path) -> None:
    function = imported(tmp_path)
    shutil.rmtree(place)
    place.write_text("")
    assert function(3) == 6


def test_a_place_that_cannot_be_read(tmp_path: Path, place: Path) -> None:
    assert imported(tmp_path)(3) == 6
    (kept,) = place.rglob("*.nbc")
    kept.unlink()
    kept.mkdir()
    assert imported(tmp_path)(3) == 6

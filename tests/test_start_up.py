"""What a fresh process loads: libraries that train, fit, test or draw are loaded by what uses them, and not before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.helpers import recmia

# Each takes a good part of a second to load, or brings compiled code with it.
LARGE = (
    "altair",
    "numba",
    "pandas",
    "pooch",
    "pyarrow",
    "scipy.optimize",
    "scipy.stats",
    "sklearn",
    "torch",
    "vl_convert",
)
LOADED = f"import sys; print(*(name for name in {LARGE} if name in sys.modules))"


def loaded(program: str, *arguments: str) -> list[str]:
    """The large libraries that a program loads in a fresh interpreter."""
    command = [sys.executable, "-c", f"{program}; {LOADED}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.splitlines()[-1].split()


@pytest.mark.parametrize(
    "program",
    [
        "import recmia",
        "import recmia; recmia.audit",
        "import recmia.cli",
        "import recmia.results.audit, recmia.results.files, recmia.results.folder, recmia.results.gate",
        "import recmia.game.run, recmia.game.tasks",
        "from recmia.attacks import ATTACKS; ATTACKS['naive-bayes']",
    ],
)
def test_an_import_loads_nothing_large(program: str) -> None:
    assert loaded(program) == []


def test_what_is_watched_is_what_is_loaded() -> None:
    """The test above would see a library that an import brings."""
    assert "scipy.stats" in loaded("import sklearn.ensemble")
    assert "numba" in loaded("import recmia.engine.sgd")


@pytest.mark.end_to_end
def test_a_command_that_finds_everything_stored_loads_nothing_large(tmp_path: Path) -> None:
    (tmp_path / "histories.csv").write_text(
        "user,item\n" + "".join(f"{user},{(user * step) % 89}\n" for user in range(1, 81) for step in range(1, 26))
    )
    arguments = ["audit", "-d", "histories.csv", "--seeds", "2", "--k", "5", "--factors", "4", "--attacks", "mlp",
                 "--store", "store", "--jobs", "1"]  # fmt: skip
    first = recmia(*arguments, "--out", "first", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    program = f"from recmia.cli import main\ntry:\n    main({[*arguments, '--out', 'second']})\nexcept SystemExit: pass"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{LOADED}"],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1].split() == []
    for name in ("scores.parquet", "metrics.json", "roc.png", "roc.svg"):
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()

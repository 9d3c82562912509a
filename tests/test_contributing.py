"""The plug-ins that CONTRIBUTING shows are complete, short, and do what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLUG_INS = re.findall(r"^```python\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL)
# What each prints, in the order in which they stand.
PRINTED = {
    "attack": r"fold-in\n    list-features +looks +0\.\d{3} \[",
    "recommender": r"fold-in\n    mlp +looks +0\.\d{3} \[",
    "metric": r"fold-in, mlp: [01]\.\d\d \[",
    "defence": r"hide-rare=20",
}


def test_there_is_one_of_each() -> None:
    assert len(PLUG_INS) == len(PRINTED)


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("name", "words", "program"), [(*one, text) for one, text in zip(PRINTED.items(), PLUG_INS, strict=False)]
)
def test_a_plug_in_of_at_most_30_lines_runs_as_it_stands(name: str, words: str, program: str, tmp_path: Path) -> None:
    assert len(program.splitlines()) <= 30
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert re.search(words, done.stdout), f"{name}: {done.stdout}"


@pytest.mark.end_to_end
def test_a_name_in_place_of_the_object_would_fail(tmp_path: Path) -> None:
    program = PLUG_INS[0].replace("ListFeatures(), ", '"list-features", ')
    assert program != PLUG_INS[0]
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "unknown attack 'list-features'" in done.stderr


def test_the_packages_that_the_table_names_exist() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("| package | holds |")[2].partition("\n\n")[0]
    places = re.findall(r"`([a-z.]+)(/?)`", "".join(line.split("|")[1] for line in table.splitlines()[2:]))
    assert places
    for name, slash in places:
        name = name.removesuffix(".py")
        here = ROOT / "src" / "recmia" / name
        assert here.is_dir() if slash else here.with_suffix(".py").is_file(), name

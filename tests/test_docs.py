"""What the README and the docs tell users to type is typed here, and what they print is compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands() -> list[tuple[str, str]]:
    return [
        (page.name, "\n".join(line.removeprefix("$ ") for line in block.splitlines()))
        for page in PAGES
        for block in blocks(page, "console")
    ]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, movielens_folder: Path) -> tuple[Path, dict[str, str]]:
    """A folder to type in, and an environment in which `recmia` and `python` are the ones under test."""
    folder = tmp_path_factory.mktemp("typed")
    programs = folder / "bin"
    programs.mkdir()
    for name, program in (
        ("recmia", f"{sys.executable} -c 'from recmia.cli import main; main()'"),
        ("python", sys.executable),
    ):
        (programs / name).write_text(f'#!/bin/sh\nexec {program} "$@"\n')
        (programs / name).chmod(0o755)
    rows = [f"{user},{(7 * user + item * item) % 997}" for user in range(60) for item in range(60)]
    (folder / "ratings.csv").write_text("who,what\n" + "\n".join(rows) + "\n")
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "100", "NO_COLOR": "1"}
    return folder, environment | {"RECMIA_DATA": str(movielens_folder.parent)}


@pytest.mark.end_to_end
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_run_as_written(page: Path, workplace: tuple[Path, dict[str, str]]) -> None:
    folder, environment = workplace
    for name, block in commands():
        if name != page.name or re.search(r"^make |\.venv", block, re.MULTILINE):
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stderr}"


@pytest.mark.end_to_end
@pytest.mark.parametrize("page", [page for page in PAGES if page.parent != ROOT], ids=lambda page: page.name)
def test_python_runs_as_written(page: Path, workplace: tuple[Path, dict[str, str]]) -> None:
    folder, environment = workplace
    for script in blocks(page, "python"):
        # RecTools has an environment of its own, where tests/recommenders/test_rectools.py runs these.
        if "rectools" in script:
            continue
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{script}\n{done.stderr}"


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = [*PAGES, ROOT / "CONTRIBUTING.md"]
    named = {target for page in pages for target in re.findall(r"(?:`|\$ )make ([a-z-]+)", page.read_text())}
    assert named
    assert named <= targets


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, *(ROOT / "docs" / "api").glob("*.md"), ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def assert_same_but_for_rounding(shown: str, printed: str) -> None:
    """Equal words; numbers may differ a little, as they do between processors."""
    number = re.compile(r"\d+\.\d+")
    words = [" ".join(number.sub("#", text).split()) for text in (shown, printed)]
    assert words[0] == words[1]
    pairs = zip(number.findall(shown), number.findall(printed), strict=True)
    assert [pair for pair in pairs if abs(float(pair[0]) - float(pair[1])) > 0.02] == []


@pytest.mark.end_to_end
def test_the_readme_shows_what_is_printed(workplace: tuple[Path, dict[str, str]]) -> None:
    folder, environment = workplace
    command = ["recmia", "audit", "--out", "readme-run"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    shown = blocks(ROOT / "README.md", "text")[0]
    assert_same_but_for_rounding(shown, done.stdout.replace("readme-run", "run"))
    text = (ROOT / "README.md").read_text()
    assert "mlp" in "\n".join(text.splitlines()[:40]), "the result of the main command stands by line 40"


@pytest.mark.end_to_end
def test_the_readme_shows_what_python_prints(workplace: tuple[Path, dict[str, str]]) -> None:
    folder, environment = workplace
    (script,) = blocks(ROOT / "README.md", "python")
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert_same_but_for_rounding(blocks(ROOT / "README.md", "text")[1], done.stdout)


def test_comparison_can_fail() -> None:
    assert_same_but_for_rounding("AUC 0.500 here", "AUC  0.510 here")
    for other in ("AUC 0.560 here", "AUC 0.500 there", "AUC here"):
        with pytest.raises(AssertionError):
            assert_same_but_for_rounding("AUC 0.500 here", other)


def test_no_two_commands_write_one_folder() -> None:
    found = [out for _, block in commands() for out in re.findall(r"(?:--out|-o) (\S+)", block)]
    assert sorted(found) == sorted(set(found)), "a user who types all pages in one folder would be refused"

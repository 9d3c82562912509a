"""What is shipped: a wheel and an sdist that run outside of the checkout, and the files that other programs read."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from recmia.errors import pip_command
from tests.engine.test_parallel import INTERRUPTED, group_is_gone, wait_until
from tests.test_docs import PAGES

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAMED = [name.removeprefix("Programming Language :: Python :: ") for name in PROJECT["classifiers"] if "3." in name]
# In place of pip, which takes ten times as long. It reads no constraints, and the certificates of the system.
UV = {"UV_NATIVE_TLS": "1", "UV_NO_PROGRESS": "1"}


def run(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="session")
def uv(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Run uv, which is installed for these tests alone."""
    folder = tmp_path_factory.mktemp("uv")
    words = ["-m", "pip", "--disable-pip-version-check", "install", "--target", str(folder), "uv"]
    brought = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    if brought.returncode:
        pytest.skip(f"no package index brings uv: {brought.stderr.strip().splitlines()[-1]}")

    def call(*words: str | Path, cwd: Path) -> None:
        run(folder / "bin" / "uv", *words, cwd=cwd, env={**os.environ, **UV})

    return call


@pytest.fixture(scope="session")
def shipped(uv: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the sdist of this checkout; the wheel is made of it, and not of the sdist."""
    folder = tmp_path_factory.mktemp("shipped")
    uv("build", "--wheel", "--sdist", "--out-dir", folder, ROOT, cwd=folder)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder that any user can read, far from the checkout."""
    with tempfile.TemporaryDirectory(prefix="recmia-installed-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def interpreter(version: str, folder: Path) -> Path:
    """A Python that any user can run; one in somebody's home is copied."""
    try:
        # pyenv, where it brings Python, has to be told which.
        asked = {"env": {**os.environ, "PYENV_VERSION": version}, "cwd": folder}
        words = run(f"python{version}", "-c", "import sys; print(sys.base_prefix)", **asked).stdout
    except (AssertionError, FileNotFoundError):
        pytest.skip(f"python{version}, which pyproject.toml names, is not on this machine")
    prefix = Path(words.strip())
    if not all(place.stat().st_mode & 0o001 for place in (prefix, *prefix.parents)):
        copied = folder / "python"
        needless = shutil.ignore_patterns("site-packages", "test", "tests", "__pycache__", "*.a", "include", "share")
        shutil.copytree(prefix, copied, symlinks=True, ignore=needless)
        prefix = copied
    return prefix / "bin" / f"python{version}"


@pytest.mark.end_to_end
def test_the_sdist_makes_the_same_wheel(shipped: tuple[Path, Path], uv: Callable[..., None], tmp_path: Path) -> None:
    wheel, sdist = shipped
    uv("build", "--wheel", "--out-dir", tmp_path, sdist, cwd=tmp_path)
    (again,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        names = sorted(one.namelist())
        assert names == sorted(other.namelist())
        assert all(one.read(name) == other.read(name) for name in names)
        assert {"recmia/py.typed", "recmia/render/page.html.j2", "recmia/render/page.css"} <= set(names)
        assert {name.partition("/")[0] for name in names} == {"recmia", f"recmia-{PROJECT['version']}.dist-info"}


@pytest.mark.end_to_end
@pytest.mark.parametrize("version", [NAMED[0], NAMED[-1]])
def test_another_user_runs_what_is_installed(
    version: str, shipped: tuple[Path, Path], uv: Callable[..., None], elsewhere: Path
) -> None:
    """The newest versions of all packages, no constraints, and nothing of the checkout."""
    run(interpreter(version, elsewhere), "-m", "venv", "--without-pip", elsewhere / "installed")
    programs = elsewhere / "installed" / "bin"
    uv("pip", "install", "--python", programs / "python", f"{shipped[0]}[demo]", cwd=elsewhere)
    (elsewhere / "home").mkdir()
    other: dict[str, Any] = {}
    if os.geteuid() == 0:
        os.chown(elsewhere / "home", 65534, 65534)
        other = {"user": 65534, "group": 65534, "extra_groups": []}
    # A copied Python looks for its library where it came from.
    paths = {"PATH": f"{programs}:/usr/bin:/bin", "LD_LIBRARY_PATH": str(elsewhere / "python" / "lib")}
    # Where Python may write what it compiles, as where it is installed it may not.
    paths |= {"HOME": str(elsewhere / "home"), "PYTHONPYCACHEPREFIX": str(elsewhere / "home" / "compiled")}
    place: dict[str, Any] = {"cwd": elsewhere / "home", "env": paths, **other}
    found = run("python", "-c", "import recmia; print(recmia.__file__)", **place).stdout
    assert Path(found.strip()).is_relative_to(elsewhere)
    done = run("recmia", "audit", "--seeds", "1", "--out", "run", **place)
    assert "Leaks. The recommendations reveal who was in the training data." in done.stdout
    assert (elsewhere / "home" / "run" / "metrics.json").is_file()
    # Workers end where there are no programs of the system, such as pgrep, either.
    place["env"] = {**paths, "PATH": str(programs)}
    with subprocess.Popen(
        ["python", "-c", INTERRUPTED, "asleep"], stderr=subprocess.PIPE, start_new_session=True, text=True, **place
    ) as running:
        try:
            wait_until(lambda: len([*place["cwd"].glob("started-*")]) == 2, "no worker started")
            running.terminate()
            _, errors = running.communicate(timeout=30)
            assert errors.splitlines()[-1] == "KeyboardInterrupt"
        finally:
            if not group_is_gone(running.pid):
                os.killpg(running.pid, signal.SIGKILL)


@pytest.mark.parametrize("extra", sorted({*PROJECT["optional-dependencies"]} - {"bench", "dev", "docs"}))
def test_a_hint_brings_the_packages_of_an_extra(extra: str) -> None:
    command = pip_command(extra).replace("'", "").split()
    assert command[:2] == ["pip", "install"]
    assert sorted(command[2:]) == sorted(PROJECT["optional-dependencies"][extra])


def test_nobody_is_told_to_take_recmia_from_an_index() -> None:
    texts = [*PAGES, ROOT / "action.yml", ROOT / "Dockerfile", *(ROOT / "src").rglob("*.py")]
    for path in texts:
        text = " ".join(path.read_text().split()).replace("`pip install recmia` does not bring it", "")
        assert not re.findall(r"pip install '?recmia", text), path


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])


def test_the_image_is_made_of_what_is_there_and_runs_as_nobody_special() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [name for line in lines if re.match("COPY (?!--)", line) for name in line.split()[1:-1]]
    allowed = (ROOT / ".dockerignore").read_text().split()
    assert copied
    assert all((ROOT / name).exists() and f"!{name}" in allowed for name in copied)
    images = {line.split()[1] for line in lines if line.startswith("FROM")}
    assert images == {f"python:{NAMED[0]}-slim"}, "the version that is tested"
    user, entry = (next(n for n, line in enumerate(lines) if line.startswith(word)) for word in ("USER", "ENTRYPOINT"))
    assert lines[user] != "USER root"
    assert user < entry


def steps() -> dict[str, Any]:
    """The steps of the action that are scripts, by name."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    assert action["runs"]["using"] == "composite"
    return {step["name"]: step for step in action["runs"]["steps"] if "run" in step}


def test_the_action_puts_no_input_into_a_script() -> None:
    """Words that a workflow passes on from a pull request would be run."""
    assert set(steps()) == {"Install", "Audit", "Page"}
    assert not [name for name, step in steps().items() if "${{" in step["run"]]


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("limit", "code"),
    [("--fail-above auc=1", 0), ("--require-below 'auc=0.5'", 1), ("--fail-above 'auc=$(touch hurt)0.6'", 2)],
    ids=["passes", "fails", "evaluates nothing"],
)
def test_the_action_audits_and_makes_a_page(tmp_path: Path, limit: str, code: int) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "recmia").write_text(f'#!/bin/sh\nexec {sys.executable} -m recmia "$@"\n')
    (tmp_path / "bin" / "recmia").chmod(0o755)
    arguments = f"-d synthetic:120x200x6000 --factors 8 -k 10 --seeds 1 --regimes fold-in\n--attacks distance {limit}"
    inputs = {"ARGUMENTS": arguments, "FOLDER": "privacy audit"}
    environment = {**os.environ, **inputs, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    codes = []
    for name in ("Audit", "Page"):
        # As GitHub runs `shell: bash`.
        words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", steps()[name]["run"]]
        codes.append(subprocess.run(words, cwd=tmp_path, env=environment, check=False).returncode)
    assert codes == [code, 0]
    written = {path.name for path in (tmp_path / "privacy audit").iterdir()}
    assert written == ({"run", "gate.xml", "gate.json", "report.html"} if code < 2 else set())
    assert not (tmp_path / "hurt").exists()

"""The import contracts of `pyproject.toml`: they hold, and an import that is not allowed breaks them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAM = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the contracts read."""
    for name in ("src", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(checkout: Path) -> tuple[int, str]:
    """The exit status of lint-imports for a copy, and what it prints. The copy is found before what is installed."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--no-cache"],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": f"{checkout / 'src'}{os.pathsep}{checkout}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def plant(checkout: Path, module: str, imported: str) -> None:
    """Put an import at the end of a module."""
    path = checkout / "src" / Path(*module.split(".")).with_suffix(".py")
    path.write_text(f"{path.read_text()}\nimport {imported}  # planted\n")


def test_the_code_keeps_the_contracts(checkout: Path) -> None:
    status, printed = lint(checkout)
    assert status == 0, printed
    assert "0 broken" in printed


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        pytest.param("recmia.engine.ranking", "recmia.render.text", id="upwards"),
        pytest.param("recmia.attacks.rules", "recmia.game.split", id="an attack that knows the true split"),
        pytest.param("recmia.attacks.rules", "recmia.recommenders.base", id="an attack that knows the model"),
        pytest.param("recmia.metrics.roc", "recmia.attacks.base", id="a metric that knows the attack"),
        # The layers allow these, and no contract forbids them by name: only what is listed may be imported.
        pytest.param("recmia.metrics.roc", "recmia.provenance", id="not listed for metrics"),
        pytest.param("recmia.attacks.rules", "recmia.cache", id="not listed for attacks"),
        pytest.param("recmia.observation", "recmia.seeding", id="not listed for observations"),
    ],
)
def test_an_import_that_is_not_allowed_breaks_a_contract(checkout: Path, module: str, imported: str) -> None:
    plant(checkout, module, imported)
    status, printed = lint(checkout)
    assert status == 1, printed
    assert f"{module} imports {imported}" in printed or f"{module} -> {imported}" in printed, printed


def test_a_new_module_is_forbidden_to_attacks_until_it_is_listed(checkout: Path) -> None:
    (checkout / "src" / "recmia" / "newcomer.py").write_text("")
    plant(checkout, "recmia.attacks.rules", "recmia.newcomer")
    status, printed = lint(checkout)
    assert status == 1, printed
    assert "recmia.attacks.rules imports recmia.newcomer" in printed


def test_an_import_that_is_allowed_breaks_nothing(checkout: Path) -> None:
    plant(checkout, "recmia.metrics.roc", "recmia.seeding")
    status, printed = lint(checkout)
    assert status == 0, printed

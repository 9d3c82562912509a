"""What a terminal of any width shows, what a program reads, and what is to be typed next."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recmia.cli.commands import _after_audit
from recmia.settings import AuditSettings
from tests.cli.helpers import PROGRAM, Here, recmia

pytestmark = pytest.mark.end_to_end

SMALL = ["-l", "8", "-k", "10", "--n-shadows", "8", "--store", "store", "--jobs", "1"]
DATA = "synthetic:120x200x6000"
AUDIT = ["--dataset", DATA, "--seeds", "1", "--lfm-epochs", "2", "--attacks", "mlp", *SMALL]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of an audit of ours, and some of its non-members as those who were deleted."""
    folder = tmp_path_factory.mktemp("files")
    done = recmia(
        "export-files", *AUDIT, "--regimes", "fold-in", "--attacks", "completion", "-o", "of-ours", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    table = (folder / "of-ours" / "members.csv").read_text().splitlines()
    left_out = [line.partition(",")[0] for line in table[1:] if line.endswith(",0")]
    (folder / "deleted.csv").write_text("\n".join(["user", *left_out[:15]]) + "\n")
    return folder


COMMANDS: dict[str, list[str]] = {
    "audit": ["audit", DATA, *AUDIT[2:], "--held-out", "0.2", "--regimes", "fold-in", "--attacks", "mlp,completion"],
    "interactions": [
        "audit", "synthetic:200x300x9000", "--unit", "interactions", "--recommender", "ease", "-k", "20",
        "--attacks", "item-completion", "--references", "itemknn", "--seeds", "1", "--store", "store",
    ],
    "sweep": ["sweep", "k=5,10", "lfm.epochs=1,2", "factors=4,8", *AUDIT],
    "matrix": ["matrix", DATA, "--recommenders", "lfm,ease", "--shadows", "lfm,ease", *AUDIT[2:]],
    "defend": ["defend", DATA, "--defences", "gumbel=400+shorter-lists=7,shorter-lists=5", *AUDIT[2:]],
    "reproduce": ["reproduce", "hu2023", "--panels", "fig1", "--seeds", "1", "-d", DATA, "--store", "store"],
}  # fmt: skip


def numbers(shown: str) -> set[str]:
    return set(re.findall(r"\d[\d.,]*\d|\d", shown))


@pytest.mark.parametrize("command", COMMANDS)
def test_no_digit_is_lost_at_any_width(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here, shown = Here(tmp_path, monkeypatch, capsys), {}
    for width in (300, 100, 80, 60, 40):
        monkeypatch.setenv("COLUMNS", str(width))
        done = here(*COMMANDS[command], "-o", f"run-{width}")
        assert done.returncode == 0, done.stderr
        # Where the results are is for copying.
        table = done.stdout.partition("\nwritten to run")[0]
        shown[width] = "\n".join(line.rstrip() for line in table.splitlines())
    for width in (100, 80, 60, 40):
        assert numbers(shown[width]) == numbers(shown[300]), width
        assert "…" not in shown[width]
        rows = [line for line in shown[width].splitlines() if re.search(r"\[[\d.–]+\]$|^ ─+$", line)]
        assert rows
        assert max(map(len, rows)) <= width
    if command != "reproduce":
        recommender = {"interactions": "ease", "matrix": "lfm, ease"}.get(command, "lfm")
        data = "synthetic:200x300x9000" if command == "interactions" else DATA
        assert f"{recommender} on {data}\n" in shown[300]


def alone(text: str) -> dict[str, Any]:
    """The object that is all of a text; refuses what is no JSON, such as NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    found = json.loads(text, parse_constant=refuse)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("command", ["audit", "interactions", "sweep", "matrix", "defend"])
def test_json_is_alone_on_stdout_and_is_what_the_folder_holds(command: str, tmp_path: Path) -> None:
    done = recmia(*COMMANDS[command], "--format", "json", "-o", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found, folder = alone(done.stdout), tmp_path / "run"
    assert found["folder"] == "run"
    for path in folder.glob("*.json"):
        assert found[path.stem] == json.loads(path.read_text())
    assert ("table" in found) == (folder / "table.csv").is_file()
    assert found["settings"]["seeds"] == 1
    assert "written to run (" in done.stderr
    assert "next: recmia" in done.stderr
    if command == "defend":
        assert {row["defence"] for row in found["table"]} >= {"none", "popularity-only", "shorter-lists=5"}
        assert "\n".join(found["findings"]) == (folder / "advice.txt").read_text().strip()
    if command == "audit":
        assert found["findings"][0].startswith(("Leaks", "Not tested", "Too few", "Little", "Nothing"))
        assert any(math.isclose(row["value"] or -1, 0.5) for row in found["metrics"])


@pytest.mark.parametrize("limit", ["auc=0.999", "auc=0.5"])
def test_json_holds_what_the_gate_found(limit: str, tmp_path: Path) -> None:
    done = recmia("audit", *AUDIT, "--fail-above", limit, "--format", "json", "-o", "run", cwd=tmp_path)
    assert done.returncode == (limit == "auc=0.5")
    assert alone(done.stdout)["gate"]["passed"] == (done.returncode == 0)
    assert "gate: " in done.stderr


@pytest.mark.parametrize("kind", ["audit-files", "forget"])
def test_json_of_files(kind: str, files: Path) -> None:
    of_ours = ["--interactions", "of-ours/interactions.parquet", "--questions", "of-ours/questions",
               "--answers", "of-ours/answers.parquet", "--store", "store", "--name", "Acme"]  # fmt: skip
    named = {
        "audit-files": ["--members", "of-ours/members.csv", "--attacks", "completion"],
        "forget": ["--members", "of-ours/members.csv", "--deleted", "deleted.csv", "--references", "itemknn"],
    }[kind]
    done = recmia(kind, *of_ours, *named, "--format", "json", "-o", kind, cwd=files)
    assert done.returncode < 2 or "no power" in done.stderr, done.stderr
    found = alone(done.stdout)
    assert found["settings"]["name"] == "Acme"
    assert found["metrics"]
    assert ("forget" in found) == (kind == "forget")
    assert "Acme on of-ours/interactions.parquet" in done.stderr


def next_of(stdout: str) -> list[str]:
    (line,) = [line for line in stdout.splitlines() if line.startswith("next: ")]
    return shlex.split(line.removeprefix("next: "))


REPORT = "recmia report 'a run' --out 'a run.html'"
LEAKY = ["--lfm-epochs", "60", "--attacks", "query-lr"]


@pytest.mark.parametrize(
    ("arguments", "then"),
    [
        (["audit", *AUDIT, "--regimes", "fold-in", *LEAKY], ["defend", "--config", "a run/config.toml"]),
        (["audit", *AUDIT, "--regimes", "fold-in"], ["report", "a run"]),
        # What leaks there is what strangers are shown, and no defence of the model changes it.
        (["audit", *AUDIT, "--regimes", "popular"], ["report", "a run"]),
        (["sweep", "k=5,10", *AUDIT], ["report", "a run"]),
        (["defend", "--defences", "shorter-lists=5", *AUDIT], ["report", "a run"]),
    ],
    ids=["leaks", "little", "of the lists", "sweep", "defend"],
)
def test_the_next_command_runs_as_it_is_printed(arguments: list[str], then: list[str], tmp_path: Path) -> None:
    done = recmia(*arguments, "-o", "a run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    program, *words = next_of(done.stdout)
    assert program == "recmia"
    assert words[: len(then)] == then
    more = ["--defences", "shorter-lists=5", "--store", "store", "-o", "next"] if words[0] == "defend" else []
    after = recmia(*words, *more, cwd=tmp_path)
    assert after.returncode == 0, after.stderr
    if words[0] == "report":
        assert (tmp_path / "a run.html").is_file()


@pytest.mark.parametrize(
    ("settings", "grade", "regime", "then"),
    [
        ({}, "strong", "fold-in", "recmia defend --config 'a run/config.toml' --held-out 0.2"),
        ({"held_out": 0.3}, "marked", "fold-in", "recmia defend --config 'a run/config.toml' --held-out 0.3"),
        ({"recommender": "popularity"}, "strong", "fold-in", REPORT),
        ({"defence": "shorter-lists=5"}, "strong", "fold-in", REPORT),
        ({}, "unclear", "fold-in", REPORT),
        ({}, "strong", "popular", REPORT),
    ],
)
def test_defences_are_named_only_where_they_can_be_tried(
    settings: dict[str, Any], grade: str, regime: str, then: str
) -> None:
    found = SimpleNamespace(sections=[SimpleNamespace(grade=grade, regime=regime)])
    result: Any = SimpleNamespace(findings=found, settings=AuditSettings.parse(settings))
    assert _after_audit(Path("a run"), result) == then


@pytest.mark.parametrize("given", [[DATA], ["--dataset", DATA], [DATA, "-d", DATA]])
def test_the_data_need_no_option(given: list[str], tmp_path: Path) -> None:
    done = recmia("audit", *given, *AUDIT[2:], "--regimes", "fold-in", "-o", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f'dataset = "{DATA}"' in (tmp_path / "run" / "config.toml").read_text()


# Completion.
def completed(shell: str, typed: str, cwd: Path) -> list[str]:
    words = typed.split(" ")
    asked = {
        "bash": {"COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": typed},
    }[shell]
    environment = {**os.environ, "_RECMIA_COMPLETE": f"complete_{shell}", **asked}
    done = subprocess.run(PROGRAM, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return re.findall(r'"([\w-]+)":', done.stdout) if shell == "zsh" else done.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("recmia aud", ["audit", "audit-files"]),
        ("recmia mat", ["matrix"]),
        ("recmia audit --n-", ["--n-targets", "--n-audited", "--n-shadows"]),
        ("recmia matrix --rec", ["--recommenders"]),
        ("recmia forget --del", ["--deleted", "--deleted-columns"]),
    ],
)
def test_every_command_and_its_options_are_completed(shell: str, typed: str, found: list[str], tmp_path: Path) -> None:
    assert completed(shell, typed, tmp_path) == found


@pytest.mark.parametrize(
    ("shell", "file", "profile"),
    [("bash", ".bash_completions/recmia.sh", ".bashrc"), ("zsh", ".zfunc/_recmia", ".zshrc")],
)
@pytest.mark.parametrize("program", [["recmia"], PROGRAM], ids=["installed", "module"])
def test_completion_is_installed(shell: str, file: str, profile: str, program: list[str], tmp_path: Path) -> None:
    """The shell is that which calls; any can be named so."""
    (tmp_path / shell).symlink_to("/bin/bash")
    (tmp_path / "recmia").write_text(f"#!{sys.executable}\nfrom recmia.cli import main\nmain()\n")
    (tmp_path / "recmia").chmod(0o755)
    typed = shlex.join([*program, "--install-completion"])
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        [str(tmp_path / shell), "-c", f"{typed}; exit $?"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    script = (tmp_path / file).read_text()
    assert "_RECMIA_COMPLETE=complete_" in script
    assert (tmp_path / profile).is_file()

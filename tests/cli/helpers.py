"""The program, as a process of its own and within the process of the test."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from recmia.cli import main

PROGRAM = [sys.executable, "-m", "recmia"]


def recmia(*arguments: str, cwd: Path, columns: int = 120, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run the program."""
    environment = {**os.environ, "COLUMNS": str(columns), "NO_COLOR": "1"}
    return subprocess.run(
        [*PROGRAM, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


@dataclass(frozen=True)
class Ended:
    """What a run of the program left, as of `subprocess`."""

    returncode: int
    stdout: str
    stderr: str


class Here:
    """Runs the program within this process, in a folder: what ends at once takes no second to start."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]) -> None:
        self._captured = captured
        patch.chdir(folder)
        patch.setenv("COLUMNS", "160")
        patch.setenv("NO_COLOR", "1")

    def __call__(self, *arguments: str) -> Ended:
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        told = self._captured.readouterr()
        code = stop.value.code
        return Ended(code if isinstance(code, int) else int(code is not None), told.out, told.err)

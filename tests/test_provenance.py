"""How much memory was used, as `run.json` says it."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import subprocess, sys
from recmia.provenance import peak_memory

before = peak_memory()
child = subprocess.Popen(
    [sys.executable, "-c", "kept = bytes([1]) * 300_000_000; print(len(kept), flush=True); input()"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
)
child.stdout.readline()
print(before, peak_memory())
child.communicate(b"\\n")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells the memory of other processes")
def test_processes_that_were_started_count() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    before, after = map(int, done.stdout.split())
    assert 0 < before < 300_000_000 < after < 400_000_000

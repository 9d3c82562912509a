"""Processes that users start themselves, by each way that Python has."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

# After a first audit, or a first table of polars; without one, a fork is as good as any process.
PROGRAM = """
import multiprocessing, sys

def work(kind):
    import recmia
    from recmia.errors import ConfigError
    try:
        if kind == "audit":
            recmia.audit("synthetic:120x200x6000", attacks=["distance"], factors=8, k=10, seeds=1, regimes=["fold-in"])
        elif kind == "file":
            recmia.audit("log.csv", attacks=["distance"])
        elif kind == "run":
            recmia.read_run("run")
        else:
            recmia.Interactions.from_arrays([1, 2] * 5000, [1, 2] * 5000)
    except ConfigError as error:
        print(error, flush=True)
    else:
        print("done", flush=True)

if __name__ == "__main__":
    method, before, kind = sys.argv[1:]
    if before == "audit":
        work("audit")
    elif before == "polars":
        import polars, recmia.api
        polars.DataFrame({"a": range(10_000)}).sort("a", descending=True)
    else:
        import recmia.api
    process = multiprocessing.get_context(method).Process(target=work, args=(kind,))
    process.start()
    process.join(60)
    if process.is_alive():
        print("hangs", flush=True)
        process.kill()
"""


def told(folder: Path, *arguments: str) -> str:
    (folder / "program.py").write_text(PROGRAM)
    (folder / "log.csv").write_text("user,item\n" + "".join(f"{n % 60},{n % 7}\n" for n in range(5000)))
    done = subprocess.run(
        [sys.executable, "program.py", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.end_to_end
@pytest.mark.skipif(sys.platform != "linux", reason="threads can be seen on Linux alone")
@pytest.mark.parametrize(
    ("before", "kind"),
    [("audit", "audit"), ("audit", "file"), ("audit", "run"), ("audit", "arrays"), ("polars", "audit")],
)
def test_a_fork_that_would_hang_is_refused(tmp_path: Path, before: str, kind: str) -> None:
    words = told(tmp_path, "fork", before, kind)
    assert words.startswith("this process was forked from one in which recmia or polars had worked")
    assert "get_context('spawn')" in words


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("method", "before"), [("spawn", "audit"), ("forkserver", "audit"), ("spawn", "polars"), ("fork", "import")]
)
def test_other_processes_work(tmp_path: Path, method: str, before: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    assert told(tmp_path, method, before, "audit") == "done"

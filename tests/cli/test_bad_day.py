"""A bad day: places that cannot be written, streams that fail, full disks, and names that are taken."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

import recmia as package
from recmia.atomic import reserved
from tests.cli.helpers import PROGRAM

pytestmark = pytest.mark.end_to_end

DATA = "synthetic:120x200x6000"
AUDIT = [
    "audit", "-d", DATA, "-l", "8", "-k", "10", "--seeds", "1", "--lfm-epochs", "2", "--regimes", "popular",
    "--attacks", "distance", "--no-thresholds", "--jobs", "1",
]  # fmt: skip
# An attack by the distance finds so many of the members of a popular regime that this gate fails.
FAILING = ["--fail-above", "auc=0.51"]
NOBODY = 65534


def run(
    *arguments: str,
    cwd: Path,
    before: tuple[str, ...] = (),
    environment: Mapping[str, str | None] = {},
    stdout: int = subprocess.PIPE,
    encoding: str = "utf-8",
    limit: Callable[[], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the program, under another program, with other variables (None: without it), or to another output."""
    variables = {"COLUMNS": "160", "NO_COLOR": "1", **os.environ, **environment}
    return subprocess.run(
        [*before, *PROGRAM, *arguments],
        cwd=cwd, stdout=stdout, stderr=subprocess.PIPE, encoding=encoding, timeout=240, check=False,
        preexec_fn=limit,
        env={name: value for name, value in variables.items() if value is not None},
    )  # fmt: skip


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def failures(junit: str) -> int:
    return len(ElementTree.fromstring(junit).findall(".//failure"))


# ---- No place that can be written to ----

NO_CACHE = {"HOME": None, "XDG_CACHE_HOME": None, "NUMBA_CACHE_DIR": None}


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The package where nobody may write, its caches neither there nor in its folders for them."""
    to = tmp_path / "installed"
    shutil.copytree(Path(package.__file__).parent, to / "recmia", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [path for path in to.rglob("*") if path.is_dir()]:
        folder.chmod(0o555)
    return to


@pytest.fixture
def another_user(tmp_path: Path) -> Iterator[tuple[tuple[str, ...], Path]]:
    """What runs a program as a user who owns nothing, and a folder of that user; root alone can, so else as we are."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    if os.geteuid():
        yield (), folder
        return
    os.chown(folder, NOBODY, NOBODY)
    # It may read what is only for us, as the interpreter may be, and write nothing of ours.
    reads = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    yield ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *reads), folder


@pytest.mark.parametrize(
    "arguments", [["--version"], ["data", DATA], ["doctor"], [*AUDIT, "-o", "run"]], ids=lambda words: words[0]
)
def test_installed_read_only_without_a_home(
    arguments: list[str], installed: Path, another_user: tuple[tuple[str, ...], Path]
) -> None:
    user, folder = another_user
    # Without the variable, the home is looked up: another user's is not there, and ours is not to be written to.
    places = {**NO_CACHE, "HOME": None if user else "/nonexistent", "PYTHONPATH": str(installed)}
    done = run(*arguments, cwd=folder, before=user, environment=places)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    if arguments[0] == "audit" and user:
        assert "cannot be used (Permission denied), so the next run computes all anew; name a folder: --store" in (
            done.stdout
        )
        assert names(folder) == ["run"]


@pytest.mark.parametrize("variables", [{"HOME": "/dev/null"}, {"HOME": "/proc"}, {"XDG_CACHE_HOME": "/dev/null"}])
def test_a_cache_that_cannot_be_made_is_a_note(variables: dict[str, str], tmp_path: Path) -> None:
    """As whoever may write everywhere: a file is no folder."""
    places = {**NO_CACHE, "NUMBA_CACHE_DIR": "/dev/null/numba", **variables}
    done = run(*AUDIT, *FAILING, "-o", "run", cwd=tmp_path, environment=places)
    assert done.returncode == 1, done.stderr
    assert "note: the cache" in done.stdout
    assert names(tmp_path) == ["run"]


def test_a_named_store_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    done = run(*AUDIT, "--store", "/dev/null/store", "-o", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "error: cannot read the store /dev/null/store: Not a directory; name another"
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("fault", "code"),
    [("EOFError('gone')", 3), ("BrokenPipeError(32, 'Broken pipe')", 2), ("KeyError('gone')", 3)],
)
@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_1_is_for_the_gate_alone(tmp_path: Path, fault: str, code: int, debug: list[str]) -> None:
    """Typer ends with 1 where a file or a pipe ends, as Python does after a traceback."""
    (tmp_path / "program.py").write_text(
        "import recmia.data.datasets\nfrom recmia.cli import main\n\n\n"
        f"def load(*args, **named):\n    raise {fault}\n\n\n"
        "recmia.data.datasets.load = load\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "program.py", "data", DATA, *debug],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert ("Traceback" in done.stderr) == bool(debug)


# ---- Streams that fail ----


def closed_pipe() -> int:
    """A pipe whose reader is gone, as after ``| head``."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.parametrize("output", [closed_pipe, full])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([*AUDIT, *FAILING, "-o", "run", "--junit", "gate.xml", "--json", "gate.json"], 1),
        ([*AUDIT, "--fail-above", "auc=0.999", "-o", "run", "--junit", "gate.xml", "--json", "gate.json"], 0),
        (["data", DATA], 0),
        (["--version"], 0),
        (["audit", "--help"], 0),
        (["data", "nonsense"], 2),
    ],
    ids=["fails", "passes", "data", "version", "help", "error"],
)
def test_an_output_that_fails_decides_nothing(
    output: Callable[[], int], arguments: list[str], code: int, tmp_path: Path
) -> None:
    to = output()
    try:
        done = run(*arguments, cwd=tmp_path, stdout=to)
    finally:
        os.close(to)
    assert done.returncode == code, done.stderr
    if code < 2:
        note = "note: not all of the output could be written: No space left on device\n"
        assert done.stderr == (note if output is full else "")
    if "--junit" in arguments:
        assert names(tmp_path) == ["gate.json", "gate.xml", "run"]
        assert failures((tmp_path / "gate.xml").read_text()) == code


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "2>/dev/full", ">/dev/full 2>/dev/full"])
@pytest.mark.parametrize(("limit", "code"), [("auc=0.51", 1), ("auc=0.999", 0), ("auc=2", 2)])
def test_streams_that_are_closed_or_full_decide_nothing(closed: str, limit: str, code: int, tmp_path: Path) -> None:
    shell = ("sh", "-c", f'exec "$@" {closed}', "sh")
    done = run(*AUDIT, "--fail-above", limit, "-o", "run", "--junit", "gate.xml", cwd=tmp_path, before=shell)
    assert done.returncode == code
    assert names(tmp_path) == (["gate.xml", "run"] if code < 2 else [])


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "utf-8"])
def test_what_cannot_be_encoded_is_replaced(encoding: str, tmp_path: Path) -> None:
    log = "日本→.csv"
    rows = [f"ü日{user},{(7 * user + item * item) % 97}" for user in range(60) for item in range(40)]
    (tmp_path / log).write_text("user,item\n" + "\n".join(rows) + "\n", encoding="utf-8")
    arguments = ["audit", "-d", log, *AUDIT[3:], "--require-below", "auc=0.5", "-o", "run", "--junit", "gate.xml"]
    done = run(*arguments, cwd=tmp_path, environment={"PYTHONIOENCODING": encoding}, encoding=encoding)
    assert done.returncode == 1, done.stderr
    source = log if encoding == "utf-8" else "???.csv"
    assert f"data: {source}: " in done.stdout
    assert done.stderr == ""
    assert failures((tmp_path / "gate.xml").read_text()) == 1


# ---- Disks that are full ----


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk on which names can be made, and nothing be written."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=64", "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        with (folder / "filler").open("wb", buffering=0) as filler:
            try:
                while filler.write(bytes(4096)):
                    pass
            except OSError:
                pass
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("option", ["--junit", "--json"])
@pytest.mark.parametrize("limit", ["auc=0.51", "auc=0.999"])
def test_a_report_of_the_gate_is_whole_or_not_there(option: str, limit: str, full_disk: Path, tmp_path: Path) -> None:
    done = run(*AUDIT, "--fail-above", limit, "-o", "run", option, "disk/gate", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: cannot write disk/gate: No space left on device",
        "what was finished is kept: the run is in run",
    ]
    assert names(full_disk) == ["filler"]
    assert (tmp_path / "run" / "metrics.json").is_file()


# Commands that write a folder.
writers = pytest.mark.parametrize(
    "arguments",
    [
        AUDIT,
        ["sweep", "k=5,10", *AUDIT[1:]],
        ["export-files", *AUDIT[1:]],
        ["ask", "--interactions", DATA],
    ],
    ids=lambda words: words[0],
)


@writers
def test_a_folder_of_results_is_whole_or_not_there(arguments: list[str], full_disk: Path, tmp_path: Path) -> None:
    done = run(*arguments, "-o", "disk/new/run", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write the output folder disk/new/run: "), done.stderr
    assert "No space left on device" in done.stderr
    assert names(full_disk) == ["filler"]


@pytest.mark.parametrize("place", ["named", "default"])
def test_a_store_on_a_full_disk(place: str, full_disk: Path, tmp_path: Path) -> None:
    """The one that was named is an error, and the one that nobody asked for a note."""
    named = ["--store", "disk/store"] if place == "named" else []
    done = run(*AUDIT, *named, "-o", "run", cwd=tmp_path, environment={"XDG_CACHE_HOME": str(full_disk)})
    if named:
        assert done.returncode == 2
        told = "error: cannot write to the store disk/store: No space left on device; name another"
        assert done.stderr.splitlines()[0] == told
        assert not (tmp_path / "run").exists()
    else:
        assert done.returncode == 0, done.stderr
        assert "cannot be used (No space left on device)" in done.stdout
    assert [path for path in full_disk.rglob("*") if path.is_file() and path.name != "filler"] == []


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))

    done = run(*AUDIT, "-o", "run", cwd=tmp_path, limit=limit)
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write the output folder run: "), done.stderr
    assert "File too large" in done.stderr
    assert names(tmp_path) == []


# ---- Names that are taken, and places that cannot be made ----


@writers
@pytest.mark.parametrize("place", ["taken", "log/run", "/proc/run"])
def test_a_place_is_looked_at_before_the_work(arguments: list[str], place: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file")
    store = ["--store", "store"] if "--jobs" in arguments else []
    with reserved(tmp_path / "taken"):
        before = names(tmp_path)
        done = run(*arguments, *store, "-o", place, cwd=tmp_path)
        # No store: nothing was trained.
        assert names(tmp_path) == before
    assert done.returncode == 2
    told = "error: another run is about to write the output folder taken; name a new one"
    assert done.stderr.startswith(told if place == "taken" else f"error: cannot make the output folder {place}: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("option", ["--junit", "--json"])
@pytest.mark.parametrize("place", ["/proc/gate", "missing/gate", "."])
def test_the_reports_of_the_gate_are_looked_at_before_the_work(option: str, place: str, tmp_path: Path) -> None:
    done = run(*AUDIT, *FAILING, "--store", "store", "-o", "run", option, place, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: cannot write {place}: ")
    assert names(tmp_path) == []


def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", "pipe"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as reader:
        done = run(*AUDIT, *FAILING, "-o", "run", "--junit", "pipe", cwd=tmp_path)
        content, _ = reader.communicate(timeout=60)
    assert done.returncode == 1, done.stderr
    assert failures(content) == 1
    assert (tmp_path / "pipe").is_fifo()


def test_runs_that_start_together_have_names_of_their_own(tmp_path: Path) -> None:
    running = [
        subprocess.Popen([*PROGRAM, *AUDIT], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ended = [(one.communicate(timeout=240), one.returncode) for one in running]
    assert [code for _, code in ended] == [0, 0, 0], ended
    assert len(names(tmp_path / "runs")) == 3


# ---- What an earlier run left ----


@pytest.mark.parametrize(
    "arguments", [AUDIT, ["sweep", "k=5,10", *AUDIT[1:]], ["export-files", *AUDIT[1:]]], ids=lambda words: words[0]
)
def test_what_an_unfinished_run_left_goes_when_it_is_finished(arguments: list[str], tmp_path: Path) -> None:
    store = ["--store", "earlier.unfinished"]
    for wrong in (["-o", "log/run"], ["-o", "run", "--dry-run"]):
        (tmp_path / "earlier.unfinished" / "ab").mkdir(parents=True, exist_ok=True)
        (tmp_path / "log").write_text("a file")
        run(*arguments, *store, *wrong, cwd=tmp_path)
        assert names(tmp_path) == ["earlier.unfinished", "log"]
    done = run(*arguments, *store, "-o", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert names(tmp_path) == ["log", "run"]
    named = run(*arguments, "--store", "store", "-o", "again", cwd=tmp_path)
    assert named.returncode == 0, named.stderr
    assert names(tmp_path) == ["again", "log", "run", "store"]

"""Calls in processes: what becomes of one that is killed, and of what a caller has set for joblib."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from mmap import mmap
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pytest

from recmia.cache import ArrayStore
from recmia.engine.parallel import _pack, check_given_up, run_calls
from recmia.errors import ConfigError


def die(number: int, threads: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def negative(number: int, threads: int) -> int:
    return -number


def about(array: npt.NDArray[np.int32], threads: int) -> tuple[bool, int]:
    return isinstance(array, np.memmap) and isinstance(array.base, mmap), int(array.sum())


@pytest.fixture
def mapped(tmp_path: Path) -> npt.NDArray[np.int32]:
    store = ArrayStore(tmp_path)
    store["ab"] = {"lists": np.arange(2**19, dtype=np.int32)}
    return store["ab"]["lists"]


@pytest.mark.end_to_end
def test_a_map_is_a_map_in_other_processes(mapped: npt.NDArray[np.int32]) -> None:
    """A part of it is sent as data, as numpy does not know its place in the file."""
    arrays = [mapped, mapped[1:]]
    found = sorted(run_calls(about, arrays, jobs=2, at_once=2, shared=()))
    assert found == [(False, int(mapped[1:].sum())), (True, int(mapped.sum()))]


def test_a_map_takes_no_room_in_a_call_but_on_a_cluster(mapped: npt.NDArray[np.int32], tmp_path: Path) -> None:
    (by_file, _), (as_data, _) = (_pack(mapped, by_file=here) for here in (True, False))
    assert len(by_file) < 1000 < mapped.nbytes < len(as_data)
    for path in tmp_path.rglob("*.npz"):
        path.unlink()
    np.testing.assert_array_equal(pickle.loads(as_data), mapped)
    with pytest.raises(ConfigError, match=r"ab\.npz was removed while it was in use; run again"):
        pickle.loads(by_file)


@pytest.mark.end_to_end
def test_a_killed_worker_is_told() -> None:
    with pytest.raises(ConfigError, match=r"one of 2 worker processes was killed, .* run again with fewer jobs"):
        list(run_calls(die, range(4), jobs=2, at_once=2, shared=()))
    found = sorted(run_calls(negative, range(4), jobs=2, at_once=2, shared=()))
    assert found == [-3, -2, -1, 0], "and the next run works"


KILLED = """
import sys, time
from pathlib import Path
from recmia.engine.parallel import run_calls

def work(number, threads):
    Path(f"started-{number}").touch()
    while sys.argv[1] == "busy":
        pass
    time.sleep(100 * (sys.argv[1] == "asleep"))

list(run_calls(work, range(2), jobs=2, at_once=2, shared=()))
time.sleep(100)
"""
# Ended by SIGTERM as by Ctrl-C, as the commands are.
INTERRUPTED = f"import signal; signal.signal(signal.SIGTERM, signal.default_int_handler){KILLED}"


def wait_until(done: Callable[[], bool], otherwise: str) -> None:
    limit = time.monotonic() + 30
    while not done():
        assert time.monotonic() < limit, otherwise
        time.sleep(0.05)


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.end_to_end
@pytest.mark.parametrize("state", ["asleep", "busy", "idle"])
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path, state: str) -> None:
    running = subprocess.Popen([sys.executable, "-c", KILLED, state], cwd=tmp_path, start_new_session=True)
    try:
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2, "no worker started")
        running.kill()
        running.wait()
        wait_until(lambda: group_is_gone(running.pid), "a worker lives on")
    finally:
        if not group_is_gone(running.pid):
            os.killpg(running.pid, signal.SIGKILL)


@pytest.mark.end_to_end
def test_a_signal_to_the_parent_and_all_workers_is_one_interrupt(tmp_path: Path) -> None:
    words = [sys.executable, "-c", INTERRUPTED, "asleep"]
    running = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2, "no worker started")
    os.killpg(running.pid, signal.SIGTERM)
    _, errors = running.communicate(timeout=30)
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    wait_until(lambda: group_is_gone(running.pid), "a worker lives on")


def look_and_wait(folder: Path, threads: int) -> None:
    (folder / "started").touch()
    while True:
        check_given_up()
        time.sleep(0.05)


def fail(folder: Path, threads: int) -> None:
    wait_until((folder / "started").exists, "the other call does not start")
    raise ConfigError("this one fails")


def call_either(payload: tuple[bool, Path], threads: int) -> None:
    (fail if payload[0] else look_and_wait)(payload[1], threads)


def test_of_threads_those_that_look_end_with_one_that_fails(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this one fails"):
        list(run_calls(call_either, [(False, tmp_path), (True, tmp_path)], jobs=2, at_once=2, shared=(), threaded=True))
    check_given_up()


def here_or_there(number: int, threads: int) -> tuple[int, int]:
    time.sleep(0.1)
    return number, os.getpid()


SET_BY_CALLERS: list[dict[str, Any]] = [
    {"backend": "threading"},
    {"backend": "multiprocessing"},
    {"backend": "sequential"},
    {"backend": "loky", "inner_max_num_threads": 1},
    {"prefer": "threads"},
    {"require": "sharedmem"},
]


@pytest.mark.end_to_end
@pytest.mark.parametrize("setting", SET_BY_CALLERS, ids=str)
def test_what_a_caller_has_set_for_joblib_changes_nothing(setting: dict[str, Any]) -> None:
    with joblib.parallel_config(**setting):
        found = sorted(run_calls(here_or_there, range(4), jobs=2, at_once=2, shared=()))
    assert [number for number, _ in found] == [0, 1, 2, 3]
    assert os.getpid() not in {process for _, process in found}, "calls are in processes of their own"


def nested() -> list[int]:
    return sorted(run_calls(negative, range(4), jobs=2, at_once=2, shared=()))


@pytest.mark.end_to_end
@pytest.mark.parametrize("backend", ["threading", "loky", "multiprocessing"])
def test_called_by_a_worker_of_joblib(backend: str) -> None:
    found = joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(nested)() for _ in range(2))
    assert found == [[-3, -2, -1, 0]] * 2

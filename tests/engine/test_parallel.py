"""Calls in processes: what becomes of a process that is killed."""

from __future__ import annotations

import os
import pickle
import signal
from mmap import mmap
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from recmia.cache import ArrayStore
from recmia.engine.parallel import _pack, run_calls
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

"""Calls in processes: what becomes of a process that is killed."""

from __future__ import annotations

import os
import signal

import pytest

from recmia.engine.parallel import run_calls
from recmia.errors import ConfigError


def die(number: int, threads: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def negative(number: int, threads: int) -> int:
    return -number


@pytest.mark.end_to_end
def test_a_killed_worker_is_told() -> None:
    with pytest.raises(ConfigError, match=r"one of 2 worker processes was killed, .* run again with fewer jobs"):
        list(run_calls(die, range(4), jobs=2, at_once=2, shared=()))
    found = sorted(run_calls(negative, range(4), jobs=2, at_once=2, shared=()))
    assert found == [-3, -2, -1, 0], "and the next run works"

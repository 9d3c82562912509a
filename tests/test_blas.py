"""The limit on the threads of BLAS: within and between blocks, threads and imports."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from recmia import blas
from recmia.blas import one_blas_thread


def threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    with threadpool_limits(2, user_api="blas"):
        yield


def test_the_limit_holds_within_blocks_and_ends_with_the_last() -> None:
    assert threads() == {2}
    with one_blas_thread():
        assert threads() == {1}
        with one_blas_thread():
            assert threads() == {1}
        assert threads() == {1}, "the inner block does not lift the limit of the outer one"
    assert threads() == {2}


def test_an_error_lifts_it() -> None:
    with pytest.raises(ZeroDivisionError), one_blas_thread():
        1 / 0  # noqa: B018
    assert threads() == {2}


def test_it_holds_until_the_block_of_the_last_thread_ends() -> None:
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with one_blas_thread():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with one_blas_thread():
        thread.start()
        entered.wait()
    assert threads() == {1}, "the other thread is still in its block"
    leave.set()
    thread.join()
    assert threads() == {2}


def test_libraries_are_looked_for_again_after_an_import(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []

    def limits(*args: Any, **kwargs: Any) -> Any:
        looked.append(args)
        return threadpool_limits(*args, **kwargs)

    monkeypatch.setattr(blas, "threadpool_limits", limits)
    with one_blas_thread():
        with one_blas_thread():
            assert len(looked) == 1
        monkeypatch.setitem(sys.modules, "brings_another_blas", types.ModuleType("brings_another_blas"))
        with one_blas_thread():
            assert len(looked) == 2
    assert threads() == {2}

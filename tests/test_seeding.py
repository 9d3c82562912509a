"""Streams by name."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from recmia.seeding import rng_for, seeded_globally

# A change here changes every published figure: the CHANGELOG must say so.
GOLDEN = [189376, 947767, 326087]


def test_same_path_same_stream() -> None:
    assert (rng_for(3, "shadow", 1).random(5) == rng_for(3, "shadow", 1).random(5)).all()


def test_every_part_of_the_path_matters() -> None:
    paths: list[tuple[int, tuple[str | int, ...]]] = [
        (0, ()), (1, ()), (0, ("a",)), (0, ("a", "b")), (0, ("ab",)), (0, (1,)), (0, ("1",)), (0, ("a", 1)),
    ]  # fmt: skip
    draws = [rng_for(seed, *names).random() for seed, names in paths]
    assert len(set(draws)) == len(draws)


def test_streams_keep_their_numbers_over_versions() -> None:
    assert rng_for(0, "split").integers(10**6, size=3).tolist() == GOLDEN


def global_states() -> tuple[Any, ...]:
    _, words, *rest = np.random.get_state()
    return random.getstate(), np.asarray(words).tolist(), rest, torch.get_rng_state().tolist()


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_global_states_are_seeded_and_restored() -> None:
    before = global_states()
    with seeded_globally(0, "fit"):
        one = draw()
    assert global_states() == before
    draw()
    with seeded_globally(0, "fit"):
        assert draw() == one
    for seed, name in ((1, "fit"), (0, "serve")):
        with seeded_globally(seed, name):
            assert not set(draw()) & set(one)


def test_global_states_are_restored_after_an_error() -> None:
    before = global_states()

    def fail() -> None:
        with seeded_globally(0):
            draw()
            raise ValueError("drawn")

    with pytest.raises(ValueError, match="drawn"):
        fail()
    assert global_states() == before
    with seeded_globally(0):
        first = draw()
        with pytest.raises(ValueError, match="drawn"):
            fail()
        second = draw()
    with seeded_globally(0):
        assert (draw(), draw()) == (first, second), "a block within a block disturbs nothing"


def test_threads_do_not_share_their_numbers() -> None:
    """Without a lock, a thread would draw from the state that another one has seeded."""

    def drawn(seed: int) -> list[tuple[float, float, float]]:
        found = []
        with seeded_globally(seed):
            for _ in range(20):
                found.append(draw())
                time.sleep(0.0005)
        return found

    expected = [drawn(seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(drawn, range(8))) == expected

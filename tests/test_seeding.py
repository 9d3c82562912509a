"""Streams by name."""

from recmia.seeding import rng_for

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

"""The names of the random streams, which decide every number that was ever published."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from recmia.game import streams
from recmia.seeding import rng_for

# A change here changes every published figure: the CHANGELOG must say so.
NAMED: list[tuple[Callable[[], np.random.Generator], tuple[str | int, ...]]] = [
    (lambda: streams.held_out(3), ("held out",)),
    (lambda: streams.users(3), ("users",)),
    (lambda: streams.split(3), ("split",)),
    (lambda: streams.target_members(3, 2), ("members", 2)),
    (lambda: streams.black_box_users(3), ("black-box",)),
    (lambda: streams.black_box_members(3), ("black-box", "members")),
    (lambda: streams.pool_members(3, 5), ("pool", 5, "members")),
    (lambda: streams.item_vectors(3, "grey-box"), ("item vectors",)),
    (lambda: streams.item_vectors(3, "black-box"), ("item vectors", "black-box")),
    (lambda: streams.fit(streams.target_path(3, 0)), ("target", "fit")),
    (lambda: streams.fit(streams.target_path(3, 1)), ("target", 1, "fit")),
    (lambda: streams.fit(streams.shadow_path(3, "white-box")), ("shadow", "fit")),
    (lambda: streams.fit(streams.shadow_path(3, "black-box")), ("shadow", "black-box", "fit")),
    (lambda: streams.fit(streams.pool_path(3, "grey-box", 4)), ("pool", 4, "fit")),
    (lambda: streams.fit(streams.pool_path(3, "black-box", 4)), ("pool", "black-box", 4, "fit")),
    (lambda: streams.serve(streams.target_path(3, 0), "popular"), ("target", "serve", "popular")),
    (lambda: streams.attack(3, "fold-in", "mlp", "grey-box", pool=False), ("attack", "fold-in", "mlp")),
    (lambda: streams.attack(3, "fold-in", "mlp", "white-box", pool=False), ("attack", "fold-in", "mlp", "white-box")),
    (lambda: streams.attack(3, "fold-in", "rmia", "grey-box", pool=True), ("attack", "fold-in", "rmia", "grey-box")),
]


@pytest.mark.parametrize(("stream", "names"), NAMED, ids=["/".join(map(str, names)) for _, names in NAMED])
def test_streams_keep_their_names(stream: Callable[[], np.random.Generator], names: tuple[str | int, ...]) -> None:
    assert (stream().random(3) == rng_for(3, *names).random(3)).all()


def test_no_two_streams_are_the_same() -> None:
    assert len({stream().random() for stream, _ in NAMED}) == len(NAMED)

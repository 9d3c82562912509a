"""The random streams of a game, which are all named here.

A stream is `recmia.seeding.rng_for` of a seed and a path of names. The names must never change, because they determine
the random numbers.

>>> split(0).integers(10**6, size=2).tolist()
[189376, 947767]
"""

from __future__ import annotations

import numpy as np

from recmia.seeding import rng_for

# The path of the streams of one system: a seed, then names.
Path = tuple[str | int, ...]


def held_out(seed: int) -> np.random.Generator:
    """Return the stream that draws the interactions that are held out to measure utility."""
    return rng_for(seed, "held out")


def users(seed: int) -> np.random.Generator:
    """Return the stream that draws the sample of users, where `max_users` is set."""
    return rng_for(seed, "users")


def sample(seed: int, side: str) -> np.random.Generator:
    """Return the stream that draws the audited users of a side, where `n_audited` is set."""
    return rng_for(seed, "audited users", side)


def split(seed: int) -> np.random.Generator:
    """Return the stream that draws the two sides and their members (of files: the members of the shadow side)."""
    return rng_for(seed, "split")


def target_members(seed: int, target: int) -> np.random.Generator:
    """Return the stream that draws the members of the second and further targets."""
    return rng_for(seed, "members", target)


def black_box_users(seed: int) -> np.random.Generator:
    """Return the stream that draws the users of a black-box attacker from public statistics."""
    return rng_for(seed, "black-box")


def black_box_members(seed: int) -> np.random.Generator:
    """Return the stream that draws which of these users are members of the attacker's system."""
    return rng_for(seed, "black-box", "members")


def pool_members(seed: int, shadow: int) -> np.random.Generator:
    """Return the stream that draws the members of one shadow model of a pool."""
    return rng_for(seed, "pool", shadow, "members")


def target_interactions(seed: int, target: int) -> np.random.Generator:
    """Return the stream that draws the interactions that a target is trained on."""
    return rng_for(seed, "interactions", target)


def pool_interactions(seed: int, pair: int) -> np.random.Generator:
    """Return the stream that draws the interactions of the first shadow model of a pair; the second gets the others."""
    return rng_for(seed, "pool", pair, "interactions")


def queries(seed: int, side: str) -> np.random.Generator:
    """Return the stream that draws the queries about the users of a side."""
    return rng_for(seed, "queries", side)


def members_to_be(seed: int) -> np.random.Generator:
    """Return the stream that draws who of the users of a log is to be a member of a system that runs elsewhere."""
    return rng_for(seed, "members to be")


def known(seed: int) -> np.random.Generator:
    """Return the stream that draws the part of each audited history that the attacker knows."""
    return rng_for(seed, "known")


def reference_path(seed: int, level: str, side: str, name: str) -> Path:
    """Return the path of the streams that train a reference model for the users of a side."""
    return (seed, "reference", level, side, name) if level == "black-box" else (seed, "reference", side, name)


def item_vectors(seed: int, level: str) -> np.random.Generator:
    """Return the stream of the factorisation that gives the attacker its item vectors."""
    return rng_for(seed, "item vectors", level) if level == "black-box" else rng_for(seed, "item vectors")


def target_path(seed: int, target: int) -> Path:
    """Return the path of the streams that train and serve a target."""
    return (seed, "target", target) if target else (seed, "target")


def shadow_path(seed: int, level: str) -> Path:
    """Return the path of the streams that train and serve the shadow system."""
    return (seed, "shadow", level) if level == "black-box" else (seed, "shadow")


def pool_path(seed: int, level: str, shadow: int) -> Path:
    """Return the path of the streams that train and serve a shadow model of a pool."""
    return (seed, "pool", level, shadow) if level == "black-box" else (seed, "pool", shadow)


def fit(path: Path) -> np.random.Generator:
    """Return the stream that trains a system."""
    return rng_for(*_seeded(path), "fit")


def serve(path: Path, regime: str) -> np.random.Generator:
    """Return the stream that serves lists in a regime."""
    return rng_for(*_seeded(path), "serve", regime)


def attack(seed: int, regime: str, name: str, level: str, *, pool: bool) -> np.random.Generator:
    """Return the stream of an attack; without a pool, the path has no level where that is grey-box."""
    if level == "grey-box" and not pool:
        return rng_for(seed, "attack", regime, name)
    return rng_for(seed, "attack", regime, name, level)


def _seeded(path: Path) -> tuple[int, *tuple[str | int, ...]]:
    seed, *names = path
    assert isinstance(seed, int), "a path starts with its seed"
    return (seed, *names)

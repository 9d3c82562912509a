"""Synthetic interactions with the shape of MovieLens.

History lengths are log-normal, item popularity follows a shifted power law, and taste is latent: items belong to
genres, each user is interested in a few of them, and ratings follow that interest. The histories of some users
therefore help to predict those of others, as in real data.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import polars as pl

from recmia.compiled import compiled
from recmia.errors import DataError
from recmia.seeding import rng_for

Int64 = npt.NDArray[np.int64]

# Users, rated items and ratings of the MovieLens editions.
SHAPES: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "ml-100k": (943, 1_682, 100_000),
        "ml-latest-small": (610, 9_724, 100_836),
        "ml-1m": (6_040, 3_706, 1_000_209),
        "ml-10m": (69_878, 10_677, 10_000_054),
        "ml-25m": (162_541, 59_047, 25_000_095),
    }
)

_N_GENRES = 20
_SHORTEST = 20
_LENGTH_SIGMA = 1.4
_POPULARITY_SHIFT = 0.003
_POPULARITY_POWER = 1.1
_TASTE = 0.5
_PATIENCE = 8


def synthesize(n_users: int, n_items: int, n_interactions: int, *, seed: int) -> pl.DataFrame:
    """Return a table of random interactions.

    Parameters
    ----------
    n_users, n_items : int
        At least 1 user and 40 items.
    n_interactions : int
        At least 20 for each user and at most half of all pairs. The table holds this many to within one per cent.
    seed : int

    Returns
    -------
    polars.DataFrame
        Columns user, item (int64, from 1), rating (float32, 0.5 to 5 in half steps), time (int64, seconds), text
        (categorical, the item's genre).

    Raises
    ------
    DataError
        If the sizes do not fit together.

    Examples
    --------
    >>> synthesize(60, 100, 2000, seed=0).columns
    ['user', 'item', 'rating', 'time', 'text']
    """
    if n_users < 1 or n_items < 2 * _SHORTEST or not n_users * _SHORTEST <= n_interactions <= n_users * n_items // 2:
        raise DataError(
            f"synthetic data of {n_users} users, {n_items} items and {n_interactions} interactions are not possible: "
            f"at least {2 * _SHORTEST} items, {_SHORTEST} interactions a user, and at most half of all pairs"
        )
    rng = rng_for(seed, "synthetic", n_users, n_items, n_interactions)
    lengths = _history_lengths(n_users, n_items, n_interactions, rng)
    genre = rng.integers(_N_GENRES, size=n_items)
    # Interest in each genre: Dirichlet with a small parameter, so that a few genres make up most of a taste.
    interest = rng.gamma(_TASTE, size=(n_users, _N_GENRES)) + 1e-9
    interest /= interest.sum(axis=1, keepdims=True)
    user = np.repeat(np.arange(n_users), lengths)
    item = _items(lengths, interest, genre, rng)
    quality, strictness = rng.normal(0, 0.35, n_items), rng.normal(0, 0.4, n_users)
    liking = np.log(interest[user, genre[item]] * _N_GENRES + 0.1)
    stars = 3.5 + strictness[user] + quality[item] + 0.25 * liking + rng.normal(0, 0.7, len(user))
    names = pl.Series([f"genre {g + 1}" for g in range(_N_GENRES)], dtype=pl.Categorical)
    joined = rng.integers(820_000_000, 1_540_000_000, n_users)
    return pl.DataFrame(
        {
            "user": user + 1,
            "item": item + 1,
            "rating": (np.clip(np.round(2 * stars), 1, 10) / 2).astype(np.float32),
            "time": joined[user] + rng.integers(0, 90_000_000, len(user)),
            "text": names.gather(genre[item]),
        }
    )


def _history_lengths(n_users: int, n_items: int, n_interactions: int, rng: np.random.Generator) -> Int64:
    extra = rng.lognormal(0, _LENGTH_SIGMA, n_users)
    wanted = n_interactions - _SHORTEST * n_users
    cap = n_items // 2 - _SHORTEST
    # Cutting the longest histories frees interactions, which go to the others in proportion.
    scale = wanted / extra.sum()
    for _ in range(50):
        lengths = np.minimum(extra * scale, cap)
        scale *= max(wanted, 1e-9) / max(lengths.sum(), 1e-9)
    rounded: Int64 = _SHORTEST + np.round(lengths).astype(np.int64)
    return rounded


def _items(lengths: Int64, interest: npt.NDArray[np.float64], genre: Int64, rng: np.random.Generator) -> Int64:
    """Draw each user's distinct items, users in order: a genre by interest, then an item of it by popularity."""
    n_items = len(genre)
    popularity = (rng.permutation(n_items) / n_items + _POPULARITY_SHIFT) ** -_POPULARITY_POWER
    by_genre = np.argsort(genre, kind="stable")
    starts = np.searchsorted(genre[by_genre], np.arange(_N_GENRES + 1))
    curve = np.concatenate([np.cumsum(popularity[by_genre[a:b]]) for a, b in pairwise(starts)])
    # A genre without items gets no interest.
    cumulative = np.cumsum(interest * (np.diff(starts) > 0), axis=1)
    items: Int64 = _draw_items(lengths, cumulative, by_genre, starts, curve, rng)
    return items


@compiled()
def _draw_items(
    lengths: Int64,
    cumulative: npt.NDArray[np.float64],
    by_genre: Int64,
    starts: Int64,
    curve: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> Int64:
    items = np.empty(lengths.sum(), np.int64)
    drawn_by = np.full(len(by_genre), -1)
    n = 0
    for user in range(len(lengths)):
        tries, stop = 0, n + lengths[user]
        while n < stop:
            tries += 1
            if tries <= _PATIENCE * lengths[user]:
                g = np.searchsorted(cumulative[user], rng.random() * cumulative[user, -1], side="right")
                part = curve[starts[g] : starts[g + 1]]
                item = by_genre[starts[g] + np.searchsorted(part, rng.random() * part[-1], side="right")]
            else:  # a taste so narrow that its genres are used up: anything else
                item = np.int64(rng.random() * len(by_genre))
            if drawn_by[item] != user:
                drawn_by[item] = user
                items[n] = item
                n += 1
    return items

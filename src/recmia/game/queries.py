"""What an attacker knows of the audited users, and what it asks the system about them.

A query is a history of the attacker's own making: a part of a user's, put to the system as if by a stranger. It needs a
system that folds in. The same queries go to all systems of a game, and are drawn without regard to membership.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import comb

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.data.interactions import Bool, Interactions
from recmia.game.split import random_places
from recmia.observation import Queries

# However small the known share is, so many items of a history are known, or all of a shorter one.
LEAST_KNOWN = 4
# Histories of up to so many items have few ways to be parted: they are listed, so that none is drawn twice.
_LISTED = 8


def known_part(interactions: Interactions, share: float, rng: np.random.Generator) -> Interactions:
    """Return the part of each history that the attacker knows, drawn at random.

    Parameters
    ----------
    interactions : Interactions
    share : float
        Share of each history, in (0, 1], rounded; but no fewer than four items, or all of a shorter history.
    rng : numpy.random.Generator

    Returns
    -------
    Interactions
        Over the same users and items.

    Examples
    --------
    >>> data = Interactions.from_arrays([1] * 10 + [2] * 3, [*range(10), *range(3)])
    >>> np.bincount(known_part(data, 0.5, np.random.default_rng(0)).user).tolist()
    [5, 3]
    """
    if share == 1:
        return interactions
    counts = np.bincount(interactions.user, minlength=interactions.n_users)
    wanted = np.minimum(np.maximum(np.rint(share * counts), LEAST_KNOWN), counts)
    return interactions.take(np.flatnonzero(random_places(interactions, rng) < wanted[interactions.user]))


def draw_queries(interactions: Interactions, n_queries: int, share: float, rng: np.random.Generator) -> Queries:
    """Return queries about each user: random parts of the history, each with its complement.

    A history is parted at random in A and B; one query asks with A and hides B. At a share of 1/2, the next query asks
    with B and hides A, so that every item is hidden as often as it is asked with. A history that can be parted in too
    few ways is asked about less often, and one of a single item not at all.

    Parameters
    ----------
    interactions : Interactions
        What the attacker knows of the users.
    n_queries : int
        Of each user, an even number.
    share : float
        Share of a history that a query asks with, in (0, 1), rounded; at least one item is asked with, and one hidden.
    rng : numpy.random.Generator

    Returns
    -------
    Queries

    Examples
    --------
    >>> data = Interactions.from_arrays([1, 1, 1, 1, 2], [1, 2, 3, 4, 1])
    >>> queries = draw_queries(data, 2, 0.5, np.random.default_rng(0))
    >>> queries.user.tolist(), queries.asked.toarray().astype(int).tolist()
    ([0, 0], [[1, 0, 0, 1], [0, 1, 1, 0]])
    """
    counts = np.bincount(interactions.user, minlength=interactions.n_users)
    size = np.clip(np.rint(share * counts), 1, np.maximum(counts - 1, 1)).astype(np.int64)
    paired = share == 0.5
    start = np.searchsorted(interactions.user, np.arange(interactions.n_users))
    rounds: list[tuple[Bool, Bool]] = []
    listed = {
        int(u): _ways(int(counts[u]), int(size[u]), n_queries // 2 if paired else n_queries, rng, paired=paired)
        for u in np.flatnonzero((counts <= _LISTED) & (counts > 0))
    }
    for number in range(n_queries // 2 if paired else n_queries):
        asked = random_places(interactions, rng) < size[interactions.user]
        used = counts > 1
        for u, ways in listed.items():
            used[u] &= number < len(ways)
            if used[u]:
                asked[start[u] : start[u] + counts[u]] = np.isin(np.arange(counts[u]), ways[number])
        rounds += [(asked, used), (~asked, used)] if paired else [(asked, used)]
    return _queries_of(interactions, rounds)


def draw_blocks(interactions: Interactions, n_blocks: int, rng: np.random.Generator) -> Queries:
    """Return queries that hide every interaction of each user once: a random block at a time, and ask with the rest.

    Parameters
    ----------
    interactions : Interactions
        What the attacker knows of the users.
    n_blocks : int
        Of each history; a shorter one is hidden an item at a time. A history of a single item leaves nothing to ask
        with: there is no query about it.
    rng : numpy.random.Generator

    Returns
    -------
    Queries

    Examples
    --------
    >>> data = Interactions.from_arrays([1, 1, 1, 2], [1, 2, 3, 1])
    >>> queries = draw_blocks(data, 2, np.random.default_rng(0))
    >>> queries.user.tolist(), queries.hidden.toarray().astype(int).tolist()
    ([0, 0], [[1, 0, 1], [0, 1, 0]])
    """
    counts = np.bincount(interactions.user, minlength=interactions.n_users)
    of_user = np.minimum(n_blocks, counts)
    block = random_places(interactions, rng) % of_user[interactions.user]
    rounds = [(block != number, (of_user > number) & (counts > 1)) for number in range(n_blocks)]
    return _queries_of(interactions, rounds)


def hidden_places(interactions: Interactions, queries: Queries) -> npt.NDArray[np.int64]:
    """Return which interaction each hidden one is, in the order of ``queries.hidden.indices``: int64, shape (m,)."""
    return np.searchsorted(interactions.keys(), queries.hidden_keys)


def join_queries(first: Queries, second: Queries, n_first: int) -> Queries:
    """Return the queries about `n_first` users, and after them those about others, whose rows follow.

    >>> data = Interactions.from_arrays([1, 1], [1, 2])
    >>> queries = draw_queries(data, 2, 0.5, np.random.default_rng(0))
    >>> join_queries(queries, queries, 1).user.tolist()
    [0, 0, 1, 1]
    """
    return Queries(
        np.concatenate([first.user, second.user + np.int32(n_first)]),
        sparse.vstack([first.asked, second.asked], format="csr"),
        sparse.vstack([first.hidden, second.hidden], format="csr"),
    )


def _queries_of(interactions: Interactions, rounds: Sequence[tuple[Bool, Bool]]) -> Queries:
    """Return a query of each round: what is asked with (the rest is hidden), and about which users."""
    user = np.concatenate([np.empty(0, np.int64), *(np.flatnonzero(used) for _, used in rounds)]).astype(np.int32)
    order = np.argsort(user, kind="stable")
    empty = interactions.csr()[:0]
    asked, hidden = (
        sparse.vstack([empty, *(_rows(interactions, mask == wanted, used) for mask, used in rounds)], format="csr")
        for wanted in (True, False)
    )
    return Queries(user[order], asked[order], hidden[order])


def _rows(interactions: Interactions, chosen: Bool, users: Bool) -> sparse.csr_array:
    """Return the chosen interactions of these users, float32, shape (users.sum(), n_items)."""
    kept = chosen & users[interactions.user]
    ends = np.cumsum(np.bincount(interactions.user[kept], minlength=interactions.n_users)[users])
    shape = (int(users.sum()), interactions.n_items)
    return sparse.csr_array((interactions.value[kept], interactions.item[kept], np.append(0, ends)), shape)


def _ways(n: int, size: int, most: int, rng: np.random.Generator, *, paired: bool) -> list[tuple[int, ...]]:
    """Return different parts of `size` of n items, at random; where paired, none is the complement of another."""
    found = list(combinations(range(n), size))
    if paired and 2 * size == n:
        # The complements come in the reverse order.
        found = found[: comb(n, size) // 2]
    return [found[place] for place in rng.permutation(len(found))[:most]]

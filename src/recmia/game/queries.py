"""What an attacker knows of the audited users, and what it asks the system about them.

A query is a history of the attacker's own making: a part of a user's, put to the system as if by a stranger. It needs a
system that folds in. The same queries go to all systems of a game, and are drawn without regard to membership.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.data.interactions import Bool, Interactions, places_in_groups
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
    rounds: list[_Round] = []
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
        parts = [asked, ~asked] if paired else [asked]
        rounds += [_Round(used, part, ~part) for part in parts]
    return _queries_of(interactions, rounds)


def draw_prefixes(interactions: Interactions, n_queries: int, rng: np.random.Generator) -> Queries:
    """Return queries about each user that ask with the first events, and hide the next item.

    A history is cut at random places, each once, before an item that is new. So a history with few of them is asked
    about less often, and one of a single item not at all.

    Parameters
    ----------
    interactions : Interactions
        What the attacker knows of the users, with the order of events.
    n_queries : int
        Of each user, at most.
    rng : numpy.random.Generator

    Returns
    -------
    Queries

    Raises
    ------
    DataError
        If the order is not known.

    Examples
    --------
    >>> data = Interactions.from_arrays([1, 1, 1], ["c", "a", "b"], time=[1, 2, 3])
    >>> queries = draw_prefixes(data, 1, np.random.default_rng(0))
    >>> queries.sequences.indices.tolist(), queries.hidden.indices.tolist()
    ([2, 0], [1])
    """
    events = interactions.known_events()
    place = places_in_groups(interactions.user[events])
    # The event with which each interaction comes first; a later one overwrites an earlier one.
    first = np.empty(len(interactions), np.int64)
    first[events[::-1]] = place[::-1]
    # Before a user's first event there is nothing to ask with.
    cuts = np.flatnonzero(first > 1)
    cuts = cuts[np.lexsort((rng.random(len(cuts)), interactions.user[cuts]))]
    number = places_in_groups(interactions.user[cuts])
    rounds = []
    for chosen in range(1, min(n_queries, int(number.max(initial=0))) + 1):
        cut = np.zeros(interactions.n_users, np.int64)
        now = cuts[number == chosen]
        cut[interactions.user[now]] = first[now]
        before = cut[interactions.user]
        rounds.append(_Round(cut > 0, first < before, first == before, place < before[events]))
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
    rounds = [_Round((of_user > number) & (counts > 1), block != number, block == number) for number in range(n_blocks)]
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
    sequences = [one.sequences for one in (first, second) if one.sequences is not None]
    return Queries(
        np.concatenate([first.user, second.user + np.int32(n_first)]),
        sparse.vstack([first.asked, second.asked], format="csr"),
        sparse.vstack([first.hidden, second.hidden], format="csr"),
        sparse.vstack(sequences, format="csr") if len(sequences) == 2 else None,
    )


class _Round(NamedTuple):
    """A query about each of some users.

    `users` is bool[n_users], `asked` and `hidden` are bool[n_interactions]; `events` is bool[m], where not all events
    of what is asked with are.
    """

    users: Bool
    asked: Bool
    hidden: Bool
    events: Bool | None = None


def _queries_of(interactions: Interactions, rounds: Sequence[_Round]) -> Queries:
    """Return the queries of each round, by user."""
    user = np.concatenate([np.empty(0, np.int64), *(np.flatnonzero(one.users) for one in rounds)]).astype(np.int32)
    order = np.argsort(user, kind="stable")
    everything = np.arange(len(interactions))

    def part(kept: Sequence[npt.NDArray[np.integer]]) -> sparse.csr_array:
        rows = [_rows(interactions, at, one.users) for at, one in zip(kept, rounds, strict=True)]
        found: sparse.csr_array = sparse.vstack([interactions.csr()[:0], *rows], format="csr")[order]
        return found

    asked, hidden = (part([everything[mask] for mask in masks]) for masks in (
        [one.asked for one in rounds], [one.hidden for one in rounds]
    ))  # fmt: skip
    events, sequences = interactions.events, None
    if events is not None:
        sequences = part([events[one.asked[events] if one.events is None else one.events] for one in rounds])
    return Queries(user[order], asked, hidden, sequences)


def _rows(interactions: Interactions, chosen: npt.NDArray[np.integer], users: Bool) -> sparse.csr_array:
    """Return the chosen interactions (positions) of these users as they come, float32, shape (users.sum(), n_items)."""
    kept = chosen[users[interactions.user[chosen]]]
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

"""Disclosure: what the answers to an attacker's queries give away of a history that it did not ask with."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from recmia.data.interactions import Bool, Int32, Interactions
from recmia.metrics.intervals import share_ends
from recmia.metrics.utility import recall
from recmia.observation import Queries, in_history

# Precision is measured on the first items of an answer, this many.
FIRST = 10
# The parts of a history that a query does not ask with.
HIDDEN, UNKNOWN = "hidden", "unknown"
# In place of what is hidden, where that is the next item of a prefix.
NEXT = "next"


def disclosed(
    audited: Interactions,
    known: Interactions,
    member: Bool,
    queries: Queries,
    answers: Int32,
    *,
    prefixes: bool = False,
) -> list[dict[str, Any]]:
    """Return how much of the rest of a history the answers name, for members and for others.

    Of each query: *recall*, the share of the part that is in the answer, and *precision*, the share of the answer's
    first items that is in the part. A user's value is the mean over its queries. Users of whom there is no such part
    are left out.

    Parameters
    ----------
    audited, known : Interactions
        The histories, and what the attacker knows of them.
    member : bool, shape (n_users,)
    queries : Queries
        About these users.
    answers : int32, shape (q, k)
    prefixes : bool
        Whether a query hides the next item only. The precision for a single item says nothing more, and is left out.

    Returns
    -------
    list of dict
        With users ("members" or "non-members"), part ("hidden", what the attacker knows and did not ask with; "next",
        the next item; or "unknown", what the attacker does not know), metric, value, low, high (95%).

    Examples
    --------
    >>> from recmia.game.queries import draw_queries
    >>> data = Interactions.from_arrays([1, 1, 2, 2], [1, 2, 1, 2])
    >>> queries = draw_queries(data, 2, 0.5, np.random.default_rng(0))
    >>> answers = queries.hidden.indices.astype(np.int32)[:, None] * np.array([[1], [1], [0], [0]], np.int32)
    >>> rows = disclosed(data, data, np.array([True, False]), queries, answers)
    >>> [(row["users"], row["metric"], row["value"]) for row in rows[::2]]
    [('members', 'recall@1', 1.0), ('non-members', 'recall@1', 0.5)]
    """
    # Compiled code is loaded by what calls it.
    from recmia.attacks.queries import mean_by_user

    parts = {NEXT if prefixes else HIDDEN: queries.hidden}
    if len(known) < len(audited):
        missing = audited.take(np.flatnonzero(~np.isin(audited.keys(), known.keys(), assume_unique=True)))
        parts[UNKNOWN] = missing.csr()[queries.user]
    rows: list[dict[str, Any]] = []
    k = answers.shape[1]
    first = min(FIRST, k)
    for part, items in parts.items():
        counts = np.diff(items.indptr)
        there = counts > 0
        hits = in_history(answers, items)[there]
        of_query = {f"recall@{k}": recall(hits, counts[there])}
        if part != NEXT:
            of_query[f"precision@{first}"] = hits[:, :first].mean(axis=1)
        of_user = {name: mean_by_user(one, queries.user[there], len(member)) for name, one in of_query.items()}
        for users, group in (("members", member), ("non-members", ~member)):
            for metric, values in of_user.items():
                mean = values[group & np.isfinite(values)]
                if not len(mean):
                    continue
                low, high = share_ends(mean)
                found = {"value": float(mean.mean()), "low": float(low), "high": float(high)}
                rows.append({"users": users, "part": part, "metric": metric, **found})
    return rows


def examples(member: Bool, queries: Queries, answers: Int32) -> list[dict[str, Any]]:
    """Return an ordinary query about a member, and one about a non-member, for a picture: numbers of items, no ids.

    Of the queries whose hidden part is about as large as usual, it is the one with the recall nearest to the mean of
    its group.

    Parameters
    ----------
    member : bool, shape (n_users,)
    queries : Queries
    answers : int32, shape (q, k)

    Returns
    -------
    list of dict
        With users ("a member" or "a non-member"), asked and hidden (numbers of items), k, and hits: the ranks, from 1,
        of the hidden items in the answer. A group about which nothing was asked has none.

    Examples
    --------
    >>> from recmia.game.queries import draw_queries
    >>> data = Interactions.from_arrays([1, 1, 2, 2], [1, 2, 1, 2])
    >>> queries = draw_queries(data, 2, 0.5, np.random.default_rng(0))
    >>> answers = queries.hidden.indices.astype(np.int32)[:, None]
    >>> [one["hits"] for one in examples(np.array([True, False]), queries, answers)]
    [[1], [1]]
    """
    hits, hidden = in_history(answers, queries.hidden), np.diff(queries.hidden.indptr)
    recall = hits.sum(axis=1) / np.maximum(hidden, 1)
    shown = []
    for name, group in (("a member", member), ("a non-member", ~member)):
        rows = np.flatnonzero(group[queries.user])
        if not len(rows):
            continue
        # The size is that of all, so that the two are alike in it.
        usual = rows[np.argsort(np.abs(hidden[rows] - np.median(hidden)), kind="stable")[: max(1, len(rows) // 10)]]
        row = int(usual[np.argmin(np.abs(recall[usual] - recall[rows].mean()))])
        shown.append(
            {
                "users": name,
                "asked": int(np.diff(queries.asked.indptr)[row]),
                "hidden": int(hidden[row]),
                "k": answers.shape[1],
                "hits": (np.flatnonzero(hits[row]) + 1).tolist(),
            }
        )
    return shown


def disclosure_table(rows: list[dict[str, Any]], seed: int, run: int) -> pl.DataFrame:
    """Return the rows of one target as a table, with its seed and number."""
    about = (pl.lit(seed, pl.Int64).alias("seed"), pl.lit(run, pl.Int64).alias("run"))
    return pl.DataFrame(rows).select(*about, pl.all())

"""Questions to a system as files: what it is asked, and the key that stays with whoever asks.

=====================  ==============================================================================================
file                   rows
=====================  ==============================================================================================
``questions.parquet``  query, item; rating and time if the histories have them; and, where their order is known,
                       position: 1 for the first event of the question, 2 for the next; an item may be repeated
``key.parquet``        query, user, item: the user whom the question is about, and each item that it hides
``members.csv``        user, member: by a coin, who is to be in the training data; only if members are drawn
=====================  ==============================================================================================

Where single interactions are asked about, ``members.csv`` has a row for each of them: user, item, member.

The system answers each query as if the items were a stranger's history, and never sees the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from scipy import sparse

from recmia.data.interactions import Bool, IdMap, Int32, Int64, Interactions, places_in_groups, with_unknown_times
from recmia.data.lists import write_members, write_trained
from recmia.data.tables import Layout, Rows, open_table
from recmia.errors import DataError, near_file
from recmia.observation import Queries

QUESTIONS, KEY, MEMBERS = "questions.parquet", "key.parquet", "members.csv"
_MISSING = "{path}: there is no column for the {role} among {names}; recmia ask writes this file"
_ASKED = Layout("questions", ("query", "item", "position"), required=("query", "item"), missing=_MISSING)
_HIDDEN = Layout("hidden items", ("query", "user", "item"), required=("query", "user", "item"), missing=_MISSING)


def write_questions(folder: Path, about: Interactions, queries: Queries, member: Bool | None = None) -> None:
    """Write questions about users, their key and, if they are drawn, who is to be a member.

    Parameters
    ----------
    folder : Path
        Exists.
    about : Interactions
        Histories of the users.
    queries : Queries
        Parts of these histories. The number of a question is its row.
    member : bool, shape (n_users,) or (n_interactions,), optional

    Examples
    --------
    See `read_questions`.
    """
    ordered = queries.sequences is not None
    query, item = _entries(queries.histories(in_order=ordered))
    columns: dict[str, np.ndarray] = {"query": query, "item": about.items.ids[item]}
    place = np.searchsorted(about.keys(), queries.user[query].astype(np.int64) * about.n_items + item)
    if about.rated:
        columns["rating"] = about.value[place]
    if about.time is not None:
        columns["time"] = _times(about, query, place) if ordered else about.time[place]
    if ordered:
        columns["position"] = places_in_groups(query)
    with_unknown_times(pl.DataFrame(columns)).write_parquet(folder / QUESTIONS)
    query, item = _entries(queries.hidden)
    user = about.users.ids[queries.user[query]]
    pl.DataFrame({"query": query, "user": user, "item": about.items.ids[item]}).write_parquet(folder / KEY)
    if member is not None and len(member) == about.n_users:
        write_members(folder / MEMBERS, about.users, member)
    elif member is not None:
        write_trained(folder / MEMBERS, about, member)


def read_questions(folder: Path, histories: Interactions) -> tuple[Interactions, Queries, IdMap]:
    """Return the users whom questions are about, the questions, and their numbers in the files.

    Parameters
    ----------
    folder : Path
        That `write_questions` wrote.
    histories : Interactions
        Of these users, and maybe of others.

    Returns
    -------
    about : Interactions
        The histories of the users who are asked about, over the items of `histories`.
    queries : Queries
        By user, and then by number.
    numbers : IdMap

    Raises
    ------
    DataError
        Naming the file and the row: a file that is missing or damaged, a question without a key or a key without a
        question, an unknown user, an item that is in no history of the user's, given twice (where there are positions,
        a position that is), or both asked with and hidden. All of these happen with the key of other questions.

    Examples
    --------
    >>> import tempfile
    >>> data = Interactions.from_arrays([7, 7, 8, 8], ["x", "y", "x", "z"])
    >>> halves = data.csr()[[0, 0]] * sparse.csr_array([[1, 0, 0], [0, 1, 0]], dtype=np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_questions(Path(folder), data, Queries(np.array([0, 0], np.int32), halves, halves[[1, 0]]))
    ...     about, queries, numbers = read_questions(Path(folder), data)
    >>> about.users.ids, queries.hidden.toarray().astype(int).tolist()
    (array([7]), [[0, 1, 0], [1, 0, 0]])
    """
    if not folder.is_dir():
        found = f"is a file; give its folder, {folder.parent}" if folder.is_file() else f"is none{near_file(folder)}"
        raise DataError(f"the questions are in the folder that recmia ask wrote (--questions), and {folder} {found}")
    asked, hidden = (open_table(folder / name, of).rows() for name, of in ((QUESTIONS, _ASKED), (KEY, _HIDDEN)))
    numbers = IdMap(np.unique(asked.ids("query").to_numpy()))
    if not len(numbers):
        raise DataError(f"{folder / QUESTIONS} holds no questions")
    of_asked = asked.rows_of("query", numbers, "has no number of a question")
    of_hidden = hidden.rows_of(
        "query", numbers, f"is about a question that is not in {QUESTIONS}, so that this is another key", *_HIDDEN.roles
    )
    user = hidden.rows_of(
        "user",
        histories.users,
        "is about a user who is in no history (of those who left since, the old histories are needed)",
        *_HIDDEN.roles,
    )
    whose = np.full(len(numbers), -1, np.int64)
    whose[of_hidden[::-1]] = user[::-1]
    hidden.refuse(whose[of_hidden] != user, "is about another user than the question", *_HIDDEN.roles)
    asked.refuse(whose[of_asked] < 0, f"belongs to a question that is not in {KEY}, so that this is another key",
                 *_ASKED.roles)  # fmt: skip
    order = np.lexsort((np.arange(len(numbers)), whose))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    users, renumbered = np.unique(whose[order], return_inverse=True)
    about = histories if len(users) == histories.n_users else histories.restrict(users)
    of_asked, of_hidden = place[of_asked], place[of_hidden]
    positions = _positions(asked, of_asked)
    queries = Queries(
        renumbered.astype(np.int32),
        _part(asked, _ASKED.required, of_asked, about, renumbered, repeats=positions is not None),
        _part(hidden, _HIDDEN.roles, of_hidden, about, renumbered, beside=(of_asked, asked)),
        None if positions is None else _in_order(asked, of_asked, positions, about, renumbered),
    )
    return about, queries, numbers.take(order)


def _times(about: Interactions, query: Int64, place: Int64) -> Int64:
    """Return the time of each event of questions, which are given by the interactions' places, in order."""
    events, times = about.known_events(), about.event_times()
    assert times is not None, "with times"
    found: Int64 = times[_events_of(events, len(about), query, place)]
    return found


def _events_of(events: Int32, n: int, query: Int64, place: Int64) -> Int64:
    """Return which of all events each one of the questions is; `place` has its interaction, of n."""
    # The n-th occurrence of an item in a question is the n-th event of the interaction.
    together = np.lexsort((place, query))
    occurrence = np.empty(len(place), np.int64)
    occurrence[together] = places_in_groups(query[together] * n + place[together])
    by_interaction = np.argsort(events, kind="stable")
    first, last = (np.searchsorted(events[by_interaction], place, side=side) for side in ("left", "right"))
    # A question that repeats an item more often than the history is refused elsewhere, by its order.
    found: Int64 = by_interaction[np.minimum(first + occurrence, last) - 1]
    return found


def _positions(asked: Rows, query: Int64) -> Int64 | None:
    """Return the position of each row in its question; None where there are none."""
    if "position" not in asked.frame.columns:
        return None
    column = asked.frame["position"].cast(pl.Int64, strict=False)
    asked.refuse(column.is_null(), "has a position that is no whole number", "query", "item", "position")
    both = pl.DataFrame({"query": query, "position": column})
    twice = both.is_duplicated() & ~both.select(pl.struct(pl.all()).is_first_distinct()).to_series()
    asked.refuse(twice, "has a position of its question a second time", "query", "item", "position")
    return column.to_numpy()


def _in_order(asked: Rows, query: Int64, positions: Int64, about: Interactions, user: Int64) -> sparse.csr_array:
    """Return what is asked with as sequences; each row is known to be in a history."""
    item = asked.rows_of("item", about.items, "")
    order = np.lexsort((positions, query))
    place = np.searchsorted(about.keys(), user[query] * about.n_items + item)
    value = about.value[place]
    if about.events is not None:
        happened, times = _events_of(about.events, len(about), query[order], place[order]), about.event_times()
        # Among equal times, another file may have another order.
        when = happened if times is None else times[happened]
        back = np.append(False, (np.diff(when) < 0) & (np.diff(query[order]) == 0))
        wrong = np.zeros(len(order), np.bool_)
        wrong[order] = back
        asked.refuse(wrong, "comes, by its position, after what happened later in the history, so that the positions "
                     "are not those that recmia ask wrote", "query", "item", "position")  # fmt: skip
    ends = np.append(0, np.cumsum(np.bincount(query, minlength=len(user))))
    return sparse.csr_array((value[order], item[order].astype(np.int32), ends), (len(user), about.n_items))


def _part(
    rows: Rows,
    shown: Sequence[str],
    query: Int64,
    about: Interactions,
    user: Int64,
    beside: tuple[Int64, Rows] | None = None,
    repeats: bool = False,
) -> sparse.csr_array:
    """Return a part of histories, float32, shape (q, n_items), with the values of the histories.

    Items that are `beside` it, in the other part, are refused, and so are repeated ones, unless there may be `repeats`.
    """
    other = "so that the histories are others, or the key is"
    item = rows.rows_of("item", about.items, f"has an item that is in no history, {other}", *shown)
    pair = query * about.n_items + item
    series = pl.Series(pair)
    again = ~series.is_first_distinct()
    if not repeats:
        rows.refuse(again, "has an item a second time", *shown)
    of_user = user[query] * about.n_items + item
    keys = about.keys()
    found = np.minimum(np.searchsorted(keys, of_user), len(keys) - 1)
    rows.refuse(keys[found] != of_user, f"has an item that is not in the history of the user, {other}", *shown)
    if beside is not None:
        asked_query, asked = beside
        asked_item = asked.rows_of("item", about.items, "", *_ASKED.roles)
        both = np.isin(pair, asked_query * about.n_items + asked_item)
        rows.refuse(both, "hides an item that the question asks with, so that this is another key", *shown)
    once = np.flatnonzero(~again.to_numpy())
    order = once[np.argsort(pair[once], kind="stable")]
    ends = np.append(0, np.cumsum(np.bincount(query[once], minlength=len(user))))
    value = about.value[found[order]]
    return sparse.csr_array((value, item[order].astype(np.int32), ends), (len(user), about.n_items))


def _entries(matrix: sparse.csr_array) -> tuple[Int64, np.ndarray]:
    """Return row and column of each stored entry."""
    return np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr)), matrix.indices

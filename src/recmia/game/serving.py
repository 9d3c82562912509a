"""The regimes: which list each user is served; and what a system answers to queries."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import get_args

import numpy as np
from scipy import sparse

from recmia.data.interactions import Bool, IdMap, Int32
from recmia.errors import ConfigError, ProtocolError, RecmiaError, nearest
from recmia.game.split import Side
from recmia.observation import Queries, describe, list_of_user, rank_by_popularity
from recmia.recommenders.base import Recommender, check_recommendations
from recmia.settings import FOLDING, Regime

# Queries that are asked in one call, which bounds the memory of a system that computes something for each.
_ASKED_AT_ONCE = 2**15


def serve(
    regime: Regime,
    model: Recommender,
    side: Side,
    k: int,
    *,
    exclude_seen: bool = True,
    alpha: float = 0.1,
    rng: np.random.Generator,
) -> Int32:
    """Return the lists that a system shows to the users of a side.

    ================  ==================================  ================================================
    regime            a member gets                       a non-member gets
    ================  ==================================  ================================================
    popular           what was trained for it             the k most popular training items
    popular-random    what was trained for it             k drawn from the k / alpha most popular
    fold-in           a list from the history             a list from the history, by the same path
    trained           what was trained for it             a list from the history
    ================  ==================================  ================================================

    A recommender that trains nothing for single users serves members from their history in all regimes.

    Parameters
    ----------
    regime : {"popular", "popular-random", "fold-in", "trained"}
    model : Recommender
        Fitted on ``side.training_data()``.
    side : Side
    k : int
    exclude_seen : bool
        Whether personal lists leave out the history. A popular list is the same for all users and never does.
    alpha : float
        In (0, 1], for ``popular-random``.
    rng : numpy.random.Generator
        For ``popular-random``.

    Returns
    -------
    int32, shape (n_users, k)

    Raises
    ------
    ConfigError
        For an unknown regime, one that the model cannot serve, or `k` above the number of items with training data.
    ProtocolError
        If the model, its `trained_items` or a list breaks the contract of `Recommender`, or if the model fails with an
        error of its own. Users in the message are rows of the histories that were passed to the method named there.

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> from recmia.recommenders import Popularity
    >>> data = Interactions.from_arrays([1, 1, 2, 3], [1, 2, 1, 3])
    >>> side, rng = Side(data, np.array([True, True, False])), np.random.default_rng(0)
    >>> serve("fold-in", Popularity().fit(side.training_data(), rng=rng), side, 1, rng=rng).tolist()
    [[-1], [1], [0]]
    """
    if regime not in get_args(Regime):
        raise ConfigError(f"unknown regime {regime!r}; {nearest(regime, get_args(Regime))}")
    trained = _trained_items(model, side.interactions.n_items, k)
    check_servable(model.called(), model.folds_in, [regime])
    histories, member = side.histories(), side.member
    asked = side.histories(in_order=True) if model.uses_order else histories

    def ask(recommend: Callable[..., Int32], asked: sparse.csr_array, histories: sparse.csr_array) -> Int32:
        words = f"{model.called(recommend.__name__)}, asked about {histories.shape[0]} users"
        return _ask(recommend, asked, histories, trained, k, exclude_seen, words, list_of_user)

    if regime == "fold-in":
        return ask(model.recommend, asked, histories)
    lists = np.empty((len(member), k), np.int32)
    # All who are in training are asked about, in the order of training; only the side's own are served.
    own, others = (asked[member], histories[member]), side.others
    if others is not None:
        theirs = (others.sequences() if model.uses_order else others.csr(), others.csr())
        own = tuple(sparse.vstack(pair, format="csr") for pair in zip(own, theirs, strict=True))
    lists[member] = ask(model.recommend_members, *own)[: int(member.sum())]
    if regime == "trained":
        lists[~member] = ask(model.recommend, asked[~member], histories[~member])
        return lists
    ranking = rank_by_popularity(side.training_data().item_counts())[: int(trained.sum())]
    if regime == "popular":
        lists[~member] = ranking[:k]
    else:
        pool = ranking[: max(k, round(k / alpha))]
        lists[~member] = rng.permuted(np.tile(pool, (int((~member).sum()), 1)), axis=1)[:, :k]
    return lists


def answer(model: Recommender, queries: Queries, k: int, *, users: IdMap, exclude_seen: bool = True) -> Int32:
    """Return what a system answers to queries, each by fold-in, as it would serve a stranger.

    Members and non-members are asked about by the same calls, some tens of thousands of queries at once.

    Parameters
    ----------
    model : Recommender
        Fitted.
    queries : Queries
    k : int
    users : IdMap
        Whose rows the queries name, for errors.
    exclude_seen : bool
        Whether an answer leaves out what was asked with.

    Returns
    -------
    int32, shape (q, k)

    Raises
    ------
    ConfigError
        If the model cannot serve a stranger, or for `k` out of range.
    ProtocolError
        As `serve`, naming the query and its user.

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> from recmia.game.queries import draw_queries
    >>> from recmia.recommenders import Popularity
    >>> data, rng = Interactions.from_arrays([1, 1, 2, 3], [1, 2, 1, 3]), np.random.default_rng(0)
    >>> queries = draw_queries(data, 2, 0.5, rng)
    >>> answer(Popularity().fit(data, rng=rng), queries, 1, users=data.users).tolist()
    [[1], [0]]
    """
    trained = _trained_items(model, queries.asked.shape[1], k)
    if not model.folds_in:
        raise ConfigError(
            f"{model.called()} cannot be asked: it serves no user that it was not trained on, and a query is the "
            "history of a stranger; take attacks that only look at lists (queries = 0)"
        )
    asked = queries.histories(in_order=model.uses_order)
    answers = np.empty((len(queries), k), np.int32)
    for start in range(0, len(queries), _ASKED_AT_ONCE):
        rows = slice(start, min(start + _ASKED_AT_ONCE, len(queries)))
        words = f"{model.called('recommend')}, asked {rows.stop - rows.start} queries"

        def called(row: int, start: int = start) -> str:
            return f"the answer to query {start + row}, about user {users.ids[queries.user[start + row]]},"

        answers[rows] = _ask(model.recommend, asked[rows], queries.asked[rows], trained, k, exclude_seen, words, called)
    return answers


def _ask(
    recommend: Callable[..., Int32],
    asked: sparse.csr_array,
    histories: sparse.csr_array,
    trained: Bool,
    k: int,
    exclude_seen: bool,
    source: str,
    called: Callable[[int], str],
) -> Int32:
    """Ask a system with histories, which may be in order, and check what it gives."""
    try:
        lists = recommend(asked, k, exclude_seen=exclude_seen)
    except ProtocolError as error:
        raise ProtocolError(f"{source}: {error}") from error
    except RecmiaError:
        raise
    except Exception as error:
        words = " ".join(str(error).split())
        raise ProtocolError(f"{source}, raised {type(error).__name__}: {words}") from error
    check_recommendations(lists, histories, trained, k, exclude_seen=exclude_seen, source=source, called=called)
    return lists


def _trained_items(model: Recommender, n_items: int, k: int) -> Bool:
    """Return the trained items of a model, after a check that it can fill lists of k."""
    got = type(model).__name__
    if not isinstance(model, Recommender):
        raise ProtocolError(f"a fitted Recommender is needed, which fit must return; got a {got}")
    trained = model.trained_items
    if not isinstance(trained, np.ndarray) or trained.shape != (n_items,) or trained.dtype != np.bool_:
        raise ProtocolError(
            f"{model.called()}.trained_items must be bool with shape ({n_items},) after fit, true for the items with a "
            f"training interaction; got {describe(trained)}"
        )
    return model.fitted_items(k)


def check_servable(name: str, folds_in: bool, regimes: Iterable[str]) -> None:
    """Check that a recommender can serve these regimes.

    Raises
    ------
    ConfigError
        Naming the regimes that it can serve.

    Examples
    --------
    >>> check_servable("als", True, ["fold-in"])
    """
    for regime in regimes:
        if regime in FOLDING and not folds_in:
            raise ConfigError(
                f"{name} cannot serve a user that it was not trained on, which the regime {regime} asks for; it can be "
                "audited in: popular, popular-random, where non-members get popular items and an attack finds those, "
                "whatever the model remembers; an object whose recommend uses the history alone sets folds_in = True"
            )

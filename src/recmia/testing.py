"""Checks for user code: call `check_recommender`, `check_attack` or `check_interaction_attack` in a test.

>>> from recmia.recommenders import LFM
>>> from recmia.settings import SGDSettings
>>> from recmia.testing import check_recommender
>>> check_recommender(lambda: LFM(SGDSettings(epochs=50, learning_rate=0.05, regularisation=0.05), factors=8))

An attack is checked on data with a planted leak, and on data without one:

>>> from recmia.attacks import ATTACKS
>>> from recmia.testing import check_attack
>>> check_attack(lambda: ATTACKS["distance"].make({}), finds="twin")

So is an attack on single interactions:

>>> from recmia.testing import check_interaction_attack
>>> check_interaction_attack(lambda: ATTACKS["item-completion"].make({}))
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, get_args

import cloudpickle
import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.attacks import Attack, InteractionAttack, InteractionPool, PoolAttack, run_attack, run_pool_attack
from recmia.attacks.interactions import checked_interactions
from recmia.data.interactions import Float32, IdMap, Int32, Int64, Interactions
from recmia.engine.matrices import once_each, row_items
from recmia.errors import ConfigError, DataError, NotFittedError, ProtocolError, TooFewShadowsError, nearest
from recmia.game.queries import draw_blocks
from recmia.metrics import auc
from recmia.observation import Bool, Float64, Items, Observation, Queries, ShadowPool
from recmia.recommenders.base import Recommender, check_recommendations

# The data: as many users as items that someone likes, and a few items that nobody has interacted with.
_SIZE, _UNKNOWN = 40, 4
_SEED = 20231123
# The share of users whose first item must be right.
_RIGHT = 0.9

# The data for attacks: pairs of neighbouring items in genres, and odd items that are in nobody's history.
_PAIRS, _GENRES, _ODD, _LIST_LENGTH = 48, 6, 12, 10
_N_ITEMS = 2 * _PAIRS + _ODD
# An attack finds a leak if its AUC is at least _FOUND, and nothing if its mean AUC over _GAMES is 0.5 +- _CHANCE. Where
# nothing leaks, an AUC on 300 users has a standard deviation of 0.033, and the mean of five one of 0.015.
_FOUND, _CHANCE, _GAMES = 0.65, 0.06, 5

# For attacks on interactions: blocks of a history, users, and the least AUC where something leaks. Where nothing does,
# an AUC on 2,600 interactions has a standard deviation of 0.011: _CHANCE is five of these.
_BLOCKS, _USERS_OF_INTERACTIONS, _FOUND_INTERACTIONS = 4, 200, 0.75

Leak = Literal["twin", "oddity", "memoriser", "none"]
InteractionLeak = Literal["memoriser", "left-out", "none"]
# What an attacker needs for an attack that does not learn from labels.
_UNLEARNED = ("nothing", "references")
# The share of the hidden items that a memoriser remembers.
_REMEMBERED = 0.5
# What an attack is fitted on: the pool, or shadow users and their membership.
_Training = ShadowPool | tuple[Observation, Bool]


def check_recommender(make: Callable[[], Recommender], *, personal: bool = True) -> None:
    """Check that a recommender keeps the contract of `Recommender`, on small data whose right answer is known.

    The data are a checkerboard of 40 users and 40 items: a user likes (value 5) items of its own parity, some of which
    are withheld, and dislikes (value 1) two of the other. For nine users in ten the first item must be one of those
    withheld; a coin would do that once in ten million times. The text of an item names its parity. Four more items have
    no interaction. The model is fitted six times.

    Parameters
    ----------
    make : callable
        Returns a new recommender, not yet fitted, with settings that suffice to learn so small a table.
    personal : bool
        False for a recommender that does not try to learn taste (a control such as the most popular items): all is
        checked but the right answer.

    Raises
    ------
    AssertionError, ProtocolError
        Naming the rule that is broken.

    Notes
    -----
    A class with ``folds_in = False`` is checked through `Recommender.recommend_members` alone. One with ``uses_order =
    True`` is given the items of each user in a random order, with repeats, and must refuse data without an order.
    """
    model = make()
    name = type(model).__name__
    rules = _Rules(name)
    hold, refuses = rules.hold, rules.refuses

    label = np.arange(_SIZE + _UNKNOWN)
    data = _checkerboard(label, ordered=model.uses_order)
    members, strangers = _histories(data), _strange_histories(ordered=model.uses_order)
    trained = data.item_counts() > 0
    lists_of: list[Callable[..., Int32]] = []

    # Before fit.
    refuses(NotFittedError, lambda: model.recommend_members(members, 1), "lists before fit must raise NotFittedError")
    if model.folds_in:
        refuses(NotFittedError, lambda: model.recommend(members, 1), "lists before fit must raise NotFittedError")

    if model.uses_order:
        unordered = _checkerboard(label)
        refuses(DataError, lambda: _fit(make(), unordered), "uses_order is True, so fit must refuse data without order")
    hold(_fit(model, data) is model, "fit must return the recommender itself")
    hold(
        model.trained_items is not None and np.array_equal(model.trained_items, trained),
        "trained_items must be true for the items with a training interaction, and for no other",
    )

    # The lists.
    served = [(model.recommend_members, members, "recommend_members")]
    if model.folds_in:
        served += [(model.recommend, members, "recommend"), (model.recommend, strangers, "recommend")]
    for recommend, histories, method in served:
        before = histories.copy()
        for k in (1, 10, int(trained.sum())):
            for exclude_seen in (True, False):
                lists = recommend(histories, k, exclude_seen=exclude_seen)
                check_recommendations(
                    lists,
                    once_each(before),
                    trained,
                    k,
                    exclude_seen=exclude_seen,
                    source=f"{name}.{method}(k={k}, {exclude_seen=})",
                )
                again = recommend(histories, k, exclude_seen=exclude_seen)
                hold(np.array_equal(lists, again), f"{method} must give the same lists when it is asked again")
        for k in (0, int(trained.sum()) + 1):
            refuses(
                ConfigError,
                lambda recommend=recommend, histories=histories, k=k: recommend(histories, k),  # type: ignore[misc]
                f"{method} must raise ConfigError for k = {k}, where {trained.sum()} items have training data",
            )
        unchanged = all(
            np.array_equal(getattr(histories, part), getattr(before, part)) for part in ("data", "indices", "indptr")
        )
        hold(unchanged, f"{method} must not change the histories that it is given")
        lists_of.append(recommend)

    if model.folds_in:
        _check_scores(model, sparse.vstack([members, strangers], format="csr"), hold)
    else:
        refuses(
            ProtocolError,
            lambda: model.recommend(members, 1),
            "folds_in is False, so recommend must raise ProtocolError",
        )
    if personal:
        _check_answers(model, data, label, hold)

    # Other copies of the same model.
    def same_lists(other: Recommender) -> bool:
        pairs = [(model.recommend_members, other.recommend_members, members)]
        if model.folds_in:
            pairs += [(model.recommend, other.recommend, members), (model.recommend, other.recommend, strangers)]
        return all(np.array_equal(one(rows, 10), two(rows, 10)) for one, two, rows in pairs)

    try:
        copy = pickle.loads(pickle.dumps(model))
    except Exception as error:
        raise AssertionError(f"{name}: it must survive pickle, not raise {type(error).__name__}: {error}") from error
    hold(same_lists(copy), "it must give the same lists after pickle")
    hold(same_lists(_fit(make(), data)), "the same seed must give the same lists; draw from `rng` alone")
    used = _fit(make(), _checkerboard(label, n_users=_SIZE - 11, swapped=True, ordered=model.uses_order))
    hold(same_lists(_fit(used, data)), "fit must forget the earlier fit")

    # Other labels for the items.
    moved = np.random.default_rng(_SEED).permutation(len(label))
    relabelled = _checkerboard(moved, ordered=model.uses_order)
    other = _fit(make(), relabelled)
    if personal:
        _check_answers(other, relabelled, moved, hold)
    if model.folds_in:
        scores = model.scores(members)
        # What no seed changes must depend on the data alone, and not on the order of the items.
        if np.array_equal(scores, _fit(make(), data, seed=1).scores(members)):
            expected, found = scores[:, trained], other.scores(_histories(relabelled))[:, moved][:, trained]
            hold(_close(found, expected), "relabelling the items must relabel the scores and change nothing else")


def _histories(data: Interactions) -> sparse.csr_array:
    """Return the histories of data, in order if they have one."""
    return data.csr() if data.events is None else data.sequences()


def _checkerboard(label: Int64, n_users: int = _SIZE, swapped: bool = False, *, ordered: bool = False) -> Interactions:
    """Draw the data; item i stands in row ``label[i]``, and users like the other parity where `swapped`.

    Where `ordered`, each user's items come in a random order, and the first of them comes again at the end.
    """
    rng = np.random.default_rng(_SEED)
    user, item = np.divmod(np.arange(_SIZE * _SIZE), _SIZE)
    own = user % 2 == (item + swapped) % 2
    # A few likes are missing at random: on a table that is too regular, ties would be broken by rounding.
    liked = own & (user != item) & (rng.random(len(user)) < 0.85)
    disliked = np.zeros(len(user), np.bool_)
    for u in range(_SIZE):
        disliked[rng.choice(np.flatnonzero(~own & (user == u)), 2, replace=False)] = True
    kept = np.flatnonzero((liked | disliked) & (user < n_users))
    user, row = user[kept], label[item[kept]]
    order = np.lexsort((row, user))
    text = np.empty(len(label), object)
    text[label] = [f"{('even', 'odd')[i % 2]}|film" for i in range(len(label))]
    events = None
    if ordered:
        by_user = np.split(np.arange(len(kept), dtype=np.int32), np.flatnonzero(np.diff(user)) + 1)
        # By the item and not by its row, so that labels change nothing else.
        shuffled = [rng.permutation(rows[np.argsort(item[kept][order][rows])]) for rows in by_user]
        events = np.concatenate([np.append(rows, rows[0]) for rows in shuffled])
    return Interactions(
        user=user[order].astype(np.int32),
        item=row[order].astype(np.int32),
        value=np.where(liked[kept], 5, 1)[order].astype(np.float32),
        time=None,
        users=IdMap(np.arange(n_users)),
        items=IdMap(np.arange(len(label)), tuple(text)),
        events=events,
    )


def _strange_histories(*, ordered: bool = False) -> sparse.csr_array:
    """Nothing; unknown items only; one item; all items but one. In order: backwards, and the one item twice."""
    dense = np.zeros((4, _SIZE + _UNKNOWN), np.float32)
    dense[1, _SIZE:] = dense[2, 7] = dense[3, 1:] = 5
    histories = sparse.csr_array(dense)
    if not ordered:
        return histories
    rows = [items[::-1] for items in row_items(histories)]
    rows[2] = np.repeat(rows[2], 2)
    items = np.concatenate(rows)
    ends = np.cumsum([0, *map(len, rows)])
    return sparse.csr_array((np.full(len(items), 5, np.float32), items, ends), histories.shape)


def _fit(model: Recommender, data: Interactions, seed: int = 0) -> Recommender:
    return model.fit(data, rng=np.random.default_rng(seed))


def _close(found: Float32, expected: Float32) -> bool:
    return np.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(np.abs(expected).max(initial=1e-30)))


def _check_scores(model: Recommender, histories: sparse.csr_array, hold: Callable[[bool, str], None]) -> None:
    scores, known = model.scores(histories), model.fitted_items()
    hold(
        isinstance(scores, np.ndarray) and scores.shape == histories.shape and scores.dtype == np.float32,
        f"scores must return float32 of shape {histories.shape}; got "
        f"{getattr(scores, 'dtype', type(scores).__name__)} of shape {np.shape(scores)}",
    )
    hold(bool(np.isfinite(scores[:, known]).all()), "the scores of known items must be finite, for any history")
    lists = model.recommend(histories, 10)
    for user in range(len(scores)):
        row, alone = lists[user], histories[[user]]
        hold(
            _close(model.scores(alone)[:, known], scores[[user]][:, known])
            and np.array_equal(model.recommend(alone, 10)[0], row),
            f"a user's scores and list must not depend on the other rows; those of user {user} alone differ",
        )
        ranked = scores[user, row[row >= 0]].astype(np.float64)
        left = known.copy()
        left[alone.indices] = left[row[row >= 0]] = False
        # recommend may compute the scores in another order, hence with other last bits.
        slack = 1e-4 * float(np.abs(scores[user, known]).max())
        best_left = scores[user, left].max(initial=-np.inf)
        hold(
            bool((np.diff(ranked) <= slack).all()) and (len(ranked) == 0 or best_left <= ranked[-1] + slack),
            f"a list must hold the best items by their scores, best first; that of user {user} does not",
        )


def _check_answers(model: Recommender, data: Interactions, label: Int64, hold: Callable[[bool, str], None]) -> None:
    """Ask whether each user's first item is of its parity, as only withheld ones of those not seen are."""
    parity = np.empty(len(label), np.int64)
    parity[label] = np.arange(len(label)) % 2
    for method in ("recommend_members", "recommend") if model.folds_in else ("recommend_members",):
        first = getattr(model, method)(_histories(data), 1)[:, 0]
        right = parity[first] == np.arange(data.n_users) % 2
        hold(
            float(right.mean()) >= _RIGHT,
            f"{method} must put a withheld item of the user's own parity first; it did for {right.sum()} of "
            f"{len(right)} users (more epochs may help, and a recommender without taste is checked with personal=False)"
            + ("" if np.array_equal(label, np.arange(len(label))) else "; the items were relabelled"),
        )


def planted_leak(kind: Leak, rng: np.random.Generator, *, n_users: int = 300) -> tuple[Observation, Bool]:
    """Return users of one system as an attacker sees them, and who of them is a member.

    Half of the users are members. What is known of the items is the same in every call.

    ==========  ===============================================  ===============================================
    kind        a member is shown                                a non-member is shown
    ==========  ===============================================  ===============================================
    "twin"      neighbours of the items of its own history       the most popular items, the same for all
    "oddity"    a list by its taste, with one item in it that    a list by its taste
                is shown to hardly any other user
    "none"      a list by its taste                              a list by its taste
    ==========  ===============================================  ===============================================

    The attacker has asked two queries about each user, with halves of the history, and knows what two reference models
    answer. Answers are by the taste of the half that is asked with. With the leak "memoriser", lists are as with
    "none", and answers about members hold many items of the other half.

    Parameters
    ----------
    kind : {"twin", "oddity", "memoriser", "none"}
    rng : numpy.random.Generator
    n_users : int

    Returns
    -------
    observation : Observation
        Of `n_users` users, with lists and answers of 10 items.
    member : bool, shape (n_users,)

    Raises
    ------
    ConfigError
        For an unknown kind.

    Examples
    --------
    >>> import numpy as np
    >>> from recmia.attacks.rules import shared_list
    >>> from recmia.metrics import auc
    >>> seen, member = planted_leak("twin", np.random.default_rng(0))
    >>> auc(member, shared_list(seen)).value > 0.9
    True
    >>> seen, member = planted_leak("none", np.random.default_rng(0))
    >>> auc(member, shared_list(seen)).value
    0.5
    """
    # Of its own, so that lists do not depend on what is asked.
    (asking,) = rng.spawn(1)
    pairs = _draw_pairs(n_users, rng)
    member = rng.permutation(n_users) < n_users // 2
    histories = _histories_of(pairs)
    queries = _halves(histories, asking)
    answers, *references = (_answers(what, queries, member, asking) for what in (kind, "none", "none"))
    lists = _leaking_lists(kind, pairs, member, rng)
    return Observation(
        histories,
        lists,
        _items(),
        rng.random(n_users),
        queries,
        answers,
        np.stack(references),
        _as_strangers(kind, lists, member, asking),
    ), member


def planted_pool(
    kind: Leak, rng: np.random.Generator, *, n_shadows: int = 12, n_targets: int = 8, n_users: int = 40
) -> tuple[ShadowPool, list[Observation], Bool]:
    """Return a pool of shadow models, what target systems show to the same users, and who is a member of which target.

    Members are served as `planted_leak` says. Shadows 2i and 2i + 1 are trained on complementary halves of the users;
    the members of the targets are independent coins.

    Parameters
    ----------
    kind : {"twin", "oddity", "memoriser", "none"}
    rng : numpy.random.Generator
    n_shadows : int
        Even.
    n_targets, n_users : int

    Returns
    -------
    pool : ShadowPool
    targets : list of Observation
    member : bool, shape (n_targets, n_users)
        Of the targets.

    Examples
    --------
    >>> import numpy as np
    >>> pool, targets, member = planted_pool("oddity", np.random.default_rng(0))
    >>> len(pool), pool.n_users, len(targets), member.shape
    (12, 40, 8, (8, 40))
    """
    (asking,) = rng.spawn(1)
    pairs = _draw_pairs(n_users, rng)
    halves = rng.random((n_shadows // 2, n_users)) < 0.5
    into = np.stack([halves, ~halves], axis=1).reshape(n_shadows, n_users)
    member = rng.random((n_targets, n_users)) < 0.5
    shown = [_leaking_lists(kind, pairs, row, rng) for row in (*into, *member)]
    histories = _histories_of(pairs)
    queries = _halves(histories, asking)
    told = [_answers(kind, queries, row, asking) for row in (*into, *member)]
    pool = ShadowPool(
        histories, np.stack(shown[:n_shadows]), into, _items(), queries=queries, answers=np.stack(told[:n_shadows])
    )
    seen = [pool.observe(*one) for one in zip(shown[n_shadows:], told[n_shadows:], strict=True)]
    return pool, seen, member


def planted_interactions(
    kind: InteractionLeak, rng: np.random.Generator, *, n_shadows: int = 6, n_users: int = _USERS_OF_INTERACTIONS
) -> tuple[InteractionPool, Observation, Bool]:
    """Return what shadow models and one system answer to the same queries, and what the system was trained on.

    A coin is tossed for each interaction of every user, for the system as for each pair of shadow models, of which the
    second gets what the first does not. Every interaction is hidden once, with a quarter of its user's history, and the
    rest is asked with. Two reference models answer by taste alone.

    ===========  =============================================  ==============================================
    kind         the answer to a query                          the list of a user
    ===========  =============================================  ==============================================
    "memoriser"  by the taste of what is asked with, but        by taste, without the history
                 hidden items that were trained on stand high
    "left-out"   by taste                                       first the items of the history, without those
                                                                that were trained on
    "none"       by taste                                       by taste, without the history
    ===========  =============================================  ==============================================

    Parameters
    ----------
    kind : {"memoriser", "left-out", "none"}
    rng : numpy.random.Generator
    n_shadows : int
        Even.
    n_users : int

    Returns
    -------
    pool : InteractionPool
    observation : Observation
        Of the system, with lists and answers of 10 items.
    trained : bool, shape (m,)
        Which of the hidden interactions the system was trained on, in the order of ``queries.hidden.indices``.

    Raises
    ------
    ConfigError
        For an unknown kind.

    Examples
    --------
    >>> import numpy as np
    >>> from recmia.attacks.interactions import ItemCompletion
    >>> from recmia.metrics import auc
    >>> pool, seen, trained = planted_interactions("memoriser", np.random.default_rng(0))
    >>> auc(trained, ItemCompletion().score(seen)).value > 0.9
    True
    >>> len(pool), pool.trained.shape == (6, len(trained))
    (6, True)
    """
    _check_kind(kind, InteractionLeak)
    pairs = _draw_pairs(n_users, rng)
    histories = _histories_of(pairs)
    user, item = (found.astype(np.int32) for found in histories.nonzero())
    data = Interactions(
        user, item, np.ones(len(user), np.float32), None, IdMap(np.arange(n_users)), IdMap(np.arange(_N_ITEMS))
    )
    queries = draw_blocks(data, _BLOCKS, rng)
    halves = rng.random((n_shadows // 2, len(data))) < 0.5
    into = np.stack([halves, ~halves], axis=1).reshape(n_shadows, len(data))
    trained = rng.random(len(data)) < 0.5
    nothing = np.zeros(len(data), np.bool_)
    systems = (trained, *into) if kind == "memoriser" else (nothing,) * (1 + n_shadows)
    answers, *told = (_remembering(queries, one, rng) for one in systems)
    references = np.stack([_remembering(queries, nothing, rng) for _ in range(2)])
    seen = histories.toarray()[:, : 2 * _PAIRS] > 0
    taste = np.repeat(_taste(pairs > 0), 2, axis=1) + 0.3 * rng.gumbel(size=seen.shape)
    if kind == "left-out":
        taste += 3 * seen
        seen[:] = False
        seen[queries.hidden_user[trained], queries.hidden.indices[trained]] = True
    lists = np.argsort(np.where(seen, np.inf, -taste), axis=1)[:, :_LIST_LENGTH].astype(np.int32)
    shape = (n_shadows, len(queries), _LIST_LENGTH)
    pool = InteractionPool(queries, np.array(told, np.int32).reshape(shape), into, _items())
    return pool, Observation(histories, lists, _items(), None, queries, answers, references), trained


def check_attack(make: Callable[[], Attack | PoolAttack], *, finds: Leak = "twin", alone: bool = True) -> None:
    """Check that an attack keeps the contract of `Attack` or `PoolAttack`, on small data with a planted leak.

    The attack must find the leak: an AUC of at least 0.65, more than four standard deviations above chance. It must
    find nothing where lists are drawn regardless of membership: the mean AUC over five games must lie in 0.5 +- 0.06,
    four standard deviations, for the targets and for shadow users that it was not fitted on. Its scores must be finite,
    the same for the same seed, and depend on nothing that it must not know.

    Parameters
    ----------
    make : callable
        Returns a new attack, not yet fitted.
    finds : {"twin", "oddity", "memoriser", "none"}
        The leak that the attack is made for, see `planted_leak`; "none" for an attack that looks at nothing that these
        leaks change, such as the length of the history.
    alone : bool
        Whether a user's score is promised not to depend on which other users are scored with it. False for an attack
        that compares users with each other. A `PoolAttack` always promises it.

    Raises
    ------
    AssertionError
        Naming the rule that is broken, in one line.
    ConfigError
        For an unknown leak.

    Examples
    --------
    >>> import numpy as np
    >>> from recmia.attacks import Attack
    >>> class RarestItem(Attack):
    ...     name, needs = "rarest-item", "nothing"
    ...
    ...     def score(self, observation):
    ...         popularity = observation.items.popularity[observation.lists]
    ...         return -popularity.min(axis=1).astype(np.float64)
    >>> check_attack(RarestItem, finds="oddity")
    """
    _check_kind(finds)
    attack = make()
    name, title = _named(attack)
    rules = _Rules(title)
    hold, refuses = rules.hold, rules.refuses

    def scores_by(fitted: Attack | PoolAttack, seen: Observation, users: str = "users") -> Float64:
        try:
            scores = fitted.score(seen)
        except Exception as error:
            raise AssertionError(f"{title}: score of {len(seen)} {users} raised {_told(error)}") from error
        hold(
            isinstance(scores, np.ndarray) and scores.shape == (len(seen),) and scores.dtype == np.float64,
            f"score must return float64 of shape ({len(seen)},); got {getattr(scores, 'dtype', type(scores).__name__)} "
            f"of shape {np.shape(scores)}",
        )
        bad = int((~np.isfinite(scores)).sum())
        hold(bad == 0, f"scores must be finite; {bad} of {len(scores)} {users} have another one")
        return scores.copy()

    of_interactions = getattr(attack, "unit", "user") == "interaction"
    elsewhere = " (an attack on interactions is checked by check_interaction_attack)" if of_interactions else ""
    hold(isinstance(attack, (Attack, PoolAttack)), f"make must return a recmia.attacks.Attack or PoolAttack{elsewhere}")
    hold(title == name, "it must have a name, a text for tables")
    allowed = ("pool",) if isinstance(attack, PoolAttack) else (*_UNLEARNED, "shadow")
    hold(attack.needs in allowed, f"needs must be {' or '.join(map(repr, allowed))}; got {attack.needs!r}")
    hold(make() is not attack, "make must return a new attack each time")
    n_shadows = 0
    if isinstance(attack, PoolAttack):
        n_shadows = max(12, 2 * (attack.min_shadows // 2 + 2))
    asks = attack.asks
    data, targets, truth = _game(finds, n_shadows, seed=1, asks=asks)
    target = targets[0]

    # Before fit.
    if attack.needs not in _UNLEARNED:
        refuses(NotFittedError, lambda: attack.score(target), "scores before fit must raise NotFittedError")
    if isinstance(attack, PoolAttack):
        assert isinstance(data, ShadowPool)
        few = data.take(np.arange(attack.min_shadows - 1))
        rule = f"fit on {len(few)} shadow models, below min_shadows, must raise TooFewShadowsError"
        refuses(TooFewShadowsError, lambda: _fit_attack(make(), few), rule)

    # Fit and score.
    before = _copies(data)
    hold(_fit_attack(attack, data) is attack, "fit must return the attack itself")
    hold(_same(before, data), "fit must not change the arrays that it is given")
    before = _copies((target, truth))
    scores = scores_by(attack, target)
    hold(_same(before, (target, truth)), "score must not change the arrays that it is given")
    rng = np.random.default_rng(_SEED)
    rng.shuffle(truth.reshape(-1))
    hold(
        np.array_equal(scores_by(attack, target), scores),
        "score must give the same values when it is asked again, whatever the labels of the target are",
    )
    scores_by(attack, _edge_cases(target), "users with empty lists, empty histories or items without a vector")

    # Other attacks of the same kind.
    hold(
        np.array_equal(scores_by(_fit_attack(make(), data), target), scores),
        "the same seed must give the same scores; draw from `rng` alone",
    )
    used = _fit_attack(_fit_attack(make(), _game(finds, n_shadows, seed=2, asks=asks)[0]), data)
    hold(np.array_equal(scores_by(used, target), scores), "fit must forget the earlier fit")

    # What a score must not depend on.
    if attack.needs in _UNLEARNED:
        unlearned = _fit_attack(make(), _with_labels(data, rng))
        hold(
            np.array_equal(scores_by(unlearned, target), scores),
            f"needs is {attack.needs!r}, so the scores must not depend on the labels that fit is given",
        )
    lent = _with_labels(data, None)
    borrower = _fit_attack(make(), lent)
    rng.shuffle(_labels(lent).reshape(-1))
    hold(
        np.array_equal(scores_by(borrower, target), scores),
        "labels that are permuted after fit must not change the scores: they are used in fit only",
    )
    for user in range(5):
        if isinstance(attack, PoolAttack):
            found = scores_by(attack, _of_others(target, user))[user]
        elif alone:
            found = scores_by(attack, target.take(np.array([user])))[0]
        else:
            break
        hold(
            bool(np.isclose(found, scores[user], rtol=1e-6, atol=1e-9)),
            f"a user's score must not depend on the other users; that of user {user} does"
            + (
                "" if isinstance(attack, PoolAttack) else " (an attack that compares users is checked with alone=False)"
            ),
        )
    if not isinstance(attack, PoolAttack):
        order = rng.permutation(len(target))
        hold(
            bool(np.allclose(scores_by(attack, target.take(order)), scores[order], rtol=1e-6, atol=1e-9)),
            "scores must follow the users when these are reordered",
        )

    # What it finds.
    if finds != "none":
        area, _ = _areas(make, finds, n_shadows, seed=3)
        hold(
            area >= _FOUND,
            f"it must find the planted leak {finds!r} with an AUC of {_FOUND} or more; it is {area:.3f} (higher scores "
            'must mean members; an attack that is not made for these leaks is checked with finds="none")',
        )
    areas = np.mean([_areas(make, "none", n_shadows, seed=10 + number) for number in range(_GAMES)], axis=0)
    hold(
        abs(areas[0] - 0.5) <= _CHANCE,
        f"where lists are drawn regardless of membership, the mean AUC must be 0.5 +- {_CHANCE}; it is {areas[0]:.3f}",
    )
    # Stratified folds make it a little lower where there is nothing to learn.
    hold(
        areas[1] - 0.5 <= _CHANCE,
        "where lists are drawn regardless of membership, the mean AUC on shadow users that it was not fitted on must "
        f"be at most {0.5 + _CHANCE}; it is {areas[1]:.3f} (does it keep labels from an earlier fit?)",
    )

    # Last, because cloudpickle may put copies of its methods into a class that is defined in a function.
    try:
        copy = cloudpickle.loads(cloudpickle.dumps(attack))
    except Exception as error:
        raise AssertionError(f"{title}: it must survive pickle, not raise {_told(error)}") from error
    hold(np.array_equal(scores_by(copy, target), scores), "it must give the same scores after pickle")


def check_interaction_attack(make: Callable[[], InteractionAttack], *, finds: InteractionLeak = "memoriser") -> None:
    """Check that an attack keeps the contract of `InteractionAttack`, on small data with a planted leak.

    The attack must find the leak: an AUC of at least 0.75 over some 2,600 interactions. It must find nothing where
    answers and lists are drawn regardless of what was trained on: an AUC of 0.5 +- 0.06, five standard deviations. Its
    scores must be finite, the same for the same seed, and depend on nothing that it must not know. As in an audit, an
    attack that does not say that it asks is handed no answers, and one that does not say that it looks no lists; `fit`
    is called if it needs a pool.

    Parameters
    ----------
    make : callable
        Returns a new attack, not yet fitted.
    finds : {"memoriser", "left-out", "none"}
        The leak that the attack is made for, see `planted_interactions`; "none" for one that looks at nothing that
        these leaks change, such as the popularity of the item.

    Raises
    ------
    AssertionError
        Naming the rule that is broken, in one line.
    ConfigError
        For an unknown leak.

    Examples
    --------
    >>> import numpy as np
    >>> from recmia.attacks import InteractionAttack
    >>> class ComesBack(InteractionAttack):
    ...     name = "comes-back"
    ...
    ...     def score(self, observation):
    ...         hidden = observation.queries.hidden
    ...         answers = np.repeat(observation.answers, np.diff(hidden.indptr), axis=0)
    ...         return (answers == hidden.indices[:, None]).any(axis=1).astype(np.float64)
    >>> check_interaction_attack(ComesBack)
    """
    _check_kind(finds, InteractionLeak)
    attack = make()
    name, title = _named(attack)
    rules = _Rules(title)
    hold, refuses = rules.hold, rules.refuses

    def scores_by(fitted: InteractionAttack, seen: Observation) -> Float64:
        try:
            scores = checked_interactions(fitted, seen)
        except ProtocolError as error:
            raise AssertionError(f"{title}: score: {error}") from error
        except Exception as error:
            raise AssertionError(f"{title}: score raised {_told(error)}") from error
        hold(scores.dtype == np.float64, f"score must return float64; got {scores.dtype}")
        return scores.copy()

    hold(isinstance(attack, InteractionAttack), "make must return a recmia.attacks.InteractionAttack")
    hold(title == name, "it must have a name, a text for tables")
    hold(
        attack.needs in (*_UNLEARNED, "pool"), f"needs must be 'nothing', 'references' or 'pool'; got {attack.needs!r}"
    )
    hold(make() is not attack, "make must return a new attack each time")
    learns = attack.needs == "pool"
    n_shadows = max(6, 2 * ((attack.min_shadows + 1) // 2)) if learns else 0

    def game(kind: InteractionLeak, seed: int) -> tuple[InteractionPool, Observation, Bool]:
        return planted_interactions(kind, np.random.default_rng([_SEED, seed]), n_shadows=n_shadows)

    def fitted(one: InteractionAttack, data: InteractionPool) -> InteractionAttack:
        return one.fit(data, rng=np.random.default_rng(_SEED)) if learns else one

    pool, target, truth = game(finds, 1)

    # Before fit.
    if learns:
        refuses(NotFittedError, lambda: attack.score(target), "scores before fit must raise NotFittedError")
        few = _first(pool, attack.min_shadows - 1)
        rule = f"fit on {len(few)} shadow models, below min_shadows, must raise TooFewShadowsError"
        if attack.min_shadows:
            refuses(TooFewShadowsError, lambda: fitted(make(), few), rule)

    # Fit and score.
    before = _copies(pool)
    hold(fitted(attack, pool) is attack, "fit must return the attack itself")
    hold(_same(before, pool), "fit must not change the arrays that it is given")
    before = _copies(target)
    scores = scores_by(attack, target)
    hold(_same(before, target), "score must not change the arrays that it is given")
    hold(np.array_equal(scores_by(attack, target), scores), "score must give the same values when it is asked again")
    scores_by(attack, _answered_less(target))

    # Other attacks of the same kind.
    hold(
        np.array_equal(scores_by(fitted(make(), pool), target), scores),
        "the same seed must give the same scores; draw from `rng` alone",
    )
    if learns:
        used = fitted(fitted(make(), game(finds, 2)[0]), pool)
        hold(np.array_equal(scores_by(used, target), scores), "fit must forget the earlier fit")
        lent = replace(pool, trained=pool.trained.copy())
        borrower = fitted(make(), lent)
        lent.trained[:] = ~lent.trained
        hold(
            np.array_equal(scores_by(borrower, target), scores),
            "labels that are changed after fit must not change the scores: they are used in fit only",
        )

    # What it finds.
    found = auc(truth, scores).value
    if finds != "none":
        assert found is not None
        hold(
            found >= _FOUND_INTERACTIONS,
            f"it must find the planted leak {finds!r} with an AUC of {_FOUND_INTERACTIONS} or more; it is {found:.3f} "
            "(higher scores must mean that an interaction was trained on; an attack that is not made for these leaks "
            'is checked with finds="none")',
        )
    blind, seen, truth = game("none", 3)
    found = auc(truth, scores_by(fitted(make(), blind), seen)).value
    assert found is not None
    hold(
        abs(found - 0.5) <= _CHANCE,
        f"where answers and lists are drawn regardless of what was trained on, the AUC must be 0.5 +- {_CHANCE}; it is "
        f"{found:.3f}",
    )

    # Last, because cloudpickle may put copies of its methods into a class that is defined in a function.
    try:
        copy = cloudpickle.loads(cloudpickle.dumps(attack))
    except Exception as error:
        raise AssertionError(f"{title}: it must survive pickle, not raise {_told(error)}") from error
    hold(np.array_equal(scores_by(copy, target), scores), "it must give the same scores after pickle")


def _first(pool: InteractionPool, n: int) -> InteractionPool:
    """The pool of the first n shadow models."""
    return replace(pool, answers=pool.answers[:n], trained=pool.trained[:n])


def _answered_less(seen: Observation) -> Observation:
    """The same without references, and with some answers and lists that are empty or end early."""
    assert seen.answers is not None
    answers, lists = seen.answers.copy(), seen.lists.copy()
    for shown in (answers, lists):
        shown[:6], shown[6:12, 1:] = -1, -1
    return replace(seen, answers=answers, lists=lists, references=None)


def _of_others(seen: Observation, user: int) -> Observation:
    """The same but that each user other than this one has the list and the answers of another."""
    lists = np.roll(seen.lists, 1, axis=0)
    lists[user] = seen.lists[user]
    if seen.queries is None or seen.answers is None:
        return replace(seen, lists=lists)
    own = seen.queries.user == user
    return replace(seen, lists=lists, answers=np.where(own[:, None], seen.answers, np.roll(seen.answers, 2, axis=0)))


def _check_kind(kind: str, kinds: Any = Leak) -> None:
    if kind not in get_args(kinds):
        raise ConfigError(f"unknown leak {kind!r}; {nearest(kind, get_args(kinds))}")


def _items() -> Items:
    """What an attacker knows of the items: the same whatever is drawn."""
    rank = np.arange(_PAIRS) // _GENRES
    vectors = np.zeros((_N_ITEMS, _GENRES + 2))
    vectors[: 2 * _PAIRS, 0] = np.repeat(3 * np.exp(-rank / 2), 2)
    vectors[np.arange(2 * _PAIRS), 1 + np.repeat(np.arange(_PAIRS) % _GENRES, 2)] = 1
    vectors[2 * _PAIRS :, -1] = 1
    # Neighbours have nearly the same vector.
    vectors += 0.05 * np.random.default_rng(_SEED).normal(size=vectors.shape)
    popularity = np.zeros(_N_ITEMS, np.int64)
    popularity[: 2 * _PAIRS] = np.repeat(1000 / (1 + rank), 2).astype(np.int64)
    return Items(vectors, np.ones(_N_ITEMS, np.bool_), popularity)


def _taste(pairs: Bool) -> Float64:
    """How much each user likes each pair, by the genres of its history and by popularity: float64[n, _PAIRS]."""
    by_genre = np.add.reduceat(pairs[:, np.argsort(np.arange(_PAIRS) % _GENRES, kind="stable")],
                               np.arange(0, _PAIRS, _PAIRS // _GENRES), axis=1)  # fmt: skip
    return np.tile(np.log1p(by_genre), (1, _PAIRS // _GENRES)) - 0.7 * np.log1p(np.arange(_PAIRS) // _GENRES)


def _draw_pairs(n_users: int, rng: np.random.Generator) -> npt.NDArray[np.int8]:
    """Draw the pairs that each user knows: int8[n, _PAIRS], 1 and 2 for the one or the other item of a pair, or 0."""
    liked = rng.gumbel(size=(n_users, _GENRES)).argsort(axis=1).argsort(axis=1) < 2
    keys = np.where(np.tile(liked, (1, _PAIRS // _GENRES)), 2.0, 0.0) - 0.7 * np.log1p(np.arange(_PAIRS) // _GENRES)
    place = (-keys - rng.gumbel(size=keys.shape)).argsort(axis=1).argsort(axis=1)
    known = place < rng.integers(_LIST_LENGTH, 17, (n_users, 1))
    return (known * rng.integers(1, 3, keys.shape)).astype(np.int8)


def _histories_of(pairs: npt.NDArray[np.int8]) -> sparse.csr_array:
    seen = np.zeros((len(pairs), _N_ITEMS), np.float32)
    seen[:, 0 : 2 * _PAIRS : 2], seen[:, 1 : 2 * _PAIRS : 2] = pairs == 1, pairs == 2
    return sparse.csr_array(seen)


def _leaking_lists(kind: Leak, pairs: npt.NDArray[np.int8], member: Bool, rng: np.random.Generator) -> Int32:
    """Draw what one system shows to each user."""
    _check_kind(kind)
    n = len(pairs)
    taste = np.repeat(_taste(pairs > 0), 2, axis=1) + 0.3 * rng.gumbel(size=(n, 2 * _PAIRS))
    seen = _histories_of(pairs).toarray()[:, : 2 * _PAIRS] > 0
    lists = np.argsort(np.where(seen, np.inf, -taste), axis=1)[:, :_LIST_LENGTH].astype(np.int32)
    if kind == "oddity":
        rows = np.flatnonzero(member)
        lists[rows, rng.integers(_LIST_LENGTH, size=len(rows))] = 2 * _PAIRS + rows % _ODD
    if kind == "twin":
        # The neighbour of each known item, in random order, and the items that most members know.
        neighbours = 2 * np.arange(_PAIRS) + (pairs == 1)
        order = np.where(pairs > 0, rng.random(pairs.shape), 1).argsort(axis=1)[:, :_LIST_LENGTH]
        popular = np.argsort(-seen[member].sum(axis=0), kind="stable")[:_LIST_LENGTH]
        lists = np.where(member[:, None], np.take_along_axis(neighbours, order, axis=1), popular).astype(np.int32)
    return lists


def _halves(histories: sparse.csr_array, rng: np.random.Generator) -> Queries:
    """Two queries about each user, each with the half of the history that the other hides."""
    seen = histories.toarray()
    place = np.where(seen > 0, rng.random(seen.shape), 2).argsort(axis=1).argsort(axis=1)
    first = seen * (place < (seen > 0).sum(axis=1, keepdims=True) // 2)
    halves = np.stack([first, seen - first], axis=1)
    user = np.repeat(np.arange(len(seen), dtype=np.int32), 2)
    asked, hidden = (sparse.csr_array(part.reshape(-1, _N_ITEMS)) for part in (halves, halves[:, ::-1]))
    return Queries(user, asked, hidden)


def _answers(kind: Leak, queries: Queries, member: Bool, rng: np.random.Generator) -> Int32:
    """Draw what one system answers."""
    asked, hidden = (part.toarray()[:, : 2 * _PAIRS] > 0 for part in (queries.asked, queries.hidden))
    taste = np.repeat(_taste(asked[:, ::2] | asked[:, 1::2]), 2, axis=1) + 0.3 * rng.gumbel(size=asked.shape)
    if kind == "memoriser":
        taste += 3 * (hidden & member[queries.user, None] & (rng.random(hidden.shape) < _REMEMBERED))
    return np.argsort(np.where(asked, np.inf, -taste), axis=1)[:, :_LIST_LENGTH].astype(np.int32)


def _remembering(queries: Queries, remembered: Bool, rng: np.random.Generator) -> Int32:
    """Draw what one system answers that remembers some of the hidden interactions: bool[m]."""
    asked = queries.asked.toarray()[:, : 2 * _PAIRS] > 0
    taste = np.repeat(_taste(asked[:, ::2] | asked[:, 1::2]), 2, axis=1) + 0.3 * rng.gumbel(size=asked.shape)
    query = np.repeat(np.arange(len(queries)), np.diff(queries.hidden.indptr))
    taste[query, queries.hidden.indices] += 3 * remembered
    return np.argsort(np.where(asked, np.inf, -taste), axis=1)[:, :_LIST_LENGTH].astype(np.int32)


def _as_strangers(kind: Leak, lists: Int32, member: Bool, rng: np.random.Generator) -> Int32:
    """Draw what one system answers to whole histories: with the leak "twin", a non-member is given its list back."""
    others = lists[:, rng.permutation(lists.shape[1])]
    return np.where(member[:, None], others, lists) if kind == "twin" else others


def _game(kind: Leak, n_shadows: int, seed: int, *, asks: bool) -> tuple[_Training, list[Observation], Bool]:
    """What an attack is fitted on, what it scores, and the truth about that: bool[R, n]."""
    rng = np.random.default_rng([_SEED, seed])
    if n_shadows:
        pool, seen, member = planted_pool(kind, rng, n_shadows=n_shadows)
        return (pool, seen, member) if asks else (pool.looking_only(), [one.looking_only() for one in seen], member)
    (shadow, into), (target, truth) = planted_leak(kind, rng), planted_leak(kind, rng)
    if asks:
        return (shadow, into), [target], truth[None]
    return (shadow.looking_only(), into), [target.looking_only()], truth[None]


def _areas(make: Callable[[], Any], kind: Leak, n_shadows: int, seed: int) -> tuple[float, float]:
    """AUC on the targets, and on the shadow users that the attack was not fitted on."""
    data, targets, truth = _game(kind, n_shadows, seed, asks=make().asks)
    rng = np.random.default_rng(seed)
    if isinstance(data, ShadowPool):
        shadow_scores, scores = run_pool_attack(make, data, targets, rng=rng)
    else:
        shadow_scores, (first,) = run_attack(make, *data, targets, rng=rng)
        scores = first[None]
    found = auc(truth.ravel(), scores.ravel()).value, auc(_labels(data).ravel(), shadow_scores.ravel()).value
    assert found[0] is not None
    assert found[1] is not None
    return found[0], found[1]


def _fit_attack(attack: Any, data: _Training) -> Any:
    rng = np.random.default_rng(_SEED)
    return attack.fit(data, rng=rng) if isinstance(data, ShadowPool) else attack.fit(*data, rng=rng)


def _labels(data: _Training) -> Bool:
    return data.member if isinstance(data, ShadowPool) else data[1]


def _with_labels(data: _Training, rng: np.random.Generator | None) -> _Training:
    """The same with labels of its own, permuted by `rng` if there is one."""
    labels = _labels(data).copy()
    if rng is not None:
        rng.shuffle(labels.reshape(-1))
    return replace(data, member=labels) if isinstance(data, ShadowPool) else (data[0], labels)


def _arrays(data: object) -> list[npt.NDArray[Any]]:
    if isinstance(data, np.ndarray):
        return [data]
    if isinstance(data, tuple):
        return [array for part in data for array in _arrays(part)]
    if isinstance(data, InteractionPool):
        asked, hidden = data.queries.asked, data.queries.hidden
        return [asked.data, asked.indices, hidden.data, hidden.indices, data.answers, data.trained,
                *vars(data.items).values()]  # fmt: skip
    assert isinstance(data, (Observation, ShadowPool))
    histories, items = data.histories, data.items
    parts = [histories.data, histories.indices, histories.indptr, data.lists, *vars(items).values()]
    if data.queries is not None:
        parts += [data.queries.asked.data, data.queries.hidden.data, np.asarray(data.answers)]
        parts += [] if isinstance(data, ShadowPool) or data.references is None else [data.references]
    return [*parts, data.member] if isinstance(data, ShadowPool) else [*parts, np.asarray(data.last_time)]


def _copies(data: object) -> list[npt.NDArray[Any]]:
    return [array.copy() for array in _arrays(data)]


def _same(before: list[npt.NDArray[Any]], data: object) -> bool:
    return all(map(np.array_equal, before, _arrays(data)))


def _edge_cases(seen: Observation) -> Observation:
    """The same users, some with an empty list, an empty history or both, and none with odd items that have a vector."""
    lists, histories = seen.lists.copy(), seen.histories.toarray()
    lists[:6], lists[6:9, 1:] = -1, -1
    histories[3:6] = histories[9:12] = 0
    has_vector = np.arange(_N_ITEMS) < 2 * _PAIRS
    queries, answers, references = seen.queries, seen.answers, seen.references
    if queries is not None and answers is not None:
        # Nothing can be asked about users without a history, and about one more nothing was. The attacks with many
        # shadow models ask the system what they asked these.
        kept = np.ones(len(queries), np.bool_)
        if references is not None:
            kept = (histories[queries.user] > 0).any(axis=1) & (queries.user != 12)
        queries, answers = Queries(queries.user[kept], queries.asked[kept], queries.hidden[kept]), answers[kept].copy()
        answers[:3], answers[3:6, 1:] = -1, -1
        references = None if references is None else references[:, kept]
    items = replace(seen.items, has_vector=has_vector)
    return Observation(
        sparse.csr_array(histories), lists, items, queries=queries, answers=answers, references=references,
        as_stranger=seen.as_stranger,
    )  # fmt: skip


def _named(attack: object) -> tuple[object, str]:
    """The name that an attack gives itself, if any, and what it is called here."""
    name = getattr(attack, "name", None)
    return name, name if isinstance(name, str) and name else type(attack).__name__


class _Rules:
    """The rules that something of the user's has to keep; what breaks one is named."""

    def __init__(self, title: str) -> None:
        self._title = title

    def hold(self, kept: bool, rule: str) -> None:
        if not kept:
            raise AssertionError(f"{self._title}: {rule}")

    def refuses(self, error: type[Exception], call: Callable[[], object], rule: str) -> None:
        try:
            call()
        except error:
            return
        except Exception as other:
            raise AssertionError(f"{self._title}: {rule}, not {_told(other)}") from other
        raise AssertionError(f"{self._title}: {rule}; it returned instead")


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"

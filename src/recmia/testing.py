"""Checks for your own recommender: call `check_recommender` in a test.

>>> from recmia.recommenders import LFM
>>> from recmia.factorization import SGDSettings
>>> from recmia.testing import check_recommender
>>> check_recommender(lambda: LFM(SGDSettings(epochs=50, learning_rate=0.05, regularisation=0.05), l=8))
"""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
from scipy import sparse

from recmia.errors import ConfigError, NotFittedError, ProtocolError
from recmia.interactions import Float32, IdMap, Int32, Int64, Interactions
from recmia.recommenders.base import Recommender, check_recommendations

# The data: as many users as items that someone likes, and a few items that nobody has interacted with.
_SIZE, _UNKNOWN = 40, 4
_SEED = 20231123
# The share of users whose first item must be right.
_RIGHT = 0.9


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
    A class with ``folds_in = False`` is checked through `Recommender.recommend_members` alone.
    """
    model = make()
    name = type(model).__name__

    def hold(kept: bool, rule: str) -> None:
        if not kept:
            raise AssertionError(f"{name}: {rule}")

    def refuses(error: type[Exception], call: Callable[[], object], rule: str) -> None:
        try:
            call()
        except error:
            return
        except Exception as other:
            raise AssertionError(f"{name}: {rule}, not {type(other).__name__}: {other}") from other
        raise AssertionError(f"{name}: {rule}; it returned instead")

    label = np.arange(_SIZE + _UNKNOWN)
    data = _checkerboard(label)
    members, strangers = data.csr(), _strange_histories()
    known = data.item_counts() > 0
    lists_of: list[Callable[..., Int32]] = []

    # Before fit.
    refuses(NotFittedError, lambda: model.recommend_members(members, 1), "lists before fit must raise NotFittedError")
    if model.folds_in:
        refuses(NotFittedError, lambda: model.recommend(members, 1), "lists before fit must raise NotFittedError")

    hold(_fit(model, data) is model, "fit must return the recommender itself")
    hold(
        model.known is not None and np.array_equal(model.known, known),
        "known must be true for the items with a training interaction, and for no other",
    )

    # The lists.
    served = [(model.recommend_members, members, "recommend_members")]
    if model.folds_in:
        served += [(model.recommend, members, "recommend"), (model.recommend, strangers, "recommend")]
    for recommend, histories, method in served:
        before = histories.copy()
        for k in (1, 10, int(known.sum())):
            for exclude_seen in (True, False):
                lists = recommend(histories, k, exclude_seen=exclude_seen)
                check_recommendations(
                    lists,
                    before,
                    known,
                    k,
                    exclude_seen=exclude_seen,
                    source=f"{name}.{method}(k={k}, {exclude_seen=})",
                )
                again = recommend(histories, k, exclude_seen=exclude_seen)
                hold(np.array_equal(lists, again), f"{method} must give the same lists when it is asked again")
        for k in (0, int(known.sum()) + 1):
            refuses(
                ConfigError,
                lambda recommend=recommend, histories=histories, k=k: recommend(histories, k),  # type: ignore[misc]
                f"{method} must raise ConfigError for k = {k}, where {known.sum()} items are known",
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
    used = _fit(make(), _checkerboard(label, n_users=_SIZE - 11, swapped=True))
    hold(same_lists(_fit(used, data)), "fit must forget the earlier fit")

    # Other labels for the items.
    moved = np.random.default_rng(_SEED).permutation(len(label))
    relabelled = _checkerboard(moved)
    other = _fit(make(), relabelled)
    if personal:
        _check_answers(other, relabelled, moved, hold)
    if model.folds_in:
        scores = model.scores(members)
        # What no seed changes must depend on the data alone, and not on the order of the items.
        if np.array_equal(scores, _fit(make(), data, seed=1).scores(members)):
            expected, found = scores[:, known], other.scores(relabelled.csr())[:, moved][:, known]
            hold(_close(found, expected), "relabelling the items must relabel the scores and change nothing else")


def _checkerboard(label: Int64, n_users: int = _SIZE, swapped: bool = False) -> Interactions:
    """Draw the data; item i stands in row ``label[i]``, and users like the other parity where `swapped`."""
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
    return Interactions(
        user=user[order].astype(np.int32),
        item=row[order].astype(np.int32),
        value=np.where(liked[kept], 5, 1)[order].astype(np.float32),
        time=None,
        users=IdMap(np.arange(n_users)),
        items=IdMap(np.arange(len(label)), tuple(text)),
    )


def _strange_histories() -> sparse.csr_array:
    """Nothing; unknown items only; one item; all items but one."""
    dense = np.zeros((4, _SIZE + _UNKNOWN), np.float32)
    dense[1, _SIZE:] = dense[2, 7] = dense[3, 1:] = 5
    return sparse.csr_array(dense)


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
        first = getattr(model, method)(data.csr(), 1)[:, 0]
        right = parity[first] == np.arange(data.n_users) % 2
        hold(
            float(right.mean()) >= _RIGHT,
            f"{method} must put a withheld item of the user's own parity first; it did for {right.sum()} of "
            f"{len(right)} users (more epochs may help, and a recommender without taste is checked with personal=False)"
            + ("" if np.array_equal(label, np.arange(len(label))) else "; the items were relabelled"),
        )

"""The interface of every recommender, and the base class of those that rank by vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import numpy as np
from scipy import sparse

from recmia.data.interactions import Bool, Float32, Int32, Interactions
from recmia.engine.matrices import count_in_rows
from recmia.errors import ConfigError, NotFittedError, ProtocolError
from recmia.observation import check_lists, describe, in_history, list_of_user

# Entries of a dense block of scores: bounds the memory whatever the number of users. Compiled code is as fast for few
# users as for many: its blocks stay in a core's second-level cache.
_SCORES_AT_ONCE = 2**24
SCORES_IN_CACHE = 2**18


class Recommender(ABC):
    """Learns from members' interactions and ranks items for any history.

    A subclass sets `trained_items` in `fit` and implements `scores`; the ranking is inherited. A subclass that trains
    something for each user of the fit, such as a vector, also overrides `recommend_members`.

    Attributes
    ----------
    trained_items : bool, shape (n_items,)
        The items with a training interaction, set by `fit`. Only they are recommended.
    folds_in : bool
        Whether `scores` can serve a user that was not in the fit. A recommender that cannot do so sets it to False,
        overrides `recommend_members`, and raises `ProtocolError` from `scores`.
    uses_order : bool
        Whether it gets histories in the order of events. All that take `histories` are then given them as
        `Interactions.sequences` makes them: the oldest item first, repeated items repeatedly. `fit` finds the order in
        `Interactions.events`.
    window : int or None
        How many of the last events of a history it uses, if older ones are cut off; runs then say of how many users.

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> class MostSeen(Recommender):
    ...     def fit(self, interactions, *, rng):
    ...         self.counts = interactions.item_counts().astype(np.float32)
    ...         self.trained_items = self.counts > 0
    ...         return self
    ...
    ...     def scores(self, histories):
    ...         return np.tile(self.counts, (histories.shape[0], 1))
    >>> data = Interactions.from_arrays(user=[1, 1, 2, 2, 3], item=[10, 20, 10, 30, 30])
    >>> MostSeen().fit(data, rng=np.random.default_rng(0)).recommend(data.csr(), 2).tolist()
    [[2, -1], [1, -1], [0, 1]]
    """

    folds_in: bool = True
    uses_order: bool = False
    window: int | None = None
    trained_items: Bool | None = None

    @abstractmethod
    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Train on these interactions, forget any earlier fit, and return `self`."""

    @abstractmethod
    def scores(self, histories: sparse.csr_array) -> Float32:
        """Return a score of every item for users of whom only the history is given (fold-in).

        Parameters
        ----------
        histories : csr_array of float32, shape (n, n_items)
            Zero or more interactions per user; the values are ratings, or 1.

        Returns
        -------
        float32, shape (n, n_items)
            Higher is better. Scores of items that are not in `trained_items` are ignored. The scores of a user do not
            depend on the other rows.
        """

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Return the k best trained items for users of whom only the history is given.

        Parameters
        ----------
        histories : csr_array of float32, shape (n, n_items)
        k : int
            Length of the lists, from 1 to the number of trained items.
        exclude_seen : bool
            Leave out the items of the history.

        Returns
        -------
        int32, shape (n, k)
            Best first, ties by lower item row; -1 pads a list when too few items are left.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ConfigError
            If `k` is out of range.
        ProtocolError
            If the scores have the wrong shape or are not finite.
        """
        return self._rank(lambda rows: self.scores(histories[rows]), histories, k, exclude_seen)

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Return the k best trained items for the users of the fit, by whatever was trained for them.

        Unless overridden, nothing was trained for single users, and they are served from their history.

        Parameters
        ----------
        histories : csr_array of float32, shape (n_users, n_items)
            Row u is user u of the fit.
        k : int
        exclude_seen : bool

        Returns
        -------
        int32, shape (n_users, k)
            As `recommend`.
        """
        return self.recommend(histories, k, exclude_seen=exclude_seen)

    def called(self, method: str = "") -> str:
        """Return what messages call this recommender, or one of its methods: what the user knows it by."""
        return f"{type(self).__name__}.{method}" if method else type(self).__name__

    # Most recommenders have no use for it, so it is no abstract method.
    def expect(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> None:  # noqa: B027
        """Take note of what `recommend` will be asked, which is asked all the same.

        A system that is expensive to ask overrides this, to serve everything at once. The default does nothing.
        """

    @property
    def item_vectors(self) -> Float32:
        """The trained item vectors, float32, shape (n_items, factors): what a white-box attacker knows.

        Raises
        ------
        ConfigError
            If the recommender has none.
        """
        raise ConfigError(
            f"{type(self).__name__} has no item vectors for a white-box attacker to know; audit it at the levels "
            "black-box or grey-box"
        )

    def fitted_items(self, k: int = 1) -> Bool:
        """Return `trained_items`, after a check that the model is fitted and can fill a list of `k` items.

        Raises
        ------
        NotFittedError, ConfigError
        """
        if self.trained_items is None:
            raise NotFittedError(f"{type(self).__name__} was asked for lists before fit")
        n = int(self.trained_items.sum())
        if not 1 <= k <= n:
            raise ConfigError(f"k, the list length, must lie in 1..{n}, the items with training data; got {k}")
        return self.trained_items

    def _rank(
        self,
        score: Callable[[slice], Float32],
        histories: sparse.csr_array,
        k: int,
        exclude_seen: bool,
        *,
        entries: int | None = None,
        threads: int = 1,
    ) -> Int32:
        """Rank by ``score(rows)``, a few users at a time, so that dense scores stay small.

        Parameters
        ----------
        score : callable
            With several threads, it is called from all of them.
        histories : csr_array of float32, shape (n, n_items)
        k : int
        exclude_seen : bool
        entries : int, optional
            How many scores each thread has in memory, or those of one user if these are more.
        threads : int
        """
        # Compiled code is loaded by what calls it.
        from recmia.engine.ranking import top_k

        trained = self.fitted_items(k)
        lists = np.empty((histories.shape[0], k), np.int32)
        step = max(1, (entries or _SCORES_AT_ONCE) // len(trained))

        def rank(start: int) -> None:
            rows = slice(start, min(start + step, len(lists)))
            scores, shape = score(rows), (rows.stop - rows.start, len(trained))
            if not isinstance(scores, np.ndarray) or scores.shape != shape or scores.dtype.kind not in "fiu":
                raise ProtocolError(f"scores must be float32 with shape {shape}; got {describe(scores)}")
            lists[rows] = top_k(scores, histories[rows] if exclude_seen else None, trained, k, start)

        starts = range(0, len(lists), step)
        if threads == 1:
            # Not in a thread of its own, where user code may fail that needs the main thread.
            for start in starts:
                rank(start)
        else:
            with ThreadPoolExecutor(threads) as pool:
                for _ in pool.map(rank, starts):
                    pass
        return lists


class VectorRecommender(Recommender):
    r"""Ranks by the score :math:`p_u \cdot q_i + b_i`, with a vector for each user and each item.

    A subclass calls `_set_vectors` at the end of `fit` and implements `fold_in`. Users of the fit are served by their
    trained vectors, others by `fold_in`.

    Parameters
    ----------
    factors : int
        Length of the vectors, the latent dimension.
    threads : int
        How many threads it may use; no result depends on it.

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> class Averages(VectorRecommender):
    ...     '''Random item vectors; a user is the mean over the history.'''
    ...
    ...     def fit(self, interactions, *, rng):
    ...         self.trained_items = interactions.item_counts() > 0
    ...         items = rng.standard_normal((interactions.n_items, self.factors), np.float32)
    ...         no_bias = np.zeros(len(items), np.float32)
    ...         users = interactions.csr() @ items
    ...         self._set_vectors(users, items, no_bias, self.trained_items)
    ...         return self
    ...
    ...     def fold_in(self, histories):
    ...         return histories @ self.item_vectors
    >>> data = Interactions.from_arrays(user=[1, 1, 2], item=[10, 20, 30])
    >>> Averages(factors=4).fit(data, rng=np.random.default_rng(0)).scores(data.csr()).shape
    (2, 3)
    """

    def __init__(self, *, factors: int = 100, threads: int = 1) -> None:
        self.factors, self.threads = factors, threads
        self._vectors: tuple[Float32, Float32, Float32] | None = None

    def _set_vectors(self, users: Float32, items: Float32, item_bias: Float32, trained_items: Bool) -> None:
        """Keep what `fit` trained.

        Parameters
        ----------
        users : float32, shape (n_users, factors)
        items : float32, shape (n_items, factors)
            Zero for items without a training interaction.
        item_bias : float32, shape (n_items,)
        trained_items : bool, shape (n_items,)
        """
        self._vectors, self.trained_items = (users, items, item_bias), trained_items

    def _fitted_vectors(self) -> tuple[Float32, Float32, Float32]:
        if self._vectors is None:
            raise NotFittedError(f"this {type(self).__name__} has no vectors before fit")
        return self._vectors

    @property
    def user_vectors(self) -> Float32:
        """The trained p_u of the users of the fit, float32, shape (n_users, factors)."""
        return self._fitted_vectors()[0]

    @property
    def item_vectors(self) -> Float32:
        """The trained q_i, float32, shape (n_items, factors); zero for items without a training interaction."""
        return self._fitted_vectors()[1]

    @property
    def item_bias(self) -> Float32:
        """The trained b_i, float32, shape (n_items,); zero for a model without item biases."""
        return self._fitted_vectors()[2]

    @abstractmethod
    def fold_in(self, histories: sparse.csr_array) -> Float32:
        """Return user vectors for the given histories alone, float32, shape (n, factors).

        Items that the model was not trained on are left out. A history without a trained item gives the zero vector.
        """

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Return the scores of all items by fold-in; see `Recommender.scores`."""
        return self.fold_in(histories) @ self.item_vectors.T + self.item_bias

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Return the k best trained items by fold-in; see `Recommender.recommend`."""
        self.fitted_items(k)
        return self._rank_vectors(self.fold_in(histories), histories, k, exclude_seen)

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Return the k best trained items by the trained user vectors; see `Recommender.recommend_members`."""
        return self._rank_vectors(self.user_vectors, histories, k, exclude_seen)

    def _rank_vectors(self, users: Float32, histories: sparse.csr_array, k: int, exclude_seen: bool) -> Int32:
        from recmia.engine.ranking import top_k_by_vectors

        seen, trained = histories if exclude_seen else None, self.fitted_items(k)
        return top_k_by_vectors(users, self.item_vectors, self.item_bias, seen, trained, k, threads=self.threads)


def check_recommendations(
    lists: Int32,
    histories: sparse.csr_array,
    trained_items: Bool,
    k: int,
    *,
    exclude_seen: bool,
    source: str,
    called: Callable[[int], str] = list_of_user,
) -> None:
    """Raise an error for lists that break the contract of `Recommender.recommend`.

    Parameters
    ----------
    lists : int32, shape (n, k)
    histories : csr_array, shape (n, n_items)
    trained_items : bool, shape (n_items,)
    k : int
    exclude_seen : bool
    source : str
        Where the lists come from, for the message.
    called : callable
        From a row to what its list is called in the message.

    Raises
    ------
    ProtocolError
        Naming the first user (row) and the rule: wrong shape or type, an item out of range or twice, an item after the
        padding, an item without training data, a seen item, or fewer items than there are to recommend.

    Examples
    --------
    >>> seen, trained = sparse.csr_array([[1, 0, 0]]), np.array([True, True, False])
    >>> check_recommendations(np.array([[1]], np.int32), seen, trained, 1, exclude_seen=True, source="a model")
    >>> check_recommendations(np.array([[2]], np.int32), seen, trained, 1, exclude_seen=True, source="a model")
    Traceback (most recent call last):
    recmia.errors.ProtocolError: a model: the list of user 0 holds an item without training data, which the model \
cannot know
    """
    n, n_items = histories.shape
    try:
        check_lists(lists, n, n_items, called)
    except ProtocolError as error:
        raise ProtocolError(f"{source}: {error}") from None
    if lists.shape[1] != k:
        raise ProtocolError(f"{source}: lists must be of length {k}, -1 padding what is missing; got {lists.shape[1]}")
    listed = lists >= 0
    allowed = np.full(n, int(trained_items.sum()))
    broken = {
        "holds an item without training data, which the model cannot know": (listed & ~trained_items[lists]).any(axis=1)
    }
    if exclude_seen:
        broken["holds an item that the user has already seen"] = in_history(lists, histories).any(axis=1)
        allowed -= count_in_rows(histories, trained_items)
    broken["is shorter than it could be"] = listed.sum(axis=1) < np.minimum(k, allowed)
    for rule, rows in broken.items():
        if rows.any():
            raise ProtocolError(f"{source}: {called(int(np.argmax(rows)))} {rule}")

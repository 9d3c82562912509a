"""Recommenders that wrap another one and add a defence.

The noise of a wrapper is a function of a secret key, which is drawn in `fit`, and of the history. So the same request
always gets the same list, and repeated requests do not average the noise out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Self

import numpy as np
from scipy import sparse

from recmia.data.interactions import Float32, Int32, Interactions
from recmia.engine.matrices import binary
from recmia.errors import ConfigError
from recmia.recommenders.base import Recommender


class Wrapped(Recommender):
    """A recommender around another, which changes nothing: override what the defence is to change.

    Parameters
    ----------
    inner : Recommender
        Not yet fitted.

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> from recmia.recommenders import Popularity
    >>> class Reversed(Wrapped):
    ...     def recommend(self, histories, k, *, exclude_seen=True):
    ...         return self.inner.recommend(histories, k, exclude_seen=exclude_seen)[:, ::-1]
    >>> data = Interactions.from_arrays(user=[1, 1, 2], item=[10, 20, 10])
    >>> model = Reversed(Popularity()).fit(data, rng=np.random.default_rng(0))
    >>> model.recommend(data.csr(), 2, exclude_seen=False).tolist()
    [[1, 0], [1, 0]]
    """

    def __init__(self, inner: Recommender) -> None:
        self.inner = inner
        self.folds_in = inner.folds_in

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Fit the inner recommender; see `Recommender.fit`."""
        self.inner.fit(interactions, rng=rng)
        self.trained_items = self.inner.trained_items
        return self

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Return the inner recommender's scores; nobody is shown them."""
        return self.inner.scores(histories)

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Return the inner recommender's lists; see `Recommender.recommend`."""
        return self.inner.recommend(histories, k, exclude_seen=exclude_seen)

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Return the inner recommender's lists; see `Recommender.recommend_members`."""
        return self.inner.recommend_members(histories, k, exclude_seen=exclude_seen)

    @property
    def item_vectors(self) -> Float32:
        """The item vectors of the inner recommender; see `Recommender.item_vectors`."""
        return self.inner.item_vectors


class FoldInOnly(Wrapped):
    """Serves all users, members included, from their history.

    Parameters
    ----------
    inner : Recommender
        Not yet fitted.

    Examples
    --------
    >>> from recmia.recommenders import LFM
    >>> from recmia.settings import SGDSettings
    >>> data = Interactions.from_arrays([1, 1, 2, 2, 3], [1, 2, 2, 3, 4])
    >>> model = FoldInOnly(LFM(SGDSettings(), factors=2)).fit(data, rng=np.random.default_rng(0))
    >>> lists = model.recommend(data.csr(), 2)
    >>> bool((model.recommend_members(data.csr(), 2) == lists).all())
    True
    """

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """See `Recommender.recommend`."""
        return self.recommend(histories, k, exclude_seen=exclude_seen)


class _Randomised(Wrapped):
    """A wrapper with noise, which has a strength and a secret key that is drawn in `fit`.

    Parameters
    ----------
    inner : Recommender
        Not yet fitted.
    epsilon : float
        Above 0 and finite, else ConfigError.
    """

    def __init__(self, inner: Recommender, epsilon: float) -> None:
        super().__init__(inner)
        if not 0 < epsilon < np.inf:
            raise ConfigError(f"epsilon must be above 0 and finite; got {epsilon}")
        self.epsilon = epsilon

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Draw the key and fit to the interactions that the system gets to see; see `Recommender.fit`."""
        self._key = int(rng.integers(2**63))
        return super().fit(self._shown(interactions), rng=rng)

    def _shown(self, interactions: Interactions) -> Interactions:
        return interactions


class GumbelTopK(_Randomised):
    r"""Draws lists by the exponential mechanism, without repeats.

    An item that the inner recommender ranks r-th of n has the quality :math:`1 - \log r / \log n`, which lies in
    [0, 1] for any data. Gumbel noise of scale :math:`2 k / \varepsilon` is added to each, and the k items with the
    largest sums make the list, in that order. This is the same as k draws of the exponential mechanism, each with
    epsilon / k (McSherry and Talwar 2007, theorem 6; Durfee and Rogers 2019, lemma 4.2). So the list has epsilon in
    total for any change of the data that leaves the set of items the same.

    Parameters
    ----------
    inner : Recommender
        Not yet fitted.
    epsilon : float
        Of a whole list; above 0 and finite, else ConfigError.

    Examples
    --------
    >>> from recmia.recommenders import Popularity
    >>> data = Interactions.from_arrays([1, 1, 2, 2, 3], [1, 2, 2, 3, 4])
    >>> model = GumbelTopK(Popularity(), epsilon=3.0).fit(data, rng=np.random.default_rng(0))
    >>> model.recommend(data.csr(), 2).shape
    (3, 2)
    """

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """See `Recommender.recommend`."""
        return self._noisy(self.inner.recommend, histories, k, exclude_seen)

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """See `Recommender.recommend_members`."""
        return self._noisy(self.inner.recommend_members, histories, k, exclude_seen)

    def _noisy(self, recommend: Callable[..., Int32], histories: sparse.csr_array, k: int, exclude_seen: bool) -> Int32:
        known = self.fitted_items(k)
        n = int(known.sum())
        rankings = recommend(histories, n, exclude_seen=False)
        quality = (1 - np.log(np.arange(1, n + 1)) / max(np.log(n), 1)).astype(np.float32)

        def score(rows: slice) -> Float32:
            ranked = rankings[rows]
            scores = np.zeros((len(ranked), len(known)), np.float32)
            np.put_along_axis(scores, ranked, np.broadcast_to(quality, ranked.shape), axis=1)
            for row, rng in zip(scores, _generators(histories[rows], self._key), strict=True):
                # Minus the logarithm of an exponential variate is a Gumbel variate, and five times faster to draw.
                waits = np.maximum(rng.standard_exponential(len(row), np.float32), np.finfo(np.float32).tiny)
                row -= np.float32(2 * k / self.epsilon) * np.log(waits)
            return scores

        return self._rank(score, histories, k, exclude_seen)


class RandomisedHistories(_Randomised):
    r"""Shows the inner recommender each user's interactions through randomised response only (Warner 1965).

    For each item of the catalogue, the answer whether the user interacted with it is false with probability
    :math:`1 / (1 + e^\varepsilon)`. This is epsilon-local differential privacy for single interactions, not for all
    interactions of a user together. The model is trained on these answers, and serves lists from them; items that the
    user has really seen are removed on the user's own device.

    Parameters
    ----------
    inner : Recommender
        Not yet fitted.
    epsilon : float
        Of an interaction; above 0 and finite, else ConfigError.

    Examples
    --------
    >>> from recmia.recommenders import Popularity
    >>> data = Interactions.from_arrays([1, 1, 2, 2, 3], [1, 2, 2, 3, 4])
    >>> model = RandomisedHistories(Popularity(), epsilon=30.0).fit(data, rng=np.random.default_rng(0))
    >>> model.recommend(data.csr(), 1).shape
    (3, 1)
    """

    def _shown(self, interactions: Interactions) -> Interactions:
        told = self._told(interactions.csr())
        user = np.repeat(np.arange(interactions.n_users, dtype=np.int32), np.diff(told.indptr))
        return Interactions(
            user, told.indices.astype(np.int32), told.data, None, interactions.users, interactions.items, rated=False
        )

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """See `Recommender.recommend`."""
        return self._from_told(self.inner.recommend, histories, k, exclude_seen)

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """See `Recommender.recommend_members`."""
        return self._from_told(self.inner.recommend_members, histories, k, exclude_seen)

    def _from_told(
        self, recommend: Callable[..., Int32], histories: sparse.csr_array, k: int, exclude_seen: bool
    ) -> Int32:
        known = self.fitted_items(k)
        told = self._told(histories)
        untold = np.diff(histories.indptr) - np.diff((binary(histories) * told).tocsr().indptr)
        # The system leaves out the reported items only, so the list must be longer by the seen items not among them.
        n = min(int(known.sum()), k + int(untold.max(initial=0))) if exclude_seen else k
        ranked = recommend(told, n, exclude_seen=exclude_seen)
        places = np.arange(n, 0, -1, dtype=np.float32)

        def score(rows: slice) -> Float32:
            # Column n_items takes the padding of lists.
            scores = np.zeros((len(ranked[rows]), len(known) + 1), np.float32)
            np.put_along_axis(scores, ranked[rows] % len(scores.T), np.broadcast_to(places, ranked[rows].shape), axis=1)
            return np.ascontiguousarray(scores[:, :-1])

        return self._rank(score, histories, k, exclude_seen)

    def _told(self, histories: sparse.csr_array) -> sparse.csr_array:
        n_items, lie = histories.shape[1], 1 / (1 + np.exp(self.epsilon))
        rows: list[Int32] = []
        for row, rng in enumerate(_generators(histories, self._key)):
            seen = histories.indices[histories.indptr[row] : histories.indptr[row + 1]]
            lies = rng.choice(n_items, rng.binomial(n_items, lie), replace=False, shuffle=False)
            rows.append(np.setxor1d(seen, lies, assume_unique=True).astype(np.int32))
        ends = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
        items = np.concatenate([*rows, np.empty(0, np.int32)])
        return sparse.csr_array((np.ones(len(items), np.float32), items, ends), histories.shape)


def _generators(histories: sparse.csr_array, key: int) -> Iterator[np.random.Generator]:
    """Return a random stream for each history, which cannot be computed without the key."""
    for row in range(histories.shape[0]):
        seen = histories.indices[histories.indptr[row] : histories.indptr[row + 1]]
        digest = hashlib.blake2b(np.sort(seen).astype("<i8").tobytes(), key=key.to_bytes(8, "little")).digest()
        yield np.random.default_rng(np.frombuffer(digest, "<u4"))

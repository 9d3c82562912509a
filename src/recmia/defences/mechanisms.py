"""Recommenders that wrap another one and add a defence.

The noise of a wrapper is a function of a secret key, which is drawn in `fit`, and of what it is kept for: the history
(`GumbelTopK`), or the client (`RandomisedHistories`). So a repeated request gets the same answer, in any
process, and repetitions do not average the noise out.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.data.interactions import Float32, Int32, Int64, Interactions
from recmia.engine.matrices import binary, row_items
from recmia.errors import ConfigError
from recmia.recommenders.base import Recommender

# Pairs of histories that are compared at once.
_PAIRS_AT_ONCE = 2**16


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
        self.folds_in, self.uses_order = inner.folds_in, inner.uses_order

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Fit the inner recommender; see `Recommender.fit`."""
        self.inner.fit(interactions, rng=rng)
        # A command knows only now whether it is told the order.
        self.trained_items, self.uses_order = self.inner.trained_items, self.inner.uses_order
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

    def expect(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> None:
        """Tell the inner recommender, as if the histories were passed on as they are; see `Recommender.expect`."""
        self.inner.expect(histories, k, exclude_seen=exclude_seen)

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
        self._key = int(rng.integers(2**63)).to_bytes(8, "little")
        return super().fit(self._shown(interactions), rng=rng)

    def _shown(self, interactions: Interactions) -> Interactions:
        return interactions


class GumbelTopK(_Randomised):
    r"""Draws lists by the exponential mechanism, without repeats.

    An item that the inner recommender ranks r-th has the quality :math:`1 - \log r / \log n`, where n is the number of
    items of the whole catalogue. An item that the inner recommender does not know, because no member has it, has the
    quality 0. Gumbel noise of scale :math:`2 K / \varepsilon` is added to each quality. The items in the order of the
    sums are one ranking, of which a list of any length up to K is the beginning.

    The list of one user has epsilon in total, for *any* change of the training data:

    - Qualities lie in [0, 1] whatever the data are, and the items that are drawn from are the catalogue, which is
      public. Items of the members alone would not do: an item that one member alone knows would be listed to others
      with this member and never without, at any epsilon.
    - The first K items of the ranking are K draws of the exponential mechanism without repeats, each with epsilon / K
      (McSherry and Talwar 2007, theorem 6; Durfee and Rogers 2019, lemma 4.2).
    - A shorter list is cut from the same ranking, so all lengths together have the same epsilon. Noise that is shared
      by two lengths, but scaled by each, would give a pair of answers without any finite epsilon.
    - The noise is a function of the key and of the history with its ratings, and the ranking is computed from that
      history for members and newcomers alike. So whoever asks with this history, and however often, gets this list.

    What it does not cover:

    - Noise for another history is drawn anew and independent of all other. Each further history that is asked is
      another answer and costs epsilon again: m lists have m epsilon (sequential composition). So do lists of m users
      that are seen together, lists of a model that is trained anew, and a list with the items of the history beside
      the list without them.
    - The history that is asked is not hidden from those who see the list: items that the user has seen are left out
      with certainty. The promise is about the users in training.
    - The item vectors of the inner recommender, which white-box attackers know, are not covered.
    - Sums are rounded to float32.

    Parameters
    ----------
    inner : Recommender
        Not yet fitted. If it cannot serve from a history (`folds_in`), members get what was trained for them, and
        nothing is promised.
    epsilon : float
        Of a whole list; above 0 and finite, else ConfigError.
    k : int
        K, the length of the longest list that the system serves; at least 1, else ConfigError.

    Attributes
    ----------
    trained_items : bool, shape (n_items,)
        The whole catalogue: which items the members have seen is private.

    Examples
    --------
    >>> from recmia.recommenders import Popularity
    >>> data = Interactions.from_arrays([1, 1, 2, 2, 3], [1, 2, 2, 3, 4])
    >>> model = GumbelTopK(Popularity(), epsilon=3.0, k=2).fit(data, rng=np.random.default_rng(0))
    >>> lists = model.recommend(data.csr(), 2)
    >>> bool((model.recommend(data.csr(), 1) == lists[:, :1]).all())
    True
    """

    def __init__(self, inner: Recommender, epsilon: float, *, k: int) -> None:
        super().__init__(inner, epsilon)
        if k < 1:
            raise ConfigError(f"k, the length of the longest list, must be at least 1; got {k}")
        self.k = k

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Draw the key and fit the inner recommender; see `Recommender.fit`."""
        super().fit(interactions, rng=rng)
        self.trained_items = np.ones(interactions.n_items, np.bool_)
        return self

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Return lists of up to K items; see `Recommender.recommend`.

        Raises
        ------
        ConfigError
            If `k` is above K, for which the noise was not made.
        """
        return self._drawn(self.inner.recommend, histories, k, exclude_seen)

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Return the same lists as `recommend`.

        By another path, a member would be answered otherwise than a newcomer with the same history, with the same
        noise: whoever compares the two answers would find the members.
        """
        path = self.inner.recommend if self.folds_in else self.inner.recommend_members
        return self._drawn(path, histories, k, exclude_seen)

    def _drawn(self, recommend: Callable[..., Int32], histories: sparse.csr_array, k: int, exclude_seen: bool) -> Int32:
        n = len(self.fitted_items(k))
        if k > self.k:
            raise ConfigError(
                f"the noise of this system is made for lists of up to {self.k} items, and lists of {k} were asked for: "
                f"ask for at most {self.k}, or fit a GumbelTopK with k={k}"
            )
        rankings = recommend(histories, int(self.inner.fitted_items().sum()), exclude_seen=False)
        places = np.arange(1, rankings.shape[1] + 1)
        quality = (1 - np.log(places) / max(np.log(n), 1)).astype(np.float32)
        scale = 2 * self.k / self.epsilon

        def score(rows: slice) -> Float32:
            ranked = rankings[rows]
            # Column n takes the padding of rankings.
            scores = np.zeros((len(ranked), n + 1), np.float32)
            np.put_along_axis(scores, ranked % (n + 1), np.broadcast_to(quality, ranked.shape), axis=1)
            scores = np.ascontiguousarray(scores[:, :-1])
            for row, seed in zip(scores, self._seeds(histories[rows]), strict=True):
                # Minus the logarithm of an exponential variate is a Gumbel variate, and faster to draw.
                waits = np.random.default_rng(seed).standard_exponential(n)
                row -= scale * np.log(np.maximum(waits, np.finfo(np.float64).tiny))
            return scores

        return self._rank(score, histories, k, exclude_seen)

    def _seeds(self, histories: sparse.csr_array) -> list[npt.NDArray[np.uint32]]:
        """Return a seed for each history with its ratings, which cannot be computed without the key."""
        histories = histories.sorted_indices()
        values = (histories.data[start:stop] for start, stop in pairwise(histories.indptr))
        return [
            _seed(items.astype("<i8").tobytes() + rated.astype("<f4").tobytes(), self._key)
            for items, rated in zip(row_items(histories), values, strict=True)
        ]


class RandomisedHistories(_Randomised):
    r"""Shows the inner recommender each user's interactions through randomised response only (Warner 1965).

    A client, that is a user's device, reports once, for each item of the catalogue, whether the history holds it. Each
    answer is false with probability :math:`1 / (1 + e^\varepsilon)`, drawn for this client and this item, and the
    report is kept (Erlingsson, Pihur and Korolova 2014: RAPPOR's permanent response). The model is trained on the
    reports, and serves lists from them. Items that the user has really seen are removed on the device.

    A report is epsilon-locally differentially private for each interaction. It is sent again, unchanged, however often
    the client asks and while its history grows, so all that the system sees has the same epsilon. Answers that are
    drawn anew for each request would cost epsilon each time: after ten requests the majority is the truth. Nor would it
    do to keep the lies and add the new items, because two reports would differ in just these.

    A history that has doubled since the report is reported anew, by a new client, and costs epsilon again. So a history
    that grows from m to n items has at most :math:`(1 + \log_2 (n / m))\, \varepsilon`, and the report is not left too
    far behind.

    What it does not cover:

    - All interactions of a user together, which is what membership means: a history of m items has m epsilon.
    - Those who see the list, from which the items of the history are missing with certainty. The promise is towards
      the system, which gets the reports.
    - A history from which items were removed is a new client, and costs epsilon again.

    A history carries no name, so clients are known by their histories. Each user of the fit is a client, with a report
    that is independent of all others. A history that is asked later belongs to the client of the largest known history
    that it contains, the first one among equals, unless it has doubled. Else it is a new client, whose answers are a
    function of the key and of that history; so they depend neither on unrelated users nor on the order in which those
    are asked. Rows are asked one after the other. Two approximations follow: two users who were not in training count
    as one if their histories are nested and of similar size, and the number of items that is requested here depends on
    the report, where a device would ask for all.

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
        histories = interactions.csr()
        self._clients = _Clients(histories, self._key)
        told = self._told(np.arange(interactions.n_users), interactions.n_items)
        user = np.repeat(np.arange(interactions.n_users, dtype=np.int32), np.diff(told.indptr))
        return Interactions(
            user, told.indices.astype(np.int32), told.data, None, interactions.users, interactions.items, rated=False
        )

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """See `Recommender.recommend`."""
        self.fitted_items(k)
        return self._from_told(self.inner.recommend, histories, self._clients.find(histories), k, exclude_seen)

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """See `Recommender.recommend_members`."""
        self.fitted_items(k)
        clients = np.arange(histories.shape[0])
        return self._from_told(self.inner.recommend_members, histories, clients, k, exclude_seen)

    def _from_told(
        self, recommend: Callable[..., Int32], histories: sparse.csr_array, clients: Int64, k: int, exclude_seen: bool
    ) -> Int32:
        known = self.fitted_items(k)
        told = self._told(clients, histories.shape[1])
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

    def _told(self, clients: Int64, n_items: int) -> sparse.csr_array:
        """Return the reports of clients, float32 of ones, shape (n, n_items)."""
        lie = 1 / (1 + np.exp(self.epsilon))
        rows: list[Int32] = []
        for client in clients:
            rng = np.random.default_rng(self._clients.seeds[client])
            # The items to lie about, whatever the history is: each independently with this probability.
            lies = rng.choice(n_items, rng.binomial(n_items, lie), replace=False, shuffle=False)
            rows.append(np.setxor1d(self._clients.reported[client], lies, assume_unique=True).astype(np.int32))
        ends = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
        items = np.concatenate([*rows, np.empty(0, np.int32)])
        return sparse.csr_array((np.ones(len(items), np.float32), items, ends), (len(rows), n_items))


class _Clients:
    """The clients of a system, known by the histories that they have had.

    Parameters
    ----------
    histories : csr_array, shape (n, n_items)
        Of the users of the fit, each of which is a client of its own.
    key : bytes

    Attributes
    ----------
    reported : list of int32 arrays
        The items of each client's first history, which its report is about.
    seeds : list of uint32 arrays
        The seed of each client's lies, a function of the key and of its first history. Users of the fit with the same
        history have seeds of their own, since equal reports would tell that their histories are equal.
    """

    def __init__(self, histories: sparse.csr_array, key: bytes) -> None:
        self._key = key
        self._histories = binary(histories)
        self._client = np.arange(histories.shape[0])
        # Any fixed order of the items does; with rare ones first, few histories have to be compared.
        counts = np.bincount(histories.indices, minlength=histories.shape[1])
        self._by_count = np.argsort(counts, kind="stable")
        self.reported: list[Int32] = list(row_items(histories))
        self.seeds: list[npt.NDArray[np.uint32]] = []
        times: Counter[bytes] = Counter()
        for items in self.reported:
            history = _history_bytes(items)
            self.seeds.append(_seed(history, key, times[history]))
            times[history] += 1

    def find(self, histories: sparse.csr_array) -> Int64:
        """Return the client of each history, asked one after the other, and remember new ones: int64, shape (n,)."""
        first, n = self._histories.shape[0], histories.shape[0]
        known = sparse.vstack([self._histories, binary(histories)], format="csr")
        sizes = np.diff(known.indptr)
        client = np.concatenate([self._client, np.full(n, -1)])
        kept = np.ones(len(client), np.bool_)
        row, part = self._contained(known, sizes, first)
        bounds = np.searchsorted(row, np.arange(first, first + n + 1))
        for asked, (start, stop) in enumerate(pairwise(bounds.tolist()), first):
            for other in part[start:stop]:
                same = sizes[other] == sizes[asked]
                if same or sizes[asked] < 2 * len(self.reported[client[other]]):
                    client[asked], kept[asked] = client[other], not same
                    break
            else:
                client[asked] = len(self.seeds)
                items = known.indices[known.indptr[asked] : known.indptr[asked + 1]].astype(np.int32)
                self.reported.append(items)
                self.seeds.append(_seed(_history_bytes(items), self._key))
        self._histories, self._client = known[np.flatnonzero(kept)], client[kept]
        return client[first:]

    def _contained(self, known: sparse.csr_array, sizes: Int64, first: int) -> tuple[Int64, Int64]:
        """Return pairs of a history, from `first` on, and an earlier one that it contains, the largest first.

        The pairs are sorted by the first of the two. Histories of less than half the size are left out.
        """
        # What contains a history contains its rarest item: only such pairs are compared.
        filled = np.flatnonzero(sizes)
        place = np.argsort(self._by_count)
        rarest = self._by_count[np.minimum.reduceat(place[known.indices], known.indptr[filled])]
        rare = sparse.csr_array((np.ones(len(filled), np.float32), (rarest, filled)), shape=known.shape[::-1])
        step = max(1, _PAIRS_AT_ONCE // len(sizes))
        rows, parts = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for start in range(first, len(sizes), step):
            pairs = (known[start : start + step] @ rare).tocoo()
            row, part = pairs.row.astype(np.int64) + start, pairs.col.astype(np.int64)
            close = (part < row) & (sizes[part] <= sizes[row]) & (sizes[row] < 2 * sizes[part])
            row, part = row[close], part[close]
            inside = known[row].multiply(known[part]).sum(axis=1) == sizes[part]
            rows.append(row[inside])
            parts.append(part[inside])
        row, part = np.concatenate(rows), np.concatenate(parts)
        order = np.lexsort((part, -sizes[part], row))
        return row[order], part[order]


def _history_bytes(items: Int32) -> bytes:
    return np.sort(items).astype("<i8").tobytes()


def _seed(about: bytes, key: bytes, occurrence: int = 0) -> npt.NDArray[np.uint32]:
    """Return a seed that is a function of its arguments, and cannot be computed without the key."""
    digest = hashlib.blake2b(about, key=key, salt=occurrence.to_bytes(8, "little")).digest()
    return np.frombuffer(digest, "<u4")

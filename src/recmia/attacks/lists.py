r"""Attacks with many shadow models, on ranked lists alone.

S shadow models are trained, each on a random half of the users, and every user gets a list from each. So the attacker
knows what user u is shown by models that were trained with u (IN lists) and without u (OUT lists), and tests which of
the two the target's list resembles: the likelihood ratio of Carlini et al. (2022), on lists in place of losses.

All but `RMIA` score linearly in the list L_u,

.. math:: s_u = b_u + \sum_{j=1}^{k} h(j)\, w_{u, L_u[j]},

with h = 1, or 1 / log2(1 + j) where ranks count. They differ in how the weights are estimated, which is harder with
fewer shadow models:

- `Counts`, `Ranks` and `Ridge` estimate a weight for each user and item. That takes many shadow models.
- `Surprise` first reduces a list to one number, and pools its estimates over users. A few shadow models are enough.
- `ListLR` combines the scores of `Surprise`, `Counts` and `Ranks`; the weights are learned on held-out shadow models.

The shadow models are the attacker's own, and can be asked for longer lists than the target shows (`ShadowPool.deep`).
Then `Surprise` asks how far down the items of a list come in the other lists of the user, and not only whether they are
in them, which takes fewer shadow models: two at the least.

Shadow models come in pairs of complementary halves. Every user is then in the training data of exactly S/2 of them, and
without a pair of exactly S/2 - 1 of the rest, whatever the label in the pair is. So scores of held-out shadow models
reveal no label through a count.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.attacks.base import Bool, Float64, PoolAttack, cross_scores
from recmia.blas import one_blas_thread
from recmia.compiled import compiled
from recmia.errors import NotFittedError, ProtocolError
from recmia.observation import Observation, ShadowPool

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Entry = npt.NDArray[np.int32] | npt.NDArray[np.int64]

# Smoothing of the counts: pseudo-shadows at the item's common rate, and a floor.
_PRIOR, _FLOOR = 2.0, 0.01
# Added to a rank before its logarithm is taken: the first places of a list differ little.
RANK_OFFSET = 30
# Degrees of freedom of the variance that all users have in common.
_VARIANCE_PRIOR = 8


@dataclass(frozen=True, eq=False)
class _Entries:
    """The items in any list of each user of a pool, one entry each; the same for all parts of the pool.

    Parameters
    ----------
    ends : int64, shape (n + 1,)
        User u has the entries ``ends[u]:ends[u + 1]``.
    item : int32, shape (m,)
        Ascending for each user.
    listed : int32 (int64 if there are more than 2^31), shape (S, n, k)
        The entries of the lists of the pool; -1 pads.
    n_items : int
    """

    ends: Int64
    item: Int32
    listed: Entry
    n_items: int

    @classmethod
    def of(cls, pool: ShadowPool) -> _Entries:
        """Find the entries of a pool."""
        lists = np.ascontiguousarray(pool.lists)
        ends = np.concatenate([[0], np.cumsum(_count_items(lists, pool.n_items))])
        # As small as it can be: there are as many of them as listed items.
        number = np.int32 if ends[-1] <= np.iinfo(np.int32).max else np.int64
        item, listed = np.empty(ends[-1], np.int32), np.full(lists.shape, -1, number)
        _find_entries(lists, pool.n_items, ends, item, listed)
        return cls(ends, item, listed, pool.n_items)

    def spread(self, per_user: Float64) -> Float64:
        """Repeat the value of each user for each of its entries (last axis)."""
        return np.repeat(per_user, np.diff(self.ends), axis=-1)

    def look_up(self, lists: Int32) -> Entry:
        """Return the entries of int32[n, k] lists of the same users, -2 for other items; -1 pads."""
        _check_shown(lists, len(self.ends) - 1, self.listed.shape[2], self.n_items)
        found = np.full(lists.shape, -1, self.listed.dtype)
        _look_up(np.ascontiguousarray(lists), self.ends, self.item, self.n_items, found)
        return found


@dataclass(frozen=True, eq=False)
class _Tally:
    """How often each item was listed to each user.

    Parameters
    ----------
    entries : _Entries
        Of the whole pool; those that are in none of the lists counted have zeros.
    total : float64, shape (2, m)
        Sum of h over the OUT lists, and over the IN lists.
    square : float64, shape (m,)
        Sum of h^2 over all lists.
    shadows : float64, shape (2, n)
        Number of shadow models without each user in training, and with.
    """

    entries: _Entries
    total: Float64
    square: Float64
    shadows: Float64

    @classmethod
    def of(cls, pool: ShadowPool, member: Bool, h: Float64) -> _Tally:
        """Count the lists of a pool, with the labels `member`, bool, shape (S, n)."""
        entries = pool.feature("entries", _Entries.of)
        total, square = np.zeros((2, len(entries.item))), np.zeros(len(entries.item))
        _tally(entries.listed, pool.numbers, member, h, total, square)
        n_in = member.sum(axis=0)
        return cls(entries, total, square, np.stack([len(pool) - n_in, n_in]).astype(np.float64))


@dataclass(frozen=True, eq=False)
class _Linear:
    """The linear score of the module's equation.

    Parameters
    ----------
    entries : _Entries
    weight : float64, shape (m,)
    default : float64, shape (n,)
        Weight of the items without an entry for the user.
    offset : float64, shape (n,)
    h : float64, shape (k,)
    """

    entries: _Entries
    weight: Float64
    default: Float64
    offset: Float64
    h: Float64

    def score(self, listed: Entry) -> Float64:
        """Return the scores of the lists with these entries, int[n, k] (see `_Entries`): float64, shape (n,)."""
        return self.offset + _sum_weights(listed, self.h, self.weight, self.default)

    def score_shadows(self, pool: ShadowPool) -> Float64:
        """Return the scores of the lists of a pool: float64, shape (S, n)."""
        return np.stack([self.score(self.entries.listed[s]) for s in pool.numbers])


def _entries_of(entries: _Entries, observation: Observation) -> Entry:
    """Return the entries of the lists that a system shows, which are looked up once."""
    found: Entry = observation.feature(("entries", entries), lambda seen: entries.look_up(seen.lists))
    return found


@dataclass(frozen=True, eq=False)
class _Reference:
    r"""How far down the items of a list come in the longer lists that the shadow models serve to the same user.

    With r_s(i) the rank of item i in the list of shadow model s, and d + 1 where it is not in that list of length d,
    every list L of a user has a sum for each s,

    .. math:: D_s(L) = \sum_{i \in L} \log(r_s(i) + 30) - \log(d + 1 + 30),

    which is found in one pass over the deep lists. The depth of a list is the mean over its items and over reference
    lists of log(rank + 30), hence a mean of these sums, whichever lists are references: parts of the pool need no other
    pass.

    Parameters
    ----------
    deep : sequence of S arrays int32, shape (n, d)
    lists : int32, shape (S, n, k)
        Their starts.
    sums : float64, shape (n, S, S)
        D_s of the list of shadow model r, by r and s.
    n_items : int
    """

    deep: Sequence[Int32] | Int32
    lists: Int32
    sums: Float64
    n_items: int

    @classmethod
    def of(cls, pool: ShadowPool) -> _Reference:
        """Find the sums of a pool."""
        assert pool.deep is not None, "without deep lists there are no depths"
        lists = np.ascontiguousarray(pool.lists)
        return cls(pool.deep, lists, _sum_log_ranks(pool.deep, lists, pool.n_items), pool.n_items)

    @property
    def length(self) -> int:
        """The length d of the deep lists."""
        return int(self.deep[0].shape[1])

    def sums_of(self, lists: Int32) -> Float64:
        """Return the sums of the lists of a system for the same users, float64, shape (n, S)."""
        _, n, k = self.lists.shape
        _check_shown(lists, n, k, self.n_items)
        return _sum_log_ranks(self.deep, lists[None], self.n_items)[:, 0]


@dataclass(frozen=True, eq=False)
class _Depths:
    """The depths of lists by `_Reference`, with some of the lists of a pool as references.

    In the mean over reference lists, OUT lists and IN lists of u count half each, however many there are. A mean of
    logarithms does not change in expectation with the number of reference lists, so a list that is left out of its own
    reference can be compared with one that need not be. A list without items has the depth 0.

    Parameters
    ----------
    pool : ShadowPool
    reference : _Reference
        Of the whole pool.
    side : int8, shape (n, S)
        0 for OUT lists, 1 for IN lists, -1 for lists that are no reference.
    """

    pool: ShadowPool
    reference: _Reference
    side: npt.NDArray[np.int8]

    def of_shadows(self) -> Float64:
        """Return the depth of each shadow's list, with all other lists as the reference: float64, shape (S, n)."""
        numbers = self.pool.numbers
        sums = self.reference.sums[:, numbers[:, None], numbers]
        return np.stack([
            self._depths(sums[:, r], (self.pool.lists[r] >= 0).sum(axis=1), own=r) for r in range(len(numbers))
        ])  # fmt: skip

    def of(self, observation: Observation) -> Float64:
        """Return the depths of lists that are not among the references: float64, shape (n,)."""
        number = self.pool.shadow_number(observation)
        if number is None:
            reference = self.reference
            sums = observation.feature(("depths", reference), lambda seen: reference.sums_of(seen.lists))
        else:
            sums = self.reference.sums[:, number]
        return self._depths(sums[:, self.pool.numbers], (observation.lists >= 0).sum(axis=1))

    def _depths(self, sums: Float64, listed: Int64, own: int | None = None) -> Float64:
        """Return float64[n] depths of lists of lengths int64[n], with float64[n, S] sums of the items."""
        mean, sides = np.zeros(len(sums)), np.zeros(len(sums))
        for to in (0, 1):
            here = self.side == to
            if own is not None:
                here[:, own] = False
            count = here.sum(axis=1)
            mean += np.where(here, sums, 0).sum(axis=1) / np.maximum(count, 1)
            sides += count > 0
        lowest = np.log(self.reference.length + 1 + RANK_OFFSET)
        depths: Float64 = np.where(listed > 0, lowest + mean / np.maximum(sides, 1) / np.maximum(listed, 1), 0)
        return depths


class Surprise(PoolAttack):
    r"""How unlike the OUT lists of u the list is, compared with what membership does to that.

    The surprise of a list is the mean of :math:`-\log p_{out}` over its items, where

    .. math:: p_{out}(i) = \frac{c_{out}(i) + 1/2}{n_{out} + 1}

    is the rate of item i in a set of reference lists, all OUT lists. (Where lists end early, the sum over a list is
    divided by the mean length of u's lists.) The reference of an OUT list is all other OUT lists. The reference of any
    other list is all OUT lists but one, and its surprise is the mean over the choice of that one. So the expected
    surprise of an OUT list is that of a list by another model trained without u, however few shadow models there are.

    The surprise of u's lists is modelled as Gaussian in and out of training,
    :math:`t \sim N(m_u \pm d_u / 2, \sigma^2)`, with one variance for all users. A few lists say little about d_u. So
    it is estimated by its posterior mean in a population of users, :math:`d_u \sim N(d, \tau^2)` (empirical Bayes, by
    the method of moments):

    .. math:: s_u = \frac{d_u}{\sigma^2} (t - m_u), \qquad
              d_u = d + \frac{\tau^2}{\tau^2 + \sigma^2 (1/n_{in} + 1/n_{out})} (\hat d_u - d).

    A user with OUT lists only has d_u = d. For a user with fewer than two OUT lists, all lists are the reference, and
    IN and OUT change places: d is then estimated from the surprise of the others' OUT lists with their IN lists as the
    reference, and the score changes its sign. The sign of d depends on the recommender: with an LFM, the lists of users
    in training are more surprising with either reference.

    With deep lists, the surprise of a list is the depth of its items in the user's OUT lists (`_Depths`), its own left
    out, and the rest is as above but for two things. The OUT lists are each other's reference, so they say less about
    d_u than as many independent ones: n - 1 stands for n in the noise of :math:`\hat d_u`. And the variance is the
    user's own, drawn to the common one as if that had been found from eight degrees of freedom. Where a user has fewer
    than two OUT lists, IN lists are references, too. Two lists of a user, one in and one out, have each other as the
    reference and say nothing about d: it is then taken for one standard deviation, so the list that is more surprising
    is a member's.

    Parameters
    ----------
    online : bool
        Whether IN lists are used. Without them, all users have the same d_u, and the score is the surprise minus u's
        mean surprise, whichever lists are the reference.
    both : bool
        Whether IN lists are references as OUT lists are; for deep lists only.

    Examples
    --------
    >>> from recmia.testing import planted_pool
    >>> pool, targets, _ = planted_pool("oddity", np.random.default_rng(0))
    >>> Surprise().fit(pool, rng=np.random.default_rng(0)).score(targets[0]).shape
    (40,)
    """

    min_shadows: ClassVar[int] = 2

    def __init__(self, *, online: bool = True, both: bool = False) -> None:
        self.name = "list-lr-surprise" if online else "list-lr-offline"
        self.online, self.both = online, both
        self._linear: _Linear | None = None
        self._depths: _Depths | None = None
        self._slope, self._middle = np.empty(0), np.empty(0)
        self.gap, self.usual = 1.0, np.empty(0)

    def fit(self, pool: ShadowPool, *, rng: np.random.Generator) -> Self:
        """Count the OUT lists of each user, and estimate how membership changes the surprise."""
        self.check_pool(pool)
        self._linear = self._depths = None
        if pool.deep is not None:
            return self._fit_depths(pool)
        always = (~pool.member).sum(axis=0) < 2
        into = pool.member & ~always
        tally = _Tally.of(pool, into, np.ones(pool.lists.shape[2]))
        n_out, n_in = tally.shadows
        listed = np.maximum((pool.lists >= 0).sum(axis=2).mean(axis=0), 1)
        own, other = (
            _Linear(tally.entries, _table_weights(tally.entries.ends, tally.total[0], n_out, table, listed),
                    (np.log(n_out) - np.log(0.5)) / listed, np.zeros_like(n_out), np.ones(pool.lists.shape[2]))
            for table in _surprises(len(pool))
        )  # fmt: skip
        surprise = np.where(into, other.score_shadows(pool), own.score_shadows(pool))
        mean_out = np.where(into, 0, surprise).sum(axis=0) / n_out
        mean_in = np.where(into, surprise, 0).sum(axis=0) / np.maximum(n_in, 1)
        apart = (surprise - np.where(into, mean_in, mean_out)) ** 2
        variance = max(float(apart.sum() / max(1.0, (n_out - 1).sum() + np.maximum(n_in - 1, 0).sum())), 1e-12)
        gap = np.ones_like(n_out)
        middle = mean_out
        if self.online and (n_in > 0).any():
            both = n_in > 0
            found = (mean_in - mean_out)[both]
            noise = variance * (1 / n_out + 1 / np.maximum(n_in, 1))
            told = max(float(found.var() - noise[both].mean()), 0.0)
            gap = np.full_like(n_out, found.mean())
            gap[both] += told / (told + noise[both]) * (found - found.mean())
            self.gap = float(found.mean())
            if always.any():
                mixed = pool.take_users(both)
                turned = replace(mixed, member=~mixed.member)
                gap[always] = -Surprise().fit(turned, rng=rng).gap
            middle = np.where(both, (mean_in + mean_out) / 2, mean_out + np.where(always, -gap, gap) / 2)
        # Minus the mean of the other OUT lists, because the reference of a target's list does not include it either.
        beyond = (surprise - mean_out) * n_out / (n_out - 1) / np.sqrt(variance)
        self.usual = beyond[~into & ~always]
        slope = gap / (variance if self.online else np.sqrt(variance))
        self._linear = _Linear(
            tally.entries, other.weight * tally.entries.spread(slope), other.default * slope, -middle * slope, other.h
        )
        return self

    def _fit_depths(self, pool: ShadowPool) -> Self:
        """Do the same with deep lists."""
        few = (~pool.member).sum(axis=0) < 2
        side = (pool.member & (self.online | ~few)).astype(np.int8)
        reference = np.where((side == 1) & ~few & (not self.both), -1, side).astype(np.int8)
        self._depths = _Depths(pool, pool.feature("depths", _Reference.of), np.ascontiguousarray(reference.T))
        surprise = self._depths.of_shadows()
        told = Sides.of(surprise, side if self.online else reference)
        if self.online:
            gap, variance = told.gaps()
            self._slope, self._middle = gap / variance, told.middle(gap)
        else:
            n_out, deviation = told.count[0], np.sqrt(told.variance())
            self._slope, self._middle = np.full(pool.n_users, 1 / deviation), told.mean[0]
            # Minus the mean of the other OUT lists: the reference of a target's list does not include it either.
            beyond = (surprise - told.mean[0]) * n_out / np.maximum(n_out - 1, 1) / deviation
            self.usual = beyond[~pool.member & ~few]
        return self

    def score(self, observation: Observation) -> Float64:
        """See `PoolAttack.score`."""
        if self._depths is not None:
            return self._slope * (self._depths.of(observation) - self._middle)
        return _score(_fitted(self._linear, self.name), observation)


@dataclass(frozen=True, eq=False)
class Sides:
    """One number for each list of a user, by sides: Gaussian in and out of training, about the user's own middle.

    Parameters
    ----------
    count, mean : float64, shape (2, n)
        Number of lists out of training, and in training, and the mean of their values; 0 where there is none.
    squares : float64, shape (n,)
        Sum of the squares of what the values differ from the mean of their side.
    """

    count: Float64
    mean: Float64
    squares: Float64

    @classmethod
    def of(cls, values: Float64, side: npt.NDArray[np.int8]) -> Sides:
        """Sum up values, float64, shape (S, n), by side: 0 or 1; others are left out."""
        here = np.stack([side == 0, side == 1])
        count = here.sum(axis=1).astype(np.float64)
        mean = np.where(here, values, 0).sum(axis=1) / np.maximum(count, 1)
        squares = (np.where(here, values - mean[:, None], 0) ** 2).sum(axis=(0, 1))
        return cls(count, mean, squares)

    def variance(self) -> float:
        """Return the variance on a side, the same for all users."""
        free = np.maximum(self.count - 1, 0).sum()
        both = (self.count > 0).all(axis=0)
        if free == 0 and both.any():
            # One value in and one out: their differences vary twice as much.
            return max(float((self.mean[1] - self.mean[0])[both].var() / 2), 1e-12)
        return max(float(self.squares.sum() / max(free, 1.0)), 1e-12)

    def gaps(self) -> tuple[Float64, Float64]:
        """Return how much higher the values of each user are in training, by empirical Bayes, and their variance."""
        free = np.maximum(self.count - 1, 0).sum(axis=0)
        variance: Float64 = (self.squares + _VARIANCE_PRIOR * self.variance()) / (free + _VARIANCE_PRIOR)
        found = self.mean[1] - self.mean[0]
        many = (self.count > 1).all(axis=0)
        if not many.any():
            return np.sqrt(variance), variance
        gap = np.full(len(found), found[many].mean())
        noise = variance[many] * (1 / (self.count[:, many] - 1)).sum(axis=0)
        told = max(float(found[many].var() - noise.mean()), 0.0)
        gap[many] += told / (told + noise) * (found[many] - gap[many])
        return gap, variance

    def middle(self, gap: Float64) -> Float64:
        """Return the middle between the values in and out of training, where `gap` stands in for a side without any."""
        sign = np.array([1.0, -1.0])[:, None]
        there = self.count > 0
        middle: Float64 = np.where(there, self.mean + np.where(there.all(axis=0), 0, sign * gap / 2), 0).sum(axis=0)
        return middle / np.maximum(there.sum(axis=0), 1)


class _ItemWeights(PoolAttack):
    """Base class of the attacks with a weight for each user and item; a subclass defines `_weigh`."""

    _linear: _Linear | None = None
    _offline: Surprise | None = None

    @abstractmethod
    def _weigh(self, pool: ShadowPool) -> _Linear:
        """Estimate the weights."""

    def fit(self, pool: ShadowPool, *, rng: np.random.Generator) -> Self:
        """Estimate the weights; users with IN lists only, or OUT lists only, are scored by `Surprise`."""
        self.check_pool(pool)
        self._linear = self._weigh(pool)
        self._offline = Surprise().fit(pool, rng=rng) if self.offline.any() else None
        return self

    def score(self, observation: Observation) -> Float64:
        """See `PoolAttack.score`."""
        scores = _score(_fitted(self._linear, self.name), observation)
        if self._offline is None:
            return scores
        mixed: Float64 = np.where(self.offline, self._offline.score(observation), scores)
        return mixed


class Counts(_ItemWeights):
    r"""A likelihood ratio over the items of u's shadow lists, each of which is listed independently of the others.

    With :math:`p_0 = (c_{in} + c_{out}) / (n_{in} + n_{out})` and
    :math:`p_{in} = (c_{in} + a p_0 + e) / (n_{in} + a + 2 e)`, a = 2, e = 0.01, and :math:`p_{out}` alike,

    .. math:: s_u = \sum_{i \in L} \log \frac{p_{in}}{p_{out}}
              + \sum_{i \notin L} \log \frac{1 - p_{in}}{1 - p_{out}}.

    Examples
    --------
    >>> from recmia.metrics import auc
    >>> from recmia.testing import planted_pool
    >>> pool, targets, member = planted_pool("oddity", np.random.default_rng(0))
    >>> scores = Counts().fit(pool, rng=np.random.default_rng(0)).score(targets[0])
    >>> auc(member[0], scores).value > 0.7
    True
    """

    name = "list-lr-counts"
    min_shadows: ClassVar[int] = 2

    def _weigh(self, pool: ShadowPool) -> _Linear:
        tally = _Tally.of(pool, pool.member, np.ones(pool.lists.shape[2]))
        weight, absent = _ratios(tally)
        return _linear(tally, weight, absent, np.ones(pool.lists.shape[2]))


class Ranks(_ItemWeights):
    r"""A likelihood ratio over the ranks of items, Gaussian in :math:`x = 1 / \log_2(1 + rank)`, 0 if not listed.

    The means over IN and over OUT lists are shrunk to their common mean by a = 2 pseudo-lists; the variance is that
    over all lists, plus 0.01.
    """

    name = "list-lr-ranks"
    min_shadows: ClassVar[int] = 2

    def _weigh(self, pool: ShadowPool) -> _Linear:
        h = 1 / np.log2(2 + np.arange(pool.lists.shape[2]))
        tally = _Tally.of(pool, pool.member, h)
        weight, constant = np.empty_like(tally.square), np.empty_like(tally.square)
        _weigh_ranks(tally.entries.ends, tally.total, tally.square, tally.shadows, weight, constant)
        return _linear(tally, weight, constant, h)


class Ridge(_ItemWeights):
    r"""The ridge discriminant on u's shadow lists, which takes account of items that are listed together.

    With X (S x items) the centred indicators of the items in u's shadow lists and y = 1 for IN, -1 for OUT, centred,
    :math:`w = X^\top (X X^\top + \lambda I)^{-1} y`, where :math:`\lambda` is the mean of the diagonal.
    """

    name = "list-lr-ridge"
    min_shadows: ClassVar[int] = 4

    def _weigh(self, pool: ShadowPool) -> _Linear:
        S, n, k = pool.lists.shape
        tally = _Tally.of(pool, pool.member, np.ones(k))
        item, ends = tally.entries.item, tally.entries.ends
        weight, constant = np.empty(len(item)), np.empty(len(item))
        # What BLAS splits among threads has other last bits.
        with one_blas_thread():
            for u in range(n):
                part = slice(ends[u], ends[u + 1])
                shown = pool.lists[:, u]
                rows = np.concatenate([[0], np.cumsum((shown >= 0).sum(axis=1))])
                presence = sparse.csr_array((np.ones(rows[-1]), shown[shown >= 0], rows), shape=(S, pool.n_items))
                X = presence[:, item[part]].toarray()
                mean = X.mean(axis=0)
                X -= mean
                kernel = X @ X.T
                y = np.where(pool.member[:, u], 1.0, -1.0)
                dual = np.linalg.solve(kernel + max(float(np.trace(kernel)) / S, 1e-9) * np.eye(S), y - y.mean())
                weight[part] = X.T @ dual
                constant[part] = -mean * weight[part]
        return _linear(tally, weight, constant, np.ones(k))


class ListLR(PoolAttack):
    r"""The log odds of membership, from `Surprise`, `Counts` and `Ranks` together; the strongest that only looks.

    How good each is depends on the recommender and on the number of shadow models. So pairs of shadow models are held
    out in turn and scored by the three as fitted on the rest, and a logistic regression on these scores gives the
    weights, the same for all users. The score is its log odds: above 0, membership is more likely than not. Users with
    IN lists only, or OUT lists only, are not used for the weights. With deep lists, `SurpriseBoth` is a fourth part.

    Examples
    --------
    >>> from recmia.metrics import auc
    >>> from recmia.testing import planted_pool
    >>> pool, targets, member = planted_pool("oddity", np.random.default_rng(0))
    >>> attack = ListLR().fit(pool, rng=np.random.default_rng(0))
    >>> auc(member[0], attack.score(targets[0])).value > 0.7
    True
    """

    name = "list-lr"
    min_shadows: ClassVar[int] = 4
    parts: ClassVar[tuple[type[PoolAttack], ...]] = (Surprise, Counts, Ranks)

    def __init__(self) -> None:
        self._fitted: list[PoolAttack] = []
        self._slope, self._intercept = np.empty(0), 0.0

    def fit(self, pool: ShadowPool, *, rng: np.random.Generator) -> Self:
        """Fit the parts, and their weights on held-out shadow models."""
        self.check_pool(pool)
        own = ~self.offline
        parts: tuple[type[PoolAttack], ...] = self.parts if pool.deep is None else (*self.parts, SurpriseBoth)
        held_out = np.stack([cross_scores(part, pool, rng=rng)[:, own] for part in parts])
        scale = np.maximum(held_out.std(axis=(1, 2)), 1e-12)
        features = held_out.reshape(len(held_out), -1).T / scale
        slope, self._intercept = _logistic_regression(features, pool.member[:, own].ravel())
        self._slope = slope / scale
        self._fitted = [part().fit(pool, rng=rng) for part in parts]
        return self

    def score(self, observation: Observation) -> Float64:
        """See `PoolAttack.score`."""
        if not self._fitted:
            raise NotFittedError(f"the attack {self.name} was asked for scores before fit")
        scores = np.stack([part.score(observation) for part in self._fitted])
        # Not a matrix product: that rounds differently with the place of a user among the others.
        return np.asarray((self._slope[:, None] * scores).sum(axis=0) + self._intercept, np.float64)


class RMIA(PoolAttack):
    r"""The robust attack for few shadows (Zarifzadeh et al. 2024) on lists, in its offline form.

    The ratio :math:`\Pr(L_u | \theta) / \Pr(L_u)` says how much more likely the list is under the target, which shows
    it, than under shadow models without u. Here it is the score of `Offline`. It is compared with the ratios of known
    non-members z, the users out of training in each shadow model:

    .. math:: s_u = \Pr_z\left[ \frac{\Pr(L_u | \theta)}{\Pr(L_u)} \ge \frac{\Pr(L_z | \theta_z)}{\Pr(L_z)} \right].
    """

    name = "rmia"
    online = False
    min_shadows: ClassVar[int] = 4

    def __init__(self) -> None:
        self._offline = Surprise(online=False)
        self._population = np.empty(0)

    def fit(self, pool: ShadowPool, *, rng: np.random.Generator) -> Self:
        """Compute the ratios of the users out of training."""
        self.check_pool(pool)
        self._population = np.sort(self._offline.fit(pool, rng=rng).usual)
        if not len(self._population):
            raise ProtocolError(
                f"the attack {self.name} compares with users out of training, and all {pool.n_users} users are in "
                "training in nearly every shadow; train shadows on random halves of the users"
            )
        return self

    def score(self, observation: Observation) -> Float64:
        """See `PoolAttack.score`."""
        if not len(self._population):
            raise NotFittedError(f"the attack {self.name} was asked for scores before fit")
        beyond = self._offline.score(observation)
        rank: Float64 = np.searchsorted(self._population, beyond, side="right") / len(self._population)
        return rank


class SurpriseBoth(Surprise):
    """`Surprise` with OUT lists and IN lists as the reference, where there are deep lists.

    With twice as many references, it is the better for recommenders whose IN lists are no more like each other than
    like OUT lists (LFM), and the worse for others (ALS).
    """

    def __init__(self) -> None:
        super().__init__(both=True)


class Offline(Surprise):
    """`Surprise` without IN lists, for an attacker who cannot train shadow models on the audited users."""

    def __init__(self) -> None:
        super().__init__(online=False)


def _fitted(linear: _Linear | None, name: str) -> _Linear:
    if linear is None:
        raise NotFittedError(f"the attack {name} was asked for scores before fit")
    return linear


def _logistic_regression(X: Float64, y: Bool) -> tuple[Float64, float]:
    """Return the slopes, float64, shape (width,), and the intercept of a logistic regression on the rows of X.

    It minimises the mean loss plus |w|^2 / (2 n), as scikit-learn's `LogisticRegression` does, by the same solver.
    """
    # Here, because the imports are slow.
    from scipy.optimize import minimize
    from scipy.special import expit

    n = len(X)

    def loss(w: Float64) -> tuple[float, Float64]:
        z = X @ w[:-1] + w[-1]
        error = (expit(z) - y) / n
        value = (np.logaddexp(0, z) - y * z).mean() + w[:-1] @ w[:-1] / (2 * n)
        return float(value), np.append(X.T @ error + w[:-1] / n, error.sum())

    options: Any = {"maxiter": 100, "maxls": 50, "gtol": 1e-4, "ftol": 64 * np.finfo(np.float64).eps}
    # What BLAS splits among threads has other last bits.
    with one_blas_thread():
        w = minimize(loss, np.zeros(X.shape[1] + 1), method="L-BFGS-B", jac=True, options=options).x
    return w[:-1], float(w[-1])


def _score(linear: _Linear, observation: Observation) -> Float64:
    return linear.score(_entries_of(linear.entries, observation))


def _check_shown(lists: Int32, n: int, k: int, n_items: int) -> None:
    """Check lists that are to be scored; the loops below check no bounds."""
    if lists.ndim != 2 or lists.shape != (n, k) or lists.dtype != np.int32:
        raise ProtocolError(
            f"lists to score must be int32[{n}, {k}], the users and the list length of the shadow pool; "
            f"got {lists.dtype}{list(lists.shape)}"
        )
    if lists.size and not -1 <= lists.min() <= lists.max() < n_items:
        raise ProtocolError(
            f"lists to score hold items in {lists.min()}..{lists.max()}; allowed are the items of the shadow pool, "
            f"0..{n_items - 1}, and -1 as padding"
        )


def _linear(tally: _Tally, weight: Float64, constant: Float64, h: Float64) -> _Linear:
    """Return the linear score with these weights of entries; other items have the weight 0.

    The offset of a user is the sum of `constant` over its entries.
    """
    n = len(tally.entries.ends) - 1
    user = np.repeat(np.arange(n), np.diff(tally.entries.ends))
    offset = np.bincount(user, constant, n).astype(np.float64)
    return _Linear(tally.entries, weight, np.zeros(n), offset, h)


def _surprises(S: int) -> tuple[Float64, Float64]:
    """Return the surprise of an item in c of n OUT lists, by n and c, as `Surprise` defines it: float64[S + 1, S + 1].

    The first is of an OUT list, which is left out of its own reference, and the second of any other.
    """
    n, c = np.arange(S + 1)[:, None], np.arange(S + 1)
    with_it, without = np.log(c + 0.5), np.log(np.maximum(c - 1, 0) + 0.5)
    all_out = np.log(np.maximum(n, 1))
    return all_out - without, all_out - (with_it + c / np.maximum(n, 1) * (without - with_it))


def _ratios(tally: _Tally) -> tuple[Float64, Float64]:
    """Return the weight and the constant of each entry, as `Counts` defines them.

    There are few different counts, so their logarithms come from a table.
    """
    pairs, pair = np.unique(tally.shadows.astype(np.int64), axis=1, return_inverse=True)
    S = int(pairs.sum(axis=0).max())
    n = pairs.T[:, :, None, None].astype(np.float64)
    c = np.stack(np.meshgrid(np.arange(S + 1.0), np.arange(S + 1.0), indexing="ij"))
    p = (c + _PRIOR * c.sum(axis=0) / S + _FLOOR) / (n + _PRIOR + 2 * _FLOOR)
    # Items are in no more lists than there are.
    p = np.minimum(p, 1 - 1e-9)
    absent = np.log1p(-p[:, 1]) - np.log1p(-p[:, 0])
    present = np.log(p[:, 1]) - np.log(p[:, 0]) - absent
    # Entries of none of the lists say nothing.
    absent[:, 0, 0] = present[:, 0, 0] = 0
    of_entry = tally.entries.spread(pair.ravel().astype(np.float64))
    place = ((of_entry * (S + 1) + tally.total[0]) * (S + 1) + tally.total[1]).astype(np.int64)
    return present.ravel()[place], absent.ravel()[place]


@compiled(nogil=True)
def _count_items(lists: Int32, n_items: int) -> Int64:
    """Return the number of items in any list of each user; `lists` is int32, shape (S, n, k)."""
    S, n, k = lists.shape
    counts, last = np.zeros(n, np.int64), np.full(n_items, -1)
    for u in range(n):
        for s in range(S):
            for j in range(k):
                i = lists[s, u, j]
                if i >= 0 and last[i] != u:
                    last[i] = u
                    counts[u] += 1
    return counts


@compiled(nogil=True)
def _find_entries(lists: Int32, n_items: int, ends: Int64, item: Int32, listed: Entry) -> None:
    """Fill `item` and `listed` of `_Entries`; `lists` is int32, shape (S, n, k)."""
    S, n, k = lists.shape
    entry, last = np.zeros(n_items, np.int64), np.full(n_items, -1)
    for u in range(n):
        filled = ends[u]
        for s in range(S):
            for j in range(k):
                i = lists[s, u, j]
                if i >= 0 and last[i] != u:
                    last[i] = u
                    item[filled] = i
                    filled += 1
        item[ends[u] : filled].sort()
        for place in range(ends[u], filled):
            entry[item[place]] = place
        for s in range(S):
            for j in range(k):
                if lists[s, u, j] >= 0:
                    listed[s, u, j] = entry[lists[s, u, j]]


@compiled(nogil=True)
def _look_up(lists: Int32, ends: Int64, item: Int32, n_items: int, found: Entry) -> None:
    """Fill `found`, see `_Entries.look_up`."""
    n, k = lists.shape
    entry, last = np.zeros(n_items, np.int64), np.full(n_items, -1)
    for u in range(n):
        for place in range(ends[u], ends[u + 1]):
            entry[item[place]] = place
            last[item[place]] = u
        for j in range(k):
            i = lists[u, j]
            if i >= 0:
                found[u, j] = entry[i] if last[i] == u else -2


@compiled(nogil=True)
def _tally(listed: Entry, numbers: Int64, member: Bool, h: Float64, total: Float64, square: Float64) -> None:
    """Fill `total` and `square` of `_Tally` with the lists ``listed[numbers]``; `member` is bool, shape (S, n)."""
    for s in range(len(numbers)):
        lists = listed[numbers[s]]
        for u in range(lists.shape[0]):
            side = int(member[s, u])
            for j in range(lists.shape[1]):
                if lists[u, j] >= 0:
                    total[side, lists[u, j]] += h[j]
                    square[lists[u, j]] += h[j] ** 2


@compiled(nogil=True)
def _table_weights(ends: Int64, count: Float64, n: Float64, table: Float64, scale: Float64) -> Float64:
    """Return ``table[n[u], count[e]] / scale[u]`` for each entry e of each user u: float64, shape (m,)."""
    weight = np.empty(len(count))
    for u in range(len(n)):
        for place in range(ends[u], ends[u + 1]):
            weight[place] = table[int(n[u]), int(count[place])] / scale[u]
    return weight


@compiled(nogil=True)
def _weigh_ranks(
    ends: Int64, total: Float64, square: Float64, shadows: Float64, weight: Float64, constant: Float64
) -> None:
    """Fill in the weight and the constant of each entry, as `Ranks` defines them."""
    for u in range(len(ends) - 1):
        S = shadows[0, u] + shadows[1, u]
        for place in range(ends[u], ends[u + 1]):
            mean = (total[0, place] + total[1, place]) / S
            out = (total[0, place] + _PRIOR * mean) / (shadows[0, u] + _PRIOR)
            into = (total[1, place] + _PRIOR * mean) / (shadows[1, u] + _PRIOR)
            variance = square[place] / S - mean**2 + _FLOOR
            weight[place] = (into - out) / variance
            constant[place] = (out**2 - into**2) / (2 * variance)


@compiled(nogil=True)
def _sum_weights(listed: Entry, h: Float64, weight: Float64, default: Float64) -> Float64:
    """Return the sum of h w over each list, float64, shape (n,); `listed` is int32, shape (n, k)."""
    n, k = listed.shape
    sums = np.zeros(n)
    for u in range(n):
        for j in range(k):
            place = listed[u, j]
            if place != -1:
                sums[u] += h[j] * (weight[place] if place >= 0 else default[u])
    return sums


def _sum_log_ranks(deep: Sequence[Int32] | Int32, lists: Int32, n_items: int) -> Float64:
    """Return the sums of `_Reference` of R lists for each user, float64, shape (n, R, S); `lists` is int32[R, n, k]."""
    sums = np.zeros((lists.shape[1], len(lists), len(deep)))
    depth = deep[0].shape[1]
    log_rank = np.log(np.arange(1, depth + 2) + RANK_OFFSET)
    for s, one in enumerate(deep):
        _add_log_ranks(np.ascontiguousarray(one), lists, log_rank[:-1] - log_rank[-1], n_items, s, sums)
    return sums


@compiled(nogil=True)
def _add_log_ranks(deep: Int32, lists: Int32, log_rank: Float64, n_items: int, s: int, sums: Float64) -> None:
    """Fill ``sums[:, :, s]`` with the sums over the lists, int32[R, n, k], of the ranks in `deep`, int32[n, d]."""
    n, d = deep.shape
    rank, last = np.empty(n_items, np.int32), np.full(n_items, -1, np.int32)
    for u in range(n):
        for j in range(d):
            if deep[u, j] < 0:
                break
            rank[deep[u, j]] = j
            last[deep[u, j]] = u
        for r in range(len(lists)):
            for j in range(lists.shape[2]):
                i = lists[r, u, j]
                if i < 0:
                    break
                if last[i] == u:
                    sums[u, r, s] += log_rank[rank[i]]

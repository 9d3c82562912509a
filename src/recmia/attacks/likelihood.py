r"""Attacks with many shadow models, on nothing but ranked lists.

S shadow models are trained, each on a random half of the users, and every user takes a list from each. So the attacker
knows what user u is shown by models that were trained with u (in) and by models that were not (out), and asks which of
the two the target's list resembles: the likelihood ratio of Carlini et al. (2022), on lists in place of losses.

All but `RMIA` score linearly in the list L_u,

.. math:: s_u = b_u + \sum_{j=1}^{k} h(j)\, w_{u, L_u[j]},

with h = 1, or 1 / log2(1 + j) where ranks count. They differ in how the weights are estimated, which is the more
difficult the fewer the shadows:

- `Counts`, `Ranks` and `Ridge` estimate a weight for each user and item. That takes many shadows.
- `Surprise` boils a list down to one number first, and shares what it learns among users. A few shadows will do.
- `ListLR` learns on the shadows how much to trust each.

Shadows come in pairs of complementary halves. Every user is then in exactly S/2 of them; and when a pair is held out,
every user in exactly S/2 - 1 of the rest, whatever the label in the pair. Scores of held-out shadows so betray no label
through a count.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Self

import numba
import numpy as np
import numpy.typing as npt
from scipy import sparse
from threadpoolctl import threadpool_limits

from recmia.attacks.base import Bool, Float64, PoolAttack, cross_scores
from recmia.errors import NotFittedError, ProtocolError
from recmia.observation import ShadowPool

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

# Smoothing of the counts: pseudo-shadows at the item's common rate, and a floor.
_PRIOR, _FLOOR = 2.0, 0.01


@dataclass(frozen=True, eq=False)
class _Tally:
    """What was listed to each user, entry by entry over the items in any list of the user.

    Parameters
    ----------
    ends : int64, shape (n + 1,)
        User u has the entries ``ends[u]:ends[u + 1]``.
    item : int32, shape (m,)
        Ascending for each user.
    total : float64, shape (2, m)
        Sum of h over the shadow lists, out and in.
    square : float64, shape (m,)
        Sum of h^2 over all shadow lists.
    shadows : float64, shape (2, n)
        Number of shadows of each user, out and in.
    """

    ends: Int64
    item: Int32
    total: Float64
    square: Float64
    shadows: Float64

    @classmethod
    def of(cls, pool: ShadowPool, member: Bool, h: Float64) -> _Tally:
        """Count, with the labels `member`, bool, shape (S, n)."""
        lists, sides = np.ascontiguousarray(pool.lists.transpose(1, 0, 2)), np.ascontiguousarray(member.T)
        ends = np.concatenate([[0], np.cumsum(_count_items(lists, pool.n_items))])
        item, total, square = np.empty(ends[-1], np.int32), np.zeros((2, ends[-1])), np.zeros(ends[-1])
        _tally(lists, sides, h, pool.n_items, ends, item, total, square)
        n_in = member.sum(axis=0)
        return cls(ends, item, total, square, np.stack([len(pool) - n_in, n_in]).astype(np.float64))

    def spread(self, per_user: Float64) -> Float64:
        """Repeat what belongs to a user for each of its entries (last axis)."""
        return np.repeat(per_user, np.diff(self.ends), axis=-1)


@dataclass(frozen=True, eq=False)
class _Linear:
    """The linear score of the module's equation.

    Parameters
    ----------
    ends, item
        As in `_Tally`.
    weight : float64, shape (m,)
    default : float64, shape (n,)
        Weight of the items that the user has no entry for.
    offset : float64, shape (n,)
    h : float64, shape (k,)
    n_items : int
    """

    ends: Int64
    item: Int32
    weight: Float64
    default: Float64
    offset: Float64
    h: Float64
    n_items: int

    def score(self, lists: Int32) -> Float64:
        """Score R lists of each user, int32, shape (R, n, k): float64, shape (R, n)."""
        # The loops below check no bounds.
        n, k = len(self.ends) - 1, len(self.h)
        if lists.ndim != 3 or lists.shape[1:] != (n, k) or lists.dtype != np.int32:
            raise ProtocolError(
                f"lists to score must be int32[R, {n}, {k}], the users and the list length of the shadow pool; "
                f"got {lists.dtype}{list(lists.shape)}"
            )
        if lists.size and not -1 <= lists.min() <= lists.max() < self.n_items:
            raise ProtocolError(
                f"lists to score hold items in {lists.min()}..{lists.max()}; allowed are the items of the shadow pool, "
                f"0..{self.n_items - 1}, and -1 as padding"
            )
        sums = _sum_weights(
            np.ascontiguousarray(lists.transpose(1, 0, 2)), self.h, self.ends, self.item, self.weight, self.default,
            self.n_items,
        )  # fmt: skip
        return self.offset + sums.T


class Surprise(PoolAttack):
    r"""How unlike the lists without u the list is, and whether that is what membership does.

    The surprise of a list is the mean of :math:`-\log p_{out}` over its items, where

    .. math:: p_{out}(i) = \frac{c_{out}(i) + 1/2}{n_{out} + 1}

    is how often the lists that judge it, all made without u, hold item i. (Where lists end early, the sum over a list
    is divided by the mean length of u's shadow lists.) Each OUT list is judged by the other OUT lists. Every other list
    is judged by all OUT lists but one, and its surprise is the mean over which one is left out: so the expected
    surprise of an OUT list is that of a list by another model trained without u, with however few shadows.

    In and out of training, the surprise of u's lists is taken for Gaussian,
    :math:`t \sim N(m_u \pm d_u / 2, \sigma^2)`, with one variance for all users. A handful of lists says little about
    d_u, so it is estimated by its posterior mean in a population of users, :math:`d_u \sim N(d, \tau^2)` (empirical
    Bayes, by moments):

    .. math:: s_u = \frac{d_u}{\sigma^2} (t - m_u), \qquad
              d_u = d + \frac{\tau^2}{\tau^2 + \sigma^2 (1/n_{in} + 1/n_{out})} (\hat d_u - d).

    A user with OUT lists only has d_u = d. One with fewer than two OUT lists is judged by all of its lists, with IN and
    OUT exchanged: d is then what the others' OUT lists are found to be to their IN lists, and the score changes its
    sign. Which way that points depends on the recommender: among users of an LFM, those in training are the more
    surprising to either kind of lists.

    Parameters
    ----------
    online : bool
        Whether IN lists are used. Without them, all users have the same d_u, and the score is the surprise beyond
        u's usual one, whatever the lists that judge it.
    """

    min_shadows: ClassVar[int] = 4

    def __init__(self, *, online: bool = True) -> None:
        self.name = "list-lr-surprise" if online else "list-lr-offline"
        self.online = online
        self._linear: _Linear | None = None
        self.gap, self.usual = 1.0, np.empty(0)

    def fit(self, pool: ShadowPool, *, rng: np.random.Generator) -> Self:
        """Count the lists without each user, and learn what membership does to the surprise."""
        self.check_pool(pool)
        always = (~pool.member).sum(axis=0) < 2
        into = pool.member & ~always
        tally = _Tally.of(pool, into, np.ones(pool.lists.shape[2]))
        n_out, n_in = tally.shadows
        listed = np.maximum((pool.lists >= 0).sum(axis=2).mean(axis=0), 1)
        count, all_out = tally.total[0], tally.spread(n_out)
        with_it, without = np.log(count + 0.5), np.log(np.maximum(count - 1, 0) + 0.5)
        own, other = (
            _Linear(tally.ends, tally.item, (np.log(all_out) - log_count) / tally.spread(listed),
                    (np.log(n_out) - np.log(0.5)) / listed, np.zeros_like(n_out), np.ones(pool.lists.shape[2]),
                    pool.n_items)
            for log_count in (without, with_it + count / all_out * (without - with_it))
        )  # fmt: skip
        surprise = np.where(into, other.score(pool.lists), own.score(pool.lists))
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
                turned = ShadowPool(pool.lists[:, both], ~pool.member[:, both], pool.n_items)
                gap[always] = -Surprise().fit(turned, rng=rng).gap
            middle = np.where(both, (mean_in + mean_out) / 2, mean_out + np.where(always, -gap, gap) / 2)
        # Against the mean of the other OUT lists, as a target's list is against lists that do not include it.
        beyond = (surprise - mean_out) * n_out / (n_out - 1) / np.sqrt(variance)
        self.usual = beyond[~into & ~always]
        slope = gap / (variance if self.online else np.sqrt(variance))
        self._linear = _Linear(
            tally.ends, tally.item, other.weight * tally.spread(slope), other.default * slope, -middle * slope,
            other.h, pool.n_items,
        )  # fmt: skip
        return self

    def score(self, lists: Int32) -> Float64:
        """See `PoolAttack.score`."""
        return _fitted(self._linear, self.name).score(lists)


class _ItemWeights(PoolAttack):
    """What the attacks with a weight for each user and item share; a subclass writes `_weigh`."""

    _linear: _Linear | None = None
    _offline: Surprise | None = None

    @abstractmethod
    def _weigh(self, pool: ShadowPool) -> _Linear:
        """Estimate the weights."""

    def fit(self, pool: ShadowPool, *, rng: np.random.Generator) -> Self:
        """Estimate the weights; users with IN or OUT lists only are left to `Surprise`."""
        self.check_pool(pool)
        self._linear = self._weigh(pool)
        self._offline = Surprise().fit(pool, rng=rng) if self.offline.any() else None
        return self

    def score(self, lists: Int32) -> Float64:
        """See `PoolAttack.score`."""
        scores = _fitted(self._linear, self.name).score(lists)
        return scores if self._offline is None else np.where(self.offline, self._offline.score(lists), scores)


class Counts(_ItemWeights):
    r"""Every item of u's shadow lists is listed or not, independently of the others.

    With :math:`p_0 = (c_{in} + c_{out}) / (n_{in} + n_{out})` and
    :math:`p_{in} = (c_{in} + a p_0 + e) / (n_{in} + a + 2 e)`, a = 2, e = 0.01, and :math:`p_{out}` alike,

    .. math:: s_u = \sum_{i \in L} \log \frac{p_{in}}{p_{out}}
              + \sum_{i \notin L} \log \frac{1 - p_{in}}{1 - p_{out}}.
    """

    name = "list-lr-counts"
    min_shadows: ClassVar[int] = 4

    def _weigh(self, pool: ShadowPool) -> _Linear:
        tally = _Tally.of(pool, pool.member, np.ones(pool.lists.shape[2]))
        prior = tally.total.sum(axis=0) / len(pool)
        p = (tally.total + _PRIOR * prior + _FLOOR) / (tally.spread(tally.shadows) + _PRIOR + 2 * _FLOOR)
        absent = np.log1p(-p[1]) - np.log1p(-p[0])
        return _linear(tally, np.log(p[1]) - np.log(p[0]) - absent, absent, np.ones(pool.lists.shape[2]), pool.n_items)


class Ranks(_ItemWeights):
    r"""A Gaussian for each user and item on :math:`x = 1 / \log_2(1 + rank)`, 0 where the item is not listed.

    Means in and out are drawn to their common mean by a = 2 pseudo-shadows; the variance is that of all lists, and
    0.01.
    """

    name = "list-lr-ranks"
    min_shadows: ClassVar[int] = 4

    def _weigh(self, pool: ShadowPool) -> _Linear:
        h = 1 / np.log2(2 + np.arange(pool.lists.shape[2]))
        tally = _Tally.of(pool, pool.member, h)
        mean = tally.total.sum(axis=0) / len(pool)
        out, into = (tally.total + _PRIOR * mean) / (tally.spread(tally.shadows) + _PRIOR)
        variance = tally.square / len(pool) - mean**2 + _FLOOR
        return _linear(tally, (into - out) / variance, (out**2 - into**2) / (2 * variance), h, pool.n_items)


class Ridge(_ItemWeights):
    r"""The ridge discriminant on u's shadow lists, which allows for items that come and go together.

    With X (S x items) the centred presence of the items in u's shadow lists and y = 1 for in, -1 for out, centred,
    :math:`w = X^\top (X X^\top + \lambda I)^{-1} y`, where :math:`\lambda` is the mean of the diagonal.
    """

    name = "list-lr-ridge"
    min_shadows: ClassVar[int] = 4

    def _weigh(self, pool: ShadowPool) -> _Linear:
        S, n, k = pool.lists.shape
        tally = _Tally.of(pool, pool.member, np.ones(k))
        weight, constant = np.empty(len(tally.item)), np.empty(len(tally.item))
        # What BLAS splits among threads has other last bits.
        with threadpool_limits(1, user_api="blas"):
            for u in range(n):
                part = slice(tally.ends[u], tally.ends[u + 1])
                shown = pool.lists[:, u]
                ends = np.concatenate([[0], np.cumsum((shown >= 0).sum(axis=1))])
                presence = sparse.csr_array((np.ones(ends[-1]), shown[shown >= 0], ends), shape=(S, pool.n_items))
                X = presence[:, tally.item[part]].toarray()
                mean = X.mean(axis=0)
                X -= mean
                kernel = X @ X.T
                y = np.where(pool.member[:, u], 1.0, -1.0)
                dual = np.linalg.solve(kernel + max(float(np.trace(kernel)) / S, 1e-9) * np.eye(S), y - y.mean())
                weight[part] = X.T @ dual
                constant[part] = -mean * weight[part]
        return _linear(tally, weight, constant, np.ones(k), pool.n_items)


class ListLR(PoolAttack):
    r"""The log odds of membership, from `Surprise`, `Counts` and `Ranks` together; our strongest attack.

    How much each is to be trusted depends on the recommender and on the number of shadows. So pairs of shadows are held
    out in turn, scored by the three as fitted on the rest, and a logistic regression on these scores learns the
    weights, the same for all users. The score is its log odds: above 0, membership is the better bet. Users with IN or
    OUT lists only have no say in the weights.
    """

    name = "list-lr"
    min_shadows: ClassVar[int] = 6
    parts: ClassVar[tuple[type[PoolAttack], ...]] = (Surprise, Counts, Ranks)

    def __init__(self) -> None:
        self._fitted: list[PoolAttack] = []
        self._slope, self._intercept = np.empty(0), 0.0

    def fit(self, pool: ShadowPool, *, rng: np.random.Generator) -> Self:
        """Fit the parts, and their weights on held-out shadows."""
        from sklearn.linear_model import LogisticRegression

        self.check_pool(pool)
        own = ~self.offline
        held_out = np.stack([cross_scores(part, pool, rng=rng)[:, own] for part in self.parts])
        scale = np.maximum(held_out.std(axis=(1, 2)), 1e-12)
        features = held_out.reshape(len(held_out), -1).T / scale
        # What BLAS splits among threads has other last bits.
        with threadpool_limits(1):
            model = LogisticRegression().fit(features, pool.member[:, own].ravel())
        self._slope, self._intercept = model.coef_[0] / scale, float(model.intercept_[0])
        self._fitted = [part().fit(pool, rng=rng) for part in self.parts]
        return self

    def score(self, lists: Int32) -> Float64:
        """See `PoolAttack.score`."""
        if not self._fitted:
            raise NotFittedError(f"the attack {self.name} was asked for scores before fit")
        scores = np.stack([part.score(lists) for part in self._fitted])
        # Not a matrix product: that rounds differently with the place of a user among the others.
        return np.asarray((self._slope[:, None, None] * scores).sum(axis=0) + self._intercept, np.float64)


class RMIA(PoolAttack):
    r"""The robust attack for few shadows (Zarifzadeh et al. 2024) on lists, in its offline form.

    How much more likely is the list under the target, which shows it, than under shadows without u? That ratio,
    :math:`\Pr(L_u | \theta) / \Pr(L_u)`, is the surprise of `Surprise` beyond u's usual one. It is set against the
    ratios of known non-members z, the users out of training in each shadow:

    .. math:: s_u = \Pr_z\left[ \frac{\Pr(L_u | \theta)}{\Pr(L_u)} \ge \frac{\Pr(L_z | \theta_z)}{\Pr(L_z)} \right].
    """

    name = "rmia"
    online = False
    min_shadows: ClassVar[int] = 4

    def __init__(self) -> None:
        self._offline = Surprise(online=False)
        self._population = np.empty(0)

    def fit(self, pool: ShadowPool, *, rng: np.random.Generator) -> Self:
        """Find the ratios of the users out of training."""
        self.check_pool(pool)
        self._population = np.sort(self._offline.fit(pool, rng=rng).usual)
        if not len(self._population):
            raise ProtocolError(
                f"the attack {self.name} compares with users out of training, and all {pool.n_users} users are in "
                "training in nearly every shadow; train shadows on random halves of the users"
            )
        return self

    def score(self, lists: Int32) -> Float64:
        """See `PoolAttack.score`."""
        if not len(self._population):
            raise NotFittedError(f"the attack {self.name} was asked for scores before fit")
        return np.searchsorted(self._population, self._offline.score(lists), side="right") / len(self._population)


class Offline(Surprise):
    """`Surprise` without IN lists, for whoever cannot train shadow models on the audited users."""

    def __init__(self) -> None:
        super().__init__(online=False)


POOL_ATTACKS: Mapping[str, type[PoolAttack]] = MappingProxyType(
    {
        "list-lr": ListLR,
        "list-lr-surprise": Surprise,
        "list-lr-counts": Counts,
        "list-lr-ranks": Ranks,
        "list-lr-ridge": Ridge,
        "list-lr-offline": Offline,
        "rmia": RMIA,
    }
)


def _fitted(linear: _Linear | None, name: str) -> _Linear:
    if linear is None:
        raise NotFittedError(f"the attack {name} was asked for scores before fit")
    return linear


def _linear(tally: _Tally, weight: Float64, constant: Float64, h: Float64, n_items: int) -> _Linear:
    """Join weights of entries, and constants that are summed over a user's entries; other items weigh nothing."""
    user = np.repeat(np.arange(len(tally.ends) - 1), np.diff(tally.ends))
    offset = np.bincount(user, constant, len(tally.ends) - 1).astype(np.float64)
    return _Linear(tally.ends, tally.item, weight, np.zeros_like(offset), offset, h, n_items)


@numba.njit(cache=True, nogil=True)
def _count_items(lists: Int32, n_items: int) -> Int64:
    """How many items are in any list of each user; `lists` is int32, shape (n, S, k)."""
    counts, last = np.zeros(len(lists), np.int64), np.full(n_items, -1)
    for u in range(len(lists)):
        for i in lists[u].flat:
            if i >= 0 and last[i] != u:
                last[i] = u
                counts[u] += 1
    return counts


@numba.njit(cache=True, nogil=True)
def _tally(
    lists: Int32, member: Bool, h: Float64, n_items: int, ends: Int64, item: Int32, total: Float64, square: Float64
) -> None:
    """Fill `item`, `total` and `square` of `_Tally`; `lists` is int32, shape (n, S, k), `member` bool, shape (n, S)."""
    place, last = np.zeros(n_items, np.int64), np.full(n_items, -1)
    for u in range(len(lists)):
        filled = ends[u]
        for i in lists[u].flat:
            if i >= 0 and last[i] != u:
                last[i] = u
                item[filled] = i
                filled += 1
        item[ends[u] : filled].sort()
        for entry in range(ends[u], filled):
            place[item[entry]] = entry
        for s in range(lists.shape[1]):
            side = int(member[u, s])
            for j in range(lists.shape[2]):
                if lists[u, s, j] >= 0:
                    entry = place[lists[u, s, j]]
                    total[side, entry] += h[j]
                    square[entry] += h[j] ** 2


@numba.njit(cache=True, nogil=True)
def _sum_weights(
    lists: Int32, h: Float64, ends: Int64, item: Int32, weight: Float64, default: Float64, n_items: int
) -> Float64:
    """Sum h w over each list; `lists` is int32, shape (n, R, k), the result float64, shape (n, R)."""
    n, R, k = lists.shape
    sums, own, last = np.zeros((n, R)), np.empty(n_items), np.full(n_items, -1)
    for u in range(n):
        for entry in range(ends[u], ends[u + 1]):
            own[item[entry]] = weight[entry]
            last[item[entry]] = u
        for r in range(R):
            for j in range(k):
                i = lists[u, r, j]
                if i >= 0:
                    sums[u, r] += h[j] * (own[i] if last[i] == u else default[u])
    return sums

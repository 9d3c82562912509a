r"""Attacks that ask: with a part A of a user's history, for how much of the hidden part B comes back.

A system completes the histories that it was trained on. So what tells members is how well the answer L to a query
completes its hidden part; see `recmia.observation.Queries` for how queries are made.

- `Completion` needs no shadow model and no other model: it is the NDCG of the hidden items.
- `CompletionReference` compares with models that the attacker trained on other people's data.
- `QueryLR` compares with shadow models that were trained with the user, and without.

The last two do not count all hits alike. That a hidden item is found says the more the less other models find it. With
:math:`r_m(i)` the rank of item i in the answer of model m, k + 1 if it is not there, a hit has the weight

.. math:: w_i = \exp\Big(\tfrac12 \operatorname{mean}_m \log(r_m(i) + 30)\Big),

the square root of a geometric mean rank. A user's hits are summed up as

.. math:: z_u = \operatorname{mean}_{queries} \frac{1}{\min(|B|, k)^c}
          \sum_{i \in B \cap L} \frac{w_i}{\sqrt{\log_2(1 + rank_L(i))}}

with a power c between 0, where every hit counts the same, and 1, where every user does. What is right lies between:
with c = 1/2, users with few and with many hidden items have the same variance. Powers, discount and weights were chosen
on ml-latest-small.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.attacks.base import Attack, Bool, Float64, PoolAttack, for_every_user
from recmia.attacks.lists import RANK_OFFSET, Int32, Sides, SurpriseBoth
from recmia.blas import one_blas_thread
from recmia.compiled import compiled
from recmia.errors import NotFittedError, ProtocolError
from recmia.observation import Observation, Queries, ShadowPool, in_history, rank_by_popularity

# The powers of the number of hidden items, and of the popularity of an item, in the sums of hits.
_LARGE_POWER, _SMALL_POWER, _FAME_POWER = 0.75, 0.25, 0.25
# The power of an item's geometric mean rank in its weight.
_RANK_POWER = 0.5
# What is left of a regression, as a share of its largest value, that is rounding.
_ROUNDING = 1e-9
# Fewest shadow models that tell how membership changes the surprise of a list; the most that a list may tell.
_SHADOWS_FOR_SURPRISE, _MOST_SURPRISE = 4, 2.0


def completions(answers: Int32, queries: Queries) -> Float64:
    r"""Return the NDCG of the hidden items in each answer.

    .. math:: c = \sum_{j : L_j \in B} \frac{1}{\log_2(1 + j)} \Big/ \sum_{j=1}^{\min(|B|, k)} \frac{1}{\log_2(1 + j)}

    Parameters
    ----------
    answers : int32, shape (q, k)
        Best first, -1 pads.
    queries : Queries

    Returns
    -------
    float64, shape (q,)
        In 0..1; 0 where nothing is hidden.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> halves = sparse.csr_array(np.array([[1, 1, 0, 0], [0, 0, 1, 1]], np.float32))
    >>> queries = Queries(np.array([0, 0], np.int32), halves, halves[[1, 0]])
    >>> completions(np.array([[2, 3], [3, 1]], np.int32), queries).round(2).tolist()
    [1.0, 0.39]
    """
    gain = 1 / np.log2(2 + np.arange(answers.shape[1]))
    best = np.concatenate([gain[:1], np.cumsum(gain)])
    found = (in_history(answers, queries.hidden) * gain).sum(axis=1)
    completed: Float64 = found / best[np.minimum(_hidden_counts(queries), answers.shape[1])]
    return completed


def mean_by_user(values: Float64, user: Int32, n: int) -> Float64:
    """Return the mean over the queries of each of n users, float64, shape (n,), and NaN for users without one.

    >>> mean_by_user(np.array([1.0, 0.0, 1.0]), np.array([0, 0, 2], np.int32), 3).tolist()
    [0.5, nan, 1.0]
    """
    number = np.bincount(user, minlength=n)
    mean: Float64 = np.where(number > 0, np.bincount(user, values, n) / np.maximum(number, 1), np.nan)
    return mean


class Completion(Attack):
    """How much of the hidden part of its history a user gets back: the mean of `completions` over its queries.

    Users without a query get the median of the others.

    Examples
    --------
    >>> from scipy import sparse
    >>> from recmia.observation import Items
    >>> halves = sparse.csr_array(np.array([[1, 1, 0, 0], [0, 0, 1, 1]], np.float32))
    >>> queries = Queries(np.array([0, 1], np.int32), halves, halves[[1, 0]])
    >>> answers = np.array([[2, 3], [3, 1]], np.int32)
    >>> items = Items(np.eye(4), np.ones(4, bool), np.ones(4, int))
    >>> history = sparse.csr_array(np.ones((2, 4), np.float32))
    >>> seen = Observation(history, np.full((2, 2), -1, np.int32), items, queries=queries, answers=answers)
    >>> Completion().score(seen).round(2).tolist()
    [1.0, 0.39]
    """

    name = "completion"
    asks, looks = True, False
    needs = "nothing"

    def score(self, observation: Observation) -> Float64:
        """See `Attack.score`."""
        queries, answers = _asked(observation)
        completed = mean_by_user(completions(answers, queries), queries.user, len(observation))
        asked = np.isfinite(completed)
        return for_every_user(completed[asked], asked)


class CompletionReference(Attack):
    r"""How much more of its history a user gets back than models give back that were not trained on the user.

    With the :math:`z_u` and the weights of the module, from the ranks in the answers of the reference models, take the
    residual of the least-squares regression of :math:`z_u` of the audited system, over all users with a query, on a
    constant, :math:`z_u` of each reference, what :math:`z_u` would be if all hidden items came first, and the logarithm
    of the number and the mean logarithm of the popularity of u's known items. It takes no labels, and the sign is
    fixed: whoever is completed better than expected is taken for a member.

    The score is the sum of two such residuals, each over its standard deviation: one with c = 3/4, and one with
    c = 1/4 and the weights over the fourth root of the items' popularity, which the ranks do not tell beyond the length
    of an answer. The first is the better with long known histories, the second with short ones and with few
    references. Without references, the ranking of all items by popularity stands in. Users without a query get 0.

    References must not be trained on the audited users.

    Examples
    --------
    The first user gets two hidden items back, the second none, and nothing else tells them apart:

    >>> from scipy import sparse
    >>> from recmia.observation import Items
    >>> halves = sparse.csr_array(np.array([[1, 1, 0, 0], [1, 1, 0, 0]], np.float32))
    >>> others = sparse.csr_array(np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.float32))
    >>> queries = Queries(np.array([0, 1], np.int32), halves, others)
    >>> answers = np.array([[2, 3], [-1, -1]], np.int32)
    >>> items = Items(np.eye(4), np.ones(4, bool), np.ones(4, int))
    >>> history = sparse.csr_array(np.ones((2, 4), np.float32))
    >>> seen = Observation(history, np.full((2, 2), -1, np.int32), items, queries=queries, answers=answers)
    >>> np.sign(CompletionReference().score(seen)).tolist()
    [1.0, -1.0]
    """

    name = "completion-reference"
    asks, looks = True, False
    needs = "references"

    def score(self, observation: Observation) -> Float64:
        """See `Attack.score`; users are compared with each other."""
        queries, answers = _asked(observation)
        n, k, popularity = len(observation), answers.shape[1], observation.items.popularity
        references = [] if observation.references is None else list(observation.references)
        ranks = [hidden_ranks(each, queries) for each in (answers, *references)]
        # References may answer with fewer items; what is not there has the rank after their last.
        lengths = [each.shape[1] for each in (answers, *references)]
        if not references:
            place = np.empty(len(popularity), np.int32)
            place[rank_by_popularity(popularity)] = 1 + np.arange(len(popularity))
            ranks.append(place[queries.hidden.indices])
            lengths.append(k)
        weight = np.exp(_RANK_POWER * np.mean([np.log(rank + RANK_OFFSET) for rank in ranks[1:]], axis=0))
        fame, parts = np.log1p(popularity), (queries.asked, queries.hidden)
        size = np.maximum(sum(np.diff(part.indptr) for part in parts), 1)
        known = [np.ones(len(size)), np.log(size), sum(_sums(fame[part.indices], part) for part in parts) / size]
        rare = weight * np.exp(-_FAME_POWER * fame[queries.hidden.indices])
        asked = np.bincount(queries.user, minlength=n) > 0
        scores = np.zeros(n)
        for weights, power in ((weight, _LARGE_POWER), (rare, _SMALL_POWER)):
            found = [
                weighted_hits(rank, weights, queries, length, power)
                for rank, length in zip((*ranks, np.ones_like(ranks[0])), (*lengths, k), strict=True)
            ]
            y, *columns = (mean_by_user(column, queries.user, n)[asked] for column in (*found, *known))
            residual = _residual(y, np.stack(columns, axis=1))
            scores[asked] += residual / max(float(residual.std()) if len(residual) else 0.0, 1e-12)
        return scores


class QueryCompletion(PoolAttack):
    r"""The log odds of membership from how well the user's history is completed, in and out of training.

    The :math:`z_u` of the module, with c = 1/4 and weights from the answers of the shadow models, is Gaussian about the
    user's own middle, :math:`N(m_u \pm d / 2, \sigma^2)`. So

    .. math:: s_u = \frac{d}{\sigma^2} (z_u - m_u),

    with d and :math:`\sigma^2` from all users together. In the mean over models of the weights, those with u in
    training and those without count half each, however many there are. Two shadow models, one with u and one without,
    are enough. Users without a query get 0.

    Examples
    --------
    >>> QueryCompletion().min_shadows
    2
    """

    name = "query-lr-completion"
    asks, looks = True, False

    def __init__(self) -> None:
        self._weight, self._middle, self._slope, self._k = np.empty(0), np.empty(0), 0.0, 0

    def fit(self, pool: ShadowPool, *, rng: np.random.Generator) -> Self:
        """Compute the weights, and the middle of each user."""
        self.check_pool(pool)
        if pool.queries is None or pool.answers is None:
            raise ProtocolError(f"the attack {self.name} needs what the shadow models answer to queries")
        queries, self._k = pool.queries, pool.answers[0].shape[1]
        # The ranks in the answers of a model are the same in all parts of a pool.
        of_all = pool.feature("hidden ranks", _ranks_of)
        ranks = [of_all[number] for number in pool.numbers]
        of_user = np.repeat(queries.user, _hidden_counts(queries))
        log_rank, log_ranks = np.log(np.arange(self._k + 2) + RANK_OFFSET), np.zeros((2, len(of_user)))
        for rank, member in zip(ranks, pool.member, strict=True):
            _add_log_ranks(rank, member, of_user, log_rank, log_ranks)
        count = np.stack([(~pool.member).sum(axis=0), pool.member.sum(axis=0)])[:, of_user]
        self._weight = np.exp(_RANK_POWER * (log_ranks / np.maximum(count, 1)).sum(axis=0) / (count > 0).sum(axis=0))
        asked = np.bincount(queries.user, minlength=pool.n_users) > 0
        completed = np.stack([self._completed(rank, queries, pool.n_users)[asked] for rank in ranks])
        told = Sides.of(completed, pool.member[:, asked].astype(np.int8))
        found = (told.mean[1] - told.mean[0])[(told.count > 0).all(axis=0)]
        gap = np.full(int(asked.sum()), found.mean() if len(found) else 0.0)
        self._slope = float(gap.mean() / told.variance()) if len(gap) else 0.0
        self._middle = np.zeros(pool.n_users)
        self._middle[asked] = told.middle(gap)
        return self

    def score(self, observation: Observation) -> Float64:
        """See `PoolAttack.score`."""
        if not len(self._middle):
            raise NotFittedError(f"the attack {self.name} was asked for scores before fit")
        queries, answers = _asked(observation)
        ranks = hidden_ranks(answers, queries)
        if len(ranks) != len(self._weight) or answers.shape[1] != self._k:
            raise ProtocolError(f"the attack {self.name} scores answers of the length and to the queries of its pool")
        return np.nan_to_num(self._slope * (self._completed(ranks, queries, len(observation)) - self._middle))

    def _completed(self, ranks: Int32, queries: Queries, n: int) -> Float64:
        return mean_by_user(weighted_hits(ranks, self._weight, queries, self._k, _SMALL_POWER), queries.user, n)


class QueryLR(PoolAttack):
    """The log odds of membership, from `QueryCompletion` and from `SurpriseBoth`; the strongest attack that we have.

    The score is the sum of the two. There are no weights to learn, so two shadow models are enough. The surprise of the
    list that is shown is left out with fewer than four, which cannot tell which way membership changes it. It is cut
    off at -2 and 2: its tails are heavier than a Gaussian's, so larger log odds are not to be believed.

    Examples
    --------
    >>> QueryLR().min_shadows
    2
    """

    name = "query-lr"
    asks = True
    min_shadows: ClassVar[int] = 2

    def __init__(self) -> None:
        self._completion: QueryCompletion | None = None
        self._surprise: SurpriseBoth | None = None

    def fit(self, pool: ShadowPool, *, rng: np.random.Generator) -> Self:
        """Fit the parts."""
        self.check_pool(pool)
        self._completion = QueryCompletion().fit(pool, rng=rng)
        self._surprise = SurpriseBoth().fit(pool, rng=rng) if len(pool) >= _SHADOWS_FOR_SURPRISE else None
        return self

    def score(self, observation: Observation) -> Float64:
        """See `PoolAttack.score`."""
        if self._completion is None:
            raise NotFittedError(f"the attack {self.name} was asked for scores before fit")
        scores = self._completion.score(observation)
        if self._surprise is None:
            return scores
        return scores + np.clip(self._surprise.score(observation), -_MOST_SURPRISE, _MOST_SURPRISE)


def hidden_ranks(answers: Int32, queries: Queries) -> Int32:
    """Return the rank of each hidden item in the answer to its query, from 1, and k + 1 where it is not there.

    Parameters
    ----------
    answers : int32, shape (q, k)
    queries : Queries
        m hidden items in all.

    Returns
    -------
    int32, shape (m,)
        In the order of ``queries.hidden.indices``.
    """
    hidden = queries.hidden
    return _hidden_ranks(np.ascontiguousarray(answers), hidden.indptr, hidden.indices, hidden.shape[1])


def weighted_hits(ranks: Int32, weight: Float64, queries: Queries, k: int, power: float) -> Float64:
    """Return the module's z of each query, float64, shape (q,), where c is `power`."""
    discount = np.sqrt(np.log2(1 + np.arange(k + 1)))
    found: Float64 = _sum_hits(ranks, weight, queries.hidden.indptr, discount)
    found /= np.clip(_hidden_counts(queries), 1, k) ** power
    return found


def _asked(observation: Observation) -> tuple[Queries, Int32]:
    if observation.queries is None or observation.answers is None:
        raise ProtocolError("this attack asks, and the observation holds no queries with answers")
    return observation.queries, observation.answers


def _hidden_counts(queries: Queries) -> npt.NDArray[np.int64]:
    return np.diff(queries.hidden.indptr).astype(np.int64)


def _sums(values: Float64, of: sparse.csr_array) -> Float64:
    """Return the sum of `values`, one for each stored entry, over each row."""
    row = np.repeat(np.arange(of.shape[0]), np.diff(of.indptr))
    sums: Float64 = np.bincount(row, values, of.shape[0]).astype(np.float64)
    return sums


def _residual(y: Float64, X: Float64) -> Float64:
    """Return what least squares leave of y, float64[n], with the columns of X."""
    X = X / np.maximum(np.abs(X).max(axis=0, initial=0), 1e-12)
    # What BLAS splits among threads has other last bits.
    with one_blas_thread():
        slope = np.linalg.lstsq(X, y)[0]
    residual: Float64 = y - (X * slope).sum(axis=1)
    # What rounding leaves of a perfect fit is no residual: its order would be taken for a finding.
    spread = float(np.abs(y).max(initial=0))
    return residual if np.abs(residual).max(initial=0) > _ROUNDING * spread else np.zeros_like(y)


def _ranks_of(pool: ShadowPool) -> list[Int32]:
    assert pool.queries is not None, "of an attacker who asks"
    assert pool.answers is not None, "of an attacker who asks"
    return [hidden_ranks(answers, pool.queries) for answers in pool.answers]


@compiled(nogil=True)
def _add_log_ranks(ranks: Int32, member: Bool, user: Int32, log_rank: Float64, sums: Float64) -> None:
    """Add the log ranks in the answers of a model to the sums without, or with, each hidden item's user in training.

    Parameters
    ----------
    ranks : int32, shape (m,)
    member : bool, shape (n,)
    user : int32, shape (m,)
    log_rank : float64, shape (k + 2,)
    sums : float64, shape (2, m)
    """
    for entry in range(len(ranks)):
        sums[int(member[user[entry]]), entry] += log_rank[ranks[entry]]


@compiled(nogil=True)
def _sum_hits(ranks: Int32, weight: Float64, ends: Int32, discount: Float64) -> Float64:
    """Return the sum of weight / discount over the hidden items of each query that have a rank: float64, shape (q,)."""
    sums = np.zeros(len(ends) - 1)
    for query in range(len(sums)):
        for entry in range(ends[query], ends[query + 1]):
            if ranks[entry] < len(discount):
                sums[query] += weight[entry] / discount[ranks[entry]]
    return sums


@compiled(nogil=True)
def _hidden_ranks(answers: Int32, ends: Int32, item: Int32, n_items: int) -> Int32:
    q, k = answers.shape
    ranks, place, last = np.full(len(item), k + 1, np.int32), np.empty(n_items, np.int32), np.full(n_items, -1)
    for row in range(q):
        for j in range(k):
            if answers[row, j] >= 0:
                place[answers[row, j]] = j + 1
                last[answers[row, j]] = row
        for entry in range(ends[row], ends[row + 1]):
            if last[item[entry]] == row:
                ranks[entry] = place[item[entry]]
    return ranks

r"""Attacks that ask: with a part A of a user's history, for how much of the hidden part B comes back.

A system completes the histories that it was trained on. So what tells members is how well the answer L to a query
completes its hidden part; see `recmia.observation.Queries` for how queries are made.

- `Completion` needs no shadow model and no other model: it is the NDCG of the hidden items.
- `CompletionReference` compares with models that the attacker trained on other people's data.
- `QueryLR` compares with shadow models that were trained with the user, and without.

The last two do not count all hits alike. That a hidden item is found says the more the less any other model would have
found it. With :math:`r_m(i)` the rank of item i in the answer of model m (k + 1 if it is not there), a hit has the
weight

.. math:: w_i = \exp\Big(\tfrac12 \operatorname{mean}_m \log(r_m(i) + 30)\Big),

the square root of a geometric mean rank, as in `recmia.attacks.lists`, where it says how surprising a listed item is.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numba
import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from recmia.attacks.base import Attack, Float64, PoolAttack, for_every_user
from recmia.attacks.lists import POWER, RANK_OFFSET, Int32, Sides, Surprise
from recmia.errors import NotFittedError, ProtocolError
from recmia.observation import Observation, Queries, ShadowPool, in_history, rank_by_popularity


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
    asks = True
    needs = "nothing"

    def score(self, observation: Observation) -> Float64:
        """See `Attack.score`."""
        completed = observation.feature("completion", _completion)
        asked = np.isfinite(completed)
        return for_every_user(completed[asked], asked)


class CompletionReference(Attack):
    r"""How much more of its history a user gets back than models give back that were not trained on the user.

    The hits are weighted as the module says, by the ranks in the answers of the reference models and in the popularity
    ranking, which is one more reference that needs no model. With

    .. math:: C_u = \operatorname{mean}_{queries} \frac{1}{\min(|B|, k)}
              \sum_{i \in B \cap L} \frac{w_i}{\sqrt{\log_2(1 + rank_L(i))}},

    the score is the residual of the least-squares regression of :math:`C_u` of the audited system, over all users with
    a query, on a constant, :math:`C_u` of each reference, :math:`\operatorname{mean} w_i`, and the logarithm of the
    number and the mean logarithm of the popularity of u's known items. It takes no labels, and the sign is fixed:
    whoever is completed better than expected is taken for a member. Users without a query get 0.

    References must not be trained on the audited users.

    Examples
    --------
    >>> CompletionReference().needs
    'references'
    """

    name = "completion-reference"
    asks = True
    needs = "references"

    def score(self, observation: Observation) -> Float64:
        """See `Attack.score`; users are compared with each other."""
        queries, answers = _asked(observation)
        n, k = len(observation), answers.shape[1]
        popularity = observation.items.popularity
        place = np.empty(len(popularity), np.int64)
        place[rank_by_popularity(popularity)] = 1 + np.arange(len(popularity))
        references = [] if observation.references is None else list(observation.references)
        ranks = [hidden_ranks(answer, queries) for answer in references]
        ranks.append(np.minimum(place[queries.hidden.indices], k + 1))
        weight = _weights(np.mean([np.log(rank + RANK_OFFSET) for rank in ranks], axis=0))
        known = (queries.asked + queries.hidden).tocsr()
        size = np.diff(known.indptr)
        log_popularity = known.copy()
        log_popularity.data = np.log1p(popularity[known.indices])
        columns = [
            np.ones(len(queries)),
            *(weighted_hits(rank, weight, queries, k, 1.0) for rank in ranks),
            _sums(weight, queries) / np.maximum(np.minimum(_hidden_counts(queries), k), 1),
            np.log(np.maximum(size, 1)),
            np.asarray(log_popularity.sum(axis=1)).ravel() / np.maximum(size, 1),
        ]
        found = weighted_hits(hidden_ranks(answers, queries), weight, queries, k, 1.0)
        X, y = (
            np.stack([mean_by_user(column, queries.user, n) for column in part], axis=1) for part in (columns, [found])
        )
        asked = np.isfinite(y[:, 0])
        scores = np.zeros(n)
        if asked.any():
            scale = np.maximum(np.abs(X[asked]).max(axis=0), 1e-12)
            # What BLAS splits among threads has other last bits.
            with threadpool_limits(1, user_api="blas"):
                slope = np.linalg.lstsq(X[asked] / scale, y[asked, 0])[0]
            scores[asked] = y[asked, 0] - (X[asked] / scale * slope).sum(axis=1)
        return scores


class QueryCompletion(PoolAttack):
    r"""The log odds of membership from how well the user's history is completed, in and out of training.

    With the weights of the module, from the answers of the shadow models (those with u in training and those without
    count half each, however many there are), and

    .. math:: z_u = \operatorname{mean}_{queries} \frac{1}{\sqrt{\min(|B|, k)}}
              \sum_{i \in B \cap L} \frac{w_i}{\sqrt{\log_2(1 + rank_L(i))}},

    :math:`z_u` is Gaussian about the user's own middle, :math:`N(m_u \pm d / 2, \sigma^2)`. The root of the number of
    hidden items makes the variance nearly the same for all users. So

    .. math:: s_u = \frac{d}{\sigma^2} (z_u - m_u),

    with d and :math:`\sigma^2` from all users together. Two shadow models, one with u and one without, are enough.
    """

    name = "query-lr-completion"
    asks = True

    def __init__(self) -> None:
        self._weight, self._slope, self._middle = np.empty(0), 0.0, np.empty(0)

    def fit(self, pool: ShadowPool, *, rng: np.random.Generator) -> Self:
        """Compute the weights, and the middle of each user."""
        self.check_pool(pool)
        if pool.queries is None or pool.answers is None:
            raise ProtocolError(f"the attack {self.name} needs the answers of the shadow models to queries")
        queries, k = pool.queries, pool.answers.shape[2]
        ranks = [hidden_ranks(answers, queries) for answers in pool.answers]
        into = np.repeat(pool.member[:, queries.user], _hidden_counts(queries), axis=1)
        logs = np.zeros((2, len(queries.hidden.indices)))
        for rank, inside in zip(ranks, into, strict=True):
            log_rank = np.log(rank + RANK_OFFSET)
            logs += np.stack([np.where(inside, 0, log_rank), np.where(inside, log_rank, 0)])
        count = np.stack([(~into).sum(axis=0), into.sum(axis=0)])
        self._weight = _weights((logs / np.maximum(count, 1)).sum(axis=0) / np.maximum((count > 0).sum(axis=0), 1))
        completed = np.stack([self._completed(rank, queries, k, pool.n_users) for rank in ranks])
        told = Sides.of(completed, pool.member.astype(np.int8))
        both = (told.count > 0).all(axis=0) & (told.mean > 0).any(axis=0)
        gap = np.full(pool.n_users, (told.mean[1] - told.mean[0])[both].mean() if both.any() else 0.0)
        self._slope, self._middle = float(gap[0] / told.variance()), told.middle(gap)
        return self

    def score(self, observation: Observation) -> Float64:
        """See `PoolAttack.score`."""
        if not len(self._middle):
            raise NotFittedError(f"the attack {self.name} was asked for scores before fit")
        queries, answers = _asked(observation)
        ranks = hidden_ranks(answers, queries)
        return self._slope * (self._completed(ranks, queries, answers.shape[1], len(observation)) - self._middle)

    def _completed(self, ranks: Int32, queries: Queries, k: int, n: int) -> Float64:
        return np.nan_to_num(mean_by_user(weighted_hits(ranks, self._weight, queries, k, 0.5), queries.user, n))


class QueryLR(PoolAttack):
    r"""The log odds of membership, from `QueryCompletion` and, with enough shadow models, from the list shown.

    Examples
    --------
    >>> QueryLR().min_shadows
    2
    """

    name = "query-lr"
    asks = True
    min_shadows: ClassVar[int] = 2

    def __init__(self) -> None:
        self._parts: list[PoolAttack] = []

    def fit(self, pool: ShadowPool, *, rng: np.random.Generator) -> Self:
        """Fit the parts."""
        self.check_pool(pool)
        parts: list[PoolAttack] = [QueryCompletion()]
        if len(pool) >= 4:
            parts.append(Surprise())
        self._parts = [part.fit(pool, rng=rng) for part in parts]
        return self

    def score(self, observation: Observation) -> Float64:
        """See `PoolAttack.score`."""
        if not self._parts:
            raise NotFittedError(f"the attack {self.name} was asked for scores before fit")
        return np.asarray(sum(part.score(observation) for part in self._parts), np.float64)


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
    """Return the sum of w / sqrt(log2(1 + rank)) over the hits of each query, over min(|B|, k)^power."""
    hits = np.where(ranks <= k, weight / np.sqrt(np.log2(1 + ranks)), 0)
    return _sums(hits, queries) / np.maximum(np.minimum(_hidden_counts(queries), k), 1) ** power


def _completion(observation: Observation) -> Float64:
    queries, answers = _asked(observation)
    return mean_by_user(completions(answers, queries), queries.user, len(observation))


def _asked(observation: Observation) -> tuple[Queries, Int32]:
    if observation.queries is None or observation.answers is None:
        raise ProtocolError("this attack asks, and the observation holds no queries with answers")
    return observation.queries, observation.answers


def _hidden_counts(queries: Queries) -> npt.NDArray[np.int64]:
    return np.diff(queries.hidden.indptr).astype(np.int64)


def _sums(values: Float64, queries: Queries) -> Float64:
    """Return the sum over the hidden items of each query, float64, shape (q,)."""
    of = np.repeat(np.arange(len(queries)), _hidden_counts(queries))
    sums: Float64 = np.bincount(of, values, len(queries)).astype(np.float64)
    return sums


def _weights(mean_log_rank: Float64) -> Float64:
    weights: Float64 = np.exp(POWER * mean_log_rank)
    return weights


@numba.njit(cache=True, nogil=True)
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

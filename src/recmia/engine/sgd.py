r"""Matrix factorisation by stochastic gradient descent.

It trains the latent factor model (`recmia.recommenders.lfm`) and the attacker's item vectors (`recmia.game.observe`).

Explicit feedback minimises, over the rated pairs,

.. math:: \sum_{(u,i)} (r_{ui} - \mu - b_u - b_i - p_u^\top q_i)^2 + \lambda (|p_u|^2 + |q_i|^2 + b_u^2 + b_i^2)

(the biases only with ``bias=True``; Koren, Bell and Volinsky 2009, eqs. 2 and 5). Implicit feedback has r = 1 for a
seen pair, no mean, and r = 0 for ``n_negatives`` unseen items per seen pair, which are drawn anew in each epoch. A
sample with error e = r - r_hat changes the vectors, at learning rate :math:`\gamma`, by

.. math:: p \leftarrow p + \gamma (e q - \lambda p), \qquad q \leftarrow q + \gamma (e p_{old} - \lambda q).

**Blocks and strata.** The rating matrix is cut into a grid of B x B blocks of about equal work. Blocks that share no
row and no column change different vectors, so that B of them, a *stratum*, can be trained at once without a race; B
strata make an epoch (Gemulla et al. 2011, section 4). The grid and the order of the blocks depend on the data and the
seed alone, and one thread trains a block: the result is the same, bit by bit, for any number of threads.

Within a block the samples are visited user by user, users in a random order (as in LIBMF's partial random method, Chin
et al. 2015, section 4.2): p_u stays in the first-level cache, and only one band of item vectors competes for the
second. Interactions are sorted by user and item, and a band of items is a range of rows, so a user's part of a block is
a run of the table. One pointer per user and band describes the grid, and the ratings are never copied.

**Negatives.** For user u, with n_u seen and m_u unseen trained items, each unseen item must be drawn
:math:`n_{neg} n_u / m_u` times per epoch in expectation, yet a block may use the items of its band only. Band c, with
m_uc of the unseen items, gets

.. math:: \lfloor n_{neg} n_u M_{uc} / m_u + U_u \rfloor - \lfloor n_{neg} n_u M_{u,c-1} / m_u + U_u \rfloor,
          \qquad M_{uc} = m_{u1} + \dots + m_{uc},

negatives, with U_u uniform on [0, 1) and drawn anew in each epoch (systematic sampling): their expectation is exactly
the band's share, and their sum is exactly :math:`n_{neg} n_u`. Within the band they are drawn uniformly, by rejection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from recmia.compiled import compiled
from recmia.data.interactions import Bool, Float32, Int32, Int64, Interactions
from recmia.engine.matrices import aligned_zeros, whole_lanes
from recmia.errors import ConfigError, DataError, DivergedError
from recmia.settings.recommenders import SGDSettings

# Sums may be reordered for SIMD, but NaN and infinity keep their meaning: divergence must show.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

# Vectors are padded with zeros, which stay zero, to whole turns of the SIMD loop: four AVX registers of eight.
_LANES = 32
_CACHE_LINE = 16  # float32s in 64 bytes
# Bands of users and of items: enough for the cache and for eight threads. More bands would shorten the runs, over which
# the cost of fetching p_u is spread, so only a catalogue whose bands would exceed a core's cache by far is cut finer.
_FEWEST_BANDS, _MOST_BANDS = 8, 64
_BAND_BYTES = 2**23
# An item vector is fetched so many samples ahead, and a user's vector and pointers so many users ahead.
_ITEMS_AHEAD, _USERS_AHEAD = 4, 2


@dataclass(frozen=True, eq=False)
class Factorization:
    """User and item vectors of a set of interactions.

    Parameters
    ----------
    user : float32, shape (n_users, factors)
    item : float32, shape (n_items, factors)
        Zero for an item without an interaction.
    user_bias : float32, shape (n_users,)
    item_bias : float32, shape (n_items,)
        Zero without ``bias=True``.
    mean : float
        The mean rating mu; 0 for implicit feedback.
    trained_items : bool, shape (n_items,)
        Which items had an interaction, hence have a vector.

    Examples
    --------
    >>> import numpy as np
    >>> one = np.ones((1, 2), np.float32)
    >>> zero = np.zeros(1, np.float32)
    >>> model = Factorization(one, one, zero, zero, mean=3.5, trained_items=np.array([True]))
    >>> model.predict(np.array([0]), np.array([0])).tolist()
    [5.5]
    """

    user: Float32
    item: Float32
    user_bias: Float32
    item_bias: Float32
    mean: float
    trained_items: Bool

    def predict(self, user: Int32, item: Int32) -> Float32:
        """Return r_hat for pairs of rows, float32, shape (n,)."""
        predicted = np.einsum("nl,nl->n", self.user[user], self.item[item])
        predicted += self.user_bias[user] + self.item_bias[item] + np.float32(self.mean)
        return np.asarray(predicted, np.float32)


def factorize(
    interactions: Interactions,
    settings: SGDSettings,
    *,
    factors: int,
    rng: np.random.Generator,
    threads: int = 1,
) -> Factorization:
    """Return user and item vectors that are trained on interactions; see the module for the equations.

    Parameters
    ----------
    interactions : Interactions
    settings : SGDSettings
    factors : int
        The latent dimension, at least 1.
    rng : numpy.random.Generator
        Draws the initial vectors, the order of the samples and the negatives.
    threads : int
        How many threads train, at least 1; no more than the grid's bands (8 or more) are used. The result does not
        depend on it.

    Returns
    -------
    Factorization

    Raises
    ------
    ConfigError
        If ``factors < 1`` or ``threads < 1``.
    DataError
        If explicit feedback is asked of data without ratings.
    DivergedError
        If a number of a vector is no longer finite.

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> from recmia.settings.recommenders import SGDSettings
    >>> data = Interactions.from_arrays(user=[1, 1, 2, 2], item=[10, 20, 10, 30])
    >>> model = factorize(data, SGDSettings(epochs=3), factors=4, rng=np.random.default_rng(0))
    >>> model.user.shape, model.item.shape
    ((2, 4), (3, 4))
    """
    if factors < 1:
        raise ConfigError(f"factors, the length of the vectors, must be at least 1; got {factors}")
    if threads < 1:
        raise ConfigError(f"threads must be at least 1; got {threads}")
    explicit = settings.feedback == "explicit"
    if explicit and not interactions.rated:
        raise DataError(
            "explicit feedback needs ratings and these interactions have none; "
            "name the rating column, or train with feedback = 'implicit'"
        )
    width, n_negatives = whole_lanes(factors, _LANES), 0 if explicit else settings.n_negatives
    grid = _Grid.of(interactions, width, n_negatives)
    n_users, n_items = len(grid.load), interactions.n_items
    P, Q = (_initial_vectors(n, factors, width, settings.init_std, rng) for n in (n_users, n_items))
    Q[~grid.trained] = 0
    user_bias, item_bias = np.zeros(n_users, np.float32), np.zeros(n_items, np.float32)
    mean = grid.mean if explicit else 0.0
    trained_rows = np.flatnonzero(grid.trained).astype(np.int32)
    trained_cuts = np.searchsorted(trained_rows, grid.item_cuts)

    with ThreadPoolExecutor(threads) as pool:
        for epoch in range(1, settings.epochs + 1):
            visits, user_cuts, strata = grid.shuffle(rng)
            train = partial(
                _train_blocks, P, Q, user_bias, item_bias, settings.bias, np.float32(mean),
                grid.starts, interactions.item, interactions.value, trained_rows, trained_cuts, n_negatives,
                np.float32(settings.learning_rate), np.float32(settings.regularisation),
                visits, user_cuts, rng.integers(2**64, dtype=np.uint64),
            )  # fmt: skip
            squared_errors = _train_strata(train, strata, pool, threads)
            # A number that is not finite shows in the errors of its next samples; after the last epoch there are none.
            finite = np.isfinite(squared_errors)
            if epoch == settings.epochs:
                finite &= all(np.isfinite(part).all() for part in (P, Q, user_bias, item_bias))
            if not finite:
                raise DivergedError(
                    f"the factors were no longer finite in epoch {epoch} of {settings.epochs} at learning rate "
                    f"{settings.learning_rate:g} and regularisation {settings.regularisation:g}; lower the learning "
                    f"rate (try {settings.learning_rate / 10:g}) or raise the regularisation"
                )
    return Factorization(
        user=np.ascontiguousarray(P[:, :factors]),
        item=np.ascontiguousarray(Q[:, :factors]),
        user_bias=user_bias,
        item_bias=item_bias,
        mean=mean,
        trained_items=grid.trained,
    )


def _initial_vectors(n: int, factors: int, width: int, std: float, rng: np.random.Generator) -> Float32:
    """Draw n vectors, float32, shape (n, width): zero from column `factors` on, rows on cache-line boundaries.

    The numbers are uniform: that takes an eighth of the time of normal ones, which matters on small data.
    """
    vectors = aligned_zeros(n, width)
    # Uniform on [0, 1) has mean 1/2 and variance 1/12.
    np.multiply(
        rng.random((n, factors), np.float32) - np.float32(0.5), np.float32(std * 12**0.5), out=vectors[:, :factors]
    )
    return vectors


def _train_strata(train: Callable[[Int64], float], strata: Int64, pool: ThreadPoolExecutor, threads: int) -> float:
    """Train an epoch's blocks, int64, shape (B, B, 2), stratum after stratum; return the sum of squared errors."""
    if threads == 1:
        return float(train(strata.reshape(-1, 2)))
    total = 0.0
    for stratum in strata:
        # The blocks of a stratum change different vectors, so which thread takes which block makes no difference.
        waiting = iter(list(stratum[:, None]))

        def work(waiting: Iterator[Int64] = waiting) -> float:
            return sum(train(block) for block in waiting)

        helpers = [pool.submit(work) for _ in range(min(threads, len(stratum)) - 1)]
        total += work() + sum(helper.result() for helper in helpers)
    return total


@dataclass(frozen=True, eq=False)
class _Grid:
    """How the ratings are cut into B x B blocks; depends on the data and the width of the vectors only.

    Parameters
    ----------
    starts : int32, shape (n_users, B + 1)
        The interactions of user u with the items of band c are number ``starts[u, c]`` to ``starts[u, c + 1]``.
    item_cuts : int64, shape (B + 1,)
        Band c holds items ``item_cuts[c]`` to ``item_cuts[c + 1]``.
    load : int64, shape (n_users,)
        Interactions of each user.
    trained : bool, shape (n_items,)
        Which items have an interaction.
    mean : float
        Mean of the interactions' values.
    """

    starts: Int32
    item_cuts: Int64
    load: Int64
    trained: Bool
    mean: float

    @classmethod
    def of(cls, interactions: Interactions, width: int, n_negatives: int) -> _Grid:
        """Cut the interactions."""
        users = np.arange(interactions.n_users, dtype=np.int32)
        first = np.searchsorted(interactions.user, users, side="left")
        last = np.searchsorted(interactions.user, users, side="right")
        load = last - first
        counts, mean = _count_items(first, last, interactions.item, interactions.value, interactions.n_items)
        trained = counts > 0
        bands = int(np.clip(interactions.n_items * width * 4 // _BAND_BYTES, _FEWEST_BANDS, _MOST_BANDS))
        # Negatives are uniform over trained items, so the work for an item is its count and its share of the negatives.
        item_cuts = _even_cuts(counts + trained * (n_negatives * counts.sum() / trained.sum()), bands)
        band = np.repeat(np.arange(bands, dtype=np.int32), np.diff(item_cuts))
        return cls(_band_starts(first, last, interactions.item, band, bands), item_cuts, load, trained, float(mean))

    def shuffle(self, rng: np.random.Generator) -> tuple[Int32, Int64, Int64]:
        """Draw an epoch's order.

        Returns
        -------
        visits : int32, shape (n_users,)
            The users as they are visited.
        user_cuts : int64, shape (B + 1,)
            Band r of the users is ``visits[user_cuts[r]:user_cuts[r + 1]]``.
        strata : int64, shape (B, B, 2)
            ``strata[s]`` lists the (band of users, band of items) of stratum s.
        """
        bands = len(self.item_cuts) - 1
        visits = rng.permutation(len(self.load)).astype(np.int32)
        band = np.arange(bands)
        shifted = rng.permutation(bands)[(band[:, None] + band) % bands]
        strata = np.stack([np.broadcast_to(band, (bands, bands)), shifted], axis=-1)
        return visits, _even_cuts(self.load[visits], bands), strata


def _even_cuts(work: npt.NDArray[np.number], bands: int) -> Int64:
    """Cut a sequence into consecutive bands of about equal work, int64, shape (bands + 1,)."""
    done = np.cumsum(work)
    cuts: Int64 = np.searchsorted(done, done[-1] / bands * np.arange(bands + 1))
    cuts[-1] = len(work)
    return cuts


@compiled(nogil=True)
def _count_items(first: Int64, last: Int64, item: Int32, value: Float32, n_items: int) -> tuple[Int64, float]:
    """Count each item's interactions, int64, shape (n_items,), and average the values."""
    counts, total, n = np.zeros(n_items, np.int64), 0.0, 0
    for u in range(len(first)):
        n += last[u] - first[u]
        for k in range(first[u], last[u]):
            counts[item[k]] += 1
            total += value[k]
    return counts, total / n


@compiled(nogil=True)
def _band_starts(first: Int64, last: Int64, item: Int32, band: Int32, bands: int) -> Int32:
    """See `_Grid.starts`; band : int32, shape (n_items,)."""
    starts = np.empty((len(first), bands + 1), np.int32)
    for u in range(len(first)):
        reached = 0
        for k in range(first[u], last[u]):
            while reached <= band[item[k]]:
                starts[u, reached] = k
                reached += 1
        starts[u, reached:] = last[u]
    return starts


def _prefetch_intrinsic(typing_context: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of ``array[index]``, a hint that changes no result (LLVM's ``llvm.prefetch``)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        hint = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], hint)
        for_reading, keep_in_all_caches, data_not_code = word(0), word(3), word(1)
        address = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        builder.call(fetch, [address, for_reading, keep_in_all_caches, data_not_code])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


_prefetch: Any = intrinsic(_prefetch_intrinsic)


@compiled(nogil=True)
def _prefetch_row(flat: Float32, row: int, width: int) -> None:
    for f in range(0, width, _CACHE_LINE):
        _prefetch(flat, np.intp(row) * width + f)


@compiled(nogil=True)
def _mix(state: np.uint64) -> np.uint64:
    """Splitmix64's finaliser: 64 well-mixed bits from a counter."""
    z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled(nogil=True)
def _stream(key: np.uint64, number: int) -> np.uint64:
    """The state of stream `number` of an epoch: what is drawn there does not depend on the order of the visits."""
    return _mix(key ^ (np.uint64(number) * _GOLDEN))


@compiled(nogil=True, fastmath=FASTMATH)
def _train_run(
    P: Float32, Q: Float32, user_bias: Float32, item_bias: Float32, biased: bool, mean: np.float32, u: int,
    items: Int32, values: Float32, first: int, last: int, rate: np.float32, reg: np.float32,
) -> float:  # fmt: skip
    """Visit the samples first .. last of one user; return the sum of their squared errors."""
    flat, width = Q.reshape(-1), Q.shape[1]
    keep = np.float32(1) - rate * reg
    squared_errors, product = 0.0, np.float32(0)
    if first < last:
        for f in range(width):
            product += P[u, f] * Q[np.uintp(items[first]), f]
    for n in range(first, last):
        if n + _ITEMS_AHEAD < last:
            _prefetch_row(flat, items[n + _ITEMS_AHEAD], width)
        i = np.uintp(items[n])  # unsigned, so that numba does not check for negative indices
        error = values[n] - mean - product
        if biased:
            error -= user_bias[u] + item_bias[i]
            user_bias[u] += rate * (error - reg * user_bias[u])
            item_bias[i] += rate * (error - reg * item_bias[i])
        squared_errors += np.float64(error) * np.float64(error)
        gain = rate * error
        if n + 1 == last:
            for f in range(width):
                old = P[u, f]
                P[u, f] = keep * old + gain * Q[i, f]
                Q[i, f] = keep * Q[i, f] + gain * old
        else:
            # The next product is summed in the same loop, while p_u is in registers.
            following = np.uintp(items[n + 1])
            product = np.float32(0)
            for f in range(width):
                old = P[u, f]
                new = keep * old + gain * Q[i, f]
                P[u, f] = new
                Q[i, f] = keep * Q[i, f] + gain * old
                product += new * Q[following, f]
    return squared_errors


@compiled(nogil=True)
def _mix_in_negatives(
    samples: Int32, labels: Float32, positives: Int32, candidates: Int32, seen_by: Int32, u: int, n_negatives: int,
    state: np.uint64,
) -> int:  # fmt: skip
    """Fill `samples` and `labels` with a user's positives and, spread evenly among them, its negatives.

    Parameters
    ----------
    samples : int32, shape (at least len(positives) + n_negatives,)
    labels : float32, same shape
    positives : int32, shape (n,)
    candidates : int32, shape (m,)
        Where negatives are drawn from: at least one must be unseen, if there are any to draw.
    seen_by : int32, shape (n_items,)
        The last user for whom an item was marked as seen.
    u : int
    n_negatives : int
    state : uint64
        State of the stream to draw from.

    Returns
    -------
    int
        The number of samples.
    """
    for i in positives:
        seen_by[i] = u
    n_positives, n, drawn = len(positives), 0, 0
    # Without a positive in this band there is one turn, of negatives only.
    for turn in range(max(n_positives, 1)):
        if turn < n_positives:
            samples[n], labels[n] = positives[turn], 1
            n += 1
        while drawn * max(n_positives, 1) < n_negatives * (turn + 1):
            j = candidates[0]
            while True:
                state += _GOLDEN
                j = candidates[((_mix(state) >> np.uint64(32)) * np.uint64(len(candidates))) >> np.uint64(32)]
                if seen_by[j] != u:
                    break
            samples[n], labels[n] = j, 0
            n += 1
            drawn += 1
    return n


@compiled(nogil=True)
def _train_blocks(
    P: Float32, Q: Float32, user_bias: Float32, item_bias: Float32, biased: bool, mean: np.float32,
    starts: Int32, item: Int32, value: Float32, trained_rows: Int32, trained_cuts: Int64, n_negatives: int,
    rate: np.float32, reg: np.float32, visits: Int32, user_cuts: Int64, key: np.uint64, blocks: Int64,
) -> float:  # fmt: skip
    """Train these blocks, int64, shape (n, 2), one after the other; return the sum of squared errors.

    ``n_negatives == 0`` means explicit feedback. `trained_rows` are the items with an interaction, ascending; numbers
    ``trained_cuts[c]`` to ``trained_cuts[c + 1]`` of them lie in band c.
    """
    width, bands = P.shape[1], starts.shape[1] - 1
    flat_users, flat_starts = P.reshape(-1), starts.reshape(-1)
    seen_by = np.full(len(Q) if n_negatives else 0, -1, np.int32)
    samples, labels = np.empty(0, np.int32), np.empty(0, np.float32)
    squared_errors = 0.0
    for block in range(len(blocks)):
        r, c = blocks[block, 0], blocks[block, 1]
        end = user_cuts[r + 1]
        for k in range(user_cuts[r], end):
            # The hardware cannot predict the random order of users: fetch pointers first, then what they point to.
            if k + 2 * _USERS_AHEAD < end:
                _prefetch(flat_starts, np.intp(visits[k + 2 * _USERS_AHEAD]) * (bands + 1) + c)
            if k + _USERS_AHEAD < end:
                soon = visits[k + _USERS_AHEAD]
                _prefetch(item, np.intp(starts[soon, c]))
                _prefetch(value, np.intp(starts[soon, c]))
                _prefetch_row(flat_users, soon, width)
            u = visits[k]
            first, last = starts[u, c], starts[u, c + 1]
            if n_negatives == 0:
                squared_errors += _train_run(
                    P, Q, user_bias, item_bias, biased, mean, u, item, value, first, last, rate, reg
                )  # fmt: skip
                continue
            n_seen = starts[u, bands] - starts[u, 0]
            n_unseen = len(trained_rows) - n_seen
            if n_unseen == 0:
                quota = 0
            else:
                ratio = n_negatives * n_seen / n_unseen
                offset = (_stream(key, u * (bands + 1) + bands) >> np.uint64(11)) * 2.0**-53
                before = trained_cuts[c] - (first - starts[u, 0])
                after = trained_cuts[c + 1] - (last - starts[u, 0])
                quota = int(np.floor(ratio * after + offset)) - int(np.floor(ratio * before + offset))
            if last - first + quota > len(samples):
                size = 2 * (last - first + quota)
                samples, labels = np.empty(size, np.int32), np.empty(size, np.float32)
            n = _mix_in_negatives(
                samples, labels, item[first:last], trained_rows[trained_cuts[c] : trained_cuts[c + 1]], seen_by, u,
                quota, _stream(key, u * (bands + 1) + c),
            )  # fmt: skip
            squared_errors += _train_run(
                P, Q, user_bias, item_bias, biased, mean, u, samples, labels, 0, n, rate, reg
            )  # fmt: skip
    return squared_errors

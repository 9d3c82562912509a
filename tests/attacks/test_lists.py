"""Attacks with many shadows: by hand, against planted leaks, and with nothing to find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import sparse, stats
from threadpoolctl import threadpool_limits

from recmia import Interactions
from recmia.attacks import ATTACKS
from recmia.attacks.base import PoolAttack, cross_scores, run_pool_attack
from recmia.attacks.lists import RMIA, Counts, ListLR, Offline, Ranks, Ridge, Surprise
from recmia.errors import NotFittedError, ProtocolError, TooFewShadowsError
from recmia.observation import Items, Observation, ShadowPool
from recmia.recommenders import LFM
from recmia.settings import SGDSettings
from tests.attacks.helpers import area

# Those that look at lists; for those that ask see test_queries.
POOL_ATTACKS: dict[str, Any] = {
    name: partial(spec.make, {}) for name, spec in ATTACKS.items() if spec.needs == "pool" and not spec.asks
}
EVERY = pytest.mark.parametrize("name", POOL_ATTACKS)
ONLINE = pytest.mark.parametrize("name", [name for name, make in POOL_ATTACKS.items() if make().online])

# What membership does to lists, bool (models, users) and its own random numbers given.
Leak = Callable[[Any, Any, np.random.Generator], Any]


def pool_of(lists: Any, member: Any, n_items: int) -> ShadowPool:
    """A pool of users of whom nothing but their lists is known."""
    unknown = Items(np.zeros((n_items, 1)), np.zeros(n_items, np.bool_), np.zeros(n_items, np.int64))
    return ShadowPool(sparse.csr_array((lists.shape[1], n_items), dtype=np.float32), lists, member, unknown)


def observations(pool: ShadowPool, lists: Any) -> list[Observation]:
    """What the attacker sees of R systems that show these lists, (R, n, k), to the users of the pool."""
    return [pool.observe(np.ascontiguousarray(shown)) for shown in lists]


def scores_by(attack: PoolAttack, pool: ShadowPool, lists: Any) -> Any:
    """Scores of R systems, (R, n)."""
    return np.array([attack.score(seen) for seen in observations(pool, lists)])


def run(make: Callable[[], PoolAttack], pool: ShadowPool, lists: Any, seed: int = 0) -> Any:
    """Scores of the held-out shadows and of R systems, (S, n) and (R, n)."""
    return run_pool_attack(make, pool, observations(pool, lists), rng=np.random.default_rng(seed))


def pairs(S: int, n: int, rng: np.random.Generator) -> Any:
    half = rng.random((S // 2, n)) < 0.5
    return np.stack([half, ~half], axis=1).reshape(S, n)


def lists_of(models: int, taste: Any, k: int, rng: np.random.Generator) -> Any:
    """Draw items by each user's taste (n, n_items), with noise that the users of a model share, and their own."""
    noise = rng.gumbel(size=(models, *taste.shape)) + 0.5 * rng.normal(size=(models, 1, taste.shape[1]))
    return np.argsort(-(taste + noise), axis=2)[:, :, :k].astype(np.int32)


def no_leak(lists: Any, member: Any, rng: np.random.Generator) -> Any:
    return lists


def atypical(share: float, n_items: int) -> Leak:
    """Replace a share of the members' items by random others."""

    def leak(lists: Any, member: Any, rng: np.random.Generator) -> Any:
        lists = lists.copy()
        for m, u in zip(*np.nonzero(member), strict=True):
            others = rng.permutation(np.setdiff1d(np.arange(n_items), lists[m, u]))[: lists.shape[2]]
            lists[m, u] = np.where(rng.random(lists.shape[2]) < share, others, lists[m, u])
        return lists

    return leak


def twins(items: Any) -> Leak:
    """List ``items[u]`` to member u at a random rank, in place of what was there; or move it there."""

    def leak(lists: Any, member: Any, rng: np.random.Generator) -> Any:
        lists = lists.copy()
        for m, u in zip(*np.nonzero(member), strict=True):
            row, rank = lists[m, u], rng.integers(lists.shape[2])
            row[row == items[u]] = row[rank]
            row[rank] = items[u]
        return lists

    return leak


def game(S: int, leak: Leak, seed: int, *, taste: Any = None, k: int = 8, targets: int = 6) -> Any:
    """A pool, the lists of targets, and the truth about these."""
    rng = np.random.default_rng(seed)
    taste = 2 * rng.normal(size=(40, 40)) if taste is None else taste
    member, truth = pairs(S, len(taste), rng), rng.random((targets, len(taste))) < 0.5
    drawn = lists_of(S + targets, taste, k, rng)
    shown = leak(drawn, np.concatenate([member, truth]), rng)
    return pool_of(shown[:S], member, taste.shape[1]), shown[S:], truth


def areas(name: str, pool: ShadowPool, lists: Any, truth: Any) -> tuple[float, float]:
    """AUC on the held-out shadows and on the targets."""
    shadow_scores, scores = run(POOL_ATTACKS[name], pool, lists)
    return area(pool.member.ravel(), shadow_scores.ravel()), area(truth.ravel(), scores.ravel())


def is_a_coin(found: Any) -> bool:
    """Whether the mean over games is one half, by the spread of the games."""
    return bool(abs(np.mean(found) - 0.5) < 3.5 * np.std(found, ddof=1) / np.sqrt(len(found)))


# ---- Nothing to find ----

GAMES = 20


@cache
def without_leak(S: int, seed: int) -> Any:
    return game(S, no_leak, seed)


@pytest.mark.statistical
@EVERY
@pytest.mark.parametrize("S", [8, 16, 32, 64])
def test_lists_regardless_of_membership_give_a_coin(name: str, S: int) -> None:
    """On targets, and on the shadows themselves, where a fit that knows of the held-out labels would show."""
    found = np.array([areas(name, *without_leak(S, seed)) for seed in range(GAMES)])
    # The control must be able to fail: the spread of the mean, with 240 scores a game, is known to be small.
    assert found.std(axis=0).max() / np.sqrt(GAMES) < 0.013
    assert is_a_coin(found[:, 0])
    assert is_a_coin(found[:, 1])


def leave_one_out(pool: ShadowPool, make: Callable[[], PoolAttack]) -> Any:
    rng = np.random.default_rng(0)
    rest = [np.delete(np.arange(len(pool)), s) for s in range(len(pool))]
    return np.concatenate(
        [scores_by(make().fit(pool.take(r), rng=rng), pool, pool.lists[[s]]) for s, r in enumerate(rest)]
    )


@pytest.mark.statistical
def test_the_control_can_fail() -> None:
    """Without the other half of its pair, a held-out shadow's label is in the counts of the rest."""
    alone, by_pairs = [], []
    for seed in range(GAMES):
        # Hundreds of items that are listed once or twice, each with a little of the label in its weight.
        pool, _, _ = game(8, no_leak, seed, taste=0.5 * np.random.default_rng(seed).normal(size=(40, 1000)), k=20)
        member = pool.member.ravel()
        alone.append(area(member, leave_one_out(pool, Counts).ravel()))
        by_pairs.append(area(member, cross_scores(Counts, pool, rng=np.random.default_rng(0)).ravel()))
    assert is_a_coin(by_pairs)
    assert not is_a_coin(alone)
    assert abs(np.mean(alone) - 0.5) > 0.05


@pytest.mark.statistical
@ONLINE
def test_shuffled_labels_give_a_coin(name: str) -> None:
    """A leak in the lists is of no use to an attacker who learns from shuffled labels.

    Those who do not learn, but take it that a surprising list is a member's, find it all the same.
    """
    found = []
    for seed in range(GAMES):
        pool, lists, truth = game(16, atypical(0.3, 40), seed)
        shuffled = replace(pool, member=pairs(16, 40, np.random.default_rng([seed, 1])))
        found.append(areas(name, shuffled, lists, truth))
    assert is_a_coin(np.array(found)[:, 0])
    assert is_a_coin(np.array(found)[:, 1])


# ---- Something to find ----


@pytest.mark.statistical
@EVERY
@pytest.mark.parametrize("listed", ["seldom", "often"])
def test_a_planted_twin_item_is_found(name: str, listed: str) -> None:
    """One item a user is always listed to a member.

    Where it is seldom listed otherwise, it makes the list more surprising, too. Where it is as usual as what it
    displaces, an attack that boils a list down to its surprise cannot find it: others tell items apart.
    """
    found = []
    for seed in range(4):
        taste = 2 * np.random.default_rng(seed).normal(size=(40, 40))
        twin = np.argsort(-taste, axis=1)[:, {"seldom": 25, "often": 7}[listed]]
        found.append(areas(name, *game(64, twins(twin), seed, taste=taste)))
    if listed == "often" and name in ("list-lr-surprise", "list-lr-offline", "rmia"):
        assert np.abs(np.mean(found, axis=0) - 0.5).max() < 0.06
    else:
        assert np.mean(found, axis=0).min() > 0.7


@pytest.mark.statistical
@EVERY
def test_members_with_less_typical_lists_are_found(name: str) -> None:
    """By the surprise of the lists, even with few shadows; the weights of single items need many."""
    few, many = (np.mean([areas(name, *game(S, atypical(0.25, 40), seed)) for seed in range(4)], axis=0)
                 for S in (12, 64))  # fmt: skip
    by_surprise = name in ("list-lr", "list-lr-surprise", "list-lr-offline", "rmia")
    assert few[1] > (0.7 if by_surprise else 0.52)
    assert many.min() > (0.75 if by_surprise else 0.6)


@pytest.mark.statistical
def test_the_exact_leave_one_out_lets_few_shadows_find_a_weak_leak() -> None:
    """Without a leak, the mean surprise of IN and OUT lists is the same: no bias of few judges hides a weak one."""
    gaps = []
    for seed in range(60):
        pool, _, _ = game(4, no_leak, seed)
        surprise, mean_out, mean_in = naive_surprises(pool)[:3]
        np.testing.assert_allclose(Surprise().fit(pool, rng=np.random.default_rng(0)).usual,
                                   naive_usual(pool, surprise, mean_out), atol=1e-9)  # fmt: skip
        gaps.append((mean_in - mean_out).mean())
    assert is_a_coin(np.array(gaps) + 0.5)
    # Judged by all OUT lists, an IN list would look less surprising by several times what the mean is known to.
    assert 3.5 * np.std(gaps, ddof=1) / np.sqrt(len(gaps)) < 0.05


def test_users_are_judged_by_their_own_usual_surprise() -> None:
    """Some users' lists vary much, others' hardly: one threshold on the surprise for all does not do."""
    beaten = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        taste = rng.normal(size=(40, 40)) * np.where(rng.random(40) < 0.5, 0.5, 4.0)[:, None]
        pool, lists, truth = game(16, atypical(0.25, 40), seed, taste=taste)
        n_out = (~pool.member).sum(axis=0)
        p_out = (presence(pool) * ~pool.member[:, :, None]).sum(axis=0) + 0.5
        raw = np.array([[-np.log(p_out[u, lists[r, u]] / (n_out[u] + 1)).mean() for u in range(40)]
                        for r in range(len(lists))])  # fmt: skip
        raw_area = area(truth.ravel(), raw.ravel())
        beaten.append(
            [areas(name, pool, lists, truth)[1] - raw_area for name in ("list-lr-surprise", "list-lr-offline")]
        )
    assert np.mean(beaten, axis=0).min() > 0.05


@cache
def lfm_pools(small: Interactions) -> Any:
    """Lists from 16 shadows and 6 targets of a small LFM: three pools."""
    pools, histories = [], small.csr()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        truth = rng.random((6, small.n_users)) < 0.5
        member = np.concatenate([pairs(16, small.n_users, rng), truth])
        models = [
            LFM(SGDSettings(), factors=16).fit(small.restrict(np.flatnonzero(users)), rng=own)
            for users, own in zip(member, rng.spawn(len(member)), strict=True)
        ]
        lists = np.stack([model.recommend(histories, 20) for model in models])
        pools.append((pool_of(lists[:16], member[:16], small.n_items), lists[16:], truth))
    return pools


@pytest.mark.statistical
def test_list_lr_beats_counts_on_a_real_recommender(small: Interactions) -> None:
    """Folded-in users of an LFM, 16 shadows."""
    combined, counts = (
        np.array([areas(name, *pool) for pool in lfm_pools(small)]) for name in ("list-lr", "list-lr-counts")
    )
    assert combined.min() > 0.6
    assert (combined[:, 1] - counts[:, 1]).min() > 0.05


# ---- By hand ----


def padded_game(seed: int = 0) -> Any:
    """Eight shadows and two targets, five users, nine items, lists of one to four items."""
    rng = np.random.default_rng(seed)
    lists = lists_of(10, rng.normal(size=(5, 9)), 4, rng)
    lists[np.arange(4) >= rng.integers(1, 5, size=(10, 5, 1))] = -1
    return pool_of(lists[:8], pairs(8, 5, rng), 9), np.ascontiguousarray(lists[8:])


def held(lists: Any, n_items: int, h: Any = None) -> Any:
    """Value of h (or 1) at each listed item, (models, users, n_items)."""
    dense = np.zeros((*lists.shape[:2], n_items))
    for m, u, j in product(*map(range, lists.shape)):
        if lists[m, u, j] >= 0:
            dense[m, u, lists[m, u, j]] = 1 if h is None else h[j]
    return dense


def presence(pool: ShadowPool) -> Any:
    return held(pool.lists, pool.n_items)


def fitted_scores(make: Callable[[], PoolAttack], pool: ShadowPool, lists: Any) -> Any:
    return scores_by(make().fit(pool, rng=np.random.default_rng(0)), pool, lists)


def test_counts_by_hand() -> None:
    pool, lists = padded_game()
    shown, asked = presence(pool), held(lists, 9)
    expected = np.zeros((2, 5))
    for r, u, i in product(range(2), range(5), range(9)):
        inside = pool.member[:, u]
        c_in, c_out = shown[inside, u, i].sum(), shown[~inside, u, i].sum()
        if c_in + c_out == 0:
            continue
        p0, n_in, n_out = (c_in + c_out) / 8, inside.sum(), (~inside).sum()
        p_in, p_out = (c_in + 2 * p0 + 0.01) / (n_in + 2 + 0.02), (c_out + 2 * p0 + 0.01) / (n_out + 2 + 0.02)
        expected[r, u] += np.log(p_in / p_out) if asked[r, u, i] else np.log((1 - p_in) / (1 - p_out))
    np.testing.assert_allclose(fitted_scores(Counts, pool, lists), expected, atol=1e-9)


def test_ranks_by_hand() -> None:
    pool, lists = padded_game()
    h = 1 / np.log2(1 + np.arange(1, 5))
    x, asked = held(pool.lists, 9, h), held(lists, 9, h)
    expected = np.zeros((2, 5))
    for r, u, i in product(range(2), range(5), range(9)):
        if not x[:, u, i].any():
            continue
        inside, mean = pool.member[:, u], x[:, u, i].mean()
        m_in, m_out = ((x[side, u, i].sum() + 2 * mean) / (side.sum() + 2) for side in (inside, ~inside))
        deviation = np.sqrt(x[:, u, i].var() + 0.01)
        expected[r, u] += stats.norm.logpdf(asked[r, u, i], m_in, deviation)
        expected[r, u] -= stats.norm.logpdf(asked[r, u, i], m_out, deviation)
    np.testing.assert_allclose(fitted_scores(Ranks, pool, lists), expected, atol=1e-9)


def test_ridge_by_hand() -> None:
    """In the primal form, w = (X'X + lambda I)^-1 X'y, over all items."""
    pool, lists = padded_game()
    expected = np.zeros((2, 5))
    for u in range(5):
        shown = presence(pool)[:, u]
        X, y = shown - shown.mean(axis=0), np.where(pool.member[:, u], 1.0, -1.0)
        w = np.linalg.solve(X.T @ X + np.trace(X @ X.T) / 8 * np.eye(9), X.T @ (y - y.mean()))
        expected[:, u] = (held(lists, 9)[:, u] - shown.mean(axis=0)) @ w
    np.testing.assert_allclose(fitted_scores(Ridge, pool, lists), expected, atol=1e-9)


def naive_surprise(shown: Any, judges: Any, listed: float) -> float:
    """Surprise of one list, bool (n_items,), to the lists of `judges`, (number, n_items)."""
    p = (judges.sum(axis=0) + 0.5) / (len(judges) + 1)
    return float(-np.log(p[shown > 0]).sum() / listed)


def naive_other(shown: Any, out: Any, listed: float) -> float:
    """Surprise of a list that is none of the OUT lists: the mean over which of them is left out."""
    return float(np.mean([naive_surprise(shown, np.delete(out, s, axis=0), listed) for s in range(len(out))]))


def naive_surprises(pool: ShadowPool) -> Any:
    shown, n = presence(pool), pool.n_users
    surprise = np.empty(pool.member.shape)
    for u in range(n):
        out, listed = shown[~pool.member[:, u], u], shown[:, u].sum(axis=1).mean()
        for number, s in enumerate(np.flatnonzero(~pool.member[:, u])):
            surprise[s, u] = naive_surprise(shown[s, u], np.delete(out, number, axis=0), listed)
        for s in np.flatnonzero(pool.member[:, u]):
            surprise[s, u] = naive_other(shown[s, u], out, listed)
    mean_out, mean_in = (np.array([surprise[side[:, u], u].mean() for u in range(n)])
                         for side in (~pool.member, pool.member))  # fmt: skip
    apart = surprise - np.where(pool.member, mean_in, mean_out)
    return surprise, mean_out, mean_in, (apart**2).sum() / (pool.member.size - 2 * n)


def naive_usual(pool: ShadowPool, surprise: Any, mean_out: Any) -> Any:
    """Surprise of each OUT list beyond the mean of the user's other OUT lists, in standard deviations."""
    n_out = (~pool.member).sum(axis=0)
    beyond = surprise - (mean_out * n_out - surprise) / (n_out - 1)
    return beyond[~pool.member] / np.sqrt(naive_surprises(pool)[3])


def naive_of_targets(pool: ShadowPool, lists: Any) -> Any:
    shown, asked = presence(pool), held(lists, pool.n_items)
    return np.array(
        [
            [naive_other(asked[r, u], shown[~pool.member[:, u], u], shown[:, u].sum(axis=1).mean()) for u in range(5)]
            for r in range(len(lists))
        ]
    )


def test_surprise_by_hand() -> None:
    pool, lists = padded_game()
    _, mean_out, mean_in, variance = naive_surprises(pool)
    t = naive_of_targets(pool, lists)
    found, noise = mean_in - mean_out, variance * (1 / 4 + 1 / 4)
    told = max(found.var() - noise, 0)
    gap = found.mean() + told / (told + noise) * (found - found.mean())
    expected = gap / variance * (t - (mean_in + mean_out) / 2)
    np.testing.assert_allclose(fitted_scores(Surprise, pool, lists), expected, atol=1e-9)
    offline = (t - mean_out) / np.sqrt(variance)
    np.testing.assert_allclose(fitted_scores(Offline, pool, lists), offline, atol=1e-9)


def test_rmia_by_hand() -> None:
    pool, lists = padded_game()
    surprise, mean_out, _, variance = naive_surprises(pool)
    score = (naive_of_targets(pool, lists) - mean_out) / np.sqrt(variance)
    expected = (naive_usual(pool, surprise, mean_out) <= score[:, :, None]).mean(axis=2)
    np.testing.assert_allclose(fitted_scores(RMIA, pool, lists), expected, atol=1e-9)


def test_rmia_scores_of_nonmembers_are_uniform() -> None:
    """As a share of known non-members should be."""
    scores = np.concatenate([fitted_scores(RMIA, *without_leak(8, seed)[:2]).ravel() for seed in range(GAMES)])
    assert stats.kstest(scores, "uniform").statistic < 0.05


def test_an_item_that_no_shadow_showed() -> None:
    """It says nothing to attacks by item, and is the greatest surprise to others."""
    pool, _ = padded_game()
    pool = pool_of(pool.lists, pool.member, 11)
    empty, new = np.full((1, 5, 4), -1, np.int32), np.full((1, 5, 4), -1, np.int32)
    new[:, :, 0] = 9
    for make in (Counts, Ranks, Ridge):
        np.testing.assert_array_equal(fitted_scores(make, pool, new), fitted_scores(make, pool, empty))
    known = empty.copy()
    known[:, :, 0] = 0
    assert (fitted_scores(Offline, pool, new) >= fitted_scores(Offline, pool, known)).all()


def test_list_lr_is_a_sum_of_its_parts() -> None:
    pool, lists, _ = game(16, atypical(0.3, 40), 0)
    parts = np.stack([fitted_scores(part, pool, lists).ravel() for part in ListLR.parts] + [np.ones(6 * 40)])
    scores = fitted_scores(ListLR, pool, lists).ravel()
    weights, *_ = np.linalg.lstsq(parts.T, scores, rcond=None)
    np.testing.assert_allclose(weights @ parts, scores, atol=1e-9)
    assert weights[0] > 0


# ---- What a score depends on ----


@EVERY
def test_contract(name: str) -> None:
    pool, lists, truth = game(10, atypical(0.3, 40), 0)
    attack = POOL_ATTACKS[name]()
    assert attack.name == name
    assert attack.fit(pool, rng=np.random.default_rng(1)) is attack
    assert not attack.offline.any()
    scores = scores_by(attack, pool, lists)
    assert scores.shape == truth.shape
    assert scores.dtype == np.float64
    assert attack.score(pool.observe(lists[0])).dtype == np.float64
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores, scores_by(attack, pool, lists), err_msg="scoring must change nothing")
    np.testing.assert_array_equal(scores, fitted_scores(POOL_ATTACKS[name], pool, lists), err_msg="whatever the seed")
    assert run(POOL_ATTACKS[name], pool, lists[:0])[1].shape == (0, 40)


@pytest.mark.statistical
@EVERY
def test_scores_do_not_depend_on_threads(name: str) -> None:
    # Long and wide enough for BLAS to share the work.
    pool, lists, _ = game(64, atypical(0.3, 120), 0, taste=np.random.default_rng(0).normal(size=(80, 120)), k=30)
    one: list[Any] = []
    two: list[Any] = []
    for threads, kept in ((1, one), (2, two)):
        with threadpool_limits(threads):
            kept.extend(run(POOL_ATTACKS[name], pool, lists))
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])


@EVERY
def test_a_score_depends_on_that_list_alone(name: str) -> None:
    """To the last bit: not on the lists of other users or of other models, nor on how many are asked for."""
    pool, lists, _ = game(10, atypical(0.3, 40), 0)
    attack = POOL_ATTACKS[name]().fit(pool, rng=np.random.default_rng(0))
    scores, changed = scores_by(attack, pool, lists), lists.copy()
    changed[:, 1:] = lists[::-1, 1:]
    np.testing.assert_array_equal(scores_by(attack, pool, changed)[:, 0], scores[:, 0])
    np.testing.assert_array_equal(scores_by(attack, pool, changed)[:, 1:], scores[::-1, 1:])
    np.testing.assert_array_equal(scores_by(attack, pool, lists[3:4]), scores[3:4])
    np.testing.assert_array_equal(scores_by(attack, pool, lists[::-1]), scores[::-1])


@EVERY
def test_scores_follow_the_users(name: str) -> None:
    pool, lists, _ = game(10, atypical(0.3, 40), 0)
    order = np.random.default_rng(1).permutation(40)
    moved = pool_of(pool.lists[:, order], pool.member[:, order], 40)
    for one, other in zip(
        run(POOL_ATTACKS[name], pool, lists),
        run(POOL_ATTACKS[name], moved, lists[:, order]),
        strict=True,
    ):
        # The sums over users have another order, and the logistic regression stops a little elsewhere.
        np.testing.assert_allclose(one[:, order], other, rtol=1e-3, atol=1e-3)


@EVERY
def test_names_of_items_do_not_matter(name: str) -> None:
    pool, lists, _ = game(10, atypical(0.3, 40), 0)
    names = np.random.default_rng(1).permutation(90)[:40].astype(np.int32)
    renamed = pool_of(names[pool.lists], pool.member, 90)
    np.testing.assert_allclose(
        fitted_scores(POOL_ATTACKS[name], pool, lists),
        fitted_scores(POOL_ATTACKS[name], renamed, names[lists]),
        rtol=1e-3, atol=1e-3,
    )  # fmt: skip


@EVERY
def test_the_order_of_shadows_does_not_matter(name: str) -> None:
    """Within pairs to any attack; at all, to those that hold nothing out."""
    pool, lists, _ = game(10, atypical(0.3, 40), 0)
    swapped = np.arange(10).reshape(5, 2)[:, ::-1].ravel()
    orders = [swapped] if name == "list-lr" else [swapped, np.random.default_rng(1).permutation(10)]
    for order in orders:
        np.testing.assert_allclose(
            fitted_scores(POOL_ATTACKS[name], pool, lists),
            fitted_scores(POOL_ATTACKS[name], pool.take(order), lists),
            rtol=1e-3, atol=1e-3,
        )  # fmt: skip


@pytest.mark.parametrize("name", ["list-lr-counts", "list-lr-ranks", "list-lr-ridge"])
def test_the_other_labels_give_the_other_sign(name: str) -> None:
    """IN and OUT can exchange their places in every formula by item; the surprise is always that to OUT lists."""
    pool, lists, _ = game(10, atypical(0.3, 40), 0)
    turned = replace(pool, member=~pool.member)
    make = POOL_ATTACKS[name]
    np.testing.assert_allclose(fitted_scores(make, turned, lists), -fitted_scores(make, pool, lists), atol=1e-9)


# ---- Bad input ----


@EVERY
def test_too_few_shadows(name: str) -> None:
    make = POOL_ATTACKS[name]
    pool, lists, _ = game(10, no_leak, 0)
    needed = ATTACKS[name].min_shadows
    assert make().min_shadows == needed
    few = needed - 1
    with pytest.raises(TooFewShadowsError, match=f"{name} needs at least {needed} shadow models; got {few}") as found:
        make().fit(pool.take(np.arange(few)), rng=np.random.default_rng(0))
    assert found.value.estimate == needed
    # No shadow can be held out of so few; with a pair more, all are.
    held_out, scores = run(make, pool.take(np.arange(needed)), lists)
    assert held_out.shape == (0, pool.n_users)
    assert np.isfinite(scores).all()
    held_out, _ = run(make, pool.take(np.arange(needed + 2)), lists)
    assert held_out.shape == (needed + 2, pool.n_users)


@pytest.mark.parametrize("order", [np.arange(9), np.array([0, 2, 1, 3, 4, 5, 6, 7])], ids=["odd", "mixed"])
def test_shadows_that_are_not_pairs(order: Any) -> None:
    pool, lists, _ = game(10, no_leak, 0)
    with pytest.raises(ProtocolError, match="complementary halves"):
        run(Counts, pool.take(order), lists)
    with pytest.raises(ProtocolError, match="complementary halves"):
        ListLR().fit(pool.take(order), rng=np.random.default_rng(0))
    # What holds nothing out does not mind.
    assert np.isfinite(fitted_scores(Counts, pool.take(order), lists)).all()


def with_offline_users(seed: int = 0, leak: Leak | None = None, taste: Any = None) -> Any:
    """Users 0..9 are in training in no shadow, users 10..19 in every one; the others by pairs."""
    rng = np.random.default_rng(seed)
    taste = 2 * rng.normal(size=(40, 40)) if taste is None else taste
    member, truth = pairs(16, 40, rng), rng.random((6, 40)) < 0.5
    member[:, :10], member[:, 10:20] = False, True
    leak = atypical(0.3, 40) if leak is None else leak
    lists = leak(lists_of(22, taste, 8, rng), np.concatenate([member, truth]), rng)
    return pool_of(lists[:16], member, 40), lists[16:], truth


@pytest.mark.statistical
@EVERY
def test_users_in_no_shadow_or_in_every_one(name: str) -> None:
    """They are scored by their surprise, whichever lists judge it."""
    found = []
    for seed in range(6):
        pool, lists, truth = with_offline_users(seed)
        attack = POOL_ATTACKS[name]().fit(pool, rng=np.random.default_rng(0))
        np.testing.assert_array_equal(attack.offline, np.arange(40) < 20)
        shadow_scores, scores = run(POOL_ATTACKS[name], pool, lists)
        assert np.isfinite(shadow_scores).all()
        found.append([area(truth[:, part].ravel(), scores[:, part].ravel()) for part in (slice(10), slice(10, 20))])
    assert np.mean(found, axis=0).min() > 0.7


def test_scores_of_offline_users_lie_around_zero() -> None:
    """As those of others do: for members above, for non-members below."""
    found = []
    for seed in range(6):
        pool, lists, truth = with_offline_users(seed)
        scores = fitted_scores(Surprise, pool, lists)
        found.append([scores[:, part][truth[:, part] == inside].mean()
                      for part in (slice(10), slice(10, 20)) for inside in (False, True)])  # fmt: skip
    assert (np.sign(np.mean(found, axis=0)) == [-1, 1, -1, 1]).all()


@EVERY
def test_users_in_every_shadow_learn_their_sign_from_the_others(name: str) -> None:
    """To lists that all hold the twin, a list without it is the more surprising one: it is the OUT list.

    What learns nothing from IN lists takes it for a member's.
    """
    found = []
    for seed in range(6):
        taste = 2 * np.random.default_rng(seed).normal(size=(40, 40))
        pool, lists, truth = with_offline_users(seed, twins(np.argsort(-taste, axis=1)[:, 35]), taste)
        scores = fitted_scores(POOL_ATTACKS[name], pool, lists)
        found.append(area(truth[:, 10:20].ravel(), scores[:, 10:20].ravel()))
    assert np.mean(found) < 0.4 if name in ("list-lr-offline", "rmia") else np.mean(found) > 0.6


@pytest.mark.statistical
@pytest.mark.parametrize("name", ["list-lr-surprise", "list-lr-offline", "rmia"])
def test_users_in_every_shadow_of_a_real_recommender(name: str, small: Interactions) -> None:
    found = []
    for pool, lists, truth in lfm_pools(small):
        # Half the users keep the lists of the eight shadows that had them in training.
        own = np.tile(np.arange(8)[:, None], pool.n_users)
        own[:, ::2] = np.argsort(~pool.member, axis=0, kind="stable")[:8, ::2]
        member = np.take_along_axis(pool.member, own, axis=0)
        part = replace(pool, lists=np.take_along_axis(pool.lists, own[:, :, None], axis=0), member=member)
        scores = fitted_scores(POOL_ATTACKS[name], part, lists)
        found.append(area(truth[:, ::2].ravel(), scores[:, ::2].ravel()))
    assert min(found) > 0.6


@EVERY
def test_what_a_more_surprising_list_says_of_offline_users(name: str) -> None:
    pool, _, _ = with_offline_users()
    usual, strange = pool.lists[:1], pool.lists[:1].copy()
    for u in range(20):
        counts = np.bincount(pool.lists[:, u].ravel(), minlength=40)
        often = np.argmax(counts[usual[0, u]])
        counts[usual[0, u]] = 1000
        strange[0, u, often] = np.argmin(counts)
    scores, changed = (fitted_scores(POOL_ATTACKS[name], pool, lists)[0, :20] for lists in (usual, strange))
    assert (changed >= scores).all()
    # A share ends at 0 and 1.
    assert name == "rmia" or (changed > scores).all()


def test_offline_users_of_list_lr_are_ranked_by_their_surprise() -> None:
    """As `Offline` ranks them, and the others as if they were alone, but for what they add to the parts."""
    pool, lists, _ = with_offline_users()
    combined, offline = fitted_scores(ListLR, pool, lists), fitted_scores(Offline, pool, lists)
    assert stats.spearmanr(combined[:, :10].ravel(), offline[:, :10].ravel()).statistic > 0.999
    alone = fitted_scores(ListLR, pool.take_users(np.arange(40) >= 20), lists[:, 20:])
    assert np.corrcoef(alone.ravel(), combined[:, 20:].ravel())[0, 1] > 0.99


@ONLINE
@pytest.mark.parametrize("member", [False, True])
def test_nobody_in_and_out(name: str, member: bool) -> None:
    """An attacker without IN lists is told which attacks do without them."""
    pool, lists, _ = game(10, no_leak, 0)
    blind = replace(pool, member=np.full(pool.member.shape, member))
    with pytest.raises(ProtocolError, match=f"{name} learns from users .* list-lr-offline and rmia"):
        run(POOL_ATTACKS[name], blind, lists)


@pytest.mark.parametrize("name", ["list-lr-offline", "rmia"])
def test_offline_attacks_need_no_in_lists(name: str) -> None:
    rng = np.random.default_rng(0)
    taste, truth = 2 * rng.normal(size=(40, 40)), rng.random((12, 40)) < 0.5
    shown = atypical(0.3, 40)(lists_of(28, taste, 8, rng), np.concatenate([np.zeros((16, 40), np.bool_), truth]), rng)
    pool = pool_of(shown[:16], np.zeros((16, 40), np.bool_), 40)
    _, scores = run(POOL_ATTACKS[name], pool, shown[16:])
    assert area(truth.ravel(), scores.ravel()) > 0.75


def test_rmia_without_nonmembers() -> None:
    pool, _, _ = game(10, no_leak, 0)
    with pytest.raises(ProtocolError, match="rmia compares with users out of training"):
        RMIA().fit(replace(pool, member=np.ones(pool.member.shape, np.bool_)), rng=np.random.default_rng(0))


@EVERY
def test_few_lists_out_of_training(name: str) -> None:
    """Membership by single coins can leave a user one OUT list, or one IN list."""
    pool, lists, _ = game(10, atypical(0.3, 40), 0)
    member = pool.member.copy()
    member[:, 0], member[:, 1] = np.arange(10) != 3, np.arange(10) == 3
    uneven = replace(pool, member=member)
    if name == "list-lr":
        with pytest.raises(ProtocolError, match="complementary"):
            fitted_scores(ListLR, uneven, lists)
    else:
        assert np.isfinite(fitted_scores(POOL_ATTACKS[name], uneven, lists)).all()


@EVERY
def test_lists_that_never_change_or_are_empty(name: str) -> None:
    """Nothing to tell members by: one score for all models, and no division by zero."""
    pool, lists, truth = game(10, no_leak, 0)
    constant = replace(pool, lists=np.repeat(pool.lists[:1], 10, axis=0))
    scores = fitted_scores(POOL_ATTACKS[name], constant, np.repeat(pool.lists[:1], 6, axis=0))
    assert np.isfinite(scores).all()
    assert np.ptp(scores, axis=0).max() == 0
    assert name != "rmia" or (scores == 1).all()  # all non-members' ratios are as large
    empty = replace(pool, lists=np.full_like(pool.lists, -1))
    assert areas(name, empty, np.full_like(lists, -1), truth) == (0.5, 0.5)
    assert np.isfinite(fitted_scores(POOL_ATTACKS[name], empty, lists)).all()


@EVERY
def test_one_user(name: str) -> None:
    pool, lists, _ = game(10, no_leak, 0)
    alone = pool.take_users(np.arange(40) == 0)
    assert np.isfinite(run(POOL_ATTACKS[name], alone, lists[:, :1])[1]).all()


def seen_by_others(lists: Any, n_items: int = 40) -> Observation:
    """An observation that is not of the pool's users."""
    pool = pool_of(lists[None], np.zeros((1, len(lists)), np.bool_), n_items)
    return pool.observe(lists)


@EVERY
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lists: seen_by_others(lists[:-1]), r"int32\[40, 8\].*int32\[39, 8\]"),
        (lambda lists: seen_by_others(lists[:, :-1]), r"got int32\[40, 7\]"),
        (lambda lists: seen_by_others(lists + np.int32(1), 41), r"hold items in \d+\.\.40; .* 0\.\.39"),
    ],
)
def test_lists_of_another_shape_or_with_unknown_items(name: str, change: Callable[[Any], Any], words: str) -> None:
    pool, lists, _ = game(10, no_leak, 0)
    attack = POOL_ATTACKS[name]().fit(pool, rng=np.random.default_rng(0))
    with pytest.raises(ProtocolError, match=words):
        attack.score(change(lists[0]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lists: lists[:-1], r"int32 with shape \(40, k\); got int32 with shape \(39, 8\)"),
        (lambda lists: lists[0], r"got int32 with shape \(8,\)"),
        (lambda lists: lists.astype(np.int64), "got int64"),
        (lambda lists: lists + np.int32(1), r"item out of 0\.\.39"),
        (lambda lists: lists - np.int32(2), r"item out of 0\.\.39"),
    ],
)
def test_lists_that_cannot_be_those_of_the_pool(change: Callable[[Any], Any], words: str) -> None:
    pool, lists, _ = game(10, no_leak, 0)
    with pytest.raises(ProtocolError, match=words):
        pool.observe(change(lists[0]))


@EVERY
def test_score_before_fit(name: str) -> None:
    with pytest.raises(NotFittedError, match=name):
        POOL_ATTACKS[name]().score(seen_by_others(np.zeros((3, 1), np.int32)))


@pytest.mark.parametrize(
    ("bad", "words"), [(np.zeros(39), "must score 40 users; got shape"), (np.full(40, np.nan), "gave 40 scores")]
)
@pytest.mark.parametrize("target", [True, False])
def test_bad_scores_of_an_attack_are_caught(bad: Any, words: str, target: bool) -> None:
    """Of a target, and of a shadow."""

    class Broken(Counts):
        def score(self, observation: Observation) -> Any:
            is_target = any(np.array_equal(observation.lists, shown) for shown in lists)
            return bad if is_target == target else super().score(observation)

    pool, lists, _ = game(16, no_leak, 0)
    with pytest.raises(ProtocolError, match=words):
        run(Broken, pool, lists)


# ---- Deep lists ----


def deep_game(S: int, leak: float, seed: int, n: int = 60, depth: int = 30) -> tuple[ShadowPool, Any, Any]:
    """A pool with lists of 10 and deep lists, what 8 targets show, and who is a member; `leak` is noise of members."""
    rng = np.random.default_rng([9, seed])
    taste = 2 * rng.normal(size=(n, 40))
    into = pairs(S, n, rng)
    member = rng.random((8, n)) < 0.5
    noise = 1 + leak * np.concatenate([into, member])[:, :, None]
    shown = np.argsort(-(taste + noise * rng.gumbel(size=(S + 8, n, 40))), axis=2)[:, :, :depth].astype(np.int32)
    pool = replace(pool_of(np.ascontiguousarray(shown[:S, :, :10]), into, 40), deep=shown[:S])
    return pool, np.ascontiguousarray(shown[S:, :, :10]), member


@pytest.mark.parametrize("name", ["list-lr", "list-lr-surprise", "list-lr-offline"])
def test_deep_lists_find_the_leak_with_four_shadows(name: str) -> None:
    areas = {}
    for deep in (True, False):
        found = []
        for seed in range(6):
            pool, lists, member = deep_game(4, 1.0, seed)
            scores = fitted_scores(POOL_ATTACKS[name], pool if deep else replace(pool, deep=None), lists)
            found.append(area(member.ravel(), scores.ravel()))
        areas[deep] = float(np.mean(found))
    assert areas[True] > 0.7
    assert areas[True] > areas[False]


@pytest.mark.statistical
@pytest.mark.parametrize("S", [2, 4, 8])
@pytest.mark.parametrize("name", ["list-lr", "list-lr-surprise", "list-lr-offline", "rmia"])
def test_deep_lists_tell_nothing_where_nothing_leaks(name: str, S: int) -> None:
    if ATTACKS[name].min_shadows > S:
        return
    targets, shadows = [], []
    for seed in range(20):
        pool, lists, member = deep_game(S, 0.0, seed)
        held_out, scores = run(POOL_ATTACKS[name], pool, lists)
        targets.append(area(member.ravel(), scores.ravel()))
        if len(held_out):
            shadows.append(area(pool.member.ravel(), held_out.ravel()))
    for areas in (targets, shadows):
        if areas:
            assert abs(np.mean(areas) - 0.5) < 4 * np.std(areas, ddof=1) / np.sqrt(len(areas)) + 0.005


def test_the_lists_are_the_starts_of_the_deep_lists() -> None:
    pool, _, _ = deep_game(4, 0.0, 0)
    deep = np.asarray(pool.deep)
    with pytest.raises(ProtocolError, match="starts of its deep lists"):
        replace(pool, deep=deep[:, ::-1])
    part = pool.take(np.array([2, 3])).take_users(np.arange(60) < 5)
    assert np.array_equal(np.asarray(part.deep), deep[2:, :5])

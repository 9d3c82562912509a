"""Attacks that are written to break the promises of defences, with their predecessors, which they break.

An attack sees an outcome under each of two neighbouring data sets, over many keys. From the counts follows a lower
bound on epsilon, which must not exceed the promise. Each attack is also run against the mechanism that fell to it, so
that it is known to have the power that it takes.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import beta

from recmia import Interactions
from recmia.data.interactions import Float32, Int32
from recmia.defences import GumbelTopK, RandomisedHistories
from recmia.recommenders import Popularity, Recommender, private
from recmia.recommenders.private import PrivateLFM
from recmia.settings import PrivacySettings

# Repetitions under each of the two data sets.
N = 2000
Outcomes = Sequence[Hashable]
Attack = Callable[[Any, np.random.Generator, bool], Hashable]


# The bound.
def shown(one: Outcomes, other: Outcomes, delta: float = 0.0) -> float:
    """Lower bound on epsilon at 99.9%, from outcomes under two neighbouring data sets.

    The set of outcomes that tells the two apart best is chosen on the first half, and counted on the second.
    """
    return max(0.0, _one_sided(one, other, delta), _one_sided(other, one, delta))


def _one_sided(one: Outcomes, other: Outcomes, delta: float) -> float:
    half = len(one) // 2
    first, against = Counter(one[:half]), Counter(other[:half])
    ordered = sorted({*first, *against}, key=lambda outcome: -(first[outcome] + 0.5) / (against[outcome] + 0.5))
    found = list(accumulate(first[outcome] for outcome in ordered))
    wrong = list(accumulate(against[outcome] for outcome in ordered))
    best = max(range(len(ordered)), key=lambda m: bound(found[m], wrong[m], half, delta))
    chosen = set(ordered[: best + 1])
    return bound(sum(o in chosen for o in one[half:]), sum(o in chosen for o in other[half:]), half, delta)


def bound(found: int, wrong: int, n: int, delta: float) -> float:
    """Lower bound on log((p - delta) / q) from counts, both by Clopper-Pearson (a quarter of 0.1% on each side)."""
    low = beta.ppf(0.00025, found, n - found + 1) if found else 0.0
    high = beta.ppf(0.99975, wrong + 1, n - wrong) if wrong < n else 1.0
    return float(np.log((low - delta) / high)) if low > delta else 0.0


def attacked(attack: Attack, make: Any, delta: float = 0.0, n: int = N) -> float:
    """Lower bound on epsilon that an attack shows for what `make` makes, over fresh keys in each repetition."""
    one, other = (
        [attack(make, np.random.default_rng([with_it, seed]), bool(with_it)) for seed in range(n)] for with_it in (1, 0)
    )
    return shown(one, other, delta)


def test_the_bound_finds_what_is_there_and_no_more() -> None:
    rng = np.random.default_rng(0)
    one, other = ((rng.random(N) < chance).tolist() for chance in (math.e / (1 + math.e), 1 / (1 + math.e)))
    assert 0.7 < shown(one, other) < 1
    assert shown(one, one[::-1]) == 0
    assert shown([True] * N, [False] * N) > 4.5
    assert shown([True] * 100 + [False] * (N - 100), [False] * N, delta=0.1) == 0


# Data: all items have one interaction of user 0, or of nobody but the one user that may be a member.
N_ITEMS = 8
HISTORY = sparse.csr_array(np.array([[0, 0, 0, 1, 0, 0, 0, 0]], np.float32))


def rows(*histories: Sequence[int], n_items: int = N_ITEMS) -> sparse.csr_array:
    matrix = np.zeros((len(histories), n_items), np.float32)
    for row, items in zip(matrix, histories, strict=True):
        row[list(items)] = 1
    return sparse.csr_array(matrix)


def data(*histories: Sequence[int], n_items: int = N_ITEMS) -> Interactions:
    """Users with these histories, over items that are all in the catalogue."""
    catalogue = [*histories, range(n_items)]
    user, item = zip(*[(u, i) for u, items in enumerate(catalogue) for i in items], strict=True)
    return Interactions.from_arrays(user, item).restrict(np.arange(len(histories)))


# One user more turns the ranking around: 0 to 7 without, 4 to 7 before 0 to 3 with.
TURNED = data(range(N_ITEMS), range(4, N_ITEMS))
PLAIN = data(range(N_ITEMS))
# An item of one member alone.
OWNED, LOST = data(range(7), [7, 0]), data(range(7))


class Personal(Popularity):
    """Members get the last items first, and newcomers the first."""

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        return self._rank(
            lambda rows: np.tile(np.arange(N_ITEMS, dtype=np.float32), (rows.stop - rows.start, 1)),
            histories, k, exclude_seen,
        )  # fmt: skip


class Rated(Popularity):
    """Popularity, or its reverse for those who give low ratings."""

    def scores(self, histories: sparse.csr_array) -> Float32:
        liked = np.sign(histories.sum(axis=1) - 3)[:, None]
        return np.asarray(super().scores(histories) * liked, np.float32)


class OldGumbel(GumbelTopK):
    """As it was: items of the members only, a scale for each length, and one noise for both paths and all ratings."""

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> OldGumbel:
        super().fit(interactions, rng=rng)
        self.trained_items = self.inner.trained_items
        return self

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        return self._old(self.inner.recommend_members, histories, k, exclude_seen)

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        return self._old(self.inner.recommend, histories, k, exclude_seen)

    def _old(self, recommend: Callable[..., Int32], histories: sparse.csr_array, k: int, exclude_seen: bool) -> Int32:
        known = self.fitted_items(k)
        n = int(known.sum())
        rankings = recommend(histories, n, exclude_seen=False)
        quality = (1 - np.log(np.arange(1, n + 1)) / max(np.log(n), 1)).astype(np.float32)

        def score(rows: slice) -> Float32:
            ranked = rankings[rows]
            scores = np.zeros((len(ranked), len(known)), np.float32)
            np.put_along_axis(scores, ranked, np.broadcast_to(quality, ranked.shape), axis=1)
            for row, rng in zip(scores, old_generators(histories[rows], self._key), strict=True):
                waits = np.maximum(rng.standard_exponential(len(row), np.float32), np.finfo(np.float32).tiny)
                row -= np.float32(2 * k / self.epsilon) * np.log(waits)
            return scores

        return self._rank(score, histories, k, exclude_seen)


def old_generators(histories: sparse.csr_array, key: bytes) -> list[np.random.Generator]:
    parts = (histories.indices[a:b] for a, b in zip(histories.indptr, histories.indptr[1:], strict=False))
    digests = [hashlib.blake2b(np.sort(part).astype("<i8").tobytes(), key=key).digest() for part in parts]
    return [np.random.default_rng(np.frombuffer(digest, "<u4")) for digest in digests]


# Attacks on `gumbel`. Each fits a model with a fresh key, with or without one user, and returns what it sees.
def single_owner(make: Any, rng: np.random.Generator, member: bool) -> Hashable:
    """An item that one member alone knows, in the list of another user."""
    model = make(Popularity(), 2).fit(OWNED if member else LOST, rng=rng)
    return 7 in model.recommend(HISTORY, 2)


def one_list(make: Any, rng: np.random.Generator, member: bool) -> Hashable:
    """The whole list of another user."""
    model = make(Popularity(), 2).fit(TURNED if member else PLAIN, rng=rng)
    return tuple(model.recommend(HISTORY, 2)[0].tolist())


def two_lengths(make: Any, rng: np.random.Generator, member: bool) -> Hashable:
    """From which half of the items the first of a short and of a long list are."""
    model = make(Popularity(), 8).fit(TURNED if member else PLAIN, rng=rng)
    return tuple(int(model.recommend(HISTORY, k, exclude_seen=False)[0, 0]) < 4 for k in (1, 8))


def asked_again(make: Any, rng: np.random.Generator, member: bool) -> Hashable:
    """How often the first item of another user's list is of the first half, of four requests."""
    model = make(Popularity(), 1).fit(TURNED if member else PLAIN, rng=rng)
    return sum(int(model.recommend(HISTORY, 1)[0, 0]) < 4 for _ in range(4))


def two_paths(make: Any, rng: np.random.Generator, member: bool) -> Hashable:
    """Whether the user is served what a newcomer with the same history is."""
    model = make(Personal(), 1).fit(data(range(N_ITEMS), [3]) if member else PLAIN, rng=rng)
    served = model.recommend_members(rows(range(N_ITEMS), [3]), 1)[[1]] if member else model.recommend(HISTORY, 1)
    return int(served[0, 0]) == int(model.recommend(HISTORY, 1)[0, 0])


def same_history(make: Any, rng: np.random.Generator, member: bool) -> Hashable:
    """Whether the user is served what a member with the same history is."""
    users = [range(N_ITEMS), [3], *([[3]] if member else [])]
    model = make(Personal(), 1).fit(data(*users), rng=rng)
    lists = model.recommend_members(rows(*users), 1)
    served = lists[[2]] if member else model.recommend(HISTORY, 1)
    return int(served[0, 0]) == int(lists[1, 0])


def two_ratings(make: Any, rng: np.random.Generator, member: bool) -> Hashable:
    """Lists for the same items with other ratings: whether they are equal, and how they begin."""
    model = make(Rated(), 1).fit(TURNED if member else PLAIN, rng=rng)
    return tuple(int(model.recommend(history, 1)[0, 0] < 4) for history in (HISTORY * 5, HISTORY))


def growing(make: Any, rng: np.random.Generator, member: bool) -> Hashable:
    """The first items of the lists for a history that grows by one item, three times."""
    model = make(Popularity(), 1).fit(TURNED if member else PLAIN, rng=rng)
    return sum(int(model.recommend(rows([3, *range(m)]), 1)[0, 0]) >= 4 for m in range(3))


# Attack, and how many lists it sees.
GUMBEL = [
    (single_owner, 1), (one_list, 1), (two_lengths, 1), (asked_again, 1), (two_paths, 1), (same_history, 1),
    (two_ratings, 2), (growing, 3),
]  # fmt: skip
EPSILON = 0.5


@pytest.mark.statistical
@pytest.mark.parametrize(("attack", "lists"), GUMBEL, ids=lambda one: getattr(one, "__name__", None))
def test_gumbel_keeps_its_promise(attack: Attack, lists: int) -> None:
    assert attacked(attack, lambda inner, k: GumbelTopK(inner, EPSILON, k=k)) <= lists * EPSILON


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("attack", "lists"),
    [one for one in GUMBEL if one[0] in (single_owner, two_lengths, two_paths, same_history, two_ratings)],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_the_old_gumbel_breaks_it(attack: Attack, lists: int) -> None:
    assert attacked(attack, lambda inner, k: OldGumbel(inner, EPSILON, k=k)) > lists * EPSILON


@pytest.mark.statistical
def test_too_little_noise_breaks_it() -> None:
    assert attacked(asked_again, lambda inner, k: GumbelTopK(inner, 10 * EPSILON, k=k)) > EPSILON


def test_other_users_of_the_same_history_and_other_fits_of_the_same_seed_get_the_same_list() -> None:
    models = [
        kind.fit(TURNED, rng=np.random.default_rng(4))
        for kind in (GumbelTopK(Personal(), EPSILON, k=3), GumbelTopK(Personal(), EPSILON, k=3))
    ]
    lists = [model.recommend(HISTORY, 3).tolist() for model in models]
    assert lists[0] == lists[1]
    histories = rows(range(N_ITEMS), range(4, N_ITEMS))
    assert models[0].recommend_members(histories, 3).tolist() == models[1].recommend(histories, 3).tolist()


# Randomised response: what the system sees are reports.
class System(Popularity):
    """Keeps what it gets to see."""

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> System:
        self.training = interactions.csr().toarray() > 0
        self.asked: list[Any] = []
        super().fit(interactions, rng=rng)
        self.trained_items = np.ones(interactions.n_items, np.bool_)
        return self

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        self.asked.extend(histories.toarray() > 0)
        return super().recommend(histories, k, exclude_seen=exclude_seen)


class OldRandomisedHistories(RandomisedHistories):
    """As it was: all lies are drawn anew for another history."""

    def _shown(self, interactions: Interactions) -> Interactions:
        self._histories = interactions.csr()
        return super()._shown(interactions)

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        self._histories = histories
        clients = np.arange(histories.shape[0])
        return self._from_told(self.inner.recommend, histories, clients, k, exclude_seen)

    def _told(self, clients: Any, n_items: int) -> sparse.csr_array:
        told = self._histories.toarray() > 0
        for row, rng in zip(told, old_generators(self._histories, self._key), strict=True):
            row ^= rng.random(n_items) < 1 / (1 + np.exp(self.epsilon))
        return sparse.csr_array(told.astype(np.float32))


class KeptLies(OldRandomisedHistories):
    """Lies that are kept, and a report on the history as it is now."""

    def _told(self, clients: Any, n_items: int) -> sparse.csr_array:
        told = self._histories.toarray() > 0
        told ^= np.random.default_rng(list(self._key)).random(n_items) < 1 / (1 + np.exp(self.epsilon))
        return sparse.csr_array(told.astype(np.float32))


WIDE = 40
BASE = list(range(12))
ITEM = 30


def reports(make: Any, rng: np.random.Generator, trained: Sequence[Sequence[int]], *asked: Sequence[int]) -> list[Any]:
    """What the system sees of the first user in training, and for each history that is asked, one after the other."""
    system = System()
    make(system).fit(data(*trained, n_items=WIDE), rng=rng).recommend(rows(*asked, n_items=WIDE), 1)
    return [system.training[0], *system.asked]


def reported_while_growing(make: Any, rng: np.random.Generator, seen: bool) -> Hashable:
    """How often one item is reported, in training and while the history grows by ten others."""
    history = [*BASE, ITEM] if seen else BASE
    grown = [history + list(range(12, 12 + m)) for m in range(1, 11)]
    return int(sum(report[ITEM] for report in reports(make, rng, [history], *grown)))


def reported_before_and_after(make: Any, rng: np.random.Generator, seen: bool) -> Hashable:
    """Whether one item is reported before and after it is seen, if it is."""
    return tuple(report[ITEM] for report in reports(make, rng, [BASE], [*BASE, ITEM] if seen else BASE))


def reported_again(make: Any, rng: np.random.Generator, seen: bool) -> Hashable:
    """How often one item is reported if the same is asked ten times, beside other users' requests."""
    history = [*BASE, ITEM] if seen else BASE
    asked: list[list[int]] = [one for m in range(10) for one in (history, [20 + m, 5])]
    training, *asked_for = reports(make, rng, [history], *asked)
    return int(training[ITEM]) + int(sum(report[ITEM] for report in asked_for[::2]))


def reported_by_newcomers(make: Any, rng: np.random.Generator, seen: bool) -> Hashable:
    """As `reported_while_growing`, for a user that was not in training."""
    history = [*BASE, ITEM] if seen else BASE
    grown = [history + list(range(12, 12 + m)) for m in range(11)]
    return int(sum(report[ITEM] for report in reports(make, rng, [[35, 36]], *grown)[1:]))


def reported_by_two(make: Any, rng: np.random.Generator, seen: bool) -> Hashable:
    """The report on one item, and how far the report differs from that of another user without the item."""
    system = System()
    make(system).fit(data([*BASE, ITEM] if seen else BASE, BASE, n_items=WIDE), rng=rng)
    one, other = system.training
    return bool(one[ITEM]), min(int((one != other).sum()), 2)


def reported_when_doubled(make: Any, rng: np.random.Generator, seen: bool) -> Hashable:
    """Whether one item is reported before and after the history has doubled: two reports."""
    history = [*BASE, ITEM] if seen else BASE
    return tuple(report[ITEM] for report in reports(make, rng, [history], history + list(range(12, 28))))


# Attack, and how many reports are promised for it.
RESPONSE = [
    (reported_while_growing, 1), (reported_before_and_after, 1), (reported_again, 1), (reported_by_newcomers, 1),
    (reported_by_two, 1), (reported_when_doubled, 2),
]  # fmt: skip


@pytest.mark.statistical
@pytest.mark.parametrize(("attack", "times"), RESPONSE, ids=lambda one: getattr(one, "__name__", None))
def test_randomised_response_keeps_its_promise(attack: Attack, times: int) -> None:
    found = attacked(attack, lambda inner: RandomisedHistories(inner, 1.0))
    assert found <= times
    # Of an item that comes after the report, the system sees nothing.
    assert attack is reported_before_and_after or found > 0.5, "one report is seen"


@pytest.mark.statistical
@pytest.mark.parametrize(
    "attack", [reported_while_growing, reported_before_and_after, reported_by_newcomers, reported_by_two]
)
def test_the_old_randomised_response_breaks_it(attack: Attack) -> None:
    assert attacked(attack, lambda inner: OldRandomisedHistories(inner, 1.0), n=600) > 1


@pytest.mark.statistical
def test_kept_lies_with_new_items_break_it() -> None:
    make: Any = lambda inner: KeptLies(inner, 1.0)  # noqa: E731
    assert attacked(reported_while_growing, make, n=600) <= 1
    assert attacked(reported_before_and_after, make, n=600) > 1


# dp-training: whoever knows the item vectors.
def scale_of_noise(make: Any, rng: np.random.Generator, member: bool) -> Hashable:
    """The size of the parameters, which the number of users scales, and the sign of what the user adds to them."""
    theta = make().fit(data([0, 1], [6, 7]) if member else data([0, 1]), rng=rng)._theta
    return round(4 * np.log(np.sqrt((theta**2).mean()))), bool(theta[6:, 0].sum() > 0)


def items_of_one(make: Any, rng: np.random.Generator, member: bool) -> Hashable:
    """Whether an item that one member alone knows comes first for another user."""
    return 7 in make().fit(OWNED if member else LOST, rng=rng).recommend(HISTORY, 1)


@pytest.mark.statistical
@pytest.mark.parametrize("attack", [scale_of_noise, items_of_one])
def test_dp_training_keeps_its_promise(attack: Attack) -> None:
    pytest.importorskip("dp_accounting", reason="needs recmia[dp]")
    settings = PrivacySettings(delta=1e-3, steps=2, sampling_rate=1.0, factors=4)
    assert attacked(attack, lambda: PrivateLFM(EPSILON, settings), settings.delta) <= EPSILON


@pytest.mark.statistical
def test_the_number_of_users_in_the_steps_breaks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dp_accounting", reason="needs recmia[dp]")
    monkeypatch.setattr(private, "_noisy_count", lambda n, sigma, rng: float(n))
    settings = PrivacySettings(delta=1e-3, steps=2, sampling_rate=1.0, factors=4)
    assert attacked(scale_of_noise, lambda: PrivateLFM(EPSILON, settings), settings.delta) > EPSILON


def test_no_wrapper_that_promises_draws_from_the_items_of_the_members() -> None:
    pytest.importorskip("dp_accounting", reason="needs recmia[dp]")
    models: list[Recommender] = [GumbelTopK(Popularity(), EPSILON, k=2), PrivateLFM(4.0)]
    for model in models:
        fitted = model.fit(LOST, rng=np.random.default_rng(0))
        assert fitted.trained_items is not None
        assert fitted.trained_items.all()

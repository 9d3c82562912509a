"""Recommenders with a defence of their own: the noise is as stated, and asked again they answer the same."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse, stats

from recmia import Interactions
from recmia.defences import FoldInOnly, GumbelTopK, RandomisedHistories
from recmia.defences.mechanisms import _Clients
from recmia.errors import ConfigError
from recmia.recommenders import Popularity
from recmia.settings import RecommenderSettings
from tests.defences.helpers import fitted, make_recommender


# The exponential mechanism.
def test_gumbel_with_a_large_epsilon_changes_nothing(small: Interactions) -> None:
    model = fitted(GumbelTopK(make_recommender("lfm"), 1e9, k=5), small)
    assert isinstance(model, GumbelTopK)
    assert np.array_equal(model.recommend(small.csr(), 5), model.inner.recommend(small.csr(), 5))


def drawn_ranks(data: Interactions, epsilon: float, n: int = 4000) -> np.ndarray:
    """The rank that the popularity model gives to the one item that is drawn, over many keys."""
    model = GumbelTopK(Popularity(), epsilon, k=1)
    history = data.csr()[[0]]
    fitted(model, data)
    order = model.inner.recommend(history, data.n_items, exclude_seen=False)[0]
    place = np.argsort(order)
    drawn = np.empty(n, np.int64)
    for key in range(n):
        model._key = key.to_bytes(8, "little")
        drawn[key] = place[model.recommend(history, 1, exclude_seen=False)[0, 0]]
    return drawn


@pytest.fixture(scope="module")
def tiny() -> Interactions:
    rng = np.random.default_rng(3)
    user, item = np.nonzero(rng.random((60, 12)) < np.linspace(0.9, 0.1, 12))
    return Interactions.from_arrays(user, item)


@pytest.mark.statistical
def test_gumbel_draws_with_the_stated_probabilities(tiny: Interactions) -> None:
    quality = 1 - np.log(np.arange(1, 13)) / np.log(12)

    def p_value(epsilon: float, stated: float) -> float:
        expected = np.exp(stated / 2 * quality)
        counts = np.bincount(drawn_ranks(tiny, epsilon), minlength=12)
        return float(stats.chisquare(counts, counts.sum() * expected / expected.sum()).pvalue)

    assert p_value(4.0, stated=4.0) > 0.001
    assert p_value(6.0, stated=4.0) < 1e-6, "the test must see an epsilon that is not the stated one"


def test_the_mechanism_keeps_its_promise_against_any_other_ranking() -> None:
    # One draw: from whatever ranking to whatever other, no item's probability may change by more than e^epsilon.
    n, epsilon = 50, 2.0
    quality = 1 - np.log(np.arange(1, n + 1)) / np.log(n)
    chances = np.exp(epsilon / 2 * quality)
    chances /= chances.sum()
    assert np.log(chances.max() / chances.min()) <= epsilon


def test_one_ranking_is_cut_and_none_is_longer(small: Interactions) -> None:
    model = fitted(GumbelTopK(Popularity(), 5.0, k=8), small)
    lists = model.recommend(small.csr(), 8)
    assert np.array_equal(model.recommend(small.csr(), 3), lists[:, :3])
    with pytest.raises(ConfigError, match="made for lists of up to 8 items, and lists of 9 were asked for"):
        model.recommend(small.csr(), 9)
    with pytest.raises(ConfigError, match="k, the length of the longest list, must be at least 1; got 0"):
        GumbelTopK(Popularity(), 5.0, k=0)


def test_lists_are_drawn_from_the_whole_catalogue(small: Interactions) -> None:
    members = small.restrict(np.arange(3))
    model = fitted(GumbelTopK(Popularity(), 0.1, k=10), members)
    assert model.trained_items is not None
    assert model.trained_items.all()
    unknown = members.item_counts() == 0
    assert unknown.any()
    assert unknown[model.recommend(small.csr(), 10)].any()


def test_noise_is_for_the_history_with_its_ratings_and_not_for_the_order_of_storage(small: Interactions) -> None:
    model = fitted(GumbelTopK(Popularity(), 0.1, k=10), small)
    history = small.csr()[[0]]
    other, reverse = history.copy(), history.copy()
    other.data = other.data + 1
    assert not np.array_equal(model.recommend(other, 10), model.recommend(history, 10))
    reverse = sparse.csr_array((history.data[::-1], history.indices[::-1], history.indptr), history.shape)
    assert np.array_equal(model.recommend(reverse, 10), model.recommend(history, 10))


# Randomised response.
def test_lies_have_the_stated_rate(small: Interactions) -> None:
    model = RandomisedHistories(make_recommender("itemknn"), 1.5)
    fitted(model, small)
    seen, told = (
        matrix.toarray() > 0 for matrix in (small.csr(), model._told(np.arange(small.n_users), small.n_items))
    )
    rate = 1 / (1 + np.exp(1.5))
    for truth in (True, False):
        lies = int((told != seen)[seen == truth].sum())
        assert stats.binomtest(lies, int((seen == truth).sum()), rate).pvalue > 0.001


def test_a_history_is_told_the_same_in_training_and_in_serving(small: Interactions) -> None:
    kept: list[Interactions] = []

    class Spy(Popularity):
        def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Spy:
            kept.append(interactions)
            super().fit(interactions, rng=rng)
            return self

    model = RandomisedHistories(Spy(), 2.0)
    fitted(model, small)
    told = model._told(np.arange(small.n_users), small.n_items)
    assert np.array_equal(kept[0].csr().toarray(), told.toarray())
    assert not kept[0].rated
    assert not np.array_equal(told.toarray() > 0, small.csr().toarray() > 0)


def rows(*histories: list[int], n_items: int = 200) -> sparse.csr_array:
    matrix = np.zeros((len(histories), n_items), np.float32)
    for row, items in zip(matrix, histories, strict=True):
        row[items] = 1
    return sparse.csr_array(matrix)


def test_clients_are_known_by_their_histories() -> None:
    first, other = list(range(10)), list(range(100, 110))
    clients = _Clients(rows(first, other, first, []), b"key")
    assert len({seed.tobytes() for seed in clients.seeds}) == 4, "equal reports would tell equal histories"
    found = clients.find(
        rows(
            first,  # known: the first of both
            [*first, 50],  # grown
            [*first, 50, *other[:9]],  # doubled: new, with the largest known history being too short
            first[1:],  # shrunk: new
            [*first[1:], 60],  # grown from the last
            [],  # new
            [150],  # new
            [150, 151],  # doubled: new
        )
    )
    assert found.tolist() == [0, 0, 4, 5, 5, 6, 7, 8]
    assert clients.reported[4].tolist() == sorted([*first, 50, *other[:9]])
    assert clients.find(rows([*first, 50], [*first[1:], 60], [*other, 3])).tolist() == [0, 5, 1]
    # Of the histories that it contains, the largest counts, also if that was not a first one.
    assert clients.find(rows([*first[1:], 60, 0], [*first[1:], 60, 0])).tolist() == [0, 0]


def test_asking_row_by_row_or_at_once_is_the_same(rng: np.random.Generator) -> None:
    base = [sorted(rng.choice(30, 8, replace=False).tolist()) for _ in range(6)]
    asked = [base[i % 6] + rng.choice(np.arange(30, 200), i % 9, replace=False).tolist() for i in range(60)]
    members = rows(*base[:3])
    at_once, one_by_one = _Clients(members, b"key"), _Clients(members, b"key")
    found = at_once.find(rows(*asked))
    assert found.tolist() == [int(one_by_one.find(rows(one))[0]) for one in asked]
    assert [seed.tobytes() for seed in at_once.seeds] == [seed.tobytes() for seed in one_by_one.seeds]
    assert at_once.find(rows(*asked)).tolist() == found.tolist(), "asked again"


def test_unrelated_users_may_ask_in_any_order(small: Interactions) -> None:
    members, others = small.restrict(np.arange(60)), small.csr()[60:]
    one, other = (fitted(RandomisedHistories(make_recommender("itemknn"), 2.0), members) for _ in range(2))
    lists = one.recommend(others, 10)
    order = np.random.default_rng(0).permutation(60)
    assert np.array_equal(np.concatenate([other.recommend(others[[row]], 10) for row in order]), lists[order])


def test_members_are_served_from_their_history(small: Interactions) -> None:
    model = fitted(FoldInOnly(make_recommender("lfm", RecommenderSettings(factors=8))), small)
    assert isinstance(model, FoldInOnly)
    histories = small.csr()
    assert np.array_equal(model.recommend_members(histories, 5), model.inner.recommend(histories, 5))
    assert not np.array_equal(model.recommend_members(histories, 5), model.inner.recommend_members(histories, 5))


def test_the_epsilon_of_a_wrapper_must_be_above_zero() -> None:
    for epsilon in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="epsilon must be above 0"):
            RandomisedHistories(Popularity(), epsilon)
        with pytest.raises(ConfigError, match="epsilon must be above 0"):
            GumbelTopK(Popularity(), epsilon, k=1)

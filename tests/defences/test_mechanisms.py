"""Recommenders with a defence of their own: the noise is as stated, and asked again they answer the same."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from recmia import Interactions
from recmia.defences import FoldInOnly, GumbelTopK, RandomisedHistories
from recmia.errors import ConfigError
from recmia.recommenders import Popularity
from recmia.settings import RecommenderSettings
from tests.defences.helpers import fitted, make_recommender


# The exponential mechanism.
def test_gumbel_with_a_large_epsilon_changes_nothing(small: Interactions) -> None:
    model = fitted(GumbelTopK(make_recommender("lfm"), 1e9), small)
    assert isinstance(model, GumbelTopK)
    assert np.array_equal(model.recommend(small.csr(), 5), model.inner.recommend(small.csr(), 5))


def drawn_ranks(data: Interactions, epsilon: float, n: int = 4000) -> np.ndarray:
    """The rank that the popularity model gives to the one item that is drawn, over many keys."""
    model = GumbelTopK(Popularity(), epsilon)
    history = data.csr()[[0]]
    fitted(model, data)
    order = model.inner.recommend(history, data.n_items, exclude_seen=False)[0]
    place = np.argsort(order)
    drawn = np.empty(n, np.int64)
    for key in range(n):
        model._key = key
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


# Randomised response.
def test_lies_have_the_stated_rate(small: Interactions) -> None:
    model = RandomisedHistories(make_recommender("itemknn"), 1.5)
    fitted(model, small)
    seen, told = (matrix.toarray() > 0 for matrix in (small.csr(), model._told(small.csr())))
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
    told = model._told(small.csr())
    assert np.array_equal(kept[0].csr().toarray(), told.toarray())
    assert not kept[0].rated
    assert not np.array_equal(told.toarray() > 0, small.csr().toarray() > 0)


def test_members_are_served_from_their_history(small: Interactions) -> None:
    model = fitted(FoldInOnly(make_recommender("lfm", RecommenderSettings(factors=8))), small)
    assert isinstance(model, FoldInOnly)
    histories = small.csr()
    assert np.array_equal(model.recommend_members(histories, 5), model.inner.recommend(histories, 5))
    assert not np.array_equal(model.recommend_members(histories, 5), model.inner.recommend_members(histories, 5))


def test_the_epsilon_of_a_wrapper_must_be_above_zero() -> None:
    for wrapper in (GumbelTopK, RandomisedHistories):
        for epsilon in (0.0, -1.0, float("inf"), float("nan")):
            with pytest.raises(ConfigError, match="epsilon must be above 0"):
                wrapper(Popularity(), epsilon)

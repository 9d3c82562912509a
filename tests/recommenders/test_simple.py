"""Controls, content and hybrid: right answers by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

from recmia import Interactions
from recmia.errors import DataError
from recmia.recommenders import LFM, Content, Hybrid, Popularity, Random
from recmia.settings import HybridSettings, SGDSettings


def row(*items: int, n_items: int) -> sparse.csr_array:
    dense = np.zeros((1, n_items), np.float32)
    dense[0, items] = 1
    return sparse.csr_array(dense)


def test_popularity_counts_users() -> None:
    data = Interactions.from_arrays([1, 2, 3, 1, 2, 3], [7, 7, 7, 5, 5, 9], [1, 1, 1, 5, 5, 5])
    model = Popularity().fit(data, rng=np.random.default_rng(0))
    assert model.scores(row(0, n_items=3)).tolist() == [[2, 3, 1]]
    assert model.recommend(row(n_items=3), 3).tolist() == [[1, 0, 2]]


def test_random_orders_are_uniform_and_go_by_the_history(small: Interactions) -> None:
    model = Random().fit(small, rng=np.random.default_rng(0))
    histories = small.csr()
    scores = model.scores(histories)
    # 24,000 uniform draws: the mean has a standard deviation of 0.0019, a correlation of 0.0065.
    assert abs(scores.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(scores[:-1].ravel(), scores[1:].ravel())[0, 1]) < 0.03
    twice = sparse.vstack([histories[[5]], histories[[9]], histories[[5]]], format="csr")
    np.testing.assert_array_equal(model.scores(twice), scores[[5, 9, 5]])
    assert not np.array_equal(Random().fit(small, rng=np.random.default_rng(1)).scores(histories), scores)


def test_content_is_the_cosine_of_tf_idf() -> None:
    texts = {1: "war|drama", 2: "war", 3: "comedy", 4: "drama|comedy", 5: ""}
    data = Interactions.from_arrays([1, 1, 1, 1, 1], [1, 2, 3, 4, 5], texts=texts)
    model = Content().fit(data, rng=np.random.default_rng(0))
    # Each term occurs in two of five items: equal weights, so only the number of terms counts.
    half = np.sqrt(0.5)
    war_drama, war, comedy, drama_comedy = np.array([[half, half, 0], [1, 0, 0], [0, 0, 1], [0, half, half]])
    items = np.array([war_drama, war, comedy, drama_comedy, np.zeros(3)])
    profile = (war_drama + drama_comedy) / 2
    np.testing.assert_allclose(
        model.scores(row(0, 3, n_items=5))[0], items @ profile / np.linalg.norm(profile), atol=1e-6
    )
    np.testing.assert_array_equal(model.scores(row(4, n_items=5)), 0)


def test_content_weighs_rare_terms_more() -> None:
    data = Interactions.from_arrays([1] * 4, [1, 2, 3, 4], texts={1: "war|drama", 2: "war", 3: "drama", 4: "drama"})
    scores = Content().fit(data, rng=np.random.default_rng(0)).scores(row(0, n_items=4))[0]
    # Smoothed idf: ln((1 + 4) / (1 + df)) + 1.
    war, drama = np.log(5 / 3) + 1, np.log(5 / 4) + 1
    np.testing.assert_allclose(scores[1:], np.array([war, drama, drama]) / np.hypot(war, drama), atol=1e-6)


def test_content_knows_only_items_of_the_fit() -> None:
    """An unknown item in a history says nothing, though it has a text, and its terms do not change the weights."""
    texts = {1: "war", 2: "drama", 3: "war", 4: "drama"}
    data = Interactions.from_arrays([1, 1, 1, 2], [1, 2, 3, 4], texts=texts).restrict(np.array([0]))
    model = Content().fit(data, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(model.scores(row(0, 3, n_items=4)), model.scores(row(0, n_items=4)))
    assert model.recommend(row(0, 3, n_items=4), 2).tolist() == [[2, 1]]


@pytest.mark.parametrize("texts", [None, {1: "", 2: " | "}, {3: "war"}], ids=["no texts", "no terms", "unknown items"])
def test_content_without_texts_says_what_to_do(texts: dict[int, str] | None) -> None:
    data = Interactions.from_arrays([1, 1, 2], [1, 2, 3], texts=texts).restrict(np.array([0]))
    with pytest.raises(DataError, match=r"needs texts of the items .* have none: .* columns\.text"):
        Content().fit(data, rng=np.random.default_rng(0))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_hybrid_is_the_mean_of_standard_scores(small: Interactions, weight: float) -> None:
    part = small.restrict(np.arange(60))
    settings = SGDSettings(epochs=5)

    def z(scores: Any) -> Any:
        centred = scores - scores[:, known].mean(axis=1, keepdims=True)
        return centred / scores[:, known].std(axis=1, keepdims=True)

    lfm = LFM(settings, factors=4).fit(part, rng=np.random.default_rng(0))
    content = Content().fit(part, rng=np.random.default_rng(0))
    model = Hybrid(LFM(settings, factors=4), HybridSettings(weight=weight)).fit(part, rng=np.random.default_rng(0))
    known = part.item_counts() > 0
    by_content, histories = z(content.scores(small.csr())), small.csr()
    expected = weight * by_content + (1 - weight) * z(lfm.scores(histories))
    np.testing.assert_allclose(model.scores(histories)[:, known], expected[:, known], atol=1e-4)
    # Members are served by their trained vectors.
    members = part.csr()
    trained = lfm.user_vectors @ lfm.item_vectors.T
    best = (weight * z(content.scores(members)) + (1 - weight) * z(trained))[:, known].max(axis=1)
    first = model.recommend_members(members, 1, exclude_seen=False)[:, 0]
    got = weight * z(content.scores(members)) + (1 - weight) * z(trained)
    np.testing.assert_allclose(got[np.arange(60), first], best, atol=1e-4)


def test_hybrid_of_an_item_without_anything_is_finite() -> None:
    """One known item: no spread to divide by."""
    data = Interactions.from_arrays([1], [1], texts={1: "war"})
    model = Hybrid(LFM(SGDSettings(epochs=1), factors=2)).fit(data, rng=np.random.default_rng(0))
    assert model.recommend(row(n_items=1), 1).tolist() == [[0]]

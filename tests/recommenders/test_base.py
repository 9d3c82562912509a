"""Lists: the ranking that all recommenders inherit, and the LFM's fold-in."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from recmia import Interactions
from recmia.engine.ranking import top_k
from recmia.errors import ConfigError, NotFittedError, ProtocolError
from recmia.recommenders import LFM, Recommender, VectorRecommender
from recmia.settings import SGDSettings


class Fixed(Recommender):
    """Gives the scores that it was made with."""

    def __init__(self, scores: Any, known: Any = None) -> None:
        self.table = np.asarray(scores, np.float32)
        self.trained_items = np.ones(self.table.shape[1], np.bool_) if known is None else np.asarray(known)

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        return self

    def scores(self, histories: sparse.csr_array) -> Any:
        return self.table[: histories.shape[0]]


def nobody(n: int, n_items: int) -> sparse.csr_array:
    return sparse.csr_array(np.zeros((n, n_items), np.float32))


@given(st.data())
def test_top_k_is_the_sorted_list(data: st.DataObject) -> None:
    n_items = data.draw(st.integers(1, 12))
    # Few distinct values, so that ties are common.
    scores = data.draw(st.lists(st.integers(-2, 2), min_size=n_items, max_size=n_items))
    known = data.draw(st.lists(st.booleans(), min_size=n_items, max_size=n_items).filter(any))
    seen = data.draw(st.lists(st.booleans(), min_size=n_items, max_size=n_items))
    k = data.draw(st.integers(1, sum(known)))
    allowed = [i for i in range(n_items) if known[i] and not seen[i]]
    expected = sorted(allowed, key=lambda i: (-scores[i], i))[:k]
    got = top_k(np.array([scores], np.float32), sparse.csr_array(np.array([seen], np.float32)), np.array(known), k)
    assert got.tolist() == [expected + [-1] * (k - len(expected))]
    assert got.dtype == np.int32


def test_seen_items_may_stay() -> None:
    histories = sparse.csr_array(np.array([[1, 0, 0]], np.float32))
    model = Fixed([[3, 2, 1]])
    assert model.recommend(histories, 2).tolist() == [[1, 2]]
    assert model.recommend(histories, 2, exclude_seen=False).tolist() == [[0, 1]]


def test_users_are_scored_in_parts(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    class Mean(Fixed):
        def scores(self, histories: sparse.csr_array) -> Any:
            assert histories.shape[0] <= 3
            return histories.toarray() + self.table

    histories = sparse.csr_array(rng.random((10, 6)).astype(np.float32) * (rng.random((10, 6)) < 0.5))
    whole = Fixed(histories.toarray() + np.arange(6)).recommend(histories, 4)
    monkeypatch.setattr("recmia.recommenders.base._SCORES_AT_ONCE", 18)
    np.testing.assert_array_equal(Mean(np.arange(6)[None]).recommend(histories, 4), whole)


@pytest.mark.parametrize(
    ("scores", "words"),
    [([[1, np.nan, 0]], "scores of user 0 are not finite"), ([[1, np.inf, 0]], "not finite"), ([[1, 2]], "shape")],
)
def test_bad_scores_are_caught(scores: Any, words: str) -> None:
    model = Fixed(scores, known=np.ones(3, np.bool_))
    with pytest.raises(ProtocolError, match=words):
        model.recommend(nobody(1, 3), 1)


def test_scores_of_unknown_items_may_be_anything() -> None:
    model = Fixed([[np.nan, 1, 2]], known=[False, True, True])
    assert model.recommend(nobody(1, 3), 2).tolist() == [[2, 1]]


@pytest.mark.parametrize("k", [0, -1, 3])
def test_k_out_of_range(k: int) -> None:
    model = Fixed([[1, 2, 3]], known=[False, True, True])
    with pytest.raises(ConfigError, match=rf"must lie in 1\.\.2, .* got {k}"):
        model.recommend(nobody(1, 3), k)


def test_lists_before_fit() -> None:
    with pytest.raises(NotFittedError):
        LFM().recommend(nobody(1, 3), 1)
    with pytest.raises(NotFittedError):
        _ = LFM().factorization


@pytest.mark.parametrize(
    "settings",
    [
        SGDSettings(feedback="implicit", epochs=5),
        SGDSettings(feedback="implicit", epochs=5, n_negatives=4, regularisation=0.1),
        SGDSettings(feedback="explicit", epochs=5, regularisation=0.05),
        SGDSettings(feedback="explicit", epochs=5, bias=True),
    ],
    ids=["implicit", "more negatives", "explicit", "biased"],
)
def test_fold_in_minimises_the_training_objective(small: Interactions, settings: SGDSettings) -> None:
    """Against scipy's general minimiser on the objective as the formulas state it, sample by sample."""
    from scipy.optimize import minimize

    model = LFM(settings, factors=6).fit(small.restrict(np.arange(60)), rng=np.random.default_rng(0))
    histories = small.csr()[[70, 90]]
    folded = model.fold_in(histories)
    factors = model.factorization
    Q, reg = factors.item.astype(float), settings.regularisation
    for row, p in enumerate(folded):
        liked = histories[[row]].indices
        items = liked[factors.trained_items[liked]]
        ratings = histories[[row]].data[factors.trained_items[liked]]
        unseen = np.setdiff1d(np.flatnonzero(factors.trained_items), items)

        def objective(x: Any, items: Any = items, ratings: Any = ratings, unseen: Any = unseen) -> float:
            vector, bias = (x[:-1], x[-1]) if settings.bias else (x, 0.0)
            size = vector @ vector + bias**2
            if settings.feedback == "explicit":
                errors = ratings - factors.mean - bias - factors.item_bias[items] - Q[items] @ vector
                return float(errors @ errors + reg * len(items) * size)
            weight = settings.n_negatives * len(items) / len(unseen)
            wrong, false = 1 - Q[items] @ vector, Q[unseen] @ vector
            samples = len(items) * (1 + settings.n_negatives)
            return float(wrong @ wrong + weight * false @ false + reg * samples * size)

        best = minimize(objective, np.zeros(6 + settings.bias), method="BFGS", options={"gtol": 1e-8}).x[:6]
        np.testing.assert_allclose(p, best, atol=2e-5)


def test_fold_in_of_nothing_known_is_zero(small: Interactions) -> None:
    model = LFM(SGDSettings(epochs=1), factors=4).fit(small.restrict(np.arange(3)), rng=np.random.default_rng(0))
    unknown = np.flatnonzero(~model.fitted_items())[:2]
    histories = sparse.csr_array(np.zeros((2, small.n_items), np.float32))
    histories = sparse.csr_array((np.ones(2, np.float32), ([1, 1], unknown)), histories.shape)
    np.testing.assert_array_equal(model.fold_in(histories), 0)
    assert (model.recommend(histories, 5) >= 0).all()


def test_lfm_recommends_only_what_it_knows_and_is_new(small: Interactions) -> None:
    part = small.restrict(np.arange(10))
    model = LFM(SGDSettings(epochs=3), factors=8).fit(part, rng=np.random.default_rng(0))
    histories = small.csr()
    lists = model.recommend(histories, 20)
    listed = lists[lists >= 0]
    assert model.fitted_items()[listed].all()
    seen = histories.toarray() > 0
    assert not any(seen[user][row[row >= 0]].any() for user, row in enumerate(lists))


def test_lfm_finds_blocks() -> None:
    """Two groups of users and items that never mix: each user's unseen items of the own group come first."""
    user, item = np.divmod(np.arange(40 * 40), 40)
    same = (user % 2 == item % 2) & (user != item)
    data = Interactions.from_arrays(user[same], item[same])
    model = LFM(SGDSettings(epochs=200, learning_rate=0.05), factors=8).fit(data, rng=np.random.default_rng(0))
    first = model.recommend(data.csr(), 1)[:, 0]
    np.testing.assert_array_equal(first, np.arange(40))


class Fixture(VectorRecommender):
    """Fixed vectors: users of the fit have others than their histories give."""

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        users = np.array([[1, 0], [0, 1]], np.float32)
        items = np.array([[1, 0], [0, 1], [2, 0], [9, 9]], np.float32)
        bias, trained = np.array([0, 0, 0, 1], np.float32), np.array([True, True, True, False])
        self._set_vectors(users[:, : self.factors], items[:, : self.factors], bias, trained)
        return self

    def fold_in(self, histories: sparse.csr_array) -> Any:
        return histories @ self.item_vectors


def test_vectors_of_members_and_of_others() -> None:
    model = Fixture(factors=2).fit(Interactions.from_arrays([0], [0]), rng=np.random.default_rng(0))
    histories = sparse.csr_array(np.array([[0, 1, 0, 0], [1, 0, 0, 0]], np.float32))
    assert model.recommend_members(histories, 2).tolist() == [[2, 0], [1, 2]]
    assert model.recommend(histories, 2).tolist() == [[0, 2], [2, 1]]
    assert model.recommend(histories, 1, exclude_seen=False).tolist() == [[1], [2]]
    np.testing.assert_array_equal(model.scores(histories), [[0, 1, 0, 10], [1, 0, 2, 10]])
    with pytest.raises(ConfigError, match=r"must lie in 1\.\.3"):
        model.recommend_members(histories, 4)


def test_vectors_before_fit() -> None:
    for name in ("user_vectors", "item_vectors", "item_bias"):
        with pytest.raises(NotFittedError, match="this Fixture has no vectors before fit"):
            getattr(Fixture(), name)
    for ask in (Fixture().recommend, Fixture().recommend_members):
        with pytest.raises(NotFittedError):
            ask(nobody(1, 3), 1)


def test_who_ranks_by_vectors() -> None:
    from recmia.recommenders import ALS, BPR, LightGCN

    for kind in (LFM, ALS, BPR, LightGCN):
        assert issubclass(kind, VectorRecommender)
        assert "recommend_members" not in vars(kind)

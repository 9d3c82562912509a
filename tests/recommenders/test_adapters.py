"""Adapters: a copy is fitted, by the seed; users and items keep their rows; fold-in is the library's own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from threadpoolctl import threadpool_limits

from recmia import Interactions
from recmia.errors import ConfigError, DivergedError, NotFittedError, ProtocolError
from recmia.game.serving import serve
from recmia.game.split import split_game
from recmia.recommenders import Recommender
from recmia.recommenders.adapters import FromCornac, FromImplicit, FromLensKit, FromSurprise
from recmia.testing import check_recommender

pytestmark = pytest.mark.end_to_end

# implicit warns when a model is made while BLAS has several threads.
with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
    for package in ("implicit", "cornac", "lenskit", "surprise"):
        pytest.importorskip(package)
    import cornac.models as cornac
    import implicit.als
    import implicit.bpr
    import implicit.lmf
    import implicit.nearest_neighbours
    import surprise
    from lenskit.als import ImplicitMFScorer
    from lenskit.basic import BiasScorer
    from lenskit.funksvd import FunkSVDScorer
    from lenskit.knn import EASEScorer, ItemKNNScorer, UserKNNScorer

    implicit.als.AlternatingLeastSquares()

Make = Callable[[], Recommender]
PERSONAL: dict[str, Make] = {
    "implicit ALS": lambda: FromImplicit(implicit.als.AlternatingLeastSquares(factors=2, regularization=1)),
    "implicit BPR": lambda: FromImplicit(implicit.bpr.BayesianPersonalizedRanking(factors=8, learning_rate=0.1)),
    "implicit LMF": lambda: FromImplicit(implicit.lmf.LogisticMatrixFactorization(factors=8)),
    "implicit cosine": lambda: FromImplicit(implicit.nearest_neighbours.CosineRecommender(K=40)),
    "implicit BM25": lambda: FromImplicit(implicit.nearest_neighbours.BM25Recommender(K=40)),
    "cornac MF": lambda: FromCornac(cornac.MF(k=4, max_iter=200, learning_rate=0.05)),
    "cornac BPR": lambda: FromCornac(cornac.BPR(k=2, max_iter=200, learning_rate=0.05)),
    "cornac EASE": lambda: FromCornac(cornac.EASE(lamb=10)),
    "cornac ItemKNN": lambda: FromCornac(cornac.ItemKNN()),
    "lenskit ItemKNN": lambda: FromLensKit(ItemKNNScorer(feedback="implicit")),
    "lenskit UserKNN": lambda: FromLensKit(UserKNNScorer(feedback="implicit")),
    "lenskit EASE": lambda: FromLensKit(EASEScorer(regularization=10)),
    "lenskit ALS": lambda: FromLensKit(ImplicitMFScorer(features=2, regularization=5, weight=1)),
    "lenskit trained ALS": lambda: FromLensKit(
        ImplicitMFScorer(features=2, regularization=5, weight=1, user_embeddings="prefer")
    ),
    "surprise SVD": lambda: FromSurprise(surprise.SVD(n_factors=4, n_epochs=100, lr_all=0.05)),
}
IMPERSONAL: dict[str, Make] = {
    "cornac UserKNN": lambda: FromCornac(cornac.UserKNN()),
    "lenskit SVD": lambda: FromLensKit(FunkSVDScorer(features=4, epochs=100, learning_rate=0.02)),
    "lenskit bias": lambda: FromLensKit(BiasScorer()),
    "surprise KNN": lambda: FromSurprise(surprise.KNNBasic()),
    # It draws from the global state of numpy for each score.
    "surprise random": lambda: FromSurprise(surprise.NormalPredictor()),
}
FOLDS_IN = {"implicit ALS", "implicit cosine", "implicit BM25", "lenskit ItemKNN", "lenskit UserKNN", "lenskit EASE"}
FOLDS_IN |= {"lenskit ALS", "lenskit bias"}
each_model = pytest.mark.parametrize("name", [*PERSONAL, *IMPERSONAL])


def fitted(name: str, data: Interactions, seed: int = 0) -> Any:
    return (PERSONAL | IMPERSONAL)[name]().fit(data, rng=np.random.default_rng(seed))


@pytest.fixture(scope="module")
def part(small: Interactions) -> Interactions:
    """Few users, so that some items are not known."""
    return small.restrict(np.arange(0, 120, 6))


@each_model
def test_contract(name: str) -> None:
    check_recommender((PERSONAL | IMPERSONAL)[name], personal=name in PERSONAL)


@each_model
def test_same_seed_same_lists(name: str, part: Interactions) -> None:
    one, same, other = (fitted(name, part, seed).recommend_members(part.csr(), 10) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    drawn = {"implicit ALS", "implicit BPR", "implicit LMF", "cornac MF", "cornac BPR"}
    drawn |= {"lenskit ALS", "lenskit trained ALS", "lenskit SVD", "surprise SVD", "surprise random"}
    assert np.array_equal(one, other) != (name in drawn), "the seed reaches the models that draw, and only them"


@each_model
def test_who_is_served(name: str, small: Interactions, rng: np.random.Generator) -> None:
    side = split_game(small, rng=rng).target
    model = fitted(name, side.training_data())
    assert model.folds_in == (name in FOLDS_IN)
    assert serve("popular", model, side, 5, rng=rng).shape == (60, 5)
    for regime in ("fold-in", "trained"):
        if name in FOLDS_IN:
            serve(regime, model, side, 5, rng=rng)
        else:
            with pytest.raises(ConfigError, match=f"cannot serve .* the regime {regime} .* popular, popular-random"):
                serve(regime, model, side, 5, rng=rng)
    if name not in FOLDS_IN:
        with pytest.raises(ProtocolError, match="offers nothing for a user that it was not trained on"):
            model.scores(side.interactions.csr())


def test_a_model_of_the_global_state_leaves_it_alone(part: Interactions) -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    model = fitted("surprise random", part)
    lists = model.recommend_members(part.csr(), 5)
    assert len(np.unique(lists, axis=0)) > 1, "the users do not share their random numbers"
    with pytest.raises(ConfigError, match="k, the list length"):
        model.recommend_members(part.csr(), 0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # type: ignore[index]


def expected(ids: Any, known: Any) -> Any:
    return np.flatnonzero(known)[ids]


@pytest.mark.parametrize("name", ["implicit cosine", "implicit BM25", "implicit ALS", "implicit BPR"])
def test_lists_are_those_of_implicit(name: str, part: Interactions) -> None:
    """Asked as its documentation says, on a table with the known items alone."""
    known = part.item_counts() > 0
    table = sparse.csr_matrix(part.csr()[:, np.flatnonzero(known)])
    table.data = np.ones_like(table.data)
    model = fitted(name, part)
    peer = model._fitted
    with threadpool_limits(1, user_api="blas"):
        members, _ = peer.recommend(np.arange(part.n_users), table, N=5)
    lists = model.recommend_members(part.csr(), 5)
    # Among equal scores implicit may choose another item.
    assert np.mean(lists == expected(members, known)) > 0.95
    if model.folds_in:
        with threadpool_limits(1, user_api="blas"):
            strangers, _ = peer.recommend(np.arange(part.n_users), table, N=5, recalculate_user=True)
        assert np.mean(model.recommend(part.csr(), 5) == expected(strangers, known)) > 0.95


def test_users_keep_their_rows(part: Interactions) -> None:
    """A member is served by its own vector: another order of the users gives each the other's list."""
    for name in ("implicit BPR", "cornac BPR", "surprise SVD", "lenskit SVD"):
        model = fitted(name, part)
        nobody = sparse.csr_array(part.csr().shape, dtype=np.float32)
        lists = model.recommend_members(nobody, 5)
        scores = model._all_items(nobody, np.arange(part.n_users))
        for user in range(part.n_users):
            one = model._all_items(nobody[[user]], np.array([user]))
            np.testing.assert_allclose(one[0], scores[user], rtol=1e-4, atol=1e-6)
        assert len(np.unique(lists, axis=0)) > 1, name


def test_ratings_reach_the_models_of_ratings(small: Interactions, part: Interactions) -> None:
    """SVD gives a user's items of rating 5 more than those of rating 1."""
    dense = part.csr().toarray()
    for name in ("cornac MF", "surprise SVD", "lenskit SVD"):
        scores = fitted(name, part)._all_items(part.csr(), np.arange(part.n_users))
        assert scores[dense >= 4.5].mean() > scores[(dense > 0) & (dense <= 2.5)].mean() + 0.5, name


def test_the_model_given_stays_as_it_is(part: Interactions) -> None:
    template = implicit.als.AlternatingLeastSquares(factors=3, random_state=5, num_threads=2)
    model = FromImplicit(template).fit(part, rng=np.random.default_rng(0))
    assert (template.item_factors, template.random_state, template.num_threads) == (None, 5, 2)
    with pytest.raises(ConfigError, match="AlternatingLeastSquares is fitted already"):
        FromImplicit(model._fitted)


def test_before_fit() -> None:
    with pytest.raises(NotFittedError, match="EASEScorer was asked for scores before fit"):
        PERSONAL["lenskit EASE"]().scores(sparse.csr_array(np.zeros((1, 3), np.float32)))


def test_nan_is_said(part: Interactions) -> None:
    model = fitted("implicit BPR", part)
    model._fitted.user_factors[3] = np.nan
    with pytest.raises(DivergedError, match="BayesianPersonalizedRanking gives scores that are NaN"):
        model.recommend_members(part.csr(), 5)

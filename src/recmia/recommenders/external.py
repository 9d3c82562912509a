r"""Adapters: a model of another library as a `Recommender`.

Each takes a model that is not fitted yet, fits a copy of it on the known items and on the users of the fit, and asks
the library for scores; the ranking is recmia's own, so the lists keep the contract whatever the library's would be. The
copy's seed is drawn from `rng`, and it trains in one thread, since the libraries' threads race for shared factors.

What a library offers for a user that it never saw is used for fold-in. Most models offer nothing: `folds_in` is then
False, and such a model can be audited in the regimes `popular` and `popular-random` only.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from copy import deepcopy
from typing import Any, Self

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from recmia.errors import ConfigError, DivergedError, NotFittedError, ProtocolError, import_extra
from recmia.interactions import Float32, Int32, Int64, Interactions
from recmia.recommenders.base import Recommender


class _External(Recommender):
    """A copy of a model, trained on items numbered 0 .. n_known-1 and users as in the fit.

    A subclass writes `_train` and `_scores`.

    Parameters
    ----------
    model : object
        Of the library, not fitted; it stays as it is.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._fitted: Any = None

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Train a copy of the model; see `Recommender.fit`."""
        known = interactions.item_counts() > 0
        model = deepcopy(self.model)
        with threadpool_limits(1, user_api="blas"):
            self._fitted = self._train(
                model, interactions, _columns(interactions.csr(), known), int(rng.integers(2**31))
            )
        self.known = known
        return self

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Score all items as the library does for a user that it never saw; ProtocolError if it does not."""
        if self._fitted is None:
            raise NotFittedError(f"{type(self).__name__} was asked for scores before fit")
        if not self.folds_in:
            raise ProtocolError(
                f"{type(self.model).__name__} offers nothing for a user that it was not trained on; ask for the lists "
                "of members"
            )
        return self._all_items(histories, None)

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Rank the known items by the library's scores for a user of the fit; see `Recommender.recommend_members`."""

        def score(rows: slice) -> Float32:
            return self._all_items(histories[rows], np.arange(rows.start, rows.stop))

        return self._rank(score, histories, k, exclude_seen)

    def _all_items(self, histories: sparse.csr_array, users: Int64 | None) -> Float32:
        known = self.fitted_items()
        scores = np.zeros(histories.shape, np.float32)
        with threadpool_limits(1, user_api="blas"):
            scores[:, known] = self._scores(self._fitted, _columns(histories, known), users)
        if np.isnan(scores).any():
            raise DivergedError(f"{type(self.model).__name__} gives scores that are NaN")
        return scores

    @abstractmethod
    def _train(self, model: Any, interactions: Interactions, histories: sparse.csr_matrix, seed: int) -> Any:
        """Train the model and return what `_scores` needs; the columns of `histories` are the known items."""

    @abstractmethod
    def _scores(self, fitted: Any, histories: sparse.csr_matrix, users: Int64 | None) -> Any:
        """Score the known items, float, shape (n, n_known), for users of the fit or, without `users`, for strangers."""


class FromImplicit(_External):
    """A model of the library `implicit`.

    Every interaction counts 1. ALS folds in by its `recalculate_user`, and item-item models score a history by their
    similarities, members' too. BPR and logistic MF do not fold in (recmia's own `bpr` does).

    Parameters
    ----------
    model : implicit.recommender_base.RecommenderBase
        For example ``implicit.als.AlternatingLeastSquares(factors=32)``.

    Raises
    ------
    ConfigError
        If the model is fitted already: `implicit` would go on from there.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        if any(getattr(model, name, None) is not None for name in ("item_factors", "similarity")):
            raise ConfigError(f"this {type(model).__name__} is fitted already; give a new one, which fit will train")
        self.folds_in = hasattr(model, "similarity") or type(model).__name__ == "AlternatingLeastSquares"

    def _train(self, model: Any, interactions: Interactions, histories: sparse.csr_matrix, seed: int) -> Any:
        model.num_threads, model.random_state = 1, seed
        histories.data[:] = 1
        # The item-item models convert the matrix themselves, and warn of it.
        with warnings.catch_warnings(
            action="ignore", category=import_extra("implicit.utils", "peers").ParameterWarning
        ):
            model.fit(histories, show_progress=False)
        return model

    def _scores(self, fitted: Any, histories: sparse.csr_matrix, users: Int64 | None) -> Any:
        histories.data[:] = 1
        if hasattr(fitted, "similarity"):
            return (histories @ fitted.similarity).toarray()
        if users is None:
            vectors = fitted.recalculate_user(np.arange(histories.shape[0]), histories)
        else:
            vectors = fitted.user_factors[users]
        return vectors @ fitted.item_factors.T


class FromCornac(_External):
    """A model of the library `cornac`, trained on the values of the interactions; it serves the users of the fit only.

    Parameters
    ----------
    model : cornac.models.Recommender
        For example ``cornac.models.MF(k=32)``. Its `seed` is set; one that ignores it is not reproducible.
    """

    folds_in = False

    def _train(self, model: Any, interactions: Interactions, histories: sparse.csr_matrix, seed: int) -> Any:
        data = import_extra("cornac.data", "peers").Dataset
        n_users, n_items = histories.shape
        table = histories.tocoo()
        # Many a constructor makes its generator from the seed, so that only a new model takes another seed.
        return model.clone({"seed": seed, "num_threads": 1, "verbose": False}).fit(
            data(
                num_users=n_users,
                num_items=n_items,
                uid_map={user: user for user in range(n_users)},
                iid_map={item: item for item in range(n_items)},
                uir_tuple=(table.row.astype(np.int64), table.col.astype(np.int64), table.data.astype(np.float64)),
                seed=seed,
            )
        )

    def _scores(self, fitted: Any, histories: sparse.csr_matrix, users: Int64 | None) -> Any:
        assert users is not None
        return np.stack([np.ravel(fitted.score(int(user))) for user in users])


class FromLensKit(_External):
    """A scorer of the library `lenskit`, trained on the ratings where the data have any.

    Members are asked for with their user number and their history, strangers with the history alone. Whether the scorer
    can answer that is tried in `fit`: one that cannot gives no score to anything. Items that it gives no score, for
    want of neighbours for example, come last.

    Parameters
    ----------
    model : lenskit.pipeline.Component
        For example ``lenskit.knn.ItemKNNScorer(feedback="implicit")``. A scorer of the ALS family solves everybody's
        vector from the history; with ``user_embeddings="prefer"`` it keeps members' trained ones, and does not fold in.
    """

    def _train(self, model: Any, interactions: Interactions, histories: sparse.csr_matrix, seed: int) -> Any:
        table = histories.tocoo()
        columns = {"user_id": table.row, "item_id": table.col}
        if interactions.rated:
            columns["rating"] = table.data
        frame = import_extra("pandas", "peers").DataFrame(columns)
        data = import_extra("lenskit.data", "peers").from_interactions_df(frame)
        model.train(data, import_extra("lenskit.training", "peers").TrainingOptions(rng=seed))
        self._rated = interactions.rated
        busiest = int(np.argmax(np.diff(histories.indptr)))
        answer = self._ask(model, histories[[busiest]], None, 0)
        self.folds_in = bool(np.isfinite(answer).any())
        return model

    def _scores(self, fitted: Any, histories: sparse.csr_matrix, users: Int64 | None) -> Any:
        answers = [self._ask(fitted, histories, users, row) for row in range(histories.shape[0])]
        return np.stack([np.where(np.isnan(answer), _LAST, answer) for answer in answers])

    def _ask(self, fitted: Any, histories: sparse.csr_matrix, users: Int64 | None, row: int) -> Any:
        library = import_extra("lenskit.data", "peers")
        part = slice(histories.indptr[row], histories.indptr[row + 1])
        ratings = {"rating": histories.data[part]} if self._rated else {}
        history = library.ItemList(item_ids=histories.indices[part], **ratings)
        query = library.RecQuery(user_id=None if users is None else int(users[row]), history_items=history)
        # A mean over nothing is how some scorers come to give no score.
        with np.errstate(invalid="ignore"):
            return fitted(query, library.ItemList(item_ids=np.arange(histories.shape[1]))).scores()


class FromSurprise(_External):
    """A model of the library `scikit-surprise`, trained on the values; it serves the users of the fit only.

    Parameters
    ----------
    model : surprise.AlgoBase
        For example ``surprise.SVD(n_factors=32)``. Its `random_state` is set. It is asked for one rating at a time,
        which takes seconds for a million pairs of user and item.
    """

    folds_in = False

    def _train(self, model: Any, interactions: Interactions, histories: sparse.csr_matrix, seed: int) -> Any:
        library = import_extra("surprise", "peers")
        table = histories.tocoo()
        columns = (table.row.tolist(), table.col.tolist(), table.data.tolist())
        ratings = [(u, i, r, None) for u, i, r in zip(*columns, strict=True)]
        data = library.Dataset(library.Reader(rating_scale=(table.data.min(), table.data.max())))
        model.random_state, model.verbose = seed, False
        return model.fit(data.construct_trainset(ratings))

    def _scores(self, fitted: Any, histories: sparse.csr_matrix, users: Int64 | None) -> Any:
        assert users is not None
        items = range(histories.shape[1])
        return np.array([[fitted.predict(user, item, clip=False).est for item in items] for user in users.tolist()])


# The score of an item that a library gives none: finite, and below any.
_LAST = np.finfo(np.float32).min


def _columns(histories: sparse.csr_array, known: Any) -> sparse.csr_matrix:
    """The columns of the known items, a copy, in the form that the libraries ask for."""
    return sparse.csr_matrix(histories[:, np.flatnonzero(known)])

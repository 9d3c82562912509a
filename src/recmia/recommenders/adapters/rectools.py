"""Models of the library RecTools, sequential ones included."""

from __future__ import annotations

import logging
import warnings
from typing import Any, Self

import numpy as np
from scipy import sparse

from recmia.data.interactions import Float32, Int64, Interactions
from recmia.recommenders.adapters.base import Adapter

# The score of an item to which the library gives none: finite, and below any other.
_LAST = np.finfo(np.float32).min
# Scores that are asked for at once: bounds the tables in which RecTools gives them.
_SCORES_AT_ONCE = 2**22


class FromRecTools(Adapter):
    """A model of the library `rectools`, trained on the values and, if it is a transformer, on the order of events.

    Models that keep a vector for each user are asked about members by these vectors. Of them only ALS folds in, by
    implicit's `recalculate_user`. All others are given the history with each question, for members as well. Items to
    which a model gives no score come last, such as those that a transformer never sees because sessions are cut.

    Times are those of the data. A transformer gets the position in the order of events instead, one second apart.

    Parameters
    ----------
    model : rectools.models.base.ModelBase
        For example ``rectools.models.SASRecModel(epochs=5)``. Settings named `random_state` are set. One that needs
        features of users or items, such as DSSM, cannot be trained.
    """

    library = "rectools"

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._has_vectors = _is(model, "VectorModel")
        self.folds_in = not self._has_vectors or _is(model, "ImplicitALSWrapperModel")
        self.uses_order = _is(model, "TransformerModelBase")
        self.window = model.session_max_len if self.uses_order else None
        # Lightning lists the devices for each copy of a model, and an audit makes many.
        logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Train a copy of the model; see `Recommender.fit`."""
        # Lightning gives advice on workers and loggers, and pydantic on the settings of a transformer.
        with warnings.catch_warnings(action="ignore"):
            return super().fit(interactions, rng=rng)

    def _train(self, model: Any, interactions: Interactions, histories: sparse.csr_matrix, seed: int) -> Any:
        data = _dataset(histories, None if self.uses_order else interactions.time)
        return _seeded(model, seed).fit(data), data

    def _scores(self, fitted: Any, histories: sparse.csr_matrix, users: Int64 | None) -> Any:
        model, data = fitted
        n, n_items = histories.shape
        if _is(model, "RandomModel"):
            # It has a generator of its own, which would go on from question to question.
            model.random_gen = type(model.random_gen)(model.random_state)
        if self._has_vectors and users is None:
            return model.model.recalculate_user(np.arange(n), histories) @ model.get_vectors()[1].T
        scores = np.empty((n, n_items), np.float32)
        step = max(1, _SCORES_AT_ONCE // n_items)
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            if self._has_vectors and users is not None:
                scores[rows] = _ask(model, data, users[rows], n_items)
            else:
                scores[rows] = _ask_about(model, histories[rows])
        return scores


def _is(model: Any, name: str) -> bool:
    """Tell whether a class of this name is among the bases, without the import of what else its module needs."""
    return any(kind.__name__ == name for kind in type(model).__mro__)


def _seeded(model: Any, seed: int) -> Any:
    """Return a new model with the same settings, but for its seeds and its threads."""
    try:
        settings = model.get_config()
    except NotImplementedError:
        # DSSM, or a class of the user's. It draws from the global states, if at all.
        return model
    fixed = {"random_state": seed, "num_threads": 1, "recommend_n_threads": 1}
    wrapped = settings.get("model")
    for table in (settings, wrapped if isinstance(wrapped, dict) else {}):
        table.update({name: value for name, value in fixed.items() if name in table})
    copy = type(model).from_config(settings)
    if _is(model, "PureSVDModel"):
        # With numpy 1.26, scipy 1.17 cannot make a generator of a seed.
        copy.random_state = np.random.default_rng(seed)
    return copy


def _dataset(histories: sparse.csr_matrix, times: Int64 | None = None) -> Any:
    """Return the library's data set of users and items that are called by their row; without times, by position."""
    import pandas as pd
    from rectools.dataset import Dataset, IdMap
    from rectools.dataset import Interactions as Table

    n_users, n_items = histories.shape
    lengths = np.diff(histories.indptr)
    if times is None:
        times = np.arange(histories.nnz) - np.repeat(histories.indptr[:-1], lengths)
    table = pd.DataFrame(
        {
            "user_id": np.repeat(np.arange(n_users), lengths),
            "item_id": histories.indices,
            "weight": histories.data,
            "datetime": pd.to_datetime(times, unit="s"),
        }
    )
    users, items = IdMap(np.arange(n_users)), IdMap(np.arange(n_items))
    return Dataset(users, items, Table.from_raw(table, users, items))


def _ask(model: Any, data: Any, users: Int64, n_items: int, context: Any = None) -> Float32:
    with warnings.catch_warnings(action="ignore"):
        answer = model.recommend(
            users, data, k=n_items, filter_viewed=False, add_rank_col=False, on_unsupported_targets="ignore",
            context=context,
        )  # fmt: skip
    scores = np.full((len(users), n_items), _LAST, np.float32)
    scores[answer["user_id"] - users[0], answer["item_id"]] = answer["score"]
    return scores


def _ask_about(model: Any, histories: sparse.csr_matrix) -> Float32:
    """Return the scores for histories alone."""
    import pandas as pd

    n, n_items = histories.shape
    # Without one more user, who has the last item, the data set could be empty, or its matrix too narrow.
    more = sparse.csr_matrix((np.ones(1, np.float32), ([0], [n_items - 1])), (1, n_items))
    asked = sparse.vstack([histories, more], format="csr")
    users = np.arange(n + 1)
    context = None
    if model.require_recommend_context:
        after = pd.to_datetime(np.diff(asked.indptr), unit="s")
        context = pd.DataFrame({"user_id": users, "weight": 1.0, "datetime": after})
    return _ask(model, _dataset(asked), users, n_items, context)[:n]

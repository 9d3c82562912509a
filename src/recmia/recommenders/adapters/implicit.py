"""Models of the library implicit."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy import sparse

from recmia.data.interactions import Int64, Interactions
from recmia.errors import ConfigError, import_extra
from recmia.recommenders.adapters.base import Adapter


class FromImplicit(Adapter):
    """A model of the library `implicit`.

    Every interaction counts 1. ALS folds in by its `recalculate_user`. Item-item models score a history by their
    similarities, for members as well. BPR and logistic MF do not fold in (recmia's own `bpr` does).

    Parameters
    ----------
    model : implicit.recommender_base.RecommenderBase
        For example ``implicit.als.AlternatingLeastSquares(factors=32)``.

    Raises
    ------
    ConfigError
        If the model is fitted already: `implicit` would continue from there.
    """

    library = "implicit"

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        if any(getattr(model, name, None) is not None for name in ("item_factors", "similarity")):
            raise ConfigError(f"this {type(model).__name__} is fitted already; give a new one, which fit will train")
        self.folds_in = hasattr(model, "similarity") or type(model).__name__ == "AlternatingLeastSquares"

    @classmethod
    def takes(cls, model: object) -> bool:
        """Tell whether an object is a model of the library itself: a subclass may have a `recommend` of its own."""
        return cls._defines(type(model))

    def _train(self, model: Any, interactions: Interactions, histories: sparse.csr_matrix, seed: int) -> Any:
        model.num_threads, model.random_state = 1, seed
        histories.data[:] = 1
        # The item-item models convert the matrix themselves, and warn about it.
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

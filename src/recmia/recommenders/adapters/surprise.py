"""Models of the library Surprise."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from recmia.data.interactions import Int64, Interactions
from recmia.errors import import_extra
from recmia.recommenders.adapters.base import Adapter


class FromSurprise(Adapter):
    """A model of the library `scikit-surprise`, trained on the values; it serves the users of the fit only.

    Parameters
    ----------
    model : surprise.AlgoBase
        For example ``surprise.SVD(n_factors=32)``. Its `random_state` is set. It is asked for one rating at a time,
        which takes seconds for a million pairs of user and item.
    """

    library = "surprise"
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

"""Models of the library cornac."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from recmia.data.interactions import Int64, Interactions
from recmia.errors import import_extra
from recmia.recommenders.adapters.base import Adapter


class FromCornac(Adapter):
    """A model of the library `cornac`, trained on the values of the interactions; it serves the users of the fit only.

    Parameters
    ----------
    model : cornac.models.Recommender
        For example ``cornac.models.MF(k=32)``. Its `seed` is set. One that draws neither by it nor from the global
        random states is not reproducible.
    """

    library = "cornac"
    folds_in = False

    def _train(self, model: Any, interactions: Interactions, histories: sparse.csr_matrix, seed: int) -> Any:
        data = import_extra("cornac.data", "peers").Dataset
        n_users, n_items = histories.shape
        table = histories.tocoo()
        # Many constructors make their generator from the seed, so only a new model takes another seed.
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

"""Scorers of the library LensKit."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from recmia.data.interactions import Int64, Interactions
from recmia.errors import import_extra
from recmia.recommenders.adapters.base import Adapter

# The score of an item to which the library gives none: finite, and below any other.
_LAST = np.finfo(np.float32).min


class FromLensKit(Adapter):
    """A scorer of the library `lenskit`, trained on the ratings where the data have any.

    It is asked about members by user number and history, and about other users by the history alone. `fit` tries
    whether the scorer can answer the latter; one that cannot gives no score to any item. Items to which it gives no
    score, for lack of neighbours for example, come last.

    Parameters
    ----------
    model : lenskit.pipeline.Component
        For example ``lenskit.knn.ItemKNNScorer(feedback="implicit")``. A scorer of the ALS family solves the vector of
        every user from the history; with ``user_embeddings="prefer"`` it keeps the trained ones of members, and does
        not fold in.
    """

    library = "lenskit"

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
        # Some scorers take a mean over nothing where they give no score.
        with np.errstate(invalid="ignore"):
            return fitted(query, library.ItemList(item_ids=np.arange(histories.shape[1]))).scores()

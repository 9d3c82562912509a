"""A system that recmia does not know: item neighbours, as an object and as a command, with the same answers.

Called as ``neighbours.py INTERACTIONS HISTORIES K LISTS``.
"""

import sys
from typing import Any

import numpy as np


class Neighbours:
    """The sum over the history of how many users share two items; ties by the lower row."""

    folds_in = True

    def fit(self, user_items: Any) -> None:
        seen = (user_items.toarray() > 0).astype(np.int64)
        self.shared = seen.T @ seen

    def recommend(self, userid: Any, user_items: Any, N: int, filter_already_liked_items: bool) -> Any:
        history = user_items.toarray() > 0
        scores = history.astype(np.int64) @ self.shared
        if filter_already_liked_items:
            scores[history] = -1
        return np.argsort(-scores, axis=1, kind="stable")[:, :N]


def main(interactions: str, histories: str, k: str, lists: str) -> None:
    import polars as pl
    from scipy import sparse

    log, asked = pl.read_csv(interactions), pl.read_csv(histories, schema_overrides={"user": pl.String})
    users, user = np.unique(log["user"].to_numpy(), return_inverse=True)
    items, item = np.unique(log["item"].to_numpy(), return_inverse=True)
    model = Neighbours()
    model.fit(sparse.csr_array((np.ones(len(user)), (user, item)), (len(users), len(items))))
    asked = asked.filter(pl.col("item").is_in(items.tolist()))
    names, row = np.unique(asked["user"].to_numpy().astype(str), return_inverse=True)
    column = np.searchsorted(items, asked["item"].to_numpy())
    wanted = sparse.csr_array((np.ones(len(row)), (row, column)), (len(names), len(items)))
    found = model.recommend(None, wanted, int(k), True)
    rows = {"user": np.repeat(names, found.shape[1]), "item": items[found.ravel()],
            "rank": np.tile(np.arange(1, found.shape[1] + 1), len(names))}  # fmt: skip
    pl.DataFrame(rows).write_csv(lists)


if __name__ == "__main__":
    main(*sys.argv[1:5])

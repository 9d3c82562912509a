"""EASE against its closed form as the paper states it, and against a general minimiser."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recmia import Interactions
from recmia.recommenders import EASE
from recmia.settings import EASESettings


def weights(matrix: Any, reg: float) -> Any:
    """Steck 2019, algorithm 1."""
    P = np.linalg.inv(matrix.T @ matrix + reg * np.eye(matrix.shape[1]))
    B = P / -np.diag(P)
    B[np.diag_indices_from(B)] = 0
    return B


def binary(data: Interactions) -> Any:
    return (data.csr().toarray() > 0).astype(float)


@pytest.mark.parametrize("reg", [0.5, 100])
@pytest.mark.parametrize("form", ["fewer users than items", "fewer items than users"])
def test_both_forms_are_the_paper_s(
    small: Interactions, form: str, reg: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recmia.recommenders.linear._ITEMS_AT_ONCE", 64)
    part = small.restrict(np.arange(30))
    if form == "fewer items than users":
        # 15 items are left to the 30 users; the others become unknown.
        popular = np.argsort(-part.item_counts(), kind="stable")[:15]
        part = part.take(np.flatnonzero(np.isin(part.item, popular)))
    known = part.item_counts() > 0
    expected = np.zeros((small.n_users, small.n_items))
    expected[:, known] = binary(small)[:, known] @ weights(binary(part)[:, known], reg)
    model = EASE(EASESettings(regularisation=reg)).fit(part, rng=np.random.default_rng(0))
    assert (part.n_users < known.sum()) == (form == "fewer users than items")
    np.testing.assert_allclose(model.scores(small.csr())[:, known], expected[:, known], rtol=1e-4, atol=1e-5)


def test_the_weights_minimise_the_objective() -> None:
    """|X - XB|^2 + lambda |B|^2 with a zero diagonal: column by column a ridge regression on the other items."""
    rng = np.random.default_rng(3)
    X = (rng.random((12, 6)) < 0.5).astype(float)
    user, item = np.nonzero(X)
    model = EASE(EASESettings(regularisation=0.7)).fit(Interactions.from_arrays(user, item), rng=rng)
    B = np.zeros((6, 6))
    for j in range(6):
        others = np.delete(np.arange(6), j)
        A = X[:, others]
        B[others, j] = np.linalg.solve(A.T @ A + 0.7 * np.eye(5), A.T @ X[:, j])
    histories = Interactions.from_arrays(user, item).csr()
    np.testing.assert_allclose(model.scores(histories), X @ B, atol=1e-5)

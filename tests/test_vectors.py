"""User vectors: the formula, unknown items, and no NaN anywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmia import Interactions
from recmia.vectors import AttackerView, RankWeights, rank_weights


@pytest.mark.parametrize("kind", ["uniform", "linear"])
def test_rank_weights_sum_to_one(kind: RankWeights) -> None:
    assert rank_weights(kind, 7).sum() == pytest.approx(1)


def test_rank_weights_of_zhangs_code() -> None:
    np.testing.assert_allclose(rank_weights("linear", 3), [3 / 6, 2 / 6, 1 / 6])


@given(st.integers(0, 2**32 - 1), st.sampled_from(["uniform", "linear"]))
def test_formula_by_loops(seed: int, weights: RankWeights) -> None:
    rng = np.random.default_rng(seed)
    n_items, l, k = 9, 3, 4  # noqa: E741
    known = rng.random(n_items) < 0.7
    known[0] = True
    vectors = rng.normal(size=(n_items, l)) * known[:, None]
    users = 5
    rows = [rng.choice(n_items, rng.integers(1, n_items), replace=False) for _ in range(users)]
    data = Interactions.from_arrays(
        np.concatenate([np.full(len(row), u) for u, row in enumerate(rows)] + [np.full(n_items, users)]),
        np.concatenate([*rows, np.arange(n_items)]),
    )
    lists = np.array([rng.permutation(n_items)[:k] for _ in range(users + 1)], np.int32)
    lists[0, 2:] = -1
    view = AttackerView(vectors, known, data.item_counts(), weights)
    seen = view.observe(data, lists)
    histories = [*rows, np.arange(n_items)]
    w = rank_weights(weights, k)
    for u in range(users + 1):
        history = [i for i in histories[u] if known[i]]
        ranks = [j for j in range(k) if lists[u, j] >= 0 and known[lists[u, j]]]
        assert seen.has_vector[u] == bool(history and ranks)
        if not seen.has_vector[u]:
            assert (seen.user_vectors[u] == 0).all()
            continue
        total = sum(w[j] for j in ranks)
        expected = sum(vectors[i] for i in history) / len(history)
        expected -= sum(w[j] * vectors[lists[u, j]] for j in ranks) / total
        np.testing.assert_allclose(seen.user_vectors[u], expected, atol=1e-12)


def test_unknown_items_are_reported() -> None:
    data = Interactions.from_arrays([0, 0, 1], [0, 1, 1])
    view = AttackerView(np.array([[1.0], [0.0]]), np.array([True, False]), np.array([1, 2]))
    seen = view.observe(data, np.array([[1], [0]], np.int32))
    assert list(view.unknown_shares(seen)) == pytest.approx([2 / 3, 1 / 2])
    # User 0 has a list that the attacker cannot read, user 1 such a history.
    assert seen.has_vector.tolist() == [False, False]
    assert np.isfinite(seen.user_vectors).all()


def test_the_popular_mean_is_of_items_with_a_vector() -> None:
    data = Interactions.from_arrays([0, 0, 1], [0, 1, 1])
    view = AttackerView(np.array([[3.0], [0.0]]), np.array([True, False]), np.array([1, 2]))
    assert view.observe(data, np.array([[0], [0]], np.int32)).popular_mean.tolist() == [3.0]

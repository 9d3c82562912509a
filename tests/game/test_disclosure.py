"""Disclosure: recall and precision of what a query leaves out, against a plain computation."""

from __future__ import annotations

import numpy as np
import pytest

from recmia import Interactions
from recmia.data.interactions import Int32
from recmia.game.disclosure import disclosed
from recmia.game.queries import draw_queries, known_part


def plain(parts: list[set[int]], user: Int32, answers: Int32, group: set[int]) -> tuple[float, float]:
    recall: dict[int, list[float]] = {}
    precision: dict[int, list[float]] = {}
    for part, u, answer in zip(parts, user.tolist(), answers.tolist(), strict=True):
        if u in group and part:
            recall.setdefault(u, []).append(len(part & set(answer)) / len(part))
            precision.setdefault(u, []).append(len(part & set(answer[:10])) / 10)
    return tuple(float(np.mean([np.mean(one) for one in of.values()])) for of in (recall, precision))  # type: ignore


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_against_a_plain_computation(small: Interactions, share: float) -> None:
    rng = np.random.default_rng(0)
    member = rng.random(small.n_users) < 0.5
    known = known_part(small, share, rng)
    queries = draw_queries(known, 4, 0.5, rng)
    answers = np.stack([rng.permutation(small.n_items)[:20] for _ in range(len(queries))]).astype(np.int32)
    rows = disclosed(small, known, member, queries, answers)
    whole = [set(small.item[small.user == u].tolist()) for u in range(small.n_users)]
    told = [set(known.item[known.user == u].tolist()) for u in range(small.n_users)]
    parts = {"hidden": [set(queries.hidden[[row]].indices.tolist()) for row in range(len(queries))]}
    if share < 1:
        parts["unknown"] = [whole[u] - told[u] for u in queries.user]
    assert {row["part"] for row in rows} == set(parts)
    for row in rows:
        group = set(np.flatnonzero(member if row["users"] == "members" else ~member).tolist())
        recall, precision = plain(parts[row["part"]], queries.user, answers, group)
        assert row["value"] == pytest.approx({"recall@20": recall, "precision@10": precision}[row["metric"]])
        assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1


def test_short_answers(small: Interactions) -> None:
    queries = draw_queries(small, 2, 0.5, np.random.default_rng(0))
    answers = np.full((len(queries), 5), -1, np.int32)
    rows = disclosed(small, small, np.arange(small.n_users) % 2 == 0, queries, answers)
    assert {row["metric"] for row in rows} == {"recall@5", "precision@5"}
    assert {row["value"] for row in rows} == {0.0}

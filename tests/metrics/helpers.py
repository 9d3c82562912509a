"""Labelled scores, and the parts of an estimate."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from recmia.metrics import Estimate


@st.composite
def labelled(draw: st.DrawFn) -> tuple[Any, Any]:
    """Scores with many ties, and both kinds of users."""
    member = draw(st.lists(st.booleans(), min_size=2, max_size=40).filter(lambda m: 0 < sum(m) < len(m)))
    score = draw(st.lists(st.integers(-3, 3), min_size=len(member), max_size=len(member)))
    return np.array(member), np.array(score, np.float64)


def figures(estimate: Estimate) -> tuple[float, float, float]:
    assert estimate.value is not None
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.value, estimate.low, estimate.high


def by_pairs(member: Any, score: Any) -> float:
    gap = score[member][:, None] - score[~member][None]
    return float(((gap > 0) + 0.5 * (gap == 0)).mean())

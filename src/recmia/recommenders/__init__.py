"""Recommenders behind one interface.

Names are imported when they are first used, so that the names and traits of recommenders are known without the
libraries behind them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recmia.recommenders.base import Recommender, VectorRecommender
    from recmia.recommenders.graph import LightGCN
    from recmia.recommenders.implicit_feedback import ALS, BPR
    from recmia.recommenders.lfm import LFM
    from recmia.recommenders.linear import EASE
    from recmia.recommenders.neighbours import ItemKNN, UserKNN
    from recmia.recommenders.neural import NCF
    from recmia.recommenders.private import PrivateLFM
    from recmia.recommenders.sequential import GRU4Rec, SASRec
    from recmia.recommenders.simple import Content, Hybrid, Popularity, Random
    from recmia.recommenders.spec import RECOMMENDERS, RecommenderSpec, resolve_recommender
    from recmia.recommenders.user.command import CommandRecommender
    from recmia.recommenders.user.objects import FromObject, UserCode

_PLACES = {
    "Recommender": "base",
    "VectorRecommender": "base",
    "LightGCN": "graph",
    "ALS": "implicit_feedback",
    "BPR": "implicit_feedback",
    "LFM": "lfm",
    "EASE": "linear",
    "ItemKNN": "neighbours",
    "UserKNN": "neighbours",
    "NCF": "neural",
    "PrivateLFM": "private",
    "GRU4Rec": "sequential",
    "SASRec": "sequential",
    "Content": "simple",
    "Hybrid": "simple",
    "Popularity": "simple",
    "Random": "simple",
    "RECOMMENDERS": "spec",
    "RecommenderSpec": "spec",
    "resolve_recommender": "spec",
    "CommandRecommender": "user.command",
    "FromObject": "user.objects",
    "UserCode": "user.objects",
}
__all__ = [
    "ALS",
    "BPR",
    "EASE",
    "LFM",
    "NCF",
    "RECOMMENDERS",
    "CommandRecommender",
    "Content",
    "FromObject",
    "GRU4Rec",
    "Hybrid",
    "ItemKNN",
    "LightGCN",
    "Popularity",
    "PrivateLFM",
    "Random",
    "Recommender",
    "RecommenderSpec",
    "SASRec",
    "UserCode",
    "UserKNN",
    "VectorRecommender",
    "resolve_recommender",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module 'recmia.recommenders' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"recmia.recommenders.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """All public names, imported or not."""
    return sorted({*globals(), *__all__})

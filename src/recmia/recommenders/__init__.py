"""Recommenders behind one interface."""

from recmia.recommenders.base import Recommender
from recmia.recommenders.lfm import LFM
from recmia.recommenders.own import Own, load_own
from recmia.recommenders.registry import RECOMMENDERS, RecommenderSettings, is_own, make_recommender, used_settings

__all__ = [
    "LFM",
    "RECOMMENDERS",
    "Own",
    "Recommender",
    "RecommenderSettings",
    "is_own",
    "load_own",
    "make_recommender",
    "used_settings",
]

"""Recommenders behind one interface."""

from recmia.recommenders.base import Recommender
from recmia.recommenders.lfm import LFM
from recmia.recommenders.registry import RECOMMENDERS, RecommenderSettings, make_recommender, used_settings

__all__ = ["LFM", "RECOMMENDERS", "Recommender", "RecommenderSettings", "make_recommender", "used_settings"]

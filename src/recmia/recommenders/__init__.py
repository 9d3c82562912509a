"""Recommenders behind one interface."""

from recmia.recommenders.base import Recommender
from recmia.recommenders.lfm import LFM

__all__ = ["LFM", "Recommender"]

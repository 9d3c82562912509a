"""Recommenders by name, and how they are fitted."""

from __future__ import annotations

import numpy as np

from recmia import Interactions
from recmia.recommenders import RECOMMENDERS, Recommender
from recmia.settings import RecommenderSettings


def make_recommender(name: str, settings: RecommenderSettings | None = None) -> Recommender:
    return RECOMMENDERS[name].make(settings or RecommenderSettings(), 1)


def fitted(model: Recommender, data: Interactions, seed: int = 1) -> Recommender:
    return model.fit(data, rng=np.random.default_rng(seed))

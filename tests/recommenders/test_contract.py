"""Every recommender that can be named keeps the contract of `recmia.testing`."""

from __future__ import annotations

from typing import Any

import pytest

from recmia.recommenders import RECOMMENDERS
from recmia.settings import RecommenderSettings
from recmia.testing import check_recommender

pytestmark = pytest.mark.end_to_end

# What the small table of the check needs; a recommender without an entry is checked with its defaults.
LFM = {"factors": 8, "lfm": {"epochs": 50, "learning_rate": 0.05, "regularisation": 0.05}}
SMALL: dict[str, dict[str, Any]] = {name: LFM for name in RECOMMENDERS if name.startswith("lfm")} | {
    "hybrid": LFM,
    "als": {"factors": 2, "als": {"regularisation": 1}},
    "bpr": {"factors": 8, "bpr": {"learning_rate": 0.1}},
    "ncf": {"ncf": {"factors": 4, "epochs": 20, "learning_rate": 0.02, "batch_size": 128, "init_std": 0.1}},
    "lightgcn": {"factors": 8, "lightgcn": {"epochs": 20, "batch_size": 256}},
    "sasrec": {"factors": 8, "sasrec": {"epochs": 20, "learning_rate": 0.01, "batch_size": 128}},
    "gru4rec": {"factors": 8, "gru4rec": {"epochs": 20, "learning_rate": 0.01, "batch_size": 128}},
}
WITHOUT_TASTE = {"popularity", "random"}


# What a command does is its own affair: see test_user_command.py.
@pytest.mark.parametrize("name", [name for name in RECOMMENDERS if name != "command"])
def test_every_recommender_keeps_the_contract(name: str) -> None:
    settings = RecommenderSettings.model_validate(SMALL.get(name, {}))
    check_recommender(lambda: RECOMMENDERS[name].make(settings, 1), personal=name not in WITHOUT_TASTE)

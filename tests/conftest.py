"""Data that many tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from recmia import Interactions
from recmia.data.datasets import load

# A program that tests start, which cannot be imported.
collect_ignore = ["trainer.py"]

# A first call may compile, and the machine may be busy: no test asserts a time.
settings.register_profile("recmia", deadline=None)
settings.load_profile("recmia")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache, nor do the commands that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def small() -> Interactions:
    """Synthetic data that train in milliseconds."""
    return load("synthetic:120x200x6000").interactions


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20231123)


@pytest.fixture(scope="session")
def movielens_folder() -> Path:
    """The folder of the paper's data set; tests that need it are skipped, with the reason, where it is missing."""
    folder = Path(os.environ.get("RECMIA_DATA", "")) / "ml-latest-small"
    if not os.environ.get("RECMIA_DATA") or not (folder / "ratings.csv").is_file():
        pytest.skip("$RECMIA_DATA does not hold ml-latest-small/ratings.csv, the paper's data set")
    return folder

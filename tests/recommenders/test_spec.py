"""Specs: what is made by a name, which settings count, and what stands for a recommender."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recmia import Interactions
from recmia.errors import ConfigError
from recmia.recommenders import LFM, RECOMMENDERS, Popularity, RecommenderSpec, resolve_recommender
from recmia.recommenders.base import Recommender
from recmia.recommenders.user.objects import UserCode
from recmia.settings import RecommenderSettings, SystemSettings

# One changed setting in each table.
CHANGES: dict[str, dict[str, Any]] = {
    "lfm": {"epochs": 3},
    "als": {"iterations": 3},
    "bpr": {"epochs": 3},
    "itemknn": {"neighbours": 3},
    "userknn": {"neighbours": 3},
    "ease": {"regularisation": 3},
    "hybrid": {"weight": 0.3},
    "ncf": {"epochs": 3},
    "lightgcn": {"epochs": 3},
    "sasrec": {"epochs": 3},
    "gru4rec": {"epochs": 3},
    "train": {"command": "sh train.sh {interactions} {histories} {lists}"},
}
TABLES = {
    **dict.fromkeys(("popularity", "random", "content"), ()),
    **{name: (name,) for name in ("als", "bpr", "itemknn", "userknn", "ease", "ncf", "lightgcn", "lfm")},
    **{name: (name,) for name in ("sasrec", "gru4rec")},
    **dict.fromkeys(("lfm-explicit", "lfm-biased", "lfm-implicit"), ("lfm",)),
    "hybrid": ("hybrid", "lfm"),
    "command": ("train",),
}


def test_every_name_has_its_tables() -> None:
    assert {name: spec.tables for name, spec in RECOMMENDERS.items()} == TABLES
    assert all(spec.name == name for name, spec in RECOMMENDERS.items())


@pytest.mark.parametrize("name", RECOMMENDERS)
def test_only_its_own_settings_count(name: str) -> None:
    spec, settings = RECOMMENDERS[name], RecommenderSettings()
    for table, change in CHANGES.items():
        changed = RecommenderSettings.model_validate({table: change})
        own = table in spec.tables
        assert (spec.used(changed) != spec.used(settings)) == own, table
        assert (spec.key(changed) != spec.key(settings)) == own, table
    wider = RecommenderSettings(factors=7)
    assert (spec.key(wider) == spec.key(settings)) == (name == "command")
    assert (spec.used(wider) == spec.used(settings)) == (name == "command")


@pytest.mark.parametrize("name", [name for name in RECOMMENDERS if name != "command"])
def test_the_key_holds_the_general_settings_and_the_tables(name: str) -> None:
    spec = RECOMMENDERS[name]
    settings = RecommenderSettings.model_validate({"factors": 7, **CHANGES})
    assert spec.key(settings) == spec.used(settings).model_dump(
        mode="json", include={"factors", "device", *spec.tables}
    )


def test_settings_that_a_name_implies() -> None:
    given = RecommenderSettings.model_validate({"lfm": {"feedback": "implicit", "bias": True, "epochs": 3}})
    for name, feedback, bias in (
        ("lfm", "implicit", True),
        ("lfm-explicit", "explicit", False),
        ("lfm-biased", "explicit", True),
        ("lfm-implicit", "implicit", False),
    ):
        spec = RECOMMENDERS[name]
        for settings in (given, spec.used(given)):
            model = spec.make(settings, 2)
            assert isinstance(model, LFM)
            assert (model.settings.feedback, model.settings.bias, model.settings.epochs) == (feedback, bias, 3)
            assert (model.factors, model.threads) == (100, 2)
            assert spec.uses_ratings(settings) == (feedback == "explicit")
        assert spec.used(spec.used(given)) == spec.used(given)


def test_traits() -> None:
    personal = {name for name, spec in RECOMMENDERS.items() if spec.personal}
    lfm = {"lfm", "lfm-explicit", "lfm-biased", "lfm-implicit"}
    assert personal == {"als", "bpr", "hybrid", "lightgcn", "ncf", "userknn", *lfm}
    assert {name for name, spec in RECOMMENDERS.items() if spec.user_code} == {"command"}
    assert all(spec.folds_in for spec in RECOMMENDERS.values())
    # A command is told the order if it is known, and need not use it.
    assert {name for name, spec in RECOMMENDERS.items() if spec.uses_order} == {"command", "gru4rec", "sasrec"}
    assert not RECOMMENDERS["command"].needs_order
    rated = RecommenderSettings.model_validate(
        {"lfm": {"feedback": "explicit"}, "itemknn": {"binary": False}, "userknn": {"binary": False}}
    )
    found = {name for name, spec in RECOMMENDERS.items() if spec.uses_ratings(rated)}
    assert found == {"lfm", "lfm-explicit", "lfm-biased", "hybrid", "itemknn", "userknn"}
    found = {name for name, spec in RECOMMENDERS.items() if spec.uses_ratings(RecommenderSettings())}
    assert found == {"lfm-explicit", "lfm-biased"}


# The data have no texts, and a command is not known from within.
@pytest.mark.parametrize("name", [name for name in RECOMMENDERS if name not in ("command", "content", "hybrid")])
def test_ratings_count_as_the_trait_says(name: str, small: Interactions) -> None:
    """Fitted on ratings and on ones alone, from the same seed, the lists are the same unless ratings are used."""
    settings = RecommenderSettings.model_validate(
        {
            "factors": 4,
            "device": "cpu",
            "lfm": {"epochs": 2},
            "als": {"iterations": 2},
            "bpr": {"epochs": 2},
            "ncf": {"epochs": 1, "factors": 2},
            "lightgcn": {"epochs": 1},
            "sasrec": {"epochs": 1},
            "gru4rec": {"epochs": 1},
            "itemknn": {"binary": False},
            "userknn": {"binary": True},
        }
    )
    spec = RECOMMENDERS[name]
    # In the order of items, which sorted histories have, too.
    ordered = replace(small, events=np.arange(len(small), dtype=np.int32))
    unrated = replace(ordered, value=np.ones(len(small), np.float32))
    rated, seen = (
        spec.make(settings, 1).fit(data, rng=np.random.default_rng(0)).recommend(data.csr(), 10)
        for data in (ordered, unrated)
    )
    assert np.array_equal(rated, seen) != spec.uses_ratings(settings)


@pytest.mark.parametrize("name", RECOMMENDERS)
def test_a_spec_travels(name: str) -> None:
    spec, settings = RECOMMENDERS[name], RecommenderSettings.model_validate(CHANGES)
    other = pickle.loads(pickle.dumps(spec))
    assert (other.name, other.tables, other.personal) == (spec.name, spec.tables, spec.personal)
    assert other.key(settings) == spec.key(settings)
    assert other.uses_ratings(settings) == spec.uses_ratings(settings)
    assert type(other.make(settings, 1)) is type(spec.make(settings, 1))
    assert hash(spec) == hash(RECOMMENDERS[name])


def test_what_stands_for_a_recommender() -> None:
    assert resolve_recommender("lfm") is RECOMMENDERS["lfm"]
    spec = RecommenderSpec("mine", _make_mine)
    assert resolve_recommender(spec) is spec
    for given in (Popularity, Popularity()):
        found = resolve_recommender(given)
        assert (found.name, found.user_code, found.folds_in) == ("Popularity (in memory)", True, True)
        assert isinstance(found.make(RecommenderSettings(factors=3), 1), Popularity)
        assert found.key(RecommenderSettings(factors=3)) == {"user_code": UserCode.of(given).digest}
        assert found.used(RecommenderSettings(factors=3)) == RecommenderSettings()
    by_name = resolve_recommender("recmia.recommenders:Popularity")
    assert (by_name.name, by_name.user_code) == ("recmia.recommenders:Popularity", True)
    again = pickle.loads(pickle.dumps(by_name))
    assert isinstance(again.make(RecommenderSettings(), 1), Popularity)

    class Members(Popularity):
        folds_in = False

    assert not resolve_recommender(Members).folds_in


def _make_mine(settings: RecommenderSettings, threads: int) -> Recommender:
    return Popularity()


@pytest.mark.parametrize("name", ["lmf", "", "shop.models:", ":make", "shop.models", "myrecs"])
def test_unknown_names(name: str) -> None:
    words = r"unknown recommender .*allowed: als, bpr, .*; or your own, as package.module:factory"
    with pytest.raises(ConfigError, match=words):
        resolve_recommender(name)
    with pytest.raises(ConfigError, match="did you mean 'lfm'"):
        resolve_recommender("lmf")


COMMAND = r"a command that trains goes with --train-command \(setting train\.command\); a recommender of your own in "


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("python train.py {interactions}", COMMAND + "Python is named package.module:FACTORY"),
        ("./train.sh", COMMAND),
        ("train.py", COMMAND + "Python is named train:FACTORY"),
        ("myrec", "it is a module; name also what makes the recommender, as myrec:FACTORY"),
        ("shop.models", "it is a module; name also what makes the recommender, as shop.models:FACTORY"),
        ("shop", "it is a module; name also what makes the recommender, as shop:FACTORY"),
        ("myrec.py:make", "a factory is named by its module, as myrec:make"),
        ("shop/models.py:make", "a factory is named by its module, as shop.models:make"),
    ],
)
def test_what_was_meant_by_a_name_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    for file in ("myrec.py", "shop/__init__.py", "shop/models.py"):
        (tmp_path / file).write_text("def make():\n    1 / 0\n")
    with pytest.raises(ConfigError, match=f"^unknown recommender '{re.escape(name)}'; {words}"):
        resolve_recommender(name)


def test_the_setting_names_every_recommender() -> None:
    words = SystemSettings.model_fields["recommender"].description
    assert words is not None
    named = words.partition(", your package.module:factory, or a command ")[0].split(", ")
    assert named == sorted(set(RECOMMENDERS) - {"command"})


@pytest.mark.end_to_end
def test_names_and_traits_are_known_without_the_libraries() -> None:
    program = """
import sys
from recmia.recommenders import RECOMMENDERS
from recmia.settings import RecommenderSettings, SystemSettings
print(len(RECOMMENDERS), RECOMMENDERS["ncf"].key(RecommenderSettings())["ncf"]["epochs"])
heavy = ("numba", "torch", "implicit", "sklearn", "scipy", "polars", "cloudpickle")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{len(RECOMMENDERS)} 12", "[]"]

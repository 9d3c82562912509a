"""Objects of the user's where names go: defences, beside attacks and recommenders."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
from pydantic import Field

import recmia
from recmia import Interactions
from recmia.attacks import Attack
from recmia.defences import Defence, DPTraining, Promise, Wrapped, WrappingDefence, name_defences, parse_defences
from recmia.errors import ConfigError
from recmia.game.plan import plan_from_data
from recmia.game.tasks import Task, run_tasks
from recmia.recommenders import Popularity, Recommender
from recmia.results.setup import resolve
from recmia.settings import AuditSettings, PrivacySettings

QUICK: dict[str, Any] = {
    "attacks": ["distance"], "regimes": ["fold-in"], "k": 10, "factors": 4, "seeds": 1, "lfm": {"epochs": 2},
}  # fmt: skip


class TopOnly(Defence):
    """Serves the first n."""

    name, strength = "top-only", "n"
    n: int = Field(ge=1)

    def change(self, task: Task) -> Task:
        return replace(task, k=self.n)

    def promise(self) -> Promise:
        return Promise(1e-9, 0.0, ("fold-in",))


class Turned(Wrapped):
    def recommend(self, histories: Any, k: int, *, exclude_seen: bool = True) -> Any:
        return self.inner.recommend(histories, k, exclude_seen=exclude_seen)[:, ::-1]


class TurnLists(WrappingDefence):
    """Turns full lists round."""

    name = "turn-lists"

    def wrap(self, model: Recommender) -> Recommender:
        return Turned(model)


class ListLength(Attack):
    """Knows how long the lists are."""

    name = "list-length"
    needs = "nothing"
    seen: ClassVar[list[int]] = []

    def score(self, observation: Any) -> Any:
        return np.full(len(observation), float(observation.lists.shape[1]))


def test_a_defence_is_taken_by_the_audited_system_and_by_the_shadows(small: Interactions) -> None:
    result = recmia.audit(small, defence=TopOnly(n=3), **QUICK | {"attacks": [ListLength()]})
    assert result.settings.value("defence") == "top-only=3"
    assert set(result.scores.filter(attack="list-length")["score"]) == {3.0}
    assert set(result.scores["side"]) == {"shadow", "target"}


def test_a_wrapper_changes_what_is_served(small: Interactions) -> None:
    def lists(**defences: Defence) -> Any:
        store: dict[str, Any] = {}
        settings = AuditSettings.parse({**QUICK, "defence": "+".join(map(str, defences.values()))})
        setup = resolve(settings, defences={str(one): one for one in defences.values()})
        task = next(task for task in plan_from_data(setup, small, 0).tasks if task.path[1] == "target")
        assert run_tasks([task], store=store) == {}
        return store[task.key]["lists"]

    assert np.array_equal(lists(turned=TurnLists()), lists()[:, ::-1])


@pytest.mark.end_to_end
def test_objects_and_names_act_together_and_any_number_of_jobs_gives_the_same(small: Interactions) -> None:
    given: list[str | Defence] = [TurnLists(), "gumbel=300+shorter-lists=8", TopOnly(n=3)]
    one = recmia.audit(small, defence=given, **QUICK)
    two = recmia.audit(small, defence=given, jobs=2, **QUICK)
    assert one.settings.value("defence") == "turn-lists+gumbel=300+shorter-lists=8+top-only=3"
    assert one.scores.equals(two.scores)
    text, objects = name_defences(given)
    assert [str(defence) for defence in parse_defences(text, objects=objects)] == [
        "shorter-lists=8", "gumbel=300", "turn-lists", "top-only=3",
    ]  # fmt: skip


def test_a_promise_of_a_users_defence_is_checked_and_kept(small: Interactions, tmp_path: Path) -> None:
    from recmia.results.folder import read_result, write_result

    result = recmia.audit(small, defence=TopOnly(n=3), **QUICK)
    (check,) = result.promises
    assert (check.defence, check.epsilon, check.regime) == ("top-only=3", 1e-9, "fold-in")
    write_result(result, tmp_path / "run", {})
    again: Any = read_result(tmp_path / "run")
    assert again.promises == result.promises


def test_what_a_users_code_gave_is_not_taken_for_another(small: Interactions) -> None:
    def plan(defence: str, **objects: Defence) -> Any:
        settings = AuditSettings.parse({**QUICK, "defence": defence})
        return plan_from_data(resolve(settings, defences={str(one): one for one in objects.values()}), small, 0)

    assert plan("gumbel=3").key is not None
    assert plan("turn-lists", a=TurnLists()).key is None, "scores are not kept"
    kept = TurnLists().key()
    assert len(kept["code"]) == 64
    assert kept == TurnLists().key()
    (gumbel,) = parse_defences("gumbel=3")
    assert isinstance(gumbel, WrappingDefence)
    assert gumbel.key() == {"defence": "gumbel", "epsilon": 3.0, "k": None}


def test_defend_measures_objects_beside_names(small: Interactions) -> None:
    result = recmia.defend([TopOnly(n=3), [TurnLists(), "shorter-lists=5"]], small, **QUICK)
    assert result.table["defence"].to_list() == ["none", "popularity-only", "top-only=3", "shorter-lists=5+turn-lists"]
    assert result.sweep.errors == []
    row = result.table.row(by_predicate=pl.col("defence") == "top-only=3", named=True)
    assert (row["promised"], row["broken"]) == (1e-9, row["bound"] > 1e-9)


def test_sweep_takes_a_defence(small: Interactions) -> None:
    table = recmia.sweep({"k": [5, 8]}, small, defence=TopOnly(n=3), **QUICK).table
    assert table["k"].unique().sort().to_list() == [5, 8]


def test_an_object_of_recmia_is_its_text() -> None:
    assert name_defences(DPTraining(epsilon=4)) == ("dp-training=4", {})
    private = PrivacySettings(clip=2)
    assert name_defences(DPTraining(epsilon=4, settings=private), private) == ("dp-training=4", {})
    with pytest.raises(ConfigError, match="give settings of dp-training as dp="):
        name_defences(DPTraining(epsilon=4, settings=private))


class Nameless(TurnLists):
    name = ""


class Borrowed(TurnLists):
    name = "gumbel"


class Locked(TurnLists):
    name = "locked"
    lock: Any = None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Popularity(), "must be a text, such as 'gumbel=300', or an object of a subclass of recmia.defences.Defence"),
        (TopOnly, "must be a text"),
        (Nameless(), "Nameless needs a name for the tables"),
        (Borrowed(), "is called 'gumbel', which is the name of one of recmia's; rename it"),
        ([TopOnly(n=1_000_000), TopOnly(n=1_000_001)], "two different defences are both written top-only=1e[+]06"),
        ([TopOnly(n=3), TopOnly(n=4)], "top-only is named twice"),
        ("top-only=3", "unknown defence 'top-only'"),
        (Locked(lock=threading.Lock()), "the defence locked cannot be pickled"),
    ],
)
def test_bad_defences_are_refused(small: Interactions, given: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        recmia.audit(small, defence=given if isinstance(given, list | str) else [given], **QUICK)

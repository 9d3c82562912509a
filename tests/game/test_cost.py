"""What a run costs: what is counted agrees with what a run does, and samples are the same audit in small."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from recmia import Interactions
from recmia.errors import RecmiaError
from recmia.game import cost
from recmia.game.cost import expected_cost, models_a_seed, sampled
from recmia.game.plan import Plan, Served, plan_from_data, plan_from_files, shadow_halves
from recmia.game.queries import draw_queries
from recmia.game.run import run_plans
from recmia.game.split import Side, draw_members
from recmia.game.tasks import Store
from recmia.results.setup import resolve
from recmia.settings import AuditSettings, FilesSettings

QUICK: dict[str, Any] = {
    "recommender": "popularity", "factors": 4, "k": 10, "n_shadows": 8, "depth": 10, "attacks": ["list-lr", "query-lr"],
    "lfm": {"epochs": 1},
}  # fmt: skip


def plan(data: Interactions, seed: int = 0, **settings: Any) -> Plan:
    return plan_from_data(resolve(AuditSettings.parse(QUICK | settings)), data, seed)


def run(plans: list[Plan], store: Store) -> None:
    for play in run_plans(plans, store=store, jobs=1, report=lambda text, units: None):
        assert not isinstance(play, RecmiaError)


def written(plans: list[Plan], store: Store) -> int:
    keys = {key for one in plans for task in one.tasks for key in task.keys}
    return sum(array.nbytes for key in keys for array in store[key].values())


@pytest.mark.parametrize("settings", [{}, {"recommender": "lfm", "knowledge": ["white-box"], "attacks": ["distance"]}])
def test_what_is_counted_is_what_is_written(small: Interactions, settings: dict[str, Any]) -> None:
    store: Store = {}
    plans = [plan(small, seed, **settings) for seed in (0, 1)]
    found = expected_cost(plans, store=store)
    assert not store, "a probe leaves the store as it was"
    assert found.seconds > 0
    run(plans, store)
    assert found.disk == written(plans, store)
    assert found.models == len({task.model_key for one in plans for task in one.tasks})
    asked = {task.answers_key: len(task.queries) for one in plans for task in one.tasks if task.queries is not None}
    assert found.questions == sum(asked.values())


def test_what_is_in_the_store_costs_nothing(small: Interactions) -> None:
    store: Store = {}
    plans = [plan(small, seed) for seed in (0, 1)]
    run(plans[:1], store)
    half = expected_cost(plans, store=store)
    assert half.stored == half.models // 2
    assert half.disk == written(plans[:1], store)
    run(plans, store)
    nothing = expected_cost(plans, store=store)
    assert (nothing.stored, nothing.questions, nothing.seconds, nothing.disk) == (nothing.models, 0, 0, 0)
    # Models without the scores, as of another attack: only the attacks are left.
    for one in plans:
        assert one.key is not None
        del store[one.key]
    attacks = expected_cost(plans, store=store)
    assert (attacks.stored, attacks.disk) == (attacks.models, 0)
    assert attacks.seconds > 0


@pytest.mark.parametrize(
    "settings",
    [
        {"attacks": ["mlp"]},
        {"n_targets": 3},
        {"attacks": ["completion-reference"], "references": ["popularity", "itemknn"]},
        {"attacks": ["completion-reference", "list-lr"], "thresholds": False},
        {"knowledge": ["black-box", "grey-box"]},
        {"unit": "interactions", "attacks": ["item-lr", "item-reference"]},
    ],
    ids=str,
)
def test_models_of_a_seed(small: Interactions, settings: dict[str, Any]) -> None:
    found = plan(small, **settings)
    assert isinstance(found.setup.settings, AuditSettings)
    assert models_a_seed(found.setup.settings) == len({task.model_key for task in found.tasks})


@pytest.mark.parametrize("levels", [["grey-box"], ["black-box"]])
def test_a_sample_is_the_same_audit_in_small(small: Interactions, levels: list[str]) -> None:
    whole = plan(small, knowledge=levels)
    half = sampled(whole, 0.5)
    assert half.audited.n_users == pytest.approx(whole.audited.n_users / 2, abs=1)
    assert len(half.tasks) == len(whole.tasks)
    assert [len(section.pool) for section in half.sections] == [len(section.pool) for section in whole.sections]
    assert sampled(whole, 1.0).audited.n_users == whole.audited.n_users


def test_a_sample_of_a_sample_is_of_the_users_who_are_audited(small: Interactions) -> None:
    assert sampled(plan(small, max_users=80), 0.5).everyone[0].n_users == 40


@pytest.mark.parametrize("trained", [False, True])
def test_a_sample_of_files(small: Interactions, trained: bool) -> None:
    member = draw_members(small.n_users, 0.5, np.random.default_rng(0))
    queries = draw_queries(small, 2, 0.5, np.random.default_rng(0))
    lists = np.tile(np.arange(10, dtype=np.int32), (small.n_users, 1))
    answers = np.tile(np.arange(10, dtype=np.int32), (len(queries), 1))
    target = Served(Side(small, member), lists, queries, answers)
    names = {"interactions": "a.csv", "lists": "b.csv", "members": "c.csv", "questions": "q", "answers": "d.csv"}
    setup = resolve(FilesSettings.parse({**names, "attacks": ["distance", "completion", "list-lr"], "k": 10}))
    halves = shadow_halves(small, 8, 0)
    pool = halves if trained else [Served(one, lists) for one in halves]
    found = sampled(plan_from_files(setup, target, pool[0], pool, [small]), 0.5)
    (section,) = found.sections
    served = section.targets[0]
    assert isinstance(served, Served)
    assert served.queries is not None
    assert served.answers is not None
    assert len(served.lists) == served.side.interactions.n_users == round(small.n_users / 2)
    assert len(served.answers) == len(served.queries) < len(queries)
    assert len(found.tasks) == (9 if trained else 0)
    assert {one.side.interactions.n_users for one in section.pool} == {served.side.interactions.n_users}


def test_time_and_memory_of_the_whole_are_on_the_line_through_two_samples(
    small: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(one: Plan, threads: int) -> cost._Probe:
        size = len(one.audited)
        return cost._Probe({"popularity": 1.0 + size}, 5.0 + 2 * size, 3.0 * size, 7.0)

    monkeypatch.setattr(cost, "_measured", measured)
    monkeypatch.setattr(cost, "_FIRST_SAMPLE", 40)
    monkeypatch.setattr(cost, "_TIMES", 2)
    whole = plan(small)
    assert small.n_users > 80
    found = cost._probe(whole, 1, long_enough=0.0)
    size = len(whole.audited)
    figures = (found.models["popularity"], found.attacks, found.of_model, found.of_attacks)
    assert figures == pytest.approx((1 + size, 5 + 2 * size, 3 * size, 7))
    # Where all users are measured, nothing is drawn.
    assert cost._probe(whole, 1, long_enough=1e9).attacks == measured(sampled(whole, 1.0), 1).attacks


def test_what_fails_on_all_users_is_told(small: Interactions) -> None:
    with pytest.raises(RecmiaError, match="k, the list length"):
        expected_cost([plan(small, k=5000)], store={})
    assert not tracemalloc.is_tracing()

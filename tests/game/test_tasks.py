"""Tasks: their keys, and that each model is trained once, wherever and in whatever company."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recmia import Interactions
from recmia.data.interactions import IdMap
from recmia.errors import ConfigError, DivergedError, ProtocolError
from recmia.game.queries import draw_blocks, draw_queries
from recmia.game.serving import answer, serve
from recmia.game.split import Side, split_game
from recmia.game.tasks import Task, run_tasks
from recmia.observation import in_history
from recmia.recommenders import LFM, RECOMMENDERS, Recommender
from recmia.recommenders.spec import RecommenderSpec
from recmia.seeding import rng_for
from recmia.settings import RecommenderSettings

SETTINGS = RecommenderSettings.model_validate({"factors": 8, "lfm": {"epochs": 3}})


@pytest.fixture
def side(small: Interactions) -> Side:
    return split_game(small, rng=np.random.default_rng(3)).target


@pytest.fixture
def task(side: Side) -> Task:
    return Task(RECOMMENDERS["lfm"], SETTINGS, side, "fold-in", 10, True, 0.1, (0, "target"))


def settings(**changed: Any) -> RecommenderSettings:
    return RecommenderSettings.model_validate({"factors": 8, "lfm": {"epochs": 3}} | changed)


def test_equal_tasks_have_equal_keys(task: Task, small: Interactions) -> None:
    again = split_game(small, rng=np.random.default_rng(3)).target
    assert again is not task.side
    twin = Task(RECOMMENDERS["lfm"], settings(), again, "fold-in", 10, True, 0.1, (0, "target"))
    assert (twin.key, twin.model_key) == (task.key, task.model_key)


def test_a_change_of_anything_that_is_used_changes_the_key(task: Task) -> None:
    data, member = task.side.interactions, task.side.member
    flipped = member.copy()
    flipped[[int(np.argmax(member)), int(np.argmin(member))]] ^= True
    rated = Interactions(data.user, data.item, 6 - data.value, data.time, data.users, data.items)
    fewer = data.take(np.arange(1, len(data)))
    renamed = Interactions(data.user, data.item, data.value, data.time, IdMap(data.users.ids[::-1].copy()), data.items)
    model: list[dict[str, Any]] = [
        {"recommender": RECOMMENDERS["lfm-biased"]},
        {"side": Side(data, flipped)},
        {"side": Side(rated, member)},
        {"side": Side(fewer, member)},
        {"side": Side(renamed, member)},
        {"settings": settings(factors=9)},
        {"settings": settings(lfm={"epochs": 4})},
        {"path": (1, "target")},
        {"path": (0, "shadow")},
        {"path": (0, "target", 1)},
        {"path": (0, "target", "1")},
    ]
    lists: list[dict[str, Any]] = [
        {"regime": "trained"},
        {"regime": "popular-random"},
        {"k": 11},
        {"exclude_seen": False},
    ]
    changed = [replace(task, **change) for change in [*model, *lists]]
    assert len({one.key for one in (task, *changed)}) == 1 + len(changed)
    models = {one.model_key for one in changed[: len(model)]}
    assert len(models) == len(model)
    assert task.model_key not in models
    assert {one.model_key for one in changed[len(model) :]} == {task.model_key}


def test_settings_of_others_do_not_change_the_key(task: Task) -> None:
    others = settings(bpr={"epochs": 3}, als={"alpha": 3}, userknn={"neighbours": 3}, ncf={"epochs": 3})
    assert replace(task, settings=others).key == task.key
    # The hybrid is made with an LFM, and the neighbours are not.
    for name, same in (("hybrid", False), ("lfm-implicit", False), ("itemknn", True)):
        one = replace(task, recommender=RECOMMENDERS[name])
        assert (replace(one, settings=settings(lfm={"epochs": 4})).key == one.key) == same, name


def test_alpha_counts_for_random_popular_lists_only(task: Task) -> None:
    assert replace(task, alpha=0.2).key == task.key
    random = replace(task, regime="popular-random")
    assert replace(random, alpha=0.2).key != random.key


def test_item_vectors_have_a_key_of_the_model(task: Task) -> None:
    both = [replace(task, item_vectors=True, k=k) for k in (10, 11)]
    assert both[0].keys == (task.key, both[0].vectors_key)
    assert both[0].vectors_key == both[1].vectors_key
    assert task.keys == (task.key,)


def several(task: Task) -> list[Task]:
    """Two models, three regimes of the first; one task twice, once with the item vectors."""
    return [
        task,
        replace(task, regime="popular"),
        replace(task, regime="trained"),
        replace(task, item_vectors=True),
        replace(task, path=(0, "shadow")),
    ]


class Counted:
    """Counts the trained models of this process."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count, fit = 0, LFM.fit

        def counted(model: LFM, *arguments: Any, **named: Any) -> LFM:
            self.count += 1
            return fit(model, *arguments, **named)

        patch.setattr(LFM, "fit", counted)


def test_each_model_is_trained_once_and_only_what_is_missing(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    fits, tasks = Counted(monkeypatch), several(task)
    store: dict[str, Any] = {}
    assert run_tasks(tasks, store=store) == {}
    assert fits.count == 2
    assert set(store) == {key for one in tasks for key in one.keys}
    before = dict(store)
    run_tasks(tasks, store=store)
    assert fits.count == 2
    del store[tasks[1].key]
    run_tasks(tasks, store=store)
    assert fits.count == 3, "one model again"
    for key, arrays in before.items():
        assert (store[key] is arrays) == (key != tasks[1].key), "only what was missing is served"
    np.testing.assert_array_equal(store[tasks[1].key]["lists"], before[tasks[1].key]["lists"])


def test_lists_are_those_of_the_recommender(task: Task) -> None:
    store: dict[str, Any] = {}
    run_tasks(several(task), store=store)
    model = RECOMMENDERS["lfm"].make(SETTINGS, 1).fit(task.side.training_data(), rng=rng_for(0, "target", "fit"))
    for one in several(task)[:3]:
        assert one.regime is not None
        lists = serve(one.regime, model, one.side, 10, rng=rng_for(0, "target", "serve", one.regime))
        np.testing.assert_array_equal(store[one.key]["lists"], lists)
    np.testing.assert_array_equal(store[replace(task, item_vectors=True).vectors_key]["item_vectors"],
                                  model.item_vectors)  # fmt: skip


def test_same_lists_with_any_number_of_jobs(task: Task) -> None:
    tasks = several(task)
    one: dict[str, Any] = {}
    two: dict[str, Any] = {}
    run_tasks(tasks, store=one, jobs=1)
    run_tasks(tasks, store=two, jobs=2)
    alone: dict[str, Any] = {}
    for single in reversed(tasks):
        run_tasks([single], store=alone, jobs=3)
    for other in (two, alone):
        assert set(other) == set(one)
        for key, arrays in one.items():
            assert set(other[key]) == set(arrays)
            for name, array in arrays.items():
                assert other[key][name].dtype == array.dtype
                np.testing.assert_array_equal(other[key][name], array)


@pytest.mark.parametrize("jobs", [1, 2])
def test_done_adds_up(task: Task, jobs: int) -> None:
    tasks = [*several(task), replace(task, k=500)]
    store: dict[str, Any] = {}
    run_tasks([task], store=store)
    counts: list[int] = []
    run_tasks(tasks, store=store, jobs=jobs, done=counts.append)
    assert counts[0] == 1, "what is there comes first"
    assert sum(counts) == len(tasks), "failures count as well"
    counts.clear()
    run_tasks(tasks[:-1], store=store, jobs=jobs, done=counts.append)
    assert counts == [len(tasks) - 1]


@pytest.mark.parametrize("jobs", [1, 2])
def test_errors_are_told_by_key_and_harm_no_other(task: Task, jobs: int) -> None:
    refused = replace(task, recommender=RECOMMENDERS["itemknn"], item_vectors=True)
    too_long = replace(task, k=500)
    diverged = replace(task, settings=settings(lfm={"epochs": 3, "learning_rate": 1e6}))
    store: dict[str, Any] = {}
    failed = run_tasks([refused, too_long, diverged, task], store=store, jobs=jobs)
    assert set(failed) == {refused.vectors_key, too_long.key, diverged.key}
    assert isinstance(failed[refused.vectors_key], ConfigError)
    assert "1.." in str(failed[too_long.key])
    assert isinstance(failed[diverged.key], DivergedError)
    assert set(store) == {refused.key, task.key}


class Failing(Recommender):
    """User code whose training always fails, and that counts how often it was tried."""

    tried = 0

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Any:
        Failing.tried += 1
        raise KeyError("no\n such column")

    def scores(self, histories: Any) -> Any:
        raise NotImplementedError


def test_user_code_that_fails_is_named_and_not_tried_again(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Failing, "tried", 0)
    spec = RecommenderSpec("mine", lambda settings, threads: Failing(), user_code=True, code="1")
    tasks = [replace(task, recommender=spec, path=(0, "target", number)) for number in range(3)]
    store: dict[str, Any] = {}
    counts: list[int] = []
    failed = run_tasks([*tasks, task], store=store, done=counts.append)
    assert set(failed) == {one.key for one in tasks}
    assert {str(error) for error in failed.values()} == {r"mine: fit raised KeyError: 'no\n such column'"}
    assert all(isinstance(error, ProtocolError) for error in failed.values())
    assert Failing.tried == 1
    assert sum(counts) == 4
    assert set(store) == {task.key}


def test_a_model_that_cannot_fold_in_still_serves_popular_lists(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LFM, "folds_in", False)
    store: dict[str, Any] = {}
    failed = run_tasks([task, replace(task, regime="popular")], store=store)
    assert set(failed) == {task.key}
    assert "cannot serve a user that it was not trained on" in str(failed[task.key])
    assert len(store) == 1


def test_a_bug_is_no_result(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what recmia raises on purpose is kept for later; anything else stops at once."""

    def broken(*arguments: Any, **named: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(LFM, "fit", broken)
    with pytest.raises(ZeroDivisionError):
        run_tasks([task], store={})


def test_answers_are_kept_by_what_they_depend_on(task: Task) -> None:
    queries = draw_queries(task.side.interactions, 4, 0.5, np.random.default_rng(0))
    asking, twin = (
        replace(task, queries=draw_queries(task.side.interactions, 4, 0.5, np.random.default_rng(0))) for _ in range(2)
    )
    other = replace(task, queries=draw_queries(task.side.interactions, 4, 0.5, np.random.default_rng(1)))
    assert asking.answers_key == twin.answers_key
    assert asking.key == task.key, "lists do not depend on what is asked"
    changed = [replace(asking, k=9), replace(asking, exclude_seen=False), replace(asking, path=(1, "target")), other]
    assert len({one.answers_key for one in (asking, *changed)}) == 1 + len(changed)
    # The regime decides what users are shown, and not what strangers are answered.
    assert replace(asking, regime="trained").answers_key == asking.answers_key
    store: dict[str, Any] = {}
    assert run_tasks([asking, replace(asking, regime=None), replace(asking, regime="trained")], store=store) == {}
    assert set(store) == {asking.key, asking.answers_key, replace(asking, regime="trained").key}
    model = LFM(SETTINGS.lfm, factors=8).fit(task.side.training_data(), rng=rng_for(0, "target", "fit"))
    expected = answer(model, queries, task.k, users=task.side.interactions.users)
    assert np.array_equal(store[asking.answers_key]["answers"], expected)


def test_deep_lists_start_with_the_lists(task: Task) -> None:
    deep, drawn = replace(task, depth=50), replace(task, depth=50, regime="popular-random")
    most = replace(task, depth=1000)
    store: dict[str, Any] = {}
    assert run_tasks([task, deep, drawn, most], store=store) == {}
    assert np.array_equal(store[deep.key]["lists"][:, :10], store[task.key]["lists"])
    assert drawn.key == replace(drawn, depth=0).key, "items that are drawn at random are no deeper lists"
    lists = store[most.key]["lists"]
    assert lists.shape[1] == 1000
    assert np.array_equal(lists[:, :50], store[deep.key]["lists"])
    known = task.side.training_data().item_counts() > 0
    unseen = known.sum() - np.array([known[task.side.interactions.csr()[[u]].indices].sum() for u in range(len(lists))])
    assert np.array_equal((lists >= 0).sum(axis=1), unseen)


# ---- A coin for each interaction ----


def test_keys_depend_on_which_interactions_are_trained_on(task: Task) -> None:
    data = task.side.interactions
    coins = np.random.default_rng(0).random(len(data)) < 0.5
    one, same = (replace(task, side=Side.of_interactions(data, coins.copy())) for _ in range(2))
    assert (one.key, one.model_key) == (same.key, same.model_key)
    # Two of a user trade places: the members, and the numbers, are the same.
    own = np.flatnonzero(data.user == int(np.argmax(np.bincount(data.user[coins], minlength=data.n_users))))
    other = coins.copy()
    other[[own[coins[own]][0], own[~coins[own]][0]]] ^= True
    swapped = replace(task, side=Side.of_interactions(data, other))
    assert np.array_equal(swapped.side.member, one.side.member)
    # A user side with the same members trains on whole histories.
    whole = replace(task, side=Side(data, one.side.member.copy()))
    everything = replace(task, side=Side.of_interactions(data, np.ones(len(data), np.bool_)))
    keys = [each.model_key for each in (one, swapped, whole, everything, task)]
    assert len(set(keys)) == len(keys)
    queries = draw_blocks(data, 3, np.random.default_rng(0))
    answers = [replace(each, queries=queries).answers_key for each in (one, swapped, whole)]
    assert len(set(answers)) == 3


def test_a_model_is_trained_on_and_serves_what_fell_in(task: Task) -> None:
    data = task.side.interactions
    side = Side.of_interactions(data, np.random.default_rng(0).random(len(data)) < 0.5)
    queries = draw_blocks(data, 3, np.random.default_rng(0))
    one = replace(task, side=side, queries=queries)
    store: dict[str, Any] = {}
    assert run_tasks([one], store=store) == {}
    trained = data.take(np.flatnonzero(side.trained)).restrict(np.flatnonzero(side.member))  # type: ignore[arg-type]
    model = LFM(SETTINGS.lfm, factors=8).fit(trained, rng=rng_for(0, "target", "fit"))
    np.testing.assert_array_equal(store[one.key]["lists"], model.recommend(side.histories(), 10))
    expected = answer(model, queries, one.k, users=data.users)
    np.testing.assert_array_equal(store[one.answers_key]["answers"], expected)
    # The list leaves out what the system knows, and may show what fell out.
    shown = in_history(store[one.key]["lists"], data.csr())
    assert shown.any()
    assert not in_history(store[one.key]["lists"], side.histories()).any()

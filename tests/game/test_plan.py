"""What an audit trains and serves, and what its scores depend on."""

from __future__ import annotations

from typing import Any

import numpy as np

from recmia import Interactions
from recmia.attacks import ATTACKS, Attack, AttackSpec, Observation
from recmia.data.interactions import join_users
from recmia.game.plan import Plan, Served, plan_from_data, plan_from_files, servings, shadow_halves, work_units
from recmia.game.split import Side, draw_members
from recmia.game.tasks import Task
from recmia.results.setup import resolve
from recmia.settings import AuditSettings, FilesSettings

QUICK: dict[str, Any] = {"factors": 8, "k": 10, "n_shadows": 8, "attacks": ["mlp", "list-lr"]}


def plan(data: Interactions, seed: int = 0, **settings: Any) -> Plan:
    return plan_from_data(resolve(AuditSettings.parse(QUICK | settings)), data, seed)


def test_a_plan_of_one_level(small: Interactions) -> None:
    found = plan(small, regimes=["fold-in", "trained"], n_targets=2)
    assert [(section.level, section.regime) for section in found.sections] == [
        ("grey-box", "fold-in"), ("grey-box", "trained"),
    ]  # fmt: skip
    for section in found.sections:
        assert (len(section.targets), len(section.pool)) == (2, 8)
        assert section.shadow is not None
        audited, own = found.audited, section.shadow.side.interactions
        assert not set(audited.users.ids.tolist()) & set(own.users.ids.tolist())
        assert all(one.side.interactions is audited for one in (*section.targets, *section.pool))
        halves = np.array([one.side.member for one in section.pool])
        np.testing.assert_array_equal(halves[::2], ~halves[1::2])
        first, second = (one.side.member for one in section.targets)
        assert (first != second).any()
    # Two targets, one shadow and eight of the pool, in two regimes: models are shared, lists are not.
    assert len(found.tasks) == 2 * 11
    assert len({task.model_key for task in found.tasks}) == 11
    assert len({task.key for task in found.tasks}) == 22
    assert work_units([found]) == 23
    assert [(regime, number) for regime, number, _ in servings(found)] == [
        ("fold-in", 0), ("fold-in", 1), ("trained", 0), ("trained", 1),
    ]  # fmt: skip


def test_levels_share_what_is_the_same(small: Interactions) -> None:
    found = plan(small, regimes=["fold-in"], knowledge=["black-box", "grey-box", "white-box"])
    black, grey, white = found.sections
    assert grey.targets == white.targets == black.targets
    assert grey.shadow is white.shadow
    assert grey.pool == white.pool
    assert black.shadow is not grey.shadow
    # The drawn users are none of the data's, and the audited ones are never members of the black-box pool.
    assert black.shadow is not None
    own = black.shadow.side.interactions.n_users
    for system in black.pool:
        assert system.side.interactions.n_users == own + found.audited.n_users
        assert not system.side.member[own:].any()
        assert abs(system.side.member[:own].mean() - 0.5) < 5 * 0.5 / np.sqrt(own)
    assert len(found.tasks) == 1 + 2 + 16
    for level in ("black-box", "grey-box"):
        assert found.items[level].data is not None
    assert found.items["white-box"].data is None
    assert all(isinstance(task, Task) and task.item_vectors for task in white.targets)


def test_without_a_pool_attack_no_pool_is_trained(small: Interactions) -> None:
    found = plan(small, attacks=["mlp"])
    assert all(not section.pool for section in found.sections)
    assert len(found.tasks) == 4


def test_sources_of_item_vectors(small: Interactions) -> None:
    shadow = plan(small)
    assert shadow.sections[0].shadow is not None
    assert shadow.items["grey-box"].data is shadow.sections[0].shadow.side.interactions
    assert plan(small, item_vectors="all").items["grey-box"].data is small
    public = plan(small, item_vectors="public")
    data = public.items["grey-box"].data
    assert data is not None
    assert not set(data.users.ids.tolist()) & set(public.audited.users.ids.tolist())


def test_held_out_interactions_are_in_no_side(small: Interactions) -> None:
    found = plan(small, held_out=0.2)
    assert found.held_out is not None
    whole = found.everyone[0].csr() + found.held_out.csr()
    np.testing.assert_array_equal(whole.toarray(), small.csr().toarray())
    rows = np.searchsorted(small.users.ids, found.audited.users.ids)
    assert found.audited.csr().multiply(found.held_out.csr()[rows]).nnz == 0
    assert plan(small).held_out is None


def test_a_sample_of_the_users(small: Interactions) -> None:
    found = plan(small, max_users=60)
    assert found.sections[0].shadow is not None
    assert found.audited.n_users + found.sections[0].shadow.side.interactions.n_users == 60


def test_draws_are_made_once(small: Interactions) -> None:
    setup = resolve(AuditSettings.parse(QUICK | {"held_out": 0.2}))
    draws: dict[Any, Any] = {}
    one, other = (plan_from_data(setup, small, 0, draws=draws) for _ in range(2))
    assert one.audited is other.audited
    assert plan_from_data(setup, small, 1, draws=draws).audited is not one.audited
    fresh = plan_from_data(setup, small, 0)
    assert fresh.audited.fingerprint() == one.audited.fingerprint()
    assert [task.key for task in fresh.tasks] == [task.key for task in one.tasks]


def test_the_key_of_a_plan_depends_on_what_is_used_alone(small: Interactions) -> None:
    key = plan(small).key
    assert key is not None
    same: list[dict[str, Any]] = [{"dataset": "elsewhere"}, {"seeds": 2}, {"als": {"alpha": 3}}]
    others: list[dict[str, Any]] = [
        {"k": 11}, {"factors": 9}, {"lfm": {"epochs": 3}}, {"attacks": ["list-lr"]}, {"regimes": ["trained"]},
        {"n_targets": 2}, {"held_out": 0.1}, {"mlp": {"epochs": 3}}, {"target": "als"}, {"shadow": "als"},
        {"defence": "gumbel=30"}, {"thresholds": False}, {"rank_weights": "linear"}, {"knowledge": ["white-box"]},
    ]  # fmt: skip
    assert {plan(small, **change).key for change in same} == {key}
    keys = {plan(small, **change).key for change in others}
    assert len(keys | {key, plan(small, seed=1).key}) == len(others) + 2
    assert plan(small.restrict(np.arange(100))).key != key


class Mine(Attack):
    """An attack of the user's."""

    name = "mine"
    needs = "nothing"

    def score(self, observation: Observation) -> Any:
        return np.zeros(len(observation))


def test_scores_of_user_code_are_not_kept(small: Interactions) -> None:
    """Its code can change without a trace."""
    settings = AuditSettings.parse(QUICK | {"attacks": ["mlp", "mine"]})
    found = plan_from_data(resolve(settings, attacks={"mine": AttackSpec.of(Mine())}), small, 0)
    assert found.key is None
    assert [spec.name for spec in found.setup.other_attacks][:2] == ["mlp", "mine"]
    assert all(spec in found.setup.attacks for spec in ATTACKS.values() if spec.rule)


def test_defences_change_every_task(small: Interactions) -> None:
    found = plan(small, defence="shorter-lists=5+gumbel=30")
    assert {task.k for task in found.tasks} == {5}
    assert {str(wrapper) for task in found.tasks for wrapper in task.wrappers} == {"gumbel=30"}


def test_a_plan_of_files(small: Interactions) -> None:
    given = {"interactions": "a.csv", "lists": "b.csv", "members": "c.csv", "k": 5, "n_shadows": 4, "seed": 3}
    settings = FilesSettings.parse(given | {"attacks": ["list-lr-counts"], "regime": "trained"} | {"n_shadows": 6})
    side = Side(small, draw_members(small.n_users, 0.5, np.random.default_rng(0)))
    target = Served(side, np.tile(np.arange(5, dtype=np.int32), (small.n_users, 1)))
    halves = shadow_halves(small, 6, 3)
    found = plan_from_files(resolve(settings), target, side, halves, [small])
    (section,) = found.sections
    assert (section.level, section.regime, section.stream) == ("grey-box", "as-served", "trained")
    assert section.targets == (target,)
    assert isinstance(section.shadow, Task)
    assert [task.regime for task in found.tasks] == ["trained"] * 7
    assert [task.path for task in found.tasks] == [(3, "shadow"), *((3, "pool", s) for s in range(6))]
    assert found.key is None
    served = plan_from_files(resolve(settings), target, target, [target] * 6, [small])
    assert served.tasks == []
    assert plan_from_files(resolve(settings), target, None, [], [small]).sections[0].systems == (target,)


def test_join_users(small: Interactions) -> None:
    parts = [small.restrict(np.arange(3, 9)), small.restrict(np.arange(50, 54))]
    both = join_users(*parts)
    assert both.items is small.items
    assert both.users.ids.tolist() == list(range(10))
    np.testing.assert_array_equal(both.csr().toarray(), np.vstack([part.csr().toarray() for part in parts]))
    assert both.time is not None
    times = [part.time for part in parts if part.time is not None]
    np.testing.assert_array_equal(both.time, np.concatenate(times))
    plain = Interactions(small.user, small.item, small.value, None, small.users, small.items, rated=False)
    for mixed in (join_users(small, plain), join_users(plain, small)):
        assert (mixed.time, mixed.rated, mixed.n_users) == (None, False, 240)

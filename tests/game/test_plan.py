"""What an audit trains and serves, and what its scores depend on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from recmia import Interactions
from recmia.attacks import ATTACKS, Attack, AttackSpec, Observation
from recmia.data.interactions import join_users
from recmia.errors import ConfigError, TooFewUsersError
from recmia.game.plan import (
    Plan,
    Served,
    check_strangers,
    plan_from_data,
    plan_from_files,
    plan_of_interactions,
    servings,
    shadow_halves,
    work_units,
)
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
        {"n_targets": 2}, {"held_out": 0.1}, {"mlp": {"epochs": 3}}, {"recommender": "als"}, {"shadow": "als"},
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
    assert [spec.name for spec in found.setup.attacks if spec.needs != "pool"][:2] == ["mlp", "mine"]
    assert all(spec in found.setup.attacks for spec in ATTACKS.values() if spec.rule and spec.unit == "user")


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


# ---- What an attacker asks ----

ASKING: dict[str, Any] = {"attacks": ["completion", "completion-reference", "query-lr"], "references": ["ease", "lfm"]}


def models(references: Sequence[Any]) -> list[Task]:
    """Reference models of an audit of data, all of which are trained."""
    assert all(isinstance(one, Task) for one in references)
    return list(references)


def test_every_system_is_asked_the_same(small: Interactions) -> None:
    found = plan(small, regimes=["popular", "fold-in", "trained"], n_targets=2, **ASKING)
    popular, folding, trained = found.sections
    asked = folding.targets[0].queries
    assert asked is not None
    assert len(asked) == 6 * found.audited.n_users
    for section in (folding, trained):
        for system in (*section.targets, *section.pool, *models(section.references)):
            assert system.queries is asked
    assert all(system.queries is None for system in popular.systems), "nobody answers a stranger there"
    assert not popular.references
    assert folding.shadow is not None
    of_shadow = folding.shadow.queries
    assert of_shadow is not None
    assert of_shadow is not asked
    assert all(system.queries is of_shadow for system in models(folding.shadow_references))
    # Nothing is asked twice: the regime changes no answer.
    answers = [one.answers_key for one in found.tasks if one.queries is not None]
    systems = 2 + 1 + 8 + 2 + 2
    assert len(set(answers)) == systems


def test_references_are_trained_on_nobody_who_is_scored(small: Interactions) -> None:
    for knowledge in ("grey-box", "black-box"):
        (section,) = plan(small, regimes=["fold-in"], knowledge=[knowledge], **ASKING).sections
        assert section.shadow is not None
        audited, own = section.targets[0].side.interactions, section.shadow.side.interactions
        assert [one.recommender.name for one in models(section.references)] == ["ease", "lfm"]
        for one in models(section.references):
            assert one.side.interactions is own
            assert one.side.member.all(), "members or not: whose histories the attacker has, and no more"
            assert one.regime is None
        for one in models(section.shadow_references):
            assert one.side.interactions is audited
    assert (
        not plan(small, regimes=["fold-in"], **ASKING | {"attacks": ["completion", "query-lr"]}).sections[0].references
    )
    without = plan(small, regimes=["fold-in"], thresholds=False, **ASKING).sections[0]
    assert without.references
    assert not without.shadow_references, "nobody scores the shadow users"


def test_references_trained_on_audited_users_are_refused(small: Interactions) -> None:
    with pytest.raises(ConfigError, match="60 of 120 audited users are among the 60 to train on"):
        check_strangers(small.restrict(np.arange(60)), small)


def test_an_attacker_who_knows_a_part_trains_and_asks_with_that(small: Interactions) -> None:
    whole, found = plan(small, regimes=["fold-in"], **ASKING), plan(small, regimes=["fold-in"], known=0.25, **ASKING)
    (section,) = found.sections
    assert found.known.users is found.audited.users
    assert len(found.known) < len(found.audited) / 3
    assert whole.known is whole.audited
    assert section.targets[0].side.interactions is found.audited, "the system is trained on everything"
    served = section.targets[0], whole.sections[0].targets[0]
    assert len({one.key for one in served if isinstance(one, Task)}) == 1
    queries = section.targets[0].queries
    assert queries is not None
    known = found.known.csr()[queries.user]
    assert (queries.asked + queries.hidden - known).nnz == 0
    for one in section.pool:
        assert one.side.interactions is found.known
    for reference in models(section.shadow_references):
        assert reference.side.interactions is found.known


def test_a_black_box_attacker_asks_its_shadows_about_its_own_users_first(small: Interactions) -> None:
    (section,) = plan(small, regimes=["fold-in"], knowledge=["black-box"], **ASKING).sections
    assert section.shadow is not None
    own = section.shadow.side.interactions.n_users
    asked, queries = section.targets[0].queries, section.pool[0].queries
    assert asked is not None
    assert queries is not None
    later = queries.user >= own
    assert np.array_equal(queries.user[later] - own, asked.user)
    assert (queries.asked[later] - asked.asked).nnz == 0
    assert not later[: int((~later).sum())].any()


def test_shadows_serve_longer_lists_within_the_memory(small: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    def lengths(**settings: Any) -> set[int]:
        found = plan(small, regimes=["fold-in"], **settings)
        assert isinstance(found.sections[0].targets[0], Task)
        assert found.sections[0].targets[0].length == 10
        return {one.length for one in found.sections[0].pool if isinstance(one, Task)}

    assert lengths() == {100}
    assert lengths(depth=40) == {40}
    assert lengths(depth=1) == {10}
    assert lengths(defence="gumbel=3000") == {10}, "its noise is made for lists of ten"
    monkeypatch.setattr("recmia.game.plan._MOST_LISTED", 8 * 60 * 33)
    assert lengths() == {33}


def test_what_a_stranger_is_answered_stands_beside_what_members_are_served(small: Interactions) -> None:
    folding, trained = plan(small, regimes=["fold-in", "trained"], n_targets=2, **ASKING).sections
    assert not folding.twins
    assert trained.shadow is not None
    assert [one.model_key for one in trained.twins] == [
        one.model_key for one in (*trained.targets, trained.shadow) if isinstance(one, Task)
    ]
    assert {one.regime for one in trained.twins} == {"fold-in"}
    # Nothing more is served than in fold-in.
    assert isinstance(folding.targets[0], Task)
    assert trained.twins[0].key == folding.targets[0].key
    for settings in ({"queries": 0, "attacks": ["mlp"]}, {"known": 0.5}):
        (section,) = plan(small, regimes=["trained"], **ASKING | settings).sections
        assert not section.twins, "it takes the whole history"


# ---- A coin for each interaction ----

OF_INTERACTIONS: dict[str, Any] = {"unit": "interactions", "k": 10, "factors": 8, "n_shadows": 4}


def of_interactions(data: Interactions, seed: int = 0, **settings: Any) -> Plan:
    return plan_of_interactions(resolve(AuditSettings.parse(OF_INTERACTIONS | settings)), data, seed)


def coins_of(systems: Sequence[Any]) -> Any:
    """Which interactions each system is trained on: bool, one row for each."""
    assert all(isinstance(one, Task) and one.side.trained is not None for one in systems)
    return np.stack([one.side.trained for one in systems])


def test_a_plan_of_interactions(small: Interactions) -> None:
    found = of_interactions(small, n_targets=2)
    (section,) = found.sections
    assert (section.level, section.regime, section.shadow) == ("grey-box", "fold-in", None)
    assert (len(section.targets), len(section.pool), len(section.references)) == (2, 4, 3)
    audited = found.audited
    assert all(one.side.interactions is audited for one in (*section.targets, *section.pool))
    assert found.known is audited
    assert {one.regime for one in section.targets if isinstance(one, Task)} == {"fold-in"}
    assert {one.regime for one in section.pool if isinstance(one, Task)} == {None}, "shadow models only answer"
    assert len({task.model_key for task in found.tasks}) == len(found.tasks) == 2 + 4 + 3
    assert plan_from_data(found.setup, small, 0).key == found.key
    assert [one.key for one in plan_from_data(found.setup, small, 0).tasks[:2]] == [one.key for one in found.tasks[:2]]


def test_all_systems_of_interactions_are_asked_the_same(small: Interactions) -> None:
    found = of_interactions(small, n_targets=2, blocks=5)
    (section,) = found.sections
    queries = section.targets[0].queries
    assert queries is not None
    for one in (*section.targets, *section.pool, *models(section.references)):
        assert one.queries is queries
    lengths = np.bincount(found.audited.user)
    assert len(queries) == np.minimum(lengths, 5)[lengths > 1].sum()
    assert queries.hidden.nnz == lengths[lengths > 1].sum()
    other = of_interactions(small, seed=1, blocks=5).sections[0].targets[0].queries
    assert other is not None
    assert other.fingerprint != queries.fingerprint


def test_each_interaction_has_a_coin_of_its_own(small: Interactions) -> None:
    """Those of the targets are independent of each other and of the pool's, of which pairs are complements."""
    (section,) = of_interactions(small, n_targets=4, n_shadows=6).sections
    targets, pool = coins_of(section.targets), coins_of(section.pool)
    np.testing.assert_array_equal(pool[::2], ~pool[1::2])
    apart = np.concatenate([targets, pool[::2]])
    m = apart.shape[1]
    five = 5 * 0.5 / np.sqrt(m)
    assert (abs(apart.mean(axis=1) - 0.5) < five).all()
    for i, one in enumerate(apart):
        for other in apart[:i]:
            assert abs((one == other).mean() - 0.5) < five
    # Within a user, too: the share that falls in varies as with coins.
    user = section.targets[0].side.interactions.user
    share = np.array([np.bincount(user[one]) for one in apart]) / np.bincount(user)
    assert np.mean((share - 0.5) ** 2 * np.bincount(user)) == pytest.approx(0.25, rel=0.25)


def test_shares_of_interactions(small: Interactions) -> None:
    """The system trains on the share that is set; shadow models are of halves."""
    (section,) = of_interactions(small, member_share=0.8).sections
    targets, pool = coins_of(section.targets), coins_of(section.pool)
    spread = 5 * 0.5 / np.sqrt(targets.shape[1])
    assert abs(targets.mean() - 0.8) < spread
    assert (abs(pool.mean(axis=1) - 0.5) < spread).all()


def test_more_targets_and_shadows_leave_the_first_as_they_are(small: Interactions) -> None:
    few, many = of_interactions(small), of_interactions(small, n_targets=3, n_shadows=8)
    first, more = few.sections[0], many.sections[0]
    for one, other in ((first.targets, more.targets), (first.pool, more.pool), (first.references, more.references)):
        for task, same in zip(models(one), models(other), strict=False):
            assert task.model_key == same.model_key


def test_references_of_interactions_are_trained_on_strangers(small: Interactions) -> None:
    (section,) = of_interactions(small, references=["ease", "popularity"]).sections
    audited = section.targets[0].side.interactions
    assert [one.recommender.name for one in models(section.references)] == ["ease", "popularity"]
    for one in models(section.references):
        assert not set(one.side.interactions.users.ids.tolist()) & set(audited.users.ids.tolist())
        assert one.side.member.all()
        assert one.side.trained is None, "on all that is known of them"
        assert one.asked_of is audited.users
    found = of_interactions(small)
    popularity = found.items["grey-box"].popularity
    assert not set(popularity.users.ids.tolist()) & set(found.audited.users.ids.tolist()), (
        "not counted over the audited"
    )
    with pytest.raises(ConfigError, match="reference models, which must be trained on people who are not audited"):
        of_interactions(small, split="shared")


def test_what_no_attack_needs_is_not_trained(small: Interactions) -> None:
    (alone,) = of_interactions(small, attacks=["item-completion"]).sections
    assert not alone.pool
    assert not alone.references
    (pooled,) = of_interactions(small, attacks=["item-lr"], split="shared").sections
    assert len(pooled.pool) == 4
    assert not pooled.references
    assert pooled.targets[0].side.interactions.n_users == small.n_users


def test_held_out_interactions_are_neither_trained_on_nor_hidden(small: Interactions) -> None:
    found = of_interactions(small, held_out=0.2)
    assert found.held_out is not None
    whole = found.everyone[0].csr() + found.held_out.csr()
    np.testing.assert_array_equal(whole.toarray(), small.csr().toarray())
    queries = found.sections[0].targets[0].queries
    assert queries is not None
    rows = np.searchsorted(small.users.ids, found.audited.users.ids)
    kept = found.held_out.csr()[rows]
    assert kept[queries.user].multiply(queries.hidden + queries.asked).nnz == 0


def test_the_key_of_a_plan_depends_on_the_unit(small: Interactions) -> None:
    found = of_interactions(small)
    changes: list[dict[str, Any]] = [{"blocks": 5}, {"n_shadows": 6}, {"member_share": 0.4}, {"references": ["ease"]}]
    keys = {of_interactions(small, **change).key for change in changes}
    assert None not in keys
    assert len(keys | {found.key, plan(small).key, of_interactions(small, seed=1).key}) == len(changes) + 3


def pairs_of(data: Interactions, users: Any = slice(None)) -> set[tuple[Any, ...]]:
    part = data.restrict(np.arange(data.n_users)[users])
    return set(zip(part.users.ids[part.user].tolist(), part.items.ids[part.item].tolist(), strict=True))


def test_a_sample_is_audited_of_all_who_are_trained_on(small: Interactions) -> None:
    """Systems are as large as without a sample; only the sample is served, asked about and attacked."""
    whole, found = plan(small), plan(small, n_audited=20)
    assert found.audited.n_users == 20
    assert set(found.audited.users.ids.tolist()) <= set(whole.audited.users.ids.tolist())
    section, of_all = found.sections[0], whole.sections[0]
    for one, before in ((section.targets[0], of_all.targets[0]), (section.shadow, of_all.shadow)):
        assert isinstance(one, Task)
        assert isinstance(before, Task)
        members = pairs_of(before.side.interactions, before.side.member)
        assert pairs_of(one.side.interactions, one.side.member) | pairs_of(one.side.others) == members  # type: ignore[arg-type]
        assert len(one.side.training_data()) == len(members), "everybody once"
        assert one.key != before.key
    own = set(of_all.shadow.side.interactions.users.ids.tolist())  # type: ignore[union-attr]
    for one in section.pool:
        assert isinstance(one, Task)
        assert one.side.others is not None
        assert set(one.side.others.users.ids.tolist()) <= own, "the attacker fills its models up with its own people"
    assert found.items["grey-box"].popularity.n_users == of_all.shadow.side.interactions.n_users  # type: ignore[union-attr]
    assert found.key != whole.key
    assert plan(small, n_audited=10**6).key != whole.key
    assert len(plan(small, n_audited=10**6).tasks) == len(whole.tasks)
    with pytest.raises(ConfigError, match="split = 'shared' gives all users to both sides"):
        plan(small, n_audited=20, split="shared")
    with pytest.raises(TooFewUsersError, match="n_audited = 19 is too few: 20 are needed"):
        plan(small, n_audited=19)


def test_targets_of_a_sample_differ_in_its_members_alone(small: Interactions) -> None:
    section = plan(small, n_audited=20, n_targets=2).sections[0]
    first, second = (one.side for one in section.targets)
    assert first.others is second.others
    assert (first.member != second.member).any()

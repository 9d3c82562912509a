"""Who is a member: disjoint sides and fair draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recmia import Interactions
from recmia.errors import ConfigError, ProtocolError, TooFewUsersError
from recmia.game.split import (
    Side,
    Split,
    draw_members,
    draw_shadow_members,
    hold_out,
    split_game,
    synthetic_population,
)
from recmia.seeding import rng_for


def ids(part: Interactions) -> set[int]:
    return set(part.users.ids.tolist())


@pytest.mark.parametrize("public", [False, True])
def test_split_by_users(small: Interactions, rng: np.random.Generator, public: bool) -> None:
    split = split_game(small, public=public, rng=rng)
    parts = [split.shadow.interactions, split.target.interactions]
    if split.public is not None:
        parts.append(split.public)
    assert len(parts) == 2 + public
    assert set.union(*map(ids, parts)) == ids(small)
    assert sum(len(part) for part in parts) == len(small)
    for side in (split.shadow, split.target):
        members = ids(side.training_data())
        assert members == set(side.interactions.users.ids[side.member].tolist())


def test_split_by_interactions(small: Interactions, rng: np.random.Generator) -> None:
    split = split_game(small, unit="interactions", rng=rng)
    assert split.public is not None
    parts = [split.shadow.interactions, split.target.interactions, split.public]
    whole = np.sum([part.csr().toarray() for part in parts], axis=0)
    np.testing.assert_array_equal(whole, small.csr().toarray())
    lengths = np.array([np.bincount(part.user, minlength=small.n_users) for part in parts])
    assert (np.ptp(lengths, axis=0) <= 1).all(), "thirds of each user differ by one at most"
    assert (split.shadow.member != split.target.member).any(), "each side draws its own members"


def test_member_share(small: Interactions, rng: np.random.Generator) -> None:
    split = split_game(small, member_share=0.25, rng=rng)
    assert split.target.member.mean() == pytest.approx(0.25, abs=5 * np.sqrt(0.25 * 0.75 / 60))


def test_each_user_has_a_coin_of_its_own() -> None:
    """The number of members is binomial, and two users are both members with the square of the share."""
    draws = np.stack([draw_members(40, 0.3, rng_for(seed, "coins")) for seed in range(2000)])
    numbers = draws.sum(axis=1)
    assert numbers.mean() == pytest.approx(12, abs=5 * np.sqrt(40 * 0.21 / 2000))
    assert numbers.var() == pytest.approx(40 * 0.21, rel=0.2), "a fixed number of members would have no variance"
    assert (draws[:, 0] & draws[:, 1]).mean() == pytest.approx(0.09, abs=5 * np.sqrt(0.09 * 0.91 / 2000))


def test_the_draw_is_fair(small: Interactions) -> None:
    """Membership knows nothing of the history: over many games its length tells members no better than a coin."""
    lengths = np.bincount(small.user, minlength=small.n_users)
    by_id = dict(zip(small.users.ids.tolist(), lengths.tolist(), strict=True))
    gaps, times_member = [], dict.fromkeys(by_id, 0)
    for seed in range(300):
        side = split_game(small, rng=rng_for(seed, "fair")).target
        length = np.array([by_id[user] for user in side.interactions.users.ids.tolist()])
        gaps.append(length[side.member].mean() - length[~side.member].mean())
        for user in side.interactions.users.ids[side.member].tolist():
            times_member[user] += 1
    assert abs(np.mean(gaps)) < 3 * np.std(gaps) / np.sqrt(len(gaps))
    # A user is a target member with probability 1/4; five standard deviations leave room for 120 users.
    assert abs(np.array(list(times_member.values())) - 75).max() < 5 * np.sqrt(300 * 0.25 * 0.75)


def test_shared_users_are_refused(small: Interactions, rng: np.random.Generator) -> None:
    split = split_game(small, rng=rng)
    with pytest.raises(ProtocolError, match="share 60 users; they must be disjoint"):
        Split(split.target, split.target, None, "users")


def test_shared_interactions_are_refused(small: Interactions, rng: np.random.Generator) -> None:
    split = split_game(small, unit="interactions", rng=rng)
    with pytest.raises(ProtocolError, match=r"share .* interactions"):
        Split(split.shadow, split.target, split.target.interactions, "interactions")


def test_too_few_users(small: Interactions, rng: np.random.Generator) -> None:
    with pytest.raises(TooFewUsersError, match="39 eligible users are too few: 40 are needed") as caught:
        split_game(small.restrict(np.arange(39)), rng=rng)
    assert caught.value.estimate == 40
    split_game(small.restrict(np.arange(40)), rng=rng)
    with pytest.raises(TooFewUsersError) as caught:
        split_game(small, member_share=0.01, rng=rng)
    assert caught.value.estimate == 2000


def test_records_too_few_to_part(rng: np.random.Generator) -> None:
    data = Interactions.from_arrays(np.repeat(np.arange(30), 2), np.tile([0, 1], 30))
    with pytest.raises(ConfigError, match=r"user 0 has 2; raise min_interactions"):
        split_game(data, unit="interactions", rng=rng)


def test_split_shared(small: Interactions, rng: np.random.Generator) -> None:
    split = split_game(small, unit="shared", rng=rng)
    assert split.public is None
    assert split.shadow.interactions is split.target.interactions is small
    agreement = (split.shadow.member == split.target.member).mean()
    assert abs(agreement - 0.5) < 5 * 0.5 / np.sqrt(small.n_users), "the members of each side are drawn apart"
    with pytest.raises(ConfigError, match="sets no public part aside; take item_vectors = 'shadow'"):
        split_game(small, unit="shared", public=True, rng=rng)
    # Both sides use all users, so half as many will do.
    split_game(small.restrict(np.arange(20)), unit="shared", rng=rng)
    with pytest.raises(TooFewUsersError, match="20 are needed"):
        split_game(small.restrict(np.arange(19)), unit="shared", rng=rng)


def shadow_members(n: int, S: int) -> Any:
    return draw_shadow_members(n, [rng_for(0, "shadow members", s) for s in range(S)])


def test_halves_come_in_complementary_pairs() -> None:
    for n in (60, 61):
        member = shadow_members(n, 10)
        assert member.shape == (10, n)
        np.testing.assert_array_equal(member[1::2], ~member[::2])
        assert (member.sum(axis=0) == 5).all()
        assert abs(member.mean(axis=1) - 0.5).max() < 5 * 0.5 / np.sqrt(n)
        assert len(np.unique(member, axis=0)) == 10
    # Different pairs know nothing of each other.
    first = shadow_members(1000, 20)[::2]
    agreement = (first[:, None] == first[None]).mean(axis=2)[np.triu_indices(10, 1)]
    assert abs(agreement - 0.5).max() < 5 * 0.5 / np.sqrt(1000)


def test_more_shadows_leave_the_first_as_they_are() -> None:
    many = shadow_members(60, 16)
    for few in range(0, 17, 2):
        np.testing.assert_array_equal(shadow_members(60, few), many[:few])
    np.testing.assert_array_equal(many[0], draw_members(60, 0.5, rng_for(0, "shadow members", 0)))


def test_a_synthetic_population_follows_public_statistics(small: Interactions) -> None:
    drawn = synthetic_population(small, 3000, rng=np.random.default_rng(0))
    assert (drawn.n_users, drawn.items is small.items, drawn.rated) == (3000, True, True)
    assert drawn.users.ids.tolist() == list(range(3000))
    # Interactions themselves refuse repeats and rows out of range; no item comes out of nowhere.
    assert set(np.unique(drawn.item)) <= set(np.unique(small.item))
    length, public = np.bincount(drawn.user, minlength=3000), np.bincount(small.user)
    assert set(length.tolist()) <= set(public.tolist())
    assert abs(length.mean() - public.mean()) < 5 * public.std() / np.sqrt(3000)
    # Popular items come more often, in proportion but for what a history can hold once.
    share, truth = drawn.item_counts() / len(drawn), small.item_counts() / len(small)
    assert np.corrcoef(share, truth)[0, 1] > 0.97
    rare = truth < np.median(truth)
    assert abs(share[rare].sum() / truth[rare].sum() - 1) < 0.25
    assert abs(drawn.value.mean() - small.value.mean()) < 5 * small.value.std() / np.sqrt(len(drawn))
    assert drawn.time is not None
    assert small.time is not None
    assert set(drawn.time[:50].tolist()) <= set(small.time.tolist())


def test_short_histories_are_drawn_in_proportion() -> None:
    """One item each: the shares are those of the popularity, by a test that a draw by rank would fail."""
    counts = np.array([64, 16, 4, 1])
    item = np.repeat(np.arange(4), counts)
    public = Interactions.from_arrays(np.arange(len(item)), item)
    drawn = synthetic_population(public, 20_000, rng=np.random.default_rng(1))
    expected = counts / counts.sum()
    spread = np.sqrt(expected * (1 - expected) / 20_000)
    assert (abs(drawn.item_counts() / 20_000 - expected) < 5 * spread).all()
    assert (drawn.rated, drawn.time) == (False, None)


def test_what_was_liked_together_is_lost() -> None:
    """Two groups with a taste each; drawn users mix them. Long histories end where there is nothing left."""
    user, item = np.repeat(np.arange(100), 10), np.arange(1000) % 10
    public = Interactions.from_arrays(user, item + 10 * (user % 2))
    drawn = synthetic_population(public, 200, rng=np.random.default_rng(2)).csr().toarray() > 0
    assert (drawn.sum(axis=1) == 10).all()
    assert (drawn[:, :10].any(axis=1) & drawn[:, 10:].any(axis=1)).mean() > 0.99
    everything = Interactions.from_arrays(np.repeat(np.arange(3), 4), np.tile(np.arange(4), 3))
    assert (synthetic_population(everything, 5, rng=np.random.default_rng(0)).csr().toarray() > 0).all()


def test_a_synthetic_population_repeats_itself(small: Interactions) -> None:
    one, again, other = (synthetic_population(small, 40, rng=np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert one.fingerprint() == again.fingerprint() != other.fingerprint()


def test_member_must_fit(small: Interactions) -> None:
    with pytest.raises(ProtocolError, match=r"bool\[120\]"):
        Side(small, np.ones(3, np.bool_))


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99])
def test_held_out_interactions_part_every_users_own(small: Interactions, share: float) -> None:
    known, held = hold_out(small, share, np.random.default_rng(1))
    both = known.csr() + held.csr()
    assert np.array_equal(both.toarray(), small.csr().toarray())
    assert known.csr().multiply(held.csr()).nnz == 0
    counts, kept = (np.bincount(part.user, minlength=small.n_users) for part in (small, known))
    assert np.array_equal(counts - kept, np.minimum(np.ceil(share * counts), counts - 1))
    assert kept.min() >= 1
    again, _ = hold_out(small, share, np.random.default_rng(1))
    assert np.array_equal(again.item, known.item)


def test_users_with_one_interaction_have_nothing_to_hold_out() -> None:
    lonely = Interactions.from_arrays([0, 1, 2], [0, 1, 1])
    with pytest.raises(ConfigError, match="no user has two interactions"):
        hold_out(lonely, 0.5, np.random.default_rng(0))


# ---- A coin for each interaction ----


def test_a_side_of_interactions(small: Interactions, rng: np.random.Generator) -> None:
    trained = draw_members(len(small), 0.5, rng)
    # Of some users, nothing is trained on.
    trained[small.user < 3] = False
    side = Side.of_interactions(small, trained)
    assert np.flatnonzero(~side.member).tolist()[:3] == [0, 1, 2]
    assert np.array_equal(side.member, np.isin(np.arange(small.n_users), small.user[trained]))
    data = side.training_data()
    assert len(data) == trained.sum()
    assert data.n_users == side.member.sum()
    assert data.items is small.items
    assert np.array_equal(data.users.ids, small.users.ids[side.member])
    kept = small.csr().toarray()
    kept[small.user[~trained], small.item[~trained]] = 0
    np.testing.assert_array_equal(data.csr().toarray(), kept[side.member])
    # The system knows of each user what it was trained on, and nothing of the others.
    np.testing.assert_array_equal(side.histories().toarray(), kept)
    assert side.histories().shape == small.csr().shape


def test_a_side_of_users_knows_whole_histories(small: Interactions, rng: np.random.Generator) -> None:
    side = Side(small, draw_members(small.n_users, 0.5, rng))
    assert side.trained is None
    np.testing.assert_array_equal(side.histories().toarray(), small.csr().toarray())
    everything = Side.of_interactions(small, np.ones(len(small), np.bool_))
    assert everything.training_data().fingerprint() == small.fingerprint()
    np.testing.assert_array_equal(everything.histories().toarray(), small.csr().toarray())


def test_what_was_trained_on_must_fit(small: Interactions) -> None:
    member = np.ones(small.n_users, np.bool_)
    faults: list[Any] = [np.ones(3, np.bool_), np.ones(len(small), np.int8)]
    for wrong in faults:
        with pytest.raises(ProtocolError, match=rf"trained must be bool\[{len(small)}\]"):
            Side(small, member, wrong)
    trained = np.ones(len(small), np.bool_)
    side = Side.of_interactions(small, trained)
    for array in (side.trained, side.member):
        assert array is not None
        with pytest.raises(ValueError, match="read-only"):
            array[0] = False

"""The membership game: disjoint sides, fair draws, and what each regime serves."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pytest
from scipy import sparse

from recmia import Interactions
from recmia.errors import ConfigError, ProtocolError, TooFewUsersError
from recmia.factorization import SGDSettings
from recmia.game import Side, Split, serve, split_game
from recmia.recommenders import LFM, Recommender
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
        assert side.member.sum() == round(len(side.member) / 2)
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
    assert split.target.member.mean() == pytest.approx(0.25, abs=0.01)


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


class Recorder(Recommender):
    """Recommends by a fixed ranking, the same for all, and keeps what it was asked."""

    def __init__(self, n_items: int) -> None:
        self.known = np.ones(n_items, np.bool_)
        self.asked: list[int] = []

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        return self

    def scores(self, histories: sparse.csr_array) -> Any:
        self.asked.append(histories.shape[0])
        return np.tile(np.arange(histories.shape[1], dtype=np.float32), (histories.shape[0], 1))


@pytest.fixture
def side(small: Interactions) -> Side:
    return split_game(small, rng=np.random.default_rng(3)).target


@pytest.fixture
def model(side: Side) -> LFM:
    return LFM(SGDSettings(epochs=3), l=8).fit(side.training_data(), rng=np.random.default_rng(0))


def test_popular(side: Side, model: LFM, rng: np.random.Generator) -> None:
    lists = serve("popular", model, side, 10, rng=rng)
    counts = side.training_data().item_counts()
    assert (lists[~side.member] == lists[~side.member][0]).all()
    assert counts[lists[~side.member][0]].tolist() == sorted(counts.tolist(), reverse=True)[:10]
    assert len(np.unique(lists[side.member], axis=0)) > 10, "members get personal lists"


def test_the_popular_list_does_not_know_non_members(side: Side, model: LFM, rng: np.random.Generator) -> None:
    """Other non-members, same members: the same popular list. A list that counted everyone would leak."""
    member_rows = np.flatnonzero(side.member)
    fewer_rows = np.sort(np.concatenate([member_rows, np.flatnonzero(~side.member)[:3]]))
    fewer = Side(side.interactions.restrict(fewer_rows), side.member[fewer_rows])
    lists, again = (serve("popular", model, some, 10, rng=rng) for some in (side, fewer))
    np.testing.assert_array_equal(lists[~side.member][0], again[~fewer.member][0])


def test_popular_random(side: Side, model: LFM) -> None:
    lists = serve("popular-random", model, side, 5, alpha=0.1, rng=np.random.default_rng(0))
    counts = side.training_data().item_counts()
    top = set(np.argsort(-counts, kind="stable")[:50].tolist())
    served = lists[~side.member]
    assert set(served.ravel().tolist()) <= top
    assert len(set(served.ravel().tolist())) > 40
    assert all(len(set(row.tolist())) == 5 for row in served)
    again, other = (
        serve("popular-random", model, side, 5, alpha=0.1, rng=np.random.default_rng(seed)) for seed in (0, 1)
    )
    np.testing.assert_array_equal(lists, again)
    assert not np.array_equal(lists, other)
    plain = serve("popular", model, side, 5, rng=np.random.default_rng(0))
    all_of_them = serve("popular-random", model, side, 5, alpha=1.0, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(plain), np.sort(all_of_them))


def test_fold_in_serves_all_alike(side: Side, model: LFM, rng: np.random.Generator) -> None:
    lists = serve("fold-in", model, side, 10, rng=rng)
    flipped = serve("fold-in", model, Side(side.interactions, ~side.member), 10, rng=rng)
    np.testing.assert_array_equal(lists, flipped)


def test_trained_differs_for_members_alone(side: Side, model: LFM, rng: np.random.Generator) -> None:
    fold_in, trained, popular = (
        serve(regime, model, side, 10, rng=rng) for regime in ("fold-in", "trained", "popular")
    )
    np.testing.assert_array_equal(fold_in[~side.member], trained[~side.member])
    assert (fold_in[side.member] != trained[side.member]).any()
    np.testing.assert_array_equal(trained[side.member], popular[side.member])


def test_trained_vectors_belong_to_their_users(small: Interactions) -> None:
    """Trained on all rows in order, the trained vector and a well-converged fold-in give nearly the same list."""
    settings = SGDSettings(feedback="explicit", epochs=800, learning_rate=0.02, regularisation=0.2)
    side = Side(small, np.ones(small.n_users, np.bool_))
    model = LFM(settings, l=4).fit(side.training_data(), rng=np.random.default_rng(0))
    trained, folded = (
        serve(regime, model, side, 10, rng=np.random.default_rng(0)) for regime in ("trained", "fold-in")
    )
    overlap = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(trained, folded, strict=True)])
    shifted = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(trained, np.roll(folded, 1, axis=0), strict=True)])
    assert overlap > shifted + 0.2


def test_a_model_without_user_vectors_serves_from_the_history(side: Side, rng: np.random.Generator) -> None:
    model = Recorder(side.interactions.n_items)
    serve("trained", model, side, 3, rng=rng)
    assert sorted(model.asked) == sorted([int(side.member.sum()), int((~side.member).sum())])


def test_seen_items(side: Side, model: LFM, rng: np.random.Generator) -> None:
    seen = side.interactions.csr().toarray() > 0
    for regime in ("fold-in", "trained"):
        without = serve(regime, model, side, 10, rng=rng)
        kept = serve(regime, model, side, 10, exclude_seen=False, rng=rng)
        assert not np.take_along_axis(seen, without, axis=1).any()
        assert np.take_along_axis(seen, kept, axis=1)[side.member].mean() > 0.1


def test_unknown_regime(side: Side, model: LFM, rng: np.random.Generator) -> None:
    with pytest.raises(ConfigError, match="did you mean 'fold-in'"):
        serve("foldin", model, side, 3, rng=rng)  # type: ignore[arg-type]


def test_member_must_fit(small: Interactions) -> None:
    with pytest.raises(ProtocolError, match=r"bool\[120\]"):
        Side(small, np.ones(3, np.bool_))

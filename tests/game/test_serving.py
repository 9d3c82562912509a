"""What each regime serves."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pytest
from scipy import sparse

from recmia import Interactions
from recmia.errors import ConfigError, ProtocolError
from recmia.game.queries import draw_queries
from recmia.game.serving import answer, check_servable, serve
from recmia.game.split import Side, split_game
from recmia.recommenders import LFM, Recommender
from recmia.settings import SGDSettings


class Recorder(Recommender):
    """Recommends by a fixed ranking, the same for all, and keeps what it was asked."""

    def __init__(self, n_items: int) -> None:
        self.trained_items = np.ones(n_items, np.bool_)
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
    return LFM(SGDSettings(epochs=3), factors=8).fit(side.training_data(), rng=np.random.default_rng(0))


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
    model = LFM(settings, factors=4).fit(side.training_data(), rng=np.random.default_rng(0))
    trained, folded = (
        serve(regime, model, side, 10, rng=np.random.default_rng(0)) for regime in ("trained", "fold-in")
    )
    overlap = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(trained, folded, strict=True)])
    shifted = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(trained, np.roll(folded, 1, axis=0), strict=True)])
    assert overlap > shifted + 0.2


def test_members_of_a_sample_are_served_their_own_vectors(small: Interactions) -> None:
    """Vectors are trained for the sample's members and then for others, who are not served."""
    side = split_game(small, rng=np.random.default_rng(3)).target.sample(30, np.random.default_rng(0))
    model = LFM(SGDSettings(epochs=3), factors=8).fit(side.training_data(), rng=np.random.default_rng(1))
    n = int(side.member.sum())
    assert len(model.user_vectors) > n
    for regime in ("popular", "trained"):
        lists = serve(regime, model, side, 10, rng=np.random.default_rng(2))
        assert lists.shape == (30, 10)
        scores = model.user_vectors[:n] @ model.item_vectors.T
        histories = side.histories()[side.member].toarray() > 0
        best = np.where(histories | ~model.fitted_items(), -np.inf, scores).max(axis=1)
        np.testing.assert_allclose(scores[np.arange(n), lists[side.member][:, 0]], best, rtol=1e-5)


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


def test_regimes_that_a_recommender_cannot_serve() -> None:
    check_servable("mine", True, ["popular", "popular-random", "fold-in", "trained"])
    check_servable("mine", False, ["popular", "popular-random"])
    for regime in ("fold-in", "trained"):
        words = f"mine cannot serve a user that it was not trained on, which the regime {regime} asks for"
        with pytest.raises(ConfigError, match=words):
            check_servable("mine", False, ["popular", regime])


class Broken(Recorder):
    """Fails with an error of its own."""

    def scores(self, histories: sparse.csr_array) -> Any:
        raise KeyError("what?")


def test_a_model_that_breaks_the_contract_is_named(side: Side, model: LFM, rng: np.random.Generator) -> None:
    with pytest.raises(ProtocolError, match="a fitted Recommender is needed, which fit must return; got a NoneType"):
        serve("fold-in", None, side, 3, rng=rng)  # type: ignore[arg-type]
    broken = Broken(side.interactions.n_items)
    with pytest.raises(ProtocolError, match=r"Broken\.recommend, asked about 60 users, raised KeyError: 'what\?'"):
        serve("fold-in", broken, side, 3, rng=rng)
    broken.trained_items = np.ones(3, np.bool_)
    with pytest.raises(ProtocolError, match=r"Broken\.trained_items must be bool with shape \(200,\) after fit"):
        serve("fold-in", broken, side, 3, rng=rng)


def test_members_and_others_are_answered_alike_bit_for_bit(side: Side, model: LFM) -> None:
    """What is answered depends on the query alone, not on whom it is about, nor on what else is asked."""
    queries = draw_queries(side.interactions, 4, 0.5, np.random.default_rng(0))
    users = side.interactions.users
    answers = answer(model, queries, 10, users=users)
    for member in (True, False):
        chosen, places = queries.take_users(np.flatnonzero(side.member == member))
        assert np.array_equal(answer(model, chosen, 10, users=users), answers[places])
    assert np.array_equal(answers, model.recommend(queries.asked, 10))


def test_queries_are_asked_in_batches(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Recorder(side.interactions.n_items)
    queries = draw_queries(side.interactions, 6, 0.5, np.random.default_rng(0))
    whole = answer(model, queries, 5, users=side.interactions.users)
    monkeypatch.setattr("recmia.game.serving._ASKED_AT_ONCE", 7)
    model.asked.clear()
    assert np.array_equal(answer(model, queries, 5, users=side.interactions.users), whole)
    assert max(model.asked) == 7
    assert sum(model.asked) == len(queries)


class Answering(Recorder):
    """Breaks a rule in the answer to the fourth query."""

    def __init__(self, n_items: int, fault: str) -> None:
        super().__init__(n_items)
        self.fault = fault

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Any:
        lists = super().recommend(histories, k, exclude_seen=exclude_seen)
        row = lists[3]
        if self.fault == "seen":
            row[1] = histories[[3]].indices[0]
        elif self.fault == "few":
            row[-1] = -1
        elif self.fault == "twice":
            row[1] = row[0]
        elif self.fault == "unknown":
            row[1] = histories.shape[1]
        else:
            raise ZeroDivisionError("no such user")
        return lists


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        ("seen", "holds an item that the user has already seen"),
        ("few", "is shorter than it could be"),
        ("twice", "holds an item twice"),
        ("unknown", "holds an item out of"),
        ("error", "raised ZeroDivisionError: no such user"),
    ],
)
def test_an_answer_that_breaks_a_rule_is_named(side: Side, fault: str, rule: str) -> None:
    queries = draw_queries(side.interactions, 2, 0.5, np.random.default_rng(0))
    users = side.interactions.users
    with pytest.raises(ProtocolError) as caught:
        answer(Answering(side.interactions.n_items, fault), queries, 5, users=users)
    assert rule in str(caught.value)
    if fault != "error":
        assert f"the answer to query 3, about user {users.ids[queries.user[3]]}," in str(caught.value)


def test_a_system_that_serves_no_stranger_cannot_be_asked(side: Side, model: LFM) -> None:
    model.folds_in = False
    queries = draw_queries(side.interactions, 2, 0.5, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="LFM cannot be asked"):
        answer(model, queries, 5, users=side.interactions.users)

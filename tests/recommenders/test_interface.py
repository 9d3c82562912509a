"""What a third party's recommender can get wrong is caught where it is served, in one line that says who and what."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import pytest
from scipy import sparse

from recmia import Interactions
from recmia.errors import ConfigError, DivergedError, ProtocolError
from recmia.game.serving import serve
from recmia.game.split import Side
from recmia.recommenders import Recommender

N_USERS, N_ITEMS, K = 6, 12, 3
BAD_USER = 2


class Plain(Recommender):
    """Keeps the contract: the lowest rows first."""

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        self.trained_items = interactions.item_counts() > 0
        return self

    def scores(self, histories: sparse.csr_array) -> Any:
        return np.tile(-np.arange(histories.shape[1], dtype=np.float32), (histories.shape[0], 1))


class Broken(Plain):
    """Changes the lists before it hands them out."""

    def __init__(self, change: Callable[[Any], Any]) -> None:
        self.change = change

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Any:
        return self.change(super().recommend(histories, k, exclude_seen=exclude_seen))


class BrokenScores(Broken):
    """Changes the scores."""

    def scores(self, histories: sparse.csr_array) -> Any:
        return self.change(super().scores(histories))

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Any:
        return Plain.recommend(self, histories, k, exclude_seen=exclude_seen)


@pytest.fixture
def side() -> Side:
    """All users are members; user u has seen items u and u + 1; items 7 and up have no interaction."""
    user = np.repeat(np.arange(N_USERS), 2)
    item = (user + np.tile([0, 1], N_USERS)).astype(np.int32)
    data = Interactions.from_arrays(np.append(user, np.full(5, N_USERS)), np.append(item, np.arange(7, 12)))
    part = data.restrict(np.arange(N_USERS))
    return Side(part, np.ones(N_USERS, np.bool_))


def served(model: Any, side: Side, regime: Any = "fold-in", k: int = K) -> Any:
    fitted = model.fit(side.training_data(), rng=np.random.default_rng(0))
    return serve(regime, fitted, side, k, rng=np.random.default_rng(0))


def put(place: Any, value: int) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array[place] = value
        return array

    return change


def fail(array: Any) -> Any:
    raise ValueError("the index\nis stale")


def test_the_plain_one_is_served(side: Side) -> None:
    assert served(Plain(), side)[0].tolist() == [2, 3, 4]
    # User 0 has seen two of the seven known items: five are left, and -1 pads.
    assert served(Plain(), side, k=7)[0].tolist() == [2, 3, 4, 5, 6, -1, -1]


USER = f"user {BAD_USER}"
LISTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "int64": (lambda lists: lists.astype(np.int64), r"int32 with shape \(6, k\); got int64 with shape \(6, 3\)"),
    "floats": (lambda lists: lists.astype(np.float32), "must be int32 .* got float32"),
    "a list": (lambda lists: lists.tolist(), "must be int32 .* got a list"),
    "nothing": (lambda lists: None, "must be int32 .* got a NoneType"),
    "a sparse array": (sparse.csr_array, "must be int32 .* got a csr_array"),
    "a row too few": (lambda lists: lists[:-1], r"int32 with shape \(6, k\); got int32 with shape \(5, 3\)"),
    "flat": (np.ravel, r"got int32 with shape \(18,\)"),
    "a column too few": (lambda lists: lists[:, :-1].copy(), "must be of length 3, -1 padding what is missing; got 2"),
    "a column too many": (lambda lists: np.hstack([lists, lists * 0 - 1]), "must be of length 3, .* got 6"),
    "too few items": (put((BAD_USER, 2), -1), f"list of {USER} is shorter than it could be"),
    "a repeated item": (lambda x: put((BAD_USER, 1), x[BAD_USER, 0])(x), f"list of {USER} holds an item twice"),
    "an unknown item": (put((BAD_USER, 1), 8), f"list of {USER} holds an item without training data"),
    "a seen item": (put((BAD_USER, 1), BAD_USER), f"list of {USER} holds an item that the user has already seen"),
    "out of range": (put((BAD_USER, 1), N_ITEMS), rf"list of {USER} holds an item out of 0\.\.11"),
    "below -1": (put((BAD_USER, 2), -2), f"list of {USER} holds an item out of"),
    "padding in between": (put((BAD_USER, 0), -1), f"list of {USER} has an item after its padding"),
    "an error": (fail, "raised ValueError: the index is stale"),
}  # fmt: skip
SCORES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "NaN": (put((BAD_USER, 5), np.nan), f"scores of {USER} are not finite"),  # type: ignore[arg-type]
    "infinity": (put((BAD_USER, 5), np.inf), f"scores of {USER} are not finite"),  # type: ignore[arg-type]
    "a row too few": (lambda s: s[:-1], r"must be float32 with shape \(6, 12\); got float32 with shape \(5, 12\)"),
    "a column too few": (lambda s: s[:, :-1], r"got float32 with shape \(6, 11\)"),
    "flat": (np.ravel, r"got float32 with shape \(72,\)"),
    "a list": (lambda s: s.tolist(), r"must be float32 with shape \(6, 12\); got a list"),
    "nothing": (lambda s: None, "got a NoneType"),
    "text": (lambda s: s.astype(str), "must be float32 .* got <U"),
    "objects": (lambda s: s.astype(object), "must be float32 .* got object"),
    "an error": (fail, "raised ValueError: the index is stale"),
}  # fmt: skip
CASES = [
    *(pytest.param(Broken, *case, id=f"lists: {name}") for name, case in LISTS.items()),
    *(pytest.param(BrokenScores, *case, id=f"scores: {name}") for name, case in SCORES.items()),
]


@pytest.mark.parametrize("regime", ["fold-in", "trained", "popular"])
@pytest.mark.parametrize(("broken", "change", "words"), CASES)
def test_what_breaks_the_contract_is_refused(broken: Any, change: Any, words: str, regime: str, side: Side) -> None:
    method = "recommend" if regime == "fold-in" else "recommend_members"
    with pytest.raises(ProtocolError, match=rf"^{broken.__name__}\.{method}, asked about 6 users.*{words}") as caught:
        served(broken(change), side, regime)
    assert "\n" not in str(caught.value)


def test_what_is_allowed_is_served(side: Side) -> None:
    plain = served(Plain(), side)
    for dtype in ("f8", "f2", "i8"):
        np.testing.assert_array_equal(served(BrokenScores(operator.methodcaller("astype", dtype)), side), plain)
    # Scores of items without training data may be anything.
    np.testing.assert_array_equal(served(BrokenScores(put((BAD_USER, 9), np.nan)), side), plain)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (None, "got a NoneType"),
        (np.ones(N_ITEMS), r"got float64 with shape \(12,\)"),
        (np.arange(7), r"got int64 with shape \(7,\)"),
        (np.ones(N_ITEMS - 1, np.bool_), r"got bool with shape \(11,\)"),
        ([True] * N_ITEMS, "got a list"),
    ],
)
def test_trained_items_must_be_set(known: Any, words: str, side: Side) -> None:
    class Forgetful(Plain):
        def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
            self.trained_items = known
            return self

    with pytest.raises(
        ProtocolError, match=rf"Forgetful\.trained_items must be bool with shape \(12,\) after fit.*{words}"
    ):
        served(Forgetful(), side)


def test_fit_must_return_itself(side: Side) -> None:
    class Silent(Plain):
        def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Any:
            super().fit(interactions, rng=rng)

    with pytest.raises(ProtocolError, match="a fitted Recommender is needed, which fit must return; got a NoneType"):
        served(Silent(), side)


def test_errors_that_say_what_is_wrong_pass_unchanged(side: Side) -> None:
    def diverge(array: Any) -> Any:
        raise DivergedError("epoch 3")

    with pytest.raises(DivergedError, match=r"^epoch 3$"):
        served(Broken(diverge), side)
    with pytest.raises(ConfigError, match=r"must lie in 1\.\.7"):
        served(Plain(), side, k=8)


@pytest.mark.parametrize("regime", ["fold-in", "trained"])
def test_a_model_for_its_members_only_is_refused_by_name(regime: str, side: Side) -> None:
    class Members(Plain):
        folds_in = False

    with pytest.raises(ConfigError, match=f"Members cannot serve .* {regime} .*: popular, popular-random"):
        served(Members(), side, regime)

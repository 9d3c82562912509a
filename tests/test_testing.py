"""`check_recommender` names the rule that a broken recommender breaks, and lets a sound one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import pytest
from scipy import sparse

from recmia import Interactions
from recmia.errors import ProtocolError
from recmia.recommenders import Recommender
from recmia.testing import check_recommender


class CoOccurrence(Recommender):
    """A sound one: how often an item occurs beside those of the history. Ratings count, as here dislikes do."""

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        matrix = interactions.csr()
        self.known = interactions.item_counts() > 0
        self.beside = (matrix.T @ matrix).toarray()
        return self

    def scores(self, histories: sparse.csr_array) -> Any:
        self.fitted_items()
        return np.asarray(histories @ self.beside, np.float32)


class Trained(CoOccurrence):
    """A sound one that serves only the users of its fit."""

    folds_in = False

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        super().fit(interactions, rng=rng)
        self.trained = np.asarray(interactions.csr() @ self.beside, np.float32)
        return self

    def scores(self, histories: sparse.csr_array) -> Any:
        raise ProtocolError("it serves only the users of the fit")

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Any:
        return self._rank(lambda rows: self.trained[rows], histories, k, exclude_seen)


@pytest.mark.parametrize("sound", [CoOccurrence, Trained])
def test_sound_recommenders_pass(sound: Callable[[], Recommender]) -> None:
    check_recommender(sound)


# Each of the following is sound but for one thing.


class BeforeFit(CoOccurrence):
    def recommend(self, histories: Any, k: int, *, exclude_seen: bool = True) -> Any:
        if self.known is None:
            return np.zeros((histories.shape[0], k), np.int32)
        return super().recommend(histories, k, exclude_seen=exclude_seen)


class WrongErrorBeforeFit(CoOccurrence):
    def fitted_items(self, k: int = 1) -> Any:
        if self.known is None:
            raise ValueError("what?")
        return super().fitted_items(k)


class NoSelf(CoOccurrence):
    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Any:
        super().fit(interactions, rng=rng)


class KnowsAll(CoOccurrence):
    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        super().fit(interactions, rng=rng)
        self.known = np.ones(interactions.n_items, np.bool_)
        return self


class Tampered(CoOccurrence):
    """Changes the finished lists."""

    def recommend(self, histories: Any, k: int, *, exclude_seen: bool = True) -> Any:
        return self.change(super().recommend(histories, k, exclude_seen=exclude_seen), histories)

    def change(self, lists: Any, histories: Any) -> Any:
        raise NotImplementedError


class Repeats(Tampered):
    def change(self, lists: Any, histories: Any) -> Any:
        lists[:, -1] = lists[:, 0]
        return lists


class OutOfRange(Tampered):
    def change(self, lists: Any, histories: Any) -> Any:
        return lists + 10


class WrongType(Tampered):
    def change(self, lists: Any, histories: Any) -> Any:
        return lists.astype(np.int64)


class TooFewRows(Tampered):
    def change(self, lists: Any, histories: Any) -> Any:
        return lists[1:]


class Unknown(Tampered):
    def change(self, lists: Any, histories: Any) -> Any:
        lists[:, 0] = histories.shape[1] - 1
        return lists


class Short(Tampered):
    def change(self, lists: Any, histories: Any) -> Any:
        lists[:, -1] = -1
        return lists


class WorstFirst(Tampered):
    def change(self, lists: Any, histories: Any) -> Any:
        return np.array([[*row[row >= 0][::-1], *row[row < 0]] for row in lists], np.int32)


class Seen(CoOccurrence):
    def recommend(self, histories: Any, k: int, *, exclude_seen: bool = True) -> Any:
        return super().recommend(histories, k, exclude_seen=False)


class NeverAgain(Tampered):
    def change(self, lists: Any, histories: Any) -> Any:
        self.calls = getattr(self, "calls", 0) + 1
        return np.array([[*np.roll(row[row >= 0], self.calls), *row[row < 0]] for row in lists], np.int32)


class AnyLength(CoOccurrence):
    def recommend(self, histories: Any, k: int, *, exclude_seen: bool = True) -> Any:
        k = k if self.known is None else min(k, int(self.known.sum()))
        return super().recommend(histories, k, exclude_seen=exclude_seen)


class Meddles(CoOccurrence):
    def scores(self, histories: sparse.csr_array) -> Any:
        scores = super().scores(histories)
        histories.data = histories.data / 2
        return scores

    def recommend(self, histories: Any, k: int, *, exclude_seen: bool = True) -> Any:
        self.fitted_items(k)
        scores = self.scores(histories)
        return self._rank(lambda rows: scores[rows], histories, k, exclude_seen)


class NotANumber(CoOccurrence):
    """As a cosine without a guard gives it for an empty history."""

    def scores(self, histories: sparse.csr_array) -> Any:
        with np.errstate(invalid="ignore"):
            return super().scores(histories) / histories.sum(axis=1)[:, None]


class Doubles(CoOccurrence):
    def scores(self, histories: sparse.csr_array) -> Any:
        return super().scores(histories).astype(np.float64)


class OfTheBatch(CoOccurrence):
    """Standardised over the users that happen to be asked for at once."""

    def scores(self, histories: sparse.csr_array) -> Any:
        scores = super().scores(histories)
        return scores - scores.mean(axis=0)


class ByRow(CoOccurrence):
    """Ties, of which an empty history has many, are broken by a draw a row."""

    def scores(self, histories: sparse.csr_array) -> Any:
        return super().scores(histories) + np.random.default_rng(0).random(histories.shape, np.float32) * np.float32(40)


class Tasteless(CoOccurrence):
    def scores(self, histories: sparse.csr_array) -> Any:
        self.fitted_items()
        return np.tile(self.beside.sum(axis=0), (histories.shape[0], 1))


class MembersMixedUp(CoOccurrence):
    """Serves each member what was meant for the next."""

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Any:
        scores = np.roll(self.scores(histories), 1, axis=0)
        return self._rank(lambda rows: scores[rows], histories, k, exclude_seen)


class ByItemRow(CoOccurrence):
    """Thinks that the row of an item says what it is like."""

    def scores(self, histories: sparse.csr_array) -> Any:
        self.fitted_items()
        odd = np.arange(histories.shape[1], dtype=np.float32) % 2
        mostly_odd = histories @ odd > histories @ (1 - odd)
        return (odd == mostly_odd[:, None]).astype(np.float32)


class LikesLateRows(CoOccurrence):
    """Right answers, but a score that grows with the row."""

    def scores(self, histories: sparse.csr_array) -> Any:
        return super().scores(histories) + np.arange(histories.shape[1], dtype=np.float32)


class Unpicklable(CoOccurrence):
    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        self.use = lambda scores: scores
        return super().fit(interactions, rng=rng)


class LosesItsWay(CoOccurrence):
    """Leaves what it has learned out of its pickle."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "beside": np.zeros_like(self.beside)}


class OwnRandomness(CoOccurrence):
    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        super().fit(interactions, rng=rng)
        self.beside = self.beside + np.random.default_rng().random(len(self.beside), np.float32) * np.float32(0.1)
        return self


class GlobalState(CoOccurrence):
    """Draws from a generator that all models share."""

    shared = np.random.default_rng(0)

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        super().fit(interactions, rng=rng)
        self.beside = self.beside + self.shared.random(len(self.beside), np.float32) * np.float32(0.1)
        return self


class Remembers(CoOccurrence):
    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        earlier = getattr(self, "beside", 0)
        super().fit(interactions, rng=rng)
        self.beside = self.beside + earlier
        return self


class FoldsInAfterAll(Trained):
    def scores(self, histories: sparse.csr_array) -> Any:
        return CoOccurrence.scores(self, histories)


BROKEN: list[tuple[type[Recommender], str]] = [
    (BeforeFit, "lists before fit must raise NotFittedError; it returned instead"),
    (WrongErrorBeforeFit, "lists before fit must raise NotFittedError, not ValueError: what"),
    (NoSelf, "fit must return the recommender itself"),
    (KnowsAll, "known must be true for the items with a training interaction, and for no other"),
    (Repeats, "list of user 0 holds an item twice"),
    (OutOfRange, r"holds an item out of 0\.\.43"),
    (WrongType, "lists must be int32"),
    (TooFewRows, r"shape \(40, k\); got int32 with shape \(39, 1\)"),
    (Unknown, "holds an item without training data"),
    (Short, "is shorter than it could be"),
    (WorstFirst, "a list must hold the best items by their scores, best first"),
    (Seen, "holds an item that the user has already seen"),
    (NeverAgain, "recommend_members must give the same lists when it is asked again"),
    (AnyLength, "recommend_members must raise ConfigError for k = 41, where 40 items are known; it returned"),
    (Meddles, "must not change the histories that it is given"),
    (NotANumber, "the scores of user 0 are not finite"),
    (Doubles, r"scores must return float32 of shape \(44, 44\); got float64"),
    (OfTheBatch, "a user's scores and list must not depend on the other rows"),
    (ByRow, "a user's scores and list must not depend on the other rows"),
    (Tasteless, r"recommend_members must put a withheld item .* first; it did for \d+ of 40 users"),
    (MembersMixedUp, "recommend_members must put a withheld item .* first; it did for 0 of 40 users"),
    (ByItemRow, "must put a withheld item .*; the items were relabelled"),
    (LikesLateRows, "relabelling the items must relabel the scores and change nothing else"),
    (Unpicklable, "it must survive pickle, not raise"),
    (LosesItsWay, "it must give the same lists after pickle"),
    (OwnRandomness, "the same seed must give the same lists"),
    (GlobalState, "the same seed must give the same lists"),
    (Remembers, "fit must forget the earlier fit"),
    (FoldsInAfterAll, "folds_in is False, so recommend must raise ProtocolError; it returned instead"),
]


@pytest.mark.parametrize(("broken", "words"), BROKEN, ids=[broken.__name__ for broken, _ in BROKEN])
def test_the_broken_rule_is_named(broken: type[Recommender], words: str) -> None:
    with pytest.raises((AssertionError, ProtocolError), match=words) as caught:
        check_recommender(broken)
    assert str(caught.value).startswith(broken.__name__) or "scores of user" in str(caught.value)


def test_a_control_needs_no_taste_but_all_the_rest() -> None:
    check_recommender(Tasteless, personal=False)
    for broken in (Repeats, OwnRandomness, Unpicklable):
        with pytest.raises((AssertionError, ProtocolError)):
            check_recommender(broken, personal=False)

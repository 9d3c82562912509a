"""The checks for user code name the rule that it breaks, and let sound code pass."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Self

import numpy as np
import pytest
from scipy import sparse
from threadpoolctl import threadpool_limits

from recmia import Interactions
from recmia.attacks import ATTACKS, Attack, InteractionAttack, InteractionPool, Observation, ShadowPool
from recmia.attacks.interactions import ItemCompletion, ItemLR, asked
from recmia.attacks.lists import Counts
from recmia.attacks.queries import hidden_ranks
from recmia.attacks.rules import popular_overlap
from recmia.attacks.vectors import user_vectors
from recmia.errors import ConfigError, NotFittedError, ProtocolError, TooFewShadowsError
from recmia.observation import in_history
from recmia.recommenders import Recommender
from recmia.testing import (
    check_attack,
    check_interaction_attack,
    check_recommender,
    planted_interactions,
    planted_leak,
    planted_pool,
)
from tests.attacks.helpers import area


class CoOccurrence(Recommender):
    """A sound one: how often an item occurs beside those of the history. Ratings count, as here dislikes do."""

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        matrix = interactions.csr()
        self.trained_items = interactions.item_counts() > 0
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


class InOrder(CoOccurrence):
    """A sound one whose later items count more."""

    uses_order = True

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        self.given = interactions.sequences()
        return super().fit(interactions, rng=rng)

    def scores(self, histories: sparse.csr_array) -> Any:
        self.fitted_items()
        place = np.arange(histories.nnz) - np.repeat(histories.indptr[:-1], np.diff(histories.indptr))
        weights = sparse.csr_array(
            (histories.data * (1 + 0.01 * place), histories.indices, histories.indptr), histories.shape
        )
        return np.asarray(weights @ self.beside, np.float32)


@pytest.mark.parametrize("sound", [CoOccurrence, Trained, InOrder])
def test_sound_recommenders_pass(sound: Callable[[], Recommender]) -> None:
    check_recommender(sound)


# Each of the following is sound but for one thing.


class BeforeFit(CoOccurrence):
    def recommend(self, histories: Any, k: int, *, exclude_seen: bool = True) -> Any:
        if self.trained_items is None:
            return np.zeros((histories.shape[0], k), np.int32)
        return super().recommend(histories, k, exclude_seen=exclude_seen)


class WrongErrorBeforeFit(CoOccurrence):
    def fitted_items(self, k: int = 1) -> Any:
        if self.trained_items is None:
            raise ValueError("what?")
        return super().fitted_items(k)


class NoSelf(CoOccurrence):
    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Any:
        super().fit(interactions, rng=rng)


class KnowsAll(CoOccurrence):
    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        super().fit(interactions, rng=rng)
        self.trained_items = np.ones(interactions.n_items, np.bool_)
        return self


class NoOrderNeeded(InOrder):
    """Takes data without an order, and whatever comes of it."""

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        return CoOccurrence.fit(self, interactions, rng=rng)


class SumsUpRepeats(InOrder):
    """Brings the histories that it is given into scipy's canonical format, and loses their order for others."""

    def scores(self, histories: sparse.csr_array) -> Any:
        histories.sum_duplicates()
        return super().scores(histories)

    def recommend(self, histories: Any, k: int, *, exclude_seen: bool = True) -> Any:
        histories.sum_duplicates()
        return super().recommend(histories, k, exclude_seen=exclude_seen)


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
        k = k if self.trained_items is None else min(k, int(self.trained_items.sum()))
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
    (KnowsAll, "trained_items must be true for the items with a training interaction, and for no other"),
    (Repeats, "list of user 0 holds an item twice"),
    (OutOfRange, r"holds an item out of 0\.\.43"),
    (WrongType, "lists must be int32"),
    (TooFewRows, r"shape \(40, k\); got int32 with shape \(39, 1\)"),
    (Unknown, "holds an item without training data"),
    (Short, "is shorter than it could be"),
    (WorstFirst, "a list must hold the best items by their scores, best first"),
    (Seen, "holds an item that the user has already seen"),
    (NeverAgain, "recommend_members must give the same lists when it is asked again"),
    (AnyLength, "recommend_members must raise ConfigError for k = 41, where 40 items have training data; it returned"),
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
    (NoOrderNeeded, "uses_order is True, so fit must refuse data without order; it returned instead"),
    (SumsUpRepeats, "recommend must not change the histories that it is given"),
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


# ---- Attacks ----


# Those on interactions have a check of their own.
OF_USERS = [name for name, spec in ATTACKS.items() if spec.unit == "user"]


def made(name: str) -> Any:
    """What a check takes, which is of one unit."""
    return partial(ATTACKS[name].make, {})


def leak_of(name: str) -> Any:
    """The planted leak that an attack is made for; rules that look at the history alone are made for none."""
    spec = ATTACKS[name]
    return "twin" if name == "twin" else "memoriser" if spec.asks else "none" if spec.rule == "history" else "twin"


@pytest.mark.statistical
@pytest.mark.parametrize("name", OF_USERS)
def test_every_attack_of_recmia_passes(name: str) -> None:
    check_attack(made(name), finds=leak_of(name), alone=name not in COMPARE_USERS)


COMPARE_USERS: dict[str, Any] = {"k-means": "twin", "shared-list": "twin", "completion-reference": "memoriser"}
LEARNS_OF_ODDITIES = [
    "naive-bayes",
    "logistic-regression",
    *(name for name in OF_USERS if ATTACKS[name].needs == "pool" and not ATTACKS[name].asks),
]


@pytest.mark.statistical
@pytest.mark.parametrize("name", LEARNS_OF_ODDITIES)
def test_attacks_that_also_find_one_odd_item(name: str) -> None:
    check_attack(made(name), finds="oddity")


@pytest.mark.parametrize("name", COMPARE_USERS)
def test_attacks_that_compare_users_say_so(name: str) -> None:
    with pytest.raises(AssertionError, match=f"{name}: a user's score must not depend on the other users"):
        check_attack(made(name), finds=COMPARE_USERS[name])


ASKING = [name for name in OF_USERS if ATTACKS[name].asks and not ATTACKS[name].rule]


def test_which_attacks_ask() -> None:
    assert ASKING == ["completion", "completion-reference", "query-lr", "query-lr-completion"]
    for name in ATTACKS:
        assert ATTACKS[name].make({}).asks == ATTACKS[name].asks


class OnlyLooks(Attack):
    """Does not say that it asks, and so is handed no answer."""

    name = "only-looks"
    needs = "nothing"

    def score(self, observation: Observation) -> Any:
        assert observation.queries is None
        assert observation.answers is None
        assert observation.references is None
        return -np.diff(observation.histories.indptr).astype(np.float64)


def test_who_only_looks_sees_no_answers_and_finds_no_memoriser() -> None:
    check_attack(OnlyLooks, finds="none")
    with pytest.raises(AssertionError, match="only-looks: it must find the planted leak 'memoriser'"):
        check_attack(OnlyLooks, finds="memoriser")


class Recalls(Attack):
    """A sound one of the user's that asks: how many of the hidden items are in the answers."""

    name = "recalls"
    needs = "nothing"
    asks = True

    def score(self, observation: Observation) -> Any:
        assert observation.queries is not None
        assert observation.answers is not None
        hits = in_history(observation.answers, observation.queries.hidden).sum(axis=1)
        return np.bincount(observation.queries.user, hits, len(observation))


class RecallsFewest(Recalls):
    name = "recalls-fewest"

    def score(self, observation: Observation) -> Any:
        return -super().score(observation)


class RecallsOfOthers(Recalls):
    name = "recalls-of-others"

    def score(self, observation: Observation) -> Any:
        scores = super().score(observation)
        return scores - scores.mean()


def test_an_attack_that_asks() -> None:
    check_attack(Recalls, finds="memoriser")
    with pytest.raises(AssertionError, match="recalls-fewest: it must find the planted leak 'memoriser'"):
        check_attack(RecallsFewest, finds="memoriser")
    with pytest.raises(AssertionError, match="recalls-of-others: a user's score must not depend on the other users"):
        check_attack(RecallsOfOthers, finds="memoriser")


class NearCentre(Attack):
    """A sound one: how much nearer the user's vector is to the mean of members than to that of non-members."""

    name = "near-centre"

    def __init__(self) -> None:
        self.centres: Any = None

    def fit(self, shadow: Observation, member: Any, *, rng: np.random.Generator) -> Self:
        vectors = user_vectors(shadow).difference
        self.centres = [vectors[kind].mean(axis=0) for kind in (~member, member)]
        return self

    def score(self, observation: Observation) -> Any:
        if self.centres is None:
            raise NotFittedError("near-centre was asked for scores before fit")
        out, into = (np.linalg.norm(user_vectors(observation).difference - centre, axis=1) for centre in self.centres)
        return out - into


class Overlap(Attack):
    """A sound one that learns nothing."""

    name, needs = "overlap", "nothing"

    def score(self, observation: Observation) -> Any:
        return popular_overlap(observation)


class Weighed(Counts):
    """A sound one with a pool."""

    name = "weighed"


@pytest.mark.parametrize("sound", [NearCentre, Overlap, Weighed])
def test_sound_attacks_pass(sound: Callable[[], Any]) -> None:
    check_attack(sound)


# Each of the following is sound but for one thing.


class NoAttack:
    name = "no-attack"


class Nameless(Overlap):
    name = ""


class WrongNeeds(Overlap):
    needs = "pool"  # type: ignore[assignment]


class AlsoWrongNeeds(Weighed):
    needs = "shadow"


class ScoresBeforeFit(NearCentre):
    def score(self, observation: Observation) -> Any:
        return np.zeros(len(observation)) if self.centres is None else super().score(observation)


class WrongErrorBeforeFitting(NearCentre):
    def score(self, observation: Observation) -> Any:
        if self.centres is None:
            raise ValueError("what?")
        return super().score(observation)


class AnyNumberOfShadows(Weighed):
    def check_pool(self, pool: ShadowPool) -> None:
        self.offline = np.zeros(pool.n_users, np.bool_)


class WrongErrorForFewShadows(Weighed):
    def fit(self, pool: ShadowPool, *, rng: np.random.Generator) -> Self:
        if len(pool) < self.min_shadows:
            raise ProtocolError("too few")
        return super().fit(pool, rng=rng)


class FitGivesNothing(NearCentre):
    def fit(self, shadow: Observation, member: Any, *, rng: np.random.Generator) -> Any:
        super().fit(shadow, member, rng=rng)


class ChangesItsData(NearCentre):
    def fit(self, shadow: Observation, member: Any, *, rng: np.random.Generator) -> Self:
        super().fit(shadow, member, rng=rng)
        shadow.lists.sort(axis=1)
        return self


class ChangesThePool(Weighed):
    def fit(self, pool: ShadowPool, *, rng: np.random.Generator) -> Self:
        super().fit(pool, rng=rng)
        pool.member[0, 0] ^= True
        return self


class ChangesWhatItScores(NearCentre):
    def score(self, observation: Observation) -> Any:
        scores = super().score(observation)
        observation.histories.data *= 2
        return scores


class OneScoreForAll(NearCentre):
    def score(self, observation: Observation) -> Any:
        return super().score(observation).mean()


class SinglePrecision(NearCentre):
    def score(self, observation: Observation) -> Any:
        return super().score(observation).astype(np.float32)


class NotFinite(NearCentre):
    """A logarithm of nothing, for a user with no known item in the list."""

    def score(self, observation: Observation) -> Any:
        with np.errstate(divide="ignore"):
            return super().score(observation) + np.log((observation.lists >= 0).sum(axis=1).clip(max=1))


class Raises(NearCentre):
    def score(self, observation: Observation) -> Any:
        if not np.diff(observation.histories.indptr).all() and self.centres is not None:
            raise ZeroDivisionError("empty\nhistory")
        return super().score(observation)


class EachTimeAnother(NearCentre):
    def score(self, observation: Observation) -> Any:
        self.calls = getattr(self, "calls", 0) + 1
        return super().score(observation) + self.calls


class NoPickle(NearCentre):
    def fit(self, shadow: Observation, member: Any, *, rng: np.random.Generator) -> Self:
        self.numbers: Iterator[int] = (number for number in range(3))
        return super().fit(shadow, member, rng=rng)


class LosesWhatItLearned(NearCentre):
    def __getstate__(self) -> dict[str, Any]:
        return {"centres": [np.zeros(8), np.ones(8)]}


class ItsOwnRandomness(NearCentre):
    def fit(self, shadow: Observation, member: Any, *, rng: np.random.Generator) -> Self:
        super().fit(shadow, member, rng=rng)
        self.centres[0] = self.centres[0] + np.random.default_rng().normal(size=8)
        return self


class RemembersTheFit(NearCentre):
    def fit(self, shadow: Observation, member: Any, *, rng: np.random.Generator) -> Self:
        earlier = self.centres
        super().fit(shadow, member, rng=rng)
        if earlier is not None:
            self.centres = [(one + other) / 2 for one, other in zip(self.centres, earlier, strict=True)]
        return self


class LearnsAfterAll(NearCentre):
    needs = "nothing"


class KeepsTheLabels(NearCentre):
    """Learns when it is asked, from labels that are no longer those of the fit."""

    def fit(self, shadow: Observation, member: Any, *, rng: np.random.Generator) -> Self:
        self.seen, self.member = shadow, member
        return super().fit(shadow, member, rng=rng)

    def score(self, observation: Observation) -> Any:
        if self.centres is not None:
            super().fit(self.seen, self.member, rng=np.random.default_rng(0))
        return super().score(observation)


class Standardises(NearCentre):
    def score(self, observation: Observation) -> Any:
        scores = super().score(observation)
        return scores - scores.mean()


class ComparesWithThePool(Weighed):
    def score(self, observation: Observation) -> Any:
        scores = super().score(observation)
        return scores - scores.mean()


class ByPlace(NearCentre):
    def score(self, observation: Observation) -> Any:
        return super().score(observation) + np.arange(len(observation))


class Backwards(NearCentre):
    def score(self, observation: Observation) -> Any:
        return -super().score(observation)


class LooksElsewhere(Overlap):
    def score(self, observation: Observation) -> Any:
        return -in_history(observation.lists[:, :1], observation.histories)[:, 0].astype(np.float64)


class KnowsFromBefore(NearCentre):
    """Keeps the labels of every user that any attack of its kind was ever fitted on."""

    labels: dict[bytes, bool] = {}  # noqa: RUF012

    def fit(self, shadow: Observation, member: Any, *, rng: np.random.Generator) -> Self:
        super().fit(shadow, member, rng=rng)
        self.labels.update(zip(map(np.ndarray.tobytes, shadow.lists), member.tolist(), strict=True))
        return self

    def score(self, observation: Observation) -> Any:
        known = [self.labels.get(shown.tobytes()) for shown in observation.lists]
        surely = np.array([0 if label is None else 100 if label else -100 for label in known])
        return super().score(observation) + surely


same = Overlap()
BROKEN_ATTACKS: list[tuple[Any, str]] = [
    (NoAttack, "make must return a recmia.attacks.Attack or PoolAttack$"),
    (Nameless, "it must have a name"),
    (WrongNeeds, "needs must be 'nothing' or 'references' or 'shadow'; got 'pool'"),
    (AlsoWrongNeeds, "needs must be 'pool'; got 'shadow'"),
    (lambda: same, "make must return a new attack each time"),
    (ScoresBeforeFit, "scores before fit must raise NotFittedError; it returned instead"),
    (WrongErrorBeforeFitting, r"scores before fit must raise NotFittedError, not ValueError: what\?"),
    (AnyNumberOfShadows, "fit on [0-9] shadow models, below min_shadows, must raise TooFewShadowsError; it returned"),
    (WrongErrorForFewShadows, "must raise TooFewShadowsError, not ProtocolError: too few"),
    (FitGivesNothing, "fit must return the attack itself"),
    (ChangesItsData, "fit must not change the arrays that it is given"),
    (ChangesThePool, "fit must not change the arrays that it is given"),
    (ChangesWhatItScores, "score must not change the arrays that it is given"),
    (OneScoreForAll, r"score must return float64 of shape \(300,\); got float64 of shape \(\)"),
    (SinglePrecision, r"score must return float64 of shape \(300,\); got float32 of shape \(300,\)"),
    (NotFinite, r"scores must be finite; 6 of 300 users with empty lists, .* have another one"),
    (Raises, "score of 300 users with empty lists, .* raised ZeroDivisionError: empty history"),
    (EachTimeAnother, "score must give the same values when it is asked again"),
    (NoPickle, "it must survive pickle, not raise TypeError"),
    (LosesWhatItLearned, "it must give the same scores after pickle"),
    (ItsOwnRandomness, "the same seed must give the same scores; draw from `rng` alone"),
    (RemembersTheFit, "fit must forget the earlier fit"),
    (LearnsAfterAll, "needs is 'nothing', so the scores must not depend on the labels"),
    (KeepsTheLabels, "labels that are permuted after fit must not change the scores"),
    (Standardises, r"a user's score must not depend on the other users; that of user 0 does \(an attack that compares"),
    (ComparesWithThePool, "a user's score must not depend on the other users; that of user 0 does$"),
    (partial(ByPlace), "a user's score must not depend on the other users; that of user 1 does"),
    (Backwards, r"it must find the planted leak 'twin' with an AUC of 0.65 or more; it is 0\.0"),
    (LooksElsewhere, "it must find the planted leak 'twin' with an AUC of 0.65 or more"),
    (KnowsFromBefore, r"on shadow users that it was not fitted on must be at most 0\.56; it is 1\.000"),
]


@pytest.mark.parametrize(
    ("broken", "words"), BROKEN_ATTACKS, ids=[getattr(b, "__name__", "?") for b, _ in BROKEN_ATTACKS]
)
def test_the_rule_that_an_attack_breaks_is_named(broken: Any, words: str) -> None:
    with pytest.raises(AssertionError, match=words) as caught:
        check_attack(broken)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(("near-centre: ", "overlap: ", "weighed: ", "no-attack: ", "Nameless: "))


def test_scores_by_place_are_caught_among_attacks_that_compare_users_too() -> None:
    with pytest.raises(AssertionError, match="near-centre: scores must follow the users when these are reordered"):
        check_attack(ByPlace, alone=False)
    check_attack(Standardises, alone=False)


def test_the_control_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attack that gets at the truth of the target is caught where there is nothing to find."""
    import recmia.testing

    draw = recmia.testing.planted_leak

    def betrayed(*arguments: Any, **named: Any) -> Any:
        seen, member = draw(*arguments, **named)
        truth_of.update(zip(map(np.ndarray.tobytes, seen.lists), member.tolist(), strict=True))
        return seen, member

    truth_of: dict[bytes, bool] = {}

    class Knows(Overlap):
        def score(self, observation: Observation) -> Any:
            return np.array([float(truth_of.get(shown.tobytes(), False)) for shown in observation.lists])

    monkeypatch.setattr(recmia.testing, "planted_leak", betrayed)
    words = (
        r"overlap: where lists are drawn regardless of membership, the mean AUC must be 0\.5 \+- 0\.06; it is 1\.000"
    )
    with pytest.raises(AssertionError, match=words):
        check_attack(Knows, finds="none")


def test_an_attack_for_no_planted_leak_is_checked_for_all_else() -> None:
    check_attack(LooksElsewhere, finds="none")
    for broken in (Nameless, SinglePrecision, EachTimeAnother):
        with pytest.raises(AssertionError):
            check_attack(broken, finds="none")


def test_unknown_leaks() -> None:
    for call in (
        lambda: check_attack(Overlap, finds="twins"),  # type: ignore[arg-type]
        lambda: planted_leak("twins", np.random.default_rng(0)),  # type: ignore[arg-type]
        lambda: planted_pool("twins", np.random.default_rng(0)),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigError, match="unknown leak 'twins'; did you mean 'twin'"):
            call()


@pytest.mark.parametrize("kind", ["twin", "oddity", "memoriser", "none"])
def test_planted_leaks_are_what_they_say(kind: Any) -> None:
    seen, member = planted_leak(kind, np.random.default_rng(3), n_users=101)
    assert (len(seen), member.sum()) == (101, 50)
    odd = seen.lists >= 96
    listed = in_history(seen.lists, seen.histories)
    assert not listed[member].any()
    if kind == "twin":
        assert len(np.unique(seen.lists[~member], axis=0)) == 1
        # The neighbour of each listed item is in the history.
        assert in_history(seen.lists[member] ^ 1, seen.histories[member]).all()
    if kind == "oddity":
        assert (odd.sum(axis=1) == member).all()
    else:
        assert not odd.any()
    again, same_member = planted_leak(kind, np.random.default_rng(3), n_users=101)
    np.testing.assert_array_equal(seen.lists, again.lists)
    np.testing.assert_array_equal(member, same_member)
    # What is asked, and answered.
    queries, answers = seen.queries, seen.answers
    assert queries is not None
    assert answers is not None
    assert seen.references is not None
    assert queries.user.tolist() == np.repeat(np.arange(101), 2).tolist()
    assert ((queries.asked + queries.hidden) != seen.histories[queries.user]).nnz == 0
    assert not in_history(answers, queries.asked).any()
    recall = in_history(answers, queries.hidden).sum(axis=1) / np.diff(queries.hidden.indptr)
    members, others = recall[member[queries.user]].mean(), recall[~member[queries.user]].mean()
    assert (members > others + 0.2) == (kind == "memoriser")
    for model in seen.references:
        known = in_history(model, queries.hidden).sum(axis=1) / np.diff(queries.hidden.indptr)
        assert abs(known[member[queries.user]].mean() - known[~member[queries.user]].mean()) < 0.1, "of other people"
    assert again.answers is not None
    np.testing.assert_array_equal(answers, again.answers)


def test_planted_pools_are_of_pairs() -> None:
    pool, targets, member = planted_pool("none", np.random.default_rng(0), n_shadows=6, n_targets=2, n_users=30)
    np.testing.assert_array_equal(pool.member[::2], ~pool.member[1::2])
    assert (pool.lists.shape, len(targets), member.shape) == ((6, 30, 10), 2, (2, 30))
    assert all(seen.histories is pool.histories for seen in targets)
    assert all(seen.queries is pool.queries for seen in targets)
    assert np.asarray(pool.answers).shape == (6, 60, 10)


def test_nothing_is_planted_where_there_is_none() -> None:
    """The histories know nothing of membership either, whatever is planted in the lists."""
    areas = []
    for seed in range(20):
        seen, member = planted_leak("twin", np.random.default_rng(seed))
        areas.append(area(member, np.diff(seen.histories.indptr).astype(np.float64)))
    assert abs(np.mean(areas) - 0.5) < 4 * 0.033 / np.sqrt(20)


# ---- Attacks on interactions ----

OF_INTERACTIONS = {name: "none" for name in ATTACKS if name not in OF_USERS} | {
    "item-completion": "memoriser", "item-reference": "memoriser", "item-lr": "memoriser", "absent": "left-out",
}  # fmt: skip


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Trees on a busy machine wait for each other's threads."""
    with threadpool_limits(1):
        yield


@pytest.mark.statistical
@pytest.mark.parametrize("name", OF_INTERACTIONS)
@pytest.mark.usefixtures("one_thread")
def test_every_attack_on_interactions_passes(name: str) -> None:
    finds: Any = OF_INTERACTIONS[name]
    check_interaction_attack(made(name), finds=finds)
    other: Any = "memoriser" if finds == "left-out" else "left-out"
    with pytest.raises(AssertionError, match=f"{name}: it must find the planted leak '{other}' with an AUC of 0.75"):
        check_interaction_attack(made(name), finds=other)


def test_each_check_refuses_attacks_of_the_other_unit() -> None:
    words = (
        r"item-completion: make must return .* PoolAttack \(an attack on interactions is checked by check_interaction"
    )
    with pytest.raises(AssertionError, match=words):
        check_attack(ItemCompletion)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=r"overlap: make must return a recmia\.attacks\.Interaction"):
        check_interaction_attack(Overlap)  # type: ignore[arg-type]


class Places(ItemCompletion):
    """A sound one that learns nothing."""

    name = "places"


class Contrast(InteractionAttack):
    """A sound one with a pool: how much higher than in the shadow models."""

    name, needs, min_shadows = "contrast", "pool", 2

    def __init__(self) -> None:
        self.middle: Any = None

    def fit(self, pool: InteractionPool, *, rng: np.random.Generator) -> Self:
        if len(pool) < 2:
            raise TooFewShadowsError("contrast needs two", estimate=2)
        self.middle = np.mean([-hidden_ranks(answers, pool.queries) for answers in pool.answers], axis=0)
        return self

    def score(self, observation: Observation) -> Any:
        if self.middle is None:
            raise NotFittedError("contrast was asked for scores before fit")
        queries, answers = asked(observation)
        return -hidden_ranks(answers, queries) - self.middle


@pytest.mark.parametrize("sound", [Places, Contrast])
def test_sound_attacks_on_interactions_pass(sound: Callable[[], InteractionAttack]) -> None:
    check_interaction_attack(sound)


class NamelessPlaces(Places):
    name = ""


class WrongNeedsOfPlaces(Places):
    needs = "shadow"


class NoScores(Places):
    def score(self, observation: Observation) -> Any:
        return np.zeros(len(observation))


class NotANumberAgain(Places):
    def score(self, observation: Observation) -> Any:
        scores = super().score(observation)
        scores[3] = np.nan
        return scores


class HalfPrecision(Places):
    def score(self, observation: Observation) -> Any:
        return super().score(observation).astype(np.float32)


class Divides(Places):
    def score(self, observation: Observation) -> Any:
        raise ZeroDivisionError("an empty answer")


class WantsReferences(Places):
    def score(self, observation: Observation) -> Any:
        assert observation.references is not None
        return super().score(observation)


class ChangesAnswers(Places):
    def score(self, observation: Observation) -> Any:
        assert observation.answers is not None
        scores = super().score(observation)
        observation.answers[0] = -1
        return scores


class AnotherEachTime(Places):
    def __init__(self) -> None:
        self.rng = np.random.default_rng()

    def score(self, observation: Observation) -> Any:
        scores = super().score(observation)
        return scores + 1e-3 * self.rng.random(len(scores))


class LowestFirst(Places):
    def score(self, observation: Observation) -> Any:
        return -super().score(observation)


class LooksWithoutSayingSo(Places):
    """It is handed lists without items."""

    def score(self, observation: Observation) -> Any:
        return np.repeat(observation.lists[:, 0], np.diff(observation.histories.indptr))


class AsksWithoutSayingSo(Places):
    """It is handed no answers."""

    asks = False


class LocksPlaces(Places):
    def __init__(self) -> None:
        self.lock = threading.Lock()


class ScoresUnfitted(Contrast):
    def __init__(self) -> None:
        self.middle = 0.0


class AnyShadows(Contrast):
    def fit(self, pool: InteractionPool, *, rng: np.random.Generator) -> Self:
        return super().fit(replace(pool, answers=pool.answers[[0, 0]], trained=pool.trained[[0, 0]]), rng=rng)


class GivesNothing(Contrast):
    def fit(self, pool: InteractionPool, *, rng: np.random.Generator) -> Any:
        super().fit(pool, rng=rng)


class SortsThePool(Contrast):
    def fit(self, pool: InteractionPool, *, rng: np.random.Generator) -> Self:
        super().fit(pool, rng=rng)
        pool.trained.sort(axis=0)
        return self


class DrawsAlone(Contrast):
    def fit(self, pool: InteractionPool, *, rng: np.random.Generator) -> Self:
        super().fit(pool, rng=rng)
        self.middle += 1e-3 * np.random.default_rng().random(len(self.middle))
        return self


class AddsUp(Contrast):
    def fit(self, pool: InteractionPool, *, rng: np.random.Generator) -> Self:
        before = self.middle
        super().fit(pool, rng=rng)
        if before is not None:
            self.middle += before.mean()
        return self


class LooksLabelsUp(Contrast):
    def fit(self, pool: InteractionPool, *, rng: np.random.Generator) -> Self:
        self.trained = pool.trained
        return super().fit(pool, rng=rng)

    def score(self, observation: Observation) -> Any:
        scores = super().score(observation)
        return scores + 0.1 * self.trained[0]


only = Places()
BROKEN_ON_INTERACTIONS: list[tuple[Any, str]] = [
    (NamelessPlaces, "it must have a name, a text for tables"),
    (WrongNeedsOfPlaces, "needs must be 'nothing', 'references' or 'pool'; got 'shadow'"),
    (lambda: only, "make must return a new attack each time"),
    (NoScores, r"score: places must score 2[0-9]{3} interactions; got shape \(200,\)"),
    (NotANumberAgain, "score: places gave 1 scores that are not finite"),
    (HalfPrecision, "score must return float64; got float32"),
    (Divides, "score raised ZeroDivisionError: an empty answer"),
    (WantsReferences, "score raised AssertionError"),
    (ChangesAnswers, "score must not change the arrays that it is given"),
    (AnotherEachTime, "score must give the same values when it is asked again"),
    (LowestFirst, r"it must find the planted leak 'memoriser' with an AUC of 0.75 or more; it is 0\.0"),
    (LooksWithoutSayingSo, "score raised IndexError"),
    (AsksWithoutSayingSo, "score: this attack asks, and the observation holds no queries with answers"),
    (LocksPlaces, "it must survive pickle, not raise TypeError"),
    (ScoresUnfitted, "scores before fit must raise NotFittedError; it returned instead"),
    (AnyShadows, "fit on 1 shadow models, below min_shadows, must raise TooFewShadowsError; it returned instead"),
    (GivesNothing, "fit must return the attack itself"),
    (SortsThePool, "fit must not change the arrays that it is given"),
    (DrawsAlone, "the same seed must give the same scores; draw from `rng` alone"),
    (AddsUp, "fit must forget the earlier fit"),
    (LooksLabelsUp, "labels that are changed after fit must not change the scores"),
]


@pytest.mark.parametrize(
    ("broken", "words"), BROKEN_ON_INTERACTIONS, ids=[getattr(b, "__name__", "?") for b, _ in BROKEN_ON_INTERACTIONS]
)
def test_the_rule_that_an_attack_on_interactions_breaks_is_named(broken: Any, words: str) -> None:
    with pytest.raises(AssertionError, match=words) as caught:
        check_interaction_attack(broken)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(("places: ", "contrast: ", "NamelessPlaces: "))


def test_the_control_of_interactions_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attack that gets at the truth of the system is caught where there is nothing to find."""
    import recmia.testing

    draw = recmia.testing.planted_interactions
    truth: dict[bytes, Any] = {}

    def betrayed(*arguments: Any, **named: Any) -> Any:
        pool, seen, trained = draw(*arguments, **named)
        assert seen.answers is not None
        truth[seen.answers.tobytes()] = trained
        return pool, seen, trained

    class Knows(Places):
        def score(self, observation: Observation) -> Any:
            assert observation.answers is not None
            scores = super().score(observation)
            return scores + 100 * truth.get(observation.answers.tobytes(), np.zeros(len(scores)))

    monkeypatch.setattr(recmia.testing, "planted_interactions", betrayed)
    words = r"drawn regardless of what was trained on, the AUC must be 0\.5 \+- 0\.06; it is 1\.0"
    with pytest.raises(AssertionError, match=words):
        check_interaction_attack(Knows)


def test_leaks_of_interactions_that_are_unknown() -> None:
    for call in (
        lambda: check_interaction_attack(Places, finds="left_out"),  # type: ignore[arg-type]
        lambda: planted_interactions("left_out", np.random.default_rng(0)),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigError, match="unknown leak 'left_out'; did you mean 'left-out'"):
            call()


@pytest.mark.parametrize("kind", ["memoriser", "left-out", "none"])
def test_planted_interactions_are_what_they_say(kind: Any) -> None:
    pool, seen, trained = planted_interactions(kind, np.random.default_rng(3), n_shadows=4, n_users=150)
    queries, answers = seen.queries, seen.answers
    assert queries is pool.queries
    assert queries is not None
    assert answers is not None
    assert seen.references is not None
    # Every interaction is hidden once, and all others of the user are asked with.
    user = np.repeat(queries.user, np.diff(queries.hidden.indptr))
    hidden = sparse.csr_array((np.ones(len(user)), (user, queries.hidden.indices)), seen.histories.shape)
    assert (hidden - seen.histories).nnz == 0
    assert (queries.asked + queries.hidden - seen.histories[queries.user]).nnz == 0
    assert not in_history(answers, queries.asked).any()
    np.testing.assert_array_equal(pool.trained[::2], ~pool.trained[1::2])
    assert abs(trained.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(trained))
    # The system and the shadow models leak what they were trained on, and the references nothing.
    systems = list(zip((answers, *pool.answers), (trained, *pool.trained), strict=True))
    for one, labels in systems:
        found = area(labels, -hidden_ranks(one, queries).astype(float))
        assert found > 0.9 if kind == "memoriser" else abs(found - 0.5) < 5 * 0.013
    for one in seen.references:
        assert abs(area(trained, -hidden_ranks(one, queries).astype(float)) - 0.5) < 5 * 0.013
    shown = in_history(seen.lists, seen.histories)
    assert shown.any() == (kind == "left-out")
    used = sparse.csr_array(
        (np.ones(int(trained.sum())), (user[trained], queries.hidden.indices[trained])), hidden.shape
    )
    assert not in_history(seen.lists, used).any()
    _, again, same = planted_interactions(kind, np.random.default_rng(3), n_shadows=4, n_users=150)
    assert again.answers is not None
    np.testing.assert_array_equal(again.answers, answers)
    np.testing.assert_array_equal(same, trained)


@pytest.mark.usefixtures("one_thread")
def test_an_attack_of_recmia_is_a_base_for_ones_own() -> None:
    class Mine(ItemLR):
        name = "mine"

    check_interaction_attack(Mine)

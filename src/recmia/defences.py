"""Defences: what a system can do so that its lists tell less, as values that compose.

A defence changes what is trained or how it is served, and nothing of the interface: `Defence.change` takes a
`recmia.training.Task` and returns the defended one. Some only set what can be set anyway (fewer epochs, shorter lists);
others wrap the recommender in one of the classes below, which can also be used by themselves. They are written as text,
each with its strength, joined by ``+``: ``dp-training=4+shorter-lists=20``.

The randomness of a wrapper is one secret key, drawn in `fit`, and the history: asked again, it gives the same list
again, so nothing averages out.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy import sparse

from recmia.errors import ConfigError, nearest
from recmia.game import SHARED_PATH, Regime
from recmia.interactions import Float32, Int32, Interactions
from recmia.recommenders import LFM, Recommender, RecommenderSettings, is_own
from recmia.recommenders.private import PrivacySettings, PrivateLFM
from recmia.recommenders.simple import binary
from recmia.training import Task

# Recommenders that train something for each user, which serving by fold-in leaves aside.
_PERSONAL = ("als", "bpr", "hybrid", "lfm", "lightgcn", "ncf", "userknn")
_POPULAR: tuple[Regime, ...] = ("popular", "popular-random")


@dataclass(frozen=True)
class Promise:
    """What a defence promises: (epsilon, delta)-differential privacy of a user's list.

    Parameters
    ----------
    epsilon, delta : float
    regimes : tuple of str
        Where it holds. A popular list tells that its user is no member, whatever the members' lists were made with.
    """

    epsilon: float
    delta: float
    regimes: tuple[Regime, ...]


@dataclass(frozen=True)
class System:
    """What a defence is asked to defend.

    Parameters
    ----------
    recommender : str
    settings : RecommenderSettings
    regimes : tuple of str
    k : int
    """

    recommender: str
    settings: RecommenderSettings
    regimes: tuple[Regime, ...]
    k: int

    @property
    def family(self) -> str:
        """The name of the recommender's settings: ``lfm`` for ``lfm-explicit``."""
        return self.recommender.partition("-")[0]


class Defence(BaseModel, ABC):
    """A defence and its strength.

    Attributes
    ----------
    name : str
    strength : str
        The field that the number after the name stands for; empty where there is none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: ClassVar[str]
    strength: ClassVar[str] = ""

    @abstractmethod
    def change(self, task: Task) -> Task:
        """The task as the defended system would do it."""

    def refusal(self, system: System) -> str:
        """Why the defence changes nothing of a system, and what it would apply to; empty if it applies."""
        return ""

    def promise(self) -> Promise | None:
        """What is promised to each user, if anything is."""
        return None

    def __str__(self) -> str:
        return f"{self.name}={getattr(self, self.strength):g}" if self.strength else self.name


class _Wrapping(Defence):
    """A defence that wraps the recommender."""

    def change(self, task: Task) -> Task:
        return replace(task, wrappers=(*task.wrappers, self))

    @abstractmethod
    def wrap(self, model: Recommender) -> Recommender:
        """The defended recommender, not yet fitted."""

    def key(self) -> dict[str, Any]:
        """What the defended model depends on, as plain values."""
        return {"defence": self.name, **self.model_dump(mode="json")}


class PopularityOnly(Defence):
    """Everybody gets popular items: the point where a recommender remembers nobody."""

    name = "popularity-only"

    def change(self, task: Task) -> Task:
        """Train `Popularity` instead."""
        return replace(task, recommender="popularity", own=None)

    def refusal(self, system: System) -> str:
        """See `Defence.refusal`."""
        return "the system serves popular items already" if system.recommender == "popularity" else ""


class Regularisation(Defence):
    """More regularisation."""

    name, strength = "regularisation", "weight"
    weight: float = Field(gt=0)

    def change(self, task: Task) -> Task:
        """Set it."""
        return _with_setting(task, "regularisation", self.weight)

    def refusal(self, system: System) -> str:
        """See `Defence.refusal`."""
        found = _setting(system, ("regularisation",))
        if found is None:
            return f"{system.recommender} has no regularisation; {_having(('regularisation',))}"
        return "" if self.weight > found[1] else f"the system has {found[1]:g}, and more would be above that"


class EarlyStopping(Defence):
    """Fewer passes over the data."""

    name, strength = "early-stopping", "epochs"
    epochs: int = Field(ge=1)
    _fields: ClassVar[tuple[str, ...]] = ("epochs", "iterations")

    def change(self, task: Task) -> Task:
        """Set them."""
        found = _setting(System(task.recommender, task.settings, (), task.k), self._fields)
        assert found is not None, "refused before"
        return _with_setting(task, found[0], self.epochs)

    def refusal(self, system: System) -> str:
        """See `Defence.refusal`."""
        found = _setting(system, self._fields)
        if found is None:
            return f"{system.recommender} is not trained in passes; {_having(self._fields)}"
        return "" if self.epochs < found[1] else f"the system stops after {found[1]:g}, and earlier would be below that"


class DPTraining(_Wrapping):
    """Training with user-level differential privacy; see `recmia.recommenders.private`."""

    name, strength = "dp-training", "epsilon"
    epsilon: float = Field(gt=0)
    settings: PrivacySettings = PrivacySettings()

    def wrap(self, model: Recommender) -> Recommender:
        """A `PrivateLFM` in place of the LFM."""
        assert isinstance(model, LFM), "others are refused before"
        return PrivateLFM(self.epsilon, self.settings)

    def refusal(self, system: System) -> str:
        """See `Defence.refusal`."""
        allowed = "it applies to lfm and lfm-implicit, with lfm.feedback = 'implicit'"
        if system.family != "lfm":
            return f"there is no private training of {system.recommender}; {allowed}"
        return f"the private LFM is fitted to what was seen, not to ratings; {allowed}" if _explicit(system) else ""

    def promise(self) -> Promise:
        """Whatever is made of the items' parameters keeps their promise."""
        return Promise(self.epsilon, self.settings.delta, SHARED_PATH)


class FoldInMembers(_Wrapping):
    """Members are served from their history, by the path of non-members, and not by what was trained for them."""

    name = "fold-in-members"

    def wrap(self, model: Recommender) -> Recommender:
        """See `FoldInOnly`."""
        return FoldInOnly(model)

    def refusal(self, system: System) -> str:
        """See `Defence.refusal`."""
        # What somebody's own recommender trains is not known here.
        if system.family not in _PERSONAL and not is_own(system.recommender):
            return (
                f"{system.recommender} trains nothing for single users, who are served from their history anyway; it "
                f"applies to {', '.join(_PERSONAL)}"
            )
        if set(system.regimes) <= {"fold-in"}:
            return "in fold-in all are served from their history anyway; it applies to popular, popular-random, trained"
        return ""


class RandomisedResponse(_Wrapping):
    """Each interaction that the system is told may be a lie: local differential privacy for single interactions."""

    name, strength = "randomised-response", "epsilon"
    epsilon: float = Field(gt=0)

    def wrap(self, model: Recommender) -> Recommender:
        """See `RandomisedHistories`."""
        return RandomisedHistories(model, self.epsilon)

    def refusal(self, system: System) -> str:
        """See `Defence.refusal`."""
        if system.family == "lfm" and _explicit(system):
            return "ratings are not seen-or-not; it applies to recommenders without them, as lfm-implicit"
        return ""


class Gumbel(_Wrapping):
    """Lists drawn by the exponential mechanism."""

    name, strength = "gumbel", "epsilon"
    epsilon: float = Field(gt=0)

    def wrap(self, model: Recommender) -> Recommender:
        """See `GumbelTopK`."""
        return GumbelTopK(model, self.epsilon)

    def promise(self) -> Promise:
        """The promise of a list is for the list that its user gets."""
        return Promise(self.epsilon, 0.0, SHARED_PATH)


class PopularRandom(Defence):
    """Popularity randomisation: k popular items by lot in place of the k most popular (Hu 2023; Zhang et al. 2021)."""

    name, strength = "popular-random", "alpha"
    alpha: float = Field(gt=0, le=1)

    def change(self, task: Task) -> Task:
        """Serve `popular` as `popular-random`; other regimes have no popular list."""
        return replace(task, regime="popular-random", alpha=self.alpha) if task.regime in _POPULAR else task

    def refusal(self, system: System) -> str:
        """See `Defence.refusal`."""
        if set(system.regimes).isdisjoint(_POPULAR):
            return f"nobody is given a popular list in {', '.join(system.regimes)}; it applies to popular"
        return ""


class ShorterLists(Defence):
    """Fewer items, hence fewer categories, in a list."""

    name, strength = "shorter-lists", "k"
    k: int = Field(ge=1)

    def change(self, task: Task) -> Task:
        """Serve the first k."""
        return replace(task, k=self.k)

    def refusal(self, system: System) -> str:
        """See `Defence.refusal`."""
        return "" if self.k < system.k else f"the lists have {system.k} items, and shorter ones have fewer"


# In the order in which they act, whatever order they are named in.
DEFENCES: Mapping[str, type[Defence]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            PopularityOnly, Regularisation, EarlyStopping, DPTraining, FoldInMembers, RandomisedResponse, Gumbel,
            PopularRandom, ShorterLists,
        )
    }
)  # fmt: skip


def parse_defences(text: str, privacy: PrivacySettings | None = None) -> tuple[Defence, ...]:
    """Read defences such as ``dp-training=4+shorter-lists=20``, in the order in which they act.

    Parameters
    ----------
    text : str
        Empty for none.
    privacy : PrivacySettings, optional
        Of ``dp-training``.

    Raises
    ------
    ConfigError
        For a name that is unknown or given twice, and for a strength that is missing, not asked for or out of range.
    """
    found: dict[str, Defence] = {}
    for part in (part.strip() for part in text.split("+") if part.strip()):
        name, equals, strength = part.partition("=")
        if name not in DEFENCES:
            raise ConfigError(f"unknown defence {name!r}; {nearest(name, DEFENCES)}")
        if name in found:
            raise ConfigError(f"the defence {name} is named twice in {text!r}")
        kind = DEFENCES[name]
        if bool(kind.strength) != bool(equals):
            needed = f"{name}={kind.strength.upper()}" if kind.strength else f"{name}, without a number"
            raise ConfigError(f"the defence {name} is written {needed}; got {part!r}")
        fields: dict[str, Any] = {kind.strength: strength} if kind.strength else {}
        if kind is DPTraining and privacy is not None:
            fields["settings"] = privacy
        try:
            found[name] = kind.model_validate(fields)
        except ValidationError as error:
            problem = error.errors()[0]
            raise ConfigError(f"the defence {name}: {kind.strength}: {problem['msg']}; got {strength!r}") from None
    return tuple(found[name] for name in DEFENCES if name in found)


def check_defences(defences: tuple[Defence, ...], system: System) -> None:
    """Refuse defences that would change nothing, or that the recommender cannot have.

    Raises
    ------
    ConfigError
        Naming the defence and what it would apply to.
    """
    for defence in defences:
        refusal = defence.refusal(system)
        if refusal:
            raise ConfigError(f"the defence {defence.name} does not apply: {refusal}")
    alone = next((one for one in defences if isinstance(one, PopularityOnly)), None)
    trained = [one.name for one in defences if isinstance(one, (Regularisation, EarlyStopping, DPTraining))]
    if alone and trained:
        raise ConfigError(f"{alone.name} trains nothing that {trained[0]} could defend; name one of them")
    if any(isinstance(one, DPTraining) for one in defences) and len(trained) > 1:
        raise ConfigError(f"dp-training has settings of its own (table dp), which {trained[0]} does not reach")


class _Wrapped(Recommender):
    """A recommender around another.

    Parameters
    ----------
    inner : Recommender
        Not yet fitted.
    """

    def __init__(self, inner: Recommender) -> None:
        self.inner = inner
        self.folds_in = inner.folds_in

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Fit the inner recommender; see `Recommender.fit`."""
        self.inner.fit(interactions, rng=rng)
        self.known = self.inner.known
        return self

    def scores(self, histories: sparse.csr_array) -> Float32:
        """The inner recommender's; nobody is shown them."""
        return self.inner.scores(histories)

    @property
    def item_vectors(self) -> Float32:
        """Those of the inner recommender; see `Recommender.item_vectors`."""
        return self.inner.item_vectors


class FoldInOnly(_Wrapped):
    """Serves everybody, members included, from the history."""

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """See `Recommender.recommend`."""
        return self.inner.recommend(histories, k, exclude_seen=exclude_seen)


class _Randomised(_Wrapped):
    """A wrapper with noise of its own: a strength, and a secret key that is drawn in `fit`.

    Parameters
    ----------
    inner : Recommender
        Not yet fitted.
    epsilon : float
        Above 0 and finite, else ConfigError.
    """

    def __init__(self, inner: Recommender, epsilon: float) -> None:
        super().__init__(inner)
        if not 0 < epsilon < np.inf:
            raise ConfigError(f"epsilon must be above 0 and finite; got {epsilon}")
        self.epsilon = epsilon

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Draw the key and fit to what the system is shown; see `Recommender.fit`."""
        self._key = int(rng.integers(2**63))
        return super().fit(self._shown(interactions), rng=rng)

    def _shown(self, interactions: Interactions) -> Interactions:
        return interactions


class GumbelTopK(_Randomised):
    r"""Draws lists by the exponential mechanism, without repeats.

    An item that the inner recommender ranks r-th of n has the quality :math:`1 - \log r / \log n`, which lies in
    [0, 1] whatever the data are. Gumbel noise of scale :math:`2 k / \varepsilon` is added to each, and the k best are
    the list, in their order: that is k draws of the exponential mechanism, each with epsilon / k (McSherry and Talwar
    2007, theorem 6; Durfee and Rogers 2019, lemma 4.2). So the list has epsilon in all, whatever of the data changes
    but the items that there are to draw from.

    Parameters
    ----------
    inner : Recommender
        Not yet fitted.
    epsilon : float
        Of a whole list; above 0.
    """

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """See `Recommender.recommend`."""
        return self._noisy(self.inner.recommend, histories, k, exclude_seen)

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """See `Recommender.recommend_members`."""
        return self._noisy(self.inner.recommend_members, histories, k, exclude_seen)

    def _noisy(self, recommend: Callable[..., Int32], histories: sparse.csr_array, k: int, exclude_seen: bool) -> Int32:
        known = self.fitted_items(k)
        n = int(known.sum())
        rankings = recommend(histories, n, exclude_seen=False)
        quality = (1 - np.log(np.arange(1, n + 1)) / max(np.log(n), 1)).astype(np.float32)

        def score(rows: slice) -> Float32:
            ranked = rankings[rows]
            scores = np.zeros((len(ranked), len(known)), np.float32)
            np.put_along_axis(scores, ranked, np.broadcast_to(quality, ranked.shape), axis=1)
            for row, rng in zip(scores, _generators(histories[rows], self._key), strict=True):
                # The logarithm of an exponential variate is Gumbel's, but for the sign, and takes a fifth of the time.
                waits = np.maximum(rng.standard_exponential(len(row), np.float32), np.finfo(np.float32).tiny)
                row -= np.float32(2 * k / self.epsilon) * np.log(waits)
            return scores

        return self._rank(score, histories, k, exclude_seen)


class RandomisedHistories(_Randomised):
    r"""Lets the inner recommender see each user's interactions through randomised response (Warner 1965) alone.

    Whether a user interacted with an item, for each item of the catalogue, is told with a lie of probability
    :math:`1 / (1 + e^\varepsilon)`: epsilon-local differential privacy for each single interaction, not for all of a
    user's together. The model is trained on what was told, and serves from what was told; the user's own device leaves
    out what the user has really seen.

    Parameters
    ----------
    inner : Recommender
        Not yet fitted.
    epsilon : float
        Of an interaction; above 0.
    """

    def _shown(self, interactions: Interactions) -> Interactions:
        told = self._told(interactions.csr())
        user = np.repeat(np.arange(interactions.n_users, dtype=np.int32), np.diff(told.indptr))
        return Interactions(
            user, told.indices.astype(np.int32), told.data, None, interactions.users, interactions.items, rated=False
        )

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """See `Recommender.recommend`."""
        return self._from_told(self.inner.recommend, histories, k, exclude_seen)

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """See `Recommender.recommend_members`."""
        return self._from_told(self.inner.recommend_members, histories, k, exclude_seen)

    def _from_told(
        self, recommend: Callable[..., Int32], histories: sparse.csr_array, k: int, exclude_seen: bool
    ) -> Int32:
        known = self.fitted_items(k)
        told = self._told(histories)
        untold = np.diff(histories.indptr) - np.diff((binary(histories) * told).tocsr().indptr)
        # The system leaves out what it was told; as many more are needed as a user has seen besides.
        n = min(int(known.sum()), k + int(untold.max(initial=0))) if exclude_seen else k
        ranked = recommend(told, n, exclude_seen=exclude_seen)
        places = np.arange(n, 0, -1, dtype=np.float32)

        def score(rows: slice) -> Float32:
            # Column n_items takes what pads a list.
            scores = np.zeros((len(ranked[rows]), len(known) + 1), np.float32)
            np.put_along_axis(scores, ranked[rows] % len(scores.T), np.broadcast_to(places, ranked[rows].shape), axis=1)
            return np.ascontiguousarray(scores[:, :-1])

        return self._rank(score, histories, k, exclude_seen)

    def _told(self, histories: sparse.csr_array) -> sparse.csr_array:
        n_items, lie = histories.shape[1], 1 / (1 + np.exp(self.epsilon))
        rows: list[Int32] = []
        for row, rng in enumerate(_generators(histories, self._key)):
            seen = histories.indices[histories.indptr[row] : histories.indptr[row + 1]]
            lies = rng.choice(n_items, rng.binomial(n_items, lie), replace=False, shuffle=False)
            rows.append(np.setxor1d(seen, lies, assume_unique=True).astype(np.int32))
        ends = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
        items = np.concatenate([*rows, np.empty(0, np.int32)])
        return sparse.csr_array((np.ones(len(items), np.float32), items, ends), histories.shape)


def _generators(histories: sparse.csr_array, key: int) -> Iterator[np.random.Generator]:
    """A random stream for each history, which only the key's owner can know."""
    for row in range(histories.shape[0]):
        seen = histories.indices[histories.indptr[row] : histories.indptr[row + 1]]
        digest = hashlib.blake2b(np.sort(seen).astype("<i8").tobytes(), key=key.to_bytes(8, "little")).digest()
        yield np.random.default_rng(np.frombuffer(digest, "<u4"))


def _explicit(system: System) -> bool:
    if system.recommender == "lfm":
        return system.settings.lfm.feedback == "explicit"
    return system.recommender in ("lfm-explicit", "lfm-biased")


def _setting(system: System, fields: tuple[str, ...]) -> tuple[str, float] | None:
    """The first of the fields that the recommender's settings have, and its value."""
    table = getattr(system.settings, system.family, None)
    return next(((field, getattr(table, field)) for field in fields if hasattr(table, field)), None)


def _having(fields: tuple[str, ...]) -> str:
    names = [
        name
        for name, field in RecommenderSettings.model_fields.items()
        if any(hasattr(field.default, one) for one in fields)
    ]
    return f"it applies to {', '.join(sorted(names))}"


def _with_setting(task: Task, field: str, value: float) -> Task:
    family = task.recommender.partition("-")[0]
    table = getattr(task.settings, family)
    settings = {name: getattr(task.settings, name) for name in RecommenderSettings.model_fields}
    changed = RecommenderSettings(**settings | {family: table.model_copy(update={field: value})})
    return replace(task, settings=changed)

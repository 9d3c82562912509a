"""Defences by name: what a system can do so that its lists reveal less, as values that can be combined.

A defence changes what is trained or how it is served: `Defence.change` returns the defended task for a
`recmia.game.tasks.Task`. Some only change a setting (fewer epochs, shorter lists); others wrap the recommender in a
class of `recmia.defences.mechanisms`, which can also be used directly. Defences are written as text, each with its
strength, joined by ``+``: ``dp-training=4+shorter-lists=20``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar

import cloudpickle
from pydantic import Field, ValidationError

from recmia.defences.base import LEVELS, Defence, Promise, System, WrappingDefence, having, with_setting
from recmia.defences.mechanisms import FoldInOnly, GumbelTopK, RandomisedHistories
from recmia.errors import ConfigError, nearest
from recmia.game.tasks import Task
from recmia.recommenders.base import Recommender
from recmia.recommenders.spec import RECOMMENDERS
from recmia.settings import FALLBACK, FOLDING, PrivacySettings

# What can be passed where defences are wanted.
AnyDefences = str | Defence | Sequence[str | Defence]


class PopularityOnly(Defence):
    """All users get popular items, from a recommender that remembers no user."""

    name = "popularity-only"

    def change(self, task: Task) -> Task:
        """Return the task with `Popularity` as the recommender."""
        return replace(task, recommender=RECOMMENDERS["popularity"])

    def refusal(self, system: System) -> str:
        """See `Defence.refusal`."""
        return "the system serves popular items already" if system.name == "popularity" else ""


class Regularisation(Defence):
    """Stronger regularisation."""

    name, strength = "regularisation", "weight"
    weight: float = Field(gt=0)

    def change(self, task: Task) -> Task:
        """Return the task with this regularisation."""
        return with_setting(task, "regularisation", self.weight)

    def refusal(self, system: System) -> str:
        """See `Defence.refusal`."""
        found = system.setting(("regularisation",))
        if found is None:
            return f"{system.name} has no regularisation; {having(('regularisation',))}"
        return "" if self.weight > found[1] else f"the system has {found[1]:g}, and more would be above that"


class EarlyStopping(Defence):
    """Fewer passes over the training data."""

    name, strength = "early-stopping", "epochs"
    epochs: int = Field(ge=1)
    _fields: ClassVar[tuple[str, ...]] = ("epochs", "iterations")

    def change(self, task: Task) -> Task:
        """Return the task with this number of passes."""
        found = System(task.recommender, task.settings, (), task.k).setting(self._fields)
        assert found is not None, "refused before"
        return with_setting(task, found[0], self.epochs)

    def refusal(self, system: System) -> str:
        """See `Defence.refusal`."""
        found = system.setting(self._fields)
        if found is None:
            return f"{system.name} is not trained in passes; {having(self._fields)}"
        return "" if self.epochs < found[1] else f"the system stops after {found[1]:g}, and earlier would be below that"


class DPTraining(WrappingDefence):
    """Training with user-level differential privacy; see `recmia.recommenders.private`."""

    name, strength = "dp-training", "epsilon"
    epsilon: float = Field(gt=0)
    settings: PrivacySettings = PrivacySettings()

    def wrap(self, model: Recommender) -> Recommender:
        """Return a `PrivateLFM` in place of the LFM."""
        # A model is loaded when it is made.
        from recmia.recommenders.lfm import LFM
        from recmia.recommenders.private import PrivateLFM

        assert isinstance(model, LFM), "others are refused before"
        return PrivateLFM(self.epsilon, self.settings)

    def refusal(self, system: System) -> str:
        """See `Defence.refusal`."""
        allowed = "it applies to lfm and lfm-implicit, with lfm.feedback = 'implicit'"
        if system.recommender.tables != ("lfm",):
            return f"there is no private training of {system.name}; {allowed}"
        rated = system.recommender.uses_ratings(system.settings)
        return f"the private LFM is fitted to what was seen, not to ratings; {allowed}" if rated else ""

    def promise(self) -> Promise:
        """Return the promise of the item parameters, which holds for all that is computed from them."""
        unit = "the trained item parameters, with any number of lists that are computed from them"
        return Promise(self.epsilon, self.settings.delta, FOLDING, unit, covers_answers=True)


class FoldInMembers(WrappingDefence):
    """Members are served from their history, as non-members are, and not by what was trained for them."""

    name = "fold-in-members"

    def wrap(self, model: Recommender) -> Recommender:
        """See `FoldInOnly`."""
        return FoldInOnly(model)

    def refusal(self, system: System) -> str:
        """See `Defence.refusal`."""
        # What user code trains is not known here.
        if not (system.recommender.personal or system.recommender.user_code):
            personal = sorted({spec.tables[0] for spec in RECOMMENDERS.values() if spec.personal})
            return (
                f"{system.name} trains nothing for single users, who are served from their history anyway; it "
                f"applies to {', '.join(personal)}"
            )
        if set(system.regimes) <= {"fold-in"}:
            return "in fold-in all are served from their history anyway; it applies to popular, popular-random, trained"
        return ""


class RandomisedResponse(WrappingDefence):
    """Each interaction that the system sees may be false: local differential privacy for single interactions.

    It promises nothing of the membership of users, which is about all interactions of a user together.
    """

    name, strength = "randomised-response", "epsilon"
    epsilon: float = Field(gt=0)

    def wrap(self, model: Recommender) -> Recommender:
        """See `RandomisedHistories`."""
        return RandomisedHistories(model, self.epsilon)

    def promise(self) -> Promise:
        """Return the promise for a single interaction; from the user's own list, the device removes what was seen."""
        unit = "the report of one interaction, with all that the system computes from it"
        return Promise(self.epsilon, 0.0, FOLDING, unit, covers_answers=True, of="interactions")

    def refusal(self, system: System) -> str:
        """See `Defence.refusal`."""
        if system.recommender.needs_order:
            return (
                f"reports have no order, which {system.recommender.name} needs; it applies to recommenders without it"
            )
        if system.recommender.tables == ("lfm",) and system.recommender.uses_ratings(system.settings):
            return "ratings are not seen-or-not; it applies to recommenders without them, as lfm-implicit"
        return ""


class Gumbel(WrappingDefence):
    """Lists are drawn by the exponential mechanism; members are served from their history, as non-members are.

    Parameters
    ----------
    epsilon : float
        Of a list of the length that the system serves.
    k : int, optional
        That length. `change` takes it from the task, after all defences that make lists shorter.
    """

    name, strength = "gumbel", "epsilon"
    epsilon: float = Field(gt=0)
    k: int | None = Field(None, ge=1)

    def change(self, task: Task) -> Task:
        """Return the task with the recommender wrapped, with noise for lists of the task's length and no longer."""
        return replace(task, wrappers=(*task.wrappers, self.model_copy(update={"k": task.k})), depth=0)

    def wrap(self, model: Recommender) -> Recommender:
        """See `GumbelTopK`."""
        if self.k is None:
            raise ConfigError("the noise of gumbel depends on the length of the lists: give k, or use Gumbel.change")
        return GumbelTopK(model, self.epsilon, k=self.k)

    def promise(self) -> Promise:
        """Return the promise for the list that a user gets, or its beginning."""
        unit = "the list of one history; each further history that is asked costs epsilon again"
        return Promise(self.epsilon, 0.0, FOLDING, unit, tuple(level for level in LEVELS if level != "white-box"))


class PopularRandom(Defence):
    """Popularity randomisation: k random popular items instead of the k most popular (Hu 2023; Zhang et al. 2021)."""

    name, strength = "popular-random", "alpha"
    alpha: float = Field(gt=0, le=1)

    def change(self, task: Task) -> Task:
        """Return the task in the regime `popular-random` instead of `popular`; other regimes have no popular list."""
        return replace(task, regime="popular-random", alpha=self.alpha) if task.regime in FALLBACK else task

    def refusal(self, system: System) -> str:
        """See `Defence.refusal`."""
        if set(system.regimes).isdisjoint(FALLBACK):
            return f"nobody is given a popular list in {', '.join(system.regimes)}; it applies to popular"
        return ""


class ShorterLists(Defence):
    """Shorter lists, which also have fewer categories of items."""

    name, strength = "shorter-lists", "k"
    k: int = Field(ge=1)

    def change(self, task: Task) -> Task:
        """Return the task with lists of the first k items."""
        return replace(task, k=self.k)

    def refusal(self, system: System) -> str:
        """See `Defence.refusal`."""
        return "" if self.k < system.k else f"the lists have {system.k} items, and shorter ones have fewer"


# In the order in which they act, which does not depend on the order in which they are named. Lists are cut before
# noise is drawn for their length.
DEFENCES: Mapping[str, type[Defence]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            PopularityOnly, Regularisation, EarlyStopping, DPTraining, FoldInMembers, RandomisedResponse, ShorterLists,
            Gumbel, PopularRandom,
        )
    }
)  # fmt: skip


def parse_defences(
    text: str, privacy: PrivacySettings | None = None, objects: Mapping[str, Defence] = MappingProxyType({})
) -> tuple[Defence, ...]:
    """Return the defences in a text such as ``dp-training=4+shorter-lists=20``, in the order in which they act.

    Parameters
    ----------
    text : str
        Empty for none.
    privacy : PrivacySettings, optional
        Settings of ``dp-training``.
    objects : mapping, optional
        Defences of the user's, by what they are written as (`str`); see `name_defences`. They act after all others, in
        the order in which they are named.

    Raises
    ------
    ConfigError
        For a name that is unknown or given twice, and for a strength that is missing, not asked for or out of range.

    Examples
    --------
    >>> [str(one) for one in parse_defences("shorter-lists=20 + gumbel=300")]
    ['shorter-lists=20', 'gumbel=300']
    """
    found: dict[str, Defence] = {}
    for part in (part.strip() for part in text.split("+") if part.strip()):
        name, equals, strength = part.partition("=")
        if part not in objects and name not in DEFENCES:
            raise ConfigError(f"unknown defence {name!r}; {nearest(name, DEFENCES)}")
        if name in found:
            raise ConfigError(f"the defence {name} is named twice in {text!r}")
        if part in objects:
            found[name] = objects[part]
            continue
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
    return tuple(found[name] for name in dict.fromkeys((*DEFENCES, *found)) if name in found)


def name_defences(given: AnyDefences, privacy: PrivacySettings | None = None) -> tuple[str, dict[str, Defence]]:
    """Return what defences are written as, and the objects of the user's among them.

    Parameters
    ----------
    given : str, Defence, or sequence of these
        Texts, as `parse_defences` takes them, and objects.
    privacy : PrivacySettings, optional
        What an object of `DPTraining` must have, since it is written as its epsilon alone.

    Returns
    -------
    text : str
        All of them, joined by ``+``.
    objects : dict
        Those that are not of recmia, by what they are written as.

    Raises
    ------
    ConfigError
        For an object that is no defence, that has no name of its own, or that the text does not tell apart from
        another.

    Examples
    --------
    >>> name_defences(["gumbel=300", ShorterLists(k=10)])
    ('gumbel=300+shorter-lists=10', {})
    """
    texts: list[str] = []
    objects: dict[str, Defence] = {}
    for one in [given] if isinstance(given, (str, Defence)) else given:
        if isinstance(one, str):
            texts.append(one)
            continue
        if not isinstance(one, Defence):
            raise ConfigError(
                "a defence must be a text, such as 'gumbel=300', or an object of a subclass of "
                f"recmia.defences.Defence; got {one!r}"
            )
        kind, name = type(one).__name__, getattr(one, "name", None)
        if not isinstance(name, str) or not name or set(name) & set("+= "):
            raise ConfigError(
                f"the defence {kind} needs a name for the tables, a text without '+', '=' and spaces, as the class "
                f"attribute name; got {name!r}"
            )
        text = str(one)
        if not one.user_code:
            if parse_defences(text, privacy) != (one,):
                raise ConfigError(
                    f"the object {one!r} is more than {text}, which is all that is kept of it: round its strength to "
                    "six digits, and give settings of dp-training as dp=..."
                )
        elif name in DEFENCES:
            raise ConfigError(f"the defence {kind} is called {name!r}, which is the name of one of recmia's; rename it")
        elif objects.setdefault(text, one) != one:
            raise ConfigError(f"two different defences are both written {text}; rename one, or round their strengths")
        else:
            _check_pickle(one)
        texts.append(text)
    return "+".join(filter(None, texts)), objects


def _check_pickle(defence: Defence) -> None:
    try:
        cloudpickle.dumps(defence)
    # Any object can raise anything when it is pickled.
    except Exception as error:
        words = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"the defence {defence} cannot be pickled, which it takes to send it to other processes: {words}"
        ) from error


def check_defences(defences: tuple[Defence, ...], system: System) -> None:
    """Check that defences apply to a system, and go together.

    Raises
    ------
    ConfigError
        Naming the defence and what it applies to.

    Examples
    --------
    >>> from recmia.settings import RecommenderSettings
    >>> system = System(RECOMMENDERS["ease"], RecommenderSettings(), ("fold-in",), 100)
    >>> check_defences(parse_defences("shorter-lists=20"), system)
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
    if {DPTraining, RandomisedResponse} <= {type(one) for one in defences}:
        # Reports that are kept from training to serving are not computed from the private parameters alone: two
        # histories that a member has grown to are served from one report, and those of a newcomer from two.
        raise ConfigError(
            "dp-training and randomised-response do not go together: the reports that are kept for members would break "
            "the promise of dp-training for several lists; name one of them"
        )

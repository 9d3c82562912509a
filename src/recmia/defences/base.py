"""The interface of defences: values that change a task, and say where they apply and what they promise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, get_args

from recmia.game.tasks import Task
from recmia.recommenders.base import Recommender
from recmia.recommenders.spec import RecommenderSpec
from recmia.recommenders.user.objects import code_digest
from recmia.settings import RecommenderSettings, Settings, Unit
from recmia.settings.attacker import Knowledge

LEVELS: tuple[str, ...] = get_args(Knowledge)


@dataclass(frozen=True)
class Promise:
    """A promise of (epsilon, delta)-differential privacy for users in training, or for single interactions of theirs.

    Parameters
    ----------
    epsilon, delta : float
        Of what `unit` says; each further one costs them again.
    regimes : tuple of str
        Where it holds. It cannot hold where non-members get popular lists, which reveal that they are no members.
    unit : str
        What an attacker may see for this epsilon.
    levels : tuple of str
        The attackers' levels of knowledge at which it holds: without ``white-box`` where item vectors are not covered.
    covers_answers : bool
        Whether it covers the answers to an attacker's queries, and not only the list of each user. A promise that does
        not is held against attacks that look at lists alone.
    of : {"users", "interactions"}
        Whose presence it hides: of a user with all interactions, which covers each of them, or of one interaction.

    Examples
    --------
    >>> from recmia.defences import parse_defences
    >>> parse_defences("gumbel=30")[0].promise().unit
    'the list of one history; each further history that is asked costs epsilon again'
    """

    epsilon: float
    delta: float
    regimes: tuple[str, ...]
    unit: str = "the list of one user"
    levels: tuple[str, ...] = LEVELS
    covers_answers: bool = False
    of: Unit = "users"


@dataclass(frozen=True)
class System:
    """A system that a defence is applied to.

    Parameters
    ----------
    recommender : RecommenderSpec
    settings : RecommenderSettings
        Those that the recommender uses, see `RecommenderSpec.used`.
    regimes : tuple of str
    k : int
        Length of the lists.

    Examples
    --------
    >>> from recmia.recommenders.spec import RECOMMENDERS
    >>> System(RECOMMENDERS["als"], RecommenderSettings(), ("fold-in",), 100).setting(("epochs", "iterations"))
    ('iterations', 15)
    """

    recommender: RecommenderSpec
    settings: RecommenderSettings
    regimes: tuple[str, ...]
    k: int

    @property
    def name(self) -> str:
        """The recommender's name."""
        return self.recommender.name

    def setting(self, fields: tuple[str, ...]) -> tuple[str, float] | None:
        """Return the first of the fields that is in the table of the recommender, with its value, or None."""
        table = own_table(self.recommender, self.settings)
        return next(((field, getattr(table, field)) for field in fields if hasattr(table, field)), None)


class Defence(Settings, ABC):
    """A defence and its strength: a frozen value, whose fields are checked when it is made.

    An object of a subclass can be passed wherever the name of a defence can: ``recmia.audit(defence=MyDefence(n=3))``.

    Attributes
    ----------
    name : str
        What tables call it, without ``+`` and ``=``.
    strength : str
        The field that the number after the name stands for; empty where there is none.

    Examples
    --------
    >>> from dataclasses import replace
    >>> class TopOnly(Defence):
    ...     name, strength = "top-only", "n"
    ...     n: int
    ...
    ...     def change(self, task):
    ...         return replace(task, k=self.n)
    >>> str(TopOnly(n=3)), TopOnly(n=3).promise()
    ('top-only=3', None)
    """

    name: ClassVar[str]
    strength: ClassVar[str] = ""

    @abstractmethod
    def change(self, task: Task) -> Task:
        """Return the task of the defended system."""

    def refusal(self, system: System) -> str:
        """Return why the defence does not apply to a system, and what it applies to; empty if it applies."""
        return ""

    def promise(self) -> Promise | None:
        """Return the promise to each user, or None."""
        return None

    @property
    def user_code(self) -> bool:
        """Whether it is the user's, whose code can change without a trace: scores are not kept for other runs."""
        return type(self).__module__.partition(".")[0] != "recmia"

    def __str__(self) -> str:
        return f"{self.name}={getattr(self, self.strength):g}" if self.strength else self.name


class WrappingDefence(Defence):
    """A defence that wraps the recommender."""

    def change(self, task: Task) -> Task:
        """Return the task with the recommender wrapped."""
        return replace(task, wrappers=(*task.wrappers, self))

    @abstractmethod
    def wrap(self, model: Recommender) -> Recommender:
        """Return the defended recommender, which is not yet fitted."""

    def key(self) -> dict[str, Any]:
        """Return what the defended model depends on in addition, as plain values."""
        kept = {"defence": self.name, **self.model_dump(mode="json")}
        return kept | {"code": code_digest(self)} if self.user_code else kept


def own_table(recommender: RecommenderSpec, settings: RecommenderSettings) -> Settings | None:
    """Return the table of settings of the recommender, or None."""
    table: Settings | None = getattr(settings, recommender.tables[0]) if recommender.tables else None
    return table


def with_setting(task: Task, field: str, value: float) -> Task:
    """Return the task with another value in the table of settings of its recommender."""
    table = own_table(task.recommender, task.settings)
    assert table is not None, "refused before"
    changed = {task.recommender.tables[0]: table.model_copy(update={field: value})}
    return replace(task, settings=task.settings.model_copy(update=changed))


def having(fields: tuple[str, ...]) -> str:
    """Return words that name the recommenders with one of these settings."""
    names = [
        name
        for name, field in RecommenderSettings.model_fields.items()
        if any(hasattr(field.default, one) for one in fields)
    ]
    return f"it applies to {', '.join(sorted(names))}"

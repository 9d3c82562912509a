"""The settings of an audit of data, and of an audit of files: each is made of groups, and neither of the other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Self

from pydantic import model_validator

from recmia.errors import ConfigError
from recmia.settings.attacker import (
    ASKING_ATTACKS,
    DEFAULT_ATTACKS,
    INTERACTION_ATTACKS,
    LOOKING_ATTACKS,
    SINGLE_ATTACKS,
    AttackerSettings,
    Knowledge,
    KnowledgeSettings,
)
from recmia.settings.base import IN_MEMORY, ComposedSettings
from recmia.settings.data import DataSettings, GroupSettings
from recmia.settings.defences import FilesSystemSettings, SystemSettings
from recmia.settings.files import FileNames, ForgettingSettings
from recmia.settings.game import (
    AS_SERVED,
    FOLDING,
    SERVED_ALIKE,
    FilesGameSettings,
    GameSettings,
    ServingSettings,
    Unit,
)
from recmia.settings.recommenders import RecommenderSettings
from recmia.settings.run import FilesRunSettings, RunSettings


class AnyAuditSettings(ComposedSettings):
    """What the settings of all kinds of audits answer."""

    serving: ServingSettings = ServingSettings()
    attacker: AttackerSettings = AttackerSettings()
    recommenders: RecommenderSettings = RecommenderSettings()
    groups: GroupSettings = GroupSettings()

    @property
    @abstractmethod
    def source(self) -> str:
        """Name or path of the data."""

    @property
    @abstractmethod
    def target(self) -> str:
        """Name of the audited system."""

    @property
    @abstractmethod
    def levels(self) -> tuple[Knowledge, ...]:
        """Levels of knowledge of the attacker."""

    @property
    @abstractmethod
    def regimes(self) -> tuple[str, ...]:
        """Names of the regimes that are reported."""

    @property
    @abstractmethod
    def n_targets(self) -> int:
        """Audited systems a seed."""

    @property
    def unit(self) -> Unit:
        """Whose membership is inferred."""
        return "users"

    @property
    @abstractmethod
    def seeds(self) -> range:
        """The seeds."""

    @property
    @abstractmethod
    def k(self) -> int:
        """Most items of a list."""

    @property
    def shadow(self) -> str:
        """Name of the attacker's recommender."""
        return self.attacker.shadow

    @property
    def users_columns(self) -> tuple[str, ...]:
        """Columns of the table of users that figures are grouped by."""
        return self.groups.further(self.unit)

    @model_validator(mode="after")
    def _grouped(self) -> Self:
        _ = self.users_columns
        return self


class AuditSettings(AnyAuditSettings):
    """Every setting of an audit; the defaults are the paper's case and the strict one, side by side."""

    renamed: ClassVar[Mapping[str, str]] = MappingProxyType({"target": "recommender"})
    data: DataSettings = DataSettings()
    game: GameSettings = GameSettings()
    system: SystemSettings = SystemSettings()
    knowledge: KnowledgeSettings = KnowledgeSettings()
    run: RunSettings = RunSettings()

    @classmethod
    def _completed(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Fill in what follows from other settings.

        The shadow is of the audited recommender, too, unless another is named; a training command is both. User code is
        audited where all are served alike: a popular list for non-members would be ours, and not what its system does.
        Of the default attacks, only those are run that can be: none asks without queries, or where no regime folds in.
        """
        if _has_command(given):
            given = {"recommender": "command", **given}
        if _is_user_code(given.get("recommender")):
            given = {"regimes": SERVED_ALIKE, **given}
        if given.get("unit") == "interactions":
            # The question, and so the attacks, are others; a threshold would take the interactions of a shadow system.
            given = {"attacks": INTERACTION_ATTACKS, "regimes": SERVED_ALIKE, "thresholds": False, **given}
        elif tuple(given.get("attacks", DEFAULT_ATTACKS)) == DEFAULT_ATTACKS and not _can_ask(given):
            given["attacks"] = LOOKING_ATTACKS
        return {"shadow": given["recommender"], **given} if "recommender" in given else given

    def changed(self, **fields: Any) -> Self:
        """The same settings with other values for these fields, checked anew.

        Attacks that only look in place of the default ones, since nothing can be asked, are the default ones again
        where something can; and a shadow that was of the audited recommender is of the new one.
        """
        flat = self.flat()
        if "recommender" in fields and self.shadow == self.target:
            del flat["shadow"]
        if self.attacker.attacks == LOOKING_ATTACKS and not _can_ask(flat):
            del flat["attacks"]
        return self.parse(flat | fields)

    @model_validator(mode="after")
    def _of_interactions(self) -> Self:
        if self.game.unit == "users":
            return self
        kept: dict[str, tuple[object, object]] = {
            "split": (self.game.split, ("users", "shared")),
            "regimes": (self.game.regimes, (SERVED_ALIKE,)),
            "knowledge": (self.knowledge.knowledge, (("grey-box",),)),
            "known": (self.knowledge.known, (1.0,)),
            "n_audited": (self.game.n_audited, (0,)),
            "item_vectors": (self.knowledge.item_vectors, ("shadow",)),
            "query_kind": (self.attacker.query_kind, ("auto", "parts")),
            "thresholds": (self.attacker.thresholds, (False,)),
        }
        for name, (found, allowed) in kept.items():
            if found not in allowed:  # type: ignore[operator]
                words = " or ".join(", ".join(one) if isinstance(one, tuple) else str(one) for one in allowed)  # type: ignore[attr-defined]
                raise ValueError(f"with unit = interactions, {name} must be {words}; got {found!r}")
        return self

    @model_validator(mode="after")
    def _command_for_command(self) -> Self:
        if "command" in (self.target, self.shadow) and not self.recommenders.train.command:
            raise ValueError(
                "the recommender 'command' needs the command that trains it: --train-command (setting train.command)"
            )
        return self

    @property
    def source(self) -> str:
        """Name or path of the data."""
        return self.data.dataset

    @property
    def target(self) -> str:
        """Name of the audited recommender."""
        return self.system.recommender

    @property
    def levels(self) -> tuple[Knowledge, ...]:
        """Levels of knowledge of the attacker."""
        return self.knowledge.knowledge

    @property
    def regimes(self) -> tuple[str, ...]:
        """The regimes."""
        return self.game.regimes

    @property
    def n_targets(self) -> int:
        """Audited systems a seed."""
        return self.game.n_targets

    @property
    def unit(self) -> Unit:
        """Whose membership is inferred."""
        return self.game.unit

    @property
    def seeds(self) -> range:
        """The seeds."""
        return range(self.run.seed, self.run.seed + self.run.seeds)

    @property
    def k(self) -> int:
        """Length of the lists."""
        return self.game.k


# The attacks of an audit of lists from files.
FILES_ATTACKS = ("distance", "mlp", "list-lr")


class FilesSettings(AnyAuditSettings):
    """Every setting of an audit of what a system showed or answered, from files."""

    renamed: ClassVar[Mapping[str, str]] = MappingProxyType({"target": "name"})
    # Not checked until files are named, so that there can be a default to start from.
    files: FileNames = FileNames.model_construct()
    game: FilesGameSettings = FilesGameSettings()
    system: FilesSystemSettings = FilesSystemSettings()
    attacker: AttackerSettings = AttackerSettings(attacks=FILES_ATTACKS)
    run: FilesRunSettings = FilesRunSettings()

    @classmethod
    def _completed(cls, given: dict[str, Any]) -> dict[str, Any]:
        """A training command says what the attacker uses; where the system answered questions, attacks ask."""
        if given.get("unit") == "interactions":
            given = {"attacks": SINGLE_ATTACKS, "thresholds": False, **given}
        elif given.get("answers") and "attacks" not in given:
            given["attacks"] = ("distance",) * bool(given.get("lists")) + ASKING_ATTACKS
        return {"shadow": "command", **given} if _has_command(given) else given

    @property
    def source(self) -> str:
        """Path of the histories."""
        return self.files.interactions

    @property
    def target(self) -> str:
        """What the audited system is called."""
        return self.system.name

    @property
    def levels(self) -> tuple[Knowledge, ...]:
        """The attacker has shadow users of the same kind."""
        return ("grey-box",)

    @property
    def regimes(self) -> tuple[str, ...]:
        """How the lists came about is not known."""
        return (AS_SERVED,)

    @property
    def n_targets(self) -> int:
        """Files hold one system."""
        return 1

    @property
    def unit(self) -> Unit:
        """Whose membership is inferred."""
        return self.game.unit

    @model_validator(mode="after")
    def _answers_tell_of_interactions(self) -> Self:
        if self.game.unit == "interactions" and not self.files.answers:
            raise ValueError(
                "with unit = interactions, questions and answers are needed (--questions, --answers): recmia ask "
                "--unit interactions"
            )
        return self

    @property
    def seeds(self) -> range:
        """One seed."""
        return range(self.run.seed, self.run.seed + 1)

    @property
    def k(self) -> int:
        """Most items of a list; 0 until the files are read, if it is the longest list that decides."""
        return self.game.k


class ForgetSettings(FilesSettings):
    """Every setting of a test of whether a system has forgotten users, from files."""

    forgetting: ForgettingSettings = ForgettingSettings.model_construct()

    @classmethod
    def _completed(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Of the attacks that ask, the strongest that there is decides."""
        if not given.get("answers"):
            raise ConfigError(
                "answers (--answers) is needed: what the system answers to the questions that recmia ask wrote"
            )
        return {"attacks": ASKING_ATTACKS, **given}

    @model_validator(mode="after")
    def _asks_alone(self) -> Self:
        others = [name for name in self.attacker.attacks if name not in ASKING_ATTACKS]
        if others:
            raise ValueError(f"deleted users are tested by {' and '.join(ASKING_ATTACKS)}; got {', '.join(others)}")
        if self.game.unit != "users":
            raise ValueError("deleted users are whole users; unit = interactions makes no sense here")
        unused = ("lists", "shadow_interactions", "shadow_members", "shadow_lists", "pool_lists", "pool_members")
        given = [name for name in unused if getattr(self.files, name)]
        if given:
            raise ValueError(f"deleted users are tested by answers alone; leave out {', '.join(given)}")
        return self

    @model_validator(mode="after")
    def _deleted_apart(self) -> Self:
        files = self.files
        for name in ("interactions", "members", "answers", "reference_interactions", "reference_answers"):
            if getattr(files, name) == self.forgetting.deleted:
                raise ValueError(
                    f"{name} and deleted are the same file, {self.forgetting.deleted}; each is a file of its own"
                )
        return self


def _can_ask(given: Mapping[str, Any]) -> bool:
    regimes = given.get("regimes", FOLDING)
    # What is no sequence of names is refused later.
    return given.get("queries") != 0 and (
        not isinstance(regimes, (list, tuple)) or not set(FOLDING).isdisjoint(regimes)
    )


def _is_user_code(name: object) -> bool:
    """Whether a recommender is named as ``package.module:factory``, is an object in memory, or a command."""
    return isinstance(name, str) and (name == "command" or ":" in name or name.endswith(IN_MEMORY))


def _has_command(given: Mapping[str, Any]) -> bool:
    train = given.get("train")
    return bool(train.get("command") if isinstance(train, Mapping) else getattr(train, "command", ""))

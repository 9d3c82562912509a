"""Every setting of an audit, checked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from recmia.attacks import CLASSIFIERS, POOL_ATTACKS, SHADOW_FREE, MLPSettings
from recmia.datasets import Columns
from recmia.defences import Defence, System, check_defences, parse_defences
from recmia.errors import ConfigError, nearest
from recmia.game import Regime, SplitUnit
from recmia.recommenders import RECOMMENDERS, RecommenderSettings
from recmia.recommenders.private import PrivacySettings
from recmia.vectors import ItemVectorSource, RankWeights

ATTACKS = (*CLASSIFIERS, *SHADOW_FREE, *POOL_ATTACKS)
Knowledge = Literal["black-box", "grey-box", "white-box"]
# Your own recommender, by name.
_FACTORY = re.compile(r"[\w.]+:[\w.]+")


class AuditConfig(RecommenderSettings):
    """Every setting of an audit; the defaults are the paper's case and the strict one, side by side."""

    dataset: str = Field("ml-latest-small", description="Name, file, folder, or synthetic[:SHAPE].")
    min_interactions: int = Field(20, ge=1, description="Users with fewer interactions are dropped.")
    max_users: int = Field(0, ge=0, description="Play with a random sample of so many users; 0 means all.")
    split: SplitUnit = Field("users", description="What the shadow and the target side do not share.")
    member_share: float = Field(0.5, gt=0, lt=1, description="Share of a side's users that are members.")
    regimes: tuple[Regime, ...] = Field(
        ("popular", "fold-in"), min_length=1, description="What non-members are served; one result each."
    )
    alpha: float = Field(0.1, gt=0, le=1, description="popular-random draws k of the k / alpha most popular.")
    target: str = Field("lfm", description="The audited recommender, or your own as package.module:factory.")
    shadow: str = Field("lfm", description="The attacker's recommender, or your own as package.module:factory.")
    defence: str = Field(
        "", description="What the system does against leaks, as dp-training=4+shorter-lists=20; shadows do it, too."
    )
    held_out: float = Field(
        0.0, ge=0, lt=1, description="Share of each user's interactions that is kept from all, to measure utility."
    )
    attacks: tuple[str, ...] = Field(("mlp", "list-lr"), description="Attacks; the baselines are always run.")
    knowledge: tuple[Knowledge, ...] = Field(
        ("grey-box",), min_length=1, description="What the attacker knows: black-box, grey-box, white-box."
    )
    black_box_data: str = Field(
        "", description="Data set of the black-box attacker, items known by id (else drawn from public statistics)."
    )
    shadows: int = Field(
        16, ge=0, multiple_of=2, description="Shadow models, each on half of the users, for list-lr and rmia."
    )
    targets: int = Field(
        1, ge=1, description="Independent targets a seed (other members, other training); 20 or so show single users."
    )
    k: int = Field(100, ge=1, description="Length of the recommended lists.")
    exclude_seen: bool = Field(True, description="Leave the history out of personal lists.")
    item_vectors: ItemVectorSource = Field("shadow", description="Data that the attacker's item vectors come from.")
    rank_weights: RankWeights = Field("uniform", description="Weights of the ranks in a user's vector.")
    thresholds: bool = Field(
        True, description="Choose thresholds on shadow users, scored out of fold; AUC and TPR do not need them."
    )
    seeds: int = Field(5, ge=1, description="Independent repetitions: split, training, attack.")
    seed: int = Field(0, ge=0, description="The first seed; the others follow it.")
    columns: Columns = Columns()
    mlp: MLPSettings = MLPSettings()
    dp: PrivacySettings = PrivacySettings()

    @field_validator("target", "shadow")
    @classmethod
    def _known_recommender(cls, name: str) -> str:
        if name not in RECOMMENDERS and not _FACTORY.fullmatch(name):
            raise ValueError(
                f"unknown recommender {name!r}; {nearest(name, RECOMMENDERS)}; or your own, as package.module:factory"
            )
        return name

    @field_validator("attacks")
    @classmethod
    def _known_attacks(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in ATTACKS:
                raise ValueError(f"unknown attack {name!r}; {nearest(name, ATTACKS)}")
        return names

    @field_validator("knowledge", mode="before")
    @classmethod
    def _known_levels(cls, names: object) -> object:
        for name in names if isinstance(names, (list, tuple)) else ():
            if name not in get_args(Knowledge):
                raise ValueError(f"unknown level of knowledge {name!r}; {nearest(str(name), get_args(Knowledge))}")
        return names

    @field_validator("regimes", mode="before")
    @classmethod
    def _known_regimes(cls, names: object) -> object:
        for name in names if isinstance(names, (list, tuple)) else ():
            if name not in get_args(Regime):
                raise ValueError(f"unknown regime {name!r}; {nearest(str(name), get_args(Regime))}")
        return names

    @field_validator("regimes", "attacks", "knowledge")
    @classmethod
    def _no_repeats(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated:
            raise ValueError(f"named more than once: {', '.join(repeated)}")
        return names

    @model_validator(mode="before")
    @classmethod
    def _train_what_the_command_trains(cls, settings: Any) -> Any:
        """A training command alone says what is audited and, unless another shadow is named, what the attacker uses."""
        train = settings.get("train") if isinstance(settings, Mapping) else None
        given = train.get("command") if isinstance(train, Mapping) else getattr(train, "command", "")
        if given and "target" not in settings:
            return {"shadow": "command", **settings, "target": "command"}
        return settings

    @model_validator(mode="after")
    def _command_for_command(self) -> Self:
        if "command" in (self.target, self.shadow) and not self.train.command:
            raise ValueError("the recommender 'command' needs the command that trains it: train.command")
        return self

    @model_validator(mode="after")
    def _applicable_defences(self) -> Self:
        try:
            for name in dict.fromkeys((self.target, self.shadow)):
                check_defences(self.defences, System(name, self, self.regimes, self.k))
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    @model_validator(mode="after")
    def _enough_shadows(self) -> Self:
        needed = {name: POOL_ATTACKS[name].min_shadows + 2 for name in self.pool_attacks}
        short = [f"{name} needs {count}" for name, count in needed.items() if count > self.shadows]
        if short:
            raise ValueError(
                f"too few shadow models: {', '.join(short)}; got {self.shadows}; raise shadows, or name other attacks"
            )
        return self

    @property
    def defences(self) -> tuple[Defence, ...]:
        """What `defence` stands for."""
        return parse_defences(self.defence, self.dp)

    @property
    def pool_attacks(self) -> tuple[str, ...]:
        """The attacks that learn from many shadow models."""
        return tuple(name for name in self.attacks if name in POOL_ATTACKS)

    @property
    def vector_attacks(self) -> tuple[str, ...]:
        """The attacks over user vectors."""
        return tuple(name for name in self.attacks if name not in POOL_ATTACKS)

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> AuditConfig:
        """Check settings from a file or a caller; ``recommender`` stands for the target and, if not named, the shadow.

        Raises
        ------
        ConfigError
            Naming every bad key, what was found and what is allowed.
        """
        if "recommender" in settings:
            if "target" in settings:
                raise ConfigError(
                    f"name the audited recommender once: recommender is {settings['recommender']!r}, target "
                    f"{settings['target']!r}"
                )
            rest = {key: value for key, value in settings.items() if key != "recommender"}
            settings = {"shadow": settings["recommender"], **rest, "target": settings["recommender"]}
        try:
            return cls.model_validate(settings)
        except ValidationError as error:
            raise ConfigError("; ".join(_complaint(problem, cls) for problem in error.errors())) from None


def _complaint(problem: Any, model: type[BaseModel]) -> str:
    """One sentence about one problem that pydantic found."""
    path = [str(part) for part in problem["loc"]]
    name = ".".join(path)
    if problem["type"] == "extra_forbidden":
        for part in path[:-1]:
            inner = model.model_fields[part].annotation
            assert isinstance(inner, type), "only tables have keys of their own"
            model = inner
        return f"unknown setting {name!r}; {nearest(path[-1], model.model_fields)}"
    if not name:
        return str(problem["msg"]).removeprefix("Value error, ")
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}; got {problem['input']!r}"

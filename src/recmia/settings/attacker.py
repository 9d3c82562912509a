"""Settings of the attacker: what it knows, and which attacks it runs."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator

from recmia.settings.base import Settings, refuse_repeats, refuse_unknown

Knowledge = Literal["black-box", "grey-box", "white-box"]
RankWeights = Literal["uniform", "linear"]
QueryKind = Literal["parts", "prefixes"]
ItemVectorSource = Literal["shadow", "public", "all"]


class MLPSettings(Settings):
    """The paper's attack model: l -> 32 -> 8 -> 2, ReLU, SGD with momentum, cross-entropy."""

    hidden: tuple[int, ...] = Field((32, 8), min_length=1, description="Widths of the hidden layers.")
    learning_rate: float = Field(0.01, gt=0, description="Step size of the attack model's SGD.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of the attack model's SGD.")
    epochs: int = Field(50, ge=1, description="Passes over the shadow users.")
    batches: int = Field(20, ge=1, description="Steps an epoch: shuffled batches of equal size.")


# The attacks of an audit that names none; where the system cannot be asked, those that only look.
DEFAULT_ATTACKS = ("mlp", "list-lr", "completion", "query-lr")
LOOKING_ATTACKS = ("mlp", "list-lr")
INTERACTION_ATTACKS = ("item-completion", "item-reference", "item-lr")
# Those that need no shadow model.
SINGLE_ATTACKS = ("item-completion", "item-reference")
# Those that one training of the audited system is enough for.
ASKING_ATTACKS = ("completion", "completion-reference")


class AttackerSettings(Settings):
    """Which attacks are run, with what shadow and reference models, and what may be asked."""

    shadow: str = Field("lfm", description="The attacker's recommender, or your own as package.module:factory.")
    attacks: tuple[str, ...] = Field(DEFAULT_ATTACKS, description="Attacks; rules are always run.")
    n_shadows: int = Field(
        6, ge=0, multiple_of=2, description="Shadow models of list-lr, query-lr, rmia, each on half of the users."
    )
    depth: int = Field(0, ge=0, description="Length of the lists that shadow models serve; 0 means ten times k.")
    queries: int = Field(
        6,
        ge=0,
        multiple_of=2,
        description="Queries about each user; 0: the attacker only looks at lists.",
    )
    query_share: float = Field(0.5, gt=0, lt=1, description="Share of history asked with.")
    query_kind: QueryKind = Field("parts", description="parts, or prefixes.")
    blocks: int = Field(10, ge=2, description="Parts of a history that are hidden in turn, with unit = interactions.")
    references: tuple[str, ...] = Field(
        ("itemknn", "ease", "lfm"), description="For completion-reference: models trained on others' data."
    )
    rank_weights: RankWeights = Field("uniform", description="Weights of the ranks.")
    thresholds: bool = Field(True, description="Choose thresholds on shadow users; AUC and TPR need none.")
    mlp: MLPSettings = MLPSettings()

    @field_validator("attacks", "references")
    @classmethod
    def _once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return refuse_repeats(names)


class KnowledgeSettings(Settings):
    """What the attacker knows beside histories and lists."""

    knowledge: tuple[Knowledge, ...] = Field(
        ("grey-box",), min_length=1, description="What the attacker knows: black-box, grey-box, white-box."
    )
    black_box_data: str = Field(
        "", description="Data set of the black-box attacker; none: drawn from public statistics."
    )
    item_vectors: ItemVectorSource = Field("shadow", description="Data that the attacker's item vectors come from.")
    known: float = Field(1.0, gt=0, le=1, description="Share of each audited history that is known, drawn at random.")

    @field_validator("knowledge", mode="before")
    @classmethod
    def _known(cls, names: object) -> object:
        refuse_unknown("level of knowledge", names if isinstance(names, (list, tuple)) else (), get_args(Knowledge))
        return names

    @field_validator("knowledge")
    @classmethod
    def _once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return refuse_repeats(names)

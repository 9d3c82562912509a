"""Settings of the attacker: what it knows, and which attacks it runs."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator

from recmia.settings.base import Settings, refuse_repeats, refuse_unknown

Knowledge = Literal["black-box", "grey-box", "white-box"]
RankWeights = Literal["uniform", "linear"]
ItemVectorSource = Literal["shadow", "public", "all"]


class MLPSettings(Settings):
    """The paper's attack model: l -> 32 -> 8 -> 2, ReLU, SGD with momentum, cross-entropy."""

    hidden: tuple[int, ...] = Field((32, 8), min_length=1, description="Widths of the hidden layers.")
    learning_rate: float = Field(0.01, gt=0, description="Step size of the attack model's SGD.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of the attack model's SGD.")
    epochs: int = Field(50, ge=1, description="Passes over the shadow users.")
    batches: int = Field(20, ge=1, description="Steps an epoch: shuffled batches of equal size.")


class AttackerSettings(Settings):
    """Which attacks are run, and with what shadow models."""

    shadow: str = Field("lfm", description="The attacker's recommender, or your own as package.module:factory.")
    attacks: tuple[str, ...] = Field(
        ("mlp", "list-lr"), description="Attacks; the rules that need no model are always run."
    )
    n_shadows: int = Field(
        16, ge=0, multiple_of=2, description="Shadow models, each on half of the users, for list-lr and rmia."
    )
    rank_weights: RankWeights = Field("uniform", description="Weights of the ranks in a user's vector.")
    thresholds: bool = Field(
        True, description="Choose thresholds on shadow users, scored out of fold; AUC and TPR do not need them."
    )
    mlp: MLPSettings = MLPSettings()

    @field_validator("attacks")
    @classmethod
    def _once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return refuse_repeats(names)


class KnowledgeSettings(Settings):
    """What the attacker knows beside histories and lists."""

    knowledge: tuple[Knowledge, ...] = Field(
        ("grey-box",), min_length=1, description="What the attacker knows: black-box, grey-box, white-box."
    )
    black_box_data: str = Field(
        "", description="Data set of the black-box attacker, items known by id (else drawn from public statistics)."
    )
    item_vectors: ItemVectorSource = Field("shadow", description="Data that the attacker's item vectors come from.")

    @field_validator("knowledge", mode="before")
    @classmethod
    def _known(cls, names: object) -> object:
        refuse_unknown("level of knowledge", names if isinstance(names, (list, tuple)) else (), get_args(Knowledge))
        return names

    @field_validator("knowledge")
    @classmethod
    def _once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return refuse_repeats(names)

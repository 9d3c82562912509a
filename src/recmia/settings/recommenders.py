"""Settings of every recommender, a table each."""

from __future__ import annotations

import shlex
from typing import Literal

from pydantic import Field, field_validator

from recmia.settings.base import Settings

Device = Literal["auto", "cpu", "cuda"]
_REQUIRED = ("{interactions}", "{histories}", "{lists}")


class SGDSettings(Settings):
    """How to train factors by SGD; the defaults are the paper's where it gives them."""

    feedback: Literal["explicit", "implicit"] = Field(
        "implicit", description="Fit the ratings (explicit), or seen against sampled unseen items (implicit)."
    )
    learning_rate: float = Field(0.01, gt=0, description="Step size of the SGD.")
    regularisation: float = Field(0.01, ge=0, description="Lambda, the weight of the squared norms.")
    epochs: int = Field(20, ge=1, description="Passes over the interactions.")
    n_negatives: int = Field(1, ge=1, description="Unseen items sampled per seen one (implicit only).")
    bias: bool = Field(False, description="Add a bias per user and per item (explicit only).")
    init_std: float = Field(0.1, gt=0, description="Standard deviation of the factors' uniform start.")


class ALSSettings(Settings):
    """How to train ALS; the defaults do well on ml-latest-small with 100 factors."""

    alpha: float = Field(
        1.0, gt=0, description="How much more a seen item weighs than an unseen one, whose weight is 1."
    )
    regularisation: float = Field(10.0, gt=0, description="Lambda, the weight of the squared norms.")
    iterations: int = Field(15, ge=1, description="Times that users and items are solved in turn.")


class BPRSettings(Settings):
    """How to train BPR."""

    learning_rate: float = Field(0.01, gt=0, description="Step size of the SGD.")
    regularisation: float = Field(0.01, gt=0, description="Lambda, the weight of the squared norms.")
    epochs: int = Field(100, ge=1, description="Passes over the interactions, each with a fresh unseen item.")


class NeighbourSettings(Settings):
    """Which rows are neighbours."""

    neighbours: int = Field(50, ge=1, description="How many of the most similar items, or users, count.")
    shrinkage: float = Field(10.0, ge=0, description="Added to the denominator of the cosine.")
    binary: bool = Field(True, description="Count every interaction as 1 and ignore the ratings.")


class EASESettings(Settings):
    """How strongly the weights are regularised."""

    regularisation: float = Field(100.0, gt=0, description="Lambda, the weight of the squared item weights.")


class HybridSettings(Settings):
    """How to mix content and LFM."""

    weight: float = Field(0.1, ge=0, le=1, description="Weight of the content scores; the LFM's get the rest.")


class NCFSettings(Settings):
    """How wide the network is, and how to train it."""

    factors: int = Field(16, ge=1, description="Length f of the product's embeddings, width of the tower's top.")
    layers: int = Field(2, ge=1, description="Layers of the tower; each halves the width.")
    learning_rate: float = Field(0.003, gt=0, description="Step size of Adam.")
    regularisation: float = Field(0.02, ge=0, description="Lambda, the weight of the squared embeddings.")
    epochs: int = Field(12, ge=1, description="Passes over the interactions.")
    batch_size: int = Field(1024, ge=1, description="Interactions a step, each with its negatives.")
    n_negatives: int = Field(4, ge=1, description="Unseen items sampled per seen one.")
    init_std: float = Field(0.01, gt=0, description="Standard deviation of the embeddings' start.")


class LightGCNSettings(Settings):
    """How to train the graph's embeddings."""

    layers: int = Field(2, ge=1, description="Propagation steps over the graph.")
    learning_rate: float = Field(0.02, gt=0, description="Step size of Adam.")
    regularisation: float = Field(0.001, ge=0, description="Lambda, the weight of the squared layer-0 embeddings.")
    epochs: int = Field(40, ge=1, description="Passes over the interactions.")
    batch_size: int = Field(8192, ge=1, description="Interactions a step.")
    init_std: float = Field(0.1, gt=0, description="Standard deviation of the layer-0 embeddings' start.")


class SASRecSettings(Settings):
    """How much of a history counts, how deep the network is, and how to train it."""

    layers: int = Field(1, ge=1, description="Blocks of self-attention.")
    heads: int = Field(1, ge=1, description="Heads of a block; they must divide the factors.")
    window: int = Field(50, ge=1, description="Last events of a history that count; older ones are cut off.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Share of the units that are left out, at random.")
    learning_rate: float = Field(0.002, gt=0, description="Step size of Adam.")
    epochs: int = Field(8, ge=1, description="Passes over the events.")
    batch_size: int = Field(256, ge=1, description="Events a step.")
    n_negatives: int = Field(512, ge=1, description="Sampled items that the next one is compared with.")


class GRU4RecSettings(Settings):
    """How much of a history counts, how deep the network is, and how to train it."""

    layers: int = Field(1, ge=1, description="Layers of gated recurrent units.")
    window: int = Field(30, ge=1, description="Last events of a history that count; older ones are cut off.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Share of the embeddings' entries left out, at random.")
    learning_rate: float = Field(0.003, gt=0, description="Step size of Adam.")
    epochs: int = Field(10, ge=1, description="Passes over the events.")
    batch_size: int = Field(512, ge=1, description="Events a step.")
    n_negatives: int = Field(512, ge=1, description="Sampled items that the next one is compared with.")


class CommandSettings(Settings):
    """The command behind the recommender `command`."""

    command: str = Field(
        "",
        description="Command that trains a model on the file {interactions} and writes to {lists} lists of {k} items "
        "for the users of {histories}; {seed} and {folder} may be used. Then the audited recommender is this.",
    )
    format: Literal["csv", "parquet"] = Field("csv", description="Kind of the files: csv, parquet.")
    timeout: float = Field(3600, gt=0, description="Seconds that a run of the command may take.")
    retries: int = Field(0, ge=0, description="How often a run that fails is tried again.")
    folder: str = Field("", description="Where runs that fail leave their files and their output (else nowhere).")

    @field_validator("command")
    @classmethod
    def _complete(cls, command: str) -> str:
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise ValueError(f"the command cannot be split into words: {error}") from None
        missing = [name for name in _REQUIRED if not any(name in word for word in words)]
        if words and missing:
            raise ValueError(f"the command must name {', '.join(_REQUIRED)}; it misses {', '.join(missing)}")
        return command


class RecommenderSettings(Settings):
    """The settings of every recommender; those of recommenders that are not used have no effect."""

    factors: int = Field(100, ge=1, description="Latent dimension, and length of the attacker's vectors.")
    device: Device = Field("auto", description="Networks train on cpu, cuda, auto (GPU if any).")
    lfm: SGDSettings = SGDSettings()
    als: ALSSettings = ALSSettings()
    bpr: BPRSettings = BPRSettings()
    itemknn: NeighbourSettings = NeighbourSettings()
    userknn: NeighbourSettings = NeighbourSettings()
    ease: EASESettings = EASESettings()
    hybrid: HybridSettings = HybridSettings()
    ncf: NCFSettings = NCFSettings()
    lightgcn: LightGCNSettings = LightGCNSettings()
    sasrec: SASRecSettings = SASRecSettings()
    gru4rec: GRU4RecSettings = GRU4RecSettings()
    train: CommandSettings = CommandSettings()

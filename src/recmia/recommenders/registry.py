"""Recommenders by name, and their settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from recmia.errors import ConfigError, nearest
from recmia.factorization import SGDSettings
from recmia.recommenders.base import Recommender
from recmia.recommenders.command import CommandRecommender, CommandSettings
from recmia.recommenders.graph import LightGCN, LightGCNSettings
from recmia.recommenders.implicit_feedback import ALS, BPR, ALSSettings, BPRSettings
from recmia.recommenders.lfm import LFM
from recmia.recommenders.linear import EASE, EASESettings
from recmia.recommenders.neighbours import ItemKNN, NeighbourSettings, UserKNN
from recmia.recommenders.neural import NCF, NCFSettings
from recmia.recommenders.own import Own
from recmia.recommenders.simple import Content, Hybrid, HybridSettings, Popularity, Random
from recmia.recommenders.tensors import Device


class RecommenderSettings(BaseModel):
    """The settings of every recommender, a table each; those of recommenders that are not used do no harm."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    l: int = Field(100, ge=1, description="Latent dimension and length of the vectors.")  # noqa: E741
    device: Device = Field("auto", description="Where ncf and lightgcn train: cpu, cuda, or auto for a GPU if any.")
    lfm: SGDSettings = SGDSettings()
    als: ALSSettings = ALSSettings()
    bpr: BPRSettings = BPRSettings()
    itemknn: NeighbourSettings = NeighbourSettings()
    userknn: NeighbourSettings = NeighbourSettings()
    ease: EASESettings = EASESettings()
    hybrid: HybridSettings = HybridSettings()
    ncf: NCFSettings = NCFSettings()
    lightgcn: LightGCNSettings = LightGCNSettings()
    train: CommandSettings = CommandSettings()


def _lfm(settings: RecommenderSettings, threads: int, **changed: str | bool) -> LFM:
    return LFM(settings.lfm.model_copy(update=changed), l=settings.l, threads=threads)


# Each is made with the settings and the number of threads it may use, on which its lists do not depend. What needs an
# extra is imported when it is made.
RECOMMENDERS: Mapping[str, Callable[[RecommenderSettings, int], Recommender]] = MappingProxyType(
    {
        "lfm": _lfm,
        "als": lambda settings, threads: ALS(settings.als, l=settings.l, threads=threads),
        "bpr": lambda settings, threads: BPR(settings.bpr, l=settings.l, threads=threads),
        "lfm-explicit": partial(_lfm, feedback="explicit", bias=False),
        "lfm-biased": partial(_lfm, feedback="explicit", bias=True),
        "lfm-implicit": partial(_lfm, feedback="implicit", bias=False),
        "popularity": lambda settings, threads: Popularity(),
        "random": lambda settings, threads: Random(),
        "itemknn": lambda settings, threads: ItemKNN(settings.itemknn),
        "userknn": lambda settings, threads: UserKNN(settings.userknn),
        "ease": lambda settings, threads: EASE(settings.ease),
        "content": lambda settings, threads: Content(),
        "hybrid": lambda settings, threads: Hybrid(_lfm(settings, threads), settings.hybrid),
        "ncf": lambda settings, threads: NCF(settings.ncf, device=settings.device),
        "lightgcn": lambda settings, threads: LightGCN(
            settings.lightgcn, l=settings.l, threads=threads, device=settings.device
        ),
        "command": lambda settings, threads: CommandRecommender(settings.train),
    }
)


def make_recommender(name: str | Own, settings: RecommenderSettings | None = None, *, threads: int = 1) -> Recommender:
    """Make an unfitted recommender.

    Parameters
    ----------
    name : str or Own
        A key of `RECOMMENDERS`, or your own.
    settings : RecommenderSettings, optional
    threads : int
        How many threads it may use; its lists do not depend on it.

    Returns
    -------
    Recommender

    Raises
    ------
    ConfigError
        For an unknown name, or if your own cannot be made.
    MissingExtraError
        If it needs a package that is not installed; the message names the pip command.
    """
    if isinstance(name, Own):
        return name.make()
    if name not in RECOMMENDERS:
        raise ConfigError(f"unknown recommender {name!r}; {nearest(name, RECOMMENDERS)}")
    return RECOMMENDERS[name](RecommenderSettings() if settings is None else settings, threads)


def used_settings(name: str | Own, settings: RecommenderSettings) -> dict[str, Any]:
    """The settings that the named recommender depends on, as plain values.

    Those of others are left out, so that what was trained for one set of settings is known again in another. A table
    belongs to the recommender of its name, and to those whose name starts with it (``lfm-explicit``); the hybrid is
    made with an LFM. The device belongs to all that may use one: other sums, other last bits. Your own has no settings
    but itself; a command's are its words and the files that it names, whose content may change.
    """
    if isinstance(name, Own):
        return {"own": name.digest}
    if name == "command":
        return {"command": settings.train.command, "format": settings.train.format, "code": settings.train.code()}
    mine = {name.partition("-")[0]} | ({"lfm"} if name == "hybrid" else set())
    tables = {key for key, field in RecommenderSettings.model_fields.items() if _is_table(field.annotation)}
    return settings.model_dump(mode="json", include=set(RecommenderSettings.model_fields) - (tables - mine))


def is_own(name: str) -> bool:
    """Tell whether a name stands for a recommender of the user's, whose code can change without a trace."""
    return name == "command" or ":" in name


def _is_table(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)

"""Recommenders by name, and their settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, Field

from recmia.errors import ConfigError, nearest
from recmia.factorization import SGDSettings
from recmia.recommenders.base import Recommender
from recmia.recommenders.implicit_feedback import ALS, BPR, ALSSettings, BPRSettings
from recmia.recommenders.lfm import LFM


class RecommenderSettings(BaseModel):
    """The settings of every recommender, a table each; those of recommenders that are not used do no harm."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    l: int = Field(100, ge=1, description="Latent dimension and length of the vectors.")  # noqa: E741
    lfm: SGDSettings = SGDSettings()
    als: ALSSettings = ALSSettings()
    bpr: BPRSettings = BPRSettings()


def _lfm(settings: RecommenderSettings, threads: int) -> Recommender:
    return LFM(settings.lfm, l=settings.l, threads=threads)


def _als(settings: RecommenderSettings, threads: int) -> Recommender:
    return ALS(settings.als, l=settings.l, threads=threads)


def _bpr(settings: RecommenderSettings, threads: int) -> Recommender:
    return BPR(settings.bpr, l=settings.l, threads=threads)


# Each is made with the settings and the number of threads it may use, on which its lists do not depend. What needs an
# extra is imported when it is made.
RECOMMENDERS: Mapping[str, Callable[[RecommenderSettings, int], Recommender]] = MappingProxyType(
    {
        "lfm": _lfm,
        "als": _als,
        "bpr": _bpr,
    }
)


def make_recommender(name: str, settings: RecommenderSettings | None = None, *, threads: int = 1) -> Recommender:
    """Make an unfitted recommender.

    Parameters
    ----------
    name : str
        A key of `RECOMMENDERS`.
    settings : RecommenderSettings, optional
    threads : int
        How many threads it may use; its lists do not depend on it.

    Returns
    -------
    Recommender

    Raises
    ------
    ConfigError
        For an unknown name.
    MissingExtraError
        If it needs a package that is not installed; the message names the pip command.
    """
    if name not in RECOMMENDERS:
        raise ConfigError(f"unknown recommender {name!r}; {nearest(name, RECOMMENDERS)}")
    return RECOMMENDERS[name](RecommenderSettings() if settings is None else settings, threads)

"""Settings of the membership game: who is a member, and what users are served."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator

from recmia.settings.base import Settings, refuse_repeats, refuse_unknown

Regime = Literal["popular", "popular-random", "fold-in", "trained"]
SplitUnit = Literal["users", "interactions", "shared"]
# In place of a regime, for lists from files: how they came about is not known.
AS_SERVED = "as-served"
# Regimes in which non-members get popular lists in place of the system's: any model leaks there.
FALLBACK: tuple[Regime, ...] = ("popular", "popular-random")
# Regimes in which the system serves users that it was not trained on from their histories.
FOLDING: tuple[Regime, ...] = ("fold-in", "trained")
# Regimes in which members and non-members are served alike, by the same code path: what an attack finds there is in the
# model. In `trained`, members are served by vectors that another solver found, which an attack can tell by itself.
SERVED_ALIKE: tuple[Regime, ...] = ("fold-in",)


Unit = Literal["users", "interactions"]


class GameSettings(Settings):
    """How members are drawn, and how often."""

    unit: Unit = Field("users", description="Members are users, or interactions.")

    split: SplitUnit = Field("users", description="What the shadow and the target side do not share.")
    regimes: tuple[Regime, ...] = Field(
        ("fold-in", "popular"), min_length=1, description="What non-members get (own code: fold-in)."
    )
    k: int = Field(100, ge=1, description="Length of the lists.")
    n_targets: int = Field(1, ge=1, description="Independent targets a seed; 20 or so show single users.")
    n_audited: int = Field(0, ge=0, description="Audit so many users of those trained on; 0 means all.")
    held_out: float = Field(0.0, ge=0, lt=1, description="Share of interactions kept from all, to measure utility.")

    @field_validator("regimes", mode="before")
    @classmethod
    def _known(cls, names: object) -> object:
        refuse_unknown("regime", names if isinstance(names, (list, tuple)) else (), get_args(Regime))
        return names

    @field_validator("regimes")
    @classmethod
    def _once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return refuse_repeats(names)


class FilesGameSettings(Settings):
    """What shadow systems that are trained here serve, in an audit of files, and whose membership it is about."""

    unit: Unit = Field("users", description="Members are users, or interactions.")
    regime: Regime = Field(
        "fold-in", description="What non-members are served by shadow systems that are trained here."
    )
    k: int = Field(0, ge=0, description="Most items of a list; 0 means as many as the longest has.")


class ServingSettings(Settings):
    """What all systems of a game have in common."""

    member_share: float = Field(0.5, gt=0, lt=1, description="Probability with which each user of a side is a member.")
    alpha: float = Field(0.1, gt=0, le=1, description="popular-random draws k of the k / alpha most popular.")
    exclude_seen: bool = Field(True, description="Leave the history out of personal lists.")

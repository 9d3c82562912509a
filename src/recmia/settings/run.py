"""Settings of the repetitions."""

from __future__ import annotations

from pydantic import Field

from recmia.settings.base import Settings


class RunSettings(Settings):
    """How often everything is repeated, and from which seed."""

    seeds: int = Field(5, ge=1, description="Repetitions: split, training, attack.")
    seed: int = Field(0, ge=0, description="The first seed; the others follow it.")


class FilesRunSettings(Settings):
    """The seed of whatever is drawn or trained here, in an audit of files."""

    seed: int = Field(0, ge=0, description="Of whatever is drawn or trained here.")

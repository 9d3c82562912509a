"""Settings of the audited system and of its defences."""

from __future__ import annotations

from pydantic import Field

from recmia.settings.base import Settings


class PrivacySettings(Settings):
    """How to train with differential privacy."""

    delta: float = Field(1e-5, gt=0, lt=1, description="Of (epsilon, delta); below one over the number of members.")
    clip: float = Field(1.0, gt=0, description="Longest gradient of a user, C.")
    sampling_rate: float = Field(0.5, gt=0, le=1, description="Chance of a user to be in a step, q.")
    steps: int = Field(20, ge=1, description="Noisy steps of training.")
    learning_rate: float = Field(1.0, gt=0, description="Step size, eta.")
    regularisation: float = Field(0.1, gt=0, description="Lambda of the users' vectors.")
    factors: int = Field(8, ge=1, description="Latent dimension; each one more is one more number an item to hide.")


class SystemSettings(Settings):
    """What is audited."""

    recommender: str = Field(
        "lfm",
        description="als, bpr, content, ease, gru4rec, hybrid, itemknn, lfm, lfm-biased, lfm-explicit, lfm-implicit, "
        "lightgcn, ncf, popularity, random, sasrec, userknn, your package.module:factory, or a command "
        "(--help-settings train); shadows are of it, too.",
    )
    defence: str = Field(
        "", description="What the system does against leaks, as dp-training=4+shorter-lists=20; shadows do it, too."
    )
    dp: PrivacySettings = PrivacySettings()


class FilesSystemSettings(Settings):
    """What is audited from files."""

    name: str = Field("your system", description="What to call the audited system.")

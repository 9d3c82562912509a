"""Classifiers over the paper's user vectors (Hu 2023, section 3; Zhang et al. 2021, section 4.3).

The paper names the MLP, naive Bayes and the decision tree. Logistic regression, random forest, gradient boosting and
k-NN are the field's usual others; their settings are fixed, made for some hundred users and up to a hundred dimensions.
All are scikit-learn pipelines that standardise the vectors first. The attack is fitted on the vectors of shadow users
and gives each target user the log odds of being a member. scikit-learn is imported when a classifier is made: that
takes longer than many a command.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from recmia.attacks.base import Attack, Bool, Float64, for_every_user
from recmia.errors import NotFittedError, ProtocolError
from recmia.observation import Observation

_INTERRUPTED = "Training interrupted by user"


class MLPSettings(BaseModel):
    """The paper's attack model: l -> 32 -> 8 -> 2, ReLU, SGD with momentum, cross-entropy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: tuple[int, ...] = Field((32, 8), min_length=1, description="Widths of the hidden layers.")
    learning_rate: float = Field(0.01, gt=0, description="Step size of the attack model's SGD.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of the attack model's SGD.")
    epochs: int = Field(50, ge=1, description="Passes over the shadow users.")
    batches: int = Field(20, ge=1, description="Steps an epoch: shuffled batches of equal size.")


def _mlp(settings: MLPSettings, seed: int, n: int) -> Any:
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier(
        hidden_layer_sizes=settings.hidden,
        solver="sgd",
        alpha=0.0,
        learning_rate_init=settings.learning_rate,
        momentum=settings.momentum,
        nesterovs_momentum=False,
        max_iter=settings.epochs,
        # A share of the users, so that many users do not mean many more steps.
        batch_size=max(1, n // settings.batches),
        n_iter_no_change=settings.epochs,
        random_state=seed,
    )


def _naive_bayes(settings: MLPSettings, seed: int, n: int) -> Any:
    from sklearn.naive_bayes import GaussianNB

    return GaussianNB()


def _decision_tree(settings: MLPSettings, seed: int, n: int) -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(min_samples_leaf=10, random_state=seed)


def _logistic_regression(settings: MLPSettings, seed: int, n: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    # There are about as many dimensions as users, so the penalty is strong.
    return LogisticRegression(C=0.01, max_iter=1000)


def _random_forest(settings: MLPSettings, seed: int, n: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=100, min_samples_leaf=5, n_jobs=1, random_state=seed)


def _gradient_boosting(settings: MLPSettings, seed: int, n: int) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier

    # Not the histogram kind: its bins and leaves of 20 are for more users than a shadow side has.
    return GradientBoostingClassifier(
        n_estimators=100, max_depth=2, subsample=0.5, max_features="sqrt", random_state=seed
    )


def _k_nn(settings: MLPSettings, seed: int, n: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(n_neighbors=round(math.sqrt(n)), n_jobs=1)


# Made from the MLP's settings, a seed and the number of users to learn from.
CLASSIFIERS: Mapping[str, Callable[[MLPSettings, int, int], Any]] = MappingProxyType(
    {
        "mlp": _mlp,
        "naive-bayes": _naive_bayes,
        "decision-tree": _decision_tree,
        "logistic-regression": _logistic_regression,
        "random-forest": _random_forest,
        "gradient-boosting": _gradient_boosting,
        "k-nn": _k_nn,
    }
)


class VectorClassifier(Attack):
    """A classifier of `CLASSIFIERS` over user vectors.

    A user without a vector, none of whose items the attacker knows, gets the median score of the others.

    Parameters
    ----------
    name : str
        A key of `CLASSIFIERS`.
    mlp : MLPSettings, optional
        Used by ``"mlp"``.
    """

    def __init__(self, name: str, mlp: MLPSettings | None = None) -> None:
        self.name = name
        self.mlp = MLPSettings() if mlp is None else mlp
        self._model: Any = None

    def fit(self, shadow: Observation, member: Bool, *, rng: np.random.Generator) -> Self:
        """Learn from the shadow users that have a vector."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        usable = shadow.has_vector
        if len(np.unique(member[usable])) < 2:
            raise ProtocolError(f"{self.name} needs shadow members and non-members with vectors; got one kind only")
        seed = int(rng.integers(2**31))
        self._model = make_pipeline(StandardScaler(), CLASSIFIERS[self.name](self.mlp, seed, int(usable.sum())))
        with warnings.catch_warnings():
            # The number of epochs is a setting of the attack, not a limit on the way to convergence.
            warnings.simplefilter("ignore", ConvergenceWarning)
            # scikit-learn's MLP turns Ctrl-C into a warning and a half-trained model.
            warnings.filterwarnings("error", message=_INTERRUPTED)
            try:
                self._model.fit(shadow.user_vectors[usable], member[usable])
            except UserWarning as warning:
                if _INTERRUPTED in str(warning):
                    raise KeyboardInterrupt from None
                raise
        return self

    def score(self, observation: Observation) -> Float64:
        """Log odds of membership, clipped where a classifier is certain."""
        if self._model is None:
            raise NotFittedError(f"the attack {self.name} was asked for scores before fit")
        usable = observation.has_vector
        if not usable.any():
            return np.zeros(len(observation))
        probability = np.clip(self._model.predict_proba(observation.user_vectors[usable])[:, 1], 1e-15, 1 - 1e-15)
        return for_every_user(np.log(probability) - np.log1p(-probability), usable)

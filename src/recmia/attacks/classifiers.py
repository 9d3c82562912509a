"""Classifiers over the paper's user vectors (Hu 2023, section 3; Zhang et al. 2021, section 4.3).

The paper uses the MLP, naive Bayes and the decision tree. Logistic regression, random forest, gradient boosting and
k-NN are other common choices; their settings are fixed, for some hundred users and up to a hundred dimensions. The MLP
is our own (`recmia.attacks.network`), the others are scikit-learn's, and all standardise the vectors first. The attack
is fitted on the vectors of shadow users, and its score is the log odds of membership. scikit-learn is imported only
when a classifier is made, because the import is slow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from recmia.attacks.base import Attack, Bool, Float64, for_every_user
from recmia.attacks.network import Network
from recmia.attacks.vectors import user_vectors
from recmia.errors import NotFittedError, ProtocolError
from recmia.observation import Observation


def _mlp(
    seed: int, n: int, *, hidden: Sequence[int], learning_rate: float, momentum: float, epochs: int, batches: int
) -> Any:
    # A share of the users in a step, so that the number of steps does not grow with the number of users.
    return Network(
        seed, hidden=hidden, learning_rate=learning_rate, momentum=momentum, epochs=epochs,
        batch_size=max(1, n // batches),
    )  # fmt: skip


def _naive_bayes(seed: int, n: int) -> Any:
    from sklearn.naive_bayes import GaussianNB

    return _standardising(GaussianNB())


def _decision_tree(seed: int, n: int) -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return _standardising(DecisionTreeClassifier(min_samples_leaf=10, random_state=seed))


def _logistic_regression(seed: int, n: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    # There are about as many dimensions as users, so strong regularisation is needed.
    return _standardising(LogisticRegression(C=0.01, max_iter=1000))


def _random_forest(seed: int, n: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return _standardising(RandomForestClassifier(n_estimators=100, min_samples_leaf=5, n_jobs=1, random_state=seed))


def _gradient_boosting(seed: int, n: int) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier

    # Not the histogram-based one, whose bins and leaves of 20 users are made for more users than a shadow side has.
    return _standardising(
        GradientBoostingClassifier(n_estimators=100, max_depth=2, subsample=0.5, max_features="sqrt", random_state=seed)
    )


def _k_nn(seed: int, n: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return _standardising(KNeighborsClassifier(n_neighbors=round(math.sqrt(n)), n_jobs=1))


# Each is called with a seed and the number of users to learn from; the MLP also takes settings.
CLASSIFIERS: Mapping[str, Callable[..., Any]] = MappingProxyType(
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

    A user without a vector, because the attacker has none for any item of the history or of the list, gets the median
    score of the others.

    Parameters
    ----------
    name : str
        A key of `CLASSIFIERS`.
    rank_weights : {"uniform", "linear"}
        Of `recmia.attacks.vectors.user_vectors`.
    hidden : sequence of int
        Widths of the hidden layers of the MLP.
    learning_rate, momentum : float
        Of the MLP.
    epochs, batches : int
        Passes over the shadow users, and steps in each pass, of the MLP.

    Examples
    --------
    >>> import numpy as np
    >>> from recmia.metrics import auc
    >>> from recmia.testing import planted_leak
    >>> (shadow, member), (target, truth) = (planted_leak("twin", np.random.default_rng(seed)) for seed in (0, 1))
    >>> attack = VectorClassifier("naive-bayes").fit(shadow, member, rng=np.random.default_rng(0))
    >>> auc(truth, attack.score(target)).value > 0.9
    True
    """

    def __init__(
        self,
        name: str,
        *,
        rank_weights: str = "uniform",
        hidden: Sequence[int] = (32, 8),
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        epochs: int = 50,
        batches: int = 20,
    ) -> None:
        self.name = name
        self.rank_weights = rank_weights
        self.mlp = {"hidden": hidden, "learning_rate": learning_rate, "momentum": momentum, "epochs": epochs,
                    "batches": batches}  # fmt: skip
        self._model: Any = None

    def fit(self, shadow: Observation, member: Bool, *, rng: np.random.Generator) -> Self:
        """Fit to the shadow users that have a vector; ProtocolError if they are all members, or all non-members."""
        vectors = user_vectors(shadow, self.rank_weights)
        usable = vectors.usable
        if len(np.unique(member[usable])) < 2:
            raise ProtocolError(f"{self.name} needs shadow members and non-members with vectors; got one kind only")
        seed, options = int(rng.integers(2**31)), self.mlp if self.name == "mlp" else {}
        model = CLASSIFIERS[self.name](seed, int(usable.sum()), **options)
        self._model = model.fit(vectors.difference[usable], member[usable])
        return self

    def score(self, observation: Observation) -> Float64:
        """Return the log odds of membership, clipped where the classifier is certain; NotFittedError before `fit`."""
        if self._model is None:
            raise NotFittedError(f"the attack {self.name} was asked for scores before fit")
        vectors = user_vectors(observation, self.rank_weights)
        usable = vectors.usable
        if not usable.any():
            return np.zeros(len(observation))
        return for_every_user(_log_odds(self._model, vectors.difference[usable]), usable)


def _standardising(classifier: Any) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), classifier)


def _log_odds(model: Any, X: Float64) -> Float64:
    if isinstance(model, Network):
        return model.decision_function(X)
    probability = np.clip(model.predict_proba(X)[:, 1], 1e-15, 1 - 1e-15)
    log_odds: Float64 = np.log(probability) - np.log1p(-probability)
    return log_odds

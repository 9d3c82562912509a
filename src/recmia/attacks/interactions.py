r"""Attacks that ask, on single interactions: that this user has this item, was it in the training data.

The attacker knows a user's history and hides a block B of it at a time, so that every interaction is hidden once; see
`recmia.game.queries.draw_blocks`. It asks with the rest. A hidden item that was trained on stands high in the answer.
With the rank r of a hidden item, k + 1 if it is not in the answer, all attacks use

.. math:: y = -\log(r + 5) .

- `ItemCompletion` is y itself.
- `ItemReference` is what y exceeds the expectation by, which models that the attacker trained on other people's data
  give: a regression over all hidden interactions, blind to labels.
- `ItemLR` compares with shadow models, each trained on a random half of the interactions.

Scores are of the hidden interactions, in the order of ``queries.hidden.indices``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from recmia.attacks.base import Needs
from recmia.errors import NotFittedError, ProtocolError, TooFewShadowsError
from recmia.observation import InteractionPool, Observation, Queries, in_history

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]

# What is added to a rank: the first ranks differ less than by their logarithms.
_OFFSET = 5.0
# Most rows that a model of the attacker's is fitted to; more bring nothing.
_MOST_ROWS = 400_000


class InteractionAttack(ABC):
    """An attack that scores interactions of the audited users.

    Attributes
    ----------
    name : str
        Its name in tables.
    needs : {"nothing", "references", "pool"}
    asks, looks : bool
        Whether it uses answers to queries, and the lists that users are shown.
    min_shadows : int
        Fewest shadow models that `fit` accepts.

    Examples
    --------
    >>> class Popular(InteractionAttack):
    ...     name, needs = "popular", "nothing"
    ...
    ...     def score(self, observation):
    ...         return observation.items.popularity[observation.queries.hidden.indices].astype(np.float64)
    >>> Popular().unit
    'interaction'
    """

    name: str
    needs: ClassVar[Needs] = "nothing"
    asks: ClassVar[bool] = True
    looks: ClassVar[bool] = False
    min_shadows: ClassVar[int] = 0
    unit: ClassVar[Literal["interaction"]] = "interaction"

    def fit(self, pool: InteractionPool, *, rng: np.random.Generator) -> Self:
        """Fit to what shadow models answer, and return `self`; called only if it needs a pool."""
        return self

    @abstractmethod
    def score(self, observation: Observation) -> Float64:
        """Return a score for each hidden interaction, float64, shape (m,); higher means more likely trained on."""


class ItemCompletion(InteractionAttack):
    """How high each hidden item stands in the answer: y of the module.

    Examples
    --------
    >>> from scipy import sparse
    >>> from recmia.observation import Items
    >>> halves = sparse.csr_array(np.array([[1, 1, 0, 0], [0, 0, 1, 1]], np.float32))
    >>> queries = Queries(np.array([0, 0], np.int32), halves, halves[[1, 0]])
    >>> items = Items(np.eye(4), np.ones(4, bool), np.ones(4, int))
    >>> history, lists = sparse.csr_array(np.ones((1, 4), np.float32)), np.full((1, 0), -1, np.int32)
    >>> seen = Observation(history, lists, items, queries=queries, answers=np.array([[2, 3], [1, 2]], np.int32))
    >>> ItemCompletion().score(seen).round(2).tolist()
    [-1.79, -1.95, -2.08, -1.79]
    """

    name = "item-completion"

    def score(self, observation: Observation) -> Float64:
        """See `InteractionAttack.score`."""
        queries, answers = asked(observation)
        return _y(answers, queries)


class ItemReference(InteractionAttack):
    r"""How much higher each hidden item stands than models expect that were not trained on the user.

    The expectation of y is a regression by boosted trees over all hidden interactions, on y of each reference model,
    and the logarithms of the item's popularity and of the lengths of history and block. It takes no labels, and the
    sign is fixed: what stands higher than expected is taken for trained on.

    References must not be trained on the audited users. Without any, popularity and lengths are left.
    """

    name = "item-reference"
    needs = "references"

    def score(self, observation: Observation) -> Float64:
        """See `InteractionAttack.score`; interactions are compared with each other."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        queries, answers = asked(observation)
        y = _y(answers, queries)
        references = [] if observation.references is None else list(observation.references)
        X = np.column_stack([*(_y(one, queries) for one in references), *_known(observation)])
        rows = np.linspace(0, len(y) - 1, min(len(y), _MOST_ROWS)).astype(int)
        # Few leaves, each of many interactions: a leaf of a few would follow their labels.
        model = HistGradientBoostingRegressor(max_iter=100, max_leaf_nodes=15, min_samples_leaf=200, random_state=0)
        found: Float64 = y - model.fit(X[rows], y[rows]).predict(X)
        return found


class ItemLR(InteractionAttack):
    r"""The log odds that an interaction was trained on, learned from shadow models.

    Shadow models come in pairs, trained on complementary halves of the interactions. For each pair, what is known of an
    interaction is its y in each of the two models, and from all other pairs the means of y with the interaction in
    training and without it; beside these its popularity and lengths. Boosted trees learn from that whether it was in
    training. For the audited system, the means are over all shadow models.

    A pair is held out together, so that no mean betrays a label by counting.

    Raises
    ------
    TooFewShadowsError
        From `fit`, for fewer than four shadow models.
    ProtocolError
        From `fit`, if two of a pair are not trained on complementary halves.
    """

    name = "item-lr"
    needs = "pool"
    min_shadows = 4

    def __init__(self) -> None:
        self._model: HistGradientBoostingClassifier | None = None
        self._means: tuple[Float64, Float64] | None = None
        self._asked: tuple[str, int] | None = None

    def fit(self, pool: InteractionPool, *, rng: np.random.Generator) -> Self:
        """Learn from held-out pairs, and compute the means of each interaction."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        if len(pool) < self.min_shadows:
            raise TooFewShadowsError(
                f"the attack {self.name} needs at least {self.min_shadows} shadow models; got {len(pool)}",
                estimate=self.min_shadows,
            )
        trained = pool.trained
        if len(pool) % 2 or (trained[::2] == trained[1::2]).any():
            raise ProtocolError("shadows 2i and 2i + 1 must be trained on complementary halves of the interactions")
        y = np.stack([_y(answers, pool.queries) for answers in pool.answers])
        known = _known(pool)
        parts, labels = [], []
        for number in range(len(pool)):
            others = np.arange(len(pool)) // 2 != number // 2
            parts.append(np.column_stack([y[number], *_in_and_out(y[others], trained[others]), *known]))
            labels.append(trained[number])
        X, label = np.concatenate(parts), np.concatenate(labels)
        if len(X) > _MOST_ROWS:
            rows = rng.choice(len(X), _MOST_ROWS, replace=False)
            X, label = X[rows], label[rows]
        seed = int(rng.integers(2**31))
        self._model = HistGradientBoostingClassifier(max_iter=200, min_samples_leaf=50, random_state=seed).fit(X, label)
        self._means = _in_and_out(y, trained)
        self._asked = pool.queries.fingerprint, pool.answers[0].shape[1]
        return self

    def score(self, observation: Observation) -> Float64:
        """See `InteractionAttack.score`."""
        if self._model is None or self._means is None:
            raise NotFittedError(f"the attack {self.name} was asked for scores before fit")
        queries, answers = asked(observation)
        if (queries.fingerprint, answers.shape[1]) != self._asked:
            raise ProtocolError(
                f"the attack {self.name} scores answers to the queries of its pool, and of the same length"
            )
        y = _y(answers, queries)
        found: Float64 = self._model.decision_function(np.column_stack([y, *self._means, *_known(observation)]))
        return found


class ItemPopularity(InteractionAttack):
    """A rule without a model: a popular item."""

    name = "item-popularity"
    asks = False

    def score(self, observation: Observation) -> Float64:
        """See `InteractionAttack.score`."""
        return observation.items.popularity[_hidden(observation).hidden.indices].astype(np.float64)


class ItemHistoryLength(InteractionAttack):
    """A rule without a model: an item of a long history."""

    name = "item-history-length"
    asks = False

    def score(self, observation: Observation) -> Float64:
        """See `InteractionAttack.score`."""
        queries = _hidden(observation)
        return np.diff(observation.histories.indptr).astype(np.float64)[queries.hidden_user]


class Absent(InteractionAttack):
    """A rule without a model: the item is not in the user's own list, as if it were left out for being seen."""

    name = "absent"
    asks, looks = False, True

    def score(self, observation: Observation) -> Float64:
        """See `InteractionAttack.score`."""
        queries = _hidden(observation)
        listed = in_history(observation.lists, observation.histories)
        rows, places = np.nonzero(listed)
        n_items = observation.histories.shape[1]
        shown = np.sort(rows.astype(np.int64) * n_items + observation.lists[rows, places])
        return 1.0 - np.isin(queries.hidden_keys, shown).astype(np.float64)


def checked_interactions(attack: InteractionAttack, observation: Observation) -> Float64:
    """Return ``attack.score(observation)``; ProtocolError if it is not one finite score for each hidden interaction.

    An attack that is not said to ask sees no answers, and one that is not said to look no lists.
    """
    queries = _hidden(observation)
    empty: Int32 = np.full((len(observation), 0), -1, np.int32)
    seen = replace(
        observation,
        lists=observation.lists if attack.looks else empty,
        answers=observation.answers if attack.asks else None,
        references=observation.references if attack.asks else None,
    )
    scores = attack.score(seen)
    if scores.shape != (queries.hidden.nnz,):
        raise ProtocolError(f"{attack.name} must score {queries.hidden.nnz} interactions; got shape {scores.shape}")
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise ProtocolError(f"{attack.name} gave {len(bad)} scores that are not finite, the first to number {bad[0]}")
    return scores


def asked(observation: Observation) -> tuple[Queries, Int32]:
    """Return queries and answers; ProtocolError if there are none."""
    if observation.queries is None or observation.answers is None:
        raise ProtocolError("this attack asks, and the observation holds no queries with answers")
    return observation.queries, observation.answers


def _hidden(observation: Observation) -> Queries:
    if observation.queries is None:
        raise ProtocolError("interactions are scored in the order in which they are hidden, and nothing is hidden")
    return observation.queries


def _y(answers: Int32, queries: Queries) -> Float64:
    """Return y of each hidden interaction."""
    # Compiled code is loaded by what calls it.
    from recmia.attacks.queries import hidden_ranks

    y: Float64 = -np.log(hidden_ranks(answers, queries) + _OFFSET)
    return y


def _known(seen: Observation | InteractionPool) -> list[Float64]:
    """Return what is known of each hidden interaction without asking: popularity, and lengths of history and block."""
    queries = seen.queries
    assert queries is not None, "something is hidden"
    block, rest = (np.diff(part.indptr) for part in (queries.hidden, queries.asked))
    each = np.repeat(np.arange(len(queries)), block)
    popularity = np.log1p(seen.items.popularity)[queries.hidden.indices]
    return [popularity, np.log((block + rest)[each]), np.log(block[each])]


def _in_and_out(y: Float64, trained: npt.NDArray[np.bool_]) -> tuple[Float64, Float64]:
    """Return the means over models, with the interaction in training and without: float64, shape (m,) each."""
    return (y * trained).sum(axis=0) / trained.sum(axis=0), (y * ~trained).sum(axis=0) / (~trained).sum(axis=0)

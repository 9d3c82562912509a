"""What an attacker observes: histories, lists, and its knowledge of the items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmia.data.interactions import Int32, Interactions
from recmia.game import streams
from recmia.observation import Items, Observation, Queries
from recmia.settings import Knowledge, RecommenderSettings


@dataclass(frozen=True, eq=False)
class ItemSource:
    """Where an attacker's knowledge of the items comes from.

    Parameters
    ----------
    data : Interactions, optional
        The data that it factorises to get item vectors; None for a white-box attacker, who knows the target's.
    popularity : Interactions
        The interactions of its own users, members or not; a count over members alone would reveal the membership.

    Examples
    --------
    >>> from recmia.settings import RecommenderSettings
    >>> data = Interactions.from_arrays([1, 1, 2], [1, 2, 1])
    >>> items = ItemSource(data, data).items(0, "grey-box", RecommenderSettings(factors=4), threads=1)
    >>> items.vectors.shape, items.popularity.tolist()
    ((2, 4), [2, 1])
    """

    data: Interactions | None
    popularity: Interactions

    def items(self, seed: int, level: Knowledge, settings: RecommenderSettings, threads: int) -> Items:
        """Return the attacker's knowledge of the items, from a factorisation of its data."""
        # Compiled code is loaded by what calls it.
        from recmia.engine.sgd import factorize

        assert self.data is not None, "a white-box attacker takes the target's item vectors"
        rng = streams.item_vectors(seed, level)
        factors = factorize(self.data, settings.lfm, factors=settings.factors, rng=rng, threads=threads)
        return Items(factors.item.astype(np.float64), factors.trained_items, self.popularity.item_counts())

    def without_vectors(self) -> Items:
        """Return its knowledge of the items for attacks that use no vectors."""
        popularity = self.popularity.item_counts()
        return Items(np.empty((len(popularity), 0)), popularity > 0, popularity)

    def items_of(self, item_vectors: npt.NDArray[np.float32], trained_on: Interactions) -> Items:
        """Return its knowledge of the items with the vectors of a system that was trained on these interactions."""
        has_vector = trained_on.item_counts() > 0
        return Items(item_vectors.astype(np.float64), has_vector, self.popularity.item_counts())


def observe(
    interactions: Interactions,
    lists: Int32,
    items: Items,
    *,
    queries: Queries | None = None,
    answers: Int32 | None = None,
    references: Int32 | None = None,
    as_stranger: Int32 | None = None,
) -> Observation:
    """Return the observation of users with these interactions and these lists.

    Parameters
    ----------
    interactions : Interactions
        What the attacker knows of the users.
    lists : int32, shape (n, k)
    items : Items
    queries : Queries, optional
    answers : int32, shape (q, k), optional
        Of the system.
    references : int32, shape (R, q, k), optional
        Answers of reference models.
    as_stranger : int32, shape (n, k), optional
        What the system answers to whole histories.

    Examples
    --------
    >>> data = Interactions.from_arrays([1, 1, 2], [1, 2, 1])
    >>> items = ItemSource(data, data).items_of(np.eye(2, dtype=np.float32), data)
    >>> len(observe(data, np.array([[0], [1]], np.int32), items))
    2
    """
    return Observation(
        interactions.csr(), lists, items, interactions.last_time(), queries, answers, references, as_stranger
    )

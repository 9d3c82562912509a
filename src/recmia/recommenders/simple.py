r"""Controls that learn no taste (most popular items, random items), and recommenders by the content of items.

`Content` describes item i by the TF-IDF row t_i of its terms (smoothed and of length one, as in scikit-learn's
``TfidfVectorizer``) and a user by the mean of the rows of the history. The score is the cosine of both:

.. math:: s_{ui} = \cos\Big(\frac{1}{|H_u|} \sum_{j \in H_u} t_j,\; t_i\Big).

`Hybrid` is a weighted hybrid (Burke 2002, section 2.1). Each user's content scores and LFM scores are standardised to
mean 0 and standard deviation 1 over the trained items, z, and

.. math:: s_{ui} = w\, z^{content}_{ui} + (1 - w)\, z^{LFM}_{ui}.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy import sparse

from recmia.blas import one_blas_thread
from recmia.data.interactions import Float32, Int32, Interactions
from recmia.engine.matrices import binary, row_items
from recmia.errors import DataError
from recmia.recommenders.base import Recommender
from recmia.recommenders.lfm import LFM
from recmia.settings.recommenders import HybridSettings


class Popularity(Recommender):
    """The items with the most training interactions, for every user.

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> data = Interactions.from_arrays(user=[1, 1, 2, 2, 3], item=[10, 20, 10, 30, 30])
    >>> model = Popularity().fit(data, rng=np.random.default_rng(0))
    >>> model.recommend(data.csr(), 2, exclude_seen=False).tolist()
    [[0, 2], [0, 2], [0, 2]]
    """

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Count the interactions of each item; see `Recommender.fit`."""
        self._counts = interactions.item_counts().astype(np.float32)
        self.trained_items = self._counts > 0
        return self

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Return the counts for every user; see `Recommender.scores`."""
        self.fitted_items()
        return np.tile(self._counts, (histories.shape[0], 1))


class Random(Recommender):
    """The trained items in a random order, which depends on the history and does not change when asked again.

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> data = Interactions.from_arrays(user=[1, 1, 2, 2, 3], item=[10, 20, 10, 30, 30])
    >>> model = Random().fit(data, rng=np.random.default_rng(0))
    >>> bool((model.recommend(data.csr(), 2) == model.recommend(data.csr(), 2)).all())
    True
    """

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Draw the key that determines the order, together with a history; see `Recommender.fit`."""
        self.trained_items = interactions.item_counts() > 0
        self._key = int(rng.integers(2**63))
        return self

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Return random scores, uniform on [0, 1); see `Recommender.scores`."""
        self.fitted_items()
        scores = np.empty(histories.shape, np.float32)
        for row, items in zip(scores, row_items(histories), strict=True):
            np.random.default_rng([self._key, *np.sort(items)]).random(out=row, dtype=np.float32)
        return scores


class Content(Recommender):
    """Items similar to those of the history, by the terms of their texts; see the module for the equation.

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> texts = {10: "war|drama", 20: "war", 30: "comedy"}
    >>> data = Interactions.from_arrays(user=[1, 2, 2], item=[10, 20, 30], texts=texts)
    >>> Content().fit(data, rng=np.random.default_rng(0)).recommend(data.csr(), 1).tolist()
    [[1], [0]]
    """

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Compute the weights of the terms over the trained items; see `Recommender.fit`.

        Raises
        ------
        DataError
            If the data hold no text of the trained items.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer

        trained_items = interactions.item_counts() > 0
        rows, texts = np.flatnonzero(trained_items), interactions.items.text
        given = () if texts is None else [texts[item] for item in rows]
        if not any(_terms(text) for text in given):
            raise DataError(
                "the content recommender needs texts of the items (genres or tags, separated by '|'), and the data "
                "have none: add a column of them (setting columns.text), or keep movies.csv beside ratings.csv"
            )
        described = TfidfVectorizer(analyzer=_terms, dtype=np.float32).fit_transform(given)
        # Row i stands for item i; an item without training data has an empty one.
        ones = np.ones(len(rows), np.float32)
        place = sparse.csr_array((ones, (rows, np.arange(len(rows)))), shape=(len(trained_items), len(rows)))
        self._terms_of_items = sparse.csr_array(place @ described)
        self.trained_items = trained_items
        return self

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Return the cosines, 0 where the history or the item has no term; see `Recommender.scores`."""
        self.fitted_items()
        profiles = (binary(histories) @ self._terms_of_items).toarray()
        lengths = np.linalg.norm(profiles, axis=1, keepdims=True)
        profiles /= np.where(lengths > 0, lengths, 1)
        return np.ascontiguousarray((self._terms_of_items @ profiles.T).T)


class Hybrid(Recommender):
    """A weighted mean of content and LFM scores; see the module for the equation.

    Parameters
    ----------
    lfm : LFM
        Not yet fitted.
    settings : HybridSettings, optional

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> texts = {10: "war|drama", 20: "war", 30: "comedy"}
    >>> data = Interactions.from_arrays(user=[1, 2, 2], item=[10, 20, 30], texts=texts)
    >>> model = Hybrid(LFM(factors=4), HybridSettings(weight=1)).fit(data, rng=np.random.default_rng(0))
    >>> model.recommend(data.csr(), 1).tolist()
    [[1], [0]]
    """

    def __init__(self, lfm: LFM, settings: HybridSettings | None = None) -> None:
        self.settings = HybridSettings() if settings is None else settings
        self._lfm, self._content = lfm, Content()

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Train both; see `Recommender.fit` and, for data without texts, `Content.fit`."""
        self._content.fit(interactions, rng=rng)
        self.trained_items = self._lfm.fit(interactions, rng=rng).trained_items
        return self

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Return the mean of the content scores and those of the LFM's fold-in; see `Recommender.scores`."""
        self.fitted_items()
        return self._mix(self._lfm.fold_in(histories), histories)

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Return lists by the LFM's trained user vectors; see `Recommender.recommend_members`."""
        return self._rank(
            lambda rows: self._mix(self._lfm.user_vectors[rows], histories[rows]), histories, k, exclude_seen
        )

    def _mix(self, user_vectors: Float32, histories: sparse.csr_array) -> Float32:
        weight = self.settings.weight
        with one_blas_thread():
            scores = user_vectors @ self._lfm.item_vectors.T + self._lfm.item_bias
        return weight * self._standardised(self._content.scores(histories)) + (1 - weight) * self._standardised(scores)

    def _standardised(self, scores: Float32) -> Float32:
        trained_items = self.fitted_items()
        spread = scores[:, trained_items].std(axis=1, keepdims=True)
        return (scores - scores[:, trained_items].mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)


def _terms(text: str) -> list[str]:
    return [term for term in (part.strip() for part in text.split("|")) if term]

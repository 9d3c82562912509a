r"""Controls without taste (the most popular items, random items) and recommenders by what items are like.

`Content` describes item i by the TF-IDF row t_i of its terms (smoothed and of length one, as scikit-learn's
``TfidfVectorizer`` has it), a user by the mean of the rows of the history, and scores by the cosine of both:

.. math:: s_{ui} = \cos\Big(\frac{1}{|H_u|} \sum_{j \in H_u} t_j,\; t_i\Big).

`Hybrid` is a weighted hybrid (Burke 2002, section 2.1): each user's content scores and LFM scores are brought to mean 0
and standard deviation 1 over the known items, z, and

.. math:: s_{ui} = w\, z^{content}_{ui} + (1 - w)\, z^{LFM}_{ui}.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import sparse
from threadpoolctl import threadpool_limits

from recmia.errors import DataError
from recmia.interactions import Float32, Int32, Interactions
from recmia.recommenders.base import Recommender
from recmia.recommenders.lfm import LFM


class Popularity(Recommender):
    """The items with the most training interactions, for everybody."""

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Count; see `Recommender.fit`."""
        self._counts = interactions.item_counts().astype(np.float32)
        self.known = self._counts > 0
        return self

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Give everybody the counts; see `Recommender.scores`."""
        self.fitted_items()
        return np.tile(self._counts, (histories.shape[0], 1))


class Random(Recommender):
    """The known items in random order: one for each history, the same whenever it is asked for."""

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Draw the key that, with a history, decides the order; see `Recommender.fit`."""
        self.known = interactions.item_counts() > 0
        self._key = int(rng.integers(2**63))
        return self

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Draw a score an item, uniform on [0, 1); see `Recommender.scores`."""
        self.fitted_items()
        scores = np.empty(histories.shape, np.float32)
        for row in range(len(scores)):
            items = histories.indices[histories.indptr[row] : histories.indptr[row + 1]]
            np.random.default_rng([self._key, *np.sort(items)]).random(out=scores[row], dtype=np.float32)
        return scores


class Content(Recommender):
    """Items like those of the history, by the terms of their texts; see the module for the equation."""

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Weigh the terms by the known items; see `Recommender.fit`.

        Raises
        ------
        DataError
            If the data hold no text of the known items.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer

        known = interactions.item_counts() > 0
        texts = interactions.items.text
        told = () if texts is None else [texts[item] for item in np.flatnonzero(known)]
        if not any(_terms(text) for text in told):
            raise DataError(
                "the content recommender needs texts of the items (genres or tags, parted by '|'), and the data have "
                "none: add a column of them (setting columns.text), or keep movies.csv beside ratings.csv"
            )
        rows = TfidfVectorizer(analyzer=_terms, dtype=np.float32).fit_transform(told)
        # Row i stands for item i; an unknown item has an empty one.
        place = sparse.csr_array((np.ones(len(told), np.float32), (np.flatnonzero(known), np.arange(len(told)))),
                                 shape=(len(known), len(told)))  # fmt: skip
        self._terms_of_items = sparse.csr_array(place @ rows)
        self.known = known
        return self

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Score by the cosine; 0 where the history or the item has no known term. See `Recommender.scores`."""
        self.fitted_items()
        profiles = (binary(histories) @ self._terms_of_items).toarray()
        lengths = np.linalg.norm(profiles, axis=1, keepdims=True)
        profiles /= np.where(lengths > 0, lengths, 1)
        return np.ascontiguousarray((self._terms_of_items @ profiles.T).T)


class HybridSettings(BaseModel):
    """How to mix content and LFM."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(0.1, ge=0, le=1, description="Weight of the content scores; the LFM's get the rest.")


class Hybrid(Recommender):
    """Content and LFM, mixed by weight; see the module for the equation.

    Parameters
    ----------
    lfm : LFM
        Not yet fitted.
    settings : HybridSettings
    """

    def __init__(self, lfm: LFM, settings: HybridSettings | None = None) -> None:
        self.settings = HybridSettings() if settings is None else settings
        self._lfm, self._content = lfm, Content()

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Train both; see `Recommender.fit` and, for data without texts, `Content.fit`."""
        self._content.fit(interactions, rng=rng)
        self.known = self._lfm.fit(interactions, rng=rng).known
        return self

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Mix the content scores with those of the LFM's fold-in; see `Recommender.scores`."""
        self.fitted_items()
        return self._mix(self._lfm.fold_in(histories), histories)

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Rank with the LFM's trained user vectors in place of its fold-in; see `Recommender.recommend_members`."""
        return self._rank(
            lambda rows: self._mix(self._lfm.user_vectors[rows], histories[rows]), histories, k, exclude_seen
        )

    def _mix(self, user_vectors: Float32, histories: sparse.csr_array) -> Float32:
        factors, weight = self._lfm.factors, self.settings.weight
        with threadpool_limits(1, user_api="blas"):
            scores = user_vectors @ factors.item.T + factors.item_bias
        return weight * self._standardised(self._content.scores(histories)) + (1 - weight) * self._standardised(scores)

    def _standardised(self, scores: Float32) -> Float32:
        known = self.fitted_items()
        spread = scores[:, known].std(axis=1, keepdims=True)
        return (scores - scores[:, known].mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)


def binary(matrix: sparse.csr_array) -> sparse.csr_array:
    """The same pairs with 1 for every value, float32."""
    return sparse.csr_array((np.ones(len(matrix.indices), np.float32), matrix.indices, matrix.indptr), matrix.shape)


def _terms(text: str) -> list[str]:
    return [term for term in (part.strip() for part in text.split("|")) if term]

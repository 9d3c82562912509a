"""The base class of the adapters, each of which makes a `Recommender` of another library's model.

An adapter takes a model that is not fitted yet, fits a copy of it on the trained items and the users of the fit, and
asks the library for scores. The ranking is recmia's own, so the lists keep the contract whatever the library does. The
copy's seed is drawn from `rng`, and it trains in one thread, because the threads of the libraries race for shared
vectors. The global random states are seeded from it, too, both for the fit and for each question, so that a library
that draws from them answers the same question in the same way.

What a library offers for a user that was not in the fit is used for fold-in. Most models offer nothing: `folds_in` is
then False, and such a model can be audited in the regimes `popular` and `popular-random` only.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from typing import Any, ClassVar, Self

import numpy as np
from scipy import sparse

from recmia.blas import one_blas_thread
from recmia.data.interactions import Float32, Int32, Int64, Interactions
from recmia.engine.matrices import keep_columns
from recmia.errors import DivergedError, NotFittedError, ProtocolError
from recmia.recommenders.base import Recommender
from recmia.recommenders.tensors import one_thread
from recmia.seeding import seeded_globally


class Adapter(Recommender):
    """A copy of a library's model, trained on items numbered 0 .. n_trained-1 and on users as in the fit.

    A subclass names its `library` and implements `_train` and `_scores`.

    Parameters
    ----------
    model : object
        A model of the library, not fitted; it is not changed.

    Attributes
    ----------
    library : str
        The top-level package whose models it takes.
    """

    library: ClassVar[str]

    def __init__(self, model: Any) -> None:
        self.model = model
        self._fitted: Any = None
        self._seed = 0

    @classmethod
    def takes(cls, model: object) -> bool:
        """Tell whether an object is a model of the library, or of a subclass of one."""
        return any(cls._defines(kind) for kind in type(model).__mro__)

    @classmethod
    def _defines(cls, kind: type) -> bool:
        return kind.__module__.partition(".")[0] == cls.library

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Train a copy of the model; see `Recommender.fit`."""
        trained_items = interactions.item_counts() > 0
        self._seed = int(rng.integers(2**31))
        with self._steady("fit"):
            events = interactions.sequences() if self.uses_order else interactions.csr()
            histories = keep_columns(events, trained_items)
            self._fitted = self._train(deepcopy(self.model), interactions, histories, self._seed)
        self.trained_items = trained_items
        return self

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Return the library's scores of all items for users that were not in the fit.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ProtocolError
            If the library has none.
        """
        self._check_strangers()
        with self._steady("serve"):
            return self._all_items(histories, None)

    def called(self, method: str = "") -> str:
        """Return the name of the model's class; no method of it is called by the name of ours."""
        return type(self.model).__name__

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Return lists by the library's scores for users that were not in the fit; see `Recommender.recommend`."""
        self._check_strangers()
        # Seeded once, and not for each block of users, who would otherwise share their random numbers.
        with self._steady("serve"):
            return self._rank(lambda rows: self._all_items(histories[rows], None), histories, k, exclude_seen)

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Return lists by the library's scores for users of the fit; see `Recommender.recommend_members`."""

        def score(rows: slice) -> Float32:
            return self._all_items(histories[rows], np.arange(rows.start, rows.stop))

        with self._steady("serve"):
            return self._rank(score, histories, k, exclude_seen)

    @contextmanager
    def _steady(self, name: str) -> Iterator[None]:
        """Call the library with seeded global states, and with one thread, which rounds always in the same way."""
        with ExitStack() as stack:
            stack.enter_context(seeded_globally(self._seed, name))
            stack.enter_context(one_blas_thread())
            if "torch" in sys.modules:
                stack.enter_context(one_thread())
            yield

    def _check_strangers(self) -> None:
        if self._fitted is None:
            raise NotFittedError(f"{self.called()} was asked for scores before fit")
        if not self.folds_in:
            raise ProtocolError(
                f"{self.called()} offers nothing for a user that it was not trained on; ask for the lists of members"
            )

    def _all_items(self, histories: sparse.csr_array, users: Int64 | None) -> Float32:
        trained_items = self.fitted_items()
        scores = np.zeros(histories.shape, np.float32)
        scores[:, trained_items] = self._scores(self._fitted, keep_columns(histories, trained_items), users)
        if np.isnan(scores).any():
            raise DivergedError(f"{self.called()} gives scores that are NaN")
        return scores

    @abstractmethod
    def _train(self, model: Any, interactions: Interactions, histories: sparse.csr_matrix, seed: int) -> Any:
        """Train the model and return what `_scores` needs; the columns of `histories` are the trained items.

        The model is a copy. With `uses_order`, the histories are in the order of events.
        """

    @abstractmethod
    def _scores(self, fitted: Any, histories: sparse.csr_matrix, users: Int64 | None) -> Any:
        """Return scores of the trained items, float, shape (n, n_trained).

        They are for these users of the fit or, without `users`, for users that were not in it.
        """

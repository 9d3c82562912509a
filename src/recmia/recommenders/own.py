"""Your own recommender: an object in memory, or a factory by its name (``package.module:factory``).

What can be audited:

- a `Recommender`;
- a model of implicit, cornac, LensKit or Surprise, through the adapters of `recmia.recommenders.external`;
- anything with ``fit(user_items)`` and ``recommend(userid, user_items, N, filter_already_liked_items)`` in the style of
  implicit, through `FromObject`;
- a class or a function without arguments that returns one of these.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import pickle
import sys
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import cloudpickle
import numpy as np
from scipy import sparse

from recmia.errors import ConfigError, NotFittedError, ProtocolError, RecmiaError
from recmia.interactions import Float32, Int32, Interactions
from recmia.recommenders.base import Recommender
from recmia.recommenders.external import FromCornac, FromImplicit, FromLensKit, FromSurprise

_ADAPTERS: Mapping[str, type] = MappingProxyType(
    {"cornac": FromCornac, "lenskit": FromLensKit, "surprise": FromSurprise}
)


class FromObject(Recommender):
    """An object with ``fit`` and ``recommend`` in the style of the library implicit.

    A copy is fitted: ``fit(user_items)`` gets a csr_matrix of the users of the fit and the items with an interaction,
    numbered from 0; the values are the ratings, or 1. ``recommend(userids, user_items, N=k,
    filter_already_liked_items=...)`` is asked for many users at once and gives their items, int, shape (n, N), or these
    and their scores. An item that is negative, or whose score is not finite or the lowest float32, is no item, which is
    how implicit fills lists. A ``random_state`` that the object has is set from `rng`.

    Users that it never saw are served if ``recommend`` takes ``recalculate_user``, which is then True, or if the object
    says ``folds_in = True``, as one does whose ``recommend`` looks at the history alone and not at the user id.

    Parameters
    ----------
    model : object
        Not fitted; it stays as it is.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._recalculates = "recalculate_user" in inspect.signature(model.recommend).parameters
        self.folds_in = bool(getattr(model, "folds_in", self._recalculates))
        self._fitted: Any = None

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Fit a copy of the object; see `Recommender.fit`."""
        known = interactions.item_counts() > 0
        model = deepcopy(self.model)
        seed = int(rng.integers(2**31))
        if hasattr(model, "random_state"):
            model.random_state = seed
        quiet = {"show_progress": False} if "show_progress" in inspect.signature(model.fit).parameters else {}
        model.fit(sparse.csr_matrix(interactions.csr()[:, np.flatnonzero(known)]), **quiet)
        self._fitted, self.known = model, known
        return self

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Raise ProtocolError: such an object gives lists."""
        raise ProtocolError(f"{type(self.model).__name__} gives lists and no scores; ask for recommend")

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Give the object's lists for histories that it never saw; ProtocolError if it cannot."""
        if self._fitted is None:
            raise NotFittedError(f"{type(self).__name__} was asked for lists before fit")
        if not self.folds_in:
            raise ProtocolError(f"{type(self.model).__name__} offers nothing for a user that it was not trained on")
        return self._ask(histories, k, exclude_seen, {"recalculate_user": True} if self._recalculates else {})

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Give the object's lists for the users of the fit; see `Recommender.recommend_members`."""
        return self._ask(histories, k, exclude_seen, {})

    def _ask(self, histories: sparse.csr_array, k: int, exclude_seen: bool, more: dict[str, bool]) -> Int32:
        items = np.flatnonzero(self.fitted_items(k)).astype(np.int32)
        rows = sparse.csr_matrix(histories[:, items])
        answer = self._fitted.recommend(
            np.arange(rows.shape[0]), rows, N=k, filter_already_liked_items=exclude_seen, **more
        )
        found, scores = answer if isinstance(answer, tuple) else (answer, 0)
        found = np.asarray(found)
        words = f"recommend must give whole numbers below {len(items)} with shape ({rows.shape[0]}, {k})"
        if found.dtype.kind not in "iu" or found.ndim != 2:
            raise ProtocolError(f"{words}; got {found.dtype} with shape {found.shape}")
        if found.max(initial=-1) >= len(items):
            raise ProtocolError(f"{words}, the items that have an interaction; got {found.max()}")
        no_item = (found < 0) | ~np.isfinite(scores) | (scores <= np.finfo(np.float32).min)
        lists = np.full((len(found), max(k, found.shape[1])), -1, np.int32)
        lists[:, : found.shape[1]] = np.where(no_item, np.int32(-1), items[np.where(no_item, 0, found)])
        return lists


def as_recommender(given: Any) -> Recommender:
    """Make a recommender of anything that can be audited; see the module.

    Raises
    ------
    ConfigError
        If it is nothing of the kind, or fitted already and would go on from there.
    """
    if isinstance(given, type) or inspect.isroutine(given) or isinstance(given, partial):
        given = given()
    if isinstance(given, Recommender):
        return given
    for base in type(given).__mro__:
        adapter = _ADAPTERS.get(base.__module__.partition(".")[0])
        if adapter is not None:
            made = adapter(given)
            assert isinstance(made, Recommender)
            return made
    # A subclass of the user's may have a recommend of its own.
    if type(given).__module__.partition(".")[0] == "implicit":
        return FromImplicit(given)
    if all(callable(getattr(given, name, None)) for name in ("fit", "recommend")):
        return FromObject(given)
    raise ConfigError(
        "a recommender must be a recmia.recommenders.Recommender, a model of implicit, cornac, LensKit or Surprise, or "
        f"have fit(user_items) and recommend(userid, user_items, N, ...) like implicit; got a {type(given).__name__}"
    )


@dataclass(frozen=True)
class Own:
    """Your own recommender as a value: packed, so that each training gets a copy, in whatever process.

    Parameters
    ----------
    name : str
        For tables and messages.
    packed : bytes
        The object or the factory, pickled.
    digest : str
        Of the object, and of the file that its class or the factory is written in: what its modules import is not
        looked at. Where there is no such file (a notebook, a function in a function) no other process gets the same.
    path : str
        Where its modules are looked for, too.
    """

    name: str
    packed: bytes
    digest: str
    path: str = ""

    @classmethod
    def of(cls, given: Any) -> Self:
        """Pack an object or a factory.

        Raises
        ------
        ConfigError
            If it cannot be pickled, or is no recommender.
        """
        return cls._checked(given, f"{_kind(given).__qualname__} (in memory)", "")

    @classmethod
    def named(cls, name: str) -> Self:
        """Import a factory, or an object, by ``package.module:name``; the current folder is looked in, too.

        Raises
        ------
        ConfigError
            If it does not import, or gives no recommender.
        """
        module, _, attribute = name.partition(":")
        path = os.getcwd()  # noqa: PTH109
        _look_in(path)
        try:
            given = importlib.import_module(module)
            for part in attribute.split("."):
                given = getattr(given, part)
        # A module can raise anything.
        except Exception as error:
            raise ConfigError(f"cannot import the recommender {name}: {_in_a_line(error)}") from error
        return cls._checked(given, name, path)

    @classmethod
    def _checked(cls, given: Any, name: str, path: str) -> Self:
        try:
            packed = cloudpickle.dumps(given)
        except Exception as error:
            raise ConfigError(
                f"{name} cannot be pickled, which it takes to give each training its own copy: {_in_a_line(error)}; "
                "give a function that makes it"
            ) from error
        try:
            seen = pickle.dumps(given) + Path(inspect.getfile(_kind(given))).read_bytes()
        # Any object can raise anything when it is pickled.
        except Exception:
            seen = packed
        own = cls(name, packed, hashlib.sha256(seen).hexdigest(), path)
        own.make()
        return own

    def make(self) -> Recommender:
        """Make a recommender that is not fitted.

        Raises
        ------
        ConfigError
            If the factory fails, or gives no recommender.
        """
        if self.path:
            _look_in(self.path)
        try:
            return as_recommender(pickle.loads(self.packed))
        except RecmiaError as error:
            raise ConfigError(f"{self.name}: {error}") from error
        except Exception as error:
            raise ConfigError(f"{self.name} cannot be made: {_in_a_line(error)}") from error


def load_own(names: Iterable[str]) -> dict[str, Own]:
    """Import those of these recommenders that are named as ``package.module:factory``."""
    return {name: Own.named(name) for name in dict.fromkeys(names) if ":" in name}


def _kind(given: Any) -> Any:
    """What is written in a file: a class or a function itself, of an object its class."""
    return given if isinstance(given, type) or inspect.isroutine(given) else type(given)


def _look_in(path: str) -> None:
    # As other programs do that import by name; a worker process starts without it.
    if path not in sys.path:
        sys.path.insert(0, path)


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"

"""Recommenders of the user's: an object in memory, or a factory by its name (``package.module:factory``).

What can be audited:

- a `Recommender`;
- a model of implicit, cornac, LensKit, RecTools or Surprise, through the adapters of `recmia.recommenders.adapters`;
- any object with ``fit(user_items)`` and ``recommend(userid, user_items, N, filter_already_liked_items)`` in the style
  of implicit, through `FromObject`;
- a class, or a function without arguments, that returns one of these.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import pickle
import sys
import warnings
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import cloudpickle
import numpy as np
from scipy import sparse

from recmia.data.interactions import Float32, Int32, Interactions
from recmia.engine.matrices import keep_columns
from recmia.errors import ConfigError, NotFittedError, ProtocolError, RecmiaError, near, nearest
from recmia.recommenders.adapters import ADAPTERS
from recmia.recommenders.base import Recommender
from recmia.recommenders.spec import RecommenderSpec
from recmia.seeding import seeded_globally
from recmia.settings.base import IN_MEMORY
from recmia.settings.recommenders import RecommenderSettings


class FromObject(Recommender):
    """An object with ``fit`` and ``recommend`` in the style of the library implicit.

    A copy is fitted: ``fit(user_items)`` gets a csr_matrix of the users of the fit and the items with an interaction,
    numbered from 0; the values are the ratings, or 1. ``recommend(userids, user_items, N=k,
    filter_already_liked_items=...)`` is called for many users at once and returns their items, int, shape (n, N), or
    these and their scores. An entry that is negative, or whose score is not finite or the lowest float32, stands for no
    item, which is how implicit pads lists. If the object has a ``random_state``, it is set from `rng`. The global
    random states are seeded from it, too, for the fit and anew for each call of ``recommend``.

    Users that were not in the fit are served if ``recommend`` takes ``recalculate_user``, which is then True, or if the
    object has ``folds_in = True``. Set that where ``recommend`` uses the history alone and not the user id.

    An object with ``uses_order = True`` gets all histories, in ``fit`` and in ``recommend``, in the order of events:
    the column indices of a row are the user's items, the oldest first, and a repeated item repeatedly. If it reads only
    the last of them, its attribute ``window`` may say how many.

    Parameters
    ----------
    model : object
        Not fitted; it is not changed.

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> class LowestRows:
    ...     folds_in = True
    ...
    ...     def fit(self, user_items):
    ...         self.n_items = user_items.shape[1]
    ...
    ...     def recommend(self, userid, user_items, N, filter_already_liked_items):
    ...         scores = -np.arange(self.n_items) - filter_already_liked_items * 1e9 * (user_items.toarray() > 0)
    ...         return np.argsort(-scores, axis=1)[:, :N]
    >>> data = Interactions.from_arrays(user=[1, 1, 2], item=[10, 20, 30])
    >>> FromObject(LowestRows()).fit(data, rng=np.random.default_rng(0)).recommend(data.csr(), 1).tolist()
    [[2], [0]]
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._recalculates = "recalculate_user" in inspect.signature(model.recommend).parameters
        self.folds_in = bool(getattr(model, "folds_in", self._recalculates))
        self.uses_order = bool(getattr(model, "uses_order", False))
        window = getattr(model, "window", None)
        # In a model of another kind it may mean anything.
        self.window = window if self.uses_order and isinstance(window, int) and window > 0 else None
        self._fitted: Any = None
        self._seed = 0

    def called(self, method: str = "") -> str:
        """Return the name of the object's class; its lists always come from its `recommend`."""
        return f"{type(self.model).__name__}.recommend" if method else type(self.model).__name__

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Fit a copy of the object; see `Recommender.fit`."""
        trained_items = interactions.item_counts() > 0
        model = deepcopy(self.model)
        self._seed = int(rng.integers(2**31))
        if hasattr(model, "random_state"):
            model.random_state = self._seed
        quiet = {"show_progress": False} if "show_progress" in inspect.signature(model.fit).parameters else {}
        histories = interactions.sequences() if self.uses_order else interactions.csr()
        with seeded_globally(self._seed, "fit"):
            model.fit(keep_columns(histories, trained_items), **quiet)
        self._fitted, self.trained_items = model, trained_items
        return self

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Raise ProtocolError: such an object gives lists, not scores."""
        raise ProtocolError(f"{self.called()} gives lists and no scores; ask for recommend")

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Return the object's lists for histories that were not in the fit; ProtocolError if it has none."""
        if self._fitted is None:
            raise NotFittedError(f"{self.called()} was asked for lists before fit")
        if not self.folds_in:
            raise ProtocolError(f"{self.called()} offers nothing for a user that it was not trained on")
        return self._ask(histories, k, exclude_seen, {"recalculate_user": True} if self._recalculates else {})

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Return the object's lists for the users of the fit; see `Recommender.recommend_members`."""
        return self._ask(histories, k, exclude_seen, {})

    def _ask(self, histories: sparse.csr_array, k: int, exclude_seen: bool, more: dict[str, bool]) -> Int32:
        trained_items = self.fitted_items(k)
        items, rows = np.flatnonzero(trained_items).astype(np.int32), keep_columns(histories, trained_items)
        with seeded_globally(self._seed, "serve"):
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
    """Return a recommender made of anything that can be audited; see the module.

    Raises
    ------
    ConfigError
        If it is nothing of the kind, or a model of another library that is fitted already.

    Examples
    --------
    >>> from recmia.recommenders import Popularity
    >>> type(as_recommender(Popularity)).__name__
    'Popularity'
    """
    if isinstance(given, type) or inspect.isroutine(given) or isinstance(given, partial):
        given = given()
    if isinstance(given, Recommender):
        return given
    for adapter in ADAPTERS:
        if adapter.takes(given):
            return adapter(given)
    if all(callable(getattr(given, name, None)) for name in ("fit", "recommend")):
        return FromObject(given)
    raise ConfigError(
        "a recommender must be a recmia.recommenders.Recommender, a model of implicit, cornac, LensKit, RecTools or "
        "Surprise, or have fit(user_items) and recommend(userid, user_items, N, ...) like implicit; got a "
        f"{type(given).__name__}"
    )


@dataclass(frozen=True)
class UserCode:
    """A recommender of the user's as a value: pickled, so that each training gets a copy, in any process.

    Parameters
    ----------
    name : str
        For tables and messages.
    packed : bytes
        The object or the factory, pickled.
    digest : str
        Digest of the object, and of the file in which its class or the factory is defined; what that file imports is
        not part of it. Where there is no such file (a notebook, a function in a function), another process computes
        another digest.
    path : str
        A folder in which its modules are looked for as well.
    folds_in, uses_order, window
        See `Recommender`.

    Examples
    --------
    >>> from recmia.recommenders import Popularity
    >>> code = UserCode.of(Popularity)
    >>> code.name, code.folds_in, code.spec().user_code
    ('Popularity (in memory)', True, True)
    """

    name: str
    packed: bytes
    digest: str
    path: str = ""
    folds_in: bool = True
    uses_order: bool = False
    window: int | None = None

    @classmethod
    def of(cls, given: Any) -> Self:
        """Return the value of an object or a factory.

        Raises
        ------
        ConfigError
            If it cannot be pickled, or is no recommender.
        """
        return cls._checked(given, f"{_defined(given).__qualname__} {IN_MEMORY}", "")

    @classmethod
    def named(cls, name: str) -> Self:
        """Return the value of ``package.module:factory``, which is also looked for in the current folder.

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
            words = f"{_in_a_line(error)}{_mended(error, module, attribute)}"
            raise ConfigError(f"cannot import the recommender {name}: {words}") from error
        return cls._checked(given, name, path)

    @classmethod
    def _checked(cls, given: Any, name: str, path: str) -> Self:
        try:
            with warnings.catch_warnings():
                # About the settings of RecTools' transformers.
                warnings.filterwarnings("ignore", "Pydantic serializer warnings")
                packed, digest = cloudpickle.dumps(given), code_digest(given)
        except Exception as error:
            raise ConfigError(
                f"{name} cannot be pickled, which is needed to give each training its own copy: {_in_a_line(error)}; "
                "give a function that makes it"
            ) from error
        code = cls(name, packed, digest, path)
        made = code.make()
        return replace(code, folds_in=made.folds_in, uses_order=made.uses_order, window=made.window)

    def spec(self) -> RecommenderSpec:
        """Return the spec of the recommender."""
        return RecommenderSpec(
            self.name, partial(_make, self), folds_in=self.folds_in, uses_order=self.uses_order,
            window=partial(_window, self), user_code=True, code=self.digest,
        )  # fmt: skip

    def make(self) -> Recommender:
        """Return a new recommender that is not fitted.

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


def code_digest(given: Any) -> str:
    """Return a digest of an object, and of the file in which its class, or the function that it is, is defined.

    What that file imports is not part of it. Where there is no such file, as in a notebook, the code itself is, and
    another process computes another digest.
    """
    try:
        seen = pickle.dumps(given) + Path(inspect.getfile(_defined(given))).read_bytes()
    # Any object can raise anything when it is pickled.
    except Exception:
        seen = cloudpickle.dumps(given)
    return hashlib.sha256(seen).hexdigest()


def _make(code: UserCode, settings: RecommenderSettings, threads: int) -> Recommender:
    return code.make()


def _window(code: UserCode, settings: RecommenderSettings) -> int | None:
    return code.window


def _defined(given: Any) -> Any:
    """What a file defines: a class or a function itself, of an object its class."""
    return given if isinstance(given, type) or inspect.isroutine(given) else type(given)


def _look_in(path: str) -> None:
    # The current folder is not on the path of an installed program, nor on that of a worker process.
    if path not in sys.path:
        sys.path.insert(0, path)


def _mended(error: Exception, module: str, attribute: str) -> str:
    """Words on what helps where a module was not found, or has nothing of that name."""
    if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
        package, _, name = error.name.rpartition(".")
        beside = Path(*package.split(".")).glob("*")
        stems = {path.stem for path in beside if path.suffix == ".py" or (path / "__init__.py").is_file()}
        hint = near(name, stems)
        return f"; modules are looked for in the current folder and on the Python path{f'; {hint}' if hint else ''}"
    if isinstance(error, AttributeError) and error.name in attribute.split("."):
        names = [name for name, value in vars(error.obj).items() if callable(value) and not name.startswith("_")]
        return f"; {nearest(error.name, names)}" if names else "; it defines no class and no function"
    return ""


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"

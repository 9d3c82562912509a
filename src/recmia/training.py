"""Recommenders to train and lists to serve, as tasks that can run anywhere and be kept.

A task states everything that its lists depend on: the data and their members, the recommender with its settings, the
regime, and the seed. Its key is a digest of just that, so equal tasks of two audits are one, what was once served need
not be served again, and lists of other data or settings can never be taken for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from recmia.errors import ProtocolError, RecmiaError
from recmia.game import Regime, Side, serve
from recmia.parallel import run_calls
from recmia.provenance import versions
from recmia.recommenders import Own, Recommender, RecommenderSettings, is_own, make_recommender, used_settings
from recmia.seeding import rng_for

# Raised whenever the same settings may give other lists or scores than before.
_REVISION = 2
# Above so many interactions, models are trained one after the other by all threads, to keep one copy of the data.
_LARGE = 5_000_000

# What has been computed before: arrays by key. Written to one entry at a time, as soon as it is there.
Arrays = dict[str, npt.NDArray[Any]]
Store = MutableMapping[str, Arrays]


class Wrapper(Protocol):
    """What puts a recommender into another; see `recmia.defences`."""

    def wrap(self, model: Recommender) -> Recommender:
        """Wrap an unfitted recommender."""

    def key(self) -> dict[str, Any]:
        """What the wrapped model depends on besides, as plain values."""


@dataclass(frozen=True, eq=False)
class Task:
    """One recommender to train on the members of a side, and a regime to serve the whole side under.

    Parameters
    ----------
    recommender : str
    settings : RecommenderSettings
    side : Side
    regime : Regime
    k : int
    exclude_seen : bool
    alpha : float
        For ``popular-random``.
    path : tuple of str or int
        Of the random streams, a seed first; see `recmia.seeding`.
    item_vectors : bool
        Whether the model's item vectors are wanted as well (white-box).
    wrappers : tuple of Wrapper
        The first is the innermost.
    own : Own, optional
        The user's own recommender behind the name.
    """

    recommender: str
    settings: RecommenderSettings
    side: Side
    regime: Regime
    k: int
    exclude_seen: bool
    alpha: float
    path: tuple[str | int, ...]
    item_vectors: bool = False
    wrappers: tuple[Wrapper, ...] = ()
    own: Own | None = None

    @cached_property
    def model_key(self) -> str:
        """Digest of all that the trained model depends on."""
        side = self.side
        return digest(
            {
                "recommender": self.recommender,
                "settings": used_settings(self.own or self.recommender, self.settings),
                "data": side.interactions.fingerprint(),
                "members": hashlib.sha256(np.packbits(side.member).tobytes()).hexdigest(),
                "path": list(self.path),
                "wrappers": [wrapper.key() for wrapper in self.wrappers],
            }
        )

    @cached_property
    def key(self) -> str:
        """Digest of all that the lists depend on."""
        return digest(
            {
                "model": self.model_key,
                "regime": self.regime,
                "k": self.k,
                "exclude_seen": self.exclude_seen,
                "alpha": self.alpha if self.regime == "popular-random" else None,
            }
        )

    @property
    def vectors_key(self) -> str:
        """Key of the model's item vectors."""
        return f"{self.model_key}-items"

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all that the task puts into the store."""
        return (self.key, self.vectors_key) if self.item_vectors else (self.key,)


def run_tasks(
    tasks: Sequence[Task],
    *,
    store: Store,
    jobs: int = 1,
    done: Callable[[int], None] = lambda count: None,
) -> dict[str, RecmiaError]:
    """Train and serve what is not yet in the store.

    Tasks that share a model train it once. Where a recommender of the user's own cannot serve any task of a model, no
    further model of it is trained.

    Parameters
    ----------
    tasks : sequence of Task
    store : mutable mapping
        Gets ``lists`` (int32, shape (n, k)) under `Task.key` and, where asked for, ``item_vectors`` (float32, shape
        (n_items, l)) under `Task.vectors_key`.
    jobs : int
        Processes (of the active joblib backend), or threads where the data are large; no list depends on it.
    done : callable
        Called with the number of tasks done since the last call, those that were in the store first.

    Returns
    -------
    dict of str to RecmiaError
        What went wrong, by the key of `Task.keys` that is now missing. All else is done.

    Raises
    ------
    ConfigError
        If a worker process is killed.
    """
    missing: dict[str, list[Task]] = {}
    for task in tasks:
        if any(key not in store for key in task.keys):
            missing.setdefault(task.model_key, []).append(task)
    done(len(tasks) - sum(map(len, missing.values())))
    if not missing:
        return {}
    large = max(len(group[0].side.interactions) for group in missing.values()) > _LARGE
    failed: dict[str, RecmiaError] = {}
    given_up: dict[str, RecmiaError] = {}

    def worthwhile() -> Iterator[list[Task]]:
        for group in missing.values():
            error = given_up.get(group[0].recommender)
            if error is None:
                yield group
                continue
            failed.update((key, error) for task in group for key in task.keys)
            done(len(group))

    results = run_calls(
        _train_and_serve,
        worthwhile(),
        jobs=jobs,
        processes=1 if large else min(jobs, len(missing)),
        shared=(group[0].side.interactions for group in missing.values()),
    )
    for model_key, served in results:
        for key, arrays in served.items():
            if isinstance(arrays, RecmiaError):
                failed[key] = arrays
            else:
                store[key] = arrays
        recommender = missing[model_key][0].recommender
        errors = [arrays for arrays in served.values() if isinstance(arrays, RecmiaError)]
        if (missing[model_key][0].own or is_own(recommender)) and len(errors) == len(served):
            given_up.setdefault(recommender, errors[0])
        done(len(missing[model_key]))
    return failed


def _train_and_serve(tasks: Sequence[Task], threads: int) -> tuple[str, dict[str, Arrays | RecmiaError]]:
    """Run tasks that share a model: its key, and what they put into the store, or why they cannot."""
    first = tasks[0]
    served: dict[str, Arrays | RecmiaError] = {}
    # One BLAS thread: sums then come out alike however many workers there are.
    with threadpool_limits(1, user_api="blas"):
        try:
            model = make_recommender(first.own or first.recommender, first.settings, threads=threads)
            for wrapper in first.wrappers:
                model = wrapper.wrap(model)
            model = _fitted(model, first)
        except RecmiaError as error:
            return first.model_key, {key: error for task in tasks for key in task.keys}
        # A command that has served all users needs no second run for the members among them.
        for task in sorted(tasks, key=lambda task: task.regime != "fold-in"):
            for key in task.keys:
                if key in served:
                    continue
                # What one task asks for in vain may be no concern of the others.
                try:
                    served[key] = _ask(model, task, key)
                except RecmiaError as error:
                    served[key] = error
    return first.model_key, served


def _fitted(model: Recommender, task: Task) -> Recommender:
    try:
        return model.fit(task.side.training_data(), rng=rng_for(*_seeded(task.path), "fit"))
    except RecmiaError:
        raise
    except Exception as error:
        if task.own is None:
            raise
        words = " ".join(str(error).split())
        raise ProtocolError(f"{task.recommender}: fit raised {type(error).__name__}: {words}") from error


def _ask(model: Recommender, task: Task, key: str) -> Arrays:
    if key == task.vectors_key:
        return {"item_vectors": model.item_vectors}
    lists = serve(
        task.regime,
        model,
        task.side,
        task.k,
        exclude_seen=task.exclude_seen,
        alpha=task.alpha,
        rng=rng_for(*_seeded(task.path), "serve", task.regime),
    )
    return {"lists": lists}


def _seeded(path: tuple[str | int, ...]) -> tuple[int, *tuple[str | int, ...]]:
    seed, *names = path
    assert isinstance(seed, int), "a path starts with its seed"
    return (seed, *names)


def digest(value: dict[str, Any]) -> str:
    """SHA-256 of plain values and of the version of recmia."""
    stamped = value | {"recmia": versions()["recmia"], "revision": _REVISION}
    return hashlib.sha256(json.dumps(stamped, sort_keys=True).encode()).hexdigest()

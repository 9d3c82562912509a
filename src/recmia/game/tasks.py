"""Tasks: recommenders to train, and what they are to serve and to answer, in any process, with results to be cached.

A task holds all that its lists and answers depend on, and nothing else: the data and the members, the recommender with
its settings, the regime, the queries, and the seed. Its keys are digests of these. So equal tasks of two audits have
the same keys, cached lists are found again, and lists of other data or settings are never used in their place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from recmia.blas import one_blas_thread
from recmia.data.interactions import IdMap, Int32, Interactions
from recmia.engine.parallel import run_calls
from recmia.errors import ProtocolError, RecmiaError
from recmia.game import streams
from recmia.game.serving import answer, serve
from recmia.game.split import Side
from recmia.observation import Queries
from recmia.provenance import versions
from recmia.recommenders.base import Recommender
from recmia.recommenders.spec import RecommenderSpec
from recmia.settings import FOLDING, RecommenderSettings, Regime

# To be increased whenever the same settings may give other lists or scores than before.
_REVISION = 6
# With more interactions than this, models are trained one after the other with all threads, on one copy of the data.
_LARGE = 5_000_000

# Results that were computed before: arrays by key. Each entry is written as soon as it is computed.
Arrays = dict[str, npt.NDArray[Any]]
Store = MutableMapping[str, Arrays]


class Wrapper(Protocol):
    """Wraps a recommender in another one; see `recmia.defences`."""

    def wrap(self, model: Recommender) -> Recommender:
        """Return a recommender around one that is not fitted."""

    def key(self) -> dict[str, Any]:
        """Return what the wrapped model depends on in addition, as plain values."""


@dataclass(frozen=True, eq=False)
class Task:
    """A recommender to train on the members of a side, and what is wanted of it.

    Parameters
    ----------
    recommender : RecommenderSpec
    settings : RecommenderSettings
        Settings that the recommender does not use have no effect; see `RecommenderSpec.used`.
    side : Side
    regime : Regime, optional
        In which the side is served; None for a system that only answers queries.
    k : int
    exclude_seen : bool
    alpha : float
        For ``popular-random``.
    path : tuple of str or int
        Path of the random streams, with the seed first; see `recmia.game.streams`.
    item_vectors : bool
        Whether the item vectors of the model are stored, too (for white-box attackers).
    wrappers : tuple of Wrapper
        The first is the innermost.
    depth : int
        Length of the lists in regimes that fold in, where that is more than `k`: as long as the model can make them,
        and then padded.
    queries : Queries, optional
        What the system is asked besides, by fold-in, for `k` items each.
    asked_of : IdMap, optional
        The users whom the queries are about, where they are not those of the side.

    Examples
    --------
    See `run_tasks`.
    """

    recommender: RecommenderSpec
    settings: RecommenderSettings
    side: Side
    regime: Regime | None
    k: int
    exclude_seen: bool
    alpha: float
    path: streams.Path
    item_vectors: bool = False
    wrappers: tuple[Wrapper, ...] = ()
    depth: int = 0
    queries: Queries | None = None
    asked_of: IdMap | None = None

    @cached_property
    def model_key(self) -> str:
        """A digest of all that the trained model depends on."""
        side = self.side
        data = side.interactions if self.recommender.uses_order else side.interactions.unordered
        trained = {}
        if side.trained is not None:
            trained["trained"] = hashlib.sha256(np.packbits(side.trained).tobytes()).hexdigest()
        if side.others is not None:
            others = side.others if self.recommender.uses_order else side.others.unordered
            trained["others"] = others.fingerprint()
        return digest(
            {
                **trained,
                "recommender": self.recommender.name,
                "settings": self.recommender.key(self.settings),
                "data": data.fingerprint(),
                "members": hashlib.sha256(np.packbits(side.member).tobytes()).hexdigest(),
                "path": list(self.path),
                "wrappers": [wrapper.key() for wrapper in self.wrappers],
            }
        )

    @cached_property
    def key(self) -> str:
        """A digest of all that the lists depend on."""
        return digest(
            {
                "model": self.model_key,
                "regime": self.regime,
                "length": self.length,
                "exclude_seen": self.exclude_seen,
                "alpha": self.alpha if self.regime == "popular-random" else None,
            }
        )

    @property
    def length(self) -> int:
        """The length of the lists."""
        return max(self.k, self.depth) if self.regime in FOLDING else self.k

    @cached_property
    def answers_key(self) -> str:
        """A digest of all that the answers depend on."""
        queries = self.queries
        assert queries is not None
        ordered = self.recommender.uses_order and queries.sequences is not None
        asked_with = queries.fingerprint_in_order if ordered else queries.fingerprint
        asked = {"queries": asked_with, "k": self.k, "exclude_seen": self.exclude_seen}
        return digest({"model": self.model_key, **asked})

    @property
    def data(self) -> tuple[Interactions | Queries, ...]:
        """All that is large: it is sent once to each process, whatever the number of tasks."""
        return tuple(one for one in (self.side.interactions, self.side.others, self.queries) if one is not None)

    @property
    def vectors_key(self) -> str:
        """The key of the item vectors of the model."""
        return f"{self.model_key}-items"

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all that the task writes to the store."""
        keys = [] if self.regime is None else [self.key]
        keys += [self.vectors_key] if self.item_vectors else []
        keys += [] if self.queries is None else [self.answers_key]
        return tuple(keys)


def run_tasks(
    tasks: Sequence[Task],
    *,
    store: Store,
    jobs: int = 1,
    done: Callable[[int], None] = lambda count: None,
) -> dict[str, RecmiaError]:
    """Train and serve all tasks that are not yet in the store, and return the errors.

    Tasks that share a model train it once. If user code fails in all tasks of one model, no further model of it is
    trained.

    Parameters
    ----------
    tasks : sequence of Task
    store : mutable mapping
        Gets ``lists`` (int32, shape (n, `Task.length`)) under `Task.key` and, if they are wanted, ``answers`` (int32,
        shape (q, k)) under `Task.answers_key`, and ``item_vectors`` (float32, shape (n_items, factors)) under
        `Task.vectors_key`.
    jobs : int
        How many models are trained at once: in threads if all their recommenders are `threaded`, else in processes; or
        threads for each where the data are large. Lists do not depend on it.
    done : callable
        Called with the number of tasks done since the last call, first for those that were in the store.

    Returns
    -------
    dict of str to RecmiaError
        The error for each key of `Task.keys` that is still missing; all other tasks are done.

    Raises
    ------
    ConfigError
        If a worker process is killed.

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> from recmia.recommenders.spec import RECOMMENDERS
    >>> side = Side(Interactions.from_arrays([1, 1, 2], [1, 2, 1]), np.array([True, False]))
    >>> settings = RecommenderSettings()
    >>> task = Task(RECOMMENDERS["popularity"], settings, side, "fold-in", 1, False, 0.1, (0, "target"))
    >>> store = {}
    >>> run_tasks([task], store=store)
    {}
    >>> store[task.key]["lists"].tolist()
    [[0], [0]]
    """
    missing: dict[str, list[Task]] = {}
    for task in tasks:
        if any(key not in store for key in task.keys):
            missing.setdefault(task.model_key, []).append(task)
    done(len(tasks) - sum(map(len, missing.values())))
    if not missing:
        return {}
    failed: dict[str, RecmiaError] = {}
    given_up: dict[str, RecmiaError] = {}

    def worthwhile() -> Iterator[list[Task]]:
        for group in missing.values():
            error = given_up.get(group[0].recommender.name)
            if error is None:
                yield group
                continue
            failed.update((key, error) for task in group for key in task.keys)
            done(len(group))

    calls = run_calls(
        _train_and_serve,
        worthwhile(),
        jobs=jobs,
        at_once=models_at_once(missing, jobs)[0],
        shared=(one for group in missing.values() for task in group for one in task.data),
        threaded=all(one.recommender.threaded and not one.wrappers for group in missing.values() for one in group),
    )
    with closing(calls) as results:
        for model_key, served in results:
            for key, arrays in served.items():
                if isinstance(arrays, RecmiaError):
                    failed[key] = arrays
                else:
                    store[key] = arrays
            recommender = missing[model_key][0].recommender
            errors = [arrays for arrays in served.values() if isinstance(arrays, RecmiaError)]
            if recommender.user_code and len(errors) == len(served):
                given_up.setdefault(recommender.name, errors[0])
            done(len(missing[model_key]))
    return failed


def models_at_once(missing: Mapping[str, Sequence[Task]], jobs: int) -> tuple[int, int]:
    """Return how many models are trained at once, and with how many threads each.

    Parameters
    ----------
    missing : mapping of str to sequence of Task
        The tasks of each model that is to be trained.
    jobs : int
    """
    large = max((group[0].side.n_interactions for group in missing.values()), default=0) > _LARGE
    at_once = 1 if large else max(1, min(jobs, len(missing)))
    return at_once, max(1, jobs // at_once)


def _train_and_serve(tasks: Sequence[Task], threads: int) -> tuple[str, dict[str, Arrays | RecmiaError]]:
    """Run tasks that share a model, and return its key with the arrays, or the error, for each key of the tasks."""
    first = tasks[0]
    served: dict[str, Arrays | RecmiaError] = {}
    # With one BLAS thread, sums have the same rounding for any number of workers.
    with one_blas_thread():
        try:
            model = first.recommender.make(first.recommender.used(first.settings), threads)
            for wrapper in first.wrappers:
                model = wrapper.wrap(model)
            model = _fitted(model, first)
        except RecmiaError as error:
            return first.model_key, {key: error for task in tasks for key in task.keys}
        for task in tasks:
            _announce(model, task)
        # Fold-in first: a command that has served all users needs no second run for the members among them.
        for task in sorted(tasks, key=lambda task: task.regime != "fold-in"):
            for key in task.keys:
                if key in served:
                    continue
                # An error in one task need not be one in the others.
                try:
                    served[key] = _ask(model, task, key)
                except RecmiaError as error:
                    served[key] = error
    return first.model_key, served


def _fitted(model: Recommender, task: Task) -> Recommender:
    try:
        return model.fit(task.side.training_data(), rng=streams.fit(task.path))
    except RecmiaError:
        raise
    except Exception as error:
        if not task.recommender.user_code:
            raise
        words = " ".join(str(error).split())
        raise ProtocolError(f"{task.recommender.name}: fit raised {type(error).__name__}: {words}") from error


def _announce(model: Recommender, task: Task) -> None:
    """Tell a model what it will be asked."""
    if task.regime is not None:
        strangers = {"fold-in": np.ones_like(task.side.member), "trained": ~task.side.member}
        asked = strangers.get(task.regime, np.zeros_like(task.side.member))
        histories = task.side.histories(in_order=model.uses_order)
        model.expect(histories[asked], task.length, exclude_seen=task.exclude_seen)
    if task.queries is not None:
        histories = task.queries.histories(in_order=model.uses_order)
        model.expect(histories, task.k, exclude_seen=task.exclude_seen)


def _ask(model: Recommender, task: Task, key: str) -> Arrays:
    if key == task.vectors_key:
        return {"item_vectors": model.item_vectors}
    if task.queries is not None and key == task.answers_key:
        users = task.side.interactions.users if task.asked_of is None else task.asked_of
        return {"answers": answer(model, task.queries, task.k, users=users, exclude_seen=task.exclude_seen)}
    assert task.regime is not None, "lists are wanted"
    # Only the attacker's own systems serve longer lists than the audited one, as long as they can make them.
    length = task.length if task.length == task.k else min(task.length, max(task.k, int(model.fitted_items().sum())))
    lists = serve(
        task.regime,
        model,
        task.side,
        length,
        exclude_seen=task.exclude_seen,
        alpha=task.alpha,
        rng=streams.serve(task.path, task.regime),
    )
    if length < task.length:
        padding: Int32 = np.full((len(lists), task.length - length), -1, np.int32)
        lists = np.hstack([lists, padding])
    return {"lists": lists}


def digest(value: dict[str, Any]) -> str:
    """Return the SHA-256 of plain values, of the version of recmia, and of the revision of its results."""
    stamped = value | {"recmia": versions()["recmia"], "revision": _REVISION}
    return hashlib.sha256(json.dumps(stamped, sort_keys=True).encode()).hexdigest()

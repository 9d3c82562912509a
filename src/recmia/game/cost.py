"""What a run costs, before it is paid: models, questions and bytes are counted, time and memory measured on samples.

No rate is written down anywhere. The same audit is run on samples of the users, each four times the last, until one
takes long enough to be measured; time and memory of the whole are on the straight line through the last two samples.
So whatever does not grow with the users (starting a classifier, inverting a matrix of items by items) is told apart
from what does, for any recommender and any attack, on this machine.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from recmia.attacks import ATTACKS
from recmia.data.interactions import Interactions
from recmia.errors import RecmiaError
from recmia.game.plan import Plan, Served, System, plan_from_data, plan_from_files
from recmia.game.run import play
from recmia.game.split import MIN_PER_CLASS, Side
from recmia.game.tasks import Store, Task, models_at_once, run_tasks
from recmia.observation import Queries
from recmia.provenance import peak_memory
from recmia.settings import AuditSettings

# Users of the first sample: enough for members and non-members on both sides.
_FIRST_SAMPLE, _TIMES = 8 * MIN_PER_CLASS, 4
# Samples are large enough if they take so long, and after so long no further kind of audit is measured; in seconds.
_LONG_ENOUGH, _PATIENCE = 1.0, 5.0


@dataclass(frozen=True)
class Cost:
    """What a run costs.

    Parameters
    ----------
    models : int
        Recommenders that the run needs.
    stored : int
        How many of them are in the store, with all that they are to serve.
    questions : int
        What the other models are asked, all together.
    seconds : float
        To train, serve and attack.
    memory : int
        Peak, in bytes.
    disk : int
        What is written to the store, in bytes.
    """

    models: int
    stored: int
    questions: int
    seconds: float
    memory: int
    disk: int


def expected_cost(plans: Sequence[Plan], *, store: Store, jobs: int = 1) -> Cost:
    """Return what it costs to run plans, from a short probe of them; nothing is written to the store.

    Parameters
    ----------
    plans : sequence of Plan
        At least one.
    store : mutable mapping
        What was computed before.
    jobs : int
        As of `recmia.game.run.run_plans`.

    Raises
    ------
    RecmiaError
        If the probe fails on all users, as the run would.

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> from recmia.results.setup import resolve
    >>> data = Interactions.from_arrays(np.repeat(np.arange(80), 2), np.tile([1, 2], 80))
    >>> given = {"recommender": "popularity", "attacks": ["distance"], "regimes": ["fold-in"], "k": 1, "factors": 2}
    >>> setup = resolve(AuditSettings.parse(given))
    >>> cost = expected_cost([plan_from_data(setup, data, seed) for seed in (0, 1)], store={})
    >>> cost.models, cost.stored, cost.questions, cost.disk
    (4, 0, 0, 640)
    """
    todo = [plan for plan in plans if plan.key is None or plan.key not in store]
    needed = _by_model([task for plan in plans for task in plan.tasks])
    missing = {
        key: tasks
        for key, tasks in _by_model([task for plan in todo for task in plan.tasks]).items()
        if any(one not in store for task in tasks for one in task.keys)
    }
    seconds, memory = 0.0, peak_memory()
    if todo:
        at_once, threads = models_at_once(missing, jobs)
        plays_at_once = min(jobs, len(todo))
        probes = _probes(todo, threads)
        memory = peak_memory()
        of_models = _means([probe.models for probe in probes])
        usual = float(np.mean(list(of_models.values()) or [0.0]))
        training = sum(of_models.get(tasks[0].recommender.name, usual) for tasks in missing.values())
        attacking = len(todo) * float(np.mean([probe.attacks for probe in probes]))
        seconds = training / at_once + attacking / plays_at_once
        memory += round(
            max(max(one.of_model * at_once * bool(missing), one.of_attacks * plays_at_once) for one in probes)
        )
    return Cost(
        models=len(needed),
        stored=len(needed) - len(missing),
        questions=sum(len(queries) for tasks in missing.values() for queries in _asked(tasks)),
        seconds=seconds,
        memory=memory,
        disk=sum(_bytes(tasks) for tasks in missing.values()),
    )


def sampled(plan: Plan, share: float) -> Plan:
    """Return the plan of the same audit with a share of its users, evenly spaced; models and attacks stay as many.

    Parameters
    ----------
    plan : Plan
    share : float
        Above 0, at most 1.

    Raises
    ------
    RecmiaError
        As `recmia.game.plan.plan_from_data`, if so few users are too few.

    Examples
    --------
    >>> from recmia.results.setup import resolve
    >>> data = Interactions.from_arrays(np.repeat(np.arange(400), 2), np.tile([1, 2], 400))
    >>> setup = resolve(AuditSettings.parse({"attacks": ["mlp"], "regimes": ["fold-in"], "k": 1}))
    >>> plan = plan_from_data(setup, data, seed=0)
    >>> small = sampled(plan, 0.25)
    >>> plan.audited.n_users, small.audited.n_users, len(plan.tasks) == len(small.tasks)
    (200, 50, True)
    """
    settings = plan.setup.settings
    if not isinstance(settings, AuditSettings):
        return _sampled_files(plan, share)
    data = plan.everyone[0]
    if 0 < settings.data.max_users < data.n_users:
        share *= settings.data.max_users / data.n_users
    # A sample of the users has as small a sample of those who are audited.
    fewest, n_audited = 2 * MIN_PER_CLASS, settings.game.n_audited
    fields = {"max_users": 0, "n_audited": max(fewest, round(share * n_audited)) if n_audited else 0}
    setup = replace(plan.setup, settings=settings.changed(**fields))
    own = plan.items.get("black-box")
    black_box = None if own is None else _some(own.popularity, share)
    return plan_from_data(setup, _some(data, share), plan.seed, black_box)


def models_a_seed(settings: AuditSettings) -> int:
    """Return how many recommenders each seed of an audit of data trains; attacks of the user's count as needing none.

    Parameters
    ----------
    settings : AuditSettings

    Examples
    --------
    >>> [models_a_seed(AuditSettings.parse(given)) for given in ({"attacks": ["mlp"]}, {"n_targets": 20})]
    [2, 27]
    """
    attacker = settings.attacker
    needs = {ATTACKS[name].needs for name in attacker.attacks if name in ATTACKS}
    pool = attacker.n_shadows if "pool" in needs else 0
    compared = len(attacker.references) if "references" in needs else 0
    if settings.unit == "interactions":
        return settings.n_targets + pool + compared
    return settings.n_targets + len(settings.levels) * (1 + pool + compared * (1 + attacker.thresholds))


@dataclass(frozen=True)
class _Probe:
    """What one plan takes: seconds for a model of each recommender, and for the attacks; bytes likewise.

    The bytes of the attacks include all lists and answers that they use.
    """

    models: Mapping[str, float]
    attacks: float
    of_model: float
    of_attacks: float


def _probes(todo: Sequence[Plan], threads: int) -> list[_Probe]:
    """Measure some kinds of plans: cells of a grid are kinds, and seeds are not."""
    kinds = list({id(plan.setup): plan for plan in reversed(todo)}.values())[::-1]
    # Both ends first, since most grids go from little work to much.
    order = dict.fromkeys([0, len(kinds) - 1, len(kinds) // 2, len(kinds) // 4, 3 * len(kinds) // 4])
    tracing, started, found = tracemalloc.is_tracing(), time.perf_counter(), list[_Probe]()
    # This makes Python slower, by a tenth to a third of the whole.
    tracemalloc.start()
    try:
        # Compiled code and libraries are loaded once, however long a run is.
        with suppress(RecmiaError):
            _measured(sampled(kinds[0], min(1.0, _FIRST_SAMPLE / _n_users(kinds[0]))), threads)
        for kind in order:
            if not found or time.perf_counter() - started < _PATIENCE:
                found.append(_probe(kinds[kind], threads, _LONG_ENOUGH))
        return found
    finally:
        if not tracing:
            tracemalloc.stop()


def _probe(plan: Plan, threads: int, long_enough: float) -> _Probe:
    """Run a plan on larger and larger samples of its users, and return what all of them would take."""
    n_users, size = _n_users(plan), _FIRST_SAMPLE
    sizes, found = list[int](), list[_Probe]()
    while True:
        started = time.perf_counter()
        try:
            small = sampled(plan, min(1.0, size / n_users))
            found.append(_measured(small, threads))
            sizes.append(len(small.audited))
        except RecmiaError:
            # A sample can have too few users, or too few items for a list.
            if size >= n_users:
                raise
        if size >= n_users:
            return found[-1]
        if len(found) > 1 and time.perf_counter() - started > long_enough:
            break
        size *= _TIMES
    one, other = found[-2:]

    def at_whole(first: float, second: float) -> float:
        slope = (second - first) / (sizes[-1] - sizes[-2])
        return second + max(0.0, slope) * (len(plan.audited) - sizes[-1])

    return _Probe(
        {name: at_whole(one.models[name], seconds) for name, seconds in other.models.items()},
        at_whole(one.attacks, other.attacks),
        at_whole(one.of_model, other.of_model),
        at_whole(one.of_attacks, other.of_attacks),
    )


def _measured(plan: Plan, threads: int) -> _Probe:
    store: Store = {}
    spent: dict[str, list[float]] = {}
    of_models, before = [0], _bytes_in_use()
    for tasks in _by_model(plan.tasks).values():
        started, without = time.perf_counter(), _bytes_in_use()
        for error in run_tasks(tasks, store=store, jobs=threads).values():
            raise error
        spent.setdefault(tasks[0].recommender.name, []).append(time.perf_counter() - started)
        of_models.append(tracemalloc.get_traced_memory()[1] - without)
    started = time.perf_counter()
    _bytes_in_use()
    play(plan, store, threads)
    attacks = time.perf_counter() - started
    of_attacks = tracemalloc.get_traced_memory()[1] - before
    return _Probe({name: float(np.mean(each)) for name, each in spent.items()}, attacks, max(of_models), of_attacks)


def _bytes_in_use() -> int:
    """The bytes that are in use, from which on the peak is taken anew."""
    tracemalloc.reset_peak()
    return tracemalloc.get_traced_memory()[0]


def _n_users(plan: Plan) -> int:
    """The users whom a sample is drawn from."""
    settings, everyone = plan.setup.settings, plan.everyone[0].n_users
    most = settings.data.max_users if isinstance(settings, AuditSettings) else 0
    return min(most or everyone, everyone)


def _some(data: Interactions, share: float) -> Interactions:
    return data.restrict(_rows(data.n_users, share))


def _rows(n: int, share: float) -> npt.NDArray[np.int64]:
    """Evenly spaced rows of n."""
    return np.unique(np.linspace(0, n - 1, max(1, round(share * n))).astype(np.int64))


def _sampled_files(plan: Plan, share: float) -> Plan:
    (section,) = plan.sections
    target = section.targets[0]
    assert isinstance(target, Served), "of files"
    rows = _rows(plan.audited.n_users, share)
    queries, asked = (None, None) if target.queries is None else target.queries.take_users(rows)

    def few(one: System) -> Served | Side:
        side = _few_of(one.side, share)
        if isinstance(one, Task):
            return side
        return replace(
            one,
            side=side,
            lists=one.lists[_rows(len(one.lists), share)],
            queries=None if one.queries is None else queries,
            answers=None if one.answers is None else one.answers[asked],
        )

    few_target = few(target)
    assert isinstance(few_target, Served), "of files"
    given = section.references[0] if section.references else None
    references = _some(given.side.interactions, share) if isinstance(given, Task) else given
    return plan_from_files(
        plan.setup,
        few_target,
        None if section.shadow is None else few(section.shadow),
        [few(one) for one in section.pool],
        [few_target.side.interactions, *(_some(one, share) for one in plan.everyone[1:])],
        references[asked] if isinstance(references, np.ndarray) else references,
    )


def _few_of(side: Side, share: float) -> Side:
    rows = _rows(side.interactions.n_users, share)
    trained = None if side.trained is None else side.trained[np.isin(side.interactions.user, rows)]
    return Side(side.interactions.restrict(rows), side.member[rows], trained)


def _by_model(tasks: Sequence[Task]) -> dict[str, list[Task]]:
    found: dict[str, list[Task]] = {}
    for task in tasks:
        found.setdefault(task.model_key, []).append(task)
    return found


def _asked(tasks: Sequence[Task]) -> Collection[Queries]:
    """The queries that tasks which share a model put to it, each once."""
    return {task.answers_key: task.queries for task in tasks if task.queries is not None}.values()


def _bytes(tasks: Sequence[Task]) -> int:
    """The bytes of what tasks that share a model write to the store."""
    lists = {task.key: task.side.interactions.n_users * task.length for task in tasks if task.regime is not None}
    answers = sum(len(queries) * tasks[0].k for queries in _asked(tasks))
    vectors = tasks[0].settings.factors * tasks[0].side.interactions.n_items
    return 4 * (sum(lists.values()) + answers + vectors * any(task.item_vectors for task in tasks))


def _means(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for one in found for name in one)
    return {name: float(np.mean([one[name] for one in found if name in one])) for name in names}

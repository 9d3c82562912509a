"""Plans: what has to be trained and served for an audit, and what each attacker has.

Every attacker sees observations only. Its level of knowledge says what they are made of:

==========  ==========================================  ==========================================
level       shadow users                                item vectors
==========  ==========================================  ==========================================
black-box   drawn from public statistics                of the drawn users
grey-box    the shadow side                             as `KnowledgeSettings.item_vectors` says
white-box   the shadow side                             the target's own
==========  ==========================================  ==========================================

Attacks with many shadow models train them on random halves of the audited users, whose histories are known to every
attacker. A black-box attacker trains them on halves of the drawn users, so that no audited user is in training.

Attacks that ask put the same queries to every system. Where they compare with reference models, these are trained on
the shadow users, of whom none is audited. The shadow users are scored, too, to choose a threshold; the references for
them are trained on the audited users.

Audits of data and audits of files have the same kind of plan. In a plan from data, every system is a `Task`. In one
from files, the target is `Served`, and the attacker's systems are either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from recmia.attacks import AttackSpec
from recmia.data.interactions import Int32, Interactions, join_users
from recmia.errors import ConfigError, TooFewUsersError
from recmia.game import streams
from recmia.game.observe import ItemSource
from recmia.game.queries import draw_blocks, draw_prefixes, draw_queries, join_queries, known_part
from recmia.game.split import (
    MIN_PER_CLASS,
    Side,
    Split,
    draw_members,
    draw_shadow_members,
    hold_out,
    split_game,
    synthetic_population,
)
from recmia.game.tasks import Task, digest
from recmia.observation import Queries
from recmia.recommenders.spec import RecommenderSpec
from recmia.settings import (
    AS_SERVED,
    FOLDING,
    AnyAuditSettings,
    AuditSettings,
    FilesSettings,
    GroupSettings,
    Knowledge,
    RecommenderSettings,
    Regime,
)

# Shadow models serve lists of so many times k, of this many items in all at most (1 GiB).
_TIMES_K, _MOST_LISTED = 10, 2**28


class Change(Protocol):
    """A defence, as far as a plan uses it; see `recmia.defences`."""

    @property
    def user_code(self) -> bool:
        """Tell whether it is the user's, whose code can change without a trace."""

    def change(self, task: Task) -> Task:
        """Return the task of the defended system."""


def is_run(spec: AttackSpec, regime: str) -> bool:
    """Tell whether an attack is run in a regime: only a system that folds in can be asked, and some have regimes.

    Whether there are answers among files is known when attacks are chosen.

    >>> from recmia.attacks import ATTACKS
    >>> [is_run(ATTACKS["query-lr"], regime) for regime in ("popular", "fold-in")]
    [False, True]
    """
    return (regime in (*FOLDING, AS_SERVED) or not spec.asks) and (not spec.regimes or regime in spec.regimes)


@dataclass(frozen=True, eq=False)
class Setup:
    """Settings with the recommenders, attacks and defences that they name; see `recmia.results.setup.resolve`.

    Parameters
    ----------
    settings : AuditSettings or FilesSettings
    target : RecommenderSpec or None
        None for an audit of files.
    shadow : RecommenderSpec
    attacks : tuple of AttackSpec
        The rules that need no model come last.
    defences : tuple
        In the order in which they act.
    references : tuple of RecommenderSpec
        The models that the attacker compares with; none unless an attack needs them.
    """

    settings: AnyAuditSettings
    target: RecommenderSpec | None
    shadow: RecommenderSpec
    attacks: tuple[AttackSpec, ...]
    defences: tuple[Change, ...] = ()
    references: tuple[RecommenderSpec, ...] = ()

    def attacks_in(self, regime: str) -> tuple[AttackSpec, ...]:
        """Return the attacks and rules that are run in a regime."""
        return tuple(spec for spec in self.attacks if is_run(spec, regime))

    @property
    def pool_attacks(self) -> tuple[AttackSpec, ...]:
        """The attacks that need many shadow models."""
        return tuple(spec for spec in self.attacks if spec.needs == "pool")

    @property
    def uses_order(self) -> bool:
        """Whether a recommender, or what is asked, depends on the order of events."""
        return self.asks_prefixes or any(spec.uses_order for spec in self._recommenders)

    @property
    def asks_prefixes(self) -> bool:
        """Whether the attacker asks with prefixes of histories: what a recommender of the next item was trained on."""
        kind = self.settings.attacker.query_kind
        if kind == "auto":
            kind = "prefixes" if self.target is not None and self.target.needs_order else "parts"
        asks = any(spec.asks and not spec.rule for spec in self.attacks)
        return kind == "prefixes" and asks and self.settings.unit == "users"

    @property
    def _recommenders(self) -> tuple[RecommenderSpec, ...]:
        """The recommenders that are trained."""
        target = () if self.target is None else (self.target,)
        return (*target, *((self.shadow,) if self.learns else ()), *self.references)

    @property
    def need_order(self) -> list[str]:
        """Names of the recommenders that are trained and can do nothing without the order of events."""
        return list(dict.fromkeys(spec.name for spec in self._recommenders if spec.needs_order))

    def check_order(self, interactions: Interactions) -> None:
        """Check that data have the order of events, if that is needed.

        Raises
        ------
        ConfigError
            Naming what needs it.
        """
        needing = self.need_order or (["query_kind = prefixes"] if self.asks_prefixes else [])
        if interactions.events is None and needing:
            raise ConfigError(
                f"{', '.join(needing)}: needs the order of events, and the data have neither times nor "
                "positions that are known; name their column, --columns-time NAME or --columns-position NAME (settings "
                "columns.time, columns.position; in memory, time= or position= of Interactions.from_arrays)"
            )

    def cut_histories(self, interactions: Interactions) -> list[str]:
        """Say which recommenders use only the end of a history, and of how many users."""
        if interactions.events is None:
            return []
        lengths, found = np.bincount(interactions.user[interactions.events]), []
        for spec in {spec.name: spec for spec in self._recommenders}.values():
            window = None if spec.window is None else spec.window(self.settings.recommenders)
            if window is not None and (lengths > window).any():
                end = f"{window} events" if window > 1 else "event"
                found.append(
                    f"{spec.name} uses the last {end} of a history, and {int((lengths > window).sum()):,} of "
                    f"{interactions.n_users:,} users have more"
                )
        return found

    @property
    def learns(self) -> bool:
        """Whether an attack needs shadow models, so that the attacker needs a system."""
        return any(spec.needs in ("shadow", "pool") for spec in self.attacks)


@dataclass(frozen=True, eq=False)
class Served:
    """A side, the lists that a system showed to its users, and its answers to queries about them.

    Parameters
    ----------
    side : Side
    lists : int32, shape (n_users, k)
        -1 pads.
    queries : Queries, optional
    answers : int32, shape (q, k), optional
    """

    side: Side
    lists: Int32
    queries: Queries | None = None
    answers: Int32 | None = None


System = Task | Served


@dataclass(frozen=True, eq=False)
class Section:
    """What an attacker of one level of knowledge has in one regime.

    Parameters
    ----------
    level : Knowledge
    regime : str
        The name of the regime in reports.
    stream : str
        The name of the regime in the names of the random streams.
    targets : tuple of Task or Served
        Audited systems that serve the same users. Their members reach the table of scores, and no attack.
    shadow : Task, Served or None
        The attacker's own system. Without one, only attacks that need none can be run, and no threshold is chosen.
    pool : tuple of Task or Served
        Shadow systems that serve the audited users; users of the attacker's own, if any, come first.
    references, shadow_references : tuple of Task or int32[q, k]
        Reference models that answer the queries about the audited users, or their answers; and those about the shadow
        users.
    twins : tuple of Task
        Where the rule `twin` is run, the targets and then the shadow, as they answer strangers with whole histories.
    """

    level: Knowledge
    regime: str
    stream: str
    targets: tuple[System, ...]
    shadow: System | None
    pool: tuple[System, ...]
    references: tuple[Task | Int32, ...] = ()
    shadow_references: tuple[Task | Int32, ...] = ()
    twins: tuple[Task, ...] = ()

    @property
    def systems(self) -> tuple[System, ...]:
        """All systems."""
        shadow = () if self.shadow is None else (self.shadow,)
        trained = (one for one in (*self.references, *self.shadow_references) if isinstance(one, Task))
        return (*self.targets, *shadow, *self.pool, *trained, *self.twins)


@dataclass(frozen=True, eq=False)
class Plan:
    """All that one seed of an audit needs.

    Parameters
    ----------
    setup : Setup
    seed : int
    sections : tuple of Section
    items : mapping of level to ItemSource
    known : Interactions
        What the attacker knows of the audited users.
    everyone : tuple of Interactions
        All users of the audit, from which the rarity of items is computed.
    held_out : Interactions, optional
        Interactions that are held out to measure utility, over the users of the first of `everyone`.
    kept : bool
        Whether the scores may be cached under `key`.
    """

    setup: Setup
    seed: int
    sections: tuple[Section, ...]
    items: Mapping[Knowledge, ItemSource]
    known: Interactions
    everyone: tuple[Interactions, ...]
    held_out: Interactions | None = None
    kept: bool = True

    @property
    def audited(self) -> Interactions:
        """Interactions of the audited users."""
        return self.sections[0].targets[0].side.interactions

    @property
    def tasks(self) -> list[Task]:
        """The tasks of all sections, each once."""
        found = {id(one): one for section in self.sections for one in section.systems if isinstance(one, Task)}
        return list(found.values())

    @property
    def data(self) -> list[Interactions | Queries]:
        """All interactions and queries that the plan refers to."""
        systems = [one for section in self.sections for one in section.systems]
        sides, asked = [one.side.interactions for one in systems], [one.queries for one in systems]
        sources = [one for source in self.items.values() for one in (source.data, source.popularity)]
        found = [*self.everyone, *sources, *sides, *asked, self.held_out, self.known]
        return [one for one in found if one is not None]

    @cached_property
    def key(self) -> str | None:
        """A digest of all that the scores depend on; None where they must not be cached."""
        setup = self.setup
        changing = any(spec.user_code for spec in setup.attacks) or any(one.user_code for one in setup.defences)
        if not self.kept or changing:
            return None
        settings = setup.settings
        named = {
            spec.name: spec.key(settings.recommenders)
            for spec in (setup.target, setup.shadow, *setup.references)
            if spec is not None
        }
        elsewhere = {
            *RecommenderSettings.model_fields,
            "dataset",
            "black_box_data",
            "columns",
            "seeds",
            "seed",
            *GroupSettings.model_fields,
        }
        shadows = {section.level: section.shadow for section in self.sections if section.shadow is not None}
        return digest(
            {
                "data": self.everyone[0].fingerprint(),
                "shadows": {level: one.side.interactions.fingerprint() for level, one in shadows.items()},
                "seed": self.seed,
                "recommenders": named,
                "item vectors": settings.recommenders.lfm.model_dump(mode="json"),
                **{name: value for name, value in settings.flat().items() if name not in elsewhere},
            }
        )


def plan_from_data(
    setup: Setup,
    interactions: Interactions,
    seed: int,
    black_box: Interactions | None = None,
    draws: MutableMapping[Any, Any] | None = None,
) -> Plan:
    """Return the plan of one seed of an audit of data, with random splits and members, of whatever unit.

    Parameters
    ----------
    setup : Setup
        With `AuditSettings`.
    interactions : Interactions
        Of all eligible users.
    seed : int
    black_box : Interactions, optional
        Data of the black-box attacker, over the same items; otherwise its users are drawn.
    draws : mutable mapping, optional
        Draws that were made before; plans with the same mapping share equal draws.

    Returns
    -------
    Plan

    Raises
    ------
    TooFewUsersError, ConfigError
        As `split_game` and `hold_out`.

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> from recmia.results.setup import resolve
    >>> data = Interactions.from_arrays(np.repeat(np.arange(40), 2), np.tile([1, 2], 40))
    >>> setup = resolve(AuditSettings.parse({"attacks": ["mlp"], "regimes": ["fold-in"], "k": 1}))
    >>> plan = plan_from_data(setup, data, seed=0)
    >>> len(plan.tasks), plan.audited.n_users
    (2, 20)
    """
    settings = setup.settings
    assert isinstance(settings, AuditSettings), "of data"
    draws = {} if draws is None else draws
    setup.check_order(interactions)
    if settings.unit == "interactions":
        return plan_of_interactions(setup, interactions, seed, draws)
    game, held_out = settings.game, None
    if game.held_out:
        interactions, held_out = _held_out(settings, interactions, seed, draws)
    split = _split(settings, interactions, seed, draws)
    target, own = _audited(settings, split, seed)
    audited, share = target.interactions, settings.serving.member_share
    again = range(1, game.n_targets)
    members = [draw_members(audited.n_users, share, streams.target_members(seed, t)) for t in again]
    targets = [target, *(replace(target, member=member) for member in members)]
    known = known_part(audited, settings.knowledge.known, streams.known(seed))
    build = _Builder(setup, seed)
    sections, sources = [], {}
    shadows = {level: _shadow_side(level, own, black_box, share, seed) for level in settings.levels}
    pools = {
        level: _pool_sides(level, known, shadow, settings.attacker.n_shadows, seed) if setup.pool_attacks else []
        for level, shadow in shadows.items()
    }
    assert setup.target is not None, "of data"
    white = "white-box" in settings.levels
    about_target = build.queries(known, "target")
    for level in settings.levels:
        shadow = shadows[level].interactions
        everybody = shadow if level == "black-box" else split.shadow.interactions
        public = {"shadow": everybody, "public": split.public, "all": interactions}[settings.knowledge.item_vectors]
        data = {"white-box": None, "black-box": shadow, "grey-box": public}[level]
        sources[level] = ItemSource(data, everybody)
        about_shadow = build.queries(shadow, "shadow" if level != "black-box" else level)
        about_pool = about_target
        if level == "black-box" and about_target is not None and about_shadow is not None:
            about_pool = join_queries(about_shadow, about_target, shadow.n_users)
        for regime in game.regimes:
            asked = [spec for spec in setup.attacks_in(regime) if spec.asks and not spec.rule]
            on_pool = any(spec.needs == "pool" for spec in asked)
            apart = any(spec.needs != "pool" for spec in asked)
            references: tuple[Task | Int32, ...] = ()
            shadow_references: tuple[Task | Int32, ...] = ()
            if any(spec.needs == "references" for spec in asked):
                if level != "black-box":
                    check_strangers(everybody, audited)
                references = build.references(everybody, about_target, known, level, "target")
                if settings.attacker.thresholds:
                    shadow_references = build.references(known, about_shadow, shadow, level, "shadow")
            sections.append(
                Section(
                    level,
                    regime,
                    regime,
                    targets=tuple(
                        build.task(
                            setup.target, side, regime, streams.target_path(seed, t), item_vectors=white,
                            queries=about_target if asked else None,
                        )
                        for t, side in enumerate(targets)
                    ),
                    shadow=build.task(
                        setup.shadow, shadows[level], regime, streams.shadow_path(seed, level),
                        queries=about_shadow if apart else None,
                    ),
                    pool=tuple(
                        build.task(
                            setup.shadow, side, regime, streams.pool_path(seed, level, s),
                            queries=about_pool if on_pool else None, depth=_depth(settings, len(pools[level]), side),
                        )
                        for s, side in enumerate(pools[level])
                    ),
                    references=references,
                    shadow_references=shadow_references,
                    twins=tuple(
                        build.task(recommender, side, "fold-in", path)
                        for recommender, side, path in (
                            *((setup.target, side, streams.target_path(seed, t)) for t, side in enumerate(targets)),
                            (setup.shadow, shadows[level], streams.shadow_path(seed, level)),
                        )
                        if any(spec.name == "twin" for spec in setup.attacks_in(regime))
                    ),
                )
            )  # fmt: skip
    return Plan(setup, seed, tuple(sections), sources, known, (interactions,), held_out)


def plan_of_interactions(
    setup: Setup, interactions: Interactions, seed: int, draws: MutableMapping[Any, Any] | None = None
) -> Plan:
    """Return the plan of one seed of an audit of single interactions: a coin is tossed for each of every audited user.

    Shadow models are trained on random halves of the audited interactions, in complementary pairs, and reference models
    on the shadow side.

    Parameters
    ----------
    setup, interactions, seed, draws
        As of `plan_from_data`.

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> from recmia.results.setup import resolve
    >>> data = Interactions.from_arrays(np.repeat(np.arange(40), 3), np.tile([1, 2, 3], 40))
    >>> setup = resolve(AuditSettings.parse({"unit": "interactions", "attacks": ["item-completion"], "k": 1}))
    >>> plan = plan_of_interactions(setup, data, seed=0)
    >>> len(plan.tasks), len(plan.sections[0].targets[0].queries)
    (1, 60)
    """
    settings = setup.settings
    assert isinstance(settings, AuditSettings), "of data"
    assert setup.target is not None, "of data"
    draws, held_out = {} if draws is None else draws, None
    if settings.game.held_out:
        interactions, held_out = _held_out(settings, interactions, seed, draws)
    split = _split(settings, interactions, seed, draws)
    audited, others = split.target.interactions, split.shadow.interactions
    share, n = settings.serving.member_share, len(audited)
    queries = draw_blocks(audited, settings.attacker.blocks, streams.queries(seed, "target"))
    build = _Builder(setup, seed)
    regime = settings.game.regimes[0]
    targets = tuple(
        build.task(
            setup.target,
            Side.of_interactions(audited, draw_members(n, share, streams.target_interactions(seed, t))),
            regime,
            streams.target_path(seed, t),
            queries=queries,
        )
        for t in range(settings.n_targets)
    )
    pool = []
    for s in range(settings.attacker.n_shadows if setup.pool_attacks else 0):
        half = draw_members(n, 0.5, streams.pool_interactions(seed, s // 2))
        side = Side.of_interactions(audited, half if s % 2 == 0 else ~half)
        pool.append(build.task(setup.shadow, side, None, streams.pool_path(seed, "grey-box", s), queries=queries))
    references: tuple[Task | Int32, ...] = ()
    if any(spec.needs == "references" for spec in setup.attacks):
        check_strangers(others, audited)
        references = build.references(others, queries, audited, "grey-box", "target")
    section = Section("grey-box", regime, regime, targets, None, tuple(pool), references)
    sources: dict[Knowledge, ItemSource] = {"grey-box": ItemSource(others, others)}
    return Plan(setup, seed, (section,), sources, audited, (interactions,), held_out)


def _held_out(
    settings: AuditSettings, interactions: Interactions, seed: int, draws: MutableMapping[Any, Any]
) -> tuple[Interactions, Interactions]:
    """Return the interactions of the game, and those that are held out to measure utility."""
    parted_by = (interactions.fingerprint(), settings.game.held_out, seed)
    if parted_by not in draws:
        draws[parted_by] = hold_out(interactions, settings.game.held_out, streams.held_out(seed))
    parted: tuple[Interactions, Interactions] = draws[parted_by]
    return parted


def plan_from_files(
    setup: Setup,
    target: Served,
    shadow: Served | Side | None,
    pool: Sequence[Served | Side],
    everyone: Sequence[Interactions],
    references: Interactions | Int32 | None = None,
) -> Plan:
    """Return the plan of an audit of files: what has to be trained and served in addition to what they hold.

    Parameters
    ----------
    setup : Setup
        With `FilesSettings`, in which `k` is the length of the lists.
    target : Served
    shadow : Served, Side or None
        The attacker's own system: the lists that it served, or the users and members to train and serve it with.
    pool : sequence of Served or Side
        Its shadow systems for the audited users, likewise.
    everyone : sequence of Interactions
        The audited users, and after them the attacker's if they are different ones. Item vectors come from the last.
    references : Interactions, or int32, shape (q, k), optional
        Whom to train reference models on, or what the system answers that was trained without the audited users.

    Returns
    -------
    Plan

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> from recmia.results.setup import resolve
    >>> data = Interactions.from_arrays([1, 2], [1, 2])
    >>> target = Served(Side(data, np.array([True, False])), np.array([[1], [0]], np.int32))
    >>> names = {"interactions": "a.csv", "lists": "b.csv", "members": "c.csv", "attacks": ["distance"], "k": 1}
    >>> plan_from_files(resolve(FilesSettings.parse(names)), target, None, [], [data]).tasks
    []
    """
    settings = setup.settings
    assert isinstance(settings, FilesSettings), "of files"
    seed, regime = settings.run.seed, settings.game.regime
    build = _Builder(setup, seed)

    def system(one: Served | Side, path: streams.Path, depth: int = 0, queries: Queries | None = None) -> System:
        if isinstance(one, Served):
            return one
        return build.task(setup.shadow, one, regime, path, depth=depth, queries=queries)

    trained = [one for one in pool if isinstance(one, Side)]
    # Lists from files are as long as they are, and a pool has lists of one length.
    depth = _depth(settings, len(pool), trained[0]) if trained and len(trained) == len(pool) else 0
    audited = target.side.interactions
    answering: tuple[Task | Int32, ...] = ()
    if isinstance(references, np.ndarray):
        answering = (references,)
    elif references is not None:
        assert target.answers is not None, "references answer what the target answers"
        check_strangers(references, audited)
        length = target.answers.shape[1]
        answering = build.references(references, target.queries, audited, "grey-box", "target", length)
    asked = target.queries if any(spec.asks for spec in setup.pool_attacks) else None
    section = Section(
        "grey-box",
        settings.regimes[0],
        regime,
        targets=(target,),
        shadow=None if shadow is None else system(shadow, streams.shadow_path(seed, "grey-box")),
        pool=tuple(system(one, streams.pool_path(seed, "grey-box", s), depth, asked) for s, one in enumerate(pool)),
        references=answering,
    )
    source = ItemSource(everyone[-1], everyone[-1])
    return Plan(setup, seed, (section,), {"grey-box": source}, audited, tuple(everyone), kept=False)


def shared_users(one: Interactions, other: Interactions) -> npt.NDArray[np.generic]:
    """Return the ids of users who are in both; whole numbers and text are never the same id.

    >>> from recmia.data.interactions import Interactions
    >>> shared_users(Interactions.from_arrays([1, 2], [1, 1]), Interactions.from_arrays([2, 3], [1, 1])).tolist()
    [2]
    >>> shared_users(Interactions.from_arrays([1], [1]), Interactions.from_arrays(["1"], [1])).tolist()
    []
    """
    ids = one.users.ids, other.users.ids
    if len({array.dtype.kind in "iu" for array in ids}) == 2:
        return ids[0][:0]
    return np.intersect1d(*ids)


def check_strangers(trained_on: Interactions, audited: Interactions) -> None:
    """Check that a reference model is trained on nobody who is audited: it would have seen whom it is to judge.

    Raises
    ------
    ConfigError
        If the two share users.

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> check_strangers(Interactions.from_arrays([1], [1]), Interactions.from_arrays([2], [1]))
    """
    shared = shared_users(trained_on, audited)
    if len(shared):
        raise ConfigError(
            f"reference models must be trained on people who are not audited; {len(shared)} of {audited.n_users} "
            f"audited users are among the {trained_on.n_users} to train on, the first is {shared[0]}; audit with "
            "split = 'users'"
        )


def shadow_halves(audited: Interactions, n_shadows: int, seed: int) -> list[Side]:
    """Return the sides of the shadow models: complementary random halves of the audited users.

    >>> from recmia.data.interactions import Interactions
    >>> first, second = shadow_halves(Interactions.from_arrays([1, 2], [1, 2]), 2, seed=0)
    >>> bool((first.member != second.member).all())
    True
    """
    rngs = [streams.pool_members(seed, s) for s in range(n_shadows)]
    return [Side(audited, row) for row in draw_shadow_members(audited.n_users, rngs)]


class _Builder:
    """Makes the tasks of a seed, each once, because a task caches its keys, which are slow to compute."""

    def __init__(self, setup: Setup, seed: int) -> None:
        self._setup, self._seed = setup, seed
        self._made: dict[tuple[Any, ...], Task] = {}
        self._drawn: dict[str, Queries] = {}

    def task(
        self,
        recommender: RecommenderSpec,
        side: Side,
        regime: Regime | None,
        path: streams.Path,
        *,
        item_vectors: bool = False,
        depth: int = 0,
        queries: Queries | None = None,
    ) -> Task:
        made = (regime, path, item_vectors, depth, queries is None)
        if made not in self._made:
            settings = self._setup.settings
            serving = settings.serving
            task = Task(
                recommender, recommender.used(settings.recommenders), side, regime, settings.k, serving.exclude_seen,
                serving.alpha, path, item_vectors, depth=depth, queries=queries,
            )  # fmt: skip
            for defence in self._setup.defences:
                task = defence.change(task)
            self._made[made] = task
        return self._made[made]

    def queries(self, known: Interactions, side: str) -> Queries | None:
        """Return the queries about the users of a side; None if nothing is asked."""
        attacker = self._setup.settings.attacker
        if not any(spec.asks and not spec.rule for spec in self._setup.attacks):
            return None
        if side not in self._drawn:
            rng = streams.queries(self._seed, side)
            if self._setup.asks_prefixes:
                self._drawn[side] = draw_prefixes(known, attacker.queries, rng)
            else:
                self._drawn[side] = draw_queries(known, attacker.queries, attacker.query_share, rng)
        return self._drawn[side]

    def references(
        self,
        trained_on: Interactions,
        queries: Queries | None,
        about: Interactions,
        level: Knowledge,
        side: str,
        k: int = 0,
    ) -> tuple[Task | Int32, ...]:
        """Return the reference models that answer the queries about some users, trained on all of some others."""
        settings, made = self._setup.settings, []
        everybody = Side(trained_on, np.ones(trained_on.n_users, np.bool_))
        for recommender in self._setup.references:
            path = streams.reference_path(self._seed, level, side, recommender.name)
            if (None, path) not in self._made:
                self._made[None, path] = Task(
                    recommender, recommender.used(settings.recommenders), everybody, None, k or settings.k,
                    settings.serving.exclude_seen, settings.serving.alpha, path, queries=queries, asked_of=about.users,
                )  # fmt: skip
            made.append(self._made[None, path])
        return tuple(made)


def _depth(settings: AnyAuditSettings, n_systems: int, side: Side) -> int:
    """Return the length of the lists of a pool: shorter than wanted where they would take too much memory."""
    wanted = settings.attacker.depth or _TIMES_K * settings.k
    return max(settings.k, min(wanted, _MOST_LISTED // max(1, n_systems * side.interactions.n_users)))


def _split(settings: AuditSettings, interactions: Interactions, seed: int, draws: MutableMapping[Any, Any]) -> Split:
    game, most, share = settings.game, settings.data.max_users, settings.serving.member_share
    public = settings.knowledge.item_vectors == "public"
    sampled = most if 0 < most < interactions.n_users else None
    drawn_by = (interactions.fingerprint(), sampled, game.split, share, public, seed)
    if drawn_by not in draws:
        candidates = interactions
        if sampled is not None:
            users = streams.users(seed).choice(interactions.n_users, sampled, replace=False)
            candidates = interactions.restrict(np.sort(users))
        try:
            draws[drawn_by] = split_game(
                candidates, unit=game.split, member_share=share, public=public, rng=streams.split(seed)
            )
        except TooFewUsersError as error:
            if settings.data.min_interactions == 1:
                raise
            words = f"{error}, or lower min_interactions (--min-interactions)"
            raise TooFewUsersError(words, error.estimate) from None
    split: Split = draws[drawn_by]
    return split


def _shadow_side(
    level: Knowledge, shadow: Side, black_box: Interactions | None, member_share: float, seed: int
) -> Side:
    if level != "black-box":
        return shadow
    known, data = shadow.interactions, black_box
    if data is None:
        data = synthetic_population(known, known.n_users, rng=streams.black_box_users(seed))
    return Side(data, draw_members(data.n_users, member_share, streams.black_box_members(seed)))


def _pool_sides(level: Knowledge, audited: Interactions, own: Side, n_shadows: int, seed: int) -> list[Side]:
    if level != "black-box":
        # Where only some are audited, shadow models are as large as the target: the attacker's own people fill them up.
        return [replace(half, others=own.others) for half in shadow_halves(audited, n_shadows, seed)]
    both, never = join_users(own.interactions, audited), np.zeros(audited.n_users, np.bool_)
    halves = shadow_halves(own.interactions, n_shadows, seed)
    return [Side(both, np.concatenate([side.member, never])) for side in halves]


def _audited(settings: AuditSettings, split: Split, seed: int) -> tuple[Side, Side]:
    """Return the target and the shadow side with the users who are audited, and with whom the attacker learns.

    Raises
    ------
    ConfigError, TooFewUsersError
        If the split shares users, who would be audited and among the attacker's own, or `n_audited` is too small.
    """
    n = settings.game.n_audited
    if not n or n >= split.target.interactions.n_users:
        return split.target, split.shadow
    if split.unit != "users":
        raise ConfigError(
            f"n_audited parts the audited users from others, and split = {split.unit!r} gives all users to both sides; "
            "take split = 'users', or max_users for a smaller game"
        )
    share = min(settings.serving.member_share, 1 - settings.serving.member_share)
    needed = int(np.ceil(MIN_PER_CLASS / share))
    if n < needed:
        raise TooFewUsersError(
            f"n_audited = {n} is too few: {needed} are needed for {MIN_PER_CLASS} members and as many non-members",
            estimate=needed,
        )
    target = split.target.sample(n, streams.sample(seed, "target"))
    shadow = split.shadow.sample(min(n, split.shadow.interactions.n_users), streams.sample(seed, "shadow"))
    return target, shadow


def work_units(plans: Sequence[Plan]) -> int:
    """Return the units of work of plans, for reports of progress: one for each task, and one for the attacks."""
    return sum(len(plan.tasks) + 1 for plan in plans)


def needed(plan: Plan, store: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the arrays in the store that the attackers of a plan need."""
    return {key: dict(store[key]) for task in plan.tasks for key in task.keys}


def servings(plan: Plan) -> Iterator[tuple[str, int, System]]:
    """Return the regime, the number and the system of each target, each once."""
    done = set()
    for section in plan.sections:
        for number, system in enumerate(section.targets):
            if (section.regime, number) not in done:
                done.add((section.regime, number))
                yield section.regime, number, system

"""Games, one a seed: what has to be trained for them, and what the attackers make of the lists.

Every attacker sees observations only. What it may build them from is its level of knowledge:

==========  ==========================================  ==========================================
level       shadow users                                item vectors
==========  ==========================================  ==========================================
black-box   drawn from public statistics                of the drawn users
grey-box    the shadow side                             as `AuditConfig.item_vectors` says
white-box   the shadow side                             the target's own
==========  ==========================================  ==========================================

Attacks with many shadow models train them on random halves of the audited users, whose histories are known to all; in
the black box on halves of the drawn users, so that the audited users are out of training in every one.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from threadpoolctl import threadpool_limits

from recmia.attacks import (
    BASELINES,
    POOL_ATTACKS,
    SHADOW_FREE,
    Attack,
    Baseline,
    VectorClassifier,
    run_attack,
    run_pool_attack,
)
from recmia.config import AuditConfig, Knowledge
from recmia.errors import ConfigError, RecmiaError
from recmia.factorization import factorize
from recmia.game import (
    Regime,
    Side,
    Split,
    draw_members,
    draw_shadow_members,
    hold_out,
    join_users,
    split_game,
    synthetic_population,
)
from recmia.interactions import Int32, Interactions
from recmia.observation import ShadowPool
from recmia.parallel import run_calls
from recmia.provenance import peak_memory
from recmia.recommenders import Own, RecommenderSettings, used_settings
from recmia.seeding import rng_for
from recmia.training import Store, Task, digest, run_tasks
from recmia.utility import average_precision, coverage, ndcg, novelty, recall
from recmia.vectors import AttackerView

# Utility is that of the first so many items.
UTILITY_AT = 10

Lists = Mapping[str, Mapping[str, npt.NDArray[Any]]]


@dataclass(frozen=True, eq=False)
class Play:
    """What one seed brought.

    Parameters
    ----------
    seed : int
    scores : polars.DataFrame
        See `recmia.audit.AuditResult`.
    users : polars.DataFrame
        The audited users: seed, user_id, history_length, rarity (mean of -log of the share of users who know the item).
    utility : polars.DataFrame
        See `recmia.audit.AuditResult`.
    notes : dict
        What the attacker could not know.
    seconds : float
    peak_memory : int
    """

    seed: int
    scores: pl.DataFrame
    users: pl.DataFrame
    utility: pl.DataFrame
    notes: dict[str, Any]
    seconds: float
    peak_memory: int


@dataclass(frozen=True, eq=False)
class Served:
    """A side, and the lists that its users were given by whatever system: int32, shape (n_users, k), -1 pads."""

    side: Side
    lists: Int32


@dataclass(frozen=True, eq=False)
class Evidence:
    """What an attacker has to go on, however it was made.

    Parameters
    ----------
    views : list of AttackerView
        How each target is seen; the same for all unless the attacker knows the target's item vectors.
    targets : list of Served
        Systems that serve the same users. Who is a member is passed on to the scores, and to no attack.
    shadow : Served or None
        The attacker's own system. Without one, no attack that learns can be run, and no threshold chosen.
    pool : list of Served
        Shadow systems that serve the audited users, after users of the attacker's own if there are any.
    """

    views: list[AttackerView]
    targets: list[Served]
    shadow: Served | None
    pool: list[Served]


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores that one attack gave to the first users of a side: float64, shape (n,)."""

    role: str
    run: int
    attack: str
    side: Side
    score: npt.NDArray[np.float64]

    def frame(self, level: Knowledge, regime: str) -> pl.DataFrame:
        """The scores as rows."""
        n = len(self.score)
        # Drawn users have no ids.
        drawn = self.role == "shadow" and level == "black-box"
        ids = self.side.interactions.users.ids[:n]
        frame = pl.DataFrame({"user_id": ids, "member": self.side.member[:n], "score": self.score})
        return frame.with_columns(
            pl.lit(None).alias("user_id") if drawn else pl.col("user_id"),
            pl.lit(level).alias("knowledge"),
            pl.lit(self.role).alias("side"),
            pl.lit(self.run, pl.Int64).alias("run"),
            pl.lit(regime).alias("regime"),
            pl.lit(self.attack).alias("attack"),
        )


class Game:
    """The draws of one seed, and the tasks that follow from them.

    Parameters
    ----------
    config : AuditConfig
    interactions : Interactions
        Of all candidates.
    seed : int
    black_box : Interactions, optional
        Of the black-box attacker, over the same items; else its users are drawn.
    splits : dict
        Draws that were made before; games that share one do not make it again.
    own : mapping of str to Own
        The user's recommenders, by the names that the settings have for them.
    """

    def __init__(
        self,
        config: AuditConfig,
        interactions: Interactions,
        seed: int,
        black_box: Interactions | None = None,
        splits: dict[Any, Any] | None = None,
        own: Mapping[str, Own] = MappingProxyType({}),
    ) -> None:
        self.config, self.seed, self._own = config, seed, dict(own)
        splits = {} if splits is None else splits
        self._held_out: Interactions | None = None
        if config.held_out:
            parted_by = (interactions.fingerprint(), config.held_out, seed)
            if parted_by not in splits:
                splits[parted_by] = hold_out(interactions, config.held_out, rng_for(seed, "held out"))
            interactions, self._held_out = splits[parted_by]
        public = config.item_vectors == "public"
        sampled = config.max_users if 0 < config.max_users < interactions.n_users else None
        drawn_by = (interactions.fingerprint(), sampled, config.split, config.member_share, public, seed)
        if drawn_by not in splits:
            candidates = interactions
            if sampled is not None:
                users = rng_for(seed, "users").choice(interactions.n_users, sampled, replace=False)
                candidates = interactions.restrict(np.sort(users))
            rng = rng_for(seed, "split")
            splits[drawn_by] = split_game(
                candidates, unit=config.split, member_share=config.member_share, public=public, rng=rng
            )
        self.split: Split = splits[drawn_by]
        audited = self.split.target.interactions
        again = range(1, config.targets)
        members = [draw_members(audited.n_users, config.member_share, rng_for(seed, "members", t)) for t in again]
        self.targets = [self.split.target, *(Side(audited, member) for member in members)]
        self.shadows: dict[Knowledge, Side] = {level: self._shadow_side(level, black_box) for level in config.knowledge}
        self.pools: dict[Knowledge, list[Side]] = {}
        if config.pool_attacks:
            self.pools = {level: self._pool_sides(level) for level in config.knowledge}
        self._all = interactions
        self._tasks: dict[tuple[Regime, tuple[str | int, ...]], Task] = {}

    def _shadow_side(self, level: Knowledge, black_box: Interactions | None) -> Side:
        if level != "black-box":
            return self.split.shadow
        known = self.split.shadow.interactions
        data = black_box
        if data is None:
            data = synthetic_population(known, known.n_users, rng=rng_for(self.seed, "black-box"))
        member = draw_members(data.n_users, self.config.member_share, rng_for(self.seed, "black-box", "members"))
        return Side(data, member)

    def _pool_sides(self, level: Knowledge) -> list[Side]:
        config, audited = self.config, self.split.target.interactions
        trained_on = audited if level != "black-box" else self.shadows[level].interactions
        rngs = [rng_for(self.seed, "pool", s, "members") for s in range(config.shadows)]
        member = draw_shadow_members(trained_on.n_users, rngs)
        if level != "black-box":
            return [Side(audited, row) for row in member]
        both, never = join_users(trained_on, audited), np.zeros(audited.n_users, np.bool_)
        return [Side(both, np.concatenate([row, never])) for row in member]

    @property
    def data(self) -> list[Interactions]:
        """All interactions that the game refers to."""
        sides = [*self.targets, *self.shadows.values(), *(side for pool in self.pools.values() for side in pool)]
        public = [] if self.split.public is None else [self.split.public]
        return [self._all, self.split.shadow.interactions, *public, *(side.interactions for side in sides)]

    @property
    def tasks(self) -> list[Task]:
        """All that has to be trained and served."""
        config = self.config
        levels = config.knowledge
        tasks = []
        for regime in config.regimes:
            tasks += [self._target_task(t, regime) for t in range(config.targets)]
            tasks += [self._shadow_task(level, regime) for level in levels]
            tasks += [self._pool_task(level, s, regime) for level in self.pools for s in range(config.shadows)]
        return tasks

    def _target_task(self, t: int, regime: Regime) -> Task:
        path = (self.seed, "target", t) if t else (self.seed, "target")
        white = "white-box" in self.config.knowledge
        return self._task(self.config.target, self.targets[t], regime, path, item_vectors=white)

    def _shadow_task(self, level: Knowledge, regime: Regime) -> Task:
        path = (self.seed, "shadow", level) if level == "black-box" else (self.seed, "shadow")
        return self._task(self.config.shadow, self.shadows[level], regime, path)

    def _pool_task(self, level: Knowledge, s: int, regime: Regime) -> Task:
        path = (self.seed, "pool", level, s) if level == "black-box" else (self.seed, "pool", s)
        return self._task(self.config.shadow, self.pools[level][s], regime, path)

    def _task(
        self, name: str, side: Side, regime: Regime, path: tuple[str | int, ...], item_vectors: bool = False
    ) -> Task:
        config = self.config
        # Made once: a task remembers its keys, which take a while to digest.
        if (regime, path) not in self._tasks:
            task = Task(name, config, side, regime, config.k, config.exclude_seen, config.alpha, path, item_vectors)
            task = replace(task, own=self._own.get(name))
            for defence in config.defences:
                task = defence.change(task)
            self._tasks[regime, path] = task
        return self._tasks[regime, path]

    @cached_property
    def key(self) -> str:
        """Digest of all that the scores depend on."""
        config = self.config
        names = (config.target, config.shadow, "lfm")
        tables = {name: used_settings(self._own.get(name, name), config) for name in names}
        elsewhere = {*RecommenderSettings.model_fields, "dataset", "black_box_data", "columns", "seeds", "seed"}
        return digest(
            {
                "data": self._all.fingerprint(),
                "shadows": {level: side.interactions.fingerprint() for level, side in self.shadows.items()},
                "seed": self.seed,
                "recommenders": tables,
                **config.model_dump(mode="json", exclude=elsewhere),
            }
        )

    def needed(self, store: Lists) -> dict[str, dict[str, npt.NDArray[Any]]]:
        """Take from the store what this game needs."""
        return {key: dict(store[key]) for task in self.tasks for key in task.keys}

    def play(self, store: Lists, threads: int = 1) -> Play:
        """Attack, once all tasks are in the store."""
        started = time.perf_counter()
        # One BLAS thread: sums then come out alike however many workers there are.
        with threadpool_limits(1):
            frames: list[pl.DataFrame] = []
            notes: dict[str, Any] = {}
            for level in self.config.knowledge:
                views = self._views(level, store, threads)
                for regime in self.config.regimes:
                    evidence = self.evidence(level, regime, views, store)
                    scored = attack(evidence, self.config, self.seed, level, regime, notes)
                    frames += [one.frame(level, regime) for one in scored]
        scores = join_scores(frames, self.seed)
        users = describe_users(self.split.target.interactions, [self._all], self.seed)
        utility = pl.DataFrame()
        if self._held_out is not None:
            lists = {
                (regime, t): store[self._target_task(t, regime).key]["lists"]
                for regime in self.config.regimes
                for t in range(self.config.targets)
            }
            utility = pl.concat(self._utility(regime, t, shown, self._held_out) for (regime, t), shown in lists.items())
        return Play(self.seed, scores, users, utility, notes, time.perf_counter() - started, peak_memory())

    def _utility(self, regime: Regime, t: int, lists: Int32, held_out: Interactions) -> pl.DataFrame:
        """What the lists of a target are worth to its users; those without a held-out item are left out."""
        side = self.targets[t]
        place = np.searchsorted(self._all.users.ids, side.interactions.users.ids)
        wanted = held_out.csr()[place]
        judged = np.diff(wanted.indptr) > 0
        # A list that is shorter than the cut-off is one that ends early.
        first = np.full((len(lists), UTILITY_AT), -1, np.int32)
        first[:, : lists.shape[1]] = lists[:, :UTILITY_AT]
        popularity = self._all.item_counts()
        frames = []
        for group, users in (
            ("all", judged),
            ("members", judged & side.member),
            ("non-members", judged & ~side.member),
        ):
            if not users.any():
                raise ConfigError(f"held_out leaves nothing to measure with: {group} have one interaction each")
            shown = first[users], wanted[users], UTILITY_AT
            values = {
                "ndcg": ndcg(*shown), "recall": recall(*shown), "map": average_precision(*shown),
                "novelty": novelty(first[users], popularity, self._all.n_users, UTILITY_AT),
            }  # fmt: skip
            covered = coverage(first[users], int((popularity > 0).sum()), UTILITY_AT)
            rows = [(name, *_mean_interval(value)) for name, value in values.items()]
            rows.append(("coverage", covered, covered, covered))
            frames.append(
                pl.DataFrame(rows, ["metric", "value", "low", "high"], orient="row").select(
                    pl.lit(self.seed, pl.Int64).alias("seed"),
                    pl.lit(t, pl.Int64).alias("run"),
                    pl.lit(regime).alias("regime"),
                    pl.lit(group).alias("users"),
                    pl.col("metric") + f"@{UTILITY_AT}",
                    "value", "low", "high",
                )
            )  # fmt: skip
        return pl.concat(frames)

    def _views(self, level: Knowledge, store: Lists, threads: int) -> list[AttackerView]:
        """How the attacker sees each target; the same for all unless it knows the target's item vectors."""
        config, shadow = self.config, self.shadows[level].interactions
        if level == "white-box":
            tasks = [self._target_task(t, config.regimes[0]) for t in range(config.targets)]
            return [
                AttackerView(
                    store[task.vectors_key]["item_vectors"].astype(np.float64),
                    task.side.training_data().item_counts() > 0,
                    shadow.item_counts(),
                    config.rank_weights,
                )
                for task in tasks
            ]
        sources = {"shadow": shadow, "public": self.split.public, "all": self._all}
        source = shadow if level == "black-box" else sources[config.item_vectors]
        assert source is not None, "split_game sets the public part aside when it is asked for"
        names = ("item vectors", level) if level == "black-box" else ("item vectors",)
        factors = factorize(source, config.lfm, l=config.l, rng=rng_for(self.seed, *names), threads=threads)
        return [AttackerView.of(factors, shadow, config.rank_weights)] * config.targets

    def evidence(self, level: Knowledge, regime: Regime, views: list[AttackerView], store: Lists) -> Evidence:
        """What the attacker has to go on, once all tasks are in the store."""
        config = self.config

        def served(task: Task) -> Served:
            return Served(task.side, store[task.key]["lists"])

        return Evidence(
            views=views,
            targets=[served(self._target_task(t, regime)) for t in range(config.targets)],
            shadow=served(self._shadow_task(level, regime)),
            pool=[served(self._pool_task(level, s, regime)) for s in range(config.shadows) if level in self.pools],
        )


def _mean_interval(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean over users with its 95% interval, by the normal approximation."""
    mean, half = float(values.mean()), 1.96 * float(values.std() / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def attack(
    evidence: Evidence, config: AuditConfig, seed: int, level: Knowledge, regime: Regime, notes: dict[str, Any]
) -> list[Scored]:
    """Run all attacks of an audit on what an attacker of one level has to go on in one regime.

    Parameters
    ----------
    evidence : Evidence
    config : AuditConfig
    seed : int
    level : {"black-box", "grey-box", "white-box"}
    regime : str
        That the shadows were served under. Level and regime are in the names of the random streams.
    notes : dict
        Gets what the attacker could not know.

    Returns
    -------
    list of Scored
    """
    scored = _attack_vectors(evidence, config, seed, level, regime, notes)
    if config.pool_attacks:
        scored += _attack_lists(evidence, config, seed, level, regime, notes)
    return scored


def _attack_vectors(
    evidence: Evidence, config: AuditConfig, seed: int, level: Knowledge, regime: Regime, notes: dict[str, Any]
) -> list[Scored]:
    """The attacks over vectors and the baselines: one shadow model, or none, and every target."""
    views, shadow = evidence.views, evidence.shadow
    targets = [
        view.observe(one.side.interactions, one.lists) for view, one in zip(views, evidence.targets, strict=True)
    ]
    if level == config.knowledge[0]:
        history_share, list_share = views[0].unknown_shares(targets[0])
        notes[regime] = {
            "unknown_history_share": history_share,
            "unknown_list_share": list_share,
            "users_without_vector": int((~targets[0].has_vector).sum()),
        }
    # Views that differ by target have shadow observations that do, too, and an attack for each.
    n_targets = len(targets)
    groups = [range(n_targets)] if level != "white-box" else [range(t, t + 1) for t in range(n_targets)]
    scored = []
    for group in groups:
        # What learns nothing can be fitted on anyone.
        observed = targets[group[0]], np.zeros(len(targets[group[0]]), np.bool_)
        if shadow is not None:
            observed = views[group[0]].observe(shadow.side.interactions, shadow.lists), shadow.side.member
        for name, make in _vector_attacks(config).items():
            if shadow is None and make().learns:
                raise ConfigError(f"the attack {name} learns on a shadow system, and there is none")
            names = ("attack", regime, name) if level == "grey-box" else ("attack", regime, name, level)
            shadow_scores, target_scores = run_attack(
                make,
                *observed,
                [targets[t] for t in group],
                rng=rng_for(seed, *names),
                score_shadow=config.thresholds and shadow is not None,
            )
            for t, score in zip(group, target_scores, strict=True):
                scored.append(Scored("target", t, name, evidence.targets[t].side, score))
            # Against several targets with views of their own, the shadow's scores of the first stand for all.
            if group[0] == 0 and config.thresholds and shadow is not None:
                scored.append(Scored("shadow", 0, name, shadow.side, shadow_scores))
    return scored


def _vector_attacks(config: AuditConfig) -> dict[str, Callable[[], Attack]]:
    attacks: dict[str, Callable[[], Attack]] = {}
    for name in config.vector_attacks:
        attacks[name] = SHADOW_FREE.get(name) or partial(VectorClassifier, name, config.mlp)
    return attacks | {name: partial(Baseline, name) for name in BASELINES}


def _attack_lists(
    evidence: Evidence, config: AuditConfig, seed: int, level: Knowledge, regime: Regime, notes: dict[str, Any]
) -> list[Scored]:
    """The attacks with many shadow models."""
    sides, audited = [one.side for one in evidence.pool], evidence.targets[0].side.interactions
    pool = ShadowPool(
        np.stack([one.lists for one in evidence.pool]), np.stack([side.member for side in sides]), audited.n_items
    )
    # In the black box, the attacker's own users stand before the audited ones.
    own = pool.n_users - audited.n_users
    shown: Int32 = np.full((len(evidence.targets), *pool.lists.shape[1:]), -1, np.int32)
    for t, target in enumerate(evidence.targets):
        shown[t, own:] = target.lists
    scored = []
    for name in config.pool_attacks:
        rng = rng_for(seed, "attack", regime, name, level)
        shadow_scores, target_scores = run_pool_attack(POOL_ATTACKS[name], pool, shown, rng=rng)
        for t, score in enumerate(target_scores):
            scored.append(Scored("target", t, name, evidence.targets[t].side, score[own:]))
        for s, score in enumerate(shadow_scores):
            scored.append(Scored("shadow", s, name, sides[s], score[:own] if own else score))
    n_in = pool.member[:, own:].sum(axis=0)
    notes.setdefault("offline_users", {})[level] = int(((n_in == 0) | (n_in == len(pool))).sum())
    return scored


def describe_users(audited: Interactions, everyone: Sequence[Interactions], seed: int) -> pl.DataFrame:
    """Length and rarity of the histories of audited users, see `Play`; shares are of the users of `everyone`."""
    n_users = sum(part.n_users for part in everyone)
    counts = np.sum([part.item_counts() for part in everyone], axis=0)
    rarity = -np.log(np.maximum(counts / n_users, 1 / n_users))[audited.item]
    lengths = np.bincount(audited.user, minlength=audited.n_users)
    total = np.bincount(audited.user, rarity, minlength=audited.n_users)
    return pl.DataFrame(
        {
            "seed": np.full(audited.n_users, seed),
            "user_id": audited.users.ids,
            "history_length": lengths,
            "rarity": total / np.maximum(lengths, 1),
        }
    )


def join_scores(frames: Sequence[pl.DataFrame], seed: int) -> pl.DataFrame:
    """All scores of a seed, as `recmia.audit.AuditResult` has them."""
    columns = ("seed", "knowledge", "side", "run", "regime", "attack", "user_id", "member", "score")
    return pl.concat(frames).with_columns(pl.lit(seed, pl.Int64).alias("seed")).select(columns)


def play_games(
    games: Sequence[Game], *, store: Store, jobs: int, report: Callable[[str, int], None]
) -> list[Play | RecmiaError]:
    """Train and serve all that the games need, each model once, and play them.

    Parameters
    ----------
    games : sequence of Game
    store : mutable mapping
        What was computed before is taken from there, scores included; the rest is put there as soon as it is done.
    jobs : int
        Processes; where there is less to do at once, threads. No result depends on it. In a block of
        `recmia.parallel.cluster`, the cluster decides.
    report : callable
        Called with a text and the units of work done since; `work_units` of them in all.

    Returns
    -------
    list
        For each game what it brought, or what went wrong with it.
    """
    plays: list[Play | RecmiaError | None] = [_from_store(game, store) for game in games]
    todo = [number for number, play in enumerate(plays) if play is None]
    report("taking stock", work_units([game for game, play in zip(games, plays, strict=True) if play is not None]))
    tasks = [task for number in todo for task in games[number].tasks]
    failed = run_tasks(
        tasks, store=store, jobs=jobs, done=lambda count: report("training recommenders and serving lists", count)
    )
    ready = []
    for number in todo:
        errors = [failed[key] for task in games[number].tasks for key in task.keys if key in failed]
        if errors:
            plays[number] = errors[0]
            report("attacking", 1)
        else:
            ready.append(number)
    report("attacking", 0)
    results = run_calls(
        _play,
        ((number, games[number], games[number].needed(store)) for number in ready),
        jobs=jobs,
        processes=max(1, min(jobs, len(ready))),
        shared=(interactions for number in ready for interactions in games[number].data),
    )
    for number, play in results:
        plays[number] = play
        if isinstance(play, Play):
            store[games[number].key] = _to_arrays(play)
        report("attacking", 1)
    return [play for play in plays if play is not None]


def work_units(games: Sequence[Game]) -> int:
    """How much there is to report of games that have not been played."""
    return sum(len(game.tasks) + 1 for game in games)


def _play(
    payload: tuple[int, Game, dict[str, dict[str, npt.NDArray[Any]]]], threads: int
) -> tuple[int, Play | RecmiaError]:
    number, game, lists = payload
    try:
        return number, game.play(lists, threads)
    except RecmiaError as error:
        return number, error


def _to_arrays(play: Play) -> dict[str, npt.NDArray[Any]]:
    arrays = {}
    for name, frame in (("scores", play.scores), ("users", play.users), ("utility", play.utility)):
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        arrays[name] = np.frombuffer(buffer.getvalue(), np.uint8)
    about = {"notes": play.notes, "seconds": play.seconds, "peak_memory": play.peak_memory}
    return arrays | {"about": np.array(json.dumps(about))}


def _from_store(game: Game, store: Store) -> Play | None:
    try:
        arrays = store[game.key]
    except KeyError:
        return None
    scores, users, utility = (
        pl.read_parquet(io.BytesIO(arrays[name].tobytes())) for name in ("scores", "users", "utility")
    )
    return Play(game.seed, scores, users, utility, **json.loads(str(arrays["about"])))

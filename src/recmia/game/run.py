"""From plans to the scores of every attack: train and serve what is missing, observe, and attack."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import special
from threadpoolctl import threadpool_limits

from recmia.attacks import Attack, PoolAttack, run_attack, run_pool_attack
from recmia.attacks.interactions import InteractionAttack, checked_interactions
from recmia.attacks.vectors import unknown_shares, user_vectors
from recmia.blas import one_blas_thread
from recmia.data.interactions import Int32
from recmia.engine.parallel import run_calls
from recmia.errors import ConfigError, RecmiaError
from recmia.game import streams
from recmia.game.disclosure import disclosed, disclosure_table, examples
from recmia.game.observe import observe
from recmia.game.plan import Plan, Section, Served, Setup, System, needed, servings, work_units
from recmia.game.queries import hidden_places
from recmia.game.split import Side
from recmia.game.tasks import Store, Task, run_tasks
from recmia.metrics.intervals import CONFIDENCE, share_ends
from recmia.metrics.utility import average_precision, coverage, ndcg, novelty, recall
from recmia.observation import InteractionPool, Items, Queries, ShadowPool, held_out_hits
from recmia.provenance import peak_memory

# Utility is measured on the first items of each list, this many.
UTILITY_AT = 10
# The tables of a play.
_TABLES = ("scores", "users", "utility", "disclosure")

Lists = Mapping[str, Mapping[str, npt.NDArray[Any]]]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Play:
    """The results of one seed.

    Parameters
    ----------
    seed : int
    scores : polars.DataFrame
        See `recmia.results.audit.AuditResult`.
    users : polars.DataFrame
        The audited users: seed, user_id, history_length, rarity (mean of -log of the share of users with the item).
    utility, disclosure : polars.DataFrame
        See `recmia.results.audit.AuditResult`.
    notes : dict
        How much of the data the attackers could not use, by regime.
    seconds : float
    peak_memory : int
    """

    seed: int
    scores: pl.DataFrame
    users: pl.DataFrame
    utility: pl.DataFrame
    disclosure: pl.DataFrame
    notes: dict[str, Any]
    seconds: float
    peak_memory: int


def run_plans(
    plans: Sequence[Plan], *, store: Store, jobs: int, report: Callable[[str, int], None]
) -> list[Play | RecmiaError]:
    """Train and serve all that the plans need, each model once, run their attacks, and return the results.

    Parameters
    ----------
    plans : sequence of Plan
    store : mutable mapping
        Results that were computed before, scores included, are taken from it; new ones are written to it.
    jobs : int
        How much is done at once, see `run_tasks`. Results do not depend on it. In a block of
        `recmia.engine.parallel.cluster`, the cluster decides.
    report : callable
        Called with a text and the units of work done since the last call, `work_units` in total.

    Returns
    -------
    list
        For each plan its `Play`, or its error.
    """
    plays: list[Play | RecmiaError | None] = [_from_store(plan, store) for plan in plans]
    todo = [number for number, play in enumerate(plays) if play is None]
    report("taking stock", work_units([plan for plan, play in zip(plans, plays, strict=True) if play is not None]))
    tasks = [task for number in todo for task in plans[number].tasks]
    failed = run_tasks(
        tasks, store=store, jobs=jobs, done=lambda count: report("training recommenders and serving lists", count)
    )
    ready = []
    for number in todo:
        errors = [failed[key] for task in plans[number].tasks for key in task.keys if key in failed]
        if errors:
            plays[number] = errors[0]
            report("attacking", 1)
        else:
            ready.append(number)
    report("attacking", 0)
    calls = run_calls(
        _play,
        ((number, plans[number], _still_there(plans[number], store)) for number in ready),
        jobs=jobs,
        at_once=max(1, min(jobs, len(ready))),
        shared=(interactions for number in ready for interactions in plans[number].data),
        # Code of the user's may change what all threads share.
        threaded=not any(spec.user_code for number in ready for spec in plans[number].setup.attacks),
    )
    with closing(calls) as results:
        for number, play in results:
            plays[number] = play
            key = plans[number].key
            if isinstance(play, Play) and key is not None:
                store[key] = _to_arrays(play)
            report("attacking", 1)
    return [play for play in plays if play is not None]


def _still_there(plan: Plan, store: Store) -> dict[str, dict[str, Any]]:
    """Return what the attackers of a plan need, though another process may have removed some of it to make room."""
    try:
        return needed(plan, store)
    except KeyError:
        run_tasks(plan.tasks, store=store)
        return needed(plan, store)


def play(plan: Plan, store: Lists, threads: int = 1) -> Play:
    """Return the results of the attacks of a plan, all of whose tasks are in the store."""
    started = time.perf_counter()
    frames: list[pl.DataFrame] = []
    notes: dict[str, Any] = {}
    # With one BLAS thread, sums have the same rounding for any number of workers.
    with one_blas_thread(), threadpool_limits(1, user_api="openmp"):
        items = _items(plan, store, threads)
        for section in plan.sections:
            frames += [one.frame(section) for one in _attack(plan, section, items[section.level], store, notes)]
    of_pairs = ("item_id",) if plan.setup.settings.unit == "interactions" else ()
    columns = ("seed", "knowledge", "side", "run", "regime", "attack", "user_id", *of_pairs, "member", "score")
    scores = pl.concat(frames).with_columns(pl.lit(plan.seed, pl.Int64).alias("seed")).select(columns)
    users = _describe_users(plan)
    utility = pl.DataFrame()
    if plan.held_out is not None:
        utility = pl.concat(
            _utility(plan, regime, number, served(system, store)) for regime, number, system in servings(plan)
        )
    given_away = [] if of_pairs else _disclosure(plan, store, notes)
    disclosure = pl.concat([pl.DataFrame(), *given_away], how="diagonal")
    return Play(plan.seed, scores, users, utility, disclosure, notes, time.perf_counter() - started, peak_memory())


def served(system: System, store: Lists) -> Served:
    """Return what a system served and answered; its task, if it is one, is in the store."""
    if isinstance(system, Served):
        return system
    answers = None if system.queries is None else store[system.answers_key]["answers"]
    return Served(system.side, store[system.key]["lists"], system.queries, answers)


@dataclass(frozen=True, eq=False)
class _Scored:
    """The scores of one attack for the first n users of a side: float64, shape (n,)."""

    role: str
    run: int
    attack: str
    side: Side
    score: Float64
    # Of single interactions: which of the side's each score is about.
    places: npt.NDArray[np.int64] | None = None

    def frame(self, section: Section) -> pl.DataFrame:
        """Return the scores as a table."""
        if self.places is not None:
            assert self.side.trained is not None, "of interactions"
            data = self.side.interactions
            of_pairs = {
                "user_id": data.users.ids[data.user[self.places]],
                "item_id": data.items.ids[data.item[self.places]],
                "member": self.side.trained[self.places],
                "score": self.score,
            }
            return self._named(pl.DataFrame(of_pairs), section)
        n = len(self.score)
        # Users that were drawn have no ids.
        drawn = self.role == "shadow" and section.level == "black-box"
        ids = self.side.interactions.users.ids[:n]
        frame = pl.DataFrame({"user_id": ids, "member": self.side.member[:n], "score": self.score})
        if drawn:
            frame = frame.with_columns(pl.lit(None).alias("user_id"))
        return self._named(frame, section)

    def _named(self, frame: pl.DataFrame, section: Section) -> pl.DataFrame:
        return frame.with_columns(
            pl.lit(section.level).alias("knowledge"),
            pl.lit(self.role).alias("side"),
            pl.lit(self.run, pl.Int64).alias("run"),
            pl.lit(section.regime).alias("regime"),
            pl.lit(self.attack).alias("attack"),
        )


def _items(plan: Plan, store: Lists, threads: int) -> dict[str, list[Items]]:
    """Return the knowledge of the items for each level and target; targets differ for white-box attackers only."""
    settings = plan.setup.settings.recommenders
    found: dict[str, list[Items]] = {}
    for level, source in plan.items.items():
        targets = next(section.targets for section in plan.sections if section.level == level)
        if source.data is not None:
            # A factorisation can take longer than everything else.
            wanted = any(spec.vectors for spec in plan.setup.attacks)
            made = source.items(plan.seed, level, settings, threads) if wanted else source.without_vectors()
            found[level] = [made] * len(targets)
            continue
        found[level] = []
        for task in targets:
            assert not isinstance(task, Served), "files hold no item vectors"
            vectors = store[task.vectors_key]["item_vectors"]
            found[level].append(source.items_of(vectors, task.side.training_data()))
    return found


def _attack(plan: Plan, section: Section, items: list[Items], store: Lists, notes: dict[str, Any]) -> list[_Scored]:
    """Return the scores of all attacks of one level in one regime."""
    if plan.setup.settings.unit == "interactions":
        return _attack_interactions(plan, section, items[0], store, notes)
    scored = _attack_apart(plan, section, items, store, notes)
    if any(spec.needs == "pool" for spec in plan.setup.attacks_in(section.regime)):
        scored += _attack_with_pool(plan, section, items[0], store, notes)
    return scored


def _attack_apart(
    plan: Plan, section: Section, items: list[Items], store: Lists, notes: dict[str, Any]
) -> list[_Scored]:
    """Return the scores of the attacks with one shadow system or none, and of the rules, on every target."""
    setup, level = plan.setup, section.level
    attacker = setup.settings.attacker
    targets = [served(one, store) for one in section.targets]
    shadow = None if section.shadow is None else served(section.shadow, store)
    # Twins of the targets come first, that of the shadow last.
    twins: list[Int32 | None] = [store[task.key]["lists"] for task in section.twins]
    twins = twins or [None] * (len(targets) + 1)
    asking = [
        observe(plan.known, one.lists, own, **_asked(one, section.references, store), as_stranger=twin)
        for one, own, twin in zip(targets, items, twins[:-1], strict=True)
    ]
    # Answers are only for attacks that are said to ask.
    seen = [one.looking_only() for one in asking]
    if level == setup.settings.levels[0]:
        if any(spec.vectors for spec in setup.attacks):
            history_share, list_share = unknown_shares(seen[0])
            notes[section.regime] = {
                "unknown_history_share": history_share,
                "unknown_list_share": list_share,
                "users_without_vector": int((~user_vectors(seen[0], attacker.rank_weights).usable).sum()),
            }
        if asking[0].queries is not None:
            notes["asked"] = _about_queries(asking[0].queries, len(seen[0]), setup)
    # A white-box attacker has other item vectors for each target, so its shadow observations and fits differ, too.
    n_targets, scored = len(seen), []
    groups = [range(n_targets)] if level != "white-box" else [range(t, t + 1) for t in range(n_targets)]
    score_shadow = attacker.thresholds and shadow is not None
    for group in groups:
        # An attack that needs no shadow system can be fitted on any users.
        fitted_on, member = asking[group[0]], np.zeros(len(seen[group[0]]), np.bool_)
        if shadow is not None:
            asked = _asked(shadow, section.shadow_references, store)
            fitted_on = observe(shadow.side.interactions, shadow.lists, items[group[0]], **asked, as_stranger=twins[-1])
            member = shadow.side.member
        looked_at = fitted_on.looking_only()
        for spec in setup.attacks_in(section.regime):
            if spec.needs == "pool":
                continue
            if shadow is None and spec.needs == "shadow":
                raise ConfigError(f"the attack {spec.name} learns on a shadow system, and there is none")
            # Of a shadow system from files there are no answers.
            scores_shadow = score_shadow and (not spec.asks or fitted_on.queries is not None)
            shadow_scores, target_scores = run_attack(
                cast(Callable[[], Attack], partial(spec.make, _options(setup))),
                fitted_on if spec.asks else looked_at,
                member,
                [(asking if spec.asks else seen)[t] for t in group],
                rng=streams.attack(plan.seed, section.stream, spec.name, level, pool=False),
                score_shadow=scores_shadow,
            )
            for t, score in zip(group, target_scores, strict=True):
                scored.append(_Scored("target", t, spec.name, targets[t].side, score))
            # With item vectors for each target, the shadow scores of the first target are used for all.
            if group[0] == 0 and scores_shadow and shadow is not None:
                scored.append(_Scored("shadow", 0, spec.name, shadow.side, shadow_scores))
    return scored


def _about_queries(queries: Queries, n_users: int, setup: Setup) -> dict[str, Any]:
    """Return how many queries were put to each system, and how many users could be asked about less, or not at all."""
    each, attacker = np.bincount(queries.user, minlength=n_users), setup.settings.attacker
    return {
        "queries": len(queries),
        **({"kind": "prefixes"} if setup.asks_prefixes else {"kind": "parts", "share": attacker.query_share}),
        "users_asked_about_less_often": int(((each > 0) & (each < attacker.queries)).sum()),
        "users_not_asked_about": int((each == 0).sum()),
    }


def _asked(one: Served, references: Sequence[Task | Int32], store: Lists) -> dict[str, Any]:
    """Return queries and answers of a system, and of reference models, as `observe` takes them."""
    answered = [store[one.answers_key]["answers"] if isinstance(one, Task) else one for one in references]
    return {
        "queries": one.queries,
        "answers": one.answers,
        "references": np.stack(answered) if answered else None,
    }


def _attack_with_pool(plan: Plan, section: Section, items: Items, store: Lists, notes: dict[str, Any]) -> list[_Scored]:
    """Return the scores of the attacks with many shadow models."""
    level, audited = section.level, plan.audited
    shadows = [served(one, store) for one in section.pool]
    targets = [served(one, store) for one in section.targets]
    sides, queries, k = [one.side for one in shadows], shadows[0].queries, targets[0].lists.shape[1]
    deep = [one.lists for one in shadows]
    pool = ShadowPool(
        sides[0].interactions.csr(),
        np.stack([lists[:, :k] for lists in deep]),
        np.stack([side.member for side in sides]),
        items,
        deep=deep if deep[0].shape[1] > k else None,
        queries=queries,
        answers=None if queries is None else [one.answers for one in shadows if one.answers is not None],
    )
    # For a black-box attacker, its own users come before the audited ones, and so do the queries about them.
    own = pool.n_users - audited.n_users
    seen = []
    for target in targets:
        answers: Int32 | None = None
        if pool.answers is not None and target.answers is not None:
            answers = _from_below(target.answers, len(pool.answers[0]))
        seen.append(pool.observe(_from_below(target.lists, pool.n_users), answers))
    views = {True: (pool, seen), False: (pool.looking_only(), [one.looking_only() for one in seen])}
    scored = []
    for spec in plan.setup.attacks_in(section.regime):
        if spec.needs != "pool":
            continue
        rng = streams.attack(plan.seed, section.stream, spec.name, level, pool=True)
        make = cast(Callable[[], PoolAttack], partial(spec.make, _options(plan.setup)))
        shadow_scores, target_scores = run_pool_attack(make, *views[spec.asks], rng=rng)
        for t, score in enumerate(target_scores):
            scored.append(_Scored("target", t, spec.name, section.targets[t].side, score[own:]))
        for s, score in enumerate(shadow_scores):
            scored.append(_Scored("shadow", s, spec.name, sides[s], score[:own] if own else score))
    n_in = pool.member[:, own:].sum(axis=0)
    notes.setdefault("offline_users", {})[level] = int(((n_in == 0) | (n_in == len(pool))).sum())
    return scored


def _from_below(lists: Int32, n: int) -> Int32:
    """Return n lists, of which these are the last, and the others empty; not a copy where there are no others."""
    if len(lists) == n:
        return lists
    whole: Int32 = np.full((n, lists.shape[1]), -1, np.int32)
    whole[n - len(lists) :] = lists
    return whole


def _attack_interactions(
    plan: Plan, section: Section, items: Items, store: Lists, notes: dict[str, Any]
) -> list[_Scored]:
    """Return the scores of the audited interactions."""
    setup, audited = plan.setup, plan.audited
    targets = [served(one, store) for one in section.targets]
    queries = targets[0].queries
    assert queries is not None, "every interaction is hidden once"
    places = hidden_places(audited, queries)
    asking = [observe(audited, one.lists, items, **_asked(one, section.references, store)) for one in targets]
    lengths = np.bincount(audited.user, minlength=audited.n_users)
    notes["asked"] = {
        "queries": len(queries),
        "blocks": setup.settings.attacker.blocks,
        "users_with_fewer_blocks": int(((lengths > 1) & (lengths < setup.settings.attacker.blocks)).sum()),
        "users_not_asked_about": int((lengths == 1).sum()),
    }
    scored = []
    for spec in setup.attacks_in(section.regime):
        rng = streams.attack(plan.seed, section.stream, spec.name, section.level, pool=spec.needs == "pool")
        attack = cast(InteractionAttack, spec.make(_options(setup)))
        if spec.needs == "pool":
            sides = [one.side.trained for one in section.pool]
            pool = InteractionPool(
                queries,
                np.stack([store[one.answers_key]["answers"] for one in section.pool if isinstance(one, Task)]),
                np.stack([trained[places] for trained in sides if trained is not None]),
                items,
            )
            attack = attack.fit(pool, rng=rng)
        for t, seen in enumerate(asking):
            score = checked_interactions(attack, seen)
            scored.append(_Scored("target", t, spec.name, targets[t].side, score, places))
    return scored


def _options(setup: Setup) -> dict[str, Any]:
    """Return the attacker's settings as plain values, from which attacks are made."""
    options: dict[str, Any] = setup.settings.attacker.model_dump()
    return options


def _utility(plan: Plan, regime: str, number: int, target: Served) -> pl.DataFrame:
    """Return the utility of the lists of a target; users without a held-out item are left out."""
    everyone, side, lists = plan.everyone[0], target.side, target.lists
    assert plan.held_out is not None
    place = np.searchsorted(everyone.users.ids, side.interactions.users.ids)
    wanted = plan.held_out.csr()[place]
    judged = np.diff(wanted.indptr) > 0
    # Lists that are shorter than the cut-off are padded.
    first = np.full((len(lists), UTILITY_AT), -1, np.int32)
    first[:, : lists.shape[1]] = lists[:, :UTILITY_AT]
    popularity = everyone.item_counts()
    frames = []
    groups = {"all": judged, "members": judged & side.member, "non-members": judged & ~side.member}
    if side.trained is not None:
        # A part of everybody's history was trained on.
        del groups["members"], groups["non-members"]
    for group, users in groups.items():
        if not users.any():
            raise ConfigError(f"held_out leaves nothing to measure with: {group} have one interaction each")
        hits = held_out_hits(first[users], wanted[users], UTILITY_AT)
        values = {
            "ndcg": ndcg(*hits), "recall": recall(*hits), "map": average_precision(*hits),
            "novelty": novelty(first[users], popularity, everyone.n_users, UTILITY_AT),
        }  # fmt: skip
        covered = coverage(first[users], int((popularity > 0).sum()), UTILITY_AT)
        rows = [(name, *_mean_interval(value)) for name, value in values.items()]
        rows.append(("coverage", covered, covered, covered))
        frames.append(
            pl.DataFrame(rows, ["metric", "value", "low", "high"], orient="row").select(
                pl.lit(plan.seed, pl.Int64).alias("seed"),
                pl.lit(number, pl.Int64).alias("run"),
                pl.lit(regime).alias("regime"),
                pl.lit(group).alias("users"),
                pl.col("metric") + f"@{UTILITY_AT}",
                "value", "low", "high",
            )
        )  # fmt: skip
    return pl.concat(frames)


def _disclosure(plan: Plan, store: Lists, notes: dict[str, Any]) -> list[pl.DataFrame]:
    """Return what the answers of each target disclose, and note examples; the regime changes no answer."""
    found: dict[int, pl.DataFrame] = {}
    for _, number, system in servings(plan):
        one = served(system, store)
        if one.queries is not None and one.answers is not None and len(one.queries) and number not in found:
            rows = disclosed(
                plan.audited, plan.known, one.side.member, one.queries, one.answers, prefixes=plan.setup.asks_prefixes
            )
            found[number] = disclosure_table(rows, plan.seed, number)
            if number == 0:
                notes["examples"] = examples(one.side.member, one.queries, one.answers)
    return list(found.values())


def _mean_interval(values: Float64) -> tuple[float, float, float]:
    """Return the mean over users with its 95% interval: of shares see `share_ends`, else Student's t."""
    mean, n = float(values.mean()), len(values)
    if values.min() >= 0 and values.max() <= 1:
        low, high = share_ends(values)
        return mean, float(low), float(high)
    half = float(special.stdtrit(n - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half


def _describe_users(plan: Plan) -> pl.DataFrame:
    """Return the length and rarity of the histories of the audited users, see `Play`; shares are over `everyone`."""
    audited, everyone = plan.audited, plan.everyone
    n_users = sum(part.n_users for part in everyone)
    counts = np.sum([part.item_counts() for part in everyone], axis=0)
    rarity = -np.log(np.maximum(counts / n_users, 1 / n_users))[audited.item]
    lengths = np.bincount(audited.user, minlength=audited.n_users)
    total = np.bincount(audited.user, rarity, minlength=audited.n_users)
    return pl.DataFrame(
        {
            "seed": np.full(audited.n_users, plan.seed),
            "user_id": audited.users.ids,
            "history_length": lengths,
            "rarity": total / np.maximum(lengths, 1),
        }
    )


def _play(payload: tuple[int, Plan, dict[str, dict[str, Any]]], threads: int) -> tuple[int, Play | RecmiaError]:
    number, plan, lists = payload
    try:
        return number, play(plan, lists, threads)
    except RecmiaError as error:
        return number, error


def _to_arrays(play: Play) -> dict[str, npt.NDArray[Any]]:
    arrays = {}
    for name in _TABLES:
        frame = getattr(play, name)
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        arrays[name] = np.frombuffer(buffer.getvalue(), np.uint8)
    about = {"notes": play.notes, "seconds": play.seconds, "peak_memory": play.peak_memory}
    return arrays | {"about": np.array(json.dumps(about))}


def _from_store(plan: Plan, store: Store) -> Play | None:
    if plan.key is None:
        return None
    try:
        arrays = store[plan.key]
    except KeyError:
        return None
    tables: dict[str, Any] = {name: pl.read_parquet(io.BytesIO(arrays[name].tobytes())) for name in _TABLES}
    # The memory is that of the run that made it.
    return Play(plan.seed, **tables, **(json.loads(str(arrays["about"])) | {"peak_memory": 0}))

"""Audits of lists that another system served, from files; and the files of an audit of our own.

====================  ==============================================================================================
file                  content
====================  ==============================================================================================
interactions          histories of the audited users, members and others; any table that `recmia.datasets` reads
lists                 what each of them is shown: columns user, item, rank; see `recmia.listfiles`
members               ids of those in the training data; or a column member (0 or 1) beside the ids, of all users
items                 ids of further items that a list may hold: items that nobody in the histories knows
shadow-...            the same of a system of the attacker's own, of which only the lists need not be known
pool/...              lists for the audited users and members, for each of many such systems
====================  ==============================================================================================

Where only a pool is given, its first system is the shadow as well. What is missing of the shadow side is trained and
served here, by `AuditConfig.shadow` under `FilesConfig.regime`: the shadow on `shadow_interactions`, else on another
draw of members among the audited users; the pool on random halves of the audited users. The random streams are those
of `recmia.play`: an audit of the files of an audit gives its numbers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from threadpoolctl import threadpool_limits

from recmia.audit import AuditResult, Progress, Reporter, import_own, join_plays, load_candidates
from recmia.config import AuditConfig, FilesConfig
from recmia.datasets import USUAL, CleaningReport, load
from recmia.errors import DataError, TooFewUsersError
from recmia.factorization import factorize
from recmia.game import (
    AS_SERVED,
    MIN_PER_CLASS,
    Side,
    check_servable,
    draw_members,
    draw_shadow_members,
    with_items_of,
)
from recmia.interactions import Bool, IdMap, Interactions
from recmia.listfiles import read_lists
from recmia.play import Evidence, Game, Play, Served, attack, describe_users, join_scores
from recmia.provenance import peak_memory
from recmia.recommenders import Own, load_own
from recmia.seeding import rng_for
from recmia.training import Store, Task, run_tasks
from recmia.vectors import AttackerView


def audit_files(
    config: FilesConfig, *, jobs: int = 1, store: Store | None = None, progress: Progress | None = None
) -> AuditResult:
    """Audit the lists of a system that cannot be trained here.

    Parameters
    ----------
    config : FilesConfig
    jobs : int
        Processes and threads; results do not depend on it.
    store : mutable mapping, optional
        What was trained and served before; gets what this audit trains.
    progress : callable, optional
        Called with a text, the units of work done, and all units.

    Returns
    -------
    AuditResult
        Of one seed and one target, in the regime ``as-served``. The settings hold what was found in the files: `k` and,
        for a pool of files, `shadows`; `thresholds` is false where there is no shadow system to choose them on.

    Raises
    ------
    DataError, ProtocolError
        Naming the file and the row, or the user, that cannot be used; TooFewUsersError for too few members or others.
    ConfigError
        For attacks that cannot be run on these files.
    """
    report, seconds, started = Reporter(progress), {}, time.perf_counter()
    own = load_own([config.shadow])
    for one in own.values():
        check_servable(one.make(), config.regime)
    report("reading histories", 0)
    audited, shadow_data, cleaning = _read_histories(config)
    member = read_members(Path(config.members), audited.users)
    _check_members(config.members, member)
    report("reading lists", 0)
    lists = read_lists(Path(config.lists), audited.users, audited.items, config.k, shorter=True)
    k = lists.shape[1]
    target = Served(Side(audited, member), lists)
    pool_files = _pool_files(config)
    # Thresholds are chosen on the shadow system.
    found = {"k": k, "thresholds": config.thresholds and config.has_shadow}
    if pool_files:
        found["shadows"] = len(pool_files)
    config = config.model_copy(update=found)
    pool = _pool(config, audited, pool_files, own) if config.pool_attacks or pool_files else []
    shadow = None
    if pool_files and not config.shadow_interactions:
        shadow = pool[0]
    elif config.has_shadow:
        shadow = _shadow(config, audited, shadow_data, own)
    seconds["load"] = time.perf_counter() - started
    started = time.perf_counter()
    kept: Store = {} if store is None else store
    tasks = [one for one in [shadow, *pool] if isinstance(one, Task)]
    report.total = len(tasks) + 1
    failed = run_tasks(
        tasks, store=kept, jobs=jobs, done=lambda count: report("training recommenders and serving lists", count)
    )
    for error in failed.values():
        raise error
    report("attacking", 0)
    notes: dict[str, object] = {}
    with threadpool_limits(1):
        source = audited if shadow_data is None else shadow_data
        factors = factorize(source, config.lfm, l=config.l, rng=rng_for(config.seed, "item vectors"), threads=jobs)
        evidence = Evidence(
            views=[AttackerView.of(factors, source, config.rank_weights)],
            targets=[target],
            shadow=None if shadow is None else _served(shadow, kept),
            pool=[_served(one, kept) for one in pool],
        )
        del factors
        scored = attack(evidence, config, config.seed, "grey-box", config.regime, notes)
        del evidence
    notes[AS_SERVED] = notes.pop(config.regime)
    frames = [one.frame("grey-box", AS_SERVED) for one in scored]
    everyone = [audited] if shadow_data is None else [audited, shadow_data]
    play = Play(
        config.seed,
        join_scores(frames, config.seed),
        describe_users(audited, everyone, config.seed),
        pl.DataFrame(),
        notes,
        time.perf_counter() - started,
        peak_memory(),
    )
    report("attacking", 1)
    seconds["train, serve and attack"] = time.perf_counter() - started
    shorter = int((lists[:, -1] < 0).sum())
    if shorter:
        cleaning = replace(cleaning, notes=(*cleaning.notes, f"lists of fewer than {k} items: {shorter:,}"))
    return join_plays(config, [play], audited, cleaning, jobs, seconds)


def read_members(path: Path, users: IdMap) -> Bool:
    """Read who is in the training data.

    Parameters
    ----------
    path : Path
        Comma-separated text (tab in ``.tsv``), with a header or without, or Parquet. One column of user ids names the
        members; with a column member, each of the users has a row with 0 or 1.
    users : IdMap

    Returns
    -------
    bool, shape (n_users,)

    Raises
    ------
    DataError
        Naming the file and the row (the first after the header is 1): a user who is in no history, or twice in the
        file, or whose membership is neither 0 nor 1, or who is left out where there is a column member.
    """
    table = _read_ids(path, "user", ("member",))
    row = _rows_of(path, table, "user", users)
    repeated = table["user"].is_duplicated() & ~table["user"].is_first_distinct()
    _refuse(path, table, repeated, "user", "names a user a second time")
    member = np.zeros(len(users), np.bool_)
    if "member" not in table.columns:
        member[row] = True
        return member
    told = table["member"].str.strip_chars().str.to_lowercase().replace_strict(_BOOLEANS, default=None)
    _refuse(path, table, told.is_null(), "member", "has a member that is neither 0 nor 1")
    if len(row) < len(users):
        left_out = np.setdiff1d(np.arange(len(users)), row)
        raise DataError(
            f"{path}: user {users.ids[left_out].tolist()[0]!r} has a history and no row ({len(left_out):,} of "
            f"{len(users):,} users have none); with a column member each user needs one"
        )
    member[row] = told.to_numpy()
    return member


_BOOLEANS = {"0": False, "1": True, "false": False, "true": True}


def _read_histories(config: FilesConfig) -> tuple[Interactions, Interactions | None, CleaningReport]:
    """Read the audited users' histories and the shadow's, if they are given, over all items that there are."""
    names = [name for name in (config.interactions, config.shadow_interactions) if name]
    loaded = [load(name, columns=config.columns, min_interactions=1) for name in names]
    data, cleaning = [one.interactions for one in loaded], loaded[0].report
    further = IdMap(np.empty(0, data[0].items.ids.dtype))
    if config.items:
        path = Path(config.items)
        table = _read_ids(path, "item")
        ids = table["item"]
        if data[0].items.ids.dtype.kind in "iu":
            numbers = ids.cast(pl.Int64, strict=False)
            _refuse(path, table, numbers.is_null(), "item", "has an item id that is no whole number")
            ids = numbers
        further = IdMap(np.unique(ids.to_numpy()))
    maps = [*(one.items for one in data), further]
    kinds = {ids.ids.dtype.kind for ids in maps}
    if len(kinds) > 1:
        raise DataError(f"{' and '.join(names)}: the item ids are whole numbers in one file and text in another")
    everything = np.unique(np.concatenate([ids.ids for ids in maps]))
    if len(everything) > len(data[0].items) or len(data) > 1:
        texts = {item: text for ids in maps for item, text in zip(ids.ids.tolist(), ids.text or (), strict=False)}
        items = IdMap(everything, tuple(texts.get(item, "") for item in everything.tolist()) if texts else None)
        data = [with_items_of(one, items) for one in data]
    return data[0], data[1] if len(data) > 1 else None, cleaning


def _shadow(
    config: FilesConfig, audited: Interactions, shadow_data: Interactions | None, own: Mapping[str, Own]
) -> Served | Task:
    """The attacker's own system: read, or to be trained."""
    data = audited if shadow_data is None else shadow_data
    if config.shadow_members:
        member = read_members(Path(config.shadow_members), data.users)
    else:
        # As of a split that shares all users, see `recmia.game.split_game`.
        member = draw_members(data.n_users, config.member_share, rng_for(config.seed, "split"))
    _check_members(config.shadow_members or f"{config.shadow_interactions or config.interactions} (by lot)", member)
    side = Side(data, member)
    if config.shadow_lists:
        lists = read_lists(Path(config.shadow_lists), data.users, data.items, config.k, shorter=True)
        return Served(side, lists)
    return _task(config, side, (config.seed, "shadow"), own)


def _pool(
    config: FilesConfig, audited: Interactions, files: Sequence[tuple[Path, Path]], own: Mapping[str, Own]
) -> list[Served | Task]:
    """The shadow systems of the attacks that need many: read, or to be trained."""
    if files:
        return [
            Served(
                Side(audited, read_members(members, audited.users)),
                read_lists(lists, audited.users, audited.items, config.k, shorter=True),
            )
            for lists, members in files
        ]
    rngs = [rng_for(config.seed, "pool", s, "members") for s in range(config.shadows)]
    sides = [Side(audited, row) for row in draw_shadow_members(audited.n_users, rngs)]
    return [_task(config, side, (config.seed, "pool", s), own) for s, side in enumerate(sides)]


def _pool_files(config: FilesConfig) -> list[tuple[Path, Path]]:
    if not config.pool_lists:
        return []
    patterns = [Path(pattern) for pattern in (config.pool_lists, config.pool_members)]
    lists, members = (sorted(pattern.parent.glob(pattern.name)) for pattern in patterns)
    if len(lists) != len(members) or not lists:
        raise DataError(
            f"each system of a pool needs a file of lists and one of members; found {len(lists)} as "
            f"{config.pool_lists} and {len(members)} as {config.pool_members}"
        )
    return list(zip(lists, members, strict=True))


def _task(config: FilesConfig, side: Side, path: tuple[str | int, ...], own: Mapping[str, Own]) -> Task:
    name = config.shadow
    return Task(name, config, side, config.regime, config.k, config.exclude_seen, config.alpha, path, own=own.get(name))


def _served(one: Served | Task, store: Store) -> Served:
    return one if isinstance(one, Served) else Served(one.side, store[one.key]["lists"])


def _check_members(source: str, member: Bool) -> None:
    n_members = int(member.sum())
    if min(n_members, len(member) - n_members) < MIN_PER_CLASS:
        raise TooFewUsersError(
            f"{source}: of {len(member):,} users {n_members:,} are members; members and others must be "
            f"{MIN_PER_CLASS} or more each",
            estimate=2 * MIN_PER_CLASS,
        )


def _read_ids(path: Path, role: str, further: tuple[str, ...] = ()) -> pl.DataFrame:
    """Read a column of ids and the further columns that are there, as text, each with the number of its row."""
    if not path.is_file():
        raise DataError(f"no such file: {path}")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    names = USUAL[role]
    try:
        if path.suffix == ".parquet":
            raw = pl.read_parquet(path)
            header = [name.strip().lower() for name in raw.columns]
        else:
            separator = "\t" if path.suffix == ".tsv" else ","
            raw = pl.read_csv(path, has_header=False, infer_schema=False, separator=separator)
            header = [str(cell).strip().lower() for cell in raw.row(0)]
            if set(header) & {*names, *further}:
                raw = raw[1:]
            elif len(header) <= 1 + len(further):
                header = [names[0], *further][: len(header)]
    except (pl.exceptions.PolarsError, OSError) as error:
        words = " ".join(str(error).split())[:200]
        raise DataError(f"{path} cannot be read as a table of {role} ids: {words}") from None
    ids = next((place for place, name in enumerate(header) if name in names), None)
    if ids is None:
        raise DataError(f"{path} has no column for the {role}; found {', '.join(map(repr, header[:10]))}")
    chosen = {role: ids} | {name: header.index(name) for name in further if name in header}
    kind = raw.dtypes[ids]
    if not (kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum)):
        raise DataError(f"{path}: the {role} ids must be whole numbers or text; the column holds {kind}")
    table = raw.select(pl.nth(place).cast(pl.String).alias(name) for name, place in chosen.items())
    # A blank line is no row, but counts in the number of one.
    table = table.with_row_index("row", 1).filter(~pl.all_horizontal(pl.col(*chosen).is_null()))
    if table.is_empty():
        raise DataError(f"{path} holds no {role} ids")
    _refuse(path, table, table[role].is_null(), role, f"has no {role} id")
    return table


def _rows_of(path: Path, table: pl.DataFrame, role: str, known: IdMap) -> npt.NDArray[np.int64]:
    """The rows of the map that the ids stand for."""
    rows = pl.DataFrame({role: pl.Series(known.ids).cast(pl.String), "place": np.arange(len(known))})
    found = table.select(role).join(rows, on=role, how="left", maintain_order="left")["place"]
    whole = ", where ids are whole numbers" if known.ids.dtype.kind in "iu" else ""
    _refuse(path, table, found.is_null(), role, f"names a {role} who is in no history{whole}")
    return found.to_numpy()


def _refuse(path: Path, table: pl.DataFrame, bad: pl.Series, column: str, what: str) -> None:
    if bad.any():
        row = int(bad.arg_true()[0])
        number, value = table["row"][row], table[column][row]
        raise DataError(f"{path}: data row {number:,} {what}: {value!r} ({int(bad.sum()):,} such rows)")


def export_files(config: AuditConfig, folder: Path, *, jobs: int = 1, store: Store | None = None) -> None:
    """Write the files of one grey-box audit of ours, for `audit_files`: of its first seed, regime and target.

    Parameters
    ----------
    config : AuditConfig
    folder : Path
        Exists. Gets for the target and, with the prefix ``shadow-``, the shadow side ``interactions.parquet``,
        ``lists.parquet`` and ``members.csv``; and for the attacks with many shadows ``pool/NUMBER.parquet`` and
        ``pool/NUMBER.csv``.
    jobs : int
    store : mutable mapping, optional
    """
    changed = {"knowledge": ("grey-box",), "regimes": config.regimes[:1], "targets": 1}
    config = config.model_copy(update=changed)
    interactions, _ = load_candidates(config)
    game, kept = Game(config, interactions, config.seed, own=import_own(config)), {} if store is None else store
    for error in run_tasks(game.tasks, store=kept, jobs=jobs).values():
        raise error
    evidence = game.evidence("grey-box", config.regimes[0], [], kept)
    assert evidence.shadow is not None, "a game has a shadow side"
    for prefix, one in (("", evidence.targets[0]), ("shadow-", evidence.shadow)):
        one.side.interactions.frame().write_parquet(folder / f"{prefix}interactions.parquet")
        _write_served(one, folder / f"{prefix}lists.parquet", folder / f"{prefix}members.csv")
    for number, one in enumerate(evidence.pool):
        (folder / "pool").mkdir(exist_ok=True)
        stem = folder / "pool" / f"{number:04}"
        _write_served(one, stem.with_suffix(".parquet"), stem.with_suffix(".csv"))


def _write_served(one: Served, lists: Path, members: Path) -> None:
    users, items = one.side.interactions.users.ids, one.side.interactions.items.ids
    shown = one.lists >= 0
    user, place = np.nonzero(shown)
    rows = {"user": users[user], "item": items[one.lists[shown]], "rank": (place + 1).astype(np.int32)}
    pl.DataFrame(rows).write_parquet(lists)
    pl.DataFrame({"user": users, "member": one.side.member.astype(np.int8)}).write_csv(members)

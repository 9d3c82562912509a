"""Audits of lists that another system served, from files; and the files of an audit of our own.

====================  ==============================================================================================
file                  content
====================  ==============================================================================================
interactions          histories of the audited users, members and others; any table that `recmia.data.datasets` reads
lists                 what each of them is shown: columns user, item, rank; see `recmia.data.lists`
members               ids of those in the training data; or a column member (0 or 1) beside the ids, of all users
items                 ids of further items that a list may hold: items that nobody in the histories knows
shadow-...            the same of a system of the attacker's own, of which only the lists need not be known
pool/...              lists for the audited users and members, for each of many such systems; longer lists say more
====================  ==============================================================================================

Where only a pool is given, its first system is the shadow as well. What is missing on the attacker's side is trained
and served here: the shadow on `shadow_interactions`, else on another draw of members among the audited users; the pool
on random halves of the audited users. The random streams are those of an audit of data: an audit of the files of an
audit gives its numbers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from recmia.data.datasets import CleaningReport, load
from recmia.data.interactions import Bool, Int32, Interactions, over_common_items
from recmia.data.lists import read_items, read_lists, read_members, write_lists, write_members
from recmia.errors import DataError, TooFewUsersError
from recmia.game import streams
from recmia.game.plan import Served, Setup, plan_from_data, plan_from_files, shadow_halves, work_units
from recmia.game.run import run_plans, served
from recmia.game.split import MIN_PER_CLASS, Side, draw_members
from recmia.game.tasks import Store, run_tasks
from recmia.results.audit import AuditResult, Progress, Reporter, join_plays, load_candidates
from recmia.settings import AuditSettings, FilesSettings


def has_shadow(setup: Setup) -> bool:
    """Whether the attacker has a system: its lists are in files, or an attack learns, so that one is trained."""
    settings = setup.settings
    assert isinstance(settings, FilesSettings), "of files"
    return setup.learns or bool(settings.files.shadow_lists or settings.files.pool_lists)


def run_files_audit(
    setup: Setup, *, jobs: int = 1, store: Store | None = None, progress: Progress | None = None
) -> AuditResult:
    """Audit the lists of a system that cannot be trained here.

    Parameters
    ----------
    setup : Setup
        With `FilesSettings`.
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
        for a pool of files, `n_shadows`; `thresholds` is false where there is no shadow system to choose them on.

    Raises
    ------
    DataError
        Naming the file and the row, or the user, that cannot be used; TooFewUsersError for too few members or others.
    ConfigError
        For attacks that cannot be run on these files.
    """
    settings = setup.settings
    assert isinstance(settings, FilesSettings), "of files"
    files, report, started = settings.files, Reporter(progress), time.perf_counter()
    report("reading histories", 0)
    audited, shadow_data, cleaning = _read_histories(settings)
    member = read_members(Path(files.members), audited.users)
    _check_members(files.members, member)
    report("reading lists", 0)
    lists = read_lists(Path(files.lists), audited.users, audited.items, settings.k, shorter=True)
    k, pool_files = lists.shape[1], _pool_files(settings)
    # Thresholds are chosen on the shadow system.
    found = {"k": k, "thresholds": settings.attacker.thresholds and has_shadow(setup)}
    if pool_files:
        found["n_shadows"] = len(pool_files)
    settings = settings.changed(**found)
    setup = replace(setup, settings=settings)
    pool: list[Served | Side] = []
    if pool_files:
        pool += _read_pool(audited, pool_files, k)
    elif setup.pool_attacks:
        pool += shadow_halves(audited, settings.attacker.n_shadows, settings.run.seed)
    shadow: Served | Side | None = None
    if pool_files and not files.shadow_interactions:
        first = pool[0]
        assert isinstance(first, Served), "from files"
        shadow = Served(first.side, first.lists[:, :k])
    elif has_shadow(setup):
        shadow = _shadow(settings, audited if shadow_data is None else shadow_data)
    everyone = [audited] if shadow_data is None else [audited, shadow_data]
    plan = plan_from_files(setup, Served(Side(audited, member), lists), shadow, pool, everyone)
    seconds = {"load": time.perf_counter() - started}
    started = time.perf_counter()
    report.total = work_units([plan])
    plays = run_plans([plan], store={} if store is None else store, jobs=jobs, report=report)
    seconds["train, serve and attack"] = time.perf_counter() - started
    shorter = int((lists[:, -1] < 0).sum())
    if shorter:
        cleaning = replace(cleaning, notes=(*cleaning.notes, f"lists of fewer than {k} items: {shorter:,}"))
    return join_plays(settings, plays, audited, cleaning, jobs, seconds)


def export_files(setup: Setup, folder: Path, *, jobs: int = 1, store: Store | None = None) -> None:
    """Write the files of one grey-box audit of ours, for an audit of files: of its first seed, regime and target.

    Parameters
    ----------
    setup : Setup
        With `AuditSettings`.
    folder : Path
        Exists. Gets for the target and, with the prefix ``shadow-``, the shadow side ``interactions.parquet``,
        ``lists.parquet`` and ``members.csv``; and for the attacks with many shadows ``pool/NUMBER.parquet`` and
        ``pool/NUMBER.csv``.
    jobs : int
    store : mutable mapping, optional
    """
    settings = setup.settings
    assert isinstance(settings, AuditSettings), "of data"
    first = settings.changed(knowledge=("grey-box",), regimes=settings.regimes[:1], n_targets=1)
    setup = replace(setup, settings=first)
    interactions, _ = load_candidates(first)
    plan, kept = plan_from_data(setup, interactions, first.run.seed), {} if store is None else store
    for error in run_tasks(plan.tasks, store=kept, jobs=jobs).values():
        raise error
    section = plan.sections[0]
    assert section.shadow is not None, "an audit of data has a shadow side"
    for prefix, system in (("", section.targets[0]), ("shadow-", section.shadow)):
        one = served(system, kept)
        one.side.interactions.frame().write_parquet(folder / f"{prefix}interactions.parquet")
        _write_system(one, folder / f"{prefix}lists.parquet", folder / f"{prefix}members.csv")
    for number, system in enumerate(section.pool):
        (folder / "pool").mkdir(exist_ok=True)
        stem = folder / "pool" / f"{number:04}"
        _write_system(served(system, kept), stem.with_suffix(".parquet"), stem.with_suffix(".csv"))


def _read_histories(settings: FilesSettings) -> tuple[Interactions, Interactions | None, CleaningReport]:
    """Read the audited users' histories and the shadow's, if they are given, over all items that there are."""
    files = settings.files
    names = [name for name in (files.interactions, files.shadow_interactions) if name]
    loaded = [load(name, columns=files.columns, min_interactions=1) for name in names]
    data, further = [one.interactions for one in loaded], None
    if files.items:
        further = read_items(Path(files.items), data[0].items)
    data = over_common_items(data, further)
    return data[0], data[1] if len(data) > 1 else None, loaded[0].report


def _shadow(settings: FilesSettings, data: Interactions) -> Served | Side:
    """The attacker's own system: read, or to be trained."""
    files = settings.files
    if files.shadow_members:
        member = read_members(Path(files.shadow_members), data.users)
    else:
        # As of a split that shares all users, see `recmia.game.split.split_game`.
        member = draw_members(data.n_users, settings.serving.member_share, streams.split(settings.run.seed))
    _check_members(files.shadow_members or f"{files.shadow_interactions or files.interactions} (by lot)", member)
    side = Side(data, member)
    if not files.shadow_lists:
        return side
    return Served(side, read_lists(Path(files.shadow_lists), data.users, data.items, settings.k, shorter=True))


def _read_pool(audited: Interactions, files: Sequence[tuple[Path, Path]], k: int) -> list[Served]:
    """Read the systems of a pool; their lists may be longer than those of the audited system."""
    sides = [Side(audited, read_members(members, audited.users)) for _, members in files]
    found = [read_lists(lists, audited.users, audited.items, 0, shorter=True) for lists, _ in files]
    padded: Int32 = np.full((len(found), audited.n_users, max(k, *(one.shape[1] for one in found))), -1, np.int32)
    for row, lists in zip(padded, found, strict=True):
        row[:, : lists.shape[1]] = lists
    return [Served(side, lists) for side, lists in zip(sides, padded, strict=True)]


def _pool_files(settings: FilesSettings) -> list[tuple[Path, Path]]:
    files = settings.files
    if not files.pool_lists:
        return []
    patterns = [Path(pattern) for pattern in (files.pool_lists, files.pool_members)]
    lists, members = (sorted(pattern.parent.glob(pattern.name)) for pattern in patterns)
    if len(lists) != len(members) or not lists:
        raise DataError(
            f"each system of a pool needs a file of lists and one of members; found {len(lists)} as "
            f"{files.pool_lists} and {len(members)} as {files.pool_members}"
        )
    return list(zip(lists, members, strict=True))


def _check_members(source: str, member: Bool) -> None:
    n_members = int(member.sum())
    if min(n_members, len(member) - n_members) < MIN_PER_CLASS:
        raise TooFewUsersError(
            f"{source}: of {len(member):,} users {n_members:,} are members; members and others must be "
            f"{MIN_PER_CLASS} or more each",
            estimate=2 * MIN_PER_CLASS,
        )


def _write_system(one: Served, lists: Path, members: Path) -> None:
    users, items = one.side.interactions.users, one.side.interactions.items
    write_lists(lists, users, items, one.lists)
    write_members(members, users, one.side.member)

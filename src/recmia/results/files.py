"""Audits of what a system showed and answered, from files; and the files of an audit of our own.

======================  ============================================================================================
file                    content
======================  ============================================================================================
interactions            histories of the audited users, members and others; any table that `recmia.data.datasets` reads
members                 ids of those in the training data; or a column member (0 or 1) beside the ids, of all users
questions, answers      what the system was asked, see `recmia.data.questions`, and its answers: query, item, rank
lists                   what each user is shown: columns user, item, rank; see `recmia.data.lists`
items                   ids of further items that a list or an answer may hold: items that nobody in the histories knows
reference-interactions  histories of other people, to train reference models on
reference-answers       in place of these, what the system answers that was trained without the audited users
shadow-...              files of a system of the attacker's own, of which only the lists need not be known
pool/...                lists for the audited users and members, for each of many such systems; longer ones say more
======================  ============================================================================================

Where there are questions, the users whom they are about are audited. All others in the histories are other people:
without further files, reference models are trained on them.

Where only a pool is given, its first system is the shadow as well. What is missing on the attacker's side is trained
and served here: the shadow on `shadow_interactions`, else on another draw of members among the audited users; the pool
on random halves of the audited users. The random streams are those of an audit of data: an audit of the files of an
audit gives its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recmia.data.datasets import CleaningReport, load
from recmia.data.interactions import Bool, IdMap, Int32, Interactions, over_common_items
from recmia.data.lists import (
    read_answers,
    read_items,
    read_lists,
    read_members,
    read_trained,
    write_answers,
    write_lists,
    write_members,
)
from recmia.data.questions import MEMBERS, read_questions, write_questions
from recmia.errors import ConfigError, DataError, TooFewUsersError
from recmia.game import streams
from recmia.game.plan import (
    Plan,
    Served,
    Setup,
    plan_from_data,
    plan_from_files,
    shadow_halves,
    shared_users,
    work_units,
)
from recmia.game.queries import hidden_places
from recmia.game.run import run_plans, served
from recmia.game.split import MIN_PER_CLASS, Side, draw_members
from recmia.game.tasks import Store, run_tasks
from recmia.observation import Queries
from recmia.results.audit import AuditResult, Progress, Reporter, join_plays, load_candidates, read_group_tables
from recmia.settings import AuditSettings, FilesSettings, ForgetSettings
from recmia.settings.attacker import ASKING_ATTACKS, SINGLE_ATTACKS

# EASE inverts a matrix of items by items: this many take 2 GB.
_MOST_ITEMS_OF_EASE = 15_000
_DEFAULT_REFERENCES = FilesSettings.model_fields["attacker"].default.references


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
    report = Reporter(progress)
    files = read_files(setup, report)
    report.total = work_units([files.plan])
    plays = run_plans([files.plan], store={} if store is None else store, jobs=jobs, report=report)
    return join_plays(files.plan.setup.settings, plays, files.audited, files.cleaning, jobs, report)


@dataclass(frozen=True, eq=False)
class Files:
    """What the files of an audit hold.

    Parameters
    ----------
    plan : Plan
        Its settings say what was found in the files: `k`, the attacks that are possible, ...
    audited : Interactions
        Of the audited users.
    cleaning : CleaningReport
    unanswered : Unanswered, optional
        Of questions, if there were any.
    """

    plan: Plan
    audited: Interactions
    cleaning: CleaningReport
    unanswered: Unanswered | None = None


@dataclass(frozen=True, eq=False)
class Unanswered:
    """How many of the questions about each user have no answer.

    Parameters
    ----------
    source : str
        The file of answers, for errors.
    most : float
        The share of questions that may be without one, of all and of each group.
    users : array of ids, shape (n,)
    member : bool, shape (n,)
    asked, missing : int64, shape (n,)
    """

    source: str
    most: float
    users: npt.NDArray[np.generic]
    member: Bool
    asked: npt.NDArray[np.int64]
    missing: npt.NDArray[np.int64]

    def check(self, groups: Mapping[str, Bool]) -> None:
        """Refuse groups of users of whose questions too many have no answer: those that are left would be chosen.

        Parameters
        ----------
        groups : mapping of str to bool, shape (n,)

        Raises
        ------
        DataError
        """
        for name, of in groups.items():
            missing, asked = int(self.missing[of].sum()), int(self.asked[of].sum())
            if missing > self.most * asked:
                first = self.users[of][int(np.argmax(self.missing[of] > 0))]
                allowed = math.floor(self.most * asked)
                raise DataError(
                    f"{self.source}: {missing:,} of {asked:,} questions about {name} have no answer, the first about "
                    f"user {first}; max_unanswered = {self.most:g} allows for {allowed:,} of each group "
                    "(--max-unanswered)"
                )


def read_files(setup: Setup, report: Reporter) -> Files:
    """Read the files of an audit, and plan what is to be trained.

    Raises
    ------
    DataError, TooFewUsersError, ConfigError
        As `run_files_audit`.
    """
    settings = setup.settings
    assert isinstance(settings, FilesSettings), "of files"
    files = settings.files
    report("reading histories", 0)
    histories, shadow_data, reference_data, cleaning = _read_histories(settings, setup.uses_order)
    for data in (histories, shadow_data, reference_data):
        if data is not None:
            setup.check_order(data)
    about, others, found, notes = histories, None, dict[str, Any](), list[str]()
    asked: _Asked | None = None
    if files.questions:
        report("reading questions and answers", 0)
        about, asked = _read_answers(settings, histories, found, notes)
        if setup.need_order and asked.queries.sequences is None:
            raise ConfigError(
                f"{', '.join(setup.need_order)}: needs the order of events, and {files.questions} has no column "
                "position; write the questions anew with recmia ask, from a log with times or positions, or take other "
                "references"
            )
        rest = np.flatnonzero(~np.isin(np.arange(histories.n_users), _rows_in(histories, about)))
        if len(rest):
            others = histories.restrict(rest)
            notes.append(f"users of the histories about whom nothing was asked, and who are not audited: {len(rest):,}")
    audited, side, unanswered = about, None, None
    if settings.unit == "interactions":
        assert asked is not None, "interactions are asked about"
        audited, asked, _ = _answered(about, asked, notes)
        side = _side_of_interactions(settings, audited, asked.queries)
    else:
        member = read_members(
            Path(files.members),
            about.users,
            named=files.named("members"),
            others=None if others is None else others.users,
        )
        _check_drawn(settings, about.users, others, member)
        if asked is not None:
            unanswered = Unanswered(files.answers, files.max_unanswered, about.users.ids, member, *asked.counts)
            unanswered.check({"members": member, "non-members": ~member})
            audited, asked, kept = _answered(about, asked, notes)
            member = member[kept]
        _check_members(files.members, member)
        side = Side(audited, member)
    besides = [one.users.ids for one in (about, others) if one is not None and one is not audited]
    # What cannot be grouped by is refused before anything is trained.
    read_group_tables(settings, audited.users.ids, audited.items.ids)
    k = settings.k
    if files.lists:
        report("reading lists", 0)
        lists = _to_the_longest(
            read_lists(
                Path(files.lists), audited.users, audited.items, k, shorter=True, named=files.named("lists"),
                others=IdMap(np.unique(np.concatenate(besides))) if besides else None,
            )
        )  # fmt: skip
        k = lists.shape[1]
        if shorter := int((lists[:, -1] < 0).sum()):
            notes.append(f"lists of fewer than {k} items: {shorter:,}")
    else:
        assert asked is not None, "there are lists or answers"
        lists = np.full((audited.n_users, 0), -1, np.int32)
        k = asked.answers.shape[1]
    setup, references = _with_references(setup, reference_data, others, audited, asked, notes)
    settings = setup.settings
    assert isinstance(settings, FilesSettings), "of files"
    pool_files = _pool_files(settings)
    # Thresholds are chosen on the shadow system.
    found |= {"k": k, "thresholds": settings.attacker.thresholds and has_shadow(setup)}
    if pool_files:
        found["n_shadows"] = len(pool_files)
    settings = settings.changed(**found)
    setup = replace(setup, settings=settings)
    _check_lengths(setup, k, asked)
    pool: list[Served | Side] = []
    if pool_files:
        pool += _read_pool(settings, audited, pool_files, k)
    elif setup.pool_attacks:
        pool += shadow_halves(audited, settings.attacker.n_shadows, settings.run.seed)
    shadow: Served | Side | None = None
    if pool_files and not files.shadow_interactions:
        first = pool[0]
        assert isinstance(first, Served), "from files"
        shadow = Served(first.side, first.lists[:, :k])
    elif has_shadow(setup):
        shadow = _shadow(settings, audited if shadow_data is None else shadow_data)
    people = references if isinstance(references, Interactions) else None
    attackers = shadow_data if shadow_data is not None else people
    everyone = [audited] if attackers is None else [audited, attackers]
    queries, answers = (None, None) if asked is None else (asked.queries, asked.answers)
    target = Served(side, lists, queries, answers)
    plan = plan_from_files(setup, target, shadow, pool, everyone, references)
    if others is not None:
        # What is said of the data is of the audited users.
        cleaning = replace(cleaning, rows_kept=len(audited), users_read=audited.n_users)
    cleaning = replace(cleaning, notes=(*cleaning.notes, *notes, *setup.cut_histories(audited)))
    return Files(plan, audited, cleaning, unanswered)


def export_files(setup: Setup, folder: Path, *, jobs: int = 1, store: Store | None = None) -> CleaningReport:
    """Write the files of one grey-box audit of ours, for an audit of files: of its first seed, regime and target.

    Parameters
    ----------
    setup : Setup
        With `AuditSettings`.
    folder : Path
        Exists. Gets for the target and, with the prefix ``shadow-``, the shadow side ``interactions.parquet``,
        ``lists.parquet`` and ``members.csv``; for attacks that ask ``questions/`` and ``answers.parquet``; and for the
        attacks with many shadows ``pool/NUMBER.parquet`` and ``pool/NUMBER.csv``.
    jobs : int
    store : mutable mapping, optional

    Returns
    -------
    CleaningReport
        Of the data that the audit loads.
    """
    settings = setup.settings
    assert isinstance(settings, AuditSettings), "of data"
    first = settings.changed(knowledge=("grey-box",), regimes=settings.regimes[:1], n_targets=1)
    setup = replace(setup, settings=first)
    interactions, cleaning = load_candidates(first, order=True)
    plan, kept = plan_from_data(setup, interactions, first.run.seed), {} if store is None else store
    for error in run_tasks(plan.tasks, store=kept, jobs=jobs).values():
        raise error
    section = plan.sections[0]
    if section.shadow is None:
        raise ConfigError("files are written of audits with unit = users; write questions with recmia ask --unit")
    target = served(section.targets[0], kept)
    if target.queries is not None and target.answers is not None:
        audited = target.side.interactions
        (folder / "questions").mkdir()
        write_questions(folder / "questions", audited, target.queries)
        numbers = IdMap(np.arange(len(target.queries)))
        write_answers(folder / "answers.parquet", numbers, audited.items, target.answers)
    for prefix, system in (("", section.targets[0]), ("shadow-", section.shadow)):
        one = served(system, kept)
        one.side.interactions.frame().write_parquet(folder / f"{prefix}interactions.parquet")
        _write_system(one, folder / f"{prefix}lists.parquet", folder / f"{prefix}members.csv")
    for number, system in enumerate(section.pool):
        (folder / "pool").mkdir(exist_ok=True)
        stem = folder / "pool" / f"{number:04}"
        _write_system(served(system, kept), stem.with_suffix(".parquet"), stem.with_suffix(".csv"))
    return cleaning


@dataclass(frozen=True, eq=False)
class _Asked:
    """The questions that were answered, and the answers, int32[q, k]: of the system, and of its reference, if any.

    `counts` are the questions about each user, and how many of them have no answer.
    """

    queries: Queries
    counts: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    answers: Int32
    reference: Int32 | None = None


def _read_histories(
    settings: FilesSettings, order: bool
) -> tuple[Interactions, Interactions | None, Interactions | None, CleaningReport]:
    """Read the histories of the audited users, of the shadow and of the references, over all items that there are."""
    files = settings.files
    names = [name for name in (files.interactions, files.shadow_interactions, files.reference_interactions) if name]
    loaded = [load(name, columns=files.columns, min_interactions=1, order=order) for name in names]
    data, further = [one.interactions for one in loaded], None
    if files.items:
        further = read_items(Path(files.items), data[0].items, named=files.named("items"))
    by_name = dict(zip(names, over_common_items(data, further, names=names), strict=True))
    shadow, references = (by_name.get(name) for name in (files.shadow_interactions, files.reference_interactions))
    return by_name[files.interactions], shadow, references, loaded[0].report


def _read_answers(
    settings: FilesSettings, histories: Interactions, found: dict[str, Any], notes: list[str]
) -> tuple[Interactions, _Asked]:
    """Read questions and answers, and note what they say of settings."""
    files = settings.files
    about, queries, numbers = read_questions(Path(files.questions), histories)
    each = np.bincount(queries.user)
    sizes = [len(part.data) for part in (queries.asked, queries.hidden)]
    found["queries"] = 2 * math.ceil(int(each.max()) / 2)
    one_item = bool((np.diff(queries.hidden.indptr) == 1).all())
    found["query_kind"] = "prefixes" if one_item and queries.sequences is not None else "parts"
    if found["query_kind"] == "parts":
        found["query_share"] = round(min(max(sizes[0] / sum(sizes), 0.01), 0.99), 2)
    # Where there are lists, too, k is their length.
    given = {files.answers: 0 if files.lists else settings.k, files.reference_answers: 0}
    answers, missing = [], np.zeros(len(queries), np.bool_)
    for name in filter(None, given):
        one = read_answers(
            Path(name), queries, numbers, histories.items, given[name], exclude_seen=settings.serving.exclude_seen,
            named=files.named("answers"),
        )  # fmt: skip
        empty = ~(one >= 0).any(axis=1)
        if empty.mean() > files.max_unanswered:
            raise DataError(
                f"{name}: {int(empty.sum()):,} of {len(queries):,} questions have no answer, the first is query "
                f"{numbers.ids[int(np.argmax(empty))]}; max_unanswered = {files.max_unanswered:g} allows for "
                f"{math.floor(files.max_unanswered * len(queries)):,} (--max-unanswered)"
            )
        if empty.any():
            notes.append(f"questions without an answer in {name}, left out: {int(empty.sum()):,} of {len(queries):,}")
        missing |= empty
        answers.append(_to_the_longest(one))
    if len(answers) == 2 and np.array_equal(answers[0], answers[1]):
        raise DataError(
            f"{files.reference_answers} holds the same answers as {files.answers}; a reference is what the system "
            "answers after another training, without the audited users"
        )
    counts = each, np.bincount(queries.user[missing], minlength=about.n_users)
    rows = np.flatnonzero(~missing)
    if len(rows) < len(queries):
        queries = queries.take(rows)
        answers = [one[rows] for one in answers]
    return about, _Asked(queries, counts, *answers)


def _answered(about: Interactions, asked: _Asked, notes: list[str]) -> tuple[Interactions, _Asked, Bool]:
    """Return the users of whom a question was answered, and which they are: of others, nothing was measured."""
    each, missing = asked.counts
    kept = missing < each
    if kept.all():
        return about, asked, kept
    notes.append(f"users without an answered question, left out: {int((~kept).sum()):,}")
    # Only these have a query left, so that the queries stay as they are, but for the users' rows.
    queries, _ = asked.queries.take_users(np.flatnonzero(kept))
    return about.restrict(np.flatnonzero(kept)), replace(asked, queries=queries), kept


def _rows_in(histories: Interactions, some: Interactions) -> npt.NDArray[np.int64]:
    """Return the rows of some of the users of histories, which ascend by id."""
    order = np.argsort(histories.users.ids)
    return order[np.searchsorted(histories.users.ids, some.users.ids, sorter=order)]


def _side_of_interactions(settings: FilesSettings, audited: Interactions, queries: Queries) -> Side:
    """Return which interactions were trained on; each is hidden once at most."""
    files = settings.files
    places = hidden_places(audited, queries)
    if len(np.unique(places)) < len(places):
        raise DataError(
            f"{files.questions} hides an interaction more than once: its questions are about users; write others with "
            "recmia ask --unit interactions"
        )
    trained = read_trained(Path(files.members), audited, named=files.named("members"))
    _check_members(files.members, trained[places], "interactions")
    return Side.of_interactions(audited, trained)


def _to_the_longest(lists: Int32) -> Int32:
    """Return lists without the columns that no list fills: nobody is served so many items."""
    return lists[:, : int((lists >= 0).sum(axis=1).max(initial=0))]


def _with_references(
    setup: Setup,
    given: Interactions | None,
    others: Interactions | None,
    audited: Interactions,
    asked: _Asked | None,
    notes: list[str],
) -> tuple[Setup, Interactions | Int32 | None]:
    """Return what there is to compare with, people to train on or answers, and the setup for it."""
    settings = setup.settings
    assert isinstance(settings, FilesSettings), "of files"
    files, needing = settings.files, [spec.name for spec in setup.attacks if spec.needs == "references"]
    if asked is None or not needing:
        return setup, None
    chosen = settings.attacker.references
    if asked.reference is not None:
        if chosen not in ((), _DEFAULT_REFERENCES):
            raise ConfigError(
                f"references = {', '.join(chosen)}: models to train, and reference_answers takes their place; give one "
                "of the two"
            )
        if asked.reference.shape[1] < asked.answers.shape[1]:
            notes.append(
                f"answers of the reference have up to {asked.reference.shape[1]} items, those of the system "
                f"{asked.answers.shape[1]}: longer ones would compare better"
            )
        return replace(setup, settings=settings.changed(references=()), references=()), asked.reference
    people = others if given is None else given
    if people is None or not chosen:
        names = tuple(name for name in settings.attacker.attacks if name not in needing)
        usual = ASKING_ATTACKS if settings.unit == "users" else SINGLE_ATTACKS
        if settings.attacker.attacks[-len(usual) :] != usual:
            raise ConfigError(
                f"{', '.join(needing)}: compares with reference models, and there is nobody to train them on, or no "
                "model; name reference_interactions, with histories of people who are not audited, and references, or "
                "reference_answers"
            )
        attacks = tuple(spec for spec in setup.attacks if spec.name not in needing)
        return replace(setup, settings=settings.changed(attacks=names), attacks=attacks), None
    shared = shared_users(people, audited)
    if len(shared):
        raise DataError(
            f"{files.reference_interactions}: user {shared[0]} is audited "
            f"({len(shared):,} such users), and a reference model must not have seen whom it is to judge; leave "
            "the audited users out, or leave reference_interactions out where the histories hold other people, too"
        )
    k, n_items = asked.answers.shape[1], int((people.item_counts() > 0).sum())
    if people.n_users < MIN_PER_CLASS or n_items < k:
        raise TooFewUsersError(
            f"{files.reference_interactions or files.interactions}: {people.n_users:,} users with {n_items:,} items "
            f"are too few to train references on, which takes {MIN_PER_CLASS} users, and as many items as an answer "
            f"has: {k}",
            estimate=MIN_PER_CLASS,
        )
    if people.n_users > files.reference_users:
        drawn = streams.users(settings.run.seed).choice(people.n_users, files.reference_users, replace=False)
        notes.append(f"users to train references on: {files.reference_users:,}, drawn from {people.n_users:,}")
        people = people.restrict(np.sort(drawn))
    names = chosen
    if people.n_items > _MOST_ITEMS_OF_EASE and names == _DEFAULT_REFERENCES:
        notes.append(f"reference models: ease is left out, which takes a matrix of {people.n_items:,} by as many items")
        kept = tuple(name for name in names if name != "ease")
        setup = replace(
            setup,
            settings=settings.changed(references=kept),
            references=tuple(spec for spec in setup.references if spec.name != "ease"),
        )
    return setup, people


def _check_lengths(setup: Setup, k: int, asked: _Asked | None) -> None:
    """Check that shadow models can serve lists and answers of one length."""
    if asked is not None and any(spec.asks for spec in setup.pool_attacks) and asked.answers.shape[1] != k:
        names = ", ".join(spec.name for spec in setup.pool_attacks if spec.asks)
        raise ConfigError(
            f"{names}: needs lists and answers of one length, and the lists have {k} items, the answers "
            f"{asked.answers.shape[1]}"
        )


def _shadow(settings: FilesSettings, data: Interactions) -> Served | Side:
    """The attacker's own system: read, or to be trained."""
    files = settings.files
    if files.shadow_members:
        member = read_members(Path(files.shadow_members), data.users, named=files.named("members"))
    else:
        # As of a split that shares all users, see `recmia.game.split.split_game`.
        member = draw_members(data.n_users, settings.serving.member_share, streams.split(settings.run.seed))
    _check_members(files.shadow_members or f"{files.shadow_interactions or files.interactions} (by lot)", member)
    side = Side(data, member)
    if not files.shadow_lists:
        return side
    lists = read_lists(
        Path(files.shadow_lists), data.users, data.items, settings.k, shorter=True, named=files.named("lists")
    )
    return Served(side, lists)


def _read_pool(
    settings: FilesSettings, audited: Interactions, files: Sequence[tuple[Path, Path]], k: int
) -> list[Served]:
    """Read the systems of a pool; their lists may be longer than those of the audited system."""
    members, named = settings.files.named("members"), settings.files.named("lists")
    sides = [Side(audited, read_members(path, audited.users, named=members)) for _, path in files]
    found = [read_lists(path, audited.users, audited.items, 0, shorter=True, named=named) for path, _ in files]
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


def _check_drawn(settings: FilesSettings, users: IdMap, others: Interactions | None, member: Bool) -> None:
    """Refuse members that are not those who were drawn with the questions: a wrong file would find a system safe."""
    files = settings.files
    path = Path(files.questions) / MEMBERS
    if not files.questions or not path.is_file():
        return
    differ = read_members(path, users, others=None if others is None else others.users) != member
    if isinstance(settings, ForgetSettings):
        # Whoever was drawn as a member may have been deleted since.
        differ &= member
    if differ.any():
        raise DataError(
            f"{files.members}: {int(differ.sum()):,} of {len(differ):,} users have another membership than in {path}, "
            f"which was drawn with the questions, the first is {users.ids[np.flatnonzero(differ)[0]]!r}; name the file "
            "that the system was trained by (--members), and if that is this one, remove the other"
        )


def _check_members(source: str, member: Bool, unit: str = "users") -> None:
    n_members = int(member.sum())
    if min(n_members, len(member) - n_members) < MIN_PER_CLASS:
        raise TooFewUsersError(
            f"{source}: of {len(member):,} {unit} {n_members:,} are members; members and others must be "
            f"{MIN_PER_CLASS} or more each",
            estimate=2 * MIN_PER_CLASS,
        )


def _write_system(one: Served, lists: Path, members: Path) -> None:
    users, items = one.side.interactions.users, one.side.interactions.items
    write_lists(lists, users, items, one.lists)
    write_members(members, users, one.side.member)

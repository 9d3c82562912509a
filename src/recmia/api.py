"""The public functions, with typed keywords, and results that can print, write and draw themselves.

`recmia.results` holds the values and runs the work, `recmia.render` shows it; here both come together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Self, Unpack, cast

from recmia.atomic import reserved, write_text
from recmia.data.interactions import Interactions
from recmia.defences import AnyDefences, name_defences
from recmia.errors import ConfigError, DataError, nearest
from recmia.game.tasks import Store
from recmia.render import text
from recmia.render.progress import shown_progress
from recmia.results import ask as asking
from recmia.results import audit as audits
from recmia.results import defend as comparisons
from recmia.results import files, folder, gate, groups
from recmia.results import forget as forgets
from recmia.results import sweep as sweeps
from recmia.results.audit import Progress
from recmia.results.setup import AnyAttack, name_objects, resolve
from recmia.settings import IN_MEMORY, AskedWith, AuditSettings, Columns, FilesSettings, ForgetSettings, Unit
from recmia.settings.options import AuditOptions, FilesOptions, ForgetOptions

AnyPath = str | Path


class _Public:
    """What all results offer."""

    @classmethod
    def of(cls, result: Any) -> Self:
        """Return the public form of a result."""
        return cls(**{field.name: getattr(result, field.name) for field in fields(result)})

    def save(self, folder_name: AnyPath) -> Path:
        """Write a run folder, with pictures: all of it, or nothing.

        Parameters
        ----------
        folder_name : str or Path
            Must not exist.

        Returns
        -------
        Path
            The folder; `recmia.read_run` reads it.

        Raises
        ------
        ConfigError
            If the folder exists or cannot be made.
        """
        from recmia.render.pictures import pictures

        target = Path(folder_name)
        with reserved(target):
            result = cast(folder.Result, self)
            folder.write_result(result, target, pictures(result))
        return target

    def report(
        self, path: AnyPath, *, redact: str = "none", title: str = "", owner: str = "", period: str = ""
    ) -> Path:
        """Write one page that anybody can open, offline, and read; see `recmia.report`."""
        return report(cast(folder.Result, self), path, redact=redact, title=title, owner=owner, period=period)

    def __repr__(self) -> str:
        whole: Any = getattr(self, "sweep", self)
        return f"<{type(self).__name__} of {whole.settings.target} on {whole.settings.source}>"

    def __str__(self) -> str:
        return text.result_text(cast(folder.Result, self))

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return text.result_html(cast(folder.Result, self))


class AuditResult(_Public, audits.AuditResult):
    """What an audit found; see `recmia.results.audit.AuditResult` for its fields.

    Examples
    --------
    >>> import recmia
    >>> quick = {"attacks": ["distance"], "regimes": ["fold-in"], "factors": 8, "k": 10, "seeds": 1}
    >>> result = recmia.audit("synthetic:120x200x6000", **quick)
    >>> result.findings.sections[0].best.attack
    'distance'
    >>> result.gate("auc=0.9").passed
    True
    """

    @property
    def verdict(self) -> str:
        """What was found, in words: the findings as plain text."""
        return text.verdict(self.findings)

    def by_group(self, *by: str) -> Any:
        """Return figures by group, of the strongest attack of each section; see `recmia.results.groups`.

        Parameters
        ----------
        *by : str
            ``"history_length"``, ``"rarity"``, ``"popularity"``, ``"terms"``, or a column of ``users_table`` that the
            audit was grouped by; all that there are by default.

        Returns
        -------
        polars.DataFrame
            Columns grouping, group, and those of a metric. A group that is too small has a note in place of a value.
        """
        import polars as pl

        rows = groups.by_group(self, by)
        return pl.DataFrame([{"grouping": kind, "group": group, **asdict(row)} for kind, group, row in rows])

    def gate(self, *limits: str, require_below: Sequence[str] = (), by_group: bool = False) -> gate.Gate:
        """Test limits such as ``"auc=0.6"`` and ``"tpr@fpr=0.01=0.1"``.

        Parameters
        ----------
        *limits : str
            The gate fails where a figure is surely above one of these.
        require_below : sequence of str
            The gate fails unless every figure is surely below these; for releases.
        by_group : bool
            Whether every group is tested, too.

        Returns
        -------
        recmia.results.gate.Gate
            With `passed`, `exit_code`, `lines`, `as_json` and `as_junit`.

        Raises
        ------
        ConfigError
            For a limit that is not understood, or none.
        """
        if not limits and not require_below:
            raise ConfigError("a gate needs a limit, such as auc=0.6")
        names = audits.metric_names(self.settings)
        alarms = [gate.parse_limit(one, names) for one in limits]
        proofs = [gate.parse_limit(one, names, "require-below") for one in require_below]
        return gate.Gate.test(self, [*alarms, *proofs], groups=by_group)


class SweepResult(_Public, sweeps.SweepResult):
    """What a grid of audits found; see `recmia.results.sweep.SweepResult` for its fields."""


class DefendResult(_Public, comparisons.DefendResult):
    """What defences bring and cost; see `recmia.results.defend.DefendResult` for its fields."""


class ForgetResult(_Public, forgets.ForgetResult):
    """Whether a system has forgotten users; see `recmia.results.forget.ForgetResult` for its fields."""

    @property
    def verdict(self) -> str:
        """What was found, in words."""
        return text.result_words(self)


def audit(
    dataset: AnyPath | Interactions | None = None,
    *,
    recommender: Any = None,
    shadow: Any = None,
    attacks: Sequence[AnyAttack] | None = None,
    defence: AnyDefences | None = None,
    settings: AuditSettings | None = None,
    jobs: int = 1,
    store: Store | None = None,
    progress: Progress | bool | None = None,
    **options: Unpack[AuditOptions],
) -> AuditResult:
    """Audit a recommender on a data set.

    Parameters
    ----------
    dataset : str, Path or Interactions
        See `recmia.data.datasets.load`. If not given, ml-latest-small.
    recommender : str or object, optional
        What to audit: a name, ``"package.module:factory"``, or your own object, class or function, not fitted; see
        `recmia.recommenders.user.objects`. Unless `shadow` names another, the attacker trains the same.
    shadow : str or object, optional
        The attacker's recommender, likewise.
    attacks : sequence, optional
        Names, or objects of subclasses of `recmia.attacks.Attack` and `recmia.attacks.PoolAttack`.
    defence : str, Defence, or sequence of these, optional
        What the system does against leaks: a text such as ``"gumbel=300+shorter-lists=10"``, or objects of subclasses
        of `recmia.defences.Defence`. The attacker is taken to know it, and trains shadows with it.
    settings : AuditSettings, optional
        Instead of single settings.
    jobs : int
        Processes that share the models and the seeds and, where there are fewer, threads that share the work on each;
        results do not depend on it.
    store : mutable mapping, optional
        What was trained and served before; gets what this audit trains. See `recmia.cache.ArrayStore`.
    progress : callable or bool, optional
        Called with a text, the units of work done, and all units. If not given, progress is shown on a terminal and in
        a notebook; True shows it anywhere, False nowhere.
    **options
        Fields of `AuditSettings`, for example ``k=50`` or ``lfm={"feedback": "explicit"}``.

    Returns
    -------
    AuditResult

    Raises
    ------
    ConfigError
        For a setting that is unknown or out of range.
    DataError
        If the data cannot be found or used; TooFewUsersError if they hold too few users.

    Examples
    --------
    >>> import recmia
    >>> result = recmia.audit(
    ...     "synthetic:120x200x6000", recommender="popularity", attacks=["distance"], regimes=["fold-in"], factors=8,
    ...     k=10, seeds=1,
    ... )
    >>> area = result.metrics[0]
    >>> area.metric, area.low < 0.5 < area.high
    ('auc', True)
    """
    given = dataset if isinstance(dataset, Interactions) else None
    chosen, recommenders, own_attacks = _settings(dataset, recommender, shadow, attacks, settings, dict(options))
    chosen, own_defences = _defended(chosen, defence)
    _check_jobs(jobs)
    with _progress(progress) as told:
        setup = resolve(chosen, recommenders, own_attacks, own_defences)
        return AuditResult.of(audits.run_audit(setup, given, jobs=jobs, store=store, progress=told))


def audit_files(
    interactions: AnyPath = "",
    lists: AnyPath = "",
    members: AnyPath = "",
    *,
    shadow: Any = None,
    attacks: Sequence[AnyAttack] | None = None,
    settings: FilesSettings | None = None,
    jobs: int = 1,
    store: Store | None = None,
    progress: Progress | bool | None = None,
    **options: Unpack[FilesOptions],
) -> AuditResult:
    """Audit what a system that cannot be trained here showed and answered, from files; see `recmia.results.files`.

    Parameters
    ----------
    interactions, lists, members : str or Path
        Histories of the audited users, what each of them is shown, and who of them is in the training data. Lists may
        be left out where there are ``questions`` and ``answers``.
    shadow, attacks, jobs, store, progress
        As of `recmia.audit`.
    settings : FilesSettings, optional
        Instead of single settings.
    **options
        Fields of `FilesSettings`, for example ``questions="questions"`` and ``answers="answers.parquet"``.

    Raises
    ------
    DataError
        Naming the file and the row, or the user, that cannot be used.
    ConfigError
        For a setting that is unknown or out of range, and for attacks that cannot be run on these files.
    """
    names, recommenders, attack_names, own_attacks = name_objects({"shadow": shadow}, attacks)
    if settings is None:
        given = {"interactions": interactions, "lists": lists, "members": members}
        flat = _paths(given | dict(options)) | names
        settings = FilesSettings.parse(flat if attack_names is None else flat | {"attacks": attack_names})
    elif options:
        raise _both(options)
    _check_jobs(jobs)
    with _progress(progress) as told:
        setup = resolve(settings, recommenders, own_attacks)
        return AuditResult.of(files.run_files_audit(setup, jobs=jobs, store=store, progress=told))


def ask(
    interactions: AnyPath,
    folder_name: AnyPath,
    *,
    users: AnyPath = "",
    users_columns: str = "",
    columns: Columns | Mapping[str, Any] | None = None,
    queries: int = 6,
    query_share: float = 0.5,
    query_kind: AskedWith = "parts",
    unit: Unit = "users",
    blocks: int = 10,
    draw_members: bool = False,
    member_share: float | None = None,
    seed: int = 0,
) -> asking.Asked:
    """Draw questions about the users of a log, and write them for a system that runs elsewhere to answer.

    Parameters
    ----------
    interactions : str or Path
        Histories, as of `recmia.data.datasets.load`.
    folder_name : str or Path
        New folder for the questions and their key; see `recmia.data.questions`.
    users : str or Path, optional
        File of the users to ask about; all by default.
    users_columns : str
        What its column is called, such as ``"user=uid"``.
    columns : Columns or mapping, optional
        What the columns of the interactions are called.
    queries : int
        About each user, an even number.
    query_share : float
        Share of a history that a question asks with.
    query_kind : {"parts", "prefixes"}
        Whether a question asks with a random part of a history, or with its first events and hides the next item.
    unit : {"users", "interactions"}
        Of interactions, every history is hidden in `blocks` parts in turn, in place of `queries`.
    blocks : int
        At least 2.
    draw_members : bool
        Whether to draw by coins who is to be in the training data.
    member_share : float, optional
        The probability of each coin; 0.5 by default.
    seed : int

    Returns
    -------
    recmia.results.ask.Asked
        What was written; it prints as what to do with it.

    Raises
    ------
    ConfigError
        For a setting out of range, and a folder that exists.
    DataError
        For files that cannot be used.
    """
    named = Columns.of(columns) if isinstance(columns, Mapping) else columns
    for name, path in (("interactions", interactions), ("folder_name", folder_name), ("users", users)):
        if not isinstance(path, str | Path):
            raise ConfigError(f"{name} must be the path of a file or folder; got a {type(path).__name__}")
    return asking.ask(
        str(interactions), Path(folder_name), users=str(users), users_columns=users_columns, columns=named,
        queries=queries, query_share=query_share, query_kind=query_kind, unit=unit, blocks=blocks, draw=draw_members,
        member_share=member_share, seed=seed,
    )  # fmt: skip


def forget(
    interactions: AnyPath = "",
    members: AnyPath = "",
    deleted: AnyPath = "",
    *,
    settings: ForgetSettings | None = None,
    jobs: int = 1,
    store: Store | None = None,
    progress: Progress | bool | None = None,
    **options: Unpack[ForgetOptions],
) -> ForgetResult:
    """Test from its answers whether a system has forgotten users whose data were deleted.

    Parameters
    ----------
    interactions, members, deleted : str or Path
        Histories of all who were asked about; who is in the training data; whose data were deleted from it. Whoever is
        neither was never in it.
    settings : ForgetSettings, optional
        Instead of single settings.
    jobs, store, progress
        As of `recmia.audit`.
    **options
        Fields of `ForgetSettings`: ``questions``, the folder that `recmia.ask` wrote, and ``answers`` to them; and
        what else is wanted, for example ``margin=0.2`` or ``reference_answers="b.parquet"``.

    Returns
    -------
    ForgetResult

    Raises
    ------
    DataError
        Naming the file and the row, or the user, that cannot be used; TooFewUsersError for fewer than 10 members, users
        who were never members, or deleted users.
    ConfigError
        For a setting that is unknown or out of range.
    """
    if settings is None:
        given = {"interactions": interactions, "members": members, "deleted": deleted}
        settings = ForgetSettings.parse(_paths(given | dict(options)))
    elif options:
        raise _both(options)
    _check_jobs(jobs)
    with _progress(progress) as told:
        return ForgetResult.of(forgets.run_forget(resolve(settings), jobs=jobs, store=store, progress=told))


def sweep(
    axes: Mapping[str, Sequence[Any]],
    dataset: AnyPath | Interactions | None = None,
    *,
    recommender: Any = None,
    shadow: Any = None,
    attacks: Sequence[AnyAttack] | None = None,
    defence: AnyDefences | None = None,
    settings: AuditSettings | None = None,
    jobs: int = 1,
    store: Store | None = None,
    progress: Progress | bool | None = None,
    **options: Unpack[AuditOptions],
) -> SweepResult:
    """Audit every cell of a grid of settings; what cells share is trained, served and attacked once.

    Parameters
    ----------
    axes : mapping of str to sequence
        Keys of the settings (``"k"``, ``"lfm.epochs"``, ``"recommender"``) and the values that they take.
    dataset, recommender, shadow, attacks, defence, settings, jobs, store, progress, **options
        As of `recmia.audit`.

    Raises
    ------
    ConfigError
        For a key or a value that is not allowed, or if every cell fails.

    Examples
    --------
    >>> import recmia
    >>> quick = {"attacks": ["distance"], "regimes": ["fold-in"], "factors": 8, "seeds": 1, "thresholds": False}
    >>> recmia.sweep({"k": [5, 10]}, "synthetic:120x200x6000", **quick).table["k"].unique().to_list()
    [5, 10]
    """
    given = dataset if isinstance(dataset, Interactions) else None
    chosen, recommenders, own_attacks = _settings(dataset, recommender, shadow, attacks, settings, dict(options))
    chosen, own_defences = _defended(chosen, defence)
    _check_jobs(jobs)
    with _progress(progress) as told:
        found = sweeps.run_sweep(
            chosen, axes, dataset=given, recommenders=recommenders, attacks=own_attacks, defences=own_defences,
            jobs=jobs, store=store, progress=told,
        )  # fmt: skip
    return SweepResult.of(found)


def defend(
    defences: Sequence[AnyDefences] = (),
    dataset: AnyPath | Interactions | None = None,
    *,
    level: float = 0.6,
    recommender: Any = None,
    shadow: Any = None,
    attacks: Sequence[AnyAttack] | None = None,
    settings: AuditSettings | None = None,
    jobs: int = 1,
    store: Store | None = None,
    progress: Progress | bool | None = None,
    **options: Unpack[AuditOptions],
) -> DefendResult:
    """Measure what defences bring and cost, beside no defence and beside popular lists for all.

    Parameters
    ----------
    defences : sequence of str, Defence, or sequence of these
        Such as ``"dp-training=4"`` and ``"gumbel=300+shorter-lists=10"``, or objects of subclasses of
        `recmia.defences.Defence`; a sequence of those that act together. None: every kind at a few strengths.
    dataset, recommender, shadow, attacks, settings, jobs, store, progress, **options
        As of `recmia.audit`; `held_out` is 0.2 and `n_shadows` 32 unless they are given.
    level : float
        The AUC that the strongest attack is to stay under, the upper end of its interval included.

    Raises
    ------
    ConfigError
        For a defence that is unknown, out of range, or does not apply.
    """
    given = dataset if isinstance(dataset, Interactions) else None
    flat = {**comparisons.DEFAULTS, **options} if settings is None else dict(options)
    chosen, recommenders, own_attacks = _settings(dataset, recommender, shadow, attacks, settings, flat)
    _check_jobs(jobs)
    with _progress(progress) as told:
        found = comparisons.run_defend(
            chosen, defences, level=level, dataset=given, recommenders=recommenders, attacks=own_attacks, jobs=jobs,
            store=store, progress=told,
        )  # fmt: skip
    return DefendResult.of(found)


def report(
    runs: folder.Result | AnyPath | Sequence[AnyPath],
    path: AnyPath = "report.html",
    *,
    form: str | None = None,
    redact: str = "none",
    title: str = "",
    owner: str = "",
    period: str = "",
) -> Path:
    """Write one page about a result, or about run folders, that anybody can open, offline, and read.

    Parameters
    ----------
    runs : result, or path of a run folder, or several
    path : str or Path
        New file.
    form : {"html", "md"}, optional
        A page in HTML, or a summary in Markdown, for a pull request; by default as the name of the file ends.
    redact : {"none", "hash", "omit"}
        What becomes of user ids; see `recmia.render.page`.
    title, owner, period : str
        Of the page, of the system, and of its data; by default the names of system and data, nothing, and the first
        and the last day in the data.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ConfigError
        If the file exists or cannot be made, or a folder is no run folder.
    """
    from recmia.render.assessment import Labels

    target = Path(path)
    form = form or ("md" if target.suffix.lower() == ".md" else "html")
    # What is wrong with these is told, and not what follows from it for the file.
    make, results = _maker(form), _results(runs)
    with reserved(target, "file"):
        text = make(results, redact=redact, labels=Labels(title, owner, period))
        write_text(target, text, new=True)
    return target


def report_text(
    runs: folder.Result | AnyPath | Sequence[AnyPath],
    form: str = "html",
    *,
    redact: str = "none",
    title: str = "",
    owner: str = "",
    period: str = "",
) -> str:
    """Return the page in HTML, or the summary in Markdown, as text.

    Parameters
    ----------
    runs, redact, title, owner, period
        As of `report`.
    form : {"html", "md"}

    Raises
    ------
    ConfigError
        For another form, or as `report`.
    """
    from recmia.render.assessment import Labels

    return _maker(form)(_results(runs), redact=redact, labels=Labels(title, owner, period))


def _maker(form: str) -> Callable[..., str]:
    """What makes a report of this form."""
    from recmia.render.page import page, summary

    forms = {"html": page, "md": summary}
    if form not in forms:
        raise ConfigError(f"unknown format {form!r} of a report; {nearest(form, forms)}")
    return forms[form]


def _results(runs: folder.Result | AnyPath | Sequence[AnyPath]) -> dict[Path, folder.Result]:
    """The results that a report is about, by what it calls them."""
    if isinstance(runs, folder.Result):
        return {Path("this result"): runs}
    names = [runs] if isinstance(runs, (str, Path)) else list(runs)
    return {Path(name): folder.read_result(Path(name)) for name in names}


def read_run(folder_name: AnyPath) -> AuditResult | SweepResult | DefendResult | ForgetResult:
    """Read a run folder that an audit, a sweep, a comparison of defences or a test of forgetting wrote.

    Raises
    ------
    ConfigError
        If it is none, or is damaged.
    """
    return public(folder.read_result(Path(folder_name)))


def public(result: folder.Result) -> AuditResult | SweepResult | DefendResult | ForgetResult:
    """Return the public form of a result."""
    if isinstance(result, forgets.ForgetResult):
        return ForgetResult.of(result)
    if isinstance(result, audits.AuditResult):
        return AuditResult.of(result)
    return SweepResult.of(result) if isinstance(result, sweeps.SweepResult) else DefendResult.of(result)


def _settings(
    dataset: AnyPath | Interactions | None,
    recommender: Any,
    shadow: Any,
    attacks: Sequence[AnyAttack] | None,
    settings: AuditSettings | None,
    options: dict[str, Any],
) -> tuple[AuditSettings, Mapping[str, Any], Mapping[str, Any]]:
    """The settings that were asked for, and the objects among what they name."""
    if dataset is not None and not isinstance(dataset, str | os.PathLike | Interactions):
        raise DataError(
            f"the data must be a name, a path or recmia.Interactions; got {type(dataset).__name__}: give its columns "
            "to recmia.Interactions.from_arrays(user, item, value, time)"
        )
    roles = {"recommender": recommender, "shadow": shadow}
    names, recommenders, attack_names, own_attacks = name_objects(roles, attacks)
    flat = names if attack_names is None else {**names, "attacks": attack_names}
    if dataset is not None:
        flat["dataset"] = IN_MEMORY if isinstance(dataset, Interactions) else str(dataset)
    if settings is None:
        return AuditSettings.parse({**options, **flat}), recommenders, own_attacks
    if options:
        raise _both(options)
    if "recommender" in flat:
        flat = {"shadow": flat["recommender"], **flat}
    return settings.changed(**flat), recommenders, own_attacks


def _defended(settings: AuditSettings, defence: AnyDefences | None) -> tuple[AuditSettings, Mapping[str, Any]]:
    """The settings with a defence, and the objects of the user's in it."""
    if defence is None:
        return settings, {}
    text, objects = name_defences(defence, settings.system.dp)
    return settings.changed(defence=text), objects


def _paths(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are given, paths as text."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in given.items()
        if value is not None and value != ""
    }


def _both(options: Mapping[str, Any]) -> ConfigError:
    return ConfigError(f"give either settings or single options, not both; got {', '.join(sorted(options))}")


def _check_jobs(jobs: int) -> None:
    if jobs < 1:
        raise ConfigError(f"jobs must be at least 1; got {jobs}")


def _progress(progress: Progress | bool | None) -> Any:
    return nullcontext(progress) if callable(progress) else shown_progress(shown=progress)

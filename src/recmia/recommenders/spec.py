"""Recommenders by name: how each is made, what its lists depend on, and its traits.

This module is light: it imports a model, and the library behind it, only when the model is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from recmia.errors import ConfigError, nearest
from recmia.settings.base import is_table
from recmia.settings.recommenders import RecommenderSettings

if TYPE_CHECKING:
    from recmia.recommenders.base import Recommender

_FACTORY = re.compile(r"[\w.]+:[\w.]+")
# Settings that are not part of a table belong to every recommender: another device means other last bits, for example.
_GENERAL = tuple(name for name, described in RecommenderSettings.model_fields.items() if not is_table(described))


def _ignores_ratings(settings: RecommenderSettings) -> bool:
    return False


@dataclass(frozen=True)
class RecommenderSpec:
    """A recommender as a value: how to make it, which settings it depends on, and its traits.

    It can be pickled if `make` and `uses_ratings` can, as functions of a module can.

    Parameters
    ----------
    name : str
    make : callable
        ``make(settings, threads)`` returns a `Recommender` that is not fitted. Its lists do not depend on `threads`.
    tables : tuple of str
        The tables of `RecommenderSettings` that it depends on, its own first.
    fixed : mapping
        Settings that the name implies, by table; `make` applies them, too.
    folds_in : bool
        Whether it ranks items for users that it was not trained on.
    personal : bool
        Whether it trains something for each user, which is not used when users are served by fold-in.
    uses_ratings : callable
        ``uses_ratings(settings)`` tells whether it depends on the ratings, and not only on what was seen. False where
        that is not known, as for user code.
    uses_order : bool
        Whether it depends on the order of events; see `Recommender.uses_order`.
    window : callable, optional
        ``window(settings)`` returns how many of the last events of a history it uses, where older ones are cut off,
        else None.
    threaded : bool
        Whether models can be trained and asked side by side in threads, and are no slower for it: they change nothing
        that threads share, and their time goes by without Python's lock, in compiled code or another program.
    user_code : bool
        Whether it runs code of the user's (an object, a factory, a command), which can change without a trace: what it
        serves is not kept in the shared cache.
    code : str
        Digest of the user's code, where there is such a digest.

    Examples
    --------
    >>> from recmia.settings.recommenders import RecommenderSettings
    >>> spec = RECOMMENDERS["lfm-explicit"]
    >>> spec.uses_ratings(RecommenderSettings()), spec.personal, spec.user_code
    (True, True, False)
    >>> spec.used(RecommenderSettings()).lfm.feedback
    'explicit'
    >>> sorted(spec.key(RecommenderSettings()))
    ['device', 'factors', 'lfm']
    """

    name: str
    make: Callable[[RecommenderSettings, int], Recommender]
    tables: tuple[str, ...] = ()
    fixed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    folds_in: bool = True
    personal: bool = False
    uses_ratings: Callable[[RecommenderSettings], bool] = _ignores_ratings
    uses_order: bool = False
    window: Callable[[RecommenderSettings], int | None] | None = None
    threaded: bool = False
    user_code: bool = False
    code: str = ""

    @property
    def needs_order(self) -> bool:
        """Whether it can do nothing where the order of events is not known."""
        return self.uses_order

    def used(self, settings: RecommenderSettings) -> RecommenderSettings:
        """Return the settings that the recommender depends on; all others have their defaults.

        Two settings that differ only in other recommenders' tables give equal values.
        """
        names = self.tables if self.user_code else (*_GENERAL, *self.tables)
        kept = {name: getattr(settings, name) for name in names}
        for table, values in self.fixed.items():
            kept[table] = type(kept[table])(**kept[table].model_dump() | dict(values))
        return RecommenderSettings(**kept)

    def key(self, settings: RecommenderSettings) -> dict[str, Any]:
        """Return plain values that determine the recommender's lists, given the data and the seed."""
        if self.code:
            return {"user_code": self.code}
        return self.used(settings).model_dump(mode="json", include={*_GENERAL, *self.tables})


class _CommandSpec(RecommenderSpec):
    """The recommender `command`, whose code is named by its settings. It is told the order if that is known."""

    @property
    def needs_order(self) -> bool:
        """False: recmia cannot tell what the command uses."""
        return False

    def key(self, settings: RecommenderSettings) -> dict[str, Any]:
        """Return the words of the command, and a digest of the files that they name; more time changes no list."""
        from recmia.recommenders.user.command import code_of_command

        train = settings.train
        return {"command": train.command, "format": train.format, "code": code_of_command(train)}


def _make_lfm(settings: RecommenderSettings, threads: int, **fixed: Any) -> Recommender:
    from recmia.recommenders.lfm import LFM

    return LFM(settings.lfm.model_copy(update=fixed), factors=settings.factors, threads=threads)


def _lfm_uses_ratings(settings: RecommenderSettings, **fixed: Any) -> bool:
    return settings.lfm.model_copy(update=fixed).feedback == "explicit"


def _lfm_variant(name: str, **fixed: Any) -> RecommenderSpec:
    return RecommenderSpec(
        name,
        partial(_make_lfm, **fixed),
        ("lfm",),
        {"lfm": fixed} if fixed else {},
        personal=True,
        uses_ratings=partial(_lfm_uses_ratings, **fixed),
        threaded=True,
    )


def _make_als(settings: RecommenderSettings, threads: int) -> Recommender:
    from recmia.recommenders.implicit_feedback import ALS

    return ALS(settings.als, factors=settings.factors, threads=threads)


def _make_bpr(settings: RecommenderSettings, threads: int) -> Recommender:
    from recmia.recommenders.implicit_feedback import BPR

    return BPR(settings.bpr, factors=settings.factors, threads=threads)


def _make_popularity(settings: RecommenderSettings, threads: int) -> Recommender:
    from recmia.recommenders.simple import Popularity

    return Popularity()


def _make_random(settings: RecommenderSettings, threads: int) -> Recommender:
    from recmia.recommenders.simple import Random

    return Random()


def _make_itemknn(settings: RecommenderSettings, threads: int) -> Recommender:
    from recmia.recommenders.neighbours import ItemKNN

    return ItemKNN(settings.itemknn, threads=threads)


def _itemknn_uses_ratings(settings: RecommenderSettings) -> bool:
    return not settings.itemknn.binary


def _make_userknn(settings: RecommenderSettings, threads: int) -> Recommender:
    from recmia.recommenders.neighbours import UserKNN

    return UserKNN(settings.userknn, threads=threads)


def _userknn_uses_ratings(settings: RecommenderSettings) -> bool:
    return not settings.userknn.binary


def _make_ease(settings: RecommenderSettings, threads: int) -> Recommender:
    from recmia.recommenders.linear import EASE

    return EASE(settings.ease, threads=threads)


def _make_content(settings: RecommenderSettings, threads: int) -> Recommender:
    from recmia.recommenders.simple import Content

    return Content()


def _make_hybrid(settings: RecommenderSettings, threads: int) -> Recommender:
    from recmia.recommenders.lfm import LFM
    from recmia.recommenders.simple import Hybrid

    return Hybrid(LFM(settings.lfm, factors=settings.factors, threads=threads), settings.hybrid)


def _make_ncf(settings: RecommenderSettings, threads: int) -> Recommender:
    from recmia.recommenders.neural import NCF

    return NCF(settings.ncf, device=settings.device)


def _make_lightgcn(settings: RecommenderSettings, threads: int) -> Recommender:
    from recmia.recommenders.graph import LightGCN

    return LightGCN(settings.lightgcn, factors=settings.factors, threads=threads, device=settings.device)


def _make_sasrec(settings: RecommenderSettings, threads: int) -> Recommender:
    from recmia.recommenders.sequential import SASRec

    return SASRec(settings.sasrec, factors=settings.factors, device=settings.device)


def _sasrec_window(settings: RecommenderSettings) -> int:
    return settings.sasrec.window


def _make_gru4rec(settings: RecommenderSettings, threads: int) -> Recommender:
    from recmia.recommenders.sequential import GRU4Rec

    return GRU4Rec(settings.gru4rec, factors=settings.factors, device=settings.device)


def _gru4rec_window(settings: RecommenderSettings) -> int:
    return settings.gru4rec.window


def _make_command(settings: RecommenderSettings, threads: int) -> Recommender:
    from recmia.recommenders.user.command import CommandRecommender

    return CommandRecommender(settings.train)


RECOMMENDERS: Mapping[str, RecommenderSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            _lfm_variant("lfm"),
            RecommenderSpec("als", _make_als, ("als",), personal=True),
            RecommenderSpec("bpr", _make_bpr, ("bpr",), personal=True),
            _lfm_variant("lfm-explicit", feedback="explicit", bias=False),
            _lfm_variant("lfm-biased", feedback="explicit", bias=True),
            _lfm_variant("lfm-implicit", feedback="implicit", bias=False),
            RecommenderSpec("popularity", _make_popularity, threaded=True),
            RecommenderSpec("random", _make_random, threaded=True),
            RecommenderSpec("itemknn", _make_itemknn, ("itemknn",), uses_ratings=_itemknn_uses_ratings, threaded=True),
            RecommenderSpec(
                "userknn", _make_userknn, ("userknn",), personal=True, uses_ratings=_userknn_uses_ratings, threaded=True
            ),
            RecommenderSpec("ease", _make_ease, ("ease",), threaded=True),
            RecommenderSpec("content", _make_content, threaded=True),
            RecommenderSpec("hybrid", _make_hybrid, ("hybrid", "lfm"), personal=True, uses_ratings=_lfm_uses_ratings),
            RecommenderSpec("ncf", _make_ncf, ("ncf",), personal=True),
            RecommenderSpec("lightgcn", _make_lightgcn, ("lightgcn",), personal=True),
            RecommenderSpec("sasrec", _make_sasrec, ("sasrec",), uses_order=True, window=_sasrec_window),
            RecommenderSpec("gru4rec", _make_gru4rec, ("gru4rec",), uses_order=True, window=_gru4rec_window),
            _CommandSpec("command", _make_command, ("train",), uses_order=True, threaded=True, user_code=True),
        )
    }
)


def resolve_recommender(given: object) -> RecommenderSpec:
    """Return the spec of whatever can be audited.

    Parameters
    ----------
    given : str, RecommenderSpec or object
        A name of `RECOMMENDERS`; ``package.module:factory``; a spec; or an object, class or function, as
        `recmia.recommenders.user.objects` describes them.

    Raises
    ------
    ConfigError
        If the name is unknown, does not import or gives no recommender, or if the object is none or cannot be pickled.

    Examples
    --------
    >>> resolve_recommender("als").tables
    ('als',)
    >>> from recmia.recommenders import Popularity
    >>> resolve_recommender(Popularity()).name
    'Popularity (in memory)'
    """
    if isinstance(given, RecommenderSpec):
        return given
    if isinstance(given, str) and given in RECOMMENDERS:
        return RECOMMENDERS[given]
    if isinstance(given, str) and (not _FACTORY.fullmatch(given) or ".py:" in given):
        raise ConfigError(f"unknown recommender {given!r}; {_meant(given)}")
    # Imported only here, because it loads what pickles the user's code.
    from recmia.recommenders.user.objects import UserCode

    return (UserCode.named(given) if isinstance(given, str) else UserCode.of(given)).spec()


def _meant(given: str) -> str:
    """Words for a name that is none: how what was probably meant is written."""
    file, _, factory = given.partition(":")
    module = file.removesuffix(".py").replace("/", ".")
    if file.endswith(".py") and factory:
        return f"a factory is named by its module, as {module}:{factory}"
    if file.endswith((".py", ".sh")) or {" ", "{"} & set(given):
        return (
            "a command that trains goes with --train-command (setting train.command); a recommender of your own in "
            f"Python is named {module if file.endswith('.py') else 'package.module'}:FACTORY"
        )
    if any(Path(f"{given.replace('.', '/')}{end}").is_file() for end in (".py", "/__init__.py")):
        return f"it is a module; name also what makes the recommender, as {given}:FACTORY"
    return f"{nearest(given, RECOMMENDERS)}; or your own, as package.module:factory"

"""Attacks by name: what each needs, how it is made, and what it does.

This module is light: it imports the module of an attack, and what is compiled or large behind it, only when the attack
is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from types import MappingProxyType
from typing import Any, Literal

import cloudpickle

from recmia.attacks import rules
from recmia.attacks.base import Attack, Needs, PoolAttack
from recmia.attacks.interactions import InteractionAttack
from recmia.errors import ConfigError, nearest

AnyAttack = Attack | PoolAttack | InteractionAttack
# What a rule without a model uses; empty for an attack.
LooksAt = Literal["", "list", "history"]


@dataclass(frozen=True)
class AttackSpec:
    """An attack as a value: how to make it, what it needs, and what it does.

    Parameters
    ----------
    name : str
        Its name in settings and tables.
    make : callable
        ``make(settings)`` returns a new attack; `settings` is a mapping with the attacker's settings (``rank_weights``,
        ``mlp``, ...), of which any may be missing. It can be pickled.
    needs : {"nothing", "shadow", "pool", "references"}
        What the attacker must have: nothing, a shadow system, a pool of shadow models for the audited users, or models
        that it trained on other people's data.
    about : str
        What it does, in words that follow its name.
    published : bool
        Whether it is an attack on recommendation lists from the literature.
    rule : {"", "list", "history"}
        For a rule that needs no model: whether it uses the list, or only the history. A rule that uses only the history
        finds nothing that the system causes.
    asks : bool
        Whether it sends queries of its own to the system, or uses only the lists that users are shown.
    looks : bool
        Whether it uses the lists that users are shown.
    vectors : bool
        Whether it uses item vectors.
    unit : {"user", "interaction"}
        The unit whose membership it infers.
    regimes : tuple of str
        The regimes that it is for; empty if it is for all that it can be run in.
    min_shadows : int
        Fewest shadow models that it can be fitted on, for an attack that needs a pool.
    user_code : bool
        Whether it is user code, which can change without a trace: its scores are not kept for other runs.

    Examples
    --------
    >>> ATTACKS["list-lr"].needs, ATTACKS["list-lr"].min_shadows
    ('pool', 4)
    >>> ATTACKS["mlp"].make({"rank_weights": "linear"}).rank_weights
    'linear'
    """

    name: str
    make: Callable[[Mapping[str, Any]], AnyAttack]
    needs: Needs
    about: str = ""
    published: bool = False
    rule: LooksAt = ""
    asks: bool = False
    looks: bool = True
    vectors: bool = False
    unit: Literal["user", "interaction"] = "user"
    regimes: tuple[str, ...] = ()
    min_shadows: int = 0
    user_code: bool = False

    @classmethod
    def of(cls, attack: AnyAttack) -> AttackSpec:
        """Return the spec of an attack that the user wrote; each fit gets a copy of the object as it is now.

        Raises
        ------
        ConfigError
            If it is no attack, has no name or one of recmia's, or cannot be pickled.
        """
        kind = type(attack).__name__
        if not isinstance(attack, (Attack, PoolAttack, InteractionAttack)):
            raise ConfigError(
                "an attack must be a name, or an object of a subclass of recmia.attacks.Attack, PoolAttack or "
                f"InteractionAttack; got a {kind}"
            )
        name = getattr(attack, "name", None)
        if not isinstance(name, str) or not name:
            raise ConfigError(f"the attack {kind} needs a name, a text for the tables: set the attribute name")
        if name in ATTACKS:
            raise ConfigError(f"the attack {kind} is called {name!r}, which is the name of one of recmia's; rename it")
        try:
            copies = _Copies(cloudpickle.dumps(attack))
        except Exception as error:
            words = " ".join(str(error).split())[:300]
            raise ConfigError(f"the attack {name} cannot be pickled, which it takes to copy it: {words}") from error
        first_line = (type(attack).__doc__ or "").strip().partition("\n")[0]
        return cls(
            name, copies, attack.needs, first_line, asks=attack.asks, looks=attack.looks, vectors=True,
            unit=getattr(attack, "unit", "user"), min_shadows=getattr(attack, "min_shadows", 0), user_code=True,
        )  # fmt: skip


@dataclass(frozen=True)
class _Copies:
    """Returns copies of a pickled attack, whatever the settings are."""

    packed: bytes

    def __call__(self, settings: Mapping[str, Any]) -> AnyAttack:
        made: AnyAttack = cloudpickle.loads(self.packed)
        return made


def _over_vectors(name: str, settings: Mapping[str, Any]) -> Attack:
    from recmia.attacks.classifiers import VectorClassifier

    return VectorClassifier(name, rank_weights=settings.get("rank_weights", "uniform"), **settings.get("mlp", {}))


def _without_shadows(kind: str, settings: Mapping[str, Any]) -> Attack:
    from recmia.attacks import shadow_free

    made: Attack = getattr(shadow_free, kind)(settings.get("rank_weights", "uniform"))
    return made


def _plain(module: str, kind: str, settings: Mapping[str, Any]) -> AnyAttack:
    made: AnyAttack = getattr(import_module(f"recmia.attacks.{module}"), kind)()
    return made


def _rule(name: str, rule: Callable[..., Any], asks: bool, settings: Mapping[str, Any]) -> Attack:
    return rules.Rule(name, rule, asks=asks)


def _classifier(name: str, about: str, *, published: bool = True) -> AttackSpec:
    return AttackSpec(name, partial(_over_vectors, name), "shadow", about, published, vectors=True)


def _pool(name: str, kind: str, min_shadows: int, about: str) -> AttackSpec:
    return AttackSpec(name, partial(_plain, "lists", kind), "pool", about, min_shadows=min_shadows)


def _pool_that_asks(name: str, kind: str, about: str, *, looks: bool) -> AttackSpec:
    made = partial(_plain, "queries", kind)
    return AttackSpec(name, made, "pool", about, asks=True, looks=looks, min_shadows=2)


def _of_interactions(name: str, kind: str, needs: Needs, about: str, min_shadows: int = 0) -> AttackSpec:
    made = partial(_plain, "interactions", kind)
    return AttackSpec(name, made, needs, about, asks=True, looks=False, unit="interaction", min_shadows=min_shadows)


def _baseline_of_interactions(name: str, kind: str, about: str, looks_at: LooksAt) -> AttackSpec:
    made = partial(_plain, "interactions", kind)
    return AttackSpec(name, made, "nothing", about, rule=looks_at, looks=looks_at == "list", unit="interaction")


def _baseline(name: str, function: Callable[..., Any], about: str, looks_at: LooksAt) -> AttackSpec:
    made = partial(_rule, name, function, False)
    return AttackSpec(name, made, "nothing", about, rule=looks_at, looks=looks_at == "list")


ATTACKS: Mapping[str, AttackSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            _classifier("mlp", "a neural network over history minus list, the published attack (Hu 2023)"),
            _classifier("naive-bayes", "a naive Bayes classifier over history minus list (Hu 2023)"),
            _classifier("decision-tree", "a decision tree over history minus list (Hu 2023)"),
            _classifier("logistic-regression", "a logistic regression over history minus list"),
            _classifier("random-forest", "a random forest over history minus list"),
            _classifier("gradient-boosting", "boosted trees over history minus list"),
            _classifier("k-nn", "the nearest neighbours over history minus list"),
            AttackSpec(
                "distance",
                partial(_without_shadows, "Distance"),
                "nothing",
                "how near the list is to the history, and how far from the popular list (Chi et al. 2024)",
                published=True,
                vectors=True,
            ),
            AttackSpec(
                "k-means",
                partial(_without_shadows, "KMeans"),
                "nothing",
                "two clusters of history minus list (Zhang et al. 2021)",
                published=True,
                vectors=True,
            ),
            AttackSpec(
                "completion",
                partial(_plain, "queries", "Completion"),
                "nothing",
                "how much of the hidden part of a history the answers to the rest complete",
                asks=True,
                looks=False,
            ),
            AttackSpec(
                "completion-reference",
                partial(_plain, "queries", "CompletionReference"),
                "references",
                "completion beyond what models trained on other people's data achieve",
                asks=True,
                looks=False,
            ),
            _pool_that_asks(
                "query-lr", "QueryLR", "completion and the list, with and without the user in training", looks=True
            ),
            _pool_that_asks("query-lr-completion", "QueryCompletion", "the part of query-lr that asks", looks=False),
            _pool("list-lr", "ListLR", 4, "how probable the list is with and without the user in training"),
            _pool("list-lr-surprise", "Surprise", 2, "the part of list-lr that asks how unusual the list is"),
            _pool("list-lr-counts", "Counts", 2, "the part of list-lr that counts items"),
            _pool("list-lr-ranks", "Ranks", 2, "the part of list-lr that looks at ranks"),
            _pool("list-lr-ridge", "Ridge", 4, "a discriminant on the lists of the user from many shadow models"),
            _pool("list-lr-offline", "Offline", 2, "list-lr from shadow models that never saw the user"),
            _pool(
                "rmia", "RMIA", 4, "compares the list with those of known non-members (after Zarifzadeh et al. 2024)"
            ),
            _baseline("shared-list", rules.shared_list, "is shown a list that nobody else gets", "list"),
            _baseline("popular-overlap", rules.popular_overlap, "is shown few of the most popular items", "list"),
            _baseline("seen-in-list", rules.seen_in_list, "is shown little that it has already seen", "list"),
            AttackSpec(
                "twin", partial(_rule, "twin", rules.twin, True), "nothing",
                "is shown another list than a stranger with the same history", rule="list", asks=True,
                regimes=("trained",),
            ),
            _baseline("history-length", rules.history_length, "has a long history", "history"),
            _baseline("history-popularity", rules.history_popularity, "has a history of popular items", "history"),
            _baseline("recency", rules.recency, "was active lately", "history"),
            _of_interactions(
                "item-completion", "ItemCompletion", "nothing",
                "how high the hidden item stands in the answer to the rest",
            ),
            _of_interactions(
                "item-reference", "ItemReference", "references",
                "the place of the hidden item beyond what other models give",
            ),
            _of_interactions(
                "item-lr", "ItemLR", "pool",
                "the place of the hidden item, with and without the interaction in training", 4,
            ),
            _baseline_of_interactions("absent", "Absent", "is of an item that is not in the user's own list", "list"),
            _baseline_of_interactions("item-popularity", "ItemPopularity", "is of a popular item", "history"),
            _baseline_of_interactions("item-history-length", "ItemHistoryLength", "is in a long history", "history"),
        )
    }
)  # fmt: skip
# The rules that need no model, which are always run and reported beside the attacks.
RULES: tuple[str, ...] = tuple(name for name, spec in ATTACKS.items() if spec.rule)


def attack_spec(name: str) -> AttackSpec:
    """Return the spec of an attack by name; for user code of which only the name is known, one that cannot be made.

    >>> attack_spec("rmia").needs
    'pool'
    """
    return ATTACKS.get(name) or AttackSpec(name, partial(_gone, name), "shadow")


def resolve_attack(given: str | AttackSpec | AnyAttack) -> AttackSpec:
    """Return the spec of an attack that is given by name, as an object, or as a spec.

    Raises
    ------
    ConfigError
        For an unknown name, the name of a rule, or an object that is no attack.

    Examples
    --------
    >>> resolve_attack("distance").published
    True
    """
    if isinstance(given, AttackSpec):
        return given
    if not isinstance(given, str):
        return AttackSpec.of(given)
    if given not in ATTACKS or ATTACKS[given].rule:
        attacks = [name for name in ATTACKS if name not in RULES]
        if given in RULES:
            raise ConfigError(f"{given!r} is a rule that is always run; name attacks: {', '.join(attacks)}")
        raise ConfigError(f"unknown attack {given!r}; {nearest(given, attacks)}")
    return ATTACKS[given]


def _gone(name: str, settings: Mapping[str, Any]) -> Attack:
    raise ConfigError(f"the attack {name} was an object in memory; pass it again to run it")

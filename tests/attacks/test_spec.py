"""Attacks by name, and attacks of the user's own."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import numpy as np
import pytest

from recmia.attacks import (
    ATTACKS,
    RULES,
    Attack,
    AttackSpec,
    InteractionAttack,
    Observation,
    PoolAttack,
    attack_spec,
    resolve_attack,
)
from recmia.attacks.classifiers import VectorClassifier
from recmia.attacks.rules import Rule
from recmia.errors import ConfigError
from recmia.settings import AttackerSettings, MLPSettings
from tests.attacks.helpers import users


class Short(Attack):
    """Is shown a short list.

    More words.
    """

    name = "short"
    needs = "nothing"

    def __init__(self, sign: float = -1.0) -> None:
        self.sign = sign

    def score(self, observation: Observation) -> Any:
        return self.sign * (observation.lists >= 0).sum(axis=1)


class Pooled(PoolAttack):
    name = "pooled"
    min_shadows = 3

    def fit(self, pool: Any, *, rng: np.random.Generator) -> Any:
        return self

    def score(self, observation: Observation) -> Any:
        return np.zeros(len(observation))


class OfItems(InteractionAttack):
    """Says that all is the same."""

    name = "of-items"
    asks, looks = False, True

    def score(self, observation: Observation) -> Any:
        assert observation.queries is not None
        return np.zeros(observation.queries.hidden.nnz)


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_by_name(name: str) -> None:
    spec = ATTACKS[name]
    one = spec.make({})
    assert one.name == name == spec.name
    assert (one.needs, one.asks) == (spec.needs, spec.asks)
    # One class is all rules on users, those that need no list, too.
    assert one.looks == spec.looks or isinstance(one, Rule)
    assert one is not spec.make({})
    assert getattr(one, "min_shadows", 0) == spec.min_shadows
    assert getattr(one, "unit", "user") == spec.unit
    assert isinstance(one, InteractionAttack) == (spec.unit == "interaction")
    assert spec.about, "tables say what it does"
    assert not spec.user_code
    assert attack_spec(name) is spec
    copy = pickle.loads(pickle.dumps(spec))
    assert (copy.name, copy.make({}).name) == (name, name)


def test_names() -> None:
    """Settings, stored results and gates name attacks so."""
    assert [name for name in ATTACKS if ATTACKS[name].needs == "shadow"] == [
        "mlp", "naive-bayes", "decision-tree", "logistic-regression", "random-forest", "gradient-boosting", "k-nn",
    ]  # fmt: skip
    assert [name for name in ATTACKS if ATTACKS[name].needs == "pool"] == [
        "query-lr", "query-lr-completion", "list-lr", "list-lr-surprise", "list-lr-counts", "list-lr-ranks",
        "list-lr-ridge", "list-lr-offline", "rmia", "item-lr",
    ]  # fmt: skip
    assert RULES == (
        "shared-list", "popular-overlap", "seen-in-list", "twin", "history-length", "history-popularity", "recency",
        "absent", "item-popularity", "item-history-length",
    )  # fmt: skip
    assert [name for name in RULES if ATTACKS[name].rule == "history"] == [*RULES[4:7], *RULES[8:]]
    assert [name for name in ATTACKS if ATTACKS[name].unit == "interaction"] == [
        "item-completion", "item-reference", "item-lr", *RULES[7:],
    ]  # fmt: skip
    assert [name for name in ATTACKS if ATTACKS[name].asks] == [
        "completion", "completion-reference", "query-lr", "query-lr-completion", "twin",
        "item-completion", "item-reference", "item-lr",
    ]  # fmt: skip
    published = [name for name in ATTACKS if ATTACKS[name].published]
    assert published == [*list(ATTACKS)[:7], "distance", "k-means"]


def test_attacks_take_the_attackers_settings() -> None:
    settings = AttackerSettings(rank_weights="linear", mlp=MLPSettings(epochs=3, hidden=(4,))).model_dump()
    made: Any = ATTACKS["mlp"].make(settings)
    assert isinstance(made, VectorClassifier)
    assert made.rank_weights == "linear"
    assert (made.mlp["epochs"], made.mlp["hidden"], made.mlp["momentum"]) == (3, (4,), 0.9)
    for name in ("distance", "k-means", "naive-bayes"):
        assert ATTACKS[name].make(settings).rank_weights == "linear"  # type: ignore[union-attr]
    # The defaults of the settings are those of the class.
    default: Any = ATTACKS["mlp"].make(AttackerSettings().model_dump())
    assert default.mlp == {**VectorClassifier("mlp").mlp}


def test_an_attack_of_the_users() -> None:
    mine = Short(2.0)
    spec = resolve_attack(mine)
    assert (spec.name, spec.needs, spec.about, spec.user_code) == ("short", "nothing", "Is shown a short list.", True)
    mine.sign = 5.0
    made: Any = spec.make({})
    assert made is not mine
    assert made.sign == 2.0, "as it was when it was given"
    assert made.score(users(3, np.random.default_rng(0))).tolist() == [10, 10, 10]
    assert pickle.loads(pickle.dumps(spec)).make({}).sign == 2.0
    assert resolve_attack(spec) is spec
    pooled = AttackSpec.of(Pooled())
    assert (pooled.needs, pooled.min_shadows, pooled.about) == ("pool", 3, "")
    assert {spec.unit, pooled.unit} == {"user"}
    of_items = resolve_attack(OfItems())
    assert (of_items.unit, of_items.needs, of_items.about) == ("interaction", "nothing", "Says that all is the same.")
    assert (of_items.asks, of_items.looks, of_items.min_shadows, of_items.user_code) == (False, True, 0, True)
    assert isinstance(pickle.loads(pickle.dumps(of_items)).make({}), InteractionAttack)


class Unnamed(Short):
    name = ""


class Taken(Short):
    name = "mlp"


class Locked(Short):
    def __init__(self) -> None:
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("list_lr", r"unknown attack 'list_lr'; did you mean 'list-lr'\? allowed: completion, completion-"),
        ("absent", "'absent' is a rule that is always run; name attacks: mlp, naive-bayes"),
        ("recency", "'recency' is a rule that is always run; name attacks: mlp, naive-bayes"),
        (
            3,
            "an attack must be a name, or an object of a subclass of recmia.attacks.Attack, PoolAttack or "
            "InteractionAttack; got a int",
        ),
        (Short, "an attack must be a name, or an object of a subclass"),
        (Unnamed(), "the attack Unnamed needs a name, a text for the tables: set the attribute name"),
        (Taken(), "the attack Taken is called 'mlp', which is the name of one of recmia's; rename it"),
        (Locked(), "the attack short cannot be pickled, which it takes to copy it: .*lock"),
    ],
)
def test_what_is_no_attack_is_refused(given: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        resolve_attack(given)


def test_an_attack_of_which_only_the_name_is_left() -> None:
    spec = attack_spec("short")
    assert spec.name == "short"
    with pytest.raises(ConfigError, match="the attack short was an object in memory; pass it again to run it"):
        spec.make({})

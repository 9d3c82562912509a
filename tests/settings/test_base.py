"""What all settings share: flat names, groups, tables, and errors that say how to mend them."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from recmia.errors import ConfigError
from recmia.settings import AuditSettings, ComposedSettings, FilesSettings, RecommenderSettings, SGDSettings
from recmia.settings.base import is_table, refuse_repeats, refuse_unknown

FILES = {"interactions": "a.csv", "lists": "b.csv", "members": "c.csv"}


def complete(kind: type[ComposedSettings]) -> ComposedSettings:
    return kind.parse(FILES if kind is FilesSettings else {})


KINDS = pytest.mark.parametrize("kind", [AuditSettings, FilesSettings])


@KINDS
def test_every_field_has_one_flat_name(kind: type[ComposedSettings]) -> None:
    names = [
        name
        for group in kind.model_fields.values()
        for name in group.annotation.model_fields  # type: ignore[union-attr]
    ]
    assert len(names) == len(set(names))
    assert set(names) == set(kind.flat_fields()) == set(complete(kind).flat())


@KINDS
def test_every_field_is_described(kind: type[ComposedSettings]) -> None:
    """The command line and the docs take their words from there."""

    def undescribed(fields: Any, table: str = "") -> list[str]:
        found = []
        for name, field in fields.items():
            if is_table(field):
                found += undescribed(field.annotation.model_fields, f"{name}.")
            elif not field.description:
                found.append(table + name)
        return found

    assert undescribed({name: field for name, (_, field) in kind.flat_fields().items()}) == []


@KINDS
def test_flat_settings_survive_toml(kind: type[ComposedSettings]) -> None:
    settings = complete(kind)
    assert kind.parse(tomllib.loads(tomli_w.dumps(settings.flat()))) == settings


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "dataset": st.text(),
        "k": st.integers(1, 10**6),
        "factors": st.integers(1, 1000),
        "n_targets": st.integers(1, 99),
        "n_shadows": st.integers(0, 200).map(lambda half: 2 * half),
        "held_out": st.floats(0, 1, exclude_max=True),
        "member_share": st.floats(0, 1, exclude_min=True, exclude_max=True),
        "regimes": st.lists(
            st.sampled_from(["popular", "popular-random", "fold-in", "trained"]), min_size=1, unique=True
        ),
        "attacks": st.lists(st.text(), unique=True, max_size=4),
        "knowledge": st.lists(st.sampled_from(["black-box", "grey-box", "white-box"]), min_size=1, unique=True),
        "split": st.sampled_from(["users", "interactions", "shared"]),
        "exclude_seen": st.booleans(),
        "thresholds": st.booleans(),
        "recommender": st.text().filter(lambda name: name != "command"),
        "defence": st.text(),
        "seed": st.integers(0, 2**63 - 1),
        "columns": st.fixed_dictionaries(
            {}, optional={"user": st.text(), "separator": st.sampled_from(["", ";", "|", "\t"])}
        ),
        "mlp": st.fixed_dictionaries(
            {}, optional={"hidden": st.lists(st.integers(1, 99), min_size=1, max_size=3), "epochs": st.integers(1, 99)}
        ),
        "lfm": st.fixed_dictionaries(
            {},
            optional={
                "epochs": st.integers(1, 99),
                "learning_rate": st.floats(0, 1e3, exclude_min=True),
                "feedback": st.sampled_from(["explicit", "implicit"]),
            },
        ),
        "dp": st.fixed_dictionaries({}, optional={"steps": st.integers(1, 99)}),
    },
)


@given(VALUES)
def test_any_values_survive_toml(values: dict[str, Any]) -> None:
    settings = AuditSettings.parse(values)
    flat = settings.flat()
    assert AuditSettings.parse(flat) == settings
    assert AuditSettings.parse(tomllib.loads(tomli_w.dumps(flat))) == settings
    for name, value in values.items():
        if isinstance(value, dict):
            assert all(settings.value(f"{name}.{key}") == _as_set(given) for key, given in value.items())
        else:
            assert settings.value(name) == _as_set(value)


def _as_set(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@given(VALUES, VALUES)
def test_changed_is_parsed_anew(one: dict[str, Any], other: dict[str, Any]) -> None:
    settings = AuditSettings.parse(one).changed(**other)
    whole = dict(one)
    for name, value in other.items():
        # A table that is given as a mapping takes the place of the whole table.
        whole[name] = value
    assert settings == AuditSettings.parse(whole)
    assert AuditSettings.parse(one).changed() == AuditSettings.parse(one)


def test_a_change_is_checked_and_leaves_the_rest() -> None:
    settings = AuditSettings.parse({"k": 10, "seeds": 2, "lfm": {"epochs": 3}})
    changed = settings.changed(k=20)
    assert (changed.k, changed.value("seeds"), changed.value("lfm.epochs")) == (20, 2, 3)
    assert settings.k == 10
    with pytest.raises(ConfigError, match="k: Input should be greater than or equal to 1; got 0"):
        settings.changed(k=0)
    with pytest.raises(ConfigError, match="unknown setting 'factor'; did you mean 'factors'"):
        settings.changed(factor=3)


def test_a_table_can_be_given_as_such() -> None:
    table = SGDSettings(epochs=3)
    assert AuditSettings.parse({"lfm": table}) == AuditSettings.parse({"lfm": {"epochs": 3}})
    assert AuditSettings.parse({}).changed(lfm=table).recommenders.lfm is not None
    assert AuditSettings.parse({}).changed(lfm=table).recommenders.lfm == table


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kk": 3}, r"unknown setting 'kk'; did you mean 'k'\? allowed: alpha, als, attacks"),
        (
            {"recomender": 3, "xyzzy": 1},
            r"'recomender'; did you mean 'recommender'\?.*; unknown setting 'xyzzy'",
        ),
        (
            {"lfm": {"epoch": 3}},
            r"unknown setting 'lfm.epoch'; did you mean 'epochs'\? allowed: bias, epochs, f",
        ),
        ({"mlp": {"widths": [3]}}, "unknown setting 'mlp.widths'; .*allowed: batches, epochs, hidden"),
        ({"columns": {"users": "u"}}, r"unknown setting 'columns.users'; did you mean 'user'\?"),
        ({"game": {"k": 3}}, "unknown setting 'game'"),
        ({"k": 0}, "k: Input should be greater than or equal to 1; got 0"),
        ({"k": "many"}, "k: Input should be a valid integer.*; got 'many'"),
        ({"k": None}, "k: Input should be a valid integer; got None"),
        ({"lfm": {"epochs": 0}}, "lfm.epochs: Input should be greater than or equal to 1; got 0"),
        ({"lfm": {"learning_rate": float("inf")}}, "lfm.learning_rate: Input should be a finite number; got inf"),
        ({"held_out": float("nan")}, "held_out: Input should be"),
        ({"lfm": 3}, "lfm: Input should be a valid dictionary or instance of SGDSettings; got 3"),
        (
            {"regimes": ["foldin"]},
            r"regimes: unknown regime 'foldin'; did you mean 'fold-in'\? allowed: fold-in, p",
        ),
        ({"regimes": []}, "regimes: .* at least 1 item"),
        ({"regimes": ["popular", "popular"]}, "regimes: named more than once: popular"),
        ({"knowledge": ["greybox"]}, r"knowledge: unknown level of knowledge 'greybox'; did you mean 'grey-box'"),
        ({"knowledge": ["grey-box", "grey-box"]}, "knowledge: named more than once: grey-box"),
        ({"attacks": ["mlp", "rmia", "mlp"]}, "attacks: named more than once: mlp"),
        ({"n_shadows": 7}, "n_shadows: Input should be a multiple of 2; got 7"),
        ({"k": 0, "seeds": 0}, "k: Input should be .*; got 0; seeds: Input should be .*; got 0"),
        ({"train": {"command": "python x.py"}}, r"train.command: the command must name \{interactions\}"),
        ({"recommender": "command"}, "the recommender 'command' needs the command that trains it: --train-command"),
        ({"target": "ease"}, "^unknown setting 'target'; it is called 'recommender'$"),
    ],
)
def test_each_mistake_is_named_with_what_is_allowed(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        AuditSettings.parse(given)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_settings_cannot_be_changed_in_place() -> None:
    settings = AuditSettings()
    for one, name in ((settings, "game"), (settings.game, "k"), (settings.recommenders.lfm, "epochs")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(one, name, 3)


def test_what_is_given_is_not_changed() -> None:
    given = {"recommender": "als", "lfm": {"epochs": 3}}
    AuditSettings.parse(given)
    assert given == {"recommender": "als", "lfm": {"epochs": 3}}


def test_values_by_name() -> None:
    settings = AuditSettings.parse({"k": 7, "lfm": {"epochs": 3}})
    assert settings.value("k") == 7
    assert settings.value("lfm.epochs") == 3
    assert settings.value("lfm") is settings.recommenders.lfm
    assert settings.value("dp.factors") == 8
    assert settings.value("factors") == 100


def test_names_are_checked() -> None:
    refuse_unknown("fruit", ["apple"], ["apple", "pear"])
    with pytest.raises(ValueError, match=r"unknown fruit 'aple'; did you mean 'apple'\? allowed: apple, pear"):
        refuse_unknown("fruit", ["pear", "aple"], ["apple", "pear"])
    assert refuse_repeats(("a", "b")) == ("a", "b")
    with pytest.raises(ValueError, match="named more than once: a, c"):
        refuse_repeats(("a", "c", "b", "c", "a"))


def test_tables_are_told_from_values() -> None:
    fields = RecommenderSettings.model_fields
    assert [name for name, field in fields.items() if not is_table(field)] == ["factors", "device"]
    assert all(issubclass(field.annotation, BaseModel) for field in fields.values() if is_table(field))  # type: ignore[arg-type]


@pytest.mark.parametrize("module", ["recmia.settings", "recmia"])
def test_settings_are_light(module: str) -> None:
    """Whoever only checks settings must not wait for what trains models, reads tables or draws figures."""
    heavy = ["numba", "sklearn", "polars", "matplotlib", "scipy", "joblib", "torch"]
    code = (
        f"import sys, {module}\n"
        f"loaded = [name for name in {heavy} if name in sys.modules]\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

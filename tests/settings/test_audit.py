"""The settings of an audit of data, and of an audit of files."""

from __future__ import annotations

from typing import Any

import pytest

from recmia.errors import ConfigError
from recmia.settings import AS_SERVED, AuditSettings, CommandSettings, FilesSettings
from recmia.settings.audit import AnyAuditSettings

FILES: dict[str, Any] = {"interactions": "a.csv", "lists": "b.csv", "members": "c.csv"}
COMMAND = "python train.py {interactions} {histories} {lists}"


def test_the_defaults_are_valid() -> None:
    assert AuditSettings.parse({}) == AuditSettings()
    settings = AuditSettings()
    assert (settings.source, settings.target, settings.shadow) == ("ml-latest-small", "lfm", "lfm")
    assert (settings.levels, settings.regimes) == (("grey-box",), ("popular", "fold-in"))
    assert (settings.n_targets, settings.k, list(settings.seeds)) == (1, 100, [0, 1, 2, 3, 4])
    assert settings.attacker.attacks == ("mlp", "list-lr")


def test_seeds_follow_the_first() -> None:
    assert list(AuditSettings.parse({"seed": 7, "seeds": 3}).seeds) == [7, 8, 9]
    assert list(FilesSettings.parse(FILES | {"seed": 7}).seeds) == [7]


@pytest.mark.parametrize(
    ("given", "target", "shadow"),
    [
        ({}, "lfm", "lfm"),
        ({"recommender": "als"}, "als", "als"),
        ({"recommender": "als", "shadow": "ease"}, "als", "ease"),
        ({"target": "als"}, "als", "lfm"),
        ({"train": {"command": COMMAND}}, "command", "command"),
        ({"train": CommandSettings(command=COMMAND)}, "command", "command"),
        ({"train": {"command": COMMAND}, "shadow": "als"}, "command", "als"),
        ({"train": {"command": COMMAND}, "target": "als"}, "als", "lfm"),
        ({"train": {"command": COMMAND}, "recommender": "als"}, "als", "als"),
        ({"train": {"timeout": 3}}, "lfm", "lfm"),
    ],
)
def test_who_is_audited_and_what_the_attacker_uses(given: dict[str, Any], target: str, shadow: str) -> None:
    settings = AuditSettings.parse(given)
    assert (settings.target, settings.shadow) == (target, shadow)
    assert AuditSettings.parse(settings.flat()) == settings


def test_the_settings_of_files() -> None:
    settings = FilesSettings.parse(FILES)
    assert (settings.source, settings.target, settings.shadow) == ("a.csv", "your system", "lfm")
    assert (settings.levels, settings.regimes) == (("grey-box",), (AS_SERVED,))
    assert (settings.n_targets, settings.k) == (1, 0)
    assert settings.attacker.attacks == ("distance", "mlp", "list-lr"), "not those of audits of data"
    assert AuditSettings().attacker.attacks == ("mlp", "list-lr")
    assert settings.game.regime == "fold-in"
    assert FilesSettings.parse(FILES | {"train": {"command": COMMAND}}).shadow == "command"
    assert FilesSettings.parse(FILES | {"train": {"command": COMMAND}, "shadow": "als"}).shadow == "als"


@pytest.mark.parametrize("name", ["dataset", "regimes", "seeds", "n_targets", "held_out", "split", "knowledge", "dp"])
def test_what_makes_no_sense_for_files_is_unknown(name: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown setting '{name}'; .*allowed: alpha, als"):
        FilesSettings.parse(FILES | {name: 1})


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_needed(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is needed: "):
        FilesSettings.parse({key: value for key, value in FILES.items() if key != name})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"shadow_members": "s.csv"}, "shadow_members needs shadow_interactions beside it"),
        ({"shadow_lists": "s.csv"}, "shadow_lists needs shadow_interactions and shadow_members beside it"),
        ({"pool_lists": "*.csv"}, "pool_lists needs pool_members beside it"),
        ({"pool_members": "*.csv"}, "pool_members needs pool_lists beside it"),
    ],
)
def test_files_that_go_together(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        FilesSettings.parse(FILES | given)
    FilesSettings.parse(
        FILES | {"shadow_interactions": "s", "shadow_members": "s", "shadow_lists": "s", "pool_lists": "p"}
        | {"pool_members": "p"}
    )  # fmt: skip


def test_neither_is_made_of_the_other() -> None:
    assert AuditSettings.__mro__[1] is FilesSettings.__mro__[1] is AnyAuditSettings


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train 'it", "cannot be split into words"),
        ("train {interactions} {lists}", r"it misses \{histories\}"),
        ("train", r"it misses \{interactions\}, \{histories\}, \{lists\}"),
    ],
)
def test_commands_that_cannot_work(command: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"train.command: .*{words}"):
        AuditSettings.parse({"train": {"command": command}})

"""The settings of an audit of data, and of an audit of files."""

from __future__ import annotations

from typing import Any

import pytest

from recmia.errors import ConfigError
from recmia.settings import AS_SERVED, AuditSettings, CommandSettings, FilesSettings, ForgetSettings
from recmia.settings.audit import AnyAuditSettings

FILES: dict[str, Any] = {"interactions": "a.csv", "lists": "b.csv", "members": "c.csv"}
COMMAND = "python train.py {interactions} {histories} {lists}"


def test_the_defaults_are_valid() -> None:
    assert AuditSettings.parse({}) == AuditSettings()
    settings = AuditSettings()
    assert (settings.source, settings.target, settings.shadow) == ("ml-latest-small", "lfm", "lfm")
    assert (settings.levels, settings.regimes) == (("grey-box",), ("fold-in", "popular"))
    assert (settings.n_targets, settings.k, list(settings.seeds)) == (1, 100, [0, 1, 2, 3, 4])
    assert settings.attacker.attacks == ("mlp", "list-lr", "completion", "query-lr")
    assert (settings.attacker.n_shadows, settings.attacker.depth, settings.attacker.queries) == (6, 0, 6)
    assert (settings.attacker.query_share, settings.knowledge.known) == (0.5, 1.0)
    assert settings.attacker.references == ("itemknn", "ease", "lfm")


ASKING, LOOKING = ("mlp", "list-lr", "completion", "query-lr"), ("mlp", "list-lr")


@pytest.mark.parametrize(
    ("given", "attacks"),
    [
        ({}, ASKING),
        ({"queries": 2}, ASKING),
        ({"queries": 0}, LOOKING),
        ({"regimes": ["popular"]}, LOOKING),
        ({"regimes": ["popular", "popular-random"]}, LOOKING),
        ({"regimes": ("popular", "fold-in")}, ASKING),
        ({"regimes": ["trained"]}, ASKING),
        ({"regimes": ["trained"], "queries": 0}, LOOKING),
        # A default that is written down, as in the file of a run, is still the default.
        ({"regimes": ["popular"], "attacks": list(ASKING)}, LOOKING),
        # What was chosen is not replaced: it is run, or refused by name.
        ({"regimes": ["popular"], "attacks": ["query-lr"]}, ("query-lr",)),
        ({"queries": 0, "attacks": ["completion", "mlp"]}, ("completion", "mlp")),
        ({"queries": 0, "attacks": []}, ()),
    ],
    ids=str,
)
def test_where_nothing_can_be_asked_the_default_attacks_only_look(
    given: dict[str, Any], attacks: tuple[str, ...]
) -> None:
    settings = AuditSettings.parse(given)
    assert settings.attacker.attacks == attacks
    assert AuditSettings.parse(settings.flat()) == settings


def test_the_default_attacks_come_back_with_what_can_be_asked() -> None:
    """The cells of a sweep are changes of the same settings."""
    popular = AuditSettings.parse({"regimes": ["popular"]})
    assert popular.changed(k=5).attacker.attacks == LOOKING
    assert popular.changed(regimes=["popular", "fold-in"]).attacker.attacks == ASKING
    assert popular.changed(regimes=["fold-in"]).changed(queries=0).attacker.attacks == LOOKING
    assert AuditSettings().changed(queries=0).changed(queries=2) == AuditSettings.parse({"queries": 2})
    assert AuditSettings.parse({"attacks": LOOKING}).changed(queries=2).attacker.attacks == LOOKING, "chosen"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"queries": 5}, "queries: .*multiple of 2; got 5"),
        ({"queries": -2}, "queries: .*greater than or equal to 0; got -2"),
        ({"queries": "many"}, "queries: .*valid integer.*'many'"),
        ({"query_share": 0}, "query_share: .*greater than 0; got 0"),
        ({"query_share": 1}, "query_share: .*less than 1; got 1"),
        ({"query_share": float("nan")}, "query_share: "),
        ({"known": 0}, "known: .*greater than 0; got 0"),
        ({"known": 1.5}, "known: .*less than or equal to 1; got 1.5"),
        ({"depth": -1}, "depth: .*greater than or equal to 0; got -1"),
        ({"n_shadows": 3}, "n_shadows: .*multiple of 2; got 3"),
        ({"references": ["ease", "ease"]}, "references: named more than once: ease"),
        ({"attacks": ["completion", "completion"]}, "attacks: named more than once: completion"),
        ({"querys": 4}, "unknown setting 'querys'; did you mean 'queries'"),
    ],
    ids=str,
)
def test_bad_values_of_what_is_asked(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        AuditSettings.parse(given)


def test_seeds_follow_the_first() -> None:
    assert list(AuditSettings.parse({"seed": 7, "seeds": 3}).seeds) == [7, 8, 9]
    assert list(FilesSettings.parse(FILES | {"seed": 7}).seeds) == [7]


@pytest.mark.parametrize(
    ("given", "target", "shadow"),
    [
        ({}, "lfm", "lfm"),
        ({"recommender": "als"}, "als", "als"),
        ({"recommender": "als", "shadow": "ease"}, "als", "ease"),
        ({"train": {"command": COMMAND}}, "command", "command"),
        ({"train": CommandSettings(command=COMMAND)}, "command", "command"),
        ({"train": {"command": COMMAND}, "shadow": "als"}, "command", "als"),
        ({"train": {"command": COMMAND}, "recommender": "als"}, "als", "als"),
        ({"train": {"timeout": 3}}, "lfm", "lfm"),
    ],
)
def test_who_is_audited_and_what_the_attacker_uses(given: dict[str, Any], target: str, shadow: str) -> None:
    settings = AuditSettings.parse(given)
    assert (settings.target, settings.shadow) == (target, shadow)
    assert AuditSettings.parse(settings.flat()) == settings


@pytest.mark.parametrize(
    ("given", "regimes"),
    [
        ({"recommender": "als"}, ("fold-in", "popular")),
        ({"shadow": "shop:make"}, ("fold-in", "popular")),
        ({"recommender": "shop.models:make"}, ("fold-in",)),
        ({"recommender": "BM25 (in memory)"}, ("fold-in",)),
        ({"train": {"command": COMMAND}}, ("fold-in",)),
        ({"train": {"command": COMMAND}, "recommender": "als"}, ("fold-in", "popular")),
        ({"recommender": "shop.models:make", "regimes": ["popular"]}, ("popular",)),
    ],
)
def test_user_code_is_audited_where_all_are_served_alike(given: dict[str, Any], regimes: tuple[str, ...]) -> None:
    """A popular list for non-members would be ours."""
    settings = AuditSettings.parse(given)
    assert settings.regimes == regimes
    assert AuditSettings.parse(settings.flat()) == settings
    assert settings.attacker.attacks == (LOOKING if regimes == ("popular",) else ASKING)


def test_the_settings_of_files() -> None:
    settings = FilesSettings.parse(FILES)
    assert (settings.source, settings.target, settings.shadow) == ("a.csv", "your system", "lfm")
    assert (settings.levels, settings.regimes) == (("grey-box",), (AS_SERVED,))
    assert (settings.n_targets, settings.k) == (1, 0)
    assert settings.attacker.attacks == ("distance", "mlp", "list-lr"), "not those of audits of data"
    assert AuditSettings().attacker.attacks == ASKING
    assert settings.game.regime == "fold-in"
    assert FilesSettings.parse(FILES | {"train": {"command": COMMAND}}).shadow == "command"
    assert FilesSettings.parse(FILES | {"train": {"command": COMMAND}, "shadow": "als"}).shadow == "als"


@pytest.mark.parametrize(
    "name", ["dataset", "regimes", "seeds", "n_targets", "held_out", "split", "knowledge", "known", "dp"]
)
def test_what_makes_no_sense_for_files_is_unknown(name: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown setting '{name}'; .*allowed: alpha, als"):
        FilesSettings.parse(FILES | {name: 1})


@pytest.mark.parametrize("name", [name for name in FILES if name != "lists"])
def test_files_that_are_needed(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name} \(--{name}\) is needed: "):
        FilesSettings.parse({key: value for key, value in FILES.items() if key != name})


ASKED = {key: value for key, value in FILES.items() if key != "lists"} | {"questions": "q", "answers": "a.parquet"}


def test_lists_or_answers_are_needed() -> None:
    with pytest.raises(ConfigError, match=r"answers or lists are needed: .*--answers, --questions.*--lists"):
        FilesSettings.parse({key: value for key, value in FILES.items() if key != "lists"})
    assert FilesSettings.parse(ASKED).attacker.attacks == ("completion", "completion-reference")
    both = FilesSettings.parse(ASKED | FILES)
    assert both.attacker.attacks == ("distance", "completion", "completion-reference")
    assert FilesSettings.parse(both.flat()) == both
    assert FilesSettings.parse(ASKED | {"attacks": ["completion"]}).attacker.attacks == ("completion",)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (FILES | {"questions": "q"}, "questions needs answers beside it: --answers$"),
        (FILES | {"answers": "q"}, "answers needs questions beside it: --questions$"),
        (FILES | {"reference_answers": "q"}, "reference_answers needs answers beside it"),
        (ASKED | {"reference_answers": "b", "reference_interactions": "c"}, "reference_interactions, .* not both"),
        (ASKED | {"reference_answers": "a.parquet"}, "reference_answers and answers are the same file, a.parquet"),
        (ASKED | {"members": ASKED["interactions"]}, "members and interactions are the same file, a.csv"),
        (ASKED | {"reference_interactions": ASKED["interactions"]}, "reference_interactions and interactions are the"),
        (ASKED | {"answers_columns": "user=u"}, "answers_columns: a file of answers has no column 'user'"),
        (
            ASKED | {"members_columns": "user"},
            "named as ROLE=NAME,..., with user, item, member, separator, header; found 'user'",
        ),
        (ASKED | {"members_columns": "user=a,user=b"}, "the column user is named twice"),
        (
            ASKED | {"items_columns": "separator=:::"},
            "the separator must be one ASCII character, ::, or tab; found ':::'",
        ),
        (ASKED | {"items_columns": "header=maybe"}, "header is yes or no; found 'maybe'"),
    ],
)
def test_files_of_questions_that_do_not_go_together(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as told:
        FilesSettings.parse(given)
    assert "\n" not in str(told.value)


def test_forgetting_needs_answers_and_whose_data_were_deleted() -> None:
    with pytest.raises(ConfigError, match=r"answers \(--answers\) is needed: what the system answers"):
        ForgetSettings.parse(FILES | {"deleted": "d.csv"})
    with pytest.raises(ConfigError, match=r"deleted \(--deleted\) is needed: a file of the users"):
        ForgetSettings.parse(ASKED)
    with pytest.raises(ConfigError, match="deleted_columns: a file of deleted has no column 'who'"):
        ForgetSettings.parse(ASKED | {"deleted": "d.csv", "deleted_columns": "who=x"})
    settings = ForgetSettings.parse(ASKED | {"deleted": "d.csv", "deleted_columns": "user=x"})
    assert settings.forgetting.named == {"user": "x"}
    assert ForgetSettings.parse(settings.flat()) == settings


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"shadow_members": "s.csv"}, "shadow_members needs shadow_interactions beside it"),
        (
            {"shadow_lists": "s.csv"},
            "needs shadow_interactions and shadow_members beside it: --shadow-interactions --shadow-members$",
        ),
        ({"pool_lists": "*.csv"}, "pool_lists needs pool_members beside it"),
        ({"pool_members": "*.csv"}, "pool_members needs pool_lists beside it"),
    ],
)
def test_files_that_go_together(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        FilesSettings.parse(FILES | given)
    FilesSettings.parse(
        FILES | {"shadow_interactions": "s", "shadow_members": "t", "shadow_lists": "u", "pool_lists": "p"}
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

"""What the help of each command says, and that every setting can be set on the command line."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import typer.main
from click.testing import CliRunner

from recmia.cli import app, options
from recmia.errors import ConfigError
from recmia.settings import AuditSettings, ComposedSettings, FilesSettings, ForgetSettings
from recmia.settings.base import is_table

# The models whose settings are options of each command.
RUNS: dict[str, type[ComposedSettings]] = {
    **dict.fromkeys(("audit", "sweep", "matrix", "defend", "export-files"), AuditSettings),
    "audit-files": FilesSettings,
    "forget": ForgetSettings,
}
COMMANDS = (*RUNS, "ask", "report", "reproduce", "data", "doctor")
# Without a use for lists and shadow systems.
FORGETS = {
    "lists", "lists_columns", "shadow_interactions", "shadow_members", "shadow_lists", "pool_lists", "pool_members",
    "regime", "k", "alpha", "attacks", "shadow", "n_shadows", "depth", "rank_weights", "thresholds", "mlp",
}  # fmt: skip
# The widest terminal on which two screens of 57 lines have to do.
WIDTH, LINES = 100, 114
GROUP: Any = typer.main.get_command(app)


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(GROUP, arguments, env={"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def option(path: str) -> str:
    if path == "columns.header":
        return "--header"
    return f"--{path.replace('.', '-').replace('_', '-')}"


def tables(model: type[ComposedSettings]) -> Iterator[tuple[str, Sequence[str]]]:
    """Each table of the settings, and its fields."""
    for name, (_, field) in model.flat_fields().items():
        if is_table(field):
            kind = field.annotation
            assert kind is not None
            yield name, list(kind.model_fields)


def test_every_command_is_listed() -> None:
    text = shown("--help")
    for command in COMMANDS:
        assert re.search(rf"│ {command} ", text), command
    assert set(COMMANDS) == set(GROUP.commands)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_no_heading_is_empty(command: str) -> None:
    lines = shown(*command.split(), "--help").splitlines()
    headings = [line for line in lines if line.startswith("╭")]
    assert headings
    for line, after in itertools.pairwise(lines):
        if line.startswith("╭"):
            assert re.match(r"╭─ \w", line), "a heading without a name"
            assert not after.startswith("╰"), f"nothing stands under {line}"
    assert len(headings) == len({line.strip("╭─╮ ") for line in headings}), "a heading stands twice"


@pytest.mark.parametrize("command", RUNS)
def test_help_fits_two_screens(command: str) -> None:
    lines = shown(command, "--help").splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= WIDTH


@pytest.mark.parametrize("command", RUNS)
def test_every_setting_has_an_option(command: str) -> None:
    """Those of tables are not in the help, but in that of their table."""
    text, model = shown(command, "--help"), RUNS[command]
    of_tables = dict(tables(model))
    left_out = {
        "matrix": {"recommender", "shadow"},
        "defend": {"defence"},
        # The files say how many questions there are.
        "audit-files": {"queries", "query_share", "query_kind"},
        "forget": {"queries", "query_share", "query_kind", *FORGETS},
    }.get(command, set())
    assert not [name for name in left_out if re.search(rf"{option(name)}\b", text)]
    for name in model.flat_fields().keys() - left_out:
        if name not in of_tables:
            assert re.search(rf"{option(name)}\b", text), name
            continue
        assert f"{option(name)}-" not in text
        if command not in ("audit", "audit-files"):
            continue
        of_table = shown(command, "--help-settings", name)
        assert f"Settings of {name}, as options and (in a file) in the table [{name}]:" in of_table
        for field in of_tables[name]:
            assert re.search(rf"^{option(f'{name}.{field}')}[ /]", of_table, re.MULTILINE), field


@pytest.mark.parametrize("command", RUNS)
def test_tables_are_named_by_the_help(command: str) -> None:
    text = " ".join(shown(command, "--help").replace("│", " ").split())
    left_out = FORGETS if command == "forget" else set[str]()
    names = ", ".join(name for name, _ in tables(RUNS[command]) if name not in left_out)
    assert f"List the options of one of: {names}." in text


def test_an_unknown_table_is_refused_by_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown table of settings 'ncff'; did you mean 'ncf'"):
        shown("audit", "--help-settings", "ncff")
    with pytest.raises(ConfigError, match="unknown table of settings 'dp'"):
        shown("audit-files", "--help-settings", "dp")


def test_what_the_attacker_may_ask_is_in_the_help() -> None:
    text = " ".join(shown("audit", "--help").replace("│", " ").split())
    for words in (
        "--queries <int> Queries about each user; 0: the attacker only looks at lists. [default: 6]",
        "--query-share <float> Share of history asked with. [default: 0.5]",
        "[default: itemknn,ease,lfm]",
        "[default: mlp,list-lr,completion,query-lr]",
        f"each on half of the users. [default: {AuditSettings().attacker.n_shadows}]",
        "0 means ten times k. [default: 0]",
        "--known <float> Share of each audited history that is known, drawn at random. [default: 1.0]",
    ):
        assert words in text, words


@pytest.mark.parametrize("command", COMMANDS)
def test_no_default_is_taken_for_a_mark_of_the_terminal(command: str) -> None:
    text = " ".join(shown(command, "--help").replace("│", " ").split())
    assert not re.search(r"\w \. ", text)
    wanted = {
        "defend": "interval is to stay under. [default: 0.6]",
        "ask": "Probability of each coin. [default: 0.5]",
        "matrix": "Recommenders to audit. [default: lfm,itemknn,userknn,ease]",
        "audit": "alone on stdout. [default: text]",
    }
    assert wanted.get(command, "") in text


@pytest.mark.parametrize("option_name", ["--attacks", "--attack", "--factors", "-l"])
def test_further_spellings(option_name: str) -> None:
    assert re.search(rf"(?<![\w-]){option_name}(?![\w-])", shown("audit", "--help")), option_name


def test_one_name_for_one_thing() -> None:
    """A recommender is --recommender and several are --recommenders; a count begins with n."""
    for command in RUNS:
        text = shown(command, "--help")
        assert not re.search(r"--targets?\b", text), command
        assert ("--shadows " in text) == (command == "matrix")
        assert ("--recommenders " in text) == (command == "matrix")
        assert ("--recommender " in text) == (command in ("audit", "sweep", "defend", "export-files"))
        assert bool(re.search(r"--name +<str> +What to call the audited system", text)) == (
            command in ("audit-files", "forget")
        )
        if command not in ("audit-files", "forget"):
            assert re.search(r"--n-targets +<int>", text)
            assert re.search(r"--n-shadows +<int>", text)


def test_commands_are_listed_as_people_need_them() -> None:
    assert list(GROUP.commands) == [
        "audit", "report", "defend", "ask", "audit-files", "forget", "sweep", "matrix", "data", "export-files",
        "reproduce", "doctor",
    ]  # fmt: skip
    listed = re.findall(r"^│ ([a-z][a-z-]+) ", shown("--help"), re.MULTILINE)
    assert listed == list(GROUP.commands)


@pytest.mark.end_to_end
def test_as_a_module() -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "recmia", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    usage = run()
    assert usage.stdout.split()[:2] == ["Usage:", "recmia"]
    assert (usage.returncode, usage.stderr) == (2, "")
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("recmia ")
    refused = run("audit", "--help-settings", "nothing")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: unknown table of settings 'nothing'; ")
    assert "Traceback" not in refused.stderr


def test_a_hint_names_an_option_that_there_is() -> None:
    hints = {(command, flag): options.present_name(command, flag) for command in COMMANDS for flag in options._FORMER}
    assert hints["export-files", "--targets"] == "--n-targets"
    for (command, flag), name in hints.items():
        assert not name or re.search(rf"{name}\b", shown(command, "--help")), (command, flag, name)

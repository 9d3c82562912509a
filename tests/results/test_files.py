"""Audits of lists from files: the same numbers as in memory, and every fault told in a line."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from recmia import AuditResult, audit, audit_files
from recmia.data.interactions import IdMap
from recmia.data.lists import read_members
from recmia.errors import ConfigError, DataError, ProtocolError, RecmiaError, TooFewUsersError
from recmia.results.files import export_files
from recmia.results.folder import settings_toml
from recmia.results.setup import resolve
from recmia.settings import AS_SERVED, AuditSettings, FilesSettings

OWN: dict[str, Any] = {
    "factors": 8,
    "n_shadows": 8,
    "lfm": {"epochs": 2},
    "attacks": ["distance", "k-means", "mlp", "list-lr"],
}
SETTINGS = {**OWN, "dataset": "synthetic:120x200x6000", "k": 10, "regimes": ["fold-in"], "seeds": 1, "seed": 3}
THREE = {"interactions": "interactions.parquet", "lists": "lists.parquet", "members": "members.csv"}
SHADOW = {f"shadow_{name}": f"shadow-{file}" for name, file in THREE.items()}
POOL = {"pool_lists": "pool/*.parquet", "pool_members": "pool/*.csv"}


def files(folder: Path, *parts: dict[str, str], **settings: Any) -> FilesSettings:
    named = {name: str(folder / file) for part in parts for name, file in part.items()}
    return FilesSettings.parse({**OWN, "seed": 3, **named, **settings})


def games(tmp_path_factory: pytest.TempPathFactory, **settings: Any) -> tuple[Path, AuditResult]:
    folder, store = tmp_path_factory.mktemp("exported"), dict[str, Any]()
    chosen = AuditSettings.parse({**SETTINGS, **settings})
    export_files(resolve(chosen), folder, store=store)
    return folder, audit(settings=chosen, store=store)


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AuditResult]:
    """The files of an audit whose sides share no user, and its result."""
    return games(tmp_path_factory)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AuditResult]:
    """The same where both sides have all users, served by the fallback."""
    return games(tmp_path_factory, split="shared", regimes=["popular"], shadow="itemknn", recommender="itemknn")


def assert_same_numbers(found: AuditResult, expected: AuditResult) -> None:
    as_served = expected.scores.with_columns(pl.lit(AS_SERVED).alias("regime"))
    assert found.scores.sort(pl.all()).equals(as_served.sort(pl.all()))
    assert found.users.equals(expected.users)
    figures = {(row.attack, row.metric): (row.value, row.low) for row in found.metrics}
    wanted = {(row.attack, row.metric): (row.value, row.low) for row in expected.metrics}
    assert figures.items() >= wanted.items()
    # How files came about is not known, so that they always have a bound on epsilon.
    assert {metric for _, metric in figures.keys() - wanted.keys()} <= {"epsilon"}


@pytest.mark.end_to_end
def test_files_of_an_audit_give_its_numbers(apart: tuple[Path, AuditResult]) -> None:
    folder, expected = apart
    assert_same_numbers(audit_files(settings=files(folder, THREE, SHADOW, POOL)), expected)


@pytest.mark.end_to_end
def test_a_shadow_side_that_is_trained_here_gives_them_too(
    apart: tuple[Path, AuditResult], shared: tuple[Path, AuditResult]
) -> None:
    folder, expected = apart
    without_lists = {name: file for name, file in SHADOW.items() if name != "shadow_lists"}
    assert_same_numbers(audit_files(settings=files(folder, THREE, without_lists)), expected)
    folder, expected = shared
    result = audit_files(settings=files(folder, THREE, regime="popular", shadow="itemknn"))
    assert_same_numbers(result, expected)
    assert max(row.value or 0 for row in result.metrics if row.attack == "list-lr" and row.metric == "auc") > 0.9


def test_attacks_that_learn_nothing_need_no_shadow(shared: tuple[Path, AuditResult]) -> None:
    folder, expected = shared
    store: dict[str, Any] = {}
    result = audit_files(settings=files(folder, THREE, attacks=["distance", "k-means"], regime="popular"), store=store)
    assert store == {}
    assert not result.settings.attacker.thresholds
    assert {row.metric for row in result.metrics}.isdisjoint({"balanced_accuracy"})
    wanted = expected.scores.filter(~pl.col("attack").is_in(["mlp", "list-lr"]), side="target")
    assert result.scores.drop("regime").sort(pl.all()).equals(wanted.drop("regime").sort(pl.all()))
    assert "either" not in result.verdict
    assert AS_SERVED in str(result)


def test_settings_of_a_run_repeat_it(shared: tuple[Path, AuditResult]) -> None:
    folder, _ = shared
    first = audit_files(settings=files(folder, THREE, attacks=["distance"]))
    again = FilesSettings.parse(tomllib.loads(settings_toml(first.settings)))
    assert again.k == 10
    assert audit_files(settings=again).scores.equals(first.scores)


@pytest.fixture
def written(shared: tuple[Path, AuditResult], tmp_path: Path) -> Callable[..., FilesSettings]:
    """Write the three files anew, each changed by a function of its frame, and give the settings for them."""

    def write(
        settings: dict[str, Any] | None = None, **changed: Callable[[pl.DataFrame], pl.DataFrame]
    ) -> FilesSettings:
        folder, _ = shared
        for name, file in THREE.items():
            frame = (pl.read_parquet if file.endswith("parquet") else pl.read_csv)(folder / file)
            if name in changed:
                frame = changed[name](frame)
            frame.write_csv(tmp_path / f"{name}.csv")
        parts = {name: f"{name}.csv" for name in THREE}
        return files(tmp_path, parts, **{"attacks": ["distance"], **(settings or {})})

    return write


def test_text_files_and_shorter_lists(written: Callable[..., FilesSettings], shared: tuple[Path, AuditResult]) -> None:
    _, expected = shared
    result = audit_files(settings=written())
    wanted = expected.scores.filter(attack="distance", side="target")["score"]
    assert result.scores.filter(attack="distance")["score"].to_list() == wanted.to_list()
    shorter = audit_files(
        settings=written(lists=lambda lists: lists.filter((pl.col("user") > 1) | (pl.col("rank") <= 4)))
    )
    assert shorter.settings.k == 10
    assert "lists of fewer than 10 items: 1" in shorter.provenance["data"]["notes"]


def change(column: str, row: int, value: Any) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Put a value into a column, as text, at a data row that counts from 1."""

    def changed(frame: pl.DataFrame) -> pl.DataFrame:
        cells = frame[column].cast(pl.String).to_list()
        cells[row - 1] = str(value)
        return frame.with_columns(pl.Series(column, cells))

    return changed


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown item": ({"lists": change("item", 7, 99999)}, r"lists\.csv: data row 7 has an unknown item.*99999"),
    "repeated rank": ({"lists": change("rank", 5, 1)}, r"lists\.csv: data row 5 gives a rank"),
    "rank from zero": ({"lists": change("rank", 1, 0)}, r"lists\.csv: data row 1 has a rank out of 1\.\."),
    "float id": ({"lists": change("user", 4, "0.0")}, r"lists\.csv: data row 4 has an unknown user.*0\.0"),
    "repeated item": (
        {"lists": lambda lists: lists.with_columns(item=pl.when(rank=2).then(lists["item"][0]).otherwise("item"))},
        r"lists\.csv: user 1 has the item \d+ more than once",
    ),
    "user without a list": ({"lists": lambda lists: lists.filter(pl.col("user") != 11)}, r"user 11 has no list"),
    "list without a history": (
        {
            "interactions": lambda rows: rows.filter(pl.col("user") != 2),
            "members": lambda m: m.filter(pl.col("user") != 2),
        },
        r"lists\.csv: data row 11 has an unknown user",
    ),
    "too long": ({"settings": {"k": 9}}, r"lists\.csv: data row 10 has a rank out of 1\.\.9"),
    "no lists": ({"lists": lambda lists: lists.head(0)}, r"lists\.csv: user 1 has no list"),
    "no rank": ({"lists": lambda lists: lists.drop("rank")}, r"lists\.csv.*no rank"),
    "no item": ({"interactions": lambda rows: rows.drop("item")}, r"interactions\.csv has no column for the item"),
    "no histories": ({"interactions": lambda rows: rows.head(0)}, r"interactions\.csv holds no rows"),
    "unknown member": (
        {"members": change("user", 3, 7777)},
        r"members\.csv: data row 3 names a user who is in no hist",
    ),
    "float member": ({"members": change("user", 3, "2.0")}, r"members\.csv: data row 3.*whole numbers: '2\.0'"),
    "half a member": ({"members": change("member", 9, "maybe")}, r"data row 9 has no label of membership.*: 'maybe'"),
    "member twice": ({"members": change("user", 9, 1)}, r"members\.csv: data row 9 names a user a second time: '1'"),
    "member left out": ({"members": lambda m: m.head(100)}, r"user 101 is audited and has no row \(20 of 120"),
    "all members": ({"members": lambda m: m.select("user")}, r"of 120 users 120 are members"),
    "few members": ({"members": lambda m: m.select("user").head(9)}, r"of 120 users 9 are members"),
    "no members": ({"members": lambda m: m.head(0)}, r"members\.csv holds no user ids"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_told_with_file_and_row(fault: str, written: Callable[..., FilesSettings]) -> None:
    changes, message = FAULTS[fault]
    kind = TooFewUsersError if message.startswith("of 120") else RecmiaError
    with pytest.raises(kind, match=message) as told:
        audit_files(settings=written(**changes))
    assert "\n" not in str(told.value)
    assert not isinstance(told.value, ConfigError)


@pytest.mark.end_to_end
def test_pool_files_come_in_pairs_of_names_and_of_halves(apart: tuple[Path, AuditResult], tmp_path: Path) -> None:
    folder, _ = apart
    with pytest.raises(DataError, match=r"found 8 as .* and 0 as"):
        audit_files(settings=files(folder, THREE, SHADOW, POOL | {"pool_members": "pool/*.txt"}))
    for number in range(8):
        for suffix in (".csv", ".parquet"):
            # The first pair is parted.
            name = f"{(number + 1) % 8}{suffix}"
            (tmp_path / name).write_bytes((folder / "pool" / f"000{number}{suffix}").read_bytes())
    moved = {"pool_lists": str(tmp_path / "*.parquet"), "pool_members": str(tmp_path / "*.csv")}
    with pytest.raises(ProtocolError, match="complementary halves"):
        audit_files(settings=files(folder, THREE, SHADOW, **moved))


@pytest.mark.end_to_end
def test_a_pool_brings_the_shadow(apart: tuple[Path, AuditResult]) -> None:
    folder, _ = apart
    store: dict[str, Any] = {}
    result = audit_files(
        settings=files(folder, THREE, POOL, n_shadows=16, attacks=["mlp", "list-lr"], name="x"), store=store
    )
    assert store == {}
    of_pool = pl.read_csv(folder / "pool" / "0000.csv")["member"].cast(pl.Boolean)
    assert result.scores.filter(attack="mlp", side="shadow")["member"].to_list() == of_pool.to_list()
    assert result.settings.attacker.n_shadows == 8


def test_items_that_nobody_knows_must_be_named(written: Callable[..., FilesSettings], tmp_path: Path) -> None:
    chosen = written(lists=change("item", 7, 99999))
    (tmp_path / "items.csv").write_text("99999\n99998\n")
    result = audit_files(settings=chosen.changed(items=str(tmp_path / "items.csv")))
    assert result.provenance["attacker"][0][AS_SERVED]["unknown_list_share"] == pytest.approx(1 / 1200)
    assert result.provenance["data"]["items"] == 202
    (tmp_path / "items.csv").write_text("item\n99999\n1.5\n")
    with pytest.raises(DataError, match=r"items\.csv: data row 2 has an item id that is no whole number: '1\.5'"):
        audit_files(settings=chosen.changed(items=str(tmp_path / "items.csv")))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", "b\nd\n"),
        ("m.csv", "userId\nb\nd\n"),
        ("m.csv", "a,0\nb,1\nc,false\nd,TRUE\n"),
        ("m.csv", "member,extra,user\n1,x,d\n1,,b\n0,y,a\n\n0,z,c\n"),
        ("m.tsv", "user\tmember\r\nd\t1\r\nb\t1\r\na\t0\r\nc\t0"),
    ],
)
def test_members_in_every_form(name: str, text: str, tmp_path: Path) -> None:
    users = IdMap(np.array(["a", "b", "c", "d"], object))
    (tmp_path / name).write_text(text)
    assert read_members(tmp_path / name, users).tolist() == [False, True, False, True]


def test_members_in_parquet(tmp_path: Path) -> None:
    users = IdMap(np.array([3, 7, 9]))
    pl.DataFrame({"user": [9, 3, 7], "member": [True, False, True]}).write_parquet(tmp_path / "m.parquet")
    assert read_members(tmp_path / "m.parquet", users).tolist() == [False, True, True]
    pl.DataFrame({"user": [9.0]}).write_parquet(tmp_path / "m.parquet")
    with pytest.raises(DataError, match="must be whole numbers or text; the column holds Float64"):
        read_members(tmp_path / "m.parquet", users)
    with pytest.raises(DataError, match="no such file"):
        read_members(tmp_path / "none.csv", users)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"interactions \(--interactions\) is needed"),
        ({"interactions": "i", "lists": "l"}, r"members \(--members\) is needed: .* no attack can be graded"),
        (
            {"interactions": "i", "lists": "l", "members": "m", "split": "shared"},
            "unknown setting 'split'",
        ),
        (
            {"interactions": "i", "lists": "l", "members": "m", "shadow_lists": "s"},
            "shadow_lists needs shadow_interactions",
        ),
        ({"interactions": "i", "lists": "l", "members": "m", "pool_lists": "p"}, "pool_lists needs pool_members"),
        ({"interactions": "i", "lists": "l", "members": "m", "shadow": "none"}, "unknown recommender 'none'"),
        ({"interactions": "i", "lists": "l", "members": "m", "regime": "as-served"}, "regime"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(FilesSettings.parse(settings))


def test_histories_that_differ_are_told(written: Callable[..., FilesSettings]) -> None:
    """Members with the longer histories: no system has a part in that."""

    def by_length(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.filter((pl.col("user") % 2 == 0) | (rows["item"] % 2 == 0))

    def even(members: pl.DataFrame) -> pl.DataFrame:
        return members.with_columns(member=(pl.col("user") % 2 == 0).cast(pl.Int8))

    result = audit_files(settings=written(interactions=by_length, members=even))
    assert "Members and non-members differ in their histories alone (history-length" in result.verdict
    assert "differ in their histories" not in audit_files(settings=written()).verdict


@pytest.mark.end_to_end
def test_command_line(shared: tuple[Path, AuditResult], tmp_path: Path) -> None:
    folder, _ = shared
    program = [sys.executable, "-c", "from recmia.cli import main; main()"]
    three = [f"--{name}={folder / file}" for name, file in THREE.items()]

    def run(*arguments: str, command: tuple[str, ...] = ("audit-files",)) -> subprocess.CompletedProcess[str]:
        words = [*program, *command, *arguments]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    done = run(*three, "--attacks", "distance", "-l", "8", "--out", "run", "--name", "Acme 3")
    assert done.returncode == 0, done.stderr
    assert "interactions.parquet: " in done.stdout
    assert AS_SERVED in done.stdout
    assert (tmp_path / "run" / "roc.png").is_file()
    again = run("--config", "run/config.toml", "--out", "again")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again" / "scores.parquet").read_bytes() == (tmp_path / "run" / "scores.parquet").read_bytes()
    told = run("report", "run", "-o", "report.html", command=())
    assert told.returncode == 0, told.stderr
    page = (tmp_path / "report.html").read_text()
    assert "Acme 3" in page
    assert "is stated in a file" in page
    assert "--n-targets" not in page
    gate = ["--attacks", "distance", "-l", "8", "--fail-above"]
    leaky = run(*three, *gate, "auc=0.5", "--out", "leaky")
    assert leaky.returncode == 1, leaky.stderr
    assert "gate:" in leaky.stdout
    not_there = run(*three, *gate, "balanced_accuracy=0.6", "--out", "no")
    assert not_there.returncode == 2
    assert "balanced_accuracy" in not_there.stderr
    (tmp_path / "bad.csv").write_text("user\n1\nnobody\n")
    failed = run(*three[:2], "--members=bad.csv", "--attacks", "distance", "--out", "failed")
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: bad.csv: data row 2 names a user who is in no history")
    assert failed.stderr.count("\n") == 1
    assert not (tmp_path / "failed").exists()


def test_users_in_blocks_get_the_same_scores(shared: tuple[Path, AuditResult], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = shared
    chosen = files(folder, THREE, attacks=["distance", "k-means"])
    whole = audit_files(settings=chosen).scores
    monkeypatch.setattr("recmia.observation._BLOCK", 7)
    assert audit_files(settings=chosen).scores.equals(whole)
    monkeypatch.setattr("recmia.data.tables.ROWS_AT_ONCE", 100)
    assert audit_files(settings=chosen).scores.equals(whole)


def test_k_means_of_a_sample_sees_the_same_fallback(
    shared: tuple[Path, AuditResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = shared
    chosen = files(folder, THREE, attacks=["k-means"])
    auc = {one.attack: one.value for one in audit_files(settings=chosen).metrics if one.metric == "auc"}
    monkeypatch.setattr("recmia.attacks.shadow_free._CLUSTERED", 60)
    sampled = {one.attack: one.value for one in audit_files(settings=chosen).metrics if one.metric == "auc"}
    assert auc["k-means"] is not None
    assert sampled["k-means"] == pytest.approx(auc["k-means"], abs=0.05)
    assert sampled["k-means"] != auc["k-means"]

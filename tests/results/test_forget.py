"""Whether a system has forgotten users, from files: outcomes of real systems, the folder, the page, and every fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import recmia
from recmia.data.datasets import load
from recmia.data.lists import write_answers, write_members
from recmia.data.questions import read_questions
from recmia.errors import ConfigError, DataError, RecmiaError, TooFewUsersError
from recmia.recommenders.spec import RECOMMENDERS
from recmia.settings import ForgetSettings, RecommenderSettings
from tests.cli.helpers import Here

N_DELETED = 25
FILES = {"interactions": "log.parquet", "members": "members.csv", "questions": "questions",
         "answers": "answers.parquet", "deleted": "deleted.csv"}  # fmt: skip
QUICK: dict[str, Any] = {"references": ["itemknn"], "seed": 1}


def settings(folder: Path, **changed: Any) -> ForgetSettings:
    return ForgetSettings.parse({**QUICK, **{name: str(folder / file) for name, file in FILES.items()}, **changed})


def build(folder: Path, recommender: str, *, delete: str) -> Path:
    """The files of a system of a log of 300 users, half of them audited; delete: "trained anew" or "nothing"."""
    rng = np.random.default_rng(4)
    log = load("synthetic:300x200x15000").interactions
    audited = np.sort(rng.choice(log.n_users, 150, replace=False))
    member = np.zeros(log.n_users, np.bool_)
    member[audited] = rng.random(150) < 0.6
    deleted = rng.choice(np.flatnonzero(member), N_DELETED, replace=False)
    trained = member.copy()
    member[deleted] = False
    folder.mkdir(exist_ok=True)
    log.frame().write_parquet(folder / "log.parquet")
    pl.DataFrame({"user": log.users.ids[audited]}).write_csv(folder / "users.csv")
    pl.DataFrame({"user": log.users.ids[deleted]}).write_csv(folder / "deleted.csv")
    write_members(folder / "members.csv", log.users.take(audited), member[audited])
    recmia.ask(folder / "log.parquet", folder / "questions", users=folder / "users.csv", seed=1)
    _, queries, numbers = read_questions(folder / "questions", log)
    spec = RECOMMENDERS[recommender]
    model = spec.make(spec.used(RecommenderSettings()), 1)
    model.fit(log.restrict(np.flatnonzero(member if delete == "trained anew" else trained)), rng=rng)
    write_answers(folder / "answers.parquet", numbers, log.items, model.recommend(queries.asked, 20))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The files of a system, made once."""
    folders: dict[tuple[str, str], Path] = {}

    def make(recommender: str, delete: str) -> Path:
        if (recommender, delete) not in folders:
            folders[recommender, delete] = build(tmp_path_factory.mktemp("system"), recommender, delete=delete)
        return folders[recommender, delete]

    return make


@pytest.mark.parametrize("recommender", ["ease", "itemknn"])
def test_a_system_that_was_trained_anew_has_forgotten(made: Callable[..., Path], recommender: str) -> None:
    result = recmia.forget(settings=settings(made(recommender, "trained anew")))
    assert (result.found.outcome, result.exit_code) == ("forgotten", 0)
    assert result.found.most_remembered <= 0.3
    assert len(result.users) == N_DELETED
    assert str(result).count("Forgotten. The 25 deleted users look like users who were never in the training data") == 1
    assert "the test is as good as its positive control" in result.verdict


@pytest.mark.parametrize("recommender", ["ease", "itemknn"])
def test_a_deletion_that_does_nothing_is_found(made: Callable[..., Path], recommender: str) -> None:
    result = recmia.forget(settings=settings(made(recommender, "nothing")))
    assert (result.found.outcome, result.exit_code) == ("not forgotten", 1)
    assert result.found.most_remembered > 0.5
    assert "Not forgotten. The 25 deleted users do not look like" in result.verdict


def test_a_system_of_which_nothing_is_found_gives_no_power(made: Callable[..., Path]) -> None:
    result = recmia.forget(settings=settings(made("random", "nothing")))
    assert (result.found.outcome, result.exit_code) == ("no power", 2)
    assert "so this says nothing about the deleted" in result.verdict
    assert "Forgotten" not in result.verdict


def test_a_margin_that_cannot_be_shown(made: Callable[..., Path]) -> None:
    result = recmia.forget(settings=settings(made("ease", "trained anew"), margin=0.05))
    assert (result.found.outcome, result.exit_code) == ("undecided", 1)
    assert "It takes 59 deleted users to rule out that share with a perfect attack" in result.verdict


def test_deleted_users_are_in_neither_group_of_the_control(made: Callable[..., Path]) -> None:
    folder = made("ease", "nothing")
    result = recmia.forget(settings=settings(folder))
    deleted = set(pl.read_csv(folder / "deleted.csv")["user"])
    assert not deleted & set(result.audit.scores["user_id"])
    assert not deleted & set(result.audit.users["user_id"])
    assert set(result.users["user_id"]) == deleted
    members = pl.read_csv(folder / "members.csv")
    n_members = int(members["member"].sum())
    (row,) = (one for one in result.audit.metrics if (one.attack, one.metric) == (result.attack, "auc"))
    assert (row.n_members, row.n_nonmembers) == (n_members, 150 - N_DELETED - n_members)
    assert row.value == result.found.control.value
    assert result.audit.disclosure.is_empty(), "the deleted would count as non-members there"


def test_the_folder_is_read_as_it_was_written(made: Callable[..., Path], tmp_path: Path) -> None:
    result = recmia.forget(settings=settings(made("ease", "nothing")))
    result.save(tmp_path / "run")
    again = recmia.read_run(tmp_path / "run")
    assert isinstance(again, recmia.ForgetResult)
    assert str(again) == str(result)
    assert again._repr_html_() == result._repr_html_()
    assert again.settings == result.settings
    told = json.loads((tmp_path / "run" / "forget.json").read_text())
    assert told["outcome"] == "not forgotten"
    assert told["deleted"] == N_DELETED
    assert (tmp_path / "run" / "roc.png").is_file()
    assert recmia.forget(settings=again.settings).deleted.equals(result.deleted)
    (tmp_path / "run" / "deleted.parquet").unlink()
    with pytest.raises(ConfigError, match="cannot read the run"):
        recmia.read_run(tmp_path / "run")


def test_the_page_says_it_first_and_hides_ids(made: Callable[..., Path], tmp_path: Path) -> None:
    result = recmia.forget(settings=settings(made("ease", "nothing")))
    page = result.report(tmp_path / "page.html", redact="omit").read_text()
    assert page.index("do not look like users who were never") < page.index("Are the deleted users forgotten?")
    assert "Not forgotten" in page
    assert "members (positive control)" in page
    hashed = result.report(tmp_path / "hashed.html", redact="hash").read_text()
    assert hashed.count("The deleted users with the highest scores") > 0


def test_without_references_completion_decides(made: Callable[..., Path], tmp_path: Path) -> None:
    folder = made("ease", "nothing")
    log = pl.read_parquet(folder / "log.parquet")
    audited = pl.read_csv(folder / "users.csv")["user"]
    log.filter(pl.col("user").is_in(audited.implode())).write_parquet(tmp_path / "audited.parquet")
    result = recmia.forget(settings=settings(folder, interactions=str(tmp_path / "audited.parquet")))
    assert result.attack == "completion"
    assert result.found.outcome == "not forgotten"


def test_deleted_users_who_are_not_answered_are_not_forgotten(made: Callable[..., Path], tmp_path: Path) -> None:
    """A system that does not answer about them must not pass."""
    folder = made("ease", "nothing")
    deleted = pl.read_csv(folder / "deleted.csv")
    key = pl.read_parquet(folder / "questions" / "key.parquet")
    about = key.filter(pl.col("user").is_in(deleted["user"].implode()))["query"].unique()
    answers = pl.read_parquet(folder / "answers.parquet").filter(~pl.col("query").is_in(about.implode()))
    answers.write_parquet(tmp_path / "answers.parquet")
    with pytest.raises(DataError, match=r"150 of 900 questions have no answer"):
        recmia.forget(settings=settings(folder, answers=str(tmp_path / "answers.parquet")))
    with pytest.raises(
        DataError, match=r"deleted\.csv: data row 1 names a user about whom nothing was asked, or no que"
    ):
        recmia.forget(settings=settings(folder, answers=str(tmp_path / "answers.parquet"), max_unanswered=1.0))
    # Of every deleted user one question of six: of all questions, few.
    of_deleted = key.filter(pl.col("query").is_in(about.implode())).select("query", "user").unique().sort("query")
    some = of_deleted.group_by("user", maintain_order=True).head(1)["query"]
    answers = pl.read_parquet(folder / "answers.parquet").filter(~pl.col("query").is_in(some.implode()))
    answers.write_parquet(tmp_path / "some.parquet")
    with pytest.raises(DataError, match=r"some\.parquet: 25 of \d+ questions about (non-members|deleted users) have"):
        recmia.forget(settings=settings(folder, answers=str(tmp_path / "some.parquet")))


def test_a_table_with_a_label_is_no_list_of_deleted_users(made: Callable[..., Path], tmp_path: Path) -> None:
    folder = made("ease", "nothing")
    members = pl.read_csv(folder / "members.csv").rename({"member": "deleted"})
    members.write_csv(tmp_path / "flag.csv")
    with pytest.raises(
        DataError, match=r"flag\.csv: beside the ids in 'user' there is 'deleted'; a file of users names"
    ):
        recmia.forget(settings=settings(folder, deleted=str(tmp_path / "flag.csv")))


def test_what_forgetting_has_no_use_for(made: Callable[..., Path]) -> None:
    folder = made("ease", "nothing")
    for given, words in (
        ({"attacks": ["mlp"]}, "deleted users are tested by completion and completion-reference; got mlp"),
        ({"lists": "lists.csv"}, "deleted users are tested by answers alone; leave out lists"),
    ):
        with pytest.raises(ConfigError, match=words):
            settings(folder, **given)
    chosen = settings(folder, attacks=["completion-reference", "completion"])
    assert recmia.forget(settings=chosen).attack == "completion-reference", "the stronger one, in any order"


def change(folder: Path, to: Path, name: str, frame: pl.DataFrame) -> dict[str, str]:
    frame.write_csv(to / f"{name}.csv")
    return {name: str(to / f"{name}.csv")}


def test_faults(made: Callable[..., Path], tmp_path: Path) -> None:
    folder = made("ease", "trained anew")
    deleted, members = pl.read_csv(folder / "deleted.csv"), pl.read_csv(folder / "members.csv")
    a_member = members.filter(member=1)["user"][0]
    log = pl.read_parquet(folder / "log.parquet")
    a_stranger = log.filter(~pl.col("user").is_in(members["user"].implode()))["user"][0]
    others = members.filter(member=0)["user"]
    faults: list[tuple[dict[str, pl.DataFrame], str]] = [
        ({"deleted": pl.concat([deleted, pl.DataFrame({"user": [a_member]})])},
         rf"deleted\.csv: data row 26 names a user who is a member in .*members\.csv.*: {a_member} "),
        ({"deleted": pl.concat([deleted, pl.DataFrame({"user": [123456]})])},
         r"deleted\.csv: data row 26 names a user about whom nothing was asked, or.*: '?123456"),
        ({"deleted": pl.concat([deleted, pl.DataFrame({"user": [a_stranger]})])},
         rf"deleted\.csv: data row 26 names a user about whom nothing was asked, or.*: '?{a_stranger}"),
        ({"deleted": pl.concat([deleted, deleted.head(1)])}, r"deleted\.csv: data row 26 names a user a second time"),
        ({"deleted": deleted.head(9)}, r"^9 deleted users are too few: 10 are needed"),
        ({"deleted": deleted.head(0)}, r"deleted\.csv holds no user ids"),
        ({"deleted": pl.DataFrame({"user": others[9:]})}, r"^9 never members are too few: 10 are needed"),
    ]  # fmt: skip
    for changed, words in faults:
        named: dict[str, str] = {}
        for name, frame in changed.items():
            named |= change(folder, tmp_path, name, frame)
        with pytest.raises(RecmiaError, match=words.replace(f": {a_member} ", f": '{a_member}'")) as told:
            recmia.forget(settings=settings(folder, **named))
        assert "\n" not in str(told.value)
    with pytest.raises(ConfigError, match="members and deleted are the same file"):
        recmia.forget(settings=settings(folder, deleted=str(folder / "members.csv")))
    with pytest.raises(DataError, match="there is no such file of deleted users"):
        recmia.forget(settings=settings(folder, deleted=str(folder / "none.csv")))
    with pytest.raises(TooFewUsersError):
        recmia.forget(settings=settings(folder, **change(folder, tmp_path, "deleted", deleted.head(9))))


@pytest.mark.end_to_end
def test_command_line(
    made: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = Here(tmp_path, monkeypatch, capsys)
    for number, (system, delete, code) in enumerate(
        (("ease", "trained anew", 0), ("ease", "nothing", 1), ("random", "nothing", 2))
    ):
        folder = made(system, delete)
        named = [f"--{name}={folder / file}" for name, file in FILES.items()]
        done = here("forget", *named, "--references", "itemknn", "--seed", "1", "--out", f"run-{number}")
        assert done.returncode == code, done.stderr
        assert "members (positive control)" in done.stdout
        assert (tmp_path / f"run-{number}" / "forget.json").is_file()
    again = here("forget", "--config", "run-1/config.toml", "--out", "again")
    assert again.returncode == 1
    told = here("report", "run-1", "-o", "page.html")
    assert told.returncode == 0, told.stderr
    refused = here("forget", *named[:-1], "--out", "no")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: deleted (--deleted) is needed")
    asked = here("ask", "--interactions", "synthetic:60x100x2000", "--draw-members", "--out", "q")
    assert asked.returncode == 0, asked.stderr
    assert "360 questions about 60 users" in asked.stdout
    assert here("ask", "--interactions", "synthetic:60x100x2000", "--out", "q").returncode == 2

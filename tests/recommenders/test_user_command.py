"""A recommender behind a command: what it is given, what it may write, and what becomes of one that fails."""

from __future__ import annotations

import dataclasses
import fcntl
import multiprocessing
import os
import pickle
import shlex
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import recmia as public
from recmia import Interactions
from recmia.cache import default_store
from recmia.data.interactions import Int32
from recmia.errors import ConfigError, ProtocolError, RecmiaError
from recmia.game.queries import draw_queries
from recmia.game.serving import serve
from recmia.game.split import Side, split_game
from recmia.game.tasks import Task, run_tasks
from recmia.observation import rank_by_popularity
from recmia.recommenders import RECOMMENDERS, CommandRecommender
from recmia.settings import AuditSettings, CommandSettings, RecommenderSettings
from tests.engine.test_parallel import group_is_gone, wait_until

TRAINER = f"{shlex.quote(sys.executable)} -S {shlex.quote(str(Path(__file__).parents[1] / 'trainer.py'))}"
FILES = "{interactions} {histories} {k} {lists} {seed}"
K = 10
PROGRAM = [sys.executable, "-c", "from recmia.cli import main; main()"]
QUICK = ["-d", "synthetic:120x200x6000", "--factors", "8", "-k", "10", "--seeds", "1", "--n-shadows", "8"]


def command(fault: str = "") -> str:
    return f"{TRAINER} {FILES} {shlex.quote(fault)}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in which the command is run; temporary files of it are seen to be removed."""
    (tmp_path / "here").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return tmp_path / "here"


def side(data: Interactions) -> Side:
    return split_game(data, rng=np.random.default_rng(0)).target


def fit(one: Side, **settings: object) -> CommandRecommender:
    model = CommandRecommender(CommandSettings.model_validate({"command": command(), **settings}))
    return model.fit(one.training_data(), rng=np.random.default_rng(1))


def lists(model: CommandRecommender, one: Side, regime: str = "fold-in", k: int = K) -> Int32:
    return serve(regime, model, one, k, rng=np.random.default_rng(0))  # type: ignore[arg-type]


def runs(folder: Path) -> list[str]:
    return (folder / "runs").read_text().splitlines() if (folder / "runs").exists() else []


def test_lists_are_those_that_the_command_writes(folder: Path, small: Interactions) -> None:
    one = side(small)
    model = fit(one)
    ranking = rank_by_popularity(one.training_data().item_counts())
    # The trainer breaks ties by the text of the ids.
    counts, ids = one.training_data().item_counts(), one.interactions.items.ids
    ranking = np.array(sorted(ranking.tolist(), key=lambda item: (-counts[item], str(ids[item]))), np.int32)
    ranking = ranking[counts[ranking] > 0]
    histories = one.interactions.csr()
    for user, found in enumerate(lists(model, one)):
        unseen = ranking[~np.isin(ranking, histories[[user]].indices)]
        assert found.tolist() == unseen[:K].tolist()
    assert list((folder.parent / "temporary").iterdir()) == []


@pytest.mark.parametrize("regimes", [["fold-in", "popular", "trained"], ["popular", "popular-random"]])
def test_one_run_serves_every_regime(folder: Path, small: Interactions, regimes: list[str]) -> None:
    one = side(small)
    model = fit(one, command=command("leak"))
    served = {regime: lists(model, one, regime) for regime in regimes}
    assert len(runs(folder)) == 1
    if "trained" in regimes:
        assert np.array_equal(served["trained"], served["fold-in"])
    assert np.array_equal(served["popular"][one.member], next(iter(served.values()))[one.member])
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(lists(again, one, regimes[0]), served[regimes[0]])
    assert len(runs(folder)) == 1


@pytest.mark.end_to_end
def test_an_audit_of_both_regimes_trains_each_model_once(folder: Path, small: Interactions) -> None:
    result = public.audit(small, train={"command": command()}, attacks=["distance"], k=K, factors=4, seeds=1)
    assert len(runs(folder)) == 2, "the target and the shadow"
    assert (result.settings.target, result.settings.shadow) == ("command", "command")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("text", [False, True], ids=["numbers", "text"])
def test_what_the_command_is_given(folder: Path, small: Interactions, kind: str, text: bool) -> None:
    frame = small.frame()
    if text:
        frame = frame.with_columns(pl.format("new-{}", "user").alias("user"), pl.col("item").cast(pl.String))
    times = frame["time"].to_numpy() if "time" in frame.columns else None
    data = Interactions.from_arrays(
        frame["user"].to_numpy(), frame["item"].to_numpy(), frame["rating"].to_numpy(), times
    )
    one = side(data)
    script = 'cp "$1" given; cp "$2" asked; echo "$4 $5 $6" > rest; exit 1'
    words = f"sh -c {shlex.quote(script)} sh {{interactions}} {{histories}} {{lists}} {{k}} {{seed}} {{folder}}"
    model = fit(one, command=words, format=kind)
    with pytest.raises(ProtocolError, match="exit status 1"):
        lists(model, one)
    read = pl.read_csv if kind == "csv" else pl.read_parquet
    given, asked = (read(Path(name)) for name in ("given", "asked"))
    members = one.training_data()
    expected = members.frame().rename({"rating": "value"})
    assert given.columns == expected.columns
    assert given.equals(expected.cast(given.schema))
    # Members under their own ids, and everybody under a new one.
    assert asked.columns == ["user", "item", "value", "position"]
    known = asked.filter(pl.col("user").is_in(given["user"].implode()))
    assert known.equals(given.select("user", "item", "value", "position"))
    others = asked.filter(~pl.col("user").is_in(given["user"].implode()))
    assert others["user"].n_unique() == one.interactions.n_users
    assert (
        others["item"].cast(pl.Int64).to_list()
        == one.interactions.items.ids[one.interactions.sequences().indices].astype(int).tolist()
    )
    k, seed, its_folder = Path("rest").read_text().split()
    assert (int(k), int(seed)) == (K, int(np.random.default_rng(1).integers(2**31)))
    assert not Path(its_folder).exists()


def test_the_seed_decides(folder: Path, small: Interactions) -> None:
    one = side(small)
    first, again, other = (
        lists(
            CommandRecommender(CommandSettings(command=command("random"))).fit(
                one.training_data(), rng=np.random.default_rng(seed)
            ),
            one,
        )
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_nothing_is_read_by_a_shell(folder: Path, small: Interactions) -> None:
    strange = folder / "a b;touch hurt"
    strange.mkdir()
    one = side(small)
    lists(fit(one, command=f"{command()} '$(touch hurt)' ';touch' hurt", folder=str(strange)), one)
    assert not (folder / "hurt").exists()
    assert list(strange.iterdir()) == [], "what went well leaves nothing"


FAULTS = {
    "exit": "ended with exit status 3; its last lines: training run 1 | loading | no memory left",
    "crash": "was killed by SIGSEGV; its last lines: training run 1",
    "nothing": "wrote what cannot be used: lists.csv: there is no such file of lists",
    "garbage": "wrote what cannot be used: lists.csv is no text",
    "half": "wrote what cannot be used: lists.csv: ",
    "unknown item": "lists.csv: data row 5 has an unknown item, .* item 'nonsense'",
    "float item": "lists.csv: data row 5 has an unknown item",
    "float rank": "lists.csv: data row 5 has a rank that is no whole number",
    "rank 0": "lists.csv: data row 1 has a rank out of 1..10",
    "repeated rank": "lists.csv: data row 5 gives a rank to a second item",
    "repeated item": r"lists.csv: user \d+ has the item \d+ more than once, at the ranks 4 and 5",
    "too many": "lists.csv: data row 11 has a rank out of 1..10",
    "too few": r"lists.csv: user \d+ has 9 items and must have 10",
    "missing user": r"lists.csv: user \d+ has no list \(1 of",
    "seen": r"lists.csv: user \d+ has at rank \d+ the item \d+ of its own history",
}


@pytest.mark.end_to_end
@pytest.mark.parametrize("fault", FAULTS)
def test_a_command_that_fails_is_told_in_a_line(folder: Path, small: Interactions, fault: str) -> None:
    one = side(small)
    model = fit(one, command=command(fault))
    with pytest.raises(ProtocolError, match=FAULTS[fault]) as caught:
        lists(model, one)
    assert "trainer.py {interactions}" in str(caught.value)
    assert str(caught.value).endswith("; --train-folder DIR (setting train.folder) would keep its files")
    assert "\n" not in str(caught.value)
    assert list((folder.parent / "temporary").iterdir()) == []
    with pytest.raises(ProtocolError, match=FAULTS[fault]):
        lists(model, one, "popular")
    assert len(runs(folder)) == 1, "asked for other lists of the same model, it is not run again"


def test_an_item_without_training_data_is_unknown(folder: Path) -> None:
    """The data set has the item, the members have not."""
    user, item = np.repeat(np.arange(30), 10), np.tile(np.arange(10), 30)
    data = Interactions.from_arrays(np.append(user, 30), np.append(item, 77))
    one = Side(data, np.append(np.ones(30, np.bool_), False))
    script = 'for u in $(cut -d, -f1 "$2" | tail -n +2 | sort -u); do echo "$u,77,1"; done > rows; '
    script += '(echo user,item,rank; cat rows) > "$3"'
    words = f"sh -c {shlex.quote(script)} sh {{interactions}} {{histories}} {{lists}}"
    model = fit(one, command=words)
    with pytest.raises(ProtocolError, match=r"data row 1 has an unknown item, none of the 10 there are: .* item '77'"):
        model.recommend(data.csr(), 1, exclude_seen=False)


def test_short_lists_where_little_is_left(folder: Path) -> None:
    user, item = np.repeat(np.arange(30), 10), np.tile(np.arange(10), 30)
    data = Interactions.from_arrays(
        np.append(user, np.arange(30)), np.append(item, np.full(30, 10) + np.arange(30) % 3)
    )
    one = Side(data, np.ones(30, np.bool_))
    found = fit(one).recommend(data.csr(), 5)
    assert ((found >= 0).sum(axis=1) == 2).all()


def test_a_run_that_fails_is_tried_again(folder: Path, small: Interactions) -> None:
    one = side(small)
    with pytest.raises(ProtocolError, match=r"exit status 3.*\(the last of 3 attempts\)"):
        lists(fit(one, command=command("exit"), retries=2), one)
    assert len(runs(folder)) == 3
    # The third run and all before fail, the fourth does not.
    script = f"test $(wc -l < runs) -ge 3 && exec {command()}; echo >> runs; exit 1"
    words = f"sh -c {shlex.quote(script.replace(FILES, '$@'))} sh {FILES}"
    (folder / "runs").write_text("")
    lists(fit(one, command=words, retries=3), one)


@pytest.mark.end_to_end
def test_a_hanging_command_is_killed_with_its_children(
    folder: Path, small: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = side(small)
    started = time.monotonic()
    with pytest.raises(
        ProtocolError, match=r"took longer than 1 s \(--train-timeout, setting train.timeout\) and was killed"
    ):
        lists(fit(one, command=command("hang"), timeout=1), one)
    assert time.monotonic() - started < 30
    assert (folder / "locked").exists(), "the child must have lived"
    assert_free(folder / "lock")


def assert_free(path: Path) -> None:
    """Whoever held the lock is gone."""
    limit = time.monotonic() + 20
    with path.open() as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                assert time.monotonic() < limit, "a child of the command lives on"
                time.sleep(0.05)


def test_files_of_a_run_that_fails_are_kept_where_asked(folder: Path, small: Interactions) -> None:
    one = side(small)
    with pytest.raises(ProtocolError, match=r"its files are in .*kept/here/recmia-"):
        lists(fit(one, command=command("half"), folder="kept/here"), one)
    (kept,) = (folder / "kept" / "here").iterdir()
    assert {path.name for path in kept.iterdir()} == {"interactions.csv", "histories.csv", "lists.csv", "output.txt"}
    assert kept.stat().st_mode & 0o077 == 0, "histories are for the user's eyes only"
    (folder / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot make a folder for the training command in file"):
        lists(fit(one, folder="file"), one)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train": {"command": "train.sh {interactions} {k}"}}, r"it misses \{histories\}, \{lists\}"),
        ({"train": {"command": "train.sh '{interactions} {histories} {lists}"}}, "cannot be split into words"),
        ({"train": {"command": command(), "timeout": 0}}, "train.timeout: .*greater than 0; got 0"),
        ({"train": {"command": command(), "retries": -1}}, "train.retries: "),
        ({"recommender": "command"}, r"needs the command that trains it: --train-command \(setting train\.command\)"),
        ({"shadow": "command"}, r"needs the command that trains it: --train-command \(setting train\.command\)"),
    ],
)
def test_bad_settings(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        AuditSettings.parse(settings)


def test_a_command_that_cannot_be_started(folder: Path, small: Interactions) -> None:
    one = side(small)
    words = r"cannot be started: No such file or directory: '\./missing\.sh'; install it, or give its path"
    with pytest.raises(ProtocolError, match=rf"^the training command, asked about \d+ users: '\./missing.*{words}"):
        lists(fit(one, command="./missing.sh {interactions} {histories} {lists}"), one)
    (folder / "plain.sh").write_text("exit 1")
    with pytest.raises(ProtocolError, match=r"'\./plain\.sh'; name the program that runs it, such as python or sh"):
        lists(fit(one, command="./plain.sh {interactions} {histories} {lists}"), one)


def test_the_command_is_the_recommender_unless_another_is_named() -> None:
    def names(**settings: object) -> tuple[str, str]:
        found = AuditSettings.parse({"train": {"command": command()}, **settings})
        return found.target, found.shadow

    assert names() == ("command", "command")
    assert names(shadow="lfm") == ("command", "lfm")
    assert names(recommender="lfm", shadow="command") == ("lfm", "command")


def test_scripts_and_settings_that_matter_are_in_the_key(folder: Path) -> None:
    def key(**train: object) -> dict[str, object]:
        table = {"command": "sh train.sh {interactions} {histories} {lists}", **train}
        return RECOMMENDERS["command"].key(RecommenderSettings.model_validate({"train": table, "factors": 5}))

    (folder / "train.sh").write_text("exit 1")
    before = key()
    assert before.keys() == {"command", "format", "code"}
    assert before == key(timeout=5, retries=3, folder="elsewhere"), "more time changes no list"
    assert before != key(command="sh train.sh {interactions} {histories} {lists} {seed}")
    (folder / "train.sh").write_text("exit 2")
    assert before != key()


def recmia(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        [*PROGRAM, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.end_to_end
def test_what_was_finished_before_a_failure_is_kept(tmp_path: Path) -> None:
    """Ten models; the fifth fails."""
    before = set(default_store())
    (tmp_path / "limit").write_text("4")
    arguments = ["audit", *QUICK, "--attack", "list-lr", "--jobs", "1", "--train-command", command()]
    failed = recmia(*arguments, "-o", "run", cwd=tmp_path)
    assert failed.returncode == 2
    error, hint = failed.stderr.strip().splitlines()
    assert "exit status 3; its last lines: training run 5 | loading | no memory left" in error
    assert hint == "what was finished is kept: to continue, add --store run.unfinished"
    assert len(runs(tmp_path)) == 5, "and no other is tried"
    assert not (tmp_path / "run").exists()
    (tmp_path / "limit").unlink()
    refused = recmia(*arguments, "-o", "run", cwd=tmp_path)
    assert refused.returncode == 2
    assert "run.unfinished holds what an earlier run finished: continue with --store run.unfinished" in refused.stderr
    done = recmia(*arguments, "--store", "run.unfinished", "-o", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(runs(tmp_path)) == 4 + 1 + 6
    assert (tmp_path / "run" / "metrics.json").is_file()
    assert not (tmp_path / "run.unfinished").exists(), "the run is finished"
    whole = recmia(*arguments, "-o", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    assert len(runs(tmp_path)) == 11 + 10, "what a command served is in no cache"
    assert not (tmp_path / "whole.unfinished").exists()
    for name in ("scores.parquet", "metrics.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert set(default_store()) == before


# A terminal and some batch queues tell the workers, too.
STOPS = [*product(["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"], ["1", "2"], ["recmia"])]
STOPS += product(["SIGINT", "SIGTERM"], ["2"], ["everybody"])


@pytest.mark.end_to_end
@pytest.mark.parametrize(("stop", "jobs", "told"), STOPS)
def test_stopped_the_command_ends_and_the_rest_is_kept(tmp_path: Path, stop: str, jobs: str, told: str) -> None:
    (tmp_path / "limit").write_text("2")
    (tmp_path / "fault").write_text("hang")
    (tmp_path / "temporary").mkdir()
    arguments = ["audit", *QUICK, "--attack", "list-lr", "--jobs", jobs, "--train-command", command(), "-o", "run"]
    running = subprocess.Popen(
        [*PROGRAM, *arguments],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        limit = time.monotonic() + 60
        while not (tmp_path / "locked").exists():
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < limit
            time.sleep(0.05)
        assert list((tmp_path / "temporary").glob("recmia-*/interactions.csv"))
        (os.killpg if told == "everybody" else os.kill)(running.pid, getattr(signal, stop))
        _, errors = running.communicate(timeout=30)
    finally:
        running.kill()
    if stop == "SIGKILL":
        assert running.returncode == -signal.SIGKILL
    else:
        assert running.returncode == 130
        assert errors.strip() == (
            "interrupted; no results were written, and what was trained is kept: "
            "to continue, add --store run.unfinished"
        )
        assert not list((tmp_path / "temporary").glob("recmia-*")), "the interactions are removed first"
    assert_free(tmp_path / "lock")
    wait_until(lambda: group_is_gone(running.pid), "a worker lives on")
    wait_until(lambda: not list((tmp_path / "temporary").glob("recmia-*")), "the interactions are still there")


@pytest.mark.end_to_end
@pytest.mark.parametrize("kept", [False, True])
def test_a_command_ends_with_a_process_that_is_killed(
    folder: Path, small: Interactions, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of a run that was not finished stay only where the user named a place for them."""
    monkeypatch.setenv("TMPDIR", str(folder.parent / "temporary"))
    place = folder / "kept"
    one = side(small)
    model = fit(one, command=command("hang"), **({"folder": str(place)} if kept else {}))
    process = multiprocessing.get_context("spawn").Process(target=lists, args=(model, one))
    process.start()
    wait_until(lambda: (folder / "locked").exists(), "the command does not start")
    process.kill()
    process.join()
    assert_free(folder / "lock")
    wait_until(lambda: not list((folder.parent / "temporary").iterdir()), "the interactions are still there")
    assert [path.name for path in place.glob("*/interactions.csv")] == ["interactions.csv"] * kept


@pytest.mark.end_to_end
def test_errors_travel_and_processes_follow_to_the_current_folder(
    folder: Path, small: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    public.audit(small, train={"command": command()}, attacks=["distance"], k=K, factors=4, seeds=1, jobs=2)
    assert len(runs(folder)) == 2
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    with pytest.raises(RecmiaError, match="exit status 3"):
        public.audit(small, train={"command": command("exit")}, attacks=["distance"], k=K, factors=4, seeds=1, jobs=2)
    assert 1 <= len(runs(folder / "elsewhere")) <= 2
    assert len(runs(folder)) == 2


def asking(one: Side, fault: str = "", **changed: object) -> Task:
    settings = RecommenderSettings(train=CommandSettings(command=command(fault)))
    queries = draw_queries(one.interactions, 4, 0.5, np.random.default_rng(0))
    task = Task(RECOMMENDERS["command"], settings, one, "fold-in", K, True, 0.1, (0, "target"), queries=queries)
    return dataclasses.replace(task, **changed)  # type: ignore[arg-type]


def test_one_run_answers_all_queries(folder: Path, small: Interactions) -> None:
    """Lists, longer lists and answers, in every regime: the training is run once."""
    one = side(small)
    tasks = [asking(one), asking(one, regime="popular"), asking(one, regime="trained", depth=3 * K)]
    store: dict[str, dict[str, Int32]] = {}
    assert run_tasks(tasks, store=store) == {}
    assert len(runs(folder)) == 1
    alone = fit(one)
    queries = tasks[0].queries
    assert queries is not None
    assert np.array_equal(store[tasks[0].answers_key]["answers"], alone.recommend(queries.asked, K))
    assert np.array_equal(store[tasks[0].key]["lists"], lists(alone, one))
    assert np.array_equal(store[tasks[2].key]["lists"][:, :K], lists(alone, one, "trained"))


def test_a_command_that_answers_users_and_not_queries(folder: Path, small: Interactions) -> None:
    one = side(small)
    task = asking(one, fault="users only")
    errors = run_tasks([task], store={})
    assert set(errors) == set(task.keys)
    for error in errors.values():
        assert "wrote what cannot be used" in str(error)
        assert "no list" in str(error)


def test_the_command_is_told_the_order_of_events(folder: Path) -> None:
    """Repeats and order reach both files, and what was asked in another order is another question."""
    user, item = np.repeat(np.arange(60), 4), np.tile([3, 1, 2, 3], 60) + np.repeat(np.arange(60) % 5, 4)
    data = Interactions.from_arrays(user, item, time=np.tile([10, 20, 30, 40], 60))
    script = 'cp "$1" given; cp "$2" asked; exit 1'
    words = f"sh -c {shlex.quote(script)} sh {{interactions}} {{histories}} {{lists}} {{k}} {{seed}}"
    one = side(data)
    model = fit(one, command=words, format="csv")
    with pytest.raises(ProtocolError, match="exit status 1"):
        model.recommend(data.sequences(), 1)
    given, asked = pl.read_csv("given"), pl.read_csv("asked")
    assert given.columns == ["user", "item", "time", "position"]
    for table in (given, asked):
        assert table["position"].to_list() == [1, 2, 3, 4] * table["user"].n_unique()
    first = given.filter(pl.col("user") == given["user"][0])
    assert first["item"].to_list() == (np.array([3, 1, 2, 3]) + int(given["user"][0]) % 5).tolist()
    assert first["time"].to_list() == [10, 20, 30, 40]
    strangers = asked.filter(~pl.col("user").is_in(given["user"].implode()))
    assert strangers["user"].n_unique() == 5, "each history once"
    assert strangers["item"].to_list()[:4] == [3, 1, 2, 3]

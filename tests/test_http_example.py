"""The example of a black box behind HTTP, as it would be used: a server, questions to it, interruptions, an audit."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
import requests

import recmia
from recmia.data.datasets import load

EXAMPLE = Path(__file__).parent.parent / "examples" / "http"
USERS = 80

pytestmark = pytest.mark.end_to_end


@contextmanager
def program(name: str, *arguments: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A program of the example, which is killed at the end if it still runs."""
    command = [sys.executable, str(EXAMPLE / name), *map(str, arguments)]
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def ask(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLE / "ask.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


class Box(NamedTuple):
    """A server that runs, and the folder with its log and the questions to it."""

    folder: Path
    url: str

    def post(self, body: Any) -> requests.Response:
        return requests.post(self.url, json=body, timeout=10)

    def status(self) -> dict[str, int]:
        counts: dict[str, int] = requests.get(self.url.replace("recommend", "status"), timeout=10).json()
        return counts


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    folder = tmp_path_factory.mktemp("http")
    log = load("synthetic:200x300x9000").interactions.frame()
    log.write_csv(folder / "log.csv")
    log.select("user").unique(maintain_order=True).head(USERS).write_csv(folder / "users.csv")
    recmia.ask(folder / "log.csv", folder / "questions", users=folder / "users.csv", draw_members=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        members = folder / "questions" / "members.csv"
        options = ("--members", members, "--port", 0, "--rate", 100)
        with program("server.py", folder / "log.csv", *options, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            printed = [server.stdout.readline(), server.stdout.readline()]
            drawn = pl.read_csv(members)["member"]
            assert printed[0] == f"{(drawn == 0).sum()} of 200 users are left out of the training\n"
            yield Box(folder, printed[1].removeprefix("ready: ").strip())


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()[1:] if path.exists() else []


def wait_for_lines(path: Path, count: int, process: subprocess.Popen[str]) -> None:
    for _ in range(3000):
        if len(lines(path)) >= count:
            return
        assert process.poll() is None, "it ended early"
        time.sleep(0.01)
    raise AssertionError(f"{path} has {len(lines(path))} lines after 30 seconds")


def test_an_interrupted_run_continues_and_is_audited(box: Box) -> None:
    questions, n_questions = box.folder / "questions", 6 * USERS
    whole, parts = box.folder / "whole.parquet", box.folder / "parts.parquet"
    # Faster than the server allows, so that it refuses some.
    common = ("--k", 20, "--per-second", 5000)

    before = box.status()
    done = ask(questions, box.url, whole, *common)
    after = box.status()
    assert done.returncode == 0, done.stderr
    assert f"{n_questions} of {n_questions} questions, 0:00:00 left" in done.stderr
    assert after["answered"] - before["answered"] == n_questions
    assert after["refused"] > before["refused"]

    kept = parts.with_suffix(".jsonl")
    with program("ask.py", questions, box.url, parts, *common, stderr=subprocess.DEVNULL) as process:
        wait_for_lines(kept, 150, process)
        process.kill()
    first = lines(kept)
    assert len(first) < n_questions
    assert not parts.exists()
    with kept.open("a") as file:
        file.write('{"query": 3, "ite')
    done = ask(questions, box.url, parts, *common)
    assert done.returncode == 0, done.stderr
    assert f"{len(first)} of {n_questions} questions are answered" in done.stderr
    # The question that was on its way when the program was killed may have been answered to nobody.
    assert box.status()["answered"] - after["answered"] in (n_questions, n_questions + 1)
    assert lines(kept)[: len(first)] == first
    asked = [json.loads(line)["query"] for line in lines(kept)]
    assert sorted(asked) == list(range(n_questions))
    answers = pl.read_parquet(parts)
    assert answers.equals(pl.read_parquet(whole))
    assert answers.columns == ["query", "item", "rank"]
    assert answers.group_by("query").agg(pl.col("rank").max())["rank"].unique().to_list() == [20]

    ready = box.status()["answered"]
    assert ask(questions, box.url, parts, *common).returncode == 0
    assert box.status()["answered"] == ready, "nothing is left to ask"

    members = questions / "members.csv"
    result = recmia.audit_files(box.folder / "log.csv", members=members, questions=str(questions), answers=str(parts))
    (low,) = [row.low for row in result.metrics if (row.attack, row.metric) == ("completion-reference", "auc")]
    assert low is not None
    assert low > 0.6, "who is left out was really left out"


def test_answers_to_other_questions_are_not_continued(box: Box, tmp_path: Path) -> None:
    kept = tmp_path / "answers.jsonl"
    kept.write_text('{"questions": "others", "k": 50}\n')
    done = ask(box.folder / "questions", box.url, tmp_path / "answers.parquet")
    assert done.returncode == 1
    assert "holds answers to other questions" in done.stderr


def test_a_server_that_is_not_there_is_given_up(box: Box, tmp_path: Path) -> None:
    with socket.socket() as closed:
        # Bound, but nobody listens: no other program can take this port meanwhile.
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/recommend"
        done = ask(box.folder / "questions", url, tmp_path / "answers.parquet", "--tries", 2)
    assert done.returncode == 1
    assert "failed 2 times" in done.stderr
    assert "the same command continues" in done.stderr


def test_a_refusal_for_good_is_not_repeated(box: Box, tmp_path: Path) -> None:
    done = ask(box.folder / "questions", box.url, tmp_path / "answers.parquet", "--k", 5000)
    assert done.returncode == 1
    assert "answers 400" in done.stderr
    assert "k must be a whole number from 1 to 1000" in done.stderr


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ([1, 2], "the body must be JSON"),
        ({"k": 5}, "items must be a list"),
        ({"items": [1.5], "k": 5}, "items must be a list"),
        ({"items": [1], "k": 0}, "k must be"),
        ({"items": [1], "k": True}, "k must be"),
    ],
)
def test_the_server_says_what_is_wrong(box: Box, body: Any, reason: str) -> None:
    answer = box.post(body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(reason)


@pytest.mark.parametrize("items", [[1, 2, 3], [], [1, 2, 3, "nobody knows this"]])
def test_the_server_recommends_what_was_not_given(box: Box, items: Sequence[Any]) -> None:
    answer = box.post({"items": items, "k": 10}).json()["items"]
    assert len(set(answer)) == 10
    assert not set(answer) & set(items)


def test_a_member_who_is_in_no_history_is_refused(box: Box, tmp_path: Path) -> None:
    members = tmp_path / "members.csv"
    members.write_text("user,member\n1,1\n100000,0\n")
    command = [sys.executable, str(EXAMPLE / "server.py"), str(box.folder / "log.csv"), "--members", str(members)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "1 users with member 0 are not in" in done.stderr

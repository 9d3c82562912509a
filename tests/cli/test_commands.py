"""The commands, run as a program: what they print and write, how they refuse, and how they end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from recmia.attacks import ATTACKS
from tests.cli.helpers import PROGRAM, Here, recmia

QUICK = ["-d", "synthetic:120x200x6000", "-l", "8", "-k", "10", "--seeds", "1", "--lfm-epochs", "2", "--n-shadows", "8"]


@pytest.mark.end_to_end
def test_audit_prints_the_table_and_writes_the_folder(tmp_path: Path) -> None:
    done = recmia("audit", *QUICK, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in (
        "mlp",
        "list-lr",
        "shared-list",
        "AUC",
        "non-members: the finest rate is",
        "95% lower bound for all attacks together",
        "needs no model at all",
        "synthetic",
    ):
        assert words in " ".join(done.stdout.split())
    assert "written to run" in done.stdout
    assert not [line for line in done.stdout.splitlines() if line != line.rstrip()]
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.end_to_end
def test_options_win_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text(
        'dataset = "synthetic:120x200x6000"\nk = 7\nfactors = 4\nseeds = 1\n[lfm]\nepochs = 2\n'
    )
    arguments = ["--config", "my.toml", "-k", "9", "--lfm-n-negatives", "2", "--regimes", "fold-in, trained"]
    more = ["--attack", "naive-bayes", "--no-exclude-seen", "--mlp-hidden", "4,3"]
    done = recmia("audit", *arguments, *more, "-o", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written: dict[str, Any] = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    assert (written["k"], written["factors"], written["regimes"]) == (9, 4, ["fold-in", "trained"])
    assert (written["lfm"]["epochs"], written["lfm"]["n_negatives"]) == (2, 2)
    assert (written["exclude_seen"], written["attacks"], written["mlp"]["hidden"]) == (False, ["naive-bayes"], [4, 3])
    again = recmia("audit", "--config", "run/config.toml", "-o", "again", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    for name in ("scores.parquet", "config.toml"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.end_to_end
def test_without_out_the_folder_is_named_by_time(tmp_path: Path) -> None:
    done = recmia("audit", *QUICK, "--attacks", "", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("synthetic-120x200x6000-")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["audit", "-d", "ml-lates-small"], "did you mean 'ml-latest-small'"),
        (["audit", "-d", "./missing.csv"], "no such file or folder: ./missing.csv\n"),
        (["audit", "rating.csv"], "no such file or folder: rating.csv; did you mean 'ratings.csv'?\n"),
        (["data", "./rating.csv"], "no such file or folder: ./rating.csv; did you mean 'ratings.csv'?\n"),
        (["data", "ratings"], "; or the path of a file; did you mean 'ratings.csv'?\n"),
        (["data", "nowhere/ratings.csv"], "no such file or folder: nowhere/ratings.csv\n"),
        (
            ["audit-files", "--interactions", "good.csv", "--members", "member.csv", "--lists", "ratings.tsv"],
            "there is no such file of members; did you mean 'members.csv'?\n",
        ),
        (["audit", "--config", "bad.tom"], "No such file or directory; did you mean 'bad.toml'?\n"),
        (["audit", "--config", "run"], "Is a directory; name the file in it: run/config.toml\n"),
        (
            ["data", "bare.csv"],
            "bare.csv has no column for the user or item; found 'who', 'what'; name them: "
            '--columns-user NAME --columns-item NAME (in Python columns={"user": "NAME", "item": "NAME"})',
        ),
        (["audit", "--regimes", "foldin"], "did you mean 'fold-in'"),
        (["audit", "--attack", "mlpp"], "did you mean 'mlp'"),
        (["audit", "--recommender", "lmf"], "did you mean 'lfm'"),
        (["audit", "--knowledge", "whitebox"], "did you mean 'white-box'"),
        (["audit", "--n-shadows", "0", "--attack", "rmia"], f"rmia needs {ATTACKS['rmia'].min_shadows}; got 0"),
        (["audit", "--n-shadows", "0"], f"list-lr needs {ATTACKS['list-lr'].min_shadows}, query-lr needs 2; got 0"),
        (["audit", "--queries", "5"], "queries: Input should be a multiple of 2; got 5"),
        (["audit", "--queries", "-2"], "queries: Input should be greater than or equal to 0"),
        (["audit", "--query-share", "1"], "query_share: Input should be less than 1"),
        (["audit", "--known", "0"], "known: Input should be greater than 0"),
        (["audit", "--depth", "-1"], "depth: Input should be greater than or equal to 0"),
        (["audit", "--queries", "0", "--attack", "completion"], "completion: asks the system, and queries = 0"),
        (["audit", "--regimes", "popular", "--attack", "query-lr"], "query-lr: asks with histories of strangers"),
        (["audit", "--known", "0.5", "--split", "shared"], "take split = 'users'"),
        (["audit", "--split", "shared", "--attack", "completion-reference"], "must be trained on people who are not"),
        (["audit", "--attack", "completion-reference", "--references", "lmf"], "did you mean 'lfm'"),
        (["audit-files", "--queries", "2"], "no such option: --queries"),
        (["audit", *QUICK, "--knowledge", "white-box", "--recommender", "itemknn"], "ItemKNN has no item vectors"),
        (["audit", *QUICK, "--store", "ratings.csv"], "cannot read the store ratings.csv: Not a directory"),
        (["audit", "-l", "0"], "factors: Input should be greater than or equal to 1"),
        (["audit", *QUICK, "-k", "100000"], "k, the list length, must lie in 1.."),
        (["audit", "--config", "missing.toml"], "cannot read the configuration missing.toml"),
        (["audit", "--config", "bad.toml"], "unknown setting 'sedes'; did you mean 'seeds'"),
        (["audit", "--config", "table.toml", "--lfm-epochs", "3"], "lfm must be a table of settings"),
        (["audit", *QUICK, "-o", "taken"], "the output folder taken exists"),
        (["audit", "-d", "synthetic:20x60x500"], "bring more users, or lower min_interactions (--min-interactions)\n"),
        (
            ["audit", "-d", "good.csv", "--min-interactions", "1"],
            "(split = 'users', member_share = 0.5); bring more users\n",
        ),
        (["data", "good.csv"], "(the most is 1); lower min_interactions (--min-interactions)\n"),
        (
            ["audit", "-d", "ratings.csv"],
            "ratings.csv has no column for the item; found 'user', 'movie'; name it: --columns-item NAME",
        ),
        (["audit", "--nonsense"], "error: no such option: --nonsense; "),
        (["audit", "--recomender", "x"], "no such option: --recomender; did you mean --recommender; see: recmia audit"),
        (["audit", "-recommender", "x"], "no such option: -r; long options begin with --; see: recmia audit --help"),
        (["--versio"], "no such option: --versio; did you mean --version; see: recmia --help"),
        (
            ["audit", "--k", "x"],
            "error: --k: Input should be a valid integer, unable to parse string as an integer; "
            "got 'x'; see: recmia audit --help",
        ),
        (["data", "--min-interactions", "0"], "should be greater than or equal to 1; got '0'; see: recmia data --help"),
        (["audit", "-d"], "error: option '-d' needs a value; see: recmia audit --help"),
        (["audit", "--dry-run=5"], "error: option '--dry-run' does not take a value; see: recmia audit --help"),
        (["ask", "-o", "q"], "option --interactions is needed: Histories: file, folder or name of a data set; see: "),
        (["report"], "error: argument runs is needed: Folders of runs, of any command that writes one; see: "),
        (
            ["audit", "a", "b", "c"],
            "error: no such argument: b c; all else is given by options, as --NAME VALUE; see: ",
        ),
        (["audit", "--target", "lfm"], "error: no such option: --target; in recmia audit it is --recommender"),
        (["matrix", "--targets=lfm,ease"], "no such option: --targets; in recmia matrix it is --recommenders"),
        (["audit-files", "--target", "Acme"], "no such option: --target; in recmia audit-files it is --name"),
        (["sweep", "k=5", "--shadows", "8"], "no such option: --shadows; in recmia sweep it is --n-shadows"),
        (["audit", "--data", "log.csv"], "no such option: --data; in recmia audit it is --dataset"),
        (["sweep", "target=lfm,ease"], "unknown setting 'target'; it is called 'recommender'"),
        (["sweep", "ratings.csv", "k=5"], "got 'ratings.csv'; data are named by --dataset"),
        (["audit", "ratings.csv", "-d", "b.csv"], "name the data once: got 'ratings.csv', and --dataset 'b.csv'"),
        (["defend", "a.csv", "--dataset", "b.csv"], "name the data once: got 'a.csv', and --dataset 'b.csv'"),
        (["audit", "ratings.csv"], "ratings.csv has no column for the item"),
        (["defend", "ratings.csv"], "ratings.csv has no column for the item"),
        (["matrix", "ratings.csv"], "ratings.csv has no column for the item"),
        (["export-files", "ratings.csv"], "ratings.csv has no column for the item"),
        (["audit", "--format", "jsn"], "unknown format 'jsn'; did you mean 'json'? allowed: json, text"),
        (["defend", "--format", "xml"], "unknown format 'xml'; allowed: json, text"),
        (["sweep", "k=5", "--format", "json", "--dry-run"], "a dry run has no result to be printed as JSON"),
        (["data", "nonsense"], "unknown data set 'nonsense'"),
        (["data", "ratings.csv", "--columns-separator", "§"], "columns.separator: the separator must be one ASCII"),
        (
            ["data", "ratings.csv", "--columns-item", "user", "--columns-user", "user"],
            "the column 'user' is named for two, the user and the item",
        ),
        (["data", "ratings.csv", "--user", "user"], "no such option: --user"),
        (["adit"], "error: no such command: adit; did you mean 'audit'? allowed: ask, audit, audit-files, data, "),
    ],
    ids=lambda value: " ".join(value[:4]) if isinstance(value, list) else None,
)
def test_bad_input_is_told_in_a_line_and_leaves_nothing(
    here: Here, tmp_path: Path, arguments: list[str], words: str
) -> None:
    (tmp_path / "bad.toml").write_text("sedes = 3\n")
    (tmp_path / "table.toml").write_text("lfm = 3\n")
    (tmp_path / "ratings.csv").write_text("user,movie\n1,2\n")
    (tmp_path / "good.csv").write_text("user,item\n1,2\n")
    (tmp_path / "bare.csv").write_text("who,what\n1,2\n")
    (tmp_path / "members.csv").write_text("user\n1\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").touch()
    (tmp_path / "taken").mkdir()
    before = sorted(tmp_path.rglob("*"))
    done = here(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr + done.stdout
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.end_to_end
def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = recmia("audit", "-l", "0", "--debug", cwd=tmp_path)
    assert done.returncode != 0
    assert "Traceback" in done.stderr


@pytest.mark.end_to_end
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_interrupt_leaves_nothing(tmp_path: Path, jobs: str) -> None:
    # Threads and single calls in compiled code, which end before an interrupt is heard.
    arguments = ["audit", *QUICK, "--seeds", "2000", "--jobs", jobs, "-o", "run"]
    running = subprocess.Popen([*PROGRAM, *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(8)
        assert running.poll() is None, "the run must still be under way"
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=30)
    finally:
        running.kill()
    assert running.returncode == 130
    assert "interrupted; no results were written, and what was trained is kept" in errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


HANDLERS = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
from recmia.cli import main
try:
    main(["--version"])
except SystemExit:
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    unwinds = signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGINT)
    print(ignored, unwinds)
"""


@pytest.mark.end_to_end
def test_under_nohup_a_terminal_that_closes_ends_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", HANDLERS], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True True"


def stored(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/*.npz")}


@pytest.mark.end_to_end
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_audit_goes_on_where_it_was(tmp_path: Path, stop: signal.Signals) -> None:
    arguments = ["audit", *QUICK, "--regimes", "fold-in", "--lfm-epochs", "300", "--attack", "list-lr", "--jobs", "2"]
    running = subprocess.Popen(
        [*PROGRAM, *arguments, "--store", "store", "-o", "killed"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        limit = time.monotonic() + 90
        while len(stored(tmp_path / "store")) < 4:
            assert running.poll() is None, "the run must still be under way"
            assert time.monotonic() < limit
            time.sleep(0.02)
        # All of its processes, as a terminal or a system that shuts down does it.
        os.killpg(running.pid, stop)
        _, errors = running.communicate(timeout=30)
    finally:
        running.kill()
    assert running.returncode == (-stop if stop == signal.SIGKILL else 130)
    assert "Traceback" not in errors
    if stop != signal.SIGKILL:
        assert errors.strip().splitlines() == [
            "interrupted; no results were written, and what was trained is kept: the same command continues"
        ]
    # What kept the name of the folder is taken over by the next run of that name.
    left = [".killed.lock"] if stop == signal.SIGKILL else []
    assert sorted(path.name for path in tmp_path.iterdir()) == [*left, "store"]
    before = stored(tmp_path / "store")
    done = recmia(*arguments, "--store", "store", "-o", "killed", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "store"]
    assert "damaged" not in done.stdout
    after = stored(tmp_path / "store")
    assert len(after) == 1 + 1 + 8 + 1 + 1 > len(before), "the lists of each model, the scores and the pictures"
    assert {path: after[path] for path in before} == before, "what was done is left as it is"
    undisturbed = recmia(*arguments, "--store", "other", "-o", "undisturbed", cwd=tmp_path)
    assert undisturbed.returncode == 0, undisturbed.stderr
    for name in ("scores.parquet", "metrics.json", "roc.svg"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()


@pytest.mark.end_to_end
def test_damaged_entries_are_computed_anew_and_told(tmp_path: Path) -> None:
    outputs, pictures = [], None
    for run in ("first", "second", "third"):
        done = recmia("audit", *QUICK, "--attack", "list-lr", "--store", "[store]", "-o", run, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout.rpartition(f"\nwritten to {run} ")[0])
        # Scores stand for the lists that they were made of: without them, every entry is looked at.
        paths = sorted(stored(tmp_path / "[store]"), key=lambda path: path.stat().st_mtime_ns)
        assert len(paths) == 22
        # What the first run wrote last.
        pictures = pictures or paths[-1]
        paths.remove(pictures)
        paths[-1].write_bytes(b"")
        paths[3].write_bytes(paths[3].read_bytes()[:-100])
    note = "  note: damaged entries of [store], computed anew: 2\n"
    assert note not in outputs[0]
    assert outputs[1] == outputs[2]
    assert outputs[1].replace(note, "") == outputs[0]
    assert note in outputs[1]
    for run in ("second", "third"):
        assert (tmp_path / run / "scores.parquet").read_bytes() == (tmp_path / "first" / "scores.parquet").read_bytes()


@pytest.mark.end_to_end
def test_ids_that_look_like_markup_are_printed_as_they_are(tmp_path: Path) -> None:
    """Every user leaks in the regime popular, so some are named."""
    rows = [f"[bold]{user}[/bold],{(7 * user + item * item) % 97}" for user in range(60) for item in range(40)]
    (tmp_path / "log.csv").write_text("user,item\n" + "\n".join(rows) + "\n")
    arguments = [
        "audit",
        "-d",
        "log.csv",
        "-l",
        "4",
        "-k",
        "5",
        "--seeds",
        "1",
        "--lfm-epochs",
        "2",
        "--n-shadows",
        "8",
    ]
    done = recmia(*arguments, "--regimes", "popular", "--n-targets", "20", "-o", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"The\s+most\s+exposed:\s+\[bold\]\d+\[/bold\]", done.stdout), done.stdout


@pytest.mark.end_to_end
def test_data_prints_the_cleaning_report(tmp_path: Path) -> None:
    rows = "".join(f"{user},{item}\n" for user in range(3) for item in range(25 - 10 * (user == 2)))
    (tmp_path / "log.csv").write_text("user,item\n" + rows + "0,3\n")
    done = recmia("data", "log.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "log.csv: 66 rows read, 50 kept" in done.stdout
    assert "dropped 1: an earlier row of the same user and item" in done.stdout
    assert "dropped 15: users with fewer than 20 interactions (1 of 3 users)" in done.stdout
    assert "2 users, 25 items, 50 interactions, without ratings, without times" in done.stdout


@pytest.mark.end_to_end
def test_version(tmp_path: Path) -> None:
    from recmia import __version__

    assert recmia("--version", cwd=tmp_path).stdout == f"recmia {__version__}\n"


@pytest.mark.end_to_end
def test_reproduce_prints_the_paper_beside_ours(tmp_path: Path) -> None:
    quick = ["--panels", "fig1", "--seeds", "1", "-d", "synthetic:120x200x6000", "--store", "store", "-o", "figures"]
    done = recmia("reproduce", "hu2023", *quick, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "0.857" in done.stdout
    assert (tmp_path / "figures" / "fig1.png").is_file()
    for arguments, words in ((["hu2024"], "unknown paper 'hu2024'"), (["hu2023", "--panels", "fig9"], "unknown panel")):
        failed = recmia("reproduce", *arguments, "-o", "other", cwd=tmp_path)
        assert failed.returncode == 2
        assert words in failed.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"figures", "store"}


def test_what_was_taken_is_told(here: Here, tmp_path: Path) -> None:
    rows = [f"{user}\t{(7 * user + item) % 40}\t{item % 5}\t{item}" for user in range(40) for item in range(20)]
    (tmp_path / "u.data").write_text("\n".join(rows) + "\n")
    line = "  columns: user = 1, item = 2; no times, so that recency says nothing"
    named = ["--no-header", "--columns-user", "1", "--columns-item", "2"]
    for command in (["data", "u.data"], ["ask", "--interactions", "u.data", "--out", "q"]):
        done = here(*command, *named)
        assert done.returncode == 0, done.stderr
        assert line in done.stdout.splitlines()
    assert here("data", "u.data").returncode == 2


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    "arguments",
    [
        ["audit"],
        ["sweep", "k=4,5"],
        ["defend", "--defences", "shorter-lists=4"],
        ["matrix", "--recommenders", "lfm", "--shadows", "lfm"],
        ["export-files"],
        ["ask"],
        ["data"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_every_run_says_what_is_odd_in_the_data(arguments: list[str], here: Here, tmp_path: Path) -> None:
    rows = [f"{user},{(7 * user + item) % 40},4,{item or ''}" for user in range(60) for item in range(20)]
    (tmp_path / "log.csv").write_text("user,item,rating,time\n" + "\n".join(rows) + "\n")
    given = {"ask": ["--interactions", "log.csv", "-o", "out"], "data": ["log.csv"]}
    small = ["-d", "log.csv", "-l", "4", "-k", "5", "--seeds", "1", "--lfm-epochs", "1"]
    small += ["--attacks", "mlp", "--regimes", "popular", "-o", "out"]
    done = here(*arguments, *given.get(arguments[0], small))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "  columns: user = user, item = item, rating = rating, time = time" in lines
    assert "  note: all ratings are 4, so that they say nothing" in lines
    assert "  note: 60 of 1,200 interactions have no time, and do not count for recency" in lines


def test_codes_of_emoji_are_letters_of_a_name(here: Here, tmp_path: Path) -> None:
    """Names of files and factories come before a colon, as emoji codes do."""
    (tmp_path / "b:fire:.csv").write_text("user,item\n" + "".join(f"1,{item}\n" for item in range(20)))
    assert "b:fire:.csv" in here("data", str(tmp_path / "b:fire:.csv")).stdout
    missing = here("data", str(tmp_path / "x:smile:y.csv"))
    assert missing.returncode == 2
    assert "x:smile:y.csv" in missing.stderr


# What a run costs.
COSTS = ("models ", "questions ", "time ", "memory ", "disk ", "nothing was written")


@pytest.mark.parametrize(
    "arguments",
    [
        ["audit", *QUICK],
        ["sweep", "k=5,10", *QUICK],
        ["defend", "--defences", "shorter-lists=5", *QUICK],
        ["reproduce", "hu2023", "--panels", "fig1,list-length", "-d", "synthetic:120x2000x6000", "--seeds", "1"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_dry_run_says_what_it_costs_and_writes_nothing(arguments: list[str], here: Here, tmp_path: Path) -> None:
    done = here(*arguments, "--dry-run", "-o", "out", "--store", "kept")
    assert done.returncode == 0, done.stderr
    for line, words in zip(done.stdout.splitlines(), COSTS, strict=True):
        assert line.startswith(words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.end_to_end
def test_a_dry_run_knows_what_is_in_the_store(here: Here) -> None:
    assert here("audit", *QUICK, "-o", "out", "--store", "kept").returncode == 0
    again = here("audit", *QUICK, "--dry-run", "--store", "kept")
    assert "models     10, 10 of which are in the store" in again.stdout
    assert "0 MiB in the store" in again.stdout

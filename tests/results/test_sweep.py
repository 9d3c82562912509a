"""Grids of audits: what they share, what they survive, and what they leave."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from recmia import Interactions, audit
from recmia.cache import ArrayStore
from recmia.errors import ConfigError
from recmia.game import tasks
from recmia.render.pictures import pictures
from recmia.render.text import transfer
from recmia.results import sweep as sweeps
from recmia.results.audit import load_candidates
from recmia.results.folder import read_result, write_result
from recmia.results.sweep import SweepResult, cells, run_sweep
from recmia.settings import AuditSettings
from tests.cli.helpers import PROGRAM, Here, recmia

SETTINGS: dict[str, Any] = {
    "attacks": ["mlp"], "thresholds": False, "factors": 8, "k": 10, "seeds": 2, "lfm": {"epochs": 2},
    "mlp": {"epochs": 2},
}  # fmt: skip
QUICK = [
    "-d", "synthetic:120x200x6000", "--attacks", "mlp", "--no-thresholds", "-l", "8", "-k", "10", "--seeds", "2",
    "--lfm-epochs", "2", "--mlp-epochs", "2",
]  # fmt: skip


def quick(**changed: Any) -> AuditSettings:
    return AuditSettings.parse({**SETTINGS, **changed})


class Counter:
    """Stands in for a function and counts its calls."""

    def __init__(self, function: Any) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.calls += 1
        return self.function(*arguments, **named)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Counter:
    counter = Counter(tasks._fitted)
    monkeypatch.setattr(tasks, "_fitted", counter)
    return counter


def test_a_grid_is_every_combination_in_order() -> None:
    grid = cells(quick(), {"k": ["5", "10"], "lfm.feedback": ["explicit", "implicit"]})
    assert [chosen for chosen, _ in grid] == [
        {"k": k, "lfm.feedback": feedback} for k in (5, 10) for feedback in ("explicit", "implicit")
    ]
    assert [(cell.k, cell.recommenders.lfm.feedback) for _, cell in grid] == [
        tuple(chosen.values()) for chosen, _ in grid
    ]
    assert all(cell.recommenders.factors == 8 and cell.recommenders.lfm.epochs == 2 for _, cell in grid)


def test_names_of_a_list_are_joined_by_plus() -> None:
    grid = cells(quick(), {"attacks": ["mlp+naive-bayes", "distance"], "recommender": ["lfm"]})
    assert [cell.attacker.attacks for _, cell in grid] == [("mlp", "naive-bayes"), ("distance",)]
    assert [chosen["attacks"] for chosen, _ in grid] == ["mlp+naive-bayes", "distance"]
    ((chosen, cell),) = cells(quick(), {"regimes": [["popular", "trained"]]})
    assert chosen["regimes"] == "popular+trained"
    assert cell.regimes == ("popular", "trained")


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"lfm.epoch": [2]}, "unknown setting 'lfm.epoch'; did you mean 'epochs'"),
        ({"kk": [2]}, "unknown setting 'kk'; did you mean 'k'"),
        ({"lmf.epochs": [2]}, "there is no table 'lmf'"),
        ({"k": ["ten"]}, "k: .*got 'ten'"),
        ({"k": [5, 0]}, "k: .*greater than or equal to 1; got 0"),
        ({"recommender": ["lmf"]}, "did you mean 'lfm'"),
        ({"k": []}, "got none for k"),
        ({}, "got none for any key"),
    ],
)
def test_bad_grids_are_told_before_anything_runs(axes: dict[str, list[Any]], words: str, trained: Counter) -> None:
    with pytest.raises(ConfigError, match=words):
        run_sweep(quick(), axes)
    assert trained.calls == 0


def test_repeated_values_are_one_cell() -> None:
    assert [chosen["k"] for chosen, _ in cells(quick(), {"k": ["5", 5, "10", "05"]})] == [5, 10]


@pytest.mark.end_to_end
def test_the_table_is_what_single_audits_find(small: Interactions) -> None:
    result = run_sweep(quick(), {"k": [5, 10], "lfm.epochs": [1, 2]}, dataset=small)
    assert result.axes == {"k": [5, 10], "lfm.epochs": [1, 2]}
    assert result.table.columns[:2] == ["k", "lfm.epochs"]
    keys = ["k", "lfm.epochs", "regime", "attack", "metric"]
    assert len(result.table.select(keys).unique()) == len(result.table)
    alone = audit(small, settings=quick(k=5, lfm={"epochs": 1}))
    part = result.table.filter(pl.col("k") == 5, pl.col("lfm.epochs") == 1)
    assert part["value"].to_list() == [metric.value for metric in alone.metrics]
    assert part["attack"].to_list() == [metric.attack for metric in alone.metrics]


@pytest.mark.end_to_end
def test_what_cells_share_is_done_once(small: Interactions, trained: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = Counter(load_candidates)
    monkeypatch.setattr(sweeps, "load_candidates", loads)
    axes: dict[str, list[Any]] = {
        "attacks": ["mlp", "naive-bayes"],
        "k": [5, 10],
        "regimes": ["popular", "fold-in"],
        "mlp.epochs": [1, 2],
    }
    run_sweep(quick(), axes, dataset=small)
    # A target and a shadow for each seed, whatever is attacked how and shown.
    assert trained.calls == 2 * 2
    assert loads.calls == 1


@pytest.mark.end_to_end
def test_a_matrix_trains_each_recommender_once_a_seed_and_side(small: Interactions, trained: Counter) -> None:
    names = ["popularity", "itemknn", "ease"]
    result = run_sweep(quick(), {"recommender": names, "shadow": names}, dataset=small)
    assert trained.calls == len(names) * 2 * 2
    words = transfer(result.table)
    for part in result.table.filter(metric="auc", attack="mlp").partition_by("regime"):
        by_pair = [(row["recommender"] == row["shadow"], row["value"]) for row in part.iter_rows(named=True)]
        same, other = (np.mean([value for alike, value in by_pair if alike is wanted]) for wanted in (True, False))
        assert (
            f"{part['regime'][0]}, mlp: mean AUC {same:.3f} where the shadows use the target's algorithm, {other:.3f}"
            in words
        )


def test_what_qualifies_the_findings_of_a_cell_is_kept(small: Interactions, tmp_path: Path) -> None:
    """Users are left out in one cell and in none of the other; and the folder tells."""
    lengths = np.sort(np.bincount(small.user))
    result = run_sweep(quick(seeds=1), {"min_interactions": [1, int(lengths[-70])]}, dataset=small)
    write_result(result, tmp_path / "out")
    for found in (result, read_result(tmp_path / "out")):
        assert isinstance(found, SweepResult)
        (_, all_of_them), (_, few) = found.findings
        words = "of the 120 users were left out, for too short a history"
        assert not any(words in one for one in all_of_them.caveats)
        assert words in few.caveats[-1]
        assert [one["attacker"][0]["seed"] for one in found.provenance["cells"]] == [0, 0]


def test_transfer_says_nothing_without_other_shadows(small: Interactions) -> None:
    assert transfer(run_sweep(quick(), {"recommender": ["lfm"]}, dataset=small).table) == ""


@pytest.mark.end_to_end
def test_a_cell_that_fails_takes_no_other_along(small: Interactions) -> None:
    result = run_sweep(quick(), {"k": [5, 100_000], "lfm.epochs": [1, 2]}, dataset=small)
    assert set(result.table["k"]) == {5}
    assert [(error["k"], error["lfm.epochs"]) for error in result.errors] == [(100_000, 1), (100_000, 2)]
    assert all("must lie in 1.." in error["error"] for error in result.errors)
    alone = run_sweep(quick(), {"k": [5], "lfm.epochs": [1, 2]}, dataset=small)
    ends = ["joint_low", "joint_high"]
    assert result.table.drop(ends).equals(alone.table.drop(ends))
    assert (result.table["joint_low"] <= alone.table["joint_low"]).drop_nulls().all(), "of more figures together"
    with pytest.raises(ConfigError, match=r"every cell of the sweep failed, the first with: .*must lie in"):
        run_sweep(quick(), {"k": [100_000]}, dataset=small)


@pytest.mark.end_to_end
@pytest.mark.parametrize(("n_keys", "drawn"), [(1, True), (2, True), (3, False)])
def test_the_folder_holds_a_picture_by_the_number_of_keys(
    small: Interactions, tmp_path: Path, n_keys: int, drawn: bool
) -> None:
    keys: dict[str, list[Any]] = {"k": [5, 10], "lfm.epochs": [1, 2], "lfm.feedback": ["implicit", "explicit"]}
    axes = dict(list(keys.items())[:n_keys])
    result = run_sweep(quick(seeds=1), axes, dataset=small)
    write_result(result, tmp_path / "out", pictures(result))
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"config.toml", "table.csv", "table.parquet", "sweep.json"} | (
        {"sweep.png", "sweep.svg"} if drawn else set()
    )
    assert pl.read_parquet(tmp_path / "out" / "table.parquet").equals(result.table)


@pytest.mark.end_to_end
def test_progress_ends_where_it_said(small: Interactions) -> None:
    told: list[tuple[int, int]] = []
    run_sweep(quick(), {"k": [5, 10]}, dataset=small, progress=lambda text, done, total: told.append((done, total)))
    done, totals = zip(*told, strict=True)
    assert list(done) == sorted(done)
    assert done[-1] == totals[-1]


@pytest.mark.end_to_end
def test_the_command_reports_a_failed_cell_and_keeps_the_rest(tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_text('k = [5, 5000]\n"lfm.feedback" = ["implicit"]\n')
    done = recmia("sweep", "--grid", "grid.toml", "lfm.epochs=1,2", *QUICK, "-o", "out", cwd=tmp_path, columns=160)
    assert done.returncode == 2, done.stderr
    assert "failed: k=5000, lfm.feedback=implicit, lfm.epochs=1: k, the list length, must lie in 1.." in done.stdout
    table = pl.read_csv(tmp_path / "out" / "table.csv")
    assert table.select("k", "lfm.feedback", "lfm.epochs").unique().sort("lfm.epochs").rows() == [
        (5, "implicit", 1),
        (5, "implicit", 2),
    ]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["k"], "a key to sweep must be written KEY=V1,V2,...; got 'k'"),
        (["kk=1"], "did you mean 'k'"),
        (["k=ten"], "got 'ten'"),
        (["--grid", "missing.toml"], "cannot read the grid missing.toml"),
        (["--grid", "bad.toml"], "must be a key with a list of values"),
        ([], "a sweep needs keys with values"),
    ],
)
def test_bad_commands_are_told(here: Here, tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "bad.toml").write_text("k = 5\n")
    done = here("sweep", *arguments, *QUICK, "-o", "out")
    assert done.returncode == 2
    assert words in done.stderr
    assert not (tmp_path / "out").exists()


# How often the sweep is killed; the ten: RECMIA_KILLS=10.
KILLS = int(os.environ.get("RECMIA_KILLS", "3"))


@pytest.mark.end_to_end
def test_killed_at_any_moment_it_goes_on(tmp_path: Path) -> None:
    grid = [
        "sweep",
        "k=5,10",
        "lfm.epochs=1,2",
        "mlp.epochs=2,3",
        *QUICK,
        "--seeds",
        str(max(12, 2 * KILLS)),
        "--jobs",
        "2",
    ]
    done = recmia(*grid, "--store", "other", "-o", "undisturbed", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    at_end = len(list(ArrayStore(tmp_path / "other")))
    store, moments = ArrayStore(tmp_path / "store"), random.Random(20231123)
    kept: dict[str, int] = {}
    killed = 0
    for _ in range(KILLS):
        running = subprocess.Popen(
            [*PROGRAM, *grid, "--store", "store", "-o", "out"], cwd=tmp_path, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        # Some way into what is left, however fast the machine is, and a moment later.
        enough = len(kept) + moments.uniform(0, 0.8) * (at_end - len(kept)) / KILLS
        deadline = time.monotonic() + 300
        while len(list(store)) <= enough and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.05))
        # Not polled before: a process that has ended keeps its group until it is waited for.
        os.killpg(running.pid, signal.SIGKILL)
        killed += running.wait() == -signal.SIGKILL
        entries = {key: store._path(key).stat().st_mtime_ns for key in store}
        # What was finished before is neither gone nor written again, and nothing is there by half.
        assert entries.items() >= kept.items()
        assert all(store[key] for key in entries)
        assert store.damaged == []
        kept = entries
        if (tmp_path / "out").exists():
            break
    assert killed, "every run was over before it was to be killed"
    assert kept
    if not (tmp_path / "out").exists():
        done = recmia(*grid, "--store", "store", "-o", "out", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert {key: store._path(key).stat().st_mtime_ns for key in kept} == kept
    tables = [pl.read_parquet(tmp_path / folder / "table.parquet") for folder in ("undisturbed", "out")]
    assert tables[0].equals(tables[1])

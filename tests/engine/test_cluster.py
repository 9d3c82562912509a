"""A sweep on a real Dask cluster of this machine: a scheduler and two workers, in processes of their own."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import pytest

import recmia
from recmia import Interactions
from recmia.engine.parallel import _pack, _unpack_and_call, cluster
from recmia.errors import ConfigError, MissingExtraError
from recmia.game.plan import Plan, plan_from_data
from recmia.results.setup import resolve
from recmia.settings import AuditSettings

distributed: Any = pytest.importorskip("distributed", reason="needs recmia[cluster]")

AXES = {"k": [5, 10], "lfm.epochs": [2, 4]}
SETTINGS: dict[str, Any] = {
    "attacks": ["mlp", "random-forest", "list-lr"], "n_shadows": 8, "factors": 8, "seeds": 2,
    "thresholds": False, "mlp": {"epochs": 2},
}  # fmt: skip


class Cluster:
    """A scheduler and two workers."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{port}"
        local = ["--host", "127.0.0.1", "--no-dashboard"]
        self.log = (folder / "log").open("w")
        self.scheduler = self._start("scheduler", "--port", str(port), *local)
        # Without a nanny, so that nobody replaces the worker that is killed.
        own = ["--nthreads", "1", "--no-nanny", "--local-directory", str(folder)]
        self.workers = [self._start("worker", self.address, *own, *local) for _ in range(2)]

    def _start(self, kind: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", kind, *arguments]
        return subprocess.Popen(command, stdout=self.log, stderr=self.log)

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait(timeout=30)
        self.log.close()


@pytest.fixture
def dask_cluster(tmp_path: Path) -> Iterator[Cluster]:
    started = Cluster(tmp_path)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def local(small: Interactions) -> recmia.SweepResult:
    return recmia.sweep(AXES, small, **SETTINGS)


@pytest.mark.end_to_end
def test_a_worker_that_is_killed_changes_nothing(
    dask_cluster: Cluster, small: Interactions, local: recmia.SweepResult
) -> None:
    killed: list[int] = []

    def kill(text: str, done: int, total: int) -> None:
        if text.startswith("training") and done > total // 4 and not killed:
            dask_cluster.workers[0].kill()
            killed.append(done)

    client: Any = distributed.Client(dask_cluster.address, set_as_default=False)
    with client:
        client.wait_for_workers(2, timeout=60)
    with cluster(dask_cluster.address) as at_once:
        assert at_once == 2
        far = recmia.sweep(AXES, small, jobs=at_once, progress=kill, **SETTINGS)
    assert killed
    assert dask_cluster.workers[0].wait(timeout=10) != 0
    assert far.errors == []
    assert far.table.equals(local.table)


@pytest.mark.end_to_end
def test_data_are_sent_once_for_models_and_attacks(
    dask_cluster: Cluster, small: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    scatter = distributed.Client.scatter

    def counted(self: Any, data: Any, *arguments: Any, **options: Any) -> Any:
        sent.append(data)
        return scatter(self, data, *arguments, **options)

    monkeypatch.setattr(distributed.Client, "scatter", counted)
    settings: dict[str, Any] = SETTINGS | {"attacks": ["mlp", "query-lr"], "regimes": ["fold-in"]}
    here = recmia.audit(small, **settings)
    with cluster(dask_cluster.address) as at_once:
        far = recmia.audit(small, jobs=at_once, **settings)
    assert far.scores.equals(here.scores)
    assert len(sent) > 2, "sides and queries of two seeds"
    assert len({id(one) for one in sent}) == len(sent), "nothing twice"


@pytest.mark.end_to_end
def test_a_scheduler_that_is_killed_is_told_in_a_line(
    dask_cluster: Cluster, small: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(text: str, done: int, total: int) -> None:
        if text.startswith("training") and done:
            dask_cluster.scheduler.kill()

    client: Any = distributed.Client(dask_cluster.address, set_as_default=False)
    with client:
        client.wait_for_workers(2, timeout=60)
    store: dict[str, Any] = {}
    # A scheduler that has gone is looked for no longer than this.
    monkeypatch.setattr("recmia.engine.parallel._PATIENCE", 8)
    with pytest.raises(ConfigError, match=r"what was done is kept"), cluster(dask_cluster.address) as at_once:
        recmia.sweep(AXES, small, jobs=at_once, store=store, progress=kill, **SETTINGS)
    assert store, "what came before the end is there"


@pytest.mark.end_to_end
def test_other_versions_are_told_in_a_line(
    dask_cluster: Cluster, small: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `cluster`, and for a client that the caller has set for joblib."""
    words = f"tcp://there:1 must have recmia {version('recmia')}, as here; it has 0.1.9"
    client: Any = distributed.Client(dask_cluster.address, set_as_default=False)
    with client:
        client.wait_for_workers(1, timeout=60)
        with joblib.parallel_config(backend="dask", client=client):
            here = recmia.audit(small, jobs=2, **SETTINGS | {"seeds": 1})
        assert here.scores.equals(recmia.audit(small, **SETTINGS | {"seeds": 1}).scores)
    monkeypatch.setattr(distributed.Client, "run", lambda self, function, name: {"tcp://there:1": "0.1.9"})
    with pytest.raises(ConfigError, match=words), cluster(dask_cluster.address):
        pass
    client = distributed.Client(dask_cluster.address, set_as_default=False)
    with client, joblib.parallel_config(backend="dask", client=client), pytest.raises(ConfigError, match=words):
        recmia.audit(small, jobs=2, **SETTINGS)


def test_data_travel_apart_from_what_refers_to_them(small: Interactions) -> None:
    plan = plan_from_data(resolve(AuditSettings.parse(SETTINGS)), small, 0)
    packed, apart = _pack(plan)
    # Each once, though targets, tasks and eight shadows refer to them, and the rest is small.
    assert {id(one) for one in apart} == {id(one) for one in plan.data}
    assert len(apart) == 3
    assert len(packed) < len(pickle.dumps(small)) / 2
    assert _unpack_and_call(_members, 1, packed, *apart) == _members(plan, 1)


def _members(plan: Plan, threads: int) -> list[int]:
    return [int(task.side.member.sum()) for task in plan.tasks]


def test_no_scheduler_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recmia.engine.parallel._PATIENCE", 1)
    with (
        pytest.raises(ConfigError, match=r"no Dask scheduler answers at tcp://127.0.0.1:1: .*; start one"),
        cluster("tcp://127.0.0.1:1"),
    ):
        pass


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(MissingExtraError, match=r"pip install 'dask\[distributed\]>=2024.1'"),
        cluster("tcp://127.0.0.1:1"),
    ):
        pass

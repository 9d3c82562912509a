"""Run many calls at once: in threads or processes of this machine, or on the workers of a Dask cluster.

Threads start at once and share all data; they are for calls that spend their time without Python's lock: in compiled
code, or waiting for a program. For the others, most of the bytes that a call needs are interactions, which many calls
share. They are sent apart from the rest of a call. Every worker of a cluster gets each of them once: if a worker dies,
no data are lost, and Dask runs its calls on another. Arrays that are maps of files are opened again by processes of
this machine, and sent to a cluster as data.
"""

from __future__ import annotations

import io
import os
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Future,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from mmap import mmap
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import joblib
import numpy as np
import numpy.typing as npt
from joblib.parallel import get_active_backend

from recmia.blas import one_blas_thread
from recmia.cache import array_at
from recmia.data.interactions import Interactions
from recmia.errors import ConfigError, import_extra
from recmia.observation import Queries

# Values that are large, and are sent to each process once.
Shared = Interactions | Queries
Payload = TypeVar("Payload")
Result = TypeVar("Result")

# How long a scheduler may take to answer, and how long until it has a worker; in seconds.
_PATIENCE = 20
# How often calls that a cluster lost are sent, in all.
_TURNS = 3
# How often a worker process looks whether its parent lives, and a wait for threads for interrupts; in seconds.
_LOOK = 0.5
# What a terminal or a batch queue may send to all processes at once; Windows has no SIGHUP.
_FOR_THE_PARENT = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
# Of a thread of `_in_threads`: the event that tells it to end.
_THREAD = threading.local()
# What the workers of a cluster have, by client: models and attacks need the same data, which are sent once, and stay as
# long as they are in use here.
_SENT: WeakKeyDictionary[Any, WeakKeyDictionary[Shared, Any]] = WeakKeyDictionary()


@contextmanager
def cluster(address: str) -> Iterator[int]:
    """Run the audits and sweeps in this block on a Dask cluster; yields how many calls it runs at once.

    Results are the same to the bit as on this machine, given the same versions and the same kind of processor.

    Parameters
    ----------
    address : str
        Address of the scheduler, such as ``"tcp://host:8786"``.

    Raises
    ------
    MissingExtraError
        Without the extra ``cluster``.
    ConfigError
        If no scheduler answers, it has no workers, or one of them has no recmia or another version of it.
    """
    distributed = import_extra("distributed", "cluster")
    try:
        client = distributed.Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"no Dask scheduler answers at {address}: {error}; start one with: dask scheduler") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError:
            raise ConfigError(f"the Dask scheduler {address} has no workers; start: dask worker {address}") from None
        _check_workers(client)
        with joblib.parallel_config(backend="dask", client=client):
            yield sum(client.ncores().values())


def _check_workers(client: Any) -> None:
    try:
        found = client.run(version, "recmia")
    except PackageNotFoundError:
        found = {"a worker": "none"}
    for worker, other in found.items():
        if other != version("recmia"):
            raise ConfigError(f"{worker} must have recmia {version('recmia')}, as here; it has {other}")


def run_calls(
    function: Callable[[Payload, int], Result],
    payloads: Iterable[Payload],
    *,
    jobs: int,
    at_once: int,
    shared: Iterable[Shared],
    threaded: bool = False,
) -> Generator[Result, None, None]:
    """Yield the results of a function for each payload, in the order in which they are done; closed, end the others.

    Parameters
    ----------
    function : callable
        ``function(payload, threads)``, defined at the top level of a module.
    payloads : iterable
        Taken one by one, a few ahead.
    jobs, at_once : int
        Each of the calls that run at once gets its share of `jobs` as threads. A cluster runs each with one thread.
    shared : iterable of Interactions or Queries
        Those that the payloads refer to.
    threaded : bool
        Whether calls run in threads of this process, and not in processes of their own. BLAS then has one thread for
        each, whatever a call asks for: its limit holds for a whole process.

    Raises
    ------
    ConfigError
        If a process is killed, as systems do when memory runs out.

    Examples
    --------
    >>> list(run_calls(pow, [2, 3], jobs=1, at_once=1, shared=()))
    [2, 3]
    >>> sorted(run_calls(pow, [2, 3], jobs=2, at_once=2, shared=(), threaded=True))
    [2, 3]
    """
    backend, _ = get_active_backend()
    client = getattr(backend, "client", None)
    if client is not None:
        yield from _on_cluster(client, function, payloads, list(shared))
        return
    if at_once == 1:
        with one_blas_thread():
            yield from (function(payload, jobs) for payload in payloads)
        return
    threads = max(1, jobs // at_once)
    if threaded:
        yield from _in_threads(function, payloads, at_once, threads)
        return
    parallel = joblib.Parallel(
        n_jobs=at_once,
        return_as="generator_unordered",
        # Whatever the caller has set for joblib: a fork of a process that has threads can hang, and threads share what
        # a call may change.
        backend="loky",
        prefer=None,
        require=None,
        initializer=_serve,
        initargs=(os.getpid(),),
    )
    here = os.getcwd()  # noqa: PTH109
    with warnings.catch_warnings():
        # joblib replaces a process whose memory has grown; no result is lost.
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given to the executor")
        # Inside a thread or a worker of the caller's joblib, calls run one by one.
        warnings.filterwarnings("ignore", message="Loky-backed parallel loops cannot be")
        try:
            yield from parallel(
                joblib.delayed(_call_in)(here, function, threads, packed, *apart)
                for packed, apart in (_pack(payload, by_file=True) for payload in payloads)
            )
        except BrokenExecutor as error:
            raise ConfigError(
                f"one of {at_once} worker processes was killed, most likely for want of memory; run again with fewer "
                "jobs: what is in the store is not computed anew"
            ) from error


def _in_threads(
    function: Callable[[Payload, int], Result], payloads: Iterable[Payload], at_once: int, threads: int
) -> Iterator[Result]:
    waiting: set[Future[Result]] = set()
    given_up = threading.Event()
    with one_blas_thread(), ThreadPoolExecutor(at_once, "calls", _begin_thread, (given_up,)) as pool:
        try:
            for payload in payloads:
                waiting.add(pool.submit(function, payload, threads))
                while len(waiting) > at_once:
                    yield from _first_of(waiting)
            while waiting:
                yield from _first_of(waiting)
        finally:
            # After an interrupt or an error, only the calls that run are waited for, and those that look end early.
            given_up.set()
            for one in waiting:
                one.cancel()


def _first_of(waiting: set[Future[Result]]) -> Iterator[Result]:
    """Take out what is done, if need be after a while."""
    # polars has waits go on after an interrupt, which is heard when they end.
    for one in wait(waiting, _LOOK, return_when=FIRST_COMPLETED).done:
        waiting.remove(one)
        yield one.result()


def _begin_thread(given_up: threading.Event) -> None:
    _THREAD.given_up = given_up


def check_given_up() -> None:
    """End a call that nobody waits for any more; to be called now and then while a call waits in its turn.

    Raises
    ------
    KeyboardInterrupt
        In a thread, after an interrupt or an error in another one. Elsewhere interrupts come by themselves.

    Examples
    --------
    >>> check_given_up()
    """
    given_up = getattr(_THREAD, "given_up", None)
    if given_up is not None and given_up.is_set():
        raise KeyboardInterrupt


def _on_cluster(
    client: Any, function: Callable[[Payload, int], Result], payloads: Iterable[Payload], shared: Collection[Shared]
) -> Iterator[Result]:
    """As `run_calls`, through Dask itself, which repeats the calls of a worker that dies; joblib's backend does not."""
    distributed = import_extra("distributed", "cluster")
    # A caller may have set a client of its own for joblib.
    if client not in _SENT:
        _check_workers(client)
    waiting = [_pack(payload) for payload in payloads]
    sent = _SENT.setdefault(client, WeakKeyDictionary())
    for turn in range(_TURNS):
        lost = []
        try:
            if turn:
                sent.clear()
            for one in shared:
                if one not in sent:
                    # Not named by their content: Dask would take data that died with a worker for data still there.
                    sent[one] = client.scatter(one, broadcast=True, hash=False)
            calls = {
                client.submit(_unpack_and_call, function, 1, packed, *(sent[one] for one in needed), pure=False): (
                    packed,
                    needed,
                )
                for packed, needed in waiting
            }
            for call in distributed.as_completed(list(calls), loop=client.loop):
                try:
                    result = call.result()
                except CancelledError:
                    # Dask drops copies of data that it holds twice, so a worker that dies may have had the last one.
                    lost.append(calls[call])
                    continue
                yield result
                call.release()
        except distributed.KilledWorker as error:
            raise ConfigError(f"workers of the cluster died again and again on the same work: {error}") from None
        except OSError as error:
            raise ConfigError(f"the connection to the cluster was lost ({error}); what was done is kept") from None
        if not lost:
            return
        waiting = lost
    raise ConfigError(
        f"the cluster lost the same work {_TURNS} times; see the logs of its scheduler; what was done is kept"
    )


def _serve(parent: int) -> None:
    """Leave interrupts to the parent, and end with it; called in each worker process."""
    # The parent ends its workers; otherwise each prints a traceback, or is taken for one that ran out of memory.
    # Signals are not ignored, as the commands that a worker starts would inherit that.
    for number in _FOR_THE_PARENT:
        signal.signal(number, lambda number, frame: None)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    # Of a parent that is killed, nothing else tells a worker in the middle of a call.
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(1)


class _Packer(pickle.Pickler):
    """A pickler that leaves interactions and queries out and collects them in `apart`."""

    def __init__(self, file: io.BytesIO, *, by_file: bool) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.apart: list[Shared] = []
        self._places: dict[int, int] = {}
        self._by_file = by_file

    def persistent_id(self, value: Any) -> int | None:
        if not isinstance(value, (Interactions, Queries)):
            return None
        if id(value) not in self._places:
            self._places[id(value)] = len(self.apart)
            self.apart.append(value)
        return self._places[id(value)]

    def reducer_override(self, value: Any) -> Any:
        # Of a part of a map, whose base is another array, numpy does not say where in the file it starts.
        base: Any = value.base if isinstance(value, np.memmap) else None
        if self._by_file and isinstance(base, mmap) and value.mode == "r":
            order = "C" if value.flags.c_contiguous else "F"
            return _map_again, (value.filename, value.dtype, value.offset, value.shape, order)
        return NotImplemented


def _map_again(path: str, *place: Any) -> npt.NDArray[Any]:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return array_at(file, *place)
    except (OSError, ValueError):
        raise ConfigError(
            f"{path} was removed while it was in use; run again: what is in the store is not computed anew"
        ) from None


class _Unpacker(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, apart: tuple[Shared, ...]) -> None:
        super().__init__(file)
        self._apart = apart

    def persistent_load(self, place: int) -> Shared:
        return self._apart[place]


def _pack(payload: Any, *, by_file: bool = False) -> tuple[bytes, list[Shared]]:
    """Pickle a payload without its interactions and queries, and list those; of maps, where they are `by_file`."""
    file = io.BytesIO()
    packer = _Packer(file, by_file=by_file)
    packer.dump(payload)
    return file.getvalue(), packer.apart


def _call_in(folder: str, *call: Any) -> Any:
    # Worker processes outlive a run, and the next run may start in another folder.
    os.chdir(folder)
    return _unpack_and_call(*call)


def _unpack_and_call(function: Callable[[Any, int], Result], threads: int, packed: bytes, *apart: Shared) -> Result:
    payload = _Unpacker(io.BytesIO(packed), apart).load()
    # Parallel work that a library starts inside a call stays in this process.
    with joblib.parallel_config(backend="sequential"):
        return function(payload, threads)

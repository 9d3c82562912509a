r"""A recommender behind a command: any system, in any language, that reads and writes files.

The command is run once for each model that has to be trained, with a folder of its own. In the command,

==================  =========================================================================================
placeholder         is replaced by
==================  =========================================================================================
``{interactions}``  file of all data to train on: user, item, value where the data are rated, time where they have
                    times (seconds since the epoch), and position where the order of events is known: 1 for a user's
                    first event, 2 for the next, a repeated item repeatedly
``{histories}``     file of the histories of the users to serve: user, item, value and position likewise
``{lists}``         file to write, a list for each user of the histories: user, item, rank; see `recmia.data.lists`
``{k}``             length of the lists
``{seed}``          whole number below 2^31, from which all randomness of the training must come
``{folder}``        folder of these files, in which the command may write others
==================  =========================================================================================

Ids are those of the data set. A user of the histories whose id is among the interactions was trained on, and is to be
served by whatever was trained for this user. The other users have ids that occur nowhere else, and are to be served
from their histories alone (fold-in). They include the members once more, so that one training serves the regimes
``fold-in`` and ``popular``. A list holds items of the interactions only, none of the user's own history (unless
`exclude_seen` is off), and k of them, or as many as there are.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from recmia.atomic import refusals
from recmia.data.interactions import Float32, IdMap, Int32, Int64, Interactions, places_in_groups
from recmia.data.lists import read_lists
from recmia.engine.matrices import count_in_rows, once_each
from recmia.engine.parallel import check_given_up
from recmia.errors import DataError, ProtocolError, RecmiaError
from recmia.observation import in_history
from recmia.recommenders.base import Recommender
from recmia.settings.recommenders import CommandSettings

_PLACEHOLDER = re.compile(r"\{(interactions|histories|lists|k|seed|folder)\}")
# How often a thread looks whether its command is still wanted, in seconds.
_LOOK = 0.5
# How long a command that is asked to end may take to clean up, in seconds.
_GRACE = 5.0
# An error shows the end of what the command printed.
_LINES_SHOWN, _MARKS_SHOWN = 3, 400
# Cleans up after a process that is killed and cannot do it itself: when its input ends, it kills the process group that
# it was told last, unless an empty line followed, and removes the folder, if any. In the background of a shell that has
# ended, it is nobody's child, so whoever kills us with all our children leaves it alone.
_KEEPER = """
trap '' HUP INT TERM
exec 3<&0
{
    group=
    while read -r word; do group=$word; done <&3
    [ -z "$group" ] || kill -s KILL -- "-$group"
    [ -z "$1" ] || rm -rf -- "$1"
} &
"""


class CommandRecommender(Recommender):
    """A system that one run of a command trains and asks for lists; see the module for what it is given.

    The run takes place when the first list is asked for, and serves the users of the fit as well. Lists are kept by
    history, so users with the same history get the same list.

    Parameters
    ----------
    settings : CommandSettings

    Examples
    --------
    >>> from recmia.data.interactions import Interactions
    >>> settings = CommandSettings(command="python train.py {interactions} {histories} {k} {lists} {seed}")
    >>> data = Interactions.from_arrays(user=[1, 2, 3], item=[10, 20, 30])
    >>> model = CommandRecommender(settings).fit(data, rng=np.random.default_rng(0))  # nothing is run yet
    >>> model.fitted_items().tolist()
    [True, True, True]
    """

    def __init__(self, settings: CommandSettings) -> None:
        self.settings = settings
        self._members: Interactions | None = None

    def called(self, method: str = "") -> str:
        """Return what the command is for; it has no methods."""
        return "the training command"

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        """Keep the data for the run; see `Recommender.fit`."""
        self._members, self._seed = interactions, int(rng.integers(2**31))
        self.uses_order = interactions.events is not None
        self._of_members: dict[bool, Int32] = {}
        self._by_history: dict[bool, dict[bytes, Int32]] = {}
        self._expected: dict[bool, tuple[int, list[sparse.csr_array]]] = {}
        self._failed: RecmiaError | None = None
        self.trained_items = interactions.item_counts() > 0
        return self

    def scores(self, histories: sparse.csr_array) -> Float32:
        """Raise ProtocolError: a command gives lists, not scores."""
        raise ProtocolError("a command gives lists and no scores; ask for recommend")

    def recommend(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Return the lists that the command wrote for these histories; see `Recommender.recommend`."""
        self.fitted_items(k)
        empty = np.diff(histories.indptr) == 0
        if empty.any():
            raise ProtocolError(f"a command is asked by histories; that of user {int(np.argmax(empty))} is empty")
        asked, found = _digests(histories), self._by_history.get(exclude_seen, {})
        if any(digest not in found or len(found[digest]) < k for digest in asked):
            self._serve(histories, k, exclude_seen)
            found = self._by_history[exclude_seen]
        return np.stack([found[digest][:k] for digest in asked])

    def recommend_members(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> Int32:
        """Return the lists that the command wrote for the users of the fit; see `Recommender.recommend_members`."""
        self.fitted_items(k)
        found = self._of_members.get(exclude_seen)
        if found is None or found.shape[1] < k:
            self._serve(histories[:0], k, exclude_seen)
            found = self._of_members[exclude_seen]
        return found[:, :k]

    def expect(self, histories: sparse.csr_array, k: int, *, exclude_seen: bool = True) -> None:
        """Serve these histories, too, in the next run; shorter lists are the starts of longer ones."""
        most, before = self._expected.get(exclude_seen, (0, []))
        self._expected[exclude_seen] = max(most, k), [*before, histories]

    def _serve(self, histories: sparse.csr_array, k: int, exclude_seen: bool) -> None:
        """Run the command for these and all expected histories, and keep the lists."""
        if self._failed is not None:
            raise self._failed
        assert self._members is not None
        most, expected = self._expected.pop(exclude_seen, (0, []))
        k = max(k, min(most, int(self.fitted_items().sum())))
        strangers = sparse.vstack([histories, *expected], format="csr")
        strangers = strangers[np.flatnonzero(np.diff(strangers.indptr))]
        # Each history once.
        rows = {digest: row for row, digest in enumerate(_digests(strangers))}
        strangers = strangers[list(rows.values())]
        attempts = self.settings.retries + 1
        for attempt in range(attempts):
            try:
                lists = self._run(strangers, k, exclude_seen)
                break
            except ProtocolError as error:
                if attempt + 1 == attempts:
                    tried = f" (the last of {attempts} attempts)" if attempts > 1 else ""
                    self._failed = ProtocolError(f"{error}{tried}")
                    raise self._failed from None
        n_members = self._members.n_users
        self._of_members[exclude_seen] = lists[:n_members]
        self._by_history[exclude_seen] = dict(zip(rows, lists[n_members:], strict=True))

    def _run(self, strangers: sparse.csr_array, k: int, exclude_seen: bool) -> Int32:
        """Run the command once, in a folder of its own, and return the lists."""
        members, settings = self._members, self.settings
        assert members is not None
        own = members.sequences() if self.uses_order else members.csr()
        histories = sparse.vstack([own, strangers], format="csr")
        users = IdMap(np.concatenate([members.users.ids, _new_ids(members.users.ids, strangers.shape[0])]))
        with _folder(settings.folder) as (folder, keeper):
            files = {name: folder / f"{name}.{settings.format}" for name in ("interactions", "histories", "lists")}
            with refusals(f"write for the training command in {folder.parent}"):
                _write(members.frame(), files["interactions"])
                _write(_frame(histories, users, members), files["histories"])
            fields = {"k": k, "seed": self._seed, "folder": folder, **files}
            log = folder / "output.txt"
            try:
                _call(_filled(settings.command, fields), settings.timeout, log, keeper)
                return self._read(files["lists"], histories, users, k, exclude_seen)
            except ProtocolError as error:
                keeps = "--train-folder DIR (setting train.folder) would keep its files"
                where = f"its files are in {folder}" if settings.folder else keeps
                words = str(error).replace(f"{folder}{os.sep}", "")
                raise ProtocolError(f"{settings.command!r} {words}; {_last_words(log)}; {where}") from None

    def _read(self, path: Path, histories: sparse.csr_array, users: IdMap, k: int, exclude_seen: bool) -> Int32:
        members, trained_items = self._members, self.fitted_items(k)
        assert members is not None
        lengths = np.full(len(users), trained_items.sum())
        if exclude_seen:
            lengths -= count_in_rows(once_each(histories), trained_items)
        candidates = np.flatnonzero(trained_items).astype(np.int32)
        try:
            found = read_lists(path, users, members.items.take(candidates), k, lengths=np.minimum(k, lengths))
        except DataError as error:
            raise ProtocolError(f"wrote what cannot be used: {error}") from None
        lists = np.where(found >= 0, candidates[found], np.int32(-1))
        if exclude_seen and (seen := in_history(lists, histories)).any():
            user, rank = (int(place[0]) for place in np.nonzero(seen))
            item = members.items.ids[lists[user, rank]].item()
            raise ProtocolError(
                f"wrote what cannot be used: {path}: user {users.ids[user].item()!r} has at rank {rank + 1} the item "
                f"{item!r} of its own history"
            )
        return lists


def code_of_command(settings: CommandSettings) -> str:
    """Return a digest of the files that the command names, since what it does can change with them.

    Examples
    --------
    >>> code_of_command(CommandSettings()) == code_of_command(CommandSettings(timeout=5))
    True
    """
    digest = hashlib.sha256()
    for word in shlex.split(settings.command):
        if Path(word).is_file():
            digest.update(Path(word).read_bytes())
    return digest.hexdigest()


def _filled(command: str, fields: Mapping[str, Any]) -> list[str]:
    """The words of a command, placeholders replaced; the replacements are never split or read by a shell."""
    return [_PLACEHOLDER.sub(lambda match: str(fields[match.group(1)]), word) for word in shlex.split(command)]


@contextmanager
def _folder(named: str) -> Iterator[tuple[Path, IO[bytes]]]:
    """Give a new folder, and the input of its keeper; it is removed, unless the user named its place and it failed."""
    place = Path(named or tempfile.gettempdir())
    with refusals(f"make a folder for the training command in {place}"):
        place.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="recmia-", dir=place))
    with subprocess.Popen(
        ["sh", "-c", _KEEPER, "sh", "" if named else str(folder)],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as shell:
        assert shell.stdin is not None
        try:
            shell.wait()
            yield folder, shell.stdin
        except BaseException:
            if not named:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _call(words: list[str], timeout: float, log: Path, keeper: IO[bytes]) -> None:
    """Run a command to its end, or kill it; no process of its process group outlives it, or this process.

    Raises
    ------
    ProtocolError
        If it cannot be started, takes too long or ends with a status other than 0.
    """
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            mend = "install it, or give its path" if missing else "name the program that runs it, such as python or sh"
            raise ProtocolError(f"cannot be started: {error.strerror}: {words[0]!r}; {mend}") from None
        try:
            keeper.write(b"%d\n" % process.pid)
            status = _wait(process, timeout)
            if status is None:
                _signal_group(process, signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_GRACE)
                raise ProtocolError(
                    f"took longer than {timeout:g} s (--train-timeout, setting train.timeout) and was killed"
                )
        finally:
            _signal_group(process, signal.SIGKILL)
            process.wait()
            keeper.write(b"\n")
    if status < 0:
        raise ProtocolError(f"was killed by {signal.Signals(-status).name}")
    if status:
        raise ProtocolError(f"ended with exit status {status}")


def _wait(process: subprocess.Popen[bytes], timeout: float) -> int | None:
    """Return the status with which a process ends, or None if that takes too long."""
    end = time.monotonic() + timeout
    while (left := end - time.monotonic()) > 0:
        check_given_up()
        with suppress(subprocess.TimeoutExpired):
            return process.wait(min(left, _LOOK))
    return None


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    # The group may have ended already.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _last_words(log: Path) -> str:
    lines = [" ".join(line.split()) for line in log.read_text(errors="replace").splitlines()] if log.exists() else []
    last = " | ".join([line for line in lines if line][-_LINES_SHOWN:])
    return f"its last lines: {last[-_MARKS_SHOWN:]}" if last else "it printed nothing"


def _digests(histories: sparse.csr_array) -> list[bytes]:
    ends, items = histories.indptr, histories.indices.astype(np.int32)
    return [
        hashlib.sha256(items[start:stop].tobytes() + histories.data[start:stop].tobytes()).digest()
        for start, stop in pairwise(ends)
    ]


def _new_ids(taken: npt.NDArray[Any], n: int) -> npt.NDArray[Any]:
    """Ids of the same kind that are not taken."""
    if taken.dtype.kind in "iu":
        return taken.max() + 1 + np.arange(n, dtype=taken.dtype)
    prefix = "new-"
    while any(one.startswith(prefix) for one in taken.tolist()):
        prefix = f"_{prefix}"
    return np.array([f"{prefix}{row}" for row in range(n)], dtype=str)


def _frame(histories: sparse.csr_array, users: IdMap, members: Interactions) -> pl.DataFrame:
    rows: Int64 = np.repeat(np.arange(histories.shape[0]), np.diff(histories.indptr))
    columns = {"user": users.ids[rows], "item": members.items.ids[histories.indices]}
    columns |= {"rating": histories.data} if members.rated else {}
    return pl.DataFrame(columns | ({} if members.events is None else {"position": places_in_groups(rows)}))


def _write(frame: pl.DataFrame, path: Path) -> None:
    frame = frame.drop("text", strict=False).rename({"rating": "value"}, strict=False)
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path)

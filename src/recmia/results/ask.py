"""Questions about users of a log, drawn and written for a system that runs elsewhere to answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from recmia.atomic import new_folder
from recmia.data.datasets import CleaningReport, load
from recmia.data.lists import read_users
from recmia.data.questions import write_questions
from recmia.errors import ConfigError, DataError, nearest
from recmia.game import streams
from recmia.game.queries import draw_blocks, draw_prefixes, draw_queries
from recmia.game.split import draw_members
from recmia.settings import AskedWith, Columns, Unit, named_columns


@dataclass(frozen=True)
class Asked:
    """What was written.

    Parameters
    ----------
    folder : Path
    users : int
        Users who are asked about.
    questions : int
    not_asked : int
        Users with a single item, about whom nothing can be asked.
    members : int, optional
        How many of the users, or of their interactions, are to be in the training data, if that was drawn.
    coins : int
        How many coins there are.
    unit : {"users", "interactions"}
    log : CleaningReport
        Of the histories.
    others : int
        How many users of the histories are not asked about.
    """

    folder: Path
    users: int
    questions: int
    not_asked: int
    members: int | None
    coins: int
    unit: Unit
    log: CleaningReport
    others: int

    def __str__(self) -> str:
        lines = [f"written to {self.folder}: {self.questions:,} questions about {self.users:,} users"]
        lines += str(self.log).splitlines()[1:]
        if self.not_asked:
            lines.append(f"  users with a single item, of whom nothing can be asked: {self.not_asked:,}")
        if self.members is not None:
            lines.append(
                f"members.csv: {self.members:,} of these {self.unit} are to be in the training data, and "
                f"{self.coins - self.members:,} (member 0) to be left out of it"
            )
        if not self.others and self.unit == "users":
            lines.append(
                "note: nobody is left to train reference models on, with which attacks find far more: ask about a part "
                "of the users (--users), or have your system, trained once more without them, answer, too "
                "(--reference-answers of recmia audit-files)"
            )
        lines.append(
            "questions.parquet is for the system, to be answered as query, item, rank; key.parquet stays with whoever "
            "asks"
        )
        return "\n".join(lines)


def ask(
    interactions: str,
    folder: Path,
    *,
    users: str = "",
    users_columns: str = "",
    columns: Columns | None = None,
    queries: int = 6,
    query_share: float = 0.5,
    query_kind: AskedWith = "parts",
    unit: Unit = "users",
    blocks: int = 10,
    draw: bool = False,
    member_share: float | None = None,
    seed: int = 0,
) -> Asked:
    """Draw questions about the users of a log, and write them with their key, see `recmia.data.questions`.

    Parameters
    ----------
    interactions : str
        As of `recmia.data.datasets.load`.
    folder : Path
        Must not exist.
    users : str
        File of the users to ask about; empty for all.
    users_columns : str
        What its column is called, such as ``"user=uid"``.
    columns : Columns, optional
        Of the interactions.
    queries : int
        About each user, even and at least 2.
    query_share : float
        Share of a history that a question asks with.
    query_kind : {"parts", "prefixes"}
        Whether a question asks with a random part, or with the first events of a history and hides the next item; there
        are then at most so many `queries` about a user.
    unit : {"users", "interactions"}
        Whether it is to be inferred of users whether they were trained on, or of each of their interactions: then
        every history is hidden in `blocks` parts in turn, in place of `queries`.
    blocks : int
        At least 2.
    draw : bool
        Whether to draw who is to be a member.
    member_share : float, optional
        The probability with which each user becomes one; 0.5 by default.
    seed : int

    Raises
    ------
    ConfigError
        For a setting out of range, and a folder that exists or cannot be made.
    DataError
        For files that cannot be used, and users with too short histories to be asked about.
    """
    if not isinstance(queries, int) or queries < 2 or queries % 2:
        raise ConfigError(f"queries must be even and at least 2, since halves come in pairs; got {queries!r}")
    if query_kind not in get_args(AskedWith):
        raise ConfigError(f"unknown query_kind {query_kind!r}; {nearest(str(query_kind), get_args(AskedWith))}")
    if unit not in get_args(Unit):
        raise ConfigError(f"unknown unit {unit!r}; {nearest(str(unit), get_args(Unit))}")
    if not isinstance(blocks, int) or blocks < 2:
        raise ConfigError(f"blocks must be a whole number, 2 or more; got {blocks!r}")
    if not isinstance(seed, int) or seed < 0:
        raise ConfigError(f"seed must be a whole number, 0 or more; got {seed!r}")
    if member_share is not None and not draw:
        raise ConfigError("member_share is the probability of the coins that draw_members tosses, which is not set")
    if query_kind == "prefixes" and query_share != 0.5:
        raise ConfigError(
            f"query_share = {query_share!r} is the share of a random part, and prefixes are of any length; take "
            "query_kind = 'parts', or leave query_share out"
        )
    if users_columns and not users:
        raise ConfigError("users_columns names the column of a file of users, and users is not given")
    share = 0.5 if member_share is None else member_share
    for name, value in (("query_share", query_share), ("member_share", share)):
        if not isinstance(value, int | float) or not 0 < value < 1:
            raise ConfigError(f"{name} must be above 0 and below 1; got {value!r}")
    try:
        named = named_columns(users_columns, "users")
    except ValueError as error:
        raise ConfigError(f"users_columns: {error}") from None
    loaded = load(interactions, columns=columns, min_interactions=1, seed=seed)
    histories = loaded.interactions
    about = histories
    if users:
        about = histories.restrict(np.sort(read_users(Path(users), histories.users, named=named)))
    rng = streams.queries(seed, "target")
    of_users = unit == "users"
    if not of_users:
        drawn = draw_blocks(about, blocks, rng)
    elif query_kind == "prefixes":
        drawn = draw_prefixes(about, queries, rng)
    else:
        drawn = draw_queries(about, queries, query_share, rng)
    each = np.bincount(drawn.user, minlength=about.n_users)
    if not each.any():
        raise DataError(f"{users or interactions}: nobody has two items, and a question hides at least one")
    n_coins = about.n_users if of_users else len(about)
    member = draw_members(n_coins, share, streams.members_to_be(seed)) if draw else None
    with new_folder(folder) as scratch:
        write_questions(scratch, about, drawn, member)
    asked = each > 0
    return Asked(
        folder, int(asked.sum()), len(drawn), int((~asked).sum()), None if member is None else int(member.sum()),
        n_coins, unit, loaded.report, histories.n_users - about.n_users,
    )  # fmt: skip

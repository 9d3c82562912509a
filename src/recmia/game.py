"""The membership game: who is a member, and what each user is served.

Two sides, shadow (the attacker's own data) and target (the audited system). On each, a fair draw makes half of the
users members; a recommender is trained on the members' interactions alone. Membership is drawn before anything else,
so members and non-members are exchangeable and any later difference is the system's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from recmia.errors import ConfigError, DataError, ProtocolError, RecmiaError, TooFewUsersError, nearest
from recmia.interactions import Bool, IdMap, Int32, Interactions
from recmia.observation import describe
from recmia.recommenders.base import Recommender, check_recommendations

Regime = Literal["popular", "popular-random", "fold-in", "trained"]
SplitUnit = Literal["users", "interactions", "shared"]
# In place of a regime, for lists that were read: how they came about is not known.
AS_SERVED = "as-served"
# Where members and others are served alike, but for what was trained: what shows there is the model's doing.
SHARED_PATH: tuple[Regime, ...] = ("fold-in", "trained")

# Fewer members or non-members a side than this, and no figure would mean anything.
MIN_PER_CLASS = 10


@dataclass(frozen=True, eq=False)
class Side:
    """The candidates of one side and the truth about them.

    Parameters
    ----------
    interactions : Interactions
        Of all candidates, members or not.
    member : bool, shape (n_users,)
    """

    interactions: Interactions
    member: Bool

    def __post_init__(self) -> None:
        if self.member.shape != (self.interactions.n_users,) or self.member.dtype != np.bool_:
            raise ProtocolError(f"member must be bool[{self.interactions.n_users}]; got {self.member.shape}")
        self.member.setflags(write=False)

    def training_data(self) -> Interactions:
        """The members' interactions, all that a recommender of this side may see."""
        return self.interactions.restrict(np.flatnonzero(self.member))


@dataclass(frozen=True, eq=False)
class Split:
    """Two disjoint sides, and a third part of the data for item vectors where one is set aside.

    Parameters
    ----------
    shadow, target : Side
    public : Interactions, optional
    unit : {"users", "interactions", "shared"}
        What is disjoint: the users, each user's interactions, or (shared) nothing but the draw of the members.

    Raises
    ------
    ProtocolError
        If two parts share a user (or an interaction).
    """

    shadow: Side
    target: Side
    public: Interactions | None
    unit: SplitUnit

    def __post_init__(self) -> None:
        parts = [self.shadow.interactions, self.target.interactions]
        parts += [] if self.public is None else [self.public]
        if any(part.items is not parts[0].items for part in parts):
            raise ProtocolError("the parts of a split must share one item map")
        for one, other in combinations(parts if self.unit != "shared" else [], 2):
            shared = np.intersect1d(self._keys(one), self._keys(other))
            if len(shared):
                raise ProtocolError(f"two parts of the split share {len(shared)} {self.unit}; they must be disjoint")

    def _keys(self, part: Interactions) -> npt.NDArray[np.generic]:
        if self.unit == "users":
            return part.users.ids
        # The parts hold the same users, so rows are comparable.
        if part.users is not self.shadow.interactions.users:
            raise ProtocolError("the parts of a split by interactions must share one user map")
        return part.user.astype(np.int64) * part.n_items + part.item


def split_game(
    interactions: Interactions,
    *,
    unit: SplitUnit = "users",
    member_share: float = 0.5,
    public: bool = False,
    rng: np.random.Generator,
) -> Split:
    """Part the data into a shadow and a target side and draw the members of each.

    Parameters
    ----------
    interactions : Interactions
        Of the candidates only (users with enough interactions).
    unit : {"users", "interactions", "shared"}
        ``"users"`` gives each side its own users. ``"interactions"`` gives every user to both sides, with disjoint
        thirds of the user's interactions; the last third is public (Zhang et al. 2021, section 5.1).
        ``"shared"`` gives all users with all their interactions to both sides, and draws the members of each apart: the
        attacker knows everybody's history, as in Carlini et al. (2022).
    member_share : float
        Share of a side's users that become members, in (0, 1).
    public : bool
        Set a third part of the users aside (always so for ``unit="interactions"``, never for ``"shared"``).
    rng : numpy.random.Generator

    Returns
    -------
    Split

    Raises
    ------
    TooFewUsersError
        If a side would have fewer than `MIN_PER_CLASS` members or non-members.
    """
    n_users = interactions.n_users
    n_parts = 3 if (public and unit == "users") or unit == "interactions" else 2
    smaller = min(member_share, 1 - member_share)
    needed = int(np.ceil(MIN_PER_CLASS / smaller)) * (n_parts if unit == "users" else 1)
    if n_users < needed:
        raise TooFewUsersError(
            f"{n_users} eligible users are too few: {needed} are needed for {MIN_PER_CLASS} members and as many "
            f"non-members on each side (split = {unit!r}, member_share = {member_share:g}); bring more users, "
            "or lower min_interactions",
            estimate=needed,
        )
    if unit == "shared":
        if public:
            raise ConfigError("split = 'shared' sets no public part aside; take item_vectors = 'shadow'")
        parts = [interactions, interactions]
    elif unit == "users":
        parts = [interactions.restrict(np.sort(part)) for part in np.array_split(rng.permutation(n_users), n_parts)]
    else:
        parts = _thirds_of_each_user(interactions, rng)
    sides = [Side(part, draw_members(part.n_users, member_share, rng)) for part in parts[:2]]
    return Split(shadow=sides[0], target=sides[1], public=parts[2] if n_parts == 3 else None, unit=unit)


def hold_out(interactions: Interactions, share: float, rng: np.random.Generator) -> tuple[Interactions, Interactions]:
    """Part each user's interactions, by lot, into what anybody may know and what is kept to measure utility.

    Parameters
    ----------
    interactions : Interactions
    share : float
        Held out of each user's, in (0, 1), rounded up; but one is always left.
    rng : numpy.random.Generator

    Returns
    -------
    known, held_out : Interactions
        Over the same users and items. A user with a single interaction has none held out.
    """
    n = len(interactions)
    order = np.lexsort((rng.random(n), interactions.user))
    counts = np.bincount(interactions.user, minlength=interactions.n_users)
    place = np.empty(n, np.int64)
    place[order] = np.arange(n) - np.searchsorted(interactions.user, np.arange(interactions.n_users))[interactions.user]
    held = place < np.minimum(np.ceil(share * counts), counts - 1)[interactions.user]
    if not held.any():
        raise ConfigError("held_out leaves nothing to measure with: no user has two interactions")
    return interactions.take(np.flatnonzero(~held)), interactions.take(np.flatnonzero(held))


def draw_members(n: int, share: float, rng: np.random.Generator) -> Bool:
    """Make a fixed share of n users members, by lot: bool, shape (n,)."""
    member = np.zeros(n, np.bool_)
    member[rng.permutation(n)[: round(share * n)]] = True
    return member


def draw_shadow_members(n: int, rngs: Sequence[np.random.Generator]) -> Bool:
    """Draw the members of shadow models: bool, shape (S, n).

    Shadows 2s and 2s + 1 get complementary halves, so that every user is in as many models as out.

    Parameters
    ----------
    n : int
        Users.
    rngs : sequence of S numpy.random.Generator
        One for each shadow, so that more shadows leave the first ones as they are. S is even.
    """
    if not rngs:
        return np.zeros((0, n), np.bool_)
    member = np.stack([draw_members(n, 0.5, rng) for rng in rngs])
    member[1::2] = ~member[::2]
    return member


def _thirds_of_each_user(interactions: Interactions, rng: np.random.Generator) -> list[Interactions]:
    # Shuffle within each user, then deal the records out in turn.
    n = len(interactions)
    order = np.lexsort((rng.random(n), interactions.user))
    starts = np.searchsorted(interactions.user, np.arange(interactions.n_users))
    counts = np.bincount(interactions.user, minlength=interactions.n_users)
    if counts.min() < 3:
        poorest = interactions.users.ids[int(np.argmin(counts))]
        raise ConfigError(
            f"split = 'interactions' parts each user's records in three, and user {poorest} has {counts.min()}; "
            "raise min_interactions to 3 or more"
        )
    part = np.empty(n, np.int8)
    part[order] = (np.arange(n) - starts[interactions.user]) % 3
    return [interactions.take(np.flatnonzero(part == third)) for third in range(3)]


def serve(
    regime: Regime,
    model: Recommender,
    side: Side,
    k: int,
    *,
    exclude_seen: bool = True,
    alpha: float = 0.1,
    rng: np.random.Generator,
) -> Int32:
    """Give each user of a side the list that the system would show.

    ================  ==================================  ================================================
    regime            a member gets                       a non-member gets
    ================  ==================================  ================================================
    popular           what was trained for it             the k most popular training items
    popular-random    what was trained for it             k drawn from the k / alpha most popular
    fold-in           a list from the history             a list from the history, by the same path
    trained           what was trained for it             a list from the history
    ================  ==================================  ================================================

    A recommender that trains nothing for each user serves members from their history throughout.

    Parameters
    ----------
    regime : {"popular", "popular-random", "fold-in", "trained"}
    model : Recommender
        Fitted on ``side.training_data()``.
    side : Side
    k : int
    exclude_seen : bool
        Whether personal lists leave out the history. A popular list is the same for all and leaves out nothing.
    alpha : float
        In (0, 1], for ``popular-random``.
    rng : numpy.random.Generator
        For ``popular-random``.

    Returns
    -------
    int32, shape (n_users, k)

    Raises
    ------
    ConfigError
        For an unknown regime, one that the model cannot serve, or `k` above the number of items with training data.
    ProtocolError
        If the model, its `known` or a list breaks the contract of `Recommender`, or if it fails with an error of its
        own. A user in the message is a row of those that the method named there was asked about.
    """
    if regime not in get_args(Regime):
        raise ConfigError(f"unknown regime {regime!r}; {nearest(regime, get_args(Regime))}")
    name, n_items = type(model).__name__, side.interactions.n_items
    if not isinstance(model, Recommender):
        raise ProtocolError(f"a fitted Recommender is needed, which fit must return; got a {name}")
    check_servable(model, regime)
    known = model.known
    if not isinstance(known, np.ndarray) or known.shape != (n_items,) or known.dtype != np.bool_:
        raise ProtocolError(
            f"{name}.known must be bool with shape ({n_items},) after fit, true for the items with a training "
            f"interaction; got {describe(known)}"
        )
    model.fitted_items(k)
    histories, member = side.interactions.csr(), side.member

    def ask(recommend: Callable[..., Int32], users: Bool) -> Int32:
        part, source = histories[users], f"{name}.{recommend.__name__}, asked about {int(users.sum())} users"
        try:
            personal = recommend(part, k, exclude_seen=exclude_seen)
        except ProtocolError as error:
            raise ProtocolError(f"{source}: {error}") from error
        except RecmiaError:
            raise
        except Exception as error:
            words = " ".join(str(error).split())
            raise ProtocolError(f"{source}, raised {type(error).__name__}: {words}") from error
        check_recommendations(personal, part, known, k, exclude_seen=exclude_seen, source=source)
        return personal

    if regime == "fold-in":
        return ask(model.recommend, np.ones_like(member))
    lists = np.empty((len(member), k), np.int32)
    lists[member] = ask(model.recommend_members, member)
    if regime == "trained":
        lists[~member] = ask(model.recommend, ~member)
        return lists
    ranking = rank_by_popularity(side.training_data().item_counts())[: int(known.sum())]
    if regime == "popular":
        lists[~member] = ranking[:k]
    else:
        pool = ranking[: max(k, round(k / alpha))]
        lists[~member] = rng.permuted(np.tile(pool, (int((~member).sum()), 1)), axis=1)[:, :k]
    return lists


def check_servable(model: Recommender, regime: Regime) -> None:
    """Refuse a regime that asks for more than a model offers.

    Raises
    ------
    ConfigError
        Naming the regimes that it can serve.
    """
    if regime in ("fold-in", "trained") and not model.folds_in:
        raise ConfigError(
            f"{type(model).__name__} cannot serve a user that it was not trained on, which the regime {regime} asks "
            "for; it can be audited in: popular, popular-random"
        )


def rank_by_popularity(counts: npt.NDArray[np.int64]) -> Int32:
    """Item rows from the most to the least popular, ties by lower row."""
    return np.argsort(-counts, kind="stable").astype(np.int32)


def synthetic_population(public: Interactions, n_users: int, *, rng: np.random.Generator) -> Interactions:
    """Draw histories from public statistics alone: what a black-box attacker has in place of users.

    Each user gets a length from the distribution of lengths, and so many items without repeats, each draw in proportion
    to the popularity of the items that are left (Gumbel's trick). Ratings and times come from their distributions over
    all records. Who liked what together is lost; that is the point.

    Parameters
    ----------
    public : Interactions
        Whose lengths and popularities are public.
    n_users : int
    rng : numpy.random.Generator

    Returns
    -------
    Interactions
        Users 0 .. n_users - 1 over the same items.
    """
    counts = public.item_counts()
    items = np.flatnonzero(counts).astype(np.int32)
    lengths = rng.choice(np.bincount(public.user, minlength=public.n_users), n_users)
    user, item = [], []
    for u, length in enumerate(np.minimum(lengths, len(items))):
        keys = np.log(counts[items]) + rng.gumbel(size=len(items))
        user.append(np.full(length, u, np.int32))
        item.append(np.sort(items[np.argpartition(-keys, length - 1)[:length]]))
    drawn = rng.integers(len(public), size=int(sum(map(len, user))))
    return Interactions(
        np.concatenate(user),
        np.concatenate(item),
        public.value[drawn],
        None if public.time is None else public.time[drawn],
        IdMap(np.arange(n_users)),
        public.items,
        public.rated,
    )


def with_items_of(other: Interactions, items: IdMap) -> Interactions:
    """Take another data set as one over these items, which are known by their ids; what is unknown is left out.

    Raises
    ------
    DataError
        If no item is known, or the ids are of another kind.
    """
    if items.ids.dtype.kind != other.items.ids.dtype.kind:
        raise DataError(
            f"the item ids of the two data sets are of different kinds: {items.ids.dtype} and {other.items.ids.dtype}"
        )
    order = np.argsort(items.ids)
    place = np.minimum(np.searchsorted(items.ids, other.items.ids, sorter=order), len(items) - 1)
    row = np.where(items.ids[order[place]] == other.items.ids, order[place], -1).astype(np.int32)
    kept = np.flatnonzero(row[other.item] >= 0)
    if not len(kept):
        raise DataError("the two data sets have no item id in common")
    kept = kept[np.lexsort((row[other.item[kept]], other.user[kept]))]
    users, user = np.unique(other.user[kept], return_inverse=True)
    return Interactions(
        user.astype(np.int32),
        row[other.item[kept]],
        other.value[kept],
        None if other.time is None else other.time[kept],
        other.users.take(users),
        items,
        other.rated,
    )


def join_users(one: Interactions, other: Interactions) -> Interactions:
    """Put the users of two data sets over the same items in one, numbered anew, those of `one` first."""
    both_timed = one.time is not None and other.time is not None
    return Interactions(
        np.concatenate([one.user, other.user + np.int32(one.n_users)]),
        np.concatenate([one.item, other.item]),
        np.concatenate([one.value, other.value]),
        np.concatenate([one.time, other.time]) if both_timed else None,
        IdMap(np.arange(one.n_users + other.n_users)),
        one.items,
        one.rated and other.rated,
    )

"""The split of the data into two sides, and the random draw of the members of each.

The shadow side is the attacker's own data, the target side is that of the audited system. On each, every user becomes a
member by a coin of its own; a recommender is trained only on the members' interactions. Membership is drawn before
anything else, so members and non-members are exchangeable, and any later difference is the system's. Since coins are
independent, what an attack guesses right bounds the epsilon of a single training; see `recmia.metrics.epsilon`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.data.interactions import Bool, IdMap, Interactions, join_users, order_of_events
from recmia.errors import ConfigError, ProtocolError, TooFewUsersError
from recmia.settings import SplitUnit

# With fewer members or non-members on a side to be expected than this, no metric would be meaningful.
MIN_PER_CLASS = 10


@dataclass(frozen=True, eq=False)
class Side:
    """The users of one side, and their membership.

    Parameters
    ----------
    interactions : Interactions
        Of all users of the side, members or not.
    member : bool, shape (n_users,)
    trained : bool, shape (n_interactions,), optional
        Where a coin is tossed for each interaction: which of them are in the training data. The members are then the
        users of these.
    others : Interactions, optional
        Of people who are in training, too, but are neither served nor audited, over the same items.

    Raises
    ------
    ProtocolError
        If `member` is not bool with one entry for each user, or `trained` with one for each interaction.

    Examples
    --------
    >>> side = Side(Interactions.from_arrays([1, 2, 2], [5, 5, 6]), np.array([False, True]))
    >>> len(side.training_data())
    2
    """

    interactions: Interactions
    member: Bool
    trained: Bool | None = None
    others: Interactions | None = None

    def __post_init__(self) -> None:
        if self.trained is not None:
            if self.trained.shape != (len(self.interactions),) or self.trained.dtype != np.bool_:
                raise ProtocolError(f"trained must be bool[{len(self.interactions)}]; got {self.trained.shape}")
            self.trained.setflags(write=False)
        if self.member.shape != (self.interactions.n_users,) or self.member.dtype != np.bool_:
            raise ProtocolError(f"member must be bool[{self.interactions.n_users}]; got {self.member.shape}")
        self.member.setflags(write=False)

    @classmethod
    def of_interactions(cls, interactions: Interactions, trained: Bool) -> Side:
        """Return the side of a system that is trained on these interactions of all users.

        >>> side = Side.of_interactions(Interactions.from_arrays([1, 2, 2], [5, 5, 6]), np.array([False, True, False]))
        >>> side.member.tolist(), len(side.training_data())
        ([False, True], 1)
        """
        member = np.bincount(interactions.user[trained], minlength=interactions.n_users) > 0
        return cls(interactions, member, trained)

    @property
    def n_interactions(self) -> int:
        """How many interactions there are, those of others included."""
        return len(self.interactions) + (0 if self.others is None else len(self.others))

    def training_data(self) -> Interactions:
        """Return all that a recommender of this side is trained on: the members' interactions, and then the others'."""
        data = self.interactions if self.trained is None else self.interactions.take(np.flatnonzero(self.trained))
        members = data.restrict(np.flatnonzero(self.member))
        return members if self.others is None else join_users(members, self.others)

    def histories(self, *, in_order: bool = False) -> sparse.csr_array:
        """Return what the system knows of each user whom it serves, float32, shape (n_users, n_items).

        Where wanted, in the order of events, as `Interactions.sequences`.
        """
        known = self.interactions if self.trained is None else self.interactions.take(np.flatnonzero(self.trained))
        return known.sequences() if in_order else known.csr()

    def sample(self, n: int, rng: np.random.Generator) -> Side:
        """Return the side of n of the users, drawn at random; members among the others are in training as before.

        >>> side = Side(Interactions.from_arrays([1, 2, 3], [5, 5, 6]), np.array([True, True, True]))
        >>> one = side.sample(1, np.random.default_rng(0))
        >>> one.interactions.n_users, one.training_data().n_users
        (1, 3)
        """
        drawn = np.zeros(len(self.member), np.bool_)
        drawn[rng.choice(len(self.member), n, replace=False)] = True
        others = self.interactions.restrict(np.flatnonzero(self.member & ~drawn))
        return Side(self.interactions.restrict(np.flatnonzero(drawn)), self.member[drawn], others=others)


@dataclass(frozen=True, eq=False)
class Split:
    """Two sides, and a third part of the data for item vectors where one is set aside.

    Parameters
    ----------
    shadow, target : Side
    public : Interactions, optional
    unit : {"users", "interactions", "shared"}
        What is disjoint: the users, the interactions of each user, or nothing (``"shared"``).

    Raises
    ------
    ProtocolError
        If two parts share a user (or an interaction).

    Examples
    --------
    See `split_game`.
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
        return part.keys()


def split_game(
    interactions: Interactions,
    *,
    unit: SplitUnit = "users",
    member_share: float = 0.5,
    public: bool = False,
    rng: np.random.Generator,
) -> Split:
    """Return the data split into a shadow and a target side, with random members on each.

    Parameters
    ----------
    interactions : Interactions
        Of the eligible users only (those with enough interactions).
    unit : {"users", "interactions", "shared"}
        ``"users"`` gives each side its own users. ``"interactions"`` gives every user to both sides, with disjoint
        thirds of the user's interactions; the last third is public (Zhang et al. 2021, section 5.1).
        ``"shared"`` gives all users with all their interactions to both sides, and draws the members of each
        independently: the attacker knows all histories, as in Carlini et al. (2022).
    member_share : float
        Probability with which each user becomes a member, in (0, 1).
    public : bool
        Set a third part of the users aside (always so for ``unit="interactions"``, never for ``"shared"``).
    rng : numpy.random.Generator

    Returns
    -------
    Split

    Raises
    ------
    TooFewUsersError
        If fewer than `MIN_PER_CLASS` members or non-members are to be expected on a side.
    ConfigError
        If a public part is wanted with ``unit="shared"``, or a user has fewer than three interactions to be split.

    Examples
    --------
    >>> data = Interactions.from_arrays(np.repeat(np.arange(40), 2), np.tile([1, 2], 40))
    >>> split = split_game(data, rng=np.random.default_rng(0))
    >>> split.shadow.interactions.n_users, int(split.target.member.sum())
    (20, 14)
    """
    n_users = interactions.n_users
    n_parts = 3 if (public and unit == "users") or unit == "interactions" else 2
    smaller = min(member_share, 1 - member_share)
    needed = int(np.ceil(MIN_PER_CLASS / smaller)) * (n_parts if unit == "users" else 1)
    if n_users < needed:
        raise TooFewUsersError(
            f"{n_users} eligible users are too few: {needed} are needed for {MIN_PER_CLASS} members and as many "
            f"non-members on each side (split = {unit!r}, member_share = {member_share:g}); bring more users",
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
    """Return each user's interactions, split at random into those of the game and those held out to measure utility.

    Parameters
    ----------
    interactions : Interactions
    share : float
        Share of each user's interactions that is held out, in (0, 1), rounded up; one is always left.
    rng : numpy.random.Generator

    Returns
    -------
    known, held_out : Interactions
        Over the same users and items. A user with a single interaction has none held out.

    Raises
    ------
    ConfigError
        If no user has two interactions.

    Examples
    --------
    >>> data = Interactions.from_arrays([1, 1, 1, 2], [1, 2, 3, 1])
    >>> known, held_out = hold_out(data, 0.4, np.random.default_rng(0))
    >>> len(known), len(held_out)
    (2, 2)
    """
    counts = np.bincount(interactions.user, minlength=interactions.n_users)
    held = random_places(interactions, rng) < np.minimum(np.ceil(share * counts), counts - 1)[interactions.user]
    if not held.any():
        raise ConfigError("held_out leaves nothing to measure with: no user has two interactions")
    return interactions.take(np.flatnonzero(~held)), interactions.take(np.flatnonzero(held))


def random_places(interactions: Interactions, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return the place of each interaction in a random order of its user's, from 0: int64, shape (n,).

    >>> random_places(Interactions.from_arrays([1, 1, 1], [1, 2, 3]), np.random.default_rng(0)).tolist()
    [2, 1, 0]
    """
    n = len(interactions)
    order = np.lexsort((rng.random(n), interactions.user))
    place = np.empty(n, np.int64)
    place[order] = np.arange(n) - np.searchsorted(interactions.user, np.arange(interactions.n_users))[interactions.user]
    return place


def draw_members(n: int, share: float, rng: np.random.Generator) -> Bool:
    """Return which of n users are members, each by a coin of its own: bool, shape (n,).

    >>> draw_members(5, 0.3, np.random.default_rng(0)).tolist()
    [False, True, True, True, False]
    """
    drawn: Bool = rng.random(n) < share
    return drawn


def draw_shadow_members(n: int, rngs: Sequence[np.random.Generator]) -> Bool:
    """Return random members for S shadow models: bool, shape (S, n).

    Models 2s and 2s + 1 get complementary members, so that every user is a member in half of the models.

    Parameters
    ----------
    n : int
        Number of users.
    rngs : sequence of S numpy.random.Generator
        One for each model, so that the first models stay the same when there are more. S is even.

    Examples
    --------
    >>> members = draw_shadow_members(4, [np.random.default_rng(seed) for seed in range(6)])
    >>> members.sum(axis=0).tolist()
    [3, 3, 3, 3]
    """
    if not rngs:
        return np.zeros((0, n), np.bool_)
    member = np.stack([draw_members(n, 0.5, rng) for rng in rngs])
    member[1::2] = ~member[::2]
    return member


def _thirds_of_each_user(interactions: Interactions, rng: np.random.Generator) -> list[Interactions]:
    counts = np.bincount(interactions.user, minlength=interactions.n_users)
    if counts.min() < 3:
        poorest = interactions.users.ids[int(np.argmin(counts))]
        raise ConfigError(
            f"split = 'interactions' parts each user's records in three, and user {poorest} has {counts.min()}; "
            "raise min_interactions (--min-interactions) to 3 or more"
        )
    part = random_places(interactions, rng) % 3
    return [interactions.take(np.flatnonzero(part == third)) for third in range(3)]


def synthetic_population(public: Interactions, n_users: int, *, rng: np.random.Generator) -> Interactions:
    """Return histories drawn from public statistics alone, which a black-box attacker uses in place of real users.

    Each user gets a length from the distribution of lengths, and that many items without repeats, each draw in
    proportion to the popularity of the remaining items (by the Gumbel trick). Ratings and times are drawn from their
    distributions over all records, and events are in the order of these times, or at random. By design, nothing is kept
    of which items occur together.

    Parameters
    ----------
    public : Interactions
        The data whose history lengths and item popularities are public.
    n_users : int
    rng : numpy.random.Generator

    Returns
    -------
    Interactions
        Users 0 .. n_users - 1 over the same items.

    Examples
    --------
    >>> public = Interactions.from_arrays([1, 1, 2], [1, 2, 1])
    >>> synthetic_population(public, 3, rng=np.random.default_rng(0)).n_users
    3
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
    users, time = np.concatenate(user), None if public.time is None else public.time[drawn]
    events = None
    if public.events is not None:
        events = order_of_events(users, rng.random(len(users)) if time is None else time, None).astype(np.int32)
    return Interactions(
        users,
        np.concatenate(item),
        public.value[drawn],
        time,
        IdMap(np.arange(n_users)),
        public.items,
        public.rated,
        events,
    )

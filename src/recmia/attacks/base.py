"""The interface of every attack, and how attacks are run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from recmia.errors import ProtocolError, TooFewShadowsError
from recmia.observation import Observation, ShadowPool

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]

_FOLDS = 5
_POOL_FOLDS = 4

# What an attacker must have for an attack: nothing, a shadow system, a pool of many, or models of its own, of any kind,
# that it trained on other people's data.
Needs = Literal["nothing", "shadow", "pool", "references"]


class Attack(ABC):
    """An attack that is fitted on shadow users, whose membership the attacker knows, and scores target users.

    `recmia.testing.check_attack` checks a subclass.

    Attributes
    ----------
    name : str
        Its name in tables.
    needs : {"nothing", "shadow", "references"}
        ``"nothing"`` and ``"references"`` for an attack that does not use the labels. It need not write `fit`, and it
        scores shadow users without being fitted for each fold. ``"references"`` for one that uses what reference
        models answer.
    asks : bool
        Whether it uses what the system answers to queries.
    looks : bool
        Whether it uses the lists that users are shown; if not, it can be run on answers alone.

    Examples
    --------
    >>> import numpy as np
    >>> from recmia.testing import planted_leak
    >>> class RarestItem(Attack):
    ...     name, needs = "rarest-item", "nothing"
    ...
    ...     def score(self, observation):
    ...         return -observation.items.popularity[observation.lists].min(axis=1).astype(np.float64)
    >>> target, _ = planted_leak("oddity", np.random.default_rng(0))
    >>> RarestItem().score(target).shape
    (300,)
    """

    name: str
    needs: ClassVar[Needs] = "shadow"
    asks: ClassVar[bool] = False
    looks: ClassVar[bool] = True

    def fit(self, shadow: Observation, member: Bool, *, rng: np.random.Generator) -> Self:
        """Fit to n shadow users with the membership `member`, bool, shape (n,), and return `self`."""
        return self

    @abstractmethod
    def score(self, observation: Observation) -> Float64:
        """Return a score for each user, float64, shape (n,); higher means more likely a member."""


class PoolAttack(ABC):
    """An attack that learns from many shadow models what each audited user is shown in and out of training.

    It scores the users that it was fitted on, while an `Attack` is fitted on other users of one shadow system.
    `recmia.testing.check_attack` checks a subclass.

    Attributes
    ----------
    name : str
        Its name in tables.
    asks : bool
        Whether it uses what the system and the shadow models answer to queries.
    looks : bool
        Whether it uses the lists that users are shown.
    min_shadows : int
        Fewest shadow models that `fit` accepts.
    online : bool
        Whether `fit` needs users that are in the training data of some shadow models and not of others.
    offline : bool, shape (n,)
        After `fit`: users that are in the training data of every shadow model, or of none.

    Examples
    --------
    >>> import numpy as np
    >>> from recmia.attacks import ATTACKS
    >>> from recmia.testing import planted_pool
    >>> pool, targets, _ = planted_pool("oddity", np.random.default_rng(0))
    >>> attack = ATTACKS["list-lr-counts"].make({}).fit(pool, rng=np.random.default_rng(0))
    >>> attack.score(targets[0]).shape
    (40,)
    """

    name: str
    needs: ClassVar[Needs] = "pool"
    asks: ClassVar[bool] = False
    looks: ClassVar[bool] = True
    min_shadows: ClassVar[int] = 2
    online: bool = True
    offline: Bool

    @abstractmethod
    def fit(self, pool: ShadowPool, *, rng: np.random.Generator) -> Self:
        """Fit to the lists that n users get from S shadow models, and return `self`.

        Raises
        ------
        TooFewShadowsError
            For fewer shadow models than `min_shadows`.
        ProtocolError
            If the attack is `online` and all users are `offline`.
        """

    @abstractmethod
    def score(self, observation: Observation) -> Float64:
        """Return a score for each user of the pool, from what one system shows to them.

        Parameters
        ----------
        observation : Observation
            Of the same n users as the pool.

        Returns
        -------
        float64, shape (n,)
            Higher means more likely a member. A user's score depends on no other user's list.
        """

    def check_pool(self, pool: ShadowPool) -> None:
        """Raise the errors of `fit` for a pool that the attack cannot be fitted on, and set `offline`."""
        if len(pool) < self.min_shadows:
            raise TooFewShadowsError(
                f"the attack {self.name} needs at least {self.min_shadows} shadow models; got {len(pool)}",
                estimate=self.min_shadows,
            )
        n_in = pool.member.sum(axis=0)
        self.offline = (n_in == 0) | (n_in == len(pool))
        if self.online and self.offline.all():
            raise ProtocolError(
                f"the attack {self.name} learns from users that are in training in some shadows and out of it in "
                f"others, and none of the {pool.n_users} users is; list-lr-offline and rmia do without"
            )


def cross_scores(make: Callable[[], PoolAttack], pool: ShadowPool, *, rng: np.random.Generator) -> Float64:
    """Return out-of-fold scores of all shadow models, pairs of them held out together.

    Shadow models 2i and 2i + 1 are trained on complementary halves of the users. Without such a pair, every
    user is again in training in half of the remaining models, so the counts do not reveal the labels of the pair.

    Parameters
    ----------
    make : callable
        Returns a new attack.
    pool : ShadowPool
        Of S shadows.
    rng : numpy.random.Generator

    Returns
    -------
    float64, shape (S, n)

    Raises
    ------
    ProtocolError
        If S is odd, or a user is not in training in equally many shadows of each pair.
    TooFewShadowsError
        If the pool without one fold is too small for the attack.

    Examples
    --------
    >>> import numpy as np
    >>> from recmia.attacks.lists import Counts
    >>> from recmia.testing import planted_pool
    >>> pool, _, _ = planted_pool("oddity", np.random.default_rng(0))
    >>> cross_scores(Counts, pool, rng=np.random.default_rng(0)).shape
    (12, 40)
    """
    if len(pool) % 2 or (pool.member[::2].astype(int) + pool.member[1::2] != pool.member[:2].sum(axis=0)).any():
        raise ProtocolError(
            "shadows 2i and 2i + 1 must be trained on complementary halves of the users (but for users that are in all "
            f"shadows, or in none), or scores of held-out shadows betray their labels by counts; these {len(pool)} "
            "shadows are not such pairs"
        )
    fold = np.arange(len(pool)) // 2 % min(_POOL_FOLDS, len(pool) // 2)
    scores = np.empty(pool.member.shape)
    for number, own in enumerate(rng.spawn(int(fold.max()) + 1)):
        attack = make().fit(pool.take(np.flatnonzero(fold != number)), rng=own)
        for s in np.flatnonzero(fold == number):
            scores[s] = checked_scores(attack, pool.observe_shadow(int(s)))
    return scores


def run_pool_attack(
    make: Callable[[], PoolAttack], pool: ShadowPool, targets: Sequence[Observation], *, rng: np.random.Generator
) -> tuple[Float64, Float64]:
    """Return scores of the pool's own shadow models, out of fold, and of R targets.

    Parameters
    ----------
    make : callable
        Returns a new attack.
    pool : ShadowPool
        Of S shadow models and n users. No target is among the shadow models.
    targets : sequence of Observation
        What R target systems show to the same users.
    rng : numpy.random.Generator

    Returns
    -------
    shadow_scores : float64, shape (S, n), or (0, n)
        Each from an attack that was fitted on other shadow models; none where the others are too few to fit it.
    target_scores : float64, shape (R, n)

    Raises
    ------
    TooFewShadowsError
        If there are fewer shadow models than `min_shadows`.
    ProtocolError
        As `cross_scores`, and if an attack returns scores of the wrong shape or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from recmia.attacks.lists import Counts
    >>> from recmia.testing import planted_pool
    >>> pool, targets, _ = planted_pool("oddity", np.random.default_rng(0))
    >>> shadow_scores, target_scores = run_pool_attack(Counts, pool, targets, rng=np.random.default_rng(0))
    >>> shadow_scores.shape, target_scores.shape
    ((12, 40), (8, 40))
    """
    fit_rng, cross_rng = rng.spawn(2)
    attack = make().fit(pool, rng=fit_rng)
    enough = len(pool) >= attack.min_shadows + 2
    shadow_scores = cross_scores(make, pool, rng=cross_rng) if enough else np.empty((0, pool.n_users))
    target_scores = np.empty((len(targets), pool.n_users))
    for number, target in enumerate(targets):
        target_scores[number] = checked_scores(attack, target)
    return shadow_scores, target_scores


def run_attack(
    make: Callable[[], Attack],
    shadow: Observation,
    member: Bool,
    targets: Sequence[Observation],
    *,
    rng: np.random.Generator,
    score_shadow: bool = True,
) -> tuple[Float64, list[Float64]]:
    """Return scores of the shadow users, out of fold, and of the users of one or more targets.

    Parameters
    ----------
    make : callable
        Returns a new attack.
    shadow : Observation
        n shadow users.
    member : bool, shape (n,)
        Their membership. No membership of target users is an argument.
    targets : sequence of Observation
        m target users each.
    rng : numpy.random.Generator
    score_shadow : bool
        Whether to score the shadow users, for which an attack that learns is fitted once more for each of five folds.
        Target scores do not depend on it.

    Returns
    -------
    shadow_scores : float64, shape (n,), or (0,) without `score_shadow`
        Out of fold, so that a threshold is not chosen on overfitted scores.
    target_scores : list of float64, shape (m,)

    Raises
    ------
    ProtocolError
        If an attack returns scores of the wrong shape or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from recmia.attacks.shadow_free import Distance
    >>> from recmia.testing import planted_leak
    >>> (shadow, member), (target, _) = (planted_leak("twin", np.random.default_rng(seed)) for seed in (0, 1))
    >>> shadow_scores, (scores,) = run_attack(Distance, shadow, member, [target], rng=np.random.default_rng(0))
    >>> shadow_scores.shape, scores.shape
    ((300,), (300,))
    """
    seeds = rng.spawn(_FOLDS + 1)
    attack = make().fit(shadow, member, rng=seeds[-1])
    target_scores = [checked_scores(attack, target) for target in targets]
    if not score_shadow:
        return np.empty(0), target_scores
    if attack.needs in ("nothing", "references"):
        return checked_scores(attack, shadow), target_scores
    shadow_scores = np.empty(len(shadow))
    fold = _stratified_folds(member, rng)
    for number in range(_FOLDS):
        held_out = np.flatnonzero(fold == number)
        rest = np.flatnonzero(fold != number)
        part = make().fit(shadow.take(rest), member[rest], rng=seeds[number])
        shadow_scores[held_out] = checked_scores(part, shadow.take(held_out))
    return shadow_scores, target_scores


def for_every_user(scores: Float64, has_vector: Bool) -> Float64:
    """Return scores for all users, where those without a vector get the median of the others, or 0 without any.

    Parameters
    ----------
    scores : float64, shape (has_vector.sum(),)
    has_vector : bool, shape (n,)

    Returns
    -------
    float64, shape (n,)

    Examples
    --------
    >>> import numpy as np
    >>> for_every_user(np.array([3.0, 1.0]), np.array([True, False, True]))
    array([3., 2., 1.])
    """
    everyone = np.full(len(has_vector), np.median(scores) if len(scores) else 0.0)
    everyone[has_vector] = scores
    return everyone


def _stratified_folds(member: Bool, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    fold = np.empty(len(member), np.int64)
    for group in (member, ~member):
        fold[group] = rng.permutation(int(group.sum())) % _FOLDS
    return fold


def checked_scores(attack: Attack | PoolAttack, observation: Observation) -> Float64:
    """Return ``attack.score(observation)``; ProtocolError if the shape is not (n,), or a value is not finite."""
    scores = attack.score(observation)
    if scores.shape != (len(observation),):
        raise ProtocolError(f"{attack.name} must score {len(observation)} users; got shape {scores.shape}")
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise ProtocolError(f"{attack.name} gave {len(bad)} scores that are not finite, the first to user {bad[0]}")
    return scores

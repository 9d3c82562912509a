"""The one interface of every attack."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from recmia.errors import ProtocolError, TooFewShadowsError
from recmia.observation import Observation, ShadowPool

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]

_FOLDS = 5
_POOL_FOLDS = 4


class Attack(ABC):
    """Learns on shadow users, whose membership the attacker knows, and scores target users, whose it does not.

    Attributes
    ----------
    name : str
        What tables call it.
    learns : bool
        Whether `fit` uses the labels. A rule that does not is scored on shadow users as it stands.
    """

    name: str
    learns: ClassVar[bool] = True

    @abstractmethod
    def fit(self, shadow: Observation, member: Bool, *, rng: np.random.Generator) -> Self:
        """Learn from n shadow users; `member` is bool, shape (n,). Returns `self`."""

    @abstractmethod
    def score(self, observation: Observation) -> Float64:
        """Score users; higher means more likely a member. Float64, shape (n,)."""


class PoolAttack(ABC):
    """Learns what each user is shown with and without membership from shadow models, and scores the same users.

    Attributes
    ----------
    name : str
        What tables call it.
    min_shadows : int
        Fewest shadow models that `fit` accepts.
    online : bool
        Whether `fit` needs users that were in training in some shadows and out of it in others.
    offline : bool, shape (n,)
        After `fit`: users that were in training in every shadow, or in none.
    """

    name: str
    min_shadows: ClassVar[int]
    online: bool = True
    offline: Bool

    @abstractmethod
    def fit(self, pool: ShadowPool, *, rng: np.random.Generator) -> Self:
        """Learn from the lists that n users get from S shadow models. Returns `self`.

        Raises
        ------
        TooFewShadowsError
            For fewer shadow models than `min_shadows`.
        ProtocolError
            If the attack is `online` and all users are `offline`.
        """

    @abstractmethod
    def score(self, lists: npt.NDArray[np.int32]) -> Float64:
        """Score the users of the pool by what one or more models show them.

        Parameters
        ----------
        lists : int32, shape (R, n, k)
            ``lists[r, u]`` is what model r shows to user u of the pool.

        Returns
        -------
        float64, shape (R, n)
            Higher means more likely a member. A score depends on that one list alone.
        """

    def check_pool(self, pool: ShadowPool) -> None:
        """Refuse a pool that the attack cannot learn from, and note who can only be scored offline."""
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
    """Score every shadow by the attack as fitted on others, pairs of shadows held out together.

    Shadows 2i and 2i + 1 are trained on complementary halves of the users: without such a pair every user keeps equal
    counts in and out, so that the fit does not betray the labels of the pair.

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
        If what is left without one fold is too small for the attack.
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
        scores[fold == number] = attack.score(pool.lists[fold == number])
    return scores


def run_pool_attack(
    make: Callable[[], PoolAttack], pool: ShadowPool, lists: npt.NDArray[np.int32], *, rng: np.random.Generator
) -> tuple[Float64, Float64]:
    """Attack R targets with one pool, and score the pool's own shadows as if they were unknown.

    Parameters
    ----------
    make : callable
        Returns a new attack.
    pool : ShadowPool
        Of S shadows and n users. No target is among the shadows.
    lists : int32, shape (R, n, k)
        What the targets show to the same users.
    rng : numpy.random.Generator

    Returns
    -------
    shadow_scores : float64, shape (S, n)
        Each by an attack that was fitted on other shadows.
    target_scores : float64, shape (R, n)

    Raises
    ------
    TooFewShadowsError
        If there is no pair beyond the fewest shadows that the attack accepts.
    ProtocolError
        As `cross_scores`, and if an attack returns scores of the wrong shape or not finite.
    """
    fit_rng, cross_rng = rng.spawn(2)
    attack = make()
    if len(pool) < attack.min_shadows + 2:
        raise TooFewShadowsError(
            f"the attack {attack.name} needs at least {attack.min_shadows + 2} shadow models, two of them to choose a "
            f"threshold; got {len(pool)}",
            estimate=attack.min_shadows + 2,
        )
    attack.fit(pool, rng=fit_rng)
    shadow_scores = cross_scores(make, pool, rng=cross_rng)
    target_scores = attack.score(lists)
    for scores, shape in ((shadow_scores, pool.member.shape), (target_scores, lists.shape[:2])):
        if scores.shape != shape:
            raise ProtocolError(f"{attack.name} must give scores of shape {shape}; got {scores.shape}")
        if not np.isfinite(scores).all():
            raise ProtocolError(f"{attack.name} gave {int((~np.isfinite(scores)).sum())} scores that are not finite")
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
    """Attack the users of one or more targets, and score the shadow users as if they were unknown.

    Parameters
    ----------
    make : callable
        Returns a new attack.
    shadow : Observation
        n shadow users.
    member : bool, shape (n,)
        Their membership. The target's never comes here.
    targets : sequence of Observation
        m target users each.
    rng : numpy.random.Generator
    score_shadow : bool
        An attack that learns is fitted once more for each of five folds to score them; target scores are the same
        without.

    Returns
    -------
    shadow_scores : float64, shape (n,), or (0,) without `score_shadow`
        Out of fold, so that a threshold chosen on them is not chosen on scores that the attack has overfitted.
    target_scores : list of float64, shape (m,)

    Raises
    ------
    ProtocolError
        If an attack returns scores of the wrong shape or not finite.
    """
    seeds = rng.spawn(_FOLDS + 1)
    attack = make().fit(shadow, member, rng=seeds[-1])
    target_scores = [_checked(attack, target) for target in targets]
    if not score_shadow:
        return np.empty(0), target_scores
    if not attack.learns:
        return _checked(attack, shadow), target_scores
    shadow_scores = np.empty(len(shadow))
    fold = _stratified_folds(member, rng)
    for number in range(_FOLDS):
        held_out = np.flatnonzero(fold == number)
        rest = np.flatnonzero(fold != number)
        part = make().fit(shadow.take(rest), member[rest], rng=seeds[number])
        shadow_scores[held_out] = _checked(part, shadow.take(held_out))
    return shadow_scores, target_scores


def for_every_user(scores: Float64, has_vector: Bool) -> Float64:
    """Spread the scores of the users with a vector over all users: the others get the median, or 0 if nobody has one.

    Parameters
    ----------
    scores : float64, shape (has_vector.sum(),)
    has_vector : bool, shape (n,)

    Returns
    -------
    float64, shape (n,)
    """
    everyone = np.full(len(has_vector), np.median(scores) if len(scores) else 0.0)
    everyone[has_vector] = scores
    return everyone


def _stratified_folds(member: Bool, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    fold = np.empty(len(member), np.int64)
    for group in (member, ~member):
        fold[group] = rng.permutation(int(group.sum())) % _FOLDS
    return fold


def _checked(attack: Attack, observation: Observation) -> Float64:
    scores = attack.score(observation)
    if scores.shape != (len(observation),):
        raise ProtocolError(f"{attack.name} must score {len(observation)} users; got shape {scores.shape}")
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise ProtocolError(f"{attack.name} gave {len(bad)} scores that are not finite, the first to user {bad[0]}")
    return scores

"""The one interface of every attack."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from recmia.errors import ProtocolError
from recmia.observation import Observation

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]

_FOLDS = 5


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


def run_attack(
    make: Callable[[], Attack],
    shadow: Observation,
    member: Bool,
    target: Observation,
    *,
    rng: np.random.Generator,
) -> tuple[Float64, Float64]:
    """Attack the target users, and score the shadow users as if they were unknown.

    Parameters
    ----------
    make : callable
        Returns a new attack.
    shadow : Observation
        n shadow users.
    member : bool, shape (n,)
        Their membership. The target's never comes here.
    target : Observation
        m target users.
    rng : numpy.random.Generator

    Returns
    -------
    shadow_scores : float64, shape (n,)
        Out of fold, so that a threshold chosen on them is not chosen on scores that the attack has overfitted.
    target_scores : float64, shape (m,)

    Raises
    ------
    ProtocolError
        If an attack returns scores of the wrong shape or not finite.
    """
    seeds = rng.spawn(_FOLDS + 1)
    attack = make().fit(shadow, member, rng=seeds[-1])
    target_scores = _checked(attack, target)
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

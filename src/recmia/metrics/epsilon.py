"""Lower bounds on the epsilon of differential privacy, and what they say about a promised epsilon."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmia.errors import ProtocolError
from recmia.metrics.intervals import CONFIDENCE, rate_at_least
from recmia.metrics.roc import Bool, Float64, check_scores, roc


@dataclass(frozen=True)
class EpsilonBound:
    """A lower bound on the epsilon of differential privacy that a system can have.

    Parameters
    ----------
    value : float
        Every epsilon below it is refuted; 0 where none is.
    confidence : float
        Least probability that the bound holds, under the assumptions of `epsilon_lower_bound`.
    ceiling : float
        The bound of a perfect attack with as many users, which is the largest that this sample can give.
    delta : float
    """

    value: float
    confidence: float
    ceiling: float
    delta: float


@dataclass(frozen=True)
class PromiseCheck:
    """A promised epsilon, and the lower bound that an audit gives.

    Parameters
    ----------
    defence : str
    knowledge, regime : str
        The level of knowledge and the regime in which it was checked.
    epsilon, delta : float
        The promise.
    bound : float
        Every epsilon below it is refuted, at this delta.
    attack : str
        The attack with the largest bound.

    Examples
    --------
    >>> PromiseCheck("gumbel=1", "grey-box", "fold-in", 1.0, 0.0, 1.7, "list-lr").broken
    True
    """

    defence: str
    knowledge: str
    regime: str
    epsilon: float
    delta: float
    bound: float
    attack: str

    @property
    def broken(self) -> bool:
        """Whether the promise is refuted."""
        return self.bound > self.epsilon

    def __str__(self) -> str:
        where = f"({self.regime}, {self.attack})"
        if self.broken:
            return (
                f"BROKEN PROMISE: {self.defence} promises epsilon {self.epsilon:g}, and the audit refutes every "
                f"epsilon below {self.bound:.2f} {where}. What is stated is not what is done; do not rely on it."
            )
        return (
            f"{self.defence} promises epsilon {self.epsilon:g}; the audit refutes what is below {self.bound:.2f} "
            f"{where}, which does not contradict it, and does not prove it."
        )


def epsilon_lower_bound(
    true_positives: int,
    n_members: int,
    false_positives: int,
    n_nonmembers: int,
    *,
    delta: float = 0.0,
    confidence: float = CONFIDENCE,
) -> EpsilonBound:
    r"""Return the largest epsilon that the counts of one attack at one threshold refute.

    If what the attacker sees is :math:`(\varepsilon, \delta)`-differentially private with respect to adding or removing
    one user's data, no rule can have (Kairouz, Oh and Viswanath 2015)

    .. math:: \text{TPR} > e^\varepsilon\, \text{FPR} + \delta \quad\text{or}\quad
              \text{TNR} > e^\varepsilon\, \text{FNR} + \delta .

    With t a lower bound on the TPR and f an upper bound on the FPR, both Clopper and Pearson's, every epsilon is
    refuted that is below (Jagielski, Ullman and Oprea 2020; Nasr et al. 2021)

    .. math:: \max\left(0,\ \log\frac{t - \delta}{f},\ \log\frac{1 - f - \delta}{1 - t}\right) .

    By the union bound, each of the two one-sided bounds may fail with probability (1 - confidence) / 2, and both hold
    with probability `confidence`. Both ratios follow from the same two bounds, so their maximum needs no correction.

    The assumptions are that members were drawn at random, that the threshold was not chosen on these users (see
    `choose_epsilon_threshold`), and that the users' outcomes are independent. Users of one run share one model, so
    within a run the confidence is nominal and not proven; Steinke, Nasr and Jagielski (2023) treat single runs. One
    user from each of many independent runs meets the assumption. Where the number of members is fixed, adding one user
    removes another: the epsilon is then that of replacing one user by another.

    Parameters
    ----------
    true_positives : int
        Members that the attack calls members.
    n_members : int
        At least 1.
    false_positives : int
        Non-members that the attack calls members.
    n_nonmembers : int
        At least 1.
    delta : float
        In [0, 1).
    confidence : float
        In (0, 1).

    Returns
    -------
    EpsilonBound

    Raises
    ------
    ProtocolError
        For counts that are impossible, or `delta` or `confidence` out of range.

    Examples
    --------
    >>> bound = epsilon_lower_bound(90, 100, 10, 100)
    >>> round(bound.value, 3), round(bound.ceiling, 3)
    (1.542, 3.281)
    """
    for kind, count, total in (("members", true_positives, n_members), ("non-members", false_positives, n_nonmembers)):
        if total < 1 or not 0 <= count <= total:
            raise ProtocolError(f"of {total} {kind}, {count} are called members; one {kind[:-1]} or more is needed")
    _check_epsilon_settings(delta, confidence)
    found, perfect = _refuted_ratio(
        np.array([true_positives, n_members]),
        n_members,
        np.array([false_positives, 0]),
        n_nonmembers,
        delta,
        confidence,
    )
    return EpsilonBound(
        value=math.log(max(1.0, found)), confidence=confidence, ceiling=math.log(max(1.0, perfect)), delta=delta
    )


def choose_epsilon_threshold(
    member: Bool,
    score: Float64,
    *,
    n_members: int,
    n_nonmembers: int,
    delta: float = 0.0,
    confidence: float = CONFIDENCE,
) -> float:
    """Return the threshold with the largest expected `epsilon_lower_bound`, halfway to the next lower score.

    It is chosen on shadow users and applied to target users, whose bound then needs no correction for the choice. What
    is maximised is the bound for the given numbers of target users if they have the rates of the shadow users. Where no
    epsilon is refuted, the threshold that is nearest to refuting one is returned. Scores are higher for members by
    definition, so no direction is chosen. Constant scores give +inf: no user is called a member.

    Parameters
    ----------
    member : bool, shape (n,)
    score : float64, shape (n,)
        Of shadow users.
    n_members, n_nonmembers : int
        Of the target users that the threshold is for.
    delta, confidence : float
        As in `epsilon_lower_bound`.

    Returns
    -------
    float

    Examples
    --------
    >>> member = np.arange(200) < 100
    >>> choose_epsilon_threshold(member, member.astype(float), n_members=100, n_nonmembers=100)
    0.5
    """
    check_scores(member, score)
    _check_epsilon_settings(delta, confidence)
    curve = roc(member, score)
    # A rule that calls no user a member, or all users, refutes nothing.
    inner = slice(1, -1)
    ratios = _refuted_ratio(
        np.rint(curve.tpr[inner] * n_members), n_members, np.rint(curve.fpr[inner] * n_nonmembers), n_nonmembers,
        delta, confidence,
    )  # fmt: skip
    if not len(ratios):
        return np.inf
    best = 1 + int(np.argmax(ratios))
    return float((curve.threshold[best] + curve.threshold[best + 1]) / 2)


def _refuted_ratio(
    true_positives: npt.ArrayLike,
    n_members: int,
    false_positives: npt.ArrayLike,
    n_nonmembers: int,
    delta: float,
    confidence: float,
) -> Float64:
    """Return exp(epsilon) for the largest refuted epsilon, for each pair of counts; below 1 where none is refuted."""
    error = (1 - confidence) / 2
    tpr = rate_at_least(true_positives, n_members, error)
    tnr = rate_at_least(n_nonmembers - np.asarray(false_positives), n_nonmembers, error)
    return np.maximum((tpr - delta) / (1 - tnr), (tnr - delta) / (1 - tpr))


def _check_epsilon_settings(delta: float, confidence: float) -> None:
    if not 0 <= delta < 1:
        raise ProtocolError(f"delta must be in [0, 1); got {delta}")
    if not 0 < confidence < 1:
        raise ProtocolError(f"confidence must be in (0, 1); got {confidence}")

r"""Lower bounds on epsilon that are valid for the users of a single training.

The audit is a guessing game. Each of m users is a member or not by an independent fair coin. The attacker sees the
output of the system, guesses r of the coins, abstains on the others, and is right v times. Under
:math:`(\varepsilon, \delta)`-differential privacy the number of right guesses is limited, however the users' outcomes
depend on each other; they share one model.

The bounds assume what cannot be seen from the scores:

- The coins are independent. A fixed half of the users is not (for a probability other than 1/2, see `fair_coins`).
- The scores come from the output of the system and from data that do not depend on these coins.
- The number of guesses was chosen without these coins: by `choose_guesses` on shadow users, or in advance. Where the
  largest bound of several numbers, of several attacks, or of a score in both directions is reported, pass
  ``confidence=1 - (1 - confidence) / tried``.

Several targets, of the same users or of others, count as one game with all their coins, guesses and right guesses: add
them (`Guessed` has ``+``). That is exact if each target has its own coins and its own randomness in training, so that
each coin influences the output of one target only.

Sources: Steinke, Nasr and Jagielski (2023), "Privacy auditing with one (1) training run", theorem 5.2; Mahloujifar,
Melis and Chaudhuri (2025), "Auditing f-differential privacy in one run", ICML; Dong, Roth and Su (2022), "Gaussian
differential privacy"; Kairouz, Oh and Viswanath (2015), "The composition theorem for differential privacy".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from recmia.errors import ProtocolError
from recmia.metrics.intervals import CONFIDENCE

Bool = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

# No bound is sought above this epsilon: 24 right guesses of 24 are needed to reach 2, and 10 million to reach 15.
HIGHEST = 20.0


@dataclass(frozen=True)
class Guesses:
    """Numbers of users with the highest scores who are guessed as members, and with the lowest as non-members.

    Examples
    --------
    >>> Guesses(members=20, nonmembers=0).members
    20
    """

    members: int
    nonmembers: int

    def __post_init__(self) -> None:
        if self.members < 0 or self.nonmembers < 0:
            raise ProtocolError(f"numbers of guesses must be at least 0; got {self.members} and {self.nonmembers}")


@dataclass(frozen=True)
class Guessed:
    """The counts of a guessing game.

    Parameters
    ----------
    coins : int
        Users whose membership was decided by a coin: m.
    allowed : int
        Guesses that were allowed, a number that does not depend on the output of the system: r. Guesses that were not
        made count as wrong if delta is above 0.
    made : int
        Guesses that were made; fewer than `allowed` where scores tie.
    right : int
        Guesses that were right: v.

    Examples
    --------
    >>> Guessed(100, 20, 20, 19) + Guessed(100, 20, 20, 18)
    Guessed(coins=200, allowed=40, made=40, right=37)
    """

    coins: int
    allowed: int
    made: int
    right: int

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.made <= self.allowed <= self.coins or self.coins < 1:
            raise ProtocolError(f"needs 0 <= right <= made <= allowed <= coins, and a coin; got {self}")

    def __add__(self, other: Guessed) -> Guessed:
        """Return both games as one; the other must have its own coins."""
        return Guessed(
            self.coins + other.coins,
            self.allowed + other.allowed,
            self.made + other.made,
            self.right + other.right,
        )


@dataclass(frozen=True)
class EpsilonBound:
    """A lower bound on the epsilon of differential privacy that a system can have.

    Parameters
    ----------
    value : float
        Every epsilon below it is refuted, at `delta`; 0 where none is.
    confidence : float
        The probability that the bound holds is at least this.
    ceiling : float
        The bound of a perfect attack on as many users: the largest that this sample can show.
    delta : float
    played : Guessed
        The guesses that it was calculated from.

    Examples
    --------
    See `epsilon_bound`.
    """

    value: float
    confidence: float
    ceiling: float
    delta: float
    played: Guessed


@dataclass(frozen=True)
class GaussianBound:
    """A lower bound on the mu of Gaussian differential privacy that a system can have.

    Parameters
    ----------
    mu : float
        Every smaller mu is refuted.
    epsilon : float
        The epsilon of that mu, at `delta`. It bounds epsilon only for systems with a Gaussian trade-off curve, which
        that of noisy gradient descent resembles; `EpsilonBound` does not assume one.
    confidence : float
    ceiling : float
        The mu that a perfect attack would show.
    delta : float

    Examples
    --------
    See `gaussian_bound`.
    """

    mu: float
    epsilon: float
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
    unit : str
        What an attacker may see for that epsilon; see `recmia.defences.Promise`.

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
    unit: str = ""

    @property
    def broken(self) -> bool:
        """Whether the promise is refuted."""
        return self.bound > self.epsilon

    def __str__(self) -> str:
        where = f"({self.regime}, {self.attack})"
        stated = f"epsilon {self.epsilon:g}{f' ({self.unit})' if self.unit else ''}"
        if self.broken:
            return (
                f"BROKEN PROMISE: {self.defence} promises {stated}, and the audit refutes every "
                f"epsilon below {self.bound:.2f} {where}. What is stated is not what is done; do not rely on it."
            )
        return (
            f"{self.defence} promises {stated}; the audit refutes what is below {self.bound:.2f} "
            f"{where}, which does not contradict it, and does not prove it."
        )


def fair_coins(member: Bool, share: float, rng: np.random.Generator) -> Bool:
    r"""Return the users who stay in the game so that coins with a probability of `share` become fair: bool, shape (n,).

    A coin that makes a user a member with probability s > 1/2 is equivalent to a fair coin that is tossed with
    probability 2 (1 - s), with "member" otherwise. So all non-members stay in the game, and each member stays with
    probability (1 - s) / s. The memberships of those who stay are fair coins, independent of who stays; the memberships
    of the others are taken as public. Below 1/2 the roles are exchanged.

    Parameters
    ----------
    member : bool, shape (n,)
        Drawn by independent coins with the same probability.
    share : float
        That probability, in (0, 1); not the observed share of members.
    rng : numpy.random.Generator

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> member = rng.random(10_000) < 0.8
    >>> stays = fair_coins(member, 0.8, rng)
    >>> round(float(member[stays].mean()), 1), bool(stays[~member].all())
    (0.5, True)
    """
    if not 0 < share < 1:
        raise ProtocolError(f"share must be in (0, 1); got {share}")
    rarer = min(share, 1 - share)
    common = member if share > 0.5 else ~member
    stays: Bool = ~common | (rng.random(len(member)) < rarer / (1 - rarer))
    return stays


def guess(member: Bool, score: Float64, guesses: Guesses, in_play: Bool | None = None) -> Guessed:
    """Return the counts of the game in which users are guessed by their scores.

    Where scores tie at a cut, users are taken in their order, which must not depend on the coins. A block of equal
    scores that reaches from the highest guesses into the lowest is left out: constant scores lead to no guess.

    Parameters
    ----------
    member : bool, shape (n,)
    score : float64, shape (n,)
        Finite, higher for members.
    guesses : Guesses
        Cut to half of the users where there are more than users.
    in_play : bool, shape (n,), optional
        Whose coins are fair; all by default. See `fair_coins`.

    Examples
    --------
    >>> guess(np.array([True, True, False, False]), np.array([4.0, 1.0, 3.0, 2.0]), Guesses(members=2, nonmembers=1))
    Guessed(coins=4, allowed=3, made=3, right=1)
    """
    if in_play is not None:
        member, score = member[in_play], score[in_play]
    n = len(member)
    up, down = guesses.members, guesses.nonmembers
    if up + down > n:
        up, down = min(up, n // 2), min(down, n // 2)
    allowed = up + down
    order = np.argsort(-score, kind="stable")
    top, bottom = order[:up], order[n - down :]
    if up and down and score[top[-1]] == score[bottom[0]]:
        both = score[top[-1]]
        top, bottom = top[score[top] != both], bottom[score[bottom] != both]
    elif score.min() == score.max():
        top, bottom = top[:0], bottom[:0]
    right = int(member[top].sum()) + int((~member[bottom]).sum())
    return Guessed(n, allowed, len(top) + len(bottom), right)


def choose_guesses(
    member: Bool,
    score: Float64,
    coins: int,
    targets: int = 1,
    confidence: float = CONFIDENCE,
) -> Guesses:
    """Return the numbers of guesses with the largest expected bound at delta 0 if target users are like shadow users.

    Parameters
    ----------
    member : bool, shape (n,)
    score : float64, shape (n,)
        Of shadow users, whose coins are not those of the game.
    coins : int
        Users of each target.
    targets : int
        Number of targets, whose games are added.
    confidence : float
        Of the bound that is calculated from the game.

    Examples
    --------
    >>> member = np.arange(200) < 100
    >>> score = np.where(np.arange(200) < 50, 1.0, 0.0)
    >>> choose_guesses(member, score, coins=100)
    Guesses(members=25, nonmembers=0)
    """
    n = len(member)
    # The order of equal scores is arbitrary, so each counts as their mean.
    _, block, sizes = np.unique(-score, return_inverse=True, return_counts=True)
    right = (np.bincount(block, member) / sizes)[np.sort(block)]
    tops = np.concatenate([[0.0], np.cumsum(right)]) / n
    bottoms = np.concatenate([[0.0], np.cumsum(1 - right[::-1])]) / n
    steps = np.unique(np.concatenate([[0], np.rint(np.geomspace(1, coins, 60)), np.arange(min(10, coins) + 1)]))
    up, down = (grid.ravel() for grid in np.meshgrid(steps, steps))
    possible = (up + down <= coins) & (up + down > 0)
    up, down = up[possible], down[possible]
    share = np.arange(n + 1) / n
    expected = coins * (np.interp(up / coins, share, tops) + np.interp(down / coins, share, bottoms))
    made, found = targets * (up + down), targets * expected
    # One right guess fewer than expected: among equal bounds, it favours the larger number of guesses.
    found = np.maximum(found - 1, 1e-9)
    promise = special.betaincinv(found, made - found + 1, 1 - confidence)
    best = int(np.argmax(promise))
    return Guesses(int(up[best]), int(down[best]))


def p_value(played: Guessed, epsilon: npt.ArrayLike, delta: float = 0.0) -> Float64:
    r"""Return the largest probability of so many right guesses under :math:`(\varepsilon, \delta)`-privacy.

    By Steinke, Nasr and Jagielski (2023), theorem 5.2, with W Binomial(r, :math:`e^\varepsilon / (1 + e^\varepsilon)`):

    .. math:: P(W \ge v) + 2 m \delta \max_{1 \le i \le v} \frac{P(v - i \le W < v)}{i} .

    With delta 0 it holds conditionally on the output, so r may be the number of guesses made, which may depend on the
    output. With delta above 0, r is the number allowed.

    Parameters
    ----------
    played : Guessed
    epsilon : float or float64, any shape
    delta : float
        In [0, 1).

    Returns
    -------
    float64
        Of the shape of `epsilon`.

    Examples
    --------
    >>> p_value(Guessed(100, 10, 10, 10), [0.0, 1.0]).round(4)
    array([0.001 , 0.0436])
    """
    eps = np.asarray(epsilon, np.float64)
    r, v = (played.allowed if delta else played.made), played.right
    if v == 0:
        return np.ones_like(eps)
    tail: Float64 = special.betainc(v, r - v + 1, special.expit(eps))
    if not delta:
        return tail
    below = np.arange(v - 1, -1, -1)
    logs = special.gammaln(r + 1) - special.gammaln(below + 1) - special.gammaln(r - below + 1)
    odds = eps[..., None]
    # log(q) = -log1p(e^-eps) and log(1 - q) = -eps - log1p(e^-eps).
    chance = np.exp(logs - (r - below) * odds - r * np.log1p(np.exp(-odds)))
    worst = (np.cumsum(chance, axis=-1) / np.arange(1, len(below) + 1)).max(axis=-1)
    found: Float64 = np.minimum(1.0, tail + 2 * played.coins * delta * worst)
    return found


def epsilon_bound(played: Guessed, *, delta: float = 0.0, confidence: float = CONFIDENCE) -> EpsilonBound:
    """Return the largest epsilon such that all below it are refuted by the guesses of one run, or of several added.

    Parameters
    ----------
    played : Guessed
    delta : float
        In [0, 1). Twice `delta` times the number of coins should be well below ``1 - confidence``, or little is
        refuted.
    confidence : float
        In (0, 1). Where the largest of several bounds is reported, divide ``1 - confidence`` by their number.

    Raises
    ------
    ProtocolError
        If `delta` or `confidence` is out of range.

    Examples
    --------
    >>> bound = epsilon_bound(Guessed(coins=305, allowed=60, made=60, right=58))
    >>> bound.value, bound.ceiling
    (2.183, 4.618)
    """
    _check(delta, confidence)
    perfect = Guessed(played.coins, played.coins, played.coins, played.coins)
    return EpsilonBound(
        value=_refuted(lambda eps: p_value(played, eps, delta), 1 - confidence),
        confidence=confidence,
        ceiling=_refuted(lambda eps: p_value(perfect, eps, delta), 1 - confidence),
        delta=delta,
        played=played,
    )


def curve_refuted(played: Guessed, inverse: Callable[[Float64], Float64], error: float) -> bool:
    r"""Return whether the guesses of one run refute that the system has a trade-off curve f.

    Mahloujifar, Melis and Chaudhuri (2025), algorithm 3, with abstention. With :math:`\bar f(x) = 1 - f(x)`, let
    :math:`r_i` and :math:`h_i` be the expected shares of coins that are guessed right, and wrong, in games with i right
    guesses or more. Reversing a user's coin turns its right guess into a wrong one, so :math:`r_{i + 1} \le \bar
    f(h_i)`: many right guesses imply some wrong ones. If c right guesses or more had the probability `error`, then
    going down from i = c

    .. math:: h_i \ge \max(h_{i + 1}, \bar f^{-1}(r_{i + 1})), \qquad
              r_i - r_{i + 1} = \frac{i}{c' - i} (h_i - h_{i + 1}) ,

    starting from :math:`r_c = e c / m,\ h_c = e (c' - c) / m`, with c' guesses, m coins, and e for `error`. If this
    requires more than all games, :math:`r_0 + h_0 > c' / m`, then so many right guesses have a probability below e.
    The start is the worst case, although games with more than c right guesses are included: games at i' >= c add to r
    at least c / (c' - c) times what they add to h, and a larger r requires more.

    Parameters
    ----------
    played : Guessed
    inverse : function of float64, any shape
        :math:`\bar f^{-1}`, increasing, below the identity, :math:`\bar f` concave.
    error : float

    Returns
    -------
    bool

    Examples
    --------
    >>> curve_refuted(Guessed(305, 60, 60, 58), lambda x: x * np.exp(-1.0), 0.05)
    True
    """
    return bool(_games_needed(played, inverse, np.zeros(1), error)[0] > 1)


def gaussian_bound(played: Guessed, *, delta: float = 1e-5, confidence: float = CONFIDENCE) -> GaussianBound:
    r"""Return the largest mu such that Gaussian differential privacy with any smaller mu is refuted.

    By `curve_refuted`, with :math:`\bar f(x) = \Phi(\Phi^{-1}(x) + \mu)`.

    Parameters
    ----------
    played : Guessed
    delta : float
        In (0, 1), for the epsilon of that mu.
    confidence : float

    Examples
    --------
    >>> bound = gaussian_bound(Guessed(coins=305, allowed=60, made=60, right=58))
    >>> bound.mu > 0, bound.mu < bound.ceiling
    (True, True)
    """
    _check(delta, confidence)

    def test(game: Guessed) -> Callable[[Float64], Float64]:
        def kept(mu: Float64) -> Float64:
            found: Float64 = _games_needed(game, lambda x: special.ndtr(special.ndtri(x) - mu), mu, 1 - confidence)
            return np.where(found > 1, 0.0, 1.0)

        return kept

    perfect = Guessed(played.coins, played.coins, played.coins, played.coins)
    mu = _refuted(test(played), 0.5)
    return GaussianBound(
        mu=mu,
        epsilon=gaussian_epsilon(mu, delta),
        confidence=confidence,
        ceiling=_refuted(test(perfect), 0.5),
        delta=delta,
    )


def approximate_curve_bound(played: Guessed, *, delta: float = 0.0, confidence: float = CONFIDENCE) -> float:
    r"""Return the lower bound on epsilon by `curve_refuted`, for the curve of :math:`(\varepsilon, \delta)`-privacy.

    It assumes what `epsilon_bound` assumes. It is the tighter of the two if 2 m delta is not small, and slightly looser
    otherwise. Report one of the two, chosen in advance.

    Examples
    --------
    >>> game = Guessed(coins=305, allowed=60, made=60, right=58)
    >>> approximate_curve_bound(game, delta=1e-3) > epsilon_bound(game, delta=1e-3).value
    True
    """
    _check(delta, confidence)

    def kept(eps: Float64) -> Float64:
        def inverse(x: Float64) -> Float64:
            near_one = 1 - delta - np.exp(np.minimum(eps, 700)) * (1 - x)
            found: Float64 = np.maximum(0.0, np.maximum((x - delta) * np.exp(-eps), near_one))
            return found

        return np.where(_games_needed(played, inverse, eps, 1 - confidence) > 1, 0.0, 1.0)

    return _refuted(kept, 0.5)


def gaussian_epsilon(mu: float, delta: float) -> float:
    r"""Return the epsilon of a mu at `delta` (Dong, Roth and Su 2022, corollary 2.13).

    .. math:: \delta = \Phi(-\varepsilon / \mu + \mu / 2) - e^\varepsilon \Phi(-\varepsilon / \mu - \mu / 2)

    Examples
    --------
    >>> round(gaussian_epsilon(1.0, 1e-5), 2)
    4.38
    """
    if mu <= 0:
        return 0.0

    def gap(eps: float) -> float:
        first = float(special.ndtr(-eps / mu + mu / 2))
        return first - math.exp(eps + float(special.log_ndtr(-eps / mu - mu / 2))) - delta

    if gap(0.0) <= 0:
        return 0.0
    # Only this needs it, and loading it takes longer than all bounds of an audit.
    from scipy import optimize

    return float(optimize.brentq(gap, 0.0, mu * (mu / 2 + 40)))


def most_found(epsilon: float, delta: float, fpr: float) -> float:
    r"""Return the largest TPR at an FPR that a promised epsilon allows (Kairouz, Oh and Viswanath 2015).

    .. math:: \min\bigl( e^\varepsilon\,\text{FPR} + \delta,\ 1 - e^{-\varepsilon} (1 - \delta - \text{FPR}) \bigr)

    "At FPR 1% at most x of the members can be found" is the meaning of a *promise* of epsilon. A lower bound from an
    audit does not limit what can be found: it refutes every promise that would allow less.

    Examples
    --------
    >>> round(most_found(1.0, 0.0, 0.01), 3)
    0.027
    """
    return min(1.0, math.exp(min(epsilon, 700.0)) * fpr + delta, 1 - math.exp(-epsilon) * (1 - delta - fpr))


def most_found_gaussian(mu: float, fpr: float) -> float:
    """Return the largest TPR at an FPR that mu-Gaussian differential privacy allows.

    Examples
    --------
    >>> round(most_found_gaussian(1.0, 0.01), 3)
    0.092
    """
    return float(special.ndtr(special.ndtri(fpr) + mu))


def _check(delta: float, confidence: float) -> None:
    if not 0 <= delta < 1:
        raise ProtocolError(f"delta must be in [0, 1); got {delta}")
    if not 0 < confidence < 1:
        raise ProtocolError(f"confidence must be in (0, 1); got {confidence}")


def _refuted(p: Callable[[Float64], Float64], error: float) -> float:
    """Return the last value of a grid up to which all are refuted.

    A p-value need not grow with epsilon where delta is above 0, so the first that is not refuted ends the search.
    """
    if p(np.zeros(1))[0] > error:
        return 0.0
    low, steps = 0.0, round(HIGHEST / 0.1)
    for digits in (1, 2, 3):
        grid: Float64 = low + np.arange(1, steps + 1, dtype=np.float64) * 10.0**-digits
        kept = np.flatnonzero(p(grid) > error)
        if not len(kept) and digits == 1:
            return HIGHEST
        # The value that was not refuted at the end of a cell can, by rounding, be refuted now.
        low = round(low + 10.0**-digits * (int(kept[0]) if len(kept) else steps - 1), digits)
        steps = 10
    return low


def _games_needed(played: Guessed, inverse: Callable[[Float64], Float64], parameter: Float64, error: float) -> Float64:
    """Return the probability that `curve_refuted` requires for each value of the parameter; above 1 it is refuted."""
    m, guesses, c = played.coins, played.allowed, played.right
    if c == 0 or guesses == 0:
        return np.zeros_like(parameter)
    r = np.full_like(parameter, error * c / m)
    h = np.full_like(parameter, error * (guesses - c) / m)
    for i in range(c - 1, -1, -1):
        more = np.maximum(h, inverse(r)) - h
        if not more.any():
            break
        r, h = np.minimum(1.0, r + i / (guesses - i) * more), h + more
    needed: Float64 = (r + h) * m / guesses
    return needed

r"""Whether users whose data were deleted look like users who were never in the training data.

Three groups are scored by one attack, which does not know who is in which: *members*, *never members* and the
*deleted*. Let r be the likelihood ratio of a score, of a member over a never-member. If a share :math:`\pi` of the
deleted is still remembered as members are, a score of theirs has the density :math:`f_0 (1 - \pi + \pi r)`. The
evidence against a share of m is

.. math:: E = \prod_{u\ \text{deleted}} \frac{1}{1 - m + m\, r_u} .

Its expectation is 1 where the share is m, and lower where it is larger; so by Markov's inequality, it exceeds 20 with
probability 5% at most (an e-value; Vovk and Wang 2021). This needs no approximation for few users. With it,

- *forgotten* means that the evidence against the share `margin` is 20 or more: an equivalence, and not merely a
  difference that was not found;
- if members and never-members look alike, r is 1, there is no evidence, and nothing is ever called forgotten;
- the largest share that is not ruled out is a one-sided 95% confidence bound on :math:`\pi`.

That deleted users are *not* like never-members is shown by a rank test (Mann and Whitney 1947), in either direction:
whoever is answered worse than a stranger is treated in a special way, and that reveals a former member, too. Single
users are recognised by p-values against the never-members. Each of the two tests has half of an error of 5%.

The ratio r is a logistic regression of membership on normal scores: ranks among members and never-members, as quantiles
of a normal distribution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from recmia.errors import ProtocolError, TooFewUsersError
from recmia.metrics.individual import discoveries, p_values_against
from recmia.metrics.intervals import Estimate
from recmia.metrics.roc import Bool, Float64, auc, check_scores

Outcome = Literal["forgotten", "not forgotten", "undecided", "no power"]
# Fewest users of each group.
MIN_GROUP = 10
# The probability of calling users forgotten of whom `margin` are remembered; and of calling forgotten users remembered.
ERROR = 0.05
# A likelihood ratio that a few hundred users cannot show is not believed.
_MOST = 20.0
# Of the ridge, which keeps the regression finite where the groups are apart.
_RIDGE = 1e-3


@dataclass(frozen=True, eq=False)
class Forgetting:
    """What the scores of three groups say of deleted users.

    Parameters
    ----------
    outcome : {"forgotten", "not forgotten", "undecided", "no power"}
    control : Estimate
        The AUC of members against never-members: the positive control.
    against_never : Estimate
        The AUC of the deleted against never-members.
    p_value : float
        Of the two-sided rank test that the deleted are placed as never-members are.
    most_remembered : float
        The largest share of the deleted that may still be remembered, at a confidence of 95%.
    margin : float
        The share that is to be ruled out.
    user_p : float64, shape (n_deleted,)
        The p-value of each deleted user.
    recognised : bool, shape (n_deleted,)
        Who is still individually recognised, at a false discovery rate of 2.5%.
    """

    outcome: Outcome
    control: Estimate
    against_never: Estimate
    p_value: float
    most_remembered: float
    margin: float
    user_p: Float64
    recognised: Bool


def forgetting(members: Float64, never: Float64, deleted: Float64, margin: float = 0.3) -> Forgetting:
    """Return whether deleted users are forgotten.

    Parameters
    ----------
    members, never, deleted : float64, shape (n,)
        Scores of each group by one attack, higher for members.
    margin : float
        In (0, 1).

    Raises
    ------
    TooFewUsersError
        For fewer than `MIN_GROUP` users of a group.
    ProtocolError
        For a margin out of range, and scores that are not finite.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> members, never = rng.normal(3, size=100), rng.normal(size=100)
    >>> forgetting(members, never, rng.normal(size=30)).outcome
    'forgotten'
    >>> forgetting(members, never, rng.normal(3, size=30)).outcome
    'not forgotten'
    >>> forgetting(never, never, rng.normal(size=30)).outcome
    'no power'
    """
    if not 0 < margin < 1:
        raise ProtocolError(f"the margin must be in (0, 1); got {margin}")
    for group, scores in (("members", members), ("never members", never), ("deleted users", deleted)):
        if len(scores) < MIN_GROUP:
            raise TooFewUsersError(
                f"{len(scores)} {group} are too few: {MIN_GROUP} are needed of members, of users who were never "
                "members, and of the deleted",
                estimate=MIN_GROUP,
            )
    # Here and below: what only this test needs takes longest to load.
    from scipy import stats

    control, against = (_area(group, never) for group in (members, deleted))
    test = stats.mannwhitneyu(deleted, never, alternative="two-sided")
    user_p = p_values_against(deleted, never)
    recognised = discoveries(user_p, ERROR / 2)
    ratio = _ratio(members, never, deleted)
    most = _most_remembered(ratio)
    assert control.low is not None
    outcome: Outcome
    if control.low <= 0.5:
        outcome = "no power"
    elif test.pvalue < ERROR / 2 or recognised.any():
        outcome = "not forgotten"
    else:
        outcome = "forgotten" if most <= margin else "undecided"
    return Forgetting(outcome, control, against, float(test.pvalue), most, margin, user_p, recognised)


def _area(group: Float64, never: Float64) -> Estimate:
    member, score = np.arange(len(group) + len(never)) < len(group), np.concatenate([group, never])
    check_scores(member, score)
    return auc(member, score)


def _ratio(members: Float64, never: Float64, deleted: Float64) -> Float64:
    """Return the likelihood ratio of each deleted user's score, of a member over a never-member: float64[n]."""
    known = np.concatenate([members, never])
    ordered, n = np.sort(known), len(known)

    def normal(score: Float64) -> Float64:
        rank = (np.searchsorted(ordered, score, "left") + np.searchsorted(ordered, score, "right")) / 2
        return special.ndtri((rank + 0.5) / (n + 1))

    x = normal(known)
    label = np.arange(n) < len(members)
    # Each group has the same weight, so that the odds are the likelihood ratio.
    weight = np.where(label, 0.5 / len(members), 0.5 / len(never))

    def loss(of: Float64) -> float:
        odds = of[0] + of[1] * x
        return float((weight * np.logaddexp(0, np.where(label, -odds, odds))).sum() + _RIDGE * of[1] ** 2)

    from scipy import optimize

    fitted = optimize.minimize(loss, np.zeros(2), method="BFGS").x
    found: Float64 = np.clip(np.exp(fitted[0] + max(0.0, fitted[1]) * normal(deleted)), 1 / _MOST, _MOST)
    return found


def _most_remembered(ratio: Float64) -> float:
    """Return the smallest share against which the evidence is 1 / `ERROR`, and 1 if there is none."""

    def lacking(share: float) -> float:
        return float(np.log1p(share * (ratio - 1)).sum()) - math.log(ERROR)

    # The sum is concave in the share, and 0 at 0: it comes down to log(ERROR) once, if at all.
    if lacking(1.0) > 0:
        return 1.0
    from scipy import optimize

    return float(optimize.brentq(lacking, 0.0, 1.0))

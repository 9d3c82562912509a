"""How well the membership of each single user can be inferred, over many runs, and of one run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmia.errors import ProtocolError
from recmia.metrics.intervals import auc_ends, midranks
from recmia.metrics.roc import Bool, Float64, check_scores


@dataclass(frozen=True, eq=False)
class PerUserAUC:
    """The AUC of each user over many runs; each array has one entry per user.

    Parameters
    ----------
    auc : float64, shape (n,)
        Probability that the user is placed higher in a run with the user in training than in a run without, ties
        counting one half; 0.5 for a user who is not `known`.
    low, high : float64, shape (n,)
        Interval of `auc`; [0, 1] for a user who is not known.
    p_value : float64, shape (n,)
        Of the exact one-sided test that the user is not placed higher when in training; 1 for a user who is not known.
    n_in, n_out : int64, shape (n,)
        Numbers of runs with the user in training, and without.
    """

    auc: Float64
    low: Float64
    high: Float64
    p_value: Float64
    n_in: npt.NDArray[np.int64]
    n_out: npt.NDArray[np.int64]

    @property
    def known(self) -> Bool:
        """Whether the user is in training in some runs and not in others: bool, shape (n,)."""
        return (self.n_in > 0) & (self.n_out > 0)


def per_user_auc(member: Bool, score: Float64) -> PerUserAUC:
    r"""Return the AUC of each user over runs (not of each run over users).

    Runs are made comparable by ranks. A user's score in a run becomes its place among the other users of the run: the
    mean of the share of other members and of the share of other non-members that it outscores, to the nearest half of
    a user. The place does not change under an increasing transformation of a run's scores, so an attack may be trained
    anew for each run; standardised scores would allow for linear transformations only, and a heavy tail would hide all
    other users. Both classes have the same weight because a user in training leaves one member fewer among the others:
    without it, the place of a user with constant scores would depend on its label. The price is that a user who
    outscores all others both in and out of training has the same place in both, and is not found.

    With `n_in` and `n_out` runs, the AUC is the Mann-Whitney statistic U / (n_in n_out) of the places. Its interval is
    that of `recmia.metrics.intervals.auc_ends`, which covers with few runs and many ties. The p-value is that of the
    exact Mann-Whitney test, with ties resolved to make it larger, so that it is valid with any ties. It is valid if the
    user's membership was drawn for each run independently with the same probability, or is a random half of the runs;
    and if one attack scored all runs and was fitted on none of them. Runs that are scored out of fold share labels:
    without a leak, one user in six had a p-value below 0.05 then (list-lr, 16 shadow models).

    Parameters
    ----------
    member : bool, shape (R, n)
        Which users are in training in each of R runs. Each run has at least two members and two non-members.
    score : float64, shape (R, n)
        Of one attack that was fitted on none of the runs.

    Returns
    -------
    PerUserAUC

    Raises
    ------
    ProtocolError
        For unequal shapes, a label that is not bool, a score that is not finite, or a run with too few of one kind.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> member = rng.permuted(np.tile(np.arange(40) < 20, (16, 1)), axis=1)
    >>> score = rng.normal(size=member.shape)
    >>> score[:, 0] += 9 * member[:, 0]
    >>> found = per_user_auc(member, score)
    >>> bool(found.auc[0] > 0.95), bool(identifiable(found)[0])
    (True, True)
    """
    if member.ndim != 2 or member.shape != score.shape:
        raise ProtocolError(
            f"member must be bool[R, n] and score float64[R, n]; got {member.dtype}{list(member.shape)} "
            f"and {score.dtype}{list(score.shape)}"
        )
    check_scores(member.ravel(), score.ravel())
    from scipy import stats

    place = np.array([_place(*run) for run in zip(member, score, strict=True)])
    n_runs, n_users = member.shape
    n_in = member.sum(axis=0)
    area, low, high, p_value = np.full(n_users, 0.5), np.zeros(n_users), np.ones(n_users), np.ones(n_users)
    for inside in range(1, n_runs):
        users = np.flatnonzero(n_in == inside)
        if not len(users):
            continue
        outside = n_runs - inside
        in_first = np.argsort(~member[:, users], axis=0, kind="stable")
        places = np.take_along_axis(place[:, users], in_first, axis=0)
        area[users], variance, tied = _area_parts(places, inside)
        low[users], high[users] = auc_ends(area[users], variance, tied, inside, outside)
        # Ordinal ranks resolve ties by row, so the runs with the user, which come first, get the lower ranks.
        untied = stats.rankdata(places, method="ordinal", axis=0)
        test = stats.mannwhitneyu(untied[:inside], untied[inside:], alternative="greater", method="exact", axis=0)
        p_value[users] = test.pvalue
    return PerUserAUC(area, low, high, p_value, n_in, n_runs - n_in)


def p_values_against(score: Float64, nonmembers: Float64) -> Float64:
    r"""Return for each score the p-value of the hypothesis that it is that of a non-member: float64, shape (n,).

    With m known non-members,

    .. math:: p_u = \frac{1 + \#\{v : s_v \ge s_u\}}{m + 1} .

    It is valid if the user and the non-members are exchangeable under the hypothesis, as they are where members are
    drawn by coins (Bates et al. 2023, "Testing for outliers with conformal p-values"). It is about a user drawn at
    random: somebody whose score is high in any system has a small one, too.

    Examples
    --------
    >>> p_values_against(np.array([3.0, 0.5]), np.array([1.0, 0.0, 2.0]))
    array([0.25, 0.75])
    """
    ordered = np.sort(nonmembers)
    above = len(ordered) - np.searchsorted(ordered, score, "left")
    found: Float64 = (1 + above) / (len(ordered) + 1)
    return found


def discoveries(p_value: Float64, fdr: float = 0.05) -> Bool:
    """Return which hypotheses are rejected at a false discovery rate of `fdr`: bool, shape (n,).

    This is the procedure of Benjamini and Hochberg (1995). The rate is proven for independent p-values, and for those
    of `p_values_against`, which depend on each other positively (Bates et al. 2023, theorem 2).

    Raises
    ------
    ProtocolError
        If `fdr` is not in (0, 1).

    Examples
    --------
    >>> discoveries(np.array([0.001, 0.5, 0.02])).tolist()
    [True, False, True]
    """
    if not 0 < fdr < 1:
        raise ProtocolError(f"fdr must be in (0, 1); got {fdr}")
    if not len(p_value):
        return np.zeros(0, np.bool_)
    from scipy import stats

    found: Bool = stats.false_discovery_control(p_value, method="bh") <= fdr
    return found


def identifiable(exposed: PerUserAUC, fdr: float = 0.05) -> Bool:
    """Return which users are individually identified as members at a false discovery rate of `fdr`: bool, shape (n,).

    See `discoveries`; users share the runs, so the rate is nominal here. No p-value is below 1 / C(R, n_in). So a few
    runs cannot identify one user among many, and finding none then shows nothing.

    Raises
    ------
    ProtocolError
        If `fdr` is not in (0, 1).

    Examples
    --------
    See `per_user_auc`.
    """
    return discoveries(exposed.p_value, fdr)


def _area_parts(places: Float64, inside: int) -> tuple[Float64, Float64, Float64]:
    """Return what `recmia.metrics.intervals.auc_parts` does, for each column; the first rows are the members."""
    from scipy import stats

    ranks = stats.rankdata(places, axis=0)
    outside = len(places) - inside
    # The rank among all, less that among one's own, is how many of the other kind score lower.
    of_in = (ranks[:inside] - stats.rankdata(places[:inside], axis=0)) / outside
    of_out = (ranks[inside:] - stats.rankdata(places[inside:], axis=0)) / inside
    variance = np.zeros(places.shape[1])
    for part in (of_in, of_out):
        variance += part.var(axis=0, ddof=1) / len(part) if len(part) > 1 else 0.25
    block = stats.rankdata(places, "max", axis=0) - stats.rankdata(places, "min", axis=0) + 1
    area = (ranks[:inside].sum(axis=0) - inside * (inside + 1) / 2) / (inside * outside)
    return area, variance, (block**2).sum(axis=0)


def _place(member: Bool, score: Float64) -> Float64:
    """Return the place of each user among the others of one run, in half users; see `per_user_auc`."""
    n_members, n_users = int(member.sum()), len(member)
    n_nonmembers = n_users - n_members
    if min(n_members, n_nonmembers) < 2:
        raise ProtocolError(
            f"each run needs two members and two non-members or more; got {n_members} members of {n_users} users"
        )
    among_own = np.empty(n_users)
    for kind in (member, ~member):
        among_own[kind] = midranks(score[kind])
    n_own = np.where(member, n_members, n_nonmembers)
    of_own = (among_own - 1) / (n_own - 1)
    of_other = (midranks(score) - among_own) / (n_users - n_own)
    # Without rounding, 1 / n and 1 / (n - 1) would reveal the label of a user who is nearly always first or last.
    place: Float64 = np.rint((of_own + of_other) * (n_users - 1))
    return place

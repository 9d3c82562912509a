r"""How good lists are: what a recommender is worth, beside what it leaks.

T_u are the items that user u was kept from: interactions of u that neither the recommender nor its fold-in was shown.
A user without any has no figure, and a mean over the others would hide that, so such users are refused.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recmia.errors import ConfigError, DataError
from recmia.interactions import Bool, Int32, Int64
from recmia.observation import check_lists, in_history

Float64 = npt.NDArray[np.float64]


def recall(lists: Int32, held_out: sparse.csr_array, k: int) -> Float64:
    r"""Share of a user's held-out items that are among the first k of the list.

    .. math:: \mathrm{Recall@}k = |\{L_u[1..k]\} \cap T_u| \, / \, |T_u|

    Parameters
    ----------
    lists : int32, shape (n, at least k)
        Best first, -1 pads.
    held_out : csr_array, shape (n, n_items)
        Whatever is stored counts; the values do not.
    k : int

    Returns
    -------
    float64, shape (n,)
        In [0, 1].

    Raises
    ------
    ConfigError
        For `k` out of range.
    DataError
        If a user has no held-out item.
    ProtocolError
        If `lists` are not lists of distinct items for these users.
    """
    hits, counts = _hits(lists, held_out, k)
    share: Float64 = hits.sum(axis=1) / counts
    return share


def ndcg(lists: Int32, held_out: sparse.csr_array, k: int) -> Float64:
    r"""Normalised discounted cumulative gain of the first k, all held-out items being worth the same.

    .. math:: \mathrm{NDCG@}k = \frac{\sum_{j=1}^{k} [L_u[j] \in T_u] / \log_2(1 + j)}
                                     {\sum_{j=1}^{\min(k, |T_u|)} 1 / \log_2(1 + j)}

    (Järvelin and Kekäläinen 2002, section 2.2, with binary gain and the discount of Burges et al. 2005, which counts
    from the first rank.) Parameters, result and errors are those of `recall`.
    """
    hits, counts = _hits(lists, held_out, k)
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discount)[np.minimum(k, counts) - 1]
    gain: Float64 = hits @ discount / ideal
    return gain


def average_precision(lists: Int32, held_out: sparse.csr_array, k: int) -> Float64:
    r"""Mean of the precision at the ranks of the held-out items among the first k; its mean over users is the MAP@k.

    .. math:: \mathrm{AP@}k = \frac{1}{\min(k, |T_u|)} \sum_{j=1}^{k} [L_u[j] \in T_u]\,
                             \frac{|\{L_u[1..j]\} \cap T_u|}{j}

    Parameters, result and errors are those of `recall`.
    """
    hits, counts = _hits(lists, held_out, k)
    precision = np.cumsum(hits, axis=1) / np.arange(1, k + 1)
    average: Float64 = (hits * precision).sum(axis=1) / np.minimum(k, counts)
    return average


def novelty(lists: Int32, popularity: Int64, n_users: int, k: int) -> Float64:
    r"""Mean self-information of the first k items, in bits (Zhou et al. 2010): how few users know them.

    .. math:: -\frac{1}{k} \sum_{j=1}^{k} \log_2 (n_{L_u[j]} / n)

    Parameters
    ----------
    lists : int32, shape (n, at least k)
        Best first, -1 pads and does not count.
    popularity : int64, shape (n_items,)
        How many users know each item; an item that nobody knows counts as known to one.
    n_users : int
    k : int

    Returns
    -------
    float64, shape (n,)
        0 for an empty list.
    """
    first = lists[:, :k]
    bits = -np.log2(np.maximum(popularity, 1) / n_users)
    listed = first >= 0
    mean: Float64 = np.where(listed, bits[first], 0).sum(axis=1) / np.maximum(listed.sum(axis=1), 1)
    return mean


def coverage(lists: Int32, n_items: int, k: int) -> float:
    """Share of the items that are among the first k of anybody's list.

    Parameters
    ----------
    lists : int32, shape (n, at least k)
        -1 pads.
    n_items : int
        Those that could be.
    k : int
    """
    first = lists[:, :k]
    return len(np.unique(first[first >= 0])) / n_items


def _hits(lists: Int32, held_out: sparse.csr_array, k: int) -> tuple[Bool, Int64]:
    """Tell which of the first k are held-out items, bool[n, k], and how many of these each user has, int64[n]."""
    check_lists(lists, *held_out.shape)
    if not 1 <= k <= lists.shape[1]:
        raise ConfigError(f"k must lie in 1..{lists.shape[1]}, the length of the lists; got {k}")
    counts = np.diff(held_out.indptr).astype(np.int64)
    if not counts.all():
        raise DataError(
            f"{int((counts == 0).sum())} of {len(counts)} users have no held-out item, the first is user "
            f"{int(np.argmin(counts))}; leave them out of the lists and of held_out"
        )
    return in_history(lists[:, :k], held_out), counts

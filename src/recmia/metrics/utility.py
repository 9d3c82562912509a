r"""The quality of lists, by held-out items.

T_u are the held-out items of user u: interactions that neither the recommender nor its fold-in was given.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


def recall(hits: Bool, counts: Int64) -> Float64:
    r"""Return the share of each user's held-out items that are among the first k of the list.

    .. math:: \mathrm{Recall@}k = |\{L_u[1..k]\} \cap T_u| \, / \, |T_u|

    Parameters
    ----------
    hits : bool, shape (n, k)
        Which of the first k items of each list are held-out items; see `recmia.observation.held_out_hits`.
    counts : int64, shape (n,)
        The size of T_u, at least 1.

    Returns
    -------
    float64, shape (n,)
        In [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> recall(np.array([[True, False, True]]), np.array([4]))
    array([0.5])
    """
    share: Float64 = hits.sum(axis=1) / counts
    return share


def ndcg(hits: Bool, counts: Int64) -> Float64:
    r"""Return the normalised discounted cumulative gain of the first k items; each held-out item has the same gain.

    .. math:: \mathrm{NDCG@}k = \frac{\sum_{j=1}^{k} [L_u[j] \in T_u] / \log_2(1 + j)}
                                     {\sum_{j=1}^{\min(k, |T_u|)} 1 / \log_2(1 + j)}

    (Järvelin and Kekäläinen 2002, section 2.2, with binary gain and the discount of Burges et al. 2005, which counts
    from the first rank.) Parameters and result are those of `recall`.

    Examples
    --------
    >>> import numpy as np
    >>> ndcg(np.array([[False, True]]), np.array([2])).round(3)
    array([0.387])
    """
    k = hits.shape[1]
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discount)[np.minimum(k, counts) - 1]
    gain: Float64 = hits @ discount / ideal
    return gain


def average_precision(hits: Bool, counts: Int64) -> Float64:
    r"""Return the mean precision at the ranks of the held-out items among the first k; its mean over users is MAP@k.

    .. math:: \mathrm{AP@}k = \frac{1}{\min(k, |T_u|)} \sum_{j=1}^{k} [L_u[j] \in T_u]\,
                             \frac{|\{L_u[1..j]\} \cap T_u|}{j}

    Parameters and result are those of `recall`.

    Examples
    --------
    >>> import numpy as np
    >>> average_precision(np.array([[False, True]]), np.array([2]))
    array([0.25])
    """
    k = hits.shape[1]
    precision = np.cumsum(hits, axis=1) / np.arange(1, k + 1)
    average: Float64 = (hits * precision).sum(axis=1) / np.minimum(k, counts)
    return average


def novelty(lists: Int32, popularity: Int64, n_users: int, k: int) -> Float64:
    r"""Return the mean self-information of the first k items, in bits (Zhou et al. 2010): high for rare items.

    .. math:: -\frac{1}{k} \sum_{j=1}^{k} \log_2 (n_{L_u[j]} / n)

    Parameters
    ----------
    lists : int32, shape (n, at least k)
        Best first, -1 pads and does not count.
    popularity : int64, shape (n_items,)
        Number of users with each item; items without a user count as having one.
    n_users : int
        Number of users that `popularity` is of.
    k : int

    Returns
    -------
    float64, shape (n,)
        0 for an empty list.

    Examples
    --------
    >>> import numpy as np
    >>> novelty(np.array([[0, 1]], np.int32), np.array([8, 2]), n_users=8, k=2)
    array([1.])
    """
    first = lists[:, :k]
    bits = -np.log2(np.maximum(popularity, 1) / n_users)
    listed = first >= 0
    mean: Float64 = np.where(listed, bits[first], 0).sum(axis=1) / np.maximum(listed.sum(axis=1), 1)
    return mean


def coverage(lists: Int32, n_items: int, k: int) -> float:
    """Return the share of the items that are among the first k of at least one list.

    Parameters
    ----------
    lists : int32, shape (n, at least k)
        -1 pads.
    n_items : int
        Number of items that could be recommended.
    k : int

    Examples
    --------
    >>> import numpy as np
    >>> coverage(np.array([[0, 1], [1, 2]], np.int32), n_items=6, k=1)
    0.3333333333333333
    """
    first = lists[:, :k]
    return len(np.unique(first[first >= 0])) / n_items

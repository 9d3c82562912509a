"""The SGD: against a twin in plain Python, against scikit-surprise, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recmia import Interactions
from recmia.engine.sgd import Factorization, factorize
from recmia.errors import ConfigError, DataError, DivergedError
from recmia.settings import SGDSettings

MASK = 2**64 - 1
GOLDEN_GAMMA = 0x9E3779B97F4A7C15


def mix(state: int) -> int:
    """Splitmix64 with Python's integers."""
    z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def start(n: int, factors: int, std: float, rng: np.random.Generator) -> Any:
    return (rng.random((n, factors), np.float32).astype(float) - 0.5) * std * np.sqrt(12)


def even_cuts(work: Any, bands: int) -> list[int]:
    """Where to cut a row of things so that each band has the same share of the work."""
    done = np.cumsum(work)
    return [int(np.searchsorted(done, done[-1] * band / bands)) for band in range(bands)] + [len(work)]


def samples_of(
    seen: list[int], ratings: list[float], in_band: list[int], known: list[int], cuts: tuple[int, int],
    n_negatives: int, key: int, u: int, band: int, bands: int,
) -> list[tuple[int, float]]:  # fmt: skip
    """The samples of one user in one band of items, as the module's docstring states them."""
    rated = dict(zip(seen, ratings, strict=True))
    if n_negatives == 0:
        return [(i, rated[i]) for i in in_band]

    def stream(number: int) -> int:
        return mix(key ^ ((number * GOLDEN_GAMMA) & MASK))

    n_unseen = len(known) - len(seen)
    quota = 0
    if n_unseen:
        offset = (stream(u * (bands + 1) + bands) >> 11) * 2.0**-53
        unseen = [sum(i < cut and i not in rated for i in known) for cut in cuts]
        before, after = (int(np.floor(n_negatives * len(seen) / n_unseen * m + offset)) for m in unseen)
        quota = after - before
    candidates = [i for i in known if cuts[0] <= i < cuts[1]]
    state = stream(u * (bands + 1) + band)
    samples: list[tuple[int, float]] = []
    drawn, turns = 0, max(len(in_band), 1)
    for turn in range(turns):
        if turn < len(in_band):
            samples.append((in_band[turn], 1.0))
        while drawn * turns < quota * (turn + 1):
            while True:
                state = (state + GOLDEN_GAMMA) & MASK
                j = candidates[((mix(state) >> 32) * len(candidates)) >> 32]
                if j not in rated:
                    break
            samples.append((j, 0.0))
            drawn += 1
    return samples


def twin(data: Interactions, settings: SGDSettings, factors: int, rng: np.random.Generator) -> Factorization:
    """What `factorize` should compute: one sample after the other in double precision, with nothing but loops."""
    explicit, bands = settings.feedback == "explicit", 8
    n_negatives = 0 if explicit else settings.n_negatives
    counts = np.bincount(data.item, minlength=data.n_items)
    known = np.flatnonzero(counts).tolist()
    P, Q = (start(n, factors, settings.init_std, rng) for n in (data.n_users, data.n_items))
    Q[counts == 0] = 0
    b_user, b_item = np.zeros(data.n_users), np.zeros(data.n_items)
    mu = float(data.value.mean()) if explicit else 0.0
    rate, reg = settings.learning_rate, settings.regularisation
    seen = [data.item[data.user == u].tolist() for u in range(data.n_users)]
    ratings = [data.value[data.user == u].tolist() for u in range(data.n_users)]
    load = np.array([len(items) for items in seen])
    item_cuts = even_cuts(counts + (counts > 0) * (n_negatives * len(data) / len(known)), bands)
    for _ in range(settings.epochs):
        visits, shift = rng.permutation(data.n_users), rng.permutation(bands)
        user_cuts = even_cuts(load[visits], bands)
        key = int(rng.integers(2**64, dtype=np.uint64))
        for stratum in range(bands):
            for r in range(bands):
                c = int(shift[(stratum + r) % bands])
                low, high = item_cuts[c], item_cuts[c + 1]
                for u in visits[user_cuts[r] : user_cuts[r + 1]].tolist():
                    in_band = [i for i in seen[u] if low <= i < high]
                    for i, label in samples_of(
                        seen[u], ratings[u], in_band, known, (low, high), n_negatives, key, u, c, bands
                    ):
                        e = label - mu - b_user[u] - b_item[i] - P[u] @ Q[i]
                        if settings.bias:
                            b_user[u] += rate * (e - reg * b_user[u])
                            b_item[i] += rate * (e - reg * b_item[i])
                        p_old = P[u].copy()
                        P[u] += rate * (e * Q[i] - reg * P[u])
                        Q[i] += rate * (e * p_old - reg * Q[i])
    user, item, user_bias, item_bias = (array.astype(np.float32) for array in (P, Q, b_user, b_item))
    return Factorization(user, item, user_bias, item_bias, mu, counts > 0)


@pytest.mark.parametrize(
    "changed",
    [
        {"feedback": "explicit"},
        {"feedback": "explicit", "bias": True},
        {"feedback": "implicit"},
        {"feedback": "implicit", "n_negatives": 3, "regularisation": 0.1},
    ],
    ids=["explicit", "biased", "implicit", "more negatives"],
)
def test_kernel_agrees_with_its_twin(small: Interactions, changed: dict[str, Any]) -> None:
    settings = SGDSettings(learning_rate=0.02, epochs=3, **changed)
    data = small.restrict(np.arange(25))
    ours = factorize(data, settings, factors=7, rng=np.random.default_rng(5))
    expected = twin(data, settings, 7, np.random.default_rng(5))
    untrained = start(data.n_users, 7, settings.init_std, np.random.default_rng(5))
    assert np.abs(ours.user - untrained).max() > 0.05, "nothing was learned, so nothing would be compared"
    for name in ("user", "item", "user_bias", "item_bias"):
        np.testing.assert_allclose(getattr(ours, name), getattr(expected, name), atol=2e-5, err_msg=name)


def test_twin_tells_a_wrong_sign(small: Interactions) -> None:
    # The negative control of the test above: another regularisation is seen.
    data = small.restrict(np.arange(25))
    ours = factorize(data, SGDSettings(epochs=3), factors=7, rng=np.random.default_rng(5))
    other = twin(data, SGDSettings(epochs=3, regularisation=0.02), 7, np.random.default_rng(5))
    assert np.abs(ours.user - other.user).max() > 2e-5


@pytest.mark.parametrize("feedback", ["explicit", "implicit"])
def test_same_seed_same_factors(small: Interactions, feedback: str) -> None:
    settings = SGDSettings(feedback=feedback, epochs=2)
    one, same, other = (factorize(small, settings, factors=9, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.user, same.user)
    np.testing.assert_array_equal(one.item, same.item)
    assert not np.array_equal(one.item, other.item)


def test_learns_the_ratings(small: Interactions) -> None:
    def error(epochs: int) -> float:
        settings = SGDSettings(feedback="explicit", epochs=epochs)
        factors = factorize(small, settings, factors=20, rng=np.random.default_rng(0))
        return float(np.sqrt(np.mean((factors.predict(small.user, small.item) - small.value) ** 2)))

    assert error(60) < 0.7 * error(1)


def test_negatives_are_never_seen_items() -> None:
    # One user has seen all items but one: only that one can be drawn, and its score sinks.
    data = Interactions.from_arrays([0] * 9 + [1] * 10, [*range(9), *range(10)])
    factors = factorize(data, SGDSettings(epochs=400, learning_rate=0.05), factors=4, rng=np.random.default_rng(0))
    scores = factors.user @ factors.item.T
    assert scores[0, 9] < 0.25
    assert (scores[0, :9] > 0.75).all()
    assert np.isfinite(scores).all(), "the second user has seen all items and has no negatives"


def test_unknown_items_have_no_vector(small: Interactions) -> None:
    part = small.restrict(np.arange(2))
    factors = factorize(part, SGDSettings(epochs=2), factors=5, rng=np.random.default_rng(0))
    assert 0 < factors.trained_items.sum() < small.n_items
    assert (factors.item[~factors.trained_items] == 0).all()
    assert (np.abs(factors.item[factors.trained_items]).sum(axis=1) > 0).all()


def test_divergence_names_epoch_rate_and_remedy(small: Interactions) -> None:
    settings = SGDSettings(feedback="explicit", learning_rate=5.0)
    with pytest.raises(DivergedError, match=r"in epoch \d+ of 20 at learning rate 5 .* lower the learning rate"):
        factorize(small, settings, factors=8, rng=np.random.default_rng(0))


def test_no_factors(small: Interactions) -> None:
    with pytest.raises(ConfigError, match="at least 1; got 0"):
        factorize(small, SGDSettings(), factors=0, rng=np.random.default_rng(0))


def test_explicit_needs_ratings() -> None:
    data = Interactions.from_arrays([1, 2], [1, 2])
    with pytest.raises(DataError, match="name the rating column, or train with feedback = 'implicit'"):
        factorize(data, SGDSettings(feedback="explicit"), factors=2, rng=np.random.default_rng(0))


@pytest.mark.statistical
def test_rmse_within_one_per_cent_of_surprise(movielens_folder: object) -> None:
    surprise = pytest.importorskip("surprise", reason="the extra peers (scikit-surprise) is not installed")
    from recmia.data.datasets import load

    data = load(str(movielens_folder)).interactions
    held_out = np.random.default_rng(0).random(len(data)) < 0.1
    train, test = data.take(np.flatnonzero(~held_out)), data.take(np.flatnonzero(held_out))
    settings = SGDSettings(feedback="explicit", bias=True, learning_rate=0.01, regularisation=0.01, epochs=20)
    ours = factorize(train, settings, factors=100, rng=np.random.default_rng(1))
    # Surprise predicts the mean (and a known side's bias) for unknown users and items, as zero factors do.
    known = ours.trained_items[test.item]
    predicted = np.clip(ours.predict(test.user, test.item), 0.5, 5)
    assert known.mean() > 0.9

    import pandas as pd

    frame = pd.DataFrame({"user": train.user, "item": train.item, "rating": train.value})
    loaded = surprise.Dataset.load_from_df(frame, surprise.Reader(rating_scale=(0.5, 5)))
    peer = surprise.SVD(n_factors=100, n_epochs=20, lr_all=0.01, reg_all=0.01, biased=True, random_state=1)
    peer.fit(loaded.build_full_trainset())
    theirs = np.array([peer.predict(u, i).est for u, i in zip(test.user, test.item, strict=True)])

    def rmse(estimates: Any) -> float:
        return float(np.sqrt(np.mean((estimates - test.value) ** 2)))

    assert rmse(predicted) == pytest.approx(rmse(theirs), rel=0.01)
    assert rmse(np.full(len(test), train.value.mean())) > 1.05 * rmse(theirs), "the mean alone must not pass"

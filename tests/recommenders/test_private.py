"""The LFM that is trained with differential privacy: its equations, its noise and its promise."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from scipy import sparse, special

from recmia import Interactions
from recmia.engine.matrices import binary
from recmia.errors import ConfigError, NotFittedError
from recmia.recommenders import private
from recmia.recommenders.private import PrivateLFM, noise_multiplier
from recmia.settings import PrivacySettings

dp_accounting = pytest.importorskip("dp_accounting", reason="needs recmia[dp]")


def dense(theta: np.ndarray, seen: np.ndarray, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Residuals' targets and weights of one user over all items, as the module's objective has them."""
    target = np.zeros(len(theta))
    target[seen] = 1
    weights = np.full(len(theta), weight)
    weights[seen] = 1
    return target, weights


@pytest.fixture
def theta(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, 0.5, (30, 5))


@pytest.fixture
def histories(rng: np.random.Generator) -> sparse.csr_array:
    return binary(sparse.csr_array((rng.random((12, 30)) < 0.2).astype(np.float32)))


def test_a_users_vector_minimises_the_objective(theta: np.ndarray, histories: sparse.csr_array) -> None:
    vectors = private._solve(theta, histories, 0.1)
    for row, vector in enumerate(vectors):
        seen = histories[[row]].indices
        target, weights = dense(theta, seen, len(seen) / (len(theta) - len(seen)))
        residual = target - theta @ vector
        gradient = theta[:, 1:].T @ (weights * residual) - 0.1 * len(seen) * vector[1:]
        assert vector[0] == 1
        assert np.abs(gradient).max() < 1e-10


def test_gradients_are_clipped_outer_products(theta: np.ndarray, histories: sparse.csr_array) -> None:
    settings = PrivacySettings(clip=0.7, factors=4)
    total = np.zeros_like(theta)
    clipped = 0
    for row, vector in enumerate(private._solve(theta, histories, settings.regularisation)):
        seen = histories[[row]].indices
        target, weights = dense(theta, seen, len(seen) / (len(theta) - len(seen)))
        gradient = np.outer(weights * (target - theta @ vector), vector)
        length = np.linalg.norm(gradient)
        clipped += int(length > settings.clip)
        total += gradient * min(1, settings.clip / length)
        one = private._clipped_gradients(theta, histories[[row]], settings)
        assert np.linalg.norm(one) <= settings.clip * (1 + 1e-12)
    assert clipped, "the test says nothing if nothing is clipped"
    np.testing.assert_allclose(private._clipped_gradients(theta, histories, settings), total, atol=1e-12)


def test_a_user_more_moves_a_step_by_no_more_than_the_clip(theta: np.ndarray, histories: sparse.csr_array) -> None:
    settings = PrivacySettings(clip=0.3, factors=4)
    all_users = private._clipped_gradients(theta, histories, settings)
    for left_out in range(histories.shape[0]):
        others = histories[np.delete(np.arange(histories.shape[0]), left_out)]
        moved = np.linalg.norm(all_users - private._clipped_gradients(theta, others, settings))
        assert moved <= settings.clip * (1 + 1e-9)


def test_the_noise_is_that_of_the_accountant(small: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = PrivacySettings(steps=1, sampling_rate=1.0, clip=0.5, learning_rate=2.0)
    sigma = noise_multiplier(1.0, settings)

    def fitted() -> np.ndarray:
        return PrivateLFM(1.0, settings).fit(small, rng=np.random.default_rng(5))._theta

    monkeypatch.setattr(private, "_noisy_count", lambda n, sigma, rng: float(n))
    noisy = fitted()
    monkeypatch.setattr(private, "noise_multiplier", lambda epsilon, settings: 0.0)
    noise = noisy - fitted()
    expected = settings.learning_rate * sigma * settings.clip / small.n_users
    assert noise.std() == pytest.approx(expected, rel=0.1)
    assert abs(noise.mean()) < 5 * expected / math.sqrt(noise.size)


def test_the_number_of_users_is_released_with_the_noise_that_is_paid_for() -> None:
    drawn = np.array([private._noisy_count(300, 5.0, np.random.default_rng(seed)) for seed in range(2000)])
    assert drawn.std() == pytest.approx(20, rel=0.1)
    assert drawn.mean() == pytest.approx(300, abs=3)
    assert private._noisy_count(1, 5.0, np.random.default_rng(0)) >= 20, "never a step that grows without bounds"


def gaussian_delta(sigma: float, epsilon: float) -> float:
    """Delta of one Gaussian mechanism of sensitivity 1 (Balle and Wang 2018, theorem 8)."""
    return float(
        special.ndtr(0.5 / sigma - epsilon * sigma) - math.exp(epsilon) * special.ndtr(-0.5 / sigma - epsilon * sigma)
    )


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 4.0, 16.0])
def test_one_step_without_sampling_is_the_gaussian_mechanism(epsilon: float) -> None:
    settings = PrivacySettings(steps=1, sampling_rate=1.0, delta=1e-5)
    # A step and the number of users, with four times its noise, are one Gaussian mechanism together.
    sigma = noise_multiplier(epsilon, settings) / math.sqrt(1 + 1 / 4**2)
    assert gaussian_delta(sigma, epsilon) <= 1e-5 * 1.01
    assert gaussian_delta(sigma * 0.97, epsilon) > 1e-5, "more noise than is needed"


@pytest.mark.statistical
def test_more_steps_and_smaller_epsilon_need_more_noise_and_sampling_less() -> None:
    base = PrivacySettings(steps=10, sampling_rate=0.5)
    sigma = noise_multiplier(1.0, base)
    assert noise_multiplier(0.5, base) > sigma
    assert noise_multiplier(1.0, base.model_copy(update={"steps": 20})) > sigma
    assert noise_multiplier(1.0, base.model_copy(update={"sampling_rate": 0.1})) < sigma


def tastes(n_users: int = 120, n_items: int = 40) -> Interactions:
    """Even users like even items and odd users odd ones."""
    rng = np.random.default_rng(7)
    pairs = [
        (u, i) for u in range(n_users) for i in rng.permutation(np.arange(u % 2, n_items, 2))[: n_items // 4].tolist()
    ]
    user, item = np.array(pairs).T
    return Interactions.from_arrays(user, item)


def share_of_own_taste(epsilon: float) -> float:
    data = tastes()
    settings = PrivacySettings(regularisation=0.01, steps=60)
    lists = PrivateLFM(epsilon, settings).fit(data, rng=np.random.default_rng(1)).recommend(data.csr(), 5)
    parity = np.arange(data.n_users)[:, None] % 2
    return float((lists % 2 == parity).mean())


@pytest.mark.statistical
def test_it_learns_with_little_noise_and_not_with_much() -> None:
    assert share_of_own_taste(1e4) > 0.95
    assert share_of_own_taste(0.1) < 0.7


def test_lists_depend_on_the_seed_and_on_a_users_own_row_alone(small: Interactions) -> None:
    model = PrivateLFM(2.0).fit(small, rng=np.random.default_rng(3))
    histories = small.csr()
    lists = model.recommend(histories, 10)
    again = PrivateLFM(2.0).fit(small, rng=np.random.default_rng(3))
    assert np.array_equal(again.recommend(histories, 10), lists)
    other = PrivateLFM(2.0).fit(small, rng=np.random.default_rng(4))
    assert not np.array_equal(other.recommend(histories, 10), lists)
    assert np.array_equal(model.recommend(histories[[7, 3]], 10), lists[[7, 3]])
    assert np.array_equal(model.recommend_members(histories, 10), lists)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).recommend(histories, 10), lists)
    assert np.isfinite(model.scores(sparse.csr_array(np.zeros((2, small.n_items), np.float32)))).all()
    assert model.item_vectors.shape == (small.n_items, 8)


def test_bad_settings_are_refused(small: Interactions) -> None:
    with pytest.raises(ConfigError, match="epsilon must be above 0"):
        PrivateLFM(0.0)
    with pytest.raises(ConfigError, match=r"delta must lie below 1 / 120.*got 0.01"):
        PrivateLFM(1.0, PrivacySettings(delta=0.01)).fit(small, rng=np.random.default_rng(0))
    with pytest.raises(NotFittedError):
        _ = PrivateLFM(1.0).item_vectors
    for field, value in (("clip", 0), ("delta", 0), ("delta", 1), ("sampling_rate", 1.5), ("steps", 0)):
        with pytest.raises(ValueError, match=field):
            PrivacySettings.model_validate({field: value})

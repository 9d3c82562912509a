"""Whether deleted users look like users who were never members: the outcomes, and how often they are wrong."""

from __future__ import annotations

import numpy as np
import pytest

from recmia.errors import ProtocolError, TooFewUsersError
from recmia.metrics import forgetting as module
from recmia.metrics.forgetting import ERROR, forgetting


def groups(
    rng: np.random.Generator, apart: float, remembered: float, n: int = 140, n_deleted: int = 30, shape: str = "normal"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of members, never-members and deleted users, of whom each is remembered with a probability."""

    def scores(inside: np.ndarray) -> np.ndarray:
        x = rng.normal(size=len(inside)) + apart * inside
        if shape == "heavy":
            return rng.standard_t(2, size=len(inside)) + apart * inside
        return np.exp(x) if shape == "skewed" else np.round(x) if shape == "tied" else x

    return scores(np.ones(n)), scores(np.zeros(n)), scores(rng.random(n_deleted) < remembered)


def test_outcomes() -> None:
    rng = np.random.default_rng(0)
    assert forgetting(*groups(rng, 3, 0)).outcome == "forgotten"
    assert forgetting(*groups(rng, 3, 1)).outcome == "not forgotten"
    assert forgetting(*groups(rng, 0, 0)).outcome == "no power"
    assert forgetting(*groups(rng, 1, 0)).outcome == "undecided", "the control is too weak for so many"


def test_figures() -> None:
    rng = np.random.default_rng(1)
    found = forgetting(*groups(rng, 3, 0), margin=0.4)
    assert found.margin == 0.4
    assert found.control.value is not None
    assert found.control.value > 0.95
    assert found.against_never.low is not None
    assert found.against_never.high is not None
    assert found.against_never.low < 0.5 < found.against_never.high
    assert 0 < found.most_remembered < 0.4
    assert found.p_value > ERROR / 2
    assert found.user_p.shape == found.recognised.shape == (30,)
    assert not found.recognised.any()


def test_a_perfect_control_needs_no_more_users_than_the_exact_bound() -> None:
    """With 10 deleted users of whom none is remembered, 1 - 0.05 ** (1 / 10) = 0.26 is not ruled out."""
    members, never = 10 + np.arange(300.0), np.arange(300.0) / 100
    found = forgetting(members, never, np.linspace(0.5, 1.5, 10))
    assert found.most_remembered == pytest.approx(1 - 0.05**0.1, abs=0.02)
    assert found.outcome == "forgotten"


def test_one_who_is_recognised_is_enough() -> None:
    rng = np.random.default_rng(2)
    members, never, deleted = groups(rng, 7, 0, n=6000, n_deleted=100)
    assert forgetting(members, never, deleted).outcome == "forgotten"
    deleted[7] = members.max()
    found = forgetting(members, never, deleted)
    assert found.outcome == "not forgotten"
    assert np.flatnonzero(found.recognised).tolist() == [7]
    assert found.p_value > ERROR / 2, "the group alone does not show it"


def test_to_be_treated_worse_than_a_stranger_is_not_to_be_forgotten() -> None:
    rng = np.random.default_rng(3)
    members, never, _ = groups(rng, 3, 0)
    found = forgetting(members, never, np.full(30, never.min() - 1))
    assert found.outcome == "not forgotten"
    assert found.against_never.value == 0


def test_scores_count_by_their_order_alone() -> None:
    rng = np.random.default_rng(4)
    parts = groups(rng, 2, 0.2)
    one, other = forgetting(*parts), forgetting(*(np.exp(3 * part) for part in parts))
    assert one.outcome == other.outcome
    assert one.most_remembered == other.most_remembered
    assert one.p_value == other.p_value


def test_members_who_score_lower_give_no_evidence() -> None:
    rng = np.random.default_rng(5)
    members, never, deleted = groups(rng, 3, 0)
    found = forgetting(-members, -never, -deleted)
    assert found.outcome == "no power"
    assert found.most_remembered == 1


@pytest.mark.parametrize("few", range(3))
def test_too_few_users_of_a_group(few: int) -> None:
    parts = [np.arange(20.0) for _ in range(3)]
    parts[few] = np.arange(9.0)
    with pytest.raises(TooFewUsersError, match=r"^9 (members|never members|deleted users) are too few: 10 are needed"):
        forgetting(parts[0], parts[1], parts[2])


def test_what_is_refused() -> None:
    parts = [np.arange(20.0) for _ in range(3)]
    for margin in (0.0, 1.0):
        with pytest.raises(ProtocolError, match="margin must be in"):
            forgetting(parts[0], parts[1], parts[2], margin=margin)
    with pytest.raises(ProtocolError, match="finite"):
        forgetting(parts[0], parts[1], np.full(20, np.nan))


@pytest.mark.statistical
@pytest.mark.parametrize("shape", ["normal", "skewed", "heavy", "tied"])
@pytest.mark.parametrize(("apart", "n", "n_deleted"), [(1, 140, 30), (2, 20, 30), (3, 140, 30), (4, 20, 12)])
def test_remembered_users_are_seldom_called_forgotten(shape: str, apart: float, n: int, n_deleted: int) -> None:
    """At the margin exactly, 5% may be wrong; of 300, 25 or more have a probability of 1% then."""
    wrong = 0
    for seed in range(300):
        rng = np.random.default_rng([seed, n, n_deleted])
        wrong += forgetting(*groups(rng, apart, 0.3, n, n_deleted, shape)).outcome == "forgotten"
    assert wrong <= 24


@pytest.mark.statistical
@pytest.mark.parametrize(("n", "n_deleted"), [(140, 30), (2000, 100)])
def test_forgotten_users_are_seldom_called_remembered(n: int, n_deleted: int) -> None:
    outcomes = [
        forgetting(*groups(np.random.default_rng([seed, n]), 3, 0, n, n_deleted)).outcome for seed in range(200)
    ]
    assert outcomes.count("not forgotten") <= 18, "5% are expected at most; more than 18 of 200 have 1% then"
    assert outcomes.count("forgotten") >= 170


@pytest.mark.statistical
def test_a_test_that_believes_any_evidence_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of the two tests above: every score is taken for that of a never-member."""
    monkeypatch.setattr(module, "_ratio", lambda members, never, deleted: np.full(len(deleted), 0.05))
    wrong = sum(forgetting(*groups(np.random.default_rng(seed), 1, 0.3)).outcome == "forgotten" for seed in range(300))
    assert wrong > 24

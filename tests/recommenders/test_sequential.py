"""SASRec and GRU4Rec: what they learn from order, and what their scores depend on."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from recmia import Interactions
from recmia.errors import ConfigError, DataError, DivergedError
from recmia.recommenders import RECOMMENDERS, GRU4Rec, SASRec
from recmia.recommenders.sequential import _batches, _loss, _padded, _windows
from recmia.recommenders.sequential import _Sequential as Sequential
from recmia.settings import GRU4RecSettings, RecommenderSettings, SASRecSettings

N_ITEMS = 24
QUICK = {"epochs": 40, "learning_rate": 0.01, "batch_size": 128, "n_negatives": 16, "window": 8}
SETTINGS = RecommenderSettings.model_validate(
    {"factors": 16, "device": "cpu", "sasrec": {**QUICK, "heads": 2}, "gru4rec": QUICK}
)
NAMES = ["sasrec", "gru4rec"]


def data_of(sequences: Sequence[Sequence[int]]) -> Interactions:
    """Data in which item i has row i, as all items occur."""
    user = np.repeat(np.arange(len(sequences)), [len(one) for one in sequences])
    return Interactions.from_arrays(user, np.concatenate(sequences), position=np.arange(len(user)))


def histories_of(sequences: Sequence[Sequence[int]], n_items: int = N_ITEMS) -> sparse.csr_array:
    items = np.concatenate([np.asarray(one, np.int32) for one in sequences])
    ends = np.cumsum([0, *(len(one) for one in sequences)])
    return sparse.csr_array((np.ones(len(items), np.float32), items, ends), (len(sequences), n_items))


def cycles(n: int = 96) -> list[list[int]]:
    """Each user goes round the items, from an item of its own; every set of neighbours is as likely as any other."""
    rng = np.random.default_rng(7)
    return [[(start + step) % N_ITEMS for step in range(rng.integers(6, 16))] for start in range(n)]


def fitted(name: str, data: Interactions, settings: RecommenderSettings = SETTINGS, seed: int = 0) -> Sequential:
    model = RECOMMENDERS[name].make(settings, 1).fit(data, rng=np.random.default_rng(seed))
    assert isinstance(model, Sequential)
    return model


def briefly(**changes: Any) -> RecommenderSettings:
    """The settings with two epochs and these changes in both tables."""
    tables = {name: {**getattr(SETTINGS, name).model_dump(), "epochs": 2, **changes} for name in NAMES}
    return RecommenderSettings.model_validate({"factors": 16, "device": "cpu", **tables})


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> Sequential:
    return fitted(request.param, data_of(cycles()))


def test_the_next_item_is_learned(model: Sequential) -> None:
    """Which no model of sets can: of a history's two neighbours on the circle, it is the one ahead."""
    ahead = [[(start + step) % N_ITEMS for step in range(5)] for start in range(N_ITEMS)]
    lists = model.recommend(histories_of(ahead), 1)
    assert np.mean(lists[:, 0] == (np.arange(N_ITEMS) + 5) % N_ITEMS) > 0.9


def test_order_counts(model: Sequential) -> None:
    """The same items, and another last one."""
    one, two = histories_of([[3, 4, 5, 6, 7]]), histories_of([[4, 5, 6, 7, 3]])
    assert model.recommend(one, 1)[0, 0] == 8
    assert np.abs(model.scores(one) - model.scores(two)).max() > 0.5


def test_repeats_count(model: Sequential) -> None:
    once, twice = model.scores(histories_of([[3, 9, 15], [3, 9, 15, 15]]))
    assert not np.array_equal(once, twice)
    lists = model.recommend(histories_of([[3, 9, 15, 9, 9]]), N_ITEMS)
    assert set(lists[0].tolist()) == {-1, *range(N_ITEMS)} - {3, 9, 15}


def test_what_is_older_than_the_window_is_cut(model: Sequential) -> None:
    last = list(range(8))
    one, two, shorter = model.scores(histories_of([[20, 11, *last], last, last[1:]]))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(two, shorter)
    # It is seen all the same.
    assert not {20, 11, *last} & set(model.recommend(histories_of([[20, 11, *last]]), 10)[0].tolist())


def test_scores_of_a_user_need_no_other_user(model: Sequential) -> None:
    histories = histories_of([*cycles(30), [], [4]])
    together = model.scores(histories)
    for user in range(histories.shape[0]):
        np.testing.assert_array_equal(model.scores(histories[[user]])[0], together[user])
    np.testing.assert_array_equal(model.scores(histories[np.arange(32)[::-1]])[::-1], together)


@pytest.mark.parametrize("name", NAMES)
def test_items_that_were_not_trained_on_are_left_out(name: str) -> None:
    whole = data_of([*cycles(), [N_ITEMS, N_ITEMS + 1]])
    model = fitted(name, whole.restrict(np.arange(96)), briefly())
    with_them, without, none, nothing = model.scores(
        histories_of([[3, N_ITEMS, 4, N_ITEMS + 1], [3, 4], [N_ITEMS], []], N_ITEMS + 2)
    )
    np.testing.assert_array_equal(with_them, without)
    assert not none.any()
    assert not nothing.any()
    assert not model.item_vectors[N_ITEMS:].any()
    assert model.item_vectors[:N_ITEMS].any(axis=1).all()


def test_scores_are_products_with_the_item_vectors(model: Sequential) -> None:
    """So that an attacker who knows the vectors knows the geometry of the scores."""
    scores = model.scores(histories_of(cycles(20)))
    solved, *_ = np.linalg.lstsq(model.item_vectors.astype(np.float64), scores.T.astype(np.float64), rcond=None)
    np.testing.assert_allclose(model.item_vectors @ solved, scores.T, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_no_position_knows_what_follows(name: str, rng: np.random.Generator) -> None:
    """Nor a row what stands in others: an error of either kind would show the next item in training."""
    model = fitted(name, data_of(cycles()), briefly())
    network = model._trained[1:]
    embedded = torch.from_numpy(rng.standard_normal((3, 8, 16), np.float32))
    changed = embedded.clone()
    changed[1, 5:] = torch.from_numpy(rng.standard_normal((3, 16), np.float32))
    before, after = (model._encode(values, network, lambda same: same) for values in (embedded, changed))
    np.testing.assert_allclose(before[:, :5], after[:, :5], atol=1e-6)
    np.testing.assert_allclose(before[[0, 2]], after[[0, 2]], atol=1e-6)
    assert not torch.isclose(before[1, 5:], after[1, 5:], atol=1e-4).all(dim=1).any()


def test_windows_predict_every_item_once() -> None:
    lengths = [0, 1, 2, 3, 4, 5, 9, 10]
    ends = np.cumsum([0, *lengths])
    start, length = _windows(ends, 4)
    predicted = [
        at for first, n in zip(start.tolist(), length.tolist(), strict=True) for at in range(first + 1, first + n)
    ]
    expected = [at for first, end in pairwise(ends.tolist()) for at in range(first + 1, end)]
    assert sorted(predicted) == expected
    assert length.max() == 5
    user = np.searchsorted(ends, start, side="right") - 1
    assert (start + length <= ends[user + 1]).all()


def test_batches_hold_every_window_once(rng: np.random.Generator) -> None:
    length = rng.integers(2, 51, 300)
    batches = list(_batches(length, 128, rng))
    assert sorted(np.concatenate(batches).tolist()) == list(range(300))
    sizes = np.array([(length[batch] - 1).sum() for batch in batches])
    assert sizes.max() <= 128 + 50
    items = np.arange(1, length.sum() + 1)
    start = np.cumsum(length) - length
    filled = 0
    for batch in batches:
        window, real = _padded(items, start[batch], length[batch])
        filled += real.size
        for row, kept, at in zip(window, real, batch, strict=True):
            assert kept.sum() == length[at] - 1
            np.testing.assert_array_equal(row[: length[at]], items[start[at] : start[at] + length[at]])
    assert filled < 1.1 * (length - 1).sum()


def test_the_loss_is_the_modules_equation(rng: np.random.Generator) -> None:
    n, m, s, f = 6, 30, 8, 4
    hidden, items = rng.standard_normal((n, f)), rng.standard_normal((m, f))
    wanted, sample = rng.integers(m, size=n), rng.choice(m, s, replace=False)
    wanted[0] = sample[3]
    expected = []
    for h, y in zip(hidden, wanted, strict=True):
        others = [j for j in sample if j != y]
        weight = (m - 1) / len(others)
        right = np.exp(h @ items[y])
        expected.append(-np.log(right / (right + weight * sum(np.exp(h @ items[j]) for j in others))))
    same = torch.from_numpy(wanted[:, None] == sample)
    h, right, other = (torch.from_numpy(array) for array in (hidden, items[wanted], items[sample]))
    found = _loss(h, right, other, same, m)
    assert float(found) == pytest.approx(np.mean(expected))


def test_with_all_negatives_the_loss_is_the_cross_entropy(rng: np.random.Generator) -> None:
    hidden, items = torch.from_numpy(rng.standard_normal((6, 4))), torch.from_numpy(rng.standard_normal((9, 4)))
    wanted, order = torch.from_numpy(rng.integers(9, size=6)), torch.from_numpy(rng.permutation(9))
    found = _loss(hidden, items[wanted], items[order], wanted[:, None] == order, 9)
    assert float(found) == pytest.approx(float(torch.nn.functional.cross_entropy(hidden @ items.T, wanted)))


@pytest.mark.parametrize("name", NAMES)
def test_one_item_alone_and_single_events_can_be_trained_on(name: str) -> None:
    alone, single = data_of([[0, 0, 0], [0]]), data_of([[0], [1], [2]])
    np.testing.assert_array_equal(fitted(name, alone).recommend(alone.sequences(), 1, exclude_seen=False), [[0], [0]])
    assert np.isfinite(fitted(name, single).scores(single.sequences())).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_threads_changes_nothing(name: str) -> None:
    data, before, found = data_of(cycles()), torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(fitted(name, data, briefly(batch_size=4096)).scores(data.sequences()))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    one, two = found
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", NAMES)
def test_models_fitted_at_once_do_not_disturb_each_other(name: str) -> None:
    data = data_of(cycles())

    def train(seed: int) -> Any:
        return fitted(name, data, briefly(), seed).scores(data.sequences())

    alone = [train(seed) for seed in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        np.testing.assert_array_equal(list(pool.map(train, (1, 2))), alone)
    assert not np.array_equal(*alone)


@pytest.mark.parametrize("name", NAMES)
def test_no_global_random_state_is_touched(name: str) -> None:
    theirs, ours = torch.random.get_rng_state(), pickle.dumps(np.random.get_state())  # noqa: NPY002 - it is meant
    fitted(name, data_of(cycles()), briefly())
    assert torch.equal(torch.random.get_rng_state(), theirs)
    assert pickle.dumps(np.random.get_state()) == ours  # noqa: NPY002


@pytest.mark.parametrize("name", NAMES)
def test_divergence_is_said(name: str) -> None:
    with pytest.raises(DivergedError, match=r"not finite at learning rate 1e\+38"):
        fitted(name, data_of(cycles()), briefly(learning_rate=1e38))


@pytest.mark.parametrize("name", NAMES)
def test_data_without_an_order_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="the order of the interactions is needed and not known"):
        fitted(name, data_of(cycles()).unordered)


def test_heads_must_divide_the_factors() -> None:
    with pytest.raises(ConfigError, match=r"sasrec\.heads must divide the factors; got 3 heads and 16 factors"):
        SASRec(SASRecSettings(heads=3), factors=16)


def test_settings_that_make_no_sense_are_refused() -> None:
    for table in (SASRecSettings, GRU4RecSettings):
        for wrong in ({"window": 0}, {"dropout": 1}, {"layers": 0}, {"n_negatives": 0}):
            with pytest.raises(ValueError, match="should be"):
                table.model_validate(wrong)
    assert GRU4Rec().settings == GRU4RecSettings()

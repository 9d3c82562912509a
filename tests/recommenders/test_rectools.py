"""The adapter for RecTools: every kind of its models, as it is and through the object door.

RecTools has an environment of its own, because it wants an older numpy: ``make test`` builds it, and runs this file in
it.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

import recmia as public
from recmia import Interactions
from recmia.errors import ConfigError, ProtocolError
from recmia.game.serving import serve
from recmia.game.split import split_game
from recmia.recommenders import resolve_recommender
from recmia.recommenders.adapters import FromRecTools
from recmia.recommenders.base import check_recommendations
from recmia.recommenders.user.objects import as_recommender
from recmia.settings import RecommenderSettings
from recmia.testing import check_recommender
from tests.test_docs import ROOT, blocks

pytest.importorskip("rectools", reason="RecTools is not installed here; make test builds an environment for it")
pytestmark = [
    pytest.mark.end_to_end,
    # RecTools pickles a transformer by its settings, of which it keeps some in two forms.
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings"),
    # And tells of default parts that it leaves out, when a fitted one is unpickled.
    pytest.mark.filterwarnings("ignore:Ignoring `CatFeaturesItemNet` block"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec:FutureWarning"),
    # Lightning, of the machine: accelerators, loggers, the number of workers.
    pytest.mark.filterwarnings("ignore::UserWarning:pytorch_lightning"),
]

import pandas as pd  # noqa: E402
import torch  # noqa: E402
from implicit.als import AlternatingLeastSquares  # noqa: E402
from implicit.bpr import BayesianPersonalizedRanking  # noqa: E402
from implicit.nearest_neighbours import CosineRecommender  # noqa: E402
from lightfm import LightFM  # noqa: E402
from rectools import models  # noqa: E402
from rectools.dataset import Dataset  # noqa: E402

SMALL: dict[str, Any] = {"n_factors": 16, "n_heads": 2, "n_blocks": 1, "epochs": 2}
HISTORY: dict[str, Callable[[], Any]] = {
    "ItemKNN": lambda: models.ImplicitItemKNNWrapperModel(CosineRecommender(K=40)),
    "EASE": lambda: models.EASEModel(regularization=10),
}
VECTORS: dict[str, Callable[[], Any]] = {
    "ALS": lambda: models.ImplicitALSWrapperModel(AlternatingLeastSquares(factors=2, regularization=1)),
    "BPR": lambda: models.ImplicitBPRWrapperModel(BayesianPersonalizedRanking(factors=8, learning_rate=0.1)),
    "LightFM": lambda: models.LightFMWrapperModel(LightFM(no_components=8, loss="bpr"), epochs=30),
    "PureSVD": lambda: models.PureSVDModel(factors=2),
}
SEQUENTIAL: dict[str, Callable[[], Any]] = {
    "SASRec": lambda: models.SASRecModel(**SMALL),
    "BERT4Rec": lambda: models.BERT4RecModel(**SMALL),
    "HSTU": lambda: models.HSTUModel(**SMALL),
}
CONTROLS: dict[str, Callable[[], Any]] = {"Popular": models.PopularModel, "Random": models.RandomModel}
ALL = HISTORY | VECTORS | SEQUENTIAL | CONTROLS
NO_FOLD_IN = {"BPR", "LightFM", "PureSVD"}
each_model = pytest.mark.parametrize("name", ALL)


@pytest.fixture(scope="module")
def part(small: Interactions) -> Interactions:
    """Few users, so that some items are not known, and an order."""
    few = small.restrict(np.arange(0, 120, 6))
    times = np.random.default_rng(0).permutation(len(few))
    return Interactions.from_arrays(
        few.users.ids[few.user], few.items.ids[few.item], np.ones(len(few), np.float32), time=times
    )


def fitted(name: str, data: Interactions, seed: int = 0) -> Any:
    return as_recommender(ALL[name]()).fit(data, rng=np.random.default_rng(seed))


def histories(model: Any, data: Interactions) -> sparse.csr_array:
    return data.sequences() if model.uses_order else data.csr()


@each_model
def test_kind(name: str) -> None:
    model = as_recommender(ALL[name]())
    assert isinstance(model, FromRecTools)
    assert model.folds_in == (name not in NO_FOLD_IN)
    assert model.uses_order == (name in SEQUENTIAL)
    spec = resolve_recommender(ALL[name]())
    assert (spec.folds_in, spec.uses_order) == (model.folds_in, model.uses_order)


# Two epochs teach a transformer nothing.
@pytest.mark.parametrize("name", [*HISTORY, *VECTORS, *SEQUENTIAL, "Popular"])
def test_contract(name: str) -> None:
    check_recommender(lambda: as_recommender(ALL[name]()), personal=name in HISTORY | VECTORS)


def test_contract_of_a_transformer_that_has_learned() -> None:
    check_recommender(lambda: as_recommender(models.SASRecModel(**SMALL | {"epochs": 60, "lr": 0.01})))


@each_model
def test_lists(name: str, part: Interactions) -> None:
    """The same seed gives the same lists, as often as they are asked for, and the caller's random states stay."""
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]
    one, same, other = (fitted(name, part, seed) for seed in (0, 0, 1))
    asked = histories(one, part)
    lists, equal, different = (model.recommend_members(asked, 5) for model in (one, same, other))
    np.testing.assert_array_equal(lists, equal)
    np.testing.assert_array_equal(lists, one.recommend_members(asked, 5))
    drawn = {"ALS", "BPR", "LightFM", "SASRec", "BERT4Rec", "HSTU", "Random"}
    assert np.array_equal(lists, different) != (name in drawn), "the seed reaches the models that draw, and only them"
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[:2]  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), before[2])
    for exclude_seen in (True, False):
        check_recommendations(
            one.recommend_members(asked, 5, exclude_seen=exclude_seen),
            part.csr(), one.trained_items, 5, exclude_seen=exclude_seen, source=name,
        )  # fmt: skip


@pytest.mark.parametrize("name", [*HISTORY, "ALS", *SEQUENTIAL, "Popular"])
def test_fold_in_knows_no_other_users(name: str, part: Interactions) -> None:
    model = fitted(name, part)
    asked = histories(model, part)
    scores, lists = model.scores(asked), model.recommend(asked, 5)
    known = model.trained_items
    for user in (0, 7):
        np.testing.assert_allclose(model.scores(asked[[user]])[0, known], scores[user, known], rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(model.recommend(asked[[user]], 5)[0], lists[user])
    nobody = sparse.csr_array(asked.shape, dtype=np.float32)
    assert np.isfinite(model.scores(nobody)).all()
    if name != "ALS":
        np.testing.assert_array_equal(lists, model.recommend_members(asked, 5), "members are served from their history")


def as_lists(answer: Any, items: Any) -> Any:
    """The table in which RecTools answers, with rows of our items."""
    return items[answer["item_id"].to_numpy().reshape(-1, 5)]


@pytest.mark.parametrize("name", [*HISTORY, *VECTORS, *SEQUENTIAL])
def test_lists_are_those_of_rectools(name: str, part: Interactions) -> None:
    """The same model, asked for lists as its documentation says."""
    model = fitted(name, part)
    peer, data = model._fitted
    context = None
    if peer.require_recommend_context:
        last = data.interactions.df.groupby("user_id")["datetime"].max()
        context = pd.DataFrame({"user_id": last.index, "weight": 1.0, "datetime": last + pd.Timedelta(seconds=1)})
    answer = peer.recommend(np.arange(part.n_users), data, k=5, filter_viewed=True, context=context)
    lists = model.recommend_members(histories(model, part), 5)
    # Equal scores are in another order.
    assert np.mean(lists == as_lists(answer, np.flatnonzero(model.trained_items))) > 0.95


@pytest.mark.parametrize("name", [*HISTORY, "PureSVD"])
def test_the_data_are_as_in_the_documentation(name: str, part: Interactions) -> None:
    """Models that draw nothing, fitted by hand."""
    columns = {"user_id": part.user, "item_id": part.item, "weight": part.value}
    data = Dataset.construct(pd.DataFrame(columns | {"datetime": pd.to_datetime(part.time, unit="s")}))
    answer = ALL[name]().fit(data).recommend(np.arange(part.n_users), data, k=5, filter_viewed=True)
    assert np.mean(fitted(name, part).recommend_members(part.csr(), 5) == as_lists(answer, np.arange(200))) > 0.95


def test_als_folds_in_as_implicit_does(part: Interactions) -> None:
    model = fitted("ALS", part)
    known = np.flatnonzero(model.trained_items)
    peer = model._fitted[0].model
    table = sparse.csr_matrix(part.csr()[:, known])
    strangers, _ = peer.recommend(np.arange(part.n_users), table, N=5, recalculate_user=True)
    assert np.mean(model.recommend(part.csr(), 5) == known[strangers]) > 0.95


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_order_matters(name: str, part: Interactions) -> None:
    model = fitted(name, part)
    asked = part.sequences()
    turned = asked.copy()
    for start, end in zip(asked.indptr[:-1], asked.indptr[1:], strict=True):
        turned.indices[start:end] = asked.indices[start:end][::-1]
    assert not np.allclose(model.scores(asked), model.scores(turned))
    assert (model.recommend(asked, 5) != model.recommend(turned, 5)).any()


def test_a_repeated_item_is_an_event_each_time(part: Interactions) -> None:
    model = fitted("SASRec", part)
    item = int(np.flatnonzero(model.trained_items)[0])
    once, twice = (
        sparse.csr_array((np.ones(n, np.float32), np.full(n, item), np.array([0, n])), shape=(1, part.n_items))
        for n in (1, 2)
    )
    assert not np.allclose(model.scores(once), model.scores(twice))


def test_times_are_those_of_the_data() -> None:
    """The most popular items of the last day."""
    day = 86_400
    data = Interactions.from_arrays([1, 2, 3, 4], ["old", "old", "new", "old"], time=[0, 0, 9 * day, 0])
    model = as_recommender(models.PopularModel(period=timedelta(days=1))).fit(data, rng=np.random.default_rng(0))
    new = data.items.ids.tolist().index("new")
    assert (model.recommend(sparse.csr_array(np.zeros((1, 2), np.float32)), 1) == new).all()


def test_items_that_a_transformer_never_sees_come_last() -> None:
    """Sessions of two items: what came before is unknown to the model, and can only fill up a list."""
    data = Interactions.from_arrays([1] * 4 + [2] * 4, [1, 2, 3, 4, 1, 2, 4, 3], time=[1, 2, 3, 4] * 2)
    model = as_recommender(models.SASRecModel(session_max_len=1, **SMALL)).fit(data, rng=np.random.default_rng(0))
    lists = model.recommend_members(data.sequences(), 4, exclude_seen=False)
    assert {frozenset(row[2:]) for row in lists.tolist()} == {frozenset([0, 1])}


@each_model
def test_the_window_is_that_of_transformers(name: str) -> None:
    spec = resolve_recommender(ALL[name]())
    assert spec.window is not None
    assert spec.window(RecommenderSettings()) == (100 if name in SEQUENTIAL else None)


def test_the_model_given_stays_as_it_is(part: Interactions) -> None:
    given = ALL["ALS"]()
    as_recommender(given).fit(part, rng=np.random.default_rng(0))
    assert (given.is_fitted, given._model.random_state) == (False, None)


def test_who_is_served(small: Interactions, rng: np.random.Generator) -> None:
    side = split_game(small, rng=rng).target
    for name in NO_FOLD_IN:
        model = fitted(name, side.training_data())
        assert serve("popular", model, side, 5, rng=rng).shape == (60, 5)
        with pytest.raises(ProtocolError, match="offers nothing for a user that it was not trained on"):
            model.recommend(side.interactions.csr(), 5)
        with pytest.raises(ConfigError, match="cannot serve a user that it was not trained on"):
            public.audit(small, recommender=ALL[name](), regimes=["fold-in"], factors=4, k=5, seeds=1)


def test_a_model_of_features_is_refused(small: Interactions) -> None:
    with (
        pytest.warns(UserWarning, match="tensorboard"),
        pytest.raises(ProtocolError, match="fit raised ValueError: DSSM model requires user and item features"),
    ):
        public.audit(
            small, recommender=models.DSSMModel(), regimes=["popular"], attacks=["distance"], factors=4, k=5, seeds=1
        )


PROGRAMS = [one for one in blocks(ROOT / "docs" / "own-recommender.md", "python") if "rectools" in one]


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_of_the_page(program: str, tmp_path: Path) -> None:
    """Five lines each; ItemKNN, LightFM and SASRec are among them."""
    assert len([line for line in program.splitlines() if line]) <= 5
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert "Can members be distinguished from non-members?" in done.stdout
    assert done.stdout.rstrip().endswith("hold each by itself."), "a verdict, whatever it is"


def test_every_kind_is_on_the_page() -> None:
    assert all(any(kind in one for one in PROGRAMS) for kind in ("ItemKNN", "LightFM", "SASRec"))

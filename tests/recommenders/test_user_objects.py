"""Your own recommender as an object or by name: what is taken, how it is copied, and what is refused."""

from __future__ import annotations

import os
import random
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import pytest
from implicit.als import AlternatingLeastSquares
from implicit.bpr import BayesianPersonalizedRanking
from scipy import sparse
from surprise import NormalPredictor

import recmia as public
from recmia import Interactions
from recmia.errors import ConfigError, NotFittedError, ProtocolError
from recmia.game.serving import serve
from recmia.game.split import split_game
from recmia.recommenders import LFM, Recommender, SASRec, UserCode, resolve_recommender
from recmia.recommenders.adapters import FromImplicit, FromLensKit
from recmia.recommenders.user.objects import FromObject, as_recommender
from recmia.settings import AS_SERVED, AuditSettings, FilesSettings, RecommenderSettings
from recmia.settings.recommenders import SASRecSettings

# Two models a regime, and next to no time for attacks.
QUICK: dict[str, Any] = {
    "attacks": ["distance"], "k": 5, "factors": 4, "seeds": 1, "lfm": {"epochs": 1}, "thresholds": False,
}  # fmt: skip
MF: dict[str, Any] = {"factors": 8, "iterations": 3, "num_threads": 1}


class Duck:
    """In the style of implicit: the items that are seen least, from a history alone."""

    folds_in = True
    random_state: int | None = None

    def fit(self, user_items: sparse.csr_matrix) -> None:
        self.counts = user_items.sum(axis=0).A1 if hasattr(user_items.sum(axis=0), "A1") else user_items.sum(axis=0)
        self.shape = user_items.shape

    def recommend(
        self, userid: Any, user_items: sparse.csr_matrix, N: int = 10, filter_already_liked_items: bool = True
    ) -> Any:
        lists = np.full((len(userid), N), -1)
        for row in range(len(userid)):
            ranking = np.argsort(self.counts, kind="stable")
            if filter_already_liked_items:
                ranking = ranking[~np.isin(ranking, user_items[[row]].indices)]
            lists[row, : len(ranking[:N])] = ranking[:N]
        return lists


class OnlyMembers(Duck):
    """Uses the user ids."""

    folds_in = False


@pytest.mark.parametrize("own", [Duck(), Duck, OnlyMembers()], ids=["object", "class", "only members"])
def test_user_code_is_audited_where_all_are_served_alike(own: Any, small: Interactions) -> None:
    """Elsewhere an attack would find the popular list, which is ours."""
    if isinstance(own, OnlyMembers):
        words = (
            r"^OnlyMembers \(in memory\) cannot serve a user that it was not trained on, which the regime fold-in asks "
            r"for; it can be audited in: popular, popular-random, where .* sets folds_in = True$"
        )
        with pytest.raises(ConfigError, match=words):
            public.audit(small, recommender=own, **QUICK)
        result = public.audit(small, recommender=own, regimes=["popular"], **QUICK)
        assert result.settings.regimes == ("popular",)
    else:
        result = public.audit(small, recommender=own, **QUICK)
        assert result.settings.regimes == ("fold-in",)


class Ours(LFM):
    """A subclass of our own interface."""

    def __init__(self) -> None:
        super().__init__(factors=4)


def both(recommender: Any, data: Interactions) -> tuple[Any, Any]:
    side = split_game(data, rng=np.random.default_rng(0)).target
    model = recommender.fit(side.training_data(), rng=np.random.default_rng(1))
    rng = np.random.default_rng(0)
    return serve("fold-in", model, side, 10, rng=rng), serve("popular", model, side, 10, rng=rng)


def test_an_object_gives_what_the_adapter_gives(small: Interactions) -> None:
    """One and the same model, asked for lists and asked for scores."""
    seen = Interactions.from_arrays(small.user, small.item)
    found = both(FromObject(AlternatingLeastSquares(**MF)), seen)
    expected = both(FromImplicit(AlternatingLeastSquares(**MF)), seen)
    for one, other in zip(found, expected, strict=True):
        assert np.mean(one == other) > 0.99, "but for ties within rounding"


def test_items_are_numbered_among_those_with_an_interaction(small: Interactions, rng: np.random.Generator) -> None:
    side = split_game(small, rng=rng).target
    some = side.interactions.restrict(np.arange(3))
    counts = some.item_counts()
    model = FromObject(Duck()).fit(some, rng=rng)
    assert model._fitted.shape == (3, (counts > 0).sum())
    assert isinstance(model._fitted.random_state, int)
    lists = model.recommend(some.csr(), 5)
    ranking = [item for item in np.argsort(some.csr().sum(axis=0), kind="stable") if counts[item]]
    for user in range(3):
        unseen = [item for item in ranking if item not in some.csr()[[user]].indices]
        assert lists[user].tolist() == unseen[:5]


class Answers(Duck):
    """Gives a fixed answer."""

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self.answer = answer

    def recommend(
        self, userid: Any, user_items: sparse.csr_matrix, N: int = 10, filter_already_liked_items: bool = True
    ) -> Any:
        return self.answer(super().recommend(userid, user_items, N, filter_already_liked_items))


def put(lists: Any, value: int) -> Any:
    lists[2, 1] = value
    return lists


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda lists: lists.astype(float), r"recommend must give whole numbers below \d+ .* got float64"),
        (lambda lists: lists[0], r"got int64 with shape \(5,\)"),
        (lambda lists: put(lists, 10**6), r"whole numbers below .* the items that have an interaction; got 1000000"),
        (lambda lists: put(lists, int(lists[2, 0])), "the list of user 2 holds an item twice"),
        (lambda lists: put(lists, -7), "the list of user 2 has an item after its padding"),
        (lambda lists: lists[:-1], "int32 with shape"),
        (lambda lists: lists[:, :-1], "is shorter than it could be"),
        (lambda lists: np.hstack([lists, np.full((len(lists), 1), -1)]), "must be of length 5, .* got 6"),
        (lambda lists: (lists, np.where(np.arange(5) == 4, -np.inf, 1.0)), "is shorter than it could be"),
        (lambda lists: 1 / 0, "raised ZeroDivisionError"),
        (lambda lists: None, r"whole numbers .* got object"),
    ],
)
def test_answers_that_are_no_lists(small: Interactions, answer: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(ProtocolError, match=words) as caught:
        public.audit(small, recommender=Answers(answer), regimes=["fold-in"], **QUICK)
    assert "\n" not in str(caught.value)


def test_what_is_taken_for_a_recommender() -> None:
    from lenskit.basic import PopScorer

    assert isinstance(as_recommender(Ours()), Ours)
    assert isinstance(as_recommender(Ours), Ours)
    assert isinstance(as_recommender(lambda: Ours()), Ours)
    assert isinstance(as_recommender(AlternatingLeastSquares(**MF)), FromImplicit)
    assert isinstance(as_recommender(PopScorer()), FromLensKit)
    assert isinstance(as_recommender(Duck), FromObject)
    mine = type("Mine", (type(AlternatingLeastSquares(**MF)),), {"__module__": "mine"})
    assert isinstance(as_recommender(mine(factors=4)), FromObject), "its own recommend may differ"
    for other in (3, "lfm", object(), Duck().fit):
        with pytest.raises((ConfigError, TypeError), match=r"must be a recmia.recommenders.Recommender|missing"):
            as_recommender(other)
    with pytest.raises(NotFittedError):
        FromObject(Duck()).recommend(Interactions.from_arrays([1], [2]).csr(), 1)


def test_users_that_it_never_saw(small: Interactions, rng: np.random.Generator) -> None:
    """Without a word of the object, none are served; and that is said before anything is trained."""

    class Silent(Duck):
        folds_in = False

        def fit(self, user_items: sparse.csr_matrix) -> None:
            raise AssertionError("nothing may be trained")

    with pytest.raises(ConfigError, match=r"Silent \(in memory\) cannot serve a user .* popular, popular-random"):
        public.audit(small, recommender=Silent(), **QUICK)
    with pytest.raises(ConfigError, match="cannot serve a user that it was not trained on"):
        public.audit(small, recommender=BayesianPersonalizedRanking(factors=4), **QUICK)
    side = split_game(small, rng=rng).target
    with pytest.raises(ProtocolError, match="offers nothing for a user that it was not trained on"):
        FromObject(type("Quiet", (Duck,), {"folds_in": False})()).fit(side.training_data(), rng=rng).recommend(
            side.interactions.csr(), 1
        )


def test_messages_name_the_object_and_its_method(small: Interactions, rng: np.random.Generator) -> None:
    class Loud(Duck):
        folds_in = True

        def recommend(self, *given: Any, **more: Any) -> Any:
            raise KeyError("what?")

    side = split_game(small, rng=rng).target
    for regime in ("fold-in", "popular"):
        words = r"^Loud\.recommend, asked about \d+ users, raised KeyError: 'what\?'"
        with pytest.raises(ProtocolError, match=words):
            serve(regime, FromObject(Loud()).fit(side.training_data(), rng=rng), side, 5, rng=rng)
    for model in (BayesianPersonalizedRanking(factors=4), AlternatingLeastSquares(**MF)):
        assert as_recommender(model).called("recommend_members") == type(model).__name__


@pytest.mark.end_to_end
def test_an_object_is_the_target_and_by_default_the_shadow(small: Interactions, tmp_path: Path) -> None:
    result = public.audit(small, recommender=Ours(), **QUICK)
    assert (result.settings.target, result.settings.shadow) == ("Ours (in memory)",) * 2
    named = public.audit(small, recommender=Ours(), shadow="popularity", **QUICK)
    assert (named.settings.target, named.settings.shadow) == ("Ours (in memory)", "popularity")
    assert {row.recommender for row in named.metrics} == {"Ours (in memory)"}
    by_name = public.audit(small, recommender="itemknn", **QUICK)
    assert (by_name.settings.target, by_name.settings.shadow) == ("itemknn", "itemknn")
    settings = AuditSettings.parse({"recommender": "itemknn", "shadow": "itemknn", **QUICK})
    assert by_name.scores.equals(public.audit(small, settings=settings).scores)
    result.save(tmp_path / "run")
    text = (tmp_path / "run" / "config.toml").read_text()
    assert "# The recommender was (in memory): set recommender before" in text
    assert tomllib.loads(text)["recommender"] == "Ours (in memory)"


def test_an_object_stays_as_it_is_and_each_training_gets_a_copy(small: Interactions) -> None:
    given = Duck()
    public.audit(small, recommender=given, **QUICK)
    assert vars(given) == {}
    made: list[int] = []

    def factory() -> Duck:
        made.append(1)
        return Duck()

    public.audit(small, recommender=factory, **QUICK)
    assert made == [], "packed by value, the function has a list of its own"


@pytest.mark.end_to_end
def test_in_processes_it_gives_the_same(small: Interactions) -> None:
    """A class of this function, which no other process could import."""

    class Local(Duck):
        pass

    one, two = (public.audit(small, recommender=Local(), jobs=jobs, **QUICK) for jobs in (1, 2))
    assert one.scores.equals(two.scores)


class Draws(Duck):
    """Draws from the global states of numpy in `fit`, and of Python in `recommend`."""

    def fit(self, user_items: sparse.csr_matrix) -> None:
        self.counts: Any = np.random.rand(user_items.shape[1])

    def recommend(
        self, userid: Any, user_items: sparse.csr_matrix, N: int = 10, filter_already_liked_items: bool = True
    ) -> Any:
        self.counts[:5] = [random.random() for _ in range(5)]
        return super().recommend(userid, user_items, N, filter_already_liked_items)


def test_global_states_are_seeded_and_left_alone(small: Interactions) -> None:
    np.random.seed(1)
    random.seed(2)
    expected = np.random.rand(), random.random()
    np.random.seed(1)
    random.seed(2)
    one, same, other = (FromObject(Draws()).fit(small, rng=np.random.default_rng(seed)) for seed in (0, 0, 1))
    lists = one.recommend(small.csr(), 10)
    np.testing.assert_array_equal(lists, one.recommend(small.csr(), 10))
    np.testing.assert_array_equal(lists, same.recommend(small.csr(), 10))
    assert (lists != other.recommend(small.csr(), 10)).any()
    with pytest.raises(ConfigError, match="cannot be drawn"):
        FromObject(type("Fails", (Draws,), {"fit": fail})()).fit(small, rng=np.random.default_rng(0))
    assert (np.random.rand(), random.random()) == expected


def fail(self: Any, user_items: Any) -> None:
    random.random()
    raise ConfigError("cannot be drawn")


@pytest.mark.end_to_end
def test_two_runs_of_what_draws_from_global_states_are_equal(small: Interactions) -> None:
    """With another number of processes, too, which have other global states."""
    asking: Any = QUICK | {"attacks": ["list-lr", "query-lr"], "n_shadows": 4}
    for given in (Draws(), NormalPredictor()):
        regimes = ["popular"] if isinstance(given, NormalPredictor) else ["popular", "fold-in"]
        attacks = ["list-lr"] if isinstance(given, NormalPredictor) else asking["attacks"]
        one, two = (
            public.audit(small, recommender=given, jobs=jobs, **asking | {"regimes": regimes, "attacks": attacks})
            for jobs in (1, 2)
        )
        assert one.scores.equals(two.scores)


def test_what_cannot_be_pickled_is_told_in_a_line(small: Interactions) -> None:
    locked = Duck()
    locked.lock = threading.Lock()  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"Duck \(in memory\) cannot be pickled, .*give a function that makes it"):
        public.audit(small, recommender=locked, **QUICK)

    def factory() -> Duck:
        other = Duck()
        other.lock = threading.Lock()  # type: ignore[attr-defined]
        return other

    with pytest.raises(ProtocolError, match="fit raised TypeError: cannot pickle"):
        public.audit(small, recommender=factory, **QUICK)


def test_a_model_that_is_fitted_already_is_refused(small: Interactions) -> None:
    model = AlternatingLeastSquares(**MF)
    model.fit(sparse.csr_matrix(small.csr()), show_progress=False)
    with pytest.raises(ConfigError, match="is fitted already"):
        public.audit(small, recommender=model, **QUICK)


def test_the_key_knows_the_object_and_its_code(small: Interactions, tmp_path: Path) -> None:
    settings = RecommenderSettings()

    def key(given: Any) -> Any:
        return resolve_recommender(given).key(settings)

    one, other = Duck(), Duck()
    other.depth = 3  # type: ignore[attr-defined]
    assert key(one) == key(Duck()) != key(other)
    store: dict[str, Any] = {}
    public.audit(small, recommender=one, store=store, **QUICK)
    size = len(store)
    public.audit(small, recommender=Duck(), store=store, **QUICK)
    assert len(store) == size
    public.audit(small, recommender=other, store=store, **QUICK)
    assert len(store) > size


@pytest.mark.end_to_end
def test_a_script_knows_its_own_models_again(tmp_path: Path) -> None:
    """From one process to the next, until it changes."""
    script = "from recmia.recommenders import LFM, UserCode\n\n\nclass Mine(LFM):\n    pass\n\n\n"
    script += "print(UserCode.of(Mine(factors=3)).digest)\n"

    def printed(text: str) -> str:
        (tmp_path / "script.py").write_text(text)
        program = [sys.executable, "script.py"]
        return subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True).stdout

    assert printed(script) == printed(script) != printed(script.replace("factors=3", "factors=4"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    return tmp_path


def test_a_factory_by_name(folder: Path, small: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "shop").mkdir()
    (folder / "shop" / "models.py").write_text(
        "from implicit.als import AlternatingLeastSquares\n\n\ndef make():\n"
        f"    return AlternatingLeastSquares(**{MF!r})\n"
    )
    named = public.audit(small, recommender="shop.models:make", **QUICK)
    assert (named.settings.target, named.settings.shadow) == ("shop.models:make",) * 2
    given = public.audit(small, recommender=AlternatingLeastSquares(**MF), **QUICK)
    assert named.scores.equals(given.scores)
    swept = public.sweep({"k": [5, 7]}, small, recommender="shop.models:make", **QUICK)
    assert swept.errors == []
    assert {row["recommender"] for row in swept.table.iter_rows(named=True)} == {"shop.models:make"}
    assert resolve_recommender("shop.models:make").user_code
    assert not resolve_recommender("lfm").user_code
    before = UserCode.named("shop.models:make").digest
    with (folder / "shop" / "models.py").open("a") as file:
        file.write("# changed\n")
    assert UserCode.named("shop.models:make").digest != before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "missing:make",
            "cannot import the recommender missing:make: ModuleNotFoundError: No module named 'missing'; modules are "
            "looked for in the current folder and on the Python path$",
        ),
        ("factory:bpr", r"'factory'; modules are looked for in .*; did you mean 'factories'\?$"),
        ("factories.deep:bpr", "No module named 'factories.deep'.*; modules are looked for"),
        ("needing:make", "cannot import the recommender needing:make: ModuleNotFoundError: No module named 'missing'$"),
        ("factories:bp", r"factories:bp: AttributeError: .*; did you mean 'bpr'\? allowed: bpr, fails, number, takes$"),
        ("broken:make", "cannot import the recommender broken:make: ZeroDivisionError: division by zero"),
        ("wrong_syntax:make", "cannot import the recommender wrong_syntax:make: SyntaxError"),
        ("factories:nothing", "factories:nothing: AttributeError: .*; allowed: bpr, fails, number, takes$"),
        ("needing_nothing:make", "AttributeError: .*; it defines no class and no function$"),
        ("factories:number", "factories:number: a recommender must be a .* got a int"),
        ("factories:fails", "factories:fails cannot be made: ValueError: two lines"),
        ("factories:takes", "factories:takes cannot be made: TypeError: .*missing 1 required"),
        ("factories:bpr", "factories:bpr cannot serve a user that it was not trained on"),
    ],
)
def test_a_factory_that_is_none(folder: Path, small: Interactions, name: str, words: str) -> None:
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "needing.py").write_text("import missing\n")
    (folder / "needing_nothing.py").write_text("number = 3\n")
    (folder / "wrong_syntax.py").write_text("def make(:\n")
    (folder / "factories.py").write_text(
        "def number():\n    return 3\n\n\ndef fails():\n    raise ValueError('two\\nlines')\n\n\n"
        "def takes(size):\n    return size\n\n\n"
        "def bpr():\n    from implicit.bpr import BayesianPersonalizedRanking\n\n"
        "    return BayesianPersonalizedRanking(factors=4)\n"
    )
    sys.modules.pop("factories", None)
    with pytest.raises(ConfigError, match=words) as caught:
        public.audit(small, recommender=name, **QUICK)
    assert "\n" not in str(caught.value)


def test_a_name_that_is_no_name() -> None:
    for name in ("shop.models:", ":make", "lmf"):
        with pytest.raises(ConfigError, match=r"unknown recommender .* or your own, as package.module:factory"):
            resolve_recommender(name)


DATASET = "synthetic:120x200x6000"
FILES = {
    "interactions": "interactions.parquet", "lists": "lists.parquet", "members": "members.csv",
    "shadow_interactions": "shadow-interactions.parquet", "shadow_lists": "shadow-lists.parquet",
    "shadow_members": "shadow-members.csv", "pool_lists": "pool/*.parquet", "pool_members": "pool/*.csv",
}  # fmt: skip
SCRIPT = """
import sys

import numpy as np
import polars as pl
from implicit.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix

interactions, histories, k, lists, seed = sys.argv[1:]
known, served = pl.read_csv(interactions), pl.read_csv(histories)
users, items = (known[name].unique().sort() for name in ("user", "item"))


def matrix(frame, rows):
    frame = frame.filter(pl.col("item").is_in(items.implode()))
    places = rows.search_sorted(frame["user"]), items.search_sorted(frame["item"])
    return csr_matrix((np.ones(len(frame), np.float32), places), shape=(len(rows), len(items)))


model = AlternatingLeastSquares(factors=8, iterations=3, num_threads=1, random_state=int(seed))
model.fit(matrix(known, users), show_progress=False)
everybody = served["user"].unique().sort()
trained = everybody.is_in(users.implode())
frames = []
for group, new in ((everybody.filter(trained), False), (everybody.filter(~trained), True)):
    if len(group):
        seen = matrix(served.filter(pl.col("user").is_in(group.implode())), group)
        rows = np.arange(len(group)) if new else users.search_sorted(group).to_numpy()
        found, _ = model.recommend(rows, seen, N=int(k), recalculate_user=new)
        user, rank = np.divmod(np.arange(found.size), int(k))
        frames.append(pl.DataFrame({"user": group.gather(user), "item": items.gather(found.ravel()), "rank": rank + 1}))
pl.concat(frames).write_csv(lists)
"""


@pytest.mark.end_to_end
def test_an_object_and_a_command_give_the_same_numbers(
    folder: Path, small: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    (folder / "train.py").write_text(SCRIPT)
    words = f"{shlex.quote(sys.executable)} train.py {{interactions}} {{histories}} {{k}} {{lists}} {{seed}}"
    regimes: Any = ["popular", "fold-in", "trained"]
    asking: Any = QUICK | {"attacks": ["mlp", "list-lr", "completion", "query-lr"], "n_shadows": 4}
    by_object = public.audit(small, recommender=AlternatingLeastSquares(**MF), regimes=regimes, **asking)
    by_command = public.audit(small, train={"command": words}, regimes=regimes, **asking)
    assert by_object.scores.equals(by_command.scores)
    assert by_object.disclosure.equals(by_command.disclosure)
    other = public.audit(small, recommender=AlternatingLeastSquares(**MF | {"factors": 4}), regimes=regimes, **asking)
    assert not other.scores.equals(by_command.scores)


@pytest.mark.end_to_end
def test_the_three_doors_give_the_same_numbers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    (folder / "train.py").write_text(SCRIPT)
    words = f"{shlex.quote(sys.executable)} train.py {{interactions}} {{histories}} {{k}} {{lists}} {{seed}}"
    from recmia.results.files import export_files
    from recmia.results.setup import resolve

    settings = {**QUICK, "regimes": ["fold-in"], "seeds": 1, "attacks": ["mlp", "list-lr"], "n_shadows": 8}
    by_object = public.audit(DATASET, recommender=AlternatingLeastSquares(**MF), **settings)
    by_command = public.audit(DATASET, train={"command": words}, **settings)
    export_files(resolve(AuditSettings.parse({**settings, "dataset": DATASET, "train": {"command": words}})), folder)
    named = {name: str(folder / file) for name, file in FILES.items()}
    by_files = public.audit_files(
        settings=FilesSettings.parse({**{key: settings[key] for key in ("factors", "lfm", "attacks")}, **named})
    )
    assert by_object.scores.equals(by_command.scores)
    as_served = by_object.scores.with_columns(pl.lit(AS_SERVED).alias("regime"))
    targets = [scores.filter(side="target").sort(pl.all()) for scores in (by_files.scores, as_served)]
    assert targets[0].equals(targets[1])


def test_popular_lists_for_all_take_the_place_of_an_own_recommender(small: Interactions) -> None:
    settings = {**QUICK, "regimes": ["fold-in"], "defence": "popularity-only"}
    theirs, ours = public.audit(small, recommender=Duck, **settings), public.audit(small, recommender="lfm", **settings)
    assert theirs.scores.equals(ours.scores)


class Fails(Recommender):
    """Cannot be trained."""

    def fit(self, interactions: Interactions, *, rng: np.random.Generator) -> Self:
        raise OSError("the index\nis stale")

    def scores(self, histories: sparse.csr_array) -> Any:
        raise AssertionError


def test_a_training_that_fails_is_told_in_a_line(small: Interactions) -> None:
    with pytest.raises(ProtocolError, match=r"^Fails \(in memory\): fit raised OSError: the index is stale$"):
        public.audit(small, recommender=Fails(), **QUICK)


@pytest.mark.end_to_end
def test_on_the_command_line(tmp_path: Path) -> None:
    """A module in the current folder; where it fails, what was finished is kept."""
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\n\nimport numpy as np\n\n\n"
        "class Mine:\n    folds_in = True\n\n"
        "    def fit(self, user_items):\n"
        "        with Path('fits').open('a') as file:\n            file.write('fit\\n')\n"
        "        if len(Path('fits').read_text().split()) == 2:\n            raise MemoryError('too large')\n"
        "        self.order = np.arange(user_items.shape[1])\n\n"
        "    def recommend(self, userid, user_items, N, filter_already_liked_items):\n"
        "        seen = [user_items[[row]].indices for row in range(len(userid))]\n"
        "        return np.array([self.order[~np.isin(self.order, one)][:N] for one in seen])\n"
    )
    environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
    program = [sys.executable, "-c", "from recmia.cli import main; main()", "audit", "--recommender", "mine:Mine"]
    more = ["-d", DATASET, "--factors", "4", "-k", "5", "--seeds", "1", "--attacks", "distance", "-o", "run"]

    def recmia(*further: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*program, *more, "--no-thresholds", "--jobs", "1", "--lfm-epochs", "1", *further],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    failed = recmia()
    assert failed.returncode == 2
    assert failed.stderr.splitlines() == [
        "error: mine:Mine: fit raised MemoryError: too large",
        "what was finished is kept: to continue, add --store run.unfinished",
    ]
    fits = (tmp_path / "fits").read_text()
    dry = recmia("--store", "run.unfinished", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    # A dry run probes.
    (tmp_path / "fits").write_text(fits)
    (tmp_path / "run.unfinished" / "mine.txt").write_text("what is not of the store stays")
    done = recmia("--store", "run.unfinished")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "run.unfinished").iterdir()] == ["mine.txt"]
    assert len((tmp_path / "fits").read_text().split()) == 3
    written = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    assert (written["recommender"], written["shadow"]) == ("mine:Mine", "mine:Mine")
    assert pl.read_parquet(tmp_path / "run" / "scores.parquet").height > 0


# ---- The order of events ----


class Successor:
    """Lists what came next after the last item in the fit, most often first; module-level, so that it pickles."""

    folds_in = True
    uses_order = True

    def fit(self, user_items: Any) -> None:
        n = user_items.shape[1]
        self.next = np.zeros((n, n))
        for items in np.split(user_items.indices, user_items.indptr[1:-1]):
            np.add.at(self.next, (items[:-1], items[1:]), 1)

    def recommend(self, userid: Any, user_items: Any, N: int, filter_already_liked_items: bool) -> Any:
        lists = []
        for items in np.split(user_items.indices, user_items.indptr[1:-1]):
            scores = self.next[items[-1]] + 0.0
            if filter_already_liked_items:
                scores[items] = -np.inf
            best = np.argsort(-scores, kind="stable")[:N]
            lists.append(np.where(np.isfinite(scores[best]), best, -1))
        return np.array(lists)


def cycles(n_users: int = 60, n_items: int = 12, length: int = 6) -> Interactions:
    """Return users who walk through the items, each from a random start; their last item is repeated."""
    start = np.random.default_rng(0).integers(n_items, size=n_users)
    item = (start[:, None] + np.arange(length)) % n_items
    item = np.hstack([item, item[:, -1:]])
    user = np.repeat(np.arange(n_users), item.shape[1])
    return Interactions.from_arrays(user, item.ravel(), time=np.tile(np.arange(item.shape[1]), n_users))


def test_an_object_that_uses_order_gets_histories_in_order(rng: np.random.Generator) -> None:
    data = cycles()
    model = FromObject(Successor()).fit(data, rng=rng)
    assert model.uses_order
    assert UserCode.of(Successor()).spec().uses_order
    last = data.item[data.events[np.flatnonzero(np.append(np.diff(data.user[data.events]), 1))]]  # type: ignore[index]
    for recommend in (model.recommend, model.recommend_members):
        lists = recommend(data.sequences(), 1)[:, 0]
        assert lists.tolist() == ((last + 1) % 12).tolist()
    backwards = sparse.csr_array((np.ones(2, np.float32), np.array([5, 3]), np.array([0, 2])), (1, 12))
    assert model.recommend(backwards, 1).tolist() == [[4]]


@pytest.mark.parametrize("query_kind", ["auto", "parts", "prefixes"])
def test_the_game_gives_the_order_to_who_uses_it(query_kind: Any) -> None:
    """Lists and answers of the audit are those that the order gives: an item off by one would be another list."""
    result = public.audit(
        cycles(), recommender=Successor, attacks=["completion"], regimes=["fold-in"], k=2, seeds=1, n_targets=1,
        min_interactions=2, query_kind=query_kind, item_vectors="shadow", factors=4,
    )  # fmt: skip
    assert np.isfinite(result.scores["score"].to_numpy()).all()
    kind = result.provenance["attacker"][0]["asked"]["kind"]
    assert kind == ("parts" if query_kind == "parts" else "prefixes"), "what it was trained on, unless said otherwise"


class Last(Successor):
    """Says that it reads the last three items of a history."""

    window: Any = 3


@pytest.mark.parametrize(
    "given", [Last(), Last, SASRec(SASRecSettings(window=3, heads=1), factors=4)], ids=["object", "class", "recmia's"]
)
def test_what_is_cut_off_for_an_object_is_said(given: Any) -> None:
    note = f"{getattr(given, '__qualname__', type(given).__qualname__)} (in memory) uses the last 3 events of a history"
    result = public.audit(
        cycles(), recommender=given, attacks=["completion"], regimes=["fold-in"], k=2, seeds=1, n_targets=1,
        min_interactions=2, factors=4,
    )  # fmt: skip
    assert f"{note}, and 60 of 60 users have more" in result.provenance["data"]["notes"]


@pytest.mark.parametrize("window", [None, 0, 2.5, "a month"])
def test_a_window_of_another_meaning_is_none(window: Any) -> None:
    model = Last()
    model.window = window
    assert UserCode.of(model).window is None


def test_without_order_it_is_refused_before_anything_is_trained() -> None:
    data = replace(cycles().unordered, time=None)
    with pytest.raises(ConfigError, match=r"Successor \(in memory\): needs the order of events, and the data have nei"):
        public.audit(data, recommender=Successor, attacks=["completion"], k=2, seeds=1, min_interactions=2)
    with pytest.raises(ConfigError, match=r"query_kind = prefixes: needs the order of events"):
        public.audit(
            data, recommender="itemknn", attacks=["completion"], query_kind="prefixes", k=2, seeds=1, min_interactions=2
        )

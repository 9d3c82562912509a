"""Defences as values: what they change, what they promise, and what they refuse."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from recmia import Interactions
from recmia.defences import (
    DEFENCES,
    GumbelTopK,
    Promise,
    System,
    check_defences,
    parse_defences,
)
from recmia.defences.catalogue import Gumbel
from recmia.errors import ConfigError, RecmiaError
from recmia.game.serving import serve
from recmia.game.split import Side, draw_members
from recmia.game.tasks import Task
from recmia.recommenders import RECOMMENDERS, Popularity
from recmia.recommenders.base import check_recommendations
from recmia.recommenders.spec import RecommenderSpec
from recmia.results.audit import AuditResult, run_audit
from recmia.results.setup import resolve
from recmia.settings import AuditSettings, RecommenderSettings
from tests.defences.helpers import fitted, make_recommender

QUICK: dict[str, Any] = {
    "attacks": ["mlp"], "thresholds": False, "factors": 8, "k": 10, "seeds": 1, "lfm": {"epochs": 4},
    "mlp": {"epochs": 2},
}  # fmt: skip


def audit(data: Interactions, **settings: Any) -> AuditResult:
    return run_audit(resolve(AuditSettings.parse(settings)), data)


@pytest.fixture
def side(small: Interactions, rng: np.random.Generator) -> Side:
    return Side(small, draw_members(small.n_users, 0.5, rng))


def task(side: Side, recommender: str = "lfm", regime: Any = "popular") -> Task:
    spec = RECOMMENDERS[recommender]
    return Task(spec, RecommenderSettings(factors=8), side, regime, 10, True, 0.1, (0, "target"))


def defended(text: str, one: Task) -> Task:
    for defence in parse_defences(text):
        one = defence.change(one)
    return one


def parsed(settings: dict[str, Any]) -> None:
    """Check settings and what they name, user code by an object of this name."""
    own = RecommenderSpec("shop:make", lambda settings, threads: Popularity(), user_code=True, code="1")
    resolve(AuditSettings.parse(settings), {"shop:make": own})


# What is written.
def test_defences_act_in_one_order_however_they_are_named() -> None:
    one, other = parse_defences("shorter-lists=5+gumbel=300"), parse_defences(" gumbel=300 + shorter-lists=5 ")
    assert one == other
    assert "+".join(map(str, one)) == "shorter-lists=5+gumbel=300"
    assert parse_defences("") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gumble=3", "unknown defence 'gumble'; did you mean 'gumbel'"),
        ("gumbel", "is written gumbel=EPSILON; got 'gumbel'"),
        ("fold-in-members=2", "is written fold-in-members, without a number"),
        ("gumbel=3+gumbel=4", "gumbel is named twice"),
        ("gumbel=0", "epsilon: Input should be greater than 0; got '0'"),
        ("gumbel=-1", "epsilon: Input should be greater than 0"),
        ("gumbel=nan", "epsilon: Input should be"),
        ("gumbel=inf", "epsilon: Input should be a finite number"),
        ("gumbel=much", "epsilon: Input should be a valid number"),
        ("randomised-response=0", "epsilon: Input should be greater than 0"),
        ("dp-training=0", "epsilon: Input should be greater than 0"),
        ("popular-random=0", "alpha: Input should be greater than 0"),
        ("popular-random=1.5", "alpha: Input should be less than or equal to 1"),
        ("shorter-lists=2.5", "k: Input should be a valid integer"),
        ("early-stopping=0", "epochs: Input should be greater than or equal to 1"),
        ("regularisation=0", "weight: Input should be greater than 0"),
    ],
)
def test_bad_texts_are_told(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        parse_defences(text)


REFUSED = [
    ("popular-random=0.1", "lfm", {"regimes": ["fold-in"]}, "nobody is given a popular list in fold-in; it applies to"),
    ("shorter-lists=10", "lfm", {"k": 10}, "the lists have 10 items"),
    ("regularisation=0.01", "lfm", {}, "the system has 0.01"),
    ("regularisation=1", "itemknn", {}, "itemknn has no regularisation; it applies to als, bpr"),
    ("early-stopping=20", "lfm", {}, "the system stops after 20"),
    ("early-stopping=2", "ease", {}, "ease is not trained in passes; it applies to als, bpr, gru4rec, lfm"),
    ("dp-training=1", "als", {}, "no private training of als; it applies to lfm"),
    ("dp-training=1", "lfm-explicit", {}, "fitted to what was seen, not to ratings"),
    ("randomised-response=4", "lfm-biased", {}, "ratings are not seen-or-not"),
    ("fold-in-members", "itemknn", {}, "itemknn trains nothing for single users"),
    ("fold-in-members", "lfm", {"regimes": ["fold-in"]}, "it applies to popular, popular-random, trained"),
    ("popularity-only", "popularity", {}, "serves popular items already"),
    ("popularity-only+early-stopping=2", "lfm", {}, "trains nothing that early-stopping could defend"),
    ("dp-training=1+regularisation=1", "lfm", {}, "settings of its own"),
    ("dp-training=1+randomised-response=4", "lfm", {}, "do not go together: the reports that are kept for members"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "recommender", "changed", "words"), REFUSED)
def test_what_does_not_apply_is_refused_with_what_would(
    text: str, recommender: str, changed: dict[str, Any], words: str
) -> None:
    settings = {"defence": text, "recommender": recommender, "shadow": recommender, **changed}
    with pytest.raises(ConfigError, match=words):
        resolve(AuditSettings.parse(settings))


def test_a_shadow_that_cannot_have_the_defence_is_refused_too() -> None:
    with pytest.raises(ConfigError, match="no private training of itemknn"):
        parsed({"defence": "dp-training=4", "shadow": "itemknn"})


def test_an_own_recommender_can_have_what_does_not_ask_for_its_settings() -> None:
    for text in ("fold-in-members", "gumbel=30", "randomised-response=4", "shorter-lists=10", "popular-random=0.1"):
        parsed({"defence": text, "recommender": "shop:make", "regimes": ["popular", "fold-in"]})
    for text in ("regularisation=1", "early-stopping=3", "dp-training=4"):
        with pytest.raises(ConfigError, match=r"does not apply: .*shop:make"):
            parsed({"defence": text, "recommender": "shop:make", "shadow": "shop:make"})


def test_every_defence_applies_to_the_default_audit() -> None:
    strengths = {"popular-random": "0.1", "shorter-lists": "20", "regularisation": "0.1", "early-stopping": "5",
                 "randomised-response": "4", "gumbel": "100", "dp-training": "4"}  # fmt: skip
    for name in DEFENCES:
        text = f"{name}={strengths[name]}" if name in strengths else name
        check_defences(
            parse_defences(text), System(RECOMMENDERS["lfm"], RecommenderSettings(), ("popular", "fold-in"), 100)
        )


# What is changed.
def test_settings_and_serving_are_changed_and_nothing_else(side: Side) -> None:
    plain = task(side)
    assert defended("early-stopping=3", plain).settings.lfm == plain.settings.lfm.model_copy(update={"epochs": 3})
    assert defended("regularisation=0.5", plain).settings.lfm.regularisation == 0.5
    assert defended("shorter-lists=4", plain).k == 4
    assert defended("popularity-only", plain).recommender is RECOMMENDERS["popularity"]
    randomised = defended("popular-random=0.3", plain)
    assert (randomised.regime, randomised.alpha) == ("popular-random", 0.3)
    folded = task(side, regime="fold-in")
    assert defended("popular-random=0.3", folded) is folded
    both = defended("shorter-lists=4+gumbel=30", plain)
    assert both.k == 4
    assert [str(one) for one in both.wrappers] == ["gumbel=30"]
    assert both.wrappers[0].key() == {"defence": "gumbel", "epsilon": 30.0, "k": 4}, "noise for the list that is served"
    als = defended("early-stopping=3", task(side, "als"))
    assert als.settings.als.iterations == 3


def test_a_defended_model_is_never_taken_for_another(side: Side) -> None:
    texts = ["", "gumbel=30", "gumbel=31", "dp-training=1", "dp-training=2", "randomised-response=3", "fold-in-members",
             "early-stopping=3", "regularisation=0.5"]  # fmt: skip
    assert len({defended(text, task(side)).model_key for text in texts}) == len(texts)
    served = [*texts, "shorter-lists=4", "popular-random=0.3"]
    assert len({defended(text, task(side)).key for text in served}) == len(served)


@pytest.mark.parametrize("recommender", ["lfm", "itemknn", "popularity", "userknn"])
@pytest.mark.parametrize(
    "text", ["gumbel=50", "randomised-response=3", "fold-in-members", "randomised-response=3+gumbel=50"]
)
def test_wrappers_keep_the_interface(side: Side, recommender: str, text: str) -> None:
    one = defended(text, task(side, recommender))
    model = make_recommender(recommender, one.settings)
    for wrapper in one.wrappers:
        model = wrapper.wrap(model)
    fitted(model, side.training_data())
    for regime in ("popular", "fold-in", "trained"):
        for exclude_seen in (True, False):
            lists = serve(regime, model, side, 10, exclude_seen=exclude_seen, rng=np.random.default_rng(0))
            assert lists.shape == (side.interactions.n_users, 10)
    histories = side.interactions.csr()
    lists = model.recommend(histories, 10)
    assert np.array_equal(model.recommend(histories, 10), lists), "asked again, it must answer the same"
    assert np.array_equal(model.recommend(histories[[9, 4]], 10), lists[[9, 4]]), "other users must not matter"
    assert np.array_equal(pickle.loads(pickle.dumps(model)).recommend(histories, 10), lists)
    empty: sparse.csr_array = sparse.csr_array(np.zeros((1, histories.shape[1]), np.float32))
    known = model.trained_items
    assert known is not None
    check_recommendations(model.recommend(empty, 10), empty, known, 10, exclude_seen=True, source="empty")


# Audits.
def test_popular_lists_by_lot_change_popular_and_not_fold_in(small: Interactions) -> None:
    plain, randomised = (audit(small, **QUICK, defence=text) for text in ("", "popular-random=0.2"))
    for regime, alike in (("fold-in", True), ("popular", False)):
        scores = [result.scores.filter(regime=regime)["score"].to_numpy() for result in (plain, randomised)]
        assert np.array_equal(scores[0], scores[1]) == alike


def test_shorter_lists_are_audited_as_such(small: Interactions) -> None:
    shorter = audit(small, **QUICK, defence="shorter-lists=5")
    as_set = audit(small, **{**QUICK, "k": 5})
    assert shorter.scores.equals(as_set.scores)


def test_promises_say_where_they_hold_for_what_and_against_whom() -> None:
    (gumbel,), (private,) = parse_defences("gumbel=3"), parse_defences("dp-training=3")
    drawn, trained = gumbel.promise(), private.promise()
    assert drawn is not None
    assert trained is not None
    assert (drawn.epsilon, drawn.delta, drawn.regimes) == (3.0, 0.0, ("fold-in", "trained"))
    assert drawn.levels == ("black-box", "grey-box"), "item vectors have no noise"
    assert "each further history that is asked costs epsilon again" in drawn.unit
    assert (trained.epsilon, trained.delta, trained.regimes) == (3.0, 1e-5, ("fold-in", "trained"))
    assert trained.levels == ("black-box", "grey-box", "white-box")
    assert Promise(1.0, 0.0, ("fold-in",)).unit == "the list of one user"
    (local,) = parse_defences("randomised-response=3")
    report = local.promise()
    assert report is not None
    assert (report.epsilon, report.of) == (3.0, "interactions"), "it promises nothing of a whole user"
    assert report.covers_answers
    assert (drawn.of, trained.of) == ("users", "users")


def test_gumbel_alone_does_not_know_the_length_of_its_lists() -> None:
    with pytest.raises(ConfigError, match="depends on the length of the lists: give k"):
        Gumbel(epsilon=3.0).wrap(Popularity())
    wrapped = Gumbel(epsilon=3.0, k=5).wrap(Popularity())
    assert isinstance(wrapped, GumbelTopK)
    assert wrapped.k == 5


def test_delta_that_is_no_promise_fails_the_audit(small: Interactions) -> None:
    with pytest.raises(RecmiaError, match=r"delta must lie below 1 / \d+"):
        audit(small, **QUICK, defence="dp-training=4", dp={"delta": 0.1})

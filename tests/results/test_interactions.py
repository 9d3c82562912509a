"""Audits of single interactions, through every door: scores, controls, files, folders, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import recmia
from recmia.data.datasets import load
from recmia.data.lists import read_trained, write_answers, write_trained
from recmia.data.questions import KEY, MEMBERS, read_questions
from recmia.errors import ConfigError, DataError, RecmiaError
from recmia.metrics import auc
from recmia.recommenders.spec import RECOMMENDERS
from recmia.settings import AuditSettings, FilesSettings, RecommenderSettings
from tests.neighbours import Neighbours

DATA = "synthetic:200x150x8000"
QUICK: dict[str, Any] = {
    "unit": "interactions", "blocks": 5, "k": 20, "factors": 8, "seeds": 1, "n_shadows": 4, "references": ["itemknn"],
}  # fmt: skip


@pytest.fixture(scope="module")
def found() -> recmia.AuditResult:
    return recmia.audit(DATA, recommender="ease", **QUICK)


def areas(result: recmia.AuditResult) -> dict[str, float]:
    return {row.attack: row.value or 0.0 for row in result.metrics if row.metric == "auc"}


def test_every_interaction_is_scored_once_by_every_attack(found: recmia.AuditResult) -> None:
    attacks = ["item-completion", "item-reference", "item-lr", "absent", "item-popularity", "item-history-length"]
    assert found.scores["attack"].unique(maintain_order=True).to_list() == attacks
    one = found.scores.filter(attack="item-lr")
    assert one.select("user_id", "item_id").is_unique().all()
    audited = set(found.users["user_id"].to_list())
    log = load(DATA).interactions.frame().filter(pl.col("user").is_in(sorted(audited)))
    pairs = set(zip(log["user"].to_list(), log["item"].to_list(), strict=True))
    assert set(zip(one["user_id"].to_list(), one["item_id"].to_list(), strict=True)) == pairs
    assert 0.45 < one["member"].cast(pl.Float64).mean() < 0.55  # type: ignore[operator]
    assert {row.metric for row in found.metrics}.isdisjoint({"balanced_accuracy"})


def test_what_is_found(found: recmia.AuditResult) -> None:
    area = areas(found)
    assert area["item-lr"] > area["item-completion"] > 0.6
    assert area["item-reference"] > 0.6
    assert abs(area["item-popularity"] - 0.5) < 0.05
    assert abs(area["item-history-length"] - 0.5) < 0.05
    assert found.findings.grade in ("marked", "strong")
    assert "which interactions of a person were in the training data" in found.verdict
    assert "members" not in found.verdict.replace("non-members", "")
    notes = {row.note for row in found.metrics if row.metric == "epsilon"}
    assert all(note.endswith("so many interactions") for note in notes), notes


def test_jobs_change_nothing_and_settings_repeat_it(found: recmia.AuditResult, tmp_path: Path) -> None:
    again = recmia.audit(settings=AuditSettings.parse(found.settings.flat()), jobs=2)
    assert again.scores.equals(found.scores)
    found.save(tmp_path / "run")
    read = recmia.read_run(tmp_path / "run")
    assert isinstance(read, recmia.AuditResult)
    assert str(read) == str(found)
    assert read.items.equals(found.items)
    assert found.report(tmp_path / "page.html", redact="omit").read_text().count("which interactions of a person") > 0


@pytest.mark.statistical
@pytest.mark.parametrize("recommender", ["random", "content"])
def test_what_does_not_learn_from_single_interactions_gives_none_away(recommender: str) -> None:
    data = load(DATA).interactions
    texts = {item: f"term{item % 7}" for item in data.items.ids.tolist()}
    with_terms = recmia.Interactions.from_arrays(data.users.ids[data.user], data.items.ids[data.item], texts=texts)
    attacks = ["item-completion", "item-lr"]
    result = recmia.audit(with_terms, recommender=recommender, **QUICK | {"attacks": attacks, "n_targets": 2})
    for row in result.metrics:
        if row.metric == "auc" and row.attack in attacks:
            assert row.low is not None
            assert row.high is not None
            assert row.low - 0.03 < 0.5 < row.high + 0.03, row.attack


def test_labels_drawn_anew_give_one_half(found: recmia.AuditResult) -> None:
    scores = found.scores.filter(attack="item-lr")["score"].to_numpy()
    value = auc(np.random.default_rng(0).random(len(scores)) < 0.5, scores).value
    assert value is not None
    assert abs(value - 0.5) < 0.05


@pytest.mark.end_to_end
def test_own_recommenders_go_through(tmp_path: Path) -> None:
    one = recmia.audit(DATA, recommender=Neighbours(), **QUICK)
    other = recmia.audit(DATA, recommender="tests.neighbours:Neighbours", **QUICK)
    assert one.scores.equals(other.scores)
    assert areas(one)["item-lr"] > 0.55


@pytest.mark.end_to_end
def test_sweeps_and_defences() -> None:
    options = QUICK | {"attacks": ["item-completion"]}
    sweep = recmia.sweep({"blocks": [2, 5]}, DATA, recommender="itemknn", **options)
    assert sweep.table["blocks"].unique().to_list() == [2, 5]
    assert not sweep.errors
    matrix = recmia.sweep(
        {"recommender": ["itemknn", "ease"], "shadow": ["ease"]}, DATA, **QUICK | {"attacks": ["item-lr"]}
    )
    assert not matrix.errors
    assert "which interactions" in matrix.findings[0][1].claim
    defended = recmia.defend(["randomised-response=2"], DATA, recommender="ease", **QUICK)
    (promise,) = defended.promises
    assert promise.epsilon == 2
    assert promise.attack != "absent", "the device removes what was seen"
    assert not promise.broken
    assert defended.table["auc"].is_between(0.4, 1).all()


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("defence", "recommender", "checks"), [("dp-training=1", "lfm-implicit", 1), ("gumbel=30", "ease", 0)]
)
def test_no_promise_covers_that_a_list_leaves_out_what_was_trained_on(
    defence: str, recommender: str, checks: int
) -> None:
    """`absent` finds that with certainty, whatever the defence; a promise for one list says nothing of queries."""
    defended = recmia.audit(DATA, recommender=recommender, defence=[defence], **QUICK)
    assert len(defended.promises) == checks
    for promise in defended.promises:
        assert promise.attack in ("item-completion", "item-lr")
        assert not promise.broken


# ---- Files ----


def build(folder: Path, recommender: str) -> FilesSettings:
    """The files of a system: half of the interactions of 100 users of a log of 200 were left out of its training."""
    log = load(DATA).interactions
    log.frame().write_parquet(folder / "log.parquet")
    pl.DataFrame({"user": log.users.ids[:100]}).write_csv(folder / "users.csv")
    options = {"unit": "interactions", "blocks": 5, "draw_members": True, "seed": 1}
    written = recmia.ask(folder / "log.parquet", folder / "q", users=folder / "users.csv", **options)  # type: ignore[arg-type]
    assert "of these interactions are to be in the training data" in str(written)
    about, queries, numbers = read_questions(folder / "q", log)
    trained = read_trained(folder / "q" / MEMBERS, about)
    spec = RECOMMENDERS[recommender]
    model = spec.make(spec.used(RecommenderSettings()), 1)
    model.fit(about.take(np.flatnonzero(trained)), rng=np.random.default_rng(0))
    write_answers(folder / "answers.parquet", numbers, log.items, model.recommend(queries.asked, 20))
    named = {"interactions": "log.parquet", "members": f"q/{MEMBERS}", "questions": "q", "answers": "answers.parquet"}
    flat = {name: str(folder / file) for name, file in named.items()}
    return FilesSettings.parse(flat | {"unit": "interactions", "references": ["itemknn"]})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FilesSettings]:
    folder = tmp_path_factory.mktemp("system")
    return folder, build(folder, "ease")


def test_files_of_a_system(files: tuple[Path, FilesSettings]) -> None:
    _, settings = files
    result = recmia.audit_files(settings=settings)
    assert set(areas(result)) == {"item-completion", "item-reference", "item-popularity", "item-history-length"}
    assert areas(result)["item-reference"] > 0.6
    epsilon = next(row for row in result.metrics if (row.attack, row.metric) == ("item-reference", "epsilon"))
    assert epsilon.value is not None
    again = FilesSettings.parse(result.settings.flat())
    assert recmia.audit_files(settings=again).scores.equals(result.scores)


def test_labels_of_interactions_in_every_form(files: tuple[Path, FilesSettings], tmp_path: Path) -> None:
    folder, settings = files
    expected = recmia.audit_files(settings=settings).scores
    members = pl.read_csv(folder / "q" / MEMBERS)
    members.filter(member=1).select("user", "item").write_csv(tmp_path / "only.csv")
    members.rename({"member": "kept", "item": "sku"}).sample(fraction=1, shuffle=True).write_csv(tmp_path / "named.csv")
    for changed in (
        {"members": str(tmp_path / "only.csv")},
        {"members": str(tmp_path / "named.csv"), "members_columns": "item=sku,member=kept"},
    ):
        assert recmia.audit_files(settings=settings.changed(**changed)).scores.equals(expected)


MEMBERS_FAULTS: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], str]] = {
    "left out": (lambda rows: rows.head(100), r"has item \d+ and no row for it"),
    "twice": (lambda rows: pl.concat([rows, rows.head(1)]), r"data row [\d,]+ names an interaction a second time"),
    "no such item": (
        lambda rows: rows.with_columns(item=pl.lit(9999)),
        r"data row 1 names an item that is in no history",
    ),
    "not of the user": (lambda rows: rows.with_columns(item=pl.col("item").reverse()), r"names an item that is not in"),
    "no item": (lambda rows: rows.drop("item"), r"has no column for the item"),
    "label": (lambda rows: rows.with_columns(member=pl.lit("x")), r"data row 1 has no label of membership"),
    "all": (lambda rows: rows.with_columns(member=pl.lit(1)), r"of \d[\d,]* interactions \d[\d,]* are members"),
}


@pytest.mark.parametrize("name", MEMBERS_FAULTS)
def test_faults_of_labels(name: str, files: tuple[Path, FilesSettings], tmp_path: Path) -> None:
    folder, settings = files
    change, words = MEMBERS_FAULTS[name]
    change(pl.read_csv(folder / "q" / MEMBERS)).write_csv(tmp_path / "m.csv")
    with pytest.raises(RecmiaError, match=words) as told:
        recmia.audit_files(settings=settings.changed(members=str(tmp_path / "m.csv")))
    assert "\n" not in str(told.value)


def test_questions_about_users_are_not_about_interactions(files: tuple[Path, FilesSettings], tmp_path: Path) -> None:
    folder, settings = files
    recmia.ask(folder / "log.parquet", tmp_path / "q", users=folder / "users.csv", seed=1)
    chosen = settings.changed(questions=str(tmp_path / "q"), max_unanswered=1.0, exclude_seen=False)
    words = r"hides an interaction more than once: its questions are about users|not asked"
    with pytest.raises(DataError, match=words):
        recmia.audit_files(settings=chosen)


def test_every_interaction_is_hidden_once(files: tuple[Path, FilesSettings]) -> None:
    folder, _ = files
    key = pl.read_parquet(folder / "q" / KEY)
    assert key.select("user", "item").is_unique().all()
    about = load(DATA).interactions.restrict(np.arange(100))
    assert len(key) == len(about)
    write_trained(folder / "t.csv", about, np.arange(len(about)) % 2 == 0)
    assert read_trained(folder / "t.csv", about).tolist() == (np.arange(len(about)) % 2 == 0).tolist()


# ---- What is refused ----


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"attacks": ["mlp"]}, "mlp: cannot be run with unit = 'interactions'; attacks for it: item-completion"),
        ({"split": "interactions"}, "with unit = interactions, split must be users or shared; got 'interactions'"),
        ({"regimes": ["popular"]}, "with unit = interactions, regimes must be fold-in"),
        ({"knowledge": ["black-box"]}, "with unit = interactions, knowledge must be grey-box"),
        ({"known": 0.5}, r"with unit = interactions, known must be 1\.0; got 0\.5"),
        ({"thresholds": True}, "with unit = interactions, thresholds must be False"),
        ({"blocks": 1}, "blocks: .*greater than or equal to 2"),
        ({"n_shadows": 2}, "too few shadow models: item-lr needs 4"),
        ({"split": "shared"}, "item-reference: compares with reference models, which must be trained on people who"),
        ({"unit": "users", "attacks": ["item-lr"]}, "item-lr: cannot be run with unit = 'users'"),
        ({"unit": "items"}, "unit: "),
    ],
)
def test_what_makes_no_sense(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as told:
        recmia.audit(DATA, **QUICK | given)
    assert "\n" not in str(told.value)


def test_what_files_cannot_have(files: tuple[Path, FilesSettings]) -> None:
    _, settings = files
    with pytest.raises(ConfigError, match="item-lr: needs shadow models of the system, which files do not hold"):
        recmia.audit_files(settings=settings.changed(attacks=["item-lr"]))
    with pytest.raises(
        ConfigError,
        match=r"questions and answers are needed \(--questions, --answers\): recmia ask --unit interactions",
    ):
        FilesSettings.parse({"unit": "interactions", "interactions": "a", "lists": "b", "members": "c"})
    with pytest.raises(ConfigError, match="unknown unit 'item'"):
        recmia.ask(DATA, "never", unit="item")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="blocks must be a whole number, 2 or more"):
        recmia.ask(DATA, "never", unit="interactions", blocks=1)


def test_histories_that_are_too_short_for_the_blocks(tmp_path: Path) -> None:
    log = load("synthetic:120x80x2600").interactions
    short = log.take(np.flatnonzero((log.user % 3 > 0) | (np.arange(len(log)) % 9 == 0)))
    result = recmia.audit(short, **QUICK | {"attacks": ["item-completion"], "min_interactions": 1, "blocks": 8})
    about = result.provenance["attacker"][0]["asked"]
    assert about["users_with_fewer_blocks"] > 0
    assert "have fewer items than 8 parts" in result.report(tmp_path / "page.html").read_text()

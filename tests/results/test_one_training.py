"""Audits of one training from answers in files: the same scores as through every other door, and every fault."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import recmia
from recmia.data.datasets import load
from recmia.data.lists import write_members
from recmia.data.questions import KEY, QUESTIONS, read_questions
from recmia.errors import ConfigError, DataError, RecmiaError, TooFewUsersError
from recmia.results.files import export_files
from recmia.results.setup import name_objects, resolve
from recmia.settings import AS_SERVED, AuditSettings, FilesSettings
from tests.neighbours import Neighbours

DATA = "synthetic:120x200x6000"
QUICK: dict[str, Any] = {"factors": 8, "lfm": {"epochs": 2}, "references": ["itemknn", "lfm"], "seed": 3}
AUDIT: dict[str, Any] = {
    **QUICK, "dataset": DATA, "k": 10, "regimes": ["fold-in"], "seeds": 1,
    "attacks": ["completion", "completion-reference"],
}  # fmt: skip
COMMAND = f"{shlex.quote(sys.executable)} {shlex.quote(str(Path(__file__).parents[1] / 'neighbours.py'))}"
FILES = {"interactions": "interactions.parquet", "members": "members.csv", "questions": "questions",
         "answers": "answers.parquet"}  # fmt: skip
REFERENCE = {"reference_interactions": "shadow-interactions.parquet"}


def files(folder: Path, *parts: dict[str, str], **settings: Any) -> FilesSettings:
    named = {name: str(folder / file) for part in (FILES, *parts) for name, file in part.items()}
    return FilesSettings.parse({**QUICK, **named, **settings})


def target_scores(result: recmia.AuditResult) -> pl.DataFrame:
    asked = pl.col("attack").is_in(["completion", "completion-reference", "history-length"])
    return result.scores.filter(asked, side="target").drop("regime").sort(pl.all())


def export(folder: Path, recommender: Any, **settings: Any) -> recmia.AuditResult:
    """The files of an audit, and its result."""
    names, objects, _, _ = name_objects({"recommender": recommender, "shadow": recommender}, None)
    chosen = AuditSettings.parse(AUDIT | names | settings)
    store: dict[str, Any] = {}
    export_files(resolve(chosen, objects), folder, store=store)
    return recmia.audit(recommender=recommender, settings=chosen.changed(recommender="lfm", shadow="lfm"), store=store)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, recmia.AuditResult]:
    folder = tmp_path_factory.mktemp("exported")
    return folder, export(folder, "itemknn")


@pytest.mark.end_to_end
def test_every_door_gives_the_same_scores(tmp_path: Path) -> None:
    """The same system as an object, as a factory, as a command, and as files of its answers."""
    (tmp_path / "files").mkdir()
    expected = export(tmp_path / "files", Neighbours())
    train = {"command": f"{COMMAND} {{interactions}} {{histories}} {{k}} {{lists}} {{seed}}"}
    doors = {
        "factory": recmia.audit(recommender="tests.neighbours:Neighbours", settings=AuditSettings.parse(AUDIT)),
        "command": recmia.audit(settings=AuditSettings.parse(AUDIT | {"train": train})),
        "files": recmia.audit_files(settings=files(tmp_path / "files", REFERENCE)),
    }
    wanted = target_scores(expected)
    assert set(wanted["attack"]) == {"completion", "completion-reference", "history-length"}
    for name, result in doors.items():
        assert target_scores(result).equals(wanted), name


def test_files_of_an_audit_give_its_figures(exported: tuple[Path, recmia.AuditResult]) -> None:
    folder, expected = exported
    result = recmia.audit_files(settings=files(folder, REFERENCE))
    assert target_scores(result).equals(target_scores(expected))
    figures = {(row.attack, row.metric): (row.value, row.low) for row in result.metrics}
    for row in expected.metrics:
        if row.metric in ("auc", "tpr@fpr=0.1") and (row.attack, row.metric) in figures:
            assert figures[row.attack, row.metric] == (row.value, row.low)
    assert result.disclosure.equals(expected.disclosure)
    assert result.query_examples == expected.query_examples
    assert {row.regime for row in result.metrics} == {AS_SERVED}
    assert "shared-list" not in {row.attack for row in result.metrics}, "there are no lists"
    again = FilesSettings.parse(result.settings.flat())
    assert recmia.audit_files(settings=again).scores.equals(result.scores)
    assert (again.attacker.queries, again.attacker.query_share, again.k) == (6, 0.5, 10)


def test_jobs_and_numbers_of_threads_change_nothing(exported: tuple[Path, recmia.AuditResult]) -> None:
    folder, _ = exported
    one, two = (recmia.audit_files(settings=files(folder, REFERENCE), jobs=jobs) for jobs in (1, 2))
    assert one.scores.equals(two.scores)


def test_lists_beside_answers(exported: tuple[Path, recmia.AuditResult]) -> None:
    folder, _ = exported
    both = recmia.audit_files(settings=files(folder, REFERENCE, {"lists": "lists.parquet"}))
    assert set(both.settings.attacker.attacks) == {"distance", "completion", "completion-reference"}
    assert "shared-list" in {row.attack for row in both.metrics}
    shorter = pl.read_parquet(folder / "lists.parquet").filter(pl.col("rank") <= 5)
    shorter.write_parquet(folder / "short-lists.parquet")
    apart = recmia.audit_files(settings=files(folder, REFERENCE, {"lists": "short-lists.parquet"}))
    assert apart.settings.k == 5
    again = FilesSettings.parse(apart.settings.flat())
    assert recmia.audit_files(settings=again).scores.equals(apart.scores), "answers are longer than lists"
    only = recmia.audit_files(settings=files(folder, REFERENCE))
    assert target_scores(both).equals(target_scores(only))
    pooled = recmia.audit_files(
        settings=files(folder, {"lists": "lists.parquet"}, attacks=["query-lr"], shadow="itemknn", n_shadows=4)
    )
    assert {row.attack for row in pooled.metrics} >= {"query-lr"}


def test_the_rest_of_the_log_trains_the_references(exported: tuple[Path, recmia.AuditResult], tmp_path: Path) -> None:
    folder, _ = exported
    log = pl.concat([pl.read_parquet(folder / name) for name in (FILES["interactions"], *REFERENCE.values())])
    log.write_parquet(tmp_path / "log.parquet")
    named = files(folder, interactions=str(tmp_path / "log.parquet"))
    result = recmia.audit_files(settings=named)
    assert target_scores(result).drop("score").equals(target_scores(exported[1]).drop("score"))
    area = {row.attack: row.value or 0.0 for row in result.metrics if row.metric == "auc"}
    assert area["completion-reference"] > area["completion"]
    data = result.provenance["data"]
    assert data["users"] == 60
    assert any("not audited: 60" in note for note in data["notes"])
    assert "were left out" not in result.verdict
    few = recmia.audit_files(settings=named.changed(reference_users=20))
    assert any("references on: 20, drawn from 60" in note for note in few.provenance["data"]["notes"])


def test_without_references_completion_is_all_and_is_no_proof(exported: tuple[Path, recmia.AuditResult]) -> None:
    folder, _ = exported
    result = recmia.audit_files(settings=files(folder))
    assert result.settings.attacker.attacks == ("completion",)
    assert "No reference models were there" in result.verdict
    assert "--reference-interactions" in result.verdict
    with pytest.raises(ConfigError, match="completion-reference: compares with reference models, and there is nobody"):
        recmia.audit_files(settings=files(folder, attacks=["completion-reference"]))


def test_a_system_that_is_hardly_found_by_completion_is_not_called_safe(tmp_path: Path) -> None:
    """Random answers: nothing is found, and without references nothing was tested."""
    export(tmp_path, "random")
    without = recmia.audit_files(settings=files(tmp_path)).findings
    assert without.grade in ("untested", "unclear")
    assert without.label in ("Not tested against a strong attack", "Too few users to say")


@pytest.fixture(scope="module")
def other_answers(exported: tuple[Path, recmia.AuditResult]) -> dict[str, str]:
    """Answers of another system to the same questions."""
    folder, _ = exported
    answers = pl.read_parquet(folder / "answers.parquet")
    answers.with_columns(rank=pl.col("rank").reverse().over("query")).write_parquet(folder / "other.parquet")
    return {"reference_answers": "other.parquet"}


def test_answers_of_the_system_without_the_audited_users(
    exported: tuple[Path, recmia.AuditResult], other_answers: dict[str, str]
) -> None:
    folder, _ = exported
    result = recmia.audit_files(settings=files(folder, other_answers, references=[]))
    assert "completion-reference" in {row.attack for row in result.metrics}
    assert "No reference models" not in result.verdict


def test_who_is_identified_from_one_training(tmp_path: Path) -> None:
    """Of EASE nearly everybody; ids are those of the file, and each is a member."""
    export(tmp_path, "ease", dataset="synthetic:400x200x20000")
    result = recmia.audit_files(settings=files(tmp_path, REFERENCE))
    users = result.identified.filter("identified", attack="completion-reference")
    members = set(pl.read_csv(tmp_path / "members.csv").filter(member=1)["user"].to_list())
    assert len(users) > 20
    assert set(users["user_id"].to_list()) <= members
    assert f"{len(users)} of {len(members)} members are individually identified" in result.verdict
    assert result.report(tmp_path / "page.html").read_text().count("Identified") >= 1


def test_reference_answers_may_be_shorter(exported: tuple[Path, recmia.AuditResult]) -> None:
    """What a short answer does not hold is a miss at the rank after its last, and no hit."""
    folder, _ = exported
    answers = pl.read_parquet(folder / "answers.parquet").with_columns(rank=pl.col("rank").reverse().over("query"))
    answers.write_parquet(folder / "long.parquet")
    short = answers.filter(pl.col("rank") <= 4)
    short.write_parquet(folder / "short.parquet")
    result = recmia.audit_files(settings=files(folder, {"reference_answers": "short.parquet"}, references=[]))
    assert any("reference have up to 4 items" in note for note in result.provenance["data"]["notes"])
    # The same misses, at the same rank, in answers of full length: items that nobody has follow.
    padding = pl.DataFrame({"item": range(10_000, 10_006), "rank": range(5, 11)}, schema=short.drop("query").schema)
    queries = short.select("query").unique(maintain_order=True)
    padded = pl.concat([short, queries.join(padding, how="cross").select(short.columns)])
    padded.write_parquet(folder / "padded.parquet")
    (folder / "items.csv").write_text("item\n" + "".join(f"{item}\n" for item in range(10_000, 10_006)))
    other = recmia.audit_files(
        settings=files(folder, {"reference_answers": "padded.parquet", "items": "items.csv"}, references=[])
    )
    areas = [
        next(row.value or 0.0 for row in one.metrics if (row.attack, row.metric) == ("completion-reference", "auc"))
        for one in (result, other)
    ]
    assert areas[0] == pytest.approx(areas[1], abs=0.06), "but for the rank that a miss has"


def test_a_reference_that_is_the_system_itself_is_refused(exported: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = exported
    (tmp_path / "copy.parquet").write_bytes((folder / "answers.parquet").read_bytes())
    with pytest.raises(DataError, match=r"copy\.parquet holds the same answers as .*answers\.parquet; a reference is"):
        recmia.audit_files(settings=files(folder, reference_answers=str(tmp_path / "copy.parquet")))


def test_a_larger_k_than_any_answer_has_changes_nothing(exported: tuple[Path, recmia.AuditResult]) -> None:
    folder, _ = exported
    one, other = (recmia.audit_files(settings=files(folder, REFERENCE, k=k)) for k in (0, 100))
    assert one.scores.equals(other.scores)
    assert other.settings.k == 10


def test_references_by_name_are_refused_beside_answers(
    exported: tuple[Path, Any], other_answers: dict[str, str]
) -> None:
    folder, _ = exported
    with pytest.raises(ConfigError, match="references = itemknn, lfm: models to train, and reference_answers takes"):
        recmia.audit_files(settings=files(folder, other_answers, references=["itemknn", "lfm"]))


def test_people_of_other_ids_and_too_few_people(exported: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = exported
    people = pl.read_parquet(folder / "shadow-interactions.parquet")
    people.with_columns(user=pl.lit("u") + pl.col("user").cast(pl.String)).write_parquet(tmp_path / "text.parquet")
    result = recmia.audit_files(settings=files(folder, reference_interactions=str(tmp_path / "text.parquet")))
    assert "completion-reference" in result.settings.attacker.attacks
    people.filter(pl.col("user") == people["user"][0]).write_parquet(tmp_path / "few.parquet")
    with pytest.raises(TooFewUsersError, match=r"few\.parquet: 1 users with \d+ items are too few to train references"):
        recmia.audit_files(settings=files(folder, reference_interactions=str(tmp_path / "few.parquet")))


def test_lists_and_members_of_users_who_are_not_asked_about(exported: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = exported
    for name in ("interactions", "lists"):
        both = [pl.read_parquet(folder / f"{side}{name}.parquet") for side in ("", "shadow-")]
        pl.concat(both).write_parquet(tmp_path / f"{name}.parquet")
    named = {name: str(tmp_path / f"{name}.parquet") for name in ("interactions", "lists")}
    result = recmia.audit_files(settings=files(folder, **named))
    assert result.provenance["data"]["users"] == 60
    assert "shared-list" in {row.attack for row in result.metrics}


def test_members_other_than_were_drawn_are_refused(exported: tuple[Path, Any], tmp_path: Path) -> None:
    """The members of another draw would find a leaking system safe."""
    folder, _ = exported
    shutil.copytree(folder, tmp_path / "run")
    drawn = pl.read_csv(tmp_path / "run" / "members.csv")
    if "member" not in drawn.columns:
        everyone = pl.read_parquet(tmp_path / "run" / "interactions.parquet").select("user").unique().sort("user")
        drawn = everyone.with_columns(member=pl.col("user").is_in(drawn["user"].implode()).cast(pl.Int8))
    drawn.write_csv(tmp_path / "run" / "questions" / "members.csv")
    again = recmia.audit_files(settings=files(tmp_path / "run", REFERENCE))
    assert len(again.scores)
    wrong = drawn.with_columns(pl.col("member").reverse())
    wrong.write_csv(tmp_path / "run" / "members.csv")
    number = int((wrong["member"] != drawn["member"]).sum())
    with pytest.raises(
        DataError, match=rf"members.csv: {number} of {len(drawn)} users have another membership than in"
    ):
        recmia.audit_files(settings=files(tmp_path / "run", REFERENCE))


def test_ids_that_are_hashes(tmp_path: Path) -> None:
    log = load("synthetic:60x80x2400").interactions.frame()
    big = log.with_columns(user=pl.col("user").cast(pl.UInt64) + 2**63 + 7)
    big.write_parquet(tmp_path / "log.parquet")
    written = recmia.ask(tmp_path / "log.parquet", tmp_path / "q", draw_members=True)
    assert written.users == 60
    key = pl.read_parquet(tmp_path / "q" / KEY)
    assert key["user"][0] == str(2**63 + 8)


def test_paths_and_texts_in_python(exported: tuple[Path, Any]) -> None:
    folder, _ = exported
    named: dict[str, Any] = {name: folder / file for name, file in (FILES | REFERENCE).items()}
    interactions, members = named.pop("interactions"), named.pop("members")
    result = recmia.audit_files(interactions, members=members, **named, **QUICK)
    assert result.scores.equals(recmia.audit_files(settings=files(folder, REFERENCE)).scores)
    with pytest.raises(ConfigError, match=r"attacks must be a list .*'completion': write \['completion'\]"):
        recmia.audit_files(interactions, members=members, attacks="completion", **named)
    with pytest.raises(ConfigError, match=r"members \(--members\) is needed"):
        recmia.audit_files(interactions, members=None, **named)  # type: ignore[arg-type]


# ---- Epsilon, with nothing to choose a threshold on ----


def answered(
    folder: Path, tells: Callable[[np.ndarray, np.random.Generator], np.ndarray], seed: int
) -> recmia.AuditResult:
    """Audit answers that complete exactly the histories that `tells` names, from the members, bool[n]."""
    rng = np.random.default_rng([seed, 5])
    histories = load("synthetic:150x100x4000").interactions
    folder.mkdir()
    histories.frame().write_parquet(folder / "interactions.parquet")
    recmia.ask(folder / "interactions.parquet", folder / "questions", queries=2, seed=seed)
    member = rng.random(histories.n_users) < 0.5
    write_members(folder / "members.csv", histories.users, member)
    _, queries, numbers = read_questions(folder / "questions", histories)
    told = tells(member, rng)
    key = pl.read_parquet(folder / "questions" / KEY)
    whose = dict(zip(numbers.ids.tolist(), queries.user.tolist(), strict=True))
    rows = key.with_columns(completed=pl.Series([bool(told[whose[query]]) for query in key["query"].to_list()]))
    hidden = rows.filter("completed").select("query", "item")
    asked = pl.read_parquet(folder / "questions" / QUESTIONS)
    # Whoever is not completed is answered with one item that nobody has.
    others = asked.select("query").unique().filter(~pl.col("query").is_in(hidden["query"].implode()))
    answers = pl.concat([hidden, others.with_columns(item=pl.lit(9999, pl.Int64))])
    answers = answers.with_columns(rank=pl.int_range(pl.len()).over("query") + 1)
    answers.write_parquet(folder / "answers.parquet")
    (folder / "items.csv").write_text("9999\n")
    return recmia.audit_files(settings=files(folder, {"items": "items.csv"}, attacks=["completion"]))


@pytest.mark.statistical
@pytest.mark.parametrize("truth", [0.0, 1.0])
def test_epsilon_of_answers_with_a_known_epsilon(truth: float, tmp_path: Path) -> None:
    """Each coin is told with the odds of the truth; 5% of the bounds may be above it."""

    def tells(member: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.where(rng.random(len(member)) < 1 / (1 + np.exp(-truth)), member, ~member)

    bounds = []
    for seed in range(40):
        result = answered(tmp_path / str(seed), tells, seed)
        (row,) = (row for row in result.metrics if (row.attack, row.metric) == ("completion", "epsilon"))
        assert row.value is not None
        bounds.append(row.value)
    # More than 6 of 40 have a probability of 1.4% at 5%; the bounds hold together with those of the rules.
    assert sum(bound > truth for bound in bounds) <= 6
    if truth:
        assert max(bounds) > 0.2, "a bound that is always 0 would pass"


def test_epsilon_of_answers_that_tell_everything(tmp_path: Path) -> None:
    result = answered(tmp_path / "all", lambda member, rng: member, 0)
    (row,) = (row for row in result.metrics if (row.attack, row.metric) == ("completion", "epsilon"))
    assert row.value is not None
    assert row.value > 2.5
    assert "valid for one training" in row.note


# ---- Bad input ----


@pytest.fixture
def written(exported: tuple[Path, recmia.AuditResult], tmp_path: Path) -> Callable[..., FilesSettings]:
    """Write the files anew, each changed by a function of its frame, and give the settings for them."""

    def write(
        settings: dict[str, Any] | None = None, **changed: Callable[[pl.DataFrame], pl.DataFrame]
    ) -> FilesSettings:
        folder, _ = exported
        (tmp_path / "questions").mkdir()
        names = {"interactions": "interactions.parquet", "members": "members.csv", "answers": "answers.parquet",
                 "asked": f"questions/{QUESTIONS}", "key": f"questions/{KEY}"}  # fmt: skip
        for name, file in names.items():
            parquet = file.endswith("parquet")
            frame = (pl.read_parquet if parquet else pl.read_csv)(folder / file)
            frame = changed[name](frame) if name in changed else frame
            if parquet:
                frame.write_parquet(tmp_path / file)
            else:
                frame.write_csv(tmp_path / file)
        return files(tmp_path, **(settings or {}))

    return write


def first(number: int) -> pl.Expr:
    return pl.int_range(pl.len()) < number


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "not asked": ({"answers": lambda rows: rows.with_columns(query=pl.when(first(1)).then(9999).otherwise("query"))},
                  r"answers\.parquet: data row 1 answers a question that was not asked.*query 9999"),
    "many unanswered": ({"answers": lambda rows: rows.filter(pl.col("query") >= 60)},
                        r"answers\.parquet: 60 of 360 questions have no answer, the first is query 0; "
                        r"max_unanswered = 0\.05 allows for 18 \(--max-unanswered\)"),
    "rank twice": ({"answers": lambda rows: pl.concat([rows, rows.head(1)])},
                   r"answers\.parquet: data row 3,601 gives a rank to a second item of the query"),
    "another key": (
        {"key": lambda rows: rows.with_columns(query=359 - pl.col("query"))},
        r"(questions|key)\.parquet: data row \d+ has an item that is not in the history of the user, .* or the key is",
    ),
    "other histories": ({"interactions": lambda rows: rows.filter(pl.col("user") % 2 == 0)},
                        r"key\.parquet: data row \d+ is about a user who is in no history"),
    "few members": ({"members": lambda rows: rows.with_columns(member=first(9).cast(pl.Int8))},
                    r"members\.csv: of 60 users 9 are members; members and others must be 10 or more each"),
    "members by another name": ({"members": lambda rows: rows.rename({"member": "is_member"})},
                                r"members\.csv: no column is called member, .*'is_member'.*members_columns"),
    "member left out": ({"members": lambda rows: rows.head(30)}, r"members\.csv: user \d+ is audited and has no row"),
    "no answers": ({"answers": lambda rows: rows.head(0)}, r"answers\.parquet: 360 of 360 questions have no answer"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_told_with_file_and_row(name: str, written: Callable[..., FilesSettings]) -> None:
    changes, message = FAULTS[name]
    kind = TooFewUsersError if name == "few members" else RecmiaError
    with pytest.raises(kind, match=message) as told:
        recmia.audit_files(settings=written(**changes))
    assert "\n" not in str(told.value)
    assert not isinstance(told.value, ConfigError)


def test_an_answer_with_what_was_asked(written: Callable[..., FilesSettings], exported: tuple[Path, Any]) -> None:
    item = pl.read_parquet(exported[0] / "questions" / QUESTIONS)["item"][0]

    def change(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.with_columns(item=pl.when(first(1)).then(item).otherwise("item"))

    chosen = written(answers=change)
    with pytest.raises(DataError, match=r"data row 1 answers with an item that the question asked with"):
        recmia.audit_files(settings=chosen)
    assert recmia.audit_files(settings=chosen.changed(exclude_seen=False)).metrics


def test_a_few_questions_without_an_answer_are_counted(written: Callable[..., FilesSettings]) -> None:
    chosen = written(answers=lambda rows: rows.filter(pl.col("query") >= 7))
    result = recmia.audit_files(settings=chosen)
    assert any("left out: 7 of 360" in note for note in result.provenance["data"]["notes"])
    assert recmia.audit_files(settings=chosen.changed(max_unanswered=0.5)).scores.equals(result.scores)
    with pytest.raises(DataError, match="7 of 360 questions have no answer"):
        recmia.audit_files(settings=chosen.changed(max_unanswered=0.0))


def test_users_without_an_answer_are_left_out(written: Callable[..., FilesSettings]) -> None:
    """Nothing was measured of them: a score would be that of ignorance."""
    chosen = written(answers=lambda rows: rows.filter(pl.col("query") >= 12))
    result = recmia.audit_files(settings=chosen)
    assert result.provenance["data"]["users"] == 58
    assert any("users without an answered question, left out: 2" in note for note in result.provenance["data"]["notes"])
    assert len(result.scores.filter(attack="completion", side="target")) == 58


def test_answers_that_are_missing_of_one_group(exported: tuple[Path, Any], tmp_path: Path) -> None:
    """Of all questions few are missing, and of the members many: those that are left would be chosen."""
    folder, _ = exported
    members = set(pl.read_csv(folder / "members.csv").filter(member=1)["user"].to_list())
    key = pl.read_parquet(folder / "questions" / KEY)
    of_members = sorted({query for query, user in key.select("query", "user").iter_rows() if user in members})
    answers = pl.read_parquet(folder / "answers.parquet")
    answers.filter(~pl.col("query").is_in(of_members[:16])).write_parquet(tmp_path / "a.parquet")
    words = r"a\.parquet: 16 of \d+ questions about members have no answer, the first about user \d+; max_unanswered"
    with pytest.raises(DataError, match=words):
        recmia.audit_files(settings=files(folder, answers=str(tmp_path / "a.parquet")))


def test_references_must_not_have_seen_the_audited(exported: tuple[Path, recmia.AuditResult], tmp_path: Path) -> None:
    folder, _ = exported
    (tmp_path / "r.parquet").write_bytes((folder / "interactions.parquet").read_bytes())
    with pytest.raises(DataError, match=r"r\.parquet: user \d+ is audited \(60 such users\), and a reference model"):
        recmia.audit_files(settings=files(folder, reference_interactions=str(tmp_path / "r.parquet")))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"attacks": ["mlp"]}, "mlp: looks at the lists that users are shown, and there are only answers"),
        ({"attacks": ["query-lr"]}, "query-lr: looks at the lists"),
        ({"attacks": ["twin"]}, "'twin' is a rule that is always run"),
        ({"references": ["lfm", "nothing"]}, "unknown recommender 'nothing'"),
    ],
)
def test_what_cannot_be_run_on_answers(exported: tuple[Path, Any], settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        recmia.audit_files(settings=files(exported[0], **settings))


def test_answers_need_lists_of_their_length_for_shadows(exported: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = exported
    pl.read_parquet(folder / "lists.parquet").filter(pl.col("rank") <= 5).write_parquet(tmp_path / "short.parquet")
    chosen = files(folder, lists=str(tmp_path / "short.parquet"), attacks=["query-lr"], shadow="itemknn")
    with pytest.raises(ConfigError, match="needs lists and answers of one length, and the lists have 5 items, the ans"):
        recmia.audit_files(settings=chosen)


# ---- Asking ----


def test_ask_writes_what_the_audit_asks(exported: tuple[Path, recmia.AuditResult], tmp_path: Path) -> None:
    folder, _ = exported
    written = recmia.ask(folder / "interactions.parquet", tmp_path / "q", seed=3)
    for name in (QUESTIONS, KEY):
        assert pl.read_parquet(tmp_path / "q" / name).equals(pl.read_parquet(folder / "questions" / name))
    assert (written.users, written.questions, written.not_asked, written.members) == (60, 360, 0, None)
    assert "360 questions about 60 users" in str(written)
    assert not (tmp_path / "q" / "members.csv").exists()


def test_ask_some_users_and_draw_members(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("who;what\n" + "".join(f"{u};{i}\n" for u in range(40) for i in range(u + 1)))
    (tmp_path / "users.csv").write_text("uid\n" + "".join(f"{u}\n" for u in range(30)))
    columns = {"user": "who", "item": "what", "separator": ";"}
    written = recmia.ask(
        tmp_path / "log.csv", tmp_path / "q", users=tmp_path / "users.csv", columns=columns, queries=2,
        draw_members=True,
    )  # fmt: skip
    assert (written.users, written.not_asked) == (29, 1)
    members = pl.read_csv(tmp_path / "q" / "members.csv")
    assert len(members) == 30
    assert 5 < members["member"].sum() < 25
    assert written.members == members["member"].sum()
    assert "to be left out of it" in str(written)
    assert "nobody is left to train reference models on" not in str(written)
    everybody = recmia.ask(tmp_path / "log.csv", tmp_path / "all", columns=columns, queries=2)
    assert "nobody is left to train reference models on" in str(everybody)
    again = recmia.ask(
        tmp_path / "log.csv", tmp_path / "again", users=tmp_path / "users.csv", columns=columns, queries=2,
        draw_members=True, member_share=0.9, users_columns="user=uid",
    )  # fmt: skip
    assert again.members is not None
    assert written.members is not None
    assert again.members > written.members
    assert pl.read_parquet(tmp_path / "again" / KEY).equals(pl.read_parquet(tmp_path / "q" / KEY))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"queries": 3}, "queries must be even and at least 2"),
        ({"queries": 0}, "queries must be even and at least 2"),
        ({"query_share": 1.0}, "query_share must be above 0 and below 1; got 1"),
        ({"member_share": 0.0, "draw_members": True}, "member_share must be above 0"),
        ({"users": "users.csv", "users_columns": "who=x"}, "users_columns: a file of users has no column 'who'"),
        ({"seed": -1}, "seed must be a whole number, 0 or more; got -1"),
        ({"queries": "4"}, "queries must be even and at least 2, .*; got '4'"),
        ({"columns": {"foo": "x"}}, "unknown setting 'columns.foo'; .*allowed: header"),
        ({"columns": {"separator": "§"}}, "columns.separator: the separator must be one ASCII character, ::, or tab"),
        ({"users_columns": "user=x"}, "users_columns names the column of a file of users, and users is not given"),
        ({"member_share": 0.3}, "member_share is the probability of the coins that draw_members tosses"),
        ({"users": 7}, "users must be the path of a file or folder; got a int"),
        ({"users": "labels.csv"}, r"labels\.csv: beside the ids in 'user' there is 'include'; a file of users names"),
        ({"users": "semicolon.csv"}, r"semicolon\.csv: beside the ids in 'user' there is 'include'"),
        ({"users": "users.csv"}, r"users\.csv: data row 1 names a user who is in no history"),
        ({"users": "users.csv", "users_columns": "user=x"}, r"users\.csv has no column 'x' for the user"),
    ],
)
def test_what_cannot_be_asked(
    given: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("users.csv").write_text("user\n99999\n")
    Path("labels.csv").write_text("user,include\n1,1\n2,0\n")
    Path("semicolon.csv").write_text("user;include\n1;1\n")
    with pytest.raises(RecmiaError, match=words):
        recmia.ask(DATA, "q", **given)
    assert not Path("q").exists()


def test_nobody_to_ask_about(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item\n1,1\n2,1\n")
    with pytest.raises(DataError, match=r"log\.csv: nobody has two items"):
        recmia.ask(tmp_path / "log.csv", tmp_path / "q")
    with pytest.raises(ConfigError, match="exists"):
        recmia.ask(DATA, tmp_path)

"""Questions and their key as files: what is written is read, and every fault is told with file and row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recmia.data.interactions import IdMap, Interactions
from recmia.data.lists import read_answers, write_answers
from recmia.data.questions import KEY, MEMBERS, QUESTIONS, read_questions, write_questions
from recmia.errors import DataError
from recmia.game.queries import draw_queries
from recmia.observation import Queries

Change = Callable[[pl.DataFrame], pl.DataFrame]


def drawn(seed: int = 0, *, text: bool = False, n_users: int = 8) -> tuple[Interactions, Queries]:
    rng = np.random.default_rng(seed)
    pairs = [(user, item) for user in range(n_users) for item in rng.choice(30, 2 + user, replace=False)]
    user, item = np.array(pairs).T
    data = Interactions.from_arrays(
        [f"u{one}" for one in user] if text else user + 100,
        [f"i{one}" for one in item] if text else item,
        rng.integers(1, 6, len(user)).astype(np.float32),
        rng.integers(10**9, size=len(user)),
    )
    return data, draw_queries(data, 6, 0.5, rng)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), text=st.booleans())
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, seed: int, text: bool) -> None:
    folder = tmp_path_factory.mktemp("asked")
    data, queries = drawn(seed, text=text)
    write_questions(folder, data, queries)
    about, found, numbers = read_questions(folder, data)
    assert about is data
    assert numbers.ids.tolist() == list(range(len(queries)))
    assert found.user.dtype == np.int32
    assert np.array_equal(found.user, queries.user)
    for part in ("asked", "hidden"):
        one, other = getattr(found, part), getattr(queries, part)
        for array in ("data", "indices", "indptr"):
            assert np.array_equal(getattr(one, array), getattr(other, array)), (part, array)
        assert one.dtype == np.float32
    assert found.fingerprint == queries.fingerprint


def test_rows_come_in_the_order_of_time_with_ratings(tmp_path: Path) -> None:
    data, queries = drawn()
    write_questions(tmp_path, data, queries)
    asked, key = pl.read_parquet(tmp_path / QUESTIONS), pl.read_parquet(tmp_path / KEY)
    assert asked.columns == ["query", "item", "rating", "time", "position"]
    assert key.columns == ["query", "user", "item"]
    of_user = {row["user"] for row in key.iter_rows(named=True)}
    assert of_user == set(data.users.ids.tolist())
    for _, part in asked.partition_by("query", as_dict=True).items():
        assert part["time"].is_sorted()
    known = {(row["user"], row["item"]): row for row in data.frame().iter_rows(named=True)}
    whose = dict(key.select("query", "user").iter_rows())
    for row in asked.iter_rows(named=True):
        assert known[whose[row["query"]], row["item"]]["rating"] == row["rating"]
    plain = Interactions.from_arrays([1, 1, 2, 2], [1, 2, 1, 3])
    (tmp_path / "plain").mkdir()
    write_questions(tmp_path / "plain", plain, draw_queries(plain, 2, 0.5, np.random.default_rng(0)))
    assert pl.read_parquet(tmp_path / "plain" / QUESTIONS).columns == ["query", "item"]


def test_users_of_a_log_about_whom_nothing_is_asked_are_left_out(tmp_path: Path) -> None:
    data, _ = drawn()
    some = data.restrict(np.array([1, 5]))
    queries = draw_queries(some, 2, 0.5, np.random.default_rng(0))
    write_questions(tmp_path, some, queries, np.array([True, False]))
    about, found, _ = read_questions(tmp_path, data)
    assert about.users.ids.tolist() == [101, 105]
    assert np.array_equal(found.user, queries.user)
    assert pl.read_csv(tmp_path / MEMBERS).rows() == [(101, 1), (105, 0)]


def test_numbers_in_any_order(tmp_path: Path) -> None:
    data, queries = drawn()
    write_questions(tmp_path, data, queries)
    rng = np.random.default_rng(1)
    other = 1000 + rng.permutation(len(queries))
    for name in (QUESTIONS, KEY):
        rows = pl.read_parquet(tmp_path / name)
        renamed = rows.with_columns(query=pl.Series(other[rows["query"].to_numpy()])).sample(fraction=1, shuffle=True)
        renamed.write_parquet(tmp_path / name)
    _, found, numbers = read_questions(tmp_path, data)
    assert np.array_equal(found.user, queries.user)
    place = np.argsort(other)
    rows = place[numbers.ids.astype(int) - 1000]
    assert (found.asked - queries.asked[rows]).nnz == 0
    assert (found.hidden - queries.hidden[rows]).nnz == 0


def at(row: int, **cells: object) -> Change:
    """Put values into a data row, which counts from 1."""

    def changed(frame: pl.DataFrame) -> pl.DataFrame:
        new = {name: frame[name].to_list() for name in frame.columns}
        for name, value in cells.items():
            new[name][row - 1] = value
        return pl.DataFrame(new, schema=frame.schema)

    return changed


def without(query: int) -> Change:
    return lambda frame: frame.filter(pl.col("query") != query)


FAULTS: dict[str, tuple[str, Change, str]] = {
    "no key for a question": (KEY, without(2), r"questions\.parquet: data row \d+ belongs to a question that is not"),
    "no question for a key": (QUESTIONS, without(2), r"key\.parquet: data row \d+ is about a question that is not"),
    "unknown user": (KEY, at(4, user=7), r"key\.parquet: data row 4 is about a user who is in no history .*: .*user 7"),
    "two users": (KEY, lambda rows: pl.concat([rows, rows.head(1).with_columns(user=pl.lit(107, pl.Int64))]),
                  r"key\.parquet: data row \d+ is about another user than the question"),
    "unknown item": (QUESTIONS, at(3, item=999), r"questions\.parquet: data row 3 has an item that is in no history"),
    "item of others": (KEY, lambda rows: rows.with_columns(
        item=pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(29)).otherwise("item")),
        r"key\.parquet: data row 1 has an item that is not in the history of the user"),
    "twice": (QUESTIONS, lambda rows: pl.concat([rows, rows.head(1)]).drop("position"),
              r"data row \d+ has an item a second time"),
    "one position twice": (QUESTIONS, at(4, position=1), r"data row 4 has a position of its question a second time"),
    "backwards": (QUESTIONS, lambda rows: rows.with_columns(position=-pl.col("position")),
                  r"data row \d+ comes, by its position, after what happened later in the history"),
    "no position": (QUESTIONS, at(2, position=None), r"data row 2 has a position that is no whole number"),
    "no question": (QUESTIONS, lambda rows: rows.head(0), r"questions\.parquet holds no questions"),
    "no column": (KEY, lambda rows: rows.drop("user"), r"key\.parquet: there is no column for the user among"),
    "no number": (QUESTIONS, at(1, query=None), r"questions\.parquet: data row 1 has no query id"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_told_with_file_and_row(name: str, tmp_path: Path) -> None:
    data, queries = drawn()
    write_questions(tmp_path, data, queries)
    file, change, words = FAULTS[name]
    change(pl.read_parquet(tmp_path / file)).write_parquet(tmp_path / file)
    with pytest.raises(DataError, match=words) as told:
        read_questions(tmp_path, data)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("other", ["another draw", "other histories"])
def test_the_key_of_other_questions_is_refused(other: str, tmp_path: Path) -> None:
    data, queries = drawn()
    write_questions(tmp_path, data, queries)
    (tmp_path / "other").mkdir()
    if other == "another draw":
        again = draw_queries(data, 6, 0.5, np.random.default_rng(9))
        write_questions(tmp_path / "other", data, again)
    else:
        write_questions(tmp_path / "other", *drawn(5))
    (tmp_path / KEY).write_bytes((tmp_path / "other" / KEY).read_bytes())
    with pytest.raises(DataError, match=r"key\.parquet: data row .*another key|or the key is|not in key\.parquet"):
        read_questions(tmp_path, data)


def test_questions_are_named_by_their_folder(tmp_path: Path) -> None:
    data, queries = drawn()
    folder = tmp_path / "asked"
    folder.mkdir()
    write_questions(folder, data, queries)
    with pytest.raises(DataError, match=rf"\(--questions\), and .*{QUESTIONS} is a file; give its folder, {folder}$"):
        read_questions(folder / QUESTIONS, data)
    with pytest.raises(DataError, match=r"\(--questions\), and .*ask is none; did you mean 'asked'\?$"):
        read_questions(tmp_path / "ask", data)


def test_a_folder_without_questions(tmp_path: Path) -> None:
    data, queries = drawn()
    with pytest.raises(DataError, match=r"questions\.parquet: there is no such file of questions"):
        read_questions(tmp_path, data)
    write_questions(tmp_path, data, queries)
    (tmp_path / KEY).write_bytes((tmp_path / KEY).read_bytes()[:100])
    with pytest.raises(DataError, match=r"key\.parquet: cannot be read as Parquet, so that it may be cut short"):
        read_questions(tmp_path, data)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_answers_in_every_format(suffix: str, tmp_path: Path) -> None:
    data, queries = drawn(text=True)
    answers = np.full((len(queries), 3), -1, np.int32)
    for row in range(1, len(queries)):
        free = np.setdiff1d(np.arange(data.n_items), queries.asked[[row]].indices)
        answers[row, : 1 + row % 3] = free[: 1 + row % 3]
    numbers = IdMap(np.arange(len(queries)))
    write_answers(tmp_path / f"a.{suffix}", numbers, data.items, answers)
    found = read_answers(tmp_path / f"a.{suffix}", queries, numbers, data.items)
    assert np.array_equal(found, answers), "a question without an answer has an empty one"
    assert np.array_equal(read_answers(tmp_path / f"a.{suffix}", queries, numbers, data.items, 5)[:, :3], answers)
    with pytest.raises(DataError, match=r"has a rank out of 1\.\.2"):
        read_answers(tmp_path / f"a.{suffix}", queries, numbers, data.items, 2)


ANSWERS: dict[str, tuple[str, str]] = {
    "not asked": ("query,item,rank\n99,i1,1\n", r"data row 1 answers a question that was not asked: none of the 44"),
    "no header": ("0,i1,1\n", r"answers have the columns query, item and rank; .* header=no"),
    "rank twice": ("query,item,rank\n43,i2,1\n43,i3,1\n", r"data row 2 gives a rank to a second item of the query"),
    "gap": ("query,item,rank\n43,i2,2\n", r"query 43 has rank 2, but not rank 1"),
    "item twice": ("query,item,rank\n43,i2,2\n43,i2,1\n", r"query 43 has the item 'i2' more than once, at the ranks 1"),
    "unknown item": ("query,item,rank\n43,x,1\n", r"data row 1 has an unknown item"),
    "cut short": ("query,item,rank\n43,i2,1\n43,i3\n", r"data row 2 has no rank, so that the file may be cut short"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_faults_of_answers(name: str, tmp_path: Path) -> None:
    data, queries = drawn(text=True)
    # Nothing is asked with, so that these items are no part of the question.
    queries = Queries(queries.user, queries.asked * 0, queries.hidden)
    queries.asked.eliminate_zeros()
    text, words = ANSWERS[name]
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=rf"a\.csv:? {words}") as told:
        read_answers(tmp_path / "a.csv", queries, IdMap(np.arange(len(queries))), data.items)
    assert "\n" not in str(told.value)


def test_items_of_the_question_in_the_answer(tmp_path: Path) -> None:
    data, queries = drawn()
    item = data.items.ids[queries.asked[[3]].indices[0]]
    (tmp_path / "a.csv").write_text(f"query,item,rank\n3,{item},1\n")
    numbers = IdMap(np.arange(len(queries)))
    with pytest.raises(DataError, match=r"data row 1 answers with an item that the question asked with .*seen = false"):
        read_answers(tmp_path / "a.csv", queries, numbers, data.items)
    found = read_answers(tmp_path / "a.csv", queries, numbers, data.items, exclude_seen=False)
    assert found.shape == (len(queries), 1)


def test_columns_by_other_names(tmp_path: Path) -> None:
    data, queries = drawn()
    (tmp_path / "a.csv").write_text("q;sku;pos\n0;29;1\n")
    numbers = IdMap(np.arange(len(queries)))
    named = {"query": "q", "item": "sku", "rank": "pos", "separator": ";"}
    found = read_answers(tmp_path / "a.csv", queries, numbers, data.items, exclude_seen=False, named=named)
    assert data.items.ids[found[0, 0]] == 29
    with pytest.raises(DataError, match=r"a\.csv has no column 'p' for the rank"):
        read_answers(tmp_path / "a.csv", queries, numbers, data.items, named=named | {"rank": "p"})

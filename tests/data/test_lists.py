"""Lists in files: read as they were written, and every fault told with the file and the row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recmia.data import tables
from recmia.data.interactions import IdMap
from recmia.data.lists import read_items, read_lists, read_members, write_lists, write_members
from recmia.errors import DataError

N, M, K = 30, 40, 5
Change = Callable[[pl.DataFrame], pl.DataFrame]


def maps(text: bool = False) -> tuple[IdMap, IdMap]:
    users, items = np.arange(N) * 3 + 7, np.arange(M)[::-1] * 2 + 1
    return (IdMap(users.astype(str)), IdMap(items.astype(str))) if text else (IdMap(users), IdMap(items))


def table(text: bool = False) -> tuple[np.ndarray, pl.DataFrame]:
    """Lists and the rows that hold them, in no order."""
    rng = np.random.default_rng(0)
    users, items = maps(text)
    lists = np.stack([rng.permutation(M)[:K] for _ in range(N)]).astype(np.int32)
    frame = pl.DataFrame(
        {
            "rank": np.tile(np.arange(1, K + 1), N),
            "item": items.ids[lists.ravel()],
            "score": rng.random(N * K),
            "user": users.ids[np.repeat(np.arange(N), K)],
        }
    )
    return lists, frame.sample(fraction=1, shuffle=True, seed=1)


def write(frame: pl.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("text", [False, True], ids=["numbers", "text"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_lists_come_back_as_written(tmp_path: Path, suffix: str, text: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    lists, frame = table(text)
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 17)
    assert np.array_equal(read_lists(write(frame, tmp_path / f"lists.{suffix}"), *maps(text), K), lists)


def test_other_spellings(tmp_path: Path) -> None:
    lists, frame = table()
    named = frame.rename({"user": "userId", "item": "movieId", "rank": "Rank"})
    text = named.write_csv().replace("\n", "\r\n\r\n")
    (tmp_path / "lists.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert np.array_equal(read_lists(tmp_path / "lists.csv", *maps(), K), lists)
    folder = tmp_path / "lists.parquet"
    folder.mkdir()
    for part in range(3):
        write(frame[part * 50 : (part + 1) * 50], folder / f"part-{part}.parquet")
    assert np.array_equal(read_lists(folder, *maps(), K), lists)
    typed = frame.with_columns(pl.col("user").cast(pl.String).cast(pl.Categorical), pl.col("rank").cast(pl.UInt8))
    assert np.array_equal(read_lists(write(typed, tmp_path / "typed.parquet"), *maps(), K), lists)


def test_shorter_lists_are_padded_where_they_are_expected(tmp_path: Path) -> None:
    lists, frame = table()
    short = frame.filter((pl.col("user") != 7) | (pl.col("rank") <= 2)).filter(pl.col("user") != 10)
    path = write(short, tmp_path / "lists.csv")
    lengths = np.full(N, K)
    lengths[:2] = 2, 0
    lists[0, 2:] = lists[1] = -1
    assert np.array_equal(read_lists(path, *maps(), K, lengths=lengths), lists)
    lengths[0] = 3
    with pytest.raises(DataError, match="user 7 has 2 items and must have 3"):
        read_lists(path, *maps(), K, lengths=lengths)


def put(row: int, column: str, value: object) -> Change:
    def change(frame: pl.DataFrame) -> pl.DataFrame:
        column_of = frame[column].cast(pl.String).to_list()
        column_of[row] = value
        return frame.with_columns(pl.Series(column, column_of, dtype=pl.String))

    return change


def first(frame: pl.DataFrame, rank: int) -> int:
    """The row of user 7's item with this rank."""
    return int(frame.with_row_index("n").filter(user=7, rank=rank)["n"][0])


FAULTS: dict[str, tuple[Change, str]] = {
    "unknown item": (put(4, "item", "999"), "data row 5 has an unknown item, none of the 40 there are: .*item '999'"),
    "unknown user": (put(4, "user", "8"), "data row 5 has an unknown user, none of the 30 there are: user '8'"),
    "float item": (put(4, "item", "3.0"), "data row 5 has an unknown item"),
    "no item": (put(4, "item", None), "data row 5 has no item id"),
    "no user": (put(4, "user", None), "data row 5 has no user id"),
    "no rank": (put(4, "rank", None), "data row 5 has no rank"),
    "float rank": (put(4, "rank", "2.0"), "data row 5 has a rank that is no whole number: .*rank '2.0'"),
    "rank 0": (put(4, "rank", "0"), r"data row 5 has a rank out of 1\.\.5 \(the best item has rank 1\)"),
    "too many": (lambda f: pl.concat([f, f.filter(user=7, rank=5).with_columns(rank=pl.lit(6, pl.Int64))]),
                 r"data row 151 has a rank out of 1\.\.5"),
    "repeated rank": (lambda f: put(first(f, 3), "rank", "2")(f), "gives a rank to a second item of the user"),
    "repeated row": (lambda f: pl.concat([f, f[:1]]), "data row 151 gives a rank to a second item of the user"),
    "repeated item": (lambda f: put(first(f, 4), "item", str(f["item"][first(f, 2)]))(f),
                      r"user 7 has the item \d+ more than once, at the ranks 2 and 4"),
    "gap": (lambda f: f.filter((pl.col("user") != 7) | (pl.col("rank") != 3)), "user 7 has rank 4, but not rank 3"),
    "too few": (lambda f: f.filter((pl.col("user") != 7) | (pl.col("rank") < 4)),
                r"user 7 has 3 items and must have 5 \(1 of 30 users"),
    "missing user": (lambda f: f.filter(pl.col("user") > 10), r"user 7 has no list \(2 of 30 users have none\)"),
    "no rows": (lambda f: f[:0], r"user 7 has no list \(30 of 30"),
    "no column": (lambda f: f.drop("rank"), "there is no rank among 'item', 'score', 'user'"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_told_with_file_and_row(tmp_path: Path, fault: str, suffix: str) -> None:
    change, words = FAULTS[fault]
    path = write(change(table()[1]), tmp_path / f"lists.{suffix}")
    with pytest.raises(DataError, match=words) as caught:
        read_lists(path, *maps(), K)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_row_numbers_count_from_the_start_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 17)
    path = write(put(99, "item", "999")(table()[1]), tmp_path / "lists.parquet")
    with pytest.raises(DataError, match="data row 100 has an unknown item"):
        read_lists(path, *maps(), K)
    # The same rank in two pieces.
    frame = table()[1]
    path = write(pl.concat([frame, frame[:1]]), tmp_path / "lists.parquet")
    with pytest.raises(DataError, match="data row 151 gives a rank to a second item"):
        read_lists(path, *maps(), K)
    text = table()[1].drop("score").write_csv().splitlines()
    (tmp_path / "lists.csv").write_text("\n".join([text[0], text[1], "", "1,x,7", *text[2:]]))
    with pytest.raises(DataError, match="data row 3 has an unknown item"):
        read_lists(tmp_path / "lists.csv", *maps(), K)


@pytest.mark.parametrize("kind", [pl.Float64, pl.Boolean])
def test_ids_of_another_kind_are_refused(tmp_path: Path, kind: type[pl.DataType]) -> None:
    path = write(table()[1].with_columns(pl.col("user").cast(kind)), tmp_path / "lists.parquet")
    with pytest.raises(DataError, match=r"the user ids must be whole numbers or text.*holds (Float64|Boolean)"):
        read_lists(path, *maps(), K)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.csv", None, "there is no such file"),
        ("empty.csv", b"", "is empty"),
        ("noise.csv", bytes(range(256)) * 9, "is no text, since it holds zero bytes"),
        ("noise.parquet", bytes(range(256)) * 9, "cannot be read as Parquet, so that it may be cut short"),
        ("ragged.csv", b"user,item,rank\n7,1,1,4,5\n", "data row 1 has 5 fields, where the header has 3"),
        ("latin.csv", "user,item,rank\nJos\xe9,1,1\n".encode("latin-1"), "cannot be read|unknown user"),
    ],
)
def test_files_that_hold_no_lists(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_lists(tmp_path / name, *maps(), K)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
def test_half_a_file_is_noticed(tmp_path: Path, suffix: str, share: float) -> None:
    path = write(table()[1], tmp_path / f"lists.{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=f"lists.{suffix}: "):
        read_lists(path, *maps(), K)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_what_is_written_is_read(tmp_path: Path, suffix: str) -> None:
    lists, _ = table()
    lists[3, 2:] = -1
    users, items = maps()
    write_lists(tmp_path / f"lists.{suffix}", users, items, lists)
    assert np.array_equal(read_lists(tmp_path / f"lists.{suffix}", users, items, 0, shorter=True), lists)
    member = np.arange(N) % 3 == 0
    write_members(tmp_path / f"members.{suffix}", users, member)
    assert np.array_equal(read_members(tmp_path / f"members.{suffix}", users), member)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("user,member\n7,1\n7,0\n", r"data row 2 names a user a second time: '7' \(1 such rows\)"),
        ("7\n8\n", "data row 2 names a user who is in no history, where ids are whole numbers: '8'"),
        ("7,1\n10,maybe\n", "data row 2 has no label of membership, which is one of 1, true, yes, .*: 'maybe'"),
        ("7,1\n10\n", "data row 2 has no label of membership, which is one of 1, true, yes, .*: None"),
        ("user,is_member\n7,1\n", "no column is called member, and beside 'user' there is 'is_member'"),
        ("is_member,user,since\n1,7,2019\n", "no column is called member, and beside 'user' there is 'is_member', 's"),
        ("user,member\n7,1\n", r"user 10 is audited and has no row \(29 of 30 users have none\)"),
        ("user\n", "holds no user ids"),
        ("\n\n", "holds no user ids"),
    ],
)
def test_faults_of_members(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "members.csv").write_text(text)
    with pytest.raises(DataError, match=rf"members\.csv:? {words}"):
        read_members(tmp_path / "members.csv", maps()[0])


def test_items_of_either_kind(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("9\n7\n9\n")
    assert read_items(path, IdMap(np.array([1]))).ids.tolist() == [7, 9]
    assert read_items(path, IdMap(np.array(["a"]))).ids.tolist() == ["7", "9"]
    path.write_text("movieId\nx\n")
    assert read_items(path, IdMap(np.array(["a"]))).ids.tolist() == ["x"]
    with pytest.raises(DataError, match="data row 1 has an item id that is no whole number: 'x'"):
        read_items(path, IdMap(np.array([1])))

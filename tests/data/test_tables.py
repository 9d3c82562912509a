"""The reader of tables: one set of formats and one refusal for all kinds of tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recmia.data.histories import read_histories
from recmia.data.interactions import IdMap
from recmia.data.lists import read_items, read_lists, read_members
from recmia.data.tables import Layout, Rows, match_columns, open_table, write_table
from recmia.errors import DataError

IDS = IdMap(np.array([1, 2, 3]))
LAYOUT = Layout("samples", ("user", "member"), required=("user",), header_optional=True)

READERS: dict[str, Callable[[Path], object]] = {
    "histories": read_histories,
    "lists": lambda path: read_lists(path, IDS, IDS, 2, shorter=True),
    "members": lambda path: read_members(path, IDS),
    "items": lambda path: read_items(path, IDS),
}
GOOD = {
    "histories": "user,item,rating\n1,2,3\n1,3,4\n2,2,5\n3,1,1\n",
    "lists": "user,item,rank\n1,2,1\n1,3,2\n2,2,1\n3,1,1\n",
    "members": "user,member\n1,0\n2,1\n3,1\n",
    "items": "item\n1\n5\n9\n",
}
# A row to append, and what is said of it.
BAD = {
    "histories": ("2,1,good", "has a rating that is not a finite number: 'good'"),
    "lists": ("2,7,2", "has an unknown item, none of the 3 there are: user '2', item '7', rank '2'"),
    "members": ("8,1", "names a user who is in no history, where ids are whole numbers: '8'"),
    "items": ("1.5", "has an item id that is no whole number: '1.5'"),
}


def write(folder: Path, text: str, suffix: str) -> Path:
    """Write comma-separated text in another format, all columns as text."""
    path = folder / f"table{suffix}"
    if suffix == ".parquet":
        pl.read_csv(text.encode(), infer_schema=False).write_parquet(path)
    else:
        path.write_text(text.replace(",", "\t") if suffix == ".tsv" else text)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("kind", READERS)
def test_every_table_names_file_row_value_and_how_many(kind: str, suffix: str, tmp_path: Path) -> None:
    READERS[kind](write(tmp_path, GOOD[kind], suffix))
    row, words = BAD[kind]
    path = write(tmp_path, GOOD[kind] + f"{row}\n{row}\n", suffix)
    with pytest.raises(DataError) as caught:
        READERS[kind](path)
    assert str(caught.value) == f"{path}: data row {GOOD[kind].count(chr(10))} {words} (2 such rows)"


@pytest.mark.parametrize("kind", READERS)
def test_blank_lines_are_no_rows_but_count(kind: str, tmp_path: Path) -> None:
    lines = GOOD[kind].splitlines()
    spaced = "\n".join([lines[0], "", lines[1], "", "", *lines[2:], "", ""])
    READERS[kind](write(tmp_path, spaced, ".csv"))
    row, words = BAD[kind]
    with pytest.raises(DataError) as caught:
        READERS[kind](write(tmp_path, f"{spaced}{row}\n", ".csv"))
    assert f"data row {len(lines) + 4} {words} (1 such rows)" in str(caught.value)


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.csv", None, "there is no such file of {kind}"),
        ("empty.csv", b"", "the file of {kind} is empty"),
        ("noise.parquet", bytes(range(256)) * 9, "cannot be read as Parquet, so that it may be cut short: "),
        (
            "ragged.csv",
            b"user,item,rank\n7,1,1,4,5\n",
            "data row 1 has 5 fields, where the header has 3: '7', '1', '1'",
        ),
    ],
)
def test_files_that_are_no_tables(kind: str, name: str, content: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        READERS[kind](path)
    assert str(caught.value).startswith(f"{path}: {words.format(kind=kind)}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["histories", "lists", "members"])
def test_ids_of_other_types_are_refused(kind: str, tmp_path: Path) -> None:
    frame = pl.read_csv(GOOD[kind].encode()).with_columns(pl.col("user").cast(pl.Float64))
    frame.write_parquet(tmp_path / "floats.parquet")
    with pytest.raises(DataError, match=r"floats\.parquet: the user ids must be .*holds Float64, the first is 1\.0"):
        READERS[kind](tmp_path / "floats.parquet")


@pytest.mark.parametrize("kind", ["histories", "lists", "members", "items"])
def test_a_row_without_an_id_is_refused(kind: str, tmp_path: Path) -> None:
    role = "item" if kind == "items" else "user"
    frame = pl.read_csv(GOOD[kind].encode())
    frame = pl.concat([frame, frame[:1].with_columns(pl.lit(None, pl.Int64).alias(role))])
    frame.write_parquet(tmp_path / "nulls.parquet")
    with pytest.raises(DataError, match=rf"nulls\.parquet: data row {len(frame)} has no {role} id"):
        READERS[kind](tmp_path / "nulls.parquet")


def test_a_latin_1_file_is_read_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "members.csv"
    path.write_bytes("user\nJos\xe9\nAm\xe9lie\n".encode("latin-1"))
    table = open_table(path, LAYOUT)
    assert table.rows().frame["user"].to_list() == ["José", "Amélie"]
    assert table.notes == ("the file is not UTF-8 and was read as latin-1",)
    # Cut within a letter.
    path.write_bytes("user\nJosé".encode()[:-1])
    assert open_table(path, LAYOUT).notes


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("user\na\nb\n", [("a",), ("b",)]),
        ("a\nb\n", [("a",), ("b",)]),
        ("a,1\nb,0\n", [("a", "1"), ("b", "0")]),
        ("member,user\n1,a\n", [("a", "1")]),
        ("\n\nuser\na\n", [("a",)]),
        ("\n\na\n\nb\n", [("a",), ("b",)]),
    ],
)
def test_a_header_that_may_be_missing(text: str, rows: list[tuple[str, ...]], tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    assert open_table(tmp_path / "t.csv", LAYOUT).rows().frame.rows() == rows


def test_more_columns_than_roles_need_a_header(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,1,x\nb,0,y\n")
    with pytest.raises(DataError, match="has no column for the user; found 'a', '1', 'x'"):
        open_table(tmp_path / "t.csv", LAYOUT)


def test_all_columns_that_lack_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("who,what,place\na,b,1\n")
    with pytest.raises(
        DataError, match=r"no user or item or rank among .*; name them: --lists-columns user=NAME,item=NAME,rank=NAME "
    ) as told:
        READERS["lists"](tmp_path / "t.csv")
    assert "(setting lists_columns)" in str(told.value)


def test_a_wrong_separator_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("user;item;rank\n1;2;1;4\n")
    with pytest.raises(DataError, match="the header looks separated by ';'; name it: --columns-separator ';'"):
        READERS["histories"](tmp_path / "t.csv")
    with pytest.raises(DataError, match="looks separated by ';'; name it: --lists-columns 'separator=;' "):
        READERS["lists"](tmp_path / "t.csv")


@pytest.mark.parametrize(("separator", "mark"), [(";", ";"), ("::", "::"), ("", ",")])
def test_separators(separator: str, mark: str, tmp_path: Path) -> None:
    (tmp_path / "t.dat").write_text(f"user{mark}member\n1{mark}0\n")
    assert open_table(tmp_path / "t.dat", LAYOUT, separator=separator).rows().frame.rows() == [("1", "0")]


def test_names_by_the_user_go_first_and_must_be_there() -> None:
    names = ["User", "who", " MEMBER "]
    assert match_columns(Path("t"), names, LAYOUT, {"user": "who"}) == {"user": "who", "member": " MEMBER "}
    with pytest.raises(DataError, match="t has no column 'woh' for the user; did you mean 'who'"):
        match_columns(Path("t"), names, LAYOUT, {"user": "woh"})


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_pieces_hold_all_rows_with_their_numbers(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"t{suffix}"
    write_table(pl.DataFrame({"user": [f"u{n}" for n in range(10)]}), path)
    table = open_table(path, LAYOUT)
    for _ in range(2):
        pieces = list(table.pieces(4))
        assert [len(piece.frame) for piece in pieces] == [4, 4, 2]
        assert pl.concat(piece.frame for piece in pieces).equals(table.rows().frame)
    with pytest.raises(DataError, match=r"data row 9 is bad: 'u8' \(2 such rows\)"):
        pieces[2].refuse(pl.Series([True, True]), "is bad", "user")


def test_numbers_of_pieces_skip_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("user\na\n\nb\nc\n\nd\n")
    pieces = list(open_table(tmp_path / "t.csv", LAYOUT).pieces(3))
    with pytest.raises(DataError, match="data row 6 is bad: 'd'"):
        pieces[1].refuse(np.array([True]), "is bad", "user")


def test_folders_of_parquet_and_odd_names(tmp_path: Path) -> None:
    folder = tmp_path / "all.parquet"
    folder.mkdir()
    for part in range(3):
        write_table(pl.DataFrame({"user": [part]}), folder / f"part-{part}.parquet")
    assert open_table(folder, LAYOUT).rows().frame["user"].to_list() == [0, 1, 2]
    for name in ("a[1]*.csv", "a[1].parquet"):
        write_table(pl.DataFrame({"user": [7]}), tmp_path / name)
        assert open_table(tmp_path / name, LAYOUT).rows().frame.height == 1


def test_rows_of_ids_match_as_they_are_written() -> None:
    texts, numbers = IdMap(np.array(["007", "7", "x"])), IdMap(np.array([7, 9]))

    def rows(values: list[object], known: IdMap) -> list[int]:
        found = Rows(Path("t"), pl.DataFrame({"user": values})).rows_of("user", known, "is unknown")
        return [int(row) for row in found]

    assert rows(["x", "7", "007"], texts) == [2, 1, 0]
    assert rows([7], texts) == [1]
    assert rows(["9", "7"], numbers) == rows([9, 7], numbers) == [1, 0]
    with pytest.raises(DataError, match="t: data row 1 is unknown: '007'"):
        rows(["007"], numbers)

"""Files as people have them: each format of docs/your-data.md on a small file, and the ways to misread one."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import re
import shlex
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from recmia.data.datasets import load
from recmia.data.formats import read_file
from recmia.data.histories import Histories, read_histories
from recmia.data.interactions import IdMap, Interactions
from recmia.data.lists import read_items, read_lists, read_members, read_trained, read_users
from recmia.errors import DataError
from recmia.settings.data import Columns

PAGE = Path(__file__).parents[2] / "docs" / "your-data.md"
# The same events, in every format.
ROWS = [(1, 10, 4.0, 978300760), (1, 20, 3.5, 978300761), (2, 10, 1.0, 978300762)]
NAMES = ("userId", "movieId", "rating", "timestamp")
FRAME = pl.DataFrame(ROWS, schema=NAMES, orient="row")
CSV = FRAME.write_csv()
UNTITLED = FRAME.write_csv(include_header=False)
OPTIONS: Mapping[str, str] = MappingProxyType({})


def separated(mark: str, text: str = CSV) -> str:
    return text.replace(",", mark)


def parquet(frame: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.write_parquet(stream)
    return stream.getvalue()


def nested() -> pl.DataFrame:
    """A row for each user, as Spark and LensKit write them."""
    entries = pl.struct("movieId", "rating", "timestamp").alias("recommendations")
    return FRAME.group_by("userId", maintain_order=True).agg(entries)


def lists_of_each() -> pl.DataFrame:
    columns = {"items": pl.col("movieId"), "ratings": pl.col("rating"), "times": pl.col("timestamp")}
    return FRAME.group_by("userId", maintain_order=True).agg(**columns)


def atomic() -> str:
    return CSV.replace(",".join(NAMES), "user_id:token,item_id:token,rating:float,timestamp:float").replace(",", "\t")


# Each row of the first table of the page: name and content of a file, and the options that it takes.
TAKEN: dict[str, tuple[str, str | bytes, Mapping[str, Any]]] = {
    "comma-separated": ("a.csv", CSV, OPTIONS),
    "tab-separated": ("a.tsv", separated("\t"), OPTIONS),
    "separated by `;`, `\\|`, a tab or `::`": ("a.csv", separated(";"), OPTIONS),
    "separated otherwise": ("a.txt", separated(" "), {"separator": " "}),
    "without a header": ("u.data", separated("\t", UNTITLED), {"header": False}),
    "without a header, columns in another order": (
        "a.csv", FRAME.select("movieId", "userId").write_csv(include_header=False),
        {"header": False, "user": "2", "item": "1"},
    ),
    "other names of columns": (
        "a.csv", CSV.replace("userId", "who").replace("movieId", "what"), {"user": "who", "item": "what"}
    ),
    "RecBole's atomic files": ("a.inter", atomic(), OPTIONS),
    "JSON lines": ("a.jsonl", FRAME.write_ndjson(), OPTIONS),
    "a JSON list of objects": ("a.json", FRAME.write_json(), OPTIONS),
    "Parquet": ("a.parquet", parquet(FRAME), OPTIONS),
    "Parquet with a list of items in each row": ("a.parquet", parquet(lists_of_each()), OPTIONS),
    "the same as structs": ("a.parquet", parquet(nested()), OPTIONS),
    "packed with gzip, bzip2 or xz": ("a.csv.gz", gzip.compress(CSV.encode()), OPTIONS),
    "UTF-16, UTF-32": ("a.csv", CSV.encode("utf-16"), OPTIONS),
    "latin-1": ("a.csv", CSV.replace("\n", ",né\n").encode("latin-1"), OPTIONS),
    "line ends of old Macs": ("a.csv", CSV.replace("\n", "\r"), OPTIONS),
}  # fmt: skip


def sqlite() -> bytes:
    database = sqlite3.connect(":memory:")
    database.execute("create table ratings (user, item)")
    content = database.serialize()
    database.close()
    return content


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, CSV)
    return stream.getvalue()


def tarred() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.csv"))
    return stream.getvalue()


def saved(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def arrow() -> bytes:
    stream = io.BytesIO()
    FRAME.write_ipc(stream)
    return stream.getvalue()


# Each row of the second table: content, and what the refusal says.
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "Excel": (lambda: zipped("[Content_Types].xml"), "is an Excel workbook.*save the sheet as CSV"),
    "Excel, before 2007": (lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an old Excel workbook.*as CSV"),
    "OpenDocument": (lambda: zipped("mimetype"), "is an OpenDocument sheet.*save the sheet as CSV"),
    "ZIP": (lambda: zipped("ratings.csv"), "is a ZIP archive.*unpack it, and name the file in it"),
    "TAR": (lambda: tarred(), "is a TAR archive.*unpack it"),
    "TAR, packed": (lambda: gzip.compress(tarred()), "is a TAR archive.*unpack it"),
    "7z": (lambda: b"7z\xbc\xaf\x27\x1c", "is a 7z archive.*unpack it"),
    "zstd": (lambda: b"\x28\xb5\x2f\xfd\x04", "is packed with zstd.*zstd -d"),
    "SQLite": (sqlite, "is a SQLite database.*sqlite3 -header -csv"),
    "pickle": (lambda: pickle.dumps(ROWS), "is a pickle.*DataFrame.to_parquet"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n", "is an HDF5 file.*pandas.read_hdf"),
    "NumPy": (lambda: saved(np.arange(3)), "is an array of NumPy.*as Parquet or CSV"),
    "Arrow, Feather": (lambda: arrow(), "is an Arrow file.*polars.read_ipc"),
    "ORC": (lambda: b"ORC\x08\x03", "is an ORC file.*as Parquet or CSV"),
    "Avro": (lambda: b"Obj\x01\x04", "is an Avro file.*as Parquet or CSV"),
    "a web page": (lambda: b"\n<!DOCTYPE html><title>Sign in</title>", "is a web page.*download the file itself"),
    "a pointer of Git LFS": (lambda: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "other binary files": (lambda: bytes(range(256)), "is no text, since it holds zero bytes"),
}


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(folder: Path, content: str | bytes, name: str = "a.csv", **options: Any) -> Histories:
    return read_histories(put(folder, name, content), Columns(**options))


def refused(folder: Path, content: str | bytes, name: str = "a.csv", **options: Any) -> str:
    path = put(folder, name, content)
    with pytest.raises(DataError) as caught:
        read_histories(path, Columns(**options))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rows(table: pl.DataFrame) -> list[tuple[Any, ...]]:
    return table.select("user", "item", "rating", "time").rows()


@pytest.mark.parametrize("label", TAKEN)
def test_formats_that_are_taken(label: str, tmp_path: Path) -> None:
    name, content, options = TAKEN[label]
    found = read(tmp_path, content, name, **options).frame
    if "rating" in found.columns:
        assert rows(found) == ROWS
    else:
        assert found.rows() == [row[:2] for row in ROWS]


@pytest.mark.parametrize("label", REFUSED)
def test_formats_that_are_refused(label: str, tmp_path: Path) -> None:
    make, words = REFUSED[label]
    # Whatever it is called.
    for name in ("a.csv", "a.bin", "ratings"):
        assert re.search(words, refused(tmp_path, make(), name))


def test_the_page_lists_these_formats() -> None:
    first = re.findall(r"^\| ((?:\\\||[^|])+?) \|", PAGE.read_text(), re.MULTILINE)
    assert [cell for cell in first if cell in TAKEN or cell in REFUSED] == [*TAKEN, *REFUSED]


# Separators.


@pytest.mark.parametrize(("mark", "shown"), [(";", ";"), ("|", "|"), ("\t", "tab"), ("::", "::")])
def test_a_separator_that_is_told_by_the_lines_is_noted(mark: str, shown: str, tmp_path: Path) -> None:
    found = read(tmp_path, separated(mark), "ratings.dat")
    assert rows(found.frame) == ROWS
    assert found.notes == (f"fields are separated by {shown!r}",)
    assert rows(read(tmp_path, separated(mark, UNTITLED), "r.dat", header=False).frame) == ROWS
    assert read(tmp_path, separated(mark), separator=shown).notes == ()


def test_commas_in_a_tsv_are_told(tmp_path: Path) -> None:
    assert rows(read(tmp_path, CSV, "a.tsv").frame) == ROWS


@pytest.mark.parametrize(
    "text", ["user;item|x\n1;2|3\n", "user;item\n1;2;3\n", "user:item\n1:2\n"], ids=["two", "uneven", "unknown"]
)
def test_a_separator_is_never_guessed(text: str, tmp_path: Path) -> None:
    assert "no column for the user" in refused(tmp_path, text)


def test_spaces_around_names_of_columns(tmp_path: Path) -> None:
    text = " user , item, when,x , x\n1, 7, 3,a,b\n"
    found = read(tmp_path, text, user="user", item="item", time="when")
    assert found.frame.rows() == [(1, 7, 3)]
    assert found.columns == {"user": "user", "item": "item", "time": "when"}
    assert "the column 'x' stands twice in the header" in refused(tmp_path, text, text="x")


@pytest.mark.parametrize(("mark", "shown"), [(" ", "' '"), ("^", "^")])
def test_what_seems_to_separate_is_named(mark: str, shown: str, tmp_path: Path) -> None:
    mend = re.escape(f"looks separated by {mark!r}; name it: --columns-separator {shlex.quote(mark)} ")
    assert re.search(f"the header {mend}", refused(tmp_path, separated(mark)))
    assert re.search(f"the first line '1.*' {mend}", refused(tmp_path, separated(mark, UNTITLED), header=False))
    assert rows(read(tmp_path, separated(mark, UNTITLED), header=False, separator=mark).frame) == ROWS


def test_separators_within_quotes_are_none(tmp_path: Path) -> None:
    found = read(tmp_path, 'user;item;title\n1;2;"a;b"\n1;3;c\n')
    assert found.frame.rows() == [(1, 2), (1, 3)]
    found = read(tmp_path, 'user::item::title\n1::2::"a::b"\n1::3::"c\td"\n', separator="::")
    assert found.frame.rows() == [(1, 2), (1, 3)]


# Headers.


@pytest.mark.parametrize("name", ["a.tsv", "a.csv"])
def test_a_first_row_of_data_is_not_eaten(name: str, tmp_path: Path) -> None:
    text = "u1\ti1\t3\nu1\ti2\t4\nu2\ti1\t5\n"
    words = refused(tmp_path, text, name)
    assert "no column for the user or item; found 'u1', 'i1', '3'" in words
    assert "if the first line is data, --no-header (setting columns.header = false)" in words
    found = read(tmp_path, text, name, header=False)
    assert found.frame.rows() == [("u1", "i1", 3.0), ("u1", "i2", 4.0), ("u2", "i1", 5.0)]
    assert found.columns == {"user": "1", "item": "2", "rating": "3"}


def test_numbers_of_columns_need_the_option(tmp_path: Path) -> None:
    words = refused(tmp_path, "1,7,3\n2,8,4\n", user="1", item="7")
    assert "the first line looks like data, '1', '7', '3', and would be lost as a header; if there is none: " in words
    assert "--no-header" in words
    # What pandas writes without names.
    assert read(tmp_path, "0,1\n5,7\n", user="0", item="1").frame.rows() == [(5, 7)]


def test_a_header_that_was_not_announced_is_no_row(tmp_path: Path) -> None:
    words = refused(tmp_path, "user,item\n1,2\n", header=False)
    assert "the first line is a header, since it holds 'user', 'item'" in words


def test_without_a_header_columns_have_numbers(tmp_path: Path) -> None:
    found = read(tmp_path, "x,7,1\nx,8,2\n", header=False, user="3", item="2")
    assert found.frame.rows() == [(1, 7), (2, 8)]
    assert found.columns == {"user": "3", "item": "2"}
    assert "has no column '4' for the item; " in refused(tmp_path, "x,7,1\n", header=False, user="1", item="4")
    words = refused(tmp_path, "1,2,3,4,5\n", header=False)
    assert "no header and 5 columns, the first row is '1', '2', '3', '4', '5': number those of user, item" in words
    # In the third place, a time would be taken for a rating.
    words = refused(tmp_path, "1,2,978300760\n", header=False)
    assert "looks like a time in its third column: number the columns, as --columns-user 1 " in words
    assert read(tmp_path, "1,2,978300760\n", header=False, user="1", item="2", time="3").frame["time"][0] == 978300760
    assert read(tmp_path, "\n\n1,2\n\n3,4\n", header=False).frame.rows() == [(1, 2), (3, 4)]
    assert read(tmp_path, "\ufeff1,2\n", header=False).frame.rows() == [(1, 2)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "userId,uid,item\n1,1,2\n",
            "has 2 columns for the user: 'userId', 'uid'; name the one .* --columns-user userId",
        ),
        ("user,item,item\n1,2,3\n", "the column 'item' stands twice in the header; rename one"),
        ("user,item,rating,score\n1,2,3,4\n", "has 2 columns for the rating: 'rating', 'score'"),
        ("user,item,timestamp,date\n1,2,3,4\n", "has 2 columns for the time: 'timestamp', 'date'"),
    ],
)
def test_two_candidates_are_a_question(text: str, words: str, tmp_path: Path) -> None:
    assert re.search(words, refused(tmp_path, text))


def test_a_named_column_settles_the_question(tmp_path: Path) -> None:
    found = read(tmp_path, "userId,uid,item\n1,5,2\n", user="uid")
    assert found.frame.rows() == [(5, 2)]
    # And is no candidate for another role.
    found = read(tmp_path, "user,item,rating,score\n1,2,3,4\n", rating="score")
    assert found.frame.rows() == [(1, 2, 4.0)]


def test_a_column_plays_one_role(tmp_path: Path) -> None:
    words = refused(tmp_path, "user,item\n1,2\n", user="user", item="user")
    assert words.endswith("a.csv: the column 'user' is named for two, the user and the item")
    assert "named for two, the rating and the time" in refused(tmp_path, CSV, rating="rating", time="rating")


# Rows.


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "user,item,rating\n1,7,3\n1,8,4,x\n",
            "data row 2 has 4 fields, where the header has 3: '1', '8', '4', 'x' (1 such",
        ),
        ("user,item\n\n1,2\n1,2,3\n4,5,6\n", "data row 3 has 3 fields, where the header has 2: '1', '2', '3' (2 such"),
        ('user,item,"t"\n1,7,"a,b"\n1,8,a,b\n', "data row 2 has 4 fields, where the header has 3"),
    ],
)
def test_a_row_with_too_many_fields_is_named(text: str, words: str, tmp_path: Path) -> None:
    assert words in refused(tmp_path, text)


def test_such_a_row_without_a_header(tmp_path: Path) -> None:
    words = refused(tmp_path, "1,7,3\n1,8,4,x\n", header=False)
    assert "data row 2 has 4 fields, where the first row has 3: '1', '8', '4', 'x' (1 such rows)" in words


@pytest.mark.parametrize(
    "text", ["user,item,rating\n1,7,  3\n", "user, item, rating\n 1, 7, 3\n", 'user,item,rating\n1 ,7 ,"3 "\n']
)
def test_spaces_around_numbers(text: str, tmp_path: Path) -> None:
    assert read(tmp_path, text).frame.rows() == [(1, 7, 3.0)]


def test_spaces_of_text_ids_are_kept(tmp_path: Path) -> None:
    assert read(tmp_path, "user,item\na b,x \n").frame.rows() == [("a b", "x ")]


def test_spaces_around_the_numbers_of_lists(tmp_path: Path) -> None:
    ids = IdMap(np.array([1, 2]))
    path = put(tmp_path, "l.csv", "user, item, rank\n1, 2, 1\n2, 1, 1\n")
    assert read_lists(path, ids, ids, 1).tolist() == [[1], [0]]


@pytest.mark.parametrize(
    ("title", "noted"),
    [
        ('"Weird Al" Yankovic', True),
        ('Alfred "Weird Al" Yankovic', True),
        ('12" mix', True),
        ('single 7"', True),
        ('"Heroes', True),
        (' "a, b"', True),
        ('"say ""a, b"""', False),
        ('"two\nlines"', False),
    ],
)
def test_quotes_in_columns_that_are_not_used(title: str, noted: bool, tmp_path: Path) -> None:
    text = f'user,title,item\n1,{title},7\n2,plain,8\n3,"a, b",9\n'
    for name, content in (("a.csv", text), ("b.csv", text.replace("\n", "\r\n")), ("c.csv", "\ufeff" + text)):
        if noted or "\r" not in content:
            found = read(tmp_path, content, name)
            assert found.frame.rows() == [(1, 7), (2, 8), (3, 9)]
            assert bool(found.notes) == noted


def test_quotes_are_read_as_they_are_meant(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", 'user,title\n1,"Weird Al" Yankovic\n2,"a ""b"", c"\n3,12" mix\n')
    assert read_file(path).frame.collect()["title"].to_list() == ['"Weird Al" Yankovic', 'a "b", c', '12" mix']


def test_quotes_that_break_a_row_name_it(tmp_path: Path) -> None:
    words = refused(tmp_path, 'user,title,item\n1,"a "b, c" d",7\n')
    assert "data row 1 has 4 fields, where the header has 3" in words


def test_a_cut_quote_at_the_end_of_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recmia.data.formats._BYTES_AT_ONCE", 1)
    assert read(tmp_path, 'user,item\n"a ""b"", c",7\né,8\n').notes == ()
    assert read(tmp_path, 'user,item\n"a "b" c",7\n').notes != ()


# Bytes.


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_text(encoding: str, tmp_path: Path) -> None:
    found = read(tmp_path, "user;item\nJosé;七人の侍\n".encode(encoding))
    assert found.frame.rows() == [("José", "七人の侍")]
    assert found.notes[0] == f"read as {encoding[:6].upper()}"
    assert "cannot be read as utf-16" in refused(tmp_path, CSV.encode("utf-16")[:-1]).lower()


def test_latin_1_of_any_separator(tmp_path: Path) -> None:
    found = read(tmp_path, "user;item\nJosé;Café\n".encode("latin-1"))
    assert found.frame.rows() == [("José", "Café")]
    assert found.notes == ("the file is not UTF-8 and was read as latin-1", "fields are separated by ';'")


def test_carriage_returns_alone_end_lines(tmp_path: Path) -> None:
    text = "user,item,title\r" + "".join(f'{n},{n % 7},"a ""b"", c"\r' for n in range(400))
    assert read(tmp_path, text).frame.rows() == [(n, n % 7) for n in range(400)]


@pytest.mark.parametrize("rest", ["\n", "\n5,5\n6,6\n", "\r\n5,5\r\n6,6\r\n"])
def test_what_is_added_to_such_a_file_may_end_otherwise(rest: str, tmp_path: Path) -> None:
    found = read(tmp_path, f"user,item\r1,7\r2,8{rest}").frame.rows()
    assert found == [(1, 7), (2, 8), (5, 5), (6, 6)][: 4 if "5" in rest else 2]


def test_a_carriage_return_alone_among_other_ends(tmp_path: Path) -> None:
    found = read(tmp_path, 'user,item,title\n1,2,"a\rb"\n1,3,c\n').frame
    assert found.rows() == [(1, 2), (1, 3)]
    words = refused(tmp_path, "user,item\n1,7\n2,8\r3,9\n4,9\n")
    assert words.endswith("data row 2 holds a carriage return alone, where other lines end otherwise; give all "
                          "lines the same end")  # fmt: skip


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv", "a.jsonl.xz", "a.parquet.gz"])
def test_what_is_packed(name: str, pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    content = parquet(FRAME) if "parquet" in name else FRAME.write_ndjson().encode() if "json" in name else CSV.encode()
    assert rows(read(tmp_path, pack(content), name).frame) == ROWS
    assert "cannot be unpacked, so that it may be cut short" in refused(tmp_path, pack(content * 9)[:-9], name)
    assert refused(tmp_path, pack(b""), name).endswith("is empty")


def test_tabs_of_a_packed_tsv(tmp_path: Path) -> None:
    found = read(tmp_path, gzip.compress(separated("\t").encode()), "a.tsv.gz")
    assert rows(found.frame) == ROWS
    assert found.notes == ()


# RecBole, JSON and Parquet.


def test_sequences_of_atomic_files(tmp_path: Path) -> None:
    text = "user_id:token\titem_id:token\tgenre:token_seq\n1\tx\tDrama War\n"
    found = read(tmp_path, text, "a.inter")
    assert found.frame.rows() == [(1, "x", "drama|war")]
    assert found.columns == {"user": "user_id", "item": "item_id", "text": "genre"}
    assert read(tmp_path, text.replace("\t", ","), "a.csv").frame.rows() == found.frame.rows()


def test_a_list_of_items_in_an_atomic_file(tmp_path: Path) -> None:
    text = "user_id:token\titem_id_list:token_seq\n1\ta b\n2\tc\n"
    assert read(tmp_path, text, "a.inter", item="item_id_list").frame["item"].to_list() == ["a", "b", "c"]


def test_lines_that_are_no_json_are_named(tmp_path: Path) -> None:
    text = '{"user":1,"item":2}\n\n{"user":1,"item":\n{"user":1\n'
    words = refused(tmp_path, text, "a.jsonl")
    assert 'data row 3 is no JSON object on a line of its own: \'{"user":1,"item":\' (2 such rows)' in words
    # Told by its bytes, whatever it is called.
    assert read(tmp_path, '\ufeff{"user":1,"item":2}\n', "log").frame.rows() == [(1, 2)]
    assert "cannot be read as JSON" in refused(tmp_path, '[{"user":1},', "a.json")
    for text in ("[1, 2]\n[1, 3]\n", "[[1, 2], [1, 3]]\n"):
        assert "data row 1 is no JSON object on a line of its own: '[" in refused(tmp_path, text, "a.json")


def test_json_of_mixed_ids_and_large_ones(tmp_path: Path) -> None:
    lines = [{"user": 7, "item": 2**63 + 1}, {"user": "x", "item": 3}]
    found = read(tmp_path, "".join(json.dumps(line) + "\n" for line in lines), "a.jsonl")
    assert found.frame.rows() == [("7", str(2**63 + 1)), ("x", "3")]


@pytest.mark.parametrize("big", [2**63, 2**64 - 1])
def test_unsigned_ids(big: int, tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": [big, 3], "item": [1, 2]}, schema={"user": pl.UInt64, "item": pl.UInt64})
    found = read(tmp_path, parquet(frame), "a.parquet")
    assert found.frame.rows() == [(str(big), 1), ("3", 2)]
    assert found.notes == ("some user ids are whole numbers beyond 64 bits with a sign; all are kept as text",)
    assert read(tmp_path, frame.write_csv()).notes == found.notes
    # In files that go together, they are the same ids.
    path = put(tmp_path, "m.parquet", parquet(frame.select("user")))
    assert read_users(path, IdMap(np.array([str(big), "3"]))).tolist() == [0, 1]
    path = put(tmp_path, "i.csv", f"item\n{big}\n")
    assert read_items(path, IdMap(np.array(["3"]))).ids.tolist() == [str(big)]


@pytest.mark.parametrize("big", [10**18, 2**63 - 1, -(2**63)])
def test_ids_of_19_digits_are_whole_numbers(big: int, tmp_path: Path) -> None:
    found = read(tmp_path, f"user,item\n{big},1\n5,2\n")
    assert found.frame.rows() == [(big, 1), (5, 2)]
    assert found.notes == ()


@pytest.mark.parametrize("suffix", [".parquet", ".pq", ""])
def test_parquet_is_told_by_its_bytes(suffix: str, tmp_path: Path) -> None:
    assert rows(read(tmp_path, parquet(FRAME), f"table{suffix}").frame) == ROWS


def test_a_folder_of_spark(tmp_path: Path) -> None:
    folder = tmp_path / "recommendations"
    folder.mkdir()
    for name, content in (("_SUCCESS", b""), (".part-0.parquet.crc", b"x"), ("notes.txt", b"x")):
        put(folder, name, content)
    put(folder, "part-00000.snappy.parquet", parquet(nested()[:1]))
    put(folder, "part-00001.snappy.parquet", parquet(nested()[1:]))
    data = load(folder, min_interactions=1)
    assert len(data.interactions) == 3
    assert data.report.columns["item"] == "movieId"


@pytest.mark.parametrize("column", [pl.List(pl.Int64), pl.Array(pl.Int64, 2)])
def test_nested_lists_are_histories_in_their_order(column: Any, tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": [1, 2], "items": [[30, 10], [10, 30]]}, schema_overrides={"items": column})
    found = read(tmp_path, parquet(frame), "a.parquet")
    assert found.frame.select("user", "item").rows() == [(1, 30), (1, 10), (2, 10), (2, 30)]
    assert found.columns == {"user": "user", "item": "items", "position": "place in the list"}
    data = load(tmp_path / "a.parquet", min_interactions=1).interactions
    assert data.items.ids[data.sequences().indices].tolist() == [30, 10, 10, 30]


def test_empty_lists_hold_nothing_and_uneven_ones_are_named(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": [1, 2, 3, 4], "items": [[5], [], None, [6, 7]], "ratings": [[1.0], [], None, [2.0]]})
    words = refused(tmp_path, parquet(frame), "a.parquet")
    assert "data row 4 has lists of different lengths, 2 in the item, 1 in the rating; give each item its rati" in words
    assert len(read(tmp_path, parquet(frame.drop("ratings")), "a.parquet").frame) == 3
    frame = frame.with_columns(items=pl.Series([[5], [], None, [6, None]]), ratings=pl.col("ratings"))
    assert "data row 4 has no item id" in refused(tmp_path, parquet(frame.drop("ratings")), "a.parquet")


def test_nested_lists_are_ranked_by_their_order(tmp_path: Path) -> None:
    users, items = IdMap(np.array([1, 2])), IdMap(np.array([10, 20, 30]))
    recommended = [[{"movieId": 30, "rating": 0.9}, {"movieId": 10, "rating": 0.2}], [{"movieId": 20, "rating": 0.1}]]
    path = put(tmp_path, "l.parquet", parquet(pl.DataFrame({"userId": [1, 2], "recommendations": recommended})))
    assert read_lists(path, users, items, 0, shorter=True).tolist() == [[2, 0], [1, -1]]
    flat = put(tmp_path, "f.parquet", parquet(pl.DataFrame({"userId": [1, 2], "item": [10, 20]})))
    with pytest.raises(DataError, match="there is no rank among 'userId', 'item'"):
        read_lists(flat, users, items, 0, shorter=True)


def test_pieces_of_nested_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recmia.data.tables.ROWS_AT_ONCE", 5)
    ids = IdMap(np.arange(40))
    lists = [[(7 * user + place) % 40 for place in range(user % 4)] for user in range(40)]
    path = put(tmp_path, "l.parquet", parquet(pl.DataFrame({"user": range(40), "items": lists})))
    lengths = np.arange(40) % 4
    found = read_lists(path, ids, ids, 3, lengths=lengths)
    assert [row[row >= 0].tolist() for row in found] == lists
    lists[33] = [99]
    put(tmp_path, "l.parquet", parquet(pl.DataFrame({"user": range(40), "items": lists})))
    with pytest.raises(DataError, match="data row 34 has an unknown item"):
        read_lists(path, ids, ids, 3, lengths=lengths)


def test_the_layouts_of_lenskit(tmp_path: Path) -> None:
    lenskit = pytest.importorskip("lenskit.data")
    lists = {user: lenskit.ItemList(items, ordered=True) for user, items in ((1, [30, 10]), (2, [20, 30]))}
    collection = lenskit.ItemListCollection.from_dict(lists, key="user_id")
    users, items = IdMap(np.array([1, 2])), IdMap(np.array([10, 20, 30]))
    for layout in ("native", "flat"):
        collection.save_parquet(tmp_path / "l.parquet", layout=layout)
        assert read_lists(tmp_path / "l.parquet", users, items, 2).tolist() == [[2, 0], [1, 2]]


def test_other_files_take_the_same_formats(tmp_path: Path) -> None:
    ids = IdMap(np.array([1, 2, 3]))
    lists = put(tmp_path, "l.jsonl", '{"user":1,"items":[2,3]}\n{"user":2,"items":[1,3]}\n{"user":3,"items":[1,2]}\n')
    assert read_lists(lists, ids, ids, 2).tolist() == [[1, 2], [0, 2], [0, 1]]
    untitled = put(tmp_path, "l.txt", "1|2|1\n2|3|1\n3|1|1\n")
    named = {"header": "no", "separator": "|"}
    assert read_lists(untitled, ids, ids, 1, named=named).tolist() == [[1], [2], [0]]
    named |= {"user": "2", "item": "1", "rank": "3"}
    assert read_lists(untitled, ids, ids, 1, named=named).tolist() == [[2], [0], [1]]
    members = put(tmp_path, "m.csv", "user;member\n1;0\n2;1\n3;1\n".encode("utf-16"))
    assert read_members(members, ids).tolist() == [False, True, True]
    with pytest.raises(DataError, match=r"looks separated by ';'; name it: --members-columns 'separator=;' "):
        read_members(put(tmp_path, "m.csv", "1;0\n2;1\n"), ids)
    with pytest.raises(
        DataError, match=r"if the first line is data, --deleted-columns header=no \(setting deleted_columns\)"
    ):
        read_users(put(tmp_path, "d.csv", "1;0\n2;1\n"), ids, kind="deleted")
    histories = Interactions.from_arrays([1, 1], [5, 6])
    trained = put(tmp_path, "t.csv.gz", gzip.compress(b"user,item,member\n1,5,1\n1,6,0\n"))
    assert read_trained(trained, histories).tolist() == [True, False]


# Ratings.


@pytest.mark.parametrize(
    ("ratings", "words"),
    [
        ([3, 3, 3], "all ratings are 3, so that they say nothing"),
        ([-1, 1, 5, 10, -1], "2 ratings are -1 among 1 to 10: if that means that there is none"),
        ([0, 1, 5, 10], "1 ratings are 0 among 1 to 10"),
        ([-9.5, -2, 3.25, 99, 99], "2 ratings are 99 among -9.5 to 3.25"),
    ],
)
def test_odd_ratings_are_pointed_out(ratings: list[float], words: str, tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": range(len(ratings)), "item": 1, "rating": ratings}, strict=False)
    (note,) = read(tmp_path, frame.write_csv()).notes
    assert note.startswith(words)


@pytest.mark.parametrize("ratings", [[0.5, 3, 5], [-9.5, -2, 3, 9], [0, 1], [0, 0.5, 1], [1, 2, 3, 99, 80], [1]])
def test_usual_ratings_are_not(ratings: list[float], tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": range(len(ratings)), "item": 1, "rating": ratings}, strict=False)
    assert read(tmp_path, frame.write_csv()).notes == ()


# Times.


STAMP = 1614834367


@pytest.mark.parametrize(
    ("unit", "in_second"), [("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9)]
)
@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_times_in_other_units(unit: str, in_second: int, name: str, tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": [1, 2], "item": [1, 1], "time": [STAMP * in_second, (STAMP + 9) * in_second]})
    found = read(tmp_path, parquet(frame) if name == "a.parquet" else frame.write_csv(), name)
    assert found.frame["time"].to_list() == [STAMP, STAMP + 9]
    assert found.notes == (f"times are in {unit}, by their size",)
    frame = pl.concat([frame, pl.DataFrame({"user": [3], "item": [1], "time": [STAMP]})])
    words = refused(tmp_path, frame.write_csv())
    assert f"data row 3 has a time in another unit than the {unit} of others: '{STAMP}' (1 such rows)" in words


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_datetimes_of_pandas_in_any_unit(unit: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": [1, 2], "item": [1, 1], "time": pd.to_datetime(["2021-03-04 05:06:07", None])})
    frame["time"] = frame["time"].astype(f"datetime64[{unit}]")
    frame.to_parquet(tmp_path / "a.parquet")
    found = read_histories(tmp_path / "a.parquet")
    assert found.frame["time"].to_list() == [STAMP, None]
    # As numbers, NaT is the least of all.
    frame["time"] = frame["time"].astype("int64")
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert read_histories(tmp_path / "a.csv").frame["time"].to_list() == [STAMP, None]


@pytest.mark.parametrize(
    "stamp",
    [
        "2021-03-04T05:06:07Z", "2021-03-04 05:06:07 UTC", "2021-03-04T07:06:07+02:00", "2021-03-04 00:06:07.000-0500",
        "2021/03/04 05:06:07", "2021-03-04T05:06:07.999", f"{STAMP}.5", f" {STAMP} ",
    ],
)  # fmt: skip
def test_times_as_text(stamp: str, tmp_path: Path) -> None:
    assert read(tmp_path, f"user,item,time\n1,1,{stamp}\n").frame["time"].to_list() == [STAMP]


def test_days_alone_and_other_types(tmp_path: Path) -> None:
    day = int(datetime.fromisoformat("2021-03-04T00:00:00+00:00").timestamp())
    assert read(tmp_path, "user,item,date\n1,1,2021-03-04\n1,2,2021-03-04 00:00\n").frame["time"].to_list() == [
        day,
        day,
    ]
    frame = pl.DataFrame({"user": [1], "item": [1], "time": ["2021-03-04"]}).with_columns(pl.col("time").str.to_date())
    assert read(tmp_path, parquet(frame), "a.parquet").frame["time"].to_list() == [day]
    frame = frame.with_columns(time=pl.duration(days=1))
    assert "times are numbers of seconds, or dates; the column 'time' holds Duration" in refused(
        tmp_path, parquet(frame), "a.parquet"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("03/04/2021", "neither seconds nor ISO dates such as 2021-03-04 05:06:07; the first is '03/04/2021'"),
        ("2021-03-04,\n1,3,2021-13-04", "data row 2 has a time that is no ISO date: '2021-13-04' (1 such rows)"),
        ("inf", "data row 1 has a time that is not a number of seconds: 'inf'"),
        ("5,\n1,3,2021-03-04", "data row 2 has a time that is not a number of seconds: '2021-03-04'"),
    ],
)
def test_times_that_cannot_be_used(text: str, words: str, tmp_path: Path) -> None:
    assert words in refused(tmp_path, f"user,item,time\n1,2,{text}\n".replace(",\n", "\n"))


@pytest.mark.parametrize("empty", ["", " ", "NaN", "NULL", r"\N", "NaT", '""'])
@pytest.mark.parametrize("stamp", [str(STAMP), "2021-03-04 05:06:07", f"{STAMP}.0"])
def test_empty_times_are_no_times(empty: str, stamp: str, tmp_path: Path) -> None:
    text = f"user,item,time\n1,1,{stamp}\n1,2,{empty}\n2,1,{empty}\n"
    found = read(tmp_path, text)
    assert found.frame["time"].to_list() == [STAMP, None, None]
    assert found.notes == ("2 of 3 interactions have no time, and do not count for recency",)
    data = load(tmp_path / "a.csv", min_interactions=1)
    assert data.report.notes == found.notes
    latest = data.interactions.last_time()
    assert latest is not None
    assert latest.tolist() == [STAMP, -np.inf]
    assert sorted(data.interactions.frame()["time"].to_list(), key=str) == [STAMP, None, None]


def test_no_time_at_all(tmp_path: Path) -> None:
    found = read(tmp_path, "user,item,time\n1,1,\n1,2,\n")
    assert found.frame.columns == ["user", "item"]
    assert found.notes == ("no time is known",)


def test_a_row_without_a_time_is_no_later_than_others(tmp_path: Path) -> None:
    text = "user,item,rating,time\n1,1,5,100\n1,1,3,\n1,2,4,50\n"
    put(tmp_path, "a.csv", text)
    data = load(tmp_path / "a.csv", min_interactions=1).interactions
    assert data.value.tolist() == [5, 4]


def test_times_within_a_second_keep_their_order(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": [1, 1, 1], "item": [1, 2, 3], "time": [STAMP * 1000 + 7, STAMP * 1000 + 2, 0]})
    put(tmp_path, "a.parquet", parquet(frame))
    data = load(tmp_path / "a.parquet", min_interactions=1).interactions
    assert data.items.ids[data.sequences().indices].tolist() == [3, 2, 1]


# What was taken.


def test_what_was_taken_is_told_in_a_line(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", CSV)
    report = load(tmp_path / "a.csv", min_interactions=1).report
    line = "  columns: user = userId, item = movieId, rating = rating, time = timestamp"
    assert str(report).splitlines()[1] == line
    assert "columns:" not in str(load("synthetic:40x60x1000", min_interactions=1).report)


def test_lists_of_one_user_in_several_rows_come_one_after_the_other(tmp_path: Path) -> None:
    """A row for each session: the places in the lists alone would mix the sessions."""
    path = tmp_path / "sessions.parquet"
    pl.DataFrame({"user": [0, 1, 0], "item": [[1, 2, 3], [9], [4, 5, 6]]}).write_parquet(path)
    data = load(path, min_interactions=1).interactions
    assert data.items.ids[data.sequences().indices].tolist() == [1, 2, 3, 4, 5, 6, 9]


def test_positions_may_be_whole_floats_and_a_bad_one_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item,position\n1,5,3.0\n1,6,1.0\n")
    data = load(path, min_interactions=1).interactions
    assert data.items.ids[data.sequences().indices].tolist() == [6, 5]
    for cell, words in (("", "has no position"), ("1.5", "has a position that is no whole number")):
        path.write_text(f"user,item,position\n1,5,3\n1,6,{cell}\n")
        with pytest.raises(DataError, match=f"data row 2 {words}; give every event one, or leave the column out"):
            load(path, min_interactions=1)
    pl.DataFrame({"user": [1, 1], "item": [5, 6], "position": [2.0, 1.0]}).write_parquet(tmp_path / "log.parquet")
    data = load(tmp_path / "log.parquet", min_interactions=1).interactions
    assert data.items.ids[data.sequences().indices].tolist() == [6, 5]

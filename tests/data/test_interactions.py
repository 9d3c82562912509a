"""The table of interactions: what it refuses and what it keeps."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmia import Interactions
from recmia.data.interactions import UNKNOWN_TIME, IdMap, join_users, over_common_items, with_items_of
from recmia.errors import DataError

PAIRS = st.sets(st.tuples(st.integers(-50, 50), st.integers(0, 30)), min_size=1, max_size=60)


def columns(**changed: Any) -> dict[str, Any]:
    good = {
        "user": np.array([0, 0, 1], np.int32),
        "item": np.array([0, 2, 1], np.int32),
        "value": np.array([1, 2, 3], np.float32),
        "time": None,
        "users": IdMap(np.array([10, 20])),
        "items": IdMap(np.array(["a", "b", "c"])),
    }
    return {**good, **changed}


def test_the_good_columns_are_good() -> None:
    data = Interactions(**columns())
    np.testing.assert_array_equal(data.csr().toarray(), [[1, 0, 2], [0, 3, 0]])
    np.testing.assert_array_equal(data.item_counts(), [1, 1, 1])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"user": np.array([], np.int32)}, "empty"),
        ({"user": np.array([0, 0, 2], np.int32)}, r"user rows must lie in 0\.\.1; found 0\.\.2"),
        ({"item": np.array([0, -1, 1], np.int32)}, r"item rows must lie in 0\.\.2"),
        ({"value": np.array([1, np.nan, 3], np.float32)}, "1 values are not finite, the first at interaction 1"),
        ({"value": np.array([1, 2, 3], np.float64)}, "value must be float32"),
        ({"value": np.array([1, 2], np.float32)}, "value must be float32"),
        ({"time": np.array([1, 2, 3], np.int32)}, "time must be int64"),
        ({"item": np.array([0, 0, 1], np.int32)}, "hold each pair once"),
        ({"user": np.array([1, 0, 0], np.int32)}, "sorted"),
    ],
)
def test_bad_columns_are_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        Interactions(**columns(**changed))


def test_ids_must_be_unique() -> None:
    with pytest.raises(DataError, match="without repeats"):
        IdMap(np.array([1, 1]))


def test_from_arrays_refuses_a_repeated_pair() -> None:
    with pytest.raises(DataError, match="each pair once"):
        Interactions.from_arrays([1, 1], [2, 2])


@pytest.mark.parametrize("ids", [[1.0, 2.0], [None, "a"], np.array([1, "a"], object), [True, False]])
def test_ids_of_other_types_are_refused(ids: Any) -> None:
    with pytest.raises(DataError, match="the item ids must be all whole numbers or all text; found"):
        Interactions.from_arrays([1, 2], ids)


def test_ids_beyond_64_bits_are_asked_for_as_text() -> None:
    with pytest.raises(DataError, match="found int, beyond 64 bits: give them as text"):
        Interactions.from_arrays([2**70, 1], [1, 2])


@pytest.mark.parametrize("name", ["item", "value", "time"])
def test_columns_of_unequal_length_are_refused(name: str) -> None:
    arrays: dict[str, Any] = {"user": [1, 2], "item": [3, 4], name: [5]}
    with pytest.raises(DataError, match=f"{name} must have one entry for each of the 2 users"):
        Interactions.from_arrays(**arrays)


def test_frame_and_back() -> None:
    data = Interactions(**columns(time=np.array([5, 9, 2])))
    frame = data.frame()
    again = Interactions.from_arrays(*(frame[name].to_numpy() for name in ("user", "item", "rating", "time")))
    assert again.unordered.fingerprint() == data.fingerprint()


def test_without_values_nothing_is_rated() -> None:
    data = Interactions.from_arrays([1, 2], ["x", "y"])
    assert not data.rated
    np.testing.assert_array_equal(data.value, [1, 1])


def test_arrays_cannot_be_changed() -> None:
    data = Interactions(**columns())
    with pytest.raises(ValueError, match="read-only"):
        data.value[0] = 9


@given(PAIRS, st.randoms(use_true_random=False))
def test_order_of_the_rows_does_not_matter(pairs: set[tuple[int, int]], random: Any) -> None:
    rows = sorted(pairs)
    shuffled = random.sample(rows, len(rows))
    built = [
        Interactions.from_arrays([u for u, _ in some], [i for _, i in some], [u + 0.5 * i for u, i in some])
        for some in (rows, shuffled)
    ]
    assert built[0].fingerprint() == built[1].fingerprint()
    users, items = built[0].users.ids, built[0].items.ids
    assert {(int(users[u]), int(items[i])) for u, i in zip(built[0].user, built[0].item, strict=True)} == pairs


@given(PAIRS, st.data())
def test_restrict_keeps_exactly_these_users(pairs: set[tuple[int, int]], data: st.DataObject) -> None:
    whole = Interactions.from_arrays([u for u, _ in pairs], [i for _, i in pairs])
    kept = sorted(data.draw(st.sets(st.integers(0, whole.n_users - 1), min_size=1)))
    part = whole.restrict(np.array(kept))
    assert part.items is whole.items
    np.testing.assert_array_equal(part.users.ids, whole.users.ids[kept])
    np.testing.assert_array_equal(part.csr().toarray(), whole.csr().toarray()[kept])


@pytest.mark.parametrize("users", [[], [1, 0], [0, 0]])
def test_restrict_refuses_unordered_users(users: list[int]) -> None:
    with pytest.raises(DataError, match="ascending"):
        Interactions(**columns()).restrict(np.array(users, np.int64))


def test_fingerprint_sees_every_column() -> None:
    base = Interactions(**columns(time=np.array([1, 2, 3])))
    others = [
        Interactions(**columns()),
        Interactions(**columns(time=np.array([1, 2, 4]))),
        Interactions(**columns(time=np.array([1, 2, 3]), value=np.array([1, 2, 4], np.float32))),
        Interactions(**columns(time=np.array([1, 2, 3]), users=IdMap(np.array([10, 21])))),
    ]
    prints = {data.fingerprint() for data in [base, *others]}
    assert len(prints) == len(others) + 1


def test_last_time() -> None:
    data = Interactions(**columns(time=np.array([5, 9, 2])))
    latest = data.last_time()
    assert latest is not None
    np.testing.assert_array_equal(latest, [9, 2])


def test_texts_go_by_item_id_and_come_back() -> None:
    data = Interactions.from_arrays([1, 1, 2], [30, 20, 20], texts={20: "drama|war", 99: "nobody's"})
    assert data.items.text == ("drama|war", "")
    frame = data.frame()
    assert frame["text"].cast(pl.String).to_list() == ["drama|war", None, "drama|war"]
    assert "text" not in Interactions.from_arrays([1], [2]).frame().columns


def test_other_data_over_given_items() -> None:
    other = Interactions.from_arrays([1, 1, 2, 3], [10, 20, 20, 30], [1.0, 2.0, 3.0, 4.0], [5, 6, 7, 8])
    found = with_items_of(other, IdMap(np.array([99, 20, 10])))
    assert found.users.ids.tolist() == [1, 2]
    np.testing.assert_array_equal(found.csr().toarray(), [[0, 2, 1], [0, 3, 0]])
    assert found.time is not None
    assert found.time.tolist() == [6, 5, 7]
    with pytest.raises(DataError, match="no item id in common"):
        with_items_of(other, IdMap(np.array([99])))
    with pytest.raises(DataError, match="different kinds: <U1 and int64"):
        with_items_of(other, IdMap(np.array(["a"])))


def test_several_data_sets_over_common_items() -> None:
    one = Interactions.from_arrays([1, 1], [30, 10], texts={10: "drama"})
    other = Interactions.from_arrays([5], [20], texts={20: "war", 30: "comedy"})
    first, second = over_common_items([one, other], IdMap(np.array([40, 10])))
    assert first.items is second.items
    assert first.items.ids.tolist() == [10, 20, 30, 40]
    assert first.items.text == ("drama", "war", "", "")
    assert (first.item.tolist(), second.item.tolist()) == ([0, 2], [1])


def test_one_data_set_with_nothing_to_add_stays() -> None:
    one = Interactions.from_arrays([1, 1], [30, 10])
    assert over_common_items([one])[0] is one
    assert over_common_items([one], IdMap(np.array([10])))[0] is one
    assert over_common_items([one], IdMap(np.empty(0, object)))[0] is one
    assert over_common_items([one], IdMap(np.array([20])))[0].item.tolist() == [0, 2]


def test_item_ids_of_two_kinds_have_no_common_map() -> None:
    one, other = Interactions.from_arrays([1], [30]), Interactions.from_arrays([1], ["x"])
    words = "a.csv and b.csv: the item ids are whole numbers in one file and text in another"
    with pytest.raises(DataError, match=words):
        over_common_items([one, other], names=["a.csv", "b.csv"])


def test_users_of_two_data_sets_in_one() -> None:
    one = Interactions.from_arrays([7, 9], [1, 2], [1.0, 2.0], [3, 4])
    other = Interactions.from_arrays([7], [1]).take(np.array([0]))
    other = with_items_of(other, one.items)
    both = join_users(one, other)
    assert both.users.ids.tolist() == [0, 1, 2]
    assert both.user.tolist() == [0, 1, 2]
    assert both.item.tolist() == [0, 1, 0]
    assert both.time is None
    assert not both.rated
    assert join_users(one, one).time is not None


# ---- The order of events ----

EVENTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=40)


def ordered(events: list[tuple[int, int, int]]) -> Interactions:
    """Return interactions of rows of user, item and time."""
    user, item, time = (np.array(column) for column in zip(*events, strict=True))
    return Interactions.from_arrays(user, item, np.arange(len(user)), time)


def sequences_of(data: Interactions) -> dict[int, list[int]]:
    """Return the items of each user, in order, by ids."""
    histories = data.sequences()
    ends = histories.indptr
    return {
        int(user): data.items.ids[histories.indices[start:stop]].astype(int).tolist()
        for user, start, stop in zip(data.users.ids, ends[:-1], ends[1:], strict=True)
    }


@given(EVENTS)
def test_events_are_in_the_order_of_time_and_then_of_the_rows(events: list[tuple[int, int, int]]) -> None:
    data = ordered(events)
    expected: dict[int, list[int]] = {}
    for user, item, _ in sorted(events, key=lambda event: event[2]):
        expected.setdefault(user, []).append(item)
    assert sequences_of(data) == expected
    assert len(data) == len({event[:2] for event in events})
    # Value and time of a pair are those of its last event.
    last = {(user, item): row for row, (user, item, _) in sorted(enumerate(events), key=lambda one: one[1][2])}
    assert data.value.tolist() == [last[pair] for pair in sorted(last)]
    assert data.time is not None
    assert data.time.tolist() == [events[last[pair]][2] for pair in sorted(last)]
    times = data.event_times()
    assert times is not None
    assert sorted(times.tolist()) == sorted(time for _, _, time in events)


@given(EVENTS, st.data())
def test_parts_keep_the_order_of_what_is_in_them(events: list[tuple[int, int, int]], draw: st.DataObject) -> None:
    data = ordered(events)
    whole = sequences_of(data)
    users = sorted(draw.draw(st.sets(st.integers(0, data.n_users - 1), min_size=1)))
    some = data.restrict(np.array(users))
    assert sequences_of(some) == {int(user): whole[int(user)] for user in data.users.ids[users]}
    kept = sorted(draw.draw(st.sets(st.integers(0, len(data) - 1), min_size=1)))
    part = data.take(np.array(kept))
    pairs = {(int(data.users.ids[data.user[row]]), int(data.items.ids[data.item[row]])) for row in kept}
    assert sequences_of(part) == {user: [i for i in items if (user, i) in pairs] for user, items in whole.items()}
    twice = sequences_of(join_users(data, data))
    assert list(twice.values()) == [*whole.values(), *whole.values()]


@given(EVENTS)
def test_a_frame_holds_every_event_and_comes_back(events: list[tuple[int, int, int]]) -> None:
    data = ordered(events)
    frame = data.frame()
    assert frame.height == len(events)
    again = Interactions.from_arrays(
        *(frame[name].to_numpy() for name in ("user", "item", "rating", "time")), position=frame["position"].to_numpy()
    )
    assert again.fingerprint() == data.fingerprint()
    times = data.event_times()
    assert times is not None
    assert frame["time"].to_list() == times.tolist()


def test_positions_give_an_order_without_times_and_among_equal_ones() -> None:
    alone = Interactions.from_arrays([1, 1, 1], ["a", "b", "a"], position=[3, 2, 1])
    assert alone.sequences().indices.tolist() == [0, 1, 0]
    assert alone.time is None
    tied = Interactions.from_arrays([1, 1, 1], ["a", "b", "c"], time=[5, 5, 1], position=[2, 1, 9])
    assert tied.sequences().indices.tolist() == [2, 1, 0]


def test_order_over_other_items() -> None:
    other = Interactions.from_arrays([1, 1, 1, 2], [30, 20, 10, 40], time=[1, 2, 3, 4])
    found = with_items_of(other, IdMap(np.array([10, 30])))
    assert found.sequences().indices.tolist() == [1, 0]


def test_without_an_order_there_are_no_sequences() -> None:
    plain = Interactions(**columns(time=np.array([1, 2, 3])))
    with pytest.raises(DataError, match=r"columns\.time or columns\.position names; time= or position= of Interact"):
        plain.sequences()
    assert plain.unordered is plain
    data = ordered([(0, 1, 5), (0, 0, 3)])
    assert data.unordered.events is None
    assert data.unordered.fingerprint() != data.fingerprint()
    assert ordered([(0, 1, 3), (0, 0, 5)]).fingerprint() != ordered([(0, 0, 5), (0, 1, 5)]).fingerprint()


@pytest.mark.parametrize(
    ("events", "words"),
    [
        (np.array([0, 1], np.int32), "name each of the 3 interactions"),
        (np.array([0, 1, 3], np.int32), "name each of the 3 interactions"),
        (np.array([0, 2, 1], np.int32), "user by user"),
        (np.array([0, 1, 2], np.int64), "events must be int32"),
    ],
)
def test_bad_events_are_refused(events: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Interactions(**columns(events=events))


@pytest.mark.parametrize(
    "time",
    [
        [0.9, 0.5, 0.3, 0.1],
        [1.5e9 + 3, 1.5e9 + 2, 1.5e9 + 1, np.nan],
        np.array(["2021-01-01T00:00:00.9", "2021-01-01T00:00:00.5", "2021-01-01", "NaT"], "datetime64[ns]"),
    ],
)
def test_times_in_memory_are_as_fine_as_in_files(time: Any) -> None:
    data = Interactions.from_arrays([0] * 4, [0, 1, 2, 3], time=time)
    assert data.sequences().indices.tolist() == [3, 2, 1, 0]
    assert data.time is not None
    expected = {0.9: [0] * 4}.get(time[0] if isinstance(time, list) else 0)
    if expected is not None:
        assert data.time.tolist() == expected
    latest = data.last_time()
    assert latest is not None
    assert np.isfinite(latest).all()


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Paris"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_datetimes_of_pandas_in_memory(unit: str, zone: str | None) -> None:
    seconds = pd.to_datetime([1_600_000_000, None, 1_600_000_001], unit="s", utc=True)
    time = pd.Series(seconds.tz_convert(zone).as_unit(unit))
    data = Interactions.from_arrays([1, 1, 1], [1, 2, 3], time=time)
    np.testing.assert_array_equal(data.time, [1_600_000_000, UNKNOWN_TIME, 1_600_000_001])


def test_dates_and_datetimes_of_python_in_memory() -> None:
    there = timezone(timedelta(hours=2))
    times: list[list[date | None]] = [[date(2021, 1, 1), None], [datetime(2021, 1, 1, 2, tzinfo=there), None]]
    for time in times:
        data = Interactions.from_arrays([1, 1], [1, 2], time=time)
        np.testing.assert_array_equal(data.time, [1_609_459_200, UNKNOWN_TIME])


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"position": [0.9, 0.5]}, r"positions must be whole numbers; got float64, the first is \[0\.9\]"),
        ({"position": [np.nan, 1]}, "positions must be whole numbers"),
        ({"position": ["a", "b"]}, "positions must be whole numbers; got <U1"),
        ({"position": [None, None]}, "positions must be whole numbers; got object"),
        ({"time": ["2021", "2022"]}, "times must be whole numbers, floats or datetime64; got <U4"),
        (
            {"time": [1.6e18, 1.7e18]},
            "times must be seconds since the epoch; found 1.6e.18: give finer ones as datetime64",
        ),
        ({"time": [0, 1_600_000_000_000]}, r"seconds since the epoch; found 1600000000000: .*datetime64\[ms\]"),
        ({"time": [datetime(2021, 1, 1), "x"]}, "times must be all numbers or all datetimes; found datetime, str"),
        ({"time": ["2021", None]}, "times must be whole numbers, floats or datetime64; got object"),
        ({"value": ["good", "bad"]}, "values must be numbers; got <U4"),
    ],
)
def test_bad_times_and_positions_in_memory_are_refused(columns: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        Interactions.from_arrays([1, 1], [1, 2], **columns)

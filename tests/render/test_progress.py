"""Progress without a terminal: a plain line every 30 seconds, with the time left."""

from __future__ import annotations

import os
import sys

import pytest

from recmia.render import progress
from recmia.render.progress import shown_progress


class Clock:
    """A clock that a test moves."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    monkeypatch.setattr(progress, "_notebook", lambda: None)
    return made


def test_a_line_every_half_minute(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress() as update:
        update("loading the data", 0, 1)
        clock.now += 20
        # What was in the store took no time.
        update("taking stock", 6, 46)
        update("training", 6, 46)
        clock.now += 10
        update("training", 7, 46)
        for done in range(8, 13):
            clock.now += 10
            update("training", done, 46)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "training: 7 of 46, about 6 min left",
        "training: 10 of 46, about 6 min left",
    ]


def test_nothing_is_said_of_the_time_left_before_anything_is_done(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with shown_progress() as update:
        update("training", 0, 4)
        clock.now += 31
        update("training", 0, 4)
    assert capsys.readouterr().err == "training: 0 of 4\n"


def test_who_wants_none_gets_none(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress(shown=False) as update:
        clock.now += 100
        update("training", 1, 4)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("place", ["/dev/full", "a pipe without a reader", "nowhere"])
def test_a_run_goes_on_if_nobody_can_read_how_far_it_is(
    place: str, clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full", "w") as full, open(writer, "w", buffering=1) as pipe:  # noqa: PTH123
        stream = {"/dev/full": full, "nowhere": None}.get(place, pipe)
        monkeypatch.setattr(sys, "stderr", stream)
        with shown_progress() as update:
            for done in range(1, 4):
                clock.now += 31
                update("training", done, 4)
        monkeypatch.undo()
        # What they hold back cannot be written when they are closed, either.
        for one in (full, pipe):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, one.fileno())
            os.close(nowhere)
    assert capsys.readouterr().out == ""

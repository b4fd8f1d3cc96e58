"""Progress: a plain line every ten seconds in a log, one line that moves in a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from cli import show


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time as `Progress` sees it, in its only item."""
    now = [1000.0]
    monkeypatch.setattr("cli.show.time.monotonic", lambda: now[0])
    return now


def test_lines_in_a_log(seconds: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """The speed counts from the first call: what an earlier run did is not this one's."""
    with show.Progress("extracting tiny", "images") as shown:
        shown(40, 400)
        for done in range(40, 400, 12):  # four images a second
            shown(done, 400, "(decoding is busiest)")
            seconds[0] += 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "extracting tiny 88/400, 4.0 images/s, 1 min 18 s left (decoding is busiest)"
    assert (
        lines[1] == "extracting tiny 136/400, 4.0 images/s, 1 min 06 s left (decoding is busiest)"
    )
    assert len(lines) == 7  # in 87 seconds


def test_no_line_says_more_than_is_known(
    seconds: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    fits, images = show.Progress("fitting", ""), show.Progress("reading", "images")
    seconds[0] += 11
    fits(3, 10, "ridge of fc")
    images(5, 5)
    seconds[0] += 11
    fits(4, 10)
    images(60, 60)
    assert capsys.readouterr().err.splitlines() == [
        "fitting 3/10 ridge of fc",  # no speed without a unit
        "reading 5/5",  # nothing is measured yet
        "fitting 4/10",
        "reading 60/60, 5.0 images/s",  # nothing is left
    ]


def test_fast_work_is_counted_whole(
    seconds: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = show.Progress("extracting", "images")
    shown(0, 9000)
    seconds[0] += 20
    shown(1000, 9000)
    assert capsys.readouterr().err == "extracting 1000/9000, 50 images/s, 2 min 40 s left\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_that_moves_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brackets of a name are shown as they are, and the line is gone in the end."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with show.Progress("extracting [odd]", "images") as shown:
        shown(0, 8)
        shown(8, 8, "(writing is busiest)")
    drawn = screen.getvalue()
    assert "extracting [odd] 8/8" in drawn
    assert "(writing is busiest)" in drawn
    assert drawn.endswith("\x1b[2K")  # erased


@pytest.mark.parametrize(
    ("time", "words"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (80, "1 min 20 s"), (3600, "1 h 00 min")],
)
def test_a_time_for_people(time: float, words: str) -> None:
    assert show.clock(time) == words

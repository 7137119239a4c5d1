"""The one line of `quant demo`: what is done, how much of it, and for how long still."""

from __future__ import annotations

import sys
import time

import pytest

from quant.cli.progress import OneLine, _rounded


def test_without_a_terminal_a_line_says_what_is_done_next(capsys: pytest.CaptureFixture[str]) -> None:
    with OneLine() as line:
        for done in range(100):
            line.show("1 of 2: videos" if done < 50 else "2 of 2: report", done, 100)
    assert [text.partition(",")[0] for text in capsys.readouterr().err.splitlines()] == [
        "1 of 2: videos: 0% of all",
        "2 of 2: report: 50% of all",
    ]


def test_the_time_left_follows_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    line = OneLine()
    line.show("videos", 0, 1000)
    assert line.text() == "videos: 0% of all, about 50 s left"  # a guess
    now = 500.0
    line.show("videos", 500, 1000)
    assert line.text() == "videos: 50% of all, about 7 min 40 s left"  # nearly a second a unit
    now = 530.0
    assert line.text().endswith("about 7 min 10 s left")  # though nothing was reported
    later = OneLine()
    later.show("videos", 900, 1000)
    now = 540.0
    later.show("videos", 910, 1000)
    assert later.text() == "videos: 91% of all, about 19 s left"  # what an earlier run did counts for nothing


def test_on_a_terminal_one_line_is_written_over_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    line = OneLine()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for done in range(3):
        line.show("1 of 2: making videos", done, 10)
        line.paint()
    first, *lines = capsys.readouterr().err.split("\r\x1b[2K")
    assert first == "" and len(lines) == 3
    assert lines[2] == "1 of 2: making videos: 20% of"  # no longer than the terminal is wide


def test_times_are_round() -> None:
    assert [_rounded(seconds) for seconds in (0.7, 59.4, 61, 119, 600)] == ["1 s", "59 s", "1 min", "2 min", "10 min"]

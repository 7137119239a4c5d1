"""The campaign sees what it is there to see: each kind of wrong outcome is made on purpose and found."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from quant.errors import QuantError
from tests.fuzz import runner
from tests.fuzz.runner import Outcome, campaign, equal
from tests.fuzz.target import Target


def _outcomes(read: Callable[[bytes], Any], monkeypatch: pytest.MonkeyPatch, **more: Any) -> list[Outcome]:
    """Of two changes: the file holds "bad", then "good" again."""
    monkeypatch.setattr(runner, "SECONDS", 0.5)

    def change(number: int, pristine: Mapping[Path, bytes]) -> tuple[Path, str, bytes]:
        (path,) = pristine
        return path, "changed", b"bad" if number == 0 else b"good"

    target = Target(
        "toy",
        lambda folder: (folder / "file").write_bytes(b"good"),
        lambda folder: read((folder / "file").read_bytes()),
        **more,
    )
    return list(campaign(target, change, range(2)))


def _refuse(words: str) -> None:
    raise QuantError(words)


def _sleep_without_alarms() -> None:
    """As C code does that never looks at signals."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(60)


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        ("refused", lambda: _refuse("file: is bad")),
        ("message", lambda: _refuse("")),
        ("traceback", lambda: 1 / 0),
        ("hang", lambda: time.sleep(30)),
        ("hang", lambda: _compute()),
        ("memory", lambda: bytearray(8 * runner.MEMORY)),
        ("memory", lambda: len(b"x" * (runner.MEMORY + 2**24))),
        ("crash", os.abort),
        ("hang", _sleep_without_alarms),
        ("other", lambda: "another value"),
        ("same", lambda: b"good"),
    ],
)
def test_outcomes(kind: str, bad: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = _outcomes(lambda data: bad() if data == b"bad" else data, monkeypatch)
    assert (first.kind, second.kind) == (kind, "same"), first.words


def test_memory_counts_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    size = runner.MEMORY + 2**24
    found = _outcomes(lambda data: len(b"x" * size), monkeypatch)
    assert [each.kind for each in found] == ["memory", "memory"]


def _compute() -> None:
    while True:
        pass


def test_what_passes_a_hash_or_means_something_else_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _outcomes(lambda data: data, monkeypatch, hashed=True)[0].kind == "accepted"
    assert _outcomes(lambda data: data, monkeypatch, wrong=lambda folder, found: f"{found}")[0].words == "b'bad'"


def test_equality_is_of_bits_and_types() -> None:
    nan = torch.tensor([float("nan"), 1.0])
    assert equal({"a": [nan, (1, "x")]}, {"a": [nan.clone(), (1, "x")]})
    assert not equal(torch.zeros(2), torch.zeros(2, dtype=torch.float64))
    assert not equal(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert not equal({"a": 1}, {"a": True})
    assert not equal({"a": 1}, {"b": 1})
    assert not equal([1, 2], [1])
    assert equal(torch.zeros(0, 3), torch.zeros(0, 3))

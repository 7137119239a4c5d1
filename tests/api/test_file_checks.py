"""Files of a checkpoint read at once: what a stop leaves unread."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from quant.api import file_checks
from quant.api.file_checks import FileFaults, FileJob, read_files
from quant.checkpoint.pieces import Piece


def test_ctrl_c_ends_reading_at_the_next_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def slow(path: Path, *, tensors: bool) -> Iterator[Piece]:
        for i in range(1000):
            read.append(i)
            if i == 3:
                os.kill(os.getpid(), signal.SIGINT)  # as a terminal does: it comes to the main thread
            time.sleep(0.005)
            yield Piece(memoryview(b"x"))

    monkeypatch.setattr(file_checks, "pieces", slow)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            read_files([FileJob(tmp_path / "a", 1000)], lambda count: None)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(read) < 500


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"abc")
    gone, there = tmp_path / "gone", tmp_path / "there"
    counted: list[int] = []
    found = read_files([FileJob(gone, 1), FileJob(there, 3, ({"sha256": "0"},))], counted.append)
    assert found[gone].file == (f"{gone}: cannot be read: [Errno 2] No such file or directory: '{gone}'",)
    assert found[there] == FileFaults(
        (f"{there}: its SHA-256 differs from the manifest's; it is damaged, copy it again",)
    )
    assert sum(counted) == 3

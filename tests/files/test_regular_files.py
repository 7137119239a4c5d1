"""Only regular files are opened, and only those of a size that is read at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quant.files import regular_files
from quant.files.regular_files import open_regular, read_text, read_whole


def test_pipes_devices_and_folders_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening one to read waits for a writer
    (tmp_path / "link").symlink_to("/dev/zero")
    for path, says in ((tmp_path / "pipe", "Not a regular file"), (tmp_path / "link", "Not a regular file")):
        with pytest.raises(OSError, match=says):
            open_regular(path)
    with pytest.raises(IsADirectoryError):
        read_whole(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_whole(tmp_path / "none")


def test_what_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 2**40)
    with pytest.raises(OSError, match="Larger than 512 MiB"):
        read_whole(tmp_path / "large")
    monkeypatch.setattr(regular_files, "MOST_BYTES", 3)
    (tmp_path / "small").write_bytes(b"abc")
    assert read_whole(tmp_path / "small") == b"abc"


def test_text_is_utf8_with_plain_ends_of_lines(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("é\r\nb\rc\n".encode())
    assert read_text(tmp_path / "a") == "é\nb\nc\n"
    (tmp_path / "a").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="utf-8"):
        read_text(tmp_path / "a")

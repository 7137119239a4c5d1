"""Files read in pieces: all bytes in order, tensors as rows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from quant.checkpoint import pieces
from quant.errors import CheckpointError


@pytest.mark.parametrize("size", [1, 7, 16, 100, 2**23])
def test_files_of_tensors_are_read_in_order_of_their_bytes(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE", size)
    tensors = {"b": torch.arange(6.0).reshape(3, 2), "a": torch.tensor(2), "none": torch.ones(0, 4)}
    save_file(tensors, tmp_path / "file.safetensors")
    seen: dict[str, list[torch.Tensor]] = {}
    data = b""
    for piece in pieces.pieces(tmp_path / "file.safetensors", tensors=True):
        data += bytes(piece.data)
        if piece.rows is not None:
            parts = seen.setdefault(piece.name, [])
            assert piece.first == sum(len(rows) for rows in parts)
            parts.append(piece.rows.clone())
    assert data == (tmp_path / "file.safetensors").read_bytes()
    stored = load_file(tmp_path / "file.safetensors")
    assert seen.keys() == {"a", "b"}
    assert all(
        torch.equal(torch.cat(seen[name]) if stored[name].ndim else seen[name][0], stored[name]) for name in seen
    )


def test_a_file_that_becomes_shorter_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 1000)
    file = tmp_path / "file.bin"
    file.write_bytes(bytes(200_000))
    reading = pieces.pieces(file, tensors=False)
    assert len(next(reading).data) == 1000
    file.write_bytes(bytes(100_000))
    with pytest.raises(CheckpointError, match=r"file.bin: became shorter while it was read"):
        list(reading)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="Not a regular file"):
        list(pieces.pieces(tmp_path / "pipe", tensors=False))

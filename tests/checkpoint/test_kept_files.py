"""What a stopped run has kept is read as it was written, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from quant.checkpoint import kept_files
from quant.checkpoint.kept_files import keep, kept
from quant.errors import CalibrationError

TENSORS = {
    "codes": torch.arange(-8, 8, dtype=torch.int8).reshape(4, 4),
    "scale": torch.tensor(0.5, dtype=torch.bfloat16),
    "none": torch.zeros(0, 3),
    "fp8": torch.tensor([1.0, -2.0]).to(torch.float8_e4m3fn),
}
NOTES = {"key": "mine", "done": "3"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    keep(tmp_path / "made" / "a.safetensors", TENSORS, NOTES)
    return tmp_path / "made" / "a.safetensors"


def test_what_was_kept_is_read(path: Path) -> None:
    found = kept(path, key="mine")
    assert found is not None
    tensors, notes = found
    assert notes == NOTES
    assert {name: (t.dtype, t.float().tolist()) for name, t in tensors.items()} == {
        name: (t.dtype, t.float().tolist()) for name, t in TENSORS.items()
    }
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_is_kept_twice_is_the_same_bytes(path: Path, tmp_path: Path) -> None:
    for i in range(8):
        keep(tmp_path / f"{i}.safetensors", TENSORS, dict(reversed(NOTES.items())))
        assert (tmp_path / f"{i}.safetensors").read_bytes() == path.read_bytes()


def test_another_runs_file_counts_as_absent(path: Path) -> None:
    assert kept(path, key="yours") is None
    assert kept(path, key="mine", part="2") is None
    assert kept(path.with_name("no.safetensors"), key="mine") is None


def test_any_changed_byte_is_noticed(path: Path) -> None:
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :])
        found = kept(path, key="mine")
        # A space of the header's padding means nothing.
        assert found is None or good[at : at + 1] == b" ", at
    for end in (0, 7, 100, len(good) - 1):
        path.write_bytes(good[:end])
        assert kept(path, key="mine") is None


def test_a_disk_that_refuses_leaves_the_last_file(path: Path) -> None:
    path.with_name(f"{path.name}.tmp").mkdir()
    with pytest.raises(
        CalibrationError, match=r"a\.safetensors: cannot be written, and holds what a stopped run needs"
    ):
        keep(path, {}, NOTES)
    assert kept(path, key="mine") is not None


def test_a_lack_of_memory_is_no_lack_of_a_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*args: object, **kwargs: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(kept_files, "safe_open", lacking)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        kept(path, key="mine")

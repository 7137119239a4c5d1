"""The file of an unfinished calibration: whole or absent, and of use to its own run only."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from quant.calibration.journal import Journal
from quant.errors import CalibrationError

STATE = {"layer|amax": torch.tensor([3.0]), "layer|seen": torch.tensor(7)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / ".out.calibration.safetensors"


def written(path: Path, key: str = "mine", count: int = 2) -> Path:
    journal = Journal(path, key, seconds=0)
    journal.watch(lambda: STATE)
    journal.prompt_done(count)
    return path


def test_what_was_written_is_read(path: Path) -> None:
    journal = Journal(written(path), "mine")
    state = journal.load()
    assert state is not None
    assert {name: tensor.tolist() for name, tensor in state.items()} == {"layer|amax": [3.0], "layer|seen": 7}
    assert journal.done == 2
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_another_runs_file_or_a_damaged_one_is_not_used(path: Path) -> None:
    assert Journal(path, "mine").load() is None
    other = Journal(written(path, "yours"), "mine")
    assert (other.load(), other.done) == (None, 0)
    path.write_bytes(written(path).read_bytes()[:-3])
    damaged = Journal(path, "mine")
    assert (damaged.load(), damaged.done) == (None, 0)


def test_it_is_not_written_again_too_soon(path: Path) -> None:
    journal = Journal(path, "mine", seconds=3600)
    journal.watch(lambda: STATE)
    journal.prompt_done(1)
    assert not path.exists()


def test_a_disk_that_refuses_is_named(path: Path) -> None:
    path.parent.mkdir()
    path.with_name(f"{path.name}.tmp").mkdir()
    with pytest.raises(CalibrationError, match=r"\.out\.calibration\.safetensors: cannot be written"):
        written(path)


def test_a_state_that_lacks_something_is_not_used(path: Path) -> None:
    journal = Journal(written(path), "mine")
    assert journal.load(["layer|seen", "other|seen"]) is None and journal.done == 0
    assert journal.load(["layer|seen"]) is not None and journal.done == 2


def test_another_part_of_the_run_starts_from_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path, "key", seconds=0)
    journal.begin("0")
    journal.watch(lambda: {"a": torch.ones(1)})
    journal.prompt_done(2)
    again = Journal(path, "key")
    again.begin("0")
    assert again.load() is not None and again.done == 2
    again.begin("1")
    assert again.done == 0
    assert again.load() is None and again.done == 0

"""What the tests of examples/shapes share."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.examples.networks import Training


@pytest.fixture
def shapes() -> Path:
    """The example's folder."""
    return Path(__file__).parents[2] / "examples" / "shapes"


@pytest.fixture
def training(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Training]:
    """Imports `training.NAME` the way train.py does: from its own folder. One thread, as in training."""
    monkeypatch.syspath_prepend(shapes)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield lambda name: importlib.import_module(f"training.{name}")
    torch.set_num_threads(threads)

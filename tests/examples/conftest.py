"""What the tests of the examples share."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

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


@pytest.fixture
def gen1() -> Path:
    """The second example's folder."""
    return Path(__file__).parents[2] / "examples" / "gen1"


@pytest.fixture
def stage(gen1: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Training]:
    """Imports `stages.NAME` of examples/gen1 the way its train.py does. One thread, as in training."""
    monkeypatch.syspath_prepend(shapes)
    monkeypatch.syspath_prepend(gen1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield lambda name: importlib.import_module(f"stages.{name}")
    torch.set_num_threads(threads)


@pytest.fixture
def gen1_script(gen1: Path, stage: Training) -> Training:
    """Imports a script of examples/gen1, by a name that no other example's script has."""

    def load(name: str) -> ModuleType:
        specification = importlib.util.spec_from_file_location(f"gen1_{name}", gen1 / f"{name}.py")
        assert specification is not None and specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        sys.modules[specification.name] = module  # dataclasses look themselves up
        specification.loader.exec_module(module)
        return module

    return load

"""Settings of the whole suite."""

from __future__ import annotations

import os
import random
import sys
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings

# No test may ask a model hub, and where there is none its client takes half a minute to say so. It reads this when it
# is imported, as the programs that tests start do.
os.environ["HF_HUB_OFFLINE"] = "1"

# Fixtures of several rooms.
from tests.tiny_checkpoints import checkpoints as checkpoints
from tests.tiny_checkpoints import model_folder as model_folder
from tests.tiny_models import make_model as make_model

# No deadline: a busy machine is no counterexample. And no chance: what a run finds, the next run finds again.
# `--hypothesis-profile=explore` looks at examples that no run has seen.
settings.register_profile("explore", deadline=None)
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


def _seed(name: str) -> None:
    seed = zlib.crc32(name.encode())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
    """Random numbers of a fixture follow its name, not the tests that its worker ran before."""
    _seed(f"{request.node.nodeid} {fixturedef.argname}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Random numbers of a test follow its name, not the tests and fixtures that its worker ran before."""
    _seed(item.nodeid)


#: The developer's own cache, as it was named before the tests; None for its usual place.
CACHE = os.environ.get("QUANT_CACHE_DIR")


@pytest.fixture(scope="session", autouse=True)
def _a_cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of a test goes into the developer's cache, and nothing that lies there decides what a test finds."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("QUANT_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _nothing_compiled_is_kept() -> Iterator[None]:
    """A test that compiles must not meet the sizes and recompilations of the tests that its worker ran before."""
    yield
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.reset()

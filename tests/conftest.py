"""Settings of the whole suite."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

# No deadline: a busy machine is no counterexample.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


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

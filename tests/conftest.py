"""Settings of the whole suite."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

# No deadline: a busy machine is no counterexample.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _nothing_compiled_is_kept() -> Iterator[None]:
    """A test that compiles must not meet the sizes and recompilations of the tests that its worker ran before."""
    yield
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.reset()

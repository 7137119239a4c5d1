"""These tests run on a GPU or fail: `pytest tests/gpu`, or `make gpu`. `make test` does not collect them."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch

from quant.kernels.runtime import availability


def pytest_configure(config: pytest.Config) -> None:
    """Where pytest-xdist is not installed, nobody else knows its mark."""
    config.addinivalue_line("markers", "xdist_group(name): tests that one process runs")


@pytest.fixture(scope="session", autouse=True)
def device() -> torch.device:
    """The GPU that kernels run on. Without one every test fails: a skip would look like a proof."""
    found = torch.device("cuda", torch.cuda.current_device() if torch.cuda.is_available() else 0)
    reason = availability.reason(found)
    if reason is not None:
        pytest.fail(f"tests/gpu needs a GPU that runs the kernels, and none is usable: {reason}", pytrace=False)
    return found


@pytest.fixture(autouse=True)
def _nothing_compiled_is_kept() -> Iterator[None]:
    """As in the suite, whose settings these tests run without: the next test must not meet this one's compilations."""
    yield
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.reset()

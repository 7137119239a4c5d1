"""These tests run on a GPU or fail: `pytest tests/gpu`, or `make gpu`. `make test` does not collect them."""

from __future__ import annotations

import pytest
import torch

from quant.kernels.runtime import availability


@pytest.fixture(scope="session", autouse=True)
def device() -> torch.device:
    """The GPU that kernels run on. Without one every test fails: a skip would look like a proof."""
    found = torch.device("cuda", torch.cuda.current_device() if torch.cuda.is_available() else 0)
    reason = availability.reason(found)
    if reason is not None:
        pytest.fail(f"tests/gpu needs a GPU that runs the kernels, and none is usable: {reason}", pytrace=False)
    return found

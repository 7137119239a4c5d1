"""The timestep of a call is found however a model takes it, and kept for as long as the call lasts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from quant.layers.clock import Clock, TimestepArgument


class Second(nn.Module):
    def forward(self, sample: Any, timestep: Any = None) -> None: ...


class ByName(nn.Module):
    def forward(self, sample: Any, *, timestep: Any) -> None: ...


@pytest.mark.parametrize(
    ("given", "largest"),
    [
        (torch.tensor([250.0, 250.0]), 250.0),
        (torch.tensor(7, dtype=torch.int64), 7.0),
        (torch.tensor([[0.0, 0.0, 900.0]], dtype=torch.bfloat16), 900.0),  # given frames come first
        (torch.tensor([-1.5]), -1.5),
        (3, 3.0),
        (0.5, 0.5),
    ],
)
def test_the_largest_of_a_call_however_it_is_given(given: Any, largest: float) -> None:
    argument = TimestepArgument(Second())
    for args, kwargs in (((0, given), {}), ((0,), {"timestep": given}), ((), {"sample": 0, "timestep": given})):
        found = argument.largest(args, kwargs)
        assert found is not None
        assert (found.dtype, found.ndim, float(found)) == (torch.float32, 0, largest)
    found = TimestepArgument(ByName()).largest((0,), {"timestep": given})
    assert found is not None and float(found) == largest


def test_a_call_without_one_has_none_and_a_model_without_one_is_refused() -> None:
    assert TimestepArgument(Second()).largest((0,), {}) is None
    with pytest.raises(ValueError, match=r"^Linear is not called with a 'timestep'$"):
        TimestepArgument(nn.Linear(2, 2))


def test_calls_write_to_one_place_also_between_modes_of_inference() -> None:
    clock = Clock()
    with torch.inference_mode():
        clock.begin(torch.tensor(5.0))
    first = clock.timestep
    clock.end()
    assert clock.timestep is None
    clock.begin(torch.tensor(6.0))
    assert first is not None and clock.timestep is first
    assert float(first) == 6.0

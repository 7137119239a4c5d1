"""Windows as rows, multiplied by the matrix of a weight, are torch's convolution."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from quant.layers.windows import from_lines, rows_of_line, sampled, window_of

CONVOLUTIONS: tuple[tuple[Any, tuple[int, ...]], ...] = (
    (nn.Conv1d(5, 7, 3, stride=2, padding=1, dilation=2), (2, 5, 13)),
    (nn.Conv2d(5, 7, 1, stride=2), (2, 5, 9, 8)),
    (nn.Conv2d(5, 7, 1, padding=1), (2, 5, 9, 8)),
    (nn.Conv2d(5, 7, (1, 3), padding=(1, 1), stride=(2, 1)), (2, 5, 9, 8)),
    (nn.Conv3d(5, 7, (3, 1, 1), padding=(1, 0, 0)), (2, 5, 6, 4, 3)),
    (nn.Conv2d(5, 7, 3, stride=2, padding=1), (2, 5, 9, 8)),
    (nn.Conv3d(5, 7, 3, padding="same"), (2, 5, 6, 4, 3)),
    (nn.Conv3d(5, 7, (2, 3, 3), padding="valid", stride=(1, 2, 2)), (2, 5, 6, 4, 3)),
)
each = pytest.mark.parametrize(("conv", "shape"), CONVOLUTIONS, ids=lambda value: str(value))


def matrix(conv: Any) -> torch.Tensor:
    """[K, N], all channels of the first tap first."""
    weight: torch.Tensor = conv.weight
    return weight.movedim(1, -1).flatten(1).T


@pytest.mark.parametrize(("conv", "shape"), CONVOLUTIONS[:5], ids=lambda value: str(value))
@torch.no_grad()
def test_rows_of_a_line(conv: Any, shape: tuple[int, ...]) -> None:
    window, x = window_of(conv), torch.randn(shape)
    rows = rows_of_line(x.movedim(1, -1), window) @ matrix(conv) + conv.bias
    found = from_lines(rows, window, window.sizes(shape[2:])).movedim(-1, 1)
    torch.testing.assert_close(found, conv(x))


@each
@torch.no_grad()
def test_all_that_can_be_sampled_are_all_windows(conv: Any, shape: tuple[int, ...]) -> None:
    window, x, generator = window_of(conv), torch.randn(shape), torch.Generator().manual_seed(0)
    expected = conv(x).movedim(1, -1).flatten(0, -2)
    found = sampled(x.movedim(1, -1), window, 10**6, generator) @ matrix(conv) + conv.bias
    torch.testing.assert_close(found, expected)
    some = sampled(x.movedim(1, -1), window, 3, generator) @ matrix(conv) + conv.bias
    assert len(some) == 3
    assert all((expected - row).abs().amax(dim=1).min() < 1e-5 for row in some)


def test_rows_along_the_channels_are_no_copy() -> None:
    x = torch.randn(2, 9, 4)
    assert rows_of_line(x, window_of(nn.Conv1d(4, 3, 3))).data_ptr() == x.data_ptr()

from __future__ import annotations

import numpy as np
import pytest
import torch

from quant.eval.metrics.lpips import paired_lpips
from quant.eval.networks.lpips import Lpips


class _SquaredError(Lpips):
    """A distance in closed form, that keeps the sizes of its batches."""

    def __init__(self) -> None:
        super().__init__("alex")
        self.batches: list[int] = []

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        assert a.shape[1] == 3
        assert float(a.min()) >= -1
        self.batches.append(len(a))
        return (a - b).square().mean(dim=(1, 2, 3))


def test_the_mean_over_all_frames_in_signed_range() -> None:
    one = np.zeros((2, 5, 4, 6, 3), dtype=np.float32)
    other = one.copy()
    other[1, 4] = 0.5  # one frame of five, 1 apart in -1..1
    network = _SquaredError()
    assert paired_lpips(network, one, other, batch=2) == pytest.approx((0, 0.2))
    assert network.batches == [2, 2, 1] * 2


def test_a_real_architecture_sees_no_difference_of_the_same_and_some_of_others() -> None:
    torch.manual_seed(0)
    network = Lpips("alex")
    for head in network.heads:
        torch.nn.init.constant_(head.weight, 0.1)  # type: ignore[arg-type]
    video = np.random.default_rng(0).random((1, 2, 32, 32, 3), dtype=np.float32)
    assert paired_lpips(network, video, video) == (0.0,)
    assert paired_lpips(network, video, 1 - video)[0] > 0


def test_the_network_is_asked_on_its_own_device() -> None:
    network = _SquaredError().to("meta")
    video = np.zeros((1, 1, 32, 32, 3), dtype=np.float32)
    with pytest.raises(RuntimeError, match="meta"):  # which holds no values to read
        paired_lpips(network, video, video)


def test_what_cannot_be_compared_is_refused() -> None:
    video = np.zeros((1, 2, 4, 4, 3), dtype=np.float32)
    with pytest.raises(ValueError, match="cannot be compared"):
        paired_lpips(_SquaredError(), video, video[:, :1])
    with pytest.raises(ValueError, match="not finite"):
        paired_lpips(_SquaredError(), video, video + np.float32("inf"))
    with pytest.raises(ValueError, match=r"videos are \[N, F, H, W, 3\], not \(1, 2, 4, 4, 1\)"):
        paired_lpips(_SquaredError(), video[..., :1], video[..., :1])


def test_what_is_no_number_is_found_where_the_network_does_not_look() -> None:
    """Steps of four pixels leave the last column of 34 out of the first convolution."""
    video = np.zeros((1, 1, 34, 34, 3), dtype=np.float32)
    broken = video.copy()
    broken[..., 33, :] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        paired_lpips(Lpips("alex"), video, broken)

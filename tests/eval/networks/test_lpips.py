"""LPIPS against the code and the heads that its authors published as `lpips` 0.1.4."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from quant.errors import QuantError
from quant.eval.frames import Frames
from quant.eval.networks import lpips
from quant.eval.networks.extraction import as_tensor, squash

NAMES: tuple[lpips.Name, ...] = ("alex", "vgg")

# The start of the SHA-256 of each head's float32 values in weights/v0.1/{alex,vgg}.pth of lpips 0.1.4.
HEADS = {
    "alex": ["1b21ee01e0de563a", "96b20e99719b4f1a", "ba5d4595d966dde9", "51c7dbf1c5c1e31d", "60b6388e7b80292d"],
    "vgg": ["b4ee423bb7c8ef01", "7fd9e5e5d8d68cc0", "63d06a086d0592f7", "16246e8056f57bc5", "3735a0ea893525bd"],
}
# What the code of lpips 0.1.4 gives for the pictures of `_ramps`, with these backbones: another blue; all paler.
AUTHORS = {
    "alex": (0.12214517593383789, 0.0006275268387980759),
    "vgg": (0.22665803134441376, 0.002811902668327093),
}
# The first values of torchvision's features.0.weight of the two ImageNet classifiers.
BACKBONES = {"alex": [0.1186, 0.0941, 0.0954], "vgg": [-0.5537, 0.1427, 0.5290]}


@pytest.fixture(scope="module", params=NAMES)
def network(request: pytest.FixtureRequest, fetched: object) -> lpips.Lpips:
    return lpips.load(request.param)


def _ramps() -> tuple[Tensor, Tensor]:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 80), indexing="ij")
    return torch.stack([x, y, x * y])[None], torch.stack([x, y, -x * y])[None]


def test_the_heads_are_the_authors_and_the_backbones_imagenets(network: lpips.Lpips) -> None:
    found = [hashlib.sha256(head.weight.numpy().astype("<f4").tobytes()).hexdigest()[:16] for head in network.heads]  # type: ignore[operator]
    assert found == HEADS[network.name]
    first = network.convolutions[0].weight
    assert isinstance(first, Tensor)
    assert first.flatten()[:3].tolist() == pytest.approx(BACKBONES[network.name], abs=5e-5)


def test_distances_are_those_of_the_authors_code(network: lpips.Lpips) -> None:
    one, other = _ramps()
    found = network(torch.cat([one, one]), torch.cat([other, one * 0.9]))
    assert found.tolist() == pytest.approx(AUTHORS[network.name], rel=1e-4)


def test_a_picture_is_no_distance_from_itself_and_both_ways_are_equal(network: lpips.Lpips) -> None:
    one, other = _ramps()
    assert network(one, one).tolist() == [0.0]
    assert network(one, other).tolist() == pytest.approx(network(other, one).tolist(), rel=1e-6)


def test_more_noise_on_a_real_frame_is_further(network: lpips.Lpips, big_buck_bunny: Frames) -> None:
    frame = squash(as_tensor(big_buck_bunny[:1]), 128) * 2 - 1
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal(frame.shape, dtype=np.float32))
    noisy = torch.cat([frame + level * noise for level in (0.0, 0.05, 0.3, 0.6)])
    distances = network(frame.expand(4, -1, -1, -1), noisy).tolist()
    assert distances[0] == 0
    assert all(one < other for one, other in pairwise(distances))


@pytest.mark.parametrize(("name", "size"), [("alex", 31), ("vgg", 16)])
def test_frames_that_leave_no_pixel_are_refused(name: lpips.Name, size: int) -> None:
    network = lpips.Lpips(name)
    assert network(torch.zeros(1, 3, size, 40), torch.zeros(1, 3, size, 40)).tolist() == [0.0]
    small = torch.zeros(1, 3, size - 1, 40)
    with pytest.raises(QuantError, match=f"LPIPS {name} needs frames of {size} pixels or more, not 40x{size - 1}"):
        network(small, small)


def test_mistakes() -> None:
    with pytest.raises(QuantError, match="no LPIPS by the network 'squeeze', but by alex and vgg"):
        lpips.Lpips("squeeze")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"not \(1, 3, 40, 40\) and \(2, 3, 40, 40\)"):
        lpips.Lpips("alex")(torch.zeros(1, 3, 40, 40), torch.zeros(2, 3, 40, 40))

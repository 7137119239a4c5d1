"""I3D against what its TensorFlow original was seen to give. Three videos go through it: it is slow on a CPU."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from quant.errors import QuantError
from quant.eval.frames import Frames
from quant.eval.networks import i3d
from quant.eval.networks.kinds import extractor

# The first and last three logits that tf-hub's deepmind/i3d-kinetics-400/1 printed for 15 black frames
# (zhanganny/cal_FVD).
TENSORFLOW_BLACK = [0.7422105, 2.829727, 0.39993525, -0.38092658, 0.65539014, -1.4021297]
# Between all-black and all-white videos of 15 frames, by StyleGAN-V's copy of the network
# (JunyaoHu/common_metrics_on_video_quality); the sets have no spread, so this is the squared distance of two logits.
PUBLISHED_DISTANCE = 134.24
FEEDING_BIRDS = 123  # of the 400 classes, in alphabetical order


@pytest.fixture(scope="module")
def model(fetched: object) -> i3d.I3D:
    return i3d.load()


def _logits(model: i3d.I3D, video: Tensor) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = model(video)
    return logits


def test_black_and_white_as_published(model: i3d.I3D) -> None:
    levels = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1, 1)
    black, white = _logits(model, levels.expand(2, 3, 15, 224, 224))
    assert black.shape == (400,)
    assert black[[0, 1, 2, -3, -2, -1]].tolist() == pytest.approx(TENSORFLOW_BLACK, abs=1e-5)
    assert float((black - white).square().sum()) == pytest.approx(PUBLISHED_DISTANCE, rel=0.01)


def test_a_real_clip_gets_the_class_that_the_original_gives_it(fetched: object, big_buck_bunny: Frames) -> None:
    """No bird is seen, but the original network too is .97 sure of one; which frames go in moves that by .01."""
    share = torch.from_numpy(extractor("i3d")(big_buck_bunny)).softmax(dim=0)
    assert int(share.argmax()) == FEEDING_BIRDS
    assert float(share.max()) > 0.9


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        (224, 7, 2, [2, 3]),  # five in all: the larger half behind
        (112, 3, 2, [0, 1]),
        (15, 7, 2, [3, 3]),
        (8, 3, 1, [1, 1]),
        (7, 2, 2, [0, 1]),
        (8, 2, 2, [0, 0]),
        (9, 1, 2, [0, 0]),
    ],
)
def test_same_padding_of_one_dimension(size: int, kernel: int, stride: int, padding: list[int]) -> None:
    assert i3d.same_padding([size], [kernel], [stride]) == padding


@given(size=st.integers(1, 40), kernel=st.integers(1, 7), stride=st.integers(1, 3))
def test_same_padding_leaves_a_quotient_rounded_up(size: int, kernel: int, stride: int) -> None:
    before, after = i3d.same_padding([size], [kernel], [stride])
    assert 0 <= after - before <= 1
    assert (size + before + after - kernel) // stride + 1 == math.ceil(size / stride)


def test_same_padding_names_the_last_dimension_first() -> None:
    assert i3d.same_padding([15, 224, 9], [7, 7, 1], [2, 2, 1]) == [0, 0, 2, 3, 3, 3]


def test_batch_norm_has_a_shift_and_no_scale() -> None:
    norm = i3d.Normalization(2)
    norm.running_mean.copy_(torch.tensor([1.0, 2.0]))
    norm.running_var.copy_(torch.tensor([0.0, 4.0]))
    norm.bias.data.copy_(torch.tensor([10.0, 20.0]))
    found = norm(torch.full((1, 2, 1, 1, 1), 3.0)).flatten()
    assert found.tolist() == pytest.approx([10 + 2 / math.sqrt(0.001), 20 + 1 / math.sqrt(4.001)])


def test_videos_it_cannot_take_are_refused() -> None:
    model = i3d.I3D()
    with pytest.raises(QuantError, match="at least 9 frames, not 8"):
        model(torch.zeros(1, 3, 8, 224, 224))
    with pytest.raises(ValueError, match=r"not \(1, 3, 16, 112, 224\)"):
        model(torch.zeros(1, 3, 16, 112, 224))

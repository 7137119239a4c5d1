from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from quant.errors import QuantError
from quant.eval.frames import Frames
from quant.eval.networks import i3d
from quant.eval.networks.extraction import POPULATION, SAMPLE, Extractor, squash, squash_by_corners
from quant.eval.networks.kinds import extractor
from quant.eval.weights.packages import networks

KEYS = {"resize", "range", "frames", "covariance", "feature", "weights_sha256", "source"}


@pytest.mark.parametrize(
    ("spec", "resize", "ddof", "words"),
    [("i3d", squash, 0, "by pixel centres"), ("i3d-google", squash_by_corners, 1, "by corners")],
)
def test_i3d_by_both_conventions(
    spec: str, resize: Callable[[Tensor, int], Tensor], ddof: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes into the network, by one that says it; test_i3d.py has the real one."""
    monkeypatch.setattr(i3d, "load", lambda device: lambda video: video.flatten(1))
    found = extractor(spec)
    video = np.random.default_rng(0).random((9, 5, 7, 3), dtype=np.float32)
    frames = resize(torch.from_numpy(video).permute(0, 3, 1, 2), 224) * 2 - 1
    np.testing.assert_array_equal(found(video), frames.transpose(0, 1).flatten().numpy())
    assert (found.name, found.dimension, found.covariance_ddof) == (spec, 400, ddof)
    assert set(found.conventions) == KEYS and words in found.conventions["resize"]
    assert found.conventions["weights_sha256"] == networks()["i3d"].tensors_sha256


@pytest.mark.parametrize("spec", ["", "i3d:x", "I3D", "resnet", "torchscript", "torchscript:", "clip:folder"])
def test_an_unknown_extractor(spec: str) -> None:
    with pytest.raises(QuantError, match=r"no feature extractor '.*'; there are i3d, i3d-google, torchscript:FILE"):
        extractor(spec)


def test_what_is_no_vector_or_no_number_is_refused() -> None:
    conventions = {"covariance": SAMPLE}
    with pytest.raises(QuantError, match=r"toy makes features of shape \(3, 4\)"):
        Extractor("toy", None, conventions, "cpu", lambda frames: torch.zeros(3, 4))(_video(0.0))
    with pytest.raises(QuantError, match="toy makes features that are not finite"):
        Extractor("toy", None, conventions, "cpu", lambda frames: torch.tensor([1.0, torch.inf]))(_video(0.0))


def test_the_covariance_is_said_in_words_and_as_a_number() -> None:
    for words, ddof in ((POPULATION, 0), (SAMPLE, 1)):
        assert Extractor("toy", 1, {"covariance": words}, "cpu", lambda frames: frames).covariance_ddof == ddof


def _video(level: float) -> Frames:
    return np.full((15, 64, 64, 3), level, dtype=np.float32)

from __future__ import annotations

import numpy as np
import pytest
import torch

from quant.errors import QuantError
from quant.eval.metrics.paired import Frames
from quant.eval.networks.extraction import POPULATION, SAMPLE, Extractor
from quant.eval.networks.features import extractor
from quant.eval.networks.packages import networks

KEYS = {"resize", "range", "frames", "covariance", "feature", "weights_sha256", "source"}
PUBLISHED_DISTANCE = 134.24  # see test_i3d.py


def test_i3d_by_both_conventions(fetched: object) -> None:
    """Black by one and white by the other: both make the same of even frames, so the figure is the known one."""
    one, other = extractor("i3d"), extractor("i3d-google")
    black, white = one(_video(0.0)), other(_video(1.0))
    assert black.shape == white.shape == (400,) and black.dtype == np.float32
    assert float(np.square(black - white).sum()) == pytest.approx(PUBLISHED_DISTANCE, rel=0.01)
    assert (one.name, other.name, one.dimension) == ("i3d", "i3d-google", 400)
    assert (one.covariance_ddof, other.covariance_ddof) == (0, 1)
    assert set(one.conventions) == set(other.conventions) == KEYS
    assert one.conventions["weights_sha256"] == networks()["i3d"].tensors_sha256
    assert "by pixel centres" in one.conventions["resize"] and "by corners" in other.conventions["resize"]


def test_few_frames_are_refused(fetched: object) -> None:
    with pytest.raises(QuantError, match="at least 9 frames, not 5"):
        extractor("i3d")(_video(0.5)[:5])


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

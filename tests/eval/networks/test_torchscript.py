from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant.errors import QuantError
from quant.eval.networks.kinds import extractor


class Plain(nn.Module):
    """One convolution, averaged: [1, 3, F, 224, 224] -> [1, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(3, 5, (2, 16, 16), (2, 16, 16))

    def forward(self, video: Tensor) -> Tensor:
        features: Tensor = self.convolution(video)
        return features.tanh().mean(dim=(2, 3, 4))


class Detector(nn.Module):
    """Takes the switches of StyleGAN-V's detectors, and says what it was given."""

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        switches = torch.tensor([float(rescale), float(resize), float(return_features)])
        return torch.cat([x.mean().view(1), x.max().view(1), switches, torch.tensor(x.shape).float()])[None]


class WithoutForward(nn.Module):
    """Something that TorchScript can keep, and that is no network."""

    @torch.jit.export
    def twice(self, x: Tensor) -> Tensor:
        return x * 2


class OfEachChannel(nn.Module):
    """Three vectors of one video."""

    def forward(self, video: Tensor) -> Tensor:
        return video[0].flatten(1)


def _save(module: nn.Module, path: Path, example: Tensor | None = None) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        script = torch.jit.script(module) if example is None else torch.jit.trace(module, example)  # type: ignore[no-untyped-call]
        script.save(str(path))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_traced_network_gives_what_the_module_gives(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Plain().eval()
    digest = _save(module, tmp_path / "plain.pt", torch.zeros(1, 3, 4, 224, 224))
    found = extractor(f"torchscript:{tmp_path / 'plain.pt'}")
    video = np.random.default_rng(0).random((6, 20, 30, 3), dtype=np.float32)
    frames = F.interpolate(torch.from_numpy(video).permute(0, 3, 1, 2), (224, 224), mode="bilinear")
    expected = module((frames * 2 - 1).permute(1, 0, 2, 3)[None])[0].detach()
    np.testing.assert_allclose(found(video), expected.numpy(), rtol=1e-5, atol=1e-6)
    assert found.name == f"torchscript-{digest[:8]}"
    assert found.dimension is None
    assert found.conventions["weights_sha256"] == digest
    assert found.covariance_ddof == 1


def test_a_detector_of_stylegan_v_does_its_own_resizing(tmp_path: Path) -> None:
    _save(Detector(), tmp_path / "detector.pt")
    found = extractor(f"torchscript:{tmp_path / 'detector.pt'}")
    video = np.full((6, 20, 30, 3), 0.5, dtype=np.float32)
    video[:3] = 1
    assert found(video).tolist() == [191.25, 255, 1, 1, 1, 1, 3, 6, 20, 30]
    assert found.conventions["range"].startswith("0..255") and found.covariance_ddof == 0


def test_files_that_are_no_extractors(tmp_path: Path) -> None:
    with pytest.raises(QuantError, match=r"gone.pt is no file"):
        extractor(f"torchscript:{tmp_path / 'gone.pt'}")
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(QuantError, match=r"junk.pt is no TorchScript file"):
        extractor(f"torchscript:{tmp_path / 'junk.pt'}")
    _save(WithoutForward(), tmp_path / "odd.pt")
    with pytest.raises(QuantError, match=r"odd.pt has no forward to call"):
        extractor(f"torchscript:{tmp_path / 'odd.pt'}")
    _save(Plain(), tmp_path / "plain.pt")
    with pytest.raises(QuantError, match=r"plain.pt cannot take a video of shape \(1, 3, 1, 224, 224\)"):
        extractor(f"torchscript:{tmp_path / 'plain.pt'}")(np.zeros((1, 8, 8, 3), dtype=np.float32))
    _save(OfEachChannel(), tmp_path / "three.pt")
    with pytest.raises(QuantError, match=r"three.pt does not make one vector of one video"):
        extractor(f"torchscript:{tmp_path / 'three.pt'}")(np.zeros((1, 8, 8, 3), dtype=np.float32))
    _save(nn.Identity(), tmp_path / "whole.pt")
    found = extractor(f"torchscript:{tmp_path / 'whole.pt'}")(np.zeros((1, 8, 8, 3), dtype=np.float32))
    assert found.shape == (3 * 224 * 224,)

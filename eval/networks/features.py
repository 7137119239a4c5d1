"""Feature extractors of set metrics: a video becomes one vector, and the conventions are said.

A Fréchet distance depends on the resize, the range, the frames and the covariance as much as on the network, so
each extractor carries all of them with the hash of its weights, for the results to record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from quant.errors import QuantError
from quant.eval.networks import i3d
from quant.eval.networks.extraction import POPULATION, SAMPLE, Device, Extractor
from quant.eval.networks.frames import squash, squash_by_corners
from quant.eval.networks.torchscript import torchscript
from quant.eval.networks.video_transformers import video_transformer
from quant.eval.weights.packages import networks

__all__ = ["Extractor", "extractor"]


def extractor(spec: str, *, device: Device = "cpu") -> Extractor:
    """The extractor that `spec` names, its network loaded.

    "i3d": StyleGAN-V's convention of the Fréchet video distance. "i3d-google": the first implementation's, which
    resizes as TensorFlow 1 did. "torchscript:FILE", "videomae:FOLDER_OR_HUB_ID", "vjepa:FOLDER_OR_HUB_ID".
    Raises QuantError for another spec and where a network cannot be loaded.
    """
    kind, colon, where = spec.partition(":")
    if spec in _I3D:
        return _i3d(spec, device)
    if colon and where:
        if kind == "torchscript":
            return torchscript(where, device)
        if kind in ("videomae", "vjepa"):
            return video_transformer(kind, where, device)
    known = f"{', '.join(_I3D)}, torchscript:FILE, videomae:FOLDER_OR_HUB_ID and vjepa:FOLDER_OR_HUB_ID"
    raise QuantError(f"there is no feature extractor {spec!r}; there are {known}")


@dataclass(frozen=True)
class _Convention:
    resize: Callable[[Tensor, int], Tensor]
    says: str
    covariance: str
    source: str


_I3D = {
    "i3d": _Convention(
        squash,
        "each frame squashed to 224x224, bilinear by pixel centres, no antialiasing",
        POPULATION,
        "StyleGAN-V (Skorokhodov et al. 2022, arXiv 2112.14683)",
    ),
    "i3d-google": _Convention(
        squash_by_corners,
        "each frame squashed to 224x224, bilinear by corners as TensorFlow 1's resize_bilinear, no antialiasing",
        SAMPLE,
        "google-research/frechet_video_distance (Unterthiner et al. 2018, arXiv 1812.01717)",
    ),
}


def _i3d(name: str, device: Device) -> Extractor:
    convention = _I3D[name]
    model = i3d.load(device)

    def embed(frames: Tensor) -> Tensor:
        video = convention.resize(frames, i3d.SIZE) * 2 - 1
        return model(video.permute(1, 0, 2, 3)[None])[0]  # type: ignore[no-any-return]  # modules are untyped

    conventions = {
        "resize": convention.says,
        "range": "-1..1, from frames that are not rounded to 8 bits",
        "frames": f"all of the video, {i3d.MINIMUM_FRAMES} or more",
        "covariance": convention.covariance,
        "feature": "the 400 logits of Kinetics-400, before the softmax",
        "weights_sha256": networks()["i3d"].tensors_sha256,
        "source": convention.source,
    }
    return Extractor(name, 400, conventions, device, embed)

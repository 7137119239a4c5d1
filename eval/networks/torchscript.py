"""Feature extractors kept in a TorchScript file, such as the I3D that StyleGAN-V published."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quant.errors import QuantError
from quant.eval.networks.extraction import POPULATION, SAMPLE, Device, Extractor, squash

SIZE = 224
# The switches of StyleGAN-V's detectors. With them the file does its own resizing and scaling, from 0..255.
_SWITCHES = {"rescale": True, "resize": True, "return_features": True}


def torchscript(path: str, device: Device = "cpu") -> Extractor:
    """The extractor in the file `path`, whose forward takes one [1, 3, F, H, W] and gives [1, D].

    A forward with the switches rescale, resize and return_features is called as StyleGAN-V calls its I3D: frames of
    any size in 0..255. Any other gets frames squashed to 224x224 in -1..1. Such a file is a program that is run: use
    only one that you trust. Raises QuantError where there is no such file, or it is no TorchScript of a network.
    """
    file = Path(path)
    if not file.is_file():
        raise QuantError(f"{path} is no file: torchscript: wants the path of a TorchScript file")
    module = _load(file, device)
    if not hasattr(module, "forward"):
        raise QuantError(f"{path} has no forward to call: torchscript: wants the file of a network")
    names = {argument.name for argument in module.forward.schema.arguments}
    own = set(_SWITCHES) <= names

    def embed(frames: Tensor) -> Tensor:
        video = (frames * 255 if own else squash(frames, SIZE) * 2 - 1).permute(1, 0, 2, 3)[None]
        try:
            features = module(video, **(_SWITCHES if own else {}))
        except RuntimeError as error:
            raise QuantError(
                f"{path} cannot take a video of shape {tuple(video.shape)}: {_last_line(error)}"
            ) from error
        if not isinstance(features, Tensor) or features.ndim < 2 or features.shape[0] != 1:
            raise QuantError(f"{path} does not make one vector of one video")
        return features.flatten(1)[0]

    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    conventions = {
        "resize": "by the file itself" if own else "each frame squashed to 224x224, bilinear by pixel centres",
        "range": "0..255 given, scaled by the file itself" if own else "-1..1",
        "frames": "all of the video",
        "covariance": POPULATION if own else SAMPLE,
        "feature": "with return_features" if own else "what its forward returns",
        "weights_sha256": digest,
        "source": f"{file.name}, a TorchScript file called {'as StyleGAN-V does' if own else 'with one argument'}",
    }
    return Extractor(f"torchscript-{digest[:8]}", None, conventions, device, embed)


def _load(file: Path, device: Device) -> Any:
    try:
        with warnings.catch_warnings():
            # Such files are what others published; that torch would rather have another format is no news here.
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(str(file), map_location=device).eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise QuantError(f"{file} is no TorchScript file: {_last_line(error)}") from error


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

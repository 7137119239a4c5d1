"""VideoMAE and V-JEPA 2 as feature extractors, from a folder or a hub id that transformers loads.

A feature is the mean of the last hidden state over all tokens. Where the model is a VideoMAE classifier that pools
so too, the layer norm before its head is applied: the feature is what its head sees (as in content-debiased FVD,
Ge et al. 2024, arXiv 2404.12391).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quant.errors import QuantError
from quant.eval.networks import cache
from quant.eval.networks.extraction import SAMPLE, Device, Extractor
from quant.eval.networks.frames import centre_crop, frame_indices, normalize, shortest_edge, stretch

_FILES = ("video_preprocessor_config.json", "preprocessor_config.json")
_BILINEAR = 2  # as PIL numbers its filters


@dataclass(frozen=True)
class Preprocessing:
    """What a model's preprocessor_config.json asks for: an edge or a size in pixels, a crop, a mean and a spread."""

    edge: int | None
    size: tuple[int, int] | None
    crop: tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, frames: Tensor) -> Tensor:
        """[F, 3, H, W] in 0..1 -> [F, 3, H', W'], normalized. Frames are not rounded to 8 bits in between."""
        if self.edge is not None:
            frames = shortest_edge(frames, self.edge)
        if self.size is not None:
            frames = stretch(frames, self.size)
        if self.crop is not None:
            frames = centre_crop(frames, self.crop)
        return normalize(frames, self.mean, self.std)

    def says(self) -> str:
        """The resizing in words."""
        steps = [f"shorter side to {self.edge}"] if self.edge is not None else []
        steps += [f"squashed to {self.size[1]}x{self.size[0]}"] if self.size is not None else []
        steps = [f"{step}, bilinear, antialiased" for step in steps]
        steps += [f"{self.crop[1]}x{self.crop[0]} from the centre"] if self.crop is not None else []
        return "; ".join(steps) or "none"


def video_transformer(kind: str, where: str, device: Device = "cpu") -> Extractor:
    """The "videomae" or "vjepa" in the folder or under the hub id `where`, in float32.

    Exactly as many frames go in as the model was made for: others are resampled by `frame_indices`. Raises QuantError
    where it cannot be loaded or is of another kind.
    """
    found, pool, count, feature = (_videomae if kind == "videomae" else _vjepa)(where)
    preprocessing = read_preprocessing(where)
    model = found.eval().requires_grad_(False).to(device)

    def embed(frames: Tensor) -> Tensor:
        chosen = frames[frame_indices(len(frames), count)]
        return pool(preprocessing(chosen)[None])[0]

    digest = cache.tensors_sha256(model.state_dict())
    conventions = {
        "resize": preprocessing.says(),
        "range": f"0..1, less {list(preprocessing.mean)}, over {list(preprocessing.std)}; not rounded to 8 bits",
        "frames": f"{count}, evenly from first to last, rounded to the nearest; repeated where there are fewer",
        "covariance": SAMPLE,
        "feature": feature,
        "weights_sha256": digest,
        "source": where,
    }
    return Extractor(f"{kind}-{digest[:8]}", model.config.hidden_size, conventions, device, embed)


def read_preprocessing(where: str) -> Preprocessing:
    """The preprocessing in the folder or under the hub id `where`. Raises QuantError for what is not supported."""
    config = _preprocessor_config(where)
    if config.get("do_resize", True) and config.get("resample", _BILINEAR) != _BILINEAR:
        raise QuantError(f"{where} wants the resampling filter {config['resample']}; only bilinear (2) is supported")
    size = config.get("size", {}) if config.get("do_resize", True) else {}
    size = {"shortest_edge": size} if isinstance(size, int) else size
    crop = config.get("crop_size") if config.get("do_center_crop", False) else None
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    normal = config.get("do_normalize", True)
    try:
        return Preprocessing(
            edge=size.get("shortest_edge"),
            size=(size["height"], size["width"]) if "height" in size else None,
            crop=(crop["height"], crop["width"]) if crop else None,
            mean=tuple(config["image_mean"]) if normal else (0.0, 0.0, 0.0),
            std=tuple(config["image_std"]) if normal else (1.0, 1.0, 1.0),
        )
    except KeyError as error:
        raise QuantError(f"the preprocessor config of {where} has no {error}") from error


_Loaded = tuple[Any, Callable[[Tensor], Tensor], int, str]


def _videomae(where: str) -> _Loaded:
    import transformers

    config = _config(where, "videomae")
    if "VideoMAEForVideoClassification" not in (config.architectures or []):
        model = _model(transformers.VideoMAEModel, where)
        return model, lambda x: model(x).last_hidden_state.mean(dim=1), config.num_frames, _MEAN
    whole = _model(transformers.VideoMAEForVideoClassification, where)
    norm = whole.fc_norm if whole.fc_norm is not None else torch.nn.Identity()
    feature = _MEAN if whole.fc_norm is None else f"{_MEAN}, after the layer norm of the classifier"
    return whole, lambda x: norm(whole.videomae(x).last_hidden_state.mean(dim=1)), config.num_frames, feature


def _vjepa(where: str) -> _Loaded:
    import transformers

    config = _config(where, "vjepa2")
    model = _model(transformers.VJEPA2Model, where)

    def pool(x: Tensor) -> Tensor:
        hidden: Tensor = model(pixel_values_videos=x, skip_predictor=True).last_hidden_state
        return hidden.mean(dim=1)

    return model, pool, config.frames_per_clip, f"{_MEAN} of the encoder"


_MEAN = "mean over the tokens of the last hidden state"


def _config(where: str, wanted: str) -> Any:
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(where)
    except (OSError, ValueError) as error:
        raise QuantError(f"{where} cannot be loaded: {_first_line(error)}") from error
    if config.model_type != wanted:
        raise QuantError(f"{where} is a {config.model_type}, not a {wanted}")
    return config


def _model(kind: Any, where: str) -> Any:
    try:
        model, report = kind.from_pretrained(where, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise QuantError(f"{where} cannot be loaded: {_first_line(error)}") from error
    if report["missing_keys"]:
        raise QuantError(f"{where} lacks weights of a {kind.__name__}: {', '.join(sorted(report['missing_keys'])[:3])}")
    return model


def _preprocessor_config(where: str) -> Mapping[str, Any]:
    from transformers.utils import cached_file

    for name in _FILES:
        try:
            file = cached_file(where, name, _raise_exceptions_for_missing_entries=False)
        except OSError as error:
            raise QuantError(f"{where} cannot be loaded: {_first_line(error)}") from error
        if file is not None:
            config: Mapping[str, Any] = json.loads(Path(file).read_text(encoding="utf-8"))
            return config
    raise QuantError(f"{where} has neither {' nor '.join(_FILES)}: how it wants its frames is not known")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

"""VideoMAE and V-JEPA 2 as feature extractors, from a folder or a hub id that transformers loads.

A feature is the mean of the last hidden state over all tokens. Where the model is a VideoMAE classifier that pools
so too, the layer norm before its head is applied: the feature is what its head sees (as in content-debiased FVD,
Ge et al. 2024, arXiv 2404.12391).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quant.errors import QuantError
from quant.eval.networks.extraction import (
    SAMPLE,
    Device,
    Extractor,
    centre_crop,
    frame_indices,
    normalize,
    shortest_edge,
    stretch,
)
from quant.eval.networks.pretrained import load_config, load_model, read_preprocessor
from quant.eval.weights import cache

_FILES = ("video_preprocessor_config.json", "preprocessor_config.json")
_BILINEAR = 2  # as PIL numbers its filters
_MEAN = "mean over the tokens of the last hidden state"


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
    """The network of a kind of `LOADERS` in the folder or under the hub id `where`, in float32.

    Exactly as many frames go in as the model was made for: others are resampled by `frame_indices`. Raises QuantError
    where it cannot be loaded or is of another kind; the extractor does where its preprocessing leaves frames of
    another size than the model takes.
    """
    model, pool, count, side, feature = LOADERS[kind](where, device)
    preprocessing = read_preprocessing(where)

    def embed(frames: Tensor) -> Tensor:
        ready = preprocessing(frames[frame_indices(len(frames), count)])
        height, width = ready.shape[2:]
        if (height, width) != (side, side):  # V-JEPA would take them, with the positions of other places
            raise QuantError(f"{where}: its preprocessing leaves {width}x{height}, its model takes {side}x{side}")
        return pool(ready[None])[0]

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
    """The preprocessing in the folder or under the hub id `where`, each step done unless the file says no, as there.

    Raises QuantError for what is not supported, and where a step has no size: it is not guessed.
    """
    what, config = read_preprocessor(where, _FILES)
    resize, cut, normal = (config.get(step, True) for step in ("do_resize", "do_center_crop", "do_normalize"))
    if resize and config.get("resample", _BILINEAR) != _BILINEAR:
        raise QuantError(f"{what} wants the resampling filter {config['resample']}; only bilinear (2) is supported")
    try:
        size = _sides(config["size"], "shortest_edge") if resize else {}
        crop = _sides(config["crop_size"], "height", "width") if cut else None
        edge = size.get("shortest_edge")
        return Preprocessing(
            edge=edge,
            size=(size["height"], size["width"]) if resize and edge is None else None,
            crop=(crop["height"], crop["width"]) if crop else None,
            mean=tuple(config["image_mean"]) if normal else (0.0, 0.0, 0.0),
            std=tuple(config["image_std"]) if normal else (1.0, 1.0, 1.0),
        )
    except KeyError as error:
        raise QuantError(f"{what} has no {error}") from error
    except (TypeError, AttributeError) as error:
        raise QuantError(f"{what} is not understood: {error}") from error


def _sides(size: Any, *names: str) -> Mapping[str, int]:
    """The named sides of a size, which old files give as one number."""
    return dict.fromkeys(names, size) if isinstance(size, int) else size


# The model, from [1, F, 3, H, W] to a feature [1, D], how many frames, of how many pixels a side, and the words.
_Loaded = tuple[Any, Callable[[Tensor], Tensor], int, int, str]


def _videomae(where: str, device: Device) -> _Loaded:
    import transformers

    config = load_config(where, "videomae")
    if "VideoMAEForVideoClassification" not in (config.architectures or []):
        model = load_model(transformers.VideoMAEModel, where, device)
        return model, lambda x: model(x).last_hidden_state.mean(dim=1), config.num_frames, config.image_size, _MEAN
    whole = load_model(transformers.VideoMAEForVideoClassification, where, device)
    norm = whole.fc_norm if whole.fc_norm is not None else torch.nn.Identity()
    feature = _MEAN if whole.fc_norm is None else f"{_MEAN}, after the layer norm of the classifier"

    def pool(x: Tensor) -> Tensor:
        pooled: Tensor = norm(whole.videomae(x).last_hidden_state.mean(dim=1))
        return pooled

    return whole, pool, config.num_frames, config.image_size, feature


def _vjepa(where: str, device: Device) -> _Loaded:
    import transformers

    config = load_config(where, "vjepa2")
    model = load_model(transformers.VJEPA2Model, where, device)

    def pool(x: Tensor) -> Tensor:
        hidden: Tensor = model(pixel_values_videos=x, skip_predictor=True).last_hidden_state
        return hidden.mean(dim=1)

    return model, pool, config.frames_per_clip, config.crop_size, f"{_MEAN} of the encoder"


#: By the kind that a specification names.
LOADERS: Mapping[str, Callable[[str, Device], _Loaded]] = {"videomae": _videomae, "vjepa": _vjepa}

"""A CLIP from a folder or a hub id, for frame and prompt consistency.

Images go through PIL as the model's own preprocessing says (shortest edge, crop, mean and spread), without
torchvision. Prompts are cut by the tokenizer, which keeps the end token that CLIP reads its text embedding from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from quant.errors import QuantError
from quant.eval.frames import Frames
from quant.eval.networks.extraction import check_video
from quant.eval.networks.pretrained import load_config, load_model, load_tokenizer, read_preprocessor
from quant.eval.weights import cache

_BATCH = 16
_FILTERS = {2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True)
class ImagePreprocessing:
    """The shorter side in pixels (`filter` as PIL numbers it), the crop (height, width), the mean and the spread."""

    edge: int
    filter: int
    crop: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, frame: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """[H, W, 3] in 0..1 -> [3, H', W'], rounded to 8 bits on the way as CLIP was trained."""
        image = Image.fromarray(np.rint(np.clip(frame, 0, 1) * 255).astype(np.uint8))
        width, height = image.size
        short = min(width, height)
        size = (int(self.edge * width / short), int(self.edge * height / short))
        if image.size != size:
            image = image.resize(size, Image.Resampling(self.filter))
        left, top = (size[0] - self.crop[1]) // 2, (size[1] - self.crop[0]) // 2
        image = image.crop((left, top, left + self.crop[1], top + self.crop[0]))
        pixels = np.asarray(image, dtype=np.float32) / 255
        normal = (pixels - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.asarray(normal.transpose(2, 0, 1), dtype=np.float32)


@dataclass(frozen=True)
class ClipScorer:
    """Embeds frames and prompts. `conventions` says how, with the hash of the weights, for the results."""

    model: Any
    tokenizer: Any
    preprocessing: ImagePreprocessing
    conventions: Mapping[str, Any]
    device: str | torch.device

    def frames(self, video: Frames) -> npt.NDArray[np.float32]:
        """[F, H, W, 3] in 0..1 -> [F, E], of length 1. Raises ValueError as `check_video` does."""
        check_video(video)
        found = []
        with torch.inference_mode():
            for start in range(0, len(video), _BATCH):
                pixels = np.stack([self.preprocessing(frame) for frame in video[start : start + _BATCH]])
                pooled = self.model.vision_model(torch.from_numpy(pixels).to(self.device)).pooler_output
                found.append(_unit(self.model.visual_projection(pooled)))
        return np.concatenate(found)

    def text(self, prompt: str) -> tuple[npt.NDArray[np.float32], bool]:
        """The embedding [E] of length 1, and whether the prompt was too long and is read only in part."""
        ids, truncated = self.tokens(prompt)
        with torch.inference_mode():
            pooled = self.model.text_model(input_ids=torch.tensor([ids], device=self.device)).pooler_output
            return _unit(self.model.text_projection(pooled))[0], truncated

    def tokens(self, prompt: str) -> tuple[list[int], bool]:
        """The token ids, at most as many as the model has places, the end token last; and whether some were cut."""
        limit = self.model.config.text_config.max_position_embeddings
        whole = self.tokenizer(prompt, truncation=False, verbose=False)["input_ids"]
        if len(whole) <= limit:
            return list(whole), False
        ids = list(self.tokenizer(prompt, truncation=True, max_length=limit)["input_ids"])
        if ids[-1] != whole[-1]:
            raise QuantError(
                "the tokenizer of this CLIP drops the end token of long prompts: its scores would be wrong"
            )
        return ids, True


def load(path_or_id: str, *, device: str | torch.device = "cpu") -> ClipScorer:
    """The CLIP in a folder or under a hub id, in float32. Raises QuantError where it cannot be loaded."""
    import transformers

    load_config(path_or_id, "clip")
    model = load_model(transformers.CLIPModel, path_or_id, device)
    tokenizer = load_tokenizer(path_or_id)
    images = read_preprocessing(path_or_id)
    conventions = {
        "resize": f"shorter side to {images.edge}, PIL {_FILTERS[images.filter]}, {images.crop[1]}x{images.crop[0]} "
        "from the centre",
        "range": f"8 bits, 0..1, less {list(images.mean)}, over {list(images.std)}",
        "frames": "all; the mean over them",
        "feature": "projected image and text embeddings, of length 1",
        "text": f"cut by the tokenizer at {model.config.text_config.max_position_embeddings} tokens, end token kept",
        "weights_sha256": cache.tensors_sha256(model.state_dict()),
        "source": path_or_id,
    }
    return ClipScorer(model, tokenizer, images, conventions, device)


def read_preprocessing(where: str) -> ImagePreprocessing:
    """The preprocessing in the folder or under the hub id `where`. Raises QuantError for what is not done here."""
    what, config = read_preprocessor(where, ("preprocessor_config.json",))
    for step in ("do_resize", "do_center_crop", "do_normalize"):
        if not config.get(step, True):
            raise QuantError(f"{what} says {step}: false; a CLIP's pictures are resized, cropped and normalized here")
    try:
        size, crop = config["size"], config["crop_size"]
        found = ImagePreprocessing(
            edge=size["shortest_edge"] if isinstance(size, dict) else size,
            filter=config.get("resample", 3),
            crop=(crop["height"], crop["width"]) if isinstance(crop, dict) else (crop, crop),
            mean=tuple(config["image_mean"]),
            std=tuple(config["image_std"]),
        )
    except KeyError as error:
        raise QuantError(f"{what} has no {error}") from error
    except TypeError as error:
        raise QuantError(f"{what} is not understood: {error}") from error
    if found.filter not in _FILTERS:
        raise QuantError(f"{what} wants the resampling filter {found.filter}; bilinear (2) and bicubic (3) are known")
    return found


def _unit(x: torch.Tensor) -> npt.NDArray[np.float32]:
    normal: npt.NDArray[np.float32] = torch.nn.functional.normalize(x, dim=-1).float().cpu().numpy()
    return normal

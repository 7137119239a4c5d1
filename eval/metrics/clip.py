"""The two CLIP figures of Gen-1 (Esser et al. 2023, arXiv 2302.03011), of embeddings.

Both are a model's own figures, not comparisons with the original: a still picture has a perfect frame consistency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quant.eval.metrics.base import Own, Video

Embeddings = npt.NDArray[np.float32]


def frame_consistency(embeddings: Embeddings) -> float:
    """The mean cosine of consecutive frames' image embeddings [F, E], of any length; F of 2 or more (ValueError)."""
    if embeddings.ndim != 2 or len(embeddings) < 2:
        raise ValueError(f"frame consistency needs embeddings [F, E] of two frames or more, not {embeddings.shape}")
    unit = _unit(embeddings)
    return float(np.mean(np.sum(unit[:-1] * unit[1:], axis=1)))


def prompt_consistency(frames: Embeddings, text: Embeddings) -> float:
    """The mean cosine of the image embeddings [F, E] with the prompt's [E]. Raises ValueError for other shapes."""
    if frames.ndim != 2 or len(frames) == 0 or text.shape != frames.shape[1:]:
        raise ValueError(f"embeddings of frames {frames.shape} and of a prompt {text.shape} do not fit")
    return float(np.mean(_unit(frames) @ _unit(text[None])[0]))


def _unit(embeddings: Embeddings) -> npt.NDArray[np.float64]:
    wide = embeddings.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    if not np.isfinite(length).all() or (length == 0).any():
        raise ValueError("an embedding is zero or not finite")
    return np.asarray(wide / length)


def _frames(video: Video, network: Any) -> Embeddings:
    """The embeddings [F, E] of a video's frames, which both metrics need."""
    return video.once("CLIP's embeddings", lambda: network.frames(video.frames))


@dataclass(frozen=True, kw_only=True)
class _FrameConsistency(Own):
    def score(self, video: Video, network: Any) -> float | None:
        return frame_consistency(_frames(video, network)) if len(video.frames) > 1 else None


@dataclass(frozen=True, kw_only=True)
class _PromptConsistency(Own):
    def truncates(self, prompt: str, network: Any) -> bool:
        return bool(network.tokens(prompt)[1])

    def score(self, video: Video, network: Any) -> float:
        return prompt_consistency(_frames(video, network), network.text(video.prompt)[0])


CLIP_FRAME = _FrameConsistency(key="clip_frame", title="CLIP frame consistency", heading="CLIP frame", network="clip")
CLIP_PROMPT = _PromptConsistency(
    key="clip_prompt", title="CLIP prompt consistency", heading="CLIP prompt", network="clip"
)

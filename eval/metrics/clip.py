"""The two CLIP figures of Gen-1 (Esser et al. 2023, arXiv 2302.03011), of embeddings.

Both are a model's own figures, not comparisons with the original: a still picture has a perfect frame consistency.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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

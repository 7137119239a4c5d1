"""Calls of the denoisers of `tests.tiny_models`, as pipelines make them, a step of the schedule after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from quant.calibration.replaying import Call


def _wan(random: Callable[..., torch.Tensor], timestep: int) -> dict[str, Any]:
    return {
        "hidden_states": random(1, 4, 2, 8, 8),
        "timestep": torch.tensor([timestep]),
        "encoder_hidden_states": random(1, 7, 16),
        "return_dict": False,
    }


def _hunyuan_video(random: Callable[..., torch.Tensor], timestep: int) -> dict[str, Any]:
    return {
        "hidden_states": random(1, 4, 2, 4, 4),
        "timestep": torch.tensor([timestep]),
        "encoder_hidden_states": random(1, 6, 16),
        "encoder_attention_mask": torch.ones(1, 6),
        "pooled_projections": random(1, 8),
        "guidance": torch.tensor([6000.0]),
        "return_dict": False,
    }


def _cogvideox(random: Callable[..., torch.Tensor], timestep: int) -> dict[str, Any]:
    return {
        "hidden_states": random(1, 2, 4, 4, 4),
        "encoder_hidden_states": random(1, 8, 16),
        "timestep": torch.tensor([timestep]),
        "return_dict": False,
    }


def _unet(random: Callable[..., torch.Tensor], timestep: int) -> dict[str, Any]:
    return {
        "sample": random(1, 4, 3, 8, 8),
        "timestep": torch.tensor(timestep),
        "encoder_hidden_states": random(1, 4, 8),
        "return_dict": False,
    }


_MAKERS = {
    "WanTransformer3DModel": _wan,
    "HunyuanVideoTransformer3DModel": _hunyuan_video,
    "CogVideoXTransformer3DModel": _cogvideox,
    "UNet3DConditionModel": _unet,
}
CLASSES = tuple(_MAKERS)


def tiny_calls(class_name: str, count: int = 3) -> list[Call]:
    """Calls of a class from the noisiest on, their arguments random and the same whenever they are loaded."""

    def load(number: int, timestep: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        generator = torch.Generator().manual_seed(number)
        return (), _MAKERS[class_name](lambda *shape: torch.randn(shape, generator=generator), timestep)

    timesteps = [900 - 300 * number for number in range(count)]
    return [
        Call(f"call {number}", lambda number=number, timestep=timestep: load(number, timestep), timestep)  # type: ignore[misc]
        for number, timestep in enumerate(timesteps)
    ]

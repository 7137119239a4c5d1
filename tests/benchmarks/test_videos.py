"""Videos of the same latents on two devices; here both are the CPU, so every video must be identical."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.gpu.videos import compare
from tests.tiny_pipeline import PROMPTS, save_pipeline


def test_every_model_is_compared_with_itself(tmp_path: Path) -> None:
    said: list[str] = []
    found = compare(save_pipeline(tmp_path / "model"), PROMPTS[:2], torch.device("cpu"), steps=1, told=said.append)
    assert list(found["made"]) == ["original", "int8", "fp8"]
    for made in found["made"].values():
        assert made["psnr"] == [None, None]
        assert made["not_by_a_kernel"] == []
    assert said[1] == "int8: 2 videos, the least alike to the CPU's: identical"

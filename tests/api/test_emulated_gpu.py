"""The transformer of examples/shapes in every 2:4 and INT4 scheme, by the kernels of a GPU that is emulated.

All of it but four of its six blocks, which have the layers of the first two again.
"""

from __future__ import annotations

import copy
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import quant
from quant.layers.replace import prepack
from tests.kernels.emulated_gpu import emulated

MODEL = Path(__file__).parents[2] / "examples" / "shapes" / "model"
#: Names of the schemes, with the groups of a recipe that rounds to nearest and prunes by magnitude.
SPARSITY = {"structure": "2:4", "method": "magnitude"}
RECIPES: dict[str, dict[str, Any]] = {
    "W4A16": {"scheme": "W4A16"},
    "W4A16_ASYM": {"scheme": "W4A16_ASYM"},
    "W4A8": {"scheme": "W4A8"},
    "W4AFP8": {"scheme": "W4AFP8"},
    "2:4": {"sparsity": SPARSITY},
    "2:4 W8A8": {"scheme": "W8A8", "sparsity": SPARSITY},
    "2:4 FP8": {"scheme": "FP8_DYNAMIC", "sparsity": SPARSITY},
}
#: Few, so that the persistent blocks of Hopper have several tiles each.
MULTIPROCESSORS = 4
FP8 = ("W4AFP8", "2:4 FP8")  # their kernels began with sm_89, all others with sm_80
CASES = [
    *((name, "sm_89" if name in FP8 else "sm_80", "sm8") for name in RECIPES),
    *((name, "sm_90a", "sm90") for name in RECIPES),
]


@cache
def transformer() -> torch.nn.Module:
    from diffusers import WanTransformer3DModel

    found: torch.nn.Module = WanTransformer3DModel.from_pretrained(
        MODEL / "transformer", dtype=torch.bfloat16, num_layers=2
    )
    return found.eval()


def run(model: torch.nn.Module) -> torch.Tensor:
    """One step of a small clip: 3 frames of 16 tokens, 8 tokens of text."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 8, 3, 8, 8, generator=generator).bfloat16()
    text = torch.randn(1, 8, 64, generator=generator).bfloat16()
    with torch.no_grad():
        out: torch.Tensor = model(latents, torch.tensor([500.0]), text, return_dict=False)[0]
    return out


@cache
def quantized(name: str) -> torch.nn.Module:
    recipe = quant.Recipe.from_dict(
        {"version": 1, "summary": name, "groups": [{"targets": ["Linear"], **RECIPES[name]}]}
    )
    found: torch.nn.Module = quant.quantize(transformer(), recipe)
    return found


@pytest.mark.parametrize(("name", "arch", "prefix"), CASES)
def test_the_whole_transformer_by_kernels(name: str, arch: str, prefix: str) -> None:
    """INT8 sums are exact, and so is the whole model; the others round sums in another order, which flips codes and
    16-bit results here and there, by less than half of what quantization itself costs.
    """
    model = quantized(name)
    expected, state = run(model), model.state_dict()
    cost = (run(transformer()) - expected).float().norm()
    on_gpu = copy.deepcopy(model)
    with emulated(arch, MULTIPROCESSORS) as ran, warnings.catch_warnings():
        warnings.simplefilter("error")  # an op that ran by no kernel would say so
        prepack(on_gpu)
        found = run(on_gpu)
    assert any(kernel.startswith(prefix) for kernel in ran)
    error = (found - expected).float().norm()
    assert error <= (0 if name in ("W4A8", "2:4 W8A8") else cost / 2), error / cost
    assert all(torch.equal(_bits(tensor), _bits(state[key])) for key, tensor in on_gpu.state_dict().items())


@pytest.mark.parametrize("name", ["W4A16", "W4A8", "2:4 FP8"])
def test_fused_blocks_by_kernels(name: str, tmp_path: Path) -> None:
    """q, k and v as one weight, in the order of its kernel; what is fused runs there as it does on the CPU."""
    quant.save(quantized(name), tmp_path / "model")
    fused: Any = quant.load(tmp_path / "model", dtype=torch.bfloat16, fused=True)
    assert all(why.startswith("fused") for block in fused.blocks for why in block.parts.values())
    expected = run(fused)
    cost = (run(transformer()) - expected).float().norm()
    with emulated("sm_90a", MULTIPROCESSORS) as ran, warnings.catch_warnings():
        warnings.simplefilter("error")
        prepack(fused)
        found = run(fused)
    assert any(kernel.startswith("sm90") for kernel in ran)
    assert (found - expected).float().norm() <= cost / 2


def _bits(x: torch.Tensor) -> torch.Tensor:
    return x.view(torch.uint8) if x.itemsize == 1 else x

"""diffusers' group offloading brings every packed tensor, in the order of the kernels where it runs."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.hooks.group_offloading import GroupOffloadingType

import quant
import quant.diffusers
from quant.kernels import prepacking
from quant.kernels.weight_orders import LAYOUTS
from quant.layers.replace import quantized_layers
from tests import tiny_pipeline
from tests.layers.fused.layer_formats import same

GROUPS = ({"offload_type": "block_level", "num_blocks_per_group": 1}, {"offload_type": "leaf_level"})
#: Groups of 32, which fit the little model.
FOUR_BIT = {"weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": False}}
RECIPES: dict[str, dict[str, Any]] = {
    "FP8": {"scheme": "FP8_DYNAMIC"},
    "INT4": {"scheme": FOUR_BIT},
    "2:4": {"scheme": "FP8_DYNAMIC", "sparsity": {"structure": "2:4", "method": "magnitude"}},
}


def model_of(recipe: str) -> WanTransformer3DModel:
    group = {"targets": ["Linear"], **RECIPES[recipe]}
    named = quant.Recipe.from_dict({"version": 1, "groups": [group]}, "r.yaml")
    made: WanTransformer3DModel = quant.quantize(tiny_pipeline.transformer(), named)
    return made


def call(model: torch.nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        made: torch.Tensor = model(
            hidden_states=torch.randn(1, 4, 2, 4, 4, generator=generator).bfloat16(),
            timestep=torch.tensor([500]),
            encoder_hidden_states=torch.randn(1, 8, tiny_pipeline.TEXT, generator=generator).bfloat16(),
            return_dict=False,
        )[0]
    return made


def spoil(model: torch.nn.Module) -> int:
    """Makes what lies on the model between calls useless. Returns its bytes."""
    tensors = [*model.parameters(), *model.buffers()]
    for tensor in tensors:
        tensor.data = torch.zeros_like(tensor.data)
    return sum(tensor.nbytes for tensor in tensors)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group["offload_type"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_tensor_comes_for_a_call(recipe: str, group: dict[str, Any], tmp_path: Path) -> None:
    """From a disk, so that a tensor which was not brought is zero."""
    model = model_of(recipe)
    expected = call(model)
    model.enable_group_offload(torch.device("cpu"), offload_to_disk_path=str(tmp_path), **group)
    for _ in range(2):
        assert spoil(model) > 10**5
        assert torch.equal(call(model), expected)


@pytest.mark.parametrize("recipe", RECIPES)
def test_streams_move_parameters_only(recipe: str) -> None:
    """As diffusers 0.42 does for whole blocks: a packed buffer would stay where it was brought."""
    layers = quantized_layers(model_of(recipe)).values()
    assert len(layers) == tiny_pipeline.LINEARS
    assert not any(list(layer.buffers()) for layer in layers)


@pytest.mark.parametrize("recipe", ["INT4", "2:4"])
def test_weights_are_in_the_order_of_the_device_that_runs_them(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here cpu:0, which is taken for a GPU. Copies and files of a model have it of their own."""
    kernels = lambda op, dtype, n, k, device, group=0: LAYOUTS[op][device.index == 0]  # noqa: E731
    monkeypatch.setattr(prepacking, "wanted", kernels)
    model = model_of(recipe)
    plain, expected = {layer.layout for layer in quantized_layers(model).values()}, call(model)
    state = copy.deepcopy(model.state_dict())
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        other.enable_group_offload("cpu:0", offload_type="block_level", num_blocks_per_group=1)
        for _ in range(2):
            assert torch.equal(call(other), expected)
            assert {layer.layout for layer in quantized_layers(other).values()}.isdisjoint(plain)
        assert same(other.state_dict(), state)
    assert {layer.layout for layer in quantized_layers(model).values()} == plain


def test_fused_blocks_are_moved_whole(tmp_path: Path) -> None:
    model = model_of("FP8")
    quant.save(model, tmp_path / "made")
    fused: Any = quant.load(tmp_path / "made", fused=True)
    expected = call(fused)
    for leaves in ("leaf_level", GroupOffloadingType.LEAF_LEVEL):
        with pytest.raises(quant.QuantError, match=r"not offloaded one by one: offload_type='block_level', or load"):
            fused.enable_group_offload(torch.device("cpu"), torch.device("cpu"), leaves)
    fused.enable_group_offload(torch.device("cpu"), offload_to_disk_path=str(tmp_path / "kept"), **GROUPS[0])
    spoil(fused)
    assert torch.equal(call(fused), expected)

"""Models of unknown classes, from the names and shapes of tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from quant.api.convert import recipe_of
from quant.calibration.layer_plan import Kept, layer_plan, planned
from quant.errors import ModelError
from quant.pipelines.inputs.table import open_files


def tensors(blocks: int = 3) -> dict[str, torch.Tensor]:
    """A transformer's, of odd names: Linears with and without bias, norms, a convolution, tables."""
    found: dict[str, torch.Tensor] = {"embed_tokens.weight": torch.ones(9, 8), "patch.weight": torch.ones(8, 4, 1, 2)}
    for i in range(blocks):
        found |= {
            f"layers.{i}.attn.q.weight": torch.full((8, 8), i + 1.0),
            f"layers.{i}.attn.q.bias": torch.ones(8),
            f"layers.{i}.norm.weight": torch.ones(8, dtype=torch.float64),
            f"layers.{i}.ff.0.weight": torch.ones(16, 8, dtype=torch.bfloat16),
            f"layers.{i}.ff.1.weight": torch.ones(8, 16, dtype=torch.bfloat16),
        }
    found |= {"head.weight": torch.ones(4, 8), "temperature": torch.ones(()), "steps": torch.arange(3)}
    return found | {"norm.scale": torch.ones(8)}


def test_names_shapes_dtypes_and_values_are_those_of_the_file(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "x.safetensors")
    opened = open_files(tmp_path / "x.safetensors")
    state = opened.model.state_dict()
    plans = opened.tensors(torch.bfloat16)
    assert state.keys() == plans.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert (state[name].dtype, state[name].shape) == (tensor.dtype, tensor.shape)
        assert plans[name].dtype == tensor.dtype  # no class says what may be narrowed
        assert torch.equal(plans[name].whole(), tensor)


def test_linears_of_blocks_are_quantized_and_nothing_else(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "x.safetensors")
    model = open_files(tmp_path / "x.safetensors").model
    plan = layer_plan(model, recipe_of("FP8_DYNAMIC"))
    leaves = ("attn.q", "ff.0", "ff.1")
    assert {layer.name for layer in planned(plan)} == {f"layers.{i}.{leaf}" for i in range(3) for leaf in leaves}
    assert {layer.name: layer.shape for layer in planned(plan)}["layers.1.ff.0"] == (16, 8)
    assert not isinstance(model.get_submodule("embed_tokens"), nn.Linear)
    assert [layer.reason for layer in plan if isinstance(layer, Kept)] == ["outside the repeated blocks (generic)"]


def test_without_blocks_every_linear_counts(tmp_path: Path) -> None:
    save_file({"0.weight": torch.ones(4, 8), "1.weight": torch.ones(4, 4)}, tmp_path / "x.safetensors")
    plan = layer_plan(open_files(tmp_path / "x.safetensors").model, recipe_of("FP8_DYNAMIC"))
    assert [layer.name for layer in planned(plan)] == ["0", "1"]


def test_names_that_no_model_can_have_are_refused(tmp_path: Path) -> None:
    for found, says in [
        ({"a": torch.ones(2), "a.b": torch.ones(2)}, "'a' is a tensor, and other tensors' names begin with it"),
        ({"forward": torch.ones(2)}, "tensor 'forward' has a name that no model's tensor can have"),
        ({"a.weight_scale": torch.ones(2)}, "holds 'a.weight_scale', which belongs to quantized weights"),
        ({"a.scale": torch.ones(2), "a.weight": torch.ones(2, 2).to(torch.uint8)}, r"holds 'a.scale', .*\(SDNQ\)"),
    ]:
        save_file(found, tmp_path / "x.safetensors")
        with pytest.raises(ModelError, match=says):
            open_files(tmp_path / "x.safetensors")

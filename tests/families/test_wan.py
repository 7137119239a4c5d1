from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
import torch
from torch import nn

from quant.calibration.layer_plan import Kept, layer_plan, planned
from quant.families.wan import WAN
from quant.recipe import Recipe
from tests.tiny_models import ModelMaker

RECIPE = Recipe.from_dict({"version": 1, "groups": [{"targets": ["Linear"], "scheme": "W8A8"}]})
BLOCK_LINEARS = {
    *(f"attn{i}.{name}" for i in (1, 2) for name in ("to_q", "to_k", "to_v", "to_out.0")),
    "ffn.net.0.proj",
    "ffn.net.2",
}
IMAGE_LINEARS = {"attn2.add_k_proj", "attn2.add_v_proj"}
IMAGE = {"image_dim": 8, "added_kv_proj_dim": 24}


@pytest.mark.parametrize("changes", [{}, IMAGE], ids=["text", "image"])
def test_every_linear_of_every_block_is_quantized_and_nothing_outside(
    make_model: ModelMaker, changes: dict[str, int]
) -> None:
    plan = layer_plan(make_model("WanTransformer3DModel", **changes), RECIPE)
    within = BLOCK_LINEARS | (IMAGE_LINEARS if changes else set())
    assert {layer.name for layer in planned(plan)} == {f"blocks.{i}.{name}" for i in range(3) for name in within}
    outside = {layer.name.split(".")[0] for layer in plan if isinstance(layer, Kept)}
    assert outside == {"patch_embedding", "condition_embedder", "proj_out"}


def test_vace_quantizes_both_lists_and_keeps_the_projections_around_the_stream(make_model: ModelMaker) -> None:
    plan = layer_plan(make_model("WanVACETransformer3DModel"), RECIPE)
    lists = [f"blocks.{i}." for i in range(3)] + [f"vace_blocks.{i}." for i in range(2)]
    assert {layer.name for layer in planned(plan)} == {prefix + name for prefix in lists for name in BLOCK_LINEARS}
    kept = {
        layer.name: layer.reason for layer in plan if layer.name.startswith("vace_blocks") and isinstance(layer, Kept)
    }
    assert set(kept) == {"vace_blocks.0.proj_in", "vace_blocks.0.proj_out", "vace_blocks.1.proj_out"}
    assert set(kept.values()) == {"wan: projects the control signal into the residual stream"}


def _arguments(class_name: str, changes: dict[str, int]) -> dict[str, Any]:
    """Inputs of a tiny forward pass. The image branch takes what precedes the last 512 tokens for the image."""
    arguments: dict[str, Any] = {
        "hidden_states": torch.randn(1, 4, 2, 4, 4),
        "timestep": torch.tensor([500]),
        "encoder_hidden_states": torch.randn(1, 512 if changes else 6, 16),
    }
    if changes:
        arguments["encoder_hidden_states_image"] = torch.randn(1, 3, 8)
    if class_name == "WanVACETransformer3DModel":
        arguments["control_hidden_states"] = torch.randn(1, 8, 2, 4, 4)
    return arguments


def _inputs(model: nn.Module, arguments: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What each Linear inside a block read in one real forward pass."""
    seen: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and WAN.block(name):
            module.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0].clone()}))
    with torch.no_grad():
        model(**arguments)
    return seen


@pytest.mark.parametrize(
    ("class_name", "changes"),
    [("WanTransformer3DModel", {}), ("WanTransformer3DModel", IMAGE), ("WanVACETransformer3DModel", {})],
    ids=["text", "image", "vace"],
)
def test_declared_groups_are_exactly_the_layers_that_read_one_input(
    make_model: ModelMaker, class_name: str, changes: dict[str, int]
) -> None:
    """Against the model itself: within a block, equal inputs if and only if one declared group."""
    seen = _inputs(make_model(class_name, device="cpu", **changes), _arguments(class_name, changes))
    blocks: dict[tuple[str, int] | None, list[str]] = defaultdict(list)
    for name in seen:
        blocks[WAN.block(name)].append(name)
    pairs = [(one, other) for names in blocks.values() for one in names for other in names if one < other]
    assert len(pairs) >= 3 * len(BLOCK_LINEARS)
    for one, other in pairs:
        same = seen[one].shape == seen[other].shape and torch.equal(seen[one], seen[other])
        assert same == (WAN.input_group(one) == WAN.input_group(other)), (one, other)

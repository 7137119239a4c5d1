"""Every family against diffusers' own models: tiny ones that run, and real ones on the meta device."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cache
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.families.denoiser import Denoiser
from benchmarks.families.models import MODELS, denoiser
from quant.calibration.layer_plan import Kept, layer_plan
from quant.families.base import MODULATION, Family
from quant.families.generic import generic_family
from quant.families.table import FAMILIES, family_of
from quant.recipe import Recipe

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
#: What structure alone cannot say: an adapter that is declared nowhere, and an embedder that is a list of modules.
_NOT_SHOWN = ("face_adapter.", "local_facial_extractor.")
#: Layers inside blocks that are none of a block's three kinds: ways in and out of an attention, embeddings that are
#: added, and a U-Net's convolutions.
_NO_ROLE = re.compile(r"\.(proj_in|proj_out|plucker_proj|time_pos_embed\.linear_[12])$|conv\w*(\.\d+)?$")


@cache
def _tiny(name: str) -> nn.Module:
    """Made once for all tests, none of which changes it."""
    return denoiser(name).make_tiny()


def _covered(model: nn.Module, family: Family) -> list[str]:
    """The Linears that are quantized: inside the blocks, on no keep list, no modulation."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and family.block(name) is not None
        and family.role(name) != MODULATION
        and not any(re.search(pattern, name) for pattern, _ in family.keep)
    ]


def test_every_class_is_listed() -> None:
    """Both ways: no denoiser without a family, and no family of a class that nothing here runs."""
    assert {model.cls for model in MODELS} == {name for family in FAMILIES for name in family.classes}


@pytest.mark.parametrize(
    ("name", "linears", "inputs"),
    [
        ("Wan 2.1 T2V 1.3B", 300, 210),
        ("Wan 2.1 I2V 14B", 480, 320),
        ("HunyuanVideo 13B", 440, 240),
        ("HunyuanVideo 1.5 8.3B", 648, 432),
        ("CogVideoX 5B", 252, 168),
        ("EasyAnimate 5.1 12B", 576, 384),
        ("Mochi 10B", 573, 381),
        ("LTX-Video 13B", 480, 336),
        ("LTX-2 19B", 1344, 960),
        ("Cosmos 3 15B", 504, 288),
        # Of its 464 Linears and 368 inputs, 4 are embedders and 44 shift by the time.
        ("Stable Video Diffusion XT 1.5B", 464 - 48, 368 - 48),
    ],
)
def test_at_real_size(name: str, linears: int, inputs: int) -> None:
    """Counted by hand from the blocks of diffusers' sources."""
    model = denoiser(name).make_real(name)
    family = family_of(model)
    covered = _covered(model, family)
    assert (len(covered), len({family.input_group(layer) for layer in covered})) == (linears, inputs)


def _inputs(listed: Denoiser) -> tuple[nn.Module, dict[str, Tensor]]:
    """A tiny model, and all rows that each Linear read in one forward pass."""
    seen: dict[str, list[Tensor]] = defaultdict(list)

    def note(name: str, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
        rows = args[0] if args else kwargs["input"]
        seen[name].append(rows.reshape(-1, rows.shape[-1]).clone())

    model = _tiny(listed.name)
    hooks = [
        module.register_forward_pre_hook(lambda _, a, k, name=name: note(name, a, k), with_kwargs=True)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    # Wan-Animate-2 compiles its attention mask, which takes a minute on a CPU.
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        model(**listed.inputs(model))
    for hook in hooks:
        hook.remove()
    return model, {name: torch.cat(rows) for name, rows in seen.items()}


def _unit(name: str) -> str:
    """The innermost numbered module of a list that a layer is in: what is read by two of them is not declared."""
    found = re.match(r".*s\.\d+\.", name)
    return found.group() if found else ""


@pytest.mark.parametrize("listed", MODELS, ids=lambda listed: listed.name)
def test_declared_groups_are_exactly_the_layers_that_read_one_input(listed: Denoiser) -> None:
    """Against the model itself: within a block, equal inputs if and only if one declared group."""
    model, seen = _inputs(listed)
    family = family_of(model)
    blocks: dict[tuple[str, int] | None, list[str]] = defaultdict(list)
    for name in set(_covered(model, family)) & set(seen):
        blocks[family.block(name)].append(name)
    assert blocks
    for one, other in (pair for names in blocks.values() for pair in combinations(names, 2)):
        same = seen[one].shape == seen[other].shape and torch.equal(seen[one], seen[other])
        declared = family.input_group(one) == family.input_group(other)
        assert same == declared or (same and _unit(one) != _unit(other)), (one, other)


def test_every_layer_of_a_block_has_a_role_or_is_known_to_have_none() -> None:
    for listed in MODELS:
        model = _tiny(listed.name)
        family = family_of(model)
        layers = [name for name, module in model.named_modules() if isinstance(module, _LAYERS) and family.block(name)]
        assert [name for name in layers if family.role(name) is None and not _NO_ROLE.search(name)] == [], listed.name


@pytest.mark.parametrize(
    ("class_name", "layer", "role"),
    [
        ("HunyuanVideoTransformer3DModel", "single_transformer_blocks.0.proj_mlp", "feed_forward"),
        ("HunyuanVideoTransformer3DModel", "single_transformer_blocks.0.proj_out", "feed_forward"),
        ("HunyuanVideoTransformer3DModel", "single_transformer_blocks.0.norm.linear", "modulation"),
        ("HunyuanVideoTransformer3DModel", "context_embedder.token_refiner.refiner_blocks.0.ff.net.2", None),
        ("HunyuanVideoTransformer3DModel", "proj_out", None),
        ("Cosmos3OmniTransformer", "layers.0.mlp_moe_gen.down_proj", "feed_forward"),
        ("EasyAnimateTransformer3DModel", "transformer_blocks.0.txt_ff.net.2", "feed_forward"),
        ("LTX2VideoTransformer3DModel", "transformer_blocks.0.audio_ff.net.0.proj", "feed_forward"),
        ("LTX2VideoTransformer3DModel", "transformer_blocks.0.audio_to_video_attn.to_q", "attention"),
        ("Kandinsky5Transformer3DModel", "visual_transformer_blocks.0.feed_forward.in_layer", "feed_forward"),
        ("Kandinsky6Transformer3DModel", "visual_transformer_blocks.0.va_modulation.out_layer", "modulation"),
        ("MiniMaxH3Transformer3DModel", "transformer_blocks.0.adaln_proj.linear", "modulation"),
        ("MochiTransformer3DModel", "transformer_blocks.0.norm1_context.linear_1", "modulation"),
        ("CosmosTransformer3DModel", "transformer_blocks.0.norm3.linear_1", "modulation"),
        ("UNetSpatioTemporalConditionModel", "mid_block.attentions.0.x.0.ff_in.net.2", "feed_forward"),
        ("UNetSpatioTemporalConditionModel", "up_blocks.1.resnets.0.temporal_res_block.time_emb_proj", "modulation"),
    ],
)
def test_roles_that_names_alone_would_miss(class_name: str, layer: str, role: str | None) -> None:
    family = next(family for family in FAMILIES if class_name in family.classes)
    assert family.role(layer) == role


def _kept(model: nn.Module, **parts: float) -> dict[str, str]:
    """The Linears that W8A8 leaves as they are, and why."""
    body = {"version": 1, "groups": [{"targets": ["Linear"], "scheme": "W8A8"}], **parts}
    plan = layer_plan(model, Recipe.from_dict(body))
    return {layer.name: layer.reason for layer in plan if isinstance(layer, Kept) and layer.kind == "Linear"}


@pytest.mark.parametrize(
    ("name", "outside"),
    [
        ("Latte 1.1B", {"adaln_single", "caption_projection", "proj_out"}),
        ("Allegro 2.8B", {"adaln_single", "caption_projection", "proj_out"}),
        ("ConsisID 6B", {"patch_embed", "time_embedding", "norm_out", "proj_out", "local_facial_extractor"}),
        ("ModelScope T2V 1.4B", {"time_embedding", "transformer_in"}),
        ("Stable Video Diffusion XT 1.5B", {"time_embedding", "add_embedding"}),
    ],
)
def test_embedders_and_the_output_stay_where_diffusers_declares_no_blocks(name: str, outside: set[str]) -> None:
    kept = _kept(_tiny(name))
    assert {layer.partition(".")[0] for layer, why in kept.items() if why.startswith("outside")} == outside


def test_edge_blocks_of_a_u_net_are_at_its_input_and_its_output() -> None:
    kept = _kept(_tiny("Stable Video Diffusion XT 1.5B"), keep_edge_blocks=0.2)
    edges = {layer.split(".resnets")[0].split(".attentions")[0]: why for layer, why in kept.items() if "edge" in why}
    reason = "edge block {} of 5 (keep_edge_blocks)"
    assert edges == {"down_blocks.0": reason.format(0), "up_blocks.1": reason.format(4)}


def test_no_family_depends_on_a_name_that_diffusers_keeps_from_layerwise_casting() -> None:
    """Inside the blocks its declarations keep modulation and nothing else, which the family says itself."""
    for listed in MODELS:
        model = _tiny(listed.name)
        family = family_of(model)
        declared = [name for name, why in _kept(model).items() if "diffusers:" in why]
        assert [name for name in declared if family.role(name) != MODULATION] == [], listed.name


def test_structure_shows_what_is_known_of_every_video_denoiser() -> None:
    """Two descriptions of one model, one written by hand: the same blocks in the same order, and the same roles."""
    for listed in MODELS:
        model = _tiny(listed.name)
        known, shown = family_of(model), generic_family(model)
        for name, module in model.named_modules():
            if isinstance(module, _LAYERS) and not name.startswith(_NOT_SHOWN):
                assert shown.block(name) == known.block(name), (listed.name, name)
                assert shown.role(name) == known.role(name), (listed.name, name)

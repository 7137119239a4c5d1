"""Authors' names of whole models, whose sizes are those of published ones: nothing has values."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from quant.errors import ModelError
from quant.pipelines.inputs import authors
from quant.pipelines.inputs.authors import in_authors_names, merged
from quant.pipelines.inputs.naming import Backwards, Naming
from quant.pipelines.inputs.pieces import Piece
from tests.pipelines.inputs.test_original import wan

#: Class, changes of its defaults, and a tensor of its authors with what it is made of.
MODELS: dict[str, tuple[str, dict[str, Any], str, list[str]]] = {
    "wan": (
        "WanTransformer3DModel",
        {"num_layers": 2, "image_dim": 1280, "added_kv_proj_dim": 5120},
        "blocks.1.cross_attn.k_img.weight",
        ["blocks.1.attn2.add_k_proj.weight"],
    ),
    "vace": (
        "WanVACETransformer3DModel",
        {"num_layers": 2, "vace_layers": [0]},
        "vace_blocks.0.before_proj.bias",
        ["vace_blocks.0.proj_in.bias"],
    ),
    "ltx": (
        "LTXVideoTransformer3DModel",
        {"num_layers": 2},
        "adaln_single.linear.weight",
        ["time_embed.linear.weight"],
    ),
    "hunyuan": (
        "HunyuanVideoTransformer3DModel",
        {"num_layers": 1, "num_single_layers": 1, "num_refiner_layers": 1, "guidance_embeds": True},
        "single_blocks.0.linear1.weight",
        [f"single_transformer_blocks.0.{part}.weight" for part in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")],
    ),
}
Shapes = dict[str, tuple[torch.dtype, tuple[int, ...]]]


def shapes(class_name: str, changes: dict[str, Any]) -> tuple[Any, Shapes]:
    with torch.device("meta"):
        model = getattr(diffusers, class_name)(**changes)
    return model, {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("kind", MODELS)
def test_the_names_are_the_authors_and_lead_back(kind: str) -> None:
    class_name, changes, name, parts = MODELS[kind]
    model, given = shapes(class_name, changes)
    _, made = in_authors_names(type(model), dict(model.config), given, "here")
    assert [piece.tensor for piece in made[name].pieces] == parts
    assert sum(each.numel() for each in made.values()) == sum(p.numel() for p in model.state_dict().values())
    if kind in ("wan", "vace"):
        assert {*made} == {*wan(dict(model.state_dict()))}


def test_modulation_has_its_shift_first_in_hunyuan() -> None:
    class_name, changes, _, _ = MODELS["hunyuan"]
    model, given = shapes(class_name, changes)
    _, made = in_authors_names(type(model), dict(model.config), given, "here")
    n = given["norm_out.linear.bias"][1][0]
    halves = [Piece("norm_out.linear.bias", n // 2, n), Piece("norm_out.linear.bias", 0, n // 2)]
    assert merged(made["final_layer.adaLN_modulation.1.bias"].pieces) == halves


def _exchanged(tensors: Any) -> dict[str, torch.Tensor]:
    found = {**wan(tensors)}
    q, k = (f"blocks.0.self_attn.{part}.weight" for part in "qk")
    return found | {q: found[k], k: found[q]}


def test_a_way_back_that_leads_elsewhere_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    class_name, changes, _, _ = MODELS["wan"]
    wrong = Naming("head.modulation", backwards=Backwards((class_name,), _exchanged, "wan"))
    monkeypatch.setattr(authors, "NAMINGS", (wrong,))
    model, given = shapes(class_name, changes)
    with pytest.raises(ModelError, match=r"here: 'blocks\.0\.attn1\.to_q\.weight' would not be read back"):
        in_authors_names(type(model), dict(model.config), given, "here")


def test_unknown_classes_are_refused_with_the_known() -> None:
    with pytest.raises(ModelError, match=r"authors' names of MochiTransformer3DModel are not known .*WanTransformer3D"):
        in_authors_names(diffusers.MochiTransformer3DModel, {}, {}, "here")

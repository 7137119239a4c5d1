"""Models in their authors' names are read as diffusers' `from_single_file` loads them, tensor by tensor."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ModelMixin
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file
from torch import nn

import quant
from quant.checkpoint.reader import headers
from quant.errors import ModelError
from quant.pipelines.inputs.configs import hub_config
from quant.pipelines.inputs.pieces import trace
from quant.pipelines.inputs.table import open_files
from quant.pipelines.inputs.tensors import as_stored
from quant.pipelines.weights import target_dtype
from tests.tiny_models import ModelMaker

Tensors = dict[str, torch.Tensor]

WAN = (
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("condition_embedder.image_embedder.norm1", "img_emb.proj.0"),
    ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"),
    ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
    ("condition_embedder.image_embedder.norm2", "img_emb.proj.4"),
    ("attn1", "self_attn"),
    ("attn2", "cross_attn"),
    (".to_out.0.", ".o."),
    (".to_q.", ".q."),
    (".to_k.", ".k."),
    (".to_v.", ".v."),
    (".add_k_proj.", ".k_img."),
    (".add_v_proj.", ".v_img."),
    (".norm_added_k.", ".norm_k_img."),
    ("ffn.net.0.proj", "ffn.0"),
    ("ffn.net.2", "ffn.2"),
    ("norm2", "norm_three"),
    ("norm3", "norm2"),
    ("norm_three", "norm3"),
)
LTX = (("proj_in", "patchify_proj"), ("time_embed", "adaln_single"), ("norm_q", "q_norm"), ("norm_k", "k_norm"))
HUNYUAN_TEXT = (
    ("context_embedder", "txt_in"),
    ("token_refiner.refiner_blocks", "individual_token_refiner.blocks"),
    ("time_text_embed.timestep_embedder.linear_1", "t_embedder.mlp.0"),
    ("time_text_embed.timestep_embedder.linear_2", "t_embedder.mlp.2"),
    ("time_text_embed.text_embedder", "c_embedder"),
    ("norm_out.linear", "adaLN_modulation.1"),
    ("proj_in", "input_embedder"),
    ("attn.to_out.0", "self_attn_proj"),
    ("ff.net.0.proj", "mlp.fc1"),
    ("ff.net.2", "mlp.fc2"),
)
HUNYUAN = (
    ("x_embedder", "img_in"),
    ("time_text_embed.timestep_embedder.linear_1", "time_in.mlp.0"),
    ("time_text_embed.timestep_embedder.linear_2", "time_in.mlp.2"),
    ("time_text_embed.guidance_embedder.linear_1", "guidance_in.mlp.0"),
    ("time_text_embed.guidance_embedder.linear_2", "guidance_in.mlp.2"),
    ("time_text_embed.text_embedder.linear_1", "vector_in.in_layer"),
    ("time_text_embed.text_embedder.linear_2", "vector_in.out_layer"),
    ("transformer_blocks", "double_blocks"),
    ("attn.norm_q", "img_attn_q_norm"),
    ("attn.norm_k", "img_attn_k_norm"),
    ("attn.to_out.0", "img_attn_proj"),
    ("attn.norm_added_q", "txt_attn_q_norm"),
    ("attn.norm_added_k", "txt_attn_k_norm"),
    ("attn.to_add_out", "txt_attn_proj"),
    ("norm1.linear", "img_mod.linear"),
    ("norm1_context.linear", "txt_mod.linear"),
    ("ff_context.net.0.proj", "txt_mlp.fc1"),
    ("ff_context.net.2", "txt_mlp.fc2"),
    ("ff.net.0.proj", "img_mlp.fc1"),
    ("ff.net.2", "img_mlp.fc2"),
    ("norm_out.linear", "final_layer.adaLN_modulation.1"),
    ("proj_out", "final_layer.linear"),
)


COGVIDEOX = (
    ("norm_final", "transformer.final_layernorm"),
    ("attn1.to_out.0", "attention.dense"),
    ("ff.net.0.proj", "mlp.dense_h_to_4h"),
    ("ff.net.2", "mlp.dense_4h_to_h"),
    ("norm1.norm", "input_layernorm"),
    ("norm2.norm", "post_attention_layernorm"),
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("patch_embed", "mixins.patch_embed"),
    ("norm_out.norm", "mixins.final_layer.norm_final"),
    ("norm_out.linear", "mixins.final_layer.adaLN_modulation.1"),
    ("transformer_blocks", "transformer.layers"),
)


def named(key: str, names: Iterable[tuple[str, str]]) -> str:
    for ours, theirs in names:
        key = key.replace(ours, theirs)
    return key


def wan(tensors: Tensors) -> Tensors:
    found = {}
    for name, tensor in tensors.items():
        key = named(name, WAN)
        key = re.sub(r"^scale_shift_table$", "head.modulation", key).replace("scale_shift_table", "modulation")
        key = re.sub(r"^proj_out", "head.head", key)
        key = re.sub(r"^(vace_blocks\.\d+)\.proj_in", r"\1.before_proj", key)
        found[re.sub(r"^(vace_blocks\.\d+)\.proj_out", r"\1.after_proj", key)] = tensor
    return found


def ltx(tensors: Tensors) -> Tensors:
    return {named(name, LTX): tensor for name, tensor in tensors.items()}


def joined(tensors: Tensors, parts: Iterable[str], name: str) -> None:
    """Puts q, k and v of every layer that has them into one tensor."""
    first = next(iter(parts))
    for key in [key for key in tensors if first in key]:
        tensors[key.replace(first, name)] = torch.cat([tensors.pop(key.replace(first, part)) for part in parts])


def hunyuan(tensors: Tensors) -> Tensors:
    text = {name: tensor for name, tensor in tensors.items() if name.startswith("context_embedder")}
    rest = {name: tensor for name, tensor in tensors.items() if name not in text}
    joined(text, ("attn.to_q", "attn.to_k", "attn.to_v"), "self_attn_qkv")
    joined(rest, ("attn.to_q", "attn.to_k", "attn.to_v"), "img_attn_qkv")
    joined(rest, ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"), "txt_attn_qkv")
    for key in ("norm_out.linear.weight", "norm_out.linear.bias"):
        rest[key] = torch.cat(rest[key].chunk(2)[::-1])
    return {named(name, HUNYUAN_TEXT): tensor for name, tensor in text.items()} | {
        named(name, HUNYUAN): tensor for name, tensor in rest.items()
    }


def cogvideox(tensors: Tensors) -> Tensors:
    found = dict(tensors)
    joined(found, ("attn1.to_q", "attn1.to_k", "attn1.to_v"), "attention.query_key_value")
    for key in [key for key in found if "norm1.linear" in key]:
        layer, leaf = key.split(".")[1], key.rpartition(".")[2]
        first, second = found.pop(key).chunk(6), found.pop(key.replace("norm1", "norm2")).chunk(6)
        name = f"mixins.adaln_layer.adaLN_modulations.{layer}.1.{leaf}"
        found[name] = torch.cat([*first[:3], *second[:3], *first[3:], *second[3:]])
    for part, kind in (("q", "query"), ("k", "key")):
        for key in [key for key in found if f"attn1.norm_{part}" in key]:
            layer, leaf = key.split(".")[1], key.rpartition(".")[2]
            found[f"mixins.adaln_layer.{kind}_layernorm_list.{layer}.{leaf}"] = found.pop(key)
    found["mixins.final_layer.linear.weight"] = found.pop("proj_out.weight")
    found["mixins.final_layer.linear.bias"] = found.pop("proj_out.bias")
    return {key if "mixins" in key else named(key, COGVIDEOX): tensor for key, tensor in found.items()}


MODELS: dict[str, tuple[str, dict[str, Any], Callable[[Tensors], Tensors]]] = {
    "wan": ("WanTransformer3DModel", {"cross_attn_norm": True}, wan),
    "wan, from an image": (
        "WanTransformer3DModel",
        {"cross_attn_norm": True, "image_dim": 8, "added_kv_proj_dim": 24},
        wan,
    ),
    "wan vace": ("WanVACETransformer3DModel", {"cross_attn_norm": True}, wan),
    "ltx": ("LTXVideoTransformer3DModel", {}, ltx),
    "hunyuan": ("HunyuanVideoTransformer3DModel", {"num_single_layers": 0, "guidance_embeds": True}, hunyuan),
    "cogvideox": ("CogVideoXTransformer3DModel", {}, cogvideox),
}


def written(model: nn.Module, path: Path, names: Callable[[Tensors], Tensors], prefix: str = "") -> Tensors:
    """The tensors of a model with drawn weights, written to a file in its authors' names."""
    assert isinstance(model, ModelMixin)
    for tensor in model.state_dict().values():
        nn.init.normal_(tensor)
    tensors = {f"{prefix}{name}": each.contiguous() for name, each in names(dict(model.state_dict())).items()}
    save_file(tensors, path)
    model.save_config(path.parent / "config")
    return tensors


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("kind", MODELS)
def test_as_diffusers_loads_them(make_model: ModelMaker, tmp_path: Path, kind: str, prefix: str) -> None:
    class_name, changes, names = MODELS[kind]
    model = make_model(class_name, device="cpu", **changes)
    file = tmp_path / "model.safetensors"
    stored = written(model, file, names, prefix)
    assert {*stored} != {*model.state_dict()}
    # diffusers itself does not know that prefix of HunyuanVideo, nor CogVideoX.
    if not (prefix and kind == "hunyuan") and kind != "cogvideox":
        theirs = type(model).from_single_file(str(file), config=str(tmp_path / "config"))  # type: ignore[attr-defined]
        assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in theirs.state_dict().items())
    found = open_files(file, tmp_path / "config")
    assert found.config["_class_name"] == class_name
    assert type(found.model) is type(model)
    for dtype in (torch.float32, torch.bfloat16):
        plans = found.tensors(dtype)
        assert list(plans) == list(model.state_dict())
        for name, expected in model.state_dict().items():
            made = plans[name].whole()
            assert torch.equal(made, expected.to(target_dtype(model, name, expected.dtype, dtype)))
            assert made.dtype == plans[name].dtype


SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "HunyuanVideoTransformer3DModel": {
        "txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.bias": (6,),
        "single_blocks.0.linear1.weight": (3 * 3072 + 20, 2),
        "single_blocks.0.linear1.bias": (3 * 3072 + 20,),
        "single_blocks.0.linear2.weight": (4, 5),
        "single_blocks.0.modulation.linear.weight": (6, 2),
        "single_blocks.0.q_norm.weight": (3,),
        "final_layer.adaLN_modulation.1.weight": (6, 2),
    },
    "WanAnimateTransformer3DModel": {
        "motion_encoder.enc.net_app.convs.0.1.bias": (1, 6, 1, 1),
        "motion_encoder.enc.net_app.convs.1.conv1.0.weight": (4, 3, 2, 2),
        "motion_encoder.dec.direction.weight": (4, 3),
        "face_adapter.fuser_blocks.0.linear1_kv.weight": (8, 3),
        "face_adapter.fuser_blocks.0.linear1_kv.bias": (8,),
        "face_adapter.fuser_blocks.0.linear2.weight": (4, 3),
        "blocks.0.norm3.weight": (3,),
    },
    "LTX2VideoTransformer3DModel": {
        "patchify_proj.weight": (4, 3),
        "audio_patchify_proj.weight": (4, 3),
        "adaln_single.linear.weight": (4, 3),
        "audio_adaln_single.linear.bias": (4,),
        "av_ca_a2v_gate_adaln_single.emb.timestep_embedder.linear_1.weight": (4, 3),
        "transformer_blocks.0.attn1.q_norm.weight": (3,),
        "transformer_blocks.0.scale_shift_table_a2v_ca_video": (5, 3),
        "video_embeddings_connector.learnable_registers": (2, 3),
    },
}


@pytest.mark.parametrize("class_name", SHAPES)
def test_maps_of_layers_too_large_for_a_test(tmp_path: Path, class_name: str) -> None:
    names: Any = SINGLE_FILE_LOADABLE_CLASSES[class_name]["checkpoint_mapping_fn"]
    torch.manual_seed(0)
    real = {name: torch.randn(shape) for name, shape in SHAPES[class_name].items()}
    save_file(real, tmp_path / "model.safetensors")
    found, left = trace(lambda tensors: names(checkpoint=tensors), as_stored(headers([tmp_path / "model.safetensors"])))
    expected = names(checkpoint=dict(real))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name].whole(), tensor) for name, tensor in expected.items())
    assert left == [name for name in real if "embeddings_connector" in name]


def test_the_other_components_of_a_file_are_left_out_and_named(make_model: ModelMaker, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    model = make_model("LTXVideoTransformer3DModel", device="cpu")
    tensors = written(model, file, ltx, "model.diffusion_model.")
    save_file({**tensors, "vae.decoder.conv_in.conv.weight": torch.zeros(2)}, file)
    says = "1 tensors are no part of the denoiser and are left out, such as 'vae.decoder.conv_in.conv.weight'"
    with pytest.warns(UserWarning, match=says):
        assert open_files(file, tmp_path / "config").tensors(torch.float32).keys() == model.state_dict().keys()


def test_scaled_codes_in_authors_names(make_model: ModelMaker, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    model = make_model("HunyuanVideoTransformer3DModel", device="cpu", num_single_layers=0)
    tensors = written(model, file, hunyuan, "model.diffusion_model.")
    layer = "model.diffusion_model.double_blocks.0.img_attn_qkv"
    codes, scale = (tensors[f"{layer}.weight"] * 50).to(torch.float8_e4m3fn), torch.tensor(0.03)
    scaled = {f"{layer}.weight": codes, f"{layer}.scale_weight": scale, f"{layer}.scale_input": torch.ones(())}
    save_file({**tensors, **scaled, "model.diffusion_model.scaled_fp8": torch.zeros(2, dtype=codes.dtype)}, file)
    plans = open_files(file, tmp_path / "config").tensors(torch.bfloat16)
    q, k, v = (codes.float() * scale).bfloat16().chunk(3)
    for name, expected in (("to_q", q), ("to_k", k), ("to_v", v)):
        assert torch.equal(plans[f"transformer_blocks.0.attn.{name}.weight"].whole(), expected)


def test_a_folder_of_shards_with_the_authors_own_config(make_model: ModelMaker, tmp_path: Path) -> None:
    model = make_model("WanTransformer3DModel", device="cpu", cross_attn_norm=True)
    tensors = list(written(model, tmp_path / "model.safetensors", wan).items())
    folder = tmp_path / "Wan"
    folder.mkdir()
    files = [f"diffusion_pytorch_model-{i}-of-00002.safetensors" for i in ("00001", "00002")]
    weight_map = {}
    for i, file in enumerate(files):
        save_file(dict(tensors[i::2]), folder / file)
        weight_map.update({name: file for name, _ in tensors[i::2]})
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    own = {"_class_name": "WanModel", "dim": 24, "num_layers": 3}
    (folder / "config.json").write_text(json.dumps(own))
    plans = open_files(folder, tmp_path / "config").tensors(torch.float32)
    assert all(torch.equal(plans[name].whole(), tensor) for name, tensor in model.state_dict().items())
    with pytest.raises(ModelError, match=r"Wan: has its authors' names, and no config\.json with its class: Wan-AI/W"):
        open_files(folder)
    shutil.copy(tmp_path / "config" / "config.json", folder)
    plans = open_files(folder).tensors(torch.float32)
    assert all(torch.equal(plans[name].whole(), tensor) for name, tensor in model.state_dict().items())


def test_without_a_config_the_remedy_is_named(make_model: ModelMaker, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    written(make_model("LTXVideoTransformer3DModel", device="cpu"), file, ltx)
    with pytest.raises(ModelError, match=r"diffusers/LTX-Video-0\.9\.0: its config\.json is not .*; give --config DIR"):
        open_files(file)


def test_cogvideox_needs_a_config(make_model: ModelMaker, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    tensors = written(make_model("CogVideoXTransformer3DModel", device="cpu"), file, cogvideox)
    with pytest.raises(ModelError, match="has its authors' names; give --config DIR, a folder with its class's config"):
        open_files(file)
    save_file({**tensors, "transformer.position_embedding.freqs_sin": torch.zeros(2)}, file)
    with pytest.warns(UserWarning, match=r"1 tensors are no part of CogVideoXTransformer3DModel .*freqs_sin'"):
        open_files(file, tmp_path / "config")


def test_another_models_config_is_refused(make_model: ModelMaker, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    written(make_model("WanTransformer3DModel", device="cpu", cross_attn_norm=True), file, wan)
    config = json.loads((tmp_path / "config" / "config.json").read_text())
    for changes, says in (
        ({"num_layers": 4}, "has no tensor 'blocks.3.scale_shift_table', which WanTransformer3DModel needs"),
        (
            {"_class_name": "CogVideoXTransformer3DModel"},
            "diffusers reads no CogVideoXTransformer3DModel in its authors",
        ),
        (
            {"_class_name": "MochiTransformer3DModel"},
            "diffusers cannot name its tensors as Mochi",
        ),
    ):
        (tmp_path / "config" / "config.json").write_text(json.dumps({**config, **changes}))
        with pytest.raises(quant.QuantError, match=re.escape(says)):
            open_files(file, tmp_path / "config").tensors(torch.float32)


def test_a_single_file_in_diffusers_names(make_model: ModelMaker, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    model = make_model("CogVideoXTransformer3DModel", device="cpu")
    written(model, file, dict)
    pipeline = tmp_path / "pipeline"
    shutil.copytree(tmp_path / "config", pipeline / "transformer")
    plans = open_files(file, pipeline).tensors(torch.float32)
    assert all(torch.equal(plans[name].whole(), tensor) for name, tensor in model.state_dict().items())
    with pytest.raises(ModelError, match=r"quant: has no config\.json; give the folder of a model or of its pipeline"):
        open_files(file, Path(quant.__file__).parent)


def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def unreachable(model: str, name: str, *, local_files_only: bool) -> str:
        asked.append((name, local_files_only))
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    with pytest.raises(ModelError, match=r"Wan-AI/Wan2\.1: its config\.json is not .* from the hub: no network; give"):
        hub_config("Wan-AI/Wan2.1")
    assert asked == [
        ("transformer/config.json", False),
        *((name, True) for name in ("transformer_2/config.json", "unet/config.json", "config.json")),
    ]

"""Loading what is damaged or of something else: refused in words that name the file, the tensor and the reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, WanTransformer3DModel
from safetensors.torch import load_file, save_file

import quant
import quant.diffusers
from quant.layers.linear import QuantLinear
from quant.recipe import Recipe
from tests.api.editing import WEIGHTS, Edit, configured, edited, put_all
from tests.tiny_pipeline import FFN, WIDTH

LAYER = "blocks.0.ffn.net.2"


@pytest.fixture
def copied(checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    """The transformer of a checkpoint, to be damaged, with its manifest beside it."""
    shutil.copytree(checkpoints["w8a8"], tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def lone(copied: Path) -> Path:
    """The transformer of a smoothed checkpoint that no manifest speaks of."""
    return copied.joinpath("transformer").rename(copied.parent / "lone")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-7] ^= 1
    path.write_bytes(bytes(data))


def _drop(path: Path) -> None:
    tensors = load_file(path)
    del tensors["blocks.0.ffn.net.2.weight_scale"]
    save_file(tensors, path)


def _cast(path: Path) -> None:
    tensors = load_file(path)
    tensors["blocks.0.ffn.net.2.weight_scale"] = tensors["blocks.0.ffn.net.2.weight_scale"].double()
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_flip, f"{WEIGHTS}: its SHA-256 differs"),
        (lambda path: path.write_bytes(path.read_bytes()[:-50]), f"{WEIGHTS}: has .* bytes, the manifest says"),
        (lambda path: path.unlink(), f"{WEIGHTS}: missing; the checkpoint is incomplete"),
    ],
)
def test_damage_is_found_against_the_manifest(copied: Path, damage: Any, says: str) -> None:
    damage(copied / "transformer" / WEIGHTS)
    for folder in (copied, copied / "transformer"):
        with pytest.raises(quant.QuantError, match=says):
            quant.load(folder)


def test_a_flipped_bit_is_found_by_diffusers_own_ways_too(copied: Path) -> None:
    _flip(copied / "transformer" / WEIGHTS)
    ways: tuple[Callable[[], Any], ...] = (
        lambda: WanTransformer3DModel.from_pretrained(copied / "transformer"),
        lambda: WanTransformer3DModel.from_pretrained(copied, subfolder="transformer"),
        lambda: DiffusionPipeline.from_pretrained(copied),
    )
    for way in ways:
        with pytest.raises(quant.QuantError, match=f"{WEIGHTS}: its SHA-256 differs"):
            way()
    quant.load(copied, check_files=False)  # as it was asked
    _flip(copied / "transformer" / WEIGHTS)
    shutil.rmtree(copied / "vae")  # a component needs no other
    WanTransformer3DModel.from_pretrained(copied / "transformer")
    (vector,) = (copied / "text_encoder").glob("*.safetensors")
    _flip(vector)
    with pytest.raises(quant.QuantError, match=f"{vector.name}: its SHA-256 differs"):
        DiffusionPipeline.from_pretrained(copied, vae=None)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_drop, "no tensor 'blocks.0.ffn.net.2.weight_scale'"),
        (_cast, "'blocks.0.ffn.net.2.weight_scale' is F64, its scheme needs F32"),
        (lambda path: path.write_bytes(path.read_bytes()[:-50]), "truncated or damaged"),
    ],
)
def test_damage_is_found_without_a_manifest(copied: Path, damage: Any, says: str) -> None:
    (copied / "quant_manifest.json").unlink()
    damage(copied / "transformer" / WEIGHTS)
    with pytest.raises(quant.QuantError, match=says):
        quant.load(copied)


def test_folders_that_are_no_checkpoint(model_folder: Path, copied: Path, tmp_path: Path) -> None:
    with pytest.raises(quant.QuantError, match="nothing: no such checkpoint folder"):
        quant.load(tmp_path / "nothing")
    with pytest.raises(quant.QuantError, match="holds no quantized component"):
        quant.load(model_folder)
    with pytest.raises(quant.QuantError, match="has no quantized component 'unet', only transformer"):
        quant.load(copied, component="unet")
    config = copied / "transformer" / "config.json"
    body = json.loads(config.read_text())
    body["quantization_config"]["format_version"] = 9
    config.write_text(json.dumps(body))
    (copied / "quant_manifest.json").unlink()
    with pytest.raises(quant.QuantError, match="format_version is 9; this release reads 1"):
        quant.load(copied)


@pytest.fixture
def other_model() -> Iterator[WanTransformer3DModel]:
    with torch.device("meta"):
        yield WanTransformer3DModel(num_layers=1, num_attention_heads=2, attention_head_dim=32, ffn_dim=FFN)


def test_into_another_model_is_refused_and_leaves_it_alone(
    checkpoints: dict[str, Path], other_model: WanTransformer3DModel
) -> None:
    with pytest.raises(quant.QuantError, match=r"tensor 'patch_embedding\.weight' is .*, the model needs"):
        quant.load(checkpoints["fp8-dynamic"], into=other_model)
    assert not any(isinstance(module, QuantLinear) for module in other_model.modules())


def both_refuse(folder: Path, says: str) -> None:
    """`quant.load`, with and without its hashes, and diffusers' own way."""
    ways = (
        lambda: quant.load(folder),
        lambda: quant.load(folder, check_files=False),
        lambda: WanTransformer3DModel.from_pretrained(folder),
    )
    for way in ways:
        with pytest.raises(quant.QuantError, match=says):
            way()


def put(leaf: str, value: float) -> Edit:
    return lambda tensors: tensors[f"{LAYER}.{leaf}"].view(-1)[-1:].fill_(value)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (put("weight_scale", float("nan")), rf"lone: tensor '{LAYER}.weight_scale' holds NaN at \[63, 0\]; a scale is"),
        (put("weight_scale", 0), rf"tensor '{LAYER}.weight_scale' holds 0 at"),
        (put("pre_quant_scale", -1), rf"tensor '{LAYER}.pre_quant_scale' holds -1 at \[127\]; a smoothing factor is"),
        (put("bias", float("inf")), rf"tensor '{LAYER}.bias' holds Inf at \[63\]; weights are finite"),
        (lambda tensors: tensors["proj_out.weight"].fill_(float("nan")), r"'proj_out\.weight' holds NaN at \[0, 0\]"),
        (lambda tensors: tensors.update(new=torch.zeros(1)), "holds a tensor 'new' that the model has not"),
        (lambda tensors: tensors.pop(f"{LAYER}.bias"), f"has no tensor '{LAYER}.bias'"),
        (
            lambda tensors: tensors.update({"proj_out.bias": torch.zeros(16, dtype=torch.int8)}),
            "is I8, the model needs a",
        ),
    ],
)
def test_what_quant_load_refuses_from_pretrained_refuses(lone: Path, edit: Edit, says: str) -> None:
    edited(lone, edit)
    both_refuse(lone, says)


def test_tensors_that_the_config_does_not_speak_of_are_refused(lone: Path) -> None:
    edited(lone, lambda tensors: None)  # by another writer, which keeps no hash of the config
    configured(lone, lambda body: body["quantization_config"].pop("smoothed"))
    both_refuse(lone, r"holds a tensor 'blocks\.0\..*\.pre_quant_scale' that the model has not")


def test_a_config_that_was_changed_is_named(lone: Path) -> None:
    configured(lone, lambda body: body.update(num_attention_heads=4, attention_head_dim=16))  # of the same shapes
    for way in (quant.load, quant.inspect, WanTransformer3DModel.from_pretrained):
        with pytest.raises(
            quant.QuantError, match=r"config\.json: was changed after diffusion_pytorch_model\.safetensors"
        ):
            way(lone)
    assert quant.load(lone, check_files=False).config["num_attention_heads"] == 4  # type: ignore[index]


def test_a_sparse_weight_that_is_not(model_folder: Path, tmp_path: Path) -> None:
    group = {"targets": ["Linear"], "scheme": "W8A8", "sparsity": {"method": "magnitude"}}
    quant.calibrate(
        model_folder / "transformer",
        Recipe.from_dict({"version": 1, "groups": [group]}),
        tmp_path / "o",
        progress=False,
    )
    (tmp_path / "o" / "quant_manifest.json").unlink()
    edited(tmp_path / "o", lambda tensors: tensors[f"{LAYER}.weight"][3].fill_(1))
    both_refuse(tmp_path / "o", rf"o: tensor '{LAYER}.weight' is not 2:4: row 3 has more than two nonzero values")


def test_a_packed_shape_that_is_another(model_folder: Path, tmp_path: Path) -> None:
    scheme = {"weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}}
    recipe = Recipe.from_dict({"version": 1, "groups": [{"targets": ["Linear"], "scheme": scheme}]})
    quant.calibrate(model_folder / "transformer", recipe, tmp_path / "o", progress=False)
    (tmp_path / "o" / "quant_manifest.json").unlink()
    for wrong in ([2**40, FFN], [WIDTH, FFN + 32], [-1, 0]):
        shape = {f"{LAYER}.weight_shape": torch.tensor(wrong)}
        edited(tmp_path / "o", put_all(shape))
        says = rf"tensor '{LAYER}\.weight_shape' is \[{wrong[0]}, {wrong[1]}\], "
        both_refuse(tmp_path / "o", says)
        with pytest.raises(quant.QuantError, match=says):
            quant.inspect(tmp_path / "o")


def test_values_are_checked_before_a_module_is_filled(tmp_path: Path) -> None:
    quant.save(quant.quantize(torch.nn.Sequential(torch.nn.Linear(128, 64)), "fp8-dynamic"), tmp_path / "o")
    (tmp_path / "o" / "quant_manifest.json").unlink()
    edited(tmp_path / "o", lambda tensors: tensors["0.weight"].view(torch.uint8)[63, 127:].fill_(0x7F))
    module = torch.nn.Sequential(torch.nn.Linear(128, 64))
    with pytest.raises(quant.QuantError, match=r"o: tensor '0\.weight' holds NaN: 0x7f and 0xff are no codes"):
        quant.load(tmp_path / "o", into=module)
    assert isinstance(module[0], torch.nn.Linear)


def test_weights_beside_those_that_were_checked_are_refused(copied: Path) -> None:
    stale = copied / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    stale.write_text("{}")
    for way in (
        lambda: quant.load(copied),
        lambda: quant.load(copied, check_files=False),
        lambda: quant.inspect(copied),
    ):
        with pytest.raises(
            quant.QuantError, match=r"index\.json: is not in .*, so it is of another checkpoint; remove it"
        ):
            way()


def test_other_libraries_errors_are_one_line(lone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any, **kwargs: Any) -> None:
        raise ValueError("first\nsecond")

    monkeypatch.setattr(WanTransformer3DModel, "from_pretrained", fails)
    with pytest.raises(quant.QuantError, match=r"lone: diffusers cannot load it: first$"):
        quant.load(lone)


def test_a_device_that_is_not_here_is_named_before_anything_is_read() -> None:
    with pytest.raises(quant.QuantError, match="device 'cuda:99' is not here"):
        quant.load("nowhere", device="cuda:99")

"""Every recipe that is shipped goes from a model to a checkpoint to a video, in every way it can be loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file

import quant
import quant.diffusers
from quant.calibration.layer_plan import Planned, layer_plan
from quant.recipe_files import find_recipe, shipped_recipes
from tests.api.editing import WEIGHTS
from tests.api.test_load import inputs
from tests.tiny_checkpoints import RECIPES
from tests.tiny_pipeline import PROMPTS, SETTINGS, save_pipeline

OTHERS = sorted({name.partition("/")[2] for name in shipped_recipes()} - set(RECIPES))
#: Of a width that groups of 128 fit.
BROAD = {"attention_head_dim": 64, "ffn_dim": 256}
#: And deep enough for 0.075 of the blocks to be one.
DEEP = {**BROAD, "num_layers": 8}
#: Linears of a block that a scheme's groups of 128 fit: the second of the feed-forward, which alone is that wide.
WIDE = ("ffn.net.2",)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Full pipeline folders by recipe."""
    model = save_pipeline(tmp_path_factory.mktemp("recipes") / "model")
    broad = save_pipeline(model.parent / "broad", **BROAD)
    deep = save_pipeline(model.parent / "deep", **DEEP)
    folders = {}
    for recipe in OTHERS:
        folders[recipe] = model.parent / recipe
        given = deep if recipe.endswith("-edges") else broad if recipe == "mixed" else model
        quant.calibrate(given, recipe, folders[recipe], prompts=PROMPTS[:2], full=True, progress=False)
    return folders


@pytest.mark.parametrize("recipe", OTHERS)
def test_calibrated_inspected_loaded_and_saved(made: dict[str, Path], recipe: str, tmp_path: Path) -> None:
    folder = made[recipe]
    (component,) = quant.inspect(folder).components
    packed = [layer for layer in component.layers if layer.scheme is not None]
    assert packed
    for layer in packed:
        assert layer.weight_error is not None and 0 < layer.weight_error < 1
        assert len(layer.shape) == 2 and layer.shape == tuple(
            dict(WanTransformer3DModel.from_config(folder / "transformer").named_modules())[layer.name].weight.shape
        )
    loaded = quant.load(folder)
    state, file = loaded.state_dict(), load_file(folder / "transformer" / WEIGHTS)
    assert state.keys() == file.keys()
    assert all(state[key].dtype == file[key].dtype and torch.equal(state[key], file[key]) for key in file)
    theirs = WanTransformer3DModel.from_pretrained(folder / "transformer")
    given = inputs(torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(loaded(**given)[0], theirs(**given)[0])
    theirs.save_pretrained(tmp_path / "again")
    again = load_file(tmp_path / "again" / WEIGHTS)
    assert again.keys() == file.keys()
    assert all(torch.equal(again[key], file[key]) for key in file)
    quant.save(loaded, tmp_path / "saved")
    assert all(torch.equal(tensor, file[key]) for key, tensor in load_file(tmp_path / "saved" / WEIGHTS).items())


def test_wan_recipes_keep_the_first_and_last_three_of_forty_blocks() -> None:
    with torch.device("meta"):
        model = WanTransformer3DModel(num_layers=40, num_attention_heads=40, ffn_dim=13824)
    for name in ("w4a8-edges", "w4afp8-edges", "sparse24-fp8-edges"):
        plan = layer_plan(model, find_recipe(name, "wan"))
        quantized = {layer.name for layer in plan if isinstance(layer, Planned)}
        assert {name.split(".")[1] for name in quantized} == {str(block) for block in range(3, 37)}
        assert len(quantized) == 34 * 10


def test_mixed_has_layers_of_both_schemes_and_says_why(made: dict[str, Path]) -> None:
    (component,) = quant.inspect(made["mixed"]).components
    schemes = [layer.scheme for layer in component.layers if layer.scheme is not None]
    assert set(schemes) == {"W4A8", "W8A8"}
    written = quant.Recipe.from_file(made["mixed"] / "recipe.yaml")
    assert set(written.groups[0].targets) == {layer.name for layer in component.layers if layer.scheme == "W8A8"}


def test_layers_have_the_largest_groups_that_fit_and_say_so(made: dict[str, Path]) -> None:
    (component,) = quant.inspect(made["w4a16-gptq"]).components
    layers = {layer.name: layer for layer in component.layers if layer.name.startswith("blocks.")}
    assert {name.endswith(WIDE) for name in layers} == {True, False}
    for name, layer in layers.items():
        wide = name.endswith(WIDE)
        assert layer.scheme == ("W4A16" if wide else "W4A16_G64")
        assert layer.reason == ("" if wide else "groups of 128 do not fit in_features 64: groups of 64 used")
    groups = json.loads((made["w4a16-gptq"] / "transformer" / "config.json").read_text())["quantization_config"]
    sizes = {group["weights"]["group_size"]: len(group["targets"]) for group in groups["config_groups"].values()}
    assert sizes == {64: len(layers) - 2, 128: 2} and groups["quant_method"] == "compressed-tensors"
    assert quant.verify(made["w4a16-gptq"], progress=False).sound


def test_a_layer_that_does_not_fit_is_refused_by_name_where_the_recipe_does_not_keep_it(made: dict[str, Path]) -> None:
    recipe = quant.Recipe.from_dict({"version": 1, "groups": [{"targets": ["Linear"], "scheme": "W4A16"}]}, "mine")
    model = torch.nn.Sequential(torch.nn.Linear(320, 8), torch.nn.Linear(8, 77), torch.nn.Linear(77, 1))
    with pytest.raises(quant.QuantError) as refused:
        quant.quantize(model, recipe)
    assert str(refused.value).startswith("mine: layer '0' [8, 320]: groups of 128 do not fit in_features 320; ")
    assert "'misfits: keep'" in str(refused.value)
    sparse = {"version": 1, "groups": [{"targets": ["Linear"], "sparsity": {"method": "magnitude"}}]}
    with pytest.raises(quant.QuantError, match=r"layer '2' \[1, 77\]: 2:4 needs in_features a multiple of 4, got 77"):
        quant.quantize(model, quant.Recipe.from_dict(sparse, "mine"))


def test_a_weight_that_is_not_sparse_is_refused_with_its_place(made: dict[str, Path], tmp_path: Path) -> None:
    model = quant.load(made["sparse24"])
    state = model.state_dict()
    name = "blocks.1.ffn.net.2.weight"
    state[name] = state[name].clone()
    state[name][5, 8:12] = 1.0
    with pytest.raises(ValueError, match="row 5 has more than two nonzero values in columns 8 to 11"):
        model.load_state_dict(state)


def test_a_fresh_process_makes_a_video_of_each(made: dict[str, Path]) -> None:
    code = """
import sys, torch, quant.diffusers
from diffusers import DiffusionPipeline
settings = eval(sys.argv[1])
for folder in sys.argv[2:]:
    pipe = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    video = pipe("a red fox", **settings, output_type="pt", generator=generator).frames
    packed = sum(type(module).__name__ == "QuantLinear" for module in pipe.transformer.modules())
    assert packed and torch.isfinite(video).all() and video.std() > 0, folder
    print(folder, packed)
"""
    folders = [str(folder) for folder in made.values()]
    settings = {**SETTINGS, "num_inference_steps": 1}
    command = [sys.executable, "-c", code, repr(settings), *folders]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert [line.split()[0] for line in ran.stdout.splitlines()] == folders


def test_zeros_by_magnitude_beside_a_calibrated_input(made: dict[str, Path], tmp_path: Path) -> None:
    group = {"targets": ["re:.*ffn.*"], "scheme": "FP8", "sparsity": {"method": "magnitude"}}
    recipe = quant.Recipe.from_dict({"version": 1, "groups": [group]})
    quant.calibrate(made["sparse24"].parent / "model", recipe, tmp_path / "out", prompts=PROMPTS[:1], progress=False)
    file = load_file(tmp_path / "out" / "transformer" / WEIGHTS)
    assert file["blocks.0.ffn.net.2.input_scale"].item() > 0
    assert ((file["blocks.0.ffn.net.2.weight"].float() == 0).reshape(-1, 4).sum(dim=1) >= 2).all()


@pytest.mark.parametrize("scheme", [None, "W8A8"])
def test_zeros_by_magnitude_need_neither_data_nor_a_loaded_model(
    made: dict[str, Path], tmp_path: Path, scheme: str | None
) -> None:
    group = {"targets": ["re:.*ffn.*"], "sparsity": {"method": "magnitude"}}
    recipe = quant.Recipe.from_dict(
        {"version": 1, "groups": [group if scheme is None else {**group, "scheme": scheme}]}
    )
    model = made["sparse24"].parent / "model"
    found = quant.calibrate(model, recipe, tmp_path / "out", progress=False)
    assert found.used_prompts == 0
    weight = load_file(tmp_path / "out" / "transformer" / WEIGHTS)["blocks.0.ffn.net.2.weight"]
    original = load_file(model / "transformer" / WEIGHTS)["blocks.0.ffn.net.2.weight"]
    size, zero = original.float().abs().reshape(-1, 4), (weight.float() == 0).reshape(-1, 4)
    assert (zero.sum(dim=1) >= 2).all() and (zero.sum(dim=1) == 2).float().mean() > 0.9
    assert (size.masked_fill(~zero, 0).amax(dim=1) <= size.masked_fill(zero, float("inf")).amin(dim=1)).all()
    assert quant.load(tmp_path / "out") is not None

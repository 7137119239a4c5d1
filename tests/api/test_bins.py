"""Static input ranges by bins of the noise schedule, through all of a checkpoint's life."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file

import quant
import quant.diffusers
from quant.layers.replace import quantized_layers
from tests.api.editing import WEIGHTS
from tests.api.test_load import inputs
from tests.layers.fused.wan_blocks import relative_error
from tests.tiny_pipeline import LINEARS, PROMPTS

BINS = 3
GROUP = {"targets": ["Linear"], "scheme": "FP8", "bins": BINS}
RECIPE = {"version": 1, "groups": [GROUP]}
TIMESTEPS = (999.0, 600.0, 20.0)


@pytest.fixture(scope="module")
def checkpoint(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bins") / "out"
    settings = quant.GenerationSettings(num_inference_steps=5)
    recipe = quant.Recipe.from_dict(RECIPE, "bins")
    quant.calibrate(model_folder, recipe, out, prompts=PROMPTS[:1], settings=settings, progress=False)
    return out / "transformer"


def outputs(model: Any) -> torch.Tensor:
    """At several timesteps, which differ in their bins."""
    given = inputs(torch.float32)
    with torch.no_grad():
        found = [model(**{**given, "timestep": torch.tensor([timestep])})[0] for timestep in TIMESTEPS]
    return torch.stack(found)


def test_every_layer_has_its_own_ranges_and_edges(checkpoint: Path) -> None:
    file = load_file(checkpoint / WEIGHTS)
    edges = [tensor for name, tensor in file.items() if name.endswith("bin_edges")]
    scales = [tensor for name, tensor in file.items() if name.endswith("input_scale")]
    assert len(edges) == len(scales) == LINEARS
    assert {tuple(tensor.shape) for tensor in edges} == {(BINS - 1,)}
    assert {tuple(tensor.shape) for tensor in scales} == {(BINS, 1)}
    assert all(bool((tensor.diff() > 0).all()) for tensor in edges)
    assert any(len(set(tensor.flatten().tolist())) > 1 for tensor in scales)
    for leaf in ("input_scale", "bin_edges"):  # which layers that read one input share
        assert torch.equal(file[f"blocks.0.attn1.to_q.{leaf}"], file[f"blocks.0.attn1.to_v.{leaf}"])


def test_only_this_library_reads_it(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())["quantization_config"]
    assert config["quant_method"] == "quant"
    assert set(config["input_bins"].values()) == {BINS}
    (layer, *_) = [layer for layer in quant.inspect(checkpoint).components[0].layers if layer.scheme]
    assert layer.scheme == f"FP8 in {BINS} bins"
    assert quant.verify(checkpoint).count == 0


def test_every_way_to_load_computes_the_same(checkpoint: Path, tmp_path: Path) -> None:
    ours = quant.load(checkpoint, dtype=torch.float32)
    expected = outputs(ours)
    quant.save(ours, tmp_path / "again")
    ours.save_pretrained(tmp_path / "theirs")  # type: ignore[operator]
    file = load_file(checkpoint / WEIGHTS)
    for folder in (checkpoint, tmp_path / "again", tmp_path / "theirs"):
        again = load_file(folder / WEIGHTS)
        assert again.keys() == file.keys()
        assert all(torch.equal(again[name], file[name]) for name in file if name.endswith(("bin_edges", "_scale")))
        theirs = WanTransformer3DModel.from_pretrained(folder, torch_dtype=torch.float32)
        assert torch.equal(outputs(theirs), expected)
    widest = [layer.static_scale for layer in quantized_layers(ours).values()]
    assert all(scale is not None and scale == layer.input_scale.max()  # type: ignore[union-attr]
               for scale, layer in zip(widest, quantized_layers(ours).values(), strict=True))  # fmt: skip


def test_fused_it_computes_the_same(checkpoint: Path) -> None:
    fused = quant.load(checkpoint, dtype=torch.float32, fused=True)
    assert relative_error(outputs(fused), outputs(quant.load(checkpoint, dtype=torch.float32))) < 1e-3
    parts = fused.blocks[0].parts  # type: ignore[index,union-attr]
    assert parts["attn1.to_qkv"] == "fused" and parts["ffn.net.0.proj"] == "fused, its output leaves as codes"
    state = fused.state_dict()
    assert {name: tensor.shape for name, tensor in state.items()} == {
        name: tensor.shape for name, tensor in load_file(checkpoint / WEIGHTS).items()
    }


@pytest.mark.parametrize(
    ("group", "says"),
    [
        ({"scheme": "W8A8"}, r"groups\[0\]\.bins: W8A8 has no static input"),
        ({"algorithm": "mse"}, r"groups\[0\]\.bins: 'mse' finds one range for the whole schedule"),
        ({"algorithm": {"name": "smoothquant"}}, r"groups\[0\]\.bins: 'smoothquant' finds one range"),
        ({"bins": 65}, r"groups\[0\]\.bins: must be"),
        ({"bins": "4"}, r"groups\[0\]\.bins: must be"),
    ],
)
def test_bins_that_no_one_can_find_are_refused(group: dict[str, Any], says: str) -> None:
    with pytest.raises(quant.QuantError, match=says):
        quant.Recipe.from_dict({"version": 1, "groups": [{**GROUP, **group}]})


def test_a_model_without_timesteps_is_refused() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(32, 32))
    with pytest.raises(quant.QuantError, match=r"bins: Sequential is not called with a 'timestep'"):
        quant.quantize(model, quant.Recipe.from_dict(RECIPE), forward_loop=lambda m: m(torch.ones(2, 32)))


def test_bins_are_part_of_a_recipe_and_of_its_hash_and_one_is_none() -> None:
    recipe = quant.Recipe.from_dict(RECIPE)
    assert quant.Recipe.from_dict(recipe.to_dict()) == recipe
    one, none = ({**RECIPE, "groups": [{**GROUP, **change}]} for change in ({"bins": 1}, {}))
    del none["groups"][0]["bins"]  # type: ignore[index]
    assert quant.Recipe.from_dict(one).sha256 == quant.Recipe.from_dict(none).sha256 != recipe.sha256

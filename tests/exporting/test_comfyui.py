"""Files for ComfyUI, read as its own loader describes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors import safe_open

import quant
from quant.errors import QuantError
from tests.exporting.meaning import converted, in_authors_names, is_same, stored
from tests.pipelines.inputs.test_original import Tensors


class Layer(NamedTuple):
    format: str
    weight: torch.Tensor
    input_scale: torch.Tensor | None


def read(file: Path) -> tuple[dict[str, Layer], Tensors]:
    """The layers of a file and all else in it, by the steps of `convert_old_quants` and `_load_from_state_dict`."""
    with safe_open(file, framework="pt") as opened:
        state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        notes = json.loads((opened.metadata() or {}).get("_quantization_metadata", '{"layers": {}}'))["layers"]
    mark = state.pop("scaled_fp8", None)
    if mark is not None:
        assert mark.dtype == torch.float8_e4m3fn and mark.numel() != 2  # two would mean: multiply in 16 bits
        for name in [name for name in state if name.endswith(".scale_weight")]:
            layer = name.removesuffix(".scale_weight")
            state[f"{layer}.weight_scale"] = state.pop(name)
            notes[layer] = {"format": "float8_e4m3fn"}
        for name in [name for name in state if name.endswith(".scale_input")]:
            state[name.replace(".scale_input", ".input_scale")] = state.pop(name)
    for name in [name for name in state if name.endswith(".comfy_quant")]:
        notes[name.removesuffix(".comfy_quant")] = json.loads(state.pop(name).numpy().tobytes())
    layers = {}
    for layer, note in notes.items():
        weight, scale = state.pop(f"{layer}.weight"), state.pop(f"{layer}.weight_scale")
        assert weight.dtype == {"float8_e4m3fn": torch.float8_e4m3fn, "int8_tensorwise": torch.int8}[note["format"]]
        assert scale.dtype == torch.float32
        assert scale.shape in ((), (len(weight), 1) if weight.dtype == torch.int8 else ())
        layers[layer] = Layer(note["format"], weight.float() * scale, state.pop(f"{layer}.input_scale", None))
    return layers, state


@pytest.mark.parametrize("scheme", ["W8A8", "fp8-static"])
def test_comfyui_reads_the_weights_we_mean(
    model_folder: Path, checkpoints: dict[str, Path], tmp_path: Path, scheme: str
) -> None:
    checkpoint = checkpoints.get(scheme) or converted(model_folder, scheme)
    made = quant.export(checkpoint, tmp_path / "out", to="comfyui")
    meant, codes = stored(checkpoint)
    (file,) = (tmp_path / "out").glob("*.safetensors")
    assert made.files == ("out.safetensors",) == (file.name,)
    layers, rest = read(file)
    expected = in_authors_names(meant)
    assert {*rest, *(f"{layer}.weight" for layer in layers)} == {*expected}
    assert len(layers) == len(codes) == made.layers
    assert all(is_same(tensor, expected[name]) for name, tensor in rest.items())
    inputs = in_authors_names(
        {f"{name}.weight": layer.get("input_scale", torch.zeros(0)) for name, layer in codes.items()}
    )
    for name, layer in layers.items():
        assert is_same(layer.weight, expected[f"{name}.weight"])
        scale = inputs[f"{name}.weight"]
        assert (layer.input_scale is None) == (scale.numel() == 0) == (scheme == "W8A8")
        assert layer.input_scale is None or (layer.input_scale.shape == () and layer.input_scale == scale.item())


def test_a_file_of_ours_is_read_here_with_the_same_codes(model_folder: Path, tmp_path: Path) -> None:
    checkpoint = converted(model_folder, "W8A8")
    quant.export(checkpoint, tmp_path / "out", to="comfyui")
    config = model_folder / "transformer"
    quant.convert(
        tmp_path / "out" / "out.safetensors", tmp_path / "again", scheme="W8A8", config=config, progress=False
    )
    meant, codes = stored(checkpoint)
    again, codes_again = stored(tmp_path / "again")
    assert all(is_same(again[name], tensor) for name, tensor in meant.items())
    assert {*codes_again} == {*codes}


@pytest.mark.parametrize("scheme", ["FP8_DYNAMIC", "W4A16", "W8A16"])
def test_what_it_cannot_hold_is_refused_with_what_it_can(model_folder: Path, tmp_path: Path, scheme: str) -> None:
    with pytest.raises(QuantError, match=r"'blocks\.0\.attn1\.to_q' is .*cannot hold \(20 of 20.*scheme FP8.*W8A8"):
        quant.export(converted(model_folder, scheme), tmp_path / "out", to="comfyui")
    assert not (tmp_path / "out").exists()

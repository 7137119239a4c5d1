"""A checkpoint that claims `compressed-tensors`: that library itself decompresses it to the same weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
from safetensors.torch import load_file

from quant.checkpoint.config import CONFIG_KEY
from quant.checkpoint.exports.table import stored_layers
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from quant.formats.tensors import unpack_linear
from tests.checkpoint.tiny import KEPT, LAYERS, Tiny, tiny, write_tiny

CHECKPOINTS = {
    "FP8_DYNAMIC": dict.fromkeys(LAYERS, "FP8_DYNAMIC"),
    "FP8": dict.fromkeys(LAYERS, "FP8"),
    "W8A8": dict.fromkeys(LAYERS, "W8A8"),
    "FP8_DYNAMIC and W8A8": {**dict.fromkeys(LAYERS[1:], "W8A8"), LAYERS[0]: "FP8_DYNAMIC"},
    "FP8 and W8A8": {LAYERS[0]: "FP8", LAYERS[2]: "W8A8"},
}
every_checkpoint = pytest.mark.parametrize("schemes", CHECKPOINTS.values(), ids=CHECKPOINTS.keys())


def decompressed(folder: Path) -> Tiny:
    """The model as compressed-tensors reads it, in the steps transformers' loader takes."""
    model = tiny(seed=1)
    body = json.loads((folder / "config.json").read_text(encoding="utf-8"))[CONFIG_KEY]
    config = QuantizationConfig.model_validate(body)
    apply_quantization_config(model, config)
    compressor = ModelCompressor(quantization_config=config)
    compressor.compress_model(model)
    stored = {name: t for path in sorted(folder.glob("*.safetensors")) for name, t in load_file(path).items()}
    model.load_state_dict(stored, strict=True)
    compressor.decompress_model(model)
    return model


def of_layer(tensors: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(f"{name}."): t for key, t in tensors.items() if key.startswith(f"{name}.")}


@every_checkpoint
@pytest.mark.parametrize("max_bytes", [10**9, 2000], ids=["one file", "shards"])
def test_compressed_tensors_reads_the_weights_we_mean(tmp_path: Path, schemes: dict[str, str], max_bytes: int) -> None:
    tensors = write_tiny(tmp_path, schemes, max_bytes=max_bytes)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) is (max_bytes == 2000)
    model = decompressed(tmp_path)
    original = tiny()
    for name in (*LAYERS, *KEPT):
        theirs, ours = model.get_parameter(f"{name}.weight"), original.get_parameter(f"{name}.weight")
        assert theirs.dtype == torch.float32
        meant = unpack_linear(of_layer(tensors, name), LayerFormat(SCHEMES[schemes[name]])) if name in schemes else ours
        assert torch.equal(theirs, meant)
        assert torch.equal(model.get_parameter(f"{name}.bias"), original.get_parameter(f"{name}.bias"))


@every_checkpoint
def test_compressed_tensors_gives_each_layer_the_scheme_we_read(tmp_path: Path, schemes: dict[str, str]) -> None:
    write_tiny(tmp_path, schemes)
    model = decompressed(tmp_path)
    body = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))[CONFIG_KEY]
    ours = stored_layers(body, (*LAYERS, *KEPT), "config.json")
    assert {name: layer.scheme.name for name, layer in ours.items()} == schemes
    for name in (*LAYERS, *KEPT):
        theirs = getattr(model.get_submodule(name), "quantization_scheme", None)
        assert (theirs is not None) is (name in ours)
        if theirs is None:
            continue
        scheme = ours[name].scheme
        assert theirs.format == scheme.format
        for part in ("weights", "input_activations"):
            body = getattr(scheme, part).to_dict()
            assert {key: getattr(getattr(theirs, part), key) for key in body} == body


def test_compressed_tensors_runs_static_inputs_with_the_scale_we_stored(tmp_path: Path) -> None:
    schemes = CHECKPOINTS["FP8"]
    tensors = write_tiny(tmp_path, schemes)
    model = decompressed(tmp_path)
    for name in LAYERS:
        assert torch.equal(model.get_parameter(f"{name}.input_scale"), tensors[f"{name}.input_scale"])

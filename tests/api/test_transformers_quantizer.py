"""Text encoders: transformers' `from_pretrained` and `quant.load` give the layers that were saved, or an error."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.quantizers import auto

import quant
import quant.diffusers
import quant.transformers
from quant.layers.replace import quantized_layers
from tests import tiny_pipeline
from tests.tiny_encoders import CLASSES, encoded, encoder

INT8 = {"weights": {"num_bits": 8, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}}
SMOOTHED = {"scheme": "W8A8", "algorithm": "smoothquant"}


def quantized(model: Any, **group: Any) -> Any:
    body: dict[str, Any] = {"version": 1, "groups": [{"targets": ["Linear"], **group}]}
    if type(model).__name__ == "Qwen2_5_VLForConditionalGeneration":
        body["ignore"] = ["re:.*visual.*"]  # which no text runs
    return quant.quantize(model, quant.Recipe.from_dict(body, "r"), forward_loop=encoded, progress=False)


@pytest.mark.parametrize("name", CLASSES)
def test_it_is_saved_and_loaded_bit_for_bit(tmp_path: Path, name: str) -> None:
    model = encoder(name, tmp_path / "model")
    made = quantized(model, **SMOOTHED)
    exact, found = encoded(model).float(), encoded(made)
    assert 0.002 < float((found.float() - exact).norm() / exact.norm()) < 0.04
    assert getattr(model, "hf_quantizer", None) is None and "quantization_config" not in model.config.to_dict()
    quant.save(made, tmp_path / "out", max_shard_bytes=100_000)
    cls, count = type(model), len(quantized_layers(made))
    assert count >= 12
    for load in (quant.load, cls.from_pretrained, partial(cls.from_pretrained, device_map="auto")):
        loaded: Any = load(tmp_path / "out")
        assert torch.equal(encoded(loaded), found)
        assert len(quantized_layers(loaded)) == count
        assert not any(p.requires_grad for layer in quantized_layers(loaded).values() for p in layer.parameters())
        quant.save(loaded, tmp_path / "again", force=True)
        assert torch.equal(encoded(cls.from_pretrained(tmp_path / "again")), found)
        with pytest.raises(quant.QuantError, match=r"would write codes .* with quant\.save"):
            copy.deepcopy(loaded).save_pretrained(tmp_path / "theirs")


def test_a_pipeline_with_both_quantized_in_a_process_of_its_own(tmp_path: Path) -> None:
    source = tiny_pipeline.save_pipeline(tmp_path / "source")
    group = {"targets": ["Linear"], "scheme": INT8}
    body = {"version": 1, "components": ["transformer", "text_encoder"], "groups": [group]}
    out = tmp_path / "out"
    quant.convert(source, out, recipe=quant.Recipe.from_dict(body, "both"), full=True, progress=False)
    # compressed-tensors does not get into packed weights of T5.
    config = json.loads((out / "text_encoder" / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "quant"
    ids = torch.arange(8)[None]
    with torch.no_grad():
        exact = tiny_pipeline.pipeline().text_encoder(ids)[0].float()
        found = quant.load(out, component="text_encoder")(ids)[0]
    assert float((found.float() - exact).norm() / exact.norm()) < 0.02
    code = f"""
import torch, quant.diffusers
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained({str(out)!r}, dtype=torch.bfloat16)
print(type(pipe.text_encoder.encoder.block[0].layer[1].DenseReluDense.wo).__name__)
with torch.no_grad():
    torch.save(pipe.text_encoder(torch.arange(8)[None])[0], {str(tmp_path / "there.pt")!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "QuantLinear" in done.stdout, done.stderr
    assert torch.equal(torch.load(tmp_path / "there.pt"), found)


def test_transformers_stops_where_it_does_not_know_the_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = quantized(encoder("UMT5EncoderModel", tmp_path / "model"), **SMOOTHED)
    quant.save(made, tmp_path / "out")
    quant.save(quant.load(tmp_path / "out"), tmp_path / "again")
    monkeypatch.delitem(auto.AUTO_QUANTIZER_MAPPING, "quant")
    monkeypatch.delitem(auto.AUTO_QUANTIZATION_CONFIG_MAPPING, "quant")
    for folder in ("out", "again"):
        with pytest.raises(ValueError, match=r"`import quant\.diffusers` first, or use quant\.load"):
            type(made).from_pretrained(tmp_path / folder)


def test_compressed_tensors_is_transformers_own_until_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = quantized(encoder("LlamaModel", tmp_path / "model"), scheme="FP8_DYNAMIC")
    made.save_pretrained(tmp_path / "out")
    assert "transformers_weights" not in json.loads((tmp_path / "out" / "config.json").read_text())
    decompressed = type(made).from_pretrained(tmp_path / "out")
    assert not quantized_layers(decompressed)
    exact = encoded(made).float()
    assert float((encoded(decompressed).float() - exact).norm() / exact.norm()) < 0.1  # inputs are rounded otherwise
    assert torch.equal(encoded(quant.load(tmp_path / "out")), encoded(made))
    for mapping in (auto.AUTO_QUANTIZER_MAPPING, auto.AUTO_QUANTIZATION_CONFIG_MAPPING):
        monkeypatch.setitem(mapping, "compressed-tensors", mapping["compressed-tensors"])
    quant.transformers.register("compressed-tensors")
    assert torch.equal(encoded(type(made).from_pretrained(tmp_path / "out")), encoded(made))
    with pytest.raises(quant.QuantError, match="'gptq' is not read by this library"):
        quant.transformers.register("gptq")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_dtype_is_that_of_all_that_is_not_packed(tmp_path: Path, dtype: torch.dtype) -> None:
    """`wo` of T5 is one of the modules that transformers keeps in float32 for float16."""
    model = encoder("UMT5EncoderModel", tmp_path / "model")
    made = quantized(model, scheme="FP8_DYNAMIC", algorithm="smoothquant")
    quant.save(made, tmp_path / "out")
    for load in (type(made).from_pretrained, quant.load):
        loaded: Any = load(tmp_path / "out", dtype=dtype)
        layer = loaded.encoder.block[0].layer[1].DenseReluDense.wo
        assert layer.weight.dtype == torch.float8_e4m3fn and layer.weight_scale.dtype == torch.float32
        assert loaded.shared.weight.dtype == dtype == encoded(loaded).dtype
        exact = encoded(made).float()
        assert float((encoded(loaded).float() - exact).norm() / exact.norm()) < 0.1


def test_what_is_wrong_with_a_folder_is_one_line(tmp_path: Path) -> None:
    made = quantized(encoder("CLIPTextModel", tmp_path / "model"), **SMOOTHED)
    cls = type(made)
    quant.save(made, tmp_path / "out")
    (tmp_path / "out" / "quant_manifest.json").unlink()
    file = tmp_path / "out" / "model.safetensors"
    whole = load_file(file)
    scale = next(name for name in whole if name.endswith("fc1.weight_scale"))

    def refused(match: str, tensors: dict[str, torch.Tensor]) -> None:
        save_file(tensors, file, metadata={"format": "pt"})
        for load in (cls.from_pretrained, quant.load):
            with pytest.raises(quant.QuantError, match=match):
                load(tmp_path / "out")

    refused(f"has no tensor '{scale}'", {name: tensor for name, tensor in whole.items() if name != scale})
    refused("holds a tensor 'more'", {**whole, "more": torch.ones(1)})
    refused(f"'{scale}' is", {**whole, scale: whole[scale].double()})
    refused(f"'{scale}' is .* needs", {**whole, scale: whole[scale][:-1].clone()})
    refused(f"'{scale}' ", {**whole, scale: whole[scale] * float("nan")})
    save_file(whole, file, metadata={"format": "pt"})
    with pytest.raises(quant.QuantError, match="from a checkpoint's folder"):
        cls.from_pretrained(None, config=made.config, state_dict=made.state_dict())
    with pytest.raises(quant.QuantError, match="not made into weights again"):
        cls.from_pretrained(tmp_path / "out").dequantize()
    with pytest.raises(quant.QuantError, match="fused"):
        quant.load(tmp_path / "out", fused=True)


def test_a_file_without_either_of_two_tied_tensors_is_refused(tmp_path: Path) -> None:
    made = quantized(encoder("UMT5EncoderModel", tmp_path / "model"), **SMOOTHED)
    quant.save(made, tmp_path / "out")
    (tmp_path / "out" / "quant_manifest.json").unlink()
    file = tmp_path / "out" / "model.safetensors"
    save_file({n: t for n, t in load_file(file).items() if n != "shared.weight"}, file, metadata={"format": "pt"})
    for load in (type(made).from_pretrained, quant.load):
        with pytest.raises(quant.QuantError, match=r"has no tensor '(shared|encoder\.embed_tokens)\.weight'"):
            load(tmp_path / "out")


def test_a_changed_file_of_ours_is_refused(tmp_path: Path) -> None:
    made = quantized(encoder("LlamaModel", tmp_path / "model"), **SMOOTHED)
    quant.save(made, tmp_path / "out")
    file = tmp_path / "out" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    for load in (type(made).from_pretrained, quant.load):
        with pytest.raises(quant.QuantError, match=r"model\.safetensors"):
            load(tmp_path / "out")


def test_it_is_loaded_into_the_original_too(tmp_path: Path) -> None:
    model = encoder("UMT5EncoderModel", tmp_path / "model")
    made = quantized(model, **SMOOTHED)
    quant.save(made, tmp_path / "out")
    assert "encoder.embed_tokens.weight" not in load_file(tmp_path / "out" / "model.safetensors")
    with torch.no_grad():
        model.shared.weight.zero_()
    loaded: Any = quant.load(tmp_path / "out", into=model)
    assert loaded.encoder.embed_tokens.weight is loaded.shared.weight
    assert torch.equal(encoded(loaded), encoded(made))


def test_a_class_of_someones_own_is_saved_for_the_original(tmp_path: Path) -> None:
    class Mine(transformers.T5EncoderModel):  # type: ignore[misc]
        pass

    model = Mine(transformers.T5Config(**CLASSES["T5EncoderModel"])).bfloat16().eval()
    made = quantized(model, scheme="FP8_DYNAMIC")
    with pytest.raises(quant.QuantError, match="would write codes"):
        made.save_pretrained(tmp_path / "theirs")
    quant.save(made, tmp_path / "ours")
    assert torch.equal(encoded(quant.load(tmp_path / "ours", into=model)), encoded(made))

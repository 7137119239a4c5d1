"""Loading: `quant.load` and diffusers' `from_pretrained` give the same model, of other writers' files too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, WanTransformer3DModel
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

import quant
import quant.diffusers
from quant.checkpoint.reader import StoredTensor, read_tensor, stored_tensors
from quant.layers.replace import quantized_layers
from tests.api.editing import WEIGHTS, configured, edited, put_all
from tests.tiny_checkpoints import RECIPES
from tests.tiny_pipeline import FFN, LINEARS, TEXT, WIDTH


def inputs(dtype: torch.dtype) -> dict[str, Any]:
    torch.manual_seed(3)
    return {
        "hidden_states": torch.randn(1, 4, 2, 4, 4).to(dtype),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": torch.randn(1, 8, TEXT).to(dtype),
        "return_dict": False,
    }


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_both_ways_of_loading_give_the_same_model(
    checkpoints: dict[str, Path], recipe: str, dtype: torch.dtype
) -> None:
    ours = quant.load(checkpoints[recipe], dtype=dtype)
    theirs = WanTransformer3DModel.from_pretrained(checkpoints[recipe] / "transformer", torch_dtype=dtype)
    file = load_file(checkpoints[recipe] / "transformer" / WEIGHTS)
    assert len(quantized_layers(theirs)) == LINEARS
    for model in (ours, theirs):
        state = model.state_dict()
        assert state.keys() == file.keys()
        for name, layer in quantized_layers(model).items():
            for leaf in ("weight", "weight_scale", "input_scale", "pre_quant_scale"):
                stored = file.get(f"{name}.{leaf}")
                held = getattr(layer, leaf)
                assert (held is None) == (stored is None)
                assert stored is None or (held.dtype == stored.dtype and torch.equal(held, stored))
    assert ours.state_dict()["patch_embedding.weight"].dtype == dtype
    assert theirs.patch_embedding.weight.dtype == dtype
    with torch.no_grad():
        assert torch.equal(ours(**inputs(dtype))[0], theirs(**inputs(dtype))[0])


@pytest.mark.parametrize("recipe", RECIPES)
def test_saved_again_it_is_the_same_checkpoint(checkpoints: dict[str, Path], tmp_path: Path, recipe: str) -> None:
    source = checkpoints[recipe] / "transformer"
    WanTransformer3DModel.from_pretrained(source).save_pretrained(tmp_path / "diffusers")
    quant.save(quant.load(source), tmp_path / "ours")
    config = json.loads((source / "config.json").read_text())
    file = load_file(source / WEIGHTS)
    for folder in (tmp_path / "diffusers", tmp_path / "ours"):
        again = load_file(folder / WEIGHTS)
        assert again.keys() == file.keys()
        for name, tensor in file.items():
            assert again[name].dtype == tensor.dtype
            assert torch.equal(again[name], tensor)
        saved = json.loads((folder / "config.json").read_text())
        saved.pop("_name_or_path", None)
        assert saved == {key: value for key, value in config.items() if key != "_name_or_path"}


def test_casting_and_moving_leave_packed_tensors_alone(checkpoints: dict[str, Path]) -> None:
    model = quant.load(checkpoints["w8a8"])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.to("cpu")
    for name, layer in quantized_layers(model).items():  # diffusers itself refuses to cast a quantized model
        layer.half().float().to(torch.bfloat16)
        for leaf, buffer in layer.held().items():
            assert torch.equal(buffer, before[f"{name}.{leaf}"])
            assert buffer.dtype == before[f"{name}.{leaf}"].dtype
        assert layer.bias is not None
        assert layer.bias.dtype == torch.bfloat16


class _Largest(TorchDispatchMode):
    """Notes every floating matrix with the shape of a packed layer's weight that any operation makes."""

    def __init__(self, shapes: set[tuple[int, ...]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch types it not
        self.shapes = shapes
        self.seen: set[tuple[Any, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor) and tuple(tensor.shape) in self.shapes:
                # accelerate lets nn.Linear allocate before it takes the memory away; nothing is written there.
                filled = not tensor.is_meta and func is not torch.ops.aten.empty.memory_format
                if filled and tensor.is_floating_point() and tensor.itemsize > 1:
                    self.seen.add((func, tuple(tensor.shape), tensor.dtype))
        return out


def test_full_precision_weights_are_never_made(checkpoints: dict[str, Path]) -> None:
    # Shapes that only packed layers have.
    shapes: set[tuple[int, ...]] = {(FFN, WIDTH), (WIDTH, FFN)}
    with _Largest(shapes) as watch:
        WanTransformer3DModel.from_pretrained(checkpoints["fp8-dynamic"] / "transformer", torch_dtype=torch.bfloat16)
        quant.load(checkpoints["fp8-dynamic"])
    assert watch.seen == set()
    with _Largest(shapes) as watch:  # the watch would see one
        torch.zeros(FFN, WIDTH)
    assert watch.seen


def test_each_tensor_is_read_once(
    checkpoints: dict[str, Path], model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def noted(name: str, stored: StoredTensor) -> torch.Tensor:
        read.append(name)
        return read_tensor(name, stored)

    monkeypatch.setattr("quant.api.load.read_tensor", noted)
    folder = checkpoints["w8a8"] / "transformer"
    model = WanTransformer3DModel.from_pretrained(model_folder, subfolder="transformer")
    loaded = quant.load(folder, into=model)
    assert sorted(read) == sorted(stored_tensors(folder)) == sorted(loaded.state_dict())


def test_a_device_map_and_a_pipeline(checkpoints: dict[str, Path]) -> None:
    model = WanTransformer3DModel.from_pretrained(checkpoints["w8a8"] / "transformer", device_map={"": "cpu"})
    assert not any(tensor.is_meta for tensor in model.state_dict().values())
    pipe = DiffusionPipeline.from_pretrained(checkpoints["w8a8"], torch_dtype=torch.bfloat16)
    assert len(quantized_layers(pipe.transformer)) == LINEARS
    assert pipe.transformer.is_quantized
    with pytest.raises(quant.QuantError, match="device_map with 'disk' is not supported"):
        WanTransformer3DModel.from_pretrained(
            checkpoints["w8a8"] / "transformer", device_map={"": "disk"}, offload_folder="unused"
        )


def test_one_graph_under_torch_compile(checkpoints: dict[str, Path]) -> None:
    model = quant.load(checkpoints["w8a8"], dtype=torch.float32)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(**inputs(torch.float32))[0], model(**inputs(torch.float32))[0])


def test_sharded_files(checkpoints: dict[str, Path], model_folder: Path, tmp_path: Path) -> None:
    quant.calibrate(model_folder, "fp8-dynamic", tmp_path / "out", max_shard_bytes=60_000, progress=False)
    one = quant.load(checkpoints["fp8-dynamic"]).state_dict()
    for many in (
        quant.load(tmp_path / "out"),
        WanTransformer3DModel.from_pretrained(tmp_path / "out" / "transformer"),
    ):
        assert all(torch.equal(tensor, one[name]) for name, tensor in many.state_dict().items())


@pytest.mark.parametrize("recipe", ["fp8-dynamic", "fp8-static"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scales_in_16_bits_become_float32(
    checkpoints: dict[str, Path], tmp_path: Path, recipe: str, dtype: torch.dtype
) -> None:
    """As llm-compressor writes them, with its keys."""
    folder = shutil.copytree(checkpoints[recipe] / "transformer", tmp_path / "o")
    scales = {name: t.to(dtype) for name, t in load_file(folder / WEIGHTS).items() if name.endswith("_scale")}
    edited(folder, put_all(scales))

    def foreign(body: dict[str, Any]) -> None:
        for key in ("format_version", "dtype", "recipe"):
            del body["quantization_config"][key]
        body["quantization_config"].update(sparsity_config={}, transform_config={}, kv_cache_scheme=None)

    configured(folder, foreign)
    for model in (quant.load(folder), WanTransformer3DModel.from_pretrained(folder)):
        state = model.state_dict()
        assert all(state[name].dtype == torch.float32 for name in scales)
        assert all(torch.equal(state[name], scale.float()) for name, scale in scales.items())
        assert state["proj_out.weight"].dtype == torch.bfloat16
    quant.save(quant.load(folder), tmp_path / "again")
    again = load_file(tmp_path / "again" / WEIGHTS)
    assert all(again[name].dtype == torch.float32 for name in scales)
    assert {layer.scheme for layer in quant.inspect(folder).components[0].layers} >= {
        recipe.upper().replace("-", "_")
    } or (recipe == "fp8-static")


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("variant", ["int8", None])
def test_the_file_that_was_checked_is_loaded_whatever_its_name(
    checkpoints: dict[str, Path], tmp_path: Path, variant: str | None, sharded: bool
) -> None:
    model = WanTransformer3DModel.from_pretrained(checkpoints["fp8-dynamic"] / "transformer")
    model.save_pretrained(tmp_path / "o", variant=variant, max_shard_size="60KB" if sharded else "1GB")
    if variant is None:  # as transformers names them
        for path in (tmp_path / "o").glob("diffusion_pytorch_model*safetensors*"):
            if path.suffix == ".json":
                path.write_text(path.read_text().replace("diffusion_pytorch_model", "model"))
            path.rename(path.with_name(path.name.replace("diffusion_pytorch_model", "model")))
    loaded = quant.load(tmp_path / "o")
    state = model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())
    assert loaded.config["_name_or_path"] == str(tmp_path / "o")  # type: ignore[index]
    assert len(list((tmp_path / "o").glob("*.safetensors"))) > (1 if sharded else 0)
    assert quant.inspect(tmp_path / "o").has_manifest is False

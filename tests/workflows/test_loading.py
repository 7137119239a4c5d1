"""Loading: `quant.load` and diffusers' `from_pretrained` give the same model, and name what is damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, WanTransformer3DModel
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

import quant
import quant.diffusers
from quant.modules.linear import QuantLinear
from quant.modules.replace import quantized_layers
from tests.tiny_pipeline import FFN, LINEARS, TEXT, WIDTH
from tests.workflows.conftest import RECIPES

WEIGHTS = "diffusion_pytorch_model.safetensors"


def inputs(dtype: torch.dtype) -> dict[str, Any]:
    torch.manual_seed(3)
    return {
        "hidden_states": torch.randn(1, 4, 2, 4, 4).to(dtype),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": torch.randn(1, 8, TEXT).to(dtype),
        "return_dict": False,
    }


@pytest.fixture
def copied(checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    """The transformer of a checkpoint, to be damaged, with its manifest beside it."""
    shutil.copytree(checkpoints["w8a8"], tmp_path / "copy")
    return tmp_path / "copy"


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
        for leaf, buffer in layer.named_buffers():
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


def test_a_device_that_is_not_here_is_named_before_anything_is_read() -> None:
    with pytest.raises(quant.QuantError, match="device 'cuda:99' is not here"):
        quant.load("nowhere", device="cuda:99")

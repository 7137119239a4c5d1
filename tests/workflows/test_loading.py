"""Loading: `quant.load` and diffusers' `from_pretrained` give the same model, and name what is damaged."""

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
from torch.utils._python_dispatch import TorchDispatchMode

import quant
import quant.diffusers
from quant.modules.linear import QuantLinear
from quant.modules.replace import quantized_layers
from quant.recipe import Recipe
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


LAYER = "blocks.0.ffn.net.2"
Edit = Callable[[dict[str, torch.Tensor]], object]


def edited(folder: Path, edit: Edit) -> None:
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)


def configured(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    body = json.loads((folder / "config.json").read_text())
    edit(body)
    (folder / "config.json").write_text(json.dumps(body))


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


@pytest.fixture
def lone(copied: Path) -> Path:
    """The transformer of a smoothed checkpoint that no manifest speaks of."""
    return copied.joinpath("transformer").rename(copied.parent / "lone")


def put_all(new: dict[str, torch.Tensor]) -> Edit:
    return lambda tensors: tensors.update(new)


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

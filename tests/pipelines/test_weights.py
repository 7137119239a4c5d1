"""Tensors read straight from files are those that diffusers would load, one at a time."""

from __future__ import annotations

import shutil
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file

import quant
from quant import devices
from quant.checkpoint.reader import StoredTensor, read_rows, stored_tensors
from quant.pipelines.inputs import tensors as inputs
from quant.pipelines.inputs.tensors import as_stored
from quant.pipelines.skeleton import skeleton
from quant.pipelines.weights import check_files, plans_of
from tests.tiny_pipeline import WIDTH


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_as_diffusers_loads_them(model_folder: Path, dtype: torch.dtype) -> None:
    folder = model_folder / "transformer"
    theirs = WanTransformer3DModel.from_pretrained(folder, dtype=dtype).state_dict()
    read = as_stored(stored_tensors(folder))
    ours = plans_of(skeleton(folder, read), folder, read, dtype)
    assert list(ours) == list(theirs)
    for name, plan in ours.items():
        made = plan.whole()
        assert (plan.dtype, plan.shape) == (made.dtype, tuple(made.shape)) == (theirs[name].dtype, theirs[name].shape)
        assert torch.equal(made, theirs[name])
    assert {tensor.dtype for tensor in theirs.values()} == {dtype, torch.float32}  # some are kept in float32


def test_a_variant_beside_the_weights_is_not_taken(model_folder: Path, tmp_path: Path) -> None:
    model = WanTransformer3DModel.from_pretrained(model_folder / "transformer")
    model.save_pretrained(tmp_path / "model")
    model.save_pretrained(tmp_path / "model", variant="fp16")
    assert len(list((tmp_path / "model").glob("*.safetensors"))) == 2
    made = quant.calibrate(tmp_path / "model", "fp8-dynamic", tmp_path / "out", progress=False)
    assert quant.inspect(made.folder).components[0].nbytes > 0


def test_wrong_shapes_are_named(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "transformer"
    WanTransformer3DModel.from_pretrained(model_folder / "transformer").save_pretrained(folder)
    path = folder / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["proj_out.weight"] = torch.zeros(3, WIDTH, dtype=torch.bfloat16)
    save_file(tensors, path)
    with pytest.raises(quant.QuantError, match=r"tensor 'proj_out\.weight' is \[3, 64\], WanTransformer3DModel needs"):
        quant.calibrate(folder, "fp8-dynamic", tmp_path / "out", progress=False)


@pytest.mark.parametrize("threads", [1, 3])
def test_one_piece_a_thread_is_in_memory_at_a_time(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    lock = threading.Lock()
    alive: set[int] = set()
    most = read = 0

    def watched(name: str, stored: StoredTensor, start: int, stop: int) -> torch.Tensor:
        nonlocal most, read
        tensor = read_rows(name, stored, start, stop)
        with lock:
            read += 1
            number = read
            alive.add(number)
            most = max(most, len(alive))
        weakref.finalize(tensor, alive.discard, number)
        return tensor

    monkeypatch.setattr(inputs, "read_rows", watched)
    monkeypatch.setattr(devices, "usable_cores", lambda: threads)
    quant.calibrate(model_folder, "fp8-dynamic", tmp_path / "out", progress=False)
    assert read == len(stored_tensors(model_folder / "transformer"))  # all are small, and read once
    assert most <= 2 * threads  # the next one is read while the last one's name still holds it


LAYER = "blocks.0.ffn.net.2"


def scaled(leaf: str, dtype: torch.dtype) -> Callable[[dict[str, torch.Tensor]], None]:
    """Codes of a weight with their scale in a tensor of its own, as other tools write them."""

    def edit(tensors: dict[str, torch.Tensor]) -> None:
        weight = tensors[f"{LAYER}.weight"].float()
        scale = weight.abs().max() / (127 if dtype == torch.int8 else 448)
        tensors[f"{LAYER}.weight"] = (weight / scale).to(dtype)
        if leaf:
            tensors[leaf if leaf == "scaled_fp8" else f"{LAYER}.{leaf}"] = scale.reshape(1)

    return edit


FP8 = torch.float8_e4m3fn


def edited(model_folder: Path, out: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """A copy of the pipeline, the tensors of its transformer changed."""
    model = shutil.copytree(model_folder, out)
    path = model / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)
    return model


@pytest.mark.parametrize("recipe", ["fp8-dynamic", "w8a8"])  # read by this library, and by diffusers
@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (scaled("scaled_fp8", FP8), r"holds 'scaled_fp8', .* \(ComfyUI's scaled FP8\); load the original in bf16"),
        (scaled("", torch.int8), f"tensor '{LAYER}.weight' is I8, WanTransformer3DModel has a float there: codes of"),
        (lambda tensors: tensors.update(more=torch.zeros(1)), r"holds 'more', which .* has not; is it another model's"),
    ],
)
def test_codes_are_not_taken_for_weights(
    model_folder: Path, tmp_path: Path, recipe: str, edit: Callable[[dict[str, torch.Tensor]], None], says: str
) -> None:
    model = edited(model_folder, tmp_path / "model", edit)
    with pytest.raises(quant.QuantError, match=says):
        quant.calibrate(model, recipe, tmp_path / "out", prompts=["a"], progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("leaf", ["scale_weight", "weight_scale"])
def test_scales_are_read_where_nothing_runs_and_refused_where_diffusers_would_leave_them(
    model_folder: Path, tmp_path: Path, leaf: str
) -> None:
    model = edited(model_folder, tmp_path / "model", scaled(leaf, FP8))
    says = f"holds '{LAYER}.{leaf}', which WanTransformer3DModel has not: it belongs to quantized weights"
    with pytest.raises(quant.QuantError, match=says):
        quant.calibrate(model, "w8a8", tmp_path / "out", prompts=["a"], progress=False)
    quant.calibrate(model, "fp8-dynamic", tmp_path / "out", progress=False)

    def write_out(tensors: dict[str, torch.Tensor]) -> None:
        scaled(leaf, FP8)(tensors)
        meant = tensors[f"{LAYER}.weight"].float() * tensors.pop(f"{LAYER}.{leaf}")
        tensors[f"{LAYER}.weight"] = meant.bfloat16()

    quant.calibrate(
        edited(model_folder, tmp_path / "meant", write_out), "fp8-dynamic", tmp_path / "two", progress=False
    )
    name = Path("transformer", "diffusion_pytorch_model.safetensors")
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_tensors_that_a_class_leaves_and_fp8_without_scales_are_read(model_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_folder / "transformer", tmp_path / "transformer")
    path = folder / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["blocks.0.attn2.norm_added_q.weight"] = torch.zeros(4)
    save_file(tensors, path)
    check_files(folder)
    tensors[f"{LAYER}.weight"] = tensors[f"{LAYER}.weight"].to(FP8)
    save_file(tensors, path)
    with pytest.warns(UserWarning, match=f"1 tensors are F8_E4M3 without scales, such as '{LAYER}.weight'"):
        plans = plans_of(
            skeleton(folder, stored_tensors(folder)), folder, as_stored(stored_tensors(folder)), torch.bfloat16
        )
    assert torch.equal(plans[f"{LAYER}.weight"].whole(), tensors[f"{LAYER}.weight"].to(torch.bfloat16))


def test_pickled_weights_are_named(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"")
    with pytest.raises(quant.QuantError, match="has pickled weights only, which are not read; save it as safetensors"):
        check_files(tmp_path)

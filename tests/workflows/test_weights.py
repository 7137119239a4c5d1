"""Tensors read straight from files are those that diffusers would load, one at a time."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file

import quant
from quant.checkpoint.reader import StoredTensor, read_tensor, stored_tensors
from quant.workflows import weights
from quant.workflows.skeleton import skeleton
from quant.workflows.weights import of_files
from tests.tiny_pipeline import WIDTH


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_as_diffusers_loads_them(model_folder: Path, dtype: torch.dtype) -> None:
    folder = model_folder / "transformer"
    theirs = WanTransformer3DModel.from_pretrained(folder, dtype=dtype).state_dict()
    ours = of_files(skeleton(folder, stored_tensors(folder)), folder, dtype)
    assert list(ours) == list(theirs)
    for name, plan in ours.items():
        made = plan.make()
        assert (plan.dtype, plan.shape) == (made.dtype, tuple(made.shape)) == (theirs[name].dtype, theirs[name].shape)
        assert torch.equal(made, theirs[name])
    assert {tensor.dtype for tensor in theirs.values()} == {dtype, torch.float32}  # some are kept in float32


def test_a_variant_beside_the_weights_is_not_taken(model_folder: Path, tmp_path: Path) -> None:
    model = WanTransformer3DModel.from_pretrained(model_folder / "transformer")
    model.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path, variant="fp16")
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    made = quant.calibrate(tmp_path, "fp8-dynamic", tmp_path / "out", progress=False)
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


def test_one_tensor_is_in_memory_at_a_time(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: set[int] = set()
    most = read = 0

    def watched(name: str, stored: StoredTensor) -> torch.Tensor:
        nonlocal most, read
        tensor = read_tensor(name, stored).clone()
        read += 1
        alive.add(read)
        weakref.finalize(tensor, alive.discard, read)
        most = max(most, len(alive))
        return tensor

    monkeypatch.setattr(weights, "read_tensor", watched)
    quant.calibrate(model_folder, "fp8-dynamic", tmp_path / "out", progress=False)
    assert read > len(stored_tensors(model_folder / "transformer"))
    assert most <= 2  # the next one is read while the last one's name still holds it

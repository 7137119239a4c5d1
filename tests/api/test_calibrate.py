"""`quant.calibrate`: what it writes, that it repeats, and what it refuses without leaving anything behind."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, WanTransformer3DModel
from safetensors.torch import load_file, save_file

import quant
from quant.api import calibrate as calibrating
from quant.api import writing
from quant.checkpoint.manifest import verify_digests, verify_sizes, write_manifest
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from quant.formats.tensors import unpack_linear
from tests.tiny_checkpoints import RECIPES
from tests.tiny_pipeline import LINEARS, PROMPTS, SETTINGS, pipeline


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_linear_of_every_block_is_packed_and_its_manifest_says_so(
    checkpoints: dict[str, Path], model_folder: Path, recipe: str
) -> None:
    folder = checkpoints[recipe]
    manifest = json.loads((folder / "quant_manifest.json").read_text())
    verify_sizes(folder, manifest["files"])
    verify_digests(folder, manifest["files"])
    layers = manifest["layers"]["transformer"]
    packed = [layer for layer in layers if layer["scheme"] is not None]
    assert len(packed) == LINEARS
    assert all(layer["reason"] for layer in layers if layer["scheme"] is None)
    assert manifest["recipe"]["name"] == f"general/{recipe}"
    assert manifest["recipe"]["sha256"] == quant.Recipe.from_file(folder / "recipe.yaml").sha256
    assert (manifest["calibration"] is None) == (recipe == "fp8-dynamic")
    if manifest["calibration"] is not None:
        assert (manifest["calibration"]["prompts"], manifest["calibration"]["settings"]) == (PROMPTS, SETTINGS)
    tensors = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    original = load_file(model_folder / "transformer" / "diffusion_pytorch_model.safetensors")
    for layer in packed:
        name, weight = layer["name"], original[f"{layer['name']}.weight"].float()
        own = {leaf: tensors[f"{name}.{leaf}"] for leaf in ("weight", "weight_scale")}
        smoothing = tensors.get(f"{name}.pre_quant_scale")
        own = own if smoothing is None else {**own, "pre_quant_scale": smoothing}
        stored = unpack_linear(own, LayerFormat(SCHEMES[layer["scheme"]], smoothed=smoothing is not None))
        error = ((stored - weight).norm() / weight.norm()).item()
        assert error == pytest.approx(layer["weight_error"], rel=1e-5)
        assert error < 0.04
    kept = set(original) - {f"{layer['name']}.weight" for layer in packed}
    assert all(torch.equal(tensors[name], original[name]) for name in kept)


def test_a_full_folder_is_a_pipeline_with_its_settings(checkpoints: dict[str, Path], model_folder: Path) -> None:
    import quant.diffusers

    assert quant.diffusers.register is not None
    folder = checkpoints["fp8-dynamic"]
    assert (folder / "generation.json").read_bytes() == (model_folder / "generation.json").read_bytes()
    pipe = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    frames = pipe("snow", **SETTINGS, generator=generator, output_type="np").frames
    assert frames.shape == (1, 5, 16, 16, 3)


def test_the_same_input_gives_the_same_bytes_and_the_model_is_left_alone(
    checkpoints: dict[str, Path], model_folder: Path, tmp_path: Path
) -> None:
    before = tree(model_folder)
    again = quant.calibrate(model_folder, "w8a8", tmp_path / "again", prompts=PROMPTS, full=True, progress=False)
    assert tree(model_folder) == before
    assert tree(again.folder) == tree(checkpoints["w8a8"])
    assert again.used_prompts == len(PROMPTS)


def test_layers_that_read_one_input_share_one_factor(checkpoints: dict[str, Path]) -> None:
    tensors = load_file(checkpoints["w8a8"] / "transformer" / "diffusion_pytorch_model.safetensors")
    factors = {name: t for name, t in tensors.items() if name.endswith(".pre_quant_scale")}
    assert factors
    for block in range(2):
        q, k, v = (factors.get(f"blocks.{block}.attn1.to_{x}.pre_quant_scale") for x in "qkv")
        if q is not None:
            assert k is not None
            assert v is not None
            assert torch.equal(q, k)
            assert torch.equal(q, v)


def test_shards_and_another_dtype(model_folder: Path, tmp_path: Path) -> None:
    quant.calibrate(
        model_folder,
        "fp8-dynamic",
        tmp_path / "out",
        dtype=torch.float16,
        max_shard_bytes=60_000,
        progress=False,
    )
    shards = list((tmp_path / "out" / "transformer").glob("*-of-*.safetensors"))
    assert len(shards) > 2
    one = quant.load(tmp_path / "out")
    assert one.state_dict()["patch_embedding.weight"].dtype == torch.float16


def test_a_component_folder_alone_for_a_recipe_without_data(model_folder: Path, tmp_path: Path) -> None:
    made = quant.calibrate(model_folder / "transformer", "fp8-dynamic", tmp_path / "out", progress=False)
    assert isinstance(quant.load(made.folder), WanTransformer3DModel)
    (component,) = quant.inspect(made.folder).components
    assert len(component.layers) == len(made.layers[""])
    assert all(layer.weight_error is not None for layer in component.layers if layer.scheme is not None)
    assert all(layer.reason for layer in component.layers if layer.scheme is None)
    with pytest.raises(quant.QuantError, match="give the pipeline's folder"):
        quant.calibrate(model_folder / "transformer", "w8a8", tmp_path / "no", prompts=PROMPTS, progress=False)


def test_both_experts_are_quantized(tmp_path: Path) -> None:
    pipe = pipeline()
    pipe.register_modules(transformer_2=pipeline().transformer)
    pipe.save_pretrained(tmp_path / "two")
    made = quant.calibrate(tmp_path / "two", "fp8-dynamic", tmp_path / "out", progress=False)
    assert list(made.layers) == ["transformer", "transformer_2"]
    assert quant.load(tmp_path / "out", component="transformer_2") is not None
    with pytest.raises(quant.QuantError, match=r"holds transformer, transformer_2; name one with component="):
        quant.load(tmp_path / "out")


@pytest.mark.parametrize(
    ("recipe", "options", "says"),
    [
        ("w9a9", {}, "unknown recipe 'w9a9'; known: fp8-block, fp8-dynamic, fp8-gptq"),
        ("w8a8", {}, "needs calibration data; give --prompts"),
        ("w8a8", {"prompts": []}, "no prompts were given"),
        ("w8a8", {"prompts": "missing.txt"}, "missing.txt: no such file or folder of prompts"),
        ("fp8-dynamic", {"model": "nowhere"}, "nowhere: no such folder"),
        ("fp8-dynamic", {"out": "taken"}, "taken: already exists and was not made by this program"),
    ],
)
def test_refuses_in_one_line_and_leaves_nothing(
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recipe: str,
    options: dict[str, object],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    before = tree(tmp_path)
    arguments = {"model": str(model_folder), "recipe": recipe, "out": "out", "progress": False, **options}
    with pytest.raises(quant.QuantError) as caught:
        quant.calibrate(**arguments)  # type: ignore[arg-type]
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert tree(tmp_path) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["taken"]


def resave(pipe: DiffusionPipeline, folder: Path) -> Path:
    pipe.save_pretrained(folder)
    (folder / "generation.json").write_text(json.dumps(SETTINGS))
    return folder


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(model_folder: Path, tmp_path: Path, bad: float) -> None:
    pipe = DiffusionPipeline.from_pretrained(model_folder)
    pipe.transformer.blocks[1].ffn.net[2].weight.data[3, 4] = bad
    resave(pipe, tmp_path / "broken")
    with pytest.raises(quant.QuantError, match=r"'blocks\.1\.ffn\.net\.2\.weight': holds (?i:nan|inf)"):
        quant.calibrate(tmp_path / "broken", "fp8-dynamic", tmp_path / "out", progress=False)
    with pytest.raises(
        quant.QuantError, match=r"transformer\.blocks\.1\.ffn\.net\.2\.weight: holds (NaN|Inf) at \[3, 4\]"
    ):
        quant.calibrate(tmp_path / "broken", "w8a8", tmp_path / "out", prompts=PROMPTS, progress=False)
    assert not (tmp_path / "out").exists()


def test_activations_that_are_not_finite_are_named(model_folder: Path, tmp_path: Path) -> None:
    pipe = DiffusionPipeline.from_pretrained(model_folder)
    # Finite weights whose product overflows bf16.
    pipe.transformer.patch_embedding.weight.data.fill_(3e38)
    resave(pipe, tmp_path / "broken")
    with pytest.raises(quant.QuantError, match=r"layer 'transformer\.blocks\.0\.attn1\.to_q': its input holds"):
        quant.calibrate(tmp_path / "broken", "fp8-static", tmp_path / "out", prompts=PROMPTS, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_a_missing_component_and_a_quantized_model(
    checkpoints: dict[str, Path], model_folder: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "unet.yaml"
    recipe.write_text("version: 1\ncomponents: [unet]\ngroups:\n  - {targets: [Linear], scheme: W8A8}\n")
    with pytest.raises(quant.QuantError, match="components: 'unet' is not a diffusers model of"):
        quant.calibrate(model_folder, recipe, tmp_path / "out", progress=False)
    with pytest.raises(quant.QuantError, match=r"transformer/config\.json: is quantized already"):
        quant.calibrate(checkpoints["w8a8"], "fp8-dynamic", tmp_path / "out", progress=False)


def test_a_run_that_dies_at_the_end_keeps_what_was_written_and_no_checkpoint(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoints: dict[str, Path]
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    says = "out: cannot be written: No space left on device; what was done is kept: the same command goes on$"
    with monkeypatch.context() as patched:
        patched.setattr(writing, "write_manifest", full)
        with pytest.raises(quant.QuantError, match=says):
            quant.calibrate(model_folder, "fp8-dynamic", tmp_path / "out", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == [".out.quant"]
    made = quant.calibrate(model_folder, "fp8-dynamic", tmp_path / "out", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    other = checkpoints["fp8-dynamic"]
    name = "transformer/diffusion_pytorch_model.safetensors"
    assert (made.folder / name).read_bytes() == (other / name).read_bytes()
    manifests = [json.loads((folder / "quant_manifest.json").read_text("utf-8")) for folder in (made.folder, other)]
    assert manifests[0]["layers"] == manifests[1]["layers"]


@pytest.mark.parametrize("out", ["model", ".", "model/transformer", "model/int4", "link/int4"])
@pytest.mark.parametrize("force", [False, True])
def test_an_out_that_is_holds_or_lies_in_the_model_is_refused(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, force: bool
) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    (tmp_path / "link").symlink_to("model")
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(quant.QuantError, match=r"the original.*; choose another --out$"):
        quant.calibrate("model", "fp8-dynamic", out, force=force, progress=False)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("change", ["written", "replaced", "gone"])
def test_a_model_that_changes_meanwhile_makes_no_checkpoint(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    model = tmp_path / "model"
    shutil.copytree(model_folder, model)
    weights = model / "transformer" / "diffusion_pytorch_model.safetensors"

    def meanwhile(*args: Any) -> None:
        if change == "written":
            os.utime(weights, ns=(1, 1))
        elif change == "replaced":  # with all that a listing shows of it
            status = weights.stat()
            shutil.copy(weights, model / "copy")
            (model / "copy").replace(weights)
            os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
        else:
            weights.unlink()
        write_manifest(*args)

    monkeypatch.setattr(writing, "write_manifest", meanwhile)
    what = "is gone" if change == "gone" else "changed"
    with pytest.raises(quant.QuantError, match=rf"{weights}: {what} while the model was calibrated, and nothing was"):
        quant.calibrate(model, "fp8-dynamic", tmp_path / "out", progress=False)
    assert list(tmp_path.iterdir()) == [model]


def test_a_disk_without_room_is_known_before_any_work(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = quant.calibrate(model_folder, "fp8-dynamic", tmp_path / "out", progress=False)
    weights = made.folder / "transformer" / "diffusion_pytorch_model.safetensors"

    def free(count: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10**9, free=count))

    stored = sum(tensor.nbytes for tensor in load_file(weights).values())
    free(stored)
    quant.calibrate(model_folder, "fp8-dynamic", tmp_path / "fits", progress=False)
    free(stored - 1)
    monkeypatch.setattr(calibrating, "gather", None)
    says = r"out2: needs 0\.\d MB while it is made, and 0\.\d MB are free on its file system; make room or"
    with pytest.raises(quant.QuantError, match=says):
        quant.calibrate(model_folder, "fp8-dynamic", tmp_path / "out2", progress=False)
    free(10**5)
    with pytest.raises(quant.QuantError, match=r"needs \d\.\d MB while it is made, and 0\.1 MB"):
        quant.calibrate(model_folder, "w4a16-gptq", tmp_path / "out2", prompts=PROMPTS, full=True, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fits", "out"]


@pytest.mark.parametrize("recipe", ["fp8-dynamic", "w8a8"])
def test_truncated_and_foreign_weights_of_the_model_are_named(model_folder: Path, tmp_path: Path, recipe: str) -> None:
    pipe = DiffusionPipeline.from_pretrained(model_folder)
    resave(pipe, tmp_path / "cut")
    weights = tmp_path / "cut" / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(quant.QuantError, match=r"cut.*: (truncated or damaged|diffusers cannot load it): "):
        quant.calibrate(tmp_path / "cut", recipe, tmp_path / "out", prompts=PROMPTS, progress=False)
    save_file({"other": torch.zeros(1)}, weights)
    with pytest.raises(quant.QuantError, match=r"holds 'other', which WanTransformer3DModel has not"):
        quant.calibrate(tmp_path / "cut", recipe, tmp_path / "out", prompts=PROMPTS, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["cut"]

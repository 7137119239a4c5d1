"""`quant.convert`: from any files of weights, the same bytes as ever, in bounded memory, going on where it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import nn

import quant
import quant.diffusers
from quant import devices
from quant.api.convert import recipe_of
from quant.checkpoint.shard_file import ShardFile
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from quant.formats.tensors import pack_linear
from quant.kernels.cpu import encode_rows

WEIGHTS = "diffusion_pytorch_model.safetensors"


def weights(blocks: int = 3, n: int = 136, k: int = 256) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    found = {"patch.weight": torch.randn(8, 4, 1, 2), "empty": torch.empty(0, 4)}
    for i in range(blocks):
        found[f"blocks.{i}.ff.weight"] = torch.randn(n, k, dtype=torch.bfloat16 if i else torch.float32)
        found[f"blocks.{i}.ff.bias"] = torch.randn(n)
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    save_file(weights(), tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors"


def test_it_is_what_packing_each_layer_gives(source: Path, tmp_path: Path) -> None:
    made = quant.convert(source, tmp_path / "out", scheme="W4A16", progress=False)
    stored, given = load_file(made.folder / WEIGHTS), weights()
    for i in range(3):
        for leaf, tensor in pack_linear(given[f"blocks.{i}.ff.weight"], LayerFormat(SCHEMES["W4A16"])).items():
            assert torch.equal(stored.pop(f"blocks.{i}.ff.{leaf}"), tensor)
    for name, tensor in stored.items():
        assert torch.equal(tensor, given[name])
    assert [record["scheme"] for record in made.layers[""]] == ["W4A16"] * 3
    assert all(0.05 < record["weight_error"] < 0.2 for record in made.layers[""])
    assert quant.inspect(made.folder).components[0].nbytes > 0


@pytest.mark.parametrize(
    "how",
    [
        {"scheme": "FP8_DYNAMIC"},
        {"scheme": "FP8_BLOCK"},
        {"scheme": "W8A16"},
        {"scheme": "W4A16_ASYM"},
        {"scheme": "W4A16", "ranges": "mse"},
        {"scheme": "W8A8", "ranges": "mse"},
        {"scheme": "FP8_DYNAMIC", "sparsity": "2:4"},
        {"sparsity": "2:4"},
    ],
    ids=lambda how: "-".join(how.values()),
)
def test_torch_and_the_compiled_loop_give_the_same_files(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, str]
) -> None:
    def converted(name: str) -> tuple[bytes, list[float]]:
        made = quant.convert(source, tmp_path / name, progress=False, **how)  # type: ignore[arg-type]
        return (made.folder / WEIGHTS).read_bytes(), [record["weight_error"] for record in made.layers[""]]

    by_loop, errors = converted("loop")
    monkeypatch.setattr(encode_rows, "unavailable", lambda: "not here")
    monkeypatch.setattr(encode_rows, "encode_rows", _never)
    by_torch, same_errors = converted("torch")
    assert by_loop == by_torch
    assert errors == pytest.approx(same_errors, rel=1e-6)


def _never(*_: object) -> None:
    raise AssertionError


def test_a_diffusers_component_is_converted_as_it_is_calibrated(model_folder: Path, tmp_path: Path) -> None:
    folder = model_folder / "transformer"
    converted = quant.convert(folder, tmp_path / "a", recipe="w4a16", progress=False).folder
    calibrated = quant.calibrate(folder, "w4a16", tmp_path / "b", progress=False).folder
    for name in ("config.json", WEIGHTS, "quant_manifest.json"):
        assert (converted / name).read_bytes() == (calibrated / name).read_bytes()
    by_scheme = quant.convert(model_folder, tmp_path / "c", scheme="W4A16", ranges="mse", progress=False).folder
    ours, theirs = load_file(by_scheme / "transformer" / WEIGHTS), load_file(converted / WEIGHTS)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_shards_with_an_index_and_without_a_config(tmp_path: Path) -> None:
    given, folder = weights(), tmp_path / "model"
    folder.mkdir()
    names = [f"model-{i + 1:05d}-of-00002.safetensors" for i in range(2)]
    halves = [dict(list(given.items())[i::2]) for i in range(2)]
    for name, half in zip(names, halves, strict=True):
        save_file(half, folder / name)
    placed = {tensor: name for name, half in zip(names, halves, strict=True) for tensor in half}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    made = quant.convert(folder, tmp_path / "out", scheme="W8A8", max_shard_bytes=40_000, progress=False)
    assert len(list(made.folder.glob("*.safetensors"))) > 2
    blocks = nn.ModuleList(nn.ModuleDict({"ff": nn.Linear(256, 136)}) for _ in range(3))
    model = nn.ModuleDict({"blocks": blocks})
    model.register_parameter("empty", nn.Parameter(torch.empty(0, 4)))
    model["patch"] = nn.Conv2d(4, 8, (1, 2), bias=False)
    quant.load(made.folder, into=model)
    x = torch.randn(5, 256)
    exact = x @ given["blocks.1.ff.weight"].float().T + given["blocks.1.ff.bias"]
    assert (model.get_submodule("blocks.1.ff")(x) - exact).norm() < 0.02 * exact.norm()


def test_a_whole_pipeline_with_its_text_encoder(model_folder: Path, tmp_path: Path) -> None:
    """diffusers loads it: the transformer by this library, the text encoder by transformers and compressed-tensors."""
    group = {"targets": ["Linear"], "scheme": "FP8_DYNAMIC"}
    body = {"version": 1, "components": ["transformer", "text_encoder"], "groups": [group]}
    recipe = quant.Recipe.from_dict(body, name="both")
    out = quant.convert(model_folder, tmp_path / "out", recipe=recipe, full=True, progress=False).folder
    assert (out / "text_encoder" / "model.safetensors").is_file()
    assert quant.verify(out, progress=False).sound
    ids = torch.randint(0, 8, (1, 12), generator=torch.Generator().manual_seed(0))
    exact, found = (
        DiffusionPipeline.from_pretrained(folder, dtype=torch.bfloat16).text_encoder(ids)[0].float()
        for folder in (model_folder, out)
    )
    assert 0.001 < float((found - exact).norm() / exact.norm()) < 0.15
    with_data = {**body, "groups": [{**group, "algorithm": "gptq"}]}
    with pytest.raises(quant.QuantError, match="which is quantized without data only"):
        quant.calibrate(model_folder, quant.Recipe.from_dict(with_data), tmp_path / "no", prompts=["a"], progress=False)


def test_it_goes_on_at_the_file_where_it_was(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while the second of three files is made: the first is not made again, and all are the same."""

    def convert(name: str) -> Path:
        return quant.convert(
            source, tmp_path / name, scheme="FP8_DYNAMIC", max_shard_bytes=40_000, progress=False
        ).folder

    whole = convert("whole")
    made: list[str] = []
    put = ShardFile.put

    def dying(self: ShardFile, name: str, tensor: torch.Tensor) -> bool:
        if self.path.name.endswith("-00002-of-00003.safetensors"):
            raise KeyboardInterrupt
        return put(self, name, tensor)

    def watched(self: ShardFile, name: str, tensor: torch.Tensor) -> bool:
        made.append(self.path.name)
        return put(self, name, tensor)

    monkeypatch.setattr(devices, "usable_cores", lambda: 1)
    monkeypatch.setattr(ShardFile, "put", dying)
    with pytest.raises(KeyboardInterrupt, match="what was done is kept: the same command goes on"):
        convert("out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(ShardFile, "put", watched)
    out = convert("out")
    assert not any(name.endswith("-00001-of-00003.safetensors") for name in made) and made
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}
    assert all((out / path.name).read_bytes() == path.read_bytes() for path in whole.iterdir())


def test_a_finished_file_that_was_damaged_is_made_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("quant.api.writing.write_manifest", full)
        patched.setattr("quant.checkpoint.kept_shards.KeptShards.move", full)
        with pytest.raises(quant.QuantError, match="the same command goes on"):
            quant.convert(source, tmp_path / "out", scheme="W8A8", progress=False)
    (kept,) = (tmp_path / ".out.quant" / "written").glob("*.safetensors")
    data = bytearray(kept.read_bytes())
    data[-1] ^= 1
    kept.write_bytes(data)
    out = quant.convert(source, tmp_path / "out", scheme="W8A8", progress=False).folder
    again = quant.convert(source, tmp_path / "again", scheme="W8A8", progress=False).folder
    assert (out / WEIGHTS).read_bytes() == (again / WEIGHTS).read_bytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scheme", ["FP8_DYNAMIC", "W4A16"])
def test_a_weight_that_is_not_finite_is_named(tmp_path: Path, dtype: torch.dtype, scheme: str) -> None:
    given = {name: tensor.to(dtype) for name, tensor in weights().items()}
    given["blocks.2.ff.weight"][130, 3] = float("nan")
    save_file(given, tmp_path / "x.safetensors")
    with pytest.raises(quant.QuantError, match=r"tensor 'blocks\.2\.ff\.weight': holds NaN at \[130, 3\]"):
        quant.convert(tmp_path / "x.safetensors", tmp_path / "out", scheme=scheme, progress=False)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_is_said(source: Path, tmp_path: Path) -> None:
    for arguments, says in [
        ({}, "give a scheme, such as FP8_DYNAMIC, or a recipe"),
        ({"scheme": "W8A8", "recipe": "w4a16"}, "give a scheme, such as FP8_DYNAMIC, or a recipe"),
        ({"recipe": "w4a16", "ranges": "mse"}, "sparsity and ranges go with a scheme"),
        ({"recipe": "w4a16", "sparsity": "2:4"}, "give a scheme, such as FP8_DYNAMIC, or a recipe"),
        ({"recipe": "w4a16-gptq"}, "w4a16-gptq: needs calibration data; run it with quant calibrate"),
        ({"scheme": "W9"}, "unknown scheme 'W9'"),
        ({"scheme": "FP8"}, "needs calibration data; run it with quant calibrate"),
        ({"scheme": "W8A8", "sparsity": "1:4"}, "structure"),
        ({"scheme": "W8A8", "ranges": "best"}, "ranges: must be max or mse, got 'best'"),
    ]:
        with pytest.raises(quant.QuantError, match=says):
            quant.convert(source, tmp_path / "out", progress=False, **arguments)  # type: ignore[arg-type]
    with pytest.raises(quant.QuantError, match="absent: no such folder"):
        quant.convert(tmp_path / "absent", tmp_path / "out", scheme="W8A8", progress=False)


def test_recipes_are_named_after_what_they_do() -> None:
    assert recipe_of("FP8_DYNAMIC").name == "fp8-dynamic"
    assert recipe_of("int8", "2:4").name == "24-w8a8"
    assert recipe_of("W4A16", ranges="mse").name == "w4a16-mse"


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    """Weights of 403 MB, besides which torch alone takes 230 MB."""
    given = {f"blocks.{i}.ff.weight": torch.randn(4096, 2048).bfloat16() for i in range(24)}
    save_file(given, tmp_path / "large.safetensors")
    save_file({name: tensor[:256] for name, tensor in given.items()}, tmp_path / "small.safetensors")
    code = (
        "import sys, quant.api.convert as c\n"
        "c.convert(sys.argv[1], sys.argv[2], scheme='W4A16', progress=False)\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
    )
    peaks = []
    for name in ("small", "large"):
        command = [sys.executable, "-c", code, str(tmp_path / f"{name}.safetensors"), str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(1024 * int(done.stdout))
    assert peaks[1] < 512e6
    assert peaks[1] - peaks[0] < 100e6

"""`quant convert` as its user runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

import quant
from quant.cli.convert import _read_ahead
from quant.cli.main import main
from quant.kernels.cpu import encode_rows
from tests.pipelines.inputs.test_original import wan


@pytest.fixture
def source(tmp_path: Path) -> Path:
    tensors = {f"blocks.{i}.{name}.weight": torch.randn(128, 128) for i in range(2) for name in ("q", "k")}
    tensors |= {f"blocks.{i}.odd.weight": torch.randn(8, 36) for i in range(2)} | {"head.weight": torch.randn(4, 128)}
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_it_says_what_became_of_the_layers(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(main, ["convert", str(source), "--scheme", "w4a16", "--ranges", "mse", "--out", str(out)])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "model: 4 layers W4A16"
    assert "model: 2 layers kept: groups of 128 do not fit in_features 36; strategy 'channel' would" in lines
    assert "model: 1 layers kept: outside the repeated blocks (generic)" in lines
    assert lines[-1].startswith(f"wrote {out} in ") and lines[-1].endswith(f"look into it with: quant inspect {out}")
    assert "writing model: 100%" in done.stderr
    assert (out / "config.json").is_file()


def test_quiet_is_one_line_and_a_lack_of_a_compiler_is_not_silent(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["convert", str(source), "--sparsity", "2:4", "--scheme", "FP8_DYNAMIC", "--out"]
    quiet = CliRunner().invoke(main, [*arguments, str(tmp_path / "a"), "--quiet"])
    assert quiet.exit_code == 0 and not quiet.stderr and len(quiet.stdout.splitlines()) == 1
    monkeypatch.setattr(encode_rows, "unavailable", lambda: "no C compiler: CC names 'cc'")
    slow = CliRunner().invoke(main, [*arguments, str(tmp_path / "b")])
    assert "note: weights were encoded by torch, which takes longer: no C compiler" in slow.stdout
    same = [(tmp_path / name / "diffusion_pytorch_model.safetensors").read_bytes() for name in "ab"]
    assert same[0] == same[1]


def test_a_model_in_its_authors_names_takes_its_config_from_elsewhere(tmp_path: Path, model_folder: Path) -> None:
    stored = load_file(model_folder / "transformer" / "diffusion_pytorch_model.safetensors")
    stored = {f"model.diffusion_model.{name}": tensor for name, tensor in wan(stored).items()}
    save_file(stored, tmp_path / "wan.safetensors")
    arguments = ["convert", str(tmp_path / "wan.safetensors"), "--scheme", "W4A16", "--quiet", "--out"]
    plain = quant.convert(model_folder / "transformer", tmp_path / "plain", scheme="W4A16", progress=False).folder
    for config in (model_folder, model_folder / "transformer"):
        out = tmp_path / f"by {config.name}"
        done = CliRunner().invoke(main, [*arguments, str(out), "--config", str(config)])
        assert done.exit_code == 0, done.output
        ours, theirs = (load_file(each / "diffusion_pytorch_model.safetensors") for each in (out, plain))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert (out / "config.json").read_bytes() == (plain / "config.json").read_bytes()
    alone = CliRunner().invoke(main, [*arguments, str(tmp_path / "alone")])
    assert alone.exit_code == 2 and "--config" in alone.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give a scheme, such as FP8_DYNAMIC, or a recipe"),
        (["--scheme", "FP9"], "unknown scheme 'FP9'; known: FP8_DYNAMIC"),
        (["--recipe", "w8a8"], "w8a8: needs calibration data; run it with quant calibrate and --prompts"),
        (["--scheme", "W8A8", "--full"], "--full copies the others of a pipeline"),
    ],
)
def test_what_cannot_be_is_one_line(source: Path, tmp_path: Path, arguments: list[str], says: str) -> None:
    done = CliRunner().invoke(main, ["convert", str(source), *arguments, "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert says in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_only_what_is_converted_is_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("transformer", "text_encoder", "deeper/transformer"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "model.safetensors").write_bytes(b"x")
    asked: list[str] = []
    monkeypatch.setattr(
        "os.posix_fadvise", lambda handle, *_: asked.append(Path(f"/proc/self/fd/{handle}").readlink().as_posix())
    )
    wanted = (tmp_path / "transformer" / "model.safetensors").as_posix()
    _read_ahead(tmp_path)
    _read_ahead(tmp_path / "transformer")
    _read_ahead(tmp_path / "transformer" / "model.safetensors")
    _read_ahead(tmp_path / "absent")
    assert asked == [wanted] * 3

"""`quant calibrate --inputs`: pipelines that start from more than a prompt, whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import quant
from quant.cli.main import main
from tests import tiny_pipelines


def _calibrate(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["calibrate", *map(str, args), "--quiet"])
    return result.exit_code, result.output


@pytest.mark.parametrize("name", ["control", "conditions", "modular"])
def test_a_checkpoint_of_a_pipeline_that_takes_files(tmp_path: Path, name: str) -> None:
    model, inputs = tiny_pipelines.save(name, tmp_path), tiny_pipelines.table(name, tmp_path)
    code, output = _calibrate(model, "--recipe", "fp8-static", "--inputs", inputs, "--full", "--out", tmp_path / "out")
    assert code == 0, output
    record = json.loads((tmp_path / "out" / "quant_manifest.json").read_text())["calibration"]
    assert record["prompts"] == ["a red fox"] * 2
    row = tiny_pipelines.KINDS[name].row
    assert ("inputs" in record) == (set(row) != {"prompt"})
    if "video" in row:
        assert record["inputs"][0]["video"]["file"] == "clip.mp4"
    assert quant.load(tmp_path / "out") is not None


def test_a_modular_pipeline_comes_back_by_diffusers_own_class(tmp_path: Path) -> None:
    from diffusers import ModularPipeline

    import quant.diffusers
    from quant.layers.replace import quantized_layers

    model, inputs = tiny_pipelines.save("modular", tmp_path), tiny_pipelines.table("modular", tmp_path)
    quant.calibrate(model, "fp8-static", tmp_path / "out", inputs=inputs, full=True, progress=False)
    pipe = ModularPipeline.from_pretrained(str(tmp_path / "out"))
    pipe.load_components()
    assert quantized_layers(pipe.transformer)


def test_what_does_not_fit_is_said_before_the_model_is_loaded(tmp_path: Path) -> None:
    model, inputs = tiny_pipelines.save("control", tmp_path), tiny_pipelines.table("control", tmp_path)
    for args, says in [
        (["--inputs", inputs, "--prompts", inputs], "prompts and inputs are given"),
        (
            ["--inputs", inputs, "--set", "strength=1"],
            "WanVACEPipeline takes no 'strength'; remove it",
        ),
        (["--inputs", inputs, "--set", "strength"], "is not KEY=VALUE"),
        ([], "give --prompts FILE or --inputs FILE"),
    ]:
        (model / "transformer" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
        code, output = _calibrate(model, "--recipe", "fp8-static", "--out", tmp_path / "out", *args)
        assert code != 0 and says in output
    (model / "generation.json").write_text('{"hieght": 16}')
    code, output = _calibrate(model, "--recipe", "fp8-static", "--out", tmp_path / "out", "--inputs", inputs)
    assert code != 0 and "generation.json: WanVACEPipeline takes no 'hieght'" in output


def test_settings_of_the_command_line_reach_the_call(tmp_path: Path) -> None:
    model = tiny_pipelines.save("text", tmp_path)
    (tmp_path / "p.txt").write_text("a red fox\n")
    code, output = _calibrate(
        model, "--recipe", "fp8-static", "--prompts", tmp_path / "p.txt", "--out", tmp_path / "out",
        "--set", "negative_prompt=snow", "--set", "guidance_scale=1.5", "--guidance", 2,
    )  # fmt: skip
    assert code == 0, output
    record = json.loads((tmp_path / "out" / "quant_manifest.json").read_text())["calibration"]
    assert record["settings"]["negative_prompt"] == "snow" and record["settings"]["guidance_scale"] == 2.0
    assert "inputs" not in record


def test_a_modular_pipeline_in_memory_is_quantized_and_left_as_it_was(tmp_path: Path) -> None:
    pipe = tiny_pipelines.make("modular")
    settings = quant.GenerationSettings(**tiny_pipelines.KINDS["modular"].settings)
    transformer = pipe.transformer
    made = quant.quantize(pipe, "fp8-static", inputs=[{"prompt": "snow"}], settings=settings, progress=False)
    assert pipe.transformer is transformer and made.transformer is not transformer
    assert made.components["transformer"] is made.transformer
    with pytest.raises(quant.QuantError, match="WanModularPipeline takes no 'image'"):
        quant.quantize(pipe, "fp8-static", inputs=[{"prompt": "snow", "image": "a.png"}], progress=False)

"""calibrate, inspect and recipes end to end on a tiny pipeline, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import quant
from quant.cli import main
from quant.recipe_files import Expected, find_recipe, shipped_recipes
from tests.tiny_pipeline import LINEARS, save_pipeline


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("cli") / "model")


def run(*arguments: object) -> str:
    ran = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert ran.exit_code == 0, ran.stderr
    return ran.stdout


def test_calibrate_then_inspect(model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "a red fox"}\n{"prompt": "snow"}\n{"prompt": "a bird"}\n')
    said = run(
        *("calibrate", model, "--recipe", "w8a8", "--prompts", prompts, "--out", tmp_path / "out"),
        *("--samples", 2, "--seed", 7, "--steps", 3, "--guidance", 1.0, "--frames", 9),
    )
    assert "blocks.{0-1}.attn1.to_q" in said
    assert "outside the repeated blocks (wan)" in said
    assert f"{LINEARS} of {LINEARS + 7} layers quantized" in said
    assert said.rstrip().endswith(f"quant inspect {tmp_path / 'out'}")
    manifest = json.loads((tmp_path / "out" / "quant_manifest.json").read_text())
    calibration = manifest["calibration"]
    assert (calibration["prompts"], calibration["seed"]) == (["a red fox", "snow"], 7)
    assert calibration["settings"]["num_inference_steps"] == 3
    assert (calibration["settings"]["guidance_scale"], calibration["settings"]["num_frames"]) == (1.0, 9)
    assert calibration["settings"]["height"] == 16  # of generation.json

    shown = run("inspect", tmp_path / "out")
    assert "recipe    general/w8a8" in shown
    assert "data      2 prompts, height 16" in shown
    table = [line for line in said.splitlines() if line.startswith(("transformer", "blocks", "proj_out"))]
    assert [line for line in shown.splitlines() if line in table] == table
    assert len(run("inspect", tmp_path / "out", "--layers").splitlines()) > len(shown.splitlines())
    body = json.loads(run("inspect", tmp_path / "out", "--json"))
    assert body["components"][0]["bf16_nbytes"] == quant.inspect(tmp_path / "out").components[0].bf16_nbytes


def test_prompts_that_are_not_used_are_mentioned(model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("snow\n")
    said = run("calibrate", model, "--recipe", "fp8-dynamic", "--prompts", prompts, "--out", tmp_path / "out")
    assert f"note: general/fp8-dynamic needs no data; {prompts} was not used" in said


def test_quiet_and_force(model: Path, tmp_path: Path) -> None:
    arguments = ("calibrate", model, "--recipe", "fp8-dynamic", "--out", tmp_path / "out", "--quiet")
    assert run(*arguments).count("\n") == 1
    again = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert again.exit_code == 2
    assert "already exists" in again.stderr
    assert run(*arguments, "--force").count("\n") == 1


def test_an_empty_prompt_file(model: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n")
    ran = CliRunner().invoke(
        main, ["calibrate", str(model), "--recipe", "w8a8", "--prompts", str(empty), "--out", str(tmp_path / "out")]
    )
    assert ran.exit_code == 2
    assert ran.stderr == f"Error: {empty}: no prompts in it; write one a line\n"
    assert not (tmp_path / "out").exists()


def test_recipes() -> None:
    head, *listed = run("recipes").splitlines()
    assert head.split() == ["recipe", "scheme", "of", "bf16", "PSNR"]
    assert [line.split()[0] for line in listed] == list(shipped_recipes())
    shown = run("recipes", "show", "w8a8")
    assert quant.Recipe.from_yaml(shown).groups[0].scheme.name == "W8A8"


def test_recipes_say_what_was_measured_and_of_which_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    known = find_recipe("w4a8").sha256
    monkeypatch.setattr(
        "quant.recipe_files.expected_quality",
        lambda recipe: Expected(0.351, 33.4, 18.8) if recipe.sha256 == known else None,
    )
    lines = {line.split()[0]: line for line in run("recipes").splitlines()}
    assert "35%  33 / 19 dB  INT4 weights" in lines["general/w4a8"]
    assert lines["general/w8a8"].split()[2:4] == ["-", "-"]


def test_sensitivity_writes_json_and_a_picture(model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red fox\nsnow\n")
    out = tmp_path / "found.json"
    command = ("sensitivity", model, "--recipe", "fp8-dynamic", "--prompts", prompts, "--out", out, "--runs", 1)
    said = run(*command, "--measured-steps", 2)
    found = quant.Sensitivity.from_json(out.read_text())
    assert len(found.units) == LINEARS
    head, *rows = said.splitlines()
    assert head.split()[:3] == ["transformer", "scheme", "error"] and head.endswith("step 1  step 2")
    assert rows[0].startswith(found.ranked[0].name)
    assert (tmp_path / "found.svg").read_text().startswith("<svg")
    refused = CliRunner().invoke(main, [str(part) for part in command])
    assert refused.exit_code == 2 and f"{out}: exists; give --force" in refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.json", "found.svg", "prompts.txt"]


def test_sensitivity_by_step_has_a_row_for_each_and_prints_json(model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red fox\n")
    command = ("sensitivity", model, "--recipe", "fp8-dynamic", "--prompts", prompts, "--runs", 1, "--by", "step")
    said = run(*command, "--steps", 3, "--out", tmp_path / "steps.json")
    head, *rows = said.splitlines()
    assert head.split() == ["step", "timestep", "transformer"]
    assert [row.split()[0] for row in rows[:3]] == ["1", "2", "3"] and "twice the median" in said
    printed = run(*command, "--steps", 1, "--json", "--quiet", "--out", tmp_path / "one.json")
    assert quant.Sensitivity.from_json(printed) == quant.Sensitivity.from_json((tmp_path / "one.json").read_text())


def test_sensitivity_finds_out_before_it_measures_where_it_can_write(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quant.measure_sensitivity", None, raising=False)
    (tmp_path / "mine.json").write_text('{"years": "of work"}')
    (tmp_path / "drawn.svg").write_text("<svg>by hand</svg>")
    (tmp_path / "folder.json").mkdir()
    places = {
        "mine.json": "exists and was not written by this command",
        "drawn.json": "drawn.svg: exists and was not written by this command",
        "folder.json": "is a directory",
        "no/where.json": "no such folder",
        f"{model}/index.json": "lies in the original",
        "/proc/x.json": "cannot be written",
        "0" * 250 + ".json": "File name too long",
    }
    for out, says in places.items():
        command = ["sensitivity", str(model), "--recipe", "fp8-dynamic", "--prompts", "x", "--out", str(tmp_path / out)]
        refused = CliRunner().invoke(main, [*command, "--force"])
        assert refused.exit_code == 2 and says in refused.stderr, (out, refused.output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drawn.svg", "folder.json", "mine.json"]


def test_a_keep_budget_is_a_share(model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red fox\n")
    command = [
        "calibrate",
        str(model),
        "--recipe",
        "fp8-dynamic",
        "--prompts",
        str(prompts),
        "--out",
        str(tmp_path / "out"),
    ]
    said = run(*command, "--keep-budget", "2%")
    assert "sensitive: alone it moves the prediction by" in said
    for wrong in ("0", "-5%", "much"):
        refused = CliRunner().invoke(main, [*command, "--keep-budget", wrong])
        assert refused.exit_code == 2 and "is not a share above 0, such as 5% or 0.05" in refused.stderr
    refused = CliRunner().invoke(main, [*command, "--keep-as", "W8A8"])
    assert refused.exit_code == 2 and "--keep-as: says what --keep-budget keeps layers as" in refused.stderr


def test_record(model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red fox\nsnow\na bird\n")
    said = run(
        *("record", model, "--prompts", prompts, "--out", tmp_path / "calls", "--calls", 2, "--samples", 2),
        *("--steps", 4, "--set", "negative_prompt=snow", "--seed", 7),
    )
    assert "transformer: 2 steps of 2 inputs, 4 calls\n" in said
    assert said.rstrip().endswith("MB") and f"wrote {tmp_path / 'calls'}, " in said
    about = json.loads((tmp_path / "calls" / "recording.json").read_text())
    assert about["settings"]["negative_prompt"] == "snow" and about["seed"] == 7
    assert len(about["inputs"]) == 2
    again = CliRunner().invoke(
        main, ["record", str(model), "--prompts", str(prompts), "--out", str(tmp_path / "calls")]
    )
    assert (again.exit_code, again.stdout) == (2, "")
    assert "already holds a recording" in again.stderr

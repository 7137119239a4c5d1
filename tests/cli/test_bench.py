"""`quant bench` as typed: predictions without a GPU, what is refused, and what is measured where there is one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from quant.cli import main
from quant.cli.bench import _GPUS, _MODELS
from quant.eval.bench import measure as measuring
from quant.eval.bench.gpus import gpus
from quant.eval.bench.measure import Measured
from quant.eval.bench.prediction import BF16, FUSED, UNFUSED
from quant.eval.bench.sizes import Model, models
from quant.eval.bench.timing import Timed
from quant.recipe import Recipe


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answers on every machine."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def h100(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """A machine whose measurements are made up; returns what was asked of it."""
    asked: list[tuple[Any, ...]] = []

    def measure(model: Model, recipe: Recipe, device: torch.device, name: str, *, batch: int) -> Measured:
        asked.append((model, recipe.name, device, batch))
        times = Timed({BF16: [0.08], UNFUSED: [0.07], FUSED: [0.06]}, {})
        kinds = {"matmul": 0.02, "attention": 0.04, "elementwise": 0.01}
        by_kind = dict.fromkeys(times.seconds, kinds)
        return Measured(model, recipe.name, batch, name, "FLASH_ATTENTION", times, by_kind, {}, ())

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(measuring, "measure", measure)
    return asked


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["bench", "block", *map(str, arguments)])


def run(*arguments: object) -> str:
    ran = invoke(*arguments)
    assert ran.exit_code == 0, ran.stderr
    return ran.stdout


def refused(*arguments: object) -> str:
    """The last line on stderr; nothing else is said."""
    ran = invoke(*arguments)
    assert (ran.exit_code, ran.stdout) == (2, "")
    return ran.stderr.splitlines()[-1]


def test_the_names_are_those_of_the_data() -> None:
    assert set(_MODELS) == set(models())
    assert set(_GPUS) == set(gpus())


def test_help_has_the_tokens_of_every_model() -> None:
    said = " ".join(run("--help").split())
    for model in models().values():
        assert model.name in said
        assert f"{model.video_tokens:,}" in said


@pytest.mark.parametrize("gpu", ["h100-sxm", "h200", "rtx4090"])
@pytest.mark.parametrize("model", _MODELS)
def test_a_prediction_needs_no_gpu(model: str, gpu: str) -> None:
    said = run("--model", model, "--recipe", "fp8-dynamic", "--gpu", gpu)
    assert said.splitlines()[0] == "Prediction (roofline model, nothing was measured)"
    assert gpus()[gpu].title in said


def test_a_prediction_as_json() -> None:
    body = json.loads(
        run("--model", "wan-14b", "--recipe", "w8a8", "--gpu", "a100", "--tokens", 75_600, "--batch", 2, "--json")
    )
    assert body["what"] == "prediction"
    assert (body["model"]["video_tokens"], body["batch"], body["recipe"]) == (75_600, 2, "general/w8a8")
    (query,) = (each for each in body["predicted"][BF16]["operations"] if each["name"] == "attn1.to_q")
    assert query["sizes"] == {"M": 151_200, "N": 5120, "K": 5120}


@pytest.mark.parametrize(
    ("recipe", "rates"),
    [
        ("w4a16", {"int4 x bf16"}),
        ("w8a16", {"int8 x bf16"}),
        ("w4a8-edges", {"int4 x int8"}),
        ("sparse24-w8a8", {"int8", "sparse int8"}),
    ],
)
def test_the_rates_of_other_recipes(recipe: str, rates: set[str]) -> None:
    said = run("--model", "wan-14b", "--recipe", recipe, "--gpu", "a100")
    used = {line.partition(":")[0] for line in said.splitlines() if line.startswith("matmul ") and ": " in line}
    assert used == {f"matmul {name}" for name in {"bf16", *rates}}


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "version: 1\ngroups:\n  - {targets: ['re:.*ffn.*'], scheme: W8A8}\nkeep_edge_blocks: 0.1\n"
    )
    said = run("--model", "wan-1.3b", "--recipe", tmp_path / "mine.yaml", "--gpu", "h200")
    assert "mine.yaml keeps 3 blocks at each end in bf16; this is block 15 of 30" in said
    body = json.loads(run("--model", "wan-1.3b", "--recipe", tmp_path / "mine.yaml", "--gpu", "h200", "--json"))
    numbers = {each["name"]: each["numbers"] for each in body["predicted"][UNFUSED]["operations"]}
    assert (numbers["ffn.net.2"], numbers["attn1.to_q"]) == ("int8", "bf16")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ("--model", "wan-14b", "--recipe", "w8a8"),
            "Error: torch sees no CUDA device to measure on; --gpu predicts for one of h100-sxm, h200, a100, rtx4090",
        ),
        (("--model", "wan-14b", "--recipe", "fp8-static", "--gpu", "a100"), "Error: a100 has no FP8 tensor cores"),
        (("--model", "wan-14b", "--recipe", "w4afp8", "--gpu", "a100"), "Error: a100 has no FP8 tensor cores"),
        (("--model", "wan-14b", "--recipe", "sparse24-fp8", "--gpu", "a100"), "Error: a100 has no FP8 tensor cores"),
        (("--model", "wan-14b", "--recipe", "w9a9", "--gpu", "a100"), "Error: unknown recipe 'w9a9'; known: "),
        (("--model", "sora", "--recipe", "w8a8"), "Error: Invalid value for '--model': 'sora' is not one of "),
        (("--model", "wan-14b", "--recipe", "w8a8", "--gpu", "h20"), "Error: Invalid value for '--gpu': 'h20' is "),
        (("--model", "wan-14b", "--recipe", "w8a8", "--tokens", 0), "Error: Invalid value for '--tokens': 0 is not "),
        (("--model", "wan-14b"), "Error: Missing option '--recipe'."),
    ],
)
def test_what_is_refused(options: tuple[object, ...], says: str) -> None:
    assert refused(*options).startswith(says)


def test_a_gpu_is_measured_and_the_prediction_stands_beside(h100: list[tuple[Any, ...]]) -> None:
    said = run("--model", "ltx-13b", "--recipe", "w8a8", "--tokens", 100, "--batch", 2)
    ((model, recipe, device, batch),) = h100
    assert (model.name, model.video_tokens, recipe, batch) == ("ltx-13b", 100, "general/w8a8", 2)
    assert device == torch.device("cuda", 0)
    assert said.splitlines()[0] == "Measured on NVIDIA H100 80GB HBM3"
    assert said.endswith("predicted: roofline model for H100 SXM 80 GB\n")
    body = json.loads(run("--model", "ltx-13b", "--recipe", "w8a8", "--json"))
    assert (body["what"], body["prediction"]["what"]) == ("measurement", "prediction")


@pytest.mark.parametrize("recipe", ["w8a8", "fp8-dynamic"])
def test_a_gpu_without_a_prediction(recipe: str, h100: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA L4")
    reason = "the rates of NVIDIA L4 are not known"
    assert f"no prediction: {reason}\n" in run("--model", "wan-1.3b", "--recipe", recipe)
    body = json.loads(run("--model", "wan-1.3b", "--recipe", recipe, "--json"))
    assert "prediction" not in body
    assert body["no_prediction"] == reason


def test_fp8_on_an_a100_is_measured_without_a_prediction(
    h100: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100-SXM4-80GB")
    said = run("--model", "wan-1.3b", "--recipe", "fp8-dynamic")
    assert "Measured on NVIDIA A100-SXM4-80GB" in said
    assert "no prediction: a100 has no FP8 tensor cores" in said


def test_with_a_gpu_another_one_can_still_be_predicted(h100: list[tuple[Any, ...]]) -> None:
    said = run("--model", "wan-14b", "--recipe", "w8a8", "--gpu", "a100")
    assert said.startswith("Prediction")
    assert h100 == []


@pytest.mark.parametrize(
    ("recipe", "gpu", "what"),
    [("w8a16", "a100", "int8_mm of W8A16"), ("fp8-block", "h200", "quantize_rows of FP8_BLOCK"), ("w8a8", "a100", "")],
)
def test_a_prediction_of_a_kernel_that_there_is_not_says_so(recipe: str, gpu: str, what: str) -> None:
    arguments = ("--model", "wan-1.3b", "--recipe", recipe, "--gpu", gpu)
    text, notes = run(*arguments), json.loads(run(*arguments, "--json"))["notes"]
    said = [note for note in notes if note.startswith("no kernel runs ")]
    assert [note.split(" at this size")[0].removeprefix("no kernel runs ") for note in said] == [what] * bool(what)
    for note in said:
        assert note in text
        assert note.endswith("; its time is predicted of a kernel that there is not")

"""Sensitivity of a tiny pipeline: against a pipeline that really was quantized in that one layer."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import quant
from quant.calibration.sensitivity import check_measurable
from quant.checkpoint.sensitivity import ALL_LAYERS, Sensitivity, ends_that_stand_out
from tests.tiny_pipeline import LINEARS, PROMPTS, SETTINGS, pipeline

INT4 = {"weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}}


def body(targets: list[str]) -> dict[str, Any]:
    return {"version": 1, "groups": [{"targets": targets, "scheme": INT4}]}


@pytest.fixture(scope="module")
def found(model_folder: Path) -> Sensitivity:
    recipe = quant.Recipe.from_dict(body(["Linear"]), "int4")
    return quant.measure_sensitivity(
        model_folder, recipe, PROMPTS, runs=1, steps=2, dtype=torch.float32, progress=False
    )


def predictions(pipe: Any) -> list[torch.Tensor]:
    """What the denoiser says in the calls of the first step, whose inputs no quantization has changed."""
    said: list[torch.Tensor] = []
    handle = pipe.transformer.register_forward_hook(lambda module, args, output: said.append(output[0].double()))
    pipe(PROMPTS[0], **SETTINGS, output_type="latent", generator=torch.Generator().manual_seed(0))
    handle.remove()
    return said[: len(said) // 2]


@pytest.mark.parametrize("name", ["blocks.0.attn1.to_q", "blocks.1.ffn.net.2"])
def test_an_error_is_that_of_a_model_with_this_layer_quantized(found: Sensitivity, name: str) -> None:
    pipe = pipeline().to(torch.float32)
    pipe.set_progress_bar_config(disable=True)
    exact = predictions(pipe)
    one = quant.quantize(pipe, quant.Recipe.from_dict(body([name])))
    off = sum(float((a - b).square().sum()) for a, b in zip(predictions(one), exact, strict=True))
    power = sum(float(a.square().sum()) for a in exact)
    (unit,) = [unit for unit in found.units if unit.name == name]
    assert unit.by_step[0] == pytest.approx((off / power) ** 0.5, rel=1e-3)
    assert 0 < unit.error < 1


def test_every_quantized_layer_is_measured_with_its_bytes(found: Sensitivity, model_folder: Path) -> None:
    assert len(found.units) == LINEARS
    assert (found.recipe, found.prompts, found.steps) == ("int4", (PROMPTS[0],), (0, 1))
    assert found.timesteps[0] > found.timesteps[1]
    assert found.model.endswith("/model")
    for unit in found.units:
        assert unit.layers == (unit.name,) and unit.component == "transformer"
        assert unit.scheme == "W4A16_G32"
        assert 0 < unit.stored_bytes < unit.original_bytes
    ranked = [unit.error for unit in found.ranked]
    assert ranked == sorted(ranked, reverse=True)


def test_a_block_is_its_layers_at_once(model_folder: Path) -> None:
    blocks = quant.measure_sensitivity(model_folder, "w8a8", PROMPTS, by="block", runs=1, steps=1, progress=False)
    assert [unit.name for unit in blocks.units] == ["blocks.0", "blocks.1"]
    assert sum(len(unit.layers) for unit in blocks.units) == LINEARS
    assert blocks.steps == (1,)


def test_by_step_it_is_the_whole_quantization_at_each_step(model_folder: Path) -> None:
    recipe = quant.Recipe.from_dict(body(["Linear"]), "int4")
    steps = quant.measure_sensitivity(
        model_folder, recipe, PROMPTS, by="step", runs=1, dtype=torch.float32, progress=False
    )
    (unit,) = steps.units
    assert (unit.name, len(unit.layers)) == (ALL_LAYERS, LINEARS)
    assert steps.steps == tuple(range(SETTINGS["num_inference_steps"])) and len(unit.by_step) == len(steps.timesteps)
    pipe = pipeline().to(torch.float32)
    pipe.set_progress_bar_config(disable=True)
    exact = predictions(pipe)
    off = sum(
        float((a - b).square().sum()) for a, b in zip(predictions(quant.quantize(pipe, recipe)), exact, strict=True)
    )
    power = sum(float(a.square().sum()) for a in exact)
    assert unit.by_step[0] == pytest.approx((off / power) ** 0.5, rel=1e-3)
    assert Sensitivity.from_json(steps.to_json()) == steps


@pytest.mark.parametrize(
    ("errors", "ends"),
    [
        ([9, 3, 1, 1, 1, 1, 2.5], (2, 1)),
        ([1, 9, 1, 1], (0, 0)),  # in the middle it is no end
        ([5, 1, 1, 1], (1, 0)),
        ([1, 1, 1, 1], (0, 0)),
        ([0, 0, 0, 1], (0, 1)),
        ([3, 1], (0, 0)),
        ([7], (0, 0)),
        ([], (0, 0)),
    ],
)
def test_ends_that_stand_out_are_the_first_and_last_steps_above_twice_the_median(
    errors: list[float], ends: tuple[int, int]
) -> None:
    assert ends_that_stand_out(errors) == ends


def test_json_comes_back_and_another_version_does_not(found: Sensitivity) -> None:
    text = found.to_json()
    assert Sensitivity.from_json(text) == found
    with pytest.raises(ValueError, match="format_version 9 is not read here, only 1"):
        Sensitivity.from_json(json.dumps({**json.loads(text), "format_version": 9}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format_version": True}, "format_version True is not read here"),
        ({"format_version": "x" * 9000}, "format_version 'xxx"),
        ({"units": 5}, "of another kind"),
        ({"units": [5]}, "of another kind"),
        ({"units": [{}]}, "a key is missing, unknown or of another kind: KeyError: 'layers'"),
        ({"extra": 1}, "a key is missing, unknown or of another kind"),
        ({"prompts": [3]}, "'prompts' is of another kind"),
        ({"steps": [0.0]}, "'steps' is of another kind"),
        ({"recipe": None}, "'recipe' is of another kind"),
    ],
)
def test_json_that_was_not_written_here_is_refused(found: Sensitivity, change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        Sensitivity.from_json(json.dumps({**json.loads(found.to_json()), **change}))
    assert len(str(error.value)) < 400
    unit = {**json.loads(found.to_json())["units"][0]}
    for key, value in (("error", "1"), ("error", math.nan), ("by_step", []), ("layers", [5]), ("stored_bytes", 1.5)):
        with pytest.raises(ValueError, match=f"'{key}' is of another kind"):
            Sensitivity.from_json(json.dumps({**json.loads(found.to_json()), "units": [{**unit, key: value}]}))


@pytest.mark.parametrize("text", ["[" * 100_000, "", "[]", "{", "\x00", "NaN"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="sensitivity: damaged"):
        Sensitivity.from_json(text)


def test_another_unit_is_refused(model_folder: Path) -> None:
    with pytest.raises(quant.QuantError, match="measured by layer, block or step, not by 'row'"):
        quant.measure_sensitivity(model_folder, "fp8-dynamic", PROMPTS, by="row", runs=1, progress=False)


def test_a_model_without_timesteps_is_refused_by_its_class_before_anything_runs() -> None:
    with pytest.raises(quant.QuantError, match="Linear is not called with a 'timestep', so its steps are not known"):
        check_measurable({"transformer": torch.nn.Linear(2, 2)})

"""Inputs that stay as they are in the first and last steps, through all of a checkpoint's life."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.pipelines.cosmos.mixed_precision import Cosmos3MixedPrecisionConfig, parse_diffusion_step_policy

import quant
import quant.diffusers
from quant.calibration.solved import solve_models
from quant.layers.replace import quantized_layers
from tests.api.test_load import inputs
from tests.tiny_pipeline import LINEARS, PROMPTS, SETTINGS, pipeline

GROUP = {"targets": ["Linear"], "scheme": "W8A8", "steps": {"first": 0.1, "last": 0.3}}
RECIPE = {"version": 1, "groups": [GROUP]}
FOUR = quant.GenerationSettings(num_inference_steps=4)


def recipe(*groups: dict[str, Any]) -> quant.Recipe:
    return quant.Recipe.from_dict({"version": 1, "groups": list(groups) or [GROUP]}, "steps")


@pytest.fixture(scope="module")
def checkpoint(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("steps") / "out"
    quant.calibrate(model_folder, recipe(), out, prompts=PROMPTS[:2], settings=FOUR, progress=False)
    return out / "transformer"


def schedule(steps: int) -> list[float]:
    scheduler = pipeline().scheduler
    scheduler.set_timesteps(steps)
    return [float(timestep) for timestep in scheduler.timesteps]


def at(model: Any, timestep: float) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**{**inputs(torch.float32), "timestep": torch.tensor([timestep])})[0]
    return found


def weights_alone(model: Any) -> Any:
    """A model of diffusers' with the weights that a checkpoint's codes mean."""
    plain = WanTransformer3DModel.from_config({k: v for k, v in model.config.items() if k != "quantization_config"})
    plain = plain.to(torch.float32)
    state = model.state_dict()
    for name, layer in quantized_layers(model).items():
        state[f"{name}.weight"] = layer.dequantized(layer.held())
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    return plain.eval()


def test_in_the_first_and_last_steps_it_is_the_model_with_the_stored_weights(
    checkpoint: Path, model_folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "out"
    quant.calibrate(model_folder, recipe({**GROUP, "steps": None}), other, progress=False)
    model, plain = quant.load(checkpoint, dtype=torch.float32), quant.load(other / "transformer", dtype=torch.float32)
    exact = weights_alone(model)
    for i, timestep in enumerate(schedule(4)):
        expected = exact if i in (0, 3) else plain
        torch.testing.assert_close(at(model, timestep), at(expected, timestep), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(at(exact, 900.0), at(plain, 900.0), rtol=1e-4, atol=1e-5)


def test_config_and_inspect_say_it_and_only_this_library_reads_it(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())["quantization_config"]
    (entry,) = config["precise_steps"]
    timesteps = schedule(4)
    assert config["quant_method"] == "quant" and len(entry.pop("targets")) == LINEARS
    assert timesteps[3] < entry.pop("up_to") < timesteps[2] < timesteps[1] < entry.pop("above") < timesteps[0]
    assert entry == {"first": 1, "last": 1, "of": 4}
    (layer, *_) = [layer for layer in quant.inspect(checkpoint).components[0].layers if layer.scheme]
    assert layer.scheme == "W8A8, inputs as they are in the first 1 and last 1 of 4 steps"
    assert quant.verify(checkpoint).count == 0
    assert quant.inspect(checkpoint.parent).provenance["calibration"]["prompts"] == PROMPTS[:1]  # no more is looked at


def test_diffusers_own_reader_of_the_step_policy_reads_the_same_steps(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())["quantization_config"]
    policy = config["runtime"]["diffusion_step_policy"]
    found = parse_diffusion_step_policy(policy)
    read = Cosmos3MixedPrecisionConfig("fp8", found.first_steps, found.last_steps, overlap=found.overlap)
    assert [read.use_high_precision(i, 4) for i in range(4)] == [True, False, False, True]


def test_every_way_to_load_computes_the_same(checkpoint: Path, tmp_path: Path) -> None:
    ours = quant.load(checkpoint, dtype=torch.float32)
    quant.save(ours, tmp_path / "again")
    ours.save_pretrained(tmp_path / "theirs")  # type: ignore[operator]
    for folder in (checkpoint, tmp_path / "again", tmp_path / "theirs"):
        theirs = WanTransformer3DModel.from_pretrained(folder, torch_dtype=torch.float32)
        fused = quant.load(folder, dtype=torch.float32, fused=True)
        for timestep in schedule(4)[:2]:
            torch.testing.assert_close(at(theirs, timestep), at(ours, timestep), rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(at(fused, timestep), at(ours, timestep), rtol=1e-3, atol=1e-4)
        assert "inputs as they are" in fused.blocks[0].parts["ffn.net.0.proj"]  # type: ignore[index,union-attr]


def test_a_pipeline_and_a_recording_have_the_same_steps(checkpoint: Path, model_folder: Path, tmp_path: Path) -> None:
    pipe = pipeline()
    given = {**SETTINGS, "num_inference_steps": 4}
    copy = quant.quantize(
        pipe, recipe(), prompts=PROMPTS[:1], settings=quant.GenerationSettings(**given), progress=False
    )
    formats = {name: layer.layer_format for name, layer in quantized_layers(copy.transformer).items()}
    loaded = quantized_layers(quant.load(checkpoint))
    assert {name: layer.layer_format for name, layer in loaded.items()} == formats
    calls = tmp_path / "calls"
    quant.record(model_folder, calls, prompts=PROMPTS[:2], calls=2, settings=FOUR, progress=False)
    quant.calibrate(model_folder, recipe(), tmp_path / "out", calls=calls, progress=False)
    replayed = quantized_layers(quant.load(tmp_path / "out" / "transformer"))
    assert {name: layer.layer_format for name, layer in replayed.items()} == formats


def test_sensitivity_by_step_shows_what_they_change(model_folder: Path) -> None:
    found, plain = (
        quant.measure_sensitivity(
            model_folder,
            recipe(group),
            PROMPTS,
            by="step",
            runs=1,
            settings=FOUR,
            dtype=torch.float32,
            progress=False,
        ).units[0]
        for group in (GROUP, {**GROUP, "steps": None})
    )
    assert found.by_step[0] < plain.by_step[0] and found.by_step[3] < plain.by_step[3]
    assert found.by_step[1:3] == plain.by_step[1:3]


@pytest.mark.parametrize(
    ("group", "says"),
    [
        ({"scheme": "W4A16"}, r"groups\[0\]\.steps: W4A16 quantizes no input that could stay as it is"),
        ({"steps": {"first": 1.0}}, r"groups\[0\]\.steps\.first: must be a share of the steps from 0 to below 1"),
        ({"steps": {"last": "3"}}, r"groups\[0\]\.steps\.last: must be a share"),
        ({"steps": {"last": True}}, r"groups\[0\]\.steps\.last: must be a share"),
        ({"steps": {"first": 0.5, "last": 0.5}}, r"groups\[0\]\.steps\.first and last: must leave some steps"),
        ({"steps": {}}, r"groups\[0\]\.steps\.first and last: must leave some steps, and not both be 0"),
        ({"steps": {"keep": "a16"}}, r"groups\[0\]\.steps: unknown key 'keep'"),
        ({"steps": 0.1}, r"groups\[0\]\.steps: must be a mapping"),
    ],
)
def test_shares_that_are_none_are_refused(group: dict[str, Any], says: str) -> None:
    with pytest.raises(quant.QuantError, match=says):
        recipe({**GROUP, **group})


def test_a_schedule_that_nobody_knows_is_refused_with_what_to_give(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(quant.QuantError, match=r"steps: needs calibration data; give --prompts FILE"):
        quant.calibrate(model_folder, recipe(), tmp_path / "out", progress=False)
    model = pipeline().transformer
    with pytest.raises(quant.QuantError, match=r"groups\[0\]\.steps: the schedule is that of a pipeline's run"):
        quant.quantize(model, recipe(), forward_loop=lambda model: None)
    settings = quant.GenerationSettings(num_inference_steps=1)
    with pytest.raises(quant.QuantError, match=r"are all of the 1 steps that are run"):
        quant.calibrate(
            model_folder, recipe(), tmp_path / "out", prompts=PROMPTS[:1], settings=settings, progress=False
        )


def test_a_model_without_timesteps_is_refused() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(32, 32))
    with pytest.raises(
        quant.QuantError, match=r"^steps: steps: model is a Sequential, which is not called with a 'time"
    ):
        solve_models({"model": model}, recipe(), None, None, FOUR, schedule=[900.0, 500.0, 20.0])


def test_steps_are_part_of_a_recipe_and_of_its_hash() -> None:
    found = recipe()
    assert quant.Recipe.from_dict(found.to_dict(), "steps") == found
    assert recipe({**GROUP, "steps": None}).sha256 != found.sha256

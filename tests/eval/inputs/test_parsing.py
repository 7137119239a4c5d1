from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from quant.errors import QuantError
from quant.eval.inputs.config import EvaluationConfig, SpeedSettings
from quant.eval.inputs.parsing import from_dict, read_config
from quant.eval.locations import short_place

GOOD = "model: ./wan\ncandidates: {w8a8: ./wan-w8a8}\nprompts: prompts.txt\n"


def test_a_file_reads_back_from_its_dictionary(tmp_path: Path) -> None:
    path = tmp_path / "fast.yaml"
    path.write_text(GOOD + "settings: {height: 32}\nspeed: {rounds: 2}\nmetrics: {clip: a/hub-id, fvd: [i3d]}\n")
    config = read_config(path)
    assert config.name == "fast"
    assert config.model == str(tmp_path / "wan")
    assert config.candidates == {"w8a8": str(tmp_path / "wan-w8a8")}
    assert (config.seeds, config.metrics["clip"], config.metrics.get("lpips")) == ((0,), ("a/hub-id",), None)
    assert from_dict(config.to_dict(), source="x", base=tmp_path / "elsewhere") == config


def test_a_merged_mapping_is_read_as_a_recipes_is(tmp_path: Path) -> None:
    path = tmp_path / "merged.yaml"
    path.write_text(GOOD + "settings: &few {height: 32, num_frames: 5}\nspeed: false\n")
    plain = read_config(path)
    path.write_text(GOOD + "settings: {<<: {height: 16, num_frames: 5}, height: 32}\nspeed: false\n")
    assert read_config(path) == plain


def test_results_name_the_last_two_parts_of_a_path_and_a_hub_id_whole() -> None:
    assert short_place("/home/me/secret/examples/shapes/model") == "shapes/model"
    assert short_place("/model") == "model"
    assert short_place("Wan-AI/Wan2.1-T2V-1.3B-Diffusers") == "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", r"c\.yaml: must be a mapping"),
        ("model: ./wan\nprompts: p.txt\ncandidates: 3", "'candidates' must be a mapping of names to paths, got 3"),
        (GOOD + "modle: x", "unknown key 'modle'; known: candidates, "),
        (GOOD + "samples: 0", "'samples' must be a whole number of at least 1, got 0"),
        (GOOD + "seeds: [1, 1]", "'seeds' must be different whole numbers"),
        (GOOD + "settings: {sigmas: {a: 3}}", "'settings': generation setting 'sigmas': must be a number"),
        (GOOD + "settings: {height: -3}", "'settings': generation setting 'height': must be a positive whole"),
        (GOOD + "metrics: {lpips: [squeeze]}", "'metrics.lpips' must be alex or vgg, got 'squeeze'"),
        (GOOD + "speed: {round: 3}", "unknown key 'speed.round'; known: compile, gpu, rounds"),
        (GOOD + "dtype: int8", "'dtype' must be one of float32, bfloat16, float16, got 'int8'"),
        (GOOD + "sensitivity: {other: s.json}", r"'sensitivity' must name candidates \(w8a8\), got 'other'"),
        (GOOD + "version: 2", "'version' this program reads version 1, got 2"),
        (GOOD + "model: ./b", "key 'model' is given twice"),
        (GOOD + "[a, b]: 1", r"c\.yaml: line 4: not valid YAML: a key must be a word"),
        (GOOD + "settings: {[a]: 1}", r"c\.yaml: line 4: not valid YAML: a key must be a word"),
        (GOOD + "seeds: [[1], {a: 2}]", "'seeds' must be different whole numbers"),
        (GOOD + "dtype: [float32]", "'dtype' must be one of float32, bfloat16, float16, got .'float32'."),
        (GOOD + "speed: {gpu: [h100-sxm]}", "'speed.gpu' must be one of .*, got .'h100-sxm'."),
        ("candidates: {a/b: x}\nmodel: y\nprompts: z", "'candidates' must be named like folders"),
        ("candidates: {..: x}\nmodel: y\nprompts: z", "'candidates' must be named like folders"),
        (GOOD + "name: ../x", "'name' must be a folder's name, got '../x'"),
        ("candidates: {original: x}\nmodel: y\nprompts: z", "'candidates' must be named like folders"),
        (GOOD + "x: !!python/object:os.system {}", "not valid YAML: could not determine a constructor"),
    ],
)
def test_mistakes_name_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(QuantError, match=message):
        read_config(path)


def test_a_later_request_keeps_what_it_does_not_speak_of() -> None:
    def read(**said: object) -> EvaluationConfig:
        body = {"model": "m", "candidates": {"a": "x"}, "prompts": "p", **said}
        return from_dict(body, source="x", base=Path("/nowhere"))

    speed = {"rounds": 2, "gpu": "h100-sxm"}
    metrics = {"lpips": ["alex"], "fvd": ["i3d"], "clip": "a/b"}
    first = read(references="c/d", reference_samples=9, metrics=metrics, speed=speed, fps=8)
    assert read(candidates={"b": "y"}).after(first) == replace(first, candidates={"a": "x", "b": "y"})
    other = read(references="e/f", metrics={"lpips": []}, speed={"rounds": 3}).after(first)
    assert (other.references, other.reference_samples, other.fps) == ("e/f", None, 8)
    assert other.metrics == {**first.metrics, "lpips": ()}
    assert other.speed == SpeedSettings(3, None, "h100-sxm")
    silent = read(speed=False)
    assert silent.after(first).speed is None and read().after(silent).speed is None

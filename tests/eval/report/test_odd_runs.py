"""Runs that are not like others: every piece of the report says what there is, and breaks on nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from quant.eval.drawing.markup import Piece
from quant.eval.drawing.pareto import pareto
from quant.eval.drawing.sensitivity import heat_maps
from quant.eval.drawing.step_error import step_errors
from quant.eval.report.headline import headline
from quant.eval.report.players import players
from quant.eval.report.provenance import measured_and_estimated, networks, provenance, truncated_prompts
from quant.eval.report.score_table import score_table, worst_prompts
from quant.eval.report.speed_table import speed_table
from quant.eval.results.points import points
from quant.eval.results.recorded import Recorded
from quant.eval.results.summary import summary
from tests.eval.report.pages import browsed, page, words
from tests.eval.report.small_run import PROMPTS, recorded

PIECES: Mapping[str, Callable[[Recorded], Piece]] = {
    "headline": headline,
    "psnr": pareto,
    "ssim": lambda found: pareto(found, "ssim"),
    "whole": lambda found: pareto(found, "psnr", "end_to_end"),
    "scores": score_table,
    "players": players,
    "worst": worst_prompts,
    "steps": step_errors,
    "heat": heat_maps,
    "speed": speed_table,
    "measured": measured_and_estimated,
    "networks": networks,
    "truncated": truncated_prompts,
    "provenance": provenance,
}


def shown(found: Recorded) -> dict[str, str]:
    """The words of every piece."""
    summary(found.body)
    return {name: words(piece(found).html) for name, piece in PIECES.items()}


def changed(change: Callable[[list[dict[str, Any]]], object], **more: Any) -> Recorded:
    """The small run after `change` of its models."""
    body = json.loads(json.dumps({**recorded().body, **more}))
    change(body["models"])
    return Recorded(Path("run"), body)


def test_a_run_without_a_candidate_shows_the_original_alone() -> None:
    found = shown(changed(lambda models: models.__delitem__(slice(1, None))))
    assert found["headline"] == "shapes <tiny> alone: the run has no candidate yet."
    assert found["psnr"] == "Nothing to plot: no PSNR was taken."
    assert found["players"] == "No sample was scored against the original, so none is shown."
    assert found["steps"] == "No curve: no latents were recorded."
    assert "Metric original bf16 Stored 12.3 MB 100% of bf16 Of each model’s own videos" in found["scores"]


def test_one_candidate_is_compared_with_the_original() -> None:
    found = shown(changed(lambda models: models.pop()))
    assert "Differences are" not in found["players"]  # no frames are there to take any of
    assert found["headline"].startswith("shapes <tiny> and w8a8 made 4 videos each")
    assert "Dashes join" not in found["psnr"]


@pytest.mark.parametrize("timed", [True, False])
def test_sizes_that_no_folder_said(timed: bool) -> None:
    def unknown(models: list[dict[str, Any]]) -> None:
        for model in models:
            model |= {"stored_bytes": None, "bf16_bytes": None}

    found = shown(changed(unknown, **({} if timed else {"speed": None})))
    assert "Stored – – –" in found["scores"]
    assert "Stored" not in found["headline"]
    if timed:
        assert "estimated for H100 SXM, not measured" in found["psnr"]
        assert [point.memory for point in points(changed(unknown), "psnr", "step")] == [None, None]
    else:
        assert found["psnr"] == "Nothing to plot: neither a time nor a size of a candidate is known."


def test_a_candidate_whose_size_alone_is_not_known_is_named_where_sizes_are_plotted() -> None:
    found = shown(changed(lambda models: models[2].update(stored_bytes=None), speed=None))
    assert "Not shown, for want of a figure: w4a8 edges." in found["psnr"]
    assert "w8a8" not in found["psnr"].partition("Not shown")[2]


def test_a_metric_that_one_model_has_not() -> None:
    def without(models: list[dict[str, Any]]) -> None:
        for scores in models[1]["scores"].values():
            del scores["psnr"]
        del models[1]["summary"]["psnr"]
        models[1]["verdicts"] = [entry for entry in models[1]["verdicts"] if entry["metric"] != "psnr"]

    found = shown(changed(without))
    assert "Not shown, for want of a figure: w8a8." in found["psnr"]
    assert "Not shown" not in found["ssim"]
    assert "PSNR higher is better – – " in found["scores"]
    assert "PSNR" not in found["headline"].partition("w4a8 edges W4A8")[0].partition("w8a8 W8A8")[2]


def test_videos_that_are_all_identical() -> None:
    def same(models: list[dict[str, Any]]) -> None:
        for model in models[1:]:
            for scores in model["scores"].values():
                scores["psnr"] = None
            model["summary"]["psnr"] = {"value": None, "low": None, "high": None, "n": 0, "identical": 4}
            model["step_error"]["error"] = [0.0] * 4

    found = shown(changed(same))
    assert found["headline"].count("PSNR identical") == 2
    assert "w8a8, estimated, identical" in found["psnr"]
    assert found["steps"] == "No curve: every latent is identical to the original’s."
    assert found["worst"].count("every candidate") == 4


def test_only_the_original_was_timed() -> None:
    speed: Any = json.loads(json.dumps(recorded().speed))
    speed |= {"models": {"original": speed["models"]["original"]}, "estimated": None}
    found = shown(recorded(speed=speed))
    assert "w8a8 was not timed. w4a8 edges was not timed." in found["speed"]
    assert "nothing was timed" not in found["measured"]
    assert "stored bytes, as a share of the original’s" in found["psnr"]


def test_html_in_names_is_shown_and_never_run() -> None:
    evil = "<img src=x onerror=alert(1)>\"'&"

    def named(models: list[dict[str, Any]]) -> None:
        for number, model in enumerate(models[1:]):
            model |= {"name": f"{number}{evil}", "scheme": evil, "recipe": evil, "source": evil}
            model["sets"] = {f"fvd:{evil}": model["sets"]["fvd:i3d"]}
            model["summary"][evil] = {"value": 1.0, "low": 1.0, "high": 1.0, "n": 4}
            for scores in model["scores"].values():
                scores[evil] = 0.5

    original = recorded()
    samples = [{**sample, "prompt": evil} for sample in original.samples]
    speed: Any = json.loads(json.dumps(original.speed))
    timed = speed["models"].pop("w8a8")
    speed["models"] |= {f"0{evil}": timed | {"notes": [evil], "kernels": [{"name": evil, "share": 1.0}]}}
    speed |= {"label": evil, "attention": evil, "what": {"kernels": evil}, "settings": {evil: evil}}
    speed["device"]["name"] = evil
    speed["estimated"] |= {"gpu": evil, "what": evil}
    missing = [{"metric": evil, "why": evil}]
    found = changed(named, samples=samples, speed=speed, missing=missing)
    for name, piece in PIECES.items():
        html = re.sub("<script>.*?</script>", "", piece(found).html, flags=re.S)
        assert "<img" not in html, name
        assert not re.search(r"""=(["'])[^"'<>]*<img""", html), name
        if name not in ("networks", "heat"):
            assert "&lt;img src=x onerror=alert(1)&gt;" in html, name


def test_long_names_and_prompts_stay_within_the_page(tmp_path: Path) -> None:
    long = "wan2_1_t2v_1_3b_smoothquant_alpha05_w8a8_without_any_place_to_break"

    def named(models: list[dict[str, Any]]) -> None:
        models[1] |= {"name": long, "source": long}
        models[2] |= {"scheme": "2:4 FP8_DYNAMIC, FP8_DYNAMIC, W4A16, W8A8, NVFP4"}

    original = recorded()
    speed: Any = json.loads(json.dumps(original.speed))
    speed["models"][long] = speed["models"].pop("w8a8")
    speed["estimated"]["models"][long] = speed["estimated"]["models"].pop("w8a8")
    prompts = ("x" * 300, "a prompt that goes on, " * 40, *PROMPTS[2:])
    samples = [{**sample, "prompt": prompt} for sample, prompt in zip(original.samples, prompts, strict=True)]
    found = changed(named, samples=samples, speed=speed)
    probe = """
    const wide = (element) => element.scrollWidth - element.clientWidth;
    const parts = [...document.querySelectorAll(".card, .lead, .note, .prompt, summary")];
    const cards = [...document.querySelectorAll(".chart:not(.heat)")];
    const beyond = (card) => [...card.querySelectorAll("text")].map((text) => {
      const [one, whole] = [text, card].map((element) => element.getBoundingClientRect());
      return Math.max(whole.left - one.left, one.right - whole.right);
    });
    document.documentElement.dataset.seen = JSON.stringify({
      page: document.documentElement.scrollWidth - innerWidth,
      parts: parts.map((part) => [part.className, wide(part)]).filter(([, more]) => more > 0),
      texts: Math.max(...cards.flatMap(beyond)),
    });
    """
    seen = browsed(page(*(piece(found) for piece in PIECES.values())), probe, tmp_path)
    assert seen["page"] <= 0
    assert seen["parts"] == []
    assert seen["texts"] <= 0


def test_a_candidate_that_failed_is_shown_as_failed_and_plots_leave_it_out() -> None:
    why = "the video for <b>'snow'</b> holds values that are not finite"

    def failing(models: list[dict[str, Any]]) -> None:
        models[2] |= {"failed": why, "scores": {}, "per_frame_psnr": {}, "summary": {}, "sets": {}, "verdicts": []}
        models[2] |= {"step_error": None, "sensitivity": None}

    found = shown(changed(failing))
    assert f"w4a8 edges W4A8 ✗ failed {why}" in found["headline"]
    assert "shapes <tiny> and w8a8 made 4 videos each" in found["headline"]
    assert f"Everything of w4a8 edges: {why}" in found["measured"]
    assert "a figure: w4a8 edges." in found["psnr"]
    table = summary(changed(failing).body)
    assert table.rows[2][:4] == ("w4a8 edges", "W4A8", "failed", "failed")

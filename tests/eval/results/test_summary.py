from __future__ import annotations

from typing import Any

import pytest

from quant.eval.results.summary import notes, summary


def _model(name: str, summary: dict[str, Any], verdicts: dict[float, list[str]], **more: Any) -> dict[str, Any]:
    found = [
        {"level": level, "verdict": each, "metric": str(number)}
        for level, every in verdicts.items()
        for number, each in enumerate(every)
    ]
    body = {"name": name, "scheme": "W8A8", "stored_bytes": 1_100_000, "bf16_bytes": 2_000_000}
    return {**body, "summary": summary, "verdicts": found, **more}


def _estimate(value: float | None, low: float | None = None, high: float | None = None, **more: int) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": 9, **more}


def _results() -> dict[str, Any]:
    original = _model("original", {"clip_frame": _estimate(0.99, 0.98, 1.0)}, {}, scheme="bf16")
    near = {"psnr": _estimate(41.26, 38.0, 44.0, identical=0), "clip_frame": _estimate(0.9812)}
    same = {"psnr": _estimate(None, identical=9), "clip_frame": _estimate(0.99)}
    some = {"psnr": _estimate(50.0, 49.0, 51.0, identical=2), "clip_frame": _estimate(0.99)}
    times = {"near": {"stages": {"step": {"median": 0.1234}}}}
    speed = {"label": "measured on X", "device": {"type": "cuda"}, "models": times, "estimated": None}
    models = [
        original,
        _model("near", near, {0.01: ["pass", "not enough samples"], 0.001: ["fail", "pass"]}),
        _model("same", same, {0.01: ["pass", "pass"], 0.001: ["pass", "pass"]}, stored_bytes=None),
        _model("some", some, {}),
    ]
    return {"models": models, "samples": [0] * 9, "speed": speed}


def test_a_line_a_model_with_the_columns_that_have_figures() -> None:
    shown = summary(_results())
    words = ("model", "scheme", "within 1%", "within 0.1%")
    assert shown.headings == (*words, "stored", "of bf16", "PSNR dB", "CLIP frame", "s/step")
    psnr = "41.3 [38.0, 44.0]"
    assert shown.rows == (
        ("original", "bf16", "-", "-", "1.10 MB", "55%", "-", "0.990", "-"),
        ("near", "W8A8", "few samples (1 of 2)", "fail (1 of 2)", "1.10 MB", "55%", psnr, "0.981", "0.123"),
        ("same", "W8A8", "pass", "pass", "-", "-", "identical", "0.990", "-"),
        ("some", "W8A8", "-", "-", "1.10 MB", "55%", "50.0 [49.0, 51.0], 2 identical", "0.990", "-"),
    )


def test_without_times_there_is_no_column_of_them() -> None:
    results = {**_results(), "speed": None}
    assert summary(results).headings[-1] == "CLIP frame"
    assert len(notes(results)) == 2
    assert notes(results)[0].startswith("9 samples, ")
    assert notes({**results, "samples": [0]})[0].startswith("1 sample, ")
    assert notes(_results())[-1] == "s/step: one denoising step of one video, measured on X."


def test_a_cpus_times_are_no_column_and_an_estimate_for_a_gpu_is_one() -> None:
    results = _results()
    results["speed"] |= {"label": "reference arithmetic", "device": {"type": "cpu"}}
    assert summary(results).headings[-1] == "CLIP frame" and len(notes(results)) == 2
    times = {"original": {"step_s": 0.3}, "near": {"step_s": 0.2}}
    results["speed"]["estimated"] = {"gpu": "h100-sxm", "what": "roofline", "models": times}
    shown = summary(results)
    assert shown.headings[-1] == "est. speedup"
    assert [row[-1] for row in shown.rows] == ["1.00x", "1.50x", "-", "-"]
    assert "a roofline estimate for h100-sxm, not measured" in notes(results)[-1]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (["fail", "pass", "not enough samples", "fail"], "fail (2 of 4)"),
        (["not enough samples", "pass"], "few samples (1 of 2)"),
        (["pass"], "pass"),
        ([], "-"),
    ],
)
def test_one_failure_decides_then_what_is_undecided(found: list[str], words: str) -> None:
    results = {**_results(), "models": [_model("x", {}, {0.01: found, 0.001: ["fail"]})]}
    row = dict(zip(summary(results).headings, summary(results).rows[0], strict=True))
    assert (row["within 1%"], row["within 0.1%"]) == (words, "fail (1 of 1)")

from __future__ import annotations

import copy
from typing import Any

import pytest

from quant.errors import QuantError
from quant.eval.results.summary import comparison, notes, summary


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


def _compared(**ssim: list[float]) -> dict[str, Any]:
    """Candidates by name with an SSIM for each sample."""
    count = len(next(iter(ssim.values())))
    ids = [f"{number:012x}" for number in range(count)]
    models = [{"name": "original", "scheme": "bf16", "scores": {}}]
    for name, values in ssim.items():
        scores = {key: {"ssim": value, "psnr": None} for key, value in zip(ids, values, strict=True)}
        models.append({"name": name, "scheme": "W8A8", "scores": scores})
    return {
        "conditions": {"fingerprint": "ab", "settings": {"height": 8}, "dtype": "float32"},
        "samples": [{"id": key, "latents_sha256": f"noise of {key}"} for key in ids],
        "models": models,
    }


def test_differences_are_of_common_samples() -> None:
    first, second = _compared(w8a8=[0.5, 0.7, 0.9]), _compared(w8a8=[0.6, 0.8, 0.9])
    second["samples"][2]["latents_sha256"] = "other noise"
    rows, note = comparison(first, second, "one", "two")
    assert rows[1] == ("w8a8", "W8A8", "ssim", "2", "0.6", "0.7", "+0.1", "[+0.1, +0.1]")
    assert len(rows) == 2  # every PSNR is of identical videos
    assert "2 samples are in both" in note


def test_single_candidates_are_compared_whatever_their_names_and_others_by_name() -> None:
    one, other = _compared(a=[0.5, 0.5]), _compared(b=[0.75, 0.75])
    assert comparison(one, other, "one", "two")[0][1][0] == "a / b"
    rows, _ = comparison(_compared(a=[0.5, 0.5], b=[0.5, 0.5]), _compared(b=[0.75, 0.75], c=[0.0, 0.0]), "one", "two")
    assert [row[0] for row in rows[1:]] == ["b"]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("conditions", "settings"), {"height": 16}, "originals differ in settings"),
        (("conditions", "fingerprint"), "cd", "originals differ in fingerprint"),
        (("conditions", "dtype"), "bfloat16", "originals differ in dtype"),
        (("samples",), [{"id": "f" * 12, "latents_sha256": ""}], "no sample of the same prompt, seed and noise"),
        (("models",), [{"name": "original"}], "no candidate of the same name"),
    ],
)
def test_runs_that_cannot_be_compared(place: tuple[str, ...], value: Any, message: str) -> None:
    first = _compared(w8a8=[0.5, 0.7])
    second = copy.deepcopy(first)
    within = second
    for key in place[:-1]:
        within = within[key]
    within[place[-1]] = value
    with pytest.raises(QuantError, match=f"one and two: .*{message}"):
        comparison(first, second, "one", "two")

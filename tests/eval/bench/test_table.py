"""What is printed says first whether it was measured, and its figures are those of the prediction or measurement."""

from __future__ import annotations

import pytest

from quant.eval.bench.gpus import gpus
from quant.eval.bench.measure import Measured
from quant.eval.bench.prediction import BF16, FUSED, UNFUSED, Prediction, predict
from quant.eval.bench.roofline import by_kind
from quant.eval.bench.sizes import models
from quant.eval.bench.table import measured_text, prediction_text
from quant.eval.bench.timing import Timed
from quant.recipe_files import find_recipe

WAN = models()["wan-14b"]


@pytest.fixture
def predicted() -> Prediction:
    return predict(WAN, find_recipe("w8a8"), gpus()["h100-sxm"])


@pytest.fixture
def measured() -> Measured:
    times = Timed({BF16: [0.080, 0.081, 0.099], UNFUSED: [0.070, 0.071, 0.072]}, {FUSED: "RuntimeError: no memory"})
    kinds = {"matmul": 0.030, "attention": 0.050, "elementwise": 0.0}
    by_kind = {BF16: kinds, UNFUSED: {**kinds, "matmul": 0.015}}
    return Measured(
        WAN, "mine", 1, "NVIDIA H100 80GB HBM3", "CUDNN_ATTENTION", times, by_kind, {UNFUSED: 0.02}, ("a note",)
    )


def cells(text: str, start: str) -> list[list[str]]:
    """The cells of lines that begin with `start`, which columns at least two spaces apart make."""
    return [
        line.replace(start, start.replace(" ", "_"), 1).split() for line in text.splitlines() if line.startswith(start)
    ]


def test_a_prediction_is_called_one(predicted: Prediction) -> None:
    lines = prediction_text(predicted).splitlines()
    assert lines[0] == "Prediction (roofline model, nothing was measured)"
    assert "Measured" not in lines[0]
    assert lines[2] == (
        "Wan2.1 14B, block 20 of 40; 32,760 tokens of video and 512 of text, batch 1 (832x480, 81 frames); "
        "general/w8a8 on H100 SXM 80 GB"
    )


def test_every_operation_has_a_line(predicted: Prediction) -> None:
    text = prediction_text(predicted)
    for variant, operations in predicted.variants.items():
        part = text.split(f"\n{variant} ")[1].split("\n\n")[0].splitlines()
        assert part[0].split()[-5:] == ["numbers", "bound", "by", "ms", "share"]
        assert len(part) == len(operations) + 3  # heading, rule, sum
        for line, each in zip(part[2:], operations, strict=False):
            assert line.startswith(each.operation.name + " ")
            *_, bound, milliseconds, share = line.split()
            assert bound == each.bound
            assert float(milliseconds) == pytest.approx(each.seconds * 1e3, abs=6e-4)
            assert share == f"{each.seconds / predicted.seconds(variant):.1%}"


def test_the_sums_and_the_speedup(predicted: Prediction) -> None:
    summary = prediction_text(predicted).split("predicted ms")[1].split("\n\n")[0].splitlines()
    assert summary[0].split() == ["matmul", "attention", "elementwise", "all", "speedup"]
    for line, variant in zip(summary[2:], (BF16, UNFUSED, FUSED), strict=True):
        assert line.startswith(variant + " ")
        *kinds, whole, speedup = line.split()[len(variant.split()) :]
        found = by_kind(predicted.variants[variant])
        assert kinds == [f"{seconds * 1e3:.3f}" for seconds in found.values()]
        assert whole == f"{predicted.seconds(variant) * 1e3:.3f}"
        assert speedup == f"{predicted.speedup(variant):.2f}x"


def test_rates_have_their_sources_and_only_those_that_were_used(predicted: Prediction) -> None:
    lines = prediction_text(predicted).splitlines()
    gpu = predicted.gpu
    assert f"peaks: {gpu.datasheet}" in lines
    assert f"matmul bf16: 795 TFLOP/s of 989 TFLOP/s: {gpu.rates['matmul bf16'].source}" in lines
    assert f"matmul int8: 1,550 TOPS of 1,979 TOPS: {gpu.rates['matmul int8'].source}" in lines
    assert f"memory: 3,350 GB/s of 3,350 GB/s: {gpu.rates['memory'].source}" in lines
    assert not any(line.startswith("matmul fp8") for line in lines)
    assert WAN.note in lines


def test_a_measurement_beside_its_prediction(measured: Measured, predicted: Prediction) -> None:
    text = measured_text(measured, predicted)
    assert text.splitlines()[0] == "Measured on NVIDIA H100 80GB HBM3"
    assert "attention by CUDNN_ATTENTION in all" in text
    (bf16, *kinds) = cells(text, BF16 + " ")
    assert bf16[1:5] == ["81.000", "80.000-99.000", "1.00x", "-"]
    assert bf16[5:] == [f"{predicted.seconds(BF16) * 1e3:.3f}", "1.00x"]
    expected = by_kind(predicted.variants[BF16])
    for line, (kind, seconds) in zip(kinds, expected.items(), strict=True):
        share = {"matmul": f"{seconds / 0.030:.0%}", "attention": f"{seconds / 0.050:.0%}", "elementwise": "-"}[kind]
        assert line[1:] == [kind, f"{measured.by_kind[BF16][kind] * 1e3:.3f}", f"{seconds * 1e3:.3f}", share]
    quantized = cells(text, UNFUSED + " ")[0]
    assert quantized[1:5] == ["71.000", "70.000-72.000", "1.14x", "2.0%"]
    assert f"{FUSED}: not measured: RuntimeError: no memory" in text
    assert "a note" in text
    assert text.endswith("predicted: roofline model for H100 SXM 80 GB")


def test_a_gpu_of_which_nothing_is_known(measured: Measured) -> None:
    text = measured_text(measured, "who knows")
    assert text.endswith("no prediction: who knows")
    assert cells(text, BF16 + " ")[0][5:] == ["-", "-"]
    assert cells(text, BF16 + " ")[1][1:] == ["matmul", "30.000", "-", "-"]

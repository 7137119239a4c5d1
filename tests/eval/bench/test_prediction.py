"""A prediction compares bf16 with the recipe, says that nothing was measured, and is plain data for JSON."""

from __future__ import annotations

import json

import pytest

from quant.errors import QuantError
from quant.eval.bench.gpus import gpus
from quant.eval.bench.operations import codes_of
from quant.eval.bench.prediction import BF16, FUSED, UNFUSED, predict
from quant.eval.bench.roofline import by_kind, total
from quant.eval.bench.sizes import Model, models
from quant.recipe_files import find_recipe, shipped_recipes

WAN = models()["wan-14b"]


@pytest.mark.parametrize(("recipe", "gpu"), [("w8a8", "h100-sxm"), ("fp8-dynamic", "h200"), ("fp8-static", "rtx4090")])
@pytest.mark.parametrize("model", models().values(), ids=lambda model: model.name)
def test_quantizing_helps_and_fusing_helps_more(model: Model, recipe: str, gpu: str) -> None:
    found = predict(model, find_recipe(recipe), gpus()[gpu])
    assert found.speedup(BF16) == 1
    assert 1 < found.speedup(UNFUSED) < found.speedup(FUSED)
    assert found.speedup(FUSED) == total(found.variants[BF16]) / total(found.variants[FUSED])


@pytest.mark.parametrize("gpu", ["a100", "h200"])
@pytest.mark.parametrize("recipe", [name for name in shipped_recipes() if name.startswith(("general/", "wan/"))])
def test_every_recipe_has_a_prediction_or_the_reason_why_not(recipe: str, gpu: str) -> None:
    """An A100 multiplies no FP8."""
    given = find_recipe(recipe, "wan")
    if gpu == "a100" and any(codes_of(group.layer_format) == "fp8" for group in given.groups):
        with pytest.raises(QuantError, match="a100 has no FP8 tensor cores, so no roofline"):
            predict(WAN, given, gpus()[gpu])
        return
    found = predict(WAN, given, gpus()[gpu])
    assert found.speedup(FUSED) > found.speedup(UNFUSED)
    only_weights = all(codes_of(group.layer_format) is None and not group.layer_format.sparse for group in given.groups)
    # Those save memory; with so many rows the time is that of arithmetic, but for a few matmuls on the text.
    assert (found.speedup(UNFUSED) > 1.005) != only_weights


def test_weights_alone_change_the_time_of_matmuls_only() -> None:
    found = predict(WAN, find_recipe("w4a16"), gpus()["a100"])
    kinds = {name: by_kind(found.variants[name]) for name in (BF16, UNFUSED)}
    assert kinds[UNFUSED]["elementwise"] == kinds[BF16]["elementwise"]
    assert kinds[UNFUSED]["matmul"] == pytest.approx(kinds[BF16]["matmul"] / 0.91)


def test_sparse_matmuls_run_at_their_own_rate() -> None:
    gpu = gpus()["a100"]
    dense, sparse = (predict(WAN, find_recipe(name), gpu) for name in ("w8a8", "sparse24-w8a8"))
    for each, other in zip(dense.variants[FUSED], sparse.variants[FUSED], strict=True):
        ratio = each.seconds / other.seconds
        expected = 817 / 501 if each.operation.name.startswith("ffn.net") and each.operation.operations else 1
        assert ratio == pytest.approx(expected), each.operation.name


def test_attention_is_the_same_in_all() -> None:
    found = predict(WAN, find_recipe("w8a8"), gpus()["a100"])
    attention = [
        [each for each in found.variants[name] if each.operation.kind == "attention"] for name in found.variants
    ]
    assert attention[0] == attention[1] == attention[2]
    assert len(attention[0]) == 2


def test_fp8_on_an_a100_is_refused() -> None:
    with pytest.raises(QuantError, match="a100 has no FP8 tensor cores"):
        predict(WAN, find_recipe("fp8-dynamic"), gpus()["a100"])


def test_as_json() -> None:
    found = predict(WAN, find_recipe("w8a8"), gpus()["h200"], batch=2)
    body = json.loads(json.dumps(found.to_dict()))
    assert body["what"] == "prediction"
    assert "nothing was measured" in body["how"]
    assert (body["batch"], body["block"], body["model"]["name"]) == (2, 20, "wan-14b")
    assert list(body["predicted"]) == [BF16, UNFUSED, FUSED]
    for name, variant in body["predicted"].items():
        operations = variant["operations"]
        assert variant["seconds"] == pytest.approx(sum(each["seconds"] for each in operations))
        assert variant["seconds"] == pytest.approx(sum(variant["seconds_by_kind"].values()))
        assert variant["speedup"] == found.speedup(name)
    assert all(rate["source"] for rate in body["gpu"]["rates"].values())

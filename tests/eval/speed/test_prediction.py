"""A prediction compares bf16 with the recipe, says that nothing was measured, and is plain data for JSON."""

from __future__ import annotations

import json

import pytest

from quant.errors import QuantError
from quant.eval.speed.gpus import gpus
from quant.eval.speed.prediction import BF16, FUSED, UNFUSED, predict
from quant.eval.speed.roofline import total
from quant.eval.speed.sizes import models
from quant.recipe_files import find_recipe

WAN = models()["wan-14b"]


@pytest.mark.parametrize("gpu", ["h100-sxm", "h200", "rtx4090"])
@pytest.mark.parametrize("recipe", ["w8a8", "fp8-dynamic", "fp8-static"])
@pytest.mark.parametrize("model", models().values(), ids=lambda model: model.name)
def test_quantizing_helps_and_fusing_helps_more(model: object, recipe: str, gpu: str) -> None:
    found = predict(model, find_recipe(recipe), gpus()[gpu])  # type: ignore[arg-type]
    assert found.speedup(BF16) == 1
    assert 1 < found.speedup(UNFUSED) < found.speedup(FUSED)
    assert found.speedup(FUSED) == total(found.variants[BF16]) / total(found.variants[FUSED])


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

"""Steps of whole models, from the blocks' predictions that have tests of their own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quant.errors import QuantError
from quant.eval.bench.gpus import gpus
from quant.eval.bench.prediction import BF16, FUSED, predict
from quant.eval.bench.sizes import models
from quant.eval.speed.estimating import estimate, estimates
from quant.recipe_files import find_recipe
from tests.tiny_pipeline import transformer

#: Wan2.1 14B's configuration, and its latents of 832x480 and 81 frames.
WAN: dict[str, Any] = {
    "_class_name": "WanTransformer3DModel",
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "ffn_dim": 13824,
    "num_layers": 40,
    "patch_size": [1, 2, 2],
    "cross_attn_norm": True,
    "added_kv_proj_dim": None,
}
LATENTS = (16, 21, 60, 104)


@pytest.mark.parametrize("guidance", [False, True])
def test_a_step_is_all_blocks_once_or_twice(guidance: bool) -> None:
    found = predict(models()["wan-14b"], find_recipe("w8a8"), gpus()["h100-sxm"])
    times = 80 if guidance else 40
    for recipe, variant in ((None, BF16), ("w8a8", FUSED)):
        seconds = estimate(WAN, recipe, "h100-sxm", latents=LATENTS, guidance=guidance)
        assert seconds == pytest.approx(times * found.seconds(variant))


def test_blocks_kept_at_the_ends_run_in_bf16() -> None:
    recipe = find_recipe("w8a8")
    found = predict(models()["wan-14b"], recipe, gpus()["h200"])
    kept = replace(recipe, keep_edge_blocks=0.05)  # 2 of 40 at each end
    seconds = estimate(WAN, kept, "h200", latents=LATENTS, guidance=False)
    assert seconds == pytest.approx(36 * found.seconds(FUSED) + 4 * found.seconds(BF16))


def test_what_is_not_known_has_no_estimate() -> None:
    def seconds(config: dict[str, Any], recipe: str | None = None, gpu: str = "a100") -> float | None:
        return estimate(config, recipe, gpu, latents=LATENTS)

    assert seconds(WAN) is not None
    assert seconds({**WAN, "_class_name": "LTXVideoTransformer3DModel"}) is None
    assert seconds({**WAN, "added_kv_proj_dim": 5120}) is None
    assert seconds(WAN, "fp8-dynamic") is None  # an A100 multiplies no FP8
    with pytest.raises(QuantError, match="gpu 'abacus': not known; known are h100-sxm"):
        seconds(WAN, gpu="abacus")
    with pytest.raises(QuantError, match="has no 'ffn_dim'"):
        seconds({key: value for key, value in WAN.items() if key != "ffn_dim"})


def test_the_part_of_the_results() -> None:
    recipes = {"original": None, "w8a8": "w8a8", "fp8": "fp8-dynamic"}
    found = json.loads(json.dumps(estimates(WAN, recipes, "a100", latents=LATENTS)))
    assert found["gpu"] == "a100"
    assert list(found["models"]) == ["original", "w8a8"]
    assert 0 < found["models"]["w8a8"]["step_s"] < found["models"]["original"]["step_s"]
    assert found["what"].startswith("roofline estimate, nothing was measured")
    assert found["what"].endswith("two passes a step for guidance")
    assert estimates({"_class_name": "Other"}, recipes, "a100", latents=LATENTS) is None


def test_a_folders_configuration_is_read(tmp_path: Path) -> None:
    with pytest.raises(QuantError, match=r"transformer/config.json: not there; give a pipeline's folder"):
        estimate(tmp_path, None, "h200", latents=LATENTS)
    model = transformer()
    model.save_pretrained(tmp_path / "transformer")
    found = estimate(tmp_path, None, "h200", latents=(4, 2, 4, 4), text_tokens=8)
    assert found is not None
    assert found == estimate(
        dict(model.config) | {"_class_name": "WanTransformer3DModel"}, None, "h200", latents=(4, 2, 4, 4), text_tokens=8
    )

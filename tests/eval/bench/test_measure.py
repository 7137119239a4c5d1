"""The measurement, run on a CPU with a clock and a profiler that tests set: what is run, compared, and left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend

from quant.errors import QuantError
from quant.eval.bench.measure import Tools, fastest_attention, measure
from quant.eval.bench.prediction import BF16, FUSED, UNFUSED
from quant.eval.bench.schemes import decide
from quant.eval.bench.timing import Run
from quant.layers.fused.wan_block import FusedWanTransformerBlock
from quant.layers.linear import QuantLinear
from quant.recipe import Recipe
from quant.recipe_files import find_recipe
from tests.eval.bench.small import small

CPU = torch.device("cpu")
#: Of a recipe that leaves attention as it is.
PLAIN = ("to_q", "to_k", "to_out.0")
#: The backends that a CPU has.
BACKENDS = {"FLASH_ATTENTION": SDPBackend.FLASH_ATTENTION, "MATH": SDPBackend.MATH}


class Recorder:
    """A clock that counts its own readings, and notes of the blocks that were compiled."""

    def __init__(self) -> None:
        self.blocks: list[nn.Module] = []
        self.readings = 0
        self.traced = 0

    def timer(self, run: Run) -> float:
        run()
        self.readings += 1
        return 1e-3

    def compiled(self, block: nn.Module) -> nn.Module:
        self.blocks.append(block)
        return block

    def trace(self, run: Run) -> Mapping[str, Any]:
        run()
        self.traced += 1
        return {"traceEvents": [{"cat": "kernel", "name": "nvjet", "dur": 100.0 * self.traced}]}

    def tools(self, **changed: Any) -> Tools:
        given = Tools(self.timer, self.compiled, self.trace, BACKENDS, rounds=4)
        return given._replace(**changed)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def kinds(block: nn.Module) -> set[str]:
    return {type(module).__name__ for module in block.modules()}


@pytest.mark.parametrize("recipe", ["w8a8", "fp8-dynamic", "fp8-static"])
def test_wan_in_bf16_quantized_and_fused(recipe: str, recorder: Recorder) -> None:
    found = measure(small("wan-14b"), find_recipe(recipe), CPU, "a CPU", batch=2, tools=recorder.tools())
    assert found.times.failed == {}
    assert {name: len(values) for name, values in found.times.seconds.items()} == {BF16: 4, UNFUSED: 4, FUSED: 4}
    plain, quantized, fused = recorder.blocks
    assert not any(isinstance(module, QuantLinear) for module in plain.modules())
    assert sum(isinstance(module, QuantLinear) for module in quantized.modules()) == 10
    assert "FusedWanTransformerBlock" in kinds(fused)
    assert set(found.by_kind) == {BF16, UNFUSED, FUSED}
    assert found.by_kind[FUSED]["matmul"] == pytest.approx(300e-6)
    # They compute the same thing: quantization's error, and not that of another model.
    assert set(found.errors) == {UNFUSED, FUSED}
    assert all(0 < error < 0.1 for error in found.errors.values())
    assert found.backend in BACKENDS


@pytest.mark.parametrize(
    "recipe",
    ["w4a16", "w4a16-gptq", "w4a8", "w4afp8", "w8a16", "sparse24", "sparse24-all", "sparse24-fp8", "sparse24-w8a8",
     "mixed", "fp8-block", "fp8-gptq", "w4a8-edges", "w4afp8-edges", "sparse24-fp8-edges"],
)  # fmt: skip
def test_every_other_recipe_is_measured_fused_too(recipe: str, recorder: Recorder) -> None:
    given = find_recipe(recipe, "wan")
    found = measure(small("wan-14b", d=128), given, CPU, "a CPU", tools=recorder.tools(rounds=1))
    assert found.times.failed == {}
    _, quantized, fused = recorder.blocks
    labels = {
        name: each.layer_format.label for name, each in quantized.named_modules() if isinstance(each, QuantLinear)
    }
    layer_formats = decide(small("wan-14b", d=128), given).layer_formats
    assert labels == {
        name: layer_format.label for name, layer_format in layer_formats.items() if layer_format is not None
    }
    whole = {"fused"} if recipe != "sparse24" else {"fused", *(f"{leaf} is not quantized" for leaf in PLAIN)}
    assert isinstance(fused, FusedWanTransformerBlock)
    assert set(fused.parts.values()) == whole
    # The same weights both times; 4 bits, or half of the weights, cost more than 8 bits do.
    assert all(0 < error < 0.6 for error in found.errors.values())
    assert found.errors[FUSED] == pytest.approx(found.errors[UNFUSED], rel=0.1)


@pytest.mark.parametrize("name", ["hunyuan", "ltx-13b"])
def test_a_block_without_a_fused_version_is_measured_without(name: str, recorder: Recorder) -> None:
    found = measure(small(name), find_recipe("fp8-dynamic"), CPU, "a CPU", tools=recorder.tools())
    assert set(found.times.seconds) == {BF16, UNFUSED}
    assert set(found.times.failed) == {FUSED}
    assert "has no fused blocks" in found.times.failed[FUSED]
    assert 0 < found.errors[UNFUSED] < 0.1


def test_what_the_recipe_keeps_is_kept(recorder: Recorder) -> None:
    given = Recipe.from_dict(
        {
            "version": 1,
            "groups": [
                {"targets": ["re:blocks\\.20\\.attn1\\..*"], "scheme": "W8A8"},
                {"targets": ["Linear"], "scheme": "FP8_DYNAMIC"},
            ],
            "ignore": ["re:.*\\.attn2\\.to_q"],
            "keep_edge_blocks": 0.1,
        },
        "mine",
    )
    found = measure(small("wan-14b"), given, CPU, "a CPU", tools=recorder.tools())
    schemes = {
        name: module.scheme.name
        for name, module in recorder.blocks[1].named_modules()
        if isinstance(module, QuantLinear)
    }
    assert {name for name, scheme in schemes.items() if scheme == "W8A8"} == {
        "attn1.to_q",
        "attn1.to_k",
        "attn1.to_v",
        "attn1.to_out.0",
    }
    assert "attn2.to_q" not in schemes
    assert schemes["ffn.net.2"] == "FP8_DYNAMIC"
    assert found.notes == ("mine keeps 4 blocks at each end in bf16; this is block 20 of 40",)


def test_one_that_does_not_run_is_named_and_the_others_are_measured(recorder: Recorder) -> None:
    class Broken(nn.Module):
        def forward(self, **arguments: object) -> None:
            raise RuntimeError("out of memory")

    def compiled(block: nn.Module) -> nn.Module:
        return Broken() if "QuantLinear" in kinds(block) else block

    found = measure(small("wan-14b"), find_recipe("w8a8"), CPU, "a CPU", tools=recorder.tools(compiled=compiled))
    assert found.times.failed == {UNFUSED: "RuntimeError: out of memory"}
    assert set(found.times.seconds) == set(found.by_kind) == {BF16, FUSED}
    assert set(found.errors) == {FUSED}


def test_without_bf16_there_is_nothing_to_compare_with(recorder: Recorder) -> None:
    class Broken(nn.Module):
        def forward(self, **arguments: object) -> None:
            raise RuntimeError("out of memory")

    with pytest.raises(QuantError, match="wan-14b: the block does not run in bf16 on a CPU: RuntimeError: out of mem"):
        measure(small("wan-14b"), find_recipe("w8a8"), CPU, "a CPU", tools=recorder.tools(compiled=lambda _: Broken()))


@pytest.mark.parametrize(("slow", "fastest"), [("MATH", "FLASH_ATTENTION"), ("FLASH_ATTENTION", "MATH")])
def test_all_run_the_attention_that_is_fastest_on_the_blocks_own_size(
    slow: str, fastest: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, torch.Size]] = []
    attend = F.scaled_dot_product_attention

    def noted(*given: Any, **options: Any) -> torch.Tensor:
        # On a CPU, too, torch obeys the switches that are called CUDA's.
        flash = torch._C._get_flash_sdp_enabled()
        assert flash != torch._C._get_math_sdp_enabled()
        seen.append(("FLASH_ATTENTION" if flash else "MATH", (given[0] if given else options["query"]).shape))
        return attend(*given, **options)

    def timer(run: Run) -> float:
        run()
        return 2.0 if seen[-1][0] == slow else 1.0

    monkeypatch.setattr(F, "scaled_dot_product_attention", noted)
    model = small("wan-14b")
    assert fastest_attention(model, CPU, recorder.tools(timer=timer), 2) == fastest
    assert {backend for backend, _ in seen} == set(BACKENDS)
    assert {shape for _, shape in seen} == {(2, 2, 24, 32)}
    found = measure(model, find_recipe("fp8-dynamic"), CPU, "a CPU", tools=recorder.tools(timer=timer))
    assert found.backend == fastest
    assert {backend for backend, _ in seen[-20:]} == {fastest}


def test_no_attention_that_runs(recorder: Recorder) -> None:
    tools = recorder.tools(backends={"CUDNN_ATTENTION": SDPBackend.CUDNN_ATTENTION})
    with pytest.raises(QuantError, match=r"no attention kernel runs \[1, 2, 24, 32\]: RuntimeError"):
        fastest_attention(small("wan-14b"), CPU, tools, 1)


def test_as_json(recorder: Recorder) -> None:
    found = measure(small("ltx-13b"), find_recipe("w8a8"), CPU, "a CPU", tools=recorder.tools())
    body = json.loads(json.dumps(found.to_dict()))
    assert (body["what"], body["device"]) == ("measurement", "a CPU")
    assert body["measured"][BF16] == {
        "seconds": [1e-3] * 4,
        "median": 1e-3,
        "seconds_by_kind": {"matmul": 100e-6, "attention": 0.0, "elementwise": 0.0},
        "relative_error": None,
    }
    assert list(body["not_measured"]) == [FUSED]

"""A fused Wan block against diffusers' own with the same packed layers.

In float32 both do the same arithmetic but for the order in which norm2's weight is applied, so they agree to float32
unless that flips a code. In bf16 the unfused block rounds between its ops (`test_surroundings` bounds each); behind
them rounding flips codes of later layers, each by a step, so a whole block is compared loosely: within 2% for INT8,
whose steps are 1/127 of a row, and 4.5% for FP8, whose steps are 1/16 of each value. Where no input is quantized
nothing flips, and what remains are the roundings themselves: within 1%. Every mistake in `mistakes` is larger than
that.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from quant.formats.eight_bit import storage_dtype
from quant.layers.fused.linear import FusedLinear
from quant.layers.fused.merged import MergedLinear
from quant.layers.fused.wan_block import FusedWanTransformerBlock
from quant.layers.replace import replace
from tests.layers.fused.layer_formats import BY_ROW, LAYER_FORMATS, OF_FLOATS, packed, same
from tests.layers.fused.mistakes import IMAGE_MISTAKES, MISTAKES, SMOOTHED_MISTAKES, STATIC_MISTAKES
from tests.layers.fused.wan_blocks import exact, fused, inputs, is_wide, plain, quantized, relative_error

RECIPES = [("W8A8", False), ("W8A8", True), ("FP8_DYNAMIC", False), ("FP8", False), ("FP8", True)]
OTHERS = [(label, False) for label in LAYER_FORMATS if (label, False) not in RECIPES]
EVERY = [*RECIPES, *OTHERS, ("W4A16_ASYM", True), ("W4A8", True), ("2:4 FP8", True)]
#: Of the block, and whether it has a modulation for each token.
VARIANTS: list[tuple[dict[str, Any], bool]] = [
    ({}, False),
    ({}, True),
    ({"image": True}, True),
    ({"norm2": False}, False),
]
FLOAT32 = 1e-3
BF16 = {
    label: {None: 0.01, torch.int8: 0.02, torch.float8_e4m3fn: 0.045}[codes]
    for label, layer_format in LAYER_FORMATS.items()
    for codes in (
        None if layer_format.scheme.input_activations is None else storage_dtype(layer_format.scheme.input_activations),
    )
}


@pytest.fixture(autouse=True)
def _no_grad() -> Any:
    with torch.no_grad():
        yield


@pytest.mark.parametrize(("variant", "per_token"), VARIANTS, ids=str)
@pytest.mark.parametrize(("scheme", "smoothed"), EVERY)
def test_it_computes_what_diffusers_block_does(
    scheme: str, smoothed: bool, variant: dict[str, Any], per_token: bool
) -> None:
    image = "image" in variant
    for dtype, bound in ((torch.float32, FLOAT32), (torch.bfloat16, BF16[scheme])):
        block = quantized(scheme, smoothed=smoothed, dtype=dtype, **variant)
        given = inputs(dtype, per_token=per_token, image=image, wide=is_wide(scheme))
        found = fused(block)(*given)
        assert found.dtype == dtype
        assert relative_error(found, block(*given)) < bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mistake", [*MISTAKES, *IMAGE_MISTAKES, *SMOOTHED_MISTAKES])
@pytest.mark.parametrize("scheme", ["W8A8", BY_ROW])
def test_every_mistake_is_seen(scheme: str, mistake: str, dtype: torch.dtype) -> None:
    block, given = quantized(scheme, smoothed=True, image=True, dtype=dtype), inputs(dtype, image=True)
    wrong = fused(block)
    {**MISTAKES, **IMAGE_MISTAKES, **SMOOTHED_MISTAKES}[mistake](wrong)
    bound = FLOAT32 if dtype == torch.float32 else BF16[scheme]
    assert relative_error(wrong(*given), block(*given)) > 1.5 * bound


@pytest.mark.parametrize("mistake", STATIC_MISTAKES)
@pytest.mark.parametrize("scheme", ["FP8", "2:4 FP8"])
def test_every_mistake_of_a_static_scheme_is_seen(scheme: str, mistake: str) -> None:
    block, given = quantized(scheme, dtype=torch.bfloat16), inputs(torch.bfloat16)
    wrong = fused(block)
    STATIC_MISTAKES[mistake](wrong)
    assert relative_error(wrong(*given), block(*given)) > 1.5 * BF16[scheme]


@pytest.mark.parametrize(("scheme", "smoothed"), [*RECIPES[:4], ("2:4 W8A8", False), (BY_ROW, True), ("2:4", False)])
def test_it_is_as_close_to_the_exact_block(scheme: str, smoothed: bool) -> None:
    """Over 40 inputs: what quantization costs is the same, and fewer roundings come on top of it."""
    block = quantized(scheme, smoothed=smoothed, dtype=torch.bfloat16)
    reference, candidate = exact(block), fused(block)
    errors = {"fused": 0.0, "apart": 0.0}
    for seed in range(40):
        given = inputs(torch.bfloat16, seed=seed)
        expected = reference(*given.float())
        for name, found in (("fused", candidate(*given)), ("apart", block(*given))):
            errors[name] += relative_error(found, expected) ** 2
    # Which codes the roundings flip is chance: half a percent of the sum over 40 inputs.
    assert errors["fused"] < 1.01 * errors["apart"]


def test_what_is_fused_is_listed() -> None:
    parts = fused(quantized("W8A8", image=True)).parts
    assert parts == dict.fromkeys(
        (
            "attn1.to_qkv",
            "attn1.to_out.0",
            "attn2.to_q",
            "attn2.to_kv",
            "attn2.to_added_kv",
            "attn2.to_out.0",
            "ffn.net.0.proj",
            "ffn.net.2",
        ),
        "fused",
    )
    assert fused(quantized("FP8")).parts["ffn.net.0.proj"] == "fused, its output leaves as codes"
    assert fused(quantized("FP8", smoothed=True)).parts["ffn.net.0.proj"] == "fused"


@pytest.mark.parametrize(("label", "_"), OTHERS)
def test_every_format_is_fused_whole(label: str, _: bool) -> None:
    parts = fused(quantized(label, image=True)).parts
    codes = LAYER_FORMATS[label].scheme.has_static_input
    assert parts.pop("ffn.net.0.proj") == ("fused, its output leaves as codes" if codes else "fused")
    assert set(parts.values()) == {"fused"}


@pytest.mark.parametrize("up", ["W4AFP8", "2:4 FP8_DYNAMIC", "FP8_BLOCK"])
@pytest.mark.parametrize("down", ["FP8", "2:4 FP8"])
def test_codes_leave_for_a_static_layer_of_another_format(up: str, down: str) -> None:
    block = quantized(up, wide=True)
    block.ffn.net[2] = quantized(down, wide=True).ffn.net[2]
    candidate = fused(block)
    assert candidate.parts["ffn.net.0.proj"] == "fused, its output leaves as codes"
    assert relative_error(candidate(*inputs(wide=True)), block(*inputs(wide=True))) < FLOAT32


@pytest.mark.parametrize("up", ["W4A16", "W4A8", "2:4"])
def test_floats_leave_for_a_static_layer_of_other_codes(up: str) -> None:
    block = quantized(up, wide=True)
    block.ffn.net[2] = quantized("FP8", wide=True).ffn.net[2]
    candidate = fused(block)
    assert (candidate.parts["ffn.net.0.proj"], candidate.parts["ffn.net.2"]) == ("fused", "fused")
    assert relative_error(candidate(*inputs(wide=True)), block(*inputs(wide=True))) < FLOAT32


def test_a_low_rank_layer_runs_as_it_is() -> None:
    block = quantized("W4A16")
    for name in ("attn1.to_k", "ffn.net.2"):
        linear = plain(wide=True).get_submodule(name)
        replace(block, name, packed(linear, LAYER_FORMATS["W4A16"], rank=4))
    candidate, given = fused(block), inputs(wide=True)
    why = "is W4A16 + rank 4, and its branch stands where norm and residual would"
    assert {part: state for part, state in candidate.parts.items() if state != "fused"} == {
        "attn1.to_qkv": f"to_k {why}",
        "ffn.net.2": f"net.2 {why}",
    }
    assert relative_error(candidate(*given), block(*given)) < FLOAT32
    assert list(candidate.state_dict()) == list(block.state_dict())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("kept", "reasons"),
    [
        (("attn1.to_k",), {"attn1.to_qkv": "to_k is not quantized"}),
        (("attn2.to_q",), {"attn2.to_q": "to_q is not quantized"}),
        (("attn2.to_v", "attn2.add_k_proj"), {"attn2.to_kv": "to_v is not quantized",
                                               "attn2.to_added_kv": "add_k_proj is not quantized"}),
        (("attn1.to_out.0", "attn2.to_out.0"), {"attn1.to_out.0": "to_out.0 is not quantized",
                                                "attn2.to_out.0": "to_out.0 is not quantized"}),
        (("ffn.net.0.proj",), {"ffn.net.0.proj": "net.0.proj is not quantized"}),
        (("ffn.net.2",), {"ffn.net.2": "net.2 is not quantized"}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)  # fmt: skip
@pytest.mark.parametrize("scheme", ["W8A8", "FP8"])
def test_a_layer_that_is_kept_runs_as_it_is(
    scheme: str, kept: tuple[str, ...], reasons: dict[str, str], dtype: torch.dtype
) -> None:
    block = quantized(scheme, ignore=kept, image=True, dtype=dtype)
    candidate, given = fused(block), inputs(dtype, image=True)
    assert {part: why for part, why in candidate.parts.items() if not why.startswith("fused")} == reasons
    assert all(type(candidate.get_submodule(name)) is nn.Linear for name in kept)
    bound = FLOAT32 if dtype == torch.float32 else BF16[scheme]
    assert relative_error(candidate(*given), block(*given)) < bound
    assert list(candidate.state_dict()) == list(block.state_dict())


def test_layers_with_scales_of_their_own_are_not_merged() -> None:
    block = quantized("FP8")
    block.attn1.to_v.input_scale.mul_(2)
    candidate = fused(block)
    assert candidate.parts["attn1.to_qkv"] == "to_v has another input_scale than to_q"
    assert relative_error(candidate(*inputs()), block(*inputs())) < FLOAT32


def test_a_hidden_layer_of_another_formatat_leaves_as_floats() -> None:
    block = quantized("W8A8")
    block.ffn.net[2] = quantized("FP8").ffn.net[2]
    candidate = fused(block)
    assert (candidate.parts["ffn.net.0.proj"], candidate.parts["ffn.net.2"]) == ("fused", "fused")
    assert relative_error(candidate(*inputs()), block(*inputs())) < FLOAT32


@pytest.mark.parametrize(("scheme", "smoothed"), EVERY)
def test_each_input_is_quantized_once(scheme: str, smoothed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = dict.fromkeys(("quantize_rows", "scaled_mm", "int4_mm", "int8_mm", "sparse_scaled_mm"), 0)
    for name in calls:
        inner = getattr(torch.ops.quant, name)

        def counted(*args: Any, name: str = name, inner: Any = inner) -> Any:
            calls[name] += 1
            return inner(*args)

        monkeypatch.setattr(torch.ops.quant, name, counted)
    block = quantized(scheme, smoothed=smoothed)
    fused(block)(*inputs(wide=is_wide(scheme)))
    to_codes = scheme in ("FP8", "2:4 FP8") and not smoothed
    quantized_inputs = 0 if scheme in OF_FLOATS else 6 if to_codes else 7
    by_start = {"2:4": "sparse_scaled_mm", "W4": "int4_mm", "W8A16": "int8_mm", "": "scaled_mm"}
    matmul = next(name for start, name in by_start.items() if scheme.startswith(start))
    assert {name: count for name, count in calls.items() if count} == {
        **({"quantize_rows": quantized_inputs} if quantized_inputs else {}),
        matmul: 7,
    }


@pytest.mark.parametrize(("scheme", "smoothed"), EVERY)
@pytest.mark.parametrize("image", [False, True])
def test_its_state_is_the_blocks(scheme: str, smoothed: bool, image: bool) -> None:
    block = quantized(scheme, smoothed=smoothed, image=image, dtype=torch.bfloat16)
    candidate = fused(block)
    assert same(candidate.state_dict(), block.state_dict())
    other = quantized(scheme, smoothed=smoothed, image=image, dtype=torch.bfloat16)
    other.scale_shift_table.add_(1)
    state = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    codes = next(state[name] for name in ("attn1.to_k.weight", "attn1.to_k.weight_packed") if name in state)
    raw = codes.view(torch.uint8) if codes.itemsize == 1 else codes
    raw.copy_(raw.flip(0))
    other.load_state_dict(state)
    assert candidate.load_state_dict(other.state_dict()) == ([], [])
    given = inputs(torch.bfloat16, image=image, wide=is_wide(scheme))
    assert torch.equal(candidate(*given), fused(other)(*given))
    assert not torch.equal(candidate(*given), fused(block)(*given))


def test_copies_and_casts() -> None:
    block = quantized("W8A8", smoothed=True)
    candidate, given = fused(block), inputs()
    expected = candidate(*given)
    duplicate = copy.deepcopy(candidate)
    candidate.attn1.to_qkv.weight.zero_()
    assert torch.equal(duplicate(*given), expected)
    assert duplicate.attn1.to_q.merged is duplicate.attn1.to_qkv
    half = duplicate.to(torch.bfloat16)
    assert half(*inputs(torch.bfloat16)).dtype == torch.bfloat16
    assert half.attn1.to_qkv.weight_scale.dtype == torch.float32
    assert all(tensor.is_meta for tensor in half.to("meta").state_dict().values())


def test_it_compiles_into_one_graph() -> None:
    """One block with a layer for each op, and each way from one to the next."""
    parts = {
        label: quantized(label, smoothed=smoothed, image=True, wide=True)
        for label, smoothed in (("W8A8", True), ("W4A16_ASYM", True), ("FP8", False), ("2:4 FP8_DYNAMIC", False))
    }
    block = parts["W8A8"]
    block.attn1.to_out, block.attn2 = parts["FP8"].attn1.to_out, parts["W4A16_ASYM"].attn2
    block.ffn.net[0], block.ffn.net[2] = parts["2:4 FP8_DYNAMIC"].ffn.net[0], parts["FP8"].ffn.net[2]
    candidate = fused(block)
    assert candidate.parts["ffn.net.0.proj"] == "fused, its output leaves as codes"
    whole = torch.compile(candidate, fullgraph=True, backend="aot_eager")
    # After two lengths the number of tokens is a symbol, with modulations of one row and of one a token.
    for batch, tokens, per_token in ((2, 5, False), (2, 5, True), (1, 8, True), (1, 7, False), (1, 12, False)):
        given = inputs(per_token=per_token, image=True, batch=batch, tokens=tokens, wide=True)
        assert relative_error(whole(*given), candidate(*given)) < FLOAT32


def test_it_holds_fused_layers_where_diffusers_has_its_own() -> None:
    candidate = fused(quantized("W8A8", image=True))
    assert isinstance(candidate, FusedWanTransformerBlock)
    kinds = {name: type(module) for name, module in candidate.named_modules() if isinstance(module, FusedLinear)}
    merged = ("attn1.to_qkv", "attn2.to_kv", "attn2.to_added_kv")
    single = ("attn1.to_out.0", "attn2.to_q", "attn2.to_out.0", "ffn.net.0.proj", "ffn.net.2")
    assert kinds == {**dict.fromkeys(merged, MergedLinear), **dict.fromkeys(single, FusedLinear)}
    assert not candidate.training
    # LoRA and reports look layers up by diffusers' names.
    assert {name for name, _ in plain(image=True).named_modules()} <= {name for name, _ in candidate.named_modules()}

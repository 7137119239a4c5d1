"""A block's operations: the same matmuls whatever is fused, and exactly the passes over memory that fusing saves."""

from __future__ import annotations

from collections import Counter

import pytest

from quant.eval.bench.blocks import block_operations
from quant.eval.bench.operations import Operation
from quant.eval.bench.sizes import Model, layers, models
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from tests.eval.bench.small import kept

LAYER_FORMATS = {name: LayerFormat(scheme) for name, scheme in SCHEMES.items() if scheme.weights is not None}
W8A8, FP8_DYNAMIC, FP8 = (LAYER_FORMATS[name] for name in ("W8A8", "FP8_DYNAMIC", "FP8"))
W4A16, W4A8, W4AFP8 = (LAYER_FORMATS[name] for name in ("W4A16", "W4A8", "W4AFP8"))
SPARSE, SPARSE_W8A8, SPARSE_FP8 = (LayerFormat(SCHEMES[name], sparse=True) for name in ("UNQUANTIZED", "W8A8", "FP8"))
EVERY_FORMAT = pytest.mark.parametrize(
    "layer_format",
    [*LAYER_FORMATS.values(), SPARSE, SPARSE_W8A8, SPARSE_FP8],
    ids=lambda layer_format: layer_format.label,
)
WAN = models()["wan-14b"]
EVERY_MODEL = pytest.mark.parametrize("model", models().values(), ids=lambda model: model.name)


def everything(model: Model, layer_format: LayerFormat) -> dict[str, LayerFormat | None]:
    return {each.name: None if each.name in kept(model) else layer_format for each in layers(model)}


def names(operations: list[Operation], kind: str) -> list[str]:
    return [each.name for each in operations if each.kind == kind]


def arithmetic(operations: list[Operation]) -> dict[str, int]:
    """Operations by kind."""
    found = Counter[str]()
    for each in operations:
        found[each.kind] += each.operations
    return found


@EVERY_MODEL
@EVERY_FORMAT
def test_fusing_and_quantizing_change_no_arithmetic(model: Model, layer_format: LayerFormat) -> None:
    plain = arithmetic(block_operations(model, {}))
    for fused in (False, True):
        assert arithmetic(block_operations(model, everything(model, layer_format), fused=fused)) == plain


@EVERY_MODEL
def test_every_linear_is_one_matmul_in_bf16(model: Model) -> None:
    assert sorted(names(block_operations(model, {}), "matmul")) == sorted(each.name for each in layers(model))


@EVERY_MODEL
def test_matmuls_have_the_rows_of_their_stream(model: Model) -> None:
    by_name = {each.name: each for each in block_operations(model, {}, batch=2)}
    for layer in layers(model):
        expected = {"M": model.rows(layer.stream, 2), "N": layer.n, "K": layer.k}
        assert by_name[layer.name].sizes == expected, layer.name


@EVERY_MODEL
def test_bf16_is_never_fused(model: Model) -> None:
    assert block_operations(model, {}, fused=True) == block_operations(model, {})


@EVERY_MODEL
def test_twice_the_samples_are_twice_the_arithmetic(model: Model) -> None:
    once, twice = (arithmetic(block_operations(model, {}, batch=batch)) for batch in (1, 2))
    assert twice == {kind: 2 * count for kind, count in once.items()}


@EVERY_MODEL
@EVERY_FORMAT
def test_fusing_saves_traffic(model: Model, layer_format: LayerFormat) -> None:
    unfused, fused = (block_operations(model, everything(model, layer_format), fused=each) for each in (False, True))
    assert sum(each.nbytes for each in fused) < sum(each.nbytes for each in unfused)
    assert len(fused) < len(unfused)


def test_wan_in_bf16() -> None:
    assert names(block_operations(WAN, {}), "elementwise") == [
        "norm1 + modulation",
        "attn1 norms of q and k + rotary embedding",
        "attn1 gate + residual + norm2",
        "attn2 norm of q",
        "attn2 norm of k",
        "attn2 residual + norm3 + modulation",
        "ffn gelu",
        "ffn gate + residual",
    ]


def test_wan_unfused_quantizes_the_input_of_every_layer() -> None:
    added = Counter(names(block_operations(WAN, everything(WAN, W8A8)), "elementwise"))
    added.subtract(names(block_operations(WAN, {}), "elementwise"))
    assert {name: count for name, count in added.items() if count} == {
        f"{each.name} quantize": 1 for each in layers(WAN)
    }


def test_wan_fused() -> None:
    found = block_operations(WAN, everything(WAN, W8A8), fused=True)
    assert names(found, "elementwise") == [
        "norm1 + modulation + quantize",
        "attn1 norms of q and k + rotary embedding",
        "attn1.to_out.0 quantize",
        "norm2 + quantize",
        "attn2.to_k, attn2.to_v quantize",
        "attn2 norm of q",
        "attn2 norm of k",
        "attn2.to_out.0 quantize",
        "norm3 + modulation + quantize",
        "ffn.net.2 quantize",
    ]
    by_name = {each.name: each for each in found}
    assert by_name["attn1.to_qkv"].sizes == {"M": 32_760, "N": 3 * 5120, "K": 5120}
    assert by_name["attn2.to_kv"].sizes == {"M": 512, "N": 2 * 5120, "K": 5120}
    residual = 32_760 * 5120 * 2
    unfused = {each.name: each for each in block_operations(WAN, everything(WAN, W8A8))}
    for name in ("attn1.to_out.0", "attn2.to_out.0", "ffn.net.2"):
        assert by_name[name].nbytes - unfused[name].nbytes == residual


@pytest.mark.parametrize(
    "layer_format", [W4A16, LAYER_FORMATS["W8A16"], SPARSE], ids=lambda layer_format: layer_format.label
)
def test_layers_that_read_bf16_quantize_nothing(layer_format: LayerFormat) -> None:
    plain = names(block_operations(WAN, {}), "elementwise")
    assert names(block_operations(WAN, everything(WAN, layer_format)), "elementwise") == plain
    fused = block_operations(WAN, everything(WAN, layer_format), fused=True)
    assert names(fused, "elementwise") == [
        "norm1 + modulation",
        "attn1 norms of q and k + rotary embedding",
        "norm2",
        "attn2 norm of q",
        "attn2 norm of k",
        "norm3 + modulation",
    ]
    by_name = {each.name: each for each in fused}
    assert by_name["norm2"].nbytes == 32_760 * 2 * 5120 * 2
    assert by_name["attn1.to_qkv"].sizes == {"M": 32_760, "N": 3 * 5120, "K": 5120}
    apart = {each.name: each for each in block_operations(WAN, everything(WAN, layer_format))}
    for name in ("attn1.to_out.0", "attn2.to_out.0", "ffn.net.2"):
        assert by_name[name].nbytes - apart[name].nbytes == 32_760 * 5120 * 2
    assert by_name["ffn.net.0.proj"] == apart["ffn.net.0.proj"]


@pytest.mark.parametrize(
    "layer_format", [W4A8, W4AFP8, SPARSE_W8A8, LAYER_FORMATS["FP8_BLOCK"]], ids=lambda layer_format: layer_format.label
)
def test_layers_that_read_codes_quantize_as_dense_ones_do(layer_format: LayerFormat) -> None:
    for fused in (False, True):
        found, dense = (block_operations(WAN, everything(WAN, each), fused=fused) for each in (layer_format, W8A8))
        assert names(found, "elementwise") == names(dense, "elementwise")
        assert names(found, "matmul") == names(dense, "matmul")


@pytest.mark.parametrize(
    ("up", "down", "codes"),
    [
        (SPARSE_FP8, SPARSE_FP8, True),
        (W4AFP8, FP8, True),
        (FP8_DYNAMIC, SPARSE_FP8, True),
        (W4A8, FP8, False),
        (W4A16, FP8, False),
        (SPARSE, SPARSE_FP8, False),
        (SPARSE_FP8, W4AFP8, False),
        (W4A16, SPARSE, False),
    ],
    ids=lambda value: value.label if isinstance(value, LayerFormat) else "",
)
def test_codes_are_passed_where_the_matmul_before_has_such(up: LayerFormat, down: LayerFormat, codes: bool) -> None:
    layer_formats = {**everything(WAN, W8A8), "ffn.net.0.proj": up, "ffn.net.2": down}
    found = block_operations(WAN, layer_formats, fused=True)
    quantizes = "ffn.net.2 quantize" in names(found, "elementwise")
    assert quantizes == (not codes and down is not SPARSE)
    (matmul,) = (each for each in found if each.name == "ffn.net.0.proj")
    (apart,) = (each for each in block_operations(WAN, layer_formats) if each.name == "ffn.net.0.proj")
    assert apart.nbytes - matmul.nbytes == (32_760 * 13_824 if codes else 0)


def test_the_rows_of_a_block_of_scales_end_between_layers() -> None:
    """Else FP8 layers with scales by block could not be one matmul, as they are reckoned here."""
    assert all(each.n % 128 == 0 for model in models().values() for each in layers(model))


def test_sparse_layers_and_dense_ones_are_not_one_matmul() -> None:
    mixed = {**everything(WAN, W8A8), "attn1.to_v": SPARSE_W8A8}
    found = block_operations(WAN, mixed, fused=True)
    assert names(found, "matmul")[:3] == ["attn1.to_q", "attn1.to_k", "attn1.to_v"]


def test_a_scale_known_beforehand_lets_the_feed_forward_pass_codes() -> None:
    static = {each.name: each for each in block_operations(WAN, everything(WAN, FP8), fused=True)}
    dynamic = {each.name: each for each in block_operations(WAN, everything(WAN, FP8_DYNAMIC), fused=True)}
    assert "ffn.net.2 quantize" in dynamic
    assert "ffn.net.2 quantize" not in static
    scales = 4 * (32_760 + 13_824) - 4 * 2
    assert dynamic["ffn.net.0.proj"].nbytes - static["ffn.net.0.proj"].nbytes == 32_760 * 13_824 + scales
    mixed = {**everything(WAN, W8A8), "ffn.net.2": FP8}
    assert "ffn.net.2 quantize" in names(block_operations(WAN, mixed, fused=True), "elementwise")


def test_layers_with_two_schemes_are_not_one_matmul() -> None:
    mixed = {**everything(WAN, W8A8), "attn1.to_v": FP8_DYNAMIC}
    found = block_operations(WAN, mixed, fused=True)
    assert names(found, "matmul")[:3] == ["attn1.to_q", "attn1.to_k", "attn1.to_v"]
    assert names(found, "elementwise")[:4] == [
        "norm1 + modulation",
        "attn1.to_q quantize",
        "attn1.to_k quantize",
        "attn1.to_v quantize",
    ]


def test_what_stays_in_bf16_keeps_what_is_around_it() -> None:
    kept = {**everything(WAN, W8A8), "attn1.to_out.0": None, "attn2.to_q": None}
    found = names(block_operations(WAN, kept, fused=True), "elementwise")
    assert "attn1 gate + residual + norm2" in found
    assert "attn1.to_out.0 quantize" not in found
    only_out = {**everything(WAN, W8A8), "attn1.to_out.0": None}
    found = names(block_operations(WAN, only_out, fused=True), "elementwise")
    assert found.index("attn1 gate + residual") + 1 == found.index("norm2 + quantize")
    only_query = {**everything(WAN, W8A8), "attn2.to_q": None}
    found = names(block_operations(WAN, only_query, fused=True), "elementwise")
    assert "norm2" in found
    assert "attn1 gate + residual + norm2" not in found


def test_ltx_has_no_norm_before_cross_attention() -> None:
    model = models()["ltx-13b"]
    assert "attn1 gate + residual" in names(block_operations(model, {}), "elementwise")
    fused = names(block_operations(model, everything(model, W8A8), fused=True), "elementwise")
    assert "attn2.to_q quantize" in fused
    assert "norm2 + modulation + quantize" in fused


def test_hunyuan_attends_over_both_streams() -> None:
    model = models()["hunyuan"]
    (found,) = (each for each in block_operations(model, {}, batch=2) if each.kind == "attention")
    assert found.sizes == {"samples": 2, "queries": 119_056, "keys": 119_056, "heads": 24, "head_dim": 128}

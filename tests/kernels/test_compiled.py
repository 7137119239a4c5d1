"""Whole ops by the CUDA kernels, from `ops` down to the last instruction: a launch goes to the emulator."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from quant.kernels import compiled, ops, tile_tables
from quant.kernels.arguments import Epilogue, Prologue
from quant.kernels.matmuls import mma_gemm, sm90_gemm
from quant.kernels.matmuls.quantize_rows import QUANTIZE_ROWS
from quant.kernels.matmuls.sm90_gemm import HopperTile
from quant.kernels.ops.quantize_rows import reference as quantize_rows_reference
from quant.kernels.ops.scaled_mm import reference as scaled_mm_reference
from quant.kernels.runtime import cupy_launch
from quant.kernels.runtime.architectures import ARCHITECTURES
from quant.kernels.runtime.launch import Launch
from tests.kernels.emulated_gpu import emulated, pretended
from tests.kernels.matmul_cases import FP8, INT8, allowed, operands, scales

#: Where a matmul of each format runs by a kernel.
PLACES = {INT8: "sm_80", FP8: "sm_89"}


def same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """In shape, dtype and every bit."""
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        return False
    return torch.equal(*(x.contiguous().view(torch.uint8 if x.itemsize == 1 else x.dtype) for x in (found, expected)))


@pytest.mark.parametrize("dtype", PLACES)
@pytest.mark.parametrize("shape", [(3, 77), (2, 5, 64), (0, 64), (2, 0, 77), (2, 3, 4, 40)])
@pytest.mark.parametrize("static", [False, True])
def test_quantize_rows_is_the_reference(shape: tuple[int, ...], dtype: torch.dtype, static: bool) -> None:
    x, scale = torch.randn(shape).bfloat16(), torch.tensor([0.02]) if static else None
    with emulated(PLACES[dtype]) as ran:
        found = compiled.run(QUANTIZE_ROWS, x, dtype, scale, Prologue())
    expected = quantize_rows_reference(x, dtype, scale, Prologue())
    assert all(map(same, found, expected))
    assert ran == ["quantize_rows"]


@pytest.mark.parametrize("dtype", PLACES)
@pytest.mark.parametrize("kind", ["rows", "tensor", "blocks both"])
@pytest.mark.parametrize("size", [(5, 150, 300), (0, 72, 64), (40, 200, 144)], ids=str)
def test_scaled_mm_is_the_reference(size: tuple[int, int, int], kind: str, dtype: torch.dtype) -> None:
    a, b, generator = operands(*size, dtype)
    epilogue = Epilogue(*scales(*size, kind, generator), torch.randn(size[1]), out_dtype=torch.float32)
    kernel = mma_gemm.INT8_GEMM if dtype == INT8 else mma_gemm.FP8_GEMM
    with emulated(PLACES[dtype]) as ran:
        found = compiled.run(kernel, a, b, epilogue)
    assert ((found - scaled_mm_reference(a, b, epilogue)).abs() <= allowed(a, b, epilogue)).all()
    assert ran == ["sm80_int8_gemm" if dtype == INT8 else "sm89_fp8_gemm"]
    assert found.shape == (size[0], size[1])


def _inputs() -> dict[str, torch.Tensor]:
    """Of 2 samples, as attention and patches leave them."""
    heads = torch.randn(2, 4, 3, 10).bfloat16()
    return {
        "heads put beside each other": heads.transpose(1, 2).flatten(2),
        "a part of wider rows": torch.randn(2, 3, 100).half()[..., 30:70],
        "two leading dimensions out of order": torch.randn(2, 5, 3, 40).transpose(1, 2),
        "three out of order": torch.randn(40, 3, 5, 2).permute(3, 2, 1, 0),
        "one sample for all": torch.randn(1, 3, 40).expand(2, 3, 40),
        "tokens in order": torch.randn(6, 40).bfloat16(),
    }


def _layer(x: torch.Tensor, dtype: torch.dtype, **options: Any) -> torch.Tensor:
    """With a weight that is always the same."""
    b, generator = operands(1, 72, 40, dtype)[1:]
    codes, scale = ops.quantize_rows(x, dtype)
    return ops.scaled_mm(codes, scale, b, scales(1, 72, 40, "rows", generator)[1], **options)


@pytest.mark.parametrize("name", _inputs())
@pytest.mark.parametrize("out_dtype", [torch.float32, torch.bfloat16])
def test_a_layer_of_any_input_bit_for_bit(name: str, out_dtype: torch.dtype) -> None:
    x = _inputs()[name]
    expected = _layer(x, INT8, out_dtype=out_dtype)
    with emulated("sm_80") as ran:
        assert same(_layer(x, INT8, out_dtype=out_dtype), expected)
    assert ran == ["quantize_rows", "sm80_int8_gemm"]


def test_a_layer_of_fp8_within_what_its_sums_may_lose() -> None:
    x = _inputs()["two leading dimensions out of order"]
    b, generator = operands(1, 72, 40, FP8)[1:]
    codes, scale = ops.quantize_rows(x, FP8)
    b_scale, bias = scales(1, 72, 40, "rows", generator)[1], torch.randn(72)
    expected = ops.scaled_mm(codes, scale, b, b_scale, bias=bias, out_dtype=torch.float32)
    with emulated("sm_89") as ran:
        found = ops.scaled_mm(codes, scale, b, b_scale, bias=bias, out_dtype=torch.float32)
    bound = allowed(codes.view(-1, 40), b, Epilogue(scale.view(-1, 1), b_scale))
    assert ((found - expected).abs().view(-1, 72) <= bound).all()
    assert ran == ["sm89_fp8_gemm"]


def _epilogues(b: int, t: int, n: int) -> dict[str, dict[str, Any]]:
    """As transformer blocks end, for [b, t, n]."""
    table = torch.randn(b, 6, n)
    return {
        "a gate a sample": {"gate": table[:, 2:3], "residual": torch.randn(b, t, n).bfloat16()},
        "a gate a token": {"gate": torch.randn(b, t, 6, n).unbind(2)[1], "residual": torch.randn(b, n, t).mT},
        "a gate a channel": {"gate": torch.randn(n), "bias": torch.randn(n).bfloat16()},
        "a gate for all": {"gate": torch.randn(()), "residual": torch.randn(t, 1)},
        "codes": {"bias": torch.randn(n), "out_dtype": INT8, "out_scale": torch.tensor([0.5])},
    }


@pytest.mark.parametrize("name", _epilogues(1, 1, 1))
def test_how_blocks_end_bit_for_bit(name: str) -> None:
    x = torch.randn(2, 5, 40)
    options: dict[str, Any] = {"out_dtype": torch.float32, **_epilogues(2, 5, 72)[name]}
    b, generator = operands(1, 72, 40, INT8)[1:]
    codes, scale = quantize_rows_reference(x, INT8, None, Prologue())
    wide = {key: options[key].expand(2, 5, 72).clone() for key in ("residual", "gate") if key in options}
    epilogue = Epilogue(scale.view(10, 1), scales(1, 72, 40, "rows", generator)[1], **(options | wide))
    expected = scaled_mm_reference(codes.view(10, 40), b, epilogue)
    with emulated("sm_80") as ran:
        assert same(_layer(x, INT8, **options), expected.view(2, 5, 72))
    assert len(ran) == 2


@pytest.mark.parametrize("dtype", PLACES)
@pytest.mark.parametrize("static", [False, True])
def test_how_blocks_begin_bit_for_bit(dtype: torch.dtype, static: bool) -> None:
    x = torch.randn(2, 3, 5, 40).bfloat16().transpose(1, 2)
    table, tokens = torch.randn(2, 6, 40), torch.randn(2, 5, 3, 6, 40).bfloat16()
    ways: list[dict[str, Any]] = [
        {"modulation": (table[:, 1, None, None], table[:, 0, None, None])},
        {"modulation": (tokens[..., 1, :], tokens[..., 0, :]), "pre_quant_scale": torch.rand(40) + 0.5},
        {"modulation": (torch.randn(40), torch.randn(5, 1, 1))},
    ]
    scale = torch.tensor([[0.03]]) if static else None
    for way in ways:
        expected = ops.quantize_rows(x, dtype, **way, scale=scale)
        with emulated(PLACES[dtype]) as ran:
            assert all(map(same, ops.quantize_rows(x, dtype, **way, scale=scale), expected))
        assert ran == ["quantize_rows"]


def test_a_norm_moves_a_code_by_one_at_most() -> None:
    x, weight, bias = torch.randn(2, 5, 40), torch.rand(40) + 0.5, torch.randn(40)
    norm = ops.Norm("layer", weight, bias)
    codes, scale = ops.quantize_rows(x, INT8, norm=norm)
    with emulated("sm_80"):
        found, step = ops.quantize_rows(x, INT8, norm=norm)
    assert torch.allclose(step, scale, rtol=1e-5)
    assert (found.int() - codes.int()).abs().max() <= 1
    assert (found == codes).float().mean() > 0.95


def test_a_compiled_graph_calls_the_kernels() -> None:
    b, generator = operands(1, 72, 40, INT8)[1:]
    b_scale, gate = scales(1, 72, 40, "rows", generator)[1], torch.randn(2, 1, 72)

    def layer(x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        codes, scale = ops.quantize_rows(x, INT8)
        return ops.scaled_mm(codes, scale, b, b_scale, residual=residual, gate=gate, out_dtype=torch.bfloat16)

    whole = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for tokens in (3, 7):
        x, residual = torch.randn(2, tokens, 40), torch.randn(2, tokens, 72)
        expected = layer(x, residual)
        with emulated("sm_80") as ran:
            assert same(whole(x, residual), expected)
        assert ran == ["quantize_rows", "sm80_int8_gemm"]


def test_a_tile_is_chosen_once_for_each_size(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, bool]] = []
    choose = tile_tables.choose

    def counting(kernel: str, m: int, *rest: Any, fine_scales: bool) -> tile_tables.Choice:
        asked.append((m, fine_scales))
        return choose(kernel, m, *rest, fine_scales=fine_scales)

    monkeypatch.setattr(tile_tables, "choose", counting)
    with emulated("sm_80"):
        for m in (3, 3, 4):
            for kind in ("rows", "blocks"):
                a, b, generator = operands(m, 200, 64, INT8)
                compiled.run(
                    mma_gemm.INT8_GEMM, a, b, Epilogue(*scales(m, 200, 64, kind, generator), out_dtype=torch.float32)
                )
    assert asked == [(3, False), (3, True), (4, False), (4, True)]


@pytest.mark.parametrize("dtype", PLACES)
@pytest.mark.parametrize("kind", ["rows", "tensor", "blocks", "blocks both"])
@pytest.mark.parametrize("m", [1, 77, 3000])
def test_what_is_launched_on_hopper(m: int, kind: str, dtype: torch.dtype) -> None:
    """Down to the launch; what the kernel makes of it is tested for itself."""
    n, k, here = 520, 300, ARCHITECTURES["sm_90a"]
    name = "sm90_int8_gemm" if dtype == INT8 else "sm90_fp8_gemm"
    noted: list[Launch] = []
    a, b, generator = operands(m, n, k, dtype)
    a_scale, b_scale = scales(m, n, k, kind, generator)
    with pretended("sm_90a", lambda launch, device: noted.append(launch)):
        out = ops.scaled_mm(a, a_scale, b, b_scale, out_dtype=torch.bfloat16)
        by_block = kind.startswith("blocks")
        tile = tile_tables.choose(name, m, n, k, here, here.multiprocessors, fine_scales=by_block).tile
    assert isinstance(tile, HopperTile)
    (launch,) = noted
    macros = dict(launch.build.defines)
    assert launch.build.kernel == name
    cut = [macros[each] for each in ("TILE_N", "GROUPS", "GROUP_M", "STAGES", "CLUSTER")]
    assert HopperTile(*cut) == tile
    assert macros["BLOCK_SCALES"] == {"blocks": 1, "blocks both": 2}.get(kind, 0)
    tiles = -(-m // (tile.m * tile.cluster)) * -(-n // tile.n)
    assert launch.grid == min(tiles, here.multiprocessors * tile.resident // tile.cluster) * tile.cluster
    assert (out.shape, out.dtype) == ((m, n), torch.bfloat16)
    assert launch.arguments.result == out.data_ptr()


@pytest.mark.parametrize("arch", ["sm_89", "sm_90a"])
@pytest.mark.parametrize("fast", [False, True])
def test_fast_sums_are_asked_of_the_kernel(fast: bool, arch: str) -> None:
    noted: list[Launch] = []
    a, b, generator = operands(5, 72, 64, FP8)
    a_scale, b_scale = scales(5, 72, 64, "rows", generator)
    with pretended(arch, lambda launch, device: noted.append(launch)):
        ops.scaled_mm(a, a_scale, b, b_scale, out_dtype=torch.bfloat16, fast_accumulate=fast)
    assert [dict(launch.build.defines)["FAST_SUMS"] for launch in noted] == [fast]


def test_a_layer_on_hopper_is_two_launches() -> None:
    noted: list[str] = []
    with pretended("sm_90a", lambda launch, device: noted.append(launch.build.kernel)):
        for dtype in PLACES:
            codes, scale = ops.quantize_rows(torch.randn(2, 5, 64), dtype)
            weight, b_scale = torch.zeros(32, 64).to(dtype), torch.ones(32)
            out = ops.scaled_mm(codes, scale.fill_(1.0), weight, b_scale, out_dtype=torch.bfloat16)
            assert out.shape == (2, 5, 32)
    assert noted == ["quantize_rows", "sm90_int8_gemm", "quantize_rows", "sm90_fp8_gemm"]


def test_multiprocessors_are_counted_once_for_each_device() -> None:
    asked: list[int] = []

    def properties(index: int) -> SimpleNamespace:
        asked.append(index)
        return SimpleNamespace(multi_processor_count=20)

    noted: list[Launch] = []
    with pretended("sm_90a", lambda launch, device: noted.append(launch)) as patch:
        patch.setattr(torch.cuda, "get_device_properties", properties)
        for index in (0, 1, 0, 1):
            patch.setattr(cupy_launch, "device_index", lambda device, index=index: index)
            for m in (4000, 5000):
                compiled.run(
                    sm90_gemm.INT8_GEMM, *operands(m, 512, 64, INT8)[:2], Epilogue(torch.ones(1, 1), torch.ones(1))
                )
    assert asked == [0, 1]
    assert {launch.grid for launch in noted} <= {20, 40}

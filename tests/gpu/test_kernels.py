"""The kernels on a GPU against their references on the CPU: the emulator's cases, larger ones, and recorded layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from quant.formats.tensors import pack_linear
from quant.kernels import ops
from quant.kernels.arguments import Epilogue, Prologue
from quant.kernels.dispatch import implementations, only
from quant.kernels.host.operands import Multiplied
from quant.kernels.matmuls import mma_gemm
from quant.kernels.matmuls import quantize_rows as rows_host
from quant.kernels.matmuls.base import Tile
from quant.kernels.matmuls.mma_gemm import TILES
from quant.kernels.matmuls.table import matmuls
from quant.kernels.ops.quantize_rows import reference as quantize_rows_reference
from quant.kernels.ops.scaled_mm import reference as scaled_mm_reference
from quant.kernels.runtime import cupy_launch
from quant.layers.linear import QuantLinear
from tests.kernels.matmul_cases import FILLS, FP8, INT8, RAGGED, allowed, operands, scales
from tests.layers.quantized import quantized

DEVICE = torch.device("cuda")
RECORDED = Path(__file__).parents[1] / "golden" / "recorded.safetensors"


def _matmuls(*dtypes: torch.dtype) -> list[tuple[str, torch.dtype]]:
    """The matmul kernels that this GPU runs, of codes of these dtypes; those it does not are in `quant kernels`."""
    if not torch.cuda.is_available():
        return [(mma_gemm.INT8_GEMM.name, INT8)]  # conftest fails it with the reason
    here = torch.cuda.get_device_capability()
    ours = (each for each in implementations() if each.compiled and each.op == "scaled_mm")
    found = [(each.name, limits.dtypes[0]) for each in ours for limits in each.limits if here in limits.capabilities]
    return [(name, dtype) for name, dtype in found if not dtypes or dtype in dtypes]


INT8_NAMES = [name for name, _ in _matmuls(INT8)]


def _tiles(*, block_scales: bool) -> list[tuple[str, torch.dtype, Tile]]:
    if not torch.cuda.is_available():
        return [(mma_gemm.INT8_GEMM.name, INT8, TILES[-1])]  # likewise
    architecture = cupy_launch.device_architecture(torch.cuda.current_device())
    return [
        (name, dtype, tile)
        for name, dtype in _matmuls()
        for tile in matmuls()[name].tiles(architecture, fine_scales=block_scales)
    ]


def planned(
    name: str, a: torch.Tensor, b: torch.Tensor, epilogue: Epilogue, tile: Tile, multiprocessors: int
) -> Multiplied:
    """By the host side of the kernel `name`; on Hopper for as many multiprocessors as are said to be there."""
    return matmuls()[name].plan(a, b, epilogue, tile, multiprocessors=multiprocessors)


def moved(epilogue: Epilogue) -> Epilogue:
    values: list[Any] = [x.to(DEVICE) if isinstance(x, torch.Tensor) else x for x in epilogue]
    return Epilogue(*values)


def run(name: str, a: torch.Tensor, b: torch.Tensor, epilogue: Epilogue) -> torch.Tensor:
    """The op on the GPU, by the kernel `name` and no other."""
    e = moved(epilogue)
    with only(name):
        out = ops.scaled_mm(
            a.to(DEVICE), e.a_scale, b.to(DEVICE), e.b_scale, bias=e.bias, activation=e.activation,
            residual=e.residual, gate=e.gate, out_dtype=e.out_dtype, out_scale=e.out_scale,
            fast_accumulate=e.fast_accumulate,
        )  # fmt: skip
    return out.cpu()


def check(name: str, a: torch.Tensor, b: torch.Tensor, epilogue: Epilogue, slack: float = 0.0) -> None:
    """On one GPU of an architecture the 14 bits of `allowed` are a published finding: here it is put to the test."""
    out, expected = run(name, a, b, epilogue).float(), scaled_mm_reference(a, b, epilogue).float()
    assert ((out - expected).abs() <= allowed(a, b, epilogue) + slack).all(), (out - expected).abs().max()


@pytest.mark.parametrize("size", [*RAGGED, (1, 5120, 5120), (517, 1536, 8960), (1030, 777, 2064)], ids=str)
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize(("name", "dtype"), _matmuls())
def test_sizes_and_data(name: str, dtype: torch.dtype, fill: str, size: tuple[int, int, int]) -> None:
    a, b, generator = operands(*size, dtype, fill)
    check(name, a, b, Epilogue(*scales(*size, "rows", generator), torch.randn(size[1]), out_dtype=torch.float32))


@pytest.mark.parametrize("kind", ["tensor", "mixed", "blocks", "blocks both"])
@pytest.mark.parametrize(("name", "dtype"), _matmuls())
def test_scales(name: str, dtype: torch.dtype, kind: str) -> None:
    size = (300, 520, 1100)
    a, b, generator = operands(*size, dtype)
    check(name, a, b, Epilogue(*scales(*size, kind, generator), out_dtype=torch.float32))


def check_tile(name: str, dtype: torch.dtype, tile: Tile, kind: str, more: int, multiprocessors: int) -> None:
    """A size that is ragged in every direction, `more` columns than two tiles, into memory that is NaN before."""
    m, n, k = 3 * tile.m + 5, 2 * tile.n + more, 9 * 128 + 16
    a, b, generator = operands(m, n, k, dtype)
    epilogue = Epilogue(*scales(m, n, k, kind, generator), out_dtype=torch.float32)
    launch, out, held = planned(name, a.to(DEVICE), b.to(DEVICE), moved(epilogue), tile, multiprocessors)
    out.fill_(float("nan"))
    cupy_launch.run(launch, DEVICE)
    assert ((out.cpu() - scaled_mm_reference(a, b, epilogue)).abs() <= allowed(a, b, epilogue)).all()
    assert held


#: Of the first every row of a float32 result begins at a multiple of 16 bytes, of the second none but one.
MORE = [24, 9]


@pytest.mark.parametrize("more", MORE)
@pytest.mark.parametrize("multiprocessors", [3, 132])
@pytest.mark.parametrize(("name", "dtype", "tile"), _tiles(block_scales=False), ids=str)
def test_every_tile(name: str, dtype: torch.dtype, tile: Tile, multiprocessors: int, more: int) -> None:
    """With few multiprocessors the blocks that stay on Hopper have several tiles each."""
    check_tile(name, dtype, tile, "rows", more, multiprocessors)


@pytest.mark.parametrize("more", MORE)
@pytest.mark.parametrize("kind", ["blocks", "blocks both"])
@pytest.mark.parametrize(("name", "dtype", "tile"), _tiles(block_scales=True), ids=str)
def test_every_tile_with_scales_by_block(name: str, dtype: torch.dtype, tile: Tile, kind: str, more: int) -> None:
    check_tile(name, dtype, tile, kind, more, 3)


@pytest.mark.parametrize(("name", "dtype"), _matmuls())
def test_fast_sums_are_within_what_the_tensor_core_may_drop(name: str, dtype: torch.dtype) -> None:
    """Each instruction of 32 of K drops at most 33 * 2**-13 of the magnitudes; see `allowed`. INT8 drops nothing."""
    m, n, k = 130, 136, 4096
    a, b, generator = operands(m, n, k, dtype, "positive")
    epilogue = Epilogue(*scales(m, n, k, "rows", generator), out_dtype=torch.float32)
    fast = run(name, a, b, epilogue._replace(fast_accumulate=True))
    expected = scaled_mm_reference(a, b, epilogue)
    if dtype == INT8:
        assert torch.equal(fast, expected)
    else:
        assert ((fast - expected).abs() <= k / 32 * 33 * 2.0**-13 * expected).all()


@pytest.mark.parametrize("name", INT8_NAMES)
@pytest.mark.parametrize("n", [72, 77, 144])
@pytest.mark.parametrize("activation", ["none", "gelu", "gelu_tanh", "silu"])
@pytest.mark.parametrize(
    ("out_dtype", "step"),
    [(torch.float32, 1e-5), (torch.bfloat16, 2.0**-6), (torch.float16, 2.0**-9), (INT8, 1.0), (FP8, 32.0)],
    ids=str,
)
def test_epilogues(out_dtype: torch.dtype, step: float, activation: str, n: int, name: str) -> None:
    """INT8 sums are exact, so without an activation every bit is; with one, results may differ by their last place."""
    m, k = 60, 96
    a, b, generator = operands(m, n, k, INT8)
    epilogue = Epilogue(
        *scales(m, n, k, "rows", generator),
        bias=torch.randn(n, generator=generator).bfloat16(),
        activation=activation,
        residual=torch.randn(m, n, generator=generator).half(),
        gate=torch.randn(3, 1, n, generator=generator).expand(3, m // 3, n),
        out_dtype=out_dtype,
        out_scale=torch.tensor([0.05]) if out_dtype in (INT8, FP8) else None,
    )
    leading = epilogue._replace(residual=None if epilogue.residual is None else epilogue.residual.view(3, m // 3, n))
    out = run(name, a.view(3, m // 3, k), b, leading._replace(a_scale=epilogue.a_scale.view(3, m // 3, 1)))
    expected, found = scaled_mm_reference(a, b, epilogue).float(), out.view(m, n).float()
    if activation == "none":
        assert torch.equal(found, expected)
    else:
        assert ((found - expected).abs() <= step * expected.abs().clamp(min=1)).all()


@pytest.mark.parametrize("dtype", [INT8, FP8])
@pytest.mark.parametrize("of", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("k", [1, 77, 256, 1536, 5123, 13_824, rows_host.LARGEST_K])
def test_rows_to_codes(k: int, of: torch.dtype, dtype: torch.dtype) -> None:
    x = (torch.randn(300, k) * 2.0 ** torch.randint(-10, 10, (300, 1))).to(of)
    x[7] = 0
    for scale in (None, torch.tensor([0.1])):
        with only(rows_host.QUANTIZE_ROWS.name):
            codes, found = ops.quantize_rows(x.to(DEVICE), dtype, scale=None if scale is None else scale.to(DEVICE))
        expected, expected_scale = quantize_rows_reference(x, dtype, scale, Prologue())
        assert torch.equal(found.cpu(), expected_scale)
        assert torch.equal(codes.cpu().view(torch.uint8), expected.view(torch.uint8))


@pytest.mark.parametrize("dtype", [INT8, FP8])
@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("k", [256, 1536, 5120])
def test_norm_and_modulation(k: int, kind: str, dtype: torch.dtype) -> None:
    x, weight, bias, factor = torch.randn(2, 90, k) + 3, torch.rand(k), torch.randn(k), torch.rand(k) + 0.5
    by, shift = torch.randn(2, 6, k).chunk(6, 1)[2:4]
    norm = ops.Norm(kind, weight, bias, 1e-6)
    on_gpu = ops.Norm(kind, weight.to(DEVICE), bias.to(DEVICE), 1e-6)
    expected, expected_scale = ops.quantize_rows(x, dtype, pre_quant_scale=factor, norm=norm, modulation=(by, shift))
    with only(rows_host.QUANTIZE_ROWS.name):
        codes, scale = ops.quantize_rows(
            x.to(DEVICE), dtype, pre_quant_scale=factor.to(DEVICE), norm=on_gpu,
            modulation=(by.to(DEVICE), shift.to(DEVICE)),
        )  # fmt: skip
    assert torch.allclose(scale.cpu(), expected_scale, rtol=1e-5)
    step = 1 if dtype == INT8 else 32
    differs = (codes.cpu().float() - expected.float()).abs()
    assert differs.max() <= step
    assert (differs > 0).float().mean() < 1e-3


@pytest.mark.parametrize("name", INT8_NAMES)
def test_more_than_2_to_31_results(name: str) -> None:
    m, n, k = 200_000, 11_008, 64
    a, b, generator = operands(m, n, k, INT8)
    epilogue = Epilogue(torch.rand(m, 1, generator=generator), torch.rand(n, 1, generator=generator) + 0.1)
    e = moved(epilogue)
    with only(name):
        out = ops.scaled_mm(a.to(DEVICE), e.a_scale, b.to(DEVICE), e.b_scale, out_dtype=torch.bfloat16)
    for rows in (slice(0, 64), slice(m // 2, m // 2 + 64), slice(m - 64, m)):
        part = epilogue._replace(a_scale=epilogue.a_scale[rows])
        assert torch.equal(out[rows].cpu(), scaled_mm_reference(a[rows], b, part))


def _layer(scheme: str, linear: nn.Linear) -> QuantLinear:
    layer_format = LayerFormat(SCHEMES[scheme])
    static = torch.tensor([0.02]) if layer_format.scheme.has_static_input else None
    tensors = pack_linear(linear.weight.detach(), layer_format, input_scale=static)
    return quantized(linear, layer_format, tensors)


@pytest.mark.parametrize("name", INT8_NAMES)
@pytest.mark.parametrize("k", [77, 256])
def test_a_layer_on_the_gpu_is_the_layer_on_the_cpu(k: int, name: str) -> None:
    layer = _layer("W8A8", nn.Linear(k, 96)).to(torch.bfloat16)
    x = torch.randn(2, 33, k).bfloat16()
    expected, state = layer(x), {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    layer.to(DEVICE)
    with only(name, rows_host.QUANTIZE_ROWS.name):
        assert torch.equal(layer(x.to(DEVICE)).cpu(), expected)
    assert all(torch.equal(tensor.cpu(), state[name]) for name, tensor in layer.state_dict().items())
    assert torch.equal(layer.to("cpu")(x), expected)


@pytest.mark.parametrize("kernel", INT8_NAMES)
def test_recorded_layers(kernel: str) -> None:
    """Inputs and weights of a trained model: their outliers are not those of random numbers."""
    recorded = load_file(RECORDED)
    weights = [name for name in recorded if name.endswith(".weight")]
    assert weights
    for name in weights:
        linear = nn.Linear(recorded[name].shape[1], recorded[name].shape[0], bias=False)
        linear.weight = nn.Parameter(recorded[name].float())
        layer = _layer("W8A8", linear)
        x = recorded[f"{name.removesuffix('weight')}input"]
        with only(kernel, rows_host.QUANTIZE_ROWS.name):
            found = layer.to(DEVICE)(x.to(DEVICE)).cpu()
        assert torch.equal(found, layer.to("cpu")(x)), name


def test_a_captured_graph_and_another_stream() -> None:
    layer = _layer("W8A8", nn.Linear(256, 96)).to(DEVICE)
    x = torch.randn(40, 256, device=DEVICE).bfloat16()
    expected = layer(x)
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        beside = layer(x)
    torch.cuda.current_stream().wait_stream(side)
    assert torch.equal(beside, expected)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = layer(x)
    x.copy_(torch.randn_like(x))
    graph.replay()
    assert torch.equal(captured, layer(x))
    assert not torch.equal(captured, expected)


def test_compiles_into_one_graph() -> None:
    layer = _layer("W8A8", nn.Linear(256, 96)).to(DEVICE)
    x = torch.randn(2, 20, 256, device=DEVICE).bfloat16()
    assert torch.equal(torch.compile(layer, fullgraph=True)(x), layer(x))

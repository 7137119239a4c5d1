"""quantize_rows.cu in the emulator: bit-equal to the reference without a norm, within a derived bound with one."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from quant.kernels.arguments import Prologue
from quant.kernels.matmuls import quantize_rows as host
from quant.kernels.numerics import LARGEST
from quant.kernels.ops.quantize_rows import reference as quantize_rows_reference
from tests.kernels.emulated import quantize

CODES = [torch.int8, torch.float8_e4m3fn]
INPUTS = [torch.float32, torch.bfloat16, torch.float16]
#: The hardware makes e4m3 on the second; the first has it in software.
ARCHITECTURES = ["sm_80", "sm_89"]
#: One warp a row, four rows a block; rows that do not fill it; several warps; several chunks a thread; the largest.
WIDTHS = [1, 7, 8, 100, 256, 1024, 1100, 1536, 5120, 5123, 16_400, host.LARGEST_K]


def values(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """Rows of very different sizes, one of zeros, ties among them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator) * 2.0 ** torch.randint(-12, 12, (*shape[:-1], 1), generator=generator)
    x.view(-1, shape[-1])[-1] = 0
    x[..., ::5] = (x[..., ::5] * 8).round() / 8
    return x.clamp(-60000, 60000).to(dtype)


def same(found: tuple[torch.Tensor, torch.Tensor], expected: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert [each.shape for each in found] == [each.shape for each in expected]
    assert torch.equal(found[1], expected[1])
    assert torch.equal(found[0].view(torch.uint8), expected[0].view(torch.uint8))


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("k", WIDTHS)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_width_bit_for_bit(k: int, dtype: torch.dtype, arch: str) -> None:
    x = values(5, k, dtype=torch.bfloat16)
    *found, _ = quantize(x, dtype, arch=arch)
    same((found[0], found[1]), quantize_rows_reference(x, dtype, None, Prologue()))


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("of", INPUTS)
@pytest.mark.parametrize("static", [False, True])
def test_every_input_and_strides(of: torch.dtype, dtype: torch.dtype, static: bool) -> None:
    scale = torch.tensor([0.11]) if static else None
    x = values(2, 3, 7, 72, dtype=of)
    for view in (x, x.transpose(0, 2), x[:, :, 1:5, :40], x.mT.contiguous().mT, x[..., 3:20], x[0], x[0, 0], x[:, :0]):
        *found, _ = quantize(view, dtype, scale)
        same((found[0], found[1]), quantize_rows_reference(view, dtype, scale, Prologue()))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_e4m3_number_and_every_tie_between_two(arch: str) -> None:
    numbers = torch.arange(127, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    ties = (numbers[1:] + numbers[:-1]) / 2
    near = torch.cat([numbers, ties, ties.nextafter(torch.tensor(0.0)), ties.nextafter(torch.tensor(1e9))])
    x = torch.cat([near, -near, torch.tensor([1e30, -1e30, 449.0])])[None]
    codes, _, _ = quantize(x, torch.float8_e4m3fn, torch.ones(1), arch=arch)
    assert torch.equal(codes.float(), x.clamp(-448, 448).to(torch.float8_e4m3fn).float())


def test_a_row_too_small_for_a_scale_and_one_too_large() -> None:
    x = torch.tensor([[1e-44, 0.0, -1e-44], [3e38, -1e38, 1.0], [0.0, -0.0, 0.0]])
    for dtype in CODES:
        *found, _ = quantize(x, dtype)
        same((found[0], found[1]), quantize_rows_reference(x, dtype, None, Prologue()))


def modulations(shape: tuple[int, int, int]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """As models have them, for x [B, T, K]."""
    b, t, k = shape
    table = torch.randn(b, 6, k)
    tokens = torch.randn(b, t, 6, k).bfloat16()
    return {
        "a sample": (table[:, 1:2], table[:, 0:1]),
        "a token": (tokens[:, :, 1], tokens[:, :, 0]),
        "all": (torch.randn(k), torch.randn(1, 1, k)),
        "a token of every sample": (torch.randn(t, k), torch.randn(1, t, k)),
        "one number": (torch.randn(b, 1, 1), torch.randn(b, t, 1)),
    }


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("name", modulations((1, 1, 1)))
def test_modulation_and_factor_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    x = values(3, 5, 136, dtype=torch.bfloat16)
    scale, shift = modulations((3, 5, 136))[name]
    prologue = Prologue(torch.rand(136) + 0.5, modulation_scale=scale, modulation_shift=shift)
    *found, _ = quantize(x, dtype, None, prologue)
    same((found[0], found[1]), quantize_rows_reference(x, dtype, None, prologue))


def _spacing(codes: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Half the distance to the next code, at most: what rounding alone may move a value by, in units of the scale."""
    if dtype == torch.int8:
        return torch.full(codes.shape, 0.5, dtype=torch.float64)
    return (codes.double().abs() * 2.0**-4).clamp(min=2.0**-10)


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("k", [40, 77, 1536, 5120])
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_norms_within_a_derived_bound(k: int, norm: str, dtype: torch.dtype, offset: float) -> None:
    """Against float64.

    A thread adds at most 64 numbers, then come 5 shuffles and at most 16 warps: 85 roundings, so a mean is off by at
    most 85 * 2**-24 of the mean magnitude, and half of that again for a factor that is a square root. Together with the
    single operations around them: less than 256 * 2**-24 of what was added.
    """
    generator = torch.Generator().manual_seed(k)
    x = torch.randn(6, k, generator=generator) + offset
    weight, bias, factor = (torch.rand(k, generator=generator) + 0.5 for _ in range(3))
    by, shift = torch.randn(6, k, generator=generator), torch.randn(6, k, generator=generator)
    prologue = Prologue(factor, norm, weight, bias, 1e-6, by, shift)
    codes, scale, _ = quantize(x, dtype, None, prologue)

    wide = x.double()
    mean = wide.mean(-1, keepdim=True) if norm == "layer" else torch.zeros(6, 1).double()
    inverse = ((wide - mean).square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    normed = (wide - mean) * inverse
    expected = ((normed * weight + bias) * (1 + by) + shift) * factor
    off = (normed.abs() + wide.abs().mean(-1, keepdim=True) * inverse) * weight + bias
    slack = 256 * 2.0**-24 * (off * (1 + by).abs() + shift.abs()) * factor
    amax = expected.abs().amax(-1, keepdim=True)
    assert ((scale * LARGEST[dtype] - amax).abs() <= slack.amax(-1, keepdim=True) + amax * 2.0**-22).all()
    assert ((codes.double() * scale - expected).abs() <= _spacing(codes, dtype) * scale + slack).all()


def test_norms_are_torchs() -> None:
    x, weight, bias = torch.randn(4, 512), torch.rand(512), torch.randn(512)
    codes, scale, _ = quantize(x, torch.int8, None, Prologue(None, "layer", weight, bias, 1e-5))
    assert torch.allclose(codes * scale, F.layer_norm(x, (512,), weight, bias, 1e-5), atol=0.51 * scale.max().item())
    codes, scale, _ = quantize(x, torch.int8, None, Prologue(None, "rms", weight, None, 1e-5))
    assert torch.allclose(codes * scale, F.rms_norm(x, (512,), weight, 1e-5), atol=0.51 * scale.max().item())


@pytest.mark.parametrize("k", [256, 1536, 5120])
@pytest.mark.parametrize("dtype", CODES)
def test_one_read_and_one_write(k: int, dtype: torch.dtype) -> None:
    x = torch.randn(8, k).bfloat16()
    _, _, counts = quantize(x, dtype, None, Prologue(norm="layer", eps=1e-6))
    assert counts.global_bytes_read == x.nbytes == counts.global_sectors_read * 32
    assert counts.global_bytes_written == x.numel() + 8 * 4
    assert counts.global_sectors_written * 32 <= x.numel() + 8 * 32
    assert counts.shared_load_conflicts + counts.shared_store_conflicts == 0

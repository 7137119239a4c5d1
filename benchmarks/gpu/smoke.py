"""Launches every kernel of this GPU once on a small ragged shape: what compute-sanitizer watches.

Inputs are made on the CPU and results are read there, so that hardly a kernel runs that is not ours.
"""

from __future__ import annotations

from collections.abc import Iterable

import click
import torch

from quant.kernels import dispatch, ops, reference
from quant.kernels.arguments import Epilogue, Prologue
from quant.kernels.catalog import KERNELS
from quant.kernels.host import quantize_rows as rows_host
from quant.kernels.runtime import availability, cupy_launch

#: Ragged in everything: no multiple of any tile, and K not of the 16 bytes that are copied at once.
M, N, K = 33, 41, 203


def kernels(arch: str) -> list[str]:
    """The names of the kernels that are launched on an architecture."""
    return [kernel.name for kernel in KERNELS if arch in kernel.architectures]


def codes_of(kernel: str) -> Iterable[torch.dtype]:
    """The dtypes of codes that a kernel takes."""
    (implementation,) = (each for each in dispatch.IMPLEMENTATIONS if each.name == kernel)
    named = {dtype for limits in implementation.limits for dtype in limits.dtypes}
    return [dtype for dtype in (torch.int8, torch.float8_e4m3fn) if not named or dtype in named]


def launch_matmul(dtype: torch.dtype, device: torch.device) -> float:
    """All of the epilogue: the relative difference from the reference on the CPU."""
    generator = torch.Generator().manual_seed(0)
    values = [torch.randint(-100, 101, (rows, K), generator=generator).to(dtype) for rows in (M, N)]
    a, b = values
    a_scale, b_scale, bias, gate, residual = (
        torch.rand(shape, generator=generator) / 100 for shape in ((M, 1), (N, 1), (N,), (1, N), (M, N))
    )
    epilogue = Epilogue(a_scale, b_scale, bias, "gelu_tanh", residual, gate.expand(M, N), torch.float32)
    a_, a_scale_, b_, b_scale_, bias_, gate_, residual_ = (
        x.to(device) for x in (a, a_scale, b, b_scale, bias, gate, residual)
    )
    out = ops.scaled_mm(
        a_,
        a_scale_,
        b_,
        b_scale_,
        bias=bias_,
        activation="gelu_tanh",
        residual=residual_,
        gate=gate_,
        out_dtype=torch.float32,
    )
    return _difference(out.cpu(), reference.scaled_mm(a, b, epilogue))


def launch_rows(dtype: torch.dtype, device: torch.device) -> float:
    """LayerNorm with weights, modulation and a factor in front: the relative difference from the reference."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(M, K, generator=generator).to(torch.bfloat16)
    weight, bias, scale, shift = (torch.rand(size, generator=generator) for size in ((K,), (K,), (1, K), (M, K)))
    factor = torch.rand(K, generator=generator) + 0.5
    x_, weight_, bias_, scale_, shift_, factor_ = (t.to(device) for t in (x, weight, bias, scale, shift, factor))
    norm = ops.Norm("layer", weight_, bias_)
    codes, used = ops.quantize_rows(x_, dtype, pre_quant_scale=factor_, norm=norm, modulation=(scale_, shift_))
    prologue = Prologue(factor, "layer", weight, bias, norm.eps, scale, shift)
    wanted, wanted_scale = reference.quantize_rows(x, dtype, None, prologue)
    return _difference(codes.cpu().float() * used.cpu(), wanted.float() * wanted_scale)


def _difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@click.command(help=__doc__)
def main() -> None:
    device = torch.device("cuda", torch.cuda.current_device() if torch.cuda.is_available() else 0)
    reason = availability.reason(device)
    if reason is not None:
        raise click.ClickException(f"no GPU is usable: {reason}")
    wrong = []
    for kernel in kernels(cupy_launch.device_architecture(cupy_launch.device_index(device)).name):
        for dtype in codes_of(kernel):
            with dispatch.only(kernel):
                launch = launch_rows if kernel == rows_host.KERNEL else launch_matmul
                found = launch(dtype, device)
            click.echo(f"{kernel}, {dtype}: differs from the reference by {found:.2g}")
            if not found <= 0.01:
                wrong.append(kernel)
    if wrong:
        raise click.ClickException(f"wrong results: {', '.join(dict.fromkeys(wrong))}")


if __name__ == "__main__":
    main()

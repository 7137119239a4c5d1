"""One launch of a kernel on a small ragged shape, compared with the reference: inputs are made on the CPU and results
are read there, so that hardly a kernel runs that is not ours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from benchmarks.gpu.ours import layout_of
from benchmarks.gpu.weights import pruned
from quant.kernels import dispatch, ops, weight_orders
from quant.kernels.arguments import Epilogue, Int4Weight, Prologue, Sparse24Weight
from quant.kernels.layouts import nibbles, sparse24
from quant.kernels.numerics import CODES
from quant.kernels.ops.int4_mm import reference as int4_mm_reference
from quant.kernels.ops.quantize_rows import reference as quantize_rows_reference
from quant.kernels.ops.scaled_mm import reference as scaled_mm_reference
from quant.kernels.ops.sparse_scaled_mm import reference as sparse_scaled_mm_reference

#: Ragged: rows of the weight, no multiple of any tile.
N = 41


class Case(NamedTuple):
    """What one launch computes.

    Attributes:
        kernel, op: its name, and what it implements.
        dtype: of the codes that it makes, or of its input.
        m, k: rows and columns of the input.
        group: columns that share a scale of a 4-bit weight; 0: one a row.
        asymmetric: has that zero points?
    """

    kernel: str
    op: str
    dtype: torch.dtype
    m: int
    k: int
    group: int = 0
    asymmetric: bool = False

    def __str__(self) -> str:
        kind = f", groups of {self.group}" if self.group else ""
        zeros = ", zero points" if self.asymmetric else ""
        return f"{self.kernel}, {self.dtype}, {self.m} rows{kind}{zeros}"


def launch(case: Case, device: torch.device) -> float:
    """Runs a case on `device` by the op: the relative difference from the reference on the CPU."""
    how = {"quantize_rows": _rows, "scaled_mm": _dense, "sparse_scaled_mm": _sparse, "int4_mm": _int4}
    return how[case.op](case, device)


def run(case: Case, device: torch.device) -> float:
    """`launch`, by the case's kernel and no other."""
    with dispatch.only(case.kernel):
        return launch(case, device)


def epilogue(case: Case, generator: torch.Generator) -> Epilogue:
    """All of an epilogue but codes of the output; scales where codes have them, else 1."""
    a_scale, b_scale, bias, gate, residual = (
        torch.rand(shape, generator=generator) / 100 for shape in ((case.m, 1), (N, 1), (N,), (1, N), (case.m, N))
    )
    one = torch.ones(1, 1)
    codes = case.dtype in CODES
    return Epilogue(
        a_scale if codes else one,
        b_scale if codes and case.op != "int4_mm" else one,
        bias,
        "gelu_tanh",
        residual,
        gate.expand(case.m, N),
        torch.float32,
    )


def int4_weight(case: Case, generator: torch.Generator) -> Int4Weight:
    """Any codes, in the plain order; scales of a float input's own dtype."""
    groups = case.k // case.group if case.group else 1
    codes = torch.randint(-8, 8, (N, case.k), dtype=torch.int8, generator=generator)
    # Not small: what is multiplied must show next to the residual.
    scale = torch.rand(N, groups, generator=generator).to(torch.bfloat16 if case.dtype in CODES else case.dtype)
    zero = torch.randint(-8, 8, (N, groups), dtype=torch.int8, generator=generator) if case.asymmetric else None
    return Int4Weight(nibbles.pack(codes), scale, zero, N)


def _dense(case: Case, device: torch.device) -> float:
    generator = torch.Generator().manual_seed(0)
    a, b = (_values(rows, case, generator) for rows in (case.m, N))
    ending = epilogue(case, generator)
    there = moved(ending, device)
    out = ops.scaled_mm(a.to(device), there.a_scale, b.to(device), there.b_scale, **_ending(there))
    return _difference(out.cpu(), scaled_mm_reference(a, b, ending))


def _sparse(case: Case, device: torch.device) -> float:
    generator = torch.Generator().manual_seed(0)
    a = _values(case.m, case, generator)
    # Chosen as numbers that every dtype holds: not every operation is there for e4m3.
    dense = pruned(_numbers(N, case, generator)).to(case.dtype)
    ending = epilogue(case, generator)
    plain = Sparse24Weight(*sparse24.compress(dense), N)
    weight = weight_orders.packed(plain, layout_of(case.kernel), case.k)
    there, codes = moved(ending, device), case.dtype in CODES
    out = ops.sparse_scaled_mm(
        a.to(device),
        there.a_scale if codes else None,
        weight.values.to(device),
        weight.meta.to(device),
        there.b_scale if codes else None,
        **_ending(there),
        layout=weight.layout,
        n=N,
    )
    return _difference(out.cpu(), sparse_scaled_mm_reference(a, plain, ending))


def _int4(case: Case, device: torch.device) -> float:
    generator = torch.Generator().manual_seed(0)
    a = _values(case.m, case, generator)
    plain = int4_weight(case, generator)
    ending = epilogue(case, generator)
    weight = weight_orders.packed(plain, layout_of(case.kernel), case.k)
    there = moved(ending, device)
    out = ops.int4_mm(
        a.to(device),
        weight.packed.to(device),
        weight.scale.to(device),
        None if weight.zero is None else weight.zero.to(device),
        a_scale=there.a_scale if case.dtype in CODES else None,
        **_ending(there),
        layout=weight.layout,
        n=N,
    )
    return _difference(out.cpu(), int4_mm_reference(a, plain, ending))


def _rows(case: Case, device: torch.device) -> float:
    """LayerNorm with weights, modulation and a factor in front."""
    generator, (m, k) = torch.Generator().manual_seed(1), case[3:5]
    x = torch.randn(m, k, generator=generator).to(torch.bfloat16)
    weight, bias, scale, shift = (torch.rand(size, generator=generator) for size in ((k,), (k,), (1, k), (m, k)))
    factor = torch.rand(k, generator=generator) + 0.5
    x_, weight_, bias_, scale_, shift_, factor_ = (t.to(device) for t in (x, weight, bias, scale, shift, factor))
    norm = ops.Norm("layer", weight_, bias_)
    codes, used = ops.quantize_rows(x_, case.dtype, pre_quant_scale=factor_, norm=norm, modulation=(scale_, shift_))
    prologue = Prologue(factor, "layer", weight, bias, norm.eps, scale, shift)
    wanted, wanted_scale = quantize_rows_reference(x, case.dtype, None, prologue)
    return _difference(codes.cpu().float() * used.cpu(), wanted.float() * wanted_scale)


def _numbers(rows: int, case: Case, generator: torch.Generator) -> torch.Tensor:
    """Whole numbers that INT8 holds, float32 [rows, k]."""
    return torch.randint(-100, 101, (rows, case.k), generator=generator).float()


def _values(rows: int, case: Case, generator: torch.Generator) -> torch.Tensor:
    return _numbers(rows, case, generator).to(case.dtype)


def _ending(there: Epilogue) -> dict[str, Any]:
    """Of the ops' keywords, all that is no scale."""
    names = ("bias", "activation", "residual", "gate", "out_dtype")
    return {name: getattr(there, name) for name in names}


def moved(ending: Epilogue, device: torch.device) -> Epilogue:
    """Its tensors on a device."""
    values: list[Any] = [x.to(device) if isinstance(x, torch.Tensor) else x for x in ending]
    return Epilogue(*values)


def _difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())

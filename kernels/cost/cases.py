"""What is counted: the matmul of a layer by the kernel that would run it, with the tile that it would take.

Everything on tensors without data: a plan needs their sizes only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from quant.kernels import tile_tables
from quant.kernels.arguments import SCALE_BLOCK, Epilogue
from quant.kernels.limits import Call
from quant.kernels.matmuls.base import FP8, Matmul, Tile
from quant.kernels.matmuls.table import matmuls
from quant.kernels.numerics import CODES
from quant.kernels.runtime.architectures import ARCHITECTURES, Architecture
from quant.kernels.runtime.launch import Launch

_META = torch.device("meta")


class Size(NamedTuple):
    """out [m, n] = a [m, k] b [n, k]^T."""

    m: int
    n: int
    k: int


class Ending(NamedTuple):
    """What follows a matmul.

    Attributes:
        name: of it.
        follows: given a kernel, does it ever?
        epilogue: of a result [m, n] of a kernel, K columns deep.
    """

    name: str
    follows: Callable[[Matmul[Any]], bool]
    epilogue: Callable[[Matmul[Any], Size], Epilogue]


class Case(NamedTuple):
    """One matmul on one architecture.

    Attributes:
        kernel: which one.
        architecture: of the GPU.
        size: of the matmul.
        ending: what follows.
        tile: how it is cut.
        launch: what would run.
    """

    kernel: Matmul[Any]
    architecture: Architecture
    size: Size
    ending: Ending
    tile: Tile
    launch: Launch


def _floats(*size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(size, dtype=dtype, device=_META)


def _scaled(kernel: Matmul[Any], size: Size, **more: Any) -> Epilogue:
    codes = kernel.dtypes[0] in CODES
    dense = codes and not kernel.own_limits.group_sizes
    return Epilogue(_floats(size.m if codes else 1, 1), _floats(size.n if dense else 1, 1), **more)


def _bias(kernel: Matmul[Any], size: Size, **more: Any) -> Epilogue:
    return _scaled(kernel, size, bias=_floats(size.n, dtype=torch.bfloat16), **more)


def _residual(kernel: Matmul[Any], size: Size) -> Epilogue:
    """The gate is one row a sample, as a modulated block has it."""
    residual = _floats(1, size.m, size.n, dtype=torch.bfloat16)
    gate = _floats(1, 1, size.n, dtype=torch.bfloat16).expand(residual.shape)
    return _bias(kernel, size, residual=residual, gate=gate)


def _codes(kernel: Matmul[Any], size: Size) -> Epilogue:
    return _bias(kernel, size, activation="gelu_tanh", out_dtype=kernel.dtypes[0], out_scale=_floats(1))


def _by_block(kernel: Matmul[Any], size: Size) -> Epilogue:
    n, k = (-(-each // SCALE_BLOCK) for each in size[1:])
    return Epilogue(_floats(size.m, k), _floats(n, k), bias=_floats(size.n, dtype=torch.bfloat16))


def _always(kernel: Matmul[Any]) -> bool:
    return True


#: What follows the matmuls of a video model, all in bf16 but for codes of the next layer.
ENDINGS: tuple[Ending, ...] = (
    Ending("bias", _always, _bias),
    Ending("bias, gate, residual", _always, _residual),
    Ending("bias, GELU", _always, lambda kernel, size: _bias(kernel, size, activation="gelu_tanh")),
    Ending("bias, GELU, codes", lambda kernel: kernel.dtypes[0] in CODES, _codes),
    Ending("bias, scales by block", lambda kernel: kernel.op == "scaled_mm" and FP8 in kernel.dtypes, _by_block),
)


def runs(kernel: Matmul[Any], arch: str, size: Size) -> bool:
    """Is this kernel the first that accepts a matmul of its own op and dtype on an architecture?"""
    call = Call(kernel.op, "cuda", kernel.dtypes[0], *size, capability=ARCHITECTURES[arch].capability)
    return next((each for each in matmuls().values() if _accepts(each, call)), None) is kernel


def _accepts(kernel: Matmul[Any], call: Call) -> bool:
    return kernel.op == call.op and kernel.limits.refusal(call) is None


def case(kernel: Matmul[Any], arch: str, size: Size, ending: Ending, tile: Tile | None = None) -> Case:
    """A matmul by a kernel; with the tile that it would take, where none is given."""
    architecture = ARCHITECTURES[arch]
    multiprocessors = architecture.multiprocessors
    epilogue = ending.epilogue(kernel, size)
    if tile is None:
        fine = epilogue.has_block_scales(size.n, size.k)
        tile = tile_tables.choose(kernel.name, *size, architecture, multiprocessors, fine_scales=fine).tile
    a = torch.empty(size.m, size.k, dtype=kernel.dtypes[0], device=_META)
    weight, _ = kernel.random_weight(size.n, size.k, _META)
    launch = kernel.plan(a, weight, epilogue, tile, multiprocessors=multiprocessors).launch
    return Case(kernel, architecture, size, ending, tile, launch)


def cases(kernel: Matmul[Any], arch: str, sizes: Iterable[Size], endings: Sequence[Ending] = ENDINGS) -> Iterator[Case]:
    """Every matmul of these sizes that the kernel would run on an architecture, with each of these that may follow."""
    for size in dict.fromkeys(sizes):
        if runs(kernel, arch, size):
            yield from (case(kernel, arch, size, ending) for ending in endings if ending.follows(kernel))

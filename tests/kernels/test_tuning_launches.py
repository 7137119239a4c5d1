"""Operands to tune with are what the op itself would take, in the order its kernel reads, and no NaN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from quant.kernels import weight_orders
from quant.kernels.arguments import Epilogue, Int4Weight, Sparse24Weight
from quant.kernels.dispatch import Call, implementations
from quant.kernels.layouts import nibbles, sparse24
from quant.kernels.matmuls import mma_gemm, random_operands, sm90_gemm
from quant.kernels.matmuls.random_operands import GROUP
from quant.kernels.matmuls.table import matmuls
from quant.kernels.numerics import CODES
from quant.kernels.ops.int4_mm import Arguments as Int4Arguments
from quant.kernels.ops.int4_mm import check as int4_check
from quant.kernels.ops.scaled_mm import Arguments as ScaledArguments
from quant.kernels.ops.scaled_mm import check as scaled_check
from quant.kernels.ops.sparse_scaled_mm import Arguments as SparseArguments
from quant.kernels.ops.sparse_scaled_mm import check as sparse_check
from quant.kernels.runtime.architectures import architecture
from quant.kernels.tuning import Size, planned
from tests.kernels.packed_cases import KINDS

CPU = torch.device("cpu")
DENSE = tuple(kernel.name for kernel in (*mma_gemm.KERNELS, *sm90_gemm.KERNELS))
#: Rows and columns that nothing divides, with several groups of columns, and without.
SIZES = ((77, 41, 2 * GROUP), (1, 300, 100))
OF = {each.name: each for each in implementations()}


def first_architecture(name: str) -> str:
    return matmuls()[name].architectures[0]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the host sides are given: kernel, a, weight, epilogue, tile."""
    found: list[tuple[Any, ...]] = []
    for skeleton in {type(kernel) for kernel in matmuls().values()}:

        def noting(*arguments: Any, plan: Callable[..., Any] = skeleton.plan, **options: Any) -> Any:
            found.append(arguments)
            return plan(*arguments, **options)

        monkeypatch.setattr(skeleton, "plan", noting)
    return found


def test_every_kernel_with_tiles_is_here() -> None:
    assert {name for name, each in OF.items() if each.compiled and name in matmuls()} == {*DENSE, *KINDS}


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", [*DENSE, *KINDS])
def test_every_tile_has_a_launch_of_operands_that_the_op_takes(
    name: str, size: tuple[int, int, int], given: list[tuple[Any, ...]]
) -> None:
    m, n, k = size
    fitting = matmuls()[name].tiles(architecture(first_architecture(name)))
    for tile in fitting:
        found = planned(Size(name, *size), tile, CPU, 10)
        assert found.launch.build.kernel == name
        assert found.launch.block == (tile.threads, 1)
        assert (found.out.shape, found.out.dtype) == ((m, n), torch.bfloat16)
    assert [each[4] for each in given] == list(fitting)
    for _, a, weight, epilogue, _ in given:
        assert a.shape == (m, k)
        group = _checked(a, weight, epilogue)
        capability = architecture(first_architecture(name)).capability
        layout = getattr(weight, "layout", "")
        # Of few tokens a kernel that is not offered for them may be asked for all the same: its table is its own.
        call = Call(OF[name].op, "cuda", a.dtype, 500, n, k, capability, group=group, layout=layout)
        assert OF[name].refusal(call) is None


def _checked(a: torch.Tensor, weight: Any, epilogue: Epilogue) -> int:
    """By the checks of the op, which raise; the columns that share a scale, 0 where a row has one."""
    ending = [None, "none", None, None, epilogue.out_dtype, None]
    a_scale, b_scale = (each if a.dtype in CODES else None for each in (epilogue.a_scale, epilogue.b_scale))
    given: list[Any]
    if isinstance(weight, Int4Weight):
        given = [a, a_scale, weight.packed, weight.scale, weight.zero, *ending, weight.layout, weight.n]
        int4_check(Int4Arguments(*given))
        return a.shape[1] // weight.groups if weight.groups > 1 else 0
    if isinstance(weight, Sparse24Weight):
        given = [a, a_scale, weight.values, weight.meta, b_scale, *ending, False, weight.layout, weight.n]
        sparse_check(SparseArguments(*given))
    else:
        given = [a, epilogue.a_scale, weight, epilogue.b_scale, *ending]
        scaled_check(ScaledArguments(*given))
    return 0


@pytest.mark.parametrize("name", KINDS)
def test_groups_are_those_of_the_usual_scheme_where_they_fit(name: str, given: list[tuple[Any, ...]]) -> None:
    kind = KINDS[name]
    tile = matmuls()[name].tiles(architecture(first_architecture(name)))[0]
    for m, n, k in SIZES:
        planned(Size(name, m, n, k), tile, CPU, 10)
        weight = given[-1][2]
        if not kind.sparse:
            assert weight.groups == (k // GROUP if k % GROUP == 0 else 1)
            assert weight.scale.dtype == torch.bfloat16


@pytest.mark.parametrize("name", KINDS)
def test_a_weight_is_one_that_can_be_taken_apart(name: str, given: list[tuple[Any, ...]]) -> None:
    """Metadata of two different columns in order, also where K/4 is odd; codes of every kind."""
    tile = matmuls()[name].tiles(architecture(first_architecture(name)))[0]
    n, k = 41, 100
    planned(Size(name, 77, n, k), tile, CPU, 10)
    ((_, a, weight, *_),) = given
    plain = weight_orders.plain(weight, k)
    assert torch.isfinite(a.float()).all()
    assert a.float().std() > 0.5
    if isinstance(plain, Sparse24Weight):
        dense = sparse24.decompress(plain.values, plain.meta, k)
        assert sparse24.is_24(dense)
        assert torch.isfinite(dense.float()).all()
        kept = (dense.float() != 0).view(n, k // 4, 4).float().mean((0, 1))
        assert kept[1] == kept[2] == 0
        assert min(kept[0], kept[3]) > 0.9
        first_and_last = torch.tensor([1.0, 0, 0, 1]).repeat(n, k // 4)
        assert torch.equal(plain.meta, sparse24.compress(first_and_last)[1])
        return
    assert torch.isfinite(plain.scale.float()).all()
    codes = nibbles.unpack(plain.packed, k)
    assert set(codes.flatten().tolist()) == set(range(-8, 8))


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_codes_are_of_either_sign_and_none_is_nan(dtype: torch.dtype) -> None:
    codes = random_operands.values(300, 200, dtype, CPU)
    assert (codes.shape, codes.dtype) == ((300, 200), dtype)
    assert torch.isfinite(codes.float()).all()
    assert 0.4 < (codes.float() > 0).float().mean() < 0.6
    assert len(set(codes.view(torch.int8).flatten().tolist())) == (201 if dtype == torch.int8 else 200)

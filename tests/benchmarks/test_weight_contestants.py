"""Contestants with 2:4 and 4-bit weights, on the CPU: ours by the reference, torch's own by functions made up here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks.gpu import matmuls, ours, ours_weights, torch_eager, torch_int4, torch_sparse
from benchmarks.gpu.budget import Budget, Purse
from benchmarks.gpu.contestants import BASELINE, COMPILATIONS, FORMATS, Contestant
from benchmarks.gpu.entries import Entry
from benchmarks.gpu.inputs import Inputs
from benchmarks.gpu.shapes import Shape
from benchmarks.gpu.timing import Run
from quant.kernels import dispatch
from tests.kernels.packed_cases import KINDS

CPU = torch.device("cpu")
SHAPE = Shape("m", "ffn up", 43, 40, 512, "gelu_tanh", autotuned=True)
INPUTS = Inputs(SHAPE, CPU)
HOPPER = (9, 0)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def timer(run: Run) -> float:
    run()
    return 0.001


def measure(
    found: list[Contestant], inputs: Inputs = INPUTS, seconds: float = 0.0
) -> dict[tuple[str, str, str], Entry]:
    base = [each for each in torch_eager.contestants(inputs) if each.name == BASELINE]
    entries = matmuls.measure(inputs, [*base, *found], timer, Budget(0.0), Purse(seconds, COMPILATIONS))
    return {(each.name, each.format, each.mode): each for each in entries if each.name != BASELINE}


@pytest.mark.parametrize("capability", [(8, 0), (8, 9), HOPPER])
def test_every_kernel_of_the_table_is_a_contestant(capability: tuple[int, int]) -> None:
    found = ours_weights.contestants(INPUTS, capability)
    assert {each.name for each in found} == {f"quant {name}" for name in KINDS}
    assert {each.format for each in found} == {
        format_name for format_name, (_, _, weight) in FORMATS.items() if weight != "dense"
    }
    assert all({mode.mode for mode in found if mode.name == each.name} == {"bare", "used"} for each in found)
    refused = {each.name for each in found if each.refusal is not None}
    here = {each.name for each in dispatch.implementations() if capability in each.limits[0].capabilities}
    assert {f"quant {name}" for name in KINDS if name not in here} == refused


def test_few_rows_are_left_to_the_kernels_for_few() -> None:
    few = Inputs(SHAPE._replace(m=16), CPU)
    refusals = {each.name: each.refusal for each in ours_weights.contestants(few, HOPPER)}
    assert refusals["quant sm90_w4a16_gemm"] == "needs M >= 33, got 16"
    assert refusals["quant sm80_w4a16_gemm"] is None


@pytest.mark.parametrize("m", [43, 1])
def test_the_ops_are_given_the_layer_they_are_compared_with(m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With any implementation allowed the reference runs, on weights in the orders of the kernels."""
    monkeypatch.setattr(dispatch, "only", lambda *names: nullcontext())
    inputs = Inputs(SHAPE._replace(m=m), CPU)
    found = [replace(each, refusal=None) for each in ours_weights.contestants(inputs, HOPPER)]
    entries = measure(found, inputs)
    assert len(entries) == 2 * (len(KINDS))
    assert {key: each.reason for key, each in entries.items() if each.outcome != "timed"} == {}


def test_a_dense_result_is_wrong_in_the_place_of_a_sparse_one() -> None:
    """And a sparse one in that of four bits: each is compared with its own weight."""
    x = INPUTS.x
    for format_name, weight, right in (
        ("2:4 bf16", INPUTS.weight, False),
        ("2:4 bf16", INPUTS.pruned, True),
        ("w4a16", INPUTS.weight, False),
        ("w4a16", INPUTS.dequantized, True),
    ):
        given = Contestant("x", format_name, "bare", lambda weight=weight: lambda: x @ weight.T)  # type: ignore[misc]
        assert measure([given])["x", format_name, "bare"].outcome == ("timed" if right else "wrong")


def test_which_order_a_kernel_reads() -> None:
    assert ours.layout_of("sm90_sparse_fp8_gemm") == "wgmma_sparse24"
    assert ours.layout_of("sm80_sparse_int8_gemm") == "mma_sparse24"
    assert ours.layout_of("sm80_w4a16_gemm") == "int4_fragments_16"
    assert ours.layout_of("sm90_w4afp8_gemm") == "int4_fragments_8"


class Library:
    """cuSPARSELt as torch calls it: checks what it is given, and multiplies the dense weight."""

    def __init__(self) -> None:
        self.algorithms: list[int] = []
        self.searched = 0

    def compress(self, weight: torch.Tensor) -> torch.Tensor:
        assert ((weight.float().reshape(-1, 4) != 0).sum(1) <= 2).all()
        return weight

    def multiply(
        self,
        packed: torch.Tensor,
        dense: torch.Tensor,
        bias: torch.Tensor | None = None,
        alpha: torch.Tensor | None = None,
        out_dtype: torch.dtype | None = None,
        transpose_result: bool = False,
        alg_id: int = 0,
    ) -> torch.Tensor:
        assert dense.shape[1] % {2: 8, 1: 16}[dense.itemsize] == 0
        assert dense.stride(0) == 1
        assert (out_dtype is not None) == (dense.itemsize == 1)
        assert alpha is None or (alpha.shape == (len(packed),) and alpha.is_contiguous())
        self.algorithms.append(alg_id)
        out = packed.float() @ dense.float()
        out = out if alpha is None else out * alpha.reshape(-1, 1)
        out = (out if bias is None else out + bias.float().reshape(-1, 1)).to(out_dtype or dense.dtype)
        return out.T.contiguous() if transpose_result else out

    def search(self, packed: torch.Tensor, dense: torch.Tensor, **_: Any) -> int:
        self.searched += 1
        return 7


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    found = Library()
    monkeypatch.setattr(torch, "_cslt_compress", found.compress)
    monkeypatch.setattr(torch, "_cslt_sparse_mm", found.multiply)
    monkeypatch.setattr(torch, "_cslt_sparse_mm_search", found.search)
    monkeypatch.setattr(torch_sparse, "missing", lambda: None)
    return found


NAME = "torch._cslt_sparse_mm"


@pytest.mark.parametrize("m", [43, 1, 64])
def test_cusparselt_multiplies_the_same_layer(library: Library, m: int) -> None:
    inputs = Inputs(SHAPE._replace(m=m), CPU)
    found = measure([each for each in torch_sparse.contestants(inputs) if NAME in each.name], inputs, seconds=99.0)
    assert {key: each.reason for key, each in found.items() if each.outcome != "timed"} == {}
    assert set(found) == {
        *((NAME, f"2:4 {format_name}", mode) for format_name in ("bf16", "int8", "fp8") for mode in ("bare", "used")),
        *((f"{NAME} per tensor", f"2:4 {format_name}", "bare") for format_name in ("int8", "fp8")),
        (f"{NAME} searched", "2:4 bf16", "bare"),
        *((f"{NAME} per tensor searched", f"2:4 {format_name}", "bare") for format_name in ("int8", "fp8")),
    }
    assert library.searched == 3
    assert set(library.algorithms) == {0, 7}


def test_a_search_has_to_be_paid_for_and_is_for_some_shapes(library: Library) -> None:
    found = torch_sparse.contestants(INPUTS)
    assert {each.compiles for each in found if "searched" in each.name} == {"cuSPARSELt search"}
    outcome = measure(found)[f"{NAME} searched", "2:4 bf16", "bare"]
    assert outcome.outcome == "skipped"
    assert library.searched == 0
    other = Inputs(SHAPE._replace(autotuned=False), CPU)
    assert not any("searched" in each.name for each in torch_sparse.contestants(other))


def test_without_the_library_its_contestants_are_listed_with_the_reason() -> None:
    assert torch_sparse.missing() == "this torch has no cuSPARSELt"
    found = measure(torch_sparse.contestants(INPUTS))
    reasons = {each.reason for key, each in found.items() if "CUTLASS" not in key[0]}
    assert reasons == {"this torch has no cuSPARSELt"}
    cutlass = found["torch CUTLASS 2:4", "2:4 bf16", "bare"]
    assert (cutlass.outcome, "cpu is not supported" in str(cutlass.reason)) == ("failed", True)


def test_tokens_are_padded_with_zeros() -> None:
    for x in (INPUTS.x, INPUTS.codes("int8").a, INPUTS.codes("fp8").a):
        wide = torch_sparse.padded(x)
        assert len(wide) == 48
        assert torch.equal(wide[:43].view(torch.int8), x.view(torch.int8))
        assert (wide[43:].float() == 0).all()
        assert torch_sparse.padded(wide) is wide


def test_torchs_4_bit_matmul_has_our_codes_and_scales() -> None:
    inputs = Inputs(SHAPE._replace(n=32), CPU)  # a multiple of 16, for the CPU's
    found = measure(torch_int4.contestants(inputs), inputs)
    assert {each.outcome for each in found.values()} == {"timed"}
    many = Inputs(SHAPE._replace(m=torch_int4.MOST_ROWS + 1), CPU)
    (reason,) = {each.refusal for each in torch_int4.contestants(many)}
    assert reason == "only tried on up to 512 rows, for time, not on 513"

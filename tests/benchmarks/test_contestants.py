"""Every contestant on the CPU, where most can run: right ones are timed, all others listed with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import pytest
import torch

from benchmarks.gpu import expressions, libraries, matmuls, ours, rows, torch_compiled, torch_eager
from benchmarks.gpu.budget import Budget, Purse
from benchmarks.gpu.contestants import BASELINE, COMPILATIONS, FORMATS, Call, Contestant
from benchmarks.gpu.entries import Entry
from benchmarks.gpu.inputs import Inputs
from benchmarks.gpu.shapes import Rows, Shape
from benchmarks.gpu.timing import Run

CPU = torch.device("cpu")
SHAPE = Shape("m", "ffn up", 40, 32, 512, "gelu_tanh", autotuned=True)
INPUTS = Inputs(SHAPE, CPU)


#: What torch before 2.12 says of scales by row on a CPU; a GPU has them.
OLD_TORCH = "only supports per-tensor scaling for CPU backend"
#: How many contestants it is said of.
OLD = 2 * (tuple(map(int, torch.__version__.split(".")[:2])) < (2, 12))


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def timer(run: Run) -> float:
    run()
    return 0.001


def measure(found: list[Contestant]) -> dict[tuple[str, str, str], Entry]:
    entries = matmuls.measure(INPUTS, found, timer, Budget(0.0), Purse(0.0, COMPILATIONS))
    return {(each.name, each.format, each.mode): each for each in entries}


def test_all_of_them_are_listed_and_those_that_run_here_are_right() -> None:
    found = measure(matmuls.contestants(INPUTS, (9, 0)))
    assert next(iter(found))[0] == BASELINE
    for each in torch_eager.contestants(INPUTS):
        entry = found[each.name, each.format, each.mode]
        if OLD_TORCH in str(entry.reason):
            continue
        assert (entry.outcome, entry.reason) == ("timed", None)
        assert entry.seconds is not None
        assert entry.seconds.median == 0.001
    for name, format_name in (("sm80_int8_gemm", "int8"), ("sm90_int8_gemm", "int8"), ("sm90_fp8_gemm", "fp8")):
        assert found[f"quant {name}", format_name, "used"].outcome == "failed"
    refused = found["quant sm89_fp8_gemm", "fp8", "bare"]
    assert (refused.outcome, refused.reason) == ("refused", "runs on sm_89, not on sm_90")
    assert found["torchao", "int8", "used"].reason == "the package torchao is not installed"
    if find_spec("sdnq") is None:
        assert found["SDNQ", "fp8", "used"].reason == "the package sdnq is not installed"
    assert found["quant sm80_w4a16_gemm", "w4a16", "bare"].outcome == "failed"
    assert found["torch._cslt_sparse_mm", "2:4 int8", "used"].reason == "this torch has no cuSPARSELt"
    assert found["torch._weight_int4pack_mm", "w4a16", "used"].outcome == "timed"
    assert {format_name for _, format_name, _ in found} == set(FORMATS)
    skipped = found["torch.compile max-autotune", "bf16", "used"]
    assert skipped.outcome == "skipped"
    assert "no time to compile" in str(skipped.reason)
    assert all((each.reason is None) == (each.outcome == "timed") for each in found.values())
    assert all((each.seconds is not None) == (each.outcome == "timed") for each in found.values())


def test_one_row_runs_by_the_same_contestants() -> None:
    inputs = Inputs(SHAPE._replace(m=1), CPU)
    found = matmuls.measure(inputs, torch_eager.contestants(inputs), timer, Budget(0.0), Purse(0.0, {}))
    assert [each.reason for each in found if OLD_TORCH not in str(each.reason)] == [None] * (8 - OLD)


def test_kernels_of_each_architecture() -> None:
    fp8, int8 = (partial(ours.kernels, dtype, 64, 64, 64) for dtype in (torch.float8_e4m3fn, torch.int8))
    assert fp8((8, 9)) == [("sm90_fp8_gemm", "runs on sm_90, not on sm_89"), ("sm89_fp8_gemm", None)]
    assert int8((8, 0)) == [("sm90_int8_gemm", "runs on sm_90, not on sm_80"), ("sm80_int8_gemm", None)]
    assert int8((9, 0)) == [("sm90_int8_gemm", None), ("sm80_int8_gemm", None)]
    assert fp8((9, 0)) == [("sm90_fp8_gemm", None), ("sm89_fp8_gemm", "runs on sm_89, not on sm_90")]


def baseline() -> list[Contestant]:
    return [each for each in torch_eager.contestants(INPUTS) if each.name == BASELINE]


def contestant(result: torch.Tensor) -> Contestant:
    return Contestant("x", "int8", "used", lambda: lambda: result)


def test_wrong_ones_are_not_timed() -> None:
    right = expressions.bf16(INPUTS.x, INPUTS.weight, INPUTS.bias, "gelu_tanh")
    tail = right.clone()
    tail[-1] *= 100
    for result, says in (
        (right, "nothing was quantized"),
        (tail, "relative error"),
        (right * torch.nan, "relative error nan"),
        (right.float(), "of torch.float32"),
        (right[:-1], "gives [39, 32]"),
    ):
        entry = measure([*baseline(), contestant(result)])["x", "int8", "used"]
        assert entry.outcome == "wrong"
        assert says in str(entry.reason)
        assert entry.seconds is None
        assert entry.to_dict()["relative_error"] is None or entry.relative_error == entry.relative_error


def test_without_torchs_result_nothing_is_called_right() -> None:
    found = measure([each for each in torch_eager.contestants(INPUTS) if each.name != BASELINE])
    entry = found["torch._int_mm", "int8", "used"]
    assert entry.outcome == "wrong"
    assert "missing" in str(entry.reason)


def test_compilations_are_paid_for_and_give_their_time_back() -> None:
    now = 0.0
    (int8,) = (each for each in torch_eager.contestants(INPUTS) if (each.format, each.mode) == ("int8", "used"))

    def prepare() -> Call:
        nonlocal now
        now += 30.0
        return int8.prepare()

    purse = Purse(70.0, {"torch.compile": 20.0})
    found = [replace(int8, name=f"c{i}", prepare=prepare, compiles="torch.compile") for i in range(3)]
    budget = Budget(10.0, lambda: now)
    entries = matmuls.measure(INPUTS, [*baseline(), *found], timer, budget, purse, clock=lambda: now)
    assert [each.outcome for each in entries] == ["timed", "timed", "timed", "timed", "skipped"]
    assert purse.left == 10.0
    assert budget.left() == 10.0


def test_the_expressions_compile_into_one_graph_for_all_sizes() -> None:
    layers = {"int8": expressions.int8_layer, **({} if OLD else {"fp8": expressions.fp8_layer})}
    for format_name, layer in layers.items():
        compiled = torch.compile(layer, dynamic=True, fullgraph=True, backend="eager")
        for m in (1, 40):
            _, _, b, b_scale = INPUTS.codes(format_name)
            arguments = (INPUTS.x[:m], b, b_scale, INPUTS.bias, "gelu_tanh")
            assert compiled(*arguments).equal(layer(*arguments))


def test_a_library_is_given_the_same_layer() -> None:
    used = expressions.bf16(INPUTS.x, INPUTS.weight, INPUTS.bias, "gelu_tanh")
    assert libraries.layer(INPUTS)(INPUTS.x).equal(used)


def test_only_autotuned_shapes_are_autotuned() -> None:
    other = Inputs(SHAPE._replace(autotuned=False), CPU)
    assert [each.compiles for each in torch_compiled.contestants(other)] == ["torch.compile"] * 3
    assert all(each.compiles in COMPILATIONS for each in torch_compiled.contestants(INPUTS))


def test_rows_are_checked_and_timed() -> None:
    size = Rows(40, 64, False)
    found = rows.measure(rows.make(size, CPU), size, timer, Budget(0.0), Purse(9.0, COMPILATIONS), (9, 0))
    outcomes = {(each.name, each.format, each.mode): each.outcome for each in found}
    assert len(outcomes) == 3 * 2 * 2
    assert {outcome for (name, _, _), outcome in outcomes.items() if name == "torch"} == {"timed"}
    assert {outcome for (name, _, _), outcome in outcomes.items() if name == "torch.compile"} == {"skipped"}
    assert {outcome for (name, _, _), outcome in outcomes.items() if name.startswith("quant")} == {"failed"}
    assert rows.moved_bytes(size, "plain") == 40 * 64 * 3 + 160
    assert rows.moved_bytes(size, "norm") == 40 * 64 * 3 + 160 + 256


def test_rows_compile_into_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    size = Rows(40, 64, True)
    found = rows.measure(rows.make(size, CPU), size, timer, Budget(0.0), Purse(99.0, COMPILATIONS), (9, 0))
    assert [each.reason for each in found if each.name == "torch.compile"] == [None] * 4


def test_wrong_rows_are_told() -> None:
    inputs = rows.make(Rows(40, 64, False), CPU)
    codes, scale = expressions.quantized(inputs.x, torch.int8)
    key = ("x", "int8", "plain")
    assert rows._checked(key, inputs, (codes, scale)).reason is None
    assert "relative error" in str(rows._checked(key, inputs, (codes, scale.roll(1, 0))).reason)
    assert "gives" in str(rows._checked(key, inputs, (codes, scale[:1])).reason)
    # The same codes are wrong behind a norm.
    assert "relative error" in str(rows._checked(("x", "int8", "norm"), inputs, (codes, scale)).reason)

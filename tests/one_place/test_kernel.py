"""A kernel, an implementation and an op that only this file knows are chosen, explained, listed, tuned and run."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch

from benchmarks.gpu import builds, smoke
from quant.api.explain import explain, overview
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from quant.kernels import dispatch, ops, tile_tables, tuning
from quant.kernels.arguments import Epilogue
from quant.kernels.cost.model import Work
from quant.kernels.host.operands import Multiplied
from quant.kernels.host.structures import Rows
from quant.kernels.limits import Call, Implementation, Limits
from quant.kernels.matmuls import table
from quant.kernels.matmuls.base import ANY_SIZE, INT8
from quant.kernels.matmuls.gemm import Gemm
from quant.kernels.ops.base import Op
from quant.kernels.ops.scaled_mm import reference as scaled_mm_reference
from quant.kernels.runtime.architectures import ARCHITECTURES, Architecture
from quant.kernels.runtime.launch import Build, Launch
from tests.kernels.emulated_gpu import pretended


class Square(NamedTuple):
    """A tile."""

    side: int

    @property
    def m(self) -> int:
        return self.side

    @property
    def n(self) -> int:
        return self.side

    @property
    def threads(self) -> int:
        return 32

    @property
    def sums(self) -> int:
        return self.side**2 // 32

    def __str__(self) -> str:
        return f"a square of {self.side}"


class ToyGemm(Gemm[Square]):
    """A skeleton: its launches carry the address of the result."""

    tile = Square
    macros = ("SIDE",)

    def tiles(self, architecture: Architecture, *, fine_scales: bool = False) -> list[Square]:
        return [Square(8), Square(16)]

    def bytes_of(self, tile: Square) -> int:
        return tile.side

    def work(self, tile: Square, m: int, n: int, k: int, architecture: Architecture, multiprocessors: int) -> Work:
        """The nearer its side to M, the fewer steps."""
        steps = abs(m - tile.side)
        return Work(1, multiprocessors, 1, 1, steps, 64, 1, 0, 0, (0, 1), not_overlapped=0, fill=1, finish=0)

    def epilogue_rounds(self, tile: Square) -> int:
        return 1

    def plan(
        self, a: torch.Tensor, weight: torch.Tensor, epilogue: Epilogue, tile: Square, *, multiprocessors: int
    ) -> Multiplied:
        out = scaled_mm_reference(a, weight, epilogue)
        launch = Launch(self.build(tile), 1, (tile.threads, 1), self.bytes_of(tile), Rows())
        return Multiplied(launch, out, [a, weight])

    def builds(self, arch: str) -> tuple[Build, ...]:
        return tuple(self.build(tile) for tile in self.tiles(ARCHITECTURES[arch]))

    def max_registers(self, build: Build) -> int:
        return 255


TOY = ToyGemm("toy_int8_gemm", "scaled_mm", "a toy", (INT8,), ("sm_80",), ANY_SIZE, "TOY")


class TestKernel:
    """A row of the table of kernels."""

    @pytest.fixture(autouse=True)
    def listed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(table, "KERNELS", (TOY, *table.KERNELS))

    def test_the_op_runs_by_it(self) -> None:
        a, b = (torch.randint(-127, 128, (rows, 64), dtype=INT8) for rows in (20, 24))
        scales, launched = (torch.rand(20, 1), torch.rand(24, 1)), list[Build]()
        expected = scaled_mm_reference(a, b, Epilogue(*scales))
        with pretended("sm_80", lambda launch, device: launched.append(launch.build)):
            out = ops.scaled_mm(a, scales[0], b, scales[1], out_dtype=torch.bfloat16)
            with dispatch.only(TOY.name):
                ops.scaled_mm(a[:9], scales[0][:9], b, scales[1], out_dtype=torch.bfloat16)
        assert torch.equal(out, expected)
        assert launched == [Build(TOY.name, (("SIDE", 16),)), Build(TOY.name, (("SIDE", 8),))]

    def test_it_is_explained_with_its_tile_and_its_refusal(self) -> None:
        layer_format = LayerFormat(SCHEMES["W8A8"])
        chosen = explain(layer_format, 20, 24, 64, arch="sm_80")[-1].chosen
        assert chosen is not None
        assert (chosen.name, chosen.tile) == (TOY.name, "tile a square of 16; 4 blocks (rule)")
        refused = {each.name: each.refusal for each in explain(layer_format, 20, 24, 64, arch="sm_90a")[-1].options}
        assert refused[TOY.name] == "runs on sm_80, not on sm_90"
        assert overview()[1][0] == (TOY.name, "a toy", "INT8", "yes", "", "", "")

    def test_tables_of_tiles_and_tuning_know_it(self) -> None:
        measured = tile_tables.Table("a GPU", (tile_tables.Entry(TOY.name, 20, 24, 64, Square(8)),))
        assert tile_tables.parse(tile_tables.to_json(measured)) == measured
        size = tuning.Size(TOY.name, 20, 24, 64)
        planned = tuning.planned(size, Square(8), torch.device("cpu"), 4)
        assert planned.launch.build == Build(TOY.name, (("SIDE", 8),))

    def test_its_machine_code_is_checked_and_a_gpu_runs_it(self) -> None:
        assert (TOY.instructions, TOY.at_most["IMMA"]) == ({"sm_80": ("TOY",)}, 0)
        assert smoke.cases("sm_80")[0].kernel == TOY.name
        compiled = builds.of_smoke(builds.Device(ARCHITECTURES["sm_80"], 4))
        assert Build(TOY.name, (("SIDE", 16),)) in compiled


class Given(NamedTuple):
    """Arguments of an op that is no matmul."""

    x: torch.Tensor
    by: float = 2.0


def _check(given: Given) -> None:
    if given.by <= 0:
        raise ValueError(f"toy_spread: by must be positive, got {given.by}")


def _run(given: Given) -> Any:
    return SPREAD.chosen(given)(given.x, given.by)


SPREAD: Op[Given] = Op(
    name="toy_spread",
    schema="(Tensor x, float by=2.0) -> Tensor",
    arguments=Given,
    check=_check,
    fake=lambda given: torch.empty_like(given.x),
    call_of=lambda given: Call("toy_spread", given.x.device.type, given.x.dtype),
    run=_run,
    plain=(Implementation("reference", "toy_spread", (Limits(dtypes=(torch.float32,)),), torch.mul),),
)


class TestOp:
    """An op that is no matmul."""

    def test_it_runs_is_compiled_and_explained(self, monkeypatch: pytest.MonkeyPatch) -> None:
        SPREAD.register()
        monkeypatch.setattr(ops, "OPS", (*ops.OPS, SPREAD))
        x = torch.randn(3, 5)
        assert torch.equal(SPREAD(Given(x)), 2 * x)
        assert torch.equal(torch.ops.quant.toy_spread(x, 3.0), 3 * x)
        assert torch.ops.quant.toy_spread(x.to("meta")).shape == (3, 5)
        torch.library.opcheck(torch.ops.quant.toy_spread.default, (x, 3.0))
        with pytest.raises(ValueError, match="by must be positive"):
            SPREAD(Given(x, -1.0))
        with pytest.raises(NotImplementedError, match="toy_spread has no gradient"):
            SPREAD(Given(x.requires_grad_())).sum().backward()
        ((only, refusal),) = dispatch.explain(Call("toy_spread", "cpu", torch.int8))
        assert (only.name, refusal) == ("reference", "takes float32, not int8")

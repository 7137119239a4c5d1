"""All calls through one block, then all through the next: as if they had been made one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from quant.calibration.blocks import blocks_of
from quant.calibration.replaying import Call, Replay
from quant.errors import CalibrationError
from tests.tiny_calls import CLASSES, tiny_calls
from tests.tiny_models import ModelMaker


def calls_of(*inputs: object) -> list[Call]:
    """Calls with one argument each."""
    return [Call(f"call {i}", partial(lambda given: ((given,), {}), given)) for i, given in enumerate(inputs)]


def replayed(
    model: nn.Module, calls: Sequence[Call], blocks: Sequence[str] | None = None
) -> tuple[list[Any], list[str | None]]:
    """What each call returns, and the blocks of all stages."""
    outputs: dict[int, Any] = {}
    current: list[int] = []
    handle = model.register_forward_hook(lambda *given: outputs.__setitem__(current[-1], given[-1]))
    stages = []
    found = blocks_of(model) if blocks is None else blocks
    with torch.no_grad(), Replay(model, found, calls, on_call=current.append) as replay:
        for stage in replay:
            stage.run()
            stages.append(stage.block)
    handle.remove()
    return [outputs[i] for i in range(len(calls))], stages


def one_by_one(model: nn.Module, calls: Sequence[Call]) -> list[Any]:
    with torch.no_grad():
        return [model(*args, **kwargs) for args, kwargs in (call.load() for call in calls)]


@pytest.mark.parametrize("class_name", CLASSES)
def test_every_architecture_gives_the_same_bits(make_model: ModelMaker, class_name: str) -> None:
    model, calls = make_model(class_name, device="cpu"), tiny_calls(class_name)
    outputs, stages = replayed(model, calls)
    assert all(torch.equal(found[0], made[0]) for found, made in zip(outputs, one_by_one(model, calls), strict=True))
    assert stages[0] is None and len(stages) == 1 + len(blocks_of(model))
    assert sorted(map(str, stages[1:])) == sorted(blocks_of(model))
    assert not any(module._forward_pre_hooks for module in model.modules())


class Blocks(nn.Module):
    """Blocks whose order is given with each call; between them torch's state may be another."""

    def __init__(self, count: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4)) for _ in range(count))
        self.log: list[tuple[int, bool, bool]] = []

    def forward(self, order: Sequence[int]) -> torch.Tensor:
        x = torch.full((2, 4), float(1 + sum(order)))
        for i in order:
            with torch.autocast("cpu", enabled=i % 2 == 1), torch.set_grad_enabled(i == 2):
                x = self.blocks[i](x.float())
                self.log.append((i, torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()))
        return x


NAMES = ["blocks.0", "blocks.1", "blocks.2"]


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        ([(0, 1, 2), (0, 2)], NAMES),  # one leaves a block out, and waits for the others at the next
        ([(0, 2), (0, 1, 2)], NAMES),
        ([(), (1,), (0, 1, 2)], NAMES),
        ([(0, 1, 0, 2)] * 2, ["blocks.0", "blocks.1", "blocks.0", "blocks.2"]),  # weights that are used twice
        ([(2, 0, 1)] * 2, ["blocks.2", "blocks.0", "blocks.1"]),  # not in the order of the list
    ],
)
def test_calls_wait_for_one_another(orders: list[tuple[int, ...]], expected: list[str]) -> None:
    model, calls = Blocks(), calls_of(*orders)
    outputs, stages = replayed(model, calls, NAMES)
    assert stages == [None, *expected]
    assert all(torch.equal(found, made) for found, made in zip(outputs, one_by_one(model, calls), strict=True))


def test_what_torch_keeps_for_a_thread_is_kept_for_each_call() -> None:
    model, calls = Blocks(), calls_of((0, 1, 2), (0, 2, 1))
    before = torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
    replayed(model, calls, NAMES)
    assert len(model.log) == 6
    assert all((autocast, gradient) == (i % 2 == 1, i == 2) for i, autocast, gradient in model.log)
    assert (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")) == before


class Entering(nn.Module):
    """Calls its blocks within something that is closed behind them."""

    def __init__(self, enter: Callable[[], Any], fails: int = -1) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4)) for _ in range(3))
        self.enter, self.fails, self.open = enter, fails, 0

    def forward(self, number: int) -> torch.Tensor:
        self.open += 1
        try:
            with self.enter():
                x = self.blocks[1](self.blocks[0](torch.ones(1, 4)))
                if number == self.fails:
                    raise RuntimeError("no such\nthing")
                out: torch.Tensor = self.blocks[2](x)
                return out
        finally:
            self.open -= 1


def test_an_error_names_its_call_and_ends_all_others() -> None:
    model = Entering(torch.enable_grad, fails=1)
    with pytest.raises(CalibrationError, match=r"^Entering fails on call 1: no such"):
        replayed(model, calls_of(0, 1, 2), NAMES)
    assert model.open == 0 and torch.is_grad_enabled()
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_an_interrupt_and_a_caller_who_stops_end_all_calls() -> None:
    model = Entering(torch.no_grad)
    model.blocks[1].register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        replayed(model, calls_of(0, 1), NAMES)
    assert model.open == 0 and torch.is_grad_enabled()
    with Replay(model, NAMES, calls_of(0, 1)) as replay:
        next(iter(replay)).run()
        assert model.open == 2
    assert model.open == 0


@pytest.mark.parametrize("enter", [torch.inference_mode, lambda: torch.device("cpu")])
def test_a_mode_that_would_reach_other_calls_is_refused(enter: Callable[[], Any]) -> None:
    with pytest.raises(CalibrationError, match=r"^Entering: calls 'blocks.0' within a mode of torch"):
        replayed(Entering(enter), calls_of(0, 1), NAMES)
    assert not torch.is_inference_mode_enabled()


def test_a_rehearsal_leaves_calls_where_they_are(make_model: ModelMaker) -> None:
    model, calls = make_model("WanTransformer3DModel", device="cpu"), tiny_calls("WanTransformer3DModel")
    outputs: list[Any] = []
    runs: list[int] = []
    model.register_forward_hook(lambda *given: outputs.append(given[-1]))
    model.blocks[1].register_forward_hook(lambda *given: runs.append(1))  # type: ignore[index,union-attr]
    with torch.no_grad(), Replay(model, blocks_of(model), calls) as replay:
        for stage in replay:
            stage.rehearse()
            stage.run()
    assert len(runs) == 2 * len(calls)
    found = list(outputs)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(found, one_by_one(model, calls), strict=True))

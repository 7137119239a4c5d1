"""Recorded calls of a denoiser, all of them through one block, then all through the next.

Every call runs in a greenlet of its own (https://greenlet.readthedocs.io) and is suspended where it enters a block, so
that Python's own stack keeps what lies between blocks: the skip connections of a U-Net, the two streams of a
transformer, whatever a class's `forward` has in its local variables. Nothing has to be known of the class.

A stage is what runs from one stop to the next. The first is what lies before the first block; each other one begins
with a block and ends before the next, or with the call. All calls are expected at the same blocks in the same order.
Where one leaves a block out, the others go there first; where calls come to a block at different times, or twice, it
has several stages, and whoever gathers statistics of it has to wait until the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from contextvars import copy_context
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
from greenlet import greenlet
from torch import nn
from torch.utils._pytree import tree_map_only

from quant.calibration.torch_state import TorchState
from quant.errors import UnrecordedError
from quant.pipelines.input_error import InputError
from quant.pipelines.running import failing

#: What a module is called with.
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Call:
    """One recorded call of a denoiser.

    Attributes:
        name: which one it is, in words that an error ends with.
        load: reads its arguments; they are read when the call begins, and not kept.
        timestep: that it was made with.
    """

    name: str
    load: Callable[[], Arguments]
    timestep: float = 0.0


class _UnderWay:
    """A call from its beginning to its end.

    Attributes:
        at: the block that it waits at; None before the first.
        arguments: that it is about to call the block with.
        state: torch's, as it was when the call was suspended; None before it began.
    """

    def __init__(self, number: int, call: Call, run: Callable[[Call], None]) -> None:
        self.number, self.call = number, call
        self.at: str | None = None
        self.arguments: Arguments = (), {}
        self.state: TorchState | None = None
        self._greenlet = greenlet(lambda: run(call))
        self._context = copy_context()
        self._greenlet.gr_context = self._context

    @property
    def is_done(self) -> bool:
        return bool(self._greenlet.dead)

    def go_on(self) -> None:
        """Runs until the call waits at a block or is done."""
        self._greenlet.switch()

    def within(self, run: Callable[[], object]) -> None:
        """Calls a function that sees the call's own context variables, while the call is suspended."""
        self._context.run(run)

    def wait(self, block: str, arguments: Arguments) -> None:
        """Suspends the call, from within it."""
        self.at, self.arguments = block, arguments
        parent = self._greenlet.parent
        assert parent is not None
        parent.switch()
        self.arguments = (), {}

    def close(self) -> None:
        """Ends it where it is, through all its `finally`s."""
        if not self.is_done:
            with suppress(Exception):
                self._greenlet.throw()


class Replay:
    """Calls of a model under way; it is iterated once, each stage is run by its `run`.

    A context manager: behind it the model has no hook of it, and no call is left under way, also after an error.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: Sequence[str],
        calls: Sequence[Call],
        *,
        on_call: Callable[[int], object] = lambda number: None,
        arriving: Callable[[Arguments], Arguments] = lambda arguments: arguments,
    ) -> None:
        """Nothing is run yet.

        Args:
            model: a denoiser; `forward` and hooks see the calls as if they were made one by one.
            blocks: names of the modules at which calls stop.
            calls: in the order in which they take turns.
            on_call: called with the number of a call whenever it goes on.
            arriving: puts what a call is made with onto the device where it is to be.
        """
        self._model, self._blocks = model, blocks
        self._on_call, self._arriving = on_call, arriving
        self._calls = [_UnderWay(number, call, self._make) for number, call in enumerate(calls)]
        self._current: _UnderWay | None = None
        self._hooks = ExitStack()

    def __enter__(self) -> Self:
        for name in self._blocks:
            hook = self._model.get_submodule(name).register_forward_pre_hook(
                self._entry(name), with_kwargs=True, prepend=True
            )
            self._hooks.callback(hook.remove)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.close()
        here = TorchState.now()
        try:
            for call in self._calls:
                call.close()
        finally:
            here.restore()

    def __iter__(self) -> Iterator[Stage]:
        """The stages, each of which has to be run before the next is asked for."""
        order: list[str] = []
        yield Stage(self, None, self._calls)
        while True:
            waiting = [call for call in self._calls if not call.is_done]
            for call in waiting:
                assert call.at is not None, "a stage was not run"
                _take_into(order, call.at)
            if not waiting:
                return
            block = min((call.at for call in waiting if call.at is not None), key=order.index)
            yield Stage(self, block, [call for call in waiting if call.at == block])

    def _make(self, call: Call) -> None:
        args, kwargs = self._arriving(call.load())
        self._model(*args, **kwargs)

    def _entry(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if self._current is not None:
                self._current.wait(name, (args, kwargs))

        return hook

    def go_on(self, call: _UnderWay) -> None:
        """Runs a call until it waits or is done, under torch's state as it left it."""
        self._current = call
        try:
            self._in_its_state(call, call.go_on)
        finally:
            self._current = None

    def rehearse(self, call: _UnderWay) -> None:
        """Runs the block that a call waits at with what it is about to be called with; the call stays where it is."""
        assert call.at is not None
        block = self._model.get_submodule(call.at)
        args, kwargs = tree_map_only(torch.Tensor, torch.clone, call.arguments)  # a block may change its inputs
        self._in_its_state(call, lambda: call.within(lambda: block(*args, **kwargs)))

    def _in_its_state(self, call: _UnderWay, run: Callable[[], object]) -> None:
        self._on_call(call.number)
        here = TorchState.now()
        (call.state or here).restore()
        try:
            with failing(f"{type(self._model).__name__} fails on {call.call.name}"):
                run()
        except InputError as error:
            raise error.at(f"in {call.call.name}") from None
        finally:
            call.state = TorchState.now()
            here.restore()
        if not call.is_done and call.state.modes != here.modes:
            raise UnrecordedError(
                f"{type(self._model).__name__}: calls '{call.at}' within a mode of torch that other calls would be in "
                "too (inference mode, or one of functions), so they cannot go through it block by block"
            )


class Stage:
    """Calls that stand at one place.

    Attributes:
        block: name of the block that begins it; None of the first stage.
    """

    def __init__(self, replay: Replay, block: str | None, calls: Sequence[_UnderWay]) -> None:
        self.block = block
        self._replay, self._calls = replay, calls

    def run(self) -> None:
        """Takes all its calls through it, one after the other.

        Raises:
            CalibrationError: names the call that fails.
        """
        for call in self._calls:
            self._replay.go_on(call)

    def rehearse(self) -> None:
        """Runs its block for all its calls and leaves them where they are, as if nothing had been run.

        Raises:
            CalibrationError: as `run`.
        """
        for call in self._calls if self.block is not None else ():
            self._replay.rehearse(call)


def _take_into(order: list[str], block: str) -> None:
    """Puts a block that is new behind all others, but before those that follow it in its own list."""
    if block in order:
        return
    parent, _, index = block.rpartition(".")
    for i, other in enumerate(order):
        above, _, after = other.rpartition(".")
        if above == parent and index.isdigit() and after.isdigit() and int(after) > int(index):
            order.insert(i, block)
            return
    order.append(block)

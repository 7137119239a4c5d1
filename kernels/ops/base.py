"""What an op is: the one object by which torch, `dispatch` and everyone who lists ops know of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from quant.kernels import choosing, compiled
from quant.kernels.limits import Call, Implementation
from quant.kernels.matmuls import table
from quant.kernels.no_gradient import refuse_gradient, without_gradient

_library = torch.library.Library("quant", "DEF")  # type: ignore[no-untyped-call]  # torch types no Library

#: The named tuple of an op's arguments, in the order and with the defaults of its schema.
Arguments = TypeVar("Arguments", bound=tuple[Any, ...])


@dataclass(frozen=True, eq=False)
class Op(Generic[Arguments]):
    """One op of `torch.ops.quant`.

    Attributes:
        name: of the op.
        schema: parameters and results, as torch writes them.
        arguments: makes a named tuple of what torch hands over, which leaves out what equals a default.
        check: raises ValueError for what the op does not take.
        fake: results of the right shapes and dtypes, for meta tensors and `torch.compile`.
        call_of: what an implementation is chosen by.
        run: the results, by the implementation that is `chosen`.
        plain: implementations in torch's operations, the best first; the reference, which accepts everything, last.
    """

    name: str
    schema: str
    arguments: Callable[..., Arguments]
    check: Callable[[Arguments], None]
    fake: Callable[[Arguments], Any]
    call_of: Callable[[Arguments], Call]
    run: Callable[[Arguments], Any]
    plain: tuple[Implementation, ...]

    def __call__(self, arguments: Arguments) -> Any:
        """The results, checked. Where autograd records, backward through them is an error."""
        self.check(arguments)
        return without_gradient(getattr(torch.ops.quant, self.name), *arguments)

    def implementations(self) -> tuple[Implementation, ...]:
        """All of them, best first: the CUDA kernels, then those in torch's operations."""
        kernels = (compiled.implementation(kernel) for kernel in table.KERNELS if kernel.op == self.name)
        return (*kernels, *self.plain)

    def register(self) -> None:
        """Makes it known to torch, once in a process, with one entry for all devices: which implementation runs is
        decided here, not by torch.
        """
        _library.define(self.name + self.schema)  # type: ignore[no-untyped-call]
        _library.impl(self.name, self._dispatched, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
        torch.library.register_fake(
            f"quant::{self.name}", lambda *given: self.fake(self.arguments(*given)), lib=_library
        )

    def _dispatched(self, *given: Any) -> Any:
        """Autograd records nothing here, and `torch.autocast` rounds none of it."""
        refuse_gradient(self.name, *given)
        device = given[0].device.type
        if not torch.is_autocast_enabled(device):
            return self.run(self.arguments(*given))
        with torch.autocast(device, enabled=False):
            return self.run(self.arguments(*given))

    def chosen(self, given: Arguments) -> Callable[..., Any]:
        """The best implementation for these arguments where they are, a function with those of the reference."""
        call = choosing.on_device(self.call_of(given), given[0].device)
        return choosing.chosen(call, self.implementations()).run

"""A part of a fused block: it runs within a larger op, so that nothing can be put before or behind it alone."""

from __future__ import annotations

from typing import Any, NoReturn

from torch import nn

from quant.errors import ModelError

#: What a block says of a part that is fused; of any other it says why not.
FUSED = "fused"
#: The same, where the output is quantized for the next layer in the epilogue.
FUSED_TO_CODES = "fused, its output leaves as codes"

REMEDY = "load without fused=True for hooks and other processors"


class Part(nn.Module):
    """Refuses forward hooks, which would see neither the input nor the output that the layer has in diffusers."""

    def register_forward_hook(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises ModelError."""
        self._refuse_hook()

    def register_forward_pre_hook(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises ModelError."""
        self._refuse_hook()

    def _refuse_hook(self) -> NoReturn:
        raise ModelError(f"{type(self).__name__} runs within a larger op and takes no hook; {REMEDY}")

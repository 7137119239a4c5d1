"""T5's feed-forward once its last layer is quantized.

The forward of transformers casts the input of `wo` to the dtype of its weight, which of FP8 codes would round the input
without a scale, and which packed weights have not. A module whose class is exchanged for one of these does all else
that it did: the same layers, activation and dropout, under the same names.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from quant.layers.linear import QuantLinear


class FeedForward(nn.Module):
    """wo(act(wi(x))), x [..., d_model]."""

    wi: nn.Module
    wo: nn.Module
    act: Callable[[torch.Tensor], torch.Tensor]
    dropout: nn.Module

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.last(self.act(self.wi(hidden_states)))

    def last(self, hidden: torch.Tensor) -> torch.Tensor:
        """wo(hidden), in float32 where hidden is float16, whose range its sums leave: so transformers runs it."""
        hidden = self.dropout(hidden)
        made = self.wo(hidden.float() if hidden.dtype == torch.float16 else hidden)
        assert isinstance(made, torch.Tensor)
        return made


class GatedFeedForward(FeedForward):
    """wo(act(wi_0(x)) * wi_1(x)), x [..., d_model]."""

    wi_0: nn.Module
    wi_1: nn.Module

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.last(self.act(self.wi_0(hidden_states)) * self.wi_1(hidden_states))


#: By the names of transformers' classes, which differ in nothing else.
_CLASSES: dict[str, type[FeedForward]] = {
    f"{family}{kind}": made
    for family in ("T5", "MT5", "UMT5", "LongT5", "Udop", "Pop2Piano")
    for kind, made in (("DenseActDense", FeedForward), ("DenseGatedActDense", GatedFeedForward))
}


def is_t5(model: nn.Module) -> bool:
    """Whether a model has T5's feed-forward, into whose packed weights compressed-tensors does not get.

    transformers reads `weight` of its layers before a checkpoint's are there.
    """
    return any(type(module).__name__ in _CLASSES for module in model.modules())


def call_wo(parent: nn.Module) -> None:
    """Exchanges the class of a module of transformers' T5 whose `wo` is quantized; leaves any other as it is."""
    made = _CLASSES.get(type(parent).__name__)
    if made is not None and isinstance(parent._modules.get("wo"), QuantLinear):
        parent.__class__ = made

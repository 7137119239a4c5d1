"""A model that can run as soon as its parameters are there: on meta but for the tables that no file holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from quant.errors import ModelError
from quant.pipelines.skeleton import in_our_words


def runnable(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A model of the same class and config in eval mode, its parameters on the meta device.

    What its constructor computes, such as tables of rotary positions, is on the CPU and in the dtypes that diffusers'
    `from_pretrained` leaves it in.

    Args:
        model: of a diffusers class, on any device.
        dtype: that its parameters will have.

    Raises:
        ModelError: of another library's class.
    """
    from accelerate import init_empty_weights
    from diffusers import ModelMixin
    from diffusers.models.modeling_utils import no_init_weights

    cls: Any = type(model)
    if not isinstance(model, ModelMixin):
        raise ModelError(f"{cls.__name__}: is no model of diffusers, and is not calibrated on recorded calls")
    with (
        in_our_words(f"{cls.__name__} cannot be made"),
        _default_dtype(dtype),
        no_init_weights(),
        init_empty_weights(include_buffers=False),
    ):
        made = cls.from_config(dict(model.config))
    assert isinstance(made, nn.Module)
    return made.eval()


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Within it, a tensor that is made without a dtype has this one."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)

"""What a model's class declares to be in float32 whatever the rest of the model is in."""

from __future__ import annotations

from torch import nn


def kept_in_float32(model: nn.Module) -> tuple[str, ...]:
    """Parts of the names of such modules, for any other dtype of the model than float16.

    diffusers' `_keep_in_fp32_modules`. transformers means those for float16 alone, and has strict ones besides.
    """
    strict = "_keep_in_fp32_modules_strict"
    name = strict if hasattr(model, strict) else "_keep_in_fp32_modules"
    return tuple(sorted(getattr(model, name, None) or ()))

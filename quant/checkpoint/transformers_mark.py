"""The mark in a transformers model's config.json that stops transformers where it does not know our method.

`transformers_weights` names the file of weights. transformers raises an error, with the name, where that is no name of
such a file; `quant.api.transformers_quantizer` takes it away, and the usual files are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quant.checkpoint.config import CONFIG_KEY
from quant.checkpoint.exports.table import export_of

MARK_KEY = "transformers_weights"
MARK = "`import quant.diffusers` first, or use quant.load"


def mark_of(quantization: Mapping[str, Any]) -> str | None:
    """The mark of a config.json with this quantization_config; None where others read its method, too."""
    return MARK if export_of(quantization, CONFIG_KEY).versioned else None


def marked(config: Mapping[str, Any], quantization: Mapping[str, Any]) -> dict[str, Any]:
    """A transformers model's config with the mark that it needs, and none that it does not."""
    bare = {key: value for key, value in config.items() if key != MARK_KEY}
    mark = mark_of(quantization)
    return bare if mark is None else {**bare, MARK_KEY: mark}

"""`quantization_config` of a component's config.json: what every one of them says, whoever reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quant.errors import CheckpointError
from quant.text import shown

FORMAT_VERSION = 1
CONFIG_KEY = "quantization_config"
#: Names of the dtypes that everything not packed may have.
DTYPES = ("bfloat16", "float16", "float32", "float64")


def quantization_of(config: Mapping[str, Any], where: str) -> Mapping[str, Any] | None:
    """The quantization_config of a config.json; None where there is none. Raises CheckpointError for another kind."""
    found = config.get(CONFIG_KEY)
    if found is not None and not isinstance(found, Mapping):
        raise CheckpointError(f"{where}: {CONFIG_KEY}: must be a mapping, got {shown(found)}")
    return found


def stored_dtype(config: Mapping[str, Any], where: str) -> str | None:
    """Name of the dtype of everything not packed; None where the config does not say, as of other libraries.

    Raises:
        CheckpointError: it is no name of a floating dtype.
    """
    name = config.get("dtype")
    if name is not None and name not in DTYPES:
        raise CheckpointError(f"{where}: dtype must be one of {', '.join(DTYPES)}, got {shown(name)}")
    return name

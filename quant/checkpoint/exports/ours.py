"""The name of checkpoints that only this library reads as they are meant: smoothed layers, branches, bins, steps."""

from __future__ import annotations

from collections.abc import Mapping

from quant.checkpoint.exports.compressed_tensors import CompressedTensors
from quant.formats.layer import LayerFormat


class Ours(CompressedTensors):
    """The same config, with keys such as `smoothed` and `input_bins`, under a name that nobody else reads."""

    name = "quant"
    versioned = True

    def takes(self, layers: Mapping[str, LayerFormat], *, standard: bool) -> bool:
        return True

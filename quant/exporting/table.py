"""Every layout that a checkpoint is exported to: the one list of them."""

from __future__ import annotations

from quant.exporting.base import Destination
from quant.exporting.comfyui import ComfyUI
from quant.exporting.compressed_tensors import PlainCompressedTensors
from quant.exporting.gguf import Gguf
from quant.exporting.modelopt import ModelOpt

DESTINATIONS: tuple[Destination, ...] = (ComfyUI(), ModelOpt(), PlainCompressedTensors(), Gguf())

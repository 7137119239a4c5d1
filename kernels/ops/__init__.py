"""The ops that a quantized layer calls, checked; torch knows them as `torch.ops.quant.*`.

Each has one definition (its `reference`), a fake implementation so that `torch.compile(fullgraph=True)` and meta
tensors work, and implementations that are picked from when it runs. None has a gradient, since codes are rounded:
backward through one is an error. A quantized layer has one, see `quant.layers.straight_through`.
"""

from __future__ import annotations

from typing import Any

from quant.kernels.ops.base import Op
from quant.kernels.ops.int4_mm import OP as INT4_MM
from quant.kernels.ops.int4_mm import int4_mm as int4_mm
from quant.kernels.ops.int8_mm import OP as INT8_MM
from quant.kernels.ops.int8_mm import int8_mm as int8_mm
from quant.kernels.ops.quantize_rows import OP as QUANTIZE_ROWS
from quant.kernels.ops.quantize_rows import Norm as Norm
from quant.kernels.ops.quantize_rows import quantize_rows as quantize_rows
from quant.kernels.ops.scaled_conv import OP as SCALED_CONV
from quant.kernels.ops.scaled_conv import scaled_conv as scaled_conv
from quant.kernels.ops.scaled_mm import OP as SCALED_MM
from quant.kernels.ops.scaled_mm import scaled_mm as scaled_mm
from quant.kernels.ops.sparse_scaled_mm import OP as SPARSE_SCALED_MM
from quant.kernels.ops.sparse_scaled_mm import sparse_scaled_mm as sparse_scaled_mm

OPS: tuple[Op[Any], ...] = (QUANTIZE_ROWS, SCALED_MM, INT4_MM, INT8_MM, SPARSE_SCALED_MM, SCALED_CONV)
for _op in OPS:
    _op.register()

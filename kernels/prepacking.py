"""Putting a weight, once at load, into the order that the kernel which will run it reads."""

from __future__ import annotations

import torch

from quant.kernels import choosing, dispatch
from quant.kernels.weight_orders import LAYOUTS
from quant.kernels.weight_orders import packed as packed
from quant.kernels.weight_orders import plain as plain

#: A weight lies in one order for every number of rows of its input: that of many tokens, as in a video.
MANY_ROWS = 32_760


def wanted(op: str, dtype: torch.dtype, n: int, k: int, device: torch.device | str, group: int = 0) -> str:
    """The order that the best implementation of `op` reads which can run there, a compiled kernel where one can.

    Args:
        op: "int4_mm" or "sparse_scaled_mm".
        dtype: of the input as the op gets it: codes, or floats.
        n, k: sizes of the weight.
        device: where it runs.
        group: columns that share a scale, 0 where a row has one.

    Returns:
        A name of `LAYOUTS[op]`, the plain one where the best implementation takes any.
    """
    device = torch.device(device)
    call = choosing.on_device(dispatch.Call(op, device.type, dtype, MANY_ROWS, n, k, group=group), device)
    for implementation in dispatch.implementations():
        if implementation.op == op and implementation.refusal(call) is None:
            read = next(limits.layouts for limits in implementation.limits if limits.refusal(call) is None)
            return (*read, LAYOUTS[op][0])[0]
    return LAYOUTS[op][0]

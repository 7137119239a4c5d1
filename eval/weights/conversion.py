"""Weights as JAX keeps them become tensors as torch names and lays them out. Pure functions.

Kernels turn from [*window, in, out] to [out, in, *window]; statistics of shape (1, 1, 1, 1, C) to (C,). The names
of the I3D are those of the widespread torch version of it (Mixed_3b.b1a.conv3d.weight, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quant.errors import QuantError

Arrays = Mapping[str, npt.NDArray[Any]]

_BRANCHES = {
    "Branch_0/Conv3d_0a_1x1": "b0",
    "Branch_1/Conv3d_0a_1x1": "b1a",
    "Branch_1/Conv3d_0b_3x3": "b1b",
    "Branch_2/Conv3d_0a_1x1": "b2a",
    "Branch_2/Conv3d_0b_3x3": "b2b",
    "Branch_3/Conv3d_0b_1x1": "b3b",
    "Logits/Conv3d_0c_1x1": "logits",
}
_LEAVES = {
    ("params", "Conv_0", "kernel"): "conv3d.weight",
    ("params", "Conv_0", "bias"): "conv3d.bias",
    ("params", "BatchNorm_0", "bias"): "bn.bias",
    ("batch_stats", "BatchNorm_0", "mean"): "bn.running_mean",
    ("batch_stats", "BatchNorm_0", "var"): "bn.running_var",
}


def i3d_tensors(arrays: Arrays) -> dict[str, Tensor]:
    """The state dictionary of `i3d.I3D` from "params|Mixed_3b|Branch_0/Conv3d_0a_1x1|Conv_0|kernel" and so on."""
    return {_i3d_name(name): _tensor(name, array) for name, array in arrays.items()}


def lpips_tensors(arrays: Arrays) -> dict[str, Tensor]:
    """The state dictionary of `lpips.Lpips` from "VGG16_0|Conv_3|kernel", "NetLinLayer_0|Conv_0|kernel" and so on."""
    return {_lpips_name(name): _tensor(name, array) for name, array in arrays.items()}


CONVERTERS: Mapping[str, Callable[[Arrays], dict[str, Tensor]]] = {
    "i3d": i3d_tensors,
    "lpips-alex": lpips_tensors,
    "lpips-vgg": lpips_tensors,
}


def _i3d_name(name: str) -> str:
    collection, *path, kind, leaf = name.split("|")
    if (collection, kind, leaf) not in _LEAVES:
        raise QuantError(f"the weights of an I3D hold no {name}")
    return ".".join([*(_BRANCHES.get(part, part) for part in path), _LEAVES[collection, kind, leaf]])


def _lpips_name(name: str) -> str:
    room, convolution, leaf = name.split("|")
    kind = {"kernel": "weight", "bias": "bias"}[leaf]
    if room.startswith("NetLinLayer_"):
        return f"heads.{room.removeprefix('NetLinLayer_')}.{kind}"
    return f"convolutions.{convolution.removeprefix('Conv_')}.{kind}"


def _tensor(name: str, array: npt.NDArray[Any]) -> Tensor:
    ordered = np.moveaxis(array, (-1, -2), (0, 1)) if name.endswith("|kernel") else array.reshape(-1)
    return torch.from_numpy(np.array(ordered, dtype=np.float32, order="C"))

from __future__ import annotations

import numpy as np
import pytest
import torch

from quant.errors import QuantError
from quant.eval.weights.conversion import i3d_tensors, lpips_tensors


def test_kernels_and_statistics_change_their_layout_and_name() -> None:
    kernel = np.random.default_rng(0).random((2, 3, 4, 5, 6), dtype=np.float32)
    statistic = np.arange(6, dtype=np.float32).reshape(1, 1, 1, 1, 6)
    found = i3d_tensors(
        {
            "params|Mixed_3b|Branch_1/Conv3d_0b_3x3|Conv_0|kernel": kernel,
            "params|Mixed_3b|Branch_1/Conv3d_0b_3x3|BatchNorm_0|bias": statistic.reshape(6),
            "batch_stats|Mixed_3b|Branch_1/Conv3d_0b_3x3|BatchNorm_0|var": statistic,
            "params|Logits/Conv3d_0c_1x1|Conv_0|bias": statistic.reshape(6),
        }
    )
    assert list(found) == [
        "Mixed_3b.b1b.conv3d.weight",
        "Mixed_3b.b1b.bn.bias",
        "Mixed_3b.b1b.bn.running_var",
        "logits.conv3d.bias",
    ]
    weight = found["Mixed_3b.b1b.conv3d.weight"]
    assert weight.shape == (6, 5, 2, 3, 4) and weight.is_contiguous()
    for depth, row, column, inputs, outputs in np.ndindex(kernel.shape):
        assert weight[outputs, inputs, depth, row, column] == kernel[depth, row, column, inputs, outputs]
    assert torch.equal(found["Mixed_3b.b1b.bn.running_var"], torch.arange(6.0))


def test_a_kernel_of_one_place_and_one_channel_keeps_its_dimensions() -> None:
    found = lpips_tensors(
        {
            "NetLinLayer_2|Conv_0|kernel": np.ones((1, 1, 4, 1), dtype=np.float32),
            "VGG16_0|Conv_12|kernel": np.ones((1, 1, 1, 3), dtype=np.float32),
            "VGG16_0|Conv_12|bias": np.ones(3, dtype=np.float32),
        }
    )
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {
        "heads.2.weight": (1, 4, 1, 1),
        "convolutions.12.weight": (3, 1, 1, 1),
        "convolutions.12.bias": (3,),
    }


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(QuantError, match=r"hold no params\|Conv3d_1a_7x7\|BatchNorm_0\|scale"):
        i3d_tensors({"params|Conv3d_1a_7x7|BatchNorm_0|scale": np.ones(3)})

from __future__ import annotations

import pytest
from torch import nn

from quant.calibration.blocks import blocks_of
from tests.tiny_models import ModelMaker


@pytest.mark.parametrize(
    ("class_name", "expected"),
    [
        ("WanTransformer3DModel", ["blocks.0", "blocks.1", "blocks.2"]),
        ("HunyuanVideoTransformer3DModel", [f"transformer_blocks.{i}" for i in range(2)]),
        ("WanVACETransformer3DModel", [f"vace_blocks.{i}" for i in range(2)]),
        ("UNet3DConditionModel", ["down_blocks.0.resnets.0", "mid_block.attentions.0", "up_blocks.0.upsamplers.0"]),
        ("UNetSpatioTemporalConditionModel", ["down_blocks.1.resnets.0", "mid_block.resnets.1"]),
    ],
)
def test_blocks_hold_the_layers_that_families_name(
    make_model: ModelMaker, class_name: str, expected: list[str]
) -> None:
    blocks = blocks_of(make_model(class_name))
    assert set(expected) <= set(blocks) and len(set(blocks)) == len(blocks)
    assert not any(one != other and one.startswith(f"{other}.") for one in blocks for other in blocks)


def test_a_model_without_lists_has_no_blocks() -> None:
    assert blocks_of(nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4))) == []

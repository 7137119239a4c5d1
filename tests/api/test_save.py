"""`quant.save` writes what `quant.load` reads, or refuses before it writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

import quant
from tests import tiny_pipeline


def test_a_pipeline_is_refused_with_what_to_save() -> None:
    pipe = tiny_pipeline.pipeline()
    for each in (pipe, quant.quantize(pipe, "fp8-dynamic")):
        with pytest.raises(quant.QuantError, match=r"this is a WanPipeline: quant\.save\(pipe\.transformer, DIR\), or"):
            quant.save(each, "unused")


def test_a_model_that_is_not_what_its_config_makes_is_refused(tmp_path: Path) -> None:
    made = quant.quantize(tiny_pipeline.transformer(), "fp8-dynamic")
    made.blocks[1].extra = nn.Linear(2, 3)
    with pytest.raises(quant.QuantError, match=r"has 'blocks\.1\.extra\.weight' \[3, 2\], and one made .* has no 'bl"):
        quant.save(made, tmp_path / "out")
    del made.blocks[1].extra
    made.register_to_config(num_layers=3)
    with pytest.raises(quant.QuantError, match=r"has no 'blocks\.2\."):
        quant.save(made, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    made.register_to_config(num_layers=2)
    quant.save(made, tmp_path / "out")
    quant.save(quant.load(tmp_path / "out", fused=True), tmp_path / "fused")


class Own(nn.Sequential):
    """A model of somebody's own, whose configs are nobody else's."""

    @classmethod
    def from_config(cls, config: str) -> Own:
        raise AssertionError("was called")

    def to_json_string(self) -> str:
        raise AssertionError("was called")


def test_what_is_called_as_in_diffusers_is_not_diffusers(tmp_path: Path) -> None:
    made = quant.quantize(Own(nn.Linear(64, 64)), "fp8-dynamic")
    quant.save(made, tmp_path / "out")
    assert isinstance(quant.load(tmp_path / "out", into=Own(nn.Linear(64, 64))), Own)


def test_a_config_that_makes_no_model_is_refused_in_words(tmp_path: Path) -> None:
    made = quant.quantize(tiny_pipeline.transformer(), "fp8-dynamic")
    made.register_to_config(num_layers="x")
    with pytest.raises(quant.QuantError, match=r"^WanTransformer3DModel: cannot be made from its config, so quant\."):
        quant.save(made, tmp_path / "out")

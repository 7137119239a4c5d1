"""A weight format that only this file knows is calibrated, inspected, loaded, run and saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

import pytest
import torch

import quant
from quant.formats import table
from quant.formats.base import ROW_MAJOR, Ending, Tensors, TensorSpec, WeightFormat, Windows
from quant.formats.grid import Grid
from quant.formats.layer import LayerFormat
from quant.formats.scheme import Scheme, TensorFormat
from quant.kernels import ops
from quant.layers.linear import QuantLinear
from quant.layers.replace import quantized_layers
from tests.tiny_pipeline import LINEARS, save_pipeline

ONE_ROW_SCALE = {"weights": {"num_bits": 6, "type": "int", "strategy": "channel"}}


class SixBits(WeightFormat):
    """Codes from -31 to 31, a byte each, stored and run transposed, [K, N]."""

    op = "int8_mm"
    main = "weight_transposed"

    @classmethod
    def takes(cls, scheme: Scheme, sparse: bool) -> bool:
        return not sparse and scheme.weights is not None and cls.is_about(scheme.weights, scheme.input_activations)

    @classmethod
    def is_about(cls, weights: TensorFormat, inputs: TensorFormat | None) -> bool:
        return weights.num_bits == 6 and inputs is None

    @property
    def file_formats(self) -> tuple[str, ...]:
        return ("six-bits",)

    def layout(self, n: int, k: int) -> dict[str, TensorSpec]:
        return {
            self.main: TensorSpec(torch.int8, (k, n)),
            "weight_scale": TensorSpec(torch.bfloat16, (n, 1)),
        }

    def size(self, layer: str, shapes: Mapping[str, tuple[int, ...]], read: object) -> tuple[int, ...]:
        return shapes[self.main][::-1]

    def scales(self, grid: Grid | None, n: int, k: int) -> Tensors:
        assert grid is not None
        return {"weight_scale": grid.scale.bfloat16()}

    def codes(self, weight: torch.Tensor, scales: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self._grid(scales).codes(weight).T.contiguous()

    def decode(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self._grid(tensors).values(tensors[self.main].T)

    def wanted_order(self, tensors: Mapping[str, torch.Tensor], n: int, k: int, device: torch.device) -> str:
        return ROW_MAJOR

    def running(self, stored: Mapping[str, torch.Tensor], order: str, n: int, k: int) -> Tensors:
        return dict(stored)

    def stored(self, running: Mapping[str, torch.Tensor], order: str, n: int, k: int) -> Tensors:
        return dict(running)

    def multiply(
        self,
        tensors: Mapping[str, torch.Tensor],
        order: str,
        a: torch.Tensor,
        a_scale: torch.Tensor | None,
        n: int,
        **ending: Unpack[Ending],
    ) -> torch.Tensor:
        return ops.int8_mm(a, tensors[self.main].T.contiguous(), tensors["weight_scale"], **ending)

    def convolve(
        self,
        tensors: Mapping[str, torch.Tensor],
        order: str,
        a: torch.Tensor,
        a_scale: torch.Tensor | None,
        n: int,
        **over: Unpack[Windows],
    ) -> torch.Tensor:
        return ops.scaled_conv(a, None, tensors[self.main].T.contiguous(), tensors["weight_scale"], **over)

    def nbytes(self, n: int, k: int) -> int:
        return n * k + 2 * n

    def _grid(self, tensors: Mapping[str, torch.Tensor]) -> Grid:
        assert self.scheme.weights is not None
        return Grid(self.scheme.weights, tensors["weight_scale"].float())


def test_a_weight_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(quant.QuantError, match="supported are 4- and 8-bit 'int'"):
        Scheme.parse(ONE_ROW_SCALE)
    monkeypatch.setattr(table, "FORMATS", (*table.FORMATS, SixBits))
    model = save_pipeline(tmp_path / "model")
    recipe = quant.Recipe.from_dict({"version": 1, "groups": [{"targets": ["Linear"], "scheme": ONE_ROW_SCALE}]})
    made = quant.calibrate(model, recipe, tmp_path / "out", progress=False)
    records = [layer for layer in made.layers["transformer"] if layer["scheme"] is not None]
    assert len(records) == LINEARS
    assert {layer["scheme"] for layer in records} == {"W6A16_CHANNEL"}
    # 31 steps to each side of rows whose largest weight is some 2.5 times their root mean square: 2.5 / 31 / 12**.5.
    assert all(0.01 < layer["weight_error"] < 0.035 for layer in records)
    (component,) = quant.inspect(tmp_path / "out").components
    assert {layer.bits_per_weight // 1 for layer in component.layers if layer.scheme is not None} == {8}
    loaded = quant.load(tmp_path / "out")
    layers = quantized_layers(loaded)
    assert len(layers) == LINEARS
    layer = next(iter(layers.values()))
    assert isinstance(layer, QuantLinear) and isinstance(layer.weight_format, SixBits)
    x = torch.randn(5, layer.in_features).bfloat16()
    meant = layer.weight_format.decode(layer.held())
    assert layer.bias is not None
    with torch.no_grad():
        expected = x.float() @ meant.bfloat16().float().T + layer.bias.float()
        assert torch.allclose(layer(x).float(), expected, rtol=2**-7, atol=1e-2)
    quant.save(loaded, tmp_path / "again")
    assert quant.load(tmp_path / "again").state_dict().keys() == loaded.state_dict().keys()
    assert table.misfit(LayerFormat(layer.scheme), 8, 8) is None

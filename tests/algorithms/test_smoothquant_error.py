"""The error that the search compares, against arithmetic written out and against ModelOpt's own layer."""

from __future__ import annotations

import modelopt.torch.quantization as mtq
import pytest
import torch
from torch import nn

from quant.algorithms.smoothquant import smooth, smoothing_factors
from quant.formats.scheme import SCHEMES, Scheme

_INT8 = {"num_bits": 8, "type": "int"}
STATIC_INT8 = Scheme.parse(
    {"weights": {**_INT8, "strategy": "channel"}, "input_activations": {**_INT8, "strategy": "tensor"}}
)


def _layer(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(12, 32, generator=generator)
    return weight, torch.randn(64, 32, generator=generator) * torch.logspace(-1, 1.5, 32)


def _relative(output: torch.Tensor, exact: torch.Tensor) -> float:
    return float((output - exact).norm() / exact.norm())


def _rounded(values: torch.Tensor, amax: torch.Tensor, name: str) -> torch.Tensor:
    if name == "W8A8" or "INT8" in name:
        step = amax / 127
        return (values / step).round().clamp(-127, 127) * step
    step = amax / 448
    return (values / step).clamp(-448, 448).to(torch.float8_e4m3fn).float() * step


EVERY = [*(SCHEMES[name] for name in ("FP8_DYNAMIC", "FP8", "W8A8")), STATIC_INT8]


@pytest.mark.parametrize("scheme", EVERY, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("alpha", [0, 0.5])
def test_error_is_that_of_rounded_weights_and_inputs(scheme: Scheme, alpha: float) -> None:
    weight, rows = _layer()
    amax = rows.abs().amax(dim=0) * 1.5  # the sample missed the largest
    p = smoothing_factors(amax, weight.abs().amax(dim=0), alpha) if alpha else torch.ones(32)
    x, w = rows * p, weight / p
    per_row = x.abs().amax(dim=1, keepdim=True)
    x_amax = (amax * p).amax() if scheme.has_static_input else per_row
    assert scheme.weights is not None
    w_amax = w.abs().amax() if scheme.weights.strategy == "tensor" else w.abs().amax(dim=1, keepdim=True)
    output = _rounded(x, x_amax, scheme.name) @ _rounded(w, w_amax, scheme.name).T
    found = smooth([weight], [scheme], rows, amax, alpha)
    assert found.error == pytest.approx(_relative(output, rows @ weight.T), rel=1e-3)
    assert found.error > 1e-4


def test_error_of_several_layers_is_over_their_outputs_together() -> None:
    (small, rows), large = _layer(), _layer(1)[0] * 5
    amax = rows.abs().amax(dim=0)
    scheme = SCHEMES["W8A8"]
    exact = [rows @ weight.T for weight in (small, large)]
    alone = [smooth([weight], [scheme], rows, amax, 0).error for weight in (small, large)]
    squares = sum((error * output.norm().item()) ** 2 for error, output in zip(alone, exact, strict=True))
    together = smooth([small, large], [scheme] * 2, rows, amax, 0).error
    assert together == pytest.approx((squares / torch.cat(exact, dim=1).square().sum().item()) ** 0.5, rel=1e-4)


@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.8, 1.0])
def test_factors_and_error_are_those_of_modelopt(alpha: float) -> None:
    """ModelOpt smooths one layer with static per-tensor INT8 inputs; it clamps only factors beyond 1e-4 and 1e4."""
    weight, rows = _layer()
    linear = nn.Linear(32, 12, bias=False)
    linear.weight.data.copy_(weight)
    config = {
        "quant_cfg": [
            {"quantizer_name": "*", "enable": False},
            {"quantizer_name": "*weight_quantizer", "cfg": {"num_bits": 8, "axis": 0}},
            {"quantizer_name": "*input_quantizer", "cfg": {"num_bits": 8, "axis": None}},
        ],
        "algorithm": {"method": "smoothquant", "alpha": alpha},
    }
    quantized = mtq.quantize(nn.Sequential(linear), config, lambda calibrated: calibrated(rows))
    theirs = quantized[0].input_quantizer.pre_quant_scale
    found = smooth([weight], [STATIC_INT8], rows, rows.abs().amax(dim=0), alpha)
    assert found.pre_quant_scale is not None
    assert theirs.min() > 1e-4
    assert theirs.max() < 1e4
    torch.testing.assert_close(found.pre_quant_scale, theirs)
    with torch.no_grad():
        assert found.error == pytest.approx(_relative(quantized(rows), rows @ weight.T), rel=0.02)

"""No op gives a gradient that is wrong or missing without a word, on any path through autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from quant.kernels import ops
from quant.kernels.layouts import sparse24

K, N = 128, 8
X = torch.linspace(-1, 1, 4 * K).reshape(4, K)
CODES = torch.arange(N * K).reshape(N, K).remainder(100).to(torch.int8)
SCALE = torch.full((N, 1), 0.01)


def _sparse(x: torch.Tensor) -> torch.Tensor:
    values, meta = sparse24.compress(CODES.float() * torch.tensor([1.0, 0, 1, 0]).repeat(K // 4))
    return ops.sparse_scaled_mm(x, None, values, meta, None, out_dtype=torch.float32)


def _static(x: torch.Tensor) -> torch.Tensor:
    codes, scale = ops.quantize_rows(x, torch.int8, scale=torch.tensor([0.1]))
    return ops.scaled_mm(codes, scale, CODES, SCALE, out_dtype=torch.float32)


def _fp8(x: torch.Tensor) -> torch.Tensor:
    codes, scale = ops.quantize_rows(x, torch.float8_e4m3fn)
    weight = CODES.float().to(torch.float8_e4m3fn)
    return ops.scaled_mm(codes, scale, weight, SCALE, out_dtype=torch.float32)


def _residual(x: torch.Tensor) -> torch.Tensor:
    codes, scale = ops.quantize_rows(X, torch.int8)
    return ops.scaled_mm(codes, scale, CODES, SCALE, residual=x[:, :N], out_dtype=torch.float32)


def _conv(x: torch.Tensor) -> torch.Tensor:
    return ops.scaled_conv(
        x.view(1, 4, K), None, CODES, SCALE, kernel_size=[1], stride=[1], padding=[0], dilation=[1], out_dtype=x.dtype
    )


PATHS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "int8 by a static scale": _static,
    "fp8": _fp8,
    "residual": _residual,
    "int8_mm": lambda x: ops.int8_mm(x, CODES, SCALE, out_dtype=torch.float32),
    "int4_mm": lambda x: ops.int4_mm(x, torch.ones(N, K // 8, dtype=torch.int32), SCALE, out_dtype=torch.float32),
    "sparse": _sparse,
    "scaled_conv": _conv,
}


@pytest.mark.parametrize("path", PATHS)
def test_backward_is_refused_and_forward_is_not(path: str) -> None:
    run = PATHS[path]
    with torch.no_grad():
        expected = run(X)
    out = run(X.clone().requires_grad_())
    assert torch.equal(out, expected)
    with pytest.raises(NotImplementedError, match=r"quant\.\w+ has no gradient, for it rounds: run a quantized layer"):
        out.sum().backward()  # type: ignore[no-untyped-call]
    assert not run(X).requires_grad


def test_torch_ops_called_past_the_checks_are_refused_at_once() -> None:
    x = X.clone().requires_grad_()
    rest = (None, "none", None, None, 0.0, None, None)
    with pytest.raises(NotImplementedError, match="quantize_rows has no gradient"):
        torch.ops.quant.quantize_rows(x, torch.int8, None, *rest)
    with pytest.raises(NotImplementedError, match="int8_mm has no gradient"):
        torch.ops.quant.int8_mm(x, CODES, SCALE, None, "none", None, None, torch.float32, None)
    with torch.no_grad():
        torch.ops.quant.quantize_rows(x, torch.int8, None, *rest)


def test_forward_mode_and_compiled_graphs_are_refused_too() -> None:
    with pytest.raises(NotImplementedError, match="has no gradient"):
        torch.func.jvp(_static, (X,), (torch.ones_like(X),))
    with pytest.raises(NotImplementedError, match="has no gradient"):
        torch.func.grad(lambda x: _static(x).sum())(X)
    with pytest.raises(NotImplementedError, match="has no gradient"):
        torch.compile(_static, backend="aot_eager")(X.clone().requires_grad_()).sum().backward()  # type: ignore[no-untyped-call]

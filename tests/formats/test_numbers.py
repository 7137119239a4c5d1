"""Every weight that a file holds is within half a step of the original's, whatever numbers the original had."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import quant
from quant.algorithms.sparse24 import magnitude_mask
from quant.checkpoint.streaming import write_shards
from quant.errors import ModelError
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES, Scheme
from quant.formats.tensors import pack_linear
from quant.pipelines.inputs.tensors import as_stored
from quant.pipelines.weights import plans_of, source_tensors
from quant.recipe import Recipe
from tests.checkpoint.tiny import parts
from tests.formats.decoder import Array, decoded, read

SPELLED = [
    Scheme.parse(
        {"weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": False}}
    ),
    Scheme.parse({"weights": {"num_bits": 4, "type": "int", "strategy": "channel"}}),
    Scheme.parse(
        {
            "weights": {"num_bits": 8, "type": "int", "strategy": "tensor"},
            "input_activations": {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True},
        }
    ),
]
ALL = [*(scheme for scheme in SCHEMES.values() if scheme.weights is not None), *SPELLED]
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
KINDS = ["normal", "zero", "constant", "outlier", "one sign", "alternating"]
#: Largest magnitudes: the ends of float32's normal and subnormal numbers, of float16, and what lies between.
SIZES = [1e38, 3e37, 1e30, 65504.0, 448.0, 1.0, 1e-5, 1e-30, 1e-38, 1e-40, 1e-45]


@st.composite
def originals(draw: st.DrawFn) -> torch.Tensor:
    """A weight [N, K] of any float dtype, kind and size."""
    n, k = draw(st.sampled_from([1, 3, 130])), draw(st.sampled_from([1, 4, 64, 128, 256]))
    dtype, kind, size = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(KINDS)), draw(st.sampled_from(SIZES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    weight = torch.randn(n, k, generator=generator, dtype=torch.float64)
    match kind:
        case "zero":
            weight = torch.zeros_like(weight)
        case "constant":
            weight = torch.ones_like(weight)
        case "outlier":
            weight *= 1e-6
            weight[draw(st.integers(0, n - 1)), draw(st.integers(0, k - 1))] = 1
        case "one sign":
            weight = -weight.abs()
        case "alternating":
            weight = torch.ones_like(weight) * (-1) ** torch.arange(k)
    weight = weight / weight.abs().max().clamp(min=1e-300) * min(size, torch.finfo(dtype).max)
    weight[0, 0] = draw(st.sampled_from([0.0, -0.0])) if k > 1 else weight[0, 0]
    return weight.to(dtype)


def part_of(scheme: Scheme, shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns that share a scale."""
    assert scheme.weights is not None
    match scheme.weights.strategy:
        case "tensor":
            return shape[0], shape[1]
        case "group":
            return 1, scheme.weights.group_size or 0
        case "block":
            return 128, 128
        case _:
            return 1, shape[1]


def check(original: torch.Tensor, tensors: dict[str, Array], scheme: Scheme) -> None:
    """Half a step: of the scale, or of e4m3's numbers; of asymmetric ones the rounded range may shift by a little."""
    assert scheme.weights is not None
    found, scale, zeros = decoded(tensors, scheme.weights.num_bits, part_of(scheme, tuple(original.shape)))
    exact = original.double().numpy()
    assert np.isfinite(found).all()
    assert np.isfinite(scale).all() and (scale >= 2.0**-126).all()
    if scheme.weights.type == "float":
        _, exponent = np.frexp(np.abs(exact) / scale)
        step = np.ldexp(scale, np.maximum(exponent - 1, -6) - 3)
    else:
        # The 15 steps of an asymmetric range are each off by up to 2**-8, the rounding of a scale to bfloat16.
        step = scale * (1 if scheme.weights.symmetric else 1 + 2 * 15 * 2.0**-8)
    # The quotient is a float32, and so is what a float64 becomes before.
    assert (np.abs(found - exact) <= 0.5 * step + 2e-7 * np.abs(exact) + 1e-7 * scale).all()
    assert (found[exact == 0] == 0).all()
    if zeros is not None:
        assert (zeros >= -8).all() and (zeros <= 7).all()


@pytest.mark.parametrize("scheme", ALL, ids=lambda scheme: scheme.name)
@given(weight=originals())
@settings(max_examples=40, deadline=None)
def test_a_file_means_the_weight_within_half_a_step(
    tmp_path_factory: pytest.TempPathFactory, scheme: Scheme, weight: torch.Tensor
) -> None:
    assert scheme.weights is not None
    if weight.shape[1] % (scheme.weights.group_size or 1):
        with pytest.raises(ValueError, match="do not fit"):
            pack_linear(weight, LayerFormat(scheme), input_scale=_input_scale(scheme))
        return
    check(
        weight,
        written(
            tmp_path_factory.getbasetemp(), pack_linear(weight, LayerFormat(scheme), input_scale=_input_scale(scheme))
        ),
        scheme,
    )


@given(weight=originals())
@settings(max_examples=40, deadline=None)
def test_a_sparse_file_means_the_weight_within_half_a_step(
    tmp_path_factory: pytest.TempPathFactory, weight: torch.Tensor
) -> None:
    if weight.shape[1] % 4:
        return
    pruned = weight.double() * magnitude_mask(weight.double())
    for name in ("W8A8", "FP8_DYNAMIC"):
        tensors = written(tmp_path_factory.getbasetemp(), pack_linear(pruned, LayerFormat(SCHEMES[name], sparse=True)))
        check(pruned, tensors, SCHEMES[name])


def _input_scale(scheme: Scheme) -> torch.Tensor | None:
    return torch.ones(1) if scheme.has_static_input else None


def written(folder: Path, tensors: dict[str, torch.Tensor]) -> dict[str, Array]:
    """The tensors as a checkpoint's file has them."""
    (folder / "numbers.safetensors").unlink(missing_ok=True)
    (name,) = write_shards(folder, parts(tensors), stem="numbers")
    return read(folder / name)


RECIPE = {"version": 1, "groups": [{"targets": ["Linear"], "scheme": "W4A16_ASYM"}]}


def test_a_saved_model_means_the_weight_within_half_a_step(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(128, 16, bias=False)).eval()
    folder = quant.save(quant.quantize(model, Recipe.from_dict(RECIPE)), tmp_path / "out")
    (file,) = folder.glob("*.safetensors")
    tensors = {name.removeprefix("0."): each for name, each in read(file).items()}
    check(next(model.parameters()).detach(), tensors, SCHEMES["W4A16_ASYM"])


@pytest.mark.parametrize(
    ("stored", "value", "dtype"),
    [
        (torch.float64, 1e300, torch.float32),
        (torch.float64, -3.5e38, torch.bfloat16),
        (torch.float32, 65536.0, torch.float16),
    ],
)
def test_a_weight_that_a_dtype_does_not_hold_is_refused_by_name(
    tmp_path: Path, stored: torch.dtype, value: float, dtype: torch.dtype
) -> None:
    weight = torch.tensor([[1.0, value]], dtype=stored)
    write_shards(tmp_path, parts({"weight": weight}))
    with torch.device("meta"):
        model = nn.Linear(2, 1, bias=False)
    kind = str(dtype).removeprefix("torch.")
    with pytest.raises(
        ModelError, match=rf"tensor 'weight': holds [\d.e+]+, which {kind} does not; use another --dtype$"
    ):
        plans_of(model, tmp_path, as_stored(source_tensors(tmp_path)), dtype)["weight"].whole()


@pytest.mark.parametrize("scheme", ["W4A16", "W4A16_ASYM", "W8A16", "FP8_DYNAMIC", "W8A8"])
def test_a_weight_next_to_the_largest_float_is_stored_right_or_refused_by_name(scheme: str) -> None:
    recipe = Recipe.from_dict({"version": 1, "groups": [{"targets": ["Linear"], "scheme": scheme}]})
    for value in (1.6e38, 3.1e38, float(torch.finfo(torch.float32).max)):
        model = nn.Sequential(nn.Linear(128, 2, bias=False)).eval()
        with torch.no_grad():
            next(model.parameters())[0, :2] = torch.tensor([value, -value])
        says = rf"^layer '0': its weights reach 3\.4e\+38; as {scheme} some would not be finite; keep it with 'ignore'$"
        refused = value > 3.2e38 and scheme in ("W8A16", "W8A8")  # their largest code has a scale beyond it
        with pytest.raises(ModelError, match=says) if refused else nullcontext():
            assert quant.quantize(model, recipe).quant_record.layers[0]["weight_error"] < 0.1


@pytest.mark.parametrize(("n", "k"), [(0, 128), (4, 0), (0, 0)])
def test_a_layer_without_weights_is_refused_by_name(n: int, k: int) -> None:
    model = nn.Sequential(nn.Linear(k, n))
    with pytest.raises(quant.QuantError, match=rf"'0'.*{n} x {k}"):
        quant.quantize(model, Recipe.from_dict(RECIPE))


@pytest.mark.parametrize("scheme", [scheme for scheme in ALL if not scheme.has_static_input], ids=lambda s: s.name)
def test_no_rows_give_no_rows(scheme: Scheme) -> None:
    body = {"weights": scheme.weights.to_dict()} if scheme in SPELLED else scheme.name  # type: ignore[union-attr]
    if scheme in SPELLED and scheme.input_activations is not None:
        return
    recipe = Recipe.from_dict({"version": 1, "groups": [{"targets": ["Linear"], "scheme": body}]})
    made = quant.quantize(nn.Sequential(nn.Linear(128, 3)).eval(), recipe)
    assert made(torch.empty(0, 128)).shape == (0, 3)
    assert made(torch.empty(2, 0, 128)).shape == (2, 0, 3)

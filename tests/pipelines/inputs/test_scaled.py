"""Codes and scales in the ways that others write them are read as the weights that they mean, any rows of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from quant.checkpoint.reader import headers
from quant.errors import ModelError
from quant.pipelines.inputs.scaled import meant
from quant.pipelines.inputs.table import open_files
from quant.pipelines.inputs.tensors import SourceTensor

N, K = 300, 130
FP8 = torch.float8_e4m3fn
Tensors = dict[str, torch.Tensor]


def codes(dtype: torch.dtype = FP8, *shape: int) -> torch.Tensor:
    torch.manual_seed(0)
    return (torch.randn(shape or (N, K)) * 20).to(dtype)


def note(**says: object) -> torch.Tensor:
    return torch.tensor(list(json.dumps(says).encode()), dtype=torch.uint8)


def read(folder: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> dict[str, SourceTensor]:
    path = folder / "model.safetensors"
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, path, metadata=metadata)
    return meant(headers([path]))


def blocks(scale: torch.Tensor) -> torch.Tensor:
    return scale.repeat_interleave(128, 0)[:N].repeat_interleave(128, 1)[:, :K]


ONE, ROWS, BLOCKS = torch.tensor(0.125 / 3), torch.rand(N) + 0.1, torch.rand(3, 2) + 0.1
FILES: dict[str, tuple[Tensors, torch.Tensor]] = {
    "comfyui scaled_fp8": (
        {
            "scaled_fp8": torch.zeros(2, dtype=FP8),
            "a.weight": codes(),
            "a.scale_weight": ONE.reshape(1),
            "a.scale_input": torch.ones(1),
        },
        codes().float() * ONE,
    ),
    "comfyui comfy_quant": (
        {
            "a.weight": codes(),
            "a.weight_scale": ONE,
            "a.input_scale": torch.ones(()),
            "a.comfy_quant": note(format="float8_e4m3fn", full_precision_matrix_mult=True),
        },
        codes().float() * ONE,
    ),
    "comfyui comfy_quant as bytes": (
        {
            "a.weight": codes().view(torch.uint8),
            "a.weight_scale": ONE,
            "a.comfy_quant": note(format="float8_e4m3fn"),
        },
        codes().float() * ONE,
    ),
    "comfyui int8_tensorwise": (
        {
            "a.weight": codes(torch.int8),
            "a.weight_scale": ROWS.reshape(N, 1),
            "a.comfy_quant": note(format="int8_tensorwise", convrot=False),
        },
        codes(torch.int8).float() * ROWS[:, None],
    ),
    "ltx-2": ({"a.weight": codes(), "a.weight_scale": ONE, "a.input_scale": ONE}, codes().float() * ONE),
    "by row": ({"a.weight": codes(), "a.weight_scale": ROWS}, codes().float() * ROWS[:, None]),
    "e5m2, bf16 scales": (
        {"a.weight": codes(torch.float8_e5m2), "a.weight_scale": ROWS.bfloat16()},
        codes(torch.float8_e5m2).float() * ROWS.bfloat16().float()[:, None],
    ),
    "deepseek": ({"a.weight": codes(), "a.weight_scale_inv": BLOCKS}, codes().float() * blocks(BLOCKS)),
    "a convolution": (
        {"a.weight": codes(FP8, 6, 3, 1, 2, 2), "a.weight_scale": ROWS[:6].reshape(6, 1, 1, 1, 1)},
        codes(FP8, 6, 3, 1, 2, 2).float() * ROWS[:6].reshape(6, 1, 1, 1, 1),
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_rows_are_codes_times_scales(tmp_path: Path, kind: str) -> None:
    tensors, expected = FILES[kind]
    bias = torch.randn(N).bfloat16()
    found = read(tmp_path, {**tensors, "a.bias": bias})
    assert set(found) == {"a.weight", "a.bias"}
    weight = found["a.weight"]
    assert (weight.dtype, weight.shape, weight.scaled) == ("F32", tuple(expected.shape), True)
    assert torch.equal(weight.whole(), expected)
    for start, stop in ((0, 5), (3, 4), (100, 300), (128, 256), (250, 299)):
        if stop <= len(expected):
            assert torch.equal(weight.rows(start, stop), expected[start:stop])
    assert (found["a.bias"].dtype, found["a.bias"].scaled) == ("BF16", False)
    assert torch.equal(found["a.bias"].whole(), bias)


def test_notes_in_the_metadata_of_the_file(tmp_path: Path) -> None:
    notes = json.dumps({"layers": {"x.a": {"format": "float8_e4m3fn"}}})
    tensors = {"x.a.weight": codes().view(torch.uint8), "x.a.weight_scale": ONE, "x.b.weight": codes(torch.float16)}
    found = read(tmp_path, tensors, {"_quantization_metadata": notes})
    assert torch.equal(found["x.a.weight"].whole(), codes().float() * ONE)
    assert not found["x.b.weight"].scaled


def test_a_file_without_scales_is_read_as_it_is(tmp_path: Path) -> None:
    tensors = {"a.weight": codes(), "b": torch.tensor(3), "c": torch.zeros(0, 4)}
    found = read(tmp_path, tensors)
    assert list(found) == sorted(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(found[name].whole().float(), tensor.float())
    assert not any(tensor.scaled for tensor in found.values())


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (
            {"a.weight": codes(torch.uint8), "a.weight_scale": ONE, "a.comfy_quant": note(format="nvfp4")},
            "'a.weight': is in ComfyUI's format 'nvfp4'; those read here are float8_e4m3fn, float8_e5m2, int8_tensorwi",
        ),
        (
            {"a.weight": codes(), "a.weight_scale": codes(torch.uint8, N, 5), "a.comfy_quant": note(format="mxfp8")},
            "'a.weight': is in ComfyUI's format 'mxfp8'; those",
        ),
        (
            {
                "a.weight": codes(torch.int8),
                "a.weight_scale": ROWS.reshape(N, 1),
                "a.comfy_quant": note(format="int8_tensorwise", convrot=True, convrot_groupsize=256),
            },
            "'a.weight': is in ComfyUI's int8_tensorwise with 'convrot' True, which is not read here; load",
        ),
        ({"a.weight": codes(), "a.comfy_quant": note(format="float8_e4m3fn")}, "holds the codes 'a.weight' without t"),
        ({"a.weight": codes(torch.float16), "a.weight_scale": ONE}, "holds 'a.weight_scale', F32, for 'a.weight', F16"),
        (
            {"a.weight": codes(), "a.weight_scale": torch.ones(N, 5)},
            r"'a.weight_scale' is F32 \[300, 5\], and",
        ),
        (
            {"a.weight": codes(), "a.weight_scale": torch.ones(N, 5, dtype=torch.uint8)},
            "holds 'a.weight_scale', U8, for 'a.weight', F8_E4M3; those read here are floats",
        ),
        ({"a.weight": codes(), "a.weight_scale": ONE, "a.scale_weight": ONE}, "holds both 'a.scale_weight' and 'a.wei"),
        ({"a.weight": codes(), "a.comfy_quant": note()[:-1]}, "'a.comfy_quant': damaged: "),
        ({"a.weight": codes(), "a.comfy_quant": torch.ones(3)}, "'a.comfy_quant': must be JSON as U8 bytes, is F32"),
        (
            {"a.weight": codes(torch.float16), "a.comfy_quant": note(format="float8_e5m2")},
            "is F16, and its note says",
        ),
    ],
)
def test_what_is_not_understood_is_refused_by_name(tmp_path: Path, tensors: Tensors, says: str) -> None:
    with pytest.raises(ModelError, match=says) as error:
        read(tmp_path, tensors)
    assert str(error.value).startswith(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"a.weight_packed": codes(torch.int32), "a.weight_scale": ONE}, "belongs to quantized weights"),
        ({"a.weight": codes(torch.uint8), "a.weight_scale_2": ONE}, r"holds 'a\.weight_scale_2', .* \(FP4 codes\)"),
        (
            {"scaled_fp8": torch.zeros(2, dtype=FP8), "a.weight": codes()},
            r"holds 'scaled_fp8', which belongs to qu",
        ),
    ],
)
def test_other_codes_are_refused_when_their_model_is_known(tmp_path: Path, tensors: Tensors, says: str) -> None:
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=says):
        open_files(tmp_path / "model.safetensors")


def test_weights_that_no_class_is_known_of_get_the_dtype_that_is_asked_for(tmp_path: Path) -> None:
    tensors = {"a.weight": codes(), "a.weight_scale": ONE, "n.weight": codes(), "c.weight": codes(torch.float16)}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.warns(UserWarning, match=r"1 tensors are F8_E4M3 without scales, such as 'n\.weight'"):
        plans = open_files(tmp_path / "model.safetensors").tensors(torch.bfloat16)
    assert {name: plan.dtype for name, plan in plans.items()} == {
        "a.weight": torch.bfloat16,
        "n.weight": torch.bfloat16,
        "c.weight": torch.float16,
    }
    assert torch.equal(plans["a.weight"].whole(), (codes().float() * ONE).bfloat16())
    assert torch.equal(plans["n.weight"].whole(), codes().bfloat16())


def test_codes_and_scales_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    weight = codes()
    weight.view(torch.uint8)[200, 7] = 0x7F
    save_file({"a.weight": weight, "a.weight_scale": ONE}, tmp_path / "model.safetensors")
    plan = open_files(tmp_path / "model.safetensors").tensors(torch.bfloat16)["a.weight"]
    assert plan.checked(0, 100).isfinite().all()
    with pytest.raises(ModelError, match=r"tensor 'a\.weight': holds NaN at \[200, 7\]; weights are finite"):
        plan.whole()

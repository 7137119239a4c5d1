"""Schemes: names, spelled-out parts, and exact refusals."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from compressed_tensors.quantization import QuantizationScheme, preset_name_to_scheme

from quant.errors import RecipeError
from quant.packing.eight_bit import storage_dtype
from quant.scheme import SCHEMES, Scheme, TensorFormat

INT8_CHANNEL = {"num_bits": 8, "type": "int", "strategy": "channel"}
INT8_TOKEN = {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True}
FP8_CHANNEL = {**INT8_CHANNEL, "type": "float"}
FP8_TENSOR = {**FP8_CHANNEL, "strategy": "tensor"}


def parse(weights: dict[Any, Any], inputs: dict[Any, Any]) -> Scheme:
    return Scheme.parse({"weights": weights, "input_activations": inputs}, "here")


@pytest.mark.parametrize("name", SCHEMES)
def test_a_name_means_what_compressed_tensors_means_by_it(name: str) -> None:
    theirs = preset_name_to_scheme(name, ["Linear"])
    ours = SCHEMES[name]
    for part in ("weights", "input_activations"):
        form, preset = getattr(ours, part), getattr(theirs, part)
        assert form.to_dict() == {key: getattr(preset, key) for key in form.to_dict()}


@pytest.mark.parametrize("name", SCHEMES)
def test_its_config_group_is_valid_in_compressed_tensors(name: str) -> None:
    group = QuantizationScheme.model_validate({"targets": ["Linear"], **SCHEMES[name].to_dict()})
    assert group.format == SCHEMES[name].format
    assert group.weights.pytorch_dtype() == storage_dtype(SCHEMES[name].weights)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [("fp8_dynamic", "FP8_DYNAMIC"), ("Fp8", "FP8"), ("w8a8", "W8A8"), ("INT8", "W8A8"), ("int8", "W8A8")],
)
def test_names_are_case_insensitive_and_have_aliases(spelling: str, name: str) -> None:
    assert Scheme.parse(spelling) is SCHEMES[name]


@pytest.mark.parametrize("name", SCHEMES)
def test_known_parts_get_the_known_name(name: str) -> None:
    scheme = SCHEMES[name]
    assert parse(scheme.weights.to_dict(), scheme.input_activations.to_dict()) is scheme


@pytest.mark.parametrize(
    ("name", "storage", "layout", "static"),
    [
        ("FP8_DYNAMIC", torch.float8_e4m3fn, "float-quantized", False),
        ("FP8", torch.float8_e4m3fn, "float-quantized", True),
        ("W8A8", torch.int8, "int-quantized", False),
    ],
)
def test_what_is_stored(name: str, storage: torch.dtype, layout: str, static: bool) -> None:
    scheme = SCHEMES[name]
    assert storage_dtype(scheme.weights) == storage
    assert (scheme.format, scheme.has_static_input) == (layout, static)


def test_a_spelled_out_scheme_is_named_by_its_parts() -> None:
    scheme = parse(INT8_CHANNEL, {"num_bits": 8, "type": "int", "strategy": "tensor"})
    assert scheme.name == "INT8_CHANNEL_X_TENSOR"
    assert scheme.has_static_input
    scheme = parse(FP8_TENSOR, {**INT8_TOKEN, "type": "float"})
    assert scheme.name == "FP8_TENSOR_X_TOKEN"
    assert not scheme.has_static_input


def test_defaults_are_symmetric_and_static() -> None:
    form = TensorFormat.from_dict(INT8_CHANNEL, "here")
    assert form == TensorFormat(8, "int", "channel", symmetric=True, dynamic=False)
    assert TensorFormat.from_dict(form.to_dict(), "here") == form


def test_what_says_how_scales_were_found_is_no_part_of_a_format() -> None:
    noise: dict[str, Any] = {"observer": "minmax", "observer_kwargs": {}, "scale_dtype": None, "zp_dtype": "torch.int8"}
    absent = {"group_size": None, "block_structure": None, "actorder": None}
    both = {**INT8_CHANNEL, **noise, **absent}
    assert TensorFormat.from_dict(both, "here", of_file=True) == TensorFormat(8, "int", "channel")
    with pytest.raises(RecipeError, match="here: unknown key 'observer'"):  # in a recipe: a wish that nobody hears
        TensorFormat.from_dict(both, "here")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("W9A9", "here: unknown scheme 'W9A9'; known: FP8_DYNAMIC, FP8, W8A8"),
        ("", "here: unknown scheme ''"),
        ({}, "here: 'weights' is missing; weight-only"),
        ({"weights": INT8_CHANNEL}, "here: 'input_activations' is missing; weight-only"),
        ({"weights": INT8_CHANNEL, "input_activations": None}, "here: 'input_activations' is missing"),
        ({"weights": INT8_CHANNEL, "outputs": {}}, "here: unknown key 'outputs'"),
        ({1: 2, "outputs": {}}, "here: unknown key '1'"),
    ],
)
def test_refuses_an_unknown_scheme(value: Any, says: str) -> None:
    with pytest.raises(RecipeError) as error:
        Scheme.parse(value, "here")
    assert str(error.value).startswith(says)


@pytest.mark.parametrize("key", ["num_bits", "type", "strategy"])
def test_refuses_a_part_without_a_key(key: str) -> None:
    form = {name: value for name, value in INT8_CHANNEL.items() if name != key}
    with pytest.raises(RecipeError, match=rf"^here\.weights: '{key}' is missing$"):
        parse(form, INT8_TOKEN)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_bits": 4}, "here.weights: supported are symmetric static 8-bit"),
        ({"type": "fp"}, "here.weights: supported are symmetric static 8-bit"),
        ({"symmetric": False}, "here.weights: supported are symmetric static 8-bit"),
        ({"dynamic": True}, "here.weights: supported are symmetric static 8-bit"),
        ({"symmetric": "yes"}, "here.weights.symmetric: must be true or false, got 'yes'"),
        ({"dynamic": "local"}, "here.weights.dynamic: must be true or false, got 'local'"),
        ({"strategy": "token"}, "here.weights: strategy 'token'; supported: channel, tensor"),
        ({"strategy": "group", "group_size": 128}, "here.weights: unknown key 'group_size'"),
        ({3: 4, "block": 1}, "here.weights: unknown key '3'"),
    ],
)
def test_refuses_weights_that_no_kernel_runs(changes: dict[Any, Any], says: str) -> None:
    with pytest.raises(RecipeError) as error:
        parse({**INT8_CHANNEL, **changes}, INT8_TOKEN)
    assert str(error.value).startswith(says)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_bits": 4},
        {"type": "float"},
        {"symmetric": False},
        {"dynamic": False},
        {"strategy": "tensor"},
        {"strategy": "channel", "dynamic": False},
    ],
)
def test_refuses_inputs_that_no_kernel_runs(changes: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"^here\.input_activations: "):
        parse(INT8_CHANNEL, {**INT8_TOKEN, **changes})


def test_a_scheme_is_frozen_and_hashable() -> None:
    scheme = SCHEMES["W8A8"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        scheme.name = "other"  # type: ignore[misc]
    assert hash(scheme) == hash(parse(INT8_CHANNEL, INT8_TOKEN))
    assert len(set(SCHEMES.values())) == len(SCHEMES)

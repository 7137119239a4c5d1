"""Schemes: names, spelled-out parts, and exact refusals."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from compressed_tensors.quantization import QuantizationScheme, preset_name_to_scheme

from quant.errors import RecipeError
from quant.formats.eight_bit import storage_dtype
from quant.formats.scheme import SCHEMES, UNQUANTIZED, Scheme, TensorFormat

INT8_CHANNEL = {"num_bits": 8, "type": "int", "strategy": "channel"}
INT8_TOKEN = {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True}
FP8_CHANNEL = {**INT8_CHANNEL, "type": "float"}
FP8_TENSOR = {**FP8_CHANNEL, "strategy": "tensor"}


NAMED = [name for name in SCHEMES if name != UNQUANTIZED]


def parse(weights: dict[Any, Any], inputs: dict[Any, Any] | None) -> Scheme:
    return Scheme.parse({"weights": weights, "input_activations": inputs}, "here")


@pytest.mark.parametrize("name", NAMED)
def test_a_name_means_what_compressed_tensors_means_by_it(name: str) -> None:
    theirs = preset_name_to_scheme(name, ["Linear"])
    ours = SCHEMES[name]
    for part in ("weights", "input_activations"):
        mine, preset = getattr(ours, part), getattr(theirs, part)
        assert (mine is None) == (preset is None)
        assert mine is None or mine.to_dict() == {key: getattr(preset, key) for key in mine.to_dict()}


def test_a_layer_that_is_only_sparse_has_no_formats() -> None:
    assert (SCHEMES[UNQUANTIZED].weights, SCHEMES[UNQUANTIZED].input_activations) == (None, None)
    assert SCHEMES[UNQUANTIZED].to_dict() == {"format": "dense"}


@pytest.mark.parametrize("name", NAMED)
def test_its_config_group_is_valid_in_compressed_tensors(name: str) -> None:
    group = QuantizationScheme.model_validate({"targets": ["Linear"], **SCHEMES[name].to_dict()})
    assert group.format == SCHEMES[name].format
    tensor_format = SCHEMES[name].weights
    assert tensor_format is not None
    assert group.weights.pytorch_dtype() == storage_dtype(tensor_format)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [("fp8_dynamic", "FP8_DYNAMIC"), ("Fp8", "FP8"), ("w8a8", "W8A8"), ("INT8", "W8A8"), ("int8", "W8A8")],
)
def test_names_are_case_insensitive_and_have_aliases(spelling: str, name: str) -> None:
    assert Scheme.parse(spelling) is SCHEMES[name]


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("name", [name for name in NAMED if SCHEMES[name].has_groups])
def test_smaller_groups_have_a_name_that_is_read_back(name: str, size: int) -> None:
    found = SCHEMES[name].with_groups_of(size)
    assert found.name == f"{name}_G{size}" and found.weights is not None and found.weights.group_size == size
    parts = {key: part for key, part in found.to_dict().items() if key != "format"}
    assert Scheme.parse(found.name.lower()) == Scheme.parse(parts) == found
    assert found.with_groups_of(128) == SCHEMES[name]


@pytest.mark.parametrize("name", ["W4A16_G48", "W8A8_G64", "W4A16_G", "_G64", "FP8_BLOCK_G64"])
def test_groups_of_another_size_or_scheme_have_no_name(name: str) -> None:
    with pytest.raises(RecipeError, match=f"unknown scheme '{name}'; known: "):
        Scheme.parse(name)


@pytest.mark.parametrize("name", NAMED)
def test_known_parts_get_the_known_name(name: str) -> None:
    scheme = SCHEMES[name]
    inputs = scheme.input_activations
    assert scheme.weights is not None
    assert parse(scheme.weights.to_dict(), None if inputs is None else inputs.to_dict()) is scheme


@pytest.mark.parametrize(
    ("name", "storage", "layout", "static"),
    [
        ("FP8_DYNAMIC", torch.float8_e4m3fn, "float-quantized", False),
        ("FP8", torch.float8_e4m3fn, "float-quantized", True),
        ("FP8_BLOCK", torch.float8_e4m3fn, "float-quantized", False),
        ("W8A8", torch.int8, "int-quantized", False),
        ("W8A16", torch.int8, "pack-quantized", False),
        ("W4A16_ASYM", torch.int8, "pack-quantized", False),
        ("W4A8", torch.int8, "pack-quantized", False),
        ("W4AFP8", torch.int8, "pack-quantized", False),
    ],
)
def test_what_is_stored(name: str, storage: torch.dtype, layout: str, static: bool) -> None:
    scheme = SCHEMES[name]
    assert scheme.weights is not None
    assert storage_dtype(scheme.weights) == storage
    assert (scheme.format, scheme.has_static_input) == (layout, static)


def test_a_spelled_out_scheme_is_named_by_its_parts() -> None:
    scheme = parse(INT8_CHANNEL, {"num_bits": 8, "type": "int", "strategy": "tensor"})
    assert scheme.name == "INT8_CHANNEL_X_TENSOR"
    assert scheme.has_static_input
    scheme = parse(FP8_TENSOR, {**INT8_TOKEN, "type": "float"})
    assert scheme.name == "FP8_TENSOR_X_TOKEN"
    assert not scheme.has_static_input


@pytest.mark.parametrize(
    ("weights", "inputs", "name"),
    [
        ({"strategy": "group", "group_size": 32}, None, "W4A16_G32"),
        ({"strategy": "group", "group_size": 64, "symmetric": False}, None, "W4A16_ASYM_G64"),
        ({"strategy": "channel"}, None, "W4A16_CHANNEL"),
        ({"strategy": "group", "group_size": 32}, INT8_TOKEN, "W4A8_G32"),
        ({"strategy": "channel"}, {**INT8_TOKEN, "type": "float"}, "W4AFP8_CHANNEL"),
        ({"num_bits": 8, "strategy": "channel"}, None, "W8A16_CHANNEL"),
    ],
)
def test_packed_schemes_are_named_by_their_groups(
    weights: dict[str, Any], inputs: dict[str, Any] | None, name: str
) -> None:
    scheme = parse({"num_bits": 4, "type": "int", **weights}, inputs)
    assert (scheme.name, scheme.format) == (name, "pack-quantized")


def test_defaults_are_symmetric_and_static() -> None:
    tensor_format = TensorFormat.from_dict(INT8_CHANNEL, "here")
    assert tensor_format == TensorFormat(8, "int", "channel", symmetric=True, dynamic=False)
    assert TensorFormat.from_dict(tensor_format.to_dict(), "here") == tensor_format


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
        ("W9A9", "here: unknown scheme 'W9A9'; known: FP8_DYNAMIC, FP8, FP8_BLOCK, W8A8, W8A16"),
        ("", "here: unknown scheme ''"),
        ({}, "here: 'weights' is missing"),
        ({"input_activations": INT8_TOKEN}, "here: 'weights' is missing"),
        ({"weights": INT8_CHANNEL, "input_activations": "int8"}, "here: 'input_activations' must be a mapping"),
        ({"weights": FP8_CHANNEL}, "here.weights: supported are 4- and 8-bit 'int'"),
        ({"weights": INT8_CHANNEL, "outputs": {}}, "here: unknown key 'outputs'"),
        ({1: 2, "outputs": {}}, "here: unknown key 1"),
    ],
)
def test_refuses_an_unknown_scheme(value: Any, says: str) -> None:
    with pytest.raises(RecipeError) as error:
        Scheme.parse(value, "here")
    assert str(error.value).startswith(says)


@pytest.mark.parametrize("key", ["num_bits", "type", "strategy"])
def test_refuses_a_part_without_a_key(key: str) -> None:
    body = {name: value for name, value in INT8_CHANNEL.items() if name != key}
    with pytest.raises(RecipeError, match=rf"^here\.weights: '{key}' is missing$"):
        parse(body, INT8_TOKEN)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_bits": 3}, "here.weights: supported are 4- and 8-bit 'int' and 8-bit 'float' with 8-bit inputs"),
        ({"num_bits": 4, "type": "float"}, "here.weights: supported are 4- and 8-bit 'int'"),
        ({"num_bits": 4, "strategy": "tensor"}, "here.weights: strategy 'tensor'; supported: group, channel"),
        ({"num_bits": 4, "symmetric": False}, "here.weights: asymmetric is supported for 4-bit weights of 16-bit"),
        ({"type": "fp"}, "here.weights: supported are symmetric static 8-bit"),
        ({"symmetric": False}, "here.weights: supported are symmetric static 8-bit"),
        ({"dynamic": True}, "here.weights: a weight's scales are static"),
        ({"symmetric": "yes"}, "here.weights.symmetric: must be true or false, got 'yes'"),
        ({"dynamic": "local"}, "here.weights.dynamic: must be true or false, got 'local'"),
        ({"strategy": "token"}, "here.weights: strategy 'token'; supported: channel, tensor"),
        ({"strategy": "group", "group_size": 128}, "here.weights: strategy 'group'; supported: channel, tensor"),
        ({"strategy": "group"}, "here.weights: group_size goes with strategy 'group'"),
        ({"group_size": 128}, "here.weights: group_size goes with strategy 'group'"),
        ({"strategy": "group", "group_size": 48}, "here.weights.group_size: must be one of 32, 64, 128, got 48"),
        ({"strategy": "group", "group_size": 64.0}, "here.weights.group_size: must be one of 32, 64, 128, got 64.0"),
        ({"block_structure": [128, 128]}, "here.weights: block_structure goes with strategy 'block'"),
        ({"strategy": "block", "block_structure": [64, 64]}, "here.weights.block_structure: must be [128, 128]"),
        ({"num_bits": 8.0}, "here.weights.num_bits: must be a whole number, got 8.0"),
        ({"num_bits": "8"}, "here.weights.num_bits: must be a whole number, got '8'"),
        ({"type": ["int"]}, "here.weights.type: must be a word, got ['int']"),
        ({"strategy": 5}, "here.weights.strategy: must be a word, got 5"),
        ({"symmetric": 1}, "here.weights.symmetric: must be true or false, got 1"),
        ({"strategy": "block", "block_structure": [128.0, 128]}, "here.weights.block_structure: must be [128, 128]"),
        ({3: 4, "block": 1}, "here.weights: unknown key 3"),
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

"""Whether a checkpoint holds the tensors that a model with packed layers needs: names, dtypes, shapes, values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

from quant.checkpoint.reader import StoredTensor
from quant.checkpoint.shards import DTYPE_NAMES, DTYPES
from quant.errors import CheckpointError
from quant.formats.base import TensorSpec
from quant.formats.checks import not_finite
from quant.formats.layer import LayerFormat
from quant.formats.table import misfit
from quant.formats.tensors import fault, reads_as, tensor_layout
from quant.layers.kinds import quantizable
from quant.layers.layer import QuantLayer
from quant.text import shown

#: A layer's format and the shape of its weight.
Shaped = tuple[LayerFormat, int, int]


def expected_tensors(model: nn.Module, layers: Mapping[str, LayerFormat]) -> dict[str, TensorSpec]:
    """Every tensor that a checkpoint of `model` with these packed layers has; the model's own Linears are still there.

    Raises:
        CheckpointError: a layer's format does not fit its weight.
    """
    check_layers(model, layers)
    specs: dict[str, TensorSpec] = {
        name: TensorSpec(None if tensor.is_floating_point() else tensor.dtype, tuple(tensor.shape))
        for name, tensor in model.state_dict().items()
    }
    found = quantizable(model)
    for name, layer in layers.items():
        n, k = found[name][0].size(specs.pop(f"{name}.weight").shape)
        specs.update({f"{name}.{leaf}": spec for leaf, spec in layer_tensors(name, layer, n, k).items()})
    return specs


def check_layers(model: nn.Module, layers: Mapping[str, LayerFormat]) -> None:
    """Raises CheckpointError where a config has a convolution that the model has not, or that is another one there."""
    found = quantizable(model)
    for name, layer in layers.items():
        if name not in found:
            raise CheckpointError(
                f"{shown(name)} is listed as a convolution and is none of the model; is it another's?"
            )
        kind, module = found[name]
        has = kind.kernel_size(module)
        if has != layer.kernel_size:
            listed = f"a convolution of {list(layer.kernel_size)}" if layer.kernel_size else "no convolution"
            wanted = f"one of {list(has)}" if has else "none that is quantized"
            raise CheckpointError(f"{shown(name)} is listed as {listed}, the model's is {wanted}; is it another's?")


def layer_tensors(name: str, layer_format: LayerFormat, n: int, k: int) -> dict[str, TensorSpec]:
    """The tensors of one packed layer. Raises CheckpointError where its format does not fit its weight [n, k]."""
    reason = misfit(layer_format, n, k)
    if reason is not None:
        raise CheckpointError(f"layer '{name}' [{n}, {k}]: {reason}; is it another model's checkpoint?")
    return tensor_layout(layer_format, n, k)


def shapes_of(model: nn.Module, layers: Mapping[str, LayerFormat]) -> dict[str, Shaped]:
    """Formats and weight shapes of the packed layers that are to take the places of a model's Linears."""
    found = quantizable(model)
    shapes: dict[str, Shaped] = {}
    for name, layer_format in layers.items():
        kind, module = found[name]
        shapes[name] = (layer_format, *kind.size(tuple(kind.weight(module).shape)))
    return shapes


def check_fit(
    where: Path, expected: Mapping[str, TensorSpec], stored: Mapping[str, StoredTensor], unused: Iterable[str] = ()
) -> None:
    """Refuses a checkpoint by its headers.

    Args:
        where: its folder.
        expected: the tensors that the model needs, all of them.
        stored: the tensors there are.
        unused: regular expressions of tensors that the model's class is known to leave, as diffusers searches them.

    Raises:
        CheckpointError: names the first tensor that is missing, too many, or of another shape or dtype.
    """
    for _, wrong in misfits(where, expected, stored, unused):
        raise CheckpointError(wrong)


def misfits(
    where: Path, expected: Mapping[str, TensorSpec], stored: Mapping[str, StoredTensor], unused: Iterable[str] = ()
) -> Iterator[tuple[str, str]]:
    """Every tensor that is missing, too many, or of another shape or dtype: its name, and what is wrong with it.

    Arguments as of `check_fit`.
    """
    for name, spec in expected.items():
        if name not in stored:
            yield name, f"{where}: has no tensor '{name}', which the model needs; is it another model's?"
            continue
        wrong = _tensor_fault(name, spec, stored[name])
        if wrong is not None:
            yield name, wrong
    for name in sorted(unknown(stored, expected, unused)):
        yield name, f"{where}: holds a tensor '{name}' that the model has not; is it another model's?"


def check_tensor(name: str, spec: TensorSpec, found: StoredTensor) -> None:
    """Raises CheckpointError unless a tensor's header is of the dtype and shape that its place needs."""
    wrong = _tensor_fault(name, spec, found)
    if wrong is not None:
        raise CheckpointError(wrong)


def _tensor_fault(name: str, spec: TensorSpec, found: StoredTensor) -> str | None:
    dtype, shape = spec
    if found.shape != shape:
        return f"{found.file}: tensor '{name}' is {list(found.shape)}, the model needs {list(shape)}"
    if found.dtype not in DTYPES or not reads_as(dtype, DTYPES[found.dtype]):
        needs = (
            "the model needs a float of 16 or more bits" if dtype is None else f"its scheme needs {DTYPE_NAMES[dtype]}"
        )
        return f"{found.file}: tensor '{name}' is {found.dtype}, {needs}"
    return None


def unknown(stored: Iterable[str], expected: Iterable[str], unused: Iterable[str] = ()) -> set[str]:
    """The tensors that nothing takes, but for those that match one of the expressions `unused`."""
    return {name for name in set(stored) - set(expected) if not any(re.search(pattern, name) for pattern in unused)}


def unused_of(model: nn.Module) -> Iterable[str]:
    """Expressions of the tensors that a diffusers class is known to leave in its files."""
    return getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()


def value_fault(name: str, tensor: torch.Tensor, layers: Mapping[str, Shaped]) -> str | None:
    """What is wrong with the values of a tensor, or of some of its rows, and what would be right; None where nothing.

    Args:
        name: the tensor's.
        tensor: of the dtype and shape that `check_fit` accepts.
        layers: the packed ones.
    """
    layer, _, leaf = name.rpartition(".")
    shaped = layers.get(layer)
    return not_finite(tensor) if shaped is None else fault(leaf, tensor, *shaped)


def check_rest(model: nn.Module, where: object) -> None:
    """Refuses a loaded model for what is not packed: a parameter or a stored buffer that is not finite."""
    for owner, module in model.named_modules():
        packed = isinstance(module, QuantLayer)
        stored = (
            {} if packed else {n: b for n, b in module._buffers.items() if n not in module._non_persistent_buffers_set}
        )
        for leaf, tensor in {**({"bias": module.bias} if packed else module._parameters), **stored}.items():
            wrong = None if tensor is None else not_finite(tensor)
            if wrong is not None:
                raise CheckpointError(f"{where}: tensor '{f'{owner}.{leaf}'.lstrip('.')}' {wrong}")

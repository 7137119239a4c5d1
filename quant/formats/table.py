"""Every format that a weight can be in, and which one a layer's is: the one list of them."""

from __future__ import annotations

from dataclasses import replace

from quant.formats.base import WeightFormat
from quant.formats.dense8 import Dense8
from quant.formats.int4 import Int4
from quant.formats.int8_weight_only import Int8WeightOnly
from quant.formats.layer import MOST_BINS, SPARSITY, LayerFormat
from quant.formats.scheme import GROUP_SIZES, Scheme, TensorFormat
from quant.formats.sparse24 import Sparse24

FORMATS: tuple[type[WeightFormat], ...] = (Dense8, Int4, Int8WeightOnly, Sparse24)


def format_of(layer_format: LayerFormat) -> WeightFormat:
    """Return the format of a layer's weight.

    Raises:
        ValueError: no op runs such a weight.
    """
    return _format(layer_format.scheme, layer_format.sparse)


#: The op of convolutions whose windows are no rows of their input.
CONVOLUTION = "scaled_conv"


def op_of(layer_format: LayerFormat) -> str:
    """Return the op that multiplies by a layer's weight.

    A window that is long in one direction at most makes rows that are views of the input, for the ops of Linears. Of
    any other each position is part of many rows.
    """
    return CONVOLUTION if layer_format.directions > 1 else format_of(layer_format).op


def refusal(weights: TensorFormat, inputs: TensorFormat | None) -> str | None:
    """Return why no op runs a dense weight of these formats, beginning with the key at fault; None where one does."""
    if weights.dynamic:
        return "weights: a weight's scales are static"
    asked = next((each for each in FORMATS if each.is_about(weights, inputs)), None)
    if asked is None:
        return "weights: supported are 4- and 8-bit 'int' and 8-bit 'float' with 8-bit inputs"
    return asked.refuses(weights, inputs)


def file_formats(scheme: Scheme) -> tuple[str, ...]:
    """Return compressed-tensors' names of the layout that a scheme's weights have in a file, the written one first."""
    return _format(scheme, scheme.weights is None).file_formats


def unrunnable(layer_format: LayerFormat) -> str | None:
    """Return why no op runs a layer's weight; None where one does."""
    try:
        format_of(layer_format)
    except ValueError as error:
        return str(error)
    if layer_format.bins > 1 and not layer_format.scheme.has_static_input:
        return f"{layer_format.scheme.name} has no static input whose ranges could be in bins"
    if layer_format.steps is not None and layer_format.scheme.input_activations is None:
        return f"{layer_format.scheme.name} quantizes no input that could stay as it is"
    if layer_format.bins > MOST_BINS:
        return f"{layer_format.bins} bins of static inputs: {MOST_BINS} is the most"
    return None


def misfit(layer_format: LayerFormat, n: int, k: int) -> str | None:
    """Return why a weight [n, k] cannot be stored in this format, with what would fit; None where it can."""
    if n == 0 or k == 0:
        return f"a weight of {n} x {k} holds nothing to quantize"
    # What shares a scale or a pair of zeros lies within a tap of a convolution's window.
    reason = unrunnable(layer_format) or format_of(layer_format).misfit(n, k // layer_format.taps)
    if reason is None and layer_format.rank >= min(n, k):
        return f"a branch of rank {layer_format.rank} is no smaller than the weight [{n}, {k}]"
    return reason


def adapted(layer_format: LayerFormat, n: int, k: int) -> LayerFormat | None:
    """Return the format with the largest smaller groups that a weight [n, k] can be stored in; None where none fit."""
    own = None if layer_format.scheme.weights is None else layer_format.scheme.weights.group_size
    sizes = [size for size in sorted(GROUP_SIZES, reverse=True) if own is not None and size < own]
    smaller = (replace(layer_format, scheme=layer_format.scheme.with_groups_of(size)) for size in sizes)
    return next((each for each in smaller if misfit(each, n, k) is None), None)


def _format(scheme: Scheme, sparse: bool) -> WeightFormat:
    found = next((each for each in FORMATS if each.takes(scheme, sparse)), None)
    if found is not None:
        return found(scheme)
    if scheme.weights is None:
        raise ValueError(f"{scheme.name} leaves a weight that is not sparse as it is")
    raise ValueError(f"no op runs {SPARSITY} with {scheme.name}")

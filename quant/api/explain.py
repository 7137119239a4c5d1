"""Which kernel a layer runs by, on this machine or on another GPU, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import torch

from quant.errors import KernelChoiceError
from quant.formats.eight_bit import storage_dtype
from quant.formats.layer import LayerFormat
from quant.formats.table import format_of, op_of
from quant.kernels import dispatch, tile_tables
from quant.kernels.matmuls import table
from quant.kernels.prepacking import MANY_ROWS
from quant.kernels.runtime import availability
from quant.kernels.runtime.architectures import ARCHITECTURES, of_capability

#: Of a layer whose input is not quantized: the model's dtype, which its format does not say.
MODEL_DTYPE = torch.bfloat16
#: The implementation that is no kernel: a definition in torch's operations, of any size.
_REFERENCE = "reference"
#: In the order of a table.
_DTYPE_NAMES = {
    torch.int8: "INT8",
    torch.float8_e4m3fn: "FP8",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.float32: "fp32",
}


class Option(NamedTuple):
    """One implementation of an op.

    Attributes:
        name: of the implementation.
        refusal: why it does not run the call; None where it could.
        tile: how a matmul is cut, and where that choice comes from; empty where there is none.
    """

    name: str
    refusal: str | None
    tile: str = ""


class Explanation(NamedTuple):
    """The implementations of one op for one call, best first.

    Attributes:
        op: its name.
        options: every implementation.
        note: where a GPU has no kernel for the call, what runs instead, in words; None where it has one, and on a CPU.
    """

    op: str
    options: tuple[Option, ...]
    note: str | None = None

    @property
    def chosen(self) -> Option | None:
        """The first that can run; None where no format holds the sum."""
        return next((option for option in self.options if option.refusal is None), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "op": self.op,
            "chosen": self.chosen and self.chosen.name,
            "options": [each._asdict() for each in self.options],
            "note": self.note,
        }


def ops_of(layer_format: LayerFormat) -> tuple[str, ...]:
    """The ops that a layer of this format runs, in order; the last is its matmul, or that of its convolution."""
    rows = () if layer_format.scheme.input_activations is None else ("quantize_rows",)
    return *rows, *dict.fromkeys([op_of(layer_format), format_of(layer_format).op])


def explain(layer_format: LayerFormat, m: int, n: int, k: int, *, arch: str | None = None) -> tuple[Explanation, ...]:
    """What a layer of this format does with an input [m, k] and a weight [n, k].

    A packed or sparse weight is put into the order of the implementation that runs it: none is refused for its order.

    Args:
        layer_format: of the layer.
        m, n, k: sizes; of a convolution, positions of its output, its channels, and taps times channels of the input.
        arch: such as "sm_90a"; None for this machine's GPU, or its CPU where it has none.

    Returns:
        One explanation for each op, in the order they run; the matmul's is the last.
    """
    gpu = _named(arch) if arch is not None else _here()
    kind, inputs = format_of(layer_format), layer_format.scheme.input_activations
    found = []
    for op in ops_of(layer_format):
        rows = op == "quantize_rows"
        call = dispatch.Call(
            op=op,
            device="cpu" if gpu is None else "cuda",
            dtype=MODEL_DTYPE if inputs is None else storage_dtype(inputs),
            m=m,
            n=0 if rows else n,
            k=k,
            block_scales=not rows and kind.by_block,
            group=(0 if inputs is None else inputs.group_size or 0) if rows else kind.group,
            capability=None if gpu is None else gpu.capability,
            no_compiled=None if gpu is None else gpu.no_compiled,
        )
        answers = dispatch.explain(call)
        options = tuple(
            Option(each.name, refusal, _tile(each.name, call, gpu) if refusal is None else "")
            for each, refusal in answers
        )
        runs = next((each for each, refusal in answers if refusal is None), None)
        note = None if gpu is None else _no_kernel(op, runs, layer_format, arch or "this GPU")
        found.append(Explanation(op, options, note))
    return tuple(found)


def missing_kernels(layers: Iterable[tuple[LayerFormat, int, int, int]], arch: str) -> list[str]:
    """What of these layers no kernel runs on an architecture, in words, each once; empty where all have kernels.

    Args:
        layers: the format of each, and M, N and K.
        arch: such as "sm_90a".
    """
    notes = [each.note for layer_format, m, n, k in layers for each in explain(layer_format, m, n, k, arch=arch)]
    return list(dict.fromkeys(note for note in notes if note is not None))


def _no_kernel(op: str, runs: dispatch.Implementation | None, layer_format: LayerFormat, where: str) -> str | None:
    if runs is None:
        return f"nothing runs {op} of {layer_format.label} at this size on {where}"
    instead = "the reference does, in torch's operations" if runs.name == _REFERENCE else runs.instead
    return f"no kernel runs {op} of {layer_format.label} at this size on {where}: {instead}" if instead else None


def overview() -> tuple[str, list[tuple[str, ...]]]:
    """What this machine can run, in a sentence, and a row for each compiled kernel.

    Returns:
        The sentence; rows of name, summary, dtypes that its op's input has or that it makes, and for each architecture
        "yes" or "".
    """
    if torch.cuda.is_available():
        device = torch.device("cuda", torch.cuda.current_device())
        reason = availability.reason(device)
        name = torch.cuda.get_device_name(device)
    else:
        reason, name = "torch sees no CUDA device", "this machine"
    rows = []
    for kernel in table.KERNELS:
        runs = ("yes" if a in kernel.architectures else "" for a in ARCHITECTURES)
        dtypes = ", ".join(name for dtype, name in _DTYPE_NAMES.items() if dtype in kernel.dtypes)
        rows.append((kernel.name, kernel.summary, dtypes, *runs))
    return f"{name} runs them" if reason is None else f"{name} runs none of them: {reason}", rows


def require(explanations: tuple[Explanation, ...], name: str) -> None:
    """Raises KernelChoiceError with the reason if the implementation `name` does not run its op."""
    options = {option.name: option for each in explanations for option in each.options}
    if name not in options:
        raise KernelChoiceError(f"no kernel is called '{name}'; there are {', '.join(options)}")
    refusal = options[name].refusal
    if refusal is not None:
        raise KernelChoiceError(f"{name} cannot run this: {refusal}")


@cache
def kernels_of_layer(layer_format: LayerFormat, n: int, k: int) -> dict[str, str]:
    """Architecture to what multiplies by a weight [n, k] there, at many rows: the matmul, and before it
    that which runs a convolution whose windows are no rows of its input."""
    found = {}
    for arch in ARCHITECTURES:
        explained = explain(layer_format, MANY_ROWS, n, k, arch=arch)
        chosen = [each.chosen for each in explained if each.op != "quantize_rows"]
        found[arch] = ", ".join("none" if each is None else each.name for each in chosen)
    return found


class _Gpu(NamedTuple):
    capability: tuple[int, int]
    multiprocessors: int
    no_compiled: str | None


def _named(arch: str) -> _Gpu:
    found = ARCHITECTURES[arch]
    return _Gpu(found.capability, found.multiprocessors, None)


def _here() -> _Gpu | None:
    if not torch.cuda.is_available():
        return None
    device = torch.device("cuda", torch.cuda.current_device())
    multiprocessors = torch.cuda.get_device_properties(device).multi_processor_count
    return _Gpu(torch.cuda.get_device_capability(device), multiprocessors, availability.reason(device))


def _tile(name: str, call: dispatch.Call, gpu: _Gpu | None) -> str:
    if gpu is None or name not in table.matmuls():
        return ""
    architecture = of_capability(gpu.capability)
    choice = tile_tables.choose(name, call.m, call.n, call.k, architecture, gpu.multiprocessors)
    blocks = -(-call.m // choice.tile.m) * -(-call.n // choice.tile.n)
    return f"tile {choice.tile}; {blocks} block{'s' if blocks > 1 else ''} ({choice.source})"

"""Files of tensors whose model's class is not known here: their names and shapes say which of them are matmuls.

A weight of two dimensions is a Linear's, unless its name is one that embeddings have. Layers in numbered blocks are
quantized, as of any other model; all others where there are no blocks. Nothing else of the model is guessed: what is
not quantized stays in the dtype that it has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

import torch
from torch import nn

from quant.checkpoint.config import CONFIG_KEY
from quant.checkpoint.shards import DTYPES, TensorPlan
from quant.errors import ModelError
from quant.pipelines.inputs.base import Component, Files, InputKind
from quant.pipelines.inputs.tensors import SourceTensor
from quant.pipelines.weights import plan_of, refuse_codes, warn_of_fp8

#: Names of tables that are looked up and not multiplied by, in transformers, T5, GPT-2, BERT and CLIP.
_TABLES = re.compile(
    r"(^|\.)(embed_tokens|embed_positions|shared|wte|wpe|tok_embeddings|(word|token|position|token_type|patch)_embeddings?"
    r"|relative_attention_bias|embeddings?)$"
)

#: Names that every module has something of its own under.
_OF_MODULES = frozenset(dir(nn.Module()))


class Block(nn.Module):
    """One of several modules that are numbered and hold Linears."""


class Linear(nn.Linear):
    """A Linear whose values are in files."""

    def reset_parameters(self) -> None:
        """Fills nothing, which would take longer than all else that opens a file."""


class BareModel(nn.Module):
    """Modules by the names of tensors, on the meta device."""

    _repeated_blocks = (Block.__name__,)


class Bare(InputKind):
    """Any files of floating tensors."""

    def holds(self, files: Files) -> bool:
        return True

    def open(self, files: Files) -> Component:
        refuse_codes(files.tensors)
        warn_of_fp8(files.tensors)
        config = {key: value for key, value in (files.config or {}).items() if key != CONFIG_KEY}
        return Component(config, stand_in(files.tensors), partial(_plans, files.tensors))


def stand_in(tensors: Mapping[str, SourceTensor]) -> BareModel:
    """A model on the meta device that has tensors of these names and shapes, in their order.

    Raises:
        ModelError: a tensor whose name another's begins with, or a dtype that is not read.
    """
    numbered = _numbered(tensors)
    model = BareModel()
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise ModelError(f"{tensor.file}: tensor '{name}' is {tensor.dtype}, which is not read here")
        path, _, leaf = name.rpartition(".")
        parent = _module(model, path, tensors, numbered)
        value = torch.empty(tensor.shape, dtype=DTYPES[tensor.dtype], device="meta")
        if leaf in _OF_MODULES or leaf in parent._modules:
            raise ModelError(f"{tensor.file}: tensor '{name}' has a name that no model's tensor can have")
        parent.register_parameter(leaf, nn.Parameter(value, requires_grad=False))
    return model


def _module(model: nn.Module, path: str, tensors: Mapping[str, SourceTensor], numbered: set[str]) -> nn.Module:
    """The module at a path, made where it is not there."""
    found, walked = model, ""
    for name in path.split(".") if path else ():
        walked = f"{walked}.{name}" if walked else name
        if name in found._parameters:
            raise ModelError(f"{tensors[walked].file}: '{walked}' is a tensor, and other tensors' names begin with it")
        if name not in found._modules:
            found.add_module(name, _made(walked, tensors, numbered))
        found = found._modules[name]  # type: ignore[assignment]
    return found


def _made(path: str, tensors: Mapping[str, SourceTensor], numbered: set[str]) -> nn.Module:
    if _is_linear(path, tensors):
        n, k = tensors[f"{path}.weight"].shape
        made = Linear(k, n, bias=f"{path}.bias" in tensors, device="meta")
        del made.weight  # in the order of the files, and of their dtype
        if made.bias is not None:
            del made.bias
            made.register_parameter("bias", None)
        return made
    return Block() if path in numbered else nn.Module()


def _is_linear(path: str, tensors: Mapping[str, SourceTensor]) -> bool:
    weight = tensors.get(f"{path}.weight")
    if weight is None or len(weight.shape) != 2 or _TABLES.search(path):
        return False
    bias = tensors.get(f"{path}.bias")
    return DTYPES[weight.dtype].is_floating_point and (bias is None or bias.shape == weight.shape[:1])


def _numbered(tensors: Mapping[str, SourceTensor]) -> set[str]:
    """Paths of blocks: numbered, at least two next to each other, and each with a Linear somewhere below."""
    blocks: dict[str, set[str]] = {}
    for name in tensors:
        path, _, leaf = name.rpartition(".")
        if leaf != "weight" or not _is_linear(path, tensors):
            continue
        parts = path.split(".")
        for depth, part in enumerate(parts[:-1]):
            if part.isdigit():
                blocks.setdefault(".".join(parts[:depth]), set()).add(".".join(parts[: depth + 1]))
                break  # the outermost list only
    return {block for members in blocks.values() if len(members) > 1 for block in members}


def _plans(tensors: Mapping[str, SourceTensor], dtype: torch.dtype) -> dict[str, TensorPlan]:
    return {
        name: plan_of(name, tensor, dtype if tensor.of_codes else DTYPES[tensor.dtype])
        for name, tensor in tensors.items()
    }

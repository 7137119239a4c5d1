"""Arguments of a call as JSON and tensors, and back: the same values, dtypes, shapes and nesting.

Tensors lie under a hash of their content, so that equal ones are one. What a denoiser may be called with is None,
booleans, numbers, text, tensors, and tuples, lists and dicts of these. Nothing that is read names code to be run.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from quant.checkpoint.shards import DTYPE_NAMES, raw_bytes
from quant.files.json_files import MOST_NESTED
from quant.text import shown

#: By the hash of their content: contiguous, on the CPU, of dtypes that every reader of safetensors has.
Tensors = dict[str, torch.Tensor]
_STORED = frozenset(DTYPE_NAMES) - {torch.complex64}
#: Containers by the key that stands for them in JSON.
_CONTAINERS: dict[str, Callable[..., Any]] = {"tuple": tuple, "list": list, "size": torch.Size, "dict": dict}
_NAMES = {kind: name for name, kind in _CONTAINERS.items()}


class CannotStore(ValueError):  # noqa: N818  (it is caught and becomes an error that names the denoiser)
    """A value that is none of those above: where it is among the arguments, and its class."""


def described(value: Any, where: str, tensors: Tensors, depth: int = 0) -> Any:
    """A value as what JSON holds; its tensors are copied into `tensors`.

    Args:
        value: an argument.
        where: its place among the arguments, for errors.
        tensors: by the hash of their content; those that are found are added.
        depth: of containers around it.

    Raises:
        CannotStore: a value of another class, or nested too deeply.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, torch.Tensor):
        return _described_tensor(value, where, tensors)
    name = _NAMES.get(type(value))
    if name is None:
        raise CannotStore(f"{where}, an object of class {type(value).__name__}")
    if depth == MOST_NESTED:
        raise CannotStore(f"{where}, nested more than {MOST_NESTED} levels deep")
    if name == "dict":
        pairs = [
            [
                described(key, f"a key of {where}", tensors, depth + 1),
                described(each, _at(where, key), tensors, depth + 1),
            ]
            for key, each in value.items()
        ]
        return {name: pairs}
    return {name: [described(each, _at(where, i), tensors, depth + 1) for i, each in enumerate(value)]}


def restored(description: Any, tensors: Mapping[str, torch.Tensor], depth: int = 0) -> Any:
    """The value that was described; every use of a tensor is a copy of its own.

    Raises:
        ValueError, KeyError, TypeError, RuntimeError, IndexError: a description that `described` never makes.
    """
    if not isinstance(description, dict):
        if isinstance(description, list):
            raise ValueError("a list that no container names")
        return description
    if "tensor" in description:
        return _restored_tensor(description, tensors)
    ((name, parts),) = description.items()
    if name == "float":
        return float(parts)
    if depth > MOST_NESTED:
        raise ValueError("nested too deeply")
    if name == "dict":
        return {restored(key, tensors, depth + 1): restored(value, tensors, depth + 1) for key, value in parts}
    return _CONTAINERS[name]([restored(part, tensors, depth + 1) for part in parts])


def tensor_names(description: Any) -> set[str]:
    """The hashes of all tensors of a described value, or of several in lists and dicts."""
    found, left = set(), [description]
    while left:
        part = left.pop()
        if isinstance(part, dict) and "tensor" in part:
            found.add(str(part["tensor"]))
        elif isinstance(part, dict):
            left += part.values()
        elif isinstance(part, list):
            left += part
    return found


def content_hash(tensor: torch.Tensor) -> str:
    """SHA-256 of a tensor's dtype, shape and bytes."""
    digest = hashlib.sha256(json.dumps([str(tensor.dtype), list(tensor.shape)]).encode())
    digest.update(raw_bytes(tensor))
    return digest.hexdigest()


def _at(where: str, key: object) -> str:
    return f"{where}[{shown(key)}]"


def _described_tensor(tensor: torch.Tensor, where: str, tensors: Tensors) -> dict[str, Any]:
    """Its hash, and how it differs from what is stored: the order of its dimensions in memory, complex, or bytes."""
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.layout != torch.strided or tensor.is_meta:
        raise CannotStore(
            f"{where}, a tensor of class {type(tensor).__name__}, {tensor.layout} on {tensor.device.type}"
        )
    if tensor.is_quantized:
        raise CannotStore(f"{where}, a tensor of {tensor.dtype}")
    value = tensor.detach().resolve_conj().resolve_neg()
    found: dict[str, Any] = {}
    strides = value.stride()
    order = sorted(range(value.ndim), key=lambda i: -strides[i])  # a stable sort
    if not value.is_contiguous() and value.permute(order).is_contiguous():
        found["order"] = order
        value = value.permute(order)
    value = value.cpu().clone(memory_format=torch.contiguous_format)  # of its own strides, also where sizes are 1
    if value.is_complex():
        found["complex"] = True
        value = torch.view_as_real(value)
    if value.dtype not in _STORED:
        found["dtype"], found["shape"] = str(value.dtype).removeprefix("torch."), list(value.shape)
        value = value.reshape(-1).view(torch.uint8)
    name = content_hash(value)
    tensors.setdefault(name, value)
    return {"tensor": name, **found}


def _restored_tensor(description: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    value = tensors[description["tensor"]].clone()
    if "dtype" in description:
        dtype = getattr(torch, description["dtype"])
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"{shown(description['dtype'])} is no dtype")
        value = value.view(dtype).reshape(description["shape"])
    if "complex" in description:
        value = torch.view_as_complex(value)
    if "order" in description:
        order = description["order"]
        value = value.permute([order.index(i) for i in range(value.ndim)])
    return value

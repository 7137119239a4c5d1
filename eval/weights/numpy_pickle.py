"""Reads a pickle of nested dictionaries of NumPy arrays, and nothing else that a pickle can hold.

A pickle names functions and calls them. This reader lets it name the three that rebuild an array, and hands it others
in their place, which only keep what they are given: NumPy's own would believe a dtype that hides objects, and follow
addresses that the file chose. Any other name is refused before it is looked up, so nothing is imported or run.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from quant.errors import QuantError

Array = npt.NDArray[Any]

#: Floats, signed and unsigned integers, with their bytes.
_NUMBERS = re.compile("f[248]|[iu][1248]")
#: As many as every NumPy takes.
_DIMENSIONS = 32


def load(data: bytes, source: str) -> dict[str, Array]:
    """The arrays in `data`, keyed by their path: `{"a": {"b": x}}` becomes `{"a|b": x}`. They cannot be written to.

    Raises QuantError, naming `source`, where the pickle names anything else than `find_class` knows, is damaged, holds
    something other than dictionaries of arrays of numbers, or puts two arrays at one path.
    """
    try:
        tree = _Unpickler(io.BytesIO(data)).load()
    except QuantError as error:
        raise QuantError(f"{source}: {error}") from None
    except Exception as error:  # a damaged pickle can raise almost anything
        raise QuantError(f"{source} is no pickle of arrays: {type(error).__name__}: {error}") from error
    return _flatten(tree, source)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # Made anew at each look-up: a pickle can set attributes of what it holds, and must not reach the next one.
        match module, name:
            case "numpy", "ndarray":
                return None  # only ever the first argument of _reconstruct
            case "numpy", "dtype":
                return lambda code, *rest: _Dtype(code)
            # NumPy 1 wrote "numpy.core", NumPy 2 writes "numpy._core".
            case (("numpy.core.multiarray" | "numpy._core.multiarray"), "_reconstruct"):
                return lambda *rest: _Stored()
        raise QuantError(f"the pickle asks for {module}.{name}; only arrays are read")

    def persistent_load(self, pid: Any) -> Any:
        raise QuantError("the pickle asks for an object outside of it; only arrays are read")


class _Dtype:
    """What a pickle says of a dtype: its code, such as "f4", and then, in the state, its byte order."""

    def __init__(self, code: object) -> None:
        self.code = code
        self.order: object = "|"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


class _Stored:
    """What a pickle says of an array: its shape, its dtype, whether it is in Fortran's order, and its bytes."""

    def __init__(self) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _flatten(tree: object, source: str) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    waiting, seen = [("", tree)], set[int]()
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            # One inside itself has no end, and twenty that each hold the next one twice are a million.
            if id(value) in seen:
                raise QuantError(f"{source}: the dictionary at {path} stands elsewhere too")
            seen.add(id(value))
            for name in value:
                if not isinstance(name, str) or not name:
                    raise QuantError(f"{source}: the key {name!r} is no name of an array")
            waiting += [(f"{path}|{name}" if path else name, inner) for name, inner in reversed(value.items())]
        elif path in arrays:
            raise QuantError(f"{source}: two arrays are called {path}")
        else:
            arrays[path] = _array(value, f"{source}: {path or 'the top'}")
    return arrays


def _array(value: object, where: str) -> Array:
    if not isinstance(value, _Stored):
        raise QuantError(f"{where} is a {type(value).__name__}, not an array of numbers")
    try:
        _, shape, dtype, fortran, data = value.state
        code, order, sizes = dtype.code, dtype.order, [int(size) for size in shape]
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise QuantError(f"{where} is a damaged array: {error}") from None
    if not isinstance(code, str) or not _NUMBERS.fullmatch(code) or order not in ("<", ">", "|"):
        raise QuantError(f"{where} is an array of {code!r}, not of numbers")
    kind = np.dtype(f"{order}{code}")
    whole = isinstance(data, bytes) and len(data) == math.prod(sizes) * kind.itemsize
    if not whole or len(sizes) > _DIMENSIONS or min(sizes, default=0) < 0:
        raise QuantError(f"{where} is a damaged array: its bytes do not fill the shape {tuple(sizes)}")
    return np.frombuffer(data, kind).reshape(sizes, order="F" if fortran else "C")

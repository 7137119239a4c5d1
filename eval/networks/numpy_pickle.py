"""Reads a pickle of nested dictionaries of NumPy arrays, and nothing else that a pickle can hold.

A pickle names functions and calls them. This reader lets it name three, which together rebuild an array; any
other name is refused before it is looked up, so nothing of the file's choosing is imported or run.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from quant.errors import QuantError

# What NumPy itself names when it pickles an array.
_RECONSTRUCT = np.empty(0).__reduce__()[0]
# NumPy 1 wrote "numpy.core", NumPy 2 writes "numpy._core": the same function.
ALLOWED: Mapping[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
}

Array = npt.NDArray[Any]


def load(data: bytes, source: str) -> dict[str, Array]:
    """The arrays in `data`, keyed by their path: `{"a": {"b": x}}` becomes `{"a|b": x}`.

    Raises QuantError, naming `source`, where the pickle names anything outside `ALLOWED`, is damaged, or holds
    something other than dictionaries of arrays of numbers.
    """
    try:
        tree = _Unpickler(io.BytesIO(data)).load()
    except QuantError as error:
        raise QuantError(f"{source}: {error}") from None
    except Exception as error:  # a damaged pickle can raise almost anything
        raise QuantError(f"{source} is no pickle of arrays: {type(error).__name__}: {error}") from error
    arrays: dict[str, Array] = {}
    _flatten(tree, "", arrays, source)
    return arrays


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise QuantError(f"the pickle asks for {module}.{name}; only arrays are read")
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise QuantError("the pickle asks for an object outside of it; only arrays are read")


def _flatten(tree: object, path: str, arrays: dict[str, Array], source: str) -> None:
    if isinstance(tree, dict):
        for name, value in tree.items():
            if not isinstance(name, str):
                raise QuantError(f"{source}: the key {name!r} is no name of an array")
            _flatten(value, f"{path}|{name}" if path else name, arrays, source)
    elif isinstance(tree, np.ndarray) and tree.dtype.kind in "fiu":
        arrays[path] = tree
    else:
        kind = f"an array of {tree.dtype}" if isinstance(tree, np.ndarray) else f"a {type(tree).__name__}"
        raise QuantError(f"{source}: {path or 'the top'} is {kind}, not an array of numbers")

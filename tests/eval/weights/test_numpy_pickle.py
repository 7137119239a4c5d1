"""The reader of foreign pickles: arrays go through, anything that would run code does not."""

from __future__ import annotations

import builtins
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quant.errors import QuantError
from quant.eval.weights.numpy_pickle import load

TREE = {
    "params": {"a/b": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "empty": np.zeros((0, 2))},
    "steps": np.array([1, -2], dtype=np.int64),
}
RECONSTRUCT: Any = np.empty(0).__reduce__()[0]


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("module", [b"numpy._core", b"numpy.core"])
def test_nested_arrays_come_back_flat(protocol: int, module: bytes) -> None:
    data = pickle.dumps(TREE, protocol=protocol)
    if protocol == 3 and module == b"numpy.core":  # what NumPy 1 wrote; protocol 4 also counts the letters
        data = data.replace(b"numpy._core", module)
        assert b"numpy.core.multiarray" in data
    found = load(data, "x.ckpt")
    assert sorted(found) == ["params|a/b|kernel", "params|empty", "steps"]
    np.testing.assert_array_equal(found["params|a/b|kernel"], [[0, 1, 2], [3, 4, 5]])
    assert found["params|a/b|kernel"].dtype == np.float32
    assert found["params|empty"].shape == (0, 2)
    np.testing.assert_array_equal(found["steps"], [1, -2])


class Call:
    """A pickle of this calls `function(*arguments)` when an ordinary reader loads it, and gives it the `state`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_a_call_of_the_shell_is_refused_and_not_made(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "made"
    data = pickle.dumps({"a": Call(os.system, f"touch {marker}")}, protocol=protocol)
    with pytest.raises(QuantError, match=r"bad.ckpt: the pickle asks for (posix|nt).system; only arrays are read"):
        load(data, "bad.ckpt")
    assert not marker.exists()
    pickle.loads(data)
    assert marker.exists(), "the payload is not one"


@pytest.mark.parametrize(
    "function",
    [builtins.eval, builtins.getattr, builtins.__import__, np.load, np.fromfile, os.remove, Path, np.float32],
)
def test_whatever_else_a_pickle_names_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(QuantError, match="only arrays are read"):
        load(pickle.dumps({"a": Call(function, "x")}, protocol=4), "bad.ckpt")


def test_orders_of_bytes_and_of_dimensions() -> None:
    arrays = {
        "big": np.arange(5, dtype=">i4"),
        "byte": np.arange(5, dtype=np.uint8),
        "half": np.array(2.5, dtype=np.float16),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "strided": np.arange(12.0).reshape(3, 4)[::2, ::3],
    }
    found = load(pickle.dumps(arrays, protocol=4), "x.ckpt")
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_an_object_outside_the_file_is_refused() -> None:
    with pytest.raises(QuantError, match="an object outside of it"):
        load(b"Pelsewhere\n.", "bad.ckpt")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([np.zeros(2)], "the top is a list"),
        ({"a": {"b": "text"}}, r"a\|b is a str"),
        ({"a": np.array([None, "x"], dtype=object)}, "a is an array of 'O8', not of numbers"),
        ({"a": np.array(["x"])}, "a is an array of 'U1'"),
        ({"a": np.ones(2, dtype=bool)}, "a is an array of 'b1'"),
        ({7: np.zeros(2)}, "the key 7 is no name"),
        ({"": {"a": np.zeros(2)}}, "the key '' is no name"),
        ({"a|b": np.zeros(2), "a": {"b": np.ones(2)}}, r"two arrays are called a\|b"),
    ],
)
def test_only_dictionaries_of_arrays_of_numbers_are_accepted(tree: object, message: str) -> None:
    with pytest.raises(QuantError, match=message):
        load(pickle.dumps(tree, protocol=4), "x.ckpt")


def _array(*state: Any) -> Call:
    """A pickle of this is one of an array, with another state."""
    return Call(RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, *state))


class HidesObjects:
    """A dtype whose field holds objects and whose flags say that there are none: NumPy takes bytes for addresses."""

    def __reduce__(self) -> tuple[Any, ...]:
        field = {"a": (np.dtype(object), 0)}
        return np.dtype, ("V8", False, True), (3, "|", None, ("a",), field, 8, 1, 0)


def test_a_dtype_that_hides_objects_is_refused() -> None:
    """An ordinary reader, and NumPy's own functions behind a list of allowed names, end in a segmentation fault."""
    array = _array((4,), HidesObjects(), False, b"A" * 32)
    with pytest.raises(QuantError, match="a is an array of 'V8', not of numbers"):
        load(pickle.dumps({"a": array}, protocol=4), "x.ckpt")
    assign_first = b"K\x00\x8c\x01x\x85s."  # array[0] = ("x",), and the end
    with pytest.raises(QuantError, match="does not support item assignment"):
        load(pickle.dumps(array, protocol=4)[:-1] + assign_first, "x.ckpt")


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ((3,), b"1" * 8),
        ((1 << 40,), b""),
        ((-2,), b"1" * 8),
        ((-1, -2), b"1" * 8),
        ((1,) * 65, b"1" * 4),
        ((2,), "x" * 8),
    ],
)
def test_bytes_that_do_not_fill_the_shape(shape: tuple[int, ...], data: object) -> None:
    with pytest.raises(QuantError, match=r"x.ckpt: a is a damaged array: its bytes do not fill the shape"):
        load(pickle.dumps({"a": _array(shape, np.dtype(np.float32), False, data)}, protocol=4), "x.ckpt")


@pytest.mark.parametrize(
    ("code", "order"), [(7, "<"), ("f4,f4", "<"), ("f16", "<"), ("f4", ">>"), ("f4", ["<"]), ("", "<")]
)
def test_a_dtype_of_no_numbers(code: object, order: object) -> None:
    dtype = Call(np.dtype, code, False, True, state=(3, order, None, None, None, -1, -1, 0))
    with pytest.raises(QuantError, match=r"x.ckpt: a is an array of .*, not of numbers"):
        load(pickle.dumps({"a": _array((2,), dtype, False, b"1" * 8)}, protocol=4), "x.ckpt")


@pytest.mark.parametrize("state", [(), ((2,), None, False, b"1" * 8), (None, np.dtype(np.float32), False, b"")])
def test_an_array_without_a_shape_or_a_dtype(state: tuple[Any, ...]) -> None:
    with pytest.raises(QuantError, match=r"x.ckpt: a is a damaged array"):
        load(pickle.dumps({"a": _array(*state)}, protocol=4), "x.ckpt")


def test_memory_that_the_file_does_not_fill_is_not_read() -> None:
    with pytest.raises(QuantError, match=r"x.ckpt is no pickle of arrays"):
        load(pickle.dumps({"a": Call(np.ndarray, (8,), np.dtype(np.float32))}, protocol=4), "x.ckpt")


def test_dictionaries_without_an_end() -> None:
    inside_itself: dict[str, Any] = {}
    inside_itself["a"] = inside_itself
    many: dict[str, Any] = {}
    for _ in range(40):
        many = {"a": many, "b": many}
    for tree in (inside_itself, many):
        with pytest.raises(QuantError, match=r"x.ckpt: the dictionary at .* stands elsewhere too"):
            load(pickle.dumps(tree, protocol=4), "x.ckpt")
    deep = b"}\x8c\x01a" * 5000 + b"}" + b"s" * 5000 + b"."
    assert load(b"\x80\x04" + deep, "x.ckpt") == {}


@pytest.mark.parametrize("keep", [0, 1, 30, -1])
def test_a_damaged_file_is_one_clear_error(keep: int) -> None:
    with pytest.raises(QuantError, match=r"x.ckpt is no pickle of arrays"):
        load(pickle.dumps(TREE, protocol=4)[:keep], "x.ckpt")

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
from quant.eval.networks.numpy_pickle import ALLOWED, load

TREE = {
    "params": {"a/b": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "empty": np.zeros((0, 2))},
    "steps": np.array([1, -2], dtype=np.int64),
}


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
    """A pickle of this calls `function(*arguments)` when an ordinary reader loads it."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
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


def test_three_names_are_allowed() -> None:
    assert {name for _, name in ALLOWED} == {"_reconstruct", "ndarray", "dtype"}
    assert len({id(value) for value in ALLOWED.values()}) == 3
    assert {module.split(".")[0] for module, _ in ALLOWED} == {"numpy"}


def test_an_object_outside_the_file_is_refused() -> None:
    with pytest.raises(QuantError, match="an object outside of it"):
        load(b"Pelsewhere\n.", "bad.ckpt")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([np.zeros(2)], "the top is a list"),
        ({"a": {"b": "text"}}, r"a\|b is a str"),
        ({"a": np.array([None, "x"], dtype=object)}, "a is an array of object"),
        ({"a": np.array(["x"])}, "a is an array of <U1"),
        ({7: np.zeros(2)}, "the key 7 is no name"),
    ],
)
def test_only_dictionaries_of_arrays_of_numbers_are_accepted(tree: object, message: str) -> None:
    with pytest.raises(QuantError, match=message):
        load(pickle.dumps(tree, protocol=4), "x.ckpt")


@pytest.mark.parametrize("keep", [0, 1, 30, -1])
def test_a_damaged_file_is_one_clear_error(keep: int) -> None:
    with pytest.raises(QuantError, match=r"x.ckpt is no pickle of arrays"):
        load(pickle.dumps(TREE, protocol=4)[:keep], "x.ckpt")

"""What a denoiser was called with comes back as it was, or not at all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.calibration import calls as module
from quant.calibration.calls import CallsWriter, Place, open_calls
from quant.errors import CalibrationError

PLACE = Place("transformer", 0, 3, 1, 875.0)
DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e8m0fnu),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.bool),
]


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Of any dtype and bytes, NaNs of every kind among them; some with their dimensions in another order."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 3), max_size=4))
    size = math.prod(shape) * dtype.itemsize
    values = draw(st.binary(min_size=size, max_size=size))
    if dtype is torch.bool:
        values = bytes(each & 1 for each in values)
    made = torch.tensor(list(values), dtype=torch.uint8).view(dtype) if size else torch.empty(0, dtype=dtype)
    return made.reshape(shape).permute(draw(st.permutations(range(len(shape)))))


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    PLAIN | tensors() | st.lists(st.integers(0, 9), max_size=3).map(torch.Size),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.tuples(st.integers()), inner, max_size=3)
    ),
    max_leaves=8,
)


def same(a: Any, b: Any) -> bool:
    """The same classes, bits, shapes and order in memory."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return (a.dtype, a.shape, steps(a)) == (b.dtype, b.shape, steps(b)) and bits(a) == bits(b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b)  # -0.0 and NaN too


def steps(tensor: torch.Tensor) -> list[int]:
    """The strides that mean something."""
    return [stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1 and tensor.numel()]


def bits(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).tolist())


@settings(max_examples=60)
@given(args=st.lists(VALUES, max_size=2).map(tuple), kwargs=st.dictionaries(st.text(max_size=4), VALUES, max_size=3))
def test_nested_arguments_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("calls")
    writer = CallsWriter(folder, "key")
    writer.write(PLACE, args, kwargs)
    found = writer.finish({}, {"transformer": [PLACE]}).load(PLACE)
    assert same(found[0], args) and same(found[1], kwargs)


def recording(folder: Path) -> module.Calls:
    """Two branches of one step that share latents and differ in text, and a call of another row with the same text."""
    large = torch.randn(2, 200, 100, generator=torch.Generator().manual_seed(0))
    writer = CallsWriter(folder, "key")
    places = [
        Place("transformer", 0, 2, 0, 5.0),
        Place("transformer", 0, 2, 1, 5.0),
        Place("transformer", 1, 0, 0, 9.0),
    ]
    for i, place in enumerate(places):
        latents = large[1] if i < 2 else large[1] + 1
        writer.write(
            place, (latents,), {"tensor": [large[0]] if i != 1 else [], "timestep": torch.tensor(place.timestep)}
        )
    return writer.finish({"seed": 3}, {"transformer": places, "transformer_2": []})


def test_a_recording_is_opened_as_it_was_made(tmp_path: Path) -> None:
    made, found = recording(tmp_path), open_calls(tmp_path)
    assert (found.components, found.about) == (("transformer", "transformer_2"), {"seed": 3})
    assert found.places("transformer") == made.places("transformer")
    assert [place.branch for place in found.places("transformer")] == [0, 1, 0]
    for place in found.places("transformer"):
        assert same(found.load(place), made.load(place))
    with pytest.raises(CalibrationError, match=r"holds no calls of 'unet', only of transformer, transformer_2$"):
        found.places("unet")


def test_equal_tensors_are_stored_once(tmp_path: Path) -> None:
    recording(tmp_path)
    assert len(list((tmp_path / "tensors").iterdir())) == 3  # latents of two steps, and a text
    assert all(path.stat().st_size < 2000 for path in (tmp_path / "calls").iterdir())


def test_arguments_that_share_their_memory_are_their_own_when_loaded(tmp_path: Path) -> None:
    x = torch.arange(6.0)
    writer = CallsWriter(tmp_path, "key")
    writer.write(PLACE, (x, x, x[1:], x.expand(2, 6), torch.tensor(5.0).expand(1)), {})
    a, b, *rest = writer.finish({}, {"transformer": [PLACE]}).load(PLACE)[0]
    a += 1
    assert torch.equal(b, x)
    assert [each.tolist() for each in rest] == [[1, 2, 3, 4, 5], [[0, 1, 2, 3, 4, 5]] * 2, [5]]


@pytest.mark.parametrize(
    ("kwargs", "where"),
    [
        ({"guider": len}, "'guider', an object of class builtin_function_or_method"),
        ({"x": [0, {"scale": object()}]}, r"'x'\[1\]\['scale'\], an object of class object"),
        ({"x": torch.zeros(2, 2).to_sparse()}, "'x', a tensor of class Tensor, torch.sparse_coo on cpu"),
        ({"x": torch.zeros(2, device="meta")}, "'x', a tensor of class Tensor, torch.strided on meta"),
    ],
)
def test_what_cannot_be_stored_is_named(tmp_path: Path, kwargs: dict[str, Any], where: str) -> None:
    with pytest.raises(CalibrationError, match=rf"^'transformer' is called with {where}, which cannot be recorded"):
        CallsWriter(tmp_path, "key").write(PLACE, (), kwargs)
    assert not list(tmp_path.iterdir())


def test_a_list_that_holds_itself_is_refused(tmp_path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(CalibrationError, match="nested more than 100 levels deep"):
        CallsWriter(tmp_path, "key").write(PLACE, (endless,), {})


@pytest.mark.parametrize("kind", ["calls", "tensors"])
def test_any_damaged_file_is_named(tmp_path: Path, kind: str) -> None:
    made = recording(tmp_path)
    for path in sorted((tmp_path / kind).iterdir()):
        good = path.read_bytes()
        for bad in (good[: len(good) // 2], good[:-1] + bytes((good[-1] ^ 1,)), b""):
            path.write_bytes(bad)
            with pytest.raises(CalibrationError, match=rf"{path.name}: missing or damaged; record again"):
                [made.load(place) for place in made.places("transformer")]
        path.write_bytes(good)


def test_another_runs_calls_count_as_absent(tmp_path: Path) -> None:
    place = recording(tmp_path).places("transformer")[0]
    assert CallsWriter(tmp_path, "key").has(place)
    assert not CallsWriter(tmp_path, "other").has(place)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format_version": 2}, "has format_version 2; this release reads 1: record again"),
        ({"key": None}, "damaged, or changed after it was written; record again"),
        ({"calls": {"../other": [[0, 0, 0, 1.0]]}}, "damaged, or changed after it was written; record again"),
        ({"calls": {"transformer": [[0, -1, 0, 1.0]]}}, "damaged, or changed after it was written; record again"),
        ({"calls": {"transformer": [[0, 0, 0]]}}, "damaged, or changed after it was written; record again"),
        ({"calls": []}, "damaged, or changed after it was written; record again"),
    ],
)
def test_a_list_of_calls_that_is_none_is_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    recording(tmp_path)
    path = tmp_path / "recording.json"
    body = json.loads(path.read_text(encoding="utf-8")) | change
    path.write_text(json.dumps(body), encoding="utf-8")
    with pytest.raises(
        CalibrationError, match=r"recording\.json: (has format_version 2|damaged, or changed after it was)"
    ):
        open_calls(tmp_path)
    body.pop("sha256")
    body["sha256"] = module._digest(body)  # by somebody who knows how
    path.write_text(json.dumps(body), encoding="utf-8")
    with pytest.raises(CalibrationError, match=rf"recording\.json: {says}"):
        open_calls(tmp_path)


def test_a_folder_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"recording\.json: missing; is this a folder that `quant rec"):
        open_calls(tmp_path)

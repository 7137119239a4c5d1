"""Hostile checkpoints and models."""

from __future__ import annotations

import struct
from typing import Any

from tests.attacks.attack import (
    ODD_PLACES,
    PICKLE,
    Attack,
    edited,
    first,
    header,
    instead,
    placed,
    put,
    values,
    with_header,
)

_NET, _CONFIG, _MANIFEST = "net/diffusion_pytorch_model.safetensors", "net/config.json", "net/quant_manifest.json"
_DEEP = "[" * 100_000
_STEPS = {"targets": ["1"], "above": 9.0, "up_to": 1.0, "first": 1, "last": 1, "of": 4}
_NAN, _INF = struct.pack("<f", float("nan")), struct.pack("<f", float("inf"))


def _tensors(what: str, make: Any, *, harmless: bool = False) -> Attack:
    return Attack(what, "checkpoint without hashes", _NET, make, harmless)


def _config(what: str, make: Any, *, harmless: bool = False) -> Attack:
    return Attack(what, "checkpoint without hashes", _CONFIG, make, harmless)


def _class(what: str, make: Any, *, harmless: bool = False) -> Attack:
    return Attack(what, "transformer's config", "made/transformer/config.json", make, harmless)


def _manifest(what: str, make: Any, *, harmless: bool = False) -> Attack:
    return Attack(what, "checkpoint with hashes", _MANIFEST, make, harmless)


def _original(what: str, file: str, make: Any, *, harmless: bool = False) -> Attack:
    return Attack(what, "original model", f"model/{file}", make, harmless)


def _q(*path: Any, value: Any) -> Any:
    return put("quantization_config", *path, value=value)


def _without(key: str) -> Any:
    return edited(lambda body: body["quantization_config"].pop(key))


def _entry(value: Any) -> Any:
    return edited(lambda body: body["files"].update({value: {"bytes": 1, "sha256": "0"}}))


def _component(name: str) -> Any:
    return put(name, value=["diffusers", "WanTransformer3DModel"])


def _moved(body: dict[str, Any]) -> None:
    name = "0.weight_scale"
    begin, _ = body["1.weight_scale"]["data_offsets"]
    body[name]["data_offsets"] = [begin, begin + 512]


def _renamed(new: str) -> Any:
    return header(lambda body: body.update({new: body.pop("7.weight")}))


TENSORS = (
    _tensors("memory: a header of 2^63 bytes", lambda good: (2**63).to_bytes(8, "little") + good[8:]),
    _tensors("memory: a header of 4 GB", lambda good: (2**32).to_bytes(8, "little") + good[8:]),
    _tensors("stack: a header of lists 100,000 deep", lambda good: with_header(_DEEP.encode(), b"")),
    _tensors("bytes: an empty file", instead(b"")),
    _tensors("bytes: seven bytes", instead(b"\x00" * 7)),
    _tensors("code: a pickle under this name", instead(PICKLE)),
    _tensors("bytes: cut in half", lambda good: good[: len(good) // 2]),
    _tensors("bytes: more than the header says", lambda good: good + b"\x00" * 8),
    _tensors("header: two tensors that share bytes", header(_moved)),
    _tensors("header: offsets that end before they begin", header(lambda b: b["0.bias"]["data_offsets"].reverse())),
    _tensors("header: offsets beyond the file", header(lambda b: b["0.bias"].update(data_offsets=[0, 2**62]))),
    _tensors("header: a shape whose product overflows", header(lambda b: b["0.bias"].update(shape=[2**40, 2**40]))),
    _tensors("header: a negative size", header(lambda b: b["0.bias"].update(shape=[-128]))),
    _tensors("header: an unknown dtype", header(lambda b: b["0.bias"].update(dtype="F7"))),
    _tensors("header: int8 codes called uint8", header(lambda b: b["0.weight"].update(dtype="U8"))),
    _tensors("header: FP8 codes called int8", header(lambda b: b["2.weight"].update(dtype="I8"))),
    _tensors("header: a name that leaves the folder", _renamed("../../../etc/passwd")),
    _tensors("header: a name with escapes of a terminal", _renamed("7.weight\x1b[2J\n")),
    _tensors("header: a tensor that the model has not", header(lambda b: b.update({"8.weight": b.pop("7.weight")}))),
    _tensors("values: a scale that is not a number", values("0.weight_scale", first(_NAN))),
    _tensors("values: an infinite scale", values("1.weight_scale", first(b"\x80\x7f"))),
    _tensors("values: a scale of zero", values("0.weight_scale", first(bytes(4)))),
    _tensors("values: a negative scale", values("2.weight_scale", first(struct.pack("<f", -1.0)))),
    _tensors("values: a negative range of inputs", values("2.input_scale", first(struct.pack("<f", -1.0)))),
    _tensors("values: a smoothing factor that is not a number", values("4.pre_quant_scale", first(_NAN))),
    _tensors("values: an infinite smoothing factor", values("4.pre_quant_scale", first(_INF))),
    _tensors("values: an FP8 code that is not a number", values("2.weight", first(b"\x7f"))),
    _tensors("values: three numbers in four of a 2:4 weight", values("3.weight", first(b"\x38" * 4))),
    _tensors("values: a shape that the codes have not", values("1.weight_shape", first(struct.pack("<q", 2**40)))),
    _tensors("values: a bias that is not a number", values("0.bias", first(_NAN))),
    _tensors("values: a low-rank branch that is infinite", values("5.low_rank_up", first(_INF))),
)

CONFIGS = (
    _config("stack: lists 100,000 deep", instead(_DEEP)),
    _config("bytes: not UTF-8", instead(b"\xff\xfe{}")),
    _config("types: no object", instead("[]")),
    _config("types: no configuration", _q(value=None)),
    _config("types: a list as configuration", _q(value=[])),
    _config("types: a method of another tool", _q("quant_method", value="gptq")),
    _config("types: a version of the future", _q("format_version", value=99)),
    _config("types: true for version 1", _q("format_version", value=True)),
    _config("types: groups as a list", _q("config_groups", value=[])),
    _config("types: 8.0 bits", _q("config_groups", "group_0", "weights", "num_bits", value=8.0)),
    _config("types: 5 bits", _q("config_groups", "group_0", "weights", "num_bits", value=5)),
    _config("types: sparsity as a word", _q("sparsity_config", value="2:4")),
    _config("types: a rank of -1", _q("low_rank", value={"5": -1})),
    _config("types: a rank of 2^62", _q("low_rank", value={"5": 2**62})),
    _config("types: 2^62 bins", _q("input_bins", value={"2": 2**62})),
    _config("lies: a static input has bins", _q("input_bins", value={"2": 4})),
    _config("lies: a dynamic input has bins", _q("input_bins", value={"0": 4})),
    _config("types: steps as a word", _q("precise_steps", value="first")),
    _config("lies: steps of a layer that quantizes no input", _q("precise_steps", value=[_STEPS])),
    _config("lies: steps of a model without timesteps", _q("precise_steps", value=[{**_STEPS, "targets": ["0"]}])),
    _config("lies: a smoothed layer is not", _q("smoothed", value=["0"])),
    _config("lies: no layer is smoothed", _without("smoothed")),
    _config("lies: no layer is sparse", _without("sparsity_config"), harmless=True),
    _config("lies: a dense layer is sparse", _q("sparsity_config", "targets", value=["3", "0"])),
    _config(
        "time: a pattern that goes back 2^n times",
        _q("ignore", value=["re:([a-z0-9_.]+)+!"]),
        harmless=True,
    ),
    _config("memory: counts within counts", _q("ignore", value=["re:((a{999}){999}){999}"])),
    _config(
        "words: escapes of a terminal as a target",
        _q("ignore", value=["\x1b]0;x\x07"]),
        harmless=True,
    ),
)

CLASSES = (
    _class("class: a module of diffusers", put("_class_name", value="logging")),
    _class("class: a pipeline", put("_class_name", value="DiffusionPipeline")),
    _class("class: a class that loads other files", put("_class_name", value="OnnxRuntimeModel")),
    _class("class: a number", put("_class_name", value=5)),
    _class("class: an attribute of a module", put("_class_name", value="utils.logging")),
    _class("class: another model", put("_class_name", value="CogVideoXTransformer3DModel")),
    _class("arguments: a word for a number", put("num_layers", value="x")),
    _class("arguments: ten million layers", put("num_layers", value=10**7)),
    _class("arguments: a width of 2^40", put("ffn_dim", value=2**40)),
    _class("arguments: true for a width", put("ffn_dim", value=True)),
    _class("arguments: nothing for a number", put("num_attention_heads", value=None)),
    _class("dtype: the name of a function", _q("dtype", value="load")),
    _class("dtype: integers", _q("dtype", value="int8")),
)

MANIFESTS = (
    _manifest("path: a file outside the folder", _entry("../../../etc/passwd")),
    _manifest("path: an absolute file", _entry("/etc/passwd")),
    _manifest("path: a device that never ends", _entry("/dev/zero")),
    _manifest("lies: lists no file", put("files", value={})),
    _manifest("lies: lists no weights", edited(lambda b: b["files"].pop("diffusion_pytorch_model.safetensors"))),
    _manifest("types: no list of files", put("files", value=None)),
    _manifest("types: a version of the future", put("format_version", value=99)),
    _manifest("types: layers as a list", put("layers", value=[]), harmless=True),
    _manifest("types: layers of numbers", put("layers", value={"": [5]}), harmless=True),
    _manifest("stack: lists 100,000 deep", instead(_DEEP)),
)

ORIGINALS = (
    _original(
        "path: a component at an absolute path",
        "model_index.json",
        _component("/tmp"),
    ),
    _original(
        "path: a component above the folder",
        "model_index.json",
        _component("../x"),
    ),
    _original("path: a component of no name", "model_index.json", _component("")),
    _original("stack: an index of lists 100,000 deep", "model_index.json", instead(_DEEP)),
    _original("types: a settings file of lists 100,000 deep", "generation.json", instead(_DEEP)),
    _original("class: a number", "transformer/config.json", put("_class_name", value=5)),
    _original("arguments: ten million layers", "transformer/config.json", put("num_layers", value=10**7)),
    _original(
        "values: integer codes without their scales",
        "transformer/diffusion_pytorch_model.safetensors",
        header(lambda b: b["blocks.0.ffn.net.2.weight"].update(dtype="I16")),
    ),
)
ODD = tuple(
    Attack(f"{what} as {file}", target, file, placed(place))
    for target, file in (
        ("transformer's config", "made/transformer/config.json"),
        ("checkpoint without hashes", _CONFIG),
        ("original model", "model/model_index.json"),
    )
    for what, place in ODD_PLACES.items()
)
ODD += tuple(  # not the terabyte: files of tensors are mapped, and take no memory
    Attack(f"{what} as tensors", "checkpoint without hashes", _NET, placed(ODD_PLACES[what]))
    for what in ("time: a pipe that nobody writes", "memory: a device that never ends")
)
CHECKPOINTS = (*ODD, *TENSORS, *CONFIGS, *CLASSES, *MANIFESTS, *ORIGINALS)

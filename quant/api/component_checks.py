"""What headers and config.json of one component say, and all that is wrong with that; no value is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from quant.api.checks import Check
from quant.checkpoint.config import CONFIG_KEY, quantization_of
from quant.checkpoint.digests import check_config
from quant.checkpoint.exports.table import quant_methods, stored_layers
from quant.checkpoint.reader import StoredTensor, survey, survey_all, weight_files
from quant.checkpoint.shards import DTYPES, WEIGHTS
from quant.errors import CheckpointError, ModelError
from quant.files.json_files import read_object
from quant.formats.base import TensorSpec
from quant.formats.layer import LayerFormat
from quant.layers.fitting import Shaped, check_layers, expected_tensors, layer_tensors, misfits, shapes_of, unused_of
from quant.layers.from_tensors import layers_of_tensors, stored_size, tensors_of
from quant.layers.kinds import in_groups
from quant.pipelines.skeleton import model_class, skeleton
from quant.text import shown


@dataclass
class Component:
    """A component as its headers and config.json have it.

    Attributes:
        name: "transformer"; empty where the folder is itself the component.
        path: its folder.
        files: those of tensors whose headers can be read.
        complete: can all of them be read? Else tensors that are not there are no fault of their own.
        tensors: what they hold.
        layers: quantized layers whose tensors can be looked at as what the config says they are.
        unfit: tensors of those layers of another dtype or shape.
        checks: what was found.
    """

    name: str
    path: Path
    files: tuple[Path, ...] = ()
    complete: bool = True
    tensors: dict[str, StoredTensor] = field(default_factory=dict)
    layers: dict[str, Shaped] = field(default_factory=dict)
    unfit: set[str] = field(default_factory=set)
    checks: list[Check] = field(default_factory=list)

    def add(self, check: str, text: str, faults: Iterable[str] = (), *, skipped: bool = False) -> None:
        """Adds what a check has found."""
        self.checks.append(Check.of(self.name, check, text, faults, skipped=skipped))


def check_component(name: str, path: Path, recorded: Iterable[str], *, hashed: bool) -> Component:
    """Looks at headers and config.json.

    Args:
        name: the component's.
        path: its folder.
        recorded: names of the layers that a manifest says are quantized.
        hashed: does a manifest have the hash of config.json?
    """
    found = Component(name, path)
    recorded = tuple(recorded)
    quantized = bool(recorded) or may_be_quantized(path)
    # Of what is not quantized, every file that some loader may take.
    seen = survey(path) if quantized else survey_all(path)
    found.files, found.tensors = seen.sound, seen.tensors
    found.complete = bool(seen.sound) and seen.sound == seen.files
    found.add("headers", _headers_text(found), seen.faults)
    left = sorted(file.name for file in weight_files(path) if file.suffix == ".safetensors" and file not in seen.files)
    if left and not seen.faults:
        found.add("headers", f"{number(len(left), 'file')} that loading leaves: {shown(left)}", skipped=True)
    # Other tensors, such as those of a LoRA, have none.
    needed = quantized or any(file.name.startswith(WEIGHTS) for file in seen.files)
    config = _check_config(found, hashed) if needed or (path / "config.json").is_file() else {}
    if config is None:
        return found
    quantization = config.get(CONFIG_KEY)
    if quantization is None:
        if recorded:
            where = path / "config.json"
            found.add("tensors", "", [f"{where}: has no '{CONFIG_KEY}', but the manifest has quantized layers"])
        return found
    method = quantization.get("quant_method")
    if name and isinstance(method, str) and method not in quant_methods():
        found.add("tensors", f"quantized by {shown(method)}, which quant does not read: not compared", skipped=True)
        return found
    _check_tensors(found, quantization, recorded)
    return found


def may_be_quantized(path: Path) -> bool:
    """True where a folder's config.json has a quantization_config, or cannot be read."""
    try:
        return _quantization(path) is not None
    except CheckpointError:
        return True


def is_damaged(path: Path) -> bool:
    """True where a folder's config.json cannot be read."""
    try:
        _quantization(path)
    except CheckpointError:
        return True
    return False


def _quantization(path: Path) -> Mapping[str, Any] | None:
    config = path / "config.json"
    return quantization_of(read_object(config), str(config)) if config.is_file() else None


def _headers_text(found: Component) -> str:
    unknown = Counter(tensor.dtype for tensor in found.tensors.values() if tensor.dtype not in DTYPES)
    text = f"{number(len(found.files), 'header')} of {number(len(found.tensors), 'tensor')}"
    return text + "".join(f", {count} of type {dtype} not looked into" for dtype, count in unknown.items())


def _check_config(found: Component, hashed: bool) -> dict[str, Any] | None:
    """The body of config.json; None where it is missing or damaged."""
    path = found.path / "config.json"
    if hashed and not path.is_file():  # a fault of the files
        return None
    try:
        config = read_object(path)
        quantization_of(config, str(path))
    except CheckpointError as error:
        found.add("config", "", [str(error)])
        return None
    faults, vouched = [], False
    for file in found.files:
        try:
            vouched = check_config(found.path, [file]) or vouched
        except CheckpointError as error:
            faults.append(str(error))
    if vouched or faults:
        found.add("config", "config.json is the one that the weights were written with", faults)
    elif not hashed:
        found.add("config", "config.json: no file of weights holds its hash", skipped=True)
    return config


def _check_tensors(found: Component, config: Mapping[str, Any], recorded: Iterable[str]) -> None:
    """Looks at the tensors of quantized layers, and at all others where the model's class is known."""
    where = str(found.path / "config.json")
    try:
        cls = model_class(found.path).__name__
    except ModelError:
        model, cls = None, ""
    else:
        try:
            model = skeleton(found.path, found.tensors)
        except ModelError as error:
            found.add("class", "", [str(error)])
            model = None
    try:
        if model is None:
            layers = layers_of_tensors(config, found.tensors, where)
        else:
            layers = stored_layers(config, in_groups(model), where)
            check_layers(model, layers)
    except CheckpointError as error:
        if model is None and not found.complete:  # a layer that the config names may be in what cannot be read
            found.add("tensors", "not compared with config.json: a file cannot be read", skipped=True)
        else:
            found.add("tensors", "", [str(error)])
        return
    if model is None:
        faults = list(_without_class(found, layers))
    else:
        wrong = list(_against_class(found, model, layers))
        faults = [fault for name, fault in wrong if _layer(name) in layers]
        others = [fault for name, fault in wrong if _layer(name) not in layers]
        found.add("class", f"names and shapes as {cls} has them", others)
    where = f"{found.path}: has no quantized layer"
    if found.complete:
        faults += [f"{where} '{name}', which the manifest lists" for name in recorded if name not in layers]
    labels = ", ".join(dict.fromkeys(layer.label for layer in layers.values()))
    found.add("tensors", f"{number(len(layers), 'layer')} in {labels}, as config.json says", faults)
    if model is None and not cls:
        named = read_object(found.path / "config.json").get("_class_name")
        why = "config.json names none" if named is None else f"diffusers has no {shown(named)}"
        found.add("class", f"not compared with a class: {why}", skipped=True)


def _against_class(found: Component, model: nn.Module, layers: Mapping[str, LayerFormat]) -> Iterator[tuple[str, str]]:
    """All that does not fit the model's class or the config: the tensor's name, and what is wrong."""
    shaped = shapes_of(model, layers)
    misfit = set()
    for name, each in shaped.items():
        try:
            layer_tensors(name, *each)
        except CheckpointError as error:
            misfit.add(name)
            yield f"{name}.weight", f"{found.path}: {error}"
    expected = expected_tensors(model, {name: layer for name, layer in layers.items() if name not in misfit})
    found.layers = {name: each for name, each in shaped.items() if name not in misfit}
    yield from _misfits(
        found,
        {name: spec for name, spec in expected.items() if _layer(name) not in misfit},
        {name: each for name, each in found.tensors.items() if _layer(name) not in misfit},
        unused_of(model),
    )


def _without_class(found: Component, layers: Mapping[str, LayerFormat]) -> Iterator[str]:
    """All that is wrong with the tensors of these layers, and codes that belong to none."""
    taken: set[str] = set()
    for name, layer in layers.items():
        own = tensors_of(name, found.tensors)
        taken.update(f"{name}.{leaf}" for leaf in own)
        try:
            size = stored_size(name, own, layer, found.path)
            specs = layer_tensors(name, layer, *size)
        except CheckpointError as error:
            if found.complete:
                yield str(error)
            continue
        found.layers[name] = (layer, *size)
        needed = {f"{name}.{leaf}": spec for leaf, spec in specs.items()}
        stored = {f"{name}.{leaf}": each for leaf, each in own.items() if leaf != "bias"}
        yield from (fault for _, fault in _misfits(found, needed, stored))
    for name, tensor in found.tensors.items():
        if found.complete and name not in taken and _is_codes(tensor):
            yield f"{tensor.file}: tensor '{name}' is {tensor.dtype}, codes without a scale or a layer of the config"


def _misfits(
    found: Component, expected: Mapping[str, TensorSpec], stored: Mapping[str, StoredTensor], unused: Iterable[str] = ()
) -> Iterator[tuple[str, str]]:
    for name, fault in misfits(found.path, expected, stored, unused):
        found.unfit.add(name)
        if found.complete or name in stored:
            yield name, fault


def _is_codes(tensor: StoredTensor) -> bool:
    """True of a matrix of one byte a value."""
    return tensor.dtype in DTYPES and DTYPES[tensor.dtype].itemsize == 1 and len(tensor.shape) > 1


def _layer(tensor: str) -> str:
    return tensor.rpartition(".")[0]


def number(count: int, what: str) -> str:
    """Such as "1 file" and "1,203 tensors"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"

"""A model without weights: names, classes and shapes, for what has to be known before any is read.

A config.json is anyone's: its class has to be a diffusers model, its numbers numbers, and the model no larger than the
file that it is to be filled from.
"""

from __future__ import annotations

import inspect
import math
import threading
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_modules

from quant.checkpoint.config import CONFIG_KEY
from quant.devices import memory_lacking
from quant.errors import ModelError, QuantError, interrupt_within
from quant.files.json_files import read_object
from quant.kernels.runtime.errors import KernelError
from quant.text import first_line, shown

#: Parameters and modules that a constructor may make for each tensor of the file, and beyond: some make a layer that
#: another then replaces.
_FACTOR, _ROOM = 4, 1000
#: Bytes of tables that no file holds, such as those of rotary positions: the largest known are of some hundred MB.
_TABLES = 2**32


def model_class(component: Path) -> Any:
    """The diffusers model class that a component's config.json names.

    Raises:
        ModelError: diffusers has no such model.
    """
    import diffusers

    path = component / "config.json"
    name = read_object(path, ModelError).get("_class_name")
    cls: Any = None
    if isinstance(name, str):
        with in_our_words(f"{path}: diffusers' '{name}'"):
            cls = getattr(diffusers, name, None)
    if not (isinstance(cls, type) and issubclass(cls, diffusers.ModelMixin)) or cls is diffusers.ModelMixin:
        raise ModelError(
            f"{path}: {shown(name)} is no diffusers class; give the model to fill with into=module (quant.load), or "
            "quantize it in memory (quant.quantize)"
        )
    return cls


def skeleton(component: Path, tensors: Collection[str]) -> nn.Module:
    """The model of a component's folder on the meta device, in eval mode.

    Args:
        component: the folder.
        tensors: names of those in its files, which bound how large a model its config.json may ask for.

    Raises:
        ModelError: as `model_class`; a value that the class does not take; a model of many more layers than tensors.
    """
    path = component / "config.json"
    config = {key: value for key, value in read_object(path, ModelError).items() if key != CONFIG_KEY}
    cls = model_class(component)
    hints = _hints(cls)
    for key, value in config.items():
        if hints.get(key) in (int, float) and isinstance(value, str | bool | dict):
            raise ModelError(f"{path}: {key} must be {_words(hints[key])}, got {shown(value)}")
    return _made(lambda: cls.from_config(config), path, cls.__name__, _suspect(config, hints), tensors)


def transformers_class(config: Mapping[str, Any]) -> Any:
    """The transformers model class that a config.json names in its `architectures`; None where there is none."""
    names = config.get("architectures")
    if "_class_name" in config or not isinstance(names, list) or not names or not isinstance(names[0], str):
        return None
    import transformers

    try:
        cls = getattr(transformers, names[0], None)
    except Exception:  # a class whose own libraries are not installed
        return None
    is_model = isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel)
    return cls if is_model and getattr(cls, "config_class", None) is not None else None


def is_transformers(model: nn.Module) -> bool:
    """Whether a model is of a class that `transformers_class` finds, so that it is made from its config again."""
    kind = type(model)
    return hasattr(kind, "config_class") and transformers_class({"architectures": [kind.__name__]}) is kind


def transformers_skeleton(path: Path, config: Mapping[str, Any], tensors: Collection[str]) -> nn.Module:
    """The same of a transformers model whose class `transformers_class` finds; no code of the folder is run.

    Args:
        path: its config.json, for errors.
        config: what that says.
        tensors: as of `skeleton`.

    Raises:
        ModelError: a value that the class does not take; a model of many more layers than tensors.
    """
    cls = transformers_class(config)
    return _made(lambda: cls(cls.config_class.from_dict(dict(config))), path, cls.__name__, "", tensors)


def _made(make: Callable[[], Any], path: Path, name: str, why: str, tensors: Collection[str]) -> nn.Module:
    """What a constructor makes on the meta device, in eval mode, no larger than its files can fill."""
    with in_our_words(f"{path}: {name} cannot be made", why), torch.device("meta"), _bounded(path, len(tensors)):
        model = make()
    assert isinstance(model, nn.Module)
    _check_tables(model, path)
    return model.eval()


@contextmanager
def in_our_words(what: str, why: str = "") -> Iterator[None]:
    """Whatever diffusers and the libraries below it raise within, but a lack of memory, becomes a line of a ModelError.

    Args:
        what: what did not work, with the file.
        why: what is known of the cause already.
    """
    try:
        yield
    except (QuantError, KernelError, MemoryError):
        raise
    except Exception as error:  # of many kinds: a file decides what goes wrong
        if memory_lacking(error):
            raise
        stopped = interrupt_within(error)
        if stopped is not None:
            raise stopped from None
        raise ModelError(f"{what}: {f'{why}: ' if why else ''}{first_line(error)}") from error


@contextmanager
def _bounded(path: Path, tensors: int) -> Iterator[None]:
    """Ends a constructor that makes more parameters or modules than a file of so many tensors can fill."""
    most = _FACTOR * tensors + _ROOM
    left = {"parameters": most, "modules": most}
    thread = threading.get_ident()

    def count(kind: str) -> Any:
        def hook(*_: Any) -> None:
            if threading.get_ident() != thread:
                return
            left[kind] -= 1
            if left[kind] < 0:
                raise ModelError(
                    f"{path}: asks for a model of more than {most:,} {kind}, but the file beside it holds "
                    f"{tensors:,} tensors; is a number of layers wrong?"
                )

        return hook

    hooks = (
        torch_modules.register_module_parameter_registration_hook(count("parameters")),
        torch_modules.register_module_module_registration_hook(count("modules")),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _check_tables(model: nn.Module, path: Path) -> None:
    stored = model.state_dict().keys()
    size = sum(math.prod(b.shape) * b.itemsize for name, b in model.named_buffers() if name not in stored)
    if size > _TABLES:
        raise ModelError(f"{path}: asks for {size / 2**30:,.0f} GiB of tables; is a number of positions wrong?")


def _hints(cls: type) -> dict[str, Any]:
    """Types of a constructor's arguments by name, as far as they can be known."""
    try:
        made = inspect.unwrap(cls.__init__)  # type: ignore[misc]
        # A switch may be annotated as a number, as FramePack's are: then its default says what it is.
        switches = {
            name for name, given in inspect.signature(made).parameters.items() if isinstance(given.default, bool)
        }
        return typing.get_type_hints(made) | dict.fromkeys(switches, bool)
    except Exception:  # an annotation may name what is imported for type checkers only
        return {}


def _suspect(config: Mapping[str, Any], hints: Mapping[str, Any]) -> str:
    """The first value that is not of its argument's type, in words; no error in itself, as old models have some."""
    for key, value in config.items():
        if key in hints and not _is_a(value, hints[key]):
            return f"{key} must be {_words(hints[key])}, got {shown(value)}"
    return ""


def _is_a(value: Any, hint: Any) -> bool:
    """Is a value read from JSON of a type? True of types that JSON has not."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_is_a(value, part) for part in parts)
    if origin is typing.Literal:
        return value in parts
    if origin in (list, tuple) or hint in (list, tuple):
        return isinstance(value, list) and all(_is_a(item, parts[0]) for item in value if parts)
    if hint in (int, float):
        return isinstance(value, int | (float if hint is float else int)) and not isinstance(value, bool)
    if hint in (str, bool, dict, type(None)):
        return isinstance(value, hint)
    return True


def _words(hint: Any) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(
        hint, str(hint).replace("typing.", "") if typing.get_origin(hint) else getattr(hint, "__name__", str(hint))
    )

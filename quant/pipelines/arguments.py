"""What a pipeline's call takes: names, defaults, and whether an argument is text, a picture, a video or numbers.

All of it is read from the call's own signature; of a modular pipeline from what its blocks declare. A picture or a
video is known by the last word of an argument's name, as all of diffusers' pipelines name them: types say little, since
`PipelineImageInput` stands for both.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

TEXT, VALUE, IMAGE, VIDEO, TENSOR, RECORD = "text", "a value", "an image", "a video", "a tensor", "an object"
#: Kinds whose values are files.
FILES = (IMAGE, VIDEO, TENSOR)
#: Arguments that whoever runs a pipeline here sets, so that nobody else can.
OURS = (
    "generator",
    "output_type",
    "return_dict",
    "callback",
    "callback_steps",
    "callback_on_step_end",
    "callback_on_step_end_tensor_inputs",
)
#: How pipelines name the number of frames of a clip, in the order in which they are looked for.
FRAMES = ("num_frames", "video_length", "frames")
_IMAGE_NAME = re.compile(r"(.+_)?images?")
_VIDEO_NAME = re.compile(r"(.+_)?(video|frames|controls|(?<!attention_)mask)")


@dataclass(frozen=True)
class Argument:
    """One argument of a pipeline's call.

    Attributes:
        name: its keyword.
        required: whether the call fails without.
        default: what it is otherwise.
        types: the classes that its annotation names, at any depth; empty where there is none.
    """

    name: str
    required: bool
    default: Any
    types: frozenset[type]

    @property
    def kind(self) -> str:
        """What its value is, one of the names above."""
        names = {each.__name__ for each in self.types}
        if self.record is not None or dict in self.types:
            return RECORD
        pictured = bool(names & {"Image", "ndarray", "Tensor", "FloatTensor"}) or not names
        if pictured and _IMAGE_NAME.fullmatch(self.name):
            return IMAGE
        if pictured and self.name not in FRAMES and _VIDEO_NAME.fullmatch(self.name):
            return VIDEO
        if "str" in names:
            return TEXT
        return TENSOR if names & {"ndarray", "Tensor", "FloatTensor"} and not names & {"int", "float"} else VALUE

    @property
    def is_text(self) -> bool:
        """Does it take text and nothing else?"""
        return self.kind == TEXT and not self.types & {int, float, bool}

    @property
    def record(self) -> type | None:
        """The dataclass that a row's object becomes, such as one condition of LTX; None where it stays as it is."""
        return next((each for each in self.types if dataclasses.is_dataclass(each)), None)

    @property
    def batched(self) -> bool:
        """Is a picture or a video wanted as one tensor [1, C, F, H, W] in 0..1? EasyAnimate alone says so."""
        return "FloatTensor" in {each.__name__ for each in self.types}


Arguments = Mapping[str, Argument]


def call_arguments(pipe: Any) -> dict[str, Argument]:
    """The arguments of a pipeline's call by name, in its order.

    Args:
        pipe: a pipeline or its class; of a modular one the pipeline, whose blocks decide.
    """
    if is_modular(pipe):
        needed = _needed(pipe.blocks)
        return {
            each.name: Argument(each.name, each.name in needed, each.default, _types(each.type_hint))
            for each in pipe.blocks.inputs
            if each.name is not None
        }
    kind = pipe if isinstance(pipe, type) else type(pipe)
    return arguments_of(kind.__call__)


def arguments_of(function: Any) -> dict[str, Argument]:
    """The named arguments of a function or class, without `self`."""
    signature = inspect.signature(function)
    try:
        hints = typing.get_type_hints(vars(function)["__init__"] if isinstance(function, type) else function)
    except Exception:  # names that are imported for type checkers only
        hints = {}
    found = {}
    for name, parameter in signature.parameters.items():
        if name == "self" or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        required = parameter.default is inspect.Parameter.empty
        hint = hints.get(name, parameter.annotation)
        found[name] = Argument(name, required, None if required else parameter.default, _types(hint))
    return found


def is_modular(pipe: Any) -> bool:
    """Is a pipeline one of diffusers' modular ones, which say themselves what they take?"""
    return not isinstance(pipe, type) and hasattr(getattr(pipe, "blocks", None), "inputs")


def _needed(block: Any) -> set[str]:
    """The inputs that a block of a modular pipeline cannot do without, by name.

    In a sequence the first block that reads or makes an input decides: it may fill in what it reads. diffusers' own
    `required` also counts what later blocks are handed.
    """
    from diffusers.modular_pipelines.modular_pipeline import ConditionalPipelineBlocks, SequentialPipelineBlocks

    if isinstance(block, ConditionalPipelineBlocks):
        if block.default_block_name is None:  # it may be skipped
            return set()
        return set.intersection(*(_needed(each) for each in block.sub_blocks.values()))
    if not isinstance(block, SequentialPipelineBlocks):
        return {each.name for each in block.inputs if each.required and each.name is not None}
    needed: set[str] = set()
    known: set[str] = set()
    for each in block.sub_blocks.values():
        needed |= _needed(each) - known
        known |= {found.name for found in (*each.inputs, *each.intermediate_outputs)}
    return needed


def class_name(pipe: Any) -> str:
    """The name of a pipeline's class, for messages."""
    return (pipe if isinstance(pipe, type) else type(pipe)).__name__


def frames_name(arguments: Arguments) -> str | None:
    """The argument with the number of frames; None where the call takes none."""
    return next((name for name in FRAMES if name in arguments), None)


def in_words(arguments: Arguments) -> str:
    """The call's arguments for a message: those that a table may have, the required ones first."""
    shown = [
        each
        for name, each in arguments.items()
        if name not in OURS and each.kind != TENSOR and not name.endswith("_kwargs")
    ]
    needed = [f"{each.name} (required)" for each in shown if each.required]
    return ", ".join([*needed, *(each.name for each in shown if not each.required)])


def _types(hint: Any) -> frozenset[type]:
    return frozenset(_leaves(hint))


def _leaves(hint: Any) -> Iterator[type]:
    """The classes in an annotation; of a literal, its values' classes; of a mapping, that it is one."""
    if isinstance(hint, type) and not typing.get_args(hint):
        if hint is not inspect.Parameter.empty and hint is not type(None):
            yield hint
        return
    if isinstance(hint, str | int | float):
        yield type(hint)
        return
    if typing.get_origin(hint) is dict:
        yield dict
        return
    for each in typing.get_args(hint):
        yield from _leaves(each)

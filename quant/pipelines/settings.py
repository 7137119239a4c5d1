"""How a pipeline is called: size, frames, steps, guidance and whatever else it takes, from its folder and a command.

A diffusers pipeline's own defaults are for one checkpoint (832x480, 81 frames for Wan), and there is no standard
place for others, so a pipeline folder may hold `generation.json`, ready for `pipe(prompt, **settings)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quant.errors import ModelError
from quant.fields import MOST, is_number
from quant.files.json_files import read_object
from quant.pipelines.arguments import (
    FILES,
    FRAMES,
    OURS,
    RECORD,
    VIDEO,
    Arguments,
    call_arguments,
    class_name,
    frames_name,
)
from quant.text import cut, shown

FILE_NAME = "generation.json"
#: Positive whole numbers wherever a pipeline takes them, in the order in which they are written.
_COUNTS = ("height", "width", "num_frames", "num_inference_steps", "max_sequence_length")
_FIRST = (*_COUNTS[:4], "guidance_scale", _COUNTS[4])


@dataclass(frozen=True, init=False, repr=False)
class GenerationSettings:
    """Arguments of a pipeline's call: numbers, text, true and false, and lists of them; what is None is left to it.

    `num_frames` is passed under the name that the pipeline has for it. To a pipeline that takes a video and no number
    of frames it is not passed: it is how many frames of the video are read.
    """

    values: Mapping[str, Any]

    def __init__(self, **values: Any) -> None:
        given = {name: value for name, value in values.items() if value is not None}
        for name, value in given.items():
            _check(name, value)
        order = [*(name for name in _FIRST if name in given), *sorted(name for name in given if name not in _FIRST)]
        object.__setattr__(self, "values", {name: given[name] for name in order})

    def __repr__(self) -> str:
        return f"GenerationSettings({', '.join(f'{name}={value!r}' for name, value in self.values.items())})"

    def given(self) -> dict[str, Any]:
        """The settings that are not None."""
        return dict(self.values)

    def get(self, name: str) -> Any:
        """A setting; None where it is left to the pipeline."""
        return self.values.get(name)

    def merged(self, **overrides: Any) -> GenerationSettings:
        """A copy with every override that is not None."""
        return GenerationSettings(**{**self.values, **{k: v for k, v in overrides.items() if v is not None}})

    @classmethod
    def read(cls, folder: str | Path) -> GenerationSettings:
        """The settings in a pipeline folder's `generation.json`; none where it has no such file.

        Raises:
            ModelError: the file is not a JSON object of settings.
        """
        path = Path(folder) / FILE_NAME
        if not path.is_file():
            return cls()
        body = read_object(path, ModelError)
        try:
            return cls(**body)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None

    @staticmethod
    def default(pipeline: Any, name: str) -> Any:
        """What a pipeline, or its class, takes where an argument is not given; None where there is no default."""
        argument = call_arguments(pipeline).get(name)
        return None if argument is None else argument.default

    def for_pipeline(self, pipe: Any) -> dict[str, Any]:
        """Keyword arguments for `pipe(...)`.

        Raises:
            ModelError: the pipeline's call takes no such setting, or would round it and only log that.
        """
        arguments = call_arguments(pipe)
        call = self.for_arguments(arguments, class_name(pipe))
        _check_grid(pipe, arguments, call)
        return call

    def for_arguments(self, arguments: Arguments, name: str) -> dict[str, Any]:
        """Keyword arguments for a call that takes `arguments`; `name` is its pipeline's class.

        Raises:
            ModelError: as `for_pipeline`, but sizes are not checked.
        """
        call = dict(_renamed(self.values, arguments))
        for each in call:
            if each not in arguments:
                raise ModelError(f"{name} takes no '{each}'; remove it from the settings")
            if arguments[each].kind in (*FILES, RECORD):
                raise ModelError(f"'{each}' of {name} is {arguments[each].kind}: give it in a table, with --inputs")
        return call


def _renamed(values: Mapping[str, Any], arguments: Arguments) -> Iterator[tuple[str, Any]]:
    """The settings under the pipeline's names."""
    for name, value in values.items():
        if name != FRAMES[0] or name in arguments:
            yield name, value
            continue
        own = frames_name(arguments)
        if own is not None or not any(each.kind == VIDEO for each in arguments.values()):
            yield own or name, value


def _check(name: str, value: object) -> None:
    if name in OURS:
        raise ModelError(f"generation setting '{name}': is set by this program for every run; remove it")
    if name == "guidance_scale":
        valid, kind = is_number(value) and value >= 0, "number of at least 0"
    elif name in _COUNTS:
        valid, kind = type(value) is int and 0 < value <= MOST, "positive whole number"
    else:
        each = value if isinstance(value, list | tuple) else [value]
        valid = all(isinstance(one, str | bool) or is_number(one) for one in each)
        kind = "number, text, true or false, or a list of these"
    if not valid:
        raise ModelError(f"generation setting '{cut(name, 80)}': must be a {kind}, got {shown(value)}")


def _check_grid(pipe: Any, arguments: Arguments, call: Mapping[str, Any]) -> None:
    """Sizes must be whole patches of latents; a causal video autoencoder takes 1 + n frames for each step of n.

    Not every pipeline with such an autoencoder has that rule: Allegro makes 88 frames, Helios 132. One whose own
    default breaks it, or that has no default, decides for itself.
    """
    denoiser = getattr(pipe, "transformer", None)
    patch = getattr(getattr(denoiser, "config", None), "patch_size", 1)
    if isinstance(patch, list | tuple) and patch:
        patch = patch[-1]
    scale = getattr(pipe, "vae_scale_factor_spatial", 1)
    spatial = (scale if type(scale) is int else 1) * (patch if type(patch) is int and patch > 0 else 1)
    for name in ("height", "width"):
        if (call.get(name) or 0) % spatial:
            raise ModelError(f"{name} {call[name]} is not a multiple of {spatial}, which {class_name(pipe)} needs")
    own, temporal = frames_name(arguments), getattr(pipe, "vae_scale_factor_temporal", 1)
    if own is None or type(temporal) is not int:
        return
    default, frames = arguments[own].default, call.get(own)
    if type(default) is not int or type(frames) is not int:
        return
    if default % temporal == 1 % temporal and frames % temporal != 1 % temporal:
        raise ModelError(f"{frames} frames are not a multiple of {temporal} plus one, which {class_name(pipe)} needs")

"""How a pipeline is called: size, frames, steps and guidance, from its folder and the command line.

A diffusers pipeline's own defaults are for one checkpoint (832x480, 81 frames for Wan), and there is no standard
place for others, so a pipeline folder may hold `generation.json`, ready for `pipe(prompt, **settings)`.
"""

from __future__ import annotations

import inspect
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from quant.errors import ModelError
from quant.fields import MOST, is_number
from quant.files.json_files import read_object
from quant.text import shown

FILE_NAME = "generation.json"


@dataclass(frozen=True)
class GenerationSettings:
    """Call settings of a text-to-video pipeline; None leaves a setting to the pipeline.

    Attributes:
        height, width: pixels.
        num_frames: frames of a clip.
        num_inference_steps: denoising steps.
        guidance_scale: classifier-free guidance.
        max_sequence_length: text tokens.
    """

    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    max_sequence_length: int | None = None

    def __post_init__(self) -> None:
        for name, value in self.given().items():
            if name == "guidance_scale":
                valid, kind = is_number(value) and value >= 0, "number of at least 0"
            else:
                valid, kind = type(value) is int and 0 < value <= MOST, "positive whole number"
            if not valid:
                raise ModelError(f"generation setting '{name}': must be a {kind}, got {shown(value)}")

    def given(self) -> dict[str, Any]:
        """The settings that are not None."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def merged(self, **overrides: Any) -> GenerationSettings:
        """A copy with every override that is not None."""
        return GenerationSettings(**{**self.given(), **{k: v for k, v in overrides.items() if v is not None}})

    @classmethod
    def read(cls, folder: str | Path) -> GenerationSettings:
        """The settings in a pipeline folder's `generation.json`; all None where it has no such file.

        Raises:
            ModelError: the file is not a JSON object of known settings.
        """
        path = Path(folder) / FILE_NAME
        if not path.is_file():
            return cls()
        body = read_object(path, ModelError)
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(body) - set(known))
        if unknown:
            raise ModelError(f"{path}: unknown setting {shown(unknown[0])}; known: {', '.join(known)}")
        try:
            return cls(**body)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None

    @staticmethod
    def default(pipeline: type, name: str) -> Any:
        """What a pipeline of this class takes where an argument is not given; None where there is no default."""
        parameter = inspect.signature(pipeline.__call__).parameters.get(name)
        return None if parameter is None or parameter.default is inspect.Parameter.empty else parameter.default

    def for_pipeline(self, pipe: Any) -> dict[str, Any]:
        """Keyword arguments for `pipe(...)`.

        Raises:
            ModelError: the pipeline's call takes no such setting, or would round it and only log that.
        """
        accepted = inspect.signature(type(pipe).__call__).parameters
        refused = [name for name in self.given() if name not in accepted]
        if refused:
            raise ModelError(f"{type(pipe).__name__} takes no '{refused[0]}'; remove it from the settings")
        self._check_grid(pipe)
        return self.given()

    def _check_grid(self, pipe: Any) -> None:
        """Sizes must be whole patches of latents; a causal video autoencoder takes 1 + n frames for each step of n."""
        denoiser = getattr(pipe, "transformer", None)
        patch = getattr(getattr(denoiser, "config", None), "patch_size", 1)
        if isinstance(patch, list | tuple) and patch:
            patch = patch[-1]
        spatial = getattr(pipe, "vae_scale_factor_spatial", 1) * (patch if type(patch) is int and patch > 0 else 1)
        for name in ("height", "width"):
            if (getattr(self, name) or 0) % spatial:
                raise ModelError(
                    f"{name} {getattr(self, name)} is not a multiple of {spatial}, which {type(pipe).__name__} needs"
                )
        temporal = getattr(pipe, "vae_scale_factor_temporal", 1)
        if self.num_frames is not None and self.num_frames % temporal != 1 % temporal:
            raise ModelError(
                f"{self.num_frames} frames are not a multiple of {temporal} plus one, which {type(pipe).__name__} needs"
            )

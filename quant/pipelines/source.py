"""The model a user names: a pipeline folder, a hub id, or one component's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from quant.errors import ModelError, RecipeError
from quant.families.table import DENOISERS
from quant.files.json_files import read_object
from quant.files.model_paths import about_config, no_folder
from quant.files.places import is_file, is_plain_name
from quant.pipelines.arguments import Argument, call_arguments, class_name
from quant.pipelines.inputs.base import Component
from quant.pipelines.inputs.coded import is_read
from quant.pipelines.inputs.table import open_files
from quant.pipelines.skeleton import in_our_words
from quant.recipe import Recipe
from quant.text import first_line, shown

_INDEX = "model_index.json"
#: Of a pipeline that diffusers puts together of blocks: each component has a third entry, of where it comes from.
MODULAR_INDEX = "modular_model_index.json"
#: The name of the only component where its class is not known.
WEIGHTS_ALONE = "model"
#: What is downloaded of a modular pipeline.
_MODULAR_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.md"]
_FILES = (".json", ".yaml", ".md", ".txt")


@dataclass(frozen=True)
class Source:
    """A model on disk.

    Attributes:
        name: a hub id, or the last two names of the path: what a manifest says of where a checkpoint came from.
        folder: the pipeline's, or the component's own.
        classes: diffusers class by component name; of a lone component, one entry named after its kind.
        others: transformers class by component name, such as a text encoder's.
        is_pipeline: whether it can be run on inputs.
        parts: every component that a pipeline's index names, whichever library's; each the name of a folder.
        file: the one file that all weights are in, where the user named a file.
        config: where the config.json of the class of a lone component is, if the user named one: a folder, or a hub id.
        is_modular: whether it is a modular pipeline, which diffusers opens by another class.
    """

    name: str
    folder: Path
    classes: dict[str, str]
    is_pipeline: bool
    parts: tuple[str, ...] = ()
    others: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None
    config: str | Path | None = None
    is_modular: bool = False

    def component_folder(self, component: str) -> Path:
        return self.folder / component if self.is_pipeline else self.folder

    def component(self, name: str) -> Component:
        """What the files of a component hold. Raises ModelError as `open_files`."""
        return open_files(self.file or self.component_folder(name), self.config)

    def load_pipeline(self, dtype: torch.dtype) -> Any:
        """The whole pipeline, on the CPU. Raises ModelError where it cannot be loaded."""
        with in_our_words(f"{self.folder}: diffusers cannot load it"):
            return self.pipeline(dtype)

    def pipeline(self, dtype: torch.dtype, parts: Mapping[str, Any] = MappingProxyType({})) -> Any:
        """The whole pipeline, on the CPU, as diffusers' own class opens it.

        Args:
            dtype: what its models compute in.
            parts: components that are there already, by name; the folder's own are not read.

        Raises:
            ModelError: diffusers has no such class, or has lost a component; else as diffusers and those below it do.
        """
        from diffusers import DiffusionPipeline

        if not self.is_modular:
            # The general class would silently leave out parts that it is given.
            kind = self._class() if parts else DiffusionPipeline
            return kind.from_pretrained(self.folder, dtype=dtype, local_files_only=True, **parts)
        pipe = self._blocks()
        pipe.update_components(**parts)
        pipe.load_components(dtype=dtype, local_files_only=True)
        missing = next((name for name in self.parts if name in pipe.components and pipe.components[name] is None), None)
        if missing is not None:  # diffusers only logs it
            raise ModelError(f"{self.folder / missing}: diffusers cannot load it")
        return pipe

    def call(self) -> tuple[str, dict[str, Argument]]:
        """The class of the pipeline and what its call takes, without its weights.

        Raises:
            ModelError: a pipeline, or blocks of one, that diffusers does not have.
        """
        if self.is_modular:
            with in_our_words(f"{self.folder}: diffusers cannot load it"):
                pipe = self._blocks()
        else:
            pipe = self._class()
        return class_name(pipe), call_arguments(pipe)

    def _class(self) -> Any:
        """The class that the index of a pipeline names."""
        import diffusers

        named = _read_json(self.folder / _INDEX).get("_class_name")
        found = getattr(diffusers, named, None) if isinstance(named, str) else None
        if not (isinstance(found, type) and issubclass(found, diffusers.DiffusionPipeline)):
            raise ModelError(f"{self.folder}: diffusers has no pipeline {shown(named)}, which its {_INDEX} names")
        return found

    def _blocks(self) -> Any:
        """A modular pipeline without its components."""
        from diffusers import ModularPipeline

        return ModularPipeline.from_pretrained(str(self.folder), local_files_only=True)


def open_source(model: str | Path, config: str | Path | None = None) -> Source:
    """Finds a model by file, folder or hub id; nothing is loaded yet.

    Args:
        model: what the user named.
        config: of a lone component, as `Source.config`.

    Raises:
        ModelError: no such folder or hub model, or a folder of another kind.
    """
    found = _found(model)
    if config is None:
        return found
    if found.is_pipeline:
        raise ModelError(f"{found.folder}: a pipeline has its components' configs; a config goes with one component")
    return replace(found, config=config)


def _found(model: str | Path) -> Source:
    folder, name = Path(model), "/".join(Path(model).resolve().parts[-2:])
    if is_weights_file(folder):
        return Source(name, folder.parent, {WEIGHTS_ALONE: ""}, is_pipeline=False, file=folder)
    if not folder.is_dir():
        what = no_folder(folder)
        if what is not None:
            raise ModelError(f"{folder}: {what}")
        folder, name = _downloaded(str(model)), str(model)
    modular = (folder / MODULAR_INDEX).is_file() and not (folder / _INDEX).is_file()
    if modular or (folder / _INDEX).is_file():
        named = _components(folder / (MODULAR_INDEX if modular else _INDEX))
        if modular:  # others come from other places, and stay there
            named = {part: value for part, value in named.items() if (folder / part).is_dir()}
        classes = {part: class_name for part, (library, class_name) in named.items() if library == "diffusers"}
        others = {part: class_name for part, (library, class_name) in named.items() if library == "transformers"}
        others = {part: class_name for part, class_name in others.items() if (folder / part / "config.json").is_file()}
        return Source(name, folder, classes, is_pipeline=True, parts=tuple(named), others=others, is_modular=modular)
    if (folder / "config.json").is_file():
        config = _read_json(folder / "config.json")
        if "_class_name" in config:
            kind = config["_class_name"]
            if not isinstance(kind, str):
                raise ModelError(
                    f"{folder / 'config.json'}: _class_name must name a diffusers class, got {shown(kind)}"
                )
            return Source(name, folder, {"unet" if "UNet" in kind else "transformer": kind}, is_pipeline=False)
    if any(folder.glob("*.safetensors")):
        return Source(name, folder, {WEIGHTS_ALONE: ""}, is_pipeline=False)
    if (folder / "config.json").is_file():
        what = about_config(_read_json(folder / "config.json"))
        if what is not None:
            raise ModelError(f"{folder}: {what}; give the folder of the pipeline it belongs to")
    raise ModelError(
        f"{folder}: neither a diffusers pipeline (model_index.json), nor a component (config.json), nor a folder of "
        "safetensors"
    )


def is_pipeline_folder(folder: Path) -> bool:
    """Has a folder the index of a whole pipeline, modular ones too?"""
    return any((folder / name).is_file() for name in (_INDEX, MODULAR_INDEX))


def is_weights_file(path: Path) -> bool:
    """Is it a file of tensors that is read here?"""
    return path.suffix in (".safetensors", ".sft") and is_file(path)


def components_of(source: Source, recipe: Recipe, *, runs: bool = False) -> list[str]:
    """The components a recipe is applied to: those it names, else every denoiser.

    Args:
        source: the model.
        recipe: may name components.
        runs: will the pipeline be run? diffusers, which loads it, would take codes for weights.

    Raises:
        RecipeError: a named component that the model has not.
        ModelError: no denoiser, a missing folder, or a component that is quantized already.
    """
    if recipe.components is None:
        chosen = [name for name in (*DENOISERS, WEIGHTS_ALONE) if name in source.classes]
        if not chosen:
            raise ModelError(
                f"{source.folder}: has no {', '.join(DENOISERS)}; name 'components' in the recipe, of: "
                f"{', '.join(source.classes) or 'none'}"
            )
    else:
        chosen = list(recipe.components)
        for name in chosen:
            if name in source.others and not runs:
                continue
            if name not in source.classes:
                if name in source.others:
                    raise RecipeError(
                        f"{recipe.name}: components: '{name}' is a transformers model of {source.folder}, which is "
                        "quantized without data only: most of what it reads in a pipeline is padding. Give it a recipe "
                        "of its own for 'quant convert', or quant.quantize(model, recipe, forward_loop=...) your data"
                    )
                more = ", ".join(source.others)
                raise RecipeError(
                    f"{recipe.name}: components: '{name}' is not a diffusers model of {source.folder}; "
                    f"it has {', '.join(source.classes)}{f'; without data also {more}' if more and not runs else ''}"
                )
    _check_originals(source, chosen, runs=runs)
    return chosen


def denoisers_of(source: Source) -> list[str]:
    """The denoisers of a pipeline that is run.

    Raises:
        ModelError: it is no pipeline or has none; a missing folder, or a denoiser that is quantized already.
    """
    if not source.is_pipeline:
        raise ModelError(f"{source.folder}: the whole pipeline is run; give the pipeline's folder")
    found = [name for name in DENOISERS if name in source.classes]
    if not found:
        raise ModelError(f"{source.folder}: has no {', '.join(DENOISERS)}")
    _check_originals(source, found, runs=True)
    return found


def _check_originals(source: Source, components: Sequence[str], *, runs: bool) -> None:
    for name in components:
        path = source.component_folder(name) / "config.json"
        if source.file is not None or (name == WEIGHTS_ALONE and not path.is_file()):
            continue
        if not path.is_file():
            raise ModelError(f"{path}: missing; the pipeline's {_INDEX} lists the component '{name}'")
        quantization = _read_json(path).get("quantization_config")
        if quantization is not None and (runs or not is_read(quantization)):
            by = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
            raise ModelError(f"{path}: is quantized already ({shown(by)}); calibrate the original model")


def _downloaded(model: str) -> Path:
    if model.count("/") != 1 or model.startswith((".", "/", "~")) or model.endswith("/"):
        raise ModelError(f"{model}: no such folder")
    from diffusers import DiffusionPipeline
    from huggingface_hub import snapshot_download

    try:
        return Path(DiffusionPipeline.download(model))
    except Exception as error:  # the hub client raises its own and its transport's errors
        if _INDEX in str(error) and MODULAR_INDEX in _listed(model):
            return Path(snapshot_download(model, allow_patterns=_MODULAR_FILES))
        raise ModelError(f"{model}: no such folder, and not available from the hub: {first_line(error)}") from None


def _listed(model: str) -> list[str]:
    """The names of a hub model's files; none where the hub does not answer."""
    from huggingface_hub import list_repo_files

    try:
        return list(list_repo_files(model))
    except Exception:  # as above
        return []


def _components(path: Path) -> dict[str, tuple[str, str]]:
    """Library and class of each component that a pipeline's index names and that is there; all else it says is no part.

    Raises:
        ModelError: a name that is not that of a folder in the pipeline's.
    """
    named = {
        part: value
        for part, value in _read_json(path).items()
        if not part.startswith("_")
        and isinstance(value, list)
        and len(value) in (2, 3)
        and all(each is None or isinstance(each, str) for each in value[:2])
    }
    for part in named:
        # Next to the components lie files that every checkpoint has.
        if not is_plain_name(part) or part.endswith(_FILES):
            raise ModelError(f"{path}: names a component {shown(part)}, which is not a plain folder name")
    return {part: (value[0], value[1]) for part, value in named.items() if value[0] and value[1]}


def _read_json(path: Path) -> dict[str, Any]:
    return read_object(path, ModelError, "missing; is this a model folder?")

"""A model in its authors' own names, as they and ComfyUI ship it: diffusers' maps for single files name it anew.

The maps take a dict of tensors and return one; they are given tensors without values (`quant.pipelines.inputs.pieces`),
so that no weight is read before it is asked for. The class comes from a config.json.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from quant.checkpoint.config import CONFIG_KEY
from quant.errors import ModelError, QuantWarning
from quant.files.json_files import read_object
from quant.pipelines.inputs import cogvideox
from quant.pipelines.inputs.base import Component, Files, InputKind
from quant.pipelines.inputs.configs import CONFIG, hub_config
from quant.pipelines.inputs.hunyuan_video_names import HUNYUAN_VIDEO
from quant.pipelines.inputs.ltx_names import LTX
from quant.pipelines.inputs.naming import Names, Naming
from quant.pipelines.inputs.pieces import trace, traced
from quant.pipelines.inputs.tensors import SourceTensor
from quant.pipelines.inputs.wan_names import WAN
from quant.pipelines.skeleton import in_our_words, model_class, skeleton
from quant.pipelines.weights import plans_of

NAMINGS = (
    Naming("head.modulation", backwards=WAN),  # Wan 2.1 and 2.2, VACE, Animate, SkyReels V2
    Naming("patchify_proj.weight", backwards=LTX),  # LTX, LTX-2
    Naming("txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.bias", backwards=HUNYUAN_VIDEO),
    Naming("blocks.0.attn.qkv_x.weight"),  # Mochi
    Naming("net.x_embedder.proj.1.weight"),  # Cosmos 1 and 2
    Naming("token_refiner.blocks.0.attn.qkv_proj.weight"),  # MiniMax-H3
    Naming("transformer.layers.0.attention.query_key_value.weight", {"CogVideoXTransformer3DModel": cogvideox.names}),
)
#: What stands before the names of the denoiser in a file that holds other components too.
_PREFIXES = ("", "model.diffusion_model.", "diffusion_model.", "model.model.")


class OriginalNaming(InputKind):
    """Files whose names are not diffusers'."""

    def holds(self, files: Files) -> bool:
        return _naming(files.tensors) is not None

    def open(self, files: Files) -> Component:
        found = _naming(files.tensors)
        assert found is not None
        naming, prefix = found
        rest = [name for name in files.tensors if not name.startswith(prefix)]
        _warn_of_rest(files.path, rest, "the denoiser")
        tensors = {name.removeprefix(prefix): each for name, each in files.tensors.items() if name.startswith(prefix)}
        folder = _config_folder(files, naming, tensors)
        said = read_object(folder / CONFIG, ModelError)
        config = {key: value for key, value in said.items() if key != CONFIG_KEY}
        cls = model_class(folder)
        names = names_of(naming, cls, str(folder))
        with in_our_words(f"{files.path}: diffusers cannot name its tensors as {cls.__name__}'s"):
            named, left = trace(lambda checkpoint: names(checkpoint=checkpoint, config=config), tensors)
        model = skeleton(folder, named)
        _warn_of_rest(files.path, left, cls.__name__)
        return Component(config, model, partial(plans_of, model, files.path, named))


def _naming(tensors: Mapping[str, SourceTensor]) -> tuple[Naming, str] | None:
    """How a denoiser is named, and what stands before its names; None where nothing here knows."""
    found = ((naming, prefix) for naming in NAMINGS for prefix in _PREFIXES if f"{prefix}{naming.sign}" in tensors)
    return next(found, None)


def _config_folder(files: Files, naming: Naming, tensors: Mapping[str, SourceTensor]) -> Path:
    """Where the class is named: by the user, next to the files, or where diffusers looks for it."""
    import diffusers

    name = None if files.config is None else files.config.get("_class_name")
    # Authors' own config.json may name a class of theirs.
    if files.config_folder is not None and isinstance(name, str) and hasattr(diffusers, name):
        return files.config_folder
    if naming.names:
        raise ModelError(f"{files.path}: has its authors' names; give --config DIR, a folder with its class's {CONFIG}")
    from diffusers.loaders.single_file_utils import fetch_diffusers_config

    with in_our_words(f"{files.path}: its model is not known", "give --config DIR, a folder with its config.json"):
        where = fetch_diffusers_config(traced(tensors))["pretrained_model_name_or_path"]
    try:
        return hub_config(where)
    except ModelError as error:
        raise ModelError(f"{files.path}: has its authors' names, and no config.json with its class: {error}") from None


def names_of(naming: Naming, cls: type, where: str) -> Names:
    """The map that names tensors as a class's. Raises ModelError, which begins with `where`, where there is none."""
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

    maps = {name: kind["checkpoint_mapping_fn"] for name, kind in SINGLE_FILE_LOADABLE_CLASSES.items()}
    maps.update(naming.names)
    for base in cls.__mro__:
        if base.__name__ in maps:
            names: Names = maps[base.__name__]
            return names
    raise ModelError(f"{where}: diffusers reads no {cls.__name__} in its authors' names")


def _warn_of_rest(path: Path, names: list[str], what: str) -> None:
    if names:
        warnings.warn(
            f"{path}: {len(names)} tensors are no part of {what} and are left out, such as '{names[0]}'",
            QuantWarning,
            stacklevel=3,
        )

"""Models from a folder or a hub id, by transformers, with one clear error where one is not what it should be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from quant.errors import QuantError
from quant.files.json_files import read_value
from quant.text import first_line

#: What a picture is scaled by, from 0..255 to 0..1; networks here are given 0..1.
_RESCALE = 1 / 255


def load_config(where: str, wanted: str) -> Any:
    """The configuration in `where`. Raises QuantError unless it is of a model of the type `wanted`."""
    import transformers

    # A configuration can name a program to run; transformers asks on the terminal unless it is switched off here.
    config = _loaded(where, lambda: transformers.AutoConfig.from_pretrained(where, trust_remote_code=False))
    if config.model_type != wanted:
        raise QuantError(f"{where} is a {config.model_type}, not a {wanted}")
    return config


def load_model(kind: Any, where: str, device: str | torch.device) -> Any:
    """The model of the class `kind` in `where`, in float32, to be evaluated. Raises QuantError where weights lack."""
    model, report = _loaded(where, lambda: kind.from_pretrained(where, dtype=torch.float32, output_loading_info=True))
    if report["missing_keys"]:  # transformers would fill them with random numbers
        raise QuantError(f"{where} lacks weights of a {kind.__name__}: {', '.join(sorted(report['missing_keys'])[:3])}")
    return model.eval().requires_grad_(False).to(device)


def load_tokenizer(where: str) -> Any:
    """The tokenizer in `where`. Raises QuantError where there is none."""
    import transformers

    return _loaded(where, lambda: transformers.AutoTokenizer.from_pretrained(where, trust_remote_code=False))


def read_preprocessor(where: str, names: Sequence[str]) -> tuple[str, Mapping[str, Any]]:
    """How `where` wants its pictures: what to call the first of the files `names` that is there, and its content.

    Raises QuantError where none is there, it is no JSON object, or it wants another range than 0..1 before the mean.
    """
    from transformers.utils import cached_file

    for name in names:
        file = _loaded(where, partial(cached_file, where, name, _raise_exceptions_for_missing_entries=False))
        if file is None:
            continue
        what = f"{name} of {where}"
        try:
            config = read_value(Path(file), QuantError)
        except QuantError as error:
            raise QuantError(f"{what} cannot be read as JSON: {error}") from None
        if not isinstance(config, dict):
            raise QuantError(f"{what} holds no JSON object")
        config = {key: value for key, value in config.items() if value is not None}  # what the file leaves out
        factor = config.get("rescale_factor", _RESCALE)
        if not config.get("do_rescale", True) or not isinstance(factor, float) or abs(factor - _RESCALE) > 1e-6:
            raise QuantError(f"{what} wants pictures in another range than 0..1, which is not supported")
        return what, config
    raise QuantError(f"{where} has no {' and no '.join(names)}: how it wants its pictures is not known")


def _loaded(where: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (OSError, ValueError, RuntimeError) as error:
        raise QuantError(f"{where} cannot be loaded: {first_line(error)}") from error

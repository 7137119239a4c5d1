"""Under which names files of a transformers model hold its tensors: older ones, left-out prefixes, one of two tied."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from torch import nn

from quant.errors import ModelError
from quant.layers.fitting import unused_of

#: Tables that older releases stored and newer ones make: a part of the name of a buffer, and the tensors left.
_MADE_ANEW = (("rotary_emb.inv_freq", r"rotary_emb\.inv_freq$"), ("position_ids", r"(^|\.)position_ids$"))


def held_by_others(model: nn.Module, stored: Collection[str]) -> set[str]:
    """Names of tensors that files need not hold, for each is tied to one that they hold.

    Args:
        model: of transformers.
        stored: the names of the tensors that files hold.
    """
    ties = getattr(model, "all_tied_weights_keys", None) or {}
    together: dict[str, set[str]] = {}
    for name, source in ties.items():
        together.setdefault(source, {source}).add(name)
    held = set(stored)
    return {name for names in together.values() if names & held for name in names - held}


def written_twice(model: nn.Module) -> set[str]:
    """Names of tensors that need not be written: each is tied to another, and is that one's memory."""
    ties = getattr(model, "all_tied_weights_keys", None)
    tensors = model.state_dict() if ties else {}
    return {
        name
        for name, source in (ties or {}).items()
        if name in tensors and source in tensors and tensors[name].data_ptr() == tensors[source].data_ptr()
    }


def left_out(model: nn.Module) -> list[str]:
    """Expressions of the tensors that `from_pretrained` of transformers leaves in files without a word."""
    buffers = [name for name, _ in model.named_buffers()]
    made = [tensors for buffer, tensors in _MADE_ANEW if any(name.endswith(buffer) for name in buffers)]
    return [*unused_of(model), *made]


def names_in_model(model: nn.Module, stored: Iterable[str], expected: Mapping[str, object]) -> dict[str, str]:
    """The name that each tensor of files gets in a model, as `from_pretrained` of transformers decides it.

    Args:
        model: of transformers.
        stored: the names in the files.
        expected: the model's own tensors by name.

    Raises:
        ModelError: two tensors get one name, or transformers makes another tensor of one, as it joins experts.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    changes = get_model_conversion_mapping(model)
    renamings = [each for each in changes if isinstance(each, WeightRenaming)]
    converters = [each for each in changes if isinstance(each, WeightConverter)]
    prefix, room = model.base_model_prefix, dict.fromkeys(expected, True)
    found: dict[str, str] = {}
    for name in stored:
        renamed, converted = rename_source_key(name, renamings, converters, prefix, room)
        if renamed not in room and name in room:
            renamed, converted = rename_source_key(name, [], [], prefix, room)
        if converted is not None and renamed in room:
            raise ModelError(
                f"{type(model).__name__}: transformers makes '{renamed}' of '{name}' and others while it loads them, "
                "which quantized layers are not read through"
            )
        found[name] = renamed
    by_name: dict[str, str] = {}
    for name, renamed in found.items():
        if by_name.setdefault(renamed, name) != name and renamed in room:
            raise ModelError(f"{type(model).__name__}: '{by_name[renamed]}' and '{name}' are both its '{renamed}'")
    return found

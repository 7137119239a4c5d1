"""What a config says of layers whose inputs are not quantized at some steps, for this library and for others.

Others read `quantization_config.runtime.diffusion_step_policy`: so many first and last iterations of the denoising loop
have 16-bit activations ("a16") and the weights that there are, the rest is as the checkpoint says ("native"). Its keys
are those that diffusers 0.42 reads (`pipelines/cosmos/mixed_precision.py`), SGLang (`modelopt_fp8_step_precision.py`,
which refuses a missing or unknown one) and, as these say, vLLM-Omni.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from quant.errors import CheckpointError
from quant.fields import is_number
from quant.formats.layer import LayerFormat
from quant.formats.steps import PreciseSteps
from quant.text import shown

KEY, RUNTIME, POLICY = "precise_steps", "runtime", "diffusion_step_policy"
_KEYS = ("targets", "above", "up_to", "first", "last", "of")


def entries(layers: Mapping[str, LayerFormat]) -> dict[str, Any]:
    """Return what a config says of the steps of layers, by their names; empty where none has any.

    Its policy is left out where it would not be so: it knows one number of first and of last steps for all layers whose
    inputs are quantized.
    """
    by_steps: dict[PreciseSteps, list[str]] = {}
    for name, layer in layers.items():
        if layer.steps is not None:
            by_steps.setdefault(layer.steps, []).append(name)
    if not by_steps:
        return {}
    found: dict[str, Any] = {
        KEY: [
            {
                "targets": names,
                "above": steps.above,
                "up_to": steps.up_to,
                "first": steps.first,
                "last": steps.last,
                "of": steps.of,
            }
            for steps, names in by_steps.items()
        ]
    }
    every = {each.steps for each in layers.values() if each.scheme.input_activations is not None}
    if len(every) == 1:
        (steps,) = by_steps
        found[RUNTIME] = {POLICY: _policy(steps)}
    return found


def _policy(steps: PreciseSteps) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "type": "first_last_n",
        "index_space": "denoising_loop_iteration",
        "scope": ["transformer"],
        "default_mode": "native",
        "first_steps": {"count": steps.first, "mode": "a16"},
        "last_steps": {"count": steps.last, "mode": "a16"},
        "overlap": "a16",
        "reasoner": "native",
    }


def read(config: Mapping[str, Any], where: str) -> dict[str, PreciseSteps]:
    """Return the steps of every layer that a config lists.

    Raises:
        CheckpointError: what is there is not what `entries` writes; names the key.
    """
    listed = config.get(KEY, [])
    if not isinstance(listed, list):
        raise CheckpointError(f"{where}: {KEY}: must be a list, got {shown(listed)}")
    found: dict[str, PreciseSteps] = {}
    for i, each in enumerate(listed):
        place = f"{where}: {KEY}[{i}]"
        if not isinstance(each, Mapping) or set(each) != set(_KEYS):
            raise CheckpointError(f"{place}: must be a mapping with the keys {', '.join(_KEYS)}, got {shown(each)}")
        names = each["targets"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise CheckpointError(f"{place}.targets: must be a list of layers, got {shown(names)}")
        steps = _steps(each, place)
        for name in names:
            if found.setdefault(name, steps) != steps:
                raise CheckpointError(f"{place}.targets: {shown(name)} is listed twice")
    return found


def _steps(fields: Mapping[str, Any], place: str) -> PreciseSteps:
    above, up_to, counts = fields["above"], fields["up_to"], [fields[key] for key in ("first", "last", "of")]
    if any(type(count) is not int or count < 0 for count in counts) or not 0 < counts[0] + counts[1] < counts[2]:
        raise CheckpointError(f"{place}: first and last must be whole numbers that leave some of 'of', got {counts}")
    ends: Iterable[tuple[str, Any]] = (("above", above), ("up_to", up_to))
    for key, end in ends:
        if end is not None and not is_number(end):
            raise CheckpointError(f"{place}.{key}: must be a timestep or null, got {shown(end)}")
    if (above is None) + (up_to is None) != counts[:2].count(0):
        raise CheckpointError(f"{place}: must have a timestep for each end that has steps")
    if above is not None and up_to is not None and up_to >= above:
        raise CheckpointError(f"{place}: up_to {shown(up_to)} must be below above {shown(above)}")
    return PreciseSteps(above, up_to, *counts)

"""One function a maker: a candidate becomes a pipeline whose denoiser computes what the candidate would.

Rivals change the layers that this project's recipe of the same level changes, convolutions too. A recipe's groups
before its last are for layers that it gives more bits: rivals leave those as they are, to their advantage.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

import quant
from benchmarks.quality.candidates import LEVELS, Candidate
from benchmarks.quality.conditions import Conditions, denoiser
from quant.calibration.layer_plan import layer_plan, planned
from quant.layers.kinds import quantizable
from quant.pipelines.running import run_rows
from quant.recipe_files import find_recipe

#: What a candidate became, and the layers that it left although the recipe of its level changes them.
Made = tuple[Any, list[str]]


def by_quant(candidate: Candidate, conditions: Conditions, folder: Path) -> Made:
    """A recipe, through a checkpoint in `folder` and diffusers' own loading."""
    quant.calibrate(
        conditions.model,
        candidate.recipe,
        folder,
        inputs=conditions.calibration_inputs,
        samples=len(conditions.calibration),
        full=True,
        force=True,
        progress=False,
    )
    return conditions.pipeline(folder), []


def by_modelopt(candidate: Candidate, conditions: Conditions, folder: Path) -> Made:
    """ModelOpt's fake quantization, or its 2:4 masks, of the same layers and calibration runs."""
    pipe = conditions.pipeline()
    name, model = denoiser(pipe)
    layers, left = layers_for(candidate, model)
    others = [each for each in quantizable(model) if each not in layers]
    samples = candidate.options.get("samples", len(conditions.calibration))
    loop = _calibration_loop(pipe, conditions, samples)
    change = _sparsified if "sparsify" in candidate.options else _quantized
    made, changed = change(model, candidate.options, others, loop)
    setattr(pipe, name, made)
    _check(candidate, layers, changed)
    return pipe, left


_Loop = Callable[[Any], None]


def _quantized(model: nn.Module, options: Mapping[str, Any], others: list[str], loop: _Loop) -> tuple[Any, list[str]]:
    import modelopt.torch.quantization as mtq

    config: Any = copy.deepcopy(getattr(mtq, options["config"]))
    # Which layers stay is decided below: by names, the stock settings leave every `proj_out`, which blocks have, too.
    config["quant_cfg"] = [rule for rule in config["quant_cfg"] if "parent_class" in rule or _is_general(rule)]
    if "input" in options:
        config["quant_cfg"].append({"quantizer_name": "*input_quantizer", "cfg": options["input"]})
    if "alpha" in options:
        config["algorithm"] = {"method": "smoothquant", "alpha": options["alpha"]}
    config["quant_cfg"] += list(_along_channels(config["quant_cfg"]))
    # Before calibration: layers that are switched off later keep what it did to them.
    for name in others:
        config["quant_cfg"].append({"quantizer_name": f"{name}.*", "enable": False})
    made = mtq.quantize(model, config, forward_loop=loop)
    quantizers = {name: getattr(module, "weight_quantizer", None) for name, module in made.named_modules()}
    return made, [name for name, each in quantizers.items() if each is not None and _is_enabled(each)]


def _is_general(rule: Mapping[str, Any]) -> bool:
    """Is it about a kind of quantizer in all layers?"""
    return rule["quantizer_name"] in ("*", "*weight_quantizer", "*input_quantizer", "*output_quantizer")


def _is_enabled(quantizer: Any) -> bool:
    """Of one quantizer, or of several in a row."""
    return any(each.is_enabled for each in quantizer.modules() if hasattr(each, "is_enabled"))


def _along_channels(rules: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rules that have blocks along the last axis, for convolutions: their channels are on axis 1.

    As they stand they would give each three weights of a 3 x 3 kernel a scale of their own.
    """
    for rule in rules:
        given = rule.get("cfg")
        configs = given if isinstance(given, list) else [given or {}]
        if not any(-1 in (each.get("block_sizes") or {}) for each in configs):
            continue
        moved = [
            {**each, "block_sizes": {1 if axis == -1 else axis: size for axis, size in each["block_sizes"].items()}}
            if each.get("block_sizes")
            else dict(each)
            for each in configs
        ]
        for kind in ("nn.Conv1d", "nn.Conv2d", "nn.Conv3d"):
            yield {**rule, "parent_class": kind, "cfg": moved if isinstance(given, list) else moved[0]}


def _sparsified(model: nn.Module, options: Mapping[str, Any], others: list[str], loop: _Loop) -> tuple[Any, list[str]]:
    import modelopt.torch.sparsity as mts

    rules: Any = {kind: {"*": {}, **dict.fromkeys(others)} for kind in ("nn.Linear", "nn.Conv2d")}
    made = mts.sparsify(model, mode=[(options["sparsify"], rules)], config={"forward_loop": loop})
    return made, [name for name, module in made.named_modules() if getattr(module, "_weight_mask", None) is not None]


def by_sdnq(candidate: Candidate, conditions: Conditions, folder: Path) -> Made:
    """SDNQ, which needs no data."""
    from sdnq.quantizer import sdnq_post_load_quant

    pipe = conditions.pipeline()
    part, model = denoiser(pipe)
    layers, left = layers_for(candidate, model)
    # By whole names: without the end ".weight" a name of one part would stand for that part of every name.
    keep = [f"{name}.weight" for name, _ in model.named_modules() if name and name not in layers]
    made = sdnq_post_load_quant(
        model,
        modules_to_not_convert=keep,
        add_skip_keys=False,
        quant_conv=True,
        use_quantized_matmul_conv=candidate.options.get("use_quantized_matmul", False),
        minimum_allowed_numel=0,
        minimum_allowed_channel_size=0,
        **candidate.options,
    )
    setattr(pipe, part, made)
    done = [name for name, module in made.named_modules() if hasattr(module, "sdnq_dequantizer")]
    _check(candidate, layers, done)
    return pipe, left


MAKERS: dict[str, Callable[[Candidate, Conditions, Path], Made]] = {
    "quant": by_quant,
    "ModelOpt": by_modelopt,
    "SDNQ": by_sdnq,
}


def layers_for(candidate: Candidate, model: nn.Module) -> tuple[list[str], list[str]]:
    """Names of the layers that a rival changes, and of those that it has to leave."""
    recipe = find_recipe(LEVELS[candidate.level])
    wanted = [each for each in planned(layer_plan(model, recipe)) if each.taken_by == recipe.groups[-1]]
    able = [each.name for each in wanted if not candidate.kinds or each.kind in candidate.kinds]
    return able, [each.name for each in wanted if each.name not in able]


def _calibration_loop(pipe: Any, conditions: Conditions, samples: int) -> Callable[[Any], None]:
    rows = conditions.calibration[:samples]
    return lambda model: run_rows(pipe, rows, conditions.settings, progress=False)


def _check(candidate: Candidate, wanted: list[str], changed: list[str]) -> None:
    """A comparison over other layers would compare nothing."""
    if sorted(wanted) != sorted(changed):
        missing, more = sorted(set(wanted) - set(changed)), sorted(set(changed) - set(wanted))
        raise RuntimeError(f"{candidate.key}: changed other layers than wanted: missing {missing}, too many {more}")

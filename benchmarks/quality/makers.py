"""One function a maker: a candidate becomes a pipeline whose transformer computes what the candidate would."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

import quant
from benchmarks.quality.candidates import Candidate
from benchmarks.quality.conditions import Conditions
from quant.families.table import family_of
from quant.pipelines.rows import prompt_rows
from quant.pipelines.running import run_rows
from quant.prompts import read_prompts


def by_quant(candidate: Candidate, conditions: Conditions, folder: Path) -> Any:
    """A recipe, through a checkpoint in `folder` and diffusers' own loading."""
    quant.calibrate(
        conditions.model,
        candidate.recipe,
        folder,
        prompts=conditions.calibration,
        samples=conditions.samples,
        full=True,
        force=True,
        progress=False,
    )
    return conditions.pipeline(folder)


def by_modelopt(candidate: Candidate, conditions: Conditions, folder: Path) -> Any:
    """ModelOpt's fake quantization, or its 2:4 masks, of the same layers and calibration runs."""
    pipe = conditions.pipeline()
    layers = block_linears(pipe.transformer, candidate.options.get("only", ""))
    others = [name for name in linears(pipe.transformer) if name not in layers]
    samples = candidate.options.get("samples", conditions.samples)
    loop = _calibration_loop(pipe, conditions, samples)
    change = _sparsified if "sparsify" in candidate.options else _quantized
    pipe.transformer, changed = change(pipe.transformer, candidate.options, others, loop)
    _check(candidate, layers, changed)
    return pipe


_Loop = Callable[[Any], None]


def _quantized(model: nn.Module, options: Mapping[str, Any], others: list[str], loop: _Loop) -> tuple[Any, list[str]]:
    import modelopt.torch.quantization as mtq

    config: Any = copy.deepcopy(getattr(mtq, options["config"]))
    if "input" in options:
        config["quant_cfg"].append({"quantizer_name": "*input_quantizer", "cfg": options["input"]})
    if "alpha" in options:
        config["algorithm"] = {"method": "smoothquant", "alpha": options["alpha"]}
    # Before calibration: layers that are switched off later keep what it did to them.
    for name in [*others, "*patch_embedding"]:
        config["quant_cfg"].append({"quantizer_name": f"{name}.*", "enable": False})
    made = mtq.quantize(model, config, forward_loop=loop)
    quantizers = {name: getattr(module, "weight_quantizer", None) for name, module in made.named_modules()}
    return made, [name for name, each in quantizers.items() if each is not None and each.is_enabled]


def _sparsified(model: nn.Module, options: Mapping[str, Any], others: list[str], loop: _Loop) -> tuple[Any, list[str]]:
    import modelopt.torch.sparsity as mts

    rules: Any = {"nn.Linear": {"*": {}, **dict.fromkeys(others)}}
    made = mts.sparsify(model, mode=[(options["sparsify"], rules)], config={"forward_loop": loop})
    return made, [name for name, module in made.named_modules() if getattr(module, "_weight_mask", None) is not None]


def by_sdnq(candidate: Candidate, conditions: Conditions, folder: Path) -> Any:
    """SDNQ, which needs no data."""
    from sdnq.quantizer import sdnq_post_load_quant

    pipe = conditions.pipeline()
    layers = block_linears(pipe.transformer)
    others = [name for name, module in pipe.transformer.named_modules() if name and name not in layers]
    keep = [name for name in others if not any(layer.startswith(f"{name}.") for layer in layers)]
    pipe.transformer = sdnq_post_load_quant(
        pipe.transformer, modules_to_not_convert=keep, add_skip_keys=False, **candidate.options
    )
    done = [name for name, module in pipe.transformer.named_modules() if hasattr(module, "sdnq_dequantizer")]
    _check(candidate, layers, done)
    return pipe


MAKERS: dict[str, Callable[[Candidate, Conditions, Path], Any]] = {
    "quant": by_quant,
    "ModelOpt": by_modelopt,
    "SDNQ": by_sdnq,
}


def linears(model: nn.Module) -> list[str]:
    """Names of all Linears."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]


def block_linears(model: nn.Module, only: str = "") -> list[str]:
    """Names of the Linears that this project's recipes change: those of the blocks, or of these what `only` finds."""
    family = family_of(model)
    return [name for name in linears(model) if family.block(name) is not None and re.search(only, name)]


def _calibration_loop(pipe: Any, conditions: Conditions, samples: int) -> Callable[[Any], None]:
    rows = prompt_rows(read_prompts(conditions.calibration, samples))
    return lambda model: run_rows(pipe, rows, conditions.settings, progress=False)


def _check(candidate: Candidate, wanted: list[str], changed: list[str]) -> None:
    """A comparison over other layers would compare nothing."""
    if sorted(wanted) != sorted(changed):
        missing, more = sorted(set(wanted) - set(changed)), sorted(set(changed) - set(wanted))
        raise RuntimeError(f"{candidate.key}: changed other layers than wanted: missing {missing}, too many {more}")

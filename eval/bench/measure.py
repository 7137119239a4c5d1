"""Measures a block on this machine's GPU: bf16 against the recipe, unfused and fused, all under torch.compile."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import quant
from quant.errors import QuantError
from quant.eval.bench.modules import DTYPE, Built, build, first_tensor
from quant.eval.bench.prediction import BF16, FUSED, UNFUSED
from quant.eval.bench.profiling import seconds_by_kind, trace
from quant.eval.bench.schemes import decide, for_block_alone
from quant.eval.bench.sizes import Model
from quant.eval.bench.timing import Run, Timed, Timer, event_timer, interleave
from quant.recipe import Recipe

#: Kernels of scaled_dot_product_attention that never hold all scores at once; the fastest of them is used by all.
BACKENDS = {
    "FLASH_ATTENTION": SDPBackend.FLASH_ATTENTION,
    "CUDNN_ATTENTION": SDPBackend.CUDNN_ATTENTION,
    "EFFICIENT_ATTENTION": SDPBackend.EFFICIENT_ATTENTION,
}


class Tools(NamedTuple):
    """What measuring needs of a GPU; tests give others.

    Attributes:
        timer: the seconds of a call.
        compiled: makes a module quick.
        trace: the profiler's trace of a call.
        backends: of attention, to choose from.
        rounds: calls that are timed.
    """

    timer: Timer = event_timer
    compiled: Callable[[nn.Module], nn.Module] = cast("Callable[[nn.Module], nn.Module]", torch.compile)
    trace: Callable[[Run], Mapping[str, Any]] = trace
    backends: Mapping[str, SDPBackend] = BACKENDS
    rounds: int = 15


class Measured(NamedTuple):
    """What was measured.

    Attributes:
        model: whose block, with its tokens.
        recipe: its name.
        batch: samples.
        device: its name.
        backend: the attention kernel that all of them ran.
        times: of each variant, named as in a prediction, or why it was not measured.
        by_kind: seconds in kernels by kind of operation, for each that was measured.
        errors: distance of the output from bf16's, relative to it.
        notes: what the recipe says of other blocks.
    """

    model: Model
    recipe: str
    batch: int
    device: str
    backend: str
    times: Timed
    by_kind: Mapping[str, Mapping[str, float]]
    errors: Mapping[str, float]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        medians = self.times.medians()
        return {
            "what": "measurement",
            "model": self.model._asdict(),
            "recipe": self.recipe,
            "batch": self.batch,
            "device": self.device,
            "attention": self.backend,
            "notes": list(self.notes),
            "measured": {
                name: {
                    "seconds": values,
                    "median": medians[name],
                    "seconds_by_kind": dict(self.by_kind[name]),
                    "relative_error": self.errors.get(name),
                }
                for name, values in self.times.seconds.items()
            },
            "not_measured": self.times.failed,
        }


def measure(
    model: Model, recipe: Recipe, device: torch.device, name: str, *, batch: int = 1, tools: Tools | None = None
) -> Measured:
    """Builds the block with random weights, quantizes it, and times it.

    A recipe that needs ranges gets them from the same random input that is then timed.

    Args:
        model: which block, with the tokens wanted.
        recipe: what is done to it.
        device: where.
        name: of the device, for the record.
        batch: samples.
        tools: None for those of a GPU.

    Raises:
        QuantError: the recipe does not fit, or bf16 itself cannot run, without which nothing can be compared.
    """
    used = tools or Tools()
    decided = decide(model, recipe)
    built = build(model, device, batch=batch)
    backend = fastest_attention(model, device, used, batch)
    with torch.no_grad(), sdpa_kernel(used.backends[backend]):
        blocks, refused = _variants(built, for_block_alone(decided, recipe, built.prefix), device)
        runs = {variant: _run(used.compiled(block), built.arguments) for variant, block in blocks.items()}
        times = interleave(runs, used.timer, rounds=used.rounds)
        if BF16 in times.failed:
            raise QuantError(f"{model.name}: the block does not run in bf16 on {name}: {times.failed[BF16]}")
        kinds = {variant: seconds_by_kind(used.trace(runs[variant])) for variant in times.seconds}
        errors = _errors({variant: runs[variant] for variant in times.seconds})
    times.failed.update(refused)
    return Measured(model, recipe.name, batch, name, backend, times, kinds, errors, decided.notes)


def fastest_attention(model: Model, device: torch.device, tools: Tools, batch: int) -> str:
    """The backend that is fastest on the block's own attention over the video's tokens.

    Raises:
        QuantError: none runs.
    """
    size = (batch, model.heads, model.video_tokens, model.head_dim)
    q, k, v = (torch.randn(size, device=device, dtype=DTYPE) for _ in range(3))

    def run(backend: SDPBackend) -> Run:
        def attend() -> object:
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(q, k, v)

        return attend

    with torch.no_grad():
        found = interleave({name: run(each) for name, each in tools.backends.items()}, tools.timer, rounds=5)
    medians = found.medians()
    if not medians:
        raise QuantError(f"no attention kernel runs {list(size)}: {'; '.join(found.failed.values())}")
    return min(medians, key=lambda name: medians[name])


def _variants(built: Built, recipe: Recipe, device: torch.device) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """The blocks to run by variant, and why others cannot be."""
    network: nn.Module = quant.quantize(
        built.network, recipe, forward_loop=lambda network: built.block(network)(**built.arguments)
    )
    blocks = {BF16: built.block(), UNFUSED: built.block(network)}
    refused = {}
    try:
        blocks[FUSED] = built.block(_fused(network, device))
    except QuantError as error:
        refused[FUSED] = str(error)
    return blocks, refused


def _fused(network: nn.Module, device: torch.device) -> nn.Module:
    """The same weights with the fused block, by way of a checkpoint. Raises ModelError where there is no such block."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "block"
        quant.save(network, path)
        return quant.load(path, fused=True, device=device, check_files=False)


def _run(block: nn.Module, arguments: Mapping[str, Any]) -> Run:
    return lambda: block(**arguments)


def _errors(runs: Mapping[str, Run]) -> dict[str, float]:
    """||y - y_bf16|| / ||y_bf16|| of each but bf16."""
    original = first_tensor(runs[BF16]()).float()
    return {
        name: float((first_tensor(run()).float() - original).norm() / original.norm())
        for name, run in runs.items()
        if name != BF16
    }

"""One matmul: every contestant prepared, checked, and those that are right timed against each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from benchmarks.gpu import (
    correctness,
    expressions,
    libraries,
    ours,
    ours_weights,
    torch_compiled,
    torch_eager,
    torch_int4,
    torch_sparse,
)
from benchmarks.gpu.budget import Budget, Purse
from benchmarks.gpu.contestants import BASELINE, FORMATS, Call, Contestant
from benchmarks.gpu.entries import Entry, Spread, first_line
from benchmarks.gpu.inputs import Inputs
from benchmarks.gpu.timing import Timer, interleave

Key = tuple[str, str, str]


def contestants(inputs: Inputs, capability: tuple[int, int]) -> list[Contestant]:
    """All of them: the baseline first, then ours, then rivals, those that compile last."""
    eager = torch_eager.contestants(inputs)
    return [
        *(each for each in eager if each.name == BASELINE),
        *ours.contestants(inputs, capability),
        *(each for each in eager if each.name != BASELINE),
        *ours_weights.contestants(inputs, capability),
        *torch_sparse.contestants(inputs),
        *torch_int4.contestants(inputs),
        *torch_compiled.contestants(inputs),
        *libraries.contestants(inputs),
    ]


def measure(
    inputs: Inputs,
    found: Sequence[Contestant],
    timer: Timer,
    budget: Budget,
    purse: Purse,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> list[Entry]:
    """One entry for each contestant, in their order.

    Args:
        inputs: of the layer.
        found: the contestants; torch's bf16 ones come first.
        timer: of one call.
        budget: for the timed rounds.
        purse: for what compiles.
        clock: for the purse.
    """
    exact = _Exact(inputs)
    entries: dict[Key, Entry] = {}
    calls: dict[Key, Call] = {}
    for each in found:
        key = (each.name, each.format, each.mode)
        refusal = each.refusal or (each.compiles and purse.refusal(each.compiles))
        if refusal:
            outcome = "refused" if each.refusal else "skipped"
            entries[key] = Entry(*key, outcome, refusal)
            continue
        begin = clock()
        try:
            call = each.prepare()
            entries[key] = exact.entry(key, call())
        except Exception as error:  # a rival may fail in any way; it is listed, and the others go on
            entries[key] = Entry(*key, "failed", first_line(error))
        else:
            if entries[key].reason is None:
                calls[key] = call
        if each.compiles:
            taken = clock() - begin
            purse.spend(each.compiles, taken)
            budget.extend(taken)
    timed = interleave({"|".join(key): call for key, call in calls.items()}, timer, budget.left)
    for key in calls:
        name, off = "|".join(key), entries[key].relative_error
        if name in timed.failed:
            entries[key] = Entry(*key, "failed", timed.failed[name], off)
        else:
            entries[key] = Entry(*key, "timed", None, off, Spread.of(timed.seconds[name]))
    return list(entries.values())


class _Exact:
    """What results are compared with; each made once, and of whole results only those of one weight are kept."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._rows = correctness.sampled_rows(inputs.shape.m)
        self._exact: dict[tuple[str, str, bool], torch.Tensor] = {}
        self._baseline: dict[str, torch.Tensor] = {}
        self._whole: dict[tuple[str, str], torch.Tensor] = {}

    def entry(self, key: Key, out: torch.Tensor) -> Entry:
        """Wrong, or ready to be timed."""
        name, format_name, mode = key
        shape = (self._inputs.shape.m, self._inputs.shape.n)
        if tuple(out.shape) != shape or out.dtype != torch.bfloat16:
            return Entry(*key, "wrong", f"gives {list(out.shape)} of {out.dtype}, not {list(shape)} of bfloat16")
        if name == BASELINE:
            self._baseline[mode] = out
        sampled = correctness.relative_error(out[self._rows], self._sampled(format_name, mode, "per tensor" in name))
        whole = self._of_torch(FORMATS[format_name].weight, mode)
        if whole is None:
            return Entry(*key, "wrong", "torch's bf16 result, to compare with, is missing", sampled)
        everywhere = correctness.difference(out, whole)
        fault = correctness.fault(sampled, everywhere, format_name, mode)
        return Entry(*key, "wrong" if fault else "timed", fault, sampled)

    def _sampled(self, format_name: str, mode: str, one_scale: bool) -> torch.Tensor:
        """Float64 [rows, N]."""
        key = (format_name, mode, one_scale)
        if key not in self._exact:
            self._exact[key] = correctness.exact_of(self._inputs, format_name, mode, self._rows, one_scale=one_scale)
        return self._exact[key]

    def _of_torch(self, weight: str, mode: str) -> torch.Tensor | None:
        """Torch's bf16 result [M, N]: the baseline's own with the dense weight, else made here."""
        if weight == "dense":
            return self._baseline.get(mode)
        if (weight, mode) not in self._whole:
            self._whole = {key: whole for key, whole in self._whole.items() if key[0] == weight}
            x, dense, bias = self._inputs.x, self._inputs.weight_of(weight), self._inputs.bias
            bare = mode == "bare"
            self._whole[weight, mode] = expressions.bf16(
                x, dense, None if bare else bias, "none" if bare else self._inputs.shape.activation
            )
        return self._whole[weight, mode]

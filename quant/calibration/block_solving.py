"""Statistics and solutions of a denoiser from recorded calls, block by block: one pass over the calls in all.

What is in memory at once: the weights of one block, the statistics of its layers' inputs, and what each call has at
that point. Solutions are kept as they are found. A killed run goes on at the block where it was: the blocks before are
run again, for no file can hold a function that is half done, but nothing is gathered or solved there a second time.

A layer is solved with the first stage in which it runs. One that runs in several, as a block does whose weights are
used twice, is found out there, and gets passes of its own over the calls, in which it is solved at the end. So what is
kept of a run that was killed is trusted once the calls have been taken through all blocks, in that run or in the next.

Several processes (`quant.calibration.ranks`) each take their part of the calls through all blocks. After a stage they
put together what they saw, each input at the process that solves it, and go on when all have: solutions lie in a folder
that all of them read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from quant.algorithms.base import Needs
from quant.calibration.blocks import blocks_of
from quant.calibration.kept_solutions import KeptSolutions
from quant.calibration.layer_part import pack_layer
from quant.calibration.layer_plan import LayerPlan
from quant.calibration.passes import InputGroup, input_groups, passes
from quant.calibration.ranks import Ranks, owners
from quant.calibration.recorded import Memory, Recorded, home_of
from quant.calibration.replaying import Replay, Stage
from quant.calibration.solution import Solution
from quant.calibration.solving import Found
from quant.calibration.statistics import Collector, followed, watched
from quant.calibration.streaming import StreamedWeights
from quant.errors import CalibrationError
from quant.layers.clock import Clock
from quant.layers.following import on_clock
from quant.layers.layer_kind import Seen
from quant.layers.replace import replaced
from quant.pipelines.runnable import runnable
from quant.pipelines.timesteps import TimestepWeights
from quant.recipe import Recipe
from quant.recipe_parts import COMPRESSED


def solve_by_block(
    models: Mapping[str, nn.Module],
    plans: Mapping[str, list[LayerPlan]],
    recipe: Recipe,
    recorded: Mapping[str, Recorded],
    kept: KeptSolutions | None = None,
    *,
    progress: bool = False,
    ranks: Ranks | None = None,
) -> dict[str, dict[str, Solution]]:
    """Scales for every quantized layer of every component; as `solve`, from recorded calls.

    Args:
        models: components by name, of diffusers' classes; on the meta device is enough.
        plans: what the recipe does to each component's layers.
        recipe: the recipe, already checked.
        recorded: the calls of each component that has layers which need statistics.
        kept: where solutions are kept; None keeps them in memory.
        progress: a bar over blocks on stderr.
        ranks: the processes that do it together, all with the same arguments; None is one alone.

    Returns:
        component -> layer -> solution.

    Raises:
        CalibrationError: a component without calls, a call that fails, or data that shows no usable range.
    """
    inputs, how = input_groups(plans), recipe.calibration
    runs = {
        name: runnable(model, recorded[name].dtype) if name in recorded else model for name, model in models.items()
    }
    found = Found(runs, kept)
    weights = _timestep_weights(recorded, how.timestep_weights)
    for component, model in runs.items():
        mine = [each for each in inputs if each.members[0][0] == component]
        needed = [each for each in mine if each.needs]
        for each in mine:
            if not each.needs:
                found.solve(each, None)
        settled = kept is not None and kept.is_settled(component)
        if not needed or (settled and all(each in found for each in needed)):
            continue
        if component not in recorded or not recorded[component].calls:
            raise CalibrationError(f"{recipe.name}: no call of '{component}' was recorded; record one that reaches it")
        together = ranks or Ranks()
        _check_parts(component, recorded[component], needed, found, together)
        _Component(component, model, recorded[component], mine, found, recipe, weights, progress, together).solve()
        if kept is not None and together.is_first:
            kept.settle(component)
    return found.by_layer(inputs)


def _check_parts(component: str, recorded: Recorded, needed: Sequence[InputGroup], found: Found, ranks: Ranks) -> None:
    """Raises CalibrationError where a process would have no call, or finds other solutions than the first."""
    if ranks.count > len(recorded.calls):
        raise CalibrationError(
            f"{ranks.count} processes and {len(recorded.calls)} recorded calls of '{component}': start as many at most"
        )
    kept = [each.number for each in needed if each in found]
    ranks.check_equal({f"solutions of {component}": kept}, "--out has to lie in a folder that all of them share")


def _timestep_weights(recorded: Mapping[str, Recorded], weights: Sequence[float]) -> TimestepWeights | None:
    """What each call counts, by its timestep over the largest of all components' calls; None where all count alike."""
    if not weights:
        return None
    for component, each in recorded.items():
        if any(math.isnan(call.timestep) for call in each.calls):
            raise CalibrationError(f"calibration.timestep_weights: '{component}' is not called with a 'timestep'")
    return TimestepWeights(
        weights, max((call.timestep for each in recorded.values() for call in each.calls), default=0.0)
    )


class _Component:
    """One denoiser on its way through its blocks."""

    def __init__(
        self,
        name: str,
        model: nn.Module,
        recorded: Recorded,
        groups: Sequence[InputGroup],
        found: Found,
        recipe: Recipe,
        weights: TimestepWeights | None,
        progress: bool,
        ranks: Ranks,
    ) -> None:
        self._name, self._model, self._ranks = name, model, ranks
        self._recorded = recorded = replace(recorded, calls=ranks.mine(recorded.calls))
        self._holder = nn.ModuleDict({name: model})
        self._groups = {each.name: each for each in groups}
        self._watched = [each.name for each in groups if each.needs]
        self._found, self._how, self._weights = found, recipe.calibration, weights
        self._clock, self._progress = Clock(), progress
        self._blocks = blocks_of(model)
        self._home = home_of(model, self._blocks, recorded, Memory.of(recorded.device))
        #: Of the pass that is made: the stage, the stage in which each input was first seen by any process, what this
        #: one saw now, what of it is gathered, and what was seen in several stages.
        self._stage, self._first = 0, dict[str, int]()
        self._seen, self._now, self._again = set[str](), set[str](), set[str]()

    def solve(self) -> None:
        """Solves every input that is not solved yet."""
        self._pass_by_stage()
        repeated = [self._groups[name] for name in self._watched if name in self._again]
        for part in passes(repeated, self._how.hessian_gb) if repeated else ():
            self._pass_at_once(part)

    def _pass_by_stage(self) -> None:
        collector = self._collector(self._watched)

        def see(name: str, seen: Seen) -> None:
            if not seen.inputs.numel():  # an expert that no token was sent to
                return
            self._seen.add(name)
            if self._first.get(name, self._stage) == self._stage and self._groups[name] not in self._found:
                collector.see(name, seen)
                self._now.add(name)

        with self._running(self._watched, see) as (weights, stages):
            passed: set[str] = set()
            for self._stage, stage in enumerate(stages):
                self._check_stage(stage.block)
                with self._compressed(stage, collector, weights, passed):
                    stage.run()
                self._solve_seen(collector, weights)
                for name in self._again:
                    self._found.drop(self._groups[name])
                weights.free()
            self._check_stage("the end")
        for name in self._watched:
            if name not in self._first and self._groups[name] not in self._found:
                collector.take(name)  # which raises an error that says so

    def _pass_at_once(self, part: Sequence[InputGroup]) -> None:
        """A pass for inputs that are seen in several stages."""
        left = [each for each in part if each not in self._found]
        names = [each.name for each in left]
        collector = self._collector(names)
        with self._running(names, collector.see) as (weights, stages):
            for stage in stages:
                stage.run()
                weights.free()
            self._solve(left, collector, weights, freeing=True)

    @contextmanager
    def _running(
        self, names: Sequence[str], see: Callable[[str, Seen], None]
    ) -> Iterator[tuple[StreamedWeights, Iterator[Stage]]]:
        """The model's weights, and the stages of a replay of all calls while `see` sees inputs of layers."""
        from tqdm import tqdm

        calls, device, home = self._recorded.calls, self._recorded.device, self._home

        def on_call(number: int) -> None:
            self._clock.begin(torch.tensor(calls[number].timestep))

        with (
            torch.no_grad(),
            StreamedWeights(self._model, self._blocks, self._recorded.tensors, device, home) as weights,
            followed(self._holder, self._needs(names), self._weights),
            watched(self._holder, names, see),
            Replay(
                self._model, self._blocks, calls, on_call=on_call, arriving=lambda given: weights.moved(given, home)
            ) as replay,
            tqdm(
                replay,
                total=len(self._blocks) + 1,
                desc=f"calibrating {self._name} on {len(calls)} calls",
                unit="block",
                disable=not self._progress,
            ) as stages,
        ):
            yield weights, iter(stages)

    def _needs(self, names: Sequence[str]) -> dict[str, Needs]:
        return {name: self._groups[name].needs for name in names}

    def _collector(self, names: Sequence[str]) -> Collector:
        return Collector(
            self._holder,
            self._needs(names),
            rows=self._how.rows,
            seed=self._how.seed,
            weights=self._weights,
            ranks=self._ranks,
        )

    def _check_stage(self, block: str | None) -> None:
        self._ranks.check_equal(
            {f"place among the blocks of {self._name}": block}, "its calls are of other kinds: calibrate in one process"
        )

    def _solve_seen(self, collector: Collector, weights: StreamedWeights) -> None:
        """Solves what was seen since the last time."""
        for name in _union(self._ranks.all_of(self._seen)):
            if self._first.setdefault(name, self._stage) != self._stage:
                self._again.add(name)
        gathered = [self._groups[name] for name in _union(self._ranks.all_of(self._now))]
        self._solve(sorted(gathered, key=lambda each: each.number), collector, weights)
        self._now.clear()
        self._seen.clear()

    def _solve(
        self, inputs: Sequence[InputGroup], collector: Collector, weights: StreamedWeights, *, freeing: bool = False
    ) -> None:
        """Solves inputs, each in one process; all have all solutions then. `freeing` drops weights after each."""
        ranks = self._ranks
        if ranks.count == 1:
            for each in inputs:  # what was gathered goes as it is used
                self._load(each, weights)
                self._found.solve(each, collector.take(each.name))
                if freeing:
                    weights.free()
            return
        by = dict(
            zip((each.number for each in inputs), owners([each.cost for each in inputs], ranks.count), strict=True)
        )
        taken = [(each, collector.take_at(by[each.number], each.name)) for each in inputs]
        mine = [(each, seen) for each, seen in taken if seen is not None]
        del taken
        while mine:
            each, seen = mine.pop(0)
            self._load(each, weights)
            self._found.solve(each, seen)
            del seen
            if freeing:
                weights.free()
        ranks.all_of(None)
        for each in inputs:
            if each not in self._found:
                raise CalibrationError(
                    f"rank {ranks.index}: does not find what rank {by[each.number]} solved; --out has to lie in a "
                    "folder that all of them share"
                )

    @staticmethod
    def _load(each: InputGroup, weights: StreamedWeights) -> None:
        for _, layer in each.members:
            weights.load(layer.name)

    @contextmanager
    def _compressed(
        self, stage: Stage, collector: Collector, weights: StreamedWeights, passed: set[str]
    ) -> Iterator[None]:
        """Within it a stage's block is compressed, where the recipe has inputs of what follows taken from that."""
        if self._how.inputs != COMPRESSED or stage.block is None:
            yield
            return
        if stage.block in passed:
            raise CalibrationError(
                f"calibration.inputs: {COMPRESSED}: calls come to '{stage.block}' of {self._name} more than once, so "
                "that it cannot be compressed before they go on; use original"
            )
        passed.add(stage.block)
        within = [each for each in self._groups.values() if each.members[0][1].name.startswith(f"{stage.block}.")]
        if any(each.needs and each not in self._found for each in within):
            stage.rehearse()
            self._solve_seen(collector, weights)
        layers: dict[str, nn.Module] = {}
        for each in within:
            if each not in self._found:  # it was not run
                continue
            for (_, layer), solution in zip(each.members, self._found.of(each), strict=True):
                weights.load(layer.name)
                module = self._model.get_submodule(layer.name)
                weight = layer.layer_kind.weight(module)
                tensors, _ = pack_layer(weight, layer, solution)
                layer_format = solution.layer_format(layer.layer_format)
                layers[layer.name] = layer.layer_kind.filled(module, layer_format, tensors, weight.device)
        with replaced(self._model, layers), on_clock(layers.values(), self._clock):
            yield


def _union(parts: Sequence[set[str]]) -> set[str]:
    return set[str]().union(*parts)

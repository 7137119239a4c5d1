"""Statistics of layers' inputs, gathered in one pass by hooks; the model is not changed.

Of how many inputs at once is the caller's to say: `quant.calibration.probe` has what each takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from zlib import crc32

import torch
from torch import nn

from quant.algorithms.base import Needs, Statistics
from quant.calibration.journal import Journal, State
from quant.calibration.probe import Probe, max_calibrator
from quant.calibration.ranks import Ranks
from quant.layers.kinds import kind_of
from quant.layers.layer_kind import LayerKind, Seen
from quant.pipelines.timesteps import TimestepWeights, following

_SEPARATOR = "|"  # in no layer's name
_PRIME = 1_000_003


def _kind(module: nn.Module) -> LayerKind:
    kind = kind_of(module)
    assert kind is not None
    return kind


def _width(module: nn.Module) -> int:
    """K of a layer's weight."""
    kind = _kind(module)
    return kind.size(tuple(kind.weight(module).shape))[1]


class Collector:
    """Statistics of inputs of a model, each from when it is first seen until it is taken."""

    def __init__(
        self,
        model: nn.Module,
        needs: Mapping[str, Needs],
        *,
        rows: int,
        seed: int,
        weights: TimestepWeights | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        """Gathers nothing yet.

        Args:
            model: whose layers they are.
            needs: layer name -> what to gather; give one layer of those that read the same input.
            rows: size of row samples.
            seed: of row samples. A sample depends on its layer's name, and not on which others are gathered with it.
            weights: what rows of the call that is being made count in Hessians; None counts all alike.
            ranks: the processes that each see a part; None where this one sees everything.

        Raises:
            CalibrationError: ModelOpt is missing.
        """
        max_calibrator()  # which may be missing: before anything is run
        self._model, self._needs = model, needs
        self._ranks = ranks or Ranks()
        # Processes draw samples of their own: the same keys for all would choose the same rows of each.
        self._rows, self._seed, self._weights = rows, seed + _PRIME * self._ranks.index, weights
        self._probes: dict[str, Probe] = {}

    def see(self, name: str, seen: Seen) -> None:
        """Takes an input of a layer into account."""
        self._probe(name)(seen)

    def take(self, name: str) -> Statistics:
        """What was seen of an input since it was last taken.

        Raises:
            CalibrationError: the layer was not run.
        """
        probe = self._probe(name)
        del self._probes[name]
        return probe.result()

    def take_at(self, owner: int, name: str) -> Statistics | None:
        """The same of what all processes saw, for the one that solves it; None for the others. All have to ask.

        Raises:
            CalibrationError: as `take`, or another process has ended.
        """
        probe = self._probe(name)
        del self._probes[name]
        return probe.at(self._ranks, owner, self._rows)

    def drop(self, name: str) -> None:
        """Forgets what was seen of an input."""
        self._probes.pop(name, None)

    def state(self) -> State:
        """Everything seen so far of every input."""
        probes = {name: self._probe(name) for name in self._needs}
        return {f"{name}{_SEPARATOR}{key}": v for name, probe in probes.items() for key, v in probe.state().items()}

    def restore(self, state: State) -> None:
        """Goes on from what `state` returned."""
        for name in self._needs:
            own = f"{name}{_SEPARATOR}"
            mine = {key.removeprefix(own): value for key, value in state.items() if key.startswith(own)}
            self._probe(name).restore(mine)

    def _probe(self, name: str) -> Probe:
        if name not in self._probes:
            width, seed = _width(self._model.get_submodule(name)), self._seed + crc32(name.encode())
            self._probes[name] = Probe(name, self._needs[name], width, self._rows, seed, self._weights)
        return self._probes[name]


@contextmanager
def watched(model: nn.Module, names: Iterable[str], see: Callable[[str, Seen], None]) -> Iterator[None]:
    """While it is open, `see` is called with the name and every input of each of these layers."""
    with ExitStack() as ends:
        for name in names:
            module = model.get_submodule(name)
            ends.callback(_kind(module).watch(module, partial(see, name)))
        yield


def collect(
    model: nn.Module,
    needs: Mapping[str, Needs],
    forward: Callable[[], object],
    *,
    rows: int,
    seed: int,
    journal: Journal | None = None,
    timestep_weights: Sequence[float] = (),
) -> dict[str, Statistics]:
    """Runs `forward` once and returns each named layer's input statistics.

    Args:
        model: its hooks are removed again, also after an error.
        needs: layer name -> what to gather; give one layer of those that read the same input.
        forward: runs the model over the calibration data.
        rows: size of row samples.
        seed: seed of row samples.
        journal: where a killed run left off, and where this one writes; `forward` tells it how far it is.
        timestep_weights: what rows count in Hessians, by equal parts of the schedule. Empty counts all alike. With
            these, or ranges by timestep, `model` is a container of denoisers.

    Raises:
        CalibrationError: a value that is not finite, or a layer that was never run; both name the layer.
    """
    weights = TimestepWeights(timestep_weights) if timestep_weights else None
    wanted = {name: need for name, need in needs.items() if need}
    collector = Collector(model, wanted, rows=rows, seed=seed, weights=weights)
    if journal is not None:
        collector.restore(journal.load(f"{name}{_SEPARATOR}seen" for name in wanted) or {})
        journal.watch(collector.state)
    with torch.no_grad(), followed(model, wanted, weights), watched(model, wanted, collector.see):
        forward()
    return {name: collector.take(name) for name in wanted}


def followed(
    holder: nn.Module, needs: Mapping[str, Needs], weights: TimestepWeights | None
) -> AbstractContextManager[None]:
    """What knows the timesteps of the components in which they count, while it is open.

    Raises:
        CalibrationError: one of them is called with none.
    """
    if weights is not None:
        return following(list(holder.children()), "calibration.timestep_weights", weights.at)
    binned = {name.partition(".")[0] for name, need in needs.items() if need.amax_by_timestep}
    return following([model for name, model in holder.named_children() if name in binned], "bins")

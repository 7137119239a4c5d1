"""Statistics of layers' inputs, gathered in one pass by hooks; the model is not changed.

Ranges come from ModelOpt's calibrators. Memory is bounded: a range is one number or one vector [K] per input, and a
row sample has a fixed size however many steps and prompts are run. A Hessian is [K, K]; of how many inputs at once is
the caller's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any
from zlib import crc32

import torch
from torch import nn

from quant.algorithms.base import Needs, Statistics
from quant.calibration.journal import Journal, State
from quant.calibration.running_sums import ChannelSizes, RowSample, SecondMoment
from quant.errors import CalibrationError
from quant.layers.kinds import kind_of
from quant.layers.layer_kind import LayerKind, Seen
from quant.pipelines.input_error import InputError
from quant.pipelines.timesteps import TimestepWeights

#: Values of a convolution's windows that are looked at in one call of it.
_WINDOWS = 2**24
_SEPARATOR = "|"  # in no layer's name


class _Probe:
    """Collects one input's statistics."""

    def __init__(
        self, name: str, needs: Needs, width: int, rows: int, seed: int, weights: TimestepWeights | None
    ) -> None:
        calibrator = _max_calibrator()
        self.name = name
        self.tensor_range = calibrator(8, None, False) if needs.amax else None
        self.channel_range = calibrator(8, -1, False) if needs.channel_amax else None
        self.sample = RowSample(rows, seed) if needs.rows else None
        self.hessian = SecondMoment() if needs.hessian else None
        self.sizes = ChannelSizes() if needs.channel_mean else None
        self.seen_rows = 0
        self._calls, self._seed, self._width = 0, seed, width
        self._weights = weights
        self._earlier: list[tuple[Any, torch.Tensor]] = []
        self._restored: State | None = None

    def __call__(self, seen: Seen) -> None:
        self._calls += 1
        inputs = seen.inputs.detach()
        if inputs.numel() == 0:  # an expert that no token was sent to
            return
        if not torch.isfinite(inputs).all():
            raise InputError.of(self.name, "NaN" if torch.isnan(inputs).any() else "Inf", f"in its call {self._calls}")
        self._take_earlier(inputs)
        self._restored = None
        for calibrator in (self.tensor_range, self.channel_range):
            if calibrator is not None:
                calibrator.collect(inputs)
        if self.sample is not None or self.hessian is not None:
            rows = inputs if seen.draw is None else self._drawn(seen.draw)
            if self.sample is not None:
                self.sample.add(rows)
            if self.hessian is not None:
                self.hessian.add(rows, 1.0 if self._weights is None else self._weights.now)
        if self.sizes is not None:
            self.sizes.add(inputs)
        self.seen_rows += inputs.shape[0]

    def _drawn(self, draw: Callable[[int, torch.Generator], torch.Tensor]) -> torch.Tensor:
        """Some windows of a convolution's input: all of them would be many times as large as it.

        Which ones depends on what was seen before, and so not on whether a run was killed on the way.
        """
        generator = torch.Generator("cpu").manual_seed(self._seed + self.seen_rows)
        return draw(max(1, _WINDOWS // self._width), generator).detach()

    def _take_earlier(self, like: torch.Tensor) -> None:
        """Takes the ranges of a killed run into account: a maximum is as good as all the values it is that of."""
        for calibrator, amax in self._earlier:
            calibrator.collect(amax.to(like))
        self._earlier.clear()

    def state(self) -> State:
        """Everything seen so far."""
        if self._restored is not None:  # no call since
            return self._restored
        if not self.seen_rows:
            return {"seen": torch.tensor(0)}
        found = self.result()
        ranges = {"amax": found.amax, "channel_amax": found.channel_amax}
        state = {name: value for name, value in ranges.items() if value is not None}
        state["seen"] = torch.tensor(self.seen_rows, device="cpu")
        if self.hessian is not None and self.hessian.total is not None:
            state["second_moment"] = self.hessian.total
            state["second_moment_count"] = torch.tensor(self.hessian.count, dtype=torch.float64, device="cpu")
        if self.sizes is not None and self.sizes.total is not None:
            state["sizes"] = self.sizes.total
        sampled = {} if self.sample is None else self.sample.state()
        return {**state, **{f"sample.{name}": value for name, value in sampled.items()}}

    def restore(self, state: State) -> None:
        """Goes on from what `state` returned."""
        if not state or not int(state["seen"]):
            return
        self._restored, self.seen_rows = state, int(state["seen"])
        for calibrator, name in ((self.tensor_range, "amax"), (self.channel_range, "channel_amax")):
            if calibrator is not None:
                self._earlier.append((calibrator, state[name].reshape(1, -1)))
        if self.hessian is not None:
            self.hessian.total, self.hessian.count = state["second_moment"], float(state["second_moment_count"])
        if self.sizes is not None:
            self.sizes.total = state["sizes"]
        if self.sample is not None:
            prefix = "sample."
            self.sample.restore({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})

    def result(self) -> Statistics:
        if not self.seen_rows:
            raise CalibrationError(
                f"layer '{self.name}' was never run, so its range is unknown; give prompts that reach it or 'ignore' it"
            )

        if self._earlier:  # no call since: all prompts had been run before
            self._take_earlier(self._earlier[0][1])

        def amax(calibrator: Any) -> torch.Tensor | None:
            return None if calibrator is None else calibrator.compute_amax().detach().float().cpu().reshape(-1)

        rows = None if self.sample is None else self.sample.rows
        total = None if self.hessian is None else self.hessian.total
        # A weight of 0 for every row that was seen leaves nothing; then no input is larger than another.
        hessian = None if self.hessian is None or total is None else total.cpu() / (self.hessian.count or 1.0)
        sizes = None if self.sizes is None else self.sizes.total
        mean = None if sizes is None else (sizes.cpu() / self.seen_rows).float()
        return Statistics(amax(self.tensor_range), amax(self.channel_range), mean, rows, hessian, self.seen_rows)


def _max_calibrator() -> Any:
    """ModelOpt's calibrator, imported here so that `import quant` and loading do not need it."""
    try:
        from modelopt.torch.quantization.calib import MaxCalibrator
    except ImportError:
        raise CalibrationError("gathering ranges needs ModelOpt: pip install nvidia-modelopt") from None
    return MaxCalibrator


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
    ) -> None:
        """Gathers nothing yet.

        Args:
            model: whose layers they are.
            needs: layer name -> what to gather; give one layer of those that read the same input.
            rows: size of row samples.
            seed: of row samples. A sample depends on its layer's name, and not on which others are gathered with it.
            weights: what rows of the call that is being made count in Hessians; None counts all alike.

        Raises:
            CalibrationError: ModelOpt is missing.
        """
        _max_calibrator()  # which may be missing: before anything is run
        self._model, self._needs = model, needs
        self._rows, self._seed, self._weights = rows, seed, weights
        self._probes: dict[str, _Probe] = {}

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

    def _probe(self, name: str) -> _Probe:
        if name not in self._probes:
            width, seed = _width(self._model.get_submodule(name)), self._seed + crc32(name.encode())
            self._probes[name] = _Probe(name, self._needs[name], width, self._rows, seed, self._weights)
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
        timestep_weights: what rows count in Hessians, by equal parts of the schedule; `model` is then a container of
            denoisers. Empty counts all alike.

    Raises:
        CalibrationError: a value that is not finite, or a layer that was never run; both name the layer.
    """
    weights = TimestepWeights(timestep_weights) if timestep_weights else None
    wanted = {name: need for name, need in needs.items() if need}
    collector = Collector(model, wanted, rows=rows, seed=seed, weights=weights)
    if journal is not None:
        collector.restore(journal.load(f"{name}{_SEPARATOR}seen" for name in wanted) or {})
        journal.watch(collector.state)
    followed = nullcontext() if weights is None else weights.watching(list(model.children()))
    with torch.no_grad(), followed, watched(model, wanted, collector.see):
        forward()
    return {name: collector.take(name) for name in wanted}

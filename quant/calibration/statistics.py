"""Statistics of layers' inputs, gathered in one pass by forward hooks; the model is not changed.

Ranges come from ModelOpt's calibrators. Memory is bounded: a range is one number or one vector [K] per input, and a
row sample has a fixed size however many steps and prompts are run. A Hessian is [K, K]; of how many inputs at once is
the caller's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from zlib import crc32

import torch
from torch import nn

from quant.algorithms.base import Needs, Statistics
from quant.calibration.journal import Journal, State
from quant.calibration.running_sums import ChannelSizes, RowSample, SecondMoment
from quant.errors import CalibrationError
from quant.layers.kinds import kind_of
from quant.pipelines.input_error import InputError
from quant.pipelines.timesteps import TimestepWeights


class _Probe:
    """Collects one input's statistics."""

    def __init__(self, name: str, needs: Needs, rows: int, seed: int, weights: TimestepWeights | None) -> None:
        calibrator = _max_calibrator()
        self.name = name
        self.tensor_range = calibrator(8, None, False) if needs.amax else None
        self.channel_range = calibrator(8, -1, False) if needs.channel_amax else None
        self.sample = RowSample(rows, seed) if needs.rows else None
        self.hessian = SecondMoment() if needs.hessian else None
        self.sizes = ChannelSizes() if needs.channel_mean else None
        self.seen_rows = 0
        self._calls = 0
        self._weights = weights
        self._earlier: list[tuple[Any, torch.Tensor]] = []
        self._restored: State | None = None

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kind = kind_of(module)
        assert kind is not None
        self._calls += 1
        rows = kind.rows(args, kwargs).detach()
        if rows.numel() == 0:  # an expert that no token was sent to
            return
        if not torch.isfinite(rows).all():
            raise InputError.of(self.name, "NaN" if torch.isnan(rows).any() else "Inf", f"in its call {self._calls}")
        self._take_earlier(rows)
        self._restored = None
        for calibrator in (self.tensor_range, self.channel_range):
            if calibrator is not None:
                calibrator.collect(rows)
        if self.sample is not None:
            self.sample.add(rows)
        if self.hessian is not None:
            self.hessian.add(rows, 1.0 if self._weights is None else self._weights.now)
        if self.sizes is not None:
            self.sizes.add(rows)
        self.seen_rows += rows.shape[0]

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


@contextmanager
def _hooked(model: nn.Module, probes: Mapping[str, _Probe]) -> Iterator[None]:
    handles = [
        model.get_submodule(name).register_forward_pre_hook(probe, with_kwargs=True) for name, probe in probes.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


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
    # A sample depends on its layer's name, and not on which other layers are gathered with it.
    weights = TimestepWeights(timestep_weights) if timestep_weights else None
    probes = {
        name: _Probe(name, need, rows, seed + crc32(name.encode()), weights) for name, need in needs.items() if need
    }
    if journal is not None:
        _resume(probes, journal)
    followed = nullcontext() if weights is None else weights.watching(list(model.children()))
    with torch.no_grad(), followed, _hooked(model, probes):
        forward()
    return {name: probe.result() for name, probe in probes.items()}


_SEPARATOR = "|"  # in no layer's name


def _resume(probes: Mapping[str, _Probe], journal: Journal) -> None:
    state = journal.load(f"{name}{_SEPARATOR}seen" for name in probes) or {}
    for name, probe in probes.items():
        own = f"{name}{_SEPARATOR}"
        probe.restore({key.removeprefix(own): value for key, value in state.items() if key.startswith(own)})
    journal.watch(
        lambda: {f"{name}{_SEPARATOR}{key}": v for name, probe in probes.items() for key, v in probe.state().items()}
    )

"""Statistics of one layer's input: ranges by ModelOpt's calibrators, and what else an algorithm needs of it.

Memory is bounded: a range is one number or one vector [K] per input, and a row sample has a fixed size however many
steps and prompts are run. A Hessian is [K, K].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from quant.algorithms.base import Needs, Statistics
from quant.calibration.journal import State
from quant.calibration.merging import merged
from quant.calibration.ranks import Ranks
from quant.calibration.running_sums import ChannelSizes, RowSample, SecondMoment, TimestepRanges
from quant.errors import CalibrationError
from quant.layers.layer_kind import Seen
from quant.pipelines.input_error import InputError
from quant.pipelines.timesteps import TimestepWeights, current_timestep

#: Values of a convolution's windows that are looked at in one call of it.
_WINDOWS = 2**24
#: Rows of one call that a Hessian is summed over. A video's 75,600 tokens at once would take four times as long for the
#: Hessians of a block of Wan 14B as for the block; 64 calls with so many rows are 38 for each of its 13,824 channels.
_HESSIAN_ROWS = 8192


class Probe:
    """Collects one input's statistics; called with every input of the layer."""

    def __init__(
        self, name: str, needs: Needs, width: int, rows: int, seed: int, weights: TimestepWeights | None
    ) -> None:
        calibrator = max_calibrator()
        self.name = name
        self.tensor_range = calibrator(8, None, False) if needs.amax else None
        self.channel_range = calibrator(8, -1, False) if needs.channel_amax else None
        self.sample = RowSample(rows, seed) if needs.rows else None
        self.hessian = SecondMoment() if needs.hessian else None
        self.sizes = ChannelSizes() if needs.channel_mean else None
        self.by_timestep = TimestepRanges() if needs.amax_by_timestep else None
        self.seen_rows = 0
        self._calls, self._seed, self._width, self._needs = 0, seed, width, needs
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
                some = self._some(rows) if seen.draw is None else rows
                self.hessian.add(some, 1.0 if self._weights is None else self._weights.now)
        if self.sizes is not None:
            self.sizes.add(inputs)
        if self.by_timestep is not None:
            self.by_timestep.add(inputs, _known(current_timestep(), self.name))
        self.seen_rows += inputs.shape[0]

    def _drawn(self, draw: Callable[[int, torch.Generator], torch.Tensor]) -> torch.Tensor:
        """Some windows of a convolution's input: all of them would be many times as large as it.

        Which ones depends on what was seen before, and so not on whether a run was killed on the way.
        """
        generator = torch.Generator("cpu").manual_seed(self._seed + self.seen_rows)
        return draw(max(1, _WINDOWS // self._width), generator).detach()

    def _some(self, rows: torch.Tensor) -> torch.Tensor:
        """At most so many rows of a call as a Hessian takes, drawn without regard to where they are in the video.

        Which ones depends on what was seen before, as with `_drawn`.
        """
        if len(rows) <= _HESSIAN_ROWS:
            return rows
        generator = torch.Generator("cpu").manual_seed(self._seed + self.seen_rows)
        chosen = torch.randperm(len(rows), generator=generator, device="cpu")[:_HESSIAN_ROWS].sort().values
        return rows[chosen.to(rows.device)]

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
        parts = {"sample": self.sample, "by_timestep": self.by_timestep}
        for prefix, part in parts.items():
            state |= {} if part is None else {f"{prefix}.{name}": value for name, value in part.state().items()}
        return state

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
            self.sample.restore(_part(state, "sample."))
        if self.by_timestep is not None:
            self.by_timestep.restore(_part(state, "by_timestep."))

    def at(self, ranks: Ranks, owner: int, rows: int) -> Statistics | None:
        """What all processes saw together, for the one that solves it; None for the others. All have to ask."""
        if ranks.count == 1:
            return self.result()
        state = self.state()
        total = state.pop("second_moment", None)
        if self.hessian is not None:
            empty = torch.zeros(self._width, self._width, dtype=torch.float64, device="cpu")
            total = ranks.sum_at(owner, empty if total is None else total)
        states = ranks.at(owner, state)
        if not states:
            return None
        together = Probe(self.name, self._needs, self._width, rows, self._seed, self._weights)
        together.restore(merged(states, rows) | ({} if total is None else {"second_moment": total}))
        return together.result()

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
        largest, by_channel = amax(self.tensor_range), amax(self.channel_range)
        by_timestep = None if self.by_timestep is None else self.by_timestep.result()
        return Statistics(largest, by_channel, mean, rows, hessian, self.seen_rows, by_timestep)


def _part(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _known(timestep: float | None, layer: str) -> float:
    """Raises CalibrationError where a layer is run outside of its denoiser's calls, so that its timestep is unknown."""
    if timestep is None:
        raise CalibrationError(f"layer '{layer}' was run before its denoiser was called with a timestep")
    return timestep


def max_calibrator() -> Any:
    """ModelOpt's calibrator, imported here so that `import quant` and loading do not need it."""
    try:
        from modelopt.torch.quantization.calib import MaxCalibrator
    except ImportError:
        raise CalibrationError("gathering ranges needs ModelOpt: pip install nvidia-modelopt") from None
    return MaxCalibrator

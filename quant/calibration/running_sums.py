"""What is gathered of a stream of rows in bounded memory: a sample, a second moment, sizes of channels, ranges."""

from __future__ import annotations

import torch

from quant.algorithms.base import AmaxByTimestep
from quant.calibration.journal import State
from quant.kernels.numerics import exponent_of


class RowSample:
    """A uniform sample without replacement from a stream of rows: each row draws a key, the largest keys stay."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        # On the CPU and in float32 whatever torch's defaults are: they are the program's around this, not ours.
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._keys = torch.empty(0, dtype=torch.float32, device="cpu")
        self._rows: torch.Tensor | None = None

    def add(self, rows: torch.Tensor) -> None:
        """Takes [R, K] into account. Costs a copy of at most `size` rows."""
        keys = torch.rand(rows.shape[0], generator=self._generator, dtype=torch.float32, device="cpu")
        if rows.shape[0] > self.size:
            keys, chosen = keys.topk(self.size)
            rows = rows[chosen.to(rows.device)]
        fresh = rows.detach().float().cpu()
        pool = fresh if self._rows is None else torch.cat([self._rows, fresh])
        keys = torch.cat([self._keys, keys])
        self._keys, chosen = keys.topk(min(self.size, len(keys)))
        self._rows = pool[chosen]

    def state(self) -> State:
        """Everything that `restore` needs to go on as if nothing had happened."""
        rows = {} if self._rows is None else {"rows": self._rows}
        return {"keys": self._keys, "generator": self._generator.get_state(), **rows}

    def restore(self, state: State) -> None:
        self._keys, self._rows = state["keys"], state.get("rows")
        self._generator.set_state(state["generator"])

    @property
    def rows(self) -> torch.Tensor | None:
        return self._rows


class SecondMoment:
    """The sum of x x^T over a stream of rows, [K, K] in float64 on the rows' device: a long run adds up many.

    The products of one call are float32, of rows in units of a power of two next to the largest value: so inputs of any
    size have squares, and no bit of the others' changes.
    """

    def __init__(self) -> None:
        self.total: torch.Tensor | None = None
        self.count = 0.0

    def add(self, rows: torch.Tensor, weight: float = 1.0) -> None:
        """Takes [R, K] into account, each row `weight` times."""
        values = rows.float()
        exponent = exponent_of(values)
        values = torch.ldexp(values, -exponent)
        part = torch.ldexp((values.T @ values).double(), 2 * exponent) * weight
        self.total = part if self.total is None else self.total.to(part.device) + part
        self.count += weight * len(rows)


class ChannelSizes:
    """The sum of |x_j| over a stream of rows, [K] in float64 on the rows' device."""

    def __init__(self) -> None:
        self.total: torch.Tensor | None = None

    def add(self, rows: torch.Tensor) -> None:
        """Takes [R, K] into account."""
        part = rows.abs().sum(dim=0, dtype=torch.float64)
        self.total = part if self.total is None else self.total.to(part.device) + part


class TimestepRanges:
    """The largest |x_ij| of a stream of rows at each timestep that they come with.

    A new timestep beyond the first `MOST` counts to the nearest of those: samplers take fewer, but for a schedule
    each for many sizes of videos.
    """

    MOST = 1024

    def __init__(self) -> None:
        self._amax: dict[float, torch.Tensor] = {}
        self._rows: dict[float, int] = {}

    def add(self, rows: torch.Tensor, timestep: float) -> None:
        """Takes [R, K] into account."""
        if timestep not in self._amax and len(self._amax) >= self.MOST:
            timestep = min(self._amax, key=lambda known: (abs(known - timestep), known))
        amax = rows.detach().abs().amax().float()
        known = self._amax.get(timestep)
        self._amax[timestep] = amax if known is None else torch.maximum(known.to(amax.device), amax)
        self._rows[timestep] = self._rows.get(timestep, 0) + len(rows)

    def result(self) -> AmaxByTimestep:
        """What was seen, by rising timestep, on the CPU."""
        order = sorted(self._amax)
        amax = [self._amax[timestep].cpu() for timestep in order]
        return AmaxByTimestep(
            torch.tensor(order, dtype=torch.float64, device="cpu"),
            torch.stack(amax) if amax else torch.empty(0, dtype=torch.float32, device="cpu"),
            torch.tensor([self._rows[timestep] for timestep in order], dtype=torch.int64, device="cpu"),
        )

    def state(self) -> State:
        """Everything that `restore` needs."""
        found = self.result()
        return {"timesteps": found.timesteps, "amax": found.amax, "rows": found.rows}

    def restore(self, state: State) -> None:
        order = state["timesteps"].tolist()
        self._amax = dict(zip(order, state["amax"].unbind(), strict=True))
        self._rows = dict(zip(order, state["rows"].tolist(), strict=True))

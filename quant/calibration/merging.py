"""Statistics of one input that several processes saw parts of, as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from quant.calibration.journal import State

#: What is added up, and what the largest is taken of.
_SUMS, _LARGEST = ("seen", "second_moment_count", "sizes"), ("amax", "channel_amax")


def merged(states: Sequence[State], rows: int) -> State:
    """One state of a probe of all processes' states, in the order of the processes; without second moments.

    `rows` is the size of a row sample: the largest keys of all stay.

    Raises:
        ValueError: none of them saw anything.
    """
    states = [state for state in states if int(state["seen"])]
    if not states:
        raise ValueError("nothing was seen")
    found = dict(states[0])
    for name in found:
        if name in _SUMS:
            found[name] = torch.stack([state[name].cpu() for state in states]).sum(dim=0)
        elif name in _LARGEST:
            found[name] = torch.stack([state[name].cpu() for state in states]).amax(dim=0)
    if "sample.rows" in found:
        keys = torch.cat([state["sample.keys"] for state in states])
        found["sample.keys"], chosen = keys.topk(min(len(keys), rows))
        found["sample.rows"] = torch.cat([state["sample.rows"] for state in states])[chosen]
    if "by_timestep.timesteps" in found:
        amax, counts = dict[float, torch.Tensor](), dict[float, torch.Tensor]()
        for state in states:
            parts = (state[f"by_timestep.{part}"] for part in ("timesteps", "amax", "rows"))
            for timestep, largest, count in zip(*parts, strict=True):
                at = float(timestep)
                amax[at] = torch.maximum(amax[at], largest) if at in amax else largest
                counts[at] = counts[at] + count if at in counts else count
        order = sorted(amax)
        found["by_timestep.timesteps"] = torch.tensor(order, dtype=torch.float64, device="cpu")
        found["by_timestep.amax"] = torch.stack([amax[at] for at in order])
        found["by_timestep.rows"] = torch.stack([counts[at] for at in order])
    return found

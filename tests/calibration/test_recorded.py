from __future__ import annotations

from pathlib import Path

import torch

from quant.calibration.blocks import blocks_of
from quant.calibration.calls import Calls, Place
from quant.calibration.recorded import Memory, Recorded, denoiser_calls, home_of
from quant.pipelines.runnable import runnable
from quant.pipelines.weights import of_model
from tests.tiny_calls import tiny_calls
from tests.tiny_models import ModelMaker

WAN, CPU = "WanTransformer3DModel", torch.device("cpu")


def test_calls_are_at_home_where_they_fit(make_model: ModelMaker) -> None:
    model, calls = make_model(WAN, device="cpu"), tiny_calls(WAN)
    recorded = Recorded(calls, of_model(model), torch.float32, torch.device("cpu", 0))
    blocks = blocks_of(model)

    def home(taken: int, free: int) -> torch.device:
        allocated = iter((1000, 1000 + taken))
        memory = Memory(lambda: next(allocated), lambda: free)
        return home_of(runnable(model, torch.float32), blocks, recorded, memory)

    assert home(10, 60) == recorded.device  # three calls of 10 take half of 60
    assert home(10, 59) == CPU != recorded.device


def test_calls_are_named_by_where_they_were_made() -> None:
    places = (Place("transformer", 2, 4, 0, 900.0), Place("transformer", 2, 4, 1, 900.0))
    found = denoiser_calls(Calls(Path("none"), {}, "key", {"transformer": places}), "transformer")
    assert [call.name for call in found] == ["call 1 of input 3 at step 5", "call 2 of input 3 at step 5"]
    assert [call.timestep for call in found] == [900.0, 900.0]

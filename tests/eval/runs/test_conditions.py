from __future__ import annotations

from pathlib import Path

import pytest
import torch

from quant.errors import QuantError
from quant.eval.inputs.models import find_models
from quant.eval.runs.conditions import conditions_of, key_of
from tests.eval.runs.conftest import tiny


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda", "device 'cuda' is not here: torch sees 0 CUDA GPUs"),
        ("cuda:1", "device 'cuda:1' is not here"),
        ("gpu", "device 'gpu' is none that torch knows: say cpu, cuda or cuda:1"),
        ("meta", "device 'meta' holds no numbers: say cpu, cuda or cuda:1"),
    ],
)
def test_a_device_that_is_not_here_is_said_to_be_none(
    models: Path, monkeypatch: pytest.MonkeyPatch, device: str, message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    config = tiny(models, device=device)
    with pytest.raises(QuantError, match=message):
        conditions_of(config, find_models(config)[0])


def test_the_key_follows_what_videos_depend_on(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(models)
    cpu = conditions_of(config, find_models(config)[0])
    assert (cpu["device"], cpu["gpu"], cpu["dtype"]) == ("cpu", None, "float32")
    assert cpu["settings"]["num_inference_steps"] == 2  # the model's own
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    first, second = (conditions_of(tiny(models, device=name), find_models(config)[0]) for name in ("cuda", "cuda:1"))
    assert (first["gpu"], first["dtype"]) == ("NVIDIA H200", "bfloat16")
    assert key_of(first) == key_of(second) != key_of(cpu)
    assert key_of({**cpu, "model": "elsewhere"}) == key_of(cpu)
    for name, other in (("gpu", "NVIDIA A100"), ("dtype", "bfloat16"), ("settings", {}), ("fingerprint", "0")):
        assert key_of({**cpu, name: other}) != key_of(cpu), name

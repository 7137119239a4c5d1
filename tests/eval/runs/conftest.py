"""A tiny original and candidate, and runs of them."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import quant
from quant.eval.inputs.config import EvaluationConfig
from quant.eval.inputs.parsing import from_dict
from tests.tiny_pipeline import save_pipeline


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a whole pipeline "model", a whole candidate "fp8", and "part", its transformer alone."""
    folder = tmp_path_factory.mktemp("models")
    save_pipeline(folder / "model")
    quant.calibrate(folder / "model", "fp8-dynamic", folder / "fp8", full=True)
    quant.calibrate(folder / "model", "fp8-dynamic", folder / "part")
    return folder


def tiny(models: Path, **changes: Any) -> EvaluationConfig:
    """Three prompts, one candidate, no networks, no timing."""
    body = {
        "model": str(models / "model"),
        "candidates": {"fp8": str(models / "fp8")},
        "prompts": ["a red fox", "a blue bird", "snow"],
        "metrics": {"lpips": [], "fvd": []},
        "speed": False,
        "device": "cpu",
    }
    return from_dict({**body, **changes}, source="test", base=models)


def free_port() -> int:
    """A port that nobody listens at, below those that Linux gives to whoever asks for any."""
    for port in range(20000 + os.getpid() % 10000, 32768):
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")

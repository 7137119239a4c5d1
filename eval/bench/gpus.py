"""What GPUs can do, from gpus.json: peaks of their data sheets, and what published kernels reach of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

FORMAT_VERSION = 1
FILE = Path(__file__).parent / "gpus.json"

#: The rate that is in bytes; all others are in operations.
MEMORY = "memory"


class Rate(NamedTuple):
    """How fast something goes, in operations or bytes a second.

    Attributes:
        peak: the data sheet's.
        achieved: what the model reckons with.
        source: where `achieved` is from, in words.
    """

    peak: float
    achieved: float
    source: str


class Gpu(NamedTuple):
    """One GPU.

    Attributes:
        name: as on the command line.
        title: for people.
        devices: names that CUDA gives it.
        arch: its architecture, as `quant kernels explain` takes it.
        datasheet: where the peaks are from.
        rates: by "matmul " and what is multiplied, see `operations.numbers_of`, "attention bf16" and "memory"; what it
            cannot do is absent.
    """

    name: str
    title: str
    devices: tuple[str, ...]
    arch: str
    datasheet: str
    rates: Mapping[str, Rate]


@cache
def gpus() -> dict[str, Gpu]:
    """The GPUs by name."""
    return parse(json.loads(FILE.read_text(encoding="utf-8")))


def of_device(device: str) -> Gpu | None:
    """The GPU that CUDA calls by this name; None for one that is not in the file."""
    return next((gpu for gpu in gpus().values() if device in gpu.devices), None)


def parse(body: Mapping[str, Any]) -> dict[str, Gpu]:
    """The GPUs of the file's content.

    Raises:
        ValueError: a file of another version.
    """
    if body["format_version"] != FORMAT_VERSION:
        raise ValueError(f"{FILE.name}: format_version {body['format_version']} cannot be read, only {FORMAT_VERSION}")

    def entry(gpu: str, rate: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = body["gpus"][gpu]["rates"][rate]
        return found

    def achieved(gpu: str, rate: str) -> float:
        own = entry(gpu, rate)
        if "like" in own:
            return float(own["peak"] * achieved(*own["like"]) / entry(*own["like"])["peak"])
        if "times" in own:
            factor, other = own["times"]
            return float(factor * achieved(gpu, other))
        return float(own["achieved"])

    found = {}
    for name, given in body["gpus"].items():
        rates = {}
        for rate in given["rates"]:
            own, unit = entry(name, rate), 1e9 if rate == MEMORY else 1e12
            rates[rate] = Rate(own["peak"] * unit, achieved(name, rate) * unit, own["source"])
        found[name] = Gpu(name, given["title"], tuple(given["devices"]), given["arch"], given["datasheet"], rates)
    return found

"""Golden vectors of PTX wrappers: what a real GPU answered to the probes, in `ptx/{probe}-{architecture}.npz`.

`python -m tests.golden.vectors` writes the list of those that are missing into ptx/README.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from quant.kernels.runtime import sources
from quant.kernels.runtime.architectures import ARCHITECTURES, architecture
from tests.emulator import probes
from tests.emulator.probes import PROBES, Probe

FOLDER = Path(__file__).parent / "ptx"
README = FOLDER / "README.md"
#: Hopper runs `mma.sync` on e4m3 as FP16 on another unit; no kernel launches it there.
ONLY_ON: Mapping[str, tuple[str, ...]] = {"probe_mma_e4m3": ("sm_89",), "probe_mma_sp_e4m3": ("sm_89",)}
_LIST = re.compile(r"(<!-- missing -->\n).*?(<!-- end -->)", re.DOTALL)


def architectures_of(probe: Probe) -> tuple[str, ...]:
    """Those whose golden vectors a probe has or should have."""
    oldest = architecture(probe.arch).macro
    known = ONLY_ON.get(probe.name, tuple(ARCHITECTURES))
    return tuple(name for name, each in ARCHITECTURES.items() if each.macro >= oldest and name in known)


def path(name: str, arch: str) -> Path:
    """The file of a probe on an architecture, whether it is there or not."""
    return FOLDER / f"{name}-{arch}.npz"


def write(file: Path, outputs: Iterable[torch.Tensor]) -> None:
    """The bits of a probe's outputs, as bytes: NumPy has not all dtypes."""
    file.parent.mkdir(exist_ok=True)
    arrays = {f"output_{i}": x.contiguous().view(torch.uint8).numpy() for i, x in enumerate(outputs)}
    np.savez_compressed(file, allow_pickle=False, **arrays)


def read(file: Path, probe: Probe) -> tuple[torch.Tensor, ...]:
    """What `write` was given.

    Raises:
        ValueError: the probe has other outputs now; a changed probe needs new vectors.
    """
    with np.load(file) as arrays:
        found = [torch.from_numpy(arrays[f"output_{i}"]) for i in range(len(arrays.files))]
    wanted = [(*shape[:-1], shape[-1] * dtype.itemsize) for shape, dtype in probe.outputs]
    if [tuple(x.shape) for x in found] != wanted:
        raise ValueError(f"{file.name}: holds other outputs than {probe.name} has; remove it and run on a GPU again")
    return tuple(x.view(dtype) for x, (_, dtype) in zip(found, probe.outputs, strict=True))


def same_bits(x: torch.Tensor, y: torch.Tensor) -> bool:
    """Whether shape, dtype and every bit are the same."""
    return x.dtype == y.dtype and x.shape == y.shape and x.view(torch.uint8).equal(y.view(torch.uint8))


def same_values(x: torch.Tensor, y: torch.Tensor) -> bool:
    """As `same_bits`, but any NaN equals any other: no arithmetic depends on the bits in one."""
    if not x.is_floating_point() or x.itemsize == 1 or x.dtype != y.dtype or x.shape != y.shape:
        return same_bits(x, y)
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[x.itemsize]
    return bool(((x.view(integers) == y.view(integers)) | (x.isnan() & y.isnan())).all())


def with_probe_sources(put: Callable[[Any, str, Any], object]) -> None:
    """Adds the probes to the sources that the launcher compiles.

    Args:
        put: sets an attribute of a module and takes it back later, as pytest's `monkeypatch.setattr` does.
    """
    texts = {**sources.shipped(), **probes.sources()}
    put(sources, "shipped", lambda: texts)


def missing() -> list[str]:
    """Probe and architectures without golden vectors, in a line each."""
    lines = []
    for probe in PROBES:
        absent = [arch for arch in architectures_of(probe) if not path(probe.name, arch).is_file()]
        if absent:
            lines.append(f"- `{probe.name}`: {', '.join(absent)}")
    return lines


def rendered(text: str) -> str:
    """`text` of the README with the list of what is missing made again."""
    lines = "\n".join(missing()) or "Nothing is missing."
    return _LIST.sub(lambda found: f"{found[1]}{lines}\n{found[2]}", text)


def write_readme() -> None:
    """Puts the list into the README."""
    README.write_text(rendered(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write_readme()

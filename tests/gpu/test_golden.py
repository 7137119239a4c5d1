"""Every PTX wrapper gives on this GPU what it gave when its golden vectors were made, bit for bit.

Where an architecture has none yet they are written now, to be committed; the emulator is compared with the same files.
"""

from __future__ import annotations

import pytest
import torch

from quant.kernels.runtime import cupy_launch
from tests.emulator.probes import PROBES, Probe
from tests.golden import vectors

#: Each may write the list of what there is.
pytestmark = pytest.mark.xdist_group("golden")


@pytest.fixture(autouse=True)
def probe_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the launcher compile probes, whose sources are not shipped."""
    vectors.with_probe_sources(monkeypatch.setattr)


def on_gpu(probe: Probe, device: torch.device) -> tuple[torch.Tensor, ...]:
    """The outputs of a probe on `device`, copied to the CPU."""
    inputs = [x.to(device) for x in probe.inputs()]
    outputs = probe.empty_outputs(str(device))
    cupy_launch.run(probe.launch(inputs, outputs), device)
    torch.cuda.synchronize(device)
    return tuple(x.cpu() for x in outputs)


def _probes() -> list[Probe]:
    """Those whose instruction is this GPU's own, see vectors.ONLY_ON; without a GPU all, which conftest then fails."""
    if not torch.cuda.is_available():
        return list(PROBES)
    arch = cupy_launch.device_architecture(torch.cuda.current_device()).name
    return [probe for probe in PROBES if arch in vectors.architectures_of(probe)]


@pytest.mark.parametrize("probe", _probes(), ids=lambda probe: probe.name)
def test_a_probe_gives_its_golden_vectors(probe: Probe, device: torch.device) -> None:
    arch = cupy_launch.device_architecture(cupy_launch.device_index(device)).name
    found = on_gpu(probe, device)
    again = on_gpu(probe, device)
    assert all(vectors.same_bits(x, y) for x, y in zip(found, again, strict=True)), "two runs differ"
    path = vectors.path(probe.name, arch)
    if not path.is_file():
        vectors.write(path, found)
        vectors.write_readme()
        print(f"\n{path.name} did not exist: written from this GPU; commit it")
    for number, (now, golden) in enumerate(zip(found, vectors.read(path, probe), strict=True)):
        assert vectors.same_bits(now, golden), f"output {number} differs from {path.name}"

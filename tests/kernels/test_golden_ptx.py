"""The emulator gives what real GPUs gave, wherever that is known, and nothing else is claimed to be known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from quant.kernels.runtime import sources
from quant.kernels.runtime.architectures import ARCHITECTURES
from tests.emulator.emulator import compile_kernel
from tests.emulator.probes import PROBES, Probe
from tests.emulator.probes import sources as probe_sources
from tests.golden import vectors

_BY_NAME = {probe.name: probe for probe in PROBES}
#: Every file there is: probe and architecture.
_FILES = sorted(tuple(file.stem.rsplit("-", 1)) for file in vectors.FOLDER.glob("*.npz"))


def emulated(probe: Probe, arch: str) -> tuple[torch.Tensor, ...]:
    """The outputs of a probe on the emulator."""
    inputs, outputs = probe.inputs(), probe.empty_outputs()
    buffers = [*((x, False) for x in inputs), *((x, True) for x in outputs)]
    compile_kernel(probe.build, arch, sources=probe_sources()).run(probe.launch(inputs, outputs), buffers)
    return outputs


def disagreements() -> list[str]:
    """Outputs of the emulator that differ from what a GPU gave."""
    found = []
    for name, arch in _FILES:
        golden = vectors.read(vectors.path(name, arch), _BY_NAME[name])
        for number, (x, y) in enumerate(zip(emulated(_BY_NAME[name], arch), golden, strict=True)):
            if not vectors.same_values(x, y):
                found.append(f"{name} on {arch}, output {number}")
    return found


def test_the_emulator_agrees_with_every_file() -> None:
    assert disagreements() == []


def test_every_file_is_a_probes_on_an_architecture_it_runs_on() -> None:
    for name, arch in _FILES:
        assert name in _BY_NAME
        assert arch in vectors.architectures_of(_BY_NAME[name])


def test_the_readme_lists_exactly_what_is_missing() -> None:
    text = vectors.README.read_text(encoding="utf-8")
    assert vectors.rendered(text) == text, "run python -m tests.golden.vectors"
    wanted = sum(len(vectors.architectures_of(probe)) for probe in PROBES)
    listed = [line.count("sm_") for line in text.splitlines() if line.startswith("- `probe_")]
    assert sum(listed) + len(_FILES) == wanted


def test_which_architectures_a_probe_is_for() -> None:
    assert vectors.architectures_of(_BY_NAME["probe_mma_s8"]) == tuple(ARCHITECTURES)
    assert vectors.architectures_of(_BY_NAME["probe_e4m3"]) == ("sm_89", "sm_90a")
    assert vectors.architectures_of(_BY_NAME["probe_mma_e4m3"]) == ("sm_89",)


def test_files_read_back_and_a_difference_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way that a file of a GPU will go, on a folder of its own, with the emulator in the GPU's place."""
    monkeypatch.setattr(vectors, "FOLDER", tmp_path / "ptx")
    probe = _BY_NAME["probe_mma_s8"]
    outputs = emulated(probe, "sm_80")
    file = vectors.path(probe.name, "sm_80")
    vectors.write(file, outputs)
    monkeypatch.setitem(globals(), "_FILES", [(probe.name, "sm_80")])
    assert disagreements() == []
    assert f"- `{probe.name}`: sm_86, sm_89, sm_90a" in vectors.missing()
    outputs[0][3, 5, 1] += 1
    vectors.write(file, outputs)
    assert disagreements() == ["probe_mma_s8 on sm_80, output 0"]
    with pytest.raises(ValueError, match="holds other outputs than probe_e4m3 has"):
        vectors.read(file, _BY_NAME["probe_e4m3"])


def test_a_nan_equals_a_nan_only_as_a_value() -> None:
    one, other = (torch.tensor([bits], dtype=torch.int32).view(torch.float32) for bits in (0x7FC00000, 0x7FFFFFFF))
    assert not vectors.same_bits(one, other)
    assert vectors.same_values(one, other)
    assert not vectors.same_values(one, torch.zeros(1))
    assert not vectors.same_values(torch.zeros(1), -torch.zeros(1))


def test_the_launcher_finds_the_sources_of_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors.with_probe_sources(monkeypatch.setattr)
    for probe in PROBES:
        assert list(sources.needed(f"{probe.name}.cu"))[:2] == [f"{probe.name}.cu", "ptx.cuh"]

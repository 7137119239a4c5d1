"""No main loop and no epilogue becomes longer unseen: few builds are counted here, all by `benchmarks.sass --check`."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from benchmarks.sass import results
from benchmarks.sass.results import longer, read, written
from quant.api.cost import CountedCosts
from quant.kernels.cost.cases import ENDINGS, Size, case
from quant.kernels.cost.counting import costs
from quant.kernels.matmuls.table import matmuls

WAN = Size(32_760, 5120, 5120)
#: One of each skeleton, whose builds compile in a second each.
FEW = (
    ("sm90_fp8_gemm", "sm_90a"),
    ("sm90_w4a8_gemm", "sm_90a"),
    ("sm80_int8_gemm", "sm_80"),
    ("sm80_w4a16_gemm", "sm_80"),
)


def test_a_loop_or_an_epilogue_that_became_longer_fails() -> None:
    counted = costs([case(matmuls()[kernel], arch, WAN, ENDINGS[0]) for kernel, arch in FEW])
    after = json.loads(written(CountedCosts(tuple(counted)).to_dict()))
    before = read()
    assert len(after["builds"]) == len(FEW)
    assert longer(before, after) == [], (
        f"counted by NVRTC {after['nvrtc']}, before by {before['nvrtc']}; if it is meant to be so: "
        "python -m benchmarks.sass && python -m benchmarks.readme"
    )


def test_what_becomes_longer_is_named_with_both_figures() -> None:
    before = read()
    after = copy.deepcopy(before)
    build = after["builds"][0]
    name = f"{build['kernel']} {build['arch']} {build['title']} {build['ending']}"
    build["epilogue_clocks"] *= 1.04
    build["loop_instructions"] *= 1.06
    (line,) = longer(before, after)
    assert line.startswith(f"{name}: ")
    assert line.endswith("(+6%)")
    assert f"were {before['builds'][0]['loop_instructions']:,} " in line
    assert longer(after, before) == []  # shorter is no fault
    build["ending"] = "another"
    (line,) = longer(before, after)
    assert "run python -m benchmarks.sass" in line


def test_a_file_of_another_version_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sass.json"
    path.write_text(json.dumps({**read(), "format_version": 2}), encoding="utf-8")
    monkeypatch.setattr(results, "RESULTS", path)
    with pytest.raises(ValueError, match="format_version 2"):
        read()


def test_every_kernel_is_counted_where_it_runs_first() -> None:
    counted = {(build["kernel"], build["arch"]) for build in read()["builds"]}
    assert {kernel for kernel, _ in counted} == set(matmuls())
    for build in read()["builds"]:
        assert build["loop_instructions"] > 0
        assert build["epilogue_instructions"] > 0
        assert all(0 < share < 1 for *_, share in build["sizes"])

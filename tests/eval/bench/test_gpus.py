"""GPUs as data: what is borrowed, what is absent, and that every figure says where it is from."""

from __future__ import annotations

import copy
import json

import pytest

from quant.eval.bench.gpus import FILE, gpus, of_device, parse
from quant.eval.bench.operations import numbers_of
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES

LAYER_FORMATS = (
    *(LayerFormat(scheme) for scheme in SCHEMES.values() if scheme.weights is not None),
    *(LayerFormat(SCHEMES[name], sparse=True) for name in ("UNQUANTIZED", "W8A8", "FP8")),
)


def test_every_figure_has_a_source_and_none_is_above_its_peak() -> None:
    for gpu in gpus().values():
        assert gpu.datasheet
        for name, rate in gpu.rates.items():
            assert rate.source, (gpu.name, name)
            assert 0 < rate.achieved <= rate.peak, (gpu.name, name)


def test_every_entry_is_published_or_borrowed_in_one_way() -> None:
    for name, entry in json.loads(FILE.read_text())["gpus"].items():
        for rate, given in entry["rates"].items():
            assert len({"achieved", "times", "like"} & given.keys()) == 1, (name, rate)


def test_units() -> None:
    h100 = gpus()["h100-sxm"]
    assert h100.rates["matmul bf16"].achieved == pytest.approx(795e12)
    assert h100.rates["matmul bf16"].peak == pytest.approx(989.4e12)
    assert h100.rates["memory"].achieved == pytest.approx(3.35e12)


def test_what_is_borrowed_is_a_share_of_the_own_peak() -> None:
    found = gpus()
    for rate in ("matmul bf16", "attention bf16"):
        lender, borrower = found["a100"].rates[rate], found["rtx4090"].rates[rate]
        assert borrower.achieved / borrower.peak == pytest.approx(lender.achieved / lender.peak)
        assert borrower.peak != lender.peak


def test_a_published_speedup_is_over_the_gpus_own_rate() -> None:
    rates = gpus()["a100"].rates
    assert rates["matmul int4 x int8"].achieved == pytest.approx(1.56 * rates["matmul bf16"].achieved)
    assert rates["matmul int4 x int8"].peak == rates["matmul int8"].peak
    borrowed = gpus()["rtx4090"].rates["matmul int4 x int8"]
    assert borrowed.achieved / borrowed.peak == pytest.approx(1.56 * 302 / 624)


def test_peaks_of_what_is_sparse_or_unpacked() -> None:
    """Data sheets double a rate for 2:4 weights; an unpacked weight is multiplied as what it becomes."""
    for gpu in gpus().values():
        for name, rate in gpu.rates.items():
            if name.startswith("matmul sparse "):
                assert rate.peak == pytest.approx(2 * gpu.rates[name.replace("sparse ", "")].peak, rel=1e-3), (
                    gpu.name,
                    name,
                )
            if " x " in name:
                assert rate.peak == gpu.rates[f"matmul {name.split()[-1]}"].peak, (gpu.name, name)


def test_twice_the_rate_is_nowhere_reached_by_leaving_out_zeros() -> None:
    for gpu in gpus().values():
        for name in ("bf16", "fp8", "int8"):
            if f"matmul {name}" in gpu.rates:
                ratio = gpu.rates[f"matmul sparse {name}"].achieved / gpu.rates[f"matmul {name}"].achieved
                assert 1.1 < ratio < 2.05, (gpu.name, name)


def test_borrowing_what_is_borrowed() -> None:
    body = json.loads(FILE.read_text())
    changed = copy.deepcopy(body)
    changed["gpus"]["h100-sxm"]["rates"]["matmul fp8"]["achieved"] /= 2
    before, after = parse(body), parse(changed)
    for gpu, rate in (
        ("h100-sxm", "matmul int8"),
        ("h200", "matmul int8"),
        ("h200", "matmul fp8"),
        ("h100-sxm", "matmul sparse fp8"),
        ("h200", "matmul sparse int8"),
    ):
        assert after[gpu].rates[rate].achieved == pytest.approx(before[gpu].rates[rate].achieved / 2)
    assert after["a100"] == before["a100"]


def test_an_a100_multiplies_no_fp8_and_nothing_else_is_missing() -> None:
    every = {numbers_of(layer_format) for layer_format in (None, *LAYER_FORMATS)}
    for name, gpu in gpus().items():
        missing = {numbers for numbers in every if f"matmul {numbers}" not in gpu.rates}
        assert missing == ({"fp8", "sparse fp8", "int4 x fp8"} if name == "a100" else set())


def test_a_device_by_the_name_that_cuda_gives_it() -> None:
    assert of_device("NVIDIA H100 80GB HBM3") == gpus()["h100-sxm"]
    assert of_device("NVIDIA H100 PCIe") is None


def test_a_file_of_another_version() -> None:
    with pytest.raises(ValueError, match="format_version 0 cannot be read, only 1"):
        parse({"format_version": 0, "gpus": {}})

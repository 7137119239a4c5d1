"""GPUs as data: what is borrowed, what is absent, and that every figure says where it is from."""

from __future__ import annotations

import copy
import json

import pytest

from quant.eval.speed.gpus import FILE, gpus, of_device, parse


def test_every_figure_has_a_source_and_none_is_above_its_peak() -> None:
    for gpu in gpus().values():
        assert gpu.datasheet
        for name, rate in gpu.rates.items():
            assert rate.source, (gpu.name, name)
            assert 0 < rate.achieved <= rate.peak, (gpu.name, name)


def test_every_entry_is_published_or_borrowed_and_not_both() -> None:
    for name, entry in json.loads(FILE.read_text())["gpus"].items():
        for rate, given in entry["rates"].items():
            assert ("achieved" in given) != ("like" in given), (name, rate)


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


def test_borrowing_what_is_borrowed() -> None:
    body = json.loads(FILE.read_text())
    changed = copy.deepcopy(body)
    changed["gpus"]["h100-sxm"]["rates"]["matmul fp8"]["achieved"] /= 2
    before, after = parse(body), parse(changed)
    for gpu, rate in (("h100-sxm", "matmul int8"), ("h200", "matmul int8"), ("h200", "matmul fp8")):
        assert after[gpu].rates[rate].achieved == pytest.approx(before[gpu].rates[rate].achieved / 2)
    assert after["a100"] == before["a100"]


def test_an_a100_multiplies_no_fp8() -> None:
    assert {name for name, gpu in gpus().items() if "matmul fp8" not in gpu.rates} == {"a100"}


def test_a_device_by_the_name_that_cuda_gives_it() -> None:
    assert of_device("NVIDIA H100 80GB HBM3") == gpus()["h100-sxm"]
    assert of_device("NVIDIA H100 PCIe") is None


def test_a_file_of_another_version() -> None:
    with pytest.raises(ValueError, match="format_version 0 cannot be read, only 1"):
        parse({"format_version": 0, "gpus": {}})

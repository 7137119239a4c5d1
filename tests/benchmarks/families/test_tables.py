"""Tables of docs/families.md, of results written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.families import tables

KEPT = [{"reason": "it is odd", "layers": 3, "share": 0.4}]
RESULTS: dict[str, Any] = {
    "tiny": {
        "A": {
            "cls": "AModel",
            "pipelines": ["APipeline"],
            "recipes": {"w8a8": {"error": 0.0012}, "fp8-dynamic": {"reason": "general/fp8-dynamic: too small"}},
        }
    },
    "real": {
        "A 1B": {
            "cls": "AModel",
            "family": "generic",
            "parameters": 10**9,
            "recipes": {
                "w8a8": {"layers": 4, "inputs": 2, "quantized": 0.6, "sparse": 0, "bytes": 0.7, "kept": KEPT},
                "w4a16-gptq": {"layers": 4, "inputs": 2, "quantized": 0.6, "sparse": 0, "bytes": 0.55, "kept": KEPT},
                "sparse24-fp8": {"reason": "no feed-forward"},
            },
        }
    },
}


@pytest.fixture(autouse=True)
def results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "read", lambda: RESULTS)


def test_sizes_and_what_is_kept() -> None:
    assert "| A 1B | 1.0B | 4 / 2 | 60.0% | - | 70.0% | - | 55.0% |" in tables.sizes()
    assert "40.0% in 3: it is odd" in tables.kept()
    assert "| A 1B | no | no | - | - |" in tables.sparse()


def test_errors_have_columns_of_what_was_measured() -> None:
    table = tables.errors_8_bits()
    assert "| model | fp8-dynamic | w8a8 |" in table
    assert "| A | no | 0.0012 |" in table


def test_what_does_not_work_has_its_reason() -> None:
    table = tables.refused()
    assert "| fp8-dynamic | tiny | all 1 | too small |" in table
    assert "| sparse24-fp8 | real | all 1 | no feed-forward |" in table


def test_weak_families_say_why() -> None:
    (line,) = tables.weak().splitlines()
    assert "55.0% of its bytes, as it keeps 40.0% of the parameters for one reason (it is odd)" in line
    assert "sparse24-fp8 is refused (no feed-forward)" in line

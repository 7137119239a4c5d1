"""The comparison of recipes: what it lists, what it keeps, and what its tables say. Its figures here are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.quality import expected, makers, table
from benchmarks.quality.candidates import CANDIDATES, LEVELS, Candidate
from benchmarks.quality.conditions import Conditions
from benchmarks.quality.results import fresh, is_current, read, update
from quant.recipe_files import expected_quality, find_recipe, shipped_recipes

BY_KEY = {each.key: each for each in CANDIDATES}


def entry(candidate: Candidate, *psnr: float | None, **more: Any) -> dict[str, Any]:
    judged = {"shape": [True, False], "colour": [True, True], "direction": [False, False]}
    body = {"psnr": list(psnr), "judged": judged, "making_seconds": 60.0, "making_peak_bytes": 500_000_000}
    body |= {"options": dict(candidate.options), "versions": {"torch": "0.0"}, **more}
    if candidate.maker == "quant":
        body |= {"recipe_sha256": candidate.recipe.sha256, "stored_bytes": 300, "bf16_bytes": 1000}
    return body


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    ours, rival = BY_KEY["quant: w4a16-gptq"], BY_KEY["ModelOpt: INT4_AWQ"]
    measured = {
        "original": {"judged": {"shape": [True, True], "colour": [True, True], "direction": [True, False]}},
        ours.key: entry(ours, 35.0, 33.0),
        rival.key: entry(rival, 31.0, None),
        BY_KEY["quant: w8a8"].key: entry(BY_KEY["quant: w8a8"], 60.0, 50.0),
    }
    conditions = {"model": "made/up", "prompts": ["a", "b"], "calibration_prompts": ["c"], "settings": {}}
    conditions["settings"] = {"num_inference_steps": 7}
    body = {"conditions": conditions, "conditions_sha256": "0", "measured": measured}
    for module in (table, expected):
        monkeypatch.setattr(module, "read", lambda: body)
    return body


def test_every_shipped_recipe_for_every_model_is_compared() -> None:
    names = {name.partition("/")[2] for name in shipped_recipes() if name.startswith("general/")}
    assert {each.name for each in CANDIDATES if each.is_recipe} == names
    assert len(BY_KEY) == len(CANDIDATES)
    assert {each.level for each in CANDIDATES} == set(LEVELS)


def test_the_tables_say_what_was_measured(made_up: dict[str, Any]) -> None:
    text = table.quality()
    assert "| **`w4a16-gptq`** | 34.0 | 33.0 | 50% | 100% | 0% | 30% | 60 s | 500 MB |" in text
    # An identical clip is counted and left out of the mean.
    assert "| ModelOpt INT4_AWQ | 31.0 | 31.0 | 50% | 100% | 0% |  | 60 s | 500 MB |" in text
    assert text.index("w4a16-gptq") < text.index("INT4_AWQ")
    assert "2 clips of `made/up`" in text and "direction 50%" in text and "7 steps each" in text
    assert "Not measured, or not as they are today: quant: fp8-dynamic" in text
    assert "quant: w4a16-gptq" not in text.rpartition("Not measured")[2]


def test_a_missed_goal_says_by_how_much(made_up: dict[str, Any]) -> None:
    assert "| `w4a16-gptq` | 34.0 | 36.0 | missed by 2.0 dB | 50%, missed | 31.0 (ModelOpt INT4_AWQ) |" in table.goals()
    assert "| `w8a8` | 55.0 | 53.0 | met | 50%, missed | - |" in table.goals()


def test_a_goal_beside_another_moves_with_it(made_up: dict[str, Any]) -> None:
    candidate = BY_KEY["quant: sparse24-fp8"]
    assert table.goal_of(candidate, made_up["measured"]) is None
    made_up["measured"]["quant: sparse24"] = entry(BY_KEY["quant: sparse24"], 30.0)
    assert table.goal_of(candidate, made_up["measured"]) == 29.5
    assert "sparse24-fp8" not in table.goals()
    made_up["measured"][candidate.key] = entry(candidate, 29.6)
    assert "| `sparse24-fp8` | 29.6 | 29.5 | met |" in table.goals()


def test_what_recipes_shows_is_of_the_recipe_as_it_is(made_up: dict[str, Any]) -> None:
    made_up["measured"]["quant: w8a8"]["recipe_sha256"] = "another"
    (found,) = json.loads(expected.expected()).values()
    assert found == {"name": "general/w4a16-gptq", "share_of_bf16": 0.3, "psnr_mean": 34.0, "psnr_worst": 33.0}


def test_the_shipped_figures_are_those_of_the_results_file() -> None:
    assert expected.EXPECTED.read_text(encoding="utf-8") == expected.expected(), "run python -m benchmarks.readme"
    for each in CANDIDATES:
        if each.is_recipe and is_current(read(), each):
            shown = expected_quality(each.recipe)
            assert shown is not None
            assert shown.psnr_mean == pytest.approx(table.psnr_of(read()["measured"][each.key]).mean, abs=0.01)
    assert expected_quality(find_recipe("w8a8").__class__.from_yaml(_OTHER)) is None


_OTHER = "version: 1\ngroups: [{targets: ['re:made up'], scheme: W8A8}]"


def test_results_are_kept_until_conditions_recipe_or_options_change(tmp_path: Path) -> None:
    path = tmp_path / "quality.json"
    two, one = Conditions.of_example(2), Conditions.of_example(1)
    ours, rival = BY_KEY["quant: w8a8"], BY_KEY["SDNQ: int8"]
    update(path, two, ours.key, entry(ours, 50.0))
    update(path, two, rival.key, entry(rival, 40.0))
    assert fresh(read(path), ours, two) and fresh(read(path), rival, two)
    assert not fresh(read(path), ours, one) and not fresh(read(path), BY_KEY["quant: w4a8"], two)
    update(path, two, ours.key, {**entry(ours, 50.0), "recipe_sha256": "another"})
    update(path, two, rival.key, {**entry(rival, 40.0), "options": {}})
    assert not fresh(read(path), ours, two) and not fresh(read(path), rival, two)
    update(path, one, rival.key, entry(rival, 1.0))
    assert list(read(path)["measured"]) == [rival.key]


def test_a_rival_that_changed_other_layers_is_no_rival() -> None:
    candidate = BY_KEY["SDNQ: int8"]
    makers._check(candidate, ["a", "b"], ["b", "a"])
    with pytest.raises(RuntimeError, match=r"SDNQ: int8: changed other layers.*missing \['a'\], too many \['c'\]"):
        makers._check(candidate, ["a", "b"], ["b", "c"])


@pytest.mark.parametrize(
    ("key", "error"),
    [
        ("ModelOpt: INT8_WEIGHT_ONLY", (1e-3, 1e-2)),
        ("ModelOpt: INT4_BLOCKWISE_WEIGHT_ONLY", (5e-2, 0.2)),
        ("ModelOpt: sparse_magnitude, every layer", (0.2, 0.6)),
    ],
)
def test_modelopt_changes_the_weights_it_is_told_to(key: str, error: tuple[float, float]) -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"inside": nn.Linear(128, 128, bias=False), "outside": nn.Linear(128, 128, bias=False)})
    x = torch.eye(128)

    def loop(given: Any) -> None:
        for layer in given.values():
            layer(x)

    before = {name: layer(x) for name, layer in model.items()}
    candidate = BY_KEY[key]
    change = makers._sparsified if "sparsify" in candidate.options else makers._quantized
    made, changed = change(model, candidate.options, ["outside"], loop)
    assert changed == ["inside"]
    assert torch.equal(made["outside"](x), before["outside"])
    off = float((made["inside"](x) - before["inside"]).norm() / before["inside"].norm())
    assert error[0] < off < error[1]

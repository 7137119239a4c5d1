"""The comparison of recipes: what it lists, what it keeps, and what its tables say. Its figures here are made up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet3DConditionModel
from torch import nn

from benchmarks.quality import expected, makers, table
from benchmarks.quality.candidates import CANDIDATES, LEVELS, Candidate
from benchmarks.quality.conditions import Conditions
from benchmarks.quality.results import fresh, is_current, read, update
from benchmarks.quality.subjects import SUBJECTS, Subject, subject
from benchmarks.quality.verdicts import clips, verdicts
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
        monkeypatch.setattr(module, "read", lambda example: body)
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
    assert "2 clips, made by `made/up`" in text and "direction 50% [1%, 99%]" in text and "7 steps each" in text
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
        if each.is_recipe and is_current(read("shapes"), each):
            shown = expected_quality(each.recipe)
            assert shown is not None
            assert shown.psnr_mean == pytest.approx(table.psnr_of(read("shapes")["measured"][each.key]).mean, abs=0.01)
    assert expected_quality(find_recipe("w8a8").__class__.from_yaml(_OTHER)) is None


_OTHER = "version: 1\ngroups: [{targets: ['re:made up'], scheme: W8A8}]"


def test_results_are_kept_until_conditions_recipe_or_options_change(tmp_path: Path) -> None:
    path = tmp_path / "quality.json"
    two, one = (Conditions.of(subject("shapes"), clips) for clips in (2, 1))
    ours, rival = BY_KEY["quant: w8a8"], BY_KEY["SDNQ: int8"]
    update(path, two, ours.key, entry(ours, 50.0))
    update(path, two, rival.key, entry(rival, 40.0))
    body = read("shapes", path)
    assert fresh(body, ours, two) and fresh(body, rival, two)
    assert not fresh(body, ours, one) and not fresh(body, BY_KEY["quant: w4a8"], two)
    update(path, two, ours.key, {**entry(ours, 50.0), "recipe_sha256": "another"})
    update(path, two, rival.key, {**entry(rival, 40.0), "options": {}})
    body = read("shapes", path)
    assert not fresh(body, ours, two) and not fresh(body, rival, two)
    update(path, replace(two, subject=Subject("another", 1, 1)), rival.key, entry(rival, 2.0))
    update(path, one, rival.key, entry(rival, 1.0))
    assert list(read("shapes", path)["measured"]) == list(read("another", path)["measured"]) == [rival.key]
    assert read("another", path)["measured"][rival.key]["psnr"] == [2.0] and read("none", path) == {}


def test_steps_are_measured_on_the_example_that_they_are_written_for() -> None:
    steps = {each.key for each in CANDIDATES if each.is_step}
    assert steps and not any(BY_KEY[key].is_recipe for key in steps)
    for each in SUBJECTS:
        measured = {candidate.key for candidate in each.candidates}
        assert measured & steps == (steps if each.example == "shapes" else set())
        assert {candidate.maker for candidate in each.candidates} == {"quant", "ModelOpt", "SDNQ"}


def test_the_best_of_each_maker_stand_beside_each_other(made_up: dict[str, Any]) -> None:
    text = table.rivals(SUBJECTS[0])
    assert "| INT4 weights | 34.0 (w4a16-gptq) | 31.0 (INT4_AWQ) | - | +4.0, not enough samples |" in text
    assert "INT8" not in text  # no rival was measured
    rival = BY_KEY["SDNQ: int4 g128"]
    made_up["measured"][rival.key] = entry(rival, 36.5, 36.5, layers_left=3)
    assert "| 31.0 (INT4_AWQ) | 36.5 (int4 g128) | -2.5 [-15.2, 10.2], not enough samples |" in table.rivals(
        SUBJECTS[0]
    )
    assert "| SDNQ int4 g128, 3 layers left | 36.5 |" in table.quality()


def _measured(made_up: dict[str, Any], **psnr: list[float]) -> None:
    """Puts in place of what was made up entries of so many clips, each of a prompt of its own."""
    keys = {"gptq": "quant: w4a16-gptq", "nearest": "quant: w4a16", "awq": "ModelOpt: INT4_AWQ", "svd": _SVD}
    count = len(next(iter(psnr.values())))
    made_up["conditions"]["prompts"] = [f"prompt {number}" for number in range(count)]
    original = made_up["measured"]["original"]
    made_up["measured"] = {"original": original} | {
        keys[name]: entry(BY_KEY[keys[name]], *values) for name, values in psnr.items()
    }


_SVD = "SDNQ: uint4 g128 + SVD rank 32"


def test_every_recipe_is_held_against_every_rival_of_its_level_clip_by_clip(made_up: dict[str, Any]) -> None:
    awq = [20.0 + clip for clip in range(16)]  # as far apart as clips are, and never far from what is best
    ahead, around = [each + 1 + clip % 2 for clip, each in enumerate(awq)], [each + (-1) ** int(each) for each in awq]
    _measured(made_up, gptq=ahead, nearest=around, awq=awq, svd=[each + 0.001 * each for each in ahead])
    text = table.against(SUBJECTS[0])
    assert "| INT4 weights, against | `w4a16` | `w4a16-gptq` |" in text
    # The rival of the higher mean first.
    assert text.index("SVD rank 32") < text.index("INT4_AWQ")
    assert "| ModelOpt INT4_AWQ | +0.0 [-0.6, 0.6], tie | +1.5 [1.2, 1.8], better |" in text
    assert "-0.0 [-0.0, -0.0], worse |" in text
    assert "16 clips, 4 comparisons. Better and worse: by a sign test" in text
    assert table.against(SUBJECTS[1]) == text  # of what it lists, all is there
    assert "+0.0" not in table.rivals(SUBJECTS[0])


def test_verdicts_are_corrected_for_all_comparisons_of_the_table(made_up: dict[str, Any]) -> None:
    awq = [30.0] * 10
    _measured(made_up, gptq=[31.0] * 9 + [22.0], awq=awq)
    (alone,) = verdicts(CANDIDATES, made_up)
    # Nine of ten: 0.021 by the sign test, twice that for two tests.
    assert alone.found.probability == pytest.approx(2 * 2 * 11 / 2**10)
    assert alone.outcome == "better"
    _measured(made_up, gptq=[31.0] * 9 + [22.0], awq=awq, nearest=[30.5, 29.5] * 5)
    assert [(each.ours.name, each.outcome) for each in verdicts(CANDIDATES, made_up)] == [
        ("w4a16", "tie"),
        ("w4a16-gptq", "tie"),
    ]


def test_clips_of_one_prompt_count_as_one(made_up: dict[str, Any]) -> None:
    awq = [20.0 + clip for clip in range(8)]
    ahead = [each + 1 + clip % 2 for clip, each in enumerate(awq)]
    _measured(made_up, gptq=ahead * 2, awq=awq * 2)
    made_up["conditions"]["prompts"] = [f"prompt {number}" for number in range(8)] * 2
    assert "16 clips of 8 prompts, 1 comparisons" in table.against(SUBJECTS[0])
    twice = verdicts(CANDIDATES, made_up)[0].found
    _measured(made_up, gptq=ahead, awq=awq)
    assert verdicts(CANDIDATES, made_up)[0].found == twice
    made_up["conditions"]["inputs"] = [{"prompt": "one", "video": number} for number in range(8)]
    assert clips(made_up) == "8 clips"


def test_identical_clips_are_better_than_any(made_up: dict[str, Any]) -> None:
    _measured(made_up, gptq=[None] * 12, awq=[40.0] * 12)  # type: ignore[list-item]
    assert "| identical clips, better |" in table.against(SUBJECTS[0])


def test_what_is_not_measured_is_compared_with_nothing(made_up: dict[str, Any]) -> None:
    made_up.clear()
    assert (
        table.against(SUBJECTS[0]) == table.rivals(SUBJECTS[0]) == "Nothing has been measured yet: run `make quality`."
    )
    assert verdicts(CANDIDATES, {}) == []


def test_the_first_example_makes_128_videos_of_its_64_prompts() -> None:
    """Each prompt from two noises: clip i starts from seed i."""
    conditions = Conditions.of(subject("shapes"))
    assert len(conditions.rows) == 128 and conditions.prompts[:64] == conditions.prompts[64:]
    assert len(set(conditions.prompts)) == 64
    assert Conditions.of(subject("shapes"), 2).prompts == conditions.prompts[:2]


def test_edits_are_judged_by_their_motion_too(made_up: dict[str, Any]) -> None:
    assert "motion" not in table.quality()
    for found in made_up["measured"].values():
        found["judged"]["motion"] = [True, True, True, False]
    assert "| shape | colour | direction | motion |" in table.quality()
    assert "motion 75% [19%, 99%]" in table.quality()


def _network() -> UNet3DConditionModel:
    """One with all kinds of convolutions, in space and in time."""
    return UNet3DConditionModel(
        block_out_channels=(64, 128),
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        norm_num_groups=8,
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=32,
        sample_size=8,
    )


def test_rivals_change_the_layers_that_the_recipe_of_the_level_changes() -> None:
    with torch.device("meta"):
        model = _network()
    everything = {name: type(module).__name__ for name, module in model.named_modules()}
    layers, left = makers.layers_for(BY_KEY["SDNQ: int8"], model)
    kinds = {everything[name] for name in layers}
    assert kinds == {"Linear", "Conv2d", "Conv3d"} and not left
    four_bits, _ = makers.layers_for(BY_KEY["SDNQ: int4 g128"], model)
    assert four_bits == layers and not any("time_emb_proj" in name for name in layers)
    sparse, left = makers.layers_for(BY_KEY["ModelOpt: sparsegpt, every layer"], model)
    assert sorted([*sparse, *left]) == sorted(layers)
    assert {everything[name] for name in left} == {"Conv2d", "Conv3d"}
    _, left = makers.layers_for(BY_KEY["ModelOpt: sparse_magnitude, every layer"], model)
    assert {everything[name] for name in left} == {"Conv3d"}


def test_modelopt_groups_the_weights_of_a_convolution_along_its_channels() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(128, 4, 3, padding=1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.randint(-7, 8, layer.weight.shape))
        layer.weight[:, 0] = 7.0  # the largest of each group of channels: the grid is the whole numbers
        layer.weight[0, :, 0, 0] *= 100
    model = nn.ModuleDict({"proj_out": layer})  # a name that ModelOpt's own settings leave
    x = torch.randn(1, 128, 4, 4)
    before = layer(x)
    candidate = BY_KEY["ModelOpt: INT4_BLOCKWISE_WEIGHT_ONLY"]
    made, changed = makers._quantized(model, candidate.options, [], lambda given: given["proj_out"](x))
    assert changed == ["proj_out"]
    assert torch.allclose(made["proj_out"](x), before, rtol=1e-4, atol=1e-2)
    assert made["proj_out"].weight_quantizer.amax.numel() == 4 * 9


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

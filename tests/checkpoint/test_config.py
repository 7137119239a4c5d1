"""`quantization_config`: what is written, what is read back, and exact refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest
from compressed_tensors.quantization import QuantizationConfig
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.checkpoint.exports.table import build_config, export_of, stored_layers
from quant.errors import CheckpointError, RecipeError
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES, Scheme
from quant.formats.steps import PreciseSteps
from quant.formats.table import misfit
from quant.recipe import Recipe
from tests.checkpoint.tiny import KEPT, LAYERS, RECIPE, tiny_config

NAMES = (*LAYERS, *KEPT)
ALL_FP8 = dict.fromkeys(LAYERS, "FP8_DYNAMIC")
MIXED = {**ALL_FP8, "blocks.1.0": "W8A8"}


def read(config: dict[str, Any]) -> dict[str, LayerFormat]:
    return stored_layers(config, NAMES, "file")


def test_one_scheme_is_written_as_everyone_writes_it() -> None:
    assert tiny_config(ALL_FP8) == {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": {"targets": ["Linear"], **SCHEMES["FP8_DYNAMIC"].to_dict()}},
        "ignore": ["proj_out"],
        "format_version": 1,
        "dtype": "float32",
        "recipe": RECIPE,
    }


def test_several_schemes_name_their_layers() -> None:
    config = tiny_config(MIXED)
    assert config["format"] == "mixed-precision"
    groups = config["config_groups"]
    assert [group["targets"] for group in groups.values()] == [
        ["blocks.0.0", "blocks.0.2", "blocks.1.2"],
        ["blocks.1.0"],
    ]
    assert [group["format"] for group in groups.values()] == ["float-quantized", "int-quantized"]


def test_bins_come_back_and_there_are_64_at_most() -> None:
    layers = {name: LayerFormat(SCHEMES["FP8"], bins=bins) for name, bins in zip(LAYERS, (1, 2, 4, 64), strict=True)}
    config = build_config(layers, KEPT, "float32", RECIPE)
    assert (config["quant_method"], config["input_bins"]) == ("quant", dict(zip(LAYERS[1:], (2, 4, 64), strict=True)))
    assert read(json.loads(json.dumps(config))) == layers
    config["input_bins"][LAYERS[1]] = 2**62
    with pytest.raises(CheckpointError, match=f"'{LAYERS[1]}': {2**62} bins of static inputs: 64 is the most"):
        read(config)


def test_steps_come_back_and_the_policy_of_others_is_there_where_it_is_true() -> None:
    steps, other = PreciseSteps(900.5, 100.25, 3, 2, 50), PreciseSteps(900.5, None, 3, 0, 50)
    kinds = {"same": (steps, steps), "other": (steps, other), "some": (steps, None)}
    policies = {}
    for kind, pair in kinds.items():
        formats = [LayerFormat(SCHEMES["W8A8"], steps=each) for each in pair]
        layers = dict(zip(LAYERS, [*formats, LayerFormat(SCHEMES["W4A16"])], strict=False))
        config = build_config(layers, KEPT, "float32", RECIPE)
        assert read(json.loads(json.dumps(config))) == layers and config["quant_method"] == "quant"
        policies[kind] = config.get("runtime", {}).get("diffusion_step_policy")
    assert policies["other"] is policies["some"] is None
    assert policies["same"] == {  # as SGLang's and TensorRT-LLM's tests have it, but for the counts and the reasoner
        "schema_version": 1,
        "type": "first_last_n",
        "index_space": "denoising_loop_iteration",
        "scope": ["transformer"],
        "default_mode": "native",
        "first_steps": {"count": 3, "mode": "a16"},
        "last_steps": {"count": 2, "mode": "a16"},
        "overlap": "a16",
        "reasoner": "native",
    }


ENTRY = {"targets": ["blocks.0.0"], "above": 900.0, "up_to": 100.0, "first": 1, "last": 1, "of": 4}


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (5, "[0]: must be a mapping with the keys targets, above"),
        ({**ENTRY, "more": 1}, "[0]: must be a mapping with the keys targets, above"),
        ({**ENTRY, "targets": "blocks.0.0"}, "[0].targets: must be a list of layers"),
        ({**ENTRY, "targets": [5]}, "[0].targets: must be a list of layers"),
        ({**ENTRY, "above": "900"}, "[0].above: must be a timestep or null"),
        ({**ENTRY, "up_to": float("nan")}, "[0].up_to: must be a timestep or null"),
        ({**ENTRY, "up_to": 900.0}, "[0]: up_to 900.0 must be below above 900.0"),
        ({**ENTRY, "up_to": None}, "[0]: must have a timestep for each end that has steps"),
        ({**ENTRY, "first": 0, "last": 0}, "[0]: first and last must be whole numbers that leave some of 'of'"),
        ({**ENTRY, "first": 2**62}, "[0]: first and last must be whole numbers"),
        ({**ENTRY, "of": True}, "[0]: first and last must be whole numbers"),
    ],
)
def test_refuses_damaged_steps(entry: object, says: str) -> None:
    with pytest.raises(CheckpointError) as error:
        read({**tiny_config(ALL_FP8), "precise_steps": [entry]})
    assert str(error.value).startswith(f"file: precise_steps{says}")


def test_refuses_steps_of_no_layer_of_two_kinds_or_without_quantized_inputs() -> None:
    for config, entries, says in (
        (tiny_config(ALL_FP8), 5, "precise_steps: must be a list, got 5"),
        (
            tiny_config(ALL_FP8),
            [ENTRY, {**ENTRY, "above": 950.0}],
            r"precise_steps\[1\].targets: 'blocks.0.0' is listed",
        ),
        (tiny_config(ALL_FP8), [{**ENTRY, "targets": ["nowhere"]}], "'nowhere' is listed as precise_steps but is no"),
        (
            build_config({"blocks.0.0": LayerFormat(SCHEMES["W4A16"])}, KEPT, "float32", RECIPE),
            [ENTRY],
            "'blocks.0.0': W4A16 quantizes no input",
        ),
    ):
        with pytest.raises(CheckpointError, match=says):
            read({**config, "precise_steps": entries})


def test_only_an_unsmoothed_checkpoint_claims_compressed_tensors() -> None:
    assert tiny_config(ALL_FP8)["quant_method"] == "compressed-tensors"
    assert "smoothed" not in tiny_config(ALL_FP8)
    smoothed = tiny_config(ALL_FP8, ("blocks.0.0",))
    assert smoothed["quant_method"] == "quant"
    assert smoothed["smoothed"] == ["blocks.0.0"]


@given(
    chosen=st.dictionaries(
        st.sampled_from(NAMES),
        st.builds(
            LayerFormat, st.sampled_from(list(SCHEMES.values())), st.booleans(), st.booleans(), st.integers(0, 2)
        ).filter(lambda made: misfit(made, 512, 512) is None),
        min_size=1,
    )
)
def test_what_is_written_is_read_back(chosen: dict[str, LayerFormat]) -> None:
    layers = chosen
    config = build_config(layers, [name for name in NAMES if name not in layers], "bfloat16", RECIPE)
    assert read(json.loads(json.dumps(config))) == layers


def test_a_spelled_out_scheme_is_read_back() -> None:
    body = {"num_bits": 8, "type": "int", "strategy": "tensor"}
    layers = {"proj_out": LayerFormat(Scheme.parse({"weights": body, "input_activations": body}), False)}
    assert read(build_config(layers, LAYERS, "float32", RECIPE)) == layers


@pytest.mark.parametrize("schemes", [ALL_FP8, MIXED, dict.fromkeys(LAYERS, "FP8")])
def test_compressed_tensors_own_dump_is_read(schemes: dict[str, str]) -> None:
    """That library writes every default, nulls, and no `format_version`."""
    dumped = json.loads(QuantizationConfig.model_validate(tiny_config(schemes)).model_dump_json())
    assert "format_version" not in dumped
    assert {name: layer.scheme.name for name, layer in read(dumped).items()} == schemes


def test_the_first_matching_group_wins_and_ignore_comes_before() -> None:
    config = tiny_config(ALL_FP8)
    w8a8 = {"targets": ["re:blocks\\.1\\..*", "proj_out"], **SCHEMES["W8A8"].to_dict()}
    config["config_groups"] = {"a": w8a8, **config["config_groups"]}
    config["ignore"] = ["re:blocks\\.0\\.2", "proj_out"]
    assert {name: layer.scheme.name for name, layer in read(config).items()} == {
        "blocks.0.0": "FP8_DYNAMIC",
        "blocks.1.0": "W8A8",
        "blocks.1.2": "W8A8",
    }


@pytest.mark.parametrize("ignore", [None, []])
def test_nothing_may_be_ignored(ignore: object) -> None:
    assert read({**tiny_config(ALL_FP8), "ignore": ignore}).keys() == set(NAMES)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"quant_method": "gptq"}, "file: quant_method is 'gptq'; this library reads compressed-tensors and quant"),
        ({"quant_method": None}, "file: quant_method is None; "),
        ({"format_version": 2}, "file: format_version is 2; this release reads 1"),
        ({"format_version": "1"}, "file: format_version is '1'; "),
        ({"format_version": None}, "file: format_version is None; "),
    ],
)
def test_refuses_other_methods_and_versions(changes: dict[str, Any], says: str) -> None:
    config = {**tiny_config(ALL_FP8), **changes}
    for refuse in (lambda: export_of(config, "file"), lambda: read(config)):
        with pytest.raises(CheckpointError) as error:
            refuse()
        assert str(error.value).startswith(says)


def test_our_own_method_always_has_a_version() -> None:
    config = tiny_config(ALL_FP8, ("blocks.0.0",))
    export_of(config, "file")
    del config["format_version"]
    with pytest.raises(CheckpointError, match=r"^file: format_version is None; this release reads 1$"):
        export_of(config, "file")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"config_groups": {}}, "file: config_groups is missing or empty"),
        ({"config_groups": None}, "file: config_groups is missing or empty"),
        ({"config_groups": ["Linear"]}, "file: config_groups is missing or empty"),
        ({"config_groups": {"g": "FP8"}}, "file: config_groups.g: must be a mapping"),
        ({"ignore": "proj_out"}, "file: ignore: must be a list of layers, got 'proj_out'"),
        ({"ignore": ["re:("]}, "file: ignore: 're:(' is not a regular expression"),
        ({"ignore": [3]}, "file: ignore: a pattern must be a non-empty string, got 3"),
        ({"ignore": ["re:.*"]}, "file: its groups match no layer of this model"),
        ({"smoothed": ["proj_out"]}, "file: 'proj_out' is listed as smoothed but is no quantized layer of the model"),
        ({"smoothed": "blocks.0.0"}, "file: smoothed: must be a list of layers"),
    ],
)
def test_refuses_a_damaged_config(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError) as error:
        read({**tiny_config(ALL_FP8), **changes})
    assert str(error.value).startswith(says)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"targets": "Linear"}, ".targets: must be a list of layers, got 'Linear'"),
        ({"targets": ["re:["]}, ".targets: 're:[' is not a regular expression"),
        ({"weights": None}, ": 'weights' is missing"),
        ({"input_activations": None}, ".weights: supported are 4- and 8-bit 'int'"),
        ({"weights": {"type": "int", "strategy": "channel"}}, ".weights: 'num_bits' is missing"),
        ({"weights": {"num_bits": 3, "type": "int", "strategy": "channel"}}, ".weights: supported are 4- and 8-bit"),
        ({"weights": "int8"}, ": 'weights' is missing"),
        ({"output_activations": {"num_bits": 8}}, ": quantized outputs are not supported"),
    ],
)
def test_refuses_a_group_it_cannot_run(changes: dict[str, Any], says: str) -> None:
    config = tiny_config(ALL_FP8)
    config["config_groups"]["group_0"].update(changes)
    with pytest.raises(CheckpointError) as error:
        read(config)
    assert str(error.value).startswith(f"file: config_groups.group_0{says}")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sparsity_config": []}, ": sparsity_config: must be a mapping, got []"),
        (
            {"sparsity_config": {"format": "packed"}},
            ": sparsity_config.format: is 'packed'; this release reads 'dense'",
        ),
        ({"sparsity_config": {"format": "dense", "sparsity_structure": "4:8"}}, ": sparsity_config.sparsity_structure"),
        (
            {"sparsity_config": {"format": "dense", "sparsity_structure": "2:4", "targets": ["nowhere"]}},
            ": 'nowhere' is listed as sparse but is no quantized layer of the model",
        ),
        ({"low_rank": ["blocks.0.0"]}, ": low_rank: must be a mapping of layers to ranks"),
        ({"low_rank": {"blocks.0.0": 0}}, ": low_rank.blocks.0.0: must be a whole number of at least 1, got 0"),
        ({"low_rank": {"nowhere": 2}}, ": 'nowhere' is listed as low_rank but is no quantized layer of the model"),
        ({"input_bins": 4}, ": input_bins: must be a mapping of layers to numbers of bins, got 4"),
        ({"input_bins": {"blocks.0.0": 1}}, ": input_bins.blocks.0.0: must be a whole number of at least 2, got 1"),
        ({"input_bins": {"blocks.0.0": 4}}, ": 'blocks.0.0': FP8_DYNAMIC has no static input whose ranges could be in"),
        ({"input_bins": {"nowhere": 2}}, ": 'nowhere' is listed as input_bins but is no quantized layer of the model"),
    ],
)
def test_refuses_what_stands_beside_the_groups(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError) as error:
        read({**tiny_config(ALL_FP8), **changes})
    assert str(error.value).startswith(f"file{says}")


@pytest.mark.parametrize("scheme", ["W4A16", "W8A16", "FP8_BLOCK"])
def test_refuses_a_sparse_layer_that_no_op_runs(scheme: str) -> None:
    config = build_config({"proj_out": LayerFormat(SCHEMES[scheme], sparse=True)}, LAYERS, "float32", RECIPE)
    with pytest.raises(CheckpointError, match=f"'proj_out': no op runs 2:4 with {scheme}"):
        read(config)


_PARTS = [{key: part for key, part in each.to_dict().items() if key != "format"} for each in SCHEMES.values()]
_VALUES = [4, 8, 4.0, 8.0, True, False, 1, 0, "int", "float", "channel", "tensor", "token", "group", 32, 128.0, None]
_KEYS = ["num_bits", "type", "strategy", "symmetric", "dynamic", "group_size"]


@settings(max_examples=500, deadline=None)
@given(
    parts=st.sampled_from([part for part in _PARTS if part]),
    changes=st.lists(
        st.tuples(st.sampled_from(["weights", "input_activations"]), st.sampled_from(_KEYS), st.sampled_from(_VALUES)),
        max_size=2,
    ),
)
def test_every_scheme_that_a_recipe_may_have_is_read_back_from_its_config(
    parts: dict[str, dict[str, Any]], changes: list[tuple[str, str, Any]]
) -> None:
    spelled = {name: dict(part) for name, part in parts.items()}
    for name, key, value in changes:
        spelled.setdefault(name, {})[key] = value
    try:
        recipe = Recipe.from_dict({"version": 1, "groups": [{"targets": ["Linear"], "scheme": spelled}]})
    except RecipeError:
        return
    layer_format = recipe.groups[0].layer_format
    written = json.loads(
        json.dumps(build_config({"a": layer_format}, ["b"], "bfloat16", {"name": "mine", "sha256": "0"}))
    )
    assert stored_layers(written, ["a", "b"], "config.json") == {"a": layer_format}


@pytest.mark.parametrize("version", [1.0, True, "1"])
def test_a_version_of_another_type_is_refused(version: object) -> None:
    with pytest.raises(CheckpointError, match="format_version is"):
        export_of({"quant_method": "quant", "format_version": version}, "config.json")


W4A8_AS_INT8 = {
    "format": "int-quantized",
    "targets": ["Linear"],
    "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "actorder": None},
    "input_activations": {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True},
}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"config_groups": {"W4A8": W4A8_AS_INT8}},
            "config_groups.W4A8: stores W4A8 as 'int-quantized', which is not read here; it would have to be "
            "'pack-quantized'. quant convert packs codes that lie one in a byte",
        ),
        (
            {"config_groups": {"W4A8": {**W4A8_AS_INT8, "format": None}}, "format": "int-quantized"},
            "config_groups.W4A8: stores W4A8 as 'int-quantized', which is not read here; it would have to be "
            "'pack-quantized'. quant convert packs codes that lie one in a byte",
        ),
        ({"transform_config": {"config_groups": {}}}, "transform_config: weights that were rotated are not read here"),
        ({"dtype": "float999"}, "dtype must be one of bfloat16, float16, float32, float64, got 'float999'"),
        ({"dtype": "int8"}, "dtype must be one of bfloat16, float16, float32, float64, got 'int8'"),
        ({"dtype": ["float32"]}, "dtype must be one of bfloat16, float16, float32, float64, got ['float32']"),
        ({"low_rank": []}, "low_rank: must be a mapping of layers to ranks, got []"),
        ({"sparsity_config": []}, "sparsity_config: must be a mapping, got []"),
        ({"config_groups": {}, "sparsity_config": {}}, "config_groups is missing or empty"),
        ({"format_version": True}, "format_version is True; this release reads 1"),
    ],
)
def test_what_others_write_and_is_not_read(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError) as error:
        read({**tiny_config(ALL_FP8), **changes})
    assert str(error.value) == f"file: {says}"


def test_keys_that_llm_compressor_writes() -> None:
    config = tiny_config(ALL_FP8)
    for key in ("format_version", "dtype", "recipe"):
        del config[key]
    more: dict[str, Any] = {
        "version": "0.20.0",
        "kv_cache_scheme": None,
        "transform_config": {},
        "sparsity_config": {},
        "ignore": None,
    }
    (group,) = config["config_groups"].values()
    for layout in ("float-quantized", "naive-quantized", None):
        group["format"] = layout
        assert read({**config, **more, "ignore": ["proj_out"]}) == read(tiny_config(ALL_FP8))
    assert len(read({**config, **more})) == len(NAMES)

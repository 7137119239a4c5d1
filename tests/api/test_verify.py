"""`quant.verify`: sound folders of every kind are sound, and each damage is found, also where there are several."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import quant
from quant.api.checks import MOST_FAULTS
from quant.api.verify import Verified
from quant.checkpoint import pieces
from quant.checkpoint.manifest import read_manifest, write_manifest
from quant.recipe import Recipe
from tests.api.editing import WEIGHTS, Edit, configured, edited, put_all
from tests.checkpoint.tiny import LAYERS, write_tiny

RECIPE = {
    "version": 1,
    "groups": [
        {"targets": ["0"], "scheme": "FP8_DYNAMIC"},
        {"targets": ["1"], "scheme": "W4A16_ASYM"},
        {"targets": ["2"], "scheme": "FP8_DYNAMIC", "sparsity": {"method": "magnitude"}},
        {"targets": ["3"], "scheme": "W8A16"},
    ],
    "ignore": ["4"],
}
LAYER = "blocks.0.ffn.net.2"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of no known class with its manifest; not to be changed."""
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Linear(128, 128) for _ in range(5))).eval()
    folder = tmp_path_factory.mktemp("verify") / "net"
    quant.save(quant.quantize(net, Recipe.from_dict(RECIPE)), folder)
    return folder


@pytest.fixture
def net(saved: Path, tmp_path: Path) -> Path:
    """The same, to be damaged, without hashes of its files."""
    shutil.copytree(saved, tmp_path / "net")
    (tmp_path / "net" / "quant_manifest.json").unlink()
    return tmp_path / "net"


@pytest.fixture
def pipeline(checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    """A whole pipeline whose transformer is quantized, to be damaged."""
    shutil.copytree(checkpoints["fp8-dynamic"], tmp_path / "pipeline")
    return tmp_path / "pipeline"


def verified(folder: Path) -> Verified:
    return quant.verify(folder, progress=False)


def faults(folder: Path) -> list[str]:
    found = verified(folder)
    assert found.sound == (found.count == 0)
    return [fault for check in found.checks for fault in check.faults]


def status(found: Verified) -> dict[tuple[str, str], str]:
    return {(check.component, check.name): check.status for check in found.checks}


def flip(path: Path, at: int = -7) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def first(name: str, value: float) -> Edit:
    """The edit that puts a value in the first place of a tensor."""

    def edit(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name].view(-1)[0] = value

    return edit


def code(name: str, *codes: int) -> Edit:
    """The edit that puts bytes where a tensor begins."""

    def edit(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name].view(torch.uint8).view(-1)[: len(codes)] = torch.tensor(codes, dtype=torch.uint8)

    return edit


def test_a_sound_folder_of_no_class(saved: Path) -> None:
    found = verified(saved)
    assert found.sound and found.has_manifest
    assert status(found) == {
        ("", "files"): "ok",
        ("", "headers"): "ok",
        ("", "config"): "ok",
        ("", "tensors"): "ok",
        ("", "class"): "note",
        ("", "values"): "ok",
    }
    texts = {check.name: check.text for check in found.checks}
    assert texts["values"].endswith("scales in range, 1 layer 2:4")
    assert texts["class"] == "not compared with a class: diffusers has no 'Sequential'"
    assert found.nbytes == sum((saved / name).stat().st_size for name in ("config.json", WEIGHTS))


def test_a_sound_pipeline_and_its_component(pipeline: Path) -> None:
    found = verified(pipeline)
    assert found.sound
    assert {check.component for check in found.checks} == {"transformer", "text_encoder", "vae", ""}
    assert all(check.status == "ok" for check in found.checks)
    assert found.nbytes == sum(path.stat().st_size for path in pipeline.rglob("*") if path.is_file()) - (
        (pipeline / "quant_manifest.json").stat().st_size
    )
    assert [check.text for check in found.checks if check.name == "class"] == [
        "names and shapes as WanTransformer3DModel has them"
    ]
    alone = verified(pipeline / "transformer")
    assert alone.sound and alone.has_manifest
    assert alone.checks == tuple(check for check in found.checks if check.component == "transformer")


def test_what_diffusers_saved_is_sound_with_notes(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    quant.load(checkpoints["fp8-dynamic"]).save_pretrained(tmp_path / "saved")  # type: ignore[operator]
    found = verified(tmp_path / "saved")
    assert found.sound and not found.has_manifest
    notes = {check.name for check in found.checks if check.status == "note"}
    assert notes == {"files", "config"}
    edited(tmp_path / "saved", lambda tensors: tensors.pop("proj_out.weight"))
    assert faults(tmp_path / "saved") == [
        "has no tensor 'proj_out.weight', which the model needs; is it another model's?"
    ]


def test_compressed_tensors_of_another_writer(tmp_path: Path) -> None:
    write_tiny(tmp_path / "made", dict.fromkeys(LAYERS, "W8A8"), max_bytes=2000)
    config = tmp_path / "made" / "config.json"
    body = json.loads(config.read_text())
    body = {"architectures": ["Tiny"], "quantization_config": body["quantization_config"]}
    for key in ("format_version", "recipe", "dtype"):
        del body["quantization_config"][key]
    config.write_text(json.dumps(body))
    found = verified(tmp_path / "made")
    assert found.sound
    assert [check.text for check in found.checks if check.name == "class"] == [
        "not compared with a class: config.json names none"
    ]


def test_a_flipped_bit_is_found_by_a_manifest_and_by_nothing_else(pipeline: Path) -> None:
    flip(pipeline / "vae" / WEIGHTS)
    flip(pipeline / "transformer" / WEIGHTS)
    found = verified(pipeline)
    assert found.count == 2
    says = "its SHA-256 differs from the manifest's; it is damaged, copy it again"
    assert faults(pipeline) == [f"transformer/{WEIGHTS}: {says}", f"vae/{WEIGHTS}: {says}"]
    (pipeline / "quant_manifest.json").unlink()
    found = verified(pipeline)
    assert found.sound
    (note,) = [check for check in found.checks if check.name == "files"]
    assert note.status == "note" and note.text.startswith("no quant_manifest.json")


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (first("0.weight_scale", float("nan")), "0.weight_scale: holds NaN at [0, 0]; a scale is finite"),
        (first("3.weight_scale", -1.0), "3.weight_scale: holds -1 at [0, 0]; a scale is finite"),
        (first("1.weight_scale", float("inf")), "1.weight_scale: holds Inf at [0, 0]; a scale is finite"),
        (first("0.weight_scale", 0.0), "0.weight_scale: holds 0 at [0, 0]; a scale is finite, at least 2**-126"),
        (code("0.weight", 0xFF), "0.weight: holds NaN: 0x7f and 0xff are no codes of a weight"),
        (code("2.weight", 0x38, 0x38, 0x38, 0), "2.weight: is not 2:4: row 0 has more than two nonzero values"),
        (first("4.weight", float("-inf")), "4.weight: holds -Inf at [0, 0]; weights are finite"),
        (first("2.bias", float("nan")), "2.bias: holds NaN at [0]; weights are finite"),
        (put_all({"1.weight_shape": torch.tensor([128, 256])}), "tensor '1.weight_shape' is [128, 256], but"),
        (lambda t: t.pop("1.weight_zero_point"), "has no tensor '1.weight_zero_point', which the model needs"),
        (lambda t: t.pop("0.weight"), "has no tensor '0.weight'; is a shard missing?"),
        (lambda t: t.pop("0.weight_scale"), f"{WEIGHTS}: tensor '0.weight' is F8_E4M3, codes without a scale"),
        (put_all({"3.extra": torch.ones(2)}), "holds a tensor '3.extra' that the model has not"),
        (
            lambda t: t.update({"0.weight_scale": t["0.weight_scale"].double()}),
            f"{WEIGHTS}: tensor '0.weight_scale' is F64, its scheme needs F32",
        ),
    ],
)
def test_what_is_wrong_in_tensors(net: Path, edit: Edit, says: str) -> None:
    edited(net, edit)
    (fault,) = faults(net)
    assert fault.startswith(says)


def test_several_faults_are_all_listed(pipeline: Path) -> None:
    for name in (f"{LAYER}.weight_scale", "blocks.1.attn1.to_q.weight_scale"):
        edited(pipeline / "transformer", first(name, float("nan")))
    (pipeline / "vae" / "config.json").unlink()
    (pipeline / "scheduler" / "scheduler_config.json").write_text("{}")
    edited(pipeline / "text_encoder", lambda tensors: None, "model.safetensors")
    found = faults(pipeline)
    begins = (
        f"transformer/{WEIGHTS}: has ",
        "transformer.blocks.1.attn1.to_q.weight_scale: holds NaN",
        f"transformer.{LAYER}.weight_scale: holds NaN",
        "vae/config.json: missing",
        "scheduler/scheduler_config.json: has 2 bytes",
    )
    for begin in begins:
        assert sum(fault.startswith(begin) for fault in found) == 1, (begin, found)


def test_a_missing_shard_and_one_that_is_cut(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    write_tiny(folder, dict.fromkeys(LAYERS, "W8A8"), max_bytes=2000)
    assert verified(folder).sound
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) > 2
    shards[0].unlink()
    shards[1].write_bytes(shards[1].read_bytes()[:-5])
    missing, cut = faults(folder)  # and none of the tensors that were in them
    assert missing == f"{shards[0].name}: missing; the checkpoint is incomplete"
    assert cut.startswith(f"{shards[1].name}: truncated or damaged: ")


def test_a_file_that_is_cut_hides_no_other_fault(pipeline: Path) -> None:
    file = pipeline / "transformer" / WEIGHTS
    file.write_bytes(file.read_bytes()[:-5])
    edited(pipeline / "vae", first("encoder.conv_in.bias", float("nan")))
    found = faults(pipeline)
    assert [fault.partition(": ")[0] for fault in found] == [
        *(f"transformer/{WEIGHTS}",) * 2,
        f"vae/{WEIGHTS}",
        "vae.encoder.conv_in.bias",
    ]


def test_an_index_that_disagrees_with_its_shards(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    write_tiny(folder, dict.fromkeys(LAYERS, "W8A8"), max_bytes=2000)
    index = folder / f"{WEIGHTS}.index.json"
    body = json.loads(index.read_text())
    file = body["weight_map"].pop("proj_out.bias")
    body["weight_map"]["proj_out.other"] = file
    index.write_text(json.dumps(body))
    assert faults(folder) == [
        f"{file}: holds tensor 'proj_out.bias', which {index.name} does not list for it",
        f"{index.name}: lists tensor 'proj_out.other', which its file does not hold",
    ]


def test_a_config_of_another_scheme_is_a_fault_of_every_layer(pipeline: Path) -> None:
    def int8(body: dict[str, Any]) -> None:
        (group,) = body["quantization_config"]["config_groups"].values()
        group["weights"]["type"] = group["input_activations"]["type"] = "int"
        group["format"] = body["quantization_config"]["format"] = "int-quantized"

    layers = len(quant.inspect(pipeline).components[0].layers)
    (pipeline / "quant_manifest.json").unlink()
    configured(pipeline / "transformer", int8)
    found = {check.name: check for check in verified(pipeline).checks if check.component == "transformer"}
    assert found["config"].faults[0].startswith("transformer/config.json: was changed after ")
    assert found["tensors"].faults[0].endswith("is F8_E4M3, its scheme needs I8")
    assert len(found["tensors"].faults) == min(MOST_FAULTS, found["tensors"].count)
    assert 0 < found["tensors"].count <= layers
    assert found["class"].status == found["values"].status == "ok"


def test_a_config_that_is_damaged_or_gone(pipeline: Path) -> None:
    config = pipeline / "transformer" / "config.json"
    config.write_text("{")
    assert any(fault.startswith("transformer/config.json: damaged: ") for fault in faults(pipeline))
    (pipeline / "quant_manifest.json").unlink()
    (fault,) = faults(pipeline)
    assert fault.startswith("transformer/config.json: damaged: ")


def test_a_config_that_is_gone_where_another_component_is_quantized(pipeline: Path) -> None:
    shutil.copytree(pipeline / "transformer", pipeline / "transformer_2")
    (pipeline / "quant_manifest.json").unlink()
    (pipeline / "transformer" / "config.json").unlink()
    (fault,) = faults(pipeline)
    assert fault.startswith("transformer/config.json: missing")


def test_a_config_without_the_quantization_that_the_manifest_has(pipeline: Path) -> None:
    configured(pipeline / "transformer", lambda body: body.pop("quantization_config"))
    says = "transformer/config.json: has no 'quantization_config', but the manifest has quantized layers"
    assert says in faults(pipeline)


def test_a_manifest_that_is_damaged_hides_nothing(pipeline: Path) -> None:
    (pipeline / "quant_manifest.json").write_text('{"files": 3}')
    edited(pipeline / "transformer", first(f"{LAYER}.weight_scale", -1.0))
    found = faults(pipeline)
    assert found[0] == "quant_manifest.json: damaged: no list of files"
    assert found[1].startswith(f"transformer.{LAYER}.weight_scale: holds -1 at")


def test_weights_that_a_manifest_without_records_does_not_list(pipeline: Path) -> None:
    manifest = pipeline / "quant_manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "layers": {}}))
    shutil.copy(pipeline / "transformer" / WEIGHTS, pipeline / "transformer" / "other.safetensors")
    (fault,) = faults(pipeline)
    assert fault.startswith("transformer/other.safetensors: is not in ")


def test_weights_that_the_manifest_does_not_list(pipeline: Path) -> None:
    shutil.copy(pipeline / "transformer" / WEIGHTS, pipeline / "transformer" / "other.safetensors")
    (fault,) = faults(pipeline)
    assert fault.startswith("transformer/other.safetensors: is not in ")


def test_a_layer_that_is_gone_from_a_file_with_new_hashes(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    shutil.copytree(saved, folder)
    edited(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("3.")])
    body = read_manifest(folder)
    assert body is not None
    write_manifest(folder, body, {})
    assert faults(folder) == ["has no quantized layer '3', which the manifest lists"]


def test_codes_that_are_no_numbers_outside_layers(net: Path) -> None:
    edited(net, put_all({"5.table": torch.zeros(6, dtype=torch.float8_e4m3fn)}))
    assert verified(net).sound
    edited(net, code("5.table", 0, 0x7F))
    assert faults(net) == ["5.table: holds NaN: 0x7f and 0xff are no numbers"]


def test_a_model_of_another_size(pipeline: Path) -> None:
    (pipeline / "quant_manifest.json").unlink()
    configured(pipeline / "transformer", lambda body: body.update(num_layers=3))
    found = {check.name: check for check in verified(pipeline).checks if check.component == "transformer"}
    assert all("'blocks.2." in fault for fault in (*found["tensors"].faults, *found["class"].faults))
    assert found["tensors"].status == found["class"].status == found["config"].status == "FAIL"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "no such checkpoint folder"),
        (lambda path: path.write_text("x"), "is a file; quant takes folders"),
        (lambda path: path.mkdir(), "holds no quantized component"),
    ],
)
def test_a_wrong_path_is_refused(make: Callable[[Path], object], says: str, tmp_path: Path) -> None:
    make(tmp_path / "there")
    with pytest.raises(quant.QuantError, match=says):
        verified(tmp_path / "there")


def test_a_model_that_is_not_quantized_is_refused(model_folder: Path) -> None:
    with pytest.raises(quant.QuantError, match="holds no quantized component"):
        verified(model_folder)


def test_a_place_in_a_large_tensor_is_counted_from_a_row(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 1000)

    def edit(tensors: dict[str, torch.Tensor]) -> None:
        tensors["4.weight"][100, 3] = float("nan")
        tensors["4.weight"][101, 4] = float("nan")

    edited(net, edit)
    assert faults(net) == ["4.weight: holds NaN at [0, 3]; weights are finite (rows counted from 100)"]


def test_nothing_is_written(pipeline: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in pipeline.rglob("*")}
    verified(pipeline)
    assert {path: path.stat().st_mtime_ns for path in pipeline.rglob("*")} == before


def test_a_link_that_leads_to_a_component_finds_the_manifest_beside_it(pipeline: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(pipeline)
    assert verified(tmp_path / "linked").has_manifest
    (tmp_path / "alone").symlink_to(pipeline / "transformer")
    assert not verified(tmp_path / "alone").has_manifest


def test_a_folder_of_links_as_the_hubs_cache_is_one(pipeline: Path, tmp_path: Path) -> None:
    for path in [path for path in pipeline.rglob("*") if path.is_file()]:
        blob = tmp_path / "blobs" / str(len(list(tmp_path.glob("blobs/*"))))
        blob.parent.mkdir(exist_ok=True)
        path.rename(blob)
        path.symlink_to(blob)
    found = verified(pipeline)
    assert found.sound and all(check.status == "ok" for check in found.checks)


def test_a_config_beside_the_components_hides_none_of_them(pipeline: Path) -> None:
    (pipeline / "config.json").write_text("{}")
    (pipeline / "model_index.json").unlink()
    edited(pipeline / "transformer", first(f"{LAYER}.weight_scale", -1.0))
    assert any(fault.startswith(f"transformer.{LAYER}.weight_scale: holds -1") for fault in faults(pipeline))


def test_a_component_that_is_gone(pipeline: Path) -> None:
    shutil.rmtree(pipeline / "transformer")
    found = faults(pipeline)
    assert found[0] == "transformer/config.json: missing; the checkpoint is incomplete"


def test_a_manifest_that_lists_nothing_makes_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "quant_manifest.json").write_text('{"files": {}, "format_version": 1}')
    with pytest.raises(quant.QuantError, match="holds no quantized component"):
        verified(tmp_path)


def test_names_that_no_file_can_have_and_two_for_one_file(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    shutil.copytree(saved, folder)
    manifest = folder / "quant_manifest.json"
    body = json.loads(manifest.read_text())
    body["files"] = {"./config.json": {**body["files"]["config.json"], "sha256": "0"}, **body["files"]}
    body["files"]["x" * 5000] = body["files"]["no\0ne"] = {"bytes": 1, "sha256": "0"}
    manifest.write_text(json.dumps(body))
    found = next(check for check in verified(folder).checks if check.name == "files").faults
    assert len(found) == 3
    assert sum("its SHA-256 differs" in fault for fault in found) == 1
    assert sum("missing; the checkpoint is incomplete" in fault for fault in found) == 2


@pytest.mark.parametrize("method", [None, "bitsandbytes", ["quant"]])
def test_a_method_that_is_not_read(net: Path, method: object) -> None:
    edited(net, lambda tensors: None)
    configured(net, lambda body: body["quantization_config"].update(quant_method=method))
    (fault,) = faults(net)
    assert "quant_method is " in fault


def test_a_part_of_another_librarys_is_left_to_it(pipeline: Path) -> None:
    (pipeline / "quant_manifest.json").unlink()
    config = {"quantization_config": {"quant_method": "bitsandbytes"}}
    configured(pipeline / "text_encoder", lambda body: body.update(config))
    found = verified(pipeline)
    assert found.sound
    notes = [check.text for check in found.checks if check.component == "text_encoder" and check.name == "tensors"]
    assert notes == ["quantized by 'bitsandbytes', which quant does not read: not compared"]

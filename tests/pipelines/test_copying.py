"""What a pipeline consists of, and what of it `--full` copies: known before any work."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from quant.errors import ModelError
from quant.pipelines.copying import copy_files, files_of, files_to_copy, places_of
from quant.pipelines.source import Source, open_source


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    parts = {"transformer": "config.json weights.safetensors", "vae": "config.json weights.safetensors weights.bin"}
    for part, names in {**parts, "scheduler": "scheduler_config.json"}.items():
        (folder / part).mkdir(parents=True)
        for name in names.split():
            (folder / part / name).write_text(f"{part} {name}")
    index = {
        "_class_name": "WanPipeline",
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "image_encoder": [None, None],
        "boundary_ratio": 0.875,
        "_class_name_of_a_custom_pipeline": ["pipeline", "CustomPipeline"],
        "default_size": [480, 832],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def copied(model: Path) -> list[str]:
    return sorted(files_to_copy(open_source(model), ["transformer"]))


PARTS = ["model_index.json", "scheduler/scheduler_config.json", "vae/config.json", "vae/weights.safetensors"]


def test_components_and_known_files_are_copied_and_neighbours_are_not(model: Path, tmp_path: Path) -> None:
    for name in ("LICENSE", "LICENSES/MIT.txt", "NOTICE", "README.md", "generation.json"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text(name)
    for name in ("int4/transformer/w.safetensors", "video.mp4", ".cache/x.json", "quant_manifest.json", "vae/.hidden"):
        (model / name).parent.mkdir(exist_ok=True, parents=True)
        (model / name).write_text("other")
    (model / "vae/fp8").mkdir()
    (model / "vae/fp8/quant_manifest.json").write_text("{}")
    known = ["LICENSE", "LICENSES/MIT.txt", "NOTICE", "README.md", "generation.json"]
    assert copied(model) == sorted([*PARTS, *known])
    out = tmp_path / "out"
    out.mkdir()
    copy_files(files_to_copy(open_source(model), ["transformer"]), out)
    assert (out / "vae/weights.safetensors").read_text() == "vae weights.safetensors"
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()) == copied(model)
    read = [*PARTS, "generation.json", "transformer/config.json", "transformer/weights.safetensors", "vae/weights.bin"]
    assert list(files_of(open_source(model))) == sorted(read)


def dangling(model: Path) -> None:
    (model / "vae/notes").symlink_to("nowhere")


def circle(model: Path) -> None:
    (model / "vae/again").symlink_to(model / "vae")


def pipe(model: Path) -> None:
    os.mkfifo(model / "vae/pipe")


def pickled(model: Path) -> None:
    (model / "vae/weights.safetensors").unlink()


def missing(model: Path) -> None:
    (model / "scheduler/scheduler_config.json").unlink()
    (model / "scheduler").rmdir()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (dangling, "vae/notes: is a link to nowhere, and cannot be read: No such file"),
        (circle, "vae/again: is a link to a folder that it lies in"),
        (pipe, "vae/pipe: is no file that could be copied"),
        (pickled, "vae: has pickled weights only"),
        (missing, "scheduler: missing, and model_index.json names it"),
    ],
)
def test_what_cannot_be_copied_is_named_before_any_work(model: Path, spoil: object, says: str) -> None:
    spoil(model)  # type: ignore[operator]
    with pytest.raises(ModelError, match=says):
        copied(model)


def test_a_part_that_may_not_be_looked_into_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_folder, closed = Path.is_dir, model / "vae" / "config.json"

    def refusing(path: Path) -> bool:
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return is_folder(path)

    source = open_source(model)
    monkeypatch.setattr(Path, "is_dir", refusing)
    says = rf"^{closed}: cannot be read: Permission denied$"
    with pytest.raises(ModelError, match=says):
        files_of(source)
    with pytest.raises(ModelError, match=says):
        files_to_copy(source, ["transformer"])


def test_a_lone_component_is_its_config_and_weights(model: Path) -> None:
    """A log that somebody writes there while it is read is no change of the model."""
    folder = model / "transformer"
    for name in ("train.log", "README.md", ".hidden.safetensors", "w-1.safetensors", "w.safetensors.index.json"):
        (folder / name).touch()
    lone = Source("x", folder, {"transformer": "WanTransformer3DModel"}, is_pipeline=False)
    read = ["config.json", "w-1.safetensors", "w.safetensors.index.json", "weights.safetensors"]
    assert list(files_of(lone)) == read


def test_a_lone_component_has_no_others(model: Path) -> None:
    lone = Source("x", model / "transformer", {"transformer": "WanTransformer3DModel"}, is_pipeline=False)
    with pytest.raises(ModelError, match="is one component, and --full copies the others"):
        files_to_copy(lone, ["transformer"])


@pytest.mark.parametrize("name", ["/abs", "..", "a/b", "a\\b", "", ".x", "quant_manifest.json", "recipe.yaml"])
def test_a_component_is_one_folder_in_the_pipelines(model: Path, name: str) -> None:
    index = json.loads((model / "model_index.json").read_text())
    (model / "model_index.json").write_text(json.dumps({**index, name: ["diffusers", "WanTransformer3DModel"]}))
    with pytest.raises(ModelError, match=r"model_index\.json: names a component .*, which is not a plain folder name"):
        open_source(model)


def test_a_model_in_the_hubs_cache_is_all_of_its_folder_there(tmp_path: Path) -> None:
    cached = tmp_path / "models--a--b"
    source = Source("a/b", cached / "snapshots" / "1a2b", {}, is_pipeline=True, parts=("vae",))
    assert places_of(source) == [source.folder, source.folder / "vae", cached]

"""A config.json that anyone may have written: a model, or one line that names the file and the key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import nn

from quant.errors import ModelError
from quant.pipelines import skeleton as skeletons
from quant.pipelines.skeleton import in_our_words, model_class, skeleton
from quant.pipelines.weights import source_tensors


@pytest.fixture
def component(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the transformer's config.json beside no weights."""
    (tmp_path / "config.json").write_text((model_folder / "transformer" / "config.json").read_text())
    return tmp_path


def edit(component: Path, **changes: Any) -> str:
    path = component / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return str(path)


@pytest.mark.parametrize(
    "name",
    ["logging", "utils", "DiffusionPipeline", "WanPipeline", "OnnxRuntimeModel", "ModelMixin", "__doc__", "", "no.o"],
)
def test_a_class_that_is_no_model(component: Path, name: str) -> None:
    path = edit(component, _class_name=name)
    with pytest.raises(ModelError) as error:
        model_class(component)
    assert str(error.value).startswith(f"{path}: '{name}' is no diffusers class; ")


@pytest.mark.parametrize("name", [5, None, [], {}, True])
def test_a_class_that_is_no_name(component: Path, name: object) -> None:
    path = edit(component, _class_name=name)
    with pytest.raises(ModelError) as error:
        skeleton(component, ())
    assert str(error.value).startswith(f"{path}: {name!r} is no diffusers class; ")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_layers": "x"}, "num_layers must be a whole number, got 'x'"),
        ({"ffn_dim": True}, "ffn_dim must be a whole number, got True"),
        ({"eps": {}}, "eps must be a number, got {}"),
        ({"in_channels": []}, "WanTransformer3DModel cannot be made: in_channels must be a whole number, got []: "),
        ({"num_attention_heads": None}, "WanTransformer3DModel cannot be made: num_attention_heads must be a whole"),
        ({"attention_head_dim": 10**30}, "WanTransformer3DModel cannot be made: "),
        ({"rope_max_seq_len": 10**12}, "asks for 238,419 GiB of tables; is a number of positions wrong?"),
    ],
)
def test_values_of_another_kind(model_folder: Path, component: Path, changes: dict[str, Any], says: str) -> None:
    path = edit(component, **changes)
    with pytest.raises(ModelError) as error:
        skeleton(component, source_tensors(model_folder / "transformer"))
    assert str(error.value).startswith(f"{path}: {says}")


def test_a_switch_annotated_as_a_number_is_a_switch(tmp_path: Path) -> None:
    config = {"num_layers": 1, "num_single_layers": 1, "has_image_proj": True}
    with torch.device("meta"):
        model = diffusers.HunyuanVideoFramepackTransformer3DModel(**config)
    model.save_config(tmp_path)
    assert skeleton(tmp_path, model.state_dict()).state_dict().keys() == model.state_dict().keys()


def test_a_model_is_no_larger_than_its_file(model_folder: Path, component: Path) -> None:
    tensors = source_tensors(model_folder / "transformer")
    assert skeleton(component, tensors).state_dict().keys() == tensors.keys()
    made = 0
    init = nn.Linear.__init__

    def counted(self: nn.Linear, *args: Any, **kwargs: Any) -> None:
        nonlocal made
        made += 1
        init(self, *args, **kwargs)

    path = edit(component, num_layers=10**7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Linear, "__init__", counted)
        with pytest.raises(ModelError) as error:
            skeleton(component, tensors)
    most = f"{4 * len(tensors) + 1000:,}"
    assert str(error.value).startswith(f"{path}: asks for a model of more than {most} ")
    assert 0 < made < 4 * len(tensors) + 1000
    nn.ModuleList(nn.Linear(1, 1) for _ in range(2000))  # nothing counts any more


def test_errors_of_other_libraries_become_one_line() -> None:
    with pytest.raises(ModelError, match=r"^a: b: first$") as error, in_our_words("a", "b"):
        raise ValueError("\nfirst\nsecond")
    assert isinstance(error.value.__cause__, ValueError)
    with pytest.raises(ModelError, match=r"^ours$"), in_our_words("a"):
        raise ModelError("ours")
    with pytest.raises(KeyboardInterrupt), in_our_words("a"):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), in_our_words("a"):
        raise RuntimeError("Error calling __set_name__") from KeyboardInterrupt()
    as_diffusers = OSError("Unable to load weights from checkpoint file")
    as_diffusers.__context__ = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt), in_our_words("a"):
        raise as_diffusers
    with pytest.raises(torch.OutOfMemoryError), in_our_words("a"):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_types_of_json_are_told_apart() -> None:
    is_a = skeletons._is_a
    assert is_a(1, int) and not is_a(True, int) and not is_a(1.5, int) and is_a(1, float)
    assert is_a([1, 2], tuple[int, ...]) and not is_a([1, "a"], tuple[int, ...]) and is_a(None, int | None)
    assert not is_a(None, int) and is_a("a", str | int) and is_a(object(), object)

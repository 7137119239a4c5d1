from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from quant.errors import ModelError
from quant.pipelines.runnable import runnable
from tests.tiny_models import ModelMaker


@pytest.mark.parametrize("class_name", ["WanTransformer3DModel", "CogVideoXTransformer3DModel"])
def test_tables_are_those_that_diffusers_loads(make_model: ModelMaker, tmp_path: Path, class_name: str) -> None:
    whole = make_model(class_name, device="cpu")
    whole.save_pretrained(tmp_path)  # type: ignore[operator]
    expected = type(whole).from_pretrained(tmp_path, torch_dtype=torch.bfloat16)  # type: ignore[attr-defined]
    model = runnable(make_model(class_name), torch.bfloat16)
    assert torch.get_default_dtype() == torch.float32
    assert all(parameter.is_meta for parameter in model.parameters()) and not model.training
    tables = {name: table for name, table in model.named_buffers() if name not in model.state_dict()}
    for name, table in expected.named_buffers():
        if name not in expected.state_dict():
            assert table.dtype == tables[name].dtype and torch.equal(table, tables[name])
    assert tables


def test_another_librarys_model_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^Linear: is no model of diffusers"):
        runnable(nn.Linear(2, 2), torch.float32)

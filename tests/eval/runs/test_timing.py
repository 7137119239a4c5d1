from __future__ import annotations

import gc
from pathlib import Path

import pytest

from quant.eval.inputs.models import find_models, load_pipeline
from quant.eval.runs.timing import pipeline_loaders
from quant.layers.linear import QuantLinear
from tests.eval.runs.conftest import tiny


def test_candidates_of_components_take_the_originals_other_parts_while_it_is_there(models: Path) -> None:
    candidates = {"part": str(models / "part"), "fp8": str(models / "fp8")}
    loaders = pipeline_loaders(find_models(tiny(models, candidates=candidates)), "float32", "cpu", load_pipeline)
    assert list(loaders) == ["original", "part", "fp8"]
    original, part, whole = (load() for load in loaders.values())
    for name in ("text_encoder", "vae"):
        assert getattr(part, name) is getattr(original, name) is not getattr(whole, name)
    assert part.scheduler is not original.scheduler  # it knows at which step it is
    assert any(isinstance(module, QuantLinear) for module in part.transformer.modules())
    assert not any(isinstance(module, QuantLinear) for module in original.transformer.modules())
    kept = part.text_encoder
    del original, part, whole
    gc.collect()
    assert loaders["part"]().text_encoder is not kept  # it would hold what is not there to be weighed


@pytest.mark.parametrize("name", ["part", "fp8"])
def test_a_candidate_loads_alone_where_no_original_was_loaded(models: Path, name: str) -> None:
    found = find_models(tiny(models, candidates={name: str(models / name)}))
    pipeline = pipeline_loaders(found, "float32", "cpu", load_pipeline)[name]()
    assert pipeline.text_encoder is not None

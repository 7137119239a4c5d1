from __future__ import annotations

import shutil
from pathlib import Path

from quant.eval.runs.networks import Networks, load_networks
from tests.eval.runs.conftest import tiny

SHAPES = Path(__file__).parents[3] / "examples" / "shapes"


def test_networks_that_lie_elsewhere_score_alike_and_other_networks_do_not(models: Path, tmp_path: Path) -> None:
    where = SHAPES / "metric_networks"
    shutil.copytree(where / "clip", tmp_path / "elsewhere")
    found = [
        load_networks(
            tiny(models, metrics={"lpips": [], "fvd": fvd, "clip": str(clip)}), models / "model", (5, 16, 16), "cpu"
        )
        for fvd, clip in (
            ([], where / "clip"),
            ([], tmp_path / "elsewhere"),
            ([f"videomae:{where / 'videomae'}"], where / "clip"),
        )
    ]
    assert found[0].key == found[1].key != found[2].key
    assert Networks().key not in {each.key for each in found}
    assert [each["name"] for each in found[0].described] == ["metric_networks/clip"]
    assert found[1].described[0]["conventions"]["source"] == f"{tmp_path.name}/elsewhere"


def test_networks_beside_the_model_serve_where_none_are_named(models: Path) -> None:
    config = tiny(models, metrics={})
    found = load_networks(config, SHAPES / "model", (17, 32, 32), "cpu")
    assert [each["name"] for each in found.described] == [
        "videomae:metric_networks/videomae",
        "metric_networks/clip",
    ]
    assert set(found.loaded) == {"clip"}
    assert [each["metric"] for each in found.missing] == ["lpips"]
    assert load_networks(tiny(models, metrics={"lpips": []}), SHAPES / "model", None, "cpu").missing == ()

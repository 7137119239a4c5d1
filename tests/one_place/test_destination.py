"""A layout that only this file knows is what a checkpoint is exported to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import quant
from quant.api import export
from quant.exporting.base import Destination
from quant.exporting.contents import Contents
from quant.exporting.table import DESTINATIONS
from quant.formats.layer import LayerFormat
from tests.exporting.meaning import converted


class Listing(Destination):
    """Names of layers and the largest code of each."""

    name = "listing"
    summary = "for readers of lists"

    def refuses(self, layer_format: LayerFormat) -> str | None:
        return None if layer_format.scheme.name == "W8A8" else "a list has scheme W8A8"

    def write(self, contents: Contents, work: Path, name: str, max_bytes: int) -> dict[str, str]:
        found = {each: int(layer.tensors["weight"].whole().max()) for each, layer in contents.layers.items()}
        (work / f"{name}.json").write_text(json.dumps(found))
        return {}


def test_a_destination_is_one_object(monkeypatch: pytest.MonkeyPatch, model_folder: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(export, "DESTINATIONS", (*DESTINATIONS, Listing()))
    made = quant.export(converted(model_folder, "W8A8"), tmp_path / "out", to="listing")
    assert len(json.loads((made.folder / "out.json").read_text())) == made.layers == 20
    with pytest.raises(quant.QuantError, match="a list has scheme W8A8"):
        quant.export(converted(model_folder, "FP8_DYNAMIC"), tmp_path / "no", to="listing")

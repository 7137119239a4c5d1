"""`quant eval fetch`, as a user calls it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from quant.cli.eval.fetch import fetch
from quant.errors import QuantError
from quant.eval.weights import fetching


def test_help_names_everything_that_can_be_fetched() -> None:
    text = CliRunner().invoke(fetch, ["--help"]).output
    for name in (*fetching.NETWORKS, fetching.CLIPS, "QUANT_CACHE_DIR", "--list"):
        assert name in text


def test_what_is_there_is_listed_with_its_size_and_left_alone(fetched: Path) -> None:
    found = CliRunner().invoke(fetch, ["i3d"])
    assert found.exit_code == 0
    assert found.output == f"i3d         50.8 MB  {fetched / 'networks' / 'i3d.safetensors'}\n"
    every = CliRunner().invoke(fetch, ["--list"]).output.splitlines()
    assert [line.split()[0] for line in every] == [*fetching.NETWORKS, fetching.CLIPS]
    assert not any("not fetched" in line for line in every)


def test_a_list_fetches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANT_CACHE_DIR", str(tmp_path / "none"))
    found = CliRunner().invoke(fetch, ["--list"])
    assert found.exit_code == 0
    assert found.output.count("not fetched") == 4
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("arguments", [["i4d"], ["--list", "i4d"]])
def test_an_unknown_name(arguments: list[str]) -> None:
    found = CliRunner().invoke(fetch, arguments)
    assert isinstance(found.exception, QuantError)
    assert "no network 'i4d' to fetch" in str(found.exception)

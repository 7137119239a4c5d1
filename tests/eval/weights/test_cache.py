from __future__ import annotations

from pathlib import Path

import pytest
import torch

from quant.errors import QuantError
from quant.eval.weights import cache
from quant.kernels.runtime.cubins import cache_dir

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1.5)}


def test_the_folder_is_the_users_or_the_named_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("QUANT_CACHE_DIR", str(tmp_path / "here"))
    assert cache.network_path("i3d") == tmp_path / "here" / "networks" / "i3d.safetensors"
    monkeypatch.delenv("QUANT_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache.folder() == tmp_path / ".cache" / "quant"


@pytest.mark.parametrize(
    "variables",
    [
        {"QUANT_CACHE_DIR": "/here", "XDG_CACHE_HOME": "/there"},
        {"QUANT_CACHE_DIR": "~/here"},
        {"QUANT_CACHE_DIR": "", "XDG_CACHE_HOME": "/there"},
        {"XDG_CACHE_HOME": ""},
    ],
)
def test_it_is_where_kernels_lie(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name in ("QUANT_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache.folder() == cache_dir()


def test_without_a_home_the_variable_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("QUANT_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", fail)
    with pytest.raises(QuantError, match="no home folder to keep networks in: set QUANT_CACHE_DIR"):
        cache.folder()


def test_the_hash_follows_names_shapes_and_values_and_nothing_else() -> None:
    same = {"b": TENSORS["b"].double(), "a": TENSORS["a"].t().contiguous().t().to(torch.bfloat16)}
    assert cache.tensors_sha256(same) == cache.tensors_sha256(TENSORS)
    others = [
        {**TENSORS, "a": TENSORS["a"].reshape(3, 2)},
        {**TENSORS, "a": TENSORS["a"] + 1e-6},
        {"c": TENSORS["a"], "b": TENSORS["b"]},
        {"a": TENSORS["a"]},
    ]
    assert len({cache.tensors_sha256(tensors) for tensors in [TENSORS, *others]}) == 5


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.safetensors"
    cache.write_tensors(path, TENSORS)
    found = cache.read_tensors(path, cache.tensors_sha256(TENSORS))
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)
    assert [file.name for file in path.parent.iterdir()] == ["x.safetensors"]
    assert path.stat().st_mode & 0o777 == 0o644, "others cannot read a shared cache"


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    cache.write(path, b"old")

    def fail(self: Path, target: Path) -> Path:
        assert self.read_bytes() == b"new", "renamed before it was whole"
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        cache.write(path, b"new")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("x", b"old")]


def test_other_weights_and_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    cache.write_tensors(path, {**TENSORS, "b": torch.tensor(1.25)})
    with pytest.raises(QuantError, match=r"x.safetensors does not hold the published weights: delete it"):
        cache.read_tensors(path, cache.tensors_sha256(TENSORS))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(QuantError, match=r"x.safetensors cannot be read"):
        cache.read_tensors(path, cache.tensors_sha256(TENSORS))

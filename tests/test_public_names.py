"""The public names: lazy, each with one home, and no file under two names."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import quant

ROOT = Path(__file__).parent.parent

# Imports every module of the library, then prints each file that is loaded under several names.
TWO_NAMES = """
import importlib, json, os, pathlib, sys
root = pathlib.Path("quant")
files = [pathlib.Path(d) / f for d, _, fs in os.walk(root, followlinks=True) for f in fs if f.endswith(".py")]
names = [".".join(f.with_suffix("").parts).removesuffix(".__init__") for f in files]
for name in names:
    importlib.import_module(name)
seen = {}
for name, module in list(sys.modules.items()):
    path = getattr(module, "__file__", None)
    if path and name != "__main__" and pathlib.Path(os.path.realpath(path)).is_relative_to(pathlib.Path.cwd()):
        seen.setdefault(os.path.realpath(path), []).append(name)
ours = {path: found for path, found in seen.items() if ".venv" not in path}
print(json.dumps({"modules": sum(ours.values(), []), "twice": [n for n in ours.values() if len(n) > 1]}))
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_names() -> None:
    assert {"QuantError", "Recipe", "Scheme", "calibrate", "inspect", "load", "quantize"} <= set(quant.__all__)
    assert quant.__all__ == sorted(set(quant.__all__))
    assert set(quant.__all__) <= set(dir(quant))


@pytest.mark.parametrize("name", quant.__all__)
def test_a_name_is_the_object_its_home_defines(name: str) -> None:
    found = getattr(quant, name)
    assert found.__name__ == name
    assert found.__module__.startswith("quant.")
    assert getattr(import_module(found.__module__), name) is found


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'quant' has no attribute 'distil'"):
        _ = quant.distil


def test_no_public_function_shares_its_name_with_a_room() -> None:
    rooms = {path.stem for path in (ROOT / "quant").iterdir()}
    assert not rooms & {name for name in quant.__all__ if name.islower()}


def test_import_needs_nothing_heavy() -> None:
    loaded = json.loads(run("import quant, json, sys; print(json.dumps(sorted(sys.modules)))"))
    assert "quant" in loaded
    assert not {"torch", "diffusers", "transformers", "numpy", "yaml", "safetensors"} & set(loaded)


@pytest.mark.parametrize("name", ["QuantError", "Recipe", "Scheme"])
def test_descriptions_need_no_torch(name: str) -> None:
    code = f"import quant, json, sys; quant.{name}; print(json.dumps(sorted(sys.modules)))"
    assert not {"torch", "diffusers", "transformers"} & set(json.loads(run(code)))


def test_every_module_imports_and_no_file_is_loaded_under_two_names() -> None:
    loaded = json.loads(run(TWO_NAMES).splitlines()[-1])
    assert loaded["twice"] == []
    assert {"quant.kernels.ops", "quant.eval.runs.assembling", "quant.checkpoint.shards"} <= set(loaded["modules"])

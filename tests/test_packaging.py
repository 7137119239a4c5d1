"""The wheel holds what the repository holds, and works without it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: Folders at the top and the import names they have.
ROOMS = {
    "quant": "quant",
    "kernels": "quant/kernels",
    "eval": "quant/eval",
    "recipes": "quant/recipes",
    "examples/shapes/world": "quant/eval/shapes",
}

LINKS = ("kernels", "eval", "recipes")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sdist -> wheel, as a release is built."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (found,) = out.glob("*.whl")
    return found


def _sources() -> set[str]:
    """Every file that a user needs, by its place in the package."""
    return {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in ROOMS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not _is_linked(path)
    }


def _is_linked(path: Path) -> bool:
    """Is it reached by a link that another entry of `ROOMS` stands for?"""
    return path.relative_to(ROOT).parts[:2] in (*(("quant", room) for room in LINKS), ("eval", "shapes"))


def test_the_wheel_holds_every_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    assert packed == _sources()


def test_the_links_are_links() -> None:
    assert (ROOT / "eval" / "shapes").readlink().as_posix() == "../examples/shapes/world"
    assert {name: (ROOT / "quant" / name).readlink().as_posix() for name in LINKS} == {
        "kernels": "../kernels",
        "eval": "../eval",
        "recipes": "../recipes",
    }


def test_the_wheel_works_in_a_new_environment(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env")  # without pip: that of this environment installs into it
    binaries = tmp_path / "env" / "bin"
    install = [sys.executable, "-m", "pip", "--python", str(binaries / "python"), "install", "-q", "--no-deps"]
    alone = {**os.environ, "PYTHONPATH": ""}  # where the source of this package would count as installed
    subprocess.run([*install, "--no-index", str(wheel)], env=alone, check=True, capture_output=True)
    # Dependencies come from this environment, whose own editable install is not visible that way.
    surroundings = {**alone, "PYTHONPATH": sysconfig.get_paths()["purelib"]}
    program = (
        "import runpy, sys\n"
        "import quant, quant.diffusers, quant.kernels.ops, quant.eval.demo\n"
        "from quant.recipe_files import shipped_recipes\n"
        "from importlib import resources\n"
        "assert 'env' in quant.__file__, quant.__file__\n"
        "read = lambda room, name: resources.files(room).joinpath(name).read_text()\n"
        "assert 'leading_plots(recorded' in read('quant.eval.report', 'quality_vs_latency.jupytext')\n"
        "assert all(read('quant.eval.report', name) for name in ('report.html', 'players.js'))\n"
        "assert read('quant.eval.drawing', 'report.css')\n"
        "assert 'format_version' in read('quant.eval.results', 'schema.json')\n"
        "from quant.kernels.cpu.encode_rows import unavailable\n"
        "assert unavailable() is None, unavailable()\n"
        "print(len(shipped_recipes()))\n"
        "sys.argv = [sys.argv[1], 'recipes']\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"  # the command that was installed
    )
    ran = subprocess.run(
        [str(binaries / "python"), "-c", program, str(binaries / "quant")],
        cwd=tmp_path,
        env=surroundings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    recipes = len(list((ROOT / "recipes").rglob("*.yaml")))
    counted, *listed = ran.stdout.splitlines()
    assert counted == str(recipes)
    assert len(listed) == 1 + recipes  # below a head


def test_hugging_faces_kernels_package_still_imports_from_the_root() -> None:
    program = "import kernels; print(kernels.__file__); kernels.get_kernel"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "site-packages" in ran.stdout

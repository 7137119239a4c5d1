"""Runs the report's notebook on a run folder, and makes one HTML file of it that asks for nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from quant.errors import QuantError
from quant.eval.report.players import script
from quant.eval.results.recorded import read
from quant.eval.storage.files import write_text
from quant.text import printable

#: A link to notebooks/quality_vs_latency.py: not a module, so nothing imports it and runs its cells.
SOURCE = "quality_vs_latency.jupytext"
_KERNEL = "quant-report"
#: In what `render` writes, so that a file of another program is not replaced.
_MARK = "quant report of a run"
_MISSING = "the report needs the packages of `pip install 'quant-video[report]'`: {} is not installed"


def render(run: Path, *, out: Path | None = None) -> Path:
    """Writes `report.ipynb` and `report.html` of a run folder and returns the HTML file.

    The notebook runs in a kernel of this very Python, whatever kernels are installed, and writes nothing to the
    user's home.

    Args:
        run: the folder that `quant eval run` made.
        out: the folder to write to, made if need be; by default `run`.

    Raises:
        QuantError: no readable results, or a package of the report is not installed.
    """
    recorded = read(run)
    folder = run if out is None else out
    page, executed = folder / "report.html", folder / "report.ipynb"
    for path in (page, executed):
        _check_ours(path, within_run=out is None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise QuantError(f"{folder}: cannot be written: {error.strerror}") from None
    try:
        import jupytext
        import nbformat
    except ImportError as error:
        raise QuantError(_MISSING.format(error.name)) from None

    text = resources.files("quant.eval.report").joinpath(SOURCE).read_text(encoding="utf-8")
    notebook = _executed(jupytext.reads(text, fmt="py:percent"), run)
    notebook.metadata["title"] = printable(f"{recorded.body['conditions']['model']}: quality against latency")
    notebook.metadata["written_by"] = _MARK
    write_text(executed, nbformat.writes(notebook))
    write_text(page, to_html(notebook) + f"<!-- written by {_MARK} -->\n")
    return page


def _check_ours(path: Path, *, within_run: bool) -> None:
    """Raises QuantError for a file that is not of this command; the folder of a run is all this program's."""
    if not within_run and path.exists() and not (path.is_file() and _MARK.encode() in path.read_bytes()):
        raise QuantError(f"{path}: exists and was not written by this command; choose another --out")


def to_html(notebook: Any) -> str:
    """The page of an executed notebook: its words and what its cells show, without the code.

    Its policy lets the script of the players run, by hash, and nothing else, whatever stands in the results.
    """
    from nbconvert import HTMLExporter

    digest = base64.b64encode(hashlib.sha256(script().encode("utf-8")).digest()).decode("ascii")
    notebook.metadata["script_src"] = f"'sha256-{digest}'"
    template = resources.files("quant.eval.report").joinpath("report.html").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as home, _environment(_homes(Path(home))):
        exporter = HTMLExporter(raw_template=template, exclude_input=True, exclude_anchor_links=True)
        body, _ = exporter.from_notebook_node(notebook)
    return str(body)


def _executed(notebook: Any, run: Path) -> Any:
    """The notebook with outputs, its parameter `run` set. An error in a cell is raised as papermill's."""
    import nbformat
    import papermill

    with tempfile.TemporaryDirectory() as home, _environment(_homes(Path(home))):
        _own_kernel(Path(home))
        source, target = Path(home) / "source.ipynb", Path(home) / "executed.ipynb"
        nbformat.write(notebook, source)
        papermill.execute_notebook(
            source,
            target,
            parameters={"run": str(run.resolve())},
            kernel_name=_KERNEL,
            language="python",
            progress_bar=False,
        )
        done = nbformat.read(target, as_version=4)
    # Who opens the notebook has no kernel of that name.
    done.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    done.metadata.pop("papermill", None)
    for cell in done.cells:
        cell.metadata.pop("papermill", None)
    return done


def _homes(home: Path) -> Mapping[str, str]:
    """The variables that keep Jupyter and IPython out of the user's home: they read and write below `home` alone."""
    names = ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR")
    folders = {name: home / name.lower() for name in names}
    for folder in folders.values():
        folder.mkdir()
    return {name: str(folder) for name, folder in folders.items()}


def _own_kernel(home: Path) -> None:
    """A kernel of this Python: an installed one of the usual name may be of another."""
    folder = home / "jupyter_data_dir" / "kernels" / _KERNEL
    folder.mkdir(parents=True)
    options = ["-f", "{connection_file}", "--HistoryManager.enabled=False", "--log-level=ERROR"]
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", *options],
        "display_name": _KERNEL,
        "language": "python",
    }
    (folder / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

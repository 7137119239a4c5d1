"""`quant.export`: a checkpoint becomes files that another program reads, with the same codes and scales."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quant.checkpoint.folder import new_folder
from quant.checkpoint.free import check_free
from quant.checkpoint.manifest import write_manifest
from quant.checkpoint.verifying import Verification, find_manifest
from quant.errors import CheckpointError
from quant.exporting.base import Destination
from quant.exporting.contents import Contents, contents_of
from quant.exporting.table import DESTINATIONS
from quant.files.json_files import read_object
from quant.files.places import check_apart
from quant.pipelines.source import is_weights_file
from quant.text import shown


@dataclass(frozen=True)
class Exported:
    """Files that another program reads.

    Attributes:
        folder: where they are.
        layers: how many layers are codes there.
        kept: how many Linears are not.
        files: names of those that hold tensors.
    """

    folder: Path
    layers: int
    kept: int
    files: tuple[str, ...]


def export(
    checkpoint: str | Path,
    out: str | Path,
    *,
    to: str,
    component: str | None = None,
    config: str | Path | None = None,
    force: bool = False,
    max_shard_bytes: int = 10 * 10**9,
) -> Exported:
    """Writes a component of a quantized checkpoint in another program's layout, bit for bit.

    Args:
        checkpoint: what `quant.convert`, `quant.calibrate` or `quant.save` made, or llm-compressor or ModelOpt did;
            one component of it; or a file of ComfyUI's. It is compared with its SHA-256 manifest, where it has one.
        out: the folder to make. It appears when it is complete.
        to: one of `quant.exporting.table.DESTINATIONS` by name, such as "comfyui".
        component: which one, where there are several, such as "transformer_2".
        config: where the config.json of the model's class is, if not next to its files: a folder, or a hub id.
        force: replace an existing checkpoint of this program; anything else at `out` is never replaced.
        max_shard_bytes: largest file, where the layout may have several.

    Raises:
        QuantError: no such layout; a layer that it cannot hold exactly, by name, with a scheme that it could; a damaged
            checkpoint. What was at `out` is there as before.
    """
    out, source = Path(out), Path(checkpoint)
    destination = _destination(to)
    check_apart(out, [source], CheckpointError)
    check_free(out, force=force)
    if is_weights_file(source) and component is not None:
        raise CheckpointError(f"{source}: is one file, which has no component {shown(component)}")
    folder = source if is_weights_file(source) else _component(source, component)
    verification = Verification(None if folder.is_file() else find_manifest(folder))
    with verification.around():
        contents = contents_of(folder, config)
        _check_layers(contents, destination)
        with new_folder(out, force=force) as work:
            hashes = destination.write(contents, work, out.resolve().name, max_shard_bytes)
            verification.finish()  # before anything appears
            body = {"exported": {"to": destination.name, "from": "/".join(folder.resolve().parts[-2:])}}
            write_manifest(work, body, hashes)
    return Exported(out, len(contents.layers), len(contents.kept), tuple(sorted(hashes)))


def _destination(name: str) -> Destination:
    found = next((each for each in DESTINATIONS if each.name == name), None)
    if found is None:
        raise CheckpointError(f"to: unknown {shown(name)}; known: {', '.join(each.name for each in DESTINATIONS)}")
    return found


def _component(source: Path, component: str | None) -> Path:
    """The folder of the one quantized component, or of the one that is named."""
    if not source.is_dir():
        raise CheckpointError(f"{source}: no such checkpoint folder")
    if (source / "config.json").is_file() and component is None:
        return source
    found = [path.parent for path in sorted(source.glob("*/config.json")) if "quantization_config" in read_object(path)]
    if component is not None:
        found = [path for path in found if path.name == component]
    if len(found) == 1:
        return found[0]
    if not found:
        what = "quantized component" if component is None else f"quantized component {shown(component)}"
        raise CheckpointError(f"{source}: holds no {what} (a folder with a config.json that has 'quantization_config')")
    names = ", ".join(path.name for path in found)
    raise CheckpointError(f"{source}: holds {names}, and one is exported at a time; name it with --component")


def _check_layers(contents: Contents, destination: Destination) -> None:
    refused = {name: destination.refuses(layer.layer_format) for name, layer in contents.layers.items()}
    for name, reason in refused.items():
        if reason is not None:
            label = contents.layers[name].layer_format.label
            count = sum(each is not None for each in refused.values())
            raise CheckpointError(
                f"{contents.where}: layer '{name}' is {label}, which --to {destination.name} cannot hold ({count} of "
                f"{len(refused)} layers): {reason}"
            )

"""`quant kernels tune`: the tiles of this machine's GPU, for the layers of a checkpoint or for sizes given."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch

from quant.api.explain import explain
from quant.api.inspect import inspect
from quant.errors import KernelChoiceError
from quant.files.places import file_to_write
from quant.formats.layer import LayerFormat
from quant.kernels import compiled, tile_tables, tuning
from quant.kernels.matmuls.base import Tile
from quant.kernels.matmuls.table import matmuls
from quant.kernels.runtime import availability, cupy_launch


class Size(NamedTuple):
    """The matmul of a layer.

    Attributes:
        layer_format: of the layer; of it only what the matmul depends on.
        m, n, k: rows of the input, output features, input features.
    """

    layer_format: LayerFormat
    m: int
    n: int
    k: int


def layer_sizes(folder: str | Path, rows: Iterable[int]) -> list[Size]:
    """Every distinct quantized layer of a checkpoint, for each M of `rows`.

    Raises:
        CheckpointError: no checkpoint, or a damaged one.
    """
    layers = [layer for component in inspect(folder).components for layer in component.layers]
    # Factors of the input and branches are computed before the matmul and apart from it.
    found = dict.fromkeys(
        (LayerFormat(layer.layer_format.scheme, sparse=layer.layer_format.sparse), layer.shape)
        for layer in layers
        if layer.layer_format is not None
    )
    return [Size(layer_format, m, shape[0], shape[1]) for layer_format, shape in found for m in rows]


def tune(
    sizes: Iterable[Size],
    out: Path | None = None,
    on_size: Callable[[tuning.Size, dict[Tile, float]], None] = lambda size, times: None,
    left_out: Callable[[Size], None] = lambda size: None,
) -> Path:
    """Measures every tile for every size on the current GPU, and adds the best to a table.

    Args:
        sizes: of matmuls; those that run by no kernel with tiles on this GPU are left out.
        out: the table; by default the user's own, which comes before the one that is shipped.
        on_size: called after each size with the seconds of every tile; sizes that one kernel runs alike come once.
        left_out: called for each size that runs by no kernel with tiles.

    Returns:
        The table's path.

    Raises:
        KernelChoiceError: no GPU here runs the kernels, none of the sizes is of a kernel that has tiles, or the table
            cannot be written or is being written.
    """
    device = torch.device("cuda", torch.cuda.current_device() if torch.cuda.is_available() else 0)
    reason = availability.reason(device)
    if reason is not None:
        raise KernelChoiceError(f"tuning measures on a GPU, and {reason}")
    architecture = cupy_launch.device_architecture(cupy_launch.device_index(device))
    gpu = torch.cuda.get_device_name(device)
    path = out or tile_tables.user_table(architecture.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KernelChoiceError(f"{path}: cannot be written: {error.strerror}") from None
    with file_to_write(path, KernelChoiceError) as write:  # another's entries are not lost meanwhile
        old = _old_entries(path, gpu)  # before the work: what it would be refused for is known now
        wanted: dict[tuning.Size, None] = {}
        for size in sizes:
            chosen = explain(*size, arch=architecture.name)[-1].chosen
            if chosen is not None and chosen.name in matmuls():
                wanted[tuning.Size(chosen.name, *size[1:])] = None
            else:
                left_out(size)
        if not wanted:
            raise KernelChoiceError(f"none of these sizes runs by a kernel with tiles on {architecture.name}")
        found = tuning.tune(wanted, architecture, gpu, tuning.gpu_timer(device), on_size=on_size)
        entries = tuple(sorted({entry[:4]: entry for entry in (*old, *found.entries)}.values()))
        write(json.dumps(tile_tables.to_json(tile_tables.Table(gpu, entries)), indent=1) + "\n")
    tile_tables.load.cache_clear()
    compiled.forget_tiles()
    return path


def _old_entries(path: Path, gpu: str) -> tuple[tile_tables.Entry, ...]:
    """The entries of the table in `path`, to which new ones are added. Raises KernelChoiceError: another GPU's."""
    if not path.is_file():
        return ()
    before = tile_tables.read(path)
    if before.gpu != gpu:
        raise KernelChoiceError(f"{path}: was measured on {before.gpu}, not on {gpu}; give another --out")
    return before.entries

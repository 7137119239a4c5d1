"""Which tile a matmul takes: the one that `quant kernels tune` measured to be best, else the one that a
model of the hardware expects to be fastest.

A table belongs to one architecture: JSON, `kernels/tiles/{architecture}.json` as shipped, or the file of the same name
in the user's cache, which comes first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

from quant.kernels.matmuls import table
from quant.kernels.matmuls.base import Gpu, Matmul, Tile
from quant.kernels.runtime.architectures import Architecture
from quant.kernels.runtime.cubins import cache_dir
from quant.kernels.runtime.errors import KernelError

FORMAT_VERSION = 1


class Choice(NamedTuple):
    """A tile, and where it comes from: "rule", or the GPU it was measured on."""

    tile: Tile
    source: str


class Entry(NamedTuple):
    """A measured best: for `kernel` at this N and K, and every M up to `m` that no smaller entry covers."""

    kernel: str
    m: int
    n: int
    k: int
    tile: Tile


class Table(NamedTuple):
    """The entries of one architecture, and the GPU they were measured on."""

    gpu: str
    entries: tuple[Entry, ...]

    def find(self, kernel: str, m: int, n: int, k: int) -> Tile | None:
        """The entry of the smallest M that is not below `m`; for larger ones that of the largest."""
        same = sorted(entry for entry in self.entries if (entry.kernel, entry.n, entry.k) == (kernel, n, k))
        return next((entry.tile for entry in same if entry.m >= m), same[-1].tile if same else None)


def choose(
    kernel: str,
    m: int,
    n: int,
    k: int,
    architecture: Architecture,
    multiprocessors: int,
    *,
    fine_scales: bool = False,
) -> Choice:
    """The tile for out [m, n] = a [m, k] b [n, k]^T.

    Args:
        kernel: its name.
        m, n, k: sizes.
        architecture: of the GPU.
        multiprocessors: how many it has.
        fine_scales: as of `Matmul.tiles`. Tables are about others: a tile that does not fit is not taken from them.
    """
    matmul = table.matmuls()[kernel]
    possible: Sequence[Tile] = matmul.tiles(architecture, fine_scales=fine_scales)
    for each in load(architecture.name):
        measured = each.find(kernel, m, n, k)
        if measured in possible and measured is not None:
            return Choice(measured, f"measured on {each.gpu}")

    return Choice(min(possible, key=lambda tile: matmul.clocks(tile, m, n, k, architecture, multiprocessors)), "rule")


def gpu(architecture: Architecture, multiprocessors: int) -> Gpu:
    """A GPU for which launches are planned with the tiles of these tables."""

    def tile(kernel: Matmul[Any], m: int, n: int, k: int, fine_scales: bool) -> Tile:
        return choose(kernel.name, m, n, k, architecture, multiprocessors, fine_scales=fine_scales).tile

    return Gpu(multiprocessors, tile)


@cache
def load(architecture: str) -> tuple[Table, ...]:
    """The tables of an architecture, the user's own first; none where nobody made one.

    Raises:
        KernelError: a file is damaged or of another version.
    """
    own = user_table(architecture)
    shipped = files("quant.kernels").joinpath("tiles").joinpath(own.name)
    return tuple(read(path) for path in (own, shipped) if path.is_file())


def read(path: Traversable) -> Table:
    """The table in a file.

    Raises:
        KernelError: it is damaged or of another version.
    """
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except RecursionError:
        raise KernelError(f"{path}: no tile table: nested too deeply; remove it") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"{type(error).__name__}: {str(error)[:200]}"
        raise KernelError(f"{path}: no tile table of version {FORMAT_VERSION} ({why}); remove it") from None


def user_table(architecture: str) -> Path:
    """Where `quant kernels tune` puts what it found on this machine."""
    return cache_dir() / "tiles" / f"{architecture}.json"


def parse(body: Mapping[str, Any]) -> Table:
    """A table from its JSON. Raises ValueError, KeyError or TypeError where it is none."""
    version = body["format_version"]
    if type(version) is not int or version != FORMAT_VERSION:
        raise ValueError(f"format_version is {str(version)[:50]}")
    kernels = table.matmuls()
    entries = [
        Entry(e["kernel"], e["m"], e["n"], e["k"], kernels[e["kernel"]].tile(*e["tile"])) for e in body["entries"]
    ]
    for entry in entries:
        if not all(type(number) is int for number in (*entry[1:4], *entry.tile)):
            raise TypeError(f"sizes are whole numbers, not those of {str(entry)[:100]}")
    if not isinstance(body["gpu"], str):
        raise TypeError("gpu is a name")
    return Table(body["gpu"], tuple(entries))


def to_json(found: Table) -> dict[str, Any]:
    """What `parse` reads."""
    entries = [{**entry._asdict(), "tile": list(entry.tile)} for entry in found.entries]
    return {"format_version": FORMAT_VERSION, "gpu": found.gpu, "entries": entries}

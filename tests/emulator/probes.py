"""Small kernels that call every PTX wrapper, and what to call them with; for the emulator and for real GPUs alike.

One source runs on both. What a GPU answered is kept as golden vectors, so the emulator cannot drift from the hardware.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from quant.kernels.runtime.launch import Build, Launch, TensorMap
from tests.emulator import matrix_inputs as matrices
from tests.emulator import probe_inputs as given


class Box(NamedTuple):
    """A tensor map that a probe needs.

    Attributes:
        tensor: which of the inputs and then the outputs it shows, as rows of bytes.
        rows: of a box.
        left_out: bytes at the end of each row that are no part of the matrix.
        row_bytes: of a box.
        swizzle: of the map.
    """

    tensor: int
    rows: int
    left_out: int = 0
    row_bytes: int = 128
    swizzle: int = 128

    def map(self, tensors: Sequence[torch.Tensor]) -> TensorMap:
        """Of one of these tensors."""
        shown = tensors[self.tensor]
        stride = shown.stride(0) * shown.itemsize
        within = stride - self.left_out
        return TensorMap(shown.data_ptr(), len(shown), within, stride, self.rows, self.row_bytes, self.swizzle)


class Probe(NamedTuple):
    """A kernel whose only argument is its tensor maps, the addresses of its inputs and then of its outputs.

    Attributes:
        name: of the kernel and its file in `probes/`.
        arch: the oldest architecture it runs on.
        grid: blocks.
        block: threads of each, in x.
        shared_bytes: dynamic shared memory.
        inputs: makes the inputs, always the same, on the CPU; contiguous.
        outputs: shape and dtype of each.
        boxes: its tensor maps.
        cluster: blocks of a cluster.
    """

    name: str
    arch: str
    grid: int
    block: int
    shared_bytes: int
    inputs: Callable[[], tuple[torch.Tensor, ...]]
    outputs: tuple[tuple[tuple[int, ...], torch.dtype], ...]
    boxes: tuple[Box, ...] = ()
    cluster: int = 1

    @property
    def build(self) -> Build:
        """What to compile; its source is in `sources`."""
        return Build(self.name, ())

    def empty_outputs(self, device: str = "cpu") -> tuple[torch.Tensor, ...]:
        """Where the kernel writes; all ones in every bit, so that what it leaves out shows."""
        return tuple(
            torch.full((*shape[:-1], shape[-1] * dtype.itemsize), 255, dtype=torch.uint8, device=device).view(dtype)
            for shape, dtype in self.outputs
        )

    def launch(self, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> Launch:
        """The probe on these tensors, which the caller keeps alive."""
        tensors = (*inputs, *outputs)
        maps = tuple((f"map_{i}", box.map(tensors)) for i, box in enumerate(self.boxes))
        addresses = {f"address_{i}": x.data_ptr() for i, x in enumerate(tensors)}
        fields = [*((name, ctypes.c_uint64 * 16) for name, _ in maps), *((name, ctypes.c_void_p) for name in addresses)]
        if maps:  # a TensorMap is aligned to 64 bytes, and what holds one is too
            fields.append(("unused", ctypes.c_uint64 * (-len(addresses) % 8)))
        arguments = type("Arguments", (ctypes.Structure,), {"_fields_": fields})(**addresses)
        return Launch(self.build, self.grid, (self.block, 1), self.shared_bytes, arguments, maps, self.cluster)


def sources() -> Mapping[str, str]:
    """File name to text of every probe and of what they share, without ptx.cuh and the headers of wgmma."""
    folder = Path(__file__).parent / "probes"
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


_WGMMA_SHARED = 5 * 64 * 128 + 8
_WGMMA_BOXES = (Box(0, 64), Box(1, 64))
_WGMMA_SUMS = (given.WGMMAS, 5, 128, 128)
_SUMS = (given.PRODUCTS, given.LANES, 4)
_WIDE_SUMS = (matrices.WIDE_PRODUCTS, 128, 128)


def _wide(
    name: str,
    inputs: Callable[[], tuple[torch.Tensor, ...]],
    shared_bytes: int,
    sums: tuple[torch.dtype, ...],
    *boxes: Box,
) -> Probe:
    """A probe of wgmma whose blocks make one product of one width each."""
    outputs = tuple((_WIDE_SUMS, dtype) for dtype in sums)
    return Probe(name, "sm_90a", matrices.WIDE_PRODUCTS, 128, shared_bytes + 8, inputs, outputs, boxes)


#: Every probe; the outputs of each are those of its last sentence in the kernel's file.
PROBES = (
    Probe("probe_cp_async", "sm_80", 1, 32, 1024, given.cp_async, (((64, 16), torch.uint8),)),
    Probe(
        "probe_ldmatrix", "sm_80", given.SETS, 32, 2048, given.ldmatrix, (((given.SETS, given.LANES, 4), torch.int32),)
    ),
    Probe(
        "probe_mma_s8", "sm_80", given.PRODUCTS, 32, 0, given.mma_s8, (((given.PRODUCTS, given.LANES, 4), torch.int32),)
    ),
    Probe(
        "probe_mma_e4m3",
        "sm_89",
        given.PRODUCTS,
        32,
        0,
        given.mma_e4m3,
        (((given.PRODUCTS, given.LANES, 4), torch.float32),),
    ),
    Probe("probe_e4m3", "sm_89", 32, 128, 0, given.e4m3, (((4096,), torch.int16),)),
    Probe(
        "probe_halves",
        "sm_80",
        512,
        128,
        0,
        given.halves,
        (((65536,), torch.int32), ((65536,), torch.int32), ((65536,), torch.float32)),
    ),
    Probe(
        "probe_language",
        "sm_80",
        given.WARPS,
        32,
        0,
        given.language,
        (
            ((given.WARPS, given.LANES, 10), torch.float32),
            ((given.WARPS, given.LANES, 10), torch.float32),
            ((given.WARPS, given.LANES, 8), torch.int32),
        ),
    ),
    Probe("probe_stmatrix", "sm_90a", given.SETS, 32, 2048, given.stmatrix, (((given.SETS, 512), torch.int32),)),
    Probe(
        "probe_tma",
        "sm_90a",
        len(given.PLACES),
        32,
        1024 + 8,
        given.tma,
        (((len(given.PLACES), 1024), torch.uint8), ((80, 256), torch.uint8)),
        boxes=(Box(0, 8, left_out=56), Box(3, 8, left_out=56)),
    ),
    Probe("probe_mbarrier", "sm_90a", 1, 256, 1024 + 32, given.mbarrier, (((4, 256), torch.int32),)),
    Probe(
        "probe_cluster",
        "sm_90a",
        2 * given.CLUSTERS,
        32,
        2048 + 16,
        given.cluster,
        (((2 * given.CLUSTERS, 2, 2048), torch.uint8), ((2 * given.CLUSTERS,), torch.int32)),
        boxes=(Box(0, 8),),
        cluster=2,
    ),
    Probe(
        "probe_wgmma_s8",
        "sm_90a",
        given.WGMMAS,
        128,
        _WGMMA_SHARED,
        given.wgmma_s8,
        ((_WGMMA_SUMS, torch.int32),),
        boxes=_WGMMA_BOXES,
    ),
    Probe(
        "probe_wgmma_e4m3",
        "sm_90a",
        given.WGMMAS,
        128,
        _WGMMA_SHARED,
        given.wgmma_e4m3,
        ((_WGMMA_SUMS, torch.float32),),
        boxes=_WGMMA_BOXES,
    ),
    Probe(
        "probe_mma_16",
        "sm_80",
        given.PRODUCTS,
        32,
        0,
        matrices.mma_16,
        ((_SUMS, torch.float32), (_SUMS, torch.float32)),
    ),
    Probe("probe_mma_sp_s8", "sm_80", given.PRODUCTS, 32, 0, matrices.mma_sp_s8, ((_SUMS, torch.int32),)),
    Probe("probe_mma_sp_e4m3", "sm_89", given.PRODUCTS, 32, 0, matrices.mma_sp_e4m3, ((_SUMS, torch.float32),)),
    Probe(
        "probe_mma_sp_16",
        "sm_80",
        given.PRODUCTS,
        32,
        0,
        matrices.mma_sp_16,
        (((given.PRODUCTS, given.LANES, 2, 4), torch.float32), ((given.PRODUCTS, given.LANES, 2, 4), torch.float32)),
    ),
    Probe("probe_fma", "sm_80", 128, 128, 0, given.fma, (((given.FMAS,), torch.int32), ((given.FMAS,), torch.int32))),
    Probe("probe_bytes", "sm_80", 32, 128, 0, given.selections, (((4096,), torch.int32), ((4096,), torch.int32))),
    Probe(
        "probe_swizzles",
        "sm_90a",
        len(given.PLACES),
        32,
        4096 + 8,
        given.tma,
        (
            ((len(given.PLACES), 512), torch.uint8),
            ((len(given.PLACES), 2048), torch.uint8),
            ((80, 256), torch.uint8),
            ((80, 256), torch.uint8),
        ),
        boxes=(Box(0, 8, 56, 64, 64), Box(0, 8, 56, 256, 0), Box(4, 8, 56, 64, 64), Box(5, 8, 56, 256, 0)),
    ),
    _wide(
        "probe_wgmma_sp_s8",
        matrices.wgmma_sp_s8,
        256 * 128 + 512 + 64 * 64,
        (torch.int32,),
        Box(0, 64, 0, 64, 64),
        Box(1, 64),
    ),
    _wide(
        "probe_wgmma_sp_e4m3",
        matrices.wgmma_sp_e4m3,
        256 * 128 + 512 + 64 * 64,
        (torch.float32,),
        Box(0, 64, 0, 64, 64),
        Box(1, 64),
    ),
    _wide(
        "probe_wgmma_sp_16",
        matrices.wgmma_sp_16,
        256 * 128 + 512 + 64 * 64,
        (torch.float32, torch.float32),
        Box(0, 64, 0, 64, 64),
        Box(1, 64),
        Box(2, 64, 0, 64, 64),
        Box(3, 64),
    ),
    _wide("probe_wgmma_rs_s8", matrices.wgmma_rs_s8, 512 + 256 * 64, (torch.int32,), Box(1, 64, 0, 64, 64)),
    _wide("probe_wgmma_rs_e4m3", matrices.wgmma_rs_e4m3, 512 + 256 * 64, (torch.float32,), Box(1, 64, 0, 64, 64)),
    _wide(
        "probe_wgmma_rs_16",
        matrices.wgmma_rs_16,
        512 + 2 * 256 * 64,
        (torch.float32, torch.float32),
        Box(1, 64, 0, 64, 64),
        Box(3, 64, 0, 64, 64),
    ),
)

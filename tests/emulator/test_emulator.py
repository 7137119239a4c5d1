"""How the emulator is used: what it compiles, what it refuses, which bytes exist."""

from __future__ import annotations

import ctypes

import pytest
import torch

from quant.kernels.runtime.launch import Build, Launch, TensorMap
from tests.emulator import build
from tests.emulator.arguments import filled
from tests.emulator.emulator import CompileError, EmulatorError, Mutation, Program, compile_kernel, mutated
from tests.emulator.ranges import Range, disjoint, ranges

COPY = """#include "ptx.cuh"
struct Arguments { const s32* in; s32* out; s32 first, stride; };
extern "C" __global__ void copy(const __grid_constant__ Arguments args) {
  const s32 i = blockIdx.x * blockDim.x * blockDim.y + threadIdx.y * blockDim.x + threadIdx.x;
  args.out[i] = args.in[args.first + args.stride * i];
}
"""


class Arguments(ctypes.Structure):
    _fields_ = (
        ("input", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("first", ctypes.c_int32),
        ("stride", ctypes.c_int32),
    )


def copy() -> Program:
    return compile_kernel(Build("copy", ()), "sm_80", sources={"copy.cu": COPY, "ptx.cuh": "#error the device's"})


def launch(arguments: ctypes.Structure) -> Launch:
    return Launch(Build("copy", ()), 2, (4, 2), 0, arguments)


def test_a_grid_of_two_dimensional_blocks() -> None:
    given, out = torch.arange(40, dtype=torch.int32), torch.zeros(16, dtype=torch.int32)
    arguments = Arguments(given.data_ptr(), out.data_ptr(), 3, 2)
    copy().run(launch(arguments), [(given, False), (out, True)])
    assert out.tolist() == list(range(3, 35, 2))


def test_the_gaps_of_a_strided_tensor_do_not_exist() -> None:
    whole, out = torch.arange(64, dtype=torch.int32).reshape(4, 16), torch.zeros(16, dtype=torch.int32)
    columns = whole[:, 2:10]
    within = Arguments(columns.data_ptr(), out.data_ptr(), 0, 0)
    copy().run(launch(within), [(columns, False), (out, True)])
    beyond = Arguments(columns.data_ptr(), out.data_ptr(), 0, 1)
    with pytest.raises(EmulatorError, match=r"reads byte (32|36|40|44|48|52|56|60) of buffer 0") as caught:
        copy().run(launch(beyond), [(columns, False), (out, True)])
    assert caught.value.kind == "out of bounds"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (launch(Range()), "argument has 24 bytes, the launch's 32"),
        (launch(Arguments())._replace(block=(1024, 2)), "a block of 2048 threads"),
        (launch(Arguments())._replace(block=(0, 1)), "a block of 0 threads"),
        (launch(Arguments())._replace(grid=0), "a grid of no blocks"),
        (launch(Arguments())._replace(cluster=0), "clusters of 0 blocks: 1 to 8 are possible"),
        (launch(Arguments())._replace(cluster=9), "clusters of 9 blocks"),
        (launch(Arguments())._replace(grid=3, cluster=2), "a grid of 3 blocks in clusters of 2"),
        (launch(Arguments())._replace(shared_bytes=163 * 1024 + 1), "166913 bytes .*: this architecture has 166912"),
    ],
)
def test_a_launch_that_no_gpu_would_make(wrong: Launch, says: str) -> None:
    with pytest.raises(EmulatorError, match=says) as caught:
        copy().run(wrong, [])
    assert caught.value.kind == "bad argument"


def test_a_compiled_kernel_is_found_again_and_a_changed_one_is_another() -> None:
    first = build.shared_object("copy", {"copy.cu": COPY}, {"ARCH": 800, "SHARED_LIMIT": 1})
    modified = first.stat().st_mtime_ns
    assert build.shared_object("copy", {"copy.cu": COPY}, {"ARCH": 800, "SHARED_LIMIT": 1}) == first
    assert first.stat().st_mtime_ns == modified
    assert build.shared_object("copy", {"copy.cu": COPY + "\n"}, {"ARCH": 800, "SHARED_LIMIT": 1}) != first


def test_an_error_of_the_compiler_is_told() -> None:
    with pytest.raises(CompileError, match=r"copy\.cu:5:.*'inn'|copy\.cu:5:.*‘inn’"):
        compile_kernel(Build("copy", ()), "sm_80", sources={"copy.cu": COPY.replace("args.in[", "args.inn[")})


def test_a_function_of_doubles_is_refused() -> None:
    """NVRTC has an `exp` of floats, C only one of doubles, which rounds elsewhere."""
    source = COPY.replace("args.in[args.first", "exp(0.5f * args.first) + args.in[args.first")
    with pytest.raises(CompileError, match="float-conversion"):
        compile_kernel(Build("copy", ()), "sm_80", sources={"copy.cu": source})


@pytest.mark.parametrize(
    ("wrapper", "older", "has_it"),
    [
        ("e4m3x2(1.0f, 2.0f)", "sm_86", "sm_89"),
        ("mma_e4m3(c, a, 0, 0), 0", "sm_86", "sm_89"),
        ("fence_async(), 0", "sm_89", "sm_90a"),
        ("cluster_rank()", "sm_89", "sm_90a"),
        ("mma_sp_e4m3(c, a, a, 0x44444444), 0", "sm_86", "sm_89"),
        ("wgmma_descriptor_64(a)", "sm_89", "sm_90a"),
    ],
)
def test_what_an_architecture_lacks_does_not_compile(wrapper: str, older: str, has_it: str) -> None:
    text = COPY.replace("args.out[i] = ", f"float c[4] = {{}}; const u32 a[4] = {{}}; args.out[i] = ({wrapper}) + ")
    compile_kernel(Build("copy", ()), has_it, sources={"copy.cu": text})
    with pytest.raises(CompileError, match="not declared"):
        compile_kernel(Build("copy", ()), older, sources={"copy.cu": text})


# ---- Tensor maps ----

LOAD = """#include "ptx.cuh"
struct Arguments { TensorMap map; s32* out; };
extern "C" __global__ void load(const __grid_constant__ Arguments args) {
  SHARED_MEMORY(memory);
  u64* const full = reinterpret_cast<u64*>(memory + 32768);
  mbarrier_init(full, 1);
  mbarrier_init_fence();
  mbarrier_expect_bytes(full, BYTES);
  tma_load(memory + AT, &args.map, full, 0, 0);
  mbarrier_wait(full, 0);
  args.out[0] = memory[AT];
}
"""


class LoadArguments(ctypes.Structure):
    _fields_ = (("map", ctypes.c_uint64 * 16), ("out", ctypes.c_void_p), ("unused", ctypes.c_uint64 * 7))


def load(described: TensorMap, given: torch.Tensor, at: int = 0) -> int:
    """The first byte of a box that is loaded to this place of shared memory."""
    out = torch.zeros(1, dtype=torch.int32)
    built = Build("load", (("BYTES", described.box_rows * described.box_bytes), ("AT", at)))
    arguments = LoadArguments(out=out.data_ptr())
    before = bytes(arguments)
    made = Launch(built, 1, (1, 1), 32776, arguments, (("map", described),))
    compile_kernel(built, "sm_90a", sources={"load.cu": LOAD}).run(made, [(given, False), (out, True)])
    assert bytes(arguments) == before  # a launch can be run again
    return int(out)


def test_a_map_of_narrow_boxes() -> None:
    given = torch.arange(64, dtype=torch.uint8).reshape(4, 16) + 7
    assert load(TensorMap(given.data_ptr(), 4, 16, 16, 4, 16), given) == 7


@pytest.mark.parametrize(
    ("swizzle", "box_bytes", "apart"), [(128, 128, 1024), (64, 64, 512), (0, 64, 128), (0, 256, 128)]
)
def test_a_box_begins_where_the_pattern_of_its_swizzle_does(swizzle: int, box_bytes: int, apart: int) -> None:
    given = torch.full((8, 256), 9, dtype=torch.uint8)
    described = TensorMap(given.data_ptr(), 8, 256, 256, 8, box_bytes, swizzle)
    assert load(described, given, at=3 * apart) == 9
    with pytest.raises(EmulatorError, match=f"writes {apart} bytes at byte {apart // 2} of the 32776") as caught:
        load(described, given, at=apart // 2)
    assert caught.value.kind == "misaligned"


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"stride": 24}, "bad argument", "the stride 24, no multiple of 16"),
        ({"rows": 0}, "bad argument", "0 rows of 128 bytes"),
        ({"box_rows": 257}, "bad argument", "boxes of 257 rows of 128 bytes"),
        ({"box_bytes": 144}, "bad argument", "boxes of 8 rows of 144 bytes and a swizzle of 128"),
        ({"box_bytes": 24}, "bad argument", "boxes of 8 rows of 24 bytes"),
        ({"swizzle": 64}, "bad argument", "boxes of 8 rows of 128 bytes and a swizzle of 64"),
        ({"swizzle": 0, "box_bytes": 272}, "bad argument", "boxes of 8 rows of 272 bytes and a swizzle of 0"),
        ({"swizzle": 32, "box_bytes": 32}, "bad argument", "a tensor map with a swizzle of 32"),
        ({"rows": 9, "box_rows": 16}, "out of bounds", "reads byte 1024 of buffer 0"),
        ({"row_bytes": 256, "stride": 256}, "out of bounds", "reads byte 1024 of buffer 0"),
    ],
)
def test_a_map_that_is_wrong(changes: dict[str, int], kind: str, says: str) -> None:
    given = torch.zeros(8, 128, dtype=torch.uint8)
    with pytest.raises(EmulatorError, match=says) as caught:
        load(TensorMap(given.data_ptr(), 8, 128, 128, 8)._replace(**changes), given)
    assert caught.value.kind == kind


def test_a_map_at_an_odd_address_and_one_in_no_field() -> None:
    given = torch.zeros(8, 128, dtype=torch.uint8)
    with pytest.raises(EmulatorError, match="whose address is no multiple of 16"):
        load(TensorMap(given.data_ptr() + 8, 7, 128, 128, 7), given)
    with pytest.raises(ValueError, match="out: 8 bytes at 128; a map is 128 at a multiple of 64"):
        filled(launch(LoadArguments())._replace(maps=(("out", TensorMap(given.data_ptr(), 8, 128, 128, 8)),)))


def test_without_a_compiler_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    build._compiler.cache_clear()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CompileError, match=r"not installed \(package g\+\+\)"):
        compile_kernel(Build("copy", ()), "sm_80", sources={"copy.cu": COPY})


def test_a_mutation_replaces_one_text() -> None:
    sources = {"copy.cu": COPY}
    changed = mutated(sources, Mutation("copy.cu", "args.first +", "", "begins too early"))
    assert changed["copy.cu"] == COPY.replace("args.first +", "")
    with pytest.raises(ValueError, match="has 0 times, not once"):
        mutated(sources, Mutation("copy.cu", "blockIdx.y", "", "is not there"))
    with pytest.raises(ValueError, match="2 times, not once"):
        mutated(sources, Mutation("copy.cu", "s32 ", "", "is there more than once"))


# ---- Ranges ----


def runs(tensor: torch.Tensor) -> list[tuple[int, int]]:
    """(offset, bytes) of each."""
    return [(run.offset, run.bytes) for run in ranges(tensor, 0)]


def test_a_tensor_is_as_few_runs_as_it_can_be() -> None:
    x = torch.zeros(4, 6, 8, dtype=torch.int16)
    assert runs(x) == [(0, 384)]
    assert runs(x.transpose(0, 2)) == [(0, 384)]
    assert runs(x[1]) == [(0, 96)]
    assert sorted(runs(x[:, 1])) == [(96 * i, 16) for i in range(4)]
    assert sorted(runs(x[:2, :, 3:5])) == [(96 * i + 16 * j, 4) for i in range(2) for j in range(6)]
    assert runs(x[0, 0, 0].expand(5, 5)) == [(0, 2)]
    assert runs(x[:0]) == []


def test_read_only_buffers_may_share_memory_and_writable_ones_may_not() -> None:
    x = torch.zeros(16, dtype=torch.int32)
    both = [*ranges(x[:12], 0), *ranges(x[8:], 1)]
    (run,) = disjoint(both, [False, False])
    assert (run.base, run.bytes) == (x.data_ptr(), 64)
    for writable in ([True, False], [False, True]):
        with pytest.raises(ValueError, match="buffers 0 and 1 overlap"):
            disjoint(both, writable)
    assert len(disjoint([*ranges(x[:8], 0), *ranges(x[8:], 1)], [True, True])) == 2


def test_a_buffer_elsewhere_is_refused() -> None:
    with pytest.raises(ValueError, match="buffer 0 is on meta"):
        copy().run(launch(Arguments()), [(torch.zeros(1, device="meta"), False)])

"""`quant kernels` as typed: the list, explanations for every architecture, and what tuning says and refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

import quant
from quant.api import cost
from quant.cli import main
from quant.cli.kernels import _ARCHITECTURES
from quant.kernels import tile_tables, tuning
from quant.kernels.cost.cases import Case
from quant.kernels.cost.counting import Cost, work
from quant.kernels.cost.model import Counted, clocks
from quant.kernels.matmuls import sm90_gemm
from quant.kernels.matmuls.base import Tile
from quant.kernels.matmuls.mma_gemm import TILES, MmaTile
from quant.kernels.matmuls.sm90_gemm import HopperTile
from quant.kernels.matmuls.table import KERNELS, matmuls
from quant.kernels.runtime import availability, cupy_launch
from quant.kernels.runtime.architectures import ARCHITECTURES
from quant.kernels.runtime.errors import KernelError

SIZE = ("--m", 32_760, "--n", 5120, "--k", 5120)


@pytest.fixture(autouse=True)
def no_gpu_and_no_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same answers on every machine."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("QUANT_CACHE_DIR", str(tmp_path / "cache"))
    tile_tables.load.cache_clear()
    yield
    tile_tables.load.cache_clear()


def pretend(monkeypatch: pytest.MonkeyPatch, name: str, arch: str, fastest: Tile) -> None:
    """A GPU on which this tile takes 1 ms and each other one 3 ms."""

    def timer(device: torch.device) -> Callable[[tuning.Size, Tile], float]:
        return lambda size, tile: 1e-3 if tile == fastest else 3e-3

    monkeypatch.setattr(availability, "reason", lambda device: None)
    monkeypatch.setattr(cupy_launch, "device_index", lambda device: 0)
    monkeypatch.setattr(cupy_launch, "device_architecture", lambda index: ARCHITECTURES[arch])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    monkeypatch.setattr(tuning, "gpu_timer", timer)


@pytest.fixture
def a100(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "NVIDIA A100", "sm_80", TILES[-1])


@pytest.fixture
def h100(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "NVIDIA H100", "sm_90a", sm90_gemm.TILES[-1])


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["kernels", *map(str, arguments)])


def run(*arguments: object) -> str:
    ran = invoke(*arguments)
    assert ran.exit_code == 0, ran.stderr
    return ran.stdout


def refused(*arguments: object) -> str:
    """The last line on stderr; nothing else is said."""
    ran = invoke(*arguments)
    assert (ran.exit_code, ran.stdout) == (2, "")
    return ran.stderr.splitlines()[-1]


def test_the_list_has_every_kernel_and_says_what_is_missing() -> None:
    head, *rows, _, here = run().splitlines()
    assert head.split()[-4:] == list(ARCHITECTURES)
    assert [row.split()[0] for row in rows] == [kernel.name for kernel in KERNELS]
    assert [row.split().count("yes") for row in rows] == [len(kernel.architectures) for kernel in KERNELS]
    assert here == "this machine runs none of them: torch sees no CUDA device"


def test_the_architectures_that_can_be_named_are_those_there_are() -> None:
    assert list(_ARCHITECTURES) == list(ARCHITECTURES)


def columns(line: str) -> tuple[str, str, str]:
    """The name of an option, whether it runs, and what is said of it."""
    found = re.fullmatch(r"  (\S+) +(runs|could run|no) *(.*)", line)
    return (found[1], found[2], found[3]) if found else ("", "", "")


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("scheme", ["w8a8", "FP8_DYNAMIC"])
def test_an_explanation_as_text_and_as_json(scheme: str, arch: str) -> None:
    said = run("explain", *SIZE, "--scheme", scheme, "--arch", arch)
    body = json.loads(run("explain", *SIZE, "--scheme", scheme, "--arch", arch, "--json"))
    assert [each["op"] for each in body] == ["quantize_rows", "scaled_mm"]
    assert [line for line in said.splitlines() if not line.startswith(" ")] == [
        f"{each['op']}: {each['chosen']}" + (f"; {each['note']}" if each["note"] else "") for each in body
    ]
    options = [option for each in body for option in each["options"]]
    lines = [columns(line) for line in said.splitlines() if line.startswith(" ")]
    assert [name for name, *_ in lines] == [option["name"] for option in options]
    for (name, mark, rest), option in zip(lines, options, strict=True):
        assert mark in ("runs", "could run", "no")
        assert (mark == "no") == (option["refusal"] is not None), name
        assert rest == (option["refusal"] or option["tile"])
    # What is said of the options of one op stands below each other, however long the names are.
    for each in said.split("scaled_mm: "):
        rows = [line for line in each.splitlines()[1:] if line.startswith(" ")]
        assert len({line.index(f" {columns(line)[1]}") for line in rows}) == 1


@pytest.mark.parametrize(
    ("scheme", "arch", "name", "marks"),
    [
        ("W8A8", "sm_90a", "sm90_int8_gemm", ["runs", "no", "could run", "no", "could run", "could run"]),
        ("FP8", "sm_90a", "sm90_fp8_gemm", ["no", "runs", "no", "no", "no", "could run"]),
        ("W8A8", "sm_80", "sm80_int8_gemm", ["no", "no", "runs", "no", "could run", "could run"]),
        ("FP8", "sm_89", "sm89_fp8_gemm", ["no", "no", "no", "runs", "no", "could run"]),
        ("FP8", "sm_86", "reference", ["no", "no", "no", "no", "no", "runs"]),
    ],
)
def test_one_runs_and_the_others_could_or_could_not(scheme: str, arch: str, name: str, marks: list[str]) -> None:
    said = run("explain", *SIZE, "--scheme", scheme, "--arch", arch)
    (matmul,) = (part for part in said.split("scaled_mm: ")[1:])
    chosen, *lines = matmul.splitlines()
    assert chosen.partition(";")[0] == name
    assert [columns(line)[1] for line in lines] == marks


@pytest.mark.parametrize(
    ("scheme", "name", "kind"),
    [("W8A8", "sm90_int8_gemm", HopperTile), ("FP8", "sm90_fp8_gemm", HopperTile), ("W8A8", "sm80_int8_gemm", MmaTile)],
)
def test_a_tile_is_in_the_words_of_its_own_kernel(scheme: str, name: str, kind: type[Tile]) -> None:
    lines = [columns(line) for line in run("explain", *SIZE, "--scheme", scheme, "--arch", "sm_90a").splitlines()]
    (said,) = (rest for option, _, rest in lines if option == name)
    here = ARCHITECTURES["sm_90a"]
    tile = tile_tables.choose(name, 32_760, 5120, 5120, here, here.multiprocessors).tile
    assert isinstance(tile, kind)
    assert said.startswith(f"tile {tile}; ")


def test_without_an_architecture_it_is_about_this_machine() -> None:
    assert "scaled_mm: torch._int_mm" in run("explain", *SIZE, "--scheme", "w8a8")


def test_a_kernel_that_can_run_may_be_required() -> None:
    plain = run("explain", *SIZE, "--scheme", "w8a8", "--arch", "sm_80")
    assert run("explain", *SIZE, "--scheme", "w8a8", "--arch", "sm_80", "--kernel", "sm80_int8_gemm") == plain


NAMES = "quantize_rows, reference, sm90_int8_gemm, sm90_fp8_gemm, sm80_int8_gemm, sm89_fp8_gemm, torch._int_mm"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--scheme", "fp8", "--kernel", "sm89_fp8_gemm"), "Error: sm89_fp8_gemm cannot run this: runs on sm_89, "),
        (("--scheme", "w8a8", "--kernel", "sm90_int8_gemm"), "Error: sm90_int8_gemm cannot run this: runs on sm_90, "),
        (("--scheme", "fp8", "--kernel", "sm80_int8_gemm"), "Error: sm80_int8_gemm cannot run this: takes int8, not "),
        (("--scheme", "w8a8", "--kernel", "gemm"), f"Error: no kernel is called 'gemm'; there are {NAMES}"),
        (("--scheme", "w4a4"), "Error: --scheme: unknown scheme 'w4a4'; known: "),
        ((), "Error: Missing option '--scheme'."),
        (("--scheme", "w8a8", "--arch", "sm_75"), "Error: Invalid value for '--arch': 'sm_75' is not one of "),
        (("--scheme", "w8a8", "--m", 0), "Error: Invalid value for '--m': 0 is not in the range"),
    ],
)
def test_what_explain_refuses(options: tuple[object, ...], says: str) -> None:
    assert refused("explain", *SIZE, "--arch", "sm_80", *options).startswith(says)


@pytest.mark.parametrize(("scheme", "quantizes"), [("w8a8", True), ("fp8_dynamic", True), ("unquantized", False)])
def test_a_sparse_weight_is_explained_by_its_own_op(scheme: str, quantizes: bool) -> None:
    found = json.loads(run("explain", *SIZE, "--scheme", scheme, "--sparse", "--arch", "sm_80", "--json"))
    text = json.dumps(found)
    assert "sparse_scaled_mm" in text and "scaled_mm: " not in text
    assert ("quantize_rows" in text) == quantizes


def test_tuning_needs_a_gpu() -> None:
    says = "Error: tuning measures on a GPU, and torch sees no CUDA device"
    assert refused("tune", "--size", 77, 64, 128, "--scheme", "w8a8") == says


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--size", 1, 2, 3),
        ("--scheme", "w8a8"),
        ("folder",),
        ("folder", "--m", 77, "--size", 1, 2, 3, "--scheme", "w8a8"),
        ("folder", "--m", 77, "--scheme", "w8a8"),
        ("folder", "--m", 77, "--sparse"),
        ("--size", 1, 2, 3, "--sparse"),
        ("--m", 77),
    ],
    ids=str,
)
def test_tuning_is_for_a_checkpoint_or_for_sizes(a100: None, options: tuple[object, ...]) -> None:
    assert refused("tune", *options) == "Error: give DIR and --m, or --size and --scheme"


def test_tuning_sizes(a100: None, tmp_path: Path) -> None:
    said = run("tune", "--size", 77, 64, 128, "--size", 2000, 640, 128, "--scheme", "w8a8").splitlines()
    count = len(matmuls()["sm80_int8_gemm"].tiles(ARCHITECTURES["sm_80"]))
    assert said == [
        f"sm80_int8_gemm M 77 N 64 K 128: {TILES[-1]}, 1.000 ms, 0 TOPS; the slowest of {count} takes 3.00x",
        f"sm80_int8_gemm M 2000 N 640 K 128: {TILES[-1]}, 1.000 ms, 0 TOPS; the slowest of {count} takes 3.00x",
        f"wrote {tmp_path / 'cache' / 'tiles' / 'sm_80.json'}",
    ]
    explained = run("explain", "--m", 1500, "--n", 640, "--k", 128, "--scheme", "w8a8", "--arch", "sm_80")
    assert f"tile {TILES[-1]}; 940 blocks (measured on NVIDIA A100)" in explained


@pytest.mark.parametrize(("scheme", "name"), [("w8a8", "sm90_int8_gemm"), ("fp8", "sm90_fp8_gemm")])
def test_tuning_sizes_on_hopper(h100: None, tmp_path: Path, scheme: str, name: str) -> None:
    best, here = sm90_gemm.TILES[-1], ARCHITECTURES["sm_90a"]
    said = run("tune", "--size", 77, 64, 128, "--scheme", scheme).splitlines()
    count = len(matmuls()[name].tiles(here))
    assert said == [
        f"{name} M 77 N 64 K 128: {best}, 1.000 ms, 0 TOPS; the slowest of {count} takes 3.00x",
        f"wrote {tmp_path / 'cache' / 'tiles' / 'sm_90a.json'}",
    ]
    explained = run("explain", "--m", 70, "--n", 64, "--k", 128, "--scheme", scheme, "--arch", "sm_90a")
    blocks = -(-70 // best.m) * -(-64 // best.n)
    assert f"tile {best}; {blocks} blocks (measured on NVIDIA H100)" in explained


@pytest.mark.parametrize(
    ("options", "m", "name"),
    [
        (("--scheme", "w4a16"), 77, "sm90_w4a16_gemm"),
        (("--scheme", "w4a16"), 16, "sm80_w4a16_gemm"),
        (("--scheme", "w4afp8"), 77, "sm90_w4afp8_gemm"),
        (("--scheme", "w8a8", "--sparse"), 16, "sm90_sparse_int8_gemm"),
        (("--scheme", "unquantized", "--sparse"), 77, "sm90_sparse_16bit_gemm"),
    ],
)
def test_tuning_packed_and_sparse_sizes(
    h100: None, tmp_path: Path, options: tuple[str, ...], m: int, name: str
) -> None:
    here = ARCHITECTURES["sm_90a"]
    said = run("tune", "--size", m, 64, 256, *options).splitlines()
    first = matmuls()[name].tiles(here)[0]  # all take the same time here
    count = len(matmuls()[name].tiles(here))
    assert said == [
        f"{name} M {m} N 64 K 256: {first}, 3.000 ms, 0 TOPS; the slowest of {count} takes 1.00x",
        f"wrote {tmp_path / 'cache' / 'tiles' / 'sm_90a.json'}",
    ]
    explained = run("explain", "--m", m, "--n", 64, "--k", 256, *options, "--arch", "sm_90a")
    assert f"tile {first}; " in explained
    assert "(measured on NVIDIA H100)" in explained


def test_a_size_without_a_kernel_is_left_out_by_the_name_of_its_format(a100: None) -> None:
    ran = invoke("tune", "--size", 77, 64, 256, "--scheme", "fp8", "--sparse")
    assert ran.exit_code == 2
    assert ran.stdout == "2:4 FP8 M 77 N 64 K 256: left out, no kernel with tiles runs it here\n"
    assert ran.stderr.splitlines()[-1] == "Error: none of these sizes runs by a kernel with tiles on sm_80"
    assert invoke("tune", "--size", 77, 64, 256, "--scheme", "w8a16").stdout.startswith("W8A16 M 77 N 64 K 256: left")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--size", 8, 64, 100, "--scheme", "w4a16"), "Error: groups of 128 do not fit in_features 100; "),
        (
            ("--size", 8, 64, 102, "--scheme", "w8a8", "--sparse"),
            "Error: 2:4 needs in_features a multiple of 4, got 102",
        ),
        (("--size", 8, 64, 128, "--scheme", "w4a16", "--sparse"), "Error: no op runs 2:4 with W4A16"),
        (("--size", 8, 64, 128, "--scheme", "unquantized"), "Error: UNQUANTIZED leaves a weight that is not sparse"),
    ],
)
def test_a_size_that_does_not_fit_the_scheme(a100: None, options: tuple[object, ...], says: str) -> None:
    assert refused("tune", *options).startswith(says)


def test_the_rate_counts_additions_too(a100: None) -> None:
    assert ", 328 TOPS; " in run("tune", "--size", 1000, 12_800, 12_800, "--scheme", "w8a8")


def test_tuning_a_checkpoint_into_a_file(a100: None, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(77, 320), nn.Linear(320, 16))
    calibrated = quant.quantize(net, "w8a8", forward_loop=lambda module: module(torch.randn(8, 77)))
    quant.save(calibrated, tmp_path / "net")
    out = tmp_path / "tables" / "mine.json"
    said = run("tune", tmp_path / "net", "--m", 77, "--m", 5, "--out", out).splitlines()
    assert said[-1] == f"wrote {out}"
    entries = tile_tables.parse(json.loads(out.read_text())).entries
    assert {entry[1:4] for entry in entries} == {(m, n, k) for m in (5, 77) for n, k in ((320, 77), (16, 320))}
    assert len(said) == len(entries) + 1


def test_a_folder_that_is_no_checkpoint(a100: None, tmp_path: Path) -> None:
    assert "no such checkpoint folder" in refused("tune", tmp_path / "missing", "--m", 77)


def test_a_damaged_table_is_a_line_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANT_CACHE_DIR", str(tmp_path))
    tile_tables.load.cache_clear()
    table = tile_tables.user_table("sm_80")
    table.parent.mkdir(parents=True)
    table.write_text("{")
    size = ["--m", "4", "--n", "64", "--k", "64", "--scheme", "w8a8", "--arch", "sm_80"]
    ran = CliRunner().invoke(main, ["kernels", "explain", *size])
    tile_tables.load.cache_clear()
    assert ran.exit_code == 2
    assert ran.stderr.startswith(f"Error: {table}: no tile table of version 1")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler and a disassembler that find the same in every kernel, at once."""
    made = Counted(100, 0, 500, 1000, 0, 3000)

    def found(cases: Sequence[Case]) -> list[Cost]:
        return [Cost(each, made, clocks(work(each), each.architecture.multiprocessors, made)) for each in cases]

    monkeypatch.setattr(cost, "costs", found)


@pytest.mark.usefixtures("counted")
def test_costs_say_that_nothing_was_measured() -> None:
    first, head, *rows = run("cost", "sm90_fp8_gemm").splitlines()
    assert first == "Counted from machine code, not measured"
    assert " ".join(head.split()) == "kernel arch M N K tile ending loop step limit epilogue clocks of peak"
    assert sum(row.startswith("sm90_fp8_gemm") for row in rows) == 3 * 5  # Wan's three sizes, five endings
    assert any(re.search(r"32760 +5120 +13824 .* bias, gate, residual +100 ", row) for row in rows)


@pytest.mark.usefixtures("counted")
def test_costs_as_json_have_what_is_assumed_with_its_source() -> None:
    body = json.loads(run("cost", "sm80_w4a16_gemm", "--arch", "sm_80", "--size", 100, 64, 256, "--json"))
    assert body["what"] == "Counted from machine code, not measured"
    assert all(each["source"] for each in body["assumed"].values())
    assert {(each["kernel"], each["arch"], each["m"]) for each in body["costs"]} == {("sm80_w4a16_gemm", "sm_80", 100)}
    assert all(each["epilogue_clocks"] == 3000 and 0 < each["share"] < 1 for each in body["costs"])


def test_costs_that_cannot_be_counted() -> None:
    assert "no kernel with tiles is called 'quantize_rows'" in refused("cost", "quantize_rows")
    assert "is the first choice for none of these sizes on sm_90a" in refused(
        "cost", "sm80_int8_gemm", "--arch", "sm_90a"
    )


def test_a_missing_disassembler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(cases: Sequence[Case]) -> list[Cost]:
        raise KernelError("nvdisasm is missing: pip install nvidia-cuda-nvdisasm")

    monkeypatch.setattr(cost, "costs", missing)
    line = refused("cost", "sm90_fp8_gemm", "--size", 64, 64, 64)
    assert line.endswith("nvdisasm is missing: pip install nvidia-cuda-nvdisasm")

"""What is put on the kept comes back as it was; what is another run's, damaged or unfinished does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from quant.algorithms.stages import compress, round_smoothed
from quant.calibration.kept_solutions import KeptSolutions
from quant.calibration.solution import KeptWeight, Solution
from quant.errors import CalibrationError
from quant.formats.tensors import pack_linear
from tests.algorithms.test_stages import group

N, K = 24, 128


@pytest.fixture
def hessian() -> torch.Tensor:
    x = torch.randn(300, K, generator=torch.Generator().manual_seed(0)).double()
    return x.T @ x


@pytest.fixture
def weight() -> torch.Tensor:
    return torch.randn(N, K, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "fields",
    [
        {"scheme": "W4A16", "algorithm": "gptq"},
        {"scheme": "W4A16_ASYM", "algorithm": "gptq"},
        {"scheme": "FP8_DYNAMIC", "algorithm": "gptq"},
        {"scheme": "FP8_BLOCK", "algorithm": "gptq"},
        {"scheme": "W4A16", "algorithm": {"name": "svdquant", "rank": 4}},
        {"scheme": "W8A8", "algorithm": "gptq", "sparsity": {"method": "search"}},
        {"sparsity": {"method": "sparsegpt"}},
    ],
)
def test_a_layer_comes_back_as_the_same_bytes(
    tmp_path: Path, weight: torch.Tensor, hessian: torch.Tensor, fields: dict[str, object]
) -> None:
    of = group(**fields)
    made = compress(weight, of, hessian)
    solution = Solution(notes=made.notes, weight=made.weight, grid=made.grid, low_rank=made.branch)
    kept = KeptSolutions(tmp_path / "kept", "key")
    for found in (kept.store(3, [solution], [of]), KeptSolutions(tmp_path / "kept", "key").load(3, [of])):
        assert found is not None
        (back,) = found
        assert back.notes == made.notes and isinstance(back.weight, KeptWeight)
        assert torch.equal(back.rounded(weight, of).weight, made.weight)
        one = pack_linear(
            made.weight, solution.layer_format(of.layer_format), grid=solution.grid, **solution.around(torch.bfloat16)
        )
        other = pack_linear(
            back.rounded(weight, of).weight,
            back.layer_format(of.layer_format),
            grid=back.grid,
            **back.around(torch.bfloat16),
        )
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name].float(), other[name].float()) for name in one)


def test_a_smoothed_layer_comes_back_as_the_same_codes(
    tmp_path: Path, weight: torch.Tensor, hessian: torch.Tensor
) -> None:
    of = group(scheme="W8A8", algorithm={"name": "smoothquant", "rounding": "gptq"})
    factor = torch.rand(K, generator=torch.Generator().manual_seed(2)) + 0.1
    made = round_smoothed(weight, of, hessian, factor)
    assert made is not None
    solution = Solution(pre_quant_scale=factor, weight=made.weight, grid=made.grid)
    plain = Solution(input_scale=torch.tensor([0.5]), notes={"alpha": 0.3})
    back, other = KeptSolutions(tmp_path / "kept", "key").store(0, [solution, plain], [of, of])
    assert isinstance(back.weight, KeptWeight)
    one = pack_linear(
        made.weight, solution.layer_format(of.layer_format), grid=solution.grid, **solution.around(torch.float32)
    )
    two = pack_linear(
        back.rounded(weight, of).weight,
        back.layer_format(of.layer_format),
        grid=back.grid,
        **back.around(torch.float32),
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert other.weight is None and other.grid is None and other.notes == {"alpha": 0.3}
    assert other.input_scale is not None and other.input_scale.item() == 0.5


def test_what_is_not_this_runs_is_absent(tmp_path: Path) -> None:
    of = group(scheme="W8A8")
    kept = KeptSolutions(tmp_path / "kept", "key")
    assert kept.load(0, [of]) is None
    kept.store(0, [Solution()], [of])
    assert kept.load(0, [of]) is not None
    assert KeptSolutions(tmp_path / "kept", "another").load(0, [of]) is None
    assert kept.load(0, [of, of]) is None
    path = tmp_path / "kept" / "00000.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    path.with_name(f"{path.name}.tmp").write_bytes(b"unfinished")
    assert kept.load(0, [of]) is None and kept.load(1, [of]) is None


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CalibrationError, match="cannot be written, and holds what a stopped run needs"):
        KeptSolutions(tmp_path / "file" / "kept", "key").store(0, [Solution()], [group(scheme="W8A8")])
